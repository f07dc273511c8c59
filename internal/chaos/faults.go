package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// kills are what ends a process at once, as kill -9 does. The simulated Bitbucket is not among them: the real one does not
// forget when a machine of it dies, and the simulated one keeps all that it knows in memory. What others notice of such a death
// is bitbucketDies.
var kills = []weighted[trouble]{
	{20, trouble{"server killed", killServer}},
	{3, trouble{"Redis killed, back empty", killRedis}},
	{1, trouble{"PostgreSQL crashed", crashPostgres}},
}

// The names of what links tell of.
const (
	commitLost       = "commit lost"
	commitUnanswered = "commit happened, unanswered"
)

// troubles are all others.
var troubles = []weighted[trouble]{
	{4, trouble{"server frozen", freezeServer}},
	{3, trouble{"server stopped", stopServer}},
	{3, trouble{"Redis flushed", flushRedis}},
	{2, trouble{"Redis frozen", freezeRedis}},
	{2, trouble{"Redis full", fillRedis}},
	{1, trouble{"PostgreSQL restarted", restartPostgres}},
	{3, trouble{"sessions of PostgreSQL ended", endSessions}},
	{3, trouble{commitLost, failCommits(false)}},
	{3, trouble{commitUnanswered, failCommits(true)}},
	{3, trouble{"Bitbucket died", bitbucketDies}},
	{2, trouble{"Bitbucket frozen", freezeBitbucket}},
	{1, trouble{"cut from PostgreSQL", cut(toPostgres, refused)}},
	{1, trouble{"cut from Redis", cut(toRedis, refused)}},
	{1, trouble{"cut from Bitbucket", cut(toBitbucket, refused)}},
	{1, trouble{"cut from webhooks", cut(toHooks, refused)}},
	{1, trouble{"cut from people", cut(toPeople, refused)}},
	{1, trouble{"silence from PostgreSQL", cut(toPostgres, silent)}},
	{1, trouble{"silence from Redis", cut(toRedis, silent)}},
	{1, trouble{"silence from Bitbucket", cut(toBitbucket, silent)}},
	{1, trouble{"silence from webhooks", cut(toHooks, silent)}},
	{1, trouble{"silence from people", cut(toPeople, silent)}},
	{2, trouble{"webhook lost", troubleWebhooks(func(_ *rand.Rand, f *bitbucketsim.WebhookFault) { f.Drop = true })}},
	{2, trouble{"webhook repeated", troubleWebhooks(func(r *rand.Rand, f *bitbucketsim.WebhookFault) { f.Duplicate = 1 + r.IntN(3) })}},
	{2, trouble{"webhooks reordered", troubleWebhooks(func(_ *rand.Rand, f *bitbucketsim.WebhookFault) { f.Reorder = true })}},
	{2, trouble{"webhook late", troubleWebhooks(func(r *rand.Rand, f *bitbucketsim.WebhookFault) { f.DelayMS = 100 + r.IntN(1500) })}},
	{2, trouble{"call refused", troubleCalls(func(_ *rand.Rand, f *bitbucketsim.Fault) { f.Status = http.StatusBadGateway })}},
	{2, trouble{"call happened, then failed", troubleCalls(func(_ *rand.Rand, f *bitbucketsim.Fault) { f.Status, f.AfterEffect = 555, true })}},
	{2, trouble{"call happened, unanswered", troubleCalls(func(_ *rand.Rand, f *bitbucketsim.Fault) { f.LostReply = true })}},
	{2, trouble{"call late", troubleCalls(func(r *rand.Rand, f *bitbucketsim.Fault) { f.DelayMS = 200 + r.IntN(2500) })}},
	{1, trouble{"call never answered", troubleCalls(func(_ *rand.Rand, f *bitbucketsim.Fault) { f.Hang, f.Times = true, 1 })}},
	{2, trouble{"merge happened, unanswered", troubleMerges(func(f *bitbucketsim.Fault) { f.LostReply = true })}},
	{2, trouble{"merge refused for now", troubleMerges(func(f *bitbucketsim.Fault) { f.Status = http.StatusConflict })}},
	{2, trouble{"merge late", troubleMerges(func(f *bitbucketsim.Fault) { f.DelayMS = 1500 })}},
	{3, trouble{"429", throttle}},
	{2, trouble{"webhooks turned away, the queue being full", flood}},
	{2, trouble{"access tokens expired", expireTokens}},
}

func (w *world) some(random *rand.Rand) *replica { return w.replicas[random.IntN(len(w.replicas))] }

// between is a time from a to b seconds.
func between(random *rand.Rand, a, b float64) time.Duration {
	return time.Duration((a + random.Float64()*(b-a)) * float64(time.Second))
}

func killServer(w *world, _ context.Context, random *rand.Rand, name string) {
	first := random.IntN(len(w.replicas))
	for i := range w.replicas {
		r := w.replicas[(first+i)%len(w.replicas)]
		if r.signal(syscall.SIGKILL) {
			w.kill("%s is killed", r.name)
			w.struck(name)
			return
		}
	}
}

func stopServer(w *world, _ context.Context, random *rand.Rand, name string) {
	if r := w.some(random); r.signal(syscall.SIGTERM) {
		w.fault("%s is asked to stop", r.name)
		w.struck(name)
	}
}

// freezeServer lets a server sleep through its leases.
func freezeServer(w *world, ctx context.Context, random *rand.Rand, name string) {
	r, d := w.some(random), between(random, 4.5, 8)
	if !r.signal(syscall.SIGSTOP) {
		return
	}
	w.fault("%s is frozen for %s", r.name, d)
	w.struck(name)
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

var redisTurn, postgresTurn, bitbucketTurn = make(one, 1), make(one, 1), make(one, 1)

func killRedis(w *world, ctx context.Context, random *rand.Rand, name string) {
	redisTurn.try(func() {
		away := between(random, 0, 3)
		if err := w.redis.Crash(); err != nil {
			w.note("Redis cannot be killed: %v", err)
			return
		}
		w.kill("Redis is killed, and comes back empty after %s", away)
		w.struck(name)
		pause(ctx, away)
		if err := w.redis.Revive(context.WithoutCancel(ctx)); err != nil {
			w.violate("injector", []string{"Redis does not start again: " + err.Error()})
		}
	})
}

func flushRedis(w *world, ctx context.Context, _ *rand.Rand, name string) {
	client := w.client()
	defer client.Close()
	keys := client.DBSize(ctx).Val()
	if client.FlushAll(ctx).Err() != nil {
		return
	}
	w.fault("Redis is flushed, which had %d keys", keys)
	if keys > 0 {
		w.struck(name)
	}
}

// fillRedis lets Redis refuse to keep anything more.
func fillRedis(w *world, ctx context.Context, random *rand.Rand, name string) {
	redisTurn.try(func() {
		client := w.client()
		defer client.Close()
		refusals := func() string { return client.Info(ctx, "errorstats").Val() }
		before := refusals()
		if client.ConfigSet(ctx, "maxmemory", "1").Err() != nil {
			return
		}
		d := between(random, 0.5, 4)
		w.fault("Redis is full for %s", d)
		pause(ctx, d)
		if after := refusals(); strings.Contains(after, "errorstat_OOM") && after != before {
			w.struck(name)
		}
		for client.ConfigSet(context.WithoutCancel(ctx), "maxmemory", "0").Err() != nil {
			pause(context.WithoutCancel(ctx), 100*time.Millisecond) // only this turn may end it
		}
	})
}

func freezeRedis(w *world, ctx context.Context, random *rand.Rand, name string) {
	redisTurn.try(func() {
		d := between(random, 0.5, 4)
		if w.redis.Signal(syscall.SIGSTOP) == nil {
			w.fault("Redis is frozen for %s", d)
			w.struck(name)
			pause(ctx, d)
			_ = w.redis.Signal(syscall.SIGCONT) // it lives: only this turn may end it
		}
	})
}

func crashPostgres(w *world, ctx context.Context, random *rand.Rand, name string) {
	w.bouncePostgres(ctx, random, true, name)
}

func restartPostgres(w *world, ctx context.Context, random *rand.Rand, name string) {
	w.bouncePostgres(ctx, random, false, name)
}

// breather is how long PostgreSQL lives at least: on a busy machine it takes seconds to come back, and while it is away
// nothing else can be shown.
const breather = 15 * time.Second

func (w *world) bouncePostgres(ctx context.Context, random *rand.Rand, crash bool, name string) {
	postgresTurn.try(func() {
		if time.Since(w.postgresSince()) < breather {
			killServer(w, ctx, random, "server killed")
			return
		}
		away := between(random, 0, 2)
		if crash {
			w.kill("PostgreSQL crashes (immediate shutdown), and comes back after %s", away)
		} else {
			w.fault("PostgreSQL is restarted (fast shutdown), after %s", away)
		}
		w.struck(name)
		if err := w.stack.restartPostgres(ctx, crash, away); err != nil {
			w.violate("injector", []string{"PostgreSQL does not start again: " + err.Error()})
		}
	})
}

func endSessions(w *world, ctx context.Context, _ *rand.Rand, name string) {
	conn, err := w.super(ctx)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	tag, err := conn.Exec(ctx, `with theirs as materialized (select pid from pg_stat_activity where usename = 'chaos_app' and random() < 0.5)
		select pg_terminate_backend(pid) from theirs`)
	if err == nil {
		w.fault("%d sessions of PostgreSQL are ended", tag.RowsAffected())
		if tag.RowsAffected() > 0 {
			w.struck(name)
		}
	}
}

// failCommits lets the next commits of a server fail: they never happen, or they happen and nobody is told.
func failCommits(happen bool) func(w *world, _ context.Context, random *rand.Rand, _ string) {
	return func(w *world, _ context.Context, random *rand.Rand, _ string) {
		r, n := w.some(random), 1+random.IntN(4)
		r.postgres.failCommits(slices.Repeat([]bool{happen}, n)...)
		w.fault("%s: the next %d commits fail; happen all the same: %v", r.name, n, happen)
	}
}

func toPostgres(r *replica) *link  { return r.postgres }
func toRedis(r *replica) *link     { return r.redis }
func toBitbucket(r *replica) *link { return r.bitbucket }
func toHooks(r *replica) *link     { return r.hooks }
func toPeople(r *replica) *link    { return r.people }

// cut parts a server from one of the others.
func cut(which func(*replica) *link, how mode) func(w *world, ctx context.Context, random *rand.Rand, name string) {
	return func(w *world, ctx context.Context, random *rand.Rand, name string) {
		l, d := which(w.some(random)), between(random, 0.3, 5)
		before := l.hits.Load()
		w.fault("%s: %s for %s", l.name, name, d)
		l.set(how)
		pause(ctx, d)
		l.set(open)
		if l.hits.Load() > before {
			w.struck(name)
		}
	}
}

// bitbucketDies is what others notice of a machine of Bitbucket's that is killed and started again: all connections are cut,
// whatever was under way is lost or has happened without an answer, nobody is let in for a while, no webhook is sent, and of
// those on their way no answer is heard.
func bitbucketDies(w *world, ctx context.Context, random *rand.Rand, name string) {
	bitbucketTurn.try(func() {
		d := between(random, 0.3, 4)
		hits := func() (n int64) {
			for _, r := range w.replicas {
				n += r.bitbucket.hits.Load()
			}
			return n + w.front.hits.Load()
		}
		before := hits()
		w.fault("Bitbucket dies, and comes back after %s", d)
		w.front.away.Store(true)
		for _, r := range w.replicas {
			r.bitbucket.set(refused)
		}
		pause(ctx, d)
		for _, r := range w.replicas {
			r.bitbucket.set(open)
		}
		w.front.away.Store(false)
		if hits() > before {
			w.struck(name)
		}
	})
}

// freezeBitbucket lets what was asked happen late, when nobody waits for it any more.
func freezeBitbucket(w *world, ctx context.Context, random *rand.Rand, name string) {
	bitbucketTurn.try(func() {
		d := between(random, 0.5, 3)
		if w.sim.signal(syscall.SIGSTOP) == nil {
			w.fault("Bitbucket is frozen for %s", d)
			w.struck(name)
			pause(ctx, d)
			_ = w.sim.signal(syscall.SIGCONT) // it lives: only this turn may end it
		}
	})
}

func troubleWebhooks(how func(*rand.Rand, *bitbucketsim.WebhookFault)) func(w *world, ctx context.Context, random *rand.Rand, name string) {
	return func(w *world, ctx context.Context, random *rand.Rand, name string) {
		fault := bitbucketsim.WebhookFault{Skip: random.IntN(4), Times: 1 + random.IntN(4)}
		how(random, &fault)
		var made bitbucketsim.WebhookFault
		if w.sim.control(ctx, "webhook-faults", fault, &made) == nil {
			w.arm(made.ID, name)
			w.fault("webhooks: %s", describe(fault))
		}
	}
}

func describe(f bitbucketsim.WebhookFault) string {
	return fmt.Sprintf("after %d, %d are dropped: %v, repeated: %d, reordered: %v, delayed: %d ms", f.Skip, f.Times, f.Drop, f.Duplicate, f.Reorder, f.DelayMS)
}

func (w *world) anOwner(random *rand.Rand) string { return w.owners[random.IntN(len(w.owners))] }

func troubleCalls(how func(*rand.Rand, *bitbucketsim.Fault)) func(w *world, ctx context.Context, random *rand.Rand, name string) {
	return func(w *world, ctx context.Context, random *rand.Rand, name string) {
		fault := bitbucketsim.Fault{Person: w.anOwner(random), Skip: random.IntN(6), Times: 1 + random.IntN(4)}
		how(random, &fault)
		w.troubled(ctx, fault, name)
	}
}

func troubleMerges(how func(*bitbucketsim.Fault)) func(w *world, ctx context.Context, random *rand.Rand, name string) {
	return func(w *world, ctx context.Context, random *rand.Rand, name string) {
		fault := bitbucketsim.Fault{Person: w.anOwner(random), Method: http.MethodPost, Path: "/merge$", Times: 1}
		how(&fault)
		w.troubled(ctx, fault, name)
	}
}

func (w *world) troubled(ctx context.Context, fault bitbucketsim.Fault, name string) {
	var made bitbucketsim.Fault
	if w.sim.control(ctx, "faults", fault, &made) == nil {
		w.arm(made.ID, name)
		w.fault("calls of %s %s: after %d, %d answer %d (happened: %v), lost: %v, late: %d ms, never: %v", fault.Person, fault.Path, fault.Skip, fault.Times,
			fault.Status, fault.AfterEffect, fault.LostReply, fault.DelayMS, fault.Hang)
	}
}

// throttle refuses calls with 429. A gate that meets that leaves the connection alone for minutes, as it
// should, and only a Redis that is lost makes it forget: so it happens in the first third of a run alone, and never to the
// last connection, as nothing could be merged while all of them are left alone.
func throttle(w *world, ctx context.Context, random *rand.Rand, name string) {
	others := w.owners[:len(w.owners)-1]
	if end, _ := ctx.Deadline(); time.Until(end) < w.duration*2/3 || len(others) == 0 {
		return
	}
	w.troubled(ctx, bitbucketsim.Fault{Person: others[random.IntN(len(others))], Times: 3 + random.IntN(6), Status: http.StatusTooManyRequests}, name)
}

// flood sends more webhooks than can wait, while none can be stored.
func flood(w *world, ctx context.Context, random *rand.Rand, name string) {
	n, d := 200+random.IntN(800), between(random, 0.5, 2)
	w.fault("%d webhooks come at once, and cannot be stored for %s", n, d)
	if w.keepFrom(ctx, "signedapproval_deliveries", d, func() int64 { return w.front.flood(ctx, n) }) > 0 {
		w.struck(name)
	}
}

// keepFrom locks a table for a while, as a slow report might, and does something meanwhile and beyond.
func (w *world) keepFrom(ctx context.Context, table string, d time.Duration, do func() int64) int64 {
	conn, err := w.super(ctx)
	if err != nil {
		return do()
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, "begin; set local lock_timeout = '2s'; lock table "+table+" in exclusive mode"); err != nil {
		return do()
	}
	var unlocked sync.WaitGroup
	unlocked.Go(func() {
		pause(ctx, d)
		_, _ = conn.Exec(context.WithoutCancel(ctx), "rollback") // where the connection is lost it is unlocked as well
	})
	defer unlocked.Wait()
	return do()
}

// keepUnpublished lets no checkpoint come on record for a while: what waits for one has to wait.
func keepUnpublished(w *world, ctx context.Context, random *rand.Rand, _ string) {
	d := between(random, 3, 6)
	w.fault("no checkpoint of the log can be put on record for %s", d)
	w.keepFrom(ctx, "signedapproval_log_checkpoints", d, func() int64 { return 0 })
}

func expireTokens(w *world, ctx context.Context, random *rand.Rand, name string) {
	var expired bitbucketsim.GrantCount
	if w.sim.control(ctx, "grants/expire", bitbucketsim.GrantSelector{Person: w.anOwner(random)}, &expired) == nil {
		w.fault("the access tokens of a connection expire")
		if expired.Grants > 0 {
			w.struck(name)
		}
	}
}

// slowStatuses lets the writing of statuses take its time.
func slowStatuses(w *world, ctx context.Context, random *rand.Rand, name string) {
	w.troubled(ctx, bitbucketsim.Fault{
		Person: w.owners[random.IntN(len(w.owners))], Path: "/statuses/build$", Method: http.MethodPost, Times: 5, DelayMS: 800 + random.IntN(1500),
	}, name)
}

// lateEvaluations lets every evaluation take its time, and statuses be written at the second or third turn first: between the
// verdict and the turn that writes it there is time to take an approval back, and none to evaluate that.
func lateEvaluations(w *world, ctx context.Context, _ *rand.Rand, name string) {
	w.troubled(ctx, bitbucketsim.Fault{Person: w.owners[0], Path: `/pullrequests/\d+/commits$`, Agent: "turn/evaluate-", DelayMS: 5000}, name)
	w.troubled(ctx, bitbucketsim.Fault{
		Person: w.owners[0], Path: "/statuses/build$", Method: http.MethodPost, Agent: `turn/status-\d+-\d*[134679]$`, Status: http.StatusBadGateway,
	}, name)
}

// unheardPushes lets nobody hear of pushes, and all statuses be written slowly: between the last evaluation and the merge
// there is time for a push.
func unheardPushes(w *world, ctx context.Context, _ *rand.Rand, name string) {
	w.troubled(ctx, bitbucketsim.Fault{Person: w.owners[0], Path: "/statuses/build$", Method: http.MethodPost, DelayMS: 1500}, name)
	if w.sim.control(ctx, "webhook-faults", bitbucketsim.WebhookFault{Event: "^(repo:push|pullrequest:(push|updated))$", Drop: true}, nil) == nil {
		w.fault("pushes are not heard of")
	}
}
