import "@signedapproval/ui/tokens.css";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { SignPage } from "./SignPage.tsx";

const root = document.getElementById("root");
if (!root) throw new Error("the page has no #root");
createRoot(root).render(
  <StrictMode>
    <SignPage />
  </StrictMode>,
);
