import { graphql } from "@signedapproval/graph/generated";
import { Field } from "@signedapproval/ui/Field";
import { Lozenge } from "@signedapproval/ui/Lozenge";
import { Visible } from "@signedapproval/ui/Visible";
import { useDeferredValue, useState } from "react";
import { useQuery } from "urql";
import { Answer } from "../Answer.tsx";
import { firstMatch } from "./branchPattern.ts";

const BranchesQuery = graphql(`
  query Branches($workspace: String!, $repository: String!, $search: String) {
    workspace(key: $workspace) {
      id
      bitbucketRepository(key: $repository) {
        uuid
        branches(search: $search)
      }
    }
  }
`);

export interface TryOutProps {
  workspace: string;
  repositoryUuid: string;
  rules: readonly { name: string; branches: readonly string[] }[];
}

/** Which rule would apply to which branch, as the rules stand in the form. */
export function TryOut({ workspace, repositoryUuid, rules }: TryOutProps) {
  const [typed, setTyped] = useState("");
  const branch = typed.trim();
  const search = useDeferredValue(branch);
  return (
    <section className="card" aria-labelledby="tryout">
      <h3 id="tryout">Try the patterns</h3>
      <Field label="A branch name" hint="Or a part of one, to look among the repository's branches.">
        {(control) => (
          <input
            {...control}
            className="sa-input sa-input--code"
            spellCheck={false}
            placeholder="release/1.0"
            value={typed}
            onChange={(event) => setTyped(event.target.value)}
            onKeyDown={(event) => event.key === "Enter" && event.preventDefault()}
          />
        )}
      </Field>
      {branch && (
        <p role="status">
          A pull request into <code className="sa-branch">{branch}</code>: <Match rules={rules} branch={branch} />
        </p>
      )}
      <BranchList workspace={workspace} repositoryUuid={repositoryUuid} search={search} rules={rules} />
    </section>
  );
}

function Match({ rules, branch }: { rules: TryOutProps["rules"]; branch: string }) {
  const index = firstMatch(rules, branch);
  if (index < 0) return <Lozenge>not gated</Lozenge>;
  return (
    <Lozenge tone="success">
      rule {index + 1}, <Visible text={rules[index]?.name ?? ""} />
    </Lozenge>
  );
}

function BranchList({ workspace, repositoryUuid, search, rules }: TryOutProps & { search: string }) {
  const [result, ask] = useQuery({
    query: BranchesQuery,
    variables: { workspace, repository: repositoryUuid, ...(search && { search }) },
  });
  return (
    <Answer result={result} ask={ask} doing="list the branches">
      {(data) => {
        const branches = data.workspace?.bitbucketRepository?.branches;
        if (!branches) return result.error ? null : <p className="sa-small">The branches cannot be shown to you.</p>;
        if (branches.length === 0) return <p className="sa-small sa-subtle">No branch has this in its name.</p>;
        return (
          <ul className="tryout__branches" aria-label="Branches">
            {branches.map((branch) => (
              <li key={branch}>
                <code className="sa-branch">
                  <Visible text={branch} />
                </code>
                <Match rules={rules} branch={branch} />
              </li>
            ))}
          </ul>
        );
      }}
    </Answer>
  );
}
