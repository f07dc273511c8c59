package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"

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
//
// A contract is left, with everything behind it, while a server is connected that needs what it takes away: then the error
// is [ErrServersTooOld], what comes before it is applied, and Apply is to be called again when those servers are gone.
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
	last, waits := int64(math.MaxInt64), error(nil)
	for _, c := range contracts(provider) {
		needing, err := c.needing(ctx, db)
		if err != nil {
			return fmt.Errorf("migrations: %w", err)
		}
		if needing > 0 {
			last = c.version - 1
			waits = fmt.Errorf("migrations: %w: migration %d takes away what %d connections of servers from before migration %d may use; replace those servers, and migrate again",
				ErrServersTooOld, c.version, needing, c.expanded)
			break
		}
	}
	if _, err := provider.UpTo(ctx, last); err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	return waits
}

// ErrServersTooOld says that servers are connected which need what a migration takes away.
var ErrServersTooOld = errors.New("servers of too old a release are still running")

// Application is the application_name under which a program that was built with the migrations up to newest connects. By it
// a contract is kept from what is still needed, so every connection of the server must have it.
func Application(newest int64) string { return fmt.Sprintf("signedapproval/%d", newest) }

// contract is a migration that takes something away, which programs do without that have the migration expanded.
type contract struct{ version, expanded int64 }

var contractLine = regexp.MustCompile(`^-- contract: expanded in (\d+)\n`)

// contracts are those among all migrations, in order.
func contracts(provider *goose.Provider) (list []contract) {
	for _, source := range provider.ListSources() {
		text, err := Files.ReadFile(source.Path)
		if err != nil {
			panic(err) // it is embedded
		}
		if said := contractLine.FindSubmatch(text); said != nil {
			expanded, err := strconv.ParseInt(string(said[1]), 10, 64)
			if err != nil {
				panic(err) // the rules for migrations refuse it
			}
			list = append(list, contract{source.Version, expanded})
		}
	}
	return list
}

// needing counts the connections to the database of programs that need what the contract takes away: none where it has done
// so already. A server's pool keeps some for as long as it lives. One that connects in between starts on a schema that still
// serves it, and says by /readyz that it is too old.
func (c contract) needing(ctx context.Context, db *sql.DB) (count int, err error) {
	err = db.QueryRowContext(ctx, `select count(*) from pg_stat_activity
		where datname = current_database() and to_regclass('`+VersionTable+`') is not null
			and case when application_name ~ '^signedapproval/[0-9]{1,9}$' then split_part(application_name, '/', 2)::integer < $1 end`, c.expanded).Scan(&count)
	if err != nil || count == 0 {
		return 0, err
	}
	var done bool
	err = db.QueryRowContext(ctx, `select exists (select from `+VersionTable+` where version_id = $1 and is_applied)`, c.version).Scan(&done)
	if done {
		return 0, err
	}
	return count, err
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
