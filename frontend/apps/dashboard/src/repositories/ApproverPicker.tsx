import { graphql } from "@signedapproval/graph/generated";
import { Person } from "@signedapproval/ui/Avatar";
import { Button } from "@signedapproval/ui/Button";
import { Field } from "@signedapproval/ui/Field";
import { Icon } from "@signedapproval/ui/Icon";
import { useDeferredValue, useState } from "react";
import { useQuery } from "urql";
import { Answer } from "../Answer.tsx";

const MembersQuery = graphql(`
  query Members($workspace: String!, $search: String) {
    workspace(key: $workspace) {
      id
      members(search: $search, first: 20) {
        edges {
          node {
            accountId
            name
          }
        }
        pageInfo {
          hasNextPage
        }
      }
    }
  }
`);

interface Account {
  accountId: string;
  name: string;
}

export interface ApproverPickerProps {
  workspace: string;
  chosen: readonly Account[];
  onChange: (chosen: readonly Account[]) => void;
}

/** Chooses people out of the workspace's members, by account and never by e-mail address. */
export function ApproverPicker({ workspace, chosen, onChange }: ApproverPickerProps) {
  const [typed, setTyped] = useState("");
  const search = useDeferredValue(typed.trim());
  return (
    <div className="picker">
      {chosen.length === 0 ? (
        <p className="sa-small sa-subtle">Nobody is chosen yet.</p>
      ) : (
        <ul className="chips" aria-label="Chosen approvers">
          {chosen.map((account) => (
            <li key={account.accountId}>
              <Person name={account.name} />
              <Button
                appearance="subtle"
                onClick={() => onChange(chosen.filter((other) => other.accountId !== account.accountId))}
              >
                <Icon name="cross" />
                <span className="sa-hidden">Remove {account.name}</span>
              </Button>
            </li>
          ))}
        </ul>
      )}
      <Field label="Search members of the workspace">
        {(control) => (
          <input
            {...control}
            type="search"
            value={typed}
            onChange={(event) => setTyped(event.target.value)}
            // Enter would save the form around it.
            onKeyDown={(event) => event.key === "Enter" && event.preventDefault()}
          />
        )}
      </Field>
      <Members
        workspace={workspace}
        search={search}
        chosen={chosen}
        onAdd={(account) => onChange([...chosen, account])}
      />
    </div>
  );
}

interface MembersProps {
  workspace: string;
  search: string;
  chosen: readonly Account[];
  onAdd: (account: Account) => void;
}

function Members({ workspace, search, chosen, onAdd }: MembersProps) {
  const [result, ask] = useQuery({ query: MembersQuery, variables: { workspace, ...(search && { search }) } });
  return (
    <Answer result={result} ask={ask} doing="list the members">
      {(data) => {
        const members = data.workspace?.members;
        if (!members) return result.error ? null : <p className="sa-small">The members cannot be shown to you.</p>;
        const others = members.edges
          .map((edge) => edge.node)
          .filter((account) => !chosen.some((other) => other.accountId === account.accountId));
        if (others.length === 0) {
          return (
            <p className="sa-small sa-subtle">
              {search ? "Nobody else has this in their name." : "Nobody else is there."}
            </p>
          );
        }
        return (
          <>
            <ul className="picker__found" aria-label="Members">
              {others.map((account) => (
                <li key={account.accountId}>
                  <Person name={account.name} />
                  <Button
                    appearance="subtle"
                    onClick={() => onAdd({ accountId: account.accountId, name: account.name })}
                  >
                    Add <span className="sa-hidden">{account.name}</span>
                  </Button>
                </li>
              ))}
            </ul>
            {members.pageInfo.hasNextPage && (
              <p className="sa-small sa-subtle">There are more: type a part of the name.</p>
            )}
          </>
        );
      }}
    </Answer>
  );
}
