import type { ReactNode } from "react";
import "./EmptyState.css";

export interface EmptyStateProps {
  title: string;
  children?: ReactNode;
  action?: ReactNode;
}

/** Nothing is here, why that is, and what could be done about it. */
export function EmptyState({ title, children, action }: EmptyStateProps) {
  return (
    <div className="sa-empty">
      <p className="sa-empty__title">{title}</p>
      {children && <p className="sa-empty__text">{children}</p>}
      {action}
    </div>
  );
}
