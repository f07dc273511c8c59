import { Button } from "@signedapproval/ui/Button";
import { CopyButton } from "@signedapproval/ui/CopyButton";
import { Icon } from "@signedapproval/ui/Icon";
import { Lozenge } from "@signedapproval/ui/Lozenge";
import { Note } from "@signedapproval/ui/Note";
import { Table } from "@signedapproval/ui/Table";
import { Visible } from "@signedapproval/ui/Visible";
import { useState } from "react";
import type { Check } from "./desk.ts";
import type { Fact, Outcome, Report, Step } from "./evidence.ts";
import { ended, meaningOf, notChecked, restsOn, toneOfLabel, toneOfResult } from "./words.ts";

/** One bundle: its outcome in a line, and everything behind it. */
export function CheckedBundle({ check, alone }: { check: Check; alone: boolean }) {
  const { file, state, checked } = check;
  // What a reader opened or closed stays so when it is checked again.
  const [opened, setOpened] = useState<boolean>();
  const open = opened ?? alone;
  const name = <Visible text={file.name} />;
  if (!checked) {
    return (
      <article className="verify__bundle verify__line" aria-busy={state === "checking"}>
        <h3 className="sa-wrap">{name}</h3>
        <Lozenge>{state === "checking" ? "Checking…" : "Waiting"}</Lozenge>
      </article>
    );
  }
  if ("problem" in checked) {
    return (
      <article className="verify__bundle sa-stack sa-stack--tight">
        <div className="verify__line">
          <h3 className="sa-wrap">{name}</h3>
          <Lozenge tone={notChecked.tone}>{notChecked.name}</Lozenge>
        </div>
        <p className="sa-wrap">
          <Visible text={checked.problem} />
        </p>
      </article>
    );
  }
  const { tone, name: verdict } = meaningOf(checked);
  return (
    <details
      className="verify__bundle"
      open={open}
      onToggle={({ currentTarget }) => currentTarget.open !== open && setOpened(currentTarget.open)}
    >
      <summary>
        <span className="verify__line">
          <h3 className="sa-wrap">{name}</h3>
          <Lozenge tone={tone}>{verdict}</Lozenge>
        </span>
        <span className="verify__sentence sa-wrap">
          <Visible text={checked.sentence} />
        </span>
      </summary>
      <Details file={file} outcome={checked} sha256={checked.sha256} />
    </details>
  );
}

function Details({ file, outcome, sha256 }: { file: File; outcome: Outcome; sha256: string }) {
  const report: Report = JSON.parse(outcome.report);
  const missing = report.missing ?? [];
  const facts = report.facts ?? [];
  const { tone, sentence } = meaningOf(outcome);
  return (
    <div className="sa-stack">
      <Note tone={tone} title={sentence}>
        {missing.length > 0 && (
          <>
            <p>Missing among the anchors:</p>
            <ul className="verify__missing">
              {missing.map((anchor) => (
                <li key={anchor}>{anchor}</li>
              ))}
            </ul>
          </>
        )}
      </Note>
      <Steps steps={report.steps} of={file.name} />
      {facts.length > 0 && <Facts facts={facts} of={file.name} />}
      <dl>
        <dt>SHA-256 of the file</dt>
        <dd className="sa-row">
          <code className="sa-wrap">{sha256}</code>
          <CopyButton text={sha256} label={`Copy the SHA-256 of ${file.name}`} />
        </dd>
      </dl>
      <div>
        <Button onClick={() => save(`${file.name.replace(/\.json$/iu, "")}.report.json`, outcome.report)}>
          <Icon name="down" />
          Download the report
        </Button>
      </div>
    </div>
  );
}

function Steps({ steps, of }: { steps: readonly Step[]; of: string }) {
  return (
    <div className="sa-stack sa-stack--tight">
      <h4>Steps</h4>
      <Table caption={`Steps of ${of}`} columns={["#", "Step", "Result", "What was found"]}>
        <tbody>
          {steps.map((step) => (
            <tr key={step.number}>
              <td>{step.number}</td>
              <th scope="row">{step.name}</th>
              <td>
                <Lozenge tone={toneOfResult(step.result)}>{step.result}</Lozenge>
              </td>
              <td className="sa-wrap">
                <Visible text={step.detail} />
                {step.code && (
                  <>
                    {" "}
                    <code>{step.code}</code>
                  </>
                )}
              </td>
            </tr>
          ))}
        </tbody>
      </Table>
      {ended(steps) && <p className="sa-subtle">The steps after it were not taken.</p>}
    </div>
  );
}

function Facts({ facts, of }: { facts: readonly Fact[]; of: string }) {
  const labels = [...new Set(facts.map(({ label }) => label))].filter(restsOn);
  return (
    <div className="sa-stack sa-stack--tight">
      <h4>What it says, and on what that rests</h4>
      <ul className="sa-row">
        {labels.map((label) => (
          <li key={label} className="sa-small">
            <Lozenge tone={toneOfLabel(label)}>{label}</Lozenge> {restsOn(label)}
          </li>
        ))}
      </ul>
      <Table caption={`Facts of ${of}`} columns={["Rests on", "Fact", "Value"]}>
        <tbody>
          {facts.map((fact, i) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: the list never changes, and facts may be equal
            <tr key={i}>
              <td>
                <Lozenge tone={toneOfLabel(fact.label)}>{fact.label}</Lozenge>
              </td>
              <th scope="row">{fact.name}</th>
              <td className="sa-wrap">
                <Visible text={fact.value} />
              </td>
            </tr>
          ))}
        </tbody>
      </Table>
    </div>
  );
}

/** Gives the reader a file. */
function save(name: string, text: string) {
  const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  URL.revokeObjectURL(address);
}
