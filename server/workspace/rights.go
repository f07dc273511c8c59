package workspace

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// rememberedRole is how long a role that was once read lets its person go on seeing that the
// workspace is here and what it needs, while a dead connection, a missing token or an app that was
// uninstalled keeps us from asking. It never
// allows a change, and nothing of a repository is shown on the strength of it.
const rememberedRole = 7 * 24 * time.Hour

// Role is what a person is in a workspace that has the app or a connection, by Bitbucket's word of the last five minutes;
// fresh reads it anew, which every change must ask for. That somebody is nobody is believed all the
// same: strangers must not spend the calls of a workspace. A workspace that has neither has no
// roles. Where Bitbucket cannot be asked the answer is a refusal, never a guess.
func (w *Workspaces) Role(ctx context.Context, person store.Person, workspace string, fresh bool) (store.Role, error) {
	if !store.ValidID(workspace) {
		return store.RoleNone, nil
	}
	role := unknownRole
	err := w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		s, err := readStanding(ctx, tx)
		if err != nil {
			return err
		}
		if !s.linked() {
			role = store.RoleNone
			return nil
		}
		age, silence := cacheAge, s.silence()
		if silence != nil {
			age = rememberedRole
		}
		membership, err := tx.Membership(ctx, person.ID, workspace, age)
		switch {
		case errors.Is(err, store.ErrNotFound) && silence != nil:
			if silence.Code == refusal.WaitingForToken {
				return silence
			}
			role = store.RoleNone // nobody can say any more that they are a member
		case errors.Is(err, store.ErrNotFound):
		case err != nil:
			return err
		case fresh && membership.Role != store.RoleNone:
			if silence != nil {
				return silence
			}
		default:
			role = membership.Role
		}
		return nil
	})
	if err != nil || role != unknownRole {
		return role, err
	}
	return w.readRole(ctx, person, workspace)
}

// unknownRole is what must be asked for.
const unknownRole store.Role = ""

func (w *Workspaces) readRole(ctx context.Context, person store.Person, workspace string) (store.Role, error) {
	client, err := w.rightsClient(ctx, workspace)
	if err != nil {
		return store.RoleNone, err
	}
	permission, err := client.WorkspacePermission(ctx, workspace, person.AccountUUID)
	if err != nil {
		return store.RoleNone, asked(err)
	}
	var role store.Role
	switch permission {
	case bitbucket.WorkspaceOwner:
		role = store.RoleAdmin
	case bitbucket.WorkspaceMember:
		role = store.RoleMember
	case bitbucket.WorkspaceNone:
		role = store.RoleNone
	default:
		return store.RoleNone, fmt.Errorf("no such role in a workspace: %q", permission)
	}
	err = w.store.Outside(ctx, func(sh *store.Shared) error {
		return sh.PutMemberships(ctx, person.ID, map[string]store.Role{workspace: role})
	})
	return role, err
}

// Account asks Bitbucket who an account is. An app that waits to be confirmed may be asked that, since who
// confirms it may never have been here.
func (w *Workspaces) Account(ctx context.Context, workspace, accountID string) (bitbucket.User, error) {
	client, err := w.rightsClient(ctx, workspace)
	if err != nil {
		return bitbucket.User{}, err
	}
	return client.User(ctx, accountID)
}

// Permission is a person's own right in a repository, by Bitbucket's word of the last five minutes;
// fresh reads it anew, unless it was none, as in Role. It is PermissionNone also for a repository that
// does not exist. Where Bitbucket cannot be asked the answer is a refusal, never a guess.
func (w *Workspaces) Permission(ctx context.Context, person store.Person, workspace, repositoryID string, fresh bool) (bitbucket.Permission, error) {
	if !store.ValidID(workspace) || !store.ValidID(repositoryID) {
		return bitbucket.PermissionNone, nil
	}
	known, err := w.store.RepositoryPerson(ctx, workspace, repositoryID, person.AccountID, cacheAge)
	if err == nil && (!fresh || known.Permission == store.PermissionNone) {
		return bitbucket.Permission(known.Permission), nil
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return bitbucket.PermissionNone, err
	}
	client, err := w.Client(ctx, workspace, bitbucket.Foreground)
	if refusal.Code(err) == refusal.NotFound {
		return bitbucket.PermissionNone, nil
	}
	if err != nil {
		return bitbucket.PermissionNone, err
	}
	permission, err := client.RepositoryPermission(ctx, workspace, repositoryID, person.AccountUUID)
	if gone, ok := errors.AsType[*bitbucket.Error](err); ok && gone.NotFound() {
		return bitbucket.PermissionNone, nil
	}
	if err != nil {
		return bitbucket.PermissionNone, asked(err)
	}
	err = w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		return tx.PutRepositoryPerson(ctx, repositoryID, store.RepositoryPerson{
			AccountID: person.AccountID, AccountUUID: &person.AccountUUID, Name: person.Name, Permission: string(permission),
		})
	})
	return permission, err
}

// People lists everybody with a permission in a repository, by account id, as Bitbucket said within
// the last five minutes. The list is always read as a whole.
func (w *Workspaces) People(ctx context.Context, workspace, repositoryID string) ([]store.RepositoryPerson, error) {
	people, err := w.store.RepositoryPeople(ctx, workspace, repositoryID, cacheAge)
	if !errors.Is(err, store.ErrNotFound) {
		return people, err
	}
	return w.readPeople(ctx, workspace, repositoryID)
}

// readPeople reads the list anew. Callers who want it at the same time share one reading.
func (w *Workspaces) readPeople(ctx context.Context, workspace, repositoryID string) ([]store.RepositoryPerson, error) {
	result := w.people.DoChan(workspace+"/"+repositoryID, func() (any, error) {
		// One caller's hang-up is not the others', nor is a share that is spent.
		ctx, cancel := context.WithTimeout(bitbucket.AskedBy(context.WithoutCancel(ctx), ""), time.Minute)
		defer cancel()
		return w.fetchPeople(ctx, workspace, repositoryID)
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-result:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.([]store.RepositoryPerson), nil
	}
}

func (w *Workspaces) fetchPeople(ctx context.Context, workspace, repositoryID string) ([]store.RepositoryPerson, error) {
	client, err := w.Client(ctx, workspace, bitbucket.Foreground)
	if err != nil {
		return nil, err
	}
	var people []store.RepositoryPerson
	seen := map[string]bool{}
	for one, err := range client.RepositoryPermissions(ctx, workspace, repositoryID) {
		if err != nil {
			return nil, asked(err)
		}
		// An account without an id is no person: a team of old, which nobody can sign in as.
		if one.User.AccountID == "" || one.Permission == bitbucket.PermissionNone || seen[one.User.AccountID] {
			continue
		}
		seen[one.User.AccountID] = true
		person := store.RepositoryPerson{AccountID: one.User.AccountID, Name: one.User.DisplayName, Permission: string(one.Permission)}
		if one.User.UUID != "" {
			person.AccountUUID = &one.User.UUID
		}
		people = append(people, person)
	}
	if err = w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error { return tx.PutRepositoryPeople(ctx, repositoryID, people) }); err != nil {
		return nil, err
	}
	return w.store.RepositoryPeople(ctx, workspace, repositoryID, cacheAge)
}

// mayConfigure reads anew whether the person administers the workspace or, as one of its members, the
// repository. To whom Bitbucket shows neither, neither exists. Members come first: a stranger could ask
// about any number of repositories, each at the cost of a call.
func (w *Workspaces) mayConfigure(ctx context.Context, person store.Person, workspace, repositoryID string) error {
	role, err := w.Role(ctx, person, workspace, true)
	switch {
	case err != nil:
		return err
	case role == store.RoleAdmin:
		return nil
	case role == store.RoleNone:
		return notFound("repository")
	}
	permission, err := w.Permission(ctx, person, workspace, repositoryID, true)
	switch {
	case err != nil:
		return err
	case permission.Allows(bitbucket.PermissionAdmin):
		return nil
	case permission.Allows(bitbucket.PermissionRead):
		return refusal.New(refusal.Forbidden, "Only an administrator of the repository may change its rules.")
	}
	return notFound("repository")
}

// CanConfigure tells whether the person may change the rules of a repository, by Bitbucket's word of
// the last five minutes, for screens: changing reads it anew.
func (w *Workspaces) CanConfigure(ctx context.Context, person store.Person, workspace, repositoryID string) (bool, error) {
	role, err := w.Role(ctx, person, workspace, false)
	if err != nil || role == store.RoleAdmin {
		return role == store.RoleAdmin, err
	}
	permission, err := w.Permission(ctx, person, workspace, repositoryID, false)
	return permission.Allows(bitbucket.PermissionAdmin), err
}

// mustAdminister reads anew whether the person administers the workspace.
func (w *Workspaces) mustAdminister(ctx context.Context, person store.Person, workspace string) error {
	role, err := w.Role(ctx, person, workspace, true)
	switch {
	case err != nil:
		return err
	case role == store.RoleAdmin:
		return nil
	case role == store.RoleMember:
		return refusal.New(refusal.Forbidden, "Only an administrator of the workspace may do that.")
	}
	return notFound("workspace")
}
