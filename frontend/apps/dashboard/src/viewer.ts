import { createContext, useContext } from "react";

/** Who is signed in: their Bitbucket account. */
export interface SignedInViewer {
  accountId: string;
  name: string;
}

/** Who the shell has read that is signed in. */
export const SignedIn = createContext<SignedInViewer | null>(null);

/** Who is signed in. */
export function useViewer(): SignedInViewer {
  const viewer = useContext(SignedIn);
  if (!viewer) throw new Error("useViewer stands outside of the shell");
  return viewer;
}
