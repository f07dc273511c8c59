package workspace

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

const (
	// stateLife is how long a consent page may stay open.
	stateLife = 10 * time.Minute
	// grantLife is how long a consent waits for a workspace to be picked.
	grantLife = 15 * time.Minute
	// maxParameter bounds what a callback's parameters may hold, in bytes.
	maxParameter = 4 << 10
)

// Scope is a permission that the connect consumer asks of Bitbucket.
type Scope struct {
	// Name is Bitbucket's.
	Name string
	// Purpose says what it is for, a sentence.
	Purpose string
	// impliedBy are scopes that hold this one.
	impliedBy []string
}

// Scopes are the permissions that the connect consumer needs, in the order in which they are shown.
func Scopes() []Scope {
	return []Scope{
		{"account", "To see which workspaces you administer, who their members are, and what each may do.", []string{"account:write"}},
		{"pullrequest:write", "To read pull requests, to set their build status, and to merge them where a rule says so.", nil},
		{"repository:admin", "To read who may write to a repository, and to read and set its branch restrictions.", nil},
		{"webhook", "To be told of changes to the pull requests of the repositories that you choose.", nil},
	}
}

// missingScopes names those that a consent lacks.
func missingScopes(granted []string) []string {
	var missing []string
	for _, scope := range Scopes() {
		if !slices.ContainsFunc(append([]string{scope.Name}, scope.impliedBy...), func(s string) bool { return slices.Contains(granted, s) }) {
			missing = append(missing, scope.Name)
		}
	}
	return missing
}

// BeginConnect starts an OAuth round trip for the signed-in person and returns the address of
// Bitbucket's consent page. returnTo is the path on our origin to come back to; "" is the
// dashboard's settings page.
func (w *Workspaces) BeginConnect(ctx context.Context, person store.Person, sessionHash []byte, returnTo string) (string, error) {
	if returnTo == "" {
		returnTo = "/settings/bitbucket"
	}
	if !store.LocalPath(returnTo) {
		return "", refusal.New(refusal.BadInput, "The way back must be a path on this server.").At("returnTo")
	}
	random := make([]byte, 32)
	rand.Read(random) // never fails
	state := base64.RawURLEncoding.EncodeToString(random)
	hash := sha256.Sum256([]byte(state))
	err := w.store.Outside(ctx, func(sh *store.Shared) error {
		return sh.InsertOAuthState(ctx, hash[:], store.OAuthState{
			SessionHash: sessionHash, Purpose: store.PurposeConnect, ReturnTo: returnTo,
		}, stateLife)
	})
	if err != nil {
		return "", err
	}
	w.log.InfoContext(ctx, "connect begun", "person", person.ID)
	return w.connect.AuthCodeURL(state, ""), nil
}

// FinishConnect is the other end of the round trip: the callback's parameters state and code, or
// oauthError. It stores the consent for the person of the session, who then picks a workspace with
// Connect. The state serves once, whatever comes of it. returnTo is a path on our origin, also where
// an error comes with it; it is "" where the state was not ours to begin with.
func (w *Workspaces) FinishConnect(ctx context.Context, sessionHash []byte, state, code, oauthError string) (returnTo string, err error) {
	invalid := refusal.New(CodeState, "This round trip to Bitbucket was not begun in this browser, or was finished before, or took too long. Please start it again.")
	if state == "" || len(state) > maxParameter || len(code) > maxParameter {
		return "", invalid
	}
	hash := sha256.Sum256([]byte(state))
	var begun store.OAuthState
	var person *store.Person
	err = w.store.Outside(ctx, func(sh *store.Shared) error {
		if begun, err = sh.TakeOAuthState(ctx, hash[:]); err != nil {
			return err
		}
		session, err := sh.Session(ctx, sessionHash)
		if errors.Is(err, store.ErrNotFound) {
			return nil // the state is used up all the same
		}
		person = session.Person
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return "", invalid
	}
	if err != nil {
		return "", err
	}
	if !begun.Alive || begun.Purpose != store.PurposeConnect || person == nil ||
		subtle.ConstantTimeCompare(begun.SessionHash, sessionHash) != 1 {
		return "", invalid
	}
	if oauthError == "access_denied" {
		return begun.ReturnTo, refusal.New(CodeConsentDenied, "Bitbucket was not given your consent; nothing was connected.")
	}
	if oauthError != "" || code == "" {
		return begun.ReturnTo, refusal.New(CodeGrantRefused, "Bitbucket ended the round trip without a consent; nothing was connected.")
	}
	return begun.ReturnTo, w.keepGrant(ctx, *person, code)
}

// keepGrant turns a code into tokens and stores them for the person.
func (w *Workspaces) keepGrant(ctx context.Context, person store.Person, code string) error {
	token, err := w.connect.Exchange(ctx, code, "")
	if errors.Is(err, bitbucket.ErrGrantDead) {
		return refusal.New(CodeGrantRefused, "Bitbucket did not accept the code that it gave your browser. Please start again.").Because(err)
	}
	if err != nil {
		return asked(err)
	}
	if missing := missingScopes(token.Scopes); len(missing) > 0 {
		return refusal.New(CodeScopeMissing, "The OAuth consumer at Bitbucket lacks the permission %s; whoever registered it has to add it.", strings.Join(missing, ", "))
	}
	if token.Refresh == "" {
		return refusal.New(CodeGrantRefused, "Bitbucket gave a consent that cannot be renewed; the OAuth consumer has to be registered for it.")
	}
	user, err := w.api.As(token.Access, "person:"+person.ID, bitbucket.Foreground).CurrentUser(ctx)
	if err != nil {
		return asked(err)
	}
	if user.AccountID == "" || user.AccountID != person.AccountID {
		return otherAccount(user.DisplayName, person)
	}
	return w.store.Outside(ctx, func(sh *store.Shared) error {
		return sh.InsertPendingGrant(ctx, store.PendingGrant{
			ID: uuid.NewString(), PersonID: person.ID,
			AccountID: user.AccountID, AccountUUID: user.UUID, AccountName: user.DisplayName, Scopes: token.Scopes,
			AccessToken: store.Secret(token.Access), RefreshToken: store.Secret(token.Refresh), AccessExpiresAt: token.Expiry,
		}, grantLife)
	})
}

func otherAccount(name string, person store.Person) error {
	return refusal.New(CodeOtherAccount, "%s consented at Bitbucket, but %s is signed in here. Sign in here with the account that is to connect the workspace.", name, person.Name)
}

// Grant is a consent of a person that waits for a workspace to be picked.
type Grant struct {
	ID          string
	AccountName string
	ExpiresAt   time.Time
	// Workspaces are those that the account administers, by name.
	Workspaces []GrantWorkspace
}

// GrantWorkspace is a workspace that a consent could be used for.
type GrantWorkspace struct {
	UUID, Slug, Name string
	// Connected: picking it replaces the connection that it has.
	Connected bool
}

// Grants lists the person's consents that wait, newest first, with the workspaces that each could be
// used for, as Bitbucket says now. A consent that was revoked at Bitbucket meanwhile is forgotten.
func (w *Workspaces) Grants(ctx context.Context, person store.Person) ([]Grant, error) {
	var pending []store.PendingGrant
	err := w.store.Outside(ctx, func(sh *store.Shared) (err error) {
		pending, err = sh.PendingGrants(ctx, person.ID)
		return err
	})
	if err != nil {
		return nil, err
	}
	var grants []Grant
	for _, p := range pending {
		grant := Grant{ID: p.ID, AccountName: p.AccountName, ExpiresAt: p.ExpiresAt}
		administered, err := w.administered(ctx, p)
		if remote, ok := errors.AsType[*bitbucket.Error](err); ok && remote.Unauthorized() {
			if err := w.forgetGrant(ctx, person.ID, p.ID); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, asked(err)
		}
		w.name(ctx, p, administered)
		ids := make([]string, len(administered))
		for i, a := range administered {
			ids[i] = a.UUID
		}
		connected, err := w.store.ConnectedWorkspaces(ctx, ids)
		if err != nil {
			return nil, err
		}
		for _, a := range administered {
			grant.Workspaces = append(grant.Workspaces, GrantWorkspace{
				UUID: a.UUID, Slug: a.Slug, Name: a.Name,
				Connected: slices.ContainsFunc(connected, func(c store.Workspace) bool { return c.ID == a.UUID }),
			})
		}
		grants = append(grants, grant)
	}
	return grants, nil
}

func (w *Workspaces) forgetGrant(ctx context.Context, personID, id string) error {
	err := w.store.Outside(ctx, func(sh *store.Shared) error {
		_, err := sh.TakePendingGrant(ctx, personID, id)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// administered asks Bitbucket which workspaces the account of a consent administers.
func (w *Workspaces) administered(ctx context.Context, grant store.PendingGrant) ([]bitbucket.Workspace, error) {
	var list []bitbucket.Workspace
	client := w.api.As(string(grant.AccessToken), "person:"+grant.PersonID, bitbucket.Foreground)
	for one, err := range client.Workspaces(ctx) {
		if err != nil {
			return nil, err
		}
		if one.Administrator {
			list = append(list, one)
		}
	}
	return list, nil
}

// maxNamed bounds how many workspaces of a consent are asked for their names, each at the cost of a call.
const maxNamed = 20

// name asks what workspaces are called, for the list has no names, and puts them in that order. One whose
// name cannot be had goes by its slug.
func (w *Workspaces) name(ctx context.Context, grant store.PendingGrant, list []bitbucket.Workspace) {
	client := w.api.As(string(grant.AccessToken), "person:"+grant.PersonID, bitbucket.Foreground)
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i := range list[:min(len(list), maxNamed)] {
		group.Go(func() error {
			one, err := client.Workspace(ctx, list[i].UUID)
			if err != nil {
				w.log.InfoContext(ctx, "a workspace's name could not be read", "workspace", list[i].UUID, "error", err)
				return nil
			}
			list[i].Name = one.Name
			return nil
		})
	}
	_ = group.Wait() // no name is no fault
	slices.SortFunc(list, func(a, b bitbucket.Workspace) int {
		return strings.Compare(strings.ToLower(a.Name)+"\x00"+a.UUID, strings.ToLower(b.Name)+"\x00"+b.UUID)
	})
}

// Connect uses a consent of the person for one of the workspaces that they administer, as Bitbucket
// says now. A workspace that is connected already gets the new connection in the place of the old
// one; where another account gave that, an alarm says what it means.
func (w *Workspaces) Connect(ctx context.Context, person store.Person, grantID, workspaceUUID string) (store.Workspace, error) {
	workspace, ok := bitbucket.BareUUID(workspaceUUID)
	if !ok {
		return store.Workspace{}, notFound("workspace").At("workspaceUuid")
	}
	expired := refusal.New(refusal.NotFound, "This consent was used, or is more than 15 minutes old. Please start again.").At("grantId")
	if !store.ValidID(grantID) {
		return store.Workspace{}, expired
	}
	var grant store.PendingGrant
	err := w.store.Outside(ctx, func(sh *store.Shared) (err error) {
		grant, err = sh.PendingGrant(ctx, person.ID, grantID)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return store.Workspace{}, expired
	}
	if err != nil {
		return store.Workspace{}, err
	}
	if grant.AccountID != person.AccountID {
		return store.Workspace{}, otherAccount(grant.AccountName, person)
	}
	administered, err := w.administered(ctx, grant)
	if err != nil {
		return store.Workspace{}, asked(err)
	}
	if !slices.ContainsFunc(administered, func(a bitbucket.Workspace) bool { return a.UUID == workspace }) {
		return store.Workspace{}, refusal.New(CodeNotAdministrator, "Bitbucket does not list %s as an administrator of that workspace.", grant.AccountName).At("workspaceUuid")
	}

	// The list of workspaces has no names.
	remote, err := w.api.As(string(grant.AccessToken), "person:"+person.ID, bitbucket.Foreground).Workspace(ctx, workspace)
	if err != nil {
		return store.Workspace{}, asked(err)
	}

	var connected store.Workspace
	err = w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		// The consent serves once: of two calls with it, one gets no further.
		grant, err := tx.TakePendingGrant(ctx, person.ID, grantID)
		if errors.Is(err, store.ErrNotFound) {
			return expired
		}
		if err != nil {
			return err
		}
		connected, err = w.storeConnection(ctx, tx, person, grant, remote)
		return err
	})
	if err != nil {
		return store.Workspace{}, err
	}
	w.log.InfoContext(ctx, "workspace connected", "workspace", workspace, "person", person.ID)
	return connected, nil
}

// storeConnection is the transaction of Connect.
func (w *Workspaces) storeConnection(ctx context.Context, tx *store.Tx, person store.Person, grant store.PendingGrant, remote bitbucket.Workspace) (store.Workspace, error) {
	workspace, created, err := tx.PutWorkspace(ctx, remote.Slug, remote.Name)
	if err != nil {
		return store.Workspace{}, err
	}
	before, err := tx.LockConnection(ctx)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return store.Workspace{}, err
	}
	err = tx.PutConnection(ctx, store.Connection{
		ConnectedBy: person.ID, AccountID: grant.AccountID, AccountUUID: grant.AccountUUID, AccountName: grant.AccountName,
		Scopes: grant.Scopes, AccessToken: grant.AccessToken, RefreshToken: grant.RefreshToken, AccessExpiresAt: &grant.AccessExpiresAt,
	})
	if err != nil {
		return store.Workspace{}, err
	}
	if err := tx.PutMemberships(ctx, person.ID, map[string]store.Role{workspace.ID: store.RoleAdmin}); err != nil {
		return store.Workspace{}, err
	}
	for _, kind := range []string{store.AlarmNeedsReconnecting, store.AlarmConnectionRights, store.AlarmUninstalled} {
		if err := tx.CloseAlarm(ctx, kind, workspace.ID); err != nil {
			return store.Workspace{}, err
		}
	}
	if err := w.alarmReplaced(ctx, tx, person, before, grant); err != nil {
		return store.Workspace{}, err
	}
	if err := w.resume(ctx, tx); err != nil {
		return store.Workspace{}, err
	}
	if created {
		if err := appendGenesis(ctx, tx, workspace); err != nil {
			return store.Workspace{}, err
		}
	}
	event := "made"
	if before.State == store.ConnectionActive || before.State == store.ConnectionNeedsReconnecting {
		event = "renewed"
	}
	return workspace, appendLeaf(ctx, tx, workspace, evidence.Connection{Event: event, Person: person.ID})
}

// alarmReplaced tells when the account in whose name we write has changed: Bitbucket lets a build
// status be overwritten by the account that wrote it and by administrators of the repository. It
// stays until that same account connects once more.
func (w *Workspaces) alarmReplaced(ctx context.Context, tx *store.Tx, person store.Person, before store.Connection, grant store.PendingGrant) error {
	s, err := readStanding(ctx, tx)
	if err != nil {
		return err
	}
	if before.AccountID == "" || s.active() { // then the app writes
		return nil
	}
	if before.AccountID == grant.AccountID {
		return tx.CloseAlarm(ctx, store.AlarmConnectionReplaced, tx.Workspace)
	}
	_, err = tx.RaiseAlarm(ctx, store.Alarm{
		Kind: store.AlarmConnectionReplaced, Subject: tx.Workspace,
		Sentence: grant.AccountName + " connected this workspace in the place of " + before.AccountName +
			". Bitbucket lets a build status be changed only by the account that wrote it or by an administrator of the repository: if " +
			grant.AccountName + " stops being one, statuses written by " + before.AccountName + " can no longer be corrected.",
	})
	if err != nil || before.ConnectedBy == person.ID {
		return err
	}
	return tx.AddNotice(ctx, store.Notice{
		PersonID: before.ConnectedBy, WorkspaceID: tx.Workspace, Kind: store.AlarmConnectionReplaced,
		DedupeKey: "replaced:" + tx.Workspace + ":" + grant.ID, Title: "Your connection was replaced",
		Sentence: grant.AccountName + " connected the workspace again: your consent is no longer used here. You can remove it at Bitbucket.",
		Path:     "/settings/bitbucket",
	})
}

// resume asks for everything that a workspace waited with while it had no working connection.
func (w *Workspaces) resume(ctx context.Context, tx *store.Tx) error {
	configs, err := tx.AllRepositoryConfigs(ctx)
	if err != nil {
		return err
	}
	for _, config := range configs {
		if err := tx.Enqueue(ctx, store.AskReconcile(tx.Workspace, config.RepositoryID)); err != nil {
			return err
		}
	}
	now, err := tx.Now(ctx)
	if err != nil {
		return err
	}
	return tx.Enqueue(ctx, refreshJob(tx.Workspace, now.Add(checkInterval)))
}
