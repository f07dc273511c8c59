package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/store"
)

// benchWriters is how many goroutines append at the same time.
const benchWriters = 8

// BenchmarkLog measures the log: appending beside plain inserts of the same rows, taking leaves into the tree, and
// proofs in a tree of ten million leaves, or of as many as SIGNEDAPPROVAL_BENCH_LEAVES says.
func BenchmarkLog(b *testing.B) {
	vault, err := store.OpenVault(store.NewKeyset())
	if err != nil {
		b.Fatal(err)
	}
	database := dbtest.New(b)
	s, err := store.Open(b.Context(), database.AppURL, vault)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	super, err := pgx.Connect(b.Context(), database.SuperURL)
	if err != nil {
		b.Fatal(err)
	}
	defer super.Close(context.WithoutCancel(b.Context()))
	sql := func(b *testing.B, statement string, args ...any) {
		b.Helper()
		if _, err := super.Exec(b.Context(), statement, args...); err != nil {
			b.Fatal(err)
		}
	}
	var number atomic.Int64
	together := func(b *testing.B, once func(n int64, entry []byte) error) {
		b.SetParallelism(max(1, benchWriters/runtime.GOMAXPROCS(0))) // for each core
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				n := number.Add(1)
				if err := once(n, fmt.Appendf(make([]byte, 0, 400), "%0400d", n)); err != nil {
					b.Error(err)
				}
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "transactions/s")
	}
	b.Run("append", func(b *testing.B) {
		together(b, func(_ int64, entry []byte) error {
			return s.Outside(b.Context(), func(sh *store.Shared) error {
				sh.AppendLeaf(acme, evidence.LeafHash(entry), entry, "", 0)
				return nil
			})
		})
	})
	start := time.Now()
	_, head, err := s.GrowTree(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	perSecond := float64(head.Size) / time.Since(start).Seconds()
	b.Run("grow", func(b *testing.B) { // it was measured once: the tree has grown
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(perSecond, "leaves/s")
	})
	b.Run("plain-insert", func(b *testing.B) {
		sql(b, `create table if not exists plain (like signedapproval_leaves including all)`)
		pool := make(chan *pgx.Conn, 16) // as many as the store has
		for range cap(pool) {
			conn, err := pgx.Connect(b.Context(), database.SuperURL)
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close(context.WithoutCancel(b.Context()))
			pool <- conn
		}
		b.ResetTimer()
		together(b, func(n int64, entry []byte) error {
			conn := <-pool
			defer func() { pool <- conn }()
			hash := evidence.LeafHash(entry)
			_, err := conn.Exec(b.Context(), `insert into plain (index, hash, entry, workspace_id) values ($1, $2, $3, $4)`, n, hash[:], entry, acme)
			return err
		})
	})

	leaves := int64(10_000_000)
	if text := os.Getenv("SIGNEDAPPROVAL_BENCH_LEAVES"); text != "" {
		if leaves, err = strconv.ParseInt(text, 10, 64); err != nil {
			b.Fatal(err)
		}
	}
	// What is proved does not matter here, only how many hashes there are to choose from.
	sql(b, `truncate signedapproval_leaves, signedapproval_log_hashes`)
	sql(b, `insert into signedapproval_leaves (index, hash, entry, workspace_id) select n, sha256(int8send(n)), 'entry', $2 from generate_series(0, $1::bigint - 1) as n`, leaves, acme)
	for level := 1; leaves>>level > 0; level++ {
		sql(b, `insert into signedapproval_log_hashes (level, index, hash) select $2::smallint, n, sha256(int8send(n)) from generate_series(0, $1::bigint - 1) as n`, leaves>>level, level)
	}
	sql(b, `vacuum analyze signedapproval_leaves, signedapproval_log_hashes`)
	proofs := map[string]func(ctx context.Context) error{
		"inclusion-proof": func(ctx context.Context) error {
			_, err := tlog.ProveRecord(leaves, rand.Int64N(leaves), s.Tree(ctx))
			return err
		},
		"consistency-proof": func(ctx context.Context) error {
			_, err := tlog.ProveTree(leaves, 1+rand.Int64N(leaves-1), s.Tree(ctx))
			return err
		},
	}
	for _, name := range []string{"inclusion-proof", "consistency-proof"} {
		b.Run(name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				start := time.Now()
				if err := proofs[name](b.Context()); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}
