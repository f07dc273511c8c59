package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"syscall"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// trouble is one kind of fault. It may take a while; others happen meanwhile.
type trouble func(w *world, ctx context.Context, random *rand.Rand)

// kills are what ends a process at once, as kill -9 does.
var kills = []weighted[trouble]{
	{20, killServer},
	{3, killRedis},
	{1, crashPostgres},
}

// troubles are all others.
var troubles = []weighted[trouble]{
	{4, freezeServer},
	{3, stopServer},
	{3, flushRedis},
	{2, freezeRedis},
	{1, restartPostgres},
	{3, endSessions},
	{6, failCommits},
	{10, cut},
	{8, troubleWebhooks},
	{8, troubleCalls},
	{3, throttle},
	{2, flood},
	{2, expireTokens},
}

// inject does something of a list again and again until ctx ends, each at its own time, and returns when all
// of it is over.
func (w *world) inject(ctx context.Context, random *rand.Rand, every time.Duration, list []weighted[trouble]) {
	if every == 0 || len(list) == 0 {
		return
	}
	done := make(chan struct{})
	running := 0
	for {
		pause(ctx, time.Duration((0.5+random.Float64())*float64(every)))
		if ctx.Err() != nil {
			break
		}
		do, own := pick(random, list), rand.New(rand.NewPCG(random.Uint64(), random.Uint64()))
		running++
		go func() {
			do(w, ctx, own)
			done <- struct{}{}
		}()
		for drained := false; !drained; {
			select {
			case <-done:
				running--
			default:
				drained = true
			}
		}
	}
	for ; running > 0; running-- {
		<-done
	}
}

func (w *world) some(random *rand.Rand) *replica { return w.replicas[random.IntN(len(w.replicas))] }

// between is a time from a to b seconds.
func between(random *rand.Rand, a, b float64) time.Duration {
	return time.Duration((a + random.Float64()*(b-a)) * float64(time.Second))
}

func killServer(w *world, _ context.Context, random *rand.Rand) {
	first := random.IntN(len(w.replicas))
	for i := range w.replicas {
		r := w.replicas[(first+i)%len(w.replicas)]
		if r.signal(syscall.SIGKILL) {
			w.kill("%s is killed", r.name)
			return
		}
	}
}

func stopServer(w *world, _ context.Context, random *rand.Rand) {
	if r := w.some(random); r.signal(syscall.SIGTERM) {
		w.fault("%s is asked to stop", r.name)
	}
}

// freezeServer lets a server sleep through its leases.
func freezeServer(w *world, ctx context.Context, random *rand.Rand) {
	r, d := w.some(random), between(random, 4.5, 8)
	if !r.signal(syscall.SIGSTOP) {
		return
	}
	w.fault("%s is frozen for %s", r.name, d)
	pause(ctx, d)
	r.signal(syscall.SIGCONT)
}

// one guards what only one fault at a time may restart.
type one chan struct{}

func (o one) try(do func()) {
	select {
	case o <- struct{}{}:
		defer func() { <-o }()
		do()
	default:
	}
}

var redisTurn, postgresTurn = make(one, 1), make(one, 1)

func killRedis(w *world, ctx context.Context, random *rand.Rand) {
	redisTurn.try(func() {
		away := between(random, 0, 3)
		if err := w.redis.Crash(); err != nil {
			w.note("Redis cannot be killed: %v", err)
			return
		}
		w.kill("Redis is killed, and comes back empty after %s", away)
		pause(ctx, away)
		if err := w.redis.Revive(context.WithoutCancel(ctx)); err != nil {
			w.violate("injector", []string{"Redis does not start again: " + err.Error()})
		}
	})
}

func flushRedis(w *world, ctx context.Context, _ *rand.Rand) {
	client := w.client()
	defer client.Close()
	if client.FlushAll(ctx).Err() == nil {
		w.fault("Redis is flushed")
	}
}

func freezeRedis(w *world, ctx context.Context, random *rand.Rand) {
	redisTurn.try(func() {
		d := between(random, 0.5, 4)
		if w.redis.Signal(syscall.SIGSTOP) == nil {
			w.fault("Redis is frozen for %s", d)
			pause(ctx, d)
			_ = w.redis.Signal(syscall.SIGCONT) // it lives: only this turn may end it
		}
	})
}

func crashPostgres(w *world, ctx context.Context, random *rand.Rand) {
	w.bouncePostgres(ctx, random, true)
}

func restartPostgres(w *world, ctx context.Context, random *rand.Rand) {
	w.bouncePostgres(ctx, random, false)
}

func (w *world) bouncePostgres(ctx context.Context, random *rand.Rand, crash bool) {
	postgresTurn.try(func() {
		away := between(random, 0, 2)
		if crash {
			w.kill("PostgreSQL crashes (immediate shutdown), and comes back after %s", away)
		} else {
			w.fault("PostgreSQL is restarted (fast shutdown), after %s", away)
		}
		if err := w.stack.restartPostgres(ctx, crash, away); err != nil {
			w.violate("injector", []string{"PostgreSQL does not start again: " + err.Error()})
		}
	})
}

func endSessions(w *world, ctx context.Context, _ *rand.Rand) {
	conn, err := w.super(ctx)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	tag, err := conn.Exec(ctx, `with theirs as materialized (select pid from pg_stat_activity where usename = 'chaos_app' and random() < 0.5)
		select pg_terminate_backend(pid) from theirs`)
	if err == nil {
		w.fault("%d sessions of PostgreSQL are ended", tag.RowsAffected())
	}
}

func failCommits(w *world, _ context.Context, random *rand.Rand) {
	r, n := w.some(random), 1+random.IntN(4)
	happen := make([]bool, n)
	for i := range happen {
		happen[i] = random.IntN(2) == 0
	}
	r.postgres.failCommits(happen...)
	w.fault("%s: the next %d commits fail; happen all the same: %v", r.name, n, happen)
}

func cut(w *world, ctx context.Context, random *rand.Rand) {
	links := w.some(random).links()
	l, m, d := links[random.IntN(len(links))], refused, between(random, 0.3, 5)
	how := "cut"
	if random.IntN(2) == 0 {
		m, how = silent, "silent"
	}
	w.fault("%s is %s for %s", l.name, how, d)
	l.set(m)
	pause(ctx, d)
	l.set(open)
}

func troubleWebhooks(w *world, ctx context.Context, random *rand.Rand) {
	fault := bitbucketsim.WebhookFault{Skip: random.IntN(4), Times: 1 + random.IntN(4)}
	switch random.IntN(4) {
	case 0:
		fault.Drop = true
	case 1:
		fault.Duplicate = 1 + random.IntN(3)
	case 2:
		fault.Reorder = true
	default:
		fault.DelayMS = 100 + random.IntN(1500)
	}
	if w.sim.control(ctx, "webhook-faults", fault, nil) == nil {
		w.fault("webhooks: %s", describe(fault))
	}
}

func describe(f bitbucketsim.WebhookFault) string {
	return fmt.Sprintf("after %d, %d are dropped: %v, repeated: %d, reordered: %v, delayed: %d ms", f.Skip, f.Times, f.Drop, f.Duplicate, f.Reorder, f.DelayMS)
}

func troubleCalls(w *world, ctx context.Context, random *rand.Rand) {
	fault := bitbucketsim.Fault{Person: w.owners[random.IntN(len(w.owners))], Skip: random.IntN(6), Times: 1 + random.IntN(4)}
	switch random.IntN(6) {
	case 0:
		fault.Status = http.StatusBadGateway
	case 1:
		fault.Status, fault.AfterEffect = 555, true
	case 2:
		fault.LostReply = true
	case 3:
		fault.DelayMS = 200 + random.IntN(2500)
	case 4:
		fault.Hang, fault.Times = true, 1
	default:
		fault.Async, fault.Path = true, "/merge$"
	}
	w.troubled(ctx, fault)
}

func (w *world) troubled(ctx context.Context, fault bitbucketsim.Fault) {
	if w.sim.control(ctx, "faults", fault, nil) == nil {
		w.fault("calls of %s %s: after %d, %d answer %d (happened: %v), lost: %v, late: %d ms, never: %v, async: %v", fault.Person, fault.Path, fault.Skip, fault.Times,
			fault.Status, fault.AfterEffect, fault.LostReply, fault.DelayMS, fault.Hang, fault.Async)
	}
}

// throttle refuses calls with 429. A gate that meets that leaves the connection alone for minutes, as it
// should, and only a Redis that is lost makes it forget: so it happens in the first third of a run alone.
func throttle(w *world, ctx context.Context, random *rand.Rand) {
	if end, _ := ctx.Deadline(); time.Until(end) < w.duration*2/3 {
		return
	}
	w.troubled(ctx, bitbucketsim.Fault{Person: w.owners[random.IntN(len(w.owners))], Times: 2 + random.IntN(3), Status: http.StatusTooManyRequests})
}

func flood(w *world, ctx context.Context, random *rand.Rand) {
	n := 200 + random.IntN(1000)
	w.fault("%d webhooks come at once", n)
	w.front.flood(ctx, n)
}

func expireTokens(w *world, ctx context.Context, random *rand.Rand) {
	if w.sim.control(ctx, "grants/expire", bitbucketsim.GrantSelector{Person: w.owners[random.IntN(len(w.owners))]}, nil) == nil {
		w.fault("the access tokens of a connection expire")
	}
}

// slowStatuses lets the writing of statuses take its time.
func slowStatuses(w *world, ctx context.Context, random *rand.Rand) {
	w.troubled(ctx, bitbucketsim.Fault{
		Person: w.owners[random.IntN(len(w.owners))], Path: "/statuses/build$", Method: http.MethodPost, Times: 5, DelayMS: 800 + random.IntN(1500),
	})
}

// retryMerges lets every second merge fail at first, and pull requests move unheard until it is tried again.
func retryMerges(w *world, ctx context.Context, _ *rand.Rand) {
	for n := range 100 {
		w.troubled(ctx, bitbucketsim.Fault{Person: w.owners[0], Path: "/merge$", Method: http.MethodPost, Skip: 2 * n, Times: 1, Status: http.StatusBadGateway})
	}
	if w.sim.control(ctx, "webhook-faults", bitbucketsim.WebhookFault{Event: "^(repo:push|pullrequest:(push|updated))$", Drop: true}, nil) == nil {
		w.fault("pushes are not heard of")
	}
}
