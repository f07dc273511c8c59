import { failureOf } from "@signedapproval/graph/failure";
import { graphql } from "@signedapproval/graph/generated";
import type { AnyVariables, Client, TypedDocumentNode } from "urql";
import { checkStatement, type Prepared, type Shown, StatementMismatch } from "./statement.ts";
import { CeremonyError, createPasskey, signWithPasskey } from "./webauthn.ts";

const BeginPasskey = graphql(`
  mutation BeginPasskey($input: BeginPasskeyInput!) {
    beginPasskey(input: $input) {
      options
      userErrors {
        code
        message
        path
      }
    }
  }
`);

const FinishPasskey = graphql(`
  mutation FinishPasskey($input: FinishPasskeyInput!) {
    finishPasskey(input: $input) {
      passkey {
        id
        name
        createdAt
        lastUsedAt
        revokedAt
        synced
      }
      userErrors {
        code
        message
        path
      }
    }
  }
`);

const PrepareDecision = graphql(`
  mutation PrepareDecision($input: PrepareDecisionInput!) {
    prepareDecision(input: $input) {
      statement
      commentSalt
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

/** Why nothing was decided: a code of the server's, or one of the page's own, and a sentence. */
export class Refusal extends Error {
  readonly code: string;

  constructor(code: string, message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
  }
}

/** How far a decision has come. */
export type Step = "enrolling" | "preparing" | "signing" | "submitting";

/** A decision that was made. */
export interface Made {
  action: Shown["action"];
  decidedAt: string;
  /** The SHA-256 of the statement, as this page computed it over the bytes that were signed. */
  statementSha256: string;
  leafHash: string;
  /** The request's sentence afterwards. */
  sentence: string;
}

export interface DecideInput {
  client: Client;
  requestId: string;
  shown: Shown;
  /** Whether the viewer has a passkey that can sign. */
  enrolled: boolean;
  /** Called with each step as it begins. */
  onStep: (step: Step) => void;
}

/**
 * Makes a decision: enrols a passkey where there is none, has the statement prepared, checks that it says what the page
 * shows, has it signed, and submits it. Throws a {@link Refusal}; nothing was decided then.
 */
export async function decide({ client, requestId, shown, enrolled, onStep }: DecideInput): Promise<Made> {
  if (!enrolled) {
    onStep("enrolling");
    await enrol(client);
  }
  onStep("preparing");
  let prepared = await prepare(client, requestId, shown);
  if (!prepared.options) {
    onStep("enrolling");
    await enrol(client);
    onStep("preparing");
    prepared = await prepare(client, requestId, shown);
  }
  const { statement, options, commentSalt } = prepared;
  if (!statement || !options) throw new Refusal("NO_STATEMENT", "The server prepared nothing to sign.");
  const statementSha256 = await checked({ statement, options, commentSalt }, shown);

  onStep("signing");
  const response = await ceremony(() => signWithPasskey(options));

  onStep("submitting");
  const { submitDecision } = await mutate(client, SubmitDecision, { input: { requestId, response } });
  refuse(submitDecision.userErrors);
  const { decision, request } = submitDecision;
  if (!decision)
    throw new Refusal("NO_DECISION", "The server did not confirm the decision. Reload to see where it stands.");
  if (decision.statementSha256 !== statementSha256) {
    throw new Refusal("OTHER_STATEMENT", "The server recorded another statement than the one that you signed.");
  }
  const { action, decidedAt, leafHash } = decision;
  return { action, decidedAt, leafHash, statementSha256, sentence: request?.sentence ?? "" };
}

/** Enrols a passkey of the viewer. Throws a {@link Refusal}. */
export async function enrol(client: Client, name?: string): Promise<void> {
  const named = name ? { name } : {};
  const { beginPasskey } = await mutate(client, BeginPasskey, { input: named });
  refuse(beginPasskey.userErrors);
  const { options } = beginPasskey;
  if (!options) throw new Refusal("NO_OPTIONS", "The server did not say what passkey to make.");
  const response = await ceremony(() => createPasskey(options));
  const { finishPasskey } = await mutate(client, FinishPasskey, { input: { ...named, response } });
  refuse(finishPasskey.userErrors);
}

async function prepare(client: Client, requestId: string, shown: Shown) {
  const { action, comment, headCommit, diffSha256 } = shown;
  const input = { requestId, action, headCommit, diffSha256, ...(comment && { comment }) };
  const { prepareDecision } = await mutate(client, PrepareDecision, { input });
  refuse(prepareDecision.userErrors);
  return prepareDecision;
}

async function checked(prepared: Prepared, shown: Shown): Promise<string> {
  try {
    return await checkStatement(prepared, shown);
  } catch (error) {
    if (!(error instanceof StatementMismatch)) throw error;
    throw new Refusal(
      "STATEMENT_MISMATCH",
      `What was prepared for signing differs from this page in ${error.difference}.`,
      error,
    );
  }
}

async function ceremony(run: () => Promise<string>): Promise<string> {
  try {
    return await run();
  } catch (error) {
    if (!(error instanceof CeremonyError)) throw error;
    throw new Refusal(`CEREMONY_${error.problem.replaceAll("-", "_").toUpperCase()}`, error.message, error);
  }
}

async function mutate<Data, Variables extends AnyVariables>(
  client: Client,
  document: TypedDocumentNode<Data, Variables>,
  variables: Variables,
): Promise<Data> {
  const { data, error } = await client.mutation(document, variables).toPromise();
  const failure = failureOf(error);
  if (failure) throw new Refusal(failure.code || failure.kind, failure.message, error);
  if (!data) throw new Refusal("unavailable", "The server gave no answer.");
  return data;
}

function refuse(errors: readonly { code: string; message: string }[]) {
  const [first] = errors;
  if (first) throw new Refusal(first.code, first.message);
}
