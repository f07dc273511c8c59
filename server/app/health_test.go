package app_test

import (
	"context"
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

// readiness makes a server, and how its readiness is asked for.
func readiness(t *testing.T, db dbtest.Database) (server *app.Server, ask func() (status int, text string)) {
	t.Helper()
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
	return server, func() (int, string) {
		got := httptest.NewRecorder()
		server.Handler().ServeHTTP(got, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
		return got.Code, got.Body.String()
	}
}

func TestReadyNeedsPostgresWithANewEnoughSchema(t *testing.T) {
	t.Parallel()
	db := dbtest.New(t)
	server, ask := readiness(t, db)
	closed := false
	defer func() {
		if !closed {
			server.Close()
		}
	}()
	want := func(status int, text string) {
		t.Helper()
		if got, body := ask(); got != status || !strings.Contains(body, text) {
			t.Errorf("%d %q, want %d %q", got, body, status, text)
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

// TestReadyNeedsADatabaseThatKeeps lets the database forget what it commits, after the server started.
func TestReadyNeedsADatabaseThatKeeps(t *testing.T) {
	t.Parallel()
	db := dbtest.New(t)
	server, ask := readiness(t, db)
	defer server.Close()
	if status, text := ask(); status != http.StatusOK {
		t.Fatalf("%d %q", status, text)
	}
	conn, err := pgx.Connect(t.Context(), db.SuperURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	for _, statement := range []string{
		`alter database ` + db.Name + ` set synchronous_commit = off`,
		`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`,
	} {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "it says why it is not ready", func() bool {
		status, text := ask()
		return status == http.StatusServiceUnavailable && strings.Contains(text, "postgres: synchronous_commit is off")
	})
}
