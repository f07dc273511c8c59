package app_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	formats "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/internal/witnesstest"
	"github.com/signedapproval/bitbucket/server/app"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/witness"
)

// newLogKey makes a key that signs the checkpoints of a log.
func newLogKey(t testing.TB, origin string) string {
	t.Helper()
	private, _, err := witness.NewKey(origin)
	if err != nil {
		t.Fatal(err)
	}
	return private
}

func TestLogNewKey(t *testing.T) {
	t.Parallel()
	code, out, errs := command(t, "log", "new-key", "approvals.example/log")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	keys, err := witness.ParseKeys("approvals.example/log", []byte(out))
	if err != nil {
		t.Fatal(err)
	}
	if want := "verifier key: " + keys.Verifiers()[0] + "\n"; errs != want {
		t.Errorf("the error output is %q, want %q", errs, want)
	}
	if strings.Contains(out, keys.Verifiers()[0]) {
		t.Error("the output is not the private key alone")
	}
	code, out, errs = command(t, "log", "new-key", "approvals.example/log", "--ml-dsa")
	if keys, err := witness.ParseKeys("approvals.example/log", []byte(out)); code != 0 || err != nil || errs != "verifier key: "+keys.Verifiers()[0]+"\n" {
		t.Errorf("an ML-DSA key: exit %d, %q, %v", code, errs, err)
	}
	if code, out, _ := command(t, "log", "new-key", "two words"); code != 1 || out != "" {
		t.Errorf("a name with a space: exit %d, %q", code, out)
	}
}

// TestServerOfAPublishedLog: a server is ready while its log is what its sink has, serves it to everybody, and is not
// started with the key of another log.
func TestServerOfAPublishedLog(t *testing.T) {
	t.Parallel()
	db := dbtest.New(t)
	sink := t.TempDir()
	config := app.Config{
		Origin: "http://localhost:8080", DatabaseURL: db.AppURL, RedisURL: "redis://" + miniredis.RunT(t).Addr(), Keyset: string(store.NewKeyset()),
		ConnectKey: "k", ConnectSecret: "s", SignInKey: "k", SignInSecret: "s", CallsPerHour: 1000,
		BitbucketAPI: "https://api.bitbucket.org", BitbucketWeb: "https://bitbucket.org", LogSink: sink,
		LogKeyFile: write(t, t.TempDir(), "log.key", newLogKey(t, "localhost:8080/log")+"\n"),
	}
	if err := config.Validate(); err != nil {
		t.Fatal(err)
	}
	server, err := app.New(t.Context(), config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	get := func(path string) (int, string) {
		t.Helper()
		got := httptest.NewRecorder()
		server.Handler().ServeHTTP(got, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		body, err := io.ReadAll(got.Body)
		if err != nil {
			t.Fatal(err)
		}
		return got.Code, string(body)
	}
	if code, body := get("/readyz"); code != http.StatusOK {
		t.Errorf("with an empty sink: %d %s", code, body)
	}
	if code, body := get("/log/verifier-keys"); code != http.StatusOK || !strings.HasPrefix(body, "localhost:8080/log+") {
		t.Errorf("keys: %d %s", code, body)
	}
	if code, _ := get("/log/checkpoint"); code != http.StatusNotFound {
		t.Errorf("checkpoint before the first: %d", code)
	}

	keys, err := config.ReadLogKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ahead, err := keys.Sign(witness.Head{Size: 4})
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(sink, "000", "000", "000", "000", "000")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, folder, "004", string(ahead))
	if code, body := get("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "it is not what was published") {
		t.Errorf("with a log behind its sink: %d %s", code, body)
	}
	if err := os.RemoveAll(sink); err != nil {
		t.Fatal(err)
	}
	if code, body := get("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "its sink is away") || strings.Contains(body, sink) {
		t.Errorf("without its sink: %d %s", code, body)
	}

	config.LogKeyFile, config.LogKey = "", newLogKey(t, "other.example/log")
	if other, err := app.New(t.Context(), config, slog.New(slog.DiscardHandler)); err == nil {
		other.Close()
		t.Error("a server started with the key of another log")
	}
}

// logConfig is a whole configuration with a database of its own.
func logConfig(t *testing.T) app.Config {
	t.Helper()
	return app.Config{
		Origin: "http://localhost:8080", DatabaseURL: dbtest.New(t).AppURL, RedisURL: "redis://" + miniredis.RunT(t).Addr(), Keyset: string(store.NewKeyset()),
		ConnectKey: "k", ConnectSecret: "s", SignInKey: "k", SignInSecret: "s", CallsPerHour: 1000,
		BitbucketAPI: "https://api.bitbucket.org", BitbucketWeb: "https://bitbucket.org", LogKey: newLogKey(t, "localhost:8080/log"),
	}
}

// TestServerWithAWitness: what the server shows to everybody carries the cosignature that it waits for.
func TestServerWithAWitness(t *testing.T) {
	t.Parallel()
	config := logConfig(t)
	keys, err := witness.ParseKeys("localhost:8080/log", []byte(config.LogKey))
	if err != nil {
		t.Fatal(err)
	}
	w, err := witnesstest.New("witness.example/w")
	if err != nil {
		t.Fatal(err)
	}
	other := httptest.NewServer(w)
	defer other.Close()
	config.LogWitnesses, config.LogWitnessQuorum = []string{w.Key() + " " + other.URL}, 1
	if err := config.Validate(); err != nil {
		t.Fatal(err)
	}
	server, stop := serving(t, config)
	defer stop()
	get := func(handler http.Handler, path string) (int, string) {
		got := httptest.NewRecorder()
		handler.ServeHTTP(got, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		return got.Code, got.Body.String()
	}
	metric := func(text string) func() bool {
		return func() bool {
			_, body := get(server.Metrics(), "/metrics")
			return strings.Contains(body, text)
		}
	}
	// It does not know the log yet: nothing is published, and the operator can see why.
	eventually(t, "the witness refuses", metric(`signedapproval_log_witness_seconds_count{outcome="refused",witness="witness.example/w"}`))
	eventually(t, "the publication fails", metric(`signedapproval_log_publish_seconds_count{outcome="failed"}`))
	if code, body := get(server.Handler(), "/log/checkpoint"); code != http.StatusNotFound {
		t.Errorf("without a quorum: %d %s", code, body)
	}
	if err := w.Follow(keys.Verifiers()...); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the checkpoint is published", func() bool {
		code, _ := get(server.Handler(), "/log/checkpoint")
		return code == http.StatusOK
	})
	_, signed := get(server.Handler(), "/log/checkpoint")
	verifier, err := formats.NewVerifierForCosignatureV1(w.Key())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open([]byte(signed), note.VerifierList(verifier)); err != nil {
		t.Errorf("%s: %v", signed, err)
	}
	eventually(t, "the witness cosigned", metric(`signedapproval_log_witness_seconds_count{outcome="cosigned",witness="witness.example/w"}`))
}

// serving runs a server until stop is called, which tells of an end that is not good.
func serving(t *testing.T, config app.Config) (server *app.Server, stop func()) {
	t.Helper()
	server, err := app.New(t.Context(), config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		server.Close()
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx, listener) }()
	return server, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		server.Close()
	}
}

// eventually polls a condition.
func eventually(t *testing.T, what string, met func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !met() {
		select {
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

func TestAdoptSink(t *testing.T) {
	t.Parallel()
	config := logConfig(t)
	if err := config.Validate(); err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	adopt := func() (int, string, string) {
		return command(t, "log", "adopt-sink", "--database-url", config.DatabaseURL, "--log-origin", "localhost:8080/log", "--log-sink", folder)
	}
	if code, out, errs := adopt(); code != 0 || !strings.Contains(out, "lacks nothing") {
		t.Fatalf("before anything is published: exit %d %s%s", code, out, errs)
	}
	publishNothing(t, config)
	config.LogSink = folder
	ready := func() (int, string) {
		server, err := app.New(t.Context(), config, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		got := httptest.NewRecorder()
		server.Handler().ServeHTTP(got, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
		return got.Code, got.Body.String()
	}
	if code, body := ready(); code != http.StatusServiceUnavailable || !strings.Contains(body, "adopt-sink") {
		t.Errorf("with a new sink: %d %s", code, body)
	}
	if code, out, errs := adopt(); code != 0 || !strings.Contains(out, "has the checkpoint 0") {
		t.Fatalf("exit %d %s%s", code, out, errs)
	}
	if code, body := ready(); code != http.StatusOK {
		t.Errorf("after it was adopted: %d %s", code, body)
	}
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := adopt(); code != 1 {
		t.Errorf("a folder that is not there: exit %d %s", code, out)
	}
}

func TestLogSettings(t *testing.T) {
	t.Parallel()
	w, err := witnesstest.New("witness.example/w")
	if err != nil {
		t.Fatal(err)
	}
	good := w.Key() + " https://witness.example"
	for name, test := range map[string]struct {
		change func(c *app.Config)
		says   string // "" for nothing
	}{
		"a witness": {func(c *app.Config) { c.LogWitnesses, c.LogWitnessQuorum = []string{good}, 1 }, ""},
		"a bucket":  {func(c *app.Config) { c.LogSink = "s3://bucket/prefix" }, ""},
		"a key service alone": {func(c *app.Config) {
			c.LogKey, c.LogKeyKMS, c.LogKeyKMSTokenFile = "", "https://vault.example/v1/transit/keys/log", "token"
		}, ""},
		"a key service besides": {func(c *app.Config) {
			c.LogKeyKMS, c.LogKeyKMSTokenFile = "https://vault.example/v1/transit/keys/log", "token"
		}, ""},
		"two keys":               {func(c *app.Config) { c.LogKeyFile = "log.key" }, "SIGNEDAPPROVAL_LOG_KEY"},
		"no key":                 {func(c *app.Config) { c.LogKey = "" }, "SIGNEDAPPROVAL_LOG_KEY"},
		"no token":               {func(c *app.Config) { c.LogKeyKMS = "https://vault.example/v1/transit/keys/log" }, "go together"},
		"more than there are":    {func(c *app.Config) { c.LogWitnesses, c.LogWitnessQuorum = []string{good}, 2 }, "which is 1"},
		"fewer than none":        {func(c *app.Config) { c.LogWitnessQuorum = -1 }, "which is 0"},
		"half a witness":         {func(c *app.Config) { c.LogWitnesses = []string{w.Key()} }, "SIGNEDAPPROVAL_LOG_WITNESSES: witness 1"},
		"a bucket without names": {func(c *app.Config) { c.LogSink = "s3://" }, "SIGNEDAPPROVAL_LOG_SINK"},
	} {
		config := app.Config{
			Origin: "http://localhost:8080", DatabaseURL: "postgres://localhost/a", RedisURL: "redis://localhost", Keyset: string(store.NewKeyset()),
			ConnectKey: "k", ConnectSecret: "s", SignInKey: "k", SignInSecret: "s", CallsPerHour: 1000,
			BitbucketAPI: "https://api.bitbucket.org", BitbucketWeb: "https://bitbucket.org", LogKey: "key",
		}
		test.change(&config)
		err := config.Validate()
		if (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
