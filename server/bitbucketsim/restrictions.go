package bitbucketsim

import (
	"regexp"
	"slices"
	"strings"
)

// restrictionKinds are the kinds of branch restriction and whether each needs a Premium workspace.
var restrictionKinds = map[string]bool{
	"push": false, "force": false, "delete": false, "restrict_merges": false,
	"require_tasks_to_be_completed": false, "require_approvals_to_merge": false,
	"require_review_group_approvals_to_merge": false, "require_default_reviewer_approvals_to_merge": false,
	"require_no_changes_requested": false, "require_passing_builds_to_merge": false,
	"require_commits_behind": false, "reset_pullrequest_approvals_on_change": true,
	"smart_reset_pullrequest_approvals": true, "reset_pullrequest_changes_requested_on_change": false,
	"require_all_dependencies_merged": false, "enforce_merge_checks": true,
	"allow_auto_merge_when_builds_pass": true, "require_all_comments_resolved": false,
}

// restriction is one branch restriction of a repository.
type restriction struct {
	id                  int
	kind, matchKind     string
	pattern, branchType string
	value               int
	hasValue            bool
	users               []*person
	groups              []any // as they were given; the Sim keeps no groups
	repository          *repository
}

// exempts tells whether p may do what the restriction forbids to others.
func (b *restriction) exempts(p *person) bool { return slices.Contains(b.users, p) }

// matches tells whether the restriction applies to a branch.
func (b *restriction) matches(branch string) bool {
	if b.matchKind == "branching_model" {
		return branchType(b.repository, branch) == b.branchType
	}
	return globMatches(b.pattern, branch)
}

// globMatches matches a branch against a pattern in which * stands for anything.
func globMatches(pattern, branch string) bool {
	parts := strings.Split(pattern, "*")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile(`^` + strings.Join(parts, `.*`) + `$`).MatchString(branch)
}

// branchType places a branch in Bitbucket's default branching model.
func branchType(r *repository, branch string) string {
	if branch == r.mainBranch {
		return "development"
	}
	if branch == "production" {
		return "production"
	}
	kind, _, prefixed := strings.Cut(branch, "/")
	if prefixed && slices.Contains([]string{"feature", "bugfix", "release", "hotfix"}, kind) {
		return kind
	}
	return ""
}

// restrictionsOn lists the restrictions that apply to a branch.
func (r *repository) restrictionsOn(branch string) []*restriction {
	var out []*restriction
	for _, b := range r.restrictions {
		if b.matches(branch) {
			out = append(out, b)
		}
	}
	return out
}
