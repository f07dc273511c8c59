import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import { Note } from "@signedapproval/ui/Note";
import { sentenceCase } from "@signedapproval/ui/sentence.ts";
import { Time } from "@signedapproval/ui/Time";
import { Visible } from "@signedapproval/ui/Visible";
import { Link } from "@tanstack/react-router";

const workspaceFragment = graphql(`
  fragment Alarms_workspace on Workspace {
    id
    alarms {
      id
      kind
      sentence
      openedAt
      pullRequest {
        id
        number
        title
      }
    }
  }
`);

/** What needs an administrator. Nothing for everybody else. */
export function Alarms({ workspace: masked }: { workspace: FragmentType<typeof workspaceFragment> }) {
  const { alarms } = readFragment(workspaceFragment, masked);
  if (!alarms) return null;
  if (alarms.length === 0) return <p className="sa-subtle">No alarms.</p>;
  return (
    <div className="sa-stack sa-stack--tight">
      <h3>Alarms</h3>
      <ul className="sa-stack sa-stack--tight">
        {alarms.map((alarm) => (
          <li key={alarm.id}>
            <Note tone="warning" title={sentenceCase(alarm.kind.replaceAll("_", " ").toLowerCase())}>
              <p className="sa-wrap">
                <Visible text={alarm.sentence} />
              </p>
              <p className="sa-small">
                Since <Time value={alarm.openedAt} exact />
                {alarm.pullRequest && (
                  <>
                    , on{" "}
                    <Link to="/pull-requests/$pullRequest" params={{ pullRequest: alarm.pullRequest.id }}>
                      #{alarm.pullRequest.number} <Visible text={alarm.pullRequest.title} />
                    </Link>
                  </>
                )}
              </p>
            </Note>
          </li>
        ))}
      </ul>
    </div>
  );
}
