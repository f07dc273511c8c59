import { openGraph } from "@signedapproval/graph/client";
import { GraphProvider } from "@signedapproval/graph/provider";
import { show } from "@signedapproval/ui/page";
import { RouterProvider } from "@tanstack/react-router";
import { createDashboardRouter } from "./router.tsx";

show(
  <GraphProvider graph={openGraph()}>
    <RouterProvider router={createDashboardRouter()} />
  </GraphProvider>,
);
