package people

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"time"

	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

const (
	// anonymousLife is how long a session lives in which nobody signs in.
	anonymousLife = time.Hour
	// sessionLife is how long a session lives after sign-in, however much it is used. Left alone it
	// ends after store.SessionIdle.
	sessionLife = 30 * 24 * time.Hour
)

// cookieLength is the length of a cookie's value: 32 bytes in base64url.
const cookieLength = 43

// Session is a browser that holds our cookie.
type Session struct {
	// Hash identifies the session; it is not the cookie's value and cannot be turned into it.
	Hash []byte
	// Person is who signed in; nil before.
	Person *store.Person
	// Workspaces are as of [store.Session].
	Workspaces []string
}

// newSecret makes 256 random bits as text.
func newSecret() string {
	random := make([]byte, 32)
	rand.Read(random) // never fails
	return base64.RawURLEncoding.EncodeToString(random)
}

// Session reads the session of a cookie's value; the refusal NOT_FOUND where there is none, or where
// it ended: 12 hours after it was last seen, 30 days after sign-in.
func (p *People) Session(ctx context.Context, cookieValue string) (Session, error) {
	none := refusal.New(refusal.NotFound, "You are not signed in, or your session has ended.")
	if len(cookieValue) != cookieLength {
		return Session{}, none
	}
	session, err := p.store.Session(ctx, hash(cookieValue))
	if errors.Is(err, store.ErrNotFound) {
		return Session{}, none
	}
	return Session{Hash: session.TokenHash, Person: session.Person, Workspaces: session.Workspaces}, err
}

// NewSession makes a session in which nobody has signed in, for a browser that is about to. It lives
// for an hour. The cookie's value is in the answer and nowhere else.
func (p *People) NewSession(ctx context.Context) (cookieValue string, session Session, err error) {
	cookieValue = newSecret()
	session = Session{Hash: hash(cookieValue)}
	err = p.store.Outside(ctx, func(sh *store.Shared) error {
		return sh.InsertSession(ctx, session.Hash, nil, anonymousLife)
	})
	return cookieValue, session, err
}

// SignOut ends the session; everywhere, also the person's other ones.
func (p *People) SignOut(ctx context.Context, session Session, everywhere bool) error {
	return p.store.Outside(ctx, func(sh *store.Shared) error {
		if everywhere && session.Person != nil {
			if err := sh.DeleteSessions(ctx, session.Person.ID); err != nil {
				return err
			}
		}
		return sh.DeleteSession(ctx, session.Hash)
	})
}
