import { defineConfig, mergeConfig } from "vite";
import { entry } from "../../vite.base.ts";

// The panel is loaded with every pull request, so it carries Preact where the other entries carry React. The longer
// names come first: an alias also matches whatever begins with it.
export default defineConfig(
  mergeConfig(entry("panel"), {
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
