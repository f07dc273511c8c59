import { Note } from "@signedapproval/ui/Note";

/** That something was undone, and what of it is left to a person. */
export function LeftToDo({ title, sentences }: { title: string; sentences: readonly string[] }) {
  if (sentences.length === 0) {
    return (
      <Note tone="success" title={title} urgent>
        Everything was undone on Bitbucket.
      </Note>
    );
  }
  return (
    <Note tone="warning" title={title} urgent>
      <p>This is left for you to do on Bitbucket:</p>
      <ul>
        {sentences.map((sentence) => (
          <li key={sentence}>{sentence}</li>
        ))}
      </ul>
    </Note>
  );
}
