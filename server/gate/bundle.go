package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// maxChain bounds the leaves of one pull request that a bundle can hold.
const maxChain = 100_000

// requestDocument is what a request is about, in the form that its leaf commits to.
func requestDocument(workspace store.Workspace, pr store.PullRequest, r store.ApprovalRequest) evidence.Request {
	return evidence.Request{
		ID: r.ID, Workspace: bitbucket.BracedUUID(workspace.ID), Repository: bitbucket.BracedUUID(pr.RepositoryID),
		PullRequest: pr.Number, HeadCommit: r.HeadCommit, DestinationBranch: r.DestinationBranch,
		RuleDigest: approval.Digest(r.RuleDigest), OpenedAt: r.RequestedAt.UTC(), ExpiresAt: r.ExpiresAt.UTC(),
	}
}

// Bundle makes the evidence bundle of a request: one file that proves its verdict offline, with
// the pull request's whole chain, or, of a request that ended, with the chain up to its end.
func (g *Gate) Bundle(ctx context.Context, person store.Person, workspace, requestID string) ([]byte, error) {
	v, err := g.ViewRequest(ctx, person, workspace, requestID)
	if err != nil {
		return nil, err
	}
	if v.Verdict.State == "" {
		return nil, notTallied()
	}
	var b evidence.Bundle
	err = g.Store.InWorkspace(ctx, workspace, func(tx *store.Tx) (err error) {
		b, err = readBundle(ctx, tx, v)
		return err
	})
	if err != nil {
		return nil, hide(err)
	}
	return b.Encode()
}

func readBundle(ctx context.Context, tx *store.Tx, v View) (b evidence.Bundle, err error) {
	// The lock keeps the chain, the decisions and the verdict one moment's.
	pr, err := tx.LockPullRequestByID(ctx, v.PullRequest.ID)
	if err != nil {
		return b, err
	}
	request, err := tx.Request(ctx, v.Request.ID)
	if err != nil {
		return b, err
	}
	version, err := tx.PolicyVersion(ctx, request.PolicyVersionID)
	if err != nil {
		return b, err
	}
	b.Policy, b.Salt, b.OutcomeSalt = version.Document, v.Workspace.GenesisSalt, request.OutcomeSalt
	if b.Facts, err = factsOf(request); err != nil {
		return b, err
	}
	if b.Verdict, err = verdictOf(request); err != nil {
		return b, err
	}
	requests, err := tx.AllRequestsOf(ctx, pr.ID)
	if err != nil {
		return b, err
	}
	for _, r := range requests {
		if r.Round > request.Round && !request.Alive() {
			break
		}
		b.Requests = append(b.Requests, requestDocument(v.Workspace, pr, r))
	}
	leaves, err := tx.Chain(ctx, pr.ChainID, 0, maxChain)
	if err != nil {
		return b, err
	}
	if !request.Alive() {
		if leaves, err = untilClosed(leaves, request.ID); err != nil {
			return b, err
		}
	}
	for _, leaf := range leaves {
		b.Chain = append(b.Chain, leaf.Entry)
	}
	decisions, err := tx.Decisions(ctx, pr.ID)
	if err != nil {
		return b, err
	}
	decisions = slices.DeleteFunc(decisions, func(d store.Decision) bool { return d.Sequence > int64(len(leaves)) })
	if err := tallied(request, b.Facts, decisions); err != nil {
		return b, err
	}
	keys := map[string]bool{}
	for _, d := range decisions {
		signed := evidence.SignedDecision{ID: d.ID, Statement: d.Statement}
		if err := json.Unmarshal(d.Assertion, &signed.Assertion); err != nil {
			return b, fmt.Errorf("stored assertion: %w", err)
		}
		var open openings
		if err := json.Unmarshal(d.Openings, &open); err != nil {
			return b, fmt.Errorf("stored openings: %w", err)
		}
		signed.Approver, signed.Author, signed.Comment = open.Approver, open.Author, open.Comment
		b.Decisions = append(b.Decisions, signed)
		if id := string(signed.Assertion.CredentialID); !keys[id] {
			keys[id] = true
			credential, err := tx.Credential(ctx, signed.Assertion.CredentialID)
			if err != nil {
				return b, err
			}
			b.Keys = append(b.Keys, keyOf(credential))
		}
	}
	return b, nil
}

// untilClosed cuts a chain after the end of a request: what came later is no part of what the request
// was, and its verdict was reached without it.
func untilClosed(leaves []store.LeafRow, requestID string) ([]store.LeafRow, error) {
	for i, row := range leaves {
		leaf, err := evidence.ParseLeaf(row.Entry)
		if err != nil {
			return nil, errors.Join(errors.New("stored leaf"), err)
		}
		if closed, ok := leaf.Body.(evidence.RequestClosed); ok && closed.Request == requestID {
			return leaves[:i+1], nil
		}
	}
	return nil, fmt.Errorf("request %s ended without a leaf", requestID)
}

// tallied refuses a bundle whose verdict does not rest on all decisions about its commit: no verifier
// would accept it.
func tallied(r store.ApprovalRequest, facts approval.Facts, decisions []store.Decision) error {
	about := 0
	for _, d := range decisions {
		if d.HeadCommit == r.HeadCommit {
			about++
		}
	}
	switch {
	case about == len(facts.Decisions):
		return nil
	case r.Alive():
		return notTallied()
	}
	return refusal.New(refusal.BadInput, "This request ended before its last decision was tallied: it has no verdict that could be proved.")
}

func notTallied() error {
	return refusal.New(refusal.Busy, "The request has not been tallied yet; try again.")
}

// Event is one leaf of a pull request's history, for people.
type Event struct {
	Sequence int64
	Type     string
	Sentence string
	At       time.Time
	LeafHash string
}

// History lists the leaves of the view's pull request after a sequence number, oldest first.
func (g *Gate) History(ctx context.Context, v View, after int64, limit int) (events []Event, more bool, err error) {
	var leaves []store.LeafRow
	var decisions []store.Decision
	err = g.Store.InWorkspace(ctx, v.Workspace.ID, func(tx *store.Tx) (err error) {
		if leaves, err = tx.Chain(ctx, v.PullRequest.ChainID, after, limit+1); err != nil {
			return err
		}
		decisions, err = tx.Decisions(ctx, v.PullRequest.ID)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	if more = len(leaves) > limit; more {
		leaves = leaves[:limit]
	}
	byLeaf := map[int64]store.Decision{}
	for _, d := range decisions {
		byLeaf[d.Sequence] = d
	}
	for _, row := range leaves {
		leaf, err := evidence.ParseLeaf(row.Entry)
		if err != nil {
			return nil, false, errors.Join(errors.New("stored leaf"), err)
		}
		events = append(events, Event{
			Sequence: row.Sequence, Type: string(leaf.Body.Type()), Sentence: sentence(leaf.Body, byLeaf[row.Sequence]),
			At: leaf.Time, LeafHash: fmt.Sprintf("%x", row.Hash),
		})
	}
	return events, more, nil
}

// sentence says an event to people.
func sentence(body evidence.Body, d store.Decision) string {
	switch b := body.(type) {
	case evidence.RequestOpened:
		return "Approval was asked for."
	case evidence.RequestClosed:
		return "The request ended: " + b.Reason + "."
	case evidence.DecisionMade:
		verb := map[string]string{"APPROVE": "approved", "REJECT": "rejected", "WITHDRAW": "withdrew the decision on", "OVERRIDE": "overrode the rule for"}[d.Action]
		if len(d.HeadCommit) < 12 {
			return "A decision was signed."
		}
		if d.Action == string(approval.Override) {
			return fmt.Sprintf("%s %s %s: “%s”", d.Name, verb, d.HeadCommit[:12], clip(d.Comment, maxReason))
		}
		return fmt.Sprintf("%s %s %s.", d.Name, verb, d.HeadCommit[:12])
	case evidence.VerdictReached:
		return "The verdict became " + b.State + "."
	case evidence.StatusPaid:
		return "Bitbucket shows the build status " + b.State + "."
	case evidence.Merged:
		if b.Kind == "approved" {
			return "The approved commit was merged as " + b.Commit[:12] + "."
		}
		if b.Kind == "override" {
			return "The overridden commit was merged as " + b.Commit[:12] + "."
		}
		return "It was merged as " + b.Commit[:12] + " without the approvals that its rule asks for."
	case evidence.MergeChecked:
		verb := map[bool]string{true: "allowed", false: "refused"}[b.Answer == evidence.AnswerYes]
		if b.Trigger == evidence.TriggerPreMerge {
			return "Bitbucket asked whether a merge would be " + verb + ": it would (" + b.Code + ")."
		}
		return "A merge was " + verb + " (" + b.Code + ")."
	}
	return string(body.Type())
}
