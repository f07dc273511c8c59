package bitbucketsim

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Roles in a workspace and permissions on a repository.
const (
	RoleOwner       = "owner"
	RoleMember      = "member"
	PermissionRead  = "read"
	PermissionWrite = "write"
	PermissionAdmin = "admin"
)

var permissionRank = map[string]int{"": 0, PermissionRead: 1, PermissionWrite: 2, PermissionAdmin: 3}

// ErrNotFound is returned where a person, workspace, repository, pull request or consumer does not exist.
var ErrNotFound = errors.New("not found")

type person struct {
	accountID, uuid, nickname, displayName, email string
	appKind                                       string               // for an app user: what kind of app
	forge                                         []*forgeInstallation // whose own account this is
	created                                       time.Time
}

type workspace struct {
	uuid, slug, name, projectKey, projectUUID string
	premium                                   bool
	members                                   map[*person]string // role
	repositories                              []*repository
	hooks                                     []*hook
	customChecks                              bool          // custom merge checks are enabled
	checks                                    []*forgeCheck // of all levels
	created                                   time.Time
}

// role is the role of p. The account of an installed Forge app counts as a member.
func (w *workspace) role(p *person) string {
	if w.serves(p) {
		return RoleMember
	}
	return w.members[p]
}

type repository struct {
	uuid, slug, name, description string
	workspace                     *workspace
	parent                        *repository // of a fork
	private                       bool
	mainBranch                    string
	strategies                    []string
	objects                       *objects
	branches                      map[string]string // tip
	pushed                        map[string]bool   // hashes that were ever reachable from a branch
	permissions                   map[*person]string
	hooks                         []*hook
	restrictions                  []*restriction
	pullRequests                  []*pullRequest
	statuses                      []*commitStatus
	created, updated              time.Time
	gone                          bool // deleted; pull requests of others may still point here
}

func (r *repository) fullName() string { return r.workspace.slug + "/" + r.slug }

// permission is the effective permission of p: the highest of what the workspace and the repository give. What
// the account of an installed Forge app may do is a matter of the scopes of its token.
func (r *repository) permission(p *person) string {
	if r.workspace.serves(p) {
		return PermissionAdmin
	}
	if p != nil && r.workspace.members[p] == RoleOwner {
		return PermissionAdmin
	}
	if given := r.permissions[p]; given != "" {
		return given
	}
	if !r.private {
		return PermissionRead
	}
	return ""
}

func (r *repository) may(p *person, least string) bool {
	return permissionRank[r.permission(p)] >= permissionRank[least]
}

// Person is one Atlassian account. AccountID and UUID are made where they are left empty.
type Person struct {
	// Nickname is the short name by which the control door and the Go methods refer to the person.
	Nickname    string `json:"nickname"`
	DisplayName string `json:"display_name"`
	Email       string `json:"email"`
	AccountID   string `json:"account_id"`
	UUID        string `json:"uuid"` // in braces
}

// AddPerson creates an account. The nickname must be new.
func (s *Sim) AddPerson(spec Person) (Person, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if spec.Nickname == "" {
		return Person{}, errors.New("a person needs a nickname")
	}
	if _, err := s.person(spec.Nickname); err == nil {
		return Person{}, fmt.Errorf("there is a person called %q already", spec.Nickname)
	}
	if spec.UUID == "" {
		spec.UUID = newUUID()
	}
	if spec.AccountID == "" {
		spec.AccountID = "557058:" + bareUUID()
	}
	if spec.DisplayName == "" {
		spec.DisplayName = strings.ToUpper(spec.Nickname[:1]) + spec.Nickname[1:]
	}
	if spec.Email == "" {
		spec.Email = spec.Nickname + "@example.com"
	}
	p := &person{
		accountID: spec.AccountID, uuid: spec.UUID, nickname: spec.Nickname, displayName: spec.DisplayName,
		email: spec.Email, created: s.now(),
	}
	s.people = append(s.people, p)
	return spec, nil
}

// person finds an account by nickname, account id or UUID.
func (s *Sim) person(ref string) (*person, error) {
	for _, p := range s.people {
		if ref != "" && (p.nickname == ref || p.accountID == ref || p.uuid == ref) {
			return p, nil
		}
	}
	return nil, fmt.Errorf("person %q: %w", ref, ErrNotFound)
}

// Workspace describes a workspace to create.
type Workspace struct {
	Slug string `json:"slug"`
	Name string `json:"name"` // the slug where left empty
	UUID string `json:"uuid"` // made where left empty
	// Premium workspaces may enforce merge checks; in others unresolved checks only warn.
	Premium bool     `json:"premium"`
	Owners  []string `json:"owners"`  // nicknames
	Members []string `json:"members"` // nicknames
}

var slugPattern = regexp.MustCompile(`^[a-z0-9_][a-z0-9_.-]*$`)

// AddWorkspace creates a workspace.
func (s *Sim) AddWorkspace(spec Workspace) (Workspace, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slugPattern.MatchString(spec.Slug) {
		return Workspace{}, fmt.Errorf("%q is no slug", spec.Slug)
	}
	if _, err := s.workspace(spec.Slug); err == nil {
		return Workspace{}, fmt.Errorf("there is a workspace %q already", spec.Slug)
	}
	if spec.Name == "" {
		spec.Name = spec.Slug
	}
	if spec.UUID == "" {
		spec.UUID = newUUID()
	}
	w := &workspace{
		uuid: spec.UUID, slug: spec.Slug, name: spec.Name, premium: spec.Premium, created: s.now(),
		members: map[*person]string{}, projectKey: "PROJ", projectUUID: newUUID(),
	}
	for role, names := range map[string][]string{RoleMember: spec.Members, RoleOwner: spec.Owners} {
		for _, n := range names {
			p, err := s.person(n)
			if err != nil {
				return Workspace{}, err
			}
			if w.members[p] != RoleOwner {
				w.members[p] = role
			}
		}
	}
	s.workspaces = append(s.workspaces, w)
	return spec, nil
}

// workspace finds a workspace by slug or UUID.
func (s *Sim) workspace(ref string) (*workspace, error) {
	for _, w := range s.workspaces {
		if w.slug == ref || w.uuid == ref {
			return w, nil
		}
	}
	return nil, fmt.Errorf("workspace %q: %w", ref, ErrNotFound)
}

// Membership sets the role of a person in a workspace.
type Membership struct {
	Workspace string `json:"workspace"`
	Person    string `json:"person"`
	Role      string `json:"role"` // owner, member, or empty to remove the person
}

// SetMembership changes who belongs to a workspace. Removing a person takes their repository permissions there
// as well.
func (s *Sim) SetMembership(m Membership) (Membership, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, err := s.workspace(m.Workspace)
	if err != nil {
		return m, err
	}
	p, err := s.person(m.Person)
	if err != nil {
		return m, err
	}
	switch m.Role {
	case RoleOwner, RoleMember:
		w.members[p] = m.Role
	case "":
		delete(w.members, p)
		for _, r := range w.repositories {
			delete(r.permissions, p)
		}
	default:
		return m, fmt.Errorf("%q is no role", m.Role)
	}
	return m, nil
}

// Plan switches a workspace's plan.
type Plan struct {
	Workspace string `json:"workspace"`
	Premium   bool   `json:"premium"`
}

// SetPlan makes a workspace Premium or not.
func (s *Sim) SetPlan(plan Plan) (Plan, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, err := s.workspace(plan.Workspace)
	if err == nil {
		w.premium = plan.Premium
	}
	return plan, err
}

// Repository describes a repository to create.
type Repository struct {
	Workspace   string `json:"workspace"`
	Slug        string `json:"slug"`
	Name        string `json:"name"` // the slug where left empty
	UUID        string `json:"uuid"` // made where left empty
	Description string `json:"description"`
	Public      bool   `json:"public"`
	// MainBranch is "main" where left empty.
	MainBranch string `json:"main_branch"`
	// MergeStrategies are those that branches offer; all three where left empty.
	MergeStrategies []string `json:"merge_strategies"`
	// Permissions are by nickname: read, write or admin. Owners of the workspace are administrators anyway.
	Permissions map[string]string `json:"permissions"`
	// Files make the first commit on the main branch; without files there is a README.
	Files map[string]string `json:"files"`
	// Author of the first commit: a nickname; the first owner of the workspace where left empty.
	Author string `json:"author"`
	// ForkOf is the full name ("workspace/slug") of the repository that this one is a fork of. A fork starts
	// with its parent's branches and makes no first commit.
	ForkOf string `json:"fork_of"`
}

// AddRepository creates a repository with its first commit.
func (s *Sim) AddRepository(spec Repository) (Repository, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, err := s.workspace(spec.Workspace)
	if err != nil {
		return Repository{}, err
	}
	if !slugPattern.MatchString(spec.Slug) {
		return Repository{}, fmt.Errorf("%q is no slug", spec.Slug)
	}
	if _, err := s.repository(w.slug, spec.Slug); err == nil {
		return Repository{}, fmt.Errorf("there is a repository %s/%s already", w.slug, spec.Slug)
	}
	if spec.Name == "" {
		spec.Name = spec.Slug
	}
	if spec.UUID == "" {
		spec.UUID = newUUID()
	}
	if spec.MainBranch == "" {
		spec.MainBranch = "main"
	}
	if len(spec.MergeStrategies) == 0 {
		spec.MergeStrategies = []string{strategyMergeCommit, strategySquash, strategyFastForward}
	}
	r := &repository{
		uuid: spec.UUID, slug: spec.Slug, name: spec.Name, description: spec.Description, workspace: w,
		private: !spec.Public, mainBranch: spec.MainBranch, strategies: spec.MergeStrategies,
		objects: newObjects(), branches: map[string]string{}, pushed: map[string]bool{},
		permissions: map[*person]string{},
		created:     s.now(), updated: s.now(),
	}
	for n, level := range spec.Permissions {
		p, err := s.person(n)
		if err != nil {
			return Repository{}, err
		}
		if permissionRank[level] == 0 {
			return Repository{}, fmt.Errorf("%q is no permission", level)
		}
		r.permissions[p] = level
	}
	if spec.ForkOf != "" {
		parent, err := s.repositoryByName(spec.ForkOf)
		if err != nil {
			return Repository{}, err
		}
		r.parent, r.objects, r.branches, r.mainBranch = parent, parent.objects, maps.Clone(parent.branches), parent.mainBranch
	} else {
		author, err := s.firstAuthor(w, spec.Author)
		if err != nil {
			return Repository{}, err
		}
		files := spec.Files
		if len(files) == 0 {
			files = map[string]string{"README.md": "# " + spec.Name + "\n"}
		}
		tree := snapshot{}
		for path, content := range files {
			if err := checkPath(path); err != nil {
				return Repository{}, err
			}
			tree[path] = entry{modeFile, r.objects.putBlob([]byte(content))}
		}
		r.branches[r.mainBranch] = r.objects.putCommit(tree, nil, author.signature(s.now()), "Initial commit").hash
	}
	for _, tip := range r.branches {
		r.remember(tip)
	}
	w.repositories = append(w.repositories, r)
	s.emitRepository(r, "avi:bitbucket:created:repository", r.creator(s, spec.Author), nil)
	return spec, nil
}

// creator is who made the repository: the author of the first commit, or an owner of the workspace.
func (r *repository) creator(s *Sim, nickname string) *person {
	p, err := s.firstAuthor(r.workspace, nickname)
	if err != nil {
		return nil
	}
	return p
}

// remember notes that a commit and its ancestors were pushed here. Forks share their objects, but a commit of
// a fork does not exist in its parent until it is merged.
func (r *repository) remember(tip string) { maps.Copy(r.pushed, r.objects.ancestors(tip)) }

func (s *Sim) firstAuthor(w *workspace, nickname string) (*person, error) {
	if nickname != "" {
		return s.person(nickname)
	}
	for _, p := range s.people {
		if w.members[p] == RoleOwner {
			return p, nil
		}
	}
	return nil, fmt.Errorf("workspace %s has no owner to write the first commit; name an author", w.slug)
}

func (p *person) signature(at time.Time) signature { return signature{p.displayName, p.email, at} }

func checkPath(path string) error {
	if path == "" || strings.HasPrefix(path, "/") || strings.HasSuffix(path, "/") ||
		slices.ContainsFunc(strings.Split(path, "/"), func(part string) bool {
			return part == "" || part == "." || part == ".." || part == ".git"
		}) {
		return fmt.Errorf("%q is no path of a file", path)
	}
	return nil
}

// repository finds a repository; both references may be slugs or UUIDs.
func (s *Sim) repository(workspaceRef, ref string) (*repository, error) {
	for _, w := range s.workspaces {
		if w.slug != workspaceRef && w.uuid != workspaceRef {
			continue
		}
		for _, r := range w.repositories {
			if r.slug == ref || r.uuid == ref {
				return r, nil
			}
		}
	}
	return nil, fmt.Errorf("repository %s/%s: %w", workspaceRef, ref, ErrNotFound)
}

func (s *Sim) repositoryByName(fullName string) (*repository, error) {
	ws, slug, _ := strings.Cut(fullName, "/")
	return s.repository(ws, slug)
}

// Permission sets what a person may do with a repository.
type Permission struct {
	Repository string `json:"repository"` // full name
	Person     string `json:"person"`
	Level      string `json:"level"` // read, write, admin, or empty to take it away
}

// SetPermission changes an explicit repository permission.
func (s *Sim) SetPermission(spec Permission) (Permission, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.repositoryByName(spec.Repository)
	if err != nil {
		return spec, err
	}
	p, err := s.person(spec.Person)
	if err != nil {
		return spec, err
	}
	if _, known := permissionRank[spec.Level]; !known {
		return spec, fmt.Errorf("%q is no permission", spec.Level)
	}
	if spec.Level == "" {
		delete(r.permissions, p)
	} else {
		r.permissions[p] = spec.Level
	}
	return spec, nil
}

// Rename gives a repository another name, and with it another slug, or moves it to another workspace.
type Rename struct {
	Repository string `json:"repository"` // full name
	Person     string `json:"person"`     // who does it
	Slug       string `json:"slug"`
	// Description replaces the description where it is not empty.
	Description string `json:"description"`
	Workspace   string `json:"workspace"` // the new owner, for a transfer
}

// RenameRepository renames or transfers a repository and sends repo:updated or repo:transfer.
func (s *Sim) RenameRepository(spec Rename) (Rename, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.repositoryByName(spec.Repository)
	if err != nil {
		return spec, err
	}
	p, err := s.person(spec.Person)
	if err != nil {
		return spec, err
	}
	oldName, oldFull, oldOwner, oldDescription := r.name, r.fullName(), r.workspace, r.description
	oldLinks := s.repositoryLinks(r)
	to := r.workspace
	if spec.Workspace != "" {
		if to, err = s.workspace(spec.Workspace); err != nil {
			return spec, err
		}
	}
	slug := r.slug
	if spec.Slug != "" {
		slug = spec.Slug
	}
	if !slugPattern.MatchString(slug) {
		return spec, fmt.Errorf("%q is no slug", slug)
	}
	if other, err := s.repository(to.slug, slug); err == nil && other != r {
		return spec, fmt.Errorf("there is a repository %s already", other.fullName())
	}
	if slug != r.slug {
		r.slug, r.name = slug, slug
	}
	if spec.Description != "" {
		r.description = spec.Description
	}
	r.updated = s.now()
	if to != oldOwner {
		oldOwner.repositories = slices.DeleteFunc(oldOwner.repositories, func(x *repository) bool { return x == r })
		to.repositories = append(to.repositories, r)
		r.workspace = to
		s.emit(r, "repo:transfer", p, object{"previous_owner": s.renderWorkspaceAccount(oldOwner)})
		s.emitRepository(r, "avi:bitbucket:updated:repository", p, object{"changes": object{
			"full_name": changed(oldFull, r.fullName()),
		}})
		return spec, nil
	}
	changes := object{}
	if r.name != oldName {
		changes["name"] = object{"old": oldName, "new": r.name}
		changes["full_name"] = object{"old": oldFull, "new": r.fullName()}
		changes["links"] = object{"old": oldLinks, "new": s.repositoryLinks(r)}
	}
	if r.description != oldDescription {
		changes["description"] = object{"old": oldDescription, "new": r.description}
	}
	s.emit(r, "repo:updated", p, object{"changes": changes})
	forgeChanges := object{}
	if r.name != oldName {
		forgeChanges["name"] = changed(oldName, r.name)
	}
	if r.description != oldDescription {
		forgeChanges["description"] = changed(oldDescription, r.description)
	}
	s.emitRepository(r, "avi:bitbucket:updated:repository", p, object{"changes": forgeChanges})
	return spec, nil
}

// Removal names a repository to delete.
type Removal struct {
	Repository string `json:"repository"` // full name
	Person     string `json:"person"`     // who does it
}

// RemoveRepository deletes a repository and sends repo:deleted. Pull requests from it elsewhere lose their
// source repository.
func (s *Sim) RemoveRepository(spec Removal) (Removal, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.repositoryByName(spec.Repository)
	if err != nil {
		return spec, err
	}
	p, err := s.person(spec.Person)
	if err != nil {
		return spec, err
	}
	s.emit(r, "repo:deleted", p, nil)
	s.emitRepository(r, "avi:bitbucket:deleted:repository", p, nil)
	r.gone = true
	r.workspace.repositories = slices.DeleteFunc(r.workspace.repositories, func(x *repository) bool { return x == r })
	return spec, nil
}
