import { graphql } from "@signedapproval/graph/generated";
import { strategyInWords } from "@signedapproval/sign/RuleInWords";
import { Check, Field, Problem } from "@signedapproval/ui/Field";
import { useQuery } from "urql";
import { matches } from "./branchPattern.ts";
import { type Problems, patternsOf, type RuleDraft } from "./draft.ts";

const MergeStrategiesQuery = graphql(`
  query MergeStrategies($workspace: String!, $repository: String!, $branch: String!) {
    workspace(key: $workspace) {
      id
      bitbucketRepository(key: $repository) {
        uuid
        mergeStrategies(branch: $branch)
      }
    }
  }
`);

const MergeBranchesQuery = graphql(`
  query MergeBranches($workspace: String!, $repository: String!, $search: String) {
    workspace(key: $workspace) {
      id
      bitbucketRepository(key: $repository) {
        uuid
        branches(search: $search)
      }
    }
  }
`);

/** The strategies that Bitbucket knows. Which of them a branch offers is asked where the branch is known. */
const known = ["merge_commit", "squash", "fast_forward", "squash_fast_forward", "rebase_fast_forward", "rebase_merge"];

export interface AutoMergeEditorProps {
  rule: RuleDraft;
  path: string;
  workspace: string;
  repositoryUuid: string;
  problems: Problems;
  set: (part: Partial<RuleDraft>) => void;
}

/** Whether an approved pull request is merged by itself, and how. */
export function AutoMergeEditor({ rule, path, workspace, repositoryUuid, problems, set }: AutoMergeEditorProps) {
  const { autoMerge } = rule;
  const offered = useOffered({ workspace, repository: repositoryUuid }, patternsOf(rule.branches), autoMerge !== null);
  const strategies = offered.strategies ?? known;
  const chosen = autoMerge?.strategy ?? "";
  const options = chosen && !strategies.includes(chosen) ? [...strategies, chosen] : strategies;
  const change = (part: Partial<NonNullable<RuleDraft["autoMerge"]>>) => {
    if (autoMerge) set({ autoMerge: { ...autoMerge, ...part } });
  };
  return (
    <fieldset className="rule-editor__group">
      <legend>After the approval</legend>
      <Check
        label="Merge at once"
        hint="Only the approved commit, only while no other check of the branch would be overridden."
        checked={autoMerge !== null}
        onChange={(event) =>
          set({
            autoMerge: event.target.checked
              ? { strategy: strategies[0] ?? "merge_commit", closeSourceBranch: false, messageTemplate: "" }
              : null,
          })
        }
      />
      {autoMerge && (
        <>
          <Field
            label="Strategy"
            hint={
              offered.strategies
                ? `Those that ${offered.branch} offers.`
                : "Not every branch offers each of them; that is checked when you save."
            }
            problem={problems.at(`${path}.strategy`)}
          >
            {(control) => (
              <select {...control} value={chosen} onChange={(event) => change({ strategy: event.target.value })}>
                {options.map((strategy) => (
                  <option key={strategy} value={strategy}>
                    {strategyInWords(strategy)}
                  </option>
                ))}
              </select>
            )}
          </Field>
          <Check
            label="Close the source branch"
            checked={autoMerge.closeSourceBranch}
            onChange={(event) => change({ closeSourceBranch: event.target.checked })}
          />
          <Field
            label="Commit message"
            hint="Empty: Bitbucket's own. {title}, {number}, {author}, {source}, {destination}, {head}, {approvers} and {url} are replaced."
            problem={problems.at(`${path}.messageTemplate`)}
          >
            {(control) => (
              <textarea
                {...control}
                className="sa-input sa-input--code"
                rows={3}
                value={autoMerge.messageTemplate}
                onChange={(event) => change({ messageTemplate: event.target.value })}
              />
            )}
          </Field>
          <Problem
            text={
              problems.at(path) && !problems.at(`${path}.strategy`) && !problems.at(`${path}.messageTemplate`)
                ? problems.at(path)
                : undefined
            }
          />
        </>
      )}
    </fieldset>
  );
}

/** What the first branch that the rule is about offers; nothing while that is not known. */
function useOffered(at: { workspace: string; repository: string }, patterns: readonly string[], wanted: boolean) {
  const beginning = /^[^*?[\]{}\\]*/u.exec(patterns.find((pattern) => !pattern.startsWith("!")) ?? "")?.[0] ?? "";
  const [{ data: found }] = useQuery({
    query: MergeBranchesQuery,
    variables: { ...at, ...(beginning && { search: beginning }) },
    pause: !wanted,
  });
  const branches = found?.workspace?.bitbucketRepository?.branches ?? [];
  const branch = branches.find((name) => matches(patterns, name));
  const [{ data }] = useQuery({
    query: MergeStrategiesQuery,
    variables: { ...at, branch: branch ?? "" },
    pause: !wanted || !branch,
  });
  const strategies = data?.workspace?.bitbucketRepository?.mergeStrategies;
  return { branch, strategies: branch && strategies?.length ? strategies : null };
}
