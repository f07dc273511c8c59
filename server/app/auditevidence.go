package app

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/attest"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/monitor"
	"github.com/signedapproval/bitbucket/server/replay"
)

// proving compares the rows of an audit with their evidence.
type proving struct {
	at      place
	branch  string
	anchors evidence.Anchors
	// clone is a folder with a repository; empty where nothing can be recomputed. parents are those of all commits of its branch.
	clone   string
	parents map[string][]string
	// unseen are the numbers of rows whose evidence ends before the merge.
	unseen    []int
	disproved []disproof
	// histories are those of the bundles that verified; behind is what the public log says against them, nil for nothing.
	histories []history
	rosters   rosters
	behind    *gateOutcome
}

// disproof is a row that says what its evidence does not prove.
type disproof struct {
	Row int    `json:"row"`
	Why string `json:"why"`
}

// notProved is what is wrong with evidence, and not with whoever compares it.
type notProved struct{ error }

func notProvedf(format string, args ...any) error { return notProved{fmt.Errorf(format, args...)} }

// proved is the evidence of one request.
type proved struct {
	bundle evidence.Bundle
	state  approval.State // of the verdict that stands by what is known of the keys today
	change evidence.Change
	merged string // the kind of its merge
	// landed is what landed, by the evidence. It is what the row says where the evidence ends before the merge: the request was
	// cancelled, as when Bitbucket does not show the pull request any more, and what became of it was seen later.
	landed string
	unseen bool
	// whole says that it rests on nobody's word.
	whole bool
	// brought are the commits that the merge brought to the branch; nil where only the server says it.
	brought map[string]bool
}

// rows verifies the evidence of every row that has some. Each bundle is taken once; each row is compared with it. A row that is not
// proved holds up none of the others. An error says that something could not be taken or recomputed.
func (p *proving) rows(ctx context.Context, rows []attest.Row, take func(request string) ([]byte, error)) (whole bool, err error) {
	var of *proved
	var request string
	var wrong error // with the evidence of that request
	whole = true
	for _, row := range rows {
		if row.Request == "" || row.Kind == attest.KindViolation {
			continue
		}
		if row.Request != request { // the commits of one merge are neighbours
			of, wrong = p.take(ctx, row, take)
			if _, its := errors.AsType[notProved](wrong); wrong != nil && !its {
				return false, fmt.Errorf("row %d: %w", row.Number, wrong)
			}
			request = row.Request
		}
		why := wrong
		if why == nil {
			why = p.compare(row, of)
		}
		if why != nil {
			whole = false
			p.disproved = append(p.disproved, disproof{row.Number, plain(why.Error())})
			continue
		}
		whole = whole && of.whole
		if of.unseen {
			p.unseen = append(p.unseen, row.Number)
		}
	}
	return whole, nil
}

// take takes the bundle of a row and verifies it. What a server does not have to give, now or later, is not proved.
func (p *proving) take(ctx context.Context, row attest.Row, take func(request string) ([]byte, error)) (*proved, error) {
	data, err := take(row.Request)
	if monitor.Withheld(err) {
		return nil, notProvedf("the server does not give the evidence: %w", err)
	}
	if err != nil {
		return nil, err
	}
	return p.verify(ctx, data, row)
}

// verify verifies the bundle of a row, and what landed where there is a clone. See notProved.
func (p *proving) verify(ctx context.Context, data []byte, row attest.Row) (*proved, error) {
	report := evidence.Verify(data, p.anchors)
	change, ok := report.Change()
	if !ok {
		return nil, notProvedf("the evidence: %s", report.Sentence())
	}
	of := &proved{state: report.Verdict.State, change: change, landed: change.Landed}
	var err error
	if of.bundle, err = evidence.ParseBundle(data); err != nil {
		return nil, notProved{err}
	}
	var closed string
	if of.merged, closed = ending(data); of.landed == "" && closed == "cancelled" {
		of.unseen, of.landed = true, row.Landed
	}
	h, err := historyOf(data, &p.rosters)
	if err != nil {
		return nil, notProved{err}
	}
	h.closed = of.unseen // what was merged first ended by that, and nobody closes it any more
	p.histories = append(p.histories, h)
	if p.clone == "" {
		return of, nil
	}
	change.Landed = of.landed
	found, err := replay.Look(ctx, p.clone, change, nil)
	if err != nil {
		return nil, fmt.Errorf("--repo: %w", err)
	}
	if again := report.Recompute(found); again.ExitCode() == 1 {
		return nil, notProvedf("the evidence: %s", again.Sentence())
	}
	l := found.Landing
	if l == nil || l.Relation == "" || !l.OnBranch || l.Rewritten {
		return of, nil
	}
	if l.Relation == evidence.Residue {
		return nil, notProvedf("commit %s holds what nobody signed: %s", l.Commit, l.Why)
	}
	// What came to the branch in between is in rows of its own.
	of.whole = report.ExitCode() == 0 && !of.unseen
	of.brought = p.brought(*l, change)
	return of, nil
}

// brought are the commits that came to the branch with what landed.
func (p *proving) brought(l evidence.Landing, change evidence.Change) map[string]bool {
	before := []string{l.Onto}
	if l.Onto == "" {
		before = nil
		for _, shown := range change.Shown {
			if !shown.Uncounted {
				before = append(before, shown.Destination)
			}
		}
	}
	list := p.history(l.Commit)
	for commit := range p.history(before...) {
		delete(list, commit)
	}
	return list
}

// history are all commits of the clone's branch in the histories of some.
func (p *proving) history(of ...string) map[string]bool {
	in := map[string]bool{}
	for len(of) > 0 {
		hash := of[len(of)-1]
		of = of[:len(of)-1]
		if parents, here := p.parents[hash]; here && !in[hash] {
			in[hash] = true
			of = append(of, parents...)
		}
	}
	return in
}

// compare says what evidence, which verifies, does not prove of what its row says.
func (p *proving) compare(row attest.Row, of *proved) error {
	request := of.bundle.Facts.Request
	about := slices.IndexFunc(of.bundle.Requests, func(r evidence.Request) bool { return r.ID == row.Request })
	if request.ID != row.Request || about < 0 {
		return errors.New("the evidence is of another request")
	}
	opened := of.bundle.Requests[about]
	switch {
	case !of.bears(row.Kind):
		return fmt.Errorf("the evidence says %s", of.state)
	case opened.Workspace != bitbucket.BracedUUID(p.at.workspace) || opened.Repository != bitbucket.BracedUUID(p.at.repository) || opened.DestinationBranch != p.branch:
		return errors.New("the evidence is of another workspace, repository or branch")
	case opened.PullRequest != row.PullRequest:
		return errors.New("the evidence is of another pull request")
	case request.HeadCommit != row.Head:
		return errors.New("the evidence is of another commit")
	case of.landed == "" || of.landed != row.Landed:
		return errors.New("the evidence says that something else landed, or nothing")
	case !of.unseen && of.merged != attest.KindApproved && of.merged != attest.KindOverride:
		return errors.New("the evidence says that what landed is a violation")
	// What was merged as approved is an override without what a stolen key signed.
	case !of.unseen && of.merged != row.Kind && of.state != approval.Overridden:
		return fmt.Errorf("the evidence says that it was merged as %s", of.merged)
	case !slices.ContainsFunc(of.bundle.Chain, func(entry evidence.Bytes) bool { return evidence.LeafDigest(entry) == row.ChainLeaf }):
		return errors.New("the evidence does not hold the leaf that was signed")
	case of.brought != nil && !of.brought[row.Commit]:
		return fmt.Errorf("commit %s did not come to the branch with what landed", row.Commit)
	}
	return nil
}

// bears tells whether the verdict is one by which something of a kind can have been merged. What bore an override when it was
// merged stays one, though what was signed by then turned out to be enough for an approval.
func (p *proved) bears(kind string) bool {
	switch p.state {
	case approval.Approved:
		return kind == attest.KindApproved || p.merged == attest.KindOverride
	case approval.Overridden:
		return kind == attest.KindOverride
	case approval.Pending, approval.Rejected, approval.Expired:
	}
	return false
}
