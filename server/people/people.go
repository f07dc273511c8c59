package people

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/passkey"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// Codes of refusals that only this package gives.
const (
	// CodeState: the OAuth round trip was not begun by this browser session, was finished before, or
	// took longer than ten minutes.
	CodeState = "OAUTH_STATE_INVALID"
	// CodeConsentDenied: the person said no on Bitbucket's consent page.
	CodeConsentDenied = "CONSENT_DENIED"
	// CodeSignInRefused: Bitbucket did not tell us who signs in.
	CodeSignInRefused = "SIGN_IN_REFUSED"
	// CodeScopeMissing: the sign-in consumer lacks a permission; the message names it.
	CodeScopeMissing = "SCOPE_MISSING"
	// CodeTokenInvalid: the API token is unknown, expired or revoked, or its person has no rights in
	// its workspace any more.
	CodeTokenInvalid = "TOKEN_INVALID"
	// CodeTicket: the ticket was used before, or it expired.
	CodeTicket = "TICKET"
	// CodeOtherAccount: the ticket is of another Bitbucket account than the one that is signed in here.
	CodeOtherAccount = "OTHER_ACCOUNT"
	// CodeLimit: there are as many of these as there may be.
	CodeLimit = "LIMIT_REACHED"
	// CodePasskeyRefused: the authenticator's answer cannot be accepted; the message says why.
	CodePasskeyRefused = "PASSKEY_REFUSED"
	// CodePasskeyKnown: this key is enrolled already.
	CodePasskeyKnown = "PASSKEY_ENROLLED_ALREADY"
	// CodeWaiting: the key is not waiting to be enrolled any more, or was never confirmed.
	CodeWaiting = "NOT_WAITING"
	// CodeNoKey: there is no key of the person that could sign this.
	CodeNoKey = "NO_KEY"
	// CodeOwnKey: nobody countersigns their own key.
	CodeOwnKey = "OWN_KEY"
	// CodeCountersigned: there is nothing to countersign.
	CodeCountersigned = "NOTHING_TO_COUNTERSIGN"
	// CodeRevoked: the key was revoked before.
	CodeRevoked = "REVOKED_ALREADY"
	// CodeProtected: the workspace was protected while somebody signed.
	CodeProtected = "PROTECTED"
	// CodeChallenge: the enrolment was not begun by this session, was finished before, or took longer
	// than five minutes.
	CodeChallenge = "CHALLENGE_EXPIRED"
)

// Options is what People is built from. All fields but Log are needed.
type Options struct {
	Store *store.Store
	API   *bitbucket.API
	// SignIn is the OAuth consumer that people sign in with.
	SignIn   bitbucket.Consumer
	Passkeys *passkey.Ceremonies
	// LogOrigin names the log that what keys sign about keys is appended to.
	LogOrigin string
	// Log is where changes are written down for the operator; nil is slog's default.
	Log *slog.Logger
}

// People holds the use cases. It is safe for concurrent use once Account, Role, Roster, Follow and Propose are set, which app does before
// the first call.
type People struct {
	store     *store.Store
	api       *bitbucket.API
	signIn    bitbucket.Consumer
	passkeys  *passkey.Ceremonies
	logOrigin string
	log       *slog.Logger

	// Account asks Bitbucket who an account is, in the name of a workspace.
	Account func(ctx context.Context, workspace, accountID string) (bitbucket.User, error)
	// Role is what a person is in a connected workspace, at most five minutes old, or read anew.
	Role func(ctx context.Context, person store.Person, workspace string, fresh bool) (store.Role, error)
	// Roster brings the workspace's roster up to date with the person's keys and answers the digest of its newest version.
	Roster func(ctx context.Context, person store.Person, workspace string) (evidence.Digest, error)
	// Follow is Roster without an answer, in the transaction of whoever changes the keys of the person; it takes the lock of
	// the roster after theirs.
	Follow func(ctx context.Context, tx *store.Tx, personID string) error
	// Propose makes a proposal about the key of a member of a protected workspace, which is applied by ApplyProposal. The
	// error says that it was made: nothing is done before others have signed.
	Propose func(ctx context.Context, workspace string, proposal store.Proposal, holder store.Person) error
	// Redact erases an account from everything that is about pull requests. Only Erase needs it.
	Redact func(ctx context.Context, accountID string) (pullRequests int, err error)
}

// New makes People.
func New(options Options) *People {
	if options.Log == nil {
		options.Log = slog.Default()
	}
	return &People{
		store: options.Store, api: options.API, signIn: options.SignIn, passkeys: options.Passkeys,
		logOrigin: options.LogOrigin, log: options.Log,
	}
}

// notFound is the answer for what does not exist and for what the caller may not see.
func notFound(what string) *refusal.Error {
	return refusal.New(refusal.NotFound, "There is no such %s, or you may not see it.", what)
}

// found turns the store's ErrNotFound into a refusal.
func found(err error, what string) error {
	if errors.Is(err, store.ErrNotFound) {
		return notFound(what)
	}
	return err
}

// hash is what is stored of a secret that has 256 random bits: it needs no salt and no slowness.
func hash(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// maxName is the longest name of a key or a token, in characters.
const maxName = 64

// checkName trims a name and refuses one that cannot be shown.
func checkName(name string) (string, error) {
	name = strings.TrimSpace(name)
	if name == "" || !utf8.ValidString(name) || utf8.RuneCountInString(name) > maxName ||
		strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "", refusal.New(refusal.BadInput, "A name has 1 to %d visible characters.", maxName).At("name")
	}
	return name, nil
}
