package store

import "context"

// Flush reads nothing, and makes durable what it could have read.
func (s *Store) Flush(ctx context.Context, workspace string) error {
	return s.Reading(ctx, workspace, func(tx *Tx) error {
		_, err := tx.tx.Exec(ctx, flush)
		return err
	})
}
