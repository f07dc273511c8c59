import { Note } from "@signedapproval/ui/Note";

/** What could not be undone and is left to a person. */
export function LeftToDo({ sentences }: { sentences: readonly string[] }) {
  if (sentences.length === 0) return <Note tone="success">Everything was undone on Bitbucket.</Note>;
  return (
    <Note tone="warning" title="This is left for you to do on Bitbucket" urgent>
      <ul>
        {sentences.map((sentence) => (
          <li key={sentence}>{sentence}</li>
        ))}
      </ul>
    </Note>
  );
}
