package atlassian

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// DefaultJWKSURL is where Atlassian publishes the keys of invocation tokens.
	DefaultJWKSURL = "https://forge.cdn.prod.atlassian-dev.net/.well-known/jwks.json"
	// issuer is who issues invocation tokens.
	issuer = "forge/invocation-token"
	// leeway is by how much Atlassian's clock may differ from ours.
	leeway = 30 * time.Second
)

// DefaultAPIHosts are the API base URLs that are believed unless Config says otherwise.
func DefaultAPIHosts() []string {
	return []string{"https://api.bitbucket.org", "https://api.atlassian.com/ex/bitbucket/"}
}

// Config says whose tokens are good.
type Config struct {
	AppID       string // required: ari:cloud:ecosystem::app/<uuid>
	Environment string // PRODUCTION, STAGING or DEVELOPMENT; PRODUCTION
	JWKSURL     string // DefaultJWKSURL; https, or http on loopback
	// APIHosts are the allowed beginnings of the API base URL; [DefaultAPIHosts]. One that ends with
	// a slash allows what is below it and not itself; any other allows itself and what is below.
	APIHosts []string
	Client   *http.Client     // for the keys; http.DefaultClient. Its redirects are not followed.
	Log      *slog.Logger     // slog.Default()
	Now      func() time.Time // time.Now
}

// Invocation is what a good token says.
type Invocation struct {
	AppID          string // ari:cloud:ecosystem::app/<uuid>
	AppVersion     string // "" where the token does not say
	Environment    string // PRODUCTION, STAGING or DEVELOPMENT
	InstallationID string // ari:cloud:ecosystem::installation/<uuid>; another one after a reinstallation
	Workspace      string // UUID, bare and in lower case
	APIBaseURL     string // where this installation's API calls go, on the allow-list; no slash at its end
	ModuleType     string // what made the call
	ModuleKey      string // of the manifest's module that made the call
	Principal      string // Bitbucket account id of the person at the screen; "" where there is none
	ID             string // jti; not unique: a front end may send one token several times
	IssuedAt       time.Time
	ExpiresAt      time.Time
	Context        json.RawMessage // the context claim, an object; nil where there is none
}

// Verifier verifies invocation tokens. It is safe for concurrent use.
type Verifier struct {
	config Config
	parser *jwt.Parser
	keys   *keys
}

var appID = regexp.MustCompile(`^ari:cloud:ecosystem::app/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// New makes a verifier. It fetches nothing until the first token comes.
func New(config Config) (*Verifier, error) {
	config.Environment = cmp.Or(config.Environment, "PRODUCTION")
	config.JWKSURL = cmp.Or(config.JWKSURL, DefaultJWKSURL)
	config.Client = cmp.Or(config.Client, http.DefaultClient)
	config.Log = cmp.Or(config.Log, slog.Default())
	if len(config.APIHosts) == 0 {
		config.APIHosts = DefaultAPIHosts()
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if !appID.MatchString(config.AppID) {
		return nil, errors.New("atlassian: the app id must be ari:cloud:ecosystem::app/ and a UUID in lower case")
	}
	switch config.Environment {
	case "PRODUCTION", "STAGING", "DEVELOPMENT":
	default:
		return nil, fmt.Errorf("atlassian: there is no environment %q", config.Environment)
	}
	for _, address := range append([]string{config.JWKSURL}, config.APIHosts...) {
		if !secure(address) {
			return nil, fmt.Errorf("atlassian: %q must be an https URL, or an http URL on loopback, of host and path alone", address)
		}
	}
	return &Verifier{
		config: config,
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{jwt.SigningMethodRS256.Alg()}), jwt.WithIssuer(issuer), jwt.WithAudience(config.AppID),
			jwt.WithExpirationRequired(), jwt.WithNotBeforeRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(leeway),
			jwt.WithTimeFunc(config.Now), jwt.WithStrictDecoding(), jwt.WithJSONNumber(),
		),
		keys: newKeys(config),
	}, nil
}

// secure tells whether an address can be trusted to be answered by whom it names.
func secure(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	loopback := u.Hostname() == "localhost" || err == nil && ip.IsLoopback()
	return u.Scheme == "https" || u.Scheme == "http" && loopback
}

// Close ends a fetch of the keys that is under way; there is none afterwards.
func (v *Verifier) Close() { v.keys.close() }

// Verify reads a token. It fails with a [*Refused] where the token is bad, which it logs without
// anything of the token, and with an error that wraps [ErrUnavailable] where that cannot be told.
func (v *Verifier) Verify(ctx context.Context, token string) (Invocation, error) {
	invocation, err := v.verify(ctx, token)
	var refused *Refused
	if errors.As(err, &refused) {
		v.config.Log.WarnContext(ctx, "invocation token refused", "reason", refused.Reason)
	}
	return invocation, err
}

func (v *Verifier) verify(ctx context.Context, token string) (Invocation, error) {
	p, err := dissect(token)
	if err != nil {
		return Invocation{}, err
	}
	key, err := v.keys.find(ctx, p.kid)
	if err != nil {
		return Invocation{}, err
	}
	_, err = v.parser.ParseWithClaims(token, jwt.MapClaims{}, func(*jwt.Token) (any, error) { return key, nil })
	if reason := whatIsWrong(p, err); reason != "" {
		return Invocation{}, refuse(reason)
	}
	return v.read(p)
}

// whatIsWrong turns what the library found into a reason, "" for nothing. Its words are not passed
// on: they may quote the token.
func whatIsWrong(p parts, err error) string {
	audiences, several := p.claims["aud"].([]any)
	switch {
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return ReasonSignature
	case !p.timesMakeSense():
		return ReasonTimes
	case several && len(audiences) > 1:
		return ReasonManyAudiences
	case err == nil:
		return ""
	case errors.Is(err, jwt.ErrTokenExpired):
		return ReasonExpired
	case errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return ReasonIssuedInFuture
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return ReasonNotYetValid
	case !isString(p.claims["iss"]), errors.Is(err, jwt.ErrTokenInvalidIssuer):
		return ReasonIssuer
	case !isString(p.claims["aud"]), errors.Is(err, jwt.ErrTokenInvalidAudience):
		return ReasonAudience
	default:
		return ReasonClaims
	}
}

// Bearer is the one token in the one Authorization header of a request.
func Bearer(header http.Header) (string, bool) {
	values := header.Values("Authorization")
	if len(values) != 1 {
		return "", false
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" || strings.ContainsAny(token, " \t,") {
		return "", false
	}
	return token, true
}
