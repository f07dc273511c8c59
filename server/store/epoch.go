package store

import (
	"context"
	"fmt"
)

// QueueEpoch is the number of the queue's present life.
func (s *Store) QueueEpoch(ctx context.Context) (int64, error) {
	var epoch int64
	if err := s.pool.QueryRow(ctx, `select epoch from signedapproval_queue_epoch`).Scan(&epoch); err != nil {
		return 0, fmt.Errorf("store: queue epoch: %w", err)
	}
	return epoch, nil
}

// MoveQueueEpoch begins a new life of the queue, with a number above floor, unless somebody has
// begun one since seen was read; it returns the number that holds now. Every job dispatched in an
// older life counts as not dispatched.
func (s *Store) MoveQueueEpoch(ctx context.Context, seen, floor int64) (int64, error) {
	_, err := s.pool.Exec(ctx, `update signedapproval_queue_epoch set epoch = greatest(epoch, $2) + 1 where epoch = $1`, seen, floor)
	if err != nil {
		return 0, fmt.Errorf("store: move queue epoch: %w", err)
	}
	return s.QueueEpoch(ctx)
}
