import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import type { DecisionAction } from "@signedapproval/graph/generated/graphql.ts";
import { Button, ButtonLink } from "@signedapproval/ui/Button";
import { FullCommit } from "@signedapproval/ui/Commit";
import { signInPath } from "@signedapproval/ui/ErrorNote";
import { Field } from "@signedapproval/ui/Field";
import { Icon } from "@signedapproval/ui/Icon";
import { ExternalLink } from "@signedapproval/ui/Link";
import { Note } from "@signedapproval/ui/Note";
import { OwedStatus } from "@signedapproval/ui/OwedStatus";
import { sentenceCase } from "@signedapproval/ui/sentence.ts";
import { Time } from "@signedapproval/ui/Time";
import { Visible } from "@signedapproval/ui/Visible";
import { useState } from "react";
import { useClient } from "urql";
import { ConfirmStep } from "./ConfirmStep.tsx";
import { decide, type Made, type Step } from "./decision.ts";
import { enrol } from "./enrolment.ts";
import { InLog } from "./InLog.tsx";
import { Override, WaitingOverride } from "./Override.tsx";
import { Refusal } from "./refusal.ts";
import { adviceFor } from "./refusals.ts";
import type { RenderedChange } from "./ShownChange.tsx";
import type { Shown } from "./statement.ts";
import { UnfitKey } from "./UnfitKey.tsx";
import { useConfirmation } from "./useConfirmation.ts";

const viewerFragment = graphql(`
  fragment Decide_viewer on Viewer {
    person {
      id
      accountId
      name
    }
    passkeys {
      id
      state
    }
  }
`);

const serverFragment = graphql(`
  fragment Decide_server on Server {
    relyingPartyId
  }
`);

const pullRequestFragment = graphql(`
  fragment Decide_pullRequest on PullRequest {
    id
    number
    sourceBranch
    path
    url
    status {
      owedSince
      problem
    }
    repository {
      id
      uuid
      workspace {
        id
        uuid
      }
    }
  }
`);

const requestFragment = graphql(`
  fragment Decide_request on ApprovalRequest {
    id
    sentence
    headCommit
    destinationBranch
    evidencePath
    rule {
      digest
      requirements {
        name
        quorum
        everyone
        approvers {
          accountId
        }
      }
    }
    decisions {
      id
      action
      statementSha256
      account {
        accountId
      }
    }
    viewerCan {
      approve
      reject
      withdraw
      code
      reason
      override
    }
    requirements {
      name
      ignored {
        ...Unfit_decision
      }
    }
    keyProblem {
      code
      sentence
    }
    override {
      quorum
      missing
      overriddenBy {
        accountId
        name
      }
      canStillOverride {
        accountId
        name
      }
      ignored {
        ...Unfit_decision
      }
    }
  }
`);

const steps: Record<Step, string> = {
  enrolling: "Making a passkey: follow your browser, then confirm it here…",
  preparing: "Preparing what you sign…",
  signing: "Waiting for your passkey…",
  submitting: "Handing the decision in…",
};

const longestComment = 2_000;

export interface DecideProps {
  viewer: FragmentType<typeof viewerFragment>;
  server: FragmentType<typeof serverFragment>;
  pullRequest: FragmentType<typeof pullRequestFragment>;
  request: FragmentType<typeof requestFragment>;
  /** What is on the screen; null while nothing can be signed. */
  change: RenderedChange | null;
}

/** The buttons that decide, and what came of it. */
export function Decide(props: DecideProps) {
  const viewer = readFragment(viewerFragment, props.viewer);
  const server = readFragment(serverFragment, props.server);
  const pullRequest = readFragment(pullRequestFragment, props.pullRequest);
  const request = readFragment(requestFragment, props.request);
  const { change } = props;
  const can = request.viewerCan;

  const client = useClient();
  const [comment, setComment] = useState("");
  const [step, setStep] = useState<{ action: DecisionAction; step: Step } | null>(null);
  const [refusal, setRefusal] = useState<Refusal | null>(null);
  const [made, setMade] = useState<Made | null>(null);
  const [question, ask] = useConfirmation();

  // One that was made and never confirmed is taken up again.
  const unconfirmed = viewer.passkeys.find((passkey) => passkey.state === "UNCONFIRMED")?.id;
  const enrolHere = async (resume: string | undefined) => {
    const state = await enrol({ client, signer: viewer.person, resume, ask });
    if (state !== "ENROLLED") {
      throw new Refusal(
        "KEY_WAITING",
        "Your new passkey is made. An administrator of your workspace has to countersign it before it can sign; they have been told.",
      );
    }
  };

  const run = async (action: DecisionAction, work: (onStep: (step: Step) => void) => Promise<void>) => {
    setRefusal(null);
    try {
      await work((next) => setStep({ action, step: next }));
    } catch (error) {
      if (error instanceof Refusal) setRefusal(error);
      else setRefusal(new Refusal("UNEXPECTED", "Something went wrong on this page. Reload it and try again.", error));
    } finally {
      setStep(null);
    }
  };

  const start = (action: DecisionAction, text = comment.trim()) =>
    run(action, async (onStep) => {
      if (!change) return;
      const shown: Shown = {
        action,
        origin: window.location.origin,
        signer: viewer.person,
        relyingPartyId: server.relyingPartyId,
        workspace: pullRequest.repository.workspace.uuid,
        repository: pullRequest.repository.uuid,
        request: request.evidencePath.split("/").at(-1) ?? "",
        number: pullRequest.number,
        sourceBranch: pullRequest.sourceBranch,
        headCommit: request.headCommit,
        destinationBranch: request.destinationBranch,
        destinationCommit: change.destinationCommit,
        mergeBases: change.mergeBases,
        diffSha256: change.diffSha256,
        diffSize: change.diffSize,
        ruleDigest: request.rule.digest,
        requirements: request.rule.requirements.map(({ name, quorum, everyone, approvers }) => ({
          name,
          quorum,
          everyone,
          approvers: approvers.length,
        })),
        comment: text,
        withdraws: standingOf(request.decisions, viewer.person.accountId),
      };
      if (change.headCommit !== request.headCommit) {
        throw new Refusal(
          "HEAD_CHANGED",
          "The change on this page is of another commit than the one that is asked for.",
        );
      }
      const enrolled = viewer.passkeys.some(
        ({ state }) => state === "ENROLLED" || state === "WAITING_FOR_COUNTERSIGNER",
      );
      const { requestId } = change;
      setMade(await decide({ client, requestId, shown, enrolled, enrol: () => enrolHere(unconfirmed), onStep }));
      setComment("");
    });

  const addPasskey = () =>
    run("APPROVE", async (onStep) => {
      onStep("enrolling");
      await enrolHere(undefined);
    });

  const busy = step !== null;
  const anything = can.approve || can.reject || can.withdraw;
  return (
    <>
      <p className="sign__sentence sa-wrap" aria-live="polite">
        <Visible text={sentenceCase(request.sentence)} />
      </p>
      {made && <Outcome made={made} path={pullRequest.path} url={pullRequest.url} />}
      <UnfitKey
        accountId={viewer.person.accountId}
        decisions={[...request.requirements, ...(request.override ? [request.override] : [])].flatMap(
          ({ ignored }) => ignored,
        )}
      />
      <OwedStatus status={pullRequest.status} />
      {request.keyProblem && (can.approve || can.override) && (
        <Note
          tone="warning"
          title="No passkey of yours would count"
          actions={<a href="/settings/passkeys">Your passkeys</a>}
        >
          <Visible text={request.keyProblem.sentence} />
        </Note>
      )}
      {anything ? (
        <>
          <Field
            label="Comment (optional)"
            hint="Signed together with your decision and shown beside it."
            problem={
              comment.trim().length > longestComment ? `A comment has at most ${longestComment} characters.` : undefined
            }
          >
            {(control) => (
              <textarea
                {...control}
                rows={3}
                value={comment}
                readOnly={busy}
                onChange={(event) => setComment(event.target.value)}
              />
            )}
          </Field>
          <div className="sign__buttons">
            {can.approve && (
              <DecideButton action="APPROVE" look="success" busy={step?.action} ready={change !== null} start={start}>
                Approve
              </DecideButton>
            )}
            {can.reject && (
              <DecideButton action="REJECT" look="danger" busy={step?.action} ready={change !== null} start={start}>
                Reject
              </DecideButton>
            )}
            {can.withdraw && (
              <DecideButton action="WITHDRAW" look="outline" busy={step?.action} ready={change !== null} start={start}>
                Withdraw my decision
              </DecideButton>
            )}
          </div>
          <p className="sa-small sa-subtle" role="status">
            {step ? steps[step.step] : change ? "Your passkey signs what you see here." : "Nothing can be signed yet."}
          </p>
        </>
      ) : (
        can.reason && <Note tone="neutral">{can.reason}</Note>
      )}
      {request.override && !can.override && (
        <WaitingOverride accountId={viewer.person.accountId} progress={request.override} />
      )}
      {question && <ConfirmStep question={question} resumed={unconfirmed !== undefined} signer={viewer.person} />}
      {can.override && request.override && (
        <Override
          accountId={viewer.person.accountId}
          progress={request.override}
          busy={step?.action}
          doing={!anything && step ? steps[step.step] : ""}
          ready={change !== null}
          start={(reason) => start("OVERRIDE", reason)}
        />
      )}
      {refusal && !busy && <RefusalNote refusal={refusal} onAddPasskey={() => void addPasskey()} />}
      {!made && (
        <p className="sa-small">
          Signed in as <Visible text={viewer.person.name} />. Your passkey signs for the account{" "}
          <code className="sa-wrap">
            <Visible text={viewer.person.accountId} />
          </code>
          . <a href={pullRequest.path}>Back to the approvals</a>
        </p>
      )}
    </>
  );
}

/** The statement of the decision of a person that stands: the last one, unless it takes the one before it back. */
function standingOf(
  decisions: readonly { action: DecisionAction; statementSha256: string; account: { accountId: string } }[],
  accountId: string,
): string | null {
  const last = decisions.filter((decision) => decision.account.accountId === accountId).at(-1);
  return last && last.action !== "WITHDRAW" ? last.statementSha256 : null;
}

interface DecideButtonProps {
  action: DecisionAction;
  look: "success" | "danger" | "outline";
  busy: DecisionAction | undefined;
  ready: boolean;
  start: (action: DecisionAction) => Promise<void>;
  children: string;
}

function DecideButton({ action, look, busy, ready, start, children }: DecideButtonProps) {
  return (
    <Button
      appearance={look}
      busy={busy === action}
      disabled={!ready || (busy !== undefined && busy !== action)}
      onClick={() => void start(action)}
    >
      {children}
    </Button>
  );
}

/** Refusals that are no fault. */
const quiet = ["CEREMONY_PRESS_AGAIN", "KEY_WAITING", "ENROLMENT_LEFT"];

function RefusalNote({ refusal, onAddPasskey }: { refusal: Refusal; onAddPasskey: () => void }) {
  const advice = adviceFor(refusal);
  const ways = {
    reload: <Button onClick={() => window.location.reload()}>Reload the page</Button>,
    "sign-in": (
      <ButtonLink appearance="primary" href={signInPath()}>
        Sign in with Bitbucket
      </ButtonLink>
    ),
    "new-passkey": <Button onClick={onAddPasskey}>Make a passkey on this device</Button>,
    passkeys: <a href="/settings/passkeys">Your passkeys</a>,
    again: null,
  };
  return (
    <Note
      tone={quiet.includes(refusal.code) ? "information" : "danger"}
      title={advice.title}
      urgent
      actions={advice.way && ways[advice.way]}
    >
      {advice.text}
    </Note>
  );
}

const outcomes: Record<DecisionAction, string> = {
  APPROVE: "You approved this commit",
  REJECT: "You rejected this commit",
  WITHDRAW: "You withdrew your decision",
  OVERRIDE: "You overrode the rule for this commit",
};

function Outcome({ made, path, url }: { made: Made; path: string; url: string }) {
  return (
    <Note
      tone="success"
      title={outcomes[made.action]}
      urgent
      actions={
        <>
          <ButtonLink href={path}>Back to the approvals</ButtonLink>
          <ExternalLink className="sa-button sa-button--subtle" href={url}>
            Pull request on Bitbucket
          </ExternalLink>
        </>
      }
    >
      <InLog path={made.receiptPath} statementSha256={made.statementSha256} />
      <dl className="sign__record">
        <dt>Signed</dt>
        <dd>
          <Time value={made.decidedAt} exact />
        </dd>
        <dt>
          <Icon name="key" /> SHA-256 of the statement that your passkey signed
        </dt>
        <dd>
          <FullCommit hash={made.statementSha256} />
        </dd>
        <dt>Its leaf in the log</dt>
        <dd>
          <FullCommit hash={made.leafHash} />
        </dd>
      </dl>
    </Note>
  );
}
