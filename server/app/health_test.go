package app_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/migrations"
	"github.com/signedapproval/bitbucket/server/app"
	"github.com/signedapproval/bitbucket/server/store"
)

func TestReadyNeedsPostgresWithANewEnoughSchema(t *testing.T) {
	t.Parallel()
	db := dbtest.New(t)
	config := app.Config{
		Origin: "http://localhost:8080", DatabaseURL: db.AppURL, RedisURL: "redis://" + miniredis.RunT(t).Addr(), Keyset: string(store.NewKeyset()),
		LogKey:     newLogKey(t, "localhost:8080/log"),
		ConnectKey: "k", ConnectSecret: "s", SignInKey: "k", SignInSecret: "s", CallsPerHour: 1000,
		BitbucketAPI: "https://api.bitbucket.org", BitbucketWeb: "https://bitbucket.org",
	}
	if err := config.Validate(); err != nil {
		t.Fatal(err)
	}
	server, err := app.New(t.Context(), config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	defer func() {
		if !closed {
			server.Close()
		}
	}()
	want := func(status int, text string) {
		t.Helper()
		got := httptest.NewRecorder()
		server.Handler().ServeHTTP(got, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
		if got.Code != status || !strings.Contains(got.Body.String(), text) {
			t.Errorf("%d %q, want %d %q", got.Code, got.Body, status, text)
		}
	}
	want(http.StatusOK, "postgres: here")

	// A newer schema serves this program until it takes something away.
	conn, err := pgx.Connect(t.Context(), db.SuperURL)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		statement string
		status    int
		text      string
	}{
		{`insert into ` + migrations.VersionTable + ` (version_id, is_applied) values (9999, true)`, http.StatusOK, "postgres: here"},
		{`update signedapproval_schema_floor set version = 9999`, http.StatusServiceUnavailable, "too new for this server"},
		{`delete from ` + migrations.VersionTable + ` where version_id > 0`, http.StatusServiceUnavailable, "run signedapproval migrate"},
	} {
		if _, err := conn.Exec(t.Context(), step.statement); err != nil {
			t.Error(err)
		}
		want(step.status, step.text)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
	server.Close()
	closed = true
	want(http.StatusServiceUnavailable, "postgres: away")
}
