import { failureOf } from "@signedapproval/graph/failure";
import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import type { Host } from "@signedapproval/host/host";
import { Button } from "@signedapproval/ui/Button";
import { ErrorNote } from "@signedapproval/ui/ErrorNote";
import { ExternalLink } from "@signedapproval/ui/Link";
import { Note } from "@signedapproval/ui/Note";
import { Visible } from "@signedapproval/ui/Visible";
import { useMutation } from "urql";
import { useSignAddress } from "./useSignAddress.ts";

const requestFragment = graphql(`
  fragment Actions_request on ApprovalRequest {
    id
    state
    signPath
    viewerCan {
      approve
      reject
      withdraw
      renew
      code
      reason
      override
    }
    keyProblem {
      code
      sentence
    }
  }
`);

const RenewRequest = graphql(`
  mutation PanelRenewRequest($input: RenewRequestInput!) {
    renewRequest(input: $input) {
      request {
        id
        ...Requirements_request
        ...Actions_request
      }
      userErrors {
        code
        message
        path
      }
    }
  }
`);

export interface ActionsProps {
  request: FragmentType<typeof requestFragment>;
  draft: boolean;
  host: Host;
}

/**
 * What the viewer can do. Nothing is decided here: a browser lets no frame touch a passkey, so the buttons are links to
 * the sign page, whose address is known before the click.
 */
export function Actions({ request: masked, draft, host }: ActionsProps) {
  const request = readFragment(requestFragment, masked);
  const can = request.viewerCan;
  if (draft) return <p className="sa-subtle">Approvals are asked for when the pull request is ready for review.</p>;
  if (can.approve || can.reject || can.withdraw || can.override) {
    return (
      <div className="sa-stack sa-stack--tight">
        {request.keyProblem && (can.approve || can.override) && (
          <Note
            tone="warning"
            title="No passkey of yours would count"
            actions={
              <ExternalLink href={host.address("/settings/passkeys")} onOpen={host.openExternal}>
                Your passkeys
              </ExternalLink>
            }
          >
            <Visible text={request.keyProblem.sentence} />
          </Note>
        )}
        <SignLink requestId={request.id} path={request.signPath} host={host} look={can.approve ? "primary" : "outline"}>
          {nameOf(can)}
        </SignLink>
        {can.approve && (
          <p className="sa-small sa-subtle">
            Shows the change, then asks for your passkey. You can also reject{can.withdraw ? " or withdraw" : ""} there.
          </p>
        )}
        {can.override && <p className="sa-small sa-subtle">You can also override the rule there.</p>}
        {can.renew && <Renew id={request.id} reason={can.reason} />}
      </div>
    );
  }
  if (can.renew) return <Renew id={request.id} reason={can.reason} />;
  if (!can.reason) return null;
  return <p className="sa-subtle sa-wrap">{can.reason}</p>;
}

/** What the link to the sign page is called: after the first thing that the viewer can do there. */
function nameOf(can: { approve: boolean; reject: boolean; withdraw: boolean }): string {
  if (can.approve) return "Approve";
  if (can.withdraw) return "Withdraw my decision";
  return can.reject ? "Reject" : "Review";
}

interface SignLinkProps {
  requestId: string;
  path: string;
  host: Host;
  look: "primary" | "outline";
  children: string;
}

function SignLink({ requestId, path, host, look, children }: SignLinkProps) {
  const { address, onOpened } = useSignAddress(host, requestId, path);
  return (
    <ExternalLink
      className={`sa-button sa-button--${look} sa-button--wide`}
      href={address}
      onOpen={async (chosen) => {
        const opened = await host.openExternal(new URL(chosen, window.location.href).href);
        // What did not open is shown as an address, which then must still be good.
        if (opened) onOpened();
        return opened;
      }}
    >
      {children}
    </ExternalLink>
  );
}

/** Asks again for what was not approved in time. The reason says what becomes of a rejection. */
function Renew({ id, reason }: { id: string; reason: string }) {
  const [{ fetching, data, error }, renew] = useMutation(RenewRequest);
  const failure = failureOf(error);
  const refusal = data?.renewRequest.userErrors[0];
  return (
    <div className="sa-stack sa-stack--tight">
      <Button appearance="primary" wide busy={fetching} onClick={() => void renew({ input: { requestId: id } })}>
        Ask again
      </Button>
      {reason && <p className="sa-small sa-subtle sa-wrap">{reason}</p>}
      {failure && <ErrorNote failure={failure} doing="ask again" />}
      {refusal && (
        <Note tone="danger" urgent>
          {refusal.message}
        </Note>
      )}
    </div>
  );
}
