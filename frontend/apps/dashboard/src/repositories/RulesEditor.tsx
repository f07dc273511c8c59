import { failureOf } from "@signedapproval/graph/failure";
import { graphql } from "@signedapproval/graph/generated";
import { Button } from "@signedapproval/ui/Button";
import { Dialog } from "@signedapproval/ui/Dialog";
import { ErrorNote } from "@signedapproval/ui/ErrorNote";
import { Icon } from "@signedapproval/ui/Icon";
import { Note } from "@signedapproval/ui/Note";
import { useBlocker } from "@tanstack/react-router";
import { type FormEvent, useMemo, useState } from "react";
import { useMutation, useQuery } from "urql";
import { PageLink } from "../PageLink.tsx";
import { inputOf, newRule, Problems, patternsOf, type RuleDraft } from "./draft.ts";
import { RuleEditor } from "./RuleEditor.tsx";
import { TryOut } from "./TryOut.tsx";
import "./RulesEditor.css";

const ProtectedQuery = graphql(`
  query Protected($workspace: String!) {
    server {
      witnesses
    }
    workspace(key: $workspace) {
      id
      protection {
        version
        quorum
      }
    }
  }
`);

const SaveRepository = graphql(`
  mutation SaveRepository($input: SaveRepositoryInput!) {
    saveRepository(input: $input) {
      repository {
        id
        ...RepositorySettings_repository
      }
      proposal {
        id
        key
      }
      userErrors {
        code
        message
        path
      }
    }
  }
`);

/** As many rules as a policy may have. */
const most = 20;

export interface RulesEditorProps {
  workspaceId: string;
  workspace: string;
  repositoryUuid: string;
  saved: RuleDraft[];
  /** Of the rules in force; 0: it is not gated yet. */
  version: number;
}

/** The ordered rules of a repository. Nothing applies before it is saved. */
export function RulesEditor(props: RulesEditorProps) {
  const { workspaceId, workspace, repositoryUuid, saved, version } = props;
  const [first] = useState(saved);
  const [rules, setRules] = useState(first);
  const [{ fetching, data, error }, save] = useMutation(SaveRepository);
  const [{ data: known }] = useQuery({ query: ProtectedQuery, variables: { workspace } });
  const isProtected = Boolean(known?.workspace?.protection);
  const failure = failureOf(error);
  const proposal = data?.saveRepository.proposal;
  const problems = useMemo(
    () => new Problems(data?.saveRepository.proposal ? [] : (data?.saveRepository.userErrors ?? [])),
    [data],
  );
  const changed = JSON.stringify(inputOf(rules)) !== JSON.stringify(inputOf(first));
  const blocker = useBlocker({
    shouldBlockFn: () => changed && !fetching,
    enableBeforeUnload: () => changed && !fetching,
    withResolver: true,
  });

  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (!fetching) void save({ input: { workspaceId, repositoryUuid, rules: inputOf(rules) } });
  };
  const change = (index: number, rule: RuleDraft) => setRules(rules.map((old, at) => (at === index ? rule : old)));
  const move = (from: number, to: number) => {
    const moved = [...rules];
    moved.splice(to, 0, ...moved.splice(from, 1));
    setRules(moved);
  };

  return (
    <form className="sa-stack" onSubmit={submit} noValidate>
      <div className="sa-stack sa-stack--tight">
        <h2>Rules</h2>
        <p className="sa-subtle">
          The first rule whose branches match the destination of a pull request applies. A branch that none matches is
          not gated.
        </p>
        {isProtected && (
          <p className="sa-subtle">
            This workspace is protected: saving makes a proposal, which is in force once enough people have signed it.
          </p>
        )}
      </div>
      <ol className="rules">
        {rules.map((rule, index) => (
          <li key={rule.key}>
            <RuleEditor
              rule={rule}
              index={index}
              count={rules.length}
              workspace={workspace}
              repositoryUuid={repositoryUuid}
              witnesses={known?.server.witnesses}
              problems={problems}
              onChange={(next) => change(index, next)}
              onMove={(to) => move(index, to)}
              onRemove={() => setRules(rules.filter((_, at) => at !== index))}
            />
          </li>
        ))}
      </ol>
      <div>
        <Button disabled={rules.length >= most} onClick={() => setRules([...rules, newRule(nameFor(rules), "")])}>
          <Icon name="plus" /> Add a rule
        </Button>
      </div>
      <TryOut
        workspace={workspace}
        repositoryUuid={repositoryUuid}
        rules={rules.map((rule) => ({ name: rule.name, branches: patternsOf(rule.branches) }))}
      />
      {failure && <ErrorNote failure={failure} doing="save the rules" />}
      {proposal && (
        <Note tone="information" title="The rules are proposed" urgent>
          This workspace is protected: the rules in force stay until enough people have signed.{" "}
          <PageLink path={`/settings/protection?${new URLSearchParams({ workspace, proposal: proposal.key })}`}>
            See the proposal
          </PageLink>
        </Note>
      )}
      {problems.all.length > 0 && (
        <Note tone="danger" title="The rules were not saved" urgent>
          <ul className="rules__problems">
            {problems.all.map((problem) => (
              <li key={problem}>{problem}</li>
            ))}
          </ul>
        </Note>
      )}
      <div className="rules__save">
        <Button type="submit" appearance="primary" busy={fetching}>
          {isProtected ? "Propose the rules" : version > 0 ? "Save the rules" : "Gate this repository"}
        </Button>
        {changed && (
          <Button appearance="subtle" onClick={() => setRules(first)}>
            Discard changes
          </Button>
        )}
        <span className="sa-small sa-subtle" role="status">
          {changed
            ? "You have changes that are not saved."
            : data?.saveRepository.repository
              ? "Saved."
              : version > 0
                ? `Version ${version} is in force.`
                : ""}
        </span>
      </div>
      {blocker.status === "blocked" && (
        <Dialog
          title="Leave without saving?"
          onClose={blocker.reset}
          actions={
            <>
              <Button onClick={blocker.reset}>Stay</Button>
              <Button appearance="danger" onClick={blocker.proceed}>
                Leave
              </Button>
            </>
          }
        >
          <p>Your changes to the rules are not saved.</p>
        </Dialog>
      )}
    </form>
  );
}

function nameFor(rules: readonly RuleDraft[]): string {
  const names = new Set(rules.map((rule) => rule.name));
  for (let number = rules.length + 1; ; number++) {
    if (!names.has(`Rule ${number}`)) return `Rule ${number}`;
  }
}
