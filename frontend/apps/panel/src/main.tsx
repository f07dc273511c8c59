import { openGraph } from "@signedapproval/graph/client";
import { GraphProvider } from "@signedapproval/graph/provider";
import { webHost } from "@signedapproval/host/web";
import { show } from "@signedapproval/ui/page";
import { Panel } from "./Panel.tsx";

const host = webHost();
const mode = host.colorMode();
if (mode) document.documentElement.dataset["colorMode"] = mode;

show(
  <GraphProvider graph={openGraph()}>
    <Panel host={host} />
  </GraphProvider>,
);
