import { failureOf } from "@signedapproval/graph/failure";
import { graphql } from "@signedapproval/graph/generated";
import { Button } from "@signedapproval/ui/Button";
import { ErrorNote } from "@signedapproval/ui/ErrorNote";
import { Note } from "@signedapproval/ui/Note";
import { useMutation } from "urql";

const RenewRequest = graphql(`
  mutation RenewRequest($input: RenewRequestInput!) {
    renewRequest(input: $input) {
      request {
        id
        ...RequestDetails_request
      }
      userErrors {
        code
        message
        path
      }
    }
  }
`);

/** Asks again for an approval that was not given in time. */
export function Renew({ id }: { id: string }) {
  const [{ fetching, data, error }, renew] = useMutation(RenewRequest);
  const failure = failureOf(error);
  const refusal = data?.renewRequest.userErrors[0];
  return (
    <>
      <Button appearance="primary" busy={fetching} onClick={() => void renew({ input: { requestId: id } })}>
        Ask again
      </Button>
      {failure && <ErrorNote failure={failure} doing="ask again" />}
      {refusal && (
        <Note tone="danger" urgent>
          {refusal.message}
        </Note>
      )}
    </>
  );
}
