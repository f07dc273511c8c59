package app_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// seed is fixed: what goes wrong is the same in each run, as far as processes allow.
const seed = 20261122

// troubleCalls makes one call in a hundred of the connection go wrong: half of them fail, half are
// carried out and their answer is lost.
func (c *cluster) troubleCalls(random *rand.Rand) {
	c.t.Helper()
	for n := range 10_000 {
		if random.IntN(100) != 0 {
			continue
		}
		fault := bitbucketsim.Fault{Person: "alice", Skip: n, Times: 1, Status: http.StatusBadGateway}
		if random.IntN(2) == 0 {
			fault.Status, fault.LostReply = 0, true
		}
		_, err := c.sim.AddFault(fault)
		c.must(err)
	}
}

// troubleWebhooks loses, repeats and reorders a tenth of the webhooks each.
func (c *cluster) troubleWebhooks(random *rand.Rand) {
	c.t.Helper()
	for n := range 2_000 {
		fault := bitbucketsim.WebhookFault{Skip: n, Times: 1}
		switch random.IntN(10) {
		case 0:
			fault.Drop = true
		case 1:
			fault.Duplicate = 2
		case 2:
			fault.Reorder = true
		default:
			continue
		}
		_, err := c.sim.AddWebhookFault(fault)
		c.must(err)
	}
}

// during does something each time that Bitbucket has been called a random number of times more, up to
// most times, until stop is called, which waits for it.
func (c *cluster) during(most int, random *rand.Rand, calls int, do func() error) (stop func()) {
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		next := 0
		for _, call := range c.sim.Calls(0) {
			next = call.Number
		}
		for range most {
			next += calls/2 + random.IntN(calls)
			reached := false
			err := c.wait("Bitbucket is called", func() bool {
				select {
				case <-done:
					return true
				default:
				}
				reached = len(c.sim.Calls(next)) > 0
				return reached
			})
			if err != nil || !reached {
				return // the test has ended, or has failed elsewhere
			}
			if err := do(); err != nil {
				c.t.Errorf("while the servers were troubled: %v", err)
				return
			}
		}
	})
	return func() {
		close(done)
		running.Wait()
	}
}

// untilMerged waits until Bitbucket has merged all of them. What lost webhooks hid is found by the
// reconciler, whose time is moved; so is that of calls without an answer, which Bitbucket here is not at any more.
func (c *cluster) untilMerged(list []opened) {
	c.t.Helper()
	looks := 0
	c.eventually("all are merged", func() bool {
		if looks++; looks%40 == 0 {
			c.reconcileNow()
			c.sql(`update signedapproval_merge_intents set updated_at = updated_at - interval '10 minutes'
				where state = 'CALLING' and task_id = '' and sentence = '' and updated_at < now() - interval '5 seconds' returning head_commit`)
			c.check(false)
		}
		return c.merged(list) == len(list)
	})
}

// TestServersAreKilled is the whole road under everything that goes wrong at once.
func TestServersAreKilled(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{servers: 3})
	random := rand.New(rand.NewPCG(seed, 1))
	c.troubleCalls(random)
	c.troubleWebhooks(random)
	kills := 0
	stop := c.during(12, rand.New(rand.NewPCG(seed, 2)), 60, func() error {
		kills++
		return c.servers[kills*2%3].restart()
	})
	list := c.openMany(30, "part")
	c.eventually("the gate knows them all", func() bool {
		c.check(false)
		c.reconcileNow()
		return len(c.sql(`select id::text from signedapproval_approval_requests`)) == len(list)
	})
	c.approveBoth(list)
	c.untilMerged(list)
	stop()
	if kills < 3 {
		t.Errorf("%d servers were killed; the test shows little", kills)
	}
	c.sim.ClearFaults()
	c.atRest()
	c.mergedOnce(list)
	if !c.shows(bitbucket.StatusSuccessful, list...) {
		t.Error("a merged head does not show SUCCESSFUL")
	}
}

func TestRedisIsLost(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{servers: 3})
	list := c.openMany(4, "flushed")
	c.must(c.redis.Client(t).FlushAll(c.ctx).Err())
	c.approveBoth(list[:2])
	c.must(c.redis.Client(t).FlushAll(c.ctx).Err())
	c.approveBoth(list[2:])
	c.untilMerged(list)

	c.redis.Kill(t)
	c.eventually("all servers notice", func() bool {
		for _, s := range c.servers {
			status, text, err := s.get(*s.address.Load(), "/readyz")
			c.must(err)
			if status != http.StatusOK {
				t.Fatalf("a server without Redis is not ready: %d %s", status, text)
			}
			if !strings.Contains(text, "redis: away") {
				return false
			}
		}
		return true
	})
	without := c.openMany(4, "without")
	c.approveBoth(without)
	c.untilMerged(without) // late, but without Redis
	half := c.openMany(2, "half")
	c.redis.Restart(t)
	c.approveBoth(half)
	list = append(append(list, without...), half...)
	c.untilMerged(list)
	c.atRest()
	c.mergedOnce(list)
}

func TestPostgresConnectionsAreCut(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{servers: 3})
	cut := 0
	stop := c.during(10, rand.New(rand.NewPCG(seed, 3)), 20, func() error {
		// Chosen first, so that it cannot be this connection itself that is ended.
		ended, err := c.query(`with theirs as materialized (
				select pid from pg_stat_activity where datname = current_database() and application_name like 'signedapproval/%')
			select pid::text from theirs where pg_terminate_backend(pid)`)
		cut += len(ended)
		return err
	})
	list := c.openMany(10, "cut")
	c.eventually("the gate knows them all", func() bool {
		c.reconcileNow() // a webhook that met a cut connection three times is lost
		return len(c.sql(`select id::text from signedapproval_approval_requests`)) == len(list)
	})
	c.approveBoth(list)
	c.untilMerged(list)
	stop()
	if cut == 0 {
		t.Error("no connection was cut")
	}
	c.atRest()
	c.mergedOnce(list)
}

// connection is how GraphQL shows the workspace's connection to its administrator.
func (c *cluster) connection() (state string) {
	c.t.Helper()
	var page struct {
		Viewer struct {
			Workspaces struct {
				Edges []struct {
					Node struct {
						Connection struct{ State, Reason string }
					}
				}
			}
		}
	}
	c.must(c.alice.Ask(c.ctx, "Bitbucket", nil, &page))
	if len(page.Viewer.Workspaces.Edges) != 1 {
		c.t.Fatalf("%d workspaces", len(page.Viewer.Workspaces.Edges))
	}
	return page.Viewer.Workspaces.Edges[0].Node.Connection.State
}

// TestAnAnswerToAnEnrolmentIsLost: the key is made and the person does not learn of it. Pressing the
// button again takes the same key up, since the device refuses to make a second one.
func TestAnAnswerToAnEnrolmentIsLost(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{servers: 1})
	list := c.openMany(1, "enrol")
	c.eventually("it waits for approval", func() bool { return c.shows(bitbucket.StatusInProgress, list...) })
	for _, lost := range []string{"finishPasskey", "confirmPasskey"} {
		var times atomic.Int64
		c.proxy.tell(func(r *http.Response) {
			body, err := io.ReadAll(r.Body)
			if err == nil && bytes.Contains(body, []byte(`"`+lost+`"`)) && times.Add(1) == 1 {
				body = body[:1] // the connection is cut
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
		})
		if _, err := c.bob.Decide(c.ctx, list[0].Place, "APPROVE"); err == nil {
			t.Fatalf("bob had an answer although the one to %s was cut", lost)
		}
		if times.Load() != 1 {
			t.Fatalf("%d answers to %s", times.Load(), lost)
		}
	}
	if _, err := c.bob.Decide(c.ctx, list[0].Place, "APPROVE"); err != nil {
		t.Fatal(err)
	}
	if keys := c.sql(`select name from signedapproval_credentials`); len(keys) != 1 {
		t.Errorf("keys: %q", keys)
	}
	c.atRest()
}

func TestTokensExpireAndAreRevoked(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{servers: 3})
	list := c.openMany(12, "token")
	c.eventually("all wait for approval", func() bool { return c.shows(bitbucket.StatusInProgress, list...) })
	c.atRest()

	// All three processes find out at the same time.
	mark := 0
	for _, call := range c.sim.Calls(0) {
		mark = call.Number
	}
	ours := bitbucketsim.GrantSelector{Consumer: c.connectKey}
	expired, err := c.sim.ExpireTokens(ours)
	c.must(err)
	if expired.Grants != 1 {
		t.Fatalf("%d grants expired", expired.Grants)
	}
	c.sql(`update signedapproval_jobs set state = 'READY', seq = seq + 1, run_at = now(), dispatched_at = null where kind = 'evaluate' returning key`)
	c.atRest()
	refreshes, refused := 0, 0
	for _, call := range c.sim.Calls(mark) {
		switch {
		case strings.HasSuffix(call.Path, "/oauth2/access_token"):
			refreshes++
		case call.Status == http.StatusUnauthorized:
			refused++
		}
	}
	if refreshes != 1 || refused == 0 {
		t.Errorf("%d refreshes after %d refused calls, want one", refreshes, refused)
	}

	revoked, err := c.sim.Revoke(ours)
	c.must(err)
	if revoked.Grants != 1 {
		t.Fatalf("%d grants were revoked", revoked.Grants)
	}
	late := c.open("late") // its webhook makes the gate ask Bitbucket
	c.eventually("the dashboard says so", func() bool { return c.connection() == "NEEDS_RECONNECTING" })
	if !c.shows(bitbucket.StatusInProgress, list...) {
		t.Error("statuses changed when the grant died")
	}
	if alarms := c.sql(`select sentence from signedapproval_alarms where kind = 'NEEDS_RECONNECTING' and closed_at is null`); len(alarms) != 1 {
		t.Errorf("alarms: %q", alarms)
	}

	c.workspace, err = c.alice.Connect(c.ctx)
	c.must(err)
	if state := c.connection(); state != "ACTIVE" {
		t.Errorf("after reconnecting the connection is %s", state)
	}
	c.eventually("what happened meanwhile is caught up with", func() bool { return c.shows(bitbucket.StatusInProgress, late) })
	list = append(list, late)
	c.approveBoth(list)
	c.untilMerged(list)
	c.atRest()
	c.mergedOnce(list)
}

// TestServersAreStopped stops all of them in the middle of work that Bitbucket holds up: some calls take
// three seconds, and some are never answered. They end well, which they would not twenty seconds after they
// were told; each job is given back, and another server takes all of it up at once. While they wait none of them is in a
// transaction.
func TestServersAreStopped(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{servers: 3})
	list := c.openMany(1, "early")
	c.eventually("one is evaluated", func() bool { return c.shows(bitbucket.StatusInProgress, list...) })
	c.must(c.approve(c.bob, list))
	hang, err := c.sim.AddFault(bitbucketsim.Fault{Person: "alice", Path: "/pullrequests/", Skip: 1, Times: 6, Hang: true})
	c.must(err)
	_, err = c.sim.AddFault(bitbucketsim.Fault{Person: "alice", DelayMS: 3000})
	c.must(err)
	list = append(list, c.openMany(11, "stop")...)
	c.eventually("Bitbucket holds up some", func() bool { return c.sim.Strikes()[hang.ID] >= 3 })
	since := c.sql(`select now()::text`)[0]
	c.eventually("it has held them up for a while", func() bool {
		return len(c.sql(`select '' where now() > $1::text::timestamptz + interval '2 seconds'`, since)) > 0
	})
	if open := c.sql(`select query from pg_stat_activity where datname = current_database() and state like 'idle in transaction%' and state_change < now() - interval '1 second'`); len(open) > 0 {
		t.Errorf("transactions are open while their servers wait for Bitbucket: %q", open)
	}
	ended := make(chan error, len(c.servers))
	for _, s := range c.servers {
		go func() { ended <- s.end(syscall.SIGTERM) }()
	}
	for range c.servers {
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("a server that was asked to stop: %v", err)
			}
		case <-c.ctx.Done():
			t.Fatal("the servers do not stop")
		}
	}
	if held := c.sql(`select kind || ' ' || key from signedapproval_jobs where holder is not null`); len(held) > 0 {
		t.Errorf("jobs were not given back: %q", held)
	}
	c.sim.ClearFaults()
	c.must(c.servers[0].start())
	c.eventually("the gate knows them all", func() bool {
		c.reconcileNow() // webhooks that met no server are lost
		return len(c.sql(`select id::text from signedapproval_approval_requests`)) == len(list)
	})
	c.approveBoth(list)
	c.untilMerged(list)
	c.atRest()
	c.mergedOnce(list)
}

// TestAWebhookThatWasAnsweredIsKept kills the server between its 2xx and whatever it meant to do next.
func TestAWebhookThatWasAnsweredIsKept(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{servers: 1})
	only := c.servers[0]
	var list []opened
	for _, name := range []string{"first", "second", "third"} {
		killed := make(chan string, 1)
		var once sync.Once
		c.proxy.tell(func(r *http.Response) {
			if r.Request.Method == http.MethodPost && strings.HasPrefix(r.Request.URL.Path, "/hooks/") && r.StatusCode/100 == 2 &&
				r.Request.Header.Get("X-Event-Key") == "pullrequest:created" {
				once.Do(func() {
					_ = only.end(syscall.SIGKILL)
					killed <- r.Request.Header.Get("X-Request-UUID")
				})
			}
		})
		list = append(list, c.open(name))
		var request string
		select {
		case request = <-killed:
		case <-c.ctx.Done():
			t.Fatal("no webhook was answered")
		}
		c.proxy.tell(nil)
		if n := len(c.sql(`select event_key from signedapproval_deliveries where request_uuid = $1`, request)); n != 1 {
			t.Errorf("a delivery that was answered with 2xx is stored %d times", n)
		}
		c.must(only.start())
	}
	c.eventually("all wait for approval", func() bool { return c.shows(bitbucket.StatusInProgress, list...) })
	c.atRest()
}
