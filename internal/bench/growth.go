package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

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

// growth measures on a database that has grown beside one that has not, and then backs it up and restores it.
func growth(ctx context.Context, m mode, dir string, wanted *regexp.Regexp) (figures []Figure, err error) {
	w, err := newWorld(ctx, dir, m)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	empty, err := w.measureSome(ctx, wanted)
	if err != nil {
		return empty, err
	}
	if err := w.end(syscall.SIGTERM); err != nil {
		return empty, err
	}
	loaded, err := w.grow(ctx, m.growth)
	figures = append(figures, loaded...)
	if err != nil {
		return figures, err
	}
	if err := w.serve(ctx); err != nil {
		return figures, err
	}
	full, err := w.measureSome(ctx, wanted)
	figures = append(figures, compareSizes(empty, full)...)
	if err != nil {
		return figures, err
	}
	saved, err := w.backup(ctx)
	return append(figures, saved...), err
}

func (w *world) measureSome(ctx context.Context, wanted *regexp.Regexp) (figures []Figure, failed error) {
	for _, g := range groups {
		if !wanted.MatchString(g.name) || !grown.MatchString(g.name) {
			continue
		}
		found, err := g.measure(ctx, w)
		figures = append(figures, found...)
		if err != nil {
			return figures, fmt.Errorf("%s: %w", g.name, err)
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

// backup saves the database as an operator would, drops it, and restores it.
func (w *world) backup(ctx context.Context) (figures []Figure, err error) {
	if err := w.end(syscall.SIGTERM); err != nil {
		return nil, err
	}
	file, err := filepath.Abs(filepath.Join(w.dir, "backup.dump"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(file)) }()
	maintenance := w.database("postgres").super
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"backup, pg_dump", func() error {
			return program(ctx, "pg_dump", "--format=custom", "--compress=1", "--file="+file, w.ours.super)
		}},
		{"", func() error {
			return program(ctx, "psql", "--quiet", "--command=drop database ours with (force)", maintenance)
		}},
		{"", func() error {
			return program(ctx, "psql", "--quiet", "--command=create database ours owner bench_owner", maintenance)
		}},
		{"restore, pg_restore with two jobs", func() error { return program(ctx, "pg_restore", "--jobs=2", "--dbname="+w.ours.super, file) }},
	} {
		began := time.Now()
		if err := step.do(); err != nil {
			return figures, err
		}
		if step.name != "" {
			figures = append(figures, shown(step.name, time.Since(began).Seconds(), "s", true))
		}
		if info, err := os.Stat(file); err == nil && len(figures) == 1 {
			figures[0] = figures[0].noting("%s MB", number(float64(info.Size())/1e6))
		}
	}
	began := time.Now()
	if err := w.serve(ctx); err != nil {
		return figures, fmt.Errorf("after the restore: %w", err)
	}
	return append(figures, shown("until the server is ready on the restored database", time.Since(began).Seconds(), "s", true)), nil
}

func program(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out[max(0, len(out)-2000):])
	}
	return nil
}
