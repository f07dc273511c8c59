package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Permissions in a repository, as Bitbucket names them; each includes those before it.
const (
	PermissionNone  = "none"
	PermissionRead  = "read"
	PermissionWrite = "write"
	PermissionAdmin = "admin"
)

// RepositoryPerson is a Bitbucket account's permission in a repository, as Bitbucket said at FetchedAt.
type RepositoryPerson struct {
	AccountID   string
	AccountUUID *string
	Name        string
	Permission  string
	FetchedAt   time.Time
}

const repositoryPersonColumns = `account_id, account_uuid, name, permission, fetched_at`

// PutRepositoryPeople stores the whole list of a repository's people as it was just read: who is not
// in it has no permission any more. Account ids in the list differ from each other.
func (tx *Tx) PutRepositoryPeople(ctx context.Context, repositoryID string, people []RepositoryPerson) error {
	var ids, names, permissions []string
	var uuids []*string
	for _, p := range people {
		ids, uuids = append(ids, p.AccountID), append(uuids, p.AccountUUID)
		names, permissions = append(names, p.Name), append(permissions, p.Permission)
	}
	batch := &pgx.Batch{}
	// The list's row comes first: it makes two writers of one list wait for each other.
	batch.Queue(`
		insert into signedapproval_repository_people_lists (workspace_id, repository_id, fetched_at) values ($1, $2, now())
		on conflict (workspace_id, repository_id) do update set fetched_at = now()`, tx.Workspace, repositoryID)
	batch.Queue(`
		delete from signedapproval_repository_people
		where workspace_id = $1 and repository_id = $2 and account_id <> all($3::text[])`, tx.Workspace, repositoryID, append([]string{}, ids...))
	batch.Queue(`
		insert into signedapproval_repository_people (workspace_id, repository_id, account_id, account_uuid, name, permission)
		select $1, $2, p.* from unnest($3::text[], $4::uuid[], $5::text[], $6::text[]) p
		order by 3
		on conflict (workspace_id, repository_id, account_id) do update set account_uuid = excluded.account_uuid,
			name = excluded.name, permission = excluded.permission, fetched_at = now()`,
		tx.Workspace, repositoryID, ids, uuids, names, permissions)
	if err := tx.tx.batch(ctx, batch); err != nil {
		return fmt.Errorf("store: put repository people: %w", err)
	}
	return nil
}

// PutRepositoryPerson stores one account's permission as it was just read; PermissionNone is kept
// too, so that a stranger is not asked about at every look.
func (tx *Tx) PutRepositoryPerson(ctx context.Context, repositoryID string, p RepositoryPerson) error {
	_, err := tx.tx.Exec(ctx, `
		insert into signedapproval_repository_people (workspace_id, repository_id, account_id, account_uuid, name, permission)
		values ($1, $2, $3, $4, $5, $6)
		on conflict (workspace_id, repository_id, account_id) do update set account_uuid = excluded.account_uuid,
			name = excluded.name, permission = excluded.permission, fetched_at = now()`,
		tx.Workspace, repositoryID, p.AccountID, p.AccountUUID, p.Name, p.Permission)
	if err != nil {
		return fmt.Errorf("store: put repository person: %w", err)
	}
	return nil
}

// RightsAge is how long Bitbucket's word about rights is believed.
const RightsAge = 5 * time.Minute

// knownRight selects what is known of an account's permission in the repository that an expression names: own of a row of its own,
// else missing of the list that it is not in, and nothing where that must be read anew. account and age, in seconds, are parameters,
// and the first one is the workspace.
func knownRight(own, missing, repository, account, age string) string {
	young := ` and fetched_at > now() - make_interval(secs => ` + age + `)`
	return `select ` + own + ` from signedapproval_repository_people
		where workspace_id = $1 and repository_id = ` + repository + ` and account_id = ` + account + young + `
		union all
		select ` + missing + ` from signedapproval_repository_people_lists
		where workspace_id = $1 and repository_id = ` + repository + young + `
		limit 1`
}

// RepositoryPerson reads one account's permission that is not older than maxAge; who is missing in a
// list that young has none. ErrNotFound where it must be read anew. It is one round trip: it is asked for
// with nearly every request, and each time that a stream looks.
func (s *Store) RepositoryPerson(ctx context.Context, workspace, repositoryID, accountID string, maxAge time.Duration) (p RepositoryPerson, err error) {
	batch := &pgx.Batch{}
	batch.Queue(knownRight(repositoryPersonColumns, `$3, null, '', 'none', fetched_at`, `$2`, `$3`, `$4`), workspace, repositoryID, accountID, maxAge.Seconds()).Query(exactly(&p))
	return p, s.readTogether(ctx, workspace, batch)
}

// PermissionsOf reads one account's permissions in several repositories, by repository, like
// RepositoryPerson; those that must be read anew are left out.
func (tx *Tx) PermissionsOf(ctx context.Context, accountID string, repositoryIDs []string, maxAge time.Duration) (map[string]string, error) {
	rows, err := tx.tx.Query(ctx, `
		select r.id::text, coalesce(p.permission, 'none')
		from unnest($3::uuid[]) as r (id)
		left join signedapproval_repository_people p on p.workspace_id = $1 and p.repository_id = r.id
			and p.account_id = $2 and p.fetched_at > now() - make_interval(secs => $4)
		where p.permission is not null or exists (select from signedapproval_repository_people_lists l
			where l.workspace_id = $1 and l.repository_id = r.id and l.fetched_at > now() - make_interval(secs => $4))`,
		tx.Workspace, accountID, repositoryIDs, maxAge.Seconds())
	if err != nil {
		return nil, fmt.Errorf("store: read permissions: %w", err)
	}
	permissions := map[string]string{}
	var repository, permission string
	_, err = pgx.ForEachRow(rows, []any{&repository, &permission}, func() error {
		permissions[repository] = permission
		return nil
	})
	return permissions, err
}

// RepositoryPeople reads everybody with a permission in a repository, by account id, if the whole
// list is not older than maxAge; ErrNotFound where it must be read anew.
func (s *Store) RepositoryPeople(ctx context.Context, workspace, repositoryID string, maxAge time.Duration) ([]RepositoryPerson, error) {
	var fresh bool
	var people []RepositoryPerson
	batch := &pgx.Batch{}
	batch.Queue(`select exists (select from signedapproval_repository_people_lists
		where workspace_id = $1 and repository_id = $2 and fetched_at > now() - make_interval(secs => $3))`,
		workspace, repositoryID, maxAge.Seconds()).QueryRow(func(row pgx.Row) error { return row.Scan(&fresh) })
	batch.Queue(`select `+repositoryPersonColumns+` from signedapproval_repository_people
		where workspace_id = $1 and repository_id = $2 and permission <> 'none' order by account_id`, workspace, repositoryID).
		Query(func(rows pgx.Rows) (err error) {
			people, err = pgx.CollectRows(rows, pgx.RowToStructByName[RepositoryPerson])
			return err
		})
	if err := s.readTogether(ctx, workspace, batch); err != nil {
		return nil, fmt.Errorf("store: read repository people: %w", err)
	}
	if !fresh {
		return nil, ErrNotFound
	}
	return people, nil
}

// DeleteRepositoryPeople forgets everything about a repository's people; all repositories' of the
// workspace where repositoryID is "".
func (tx *Tx) DeleteRepositoryPeople(ctx context.Context, repositoryID string) error {
	batch := &pgx.Batch{}
	for _, table := range []string{"signedapproval_repository_people", "signedapproval_repository_people_lists"} {
		batch.Queue(`delete from `+table+` where workspace_id = $1 and ($2 = '' or repository_id = nullif($2, '')::uuid)`, tx.Workspace, repositoryID)
	}
	if err := tx.tx.batch(ctx, batch); err != nil {
		return fmt.Errorf("store: forget repository people: %w", err)
	}
	return nil
}
