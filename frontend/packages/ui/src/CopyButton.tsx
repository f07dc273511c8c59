import { useEffect, useState } from "react";
import { Button } from "./Button.tsx";
import { Icon } from "./Icon.tsx";

/** Copies a text and says whether that worked. */
export function CopyButton({ text, label }: { text: string; label: string }) {
  const [outcome, setOutcome] = useState("");
  useEffect(() => {
    if (!outcome) return;
    const timer = setTimeout(() => setOutcome(""), 3_000);
    return () => clearTimeout(timer);
  }, [outcome]);

  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setOutcome("Copied");
    } catch {
      setOutcome("Could not copy: select the text instead");
    }
  };
  return (
    <>
      <Button appearance="subtle" aria-label={label} title={label} onClick={() => void copy()}>
        <Icon name={outcome === "Copied" ? "check" : "copy"} />
      </Button>
      <span role="status" className={outcome && outcome !== "Copied" ? "sa-small" : "sa-hidden"}>
        {outcome}
      </span>
    </>
  );
}
