package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/server/app"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/store"
)

// command runs the command line as a shell would.
func command(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = app.Main(t.Context(), args, strings.NewReader(""), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

func TestTheCommandLineExplainsItself(t *testing.T) {
	t.Parallel()
	if code, out, _ := command(t, "--help"); code != 0 || !strings.Contains(out, "serve") || !strings.Contains(out, "verify") {
		t.Errorf("--help exits %d and says %q", code, out)
	}
	if code, _, errs := command(t, "conquer"); code != 1 || !strings.Contains(errs, "conquer") {
		t.Errorf("an unknown command exits %d and says %q", code, errs)
	}
	if code, _, errs := command(t, "verify", filepath.Join(t.TempDir(), "absent.json")); code != 1 || errs == "" {
		t.Errorf("a bundle that is absent: exit %d, %q", code, errs)
	}
}

func TestServeSaysEverythingThatIsWrongAtOnce(t *testing.T) {
	t.Parallel()
	code, _, errs := command(t, "serve", "--origin=http://approvals.example", "--smtp-host=mail.example", "--bitbucket-api=http://api.example",
		"--database-url=", "--redis-url=", "--calls-per-hour=1", "--connect-key=", "--connect-secret=", "--sign-in-key=", "--sign-in-secret=")
	if code != 1 {
		t.Fatalf("exit %d", code)
	}
	for _, problem := range []string{
		"must use https", "DATABASE_URL is missing", "REDIS_URL is missing", "SIGNEDAPPROVAL_CONNECT_KEY is missing",
		"SIGNEDAPPROVAL_SIGN_IN_SECRET is missing", "SIGNEDAPPROVAL_KEYSET", "SIGNEDAPPROVAL_LOG_KEY_FILE must be set, or SIGNEDAPPROVAL_LOG_KEY_KMS", "SIGNEDAPPROVAL_BITBUCKET_API must be an https address",
		"at least 60", "SIGNEDAPPROVAL_SMTP_FROM go together",
	} {
		if !strings.Contains(errs, problem) {
			t.Errorf("%q is not among the problems:\n%s", problem, errs)
		}
	}
}

func TestConfigurationsThatPasskeysCannotBeBoundTo(t *testing.T) {
	t.Parallel()
	good := app.Config{
		Origin: "https://approvals.example", DatabaseURL: "postgres://x", RedisURL: "redis://x", Keyset: "{}", LogKey: "x",
		ConnectKey: "k", ConnectSecret: "s", SignInKey: "k", SignInSecret: "s", CallsPerHour: 1000,
		BitbucketAPI: "https://api.bitbucket.org", BitbucketWeb: "https://bitbucket.org",
	}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	if good.LogOrigin != "approvals.example/log" || good.RPID() != "approvals.example" || !good.Secure() {
		t.Errorf("derived: %q %q %t", good.LogOrigin, good.RPID(), good.Secure())
	}
	for _, origin := range []string{
		"", "approvals.example", "https://", "https://approvals.example/", "https://approvals.example/path", "https://user@approvals.example",
		"http://approvals.example", "https://192.0.2.1", "https://[2001:db8::1]", "http://127.0.0.1:8080", "https://approvals.example?x=1",
	} {
		bad := good
		bad.Origin = origin
		if err := bad.Validate(); err == nil {
			t.Errorf("origin %q was accepted", origin)
		}
	}
	local := good
	local.Origin = "http://localhost:8080"
	if err := local.Validate(); err != nil {
		t.Errorf("localhost: %v", err)
	}
}

// TestVerifyExitCodes runs the command over the vectors of package evidence, good and bad.
func TestVerifyExitCodes(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob(filepath.Join("..", "evidence", "testdata", "vectors", "bundles", "*.json"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var vector struct {
			Name, Sentence, Bundle string
			ExitCode               int
			Anchors                map[string]any
		}
		if err := json.Unmarshal(raw, &vector); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		dir := t.TempDir()
		if vector.Anchors == nil {
			vector.Anchors = map[string]any{}
		}
		vector.Anchors["format"] = evidence.AnchorsFormat
		anchors, err := json.Marshal(vector.Anchors)
		if err != nil {
			t.Fatal(err)
		}
		bundle := write(t, dir, "bundle.json", vector.Bundle)
		code, out, errs := command(t, "verify", bundle, "--anchors="+write(t, dir, "anchors.json", string(anchors)))
		if code != vector.ExitCode || !strings.Contains(out, vector.Sentence) {
			t.Errorf("%s: exit %d, want %d %q\n%s%s", vector.Name, code, vector.ExitCode, vector.Sentence, out, errs)
		}
		if code, out, _ := command(t, "verify", "--json", bundle, "--anchors="+filepath.Join(dir, "anchors.json")); code != vector.ExitCode || !json.Valid([]byte(out)) {
			t.Errorf("%s as JSON: exit %d\n%s", vector.Name, code, out)
		}
	}
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestKeysAreRotatedWhileServersServe(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := dbtest.New(t)
	dir := t.TempDir()
	_, first, _ := command(t, "keys", "new")
	old, err := store.OpenVault([]byte(first))
	if err != nil {
		t.Fatal(err)
	}
	serving, err := store.Open(ctx, db.AppURL, old)
	if err != nil {
		t.Fatal(err)
	}
	defer serving.Close()
	person := enter(t, serving)
	err = serving.Outside(ctx, func(sh *store.Shared) error {
		return sh.InsertPendingGrant(ctx, store.PendingGrant{
			ID: uuid.NewString(), PersonID: person.ID, AccountID: person.AccountID, AccountUUID: person.AccountUUID, AccountName: person.Name,
			Scopes: []string{"account"}, AccessToken: "token-1", RefreshToken: "refresh-1", AccessExpiresAt: time.Now().Add(time.Hour),
		}, time.Hour)
	})
	if err != nil {
		t.Fatal(err)
	}

	code, out, errs := command(t, "keys", "promote", write(t, dir, "first.json", first))
	if code == 0 || out != "" || !strings.Contains(errs, "add a key first") {
		t.Errorf("promote without a new key: exit %d %q %q", code, out, errs)
	}
	_, added, _ := command(t, "keys", "add", write(t, dir, "old.json", first))
	if err := old.Reload([]byte(added)); err != nil { // what SIGHUP does
		t.Fatal(err)
	}
	if code, out, _ := command(t, "keys", "rotate", "--database-url="+db.AppURL, "--keyset-file="+write(t, dir, "added.json", added)); code != 0 || !strings.Contains(out, "0 values") {
		t.Errorf("rotating before the key is promoted: exit %d %q", code, out)
	}
	_, both, _ := command(t, "keys", "promote", filepath.Join(dir, "added.json"))
	if err := old.Reload([]byte(both)); err != nil {
		t.Fatal(err)
	}
	code, out, errs = command(t, "keys", "rotate", "--database-url="+db.AppURL, "--keyset-file="+write(t, dir, "new.json", both))
	if code != 0 || !strings.Contains(out, "2 values were sealed again") {
		t.Fatalf("rotate: exit %d %q %q", code, out, errs)
	}
	if code, out, _ := command(t, "keys", "rotate", "--database-url="+db.AppURL, "--keyset-file="+filepath.Join(dir, "new.json")); code != 0 || !strings.Contains(out, "0 values") {
		t.Errorf("rotating twice: exit %d %q", code, out)
	}
	err = serving.Outside(ctx, func(sh *store.Shared) error {
		grants, err := sh.PendingGrants(ctx, person.ID)
		if err == nil && (len(grants) != 1 || grants[0].AccessToken != "token-1" || grants[0].RefreshToken != "refresh-1") {
			t.Errorf("the grant became %v", grants)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func enter(t *testing.T, s *store.Store) (person store.Person) {
	t.Helper()
	err := s.Outside(t.Context(), func(sh *store.Shared) (err error) {
		person, err = sh.PutPerson(t.Context(), store.Person{AccountID: "557058:x", AccountUUID: uuid.NewString(), Name: "Alice"})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return person
}

func TestDeadJobsAreListedAndGivenANewLife(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := dbtest.New(t)
	s, err := store.Open(ctx, db.AppURL, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var id int64
	s.Ring = func(_ context.Context, rings []store.Ring) { id = rings[0].ID }
	err = s.Outside(ctx, func(sh *store.Shared) error {
		return sh.Enqueue(ctx, store.JobSpec{Kind: "evaluate", Key: "repository:1", Payload: store.Place{Number: 1}})
	})
	if err != nil {
		t.Fatal(err)
	}
	job, ok, err := s.ClaimJob(ctx, id, uuid.NewString(), time.Minute)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if _, err := s.RetryJob(ctx, job.Claim, "the sky fell", 0, true, 1); err != nil {
		t.Fatal(err)
	}
	code, out, errs := command(t, "jobs", "dead", "--database-url="+db.AppURL)
	if code != 0 || !strings.Contains(out, "repository:1") || !strings.Contains(out, "the sky fell") {
		t.Fatalf("dead: exit %d %q %q", code, out, errs)
	}
	number := strings.Fields(strings.Split(out, "\n")[1])[0]
	if code, _, errs := command(t, "jobs", "requeue", "--database-url="+db.AppURL, number); code != 0 {
		t.Fatalf("requeue: exit %d %q", code, errs)
	}
	if _, out, _ := command(t, "jobs", "dead", "--database-url="+db.AppURL); strings.Contains(out, "repository:1") {
		t.Errorf("still dead: %q", out)
	}
	if code, _, errs := command(t, "jobs", "requeue", "--database-url="+db.AppURL, number); code != 1 || errs == "" {
		t.Errorf("requeueing twice: exit %d %q", code, errs)
	}
}
