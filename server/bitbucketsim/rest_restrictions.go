package bitbucketsim

import (
	"net/http"
	"slices"
	"strconv"
)

func (s *Sim) listRestrictions(c *call) (*answer, error) {
	r, err := s.callRepository(c, PermissionAdmin)
	if err != nil {
		return nil, err
	}
	var items []object
	for _, b := range r.restrictions {
		if (c.query.Has("kind") && c.query.Get("kind") != b.kind) ||
			(c.query.Has("pattern") && c.query.Get("pattern") != b.pattern) {
			continue
		}
		items = append(items, s.renderRestriction(b))
	}
	return s.list(c, standardListing, items)
}

func (s *Sim) callRestriction(c *call) (*repository, *restriction, error) {
	r, err := s.callRepository(c, PermissionAdmin)
	if err != nil {
		return nil, nil, err
	}
	id, err := strconv.Atoi(c.r.PathValue("restriction"))
	if err == nil {
		for _, b := range r.restrictions {
			if b.id == id {
				return r, b, nil
			}
		}
	}
	return nil, nil, notFound("There is no such branch restriction.")
}

type restrictionInput struct {
	Kind       *string `json:"kind"`
	MatchKind  *string `json:"branch_match_kind"`
	Pattern    *string `json:"pattern"`
	BranchType *string `json:"branch_type"`
	Value      *int    `json:"value"`
	Users      *[]struct {
		UUID      string `json:"uuid"`
		AccountID string `json:"account_id"`
	} `json:"users"`
	Groups *[]any `json:"groups"`
}

// valueKinds are the kinds that carry a number.
var valueKinds = []string{
	"require_approvals_to_merge", "require_default_reviewer_approvals_to_merge",
	"require_review_group_approvals_to_merge", "require_passing_builds_to_merge", "require_commits_behind",
}

func (s *Sim) applyRestriction(in *restrictionInput, b *restriction) error {
	if in.Kind != nil {
		b.kind = *in.Kind
	}
	if in.MatchKind != nil {
		b.matchKind = *in.MatchKind
	}
	if in.Pattern != nil {
		b.pattern = *in.Pattern
	}
	if in.BranchType != nil {
		b.branchType = *in.BranchType
	}
	if in.Value != nil {
		b.value, b.hasValue = *in.Value, true
	}
	if in.Groups != nil {
		b.groups = *in.Groups
	}
	if in.Users != nil {
		b.users = nil
		for _, u := range *in.Users {
			ref := u.UUID
			if ref == "" {
				ref = u.AccountID
			}
			p, err := s.person(ref)
			if err != nil {
				return fieldError("users", "There is no such user.")
			}
			b.users = append(b.users, p)
		}
	}
	premium, known := restrictionKinds[b.kind]
	switch {
	case !known:
		return fieldError("kind", "Invalid kind: "+b.kind)
	case premium && !b.repository.workspace.premium:
		return forbidden("This branch restriction requires a Premium plan.")
	case b.matchKind != "glob" && b.matchKind != "branching_model":
		return fieldError("branch_match_kind", "Invalid match kind: "+b.matchKind)
	case b.matchKind == "glob" && b.pattern == "":
		return fieldError("pattern", "This field is required.")
	case b.matchKind == "branching_model" && b.branchType == "":
		return fieldError("branch_type", "This field is required.")
	case b.matchKind == "branching_model" && b.pattern != "":
		return fieldError("pattern", "Must be empty when branch_match_kind is branching_model.")
	case slices.Contains(valueKinds, b.kind) && !b.hasValue:
		return fieldError("value", "This field is required.")
	case b.value < 0:
		return fieldError("value", "Must not be negative.")
	}
	for _, x := range b.repository.restrictions {
		if x.id != b.id && x.kind == b.kind && x.matchKind == b.matchKind && x.pattern == b.pattern && x.branchType == b.branchType {
			return &apiError{status: http.StatusConflict, message: "A branch restriction of this kind for this pattern exists already."}
		}
	}
	return nil
}

func (s *Sim) createRestriction(c *call) (*answer, error) {
	r, err := s.callRepository(c, PermissionAdmin)
	if err != nil {
		return nil, err
	}
	var in restrictionInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	b := &restriction{id: s.id(), matchKind: "glob", repository: r}
	if err := s.applyRestriction(&in, b); err != nil {
		return nil, err
	}
	r.restrictions = append(r.restrictions, b)
	return &answer{status: http.StatusCreated, body: s.renderRestriction(b)}, nil
}

func (s *Sim) getRestriction(c *call) (*answer, error) {
	_, b, err := s.callRestriction(c)
	if err != nil {
		return nil, err
	}
	return &answer{body: s.renderRestriction(b)}, nil
}

func (s *Sim) updateRestriction(c *call) (*answer, error) {
	_, b, err := s.callRestriction(c)
	if err != nil {
		return nil, err
	}
	var in restrictionInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	changed := *b
	if err := s.applyRestriction(&in, &changed); err != nil {
		return nil, err
	}
	*b = changed
	return &answer{body: s.renderRestriction(b)}, nil
}

func (s *Sim) deleteRestriction(c *call) (*answer, error) {
	r, b, err := s.callRestriction(c)
	if err != nil {
		return nil, err
	}
	r.restrictions = slices.DeleteFunc(r.restrictions, func(x *restriction) bool { return x == b })
	return &answer{status: http.StatusNoContent}, nil
}
