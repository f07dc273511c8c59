package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/store"
)

// slower is by which factor a grown database may make a figure worse.
const slower = 1.3

// grown are the groups that are measured on an empty database and on a grown one.
var grown = regexp.MustCompile(`^(start|intake|log|road|bundles|remote|evaluations|graphql|sweeps)$`)

// rounds is how often each group is measured on either database, by turns: of each figure the best counts, since other
// work on the machine only makes it worse.
const rounds = 3

// growth measures on a database that has grown, by turns with one that has not, and then backs it up and restores it.
func growth(ctx context.Context, m mode, dir string, wanted *regexp.Regexp) (figures []Figure, err error) {
	kept := m.data != ""
	if !kept {
		m.data = filepath.Join(dir, "postgres")
	}
	h := historyOf(m.growth)
	if figures, err = loadHistory(ctx, m.data, h); err != nil {
		return figures, err
	}
	empty, err := newWorld(ctx, dir, m)
	if err != nil {
		return figures, err
	}
	defer func() {
		err = errors.Join(err, empty.stop())
		if !kept {
			err = errors.Join(err, os.RemoveAll(filepath.Dir(empty.pgdir)))
		}
	}()
	if err := errors.Join(empty.end(syscall.SIGTERM), h.takeBack(ctx, databaseOf(empty.super, "grown"))); err != nil {
		return figures, err
	}
	full, err := empty.beside(ctx, "grown")
	if err != nil {
		return figures, err
	}
	defer func() { err = errors.Join(err, full.stop()) }()
	measured := map[*world][]Figure{}
	compared := slices.ContainsFunc(groups, func(g group) bool { return wanted.MatchString(g.name) && grown.MatchString(g.name) })
	for n := 0; compared && n < rounds; n++ {
		for _, w := range []*world{empty, full} {
			// What the queue holds is of the other database.
			if err := errors.Join(w.redis.FlushAll(ctx).Err(), w.serve(ctx)); err != nil {
				return figures, err
			}
			found, err := w.measureSome(ctx, wanted)
			measured[w] = best(measured[w], found)
			if err := errors.Join(err, w.end(syscall.SIGTERM)); err != nil {
				return append(figures, compareSizes(measured[empty], measured[full])...), err
			}
		}
	}
	figures = append(figures, compareSizes(measured[empty], measured[full])...)
	for _, last := range []group{{"retention", retention}, {"whole log", verifyWhole}, {"backup", backup}} {
		if !wanted.MatchString(last.name) {
			continue
		}
		found, err := last.measure(ctx, full)
		figures = append(figures, found...)
		if err != nil {
			return figures, err
		}
	}
	return figures, nil
}

// best keeps the better of each figure.
func best(before, now []Figure) []Figure {
	for _, f := range now {
		i := slices.IndexFunc(before, func(b Figure) bool { return b.Name == f.Name })
		switch {
		case i < 0:
			before = append(before, f)
		case f.Less == (f.Value < before[i].Value):
			before[i] = f
		}
	}
	return before
}

func (w *world) measureSome(ctx context.Context, wanted *regexp.Regexp) (figures []Figure, failed error) {
	for _, g := range groups {
		if !wanted.MatchString(g.name) || !grown.MatchString(g.name) {
			continue
		}
		began := time.Now()
		found, err := g.measure(ctx, w)
		figures = append(figures, found...)
		fmt.Fprintf(os.Stderr, "%-8s %-12s %s\n", w.ours.name, g.name, time.Since(began).Round(100*time.Millisecond))
		if err != nil {
			return figures, fmt.Errorf("%s, %s: %w", w.ours.name, g.name, err)
		}
	}
	return figures, nil
}

// compareSizes sets each figure of the grown database beside the same of the empty one.
func compareSizes(empty, full []Figure) (figures []Figure) {
	before := map[string]Figure{}
	for _, f := range empty {
		before[f.Name] = f
	}
	for _, f := range full {
		was, known := before[f.Name]
		if !known || was.Value == 0 {
			continue
		}
		now := shown(f.Name+", grown", f.Value, f.Unit, f.Less).beside(was.Value) // the limit is the empty database
		if f.Less {
			now = now.times(slower)
		} else {
			now = now.share(1 / slower)
		}
		figures = append(figures, now)
	}
	return figures
}

// sweeps measures what looks at everything again and again: how long it takes, and how many blocks of the database it touches.
func sweeps(ctx context.Context, w *world) ([]Figure, error) {
	vault, err := store.OpenVault(store.NewKeyset()) // what is read holds no secret
	if err != nil {
		return nil, err
	}
	seen := &statements{}
	var config *pgx.ConnConfig // with the settings of the store
	db, err := store.Open(ctx, w.ours.app, vault, func(c *pgxpool.Config) { config, c.ConnConfig.Tracer = c.ConnConfig.Copy(), seen })
	if err != nil {
		return nil, err
	}
	defer db.Close()
	var figures []Figure
	for _, s := range []struct {
		name string
		look func() error
	}{
		{"sweep for pull requests that nothing attends to", func() error { _, err := db.Unattended(ctx, 100); return err }},
		{"look for the job that waits longest", func() error { _, err := db.JobLag(ctx); return err }},
		{"look for jobs that nobody rings", func() error { _, _, err := db.DueJobs(ctx, 1, 0); return err }},
	} {
		var took []time.Duration
		for range 15 {
			began := time.Now()
			if err := s.look(); err != nil {
				return nil, err
			}
			took = append(took, time.Since(began))
		}
		*seen = statements{}
		if err := s.look(); err != nil {
			return nil, err
		}
		blocks, err := seen.blocks(ctx, config)
		if err != nil {
			return nil, err
		}
		figures = append(figures, shown(s.name+", p50", milliseconds(percentile(took, 0.5)), "ms", true), shown(s.name+", blocks", blocks, "blocks", true))
	}
	return figures, nil
}

// retention measures how a week of deliveries that is over is forgotten, and how many rows a scan for what has expired
// takes away at once. No server runs.
func retention(ctx context.Context, w *world) ([]Figure, error) {
	const deliveries = 100_000
	old := time.Now().Add(-40 * 24 * time.Hour)
	week := int(old.Unix()/604800) % 8
	body := make([]byte, 2000)
	table := historyTable{
		name: fmt.Sprintf("deliveries_%d", week), rows: deliveries,
		columns: []string{"request_uuid", "week", "workspace_id", "repository_id", "event_key", "attempt", "outcome", "body", "received_at"},
		row: func(n int, r *copyRow) {
			r.uuid(ident('d', n)).int2(week).uuid(ident('w', 0)).uuid(ident('r', 0)).text("pullrequest:updated").int4(1).text("PARSED").bytes(body).time(old)
		},
	}
	conn, err := pgx.Connect(ctx, w.ours.super)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := table.copy(ctx, conn, ""); err != nil {
		return nil, err
	}
	vault, err := store.OpenVault(store.NewKeyset()) // what is read holds no secret
	if err != nil {
		return nil, err
	}
	db, err := store.Open(ctx, w.ours.app, vault)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	began := time.Now()
	emptied, err := db.ForgetDeliveries(ctx)
	if err == nil && emptied == 0 {
		err = errors.New("the old week was not emptied")
	}
	return []Figure{shown(fmt.Sprintf("a week of %d deliveries forgotten", deliveries), milliseconds(time.Since(began)), "ms", true)}, err
}

// verifyWhole has a server publish the log, and verifies all of it.
func verifyWhole(ctx context.Context, w *world) ([]Figure, error) {
	if err := w.serve(ctx); err != nil {
		return nil, err
	}
	began := time.Now()
	leaves, err := w.verifyLog(ctx)
	return []Figure{shown("the whole log verified", time.Since(began).Seconds(), "s", true).
		noting("%d leaves: each entry against its hash, and the root against the signed checkpoint", leaves)}, errors.Join(err, w.end(syscall.SIGTERM))
}

// backup saves the database and the checkpoint sink as an operator would, drops the database, restores it, has the
// server started on it and the whole log verified. Then the log goes on, and the same backup is restored once more: the
// server must see that it is behind the sink, and not start.
func backup(ctx context.Context, w *world) (figures []Figure, err error) {
	as, err := w.operator()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(w.dir, "backup")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	took := func(name string, do func() error) error {
		began := time.Now()
		if err := do(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		figures = append(figures, shown(name, time.Since(began).Seconds(), "s", true))
		return nil
	}
	restore := func() error {
		maintenance := databaseOf(w.super, "postgres").super
		if err := program(ctx, "psql", "--quiet", "--command=drop database "+w.ours.name+" with (force)", maintenance); err != nil {
			return err
		}
		return as.carryOut(ctx, dir, as.restore)
	}
	if err := took("backup, pg_dump, while the server serves", func() error {
		if err := w.serve(ctx); err != nil {
			return err
		}
		return as.carryOut(ctx, dir, as.backup)
	}); err != nil {
		return figures, err
	}
	if info, err := os.Stat(filepath.Join(dir, "signedapproval.dump")); err == nil {
		figures[0] = figures[0].noting("%s MB", number(float64(info.Size())/1e6))
	}
	if err := w.end(syscall.SIGTERM); err != nil {
		return figures, err
	}
	if err := took("restore, with four jobs", restore); err != nil {
		return figures, err
	}
	if err := took("until the server is ready on the restored database", func() error { return w.serve(ctx) }); err != nil {
		return figures, err
	}
	var leaves int64
	if err := took("the restored log verified", func() (err error) { leaves, err = w.verifyLog(ctx); return err }); err != nil {
		return figures, err
	}
	figures[len(figures)-1] = figures[len(figures)-1].noting("%d leaves: each entry against its hash, and the root against the signed checkpoint", leaves)
	behind, err := w.restoreBehind(ctx, restore)
	return append(figures, behind...), err
}

// verifyLog computes the tree of the log anew from its entries, and compares it with the checkpoint that the server
// serves.
func (w *world) verifyLog(ctx context.Context) (leaves int64, err error) {
	response, err := w.http.Get(w.origin + "/log/checkpoint") //nolint:noctx // the client has a timeout
	if err != nil {
		return 0, err
	}
	text, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return 0, err
	}
	tree, err := tlog.ParseTree([]byte(dropOrigin(string(text))))
	if err != nil {
		return 0, fmt.Errorf("the checkpoint %q: %w", text, err)
	}
	conn, err := pgx.Connect(ctx, w.ours.super)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, `select entry, hash from signedapproval_leaves where index < $1 order by index`, tree.N)
	if err != nil {
		return 0, err
	}
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		found := make([]tlog.Hash, len(indexes))
		for i, at := range indexes {
			found[i] = stored[at]
		}
		return found, nil
	})
	var entry, hash []byte
	if _, err := pgx.ForEachRow(rows, []any{&entry, &hash}, func() error {
		leaf := tlog.RecordHash(entry)
		if !bytes.Equal(leaf[:], hash) {
			return fmt.Errorf("leaf %d is not what its hash says", leaves)
		}
		more, err := tlog.StoredHashesForRecordHash(leaves, leaf, reader)
		stored = append(stored, more...)
		leaves++
		return err
	}); err != nil {
		return leaves, err
	}
	root, err := tlog.TreeHash(leaves, reader)
	if err != nil {
		return leaves, err
	}
	if leaves != tree.N || root != tree.Hash {
		return leaves, fmt.Errorf("the restored log of %d leaves is not the published one of %d", leaves, tree.N)
	}
	return leaves, nil
}

// dropOrigin makes of a checkpoint what tlog reads, whose first line is always the same.
func dropOrigin(checkpoint string) string {
	_, rest, _ := strings.Cut(checkpoint, "\n")
	return "go.sum database tree\n" + rest
}

// restoreBehind restores the backup once more after the log went on.
func (w *world) restoreBehind(ctx context.Context, restore func() error) ([]Figure, error) {
	list, err := w.open(1)
	if err != nil {
		return nil, err
	}
	published := func() (n int, err error) {
		var text []string
		text, err = w.sql(ctx, w.ours, `select max(size)::text from signedapproval_log_checkpoints`)
		if err == nil {
			n, err = strconv.Atoi(text[0])
		}
		return n, err
	}
	before, err := published()
	if err != nil {
		return nil, err
	}
	if err := w.accepted(ctx, list[0]); err != nil {
		return nil, err
	}
	if err := until(ctx, time.Minute, "the log goes on", func() (bool, error) { n, err := published(); return n > before, err }); err != nil {
		return nil, err
	}
	if err := errors.Join(w.end(syscall.SIGTERM), restore()); err != nil {
		return nil, err
	}
	soon, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(soon, w.binary, "serve")
	cmd.Env = w.env
	out, err := cmd.CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("LOG_BEHIND_SINK")) {
		return nil, fmt.Errorf("the server was started on a database that is behind its sink: %w\n%s", err, out[max(0, len(out)-2000):])
	}
	if err := w.anotherLog(ctx); err != nil {
		return nil, fmt.Errorf("the end of the log is gone, and it goes on under another name: %w", err)
	}
	return []Figure{
		shown("backups behind the sink that were refused", 1, "", false).exactly(1),
		shown("of these, gone on with as another log", 1, "", false).exactly(1),
	}, nil
}

// anotherLog goes on, as is documented, where the end of the log is lost for good: under another name, with a key for it and
// an empty sink.
func (w *world) anotherLog(ctx context.Context) error {
	name := strings.TrimPrefix(w.origin, "http://") + "/log/2"
	key, err := exec.CommandContext(ctx, w.binary, "log", "new-key", name).Output()
	if err != nil {
		return err
	}
	sink, err := os.MkdirTemp(w.dir, "sink")
	if err != nil {
		return err
	}
	settings := []string{"SIGNEDAPPROVAL_LOG_ORIGIN=" + name, "SIGNEDAPPROVAL_LOG_KEY=" + strings.TrimSpace(string(key)), "SIGNEDAPPROVAL_LOG_SINK=" + sink}
	adopt := exec.CommandContext(ctx, w.binary, "log", "adopt-sink")
	adopt.Env = append(append([]string{}, w.env...), settings...)
	if out, err := adopt.CombinedOutput(); err != nil {
		return fmt.Errorf("adopt-sink: %w\n%s", err, out)
	}
	if err := w.serveWith(ctx, settings...); err != nil {
		return err
	}
	_, err = w.verifyLog(ctx)
	return errors.Join(err, w.end(syscall.SIGTERM))
}

func program(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out[max(0, len(out)-2000):])
	}
	return nil
}
