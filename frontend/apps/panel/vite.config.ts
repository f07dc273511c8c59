import { defineConfig, mergeConfig } from "vite";
import { entry } from "../../vite.base.ts";

// The panel is loaded with every pull request, so it carries Preact where the other entries carry React. Measured in the
// build for Bitbucket's frame, all JavaScript, gzip -9, of at most 110,000 bytes: 133,005 with React 19.3.1 and 72,819
// with Preact 11.2.0, of which the bridge is 27,578 and the GraphQL client most of the rest. The longer names come
// first: an alias also matches whatever begins with it.
export default defineConfig(({ mode }) =>
  mergeConfig(entry("panel", mode), {
    resolve: {
      alias: [
        { find: "react/jsx-runtime", replacement: "preact/jsx-runtime" },
        { find: "react/jsx-dev-runtime", replacement: "preact/jsx-dev-runtime" },
        { find: "react-dom/test-utils", replacement: "preact/test-utils" },
        { find: "react-dom/client", replacement: "preact/compat/client" },
        { find: "react-dom", replacement: "preact/compat" },
        { find: "react", replacement: "preact/compat" },
      ],
    },
  }),
);
