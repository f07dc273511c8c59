package bitbucket

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// RestrictionKind is what a branch restriction restricts. Bitbucket has more
// kinds than are named here; any string is passed on as it is.
type RestrictionKind string

// The kinds that matter to a merge gate.
const (
	RestrictPush           RestrictionKind = "push"
	RestrictForce          RestrictionKind = "force"
	RestrictDelete         RestrictionKind = "delete"
	RestrictMerges         RestrictionKind = "restrict_merges"
	RequirePassingBuilds   RestrictionKind = "require_passing_builds_to_merge"
	EnforceMergeChecks     RestrictionKind = "enforce_merge_checks"
	AllowAutoMerge         RestrictionKind = "allow_auto_merge_when_builds_pass"
	ResetApprovalsOnChange RestrictionKind = "reset_pullrequest_approvals_on_change"

	RequireApprovals                RestrictionKind = "require_approvals_to_merge"
	RequireDefaultReviewerApprovals RestrictionKind = "require_default_reviewer_approvals_to_merge"
	RequireReviewGroupApprovals     RestrictionKind = "require_review_group_approvals_to_merge"
	RequireNoChangesRequested       RestrictionKind = "require_no_changes_requested"
	RequireTasksCompleted           RestrictionKind = "require_tasks_to_be_completed"
	RequireCommentsResolved         RestrictionKind = "require_all_comments_resolved"
	RequireCommitsBehind            RestrictionKind = "require_commits_behind"
	RequireDependenciesMerged       RestrictionKind = "require_all_dependencies_merged"
)

// The ways in which a restriction finds its branches.
const (
	MatchGlob           = "glob"
	MatchBranchingModel = "branching_model"
)

// BranchRestriction is a rule of a repository about some of its branches. The
// pair of Kind and match is unique.
type BranchRestriction struct {
	// ID is given by Bitbucket; 0 in a restriction to create.
	ID   int64
	Kind RestrictionKind
	// MatchKind is MatchGlob, with Pattern, or MatchBranchingModel, with BranchType.
	MatchKind string
	// Pattern is Bitbucket's glob: "*" stands for any characters, slashes too.
	Pattern    string
	BranchType string
	// Value is the number that some kinds need, such as how many builds; nil if none.
	Value *int
	// Users and Groups are exempt; for RestrictPush and RestrictMerges only, where
	// both empty means nobody. Users are identified by UUID, groups by slug.
	Users  []User
	Groups []Group
}

// AppliesTo says whether the restriction can be about a branch; it is meant for
// callers that look for what stands in their way, so where it cannot be told the
// answer is yes. That is so for MatchBranchingModel, whose branch types are known
// only to those who read the repository's branching model, and for the wildcards
// that Bitbucket's documentation does not explain: from the first of them on a
// pattern counts as "anything". Letters are compared in their case.
func (r BranchRestriction) AppliesTo(branch string) bool {
	if r.MatchKind != MatchGlob {
		return true
	}
	pattern := r.Pattern
	if i := strings.IndexAny(pattern, `?[{\`); i >= 0 {
		pattern = pattern[:i] + "*"
	}
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return branch == pattern
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(branch) < len(first)+len(last) || !strings.HasPrefix(branch, first) || !strings.HasSuffix(branch, last) {
		return false
	}
	rest := branch[len(first) : len(branch)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		_, after, found := strings.Cut(rest, part)
		if !found {
			return false
		}
		rest = after
	}
	return true
}

// Group is a group of people in a workspace.
type Group struct {
	Slug string
	Name string
}

// BranchRestrictions lists the restrictions of a repository.
// Scope: repository:admin.
func (c *Client) BranchRestrictions(ctx context.Context, workspace, repo string) iter.Seq2[BranchRestriction, error] {
	return pages(ctx, c, "list branch restrictions", url.Values{"pagelen": {pageLen}}, wireRestriction.restriction,
		repository(workspace, repo, "branch-restrictions")...)
}

// CreateBranchRestriction creates a restriction; its ID is ignored.
// Scope: repository:admin.
func (c *Client) CreateBranchRestriction(ctx context.Context, workspace, repo string, restriction BranchRestriction) (BranchRestriction, error) {
	return c.writeRestriction(ctx, "create branch restriction", http.MethodPost, restriction,
		repository(workspace, repo, "branch-restrictions"))
}

// UpdateBranchRestriction sets the restriction with this ID anew. NotFound means
// that somebody deleted it. Scope: repository:admin.
func (c *Client) UpdateBranchRestriction(ctx context.Context, workspace, repo string, restriction BranchRestriction) (BranchRestriction, error) {
	const op = "update branch restriction"
	if restriction.ID <= 0 {
		return BranchRestriction{}, invalid(op, "the restriction has no id")
	}
	return c.writeRestriction(ctx, op, http.MethodPut, restriction,
		repository(workspace, repo, "branch-restrictions", strconv.FormatInt(restriction.ID, 10)))
}

func (c *Client) writeRestriction(ctx context.Context, op, method string, restriction BranchRestriction, segments []string) (BranchRestriction, error) {
	body, err := restriction.wire(op)
	if err != nil {
		return BranchRestriction{}, err
	}
	wire, err := send[wireRestriction](ctx, c, op, method, body, nil, segments...)
	if err != nil {
		return BranchRestriction{}, err
	}
	stored, err := wire.restriction()
	if err != nil {
		return BranchRestriction{}, c.fail(op, err)
	}
	return stored, nil
}

// DeleteBranchRestriction deletes a restriction. One that does not exist is a
// success. Scope: repository:admin.
func (c *Client) DeleteBranchRestriction(ctx context.Context, workspace, repo string, id int64) error {
	return c.remove(ctx, "delete branch restriction",
		repository(workspace, repo, "branch-restrictions", strconv.FormatInt(id, 10)))
}

type wireGroup struct {
	Type string `json:"type,omitempty"`
	Slug string `json:"slug"`
	Name string `json:"name,omitempty"`
}

type wireRestriction struct {
	ID         int64           `json:"id"`
	Kind       RestrictionKind `json:"kind"`
	MatchKind  string          `json:"branch_match_kind"`
	Pattern    string          `json:"pattern"`
	BranchType string          `json:"branch_type"`
	Value      *int            `json:"value"`
	Users      []wireUser      `json:"users"`
	Groups     []wireGroup     `json:"groups"`
}

func (w wireRestriction) restriction() (BranchRestriction, error) {
	if w.ID <= 0 || w.Kind == "" {
		return BranchRestriction{}, errors.New("a branch restriction has no id or no kind")
	}
	r := BranchRestriction{
		ID: w.ID, Kind: w.Kind, MatchKind: w.MatchKind, Pattern: w.Pattern,
		BranchType: w.BranchType, Value: w.Value,
	}
	if r.MatchKind == "" {
		r.MatchKind = MatchGlob // answers from before branching models
	}
	for _, user := range w.Users {
		r.Users = append(r.Users, user.user())
	}
	for _, group := range w.Groups {
		r.Groups = append(r.Groups, Group{Slug: group.Slug, Name: group.Name})
	}
	return r, nil
}

// restrictionBody is a restriction as it is written.
type restrictionBody struct {
	Type       string          `json:"type"`
	Kind       RestrictionKind `json:"kind"`
	MatchKind  string          `json:"branch_match_kind"`
	Pattern    string          `json:"pattern"`
	BranchType string          `json:"branch_type,omitempty"`
	Value      *int            `json:"value,omitempty"`
	Users      *[]userBody     `json:"users,omitempty"`
	Groups     *[]wireGroup    `json:"groups,omitempty"`
}

type userBody struct {
	Type string `json:"type"`
	UUID string `json:"uuid"`
}

func (r BranchRestriction) wire(op string) (restrictionBody, error) {
	switch {
	case r.Kind == "":
		return restrictionBody{}, invalid(op, "a branch restriction needs a kind")
	case r.MatchKind == MatchGlob && r.Pattern == "":
		return restrictionBody{}, invalid(op, "a glob restriction needs a pattern")
	case r.MatchKind == MatchBranchingModel && r.BranchType == "":
		return restrictionBody{}, invalid(op, "a branching model restriction needs a branch type")
	case r.MatchKind != MatchGlob && r.MatchKind != MatchBranchingModel:
		return restrictionBody{}, invalid(op, "%q is not a way to match branches", r.MatchKind)
	}
	body := restrictionBody{
		Type: "branchrestriction", Kind: r.Kind, MatchKind: r.MatchKind,
		Pattern: r.Pattern, BranchType: r.BranchType, Value: r.Value,
	}
	if r.Kind == RestrictPush || r.Kind == RestrictMerges {
		users, groups := []userBody{}, []wireGroup{}
		for _, user := range r.Users {
			if _, ok := BareUUID(user.UUID); !ok {
				return restrictionBody{}, invalid(op, "an exempt user has no UUID")
			}
			users = append(users, userBody{Type: "user", UUID: BracedUUID(user.UUID)})
		}
		for _, group := range r.Groups {
			groups = append(groups, wireGroup{Type: "group", Slug: group.Slug})
		}
		body.Users, body.Groups = &users, &groups
	}
	return body, nil
}
