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
	// Note is the signed note that says so, as served: with every cosignature that is on record.
	Note []byte
	// PublishedAt is when, by the database's clock.
	PublishedAt time.Time
}

// Cosignature is the line of a signed note by which a witness cosigned a checkpoint.
type Cosignature struct {
	Witness string // the name of its key, a plus sign, and the key's hash
	Line    []byte // with its newline
}

const checkpointColumns = `c.size, c.root, c.published_at,
	c.note || coalesce((select string_agg(w.line, ''::bytea order by w.witness) from signedapproval_log_cosignatures w where w.size = c.size), ''::bytea)`

func (s *Store) checkpoint(ctx context.Context, query string, args ...any) (c Checkpoint, err error) {
	var root []byte
	err = one(s.pool.QueryRow(ctx, query, args...).Scan(&c.Size, &root, &c.PublishedAt, &c.Note))
	if err != nil {
		if errors.Is(err, ErrNotFound) {
			return c, err
		}
		return c, fmt.Errorf("store: newest checkpoint: %w", err)
	}
	c.Root = tlog.Hash(root)
	return c, nil
}

// NewestCheckpoint is the one that was published last; [ErrNotFound] if there is none.
func (s *Store) NewestCheckpoint(ctx context.Context) (Checkpoint, error) {
	return s.checkpoint(ctx, `select `+checkpointColumns+` from signedapproval_log_checkpoints c order by c.size desc limit 1`)
}

// CosignedCheckpoint is the newest one that at least quorum of these witnesses cosigned; [ErrNotFound] if there is none.
func (s *Store) CosignedCheckpoint(ctx context.Context, witnesses []string, quorum int) (Checkpoint, error) {
	return s.checkpoint(ctx, `
		select `+checkpointColumns+` from signedapproval_log_checkpoints c
		where $2 <= (select count(*) from signedapproval_log_cosignatures w where w.size = c.size and w.witness = any ($1::text[]))
		order by c.size desc limit 1`, witnesses, quorum)
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

// PutCheckpoint makes a checkpoint of the tree the newest one, with cosignatures, unless one of this size or a larger one
// was published meanwhile: then it adds the cosignatures to the one of this size, if there is one. It does not
// look at the root otherwise.
func (s *Store) PutCheckpoint(ctx context.Context, head TreeHead, note []byte, cosignatures ...Cosignature) error {
	var newest int64
	err := s.Outside(ctx, func(sh *Shared) error {
		// Each statement sees what was committed before it: so the lock comes first.
		sh.tx.later(`select from signedapproval_log_tree for update`)
		sh.tx.later(`
			insert into signedapproval_log_checkpoints (size, root, note)
			select $1::bigint, $2::bytea, $3::bytea from signedapproval_log_tree
			where size >= $1::bigint and not exists (select from signedapproval_log_checkpoints where size >= $1::bigint)`, head.Size, head.Root[:], note)
		for _, c := range cosignatures {
			sh.tx.later(putCosignature, head.Size, c.Witness, c.Line)
		}
		sh.tx.later(`select coalesce(max(size), -1) from signedapproval_log_checkpoints`).QueryRow(func(row pgx.Row) error { return row.Scan(&newest) })
		return nil
	})
	if err == nil && newest < head.Size {
		err = errors.New("the tree is smaller")
	}
	if err != nil {
		return fmt.Errorf("store: put checkpoint %d: %w", head.Size, err)
	}
	return nil
}

const putCosignature = `
	insert into signedapproval_log_cosignatures (size, witness, line)
	select size, $2, $3 from signedapproval_log_checkpoints where size = $1
	on conflict do nothing`

// PutCosignature adds a cosignature to the checkpoint of a size, unless it has one by this witness, or there is none of
// this size.
func (s *Store) PutCosignature(ctx context.Context, size int64, c Cosignature) error {
	if _, err := s.pool.Exec(ctx, putCosignature, size, c.Witness, c.Line); err != nil {
		return fmt.Errorf("store: put a cosignature of checkpoint %d: %w", size, err)
	}
	return nil
}
