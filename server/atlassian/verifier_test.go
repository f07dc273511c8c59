package atlassian_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/internal/atlassiantest"
	"github.com/signedapproval/bitbucket/server/atlassian"
)

type claims = atlassiantest.Claims

const (
	account = "712020:c0de26c1-c01f-4d70-a19c-dad5a5b2e531"
	other   = "11111111-2222-4333-8444-555555555555"
)

// journal keeps what was logged.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

// take gives what was logged since the last time.
func (j *journal) take() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	defer j.text.Reset()
	return j.text.String()
}

func (j *journal) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// now is when the tokens of these tests are issued and looked at.
var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func fixed() time.Time { return now }

func TestGoodTokens(t *testing.T) {
	t.Parallel()
	f := atlassiantest.New(t)
	f.SetClock(fixed)
	v := f.Verifier(t, func(c *atlassian.Config) { c.Now = fixed })

	called := f.Claims("events-ep")
	id, _ := called["jti"].(string)
	want := atlassian.Invocation{
		AppID: atlassiantest.AppID, AppVersion: "2.0.1", Environment: "PRODUCTION", InstallationID: atlassiantest.Installation,
		Workspace: atlassiantest.Workspace, APIBaseURL: "https://api.bitbucket.org", ModuleType: "core:endpoint", ModuleKey: "events-ep",
		ID: id, IssuedAt: now, ExpiresAt: now.Add(25 * time.Second),
	}
	got, err := v.Verify(t.Context(), f.Sign(called))
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("an event's token: %+v, %v\nwant %+v", got, err, want)
	}

	screen := f.ScreenClaims("pr-card", account)
	want.ID, _ = screen["jti"].(string)
	want.ModuleKey, want.Principal = "ui-ep", account
	got, err = v.Verify(t.Context(), f.Sign(screen))
	var context claims
	if err != nil || json.Unmarshal(got.Context, &context) != nil || context["moduleKey"] != "pr-card" {
		t.Fatalf("a screen's token: %+v, %v", got, err)
	}
	got.Context = nil
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("a screen's token: %+v\nwant %+v", got, want)
	}
}

// TestUnusualTokens are good although they are not quite the usual.
func TestUnusualTokens(t *testing.T) {
	t.Parallel()
	f := atlassiantest.New(t)
	f.SetClock(fixed)
	v := f.Verifier(t, func(c *atlassian.Config) { c.Now = fixed })
	for name, test := range map[string]struct {
		change func(c, app, installation, context claims)
		api    string
	}{
		"an audience in a list of one":       {func(c, _, _, _ claims) { c["aud"] = []any{atlassiantest.AppID} }, ""},
		"expired by the leeway":              {func(c, _, _, _ claims) { move(c, -25-29) }, ""},
		"issued by a fast clock":             {func(c, _, _, _ claims) { move(c, 29) }, ""},
		"no version":                         {func(_, app, _, _ claims) { delete(app, "appVersion") }, ""},
		"the principal null":                 {func(c, _, _, _ claims) { c["principal"] = nil }, ""},
		"a claim of tomorrow":                {func(c, _, _, _ claims) { c["novelty"] = claims{"a": 1.5} }, ""},
		"the workspace in the context alone": {func(_, _, in, _ claims) { delete(first(in), "workspaceId") }, ""},
		"the workspace of the installation":  {func(_, _, _, ctx claims) { delete(ctx, "workspaceId") }, ""},
		"the workspace three times": {func(_, _, _, ctx claims) {
			ctx["installContext"] = "ari:cloud:bitbucket::workspace/" + atlassiantest.Workspace
		}, ""},
		"the workspace as an ARI alone": {func(_, _, in, ctx claims) {
			delete(in, "contexts")
			delete(ctx, "workspaceId")
			ctx["installContext"] = "ari:cloud:bitbucket::workspace/{" + atlassiantest.Workspace + "}"
		}, ""},
		"the workspace in upper case": {func(_, _, in, _ claims) { first(in)["workspaceId"] = strings.ToUpper(atlassiantest.Workspace) }, ""},
		"installed in another product too": {func(_, _, in, _ claims) {
			in["contexts"] = append([]any{claims{"name": "jira", "cloudId": other, "apiBaseUrl": 7}}, in["contexts"].([]any)...)
		}, ""},
		"installed twice in the same workspace": {func(_, _, in, _ claims) { in["contexts"] = append(in["contexts"].([]any), first(in)) }, ""},
		"the other API": {func(_, app, in, _ claims) {
			app["apiBaseUrl"] = "https://api.atlassian.com/ex/bitbucket/" + other
			delete(first(in), "apiBaseUrl")
		}, "https://api.atlassian.com/ex/bitbucket/" + other},
		"both APIs":             {func(_, app, _, _ claims) { app["apiBaseUrl"] = "https://api.atlassian.com/ex/bitbucket/" + other }, ""},
		"a slash after the API": {func(_, _, in, _ claims) { first(in)["apiBaseUrl"] = "https://api.bitbucket.org/" }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := f.ScreenClaims("pr-card", account)
			app := c["app"].(claims)
			test.change(c, app, app["installation"].(claims), c["context"].(claims))
			got, err := v.Verify(t.Context(), f.Sign(c))
			if test.api == "" {
				test.api = "https://api.bitbucket.org"
			}
			if err != nil || got.Workspace != atlassiantest.Workspace || got.APIBaseURL != test.api {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func first(installation claims) claims { return installation["contexts"].([]any)[0].(claims) }

// move moves the times of a token.
func move(c claims, seconds int64) {
	for _, name := range []string{"iat", "nbf", "exp"} {
		c[name] = c[name].(int64) + seconds
	}
}

// forgery is a token that must be refused.
type forgery struct {
	reason string
	make   func(forger) string
}

// forger has what a forger could have, and the real key, with which the damaged tokens are signed.
type forger struct {
	*testing.T
	forge *atlassiantest.Forge
	kid   string
	key   *rsa.PrivateKey
	own   *rsa.PrivateKey // the forger's
}

func (f forger) header() claims { return claims{"alg": "RS256", "typ": "JWT", "kid": f.kid} }

func (f forger) claims() claims { return f.forge.ScreenClaims("pr-card", account) }

func encode(t *testing.T, value any) []byte {
	t.Helper()
	raw, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// headed is good but for its header.
func headed(reason string, change func(forger, claims)) forgery {
	return forgery{reason, func(f forger) string {
		header := f.header()
		change(f, header)
		return atlassiantest.Sign(f.key, header, encode(f.T, f.claims()))
	}}
}

// claimed is good but for its claims, and really signed.
func claimed(reason string, change func(c claims)) forgery {
	return forgery{reason, func(f forger) string {
		c := f.claims()
		change(c)
		return f.forge.Sign(c)
	}}
}

// ofApp is good but for its app claim.
func ofApp(reason string, change func(app claims)) forgery {
	return claimed(reason, func(c claims) { change(c["app"].(claims)) })
}

func ofInstallation(reason string, change func(installation claims)) forgery {
	return ofApp(reason, func(app claims) { change(app["installation"].(claims)) })
}

func ofContext(reason string, change func(context claims)) forgery {
	return claimed(reason, func(c claims) { change(c["context"].(claims)) })
}

// written is really signed over claims as somebody wrote them.
func written(reason string, rewrite func(good string) string) forgery {
	return forgery{reason, func(f forger) string {
		return atlassiantest.Sign(f.key, f.header(), []byte(rewrite(string(encode(f.T, f.claims())))))
	}}
}

// damaged is a good token with a change to its text.
func damaged(reason string, change func(header, payload, signature string) string) forgery {
	return forgery{reason, func(f forger) string {
		segments := strings.Split(f.forge.Sign(f.claims()), ".")
		return change(segments[0], segments[1], segments[2])
	}}
}

// hmacWith signs by HS256 with what is no secret.
func hmacWith(secret func(forger) []byte) forgery {
	return forgery{atlassian.ReasonAlgorithm, func(f forger) string {
		header := f.header()
		header["alg"] = "HS256"
		text := base64.RawURLEncoding.EncodeToString(encode(f.T, header)) + "." + base64.RawURLEncoding.EncodeToString(encode(f.T, f.claims()))
		mac := hmac.New(sha256.New, secret(f))
		mac.Write([]byte(text))
		return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}}
}

func (f forger) publicDER() []byte {
	der, err := x509.MarshalPKIXPublicKey(&f.key.PublicKey)
	if err != nil {
		f.Fatal(err)
	}
	return der
}

// forgeries are refused, each for its own reason.
var forgeries = map[string]forgery{
	// The text.
	"nothing":                      {atlassian.ReasonAbsent, func(forger) string { return "" }},
	"a word":                       {atlassian.ReasonMalformed, func(forger) string { return "token" }},
	"no signature part":            damaged(atlassian.ReasonMalformed, func(h, p, _ string) string { return h + "." + p }),
	"four parts":                   damaged(atlassian.ReasonMalformed, func(h, p, s string) string { return h + "." + p + "." + s + "." + s }),
	"dots alone":                   {atlassian.ReasonHeader, func(forger) string { return ".." }},
	"huge":                         claimed(atlassian.ReasonTooLarge, func(c claims) { c["padding"] = strings.Repeat("x", 16<<10) }),
	"huge junk":                    {atlassian.ReasonTooLarge, func(forger) string { return strings.Repeat("x", 1<<20) }},
	"padding":                      damaged(atlassian.ReasonBase64, func(h, p, s string) string { return h + "." + p + "." + s + "==" }),
	"base64 that is not for URLs":  damaged(atlassian.ReasonBase64, func(h, p, s string) string { return h + "." + p + ".+/" + s[2:] }),
	"a line break":                 damaged(atlassian.ReasonBase64, func(h, p, s string) string { return h + "." + p + "." + s[:9] + "\n" + s[9:] }),
	"a space":                      damaged(atlassian.ReasonBase64, func(h, p, s string) string { return h + "." + p + "." + s + " " }),
	"a NUL":                        damaged(atlassian.ReasonBase64, func(h, p, s string) string { return h + "." + p + "\x00." + s }),
	"a second spelling of the end": damaged(atlassian.ReasonBase64, func(h, p, s string) string { return h + "." + p + "." + respell(s) }),
	"Latin-1":                      written(atlassian.ReasonClaims, func(s string) string { return strings.Replace(s, "pr-card", "pr\xfccard", 1) }),

	// The header.
	"a header that is no JSON": {atlassian.ReasonHeader, func(f forger) string {
		return atlassiantest.Sign(f.key, []byte("{alg:RS256}"), encode(f.T, f.claims()))
	}},
	"a header that is a list": {atlassian.ReasonHeader, func(f forger) string { return atlassiantest.Sign(f.key, []any{f.header()}, encode(f.T, f.claims())) }},
	"something after the header": {atlassian.ReasonHeader, func(f forger) string {
		return atlassiantest.Sign(f.key, append(encode(f.T, f.header()), "{}"...), encode(f.T, f.claims()))
	}},
	"alg twice in the header": {atlassian.ReasonDuplicateKey, func(f forger) string {
		return atlassiantest.Sign(f.key, []byte(`{"alg":"none","alg":"RS256","kid":"`+f.kid+`"}`), encode(f.T, f.claims()))
	}},
	"kid twice, once in escapes": {atlassian.ReasonDuplicateKey, func(f forger) string {
		return atlassiantest.Sign(f.key, []byte(`{"alg":"RS256","\u006bid":"x","kid":"`+f.kid+`"}`), encode(f.T, f.claims()))
	}},
	"alg none":                     headed(atlassian.ReasonAlgorithm, func(_ forger, h claims) { h["alg"] = "none" }),
	"alg none without a signature": {atlassian.ReasonAlgorithm, func(f forger) string { h := f.header(); h["alg"] = "none"; return unsigned(f.T, h, f.claims()) }},
	"alg NONE":                     headed(atlassian.ReasonAlgorithm, func(_ forger, h claims) { h["alg"] = "NONE" }),
	"alg in lower case":            headed(atlassian.ReasonAlgorithm, func(_ forger, h claims) { h["alg"] = "rs256" }),
	"alg RS512":                    headed(atlassian.ReasonAlgorithm, func(_ forger, h claims) { h["alg"] = "RS512" }),
	"alg PS256":                    headed(atlassian.ReasonAlgorithm, func(_ forger, h claims) { h["alg"] = "PS256" }),
	"alg ES256":                    headed(atlassian.ReasonAlgorithm, func(_ forger, h claims) { h["alg"] = "ES256" }),
	"alg a number":                 headed(atlassian.ReasonAlgorithm, func(_ forger, h claims) { h["alg"] = 256 }),
	"no alg":                       headed(atlassian.ReasonAlgorithm, func(_ forger, h claims) { delete(h, "alg") }),
	"alg under another name":       headed(atlassian.ReasonAlgorithm, func(_ forger, h claims) { delete(h, "alg"); h["ALG"] = "RS256" }),
	"HS256 with the public key":    hmacWith(func(f forger) []byte { return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: f.publicDER()}) }),
	"HS256 with the DER":           hmacWith(forger.publicDER),
	"HS256 with the modulus":       hmacWith(func(f forger) []byte { return f.key.N.Bytes() }),
	"HS256 with nothing":           hmacWith(func(forger) []byte { return nil }),
	"another type":                 headed(atlassian.ReasonType, func(_ forger, h claims) { h["typ"] = "JWE" }),
	"a type that is no string":     headed(atlassian.ReasonType, func(_ forger, h claims) { h["typ"] = []any{"JWT"} }),
	"a critical extension":         headed(atlassian.ReasonCritical, func(_ forger, h claims) { h["crit"] = []any{"exp"} }),
	"a payload that is not base64": headed(atlassian.ReasonCritical, func(_ forger, h claims) { h["b64"] = false }),
	"a key in the header": {atlassian.ReasonEmbeddedKey, func(f forger) string {
		h := f.header()
		h["jwk"] = atlassiantest.Public(f.kid, &f.own.PublicKey)
		return atlassiantest.Sign(f.own, h, encode(f.T, f.claims()))
	}},
	"a link to keys":          headed(atlassian.ReasonEmbeddedKey, func(_ forger, h claims) { h["jku"] = "https://evil.example/jwks.json" }),
	"a link to a certificate": headed(atlassian.ReasonEmbeddedKey, func(_ forger, h claims) { h["x5u"] = "https://evil.example/a.pem" }),
	"a certificate":           headed(atlassian.ReasonEmbeddedKey, func(_ forger, h claims) { h["x5c"] = []any{"MIIB"} }),
	"no kid":                  headed(atlassian.ReasonKeyID, func(_ forger, h claims) { delete(h, "kid") }),
	"an empty kid":            headed(atlassian.ReasonKeyID, func(_ forger, h claims) { h["kid"] = "" }),
	"a kid that is a number":  headed(atlassian.ReasonKeyID, func(_ forger, h claims) { h["kid"] = 0 }),
	"a long kid":              headed(atlassian.ReasonKeyID, func(_ forger, h claims) { h["kid"] = strings.Repeat("k", 257) }),
	"a kid with a line break": headed(atlassian.ReasonKeyID, func(f forger, h claims) { h["kid"] = f.kid + "\n" }),
	"a kid that is a path":    headed(atlassian.ReasonUnknownKey, func(_ forger, h claims) { h["kid"] = "../../dev/null" }),
	"a kid that is SQL":       headed(atlassian.ReasonUnknownKey, func(_ forger, h claims) { h["kid"] = "'or'1'='1" }),
	"an unknown kid":          headed(atlassian.ReasonUnknownKey, func(_ forger, h claims) { h["kid"] = "forge/invocation-token/" + other }),
	"a kid that is a URL":     headed(atlassian.ReasonUnknownKey, func(_ forger, h claims) { h["kid"] = "https://evil.example/key" }),

	// The signature.
	"another key":            {atlassian.ReasonSignature, func(f forger) string { return atlassiantest.Sign(f.own, f.header(), encode(f.T, f.claims())) }},
	"an empty signature":     damaged(atlassian.ReasonSignature, func(h, p, _ string) string { return h + "." + p + "." }),
	"half a signature":       damaged(atlassian.ReasonSignature, func(h, p, s string) string { return h + "." + p + "." + s[:len(s)/2-len(s)/2%4] }),
	"a changed signature":    damaged(atlassian.ReasonSignature, func(h, p, s string) string { return h + "." + p + "." + flip(s) }),
	"changed claims":         damaged(atlassian.ReasonSignature, func(h, p, s string) string { return h + "." + edit(p, "PRODUCTION", "PRODUCTIOM") + "." + s }),
	"a changed header":       damaged(atlassian.ReasonSignature, func(h, p, s string) string { return edit(h, `"typ":"JWT"`, `"typ":"jwt"`) + "." + p + "." + s }),
	"another token's claims": {atlassian.ReasonSignature, func(f forger) string { return graft(f.forge.Sign(f.claims()), f.forge.Sign(f.claims())) }},
	"a PSS signature":        {atlassian.ReasonSignature, pss},
	"a signature by SHA-512": {atlassian.ReasonSignature, sha512},
	"a signature over nothing": {atlassian.ReasonSignature, func(f forger) string {
		return graft(atlassiantest.Sign(f.key, f.header(), nil), f.forge.Sign(f.claims()))
	}},

	// The claims' text.
	"claims that are no JSON":    written(atlassian.ReasonClaims, func(string) string { return "claims" }),
	"claims that are a list":     written(atlassian.ReasonClaims, func(s string) string { return "[" + s + "]" }),
	"claims that are null":       written(atlassian.ReasonClaims, func(string) string { return "null" }),
	"claims cut off":             written(atlassian.ReasonClaims, func(s string) string { return s[:len(s)-1] }),
	"something after the claims": written(atlassian.ReasonClaims, func(s string) string { return s + s }),
	"claims nested very deep": written(atlassian.ReasonClaims, func(s string) string {
		return s[:len(s)-1] + `,"a":` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + "}"
	}),
	"aud twice":           written(atlassian.ReasonDuplicateKey, func(s string) string { return `{"aud":"ari:cloud:ecosystem::app/` + other + `",` + s[1:] }),
	"exp twice":           written(atlassian.ReasonDuplicateKey, func(s string) string { return s[:len(s)-1] + `,"exp":99999999999}` }),
	"the principal twice": written(atlassian.ReasonDuplicateKey, func(s string) string { return s[:len(s)-1] + `,"principal":"` + account + `"}` }),
	"a workspace twice deep inside": written(atlassian.ReasonDuplicateKey, func(s string) string {
		return strings.Replace(s, `"name":"bitbucket"`, `"name":"bitbucket","workspaceId":"`+other+`"`, 1)
	}),

	// Issuer, audience and times.
	"no issuer":                      claimed(atlassian.ReasonIssuer, func(c claims) { delete(c, "iss") }),
	"another issuer":                 claimed(atlassian.ReasonIssuer, func(c claims) { c["iss"] = "forge/context-token" }),
	"a longer issuer":                claimed(atlassian.ReasonIssuer, func(c claims) { c["iss"] = "forge/invocation-token/" }),
	"a list of issuers":              claimed(atlassian.ReasonIssuer, func(c claims) { c["iss"] = []any{"forge/invocation-token"} }),
	"no audience":                    claimed(atlassian.ReasonAudience, func(c claims) { delete(c, "aud") }),
	"another app's audience":         claimed(atlassian.ReasonAudience, func(c claims) { c["aud"] = "ari:cloud:ecosystem::app/" + other }),
	"the bare id as audience":        claimed(atlassian.ReasonAudience, func(c claims) { c["aud"] = strings.TrimPrefix(atlassiantest.AppID, "ari:cloud:ecosystem::app/") }),
	"an empty list of audiences":     claimed(atlassian.ReasonAudience, func(c claims) { c["aud"] = []any{} }),
	"an object as audience":          claimed(atlassian.ReasonAudience, func(c claims) { c["aud"] = claims{"id": atlassiantest.AppID} }),
	"a list in a list of audiences":  claimed(atlassian.ReasonAudience, func(c claims) { c["aud"] = []any{[]any{atlassiantest.AppID}} }),
	"two audiences":                  claimed(atlassian.ReasonManyAudiences, func(c claims) { c["aud"] = []any{atlassiantest.AppID, "ari:cloud:ecosystem::app/" + other} }),
	"the audience twice":             claimed(atlassian.ReasonManyAudiences, func(c claims) { c["aud"] = []any{atlassiantest.AppID, atlassiantest.AppID} }),
	"expired":                        claimed(atlassian.ReasonExpired, func(c claims) { move(c, -25-30) }),
	"expired long ago":               claimed(atlassian.ReasonExpired, func(c claims) { move(c, -365*24*3600) }),
	"not yet valid":                  claimed(atlassian.ReasonNotYetValid, func(c claims) { c["nbf"] = c["nbf"].(int64) + 31; c["exp"] = c["exp"].(int64) + 31 }),
	"issued in the future":           claimed(atlassian.ReasonIssuedInFuture, func(c claims) { move(c, 31) }),
	"no expiry":                      claimed(atlassian.ReasonTimes, func(c claims) { delete(c, "exp") }),
	"no nbf":                         claimed(atlassian.ReasonTimes, func(c claims) { delete(c, "nbf") }),
	"no iat":                         claimed(atlassian.ReasonTimes, func(c claims) { delete(c, "iat") }),
	"an expiry in words":             claimed(atlassian.ReasonTimes, func(c claims) { c["exp"] = fmt.Sprint(c["exp"]) }),
	"an expiry with a fraction":      claimed(atlassian.ReasonTimes, func(c claims) { c["exp"] = float64(c["exp"].(int64)) + 0.5 }),
	"an expiry beyond all numbers":   written(atlassian.ReasonTimes, func(s string) string { return strings.Replace(s, `"exp":`, `"exp":9e999,"x":`, 1) }),
	"an expiry at the end of time":   claimed(atlassian.ReasonTimes, func(c claims) { c["exp"] = int64(1) << 62 }),
	"a negative expiry":              claimed(atlassian.ReasonTimes, func(c claims) { c["exp"] = -1 }),
	"nbf null":                       claimed(atlassian.ReasonTimes, func(c claims) { c["nbf"] = nil }),
	"over before it begins":          claimed(atlassian.ReasonTimes, func(c claims) { c["exp"] = c["iat"] }),
	"no jti":                         claimed(atlassian.ReasonID, func(c claims) { delete(c, "jti") }),
	"a jti that is a number":         claimed(atlassian.ReasonID, func(c claims) { c["jti"] = 7 }),
	"a long jti":                     claimed(atlassian.ReasonID, func(c claims) { c["jti"] = strings.Repeat("j", 257) }),
	"an isolated cloud":              claimed(atlassian.ReasonIsolatedCloud, func(c claims) { c["icLabel"] = "orange" }),
	"an isolated cloud without name": claimed(atlassian.ReasonIsolatedCloud, func(c claims) { c["icLabel"] = nil }),

	// The app and its installation.
	"no app":                            claimed(atlassian.ReasonApp, func(c claims) { delete(c, "app") }),
	"an app that is a string":           claimed(atlassian.ReasonApp, func(c claims) { c["app"] = atlassiantest.AppID }),
	"an app in upper case":              claimed(atlassian.ReasonApp, func(c claims) { c["APP"] = c["app"]; delete(c, "app") }),
	"another app":                       ofApp(atlassian.ReasonAppID, func(app claims) { app["id"] = "ari:cloud:ecosystem::app/" + other }),
	"no app id":                         ofApp(atlassian.ReasonAppID, func(app claims) { delete(app, "id") }),
	"a version that is a number":        ofApp(atlassian.ReasonAppVersion, func(app claims) { app["appVersion"] = 2 }),
	"another environment":               ofApp(atlassian.ReasonEnvironment, func(app claims) { app["environment"].(claims)["type"] = "DEVELOPMENT" }),
	"the environment in lower case":     ofApp(atlassian.ReasonEnvironment, func(app claims) { app["environment"].(claims)["type"] = "production" }),
	"no environment":                    ofApp(atlassian.ReasonEnvironment, func(app claims) { delete(app, "environment") }),
	"an environment that is a string":   ofApp(atlassian.ReasonEnvironment, func(app claims) { app["environment"] = "PRODUCTION" }),
	"no module":                         ofApp(atlassian.ReasonModule, func(app claims) { delete(app, "module") }),
	"a module without key":              ofApp(atlassian.ReasonModule, func(app claims) { delete(app["module"].(claims), "key") }),
	"a module key that is a list":       ofApp(atlassian.ReasonModule, func(app claims) { app["module"].(claims)["key"] = []any{"ui-ep"} }),
	"no installation id":                ofApp(atlassian.ReasonInstallation, func(app claims) { delete(app, "installationId") }),
	"an installation id that is a UUID": ofApp(atlassian.ReasonInstallation, func(app claims) { app["installationId"] = other }),
	"an installation id that is none":   ofApp(atlassian.ReasonInstallation, func(app claims) { app["installationId"] = atlassiantest.Installation + "/.." }),
	"no installation":                   ofApp(atlassian.ReasonInstallation, func(app claims) { delete(app, "installation") }),
	"an installation without id":        ofInstallation(atlassian.ReasonInstallation, func(in claims) { delete(in, "id") }),
	"contexts that are an object":       ofInstallation(atlassian.ReasonInstallation, func(in claims) { in["contexts"] = first(in) }),
	"a context that is a string":        ofInstallation(atlassian.ReasonInstallation, func(in claims) { in["contexts"] = []any{"bitbucket"} }),
	"a context without name":            ofInstallation(atlassian.ReasonInstallation, func(in claims) { delete(first(in), "name") }),
	"two installations":                 ofInstallation(atlassian.ReasonInstallations, func(in claims) { in["id"] = "ari:cloud:ecosystem::installation/" + other }),
	"no API":                            ofApp(atlassian.ReasonAPIBaseURL, func(app claims) { delete(app, "apiBaseUrl"); delete(first(app["installation"].(claims)), "apiBaseUrl") }),
	"an API that is a number":           ofApp(atlassian.ReasonAPIBaseURL, func(app claims) { app["apiBaseUrl"] = 1 }),
	"another host":                      ofApp(atlassian.ReasonAPIBaseURL, func(app claims) { app["apiBaseUrl"] = "https://evil.example" }),
	"another host in the context":       ofInstallation(atlassian.ReasonAPIBaseURL, func(in claims) { first(in)["apiBaseUrl"] = "https://evil.example" }),
	"a host that begins alike":          ofInstallation(atlassian.ReasonAPIBaseURL, func(in claims) { first(in)["apiBaseUrl"] = "https://api.bitbucket.org.evil.example" }),
	"the host as a user":                ofInstallation(atlassian.ReasonAPIBaseURL, func(in claims) { first(in)["apiBaseUrl"] = "https://api.bitbucket.org@evil.example" }),
	"another port":                      ofInstallation(atlassian.ReasonAPIBaseURL, func(in claims) { first(in)["apiBaseUrl"] = "https://api.bitbucket.org:8443" }),
	"plain HTTP":                        ofInstallation(atlassian.ReasonAPIBaseURL, func(in claims) { first(in)["apiBaseUrl"] = "http://api.bitbucket.org" }),
	"a path that leads out":             ofInstallation(atlassian.ReasonAPIBaseURL, func(in claims) { first(in)["apiBaseUrl"] = "https://api.atlassian.com/ex/bitbucket/../jira/1" }),
	"a path that leads out in disguise": ofInstallation(atlassian.ReasonAPIBaseURL, func(in claims) { first(in)["apiBaseUrl"] = "https://api.atlassian.com/ex/bitbucket/%2e%2e/jira" }),
	"the API of another product":        ofInstallation(atlassian.ReasonAPIBaseURL, func(in claims) { first(in)["apiBaseUrl"] = "https://api.atlassian.com/ex/jira/" + other }),
	"the API without its id":            ofInstallation(atlassian.ReasonAPIBaseURL, func(in claims) { first(in)["apiBaseUrl"] = "https://api.atlassian.com/ex/bitbucket/" }),
	"a query after the API":             ofInstallation(atlassian.ReasonAPIBaseURL, func(in claims) { first(in)["apiBaseUrl"] = "https://api.bitbucket.org?x" }),
	"a context that is a list":          claimed(atlassian.ReasonContext, func(c claims) { c["context"] = []any{} }),
	"a context that is null":            claimed(atlassian.ReasonContext, func(c claims) { c["context"] = nil }),
	"no workspace anywhere":             claimed(atlassian.ReasonNoWorkspace, func(c claims) { delete(c, "context"); delete(c["app"].(claims)["installation"].(claims), "contexts") }),
	"a workspace of another product": claimed(atlassian.ReasonNoWorkspace, func(c claims) {
		delete(c, "context")
		first(c["app"].(claims)["installation"].(claims))["name"] = "jira"
	}),
	"a workspace that is a slug":       ofInstallation(atlassian.ReasonWorkspace, func(in claims) { first(in)["workspaceId"] = "acme" }),
	"a workspace that is null":         ofInstallation(atlassian.ReasonWorkspace, func(in claims) { first(in)["workspaceId"] = nil }),
	"a workspace that is empty":        ofContext(atlassian.ReasonWorkspace, func(c claims) { c["workspaceId"] = "" }),
	"a workspace with half its braces": ofContext(atlassian.ReasonWorkspace, func(c claims) { c["workspaceId"] = "{" + atlassiantest.Workspace }),
	"a workspace as URN":               ofContext(atlassian.ReasonWorkspace, func(c claims) { c["workspaceId"] = "urn:uuid:" + atlassiantest.Workspace }),
	"a workspace that is a number":     ofContext(atlassian.ReasonWorkspace, func(c claims) { c["workspaceId"] = 12 }),
	"installed in a site":              ofContext(atlassian.ReasonWorkspace, func(c claims) { c["installContext"] = "ari:cloud:jira::site/" + atlassiantest.Workspace }),
	"installed in a bare UUID":         ofContext(atlassian.ReasonWorkspace, func(c claims) { c["installContext"] = atlassiantest.Workspace }),
	"a context in another workspace":   ofContext(atlassian.ReasonWorkspacesDisagree, func(c claims) { c["workspaceId"] = "{" + other + "}" }),
	"an ARI of another workspace":      ofContext(atlassian.ReasonWorkspacesDisagree, func(c claims) { c["installContext"] = "ari:cloud:bitbucket::workspace/" + other }),
	"an installation in another":       ofInstallation(atlassian.ReasonWorkspacesDisagree, func(in claims) { first(in)["workspaceId"] = other }),
	"an installation in two": ofInstallation(atlassian.ReasonWorkspacesDisagree, func(in claims) {
		in["contexts"] = append(in["contexts"].([]any), claims{"name": "bitbucket", "workspaceId": other})
	}),
	"a principal that is a number":        claimed(atlassian.ReasonPrincipal, func(c claims) { c["principal"] = 712020 }),
	"a principal that is an object":       claimed(atlassian.ReasonPrincipal, func(c claims) { c["principal"] = claims{"accountId": account} }),
	"a principal that is empty":           claimed(atlassian.ReasonPrincipal, func(c claims) { c["principal"] = "" }),
	"a principal that is a path":          claimed(atlassian.ReasonPrincipal, func(c claims) { c["principal"] = "../users" }),
	"a principal with a line break":       claimed(atlassian.ReasonPrincipal, func(c claims) { c["principal"] = account + "\n" }),
	"a principal that is long":            claimed(atlassian.ReasonPrincipal, func(c claims) { c["principal"] = strings.Repeat("1", 129) }),
	"a principal that is a UUID in brace": claimed(atlassian.ReasonPrincipal, func(c claims) { c["principal"] = "{" + other + "}" }),
}

// respell changes bits of the last character that no decoder needs. A signature of 256 bytes has some.
func respell(segment string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, segment[len(segment)-1])
	return segment[:len(segment)-1] + string(alphabet[last^1])
}

func flip(segment string) string {
	if segment[9] == 'A' {
		return segment[:9] + "B" + segment[10:]
	}
	return segment[:9] + "A" + segment[10:]
}

func edit(segment, from, to string) string {
	raw, err := base64.RawURLEncoding.DecodeString(segment)
	if err != nil || !bytes.Contains(raw, []byte(from)) {
		panic("there is nothing to edit")
	}
	return base64.RawURLEncoding.EncodeToString(bytes.Replace(raw, []byte(from), []byte(to), 1))
}

// graft puts one token's signature under another.
func graft(signature, token string) string {
	return token[:strings.LastIndexByte(token, '.')] + signature[strings.LastIndexByte(signature, '.'):]
}

func unsigned(t *testing.T, header, payload claims) string {
	t.Helper()
	return base64.RawURLEncoding.EncodeToString(encode(t, header)) + "." + base64.RawURLEncoding.EncodeToString(encode(t, payload)) + "."
}

func pss(f forger) string {
	text := strings.TrimSuffix(unsigned(f.T, f.header(), f.claims()), ".")
	hash := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPSS(rand.Reader, f.key, crypto.SHA256, hash[:], nil)
	if err != nil {
		f.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func sha512(f forger) string {
	text := strings.TrimSuffix(unsigned(f.T, f.header(), f.claims()), ".")
	h := crypto.SHA512.New()
	h.Write([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, f.key, crypto.SHA512, h.Sum(nil))
	if err != nil {
		f.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// Each forged or damaged token is refused for its own reason, and nothing of it is logged.
func TestForgedTokens(t *testing.T) {
	t.Parallel()
	f := atlassiantest.New(t)
	f.SetClock(fixed)
	log := &journal{}
	v := f.Verifier(t, func(c *atlassian.Config) { c.Now, c.Log = fixed, log.logger() })
	own, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	kid, key := f.Key()
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(forgeries)) {
		forged := forgeries[name]
		// One after the other: the log is each one's own.
		t.Run(name, func(t *testing.T) {
			token := forged.make(forger{t, f, kid, key, own})
			log.take()
			got, err := v.Verify(t.Context(), token)
			var refused *atlassian.Refused
			if !errors.As(err, &refused) || refused.Reason != forged.reason {
				t.Fatalf("%v, want %s", err, forged.reason)
			}
			if got.Workspace != "" || got.Principal != "" || got.InstallationID != "" {
				t.Errorf("a refused token says %+v", got)
			}
			logged := log.take()
			if strings.Count(logged, "\n") != 1 || !strings.Contains(logged, "reason="+forged.reason+"\n") {
				t.Errorf("logged %q", logged)
			}
			nothingOf(t, token, logged+err.Error())
			seen[forged.reason] = true
		})
	}
	if len(seen) < 30 || len(forgeries) < 60 {
		t.Errorf("%d reasons of %d forgeries", len(seen), len(forgeries))
	}
	// After all that the good ones are as good as before.
	if _, err := v.Verify(t.Context(), f.Sign(f.Claims("events-ep"))); err != nil {
		t.Error(err)
	}
}

// nothingOf demands that what was told shows nothing of a token: no piece of its text, and no value of
// its header and claims.
func nothingOf(t *testing.T, token, told string) {
	t.Helper()
	for n := 0; n+12 <= len(token); n += 4 {
		if strings.Contains(told, token[n:n+12]) {
			t.Fatalf("told %q, which shows the token", told)
		}
	}
	for segment := range strings.SplitSeq(token, ".") {
		raw, err := base64.RawURLEncoding.DecodeString(segment)
		var value any
		if err != nil || json.Unmarshal(raw, &value) != nil {
			continue
		}
		for _, word := range words(value) {
			if len(word) > 5 && strings.Contains(told, word) {
				t.Fatalf("told %q, which shows %q of the token", told, word)
			}
		}
	}
}

// words are the strings in a JSON value.
func words(value any) []string {
	switch value := value.(type) {
	case string:
		return []string{value}
	case []any:
		var all []string
		for _, v := range value {
			all = append(all, words(v)...)
		}
		return all
	case claims:
		return words(slices.Collect(maps.Values(value)))
	default:
		return nil
	}
}

func TestBearer(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		header http.Header
		want   string
	}{
		"a token":       {http.Header{"Authorization": {"Bearer a.b.c"}}, "a.b.c"},
		"in lower case": {http.Header{"Authorization": {"bearer a.b.c"}}, "a.b.c"},
		"none":          {http.Header{}, ""},
		"the word only": {http.Header{"Authorization": {"Bearer"}}, ""},
		"empty":         {http.Header{"Authorization": {"Bearer "}}, ""},
		"two headers":   {http.Header{"Authorization": {"Bearer a.b.c", "Bearer d.e.f"}}, ""},
		"a list":        {http.Header{"Authorization": {"Bearer a.b.c,Bearer d.e.f"}}, ""},
		"two words":     {http.Header{"Authorization": {"Bearer a.b.c d"}}, ""},
		"another":       {http.Header{"Authorization": {"JWT a.b.c"}}, ""},
		"elsewhere":     {http.Header{"X-Authorization": {"Bearer a.b.c"}}, ""},
	} {
		if got, ok := atlassian.Bearer(test.header); got != test.want || ok != (test.want != "") {
			t.Errorf("%s: %q, %v", name, got, ok)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*atlassian.Config)
		good   bool
	}{
		"the least":                  {func(*atlassian.Config) {}, true},
		"another environment":        {func(c *atlassian.Config) { c.Environment = "STAGING" }, true},
		"keys on loopback":           {func(c *atlassian.Config) { c.JWKSURL = "http://127.0.0.1:1/jwks" }, true},
		"an API on loopback":         {func(c *atlassian.Config) { c.APIHosts = []string{"http://localhost:1"} }, true},
		"no app":                     {func(c *atlassian.Config) { c.AppID = "" }, false},
		"an app without ARI":         {func(c *atlassian.Config) { c.AppID = other }, false},
		"no environment of Forge's":  {func(c *atlassian.Config) { c.Environment = "production" }, false},
		"keys over plain HTTP":       {func(c *atlassian.Config) { c.JWKSURL = "http://forge.example/jwks" }, false},
		"keys in a file":             {func(c *atlassian.Config) { c.JWKSURL = "file:///etc/passwd" }, false},
		"an API over plain HTTP":     {func(c *atlassian.Config) { c.APIHosts = []string{"http://api.bitbucket.org"} }, false},
		"an API with a user":         {func(c *atlassian.Config) { c.APIHosts = []string{"https://a:b@api.bitbucket.org"} }, false},
		"any API":                    {func(c *atlassian.Config) { c.APIHosts = []string{"https://"} }, false},
		"an empty beginning":         {func(c *atlassian.Config) { c.APIHosts = []string{""} }, false},
		"an API that has parameters": {func(c *atlassian.Config) { c.APIHosts = []string{"https://api.bitbucket.org/?a"} }, false},
	} {
		config := atlassian.Config{AppID: atlassiantest.AppID}
		test.change(&config)
		if v, err := atlassian.New(config); (err == nil) != test.good || (v != nil) != test.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever is in a token: Verify refuses it or not, and what it lets through is whole.
func FuzzVerify(f *testing.F) {
	forge := atlassiantest.New(f)
	forge.SetClock(fixed)
	v := forge.Verifier(f, func(c *atlassian.Config) { c.Now, c.Log = fixed, slog.New(slog.DiscardHandler) })
	kid, key := forge.Key()
	header := claims{"alg": "RS256", "typ": "JWT", "kid": kid}
	good, err := json.Marshal(forge.ScreenClaims("pr-card", account))
	if err != nil {
		f.Fatal(err)
	}
	if _, err := v.Verify(f.Context(), forge.Sign(forge.Claims("events-ep"))); err != nil {
		f.Fatal(err) // the keys are fetched, not while it is fuzzed
	}
	f.Add("", []byte(nil), false)
	f.Add(forge.Sign(forge.Claims("events-ep")), good, false)
	f.Add(`{"alg":"RS256"}`, good, true)
	f.Add("", []byte(`{"aud":[]}`), true)
	f.Add("", bytes.Replace(good, []byte(atlassiantest.Workspace), []byte("{x"), 1), true)
	f.Fuzz(func(t *testing.T, token string, payload []byte, signed bool) {
		if signed { // what only Atlassian could send
			token = atlassiantest.Sign(key, header, payload)
		}
		got, err := v.Verify(context.Background(), token)
		var refused *atlassian.Refused
		switch {
		case errors.As(err, &refused):
			if refused.Reason == "" {
				t.Error("refused without a reason")
			}
		case err != nil:
			t.Fatal(err)
		case len(got.Workspace) != 36 || got.Workspace != strings.ToLower(got.Workspace) || got.InstallationID == "" ||
			!strings.HasPrefix(got.APIBaseURL, "https://api.") || got.ID == "" || got.ModuleKey == "" || got.ExpiresAt.Before(now.Add(-30*time.Second)):
			t.Errorf("let through %+v", got)
		}
	})
}
