package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Role is what a person is in a workspace.
type Role string

// The roles. Nobody but members and administrators knows that the workspace is here.
const (
	RoleNone   Role = "NONE"
	RoleMember Role = "MEMBER"
	RoleAdmin  Role = "ADMIN"
)

// Membership is what a person is in a workspace, as Bitbucket said at FetchedAt.
type Membership struct {
	PersonID    string
	WorkspaceID string
	Role        Role
	FetchedAt   time.Time
}

const membershipColumns = `person_id, workspace_id, role, fetched_at`

// PutMemberships stores roles that were just read; their FetchedAt is now. Roles in workspaces that
// are not among them stay as they are.
func (sh *Shared) PutMemberships(ctx context.Context, personID string, roles map[string]Role) error {
	workspaces, names := make([]string, 0, len(roles)), make([]string, 0, len(roles))
	for workspace, role := range roles {
		workspaces, names = append(workspaces, workspace), append(names, string(role))
	}
	_, err := sh.tx.Exec(ctx, `
		insert into signedapproval_memberships (person_id, workspace_id, role)
		select $1, w, r from unnest($2::uuid[], $3::text[]) as given (w, r) order by w
		on conflict (person_id, workspace_id) do update set role = excluded.role, fetched_at = now()`,
		personID, workspaces, names)
	if err != nil {
		return fmt.Errorf("store: put memberships: %w", err)
	}
	return nil
}

// Membership reads a role that is not older than maxAge; ErrNotFound where it must be read anew.
func (sh *Shared) Membership(ctx context.Context, personID, workspace string, maxAge time.Duration) (Membership, error) {
	return single[Membership](ctx, sh.tx, `select `+membershipColumns+` from signedapproval_memberships
		where person_id = $1 and workspace_id = $2 and fetched_at > now() - make_interval(secs => $3)`,
		personID, workspace, maxAge.Seconds())
}

// Memberships lists the workspaces in which the person was MEMBER or ADMIN when we last read it,
// however long ago.
func (sh *Shared) Memberships(ctx context.Context, personID string) ([]Membership, error) {
	return list[Membership](ctx, sh.tx, `select `+membershipColumns+` from signedapproval_memberships
		where person_id = $1 and role <> 'NONE' order by workspace_id`, personID)
}

// maxAdministrators bounds how many people one event tells.
const maxAdministrators = 50

// NotifyAdministrators puts a notice into the inbox of each administrator of the workspace whom we
// know, by the roles as they were last read. The person is appended to DedupeKey, so that one cause
// makes one notice for each; PersonID and WorkspaceID of n are not read.
func (tx *Tx) NotifyAdministrators(ctx context.Context, n Notice) error {
	rows, err := tx.tx.Query(ctx, `select person_id from signedapproval_memberships
		where workspace_id = $1 and role = 'ADMIN' order by fetched_at desc, person_id limit $2`, tx.Workspace, maxAdministrators)
	if err != nil {
		return fmt.Errorf("store: list administrators: %w", err)
	}
	people, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("store: list administrators: %w", err)
	}
	cause := n.DedupeKey
	for _, id := range people {
		n.PersonID, n.WorkspaceID, n.DedupeKey = id, tx.Workspace, cause+":"+id
		if err := tx.AddNotice(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// Administrators lists who was an administrator of the workspace when we last read it, within maxAge,
// at most 100.
func (sh *Shared) Administrators(ctx context.Context, workspace string, maxAge time.Duration) ([]string, error) {
	rows, err := sh.tx.Query(ctx, `select person_id::text from signedapproval_memberships
		where workspace_id = $1 and role = 'ADMIN' and fetched_at > now() - make_interval(secs => $2)
		order by fetched_at desc limit 100`, workspace, maxAge.Seconds())
	if err != nil {
		return nil, fmt.Errorf("store: list administrators: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
