import type { AnchorHTMLAttributes, ButtonHTMLAttributes } from "react";
import { Spinner } from "./Spinner.tsx";
import "./Button.css";

/** How loudly a button speaks. A view has at most one primary button. */
export type Appearance = "default" | "primary" | "success" | "danger" | "outline" | "subtle" | "link";

interface Look {
  appearance?: Appearance;
  /** As wide as its container. */
  wide?: boolean;
}

function look({ appearance = "default", wide = false }: Look, extra?: string): string {
  return ["sa-button", `sa-button--${appearance}`, wide && "sa-button--wide", extra].filter(Boolean).join(" ");
}

export interface ButtonProps extends ButtonHTMLAttributes<HTMLButtonElement>, Look {
  /** What it started is still under way: pressing it again does nothing. */
  busy?: boolean;
}

/** A native button. While it is busy it keeps the focus, so a keyboard does not lose its place. */
export function Button({ appearance, wide, busy = false, className, children, onClick, ...rest }: ButtonProps) {
  const busyProps = busy ? ({ "aria-busy": true, "aria-disabled": true } as const) : {};
  return (
    <button
      type="button"
      {...rest}
      {...busyProps}
      className={look({ ...(appearance && { appearance }), ...(wide && { wide }) }, className)}
      onClick={(event) => {
        if (busy) event.preventDefault();
        else onClick?.(event);
      }}
    >
      {busy && <Spinner inline />}
      {children}
    </button>
  );
}

export interface ButtonLinkProps extends AnchorHTMLAttributes<HTMLAnchorElement>, Look {
  href: string;
}

/** A link that looks like a button: it leads somewhere and does nothing else. */
export function ButtonLink({ appearance, wide, className, children, ...rest }: ButtonLinkProps) {
  return (
    <a {...rest} className={look({ ...(appearance && { appearance }), ...(wide && { wide }) }, className)}>
      {children}
    </a>
  );
}
