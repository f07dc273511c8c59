import { graphql } from "@signedapproval/graph/generated";
import { Check, Problem } from "@signedapproval/ui/Field";
import { Visible } from "@signedapproval/ui/Visible";
import { useState } from "react";
import { useQuery } from "urql";
import { Answer } from "../Answer.tsx";
import type { KeysDraft, Model, Problems } from "./draft.ts";

const ModelsQuery = graphql(`
  query Models {
    server {
      models {
        aaguid
        description
      }
    }
  }
`);

export interface KeysEditorProps {
  keys: KeysDraft;
  /** Where it stands in the form, as the server's problems name it. */
  path: string;
  problems: Problems;
  onChange: (keys: KeysDraft) => void;
}

/** Which keys count for approvals and overrides. */
export function KeysEditor({ keys, path, problems, onChange }: KeysEditorProps) {
  const [byModel, setByModel] = useState(false);
  const open = byModel || keys.models.length > 0;
  return (
    <fieldset className="rule-editor__group">
      <legend>Which keys count</legend>
      <p className="sa-small sa-subtle">
        For approvals and overrides. While nothing is asked here, every passkey that can sign counts. A rejection counts
        with any of them.
      </p>
      <Check
        label="Only keys that somebody vouched for"
        hint="Keys that an administrator countersigned, and further keys that such a key signed for. One that is known by a Bitbucket log-in alone does not count."
        checked={keys.countersigned}
        onChange={(event) => onChange({ ...keys, countersigned: event.target.checked })}
      />
      <Check
        label="Only keys of certain models"
        hint="Keys whose authenticator proved its model when they were made. One that merely says what it is does not count."
        checked={open}
        onChange={(event) => {
          setByModel(event.target.checked);
          if (!event.target.checked) onChange({ ...keys, models: [] });
        }}
      />
      {open && <Models chosen={keys.models} onChange={(models) => onChange({ ...keys, models })} />}
      <Problem text={problems.at(path)} />
    </fieldset>
  );
}

interface ModelsProps {
  chosen: readonly Model[];
  onChange: (chosen: readonly Model[]) => void;
}

/** The models that the server can prove, and those that the rule names though the server can no longer prove them. */
function Models({ chosen, onChange }: ModelsProps) {
  const [result, ask] = useQuery({ query: ModelsQuery });
  // One that is taken out keeps its place, so that it can be put back.
  const [saved] = useState(chosen);
  return (
    <Answer result={result} ask={ask} doing="list the models">
      {({ server: { models } }) => {
        const gone = saved.filter((model) => !models.some((known) => known.aaguid === model.aaguid));
        const shown = [...gone, ...models];
        return (
          <>
            {models.length === 0 && (
              <p className="sa-small">
                This server can prove no model: it needs a snapshot of the FIDO metadata, which whoever operates it can
                give it.
              </p>
            )}
            {shown.length > 0 && (
              <ul className="models" aria-label="Models">
                {shown.map((model) => (
                  <li key={model.aaguid}>
                    <Check
                      label={<Visible text={model.description ?? model.aaguid} />}
                      hint={
                        gone.includes(model)
                          ? "This server cannot prove it any more, so no key of it counts. Take it out to save the rules."
                          : model.aaguid
                      }
                      checked={chosen.some((other) => other.aaguid === model.aaguid)}
                      onChange={(event) =>
                        onChange(
                          event.target.checked
                            ? [...chosen, model]
                            : chosen.filter((other) => other.aaguid !== model.aaguid),
                        )
                      }
                    />
                  </li>
                ))}
              </ul>
            )}
            {shown.length > 0 && chosen.length === 0 && (
              <p className="sa-small">None is chosen: keys of every model count, proved or not.</p>
            )}
          </>
        );
      }}
    </Answer>
  );
}
