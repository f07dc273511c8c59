package bitbucketsim

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Triggers of a merge check. The first two run it before a merge, the last one as part of it.
const (
	onCodePushed     = "on-code-pushed"
	onReviewerStatus = "on-reviewer-status-changed"
	onMerge          = "on-merge"
)

var checkTriggers = []string{onCodePushed, onReviewerStatus, onMerge}

// checksOn lists the custom checks that apply to a pull request.
func (s *Sim) checksOn(pr *pullRequest) []*forgeCheck {
	w := pr.repository.workspace
	if !w.customChecks {
		return nil
	}
	var out []*forgeCheck
	for _, c := range w.checks {
		if s.checkModule(c) != nil && (c.repository == nil || c.repository == pr.repository) &&
			(c.pattern == "" || globMatches(c.pattern, pr.destBranch)) {
			out = append(out, c)
		}
	}
	return out
}

// checkModule is the module behind a check; nil where the installed version has it no more.
func (s *Sim) checkModule(c *forgeCheck) *forgeModule {
	if inst := s.forgeInstallation(c.app, c.workspace); inst != nil {
		return inst.version.manifest.module(moduleMergeCheck, c.module)
	}
	return nil
}

// runs tells whether a check is run by a trigger.
func (m *forgeModule) runs(triggers ...string) bool {
	return slices.ContainsFunc(triggers, func(t string) bool { return slices.Contains(m.Triggers, t) })
}

// preMerge tells whether the result that it stored before a merge counts.
func (m *forgeModule) preMerge() bool { return m.runs(onCodePushed, onReviewerStatus) }

// blocks tells whether a failure of the check blocks the merge.
func (c *forgeCheck) blocks() bool { return c.required && c.workspace.premium }

// checkSlot is where a result is kept: a check has one of before the merge and one of the last attempt to merge.
type checkSlot struct {
	check int
	merge bool
}

// Results of a merge check.
const (
	checkRunning = "running"
	checkPassed  = "passed"
	checkFailed  = "failed"
)

type checkResult struct {
	state, message, trigger, head string
	run                           int
	at                            time.Time
}

// runChecks runs the checks before the merge that have the trigger, in the background.
func (s *Sim) runChecks(pr *pullRequest, trigger string) {
	if pr.state != stateOpen {
		return
	}
	for _, c := range s.checksOn(pr) {
		if s.checkModule(c).runs(trigger) {
			s.runCheck(pr, c, trigger)
		}
	}
}

// runCheck runs one check before the merge. A later run takes the place of an earlier one.
func (s *Sim) runCheck(pr *pullRequest, c *forgeCheck, trigger string) {
	if s.ctx.Err() != nil {
		return
	}
	slot := checkSlot{check: c.id}
	run := s.startCheck(pr, slot, trigger)
	ask := s.prepareCheck(pr, c, trigger, nil)
	s.work.Go(func() {
		result := ask()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.endCheck(pr, slot, run, result)
	})
}

func (s *Sim) startCheck(pr *pullRequest, slot checkSlot, trigger string) (run int) {
	if pr.checks == nil {
		pr.checks = map[checkSlot]*checkResult{}
	}
	run = s.id()
	pr.checks[slot] = &checkResult{state: checkRunning, trigger: trigger, head: pr.head, run: run, at: s.now()}
	return run
}

func (s *Sim) endCheck(pr *pullRequest, slot checkSlot, run int, answer checkAnswer) {
	r := pr.checks[slot]
	if r == nil || r.run != run {
		return
	}
	r.state, r.message, r.at = checkFailed, answer.message, s.now()
	if answer.success {
		r.state = checkPassed
	}
	s.changed.Broadcast()
}

type checkAnswer struct {
	success bool
	message string
}

// prepareCheck notes the invocation and returns what asks the app. That must be called without the lock.
func (s *Sim) prepareCheck(pr *pullRequest, c *forgeCheck, trigger string, merge object) func() checkAnswer {
	inst := s.forgeInstallation(c.app, c.workspace)
	body := object{
		"workspace": object{"uuid": c.workspace.uuid}, "repository": object{"uuid": pr.repository.uuid},
		"pullrequest": object{"id": pr.id}, "trigger": object{"type": trigger},
	}
	if merge != nil {
		body["mergeProperties"] = merge
	}
	d := s.newForgeDelivery(inst, s.checkModule(c), "merge-check", trigger, body)
	return func() checkAnswer {
		failed := checkAnswer{message: "The check could not be run."}
		answer := s.attemptOnce(d, s.opts.Forge.EventTimeout)
		if answer == nil {
			return failed
		}
		var out struct {
			Success *bool  `json:"success"`
			Message string `json:"message"`
		}
		if err := json.Unmarshal(answer.body, &out); err != nil || out.Success == nil {
			return checkAnswer{message: "The check gave no result that could be understood."}
		}
		return checkAnswer{*out.Success, out.Message}
	}
}

// maxCommitMessage is the number of characters of a merge's message that a check is shown.
const maxCommitMessage = 1000

func mergeProperties(pr *pullRequest, spec mergeSpec) object {
	message := []rune(cmp.Or(spec.message, defaultMergeMessage(pr)))
	closes := pr.closeSourceBranch
	if spec.closeSourceBranch != nil {
		closes = *spec.closeSourceBranch
	}
	return object{
		"commitMessage":          string(message[:min(len(message), maxCommitMessage)]),
		"commitMessageTruncated": len(message) > maxCommitMessage, "mergeStrategy": spec.strategy, "closeSourceBranch": closes,
	}
}

// askOnMerge asks the checks that belong to the merge, all at once, and refuses the merge if one that blocks has
// failed or if the pull request has moved meanwhile. It lets go of the lock while it waits.
func (s *Sim) askOnMerge(pr *pullRequest, p *person, spec mergeSpec) error {
	type asked struct {
		check  *forgeCheck
		slot   checkSlot
		run    int
		ask    func() checkAnswer
		answer checkAnswer
	}
	var all []*asked
	for _, c := range s.checksOn(pr) {
		if !s.checkModule(c).runs(onMerge) {
			continue
		}
		slot := checkSlot{c.id, true}
		all = append(all, &asked{
			check: c, slot: slot, run: s.startCheck(pr, slot, onMerge),
			ask: s.prepareCheck(pr, c, onMerge, mergeProperties(pr, spec)),
		})
	}
	if len(all) == 0 {
		return nil
	}
	head, destination := pr.head, pr.destinationHead()
	s.unlocked(func() {
		var waiting sync.WaitGroup
		for _, a := range all {
			waiting.Go(func() { a.answer = a.ask() })
		}
		waiting.Wait()
	})
	var open []any
	for _, a := range all {
		s.endCheck(pr, a.slot, a.run, a.answer)
		if !a.answer.success && a.check.blocks() {
			open = append(open, s.checkSentence(a.check, a.answer.message))
		}
	}
	if len(open) > 0 {
		return unresolvedChecks(open)
	}
	if err := s.mayMerge(pr, p); err != nil {
		return err
	}
	if pr.head != head || pr.destinationHead() != destination {
		return &apiError{status: http.StatusConflict, message: faultMessage(http.StatusConflict)}
	}
	return nil
}

// unlocked runs do without the lock.
func (s *Sim) unlocked(do func()) {
	s.mu.Unlock()
	defer s.mu.Lock()
	do()
}

func unresolvedChecks(open []any) error {
	return &apiError{
		status: http.StatusBadRequest, message: "Unresolved merge checks prevent this pull request from being merged.",
		fields: object{"merge_checks": open},
	}
}

func (s *Sim) checkSentence(c *forgeCheck, message string) string {
	name := c.module
	if m := s.checkModule(c); m != nil {
		name = string(m.Name)
	}
	if message == "" {
		return name
	}
	return name + ": " + message
}

// openChecks are the sentences of the checks before the merge that block it: those that did not pass.
func (s *Sim) openChecks(pr *pullRequest) []any {
	var open []any
	for _, c := range s.checksOn(pr) {
		if !c.blocks() || !s.checkModule(c).preMerge() {
			continue
		}
		switch r := pr.checks[checkSlot{check: c.id}]; {
		case r == nil:
			open = append(open, s.checkSentence(c, "The check has not run yet."))
		case r.state == checkRunning:
			open = append(open, s.checkSentence(c, "The check is running."))
		case r.state == checkFailed:
			open = append(open, s.checkSentence(c, r.message))
		}
	}
	return open
}
