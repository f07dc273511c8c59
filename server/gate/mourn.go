package gate

import (
	"context"
	"errors"
	"fmt"

	"github.com/signedapproval/bitbucket/server/store"
)

// Mourn raises an alarm for a job that gave up. It is best effort: the job itself stays in the
// ledger, where it is listed and can be given a new life.
func (g *Gate) Mourn(ctx context.Context, jobID int64) {
	var dead store.DeadJob
	err := g.Store.Outside(ctx, func(sh *store.Shared) (err error) {
		dead, err = sh.DeadJob(ctx, jobID)
		return err
	})
	if err == nil && dead.Workspace != "" {
		err = g.Store.InWorkspace(ctx, dead.Workspace, func(tx *store.Tx) error {
			_, err := tx.RaiseAlarm(ctx, store.Alarm{
				Kind: store.AlarmJobDead, Subject: fmt.Sprintf("%s:%s", dead.Kind, dead.Key),
				Sentence: fmt.Sprintf("A job of kind %q gave up after %d attempts; the last error was: %s", dead.Kind, dead.Attempt, dead.LastError),
			})
			return err
		})
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		g.Log.ErrorContext(ctx, "the alarm for a dead job could not be raised", "job", jobID, "error", err)
	}
}
