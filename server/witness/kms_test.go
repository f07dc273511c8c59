package witness_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/witness"
)

// transit is a key in a key management service, which signs.
type transit struct {
	t     *testing.T
	guard sync.Mutex
	keys  []ed25519.PrivateKey // by version, from 1
	token string
	least int
	kind  string
	// before answers a request by itself if it gives true.
	before func(w http.ResponseWriter, r *http.Request) bool

	url, tokenFile string
}

func newTransit(t *testing.T) *transit {
	t.Helper()
	k := &transit{t: t, token: "s.very-secret", least: 1, kind: "ed25519", tokenFile: filepath.Join(t.TempDir(), "token")}
	k.rotate()
	must(t, os.WriteFile(k.tokenFile, []byte(k.token+"\n"), 0o600))
	server := httptest.NewServer(k)
	t.Cleanup(server.Close)
	k.url = server.URL + "/v1/team/transit/keys/log"
	return k
}

func (k *transit) rotate() {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(k.t, err)
	k.guard.Lock()
	defer k.guard.Unlock()
	k.keys = append(k.keys, key)
}

func (k *transit) set(change func()) {
	k.guard.Lock()
	defer k.guard.Unlock()
	change()
}

func (k *transit) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.guard.Lock()
	defer k.guard.Unlock()
	if k.before != nil && k.before(w, r) {
		return
	}
	if r.Header.Get("X-Vault-Token") != k.token {
		http.Error(w, `{"errors":["permission denied for `+r.Header.Get("X-Vault-Token")+`"]}`, http.StatusForbidden)
		return
	}
	data := map[string]any{}
	switch r.Method + " " + r.URL.Path {
	case "GET /v1/team/transit/keys/log":
		versions := map[string]any{}
		for i, key := range k.keys {
			public, _ := key.Public().(ed25519.PublicKey)
			versions[strconv.Itoa(i+1)] = map[string]string{"name": "ed25519", "public_key": base64.StdEncoding.EncodeToString(public)}
		}
		data = map[string]any{"type": k.kind, "derived": false, "latest_version": len(k.keys), "min_decryption_version": k.least, "min_encryption_version": 0, "keys": versions}
	case "POST /v1/team/transit/sign/log":
		var question struct {
			Input   []byte `json:"input"`
			Version int    `json:"key_version"`
		}
		if err := json.NewDecoder(r.Body).Decode(&question); err != nil || question.Version < k.least || question.Version > len(k.keys) {
			http.Error(w, `{"errors":["bad"]}`, http.StatusBadRequest)
			return
		}
		signature := ed25519.Sign(k.keys[question.Version-1], question.Input)
		data["signature"] = fmt.Sprintf("vault:v%d:%s", question.Version, base64.StdEncoding.EncodeToString(signature))
	default:
		http.NotFound(w, r)
		return
	}
	must(k.t, json.NewEncoder(w).Encode(map[string]any{"data": data}))
}

func TestAKeyServiceSigns(t *testing.T) {
	l := newLedger(t)
	k := newTransit(t)
	keys, err := witness.OpenKMS(t.Context(), origin, k.url, k.tokenFile)
	must(t, err)
	p := l.publisher(keys, nil)
	must(t, p.Publish(t.Context(), l.grow(2)))
	first := keys.Verifiers()
	if len(first) != 1 {
		t.Fatalf("verifiers %q", first)
	}
	verify(t, l.newest(), origin, first[0])

	// A server that is started after a rotation announces both, and signs by both, and by a key of its own.
	k.rotate()
	both, err := witness.OpenKMS(t.Context(), origin, k.url, k.tokenFile)
	must(t, err)
	joined, err := witness.Join(newKeys(t, 1), both)
	must(t, err)
	if got := joined.Verifiers(); len(got) != 3 || got[1] != first[0] {
		t.Fatalf("verifiers %q", got)
	}
	must(t, l.publisher(joined, nil).Publish(t.Context(), l.grow(2)))
	for _, verifier := range joined.Verifiers() {
		verify(t, l.newest(), origin, verifier)
	}
	// The one that runs goes on with the old version, and the token is read anew.
	k.set(func() { k.token = "s.another" })
	if err := p.Publish(t.Context(), l.grow(2)); err == nil {
		t.Error("it signed with a token that is over")
	}
	must(t, os.WriteFile(k.tokenFile, []byte("s.another"), 0o600))
	must(t, p.Publish(t.Context(), 6))
	verify(t, l.newest(), origin, first[0])

	k.set(func() { k.least = 2 })
	last, err := witness.OpenKMS(t.Context(), origin, k.url, k.tokenFile)
	must(t, err)
	if got := last.Verifiers(); len(got) != 1 || got[0] != both.Verifiers()[1] {
		t.Errorf("verifiers %q", got)
	}
	if err := p.Publish(t.Context(), l.grow(1)); err == nil {
		t.Error("it signed with a version that is over")
	}
	if _, err := witness.Join(both, last); err == nil {
		t.Error("a key is there twice")
	}
}

func TestAKeyServiceThatFails(t *testing.T) {
	t.Parallel()
	answer := func(status int, body string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
			return true
		}
	}
	signs := func(signature string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPost {
				_, _ = fmt.Fprintf(w, `{"data":{"signature":%q}}`, signature)
			}
			return r.Method == http.MethodPost
		}
	}
	other := ed25519.NewKeyFromSeed(make([]byte, 32))
	for name, harm := range map[string]func(k *transit){
		"another token": func(k *transit) { k.token = "s.other" },
		"no token":      func(k *transit) { must(k.t, os.Remove(k.tokenFile)) },
		"an error":      func(k *transit) { k.before = answer(500, "s.very-secret") },
		"another place": func(k *transit) { k.before = answer(307, "") },
		"nonsense":      func(k *transit) { k.before = answer(200, "<html>s.very-secret") },
		"too much":      func(k *transit) { k.before = answer(200, `{"data":{"type":"`+strings.Repeat("a", 1<<20)+`"}}`) },
		"no signature":  func(k *transit) { k.before = signs("") },
		"a signature of another": func(k *transit) {
			k.before = signs("vault:v1:" + base64.StdEncoding.EncodeToString(ed25519.Sign(other, []byte("a"))))
		},
		"another version": func(k *transit) { k.before = signs("vault:v2:AAAA") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newTransit(t)
			keys, err := witness.OpenKMS(t.Context(), origin, k.url, k.tokenFile)
			must(t, err)
			k.set(func() { harm(k) })
			if _, err := keys.Sign(witness.Head{Size: 1, Root: tlog.RecordHash(nil)}); err == nil || strings.Contains(err.Error(), "secret") {
				t.Errorf("it signed, or: %v", err)
			}
		})
	}
	t.Run("it hangs", func(t *testing.T) {
		t.Parallel()
		k := newTransit(t)
		reached := make(chan struct{})
		k.before = func(_ http.ResponseWriter, r *http.Request) bool {
			close(reached)
			<-r.Context().Done()
			return true
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-reached
			cancel()
		}()
		if _, err := witness.OpenKMS(ctx, origin, k.url, k.tokenFile); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestOpenKMSRefuses(t *testing.T) {
	t.Parallel()
	k := newTransit(t)
	for name, address := range map[string]string{
		"http": "http://vault.example/v1/transit/keys/log", "no key": "https://vault.example/v1/transit", "nothing": "", "a password": "https://a:secret@vault.example/v1/transit/keys/log",
		"no name": strings.TrimSuffix(k.url, "log"), "another key": k.url + "2", "a question": k.url + "?version=1",
	} {
		if _, err := witness.OpenKMS(t.Context(), origin, address, k.tokenFile); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	k.set(func() { k.kind = "ecdsa-p256" })
	if _, err := witness.OpenKMS(t.Context(), origin, k.url, k.tokenFile); err == nil || !strings.Contains(err.Error(), "ecdsa-p256") {
		t.Errorf("another kind of key: %v", err)
	}
	k.set(func() { k.kind = "ed25519" })
	for range 4 {
		k.rotate()
	}
	if _, err := witness.OpenKMS(t.Context(), origin, k.url, k.tokenFile); err == nil || !strings.Contains(err.Error(), "min_decryption_version") {
		t.Errorf("five versions: %v", err)
	}
}
