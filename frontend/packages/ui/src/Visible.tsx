import { pieces } from "./characters.ts";
import "./Visible.css";

/**
 * Text of strangers, such as a title or a line of code. What would not show, or would make its neighbours show in
 * another order, stands as a mark in its place, and is read aloud by its name.
 */
export function Visible({ text }: { text: string }) {
  const parts = pieces(text);
  if (parts.length === 1 && !parts[0]?.mark) return text;
  let at = 0;
  return parts.map((part) => {
    const key = at;
    at += part.text.length;
    if (!part.mark) return <span key={key}>{part.text}</span>;
    return (
      <mark key={key} className="sa-mark" title={`${part.name} (${part.mark})`}>
        <span aria-hidden="true">{part.mark}</span>
        <span className="sa-hidden">{` ${part.name} `}</span>
      </mark>
    );
  });
}
