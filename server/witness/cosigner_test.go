package witness_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	formats "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/internal/witnesstest"
	"github.com/signedapproval/bitbucket/server/witness"
)

// other is a witness with a server of its own, through which each request passes.
type other struct {
	*witnesstest.Witness
	url   string
	calls atomic.Int64
	// before is called for each request that reaches the server, if it is set; it answers by itself, and then gives false.
	before atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
}

func newOther(t *testing.T, name string, keys *witness.Keys) *other {
	t.Helper()
	w, err := witnesstest.New(name)
	must(t, err)
	return serveOther(t, w, keys)
}

func serveOther(t *testing.T, w *witnesstest.Witness, keys *witness.Keys) *other {
	t.Helper()
	must(t, w.Follow(keys.Verifiers()...))
	o := &other{Witness: w}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		o.calls.Add(1)
		if before := o.before.Load(); before == nil || (*before)(rw, r) {
			o.ServeHTTP(rw, r)
		}
	}))
	t.Cleanup(server.Close)
	o.url = server.URL
	return o
}

// hold keeps every request until let go, or until the caller gives up.
func (o *other) hold(t *testing.T) (letGo func()) {
	held := make(chan struct{})
	letGo = sync.OnceFunc(func() { close(held) })
	t.Cleanup(letGo)
	hold := func(_ http.ResponseWriter, r *http.Request) bool {
		select {
		case <-held:
			return true
		case <-r.Context().Done():
			return false
		}
	}
	o.before.Store(&hold)
	return letGo
}

// line is how a server is told of it.
func (o *other) line() string { return o.Key() + " " + o.url }

// told collects what a publisher says of its witnesses.
type told struct {
	guard    sync.Mutex
	outcomes map[string][]string
	log      bytes.Buffer
}

func (w *told) observe(name, outcome string, _ time.Duration) {
	w.guard.Lock()
	defer w.guard.Unlock()
	w.outcomes[name] = append(w.outcomes[name], outcome)
}

func (w *told) of(name string) []string {
	w.guard.Lock()
	defer w.guard.Unlock()
	return append([]string(nil), w.outcomes[name]...)
}

func (w *told) Write(line []byte) (int, error) {
	w.guard.Lock()
	defer w.guard.Unlock()
	return w.log.Write(line)
}

// said counts the lines of the logger that contain a text.
func (w *told) said(text string) int {
	w.guard.Lock()
	defer w.guard.Unlock()
	return strings.Count(w.log.String(), text)
}

// witnessed makes a publisher with witnesses.
func (l *ledger) witnessed(keys *witness.Keys, sink witness.Sink, quorum int, lines ...string) (*witness.Publisher, *told) {
	l.t.Helper()
	heard := &told{outcomes: map[string][]string{}}
	options := l.publisher(keys, sink).Options
	var err error
	options.Witnesses, err = witness.ParseWitnesses(lines)
	must(l.t, err)
	options.Quorum, options.ObserveWitness = quorum, heard.observe
	options.Logger = slog.New(slog.NewTextHandler(heard, nil))
	return witness.New(options), heard
}

// cosigned counts which of these witnesses signed a checkpoint.
func cosigned(t *testing.T, signed []byte, others ...*other) (count int) {
	t.Helper()
	for _, o := range others {
		verifier, err := formats.NewVerifierForCosignatureV1(o.Key())
		must(t, err)
		if opened, err := note.Open(signed, note.VerifierList(verifier)); err == nil {
			count += len(opened.Sigs)
		}
	}
	return count
}

// until polls a condition.
func until(t *testing.T, what string, met func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for !met() {
		select {
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

func (l *ledger) newest() []byte {
	l.t.Helper()
	newest, err := l.NewestCheckpoint(l.t.Context())
	must(l.t, err)
	return newest.Note
}

func TestAQuorumOfWitnessesCosigns(t *testing.T) {
	l := newLedger(t)
	keys := newKeys(t, 2)
	others := []*other{newOther(t, "one.example/w", keys), newOther(t, "two.example/w", keys), newOther(t, "three.example/w", keys)}
	folder := t.TempDir()
	p, heard := l.witnessed(keys, witness.NewDirectory(folder), 2, others[0].line(), others[1].line(), others[2].line())
	for _, more := range []int{0, 1, 7, 300} {
		size := l.grow(more)
		must(t, p.Publish(t.Context(), size))
		if n := cosigned(t, l.newest(), others...); n < 2 {
			t.Errorf("checkpoint %d was published with %d cosignatures", size, n)
		}
		verify(t, l.newest(), origin, keys.Verifiers()[1])
		// The sink has it as it was published, and the third witness is not forgotten.
		kept := sinkFile(t, folder, size)
		if n := cosigned(t, kept, others...); n < 2 {
			t.Errorf("checkpoint %d is in the sink with %d cosignatures", size, n)
		}
		until(t, "the third cosignature", func() bool { return cosigned(t, l.newest(), others...) == 3 })
	}
	for _, o := range others {
		if got := heard.of(o.name()); strings.Trim(strings.Join(got, ""), "cosigned") != "" || len(got) != 4 {
			t.Errorf("%s: %q", o.name(), got)
		}
		if o.Seen(origin) != 308 {
			t.Errorf("%s has seen %d leaves", o.name(), o.Seen(origin))
		}
	}
	// A server that starts does not know what they have seen, and learns it from them.
	calls := others[0].calls.Load()
	again, heard := l.witnessed(keys, nil, 1, others[0].line())
	must(t, again.Publish(t.Context(), l.grow(5)))
	if got := others[0].calls.Load() - calls; got != 2 {
		t.Errorf("it took %d calls", got)
	}
	if got := heard.of(others[0].name()); len(got) != 1 || got[0] != "cosigned" {
		t.Errorf("outcomes %q", got)
	}
}

func (o *other) name() string {
	name, _, _ := strings.Cut(o.Key(), "+")
	return name
}

// TestASlowAndADeadWitnessHoldNothingUp: beyond the quorum nobody is waited for.
func TestASlowAndADeadWitnessHoldNothingUp(t *testing.T) {
	l := newLedger(t)
	keys := newKeys(t, 1)
	good := []*other{newOther(t, "one.example/w", keys), newOther(t, "two.example/w", keys)}
	slow, dead := newOther(t, "slow.example/w", keys), newOther(t, "dead.example/w", keys)
	letGo := slow.hold(t)
	gone := httptest.NewServer(nil)
	gone.Close()
	p, heard := l.witnessed(keys, nil, 2, slow.line(), dead.Key()+" "+gone.URL, good[0].line(), good[1].line())
	for range 3 {
		must(t, p.Publish(t.Context(), l.grow(3)))
		if n := cosigned(t, l.newest(), good...); n != 2 {
			t.Errorf("%d cosignatures", n)
		}
	}
	if got := heard.of("slow.example/w"); len(got) != 0 {
		t.Errorf("it was waited for: %q", got)
	}
	if slow.calls.Load() > 1 {
		t.Errorf("a witness that does not answer has %d calls at once", slow.calls.Load())
	}
	until(t, "the dead one is noticed", func() bool { return len(heard.of("dead.example/w")) == 3 })
	if got := heard.said("witness=dead.example/w"); got != 1 {
		t.Errorf("it was said %d times", got)
	}
	letGo()
	until(t, "the slow one answers", func() bool { return len(heard.of("slow.example/w")) > 0 })
	// With one more than there are, nothing counts as published.
	for _, o := range good {
		o.hold(t)
	}
	ctx, cancel := context.WithCancel(t.Context())
	size := l.grow(1)
	done := make(chan error, 1)
	go func() { done <- p.Publish(ctx, size) }()
	until(t, "both are asked", func() bool { return good[0].calls.Load() == 4 && good[1].calls.Load() == 4 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || !errors.Is(err, witness.ErrUncosigned) {
		t.Errorf("published without a quorum: %v", err)
	}
	if l.size() == size {
		t.Error("it is on record without a quorum")
	}
}

// TestWithoutAQuorumNobodyWaits: cosignatures come when they come.
func TestWithoutAQuorumNobodyWaits(t *testing.T) {
	l := newLedger(t)
	keys := newKeys(t, 1)
	o := newOther(t, "one.example/w", keys)
	letGo := o.hold(t)
	p, _ := l.witnessed(keys, nil, 0, o.line())
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	running.Go(func() {
		if err := p.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	must(t, p.Publish(t.Context(), l.grow(3)))
	until(t, "it is asked", func() bool { return o.calls.Load() > 0 })
	must(t, p.Publish(t.Context(), l.grow(3))) // while it is held
	if n := cosigned(t, l.newest(), o); n != 0 {
		t.Errorf("%d cosignatures", n)
	}
	letGo()
	until(t, "the newest is cosigned", func() bool { return cosigned(t, l.newest(), o) == 1 })
	calls := o.calls.Load()
	// What has all cosignatures is not asked for again.
	must(t, p.Publish(t.Context(), 6))
	if got := o.calls.Load(); got != calls {
		t.Errorf("%d calls more", got-calls)
	}
	cancel()
	running.Wait()
}

// TestWhoDemandsCosignaturesWaitsAlone: one workspace waits for witnesses, and the others do not.
func TestWhoDemandsCosignaturesWaitsAlone(t *testing.T) {
	l := newLedger(t)
	keys := newKeys(t, 1)
	one, two := newOther(t, "one.example/w", keys), newOther(t, "two.example/w", keys)
	letGo := two.hold(t)
	p, _ := l.witnessed(keys, nil, 0, one.line(), two.line())
	size := l.grow(3)
	done := make(chan error, 2)
	for range 2 {
		go func() { done <- p.PublishCosigned(t.Context(), size, 2) }()
	}
	until(t, "it is asked", func() bool { return two.calls.Load() > 0 })
	must(t, p.Publish(t.Context(), l.grow(2)))
	must(t, p.PublishCosigned(t.Context(), size, 0))
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	if _, err := p.Cosigned(t.Context(), size, 2); !errors.Is(err, witness.ErrUncosigned) {
		t.Errorf("there is one already: %v", err)
	}
	letGo()
	must(t, <-done)
	must(t, <-done)
	found, err := p.Cosigned(t.Context(), size, 2)
	must(t, err)
	if found.Size < size || cosigned(t, found.Note, one, two) != 2 {
		t.Errorf("checkpoint %d with %d cosignatures", found.Size, cosigned(t, found.Note, one, two))
	}
	// It stays the one that is cosigned when others go on.
	must(t, p.Publish(t.Context(), l.grow(1)))
	if again, err := p.Cosigned(t.Context(), size, 2); err != nil || again.Size != found.Size {
		t.Errorf("%v, %v", again, err)
	}
	must(t, p.PublishCosigned(t.Context(), size, 2))
	if _, err := p.Cosigned(t.Context(), 6, 2); !errors.Is(err, witness.ErrUncosigned) {
		t.Errorf("a checkpoint of 5 leaves covers 6: %v", err)
	}
	if err := p.PublishCosigned(t.Context(), size, 3); !errors.Is(err, witness.ErrUncosigned) {
		t.Errorf("three of two witnesses: %v", err)
	}
}

// TestAHungWitnessHoldsUpNobodyElse: who demands the witness that hangs waits for it, and who demands fewer does not wait
// for the one that does; nor do the others miss what comes meanwhile. In the end each has as many as it demanded.
func TestAHungWitnessHoldsUpNobodyElse(t *testing.T) {
	l := newLedger(t)
	keys := newKeys(t, 1)
	one, two, hung := newOther(t, "one.example/w", keys), newOther(t, "two.example/w", keys), newOther(t, "hung.example/w", keys)
	letGo := hung.hold(t)
	p, heard := l.witnessed(keys, nil, 0, one.line(), hung.line(), two.line())
	p.WaitFor(10 * time.Minute)
	all := make(chan error, 1)
	go func() { all <- p.PublishCosigned(t.Context(), l.grow(3), 3) }()
	until(t, "it is asked", func() bool { return hung.calls.Load() > 0 })
	for range 3 {
		size := l.grow(2)
		must(t, p.PublishCosigned(t.Context(), size, 2))
		found, err := p.Cosigned(t.Context(), size, 2)
		must(t, err)
		if n := cosigned(t, found.Note, one, two); n != 2 {
			t.Errorf("%d cosignatures", n)
		}
	}
	select {
	case err := <-all:
		t.Fatalf("who demands all three did not wait: %v", err)
	default:
	}
	letGo()
	if err := <-all; err != nil {
		t.Errorf("once it is back: %v", err)
	}

	held := hung.hold(t)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = p.Run(ctx) })
	before := hung.calls.Load()
	must(t, p.Publish(t.Context(), l.grow(1)))
	until(t, "it is asked", func() bool { return hung.calls.Load() > before })
	told := len(heard.of("hung.example/w"))
	for range 2 {
		must(t, p.Publish(t.Context(), l.grow(1)))
		until(t, "the others follow", func() bool { return cosigned(t, l.newest(), one, two) == 2 })
	}
	if got := len(heard.of("hung.example/w")); got != told {
		t.Errorf("they waited for the one that hangs: it was told of %d times more", got-told)
	}
	held()
	until(t, "the one that hung follows", func() bool { return cosigned(t, l.newest(), one, two, hung) == 3 })
	cancel()
	running.Wait()
}

// TestARollbackAndAForkShownToAWitness: a log that was put back finds no witness, though there is no sink to remember.
func TestARollbackAndAForkShownToAWitness(t *testing.T) {
	l := newLedger(t)
	keys := newKeys(t, 1)
	o := newOther(t, "one.example/w", keys)
	p, heard := l.witnessed(keys, nil, 1, o.line())
	must(t, p.Publish(t.Context(), l.grow(5)))
	must(t, p.Publish(t.Context(), l.grow(5)))
	l.super(`delete from signedapproval_log_cosignatures where size > 5;` + lose)
	must(t, p.Check(t.Context())) // its own record was put back with it
	restarted, after := l.witnessed(keys, nil, 1, o.line())
	for range 2 {
		must(t, l.append(t.Context(), "another", 1))
		for who, p := range map[string]*witness.Publisher{"running": p, "starting": restarted} {
			err := p.Publish(t.Context(), 6)
			if !errors.Is(err, witness.ErrUncosigned) || !strings.Contains(err.Error(), "it has seen 10 leaves") {
				t.Errorf("%s: %v", who, err)
			}
		}
	}
	if got := l.size(); got != 5 {
		t.Errorf("checkpoint %d is on record", got)
	}
	for _, heard := range []*told{heard, after} {
		if got := heard.of("one.example/w"); got[len(got)-1] != "ahead" || heard.said("outcome=ahead") != 1 {
			t.Errorf("outcomes %q, said %d times", got, heard.said("outcome=ahead"))
		}
	}
	must(t, l.append(t.Context(), "another", 9))
	for range 2 {
		if err := restarted.Publish(t.Context(), 12); !errors.Is(err, witness.ErrUncosigned) || !strings.Contains(err.Error(), "another tree (422)") {
			t.Errorf("a fork: %v", err)
		}
	}
	if got := o.Seen(origin); got != 10 {
		t.Errorf("it has seen %d leaves", got)
	}
	if got := after.of("one.example/w"); got[len(got)-1] != "refused" {
		t.Errorf("outcomes %q", got)
	}
}

// TestAWitnessThatDoesNotKnowTheLog, or its key.
func TestAWitnessThatDoesNotKnowTheLog(t *testing.T) {
	l := newLedger(t)
	keys := newKeys(t, 1)
	private, _, err := witness.NewKey("other.example/log")
	must(t, err)
	stranger, err := witness.ParseKeys("other.example/log", []byte(private))
	must(t, err)
	unknown, wrong := newOther(t, "one.example/w", stranger), newOther(t, "two.example/w", newKeys(t, 1))
	p, heard := l.witnessed(keys, nil, 1, unknown.line(), wrong.line())
	err = p.Publish(t.Context(), l.grow(1))
	if !errors.Is(err, witness.ErrUncosigned) || !strings.Contains(err.Error(), "(404)") || !strings.Contains(err.Error(), "(403)") {
		t.Error(err)
	}
	if got := heard.said("outcome=refused"); got != 2 {
		t.Errorf("said %d times", got)
	}
	// Once their operators have added the log and the key, all is well without a restart.
	must(t, unknown.Follow(keys.Verifiers()...))
	must(t, wrong.Follow(keys.Verifiers()...))
	must(t, p.PublishCosigned(t.Context(), 1, 2))
	if got := heard.said("cosigns again"); got != 2 {
		t.Errorf("said %d times", got)
	}
}

// forger is a witness's key in the hands of a test.
type forger struct {
	name string
	key  ed25519.PrivateKey
}

func (f forger) hash() []byte {
	public, _ := f.key.Public().(ed25519.PublicKey)
	sum := sha256.Sum256(append([]byte(f.name+"\n\x04"), public...))
	return sum[:4]
}

func (f forger) verifier() string {
	public, _ := f.key.Public().(ed25519.PublicKey)
	return fmt.Sprintf("%s+%x+%s", f.name, f.hash(), base64.StdEncoding.EncodeToString(append([]byte{4}, public...)))
}

// cosign signs a text by the key, and says that it is of the time and by the key that hash names.
func (f forger) cosign(text string, at int64, hash []byte) string {
	signature := ed25519.Sign(f.key, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", at, text))
	whole := append(binary.BigEndian.AppendUint64(bytes.Clone(hash), uint64(at)), signature...)
	return "— " + f.name + " " + base64.StdEncoding.EncodeToString(whole) + "\n"
}

// TestWhatAWitnessMayNotAnswer: whatever is not its cosignature of this very checkpoint counts for nothing, and is said
// once.
func TestWhatAWitnessMayNotAnswer(t *testing.T) {
	t.Parallel()
	now := time.Now().Unix()
	var own atomic.Int64 // another time at each call
	own.Store(now)
	for name, test := range map[string]struct {
		status  int
		kind    string
		answer  func(f, stranger forger, text string) string
		outcome string
		says    string
		grows   bool // the log, between two tries
	}{
		"nothing":                   {answer: func(_, _ forger, _ string) string { return "" }},
		"a text":                    {answer: func(_, _ forger, _ string) string { return "fine\n" }},
		"half a line":               {answer: func(f, _ forger, text string) string { return strings.TrimSpace(f.cosign(text, now, f.hash())) }},
		"a cosignature and a page":  {answer: func(f, _ forger, text string) string { return f.cosign(text, now, f.hash()) + "<html>\n" }},
		"too much":                  {answer: func(f, _ forger, text string) string { return strings.Repeat(f.cosign(text, now, f.hash()), 1000) }, says: "more than"},
		"another's key":             {answer: func(_, s forger, text string) string { return s.cosign(text, now, s.hash()) }},
		"another's key in its name": {answer: func(f, s forger, text string) string { return s.cosign(text, now, f.hash()) }},
		"a signature of another size": {answer: func(f, _ forger, text string) string {
			return f.cosign(strings.Replace(text, "\n3\n", "\n4\n", 1), now, f.hash())
		}},
		"a signature of another log": {answer: func(f, _ forger, text string) string {
			return f.cosign(strings.Replace(text, origin, "other.example/log", 1), now, f.hash())
		}},
		"another checkpoint, cosigned": {answer: func(f, _ forger, text string) string {
			text = strings.Replace(text, "\n3\n", "\n4\n", 1)
			return "\n" + text + "\n" + f.cosign(text, now, f.hash())
		}},
		"a signature without a time":   {answer: func(f, _ forger, text string) string { return f.cosign(text, 0, f.hash()) }, says: "no time"},
		"a time before there was time": {answer: func(f, _ forger, text string) string { return f.cosign(text, -5, f.hash()) }},
		"tomorrow":                     {answer: func(f, _ forger, text string) string { return f.cosign(text, now+86400, f.hash()) }, says: "and it is"},
		"last week":                    {answer: func(f, _ forger, text string) string { return f.cosign(text, now-7*86400, f.hash()) }, says: "and it is"},
		"a clock of its own":           {answer: func(f, _ forger, text string) string { return f.cosign(text, own.Add(86400), f.hash()) }, says: "and it is"},
		"another tree":                 {status: 422, grows: true, answer: func(_, _ forger, _ string) string { return "" }, outcome: "refused", says: "another tree"},
		"a refusal without its size":   {status: 409, answer: func(_, _ forger, _ string) string { return "12\n" }, says: "did not say"},
		"a refusal with a text":        {status: 409, kind: "text/x.tlog.size", answer: func(_, _ forger, _ string) string { return "twelve\n" }, says: "did not say"},
		"a size with a zero before it": {status: 409, kind: "text/x.tlog.size", answer: func(_, _ forger, _ string) string { return "02\n" }, says: "did not say"},
		"a refusal of what it asks":    {status: 409, kind: "text/x.tlog.size", answer: func(_, _ forger, _ string) string { return "0\n" }, says: "and says that"},
		"a size beyond the log":        {status: 409, kind: "text/x.tlog.size", answer: func(_, _ forger, _ string) string { return "400\n" }, outcome: "ahead", says: "400 leaves"},
		"a fault":                      {status: 500, answer: func(_, _ forger, _ string) string { return "secret trace\n" }, outcome: "away"},
		"not now":                      {status: 429, answer: func(_, _ forger, _ string) string { return "" }, outcome: "away"},
		"another place":                {status: 307, answer: func(_, _ forger, _ string) string { return "" }},
		"created":                      {status: 201, answer: func(f, _ forger, text string) string { return f.cosign(text, now, f.hash()) }},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(t)
			keys := newKeys(t, 1)
			f := forger{"one.example/w", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))}
			stranger := forger{"one.example/w", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32))}
			var honest atomic.Bool
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				_, rest, _ := strings.Cut(string(body), "\n\n")
				text, _, _ := strings.Cut(rest, "\n\n")
				if honest.Load() {
					_, _ = io.WriteString(w, f.cosign(text+"\n", now, f.hash()))
					return
				}
				if test.kind != "" {
					w.Header().Set("Content-Type", test.kind)
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(max(test.status, http.StatusOK))
				_, _ = io.WriteString(w, test.answer(f, stranger, text+"\n"))
			}))
			t.Cleanup(server.Close)
			p, heard := l.witnessed(keys, nil, 1, f.verifier()+" "+server.URL)
			size := l.grow(3)
			for try := range 2 {
				if try > 0 && test.grows {
					size = l.grow(1)
				}
				err := p.Publish(t.Context(), size)
				if !errors.Is(err, witness.ErrUncosigned) || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "secret trace") {
					t.Errorf("it was believed, or: %v", err)
				}
			}
			if l.size() != -1 {
				t.Error("it is on record")
			}
			want := test.outcome
			if want == "" {
				want = "nonsense"
			}
			if got := heard.of(f.name); len(got) != 2 || got[0] != want || got[1] != want {
				t.Errorf("outcomes %q, want %q", got, want)
			}
			if got := heard.said("level=ERROR"); got != 1 {
				t.Errorf("it was said %d times", got)
			}
			honest.Store(true)
			must(t, p.Publish(t.Context(), size))
		})
	}
}

// TestPublishersAtOnceWithAQuorum: two servers show their checkpoints to three witnesses, one of which is restarted with
// nothing but what it has seen; all that is on record has its quorum, and no witness is shown anything that it refuses.
func TestPublishersAtOnceWithAQuorum(t *testing.T) {
	l := newLedger(t)
	keys := newKeys(t, 1)
	others := []*other{newOther(t, "one.example/w", keys), newOther(t, "two.example/w", keys), newOther(t, "three.example/w", keys)}
	folder := t.TempDir()
	servers := make([]*witness.Publisher, 2)
	heard := make([]*told, 2)
	for i := range servers {
		servers[i], heard[i] = l.witnessed(keys, witness.NewDirectory(folder), 2, others[0].line(), others[1].line(), others[2].line())
	}
	const writers, each = 6, 8
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for n := range each {
				err := l.append(t.Context(), fmt.Sprint(w, n), 1)
				if err != nil {
					t.Error(err)
					return
				}
				size, err := l.LogSize(t.Context())
				must(t, err)
				demand := 2 + (w+n)%2
				for try := 0; ; try++ { // as a job does
					if err = servers[(w+n)%2].PublishCosigned(t.Context(), size, demand); err == nil || try == 5 {
						break
					}
				}
				if err != nil {
					t.Error(err)
				}
				if _, err := servers[w%2].Cosigned(t.Context(), size, demand); err != nil {
					t.Errorf("%d leaves by %d witnesses: %v", size, demand, err)
				}
			}
		})
	}
	all.Wait()
	bad, err := l.Query(t.Context(), `select c.size::text from signedapproval_log_checkpoints c
		where 2 > (select count(*) from signedapproval_log_cosignatures w where w.size = c.size)`)
	must(t, err)
	if len(bad) > 0 {
		t.Errorf("checkpoints without their quorum: %q", bad)
	}
	for i := range heard {
		for _, o := range others {
			for _, outcome := range heard[i].of(o.name()) {
				if outcome != "cosigned" && outcome != "overtaken" && outcome != "away" {
					t.Errorf("server %d, %s: %s", i, o.name(), outcome)
				}
			}
		}
	}
}

// TestMLDSA: a log that signs with both kinds of keys, and a witness that signs with the other kind.
func TestMLDSA(t *testing.T) {
	l := newLedger(t)
	classic, _, err := witness.NewKey(origin)
	must(t, err)
	modern, verifier, err := witness.NewMLDSAKey(origin)
	must(t, err)
	keys, err := witness.ParseKeys(origin, []byte(classic+"\n"+modern))
	must(t, err)
	if got := keys.Verifiers(); len(got) != 2 || got[1] != verifier {
		t.Fatalf("verifiers %q, want %q", got, verifier)
	}
	w, err := witnesstest.NewMLDSA("one.example/w")
	must(t, err)
	o := serveOther(t, w, keys)
	p, _ := l.witnessed(keys, nil, 1, o.line())
	for range 2 {
		must(t, p.Publish(t.Context(), l.grow(4)))
	}
	must(t, p.Check(t.Context()))
	signed := l.newest()
	if cosigned(t, signed, o) != 1 {
		t.Error("it is not cosigned")
	}
	verify(t, signed, origin, keys.Verifiers()[0])
	v, err := formats.NewVerifier(verifier)
	must(t, err)
	if _, err := note.Open(signed, note.VerifierList(v)); err != nil {
		t.Error(err)
	}
	if _, err := note.Open(bytes.Replace(signed, []byte("\n8\n"), []byte("\n9\n"), 1), note.VerifierList(v)); err == nil {
		t.Error("it verifies with another size")
	}
	for name, text := range map[string]string{
		"half": modern[:len(modern)-8], "twice": modern + "\n" + modern, "its verifier key": verifier,
		"another hash": strings.Replace(modern, strings.Split(modern, "+")[3], "00000000", 1),
	} {
		if _, err := witness.ParseKeys(origin, []byte(text)); err == nil || strings.Contains(err.Error(), modern[len(modern)-20:]) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseWitnesses(t *testing.T) {
	t.Parallel()
	keys := newKeys(t, 1)
	o, second := newOther(t, "one.example/w", keys), newOther(t, "two.example/w", keys)
	_, signing, err := note.GenerateKey(nil, "three.example/w")
	must(t, err)
	good, err := witness.ParseWitnesses([]string{o.Key() + " https://one.example/", "  " + signing + "  https://three.example/w "})
	must(t, err)
	converted, err := formats.VKeyToCosignatureV1(signing)
	must(t, err)
	if good[0].Verifier() != o.Key() || good[0].Name() != "one.example/w" || good[1].Verifier() != converted {
		t.Errorf("%q, %q", good[0].Verifier(), good[1].Verifier())
	}
	renamed := strings.Replace(o.Key(), "one.example", "uno.example", 1)
	for name, list := range map[string][]string{
		"no address": {o.Key()}, "no key": {"https://one.example"}, "too much": {o.line() + " more"}, "nothing": {""},
		"http": {o.Key() + " http://one.example"}, "a file": {o.Key() + " file:///one"}, "a password": {o.Key() + " https://a:b@one.example"},
		"a question": {o.Key() + " https://one.example/?a=b"}, "a key with another name": {renamed + " https://one.example"},
		"half a key": {o.Key()[:len(o.Key())-4] + " https://one.example"}, "twice": {o.line(), o.line()},
		"one address": {o.Key() + " https://one.example", second.Key() + " https://one.example/"},
		"one key":     {o.Key() + " https://one.example", o.Key() + " https://two.example"},
	} {
		if got, err := witness.ParseWitnesses(list); err == nil {
			t.Errorf("%s: %d were taken", name, len(got))
		}
	}
}

// TestWitnessesAreToldApartByTheirWholeKey: base64 has a + of its own, which divides the parts of a verifier key too.
func TestWitnessesAreToldApartByTheirWholeKey(t *testing.T) {
	t.Parallel()
	line := func(name string, first byte) string {
		key := append([]byte{4, first}, bytes.Repeat([]byte{0x3e}, 31)...) // an Ed25519 key for cosignatures; it ends with a +
		hash := sha256.Sum256(append([]byte(name+"\n"), key...))
		return fmt.Sprintf("%s+%x+%s https://%s/", name, hash[:4], base64.StdEncoding.EncodeToString(key), name)
	}
	if got, err := witness.ParseWitnesses([]string{line("one.example", 1), line("two.example", 2)}); err != nil || len(got) != 2 {
		t.Errorf("two keys that end alike: %v", err)
	}
	if _, err := witness.ParseWitnesses([]string{line("one.example", 1), line("two.example", 1)}); err == nil {
		t.Error("one key under two names was taken")
	}
}

// TestEveryPairOfCheckpoints: between any two checkpoints that were ever published there is a proof, and none with another
// root.
func TestEveryPairOfCheckpoints(t *testing.T) {
	l := newLedger(t)
	keys := newKeys(t, 1)
	folder := t.TempDir()
	p := l.publisher(keys, witness.NewDirectory(folder))
	for more := range 40 {
		must(t, p.Publish(t.Context(), l.grow(more*more%37)))
	}
	var heads []witness.Head
	for _, file := range sinkFiles(t, folder) {
		size, root := verify(t, readFile(t, folder, file), origin, keys.Verifiers()[0])
		heads = append(heads, witness.Head{Size: size, Root: root})
	}
	if len(heads) < 38 {
		t.Fatalf("%d checkpoints", len(heads))
	}
	pairs := 0
	for i, newer := range heads {
		for _, older := range heads[:i] {
			if older.Size == 0 {
				continue // every tree begins with the empty one
			}
			proof, err := tlog.ProveTree(newer.Size, older.Size, l.Tree(t.Context()))
			must(t, err)
			if err := tlog.CheckTree(proof, newer.Size, newer.Root, older.Size, older.Root); err != nil {
				t.Errorf("%d to %d: %v", older.Size, newer.Size, err)
			}
			root := older.Root
			root[3] ^= 1
			if tlog.CheckTree(proof, newer.Size, newer.Root, older.Size, root) == nil {
				t.Errorf("%d to %d is proved with another root", older.Size, newer.Size)
			}
			pairs++
		}
	}
	if want := (len(heads) - 1) * (len(heads) - 2) / 2; pairs != want {
		t.Errorf("%d pairs, want %d", pairs, want)
	}
}
