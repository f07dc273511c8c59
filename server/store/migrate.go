package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signedapproval/bitbucket/migrations"
)

// Migrate brings the schema up to date as the tables' owner, which is never the server's login. It
// is idempotent and may run in several processes at once.
func Migrate(ctx context.Context, ownerURL string) error {
	return migrations.Apply(ctx, ownerURL)
}

// What a schema can be that this program does not work on.
var (
	ErrSchemaTooOld = errors.New("the database's schema is too old for this program")
	ErrSchemaTooNew = errors.New("the database's schema is too new for this program")
)

// CheckSchema tells whether this program works on the database's schema: [ErrSchemaTooOld] where a migration is missing
// that it was built with, [ErrSchemaTooNew] where one has taken away what it needs. A schema that is newer and has taken
// nothing away serves an older program during a rolling update.
func (s *Store) CheckSchema(ctx context.Context) error {
	wanted, err := migrations.Newest()
	if err != nil {
		return err
	}
	var applied, oldest int64
	err = s.pool.QueryRow(ctx, `select coalesce(max(version_id), 0), (select version from signedapproval_schema_floor)
		from `+migrations.VersionTable+` where is_applied`).Scan(&applied, &oldest)
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused) && refused.Code == "42P01": // there is no such table
		return fmt.Errorf("%w: it was never migrated, and version %d is needed", ErrSchemaTooOld, wanted)
	case err != nil:
		return fmt.Errorf("store: schema version: %w", err)
	case applied < wanted:
		return fmt.Errorf("%w: it has version %d, and %d is needed", ErrSchemaTooOld, applied, wanted)
	case wanted < oldest:
		return fmt.Errorf("%w: it has version %d, which serves programs from version %d on, and this one is of version %d", ErrSchemaTooNew, applied, oldest, wanted)
	}
	return nil
}
