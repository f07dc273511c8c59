import type { ReactNode } from "react";
import { Icon, type IconName } from "./Icon.tsx";
import type { Tone } from "./Lozenge.tsx";
import "./Note.css";

const icons: Record<Tone, IconName> = {
  neutral: "information",
  information: "information",
  success: "check",
  warning: "warning",
  danger: "error",
  discovery: "information",
};

export interface NoteProps {
  tone?: Tone;
  title?: ReactNode;
  children?: ReactNode;
  /** What the reader can do about it. */
  actions?: ReactNode;
  /** Spoken as soon as it appears: for what the reader's own action brought about. */
  urgent?: boolean;
}

/** Something that the reader should know before going on. */
export function Note({ tone = "neutral", title, children, actions, urgent = false }: NoteProps) {
  return (
    <div className={`sa-note sa-note--${tone}`} {...(urgent && { role: "alert" })}>
      <span className="sa-note__icon">
        <Icon name={icons[tone]} />
      </span>
      <div className="sa-note__body">
        {title && <p className="sa-note__title">{title}</p>}
        {children && <div>{children}</div>}
        {actions && <div className="sa-note__actions">{actions}</div>}
      </div>
    </div>
  );
}
