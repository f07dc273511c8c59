package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Kinds of alarm.
const (
	AlarmForeignStatus      = "FOREIGN_STATUS"      // somebody else wrote under our key
	AlarmStatusRefused      = "STATUS_REFUSED"      // Bitbucket does not let us write our status
	AlarmNeedsReconnecting  = "NEEDS_RECONNECTING"  // the grant is dead
	AlarmConnectionReplaced = "CONNECTION_REPLACED" // another account may not overwrite our statuses
	AlarmHookMissing        = "HOOK_MISSING"        // the webhook was gone and could not be repaired
	AlarmMergedUnapproved   = "MERGED_UNAPPROVED"   // a gated pull request was merged without its quorum
	AlarmUninstalled        = "APP_UNINSTALLED"     // the app is no longer in the workspace
	AlarmUnconfirmed        = "APP_UNCONFIRMED"     // the app waits for an administrator to confirm it
	AlarmTokenMissing       = "TOKEN_MISSING"       // Bitbucket has not called the app for so long that it may do nothing
	AlarmJobDead            = "JOB_DEAD"            // a job gave up
	AlarmNotEnforced        = "NOT_ENFORCED"        // Bitbucket enforces the gate of a branch pattern less than before
	AlarmUncosigned         = "LOG_UNCOSIGNED"      // too few witnesses cosign the log for what a rule asks
)

// Alarm is something that needs an administrator of the workspace.
type Alarm struct {
	ID            string
	Kind          string
	RepositoryID  *string
	PullRequestID *string
	Subject       string // with Kind: what an open alarm is about
	Sentence      string
	OpenedAt      time.Time
	ClosedAt      *time.Time
}

// RaiseAlarm opens an alarm, or rewords the open one with the same kind and subject. It answers
// whether it was raised now.
func (tx *Tx) RaiseAlarm(ctx context.Context, a Alarm) (bool, error) {
	var raised bool
	err := tx.tx.QueryRow(ctx, `
		insert into signedapproval_alarms (workspace_id, kind, repository_id, pull_request_id, subject, sentence)
		values ($1, $2, $3, $4, $5, $6)
		on conflict (workspace_id, kind, subject) where closed_at is null do update set sentence = excluded.sentence
		returning (xmax = 0)`,
		tx.Workspace, a.Kind, a.RepositoryID, a.PullRequestID, a.Subject, a.Sentence).Scan(&raised)
	if err != nil {
		return false, fmt.Errorf("store: raise alarm: %w", err)
	}
	return raised, nil
}

// CloseAlarm ends the open alarm of a kind about a subject, if there is one.
func (tx *Tx) CloseAlarm(_ context.Context, kind, subject string) error {
	tx.tx.later(`
		update signedapproval_alarms set closed_at = now()
		where workspace_id = $1 and kind = $2 and subject = $3 and closed_at is null`, tx.Workspace, kind, subject)
	return nil
}

// OpenAlarms lists the open alarms of the workspace, newest first, at most 100.
func (tx *Tx) OpenAlarms(ctx context.Context) ([]Alarm, error) {
	rows, err := tx.tx.Query(ctx, `
		select id, kind, repository_id, pull_request_id, subject, sentence, opened_at, closed_at from signedapproval_alarms
		where workspace_id = $1 and closed_at is null order by opened_at desc, id limit 100`, tx.Workspace)
	if err != nil {
		return nil, fmt.Errorf("store: list alarms: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Alarm])
}
