// Package app puts the parts together: it reads the configuration, wires the packages, and names
// every route.
package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/witness"
)

// Config is everything that a server is told, by flags or by the environment variables beside
// them. It is checked as a whole by Validate before anything starts.
type Config struct {
	Origin string `help:"The public address of this server, scheme and host: what passkeys are bound to. It can never change." env:"SIGNEDAPPROVAL_ORIGIN" placeholder:"https://approvals.example"`
	Listen string `help:"Address to listen on." env:"SIGNEDAPPROVAL_LISTEN" default:"127.0.0.1:8080"`
	// Metrics and health are not for the public.
	AdminListen string `help:"Address for /metrics, empty for none." env:"SIGNEDAPPROVAL_ADMIN_LISTEN" default:""`

	TrustedProxies []string `help:"Networks of the proxies in front, whose X-Forwarded-For is believed, such as 10.0.0.0/8." env:"SIGNEDAPPROVAL_TRUSTED_PROXIES"`

	DatabaseURL string `help:"PostgreSQL 15 or newer, as a login that is a member of signedapproval_app." env:"DATABASE_URL" placeholder:"postgres://…"`
	RedisURL    string `help:"Redis 7 or newer, or Valkey." env:"REDIS_URL" placeholder:"redis://…"`

	Keyset     string `help:"The keyset that seals tokens at rest, as JSON. Better: a file." env:"SIGNEDAPPROVAL_KEYSET"`
	KeysetFile string `help:"A file that holds the keyset." env:"SIGNEDAPPROVAL_KEYSET_FILE" type:"path"`

	ConnectKey    string `help:"OAuth consumer that connects workspaces: its key." env:"SIGNEDAPPROVAL_CONNECT_KEY"`
	ConnectSecret string `help:"Its secret." env:"SIGNEDAPPROVAL_CONNECT_SECRET"`
	SignInKey     string `help:"OAuth consumer that signs people in: its key." env:"SIGNEDAPPROVAL_SIGN_IN_KEY"`
	SignInSecret  string `help:"Its secret." env:"SIGNEDAPPROVAL_SIGN_IN_SECRET"`

	BitbucketAPI string `help:"Where Bitbucket's API is." env:"SIGNEDAPPROVAL_BITBUCKET_API" default:"https://api.bitbucket.org"`
	BitbucketWeb string `help:"Where Bitbucket's pages and its OAuth are." env:"SIGNEDAPPROVAL_BITBUCKET_WEB" default:"https://bitbucket.org"`
	CallsPerHour int    `help:"How many API calls one connection may make in an hour; what one person asks for uses half of them at most." env:"SIGNEDAPPROVAL_CALLS_PER_HOUR" default:"1000"`

	ForgeAppID        string   `help:"The Forge app's id, ari:cloud:ecosystem::app/…; without one, the app's doors are closed." env:"SIGNEDAPPROVAL_FORGE_APP_ID"`
	ForgeEnvironment  string   `help:"The Forge environment that may call: PRODUCTION, STAGING or DEVELOPMENT." env:"SIGNEDAPPROVAL_FORGE_ENVIRONMENT" default:"PRODUCTION" enum:"PRODUCTION,STAGING,DEVELOPMENT"`
	ForgeJWKSURL      string   `help:"Where the keys are that sign Forge's invocation tokens." env:"SIGNEDAPPROVAL_FORGE_JWKS_URL" default:"https://forge.cdn.prod.atlassian-dev.net/.well-known/jwks.json"`
	ForgeAPIHosts     []string `help:"Where an installation's API may be." env:"SIGNEDAPPROVAL_FORGE_API_HOSTS" default:"https://api.bitbucket.org,https://api.atlassian.com/ex/bitbucket/"`
	ForgeFrameOrigins []string `help:"Origins of the pages that Forge hosts for us, which may follow pull requests; * stands for one name." env:"SIGNEDAPPROVAL_FORGE_FRAME_ORIGINS" default:"https://*.cdn.prod.atlassian-dev.net"`

	SMTPHost     string `help:"Mail server; without one, notices stay in the inbox." env:"SIGNEDAPPROVAL_SMTP_HOST"`
	SMTPPort     int    `help:"Its port." env:"SIGNEDAPPROVAL_SMTP_PORT" default:"587"`
	SMTPUser     string `help:"Its user name." env:"SIGNEDAPPROVAL_SMTP_USER"`
	SMTPPassword string `help:"Its password." env:"SIGNEDAPPROVAL_SMTP_PASSWORD"`
	SMTPFrom     string `help:"Sender of the mails." env:"SIGNEDAPPROVAL_SMTP_FROM"`

	LogOrigin          string   `help:"The name of the log in statements and checkpoints; the host of the origin and /log where empty." env:"SIGNEDAPPROVAL_LOG_ORIGIN"`
	LogKey             string   `help:"The private keys that sign the log's checkpoints, one a line. Better: a file." env:"SIGNEDAPPROVAL_LOG_KEY"`
	LogKeyFile         string   `help:"A file that holds them." env:"SIGNEDAPPROVAL_LOG_KEY_FILE" type:"path"`
	LogKeyKMS          string   `help:"A key in the transit engine of HashiCorp Vault that signs them, alone or beside the others, such as https://vault.example/v1/transit/keys/log." env:"SIGNEDAPPROVAL_LOG_KEY_KMS"`
	LogKeyKMSTokenFile string   `help:"A file that holds the token for it; it is read each time." env:"SIGNEDAPPROVAL_LOG_KEY_KMS_TOKEN_FILE" type:"path"`
	LogSink            string   `help:"Where every checkpoint of the log is kept outside the database: a folder, or s3://bucket/prefix with ?endpoint=https://… and &region=… where needed; without one, a database that was put back goes unnoticed." env:"SIGNEDAPPROVAL_LOG_SINK"`
	LogWitnesses       []string `help:"Who cosigns the log: for each witness its verifier key, a space and its address." env:"SIGNEDAPPROVAL_LOG_WITNESSES"`
	LogWitnessQuorum   int      `help:"How many of them must have cosigned before anything turns green; 0 waits for none." env:"SIGNEDAPPROVAL_LOG_WITNESS_QUORUM" default:"0"`
	AttestationKey     string   `help:"The private keys that sign attestations and audits, in PEM; without one there are none. Never a key of the log. Better: a file." env:"SIGNEDAPPROVAL_ATTESTATION_KEY"`
	AttestationKeyFile string   `help:"A file that holds them." env:"SIGNEDAPPROVAL_ATTESTATION_KEY_FILE" type:"path"`
	Models             string   `help:"An anchors file that pins models of authenticators (signedapproval anchors models): rules can ask for these, and new passkeys are asked for their attestation." env:"SIGNEDAPPROVAL_MODELS" type:"path"`

	DeliveryDays int `help:"For how many days webhook deliveries are kept, 1 to 42; a week is forgotten as a whole." env:"SIGNEDAPPROVAL_DELIVERY_DAYS" default:"30"`

	LogLevel string `help:"debug, info, warn or error." env:"SIGNEDAPPROVAL_LOG_LEVEL" default:"info" enum:"debug,info,warn,error"`
}

// Validate says everything that is wrong at once, and fills in what follows from the rest.
func (c *Config) Validate() error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if origin, err := url.Parse(c.Origin); err != nil || origin.Host == "" || origin.Path != "" || origin.RawQuery != "" || origin.User != nil {
		bad("SIGNEDAPPROVAL_ORIGIN must be a scheme and a host, such as https://approvals.example")
	} else {
		if origin.Scheme != "https" && (origin.Scheme != "http" || origin.Hostname() != "localhost") {
			bad("SIGNEDAPPROVAL_ORIGIN must use https, or http on localhost: browsers refuse passkeys elsewhere")
		}
		if net.ParseIP(origin.Hostname()) != nil {
			bad("SIGNEDAPPROVAL_ORIGIN must have a host name: passkeys cannot be bound to an address")
		}
		if c.LogOrigin == "" {
			c.LogOrigin = origin.Host + "/log"
		}
	}
	for name, value := range map[string]string{
		"DATABASE_URL": c.DatabaseURL, "REDIS_URL": c.RedisURL,
		"SIGNEDAPPROVAL_CONNECT_KEY": c.ConnectKey, "SIGNEDAPPROVAL_CONNECT_SECRET": c.ConnectSecret,
		"SIGNEDAPPROVAL_SIGN_IN_KEY": c.SignInKey, "SIGNEDAPPROVAL_SIGN_IN_SECRET": c.SignInSecret,
	} {
		if value == "" {
			bad("%s is missing", name)
		}
	}
	if (c.Keyset == "") == (c.KeysetFile == "") {
		bad("exactly one of SIGNEDAPPROVAL_KEYSET and SIGNEDAPPROVAL_KEYSET_FILE must be set; `signedapproval keys new` makes a keyset")
	}
	if c.LogKey != "" && c.LogKeyFile != "" || c.LogKey == "" && c.LogKeyFile == "" && c.LogKeyKMS == "" {
		bad("one of SIGNEDAPPROVAL_LOG_KEY and SIGNEDAPPROVAL_LOG_KEY_FILE must be set, or SIGNEDAPPROVAL_LOG_KEY_KMS, and not both of the first; `signedapproval log new-key` makes a key")
	}
	if (c.LogKeyKMS == "") != (c.LogKeyKMSTokenFile == "") {
		bad("SIGNEDAPPROVAL_LOG_KEY_KMS and SIGNEDAPPROVAL_LOG_KEY_KMS_TOKEN_FILE go together")
	}
	if c.DeliveryDays < 0 || c.DeliveryDays > store.MostDeliveryDays {
		bad("SIGNEDAPPROVAL_DELIVERY_DAYS must be from 1 to %d", store.MostDeliveryDays)
	}
	if c.LogSink != "" {
		if _, err := witness.OpenSink(c.LogSink); err != nil {
			bad("SIGNEDAPPROVAL_LOG_SINK: %w", err)
		}
	}
	if witnesses, err := witness.ParseWitnesses(c.LogWitnesses); err != nil {
		bad("SIGNEDAPPROVAL_LOG_WITNESSES: %w", err)
	} else if c.LogWitnessQuorum < 0 || c.LogWitnessQuorum > len(witnesses) {
		bad("SIGNEDAPPROVAL_LOG_WITNESS_QUORUM must be from 0 to the number of witnesses, which is %d", len(witnesses))
	}
	if _, err := readModels(c.Models); err != nil {
		bad("SIGNEDAPPROVAL_MODELS: %w", err)
	}
	if c.AttestationKey != "" && c.AttestationKeyFile != "" {
		bad("at most one of SIGNEDAPPROVAL_ATTESTATION_KEY and SIGNEDAPPROVAL_ATTESTATION_KEY_FILE may be set; `signedapproval attestation new-key` makes a key")
	}
	for name, value := range map[string]string{"SIGNEDAPPROVAL_BITBUCKET_API": c.BitbucketAPI, "SIGNEDAPPROVAL_BITBUCKET_WEB": c.BitbucketWeb} {
		if u, err := url.Parse(value); err != nil || u.Host == "" || u.Scheme != "https" && !loopback(u.Hostname()) {
			bad("%s must be an https address", name)
		}
	}
	if _, err := c.proxies(); err != nil {
		bad("SIGNEDAPPROVAL_TRUSTED_PROXIES: %w", err)
	}
	for _, origin := range c.ForgeFrameOrigins {
		if _, err := frameOrigin(origin); err != nil {
			bad("SIGNEDAPPROVAL_FORGE_FRAME_ORIGINS: %w", err)
		}
	}
	if c.CallsPerHour < 60 {
		bad("SIGNEDAPPROVAL_CALLS_PER_HOUR must be at least 60")
	}
	if (c.SMTPHost == "") != (c.SMTPFrom == "") {
		bad("SIGNEDAPPROVAL_SMTP_HOST and SIGNEDAPPROVAL_SMTP_FROM go together")
	}
	return errors.Join(problems...)
}

// proxies are the trusted networks.
func (c *Config) proxies() (prefixes []netip.Prefix, err error) {
	for _, text := range c.TrustedProxies {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%q is no network such as 10.0.0.0/8", text)
		}
		prefixes = append(prefixes, prefix.Masked())
	}
	return prefixes, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}

// RPID is the relying party id of every passkey: the origin's host.
func (c *Config) RPID() string {
	origin, err := url.Parse(c.Origin)
	if err != nil {
		return ""
	}
	return origin.Hostname()
}

// Secure tells whether the origin uses TLS.
func (c *Config) Secure() bool { return strings.HasPrefix(c.Origin, "https://") }

// ReadKeyset gives the bytes of the keyset.
func (c *Config) ReadKeyset() ([]byte, error) {
	if c.Keyset != "" {
		return []byte(c.Keyset), nil
	}
	keyset, err := os.ReadFile(c.KeysetFile)
	if err != nil {
		return nil, fmt.Errorf("keyset: %w", err)
	}
	return keyset, nil
}

// ReadLogKeys gives the keys that sign the log's checkpoints. It asks the key management service, if there is one.
func (c *Config) ReadLogKeys(ctx context.Context) (keys *witness.Keys, err error) {
	if c.LogKey != "" || c.LogKeyFile != "" {
		text := []byte(c.LogKey)
		if c.LogKey == "" {
			if text, err = os.ReadFile(c.LogKeyFile); err != nil {
				return nil, fmt.Errorf("log key: %w", err)
			}
		}
		if keys, err = witness.ParseKeys(c.LogOrigin, text); err != nil || c.LogKeyKMS == "" {
			return keys, err
		}
	}
	managed, err := witness.OpenKMS(ctx, c.LogOrigin, c.LogKeyKMS, c.LogKeyKMSTokenFile)
	if err != nil || keys == nil {
		return managed, err
	}
	return witness.Join(keys, managed)
}
