import { type AnchorHTMLAttributes, type MouseEvent, useState } from "react";
import { CopyButton } from "./CopyButton.tsx";
import { Icon } from "./Icon.tsx";
import "./Link.css";

/** Whether an address from the API may become a link: a path of ours, or a page on the web. */
export function isSafe(address: string): boolean {
  return /^\/(?![/\\])/u.test(address) || /^https?:\/\//iu.test(address);
}

export interface ExternalLinkProps extends AnchorHTMLAttributes<HTMLAnchorElement> {
  href: string;
  /** Opens the address in place of the browser, where the page stands inside another. False: nothing opened. */
  onOpen?: (address: string) => Promise<boolean>;
}

/**
 * A link into a tab of its own, which cannot reach back to this one. Where no tab opens, the address is shown, so that
 * the reader can take it there.
 */
export function ExternalLink({ href, onOpen, children, ...rest }: ExternalLinkProps) {
  const [blocked, setBlocked] = useState(false);
  if (!isSafe(href)) return <span className={rest.className}>{children}</span>;
  const open = async (event: MouseEvent<HTMLAnchorElement>) => {
    if (!onOpen || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    setBlocked(!(await onOpen(href)));
  };
  return (
    <>
      <a
        {...rest}
        className={rest.className ?? "sa-external"}
        href={href}
        target="_blank"
        rel="noopener noreferrer"
        onClick={(event) => void open(event)}
      >
        {children} <span className="sa-hidden">(opens in a new tab)</span>
        <Icon name="external" />
      </a>
      {blocked && (
        <span className="sa-blocked" role="alert">
          No tab opened. Open this address yourself:{" "}
          <a href={href} target="_blank" rel="noopener noreferrer">
            {withoutFragment(href)}
          </a>{" "}
          <CopyButton text={href} label="Copy the whole address" />
        </span>
      )}
    </>
  );
}

/** An address to be read: what stands after the # may be long, and is not for reading. */
function withoutFragment(address: string): string {
  return address.split("#", 1)[0] ?? address;
}
