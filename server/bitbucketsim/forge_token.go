package bitbucketsim

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// JWKSPath is where the Sim publishes the keys of its Forge Invocation Tokens.
const JWKSPath = "/forge/.well-known/jwks.json"

// forgeKey is one key pair that invocation tokens are signed with.
type forgeKey struct {
	kid     string
	private *rsa.PrivateKey
}

// forgeKey returns the key that signs now.
func (s *Sim) forgeKey() *forgeKey {
	if len(s.forgeKeys) == 0 {
		s.forgeKeys = append(s.forgeKeys, newForgeKey())
	}
	return s.forgeKeys[len(s.forgeKeys)-1]
}

func newForgeKey() *forgeKey {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic("bitbucketsim: " + err.Error()) // the system has no randomness
	}
	return &forgeKey{"forge/invocation-token/" + bareUUID(), private}
}

// KeyRotation asks for another signing key.
type KeyRotation struct {
	// Forget takes the keys of before out of the key set, so that tokens signed with them no longer verify.
	Forget bool `json:"forget"`
}

// KeySet names the keys that are published; the last one signs.
type KeySet struct {
	KeyIDs []string `json:"key_ids"`
}

// RotateForgeKeys makes another signing key.
func (s *Sim) RotateForgeKeys(spec KeyRotation) (KeySet, error) {
	key := newForgeKey() // before the lock: it takes a while
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgeKey()
	if spec.Forget {
		s.forgeKeys = nil
	}
	s.forgeKeys = append(s.forgeKeys, key)
	var out KeySet
	for _, k := range s.forgeKeys {
		out.KeyIDs = append(out.KeyIDs, k.kid)
	}
	return out, nil
}

// serveJWKS publishes the keys.
func (s *Sim) serveJWKS(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	s.forgeKey()
	keys := []any{}
	for _, k := range s.forgeKeys {
		keys = append(keys, object{
			"kty": "RSA", "alg": "RS256", "use": "sig", "kid": k.kid,
			"n": base64.RawURLEncoding.EncodeToString(k.private.N.Bytes()),
			"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(k.private.E)).Bytes()),
		})
	}
	s.mu.Unlock()
	w.Header().Set("Cache-Control", "public, max-age=300")
	writeJSON(w, http.StatusOK, object{"keys": keys})
}

// forgeCaller is what a page's call adds to an invocation token; nil for what no person caused.
type forgeCaller struct {
	person  *person
	context object
}

// invocationToken signs a token for one call to an endpoint.
func (s *Sim) invocationToken(inst *forgeInstallation, endpoint *forgeModule, caller *forgeCaller) string {
	return s.signToken(s.invocationClaims(inst, endpoint, caller))
}

func (s *Sim) signToken(claims object) string {
	key := s.forgeKey()
	t := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims(claims))
	t.Header["kid"] = key.kid
	signed, err := t.SignedString(key.private)
	if err != nil {
		panic("bitbucketsim: " + err.Error()) // the key is ours and the claims are JSON
	}
	return signed
}

func (s *Sim) invocationClaims(inst *forgeInstallation, endpoint *forgeModule, caller *forgeCaller) object {
	v := inst.version
	now := s.now()
	claims := object{
		"app": object{
			"id": v.app.id, "version": fmt.Sprint(len(v.app.versions)), "appVersion": v.name(),
			"installationId": inst.ari(), "apiBaseUrl": s.baseURL,
			"installation": object{
				"id": inst.ari(),
				"contexts": []any{object{
					"name": "bitbucket", "apiBaseUrl": s.baseURL, "workspaceId": strings.Trim(inst.workspace.uuid, "{}"),
				}},
			},
			"environment": object{"type": v.app.environment, "id": v.app.environmentID},
			"module":      object{"type": "core:endpoint", "key": endpoint.Key},
		},
		"aud": v.app.id, "iss": "forge/invocation-token",
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(s.opts.Forge.InvocationTokenLifetime).Unix(),
		"jti": newSecret()[:40],
	}
	switch {
	case caller != nil:
		claims["context"], claims["principal"] = caller.context, caller.person.accountID
	case v.spec.InstallContext:
		claims["context"] = object{"installContext": workspaceARI(inst.workspace)}
	}
	return claims
}

func workspaceARI(w *workspace) string {
	return "ari:cloud:bitbucket::workspace/" + strings.Trim(w.uuid, "{}")
}

// InvocationTokenRequest asks for a token as an invocation would carry it, for tests of what is made of one.
type InvocationTokenRequest struct {
	ForgeChange
	// Endpoint is the key of the endpoint that the token is for.
	Endpoint string `json:"endpoint"`
	// Caller is the nickname of the person whose page calls; empty for an event. Module is the key of that
	// page's module.
	Caller string `json:"caller"`
	Module string `json:"module"`
	// Claims are put over the token's own; a member that is null is taken out. Objects are merged.
	Claims map[string]any `json:"claims"`
	// Header is put over the token's header in the same way.
	Header map[string]any `json:"header"`
}

// InvocationToken is a Forge Invocation Token with the headers that go with it.
type InvocationToken struct {
	Token       string `json:"token"`
	SystemToken string `json:"system_token"` // as in x-forge-oauth-system; empty where the endpoint gets none
	UserToken   string `json:"user_token"`   // as in x-forge-oauth-user
}

// IssueInvocationToken signs a token that no invocation carries. The signature is good, whatever the claims.
func (s *Sim) IssueInvocationToken(spec InvocationTokenRequest) (InvocationToken, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _, _, inst, err := s.forgeChange(spec.ForgeChange)
	if err != nil {
		return InvocationToken{}, err
	}
	if inst == nil {
		return InvocationToken{}, errNotInstalled
	}
	endpoint := inst.version.manifest.module(moduleEndpoint, spec.Endpoint)
	if endpoint == nil {
		return InvocationToken{}, fmt.Errorf("endpoint %q: %w", spec.Endpoint, ErrNotFound)
	}
	var caller *forgeCaller
	if spec.Caller != "" {
		p, err := s.person(spec.Caller)
		if err != nil {
			return InvocationToken{}, err
		}
		m := inst.version.manifest.module("", spec.Module)
		if m == nil {
			return InvocationToken{}, fmt.Errorf("module %q: %w", spec.Module, ErrNotFound)
		}
		caller = &forgeCaller{p, s.frameContext(inst, m, bareUUID(), object{"type": m.Type})}
	}
	claims, header := s.invocationClaims(inst, endpoint, caller), object{}
	overlay(claims, spec.Claims)
	key := s.forgeKey()
	t := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims(claims))
	t.Header["kid"] = key.kid
	maps.Copy(header, t.Header)
	overlay(header, spec.Header)
	t.Header = header
	signed, err := t.SignedString(key.private)
	if err != nil {
		return InvocationToken{}, err
	}
	out := InvocationToken{Token: signed, SystemToken: s.systemToken(inst, endpoint)}
	if caller != nil {
		out.UserToken = s.userToken(inst, endpoint, caller.person)
	}
	return out, nil
}

// overlay puts the members of from over those of to.
func overlay(to, from map[string]any) {
	for k, v := range from {
		was, both := to[k].(map[string]any)
		inner, is := v.(map[string]any)
		switch {
		case v == nil:
			delete(to, k)
		case both && is:
			overlay(was, inner)
		default:
			to[k] = v
		}
	}
}

// systemToken returns a token of the app's own account; empty where the endpoint or the scopes give none.
func (s *Sim) systemToken(inst *forgeInstallation, endpoint *forgeModule) string {
	if !endpoint.Auth.AppSystemToken.Enabled || !inst.version.manifest.hasScope("read:app-system-token") {
		return ""
	}
	if inst.tokens == nil {
		inst.tokens = &grant{key: "forge " + inst.id, consumer: &consumer{}, person: inst.account, forge: inst}
	}
	return s.issueForge(inst.tokens)
}

// userToken returns a token of a person who is using the app; empty where the endpoint or the scopes give none.
func (s *Sim) userToken(inst *forgeInstallation, endpoint *forgeModule, p *person) string {
	if !endpoint.Auth.AppUserToken.Enabled || !inst.version.manifest.hasScope("read:app-user-token") {
		return ""
	}
	if inst.users[p] == nil {
		inst.users[p] = &grant{key: "forge " + inst.id + " " + p.accountID, consumer: &consumer{}, person: p, forge: inst}
	}
	return s.issueForge(inst.users[p])
}

// issueForge makes a token that looks like a JWT, of which only exp may be read. Expired ones are forgotten.
func (s *Sim) issueForge(g *grant) string {
	g.scopes = g.forge.version.manifest.Permissions.Scopes
	now := s.now()
	for token, t := range s.accessTokens {
		if t.grant == g && now.Sub(t.expires) > time.Hour {
			delete(s.accessTokens, token)
		}
	}
	expires := now.Add(s.opts.Forge.TokenLifetime).Truncate(time.Second)
	part := func(v any) string { return base64.RawURLEncoding.EncodeToString(marshal(v)) }
	token := part(object{"alg": "RS256", "typ": "JWT"}) + "." +
		part(object{"exp": expires.Unix(), "jti": bareUUID()}) + "." +
		base64.RawURLEncoding.EncodeToString([]byte(newSecret()))
	s.accessTokens[token] = &accessToken{g, expires}
	return token
}

// ExpireForgeTokens lets the OAuth tokens of an installation expire now.
func (s *Sim) ExpireForgeTokens(spec ForgeChange) (GrantCount, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _, _, inst, err := s.forgeChange(spec)
	if err != nil {
		return GrantCount{}, err
	}
	if inst == nil {
		return GrantCount{}, errNotInstalled
	}
	n := map[*grant]bool{}
	for _, t := range s.accessTokens {
		if t.grant.forge == inst {
			t.expires = s.now().Add(-time.Second)
			n[t.grant] = true
		}
	}
	return GrantCount{len(n)}, nil
}

// jsonObject reads a JSON object; nil where raw is none.
func jsonObject(raw []byte) object {
	var o object
	if json.Unmarshal(raw, &o) != nil {
		return nil
	}
	return o
}
