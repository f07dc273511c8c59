package app_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signedapproval/bitbucket/internal/stage"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// How much is measured. Server, PostgreSQL, Redis, the simulated Bitbucket and the sender share the
// machine.
const (
	latencySamples  = 200
	latencyRate     = 20 // per second
	decisionSamples = 60
	decisionRate    = 10
	burst           = 600
	intakeHooks     = 10_000
	intakeSenders   = 64
	coldStarts      = 10
)

// BenchmarkServer measures one server process as a whole, and prints a table at its end. An
// operation is a whole load, so the time of an operation says nothing.
func BenchmarkServer(b *testing.B) {
	var report figures
	counter := &statements{}
	counted := newBench(b, options{servers: 1, database: counter.between(b)})
	report.measure(b, "cost", func() figures { return counted.cost(counter) })

	bench := newBench(b, options{servers: 1})
	report.measure(b, "memory-idle", func() figures { return figures{{"resident memory, idle", "MB", bench.memory()}} })
	for _, delay := range []int{0, 50} {
		load := fmt.Sprintf("calls to Bitbucket take %d ms", delay)
		report.measure(b, fmt.Sprintf("webhook-to-INPROGRESS-%dms", delay), func() figures { return bench.toInProgress(delay, load) })
		report.measure(b, fmt.Sprintf("decision-to-SUCCESSFUL-%dms", delay), func() figures { return bench.toSuccessful(delay, load) })
		report.measure(b, fmt.Sprintf("evaluations-%dms", delay), func() figures { return bench.evaluations(delay, load) })
	}
	report.measure(b, "intake", bench.intake)
	report.measure(b, "memory-after-load", func() figures { return figures{{"resident memory, after all of this", "MB", bench.memory()}} })
	report.measure(b, "cold-start", bench.coldStart)
	report.measure(b, "binary", bench.size)
	report.print()
}

// figure is one thing that was measured.
type figure struct {
	what, unit string
	value      float64
}

type figures []figure

// measure measures once, however often the benchmark is run.
func (f *figures) measure(b *testing.B, name string, once func() figures) {
	b.Helper()
	var found figures
	b.Run(name, func(b *testing.B) {
		if found == nil {
			found = once()
			*f = append(*f, found...)
		}
		b.ReportMetric(0, "ns/op")
		for _, one := range found {
			b.ReportMetric(one.value, strings.Map(func(r rune) rune {
				if r == ' ' {
					return '-'
				}
				return r
			}, strings.TrimSpace(one.what+" "+one.unit)))
		}
	})
}

func (f figures) print() {
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out)
	for _, one := range f {
		digits := 0
		if one.value < 100 {
			digits = 1
		}
		fmt.Fprintf(out, "%s\t%s %s\n", one.what, strconv.FormatFloat(one.value, 'f', digits, 64), one.unit)
	}
	_ = out.Flush()
}

// bench is a cluster whose webhooks the benchmark sends by itself.
type bench struct {
	*cluster
	http *http.Client

	mu     sync.Mutex
	secret string               // of the webhook, as Bitbucket was told
	hook   string               // its path
	shown  map[string]time.Time // "commit state" -> when Bitbucket had it
	moved  chan struct{}        // holds one wake-up: shown grew
	number int                  // of the next pull request's branch
}

// newBench gates the repository by a rule that one approval satisfies and that merges nothing.
func newBench(b *testing.B, o options) *bench {
	b.Helper()
	s := &bench{shown: map[string]time.Time{}, moved: make(chan struct{}, 1), http: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: intakeSenders}, Timeout: 30 * time.Second,
	}}
	o.front, o.patience = s.front, 20*time.Minute
	s.cluster = newCluster(b, o)
	approvers, err := s.alice.Accounts(s.ctx, s.workspace, "Bob", "Carol")
	s.must(err)
	_, err = s.alice.Gate(s.ctx, s.workspace, s.repository, map[string]any{
		"name": "Releases", "branches": []string{"release/*"},
		"requirements": []any{map[string]any{"name": "Approval", "quorum": 1, "approvers": approvers}},
	})
	s.must(err)
	_, err = s.sim.AddWebhookFault(bitbucketsim.WebhookFault{Event: "^(pullrequest:|repo:push)", Drop: true})
	s.must(err)
	// The reconciler would find the pull requests before their webhooks are sent.
	s.eventually("the first walk is over, and the next one far away", func() bool {
		return len(s.sql(`update signedapproval_jobs set run_at = now() + interval '1 day' where kind = 'reconcile' and state = 'READY' and holder is null
			and exists (select from signedapproval_bitbucket_repo_configs where reconciled_at is not null) and run_at > now() returning key`)) > 0
	})
	s.rest()
	return s
}

// front stands before Bitbucket: it learns the webhook's secret, and when a status is there.
func (s *bench) front(sim http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hook := r.Method != http.MethodGet && strings.Contains(r.URL.Path, "/hooks")
		status := r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/statuses/build")
		if !hook && !status {
			sim.ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		sim.ServeHTTP(w, r)
		var sent struct{ Secret, URL, State string }
		if json.Unmarshal(body, &sent) != nil {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if hook && sent.Secret != "" {
			at, err := url.Parse(sent.URL)
			if err == nil {
				s.secret, s.hook = sent.Secret, at.Path
			}
		}
		if status {
			segments := strings.Split(r.URL.Path, "/")
			s.shown[segments[len(segments)-3]+" "+sent.State] = time.Now()
			select {
			case s.moved <- struct{}{}:
			default:
			}
		}
	})
}

// waitShown waits until Bitbucket has a state on all the commits, and answers since when.
func (s *bench) waitShown(state string, list []opened) []time.Time {
	s.t.Helper()
	times := make([]time.Time, 0, len(list))
	for _, pr := range list {
		for {
			s.mu.Lock()
			at, ok := s.shown[pr.head+" "+state]
			s.mu.Unlock()
			if ok {
				times = append(times, at)
				break
			}
			select {
			case <-s.moved:
			case <-s.ctx.Done():
				s.t.Fatalf("%s does not show %s\n%s", pr.head, state, s.unfinished())
			}
		}
	}
	return times
}

// delay makes every call to Bitbucket take so many milliseconds more, once what went before is over.
func (s *bench) delay(milliseconds int) {
	s.t.Helper()
	s.rest()
	s.sim.ClearFaults()
	_, err := s.sim.AddWebhookFault(bitbucketsim.WebhookFault{Event: "^(pullrequest:|repo:push)", Drop: true})
	s.must(err)
	if milliseconds > 0 {
		_, err := s.sim.AddFault(bitbucketsim.Fault{DelayMS: milliseconds})
		s.must(err)
	}
}

// created opens pull requests on Bitbucket and answers their webhooks, which were not sent.
func (s *bench) created(n int) (list []opened, hooks []bitbucketsim.Delivery) {
	s.t.Helper()
	last := 0
	for _, d := range s.sim.Deliveries() {
		last = d.ID
	}
	for range n {
		s.number++
		list = append(list, s.open(fmt.Sprintf("b%05d", s.number)))
	}
	for _, d := range s.sim.Deliveries() {
		if d.ID > last && d.Event == "pullrequest:created" {
			hooks = append(hooks, d)
		}
	}
	if len(hooks) != n {
		s.t.Fatalf("%d webhooks of %d pull requests", len(hooks), n)
	}
	return list, hooks
}

// send sends a webhook straight to the server, and answers the status.
func (s *bench) send(d bitbucketsim.Delivery, id string) (int, error) {
	s.mu.Lock()
	secret, hook := s.secret, s.hook
	s.mu.Unlock()
	request, err := http.NewRequestWithContext(s.ctx, http.MethodPost, "http://"+*s.servers[0].address.Load()+hook, bytes.NewReader(d.Body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Event-Key", d.Event)
	request.Header.Set("X-Request-UUID", id)
	request.Header.Set("X-Attempt-Number", "1")
	request.Header.Set("X-Hub-Signature", bitbucketsim.Sign(secret, d.Body))
	response, err := s.http.Do(request)
	if err != nil {
		return 0, err
	}
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode, response.Body.Close()
}

// accepted sends a webhook that must be taken.
func (s *bench) accepted(d bitbucketsim.Delivery) error {
	status, err := s.send(d, d.RequestUUID)
	if err == nil && status != http.StatusNoContent {
		err = fmt.Errorf("a webhook was answered with %d", status)
	}
	return err
}

// paced does n things at a rate per second, whether or not those before have ended, and answers when
// each began.
func (s *bench) paced(n, rate int, do func(i int) error) []time.Time {
	s.t.Helper()
	began := make([]time.Time, n)
	failed := make(chan error, n)
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for i := range n {
		<-tick.C
		began[i] = time.Now()
		go func() { failed <- do(i) }()
	}
	for range n {
		s.must(<-failed)
	}
	return began
}

func latencies(what string, began, ended []time.Time) (found figures) {
	took := make([]float64, len(began))
	for i := range began {
		took[i] = float64(ended[i].Sub(began[i]).Microseconds()) / 1000
	}
	slices.Sort(took)
	for _, p := range []int{50, 99} {
		found = append(found, figure{fmt.Sprintf("%s, p%d", what, p), "ms", took[min(len(took)*p/100, len(took)-1)]})
	}
	return found
}

func (s *bench) toInProgress(delay int, load string) figures {
	s.delay(0)
	list, hooks := s.created(latencySamples)
	s.delay(delay)
	began := s.paced(len(list), latencyRate, func(i int) error { return s.accepted(hooks[i]) })
	return latencies(fmt.Sprintf("webhook to INPROGRESS, %d/s, %s", latencyRate, load), began, s.waitShown("INPROGRESS", list))
}

// toSuccessful measures from the submission of a decision that was signed before. Two people take
// turns: what one may ask for in a short time is limited.
func (s *bench) toSuccessful(delay int, load string) figures {
	s.delay(0)
	list, hooks := s.created(decisionSamples)
	s.pour(len(list), func(i int) error { return s.accepted(hooks[i]) })
	s.waitShown("INPROGRESS", list)
	submit := make([]func() error, len(list))
	for i, pr := range list {
		who := []*stage.Person{s.bob, s.carol}[i%2]
		signed, err := who.Sign(s.ctx, pr.Place, "APPROVE")
		s.must(err)
		submit[i] = func() error { _, err := who.Submit(s.ctx, signed); return err }
	}
	s.delay(delay)
	began := s.paced(len(list), decisionRate, func(i int) error { return submit[i]() })
	return latencies(fmt.Sprintf("decision to SUCCESSFUL, %d/s, %s", decisionRate, load), began, s.waitShown("SUCCESSFUL", list))
}

// evaluations sends a burst of webhooks of new pull requests and waits for the last status.
func (s *bench) evaluations(delay int, load string) figures {
	s.delay(0)
	list, hooks := s.created(burst)
	s.delay(delay)
	began := time.Now()
	s.pour(len(hooks), func(i int) error { return s.accepted(hooks[i]) })
	ended := slices.MaxFunc(s.waitShown("INPROGRESS", list), time.Time.Compare)
	return figures{{fmt.Sprintf("new heads evaluated and shown, %s", load), "/s", float64(len(list)) / ended.Sub(began).Seconds()}}
}

// pour does n things from as many goroutines as there are senders.
func (s *bench) pour(n int, do func(i int) error) {
	s.t.Helper()
	var next atomic.Int64
	failed := make(chan error, intakeSenders)
	for range intakeSenders {
		go func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					failed <- nil
					return
				}
				if err := do(i); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	for range intakeSenders {
		s.must(<-failed)
	}
}

// intake pours webhooks of known pull requests in, as fast as they are answered. Their evaluations
// run meanwhile.
func (s *bench) intake() figures {
	s.delay(0)
	_, hooks := s.created(100)
	var refused atomic.Int64
	began := time.Now()
	s.pour(intakeHooks, func(i int) error {
		status, err := s.send(hooks[i%len(hooks)], uuid.NewString())
		if status != http.StatusNoContent {
			refused.Add(1)
		}
		return err
	})
	took := time.Since(began)
	s.rest()
	return figures{
		{fmt.Sprintf("webhooks stored, %d connections", intakeSenders), "/s", float64(intakeHooks-refused.Load()) / took.Seconds()},
		{fmt.Sprintf("of %d webhooks refused", intakeHooks), "", float64(refused.Load())},
	}
}

// coldStart starts further servers beside the first, until they are ready.
func (s *bench) coldStart() figures {
	path, err := program()
	s.must(err)
	var began, ended []time.Time
	for range coldStarts {
		cmd := exec.CommandContext(s.ctx, path, "serve")
		serving := make(chan string, 1)
		cmd.Stderr = &announcer{to: io.Discard, serving: serving}
		cmd.Env = append(os.Environ(), s.env...)
		began = append(began, time.Now())
		s.must(cmd.Start())
		address := <-serving
		status, text, err := s.servers[0].get(address, "/readyz")
		s.must(err)
		if status != http.StatusOK {
			s.t.Fatalf("a server is not ready: %d %s", status, text)
		}
		ended = append(ended, time.Now())
		s.must(cmd.Process.Kill())
		_ = cmd.Wait()
	}
	return latencies("cold start to /readyz", began, ended)
}

func (s *bench) size() figures {
	path, err := program()
	s.must(err)
	info, err := os.Stat(path)
	s.must(err)
	return figures{{"binary", "MB", float64(info.Size()) / 1e6}}
}

// memory is what of the server is resident, in megabytes.
func (s *bench) memory() float64 {
	s.t.Helper()
	out, err := exec.CommandContext(s.ctx, "ps", "-o", "rss=", "-p", strconv.Itoa(s.servers[0].process.PID())).Output()
	s.must(err)
	kilobytes, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	s.must(err)
	return kilobytes / 1000
}

// cost counts what an evaluation asks of PostgreSQL and of Bitbucket: from the webhook of a new pull
// request to the status that was paid and the webhook of that status, and again where nothing has
// changed.
func (s *bench) cost(counter *statements) (found figures) {
	const n = 200
	list, hooks := s.created(n)
	for _, what := range []string{"of a new head", "where nothing changed"} {
		calls, statements, trips := len(s.sim.Calls(0)), counter.statements.Load(), counter.trips.Load()
		for i := range hooks {
			s.must(s.accepted(hooks[i])) // one after the other: no commit takes two in
			hooks[i].RequestUUID = uuid.NewString()
		}
		s.waitShown("INPROGRESS", list)
		s.rest()
		found = append(found,
			figure{"SQL statements, evaluation " + what, "", float64(counter.statements.Load()-statements) / n},
			figure{"round trips to PostgreSQL, evaluation " + what, "", float64(counter.trips.Load()-trips) / n},
			figure{"calls to Bitbucket, evaluation " + what, "", float64(len(s.sim.Calls(0))-calls) / n})
	}
	return found
}

// statements counts what is asked of PostgreSQL, on the wire.
type statements struct{ statements, trips atomic.Int64 }

// between puts the counter between the server and its database.
func (c *statements) between(b *testing.B) func(string) string {
	return func(appURL string) string {
		to, err := pgconn.ParseConfig(appURL)
		if err != nil {
			b.Fatal(err)
		}
		network, address := pgconn.NetworkAddress(to.Host, to.Port)
		listener, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = listener.Close() })
		go func() {
			for {
				client, err := listener.Accept()
				if err != nil {
					return
				}
				go c.forward(client, network, address)
			}
		}()
		u := url.URL{Scheme: "postgres", User: url.UserPassword(to.User, to.Password), Host: listener.Addr().String(), Path: "/" + to.Database, RawQuery: "sslmode=disable"}
		return u.String()
	}
}

func (c *statements) forward(client net.Conn, network, address string) {
	defer func() { _ = client.Close() }()
	server, err := (&net.Dialer{}).DialContext(context.Background(), network, address)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	go func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	}()
	_ = c.count(io.TeeReader(client, server))
}

// count reads the messages of a client: the first has no type. A simple query is a statement and a
// round trip; of the extended protocol Execute is a statement and Sync a round trip.
func (c *statements) count(r io.Reader) error {
	for header := make([]byte, 4); ; header = make([]byte, 5) {
		if _, err := io.ReadFull(r, header); err != nil {
			return err
		}
		length := int64(binary.BigEndian.Uint32(header[len(header)-4:])) - 4
		if len(header) == 5 {
			switch header[0] {
			case 'Q':
				c.statements.Add(1)
				c.trips.Add(1)
			case 'E':
				c.statements.Add(1)
			case 'S':
				c.trips.Add(1)
			}
		}
		if _, err := io.CopyN(io.Discard, r, length); err != nil {
			return err
		}
	}
}
