package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/store"
)

// stolenReport is a change of the roster that says of a key that it was in other hands.
type stolenReport struct {
	version     int64
	leaf        int64     // its index in the log
	credentials [][]byte  // of the key, and of all that rest on it
	person      string    // whose key it is
	since       time.Time // as that change says
}

// Fallen is the job that finds what the report of a stolen key takes down: every verdict that let something be merged when the
// report came into the log, and does not stand by what is known of the keys today. It is owed by the transaction that writes
// the report, one pull request at a time, and what it found already is not found again, so that it can begin anew at any time. The
// administrators are told once all is looked at.
func (g *Gate) Fallen(ctx context.Context, job store.Job) error {
	var at store.Place
	if err := json.Unmarshal(job.Payload, &at); err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	var report stolenReport
	err := g.Store.InWorkspace(ctx, at.Workspace, func(tx *store.Tx) (err error) {
		report, err = readReport(ctx, tx, at.Version)
		return err
	})
	if err != nil {
		return err
	}
	unread := 0
	for _, credential := range report.credentials {
		for after, more := uuid.Nil.String(), true; more; {
			var ids []string
			err := g.Store.InWorkspace(ctx, at.Workspace, func(tx *store.Tx) (err error) {
				ids, err = tx.PullRequestsDecidedWith(ctx, credential, after, fallenPage)
				return err
			})
			if err != nil {
				return err
			}
			for _, id := range ids {
				// One at a time: an evaluation waits for no more than one.
				err := g.Store.InWorkspace(ctx, at.Workspace, func(tx *store.Tx) error { return fallenOf(ctx, tx, id, report) })
				if errors.Is(err, errLost) { // it will not come back, and administrators wait
					g.Log.ErrorContext(ctx, "what a verdict rests on cannot be read", "pull request", id, "error", err)
					unread++
					continue
				}
				if err != nil {
					return err
				}
			}
			if more = len(ids) == fallenPage; more {
				after = ids[len(ids)-1]
			}
		}
	}
	return g.Store.InWorkspace(ctx, at.Workspace, func(tx *store.Tx) error {
		if err := tellStolen(ctx, tx, report, unread); err != nil {
			return err
		}
		return tx.FinishJob(ctx, job.Claim, time.Time{})
	})
}

// fallenPage is how many pull requests are listed by one statement.
const fallenPage = 1000

func readReport(ctx context.Context, tx *store.Tx, version int64) (r stolenReport, err error) {
	roster, err := tx.WholeRoster(ctx)
	if err != nil {
		return r, err
	}
	change, found := roster.Change(version)
	if !found || change.CompromisedSince == nil {
		return r, fmt.Errorf("version %d of the roster reports no key", version)
	}
	r.version, r.person, r.since = version, change.Key.Person, *change.CompromisedSince
	key, _ := roster.Key(change.Key.CredentialID)
	for _, resting := range roster.RestingOn(key.Digest) {
		r.credentials = append(r.credentials, resting.Key.CredentialID)
	}
	rows, err := tx.Roster(ctx, version-1, 1)
	if err != nil {
		return r, err
	}
	leaf, err := tx.FindLeaf(ctx, rows[0].LeafHash)
	r.leaf = leaf.Index
	return r, err
}

// reachedVerdict is a verdict of a chain.
type reachedVerdict struct {
	evidence.VerdictReached
	sequence int64
	at       time.Time
	last     bool // no other one on its request follows
}

// verdictsBefore gives the last verdict on each request of a chain that is before a leaf of the log.
func verdictsBefore(leaves []store.LeafRow, index int64) (map[string]reachedVerdict, error) {
	verdicts := map[string]reachedVerdict{}
	for _, row := range leaves {
		leaf, err := evidence.ParseLeaf(row.Entry)
		if err != nil {
			return nil, lost("stored leaf", err)
		}
		body, ok := leaf.Body.(evidence.VerdictReached)
		if !ok {
			continue
		}
		if row.Index < index {
			verdicts[body.Request] = reachedVerdict{body, row.Sequence, leaf.Time, true}
		} else if v, found := verdicts[body.Request]; found {
			v.last = false
			verdicts[body.Request] = v
		}
	}
	return verdicts, nil
}

// fallenOf finds what a report takes down of a pull request.
func fallenOf(ctx context.Context, tx *store.Tx, id string, report stolenReport) error {
	pr, err := tx.LockPullRequestByID(ctx, id)
	if err != nil {
		return err
	}
	leaves, err := tx.Chain(ctx, pr.ChainID, 0, int(pr.ChainSequence))
	if err != nil {
		return err
	}
	verdicts, err := verdictsBefore(leaves, report.leaf)
	if err != nil {
		return err
	}
	requests, err := tx.AllRequestsOf(ctx, id)
	if err != nil {
		return err
	}
	decisions, err := tx.Decisions(ctx, id)
	if err != nil {
		return err
	}
	if err := judge(ctx, tx, decisions); err != nil {
		return err
	}
	merge, err := tx.MergeSeen(ctx, pr.RepositoryID, pr.Number)
	if optional(err) != nil {
		return err
	}
	for _, r := range requests {
		v, found := verdicts[r.ID]
		if !found || kindOfMerge(approval.State(v.State)) == "violation" || !v.last && kindOfMerge(approval.State(r.State)) != "violation" {
			continue // it let nothing be merged, or it was reached again without what stolen keys signed
		}
		today, stands, err := standsToday(r, v, decisions)
		if err != nil {
			return err
		}
		if stands {
			continue
		}
		err = tx.PutFallenVerdict(ctx, store.FallenVerdict{
			RequestID: r.ID, Sequence: v.sequence, PullRequestID: id, RosterVersion: report.version, Was: v.State, StandsAs: string(today),
			Merged: merge.HeadCommit == r.HeadCommit && merge.DestinationBranch == r.DestinationBranch,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// standsToday says what becomes of a verdict on a request by what is known of the keys today, as every verifier does. decisions
// are those about the pull request, as they are judged today. Where another verdict followed, the facts are those of that one, without
// what was decided after the first.
func standsToday(r store.ApprovalRequest, v reachedVerdict, decisions []store.Decision) (approval.State, bool, error) {
	rule, err := ruleOf(r)
	if err != nil {
		return "", false, err
	}
	told, err := factsOf(r)
	if err != nil {
		return "", false, err
	}
	then, err := verdictOf(r)
	if err != nil {
		return "", false, err
	}
	untold := false
	if v.last {
		untold = len(r.OutcomeSalt) == 0 && evidence.Untold(rule, told, then)
	} else {
		told.Now, told.Request.Lapsed, then = v.at, false, approval.Verdict{State: approval.State(v.State)}
		told.Decisions = slices.DeleteFunc(told.Decisions, func(d approval.Decision) bool { return d.Sequence > v.sequence })
	}
	known := told
	known.Decisions = slices.Clone(told.Decisions)
	judged := map[string]approval.Decision{}
	for _, d := range decisionsOf(rule, r, decisions) {
		judged[d.ID] = d
	}
	for i := range known.Decisions {
		d := &known.Decisions[i]
		d.Compromised, d.Identity = judged[d.ID].Compromised, judged[d.ID].Identity
	}
	if v.last && slices.Equal(known.Decisions, told.Decisions) {
		return then.State, true, nil // the tally knew
	}
	today, _, stands := evidence.Today(rule, known, then, untold)
	return today.State, stands, nil
}

// namedPullRequests is how many pull requests a notice names.
const namedPullRequests = 5

// tellStolen tells the administrators whose key was reported, and what that took down: all of it by number, and the first of it by name.
// unread are pull requests of which it cannot be told.
func tellStolen(ctx context.Context, tx *store.Tx, report stolenReport, unread int) error {
	fallen, err := tx.FallenBy(ctx, report.version, namedPullRequests)
	if err != nil {
		return err
	}
	workspace, err := tx.ReadWorkspace(ctx)
	if err != nil {
		return err
	}
	owner, err := tx.People(ctx, []string{report.person})
	if err != nil {
		return err
	}
	name := erasedName
	if len(owner) > 0 && owner[0].Name != "" {
		name = owner[0].Name
	}
	return tx.NotifyAdministrators(ctx, store.Notice{
		Kind: "KEY_STOLEN", DedupeKey: fmt.Sprintf("key-stolen:%s:%d", workspace.ID, report.version),
		Title: "A passkey of " + name + " was reported as stolen",
		Sentence: fmt.Sprintf("Somebody else may have had a passkey of %s since %s. %s",
			name, report.since.UTC().Format("2006-01-02 15:04:05 UTC"), fallenSentence(fallen, unread)),
		Path: "/settings/keys?workspace=" + url.QueryEscape(workspace.Slug),
	})
}

// fallenSentence says what a report took down.
func fallenSentence(f store.Fallen, unread int) string {
	said := "Nothing that was approved or overridden falls with it."
	if f.PullRequests > 0 {
		named := make([]string, len(f.Some))
		for i, p := range f.Some {
			named[i] = fmt.Sprintf("#%d in %s", p.Number, p.Repository)
			if p.Merged {
				named[i] += " (merged)"
			}
		}
		if rest := f.PullRequests - len(named); rest > 0 {
			named = append(named, fmt.Sprintf("and %d more", rest))
		}
		said = fmt.Sprintf("What was approved or overridden stands no longer on %s, %d of them merged: %s. The page of members' keys lists all, and in the "+
			"audit of a branch what was merged is a violation.", pullRequests(f.PullRequests), f.Merged, strings.Join(named, ", "))
	}
	if unread > 0 {
		said += fmt.Sprintf(" Of %s it cannot be told, since what is on record of them was changed: tell whoever runs this service.", pullRequests(unread))
	}
	return said
}

func pullRequests(n int) string {
	if n == 1 {
		return "1 pull request"
	}
	return fmt.Sprintf("%d pull requests", n)
}
