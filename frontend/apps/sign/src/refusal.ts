import { failureOf } from "@signedapproval/graph/failure";
import type { AnyVariables, Client, TypedDocumentNode } from "urql";
import { CeremonyError } from "./webauthn.ts";

/** Why nothing was done: a code of the server's, or one of the page's own, and a sentence. */
export class Refusal extends Error {
  readonly code: string;

  constructor(code: string, message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
  }
}

/** Runs a WebAuthn ceremony. Throws a {@link Refusal} where it comes to nothing. */
export async function ceremony(run: () => Promise<string>): Promise<string> {
  try {
    return await run();
  } catch (error) {
    if (!(error instanceof CeremonyError)) throw error;
    throw new Refusal(`CEREMONY_${error.problem.replaceAll("-", "_").toUpperCase()}`, error.message, error);
  }
}

/** Sends a mutation. Throws a {@link Refusal} where there is no answer; what the answer refuses is for {@link refuse}. */
export async function mutate<Data, Variables extends AnyVariables>(
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

/** Throws the first of a payload's errors. */
export function refuse(errors: readonly { code: string; message: string }[]): void {
  const [first] = errors;
  if (first) throw new Refusal(first.code, first.message);
}
