import { fileURLToPath } from "node:url";
import type { UserConfig } from "vite";
import { registeredDocuments } from "./vite.documents.ts";

/**
 * What every entry has in common. The server serves `dist/<app>/index.html` as a page that is never cached and every
 * other file of `dist/<app>` below `/assets/<app>/` as immutable, for its name holds the hash of its bytes.
 *
 * Nothing may be inlined into the page (no data: URL, no preload polyfill): the policy that the server sends allows
 * scripts and styles from its own origin only.
 */
export function entry(name: string): UserConfig {
  return {
    root: fileURLToPath(new URL(`apps/${name}/`, import.meta.url)),
    base: `/assets/${name}/`,
    plugins: [registeredDocuments()],
    build: {
      outDir: fileURLToPath(new URL(`dist/${name}/`, import.meta.url)),
      emptyOutDir: true,
      assetsDir: "",
      assetsInlineLimit: 0,
      modulePreload: { polyfill: false },
      target: "es2022",
    },
  };
}
