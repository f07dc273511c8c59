package graph

import (
	"context"
	"fmt"
	"net/url"
	"strconv"

	graphql "github.com/graph-gophers/graphql-go"

	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

type pullRequest struct {
	r     *resolver
	view  gate.View
	batch *repositoryBatch // the repositories of the list that this one is in

	ID                graphql.ID
	Number            int32
	Title             string
	Author            *account
	State             string
	Draft             bool
	SourceBranch      string
	HeadCommit        string
	DestinationBranch string
	URL               string
	Path              string
	Sentence          string
	Status            *commitStatus
	Merge             *mergeIntent
	Version           int32
}

// PullRequest finds a pull request by its place on Bitbucket.
func (r *resolver) PullRequest(ctx context.Context, args struct {
	Workspace, Repository string
	Number                int32
},
) (*pullRequest, error) {
	if !store.ValidID(args.Workspace) || !store.ValidID(args.Repository) || callerOf(ctx).Enters(args.Workspace) != nil {
		return nil, nil
	}
	view, err := r.gate.Find(ctx, viewerOf(ctx), args.Workspace, args.Repository, int64(args.Number))
	return orNil(view, err, r.pullRequest)
}

// pullRequest maps one view, pullRequests those of a list.
func (r *resolver) pullRequest(v gate.View) *pullRequest { return r.pullRequests([]gate.View{v})[0] }

func (r *resolver) pullRequests(views []gate.View) []*pullRequest {
	batches := r.batches(views)
	return each(views, func(v gate.View) *pullRequest { return r.pullRequestOn(batches[v.Workspace.ID], v) })
}

func (r *resolver) pullRequestOn(batch *repositoryBatch, v gate.View) *pullRequest {
	pr := v.PullRequest
	shown := &pullRequest{
		r: r, view: v, batch: batch,
		ID: nodeID(kindPullRequest, v.Workspace.ID, pr.ID), Number: clamp(pr.Number), Title: pr.Title, State: pr.State, Draft: pr.Draft,
		SourceBranch: pr.SourceBranch, HeadCommit: pr.HeadCommit, DestinationBranch: pr.DestinationBranch,
		URL: r.bitbucketURL(v), Path: gate.PanelPath(v.Workspace.ID, pr.RepositoryID, pr.Number),
		Sentence: sentenceOf(v), Status: statusOf(v.Status), Merge: mergeOf(v.Merge), Version: clamp(pr.Version),
	}
	if pr.AuthorAccountID != "" {
		shown.Author = &account{AccountID: pr.AuthorAccountID, Name: pr.AuthorName}
	}
	return shown
}

// sentenceOf says what the gate says now, also where it asks for nothing.
func sentenceOf(v gate.View) string {
	switch {
	case v.Request != nil && (v.Request.Alive() || v.PullRequest.State != "OPEN"):
		return v.Request.Sentence
	case v.Repository.RepositoryID == "":
		return "not gated: the repository is not configured any more"
	case v.PullRequest.State != "OPEN":
		return "closed before an approval was asked for"
	case v.PullRequest.Draft:
		return "a draft: approvals are asked for when it is ready"
	case v.Request != nil:
		return v.Request.Sentence
	}
	return "not gated: no rule asks for approval of this destination branch"
}

// bitbucketURL is the page of a pull request. Bitbucket takes identifiers for names, so a renamed
// repository is found too.
func (r *resolver) bitbucketURL(v gate.View) string {
	full := v.Repository.FullName
	if full == "" {
		full = url.PathEscape("{"+v.Workspace.ID+"}") + "/" + url.PathEscape("{"+v.PullRequest.RepositoryID+"}")
	}
	return fmt.Sprintf("%s/%s/pull-requests/%d", r.bitbucketWeb, full, v.PullRequest.Number)
}

func (p *pullRequest) Repository() *repository {
	return p.batch.repository(p.view.PullRequest.RepositoryID)
}

func (p *pullRequest) Request() *approvalRequest {
	if p.view.Request == nil {
		return nil
	}
	return p.r.approvalRequestOn(p.batch, p.view)
}

func (p *pullRequest) Requests(ctx context.Context, args pageArgs) (*connection[*approvalRequest], error) {
	views, more, err := p.r.gate.ViewRequests(ctx, viewerOf(ctx), p.view, args.page())
	if err != nil {
		return nil, err
	}
	return p.r.requestPage(views, more), nil
}

type historyEntry struct {
	Sequence int32
	Type     string
	Sentence string
	At       Time
	LeafHash string
}

const historyPage = 50

func (p *pullRequest) History(ctx context.Context, args pageArgs) (*connection[historyEntry], error) {
	after, limit := int64(0), historyPage
	if args.First != nil {
		limit = int(*args.First)
	}
	if args.After != nil && *args.After != "" {
		var err error
		if after, err = strconv.ParseInt(*args.After, 10, 64); err != nil || after < 0 {
			return nil, refusal.New(refusal.BadInput, "The cursor is not one of this list.").At("after")
		}
	}
	events, more, err := p.r.gate.History(ctx, p.view, after, limit)
	if err != nil {
		return nil, err
	}
	return connect(events, more,
		func(e gate.Event) string { return strconv.FormatInt(e.Sequence, 10) },
		func(e gate.Event) historyEntry {
			return historyEntry{Sequence: clamp(e.Sequence), Type: e.Type, Sentence: e.Sentence, At: timeOf(e.At), LeafHash: e.LeafHash}
		}), nil
}

type commitStatus struct {
	Commit      string
	State       string
	Description string
	Paid        bool
	PaidAt      *Time
	OwedSince   *Time
	Problem     string
}

func statusOf(s *store.CommitStatus) *commitStatus {
	if s == nil {
		return nil
	}
	shown := &commitStatus{
		Commit: s.Commit, State: s.State, Description: s.Description, Paid: s.Paid(), PaidAt: timeOrNil(s.PaidAt), Problem: s.Problem,
	}
	if !shown.Paid {
		shown.OwedSince = timeOrNil(&s.OwedSince)
	}
	return shown
}

type mergeIntent struct {
	State       string
	Sentence    string
	Strategy    string
	MergeCommit *string
	UpdatedAt   Time
}

func mergeOf(m *store.MergeIntent) *mergeIntent {
	if m == nil {
		return nil
	}
	intent := &mergeIntent{State: m.State, Sentence: m.Sentence, Strategy: m.Strategy, UpdatedAt: timeOf(m.UpdatedAt)}
	if m.MergeCommit != "" {
		intent.MergeCommit = &m.MergeCommit
	}
	return intent
}

type ringPullRequestInput struct{ PullRequestID graphql.ID }

type ringPullRequestPayload struct {
	problems
	PullRequest *pullRequest
}

// RingPullRequest looks at a pull request again now.
func (r *resolver) RingPullRequest(ctx context.Context, args struct{ Input ringPullRequestInput }) (*ringPullRequestPayload, error) {
	return mutate(func(p *ringPullRequestPayload) error {
		a, err := find(ctx, kindPullRequest, args.Input.PullRequestID, "pullRequestId")
		if err != nil {
			return err
		}
		view, err := r.gate.Ring(ctx, viewerOf(ctx), a.workspace, a.id)
		if err != nil {
			return err
		}
		p.PullRequest = r.pullRequest(view)
		return nil
	})
}

// PullRequestChanged gives the pull request as it is; the stream asks for it at each change.
func (r *resolver) PullRequestChanged(ctx context.Context, args struct{ ID graphql.ID }) (<-chan *pullRequest, error) {
	a, err := find(ctx, kindPullRequest, args.ID)
	if err != nil {
		return nil, err
	}
	view, err := r.gate.ViewPullRequest(ctx, viewerOf(ctx), a.workspace, a.id)
	if err != nil {
		return nil, err
	}
	return once(r.pullRequest(view)), nil
}
