package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/store"
)

// walker walks the bare road: the commits, hops and calls that a webhook or a decision cannot do without, one after
// another and nothing between them. The commits are made by the product's own statements, with nothing else in their
// transactions than what the ledger and the log need.
type walker struct {
	*world
	door  string // address of a server that commits a delivery and answers
	token string
	hops  [16]chan hop
	ids   sync.Map // of jobs, by key, from their ring to their claim
	next  atomic.Int64
	parts parts
}

// hop is one message that a reader waits for.
type hop struct {
	at   time.Time
	done chan time.Time
}

// parts are the durations of the parts, by name.
type parts struct {
	mu   sync.Mutex
	took map[string][]time.Duration
}

func (p *parts) add(name string, began time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.took[name] = append(p.took[name], time.Since(began))
}

func (p *parts) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var text []string
	for _, name := range partNames {
		if len(p.took[name]) > 0 {
			text = append(text, fmt.Sprintf("%s %s", name, number(milliseconds(percentile(p.took[name], 0.5)))))
		}
	}
	return strings.Join(text, ", ") + " ms (p50)"
}

const (
	partIntake  = "webhook in, committed"
	partDecide  = "decision in, committed"
	partHop     = "Redis hop"
	partClaim   = "claim committed"
	partRead    = "pull request and head read side by side"
	partSettle  = "verdict committed"
	partPublish = "checkpoint committed and in the sink"
	partStatus  = "status written"
)

var partNames = []string{partIntake, partDecide, partHop, partClaim, partRead, partSettle, partPublish, partStatus}

func (w *world) newWalker(ctx context.Context) (_ *walker, stop func(), err error) {
	k := &walker{world: w, parts: parts{took: map[string][]time.Duration{}}}
	w.store.Ring = func(_ context.Context, rings []store.Ring) {
		for _, r := range rings {
			k.ids.Store(r.Key, r.ID)
		}
	}
	token, err := w.sim.IssueToken(bitbucketsim.TokenRequest{Person: "alice"})
	if err != nil {
		return nil, nil, err
	}
	k.token = token.AccessToken
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	k.door = "http://" + listener.Addr().String()
	server := &http.Server{Handler: http.HandlerFunc(k.take), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }() // ends by Close, and says so
	reading, endReading := context.WithCancel(ctx)
	var readers sync.WaitGroup
	for i := range k.hops {
		k.hops[i] = make(chan hop, 1024)
		if err := w.redis.XGroupCreateMkStream(ctx, stream(i), "walkers", "$").Err(); err != nil && !strings.HasPrefix(err.Error(), "BUSYGROUP") {
			endReading()
			return nil, nil, errors.Join(err, server.Close())
		}
		readers.Go(func() { k.read(reading, i) })
	}
	return k, func() {
		endReading()
		readers.Wait()
		_ = server.Close() // it ends with this process at the latest
	}, nil
}

func stream(i int) string { return fmt.Sprintf("bench:{walk-%d}", i) }

// read reads one stream as a worker would.
func (k *walker) read(ctx context.Context, i int) {
	for ctx.Err() == nil {
		got, err := k.redis.XReadGroup(ctx, &redis.XReadGroupArgs{Group: "walkers", Consumer: "one", Streams: []string{stream(i), ">"}, Count: 8, Block: 100 * time.Millisecond}).Result()
		if err != nil || len(got) == 0 {
			continue
		}
		now := time.Now()
		for range got[0].Messages {
			(<-k.hops[i]).done <- now
		}
	}
}

// hop sends one message through Redis.
func (k *walker) hop(ctx context.Context, key int64) error {
	i := int(key) % len(k.hops)
	h := hop{at: time.Now(), done: make(chan time.Time, 1)}
	k.hops[i] <- h
	if err := k.redis.XAdd(ctx, &redis.XAddArgs{Stream: stream(i), Values: map[string]any{"id": key, "kind": "walk", "key": strconv.FormatInt(key, 10)}}).Err(); err != nil {
		return err
	}
	select {
	case <-h.done:
		k.parts.add(partHop, h.at)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// take is the bare door: it commits what came, a delivery with its job or a leaf with a job.
func (k *walker) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	key := r.Header.Get("X-Request-UUID")
	if err == nil && r.URL.Path == "/decision" {
		err = k.store.Outside(r.Context(), func(sh *store.Shared) error {
			sh.AppendLeaf(bareWorkspace, evidence.LeafHash(body), body, "", 0)
			return sh.Enqueue(r.Context(), job(key))
		})
	} else if err == nil {
		err = k.store.AcceptDeliveries(r.Context(), []store.Delivery{{
			RequestUUID: key, Workspace: bareWorkspace, Repository: bareRepository, EventKey: "pullrequest:created", Attempt: 1,
			Outcome: store.DeliveryParsed, Body: body, Jobs: []store.JobSpec{job(key)},
		}})
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func job(key string) store.JobSpec {
	return store.JobSpec{Kind: "walk", Key: key, Workspace: bareWorkspace}
}

// claim takes a job of a walk.
func (k *walker) claim(ctx context.Context, key string) (store.Claim, error) {
	defer k.parts.add(partClaim, time.Now())
	id, rung := k.ids.LoadAndDelete(key)
	if !rung {
		return store.Claim{}, errors.New("a job was not rung")
	}
	claimed, ok, err := k.store.ClaimJob(ctx, id.(int64), bareRepository, time.Minute)
	if err == nil && !ok {
		err = errors.New("a job cannot be claimed")
	}
	return claimed.Claim, err
}

// call makes one call to Bitbucket's API.
func (k *walker) call(ctx context.Context, method, path string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, method, k.sim.URL()+"/2.0/repositories/"+rocket+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+k.token)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := k.http.Do(request)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, response.Body)
	if err = errors.Join(err, response.Body.Close()); err == nil && response.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s was answered with %s", method, path, response.Status)
	}
	return err
}

// enter posts to the bare door.
func (k *walker) enter(ctx context.Context, path, key string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, k.door+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("X-Request-UUID", key)
	response, err := k.http.Do(request)
	if err != nil {
		return err
	}
	if err := response.Body.Close(); err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		return errors.New("the bare door answered " + response.Status)
	}
	return nil
}

// walk walks the road of a webhook, or of a decision, to a status of its own on the pull request's head. It answers how long the
// parts took together: they are done one after another, so that is how long it took.
func (k *walker) walk(ctx context.Context, p pull, decision bool) (time.Duration, error) {
	began := time.Now()
	key, n := uuid.NewString(), k.next.Add(1)
	path, part, state := "/webhook", partIntake, "INPROGRESS"
	if decision {
		path, part, state = "/decision", partDecide, "SUCCESSFUL"
	}
	steps := []func() error{
		func() error {
			defer k.parts.add(part, time.Now())
			return k.enter(ctx, path, key, p.hook.Body)
		},
		func() error { return k.hop(ctx, n) },
		func() error { return k.evaluate(ctx, p, key) },
		func() error { return k.hop(ctx, n) },
		func() error {
			_, err := k.claim(ctx, "status "+key)
			return err
		},
	}
	if decision {
		steps = append(steps, func() error { return k.publish(ctx, n) })
	}
	steps = append(steps, func() error {
		defer k.parts.add(partStatus, time.Now())
		status := fmt.Sprintf(`{"key": "bench-%d", "state": %q, "url": "https://bench.example/%d", "refname": "walk"}`, n, state, n)
		return k.call(ctx, http.MethodPost, "/commit/"+p.head+"/statuses/build", []byte(status))
	})
	for _, step := range steps {
		if err := step(); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

// evaluate claims, reads, and commits a verdict: a leaf, the next job and the end of this one.
func (k *walker) evaluate(ctx context.Context, p pull, key string) error {
	claim, err := k.claim(ctx, key)
	if err != nil {
		return err
	}
	began := time.Now()
	at := fmt.Sprintf("/pullrequests/%d", p.Number)
	failed := make(chan error, 2)
	go func() { failed <- k.call(ctx, http.MethodGet, at, nil) }()
	go func() { failed <- k.call(ctx, http.MethodGet, at+"/commits?pagelen=1", nil) }()
	if err := errors.Join(<-failed, <-failed); err != nil {
		return err
	}
	k.parts.add(partRead, began)
	defer k.parts.add(partSettle, time.Now())
	return k.store.Outside(ctx, func(sh *store.Shared) error {
		entry := []byte(key)
		sh.AppendLeaf(bareWorkspace, evidence.LeafHash(entry), entry, "", 0)
		if err := sh.Enqueue(ctx, job("status "+key)); err != nil {
			return err
		}
		return sh.FinishJob(ctx, claim, time.Time{})
	})
}

// publish takes the leaves into the tree and writes a checkpoint into a sink.
func (k *walker) publish(ctx context.Context, n int64) error {
	defer k.parts.add(partPublish, time.Now())
	_, head, err := k.store.GrowTree(ctx)
	if err != nil {
		return err
	}
	note := fmt.Appendf(nil, "bench\n%d\n%x\n", head.Size, head.Root)
	path := filepath.Join(k.dir, fmt.Sprintf("walk-%d", n))
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = file.Write(note)
	if err = errors.Join(err, file.Sync(), file.Close(), os.Remove(path)); err != nil {
		return err
	}
	return k.store.PutCheckpoint(ctx, head, note)
}
