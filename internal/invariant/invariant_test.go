package invariant_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/note"

	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/internal/invariant"
	"github.com/signedapproval/bitbucket/internal/redistest"
	"github.com/signedapproval/bitbucket/internal/stage"
	"github.com/signedapproval/bitbucket/server/app"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/witness"
)

const (
	rocket   = "acme/rocket"
	patience = 5 * time.Minute
)

// world is a gate that has merged one pull request, approved a second one and rejected a third, and
// stopped.
type world struct {
	t        *testing.T
	ctx      context.Context
	db       dbtest.Database
	sim      *bitbucketsim.Sim
	client   *bitbucket.Client
	origin   string
	verifier note.Verifier
}

func (w *world) must(err error) {
	w.t.Helper()
	must(w.t, err)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// serving reads from a server's log where it serves.
type serving chan string

func (s serving) Write(line []byte) (int, error) {
	var entry struct{ Msg, Address string }
	if json.Unmarshal(bytes.TrimSpace(line), &entry) == nil && entry.Msg == "serving" {
		s <- entry.Address
	}
	return len(line), nil
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	t.Cleanup(cancel)
	w := &world{t: t, ctx: ctx, db: dbtest.New(t)}
	w.sim = bitbucketsim.New(bitbucketsim.Options{RepositoryCallsPerHour: -1, HookCallsPerHour: -1, WebhookTimeout: patience})
	w.must(w.sim.Start("127.0.0.1:0"))
	t.Cleanup(func() { _ = w.sim.Close() })
	w.must(w.sim.AddExample())
	token, err := w.sim.IssueToken(bitbucketsim.TokenRequest{Person: "carol"})
	w.must(err)
	w.client = bitbucket.New(bitbucket.Config{BaseURL: w.sim.URL()}).As(token.AccessToken, "watcher", bitbucket.Foreground)
	stop := w.serve()
	w.story()
	stop()
	return w
}

// serve starts a server; stop ends it.
func (w *world) serve() (stop func()) {
	w.t.Helper()
	var to atomic.Pointer[url.URL]
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to.Load())
		r.Out.Host = r.In.Host
	}})
	w.t.Cleanup(proxy.Close)
	w.origin = strings.Replace(proxy.URL, "127.0.0.1", "localhost", 1)
	private, verifier, err := witness.NewKey(strings.TrimPrefix(w.origin, "http://") + "/log")
	w.must(err)
	w.verifier, err = note.NewVerifier(verifier)
	w.must(err)
	flags := []string{
		"serve", "--origin=" + w.origin, "--listen=127.0.0.1:0", "--database-url=" + w.db.AppURL, "--redis-url=" + redistest.Start(w.t).URL(),
		"--keyset=" + string(store.NewKeyset()), "--calls-per-hour=100000000", "--log-key=" + private,
		"--bitbucket-api=" + w.sim.URL(), "--bitbucket-web=" + w.sim.URL(),
	}
	for flag, consumer := range map[string]bitbucketsim.Consumer{
		"connect": {Name: "SignedApproval", Callback: w.origin + "/connect/callback", Scopes: []string{"account", "pullrequest:write", "repository:admin", "webhook"}},
		"sign-in": {Name: "SignedApproval sign-in", Callback: w.origin + "/auth/callback", Scopes: []string{"account", "email"}},
	} {
		made, err := w.sim.AddConsumer(consumer)
		w.must(err)
		flags = append(flags, "--"+flag+"-key="+made.Key, "--"+flag+"-secret="+made.Secret)
	}
	ctx, cancel := context.WithCancel(w.ctx)
	log, ended := make(serving, 1), make(chan int, 1)
	go func() { ended <- app.Main(ctx, flags, strings.NewReader(""), log, log) }()
	select {
	case address := <-log:
		to.Store(&url.URL{Scheme: "http", Host: address})
	case code := <-ended:
		cancel()
		w.t.Fatalf("the server ends with %d", code)
	}
	return func() {
		cancel()
		<-ended
	}
}

func (w *world) story() {
	w.t.Helper()
	var people []*stage.Person
	for _, name := range []string{"alice", "bob", "carol"} {
		p, err := stage.NewPerson(name, w.origin)
		w.must(err)
		w.must(p.SignIn(w.ctx))
		people = append(people, p)
	}
	alice, bob, carol := people[0], people[1], people[2]
	in, err := alice.Connect(w.ctx)
	w.must(err)
	repository, err := alice.Repository(w.ctx, in, rocket, "rocket")
	w.must(err)
	approvers, err := alice.Accounts(w.ctx, in, "Bob", "Carol")
	w.must(err)
	rule := func(name, branch string, quorum int) map[string]any {
		return map[string]any{"name": name, "branches": []string{branch}, "requirements": []any{map[string]any{"name": "Approval", "quorum": quorum, "approvers": approvers}}}
	}
	releases := rule("Releases", "release/*", 2)
	releases["autoMerge"] = map[string]any{"strategy": "merge_commit", "messageTemplate": "Merge #{number}: {title}"}
	_, err = alice.Gate(w.ctx, in, repository, releases, rule("Main", "main", 1))
	w.must(err)
	decide := func(p *stage.Person, number int64, action string) {
		w.t.Helper()
		at := stage.Place{Workspace: in.UUID, Repository: repository, Number: number}
		w.eventually(fmt.Sprintf("request %d", number), func() error { _, err := p.Request(w.ctx, at); return err })
		_, err := p.Decide(w.ctx, at, action)
		w.must(err)
	}
	for n, destination := range []string{"release/1.0", "main", "release/1.0"} {
		branch := fmt.Sprintf("feature/%d", n+1)
		_, err := w.sim.Push(bitbucketsim.Push{Repository: rocket, Branch: branch, From: destination, Person: "alice", Files: map[string]string{branch: "1\n"}})
		w.must(err)
		_, err = w.sim.OpenPullRequest(bitbucketsim.PullRequest{Repository: rocket, Author: "alice", Title: branch, Source: branch, Destination: destination})
		w.must(err)
	}
	decide(bob, 1, "APPROVE")
	decide(carol, 1, "APPROVE")
	decide(bob, 2, "APPROVE")
	decide(bob, 3, "REJECT")
	w.eventually("everything holds", func() error {
		if err := w.check(w.db.SuperURL, w.gate()); err != nil {
			return err
		}
		merged, err := w.client.PullRequest(w.ctx, "acme", "rocket", 1)
		if n := w.merges(); err == nil && (merged.State != bitbucket.Merged || n != 1) {
			return fmt.Errorf("it is %s, and %d merges are known", merged.State, n)
		}
		return err
	})
}

// merges counts what the gate knows that it merged.
func (w *world) merges() (n int) {
	w.t.Helper()
	conn, err := pgx.Connect(w.ctx, w.db.SuperURL)
	w.must(err)
	defer func() { _ = conn.Close(w.ctx) }()
	w.must(conn.QueryRow(w.ctx, `select count(*) from signedapproval_merge_intents where state = 'MERGED'`).Scan(&n))
	return n
}

// eventually waits until what is asked for is there.
func (w *world) eventually(what string, lacks func() error) {
	w.t.Helper()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	var last error
	for {
		err := lacks()
		if err == nil {
			return
		}
		if w.ctx.Err() == nil {
			last = err
		}
		select {
		case <-poll.C:
		case <-w.ctx.Done():
			w.t.Fatalf("waited in vain: %s: %v", what, last)
		}
	}
}

// gate is what is checked, without its database.
func (w *world) gate() invariant.Gate {
	g := invariant.Gate{
		RelyingParty: evidence.RelyingParty{ID: "localhost", Origin: w.origin}, Checkpoints: note.VerifierList(w.verifier), Overdue: time.Hour,
		Shown: func(ctx context.Context, _, _, commit, key string) (invariant.Status, error) {
			for s, err := range w.client.Statuses(ctx, "acme", "rocket", commit) {
				if err != nil {
					return invariant.Status{}, err
				}
				if s.Key == key {
					return invariant.Status{State: string(s.State), Description: s.Description}, nil
				}
			}
			return invariant.Status{}, nil
		},
		PullRequests: func(ctx context.Context, _, _ string) (list []invariant.PullRequest, err error) {
			for number := range int64(3) {
				p, err := w.client.PullRequest(ctx, "acme", "rocket", number+1)
				if err != nil {
					return nil, err
				}
				head, err := w.client.ResolveCommit(ctx, "acme", "rocket", p.Source.CommitPrefix)
				if err != nil {
					return nil, err
				}
				list = append(list, invariant.PullRequest{Number: p.ID, State: string(p.State), Head: head.Hash, Destination: p.Destination.Branch})
			}
			return list, nil
		},
	}
	for _, d := range w.sim.Deliveries() {
		if d.State == "delivered" {
			g.Accepted = append(g.Accepted, d.RequestUUID)
		}
	}
	return g
}

func (w *world) check(at string, g invariant.Gate) error {
	conn, err := pgx.Connect(w.ctx, at)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(w.ctx) }()
	g.DB = conn
	return g.Check(w.ctx, true)
}

// copied runs statements in a copy of the database, and answers where that is.
func (w *world) copied(t *testing.T, n int, statements string) string {
	t.Helper()
	at, err := url.Parse(w.db.SuperURL)
	must(t, err)
	at.Path = "/postgres"
	conn, err := pgx.Connect(w.ctx, at.String())
	must(t, err)
	defer func() { _ = conn.Close(w.ctx) }()
	name := fmt.Sprintf("%s_%d", w.db.Name, n)
	_, err = conn.Exec(w.ctx, "create database "+name+" template "+w.db.Name)
	must(t, err)
	t.Cleanup(func() {
		conn, err := pgx.Connect(w.ctx, at.String())
		must(t, err)
		defer func() { _ = conn.Close(w.ctx) }()
		_, err = conn.Exec(w.ctx, "drop database "+name+" with (force)")
		must(t, err)
	})
	own := *at
	own.Path = "/" + name
	harmed, err := pgx.Connect(w.ctx, own.String())
	must(t, err)
	defer func() { _ = harmed.Close(w.ctx) }()
	// Rules of the schema that keep such harm away are harmed as well.
	_, err = harmed.Exec(w.ctx, "set session_replication_role = replica; "+statements)
	must(t, err)
	return own.String()
}

// acts tells that the status of the pull requests that a condition picks was written now.
func (w *world) acts(condition string) func(context.Context) ([]invariant.Act, error) {
	return func(ctx context.Context) (acts []invariant.Act, err error) {
		conn, err := pgx.Connect(ctx, w.db.SuperURL)
		if err != nil {
			return nil, err
		}
		defer func() { _ = conn.Close(ctx) }()
		rows, err := conn.Query(ctx, `select p.workspace_id::text, p.repository_id::text, p.head_commit, p.status_key, 0::bigint, clock_timestamp(), clock_timestamp()
			from signedapproval_pull_requests p join signedapproval_approval_requests r on r.pull_request_id = p.id where `+condition)
		if err != nil {
			return nil, err
		}
		acts, err = pgx.CollectRows(rows, pgx.RowToStructByPos[invariant.Act])
		if err == nil && len(acts) == 0 {
			err = errors.New("no pull request is " + condition)
		}
		return acts, err
	}
}

// TestEachInvariantCanBreak breaks each of them on purpose: a check that notices nothing would make most
// other tests worthless.
func TestEachInvariantCanBreak(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sound := w.gate()
	sound.Acts = w.acts(`r.state = 'APPROVED' and p.state = 'OPEN'`)
	if err := w.check(w.copied(t, 0, "select"), sound); err != nil {
		t.Fatalf("nothing was broken yet: %v", err)
	}
	const other = `'00000000-0000-4000-8000-000000000001'`
	one := func(table, set string) string {
		return fmt.Sprintf("update signedapproval_%[1]s set %[2]s where ctid = (select min(ctid) from signedapproval_%[1]s)", table, set)
	}
	bitbucketShows := func(change func(*invariant.Status)) func(*invariant.Gate) {
		return func(g *invariant.Gate) {
			before := g.Shown
			g.Shown = func(ctx context.Context, workspace, repository, commit, key string) (invariant.Status, error) {
				s, err := before(ctx, workspace, repository, commit, key)
				change(&s)
				return s, err
			}
		}
	}
	bitbucketHas := func(change func([]invariant.PullRequest) []invariant.PullRequest) func(*invariant.Gate) {
		return func(g *invariant.Gate) {
			before := g.PullRequests
			g.PullRequests = func(ctx context.Context, workspace, repository string) ([]invariant.PullRequest, error) {
				list, err := before(ctx, workspace, repository)
				return change(list), err
			}
		}
	}
	for n, test := range []struct {
		name, harm string
		look       func(*invariant.Gate)
		want       string
	}{
		{"a delivery is lost", ``, func(g *invariant.Gate) { g.Accepted = append(g.Accepted, strings.Trim(other, "'")) }, "was answered with 2xx and is not stored"},
		{"a stored delivery is gone", `delete from signedapproval_deliveries`, nil, "was answered with 2xx and is not stored"},
		{"a delivery left no job", `delete from signedapproval_jobs where kind = 'evaluate'`, nil, "is stored without its job"},
		{"a delivery had no effect", `update signedapproval_jobs set updated_at = now() - interval '1 day' where kind = 'evaluate'`, nil, "had no effect"},
		{"green without approvals", `delete from signedapproval_leaves where convert_from(entry, 'UTF8')::jsonb ->> 'type' = 'verdict'`, nil, "is SUCCESSFUL without its approvals"},
		{"green on another commit", ``, bitbucketShows(func(s *invariant.Status) { s.State = "SUCCESSFUL" }), "is SUCCESSFUL without its approvals"},
		{"Bitbucket shows an old status", ``, bitbucketShows(func(s *invariant.Status) { s.State = "INPROGRESS" }), "the gate takes SUCCESSFUL"},
		{"Bitbucket shows an old sentence", ``, bitbucketShows(func(s *invariant.Status) { s.Description = "another" }), "and Bitbucket shows SUCCESSFUL \"another\""},
		{"a decision is missing", `delete from signedapproval_decisions where ctid = (select min(ctid) from signedapproval_decisions where action = 'APPROVE')`, nil, "without its approvals"},
		{"a rejection is overlooked", `update signedapproval_approval_requests set state = 'APPROVED' where state = 'REJECTED'`, nil, "is APPROVED without its approvals"},
		{"the last verdict is not the status", `update signedapproval_approval_requests set state = 'PENDING' where state = 'REJECTED'`, nil, "the last verdict on"},
		{"a statement was changed", one("decisions", "statement = statement || ' '::bytea"), nil, "does not verify"},
		{"a decision is stored for another branch", one("decisions", "destination_branch = 'other'"), nil, "stored as another one than was signed"},
		{"a rule that no policy has", one("approval_requests", "rule_digest = repeat('0', 64)"), nil, "a rule that its policy does not have"},
		{"a person is counted twice", `update signedapproval_approval_requests set verdict = jsonb_set(verdict, '{requirements,0,counted}', (verdict #> '{requirements,0,counted}') || (verdict #> '{requirements,0,counted}')) where state = 'APPROVED'`, nil, "is counted twice"},
		{"a quorum of one person", `update signedapproval_approval_requests set rule = convert_to(replace(convert_from(rule, 'UTF8'), '"quorum":1', '"quorum":2'), 'UTF8')`, nil, "was APPROVED without its approvals"},
		{"two requests are alive", `do $$ begin execute (select 'drop index ' || indexname from pg_indexes where tablename = 'signedapproval_approval_requests' and indexdef like '%OVERRIDDEN%'); end $$; insert into signedapproval_approval_requests select workspace_id, gen_random_uuid(), pull_request_id, round + 1, head_commit, destination_branch, policy_version_id, rule, rule_digest, state, sentence, verdict, facts, outcome_salt, requested_at, expires_at, decided_at, closed_at from signedapproval_approval_requests where state = 'REJECTED'`, nil, "several of its requests are alive"},
		{"a leaf is missing in a chain", `delete from signedapproval_leaves where sequence = 2`, nil, "its chain has"},
		{"a leaf is missing in the log", `delete from signedapproval_leaves where index = 1`, nil, "leaf 1 of the log is missing"},
		{"a leaf was changed", `update signedapproval_leaves set entry = entry || ' '::bytea where sequence = 2`, nil, "chain: "},
		{"a leaf's hash was changed", `update signedapproval_leaves set hash = repeat('0', 32)::bytea where index = 2`, nil, "leaf 2 is not what its hash says"},
		{"the end of a chain was changed", `update signedapproval_pull_requests set chain_leaf = repeat('0', 64)`, nil, "another end"},
		{"the log is longer than it says", `update signedapproval_log_head set size = size - 1`, nil, "the log says"},
		{"a checkpoint of other leaves", `update signedapproval_log_checkpoints set root = repeat('0', 32)::bytea where size = (select max(size) from signedapproval_log_checkpoints)`, nil, "has another root than the leaves"},
		{"a checkpoint of more leaves", `update signedapproval_log_checkpoints set size = size + 100 where size = (select max(size) from signedapproval_log_checkpoints)`, nil, "leaves is published, and the log has"},
		{"a checkpoint that nobody signed", `update signedapproval_log_checkpoints set note = note || 'x'::bytea where size = (select max(size) from signedapproval_log_checkpoints)`, nil, "does not say so"},
		{"what approves is not published", `delete from signedapproval_log_checkpoints`, nil, "no published checkpoint covers"},
		{"a request has no leaf", `insert into signedapproval_approval_requests select workspace_id, gen_random_uuid(), pull_request_id, round + 1, head_commit, destination_branch, policy_version_id, rule, rule_digest, 'CANCELLED', sentence, verdict, facts, outcome_salt, requested_at, expires_at, decided_at, now() from signedapproval_approval_requests where state = 'REJECTED'`, nil, "has 0 leaves of its opening"},
		{"a request ended without a leaf", `update signedapproval_approval_requests set state = 'SUPERSEDED' where state = 'REJECTED'`, nil, "has 0 leaves of its end"},
		{"a decision has two rows", `insert into signedapproval_decisions select workspace_id, gen_random_uuid(), pull_request_id, request_id, person_id, account_id, name, action, head_commit, destination_branch, rule_digest, sequence + 100, statement, assertion, openings, comment, leaf_hash, decided_at, identity, credential_id from signedapproval_decisions`, nil, "leaves are about a decision of which there are 2"},
		{"a status was paid twice", `update signedapproval_bitbucket_commit_statuses set paid_version = 1, owed_version = 1`, nil, "leaves say that the status on"},
		{"a merge happened twice", `insert into signedapproval_merge_intents (workspace_id, pull_request_id, head_commit, request_id, strategy, state) select workspace_id, pull_request_id, repeat('0', 40), request_id, 'merge_commit', 'MERGED' from signedapproval_merge_intents`, nil, "merged 2 times"},
		{"what was merged was not approved", `update signedapproval_merge_intents set head_commit = repeat('0', 40)`, nil, "was merged without its approvals"},
		{"a merge is left alone", `update signedapproval_merge_intents set state = 'CALLING'`, nil, "nobody knows what became of its merge"},
		{"another head was merged", ``, bitbucketHas(func(list []invariant.PullRequest) []invariant.PullRequest {
			list[0].Head = strings.Repeat("0", 40)
			return list
		}), "the gate merged 000000000000"},
		{"another head was merged in a race that nobody tells of", ``, bitbucketHas(func(list []invariant.PullRequest) []invariant.PullRequest {
			list[0].Head, list[0].Raced = strings.Repeat("0", 40), true
			return list
		}), "and nobody says so"},
		{"it was merged into another branch", ``, bitbucketHas(func(list []invariant.PullRequest) []invariant.PullRequest {
			list[0].Destination = "other"
			return list
		}), "into other, and that was not what was approved"},
		{"it was merged into another branch in a race that nobody tells of", ``, bitbucketHas(func(list []invariant.PullRequest) []invariant.PullRequest {
			list[0].Destination, list[0].Raced = "other", true
			return list
		}), "and nobody says so"},
		{"the gate merged another head and says that it merged nothing", `update signedapproval_merge_intents set state = 'REFUSED'`, bitbucketHas(func(list []invariant.PullRequest) []invariant.PullRequest {
			list[0].Head, list[0].ByGate = strings.Repeat("0", 40), true
			return list
		}), "the gate merged 000000000000"},
		{"the gate merged another head in a race, and nobody tells of it", `update signedapproval_merge_intents set state = 'REFUSED'`, bitbucketHas(func(list []invariant.PullRequest) []invariant.PullRequest {
			list[0].Head, list[0].ByGate, list[0].Raced = strings.Repeat("0", 40), true, true
			return list
		}), "and nobody says so"},
		{"a merge by hand is on record as approved", `delete from signedapproval_merge_intents`, bitbucketHas(func(list []invariant.PullRequest) []invariant.PullRequest {
			list[0].Head = strings.Repeat("0", 40)
			return list
		}), "it is on record as merged APPROVED"},
		{"nothing says what a merge was", `delete from signedapproval_merges_seen`, nil, "nothing says whether with its approvals"},
		{"the log says of another branch that it was approved", `delete from signedapproval_merge_intents; delete from signedapproval_merges_seen`, bitbucketHas(func(list []invariant.PullRequest) []invariant.PullRequest {
			list[0].Destination = "other"
			return list
		}), "the log says that it was merged, kind approved"},
		{"a rule that was not in force", `update signedapproval_leaves set entry = convert_to(regexp_replace(convert_from(entry, 'UTF8'), '"policy":"[0-9a-f]{64}"', '"policy":"' || repeat('0', 64) || '"'), 'UTF8') where convert_from(entry, 'UTF8')::jsonb ->> 'type' = 'policy-version'`, nil, "by a rule that was not in force"},
		{"approved before there was a policy", `update signedapproval_leaves set entry = (select entry from signedapproval_leaves where convert_from(entry, 'UTF8')::jsonb ->> 'type' = 'policy-version') where index = (select max(index) from signedapproval_leaves); update signedapproval_leaves set entry = '{}' where convert_from(entry, 'UTF8')::jsonb ->> 'type' = 'policy-version' and index < (select max(index) from signedapproval_leaves)`, nil, "by a rule that was not in force"},
		{"a status that nobody owes", `delete from signedapproval_bitbucket_commit_statuses`, nil, "and the gate knows nothing of it"},
		{"a push left no job", `delete from signedapproval_jobs where kind = 'fan'`, nil, "of repo:push is stored without its job"},
		{"a status that was seen left no job", `delete from signedapproval_jobs where kind = 'status-seen'`, nil, "of repo:commit_status_"},
		{"a pull request is not known", ``, bitbucketHas(func(list []invariant.PullRequest) []invariant.PullRequest {
			return append(list, invariant.PullRequest{Number: 4, State: "OPEN", Head: strings.Repeat("0", 40), Destination: "main"})
		}), "the gate does not know it"},
		{"a pull request has another head", ``, bitbucketHas(func(list []invariant.PullRequest) []invariant.PullRequest {
			list[2].Head = strings.Repeat("0", 40)
			return list
		}), "it is 000000000000 into"},
		{"a pull request was closed", ``, bitbucketHas(func(list []invariant.PullRequest) []invariant.PullRequest {
			list[2].State = "DECLINED"
			return list
		}), "it is DECLINED on Bitbucket, and OPEN here"},
		{"nothing is asked for", `update signedapproval_approval_requests set state = 'CANCELLED' where state = 'REJECTED'`, nil, "what is asked for is not what must be asked"},
		{"a row names another workspace's", one("decisions", "workspace_id = "+other), nil, "a row of one workspace names another's"},
		{"a leaf of another workspace", `update signedapproval_leaves set workspace_id = ` + other + ` where sequence = 1`, nil, "names another's: leaf"},
		{"a job of another workspace", `update signedapproval_jobs set workspace_id = ` + other + ` where kind = 'evaluate'`, nil, "names another's: job"},
		{"a repository in two workspaces", one("deliveries", "workspace_id = "+other), nil, "is in several"},
		{"a status is owed and nobody pays", `update signedapproval_bitbucket_commit_statuses set owed_version = owed_version + 1`, nil, "and no job will pay it"},
		{"a status is owed still", `update signedapproval_bitbucket_commit_statuses set owed_version = owed_version + 1; update signedapproval_jobs set state = 'READY', run_at = now() + interval '1 hour' where kind = 'status'`, nil, "a status is still owed"},
		{"a job is overdue", `update signedapproval_jobs set run_at = now() - interval '2 hours' where kind = 'sweep'`, nil, "has been due for"},
		{"a job fails", `update signedapproval_jobs set state = 'READY', attempt = 3, run_at = now() + interval '1 hour' where kind = 'status'`, nil, "has not been done after 3 attempts"},
		{"a job gave up", `update signedapproval_jobs set state = 'DEAD' where kind = 'reconcile'`, nil, "gave up"},
		{"a status was written of what was rejected", ``, func(g *invariant.Gate) { g.Acts = w.acts(`r.state = 'REJECTED'`) }, "nothing was approved from then on"},
		{
			"a status was written by a rule that was in force no more",
			`update signedapproval_leaves set entry = (select convert_to(regexp_replace(convert_from(entry, 'UTF8'), '"policy":"[0-9a-f]{64}"', '"policy":"' || repeat('0', 64) || '"'), 'UTF8')
				from signedapproval_leaves where convert_from(entry, 'UTF8')::jsonb ->> 'type' = 'policy-version') where index = (select max(index) from signedapproval_leaves)`,
			func(g *invariant.Gate) { g.Acts = w.acts(`r.state = 'APPROVED' and p.state = 'OPEN'`) }, "nothing was approved from then on",
		},
		{"a status was written that nobody knows", ``, func(g *invariant.Gate) {
			g.Acts = func(context.Context) ([]invariant.Act, error) {
				return []invariant.Act{{Commit: strings.Repeat("0", 40), Key: "nobody's"}}, nil
			}
		}, "of a pull request that is not there"},
		{"a request should have expired", `update signedapproval_approval_requests set state = 'PENDING', expires_at = now() - interval '2 hours' where state = 'REJECTED'`, nil, "should have expired"},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := w.gate()
			if test.look != nil {
				test.look(&g)
			}
			sentences := invariant.Violations(w.check(w.copied(t, n+1, test.harm+"; select"), g))
			if !slices.ContainsFunc(sentences, func(s string) bool { return strings.Contains(s, test.want) }) {
				t.Errorf("the check says %q, want %q", sentences, test.want)
			}
		})
	}
	for n, byGate := range []bool{false, true} {
		t.Run(fmt.Sprint("nothing says what a merge into a branch without a rule was, by the gate: ", byGate), func(t *testing.T) {
			g := w.gate()
			bitbucketHas(func(list []invariant.PullRequest) []invariant.PullRequest {
				list[0].Destination, list[0].ByGate = "open", byGate
				return list
			})(&g)
			sentences := invariant.Violations(w.check(w.copied(t, 1000+n, `delete from signedapproval_merges_seen; select`), g))
			if slices.ContainsFunc(sentences, func(s string) bool { return strings.Contains(s, "nothing says whether") }) != byGate {
				t.Errorf("the check says %q", sentences)
			}
		})
	}
}

func TestViolationsAreNoErrors(t *testing.T) {
	t.Parallel()
	if got := invariant.Violations(errors.Join(http.ErrServerClosed)); len(got) > 0 {
		t.Errorf("an error of the check itself counts as %q", got)
	}
}
