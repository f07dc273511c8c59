import { graphql } from "@signedapproval/graph/generated";
import { mutate, Refusal, refuse } from "@signedapproval/sign/refusal";
import { Button } from "@signedapproval/ui/Button";
import { Dialog } from "@signedapproval/ui/Dialog";
import { Check, Field } from "@signedapproval/ui/Field";
import { Note } from "@signedapproval/ui/Note";
import { useState } from "react";
import { useClient, useQuery } from "urql";
import { Answer } from "../Answer.tsx";
import type { MemberWorkspace } from "../workspaces.ts";

const ProtectorsQuery = graphql(`
  query Protectors($workspace: String!) {
    workspace(key: $workspace) {
      id
      keyHolders(first: 100) {
        edges {
          node {
            person {
              id
              name
            }
            keys {
              id
              state
            }
          }
        }
      }
    }
  }
`);

const ProposeProtection = graphql(`
  mutation ProposeProtection($input: ProposeProtectionInput!) {
    proposeProtection(input: $input) {
      proposal {
        id
      }
      userErrors {
        code
        message
        path
      }
    }
  }
`);

export interface ChangeProtectionProps {
  workspace: MemberWorkspace;
  protection: { quorum: number; people: readonly { id: string }[] } | null;
}

/** Proposes to protect a workspace, to protect it otherwise, or no longer. */
export function ChangeProtection({ workspace, protection }: ChangeProtectionProps) {
  const client = useClient();
  const [open, setOpen] = useState<"change" | "off" | null>(null);
  const [busy, setBusy] = useState(false);
  const [quorum, setQuorum] = useState(protection?.quorum ?? 2);
  const [people, setPeople] = useState<readonly string[]>(protection?.people.map((person) => person.id) ?? []);
  const [refusal, setRefusal] = useState<Refusal | null>(null);
  const [done, setDone] = useState(false);
  const propose = async () => {
    setBusy(true);
    setRefusal(null);
    try {
      const asked = open === "off" ? { quorum: 0, people: [] } : { quorum, people: [...people] };
      const answer = await mutate(client, ProposeProtection, { input: { workspaceId: workspace.id, ...asked } });
      refuse(answer.proposeProtection.userErrors);
      setOpen(null);
      setDone(true);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      setRefusal(error);
    } finally {
      setBusy(false);
    }
  };
  return (
    <>
      <p className="sa-row">
        <Button onClick={() => setOpen("change")}>
          {protection ? "Change who protects…" : "Protect this workspace…"}
        </Button>
        {protection && (
          <Button appearance="subtle" onClick={() => setOpen("off")}>
            End the protection…
          </Button>
        )}
      </p>
      {done && (
        <Note tone="information" urgent>
          It is proposed. Those who are asked find it here and in their inbox.
        </Note>
      )}
      {open && (
        <Dialog
          title={open === "off" ? "Propose to end the protection?" : "Who protects this workspace?"}
          onClose={() => setOpen(null)}
          actions={
            <>
              <Button onClick={() => setOpen(null)}>Not now</Button>
              <Button appearance="primary" busy={busy} onClick={() => void propose()}>
                Propose
              </Button>
            </>
          }
        >
          {open === "off" ? (
            <p>
              Once enough of those who protect the workspace have signed, every administrator can change rules alone.
            </p>
          ) : (
            <>
              <p>
                {protection
                  ? "Those who protect the workspace now sign this change."
                  : "As many of these people as you ask for sign this first. If too few of them have a passkey one day, nobody can change the rules any more: name more people than you ask for."}
              </p>
              <People workspace={workspace.slug} chosen={people} onChange={setPeople} />
              <Field label="How many of them have to sign">
                {(control) => (
                  <input
                    {...control}
                    type="number"
                    min={1}
                    max={Math.max(1, people.length)}
                    value={quorum}
                    onChange={(event) => setQuorum(Math.trunc(event.target.valueAsNumber) || 1)}
                  />
                )}
              </Field>
            </>
          )}
          {refusal && (
            <Note tone="danger" urgent>
              {refusal.message}
            </Note>
          )}
        </Dialog>
      )}
    </>
  );
}

interface PeopleProps {
  workspace: string;
  chosen: readonly string[];
  onChange: (people: readonly string[]) => void;
}

function People({ workspace, chosen, onChange }: PeopleProps) {
  const [result, ask] = useQuery({ query: ProtectorsQuery, variables: { workspace } });
  return (
    <Answer result={result} ask={ask} doing="read who has a passkey">
      {({ workspace: node }) => {
        const holders = (node?.keyHolders?.edges ?? [])
          .map((edge) => edge.node)
          .filter((holder) => holder.keys.some((key) => key.state === "ENROLLED"));
        return holders.length > 0 ? (
          <fieldset className="sa-stack sa-stack--tight">
            <legend>People with a passkey</legend>
            {holders.map(({ person }) => (
              <Check
                key={person.id}
                label={person.name}
                checked={chosen.includes(person.id)}
                onChange={(event) =>
                  onChange(event.target.checked ? [...chosen, person.id] : chosen.filter((id) => id !== person.id))
                }
              />
            ))}
          </fieldset>
        ) : (
          <p>Nobody here has a passkey yet.</p>
        );
      }}
    </Answer>
  );
}
