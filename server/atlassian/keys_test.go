package atlassian_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/internal/atlassiantest"
	"github.com/signedapproval/bitbucket/server/atlassian"
)

// clock is a clock that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) sleep(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// keyed is a Forge and a verifier of one clock.
func keyed(t *testing.T) (*atlassiantest.Forge, *atlassian.Verifier, *clock, *journal) {
	t.Helper()
	f, c, log := atlassiantest.New(t), &clock{now: now}, &journal{}
	f.SetClock(c.Now)
	return f, f.Verifier(t, func(config *atlassian.Config) { config.Now, config.Log = c.Now, log.logger() }), c, log
}

func verified(t *testing.T, v *atlassian.Verifier, token string) {
	t.Helper()
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Fatal(err)
	}
}

func refusedFor(t *testing.T, v *atlassian.Verifier, token, reason string) {
	t.Helper()
	_, err := v.Verify(t.Context(), token)
	var refused *atlassian.Refused
	if !errors.As(err, &refused) || refused.Reason != reason {
		t.Fatalf("%v, want %s", err, reason)
	}
}

func unavailable(t *testing.T, v *atlassian.Verifier, token string) {
	t.Helper()
	_, err := v.Verify(t.Context(), token)
	var refused *atlassian.Refused
	if !errors.Is(err, atlassian.ErrUnavailable) || errors.As(err, &refused) {
		t.Fatalf("%v, want that the keys are not available", err)
	}
}

func fetched(t *testing.T, f *atlassiantest.Forge, want int) {
	t.Helper()
	if got := f.Fetches(); got != want {
		t.Fatalf("the keys were fetched %d times, want %d", got, want)
	}
}

// unknown is a token by a key that is not published.
func unknown(f *atlassiantest.Forge, kid string) string {
	_, key := f.Key()
	raw, err := json.Marshal(f.Claims("events-ep"))
	if err != nil {
		panic(err)
	}
	return atlassiantest.Sign(key, claims{"alg": "RS256", "kid": kid}, raw)
}

func TestKeysAreFetchedOnce(t *testing.T) {
	t.Parallel()
	f, v, c, _ := keyed(t)
	fetched(t, f, 0)
	for range 3 {
		verified(t, v, f.Sign(f.Claims("events-ep")))
		c.sleep(19 * time.Minute)
	}
	fetched(t, f, 1)
}

// A new key is known as soon as a token names it.
func TestNewKey(t *testing.T) {
	t.Parallel()
	f, v, c, _ := keyed(t)
	verified(t, v, f.Sign(f.Claims("events-ep")))
	c.sleep(time.Minute)
	f.Rotate(t)
	verified(t, v, f.Sign(f.Claims("events-ep")))
	fetched(t, f, 2)
}

// However many made-up names come, at once or one after the other: one fetch in 30 s, and the keys
// that are known stay.
func TestFloodOfUnknownKeys(t *testing.T) {
	t.Parallel()
	f, v, c, _ := keyed(t)
	good := f.Sign(f.Claims("events-ep"))
	verified(t, v, good)
	c.sleep(31 * time.Second)
	var all sync.WaitGroup
	for n := range 200 {
		token := unknown(f, fmt.Sprint("kid-", n))
		all.Go(func() {
			var refused *atlassian.Refused
			if _, err := v.Verify(t.Context(), token); !errors.As(err, &refused) || refused.Reason != atlassian.ReasonUnknownKey {
				t.Error(err)
			}
		})
	}
	all.Wait()
	fetched(t, f, 2)
	for n := range 2000 {
		refusedFor(t, v, unknown(f, fmt.Sprint("later-", n)), atlassian.ReasonUnknownKey)
	}
	fetched(t, f, 2)
	verified(t, v, f.Sign(f.Claims("events-ep")))

	// A key that is published meanwhile is known after the 30 s.
	f.Rotate(t)
	token := f.Sign(f.Claims("events-ep"))
	refusedFor(t, v, token, atlassian.ReasonUnknownKey)
	c.sleep(30 * time.Second)
	verified(t, v, token)
	fetched(t, f, 3)
}

// Many first tokens at once cost one fetch.
func TestManyFirstTokens(t *testing.T) {
	t.Parallel()
	f, v, _, _ := keyed(t)
	var all sync.WaitGroup
	for range 50 {
		token := f.Sign(f.Claims("events-ep"))
		all.Go(func() {
			if _, err := v.Verify(t.Context(), token); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	fetched(t, f, 1)
}

// away are the ways in which keys cannot be had.
var away = map[string]http.HandlerFunc{
	"an error":           func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
	"not found":          http.NotFound,
	"nothing":            func(http.ResponseWriter, *http.Request) {},
	"a page":             func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>maintenance</html>")) },
	"no keys":            func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":[]}`)) },
	"a redirect":         func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
	"a very long answer": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) },
	"a broken answer":    func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
}

// Where the keys cannot be had, a token is neither good nor bad, and one that names a known key is
// still good for a day.
func TestKeysAreAway(t *testing.T) {
	t.Parallel()
	for name, answer := range away {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, v, c, log := keyed(t)
			f.Answer(answer)
			unavailable(t, v, f.Sign(f.Claims("events-ep")))
			unavailable(t, v, f.Sign(f.Claims("events-ep")))
			fetched(t, f, 1)
			if logged := log.take(); strings.Count(logged, "level=ERROR") != 1 {
				t.Errorf("logged %s", logged)
			}
			// What is bad in itself is refused, with or without keys.
			refusedFor(t, v, "a.b", atlassian.ReasonMalformed)

			f.Answer(nil)
			c.sleep(31 * time.Second)
			verified(t, v, f.Sign(f.Claims("events-ep")))
			f.Answer(answer)
			for range 23 {
				c.sleep(time.Hour)
				verified(t, v, f.Sign(f.Claims("events-ep")))
			}
			unavailable(t, v, unknown(f, "another"))
			c.sleep(time.Hour)
			unavailable(t, v, f.Sign(f.Claims("events-ep")))
			f.Answer(nil)
			c.sleep(time.Minute)
			verified(t, v, f.Sign(f.Claims("events-ep")))
		})
	}
}

// A key that is not published any more is good until the keys are looked at again.
func TestWithdrawnKey(t *testing.T) {
	t.Parallel()
	f, v, c, _ := keyed(t)
	verified(t, v, f.Sign(f.Claims("events-ep")))
	_, replacement := keyPair(t)
	set := encode(t, claims{"keys": []any{atlassiantest.Public("replacement", &replacement.PublicKey)}})
	f.Answer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(set) }))
	c.sleep(time.Minute)
	refusedFor(t, v, unknown(f, "any"), atlassian.ReasonUnknownKey) // this looks
	refusedFor(t, v, f.Sign(f.Claims("events-ep")), atlassian.ReasonUnknownKey)
}

func keyPair(t *testing.T) (string, *rsa.PrivateKey) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return "forge/" + rand.Text(), key
}

// Of a set, the keys that cannot be Forge's are left out, and the others stay.
func TestKeysThatAreLeftOut(t *testing.T) {
	t.Parallel()
	f := atlassiantest.New(t)
	kid, key := f.Key()
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	public := func(kid string, change func(claims)) claims {
		c := atlassiantest.Public(kid, &key.PublicKey)
		change(c)
		return c
	}
	set := encode(t, claims{"keys": []any{
		public("for encryption", func(c claims) { c["use"] = "enc" }),
		public("for-encryption", func(c claims) { c["use"] = "enc" }),
		public("for-RS512", func(c claims) { c["alg"] = "RS512" }),
		public("twice", func(claims) {}), public("twice", func(claims) {}), public("twice", func(claims) {}),
		atlassiantest.Public("short", &short.PublicKey),
		claims{"kty": "oct", "kid": "secret", "k": "c2VjcmV0", "alg": "HS256"},
		claims{"kty": "tomorrow", "kid": "tomorrow"},
		claims{"kty": "EC", "kid": "curve", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
		public("unmarked", func(c claims) { delete(c, "use"); delete(c, "alg") }),
		public(kid, func(claims) {}),
	}})
	f.Answer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(set) }))
	v := f.Verifier(t, nil)
	verified(t, v, f.Sign(f.Claims("events-ep")))
	verified(t, v, unknown(f, "unmarked"))
	for _, kid := range []string{"for-encryption", "for-RS512", "twice", "secret", "tomorrow", "curve"} {
		refusedFor(t, v, unknown(f, kid), atlassian.ReasonUnknownKey)
	}
	raw := encode(t, f.Claims("events-ep"))
	refusedFor(t, v, atlassiantest.Sign(short, claims{"alg": "RS256", "kid": "short"}, raw), atlassian.ReasonUnknownKey)
}

// A fetch ends with the verifier, and a caller that leaves does not end it for the others.
func TestFetchUnderWay(t *testing.T) {
	t.Parallel()
	f, v, _, _ := keyed(t)
	asked, gone, release := make(chan struct{}), make(chan struct{}), make(chan struct{})
	f.Answer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(asked)
		select {
		case <-r.Context().Done():
			close(gone)
		case <-release:
			_, _ = w.Write(f.JWKS())
		}
	}))
	token := f.Sign(f.Claims("events-ep"))
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := v.Verify(ctx, token)
		left <- err
	}()
	<-asked
	stayed := make(chan error, 1)
	go func() {
		_, err := v.Verify(t.Context(), token)
		stayed <- err
	}()
	leave()
	if err := <-left; !errors.Is(err, atlassian.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("who leaves is told %v", err)
	}
	close(release)
	if err := <-stayed; err != nil {
		t.Errorf("who stays is told %v", err)
	}

	f, v, _, _ = keyed(t)
	asked, release = make(chan struct{}), make(chan struct{})
	f.Answer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
		close(gone)
	}))
	go func() {
		_, err := v.Verify(t.Context(), f.Sign(f.Claims("events-ep")))
		stayed <- err
	}()
	<-asked
	v.Close()
	if err := <-stayed; !errors.Is(err, atlassian.ErrUnavailable) {
		t.Errorf("after the end: %v", err)
	}
	<-gone
}
