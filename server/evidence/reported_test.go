package evidence_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// A key may be reported as stolen when the last verdict on what it decided was reached long ago: the pull request was
// merged, or its request ended. No leaf follows then, and the verifier judges by what the roster says today.

// landed ends a story with a merge.
func (w *world) landed(kind string) {
	w.append(evidence.Merged{Request: w.request().ID, Kind: kind, Commit: w.commit("landed")})
}

// stolenLater is a story in which people approve, something happens, and then the first one's key is reported as stolen since
// before.
func stolenLater(approvals string, then func(w *world)) func(w *world) {
	return func(w *world) {
		names := strings.Fields(approvals)
		w.open("old")
		at := w.tick()
		for _, name := range names {
			w.decide(name, evidence.Approve)
		}
		then(w)
		w.revoke(names[0], w.token(names[1]), &at)
	}
}

// revokedFirst is a story in which people approve, something happens, and the first one's key is revoked, undated: without a
// signature or, with stolen, by that very key. Only then do reports come, by the second one, or who is named, with so many
// minutes before the approvals.
func revokedFirst(approvals string, stolen bool, then func(w *world), reports ...lateReport) func(w *world) {
	return func(w *world) {
		names := strings.Fields(approvals)
		w.open("old")
		at := w.tick()
		for _, name := range names {
			w.decide(name, evidence.Approve)
		}
		then(w)
		w.second(names[0])
		var by *token
		if stolen {
			by = w.token(names[0])
		}
		w.revoke(names[0], by, nil)
		for _, r := range reports {
			since := at.Add(-time.Duration(r.before) * time.Minute)
			w.revoke(names[0], w.token(r.by), &since)
		}
	}
}

type lateReport struct {
	by     string
	before int // minutes
}

func merge(w *world) { w.landed("approved") }

func override(w *world) { w.landed("override") }

func supersede(w *world) {
	w.append(evidence.RequestClosed{Request: w.request().ID, Reason: "superseded"})
	w.publish()
}

// approvedAndOverridden is approved where an override would have been enough.
func approvedAndOverridden(w *world) {
	breakable(w)
	w.policy.Rules[0].Override.Quorum = 1
	w.open("old")
	at := w.tick()
	w.decide("carol", evidence.Override)
	w.decide("bob", evidence.Approve)
	w.decide("dave", evidence.Approve)
	w.landed("override")
	w.revoke("bob", w.token("dave"), &at)
}

// stolenOverride is an override of which one key is reported as stolen later.
func stolenOverride(w *world) {
	at := w.tick()
	broken(w)
	w.revoke("bob", w.token("carol"), &at)
}

// overriddenBesideAThief is an override beside a rejection that a key took back which was known to be stolen when the verdict was
// reached. The key that rejected is reported later, so that nothing stands in the way of the approval any more: by then, what
// overrode is all that the merge rests on. thieves are those whose keys are reported with it.
func overriddenBesideAThief(end func(w *world), thieves ...string) func(w *world) {
	return func(w *world) {
		breakable(w)
		w.policy.Rules[0].Override.Quorum = 1
		w.tokens["erin"] = es256(w.t, "erin")
		w.enrol("erin", nil, nil)
		w.second("erin")
		w.open("old")
		at := w.tick()
		w.decide("bob", evidence.Approve)
		w.decide("dave", evidence.Approve)
		w.decide("erin", evidence.Reject)
		w.signedBy = func(person string) token { return latest(w, person+"2", person) }
		w.decide("erin", evidence.Withdraw)
		w.revoke("erin2", w.token("bob"), &at)
		w.tamperFacts = func(f *approval.Facts) { f.Decisions[3].Compromised = true }
		w.decide("carol", evidence.Override)
		end(w)
		for _, name := range append(thieves, "erin") {
			w.revoke(name, w.token("dave"), &at)
		}
	}
}

// takenBackByAThief is a rejection that a stolen key took back.
func takenBackByAThief(w *world) {
	w.open("old")
	w.decide("bob", evidence.Approve)
	w.decide("dave", evidence.Approve)
	w.decide("carol", evidence.Reject)
	at := w.tick()
	w.decide("carol", evidence.Withdraw)
	w.landed("approved")
	w.revoke("carol", w.token("bob"), &at)
}

// stolenRejection is a rejection whose key is reported as stolen when the request has ended: what such a key says against
// a change stands.
func stolenRejection(w *world) {
	w.open("old")
	w.decide("bob", evidence.Approve)
	w.decide("dave", evidence.Approve)
	at := w.tick()
	w.decide("carol", evidence.Reject)
	supersede(w)
	w.revoke("carol", w.token("bob"), &at)
}

// knownLess is a second key of Carol's, which a rule of countersigned keys takes by the word of somebody, and not her first one, which
// signed for it.
func knownLess(w *world, vouches string) {
	w.second("carol")
	w.vouch("carol2", w.tokens[vouches])
	w.signedBy = func(person string) token { return latest(w, person+"2", person) }
}

// ghostly is a rejection by a key that the rule takes, which one that it does not take cannot take back, even where the first
// one is reported as stolen later.
func ghostly(w *world) {
	w.policy.Rules[0].Keys = &approval.KeyDemand{Countersigned: true}
	w.vouch("bob", w.tokens["dave"])
	knownLess(w, "dave")
	w.open("old")
	w.decide("bob", evidence.Approve)
	w.decide("dave", evidence.Approve)
	at := w.tick()
	w.decide("carol", evidence.Reject)
	w.signedBy = func(person string) token { return w.tokens[person] }
	w.tamperFacts = func(f *approval.Facts) { // the world asks for the identities of today
		for i := range f.Decisions {
			f.Decisions[i].Identity = map[bool]string{true: approval.Countersigned, false: string(evidence.ByLogIn)}[i < 3]
		}
	}
	w.decide("carol", evidence.Withdraw)
	supersede(w)
	w.revoke("carol2", w.token("bob"), &at)
}

// fallenRejection is a rejection by a key that the rule takes, which a ghost takes back, and whose countersigner's key is
// reported as stolen later: it is no easier to take back by that. rejection and
// withdrawal are what the tally was told of the two keys.
func fallenRejection(by, rejection, withdrawal string, end func(w *world)) func(w *world) {
	return func(w *world) {
		w.policy.Rules[0].Keys = &approval.KeyDemand{Countersigned: true}
		w.tokens["erin"] = es256(w.t, "erin")
		w.enrol("erin", nil, nil)
		w.vouch("bob", w.tokens["dave"])
		at := w.tick()
		knownLess(w, "erin")
		w.open("old")
		w.decide("bob", evidence.Approve)
		w.decide("dave", evidence.Approve)
		w.decide("carol", evidence.Reject)
		w.signedBy = func(person string) token { return latest(w, by, person) }
		w.tamperFacts = func(f *approval.Facts) { // the world asks for the identities of today
			for i := range f.Decisions {
				f.Decisions[i].Identity = []string{approval.Countersigned, approval.Countersigned, rejection, withdrawal}[i]
			}
		}
		w.decide("carol", evidence.Withdraw)
		end(w)
		w.revoke("erin", w.token("bob"), &at)
	}
}

// vouchedByAThief is approved with a key that a countersigner vouched for whose own key is reported as stolen later.
func vouchedByAThief(people string) func(w *world) {
	return func(w *world) {
		w.policy.Rules[0].Keys = &approval.KeyDemand{Countersigned: true}
		w.tokens["erin"] = es256(w.t, "erin")
		w.enrol("erin", nil, nil)
		w.vouch("bob", w.tokens["dave"])
		at := w.tick()
		w.vouch("carol", w.tokens["erin"])
		w.open("old")
		for _, name := range strings.Fields(people) {
			w.decide(name, evidence.Approve)
		}
		w.landed("approved")
		w.revoke("erin", w.token("bob"), &at)
	}
}

// knownByAThief is approved with a key that somebody vouched for whose own key is reported as stolen later; whoever pinned the
// roster of before knows it by that word only.
func knownByAThief(approvers string) func(w *world, a *evidence.Anchors) {
	return func(w *world, a *evidence.Anchors) {
		w.tokens["frank"] = es256(w.t, "frank")
		w.enrol("frank", nil, nil)
		a.Roster = w.newest()
		w.tamperFacts = func(f *approval.Facts) { f.Writers = append(f.Writers, people("erin")...) }
		w.tokens["erin"] = es256(w.t, "erin")
		w.enrol("erin", nil, nil)
		at := w.tick()
		w.vouch("erin", w.tokens["frank"])
		w.open("old")
		for _, name := range strings.Fields(approvers) {
			w.decide(name, evidence.Approve)
		}
		w.landed("approved")
		w.revoke("frank", w.token("bob"), &at)
	}
}

// enrolledByAThief has Bob decide with a key that a stolen one enrolled after the roster was pinned.
func enrolledByAThief(w *world, a *evidence.Anchors) {
	at := w.tick()
	w.second("bob")
	w.signedBy = func(person string) token { return latest(w, person+"2", person) }
	w.open("old")
	for _, name := range []string{"bob", "carol", "dave"} {
		w.decide(name, evidence.Approve)
	}
	w.landed("approved")
	w.revoke("bob", w.token("bob2"), &at)
}

// erasedLater has those who decided erased from the facts, and then the keys of some reported.
func erasedLater(thefts ...string) func(w *world) {
	return func(w *world) {
		at := w.tick()
		erasedStory(w)
		w.tokens["erin"] = es256(w.t, "erin")
		w.enrol("erin", nil, nil)
		for _, name := range thefts {
			w.revoke(name, w.token("erin"), &at)
		}
	}
}

// erasedBesideAThief is an override beside approvals, of which one key is reported when those who gave them were erased. Nobody knows
// any more that they were not asked.
func erasedBesideAThief(w *world) {
	at := w.tick()
	erasedOverrideBeside(w, "erin", "frank")
	w.revoke("frank", w.token("erin"), &at)
}

// report is a story, with what comes of it.
type report struct {
	name string
	make func(t *testing.T) ([]byte, evidence.Anchors)
	exit int
	// verdict is what stands today, before what the bundle says; empty where it says the same.
	verdict, before string
	step            string // that fails
}

func reports() []report {
	return []report{
		{"of three when it was merged", told(stolenLater("carol bob dave", merge)), 0, "APPROVED: approved by Bob and Dave", "APPROVED: approved by Carol, Bob and Dave", ""},
		{"of three when it was superseded", told(stolenLater("carol bob dave", supersede)), 0, "APPROVED: approved by Bob and Dave", "APPROVED: approved by Carol, Bob and Dave", ""},
		{"of three and nobody tallied again", told(stolenLater("carol bob dave", func(*world) {})), 0, "APPROVED: approved by Bob and Dave", "APPROVED: approved by Carol, Bob and Dave", ""},
		{"an approval beside an override", told(approvedAndOverridden), 0, "OVERRIDDEN: overridden by Carol; 1 of 2 approvals", "APPROVED: approved by Bob and Dave", ""},
		{"a rejection beside an override", told(overriddenBesideAThief(override)), 0, "OVERRIDDEN: overridden by Carol; rejected by Erin; 2 of 2 approvals", "", ""},
		{"a rejection", told(stolenRejection), 0, "REJECTED: rejected by Carol", "", ""},
		{"a rejection that a ghost took back", told(ghostly), 0, "REJECTED: rejected by Carol", "", ""},
		{"the countersigner of a rejection that a ghost took back", told(fallenRejection("carol", approval.Countersigned, string(evidence.ByLogIn), supersede)), 0, "REJECTED: rejected by Carol", "", ""},
		{"a countersigner of one of three", told(vouchedByAThief("bob carol dave")), 0, "APPROVED: approved by Bob and Dave", "APPROVED: approved by Bob, Carol and Dave", ""},
		{"a countersigner of one of three unknown otherwise", known(knownByAThief("bob erin dave")), 0, "APPROVED: approved by Bob and Dave", "APPROVED: approved by Bob, Erin and Dave", ""},
		{"the enroller of one of three unknown otherwise", known(enrolledByAThief), 0, "APPROVED: approved by Carol and Dave", "APPROVED: approved by Bob, Carol and Dave", ""},
		{"of three and the thief revoked it first", told(revokedFirst("carol bob dave", true, merge, lateReport{"carol2", 0})), 0, "APPROVED: approved by Bob and Dave", "APPROVED: approved by Carol, Bob and Dave", ""},
		{"of three and the operator revoked it first", told(revokedFirst("carol bob dave", false, merge, lateReport{"dave", 0})), 0, "APPROVED: approved by Bob and Dave", "APPROVED: approved by Carol, Bob and Dave", ""},
		{"of three and more than once", told(revokedFirst("carol bob dave", false, merge, lateReport{"dave", -60}, lateReport{"carol2", 0}, lateReport{"bob", 1})), 0, "APPROVED: approved by Bob and Dave", "APPROVED: approved by Carol, Bob and Dave", ""},
		{"erased of three", told(erasedLater("carol")), 2, "APPROVED: approved by Erased person and Erased person", "", ""},
		{"erased beside an override", told(erasedBesideAThief), 2, "OVERRIDDEN: overridden by Erased person; 1 of 2 approvals", "", ""},

		{"of two when it was merged", told(stolenLater("carol bob", merge)), 1, "", "", "tally"},
		{"of two when it was superseded", told(stolenLater("carol bob", supersede)), 1, "", "", "tally"},
		{"of two and the thief revoked it first", told(revokedFirst("carol bob", true, merge, lateReport{"carol2", 0})), 1, "", "", "tally"},
		{"of two and the operator revoked it first", told(revokedFirst("carol bob", false, merge, lateReport{"carol2", 0})), 1, "", "", "tally"},
		{"of two by a report that came after another one", told(revokedFirst("carol bob", false, merge, lateReport{"bob", -60}, lateReport{"carol2", 0})), 1, "", "", "tally"},
		{"of two overrides", told(stolenOverride), 1, "", "", "tally"},
		{"a rejection beside an override and who overrode", told(overriddenBesideAThief(override, "carol")), 1, "", "", "tally"},
		{"a withdrawal of a rejection", told(takenBackByAThief), 1, "", "", "tally"},
		{"the countersigner of a rejection that the same key took back", told(fallenRejection("carol2", approval.Countersigned, approval.Countersigned, merge)), 1, "", "", "tally"},
		{"a countersigner of one of two", told(vouchedByAThief("bob carol")), 1, "", "", "tally"},
		{"a countersigner of one of two unknown otherwise", known(knownByAThief("bob erin")), 1, "", "", "anchors"},
		{"erased of two", told(erasedLater("bob", "carol")), 1, "", "", "tally"},
	}
}

func TestWhatIsReportedWhenAllIsOver(t *testing.T) {
	t.Parallel()
	for _, r := range reports() {
		data, anchors := r.make(t)
		report := evidence.Verify(data, anchors)
		failed, _ := report.Failed()
		if report.ExitCode() != r.exit || failed.Name != r.step || report.Stolen() != (r.step != "") {
			t.Errorf("%s: exit %d, %s", r.name, report.ExitCode(), report.Sentence())
			continue
		}
		if r.exit == 1 {
			continue
		}
		said := map[string]string{}
		for _, f := range report.Facts {
			if f.Name == "compromised" && f.Label != evidence.Signed {
				t.Errorf("%s: %+v", r.name, f)
			}
			said[f.Name] = f.Value
		}
		if got := fmt.Sprintf("%s: %s", report.Verdict.State, report.Verdict.Sentence); got != r.verdict || said["verdict"] != got || said["verdict of before the report"] != r.before || said["compromised"] == "" {
			t.Errorf("%s: %s, %q", r.name, got, said)
		}
		for _, q := range report.Verdict.Requirements {
			if r.before != "" && slices.ContainsFunc(q.Counted, func(p approval.Person) bool { return strings.Contains(said["compromised"], p.ID+":") }) {
				t.Errorf("%s: counted %+v", r.name, q.Counted)
			}
		}
	}
}

// lateForgeries are the reports after which too few people are left.
func lateForgeries() (list []forged) {
	for _, r := range reports() {
		if r.exit == 1 {
			list = append(list, forged{"stolen " + r.name, r.make, r.step, evidence.CodeStolen})
		}
	}
	// What else is wrong is worse.
	for name, make := range map[string]func(t *testing.T) ([]byte, evidence.Anchors){
		"in the tally": told(stolenLater("carol bob", merge)), "by the anchors": known(knownByAThief("bob erin")),
	} {
		policy := func(t *testing.T) ([]byte, evidence.Anchors) {
			t.Helper()
			data, anchors := make(t)
			anchors.Policies = policiesOf(repositoryUUID, digestOf("another"))
			return data, anchors
		}
		list = append(list, forged{"stolen " + name + ", and another policy than the one that is expected", policy, "anchors", evidence.CodeInvalid})
	}
	list = append(list, forged{"stolen in the tally, and a log that is not the one", func(t *testing.T) ([]byte, evidence.Anchors) {
		t.Helper()
		data, anchors := told(stolenLater("carol bob", merge))(t)
		anchors.Log.Origin = "another.example/log"
		return data, anchors
	}, "log", evidence.CodeLog})
	for name, reports := range map[string][]lateReport{
		"by the key itself": {{"carol", 0}}, "of the same time again": {{"carol2", 0}, {"bob", 0}}, "of a later time": {{"carol2", 0}, {"bob", -1}},
	} {
		list = append(list, forged{"reported when it was revoked " + name, told(revokedFirst("carol bob", false, merge, reports...)), "roster", evidence.CodeRoster})
	}
	list = append(list, forged{"reported when it was revoked without a time", told(func(w *world) {
		w.story()
		w.revoke("carol", nil, nil)
		w.revoke("carol", w.token("bob"), nil)
	}), "roster", evidence.CodeRoster})
	took := "stolen the countersigner of a rejection that a ghost took back by then "
	ghost := string(evidence.ByLogIn)
	return append(list,
		forged{took + "and it was known by a login", told(fallenRejection("carol", ghost, ghost, merge)), "facts", evidence.CodeInvalid},
		forged{took + "and it was disowned", told(fallenRejection("carol", approval.Disowned, ghost, merge)), "verdict", evidence.CodeChain},
	)
}
