package bitbucketsim

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
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

// Levels on which a merge check is configured. One that is configured on several is asked once for each.
const (
	levelWorkspace  = "workspace"
	levelProject    = "project"
	levelRepository = "repository"
)

// forgeCheck is a custom merge check as an administrator configured it.
type forgeCheck struct {
	id         int
	level      string
	app        *forgeApp
	module     string
	workspace  *workspace
	repository *repository // on the level of a repository only
	pattern    string      // of the destination branch; empty for all
	required   bool
}

// CustomMergeChecks switches the feature on or off in a workspace. It is off at first.
type CustomMergeChecks struct {
	Workspace string `json:"workspace"`
	Person    string `json:"person"` // an administrator of the workspace
	Enabled   bool   `json:"enabled"`
}

// SetCustomMergeChecks enables or disables custom merge checks in a workspace's settings.
func (s *Sim) SetCustomMergeChecks(spec CustomMergeChecks) (CustomMergeChecks, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, err := s.workspace(spec.Workspace)
	if err != nil {
		return spec, err
	}
	p, err := s.person(spec.Person)
	if err != nil {
		return spec, err
	}
	if w.members[p] != RoleOwner {
		return spec, errNotAdministrator
	}
	w.customChecks = spec.Enabled
	return spec, nil
}

// MergeCheck is a custom merge check in the settings of a repository, a project or a workspace.
type MergeCheck struct {
	ID int `json:"id"` // set by the Sim; names the one to change
	// Level is repository (where left empty), project or workspace.
	Level      string `json:"level"`
	Workspace  string `json:"workspace"`  // for the upper levels
	Repository string `json:"repository"` // full name, for the level of a repository
	// App and Environment may be left empty where only one app is installed in the workspace.
	App         string `json:"app"`
	Environment string `json:"environment"`
	Module      string `json:"module"` // key of the bitbucket:mergeCheck module
	// Pattern is a glob on the destination branch; all branches where left empty.
	Pattern string `json:"pattern"`
	// Required blocks merges where the check fails, in a Premium workspace. In others, and where it is not
	// required, it warns.
	Required bool   `json:"required"`
	Person   string `json:"person"` // an administrator of the repository, or of the workspace
}

// SaveMergeCheck adds a custom merge check, or changes the one that ID names.
func (s *Sim) SaveMergeCheck(spec MergeCheck) (MergeCheck, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.person(spec.Person)
	if err != nil {
		return spec, err
	}
	c, err := s.saveMergeCheck(spec, p)
	if err != nil {
		return spec, err
	}
	return c.describe(), nil
}

func (s *Sim) saveMergeCheck(spec MergeCheck, p *person) (*forgeCheck, error) {
	c := &forgeCheck{level: cmp.Or(spec.Level, levelRepository), module: spec.Module, pattern: spec.Pattern, required: spec.Required}
	var err error
	if c.level == levelRepository {
		if c.repository, err = s.repositoryByName(spec.Repository); err != nil {
			return nil, err
		}
		c.workspace = c.repository.workspace
	} else if c.workspace, err = s.workspace(spec.Workspace); err != nil {
		return nil, err
	}
	var installed []*forgeInstallation
	for _, i := range s.forgeIn(c.workspace) {
		a := i.version.app
		if (spec.App == "" || spec.App == a.id) && (spec.Environment == "" || spec.Environment == a.environment) {
			installed = append(installed, i)
		}
	}
	switch {
	case !slices.Contains([]string{levelRepository, levelProject, levelWorkspace}, c.level):
		return nil, fmt.Errorf("%q is no level", c.level)
	case !c.administeredBy(p):
		return nil, errors.New("only an administrator may configure merge checks")
	case !c.workspace.customChecks:
		return nil, errors.New("custom merge checks are not enabled in the settings of the workspace")
	case len(installed) == 0:
		return nil, errNotInstalled
	case len(installed) > 1:
		return nil, errors.New("several apps are installed; name one")
	case installed[0].version.manifest.module(moduleMergeCheck, c.module) == nil:
		return nil, fmt.Errorf("merge check %q: %w", c.module, ErrNotFound)
	}
	c.app = installed[0].version.app
	for i, x := range c.workspace.checks {
		if x.id == spec.ID {
			c.id = x.id
			c.workspace.checks[i] = c
			return c, nil
		}
	}
	if spec.ID != 0 {
		return nil, fmt.Errorf("merge check %d: %w", spec.ID, ErrNotFound)
	}
	c.id = s.id()
	c.workspace.checks = append(c.workspace.checks, c)
	return c, nil
}

func (c *forgeCheck) administeredBy(p *person) bool {
	if c.level == levelRepository {
		return c.repository.may(p, PermissionAdmin)
	}
	return c.workspace.members[p] == RoleOwner
}

func (c *forgeCheck) describe() MergeCheck {
	out := MergeCheck{
		ID: c.id, Level: c.level, Workspace: c.workspace.slug, App: c.app.id, Environment: c.app.environment,
		Module: c.module, Pattern: c.pattern, Required: c.required,
	}
	if c.repository != nil {
		out.Repository = c.repository.fullName()
	}
	return out
}

// MergeCheckRemoval names a custom merge check to remove.
type MergeCheckRemoval struct {
	ID     int    `json:"id"`
	Person string `json:"person"`
}

// RemoveMergeCheck takes a custom merge check out of the settings.
func (s *Sim) RemoveMergeCheck(spec MergeCheckRemoval) (MergeCheckRemoval, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.person(spec.Person)
	if err != nil {
		return spec, err
	}
	return spec, s.removeMergeCheck(spec.ID, p)
}

func (s *Sim) removeMergeCheck(id int, p *person) error {
	for _, w := range s.workspaces {
		for i, c := range w.checks {
			if c.id != id {
				continue
			}
			if !c.administeredBy(p) {
				return errors.New("only an administrator may configure merge checks")
			}
			w.checks = slices.Delete(w.checks, i, i+1)
			return nil
		}
	}
	return fmt.Errorf("merge check %d: %w", id, ErrNotFound)
}

// MergeChecks lists the custom merge checks of a workspace, of all levels.
func (s *Sim) MergeChecks(workspace string) ([]MergeCheck, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, err := s.workspace(workspace)
	if err != nil {
		return nil, err
	}
	out := []MergeCheck{}
	for _, c := range w.checks {
		out = append(out, c.describe())
	}
	return out, nil
}

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

// MergeCheckRun names a check on a pull request.
type MergeCheckRun struct {
	Repository  string `json:"repository"` // full name
	PullRequest int    `json:"pull_request"`
	Check       int    `json:"check"`
	Person      string `json:"person"` // who may read the repository
}

// RerunMergeCheck runs a check before the merge again, as a person does on the page of the pull request.
func (s *Sim) RerunMergeCheck(spec MergeCheckRun) (MergeCheckRun, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.repositoryByName(spec.Repository)
	if err != nil {
		return spec, err
	}
	pr, err := r.pullRequest(spec.PullRequest)
	if err != nil {
		return spec, err
	}
	p, err := s.person(spec.Person)
	if err != nil {
		return spec, err
	}
	if !r.may(p, PermissionRead) {
		return spec, ErrNotFound
	}
	return spec, s.rerunCheck(pr, spec.Check)
}

// rerunCheck runs a check again with the trigger of its last run.
func (s *Sim) rerunCheck(pr *pullRequest, id int) error {
	if pr.state != stateOpen {
		return alreadyClosed()
	}
	for _, c := range s.checksOn(pr) {
		m := s.checkModule(c)
		if c.id != id {
			continue
		}
		if !m.preMerge() {
			return badRequest("A check that runs on merge is run again by merging again.")
		}
		trigger := m.Triggers[slices.IndexFunc(m.Triggers, func(t string) bool { return t != onMerge })]
		if r := pr.checks[checkSlot{check: id}]; r != nil {
			trigger = r.trigger
		}
		s.runCheck(pr, c, trigger)
		return nil
	}
	return notFound("There is no such merge check on this pull request.")
}

// MergeCheckResult is how a custom merge check stands on a pull request.
type MergeCheckResult struct {
	Check    int    `json:"check"`
	Module   string `json:"module"`
	Name     string `json:"name"`
	Level    string `json:"level"`
	Pattern  string `json:"pattern"`
	Required bool   `json:"required"`
	Blocks   bool   `json:"blocks"` // required, and the workspace is Premium
	// OnMerge tells the result of the last attempt to merge from the one of before.
	OnMerge bool `json:"on_merge"`
	// State is running, passed, failed, or empty where the check was not asked yet.
	State   string    `json:"state"`
	Message string    `json:"message"`
	Trigger string    `json:"trigger"`
	Head    string    `json:"head"` // the head commit when it was asked, 40 digits
	At      time.Time `json:"at"`
}

// MergeCheckResults tells how the custom merge checks stand on a pull request of the repository with that full
// name.
func (s *Sim) MergeCheckResults(repository string, pullRequest int) ([]MergeCheckResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.repositoryByName(repository)
	if err != nil {
		return nil, err
	}
	pr, err := r.pullRequest(pullRequest)
	if err != nil {
		return nil, err
	}
	return s.checkResults(pr), nil
}

func (s *Sim) checkResults(pr *pullRequest) []MergeCheckResult {
	out := []MergeCheckResult{}
	for _, c := range s.checksOn(pr) {
		m := s.checkModule(c)
		for _, merge := range []bool{false, true} {
			if (merge && !m.runs(onMerge)) || (!merge && !m.preMerge()) {
				continue
			}
			x := MergeCheckResult{
				Check: c.id, Module: c.module, Name: string(m.Name), Level: c.level, Pattern: c.pattern,
				Required: c.required, Blocks: c.blocks(), OnMerge: merge,
			}
			if r := pr.checks[checkSlot{c.id, merge}]; r != nil {
				x.State, x.Message, x.Trigger, x.Head, x.At = r.state, r.message, r.trigger, r.head, r.at
			}
			out = append(out, x)
		}
	}
	return out
}
