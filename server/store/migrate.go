package store

import (
	"context"
	"fmt"

	"github.com/signedapproval/bitbucket/migrations"
)

// Migrate brings the schema up to date as the tables' owner, which is never the server's login. It
// is idempotent and may run in several processes at once.
func Migrate(ctx context.Context, ownerURL string) error {
	return migrations.Apply(ctx, ownerURL)
}

// SchemaVersion is the version that the database has and the one that this program was built for.
// The server is ready while applied is not less than wanted: a newer schema still serves an older
// program during a rolling update.
func (s *Store) SchemaVersion(ctx context.Context) (applied, wanted int64, err error) {
	if wanted, err = migrations.Newest(); err != nil {
		return 0, 0, err
	}
	err = s.pool.QueryRow(ctx, `select max(version_id) from `+migrations.VersionTable+` where is_applied`).Scan(&applied)
	if err != nil {
		return 0, 0, fmt.Errorf("store: schema version: %w", err)
	}
	return applied, wanted, nil
}
