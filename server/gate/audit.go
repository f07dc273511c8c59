package gate

import (
	"context"
	"errors"
	"fmt"
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
	missing, err := a.missing(ctx)
	if err != nil {
		return attest.Audit{}, remotely(err)
	}
	summary := attest.Audit{
		Service: g.Origin, Time: a.now.UTC().Truncate(time.Second), Workspace: bitbucket.BracedUUID(workspace),
		Repository: repositoryOf(a.config, workspace, a.repository, of.Web), Branch: of.Branch, From: of.From, To: of.To, Since: of.Since, Tip: a.tip, Missing: missing,
	}
	first, behind := 0, len(a.commits) // the rows are those from first on, up to behind
	for i, c := range a.commits {
		if c.when.NotAfter.Before(of.From) {
			summary.Before, first = c.edge(), i+1
		} else if !c.when.NotBefore.Before(of.To) {
			summary.After, behind = c.edge(), i
			break
		}
	}
	summary.Bases, summary.Heads = heads(a.commits[:first]), heads(a.commits[:behind])
	for i, c := range a.commits[first:behind] {
		row, err := a.row(ctx, c)
		if err != nil {
			return attest.Audit{}, err
		}
		row.Number = i + 1
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
	merges     []store.MergeSeen           // the newest first
	landed     map[string]*store.MergeSeen // by the commit that it landed as
	start      *store.MergeSeen            // the newest merge of before the window
	stop       string                      // nothing below this commit was read; "" if all was
	commits    []*reached                  // each behind its parents
	by         map[string]*reached         // commits by their hashes, and stop
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
		if a.merges, err = tx.MergesInto(ctx, a.repository, a.of.Branch); err != nil {
			return err
		}
		a.landed = map[string]*store.MergeSeen{}
		for i, m := range a.merges {
			if a.start == nil && m.SeenAt.Before(a.of.From) {
				a.start = &a.merges[i]
			}
			a.landed[m.LandedCommit] = &a.merges[i] // of several that landed as one commit, the first that was seen
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

// row says of a commit in the window what it is.
func (a *auditing) row(ctx context.Context, c *reached) (attest.Row, error) {
	row := attest.Row{Commit: c.Hash, Kind: attest.KindViolation, Reached: c.when}
	if c.by == nil {
		row.Reason = "No recorded merge of a pull request brought this commit: it was pushed, or merged when the gate could not see it."
		return row, nil
	}
	m := *c.by
	row.PullRequest, row.Landed, row.Head, row.Reason = m.Number, m.LandedCommit, m.HeadCommit, m.Sentence
	p, known, err := a.proof(ctx, m)
	if refusal.Code(err) == CodeIncomplete {
		row.Reason = fmt.Sprintf("Pull request %d was merged, and the evidence of it is not on record any more, or was changed.", m.Number)
		return row, nil
	}
	if err != nil || !known {
		return row, err
	}
	row.Request, row.Bundle, row.BundleDigest, row.ChainLeaf = p.view.Request.ID, p.ref.URI, p.ref.Digest, p.ref.Chain.Leaf
	row.Kind = mergeKind(m, p.verdict.State)
	row.Relation = a.relation(c)
	if p.stolen && m.Kind != store.MergeSeenViolation {
		row.Reason = fmt.Sprintf("Pull request %d was merged with what its rule asks for, but a key that decided was reported as stolen since before then, "+
			"and without what it signed too few people agreed.", m.Number)
	}
	switch row.Kind {
	case attest.KindApproved:
		row.Reason = fmt.Sprintf("Pull request %d was merged with the approvals that its rule asks for: %s.", m.Number, nameless(string(p.verdict.State), p.verdict))
	case attest.KindOverride:
		row.Reason = fmt.Sprintf("Pull request %d was merged by an override: %s.", m.Number, nameless(string(p.verdict.State), p.verdict))
	}
	return row, nil
}

// relation says how a commit that a merge brought stands to the one that was signed.
func (a *auditing) relation(c *reached) attest.Relation {
	landed := a.by[c.by.LandedCommit]
	switch {
	case c.Hash == c.by.HeadCommit:
		return attest.Signed
	case c.by.LandedCommit == c.by.HeadCommit:
		return attest.Within
	case !landed.joins(c.by.HeadCommit):
		return attest.Rewritten
	case c == landed:
		return attest.MergeOf
	}
	return attest.Within
}

// proof gives the evidence of a merge. It is not known where nothing was asked for.
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
	if remote.Throttled() {
		return refusal.New(refusal.BitbucketUnavailable, "%s", bitbucket.Unavailable(err)).Because(err)
	}
	if errors.Is(err, bitbucket.ErrTooManyPages) {
		return refusal.New(refusal.BitbucketUnavailable, "The branch has more history than can be read at once, and no merge of before the window is recorded.").Because(err)
	}
	return refusal.New(refusal.BitbucketUnavailable, "Bitbucket did not list all commits; nothing is audited.").Because(err)
}
