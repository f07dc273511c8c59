import type { AnchorHTMLAttributes, MouseEvent } from "react";
import { Icon } from "./Icon.tsx";
import "./Link.css";

/** Whether an address from the API may become a link: a path of ours, or a page on the web. */
export function isSafe(address: string): boolean {
  return /^\/(?![/\\])/u.test(address) || /^https?:\/\//iu.test(address);
}

export interface ExternalLinkProps extends AnchorHTMLAttributes<HTMLAnchorElement> {
  href: string;
  /** Opens the address in place of the browser, where the page stands inside another. */
  onOpen?: (address: string) => void;
}

/** A link into a tab of its own, which cannot reach back to this one. */
export function ExternalLink({ href, onOpen, children, ...rest }: ExternalLinkProps) {
  if (!isSafe(href)) return <span className={rest.className}>{children}</span>;
  const open = (event: MouseEvent<HTMLAnchorElement>) => {
    if (!onOpen || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    onOpen(href);
  };
  return (
    <a
      {...rest}
      className={rest.className ?? "sa-external"}
      href={href}
      target="_blank"
      rel="noopener noreferrer"
      onClick={open}
    >
      {children} <span className="sa-hidden">(opens in a new tab)</span>
      <Icon name="external" />
    </a>
  );
}
