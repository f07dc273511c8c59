import { useEffect, useRef, useState } from "react";
import type { Question, Reply } from "./enrolment.ts";

/** A question that waits for the person's reply. */
export interface Open extends Question {
  reply: (reply: Reply) => void;
}

/** Asks the person one question at a time. Leaving the page leaves the question. */
export function useConfirmation(): [Open | null, (question: Question) => Promise<Reply>] {
  const [open, setOpen] = useState<Open | null>(null);
  const pending = useRef<((reply: Reply) => void) | null>(null);
  useEffect(() => () => pending.current?.("leave"), []);
  const ask = (question: Question) =>
    new Promise<Reply>((resolve) => {
      pending.current = (reply) => {
        pending.current = null;
        setOpen(null);
        resolve(reply);
      };
      setOpen({ ...question, reply: pending.current });
    });
  return [open, ask];
}
