package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"
)

// Checkpoint is a tree head that was published.
type Checkpoint struct {
	TreeHead
	// Note is the signed note that says so, as served.
	Note []byte
	// PublishedAt is when, by the database's clock.
	PublishedAt time.Time
}

// NewestCheckpoint is the one that was published last; [ErrNotFound] if there is none.
func (s *Store) NewestCheckpoint(ctx context.Context) (c Checkpoint, err error) {
	var root []byte
	err = one(s.pool.QueryRow(ctx, `select size, root, note, published_at from signedapproval_log_checkpoints order by size desc limit 1`).
		Scan(&c.Size, &root, &c.Note, &c.PublishedAt))
	if err != nil {
		if errors.Is(err, ErrNotFound) {
			return c, err
		}
		return c, fmt.Errorf("store: newest checkpoint: %w", err)
	}
	c.Root = tlog.Hash(root)
	return c, nil
}

// Unpublished is how many leaves are under no published checkpoint yet. In a log without a checkpoint
// there is one more: the checkpoint itself.
func (s *Store) Unpublished(ctx context.Context) (leaves int64, err error) {
	err = s.pool.QueryRow(ctx, `select size - coalesce((select max(size) from signedapproval_log_checkpoints), -1) from signedapproval_log_head`).Scan(&leaves)
	if err != nil {
		return 0, fmt.Errorf("store: unpublished leaves: %w", err)
	}
	return leaves, nil
}

// PutCheckpoint makes a checkpoint of the tree the newest one, unless one of this size or a larger one was
// published meanwhile: then it does nothing. It does not look at the root.
func (s *Store) PutCheckpoint(ctx context.Context, head TreeHead, note []byte) error {
	var newest int64
	err := s.Outside(ctx, func(sh *Shared) error {
		batch := &pgx.Batch{}
		// Each statement sees what was committed before it: so the lock comes first.
		batch.Queue(`select from signedapproval_log_tree for update`)
		batch.Queue(`
			insert into signedapproval_log_checkpoints (size, root, note)
			select $1::bigint, $2::bytea, $3::bytea from signedapproval_log_tree
			where size >= $1::bigint and not exists (select from signedapproval_log_checkpoints where size >= $1::bigint)`, head.Size, head.Root[:], note)
		batch.Queue(`select coalesce(max(size), -1) from signedapproval_log_checkpoints`).QueryRow(func(row pgx.Row) error { return row.Scan(&newest) })
		return sh.tx.SendBatch(ctx, batch).Close()
	})
	if err == nil && newest < head.Size {
		err = errors.New("the tree is smaller")
	}
	if err != nil {
		return fmt.Errorf("store: put checkpoint %d: %w", head.Size, err)
	}
	return nil
}
