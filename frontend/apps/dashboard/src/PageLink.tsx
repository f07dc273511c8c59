import type { Appearance } from "@signedapproval/ui/Button";
import { ExternalLink, isSafe } from "@signedapproval/ui/Link";
import type { ReactNode } from "react";
import { useHost } from "./surroundings.ts";

export interface PageLinkProps {
  /** The path of the page on our origin. */
  path: string;
  /** Looks like a button. */
  look?: Appearance;
  /** The browser keeps what it gets as a file. */
  download?: boolean;
  /** Called when the reader follows the link. */
  onFollow?: () => void;
  children: ReactNode;
}

/** A link to a page of ours beside the dashboard. Inside Bitbucket's frame such a page opens in a tab of its own. */
export function PageLink({ path, look, download = false, onFollow, children }: PageLinkProps) {
  const host = useHost();
  const className = look && `sa-button sa-button--${look}`;
  const dressed = className ? { className } : {};
  if (!host.standsAlone) {
    const open = (address: string) => {
      onFollow?.();
      return host.openExternal(address);
    };
    return (
      <ExternalLink {...dressed} href={host.address(path)} onOpen={open}>
        {children}
      </ExternalLink>
    );
  }
  if (!isSafe(path)) return children;
  return (
    <a {...dressed} href={path} onClick={onFollow} {...(download && { download: true })}>
      {children}
    </a>
  );
}
