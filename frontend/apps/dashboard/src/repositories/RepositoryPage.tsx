import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import { RuleInWords } from "@signedapproval/sign/RuleInWords";
import { EmptyState } from "@signedapproval/ui/EmptyState";
import { Lozenge } from "@signedapproval/ui/Lozenge";
import { Note } from "@signedapproval/ui/Note";
import { Visible } from "@signedapproval/ui/Visible";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { useQuery } from "urql";
import { Answer } from "../Answer.tsx";
import { LeftToDo } from "../LeftToDo.tsx";
import { draftOf, newRule } from "./draft.ts";
import { Enforcement } from "./Enforcement.tsx";
import { PolicyVersions } from "./PolicyVersions.tsx";
import { RulesEditor } from "./RulesEditor.tsx";
import { StopGating } from "./StopGating.tsx";
import { Violations } from "./Violations.tsx";

const RepositoryQuery = graphql(`
  query Repository($workspace: String!, $slug: String!) {
    workspace(key: $workspace) {
      id
      slug
      repository(key: $slug) {
        id
        ...RepositorySettings_repository
      }
    }
  }
`);

const repositoryFragment = graphql(`
  fragment RepositorySettings_repository on Repository {
    id
    uuid
    name
    fullName
    state
    attention
    viewerCanConfigure
    policy {
      id
      version
      rules {
        name
        branches
        authorMayApprove
        expiresAfterSeconds
        requirements {
          name
          quorum
          everyone
          approvers {
            accountId
            name
          }
        }
        override {
          quorum
          everyone
          approvers {
            accountId
            name
          }
        }
        autoMerge {
          strategy
          closeSourceBranch
          messageTemplate
        }
        keys {
          countersigned
          models {
            aaguid
            description
          }
        }
        cosignatures
        ...RuleInWords_rule
      }
    }
  }
`);

// A repository that is not gated is known to Bitbucket alone.
const CandidateQuery = graphql(`
  query Candidate($workspace: String!, $slug: String!) {
    workspace(key: $workspace) {
      id
      bitbucketRepository(key: $slug) {
        uuid
        name
        fullName
      }
    }
  }
`);

export interface RepositoryPageProps {
  /** The workspace's slug. */
  workspace: string;
  /** The repository's slug, or its Bitbucket UUID without braces. */
  slug: string;
  /** What the repository is called where it cannot be read. */
  name: string;
}

/** The rules of one repository: in force, or those that it is to begin with. */
export function RepositoryPage({ workspace, slug, name }: RepositoryPageProps) {
  const [result, ask] = useQuery({ query: RepositoryQuery, variables: { workspace, slug } });
  const [left, setLeft] = useState<readonly string[] | null>(null);
  return (
    <>
      <p>
        <Link to="/workspaces/$workspace/repositories" params={{ workspace }}>
          Repositories
        </Link>
      </p>
      {left && <LeftToDo title={`${name} is no longer gated`} sentences={left} />}
      <Answer result={result} ask={ask} doing="read the repository">
        {(data) => {
          if (!data.workspace) {
            return (
              <>
                <h1>{name}</h1>
                <EmptyState title="Not found">
                  This workspace is not connected, or you are not a member of it.
                </EmptyState>
              </>
            );
          }
          if (data.workspace.repository) {
            return (
              <RepositorySettings
                workspaceId={data.workspace.id}
                workspace={workspace}
                repository={data.workspace.repository}
                onStopped={setLeft}
              />
            );
          }
          return <Candidate workspaceId={data.workspace.id} workspace={workspace} slug={slug} name={name} />;
        }}
      </Answer>
    </>
  );
}

function RepositorySettings({
  workspaceId,
  workspace,
  repository: masked,
  onStopped,
}: {
  workspaceId: string;
  workspace: string;
  repository: FragmentType<typeof repositoryFragment>;
  onStopped: (leftToDo: readonly string[]) => void;
}) {
  const repository = readFragment(repositoryFragment, masked);
  const { policy } = repository;
  return (
    <>
      <header className="sa-row">
        <h1>
          <Visible text={repository.name} />
        </h1>
        <span className="sa-subtle">
          <Visible text={repository.fullName} />
        </span>
        {repository.state === "ACTIVE" ? (
          <Lozenge tone="success">Gated</Lozenge>
        ) : (
          <Lozenge tone="warning">Needs attention</Lozenge>
        )}
      </header>
      {repository.attention && (
        <Note tone="warning" title="This repository needs attention">
          {repository.attention}
        </Note>
      )}
      {repository.viewerCanConfigure ? (
        <RulesEditor
          // Other rules in force are another form.
          key={policy.id}
          workspaceId={workspaceId}
          workspace={workspace}
          repositoryUuid={repository.uuid}
          saved={policy.rules.map(draftOf)}
          version={policy.version}
        />
      ) : (
        <section className="card" aria-label="Rules">
          <Note tone="information">Administrators of the repository or the workspace change its rules.</Note>
          {policy.rules.map((rule) => (
            <RuleInWords key={rule.name} rule={rule} />
          ))}
        </section>
      )}
      <Enforcement repositoryId={repository.id} />
      <Violations repositoryId={repository.id} />
      <PolicyVersions repositoryId={repository.id} current={policy.version} />
      {repository.viewerCanConfigure && (
        <StopGating repositoryId={repository.id} name={repository.name} onStopped={onStopped} />
      )}
    </>
  );
}

function Candidate({ workspaceId, workspace, slug, name }: RepositoryPageProps & { workspaceId: string }) {
  const [result, ask] = useQuery({ query: CandidateQuery, variables: { workspace, slug } });
  return (
    <Answer result={result} ask={ask} doing="look up the repository on Bitbucket">
      {(data) => {
        const found = data.workspace?.bitbucketRepository;
        if (!found) {
          return (
            <>
              <h1>
                <Visible text={name} />
              </h1>
              <EmptyState
                title="Not found"
                action={
                  <Link to="/workspaces/$workspace/repositories" params={{ workspace }}>
                    Look for it in the list
                  </Link>
                }
              >
                There is no such repository in the workspace, or you may not gate it.
              </EmptyState>
            </>
          );
        }
        return (
          <>
            <header className="sa-row">
              <h1>
                <Visible text={found.name} />
              </h1>
              <span className="sa-subtle">
                <Visible text={found.fullName} />
              </span>
              <Lozenge>Not gated</Lozenge>
            </header>
            <Note tone="information">
              Saving the rules gates the repository and asks for approvals of its open pull requests.
            </Note>
            <RulesEditor
              workspaceId={workspaceId}
              workspace={workspace}
              repositoryUuid={found.uuid}
              saved={[newRule("Default", "main")]}
              version={0}
            />
          </>
        );
      }}
    </Answer>
  );
}
