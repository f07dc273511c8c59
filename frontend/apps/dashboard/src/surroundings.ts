import type { Host } from "@signedapproval/host/host";
import { createContext, useContext } from "react";

/** What surrounds the dashboard: a window of its own, or Bitbucket's frame. */
export const Surroundings = createContext<Host | null>(null);

/** What surrounds the dashboard. */
export function useHost(): Host {
  const host = useContext(Surroundings);
  if (!host) throw new Error("useHost stands outside of Surroundings");
  return host;
}
