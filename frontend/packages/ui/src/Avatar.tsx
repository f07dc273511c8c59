import { Visible } from "./Visible.tsx";
import "./Avatar.css";

const hues = 6;

/** The first letters of the first and the last word; a question mark where there is no letter or digit. */
export function initials(name: string): string {
  const words = name.split(/\s+/u).map((word) => /[\p{L}\p{N}]/u.exec(word)?.[0] ?? "");
  const letters = words.filter(Boolean);
  const ends = letters.length > 1 ? [letters[0], letters[letters.length - 1]] : letters;
  return ends.join("").toLocaleUpperCase() || "?";
}

/** A person's initials on a colour that is always theirs. The name stands beside it, so it is not read aloud. */
export function Avatar({ name }: { name: string }) {
  let sum = 0;
  for (const character of name) sum = (sum * 31 + (character.codePointAt(0) ?? 0)) >>> 0;
  return (
    <span className={`sa-avatar sa-avatar--${sum % hues}`} aria-hidden="true">
      {initials(name)}
    </span>
  );
}

/** A person as screens name one. Names come from strangers, so what does not show in them is marked. */
export function Person({ name }: { name: string }) {
  return (
    <span className="sa-person">
      <Avatar name={name} />
      <span className="sa-person__name">
        <Visible text={name} />
      </span>
    </span>
  );
}

/** Several people, as a list with a name of its own. */
export function People({ people, label }: { people: readonly { accountId: string; name: string }[]; label: string }) {
  return (
    <ul className="sa-people" aria-label={label}>
      {people.map((person) => (
        <li key={person.accountId}>
          <Person name={person.name} />
        </li>
      ))}
    </ul>
  );
}
