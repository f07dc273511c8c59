package bitbucketsim

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// States of a pull request.
const (
	stateOpen     = "OPEN"
	stateMerged   = "MERGED"
	stateDeclined = "DECLINED"
)

type pullRequest struct {
	id                         int
	repository                 *repository // the destination; it owns the pull request
	source                     *repository
	title, description, reason string
	author, closedBy           *person
	state                      string
	draft, closeSourceBranch   bool
	sourceBranch, destBranch   string
	head                       string // full hash; moves with the source branch while open
	destHead                   string // full hash at the time of closing
	mergeCommit                string
	reviewers                  []*person
	participants               []*participant
	comments                   []*comment
	checks                     map[checkSlot]*checkResult // of the custom merge checks
	created, updated, closed   time.Time
}

type participant struct {
	person *person
	state  string // approved, changes_requested or empty
	at     time.Time
}

type comment struct {
	id               int
	author           *person
	raw              string
	inline           object // path, from, to; nil for a general comment
	parent           *comment
	created, updated time.Time
	deleted          bool
	resolvedBy       *person
	resolved         time.Time
}

// destinationHead is the commit that the pull request would be merged into.
func (pr *pullRequest) destinationHead() string {
	if pr.state == stateOpen {
		if tip := pr.repository.branches[pr.destBranch]; tip != "" {
			return tip
		}
	}
	return pr.destHead
}

func (pr *pullRequest) participant(p *person) *participant {
	for _, x := range pr.participants {
		if x.person == p {
			return x
		}
	}
	x := &participant{person: p}
	pr.participants = append(pr.participants, x)
	return x
}

func (pr *pullRequest) count(state string) int {
	n := 0
	for _, x := range pr.participants {
		if x.state == state {
			n++
		}
	}
	return n
}

// base is the merge base of source and destination; nil where the histories are unrelated.
func (pr *pullRequest) base() *commit {
	return pr.repository.objects.mergeBase(pr.head, pr.destinationHead())
}

// commits are those that the pull request would bring, newest first.
func (pr *pullRequest) commits() []*commit {
	return pr.repository.objects.log(pr.head, pr.destinationHead())
}

func (r *repository) pullRequest(id int) (*pullRequest, error) {
	for _, pr := range r.pullRequests {
		if pr.id == id {
			return pr, nil
		}
	}
	return nil, fmt.Errorf("pull request %d: %w", id, ErrNotFound)
}

// newPullRequest is what it takes to open a pull request.
type newPullRequest struct {
	title, description       string
	source                   *repository
	sourceBranch, destBranch string
	reviewers                []*person
	closeSourceBranch, draft bool
}

func (s *Sim) openPullRequest(r *repository, author *person, spec newPullRequest) (*pullRequest, error) {
	if spec.destBranch == "" {
		spec.destBranch = r.mainBranch
	}
	if strings.TrimSpace(spec.title) == "" {
		return nil, fieldError("title", "This field is required.")
	}
	head := spec.source.branches[spec.sourceBranch]
	if head == "" {
		return nil, fieldError("source.branch.name", "branch not found: "+spec.sourceBranch)
	}
	dest := r.branches[spec.destBranch]
	if dest == "" {
		return nil, fieldError("destination.branch.name", "branch not found: "+spec.destBranch)
	}
	if spec.source.objects != r.objects {
		return nil, fieldError("source.repository", "is no fork of "+r.fullName())
	}
	if r.objects.isAncestor(head, dest) {
		return nil, badRequest("There are no changes to be pulled")
	}
	now := s.now()
	pr := &pullRequest{
		id: len(r.pullRequests) + 1, repository: r, source: spec.source, title: spec.title,
		description: spec.description, author: author, state: stateOpen, draft: spec.draft,
		closeSourceBranch: spec.closeSourceBranch, sourceBranch: spec.sourceBranch, destBranch: spec.destBranch,
		head: head, destHead: dest, reviewers: spec.reviewers, created: now, updated: now,
	}
	for _, p := range spec.reviewers {
		pr.participant(p)
	}
	r.pullRequests = append(r.pullRequests, pr)
	s.emitPullRequest(pr, "pullrequest:created", author, nil)
	s.runChecks(pr, onCodePushed)
	return pr, nil
}

// PullRequest describes a pull request to open.
type PullRequest struct {
	Repository        string   `json:"repository"` // full name of the destination
	Author            string   `json:"author"`
	Title             string   `json:"title"`
	Description       string   `json:"description"`
	SourceRepository  string   `json:"source_repository"` // full name of a fork; the destination where left empty
	Source            string   `json:"source"`            // branch
	Destination       string   `json:"destination"`       // branch; the main branch where left empty
	Reviewers         []string `json:"reviewers"`
	CloseSourceBranch bool     `json:"close_source_branch"`
	Draft             bool     `json:"draft"`
}

// OpenedPullRequest says what was opened.
type OpenedPullRequest struct {
	ID   int    `json:"id"`
	Head string `json:"head"` // 40 hexadecimal digits
	URL  string `json:"url"`  // of its page
}

// OpenPullRequest opens a pull request as its author would.
func (s *Sim) OpenPullRequest(spec PullRequest) (OpenedPullRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.repositoryByName(spec.Repository)
	if err != nil {
		return OpenedPullRequest{}, err
	}
	author, err := s.person(spec.Author)
	if err != nil {
		return OpenedPullRequest{}, err
	}
	source := r
	if spec.SourceRepository != "" {
		if source, err = s.repositoryByName(spec.SourceRepository); err != nil {
			return OpenedPullRequest{}, err
		}
	}
	if !r.may(author, PermissionRead) || !source.may(author, PermissionWrite) {
		return OpenedPullRequest{}, fmt.Errorf("%s may not open a pull request here", author.nickname)
	}
	var reviewers []*person
	for _, n := range spec.Reviewers {
		p, err := s.person(n)
		if err != nil {
			return OpenedPullRequest{}, err
		}
		reviewers = append(reviewers, p)
	}
	pr, err := s.openPullRequest(r, author, newPullRequest{
		title: spec.Title, description: spec.Description, source: source, sourceBranch: spec.Source,
		destBranch: spec.Destination, reviewers: reviewers, closeSourceBranch: spec.CloseSourceBranch,
		draft: spec.Draft,
	})
	if err != nil {
		return OpenedPullRequest{}, err
	}
	return OpenedPullRequest{pr.id, pr.head, s.htmlURL(pr)}, nil
}

func (s *Sim) approve(pr *pullRequest, p *person) {
	x := pr.participant(p)
	if x.state == "approved" {
		return
	}
	requested := x.state == "changes_requested"
	x.state, x.at = "approved", s.now()
	pr.updated = x.at
	if requested {
		s.emitPullRequest(pr, "pullrequest:changes_request_removed", p, s.renderVote("changes_request", x))
	}
	s.emitPullRequest(pr, "pullrequest:approved", p, s.renderVote("approval", x))
	s.reviewed(pr, p)
}

func (s *Sim) unapprove(pr *pullRequest, p *person) error {
	if pr.state == stateMerged {
		return badRequest("You can't unapprove a merged pull request.")
	}
	x := pr.participant(p)
	if x.state != "approved" {
		return &apiError{status: 404, message: "You haven't approved this pull request."}
	}
	x.state, x.at = "", s.now()
	pr.updated = x.at
	s.emitPullRequest(pr, "pullrequest:unapproved", p, s.renderVote("approval", x))
	s.reviewed(pr, p)
	return nil
}

func (s *Sim) requestChanges(pr *pullRequest, p *person) {
	x := pr.participant(p)
	if x.state == "changes_requested" {
		return
	}
	approved := x.state == "approved"
	x.state, x.at = "changes_requested", s.now()
	pr.updated = x.at
	if approved {
		s.emitPullRequest(pr, "pullrequest:unapproved", p, s.renderVote("approval", x))
	}
	s.emitPullRequest(pr, "pullrequest:changes_request_created", p, s.renderVote("changes_request", x))
	s.reviewed(pr, p)
}

func (s *Sim) withdrawChangeRequest(pr *pullRequest, p *person) error {
	x := pr.participant(p)
	if x.state != "changes_requested" {
		return &apiError{status: 404, message: "You haven't requested changes on this pull request."}
	}
	x.state, x.at = "", s.now()
	pr.updated = x.at
	s.emitPullRequest(pr, "pullrequest:changes_request_removed", p, s.renderVote("changes_request", x))
	s.reviewed(pr, p)
	return nil
}

func (s *Sim) decline(pr *pullRequest, p *person) error {
	if pr.state != stateOpen {
		return alreadyClosed()
	}
	if !pr.repository.may(p, PermissionWrite) && pr.author != p {
		return &apiError{status: 403, message: "You don't have permission to decline this pull request."}
	}
	pr.close(stateDeclined, p, s.now())
	s.emitPullRequest(pr, "pullrequest:rejected", p, nil)
	return nil
}

func (pr *pullRequest) close(state string, p *person, at time.Time) {
	pr.destHead = pr.destinationHead()
	pr.state, pr.closedBy, pr.closed, pr.updated = state, p, at, at
}

func alreadyClosed() error {
	return &apiError{
		status: 400, message: "newstatus: This pull request is already closed.",
		fields: object{"newstatus": []any{"This pull request is already closed."}},
	}
}

// Merge strategies that the Sim carries out.
const (
	strategyMergeCommit       = "merge_commit"
	strategySquash            = "squash"
	strategyFastForward       = "fast_forward"
	strategyRebaseFastForward = "rebase_fast_forward"
)

// maxMergeMessage is the documented limit of a merge commit's message, in bytes.
const maxMergeMessage = 128 << 10

type mergeSpec struct {
	message, strategy string
	closeSourceBranch *bool
}

// merge merges an open pull request if p may and the checks allow it. It is called with the lock held, and lets go
// of it while apps are asked.
func (s *Sim) merge(pr *pullRequest, p *person, spec mergeSpec) error {
	if err := s.mayMerge(pr, p); err != nil {
		return err
	}
	r := pr.repository
	if spec.strategy == "" {
		spec.strategy = r.strategies[0]
	}
	if !slices.Contains(r.strategies, spec.strategy) {
		return fieldError("merge_strategy", spec.strategy+" is not offered by the destination branch")
	}
	if len(spec.message) > maxMergeMessage {
		return fieldError("message", "The message is longer than 128 KiB.")
	}
	if err := s.askOnMerge(pr, p, spec); err != nil {
		return err
	}
	dest := r.branches[pr.destBranch]
	if dest == "" {
		return badRequest("The destination branch does not exist.")
	}
	base := pr.base()
	if base == nil {
		return badRequest("Source and destination have no common history.")
	}
	tip, err := s.mergedTip(pr, p, spec, base, dest)
	if err != nil {
		return err
	}
	pr.close(stateMerged, p, s.now())
	pr.destHead, pr.mergeCommit = dest, tip
	s.moveBranch(r, p, pr.destBranch, tip)
	s.emitPullRequest(pr, "pullrequest:fulfilled", p, nil)
	closeBranch := pr.closeSourceBranch
	if spec.closeSourceBranch != nil {
		closeBranch = *spec.closeSourceBranch
	}
	if closeBranch && pr.source.branches[pr.sourceBranch] == pr.head && !pr.source.gone {
		s.moveBranch(pr.source, p, pr.sourceBranch, "")
	}
	return nil
}

// mergedTip makes the commit that the destination branch will point to.
func (s *Sim) mergedTip(pr *pullRequest, p *person, spec mergeSpec, base *commit, dest string) (string, error) {
	o := pr.repository.objects
	if spec.strategy == strategyFastForward {
		if base.hash != dest {
			return "", badRequest("The source branch can't be fast-forwarded: the destination has diverged.")
		}
		return pr.head, nil
	}
	if spec.strategy == strategyRebaseFastForward {
		return o.rebase(pr.head, dest)
	}
	files, err := o.mergeSnapshots(base.files, o.commits[dest].files, o.commits[pr.head].files)
	if errors.Is(err, errConflict) {
		return "", badRequest("Conflicts during merge.")
	}
	if err != nil {
		return "", err
	}
	message := spec.message
	if message == "" {
		message = defaultMergeMessage(pr)
	}
	parents := []string{dest}
	if spec.strategy == strategyMergeCommit {
		parents = append(parents, pr.head)
	}
	return o.putCommit(files, parents, p.signature(s.now()), message).hash, nil
}

func defaultMergeMessage(pr *pullRequest) string {
	var m strings.Builder
	fmt.Fprintf(&m, "Merged in %s (pull request #%d)\n\n%s\n", pr.sourceBranch, pr.id, pr.title)
	for _, x := range pr.participants {
		if x.state == "approved" {
			fmt.Fprintf(&m, "\nApproved-by: %s", x.person.displayName)
		}
	}
	return m.String()
}

// mayMerge tells why p may not merge pr now, or nil.
func (s *Sim) mayMerge(pr *pullRequest, p *person) error {
	if pr.state != stateOpen {
		return alreadyClosed()
	}
	r := pr.repository
	if !r.may(p, PermissionWrite) {
		return &apiError{status: 403, message: "You don't have write access to the destination repository."}
	}
	for _, b := range r.restrictionsOn(pr.destBranch) {
		if b.kind == "restrict_merges" && !b.exempts(p) {
			return &apiError{status: 403, message: "You don't have permission to merge to " + pr.destBranch + "."}
		}
	}
	if pr.draft {
		return badRequest("A draft pull request can't be merged.")
	}
	var open []any
	if s.checksEnforced(pr) {
		for _, c := range s.mergeChecks(pr) {
			if !c.Passed {
				open = append(open, c.Message)
			}
		}
	}
	if open = append(open, s.openChecks(pr)...); len(open) > 0 {
		return unresolvedChecks(open)
	}
	return nil
}

// mergeCheck is one merge check of a pull request and how it stands.
type mergeCheck struct {
	Kind    string
	Passed  bool
	Message string
}

// checksEnforced tells whether unresolved checks block the merge: only in a Premium workspace, and only where
// enforce_merge_checks is set on the branch.
func (s *Sim) checksEnforced(pr *pullRequest) bool {
	return pr.repository.workspace.premium &&
		slices.ContainsFunc(pr.repository.restrictionsOn(pr.destBranch), func(b *restriction) bool {
			return b.kind == "enforce_merge_checks"
		})
}

func (s *Sim) mergeChecks(pr *pullRequest) []mergeCheck {
	var out []mergeCheck
	add := func(b *restriction, passed bool, format string, args ...any) {
		out = append(out, mergeCheck{b.kind, passed, fmt.Sprintf(format, args...)})
	}
	for _, b := range pr.repository.restrictionsOn(pr.destBranch) {
		switch b.kind {
		case "require_passing_builds_to_merge":
			good, bad, running := s.buildCounts(pr)
			add(b, good >= b.value && bad == 0 && running == 0,
				"Successful builds on the last commit: at least %d, and none failed or in progress (%d successful, %d failed, %d in progress)",
				b.value, good, bad, running)
		case "require_approvals_to_merge":
			n := pr.count("approved")
			add(b, n >= b.value, "Approvals: at least %d (%d)", b.value, n)
		case "require_default_reviewer_approvals_to_merge", "require_review_group_approvals_to_merge":
			n := 0
			for _, p := range pr.reviewers {
				if pr.participant(p).state == "approved" {
					n++
				}
			}
			add(b, n >= b.value, "Approvals of reviewers: at least %d (%d)", b.value, n)
		case "require_no_changes_requested":
			n := pr.count("changes_requested")
			add(b, n == 0, "No changes are requested (%d)", n)
		case "require_commits_behind":
			n := len(pr.repository.objects.log(pr.destinationHead(), pr.head))
			add(b, n <= b.value, "Commits behind the destination: at most %d (%d)", b.value, n)
		case "require_all_comments_resolved":
			n := len(slices.DeleteFunc(slices.Clone(pr.comments), func(c *comment) bool {
				return c.deleted || c.parent != nil || c.resolvedBy != nil
			}))
			add(b, n == 0, "All comments are resolved (%d are not)", n)
		}
	}
	return out
}

// buildCounts counts the builds on the last commit. A STOPPED one is no success, and does not block by itself.
func (s *Sim) buildCounts(pr *pullRequest) (good, bad, running int) {
	for _, st := range s.statusesOf(pr) {
		switch st.state {
		case "SUCCESSFUL":
			good++
		case "INPROGRESS":
			running++
		case "FAILED":
			bad++
		}
	}
	return good, bad, running
}

// statusesOf are the statuses that show on a pull request: those of its head whose refname is the source
// branch or absent.
func (s *Sim) statusesOf(pr *pullRequest) []*commitStatus {
	var out []*commitStatus
	for _, st := range pr.repository.statuses {
		if st.commit == pr.head && (st.refname == "" || st.refname == pr.sourceBranch) {
			out = append(out, st)
		}
	}
	return out
}

// resetOnPush takes approvals back after a push where the branch asks for it, a Premium feature, and tells whether
// any was.
func (s *Sim) resetOnPush(pr *pullRequest) (some bool) {
	if !pr.repository.workspace.premium {
		return false
	}
	reset := map[string]string{
		"reset_pullrequest_approvals_on_change": "approved", "smart_reset_pullrequest_approvals": "approved",
		"reset_pullrequest_changes_requested_on_change": "changes_requested",
	}
	for _, b := range pr.repository.restrictionsOn(pr.destBranch) {
		for _, x := range pr.participants {
			if state := reset[b.kind]; state != "" && x.state == state {
				x.state, x.at, some = "", s.now(), true
			}
		}
	}
	return some
}

// mergeTask is an asynchronous merge.
type mergeTask struct {
	id     string
	pr     *pullRequest
	person *person
	done   bool
	err    error
}

// mergeLater queues a merge and returns its task.
func (s *Sim) mergeLater(pr *pullRequest, p *person, spec mergeSpec) *mergeTask {
	task := &mergeTask{id: bareUUID(), pr: pr, person: p}
	s.mergeTasks[task.id] = task
	if s.ctx.Err() != nil {
		return task
	}
	s.work.Go(func() {
		timer := time.NewTimer(s.opts.AsyncMergeDelay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-s.ctx.Done():
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		task.err = s.merge(pr, p, spec)
		task.done = true
	})
	return task
}

// sortedBranches lists the names of the branches.
func (r *repository) sortedBranches() []string { return slices.Sorted(maps.Keys(r.branches)) }
