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
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// CodeNeverProtected says that no rule of a repository has ever matched the branch of an audit.
const CodeNeverProtected = "NEVER_PROTECTED"

// AuditOf says what an audit is of.
type AuditOf struct {
	// Repository is a UUID, with or without braces.
	Repository string
	Branch     string
	// From and To are the window: from From on, before To.
	From, To time.Time
	// Since, if it is not empty, is a commit of the branch, by its whole hash: what is below it is not looked at.
	Since string
	// Web is the address of Bitbucket's pages.
	Web string
}

// reached is a commit on the first-parent history of a branch.
type reached struct {
	bitbucket.Commit
	merge *store.MergeSeen // it is what this merge landed as
	by    *store.MergeSeen // the merge that brought it
	when  attest.Reached
}

func (c reached) edge() *attest.Edge { return &attest.Edge{Commit: c.Hash, Reached: c.when} }

// first is the first parent, "" of a root.
func (c reached) first() string {
	if len(c.Parents) == 0 {
		return ""
	}
	return c.Parents[0]
}

// Audit lists every commit that may have reached a branch in a window, the oldest first, and hands each row to emit; found is
// called now and then before the first one, while Bitbucket is read. It ends with an error
// where anything cannot be read to its end: what was emitted before is then no audit. The person must be able to
// read the repository.
func (g *Gate) Audit(ctx context.Context, person store.Person, workspace string, of AuditOf, found func() error, emit func(attest.Row) error) (attest.Audit, error) {
	a := auditing{gate: g, person: person, workspace: workspace, of: of, proofs: map[string]proof{}}
	if err := a.begin(ctx); err != nil {
		return attest.Audit{}, err
	}
	if err := a.walk(ctx, found); err != nil {
		return attest.Audit{}, remotely(err)
	}
	if err := a.cover(ctx); err != nil {
		return attest.Audit{}, remotely(err)
	}
	a.date()
	summary := attest.Audit{
		Service: g.Origin, Time: a.now.UTC().Truncate(time.Second), Workspace: bitbucket.BracedUUID(workspace),
		Repository: repositoryOf(a.config, workspace, a.repository, of.Web), Branch: of.Branch, From: of.From, To: of.To, Since: of.Since, Tip: a.tip,
	}
	number := 0
	for _, c := range slices.Backward(a.commits) { // the oldest first
		if !c.when.In(of.From, of.To) {
			if c.when.NotAfter.Before(of.From) {
				summary.Before = c.edge()
				continue
			}
			summary.After = c.edge()
			break
		}
		number++
		row, err := a.row(ctx, c)
		if err != nil {
			return attest.Audit{}, err
		}
		row.Number = number
		if err := emit(row); err != nil {
			return attest.Audit{}, err
		}
	}
	size, err := g.Store.LogSize(ctx)
	if err != nil {
		return attest.Audit{}, err
	}
	summary.Log, err = g.checkpoint(ctx, size, 0)
	return summary, err
}

// auditing is one audit.
type auditing struct {
	gate       *Gate
	person     store.Person
	workspace  string
	of         AuditOf
	repository string
	config     store.RepositoryConfig
	client     *bitbucket.Client
	now        time.Time
	tip        string
	landed     map[string]*store.MergeSeen // by the commit that it landed as
	start      *store.MergeSeen            // the newest merge of before the window
	commits    []reached                   // the newest first; the last may be what start landed as
	proofs     map[string]proof            // by request
}

func (a *auditing) begin(ctx context.Context) error {
	var ok bool
	if a.repository, ok = bitbucket.BareUUID(a.of.Repository); !ok || !store.ValidID(a.workspace) {
		return refusal.New(refusal.NotFound, "There is no such repository, or you may not see it.")
	}
	switch {
	case a.of.Branch == "":
		return refusal.New(refusal.BadInput, "Say which branch is audited.").At("branch")
	case a.of.Since != "" && !bitbucket.IsFullHash(a.of.Since):
		return refusal.New(refusal.BadInput, "A commit is named by its whole hash, 40 digits in lower case.").At("since")
	case a.of.From.IsZero() || a.of.To.IsZero() || !a.of.From.Before(a.of.To):
		return refusal.New(refusal.BadInput, "The window begins before it ends, and both are times such as 2026-11-01T00:00:00Z.").At("from")
	}
	if err := a.gate.see(ctx, a.person, a.workspace, a.repository, false); err != nil {
		return err
	}
	err := a.gate.Store.InWorkspace(ctx, a.workspace, func(tx *store.Tx) (err error) {
		if a.now, err = tx.Now(ctx); err != nil {
			return err
		}
		if a.config, err = tx.RepositoryConfig(ctx, a.repository); optional(err) != nil {
			return err
		}
		if err := a.wasProtected(ctx, tx); err != nil {
			return err
		}
		merges, err := tx.MergesInto(ctx, a.repository, a.of.Branch)
		if err != nil {
			return err
		}
		a.landed = map[string]*store.MergeSeen{}
		for i, m := range merges {
			if a.start == nil && m.SeenAt.Before(a.of.From) {
				a.start = &merges[i]
			}
			a.landed[m.LandedCommit] = &merges[i] // of several that landed as one commit, the first that was seen
		}
		return nil
	})
	if err != nil {
		return hide(err)
	}
	if a.client, err = a.gate.Client(ctx, a.workspace, bitbucket.Foreground); err != nil {
		return err
	}
	branch, err := a.client.Branch(ctx, a.workspace, a.repository, a.of.Branch)
	var remote *bitbucket.Error
	if errors.As(err, &remote) && remote.NotFound() {
		return refusal.New(refusal.NotFound, "The repository has no such branch.").Because(err)
	}
	a.tip = branch.Head
	return remotely(err)
}

// wasProtected refuses a branch that no version of the rules has ever named.
func (a *auditing) wasProtected(ctx context.Context, tx *store.Tx) error {
	page := store.Page{First: 100}
	for {
		versions, more, err := tx.PolicyVersions(ctx, a.repository, page)
		if err != nil {
			return err
		}
		for _, v := range versions {
			policy, err := approval.ParsePolicy(v.Document)
			if err != nil {
				return fmt.Errorf("policy version %d: %w", v.Version, err)
			}
			if _, _, ok := policy.Match(a.of.Branch); ok {
				return nil
			}
		}
		if !more {
			return refusal.New(CodeNeverProtected, "No rule has ever asked for approval of this branch.").At("branch")
		}
		page.After = versions[len(versions)-1].Cursor()
	}
}

// walk reads the first-parent history of the branch: down to the commit that was named, or to what the start landed as,
// or to its root where there is no start, or where the branch no longer holds it.
func (a *auditing) walk(ctx context.Context, found func() error) error {
	if a.of.Since != "" {
		done, err := a.line(ctx, a.of.Since, found)
		if err == nil && !done {
			err = refusal.New(refusal.BadInput, "The branch does not hold the commit at which the audit begins, or not on its own line.").At("since")
		}
		return err
	}
	if a.start != nil {
		done, err := a.line(ctx, a.start.LandedCommit, found)
		if err != nil {
			return err
		}
		if done {
			at := reached{Commit: bitbucket.Commit{Hash: a.start.LandedCommit}, merge: a.landed[a.start.LandedCommit]}
			a.commits = append(a.commits, at)
			return nil
		}
	}
	done, err := a.line(ctx, "", found)
	if err == nil && !done {
		err = refusal.New(refusal.BitbucketUnavailable, "Bitbucket's list of commits has gaps; nothing is audited.")
	}
	return err
}

// line reads the first-parent history down to stop, a commit that is in it, or to the root if stop is "". It tells
// whether it got there.
func (a *auditing) line(ctx context.Context, stop string, found func() error) (done bool, err error) {
	a.commits = nil
	seen := map[string]bitbucket.Commit{} // not on the line, or not yet
	want, listed := a.tip, 0
	for c, err := range a.client.Commits(ctx, a.workspace, a.repository, a.tip, stop) {
		if err != nil {
			return false, err
		}
		if listed++; listed%100 == 0 {
			if err := found(); err != nil {
				return false, err
			}
		}
		seen[c.Hash] = c
		for want != stop {
			next, here := seen[want]
			if !here {
				break
			}
			delete(seen, want)
			on := reached{Commit: next, merge: a.landed[next.Hash]}
			a.commits, want = append(a.commits, on), on.first()
		}
		if want == stop {
			break
		}
	}
	return want == stop, nil
}

// date says of each commit when it reached the branch. What is recorded is known. Everything else reached it not after
// the next recorded merge above it, and not before what is below it. A commit's own date is no more than
// another limit from below: commits are made before they are pushed, and one that claims to be older than it is
// gains nothing by that. One that claims to be younger is listed as late as can be.
func (a *auditing) date() {
	latest := a.now.UTC()
	for i := range a.commits { // from the newest
		c := &a.commits[i]
		c.when = attest.Reached{NotBefore: c.Date.UTC(), NotAfter: latest, Basis: attest.Claimed}
		if c.by != nil {
			c.when.Basis = attest.Recorded
			if at := c.by.SeenAt.UTC(); at.Before(latest) {
				latest = at
			}
			c.when.NotBefore, c.when.NotAfter = latest, latest
		}
		if c.when.NotBefore.After(latest) {
			c.when.NotBefore = latest
		}
	}
	var earliest time.Time
	for i := range slices.Backward(a.commits) {
		if c := &a.commits[i].when; c.NotBefore.Before(earliest) {
			c.NotBefore = earliest
		} else {
			earliest = c.NotBefore
		}
	}
}

// cover says of each commit which merge brought it. A merge that landed as a commit with one parent may have brought
// several: those down to where Bitbucket says that the destination stood.
func (a *auditing) cover(ctx context.Context) error {
	for i := range a.commits {
		c := &a.commits[i]
		if c.merge == nil {
			continue
		}
		c.by = c.merge
		below := i + 1
		if len(c.Parents) != 1 || below == len(a.commits) || a.commits[below].merge != nil {
			continue
		}
		remote, err := a.client.PullRequest(ctx, a.workspace, a.repository, c.merge.Number)
		if err != nil {
			return err
		}
		stood := remote.Destination.CommitPrefix
		if stood == "" {
			continue
		}
		end := slices.IndexFunc(a.commits[i:], func(o reached) bool { return strings.HasPrefix(o.Hash, stood) })
		if end < 0 && strings.HasPrefix(a.commits[len(a.commits)-1].first(), stood) {
			end = len(a.commits) - i
		}
		for j := below; j < i+end; j++ {
			if a.commits[j].merge != nil {
				break
			}
			a.commits[j].by = c.merge
		}
	}
	return nil
}

// row says of a commit in the window what it is.
func (a *auditing) row(ctx context.Context, c reached) (attest.Row, error) {
	row := attest.Row{Commit: c.Hash, Kind: attest.KindViolation, Reached: c.when}
	if c.by == nil {
		row.Reason = "No merge of a pull request is recorded for this commit: it was pushed, or merged when the gate could not see it."
		return row, nil
	}
	m := *c.by
	row.PullRequest, row.Landed, row.Head, row.Reason = m.Number, m.LandedCommit, m.HeadCommit, m.Sentence
	p, known, err := a.proof(ctx, m)
	if err != nil || !known {
		return row, err
	}
	row.Request, row.Bundle, row.BundleDigest, row.ChainLeaf = p.view.Request.ID, p.ref.URI, p.ref.Digest, p.ref.Chain.Leaf
	row.Kind = mergeKind(m, p.bundle.Verdict.State)
	row.Relation = relation(c)
	switch row.Kind {
	case attest.KindApproved:
		row.Reason = fmt.Sprintf("Pull request %d was merged with the approvals that its rule asks for: %s.", m.Number, nameless(string(p.bundle.Verdict.State), p.bundle.Verdict))
	case attest.KindOverride:
		row.Reason = fmt.Sprintf("Pull request %d was merged by an override: %s.", m.Number, nameless(string(p.bundle.Verdict.State), p.bundle.Verdict))
	}
	return row, nil
}

// relation says how a commit that a merge brought stands to the one that was signed.
func relation(c reached) attest.Relation {
	switch {
	case c.Hash == c.by.HeadCommit:
		return attest.Signed
	case c.by.LandedCommit == c.by.HeadCommit:
		return attest.Within
	case slices.Contains(c.Parents, c.by.HeadCommit):
		return attest.MergeOf
	}
	return attest.Rewritten
}

// proof gives the evidence of a merge. It is not known where nothing was asked for, or where the request ended before it
// had a verdict that could be proved: then nothing but a violation is left.
func (a *auditing) proof(ctx context.Context, m store.MergeSeen) (p proof, known bool, err error) {
	if m.PullRequestID == nil || m.HeadCommit == "" {
		return p, false, nil
	}
	var requests []store.CommitRequest
	err = a.gate.Store.InWorkspace(ctx, a.workspace, func(tx *store.Tx) (err error) {
		requests, err = tx.RequestsOfCommit(ctx, m.HeadCommit, a.repository, a.of.Branch, *m.PullRequestID)
		return err
	})
	if err != nil || len(requests) == 0 {
		return p, false, err
	}
	id := requests[0].RequestID
	if p, known = a.proofs[id]; known {
		return p, true, nil
	}
	p, err = a.gate.prove(ctx, a.person, a.workspace, id)
	if refusal.Code(err) == refusal.BadInput {
		return p, false, nil
	}
	if err != nil {
		return p, false, err
	}
	clear(a.proofs) // the commits of one merge are neighbours
	a.proofs[id] = p
	return p, true, nil
}

// remotely makes what Bitbucket refuses a refusal of ours.
func remotely(err error) error {
	var remote *bitbucket.Error
	if !errors.As(err, &remote) {
		return err
	}
	if errors.Is(err, bitbucket.ErrTooManyPages) {
		return refusal.New(refusal.BitbucketUnavailable, "The branch has more history than can be read at once, and no merge of before the window is recorded.").Because(err)
	}
	return refusal.New(refusal.BitbucketUnavailable, "Bitbucket did not list all commits; nothing is audited.").Because(err)
}
