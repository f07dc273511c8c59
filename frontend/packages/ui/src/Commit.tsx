import { Icon } from "./Icon.tsx";
import { Visible } from "./Visible.tsx";
import "./Commit.css";

/** A hash for recognising, with the whole one in its title. Decisions are never made on this form. */
export function ShortCommit({ hash }: { hash: string }) {
  return (
    <code className="sa-commit" title={hash}>
      {hash.slice(0, 12)}
    </code>
  );
}

/** The whole hash, in groups that an eye can compare. The gaps are drawn, not written: copying gives the hash alone. */
export function FullCommit({ hash }: { hash: string }) {
  const groups = Array.from(hash.matchAll(/.{1,8}/gu));
  return (
    <code className="sa-commit sa-commit--full">
      {groups.map((group) => (
        <span key={group.index} className="sa-commit__group">
          {group[0]}
        </span>
      ))}
    </code>
  );
}

/** From where to where. */
export function Branches({ source, destination }: { source: string; destination: string }) {
  return (
    <span className="sa-branches">
      <span className="sa-hidden">From branch</span>
      <code className="sa-branch">
        <Visible text={source} />
      </code>
      <span className="sa-branches__into">
        <Icon name="arrow" />
        <span className="sa-hidden">into branch</span>
        <code className="sa-branch">
          <Visible text={destination} />
        </code>
      </span>
    </span>
  );
}
