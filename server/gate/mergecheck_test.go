package gate_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// question is what Bitbucket asks when alice merges.
func (w *world) question(number int64) gate.MergeQuestion {
	return gate.MergeQuestion{
		Workspace: w.workspace, Repository: w.repository, Number: number, Trigger: store.CheckOnMerge, AccountID: w.people["alice"].AccountID,
	}
}

func (w *world) mergeCheck(number int64) gate.MergeAnswer {
	w.t.Helper()
	return w.gate.MergeCheck(w.t.Context(), w.question(number))
}

// answers lists what is on record about a pull request, oldest first.
func (w *world) answers(number int64) []store.MergeCheck {
	w.t.Helper()
	var rows []store.MergeCheck
	w.in(func(tx *store.Tx) (err error) {
		rows, err = tx.OnMergeChecks(w.t.Context(), w.repository, 100)
		return err
	})
	var list []store.MergeCheck
	for i := len(rows) - 1; i >= 0; i-- {
		if rows[i].Number == number {
			list = append(list, rows[i])
		}
	}
	return list
}

// checkLeaves reads the merge check's leaves out of the chain.
func (w *world) checkLeaves(number int64) []evidence.MergeChecked {
	w.t.Helper()
	return leavesOf[evidence.MergeChecked](w, number)
}

// leavesOf reads the leaves with a body of one kind out of a pull request's chain.
func leavesOf[B evidence.Body](w *world, number int64) (list []B) {
	w.t.Helper()
	var rows []store.LeafRow
	w.in(func(tx *store.Tx) error {
		pr, err := tx.FindPullRequest(w.t.Context(), w.repository, number)
		if err != nil {
			return err
		}
		rows, err = tx.Chain(w.t.Context(), pr.ChainID, 0, 1000)
		return err
	})
	for _, row := range rows {
		leaf, err := evidence.ParseLeaf(row.Entry)
		w.must(err)
		if body, ok := leaf.Body.(B); ok {
			list = append(list, body)
		}
	}
	return list
}

// later moves what was answered out of the time in which it is not recorded again.
func (w *world) later() {
	w.t.Helper()
	w.sql(`update signedapproval_merge_checks set asked_at = asked_at - interval '1 minute'`)
}

// mergeCheckState brings the gate into a state and says what must be answered in it.
type mergeCheckState struct {
	set     func(w *world) (number int64)
	success bool
	code    string
	message string // a part of it
	rings   bool   // an evaluation is asked for
}

func approved(w *world) int64 {
	w.save(w.rule(2, "bob", "carol"))
	number := w.open()
	w.settle()
	w.decides(number, "bob", approval.Approve)
	w.decides(number, "carol", approval.Approve)
	w.settle()
	return number
}

func pending(w *world) int64 {
	w.save(w.rule(2, "bob", "carol"))
	number := w.open()
	w.settle()
	w.decides(number, "bob", approval.Approve)
	w.settle()
	return number
}

func mergeCheckStates() map[string]mergeCheckState {
	retarget := map[string]any{"destination": map[string]any{"branch": map[string]any{"name": "main"}}}
	return map[string]mergeCheckState{
		"approved": {set: approved, success: true, code: gate.CodeCheckApproved, message: "Approved by Bob and Carol."},
		"pending":  {set: pending, code: gate.CodeCheckPending, message: "1 of 2 approvals; waiting for Carol. Open the panel: " + origin + "/pr/"},
		"nobody yet": {set: func(w *world) int64 {
			w.save(w.rule(1, "bob"))
			number := w.open()
			w.settle()
			return number
		}, code: gate.CodeCheckPending, message: "0 of 1 approval; waiting for Bob."},
		"rejected": {set: func(w *world) int64 {
			number := approved(w)
			w.decides(number, "carol", approval.Withdraw)
			w.decides(number, "carol", approval.Reject)
			w.settle()
			return number
		}, code: gate.CodeCheckRejected, message: "Rejected by Carol."},
		"rejected a moment ago": {set: func(w *world) int64 {
			number := approved(w)
			w.decides(number, "carol", approval.Withdraw)
			w.decides(number, "carol", approval.Reject)
			return number
		}, code: gate.CodeCheckRejected, message: "Rejected by Carol.", rings: true},
		"withdrawn a moment ago": {set: func(w *world) int64 {
			number := approved(w)
			w.decides(number, "bob", approval.Withdraw)
			return number
		}, code: gate.CodeCheckPending, message: "1 of 2 approvals; waiting for Bob.", rings: true},
		"approved a moment ago": {set: func(w *world) int64 {
			number := pending(w)
			w.decides(number, "carol", approval.Approve)
			return number
		}, code: gate.CodeCheckUnknown, message: "the newest decision", rings: true},
		"expired": {set: func(w *world) int64 {
			number := pending(w)
			w.sql(`update signedapproval_approval_requests set expires_at = now() - interval '1 minute', facts = jsonb_set(facts, '{request,expiresAt}', '"2020-01-01T00:00:00Z"')`)
			return number
		}, code: gate.CodeCheckExpired, message: "Expired before", rings: true},
		"a new commit that the gate has not seen": {set: func(w *world) int64 {
			number := approved(w)
			w.push("src/nozzle.go", "package evil\n")
			return number
		}, code: gate.CodeCheckUnknown, message: "again in a few seconds", rings: true},
		"a new commit": {set: func(w *world) int64 {
			number := approved(w)
			w.push("src/nozzle.go", "package evil\n")
			w.event(number)
			w.settle()
			return number
		}, code: gate.CodeCheckPending, message: "0 of 2 approvals"},
		"another destination that the gate has not seen": {set: func(w *world) int64 {
			number := approved(w)
			w.edit(number, retarget)
			return number
		}, code: gate.CodeCheckUnknown, rings: true},
		"no rule for the destination": {set: func(w *world) int64 {
			number := approved(w)
			w.edit(number, retarget)
			w.event(number)
			w.settle()
			return number
		}, success: true, code: gate.CodeCheckNoRule, message: "No rule of SignedApproval asks for approval of changes to main."},
		"other rules that the gate has not tallied": {set: func(w *world) int64 {
			number := approved(w)
			w.save(w.rule(1, "bob"))
			return number
		}, code: gate.CodeCheckUnknown, rings: true},
		"rules without this branch that the gate has not tallied": {set: func(w *world) int64 {
			number := approved(w)
			rule := w.rule(1, "bob")
			rule.Branches = []string{"elsewhere"}
			w.save(rule)
			return number
		}, code: gate.CodeCheckUnknown, rings: true},
		"a draft": {set: func(w *world) int64 {
			number := approved(w)
			w.edit(number, map[string]any{"draft": true})
			return number
		}, code: gate.CodeCheckDraft, message: "draft"},
		"a draft no more, which the gate has not seen": {set: func(w *world) int64 {
			number := approved(w)
			w.edit(number, map[string]any{"draft": true})
			w.event(number)
			w.settle()
			w.edit(number, map[string]any{"draft": false})
			return number
		}, code: gate.CodeCheckUnknown, rings: true},
		"declined": {set: func(w *world) int64 {
			number := approved(w)
			w.post(number, "decline", nil)
			return number
		}, code: gate.CodeCheckClosed},
		"merged": {set: func(w *world) int64 {
			number := approved(w)
			w.post(number, "merge", map[string]any{"type": "pullrequest"})
			return number
		}, code: gate.CodeCheckClosed},
		"not gated": {set: func(w *world) int64 {
			number := approved(w)
			w.sql(`delete from signedapproval_bitbucket_repo_configs`)
			return number
		}, code: gate.CodeCheckNotGated, message: "an administrator has to add it"},
		"a pull request that the gate does not know": {set: func(w *world) int64 {
			w.save(w.rule(1, "bob"))
			w.settle()
			w.openSilently()
			return 1
		}, code: gate.CodeCheckUnknown, rings: true},
		"a pull request that does not exist": {set: func(w *world) int64 {
			approved(w)
			return 99
		}, code: gate.CodeCheckUnseen},
		"an approver who may not write any more": {set: func(w *world) int64 {
			w.save(w.rule(1))
			number := w.open()
			w.settle()
			w.decides(number, "bob", approval.Approve)
			w.settle()
			w.gate.People = func(context.Context, string, string) ([]store.RepositoryPerson, error) {
				return []store.RepositoryPerson{{AccountID: w.people["bob"].AccountID, Name: "Bob", Permission: store.PermissionRead}}, nil
			}
			return number
		}, code: gate.CodeCheckPending, rings: true},
		"gated again, which the gate has not tallied": {set: func(w *world) int64 {
			number := approved(w)
			w.sql(`delete from signedapproval_bitbucket_repo_configs`)
			w.event(number)
			w.settle()
			w.save(w.rule(2, "bob", "carol"))
			return number
		}, code: gate.CodeCheckUnknown, rings: true},
	}
}

// TestMergeCheckAnswersTheTruth asks in every state of the gate.
func TestMergeCheckAnswersTheTruth(t *testing.T) {
	t.Parallel()
	for name, c := range mergeCheckStates() {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			number := c.set(w)
			w.sql(`update signedapproval_jobs set state = 'DONE' where kind = 'evaluate'`)
			got := w.mergeCheck(number)
			if got.Success != c.success || got.Code != c.code || !strings.Contains(got.Message, c.message) {
				t.Errorf("answered %+v", got)
			}
			if !got.Success && !strings.Contains(got.Message, fmt.Sprintf("%s/pr/%s/%s/%d", origin, w.workspace, w.repository, number)) {
				t.Errorf("the panel is not named: %s", got.Message)
			}
			rows := w.answers(number)
			if len(rows) != 1 || rows[0].Success != got.Success || rows[0].Code != got.Code || rows[0].AccountID != w.people["alice"].AccountID {
				t.Fatalf("on record: %+v", rows)
			}
			if rung := w.rung(store.KindEvaluate); rung != c.rings {
				t.Errorf("an evaluation is asked for: %t", rung)
			}
			if rows[0].PullRequestID == nil {
				return
			}
			w.check(false)
			leaves := w.checkLeaves(number)
			if len(leaves) != 1 || (leaves[0].Answer == evidence.AnswerYes) != got.Success || leaves[0].Code != got.Code || leaves[0].Commit != rows[0].HeadCommit {
				t.Fatalf("in the chain: %+v", leaves)
			}
			opening := evidence.PersonOpening{Salt: rows[0].AskerSalt, AccountID: rows[0].AccountID}
			if err := opening.Verify(leaves[0].Asker); err != nil {
				t.Error(err)
			}
		})
	}
}

// rung tells whether a job of a kind is due.
func (w *world) rung(kind string) bool {
	w.t.Helper()
	for _, ring := range w.due() {
		if ring.Kind == kind {
			return true
		}
	}
	return false
}

// TestMergeCheckNeverSaysYesInDoubt asks about an approved pull request, which is a "yes" else, while
// something is wrong, and about the others, which must not become one.
func TestMergeCheckNeverSaysYesInDoubt(t *testing.T) {
	t.Parallel()
	fault := func(f bitbucketsim.Fault) func(*world) {
		return func(w *world) {
			_, err := w.sim.AddFault(f)
			w.must(err)
		}
	}
	pullRequest, commits, people := `/pullrequests/\d+$`, `/pullrequests/\d+/commits$`, `/permissions/`
	doubts := map[string]func(*world){
		"the connection is dead": func(w *world) {
			w.gate.Client = func(context.Context, string, bitbucket.Class) (*bitbucket.Client, error) {
				return nil, refusal.New(refusal.NeedsReconnecting, "The workspace must be connected again.")
			}
		},
		"the identity panics": func(w *world) {
			w.gate.Client = func(context.Context, string, bitbucket.Class) (*bitbucket.Client, error) { panic("a fault") }
		},
		"the people cannot be read": func(w *world) {
			w.gate.People = func(context.Context, string, string) ([]store.RepositoryPerson, error) { return nil, errors.New("no") }
		},
		"the database is gone":  func(w *world) { w.store.Close() },
		"the log does not take": func(w *world) { w.sql(`drop table signedapproval_leaves cascade`) },
		"the record does not take": func(w *world) {
			w.sql(`alter table signedapproval_merge_checks add constraint never check (not success) not valid`)
		},
		"the policy is damaged": func(w *world) {
			w.sql(`alter table signedapproval_policy_versions disable trigger all; update signedapproval_policy_versions set document = 'damaged'`)
		},
		"the head is of another pull request": fault(bitbucketsim.Fault{Method: "GET", Path: commits, Status: 200, Body: `{"values":[{"hash":"1111111111111111111111111111111111111111"}]}`}),
		"the head is a prefix":                fault(bitbucketsim.Fault{Method: "GET", Path: commits, Status: 200, Body: `{"values":[{"hash":"111111111111"}]}`}),
		"there are no commits":                fault(bitbucketsim.Fault{Method: "GET", Path: commits, Status: 200, Body: `{"values":[]}`}),
		"another pull request is shown":       fault(bitbucketsim.Fault{Method: "GET", Path: pullRequest, Status: 200, Body: `{"id":77,"state":"OPEN"}`}),
		"the answer is no JSON":               fault(bitbucketsim.Fault{Method: "GET", Path: pullRequest, Status: 200, Body: `<html>`}),
	}
	for _, path := range []string{pullRequest, commits, people} {
		for _, status := range []int{400, 401, 403, 404, 410, 429, 500, 503, 555} {
			doubts[fmt.Sprintf("%d for %s", status, path)] = fault(bitbucketsim.Fault{Method: "GET", Path: path, Status: status})
		}
		doubts["no answer for "+path] = fault(bitbucketsim.Fault{Method: "GET", Path: path, LostReply: true})
	}
	for name, doubt := range doubts {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.save(w.rule(1)) // anybody who may write: the people are read
			number := w.open()
			w.settle()
			w.decides(number, "bob", approval.Approve)
			w.settle()
			if got := w.mergeCheck(number); !got.Success {
				t.Fatalf("without a doubt: %+v", got)
			}
			w.later()
			doubt(w)
			if got := w.mergeCheck(number); got.Success || got.Code == "" || !strings.HasSuffix(got.Message, fmt.Sprint("/", number)) {
				t.Errorf("answered %+v", got)
			}
		})
	}
}

// TestMergeCheckKeepsTheDeadline hangs what it waits for.
func TestMergeCheckKeepsTheDeadline(t *testing.T) {
	t.Parallel()
	for name, hang := range map[string]func(w *world, release <-chan struct{}){
		"Bitbucket": func(w *world, _ <-chan struct{}) {
			_, err := w.sim.AddFault(bitbucketsim.Fault{Method: "GET", Path: "/pullrequests/", Hang: true})
			w.must(err)
		},
		"the identity, which does not obey its context": func(w *world, release <-chan struct{}) {
			w.gate.Client = func(context.Context, string, bitbucket.Class) (*bitbucket.Client, error) {
				<-release
				return w.client, nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			number := approved(w)
			release := make(chan struct{})
			t.Cleanup(func() { close(release) })
			hang(w, release)
			ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second) // a quarter of it is for a busy machine
			defer cancel()
			got := w.gate.MergeCheck(ctx, w.question(number))
			if ctx.Err() != nil {
				t.Error("the caller's deadline is over")
			}
			if got.Success || got.Code != gate.CodeCheckTimeout {
				t.Errorf("answered %+v", got)
			}
		})
	}
	t.Run("the row is locked", func(t *testing.T) {
		w := newWorld(t)
		number := approved(w)
		conn, err := pgx.Connect(t.Context(), w.db.SuperURL)
		w.must(err)
		defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
		tx, err := conn.Begin(t.Context())
		w.must(err)
		_, err = tx.Exec(t.Context(), `select from signedapproval_pull_requests for update`)
		w.must(err)
		if got := w.mergeCheck(number); got.Success || got.Code != gate.CodeCheckTimeout {
			t.Errorf("answered %+v", got)
		}
		w.must(tx.Rollback(t.Context()))
		if got := w.mergeCheck(number); !got.Success {
			t.Errorf("afterwards: %+v", got)
		}
	})
	t.Run("no time at all", func(t *testing.T) {
		w := newWorld(t)
		number := approved(w)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if got := w.gate.MergeCheck(ctx, w.question(number)); got.Success {
			t.Errorf("answered %+v", got)
		}
	})
}

// TestMergeCheckIsRecordedOnce asks as Bitbucket does where the check is configured on several levels.
func TestMergeCheckIsRecordedOnce(t *testing.T) {
	w := newWorld(t)
	number := approved(w)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if got := w.mergeCheck(number); !got.Success {
				w.t.Errorf("answered %+v", got)
			}
		})
	}
	group.Wait()
	if rows, leaves := w.answers(number), w.checkLeaves(number); len(rows) != 1 || len(leaves) != 1 {
		t.Fatalf("%d rows and %d leaves of one merge", len(rows), len(leaves))
	}
	somebodyElse := w.question(number)
	somebodyElse.AccountID = w.people["bob"].AccountID
	nobody := w.question(number)
	nobody.AccountID = ""
	for _, q := range []gate.MergeQuestion{somebodyElse, nobody} {
		if got := w.gate.MergeCheck(t.Context(), q); !got.Success {
			t.Errorf("answered %+v", got)
		}
	}
	w.later()
	w.mergeCheck(number)
	w.decides(number, "carol", approval.Withdraw)
	w.decides(number, "carol", approval.Reject)
	w.mergeCheck(number)
	leaves := w.checkLeaves(number)
	if len(leaves) != 5 || leaves[2].Asker != "" || leaves[4].Answer != evidence.AnswerNo {
		t.Errorf("%d leaves: %+v", len(leaves), leaves)
	}
	if leaves[0].Asker == leaves[3].Asker {
		t.Error("two commitments to one account are alike")
	}
}

// TestMergeCheckRecordsTheLastWord: a "yes" that is given again after a "no" is on record after it, however
// soon; else the merge that follows would look as if it had gone around the check.
func TestMergeCheckRecordsTheLastWord(t *testing.T) {
	w := newWorld(t)
	number := approved(w)
	for _, step := range []struct {
		action approval.Action
		yes    bool
	}{{"", true}, {approval.Withdraw, false}, {approval.Approve, true}} {
		if step.action != "" {
			w.decides(number, "carol", step.action)
			w.settle()
		}
		if got := w.mergeCheck(number); got.Success != step.yes {
			t.Fatalf("after %q: %+v", step.action, got)
		}
	}
	rows := w.answers(number)
	if len(rows) != 3 || !rows[2].Success || len(w.checkLeaves(number)) != 3 {
		t.Errorf("on record: %+v", rows)
	}
	head := rows[len(rows)-1].HeadCommit
	w.in(func(tx *store.Tx) error {
		asked, yes, err := tx.CheckedOnMerge(t.Context(), w.repository, number, head)
		if !asked || !yes {
			t.Errorf("the last word: asked %t, yes %t", asked, yes)
		}
		return err
	})
}

// TestMergeCheckBeforeTheMerge asks for the display: it is on record, and no merge.
func TestMergeCheckBeforeTheMerge(t *testing.T) {
	w := newWorld(t)
	number := approved(w)
	q := w.question(number)
	q.Trigger = store.CheckPreMerge
	if got := w.gate.MergeCheck(t.Context(), q); !got.Success {
		t.Errorf("answered %+v", got)
	}
	if rows, leaves := w.answers(number), w.checkLeaves(number); len(rows) != 0 || len(leaves) != 1 || leaves[0].Trigger != evidence.TriggerPreMerge {
		t.Errorf("%d rows on merge, leaves %+v", len(rows), leaves)
	}
	w.post(number, "merge", map[string]any{"type": "pullrequest"})
	w.event(number)
	w.settle()
	if m := w.merged(number); m.Asked || m.Checked || m.Kind != store.MergeSeenApproved {
		t.Errorf("seen %+v", m)
	}
}

func TestMergeCheckRefusesWhatItDoesNotUnderstand(t *testing.T) {
	w := newWorld(t)
	number := approved(w)
	for name, change := range map[string]func(q *gate.MergeQuestion){
		"workspace":  func(q *gate.MergeQuestion) { q.Workspace = "acme" },
		"repository": func(q *gate.MergeQuestion) { q.Repository = "{" + q.Repository + "}" },
		"number":     func(q *gate.MergeQuestion) { q.Number = 0 },
		"trigger":    func(q *gate.MergeQuestion) { q.Trigger = "" },
		"account":    func(q *gate.MergeQuestion) { q.AccountID = strings.Repeat("x", 200) },
	} {
		q := w.question(number)
		change(&q)
		if got := w.gate.MergeCheck(t.Context(), q); got.Success || got.Code != gate.CodeCheckQuestion {
			t.Errorf("%s: %+v", name, got)
		}
	}
	stranger := w.question(number)
	stranger.Workspace = w.repository // somebody else's
	if got := w.gate.MergeCheck(t.Context(), stranger); got.Success || got.Code != gate.CodeCheckNotGated {
		t.Errorf("another workspace: %+v", got)
	}
	if len(w.answers(number)) != 0 {
		t.Errorf("on record: %+v", w.answers(number))
	}
}

// TestTheBundleHoldsTheMergeCheck verifies the evidence of a pull request that was asked about before
// and after its approval.
func TestTheBundleHoldsTheMergeCheck(t *testing.T) {
	w := newWorld(t)
	number := pending(w)
	w.mergeCheck(number)
	w.decides(number, "carol", approval.Approve)
	w.settle()
	if got := w.mergeCheck(number); !got.Success {
		t.Fatalf("answered %+v", got)
	}
	v := w.view(number)
	bundle, err := w.gate.Bundle(t.Context(), w.people["alice"].Person, w.workspace, v.Request.ID)
	w.must(err)
	report := evidence.Verify(bundle, evidence.Anchors{})
	if report.ExitCode() != 2 {
		t.Fatal(report.Sentence())
	}
	said := 0
	for _, fact := range report.Facts {
		if fact.Name == "merge check" {
			said++
		}
	}
	if said != 2 {
		t.Errorf("the report tells of %d answers", said)
	}
	events, _, err := w.gate.History(t.Context(), v, 0, 100)
	w.must(err)
	raw, err := json.Marshal(events)
	w.must(err)
	for _, want := range []string{"A merge was refused (PENDING).", "A merge was allowed (APPROVED).", "Approval was asked for."} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("the history does not say %q: %s", want, raw)
		}
	}
}
