import { failureOf } from "@signedapproval/graph/failure";
import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import { Button } from "@signedapproval/ui/Button";
import { ErrorNote } from "@signedapproval/ui/ErrorNote";
import { isSafe } from "@signedapproval/ui/Link";
import { Note } from "@signedapproval/ui/Note";
import { useEffect } from "react";
import { useMutation } from "urql";

const serverFragment = graphql(`
  fragment Connect_server on Server {
    connectScopes {
      name
      purpose
    }
  }
`);

const BeginConnect = graphql(`
  mutation BeginConnect($input: BeginConnectInput!) {
    beginConnect(input: $input) {
      url
      userErrors {
        code
        message
        path
      }
    }
  }
`);

/** What is asked of Bitbucket and what for, and the way to its consent page. */
export function Connect({ server: masked }: { server: FragmentType<typeof serverFragment> }) {
  const server = readFragment(serverFragment, masked);
  const [{ fetching, data, error }, begin] = useMutation(BeginConnect);
  const failure = failureOf(error);
  const refusal = data?.beginConnect.userErrors[0];
  const url = data?.beginConnect.url;
  useEffect(() => {
    if (url && isSafe(url)) window.location.assign(url);
  }, [url]);
  return (
    <section className="card" aria-labelledby="connect">
      <h2 id="connect">Connect a workspace</h2>
      <p>
        Bitbucket asks for your consent; afterwards you choose which of the workspaces that you administer is connected.
        These permissions are asked for:
      </p>
      <dl className="facts">
        {server.connectScopes.map((scope) => (
          <div key={scope.name} className="facts__pair">
            <dt>
              <code>{scope.name}</code>
            </dt>
            <dd>{scope.purpose}</dd>
          </div>
        ))}
      </dl>
      <div>
        <Button
          appearance="primary"
          busy={fetching || Boolean(url)}
          onClick={() => void begin({ input: { returnTo: "/settings/bitbucket" } })}
        >
          Connect workspace
        </Button>
      </div>
      {failure && <ErrorNote failure={failure} doing="start connecting" />}
      {refusal && (
        <Note tone="danger" urgent>
          {refusal.message}
        </Note>
      )}
    </section>
  );
}
