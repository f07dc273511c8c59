package people

import (
	"context"
	"crypto/rand"
	"errors"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

const (
	// tokenPrefix lets scanners for leaked secrets recognise a token.
	tokenPrefix = "sa_live_"
	// tokenDigits is the length of 32 bytes in base 62.
	tokenDigits = 43
	// shownDigits is how many of them are kept to recognise a token by.
	shownDigits = 4

	defaultTokenDays = 90
	maxTokenDays     = 366
	// maxTokens is how many working tokens a person can have in a workspace.
	maxTokens = 50
)

// Token is a caller that showed an API token.
type Token struct {
	ID        string
	Workspace string
	// Scopes are store.ScopeRead, store.ScopeConfigure or both.
	Scopes []string
	// Person is on whose behalf the token speaks: it may what they may, in this workspace, and nothing
	// besides its scopes. It can never decide.
	Person store.Person
}

// Allows tells whether the token has the scope. CONFIGURE includes READ.
func (t Token) Allows(scope string) bool {
	return slices.Contains(t.Scopes, scope) || scope == store.ScopeRead && slices.Contains(t.Scopes, store.ScopeConfigure)
}

// IsAPIToken tells an API token by its form.
func IsAPIToken(text string) bool { return strings.HasPrefix(text, tokenPrefix) }

// newToken makes the text of a token.
func newToken() string {
	random := make([]byte, 32)
	rand.Read(random) // never fails
	digits := new(big.Int).SetBytes(random).Text(62)
	return tokenPrefix + strings.Repeat("0", tokenDigits-len(digits)) + digits
}

// CreateToken makes an API token for the person in a workspace of which they are a member. scopes are
// READ, CONFIGURE or both; days is 1 to 366, 0 for 90. The token's text is in the answer and nowhere
// else.
func (p *People) CreateToken(ctx context.Context, person store.Person, workspace, name string, scopes []string, days int) (store.APIToken, store.Secret, error) {
	name, err := checkName(name)
	if err != nil {
		return store.APIToken{}, "", err
	}
	scopes = slices.Compact(slices.Sorted(slices.Values(scopes)))
	if len(scopes) == 0 || slices.ContainsFunc(scopes, func(s string) bool { return s != store.ScopeRead && s != store.ScopeConfigure }) {
		return store.APIToken{}, "", refusal.New(refusal.BadInput, "The scopes of a token are READ and CONFIGURE, at least one of them.").At("scopes")
	}
	if days == 0 {
		days = defaultTokenDays
	}
	if days < 1 || days > maxTokenDays {
		return store.APIToken{}, "", refusal.New(refusal.BadInput, "A token lives for 1 to %d days.", maxTokenDays).At("expiresInDays")
	}
	role, err := p.Role(ctx, person, workspace, true)
	if err != nil {
		return store.APIToken{}, "", err
	}
	if role == store.RoleNone {
		return store.APIToken{}, "", notFound("workspace").At("workspaceId")
	}
	secret := newToken()
	var token store.APIToken
	err = p.store.Outside(ctx, func(sh *store.Shared) error {
		n, err := sh.CountAPITokens(ctx, workspace, person.ID)
		if err != nil {
			return err
		}
		if n >= maxTokens {
			return refusal.New(CodeLimit, "You have %d API tokens in this workspace; revoke one before you make another.", maxTokens)
		}
		token, err = sh.InsertAPIToken(ctx, store.APIToken{
			WorkspaceID: workspace, PersonID: person.ID, Name: name,
			Prefix: secret[:len(tokenPrefix)+shownDigits], Scopes: scopes,
		}, hash(secret), time.Duration(days)*24*time.Hour)
		return err
	})
	if err != nil {
		return store.APIToken{}, "", err
	}
	p.log.InfoContext(ctx, "API token made", "token", token.ID, "workspace", workspace, "person", person.ID, "scopes", scopes)
	return token, store.Secret(secret), nil
}

// Tokens lists the API tokens of a workspace, newest first: all of them for its administrators, the
// own ones for its other members.
func (p *People) Tokens(ctx context.Context, person store.Person, workspace string) ([]store.APIToken, error) {
	role, err := p.Role(ctx, person, workspace, false)
	if err != nil {
		return nil, err
	}
	if role == store.RoleNone {
		return nil, notFound("workspace")
	}
	var owner *string
	if role != store.RoleAdmin {
		owner = &person.ID
	}
	var tokens []store.APIToken
	err = p.store.Outside(ctx, func(sh *store.Shared) error {
		tokens, err = sh.APITokens(ctx, workspace, owner)
		return err
	})
	return tokens, err
}

// Token reads one API token, for its owner and for the administrators of its workspace.
func (p *People) Token(ctx context.Context, person store.Person, id string) (store.APIToken, error) {
	return p.token(ctx, person, id, false)
}

func (p *People) token(ctx context.Context, person store.Person, id string, fresh bool) (store.APIToken, error) {
	if !store.ValidID(id) {
		return store.APIToken{}, notFound("API token")
	}
	var token store.APIToken
	err := p.store.Outside(ctx, func(sh *store.Shared) (err error) {
		token, err = sh.APIToken(ctx, id)
		return err
	})
	if err != nil {
		return store.APIToken{}, found(err, "API token")
	}
	if token.PersonID == person.ID {
		return token, nil
	}
	role, err := p.Role(ctx, person, token.WorkspaceID, fresh)
	if err != nil {
		return store.APIToken{}, err
	}
	if role != store.RoleAdmin {
		return store.APIToken{}, notFound("API token")
	}
	return token, nil
}

// RevokeToken ends an API token at once: the owner's own, or any of a workspace that the person
// administers. Revoking it again changes nothing. Owners need no right in the workspace any more.
func (p *People) RevokeToken(ctx context.Context, person store.Person, id string) (store.APIToken, error) {
	token, err := p.token(ctx, person, id, true)
	if err != nil {
		return store.APIToken{}, err
	}
	err = p.store.Outside(ctx, func(sh *store.Shared) error {
		token, err = sh.RevokeAPIToken(ctx, id)
		return err
	})
	if err != nil {
		return store.APIToken{}, err
	}
	p.log.InfoContext(ctx, "API token revoked", "token", id, "workspace", token.WorkspaceID, "person", person.ID)
	return token, nil
}

// TokenCaller finds out who speaks with a token's text. The refusal TOKEN_INVALID does not tell an
// unknown token from one that expired, was revoked, or whose person has left the workspace. Where
// Bitbucket cannot be asked about the latter, that is a refusal as well.
func (p *People) TokenCaller(ctx context.Context, secret string) (Token, error) {
	invalid := refusal.New(CodeTokenInvalid, "This API token is not valid: it is unknown, expired or revoked, or its owner may no longer see the workspace.")
	if !strings.HasPrefix(secret, tokenPrefix) || len(secret) != len(tokenPrefix)+tokenDigits {
		return Token{}, invalid
	}
	var (
		token  store.APIToken
		person store.Person
	)
	err := p.store.Outside(ctx, func(sh *store.Shared) (err error) {
		if token, err = sh.UseAPIToken(ctx, hash(secret)); err != nil {
			return err
		}
		person, err = sh.Person(ctx, token.PersonID)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return Token{}, invalid
	}
	if err != nil {
		return Token{}, err
	}
	role, err := p.Role(ctx, person, token.WorkspaceID, false)
	if err != nil {
		return Token{}, err
	}
	if role == store.RoleNone {
		return Token{}, invalid
	}
	return Token{ID: token.ID, Workspace: token.WorkspaceID, Scopes: token.Scopes, Person: person}, nil
}
