package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"

	"github.com/signedapproval/bitbucket/internal/embeddedpg"
	"github.com/signedapproval/bitbucket/migrations"
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

// history is what a grown installation has behind it: merged pull requests with what was asked, decided, shown and logged
// of them. Everything in it follows from its size.
type history struct{ workspaces, repositories, pulls int }

func historyOf(scale float64) history {
	part := func(n int) int { return max(1, int(float64(n)*scale)) }
	return history{part(grownWorkspaces), part(grownRepositories), part(grownPulls)}
}

func (h history) String() string {
	return fmt.Sprintf("%d workspaces, %d repositories, %d pull requests, %d decisions, %d leaves",
		h.workspaces, h.repositories, h.pulls, h.pulls*grownDecisions, h.leaves())
}

func (h history) leaves() int { return h.pulls * grownLeaves }

// historyTable is a table of the history, and how each of its rows is made. Rows are asked for in their order.
type historyTable struct {
	name    string
	columns []string
	rows    int
	row     func(n int, into *copyRow)
}

// ident makes a UUID out of what a row is and its number.
func ident(kind byte, n int) (id [16]byte) {
	binary.BigEndian.PutUint64(id[8:], uint64(n)) //nolint:gosec // a row's number is not negative
	id[0], id[6], id[8] = kind, 0x40, 0x80
	return id
}

// digest makes the lower-case hex of a hash out of what a row is and its number.
func digest(kind byte, n int) string {
	id := ident(kind, n)
	sum := sha256.Sum256(id[:])
	return hex.EncodeToString(sum[:])
}

// tables lists what is loaded. The hashes of the leaves are kept in hashes as they are made.
func (h history) tables(hashes []tlog.Hash) []historyTable {
	workspaceOf := func(pull int) [16]byte { return ident('w', pull%h.repositories%h.workspaces) }
	repositoryOf := func(pull int) [16]byte { return ident('r', pull%h.repositories) }
	headOf := func(pull int) string { return digest('h', pull)[:40] }
	document, now := []byte(`{"rules":[]}`), time.Now()
	kinds := []string{"evaluate", "status"}
	// What PostgreSQL cannot make smaller, as signatures are. The tables are made side by side.
	statements, entries := rand.NewChaCha8([32]byte{1}), rand.NewChaCha8([32]byte{2})
	statement, assertion, entry := make([]byte, 600), make([]byte, 300), make([]byte, 160)
	var chain string
	return []historyTable{
		{"workspaces", []string{"workspace_id", "slug", "name", "genesis_salt"}, h.workspaces, func(n int, r *copyRow) {
			r.uuid(ident('w', n)).text(fmt.Sprintf("grown-%d", n)).text("Grown").text(digest('s', n)[:32])
		}},
		{"policy_versions", []string{"workspace_id", "id", "repository_id", "version", "document", "digest", "created_by", "created_via"}, h.repositories, func(n int, r *copyRow) {
			r.uuid(workspaceOf(n)).uuid(ident('v', n)).uuid(ident('r', n)).int4(1).bytes(document).text(digest('v', n)).uuid(ident('u', n%1000)).text("session")
		}},
		{"bitbucket_repo_configs", []string{"workspace_id", "repository_id", "slug", "full_name", "name", "policy_version_id", "hook_id", "state"}, h.repositories, func(n int, r *copyRow) {
			r.uuid(workspaceOf(n)).uuid(ident('r', n)).text(fmt.Sprintf("repo-%d", n)).text(fmt.Sprintf("grown/repo-%d", n)).text("Repository").
				uuid(ident('v', n)).uuid(ident('k', n)).text("ACTIVE")
		}},
		{"leaves", []string{"index", "hash", "entry", "workspace_id", "chain_id", "sequence"}, h.leaves(), func(n int, r *copyRow) {
			pull := n / grownLeaves
			if n%grownLeaves == 0 {
				chain = digest('c', pull)
			}
			_, _ = entries.Read(entry) // never fails
			hashes[n] = tlog.RecordHash(entry)
			r.int8(n).bytes(hashes[n][:]).bytes(entry).uuid(workspaceOf(pull)).text(chain).int8(n%grownLeaves + 1)
		}},
		{"decisions", []string{
			"workspace_id", "id", "pull_request_id", "request_id", "person_id", "account_id", "name", "action", "head_commit", "destination_branch", "rule_digest",
			"sequence", "statement", "assertion", "openings", "leaf_hash", "credential_id",
		}, h.pulls * grownDecisions, func(n int, r *copyRow) {
			pull, person := n/grownDecisions, ident('u', n%1000)
			_, _ = statements.Read(statement)
			_, _ = statements.Read(assertion)
			r.uuid(workspaceOf(pull)).uuid(ident('d', n)).uuid(ident('p', pull)).uuid(ident('q', pull)).uuid(person).text("account").text("Approver").text("APPROVE").
				text(headOf(pull)).text("main").text(digest('v', pull%h.repositories)).int8(n%grownDecisions + 2).
				bytes(statement).bytes(assertion).bytes([]byte("{}")).text(digest('d', n)).bytes(person[:])
		}},
		{"pull_requests", []string{
			"workspace_id", "id", "repository_id", "number", "title", "state", "draft", "author_account_id", "author_name", "source_branch",
			"head_commit", "destination_branch", "status_key", "chain_id", "chain_sequence", "chain_leaf",
		}, h.pulls, func(n int, r *copyRow) {
			r.uuid(workspaceOf(n)).uuid(ident('p', n)).uuid(repositoryOf(n)).int8(n/h.repositories + 1).text("Change what was wrong").text("MERGED").bool(false).
				text("author").text("Author").text("feature/x").text(headOf(n)).text("main").text(fmt.Sprintf("signedapproval-grown-%d", n)).
				text(digest('c', n)).int8(grownLeaves).text(digest('l', n))
		}},
		{"approval_requests", []string{
			"workspace_id", "id", "pull_request_id", "round", "head_commit", "destination_branch", "policy_version_id", "rule", "rule_digest", "state",
			"sentence", "verdict", "expires_at", "decided_at",
		}, h.pulls, func(n int, r *copyRow) {
			r.uuid(workspaceOf(n)).uuid(ident('q', n)).uuid(ident('p', n)).int4(1).text(headOf(n)).text("main").uuid(ident('v', n%h.repositories)).
				bytes(document).text(digest('v', n%h.repositories)).text("APPROVED").text("approved by Approver").
				json(`{"state": "APPROVED", "requirements": []}`).time(now).time(now)
		}},
		{"bitbucket_commit_statuses", []string{
			"workspace_id", "pull_request_id", "commit", "repository_id", "request_id", "key", "refname", "state", "description", "url", "owed_version", "paid_version",
		}, h.pulls, func(n int, r *copyRow) {
			r.uuid(workspaceOf(n)).uuid(ident('p', n)).text(headOf(n)).uuid(repositoryOf(n)).uuid(ident('q', n)).text(fmt.Sprintf("signedapproval-grown-%d", n)).
				text("feature/x").text("SUCCESSFUL").text("approved").text("https://approvals.example/pr").int8(2).int8(2)
		}},
		{"merges_seen", []string{
			"workspace_id", "repository_id", "number", "pull_request_id", "destination_branch", "kind", "head_commit", "landed_commit", "asked", "checked", "by_gate", "sentence",
		}, h.pulls, func(n int, r *copyRow) {
			r.uuid(workspaceOf(n)).uuid(repositoryOf(n)).int8(n/h.repositories + 1).uuid(ident('p', n)).text("main").text("APPROVED").
				text(headOf(n)).text(digest('m', n)[:40]).bool(true).bool(true).bool(false).text("approved by Approver")
		}},
		{"jobs", []string{"kind", "key", "workspace_id", "payload", "state", "run_at"}, 2 * h.pulls, func(n int, r *copyRow) {
			r.text(kinds[n%2]).text(fmt.Sprintf("grown-%d", n)).uuid(workspaceOf(n / 2)).json("{}").text("DONE").time(now)
		}},
	}
}

// keptLabel is the table in which a database with a history says which that is: it is written last.
const keptLabel = "bench_history"

// label says how large a history is, and in which tables.
func (h history) label() (string, error) {
	sum := sha256.New()
	err := fs.WalkDir(migrations.Files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(migrations.Files, path)
		sum.Write(text)
		return err
	})
	return fmt.Sprintf("%s, schema %x", h, sum.Sum(nil)[:8]), err
}

// loadHistory makes sure that the PostgreSQL in a folder has a database with the history, and loads it unless it is there.
// It is loaded with settings that give up on a crash: what was not finished is loaded anew.
func loadHistory(ctx context.Context, dir string, h history) (figures []Figure, err error) {
	loaded := false
	for turn := range 2 {
		pg, err := embeddedpg.Start(ctx, embeddedpg.Config{Dir: dir, Installed: true})
		if err != nil {
			return nil, err
		}
		if turn == 0 {
			loaded, err = prepareLoad(ctx, pg.DSN, h)
		} else {
			figures, err = h.load(ctx, pg.DSN)
		}
		if err = errors.Join(err, pg.Stop()); err != nil || loaded {
			return figures, err
		}
	}
	return figures, nil
}

// prepareLoad answers whether the history is there. If not, it makes an empty database for it, and has the next start of
// PostgreSQL write no log of what is loaded into a table that is emptied in the same transaction.
func prepareLoad(ctx context.Context, super string, h history) (loaded bool, err error) {
	if err := makeRoles(ctx, super); err != nil {
		return false, err
	}
	full := databaseOf(super, "grown")
	which, err := h.label()
	if err != nil {
		return false, err
	}
	if kept, err := sql(ctx, full.super, `select label from `+keptLabel); err == nil && len(kept) == 1 && kept[0] == which {
		return true, nil
	}
	return false, execute(ctx, super,
		`drop database if exists grown with (force)`, `create database grown owner bench_owner`,
		`alter system set wal_level = minimal`, `alter system set max_wal_senders = 0`, `alter system set fsync = off`, `alter system set max_wal_size = '4GB'`,
		`alter system set maintenance_work_mem = '1GB'`, `alter system set autovacuum = off`)
}

// load loads the history.
func (h history) load(ctx context.Context, super string) (figures []Figure, err error) {
	full := databaseOf(super, "grown")
	which, err := h.label()
	if err != nil {
		return nil, err
	}
	if err := store.Migrate(ctx, full.owner); err != nil {
		return nil, err
	}
	began, hashes := time.Now(), make([]tlog.Hash, h.leaves())
	tables := h.tables(hashes)
	foreign, err := sql(ctx, full.super, `select format('alter table %s drop constraint %I;alter table %1$s add constraint %2$I %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
		from pg_constraint where contype = 'f' and conrelid::regclass::text like 'signedapproval\_%' order by conname`)
	if err != nil {
		return nil, err
	}
	var remove, add []string
	for _, both := range foreign {
		without, with, _ := strings.Cut(both, ";")
		remove, add = append(remove, without), append(add, with)
	}
	if err := execute(ctx, full.super, remove...); err != nil {
		return nil, err
	}
	loading, inLoading := errgroup.WithContext(ctx)
	loading.SetLimit(2) // each has a process that makes rows and one that stores them
	for _, t := range tables {
		loading.Go(func() error { return t.load(inLoading, full.super) })
	}
	if err := loading.Wait(); err != nil {
		return nil, err
	}
	figures = append(figures, shown("history loaded by COPY, with its indexes", time.Since(began).Seconds(), "s", true).noting("%s", h))
	middle := time.Now()
	if err := treeTable(hashes).load(ctx, full.super); err != nil {
		return figures, err
	}
	figures = append(figures, shown("tree of the log computed and loaded", time.Since(middle).Seconds(), "s", true))
	middle = time.Now()
	if err := execute(ctx, full.super, append(add,
		fmt.Sprintf(`update signedapproval_log_head set size = %d`, len(hashes)), fmt.Sprintf(`update signedapproval_log_tree set size = %d`, len(hashes)),
		`vacuum analyze`, fmt.Sprintf(`create table %s as select '%s' as label`, keptLabel, which), `alter system reset all`, `checkpoint`)...); err != nil {
		return figures, err
	}
	syscall.Sync() // PostgreSQL was told not to
	var size int64
	found, err := sql(ctx, full.super, `select pg_database_size(current_database())::text`)
	if err == nil {
		_, err = fmt.Sscan(found[0], &size)
	}
	return append(figures, shown("references checked, vacuum and analyze", time.Since(middle).Seconds(), "s", true), shown("database", float64(size)/1e9, "GB", true)), err
}

// treeTable is the log's tree above its leaves.
func treeTable(level []tlog.Hash) historyTable {
	above := 0
	for n := len(level) / 2; n > 0; n /= 2 {
		above += n
	}
	at, first, end := 0, 0, 0 // the level, its first row and the first one behind it
	return historyTable{"log_hashes", []string{"level", "index", "hash"}, above, func(n int, r *copyRow) {
		if n == end {
			below := level
			level = make([]tlog.Hash, len(below)/2)
			for i := range level {
				level[i] = tlog.NodeHash(below[2*i], below[2*i+1])
			}
			at, first, end = at+1, n, n+len(level)
		}
		r.int2(at).int8(n - first).bytes(level[n-first][:])
	}}
}

// load fills a table that is empty, in one transaction that takes its indexes away and makes them anew.
func (t historyTable) load(ctx context.Context, super string) error {
	began := time.Now()
	conn, err := pgx.Connect(ctx, super)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	table := "signedapproval_" + t.name
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	rows, err := tx.Query(ctx, `
		select format('alter table %s drop constraint %I;alter table %1$s add constraint %2$I %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
		from pg_constraint where conrelid = $1::text::regclass and contype in ('p', 'u')
		union all
		select format('drop index %I;%s', indexrelid::regclass, pg_get_indexdef(indexrelid)) from pg_index i
		where indrelid = $1::text::regclass and not exists (select from pg_constraint where conindid = indexrelid)
		order by 1`, table)
	if err != nil {
		return err
	}
	indexes, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	var remove, add []string
	for _, both := range indexes {
		without, with, _ := strings.Cut(both, ";")
		remove, add = append(remove, without), append(add, with)
	}
	run := func(statements ...string) error {
		for _, s := range statements {
			if _, err := tx.Exec(ctx, s); err != nil {
				return fmt.Errorf("load %s: %s: %w", t.name, s, err)
			}
		}
		return nil
	}
	if err := run(append(remove, `truncate `+table)...); err != nil {
		return err
	}
	// The rows are as VACUUM would leave them.
	if err := t.copy(ctx, conn, ", freeze"); err != nil {
		return err
	}
	copied := time.Since(began)
	if err := errors.Join(run(add...), tx.Commit(ctx)); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%-28s %9d rows in %s, %d indexes in %s\n", t.name, t.rows, copied.Round(time.Millisecond), len(indexes), (time.Since(began) - copied).Round(time.Millisecond))
	return nil
}

// copy adds the rows to what is there.
func (t historyTable) copy(ctx context.Context, conn *pgx.Conn, option string) error {
	command := fmt.Sprintf(`copy signedapproval_%s (%s) from stdin with (format binary%s)`, t.name, strings.Join(t.columns, ", "), option)
	if _, err := conn.PgConn().CopyFrom(ctx, t.reader(), command); err != nil {
		return fmt.Errorf("load %s: %w", t.name, err)
	}
	return nil
}

// copyReader gives the rows of a table in the binary format of COPY, made as they are read.
type copyReader struct {
	table historyTable
	next  int
	made  copyRow
	rest  []byte // of what was made
}

func (t historyTable) reader() *copyReader {
	return &copyReader{table: t, rest: []byte("PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00")}
}

func (c *copyReader) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		const enough = 64 << 10
		c.made = c.made[:0]
		for ; c.next < c.table.rows && len(c.made) < enough; c.next++ {
			c.made.begin(len(c.table.columns))
			c.table.row(c.next, &c.made)
		}
		if c.rest = c.made; len(c.rest) == 0 {
			return 0, io.EOF // which PostgreSQL takes for the end of the rows as well
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// copyRow writes rows in the binary format of COPY: the fields in the order of the columns, each behind its length.
type copyRow []byte

func (r *copyRow) begin(fields int) { *r = binary.BigEndian.AppendUint16(*r, uint16(fields)) } //nolint:gosec // as many as columns

func (r *copyRow) bytes(v []byte) *copyRow {
	*r = append(binary.BigEndian.AppendUint32(*r, uint32(len(v))), v...) //nolint:gosec // of a short value
	return r
}

func (r *copyRow) text(v string) *copyRow {
	*r = append(binary.BigEndian.AppendUint32(*r, uint32(len(v))), v...) //nolint:gosec // of a short value
	return r
}

func (r *copyRow) uuid(v [16]byte) *copyRow { return r.bytes(v[:]) }

func (r *copyRow) json(v string) *copyRow { return r.text("\x01" + v) } // the version of the format

func (r *copyRow) bool(v bool) *copyRow {
	if v {
		return r.text("\x01")
	}
	return r.text("\x00")
}

func (r *copyRow) int2(v int) *copyRow {
	*r = binary.BigEndian.AppendUint16(append(*r, 0, 0, 0, 2), uint16(v)) //nolint:gosec // of a small value
	return r
}

func (r *copyRow) int4(v int) *copyRow {
	*r = binary.BigEndian.AppendUint32(append(*r, 0, 0, 0, 4), uint32(v)) //nolint:gosec // of a small value
	return r
}

func (r *copyRow) int8(v int) *copyRow {
	*r = binary.BigEndian.AppendUint64(append(*r, 0, 0, 0, 8), uint64(v)) //nolint:gosec // two's complement
	return r
}

func (r *copyRow) time(v time.Time) *copyRow {
	return r.int8(int(v.UnixMicro() - 946_684_800_000_000)) // since 2000
}

// takeBack takes away what an earlier run left in the database: all that is not of the history.
func (h history) takeBack(ctx context.Context, of database) error {
	var statements, others []string
	loaded := map[string]bool{}
	for _, t := range h.tables(nil) {
		loaded["signedapproval_"+t.name] = true
	}
	tables, err := sql(ctx, of.super, `select relname::text from pg_class where relkind in ('r', 'p') and not relispartition and relname like 'signedapproval\_%'
		and (relname in ('signedapproval_log_head', 'signedapproval_log_tree') or not exists (select from pg_attribute where attrelid = pg_class.oid and attname = 'singleton')) order by 1`)
	if err != nil {
		return err
	}
	for _, table := range tables {
		switch table {
		case "signedapproval_leaves":
			statements = append(statements, fmt.Sprintf(`delete from %s where index >= %d`, table, h.leaves()))
		case "signedapproval_log_hashes":
			statements = append(statements, fmt.Sprintf(`delete from %s h using generate_series(1, 62) at where h.level = at and h.index >= %d::bigint >> at`, table, h.leaves()))
		case "signedapproval_log_head", "signedapproval_log_tree":
			statements = append(statements, fmt.Sprintf(`update %s set size = %d`, table, h.leaves()))
		case "signedapproval_schema_versions":
		default:
			if !loaded[table] {
				others = append(others, table)
				continue
			}
			statements = append(statements, fmt.Sprintf(`delete from %s where workspace_id < '%x' or workspace_id >= '%x' or workspace_id is null`, table, ident('w', 0), ident('w', h.workspaces)))
		}
	}
	// Nothing that stays refers to what goes.
	statements = append([]string{`set session_replication_role = replica`, `truncate ` + strings.Join(others, ", ")}, append(statements, `reset session_replication_role`, `vacuum analyze`)...)
	return execute(ctx, of.super, statements...)
}
