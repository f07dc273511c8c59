package workspace

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/signedapproval/bitbucket/server/atlassian"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// Installation reads the app's installation in a workspace for one of its members, without its token:
// the one that is there, else the last one. NOT_FOUND where there never was one.
func (w *Workspaces) Installation(ctx context.Context, person store.Person, workspace string) (store.Installation, error) {
	if err := w.mustBelong(ctx, person, workspace); err != nil {
		return store.Installation{}, err
	}
	var i store.Installation
	err := w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) (err error) {
		i, err = tx.Installation(ctx)
		return err
	})
	i.SystemToken = ""
	return i, found(err, "installation")
}

// ConfirmInstallation is an administrator's word that the app, as it is installed now, goes together with
// the rules and the history that the workspace has of before. It then acts, and what waited is rung. An
// installation that needs no word stays as it is.
func (w *Workspaces) ConfirmInstallation(ctx context.Context, person store.Person, workspace string) error {
	if !store.ValidID(workspace) {
		return notFound("workspace").At("workspaceId")
	}
	if err := w.mustAdminister(ctx, person, workspace); err != nil {
		return err
	}
	err := w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		own, _, err := tx.RegisterWorkspace(ctx) // for its lock
		if err != nil {
			return err
		}
		s, err := lockStanding(ctx, tx)
		if err != nil || s.active() {
			return err
		}
		if !s.installed() {
			return notFound("installation").At("workspaceId")
		}
		if err := tx.ConfirmInstallation(ctx, s.app.ID, person.ID); err != nil {
			return err
		}
		if err := tx.CloseAlarm(ctx, store.AlarmUnconfirmed, workspace); err != nil {
			return err
		}
		if err := tx.AskAgain(ctx, refusal.AwaitingConfirmation, refusal.WaitingForToken, refusal.NeedsReconnecting); err != nil {
			return err
		}
		if err := w.resume(ctx, tx); err != nil {
			return err
		}
		return appendLeaf(ctx, tx, own, evidence.Connection{Event: "confirmed", Person: person.ID})
	})
	if err != nil {
		return err
	}
	w.log.InfoContext(ctx, "app confirmed", "workspace", workspace, "person", person.ID)
	return nil
}

// Uninstalling follows the call that Bitbucket makes before it removes the app. The token that comes
// along is the last: open requests are cancelled with it, unless a working connection takes over. Rules
// and history are kept, the token is not. It finishes what it began also where its caller does not wait.
func (w *Workspaces) Uninstalling(ctx context.Context, inv atlassian.Invocation, systemToken string, tokenExpiry time.Time) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), uninstallPatience)
	defer cancel()
	i, err := w.Invoked(ctx, inv, systemToken, tokenExpiry)
	if err != nil || i.Over() {
		return err
	}
	s, err := w.standing(ctx, inv.Workspace)
	if err != nil {
		return err
	}
	var leftToDo []string
	if !s.works() {
		if leftToDo, err = w.Cancel(ctx, inv.Workspace, "", "The app was uninstalled."); err != nil {
			return err
		}
	}
	err = w.store.InWorkspace(ctx, inv.Workspace, func(tx *store.Tx) error { return w.uninstall(ctx, tx, i, leftToDo) })
	if err != nil {
		return err
	}
	w.log.InfoContext(ctx, "app uninstalled", "workspace", inv.Workspace, "installation", inv.InstallationID, "left", len(leftToDo))
	return nil
}

// uninstall is the last transaction of Uninstalling.
func (w *Workspaces) uninstall(ctx context.Context, tx *store.Tx, i store.Installation, leftToDo []string) error {
	workspace, _, err := tx.RegisterWorkspace(ctx) // for its lock
	if err != nil {
		return err
	}
	s, err := lockStanding(ctx, tx)
	if err != nil || !s.installed() || s.app.ID != i.ID {
		return err // another call was faster, or another installation is there
	}
	if err := tx.EndInstallation(ctx, i.ID); err != nil {
		return err
	}
	for _, kind := range []string{store.AlarmUnconfirmed, store.AlarmTokenMissing} {
		if err := tx.CloseAlarm(ctx, kind, workspace.ID); err != nil {
			return err
		}
	}
	sentence := "The app was uninstalled from " + workspace.Name + ". "
	if s.works() {
		sentence += "The gate goes on in the name of " + s.connection.AccountName + "'s connection, but Bitbucket no longer asks it before a merge."
		err = w.resume(ctx, tx) // the connection keeps webhooks from now on
	} else {
		sentence += "Nothing is gated there any more, and open requests were cancelled. Rules and history are kept until the app is installed again or the workspace is connected."
		err = w.stopGating(ctx, tx)
	}
	if err != nil {
		return err
	}
	if len(leftToDo) > 0 {
		sentence += " " + strings.Join(leftToDo[:min(len(leftToDo), 5)], " ")
	}
	if err := w.alarmAdministrators(ctx, tx, s, store.AlarmUninstalled, i.ID, "The app was uninstalled from "+workspace.Name, sentence); err != nil {
		return err
	}
	return appendLeaf(ctx, tx, workspace, evidence.Connection{Event: "uninstalled"})
}

// stopGating says of each repository that nothing keeps its gate.
func (w *Workspaces) stopGating(ctx context.Context, tx *store.Tx) error {
	configs, err := tx.AllRepositoryConfigs(ctx)
	if err != nil {
		return err
	}
	for _, config := range configs {
		err := tx.SetRepositoryState(ctx, config.RepositoryID, store.RepositoryAttention, "The app was uninstalled: nothing is gated until it is installed again or the workspace is connected.")
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	return nil
}
