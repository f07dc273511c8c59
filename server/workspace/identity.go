package workspace

import (
	"context"
	"errors"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/store"
)

// tokenMargin is how long before its end a system token is no longer handed out.
const tokenMargin = 2 * time.Minute

// Identity is in whose name a workspace's build statuses are written and its merges are made.
type Identity string

// The identities. While the app is in a workspace it is the only one: Bitbucket lets a status be changed
// by its author alone, so two authors must never take turns.
const (
	ActsAsApp        Identity = "APP"
	ActsAsConnection Identity = "CONNECTION"
	ActsAsNobody     Identity = "NOBODY"
)

// Client gives Bitbucket's API for a workspace.
//
// While the app is in the workspace, the client is the app's, with the newest token that Bitbucket
// brought. When none lives, or while the app waits to be confirmed, a working connection gives a client
// that may read and whose every writing call fails, before it leaves, with the refusal
// WAITING_FOR_TOKEN or AWAITING_CONFIRMATION; without a connection that refusal is the answer. Else the
// client is the connection's, as connectionClient says. NEEDS_RECONNECTING is also the answer after the
// app was uninstalled and nothing took its place.
func (w *Workspaces) Client(ctx context.Context, workspace string, class bitbucket.Class) (*bitbucket.Client, error) {
	s, err := w.standing(ctx, workspace)
	switch {
	case err != nil:
		return nil, err
	case s.active() && s.holdsToken():
		return w.appClient(*s.app, class)
	case s.installed():
		if !s.works() {
			return nil, s.waits()
		}
		client, err := w.connectionClientOf(ctx, workspace, class, s)
		if err != nil {
			return nil, s.waits().Because(err)
		}
		return client.ReadOnly(s.waits()), nil
	case s.app != nil && s.connection == nil:
		return nil, uninstalled()
	}
	return w.connectionClientOf(ctx, workspace, class, s)
}

// rightsClient is Client for finding out who somebody is: an app that waits to be confirmed may be asked
// that, since only an administrator may confirm it.
func (w *Workspaces) rightsClient(ctx context.Context, workspace string) (*bitbucket.Client, error) {
	s, err := w.standing(ctx, workspace)
	if err != nil || s.active() || s.works() || !s.holdsToken() {
		return w.Client(ctx, workspace, bitbucket.Foreground)
	}
	client, err := w.appClient(*s.app, bitbucket.Foreground)
	if err != nil {
		return nil, err
	}
	return client.ReadOnly(s.waits()), nil
}

// appClient is a client with the installation's token. Bitbucket counts the app's calls per workspace.
func (w *Workspaces) appClient(i store.Installation, class bitbucket.Class) (*bitbucket.Client, error) {
	api, err := w.api.At(i.APIBaseURL)
	if err != nil {
		return nil, err
	}
	return api.As(string(i.SystemToken), "installation:"+i.ID, class).Renewing(func(ctx context.Context, refused string) (string, error) {
		return w.tokenRefused(ctx, i, refused)
	}), nil
}

// tokenRefused forgets a token that Bitbucket answered with 401, and gives the one that came meanwhile.
func (w *Workspaces) tokenRefused(ctx context.Context, i store.Installation, refused string) (string, error) {
	var present store.Installation
	var now time.Time
	err := w.store.InWorkspace(ctx, i.WorkspaceID, func(tx *store.Tx) error {
		err := tx.DropSystemToken(ctx, i.ID, store.Secret(refused))
		if err != nil {
			return err
		}
		if now, err = tx.Now(ctx); err != nil {
			return err
		}
		present, err = tx.InstallationOf(ctx, i.InstallationID)
		return err
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return "", err
	}
	if present.State == i.State && present.TokenLives(now, tokenMargin) {
		return string(present.SystemToken), nil
	}
	w.log.WarnContext(ctx, "bitbucket refused the app's token", "workspace", i.WorkspaceID, "installation", i.InstallationID)
	return "", bitbucket.NotNow(waitingForToken())
}

// ActsAs says in whose name a workspace's build statuses are written and its merges are made, and, in a
// sentence or two, what that depends on.
func (w *Workspaces) ActsAs(ctx context.Context, workspace string) (Identity, string, error) {
	s, err := w.standing(ctx, workspace)
	if err != nil {
		return ActsAsNobody, "", err
	}
	who, sentence := s.actsAs()
	return who, sentence, nil
}

func (s standing) actsAs() (Identity, string) {
	second := ""
	if s.works() {
		second = " " + s.connection.AccountName + "'s connection is the second way: for webhooks, and for reading while the app holds no token. It writes nothing."
	}
	switch {
	case s.active() && s.holdsToken():
		return ActsAsApp, "The app writes build statuses and merges." + second
	case s.active():
		return ActsAsApp, "The app writes build statuses and merges, and holds no token now: what is to be written waits until Bitbucket brings one, at least each hour." + second
	case s.installed():
		return ActsAsNobody, "Nothing is written until an administrator of the workspace has confirmed the app."
	case s.works():
		return ActsAsConnection, s.connection.AccountName + "'s connection writes build statuses and merges."
	case s.connection != nil:
		return ActsAsNobody, "Nothing is written: Bitbucket no longer accepts " + s.connection.AccountName + "'s connection."
	case s.app != nil:
		return ActsAsNobody, "Nothing is written: the app was uninstalled."
	}
	return ActsAsNobody, "Nothing is written: the workspace has neither the app nor a connection."
}
