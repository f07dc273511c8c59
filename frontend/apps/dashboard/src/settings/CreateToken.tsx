import { failureOf } from "@signedapproval/graph/failure";
import { graphql } from "@signedapproval/graph/generated";
import type { TokenScope } from "@signedapproval/graph/generated/graphql.ts";
import { Button } from "@signedapproval/ui/Button";
import { CopyButton } from "@signedapproval/ui/CopyButton";
import { ErrorNote } from "@signedapproval/ui/ErrorNote";
import { Check, Field } from "@signedapproval/ui/Field";
import { Note } from "@signedapproval/ui/Note";
import { type FormEvent, useState } from "react";
import { useMutation } from "urql";
import "./CreateToken.css";

const CreateApiToken = graphql(`
  mutation CreateApiToken($input: CreateApiTokenInput!) {
    createApiToken(input: $input) {
      apiToken {
        id
        ...TokenRow_apiToken
      }
      secret
      userErrors {
        code
        message
        path
      }
    }
  }
`);

/** Makes a token and shows its text, which is kept nowhere. */
export function CreateToken({ workspaceId, onCreated }: { workspaceId: string; onCreated: () => void }) {
  const [name, setName] = useState("");
  const [configure, setConfigure] = useState(false);
  const [days, setDays] = useState("90");
  const [secret, setSecret] = useState<string | null>(null);
  const [{ fetching, data, error }, create] = useMutation(CreateApiToken);
  const failure = failureOf(error);
  const errors = data?.createApiToken.userErrors ?? [];
  const problem = (field: string) => errors.find((refusal) => refusal.path.includes(field))?.message;
  const other = errors.find((refusal) => !["name", "expiresInDays"].some((field) => refusal.path.includes(field)));

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    if (fetching) return;
    const scopes: TokenScope[] = configure ? ["READ", "CONFIGURE"] : ["READ"];
    const expiresInDays = /^\d{1,4}$/u.test(days.trim()) ? Number(days) : 0;
    const { data: answer } = await create({ input: { workspaceId, name: name.trim(), scopes, expiresInDays } });
    if (!answer?.createApiToken.secret) return;
    setSecret(answer.createApiToken.secret);
    setName("");
    onCreated();
  };
  return (
    <form className="card" onSubmit={(event) => void submit(event)} aria-label="New API token" noValidate>
      {secret && (
        <Note
          tone="success"
          title="Copy the token now: it is shown this once"
          urgent
          actions={<Button onClick={() => setSecret(null)}>I have copied it</Button>}
        >
          <span className="token">
            <code>{secret}</code>
            <CopyButton text={secret} label="Copy the token" />
          </span>
        </Note>
      )}
      <div className="rule-editor__grid">
        <Field label="Name of the new token" hint="What it is for." problem={problem("name")}>
          {(control) => (
            <input {...control} maxLength={64} value={name} onChange={(event) => setName(event.target.value)} />
          )}
        </Field>
        <Field label="Expires after (days)" hint="1 to 366." problem={problem("expiresInDays")}>
          {(control) => (
            <input
              {...control}
              type="number"
              min={1}
              max={366}
              value={days}
              onChange={(event) => setDays(event.target.value)}
            />
          )}
        </Field>
      </div>
      <Check label="Read" hint="What you may read. Every token has this." checked disabled readOnly />
      <Check
        label="Configure"
        hint="Also change rules and ask again, as far as you may."
        checked={configure}
        onChange={(event) => setConfigure(event.target.checked)}
      />
      <div>
        <Button type="submit" appearance="primary" busy={fetching}>
          Create the token
        </Button>
      </div>
      {failure && <ErrorNote failure={failure} doing="create the token" />}
      {other && (
        <Note tone="danger" urgent>
          {other.message}
        </Note>
      )}
    </form>
  );
}
