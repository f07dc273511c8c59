import { graphql } from "@signedapproval/graph/generated";
import type { Client } from "urql";
import { mutate, Refusal, refuse } from "./refusal.ts";
import { signDecision } from "./sign.ts";
import type { Shown } from "./statement.ts";

const PrepareDecision = graphql(`
  mutation PrepareDecision($input: PrepareDecisionInput!) {
    prepareDecision(input: $input) {
      statement
      commentSalt
      signerSalt
      options
      expiresAt
      userErrors {
        code
        message
        path
      }
    }
  }
`);

const SubmitDecision = graphql(`
  mutation SubmitDecision($input: SubmitDecisionInput!) {
    submitDecision(input: $input) {
      decision {
        id
        action
        decidedAt
        statementSha256
        leafHash
        receiptPath
      }
      request {
        id
        state
        sentence
        ...Decisions_request
        ...Decide_request
      }
      userErrors {
        code
        message
        path
      }
    }
  }
`);

/** How far a decision has come. */
export type Step = "enrolling" | "preparing" | "signing" | "submitting";

/** A decision that was made: signed and stored. Whether the log has it, its receipt tells. */
export interface Made {
  action: Shown["action"];
  decidedAt: string;
  /** The SHA-256 of the statement, as this page computed it over the bytes that were signed. */
  statementSha256: string;
  leafHash: string;
  /** Where the proof will be that it is recorded. */
  receiptPath: string;
  /** The request's sentence afterwards. */
  sentence: string;
}

export interface DecideInput {
  client: Client;
  requestId: string;
  shown: Shown;
  /** Whether the viewer has a passkey that can sign, or one that waits for an administrator. */
  enrolled: boolean;
  /** Enrols a passkey. Throws a {@link Refusal} where none can sign afterwards. */
  enrol: () => Promise<void>;
  /** Called with each step as it begins. */
  onStep: (step: Step) => void;
}

/**
 * Makes a decision: enrols a passkey where there is none, has the statement prepared, checks that it says what the page
 * shows, has it signed, and submits it. Throws a {@link Refusal}; nothing was decided then.
 */
export async function decide({ client, requestId, shown, enrolled, enrol, onStep }: DecideInput): Promise<Made> {
  if (!enrolled) {
    onStep("enrolling");
    await enrol();
  }
  onStep("preparing");
  let prepared = await prepare(client, requestId, shown);
  if (!prepared.options) {
    onStep("enrolling");
    await enrol();
    onStep("preparing");
    prepared = await prepare(client, requestId, shown);
  }
  const { statement, options, signerSalt, commentSalt } = prepared;
  if (!statement || !options || !signerSalt) throw new Refusal("NO_STATEMENT", "The server prepared nothing to sign.");

  onStep("signing");
  const { response, statementSha256 } = await signDecision({ statement, options, signerSalt, commentSalt }, shown);

  onStep("submitting");
  const { submitDecision } = await mutate(client, SubmitDecision, { input: { requestId, response } });
  refuse(submitDecision.userErrors);
  const { decision, request } = submitDecision;
  if (!decision)
    throw new Refusal("NO_DECISION", "The server did not confirm the decision. Reload to see where it stands.");
  if (decision.statementSha256 !== statementSha256) {
    throw new Refusal("OTHER_STATEMENT", "The server recorded another statement than the one that you signed.");
  }
  const { action, decidedAt, leafHash, receiptPath } = decision;
  return { action, decidedAt, leafHash, receiptPath, statementSha256, sentence: request?.sentence ?? "" };
}

async function prepare(client: Client, requestId: string, shown: Shown) {
  const { action, comment, headCommit, diffSha256 } = shown;
  const input = { requestId, action, headCommit, diffSha256, ...(comment && { comment }) };
  const { prepareDecision } = await mutate(client, PrepareDecision, { input });
  refuse(prepareDecision.userErrors);
  return prepareDecision;
}
