package store

import (
	"context"
	"fmt"
)

// DeadJob reads one dead job. [ErrNotFound] if there is none of this id.
func (sh *Shared) DeadJob(ctx context.Context, id int64) (DeadJob, error) {
	job, err := single[DeadJob](ctx, sh.tx, `
		select id, kind, key, coalesce(workspace_id::text, '') as workspace, payload, attempt, last_error, updated_at as died_at
		from signedapproval_jobs where id = $1 and state = 'DEAD'`, id)
	if err != nil {
		return job, fmt.Errorf("store: dead job %d: %w", id, err)
	}
	return job, nil
}
