import { Button } from "@signedapproval/ui/Button";
import { Check, Field, Problem } from "@signedapproval/ui/Field";
import { useId } from "react";
import { ApproverPicker } from "./ApproverPicker.tsx";
import type { Problems, RequirementDraft } from "./draft.ts";

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
  const group = useId();
  const set = (part: Partial<RequirementDraft>) => onChange({ ...requirement, ...part });
  return (
    <div className="requirement">
      <div className="requirement__top">
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
        <Field label="Approvals needed" problem={problems.at(`${path}.quorum`)}>
          {(control) => (
            <input
              {...control}
              className="sa-input sa-input--short"
              type="number"
              min={1}
              max={50}
              value={requirement.quorum}
              onChange={(event) => set({ quorum: event.target.value })}
            />
          )}
        </Field>
        {onRemove && (
          <Button appearance="subtle" onClick={onRemove}>
            Remove <span className="sa-hidden">the requirement {requirement.name}</span>
          </Button>
        )}
      </div>
      <fieldset className="rule-editor__group">
        <legend className="sa-hidden">Out of whom</legend>
        <Check
          radio
          name={group}
          label="Anyone with write permission"
          checked={requirement.everyone}
          onChange={() => set({ everyone: true })}
        />
        <Check
          radio
          name={group}
          label="These people"
          checked={!requirement.everyone}
          onChange={() => set({ everyone: false })}
        />
      </fieldset>
      {!requirement.everyone && (
        <ApproverPicker
          workspace={workspace}
          chosen={requirement.approvers}
          onChange={(approvers) => set({ approvers })}
        />
      )}
      <Problem text={problems.at(`${path}.approvers`) ?? problems.at(`${path}.everyone`)} />
    </div>
  );
}
