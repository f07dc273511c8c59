import { openGraph } from "@signedapproval/graph/client";
import { GraphProvider } from "@signedapproval/graph/provider";
import { show } from "@signedapproval/ui/page";
import { SignPage } from "./SignPage.tsx";

show(
  <GraphProvider graph={openGraph()}>
    <SignPage />
  </GraphProvider>,
);
