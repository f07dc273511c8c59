package gate

import (
	"cmp"
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
// the pull request's whole chain, or, of a request that ended, with the chain up to its end, the
// workspace's roster, and the proofs that all of it is under a published checkpoint.
func (g *Gate) Bundle(ctx context.Context, person store.Person, workspace, requestID string) ([]byte, error) {
	v, err := g.ViewRequest(ctx, person, workspace, requestID)
	if err != nil {
		return nil, err
	}
	if v.Verdict.State == "" {
		return nil, notTallied()
	}
	var d dossier
	err = g.Store.InWorkspace(ctx, workspace, func(tx *store.Tx) (err error) {
		d, err = readDossier(ctx, tx, v)
		return err
	})
	if err != nil {
		return nil, hide(incomplete(err))
	}
	// What follows never changes once it is there: it needs no lock, and no moment of its own.
	if err := g.addRoster(ctx, workspace, &d); err != nil {
		return nil, incomplete(err)
	}
	if err := g.addProofs(ctx, &d); err != nil {
		return nil, err
	}
	data, err := d.Encode()
	if evidence.CodeOf(err) == evidence.CodeTooLarge {
		return nil, tooLong()
	}
	if err != nil { // a document on record that is none
		return nil, incomplete(lost("bundle", err))
	}
	return data, nil
}

// errLost says that what evidence is made of is not on record any more, or cannot be read.
var errLost = errors.New("it is not what it was when it was written down")

// lost says what is not on record any more, or why it cannot be read. An error of the connection is neither.
func lost(what string, err error) error { return fmt.Errorf("%s: %w: %w", what, errLost, err) }

// incomplete refuses to give evidence of which something is lost. Nothing can be proved then, and it stays so.
func incomplete(err error) error {
	if errors.Is(err, errLost) {
		return refusal.New(CodeIncomplete, "What this evidence is made of is not on record any more, or was changed, so that there is none: "+
			"tell whoever runs this service.").Because(err)
	}
	return err
}

func tooLong() error {
	return refusal.New(CodeTooLong, "The history of this pull request, or the roster of its workspace, is too long for one file.")
}

// dossier is a bundle in the making.
type dossier struct {
	evidence.Bundle
	genesis store.PlacedLeaf
	roster  store.RosterVersion // the newest; the zero one without
	newest  store.PlacedLeaf    // its leaf
	chain   []int64             // the indexes of the chain's leaves
	// cosignatures is how many witnesses must have cosigned the checkpoint, by the rule of the request.
	cosignatures int
	heads        []evidence.LogHead // that signers were shown, ascending, each once
}

// readDossier reads what has to be of one moment.
func readDossier(ctx context.Context, tx *store.Tx, v View) (d dossier, err error) {
	// The lock keeps the chain, the decisions and the verdict one moment's.
	pr, err := tx.LockPullRequestByID(ctx, v.PullRequest.ID)
	if err != nil {
		return d, err
	}
	request, err := tx.Request(ctx, v.Request.ID)
	if err != nil {
		return d, err
	}
	version, err := tx.PolicyVersion(ctx, request.PolicyVersionID)
	if err != nil {
		return d, gone("policy", err)
	}
	d.Policy, d.Salt, d.OutcomeSalt = version.Document, v.Workspace.GenesisSalt, request.OutcomeSalt
	d.cosignatures = v.Rule.Cosignatures
	if d.Facts, err = factsOf(request); err != nil {
		return d, err
	}
	if d.Verdict, err = verdictOf(request); err != nil {
		return d, err
	}
	requests, err := tx.AllRequestsOf(ctx, pr.ID)
	if err != nil {
		return d, err
	}
	for _, r := range requests {
		if r.Round > request.Round && !request.Alive() {
			break
		}
		d.Requests = append(d.Requests, requestDocument(v.Workspace, pr, r))
	}
	if pr.ChainSequence > maxChain {
		return d, tooLong()
	}
	leaves, err := tx.Chain(ctx, pr.ChainID, 0, maxChain)
	if err != nil {
		return d, err
	}
	if !request.Alive() {
		if leaves, err = untilClosed(leaves, request.ID); err != nil {
			return d, err
		}
	}
	for _, leaf := range leaves {
		d.Chain, d.chain = append(d.Chain, leaf.Entry), append(d.chain, leaf.Index)
	}
	decisions, err := tx.Decisions(ctx, pr.ID)
	if err != nil {
		return d, err
	}
	decisions = slices.DeleteFunc(decisions, func(d store.Decision) bool { return d.Sequence > int64(len(leaves)) })
	if err := tallied(request, d.Facts, decisions); err != nil {
		return d, err
	}
	if err := d.sign(decisions); err != nil {
		return d, err
	}
	return d, d.place(ctx, tx, v.Workspace)
}

// sign adds the decisions, and notes the log heads that their signers were shown.
func (d *dossier) sign(decisions []store.Decision) error {
	for _, row := range decisions {
		signed := evidence.SignedDecision{ID: row.ID, Statement: row.Statement}
		if err := json.Unmarshal(row.Assertion, &signed.Assertion); err != nil {
			return lost("stored assertion", err)
		}
		var open openings
		if err := json.Unmarshal(row.Openings, &open); err != nil {
			return lost("stored openings", err)
		}
		signed.Approver, signed.Author, signed.Comment = open.Approver, open.Author, open.Comment
		d.Decisions = append(d.Decisions, signed)
		statement, err := evidence.ParseStatement(row.Statement)
		if err != nil {
			return lost("stored statement", err)
		}
		if head := statement.LogHead; head.Size > 0 && !slices.ContainsFunc(d.heads, func(h evidence.LogHead) bool { return h.Size == head.Size }) {
			d.heads = append(d.heads, *head)
		}
	}
	slices.SortFunc(d.heads, func(a, b evidence.LogHead) int { return cmp.Compare(a.Size, b.Size) })
	return nil
}

// place finds the leaves of genesis and newest roster version in the log. The roster is read after the
// chain, so it has every version that a signer of the chain was shown.
func (d *dossier) place(ctx context.Context, tx *store.Tx, w store.Workspace) (err error) {
	if d.genesis, err = tx.FindLeaf(ctx, w.GenesisLeaf); err != nil {
		return gone("genesis leaf", err)
	}
	d.Genesis = d.genesis.Entry
	d.roster, err = tx.NewestRoster(ctx)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if d.newest, err = tx.FindLeaf(ctx, d.roster.LeafHash); err != nil {
		return gone("leaf of the newest roster version", err)
	}
	return nil
}

// gone says of a row that was not found that it is lost.
func gone(what string, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return lost(what, err)
	}
	return err
}

// addProofs waits until everything is under a published checkpoint, and proves it.
func (g *Gate) addProofs(ctx context.Context, d *dossier) error {
	leaves := append(slices.Clone(d.chain), d.genesis.Index)
	if d.roster.Version > 0 {
		leaves = append(leaves, d.newest.Index)
	}
	sizes := make([]int64, len(d.heads))
	for i, head := range d.heads {
		sizes[i] = head.Size
	}
	checkpoint, err := g.published(ctx, max(slices.Max(leaves)+1, slices.Max(append(sizes, 0))), d.cosignatures)
	if err != nil {
		return err
	}
	p, err := newProver(ctx, g.Store.Tree(ctx), checkpoint.Size, leaves, sizes)
	if err != nil {
		return err
	}
	d.Log = evidence.LogProof{Checkpoint: string(checkpoint.Note), Chain: make([]evidence.Inclusion, len(d.chain)), Heads: make([]evidence.Consistency, len(d.heads))}
	if d.Log.Genesis, err = p.inclusion(d.genesis.Index); err != nil {
		return err
	}
	for i, index := range d.chain {
		if d.Log.Chain[i], err = p.inclusion(index); err != nil {
			return err
		}
	}
	for i, head := range d.heads {
		if d.Log.Heads[i], err = p.consistency(head); err != nil {
			return err
		}
	}
	if d.roster.Version == 0 {
		return nil
	}
	d.Log.Roster = &evidence.IncludedLeaf{Entry: d.newest.Entry}
	d.Log.Roster.Inclusion, err = p.inclusion(d.newest.Index)
	return err
}

// untilClosed cuts a chain after the end of a request: what came later is no part of what the request
// was, and its verdict was reached without it.
func untilClosed(leaves []store.LeafRow, requestID string) ([]store.LeafRow, error) {
	for i, row := range leaves {
		leaf, err := evidence.ParseLeaf(row.Entry)
		if err != nil {
			return nil, lost("stored leaf", err)
		}
		if closed, ok := leaf.Body.(evidence.RequestClosed); ok && closed.Request == requestID {
			return leaves[:i+1], nil
		}
	}
	return nil, lost("chain", fmt.Errorf("request %s ended without a leaf", requestID))
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
	return lost("decisions", errors.New("the verdict of an ended request rests on others than are on record"))
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
