package store

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"
)

// Purposes of an OAuth round trip: each has a consumer and a callback of its own.
const (
	PurposeConnect = "CONNECT"
	PurposeSignIn  = "SIGN_IN"
)

// OAuthState is what one OAuth round trip was begun for.
type OAuthState struct {
	SessionHash []byte // the browser session that began it
	Purpose     string // PurposeConnect or PurposeSignIn
	ReturnTo    string // a path on our origin
	Alive       bool   // false: its time is over
}

// InsertOAuthState remembers a round trip by the SHA-256 of its state parameter.
func (sh *Shared) InsertOAuthState(ctx context.Context, stateHash []byte, s OAuthState, lifetime time.Duration) error {
	_, err := sh.tx.Exec(ctx, `
		insert into signedapproval_oauth_states (state_hash, session_hash, purpose, return_to, expires_at)
		values ($1, $2, $3, $4, now() + make_interval(secs => $5))`,
		stateHash, s.SessionHash, s.Purpose, s.ReturnTo, lifetime.Seconds())
	if err != nil {
		return fmt.Errorf("store: insert OAuth state: %w", err)
	}
	return nil
}

// TakeOAuthState reads and removes a state in one statement: of two callbacks with the same state,
// one gets ErrNotFound. It is gone after this, also where the caller then refuses it.
func (sh *Shared) TakeOAuthState(ctx context.Context, stateHash []byte) (OAuthState, error) {
	return single[OAuthState](ctx, sh.tx, `
		delete from signedapproval_oauth_states where state_hash = $1
		returning session_hash, purpose, return_to, expires_at > now() as alive`, stateHash)
}

// maxReturnTo is the longest path that is remembered, in bytes.
const maxReturnTo = 2000

// LocalPath tells whether s is a path on our own origin and nothing else, so that a browser which is
// sent there cannot end up elsewhere: it begins with exactly one slash, holds no backslash and no
// control character, which browsers read as slashes or skip, and parses as a URL without a host.
func LocalPath(s string) bool {
	if len(s) > maxReturnTo || !utf8.ValidString(s) || !strings.HasPrefix(s, "/") || strings.HasPrefix(s, "//") {
		return false
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r == '\\' || r <= ' ' || r >= 0x7f && r <= 0x9f }) {
		return false
	}
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "" && u.Host == "" && u.User == nil && strings.HasPrefix(u.Path, "/") && !strings.HasPrefix(u.Path, "//")
}
