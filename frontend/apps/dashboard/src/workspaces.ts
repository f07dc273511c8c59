import { createContext, useContext } from "react";

/** A connected workspace of which the viewer is a member. */
export interface MemberWorkspace {
  id: string;
  uuid: string;
  slug: string;
  name: string;
  viewerIsAdmin: boolean;
}

/** What the shell has read before any page is shown. */
export const Workspaces = createContext<readonly MemberWorkspace[]>([]);

/** The viewer's workspaces, by name. */
export function useWorkspaces(): readonly MemberWorkspace[] {
  return useContext(Workspaces);
}
