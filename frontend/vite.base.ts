import { fileURLToPath } from "node:url";
import { defaultClientConditions, type Plugin, type UserConfig } from "vite";
import { registeredDocuments } from "./vite.documents.ts";

/**
 * What every entry has in common. The server serves `dist/<app>/index.html` as a page that is never cached and every
 * other file of `dist/<app>` below `/assets/<app>/` as immutable, for its name holds the hash of its bytes. With the mode
 * `forge` the entry goes to `dist-forge/<app>`, which Atlassian serves inside Bitbucket from an address of its own
 * choice: every file names the others relatively, and the surroundings are Bitbucket's frame.
 *
 * Nothing may be inlined into the page (no data: URL, no preload polyfill): the policies that our server and Atlassian
 * send allow scripts and styles from their own origin only.
 */
export function entry(name: string, mode: string): UserConfig {
  const forge = mode === "forge";
  return {
    root: fileURLToPath(new URL(`apps/${name}/`, import.meta.url)),
    base: forge ? "./" : `/assets/${name}/`,
    plugins: [registeredDocuments(), ...(forge ? [serverOrigin(process.env["VITE_SIGNEDAPPROVAL_ORIGIN"] ?? "")] : [])],
    resolve: { conditions: [...(forge ? ["forge"] : []), ...defaultClientConditions] },
    build: {
      outDir: fileURLToPath(new URL(`${forge ? "dist-forge" : "dist"}/${name}/`, import.meta.url)),
      emptyOutDir: true,
      assetsDir: "",
      assetsInlineLimit: 0,
      modulePreload: { polyfill: false },
      target: "es2024",
    },
  };
}

/**
 * Writes the origin of our server into the page, where the frame looks for it. A page that was built without one says
 * so and does nothing else.
 */
function serverOrigin(origin: string): Plugin {
  if (origin && (!URL.canParse(origin) || new URL(origin).origin !== origin)) {
    throw new Error(`VITE_SIGNEDAPPROVAL_ORIGIN is no origin, such as https://signedapproval.example: ${origin}`);
  }
  return {
    name: "server-origin",
    transformIndexHtml: () => [
      { tag: "meta", attrs: { name: "signedapproval-origin", content: origin }, injectTo: "head-prepend" },
    ],
  };
}
