// Package atlassiantest is Forge for tests: it publishes a key on loopback and signs invocation
// tokens with it. Its keys protect nothing: the product itself must not import it.
package atlassiantest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/signedapproval/bitbucket/server/atlassian"
)

// The app and the places that tokens are about unless a test changes them.
const (
	AppID        = "ari:cloud:ecosystem::app/8db33809-1f32-48bb-8c52-5877dab48107"
	Installation = "ari:cloud:ecosystem::installation/0a3a7799-53ae-4a5b-9e7e-03338980abb5"
	Workspace    = "b7ea02c9-0871-4858-a2a6-a190d7de977c"
)

// Claims are the claims of a token.
type Claims = map[string]any

// Forge publishes keys and signs with them. The methods are safe for concurrent use.
type Forge struct {
	URL string // of the published keys

	mu      sync.Mutex
	keys    map[string]*rsa.PrivateKey // by kid; all are published
	newest  string                     // kid
	fetches int
	answer  http.Handler // instead of the keys; nil for the keys
	now     func() time.Time
}

// New starts a Forge with one key, which ends with the test.
func New(t testing.TB) *Forge {
	t.Helper()
	f := &Forge{keys: map[string]*rsa.PrivateKey{}, now: time.Now}
	f.Rotate(t)
	server := httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(server.Close)
	f.URL = server.URL
	return f
}

// Verifier makes a verifier of this Forge's tokens for AppID in PRODUCTION, which ends with the test.
func (f *Forge) Verifier(t testing.TB, change func(*atlassian.Config)) *atlassian.Verifier {
	t.Helper()
	config := atlassian.Config{AppID: AppID, JWKSURL: f.URL}
	if change != nil {
		change(&config)
	}
	v, err := atlassian.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// Rotate adds a key and signs with it from now on; the old ones stay published.
func (f *Forge) Rotate(t testing.TB) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.newest = "forge/invocation-token/" + uuid.NewString()
	f.keys[f.newest] = key
}

// SetClock gives the time at which tokens are issued; nil is the real one.
func (f *Forge) SetClock(now func() time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.now = now; now == nil {
		f.now = time.Now
	}
}

// Answer answers who asks for the keys instead; nil is the keys again.
func (f *Forge) Answer(h http.Handler) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = h
}

// Fetches is how often the keys were asked for.
func (f *Forge) Fetches() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fetches
}

func (f *Forge) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.fetches++
	answer := f.answer
	f.mu.Unlock()
	if answer != nil {
		answer.ServeHTTP(w, r)
		return
	}
	_, _ = w.Write(f.JWKS())
}

// JWKS are the published keys.
func (f *Forge) JWKS() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := []Claims{}
	for kid, key := range f.keys {
		list = append(list, Public(kid, &key.PublicKey))
	}
	return encode(Claims{"keys": list})
}

// Public is a public key as a JSON Web Key.
func Public(kid string, key *rsa.PublicKey) Claims {
	return Claims{
		"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", "n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()),
		"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(key.E)).Bytes()),
	}
}

// Key is the key that signs now, and its kid.
func (f *Forge) Key() (string, *rsa.PrivateKey) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.newest, f.keys[f.newest]
}

// Claims are those of a call that a trigger or a merge check makes through an endpoint of the
// manifest. They live 25 s.
func (f *Forge) Claims(endpoint string) Claims {
	f.mu.Lock()
	now := f.now().Unix()
	f.mu.Unlock()
	return Claims{
		"iss": "forge/invocation-token", "aud": AppID, "iat": now, "nbf": now, "exp": now + 25, "jti": uuid.NewString(),
		"app": Claims{
			"id": AppID, "version": "16", "appVersion": "2.0.1", "installationId": Installation, "apiBaseUrl": "https://api.bitbucket.org",
			"installation": Claims{"id": Installation, "contexts": []any{
				Claims{"name": "bitbucket", "apiBaseUrl": "https://api.bitbucket.org", "workspaceId": Workspace},
			}},
			"environment": Claims{"type": "PRODUCTION", "id": "ari:cloud:ecosystem::environment/8db33809-1f32-48bb-8c52-5877dab48107/aa911f10-c54b-4b93-9e27-dd2947840b9e"},
			"module":      Claims{"type": "core:endpoint", "key": endpoint},
		},
	}
}

// ScreenClaims are those of a call that a person's screen makes through a module of the manifest.
func (f *Forge) ScreenClaims(module, accountID string) Claims {
	claims := f.Claims("ui-ep")
	claims["principal"] = accountID
	claims["context"] = Claims{
		"localId": "4654fa12-4c7c-4792-95a9-6019edb27953", "workspaceId": "{" + Workspace + "}", "moduleKey": module,
		"extension": Claims{"type": "bitbucket:repoPullRequestCard"},
	}
	return claims
}

// Sign makes a token of claims.
func (f *Forge) Sign(claims Claims) string {
	kid, key := f.Key()
	return Sign(key, Claims{"alg": "RS256", "typ": "JWT", "kid": kid}, encode(claims))
}

// Sign makes a token of a header and the bytes of claims, good or bad, with an RS256 signature.
func Sign(key *rsa.PrivateKey, header any, claims []byte) string {
	text := base64.RawURLEncoding.EncodeToString(encode(header)) + "." + base64.RawURLEncoding.EncodeToString(claims)
	hash := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, hash[:])
	if err != nil {
		panic(err) // a key that is too short
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// encode writes JSON; bytes are taken as they are.
func encode(value any) []byte {
	if raw, ok := value.([]byte); ok {
		return raw
	}
	raw, err := json.Marshal(value)
	if err != nil {
		panic(err) // a test's mistake
	}
	return raw
}
