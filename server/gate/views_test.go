package gate_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
	"github.com/signedapproval/bitbucket/server/store"
)

// counter counts the statements that a store sends.
type counter struct{ atomic.Int64 }

func (c *counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.Add(1)
	return ctx
}
func (c *counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c *counter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}
func (c *counter) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) { c.Add(1) }
func (c *counter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// TestAListTakesAsManyStatementsAsOne reads lists of pull requests whose rule demands models, decided with a key of which
// somebody said that it was in other hands, and the keys of several people.
func TestAListTakesAsManyStatementsAsOne(t *testing.T) {
	w := newWorld(t)
	maker, err := passkeytest.NewMaker([16]byte{1})
	w.must(err)
	w.ceremonies.Attest, w.gate.Models = true, w.metadata(7, maker)
	bob := w.people["bob"]
	stolen := w.keyID(bob)
	bob.key = passkeytest.New(origin)
	bob.key.Maker = maker
	w.enrol(bob)
	rule := w.rule(2, "bob", "carol")
	rule.Keys = &approval.KeyDemand{Models: []string{maker.Model}}
	w.save(rule)
	for i := range 3 {
		branch := fmt.Sprintf("feature/%d", i)
		_, err := w.sim.Push(bitbucketsim.Push{Repository: rocket, Branch: branch, From: release, Person: "alice", Files: map[string]string{branch + ".txt": branch}})
		w.must(err)
		opened, err := w.sim.OpenPullRequest(bitbucketsim.PullRequest{Repository: rocket, Author: "alice", Title: branch, Source: branch, Destination: release})
		w.must(err)
		w.event(int64(opened.ID))
		w.settle()
		w.decides(int64(opened.ID), "bob", approval.Approve)
	}
	w.revokes(bob, stolen, bob.key, time.Now().Add(-time.Hour))
	w.settle()

	var statements counter
	counted, err := store.Open(t.Context(), w.db.AppURL, w.store.Vault, func(config *pgxpool.Config) { config.ConnConfig.Tracer = &statements })
	w.must(err)
	t.Cleanup(counted.Close)
	w.gate.Store = counted
	alice := w.people["alice"].Person
	for name, read := range map[string]func(n int) int{
		"pull requests": func(n int) int {
			views, _, err := w.gate.PullRequests(t.Context(), alice, w.workspace, w.repository, store.Page{First: n})
			w.must(err)
			for _, v := range views {
				if len(v.Decisions) != 1 || v.Decisions[0].Model != maker.Model || !v.Decisions[0].Compromised {
					t.Errorf("the decisions on %d: %+v", v.PullRequest.Number, v.Decisions)
				}
			}
			return len(views)
		},
		"requests": func(n int) int {
			views, _, err := w.gate.WorkspaceRequests(t.Context(), alice, w.workspace, []string{store.RequestPending}, store.Page{First: n})
			w.must(err)
			return len(views)
		},
		"keys": func(n int) int {
			var people []string
			for _, name := range []string{"bob", "alice", "carol"}[:n] {
				people = append(people, w.people[name].ID)
			}
			var keys map[string]store.Keys
			w.must(counted.InWorkspace(t.Context(), w.workspace, func(tx *store.Tx) (err error) {
				keys, err = tx.KeysOf(t.Context(), people)
				return err
			}))
			if n := len(keys[bob.ID].Counting(w.workspace)); n != 0 {
				t.Errorf("%d keys of Bob's count", n)
			}
			return len(keys)
		},
	} {
		read(1) // the roster is read
		var took []int64
		for _, n := range []int{1, 3} {
			before := statements.Load()
			if got := read(n); got != n {
				t.Fatalf("%s: %d, want %d", name, got, n)
			}
			took = append(took, statements.Load()-before)
		}
		if took[0] != took[1] {
			t.Errorf("%s: %d statements for one, %d for three", name, took[0], took[1])
		}
	}
}
