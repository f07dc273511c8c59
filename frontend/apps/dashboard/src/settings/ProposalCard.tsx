import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import type { ProposalKind, ProposalState } from "@signedapproval/graph/generated/graphql.ts";
import { type Announced, wholeSecond } from "@signedapproval/sign/act";
import type { Prepared } from "@signedapproval/sign/prepared";
import { mutate, Refusal, refuse } from "@signedapproval/sign/refusal";
import { adviceFor } from "@signedapproval/sign/refusals";
import { signAct } from "@signedapproval/sign/sign";
import { Button } from "@signedapproval/ui/Button";
import { Dialog } from "@signedapproval/ui/Dialog";
import { Lozenge, type Tone } from "@signedapproval/ui/Lozenge";
import { Note } from "@signedapproval/ui/Note";
import { Time } from "@signedapproval/ui/Time";
import { Visible } from "@signedapproval/ui/Visible";
import { useId, useState } from "react";
import { useClient } from "urql";
import { LeftToDo } from "../LeftToDo.tsx";
import { useViewer } from "../viewer.ts";
import "./ProposalCard.css";

const proposalFragment = graphql(`
  fragment ProposalCard_proposal on Proposal {
    id
    kind
    state
    repository
    document
    before
    after
    quorum
    viewerCanSign
    viewerCanWithdraw
    passkey
    passkeyOwner {
      id
      name
    }
    compromisedSince
    asked {
      id
      name
    }
    signatures {
      at
      counts
      person {
        id
        name
      }
    }
    proposedBy {
      id
      name
    }
    createdAt
    expiresAt
  }
`);

const Prepare = graphql(`
  mutation PrepareProposalSignature($input: PrepareProposalSignatureInput!) {
    prepareProposalSignature(input: $input) {
      act {
        statement
        options
        signerSalt
      }
      userErrors {
        code
        message
        path
      }
    }
  }
`);

const Sign = graphql(`
  mutation SignProposal($input: SignProposalInput!) {
    signProposal(input: $input) {
      proposal {
        id
        ...ProposalCard_proposal
      }
      leftToDo
      userErrors {
        code
        message
        path
      }
    }
  }
`);

const Withdraw = graphql(`
  mutation WithdrawProposal($input: WithdrawProposalInput!) {
    withdrawProposal(input: $input) {
      proposal {
        id
        ...ProposalCard_proposal
      }
      userErrors {
        code
        message
        path
      }
    }
  }
`);

const states: Record<ProposalState, { word: string; tone: Tone }> = {
  OPEN: { word: "Waits for signatures", tone: "information" },
  APPLIED: { word: "Applied", tone: "success" },
  WITHDRAWN: { word: "Withdrawn", tone: "neutral" },
  EXPIRED: { word: "Expired", tone: "neutral" },
  OUTDATED: { word: "Overtaken", tone: "neutral" },
};

/** What is said where a proposal's before or after is nothing. */
const nothings: Record<ProposalKind, string> = {
  POLICY: "No rules: nothing is asked for.",
  PROTECTION: "Not protected: every administrator can change the rules alone.",
  COUNTERSIGN: "",
  REVOKE: "",
};

export interface ProposalCardProps {
  /** The UUID of the workspace whose proposal it is. */
  workspace: string;
  proposal: FragmentType<typeof proposalFragment>;
}

/** A change of rules: what was, what is to be, who signed, and signing it. */
export function ProposalCard({ workspace, proposal: masked }: ProposalCardProps) {
  const proposal = readFragment(proposalFragment, masked);
  const client = useClient();
  const signer = useViewer();
  const title = useId();
  const [act, setAct] = useState<Prepared | null>(null);
  const [busy, setBusy] = useState(false);
  const [refusal, setRefusal] = useState<Refusal | null>(null);
  const [left, setLeft] = useState<readonly string[]>([]);
  const run = async (what: () => Promise<void>) => {
    setBusy(true);
    setRefusal(null);
    try {
      await what();
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      setRefusal(error);
    } finally {
      setBusy(false);
    }
  };
  const prepare = () =>
    run(async () => {
      const { prepareProposalSignature } = await mutate(client, Prepare, { input: { proposalId: proposal.id } });
      refuse(prepareProposalSignature.userErrors);
      setAct(prepareProposalSignature.act ?? null);
    });
  const sign = (prepared: Prepared) =>
    run(async () => {
      const { response } = await signAct(prepared, announce(workspace, proposal), signer);
      const { signProposal } = await mutate(client, Sign, { input: { response } });
      refuse(signProposal.userErrors);
      setLeft(signProposal.leftToDo);
      setAct(null);
    });
  const withdraw = () =>
    run(async () => {
      const { withdrawProposal } = await mutate(client, Withdraw, { input: { proposalId: proposal.id } });
      refuse(withdrawProposal.userErrors);
    });
  const { word, tone } = states[proposal.state];
  const advice = refusal && adviceFor(refusal);
  const problem = advice && (
    <Note tone="danger" title={advice.title} urgent>
      {advice.text}
    </Note>
  );
  return (
    <section className="sa-stack sa-stack--tight" aria-labelledby={title}>
      <h3 id={title}>
        <Visible text={titleOf(proposal)} /> <Lozenge tone={tone}>{word}</Lozenge>
      </h3>
      <p className="sa-small sa-subtle">
        Proposed by <Visible text={proposal.proposedBy?.name ?? "somebody"} />, <Time value={proposal.createdAt} />
        {proposal.state === "OPEN" && (
          <>
            ; expires <Time value={proposal.expiresAt} />
          </>
        )}
      </p>
      {nothings[proposal.kind] && (
        <Sentences title="Before" sentences={proposal.before} none={nothings[proposal.kind]} />
      )}
      <Sentences title="After" sentences={proposal.after} none={nothings[proposal.kind]} />
      {proposal.compromisedSince && (
        <p>
          Somebody else may have had it: what it signed since <Time value={proposal.compromisedSince} exact /> does not
          count any more.
        </p>
      )}
      {proposal.state === "OUTDATED" && (
        <p>What it was to change has changed meanwhile. If it is still wanted, it has to be proposed again.</p>
      )}
      {proposal.state === "OPEN" && (
        <p>
          {proposal.signatures.filter((one) => one.counts).length} of {proposal.quorum} signatures, out of{" "}
          <Visible text={proposal.asked.map((person) => person.name).join(", ")} />.
        </p>
      )}
      {proposal.signatures.length > 0 && (
        <ul aria-label="Signatures">
          {proposal.signatures.map((one) => (
            <li key={one.person.id}>
              <Visible text={one.person.name} /> signed <Time value={one.at} />
              {!one.counts && ", which does not count"}
            </li>
          ))}
        </ul>
      )}
      {!act && problem}
      {left.length > 0 && <LeftToDo title="The repository is gated no longer" sentences={left} />}
      {proposal.state === "OPEN" && (proposal.viewerCanSign || proposal.viewerCanWithdraw) && (
        <p className="sa-row">
          {proposal.viewerCanSign && (
            <Button appearance="primary" busy={busy} onClick={() => void prepare()}>
              Sign…
            </Button>
          )}
          {proposal.viewerCanWithdraw && (
            <Button appearance="subtle" busy={busy} onClick={() => void withdraw()}>
              Withdraw
            </Button>
          )}
        </p>
      )}
      {act && (
        <Dialog
          title="Sign this proposal?"
          onClose={() => setAct(null)}
          actions={
            <>
              <Button onClick={() => setAct(null)}>Not now</Button>
              <Button appearance="primary" busy={busy} onClick={() => void sign(act)}>
                Sign with my passkey
              </Button>
            </>
          }
        >
          <p>
            <strong>
              <Visible text={titleOf(proposal)} />
            </strong>
          </p>
          <Sentences title="What is to be" sentences={proposal.after} none={nothings[proposal.kind]} />
          <Signed text={textOf(act.statement)} />
          {problem}
        </Dialog>
      )}
    </section>
  );
}

/** What the act is to say: the very document that the proposal is about, in this workspace, and with the time that is shown. */
function announce(
  workspace: string,
  { kind, document, compromisedSince }: { kind: ProposalKind; document: string; compromisedSince?: string | null },
): Announced {
  const said = JSON.parse(document);
  switch (kind) {
    case "POLICY":
      return { purpose: "policy", workspace, policy: said };
    case "PROTECTION":
      return { purpose: "protect", workspace, protection: said };
    case "COUNTERSIGN":
      return { purpose: "countersign", workspace, key: said };
    case "REVOKE": {
      const { person, key } = said;
      const since = compromisedSince ? { compromisedSince: wholeSecond(compromisedSince) } : {};
      return { purpose: "revoke", workspace, revocation: { person, key, ...since } };
    }
  }
}

/** What a proposal is about. */
function titleOf(proposal: {
  kind: ProposalKind;
  repository?: string | null;
  passkey?: string | null;
  passkeyOwner?: { name: string } | null;
}): string {
  switch (proposal.kind) {
    case "POLICY":
      return `Rules of ${proposal.repository}`;
    case "PROTECTION":
      return "Who protects the workspace";
    case "COUNTERSIGN":
      return `Countersign “${proposal.passkey}” of ${proposal.passkeyOwner?.name ?? "somebody"}`;
    case "REVOKE":
      return `Revoke “${proposal.passkey}” of ${proposal.passkeyOwner?.name ?? "somebody"}`;
  }
}

function Sentences({ title, sentences, none }: { title: string; sentences: readonly string[]; none: string }) {
  return (
    <>
      <h4>{title}</h4>
      {sentences.length > 0 ? (
        <ol aria-label={title}>
          {sentences.map((sentence) => (
            <li key={sentence}>
              <Visible text={sentence} />
            </li>
          ))}
        </ol>
      ) : (
        <p>{none}</p>
      )}
    </>
  );
}

/** What is signed: what it says in a sentence of its own, and all of it. */
function Signed({ text }: { text: string }) {
  const meaning = meaningOf(text);
  return (
    <>
      {meaning && (
        <p className="sa-wrap">
          Your passkey signs: “
          <Visible text={meaning} />”
        </p>
      )}
      <p>These are the very bytes:</p>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable with the keyboard */}
      {/* biome-ignore lint/a11y/useSemanticElements: a section would be a landmark */}
      <pre className="proposal__act" role="group" aria-label="The bytes that are signed" tabIndex={0}>
        {text}
      </pre>
    </>
  );
}

/** The sentence in an act; nothing where it cannot be read, which is refused when it is to be signed. */
function meaningOf(text: string): string {
  try {
    const { meaning } = JSON.parse(text).predicate;
    return typeof meaning === "string" ? meaning : "";
  } catch {
    return "";
  }
}

/** The bytes of an act, as text. */
function textOf(statement: string): string {
  const bytes = Uint8Array.from(atob(statement.replaceAll("-", "+").replaceAll("_", "/")), (one) => one.charCodeAt(0));
  return new TextDecoder().decode(bytes);
}
