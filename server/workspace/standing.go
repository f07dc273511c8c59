package workspace

import (
	"context"
	"errors"
	"time"

	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// standing is how a workspace stands with Bitbucket at one moment: in whose name it may be asked.
type standing struct {
	app        *store.Installation // the one that is not over, else the last one; nil where there never was one
	connection *store.Connection   // nil where there never was one, or it was ended here
	now        time.Time           // the database's
}

func (w *Workspaces) standing(ctx context.Context, workspace string) (s standing, err error) {
	if !store.ValidID(workspace) {
		return s, nil
	}
	read, err := w.store.Standing(ctx, workspace)
	s = standing{app: read.Installation, connection: read.Connection, now: read.Now}
	if s.connection != nil && s.connection.State == store.ConnectionDisconnected {
		s.connection = nil
	}
	return s, err
}

func readStanding(ctx context.Context, tx *store.Tx) (standing, error) {
	return standingBy(ctx, tx, tx.Connection, tx.Installation)
}

// lockStanding is readStanding, and keeps it so until the transaction ends. Whoever locks both locks
// them in this order.
func lockStanding(ctx context.Context, tx *store.Tx) (standing, error) {
	return standingBy(ctx, tx, tx.LockConnection, tx.LockInstallation)
}

func standingBy(
	ctx context.Context, tx *store.Tx,
	connection func(context.Context) (store.Connection, error), installation func(context.Context) (store.Installation, error),
) (s standing, err error) {
	c, err := connection(ctx)
	if err == nil && c.State != store.ConnectionDisconnected {
		s.connection = &c
	}
	if ignoreNotFound(err) != nil {
		return s, err
	}
	i, err := installation(ctx)
	if err == nil {
		s.app = &i
	}
	if ignoreNotFound(err) != nil {
		return s, err
	}
	s.now, err = tx.Now(ctx)
	return s, err
}

// installed tells whether the app is in the workspace, confirmed or not.
func (s standing) installed() bool { return s.app != nil && !s.app.Over() }

// active tells whether the app is the workspace's: then it is the one that writes, and nobody else is.
func (s standing) active() bool { return s.app != nil && s.app.State == store.InstallationActive }

// holdsToken tells whether the app in the workspace can be used for a call.
func (s standing) holdsToken() bool { return s.installed() && s.app.TokenLives(s.now, tokenMargin) }

// works tells whether there is a connection that Bitbucket accepts, as far as is known.
func (s standing) works() bool {
	return s.connection != nil && s.connection.State == store.ConnectionActive
}

// linked tells whether the workspace is here at all: it has the app or a connection, or had the app and
// may have it again.
func (s standing) linked() bool { return s.app != nil || s.connection != nil }

// silence says why Bitbucket can be asked about rights in nobody's name now; nil where it can be.
func (s standing) silence() *refusal.Error {
	switch {
	case s.works(), s.holdsToken():
		return nil
	case s.installed():
		return waitingForToken()
	case s.connection != nil:
		return needsReconnecting()
	}
	return uninstalled()
}

// waits says what the app in the workspace waits for.
func (s standing) waits() *refusal.Error {
	if s.active() {
		return waitingForToken()
	}
	return awaitingConfirmation()
}

func waitingForToken() *refusal.Error {
	return refusal.New(refusal.WaitingForToken, "Bitbucket gives the app a new token at least each hour, and none is held now: this waits for the next one.")
}

func awaitingConfirmation() *refusal.Error {
	return refusal.New(refusal.AwaitingConfirmation, "The app was installed in a workspace that was gated before. An administrator of the workspace has to confirm it first.")
}

func uninstalled() *refusal.Error {
	return refusal.New(refusal.NeedsReconnecting, "The app was uninstalled from this workspace; an administrator has to install it again, or connect the workspace.")
}

// ignoreNotFound is for what need not be there.
func ignoreNotFound(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}
