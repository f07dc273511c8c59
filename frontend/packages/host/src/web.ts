import "@signedapproval/ui/tokens.css";
import type { Host } from "./host.ts";
import { placeOf } from "./place.ts";

/** How long a notification stays, in milliseconds. */
const shown = 8_000;

/** A page of its own on our origin. */
export function webHost(page: Window & typeof globalThis = window): Host {
  const send: typeof fetch = (...call) => page.fetch(...call);
  return {
    transport: { fetch: send, stream: send, streamOrigin: null },
    standsAlone: true,
    start: null,
    context: () => placeOf(page.location.pathname),
    address: (path) => path,
    openExternal: async (url) => {
      // Without an opener the two pages cannot reach each other, and the browser does not tell whether one opened. The
      // outcome comes from the server.
      page.open(url, "_blank", "noopener");
      return true;
    },
    notify: ({ title, tone }) => {
      const note = page.document.createElement("p");
      note.className = `sa-toast sa-toast--${tone}`;
      note.setAttribute("role", "status");
      page.document.body.append(note);
      // Filled after it is in the page, so that screen readers speak it.
      note.textContent = title;
      page.setTimeout(() => note.remove(), shown);
    },
  };
}

/** The surroundings of this page. The build for Bitbucket's frame takes forge.ts in place of this file. */
export async function openHost(): Promise<Host> {
  return webHost();
}
