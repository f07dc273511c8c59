import { type ReactNode, StrictMode } from "react";
import { createRoot } from "react-dom/client";
import "./tokens.css";
import "./base.css";

/** Puts a page into its document. */
export function show(page: ReactNode) {
  const root = document.getElementById("root");
  if (!root) throw new Error("the page has no #root");
  createRoot(root).render(<StrictMode>{page}</StrictMode>);
}
