package workspace_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/workspace"
)

// stale makes the stored access token look as if it ended in so much time.
func (w *world) stale(in string) {
	w.t.Helper()
	w.sql(`update signedapproval_bitbucket_connections set access_expires_at = now() + $1::interval`, in)
}

// call uses the connection for one call.
func (w *world) call(ws *workspace.Workspaces) error {
	client, err := ws.Client(w.t.Context(), w.acme, bitbucket.Foreground)
	if err != nil {
		return err
	}
	_, err = client.CurrentUser(w.t.Context())
	return err
}

func TestTokenIsReusedWhileItLives(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	before := w.lastCall()
	must(t, w.call(w.Workspaces))
	must(t, w.call(w.Workspaces))
	if n := w.exchanges(before); n != 0 {
		t.Errorf("%d exchanges", n)
	}
}

func TestTokenIsRefreshedBeforeItEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{RefreshGrace: -1})
	w.connected("alice", w.acme)
	first := w.connection(w.acme)
	w.stale("4 minutes")
	must(t, w.call(w.Workspaces))
	second := w.connection(w.acme)
	if second.Generation != first.Generation+1 || second.AccessToken == first.AccessToken ||
		second.RefreshToken == first.RefreshToken || second.PreviousRefreshToken != first.RefreshToken {
		t.Errorf("generation %d after %d, previous kept: %t", second.Generation, first.Generation, second.PreviousRefreshToken == first.RefreshToken)
	}
	// Refresh tokens rotate: the second round works with what the first one stored.
	w.stale("-1 hour")
	must(t, w.call(w.Workspaces))
	if got := w.connection(w.acme).Generation; got != first.Generation+2 {
		t.Errorf("generation %d", got)
	}
}

func TestTokenIsRefreshedOn401(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	first := w.connection(w.acme)
	get(w.sim.ExpireTokens(bitbucketsim.GrantSelector{Person: "alice"}))(t)
	before := w.lastCall()
	must(t, w.call(w.Workspaces))
	if got := w.connection(w.acme).Generation; got != first.Generation+1 {
		t.Errorf("generation %d after %d", got, first.Generation)
	}
	if n := w.exchanges(before); n != 1 {
		t.Errorf("%d exchanges, want 1", n)
	}
}

func TestOneRefreshAtATime(t *testing.T) {
	t.Parallel()
	for name, age := range map[string]func(w *world){
		"before its end": func(w *world) { w.stale("1 minute") },
		"on 401":         func(w *world) { get(w.sim.ExpireTokens(bitbucketsim.GrantSelector{Person: "alice"}))(w.t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Without grace, a second exchange of the same token would end the grant.
			w := newWorld(t, bitbucketsim.Options{RefreshGrace: -1})
			w.connected("alice", w.acme)
			other, _ := w.replica()
			age(w)
			// Slow enough that all of them want the refresh while it is under way.
			get(w.sim.AddFault(bitbucketsim.Fault{Path: "/access_token$", DelayMS: 300}))(t)
			before := w.lastCall()
			var group sync.WaitGroup
			failures := make(chan error, 20)
			for i := range 20 {
				replica := []*workspace.Workspaces{w.Workspaces, other}[i%2]
				group.Go(func() { failures <- w.call(replica) })
			}
			group.Wait()
			close(failures)
			for err := range failures {
				must(t, err)
			}
			if n := w.exchanges(before); n != 1 {
				t.Errorf("%d exchanges, want 1", n)
			}
			if c := w.connection(w.acme); c.State != store.ConnectionActive {
				t.Errorf("connection is %s", c.State)
			}
		})
	}
}

func TestRefreshWithoutAnAnswer(t *testing.T) {
	t.Parallel()

	t.Run("an answer that got lost is asked for again", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, bitbucketsim.Options{})
		w.connected("alice", w.acme)
		w.stale("-1 minute")
		get(w.sim.AddFault(bitbucketsim.Fault{Path: "/access_token$", LostReply: true, Times: 1}))(t)
		before := w.lastCall()
		must(t, w.call(w.Workspaces))
		if n := w.exchanges(before); n != 2 {
			t.Errorf("%d exchanges, want 2", n)
		}
		w.stale("-1 minute")
		must(t, w.call(w.Workspaces)) // and what was stored is the living pair
	})
	t.Run("a token that still lives is used meanwhile", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, bitbucketsim.Options{})
		w.connected("alice", w.acme)
		first := w.connection(w.acme)
		w.stale("4 minutes")
		get(w.sim.AddFault(bitbucketsim.Fault{Path: "/access_token$", Status: 503}))(t)
		must(t, w.call(w.Workspaces))
		if c := w.connection(w.acme); c.Generation != first.Generation || c.State != store.ConnectionActive {
			t.Errorf("connection %s, generation %d", c.State, c.Generation)
		}
	})
	t.Run("a token that ended is not, and nothing is lost", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, bitbucketsim.Options{})
		w.connected("alice", w.acme)
		w.stale("-1 minute")
		get(w.sim.AddFault(bitbucketsim.Fault{Path: "/access_token$", Status: 503}))(t)
		refused(t, w.call(w.Workspaces), refusal.BitbucketUnavailable)
		if c := w.connection(w.acme); c.State != store.ConnectionActive {
			t.Errorf("connection is %s", c.State)
		}
		w.sim.ClearFaults()
		must(t, w.call(w.Workspaces))
	})
	t.Run("a refused token that cannot be replaced now is tried again later", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, bitbucketsim.Options{})
		w.connected("alice", w.acme)
		get(w.sim.ExpireTokens(bitbucketsim.GrantSelector{Person: "alice"}))(t)
		get(w.sim.AddFault(bitbucketsim.Fault{Path: "/access_token$", Status: 503}))(t)
		remote, ok := errors.AsType[*bitbucket.Error](w.call(w.Workspaces))
		if !ok || remote.Class() != bitbucket.Transient {
			t.Errorf("got %v", remote)
		}
		w.sim.ClearFaults()
		must(t, w.call(w.Workspaces))
	})
	t.Run("a wrong consumer secret kills no grant", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, bitbucketsim.Options{})
		w.connected("alice", w.acme)
		right := w.connect
		w.connect.Secret = "wrong"
		wrong, _ := w.replica()
		w.stale("-1 minute")
		err := w.call(wrong)
		refused(t, err, workspace.CodeConsumer)
		if strings.Contains(err.Error(), right.Secret) {
			t.Error("the error shows the secret")
		}
		must(t, w.call(w.Workspaces))
	})
}

// pair stores a pair of tokens in the connection's place, as a refresh would.
func (w *world) pair(used store.Secret, refresh store.Secret) {
	w.t.Helper()
	c := w.connection(w.acme)
	w.read(w.acme, func(tx *store.Tx) error {
		return tx.RenewConnection(w.t.Context(), c.Generation, used, store.Tokens{
			Access: c.AccessToken, Refresh: refresh, AccessExpiresAt: time.Now().Add(-time.Minute),
		})
	})
}

func TestPreviousRefreshTokenHasOneRetry(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	good := w.connection(w.acme).RefreshToken
	w.pair(good, "one that Bitbucket does not know")
	must(t, w.call(w.Workspaces))
	c := w.connection(w.acme)
	if c.PreviousRefreshToken != "" {
		t.Error("the previous token is kept for another retry")
	}
	if c.State != store.ConnectionActive || c.RefreshToken == good {
		t.Errorf("connection %s", c.State)
	}
}

func TestRotatedOutRefreshToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{RefreshGrace: -1})
	alice := w.connected("alice", w.acme)
	get2(w.SaveRepository(t.Context(), alice, "session", w.acme, w.app, approvals(1)))(t)
	// Somebody else used our refresh token.
	get(w.consumer(w.connect).Refresh(t.Context(), string(w.connection(w.acme).RefreshToken)))(t)
	w.stale("-1 minute")
	refused(t, w.call(w.Workspaces), refusal.NeedsReconnecting)

	c := w.connection(w.acme)
	if c.State != store.ConnectionNeedsReconnecting || !strings.Contains(c.StateReason, "Alice") {
		t.Errorf("connection %s: %s", c.State, c.StateReason)
	}
	equal(t, "alarms", w.alarms(w.acme), []string{store.AlarmNeedsReconnecting})
	equal(t, "notices", w.texts(`select kind || ' ' || path from signedapproval_notices where person_id = $1`, alice.ID),
		[]string{"NEEDS_RECONNECTING /settings/bitbucket"})
	if got := w.leaves(w.acme); got[len(got)-1] != "connection broken" {
		t.Errorf("leaves %v", got)
	}

	t.Run("is not asked about again", func(t *testing.T) {
		before := w.lastCall()
		refused(t, w.call(w.Workspaces), refusal.NeedsReconnecting)
		if n := len(w.sim.Calls(before)); n != 0 {
			t.Errorf("%d calls", n)
		}
		equal(t, "alarms", w.alarms(w.acme), []string{store.AlarmNeedsReconnecting})
	})
	t.Run("is shown, and allows no change", func(t *testing.T) {
		shown := get(w.Connection(t.Context(), alice, w.acme))(t)
		if shown.State != store.ConnectionNeedsReconnecting {
			t.Errorf("shown as %s", shown.State)
		}
		_, _, err := w.SaveRepository(t.Context(), alice, "session", w.acme, w.app, approvals(2))
		refused(t, err, refusal.NeedsReconnecting)
		_, err = w.Disconnect(t.Context(), alice, w.acme)
		refused(t, err, refusal.NeedsReconnecting)
		stranger := w.who("mallory")
		_, err = w.Connection(t.Context(), stranger, w.acme)
		refused(t, err, refusal.NotFound)
		_, err = w.Disconnect(t.Context(), stranger, w.acme)
		refused(t, err, refusal.NotFound)
	})
	t.Run("is healed by connecting again, which resumes the work", func(t *testing.T) {
		w.sql(`update signedapproval_jobs set state = 'DONE'`)
		w.connected("alice", w.acme)
		must(t, w.call(w.Workspaces))
		equal(t, "alarms", w.alarms(w.acme), nil)
		equal(t, "jobs", w.texts(`select kind from signedapproval_jobs where state = 'READY' and kind <> 'notify' order by kind`), []string{"reconcile", "refresh"})
	})
}

func TestRevokedGrant(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	get(w.sim.Revoke(bitbucketsim.GrantSelector{Person: "alice"}))(t)
	// The access token has an hour to go: the first that notices is a call.
	err := w.call(w.Workspaces)
	refused(t, err, refusal.NeedsReconnecting)
	if !isRemote(err, http.StatusUnauthorized) {
		t.Errorf("the call's own answer is lost: %v", err)
	}
	if c := w.connection(w.acme); c.State != store.ConnectionNeedsReconnecting {
		t.Errorf("connection is %s", c.State)
	}
}

func TestConnectingWhileARefreshIsUnderWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	_, id := w.grant("dave")
	dave := w.who("dave")
	w.stale("-1 minute")
	get(w.sim.AddFault(bitbucketsim.Fault{Path: "/access_token$", DelayMS: 5000, Times: 1}))(t)
	before := w.lastCall()
	done := make(chan error, 1)
	go func() { done <- w.call(w.Workspaces) }()
	// The refresh holds its lease while it waits for Bitbucket.
	w.eventually("lease", func() bool {
		return len(w.texts(`select kind from signedapproval_jobs where kind = 'refresh' and leased_until > now()`)) == 1
	})
	get(w.Connect(t.Context(), dave, id, w.acme))(t)
	must(t, <-done)
	c := w.connection(w.acme)
	if c.AccountID != dave.AccountID || c.State != store.ConnectionActive {
		t.Errorf("the older pair won: %s", c.AccountName)
	}
	if n := w.exchanges(before); n != 1 {
		t.Errorf("%d exchanges", n)
	}
	must(t, w.call(w.Workspaces))
}

// eventually polls a condition.
func (w *world) eventually(what string, holds func() bool) {
	w.t.Helper()
	deadline := time.NewTimer(2 * time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			w.t.Fatalf("never: %s", what)
		}
	}
}

// refreshJob runs the job that looks after the connection, as a worker would.
func (w *world) refreshJob() error {
	w.t.Helper()
	w.sql(`update signedapproval_jobs set run_at = now() where kind = 'refresh'`)
	var job store.Job
	w.eventually("claim", func() bool {
		var ok bool
		ids := w.texts(`select id::text from signedapproval_jobs where kind = 'refresh'`)
		var id int64
		for _, c := range ids[0] {
			id = id*10 + int64(c-'0')
		}
		job, ok = get2(w.store.ClaimJob(w.t.Context(), id, w.acme, time.Minute))(w.t)
		return ok
	})
	err := w.Refresh(w.t.Context(), job)
	if err != nil {
		get(w.store.RetryJob(w.t.Context(), job.Claim, "test", time.Hour, false, 10))(w.t)
	}
	return err
}

func (w *world) refreshState() []string {
	w.t.Helper()
	return w.texts(`select state || case when run_at > now() + interval '23 hours' then ' tomorrow' else '' end from signedapproval_jobs where kind = 'refresh'`)
}

func TestDailyLook(t *testing.T) {
	t.Parallel()

	t.Run("renews an idle grant and runs again", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, bitbucketsim.Options{})
		w.connected("alice", w.acme)
		first := w.connection(w.acme)
		w.stale("-23 hours")
		must(t, w.refreshJob())
		if got := w.connection(w.acme).Generation; got != first.Generation+1 {
			t.Errorf("generation %d after %d", got, first.Generation)
		}
		equal(t, "job", w.refreshState(), []string{"READY tomorrow"})
	})
	t.Run("notices that a token was taken back before its time", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, bitbucketsim.Options{})
		w.connected("alice", w.acme)
		get(w.sim.ExpireTokens(bitbucketsim.GrantSelector{Person: "alice"}))(t)
		must(t, w.refreshJob())
		must(t, w.call(w.Workspaces))
		equal(t, "job", w.refreshState(), []string{"READY tomorrow"})
	})
	t.Run("notices a dead grant and ends", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, bitbucketsim.Options{})
		w.connected("alice", w.acme)
		get(w.sim.Revoke(bitbucketsim.GrantSelector{Person: "alice"}))(t)
		must(t, w.refreshJob())
		equal(t, "alarms", w.alarms(w.acme), []string{store.AlarmNeedsReconnecting})
		equal(t, "job", w.refreshState(), []string{"DONE"})
	})
	t.Run("notices that the account lost its rights, and got them back", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, bitbucketsim.Options{})
		alice := w.connected("alice", w.acme)
		get(w.sim.SetMembership(bitbucketsim.Membership{Workspace: "acme", Person: "alice", Role: "member"}))(t)
		must(t, w.refreshJob())
		must(t, w.refreshJob())
		equal(t, "alarms", w.alarms(w.acme), []string{store.AlarmConnectionRights})
		equal(t, "notices", w.texts(`select kind from signedapproval_notices where person_id = $1`, alice.ID), []string{store.AlarmConnectionRights})
		get(w.sim.SetMembership(bitbucketsim.Membership{Workspace: "acme", Person: "alice", Role: "owner"}))(t)
		must(t, w.refreshJob())
		equal(t, "alarms", w.alarms(w.acme), nil)
	})
	t.Run("notices that the account left", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, bitbucketsim.Options{})
		w.connected("alice", w.acme)
		get(w.sim.SetMembership(bitbucketsim.Membership{Workspace: "acme", Person: "alice"}))(t)
		must(t, w.refreshJob())
		equal(t, "alarms", w.alarms(w.acme), []string{store.AlarmConnectionRights})
		equal(t, "name", w.texts(`select name from signedapproval_workspaces`), []string{"Acme Inc"})
	})
	t.Run("waits without blame while Bitbucket is away", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, bitbucketsim.Options{})
		w.connected("alice", w.acme)
		get(w.sim.AddFault(bitbucketsim.Fault{Path: "/2.0/user/workspaces", Status: 503}))(t)
		err := w.refreshJob()
		var later interface{ RetryAt() (time.Time, bool) }
		if !errors.As(err, &later) {
			t.Fatalf("got %v", err)
		}
		if at, ok := later.RetryAt(); !ok || time.Until(at) < 5*time.Minute {
			t.Errorf("again at %v", at)
		}
		equal(t, "alarms", w.alarms(w.acme), nil)
	})
	t.Run("ends with the connection", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, bitbucketsim.Options{})
		alice := w.connected("alice", w.acme)
		get(w.Disconnect(t.Context(), alice, w.acme))(t)
		must(t, w.refreshJob())
		equal(t, "job", w.refreshState(), []string{"DONE"})
	})
}

func TestClientOfNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	_, err := w.Client(t.Context(), w.acme, bitbucket.Foreground)
	refused(t, err, refusal.NotFound)
}

func TestWaitingForARefreshEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	w.stale("-1 minute")
	// Another replica holds the lease and does not move.
	_, held := get2(w.store.TryLease(t.Context(), workspace.KindRefresh, w.acme, w.acme, w.acme, time.Minute))(t)
	if !held {
		t.Fatal("no lease")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := w.Client(ctx, w.acme, bitbucket.Foreground)
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
