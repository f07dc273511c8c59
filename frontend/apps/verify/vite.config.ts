import react from "@vitejs/plugin-react";
import { defineConfig, mergeConfig } from "vite";
import { entry } from "../../vite.base.ts";
import { verifier } from "../../vite.verifier.ts";

export default defineConfig(({ mode }) =>
  mergeConfig(entry("verify", mode), {
    plugins: [react(), verifier()],
    // The worker runs the module that the page hands it, and carries none itself.
    worker: { plugins: () => [verifier()] },
  }),
);
