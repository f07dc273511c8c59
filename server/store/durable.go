package store

import (
	"context"
	"fmt"

	"github.com/signedapproval/bitbucket/server/refusal"
)

// CodeNotDurable is the code of the refusal of a database that may forget what it has committed.
const CodeNotDurable = "DATABASE_NOT_DURABLE"

// CheckDurable refuses a database that may answer a commit before it is written where no crash can take it back: who decided would
// have been answered, and Bitbucket told, what is gone. It reads what is in force for this login, whoever has set it: the server, the
// database, the login, or the connection string. full_page_writes is not looked at: a file system that tears no page does without.
func (s *Store) CheckDurable(ctx context.Context) error {
	var commit, sync string
	err := s.pool.QueryRow(ctx, `select current_setting('synchronous_commit'), current_setting('fsync')`).Scan(&commit, &sync)
	switch {
	case err != nil:
		return fmt.Errorf("store: read what the database promises: %w", err)
	case commit != "on" && commit != "remote_apply":
		return refusal.New(CodeNotDurable, "synchronous_commit is %s for the server's login, so that a crash can take back what was answered: it must be on, or remote_apply", commit)
	case sync != "on":
		return refusal.New(CodeNotDurable, "fsync is %s, so that a crash can take back what was answered: it must be on", sync)
	}
	return nil
}
