package evidence_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signedapproval/bitbucket/internal/racefree"
	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

func TestVerify(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.story()
	data := w.encoded()

	report := evidence.Verify(data, w.anchors())
	for _, step := range report.Steps {
		t.Logf("%2d %-10s %-17s %s", step.Number, step.Name, step.Result, step.Detail)
	}
	if got, want := report.Sentence(), "APPROVED: approved by Bob and Dave"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if report.ExitCode() != 0 || report.Witnesses != 2 {
		t.Errorf("exit code %d, %d witnesses, with all anchors", report.ExitCode(), report.Witnesses)
	}
	var names []string
	for i, step := range report.Steps {
		names = append(names, step.Name)
		if step.Number != i+1 || step.Result != evidence.OK {
			t.Errorf("step %d (%s) is %s: %s", step.Number, step.Name, step.Result, step.Detail)
		}
	}
	if diff := cmp.Diff([]string{
		"bundle", "policy", "chain", "requests", "roster", "decisions", "statements", "assertions", "openings", "facts", "tally", "verdict",
		"log", "witnesses", "anchors",
	}, names); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	want := map[string]evidence.Label{
		"head commit": evidence.Signed, "destination branch": evidence.Signed, "pull request": evidence.Signed, "rule": evidence.Signed,
		"decision": evidence.Signed, "history": evidence.Recomputed, "verdict": evidence.Recomputed, "key": evidence.Recomputed, "account": evidence.Signed,
		"merge": evidence.Asserted, "name": evidence.Asserted, "author": evidence.Asserted, "permissions": evidence.Asserted, "time of the verdict": evidence.Asserted,
	}
	if diff := cmp.Diff(want, labels(report)); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
}

func labels(report evidence.Report) map[string]evidence.Label {
	labels := map[string]evidence.Label{}
	for _, fact := range report.Facts {
		labels[fact.Name] = fact.Label
	}
	return labels
}

// Each anchor that is not given is said to be missing, and nothing else is.
func TestVerifyWithoutAnAnchor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.story()
	data := w.encoded()
	for missing, drop := range map[string]func(a *evidence.Anchors){
		"log":                        func(a *evidence.Anchors) { a.Log = nil },
		"witnesses":                  func(a *evidence.Anchors) { a.Witnesses = nil },
		"relying parties":            func(a *evidence.Anchors) { a.RelyingParties = nil },
		"genesis":                    func(a *evidence.Anchors) { a.Genesis = "" },
		"roster":                     func(a *evidence.Anchors) { a.Roster = "" },
		"policies of the repository": func(a *evidence.Anchors) { a.Policies = nil },
	} {
		a := w.anchors()
		drop(&a)
		report := evidence.Verify(data, a)
		if diff := cmp.Diff([]string{missing}, report.Missing); diff != "" || report.ExitCode() != 2 {
			t.Errorf("without %s: exit code %d, missing (-want +got):\n%s", missing, report.ExitCode(), diff)
		}
		want := "APPROVED: approved by Bob and Dave (consistent, operator-asserted: " + missing + ")"
		if missing == "witnesses" {
			want = "APPROVED: approved by Bob and Dave (UNWITNESSED; consistent, operator-asserted: witnesses)"
		}
		if report.Sentence() != want {
			t.Errorf("got  %s\nwant %s", report.Sentence(), want)
		}
	}
	if none := evidence.Verify(data, evidence.Anchors{}); none.ExitCode() != 2 || len(none.Missing) != 6 {
		t.Errorf("without anchors: exit code %d, missing %q", none.ExitCode(), none.Missing)
	}
}

// cosignedStory is the story under a rule that demands so many witnesses. Two cosign, and three are known.
func cosignedStory(demanded int) func(w *world) {
	return func(w *world) {
		w.policy.Rules[0].Cosignatures = demanded
		w.story()
	}
}

// What the rule demands of witnesses is asked for whatever the verifier's own quorum is, and nothing that falls short of it
// is proved.
func TestVerifyDemandedCosignatures(t *testing.T) {
	t.Parallel()
	const approved = "APPROVED: approved by Bob and Dave"
	for _, test := range []struct {
		demanded, quorum, known int
		exit                    int
		says                    string
	}{
		{1, 2, 3, 0, approved},
		{2, 0, 3, 0, approved},
		{2, 1, 2, 0, approved},
		{2, 0, 1, 2, approved + " (consistent, operator-asserted: witnesses)"},
		{2, 0, 0, 2, approved + " (UNWITNESSED; consistent, operator-asserted: witnesses)"},
		{4, 2, 3, 2, approved + " (consistent, operator-asserted: witnesses)"},
		{3, 0, 3, 1, "FAILED at step 14 (witnesses): 2 of 3 witnesses have cosigned the checkpoint, and the rule demands 3"},
		{3, 2, 3, 1, "FAILED at step 14 (witnesses): 2 of 3 witnesses have cosigned the checkpoint, and the rule demands 3"},
	} {
		w := newWorld(t)
		cosignedStory(test.demanded)(w)
		a := w.anchors()
		a.Witnesses = &evidence.WitnessPolicy{Quorum: test.quorum, Keys: a.Witnesses.Keys[:test.known]}
		report := evidence.Verify(w.encoded(), a)
		if report.ExitCode() != test.exit || report.Sentence() != test.says {
			t.Errorf("%d demanded, quorum %d of %d known: exit %d, %s", test.demanded, test.quorum, test.known, report.ExitCode(), report.Sentence())
		}
		a.Witnesses = nil
		if report := evidence.Verify(w.encoded(), a); report.ExitCode() != 2 {
			t.Errorf("%d demanded, nobody known: exit %d, %s", test.demanded, report.ExitCode(), report.Sentence())
		}
	}
}

// A quorum of 0 is a decision of the verifier and no gap, but it is said.
func TestVerifyUnwitnessed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.story()
	a := w.anchors()
	a.Witnesses = &evidence.WitnessPolicy{}
	report := evidence.Verify(w.encoded(), a)
	if got, want := report.Sentence(), "APPROVED: approved by Bob and Dave (UNWITNESSED)"; got != want || report.ExitCode() != 0 {
		t.Errorf("exit code %d, %s", report.ExitCode(), got)
	}
}

func TestVerifyOtherVerdicts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		story func(w *world)
		want  string
	}{
		{"nobody decided", func(w *world) { w.open("old") }, "PENDING: 0 of 2 approvals; waiting for Bob, Carol or Dave"},
		{"rejected", func(w *world) {
			w.open("old")
			w.decide("bob", evidence.Approve)
			w.decide("carol", evidence.Reject)
		}, "REJECTED: rejected by Carol"},
		{"expired", func(w *world) {
			w.open("old")
			w.decide("bob", evidence.Approve)
			w.now = w.now.Add(48 * time.Hour)
			w.tally()
		}, "EXPIRED: expired before 2 approvals were given (1 of 2)"},
		{"superseded", func(w *world) {
			w.open("old")
			w.decide("bob", evidence.Approve)
			w.open("new")
		}, "PENDING: 0 of 2 approvals; waiting for Bob, Carol or Dave"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			test.story(w)
			report := evidence.Verify(w.encoded(), w.anchors())
			if got, _, _ := strings.Cut(report.Sentence(), " (UNWITNESSED"); got != test.want || report.ExitCode() != 0 {
				t.Errorf("got %s, exit code %d", report.Sentence(), report.ExitCode())
			}
		})
	}
}

// The merge check's answers are part of the history, and a "yes" must fit it.
func TestVerifyMergeChecks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.open("old")
	w.check(evidence.AnswerNo, "PENDING")
	w.check(evidence.AnswerNo, "BITBUCKET", func(c *evidence.MergeChecked) { c.Commit, c.Destination, c.Request = "", "", "" })
	w.decide("bob", evidence.Approve)
	w.decide("dave", evidence.Approve)
	w.check(evidence.AnswerYes, evidence.CheckApproved)
	w.check(evidence.AnswerYes, evidence.CheckApproved, func(c *evidence.MergeChecked) { c.Trigger = evidence.TriggerPreMerge })
	w.append(evidence.RequestClosed{Request: w.request().ID, Reason: "cancelled"})
	w.check(evidence.AnswerYes, evidence.CheckNoRule, func(c *evidence.MergeChecked) { c.Request = "" })
	w.open("new")
	report := evidence.Verify(w.encoded(), w.anchors())
	if report.ExitCode() != 0 {
		t.Fatal(report.Sentence())
	}
	var said []string
	for _, fact := range report.Facts {
		if fact.Name == "merge check" {
			said = append(said, fact.Value)
			if fact.Label != evidence.Asserted {
				t.Errorf("%s is %s", fact.Value, fact.Label)
			}
		}
	}
	old := " for commit " + commits["old"]
	if diff := cmp.Diff([]string{"answered no (PENDING)" + old, "answered yes (APPROVED)" + old, "answered yes (NO_RULE)" + old}, said); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAnApprovedRequestDoesNotExpire(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.open("old")
	w.decide("bob", evidence.Approve)
	w.decide("dave", evidence.Approve)
	w.now = w.now.Add(24 * time.Hour)
	w.tally()
	w.publish()
	if report := evidence.Verify(w.encoded(), w.anchors()); report.ExitCode() != 0 || report.Verdict.State != approval.Approved {
		t.Error(report.Sentence())
	}
}

// What came too late is part of the history, and makes nothing better.
func TestNothingGetsBetterWhenTheTimeIsUp(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		story func(w *world)
		want  string
	}{
		"a rejection withdrawn": {func(w *world) {
			w.open("old")
			w.decide("bob", evidence.Approve)
			w.decide("dave", evidence.Approve)
			w.decide("carol", evidence.Reject)
			w.now = w.request().ExpiresAt
			w.decide("carol", evidence.Withdraw)
		}, "EXPIRED: expired before it was approved"},
		"a late rejection withdrawn": {func(w *world) {
			w.open("old")
			w.decide("bob", evidence.Approve)
			w.decide("dave", evidence.Approve)
			w.now = w.request().ExpiresAt
			w.decide("carol", evidence.Reject)
			w.decide("carol", evidence.Withdraw)
		}, "EXPIRED: expired before it was approved"},
		"other facts": {func(w *world) {
			expired(w)
			w.tally()
			w.publish()
		}, "EXPIRED: expired before it was approved"},
		"approved in time, and looked at late": {func(w *world) {
			w.open("old")
			w.decide("bob", evidence.Approve)
			w.tamperLeaf = func(l *evidence.Leaf) {
				if _, ok := l.Body.(evidence.DecisionMade); ok {
					w.now = w.request().ExpiresAt
				}
			}
			w.decide("dave", evidence.Approve)
		}, "APPROVED: approved by Bob and Dave"},
		"asked for again": {func(w *world) {
			expired(w)
			w.open("old")
			w.decide("bob", evidence.Approve)
			w.decide("dave", evidence.Approve)
		}, "APPROVED: approved by Bob and Dave"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			test.story(w)
			if report := evidence.Verify(w.encoded(), w.anchors()); report.ExitCode() != 0 || report.Sentence() != test.want {
				t.Errorf("exit %d: %s", report.ExitCode(), report.Sentence())
			}
		})
	}
}

// A merge that was called a violation once stays one.
func TestAViolationStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.open("new")
	w.decide("bob", evidence.Approve)
	w.decide("dave", evidence.Approve)
	w.append(evidence.Merged{Request: w.request().ID, Kind: "violation", Commit: w.commit("landed")})
	w.append(evidence.Merged{Request: w.request().ID, Kind: "approved", Commit: w.commit("landed")})
	w.publish()
	report := evidence.Verify(w.encoded(), w.anchors())
	if change, ok := report.Change(); !ok || !change.Violation || change.Landed != w.commit("landed") {
		t.Errorf("%s: %+v", report.Sentence(), change)
	}
}

func TestVerifyAfterErasure(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.story()
	for i := range w.decisions {
		w.decisions[i].Author, w.decisions[i].Comment = nil, nil
	}
	w.decisions[0].Approver = nil
	report := evidence.Verify(w.encoded(), w.anchors())
	if report.ExitCode() != 2 {
		t.Fatalf("%s", report.Sentence())
	}
	if step := report.Steps[8]; step.Result != evidence.OperatorAsserted ||
		step.Detail != "7 openings were erased; those people are known by the operator's word" {
		t.Errorf("got %+v", step)
	}
}

func TestVerifyAfterErasureOfTheFacts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.story()
	w.outcome = nil
	report := evidence.Verify(w.encoded(), w.anchors())
	i := slices.IndexFunc(report.Steps, func(s evidence.Step) bool { return s.Name == "verdict" })
	if i < 0 || report.Steps[i].Result != evidence.OperatorAsserted || !strings.Contains(report.Steps[i].Detail, "the facts were erased") {
		t.Errorf("got %+v", report.Steps)
	}
	if report.ExitCode() != 2 || !strings.Contains(report.Sentence(), "facts of the verdict") {
		t.Errorf("%d %s", report.ExitCode(), report.Sentence())
	}
}

// forged is a lie of the operator, who can write every hash again but has no
// key of an approver, and the step that finds it.
type forged struct {
	name string
	make func(t *testing.T) (bundle []byte, anchors evidence.Anchors)
	step string
	code evidence.Code
}

// told plays the story with a lie in it.
func told(lie func(w *world)) func(t *testing.T) ([]byte, evidence.Anchors) {
	return func(t *testing.T) ([]byte, evidence.Anchors) {
		t.Helper()
		w := newWorld(t)
		lie(w)
		if len(w.entries) == 0 {
			w.story()
		}
		return w.encoded(), w.anchors()
	}
}

// altered plays the story and then changes the bundle.
func altered(change func(b *evidence.Bundle)) func(t *testing.T) ([]byte, evidence.Anchors) {
	return func(t *testing.T) ([]byte, evidence.Anchors) {
		t.Helper()
		w := newWorld(t)
		w.story()
		b := w.bundle()
		change(&b)
		data, err := b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return data, w.anchors()
	}
}

// pinned plays the story and changes what the verifier knows.
func pinned(change func(w *world, a *evidence.Anchors)) func(t *testing.T) ([]byte, evidence.Anchors) {
	return func(t *testing.T) ([]byte, evidence.Anchors) {
		t.Helper()
		w := newWorld(t)
		w.story()
		a := w.anchors()
		change(w, &a)
		return w.encoded(), a
	}
}

// otherEncoding is an ES256 key with its first two parameters in another order.
func otherEncoding(plain []byte) evidence.Bytes {
	return slices.Concat([]byte{0xa5, 0x03, 0x26, 0x01, 0x02}, plain[5:])
}

// closedStory is a request that was approved by one of two, and superseded.
func closedStory(w *world) {
	w.open("old")
	w.decide("bob", evidence.Approve)
	w.append(evidence.RequestClosed{Request: w.request().ID, Reason: "superseded"})
	w.publish()
}

// TestWhereNothingCommitsToTheVerdict: of erased people the verdict's words are whatever the bundle says, and are labelled so.
func TestWhereNothingCommitsToTheVerdict(t *testing.T) {
	t.Parallel()
	for name, story := range map[string]func(w *world){
		"approved": func(w *world) {
			erasedStory(w)
			w.verdict.Sentence, w.verdict.Requirements = "approved by whoever was asked", []approval.RequirementVerdict{}
		},
		"overridden, by nobody": func(w *world) {
			erasedOverride(w)
			w.verdict.Override = nil
		},
	} {
		w := newWorld(t)
		story(w)
		report := evidence.Verify(w.encoded(), w.anchors())
		var verdicts, overrides []evidence.Label
		for _, f := range report.Facts {
			switch f.Name {
			case "verdict":
				verdicts = append(verdicts, f.Label)
			case "override":
				overrides = append(overrides, f.Label)
			}
		}
		if report.ExitCode() != 2 || !slices.Equal(verdicts, []evidence.Label{evidence.Asserted}) || (len(overrides) == 1) != strings.HasPrefix(name, "overridden") {
			t.Errorf("%s: exit %d, %s; verdict %q, override %q", name, report.ExitCode(), report.Sentence(), verdicts, overrides)
		}
	}
}

// rejection is the story of one approval and one rejection.
func rejection(w *world) {
	w.open("old")
	w.decide("bob", evidence.Approve)
	w.decide("carol", evidence.Reject)
}

// erasedStory is a pull request that two named people approved, who were erased
// from the facts afterwards.
func erasedStory(w *world) {
	w.policy.Rules[0].Requirements[0].Approvers = approval.Approvers{Accounts: []string{"acc-bob", "acc-dave"}}
	w.open("old")
	w.decide("carol", evidence.Approve)
	w.decide("bob", evidence.Approve)
	w.decide("dave", evidence.Approve)
	for i, d := range w.facts.Decisions {
		w.facts.Decisions[i].AccountID, w.facts.Decisions[i].Name = evidence.ErasedPrefix+d.PersonID, "Erased person"
		w.decisions[i].Approver = nil
	}
	w.verdict.Sentence, w.outcome = "approved by Erased person and Erased person", nil
}

// erasedOverride is an override beside as many approvals as the rule asks for, of which one is by somebody whom it does not ask.
func erasedOverride(w *world) { erasedOverrideBeside(w, "erin") }

// erasedOverrideBeside is an override beside Dave's approval and those of others whom the rule does not ask.
func erasedOverrideBeside(w *world, others ...string) {
	breakable(w)
	w.policy.Rules[0].Override.Quorum = 1
	w.policy.Rules[0].Requirements[0].Approvers = approval.Approvers{Accounts: []string{"acc-bob", "acc-dave"}}
	for _, name := range others {
		w.tokens[name] = es256(w.t, name)
		w.enrol(name, nil, nil)
	}
	w.open("old")
	for _, name := range append(others, "dave") {
		w.decide(name, evidence.Approve)
	}
	w.decide("carol", evidence.Override)
	for i, d := range w.facts.Decisions {
		w.facts.Decisions[i].AccountID, w.facts.Decisions[i].Name = evidence.ErasedPrefix+d.PersonID, "Erased person"
		w.decisions[i].Approver = nil
	}
	w.verdict.Sentence, w.outcome = "overridden by Erased person; 1 of 2 approvals", nil
}

// timeless are facts that keep silent about the time of the request.
func timeless(f *approval.Facts) {
	f.Request.Lapsed = false
	for i := range f.Decisions {
		f.Decisions[i].Late = false
	}
}

// expired is a request that two people approved, of whom one was not asked while there was time.
func expired(w *world) {
	w.tamperFacts = func(f *approval.Facts) { f.Writers = people("alice", "bob") }
	w.open("old")
	w.decide("bob", evidence.Approve)
	w.decide("dave", evidence.Approve)
	w.now = w.request().ExpiresAt
	w.tally()
	w.tamperFacts = nil
}

func forgeries() []forged {
	return []forged{
		{"white space", func(t *testing.T) ([]byte, evidence.Anchors) {
			w := newWorld(t)
			w.story()
			return append(w.encoded(), '\n'), w.anchors()
		}, "bundle", evidence.CodeNotCanonical},
		{"nesting that would use up the stack", func(t *testing.T) ([]byte, evidence.Anchors) {
			w := newWorld(t)
			w.story()
			return bytes.Replace(w.encoded(), []byte(`"policy":{`), []byte(`"policy":{"a":`+nested+`,`), 1), w.anchors()
		}, "bundle", evidence.CodeTooLarge},
		{"another format", func(t *testing.T) ([]byte, evidence.Anchors) {
			w := newWorld(t)
			w.story()
			return bytes.Replace(w.encoded(), []byte("bundle/v1"), []byte("bundle/v2"), 1), w.anchors()
		}, "bundle", evidence.CodeInvalid},
		{"a time in another zone", func(t *testing.T) ([]byte, evidence.Anchors) {
			w := newWorld(t)
			w.story()
			data := w.encoded()
			expires := w.facts.Request.ExpiresAt
			here, there := expires.Format(time.RFC3339), expires.In(time.FixedZone("", 3600)).Format(time.RFC3339)
			at := bytes.LastIndex(data[:bytes.Index(data, []byte(`"format"`))], []byte(here)) // in the facts
			return slices.Replace(data, at, at+len(here), []byte(there)...), w.anchors()
		}, "bundle", evidence.CodeNotCanonical},
		{"a line break in base64", func(t *testing.T) ([]byte, evidence.Anchors) {
			w := newWorld(t)
			w.story()
			data := w.encoded()
			for _, at := range base64Text.FindAllSubmatchIndex(data, -1) {
				if end, size := at[3], at[3]-at[2]; size*6/8 == (size+1)*6/8 { // or its length tells
					return slices.Insert(data, end, '\n'), w.anchors()
				}
			}
			t.Fatal("every text is too long by a character")
			return nil, w.anchors()
		}, "bundle", evidence.CodeMalformed},
		{"a duplicate key", func(t *testing.T) ([]byte, evidence.Anchors) {
			w := newWorld(t)
			w.story()
			return bytes.Replace(w.encoded(), []byte(`"format":`), []byte(`"format":"x","format":`), 1), w.anchors()
		}, "bundle", evidence.CodeMalformed},

		{"a policy that is none", altered(func(b *evidence.Bundle) { b.Policy = json.RawMessage(`{}`) }), "policy", evidence.CodeInvalid},
		{"a branch that no rule is for", told(func(w *world) {
			w.policy.Rules = w.policy.Rules[:1]
			w.tamperFacts = func(f *approval.Facts) { f.Request.DestinationBranch = "main" }
		}), "policy", evidence.CodeInvalid},
		{"a weaker rule", altered(func(b *evidence.Bundle) {
			b.Policy = bytes.Replace(b.Policy, []byte(`"quorum":2`), []byte(`"quorum":1`), 1)
		}), "policy", evidence.CodeInvalid},
		{"no rule for the branch", altered(func(b *evidence.Bundle) { b.Facts.Request.DestinationBranch = "" }), "policy", evidence.CodeInvalid},
		{"a policy that is not in its one form", altered(func(b *evidence.Bundle) {
			b.Policy = bytes.Replace(b.Policy, []byte(`"expiresAfterSeconds":604800,`), nil, 1)
		}), "policy", evidence.CodeNotCanonical},

		{"a leaf left out", altered(func(b *evidence.Bundle) { b.Chain = append(b.Chain[:2:2], b.Chain[3:]...) }), "chain", evidence.CodeChain},
		{"the beginning left out", altered(func(b *evidence.Bundle) { b.Chain = b.Chain[1:] }), "chain", evidence.CodeChain},
		{"a leaf twice", altered(func(b *evidence.Bundle) { b.Chain = append(b.Chain[:2:2], b.Chain[1:]...) }), "chain", evidence.CodeChain},
		{"no chain", altered(func(b *evidence.Bundle) { b.Chain = nil }), "chain", evidence.CodeChain},
		{"a leaf that is none", altered(func(b *evidence.Bundle) { b.Chain[1] = []byte("{}") }), "chain", evidence.CodeMalformed},
		{"a leaf without a chain", altered(func(b *evidence.Bundle) { b.Chain[1] = b.Genesis }), "chain", evidence.CodeChain},
		{"a leaf after another one", told(func(w *world) {
			w.tamperLeaf = func(l *evidence.Leaf) {
				if l.Chain.Sequence == 3 {
					l.Chain.Previous = digestOf("another")
				}
			}
		}), "chain", evidence.CodeChain},
		{"no requests", altered(func(b *evidence.Bundle) { b.Requests = nil }), "chain", evidence.CodeChain},
		{"a short salt", since(func(w *world) { w.salt = w.salt[:31] }), "chain", evidence.CodeChain},
		{"another salt", altered(func(b *evidence.Bundle) { b.Salt = seed("another salt") }), "chain", evidence.CodeChain},
		{"another pull request's chain", altered(func(b *evidence.Bundle) { b.Requests[0].PullRequest++ }), "chain", evidence.CodeChain},
		{"another workspace's chain", altered(func(b *evidence.Bundle) { b.Requests[0].Workspace = repositoryUUID }), "chain", evidence.CodeChain},
		{"a leaf of another workspace", told(func(w *world) {
			w.tamperLeaf = func(l *evidence.Leaf) {
				if l.Chain.Sequence == 3 {
					l.Workspace = evidence.WorkspaceID(w.salt, repositoryUUID)
				}
			}
		}), "chain", evidence.CodeChain},
		{"a leaf of another chain", told(func(w *world) {
			w.tamperLeaf = func(l *evidence.Leaf) {
				if l.Chain.Sequence == 3 {
					l.Chain.ID = evidence.ChainID(w.salt, repositoryUUID, 8)
				}
			}
		}), "chain", evidence.CodeChain},

		{"a chain that goes on after the request was closed", told(func(w *world) {
			w.open("old")
			w.decide("bob", evidence.Approve)
			facts, verdict, outcome := w.facts, w.verdict, w.outcome
			w.open("new")
			w.facts, w.verdict, w.outcome = facts, verdict, outcome
		}), "requests", evidence.CodeChain},
		{"a request under another name", told(func(w *world) {
			w.tamperLeaf = func(l *evidence.Leaf) {
				if body, ok := l.Body.(evidence.RequestOpened); ok {
					body.Request = "req-9"
					l.Body = body
				}
			}
			w.open("old")
		}), "requests", evidence.CodeChain},
		{"a request in another workspace", told(func(w *world) {
			w.open("old")
			w.tamperRequest = func(r *evidence.Request) { r.Workspace = repositoryUUID }
			w.open("new")
		}), "requests", evidence.CodeChain},
		{"a request in another repository", told(func(w *world) {
			w.open("old")
			w.tamperRequest = func(r *evidence.Request) { r.Repository = workspaceUUID }
			w.open("new")
		}), "requests", evidence.CodeChain},
		{"a request of another pull request", told(func(w *world) {
			w.open("old")
			w.tamperRequest = func(r *evidence.Request) { r.PullRequest++ }
			w.open("new")
		}), "requests", evidence.CodeChain},
		{"a request twice", told(func(w *world) {
			w.open("old")
			w.tamperRequest = func(r *evidence.Request) { r.ID = "req-1" }
			w.open("old")
			w.tamperRequest = nil
			w.open("new")
		}), "requests", evidence.CodeChain},
		{"facts about another branch", altered(func(b *evidence.Bundle) { b.Facts.Request.DestinationBranch = "release/2.0" }), "requests", evidence.CodeInvalid},
		{"facts under another rule", told(func(w *world) {
			w.tamperRequest = func(r *evidence.Request) { r.RuleDigest = digestOf("another rule") }
			w.tamperFacts = func(f *approval.Facts) { f.Request.RuleDigest = w.policy.Rules[0].Digest() }
			w.open("old")
		}), "requests", evidence.CodeInvalid},
		{"a request left out", altered(func(b *evidence.Bundle) { b.Requests = b.Requests[:1] }), "requests", evidence.CodeChain},
		{"a request added", altered(func(b *evidence.Bundle) { b.Requests = append(b.Requests, b.Requests[0]) }), "requests", evidence.CodeChain},
		{"a request with another head", altered(func(b *evidence.Bundle) { b.Requests[1].HeadCommit = commits["base"] }), "requests", evidence.CodeChain},
		{"a request without end", altered(func(b *evidence.Bundle) { b.Facts.Request.ExpiresAt = b.Facts.Request.ExpiresAt.Add(time.Hour) }), "requests", evidence.CodeInvalid},
		{"facts about another head", altered(func(b *evidence.Bundle) { b.Facts.Request.HeadCommit = commits["base"] }), "requests", evidence.CodeInvalid},
		{"facts about no request", altered(func(b *evidence.Bundle) { b.Facts.Request.ID = "req-9" }), "requests", evidence.CodeInvalid},
		{"a leaf about a request never opened", told(func(w *world) {
			w.story()
			w.append(evidence.StatusPaid{Request: "req-9", State: "SUCCESSFUL"})
		}), "requests", evidence.CodeChain},

		{"a yes to a merge that was not approved", told(func(w *world) {
			w.open("old")
			w.decide("bob", evidence.Approve)
			w.check(evidence.AnswerYes, evidence.CheckApproved)
		}), "requests", evidence.CodeChain},
		{"a yes to a merge that was approved later", told(func(w *world) {
			w.open("old")
			w.decide("bob", evidence.Approve)
			w.check(evidence.AnswerYes, evidence.CheckApproved)
			w.decide("dave", evidence.Approve)
		}), "requests", evidence.CodeChain},
		{"a yes to another commit", told(func(w *world) {
			w.story()
			w.check(evidence.AnswerYes, evidence.CheckApproved, func(c *evidence.MergeChecked) { c.Commit = commits["old"] })
		}), "requests", evidence.CodeChain},
		{"a yes to another branch", told(func(w *world) {
			w.story()
			w.check(evidence.AnswerYes, evidence.CheckApproved, func(c *evidence.MergeChecked) {
				c.Destination = evidence.BranchID(w.salt, repositoryUUID, "main")
			})
		}), "requests", evidence.CodeChain},
		{"a yes to an earlier request", told(func(w *world) {
			w.story()
			w.check(evidence.AnswerYes, evidence.CheckApproved, func(c *evidence.MergeChecked) { c.Request = "req-1" })
		}), "requests", evidence.CodeChain},
		{"a yes without a rule while one asks", told(func(w *world) {
			w.open("old")
			w.check(evidence.AnswerYes, evidence.CheckNoRule, func(c *evidence.MergeChecked) { c.Request = "" })
		}), "requests", evidence.CodeChain},
		{"a yes after the request was closed", told(func(w *world) {
			w.story()
			w.append(evidence.RequestClosed{Request: w.request().ID, Reason: "cancelled"})
			w.check(evidence.AnswerYes, evidence.CheckApproved)
		}), "requests", evidence.CodeChain},
		{"a request that is not closed before the next one is opened", told(func(w *world) {
			w.open("old")
			w.decide("bob", evidence.Approve)
			w.decide("dave", evidence.Approve)
			facts, verdict, outcome := w.facts, w.verdict, w.outcome
			r := w.request()
			r.ID, r.HeadCommit, r.OpenedAt = "req-2", commits["new"], w.now.Add(time.Minute)
			r.ExpiresAt = r.OpenedAt.Add(24 * time.Hour)
			document, err := r.Digest()
			w.must(err)
			w.requests = append(w.requests, r)
			w.append(evidence.RequestOpened{Request: r.ID, Document: document})
			w.decide("carol", evidence.Reject)
			w.facts, w.verdict, w.outcome = facts, verdict, outcome
		}), "requests", evidence.CodeChain},
		{"two commits that landed", told(func(w *world) {
			w.story()
			w.append(evidence.Merged{Request: w.request().ID, Kind: "approved", Commit: w.commit("new")})
			w.publish()
		}), "requests", evidence.CodeChain},
		{"a request closed twice", told(func(w *world) {
			w.story()
			w.append(evidence.RequestClosed{Request: "req-1", Reason: "cancelled"})
		}), "requests", evidence.CodeChain},
		{"a verdict on a request that was closed", told(func(w *world) {
			w.story()
			w.append(evidence.VerdictReached{Request: "req-1", State: "APPROVED", Outcome: digestOf("nothing")})
		}), "requests", evidence.CodeChain},
		{"a request opened at another time than its leaf", told(func(w *world) {
			w.tamperRequest = func(r *evidence.Request) {
				r.OpenedAt, r.ExpiresAt = r.OpenedAt.Add(time.Hour), r.ExpiresAt.Add(time.Hour)
			}
		}), "requests", evidence.CodeChain},
		{"a request with more time than its rule gives it", told(func(w *world) {
			w.tamperRequest = func(r *evidence.Request) { r.ExpiresAt = r.OpenedAt.Add(10 * 365 * 24 * time.Hour) }
		}), "requests", evidence.CodeInvalid},
		{"an answer about a request never opened", told(func(w *world) {
			w.story()
			w.check(evidence.AnswerNo, "PENDING", func(c *evidence.MergeChecked) { c.Request = "req-9" })
		}), "requests", evidence.CodeChain},

		{"a hidden rejection", told(func(w *world) {
			rejection(w)
			w.decisions = w.decisions[:1]
		}), "decisions", evidence.CodeChain},
		{"a decision added", altered(func(b *evidence.Bundle) { b.Decisions = append(b.Decisions, b.Decisions[0]) }), "decisions", evidence.CodeChain},
		{"decisions in another order", altered(func(b *evidence.Bundle) {
			b.Decisions[1], b.Decisions[2] = b.Decisions[2], b.Decisions[1]
		}), "decisions", evidence.CodeChain},
		{"another statement", altered(func(b *evidence.Bundle) { b.Decisions[1].Statement = b.Decisions[0].Statement }), "decisions", evidence.CodeChain},
		{"another assertion", altered(func(b *evidence.Bundle) { b.Decisions[1].Assertion = b.Decisions[0].Assertion }), "decisions", evidence.CodeChain},
		{"another user handle", altered(func(b *evidence.Bundle) { b.Decisions[1].Assertion.UserHandle = []byte("x") }), "decisions", evidence.CodeChain},

		{"a statement about another head", told(func(w *world) {
			w.tamperStatement = func(s *evidence.Statement) { s.Source.Commit = commits["base"] }
		}), "statements", evidence.CodeInvalid},
		{"a statement about another branch", told(func(w *world) {
			w.tamperStatement = func(s *evidence.Statement) { s.Destination.Branch = "main" }
		}), "statements", evidence.CodeInvalid},
		{"a statement about another repository", told(func(w *world) {
			w.tamperStatement = func(s *evidence.Statement) { s.Destination.Repository = workspaceUUID }
		}), "statements", evidence.CodeInvalid},
		{"a statement about another workspace", told(func(w *world) {
			w.tamperStatement = func(s *evidence.Statement) { s.Workspace = repositoryUUID }
		}), "statements", evidence.CodeInvalid},
		{"a statement about another pull request", told(func(w *world) {
			w.tamperStatement = func(s *evidence.Statement) { s.PullRequest++ }
		}), "statements", evidence.CodeInvalid},
		{"a statement about another rule", told(func(w *world) {
			w.tamperStatement = func(s *evidence.Statement) { s.Policy.RuleDigest = w.policy.Rules[1].Digest() }
		}), "statements", evidence.CodeInvalid},
		{"a statement with a smaller quorum", told(func(w *world) {
			w.tamperStatement = func(s *evidence.Statement) { s.Requirements[0].Quorum = 1 }
		}), "statements", evidence.CodeInvalid},
		{"a statement about another request", told(func(w *world) {
			w.tamperStatement = func(s *evidence.Statement) {
				if len(w.requests) == 2 {
					s.Request = "req-1"
				}
			}
		}), "requests", evidence.CodeChain},
		{"a statement about no request", told(func(w *world) {
			w.tamperStatement = func(s *evidence.Statement) { s.Request = "req-9" }
			w.tamperLeaf = func(l *evidence.Leaf) {
				if body, ok := l.Body.(evidence.DecisionMade); ok {
					body.Request = "req-1"
					l.Body = body
				}
			}
			w.open("old")
			w.decide("bob", evidence.Approve)
		}), "statements", evidence.CodeInvalid},
		{"a decision put to another request", told(func(w *world) {
			w.tamperLeaf = func(l *evidence.Leaf) {
				if body, ok := l.Body.(evidence.DecisionMade); ok {
					body.Request = "req-1"
					l.Body = body
				}
			}
		}), "requests", evidence.CodeChain},
		{"a statement for another log", told(func(w *world) {
			w.tamperStatement = func(s *evidence.Statement) {
				if len(w.decisions) == 2 {
					s.LogOrigin = "other.example"
				}
			}
		}), "log", evidence.CodeLog},
		{"a signer who was shown another history", told(func(w *world) {
			w.tamperStatement = func(s *evidence.Statement) { s.ChainHead.Leaf = approval.DigestOf(nil) }
		}), "statements", evidence.CodeChain},
		{"a signer who was shown the future", told(func(w *world) {
			w.tamperStatement = func(s *evidence.Statement) { s.ChainHead.Sequence = 100 }
		}), "statements", evidence.CodeChain},
		{"a signer who was shown another chain", told(func(w *world) {
			w.tamperStatement = func(s *evidence.Statement) { s.ChainHead.Chain = approval.DigestOf(nil) }
		}), "statements", evidence.CodeChain},
		{"a withdrawal of nothing", told(func(w *world) {
			w.tamperStatement = func(s *evidence.Statement) {
				if s.Purpose == evidence.Withdraw {
					s.Withdraws = approval.DigestOf(nil)
				}
			}
		}), "statements", evidence.CodeChain},
		{"a withdrawal of somebody else's decision", told(func(w *world) {
			w.tamperStatement = func(s *evidence.Statement) {
				if s.Purpose == evidence.Withdraw {
					s.Withdraws = approval.DigestOf(w.decisions[1].Statement)
				}
			}
		}), "statements", evidence.CodeChain},
		{"a nonce twice", told(func(w *world) {
			w.tamperStatement = func(s *evidence.Statement) { s.Nonce = make([]byte, 16) }
		}), "statements", evidence.CodeInvalid},

		{"a replayed assertion", told(func(w *world) {
			w.tamperAssertion = func(a *evidence.Assertion) {
				if len(w.decisions) > 0 {
					*a = w.decisions[0].Assertion
				}
			}
		}), "assertions", evidence.CodeChallenge},
		{"a signature by somebody else", told(func(w *world) {
			w.signedBy = func(string) token { return w.tokens["bob"] }
		}), "assertions", evidence.CodePerson},
		{"a signature by a stranger", told(func(w *world) {
			w.signedBy = func(string) token { return es256(w.t, "stranger") }
		}), "assertions", evidence.CodeSignature},
		{"a key that has become synced", told(func(w *world) {
			w.tamperCeremony = func(c *ceremony) { c.flags |= flagBE }
		}), "assertions", evidence.CodeBackup},

		{"another name", altered(func(b *evidence.Bundle) {
			opening := *b.Decisions[0].Approver
			opening.Name = "Mallory"
			b.Decisions[0].Approver = &opening
		}), "openings", evidence.CodeCommitment},
		{"another account", altered(func(b *evidence.Bundle) {
			opening := *b.Decisions[0].Approver
			opening.AccountID = "acc-mallory"
			b.Decisions[0].Approver = &opening
		}), "openings", evidence.CodeCommitment},
		{"another comment", altered(func(b *evidence.Bundle) {
			opening := *b.Decisions[2].Comment
			opening.Text = "Fine."
			b.Decisions[2].Comment = &opening
		}), "openings", evidence.CodeCommitment},
		{"a comment that was not made", altered(func(b *evidence.Bundle) {
			b.Decisions[0].Comment = &evidence.CommentOpening{Salt: seed("x"), Text: "Fine."}
		}), "openings", evidence.CodeCommitment},

		{"a rejection kept from the tally", told(func(w *world) {
			w.tamperFacts = func(f *approval.Facts) {
				if len(f.Decisions) == 2 {
					f.Decisions = f.Decisions[:1]
				}
			}
			rejection(w)
		}), "facts", evidence.CodeInvalid},
		{"a rejection counted as an approval", told(func(w *world) {
			w.tamperFacts = func(f *approval.Facts) {
				if len(f.Decisions) == 2 {
					f.Decisions[1].Action = approval.Approve
				}
			}
			rejection(w)
		}), "facts", evidence.CodeInvalid},
		{"an approval that nobody signed", told(func(w *world) {
			w.tamperFacts = func(f *approval.Facts) {
				if n := len(f.Decisions); n > 0 {
					f.Decisions = append(f.Decisions, f.Decisions[0])
					f.Decisions[n].PersonID, f.Decisions[n].AccountID = "per-dave", "acc-dave"
				}
			}
			w.open("old")
			w.decide("bob", evidence.Approve)
		}), "facts", evidence.CodeInvalid},
		{"an approval under another account", told(func(w *world) {
			w.tamperFacts = func(f *approval.Facts) {
				for i := range f.Decisions {
					f.Decisions[i].AccountID = "acc-dave"
				}
			}
		}), "facts", evidence.CodeInvalid},
		{"another author", told(func(w *world) {
			w.tamperFacts = func(f *approval.Facts) { f.Author = "acc-erin" }
		}), "facts", evidence.CodeInvalid},
		{"a time that is none", told(func(w *world) {
			w.tamperFacts = func(f *approval.Facts) { f.Now = time.Time{} }
		}), "facts", evidence.CodeInvalid},

		{"what had expired and was approved by a withdrawn rejection", told(func(w *world) {
			w.tamperFacts = timeless
			w.open("old")
			w.decide("bob", evidence.Approve)
			w.decide("dave", evidence.Approve)
			w.decide("carol", evidence.Reject)
			w.now = w.request().ExpiresAt.Add(30 * 24 * time.Hour)
			w.decide("carol", evidence.Withdraw)
		}), "facts", evidence.CodeInvalid},
		{"a late withdrawal given out as one in time", told(func(w *world) {
			w.tamperFacts = timeless
			w.open("old")
			w.decide("bob", evidence.Approve)
			w.decide("carol", evidence.Reject)
			w.decide("dave", evidence.Approve)
			w.entries, w.log = w.entries[:len(w.entries)-1], w.log[:len(w.log)-1] // its verdict
			w.now = w.request().ExpiresAt.Add(30 * 24 * time.Hour)
			w.decide("carol", evidence.Withdraw)
		}), "facts", evidence.CodeInvalid},
		{"what had expired and was approved by other facts", told(func(w *world) {
			expired(w)
			w.tamperFacts = timeless
			w.tally()
			w.publish()
		}), "facts", evidence.CodeInvalid},

		{"what had expired and was approved by a verdict that is dated back", told(func(w *world) {
			expired(w)
			w.now = w.request().ExpiresAt.Add(-2 * time.Hour)
			w.tamperFacts = timeless
			w.tally()
			w.publish()
		}), "facts", evidence.CodeInvalid},

		{"an approval by people who were erased and never gave it", told(func(w *world) {
			erasedStory(w)
			w.entries, w.decisions, w.facts.Decisions = w.entries[:4], w.decisions[:1], w.facts.Decisions[:1]
		}), "tally", evidence.CodeInvalid},
		{"an invented verdict", told(func(w *world) {
			w.tamperVerdict = func(v *approval.Verdict) { v.State, v.Sentence = approval.Approved, "approved by Bob and Carol" }
			rejection(w)
		}), "tally", evidence.CodeInvalid},
		{"an invented sentence", told(func(w *world) {
			w.tamperVerdict = func(v *approval.Verdict) { v.Sentence = "approved by everyone" }
		}), "tally", evidence.CodeInvalid},
		{"an invented explanation", told(func(w *world) {
			w.tamperVerdict = func(v *approval.Verdict) { v.Requirements[0].Quorum = 1 }
		}), "tally", evidence.CodeInvalid},

		{"an outcome's short salt", altered(func(b *evidence.Bundle) { b.OutcomeSalt = b.OutcomeSalt[:31] }), "verdict", evidence.CodeInvalid},
		{"a verdict that the chain does not have", told(func(w *world) {
			w.tamperLeaf = func(l *evidence.Leaf) {
				if body, ok := l.Body.(evidence.VerdictReached); ok {
					body.State = "PENDING"
					l.Body = body
				}
			}
		}), "verdict", evidence.CodeChain},
		{"facts that are not those of the chain", altered(func(b *evidence.Bundle) {
			b.Facts.Now = b.Facts.Now.Add(time.Second)
		}), "verdict", evidence.CodeChain},
		{"an earlier verdict", told(func(w *world) {
			w.open("old")
			w.decide("bob", evidence.Approve)
			facts, verdict := w.facts, w.verdict
			w.tally()
			w.facts, w.verdict = facts, verdict
		}), "verdict", evidence.CodeChain},
		{"a verdict that knew the future", told(func(w *world) {
			w.tamperStatement = func(s *evidence.Statement) { s.ExpiresAt = s.ExpiresAt.Add(50 * time.Minute) }
			w.open("old")
			w.decide("bob", evidence.Approve)
			made := w.entries[len(w.entries)-2]
			leaf, err := evidence.ParseLeaf(made)
			w.must(err)
			w.entries = w.entries[:len(w.entries)-2]
			w.tallied[0].Sequence++
			w.tally()
			w.append(leaf.Body)
		}), "verdict", evidence.CodeChain},
		{"a verdict that is not in the chain", told(func(w *world) {
			w.open("old")
			w.entries = w.entries[:1]
		}), "verdict", evidence.CodeChain},

		{"what had expired and was called approved for a while", told(func(w *world) {
			expired(w)
			w.append(evidence.VerdictReached{Request: "req-1", State: "APPROVED", Outcome: digestOf("nothing")})
			w.check(evidence.AnswerYes, evidence.CheckApproved)
			w.tally()
			w.publish()
		}), "verdict", evidence.CodeChain},
		{"a merge called approved before it was", told(func(w *world) {
			w.open("old")
			w.decide("bob", evidence.Approve)
			w.append(evidence.Merged{Request: w.request().ID, Kind: "approved", Commit: w.commit("landed")})
			w.decide("dave", evidence.Approve)
		}), "verdict", evidence.CodeChain},
		{"an approval of what had been merged before", told(func(w *world) {
			w.open("old")
			w.decide("bob", evidence.Approve)
			w.decide("dave", evidence.Approve)
			w.append(evidence.Merged{Request: w.request().ID, Kind: "approved", Commit: w.commit("landed")})
			w.decide("carol", evidence.Approve)
		}), "verdict", evidence.CodeChain},
		{"a merge called an override that was none", told(func(w *world) {
			w.open("old")
			w.decide("bob", evidence.Approve)
			w.append(evidence.Merged{Request: w.request().ID, Kind: "override", Commit: w.commit("landed")})
			w.decide("dave", evidence.Approve)
		}), "verdict", evidence.CodeChain},
		{"a merge called approved that was overridden", told(func(w *world) {
			broken(w)
			w.append(evidence.Merged{Request: w.request().ID, Kind: "approved", Commit: w.commit("landed")})
			w.publish()
		}), "verdict", evidence.CodeChain},
		{"a merge called approved by a request that is not open any more", told(func(w *world) {
			w.open("old")
			w.decide("bob", evidence.Approve)
			w.decide("dave", evidence.Approve)
			w.open("new")
			w.append(evidence.Merged{Request: "req-1", Kind: "approved", Commit: w.commit("landed")})
			w.decide("bob", evidence.Approve)
			w.decide("dave", evidence.Approve)
		}), "verdict", evidence.CodeChain},
		{"a merge called approved where nothing was asked for", told(func(w *world) {
			w.append(evidence.Merged{Kind: "approved", Commit: w.commit("landed")})
			w.story()
		}), "verdict", evidence.CodeChain},
		{"a merge called approved of what was rejected since", told(func(w *world) {
			w.open("old")
			w.decide("bob", evidence.Approve)
			w.decide("dave", evidence.Approve)
			w.decide("carol", evidence.Reject)
			rejected := len(w.entries) - 1
			w.entries, w.log = w.entries[:rejected], w.log[:len(w.log)-1] // its verdict
			w.append(evidence.Merged{Request: w.request().ID, Kind: "approved", Commit: w.commit("landed")})
			w.tally()
			w.publish()
		}), "verdict", evidence.CodeChain},
		{"a yes behind an invented approval", told(func(w *world) {
			w.open("old")
			w.decide("bob", evidence.Approve)
			w.append(evidence.VerdictReached{Request: "req-1", State: "APPROVED", Outcome: digestOf("nothing")})
			w.check(evidence.AnswerYes, evidence.CheckApproved)
			w.tally()
			w.publish()
		}), "verdict", evidence.CodeChain},
		{"a yes behind an invented override", told(func(w *world) {
			w.open("old")
			w.decide("bob", evidence.Approve)
			w.append(evidence.VerdictReached{Request: "req-1", State: "OVERRIDDEN", Outcome: digestOf("nothing")})
			w.check(evidence.AnswerYes, evidence.CheckOverridden)
			w.tally()
			w.publish()
		}), "verdict", evidence.CodeChain},
		{"a yes after a rejection and before its verdict", told(func(w *world) {
			w.open("old")
			w.decide("bob", evidence.Approve)
			w.decide("dave", evidence.Approve)
			w.tamperFacts = func(*approval.Facts) {
				w.tamperFacts = nil
				w.check(evidence.AnswerYes, evidence.CheckApproved)
			}
			w.decide("carol", evidence.Reject)
		}), "verdict", evidence.CodeChain},
		{"a yes after an approval was withdrawn and before its verdict", told(func(w *world) {
			w.open("old")
			w.decide("bob", evidence.Approve)
			w.decide("dave", evidence.Approve)
			w.tamperFacts = func(*approval.Facts) {
				w.tamperFacts = nil
				w.check(evidence.AnswerYes, evidence.CheckApproved)
			}
			w.decide("dave", evidence.Withdraw)
		}), "verdict", evidence.CodeChain},
		{"a successful status that nobody approved", told(func(w *world) {
			w.open("old")
			w.append(evidence.StatusPaid{Request: "req-1", State: "SUCCESSFUL"})
			w.publish()
		}), "verdict", evidence.CodeChain},

		{"another origin", pinned(func(_ *world, a *evidence.Anchors) {
			a.RelyingParties[0].Origin = "https://evil.example"
		}), "anchors", evidence.CodeOrigin},
		{"a key that is not pinned", pinned(func(w *world, a *evidence.Anchors) {
			a.Roster, a.Keys = "", w.pins()[1:2]
		}), "anchors", evidence.CodeKey},
		{"a pin that is no key", pinned(func(w *world, a *evidence.Anchors) {
			a.Keys = w.pins()
			a.Keys[1].PublicKey = []byte{0xa0}
		}), "anchors", evidence.CodeInvalid},
		{"a key pinned for somebody else in another encoding", pinned(func(w *world, a *evidence.Anchors) {
			a.Keys = w.pins()[:1]
			a.Keys[0].Person, a.Keys[0].PublicKey = "per-carol", otherEncoding(a.Keys[0].PublicKey)
		}), "anchors", evidence.CodeKey},
		{"a key pinned for two people", pinned(func(w *world, a *evidence.Anchors) {
			a.Keys = append(w.pins(), w.pins()[0])
			a.Keys[3].Person = "per-carol"
		}), "anchors", evidence.CodeKey},
		{"an account pinned for somebody else, of a key that only vouched", pinned(func(w *world, a *evidence.Anchors) {
			w.decisions[0].Approver, w.decisions[1].Approver, w.outcome = nil, nil, nil
			w.facts.Decisions[0].AccountID, w.facts.Decisions[0].Name = evidence.ErasedPrefix+"x", "Erased person"
			a.Keys = w.pins()[:1]
			a.Keys[0].AccountID = "acc-carol"
		}), "anchors", evidence.CodePerson},
		{"a key pinned for somebody else", pinned(func(w *world, a *evidence.Anchors) {
			a.Keys = w.pins()
			a.Keys[0].Person = "per-carol"
		}), "anchors", evidence.CodeKey},
		{"an account pinned for somebody else, whose enrolment was erased", pinned(func(w *world, a *evidence.Anchors) {
			credential := string(w.tokens["bob"].key.CredentialID)
			e := w.enrolled[credential]
			e.Owner = nil
			w.enrolled[credential] = e
			a.Keys = w.pins()
			a.Keys[0].AccountID = "acc-carol"
		}), "anchors", evidence.CodePerson},
		{"an account pinned for somebody else", pinned(func(w *world, a *evidence.Anchors) {
			a.Keys = w.pins()
			a.Keys[0].AccountID = "acc-carol"
		}), "anchors", evidence.CodePerson},
		{"another repository's policy", known(func(w *world, a *evidence.Anchors) {
			strict := a.Policies
			w.policy.Rules[0].Requirements = []approval.Requirement{{Name: "Approval", Quorum: 1, Approvers: approval.Approvers{Everyone: true}}}
			a.Policies = append(policiesOf(otherRepository, w.policy.Digest()), strict...)
			w.open("old")
			w.decide("bob", evidence.Approve)
		}), "anchors", evidence.CodeInvalid},
		{"another policy", pinned(func(_ *world, a *evidence.Anchors) { a.Policies = policiesOf(repositoryUUID, approval.DigestOf(nil)) }), "anchors", evidence.CodeInvalid},
	}
}

// exhausting is a bundle of which each decision could be by any of more RS256 keys than
// a verifier has to try. Without that bound the first decision would be refused already.
func exhausting(t testing.TB, decisions int) ([]byte, evidence.Anchors) {
	t.Helper()
	const size = 8192 / 8
	w := newWorld(t)
	for i := range 128 {
		name := fmt.Sprintf("p%03d", i)
		modulus := bytes.Repeat(seed(name), size/sha256.Size)
		modulus[0], modulus[size-1] = modulus[0]|0x80, modulus[size-1]|1
		w.tokens[name] = token{
			key: evidence.Key{
				Person: "per-" + name, CredentialID: seed("credential " + name)[:16],
				PublicKey: cose(t, map[int]any{1: 3, 3: -257, -1: modulus, -2: []byte{1, 0, 1}}),
			},
			sign: func([]byte) []byte { return make([]byte, size) },
		}
		w.enrol(name, nil, nil)
	}
	w.open("old")
	w.tamperAssertion = func(a *evidence.Assertion) { a.Signature = make([]byte, size) }
	for range decisions {
		w.decide("bob", evidence.Reject)
	}
	return w.encoded(), w.anchors()
}

func TestVerifyBoundsItsWork(t *testing.T) {
	t.Parallel()
	for decisions, want := range map[int]evidence.Code{128: evidence.CodeSignature, 129: evidence.CodeTooLarge} {
		data, anchors := exhausting(t, decisions)
		report := evidence.Verify(data, anchors)
		if last := report.Steps[len(report.Steps)-1]; last.Name != "assertions" || last.Code != want {
			t.Errorf("%d decisions: got %s with %s, want %s", decisions, report.Sentence(), last.Code, want)
		}
	}
}

func TestVerifyFindsForgeries(t *testing.T) {
	t.Parallel()
	for _, test := range allForgeries() {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			data, anchors := test.make(t)
			report := evidence.Verify(data, anchors)
			if report.ExitCode() != 1 || report.Verdict != nil {
				t.Fatalf("accepted: %s", report.Sentence())
			}
			last, _ := report.Failed()
			if last.Name != test.step || last.Code != test.code || last.Result != evidence.Failed {
				t.Errorf("found by step %s with %s (%s), want %s with %s", last.Name, last.Code, last.Detail, test.step, test.code)
			}
			if !strings.HasPrefix(report.Sentence(), "FAILED at step ") {
				t.Errorf("said %q", report.Sentence())
			}
		})
	}
}

func TestVerifyDecisionAfterVerdict(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.open("old")
	w.decide("bob", evidence.Approve)
	facts, verdict := w.facts, w.verdict
	w.decide("carol", evidence.Reject)
	w.entries = w.entries[:len(w.entries)-1] // the rejection was not tallied
	w.facts, w.verdict = facts, verdict
	report := evidence.Verify(w.encoded(), w.anchors())
	if last := report.Steps[len(report.Steps)-1]; report.ExitCode() != 1 || last.Name != "facts" {
		t.Errorf("got %s", report.Sentence())
	}
}

// TestVerifyNoticesEveryByte changes each byte of a bundle: one bit of each, and
// each bit of some. Only a cosignature beyond those that the witness policy needs may
// change unnoticed.
func TestVerifyNoticesEveryByte(t *testing.T) {
	t.Parallel()
	if racefree.Elsewhere(t) {
		return
	}
	w := newWorld(t)
	w.vouch("carol", w.tokens["bob"])
	w.open("old")
	w.decide("bob", evidence.Approve)
	w.decide("carol", evidence.Reject)
	w.revoke("carol", w.token("bob"), nil)
	b := w.bundle()
	b.Log.Checkpoint = w.checkpoint("witness.example/1", "witness.example/2", "witness.example/3")
	data, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	anchors := w.anchors()
	if report := evidence.Verify(data, anchors); report.ExitCode() != 0 || report.Witnesses != 3 {
		t.Fatal(report.Sentence())
	}
	from := bytes.Index(data, []byte("— witness.example/1"))
	to := from + bytes.IndexByte(data[from:], '"')
	if from < 0 || to < from {
		t.Fatal("the cosignatures are not in the bundle")
	}
	var unnoticed atomic.Int64
	const shards = 8
	t.Cleanup(func() {
		t.Logf("%d bytes, %d changes of cosignatures that are not needed", len(data), unnoticed.Load())
		if unnoticed.Load() == 0 {
			t.Error("a cosignature beyond the quorum cannot be changed")
		}
	})
	for shard := range shards {
		t.Run(fmt.Sprint(shard), func(t *testing.T) {
			t.Parallel()
			changed := bytes.Clone(data)
			for i := shard; i < len(data); i += shards {
				bits := []int{i / shards % 8}
				if i/shards%97 == 0 {
					bits = []int{0, 1, 2, 3, 4, 5, 6, 7}
				}
				for _, bit := range bits {
					changed[i] = data[i] ^ 1<<bit
					report := evidence.Verify(changed, anchors)
					switch last, _ := report.Failed(); {
					case report.ExitCode() == 1 && last.Result == evidence.Failed && last.Name != "":
					case report.ExitCode() == 0 && i >= from && i < to:
						unnoticed.Add(1)
					default:
						t.Errorf("bit %d of byte %d (%q in %q) can be changed", bit, i, data[i], data[max(0, i-30):min(len(data), i+30)])
					}
					changed[i] = data[i]
				}
			}
		})
	}
	for n := 0; n < len(data); n += 997 {
		if evidence.Verify(data[:n], anchors).ExitCode() != 1 {
			t.Fatalf("accepted when cut after %d bytes", n)
		}
	}
}

func TestParseAnchors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	want := w.anchors()
	data, err := json.MarshalIndent(struct {
		Format string `json:"format"`
		evidence.Anchors
	}{evidence.AnchorsFormat, want}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got, err := evidence.ParseAnchors(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, test := range []struct {
		name, doc string
		code      evidence.Code
	}{
		{"nothing", ``, evidence.CodeMalformed},
		{"no format", `{}`, evidence.CodeInvalid},
		{"an unknown field", `{"format":"signedapproval.anchors/v1","witness":[]}`, evidence.CodeMalformed},
		{"a duplicate key", `{"format":"signedapproval.anchors/v1","format":"signedapproval.anchors/v1"}`, evidence.CodeMalformed},
		{"policies of no repository", `{"format":"signedapproval.anchors/v1","policies":["` + string(approval.DigestOf(nil)) + `"]}`, evidence.CodeMalformed},
		{"a bad key", `{"format":"signedapproval.anchors/v1","keys":[{"person":"p","publicKey":"AA"}]}`, evidence.CodeInvalid},
	} {
		if _, err := evidence.ParseAnchors([]byte(test.doc)); evidence.CodeOf(err) != test.code {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// base64Text finds what is base64url in a bundle.
var base64Text = regexp.MustCompile(`"(?:statement|act|signature|userHandle|publicKey|credentialId)":"([A-Za-z0-9_-]+)"`)

// TestALineBreakIsInNoText: base64 has them in it, and JSON does not, so that each would make another form of one bundle.
func TestALineBreakIsInNoText(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.story()
	data, anchors := w.encoded(), w.anchors()
	found := base64Text.FindAllSubmatchIndex(data, -1)
	if len(found) < 10 {
		t.Fatalf("%d texts are base64", len(found))
	}
	for _, at := range found {
		for _, place := range []int{at[2], (at[2] + at[3]) / 2, at[3]} {
			for _, broken := range []string{"\n", "\r"} {
				if report := evidence.Verify(slices.Insert(bytes.Clone(data), place, []byte(broken)...), anchors); report.ExitCode() != 1 {
					t.Errorf("%q in %s: %s", broken, data[at[0]:at[0]+20], report.Sentence())
				}
			}
		}
	}
}
