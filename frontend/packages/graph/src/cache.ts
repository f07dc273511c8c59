import type { Exchange, OperationResult } from "@urql/core";
import { type Cache, cacheExchange, type KeyingConfig, type UpdateResolver } from "@urql/exchange-graphcache";
import { map, pipe, tap } from "wonka";
import schema from "./generated/introspection.ts";

/**
 * How objects without an identifier are kept. Whatever is not named here and has no `id` is kept inside its parent. The
 * viewer and the server are one each, and an account is the same wherever it is named.
 */
const singular: KeyingConfig = {
  Viewer: () => "viewer",
  Server: () => "server",
  Account: (account) => account["accountId"] as string,
};

function keys(): KeyingConfig {
  const inside: KeyingConfig = {};
  for (const type of schema.__schema.types) {
    if (type.kind !== "OBJECT" || type.fields.some((field) => field.name === "id")) continue;
    inside[type.name] = () => null;
  }
  return { ...inside, ...singular };
}

/** Forgets what was answered below a field, whatever its arguments: screens that show it ask again. */
function forget(cache: Cache, entity: string, ...names: string[]) {
  for (const { fieldName, fieldKey } of cache.inspectFields(entity)) {
    if (names.includes(fieldName)) cache.invalidate(entity, fieldKey);
  }
}

/** A mutation that moves things in or out of lists of a workspace. */
const movesInWorkspace: UpdateResolver = (_result, _input, cache) => {
  forget(cache, "Query", "workspace");
  forget(cache, "Viewer:viewer", "workspaces", "grants");
};

/** A mutation that moves the viewer's passkeys. */
const changesPasskeys: UpdateResolver = (_result, _input, cache) => forget(cache, "Viewer:viewer", "passkeys");

/** A mutation about one key, with which others may fall. */
const movesKeys: UpdateResolver = (result, input, cache, info) => {
  movesInWorkspace(result, input, cache, info);
  changesPasskeys(result, input, cache, info);
};

/** The normalised cache: an object that one answer brings is new on every part of the screen that shows it. */
export function normalizedCache(): Exchange {
  return cacheExchange({
    schema,
    keys: keys(),
    updates: {
      Mutation: {
        connectWorkspace: movesInWorkspace,
        disconnectWorkspace: movesInWorkspace,
        saveRepository: movesInWorkspace,
        removeRepository: movesInWorkspace,
        createApiToken: movesInWorkspace,
        finishPasskey: changesPasskeys,
        confirmPasskey: changesPasskeys,
        reportLostPasskeys: changesPasskeys,
        signKeyAct: movesKeys,
        proposeProtection: movesInWorkspace,
        signProposal: movesKeys,
      },
    },
  });
}

/**
 * Lets no answer through that the cache put together out of parts: what it does not have yet stands there as null, and a
 * screen would say that there is nothing before anybody has looked. The last whole answer or error takes its place, or
 * none. This stands before the cache.
 */
export const wholeAnswers: Exchange =
  ({ forward }) =>
  (operations$) => {
    const whole = new Map<number, Pick<OperationResult, "data" | "error">>();
    return pipe(
      operations$,
      tap((operation) => {
        if (operation.kind === "teardown") whole.delete(operation.key);
      }),
      forward,
      map((result) => {
        const { key, kind, context } = result.operation;
        if (kind !== "query") return result;
        if (context.meta?.cacheOutcome === "partial") {
          const { error: _, ...part } = result;
          return { ...part, data: undefined, ...whole.get(key) };
        }
        const { data, error } = result;
        whole.set(key, { data, ...(error && { error }) });
        return result;
      }),
    );
  };
