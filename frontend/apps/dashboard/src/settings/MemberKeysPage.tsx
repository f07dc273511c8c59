import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import { Refusal } from "@signedapproval/sign/refusal";
import { adviceFor } from "@signedapproval/sign/refusals";
import { Button } from "@signedapproval/ui/Button";
import { Dialog } from "@signedapproval/ui/Dialog";
import { EmptyState } from "@signedapproval/ui/EmptyState";
import { Field } from "@signedapproval/ui/Field";
import { Note } from "@signedapproval/ui/Note";
import { Table } from "@signedapproval/ui/Table";
import { Time } from "@signedapproval/ui/Time";
import { Visible } from "@signedapproval/ui/Visible";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { useClient, useQuery } from "urql";
import { Answer } from "../Answer.tsx";
import { PageLink } from "../PageLink.tsx";
import { Pages } from "../Pages.tsx";
import { pageSize } from "../pages.ts";
import { useHost } from "../surroundings.ts";
import { useViewer } from "../viewer.ts";
import { useWorkspaces } from "../workspaces.ts";
import { actOnKey, type PressedKey } from "./actonkey.ts";
import { FallenVerdicts } from "./FallenVerdicts.tsx";
import { KeyActs, KeyKind, KeyState } from "./KeyWords.tsx";
import { ProposalMade } from "./ProposalMade.tsx";
import { RevokeKey } from "./RevokeKey.tsx";

const WantingKeysQuery = graphql(`
  query WantingKeys($workspace: String!) {
    workspace(key: $workspace) {
      id
      keyHolders(wanting: true, first: 50) {
        edges {
          node {
            ...KeyHolder_holder
          }
        }
      }
    }
  }
`);

const MemberKeysQuery = graphql(`
  query MemberKeys($workspace: String!, $first: Int, $after: String) {
    workspace(key: $workspace) {
      id
      keyHolders(first: $first, after: $after) {
        edges {
          node {
            ...KeyHolder_holder
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

const holderFragment = graphql(`
  fragment KeyHolder_holder on KeyHolder {
    person {
      id
      name
    }
    keys {
      id
      canCountersign
      ...MemberKeyRow_key
    }
  }
`);

const keyFragment = graphql(`
  fragment MemberKeyRow_key on MemberKey {
    id
    name
    document
    state
    model
    provedModel {
      aaguid
      description
    }
    synced
    createdAt
    identifiedBy
    revokedAt
    compromisedSince
    canCountersign
    canRevoke
    canReport
    fall {
      ...KeyFall_fall
    }
    acts {
      ...KeyActs_act
      compromisedSince
    }
  }
`);

/** The keys of a workspace's members, for its administrators. */
export function MemberKeysPage({ workspace }: { workspace: string | undefined }) {
  const navigate = useNavigate();
  const administered = useWorkspaces().filter((node) => node.viewerIsAdmin);
  const chosen = administered.find((node) => node.slug === workspace) ?? administered[0];
  const { standsAlone } = useHost();
  return (
    <>
      <h1>Keys of members</h1>
      <p className="sa-subtle">
        Every key under a member's name. One that rests on the Bitbucket log-in alone is as good as that log-in: speak
        with its owner, then countersign it with a passkey of yours. What you sign holds in this workspace.
      </p>
      {!standsAlone ? (
        <EmptyState
          title="Not inside Bitbucket"
          action={
            <PageLink path="/settings/keys" look="primary">
              Keys of members
            </PageLink>
          }
        >
          Keys are countersigned on a page of its own, where your browser can use your passkey.
        </EmptyState>
      ) : !chosen ? (
        <EmptyState title="No workspace">
          The keys of its members are shown to the administrators of a workspace. You administer none here.
        </EmptyState>
      ) : (
        <>
          {administered.length > 1 && (
            <Field label="Workspace">
              {(control) => (
                <select
                  {...control}
                  value={chosen.slug}
                  onChange={(event) =>
                    void navigate({ to: "/settings/keys", search: { workspace: event.target.value } })
                  }
                >
                  {administered.map((node) => (
                    <option key={node.id} value={node.slug}>
                      {node.name}
                    </option>
                  ))}
                </select>
              )}
            </Field>
          )}
          <WorkspaceKeys key={chosen.id} slug={chosen.slug} workspace={chosen.uuid} />
        </>
      )}
    </>
  );
}

/** Which workspace: its slug, and its UUID, which is signed. */
interface Where {
  slug: string;
  workspace: string;
}

function WorkspaceKeys({ slug, workspace }: Where) {
  const [wanting, ask] = useQuery({ query: WantingKeysQuery, variables: { workspace: slug } });
  return (
    <>
      <h2>To be countersigned</h2>
      <Answer result={wanting} ask={ask} doing="read which keys are to be countersigned">
        {({ workspace: node }) => {
          const holders = (node?.keyHolders?.edges ?? [])
            .map((edge) => edge.node)
            .filter((holder) => readFragment(holderFragment, holder).keys.some((key) => key.canCountersign));
          return holders.length > 0 ? (
            <Holders workspace={workspace} caption="Keys to be countersigned" holders={holders} onlyWanting />
          ) : (
            <EmptyState title="Nothing to countersign">No key waits for somebody to vouch for it.</EmptyState>
          );
        }}
      </Answer>
      <h2>All keys</h2>
      <Pages
        query={MemberKeysQuery}
        variables={{ workspace: slug, first: pageSize }}
        doing="read the keys of members"
        list={({ workspace: node }) => node?.keyHolders}
        empty={() => <EmptyState title="No keys yet">Nobody here has made a passkey.</EmptyState>}
      >
        {(edges) => (
          <Holders workspace={workspace} caption="Keys of members" holders={edges.map((edge) => edge.node)} />
        )}
      </Pages>
      <FallenVerdicts workspace={workspace} />
    </>
  );
}

interface HoldersProps {
  workspace: string;
  caption: string;
  holders: readonly FragmentType<typeof holderFragment>[];
  onlyWanting?: boolean;
}

function Holders({ workspace, caption, holders, onlyWanting = false }: HoldersProps) {
  return (
    <Table caption={caption} columns={["Member", "Key", "Known by", "Kind", "Made", ""]}>
      {holders.map((masked) => {
        const holder = readFragment(holderFragment, masked);
        const keys = holder.keys.filter((key) => !onlyWanting || key.canCountersign);
        if (keys.length === 0) return null;
        return (
          <tbody key={holder.person.id}>
            {keys.map((key, index) => (
              <tr key={key.id}>
                {index === 0 && (
                  <th scope="rowgroup" rowSpan={keys.length}>
                    <Visible text={holder.person.name} />
                  </th>
                )}
                <KeyCells masked={key} workspace={workspace} member={holder.person.name} />
              </tr>
            ))}
          </tbody>
        );
      })}
    </Table>
  );
}

interface KeyCellsProps {
  masked: FragmentType<typeof keyFragment>;
  workspace: string;
  member: string;
}

function KeyCells({ masked, workspace, member }: KeyCellsProps) {
  const key = readFragment(keyFragment, masked);
  const pressed = { id: key.id, document: key.document, workspace };
  const [open, setOpen] = useState<"countersign" | "revoke" | null>(null);
  const close = () => setOpen(null);
  return (
    <>
      <td>
        <Visible text={key.name} /> <KeyState state={key.state} />
      </td>
      <td>
        <KeyActs
          identifiedBy={key.identifiedBy}
          acts={key.acts}
          // What was said for the workspace stands with the act; this is its owner's word.
          compromisedSince={
            key.acts.some((act) => act.compromisedSince === key.compromisedSince) ? null : key.compromisedSince
          }
          falls={key.fall ? [key.fall] : []}
        />
      </td>
      <td>
        <KeyKind synced={key.synced} model={key.model} proved={key.provedModel} />
      </td>
      <td data-label="Made">
        <Time value={key.createdAt} />
      </td>
      <td>
        <span className="sa-row">
          {key.canCountersign && (
            <Button onClick={() => setOpen("countersign")}>
              Countersign{" "}
              <span className="sa-hidden">
                {key.name} of {member}
              </span>
            </Button>
          )}
          {key.canRevoke && (
            <Button appearance="subtle" onClick={() => setOpen("revoke")}>
              Revoke{" "}
              <span className="sa-hidden">
                {key.name} of {member}
              </span>
            </Button>
          )}
          {key.canReport && (
            <Button appearance="subtle" onClick={() => setOpen("revoke")}>
              Report as stolen{" "}
              <span className="sa-hidden">
                {key.name} of {member}
              </span>
            </Button>
          )}
        </span>
        {open === "countersign" && <Countersign pressed={pressed} name={key.name} member={member} onClose={close} />}
        {open === "revoke" && (
          <RevokeKey pressed={pressed} name={`${key.name} of ${member}`} revoked={key.canReport} onClose={close} />
        )}
      </td>
    </>
  );
}

interface CountersignProps {
  pressed: PressedKey;
  name: string;
  member: string;
  onClose: () => void;
}

function Countersign({ pressed, name, member, onClose }: CountersignProps) {
  const client = useClient();
  const signer = useViewer();
  const [busy, setBusy] = useState(false);
  const [refusal, setRefusal] = useState<Refusal | null>(null);
  const [proposal, setProposal] = useState<string | null>(null);
  const confirm = async () => {
    setBusy(true);
    setRefusal(null);
    try {
      const made = await actOnKey(client, signer, { key: pressed, action: "COUNTERSIGN" });
      if (made) setProposal(made);
      else onClose();
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      setRefusal(error);
    } finally {
      setBusy(false);
    }
  };
  const advice = refusal && adviceFor(refusal);
  if (proposal) return <ProposalMade proposal={proposal} onClose={onClose} />;
  return (
    <Dialog
      title={`Countersign ${name}?`}
      onClose={onClose}
      actions={
        <>
          <Button onClick={onClose}>Not now</Button>
          <Button appearance="primary" busy={busy} onClick={() => void confirm()}>
            Countersign with my passkey
          </Button>
        </>
      }
    >
      <p>
        You sign that this key is {member}'s. Ask them first, by voice or face to face, whether they have just made it:
        who has taken over their Bitbucket account would ask you the same.
      </p>
      {advice && (
        <Note tone="danger" title={advice.title} urgent>
          {advice.text}
        </Note>
      )}
    </Dialog>
  );
}
