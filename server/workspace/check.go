package workspace

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/jobs"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// silenceAlarm is how long Bitbucket, which calls the app each hour, may be silent before that is alarming.
const silenceAlarm = 3 * time.Hour

// checkRetry is how long the look after a connection waits when Bitbucket cannot be asked.
const checkRetry = 10 * time.Minute

// Refresh is the job that looks after a workspace's connection and its app once a day, however little
// they are used: it keeps the grant from dying of idleness, notices that it is dead or that its account
// may no longer administer the workspace, and writes down what the workspace is called now. Of the app,
// it forgets a token whose time is over and notices that no other came. It runs again by itself until
// both are gone.
func (w *Workspaces) Refresh(ctx context.Context, job store.Job) error {
	next, err := w.checkApp(ctx, job.Workspace)
	if err != nil {
		return err
	}
	remote, c, err := w.check(ctx, job.Workspace)
	switch code := refusal.Code(err); {
	case code == refusal.NotFound || code == refusal.NeedsReconnecting:
		// Connecting and installing ask for this job anew.
		return w.store.Outside(ctx, func(sh *store.Shared) error { return sh.FinishJob(ctx, job.Claim, next) })
	case code != "":
		return jobs.Later(err, time.Now().Add(checkRetry))
	case err != nil:
		return err
	}
	return w.store.InWorkspace(ctx, job.Workspace, func(tx *store.Tx) error {
		if err := w.noteRights(ctx, tx, c, remote); err != nil {
			return err
		}
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		if day := now.Add(checkInterval); next.IsZero() || day.Before(next) {
			next = day
		}
		return tx.FinishJob(ctx, job.Claim, next)
	})
}

// checkApp looks after the app of a workspace, and answers when to do so again; the zero time where the
// app is not there.
func (w *Workspaces) checkApp(ctx context.Context, workspace string) (next time.Time, err error) {
	s, err := w.standing(ctx, workspace)
	if err != nil || !s.installed() {
		return time.Time{}, err
	}
	err = w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		if err := tx.DropExpiredToken(ctx); err != nil {
			return err
		}
		if s.holdsToken() || s.now.Sub(s.app.InstalledAt) < silenceAlarm || s.now.Sub(s.app.SeenAt) < silenceAlarm {
			return nil
		}
		own, err := tx.ReadWorkspace(ctx)
		if err != nil {
			return err
		}
		return w.alarmAdministrators(ctx, tx, s, store.AlarmTokenMissing, s.app.ID+":"+s.app.SeenAt.UTC().Format(time.RFC3339),
			"The app in "+own.Name+" is not called any more",
			"Bitbucket has not called the app in "+own.Name+" since "+s.app.SeenAt.UTC().Format("2 January 2006 15:04")+" UTC, so it holds no token: nothing is written, and merges are not answered. Look at whether the app is still installed and enabled.")
	})
	if err != nil || !s.holdsToken() {
		return s.now.Add(time.Hour), err
	}
	client, err := w.rightsClient(ctx, workspace)
	if err == nil {
		var remote bitbucket.Workspace
		if remote, err = client.Workspace(ctx, workspace); err == nil {
			err = w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
				_, _, err := tx.PutWorkspace(ctx, remote.Slug, remote.Name)
				return err
			})
		}
	}
	next = s.app.TokenExpiresAt.Add(time.Minute)
	if err != nil { // right after an installation Bitbucket refuses for some minutes
		w.log.WarnContext(ctx, "workspace of the app could not be read", "workspace", workspace, "error", err)
		next = s.now.Add(checkRetry)
	}
	if day := s.now.Add(checkInterval); day.Before(next) {
		next = day
	}
	return next, nil
}

// check uses the grant, refreshed where that is due or turns out to be needed, and answers what its
// account is in the workspace; a zero Workspace where it is nothing. The job's claim is the lease.
func (w *Workspaces) check(ctx context.Context, workspace string) (bitbucket.Workspace, store.Connection, error) {
	c, now, err := w.working(ctx, workspace)
	if err != nil {
		return bitbucket.Workspace{}, c, err
	}
	refreshed := endsSoon(c, now)
	if refreshed {
		if c, err = w.refresh(ctx, c); err != nil {
			return bitbucket.Workspace{}, c, err
		}
	}
	remote, err := w.accountIn(ctx, c)
	if refused, ok := errors.AsType[*bitbucket.Error](err); ok && refused.Unauthorized() && !refreshed {
		if c, err = w.refresh(ctx, c); err != nil {
			return bitbucket.Workspace{}, c, err
		}
		remote, err = w.accountIn(ctx, c)
	}
	return remote, c, asked(err)
}

// accountIn asks what the account of a connection is in its workspace.
func (w *Workspaces) accountIn(ctx context.Context, c store.Connection) (bitbucket.Workspace, error) {
	client := w.clientOf(c, bitbucket.Background)
	for one, err := range client.Workspaces(ctx) {
		if err != nil {
			return bitbucket.Workspace{}, err
		}
		if one.UUID != c.WorkspaceID {
			continue
		}
		workspace, err := client.Workspace(ctx, c.WorkspaceID) // the list has no names
		workspace.Administrator = one.Administrator
		return workspace, err
	}
	return bitbucket.Workspace{}, nil
}

// noteRights writes down what the check found.
func (w *Workspaces) noteRights(ctx context.Context, tx *store.Tx, c store.Connection, remote bitbucket.Workspace) error {
	workspace, err := tx.ReadWorkspace(ctx)
	if err != nil {
		return err
	}
	if remote.UUID != "" {
		if _, _, err := tx.PutWorkspace(ctx, remote.Slug, remote.Name); err != nil {
			return err
		}
	}
	if remote.Administrator {
		return tx.CloseAlarm(ctx, store.AlarmConnectionRights, workspace.ID)
	}
	sentence := c.AccountName + ", whose consent this workspace's connection is, no longer administers the workspace. " +
		"Rules can no longer be checked against Bitbucket, and statuses may not be written. Another administrator should connect the workspace."
	raised, err := tx.RaiseAlarm(ctx, store.Alarm{Kind: store.AlarmConnectionRights, Subject: workspace.ID, Sentence: sentence})
	if err != nil || !raised {
		return err
	}
	w.log.WarnContext(ctx, "connection's account lost its rights", "workspace", workspace.ID)
	return tx.AddNotice(ctx, store.Notice{
		PersonID: c.ConnectedBy, WorkspaceID: workspace.ID, Kind: store.AlarmConnectionRights,
		DedupeKey: fmt.Sprintf("connection-rights:%s:%d", workspace.ID, c.Generation),
		Title:     workspace.Name + " needs another connection", Sentence: sentence, Path: "/settings/bitbucket",
	})
}
