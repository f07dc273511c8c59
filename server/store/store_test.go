package store_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/server/store"
)

func TestMightyLoginIsRefused(t *testing.T) {
	t.Parallel()
	database := dbtest.New(t)
	for name, url := range map[string]string{"superuser": database.SuperURL, "owner": database.OwnerURL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := store.Open(t.Context(), url, nil)
			if err == nil {
				s.Close()
				t.Fatal("the login was let in")
			}
			if !strings.Contains(err.Error(), "must not be a superuser") {
				t.Errorf("error %q does not say what is wrong", err)
			}
		})
	}
}

func TestOpenDoesNotQuoteThePassword(t *testing.T) {
	t.Parallel()
	_, err := store.Open(t.Context(), "postgres://user:hunter2@[bad", nil)
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error = %v, want one without the password", err)
	}
}

// seeds insert one row of workspace $1 into each tenant table, in an order that satisfies their
// references. The first column named is never null and can be selected.
var seeds = []struct{ table, insert string }{
	{"signedapproval_workspaces", `(workspace_id, slug, name, genesis_salt) values ($1, 'slug', 'Name', '\x00')`},
	{"signedapproval_bitbucket_connections", `(workspace_id, state, connected_by, account_id, account_uuid, account_name, scopes)
		values ($1, 'ACTIVE', $1, 'a', $1, 'A', '{}')`},
	{"signedapproval_policy_versions", `(workspace_id, id, repository_id, version, document, digest, created_by, created_via)
		values ($1, $1, $1, 1, '{}', 'd', $1, 'session')`},
	{"signedapproval_bitbucket_repo_configs", `(workspace_id, repository_id, slug, full_name, name, policy_version_id, hook_id, state)
		values ($1, $1, 's', 'w/s', 'S', $1, $1, 'ACTIVE')`},
	{"signedapproval_pull_requests", `(workspace_id, id, repository_id, number, title, state, draft, author_account_id, author_name,
		source_branch, head_commit, destination_branch, status_key, chain_id)
		values ($1, $1, $1, 1, 't', 'OPEN', false, 'a', 'A', 'b', repeat('a', 40), 'main', $1::uuid::text, 'c')`},
	{"signedapproval_approval_requests", `(workspace_id, id, pull_request_id, round, head_commit, destination_branch, policy_version_id,
		rule, rule_digest, state, sentence, verdict, expires_at)
		values ($1, $1, $1, 1, repeat('a', 40), 'main', $1, '{}', 'd', 'PENDING', 's', '{}', now() + interval '7 days')`},
	{"signedapproval_decisions", `(workspace_id, id, pull_request_id, request_id, person_id, account_id, name, action, head_commit,
		destination_branch, rule_digest, sequence, statement, assertion, openings, leaf_hash)
		values ($1, $1, $1, $1, $1, 'a', 'A', 'APPROVE', 'h', 'main', 'd', 1, '{}', '{}', '{}', 'l')`},
	{"signedapproval_bitbucket_commit_statuses", `(workspace_id, pull_request_id, commit, repository_id, request_id, key, refname, state, description, url)
		values ($1, $1, repeat('a', 40), $1, $1, 'k', 'b', 'INPROGRESS', 's', 'u')`},
	{"signedapproval_merge_intents", `(workspace_id, pull_request_id, head_commit, request_id, strategy, state)
		values ($1, $1, 'h', $1, 'merge_commit', 'PLANNED')`},
	{"signedapproval_repository_people", `(workspace_id, repository_id, account_id, name, permission) values ($1, $1, 'a', 'A', 'read')`},
	{"signedapproval_repository_people_lists", `(workspace_id, repository_id, fetched_at) values ($1, $1, now())`},
	{"signedapproval_alarms", `(workspace_id, kind, subject, sentence) values ($1, 'FOREIGN_STATUS', 's', 's')`},
	{"signedapproval_installations", `(workspace_id, id, installation_id, environment_type, state, api_base_url, system_token, seen_at)
		values ($1, $1, $1::uuid::text, 'PRODUCTION', 'ACTIVE', 'https://api.example.com', '\x00', now())`},
	{"signedapproval_merge_checks", `(workspace_id, id, repository_id, number, trigger, success, code, sentence)
		values ($1, $1, $1, 1, 'ON_MERGE', false, 'C', 's')`},
	{"signedapproval_merges_seen", `(workspace_id, pull_request_id, repository_id, number, destination_branch, kind, asked, checked, by_gate, sentence)
		values ($1, $1, $1, 1, 'main', 'VIOLATION', false, false, false, 's')`},
	{"signedapproval_roster_versions", `(workspace_id, version, digest, document, event, person_id, key_digest, leaf_hash)
		values ($1, 1, 'd', '{}', 'enrolled', $1, 'k', decode(repeat('00', 32), 'hex'))`},
	{"signedapproval_fallen_verdicts", `(workspace_id, request_id, sequence, pull_request_id, roster_version, was, stands_as, merged)
		values ($1, $1, 3, $1, 1, 'APPROVED', 'PENDING', true)`},
	{"signedapproval_protections", `(workspace_id, version, digest, document, quorum, people, proposal_id) values ($1, 1, 'd', '{}', 1, '{p}', $1)`},
	{"signedapproval_proposals", `(workspace_id, id, kind, repository_id, document, digest, proposed_by, proposed_via, expires_at)
		values ($1, $1, 'POLICY', $1, '{}', 'd', $1, 'session', now() + interval '7 days')`},
	{"signedapproval_proposal_acts", `(workspace_id, proposal_id, person_id, credential_id, key_digest, act, digest)
		values ($1, $1, $1, '\x00', 'k', '{}', 'd')`},
	{"signedapproval_enforcements", `(workspace_id, repository_id, pattern, state, reasons) values ($1, $1, 'main', 'OPEN', '[]')`},
}

func seed(t *testing.T, h *house, workspaces ...string) {
	t.Helper()
	for _, workspace := range workspaces {
		for _, s := range seeds {
			h.super(t, "insert into "+s.table+" "+s.insert, workspace)
		}
	}
}

// TestRowLevelSecurity looks at every tenant table as the application's login, with raw SQL: what a
// query that forgot its workspace would do.
func TestRowLevelSecurity(t *testing.T) {
	t.Parallel()
	h := open(t)
	seed(t, h, acme, globex)
	for _, s := range seeds {
		t.Run(s.table, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, h.AppURL)
			ctx := t.Context()
			for _, statement := range []string{"select workspace_id from " + s.table, "insert into " + s.table + " " + strings.ReplaceAll(s.insert, "$1", "'"+uuid(9)+"'")} {
				if _, err := conn.Exec(ctx, statement); err == nil {
					t.Errorf("without a workspace this is no error: %s", statement)
				}
			}
			inWorkspace(t, conn, acme, func(tx pgx.Tx) {
				rows, err := tx.Query(ctx, "select workspace_id::text from "+s.table)
				must(t, err)
				seen, err := pgx.CollectRows(rows, pgx.RowTo[string])
				must(t, err)
				if len(seen) != 1 || seen[0] != acme {
					t.Errorf("in workspace %s rows of %v are seen, want one of its own", acme, seen)
				}
			})
			// What it cannot see, it cannot change or remove either; some tables allow that to nobody.
			for _, statement := range []string{
				"update " + s.table + " set workspace_id = workspace_id where workspace_id = '" + globex + "'",
				"delete from " + s.table + " where workspace_id = '" + globex + "'",
			} {
				inWorkspace(t, conn, acme, func(tx pgx.Tx) {
					done, err := tx.Exec(ctx, statement)
					if err == nil && done.RowsAffected() != 0 {
						t.Errorf("reached %d rows of another workspace: %s", done.RowsAffected(), statement)
					} else if err != nil {
						wantCode(t, statement, err, "42501")
					}
				})
			}
			inWorkspace(t, conn, acme, func(tx pgx.Tx) {
				_, err := tx.Exec(ctx, "insert into "+s.table+" "+strings.ReplaceAll(s.insert, "$1", "'"+uuid(9)+"'"))
				wantCode(t, "insert into another workspace", err, "42501")
			})
			// The setting of an earlier transaction of the same connection has not stayed.
			if _, err := conn.Exec(ctx, "select workspace_id from "+s.table); err == nil {
				t.Error("after a transaction with a workspace, a statement without one is no error")
			}
		})
	}
}

func TestTenantTablesAreAllTested(t *testing.T) {
	t.Parallel()
	h := open(t)
	rows, err := connect(t, h.SuperURL).Query(t.Context(), `
		select c.relname::text, c.relrowsecurity and c.relforcerowsecurity from pg_class c
		where c.relkind in ('r', 'p') and c.relname like 'signedapproval\_%' and exists (
			select from pg_policy p where p.polrelid = c.oid) `)
	must(t, err)
	tested := map[string]bool{}
	for _, s := range seeds {
		tested[s.table] = true
	}
	var name string
	var forced bool
	found := 0
	_, err = pgx.ForEachRow(rows, []any{&name, &forced}, func() error {
		found++
		if !tested[name] || !forced {
			t.Errorf("table %s: tested %t, row-level security on and forced %t", name, tested[name], forced)
		}
		return nil
	})
	must(t, err)
	same(t, "tables with policies", found, len(seeds))
}

// TestTenantlessTablesAreListed holds the tables without row-level security against a list: each has
// its reason beside it in the migration, and a new one needs a decision.
func TestTenantlessTablesAreListed(t *testing.T) {
	t.Parallel()
	rows, err := connect(t, dbtest.New(t).SuperURL).Query(t.Context(), `
		select c.relname::text from pg_class c
		where c.relkind in ('r', 'p') and c.relname like 'signedapproval\_%' and not c.relrowsecurity and not c.relispartition order by 1`)
	must(t, err)
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	listed := []string{
		"api_budgets", "api_tokens", "challenges", "credentials", "deliveries", "hook_endpoints", "jobs", "key_countersignatures", "key_reports", "key_revocations", "leaves", "log_checkpoints", "log_cosignatures", "log_hashes", "log_head", "log_tree",
		"memberships", "models", "notices", "oauth_states", "pending_grants", "people", "queue_epoch", "roster_people", "schema_floor", "schema_versions", "sessions", "stream_tokens", "tickets",
	}
	same(t, "tables without row-level security", strings.Join(found, " "), "signedapproval_"+strings.Join(listed, " signedapproval_"))
}

// TestAWorkspaceHasOneInstallationAtMost asks the schema: two replicas may be told of two at once.
func TestAWorkspaceHasOneInstallationAtMost(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.super(t, `insert into signedapproval_workspaces (workspace_id, slug, name, genesis_salt) values ($1, 's', 'S', '\x00')`, acme)
	conn := connect(t, h.AppURL)
	inWorkspace(t, conn, acme, func(tx pgx.Tx) {
		put := `insert into signedapproval_installations (workspace_id, installation_id, environment_type, state, api_base_url, seen_at)
			values ($1, $2, 'PRODUCTION', $3, 'https://api.example.com', now())`
		for id, state := range map[string]string{"old": "UNINSTALLED", "older": "UNINSTALLED", "new": "ACTIVE"} {
			_, err := tx.Exec(t.Context(), put, acme, id, state)
			must(t, err)
		}
		_, err := tx.Exec(t.Context(), put, acme, "newer", "AWAITING_CONFIRMATION")
		wantCode(t, "a second installation that is not over", err, "23505")
	})
}

func TestWhatIsDecidedIsImmutable(t *testing.T) {
	t.Parallel()
	h := open(t)
	seed(t, h, acme)
	h.super(t, `insert into signedapproval_leaves (index, hash, entry, workspace_id) values (0, '\x00', '\x00', $1)`, acme)
	conn := connect(t, h.AppURL)
	for _, table := range []string{"signedapproval_policy_versions", "signedapproval_decisions", "signedapproval_leaves", "signedapproval_merge_checks", "signedapproval_roster_versions"} {
		for _, statement := range []string{"update " + table + " set workspace_id = workspace_id", "delete from " + table} {
			inWorkspace(t, conn, acme, func(tx pgx.Tx) {
				_, err := tx.Exec(t.Context(), statement)
				wantCode(t, statement, err, "42501")
			})
		}
	}
}

func TestTenantlessTablesCannotBeTruncatedOrAltered(t *testing.T) {
	t.Parallel()
	conn := connect(t, dbtest.New(t).AppURL)
	for _, statement := range []string{
		"truncate signedapproval_leaves", "truncate signedapproval_jobs", "drop table signedapproval_jobs",
		"alter table signedapproval_pull_requests disable row level security", "delete from signedapproval_log_head",
		"insert into signedapproval_queue_epoch (epoch) values (9)",
	} {
		_, err := conn.Exec(t.Context(), statement)
		wantCode(t, statement, err, "42501")
	}
}

func inWorkspace(t *testing.T, conn *pgx.Conn, workspace string, fn func(pgx.Tx)) {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	must(t, err)
	defer func() { must(t, tx.Rollback(context.WithoutCancel(t.Context()))) }()
	_, err = tx.Exec(t.Context(), `select set_config('app.workspace', $1, true)`, workspace)
	must(t, err)
	fn(tx)
}

func wantCode(t *testing.T, what string, err error, code string) {
	t.Helper()
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.Code != code {
		t.Errorf("%s: error %v, want one with code %s", what, err, code)
	}
}

func TestRingAndTouchComeAfterTheCommitOnly(t *testing.T) {
	t.Parallel()
	h := open(t)
	var touched []string
	h.Changed = func(_ context.Context, topics []string) { touched = append(touched, topics...) }
	broken := errors.New("broken")
	do := func(result error) error {
		return h.InWorkspace(t.Context(), acme, func(tx *store.Tx) error {
			tx.Touch("pr:1")
			must(t, tx.Enqueue(t.Context(), store.JobSpec{Kind: "evaluate", Key: "1"}))
			if rung := h.rings(); len(rung) > 0 || len(touched) > 0 {
				t.Errorf("before the commit %v was rung and %v touched", rung, touched)
			}
			return result
		})
	}
	wantError(t, "a transaction that fails", do(broken), broken)
	if rung := h.rings(); len(rung) > 0 || len(touched) > 0 {
		t.Errorf("after a roll-back %v was rung and %v touched", rung, touched)
	}
	must(t, do(nil))
	same(t, "rung", strings.Join(h.rings(), ","), "evaluate 1")
	same(t, "touched", strings.Join(touched, ","), "pr:1")
}
