package gate_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/store"
)

// trips counts how often somebody waits for PostgreSQL.
type trips struct{ n atomic.Int64 }

func (c *trips) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.n.Add(1)
	return ctx
}

func (c *trips) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c *trips) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	c.n.Add(1)
	return ctx
}

func (c *trips) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (c *trips) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// TestTheRoadsWaitForPostgresSoOften: each time is a delay between an event and its status, so each step of the two roads
// reads together what it needs, and writes with its commit. What the server adds around the gate is not counted: the
// session, the connection, the rights, the people and the publication, which a test in package store bounds.
func TestTheRoadsWaitForPostgresSoOften(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	var count trips
	counted, err := store.Open(t.Context(), w.db.AppURL, w.store.Vault, func(config *pgxpool.Config) { config.ConnConfig.Tracer = &count })
	w.must(err)
	t.Cleanup(counted.Close)
	uncounted := w.gate.Store
	var connections atomic.Int64
	connect := w.gate.Client
	w.gate.Client = func(ctx context.Context, workspace string, class bitbucket.Class) (*bitbucket.Client, error) {
		connections.Add(1)
		return connect(ctx, workspace, class)
	}
	waits := func(what string, most int64, do func()) {
		t.Helper()
		before := count.n.Load()
		w.gate.Store = counted
		do()
		w.gate.Store = uncounted
		n := count.n.Load() - before
		t.Logf("%s waits %d times", what, n)
		if n > most || n == 0 {
			t.Errorf("%s waits %d times for PostgreSQL, and %d are allowed", what, n, most)
		}
	}
	job := func(what, kind string, most int64) {
		t.Helper()
		found := false
		for _, ring := range w.due() {
			if ring.Kind != kind {
				w.must(w.do(ring))
				continue
			}
			found = true
			waits(what, most, func() { w.must(w.do(ring)) })
		}
		if !found {
			t.Errorf("%s is not due", what)
		}
	}
	number := w.open()
	job("the evaluation of a new pull request", store.KindEvaluate, 4)
	job("its status", store.KindStatus, 3)
	w.settle()
	p := w.people["bob"]
	draft, err := w.draft(number, "bob", approval.Approve)
	w.must(err)
	prepared, err := w.gate.Prepare(t.Context(), p.Person, p.session, draft)
	w.must(err)
	w.must(counted.InWorkspace(t.Context(), w.workspace, func(tx *store.Tx) error {
		_, err := tx.WholeRoster(t.Context()) // is replayed once, and has the key from here on
		return err
	}))
	response := w.signed(p.key, prepared.Options)
	w.known("bob", bitbucket.PermissionRead)
	waits("a decision", 3, func() {
		_, err := w.gate.Decide(t.Context(), p.Person, p.session, w.workspace, draft.RequestID, response)
		w.must(err)
	})
	job("its evaluation", store.KindEvaluate, 3)
	connections.Store(0)
	job("its green status", store.KindStatus, 4)
	if n := connections.Load(); n != 1 {
		t.Errorf("its green status reads the connection %d times", n)
	}
	statuses := w.view(number).PullRequest.StatusKey
	w.in(func(tx *store.Tx) error {
		return tx.Enqueue(t.Context(), store.AskStatusSeen(w.workspace, w.repository, statuses))
	})
	job("the look at it when its own webhook comes", store.KindStatusSeen, 2)
	waits("a screen", 1, func() {
		view, err := w.gate.ViewRequest(t.Context(), p.Person, w.workspace, draft.RequestID)
		w.must(err)
		if view.Request.State != store.RequestApproved || !view.Status.Paid() {
			t.Errorf("it shows a request that is %s", view.Request.State)
		}
	})
}
