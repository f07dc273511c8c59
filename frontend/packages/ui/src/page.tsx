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
  open().then(show, (error: unknown) => {
    show(
      <main>
        <Note tone="danger" title="This page could not start" urgent>
          {error instanceof Error ? error.message : "Reload it."}
        </Note>
      </main>,
    );
  });
}
