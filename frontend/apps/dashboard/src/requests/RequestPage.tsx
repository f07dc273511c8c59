import { type FragmentType, graphql, readFragment } from "@signedapproval/graph/generated";
import { Requirements } from "@signedapproval/panel/Requirements";
import { RuleInWords } from "@signedapproval/sign/RuleInWords";
import { Branches, FullCommit } from "@signedapproval/ui/Commit";
import { CopyButton } from "@signedapproval/ui/CopyButton";
import { EmptyState } from "@signedapproval/ui/EmptyState";
import { ExternalLink } from "@signedapproval/ui/Link";
import { Lozenge } from "@signedapproval/ui/Lozenge";
import { sentenceCase } from "@signedapproval/ui/sentence.ts";
import { Time } from "@signedapproval/ui/Time";
import { Visible } from "@signedapproval/ui/Visible";
import { Link } from "@tanstack/react-router";
import { useEffect, useRef } from "react";
import { useQuery, useSubscription } from "urql";
import { Answer } from "../Answer.tsx";
import { PageLink } from "../PageLink.tsx";
import { History } from "../pullrequests/History.tsx";
import { requestBadges } from "../states.ts";
import { useHost } from "../surroundings.ts";
import { DecisionTable } from "./DecisionTable.tsx";
import { Renew } from "./Renew.tsx";

const RequestQuery = graphql(`
  query Request($id: ID!) {
    node(id: $id) {
      id
      ...RequestDetails_request
    }
  }
`);

const RequestChanged = graphql(`
  subscription RequestChanged($id: ID!) {
    pullRequestChanged(id: $id) {
      id
      version
    }
  }
`);

const requestFragment = graphql(`
  fragment RequestDetails_request on ApprovalRequest {
    id
    round
    state
    sentence
    headCommit
    destinationBranch
    requestedAt
    expiresAt
    signPath
    evidencePath
    rule {
      digest
      ...RuleInWords_rule
    }
    viewerCan {
      approve
      reject
      withdraw
      renew
      reason
      override
    }
    ...Requirements_request
    ...DecisionTable_request
    pullRequest {
      id
      number
      title
      sourceBranch
      url
      version
      repository {
        id
        fullName
      }
    }
  }
`);

/** One request: where it stands, who decided, and what proves it. */
export function RequestPage({ id }: { id: string }) {
  const [result, ask] = useQuery({ query: RequestQuery, variables: { id } });
  return (
    <Answer result={result} ask={ask} doing="read the request">
      {({ node }) =>
        node?.__typename === "ApprovalRequest" ? (
          <RequestDetails request={node} onChanged={() => ask({ requestPolicy: "network-only" })} />
        ) : (
          <>
            <h1>Request</h1>
            <EmptyState title="Not found">
              There is no such request, or your Bitbucket account may not see its repository.
            </EmptyState>
          </>
        )
      }
    </Answer>
  );
}

interface RequestDetailsProps {
  request: FragmentType<typeof requestFragment>;
  /** Called when the pull request is another version than the one that was shown. */
  onChanged: () => void;
}

function RequestDetails({ request: masked, onChanged }: RequestDetailsProps) {
  const request = readFragment(requestFragment, masked);
  const { pullRequest, viewerCan: can } = request;
  useSubscription({ query: RequestChanged, variables: { id: pullRequest.id } });
  const shown = useRef(pullRequest.version);
  useEffect(() => {
    if (shown.current === pullRequest.version) return;
    shown.current = pullRequest.version;
    onChanged();
  }, [pullRequest.version, onChanged]);
  const badge = requestBadges[request.state];
  const host = useHost();
  return (
    <>
      <header className="sa-stack sa-stack--tight">
        <p className="sa-row sa-subtle">
          <Visible text={pullRequest.repository.fullName} />
          <Link to="/pull-requests/$pullRequest" params={{ pullRequest: pullRequest.id }}>
            Pull request #{pullRequest.number}
          </Link>
          <ExternalLink href={pullRequest.url} onOpen={host.openExternal}>
            On Bitbucket
          </ExternalLink>
        </p>
        <h1 className="sa-wrap">
          <Visible text={pullRequest.title} />
        </h1>
        <div className="sa-row">
          <Lozenge tone={badge.tone}>{badge.label}</Lozenge>
          <span aria-live="polite" className="sa-wrap">
            <Visible text={sentenceCase(request.sentence)} />
          </span>
        </div>
        <div className="sa-row">
          {(can.approve || can.reject || can.withdraw || can.override) && (
            <PageLink look="primary" path={request.signPath}>
              {can.approve ? "Review and sign" : can.withdraw ? "Withdraw my decision" : "Review"}
            </PageLink>
          )}
          {can.renew && <Renew id={request.id} />}
          <PageLink look="default" path={request.evidencePath} download>
            Download the evidence
          </PageLink>
          <PageLink look="subtle" path="/verify">
            Verify evidence
          </PageLink>
        </div>
        {can.reason && <p className="sa-subtle">{can.reason}</p>}
      </header>

      <section className="card" aria-labelledby="asked">
        <h2 id="asked">What is asked</h2>
        <dl className="facts">
          <dt>Head commit</dt>
          <dd className="sa-row">
            <FullCommit hash={request.headCommit} />
            <CopyButton text={request.headCommit} label="Copy the commit hash" />
          </dd>
          <dt>Branches</dt>
          <dd>
            <Branches source={pullRequest.sourceBranch} destination={request.destinationBranch} />
          </dd>
          <dt>Round</dt>
          <dd>{request.round}</dd>
          <dt>Asked</dt>
          <dd>
            <Time value={request.requestedAt} exact />
          </dd>
          <dt>Expires if undecided</dt>
          <dd>
            <Time value={request.expiresAt} exact />
          </dd>
          <dt>Rule</dt>
          <dd className="sa-stack sa-stack--tight">
            <RuleInWords rule={request.rule} />
            <span className="sa-small sa-subtle">
              Digest <FullCommit hash={request.rule.digest} />
            </span>
          </dd>
        </dl>
      </section>

      <section className="card" aria-label="Progress">
        <Requirements request={request} />
      </section>

      <section className="sa-stack" aria-labelledby="decisions">
        <h2 id="decisions">Decisions</h2>
        <DecisionTable request={request} />
      </section>

      <section className="sa-stack" aria-labelledby="history">
        <h2 id="history">History of the pull request</h2>
        <History pullRequest={pullRequest.id} version={pullRequest.version} />
      </section>
    </>
  );
}
