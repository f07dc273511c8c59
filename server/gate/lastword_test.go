package gate_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/internal/fault"
	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/attest"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/store"
)

// proven makes sure that the evidence of a request verifies with all anchors but the policy, and gives it.
func (w *world) proven(requestID string) (evidence.Bundle, evidence.Report) {
	w.t.Helper()
	data, err := w.gate.Bundle(w.t.Context(), w.people["alice"].Person, w.workspace, requestID)
	w.must(err)
	anchors := w.anchors()
	anchors.Policies = nil // another one may be in force by now
	report := evidence.Verify(data, anchors)
	if report.ExitCode() != 2 || !slices.Equal(report.Missing, []string{"policies of the repository"}) {
		w.t.Errorf("the bundle: exit %d, %s", report.ExitCode(), report.Sentence())
	}
	b, err := evidence.ParseBundle(data)
	w.must(err)
	return b, report
}

// TestAMergeThatNobodyWaitedFor merges what was not approved, while somebody decides: the decision makes the merge no better,
// and yet the evidence of what landed holds it.
func TestAMergeThatNobodyWaitedFor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before    func(w *world, number int64)
		meanwhile func(w *world, number int64)
		state     approval.State // of the verdict
		decisions int
		says      string
	}{
		"the approval that was missing": {
			meanwhile: func(w *world, number int64) { w.decides(number, "bob", approval.Approve) },
			state:     approval.Approved, decisions: 1, says: "before what its rule asks for was on record",
		},
		"a rejection": {
			meanwhile: func(w *world, number int64) { w.decides(number, "bob", approval.Reject) },
			state:     approval.Rejected, decisions: 1, says: "without the approvals",
		},
		"the withdrawal of a rejection": {
			before: func(w *world, number int64) {
				w.decides(number, "bob", approval.Approve)
				w.decides(number, "carol", approval.Reject)
				w.settle()
			},
			meanwhile: func(w *world, number int64) { w.decides(number, "carol", approval.Withdraw) },
			state:     approval.Approved, decisions: 3, says: "before what its rule asks for was on record",
		},
		"an override": {
			meanwhile: func(w *world, number int64) { w.overrides(number, "carol") },
			state:     approval.Overridden, decisions: 1, says: "before what its rule asks for was on record",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			rule := w.breakable(1, "carol")
			rule.Requirements[0].Approvers.Accounts = []string{w.people["bob"].AccountID, w.people["carol"].AccountID}
			w.save(rule)
			number := w.open()
			w.settle()
			if c.before != nil {
				c.before(w, number)
			}
			w.wire.Set(fault.Trap{On: fault.Commits("insert into signedapproval_decisions"), Mishap: fault.Slow, Meanwhile: func() { w.land(number) }})
			c.meanwhile(w, number)
			if w.wire.Clear() != 1 {
				t.Fatal("it was not merged meanwhile")
			}
			w.drainAll()
			v, seen := w.view(number), w.merged(number)
			if seen.Kind != store.MergeSeenViolation || !strings.Contains(seen.Sentence, c.says) {
				t.Errorf("it is on record as merged %s: %s", seen.Kind, seen.Sentence)
			}
			w.alarmed(store.AlarmMergedUnapproved)
			if v.Request.State != store.RequestCancelled {
				t.Errorf("its request is %s", v.Request.State)
			}
			if state, sentence := w.shown(number, v.PullRequest.HeadCommit); state != "STOPPED" {
				t.Errorf("Bitbucket shows %s: %s", state, sentence)
			}
			b, report := w.proven(v.Request.ID)
			if b.Verdict.State != c.state || len(b.Decisions) != c.decisions {
				t.Errorf("the bundle says %s, with %d decisions", b.Verdict.State, len(b.Decisions))
			}
			if change, ok := report.Change(); !ok || !change.Violation || change.Landed != seen.LandedCommit {
				t.Errorf("of what landed it says %+v", change)
			}
			rows, _, err := w.audit(w.auditOf(time.Unix(0, 0), time.Now().Add(time.Hour)))
			w.must(err)
			i := slices.IndexFunc(rows, func(r attest.Row) bool { return r.Commit == seen.LandedCommit })
			if i < 0 || rows[i].Kind != attest.KindViolation || rows[i].Request != v.Request.ID || rows[i].Reason != seen.Sentence {
				t.Errorf("the audit: %+v", rows)
			}
			w.check(true)
		})
	}
}

// TestARequestThatEndsHasItsEvidence ends requests in each way just after somebody decided, before anything was tallied.
func TestARequestThatEndsHasItsEvidence(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(w *world, number int64){
		"a newer commit": func(w *world, _ int64) { w.push("second.txt", "second") },
		"another branch": func(w *world, number int64) {
			w.edit(number, map[string]any{"destination": map[string]any{"branch": map[string]any{"name": "main"}}})
		},
		"another rule": func(w *world, _ int64) { w.save(w.rule(2, "bob", "carol")) },
		"a draft":      func(w *world, number int64) { w.edit(number, map[string]any{"draft": true}) },
		"declined":     func(w *world, number int64) { w.post(number, "decline", nil) },
		"merged at another commit": func(w *world, number int64) {
			w.push("second.txt", "second")
			w.land(number)
		},
		"its key reported stolen": func(w *world, _ int64) {
			w.reportStolen("bob")
			w.push("second.txt", "second")
		},
		"no longer asked for": func(w *world, _ int64) {
			_, err := w.gate.Cancel(w.t.Context(), w.workspace, w.repository, "the repository was removed")
			w.must(err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.save(w.rule(1, "bob", "carol"))
			number := w.open()
			w.settle()
			id := w.view(number).Request.ID
			w.decides(number, "bob", approval.Approve)
			end(w, number)
			w.event(number)
			w.drainAll()
			b, _ := w.proven(id)
			if len(b.Decisions) != 1 || len(b.Facts.Decisions) != 1 {
				t.Errorf("the bundle has %d decisions, its facts %d", len(b.Decisions), len(b.Facts.Decisions))
			}
			stolen := name == "its key reported stolen"
			if want := map[bool]approval.State{false: approval.Approved, true: approval.Pending}[stolen]; b.Verdict.State != want {
				t.Errorf("its verdict is %s, want %s", b.Verdict.State, want)
			}
			var closed store.ApprovalRequest
			w.in(func(tx *store.Tx) (err error) {
				closed, err = tx.Request(t.Context(), id)
				return err
			})
			if closed.Alive() {
				t.Errorf("the request is %s", closed.State)
			}
			if state, sentence := w.shown(number, b.Facts.Request.HeadCommit); state == string(bitbucket.StatusSuccessful) {
				t.Errorf("it turned green: %s", sentence)
			}
			w.check(true)
		})
	}
}

// TestTheLastWordIsByTheRuleThatWasAskedUnder changes the rule after the decision that was missing, before anything was tallied:
// the verdict that the evidence needs comes after the new policy in the log, and lets nobody merge.
func TestTheLastWordIsByTheRuleThatWasAskedUnder(t *testing.T) {
	w := newWorld(t)
	w.enact(w.rule(1, "bob", "carol"))
	number := w.open()
	w.settle()
	asked := w.view(number).Request.ID
	w.decides(number, "bob", approval.Approve)
	w.enact(w.rule(2, "bob", "carol"))
	w.settle() // where the invariants are checked after each job
	v := w.view(number)
	if v.Request == nil || v.Request.ID == asked {
		t.Fatal("nothing new is asked for")
	}
	if b, _ := w.proven(asked); b.Verdict.State != approval.Approved {
		t.Errorf("the evidence says %s", b.Verdict.State)
	}
	w.expect(number, v.PullRequest.HeadCommit, "INPROGRESS", "0 of 2 approvals; waiting for Bob or Carol")
	// What does not end with it is judged by the rule in force.
	w.decides(number, "bob", approval.Approve)
	w.decides(number, "carol", approval.Approve)
	w.settle()
	w.sql(`update signedapproval_leaves set entry = convert_to(regexp_replace(convert_from(entry, 'UTF8'), '"policy":"[0-9a-f]{64}"', '"policy":"' || repeat('0', 64) || '"'), 'UTF8')
		where convert_from(entry, 'UTF8')::jsonb ->> 'type' = 'policy-version'`)
	if err := w.broken(true); err == nil || strings.Count(err.Error(), "by a rule that was not in force") != 1 {
		t.Errorf("with other policies in the log the checker says %v", err)
	}
}

// enact is save with the leaf of the policy.
func (w *world) enact(rules ...approval.Rule) {
	w.t.Helper()
	w.must(w.enacts(rules...))
}

// enacts is enact for whoever is not the test itself.
func (w *world) enacts(rules ...approval.Rule) error {
	return w.store.InWorkspace(w.t.Context(), w.workspace, func(tx *store.Tx) error {
		version, created, err := w.saveIn(tx, rules...)
		if err != nil || !created {
			return err
		}
		workspace, err := tx.ReadWorkspace(w.t.Context())
		if err != nil {
			return err
		}
		now, err := tx.Now(w.t.Context())
		if err != nil {
			return err
		}
		entry, err := evidence.Leaf{
			Time: now, Workspace: evidence.WorkspaceID(workspace.GenesisSalt, bitbucket.BracedUUID(tx.Workspace)),
			Body: evidence.PolicyVersion{
				Repository: evidence.RepositoryID(workspace.GenesisSalt, bitbucket.BracedUUID(w.repository)), Version: int64(version.Version), Policy: approval.Digest(version.Digest),
			},
		}.Entry()
		if err != nil {
			return err
		}
		tx.AppendLeaf(tx.Workspace, evidence.LeafHash(entry), entry, "", 0)
		return nil
	})
}
