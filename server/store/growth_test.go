package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signedapproval/bitbucket/server/store"
)

// history is what was in a workspace's one repository: so many pull requests, of which the first few are open and the others
// merged. Their numbers begin with first.
type history struct {
	workspace, repository string
	first, pulls, open    int
	// unknown: PostgreSQL has no statistics of it.
	unknown bool
}

// grow loads a history. Whatever is counted by its size is in the history of a large installation.
func (h *house) grow(t *testing.T, of history) {
	t.Helper()
	ctx := t.Context()
	conn := connect(t, h.SuperURL)
	rows, err := conn.Query(ctx, `select format('alter table %I set (autovacuum_enabled = false)', relname) from pg_class where relkind = 'r' and reloptions::text not like '%autovacuum\_enabled%' is not false and relname like 'signedapproval\_%'`)
	must(t, err)
	quiet, err := pgx.CollectRows(rows, pgx.RowTo[string]) // what is known is up to the test
	must(t, err)
	// Nothing here makes a schema, as a temporary table would: all plans would be made anew.
	end := `vacuum analyze`
	if of.unknown {
		end = `select`
	}
	for _, statement := range append(quiet, []string{
		`set session_replication_role = replica`, // what refers to what is right by construction
		`create function growth_id(kind integer, n bigint) returns uuid language sql immutable as $$ select (lpad(kind::text, 8, '0') || '-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid $$`,
		// In no order: ids are random, and what is open lies anywhere.
		`create table growth_n as select n, n < $1 + $5 as is_open from generate_series($1, $1 + $4 - 1) n order by md5(n::text)`,
		`insert into signedapproval_workspaces (workspace_id, slug, name, genesis_salt) values ($2, $2::text, 'S', '\x00') on conflict do nothing`,
		`insert into signedapproval_policy_versions (workspace_id, id, repository_id, version, document, digest, created_by, created_via) values ($2, $3, $3, 1, '{}', 'd', $2, 'session') on conflict do nothing`,
		`insert into signedapproval_policy_versions (workspace_id, id, repository_id, version, document, digest, created_by, created_via) select $2, growth_id(7, n), $3, n + 1, '{}', 'd', $2, 'session' from growth_n n`,
		`insert into signedapproval_proposal_acts (workspace_id, proposal_id, person_id, credential_id, key_digest, act, digest) select $2, growth_id(8, n), growth_id(4, n), '\x00', 'd', '{}', 'd' from growth_n n`,
		`insert into signedapproval_bitbucket_repo_configs (workspace_id, repository_id, slug, full_name, name, policy_version_id, hook_id, state) values ($2, $3, 's', 'w/s', 'S', $3, $3, 'ACTIVE') on conflict do nothing`,
		`insert into signedapproval_pull_requests (workspace_id, id, repository_id, number, title, state, draft, author_account_id, author_name, source_branch, head_commit, destination_branch, status_key, chain_id, chain_sequence, created_at)
			select $2, growth_id(1, n), $3, n, 't', case when is_open then 'OPEN' else 'MERGED' end, false, 'a', 'A', 'b', lpad(to_hex(n), 40, '0'), 'main', 'k' || n, 'chain' || n, 3, now() - n * interval '1 minute' from growth_n n`,
		`insert into signedapproval_approval_requests (workspace_id, id, pull_request_id, round, head_commit, destination_branch, policy_version_id, rule, rule_digest, state, sentence, verdict, requested_at, expires_at)
			select $2, growth_id(2, n), growth_id(1, n), 1, lpad(to_hex(n), 40, '0'), 'main', $3, '{}', 'd', case when is_open then 'PENDING' else 'APPROVED' end, 's', '{"requirements": [{"canStillApprove": [{"accountId": "a1"}]}]}', now() - n * interval '1 minute', now() + interval '1 day' from growth_n n`,
		`insert into signedapproval_decisions (workspace_id, id, pull_request_id, request_id, person_id, account_id, name, action, head_commit, destination_branch, rule_digest, sequence, statement, assertion, openings, leaf_hash, credential_id)
			select $2, growth_id(3, n), growth_id(1, n), growth_id(2, n), growth_id(4, n % 100), 'a' || n % 100, 'A', 'APPROVE', lpad(to_hex(n), 40, '0'), 'main', 'd', 2, '{}', '{}', '{}', 'l', ('key ' || n % 100)::bytea from growth_n n`,
		`insert into signedapproval_bitbucket_commit_statuses (workspace_id, pull_request_id, commit, repository_id, request_id, key, refname, state, description, url, owed_version, paid_version)
			select $2, growth_id(1, n), lpad(to_hex(n), 40, '0'), $3, growth_id(2, n), 'k' || n, 'b', 'SUCCESSFUL', 's', 'u', 1, case when is_open then 0 else 1 end from growth_n n`,
		`insert into signedapproval_merge_intents (workspace_id, pull_request_id, head_commit, request_id, strategy, state)
			select $2, growth_id(1, n), lpad(to_hex(n), 40, '0'), growth_id(2, n), 'squash', case when is_open then 'PLANNED' else 'MERGED' end from growth_n n`,
		`insert into signedapproval_merges_seen (workspace_id, pull_request_id, repository_id, number, destination_branch, kind, head_commit, landed_commit, asked, checked, by_gate, sentence, seen_at)
			select $2, growth_id(1, n), $3, n, 'main', 'APPROVED', lpad(to_hex(n), 40, '0'), lpad(to_hex(n), 40, 'f'), true, true, false, 's', now() - n * interval '1 minute' from growth_n n where not is_open`,
		`insert into signedapproval_merge_checks (workspace_id, repository_id, number, trigger, head_commit, success, code, sentence, asked_at)
			select $2, $3, n, 'ON_MERGE', lpad(to_hex(n), 40, '0'), true, 'APPROVED', 's', now() - n * interval '1 minute' from growth_n n`,
		`insert into signedapproval_alarms (workspace_id, kind, subject, sentence, closed_at) select $2, 'FOREIGN_STATUS', n::text, 's', case when is_open then null else now() end from growth_n n`,
		`insert into signedapproval_people (id, account_id, account_uuid, name, salt) select growth_id(4, n), 'a' || n, growth_id(4, n), 'P', '\x00' from growth_n n`,
		`insert into signedapproval_memberships (person_id, workspace_id, role) select growth_id(4, n), case when n < $1 + 5 then $2 else growth_id(5, n) end, 'ADMIN' from growth_n n`,
		`insert into signedapproval_api_tokens (workspace_id, person_id, name, token_hash, prefix, scopes, expires_at) select case when n < $1 + 5 then $2 else growth_id(5, n) end, growth_id(4, n), 't', ('t' || n)::bytea, 'p', '{}', now() from growth_n n`,
		`insert into signedapproval_notices (person_id, workspace_id, pull_request_id, request_id, kind, dedupe_key, title, sentence, path, read_at, created_at)
			select growth_id(4, 1), $2, growth_id(1, n), growth_id(2, n), 'k', n::text, 't', 's', '/', case when is_open then null else now() end, now() - n * interval '1 minute' from growth_n n`,
		`insert into signedapproval_jobs (kind, key, workspace_id, payload, state, run_at, updated_at)
			select kind, n::text, $2, '{}', case when is_open then 'READY' else 'DONE' end, now() - interval '1 minute', now() - interval '1 minute' from growth_n n, unnest(array['evaluate', 'status']) kind`,
		`insert into signedapproval_leaves (index, hash, entry, workspace_id, chain_id, sequence)
			select (n - 1) * 3 + s - 1, sha256((n * 3 + s)::text::bytea), ('entry ' || n * 3 + s)::bytea, $2, 'chain' || n, s from growth_n n, generate_series(1, 3) s order by 1`,
		`update signedapproval_log_head set size = greatest(size, 3 * ($1 + $4 - 1))`,
		`insert into signedapproval_deliveries (request_uuid, workspace_id, repository_id, event_key, attempt, outcome, body) select growth_id(6, n), $2, $3, 'e', 1, 'PARSED', '\x00' from growth_n n`,
		end, `drop table growth_n`, `drop function growth_id`,
	}...) {
		for n, value := range []string{fmt.Sprint(of.first), "'" + of.workspace + "'::uuid", "'" + of.repository + "'::uuid", fmt.Sprint(of.pulls), fmt.Sprint(of.open)} {
			statement = strings.ReplaceAll(statement, fmt.Sprintf("$%d", n+1), value)
		}
		if _, err := conn.Exec(ctx, statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// recorder keeps the statements of a store, in their order.
type recorder struct {
	mu   sync.Mutex
	seen []statement
}

type statement struct {
	sql  string
	args []any
}

func (r *recorder) keep(sql string, args []any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, statement{sql, args})
}

func (r *recorder) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	r.keep(data.SQL, data.Args)
	return ctx
}
func (r *recorder) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (r *recorder) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

func (r *recorder) TraceBatchQuery(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	r.keep(data.SQL, data.Args)
}
func (r *recorder) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// plan is PostgreSQL's account of how it carried a statement out.
type plan struct {
	Node     string `json:"Node Type"`
	Relation string `json:"Relation Name"`
	Hit      int    `json:"Shared Hit Blocks"`
	Read     int    `json:"Shared Read Blocks"`
	Plans    []plan
}

// scanned lists the tables that were read from one end to the other.
func (p plan) scanned() (tables []string) {
	if p.Node == "Seq Scan" {
		tables = append(tables, p.Relation)
	}
	for _, sub := range p.Plans {
		tables = append(tables, sub.scanned()...)
	}
	return tables
}

// cost is how many blocks something touches, by what PostgreSQL counted, and the tables that it read as a whole.
func (h *house) cost(t *testing.T, do func(*store.Store) error) (blocks int, scanned []string) {
	t.Helper()
	// As they are when it is asked for; and then once more, by the same settings, to be looked at.
	statements, conn := h.record(t, do)
	h.unseen(t)
	return explain(t, conn, "looked at", statements)
}

// unseen waits until nobody sees what was before: an entry of what is over is passed over by an index scan only then. Whoever
// writes in another database of the server holds that up as well, as it takes the oldest transaction of all for what might.
func (h *house) unseen(t *testing.T) {
	t.Helper()
	conn := connect(t, h.SuperURL)
	var last string
	must(t, conn.QueryRow(t.Context(), `select pg_current_xact_id()::text`).Scan(&last))
	_, err := conn.Exec(t.Context(), `do $$ begin
		while pg_snapshot_xmin(pg_current_snapshot()) <= '`+last+`'::xid8 or exists (
			select from pg_stat_activity where pid <> pg_backend_pid() and (datid is null or datname = current_database()) and age(backend_xmin) >= age('`+last+`'::xid8::xid)) loop
			perform pg_sleep(0.005), pg_stat_clear_snapshot();
		end loop; end $$`)
	must(t, err)
}

// record does something, and gives its statements and a connection with the same settings.
func (h *house) record(t *testing.T, do func(*store.Store) error) ([]statement, *pgx.Conn) {
	t.Helper()
	seen := &recorder{}
	vault, err := store.OpenVault(store.NewKeyset())
	must(t, err)
	var config *pgx.ConnConfig
	s, err := store.Open(t.Context(), h.AppURL, vault, func(c *pgxpool.Config) {
		config = c.ConnConfig.Copy()
		c.ConnConfig.Tracer = seen
	})
	must(t, err)
	defer s.Close()
	seen.seen = nil
	must(t, do(s))
	conn, err := pgx.ConnectConfig(t.Context(), config)
	must(t, err)
	ctx := context.WithoutCancel(t.Context())
	t.Cleanup(func() { _ = conn.Close(ctx) })
	return seen.seen, conn
}

// explain has statements carried out in a transaction of their own, which leaves nothing, and counts as [house.cost] does.
// Under a name that was used before they are carried out as they were planned then.
func explain(t *testing.T, conn *pgx.Conn, name string, statements []statement) (blocks int, scanned []string) {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	must(t, err)
	for n, st := range statements {
		verb, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(st.sql)), " ")
		switch verb = strings.TrimSpace(strings.SplitN(verb, "\n", 2)[0]); verb {
		case "begin", "commit", "rollback":
			continue
		}
		if strings.Contains(st.sql, "set_config") {
			_, err := tx.Exec(t.Context(), st.sql, st.args...)
			must(t, err)
			continue
		}
		// The plan of a statement whose values come later: explain would make one for the values that it is given.
		prepared, err := conn.Prepare(t.Context(), fmt.Sprintf("%s %d", name, n), st.sql)
		must(t, err)
		execute := "execute " + pgx.Identifier{prepared.Name}.Sanitize()
		var values []string
		for i, oid := range prepared.ParamOIDs {
			text, err := conn.TypeMap().Encode(oid, pgtype.TextFormatCode, st.args[i], []byte{})
			must(t, err)
			value := "null"
			if text != nil {
				value = "'" + strings.ReplaceAll(string(text), "'", "''") + "'"
			}
			values = append(values, value)
		}
		if len(values) > 0 {
			execute += "(" + strings.Join(values, ", ") + ")"
		}
		// Twice: the first time a connection reads what PostgreSQL knows of tables and functions as well.
		var document []byte
		for _, before := range []string{`savepoint looked_at`, `rollback to looked_at`} {
			_, err := tx.Exec(t.Context(), before)
			must(t, err)
			if err := tx.QueryRow(t.Context(), `explain (analyze, buffers, format json) `+execute).Scan(&document); err != nil {
				t.Fatalf("%s: %v", st.sql, err)
			}
		}
		var explained []struct{ Plan plan }
		must(t, json.Unmarshal(document, &explained))
		for _, e := range explained {
			blocks += e.Plan.Hit + e.Plan.Read
			scanned = append(scanned, e.Plan.scanned()...)
		}
	}
	must(t, tx.Rollback(t.Context()))
	return blocks, scanned
}

// asked is what is asked of a workspace again and again, of the third pull request of its history where it is of one.
func asked(t *testing.T, workspace, repository string) map[string]func(*store.Store) error {
	t.Helper()
	in := func(do func(context.Context, *store.Tx) error) func(*store.Store) error {
		return func(s *store.Store) error {
			return s.InWorkspace(t.Context(), workspace, func(tx *store.Tx) error { return do(t.Context(), tx) })
		}
	}
	outside := func(do func(context.Context, *store.Shared) error) func(*store.Store) error {
		return func(s *store.Store) error {
			return s.Outside(t.Context(), func(sh *store.Shared) error { return do(t.Context(), sh) })
		}
	}
	person := "00000004-0000-4000-8000-000000000001"
	pull := "00000001-0000-4000-8000-000000000003"
	request := "00000002-0000-4000-8000-000000000003"
	head := strings.Repeat("0", 39) + "3"
	page := store.Page{First: 20}
	ready := func(err error) error {
		if err == store.ErrNotFound { //nolint:errorlint // as it is
			return nil
		}
		return err
	}
	return map[string]func(*store.Store) error{
		// What sweeps and reconcilers do.
		"sweep":             func(s *store.Store) error { _, err := s.Unattended(t.Context(), 100); return err },
		"due jobs":          func(s *store.Store) error { _, _, err := s.DueJobs(t.Context(), 1, 500); return err },
		"lag of the jobs":   func(s *store.Store) error { _, err := s.JobLag(t.Context()); return err },
		"forget":            outside(func(ctx context.Context, sh *store.Shared) error { return sh.ForgetExpired(ctx) }),
		"forget deliveries": func(s *store.Store) error { _, err := s.ForgetDeliveries(t.Context()); return err },
		"walk": in(func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.OpenPullRequests(ctx, repository, "")
			return err
		}),
		"walk of a branch": in(func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.OpenPullRequests(ctx, repository, "main")
			return err
		}),
		"unpaid": in(func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.UnpaidStatuses(ctx, repository)
			return err
		}),
		"unpaid of one":  in(func(ctx context.Context, tx *store.Tx) error { _, err := tx.UnpaidStatusesOf(ctx, pull); return err }),
		"jobs that wait": in(func(ctx context.Context, tx *store.Tx) error { return tx.AskAgain(ctx, "NO_SUCH_CODE") }),
		"open alarms":    in(func(ctx context.Context, tx *store.Tx) error { _, err := tx.OpenAlarms(ctx); return err }),
		"administrators": outside(func(ctx context.Context, sh *store.Shared) error {
			_, err := sh.Administrators(ctx, workspace, time.Hour)
			return err
		}),
		"decided with a key": in(func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.DecidedWith(ctx, [][]byte{[]byte("no key")})
			return err
		}),
		"ever decided with a key": in(func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.PullRequestsDecidedWith(ctx, []byte("no key"), uuid(0), 100)
			return err
		}),
		"merges seen": in(func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.LastMergesSeen(ctx, repository)
			return err
		}),
		"merge checks": in(func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.OnMergeChecks(ctx, repository, 20)
			return err
		}),
		"log's head":  outside(func(ctx context.Context, sh *store.Shared) error { _, err := sh.LogHead(ctx); return err }),
		"unpublished": func(s *store.Store) error { _, err := s.Unpublished(t.Context()); return err },
		// The road of one change.
		"accept": func(s *store.Store) error {
			return s.AcceptDeliveries(t.Context(), []store.Delivery{delivery(1), delivery(2)})
		},
		"find": in(func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.LockPullRequest(ctx, repository, 3)
			return err
		}),
		"by its status": func(s *store.Store) error {
			_, err := s.StatusUnder(t.Context(), workspace, "k3")
			return err
		},
		"what is signed": in(func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.TakeSigned(ctx, strings.Replace(pull, "00000001", "00000002", 1), []byte("challenge"), store.Person{ID: pull, AccountID: "a"}, []byte("session"), []byte("key"))
			return err
		}),
		"request": in(func(ctx context.Context, tx *store.Tx) error {
			if _, err := tx.LiveRequest(ctx, pull); err != nil {
				return err
			}
			_, err := tx.DecisionsOn(ctx, pull, head)
			return err
		}),
		"verdict": in(func(ctx context.Context, tx *store.Tx) error {
			r, err := tx.LiveRequest(ctx, pull)
			if err != nil {
				return err
			}
			return tx.SaveVerdict(ctx, r)
		}),
		"look": in(func(ctx context.Context, tx *store.Tx) error {
			pr, err := tx.FindPullRequest(ctx, repository, 3)
			if err != nil {
				return err
			}
			if err := tx.UpdatePullRequest(ctx, pr); err != nil {
				return err
			}
			_, err = tx.Settling(ctx, repository, 3)
			return err
		}),
		"what a screen shows": in(func(ctx context.Context, tx *store.Tx) error {
			for _, which := range []store.Which{{ID: pull}, {RequestID: strings.Replace(pull, "00000001", "00000002", 1)}, {RepositoryID: repository, Number: 3}} {
				screen, err := tx.Screen(ctx, which)
				if err != nil {
					return err
				}
				if screen.Request == nil || screen.PullRequest.ID != pull || len(screen.Given.Decisions) != 1 || screen.Status == nil || screen.Merge == nil || screen.Repository == nil {
					return fmt.Errorf("the screen of %+v is %+v", which, screen)
				}
			}
			return nil
		}),
		"what a page shows": in(func(ctx context.Context, tx *store.Tx) error {
			ids, heads := make([]string, 50), make([]string, 50)
			for n := range ids {
				ids[n], heads[n] = fmt.Sprintf("00000001-0000-4000-8000-%012x", n+1), fmt.Sprintf("%040x", n+1)
			}
			if _, err := tx.PullRequestsByID(ctx, ids); err != nil {
				return err
			}
			if _, err := tx.LastRequests(ctx, ids); err != nil {
				return err
			}
			if _, err := tx.DecisionsOfPullRequests(ctx, ids); err != nil {
				return err
			}
			if _, err := tx.StatusesOnHeads(ctx, ids, heads); err != nil {
				return err
			}
			_, err := tx.MergesOfHeads(ctx, ids, heads)
			return err
		}),
		"rules by their ids": in(func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.PolicyVersionsByID(ctx, []string{strings.Replace(pull, "00000001", "00000007", 1)})
			return err
		}),
		"acts of proposals": in(func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.ProposalActs(ctx, strings.Replace(pull, "00000001", "00000008", 1))
			return err
		}),
		"newest of what was asked on merge": in(func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.HasMergeCheck(ctx, store.MergeCheck{RepositoryID: repository, Number: 3, Trigger: store.CheckOnMerge}, time.Minute)
			return err
		}),
		"recent merge checks": in(func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.RecentMergeChecks(ctx, []string{repository}, 20)
			return err
		}),
		"planned merges": in(func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.PlannedMerges(ctx, repository, head)
			return err
		}),
		"checked on merge": in(func(ctx context.Context, tx *store.Tx) error {
			_, _, err := tx.CheckedOnMerge(ctx, repository, 3, head)
			return err
		}),
		"end of a chain": in(func(ctx context.Context, tx *store.Tx) error { _, _, err := tx.ChainEnd(ctx, pull); return ready(err) }),
		"chain": outside(func(ctx context.Context, sh *store.Shared) error {
			_, err := sh.Chain(ctx, "chain3", 0, 10)
			return err
		}),
		"request of a commit": in(func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.RequestsOfCommit(ctx, head, repository, "main", "")
			return err
		}),
		// Pages.
		"pull requests": in(func(ctx context.Context, tx *store.Tx) error {
			_, _, err := tx.PullRequests(ctx, repository, page)
			return err
		}),
		"requests": in(func(ctx context.Context, tx *store.Tx) error {
			_, _, err := tx.Requests(ctx, []string{repository}, []string{"PENDING"}, page)
			return err
		}),
		"all requests": in(func(ctx context.Context, tx *store.Tx) error {
			_, _, err := tx.Requests(ctx, []string{repository}, nil, page)
			return err
		}),
		"inbox": in(func(ctx context.Context, tx *store.Tx) error {
			_, _, err := tx.Waiting(ctx, []string{repository}, "a1", page)
			return err
		}),
		"violations": in(func(ctx context.Context, tx *store.Tx) error {
			_, _, err := tx.Violations(ctx, repository, page)
			return err
		}),
		"notices": outside(func(ctx context.Context, sh *store.Shared) error {
			_, _, err := sh.Notices(ctx, person, workspace, page)
			return err
		}),
		"unread notices": outside(func(ctx context.Context, sh *store.Shared) error {
			_, err := sh.UnreadNotices(ctx, person, workspace)
			return err
		}),
		"notices of a request": outside(func(ctx context.Context, sh *store.Shared) error {
			return sh.ReadNoticesOf(ctx, request, person)
		}),
		"tokens": outside(func(ctx context.Context, sh *store.Shared) error {
			_, err := sh.APITokens(ctx, workspace, nil)
			return err
		}),
	}
}

// TestHistoryCostsNothing: what is done again and again costs in proportion to what is open, and a page as much as is on
// it, whether the history is short or ten times as long. No clock is asked: PostgreSQL counts the blocks that it touches.
func TestHistoryCostsNothing(t *testing.T) {
	t.Parallel()
	small, large := open(t), open(t)
	var growing sync.WaitGroup
	growing.Go(func() { small.grow(t, history{acme, repo, 1, 1_500, 5, false}) })
	growing.Go(func() { large.grow(t, history{acme, repo, 1, 15_000, 5, false}) })
	growing.Wait()
	// How many rows are looked up one by one, where that is more than a few: a short history is read as a whole instead, which
	// costs less, and says nothing of a long one.
	lookups := map[string]int{"what a page shows": 5 * 50}
	for name, do := range asked(t, acme, repo) {
		t.Run(name, func(t *testing.T) {
			few, _ := small.cost(t, do)
			many, scanned := large.cost(t, do)
			// An index that is one level deeper costs a block more for each look-up.
			if many > max(few*2+8, 3*lookups[name]) {
				t.Errorf("ten times the history costs %d blocks instead of %d", many, few)
			}
			if i := slices.IndexFunc(scanned, func(table string) bool {
				return slices.Contains([]string{
					"pull_requests", "approval_requests", "decisions", "bitbucket_commit_statuses", "merge_intents", "merges_seen", "merge_checks",
					"alarms", "people", "memberships", "api_tokens", "notices", "jobs", "leaves",
				}, strings.TrimPrefix(table, "signedapproval_"))
			}); i >= 0 {
				t.Errorf("reads the whole of %s", scanned[i])
			}
			if few == 0 {
				t.Error("nothing was counted")
			}
		})
	}
}

// TestANewWorkspaceCostsNoMoreThanAKnownOne: PostgreSQL has no statistics of a workspace that came after the last ANALYZE,
// which in a large database may be long ago. What is asked of it must not cost more for that.
func TestANewWorkspaceCostsNoMoreThanAKnownOne(t *testing.T) {
	t.Parallel()
	const pulls, tool = 600, "dddddddd-0000-4000-8000-000000000004"
	h := open(t)
	h.grow(t, history{acme, repo, pulls + 1, 5_000, 0, false})
	h.grow(t, history{globex, tool, 1, pulls, pulls, true})
	costs := map[string]int{}
	for name, do := range asked(t, globex, tool) {
		costs[name], _ = h.cost(t, do)
	}
	_, err := connect(t, h.SuperURL).Exec(t.Context(), `vacuum analyze`)
	must(t, err)
	for name, do := range asked(t, globex, tool) {
		t.Run(name, func(t *testing.T) {
			known, _ := h.cost(t, do)
			most := known*2 + 16
			if slices.Contains([]string{"lag of the jobs", "open alarms", "decided with a key"}, name) {
				most = 8 * pulls // in proportion to what is open
			}
			if costs[name] > most {
				t.Errorf("%d blocks before PostgreSQL had looked at it, %d afterwards", costs[name], known)
			}
		})
	}
}

// TestWhatIsOverCostsNothing: what was open and is over leaves entries in the indexes of what is open, until PostgreSQL
// cleans up, which it does once they are a fifth of the whole history. An index scan takes those out of its way that it
// has met, and reads no more of them than the pages of the index that they were on. A bitmap scan does not, and goes from
// each to the table every time.
func TestWhatIsOverCostsNothing(t *testing.T) {
	t.Parallel()
	const pulls, were, are = 3_000, 1_500, 5 // open
	never, once := open(t), open(t)
	for _, h := range []*house{never, once} {
		// What a worker that cleans up could still see is not taken out of the way.
		carryOut(t, h, `do $$ declare name text; begin
			for name in select oid::regclass from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace loop
				execute 'alter table ' || name || ' set (autovacuum_enabled = off)';
			end loop; end $$`)
	}
	var growing sync.WaitGroup
	growing.Go(func() { never.grow(t, history{acme, repo, 1, pulls, are, false}) })
	growing.Go(func() { once.grow(t, history{acme, repo, 1, pulls, were, false}) })
	growing.Wait()
	// There are other workspaces: what is in the order of an index is in none in the table.
	elsewhere := []string{
		`set session_replication_role = replica`, fmt.Sprintf(`create temporary table elsewhere as select id from signedapproval_pull_requests where number > %d and md5(id::text) < '8'`, were),
		`update signedapproval_pull_requests set workspace_id = '` + globex + `' where id in (select id from elsewhere)`,
	}
	for _, table := range []string{"approval_requests", "bitbucket_commit_statuses", "merge_intents", "notices"} {
		elsewhere = append(elsewhere, `update signedapproval_`+table+` set workspace_id = '`+globex+`' where pull_request_id in (select id from elsewhere)`)
	}
	carryOut(t, never, append(elsewhere, `vacuum analyze`)...)
	carryOut(t, once, append(elsewhere, `vacuum analyze`)...)
	carryOut(t, once,
		`set session_replication_role = replica`,
		`create temporary table over as select id from signedapproval_pull_requests where state = 'OPEN' and number > 5`,
		`update signedapproval_pull_requests set state = 'MERGED' where id in (select id from over)`,
		`update signedapproval_approval_requests set state = 'APPROVED' where pull_request_id in (select id from over)`,
		`update signedapproval_bitbucket_commit_statuses set paid_version = owed_version where pull_request_id in (select id from over)`,
		`update signedapproval_merge_intents set state = 'MERGED' where pull_request_id in (select id from over)`,
		`update signedapproval_alarms set closed_at = now() where closed_at is null and subject::integer > 5`,
		`update signedapproval_notices set read_at = now() where pull_request_id in (select id from over)`,
		`update signedapproval_jobs set state = 'DONE' where state = 'READY' and key::integer > 5`,
		`analyze`)
	// How many entries of what is over there are for each pull request: two jobs, which due jobs are looked for twice among.
	entries := map[string]int{"jobs that wait": 2, "due jobs": 4}
	for name, do := range asked(t, acme, repo) {
		t.Run(name, func(t *testing.T) {
			few, _ := never.cost(t, do)
			many, _ := once.cost(t, do)
			// A page of an index holds more than fifty entries; what is looked up by its id has two of them.
			if most := few*2 + 8 + max(1, entries[name])*were/50; many > most {
				t.Errorf("costs %d blocks instead of %d, where %d are over", many, few, were-are)
			}
		})
	}
}

// TestWhatIsPlannedEarlyHolds: a statement is planned once, and in a new installation that is when there is next to
// nothing in the tables. It must not read all that comes later.
func TestWhatIsPlannedEarlyHolds(t *testing.T) {
	t.Parallel()
	const pulls = 2_000
	h := open(t)
	h.grow(t, history{acme, repo, 1, 5, 5, true})
	statements := map[string][]statement{}
	var early *pgx.Conn
	for name, do := range asked(t, acme, repo) {
		statements[name], early = h.record(t, do)
	}
	// As a foreign key is checked, behind what names the workspace.
	statements["reference"] = append(statements["walk"][:2:2], statement{
		sql:  `select 1 from only signedapproval_pull_requests x where workspace_id = $1 and id = $2 for key share of x`,
		args: []any{acme, "00000001-0000-4000-8000-000000000003"},
	})
	appended, _ := open(t).record(t, func(s *store.Store) error {
		return s.Outside(t.Context(), func(sh *store.Shared) error {
			sh.AppendLeaf(acme, [32]byte{}, []byte("entry"), "chain", 1)
			return nil
		})
	})
	for _, st := range appended {
		if strings.Contains(st.sql, "into signedapproval_leaves") {
			statements["append"] = []statement{st}
		}
	}
	for name := range statements {
		explain(t, early, name, statements[name])
	}
	h.grow(t, history{acme, repo, 6, pulls, 0, true})
	costs := map[string]int{}
	for name := range statements {
		costs[name], _ = explain(t, early, name, statements[name])
	}
	_, err := connect(t, h.SuperURL).Exec(t.Context(), `analyze`)
	must(t, err)
	late, err := pgx.ConnectConfig(t.Context(), early.Config())
	must(t, err)
	ctx := context.WithoutCancel(t.Context())
	t.Cleanup(func() { _ = late.Close(ctx) })
	for name := range statements {
		t.Run(name, func(t *testing.T) {
			known, _ := explain(t, late, name, statements[name])
			if costs[name] > known*2+8 {
				t.Errorf("%d blocks as it was planned when there was nothing, %d as it is planned now", costs[name], known)
			}
		})
	}
}

// TestIntakeLooksAtOneDeliveryOfLastWeek, also where it was planned when nothing had come in yet.
func TestIntakeLooksAtOneDeliveryOfLastWeek(t *testing.T) {
	t.Parallel()
	h := open(t)
	statements, early := h.record(t, func(s *store.Store) error { return s.AcceptDeliveries(t.Context(), []store.Delivery{delivery(1)}) })
	empty, _ := explain(t, early, "intake", statements)
	_, err := connect(t, h.SuperURL).Exec(t.Context(), `
		insert into signedapproval_deliveries (request_uuid, workspace_id, repository_id, event_key, attempt, outcome, body, received_at, week)
		select gen_random_uuid(), workspace_id, repository_id, event_key, attempt, outcome, body, received_at - interval '7 days', signedapproval_delivery_week(received_at - interval '7 days')
		from signedapproval_deliveries, generate_series(1, 5000)`)
	must(t, err)
	if full, _ := explain(t, early, "intake", statements); full > empty*2+8 {
		t.Errorf("%d blocks with 5,000 deliveries of last week, %d without any", full, empty)
	}
}

// TestWhatIsOpenIsCleanedUpByCount: the entries of what is over are pages to read until PostgreSQL cleans up. When it does
// must not depend on how long the history is, and it must clean the indexes as well, which it would leave alone where few
// pages of a table are concerned.
func TestWhatIsOpenIsCleanedUpByCount(t *testing.T) {
	t.Parallel()
	h := open(t)
	rows, err := connect(t, h.SuperURL).Query(t.Context(), `
		select c.relname::text, coalesce(array_to_string(c.reloptions, ', '), '') from pg_class c
		where c.relname like 'signedapproval\_%' and c.relname not in ('signedapproval_installations', 'signedapproval_proposals') -- a few of a workspace
			and exists (select from pg_index where indrelid = c.oid and
			pg_get_expr(indpred, indrelid) ~ 'state = |state <> |state = any|paid_version|closed_at IS NULL|read_at IS NULL')`)
	must(t, err)
	var table, options string
	found := 0
	_, err = pgx.ForEachRow(rows, []any{&table, &options}, func() error {
		found++
		for _, option := range []string{"autovacuum_vacuum_scale_factor=0", "autovacuum_vacuum_threshold=", "vacuum_index_cleanup=on"} {
			if !strings.Contains(options, option) {
				t.Errorf("%s has an index of what is open, and not the setting %s", table, option)
			}
		}
		return nil
	})
	must(t, err)
	if found < 7 {
		t.Errorf("%d tables have an index of what is open", found)
	}
}

// carryOut carries out statements as superuser, on one connection.
func carryOut(t *testing.T, h *house, statements ...string) {
	t.Helper()
	conn := connect(t, h.SuperURL)
	for _, statement := range statements {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}
