import { type InputHTMLAttributes, type ReactNode, useId } from "react";
import { Icon } from "./Icon.tsx";
import "./Field.css";

/** What a control needs so that its label, hint and problem belong to it. */
export interface Control {
  id: string;
  className: string;
  "aria-describedby"?: string;
  "aria-invalid"?: true;
}

export interface FieldProps {
  label: string;
  /** What may be entered. */
  hint?: ReactNode;
  /** Why what was entered is refused; empty or absent where nothing is wrong. */
  problem?: string | undefined;
  children: (control: Control) => ReactNode;
}

/** A form control with its label above it, and its hint and its problem below. */
export function Field({ label, hint, problem, children }: FieldProps) {
  const id = useId();
  const described = [hint && `${id}-hint`, problem && `${id}-problem`].filter(Boolean).join(" ");
  return (
    <div className="sa-field">
      <label className="sa-field__label" htmlFor={id}>
        {label}
      </label>
      {children({
        id,
        className: "sa-input",
        ...(described && { "aria-describedby": described }),
        ...(problem && { "aria-invalid": true as const }),
      })}
      {hint && (
        <p className="sa-field__hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
      <Problem id={`${id}-problem`} text={problem} />
    </div>
  );
}

/** Why something beside it is refused; nothing where the text is empty. */
export function Problem({ id, text }: { id?: string; text?: string | undefined }) {
  if (!text) return null;
  return (
    <p className="sa-field__problem" role="alert" {...(id && { id })}>
      <Icon name="error" />
      <span>{text}</span>
    </p>
  );
}

export interface CheckProps extends Omit<InputHTMLAttributes<HTMLInputElement>, "type"> {
  label: ReactNode;
  hint?: ReactNode;
  /** One of several instead of yes or no. */
  radio?: boolean;
}

/** A check box or radio button with its label. */
export function Check({ label, hint, radio = false, ...rest }: CheckProps) {
  const id = useId();
  return (
    <div className="sa-check">
      <input
        {...rest}
        id={id}
        type={radio ? "radio" : "checkbox"}
        {...(hint && { "aria-describedby": `${id}-hint` })}
      />
      <div>
        <label htmlFor={id}>{label}</label>
        {hint && (
          <span className="sa-check__hint" id={`${id}-hint`}>
            {hint}
          </span>
        )}
      </div>
    </div>
  );
}
