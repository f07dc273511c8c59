package gate_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/internal/invariant"
	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
	"github.com/signedapproval/bitbucket/server/store"
)

// TestTheInvariantsAreChecked breaks each of them in the database: a checker that notices nothing
// would make most tests of this package worthless.
func TestTheInvariantsAreChecked(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, harm, want string }{
		{"a decision is missing", `delete from signedapproval_decisions where ctid = (select min(ctid) from signedapproval_decisions)`, "without its approvals"},
		{"a statement was changed", `update signedapproval_decisions set statement = statement || ' '::bytea`, "does not verify"},
		{"a leaf is missing", `delete from signedapproval_leaves where sequence = 2`, "leaves"},
		{"a leaf was changed", `update signedapproval_leaves set entry = entry || ' '::bytea where sequence = 2`, "chain"},
		{"the end of the chain was changed", `update signedapproval_pull_requests set chain_leaf = repeat('0', 64)`, "another end"},
		{"the log is longer than it says", `update signedapproval_log_head set size = size - 1`, "the log says"},
		{"what approves is not published", `delete from signedapproval_log_checkpoints`, "no published checkpoint covers"},
		{"a merge happened twice", `insert into signedapproval_merge_intents (workspace_id, pull_request_id, head_commit, request_id, strategy, state)
			select workspace_id, pull_request_id, unnest(array[head_commit, repeat('0', 40)]), id, 'merge_commit', 'MERGED' from signedapproval_approval_requests`, "merged 2 times"},
		{"what was merged was not approved", `insert into signedapproval_merge_intents (workspace_id, pull_request_id, head_commit, request_id, strategy, state)
			select workspace_id, pull_request_id, repeat('0', 40), id, 'merge_commit', 'MERGED' from signedapproval_approval_requests`, "was merged without"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.save(w.rule(2, "bob", "carol"))
			number := w.open()
			w.settle()
			w.decides(number, "bob", approval.Approve)
			w.decides(number, "carol", approval.Approve)
			w.settle()
			w.sql(test.harm)
			if err := w.broken(true); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the checker says %v, want %q", err, test.want)
			}
		})
	}
}

// TestDeedsAreJudgedByTheirTime tells the checker of statuses and merges that were written at several times, around what takes
// an approval back.
func TestDeedsAreJudgedByTheirTime(t *testing.T) {
	t.Parallel()
	for name, takeBack := range map[string]func(w *world, number int64){
		"a withdrawal": func(w *world, number int64) { w.decides(number, "bob", approval.Withdraw) },
		"a rejection": func(w *world, number int64) {
			w.decides(number, "carol", approval.Withdraw)
			w.decides(number, "carol", approval.Reject)
		},
		"a stolen key": func(w *world, _ int64) { w.reportStolen("bob") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.save(w.rule(2, "bob", "carol"))
			number := w.open()
			w.settle()
			opened := w.clock()
			before := w.clock()
			w.decides(number, "bob", approval.Approve)
			w.decides(number, "carol", approval.Approve)
			approved := w.clock()
			v := w.view(number)
			takeBack(w, number)
			w.onlyAll(store.KindRoster)
			taken := w.clock()
			for _, c := range []struct {
				name        string
				began, done time.Time
				right       bool
			}{
				{"before anybody signed", opened, before, false},
				{"while they signed", opened, approved, true},
				{"when it was approved", approved, approved, true},
				{"when it was approved, and it took long", approved, taken, true},
				{"when it was taken back", taken, taken, false},
			} {
				for _, act := range []invariant.Act{
					{Commit: v.PullRequest.HeadCommit, Key: v.PullRequest.StatusKey}, {Number: number},
				} {
					act.Workspace, act.Repository, act.Began, act.Done = bare(w.workspace), bare(w.repository), c.began, c.done
					w.acts = func(context.Context) ([]invariant.Act, error) { return []invariant.Act{act}, nil }
					if err := w.broken(false); (err == nil) != c.right {
						t.Errorf("%s, %+v: the checker says %v", c.name, act, err)
					}
				}
			}
		})
	}
}

// TestARejectionIsTakenBackByAKeyThatCounts tells the checker of a status that was written before and after the key was reported
// that had taken a rejection back.
func TestARejectionIsTakenBackByAKeyThatCounts(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob", "carol"))
	number := w.open()
	w.settle()
	w.decides(number, "bob", approval.Reject)
	rejected := w.clock()
	w.decides(number, "bob", approval.Withdraw)
	w.decides(number, "carol", approval.Approve)
	approved := w.clock()
	v := w.view(number)
	w.reportStolen("bob")
	w.onlyAll(store.KindRoster)
	reported := w.clock()
	for _, c := range []struct {
		name  string
		at    time.Time
		right bool
	}{
		{"when it was rejected", rejected, false},
		{"when that was taken back", approved, true},
		{"when the key was reported", reported, false},
	} {
		act := invariant.Act{
			Commit: v.PullRequest.HeadCommit, Key: v.PullRequest.StatusKey, Workspace: bare(w.workspace), Repository: bare(w.repository), Began: c.at, Done: c.at,
		}
		w.acts = func(context.Context) ([]invariant.Act, error) { return []invariant.Act{act}, nil }
		if err := w.broken(false); (err == nil) != c.right {
			t.Errorf("%s: the checker says %v", c.name, err)
		}
	}
}

// reportStolen lets somebody say with a new key that the one before was in other hands; first happens once they have the new one.
func (w *world) reportStolen(who string, first ...func(p *person, stolen []byte)) {
	w.t.Helper()
	p, since := w.people[who], time.Now().Add(-time.Hour)
	stolen := w.keyID(p)
	p.key = passkeytest.New(origin)
	w.enrol(p)
	for _, happens := range first {
		happens(p, stolen)
	}
	act, err := w.keys.PrepareRevocation(w.t.Context(), p.Person, p.session, stolen, &since)
	w.must(err)
	answer, err := p.key.Get(act.Options)
	w.must(err)
	_, _, err = w.keys.SignKeyAct(w.t.Context(), p.Person, p.session, string(answer))
	w.must(err)
}

// clock is the database's.
func (w *world) clock() (now time.Time) {
	w.t.Helper()
	w.must(w.super.QueryRow(w.t.Context(), `select clock_timestamp()`).Scan(&now))
	return now
}

func bare(uuid string) string { return strings.Trim(uuid, "{}") }
