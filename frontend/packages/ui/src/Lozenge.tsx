import type { ReactNode } from "react";
import "./Lozenge.css";

/** What a colour means, everywhere. */
export type Tone = "neutral" | "information" | "success" | "warning" | "danger" | "discovery";

/** A state in one or two words. */
export function Lozenge({ tone = "neutral", children }: { tone?: Tone; children: ReactNode }) {
  return <span className={`sa-lozenge sa-lozenge--${tone}`}>{children}</span>;
}
