import "@signedapproval/ui/tokens.css";
import { openGraph } from "@signedapproval/graph/client";
import { GraphProvider } from "@signedapproval/graph/provider";
import { show } from "@signedapproval/ui/page";
import { SignPage } from "./SignPage.tsx";
import { takeTicket } from "./ticket.ts";

const ticket = takeTicket();

show(
  <GraphProvider graph={openGraph()}>
    <SignPage ticket={ticket} />
  </GraphProvider>,
);
