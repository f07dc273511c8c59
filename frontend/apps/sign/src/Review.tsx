import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import { Person } from "@signedapproval/ui/Avatar";
import { Button } from "@signedapproval/ui/Button";
import { Branches, FullCommit } from "@signedapproval/ui/Commit";
import { CopyButton } from "@signedapproval/ui/CopyButton";
import { withoutHidden } from "@signedapproval/ui/characters.ts";
import { ExternalLink } from "@signedapproval/ui/Link";
import { Note } from "@signedapproval/ui/Note";
import { Time } from "@signedapproval/ui/Time";
import { Visible } from "@signedapproval/ui/Visible";
import { useEffect, useState } from "react";
import { Decide } from "./Decide.tsx";
import { Decisions } from "./Decisions.tsx";
import { RuleInWords } from "./RuleInWords.tsx";
import { type RenderedChange, ShownChange } from "./ShownChange.tsx";

const viewerFragment = graphql(`
  fragment Review_viewer on Viewer {
    ...Decide_viewer
  }
`);

const serverFragment = graphql(`
  fragment Review_server on Server {
    ...Decide_server
  }
`);

const pullRequestFragment = graphql(`
  fragment Review_pullRequest on PullRequest {
    id
    number
    title
    url
    path
    sourceBranch
    author {
      accountId
      name
    }
    repository {
      id
      fullName
    }
    ...Decide_pullRequest
    request {
      id
      state
      sentence
      headCommit
      destinationBranch
      expiresAt
      rule {
        ...RuleInWords_rule
      }
      ...Decisions_request
      ...Decide_request
    }
  }
`);

export interface ReviewProps {
  viewer: FragmentType<typeof viewerFragment>;
  server: FragmentType<typeof serverFragment>;
  pullRequest: FragmentType<typeof pullRequestFragment>;
}

/** A change whole, and the decision about it. The change stays the one that was loaded, whatever is pushed meanwhile. */
export function Review({ viewer, server, pullRequest: masked }: ReviewProps) {
  const pullRequest = readFragment(pullRequestFragment, masked);
  const decider = readFragment(viewerFragment, viewer);
  const relyingParty = readFragment(serverFragment, server);
  const latest = pullRequest.request;
  const [reviewed, setReviewed] = useState(latest?.id);
  const [change, setChange] = useState<RenderedChange | null>(null);

  useEffect(() => {
    document.title = `Sign: ${withoutHidden(pullRequest.title)} (#${pullRequest.number})`;
  }, [pullRequest.title, pullRequest.number]);

  if (!latest || !reviewed) return null;
  const outdated = latest.id !== reviewed;
  const reload = () => {
    setChange(null);
    setReviewed(latest.id);
  };
  return (
    <>
      <a className="sign__skip" href="#decision">
        Skip to the decision
      </a>
      <header className="sign__head">
        <p className="sa-row sa-subtle">
          <Visible text={pullRequest.repository.fullName} />
          <ExternalLink href={pullRequest.url}>Pull request #{pullRequest.number}</ExternalLink>
        </p>
        <h1 className="sa-wrap">
          <Visible text={pullRequest.title} />
        </h1>
        <div className="sa-row">
          {pullRequest.author ? <Person name={pullRequest.author.name} /> : <span>Unknown author</span>}
          <Branches source={pullRequest.sourceBranch} destination={latest.destinationBranch} />
        </div>
      </header>

      {outdated && (
        <Note
          tone="warning"
          title="The pull request has changed"
          urgent
          actions={
            <Button appearance="primary" onClick={reload}>
              Show the new change
            </Button>
          }
        >
          What you see below is no longer what is asked for. It can no longer be signed.
        </Note>
      )}

      <div className="sign__columns">
        <div className="sign__change sa-stack sa-stack--loose">
          <section className="sa-stack sa-stack--tight" aria-labelledby="commit-heading">
            <h2 id="commit-heading">Head commit</h2>
            <div className="sign__commit">
              <FullCommit hash={latest.headCommit} />
              <CopyButton text={latest.headCommit} label="Copy the commit hash" />
            </div>
            <p className="sa-subtle sa-small">A signature counts for exactly this commit and for no later one.</p>
          </section>
          <ShownChange key={reviewed} requestId={reviewed} onRendered={setChange} />
        </div>

        <aside className="sign__side" aria-label="Decision">
          <div className="sign__card sa-stack" id="decision" tabIndex={-1}>
            <Decide
              viewer={decider}
              server={relyingParty}
              pullRequest={pullRequest}
              request={latest}
              change={outdated ? null : change}
            />
          </div>
          <section className="sign__card sa-stack sa-stack--tight">
            <h2>Signed so far</h2>
            <Decisions request={latest} />
          </section>
          <section className="sign__card sa-stack sa-stack--tight">
            <h2>The rule</h2>
            <RuleInWords rule={latest.rule} />
            {latest.state === "PENDING" && (
              <p className="sa-small sa-subtle">
                This request expires <Time value={latest.expiresAt} />.
              </p>
            )}
          </section>
        </aside>
      </div>
    </>
  );
}
