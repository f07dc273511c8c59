import "@signedapproval/ui/tokens.css";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Panel } from "./Panel.tsx";

const root = document.getElementById("root");
if (!root) throw new Error("the page has no #root");
createRoot(root).render(
  <StrictMode>
    <Panel />
  </StrictMode>,
);
