package workspace

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// atOnce bounds how many questions one call has open at Bitbucket.
const atOnce = 4

// List lists the connected workspaces of which the person is a member, by name.
func (w *Workspaces) List(ctx context.Context, person store.Person, page store.Page) ([]store.Workspace, bool, error) {
	all, err := w.visible(ctx, person)
	if err != nil {
		return nil, false, err
	}
	return store.PageWorkspaces(all, page)
}

// visible reads all of them. What was known at the last look is where to look; each role is asked for
// where that is more than five minutes old.
func (w *Workspaces) visible(ctx context.Context, person store.Person) ([]store.Workspace, error) {
	var memberships []store.Membership
	var now time.Time
	err := w.store.Outside(ctx, func(sh *store.Shared) (err error) {
		if now, err = sh.Now(ctx); err != nil {
			return err
		}
		memberships, err = sh.Memberships(ctx, person.ID)
		return err
	})
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(memberships))
	for i, m := range memberships {
		ids[i] = m.WorkspaceID
	}
	connected, err := w.store.LinkedWorkspaces(ctx, ids)
	if err != nil {
		return nil, err
	}
	roles := make([]store.Role, len(connected))
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i, c := range connected {
		m := memberships[slices.Index(ids, c.ID)]
		if now.Sub(m.FetchedAt) < cacheAge {
			roles[i] = m.Role
			continue
		}
		group.Go(func() (err error) {
			roles[i], err = w.Role(inner, person, c.ID, false)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var visible []store.Workspace
	for i, c := range connected {
		if roles[i] == store.RoleMember || roles[i] == store.RoleAdmin {
			visible = append(visible, c)
		}
	}
	return visible, nil
}

// Find reads a connected workspace of which the person is a member, by its Bitbucket UUID or its slug.
func (w *Workspaces) Find(ctx context.Context, person store.Person, key string) (store.Workspace, error) {
	workspace, ok := bitbucket.BareUUID(key)
	if !ok {
		all, err := w.visible(ctx, person)
		if err != nil {
			return store.Workspace{}, err
		}
		i := slices.IndexFunc(all, func(one store.Workspace) bool { return one.Slug == key })
		if i < 0 {
			return store.Workspace{}, notFound("workspace")
		}
		return all[i], nil
	}
	if err := w.mustBelong(ctx, person, workspace); err != nil {
		return store.Workspace{}, err
	}
	var one store.Workspace
	err := w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) (err error) {
		one, err = tx.ReadWorkspace(ctx)
		return err
	})
	return one, found(err, "workspace")
}

// mustBelong refuses who is not a member of the workspace.
func (w *Workspaces) mustBelong(ctx context.Context, person store.Person, workspace string) error {
	role, err := w.Role(ctx, person, workspace, false)
	if err == nil && role == store.RoleNone {
		return notFound("workspace")
	}
	return err
}

// mustSee refuses who may not read the repository.
func (w *Workspaces) mustSee(ctx context.Context, person store.Person, workspace, repositoryID string) error {
	permission, err := w.Permission(ctx, person, workspace, repositoryID, false)
	if err == nil && !permission.Allows(bitbucket.PermissionRead) {
		return notFound("repository")
	}
	return err
}

// Connection reads a workspace's connection for one of its members, without its tokens. NOT_FOUND once
// disconnected.
func (w *Workspaces) Connection(ctx context.Context, person store.Person, workspace string) (store.Connection, error) {
	if err := w.mustBelong(ctx, person, workspace); err != nil {
		return store.Connection{}, err
	}
	var connection store.Connection
	err := w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) (err error) {
		connection, err = tx.Connection(ctx)
		return err
	})
	if err != nil {
		return store.Connection{}, found(err, "connection")
	}
	if connection.State == store.ConnectionDisconnected {
		return store.Connection{}, notFound("connection")
	}
	connection.AccessToken, connection.RefreshToken, connection.PreviousRefreshToken = "", "", ""
	return connection, nil
}

// Alarms lists what needs an administrator of the workspace, newest first, at most 100; FORBIDDEN for
// everybody else.
func (w *Workspaces) Alarms(ctx context.Context, person store.Person, workspace string) ([]store.Alarm, error) {
	role, err := w.Role(ctx, person, workspace, false)
	switch {
	case err != nil:
		return nil, err
	case role == store.RoleNone:
		return nil, notFound("workspace")
	case role != store.RoleAdmin:
		return nil, refusal.New(refusal.Forbidden, "Only an administrator of the workspace may see its alarms.")
	}
	var alarms []store.Alarm
	err = w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		alarms, err = tx.OpenAlarms(ctx)
		return err
	})
	return alarms, err
}

// Repositories lists the gated repositories that the person may read, by name.
func (w *Workspaces) Repositories(ctx context.Context, person store.Person, workspace string, page store.Page) ([]store.RepositoryConfig, bool, error) {
	role, err := w.Role(ctx, person, workspace, false)
	if err != nil {
		return nil, false, err
	}
	if role == store.RoleNone {
		return nil, false, notFound("workspace")
	}
	var only []string // nil: all of them
	if role != store.RoleAdmin {
		if only, err = w.Readable(ctx, person, workspace); err != nil {
			return nil, false, err
		}
	}
	var (
		configs []store.RepositoryConfig
		more    bool
	)
	err = w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		configs, more, err = tx.RepositoryConfigs(ctx, only, page)
		return err
	})
	return configs, more, err
}

// Readable finds out which gated repositories of a workspace the person may read. It is never nil.
func (w *Workspaces) Readable(ctx context.Context, person store.Person, workspace string) ([]string, error) {
	var (
		ids   []string
		known map[string]string
	)
	err := w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		configs, err := tx.AllRepositoryConfigs(ctx)
		if err != nil {
			return err
		}
		for _, c := range configs {
			ids = append(ids, c.RepositoryID)
		}
		known, err = tx.PermissionsOf(ctx, person.AccountID, ids, cacheAge)
		return err
	})
	if err != nil {
		return nil, err
	}
	permissions := make([]bitbucket.Permission, len(ids))
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i, id := range ids {
		if permission, ok := known[id]; ok {
			permissions[i] = bitbucket.Permission(permission)
			continue
		}
		group.Go(func() (err error) {
			permissions[i], err = w.Permission(inner, person, workspace, id, false)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	readable := []string{}
	for i, id := range ids {
		if permissions[i].Allows(bitbucket.PermissionRead) {
			readable = append(readable, id)
		}
	}
	return readable, nil
}

// Repository reads a gated repository that the person may read, by its Bitbucket UUID or its slug.
func (w *Workspaces) Repository(ctx context.Context, person store.Person, workspace, key string) (store.RepositoryConfig, error) {
	if !store.ValidID(workspace) {
		return store.RepositoryConfig{}, notFound("repository")
	}
	config, err := w.config(ctx, workspace, key)
	if err != nil {
		return store.RepositoryConfig{}, found(err, "repository")
	}
	if err := w.mustSee(ctx, person, workspace, config.RepositoryID); err != nil {
		return store.RepositoryConfig{}, err
	}
	return config, nil
}

// config reads what we know of a gated repository, by its Bitbucket UUID or its slug.
func (w *Workspaces) config(ctx context.Context, workspace, key string) (config store.RepositoryConfig, err error) {
	err = w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) (err error) {
		if id, ok := bitbucket.BareUUID(key); ok {
			config, err = tx.RepositoryConfig(ctx, id)
		} else {
			config, err = tx.RepositoryConfigBySlug(ctx, key)
		}
		return err
	})
	return config, err
}

// PolicyVersion reads one version of a repository's rules for whoever may read the repository.
func (w *Workspaces) PolicyVersion(ctx context.Context, person store.Person, workspace, id string) (store.PolicyVersion, error) {
	if !store.ValidID(workspace) || !store.ValidID(id) {
		return store.PolicyVersion{}, notFound("policy version")
	}
	var version store.PolicyVersion
	err := w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) (err error) {
		version, err = tx.PolicyVersion(ctx, id)
		return err
	})
	if err != nil {
		return store.PolicyVersion{}, found(err, "policy version")
	}
	if err := w.mustSee(ctx, person, workspace, version.RepositoryID); err != nil {
		return store.PolicyVersion{}, err
	}
	return version, nil
}

// PolicyVersions lists the versions of a repository's rules, newest first, for whoever may read the
// repository.
func (w *Workspaces) PolicyVersions(ctx context.Context, person store.Person, workspace, repositoryID string, page store.Page) ([]store.PolicyVersion, bool, error) {
	if err := w.mustSee(ctx, person, workspace, repositoryID); err != nil {
		return nil, false, err
	}
	var (
		versions []store.PolicyVersion
		more     bool
	)
	err := w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) (err error) {
		versions, more, err = tx.PolicyVersions(ctx, repositoryID, page)
		return err
	})
	return versions, more, err
}

// Branches lists the branches of a repository whose name contains search, by name, at most 25, for
// whoever may read the repository.
func (w *Workspaces) Branches(ctx context.Context, person store.Person, workspace, repositoryID, search string) ([]string, error) {
	const most = 25
	client, err := w.readerClient(ctx, person, workspace, repositoryID)
	if err != nil {
		return nil, err
	}
	var names []string
	for branch, err := range client.Branches(ctx, workspace, repositoryID, clip(search)) {
		if err != nil {
			return nil, asked(err)
		}
		if names = append(names, branch.Name); len(names) == most {
			break
		}
	}
	return names, nil
}

// MergeStrategies lists the merge strategies that a branch offers, as Bitbucket names them, for
// whoever may read the repository; NOT_FOUND where there is no such branch.
func (w *Workspaces) MergeStrategies(ctx context.Context, person store.Person, workspace, repositoryID, branch string) ([]string, error) {
	client, err := w.readerClient(ctx, person, workspace, repositoryID)
	if err != nil {
		return nil, err
	}
	remote, err := client.Branch(ctx, workspace, repositoryID, branch)
	if gone, ok := errors.AsType[*bitbucket.Error](err); ok && (gone.NotFound() || errors.Is(err, bitbucket.ErrInvalidArgument)) {
		return nil, notFound("branch")
	}
	if err != nil {
		return nil, asked(err)
	}
	strategies := make([]string, len(remote.MergeStrategies))
	for i, s := range remote.MergeStrategies {
		strategies[i] = string(s)
	}
	return strategies, nil
}

func (w *Workspaces) readerClient(ctx context.Context, person store.Person, workspace, repositoryID string) (*bitbucket.Client, error) {
	if err := w.mustSee(ctx, person, workspace, repositoryID); err != nil {
		return nil, err
	}
	return w.Client(ctx, workspace, bitbucket.Foreground)
}

// clip bounds what is looked for.
func clip(search string) string {
	const most = 100
	search = strings.TrimSpace(search)
	if runes := []rune(search); len(runes) > most {
		search = string(runes[:most])
	}
	return search
}
