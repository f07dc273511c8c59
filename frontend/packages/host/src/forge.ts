// The only file that knows the bridge to Bitbucket's frame. Whoever loads it outside of such a frame gets an error from
// the bridge at once, so it is imported only when it is wanted.
import { bridgeFetch, within } from "./bridgefetch.ts";
import { colorModeOf, type ForgeContext, placeIn } from "./forgecontext.ts";
import { type Host, HostUnavailable, type Notification } from "./host.ts";

/** How long Bitbucket may take to say where the frame stands, in milliseconds. */
const contextTimeout = 10_000;

/** How long the page waits for Bitbucket's colours before it takes its own, in milliseconds. */
const themeTimeout = 3_000;

type Bridge = typeof import("@forge/bridge");

const flags = { information: "info", success: "success", warning: "warning", danger: "error" } as const;

/** The surroundings of this page: a frame of Bitbucket's. Throws {@link HostUnavailable}. */
export async function openHost(page: Window & typeof globalThis = window): Promise<Host> {
  const origin = originIn(page.document);
  const bridge = await reach(() => import("@forge/bridge"));
  const context: ForgeContext = await reach(() => within(bridge.view.getContext(), contextTimeout));
  await takeColors(bridge, context, page);
  const { pullRequest, start } = placeIn(context);
  let told = 0;
  return {
    transport: {
      fetch: bridgeFetch(bridge.invokeRemote),
      // The bridge passes no stream on, so this one goes to our server itself.
      stream: (...call) => page.fetch(...call),
      streamOrigin: origin,
    },
    standsAlone: false,
    start,
    context: () => pullRequest,
    address: (path) => new URL(path, origin).href,
    openExternal: async (url) => {
      try {
        await bridge.router.open(url);
        return true;
      } catch {
        return openWindow(page, url);
      }
    },
    notify: ({ title, tone }: Notification) => {
      told += 1;
      bridge.showFlag({ id: `signedapproval-${told}`, title, type: flags[tone], isAutoDismiss: true });
    },
  };
}

/**
 * The origin of our pages and streams, which the build wrote into the page. A page that was built without one would
 * send people and tokens to nowhere, or to anywhere.
 */
function originIn(document: Document): string {
  const content = document.querySelector<HTMLMetaElement>('meta[name="signedapproval-origin"]')?.content ?? "";
  const local = /^http:\/\/(?:localhost|127\.0\.0\.1)(?::[0-9]+)?$/u.test(content);
  if (URL.canParse(content) && new URL(content).origin === content && (content.startsWith("https:") || local)) {
    return content;
  }
  throw new HostUnavailable("This page was built without the address of its server. Tell an administrator.");
}

async function reach<Value>(ask: () => Promise<Value>): Promise<Value> {
  try {
    return await ask();
  } catch (error) {
    throw new HostUnavailable("Bitbucket does not answer this page. Reload it; it works only inside Bitbucket.", {
      cause: error,
    });
  }
}

/** Takes Bitbucket's colours, or our own copy of them where Bitbucket gives none. */
async function takeColors(bridge: Bridge, context: ForgeContext, page: Window & typeof globalThis) {
  try {
    await within(bridge.view.theme.enable(), themeTimeout);
  } catch {
    // Seen below: there are no colours then.
  }
  const root = page.document.documentElement;
  if (page.getComputedStyle(root).getPropertyValue("--ds-surface").trim()) return;
  const mode = colorModeOf(context);
  if (mode) root.dataset["colorMode"] = mode;
  await import("@signedapproval/ui/tokens.css");
}

/** The way that is left where Bitbucket opens nothing; its frame may forbid this one too. */
function openWindow(page: Window & typeof globalThis, url: string): boolean {
  const opened = page.open(url, "_blank");
  if (!opened) return false;
  opened.opener = null;
  return true;
}
