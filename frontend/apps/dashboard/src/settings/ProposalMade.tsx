import { Button } from "@signedapproval/ui/Button";
import { Dialog } from "@signedapproval/ui/Dialog";
import { PageLink } from "../PageLink.tsx";

/** Says that something was proposed about a member's key, and where it is signed. */
export function ProposalMade({ proposal, onClose }: { proposal: string; onClose: () => void }) {
  const { workspace } = Object.fromEntries(new URLSearchParams(window.location.search));
  const search = new URLSearchParams({ ...(workspace && { workspace }), proposal });
  return (
    <Dialog
      title="It is proposed"
      onClose={onClose}
      actions={
        <>
          <Button onClick={onClose}>Close</Button>
          <PageLink path={`/settings/protection?${search}`} look="primary">
            See the proposal
          </PageLink>
        </>
      }
    >
      <p>
        This workspace is protected, and its members' passkeys with it: nothing has changed yet. It is done once enough
        of those who protect the workspace have signed. They find it in their notices.
      </p>
    </Dialog>
  );
}
