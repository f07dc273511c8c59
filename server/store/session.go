package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Session is a browser that holds our cookie, signed in or not.
type Session struct {
	TokenHash []byte  // SHA-256 of the cookie's value, which is stored nowhere
	Person    *Person // nil: nobody has signed in yet
	// Workspaces are those that the person was last known to be in, sixteen at most: for what is shared out by workspace, and
	// for nothing that anybody may see.
	Workspaces []string
	CreatedAt  time.Time
	SeenAt     time.Time // to the minute
	ExpiresAt  time.Time
}

// SessionIdle is how long a session may be left alone before it is as good as ended.
const SessionIdle = 12 * time.Hour

// seenInterval is how exact SeenAt is: a session is not written for every request.
const seenInterval = time.Minute

// InsertSession stores a session that ends after lifetime, whatever happens. personID is nil before
// sign-in.
func (sh *Shared) InsertSession(ctx context.Context, tokenHash []byte, personID *string, lifetime time.Duration) error {
	_, err := sh.tx.Exec(ctx, `
		insert into signedapproval_sessions (token_hash, person_id, expires_at)
		values ($1, $2, now() + make_interval(secs => $3))`,
		tokenHash, personID, lifetime.Seconds())
	if err != nil {
		return fmt.Errorf("store: insert session: %w", err)
	}
	return nil
}

// Session reads a session that has neither expired nor been left alone for longer than SessionIdle,
// and notes that it was seen. ErrNotFound for every other.
func (sh *Shared) Session(ctx context.Context, tokenHash []byte) (Session, error) {
	session, late, err := scanSession(tokenHash, sh.tx.QueryRow(ctx, selectSession, tokenHash, SessionIdle.Seconds(), seenInterval.Seconds()))
	if err == nil && late {
		_, err = sh.tx.Exec(ctx, seeSession, tokenHash)
	}
	return wholeSession(session, err)
}

// Session is [Shared.Session] in one round trip: it is asked for with every request, and each time that a stream looks.
func (s *Store) Session(ctx context.Context, tokenHash []byte) (Session, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	session, late, err := scanSession(tokenHash, s.pool.QueryRow(ctx, selectSession, tokenHash, SessionIdle.Seconds(), seenInterval.Seconds()))
	if err == nil && late {
		_, err = s.pool.Exec(ctx, seeSession, tokenHash)
		s.renew(err)
	}
	return wholeSession(session, err)
}

const (
	selectSession = `
		select s.created_at, s.seen_at, s.expires_at, s.seen_at < now() - make_interval(secs => $3),
			p.id, p.account_id, p.account_uuid, p.name, p.salt, p.email, p.created_at, p.signed_in_at,
			array(select m.workspace_id::text from signedapproval_memberships m where m.person_id = p.id and m.role <> 'NONE' order by 1 limit 16)
		from signedapproval_sessions s left join signedapproval_people p on p.id = s.person_id
		where s.token_hash = $1 and s.expires_at > now() and s.seen_at > now() - make_interval(secs => $2)`
	seeSession = `update signedapproval_sessions set seen_at = now() where token_hash = $1`
)

// scanSession reads a row of selectSession. late says that it was not noted as seen for a while.
func scanSession(tokenHash []byte, row pgx.Row) (s Session, late bool, err error) {
	s.TokenHash = tokenHash
	var (
		person *string
		p      struct {
			accountID, accountUUID, name, email *string
			salt                                []byte
			createdAt, signedInAt               *time.Time
		}
	)
	err = row.Scan(&s.CreatedAt, &s.SeenAt, &s.ExpiresAt, &late,
		&person, &p.accountID, &p.accountUUID, &p.name, &p.salt, &p.email, &p.createdAt, &p.signedInAt, &s.Workspaces)
	if err == nil && person != nil {
		s.Person = &Person{
			ID: *person, AccountID: *p.accountID, AccountUUID: *p.accountUUID, Name: *p.name, Salt: p.salt,
			Email: *p.email, CreatedAt: *p.createdAt, SignedInAt: *p.signedInAt,
		}
	}
	return s, late, err
}

func wholeSession(s Session, err error) (Session, error) {
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Session{}, ErrNotFound
	case err != nil:
		return Session{}, fmt.Errorf("store: read session: %w", err)
	}
	return s, nil
}

// DeleteSession ends one session; one that does not exist is a success.
func (sh *Shared) DeleteSession(ctx context.Context, tokenHash []byte) error {
	if _, err := sh.tx.Exec(ctx, `delete from signedapproval_sessions where token_hash = $1`, tokenHash); err != nil {
		return fmt.Errorf("store: delete session: %w", err)
	}
	return nil
}

// DeleteSessions ends all sessions of a person.
func (sh *Shared) DeleteSessions(ctx context.Context, personID string) error {
	if _, err := sh.tx.Exec(ctx, `delete from signedapproval_sessions where person_id = $1`, personID); err != nil {
		return fmt.Errorf("store: delete sessions: %w", err)
	}
	return nil
}
