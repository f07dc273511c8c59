import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import { useLive } from "@signedapproval/graph/provider";
import type { Host } from "@signedapproval/host/host";
import { Branches, ShortCommit } from "@signedapproval/ui/Commit";
import { CopyButton } from "@signedapproval/ui/CopyButton";
import { Icon } from "@signedapproval/ui/Icon";
import { ExternalLink } from "@signedapproval/ui/Link";
import { Lozenge } from "@signedapproval/ui/Lozenge";
import { Note } from "@signedapproval/ui/Note";
import { OwedStatus } from "@signedapproval/ui/OwedStatus";
import { sentenceCase } from "@signedapproval/ui/sentence.ts";
import { Visible } from "@signedapproval/ui/Visible";
import { useEffect, useRef } from "react";
import { Actions } from "./Actions.tsx";
import { Requirements } from "./Requirements.tsx";
import { badgeOf } from "./words.ts";

const pullRequestFragment = graphql(`
  fragment PullRequestGate_pullRequest on PullRequest {
    id
    number
    title
    state
    draft
    sourceBranch
    destinationBranch
    headCommit
    url
    sentence
    version
    status {
      state
      owedSince
      problem
    }
    merge {
      state
      sentence
    }
    request {
      id
      state
      headCommit
      ...Requirements_request
      ...Actions_request
    }
  }
`);

export interface PullRequestGateProps {
  pullRequest: FragmentType<typeof pullRequestFragment>;
  host: Host;
}

/** The gate of one pull request, kept up to date. */
export function PullRequestGate({ pullRequest: masked, host }: PullRequestGateProps) {
  const pullRequest = readFragment(pullRequestFragment, masked);
  const { request, status, merge } = pullRequest;
  const badge = badgeOf(pullRequest);
  const sentence = sentenceCase(pullRequest.sentence);
  useNotifyOfChange(host, sentence, badge.tone);

  return (
    <div className="sa-stack">
      <section className="panel__verdict" aria-label="State">
        <div className="sa-row sa-row--apart">
          <Lozenge tone={badge.tone}>{badge.label}</Lozenge>
          <LiveSign />
        </div>
        <p className="panel__sentence sa-wrap" aria-live="polite">
          <Visible text={sentence} />
        </p>
      </section>

      {request && <Actions request={request} draft={pullRequest.draft} host={host} />}
      {request && <Requirements request={request} />}

      {merge && (
        <Note tone={merge.state === "REFUSED" ? "warning" : merge.state === "MERGED" ? "success" : "information"}>
          {sentenceCase(merge.sentence) || "Auto-merge is under way."}
        </Note>
      )}
      <OwedStatus status={status} />

      <footer className="panel__about">
        <div className="panel__commit">
          <Icon name="commit" />
          <span className="sa-hidden">Head commit</span>
          <ShortCommit hash={pullRequest.headCommit} />
          <CopyButton text={pullRequest.headCommit} label="Copy the full commit hash" />
        </div>
        <Branches source={pullRequest.sourceBranch} destination={pullRequest.destinationBranch} />
        <p className="sa-row sa-small">
          {request && (
            <ExternalLink href={host.address(`/requests/${request.id}`)} onOpen={host.openExternal}>
              History and evidence
            </ExternalLink>
          )}
          <ExternalLink href={pullRequest.url} onOpen={host.openExternal}>
            Pull request #{pullRequest.number}
          </ExternalLink>
        </p>
      </footer>
    </div>
  );
}

/** Tells the reader once when what the panel says has become something else while it was open. */
function useNotifyOfChange(host: Host, sentence: string, tone: ReturnType<typeof badgeOf>["tone"]) {
  const before = useRef(sentence);
  useEffect(() => {
    if (before.current === sentence) return;
    before.current = sentence;
    if (!sentence) return;
    host.notify({ title: sentence, tone: tone === "neutral" || tone === "discovery" ? "information" : tone });
  }, [host, sentence, tone]);
}

function LiveSign() {
  const live = useLive();
  const words = {
    connecting: "Connecting…",
    live: "Live",
    polled: "Updated every few seconds",
    lost: "Not live: reconnecting…",
  }[live];
  return <span className={`panel__live panel__live--${live}`}>{words}</span>;
}
