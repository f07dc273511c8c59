import { createContext, createElement, type ReactNode, useContext, useSyncExternalStore } from "react";
import { Provider } from "urql";
import type { Graph } from "./client.ts";
import type { LiveState, LiveUpdates } from "./live.ts";

const LiveContext = createContext<LiveUpdates | null>(null);

/** Gives the API to everything inside. */
export function GraphProvider({ graph, children }: { graph: Graph; children: ReactNode }) {
  return createElement(
    Provider,
    { value: graph.client },
    createElement(LiveContext.Provider, { value: graph.live }, children),
  );
}

/** Whether live updates are arriving. */
export function useLive(): LiveState {
  const live = useContext(LiveContext);
  if (!live) throw new Error("useLive stands outside of a GraphProvider");
  return useSyncExternalStore(live.subscribe, () => live.state);
}
