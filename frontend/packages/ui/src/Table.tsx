import type { ReactNode } from "react";
import "./Table.css";

export interface TableProps {
  /** What the table holds; read aloud, not shown. */
  caption: string;
  /** The columns' headings, from left to right. An empty one is a column of actions. */
  columns: readonly string[];
  /** One or several `<tbody>`. */
  children: ReactNode;
}

/** A table that scrolls sideways, with the keyboard too, where the screen is narrow. */
export function Table({ caption, columns, children }: TableProps) {
  const className = columns.at(-1) ? "sa-table" : "sa-table sa-table--actions";
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable with the keyboard
    // biome-ignore lint/a11y/useSemanticElements: a fieldset is for controls, and a section would be a landmark
    <div className={className} role="group" aria-label={caption} tabIndex={0}>
      <table>
        <caption className="sa-hidden">{caption}</caption>
        <thead>
          <tr>
            {columns.map((column) => (
              <th key={column} scope="col">
                {column || <span className="sa-hidden">Actions</span>}
              </th>
            ))}
          </tr>
        </thead>
        {children}
      </table>
    </div>
  );
}
