package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/store"
)

// appends compares the log with a table of the same columns and indexes that gives its rows no order: eight writers,
// each with a transaction of one row and one round trip at a time, by turns, on a PostgreSQL that waits for its disk.
func appends(ctx context.Context, w *world) ([]Figure, error) {
	const writers, connections = 8, 16
	owner, err := pgx.Connect(ctx, w.bare.owner)
	if err != nil {
		return nil, err
	}
	defer owner.Close(context.WithoutCancel(ctx))
	for _, statement := range []string{
		`drop table if exists plain`, `create table plain (like signedapproval_leaves including all)`, `grant insert on plain to signedapproval_app`,
	} {
		if _, err := owner.Exec(ctx, statement); err != nil {
			return nil, fmt.Errorf("prepare a plain table: %w", err)
		}
	}
	config, err := pgxpool.ParseConfig(w.bare.app)
	if err != nil {
		return nil, err
	}
	config.MaxConns = connections // as many as the store has
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	log := w.store
	if w.mode.growth > 0 { // the log that has grown; no server publishes it meanwhile
		if err := w.end(syscall.SIGTERM); err != nil {
			return nil, err
		}
		if log, err = store.Open(ctx, w.ours.app, w.store.Vault); err != nil {
			return nil, err
		}
		defer log.Close()
	}
	var next atomic.Int64
	entry := func() (index int64, entry []byte) {
		index = next.Add(1)
		return index, fmt.Appendf(make([]byte, 0, 400), "%0400d", index)
	}
	appendTo := func(ctx context.Context, _ int) error {
		_, entry := entry()
		return log.Outside(ctx, func(sh *store.Shared) error {
			sh.AppendLeaf(bareWorkspace, evidence.LeafHash(entry), entry, "", 0)
			return nil
		})
	}
	plain := func(ctx context.Context, _ int) error {
		index, entry := entry()
		hash := evidence.LeafHash(entry)
		_, err := pool.Exec(ctx, `insert into plain (index, hash, entry, workspace_id) values ($1, $2, $3, $4)`, index, hash[:], entry, bareWorkspace)
		return err
	}
	rounds, length := w.mode.of(6, 6), time.Duration(w.mode.of(2000, 500))*time.Millisecond
	per := map[bool][]float64{}
	var took []time.Duration
	for round := range 2 * rounds {
		ours := (round+round/2)%2 == 0 // each goes first in turn
		do := plain
		if ours {
			do = appendTo
		}
		each, whole, err := pour(ctx, writers, 0, length, do)
		if err != nil {
			return nil, err
		}
		per[ours] = append(per[ours], float64(len(each))/whole.Seconds())
		if ours {
			took = append(took, each...)
		}
	}
	if w.mode.growth > 0 {
		if err := w.serve(ctx); err != nil {
			return nil, err
		}
	}
	return []Figure{
		shown("log appends, 8 writers", median(per[true]), "/s", false).beside(median(per[false])).
			noting("the limit is inserts of the same rows into a table with the same indexes, which need no order; both wait for the disk. Appends take their places one after another, each behind the commit before"),
		shown("log appends, 8 writers, p99", milliseconds(percentile(took, 0.99)), "ms", true),
	}, nil
}
