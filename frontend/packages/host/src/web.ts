import type { Host, PullRequestPlace } from "./host.ts";

const uuid = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}";
const place = new RegExp(`^/(?:pr|sign)/(${uuid})/(${uuid})/([1-9][0-9]{0,8})/?$`, "i");

/** Reads the pull request out of a path of ours, `/pr/{workspace}/{repository}/{number}`; null where it names none. */
export function placeOf(path: string): PullRequestPlace | null {
  const [, workspace, repository, number] = place.exec(path) ?? [];
  if (!workspace || !repository || !number) return null;
  return { workspace: workspace.toLowerCase(), repository: repository.toLowerCase(), number: Number(number) };
}

/** How long a notification stays, in milliseconds. */
const shown = 8_000;

/** The panel as a page of its own on our origin. */
export function webHost(page: Window & typeof globalThis = window): Host {
  return {
    context: () => placeOf(page.location.pathname),
    // Without an opener the two pages cannot reach each other; the outcome comes from the server.
    openExternal: (url) => void page.open(url, "_blank", "noopener"),
    notify: ({ title, tone }) => {
      const note = page.document.createElement("p");
      note.className = `sa-toast sa-toast--${tone}`;
      note.setAttribute("role", "status");
      page.document.body.append(note);
      // Filled after it is in the page, so that screen readers speak it.
      note.textContent = title;
      page.setTimeout(() => note.remove(), shown);
    },
    colorMode: () => null,
  };
}
