package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/server/store"
)

// delivery is one that asks for an evaluation, and for a fan-out that many ask for.
func delivery(n int) store.Delivery {
	return store.Delivery{
		RequestUUID: uuid(n), Workspace: acme, Repository: repo, EventKey: "pullrequest:updated", Attempt: 1,
		Outcome: store.DeliveryParsed, Body: bytes.Repeat(fmt.Appendf(nil, `{"n":%d}`, n), 100),
		Jobs: []store.JobSpec{
			{Kind: "evaluate", Key: fmt.Sprint(n), Workspace: acme, Payload: map[string]int{"number": n}},
			{Kind: "fan", Key: repo, Workspace: acme},
		},
	}
}

func startIntake(t *testing.T, s *store.Store, options store.IntakeOptions) *store.Intake {
	t.Helper()
	i := store.NewIntake(s, options)
	i.Start()
	t.Cleanup(i.Stop)
	return i
}

func (h *house) count(t *testing.T, from string) int {
	t.Helper()
	var n int
	h.read(t, &n, `select count(*)::integer from `+from)
	return n
}

func TestAcceptDeliveries(t *testing.T) {
	t.Parallel()
	h := open(t)
	ctx := t.Context()
	must(t, h.AcceptDeliveries(ctx, []store.Delivery{delivery(2), delivery(1), delivery(2)}))
	rung := h.rings()
	slices.Sort(rung)
	same(t, "rung", strings.Join(rung, ","), "evaluate 1,evaluate 2,fan "+repo)
	same(t, "deliveries", h.count(t, "signedapproval_deliveries"), 2)
	same(t, "asked for the fan-out", h.job(t, "fan", repo).Seq, 1)

	body, err := h.DeliveryBody(ctx, uuid(1))
	must(t, err)
	if !bytes.Equal(body, delivery(1).Body) {
		t.Errorf("stored body has %d bytes, want the %d that were sent", len(body), len(delivery(1).Body))
	}
	_, err = h.DeliveryBody(ctx, uuid(7))
	wantError(t, "a delivery that never came", err, store.ErrNotFound)
	if stored := h.count(t, "signedapproval_deliveries where octet_length(body) < 300"); stored != 2 {
		t.Errorf("%d bodies are compressed, want 2", stored)
	}

	// A repeat asks for nothing, and what is new beside it does.
	must(t, h.AcceptDeliveries(ctx, []store.Delivery{delivery(1), delivery(3)}))
	rung = h.rings()
	slices.Sort(rung)
	same(t, "rung", strings.Join(rung, ","), "evaluate 3,fan "+repo)
	same(t, "asked for the first evaluation", h.job(t, "evaluate", "1").Seq, 1)
	same(t, "asked for the fan-out", h.job(t, "fan", repo).Seq, 2)
	must(t, h.AcceptDeliveries(ctx, []store.Delivery{delivery(1)}))
	same(t, "rings of a repeat", len(h.rings()), 0)
	must(t, h.AcceptDeliveries(ctx, nil))
}

func TestDeliveryWithoutJobs(t *testing.T) {
	t.Parallel()
	h := open(t)
	d := delivery(1)
	d.Jobs, d.Outcome = nil, store.DeliveryUnknownEvent
	must(t, h.AcceptDeliveries(t.Context(), []store.Delivery{d}))
	same(t, "deliveries", h.count(t, "signedapproval_deliveries where outcome = 'UNKNOWN_EVENT'"), 1)
	same(t, "jobs", h.count(t, "signedapproval_jobs"), 0)
}

func TestIntakeTakesMany(t *testing.T) {
	t.Parallel()
	h := open(t)
	i := startIntake(t, h.Store, store.IntakeOptions{})
	var senders sync.WaitGroup
	for sender := range 16 {
		senders.Go(func() {
			for n := range 20 {
				// Each delivery comes from two senders, at about the same time.
				if err := i.Accept(t.Context(), delivery(sender/2*20+n)); err != nil {
					t.Error(err)
				}
				// What was accepted is committed.
				if n == 19 {
					same(t, "committed", h.count(t, "signedapproval_deliveries where request_uuid = '"+uuid(sender/2*20+n)+"'"), 1)
				}
			}
		})
	}
	senders.Wait()
	same(t, "deliveries", h.count(t, "signedapproval_deliveries"), 160)
	same(t, "evaluations asked for once", h.count(t, "signedapproval_jobs where kind = 'evaluate' and seq = 1"), 160)
}

// TestIntakePoison: what the database refuses fails alone, however the batches fall.
func TestIntakePoison(t *testing.T) {
	t.Parallel()
	h := open(t)
	i := startIntake(t, h.Store, store.IntakeOptions{Writers: 1, Timeout: time.Minute})
	poison := func(n int) store.Delivery {
		d := delivery(n)
		switch n % 3 {
		case 0:
			d.EventKey = "nul \x00"
		case 1:
			d.Workspace = "no uuid"
		default:
			d.Outcome = "NO_OUTCOME"
		}
		return d
	}
	// One batch for certain: the only writer waits for a lock while the queue fills.
	conn := connect(t, h.SuperURL)
	lock, err := conn.Begin(t.Context())
	must(t, err)
	_, err = lock.Exec(t.Context(), `lock table signedapproval_deliveries in access exclusive mode`)
	must(t, err)
	var senders sync.WaitGroup
	errs := make([]error, 40)
	send := func(n int) {
		d := delivery(n)
		if n%4 == 3 {
			d = poison(n)
		}
		errs[n] = i.Accept(t.Context(), d)
	}
	senders.Go(func() { send(0) })
	eventually(t, "the writer waits", func() bool { return dbtest.Waiting(t, conn, "signedapproval_deliveries") == 1 })
	for n := 1; n < len(errs); n++ {
		senders.Go(func() { send(n) })
	}
	must(t, lock.Commit(t.Context()))
	senders.Wait()
	for n, err := range errs {
		if poisoned := n%4 == 3; poisoned != (err != nil) || errors.Is(err, store.ErrBusy) {
			t.Errorf("delivery %d, poisoned %t: error %v", n, poisoned, err)
		}
	}
	same(t, "deliveries", h.count(t, "signedapproval_deliveries"), 30)
}

func TestIntakeIsBusy(t *testing.T) {
	t.Parallel()
	h := open(t)
	i := startIntake(t, h.Store, store.IntakeOptions{Writers: 1, Queue: 2, Batch: 1, Timeout: time.Minute})
	conn := connect(t, h.SuperURL)
	lock, err := conn.Begin(t.Context())
	must(t, err)
	_, err = lock.Exec(t.Context(), `lock table signedapproval_deliveries in access exclusive mode`)
	must(t, err)
	var senders sync.WaitGroup
	taken := make([]error, 3)
	senders.Go(func() { taken[0] = i.Accept(t.Context(), delivery(0)) })
	eventually(t, "the writer waits", func() bool { return dbtest.Waiting(t, conn, "signedapproval_deliveries") == 1 })
	for n := 1; n < 3; n++ {
		senders.Go(func() { taken[n] = i.Accept(t.Context(), delivery(n)) })
	}
	// Whether the queue is full shows in an answer only: the others wait.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	eventually(t, "the intake is busy", func() bool { return errors.Is(i.Accept(ctx, delivery(9)), store.ErrBusy) })
	must(t, lock.Commit(t.Context()))
	senders.Wait()
	busy := 0
	for _, err := range taken {
		if errors.Is(err, store.ErrBusy) {
			busy++ // the probe was in the queue before it
		} else {
			must(t, err)
		}
	}
	if busy > 1 {
		t.Errorf("%d deliveries were turned away, want at most one", busy)
	}
}

// TestIntakeGoesOnWithoutItsCaller: a sender that hangs up does not undo its delivery.
func TestIntakeGoesOnWithoutItsCaller(t *testing.T) {
	t.Parallel()
	h := open(t)
	i := startIntake(t, h.Store, store.IntakeOptions{Timeout: time.Minute})
	conn := connect(t, h.SuperURL)
	lock, err := conn.Begin(t.Context())
	must(t, err)
	_, err = lock.Exec(t.Context(), `lock table signedapproval_deliveries in access exclusive mode`)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan error, 1)
	go func() { answered <- i.Accept(ctx, delivery(1)) }()
	eventually(t, "the writer waits", func() bool { return dbtest.Waiting(t, conn, "signedapproval_deliveries") == 1 })
	cancel()
	wantError(t, "a caller that hung up", <-answered, context.Canceled)
	must(t, lock.Commit(t.Context()))
	eventually(t, "the delivery is committed", func() bool { return h.count(t, "signedapproval_deliveries") == 1 })
}

func TestIntakeStop(t *testing.T) {
	t.Parallel()
	h := open(t)
	i := store.NewIntake(h.Store, store.IntakeOptions{})
	i.Start()
	must(t, i.Accept(t.Context(), delivery(1)))
	i.Stop()
	i.Stop()
	wantError(t, "accept after stop", i.Accept(t.Context(), delivery(2)), store.ErrBusy)
}

// TestIntakeWithoutPostgres: while the database is away every delivery is refused, and when it is
// back they are taken again.
func TestIntakeWithoutPostgres(t *testing.T) {
	t.Parallel()
	h := open(t)
	road := newRoad(t, h.AppURL)
	s := reopen(t, road.url, store.NewKeyset())
	i := startIntake(t, s, store.IntakeOptions{})
	must(t, i.Accept(t.Context(), delivery(1)))
	road.close()
	for n := 2; n < 12; n++ {
		if err := i.Accept(t.Context(), delivery(n)); err == nil {
			t.Fatalf("delivery %d was accepted without a database", n)
		}
	}
	road.open(t)
	eventually(t, "deliveries are accepted again", func() bool { return i.Accept(t.Context(), delivery(20)) == nil })
	same(t, "deliveries", h.count(t, "signedapproval_deliveries where request_uuid in ('"+uuid(1)+"', '"+uuid(20)+"')"), 2)
	same(t, "deliveries that were refused", h.count(t, "signedapproval_deliveries")-2, 0)
}

// road is a way to the database that can be cut.
type road struct {
	url, network, address, target string
	guard                         sync.Mutex
	listener                      net.Listener
	cars                          []net.Conn
}

func newRoad(t *testing.T, databaseURL string) *road {
	t.Helper()
	config, err := pgx.ParseConfig(databaseURL)
	must(t, err)
	r := &road{network: "tcp", target: net.JoinHostPort(config.Host, fmt.Sprint(config.Port))}
	if strings.HasPrefix(config.Host, "/") {
		r.network, r.target = "unix", fmt.Sprintf("%s/.s.PGSQL.%d", config.Host, config.Port)
	}
	r.address = "127.0.0.1:0"
	r.open(t)
	t.Cleanup(r.close)
	u := url.URL{Scheme: "postgres", User: url.UserPassword(config.User, config.Password), Host: r.address, Path: config.Database, RawQuery: "sslmode=disable"}
	r.url = u.String()
	return r
}

func (r *road) open(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", r.address)
	must(t, err)
	r.guard.Lock()
	defer r.guard.Unlock()
	r.listener, r.address = listener, listener.Addr().String()
	go func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial(r.network, r.target)
			if err != nil {
				_ = in.Close()
				continue
			}
			r.guard.Lock()
			r.cars = append(r.cars, in, out)
			r.guard.Unlock()
			for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
				go func() {
					defer way[1].Close()
					_, _ = io.Copy(way[1], way[0])
				}()
			}
		}
	}()
}

func (r *road) close() {
	r.guard.Lock()
	defer r.guard.Unlock()
	_ = r.listener.Close()
	for _, car := range r.cars {
		_ = car.Close()
	}
	r.cars = nil
}

// TestIntakeOutlivesItsConnections: PostgreSQL ends every connection, as at a failover, and is there
// again at once. Nothing is turned away for that.
func TestIntakeOutlivesItsConnections(t *testing.T) {
	t.Parallel()
	h := open(t)
	i := startIntake(t, h.Store, store.IntakeOptions{Writers: 1})
	for n := range 5 {
		must(t, i.Accept(t.Context(), delivery(n)))
		h.super(t, `with theirs as materialized (
				select pid from pg_stat_activity where datname = current_database() and application_name like 'signedapproval/%')
			select pg_terminate_backend(pid) from theirs`)
	}
	must(t, i.Accept(t.Context(), delivery(5)))
	same(t, "deliveries", h.count(t, "signedapproval_deliveries"), 6)
}
