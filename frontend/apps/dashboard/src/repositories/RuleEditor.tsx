import { Button } from "@signedapproval/ui/Button";
import { Check, Field } from "@signedapproval/ui/Field";
import { Icon } from "@signedapproval/ui/Icon";
import { AutoMergeEditor } from "./AutoMergeEditor.tsx";
import { type ExpiryUnit, newRequirement, type Problems, type RuleDraft, unitSeconds } from "./draft.ts";
import { KeysEditor } from "./KeysEditor.tsx";
import { QuorumEditor } from "./QuorumEditor.tsx";
import { RequirementEditor } from "./RequirementEditor.tsx";

/** As many requirements as a rule may have. */
const most = 10;

export interface RuleEditorProps {
  rule: RuleDraft;
  /** Its place, from 0, of how many. */
  index: number;
  count: number;
  workspace: string;
  repositoryUuid: string;
  /** How many witnesses the server has; undefined until that is known. */
  witnesses: number | undefined;
  problems: Problems;
  onChange: (rule: RuleDraft) => void;
  onMove: (to: number) => void;
  onRemove: () => void;
}

/** One rule: for which branches, who must approve, and what happens then. */
export function RuleEditor(props: RuleEditorProps) {
  const { rule, index, count, workspace, repositoryUuid, witnesses, problems, onChange, onMove, onRemove } = props;
  const path = `rules.${index}`;
  const name = rule.name || `rule ${index + 1}`;
  const set = (part: Partial<RuleDraft>) => onChange({ ...rule, ...part });
  return (
    <section className="card" aria-label={`Rule ${index + 1}: ${rule.name}`}>
      <header className="rule-editor__head">
        <h3>
          {index + 1}. {rule.name || "Rule without a name"}
        </h3>
        <div className="sa-row">
          <Button appearance="subtle" disabled={index === 0} onClick={() => onMove(index - 1)}>
            <Icon name="up" />
            <span className="sa-hidden">Move {name} up</span>
          </Button>
          <Button appearance="subtle" disabled={index === count - 1} onClick={() => onMove(index + 1)}>
            <Icon name="down" />
            <span className="sa-hidden">Move {name} down</span>
          </Button>
          <Button appearance="subtle" disabled={count === 1} onClick={onRemove}>
            Remove <span className="sa-hidden">{name}</span>
          </Button>
        </div>
      </header>
      <div className="rule-editor__grid">
        <Field label="Name" problem={problems.at(`${path}.name`)}>
          {(control) => (
            <input
              {...control}
              value={rule.name}
              maxLength={80}
              onChange={(event) => set({ name: event.target.value })}
            />
          )}
        </Field>
        <Field
          label="Destination branches"
          hint="One pattern a line: * inside a segment, ** across segments, ! excludes. For example release/* and !release/old."
          problem={problems.at(`${path}.branches`)}
        >
          {(control) => (
            <textarea
              {...control}
              className="sa-input sa-input--code"
              rows={3}
              spellCheck={false}
              value={rule.branches}
              onChange={(event) => set({ branches: event.target.value })}
            />
          )}
        </Field>
      </div>
      <fieldset className="rule-editor__group">
        <legend>Who must approve</legend>
        {rule.requirements.map((requirement, at) => (
          <RequirementEditor
            key={requirement.key}
            requirement={requirement}
            path={`${path}.requirements.${at}`}
            workspace={workspace}
            problems={problems}
            onChange={(next) => set({ requirements: rule.requirements.map((old, i) => (i === at ? next : old)) })}
            onRemove={
              rule.requirements.length > 1
                ? () => set({ requirements: rule.requirements.filter((_, i) => i !== at) })
                : undefined
            }
          />
        ))}
        <div>
          <Button
            appearance="subtle"
            disabled={rule.requirements.length >= most}
            onClick={() =>
              set({ requirements: [...rule.requirements, { ...newRequirement(), name: "", everyone: false }] })
            }
          >
            <Icon name="plus" /> Add a requirement <span className="sa-hidden">to {name}</span>
          </Button>
        </div>
        <Check
          label="The author may approve"
          hint="Then the author's own approval counts like any other."
          checked={rule.authorMayApprove}
          onChange={(event) => set({ authorMayApprove: event.target.checked })}
        />
      </fieldset>
      <fieldset className="rule-editor__group">
        <legend>Who may override</legend>
        <Check
          label="The rule can be overridden"
          hint="For emergencies: these people can together let one commit be merged without its approvals, each with a passkey and a reason, even against a rejection. Approvers and administrators are told."
          checked={rule.override !== null}
          onChange={(event) =>
            set({ override: event.target.checked ? { quorum: "2", everyone: false, approvers: [] } : null })
          }
        />
        {rule.override && (
          <QuorumEditor
            quorum={rule.override}
            label="People needed"
            path={`${path}.override`}
            workspace={workspace}
            problems={problems}
            onChange={(part) => set({ override: rule.override && { ...rule.override, ...part } })}
          />
        )}
      </fieldset>
      <KeysEditor keys={rule.keys} path={`${path}.keys`} problems={problems} onChange={(keys) => set({ keys })} />
      <div className="rule-editor__grid">
        <div className="sa-stack">
          <Field
            label="A request expires after"
            hint="1 minute to 90 days. It can be asked again."
            problem={problems.at(`${path}.expiresAfterSeconds`)}
          >
            {(control) => (
              <div className="expiry">
                <input
                  {...control}
                  className="sa-input sa-input--short"
                  inputMode="numeric"
                  value={rule.expiresAfter}
                  onChange={(event) => set({ expiresAfter: event.target.value })}
                />
                <select
                  className="sa-input sa-input--short"
                  aria-label="Unit of the expiry"
                  value={rule.expiresUnit}
                  onChange={(event) => set({ expiresUnit: event.target.value as ExpiryUnit })}
                >
                  {Object.keys(unitSeconds).map((unit) => (
                    <option key={unit}>{unit}</option>
                  ))}
                </select>
              </div>
            )}
          </Field>
          <Field
            label="Witnesses who must have cosigned the log"
            hint={`${witnessesInWords(witnesses)}0 waits for none. Witnesses are independent of this server, and see its log grow. Until so many have cosigned what was decided, the status stays in progress and nothing is merged, also while they cannot be reached.`}
            problem={problems.at(`${path}.cosignatures`) ?? tooFew(rule.cosignatures, witnesses)}
          >
            {(control) => (
              <input
                {...control}
                className="sa-input sa-input--short"
                inputMode="numeric"
                value={rule.cosignatures}
                onChange={(event) => set({ cosignatures: event.target.value })}
              />
            )}
          </Field>
        </div>
        <AutoMergeEditor
          rule={rule}
          path={`${path}.autoMerge`}
          workspace={workspace}
          repositoryUuid={repositoryUuid}
          problems={problems}
          set={set}
        />
      </div>
    </section>
  );
}

/** How many witnesses there are; nothing until that is known. */
function witnessesInWords(witnesses: number | undefined): string {
  if (witnesses === undefined) return "";
  if (witnesses === 0) return "This server has no witness: whoever operates it can give it some. ";
  return `This server has ${witnesses === 1 ? "1 witness" : `${witnesses} witnesses`}. `;
}

/** What is wrong with asking for so many witnesses, which the server would say on saving. */
function tooFew(asked: string, witnesses: number | undefined): string | undefined {
  if (witnesses === undefined || !/^\s*\d+\s*$/.test(asked) || Number(asked) <= witnesses) return undefined;
  return `The rule asks for ${Number(asked)}, but this server has ${witnesses === 0 ? "none" : witnesses}. It cannot be saved like this.`;
}
