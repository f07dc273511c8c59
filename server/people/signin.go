package people

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

const (
	// stateLife is how long a consent page may stay open.
	stateLife = 10 * time.Minute
	// maxParameter bounds what a callback's parameters may hold, in bytes.
	maxParameter = 4 << 10
	// signPath is where the sign pages are, to which tickets lead.
	signPath = "/sign/"
	// maxWorkspaces bounds how many of a person's workspaces are remembered.
	maxWorkspaces = 500
)

// BeginSignIn starts an OAuth round trip for a browser session and returns the address of Bitbucket's
// consent page. returnTo is the path on our origin to come back to; "" is the dashboard. Whoever a ticket
// made the session wait for is waited for on the way to a sign page only: a ticket that somebody else sent
// must not keep a person from signing in elsewhere.
func (p *People) BeginSignIn(ctx context.Context, sessionHash []byte, returnTo string) (string, error) {
	if returnTo == "" {
		returnTo = "/"
	}
	if !store.LocalPath(returnTo) {
		return "", refusal.New(refusal.BadInput, "The way back must be a path on this server.").At("returnTo")
	}
	state := newSecret()
	err := p.store.Outside(ctx, func(sh *store.Shared) error {
		if !strings.HasPrefix(returnTo, signPath) {
			if err := sh.ExpectAnybody(ctx, sessionHash); err != nil {
				return err
			}
		}
		return sh.InsertOAuthState(ctx, hash(state), store.OAuthState{
			SessionHash: sessionHash, Purpose: store.PurposeSignIn, ReturnTo: returnTo,
		}, stateLife)
	})
	if err != nil {
		return "", err
	}
	return p.signIn.AuthCodeURL(state, ""), nil
}

// FinishSignIn is the other end of the round trip: the callback's parameters state and code, or
// oauthError. In a session that redeemed a ticket only the ticket's person can sign in on the way to a sign page. It ends the session that began it and makes a new one, whose cookie value it returns.
// The state serves once, whatever comes of it. returnTo is a path on our origin, also where an error
// comes with it; it is "" where the state was not ours to begin with.
func (p *People) FinishSignIn(ctx context.Context, sessionHash []byte, state, code, oauthError string) (newCookieValue, returnTo string, err error) {
	invalid := refusal.New(CodeState, "This sign-in was not begun in this browser, or was finished before, or took too long. Please start it again.")
	if state == "" || len(state) > maxParameter || len(code) > maxParameter {
		return "", "", invalid
	}
	var begun store.OAuthState
	err = p.store.Outside(ctx, func(sh *store.Shared) (err error) {
		begun, err = sh.TakeOAuthState(ctx, hash(state))
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return "", "", invalid
	}
	if err != nil {
		return "", "", err
	}
	if !begun.Alive || begun.Purpose != store.PurposeSignIn || subtle.ConstantTimeCompare(begun.SessionHash, sessionHash) != 1 {
		return "", "", invalid
	}
	if oauthError == "access_denied" {
		return "", begun.ReturnTo, refusal.New(CodeConsentDenied, "Bitbucket was not given your consent; you are not signed in.")
	}
	if oauthError != "" || code == "" {
		return "", begun.ReturnTo, refusal.New(CodeSignInRefused, "Bitbucket ended the round trip without a consent; you are not signed in.")
	}
	who, err := p.identify(ctx, code)
	if err != nil {
		return "", begun.ReturnTo, err
	}
	cookieValue := newSecret()
	var person store.Person
	err = p.store.Outside(ctx, func(sh *store.Shared) error {
		if person, err = sh.PutPerson(ctx, who.person); err != nil {
			return err
		}
		expected, err := sh.ExpectedPerson(ctx, sessionHash)
		if err != nil {
			return err
		}
		if expected != "" && expected != person.ID {
			return otherAccount()
		}
		if err := sh.PutMemberships(ctx, person.ID, who.roles); err != nil {
			return err
		}
		if err := sh.DeleteSession(ctx, sessionHash); err != nil {
			return err
		}
		return sh.InsertSession(ctx, hash(cookieValue), &person.ID, sessionLife)
	})
	if err != nil {
		return "", begun.ReturnTo, err
	}
	p.log.InfoContext(ctx, "signed in", "person", person.ID)
	return cookieValue, begun.ReturnTo, nil
}

// identity is what a sign-in brings.
type identity struct {
	person store.Person
	// roles are what the person is in their workspaces: where we look for those that are connected.
	roles map[string]store.Role
}

// identify turns a code into a person. Bitbucket's tokens are used here and then dropped.
func (p *People) identify(ctx context.Context, code string) (identity, error) {
	token, err := p.signIn.Exchange(ctx, code, "")
	if errors.Is(err, bitbucket.ErrGrantDead) {
		return identity{}, refusal.New(CodeSignInRefused, "Bitbucket did not accept the code that it gave your browser. Please sign in again.").Because(err)
	}
	if err != nil {
		return identity{}, asked(err)
	}
	if missing := missingScopes(token.Scopes); len(missing) > 0 {
		return identity{}, refusal.New(CodeScopeMissing, "The OAuth consumer at Bitbucket lacks the permission %s; whoever registered it has to add it.", strings.Join(missing, ", "))
	}
	// Nobody else's sign-in waits for the budget of this one: Bitbucket counts by account, and which one
	// this is is not known yet.
	client := p.api.As(token.Access, "sign-in:"+hex.EncodeToString(hash(code)[:8]), bitbucket.Foreground)
	user, err := client.CurrentUser(ctx)
	if err != nil {
		return identity{}, asked(err)
	}
	if user.AccountID == "" || user.Type != "" && user.Type != "user" {
		return identity{}, refusal.New(CodeSignInRefused, "Only people can sign in, and this account is none.")
	}
	emails, err := client.Emails(ctx)
	if err != nil {
		return identity{}, asked(err)
	}
	roles, err := rolesOf(ctx, client)
	if err != nil {
		return identity{}, asked(err)
	}
	return identity{
		person: store.Person{
			AccountID: user.AccountID, AccountUUID: user.UUID, Name: displayName(user), Email: address(emails),
		},
		roles: roles,
	}, nil
}

// missingScopes names what a sign-in lacks.
func missingScopes(granted []string) []string {
	var missing []string
	for _, scope := range []string{"account", "email"} {
		if !slices.Contains(granted, scope) && !slices.Contains(granted, scope+":write") {
			missing = append(missing, scope)
		}
	}
	return missing
}

// rolesOf asks what the person is in each of their workspaces.
func rolesOf(ctx context.Context, client *bitbucket.Client) (map[string]store.Role, error) {
	roles := map[string]store.Role{}
	for workspace, err := range client.Workspaces(ctx) {
		if err != nil {
			return nil, err
		}
		roles[workspace.UUID] = store.RoleMember
		if workspace.Administrator {
			roles[workspace.UUID] = store.RoleAdmin
		}
		if len(roles) == maxWorkspaces {
			break
		}
	}
	return roles, nil
}

// address picks the address for mail: the primary one, and only if Bitbucket has confirmed it.
func address(emails []bitbucket.Email) string {
	for _, email := range emails {
		if email.Primary && email.Confirmed {
			return email.Address
		}
	}
	return ""
}

func displayName(user bitbucket.User) string {
	for _, name := range []string{user.DisplayName, user.Nickname} {
		if name != "" {
			return name
		}
	}
	return user.AccountID
}

// asked turns what went wrong while Bitbucket was asked into what the caller is told.
func asked(err error) error {
	remote, ok := errors.AsType[*bitbucket.Error](err)
	switch {
	case !ok:
		return err
	case remote.Class() == bitbucket.Transient:
		return refusal.New(refusal.BitbucketUnavailable, "%s", bitbucket.Unavailable(err)).Because(err)
	}
	return refusal.New(CodeSignInRefused, "Bitbucket does not let this server find out who you are; whoever runs it has to look at its OAuth consumer.").Because(err)
}
