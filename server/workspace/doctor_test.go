package workspace_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/workspace"
)

// doctored is acme/app, gated on main by a rule, in a workspace with Premium, with an open pull request.
func doctored(t *testing.T, patterns ...string) (w *world, number int64, head string) {
	t.Helper()
	w = newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	w.premium(true)
	for _, push := range []bitbucketsim.Push{
		{Repository: "acme/app", Branch: "main", Person: "bob", Files: map[string]string{"README": "app\n"}},
		{Repository: "acme/app", Branch: "feature", From: "main", Person: "bob", Files: map[string]string{"a": "a\n"}},
	} {
		commit := get(w.sim.Push(push))(t)
		head = commit.Hash
	}
	opened := get(w.sim.OpenPullRequest(bitbucketsim.PullRequest{Repository: "acme/app", Author: "bob", Title: "Add a", Source: "feature", Destination: "main"}))(t)
	policy := approvals(1)
	if len(patterns) > 0 {
		policy.Rules[0].Branches = patterns
	}
	w.saved(w.app, policy)
	return w, int64(opened.ID), head
}

func (w *world) premium(yes bool) {
	w.t.Helper()
	get(w.sim.SetPlan(bitbucketsim.Plan{Workspace: "acme", Premium: yes}))(w.t)
}

// examined is what the doctor finds of one pattern, and the codes of its reasons.
func (w *world) examined(pattern string) (state string, codes []string) {
	w.t.Helper()
	found := get(w.Examine(w.t.Context(), w.acme, w.app))(w.t)
	for _, e := range found {
		if e.Pattern == pattern {
			for _, r := range get(workspace.ReasonsOf(e))(w.t) {
				codes = append(codes, r.Code)
			}
			return e.State, codes
		}
	}
	w.t.Fatalf("%s is not among %+v", pattern, found)
	return "", nil
}

func (w *world) expectState(want workspace.EnforcementState, code string) {
	w.t.Helper()
	if state, codes := w.examined("main"); state != string(want) || codes[0] != code {
		w.t.Fatalf("it is %s because of %q, want %s because of %s", state, codes, want, code)
	}
}

// refusedMerge puts on record that the check refused a merge some time ago.
func (w *world) refusedMerge(number int64, head, branch string, ago time.Duration) {
	w.t.Helper()
	w.read(w.acme, func(tx *store.Tx) error {
		return tx.PutMergeCheck(w.t.Context(), store.MergeCheck{
			RepositoryID: w.app, Number: number, Trigger: store.CheckOnMerge, HeadCommit: head, DestinationBranch: branch,
			Code: "PENDING", Sentence: "0 of 1 approval",
		})
	})
	w.sql(`update signedapproval_merge_checks set asked_at = now() - make_interval(secs => $1) where asked_at > now() - interval '1 second'`, ago.Seconds())
}

func (w *world) sawMerge(number int64, asked, checked bool) {
	w.t.Helper()
	w.read(w.acme, func(tx *store.Tx) error {
		_, err := tx.PutMergeSeen(w.t.Context(), store.MergeSeen{
			RepositoryID: w.app, Number: number, DestinationBranch: "main", Kind: store.MergeSeenApproved, Asked: asked, Checked: checked, Sentence: "merged",
		})
		return err
	})
}

func (w *world) restrictions() (list []bitbucket.BranchRestriction) {
	w.t.Helper()
	for one, err := range w.admin().BranchRestrictions(w.t.Context(), w.acme, w.app) {
		must(w.t, err)
		list = append(list, one)
	}
	return list
}

func (w *world) unrestrict(kind bitbucket.RestrictionKind) {
	w.t.Helper()
	for _, r := range w.restrictions() {
		if r.Kind == kind {
			must(w.t, w.admin().DeleteBranchRestriction(w.t.Context(), w.acme, w.app, r.ID))
		}
	}
}

func (w *world) fix(name, pattern string, fixes ...workspace.Fix) ([]store.Enforcement, []string, error) {
	w.t.Helper()
	return w.FixEnforcement(w.t.Context(), w.who(name), w.acme, w.app, pattern, fixes)
}

var allFixes = []workspace.Fix{workspace.FixRestrictPush, workspace.FixRequireBuild, workspace.FixEnforceChecks}

// TestDoctor follows a repository from its first rule to a merge around the gate.
func TestDoctor(t *testing.T) {
	t.Parallel()
	w, number, head := doctored(t)
	w.expectState(workspace.EnforcementOpen, workspace.ReasonPushOpen)
	if len(w.alarms(w.acme)) != 0 {
		t.Errorf("the first look alarms: %v", w.alarms(w.acme))
	}
	found, left, err := w.fix("alice", "main", allFixes...)
	must(t, err)
	if len(found) != 1 || found[0].State != string(workspace.EnforcementUnknown) || len(left) != 3 || !strings.Contains(left[1], "Required") {
		t.Fatalf("after mending: %+v, left %q", found, left)
	}
	var kinds []string
	for _, r := range w.restrictions() {
		if r.Pattern != "main" || len(r.Users)+len(r.Groups) > 0 {
			t.Errorf("made %+v", r)
		}
		kinds = append(kinds, string(r.Kind))
	}
	slices.Sort(kinds)
	equal(t, "restrictions", kinds, []string{"enforce_merge_checks", "push", "require_passing_builds_to_merge"})

	w.refusedMerge(number, head, "main", 10*time.Second)
	w.expectState(workspace.EnforcementUnknown, workspace.ReasonNotProven) // too young to tell
	w.sql(`update signedapproval_merge_checks set asked_at = now() - interval '2 minutes'`)
	w.expectState(workspace.EnforcementEnforced, workspace.ReasonHeld)
	calls := w.lastCall()
	w.expectState(workspace.EnforcementEnforced, workspace.ReasonHeld)
	for _, call := range w.sim.Calls(calls) {
		if strings.Contains(call.Path, "/pullrequests/") {
			t.Errorf("what is known is asked again: %s", call.Path)
		}
	}

	w.unrestrict(bitbucket.RestrictPush)
	w.expectState(workspace.EnforcementOpen, workspace.ReasonPushOpen)
	equal(t, "alarms", w.alarms(w.acme), []string{store.AlarmNotEnforced})
	alice := w.who("alice")
	notices := w.texts(`select title || ': ' || sentence || ' ' || path from signedapproval_notices where person_id = $1 and kind = $2`, alice.ID, store.AlarmNotEnforced)
	if len(notices) != 1 || !strings.Contains(notices[0], "The gate for main in acme/app was enforced and is now open.") || !strings.HasSuffix(notices[0], " /workspaces/acme/repositories/app") {
		t.Errorf("notices %q", notices)
	}
	w.expectState(workspace.EnforcementOpen, workspace.ReasonPushOpen) // nothing changed: nothing is told

	_, _, err = w.fix("erin", "main", workspace.FixRestrictPush)
	must(t, err)
	w.expectState(workspace.EnforcementEnforced, workspace.ReasonHeld)
	equal(t, "alarms", w.alarms(w.acme), nil)

	w.sawMerge(7, true, true)
	w.expectState(workspace.EnforcementEnforced, workspace.ReasonHeld)
	w.sawMerge(6, false, false)
	w.sql(`update signedapproval_merges_seen set by_gate = true where number = 6`)
	w.expectState(workspace.EnforcementEnforced, workspace.ReasonHeld) // our own merge tells nothing
	w.sawMerge(8, true, false)
	w.expectState(workspace.EnforcementWarnsOnly, workspace.ReasonOverridden)
	w.sawMerge(9, false, false)
	w.expectState(workspace.EnforcementWarnsOnly, workspace.ReasonNotAsked)
	w.unrestrict(bitbucket.RequirePassingBuilds)
	w.expectState(workspace.EnforcementOpen, workspace.ReasonNotAsked)

	var seen []string
	for _, leaf := range w.leaves(w.acme) {
		if strings.HasPrefix(leaf, "enforcement-seen") {
			seen = append(seen, leaf)
		}
	}
	if len(seen) != 7 { // open, unknown, enforced, open, enforced, warns only, open
		t.Errorf("%d leaves of changes", len(seen))
	}
	if n := len(w.texts(`select dedupe_key from signedapproval_notices where kind = $1 and person_id = $2`, store.AlarmNotEnforced, alice.ID)); n != 3 {
		t.Errorf("%d notices of three changes for the worse", n)
	}
}

// TestARefusalThatDidNotHold looks at pull requests that went on after the check had said no.
func TestARefusalThatDidNotHold(t *testing.T) {
	t.Parallel()
	for name, goOn := range map[string]func(w *world, number int64){
		"merged": func(w *world, number int64) {
			get(w.admin().Merge(w.t.Context(), w.acme, w.app, number, bitbucket.MergeOptions{}))(w.t)
		},
		"another commit": func(w *world, _ int64) {
			get(w.sim.Push(bitbucketsim.Push{Repository: "acme/app", Branch: "feature", Person: "bob", Files: map[string]string{"b": "b\n"}}))(w.t)
		},
		"long ago": func(w *world, _ int64) {
			w.sql(`update signedapproval_merge_checks set asked_at = now() - interval '1 day'`)
		},
		"followed by a yes": func(w *world, number int64) {
			w.read(w.acme, func(tx *store.Tx) error {
				return tx.PutMergeCheck(w.t.Context(), store.MergeCheck{
					RepositoryID: w.app, Number: number, Trigger: store.CheckOnMerge, HeadCommit: strings.Repeat("1", 40), DestinationBranch: "main",
					Success: true, Code: "APPROVED", Sentence: "approved",
				})
			})
			w.sql(`update signedapproval_merge_checks set asked_at = now() - interval '90 seconds' where success`)
		},
		"into another branch": func(w *world, _ int64) {
			w.sql(`alter table signedapproval_merge_checks disable trigger all`)
			w.sql(`update signedapproval_merge_checks set destination_branch = 'develop'`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, number, head := doctored(t)
			get(w.admin().CreateBranchRestriction(t.Context(), w.acme, w.app, bitbucket.BranchRestriction{
				Kind: bitbucket.RestrictPush, MatchKind: bitbucket.MatchGlob, Pattern: "main",
			}))(t)
			w.refusedMerge(number, head, "main", 2*time.Minute)
			goOn(w, number)
			if state, codes := w.examined("main"); state != string(workspace.EnforcementUnknown) || slices.Contains(codes, workspace.ReasonHeld) {
				t.Errorf("it is %s because of %q", state, codes)
			}
		})
	}
}

// TestAMergeAroundTheGateIsNotForgotten: much is merged elsewhere after a refusal that held and a merge
// that was not asked about, or that the check was against.
func TestAMergeAroundTheGateIsNotForgotten(t *testing.T) {
	t.Parallel()
	for name, asked := range map[string]bool{"not asked": false, "against a no": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, number, head := doctored(t)
			get2(w.fix("alice", "main", workspace.FixRestrictPush, workspace.FixRequireBuild))(t)
			w.refusedMerge(number, head, "main", 2*time.Minute)
			w.expectState(workspace.EnforcementEnforced, workspace.ReasonHeld)
			w.sawMerge(1000, asked, false)
			before, codes := w.examined("main")
			w.sql(`insert into signedapproval_merges_seen (workspace_id, repository_id, number, destination_branch, kind, asked, checked, by_gate, sentence, seen_at)
				select workspace_id, repository_id, 2000 + n, 'develop', 'APPROVED', true, true, false, 'merged', now() + make_interval(secs => n)
				from signedapproval_merges_seen, generate_series(1, 500) n where number = $1`, 1000)
			after, still := w.examined("main")
			if before == string(workspace.EnforcementEnforced) || after != before || !slices.Equal(codes, still) {
				t.Errorf("it was %s because of %q, and is %s because of %q", before, codes, after, still)
			}
		})
	}
}

// TestWhatBitbucketDoesNotShow tells a refusal, after which nothing is known, from a call that failed,
// after which what was known stays.
func TestWhatBitbucketDoesNotShow(t *testing.T) {
	t.Parallel()
	w, number, head := doctored(t)
	get2(w.FixEnforcement(t.Context(), w.who("alice"), w.acme, w.app, "main", allFixes)) // the third result is looked at below
	w.refusedMerge(number, head, "main", 2*time.Minute)
	w.expectState(workspace.EnforcementEnforced, workspace.ReasonHeld)
	for _, status := range []int{429, 500, 503} {
		get(w.sim.AddFault(bitbucketsim.Fault{Method: "GET", Path: "/branch-restrictions", Status: status, Times: 1}))(t)
		if _, err := w.Examine(t.Context(), w.acme, w.app); err == nil {
			t.Errorf("after %d something was found", status)
		}
		if states := w.texts(`select state from signedapproval_enforcements`); !slices.Equal(states, []string{"ENFORCED"}) {
			t.Errorf("after %d it is %v", status, states)
		}
	}
	for _, status := range []int{403, 404} {
		get(w.sim.AddFault(bitbucketsim.Fault{Method: "GET", Path: "/branch-restrictions", Status: status, Times: 1}))(t)
		w.expectState(workspace.EnforcementUnknown, workspace.ReasonUnreadable)
		equal(t, "alarms", w.alarms(w.acme), []string{store.AlarmNotEnforced})
		w.expectState(workspace.EnforcementEnforced, workspace.ReasonHeld)
		equal(t, "alarms", w.alarms(w.acme), nil)
	}
}

func TestFixEnforcementIsForAdministrators(t *testing.T) {
	t.Parallel()
	w, _, _ := doctored(t)
	for _, c := range []struct{ who, code string }{{"bob", refusal.Forbidden}, {"carol", refusal.Forbidden}, {"mallory", refusal.NotFound}} {
		_, _, err := w.fix(c.who, "main", allFixes...)
		refused(t, err, c.code)
	}
	_, _, err := w.fix("alice", "release/*", allFixes...)
	refused(t, err, refusal.BadInput)
	_, _, err = w.fix("alice", "main")
	refused(t, err, refusal.BadInput)
	_, _, err = w.fix("alice", "main", "DELETE_EVERYTHING")
	refused(t, err, refusal.BadInput)
	_, _, err = w.FixEnforcement(t.Context(), w.who("alice"), w.acme, w.tool, "main", allFixes)
	refused(t, err, refusal.NotFound)
	_, _, err = w.FixEnforcement(t.Context(), w.who("alice"), w.acme, uuid.NewString(), "main", allFixes)
	refused(t, err, refusal.NotFound)
	if made := w.restrictions(); len(made) != 0 {
		t.Errorf("made %+v", made)
	}
}

// TestFixEnforcementTellsWhatBitbucketRefuses mends without Premium, and where something is there already.
func TestFixEnforcementTellsWhatBitbucketRefuses(t *testing.T) {
	t.Parallel()
	w, _, _ := doctored(t, "main", "release/**")
	w.premium(false)
	get(w.admin().CreateBranchRestriction(t.Context(), w.acme, w.app, bitbucket.BranchRestriction{
		Kind: bitbucket.RestrictPush, MatchKind: bitbucket.MatchGlob, Pattern: "main", Users: []bitbucket.User{{UUID: w.people["bob"].UUID}},
	}))(t)
	if state, codes := w.examined("main"); state != string(workspace.EnforcementWarnsOnly) || codes[0] != workspace.ReasonPushExempt {
		t.Errorf("with an exception it is %s because of %q", state, codes)
	}
	_, left, err := w.fix("alice", "main", allFixes...)
	must(t, err)
	if len(left) == 0 || !strings.Contains(left[0], "Premium") || !strings.Contains(left[0], "403") {
		t.Errorf("left %q", left)
	}
	_, _, err = w.fix("alice", "release/**", workspace.FixRestrictPush, workspace.FixRequireBuild)
	must(t, err)
	for range 2 { // the second time there is nothing to do
		got := map[string]bool{}
		for _, r := range w.restrictions() {
			got[fmt.Sprintf("%s %s %d", r.Kind, r.Pattern, len(r.Users))] = true
		}
		for _, want := range []string{
			"push main 0", "require_passing_builds_to_merge main 0", "push release 0", "push release/** 0",
			"require_passing_builds_to_merge release 0", "require_passing_builds_to_merge release/** 0",
		} {
			if !got[want] {
				t.Errorf("%s is missing of %v", want, got)
			}
		}
		if len(got) != 6 {
			t.Errorf("made %v", got)
		}
		if state, codes := w.examined("release/**"); state != string(workspace.EnforcementUnknown) || codes[0] != workspace.ReasonNeverSeen {
			t.Errorf("it is %s because of %q", state, codes)
		}
		_, _, err = w.fix("alice", "release/**", workspace.FixRestrictPush, workspace.FixRequireBuild)
		must(t, err)
	}
	get(w.sim.AddFault(bitbucketsim.Fault{Method: "GET", Path: "/branch-restrictions", Status: 500}))(t)
	_, _, err = w.fix("alice", "main", workspace.FixRestrictPush)
	refused(t, err, refusal.BitbucketUnavailable)
}

// TestDoctorReadsAllPages hides the one restriction that counts behind many others.
func TestDoctorReadsAllPages(t *testing.T) {
	t.Parallel()
	w, _, _ := doctored(t)
	for i := range 130 {
		get(w.admin().CreateBranchRestriction(t.Context(), w.acme, w.app, bitbucket.BranchRestriction{
			Kind: bitbucket.RestrictPush, MatchKind: bitbucket.MatchGlob, Pattern: fmt.Sprintf("other/%d", i),
		}))(t)
	}
	w.expectState(workspace.EnforcementOpen, workspace.ReasonPushOpen)
	get(w.admin().CreateBranchRestriction(t.Context(), w.acme, w.app, bitbucket.BranchRestriction{
		Kind: bitbucket.RestrictPush, MatchKind: bitbucket.MatchGlob, Pattern: "main",
	}))(t)
	w.expectState(workspace.EnforcementUnknown, workspace.ReasonNeverSeen)
}

// TestDoctorForgetsWhatIsNoLongerGated changes the rules, and takes the repository away.
func TestDoctorForgetsWhatIsNoLongerGated(t *testing.T) {
	t.Parallel()
	w, number, head := doctored(t)
	_, _, err := w.fix("alice", "main", allFixes...)
	must(t, err)
	w.refusedMerge(number, head, "main", 2*time.Minute)
	w.expectState(workspace.EnforcementEnforced, workspace.ReasonHeld)
	w.unrestrict(bitbucket.RestrictPush)
	w.expectState(workspace.EnforcementOpen, workspace.ReasonPushOpen)

	policy := approvals(1)
	policy.Rules[0].Branches = []string{"release/*", "!release/old"}
	policy.Rules = append(policy.Rules, approval.Rule{
		Name: "Others", Branches: []string{"release/*", "develop"}, ExpiresAfterSeconds: 3600, Requirements: policy.Rules[0].Requirements,
	})
	w.saved(w.app, policy)
	get(w.Examine(t.Context(), w.acme, w.app))(t)
	equal(t, "patterns", w.texts(`select pattern from signedapproval_enforcements order by 1`), []string{"develop", "release/*"})
	equal(t, "alarms", w.alarms(w.acme), nil)
	if len(w.texts(`select key from signedapproval_jobs where kind = 'doctor' and key = $1 and state = 'READY'`, w.acme+"/"+w.app)) != 1 {
		t.Error("saving does not ask for the doctor")
	}

	get(w.RemoveRepository(t.Context(), w.who("alice"), "session", w.acme, w.app))(t)
	if found := get(w.Examine(t.Context(), w.acme, w.app))(t); len(found) != 0 {
		t.Errorf("found %+v", found)
	}
	equal(t, "patterns", w.texts(`select pattern from signedapproval_enforcements`), nil)
}

// TestDoctorComesBackToAFreshRefusal does the job while a refused merge is too young to tell.
func TestDoctorComesBackToAFreshRefusal(t *testing.T) {
	t.Parallel()
	w, number, head := doctored(t)
	run := func() {
		t.Helper()
		id := w.texts(`select id::text from signedapproval_jobs where kind = 'doctor'`)
		var number int64
		get(fmt.Sscan(id[0], &number))(t)
		w.sql(`update signedapproval_jobs set run_at = now(), state = 'READY' where kind = 'doctor'`)
		job, ok := get2(w.store.ClaimJob(t.Context(), number, uuid.NewString(), time.Minute))(t)
		if !ok {
			t.Fatal("the job cannot be claimed")
		}
		must(t, w.Doctor(t.Context(), job))
	}
	next := func() []string {
		return w.texts(`select case when state = 'DONE' then 'never' when run_at between now() + interval '40 seconds' and now() + interval '1 minute' then 'soon'
			else run_at::text end from signedapproval_jobs where kind = 'doctor'`)
	}
	run()
	equal(t, "after nothing", next(), []string{"never"})
	w.refusedMerge(number, head, "main", 5*time.Second)
	run()
	equal(t, "after a refusal", next(), []string{"soon"})
	w.sql(`update signedapproval_merge_checks set asked_at = now() - interval '2 minutes'`)
	run()
	equal(t, "when it held", next(), []string{"never"})
	if held := w.texts(`select 'held' from signedapproval_enforcements where held_at is not null`); len(held) != 1 {
		t.Errorf("held: %v", held)
	}
}
