package gate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/attest"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// proof is a bundle that was verified, as far as that can be done without anchors.
type proof struct {
	view   View
	bundle evidence.Bundle
	// verdict is the one that stands by what is known of the keys today; the zero one where stolen is true.
	verdict approval.Verdict
	// stolen says that the bundle was approved or overridden, and is not without what stolen keys signed.
	stolen bool
	ref    attest.Bundle
}

// prove makes and verifies the bundle of a request. One that does not verify is as one that cannot be made: what is on
// record is not what it was. But where keys were reported as stolen since it is on record, and proves nothing any more.
func (g *Gate) prove(ctx context.Context, person store.Person, workspace, requestID string) (proof, error) {
	v, err := g.ViewRequest(ctx, person, workspace, requestID)
	if err != nil {
		return proof{}, err
	}
	data, err := g.Bundle(ctx, person, workspace, requestID)
	if err != nil {
		return proof{}, err
	}
	report := evidence.Verify(data, evidence.Anchors{})
	if report.ExitCode() == 1 && !report.Stolen() {
		return proof{}, incomplete(lost("bundle of request "+requestID, errors.New(report.Sentence())))
	}
	bundle, err := evidence.ParseBundle(data)
	if err != nil {
		return proof{}, err
	}
	last := bundle.Chain[len(bundle.Chain)-1] // a bundle that verifies has one
	leaf, err := evidence.ParseLeaf(last)
	if err != nil {
		return proof{}, errors.Join(errors.New("last leaf"), err)
	}
	p := proof{view: v, bundle: bundle, stolen: report.Stolen(), ref: attest.Bundle{
		URI: g.Origin + "/evidence/" + workspace + "/" + requestID, Digest: approval.DigestOf(data),
		Chain: attest.Chain{ID: leaf.Chain.ID, Sequence: leaf.Chain.Sequence, Leaf: evidence.LeafDigest(last)},
	}}
	if !p.stolen {
		p.verdict = *report.Verdict
	}
	return p, nil
}

// Review says how a commit was reviewed, in the terms of an attestation: of the request that
// [Gate.RequestOfCommit] finds, by a bundle that was verified, under a published checkpoint. web is the address of
// Bitbucket's pages.
func (g *Gate) Review(ctx context.Context, person store.Person, workspace, commit string, scope CommitScope, web string) (attest.Review, error) {
	found, err := g.RequestOfCommit(ctx, person, workspace, commit, scope)
	if err != nil {
		return attest.Review{}, err
	}
	p, err := g.prove(ctx, person, workspace, found.RequestID)
	if err != nil {
		return attest.Review{}, err
	}
	if p.stolen {
		return attest.Review{}, refusal.New(CodeStolenKey, "A key with which this was approved was reported as stolen since before then, and without it the approvals "+
			"are too few: nothing is attested. The evidence says which key.")
	}
	var merge *store.MergeSeen
	var end chainEnd
	var now time.Time
	err = g.Store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		m, err := tx.MergeSeen(ctx, found.RepositoryID, p.view.PullRequest.Number)
		if optional(err) != nil {
			return err
		}
		if err == nil && m.HeadCommit == p.view.Request.HeadCommit && m.DestinationBranch == p.view.Request.DestinationBranch {
			merge = &m
		}
		if end, err = readChainEnd(ctx, tx, found.PullRequestID); err != nil {
			return err
		}
		now, err = tx.Now(ctx)
		return err
	})
	if err != nil {
		return attest.Review{}, err
	}
	log, err := g.checkpoint(ctx, end.size, p.view.Rule.Cosignatures)
	if err != nil {
		return attest.Review{}, err
	}
	r := attest.Review{
		Service: g.Origin, Time: now.UTC().Truncate(time.Second), Workspace: bitbucket.BracedUUID(workspace),
		Repository:  repositoryOf(p.view.Repository, workspace, found.RepositoryID, web),
		PullRequest: p.view.PullRequest.Number, Request: found.RequestID, Commit: commit,
		Head: p.view.Request.HeadCommit, Branch: p.view.Request.DestinationBranch,
		Policy: attest.Policy{Digest: approval.DigestOf(p.bundle.Policy), RuleDigest: approval.Digest(p.view.Request.RuleDigest)},
		Bundle: p.ref, Log: log,
	}
	if merge != nil {
		r.Merge = &attest.Merge{Kind: mergeKind(*merge, p.verdict.State), Commit: merge.LandedCommit}
	}
	r.Verdict.State = string(p.verdict.State)
	if !p.view.Request.Alive() && (merge == nil || merge.Kind == store.MergeSeenViolation) {
		r.Verdict.State = p.view.Request.State
	}
	r.Verdict.Sentence = nameless(r.Verdict.State, p.verdict)
	r.Approvals, err = counted(p.bundle, p.verdict, r.Head)
	return r, err
}

// checkpoint publishes the log's first leaves and gives the newest checkpoint with so many cosignatures.
func (g *Gate) checkpoint(ctx context.Context, size int64, cosignatures int) (attest.Log, error) {
	newest, err := g.published(ctx, size, cosignatures)
	if err != nil {
		return attest.Log{}, err
	}
	return attest.Log{Origin: g.LogOrigin, Size: newest.Size, Root: attest.Digest(fmt.Sprintf("%x", newest.Root[:]))}, nil
}

// repositoryOf names a repository; by its UUIDs, which Bitbucket's pages take too, where its name is not known.
func repositoryOf(config store.RepositoryConfig, workspace, repositoryID, web string) attest.Repository {
	name := config.FullName
	if name == "" {
		name = "%7B" + workspace + "%7D/%7B" + repositoryID + "%7D"
	}
	return attest.Repository{UUID: bitbucket.BracedUUID(repositoryID), URI: web + "/" + name}
}

// mergeKind says of a merge that was seen what it is called in an attestation. What is neither known to be
// approved nor to be overridden is a violation.
func mergeKind(m store.MergeSeen, state approval.State) string {
	switch {
	case m.Kind == store.MergeSeenViolation:
		return attest.KindViolation
	case m.Kind == store.MergeSeenApproved && state == approval.Approved:
		return attest.KindApproved
	// What bore an override when it was merged stays one, though what was signed by then turns out to be enough for an approval.
	case state == approval.Overridden, m.Kind == store.MergeSeenOverride && state == approval.Approved:
		return attest.KindOverride
	}
	return attest.KindViolation
}

// counted lists the approvals of a bundle that count in a verdict, each person once.
func counted(b evidence.Bundle, verdict approval.Verdict, head string) ([]attest.Approval, error) {
	var people []string
	for _, requirement := range verdict.Requirements {
		for _, p := range requirement.Counted {
			if !slices.Contains(people, p.ID) {
				people = append(people, p.ID)
			}
		}
	}
	var list []attest.Approval
	for _, d := range slices.Backward(b.Decisions) {
		s, err := evidence.ParseStatement(d.Statement)
		if err != nil {
			return nil, err
		}
		i := slices.Index(people, s.Approver.Person)
		if i < 0 || s.Purpose != evidence.Approve || s.Source.Commit != head {
			continue
		}
		people = slices.Delete(people, i, i+1) // the last one counts
		list = append(list, attest.Approval{Person: s.Approver.Person, Commitment: string(s.Approver.Commitment), Statement: approval.DigestOf(d.Statement)})
	}
	if len(people) > 0 {
		return nil, errors.New("a verdict counts somebody who signed nothing")
	}
	slices.Reverse(list)
	return list, nil
}

// nameless says a verdict without naming people: an attestation outlives the right to show a name.
func nameless(state string, v approval.Verdict) string {
	ids := map[string]bool{}
	switch state {
	case string(approval.Approved):
		for _, requirement := range v.Requirements {
			for _, p := range requirement.Counted {
				ids[p.ID] = true
			}
		}
	case string(approval.Rejected):
		for _, p := range v.Rejections {
			ids[p.ID] = true
		}
	case string(approval.Overridden):
		if v.Override != nil {
			for _, p := range v.Override.Counted {
				ids[p.ID] = true
			}
		}
	default:
		return strings.ToLower(state)
	}
	if len(ids) == 1 {
		return strings.ToLower(state) + " by 1 person"
	}
	return fmt.Sprintf("%s by %d people", strings.ToLower(state), len(ids))
}
