import { openGraph } from "@signedapproval/graph/client";
import { GraphProvider } from "@signedapproval/graph/provider";
import { openHost } from "@signedapproval/host/here";
import { showWhenReady } from "@signedapproval/ui/page";
import { Panel } from "./Panel.tsx";

showWhenReady(async () => {
  const host = await openHost();
  return (
    <GraphProvider graph={openGraph(host.transport)}>
      <Panel host={host} />
    </GraphProvider>
  );
});
