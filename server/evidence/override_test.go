package evidence_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// breakable lets Bob and Carol together override the rule for releases.
func breakable(w *world) {
	w.policy.Rules[0].Override = &approval.OverrideBy{
		Quorum: 2, Approvers: approval.Approvers{Accounts: []string{"acc-bob", "acc-carol"}},
	}
}

// broken is a pull request that one person rejects and two override.
func broken(w *world) {
	breakable(w)
	w.open("old")
	w.decide("dave", evidence.Reject)
	w.decide("bob", evidence.Override)
	w.check(evidence.AnswerNo, "REJECTED")
	w.decide("carol", evidence.Override)
	w.append(evidence.StatusPaid{Request: w.request().ID, State: "SUCCESSFUL"})
	w.check(evidence.AnswerYes, evidence.CheckOverridden)
	w.append(evidence.Merged{Request: w.request().ID, Kind: "override", Commit: w.commit("landed")})
}

// askedAgain is a pull request that somebody rejects until its time is up. It is asked for again, where the rejection still stands, and
// overridden.
func askedAgain(w *world) {
	breakable(w)
	w.open("old")
	w.decide("bob", evidence.Approve)
	w.decide("dave", evidence.Reject)
	w.now = w.now.Add(25 * time.Hour)
	w.open("old")
	w.check(evidence.AnswerNo, "REJECTED")
	w.decide("bob", evidence.Override)
	w.decide("carol", evidence.Override)
	w.check(evidence.AnswerYes, evidence.CheckOverridden)
	w.append(evidence.Merged{Request: w.request().ID, Kind: "override", Commit: w.commit("landed")})
}

func TestVerifyOverride(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	broken(w)
	report := evidence.Verify(w.encoded(), w.anchors())
	want := "OVERRIDDEN: overridden by Bob and Carol; rejected by Dave; 0 of 2 approvals"
	if got, _, _ := strings.Cut(report.Sentence(), " (UNWITNESSED"); got != want || report.ExitCode() == 1 {
		t.Fatalf("got %s, exit code %d", report.Sentence(), report.ExitCode())
	}
	var overrides, merges []string
	for _, fact := range report.Facts {
		switch fact.Name {
		case "override":
			overrides = append(overrides, fact.Value)
			if fact.Label != evidence.Signed {
				t.Errorf("an override is %s", fact.Label)
			}
		case "merge":
			merges = append(merges, fact.Value)
		}
	}
	if diff := cmp.Diff([]string{
		`person per-bob: "Not yet: the ünïcode test is missing."`,
		`person per-carol: "Not yet: the ünïcode test is missing."`,
	}, overrides); diff != "" {
		t.Errorf("overrides (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"override, commit " + commits["landed"]}, merges); diff != "" {
		t.Errorf("merges (-want +got):\n%s", diff)
	}
	if change, ok := report.Change(); !ok || !change.Approved {
		t.Errorf("nothing is said to let commit %s be merged", change.Head)
	}

	w.decisions[1].Comment = nil
	erased := evidence.Verify(w.encoded(), w.anchors())
	said := false
	for _, fact := range erased.Facts {
		said = said || fact.Name == "override" && strings.HasSuffix(fact.Value, "; the reason was erased")
	}
	if erased.ExitCode() != 2 || !said {
		t.Errorf("with an erased reason: %s, %v", erased.Sentence(), erased.Facts)
	}
}

// TestARejectionIsTakenAlong asks again for what was rejected: an approval by somebody else, which the first request had too,
// approves nothing.
func TestARejectionIsTakenAlong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	askedAgain(w)
	report := evidence.Verify(w.encoded(), w.anchors())
	if report.ExitCode() != 0 || report.Verdict.State != approval.Overridden || len(report.Verdict.Rejections) != 1 {
		t.Errorf("%s", report.Sentence())
	}
	w = newWorld(t)
	w.open("old")
	w.decide("dave", evidence.Reject)
	w.now = w.now.Add(25 * time.Hour)
	w.open("old")
	w.tamperVerdict = func(v *approval.Verdict) { v.State, v.Rejections = approval.Approved, []approval.Person{} }
	w.decide("bob", evidence.Approve)
	w.decide("carol", evidence.Approve)
	if report := evidence.Verify(w.encoded(), w.anchors()); report.ExitCode() != 1 {
		t.Errorf("washed away: %s", report.Sentence())
	}
}

func TestOverrideSaysWhy(t *testing.T) {
	t.Parallel()
	s := statement(t, evidence.Override)
	if _, err := s.Canonical(); err != nil {
		t.Fatal(err)
	}
	want := "I override the rule and let commit " + s.Source.Commit + " of pull request 7 into branch " + s.Destination.Branch + " be merged without its approvals."
	if s.Meaning != want || s.Purpose.Action() != approval.Override {
		t.Errorf("got %q for %s", s.Meaning, s.Purpose.Action())
	}
	s.Comment = ""
	if _, err := s.Canonical(); evidence.CodeOf(err) != evidence.CodeInvalid || !strings.Contains(err.Error(), "reason") {
		t.Errorf("without a reason: %v", err)
	}
}

// overrideForgeries are bundles of somebody who wants more than was overridden.
func overrideForgeries() []forged {
	return []forged{
		{"a yes to an override that was never reached", told(func(w *world) {
			breakable(w)
			w.open("old")
			w.decide("bob", evidence.Override)
			w.check(evidence.AnswerYes, evidence.CheckOverridden)
		}), "requests", evidence.CodeChain},
		{"a yes to an approval where there is an override", told(func(w *world) {
			broken(w)
			w.check(evidence.AnswerYes, evidence.CheckApproved)
		}), "requests", evidence.CodeChain},
		{"a yes to an override that was taken back", told(func(w *world) {
			broken(w)
			w.decide("carol", evidence.Withdraw)
			w.check(evidence.AnswerYes, evidence.CheckOverridden)
		}), "requests", evidence.CodeChain},
		{"an override of a request that had expired", told(func(w *world) {
			breakable(w)
			w.open("old")
			w.decide("bob", evidence.Override)
			w.now = w.now.Add(25 * time.Hour)
			w.decide("carol", evidence.Override)
		}), "statements", evidence.CodeChain},
		{"an override counted as an approval", told(func(w *world) {
			breakable(w)
			w.open("old")
			w.tamperFacts = func(f *approval.Facts) {
				for i := range f.Decisions {
					f.Decisions[i].Action = approval.Approve
				}
			}
			w.decide("bob", evidence.Override)
			w.decide("carol", evidence.Override)
		}), "facts", evidence.CodeInvalid},
		{"an override by somebody whom the rule does not name", told(func(w *world) {
			breakable(w)
			w.open("old")
			w.tamperVerdict = func(v *approval.Verdict) { v.State = approval.Overridden }
			w.decide("bob", evidence.Override)
			w.decide("dave", evidence.Override)
		}), "tally", evidence.CodeInvalid},
		{"an override where the rule has none", told(func(w *world) {
			w.open("old")
			w.tamperVerdict = func(v *approval.Verdict) { v.State = approval.Overridden }
			w.decide("bob", evidence.Override)
			w.decide("carol", evidence.Override)
		}), "tally", evidence.CodeInvalid},
	}
}

// What was merged while it was overridden was merged by an override, though enough people turn out to have approved it by then.
func TestAMergeByAnOverrideStaysOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	breakable(w)
	w.open("old")
	w.decide("bob", evidence.Override)
	w.decide("carol", evidence.Override)
	w.decide("bob", evidence.Approve)
	w.decide("dave", evidence.Approve)
	w.append(evidence.Merged{Request: w.request().ID, Kind: "override", Commit: w.commit("landed")})
	w.publish()
	report := evidence.Verify(w.encoded(), w.anchors())
	if got, _, _ := strings.Cut(report.Sentence(), " (UNWITNESSED"); got != "APPROVED: approved by Bob and Dave" || report.ExitCode() != 0 {
		t.Errorf("exit %d: %s", report.ExitCode(), report.Sentence())
	}
}
