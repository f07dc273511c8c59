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

// checkRetry is how long the look after a connection waits when Bitbucket cannot be asked.
const checkRetry = 10 * time.Minute

// Refresh is the job that looks after a connection once a day, however little it is used: it keeps the
// grant from dying of idleness, notices that it is dead or that its account may no longer administer
// the workspace, and writes down what the workspace is called now. It runs again by itself until the
// connection ends.
func (w *Workspaces) Refresh(ctx context.Context, job store.Job) error {
	remote, c, err := w.check(ctx, job.Workspace)
	switch code := refusal.Code(err); {
	case code == refusal.NotFound || code == refusal.NeedsReconnecting:
		// Connecting asks for this job anew.
		return w.store.Outside(ctx, func(sh *store.Shared) error { return sh.FinishJob(ctx, job.Claim, time.Time{}) })
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
		return tx.FinishJob(ctx, job.Claim, now.Add(checkInterval))
	})
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
