package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Workspace is a Bitbucket workspace that was connected at some time: the tenant.
type Workspace struct {
	ID          string // the Bitbucket UUID, bare and in lower case
	Slug        string // as last seen
	Name        string // as last seen
	GenesisSalt []byte // 32 random bytes: salt of the chain ids of this workspace
	GenesisLeaf []byte // hash of the workspace's first leaf; nil in the transaction that makes the workspace
	CreatedAt   time.Time
}

// Cursor is the place of w in a list ordered by name.
func (w Workspace) Cursor() string { return cursor(w.Name, w.ID) }

const workspaceColumns = `workspace_id as id, slug, name, genesis_salt, genesis_leaf, created_at`

// PutWorkspace stores the workspace of this transaction, or its slug and name of today. The salt is
// chosen once and never changes.
func (tx *Tx) PutWorkspace(ctx context.Context, slug, name string) (w Workspace, created bool, err error) {
	salt := make([]byte, 32)
	rand.Read(salt) // never fails
	type row struct {
		Workspace
		Created bool
	}
	stored, err := single[row](ctx, tx.tx, `
		insert into signedapproval_workspaces (workspace_id, slug, name, genesis_salt) values ($1, $2, $3, $4)
		on conflict (workspace_id) do update set slug = excluded.slug, name = excluded.name
		returning `+workspaceColumns+`, xmax = 0 as created`, tx.Workspace, slug, name, salt)
	if err != nil {
		return Workspace{}, false, fmt.Errorf("store: put workspace: %w", err)
	}
	return stored.Workspace, stored.Created, nil
}

// RegisterWorkspace makes sure that the workspace of this transaction has a row, and keeps everybody
// else who registers it waiting until the transaction ends. A new one has its UUID in braces, which
// Bitbucket takes for a slug, as slug and name until somebody has read better ones.
func (tx *Tx) RegisterWorkspace(ctx context.Context) (w Workspace, created bool, err error) {
	salt := make([]byte, 32)
	rand.Read(salt) // never fails
	done, err := tx.tx.Exec(ctx, `
		insert into signedapproval_workspaces (workspace_id, slug, name, genesis_salt) values ($1, $2, $2, $3)
		on conflict (workspace_id) do nothing`, tx.Workspace, "{"+tx.Workspace+"}", salt)
	if err != nil {
		return Workspace{}, false, fmt.Errorf("store: register workspace: %w", err)
	}
	w, err = single[Workspace](ctx, tx.tx, `select `+workspaceColumns+` from signedapproval_workspaces
		where workspace_id = $1 for no key update`, tx.Workspace)
	return w, done.RowsAffected() > 0, err
}

// ReadWorkspace reads the workspace of this transaction.
func (tx *Tx) ReadWorkspace(ctx context.Context) (Workspace, error) {
	return single[Workspace](ctx, tx.tx, `select `+workspaceColumns+` from signedapproval_workspaces where workspace_id = $1`, tx.Workspace)
}

// ConnectedWorkspaces reads those of the given workspaces that are connected, working or not, by
// name. The caller has found out that they may be seen.
func (s *Store) ConnectedWorkspaces(ctx context.Context, ids []string) ([]Workspace, error) {
	return s.workspaces(ctx, ids, isConnected)
}

// LinkedWorkspaces is ConnectedWorkspaces, and also gives those in which the app is or was installed.
func (s *Store) LinkedWorkspaces(ctx context.Context, ids []string) ([]Workspace, error) {
	return s.workspaces(ctx, ids, isConnected+` or exists (select from signedapproval_installations i where i.workspace_id = w.workspace_id)`)
}

const isConnected = `exists (select from signedapproval_bitbucket_connections c
	where c.workspace_id = w.workspace_id and c.state <> 'DISCONNECTED')`

// workspaces is one round trip, in which each workspace is named for its own statement.
func (s *Store) workspaces(ctx context.Context, ids []string, which string) ([]Workspace, error) {
	var connected []Workspace
	err := s.Outside(ctx, func(sh *Shared) error {
		batch := &pgx.Batch{}
		for _, id := range ids {
			batch.Queue(`select set_config('app.workspace', $1, true)`, id)
			batch.Queue(`select `+workspaceColumns+` from signedapproval_workspaces w
				where workspace_id = $1 and (`+which+`)`, id).
				Query(func(rows pgx.Rows) error {
					w, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Workspace])
					if errors.Is(err, pgx.ErrNoRows) {
						return nil
					}
					connected = append(connected, w)
					return err
				})
		}
		if err := sh.tx.batch(ctx, batch); err != nil {
			return fmt.Errorf("store: read workspaces: %w", err)
		}
		return nil
	})
	slices.SortFunc(connected, compareWorkspaces)
	return connected, err
}

func compareWorkspaces(a, b Workspace) int {
	if c := strings.Compare(a.Name, b.Name); c != 0 {
		return c
	}
	return strings.Compare(a.ID, b.ID)
}

// PageWorkspaces cuts a page out of workspaces that are sorted by name, for a list that is gathered
// from several tenants and so cannot be cut by a query.
func PageWorkspaces(sorted []Workspace, page Page) ([]Workspace, bool, error) {
	name, id, err := page.afterName()
	if err != nil {
		return nil, false, err
	}
	if name != nil {
		last := Workspace{Name: *name, ID: *id}
		start := slices.IndexFunc(sorted, func(w Workspace) bool { return compareWorkspaces(w, last) > 0 })
		if start < 0 {
			return nil, false, nil
		}
		sorted = sorted[start:]
	}
	workspaces, more := paged(sorted, page)
	return workspaces, more, nil
}
