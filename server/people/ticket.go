package people

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

const (
	// ticketLife is how long the way from the panel to the sign page may take. A panel that stays open
	// asks for another ticket before that.
	ticketLife = 2 * time.Minute
	// streamTokenLife is how long a panel in Bitbucket's frame follows a pull request before it has to
	// ask for another token.
	streamTokenLife = 5 * time.Minute
	// streamTokenPrefix sets a stream token apart from an API token.
	streamTokenPrefix = "sa_stream_"
)

// CreateTicket makes a ticket for the way of a person from the panel to the sign page of a request at a
// head. It is bound to all three, serves once, and opens nothing: on the page the person still has to be
// signed in, and to sign with a passkey. The caller has seen to it that the person may see the request.
func (p *People) CreateTicket(ctx context.Context, person store.Person, workspace, requestID, headCommit string) (ticket store.Secret, expiresAt time.Time, err error) {
	text := newSecret()
	err = p.store.Outside(ctx, func(sh *store.Shared) error {
		expiresAt, err = sh.InsertTicket(ctx, hash(text), store.Ticket{
			PersonID: person.ID, WorkspaceID: workspace, RequestID: requestID, HeadCommit: headCommit,
		}, ticketLife)
		return err
	})
	return store.Secret(text), expiresAt, err
}

// RedeemTicket uses a ticket up. Where the ticket's person is signed in, it answers where the ticket
// leads. Where nobody is, only that person can sign in in this browser session, on the way to a sign page.
// Somebody else is refused with OTHER_ACCOUNT, and learns nothing of whose ticket it is.
func (p *People) RedeemTicket(ctx context.Context, sessionHash []byte, signedIn *store.Person, ticket string) (store.Ticket, error) {
	invalid := refusal.New(CodeTicket, "The link from Bitbucket was used before, or is older than two minutes.").At("ticket")
	if len(ticket) != cookieLength {
		return store.Ticket{}, invalid
	}
	var taken store.Ticket
	var other bool // commits: a ticket that was shown is used up
	err := p.store.Outside(ctx, func(sh *store.Shared) (err error) {
		if taken, err = sh.TakeTicket(ctx, hash(ticket)); err != nil {
			return err
		}
		if signedIn == nil {
			return sh.ExpectPerson(ctx, sessionHash, taken.PersonID)
		}
		other = signedIn.ID != taken.PersonID
		return nil
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return store.Ticket{}, invalid
	case err != nil:
		return store.Ticket{}, err
	case other:
		return store.Ticket{}, otherAccount()
	}
	return taken, nil
}

func otherAccount() *refusal.Error {
	return refusal.New(CodeOtherAccount, "The panel in Bitbucket belongs to another Bitbucket account than the one that signed in here. Sign in as the account that you use in Bitbucket.")
}

// CreateStreamToken makes a token with which the person can subscribe, in one workspace and for five
// minutes. It can do nothing else.
func (p *People) CreateStreamToken(ctx context.Context, person store.Person, workspace string) (token store.Secret, expiresAt time.Time, err error) {
	text := streamTokenPrefix + newSecret()
	err = p.store.Outside(ctx, func(sh *store.Shared) error {
		expiresAt, err = sh.InsertStreamToken(ctx, hash(text), person.ID, workspace, streamTokenLife)
		return err
	})
	return store.Secret(text), expiresAt, err
}

// IsStreamToken tells a stream token by its form.
func IsStreamToken(text string) bool { return strings.HasPrefix(text, streamTokenPrefix) }

// StreamCaller makes out whose a stream token is; the refusal TOKEN_INVALID where it is unknown or over.
func (p *People) StreamCaller(ctx context.Context, token string) (person store.Person, workspace string, err error) {
	err = p.store.Outside(ctx, func(sh *store.Shared) error {
		var id string
		if id, workspace, err = sh.StreamToken(ctx, hash(token)); err != nil {
			return err
		}
		person, err = sh.Person(ctx, id)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		err = refusal.New(CodeTokenInvalid, "This stream token is unknown or over; ask for another one.")
	}
	return person, workspace, err
}

// Meet gives the person of a Bitbucket account that Atlassian has identified in a workspace. An account
// that was never here becomes a person, with the name that Bitbucket tells.
func (p *People) Meet(ctx context.Context, workspace, accountID string) (store.Person, error) {
	var known []store.Person
	err := p.store.Outside(ctx, func(sh *store.Shared) (err error) {
		known, err = sh.PeopleByAccounts(ctx, []string{accountID})
		return err
	})
	if err != nil || len(known) == 1 {
		return append(known, store.Person{})[0], err
	}
	user, err := p.Account(ctx, workspace, accountID)
	if err != nil {
		return store.Person{}, asked(err)
	}
	if user.AccountID != accountID || user.UUID == "" {
		return store.Person{}, refusal.New(refusal.Forbidden, "Bitbucket does not tell who this account is.")
	}
	var person store.Person
	err = p.store.Outside(ctx, func(sh *store.Shared) (err error) {
		person, err = sh.MeetPerson(ctx, store.Person{AccountID: accountID, AccountUUID: user.UUID, Name: displayName(user)})
		return err
	})
	return person, err
}
