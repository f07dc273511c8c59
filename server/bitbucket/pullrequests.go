package bitbucket

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"strconv"
	"time"
)

// PullRequestState is where a pull request stands.
type PullRequestState string

// The states; all but Open are final.
const (
	Open       PullRequestState = "OPEN"
	Merged     PullRequestState = "MERGED"
	Declined   PullRequestState = "DECLINED"
	Superseded PullRequestState = "SUPERSEDED"
)

// PullRequest is a pull request as Bitbucket shows it now.
type PullRequest struct {
	// ID is unique within its repository.
	ID          int64
	State       PullRequestState
	Draft       bool
	Title       string
	Description string
	// Author is the zero User if the account is gone.
	Author      User
	Source      Endpoint
	Destination Endpoint
	// MergeCommit is a hash, mostly a prefix of 12 digits; nil unless merged.
	MergeCommit *string
	// Participants took part in any way. Lists of pull requests leave them out.
	Participants []Participant
	// ClosedBy merged or declined it; nil while open, and if the account is gone.
	ClosedBy *User
	// CloseSourceBranch says that merging deletes the source branch by default.
	CloseSourceBranch bool
	CreatedOn         time.Time
	UpdatedOn         time.Time
	// HTMLURL is the page for people.
	HTMLURL string
}

// Endpoint is one side of a pull request.
type Endpoint struct {
	Branch string
	// CommitPrefix is the beginning of the head's hash, usually 12 digits; "" if
	// Bitbucket does not know it any more (a deleted fork or branch). Resolve it
	// before storing, comparing or signing it.
	CommitPrefix string
	// Repository is nil if it is gone, as a deleted fork is.
	Repository *Repository
	// MergeStrategies are offered by the destination; empty for the source, and in
	// some answers: then read the Branch.
	MergeStrategies      []MergeStrategy
	DefaultMergeStrategy MergeStrategy
}

// Participant is somebody's part in a pull request, as Bitbucket counts it. Its
// approvals are Bitbucket's, not this product's.
type Participant struct {
	User User
	// Role is "PARTICIPANT" or "REVIEWER".
	Role     string
	Approved bool
	// State is "approved", "changes_requested" or "".
	State string
	// ParticipatedOn is zero if the person has not done anything yet.
	ParticipatedOn time.Time
}

// PullRequest reads one pull request, with its participants. Scope: pullrequest.
func (c *Client) PullRequest(ctx context.Context, workspace, repo string, id int64) (PullRequest, error) {
	const op = "read pull request"
	if id <= 0 {
		return PullRequest{}, invalid(op, "%d is not the number of a pull request", id)
	}
	wire, err := get[wirePullRequest](ctx, c, op, nil, pullRequest(workspace, repo, id)...)
	if err != nil {
		return PullRequest{}, err
	}
	value, err := wire.pullRequest()
	if err == nil && value.ID != id {
		err = errors.New("another pull request than the one asked for")
	}
	if err != nil {
		return PullRequest{}, c.fail(op, err)
	}
	return value, nil
}

// OpenPullRequests lists the open pull requests of a repository, the oldest
// first so that new ones do not shift the pages. Scope: pullrequest.
func (c *Client) OpenPullRequests(ctx context.Context, workspace, repo string) iter.Seq2[PullRequest, error] {
	query := url.Values{"state": {string(Open)}, "sort": {"created_on"}, "pagelen": {pageLenPullRequest}}
	return pages(ctx, c, "list pull requests", query, wirePullRequest.pullRequest, repository(workspace, repo, "pullrequests")...)
}

// PullRequestHead reads the full hash, 40 hex digits, of the newest commit of a
// pull request, open or closed. It comes from the pull request's own list of
// commits and never from expanding Endpoint.CommitPrefix: two commits whose hashes
// begin with the same 12 digits can be made on purpose, and then the repository
// would answer with whichever it finds. The error is transient where the list is
// empty or does not begin with a commit, as while Bitbucket still works on a push.
// Scope: pullrequest.
func (c *Client) PullRequestHead(ctx context.Context, workspace, repo string, id int64) (string, error) {
	const op = "read head of pull request"
	if id <= 0 {
		return "", invalid(op, "%d is not the number of a pull request", id)
	}
	page, err := get[wirePage[wireHash]](ctx, c, op, url.Values{"pagelen": {"1"}}, pullRequest(workspace, repo, id, "commits")...)
	switch {
	case err != nil:
		return "", err
	case len(page.Values) == 0:
		return "", c.fail(op, errors.New("the pull request has no commits"))
	case !IsFullHash(page.Values[0].Hash):
		return "", c.fail(op, errors.New("the newest commit has no full hash"))
	}
	return page.Values[0].Hash, nil
}

// pullRequest is the beginning of all paths of a pull request.
func pullRequest(workspace, repo string, id int64, rest ...string) []string {
	return repository(workspace, repo, append([]string{"pullrequests", strconv.FormatInt(id, 10)}, rest...)...)
}

type wireEndpoint struct {
	Branch struct {
		Name                 string          `json:"name"`
		MergeStrategies      []MergeStrategy `json:"merge_strategies"`
		DefaultMergeStrategy MergeStrategy   `json:"default_merge_strategy"`
	} `json:"branch"`
	Commit     *wireHash       `json:"commit"`
	Repository *wireRepository `json:"repository"`
}

type wirePullRequest struct {
	ID                int64             `json:"id"`
	State             PullRequestState  `json:"state"`
	Draft             bool              `json:"draft"`
	Title             string            `json:"title"`
	Description       string            `json:"description"`
	Author            *wireUser         `json:"author"`
	Source            wireEndpoint      `json:"source"`
	Destination       wireEndpoint      `json:"destination"`
	MergeCommit       *wireHash         `json:"merge_commit"`
	Participants      []wireParticipant `json:"participants"`
	ClosedBy          *wireUser         `json:"closed_by"`
	CloseSourceBranch bool              `json:"close_source_branch"`
	CreatedOn         time.Time         `json:"created_on"`
	UpdatedOn         time.Time         `json:"updated_on"`
	Links             struct {
		HTML wireLink `json:"html"`
	} `json:"links"`
}

type wireParticipant struct {
	User           *wireUser  `json:"user"`
	Role           string     `json:"role"`
	Approved       bool       `json:"approved"`
	State          string     `json:"state"`
	ParticipatedOn *time.Time `json:"participated_on"`
}

func (w wirePullRequest) pullRequest() (PullRequest, error) {
	if w.ID <= 0 || w.State == "" {
		return PullRequest{}, errors.New("a pull request has no number or no state")
	}
	p := PullRequest{
		ID: w.ID, State: w.State, Draft: w.Draft, Title: w.Title, Description: w.Description,
		CloseSourceBranch: w.CloseSourceBranch, CreatedOn: w.CreatedOn, UpdatedOn: w.UpdatedOn,
		HTMLURL: w.Links.HTML.Href,
	}
	var err error
	if p.Source, err = w.Source.endpoint(); err != nil {
		return PullRequest{}, fmt.Errorf("source: %w", err)
	}
	if p.Destination, err = w.Destination.endpoint(); err != nil {
		return PullRequest{}, fmt.Errorf("destination: %w", err)
	}
	if w.Author != nil {
		p.Author = w.Author.user()
	}
	if w.ClosedBy != nil {
		user := w.ClosedBy.user()
		p.ClosedBy = &user
	}
	if w.MergeCommit != nil && w.MergeCommit.Hash != "" {
		if !isHashPrefix(w.MergeCommit.Hash) {
			return PullRequest{}, errors.New("the merge commit is not a commit hash")
		}
		p.MergeCommit = &w.MergeCommit.Hash
	}
	for _, one := range w.Participants {
		if one.User == nil {
			continue // the account is gone
		}
		participant := Participant{User: one.User.user(), Role: one.Role, Approved: one.Approved, State: one.State}
		if one.ParticipatedOn != nil {
			participant.ParticipatedOn = *one.ParticipatedOn
		}
		p.Participants = append(p.Participants, participant)
	}
	return p, nil
}

func (w wireEndpoint) endpoint() (Endpoint, error) {
	e := Endpoint{
		Branch: w.Branch.Name, MergeStrategies: w.Branch.MergeStrategies,
		DefaultMergeStrategy: w.Branch.DefaultMergeStrategy,
	}
	if w.Commit != nil && w.Commit.Hash != "" {
		if !isHashPrefix(w.Commit.Hash) {
			return Endpoint{}, errors.New("the commit is not a commit hash")
		}
		e.CommitPrefix = w.Commit.Hash
	}
	if w.Repository != nil {
		repo, err := w.Repository.repository()
		if err != nil {
			return Endpoint{}, err
		}
		e.Repository = &repo
	}
	return e, nil
}
