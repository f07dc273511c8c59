package gate_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/mod/sumdb/note"

	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/internal/fault"
	"github.com/signedapproval/bitbucket/internal/invariant"
	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/jobs"
	"github.com/signedapproval/bitbucket/server/passkey"
	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
	"github.com/signedapproval/bitbucket/server/people"
	"github.com/signedapproval/bitbucket/server/store"
)

const (
	origin  = "https://approvals.example"
	rpID    = "approvals.example"
	rocket  = "acme/rocket"
	release = "release/1.0"
	feature = "feature/nozzle"

	// callTimeout is when a call to Bitbucket is given up: never, however busy the machine is.
	callTimeout = time.Minute
)

// world is a gate on a real database before a simulated Bitbucket, without Redis: drain does the
// due jobs in order, so that a test decides what happens between two of them.
type world struct {
	t          *testing.T
	gate       *gate.Gate
	store      *store.Store
	db         dbtest.Database
	super      *pgxpool.Pool // superuser
	wire       *fault.Wire   // between the server that is played here, and Postgres and Bitbucket
	sim        *bitbucketsim.Sim
	client     *bitbucket.Client // as the connected account
	token      string            // of that
	workspace  string
	repository string
	people     map[string]*person
	rights     map[string]bitbucket.Permission // of each person on the repository
	ceremonies *passkey.Ceremonies
	keys       *people.People
	logSigner  note.Signer
	logKey     string                                // that verifies checkpoints
	enrolled   map[string]*passkeytest.Authenticator // of each person, the one that was enrolled last
	// again is what another server, or the same person, does while or after this one is at it.
	again func() error
	other chan struct{} // closed when that ends; nil where nobody does
	// before is called before each job; may be nil.
	before func()
	// acts are what the checker is told that the gate did; nil for nothing.
	acts func(context.Context) ([]invariant.Act, error)
	// accepted are the deliveries that somebody was told are kept.
	accepted []string
}

type person struct {
	store.Person
	key     *passkeytest.Authenticator
	session []byte
}

func newWorld(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	ctx := t.Context()
	w := &world{t: t, db: dbtest.New(t), wire: &fault.Wire{}, people: map[string]*person{}, rights: map[string]bitbucket.Permission{}, enrolled: map[string]*passkeytest.Authenticator{}}
	vault, err := store.OpenVault(store.NewKeyset())
	w.must(err)
	w.store, err = store.Open(ctx, w.db.AppURL, vault, w.wire.Tune)
	w.must(err)
	t.Cleanup(w.store.Close)
	w.super, err = pgxpool.New(ctx, w.db.SuperURL)
	w.must(err)
	t.Cleanup(w.super.Close)
	w.sim = bitbucketsim.New(bitbucketsim.Options{RepositoryCallsPerHour: -1, AsyncMergeDelay: time.Millisecond})
	w.must(w.sim.Start("127.0.0.1:0"))
	t.Cleanup(func() { _ = w.sim.Close() })
	w.must(w.sim.AddExample())
	token, err := w.sim.IssueToken(bitbucketsim.TokenRequest{Person: "alice"})
	w.must(err)
	api := bitbucket.New(bitbucket.Config{BaseURL: w.sim.URL(), Timeout: callTimeout, Transport: w.wire})
	w.token = token.AccessToken
	w.client = api.As(w.token, "test", bitbucket.Foreground)
	w.ceremonies, err = passkey.New(rpID, "SignedApproval", origin)
	w.must(err)
	secret, public, err := note.GenerateKey(nil, rpID+"/log")
	w.must(err)
	w.logKey = public
	w.logSigner, err = note.NewSigner(secret)
	w.must(err)
	w.keys = people.New(people.Options{Store: w.store, Passkeys: w.ceremonies, LogOrigin: rpID + "/log", Log: slog.New(slog.DiscardHandler)})
	w.keys.Roster = func(ctx context.Context, p store.Person, workspace string) (evidence.Digest, error) {
		return w.gate.Roster(ctx, p, workspace)
	}
	w.keys.Follow = func(ctx context.Context, tx *store.Tx, person string) error { return w.gate.Follow(ctx, tx, person) }
	w.gate = w.newGate(w.store, func() *bitbucket.Client { return w.client })
	repository, err := w.client.Repository(ctx, "acme", "rocket")
	w.must(err)
	w.repository = repository.UUID
	for ws, err := range w.client.Workspaces(ctx) {
		w.must(err)
		w.workspace = ws.UUID
	}
	w.enter()
	return w
}

// newGate is the gate of a server that reaches its database by a store, and Bitbucket by a client.
func (w *world) newGate(s *store.Store, client func() *bitbucket.Client) *gate.Gate {
	return &gate.Gate{
		Store: s, Passkeys: w.ceremonies, Log: slog.New(slog.DiscardHandler), Origin: origin, RPID: rpID, LogOrigin: rpID + "/log", CallsPerHour: 1000,
		Client: func(context.Context, string, bitbucket.Class) (*bitbucket.Client, error) { return client(), nil },
		Permission: func(_ context.Context, p store.Person, _, _ string, _ bool) (bitbucket.Permission, error) {
			return w.rights[p.ID], nil
		},
		Readable: func(context.Context, store.Person, string) ([]string, error) { return []string{w.repository}, nil },
		People: func(ctx context.Context, workspace, repository string) (list []store.RepositoryPerson, err error) {
			for p, err := range client().RepositoryPermissions(ctx, workspace, repository) {
				if err != nil {
					return nil, err
				}
				list = append(list, store.RepositoryPerson{AccountID: p.User.AccountID, Name: p.User.DisplayName, Permission: string(p.Permission)})
			}
			return list, nil
		},
		EnsureHook: func(context.Context, string, string) error { return nil },
		Publish: func(ctx context.Context, _ int64, _ int) error {
			_, head, err := s.GrowTree(ctx)
			if err != nil {
				return err
			}
			return s.PutCheckpoint(ctx, head, w.checkpoint(head))
		},
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) in(fn func(*store.Tx) error) {
	w.t.Helper()
	w.must(w.store.InWorkspace(w.t.Context(), w.workspace, fn))
}

// enter makes the people known here, and their keys.
func (w *world) enter() {
	w.t.Helper()
	ctx := w.t.Context()
	w.in(func(tx *store.Tx) error {
		_, created, err := tx.PutWorkspace(ctx, "acme", "Acme")
		if err != nil || !created {
			return err
		}
		return w.genesis(tx)
	})
	for user, err := range w.client.Members(ctx, "acme") {
		w.must(err)
		if w.people[strings.ToLower(user.Nickname)] != nil {
			continue
		}
		p := &person{key: passkeytest.New(origin)}
		w.must(w.store.Outside(ctx, func(sh *store.Shared) (err error) {
			p.Person, err = sh.PutPerson(ctx, store.Person{AccountID: user.AccountID, AccountUUID: user.UUID, Name: user.DisplayName})
			return err
		}))
		session := sha256.Sum256([]byte(p.ID))
		p.session = session[:]
		w.people[strings.ToLower(user.Nickname)] = p
		w.rights[p.ID] = bitbucket.PermissionWrite
		w.enrol(p)
	}
	// What was told of these keys is no part of any story.
	w.sql(`delete from signedapproval_notices`)
	w.sql(`delete from signedapproval_jobs where kind = 'notify'`)
}

// checkpoint is the signed note that publishes a tree.
func (w *world) checkpoint(head store.TreeHead) []byte {
	w.t.Helper()
	signed, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", rpID+"/log", head.Size, base64.StdEncoding.EncodeToString(head.Root[:]))}, w.logSigner)
	w.must(err)
	return signed
}

// genesis writes the workspace's first leaf, as connecting it does.
func (w *world) genesis(tx *store.Tx) error {
	workspace, err := tx.ReadWorkspace(w.t.Context())
	if err != nil {
		return err
	}
	salt := sha256.Sum256(workspace.GenesisSalt)
	now, err := tx.Now(w.t.Context())
	if err != nil {
		return err
	}
	entry, err := evidence.Leaf{
		Time: now, Workspace: evidence.WorkspaceID(workspace.GenesisSalt, bitbucket.BracedUUID(tx.Workspace)),
		Body: evidence.Genesis{Salt: evidence.Digest(hex.EncodeToString(salt[:]))},
	}.Entry()
	if err != nil {
		return err
	}
	tx.AppendLeaf(tx.Workspace, evidence.LeafHash(entry), entry, "", 0)
	return tx.PutGenesis(w.t.Context(), evidence.LeafHash(entry))
}

// enrol makes a key of the person's and enrols it as the pages do: a further one with the signature of one that they
// have.
func (w *world) enrol(p *person) {
	w.t.Helper()
	ctx := w.t.Context()
	options, err := w.keys.BeginPasskey(ctx, p.Person, p.session, "key")
	w.must(err)
	answer, err := p.key.Create([]byte(options))
	w.must(err)
	_, act, err := w.keys.FinishPasskey(ctx, p.Person, p.session, "", string(answer))
	w.must(err)
	answer, err = p.key.Get(act.Options)
	w.must(err)
	_, next, err := w.keys.ConfirmPasskey(ctx, p.Person, p.session, string(answer))
	w.must(err)
	if next != nil {
		answer, err = w.enrolled[p.ID].Get(next.Options)
		w.must(err)
		_, _, err = w.keys.ConfirmPasskey(ctx, p.Person, p.session, string(answer))
		w.must(err)
	}
	w.enrolled[p.ID] = p.key
}

// rule is the policy that most tests start from.
func (w *world) rule(quorum int, names ...string) approval.Rule {
	r := approval.Rule{
		Name: "Releases", Branches: []string{"release/*"}, ExpiresAfterSeconds: int64(approval.DefaultExpiry.Seconds()),
		Requirements: []approval.Requirement{{Name: "Approval", Quorum: quorum}},
	}
	for _, name := range names {
		r.Requirements[0].Approvers.Accounts = append(r.Requirements[0].Approvers.Accounts, w.people[name].AccountID)
	}
	r.Requirements[0].Approvers.Everyone = len(names) == 0
	return r
}

// save gates the repository, or changes its rules, as the administrator's use case does.
func (w *world) save(rules ...approval.Rule) {
	w.t.Helper()
	w.in(func(tx *store.Tx) error {
		_, _, err := w.saveIn(tx, rules...)
		return err
	})
}

func (w *world) saveIn(tx *store.Tx, rules ...approval.Rule) (version store.PolicyVersion, created bool, err error) {
	ctx, policy := w.t.Context(), approval.Policy{Format: approval.Format, Rules: rules}
	version, created, err = tx.PutPolicyVersion(ctx, store.PolicyVersion{
		RepositoryID: w.repository, Document: policy.Canonical(), Digest: string(policy.Digest()), CreatedBy: w.people["alice"].ID, CreatedVia: "session",
	})
	if err != nil {
		return version, false, err
	}
	_, err = tx.PutRepositoryConfig(ctx, store.RepositoryConfig{
		RepositoryID: w.repository, Slug: "rocket", FullName: rocket, Name: "Rocket", PolicyVersionID: version.ID, HookID: uuid.NewString(),
	})
	if err != nil {
		return version, false, err
	}
	return version, created, tx.Enqueue(ctx, store.AskReconcile(w.workspace, w.repository))
}

// open opens a pull request on Bitbucket and tells the gate, as its webhook would.
func (w *world) open() int64 {
	w.t.Helper()
	opened, err := w.sim.OpenPullRequest(bitbucketsim.PullRequest{Repository: rocket, Author: "alice", Title: "Add the nozzle", Source: feature, Destination: release})
	w.must(err)
	w.event(int64(opened.ID))
	return int64(opened.ID)
}

func (w *world) event(number int64) {
	w.t.Helper()
	w.in(func(tx *store.Tx) error {
		return tx.Enqueue(w.t.Context(), store.AskEvaluate(w.workspace, w.repository, number))
	})
}

func (w *world) push(file, content string) string {
	w.t.Helper()
	commit, err := w.sim.Push(bitbucketsim.Push{Repository: rocket, Branch: feature, Person: "alice", Files: map[string]string{file: content}})
	w.must(err)
	return commit.Hash
}

// do claims one job and runs it. A failed job goes back as the queue would send it, due at once.
func (w *world) do(ring store.Ring) error {
	w.t.Helper()
	ctx := w.t.Context()
	job, ok, err := w.store.ClaimJob(ctx, ring.ID, uuid.NewString(), time.Minute)
	w.must(err)
	if !ok {
		return nil
	}
	w.again = func() error {
		job, ok, err := w.store.ClaimJob(ctx, ring.ID, uuid.NewString(), time.Minute)
		if err != nil || !ok {
			return err
		}
		return w.run(job)
	}
	if w.wire.Awaits(fault.Slow) {
		w.expireLeases()
	}
	if w.before != nil {
		w.before()
	}
	err = w.run(job)
	w.join()
	switch {
	case w.wire.Again():
		if again := w.run(job); !errors.Is(again, store.ErrLeaseLost) {
			w.t.Errorf("%s %s, done twice under one claim: %v", job.Kind, job.Key, again)
		}
	case w.wire.Dead(): // nobody gives the job back: it is found when the lease has run out
		w.wire.Revive()
		w.expireLeases()
		return err
	}
	if err != nil {
		attempts := 50
		if jobs.IsPermanent(err) {
			attempts = 1
		}
		var after time.Duration
		var later interface{ RetryAt() (time.Time, bool) }
		if errors.As(err, &later) {
			at, _ := later.RetryAt()
			after = time.Until(at)
		}
		_, retryErr := w.store.RetryJob(ctx, job.Claim, err.Error(), after, after == 0, attempts)
		if retryErr != nil && !errors.Is(retryErr, store.ErrLeaseLost) {
			w.must(retryErr)
		}
		return fmt.Errorf("%s %s: %w", job.Kind, job.Key, err)
	}
	return nil
}

// run hands a claimed job to its handler.
func (w *world) run(job store.Job) error {
	w.t.Helper()
	handler := map[string]func(context.Context, store.Job) error{
		store.KindEvaluate: w.gate.Evaluate, store.KindStatus: w.gate.PutStatus, store.KindStatusSeen: w.gate.StatusSeen,
		store.KindMerge: w.gate.Merge, store.KindBuilds: w.gate.Builds, store.KindFan: w.gate.Fan, store.KindReconcile: w.gate.Reconcile,
		store.KindNotify: w.gate.SendNotice, store.KindSweep: w.gate.Sweep, store.KindDoctor: w.unattended, store.KindRoster: w.gate.FollowKeys, store.KindFallen: w.gate.Fallen,
	}[job.Kind]
	if handler == nil {
		w.t.Fatalf("a job of unknown kind %q", job.Kind)
	}
	return handler(w.t.Context(), job)
}

// unattended finishes a job whose handler is in another package.
func (w *world) unattended(ctx context.Context, job store.Job) error {
	return w.store.Outside(ctx, func(sh *store.Shared) error { return sh.FinishJob(ctx, job.Claim, time.Time{}) })
}

// due lists the jobs that are due now and that nobody holds, the longest due first.
func (w *world) due() []store.Ring {
	w.t.Helper()
	rows, err := w.super.Query(w.t.Context(), `select id, kind, key, coalesce(workspace_id::text, '') from signedapproval_jobs
		where state = 'READY' and run_at <= now() and (leased_until is null or leased_until <= now()) order by run_at, id`)
	w.must(err)
	rings, err := pgx.CollectRows(rows, pgx.RowToStructByPos[store.Ring])
	w.must(err)
	return rings
}

// drain does due jobs until none is left. Errors are handed to the test, which may expect them.
func (w *world) drain() (failed []error) {
	w.t.Helper()
	for range 200 {
		rings := w.due()
		if len(rings) == 0 {
			w.check(true)
			return failed
		}
		for _, ring := range rings {
			if err := w.do(ring); err != nil {
				failed = append(failed, err)
			}
			w.check(false)
		}
	}
	w.t.Fatalf("the jobs do not come to rest; the last errors: %v", failed[max(0, len(failed)-3):])
	return nil
}

// settle drains and allows no error.
func (w *world) settle() {
	w.t.Helper()
	if failed := w.drain(); len(failed) > 0 {
		w.t.Fatalf("jobs failed: %v", errors.Join(failed...))
	}
}

// view is the pull request as alice, who may see everything, sees it.
func (w *world) view(number int64) gate.View {
	w.t.Helper()
	v, err := w.gate.Find(w.t.Context(), w.people["alice"].Person, w.workspace, w.repository, number)
	w.must(err)
	return v
}

// draft is what a sign page would ask for now.
func (w *world) draft(number int64, who string, action approval.Action) (gate.Draft, error) {
	w.t.Helper()
	v := w.view(number)
	if v.Request == nil {
		return gate.Draft{}, errors.New("nothing is asked for")
	}
	shown, err := w.gate.Diff(w.t.Context(), w.people[who].Person, w.workspace, v.Request.ID)
	if err != nil {
		return gate.Draft{}, err
	}
	digest := sha256.Sum256(shown.Diff)
	return gate.Draft{
		Workspace: w.workspace, RequestID: v.Request.ID, Action: action, HeadCommit: shown.HeadCommit, DiffSHA256: hex.EncodeToString(digest[:]),
	}, nil
}

// decide does what a person does on the sign page.
func (w *world) decide(number int64, who string, action approval.Action) (store.Decision, error) {
	w.t.Helper()
	draft, err := w.draft(number, who, action)
	if err != nil {
		return store.Decision{}, err
	}
	return w.submit(who, draft)
}

func (w *world) submit(who string, draft gate.Draft) (store.Decision, error) {
	w.t.Helper()
	p := w.people[who]
	prepared, err := w.gate.Prepare(w.t.Context(), p.Person, p.session, draft)
	if err != nil {
		return store.Decision{}, err
	}
	answer, err := p.key.Get(prepared.Options)
	w.must(err)
	decide := func() (store.Decision, error) {
		made, err := w.gate.Decide(w.t.Context(), p.Person, p.session, w.workspace, draft.RequestID, answer)
		return made.Decision, err
	}
	w.again = func() error {
		if _, err := decide(); err == nil {
			return errors.New("one signature was taken twice")
		}
		return nil
	}
	made, err := decide()
	w.join()
	if w.wire.Again() {
		w.must(w.again())
	}
	return made, err
}

func (w *world) decides(number int64, who string, action approval.Action) {
	w.t.Helper()
	if _, err := w.decide(number, who, action); err != nil {
		w.t.Fatalf("%s %s: %v", who, action, err)
	}
}

// shown is the state and sentence that Bitbucket shows under our key on a commit; "" if none.
func (w *world) shown(number int64, commit string) (state, description string) {
	w.t.Helper()
	key := w.view(number).PullRequest.StatusKey
	for s, err := range w.client.Statuses(w.t.Context(), "acme", "rocket", commit) {
		w.must(err)
		if s.Key == key {
			return string(s.State), s.Description
		}
	}
	return "", ""
}

func (w *world) expect(number int64, commit, state, sentence string) {
	w.t.Helper()
	gotState, gotSentence := w.shown(number, commit)
	if gotState != state || gotSentence != sentence {
		w.t.Fatalf("Bitbucket shows %s %q, want %s %q", gotState, gotSentence, state, sentence)
	}
}

// sql runs a statement as the superuser: for tests that move time.
func (w *world) sql(statement string, args ...any) {
	w.t.Helper()
	_, err := w.super.Exec(w.t.Context(), statement, args...)
	w.must(err)
}

// check looks at everything that must hold whatever happened.
func (w *world) check(atRest bool) {
	w.t.Helper()
	w.must(w.broken(atRest))
}

// broken is what does not hold.
func (w *world) broken(atRest bool) error {
	w.t.Helper()
	ctx := w.t.Context()
	conn, err := w.super.Acquire(ctx)
	w.must(err)
	defer conn.Release()
	return invariant.Gate{
		DB: conn.Conn(), RelyingParty: evidence.RelyingParty{ID: rpID, Origin: origin},
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
		Acts: w.acts, Accepted: w.accepted,
	}.Check(ctx, atRest)
}
