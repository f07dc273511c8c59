package attack_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// attack is something that the operator would like to do.
type attack struct {
	// wants says in a sentence what the operator wants.
	wants string
	// caught is by whom and how it is caught, in the order in which the test looks. What verifies has "exit 0" or "exit 2".
	caught []string
	// admits is a phrase of the row of FORMAT.md that says so, where a bundle alone shows nothing. With exit 2 the report says
	// itself what was missing.
	admits string
	// try plays the attack for real, and gives who caught it.
	try func(t *testing.T) []string
}

// attacks are all of them.
func attacks() (list []attack) {
	for _, part := range [][]attack{onDecisions(), onHistories(), onKeys(), onModels(), onDocuments(), onLogs(), onLandings(), onServers(), onRules(), onForge(), onDeployments(), onAudits()} {
		list = append(list, part...)
	}
	return list
}

// TestTheOperatorForges plays every attack. Each has an honest control: the same story untouched verifies with the same
// anchors, or passes the same watcher.
func TestTheOperatorForges(t *testing.T) {
	t.Parallel()
	for _, a := range attacks() {
		t.Run(a.wants, func(t *testing.T) {
			t.Parallel()
			if got := a.try(t); !slices.Equal(got, a.caught) {
				t.Errorf("the operator wants to %s\n caught by %q\n     want %q", a.wants, got, a.caught)
			}
		})
	}
}

// TestTheTableIsWhatIsTested compares ATTACKS.md with what the tests assert, and prints it.
func TestTheTableIsWhatIsTested(t *testing.T) {
	t.Parallel()
	rows := []string{"| the operator wants to | caught by |", "|---|---|"}
	seen := map[string]bool{}
	for _, a := range attacks() {
		if seen[a.wants] || len(a.caught) == 0 {
			t.Errorf("%q is there twice, or nothing is said of it", a.wants)
		}
		seen[a.wants] = true
		rows = append(rows, fmt.Sprintf("| %s | %s |", a.wants, strings.Join(a.caught, "; ")))
	}
	table := strings.Join(rows, "\n")
	t.Log("\n" + table)
	raw, err := os.ReadFile("ATTACKS.md")
	must(t, err)
	if _, written, _ := strings.Cut(string(raw), rows[0]); strings.TrimSpace(rows[0]+written) != table {
		t.Errorf("ATTACKS.md ends with another table than the one above")
	}
}

// TestWhatNothingCatchesIsSaid finds for each forgery that verifies the row of FORMAT.md which says so.
func TestWhatNothingCatchesIsSaid(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../server/evidence/FORMAT.md")
	must(t, err)
	var threats []string
	for _, line := range strings.Split(string(raw), "\n") {
		if strings.HasPrefix(line, "|") {
			threats = append(threats, strings.ToLower(line))
		}
	}
	weak := regexp.MustCompile(`not detected|disclosed|detectable|detected with`)
	for _, a := range attacks() {
		verifies := slices.ContainsFunc(a.caught, func(c string) bool { return strings.HasPrefix(c, "exit 0") })
		if verifies && a.admits == "" {
			t.Errorf("%s: it verifies, and no row of FORMAT.md is to say so", a.wants)
		}
		if a.admits != "" && !slices.ContainsFunc(threats, func(row string) bool {
			return strings.Contains(row, strings.ToLower(a.admits)) && weak.MatchString(row)
		}) {
			t.Errorf("%s: no row of FORMAT.md with %q says that it is not detected, detectable or only disclosed", a.wants, a.admits)
		}
	}
}

// outcome says how a verification ended: the step that failed with its code, or the exit code and what was missing.
func outcome(r evidence.Report) string {
	for _, s := range r.Steps {
		if s.Result == evidence.Failed {
			return fmt.Sprintf("step %d %s: %s", s.Number, s.Name, s.Code)
		}
	}
	if code := r.ExitCode(); code != 0 {
		return fmt.Sprintf("exit %d: no %s", code, strings.Join(r.Missing, ", "))
	}
	if r.Witnesses == 0 {
		return "exit 0, UNWITNESSED"
	}
	return "exit 0"
}

func verify(bundle []byte, anchors evidence.Anchors) string {
	return outcome(evidence.Verify(bundle, anchors))
}

// unwitnessed are the anchors of somebody whom no witness need have told anything.
func unwitnessed(a evidence.Anchors) evidence.Anchors {
	a.Witnesses = &evidence.WitnessPolicy{Keys: a.Witnesses.Keys}
	return a
}

// unpinned are the anchors of somebody who knows nobody's keys.
func unpinned(a evidence.Anchors) evidence.Anchors {
	a.Roster = ""
	return a
}

// cast is the people of a story, and the operator before whom it happened, honestly so far.
type cast struct {
	*operator
	t                         *testing.T
	bob, carol, dave, mallory *person // mallory is in nobody's roster
	pinned                    evidence.Anchors
}

// stage lets a workspace begin: bob, carol and dave have keys, and an auditor has pinned them.
func stage(t *testing.T) *cast {
	t.Helper()
	c := &cast{
		operator: newOperator(t), t: t,
		bob: newPerson(t, "bob", ""), carol: newPerson(t, "carol", ""), dave: newPerson(t, "dave", ""), mallory: newPerson(t, "mallory", ""),
	}
	c.policyLeaf()
	for _, p := range []*person{c.bob, c.carol, c.dave} {
		c.enrol(p)
	}
	c.pinned = c.anchors()
	return c
}

// played is the stage after the ordinary story, whose evidence verifies: the control of what is forged from it.
func played(t *testing.T) *cast {
	t.Helper()
	c := stage(t)
	c.story(c.bob, c.carol, c.dave)
	c.control(c.operator)
	return c
}

// control fails unless evidence that nobody touched verifies with everything pinned.
func (c *cast) control(o *operator) {
	c.t.Helper()
	if got := verify(o.bundle(), c.pinned); got != "exit 0" {
		c.t.Fatalf("the control: %s", got)
	}
}

// decisions hands the decisions of the operator's rows to edit.
func (o *operator) decisions(edit func(n int, d *evidence.SignedDecision)) {
	n := 0
	for i := range o.events {
		if d := o.events[i].decision; d != nil {
			edit(n, d)
			n++
		}
	}
}

// rewrite changes every statement, makes it fit the rows before it again, and changes the challenge in the browser's part
// too: everything but the signature.
func (o *operator) rewrite(edit func(s *evidence.Statement)) {
	o.t.Helper()
	o.decisions(func(_ int, d *evidence.SignedDecision) {
		s, err := evidence.ParseStatement(d.Statement)
		must(o.t, err)
		edit(&s)
		r := o.make()
		root, err := tlog.TreeHash(s.LogHead.Size, newTree(o.t, r.entries))
		must(o.t, err)
		s.LogHead = &evidence.LogHead{Size: s.LogHead.Size, Root: evidence.Digest(fmt.Sprintf("%x", root[:]))}
		s.ChainHead.Leaf, s.Roster = evidence.LeafDigest(r.entries[r.chain[s.ChainHead.Sequence-1]]), r.head()
		if s.Purpose == evidence.Withdraw {
			s.Withdraws = o.withdrawn(s.Approver.Person, d.ID)
		}
		s.Meaning = evidence.Meaning(s)
		d.Statement, err = s.Canonical()
		must(o.t, err)
		d.Assertion.ClientDataJSON = clientData(d.Statement)
	})
}

// withdrawn is the last statement of a person before a decision.
func (o *operator) withdrawn(person, before string) (statement evidence.Digest) {
	o.t.Helper()
	for _, d := range o.make().decisions {
		if d.ID == before {
			break
		}
		if s, err := evidence.ParseStatement(d.Statement); err == nil && s.Approver.Person == person {
			statement = approval.DigestOf(d.Statement)
		}
	}
	return statement
}

// requests changes every request.
func (o *operator) requests(edit func(r *evidence.Request)) {
	for _, e := range o.events {
		if e.request != nil {
			edit(e.request)
		}
	}
}

// drop deletes the events that a condition holds of.
func (o *operator) drop(which func(e event) bool) {
	o.events = slices.DeleteFunc(o.events, which)
}

func purposeOf(t testing.TB, e event) evidence.Purpose {
	t.Helper()
	if e.decision == nil {
		return ""
	}
	s, err := evidence.ParseStatement(e.decision.Statement)
	must(t, err)
	return s.Purpose
}
