import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import { EmptyState } from "@signedapproval/ui/EmptyState";
import { Field } from "@signedapproval/ui/Field";
import { Lozenge } from "@signedapproval/ui/Lozenge";
import { Note } from "@signedapproval/ui/Note";
import { Table } from "@signedapproval/ui/Table";
import { Time } from "@signedapproval/ui/Time";
import { Visible } from "@signedapproval/ui/Visible";
import { Link } from "@tanstack/react-router";
import { useDeferredValue, useState } from "react";
import { Pages } from "../Pages.tsx";
import { leastEnforced } from "../states.ts";
import { useWorkspaces } from "../workspaces.ts";

const RepositoriesQuery = graphql(`
  query Repositories($workspace: String!, $after: String) {
    workspace(key: $workspace) {
      id
      connection {
        state
      }
      repositories(first: 20, after: $after) {
        edges {
          cursor
          node {
            id
            ...RepositoryRow_repository
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

const rowFragment = graphql(`
  fragment RepositoryRow_repository on Repository {
    id
    slug
    name
    fullName
    state
    attention
    viewerCanConfigure
    reconcileSeconds
    reconciledAt
    enforcement {
      state
    }
    policy {
      id
      version
      rules {
        name
        branches
      }
    }
  }
`);

/** The gated repositories of a workspace and, for its administrators, those that could be. */
export function RepositoriesPage({ workspace }: { workspace: string }) {
  const here = useWorkspaces().find(({ slug, uuid }) => slug === workspace || uuid === workspace);
  return (
    <>
      <h1>Repositories</h1>
      <section className="sa-stack" aria-labelledby="gated">
        <h2 id="gated">Gated</h2>
        <Pages
          key={workspace}
          query={RepositoriesQuery}
          variables={{ workspace }}
          doing="read the repositories"
          list={(data) => data.workspace?.repositories}
          empty={(data) =>
            data.workspace ? (
              <EmptyState title="No repository is gated yet">
                {here?.viewerIsAdmin
                  ? "Choose one below and say who must approve."
                  : "An administrator of the workspace chooses repositories."}
              </EmptyState>
            ) : (
              <EmptyState title="Not found">This workspace is not connected, or you are not a member of it.</EmptyState>
            )
          }
        >
          {(edges) => (
            <Table
              caption="Gated repositories"
              columns={["Repository", "State", "Enforcement", "Rules", "Last walk", ""]}
            >
              <tbody>
                {edges.map(({ node }) => (
                  <RepositoryRow key={node.id} workspace={workspace} repository={node} />
                ))}
              </tbody>
            </Table>
          )}
        </Pages>
      </section>
      {here?.viewerIsAdmin && <OtherRepositories key={workspace} workspace={workspace} />}
    </>
  );
}

function RepositoryRow({
  workspace,
  repository: masked,
}: {
  workspace: string;
  repository: FragmentType<typeof rowFragment>;
}) {
  const repository = readFragment(rowFragment, masked);
  const enforced = leastEnforced(repository.enforcement);
  return (
    <tr>
      <th scope="row">
        <Link
          to="/workspaces/$workspace/repositories/$repository"
          params={{ workspace, repository: repository.slug }}
          search={{ name: repository.name }}
        >
          <Visible text={repository.name} />
        </Link>
        <div className="sa-small sa-subtle">
          <Visible text={repository.fullName} />
        </div>
      </th>
      <td data-label="State">
        {repository.state === "ACTIVE" ? (
          <Lozenge tone="success">Gated</Lozenge>
        ) : (
          <>
            <Lozenge tone="warning">Needs attention</Lozenge>
            <p className="sa-small">{repository.attention}</p>
          </>
        )}
      </td>
      <td data-label="Enforcement">
        {enforced ? <Lozenge tone={enforced.tone}>{enforced.label}</Lozenge> : "Not looked at yet"}
      </td>
      <td data-label="Rules">
        <ul>
          {repository.policy.rules.map((rule) => (
            <li key={rule.name}>
              <Visible text={rule.name} />{" "}
              <span className="sa-small sa-subtle">
                <Visible text={rule.branches.join(", ")} />
              </span>
            </li>
          ))}
        </ul>
      </td>
      <td data-label="Last walk">
        {repository.reconciledAt ? <Time value={repository.reconciledAt} /> : "Not yet"}
        {repository.reconcileSeconds !== null && (
          <div className="sa-small sa-subtle">every {repository.reconcileSeconds.toLocaleString()} s</div>
        )}
      </td>
      <td>
        <Link
          className="sa-button sa-button--default"
          to="/workspaces/$workspace/repositories/$repository"
          params={{ workspace, repository: repository.slug }}
          search={{ name: repository.name }}
        >
          {repository.viewerCanConfigure ? "Configure" : "Show"} <span className="sa-hidden">{repository.name}</span>
        </Link>
      </td>
    </tr>
  );
}

const OtherRepositoriesQuery = graphql(`
  query OtherRepositories($workspace: String!, $search: String, $after: String) {
    workspace(key: $workspace) {
      id
      bitbucketRepositories(search: $search, first: 20, after: $after) {
        edges {
          cursor
          node {
            uuid
            name
            fullName
            slug
            repository {
              id
            }
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

function OtherRepositories({ workspace }: { workspace: string }) {
  const [typed, setTyped] = useState("");
  const search = useDeferredValue(typed.trim());
  return (
    <section className="sa-stack" aria-labelledby="others">
      <h2 id="others">Gate another repository</h2>
      <Field label="Search the workspace's repositories by name">
        {(control) => (
          <input {...control} type="search" value={typed} onChange={(event) => setTyped(event.target.value)} />
        )}
      </Field>
      <FoundRepositories key={search} workspace={workspace} search={search} />
    </section>
  );
}

function FoundRepositories({ workspace, search }: { workspace: string; search: string }) {
  return (
    <Pages
      query={OtherRepositoriesQuery}
      variables={{ workspace, ...(search && { search }) }}
      doing="list the repositories on Bitbucket"
      list={(data) => data.workspace?.bitbucketRepositories}
      empty={(data) =>
        data.workspace?.bitbucketRepositories ? (
          <EmptyState title="Nothing found">
            {search ? "No repository has this in its name." : "The workspace has no repository."}
          </EmptyState>
        ) : (
          <Note tone="neutral">Bitbucket's list cannot be shown to you.</Note>
        )
      }
    >
      {(edges) => (
        <Table caption="Repositories on Bitbucket" columns={["Repository", "Gate", ""]}>
          <tbody>
            {edges.map(({ node }) => (
              <tr key={node.uuid}>
                <th scope="row">
                  <Visible text={node.name} />
                  <div className="sa-small sa-subtle">
                    <Visible text={node.fullName} />
                  </div>
                </th>
                <td>{node.repository ? <Lozenge tone="success">Gated</Lozenge> : <Lozenge>Not gated</Lozenge>}</td>
                <td>
                  <Link
                    className="sa-button sa-button--default"
                    to="/workspaces/$workspace/repositories/$repository"
                    params={{ workspace, repository: node.slug }}
                    search={{ name: node.name }}
                  >
                    {node.repository ? "Configure" : "Select"} <span className="sa-hidden">{node.name}</span>
                  </Link>
                </td>
              </tr>
            ))}
          </tbody>
        </Table>
      )}
    </Pages>
  );
}
