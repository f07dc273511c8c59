import { createHash } from "node:crypto";
import type { CodegenConfig } from "@graphql-codegen/cli";
import { addTypenameSelectionDocumentTransform } from "@graphql-codegen/client-preset";

// From the schema and from the operations that components declare with graphql(`…`): their types, the shape of the
// schema that the normalised cache needs, and persisted-documents.json, every operation by the SHA-256 of its text. The
// server embeds that file and answers the front end by hash, so the text must be the one that the client's cache asks
// for: __typename is selected here and not at run time.
const config: CodegenConfig = {
  schema: "graph/schema/*.graphqls",
  documents: ["frontend/apps/*/src/**/*.{ts,tsx}", "frontend/packages/*/src/**/*.{ts,tsx}", "!**/generated/**"],
  ignoreNoDocuments: true,
  silent: true,
  generates: {
    "frontend/packages/graph/src/generated/": {
      preset: "client",
      documentTransforms: [addTypenameSelectionDocumentTransform],
      presetConfig: {
        // Not useFragment, the preset's own name: it is no hook.
        fragmentMasking: { unmaskFunctionName: "readFragment" },
        persistedDocuments: {
          hashAlgorithm: (text: string) => createHash("sha256").update(text).digest("hex"),
        },
      },
      config: {
        enumsAsTypes: true,
        useTypeImports: true,
        strictScalars: true,
        scalars: { Time: "string" },
      },
    },
    "frontend/packages/graph/src/generated/introspection.ts": {
      plugins: ["urql-introspection"],
      config: { useTypeImports: true },
    },
  },
};

export default config;
