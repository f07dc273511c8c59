package evidence

import (
	"errors"
	"fmt"
	"strings"

	"github.com/signedapproval/bitbucket/server/approval"
)

// Result is how a step of a verification ended.
type Result string

// The results of a step.
const (
	OK               Result = "ok"
	Failed           Result = "failed"
	OperatorAsserted Result = "operator-asserted"
)

// Step is one numbered step of a verification.
type Step struct {
	// Number counts the steps from 1; it and Name are stable.
	Number int    `json:"number"`
	Name   string `json:"name"`
	Result Result `json:"result"`
	// Code is the refusal's code when the step failed.
	Code Code `json:"code,omitempty"`
	// Detail says in a sentence what was found.
	Detail string `json:"detail"`
	// Files are the files that a step with a repository names; their names may
	// hold any character.
	Files []string `json:"files,omitempty"`
}

// Label says on what a fact rests.
type Label string

// The labels of facts.
const (
	// Signed: an approver's authenticator signed it.
	Signed Label = "signed"
	// Recomputed: the verifier worked it out itself.
	Recomputed Label = "recomputed"
	// Asserted: only the operator says so.
	Asserted Label = "operator-asserted"
)

// Fact is something that the bundle says, and on what it rests.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Label Label  `json:"label"`
}

// Report is the outcome of a verification.
type Report struct {
	// Steps are those that were taken; the last one may have failed, and one before it may
	// have found a stolen key.
	Steps []Step `json:"steps"`
	// Facts are what a consistent bundle says.
	Facts []Fact `json:"facts"`
	// Missing is what would be needed to do without the operator's word: anchors that
	// were not given, openings that were erased, parts of a repository.
	Missing []string `json:"missing"`
	// Witnesses is how many independent witnesses, by the anchors, have cosigned the
	// checkpoint; 0 where the anchors ask for none.
	Witnesses int `json:"witnesses"`
	// Verdict is the verdict that the verifier reached itself; nil when a step failed.
	Verdict *approval.Verdict `json:"verdict,omitempty"`
	// Violation says that the chain calls the merge one: whatever the verdict, it does not
	// speak for what landed.
	Violation bool `json:"violation,omitempty"`
	// Closed is how the request ended where nothing of it was merged: superseded or cancelled, and
	// the verdict with it. The operator says so; empty for every other request.
	Closed string `json:"closed,omitempty"`
	// Landing is how what landed relates to what was signed; nil without a
	// repository or a merge.
	Landing *Landing `json:"landing,omitempty"`
	// Recorded is what a receipt proves; nil for a bundle, and when a step failed.
	Recorded *Recorded `json:"-"`

	change Change // what the verdict is about
}

// ExitCode returns 0 when the bundle or receipt is proved by anchors alone, 2 when it is
// consistent but rests on the operator's word, and 1 when a step failed.
func (r Report) ExitCode() int {
	switch {
	case r.failed() != nil || r.Verdict == nil && r.Recorded == nil:
		return 1
	case len(r.Missing) > 0:
		return 2
	}
	return 0
}

// Sentence sums the report up in one line.
func (r Report) Sentence() string {
	if step := r.failed(); step != nil {
		sentence := fmt.Sprintf("FAILED at step %d (%s): %s", step.Number, step.Name, step.Detail)
		if step.Code == CodeStolen {
			sentence += "; no other step fails"
		}
		return sentence
	}
	var outcome string
	switch {
	case r.Verdict != nil:
		outcome = fmt.Sprintf("%s: %s", r.Verdict.State, r.Verdict.Sentence)
	case r.Recorded != nil:
		outcome = fmt.Sprintf("RECORDED: the decision over the statement %s is leaf %d of the log", r.Recorded.Decision.Statement, r.Recorded.Index)
	default:
		return "FAILED: nothing was verified"
	}
	var remarks []string
	if r.Violation {
		remarks = append(remarks, "merged as a VIOLATION")
	}
	if r.Closed != "" {
		remarks = append(remarks, strings.ToUpper(r.Closed)+", not merged")
	}
	if r.Witnesses == 0 {
		remarks = append(remarks, "UNWITNESSED")
	}
	if len(r.Missing) > 0 {
		remarks = append(remarks, "consistent, operator-asserted: "+strings.Join(r.Missing, ", "))
	}
	if len(remarks) > 0 {
		outcome += " (" + strings.Join(remarks, "; ") + ")"
	}
	return outcome
}

// Stolen reports whether what the bundle proves was so, and is not any more: it rests on a key that was
// reported as having been in other hands. Nothing else is wrong with it.
func (r Report) Stolen() bool {
	step := r.failed()
	return step != nil && step.Code == CodeStolen
}

// failed returns the step that failed: one that did not find a stolen key, where there are both.
func (r Report) failed() (step *Step) {
	for i := range r.Steps {
		if s := &r.Steps[i]; s.Result == Failed && (step == nil || step.Code == CodeStolen && s.Code != CodeStolen) {
			step = s
		}
	}
	return step
}

// Failed returns the step that failed, or false.
func (r Report) Failed() (Step, bool) {
	if step := r.failed(); step != nil {
		return *step, true
	}
	return Step{}, false
}

// settle is a step that ended with err.
func settle(number int, name, detail string, err error) Step {
	taken := Step{Number: number, Name: name, Result: OK, Detail: detail}
	var assertion operatorAsserted
	switch {
	case errors.As(err, &assertion):
		taken.Result, taken.Detail = OperatorAsserted, assertion.Error()
	case err != nil:
		taken.Result, taken.Code, taken.Detail = Failed, CodeOf(err), err.Error()
	}
	return taken
}

// operatorAsserted is what a step returns that found nothing wrong and yet
// needs the operator's word.
type operatorAsserted string

func (a operatorAsserted) Error() string { return string(a) }
