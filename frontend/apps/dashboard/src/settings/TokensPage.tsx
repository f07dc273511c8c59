import { failureOf } from "@signedapproval/graph/failure";
import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import type { TokenScope } from "@signedapproval/graph/generated/graphql.ts";
import { Button } from "@signedapproval/ui/Button";
import { Dialog } from "@signedapproval/ui/Dialog";
import { EmptyState } from "@signedapproval/ui/EmptyState";
import { ErrorNote } from "@signedapproval/ui/ErrorNote";
import { Field } from "@signedapproval/ui/Field";
import { Lozenge } from "@signedapproval/ui/Lozenge";
import { Note } from "@signedapproval/ui/Note";
import { Table } from "@signedapproval/ui/Table";
import { Time } from "@signedapproval/ui/Time";
import { Visible } from "@signedapproval/ui/Visible";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { useMutation, useQuery } from "urql";
import { Answer } from "../Answer.tsx";
import { PageLink } from "../PageLink.tsx";
import { useHost } from "../surroundings.ts";
import { useWorkspaces } from "../workspaces.ts";
import { CreateToken } from "./CreateToken.tsx";

const TokensQuery = graphql(`
  query Tokens($workspace: String!) {
    workspace(key: $workspace) {
      id
      apiTokens {
        id
        ...TokenRow_apiToken
      }
    }
  }
`);

const tokenFragment = graphql(`
  fragment TokenRow_apiToken on ApiToken {
    id
    name
    prefix
    scopes
    createdAt
    expiresAt
    lastUsedAt
    revokedAt
  }
`);

const RevokeApiToken = graphql(`
  mutation RevokeApiToken($input: RevokeApiTokenInput!) {
    revokeApiToken(input: $input) {
      apiToken {
        id
        ...TokenRow_apiToken
      }
      userErrors {
        code
        message
        path
      }
    }
  }
`);

/** The API tokens of a workspace, for its administrators. */
export function TokensPage({ workspace }: { workspace: string | undefined }) {
  const navigate = useNavigate();
  const administered = useWorkspaces().filter((node) => node.viewerIsAdmin);
  const chosen = administered.find((node) => node.slug === workspace) ?? administered[0];
  const { standsAlone } = useHost();
  if (!standsAlone) {
    return (
      <>
        <h1>API tokens</h1>
        <EmptyState
          title="Not inside Bitbucket"
          action={
            <PageLink path="/settings/tokens" look="primary">
              API tokens
            </PageLink>
          }
        >
          API tokens are made and revoked on a page of its own, by people who signed in there.
        </EmptyState>
      </>
    );
  }
  return (
    <>
      <h1>API tokens</h1>
      <p className="sa-subtle">
        For scripts that read and configure. No token can make a decision: that takes a person and a passkey.
      </p>
      {administered.length > 1 && (
        <Field label="Workspace">
          {(control) => (
            <select
              {...control}
              value={chosen?.slug}
              onChange={(event) => void navigate({ to: "/settings/tokens", search: { workspace: event.target.value } })}
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
      {chosen ? (
        <Tokens key={chosen.slug} workspace={chosen.slug} workspaceId={chosen.id} />
      ) : (
        <EmptyState title="Nothing to show">
          API tokens belong to connected workspaces, and their administrators make them.
        </EmptyState>
      )}
    </>
  );
}

function Tokens({ workspace, workspaceId }: { workspace: string; workspaceId: string }) {
  const [result, ask] = useQuery({ query: TokensQuery, variables: { workspace } });
  return (
    <>
      <CreateToken workspaceId={workspaceId} onCreated={() => ask({ requestPolicy: "network-only" })} />
      <Answer result={result} ask={ask} doing="read the tokens">
        {(data) => {
          const tokens = data.workspace?.apiTokens;
          if (!tokens) return result.error ? null : <EmptyState title="Only administrators see the tokens" />;
          if (tokens.length === 0) return <EmptyState title="No tokens">Make one for your first script.</EmptyState>;
          return (
            <Table caption="API tokens" columns={["Name", "May", "Expires", "Last used", ""]}>
              <tbody>
                {tokens.map((token) => (
                  <TokenRow key={token.id} token={token} />
                ))}
              </tbody>
            </Table>
          );
        }}
      </Answer>
    </>
  );
}

const scopes: Record<TokenScope, string> = { READ: "read", CONFIGURE: "configure" };

function TokenRow({ token: masked }: { token: FragmentType<typeof tokenFragment> }) {
  const token = readFragment(tokenFragment, masked);
  const [asking, setAsking] = useState(false);
  const expired = new Date(token.expiresAt).getTime() <= Date.now();
  return (
    <tr>
      <th scope="row">
        <Visible text={token.name} />{" "}
        {token.revokedAt ? (
          <Lozenge tone="danger">Revoked</Lozenge>
        ) : (
          expired && <Lozenge tone="warning">Expired</Lozenge>
        )}
        <div>
          <code className="sa-small sa-subtle">{token.prefix}…</code>
        </div>
      </th>
      <td data-label="May">{token.scopes.map((scope) => scopes[scope]).join(", ")}</td>
      <td data-label="Expires">
        <Time value={token.expiresAt} />
      </td>
      <td data-label="Last used">{token.lastUsedAt ? <Time value={token.lastUsedAt} /> : "Never"}</td>
      <td>
        {!token.revokedAt && (
          <Button appearance="subtle" onClick={() => setAsking(true)}>
            Revoke <span className="sa-hidden">{token.name}</span>
          </Button>
        )}
        {asking && <Revoke id={token.id} name={token.name} onClose={() => setAsking(false)} />}
      </td>
    </tr>
  );
}

function Revoke({ id, name, onClose }: { id: string; name: string; onClose: () => void }) {
  const [{ fetching, data, error }, revoke] = useMutation(RevokeApiToken);
  const failure = failureOf(error);
  const refusal = data?.revokeApiToken.userErrors[0];
  const confirm = async () => {
    const { data: answer } = await revoke({ input: { id } });
    if (answer?.revokeApiToken.apiToken) onClose();
  };
  return (
    <Dialog
      title={`Revoke ${name}?`}
      onClose={onClose}
      actions={
        <>
          <Button onClick={onClose}>Keep it</Button>
          <Button appearance="danger" busy={fetching} onClick={() => void confirm()}>
            Revoke
          </Button>
        </>
      }
    >
      <p>Scripts that use it stop working at once. This cannot be undone.</p>
      {failure && <ErrorNote failure={failure} doing="revoke the token" />}
      {refusal && (
        <Note tone="danger" urgent>
          {refusal.message}
        </Note>
      )}
    </Dialog>
  );
}
