import { openGraph } from "@signedapproval/graph/client";
import { GraphProvider } from "@signedapproval/graph/provider";
import { openHost } from "@signedapproval/host/here";
import { showWhenReady } from "@signedapproval/ui/page";
import { RouterProvider } from "@tanstack/react-router";
import { createDashboardRouter, historyFor } from "./router.tsx";
import { Surroundings } from "./surroundings.ts";

showWhenReady(async () => {
  const host = await openHost();
  return (
    <Surroundings value={host}>
      <GraphProvider graph={openGraph(host.transport)}>
        <RouterProvider router={createDashboardRouter(historyFor(host))} />
      </GraphProvider>
    </Surroundings>
  );
});
