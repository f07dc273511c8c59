package gate

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"strings"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/store"
)

// settlement is the transaction of an evaluation.
type settlement struct {
	*Gate
	tx        *store.Tx
	at        store.Place
	seen      seen
	now       time.Time
	workspace store.Workspace
	config    store.RepositoryConfig // the zero one where the repository is not gated
	pr        *store.PullRequest
	live      *store.ApprovalRequest         // that was found; nil for none
	given     *store.Given                   // about the commit of live, when the pull request was locked; nil where that was not read
	new       bool                           // the pull request was not known, and nothing is decided about it
	statuses  map[string]*store.CommitStatus // on its commits, as far as they are known; nil where there is none
	chain     *chain
	changed   bool
	late      bool // it was merged, and what approves or overrides it came on record only then
}

func (g *Gate) settle(ctx context.Context, claim store.Claim, at store.Place, s seen) error {
	return g.following(ctx, at.Workspace, func(tx *store.Tx) error {
		next, err := g.settleIn(ctx, tx, at, s)
		if err != nil {
			return err
		}
		return tx.FinishRepeatable(ctx, claim, next)
	})
}

// settleIn writes what was seen, and answers when the pull request must be looked at again even if
// nothing happens; zero for never.
func (g *Gate) settleIn(ctx context.Context, tx *store.Tx, at store.Place, s seen) (next time.Time, err error) {
	t := &settlement{Gate: g, tx: tx, at: at, seen: s}
	found, err := tx.Settling(ctx, at.Repository, at.Number)
	if err != nil {
		return next, err
	}
	if t.now, err = tx.Now(ctx); err != nil {
		return next, err
	}
	t.workspace, t.live, t.given = found.Workspace, found.Live, &found.Given
	if t.live != nil {
		t.statuses = map[string]*store.CommitStatus{t.live.HeadCommit: found.Status}
	}
	if found.Repository != nil {
		t.config = *found.Repository
	}
	if gated := found.Repository != nil; gated != s.gated || gated && t.config.PolicyVersionID != s.version.ID {
		return t.now, nil // the rules changed since they were read: go round again
	}
	var pr store.PullRequest
	if found.PullRequest != nil {
		pr = *found.PullRequest
	} else {
		if !s.gated || s.remote == nil || s.remote.State != bitbucket.Open {
			return next, t.unseen(ctx)
		}
		if pr, err = t.insert(ctx); err != nil {
			return next, err
		}
		t.new = true
	}
	t.pr, t.chain = &pr, newChain(t.workspace, &pr, t.now)
	before := pr
	t.copyRemote()
	if next, err = t.requests(ctx, before); err != nil {
		return next, err
	}
	if t.changed || visible(before) != visible(pr) {
		pr.Version++
		tx.Touch("pr:" + pr.ID)
	}
	if err := tx.UpdatePullRequest(ctx, pr); err != nil {
		return next, err
	}
	t.chain.write(tx)
	return next, nil
}

// visible is what of a pull request a screen may show.
func visible(p store.PullRequest) string {
	return fmt.Sprintf("%q %s %t %q %q %s %q", p.Title, p.State, p.Draft, p.AuthorName, p.SourceBranch, p.HeadCommit, p.DestinationBranch)
}

func (t *settlement) insert(ctx context.Context) (store.PullRequest, error) {
	key, err := newStatusKey()
	if err != nil {
		return store.PullRequest{}, err
	}
	pr := store.PullRequest{
		ID: store.NewID(), RepositoryID: t.at.Repository, Number: t.at.Number, StatusKey: key,
		ChainID: string(evidence.ChainID(t.workspace.GenesisSalt, bitbucket.BracedUUID(t.at.Repository), t.at.Number)),
	}
	t.pr = &pr
	t.copyRemote()
	return t.tx.InsertPullRequest(ctx, pr)
}

// newStatusKey makes the key of a pull request's build status: 39 characters that nobody guesses,
// so that nobody can write under it first.
func newStatusKey() (string, error) {
	var random [15]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", err
	}
	return store.StatusKeyPrefix + strings.ToLower(base32.StdEncoding.EncodeToString(random[:])), nil
}

// copyRemote copies into the row what Bitbucket said.
func (t *settlement) copyRemote() {
	p, r := t.pr, t.seen.remote
	if t.seen.gated {
		p.SyncedAt = t.now.Add(-time.Since(t.seen.began)) // what Bitbucket said may be as old
	}
	if r == nil {
		if t.seen.gated && p.State == "OPEN" {
			p.State = "GONE"
		}
		return
	}
	p.Title, p.State, p.Draft = clip(r.Title, 1000), string(r.State), r.Draft
	if r.Author.AccountID != "" { // the author never changes, but the account can be gone
		p.AuthorAccountID, p.AuthorName = r.Author.AccountID, r.Author.DisplayName
	}
	p.SourceBranch, p.DestinationBranch = r.Source.Branch, r.Destination.Branch
	p.SourceRepositoryID = nil
	if r.Source.Repository != nil {
		p.SourceRepositoryID = &r.Source.Repository.UUID
	}
	if t.seen.head != "" {
		p.HeadCommit = t.seen.head
	}
}

func clip(s string, runes int) string {
	if r := []rune(s); len(r) > runes {
		return string(r[:runes])
	}
	return s
}
