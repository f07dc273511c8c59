// Package fault is the failure matrix: every step of the product that leaves the process or commits, each with every
// mishap that can meet it, and the state in which it must end.
//
// A test of a row plays one whole story for each cell ([Run]), with a [Wire] between the process and what it talks to. Each cell
// proves that its fault struck: the same story without it is played too, and must fail every cell of the row.
package fault

import (
	"cmp"
	"fmt"
	"testing"
)

// Mishap is what becomes of a step.
type Mishap string

const (
	// Failed is refused: nothing happened.
	Failed Mishap = "failed"
	// Happened fails for the caller alone: it was carried out, and the answer got lost.
	Happened Mishap = "failed but happened"
	// DiedBefore is the end of the process before it began the step: kill -9.
	DiedBefore Mishap = "process died before"
	// DiedAfter is the end of the process after the step was carried out, before it saw the answer.
	DiedAfter Mishap = "process died after"
	// Slow takes longer than the caller waits, or than its lease, so that somebody else tries meanwhile; then it happens.
	Slow Mishap = "slow"
	// Twice is carried out, or answered, two times.
	Twice Mishap = "answered twice"
)

// Mishaps are all of them, in the order of the table.
var Mishaps = []Mishap{Failed, Happened, DiedBefore, DiedAfter, Slow, Twice}

// Step names a row.
type Step string

// The steps.
const (
	FetchPullRequest Step = "facts fetch: the pull request"
	FetchHead        Step = "facts fetch: the head"
	FetchPeople      Step = "facts fetch: the people"
	FetchChecks      Step = "facts fetch: Bitbucket's own checks, before a merge"
	CommitRequest    Step = "transaction commit: the evaluation that asks for approval"
	CommitVerdict    Step = "transaction commit: the evaluation that finds it approved"
	CommitDecision   Step = "transaction commit: a decision"
	CommitOverride   Step = "transaction commit: an override"
	CommitOverridden Step = "transaction commit: the evaluation that finds it overridden"
	CommitPaid       Step = "transaction commit: the status was paid"
	CommitCalling    Step = "transaction commit: the merge is about to be called"
	Ring             Step = "ring"
	PutInProgress    Step = "status put: INPROGRESS"
	PutSuccessful    Step = "status put: SUCCESSFUL"
	Merge            Step = "merge"
	TokenRefresh     Step = "token refresh"
	HookRegistration Step = "webhook registration"
	LogAppend        Step = "log append"
	Checkpoint       Step = "checkpoint publish"
	Notification     Step = "notification"
	SeatIntake       Step = "seat: the intake of a webhook claims the evaluation"
	SeatCommit       Step = "seat: the commit of a decision claims the evaluation"
	SeatBegun        Step = "seat: what was claimed, the write of SUCCESSFUL, is begun"
	SeatGivenBack    Step = "seat: what was begun, the write of SUCCESSFUL, failed and is given back"
)

// Row is a step with the test that plays it and how each of its cells must end.
type Row struct {
	Step Step
	// Package and Test name the test.
	Package, Test string
	// End is the state at the end, whatever the mishap; Ends is where it is another.
	End  string
	Ends map[Mishap]string
	// Impossible gives the reason of a cell that cannot be.
	Impossible map[Mishap]string
}

// At is how a cell ends.
func (r Row) At(m Mishap) string { return cmp.Or(r.Ends[m], r.End) }

// The states at the end.
const (
	whole = "approved head merged once; status SUCCESSFUL; one leaf per cause"
	job   = "job done; effect once"
	seats = whole + "; every seat is free"

	overridden = "open; overridden by Carol; status SUCCESSFUL; one leaf per cause; the administrator told once"
)

// Rows is the matrix.
var Rows = []Row{
	{Step: FetchPullRequest, Package: "server/gate", Test: "TestFaultsOfFacts", End: whole},
	{Step: FetchHead, Package: "server/gate", Test: "TestFaultsOfFacts", End: whole},
	{Step: FetchPeople, Package: "server/gate", Test: "TestFaultsOfFacts", End: whole},
	{Step: FetchChecks, Package: "server/gate", Test: "TestFaultsOfFacts", End: whole},
	{Step: CommitRequest, Package: "server/gate", Test: "TestFaultsOfCommits", End: whole},
	{Step: CommitVerdict, Package: "server/gate", Test: "TestFaultsOfCommits", End: whole},
	{Step: CommitDecision, Package: "server/gate", Test: "TestFaultsOfCommits", End: whole},
	{Step: CommitOverride, Package: "server/gate", Test: "TestFaultsOfAnOverride", End: overridden},
	{Step: CommitOverridden, Package: "server/gate", Test: "TestFaultsOfAnOverride", End: overridden},
	{Step: CommitPaid, Package: "server/gate", Test: "TestFaultsOfCommits", End: whole},
	{Step: CommitCalling, Package: "server/gate", Test: "TestFaultsOfCommits", End: whole},
	{Step: Ring, Package: "server/jobs", Test: "TestFaultsOfARing", End: job},
	{
		Step: PutInProgress, Package: "server/gate", Test: "TestFaultsOfWrites", End: whole,
		Ends: map[Mishap]string{Slow: whole + ", and one for the status that was written again"}, // it lands on the green one
	},
	{Step: PutSuccessful, Package: "server/gate", Test: "TestFaultsOfWrites", End: whole},
	{Step: Merge, Package: "server/gate", Test: "TestFaultsOfWrites", End: whole},
	{Step: TokenRefresh, Package: "server/workspace", Test: "TestFaultsOfARefresh", End: "connection ACTIVE; the stored pair refreshes again"},
	{Step: HookRegistration, Package: "server/workspace", Test: "TestFaultsOfAWebhook", End: "repository ACTIVE; one webhook, with our secret; no alarm"},
	{Step: LogAppend, Package: "server/gate", Test: "TestFaultsOfTheLog", End: whole},
	{Step: Checkpoint, Package: "server/gate", Test: "TestFaultsOfTheLog", End: whole + "; sink and record agree"},
	{Step: SeatIntake, Package: "server/gate", Test: "TestFaultsOfSeats", End: seats},
	{Step: SeatCommit, Package: "server/gate", Test: "TestFaultsOfSeats", End: seats},
	{Step: SeatBegun, Package: "server/gate", Test: "TestFaultsOfSeats", End: seats},
	{Step: SeatGivenBack, Package: "server/gate", Test: "TestFaultsOfSeats", End: seats},
	{
		Step: Notification, Package: "server/gate", Test: "TestFaultsOfALetter", End: whole + "; one letter",
		Ends: map[Mishap]string{
			Happened: whole + "; two letters", DiedAfter: whole + "; two letters", Slow: whole + "; two letters",
		},
	},
}

// Outcome is how a story ended.
type Outcome struct {
	// Fired is how often the fault struck.
	Fired int
	// End says in what state it ended.
	End string
}

// Judge says why an outcome is not that of a cell.
func (r Row) Judge(m Mishap, o Outcome) error {
	switch {
	case o.Fired != 1:
		return fmt.Errorf("the fault struck %d times, want once", o.Fired)
	case o.End != r.At(m):
		return fmt.Errorf("it ends with\n  %q, want\n  %q", o.End, r.At(m))
	}
	return nil
}

// Run plays every cell of a step, each as a subtest by the name of its mishap, and then the story without a fault, which must end as well and fail
// every cell. play tells the outcome of one story; with armed false it puts no fault in its way.
func Run(t *testing.T, step Step, play func(t *testing.T, m Mishap, armed bool) Outcome) {
	t.Helper()
	row, ok := row(step)
	if !ok {
		t.Fatalf("%q is no row of the matrix", step)
	}
	for _, m := range Mishaps {
		if row.Impossible[m] != "" {
			continue
		}
		t.Run(string(m), func(t *testing.T) {
			if err := row.Judge(m, play(t, m, true)); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("without its fault", func(t *testing.T) {
		outcome := play(t, Failed, false)
		if outcome.End != row.End {
			t.Errorf("it ends with\n  %q, want\n  %q", outcome.End, row.End)
		}
		for _, m := range Mishaps {
			if row.Judge(m, outcome) == nil {
				t.Errorf("%s: the cell passes without its fault", m)
			}
		}
	})
}

func row(step Step) (Row, bool) {
	for _, r := range Rows {
		if r.Step == step {
			return r, true
		}
	}
	return Row{}, false
}
