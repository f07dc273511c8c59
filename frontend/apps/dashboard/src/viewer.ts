import type { Signer } from "@signedapproval/sign/prepared";
import { createContext, useContext } from "react";

/** Who the shell has read that is signed in, in whose name everything is signed. */
export const SignedIn = createContext<Signer | null>(null);

/** Who is signed in. */
export function useViewer(): Signer {
  const viewer = useContext(SignedIn);
  if (!viewer) throw new Error("useViewer stands outside of the shell");
  return viewer;
}
