import type { Plugin } from "vite";

const call = /\bgraphql\(\s*`([^`]*)`\s*,?\s*\)/gu;
const definition = /\b(query|mutation|subscription|fragment)\s+(\w+)/u;

/**
 * Puts the generated document in the place of each `graphql(…)` call. The function itself finds a document in a table of
 * all of them, by which every page would carry the documents of every other page.
 */
export function registeredDocuments(): Plugin {
  return {
    name: "registered-documents",
    enforce: "pre",
    transform(code, id) {
      if (!/\.tsx?$/u.test(id) || id.includes("/generated/") || !code.includes("graphql(`")) return null;
      const documents = new Set<string>();
      const replaced = code.replace(call, (whole, text: string) => {
        const [, kind, name] = definition.exec(text) ?? [];
        if (!kind || !name) throw new Error(`${id}: a graphql(…) call without a named definition`);
        const identifier = constantOf(kind, name);
        documents.add(identifier);
        // As many lines as before, so that positions in errors stay right.
        return identifier + "\n".repeat(whole.split("\n").length - 1);
      });
      const names = [...documents].join(", ");
      return { code: `import { ${names} } from "@signedapproval/graph/generated/graphql.ts"; ${replaced}`, map: null };
    },
  };
}

/** The constant that the code generator names after a definition. */
function constantOf(kind: string, name: string): string {
  const pascal = name.replace(/(^|_)(\w)/gu, (_, edge: string, first: string) => edge + first.toUpperCase());
  return pascal + (kind === "fragment" ? "FragmentDoc" : "Document");
}
