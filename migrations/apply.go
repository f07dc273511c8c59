package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// VersionTable is where goose keeps what it has applied.
const VersionTable = "signedapproval_schema_versions"

// Apply brings the database of ownerURL up to the newest version. The login owns the tables
// afterwards and must not be the server's. It may be called again, and by several processes at
// once: one works, the others wait for up to five minutes. Each file is one transaction.
func Apply(ctx context.Context, ownerURL string) error {
	config, err := pgx.ParseConfig(ownerURL)
	if err != nil {
		return errors.New("migrations: the owner's database URL cannot be parsed") // pgx's error may quote the password
	}
	db := stdlib.OpenDB(*config)
	defer db.Close()
	provider, err := open(db)
	if err != nil {
		return err
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	return nil
}

// Newest is the version that Apply brings a database to.
func Newest() (int64, error) {
	// The provider reads its sources without asking the database.
	db := stdlib.OpenDB(pgx.ConnConfig{})
	defer db.Close()
	provider, err := open(db)
	if err != nil {
		return 0, err
	}
	sources := provider.ListSources()
	return sources[len(sources)-1].Version, nil
}

func open(db *sql.DB) (*goose.Provider, error) {
	// A session lock, not a table's: it is gone with the process that held it.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
	if err != nil {
		return nil, fmt.Errorf("migrations: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, Files,
		goose.WithTableName(VersionTable), goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return nil, fmt.Errorf("migrations: %w", err)
	}
	return provider, nil
}
