import { graphql } from "@signedapproval/graph/generated";
import { Button } from "@signedapproval/ui/Button";
import { EmptyState } from "@signedapproval/ui/EmptyState";
import { Field } from "@signedapproval/ui/Field";
import { Note } from "@signedapproval/ui/Note";
import { Time } from "@signedapproval/ui/Time";
import { Visible } from "@signedapproval/ui/Visible";
import { useNavigate } from "@tanstack/react-router";
import { useQuery } from "urql";
import { Answer } from "../Answer.tsx";
import { PageLink } from "../PageLink.tsx";
import { Pages } from "../Pages.tsx";
import { pageSize } from "../pages.ts";
import { useHost } from "../surroundings.ts";
import { type MemberWorkspace, useWorkspaces } from "../workspaces.ts";
import { ChangeProtection } from "./ChangeProtection.tsx";
import { ProposalCard } from "./ProposalCard.tsx";

const ProtectionQuery = graphql(`
  query Protection($workspace: String!) {
    workspace(key: $workspace) {
      id
      protection {
        version
        quorum
        since
        people {
          id
          name
        }
      }
    }
  }
`);

const ProposalsQuery = graphql(`
  query Proposals($workspace: String!, $first: Int, $after: String) {
    workspace(key: $workspace) {
      id
      proposals(first: $first, after: $after) {
        edges {
          node {
            id
            ...ProposalCard_proposal
          }
        }
        pageInfo {
          hasNextPage
          endCursor
        }
      }
    }
  }
`);

const ProposalQuery = graphql(`
  query Proposal($workspace: String!, $key: String!) {
    workspace(key: $workspace) {
      id
      proposal(key: $key) {
        id
        ...ProposalCard_proposal
      }
    }
  }
`);

/** By whose signatures a workspace's rules change, and the changes that wait for them. */
export function ProtectionPage({ workspace, proposal }: { workspace?: string; proposal?: string }) {
  const navigate = useNavigate();
  const all = useWorkspaces();
  const chosen = all.find((node) => node.slug === workspace) ?? all[0];
  const { standsAlone } = useHost();
  const to = (search: { workspace?: string }) => void navigate({ to: "/settings/protection", search });
  return (
    <>
      <h1>Protection</h1>
      <p className="sa-subtle">
        A protected workspace changes its rules, its members' passkeys and who protects it by signatures alone: no
        administrator, no API token and no server can do it for those who sign. Your own passkeys stay yours.
      </p>
      {!standsAlone ? (
        <EmptyState
          title="Not inside Bitbucket"
          action={
            <PageLink path="/settings/protection" look="primary">
              Protection
            </PageLink>
          }
        >
          Proposals are signed on a page of its own, where your browser can use your passkey.
        </EmptyState>
      ) : !chosen ? (
        <EmptyState title="No workspace">You are a member of no workspace here.</EmptyState>
      ) : (
        <>
          {all.length > 1 && (
            <Field label="Workspace">
              {(control) => (
                <select {...control} value={chosen.slug} onChange={(event) => to({ workspace: event.target.value })}>
                  {all.map((node) => (
                    <option key={node.id} value={node.slug}>
                      {node.name}
                    </option>
                  ))}
                </select>
              )}
            </Field>
          )}
          {proposal ? (
            <One workspace={chosen} proposal={proposal} onAll={() => to({ workspace: chosen.slug })} />
          ) : (
            <State key={chosen.id} workspace={chosen} />
          )}
        </>
      )}
    </>
  );
}

function One({ workspace, proposal, onAll }: { workspace: MemberWorkspace; proposal: string; onAll: () => void }) {
  const [result, ask] = useQuery({ query: ProposalQuery, variables: { workspace: workspace.slug, key: proposal } });
  return (
    <>
      <Answer result={result} ask={ask} doing="read the proposal">
        {({ workspace: node }) =>
          node?.proposal ? (
            <ProposalCard workspace={workspace.uuid} proposal={node.proposal} />
          ) : (
            <EmptyState title="No such proposal">It does not exist, or you may not see it.</EmptyState>
          )
        }
      </Answer>
      <p>
        <Button appearance="subtle" onClick={onAll}>
          All proposals
        </Button>
      </p>
    </>
  );
}

function State({ workspace }: { workspace: MemberWorkspace }) {
  const [result, ask] = useQuery({ query: ProtectionQuery, variables: { workspace: workspace.slug } });
  return (
    <>
      <Answer result={result} ask={ask} doing="read the protection">
        {({ workspace: node }) => {
          const protection = node?.protection;
          return (
            <>
              {protection ? (
                <Note tone="success" title="Protected">
                  A change of rules needs the signatures of {protection.quorum} of{" "}
                  <Visible text={protection.people.map((person) => person.name).join(", ")} />. Last changed{" "}
                  <Time value={protection.since} />.
                </Note>
              ) : (
                <Note tone="warning" title="Not protected">
                  Every administrator can change the rules alone. The log shows each change.
                </Note>
              )}
              {workspace.viewerIsAdmin && <ChangeProtection workspace={workspace} protection={protection ?? null} />}
            </>
          );
        }}
      </Answer>
      <h2>Proposals</h2>
      <Pages
        query={ProposalsQuery}
        variables={{ workspace: workspace.slug, first: pageSize }}
        doing="read the proposals"
        list={({ workspace: node }) => node?.proposals}
        empty={() => (
          <EmptyState title="No proposals">
            {workspace.viewerIsAdmin
              ? "Nothing waits for signatures, and nothing ever did."
              : "Nothing was proposed that you made or are asked to sign."}
          </EmptyState>
        )}
      >
        {(edges) =>
          edges.map((edge) => <ProposalCard key={edge.node.id} workspace={workspace.uuid} proposal={edge.node} />)
        }
      </Pages>
    </>
  );
}
