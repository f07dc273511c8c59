import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import type { PasskeyIdentity, PasskeyState } from "@signedapproval/graph/generated/graphql.ts";
import { Lozenge, type Tone } from "@signedapproval/ui/Lozenge";
import { Time } from "@signedapproval/ui/Time";
import { Visible } from "@signedapproval/ui/Visible";

const actFragment = graphql(`
  fragment KeyActs_act on WorkspaceKeyAct {
    action
    workspace
    by
    at
    compromisedSince
    counts
  }
`);

const fallFragment = graphql(`
  fragment KeyFall_fall on KeyFall {
    workspace
    key
    owner {
      id
      name
    }
    compromisedSince
    since
    by
  }
`);

const states: Record<PasskeyState, { tone: Tone; text: string } | null> = {
  UNCONFIRMED: { tone: "warning", text: "Not confirmed" },
  WAITING_FOR_COUNTERSIGNER: { tone: "warning", text: "Waits for an administrator" },
  ENROLLED: null,
  FALLEN: { tone: "danger", text: "Counts no longer" },
  REVOKED: { tone: "danger", text: "Revoked" },
};

/** How far a key has come; nothing for one that signs. */
export function KeyState({ state }: { state: PasskeyState }) {
  const shown = states[state];
  return shown && <Lozenge tone={shown.tone}>{shown.text}</Lozenge>;
}

/** Where a key of the reader's own that signs decides no longer; nothing for one that decides everywhere. */
export function KeyPlaces({ acts, falls }: Pick<KeyActsProps, "acts"> & { falls: Falls }) {
  const revoked = acts.map((act) => readFragment(actFragment, act)).filter((act) => act.action === "REVOKE");
  const fallen = falls.map((fall) => readFragment(fallFragment, fall));
  return (
    <>
      {revoked.length > 0 && <Lozenge tone="danger">Revoked in {placesOf(revoked)}</Lozenge>}{" "}
      {fallen.length > 0 && <Lozenge tone="danger">Counts no longer in {placesOf(fallen)}</Lozenge>}
    </>
  );
}

function placesOf(things: readonly { workspace: string }[]) {
  const places = new Set(things.map((thing) => thing.workspace)); // a key that was revoked can be reported as well
  const [only] = places;
  return only && places.size === 1 ? <Visible text={only} /> : `${places.size} workspaces`;
}

export interface KeyKindProps {
  synced: boolean;
  /** What it says that it is. */
  model: string | null | undefined;
  /** What its attestation proves. */
  proved: { aaguid: string; description: string | null } | null;
}

/** Where a key lives, and what it is: proved or, where nothing is, by its own word. */
export function KeyKind({ synced, model, proved }: KeyKindProps) {
  return (
    <>
      {synced ? "Synced by its provider" : "Bound to its device"}
      {proved && (
        <p className="sa-small sa-wrap">
          Proved to be <Visible text={proved.description ?? proved.aaguid} />
        </p>
      )}
      {!proved && model && <p className="sa-small sa-subtle sa-wrap">Says that it is {model}</p>}
    </>
  );
}

export interface KeyActsProps {
  identifiedBy: PasskeyIdentity | null | undefined;
  acts: readonly FragmentType<typeof actFragment>[];
  /** Whether the reader's own keys are shown, in all their workspaces. */
  own?: boolean;
  /** When its owner revoked it, and whether with a signature; null where they did not. */
  revoked?: { at: string; signed: boolean } | null;
  compromisedSince?: string | null | undefined;
  /** With which compromised keys it fell; none where it stands. */
  falls?: Falls;
}

type Falls = readonly FragmentType<typeof fallFragment>[];

/** By what it is known whose a key is, and what was signed about it. */
export function KeyActs(props: KeyActsProps) {
  const { identifiedBy, acts: masked, own = false, revoked = null, compromisedSince, falls = [] } = props;
  const acts = masked.map((act) => readFragment(actFragment, act));
  const countersigned = acts.some((act) => act.action === "COUNTERSIGN");
  return (
    <ul className="keys__acts">
      {identifiedBy === "BITBUCKET_LOG_IN" && <li>Identified by Bitbucket log-in</li>}
      {identifiedBy === "OWN_KEY" && <li>{own ? "Another passkey of yours" : "By own key"}</li>}
      {identifiedBy === "COUNTERSIGNER" && !countersigned && <li>An administrator</li>}
      {acts.map((act) => (
        <li key={`${act.action} ${act.workspace} ${act.at}`}>
          {act.action === "COUNTERSIGN" ? "Countersigned by" : "Revoked by"} <Visible text={act.by} />
          {own && (
            <>
              {" "}
              for <Visible text={act.workspace} />
            </>
          )}
          , <Time value={act.at} />
          {act.compromisedSince && (
            <>
              ; does not count since <Time value={act.compromisedSince} exact />
            </>
          )}
          {!act.counts && "; counts no longer: the key that signed this was in other hands by then"}
        </li>
      ))}
      {revoked && (
        <li>
          {revoked.signed ? "Revoked with a signature" : "Revoked without a signature"}, <Time value={revoked.at} />
        </li>
      )}
      {falls.map((masked) => {
        const fall = readFragment(fallFragment, masked);
        return (
          <li key={`${fall.workspace} ${fall.since}`}>
            No longer counts
            {own && (
              <>
                {" "}
                in <Visible text={fall.workspace} />
              </>
            )}{" "}
            since <Time value={fall.since} exact />: it goes back to <Visible text={fall.key} /> of{" "}
            <Visible text={fall.owner.name} />, which may have been in other hands since{" "}
            <Time value={fall.compromisedSince} exact />, as <Visible text={fall.by} /> said
          </li>
        );
      })}
      {own && falls.length > 0 && (
        <li>
          Nothing mends that, and nothing that it signed counts there. Revoke it, and have another passkey signed for by
          one that still counts or by an administrator.
        </li>
      )}
      {compromisedSince && (
        <li>
          Does not count since <Time value={compromisedSince} exact />
        </li>
      )}
    </ul>
  );
}
