package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
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
	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/store"
)

// The full size of a grown installation.
const (
	grownWorkspaces   = 100
	grownRepositories = 10_000
	grownPulls        = 1_000_000
	grownDecisions    = 5  // of each pull request
	grownLeaves       = 20 // of each pull request
)

// slower is by which factor a grown database may make a figure worse.
const slower = 1.3

// grown are the groups that are measured on an empty database and on a grown one.
var grown = regexp.MustCompile(`^(start|intake|road|remote|evaluations|graphql|sweeps)$`)

// rounds is how often each group is measured on either database, by turns: of each figure the best counts, since other
// work on the machine only makes it worse.
const rounds = 3

// growth measures on a database that has grown, by turns with one that has not, and then backs it up and restores it.
func growth(ctx context.Context, m mode, dir string, wanted *regexp.Regexp) (figures []Figure, err error) {
	w, err := newWorld(ctx, dir, m)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	if err := w.end(syscall.SIGTERM); err != nil {
		return nil, err
	}
	empty := side{w.ours, filepath.Join(w.dir, "log")}
	full, err := w.double(ctx, empty)
	if err != nil {
		return nil, err
	}
	w.turnTo(full)
	if figures, err = w.grow(ctx, m.growth); err != nil {
		return figures, err
	}
	measured := map[string][]Figure{}
	compared := slices.ContainsFunc(groups, func(g group) bool { return wanted.MatchString(g.name) && grown.MatchString(g.name) })
	for n := 0; compared && n < rounds; n++ {
		for _, s := range []side{empty, full} {
			w.turnTo(s)
			// What the queue holds is of the other database.
			if err := errors.Join(w.redis.FlushAll(ctx).Err(), w.serve(ctx)); err != nil {
				return figures, err
			}
			found, err := w.measureSome(ctx, wanted)
			measured[s.name] = best(measured[s.name], found)
			if err := errors.Join(err, w.end(syscall.SIGTERM)); err != nil {
				return append(figures, compareSizes(measured[empty.name], measured[full.name])...), err
			}
		}
	}
	figures = append(figures, compareSizes(measured[empty.name], measured[full.name])...)
	saved, err := w.backup(ctx)
	return append(figures, saved...), err
}

// side is a database and the sink of its log.
type side struct {
	database
	sink string
}

// turnTo has the server started on a database from now on.
func (w *world) turnTo(to side) {
	w.ours = to.database
	w.env = append(w.env, "DATABASE_URL="+to.app, "SIGNEDAPPROVAL_LOG_SINK="+to.sink) // the last one counts
}

// double makes a second database out of the first, with a sink of its own. No server runs.
func (w *world) double(ctx context.Context, first side) (side, error) {
	second := side{w.database("grown"), first.sink + "-grown"}
	sink, err := filepath.Abs(second.sink)
	if err != nil {
		return side{}, err
	}
	second.sink = sink
	if err := errors.Join(os.RemoveAll(sink), os.CopyFS(sink, os.DirFS(first.sink))); err != nil {
		return side{}, err
	}
	return second, program(ctx, "psql", "--quiet", "--command=create database grown template ours owner bench_owner", w.database("postgres").super)
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

// sweeps measures what looks at everything again and again.
func sweeps(ctx context.Context, w *world) ([]Figure, error) {
	vault, err := store.OpenVault(store.NewKeyset()) // what is read holds no secret
	if err != nil {
		return nil, err
	}
	db, err := store.Open(ctx, w.ours.app, vault)
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
	} {
		var took []time.Duration
		for range 15 {
			began := time.Now()
			if err := s.look(); err != nil {
				return nil, err
			}
			took = append(took, time.Since(began))
		}
		figures = append(figures, shown(s.name+", p50", milliseconds(percentile(took, 0.5)), "ms", true))
	}
	return figures, nil
}

// ident makes a UUID out of what a row is and its number.
func ident(kind byte, n int) (id [16]byte) {
	binary.BigEndian.PutUint64(id[8:], uint64(n)) //nolint:gosec // a row's number is not negative
	id[0], id[6], id[8] = kind, 0x40, 0x80
	return id
}

// digest makes bytes that cannot be compressed out of what a row is and its number.
func digest(kind byte, n int) []byte {
	id := ident(kind, n)
	sum := sha256.Sum256(id[:])
	return sum[:]
}

// grow loads a history by COPY: merged pull requests with what was asked, decided, shown and logged of them.
func (w *world) grow(ctx context.Context, scale float64) (figures []Figure, err error) {
	part := func(n int) int { return max(1, int(float64(n)*scale)) }
	workspaces, repositories, pulls := part(grownWorkspaces), part(grownRepositories), part(grownPulls)
	began := time.Now()
	conn, err := pgx.Connect(ctx, w.ours.super)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var first int64
	if err := conn.QueryRow(ctx, `select size from signedapproval_log_head`).Scan(&first); err != nil {
		return nil, err
	}
	// What refers to what is right by construction, and looking it up for millions of rows takes longer than the rows.
	if _, err := conn.Exec(ctx, `set session_replication_role = replica`); err != nil {
		return nil, err
	}
	workspaceOf := func(pull int) [16]byte { return ident('w', pull%repositories%workspaces) }
	repositoryOf := func(pull int) [16]byte { return ident('r', pull%repositories) }
	chainOf := func(pull int) string { return hex.EncodeToString(digest('c', pull)) }
	headOf := func(pull int) string { return hex.EncodeToString(digest('h', pull)[:20]) }
	document := []byte(`{"rules":[]}`)
	for _, table := range []struct {
		name    string
		columns []string
		rows    int
		row     func(n int) []any
	}{
		{"workspaces", []string{"workspace_id", "slug", "name", "genesis_salt"}, workspaces, func(n int) []any {
			return []any{ident('w', n), fmt.Sprintf("grown-%d", n), "Grown", digest('s', n)}
		}},
		{"policy_versions", []string{"workspace_id", "id", "repository_id", "version", "document", "digest", "created_by", "created_via"}, repositories, func(n int) []any {
			return []any{ident('w', n%workspaces), ident('v', n), ident('r', n), 1, document, hex.EncodeToString(digest('v', n)), ident('u', n%1000), "session"}
		}},
		{"bitbucket_repo_configs", []string{"workspace_id", "repository_id", "slug", "full_name", "name", "policy_version_id", "hook_id", "state"}, repositories, func(n int) []any {
			return []any{ident('w', n%workspaces), ident('r', n), fmt.Sprintf("repo-%d", n), fmt.Sprintf("grown/repo-%d", n), "Repository", ident('v', n), ident('k', n), "ACTIVE"}
		}},
		{"pull_requests", []string{
			"workspace_id", "id", "repository_id", "number", "title", "state", "draft", "author_account_id", "author_name", "source_branch",
			"head_commit", "destination_branch", "status_key", "chain_id", "chain_sequence", "chain_leaf",
		}, pulls, func(n int) []any {
			return []any{
				workspaceOf(n), ident('p', n), repositoryOf(n), int64(n/repositories + 1), "Change what was wrong", "MERGED", false, "author", "Author", "feature/x",
				headOf(n), "main", fmt.Sprintf("signedapproval-grown-%d", n), chainOf(n), int64(grownLeaves), hex.EncodeToString(digest('l', n)),
			}
		}},
		{"approval_requests", []string{
			"workspace_id", "id", "pull_request_id", "round", "head_commit", "destination_branch", "policy_version_id", "rule", "rule_digest", "state",
			"sentence", "verdict", "expires_at",
		}, pulls, func(n int) []any {
			return []any{
				workspaceOf(n), ident('q', n), ident('p', n), 1, headOf(n), "main", ident('v', n%repositories), document, hex.EncodeToString(digest('v', n%repositories)), "APPROVED",
				"approved by Approver",
				map[string]any{"state": "APPROVED", "requirements": []any{}},
				time.Now(),
			}
		}},
		{"decisions", []string{
			"workspace_id", "id", "pull_request_id", "request_id", "person_id", "account_id", "name", "action", "head_commit", "destination_branch", "rule_digest",
			"sequence", "statement", "assertion", "openings", "leaf_hash",
		}, pulls * grownDecisions, func(n int) []any {
			pull := n / grownDecisions
			return []any{
				workspaceOf(pull), ident('d', n), ident('p', pull), ident('q', pull), ident('u', n%1000), "account", "Approver", "APPROVE", headOf(pull), "main",
				hex.EncodeToString(digest('v', pull%repositories)), int64(n%grownDecisions + 2), incompressible(n, 600), incompressible(n+1, 300), []byte("{}"), hex.EncodeToString(digest('d', n)),
			}
		}},
		{"bitbucket_commit_statuses", []string{
			"workspace_id", "pull_request_id", "commit", "repository_id", "request_id", "key", "refname", "state", "description", "url", "owed_version", "paid_version",
		}, pulls, func(n int) []any {
			return []any{
				workspaceOf(n), ident('p', n), headOf(n), repositoryOf(n), ident('q', n), fmt.Sprintf("signedapproval-grown-%d", n), "feature/x", "SUCCESSFUL",
				"approved", "https://approvals.example/pr", int64(2), int64(2),
			}
		}},
		{"jobs", []string{"kind", "key", "workspace_id", "payload", "state", "run_at"}, 2 * pulls, func(n int) []any {
			return []any{[]string{"evaluate", "status"}[n%2], fmt.Sprintf("grown-%d", n), workspaceOf(n / 2), map[string]any{}, "DONE", time.Now()}
		}},
		{"leaves", []string{"index", "hash", "entry", "workspace_id", "chain_id", "sequence"}, pulls * grownLeaves, func(n int) []any {
			pull, entry := n/grownLeaves, incompressible(n, 160)
			hash := evidence.LeafHash(entry)
			return []any{first + int64(n), hash[:], entry, workspaceOf(pull), chainOf(pull), int64(n%grownLeaves + 1)}
		}},
	} {
		n := -1
		rows := pgx.CopyFromFunc(func() ([]any, error) {
			if n++; n == table.rows {
				return nil, nil
			}
			return table.row(n), nil
		})
		if _, err := conn.CopyFrom(ctx, pgx.Identifier{"signedapproval_" + table.name}, table.columns, rows); err != nil {
			return nil, fmt.Errorf("load %s: %w", table.name, err)
		}
	}
	if _, err := conn.Exec(ctx, `update signedapproval_log_head set size = size + $1`, int64(pulls*grownLeaves)); err != nil {
		return nil, err
	}
	figures = append(figures, shown("rows loaded by COPY", time.Since(began).Seconds(), "s", true).
		noting("%d workspaces, %d repositories, %d pull requests, %d decisions, %d leaves", workspaces, repositories, pulls, pulls*grownDecisions, pulls*grownLeaves))
	taken, err := w.takeIntoTree(ctx, pulls*grownLeaves)
	if err != nil {
		return figures, err
	}
	if _, err := conn.Exec(ctx, `vacuum analyze`); err != nil {
		return figures, err
	}
	var size int64
	if err := conn.QueryRow(ctx, `select pg_database_size(current_database())`).Scan(&size); err != nil {
		return figures, err
	}
	return append(figures, taken, shown("database", float64(size)/1e9, "GB", true)), nil
}

// incompressible makes so many bytes that PostgreSQL cannot make smaller, as signatures are.
func incompressible(n, size int) []byte {
	data := make([]byte, 0, size+sha256.Size)
	for i := 0; len(data) < size; i++ {
		data = append(data, digest(byte(i), n)...)
	}
	return data[:size]
}

// takeIntoTree takes the loaded leaves into the log's tree, as the server would one publication after another.
func (w *world) takeIntoTree(ctx context.Context, leaves int) (Figure, error) {
	vault, err := store.OpenVault(store.NewKeyset()) // what is read holds no secret
	if err != nil {
		return Figure{}, err
	}
	db, err := store.Open(ctx, w.ours.app, vault)
	if err != nil {
		return Figure{}, err
	}
	defer db.Close()
	began := time.Now()
	if _, err := db.GrowTree(ctx); err != nil {
		return Figure{}, err
	}
	return shown("leaves taken into the tree", float64(leaves)/time.Since(began).Seconds(), "/s", false), nil
}

// backup saves the database and the checkpoint sink as an operator would, drops the database, restores it, has the
// server started on it and the whole log verified. Then the log goes on, and the same backup is restored once more: the
// server must see that it is behind the sink, and not start.
func (w *world) backup(ctx context.Context) (figures []Figure, err error) {
	file, err := filepath.Abs(filepath.Join(w.dir, "backup.dump"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(file)) }()
	took := func(name string, do func() error) error {
		began := time.Now()
		if err := do(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		figures = append(figures, shown(name, time.Since(began).Seconds(), "s", true))
		return nil
	}
	restore := func() error {
		maintenance := w.database("postgres").super
		return errors.Join(
			program(ctx, "psql", "--quiet", "--command=drop database "+w.ours.name+" with (force)", maintenance),
			program(ctx, "psql", "--quiet", "--command=create database "+w.ours.name+" owner bench_owner", maintenance),
			program(ctx, "pg_restore", "--exit-on-error", "--jobs=2", "--dbname="+w.ours.super, file),
		)
	}
	if err := took("backup, pg_dump, while the server serves", func() error {
		if err := w.serve(ctx); err != nil {
			return err
		}
		return program(ctx, "pg_dump", "--format=custom", "--compress=1", "--file="+file, w.ours.super)
	}); err != nil {
		return figures, err
	}
	if info, err := os.Stat(file); err == nil {
		figures[0] = figures[0].noting("%s MB", number(float64(info.Size())/1e6))
	}
	if err := w.end(syscall.SIGTERM); err != nil {
		return figures, err
	}
	if err := took("restore, pg_restore with two jobs", restore); err != nil {
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
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.binary, "serve")
	cmd.Env = w.env
	out, err := cmd.CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("LOG_BEHIND_SINK")) {
		return nil, fmt.Errorf("the server was started on a database that is behind its sink: %w\n%s", err, out[max(0, len(out)-2000):])
	}
	return []Figure{shown("backups behind the sink that were refused", 1, "", false).exactly(1)}, nil
}

func program(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out[max(0, len(out)-2000):])
	}
	return nil
}
