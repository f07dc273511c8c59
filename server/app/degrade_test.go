package app_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signedapproval/bitbucket/internal/stage"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/refusal"
)

// line is a way to a database that can be cut.
type line struct {
	mu               sync.Mutex // guards what follows
	network, address string
	cut              bool
	conns            map[net.Conn]bool
}

// lay listens in place of a database, and answers the URL that leads over the line.
func lay(t *testing.T, databaseURL string, l *line) string {
	t.Helper()
	config := l.lead(t, databaseURL)
	l.conns = map[net.Conn]bool{}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { l.carry(in) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		l.set(true)
		serving.Wait()
	})
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(config.User, config.Password), Host: listener.Addr().String(),
		Path: "/" + config.Database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// lead has the line end at a database, for those who connect from now on.
func (l *line) lead(t *testing.T, databaseURL string) *pgconn.Config {
	t.Helper()
	config, err := pgconn.ParseConfig(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.network, l.address = pgconn.NetworkAddress(config.Host, config.Port)
	return config
}

func (l *line) carry(in net.Conn) {
	defer in.Close()
	l.mu.Lock()
	network, address := l.network, l.address
	l.mu.Unlock()
	out, err := net.Dial(network, address)
	if err != nil {
		return
	}
	defer out.Close()
	l.mu.Lock()
	if l.cut {
		l.mu.Unlock()
		return
	}
	l.conns[in], l.conns[out] = true, true
	l.mu.Unlock()
	var ways sync.WaitGroup
	for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
		ways.Go(func() {
			_, _ = io.Copy(way[1], way[0])
			_ = way[0].Close()
			_ = way[1].Close()
		})
	}
	ways.Wait()
	l.mu.Lock()
	delete(l.conns, in)
	delete(l.conns, out)
	l.mu.Unlock()
}

func (l *line) set(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
	if cut {
		for conn := range l.conns {
			_ = conn.Close()
		}
	}
}

// TestTheDatabaseCannot: whatever keeps PostgreSQL from committing, webhooks are turned away with 503, decisions with a
// code that says to try again, nothing turns green and nothing is half written; and all goes on by itself afterwards.
func TestTheDatabaseCannot(t *testing.T) {
	t.Parallel()
	way := &line{}
	c := newCluster(t, options{servers: 2, database: func(appURL string) string { return lay(t, appURL, way) }})
	database := func(change string) {
		t.Helper()
		for _, statement := range []string{
			`alter database ` + c.db.Name + ` ` + change,
			`with theirs as materialized (select pid from pg_stat_activity where datname = current_database() and application_name like 'signedapproval/%')
				select pg_terminate_backend(pid)::text from theirs`,
		} {
			c.sql(statement)
		}
	}
	var list []opened
	for _, trouble := range []struct {
		name       string
		begin, end func()
		unready    bool // for a load balancer, too
	}{
		{"away", func() { way.set(true) }, func() { way.set(false) }, true},
		{"without a connection left", func() { database(`connection limit 0`) }, func() { database(`connection limit -1`) }, true},
		{"with a full disk", func() {
			c.sql(`create or replace function disk_full() returns trigger language plpgsql as $$ begin
				raise 'could not extend file: No space left on device' using errcode = 'disk_full'; end $$`)
			c.sql(`create constraint trigger disk_full after insert or update on signedapproval_jobs deferrable initially deferred for each row execute function disk_full()`)
		}, func() { c.sql(`drop trigger disk_full on signedapproval_jobs`) }, false},
	} {
		pr := c.open(strings.ReplaceAll(trouble.name, " ", "-"))
		list = append(list, pr)
		c.eventually("it waits for approval", func() bool { return c.status(pr.head) == bitbucket.StatusInProgress })
		c.must(c.approve(c.carol, []opened{pr}))
		signed, err := c.bob.Sign(c.ctx, pr.Place, "APPROVE")
		c.must(err)
		c.rest()
		counts := func() string {
			return strings.Join(c.sql(`select format('%s decisions, %s leaves, %s deliveries',
				(select count(*) from signedapproval_decisions), (select count(*) from signedapproval_leaves), (select count(*) from signedapproval_deliveries))`), "")
		}
		before := counts()

		trouble.begin()
		// A webhook: as Bitbucket sends it, which takes the answer and comes again.
		var answers atomic.Int32
		c.proxy.tell(func(r *http.Response) {
			if strings.HasPrefix(r.Request.URL.Path, "/hooks/") {
				if r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
					t.Errorf("%s: a webhook was answered with %d", trouble.name, r.StatusCode)
				}
				answers.Add(1)
			}
		})
		late := c.open("late-" + strings.ReplaceAll(trouble.name, " ", "-"))
		list = append(list, late)
		c.eventually("webhooks are turned away", func() bool { return answers.Load() > 0 })
		_, err = c.bob.Submit(c.ctx, signed)
		var no *stage.Refusal
		if err == nil || errors.As(err, &no) && no.Code != refusal.Busy {
			t.Errorf("%s: a decision was answered with %v", trouble.name, err)
		}
		for _, s := range c.servers {
			status, text, err := s.get(*s.address.Load(), "/readyz")
			if err != nil || (status == http.StatusOK) == trouble.unready {
				t.Errorf("%s: /readyz answers %d %s %v", trouble.name, status, text, err)
			}
		}
		if state := c.status(pr.head); state != bitbucket.StatusInProgress {
			t.Errorf("%s: the status is %s", trouble.name, state)
		}
		if after := counts(); after != before {
			t.Errorf("%s: there were %s, and now there are %s", trouble.name, before, after)
		}
		c.proxy.tell(nil)
		trouble.end()

		// By themselves: nobody restarts a server.
		c.eventually("the servers are ready", func() bool {
			for _, s := range c.servers {
				if status, _, err := s.get(*s.address.Load(), "/readyz"); err != nil || status != http.StatusOK {
					return false
				}
			}
			return true
		})
		c.must(c.approve(c.bob, []opened{pr}))
		c.reconcileNow() // Bitbucket may have given up on the webhook
		c.eventually("the other one is found", func() bool { return c.status(late.head) == bitbucket.StatusInProgress })
		c.approveBoth([]opened{late})
		c.untilMerged(list)
	}
	c.atRest()
	c.mergedOnce(list)
}

// TestBitbucketIsAway: decisions are kept, what is owed follows when Bitbucket is there again, and people are told that
// it could not be asked instead of that nothing is there.
func TestBitbucketIsAway(t *testing.T) {
	t.Parallel()
	var away atomic.Bool
	c := newCluster(t, options{servers: 2, front: func(sim http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			// Of the servers' calls alone: the test goes on to look.
			if away.Load() && strings.Contains(r.UserAgent(), "(+") {
				http.Error(w, "the site is down", http.StatusServiceUnavailable)
				return
			}
			sim.ServeHTTP(w, r)
		})
	}})
	list := c.openMany(3, "away")
	c.eventually("all wait for approval", func() bool { return c.shows(bitbucket.StatusInProgress, list...) })
	c.must(c.approve(c.carol, list))
	signed := make([]stage.Signed, len(list))
	for i, pr := range list {
		var err error
		signed[i], err = c.bob.Sign(c.ctx, pr.Place, "APPROVE")
		c.must(err)
	}
	c.rest()

	away.Store(true)
	for _, s := range signed {
		_, err := c.bob.Submit(c.ctx, s)
		c.must(err)
	}
	if kept := c.sql(`select id::text from signedapproval_decisions where action = 'APPROVE'`); len(kept) != 2*len(list) {
		t.Errorf("%d decisions are kept, want %d", len(kept), 2*len(list))
	}
	// It was tried, and put off: the job stays due.
	c.eventually("it was tried", func() bool {
		return len(c.sql(`select key from signedapproval_jobs where kind in ('evaluate', 'status') and state = 'READY' and last_error <> ''`)) > 0
	})
	if !c.shows(bitbucket.StatusInProgress, list...) {
		t.Error("a status changed while Bitbucket was away")
	}
	for _, known := range []string{"signedapproval_repository_people", "signedapproval_repository_people_lists"} {
		c.sql(`update ` + known + ` set fetched_at = now() - interval '1 hour' returning repository_id::text`)
	}
	_, err := c.bob.Panel(c.ctx, list[0].Place)
	var no *stage.Refusal
	if !errors.As(err, &no) || no.Code != refusal.BitbucketUnavailable {
		t.Errorf("the panel says %v", err)
	}

	away.Store(false)
	c.untilMerged(list)
	c.atRest()
	c.mergedOnce(list)
}
