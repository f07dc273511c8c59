import { Button } from "@signedapproval/ui/Button";
import { Field } from "@signedapproval/ui/Field";
import type { Problems, RequirementDraft } from "./draft.ts";
import { QuorumEditor } from "./QuorumEditor.tsx";

export interface RequirementEditorProps {
  requirement: RequirementDraft;
  /** Where it stands in the form, as the server's problems name it. */
  path: string;
  workspace: string;
  problems: Problems;
  onChange: (requirement: RequirementDraft) => void;
  /** Absent for the only requirement of a rule. */
  onRemove: (() => void) | undefined;
}

/** A quorum, and out of whom. */
export function RequirementEditor(props: RequirementEditorProps) {
  const { requirement, path, workspace, problems, onChange, onRemove } = props;
  const set = (part: Partial<RequirementDraft>) => onChange({ ...requirement, ...part });
  return (
    <QuorumEditor
      quorum={requirement}
      label="Approvals needed"
      path={path}
      workspace={workspace}
      problems={problems}
      onChange={set}
      before={
        <Field label="Requirement" problem={problems.at(`${path}.name`)}>
          {(control) => (
            <input
              {...control}
              placeholder="Such as Security"
              maxLength={80}
              value={requirement.name}
              onChange={(event) => set({ name: event.target.value })}
            />
          )}
        </Field>
      }
      after={
        onRemove && (
          <Button appearance="subtle" onClick={onRemove}>
            Remove <span className="sa-hidden">the requirement {requirement.name}</span>
          </Button>
        )
      }
    />
  );
}
