import { type ReactNode, StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Note } from "./Note.tsx";
import "./base.css";

/** Puts a page into its document. */
export function show(page: ReactNode) {
  const root = document.getElementById("root");
  if (!root) throw new Error("the page has no #root");
  createRoot(root).render(<StrictMode>{page}</StrictMode>);
}

/** Puts a page into its document as soon as it is there; the reason where it cannot be had. */
export function showWhenReady(open: () => Promise<ReactNode>) {
  open().then(show, async (error: unknown) => {
    // What surrounds the page gave it no colours; without any it is still better shown.
    await import("./tokens.css").catch(() => null);
    show(
      <main className="sa-stack sa-failed">
        <h1>This page could not start</h1>
        <Note tone="danger" urgent>
          {error instanceof Error ? error.message : "Reload it."}
        </Note>
      </main>,
    );
  });
}
