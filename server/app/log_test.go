package app_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/signedapproval/bitbucket/internal/dbtest"
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
