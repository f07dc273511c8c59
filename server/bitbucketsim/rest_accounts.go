package bitbucketsim

import (
	"net/http"
	"strconv"
)

func (s *Sim) getUser(c *call) (*answer, error) { return &answer{body: s.renderAccount(c.person)}, nil }

func (s *Sim) getOtherUser(c *call) (*answer, error) {
	p, err := s.person(c.r.PathValue("user"))
	if err != nil {
		return nil, notFound(c.r.PathValue("user") + " is not a user.")
	}
	return &answer{body: s.renderPerson(p)}, nil
}

func (s *Sim) listEmails(c *call) (*answer, error) {
	if c.person.email == "" {
		return s.list(c, standardListing, nil)
	}
	return s.list(c, standardListing, []object{{
		"type": "email", "email": c.person.email, "is_primary": true, "is_confirmed": true,
		"links": object{"self": link(s.api("/user/emails/%s", c.person.email))},
	}})
}

// removedResource answers for the calls across workspaces that Bitbucket took away in 2026.
func (s *Sim) removedResource(*call) (*answer, error) {
	return nil, &apiError{status: http.StatusGone, message: "This API has been removed. Use the workspace-scoped replacement."}
}

func (s *Sim) listUserWorkspaces(c *call) (*answer, error) {
	var items []object
	for _, w := range s.workspaces {
		role := w.role(c.person)
		if role == "" || !c.grant.admits(w) {
			continue
		}
		if wanted, err := strconv.ParseBool(c.query.Get("administrator")); err == nil && wanted != (role == RoleOwner) {
			continue
		}
		items = append(items, object{
			"type": "workspace_access", "administrator": role == RoleOwner,
			"workspace": object{
				"type": "workspace_base", "uuid": w.uuid, "slug": w.slug,
				"links": object{
					"self":   link(s.api("/workspaces/%s", w.slug)),
					"avatar": link(s.page("/workspaces/%s/avatar/", w.slug)),
				},
			},
			hiddenFields: object{"slug": w.slug},
		})
	}
	return s.list(c, listing{pagelen: 25, most: 100}, items)
}

func (s *Sim) getUserPermission(c *call) (*answer, error) {
	w, err := s.callWorkspace(c)
	if err != nil {
		return nil, err
	}
	return &answer{body: s.renderMembership(w, c.person, true)}, nil
}

func (s *Sim) listUserRepositoryPermissions(c *call) (*answer, error) {
	w, err := s.callWorkspace(c)
	if err != nil {
		return nil, err
	}
	var items []object
	for _, r := range w.repositories {
		if r.permissions[c.person] != "" || w.members[c.person] == RoleOwner {
			items = append(items, s.renderPermission(r, c.person))
		}
	}
	return s.list(c, standardListing, items)
}

func (s *Sim) getWorkspace(c *call) (*answer, error) {
	w, err := s.callWorkspace(c)
	if err != nil {
		return nil, err
	}
	return &answer{body: s.renderWorkspace(w, shapeSelf)}, nil
}

// memberItems lists the members in the order in which the accounts were made. An e-mail address can be asked
// for, but is not shown.
func (s *Sim) memberItems(w *workspace, withPermission bool) []object {
	var items []object
	for _, p := range s.people {
		if w.members[p] == "" {
			continue
		}
		it := s.renderMembership(w, p, withPermission)
		it[hiddenFields] = object{"user.email": p.email, "permission": w.members[p]}
		items = append(items, it)
	}
	return items
}

func (s *Sim) listMembers(c *call) (*answer, error) {
	w, err := s.callWorkspace(c)
	if err != nil {
		return nil, err
	}
	return s.list(c, listing{pagelen: 50, most: 100}, s.memberItems(w, false))
}

func (s *Sim) getMember(c *call) (*answer, error) {
	w, err := s.callWorkspace(c)
	if err != nil {
		return nil, err
	}
	p, err := s.person(c.r.PathValue("user"))
	if err != nil || w.members[p] == "" {
		return nil, notFound("The user is not a member of this workspace.")
	}
	return &answer{body: s.renderMembership(w, p, false)}, nil
}

func (s *Sim) listMemberPermissions(c *call) (*answer, error) {
	w, err := s.callWorkspace(c)
	if err != nil {
		return nil, err
	}
	return s.list(c, listing{pagelen: 50, most: 100}, s.memberItems(w, true))
}

// listRepositoryPermissions shows the effective permission of everybody who has one.
func (s *Sim) listRepositoryPermissions(c *call) (*answer, error) {
	r, err := s.callRepository(c, PermissionAdmin)
	if err != nil {
		return nil, err
	}
	var items []object
	for _, p := range s.people {
		if r.permissions[p] != "" || r.workspace.members[p] == RoleOwner {
			items = append(items, s.renderPermission(r, p))
		}
	}
	return s.list(c, standardListing, items)
}

func (s *Sim) renderExplicitPermission(r *repository, p *person) object {
	return object{
		"type": "repository_user_permission", "permission": r.permissions[p], "user": s.renderPerson(p),
		"repository": s.renderRepository(r, shapeEmbedded),
		"links":      object{"self": link(s.repositoryAPI(r) + "/permissions-config/users/" + escaped(p.uuid))},
	}
}

func (s *Sim) listExplicitPermissions(c *call) (*answer, error) {
	r, err := s.callRepository(c, PermissionAdmin)
	if err != nil {
		return nil, err
	}
	var items []object
	for _, p := range s.people {
		if r.permissions[p] != "" {
			items = append(items, s.renderExplicitPermission(r, p))
		}
	}
	return s.list(c, standardListing, items)
}

func (s *Sim) getExplicitPermission(c *call) (*answer, error) {
	r, err := s.callRepository(c, PermissionAdmin)
	if err != nil {
		return nil, err
	}
	p, err := s.person(c.r.PathValue("user"))
	if err != nil || r.permissions[p] == "" {
		return nil, notFound("The user has no explicit permission for this repository.")
	}
	return &answer{body: s.renderExplicitPermission(r, p)}, nil
}
