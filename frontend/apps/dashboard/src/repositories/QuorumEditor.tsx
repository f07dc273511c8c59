import { Check, Field, Problem } from "@signedapproval/ui/Field";
import { type ReactNode, useId } from "react";
import { ApproverPicker } from "./ApproverPicker.tsx";
import type { Problems, QuorumDraft } from "./draft.ts";

export interface QuorumEditorProps {
  quorum: QuorumDraft;
  /** What is counted. */
  label: string;
  /** Where it stands in the form, as the server's problems name it. */
  path: string;
  workspace: string;
  problems: Problems;
  onChange: (part: Partial<QuorumDraft>) => void;
  /** Stands before the number, and after it. */
  before?: ReactNode;
  after?: ReactNode;
}

/** How many people, and out of whom. */
export function QuorumEditor(props: QuorumEditorProps) {
  const { quorum, label, path, workspace, problems, onChange, before, after } = props;
  const group = useId();
  return (
    <div className="requirement">
      <div className="requirement__top">
        {before}
        <Field label={label} problem={problems.at(`${path}.quorum`)}>
          {(control) => (
            <input
              {...control}
              className="sa-input sa-input--short"
              type="number"
              min={1}
              max={50}
              value={quorum.quorum}
              onChange={(event) => onChange({ quorum: event.target.value })}
            />
          )}
        </Field>
        {after}
      </div>
      <fieldset className="rule-editor__group">
        <legend className="sa-hidden">Out of whom</legend>
        <Check
          radio
          name={group}
          label="Anyone with write permission"
          checked={quorum.everyone}
          onChange={() => onChange({ everyone: true })}
        />
        <Check
          radio
          name={group}
          label="These people"
          checked={!quorum.everyone}
          onChange={() => onChange({ everyone: false })}
        />
      </fieldset>
      {!quorum.everyone && (
        <ApproverPicker
          workspace={workspace}
          chosen={quorum.approvers}
          onChange={(approvers) => onChange({ approvers })}
        />
      )}
      <Problem text={problems.at(`${path}.approvers`) ?? problems.at(`${path}.everyone`)} />
    </div>
  );
}
