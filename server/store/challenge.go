package store

import (
	"context"
	"fmt"
	"time"
)

// Kinds of a WebAuthn ceremony.
const (
	ChallengeRegister = "REGISTER"
	ChallengeDecide   = "DECIDE"
	ChallengeKey      = "KEY"
	ChallengeProposal = "PROPOSAL"
)

// Challenge is a WebAuthn ceremony that was begun and not finished.
type Challenge struct {
	Challenge   []byte // the very bytes that the authenticator signs
	Kind        string // one of the above
	PersonID    string
	SessionHash []byte  // the browser session that began it
	WorkspaceID *string // DECIDE, PROPOSAL; KEY where it is about a member's
	RequestID   *string // DECIDE only
	Data        []byte  // what finishing needs; JSON, of the use case that began it
	CreatedAt   time.Time
}

// InsertChallenge remembers a ceremony for lifetime.
func (sh *Shared) InsertChallenge(ctx context.Context, c Challenge, lifetime time.Duration) (expiresAt time.Time, err error) {
	err = sh.tx.QueryRow(ctx, `
		insert into signedapproval_challenges (challenge, kind, person_id, session_hash, workspace_id, request_id, data, expires_at)
		values ($1, $2, $3, $4, $5, $6, $7, now() + make_interval(secs => $8))
		returning expires_at`,
		c.Challenge, c.Kind, c.PersonID, c.SessionHash, c.WorkspaceID, c.RequestID, c.Data, lifetime.Seconds()).Scan(&expiresAt)
	if err != nil {
		return time.Time{}, fmt.Errorf("store: insert challenge: %w", err)
	}
	return expiresAt, nil
}

// TakeChallenge reads and removes a challenge in one statement, so that it serves once. It must be
// alive and of this kind, person and browser session: anything else is ErrNotFound and leaves the
// challenge to whom it belongs.
func (sh *Shared) TakeChallenge(ctx context.Context, challenge []byte, kind, personID string, sessionHash []byte) (Challenge, error) {
	return single[Challenge](ctx, sh.tx, takeChallenge, challenge, kind, personID, sessionHash)
}

const takeChallenge = `
	delete from signedapproval_challenges
	where challenge = $1 and kind = $2 and person_id = $3 and session_hash = $4 and expires_at > now()
	returning challenge, kind, person_id, session_hash, workspace_id, request_id, data, created_at`
