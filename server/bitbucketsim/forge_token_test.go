package bitbucketsim_test

import (
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

var errUnknownKey = errors.New("the key is not published")

// publicKey finds the key of a token in the published set.
func (w *forgeWorld) publicKey(t *jwt.Token) (any, error) {
	keys := (&client{w.world, ""}).get(bitbucketsim.JWKSPath)
	for i := range descend(keys.json, "keys.[]") {
		at := fmt.Sprintf("keys.%d.", i)
		if keys.str(at+"kid") != t.Header["kid"] {
			continue
		}
		if keys.str(at+"kty") != "RSA" || keys.str(at+"alg") != "RS256" || keys.str(at+"use") != "sig" {
			return nil, fmt.Errorf("key is %s", keys.raw)
		}
		n, err := base64.RawURLEncoding.DecodeString(keys.str(at + "n"))
		if err != nil {
			return nil, err
		}
		e, err := base64.RawURLEncoding.DecodeString(keys.str(at + "e"))
		if err != nil {
			return nil, err
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}, nil
	}
	return nil, errUnknownKey
}

// documentedClaims are the members of an invocation token that the documentation has as required, with what they
// hold here. Source: Forge documentation, remote/essentials, "The Forge Invocation Token (FIT)".
func documentedClaims(app bitbucketsim.ForgeApp, inst bitbucketsim.ForgeInstallation, api string) map[string]string {
	return map[string]string{
		"aud": app.ID, "iss": "forge/invocation-token",
		"app.id": app.ID, "app.appVersion": inst.Version, "app.version": "1", "app.apiBaseUrl": api,
		"app.installationId": inst.ID, "app.installation.id": inst.ID,
		"app.installation.contexts.0.name":        "bitbucket",
		"app.installation.contexts.0.apiBaseUrl":  api,
		"app.installation.contexts.0.workspaceId": strings.Trim(inst.WorkspaceUUID, "{}"),
		"app.environment.type":                    "PRODUCTION", "app.environment.id": app.EnvironmentID,
		"app.module.type": "core:endpoint",
	}
}

func TestInvocationTokenOfAnEvent(t *testing.T) {
	t.Parallel()
	w := newForgeWorld(t, bitbucketsim.Options{})
	inst := w.install()
	_, call := w.named("avi:forge:installed:app", "/forge/lifecycle")
	claims, err := w.verify(call.header)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range documentedClaims(w.app, inst, w.sim.URL()) {
		if claims.str(name) != want {
			t.Errorf("%s is %v, want %q", name, claims.at(name), want)
		}
	}
	if claims.str("app.module.key") != "lifecycle-ep" || len(claims.str("jti")) != 40 {
		t.Errorf("module is %v, jti %v", claims.at("app.module"), claims.at("jti"))
	}
	for _, name := range []string{"context", "principal", "icLabel"} {
		if claims.at(name) != nil {
			t.Errorf("the token of an event has %s", name)
		}
	}
	iat, exp := claims.at("iat").(float64), claims.at("exp").(float64)
	if exp-iat != 25 || claims.at("nbf") != iat {
		t.Errorf("iat %v, nbf %v, exp %v", iat, claims.at("nbf"), exp)
	}
	if len(call.header.Get("X-B3-Traceid")) != 32 || len(call.header.Get("X-B3-Spanid")) != 16 {
		t.Errorf("trace headers are %q and %q", call.header.Get("X-B3-Traceid"), call.header.Get("X-B3-Spanid"))
	}
	if call.header.Get("X-Forge-Oauth-User") != "" {
		t.Error("an event carries the token of a person")
	}
}

func TestInvocationTokenExpires(t *testing.T) {
	t.Parallel()
	clock := newClock()
	w := newForgeWorld(t, bitbucketsim.Options{Now: clock.now})
	w.install()
	_, call := w.named("avi:forge:installed:app", "/forge/lifecycle")
	if _, err := w.verify(call.header, jwt.WithTimeFunc(clock.now)); err != nil {
		t.Fatal(err)
	}
	clock.advance(26 * time.Second)
	if _, err := w.verify(call.header, jwt.WithTimeFunc(clock.now)); !errors.Is(err, jwt.ErrTokenExpired) {
		t.Errorf("after 26 seconds: %v", err)
	}
}

func TestInstallContextIsGivenOnRequest(t *testing.T) {
	t.Parallel()
	w := newForgeWorld(t, bitbucketsim.Options{})
	must(t)(w.sim.RegisterForgeApp(bitbucketsim.ForgeApp{
		Manifest: forgeManifest, RemoteURL: w.remote.URL, InstallContext: true, Wrapped: true,
	}))
	inst := w.install()
	w.invoked(1)
	call := w.remote.at("/forge/lifecycle")[0]
	claims, err := w.verify(call.header)
	if err != nil {
		t.Fatal(err)
	}
	if want := "ari:cloud:bitbucket::workspace/" + strings.Trim(inst.WorkspaceUUID, "{}"); claims.str("context.installContext") != want {
		t.Errorf("context is %v", claims.at("context"))
	}
	if call.body.str("payload.eventType") != "avi:forge:installed:app" {
		t.Errorf("the body is not wrapped: %s", call.body.raw)
	}
}

func TestKeysRotate(t *testing.T) {
	t.Parallel()
	w := newForgeWorld(t, bitbucketsim.Options{})
	w.install()
	issue := func() http.Header {
		t.Helper()
		out, err := w.sim.IssueInvocationToken(bitbucketsim.InvocationTokenRequest{ForgeChange: w.by("alice"), Endpoint: "events-ep"})
		if err != nil {
			t.Fatal(err)
		}
		return http.Header{"Authorization": {"Bearer " + out.Token}}
	}
	old := issue()
	must(t)(w.sim.RotateForgeKeys(bitbucketsim.KeyRotation{}))
	fresh := issue()
	for _, h := range []http.Header{old, fresh} {
		if _, err := w.verify(h); err != nil {
			t.Error(err)
		}
	}
	set, err := w.sim.RotateForgeKeys(bitbucketsim.KeyRotation{Forget: true})
	if err != nil || len(set.KeyIDs) != 1 {
		t.Fatalf("keys are %v, %v", set, err)
	}
	if _, err := w.verify(fresh); !errors.Is(err, errUnknownKey) {
		t.Errorf("a forgotten key: %v", err)
	}
	if _, err := w.verify(issue()); err != nil {
		t.Error(err)
	}
}

func TestTokensToOrder(t *testing.T) {
	t.Parallel()
	w := newForgeWorld(t, bitbucketsim.Options{})
	w.install()
	bob := w.as("bob").get("/2.0/user").str("account_id")
	out, err := w.sim.IssueInvocationToken(bitbucketsim.InvocationTokenRequest{
		ForgeChange: w.by("alice"), Endpoint: "ui-ep", Caller: "bob", Module: "pr-card",
		Claims: map[string]any{"icLabel": "orange", "jti": nil, "app": map[string]any{"environment": map[string]any{"type": "STAGING"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	claims, err := w.verify(http.Header{"Authorization": {"Bearer " + out.Token}})
	if err != nil {
		t.Fatal(err)
	}
	if claims.str("principal") != bob || claims.str("context.moduleKey") != "pr-card" || claims.str("icLabel") != "orange" ||
		claims.at("jti") != nil || claims.str("app.environment.type") != "STAGING" || claims.str("app.environment.id") == "" {
		t.Errorf("claims are %v", claims.json)
	}
	if out.SystemToken == "" || out.UserToken == "" {
		t.Errorf("tokens are missing: %+v", out)
	}
	bad, err := w.sim.IssueInvocationToken(bitbucketsim.InvocationTokenRequest{
		ForgeChange: w.by("alice"), Endpoint: "events-ep", Header: map[string]any{"kid": "../other"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.verify(http.Header{"Authorization": {"Bearer " + bad.Token}}); !errors.Is(err, errUnknownKey) {
		t.Errorf("a foreign kid: %v", err)
	}
}

// exp reads the one claim of an OAuth token that may be read.
func exp(t *testing.T, token string) time.Time {
	t.Helper()
	claims := jwt.MapClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(token, claims); err != nil {
		t.Fatalf("the token does not look like a JWT: %v", err)
	}
	at, err := claims.GetExpirationTime()
	if err != nil || at == nil {
		t.Fatalf("exp: %v", err)
	}
	return at.Time
}

func TestSystemTokenActsAsTheApp(t *testing.T) {
	t.Parallel()
	clock := newClock()
	w := newForgeWorld(t, bitbucketsim.Options{Now: clock.now})
	inst := w.install()
	w.open("Nozzle")
	_, call := w.named("avi:forge:installed:app", "/forge/lifecycle")
	token := call.header.Get("X-Forge-Oauth-System")
	if got := exp(t, token).Sub(clock.now()); got != 2*time.Hour {
		t.Errorf("the token lives %s", got)
	}
	app := &client{w.world, token}
	head := w.as("bob").get(w.repo + "/refs/branches/feature").str("target.hash")
	made := app.do(201, "POST", w.repo+"/commit/"+head+"/statuses/build", map[string]any{
		"key": "gate", "state": "INPROGRESS", "url": "https://app.example.com/", "refname": "feature",
	})
	if made.str("author.type") != "app_user" || made.str("author.display_name") != "SignedApproval" || made.str("author.account_id") != inst.AccountID {
		t.Errorf("the status is by %v", made.at("author"))
	}
	restriction := app.do(201, "POST", w.repo+"/branch-restrictions", map[string]any{"kind": "push", "pattern": "main", "users": []any{}})
	app.do(200, "GET", w.repo+"/branch-restrictions", nil)
	if restriction.at("id") == nil {
		t.Errorf("restriction is %s", restriction.raw)
	}
	app.get("/2.0/workspaces/acme/members")
	merged := app.do(200, "POST", w.repo+"/pullrequests/1/merge", nil)
	if merged.str("closed_by.account_id") != inst.AccountID {
		t.Errorf("merged by %v", merged.at("closed_by"))
	}
	// Another's status stays another's, whatever the scopes.
	w.as("dave").do(201, "POST", w.repo+"/commit/"+head+"/statuses/build", map[string]any{
		"key": "theirs", "state": "FAILED", "url": "https://ci.example.com/",
	})
	app.do(403, "PUT", w.repo+"/commit/"+head+"/statuses/build/theirs", map[string]any{"state": "SUCCESSFUL"})
	clock.advance(2*time.Hour + time.Second)
	app.do(401, "GET", w.repo, nil)
}

func TestForgeTokensAreConfined(t *testing.T) {
	t.Parallel()
	w := newForgeWorld(t, bitbucketsim.Options{})
	must(t)(w.sim.AddWorkspace(bitbucketsim.Workspace{Slug: "other", Owners: []string{"alice"}}))
	must(t)(w.sim.AddRepository(bitbucketsim.Repository{Workspace: "other", Slug: "secret"}))
	inst := w.install()
	out, err := w.sim.IssueInvocationToken(bitbucketsim.InvocationTokenRequest{
		ForgeChange: w.by("alice"), Endpoint: "ui-ep", Caller: "alice", Module: "pr-card",
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{"system": out.SystemToken, "user": out.UserToken} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := &client{w.world, token}
			for _, path := range []string{"/2.0/user", "/2.0/user/emails", w.repo + "/hooks", "/2.0/workspaces/acme/hooks"} {
				app.do(403, "GET", path, nil)
			}
			// A scope that the manifest does not have.
			if refused := app.do(403, "DELETE", w.repo+"/refs/branches/feature", nil); len(descend(refused.json, "error.detail.required.[]")) != 1 {
				t.Errorf("refused with %s", refused.raw)
			}
			app.do(404, "GET", "/2.0/repositories/other/secret", nil)
			app.do(403, "GET", "/2.0/workspaces/other/members", nil)
			if got := len(descend(app.get("/2.0/user/workspaces").json, "values.[]")); got != 1 {
				t.Errorf("%d workspaces are seen", got)
			}
			app.get(w.repo)
		})
	}
	if user := (&client{w.world, out.UserToken}).get("/2.0/users/" + inst.AccountID); user.str("type") != "app_user" {
		t.Errorf("the app's account is %s", user.raw)
	}
}

func TestExpiredForgeTokens(t *testing.T) {
	t.Parallel()
	w := newForgeWorld(t, bitbucketsim.Options{})
	w.install()
	_, call := w.named("avi:forge:installed:app", "/forge/lifecycle")
	app := &client{w.world, call.header.Get("X-Forge-Oauth-System")}
	app.get(w.repo)
	if n, err := w.sim.ExpireForgeTokens(w.by("alice")); err != nil || n.Grants != 1 {
		t.Errorf("expired %+v, %v", n, err)
	}
	app.do(401, "GET", w.repo, nil)
}
