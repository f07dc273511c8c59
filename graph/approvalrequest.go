package graph

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"

	graphql "github.com/graph-gophers/graphql-go"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/store"
)

type approvalRequest struct {
	r     *resolver
	view  gate.View
	batch *repositoryBatch // the repositories of the list that this one is in
	// partial says that the view is the one of a [gate.Made].
	partial bool

	ID                graphql.ID
	Round             int32
	State             string
	Sentence          string
	HeadCommit        string
	DestinationBranch string
	Rule              *rule
	Requirements      []requirementProgress
	Override          *overrideProgress
	RejectedBy        []account
	Decisions         []*decision
	RequestedAt       Time
	ExpiresAt         Time
	ViewerCan         viewerCan
	SignPath          string
	EvidencePath      string
}

// maxShown bounds who is named as someone who can still approve: of a large workspace, everybody may.
const maxShown = 50

// approvalRequest maps the request of a view; there must be one.
func (r *resolver) approvalRequest(v gate.View) *approvalRequest {
	return r.approvalRequestOn(r.batches([]gate.View{v})[v.Workspace.ID], v)
}

func (r *resolver) approvalRequestOn(batch *repositoryBatch, v gate.View) *approvalRequest {
	q, pr := v.Request, v.PullRequest
	names := namesIn(v)
	return &approvalRequest{
		r: r, view: v, batch: batch,
		ID: nodeID(kindRequest, v.Workspace.ID, q.ID), Round: clamp(q.Round), State: q.State, Sentence: q.Sentence,
		HeadCommit: q.HeadCommit, DestinationBranch: q.DestinationBranch, Rule: r.ruleOf(v.Rule, names),
		Requirements: each(v.Verdict.Requirements, progressOf), Override: overrideProgressOf(v.Verdict.Override), RejectedBy: each(v.Verdict.Rejections, accountOf),
		Decisions:   each(v.Decisions, func(d store.Decision) *decision { return decisionOf(v.Workspace.ID, q.ID, d) }),
		RequestedAt: timeOf(q.RequestedAt), ExpiresAt: timeOf(q.ExpiresAt), ViewerCan: canOf(v.Can),
		SignPath:     gate.SignPath(v.Workspace.ID, pr.RepositoryID, pr.Number),
		EvidencePath: "/evidence/" + v.Workspace.ID + "/" + q.ID,
	}
}

func (r *resolver) requestPage(views []gate.View, more bool) *connection[*approvalRequest] {
	batches := r.batches(views)
	return connect(views, more, func(v gate.View) string { return v.Request.Cursor() },
		func(v gate.View) *approvalRequest { return r.approvalRequestOn(batches[v.Workspace.ID], v) })
}

// PullRequest is of the moment at which the request was read, unless that was without what else is shown of a pull request.
func (q *approvalRequest) PullRequest(ctx context.Context) (*pullRequest, error) {
	if !q.partial {
		return q.r.pullRequestOn(q.batch, q.view), nil
	}
	view, err := q.r.gate.ViewRequest(ctx, viewerOf(ctx), q.view.Workspace.ID, q.view.Request.ID)
	if err != nil {
		return nil, err
	}
	return q.r.pullRequestOn(q.r.batches([]gate.View{view})[view.Workspace.ID], view), nil
}

type diff struct {
	Content           string
	SHA256            string
	Size              int32
	HeadCommit        string
	DestinationCommit string
	MergeBases        []string
}

// Diff reads from Bitbucket what the approvers look at.
func (q *approvalRequest) Diff(ctx context.Context) (*diff, error) {
	shown, err := q.r.gate.Diff(ctx, viewerOf(ctx), q.view.Workspace.ID, q.view.Request.ID)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(shown.Diff)
	return &diff{
		Content: base64.StdEncoding.EncodeToString(shown.Diff), SHA256: hex.EncodeToString(sum[:]), Size: clamp(len(shown.Diff)),
		HeadCommit: shown.HeadCommit, DestinationCommit: shown.DestinationCommit, MergeBases: shown.MergeBases,
	}, nil
}

type requirementProgress struct {
	Name            string
	Quorum          int32
	Missing         int32
	ApprovedBy      []account
	CanStillApprove []account
	Ignored         []ignoredDecision
}

type ignoredDecision struct {
	Account  account
	Code     string
	Sentence string
}

func progressOf(v approval.RequirementVerdict) requirementProgress {
	can := v.CanStillApprove[:min(len(v.CanStillApprove), maxShown)]
	return requirementProgress{
		Name: v.Name, Quorum: clamp(v.Quorum), Missing: clamp(v.Missing),
		ApprovedBy: each(v.Counted, accountOf), CanStillApprove: each(can, accountOf),
		Ignored: each(v.Ignored, func(i approval.Ignored) ignoredDecision {
			return ignoredDecision{Account: accountOf(i.Person), Code: strings.ToUpper(string(i.Reason)), Sentence: i.Sentence}
		}),
	}
}

type overrideProgress struct {
	Quorum           int32
	Missing          int32
	OverriddenBy     []account
	CanStillOverride []account
	Ignored          []ignoredDecision
}

func overrideProgressOf(v *approval.RequirementVerdict) *overrideProgress {
	if v == nil {
		return nil
	}
	p := progressOf(*v)
	return &overrideProgress{
		Quorum: p.Quorum, Missing: p.Missing, OverriddenBy: p.ApprovedBy, CanStillOverride: p.CanStillApprove, Ignored: p.Ignored,
	}
}

type viewerCan struct {
	Approve, Reject, Withdraw, Renew bool
	Code, Reason                     string
	Override                         bool
	OverrideCode, OverrideReason     string
}

func canOf(c gate.Can) viewerCan {
	return viewerCan{
		Approve: c.Approve, Reject: c.Reject, Withdraw: c.Withdraw, Renew: c.Renew, Code: c.Code, Reason: c.Reason,
		Override: c.Override, OverrideCode: c.OverrideCode, OverrideReason: c.OverrideReason,
	}
}

type decision struct {
	ID              graphql.ID
	Account         account
	Action          string
	Comment         string
	DecidedAt       Time
	RuleDigest      string
	StatementSHA256 string
	LeafHash        string
	ReceiptPath     string
}

func decisionOf(workspace, requestID string, d store.Decision) *decision {
	sum := sha256.Sum256(d.Statement)
	return &decision{
		ID: nodeIDOf(kindDecision, workspace, requestID, d.ID), Account: account{AccountID: d.AccountID, Name: d.Name},
		Action: d.Action, Comment: d.Comment, DecidedAt: timeOf(d.DecidedAt), RuleDigest: d.RuleDigest,
		StatementSHA256: hex.EncodeToString(sum[:]), LeafHash: d.LeafHash,
		ReceiptPath: "/receipts/" + workspace + "/" + d.ID,
	}
}

type keyProblem struct{ Code, Sentence string }

// KeyProblem says why no passkey of the viewer would count.
func (q *approvalRequest) KeyProblem(ctx context.Context) (*keyProblem, error) {
	if q.view.Rule.Keys == nil || !q.view.Request.Alive() {
		return nil, nil
	}
	workspace := q.view.Workspace.ID
	keys, err := q.batch.keys.get(func() (store.Keys, error) { return q.r.gate.Keys(ctx, viewerOf(ctx), workspace) })
	if err != nil {
		return nil, err
	}
	problem, err := q.r.gate.KeyProblem(q.view.Rule, keys, workspace)
	if err != nil || problem == nil {
		return nil, err
	}
	return &keyProblem{Code: problem.Code, Sentence: problem.Sentence}, nil
}

type prepareDecisionInput struct {
	RequestID  graphql.ID
	Action     string
	Comment    *string
	HeadCommit string
	DiffSHA256 string
}

type prepareDecisionPayload struct {
	problems
	Statement   *string
	SignerSalt  *string
	CommentSalt *string
	Options     *string
	ExpiresAt   *Time
}

// PrepareDecision makes the statement that a decision will sign.
func (r *resolver) PrepareDecision(ctx context.Context, args struct{ Input prepareDecisionInput }) (*prepareDecisionPayload, error) {
	in := args.Input
	return mutate(func(p *prepareDecisionPayload) error {
		a, err := find(ctx, kindRequest, in.RequestID, "requestId")
		if err != nil {
			return err
		}
		prepared, err := r.gate.Prepare(ctx, viewerOf(ctx), callerOf(ctx).SessionHash, gate.Draft{
			Workspace: a.workspace, RequestID: a.id, Action: approval.Action(in.Action), Comment: or(in.Comment, ""),
			HeadCommit: in.HeadCommit, DiffSHA256: in.DiffSHA256,
		})
		if err != nil {
			return err
		}
		p.Statement, p.ExpiresAt = new(base64.RawURLEncoding.EncodeToString(prepared.Statement)), timeOrNil(&prepared.ExpiresAt)
		if prepared.SignerSalt != nil {
			p.SignerSalt = new(base64.RawURLEncoding.EncodeToString(prepared.SignerSalt))
		}
		if prepared.CommentSalt != nil {
			p.CommentSalt = new(base64.RawURLEncoding.EncodeToString(prepared.CommentSalt))
		}
		if prepared.Options != nil {
			p.Options = new(string(prepared.Options))
		}
		return nil
	})
}

type submitDecisionInput struct {
	RequestID graphql.ID
	Response  string
}

type submitDecisionPayload struct {
	problems
	Decision *decision
	Request  *approvalRequest
}

// SubmitDecision takes a decision with the authenticator's answer.
func (r *resolver) SubmitDecision(ctx context.Context, args struct{ Input submitDecisionInput }) (*submitDecisionPayload, error) {
	return mutate(func(p *submitDecisionPayload) error {
		a, err := find(ctx, kindRequest, args.Input.RequestID, "requestId")
		if err != nil {
			return err
		}
		made, err := r.gate.Decide(ctx, viewerOf(ctx), callerOf(ctx).SessionHash, a.workspace, a.id, []byte(args.Input.Response))
		if err != nil {
			return err
		}
		p.Decision, p.Request = decisionOf(a.workspace, a.id, made.Decision), r.approvalRequest(made.View)
		p.Request.partial = true
		return nil
	})
}

type renewRequestInput struct{ RequestID graphql.ID }

type renewRequestPayload struct {
	problems
	Request *approvalRequest
}

// RenewRequest asks again for an approval that was not given in time.
func (r *resolver) RenewRequest(ctx context.Context, args struct{ Input renewRequestInput }) (*renewRequestPayload, error) {
	return mutate(func(p *renewRequestPayload) error {
		a, err := find(ctx, kindRequest, args.Input.RequestID, "requestId")
		if err != nil {
			return err
		}
		view, err := r.gate.Renew(ctx, viewerOf(ctx), a.workspace, a.id)
		if err != nil {
			return err
		}
		p.Request = r.approvalRequest(view)
		return nil
	})
}

// namesIn collects what the people of a view are called.
func namesIn(v gate.View) map[string]string {
	names := make(map[string]string)
	explained := v.Verdict.Requirements
	if v.Verdict.Override != nil {
		explained = append(slices.Clip(explained), *v.Verdict.Override)
	}
	for _, requirement := range explained {
		for _, p := range slices.Concat(requirement.CanStillApprove, requirement.Counted) {
			names[p.AccountID] = p.Name
		}
	}
	for _, d := range v.Decisions {
		names[d.AccountID] = d.Name
	}
	names[v.PullRequest.AuthorAccountID] = v.PullRequest.AuthorName
	return names
}
