package bitbucketsim

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

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
