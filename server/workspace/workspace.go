package workspace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"golang.org/x/sync/singleflight"

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
	// CodeGrantRefused: Bitbucket did not turn the code of the round trip into tokens.
	CodeGrantRefused = "GRANT_REFUSED"
	// CodeScopeMissing: the consumer at Bitbucket lacks a permission; the message names it.
	CodeScopeMissing = "SCOPE_MISSING"
	// CodeOtherAccount: another Bitbucket account consented than the one that is signed in here.
	CodeOtherAccount = "OTHER_ACCOUNT"
	// CodeNotAdministrator: the account does not administer the workspace.
	CodeNotAdministrator = "NOT_ADMINISTRATOR"
	// CodeConnectionRights: the account whose grant the connection is may no longer do what is needed.
	CodeConnectionRights = "CONNECTION_LACKS_RIGHTS"
	// CodeProtected: the rules of the workspace change by signatures alone.
	CodeProtected = "PROTECTED"
	// CodeProposal: the proposal is not open any more.
	CodeProposal = "PROPOSAL_CLOSED"
	// CodeSigned: the person has signed this already.
	CodeSigned = "SIGNED_ALREADY"
	// CodeNotAsked: the signature of this person is not asked for.
	CodeNotAsked = "NOT_ASKED"
	// CodeTooFew: too few people could sign for a change to come about.
	CodeTooFew = "TOO_FEW_TO_SIGN"
	// CodeNoKey: there is no passkey of the person that could sign.
	CodeNoKey = "NO_KEY"
	// CodePasskeyRefused: the authenticator's answer cannot be accepted; the message says why.
	CodePasskeyRefused = "PASSKEY_REFUSED"
	// CodeChallenge: the signature was not begun by this session, was finished before, or took longer than five minutes.
	CodeChallenge = "CHALLENGE_EXPIRED"
	// CodeLimit: there are as many of these as there may be.
	CodeLimit = "LIMIT_REACHED"
	// CodeConsumer: Bitbucket does not accept this server's OAuth consumer; its operator has to look.
	CodeConsumer = "OAUTH_CONSUMER_REFUSED"
)

// cacheAge is how long Bitbucket's word about rights is believed.
const cacheAge = store.RightsAge

// Options is what Workspaces is built from. All fields but Log are needed.
type Options struct {
	Store *store.Store
	API   *bitbucket.API
	// Connect is the OAuth consumer to which an administrator consents.
	Connect bitbucket.Consumer
	// Origin is the scheme, host and port under which Bitbucket and browsers reach this server,
	// without a slash at the end.
	Origin string
	// Passkeys and LogOrigin are for what is signed: the ceremonies, and the log that it is appended to.
	Passkeys  *passkey.Ceremonies
	LogOrigin string
	// Witnesses is how many witnesses the server asks to cosign the log; a rule cannot ask for more.
	Witnesses int
	// Models is the snapshot of the FIDO metadata by which models of authenticators are proved; nil: none is.
	Models *evidence.Models
	// Log is where changes are written down for the operator; nil is slog's default.
	Log *slog.Logger
}

// Workspaces holds the use cases. It is safe for concurrent use once Cancel, Roster and ChangeKey are set, which app does
// before the first call.
type Workspaces struct {
	store   *store.Store
	api     *bitbucket.API
	connect bitbucket.Consumer
	origin  string
	log     *slog.Logger

	passkeys  *passkey.Ceremonies
	logOrigin string
	models    *evidence.Models

	// Witnesses is as in [Options].
	Witnesses int

	// people lets callers who want the same list at the same time share one reading of it.
	people singleflight.Group

	// Cancel cancels all open requests of a repository, of the whole workspace where repositoryID is
	// "", owes STOPPED for them and tries for some seconds to pay it. What could not be paid comes
	// back, a sentence each.
	Cancel func(ctx context.Context, workspace, repositoryID, why string) (leftToDo []string, err error)
	// Roster brings the workspace's roster up to date with the person's keys and answers the digest of its newest version.
	Roster func(ctx context.Context, person store.Person, workspace string) (evidence.Digest, error)
	// ChangeKey does to the key of a member what a proposal says. acts are those that counted, oldest first; the locks of
	// the rules, of the keys of everybody concerned and of the roster are held.
	ChangeKey func(ctx context.Context, tx *store.Tx, proposal store.Proposal, acts []store.ProposalAct) error
}

// New makes Workspaces.
func New(options Options) *Workspaces {
	if options.Log == nil {
		options.Log = slog.Default()
	}
	return &Workspaces{
		store: options.Store, api: options.API, connect: options.Connect,
		origin: strings.TrimRight(options.Origin, "/"), log: options.Log, passkeys: options.Passkeys, logOrigin: options.LogOrigin,
		Witnesses: options.Witnesses, models: options.Models,
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

// asked turns what went wrong while Bitbucket was asked in the name of a connection into what the
// caller is told. Nothing was changed where it is returned.
func asked(err error) error {
	if err == nil || refusal.Code(err) != "" {
		return err
	}
	remote, ok := errors.AsType[*bitbucket.Error](err)
	switch {
	case !ok:
		return err
	case remote.Unauthorized():
		return refusal.New(refusal.NeedsReconnecting, "Bitbucket no longer accepts this workspace's connection; an administrator has to connect it again.").Because(err)
	case remote.Forbidden(), remote.NotFound():
		return refusal.New(CodeConnectionRights, "Bitbucket does not let this workspace's app or connection see that; it may have lost its rights.").Because(err)
	case remote.Class() == bitbucket.Transient:
		return refusal.New(refusal.BitbucketUnavailable, "%s", bitbucket.Unavailable(err)).Because(err)
	}
	return err
}

// appendGenesis writes the first leaf of a workspace, from which its roster starts.
func appendGenesis(ctx context.Context, tx *store.Tx, w store.Workspace) error {
	entry, err := leafEntry(ctx, tx, w, evidence.Genesis{Salt: evidence.Digest(hexSHA256(w.GenesisSalt))})
	if err != nil {
		return err
	}
	tx.AppendLeaf(w.ID, evidence.LeafHash(entry), entry, "", 0)
	return tx.PutGenesis(ctx, evidence.LeafHash(entry))
}

// appendLeaf writes an event of a workspace into the log: the last thing that a transaction does.
func appendLeaf(ctx context.Context, tx *store.Tx, w store.Workspace, body evidence.Body) error {
	entry, err := leafEntry(ctx, tx, w, body)
	if err != nil {
		return err
	}
	tx.AppendLeaf(w.ID, evidence.LeafHash(entry), entry, "", 0)
	return nil
}

// leafEntry is an event of a workspace in the form of the log.
func leafEntry(ctx context.Context, tx *store.Tx, w store.Workspace, body evidence.Body) ([]byte, error) {
	now, err := tx.Now(ctx)
	if err != nil {
		return nil, err
	}
	entry, err := evidence.Leaf{Time: now, Workspace: evidence.WorkspaceID(w.GenesisSalt, bitbucket.BracedUUID(w.ID)), Body: body}.Entry()
	if err != nil {
		return nil, fmt.Errorf("leaf %s: %w", body.Type(), err)
	}
	return entry, nil
}
