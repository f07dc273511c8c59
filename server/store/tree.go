package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"
)

// treeBatch is how many leaves are taken into the tree by one transaction.
const treeBatch = 2048

// TreeHead is the log's tree at one size.
type TreeHead struct {
	Size int64     // in leaves
	Root tlog.Hash // RFC 6962
}

// LogSize is how many leaves are in the log. All of them are committed.
func (s *Store) LogSize(ctx context.Context) (size int64, err error) {
	if err := s.pool.QueryRow(ctx, `select size from signedapproval_log_head`).Scan(&size); err != nil {
		return 0, fmt.Errorf("store: size of the log: %w", err)
	}
	return size, nil
}

// GrowTree takes into the tree every leaf that is committed, in batches, and gives the tree's head as it was before and
// as it is then, both by its hashes as they are now. One caller at a time works, the others wait for it. It fails where the
// leaves are not what was appended: where one is missing, or has another hash than its entry.
func (s *Store) GrowTree(ctx context.Context) (was, head TreeHead, err error) {
	for first := true; ; first = false {
		var from TreeHead
		err := s.Outside(ctx, func(sh *Shared) (err error) {
			from, head, err = sh.growTree(ctx, treeBatch)
			return err
		})
		if err != nil {
			return TreeHead{}, TreeHead{}, fmt.Errorf("store: grow the tree: %w", err)
		}
		if first {
			was = from
		}
		if head.Size-from.Size < treeBatch {
			return was, head, nil
		}
	}
}

// growTree takes up to most leaves into the tree.
func (sh *Shared) growTree(ctx context.Context, most int) (was, head TreeHead, err error) {
	type node struct {
		Level int16
		Index int64
		Hash  []byte
	}
	type appended struct {
		Index       int64
		Hash, Entry []byte
	}
	var (
		peaks  []node
		leaves []appended
	)
	// Each statement sees what was committed before it: so the lock comes first, and they travel together.
	batch := &pgx.Batch{}
	batch.Queue(`select size from signedapproval_log_tree for update`).QueryRow(func(row pgx.Row) error { return row.Scan(&head.Size) })
	batch.Queue(treePeaks).Query(every(&peaks))
	batch.Queue(`select index, hash, entry from signedapproval_leaves where index >= (select size from signedapproval_log_tree) order by index limit $1`, most).Query(every(&leaves))
	if err := sh.tx.batch(ctx, batch); err != nil {
		return was, head, err
	}
	// The hashes that a tree of this size is the root of are all that it takes to go on from there.
	known := map[int64]tlog.Hash{}
	for _, p := range peaks {
		if len(p.Hash) != tlog.HashSize {
			return was, head, fmt.Errorf("the tree has no hash %d of level %d: %w", p.Index, p.Level, ErrNotFound)
		}
		known[tlog.StoredHashIndex(int(p.Level), p.Index)] = tlog.Hash(p.Hash)
	}
	memory := tlog.HashReaderFunc(func(places []int64) ([]tlog.Hash, error) {
		hashes := make([]tlog.Hash, len(places))
		for i, place := range places {
			hash, ok := known[place]
			if !ok {
				return nil, fmt.Errorf("the tree needs its hash %d before its time", place)
			}
			hashes[i] = hash
		}
		return hashes, nil
	})
	if head.Root, err = tlog.TreeHash(head.Size, memory); err != nil {
		return was, head, err
	}
	was = head
	var (
		levels  []int16
		indexes []int64
		hashes  [][]byte
	)
	for _, l := range leaves {
		leaf := tlog.RecordHash(l.Entry)
		if l.Index != head.Size || len(l.Hash) != tlog.HashSize || leaf != tlog.Hash(l.Hash) {
			return was, head, fmt.Errorf("leaf %d is missing or is not what was appended", head.Size)
		}
		stored, err := tlog.StoredHashesForRecordHash(l.Index, leaf, memory)
		if err != nil {
			return was, head, err
		}
		for level, h := range stored {
			known[tlog.StoredHashIndex(level, l.Index>>level)] = h
			if level > 0 {
				levels, indexes, hashes = append(levels, int16(level)), append(indexes, l.Index>>level), append(hashes, h[:])
			}
		}
		head.Size++
	}
	if head == was {
		return was, head, nil
	}
	if head.Root, err = tlog.TreeHash(head.Size, memory); err != nil {
		return was, head, err
	}
	sh.tx.later(`insert into signedapproval_log_hashes (level, index, hash) select * from unnest($1::smallint[], $2::bigint[], $3::bytea[])`, levels, indexes, hashes)
	sh.tx.later(`update signedapproval_log_tree set size = $1`, head.Size)
	return was, head, nil
}

// treePeaks reads the roots of the perfect trees that the tree is made of, one for each bit of its size.
const treePeaks = `
	select level::smallint, index, case when level = 0
		then (select hash from signedapproval_leaves l where l.index = peak.index)
		else (select hash from signedapproval_log_hashes h where h.level = peak.level and h.index = peak.index) end as hash
	from (select level, (size >> level) - 1 as index from signedapproval_log_tree, generate_series(0, 62) as level where (size >> level) & 1 = 1) peak`

// Tree reads the hashes of the log's tree, with one statement for each call of ReadHashes; so a proof
// by [tlog.ProveRecord] or [tlog.ProveTree], or a tile, costs one statement.
func (s *Store) Tree(ctx context.Context) tlog.HashReader {
	return tlog.HashReaderFunc(func(places []int64) ([]tlog.Hash, error) { return s.treeHashes(ctx, places) })
}

// treeHashes reads hashes by their places, see [tlog.StoredHashIndex].
func (s *Store) treeHashes(ctx context.Context, places []int64) ([]tlog.Hash, error) {
	levels, indexes := make([]int16, len(places)), make([]int64, len(places))
	for i, place := range places {
		level, index := tlog.SplitStoredHashIndex(place)
		levels[i], indexes[i] = int16(level), index //nolint:gosec // a level is below 64
	}
	rows, err := s.pool.Query(ctx, `
		select coalesce(h.hash, l.hash)
		from unnest($1::smallint[], $2::bigint[]) with ordinality as w (level, index, place)
		left join signedapproval_log_hashes h on h.level = w.level and h.index = w.index
		left join signedapproval_leaves l on w.level = 0 and l.index = w.index
		order by w.place`, levels, indexes)
	if err != nil {
		return nil, fmt.Errorf("store: hashes of the tree: %w", err)
	}
	hashes := make([]tlog.Hash, 0, len(places))
	var hash []byte
	if _, err := pgx.ForEachRow(rows, []any{&hash}, func() error {
		if len(hash) != tlog.HashSize {
			level, index := levels[len(hashes)], indexes[len(hashes)]
			return fmt.Errorf("the tree has no hash %d of level %d: %w", index, level, ErrNotFound)
		}
		hashes = append(hashes, tlog.Hash(hash))
		return nil
	}); err != nil {
		return nil, fmt.Errorf("store: hashes of the tree: %w", err)
	}
	return hashes, nil
}

// Entries gives count entries of the log from the index first on, and fails with [ErrNotFound] unless all of
// them are there.
func (s *Store) Entries(ctx context.Context, first int64, count int) ([][]byte, error) {
	rows, err := s.pool.Query(ctx, `select entry from signedapproval_leaves where index >= $1 and index < $2 order by index`, first, first+int64(count))
	if err != nil {
		return nil, fmt.Errorf("store: entries of the log: %w", err)
	}
	entries, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		return nil, fmt.Errorf("store: entries of the log: %w", err)
	}
	if len(entries) != count {
		return nil, ErrNotFound
	}
	return entries, nil
}
