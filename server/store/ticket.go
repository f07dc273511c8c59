package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Ticket leads one person from the panel in Bitbucket's frame to the sign page. It opens nothing.
type Ticket struct {
	PersonID    string
	WorkspaceID string
	RequestID   string
	HeadCommit  string
}

// InsertTicket stores a ticket for lifetime; its text is stored nowhere.
func (sh *Shared) InsertTicket(ctx context.Context, hash []byte, t Ticket, lifetime time.Duration) (expiresAt time.Time, err error) {
	err = sh.tx.QueryRow(ctx, `
		insert into signedapproval_tickets (token_hash, person_id, workspace_id, request_id, head_commit, expires_at)
		values ($1, $2, $3, $4, $5, now() + make_interval(secs => $6)) returning expires_at`,
		hash, t.PersonID, t.WorkspaceID, t.RequestID, t.HeadCommit, lifetime.Seconds()).Scan(&expiresAt)
	if err != nil {
		return time.Time{}, fmt.Errorf("store: insert ticket: %w", err)
	}
	return expiresAt, nil
}

// TakeTicket reads and removes a ticket in one statement, so that it serves once; [ErrNotFound] for one
// that expired.
func (sh *Shared) TakeTicket(ctx context.Context, hash []byte) (Ticket, error) {
	return single[Ticket](ctx, sh.tx, `
		delete from signedapproval_tickets where token_hash = $1 and expires_at > now()
		returning person_id, workspace_id, request_id, head_commit`, hash)
}

// ExpectPerson makes a session one in which only this person may sign in. A session in which somebody
// is signed in stays as it is.
func (sh *Shared) ExpectPerson(ctx context.Context, sessionHash []byte, personID string) error {
	_, err := sh.tx.Exec(ctx, `update signedapproval_sessions set expects_person = $2 where token_hash = $1 and person_id is null`,
		sessionHash, personID)
	if err != nil {
		return fmt.Errorf("store: expect a person: %w", err)
	}
	return nil
}

// ExpectAnybody takes back what ExpectPerson did.
func (sh *Shared) ExpectAnybody(ctx context.Context, sessionHash []byte) error {
	_, err := sh.tx.Exec(ctx, `update signedapproval_sessions set expects_person = null where token_hash = $1 and expects_person is not null`, sessionHash)
	if err != nil {
		return fmt.Errorf("store: expect anybody: %w", err)
	}
	return nil
}

// ExpectedPerson answers who alone may sign in in a session; "" for anybody.
func (sh *Shared) ExpectedPerson(ctx context.Context, sessionHash []byte) (personID string, err error) {
	err = sh.tx.QueryRow(ctx, `select coalesce(expects_person::text, '') from signedapproval_sessions where token_hash = $1`,
		sessionHash).Scan(&personID)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("store: expected person: %w", err)
	}
	return personID, nil
}

// InsertStreamToken stores a token with which a person may subscribe in one workspace, for lifetime.
func (sh *Shared) InsertStreamToken(ctx context.Context, hash []byte, personID, workspaceID string, lifetime time.Duration) (expiresAt time.Time, err error) {
	err = sh.tx.QueryRow(ctx, `
		insert into signedapproval_stream_tokens (token_hash, person_id, workspace_id, expires_at)
		values ($1, $2, $3, now() + make_interval(secs => $4)) returning expires_at`,
		hash, personID, workspaceID, lifetime.Seconds()).Scan(&expiresAt)
	if err != nil {
		return time.Time{}, fmt.Errorf("store: insert stream token: %w", err)
	}
	return expiresAt, nil
}

// StreamToken reads whose a stream token is, and for which workspace; [ErrNotFound] for one that expired.
func (sh *Shared) StreamToken(ctx context.Context, hash []byte) (personID, workspaceID string, err error) {
	err = sh.tx.QueryRow(ctx, `select person_id::text, workspace_id::text from signedapproval_stream_tokens
		where token_hash = $1 and expires_at > now()`, hash).Scan(&personID, &workspaceID)
	if err = one(err); err != nil && !errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("store: read stream token: %w", err)
	}
	return personID, workspaceID, err
}
