package graph

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/signedapproval/bitbucket/server/people"
	"github.com/signedapproval/bitbucket/server/store"
)

// occupy takes all places, one for each of as many callers, until release is called.
func occupy(t *testing.T, p *places) (release []func()) {
	t.Helper()
	for i := range maxRunning {
		leave, no := p.take(t.Context(), fmt.Sprintf(" person:%d of many", i), false)
		if no != nil {
			t.Fatalf("place %d: %s", i, no.message)
		}
		release = append(release, sync.OnceFunc(leave))
	}
	t.Cleanup(func() {
		for _, leave := range release {
			leave()
		}
	})
	return release
}

// of is how many operations of a party run and wait, and how many run in all.
func (p *places) of(party string) (running, waiting, taken int) {
	p.guard.Lock()
	defer p.guard.Unlock()
	return p.running[party], p.waiting.Waiting(party), p.taken
}

// TestHangingOperationsHoldUpNobody: hundreds of operations that all hang, of one person, of one token and of all tokens
// of a workspace: another's is answered while the places that those may have are taken.
func TestHangingOperationsHoldUpNobody(t *testing.T) {
	t.Parallel()
	const noise = 400
	token := func(i int) Caller {
		return Caller{Kind: Token, Person: &store.Person{ID: "p1"}, Token: &people.Token{ID: fmt.Sprint(i), Workspace: "w1", Scopes: []string{"READ"}}}
	}
	member := func(i int, workspaces ...string) Caller {
		return Caller{Kind: Session, Person: &store.Person{ID: fmt.Sprint("member", i)}, Workspaces: workspaces}
	}
	for _, c := range []struct {
		name    string
		caller  func(i int) Caller
		counted string
		most    int // may run
		refused int // at once: there is no room for them to wait
	}{
		{"a person", func(int) Caller { return somebody }, nowhere + " person:p1", maxOfCaller, noise - maxOfCaller - maxWaiting},
		{"a token", func(int) Caller { return token(0) }, "w1 token:0", maxOfCaller, noise - maxOfCaller - maxWaiting},
		{"the tokens of a workspace", func(i int) Caller { return token(i % 100) }, "w1", maxOfWorkspace, 0},
		{"the people of a workspace", func(i int) Caller { return member(i%100, "w1") }, "w1", maxOfWorkspace, 0},
		{"its people, half of whom are in a second one", func(i int) Caller { return member(i%100, []string{"w1", "w3"}[:1+i%2]...) }, "w1", maxOfWorkspace, 0},
		{"people who are in no workspace", func(i int) Caller { return member(i % 100) }, nowhere, maxOfWorkspace, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, "", false)
			b.places.patience = time.Hour
			b.identify = func(r *http.Request) (Caller, error) { return r.Context().Value(t).(Caller), nil }
			hanging, end := context.WithCancel(t.Context())
			var asked sync.WaitGroup
			t.Cleanup(func() { end(); asked.Wait() })
			as := func(ctx context.Context, caller Caller) func(*http.Request) {
				return func(r *http.Request) { *r = *r.WithContext(context.WithValue(ctx, t, caller)) }
			}
			refused := make(chan reply, noise)
			for i := range noise {
				asked.Go(func() {
					if got := b.post(t, `{"query":"{ slow }"}`, as(hanging, c.caller(i))); got.status == http.StatusTooManyRequests {
						refused <- got
					}
				})
			}
			eventually(t, "what may run runs, and the others wait or are refused", func() bool {
				running, _, _ := b.places.of(c.counted)
				b.places.guard.Lock()
				defer b.places.guard.Unlock()
				waiting := 0
				for i := range 100 {
					waiting += b.places.waiting.Waiting(party(c.caller(i), c.caller(i).key(nil)))
				}
				if c.most == maxOfCaller {
					waiting /= 100 // one and the same
				}
				return running == c.most && waiting == noise-c.most-c.refused && len(refused) == c.refused
			})
			others := []Caller{member(1000, "w2"), {Kind: Token, Person: &store.Person{ID: "p1"}, Token: &people.Token{ID: "t2", Workspace: "w2"}}}
			for _, other := range others {
				if got := b.post(t, `{"query":"{ open }"}`, as(t.Context(), other)); got.status != http.StatusOK || len(got.Errors) > 0 {
					t.Errorf("another's: %d %s", got.status, got.body)
				}
			}
			if running, _, taken := b.places.of(c.counted); running != c.most || taken != c.most {
				t.Errorf("%d of the noisy one run, %d in all, want %d", running, taken, c.most)
			}
			for range c.refused {
				if got := <-refused; got.code() != codeTooMany {
					t.Errorf("refused with %s", got.body)
				}
			}
		})
	}
}

// TestCallersTakeTurns: where all places are taken, who comes with one operation waits for one of the other's, however
// many of those came before.
func TestCallersTakeTurns(t *testing.T) {
	t.Parallel()
	p := newPlaces(nil)
	p.patience, p.eventPatience = time.Hour, time.Hour
	release := occupy(t, p)
	served := make(chan string)
	ctx, end := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	t.Cleanup(func() { end(); waiting.Wait() })
	wait := func(party string, n int) {
		for i := range n {
			waiting.Go(func() {
				if leave, no := p.take(ctx, party, i%2 == 0); no == nil {
					served <- party
					leave()
				}
			})
			eventually(t, "it waits", func() bool { _, waits, _ := p.of(party); return waits == i+1 })
		}
	}
	wait(" person:noisy", 10)
	wait(" person:other", 1)
	release[0]() // one place; it goes from hand to hand
	for i, want := range []string{" person:noisy", " person:other", " person:noisy"} {
		if got := <-served; got != want {
			t.Fatalf("turn %d was that of %q, want %q", i, got, want)
		}
	}
	for range 8 {
		<-served
	}
}

// TestTheLastPlacesAreKept: callers of whom something runs cannot have them.
func TestTheLastPlacesAreKept(t *testing.T) {
	t.Parallel()
	outcomes := make(chan string, 1000)
	p := newPlaces(func(outcome string, _ time.Duration) { outcomes <- outcome })
	p.patience = time.Millisecond
	take := func(party string) string {
		leave, no := p.take(t.Context(), party, false)
		if no == nil {
			t.Cleanup(leave)
		}
		return <-outcomes
	}
	for i := range maxRunning - keptPlaces {
		if got := take(fmt.Sprintf(" person:%d", i%10)); got != waitServed {
			t.Fatalf("operation %d: %s", i, got)
		}
	}
	for _, test := range []struct{ party, want string }{
		{" person:0", waitOverload},
		{"w1 token:1", waitServed},
		{"w1 token:2", waitOverload}, // of the same workspace
		{"w2 token:1", waitServed},
		{" person:new", waitServed},
	} {
		if got := take(test.party); got != test.want {
			t.Errorf("%s: %s, want %s", test.party, got, test.want)
		}
	}
}

// TestWaitingInVain says whose fault it is, and when to come again.
func TestWaitingInVain(t *testing.T) {
	t.Parallel()
	own := newBench(t, "", false)
	own.places.patience = time.Millisecond
	for range maxOfCaller {
		leave, no := own.places.take(t.Context(), nowhere+" person:p1", false)
		if no != nil {
			t.Fatal(no.message)
		}
		t.Cleanup(leave)
	}
	if got := own.ask(t, `{ open }`, ""); got.code() != codeTooMany || got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") != retryAfter {
		t.Errorf("beside one's own: %d %v %s", got.status, got.header, got.body)
	}
	others := newBench(t, "", false)
	others.places.patience = time.Millisecond
	occupy(t, others.places)
	if got := others.ask(t, `{ open }`, ""); got.code() != codeOverloaded || got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") != retryAfter {
		t.Errorf("beside others': %d %v %s", got.status, got.header, got.body)
	}
}

// TestPlacesAreGivenBack: whatever comes, ends, and is given up at the same time, no bound is passed, nothing is lost and
// no place is kept.
func TestPlacesAreGivenBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		p := newPlaces(nil)
		p.patience = time.Hour
		var all sync.WaitGroup
		var ends []func()
		for range rapid.IntRange(1, 200).Draw(r, "operations") {
			who := rapid.SampledFrom([]string{" person:1", " person:2", "w1 token:1", "w1 token:2", "w1 person:3", "w2 token:4", "w1,w2 person:5", "w1,w2 person:6"}).Draw(r, "who")
			ctx, giveUp := context.WithCancel(t.Context())
			done := make(chan struct{})
			ends = append(ends, rapid.SampledFrom([]func(){giveUp, func() { close(done); giveUp() }}).Draw(r, "ends"))
			all.Go(func() {
				leave, no := p.take(ctx, who, false)
				if no != nil {
					return
				}
				defer leave()
				if running, _, taken := p.of(who); running > maxOfCaller || taken > maxRunning {
					t.Errorf("%d of one run, %d in all", running, taken)
				}
				for _, workspace := range workspacesOf(who) {
					if running, _, _ := p.of(workspace); running > maxOfWorkspace {
						t.Errorf("%d of a workspace run", running)
					}
				}
				select {
				case <-done:
				case <-ctx.Done():
				}
			})
		}
		for _, end := range ends {
			end()
		}
		all.Wait()
		if left := p.waiting.Drain(); p.taken != 0 || len(p.running) != 0 || len(left) != 0 {
			r.Fatalf("%d places are kept, by %v, and %d wait", p.taken, p.running, len(left))
		}
	})
}
