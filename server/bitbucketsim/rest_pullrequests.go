package bitbucketsim

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

func (s *Sim) listPullRequests(c *call) (*answer, error) {
	r, err := s.callRepository(c, PermissionRead)
	if err != nil {
		return nil, err
	}
	states := c.query["state"]
	for _, state := range states {
		if !slices.Contains([]string{stateOpen, stateMerged, stateDeclined, "SUPERSEDED"}, state) {
			return nil, badRequest("Invalid state: " + state)
		}
	}
	// Without a filter only open pull requests are listed; a q that speaks of the state decides for itself.
	if len(states) == 0 && !strings.Contains(c.query.Get("q"), "state") {
		states = []string{stateOpen}
	}
	how := shapeList
	if f := c.query.Get("fields"); strings.Contains(f, "participants") || strings.Contains(f, "reviewers") || f == "*" {
		how = shapeSelf
	}
	var items []object
	for _, pr := range slices.Backward(r.pullRequests) {
		if len(states) == 0 || slices.Contains(states, pr.state) {
			items = append(items, s.renderPullRequest(pr, how))
		}
	}
	if c.query.Get("sort") == "" {
		sortItems(items, "-updated_on")
	}
	return s.list(c, listing{pagelen: 10, most: 50}, items)
}

func (s *Sim) getPullRequest(c *call) (*answer, error) {
	pr, err := s.callPullRequest(c)
	if err != nil {
		return nil, err
	}
	return &answer{body: s.renderPullRequest(pr, shapeSelf)}, nil
}

type endpointInput struct {
	Branch     *struct{ Name string } `json:"branch"`
	Repository *struct {
		FullName string `json:"full_name"`
		UUID     string `json:"uuid"`
	} `json:"repository"`
}

func (e *endpointInput) branch() string {
	if e == nil || e.Branch == nil {
		return ""
	}
	return e.Branch.Name
}

type pullRequestInput struct {
	Title             *string        `json:"title"`
	Description       *string        `json:"description"`
	Source            *endpointInput `json:"source"`
	Destination       *endpointInput `json:"destination"`
	CloseSourceBranch *bool          `json:"close_source_branch"`
	Draft             *bool          `json:"draft"`
	Reviewers         *[]struct {
		UUID      string `json:"uuid"`
		AccountID string `json:"account_id"`
	} `json:"reviewers"`
}

func (s *Sim) reviewersOf(in *pullRequestInput, r *repository) ([]*person, error) {
	var out []*person
	if in.Reviewers == nil {
		return nil, nil
	}
	for _, x := range *in.Reviewers {
		ref := x.UUID
		if ref == "" {
			ref = x.AccountID
		}
		p, err := s.person(ref)
		if err != nil || !r.may(p, PermissionRead) {
			return nil, fieldError("reviewers", "Malformed reviewers list")
		}
		out = append(out, p)
	}
	return out, nil
}

func (s *Sim) createPullRequest(c *call) (*answer, error) {
	r, err := s.callRepository(c, PermissionRead)
	if err != nil {
		return nil, err
	}
	var in pullRequestInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if in.Title == nil {
		return nil, fieldError("title", "This field is required.")
	}
	if in.Source.branch() == "" {
		return nil, fieldError("source", "This field is required.")
	}
	source := r
	if x := in.Source.Repository; x != nil && (x.FullName != "" || x.UUID != "") {
		if source, err = s.repositoryByName(x.FullName); err != nil {
			if source = s.repositoryByUUID(x.UUID); source == nil {
				return nil, fieldError("source.repository", "not found")
			}
		}
	}
	if !source.may(c.person, PermissionWrite) {
		return nil, forbidden("You must have write access to the source repository.")
	}
	reviewers, err := s.reviewersOf(&in, r)
	if err != nil {
		return nil, err
	}
	spec := newPullRequest{
		title: *in.Title, source: source, sourceBranch: in.Source.branch(), destBranch: in.Destination.branch(),
		reviewers: reviewers,
	}
	if in.Description != nil {
		spec.description = *in.Description
	}
	spec.closeSourceBranch = in.CloseSourceBranch != nil && *in.CloseSourceBranch
	spec.draft = in.Draft != nil && *in.Draft
	pr, err := s.openPullRequest(r, c.person, spec)
	if err != nil {
		return nil, err
	}
	return &answer{
		status: http.StatusCreated, body: s.renderPullRequest(pr, shapeSelf),
		location: fmt.Sprintf("%s/pullrequests/%d", s.repositoryAPI(r), pr.id),
	}, nil
}

func (s *Sim) repositoryByUUID(uuid string) *repository {
	for _, w := range s.workspaces {
		for _, r := range w.repositories {
			if r.uuid == uuid {
				return r
			}
		}
	}
	return nil
}

func (s *Sim) updatePullRequest(c *call) (*answer, error) {
	pr, err := s.callPullRequest(c)
	if err != nil {
		return nil, err
	}
	if pr.author != c.person && !pr.repository.may(c.person, PermissionWrite) {
		return nil, forbidden("You don't have permission to edit this pull request.")
	}
	if pr.state != stateOpen {
		return nil, badRequest("Only open pull requests can be mutated.")
	}
	var in pullRequestInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if in.Title != nil && strings.TrimSpace(*in.Title) == "" {
		return nil, fieldError("title", "This field is required.")
	}
	destination := pr.destBranch
	if name := in.Destination.branch(); name != "" {
		if pr.repository.branches[name] == "" {
			return nil, fieldError("destination.branch.name", "branch not found: "+name)
		}
		destination = name
	}
	reviewers, err := s.reviewersOf(&in, pr.repository)
	if err != nil {
		return nil, err
	}
	pr.destBranch, pr.updated = destination, s.now()
	if in.Title != nil {
		pr.title = *in.Title
	}
	if in.Description != nil {
		pr.description = *in.Description
	}
	if in.CloseSourceBranch != nil {
		pr.closeSourceBranch = *in.CloseSourceBranch
	}
	if in.Draft != nil {
		pr.draft = *in.Draft
	}
	if in.Reviewers != nil {
		pr.reviewers = reviewers
		for _, p := range reviewers {
			pr.participant(p)
		}
	}
	s.emitPullRequest(pr, "pullrequest:updated", c.person, nil)
	return &answer{body: s.renderPullRequest(pr, shapeSelf)}, nil
}

func (s *Sim) redirectTo(c *call, resource string) (*answer, error) {
	pr, err := s.callPullRequest(c)
	if err != nil {
		return nil, err
	}
	if pr.source.gone {
		return nil, notFound("The source repository does not exist.")
	}
	location := fmt.Sprintf("%s/%s/%s:%s%%0D%s?from_pullrequest_id=%d&topic=true", s.repositoryAPI(pr.repository),
		resource, pr.source.fullName(), pr.head[:shortHash], pr.destinationHead()[:shortHash], pr.id)
	if c.r.URL.RawQuery != "" {
		location += "&" + c.r.URL.RawQuery
	}
	return &answer{status: http.StatusFound, location: location}, nil
}

func (s *Sim) redirectToDiff(c *call) (*answer, error)     { return s.redirectTo(c, "diff") }
func (s *Sim) redirectToDiffstat(c *call) (*answer, error) { return s.redirectTo(c, "diffstat") }

func (s *Sim) listPullRequestCommits(c *call) (*answer, error) {
	pr, err := s.callPullRequest(c)
	if err != nil {
		return nil, err
	}
	return s.list(c, standardListing, s.commitItems(pr.source, pr.commits()))
}

func (s *Sim) postApproval(c *call) (*answer, error) {
	pr, err := s.callPullRequest(c)
	if err != nil {
		return nil, err
	}
	s.approve(pr, c.person)
	return &answer{body: s.renderParticipant(pr, pr.participant(c.person))}, nil
}

func (s *Sim) deleteApproval(c *call) (*answer, error) {
	pr, err := s.callPullRequest(c)
	if err != nil {
		return nil, err
	}
	if err := s.unapprove(pr, c.person); err != nil {
		return nil, err
	}
	return &answer{status: http.StatusNoContent}, nil
}

func (s *Sim) postChangeRequest(c *call) (*answer, error) {
	pr, err := s.callPullRequest(c)
	if err != nil {
		return nil, err
	}
	s.requestChanges(pr, c.person)
	return &answer{body: s.renderParticipant(pr, pr.participant(c.person))}, nil
}

func (s *Sim) deleteChangeRequest(c *call) (*answer, error) {
	pr, err := s.callPullRequest(c)
	if err != nil {
		return nil, err
	}
	if err := s.withdrawChangeRequest(pr, c.person); err != nil {
		return nil, err
	}
	return &answer{status: http.StatusNoContent}, nil
}

func (s *Sim) postDecline(c *call) (*answer, error) {
	pr, err := s.callPullRequest(c)
	if err != nil {
		return nil, err
	}
	if err := s.decline(pr, c.person); err != nil {
		return nil, err
	}
	return &answer{body: s.renderPullRequest(pr, shapeSelf)}, nil
}

func (s *Sim) postMerge(c *call) (*answer, error) {
	pr, err := s.callPullRequest(c)
	if err != nil {
		return nil, err
	}
	var in struct {
		Message           string `json:"message"`
		MergeStrategy     string `json:"merge_strategy"`
		CloseSourceBranch *bool  `json:"close_source_branch"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	spec := mergeSpec{in.Message, in.MergeStrategy, in.CloseSourceBranch}
	if async, err := strconv.ParseBool(c.query.Get("async")); err == nil && async {
		s.did(c, Effect{Repository: pr.repository.uuid, PullRequest: pr.id})
		task := s.mergeLater(pr, c.person, spec)
		return &answer{status: http.StatusAccepted, location: s.mergeTaskURL(task)}, nil
	}
	if err := s.merge(pr, c.person, spec); err != nil {
		return nil, err
	}
	s.did(c, Effect{Repository: pr.repository.uuid, PullRequest: pr.id})
	return &answer{body: s.renderPullRequest(pr, shapeSelf)}, nil
}

func (s *Sim) mergeTaskURL(t *mergeTask) string {
	return fmt.Sprintf("%s/pullrequests/%d/merge/task-status/%s", s.repositoryAPI(t.pr.repository), t.pr.id, t.id)
}

func (s *Sim) getMergeTask(c *call) (*answer, error) {
	pr, err := s.callPullRequest(c)
	if err != nil {
		return nil, err
	}
	t := s.mergeTasks[c.r.PathValue("task")]
	if t == nil || t.pr != pr {
		return nil, badRequest("The task does not belong to this pull request.")
	}
	if t.done && t.err != nil {
		return nil, t.err
	}
	body := object{"task_status": "PENDING", "links": object{"self": link(s.mergeTaskURL(t))}}
	if t.done {
		body["task_status"], body["merge_result"] = "SUCCESS", s.renderPullRequest(pr, shapeSelf)
	}
	return &answer{body: body}, nil
}
