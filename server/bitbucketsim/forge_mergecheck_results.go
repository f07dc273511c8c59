package bitbucketsim

import (
	"slices"
	"time"
)

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
