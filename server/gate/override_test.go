package gate_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/store"
)

// breakable is a rule that asks bob for his approval, and that the others named can override together.
func (w *world) breakable(quorum int, names ...string) approval.Rule {
	w.t.Helper()
	r := w.rule(1, "bob")
	r.Override = &approval.OverrideBy{Quorum: quorum}
	for _, name := range names {
		r.Override.Approvers.Accounts = append(r.Override.Approvers.Accounts, w.people[name].AccountID)
	}
	return r
}

// newCrew is a world with dave, who may write like bob and carol.
func newCrew(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	_, err := w.sim.AddPerson(bitbucketsim.Person{Nickname: "dave"})
	w.must(err)
	_, err = w.sim.SetMembership(bitbucketsim.Membership{Workspace: "acme", Person: "dave", Role: "member"})
	w.must(err)
	_, err = w.sim.SetPermission(bitbucketsim.Permission{Repository: rocket, Person: "dave", Level: bitbucketsim.PermissionWrite})
	w.must(err)
	w.enter()
	return w
}

// override does what a person does on the sign page to override.
func (w *world) override(number int64, who, reason string) (store.Decision, error) {
	w.t.Helper()
	draft, err := w.draft(number, who, approval.Override)
	if err != nil {
		return store.Decision{}, err
	}
	draft.Comment = reason
	return w.submit(who, draft)
}

func (w *world) overrides(number int64, who string) {
	w.t.Helper()
	if _, err := w.override(number, who, "The site is down, and Bob is on a plane."); err != nil {
		w.t.Fatalf("%s overrides: %v", who, err)
	}
}

// TestOverride takes a pull request that was rejected through the gate by two signatures, and back.
func TestOverride(t *testing.T) {
	w := newCrew(t)
	w.administrator()
	rule := w.breakable(2, "carol", "dave")
	rule.AutoMerge = &approval.AutoMerge{Strategy: "merge_commit"}
	w.save(rule)
	number := w.open()
	w.settle()
	head := w.view(number).PullRequest.HeadCommit

	w.decides(number, "bob", approval.Reject)
	w.settle()
	w.overrides(number, "carol")
	w.settle()
	w.expect(number, head, "FAILED", "rejected by Bob")
	if a := w.mergeCheck(number); a.Success || a.Code != gate.CodeCheckRejected {
		t.Errorf("half an override: %+v", a)
	}
	if o := w.view(number).Verdict.Override; o == nil || o.Missing != 1 || len(o.Counted) != 1 || o.Counted[0].Name != "Carol" {
		t.Errorf("half an override is told as %+v", o)
	}

	w.overrides(number, "dave")
	w.later()
	if a := w.mergeCheck(number); a.Success || a.Code != gate.CodeCheckUnknown {
		t.Errorf("before its verdict is on record: %+v", a)
	}
	w.settle()
	const sentence = "overridden by Carol and Dave; rejected by Bob; 0 of 1 approval"
	w.expect(number, head, "SUCCESSFUL", sentence)
	v := w.view(number)
	if v.Request.State != store.RequestOverridden || v.Request.DecidedAt == nil || v.Merge != nil || v.PullRequest.State != "OPEN" {
		t.Errorf("the request is %s, decided at %v, its merge is %+v", v.Request.State, v.Request.DecidedAt, v.Merge)
	}
	w.later()
	if a := w.mergeCheck(number); !a.Success || a.Code != evidence.CheckOverridden || !strings.HasPrefix(a.Message, "Overridden by Carol and Dave") {
		t.Errorf("overridden: %+v", a)
	}
	w.verifies(number, approval.Overridden)

	for _, who := range []string{"bob", "alice"} { // the approver, the administrator
		list := w.inbox(who)
		i := slices.IndexFunc(list, func(n store.Notice) bool { return n.Kind == "OVERRIDDEN" })
		if i < 0 {
			t.Errorf("%s was not told: %+v", who, list)
			continue
		}
		for _, want := range []string{sentence, "Carol: “The site is down, and Bob is on a plane.”", "Dave: “"} {
			if !strings.Contains(list[i].Sentence, want) {
				t.Errorf("%s was told %q, without %q", who, list[i].Sentence, want)
			}
		}
	}

	w.decides(number, "dave", approval.Withdraw)
	w.later()
	if a := w.mergeCheck(number); a.Success {
		t.Errorf("taken back: %+v", a)
	}
	w.settle()
	w.expect(number, head, "FAILED", "rejected by Bob")
	w.overrides(number, "dave")
	w.settle()
	w.expect(number, head, "SUCCESSFUL", "overridden by Carol and Dave; rejected by Bob; 0 of 1 approval")
	told := 0
	for _, n := range w.inbox("bob") {
		if n.Kind == "OVERRIDDEN" {
			told++
		}
	}
	if told != 2 {
		t.Errorf("bob was told %d times of two overrides", told)
	}

	w.land(number)
	w.event(number)
	w.settle()
	if m := w.merged(number); m.Kind != store.MergeSeenOverride || !strings.Contains(m.Sentence, "by an override") {
		t.Errorf("seen as %+v", m)
	}
	if n := w.alarms(store.AlarmMergedUnapproved); n != 0 {
		t.Errorf("%d alarms of a merge that was overridden", n)
	}
	if r := w.view(number).Request; r.State != store.RequestOverridden {
		t.Errorf("after the merge the request is %s", r.State)
	}
	w.verifies(number, approval.Overridden)
}

// verifies makes the bundle of the pull request's request and has it verified.
func (w *world) verifies(number int64, state approval.State) {
	w.t.Helper()
	data, err := w.gate.Bundle(w.t.Context(), w.people["alice"].Person, w.workspace, w.view(number).Request.ID)
	w.must(err)
	report := evidence.Verify(data, evidence.Anchors{})
	if report.ExitCode() == 1 || report.Verdict.State != state {
		w.t.Errorf("the bundle: %s", report.Sentence())
	}
}

// TestAnApprovalMergesWhatAnOverrideDidNot approves what is overridden: then, and only then, the gate
// merges.
func TestAnApprovalMergesWhatAnOverrideDidNot(t *testing.T) {
	w := newCrew(t)
	rule := w.breakable(1, "carol")
	rule.Requirements[0] = w.rule(1, "bob", "dave").Requirements[0]
	rule.AutoMerge = &approval.AutoMerge{Strategy: "merge_commit"}
	w.save(rule)
	number := w.open()
	w.settle()
	head := w.view(number).PullRequest.HeadCommit
	// An approval that is rejected leaves an intent to merge behind.
	w.decides(number, "bob", approval.Approve)
	w.only(store.KindEvaluate)
	w.decides(number, "dave", approval.Reject)
	w.overrides(number, "carol")
	w.drainAll()
	w.expect(number, head, "SUCCESSFUL", "overridden by Carol; rejected by Dave; 1 of 1 approval")
	if v := w.view(number); v.PullRequest.State != "OPEN" || v.Merge == nil || v.Merge.State != store.MergePlanned {
		t.Fatalf("the pull request is %s, its merge %+v", v.PullRequest.State, v.Merge)
	}
	w.decides(number, "dave", approval.Withdraw)
	w.untilMerged(number)
	if m := w.merged(number); m.Kind != store.MergeSeenApproved {
		t.Errorf("seen as %+v", m)
	}
}

// TestOverridesThatAreRefused asks for overrides that nobody may have.
func TestOverridesThatAreRefused(t *testing.T) {
	w := newCrew(t)
	w.save(w.rule(1, "bob"))
	number := w.open()
	w.settle()
	attempt := func(who, reason string) error {
		_, err := w.override(number, who, reason)
		return err
	}
	w.refused("a rule without an override", attempt("carol", "now"), gate.CodeNoOverride)

	w.save(w.breakable(1, "carol", "alice"))
	w.event(number)
	w.settle()
	for _, reason := range []string{"", " \t\n", "\u200b\u00a0\u2060"} {
		w.refused("without a reason", attempt("carol", reason), gate.CodeReasonMissing)
	}
	w.refused("too long a reason", attempt("carol", strings.Repeat("x", 2001)), gate.CodeCommentTooLong)
	w.refused("not named", attempt("dave", "now"), gate.CodeNotOverrider)
	w.refused("an approver who is not named", attempt("bob", "now"), gate.CodeNotOverrider)
	w.refused("the author", attempt("alice", "now"), gate.CodeAuthor)
	if n := w.decided(); n != 0 {
		t.Fatalf("%d decisions were taken", n)
	}

	// Prepared by one who may, while the rule, the head or the time is another when it is signed.
	carol := w.people["carol"]
	prepare := func() (string, []byte) {
		draft, err := w.draft(number, "carol", approval.Override)
		w.must(err)
		draft.Comment = "now"
		made, err := w.gate.Prepare(t.Context(), carol.Person, carol.session, draft)
		w.must(err)
		return draft.RequestID, w.signed(carol.key, made.Options)
	}
	request, answer := prepare()
	w.save(w.breakable(1, "dave"))
	w.event(number)
	w.settle()
	_, err := w.gate.Decide(t.Context(), carol.Person, carol.session, w.workspace, request, answer)
	w.refused("taken out of the rule", err, gate.CodeHeadChanged)

	w.save(w.breakable(1, "carol", "alice"))
	w.event(number)
	w.settle()
	request, answer = prepare()
	_, err = w.gate.Decide(t.Context(), w.people["dave"].Person, w.people["dave"].session, w.workspace, request, answer)
	w.refused("submitted by somebody else", err, gate.CodeChallenge)
	w.push("src/nozzle.go", "package evil\n")
	w.event(number)
	w.settle()
	_, err = w.gate.Decide(t.Context(), carol.Person, carol.session, w.workspace, request, answer)
	w.refused("replayed on a new head", err, gate.CodeHeadChanged)
	_, err = w.gate.Decide(t.Context(), carol.Person, carol.session, w.workspace, w.view(number).Request.ID, answer)
	w.refused("submitted to the new request", err, gate.CodeChallenge)

	request, answer = prepare()
	w.sql(`update signedapproval_approval_requests set expires_at = now() where id = $1`, request)
	_, err = w.gate.Decide(t.Context(), carol.Person, carol.session, w.workspace, request, answer)
	w.refused("signed after the expiry", err, gate.CodeExpired)
	// What a page offers is what the server does: also where a rejection keeps the request from being called expired.
	view, err := w.gate.ViewRequest(t.Context(), carol.Person, w.workspace, request)
	if err != nil || view.Can.Override || view.Can.OverrideCode != gate.CodeExpired || view.Can.Approve {
		t.Errorf("offered after the expiry: %+v", view.Can)
	}
	if n := w.decided(); n != 0 {
		t.Errorf("%d decisions were taken", n)
	}
}

// TestAnOverrideIsBoundToItsHead pushes after an override: it counts for nothing.
func TestAnOverrideIsBoundToItsHead(t *testing.T) {
	w := newWorld(t)
	w.save(w.breakable(1, "carol"))
	number := w.open()
	w.settle()
	w.overrides(number, "carol")
	w.settle()
	old := w.view(number).PullRequest.HeadCommit
	w.expect(number, old, "SUCCESSFUL", "overridden by Carol; 0 of 1 approval")
	w.push("src/nozzle.go", "package evil\n")
	w.later()
	if a := w.mergeCheck(number); a.Success {
		t.Errorf("a new head: %+v", a)
	}
	w.event(number)
	w.settle()
	v := w.view(number)
	w.expect(number, old, "STOPPED", "superseded by a newer commit")
	w.expect(number, v.PullRequest.HeadCommit, "INPROGRESS", "0 of 1 approval; waiting for Bob")
	w.land(number)
	w.event(number)
	w.settle()
	if m := w.merged(number); m.Kind != store.MergeSeenViolation {
		t.Errorf("seen as %+v", m)
	}
}

// TestAnOverrideByForgery stores, as whoever holds the database could, an approval as an override and
// an override by somebody whom the rule does not name: the invariant checker and the verifier say so.
func TestAnOverrideByForgery(t *testing.T) {
	w := newWorld(t)
	w.save(w.breakable(1, "carol"))
	number := w.open()
	w.settle()
	head := w.view(number).PullRequest.HeadCommit
	w.decides(number, "bob", approval.Reject)
	w.sql(`update signedapproval_decisions set action = 'OVERRIDE', account_id = $1`, w.people["carol"].AccountID)
	w.event(number)
	for _, ring := range w.due() {
		_ = w.do(ring)
	}
	w.onlyAll(store.KindStatus)
	w.expect(number, head, "SUCCESSFUL", "overridden by Carol; 0 of 1 approval")
	if err := w.broken(false); err == nil || !strings.Contains(err.Error(), "without its approvals, and without an override") {
		t.Errorf("the checker says %v", err)
	}
	data, err := w.gate.Bundle(t.Context(), w.people["alice"].Person, w.workspace, w.view(number).Request.ID)
	w.must(err)
	report := evidence.Verify(data, evidence.Anchors{})
	if last := report.Steps[len(report.Steps)-1]; report.ExitCode() != 1 || last.Name != "facts" {
		t.Errorf("the verifier says %s", report.Sentence())
	}
	var bundle struct{ Decisions []json.RawMessage }
	if err := json.Unmarshal(data, &bundle); err != nil || len(bundle.Decisions) != 1 || bytes.Contains(data, []byte(`"action":"REJECT"`)) {
		t.Errorf("the forged bundle has %d decisions: %v", len(bundle.Decisions), err)
	}
}

// TestWhoCanStillOverrideIsTold lets carol begin an override of three: those who can still join her are told why, once,
// whatever happens to the request besides, and again when she begins anew. Nobody else is asked, and nobody before her.
func TestWhoCanStillOverrideIsTold(t *testing.T) {
	w := newCrew(t)
	w.save(w.breakable(3, "carol", "dave", "bob"))
	number := w.open()
	w.settle()
	wanted := func(who string) (list []store.Notice) {
		for _, n := range w.inbox(who) {
			if n.Kind == "OVERRIDE_WANTED" {
				list = append(list, n)
			}
		}
		return list
	}
	expect := func(when string, want map[string]int) {
		t.Helper()
		for _, who := range []string{"alice", "bob", "carol", "dave"} {
			if got := wanted(who); len(got) != want[who] {
				t.Errorf("%s: %s is asked %d times, want %d: %+v", when, who, len(got), want[who], got)
			}
		}
	}
	expect("before anybody began", nil)
	w.overrides(number, "carol")
	w.settle()
	expect("once carol began", map[string]int{"bob": 1, "dave": 1})
	told := wanted("dave")[0]
	for _, part := range []string{"Carol began to override its rule, and 2 more must agree", "The site is down, and Bob is on a plane."} {
		if !strings.Contains(told.Sentence, part) {
			t.Errorf("dave was told %q, without %q", told.Sentence, part)
		}
	}
	if !strings.HasPrefix(told.Path, "/sign/") && told.Path != gate.SignPath(w.workspace, w.repository, number) {
		t.Errorf("dave is sent to %s", told.Path)
	}
	w.event(number)
	w.settle()
	w.overrides(number, "dave")
	w.settle()
	expect("once dave joined", map[string]int{"bob": 1, "dave": 1})
	for _, n := range wanted("dave") {
		if n.ReadAt == nil {
			t.Errorf("dave is still asked: %+v", n)
		}
	}
	w.decides(number, "dave", approval.Withdraw)
	w.decides(number, "carol", approval.Withdraw)
	w.settle()
	w.overrides(number, "carol")
	w.settle()
	expect("once carol began anew", map[string]int{"bob": 2, "dave": 2})
}
