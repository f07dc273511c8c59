package forge_test

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/internal/atlassiantest"
	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/server/forge"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

type claims = atlassiantest.Claims

const openedEvent = "avi:bitbucket:created:pullrequest"

// opened is an event about pull request 7 of the gated repository.
var opened = []byte(eventOf(openedEvent, pullRequest7))

// paths are the doors' paths below /forge/, each called after its endpoint.
var paths = []string{"events", "lifecycle", "scheduled", "merge-check"}

// change changes a good call into one that must not be followed.
type change func(b *bench, r *http.Request)

func header(name string, values ...string) change {
	return func(_ *bench, r *http.Request) { r.Header[http.CanonicalHeaderKey(name)] = values }
}

func body(raw []byte) change {
	return func(_ *bench, r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(raw)), int64(len(raw))
	}
}

// token is a call with a token of other claims.
func token(alter func(b *bench, c claims)) change {
	return func(b *bench, r *http.Request) {
		c := b.forge.Claims(r.URL.Path[len("/forge/"):] + "-ep")
		alter(b, c)
		r.Header.Set("Authorization", "Bearer "+b.forge.Sign(c))
	}
}

// from is a call that another module of the app made.
func from(module string) change {
	return token(func(_ *bench, c claims) { c["app"].(claims)["module"] = claims{"type": "core:endpoint", "key": module} })
}

// unproven are calls without a good token: 401 at each path.
var unproven = map[string]change{
	"no token":            func(_ *bench, r *http.Request) { r.Header.Del("Authorization") },
	"an empty token":      header("Authorization", "Bearer "),
	"two tokens":          func(_ *bench, r *http.Request) { r.Header.Add("Authorization", r.Header.Get("Authorization")) },
	"basic":               header("Authorization", "Basic Zm9yZ2U6Zm9yZ2U="),
	"junk":                header("Authorization", "Bearer junk"),
	"a token of ours":     header("Authorization", "Bearer sa_live_0123456789"),
	"a huge token":        header("Authorization", "Bearer "+strings.Repeat("x", 20<<10)),
	"another app's token": token(func(_ *bench, c claims) { c["aud"] = "ari:cloud:ecosystem::app/" + otherUUID }),
	"an expired token":    token(func(_ *bench, c claims) { c["exp"], c["iat"], c["nbf"] = 1700000025, 1700000000, 1700000000 }),
	"another environment": token(func(_ *bench, c claims) { c["app"].(claims)["environment"] = claims{"type": "STAGING"} }),
	"an isolated cloud":   token(func(_ *bench, c claims) { c["icLabel"] = "orange" }),
	"alg none":            header("Authorization", "Bearer eyJhbGciOiJub25lIn0.e30."),
	"the token as header": func(_ *bench, r *http.Request) {
		r.Header.Set("X-Forge-Oauth-System", strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		r.Header.Del("Authorization")
	},
	"the token in the query": func(_ *bench, r *http.Request) {
		r.URL.RawQuery = url.Values{"jwt": {strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")}}.Encode()
		r.Header.Del("Authorization")
	},
	"a changed token": func(_ *bench, r *http.Request) {
		good := r.Header.Get("Authorization")
		n := len(good) - 1 // the last digit says few bits, and in another case it would be no base64
		r.Header.Set("Authorization", good[:n-40]+strings.ToUpper(good[n-40:n-20])+strings.ToLower(good[n-20:n])+good[n:])
	},
}

// Without a good token nothing is stored, called, asked for or shown, and the answer is 401.
func TestUnprovenCalls(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	b.intake.Start()
	conn := b.connect(t)
	for _, path := range paths {
		for _, name := range slices.Sorted(maps.Keys(unproven)) {
			// One after the other: what was observed is each one's own.
			t.Run(path+" "+name, func(t *testing.T) {
				r := b.request(t, path, opened)
				secret := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
				unproven[name](b, r)
				got := send(t, r)
				if got.status != http.StatusUnauthorized || got.code != "INVOCATION_TOKEN" || got.header.Get("WWW-Authenticate") != "Bearer" {
					t.Errorf("answered %d %s", got.status, got.code)
				}
				observed, called := b.seen()
				if !slices.Equal(observed, []string{"other unproven"}) || called != nil {
					t.Errorf("observed %q, called %q", observed, called)
				}
				nothingSecret(t, b, secret, r.Header.Get("Authorization"))
			})
		}
	}
	if rows, jobs := stored(t, conn), ledger(t, conn); len(rows) != 0 || len(jobs) != 0 {
		t.Errorf("stored %v, asked for %q", rows, jobs)
	}
	if log := b.log.String(); strings.Count(log, "invocation token refused") != len(paths)*len(unproven) || !strings.Contains(log, "reason=ABSENT") ||
		!strings.Contains(log, "reason=EXPIRED") || !strings.Contains(log, "reason=SIGNATURE") {
		t.Error("the log does not tell why")
	}
}

// nothingSecret demands that the log shows nothing of these and of the system token.
func nothingSecret(t *testing.T, b *bench, secrets ...string) {
	t.Helper()
	log := b.log.String()
	for _, secret := range append(secrets, systemToken()) {
		for part := range strings.FieldsFuncSeq(strings.TrimPrefix(secret, "Bearer "), func(c rune) bool { return c == '.' }) {
			if len(part) > 12 && strings.Contains(log, part[:12]) {
				t.Fatalf("the log shows a part of a token: %q", part[:12])
			}
		}
	}
}

// TestRefusedCalls sends what has a good token, or needs none to be refused, and must not be followed.
func TestRefusedCalls(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	b.intake.Start()
	conn := b.connect(t)
	method := func(m string) change { return func(_ *bench, r *http.Request) { r.Method = m } }
	const invoked = "invoked W with token for 3h0m0s"
	for name, test := range map[string]struct {
		change  change
		status  int
		code    string
		outcome string
		called  []string
	}{
		"got":               {method(http.MethodGet), 405, "METHOD_NOT_ALLOWED", forge.OutcomeMalformed, nil},
		"put":               {method(http.MethodPut), 405, "METHOD_NOT_ALLOWED", forge.OutcomeMalformed, nil},
		"asked for options": {method(http.MethodOptions), 405, "METHOD_NOT_ALLOWED", forge.OutcomeMalformed, nil},
		"a page's call":     {from("ui-ep"), 403, "WRONG_MODULE", forge.OutcomeForbidden, nil},
		"the panel's call":  {from("pr-card"), 403, "WRONG_MODULE", forge.OutcomeForbidden, nil},
		"a person's call from a page": {func(b *bench, r *http.Request) {
			r.Header.Set("Authorization", "Bearer "+b.forge.Sign(b.forge.ScreenClaims("pr-card", "712020:a")))
		}, 403, "WRONG_MODULE", forge.OutcomeForbidden, nil},
		"another module's name in case": {from("EVENTS-EP"), 403, "WRONG_MODULE", forge.OutcomeForbidden, nil},
		"no media type":                 {func(_ *bench, r *http.Request) { r.Header.Del("Content-Type") }, 415, "UNSUPPORTED_MEDIA_TYPE", forge.OutcomeMalformed, []string{invoked}},
		"text":                          {header("Content-Type", "text/plain"), 415, "UNSUPPORTED_MEDIA_TYPE", forge.OutcomeMalformed, []string{invoked}},
		"a form":                        {header("Content-Type", "application/x-www-form-urlencoded"), 415, "UNSUPPORTED_MEDIA_TYPE", forge.OutcomeMalformed, []string{invoked}},
		"two media types":               {header("Content-Type", "application/json", "application/json"), 415, "UNSUPPORTED_MEDIA_TYPE", forge.OutcomeMalformed, []string{invoked}},
		"compressed":                    {header("Content-Encoding", "gzip"), 415, "UNSUPPORTED_MEDIA_TYPE", forge.OutcomeMalformed, []string{invoked}},
		"too large, and said so":        {body(make([]byte, 1<<20+1)), 413, "TOO_LARGE", forge.OutcomeMalformed, []string{invoked}},
		"too large, in pieces":          {func(b *bench, r *http.Request) { body(make([]byte, 1<<20+1))(b, r); r.ContentLength = -1 }, 413, "TOO_LARGE", forge.OutcomeMalformed, []string{invoked}},
	} {
		for _, path := range []string{"events", "lifecycle", "scheduled"} {
			// One after the other: what was observed is each one's own.
			t.Run(path+" "+name, func(t *testing.T) {
				r := b.request(t, path, opened)
				test.change(b, r)
				got := send(t, r)
				if got.status != test.status || got.code != test.code {
					t.Errorf("answered %d %s, want %d %s", got.status, got.code, test.status, test.code)
				}
				if got.status == http.StatusMethodNotAllowed && got.header.Get("Allow") != http.MethodPost {
					t.Errorf("Allow: %q", got.header.Get("Allow"))
				}
				observed, called := b.seen()
				if !slices.Equal(observed, []string{"other " + test.outcome}) || !slices.Equal(called, test.called) {
					t.Errorf("observed %q, called %q", observed, called)
				}
				nothingSecret(t, b, r.Header.Get("Authorization"))
			})
		}
	}
	// Endpoints do not stand for each other.
	for _, path := range paths {
		for _, other := range paths {
			r := b.request(t, path, opened)
			from(other+"-ep")(b, r)
			if got := send(t, r); (got.code == "WRONG_MODULE") != (path != other && path != "merge-check") {
				t.Errorf("%s through the endpoint of %s: answered %d %s", path, other, got.status, got.code)
			}
		}
	}
	if rows := stored(t, conn); len(rows) != 1 { // the one of the right endpoint
		t.Errorf("stored %v", rows)
	}
}

// Each endpoint is called by the modules of the manifest, too.
func TestModules(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	b.intake.Start()
	for endpoint, want := range map[string][]string{
		forge.EndpointEvents: {"build-statuses", "pull-requests", "repositories"}, forge.EndpointLifecycle: {"lifecycle", "pre-uninstall"},
		forge.EndpointScheduled: {"hourly"}, forge.EndpointMergeCheck: {"merge-check-on-merge", "merge-check-pre-merge"}, "ui-ep": nil,
	} {
		if got := forge.Modules(endpoint); !slices.Equal(got, want) {
			t.Errorf("%s: %q", endpoint, got)
		}
		for _, module := range want {
			r := b.request(t, strings.TrimSuffix(endpoint, "-ep"), opened)
			from(module)(b, r)
			if got := send(t, r); got.status/100 != 2 {
				t.Errorf("%s: answered %d %s", module, got.status, got.code)
			}
		}
	}
}

// A body of another workspace than the token's is refused, and not with 401.
func TestEventOfAnotherWorkspace(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	b.intake.Start()
	b.gateRepository(t, otherUUID, repoUUID)
	conn := b.connect(t)
	foreign := []byte(strings.Replace(string(opened), workspaceUUID, otherUUID, 1))
	for name, raw := range map[string][]byte{
		"plain": foreign, "wrapped": fmt.Appendf(nil, `{"payload":%s}`, foreign),
		"that cannot be parsed": bytes.Replace(foreign, []byte(`"id":7`), []byte(`"id":0`), 1),
		"of an unknown event":   bytes.Replace(foreign, []byte("created"), []byte("admired"), 1),
	} {
		r := b.request(t, "events", raw)
		got := send(t, r)
		if got.status != http.StatusForbidden || got.code != "OTHER_WORKSPACE" {
			t.Errorf("%s: answered %d %s", name, got.status, got.code)
		}
		nothingSecret(t, b, r.Header.Get("Authorization"))
	}
	if rows, jobs := stored(t, conn), ledger(t, conn); len(rows) != 0 || len(jobs) != 0 {
		t.Errorf("stored %v, asked for %q", rows, jobs)
	}
	if log := b.log.String(); !strings.Contains(log, "another workspace") || strings.Contains(log, "ü") {
		t.Errorf("logged %s", log)
	}
}

// Every event goes through the whole door.
func TestEventsAreTakenIn(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	b.intake.Start()
	conn := b.connect(t)
	for _, name := range slices.Sorted(maps.Keys(subscribed)) {
		test := subscribed[name]
		// One after the other: they share the ledger.
		t.Run(name, func(t *testing.T) {
			forget(t, conn)
			raw := []byte(eventOf(name, test.parts...))
			b.deliver(t, "events", raw).accepted(t)
			rows := stored(t, conn)
			want := row{workspaceUUID, repoUUID, name, 1, store.DeliveryParsed}
			if got := slices.Collect(maps.Values(rows)); !slices.Equal(got, []row{want}) {
				t.Fatalf("stored %+v, want %+v", got, want)
			}
			if jobs := ledger(t, conn); !slices.Equal(jobs, test.jobs) {
				t.Errorf("jobs %q, want %q", jobs, test.jobs)
			}
			for id := range rows {
				if kept, err := b.store.DeliveryBody(t.Context(), id); err != nil || !bytes.Equal(kept, raw) {
					t.Errorf("the stored body is another: %v", err)
				}
			}
			observed, called := b.seen()
			if !slices.Equal(observed, []string{name + " parsed"}) || !slices.Equal(called, []string{"invoked W with token for 3h0m0s"}) {
				t.Errorf("observed %q, called %q", observed, called)
			}
		})
	}
	nothingSecret(t, b)
}

// What cannot be parsed is kept and answered, and the repository is looked at as a whole.
func TestEventsThatCannotBeParsed(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	b.intake.Start()
	conn := b.connect(t)
	for _, name := range slices.Sorted(maps.Keys(damagedEvents)) {
		test := damagedEvents[name]
		t.Run(name, func(t *testing.T) {
			forget(t, conn)
			b.deliver(t, "events", []byte(test.body)).accepted(t)
			repository, outcome, label := test.repository, store.DeliveryUnparsable, "unparsable"
			var jobs []string
			switch {
			case test.unknown:
				outcome, label = store.DeliveryUnknownEvent, "unknown_event"
			case repository != "":
				jobs = []string{"reconcile R"}
			default:
				repository = "00000000-0000-0000-0000-000000000000"
			}
			rows := stored(t, conn)
			if len(rows) != 1 {
				t.Fatalf("stored %v", rows)
			}
			for id, got := range rows {
				if got.Workspace != workspaceUUID || got.Repository != repository || got.Outcome != outcome || got.Event == "" {
					t.Errorf("stored %+v", got)
				}
				if kept, err := b.store.DeliveryBody(t.Context(), id); err != nil || string(kept) != test.body {
					t.Errorf("the stored body is another: %v", err)
				}
			}
			if got := ledger(t, conn); !slices.Equal(got, jobs) {
				t.Errorf("jobs %q, want %q", got, jobs)
			}
			if observed, _ := b.seen(); len(observed) != 1 || !strings.HasSuffix(observed[0], " "+label) {
				t.Errorf("observed %q", observed)
			}
		})
	}
}

// Of repositories that nobody set up nothing is kept, whatever happens in them.
func TestEventsOfOtherRepositories(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	b.intake.Start()
	const elsewhere = "dddddddd-0000-4000-8000-000000000004"
	b.gateRepository(t, otherUUID, elsewhere) // in another workspace
	conn := b.connect(t)
	for name, raw := range map[string]string{
		"an event": string(opened), "an unknown event": eventOf("avi:bitbucket:admired:pullrequest"), "a damaged event": eventOf(openedEvent),
	} {
		b.deliver(t, "events", []byte(strings.Replace(raw, "CCCCCCCC-0000-4000-8000-000000000003", elsewhere, 1))).accepted(t)
		if observed, called := b.seen(); len(observed) != 1 || !strings.HasSuffix(observed[0], " not_gated") || len(called) != 1 {
			t.Errorf("%s: observed %q, called %q", name, observed, called)
		}
	}
	if rows, jobs := stored(t, conn), ledger(t, conn); len(rows) != 0 || len(jobs) != 0 {
		t.Errorf("stored %v, asked for %q", rows, jobs)
	}
}

// A repeat is accepted and changes nothing; it is told by the event, not by the call.
func TestRepeats(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	b.intake.Start()
	conn := b.connect(t)
	retry := func(n int) []byte {
		return []byte(eventOf(openedEvent, pullRequest7, fmt.Sprintf(`"retryContext":{"retryData":null,"retryCount":%d,"retryReason":"TIMEOUT_ERROR"}`, n)))
	}
	b.deliver(t, "events", retry(1)).accepted(t)
	b.deliver(t, "events", opened).accepted(t)
	for n := range 4 {
		b.deliver(t, "events", retry(n+1)).accepted(t)
		b.deliver(t, "events", fmt.Appendf(nil, ` {"payload" : %s}`, retry(n+1))).accepted(t)
	}
	rows := stored(t, conn)
	if got := slices.Collect(maps.Values(rows)); !slices.Equal(got, []row{{workspaceUUID, repoUUID, openedEvent, 2, store.DeliveryParsed}}) {
		t.Fatalf("stored %+v", got)
	}

	// At once, too.
	var all sync.WaitGroup
	for range 16 {
		r := b.request(t, "events", []byte(eventOf("avi:bitbucket:updated:repository")))
		all.Go(func() {
			if got := send(t, r); got.status != http.StatusNoContent {
				t.Errorf("answered %d %s", got.status, got.code)
			}
		})
	}
	all.Wait()
	if rows := stored(t, conn); len(rows) != 2 {
		t.Errorf("stored %v", rows)
	}
	var asked []int64
	found, err := conn.Query(t.Context(), `select seq from signedapproval_jobs`)
	if err != nil {
		t.Fatal(err)
	}
	if asked, err = pgx.CollectRows(found, pgx.RowTo[int64]); err != nil || !slices.Equal(asked, []int64{1, 1}) {
		t.Errorf("asked %v times, %v", asked, err)
	}

	// The like of it at another time, in another installation, or at no time is another event.
	b.deliver(t, "events", bytes.Replace(opened, []byte("06:03:12"), []byte("06:03:13"), 1)).accepted(t)
	r := b.request(t, "events", opened)
	token(func(_ *bench, c claims) {
		app := c["app"].(claims)
		app["installationId"] = "ari:cloud:ecosystem::installation/" + otherUUID
		app["installation"].(claims)["id"] = app["installationId"]
	})(b, r)
	send(t, r).accepted(t)
	undated := bytes.Replace(opened, []byte(`"timestamp"`), []byte(`"when"`), 1)
	b.deliver(t, "events", undated).accepted(t)
	b.deliver(t, "events", undated).accepted(t)
	if rows := stored(t, conn); len(rows) != 6 {
		t.Errorf("stored %v", rows)
	}
}

func TestAnswerComesAfterTheCommit(t *testing.T) {
	t.Parallel()
	b := setup(t, &store.IntakeOptions{Timeout: time.Minute}, nil)
	b.intake.Start()
	conn := b.connect(t)
	tx, err := b.connect(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `lock table signedapproval_deliveries in exclusive mode`); err != nil {
		t.Fatal(err)
	}
	r := b.request(t, "events", opened)
	answered := make(chan reply, 1)
	go func() { answered <- send(t, r) }()
	eventually(t, "the delivery waits for the table", func() bool { return dbtest.Waiting(t, conn, "signedapproval_deliveries") == 1 })
	select {
	case got := <-answered:
		t.Fatalf("answered %d before the commit", got.status)
	default:
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	(<-answered).accepted(t)
	if len(stored(t, conn)) != 1 {
		t.Error("answered, and nothing is stored")
	}
}

// A call that cannot be committed within Forge's patience is answered before Forge gives up.
func TestCommitThatTakesTooLong(t *testing.T) {
	t.Parallel()
	b := setup(t, &store.IntakeOptions{Timeout: time.Hour}, func(o *forge.Options) { o.Patience = time.Second })
	b.intake.Start()
	tx, err := b.connect(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `lock table signedapproval_deliveries in exclusive mode`); err != nil {
		t.Fatal(err)
	}
	b.deliver(t, "events", opened).turnedAway(t)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick, late := time.NewTicker(10*time.Millisecond), time.NewTimer(30*time.Second)
	defer tick.Stop()
	defer late.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-late.C:
			t.Fatalf("never came true: %s", what)
		}
	}
}

func TestBusyIntake(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	b.intake.Start()
	b.intake.Stop()
	b.deliver(t, "events", opened).turnedAway(t)
	if observed, _ := b.seen(); !slices.Equal(observed, []string{openedEvent + " turned_away"}) {
		t.Errorf("observed %q", observed)
	}
}

func TestDatabaseIsAway(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	b.intake.Start()
	b.store.Close()
	b.deliver(t, "events", opened).turnedAway(t)
	if log := b.log.String(); !strings.Contains(log, "level=ERROR") {
		t.Errorf("logged %s", log)
	}
}

// Where Atlassian's keys are away a token is not bad: 503, never 401.
func TestKeysAreAway(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	b.intake.Start()
	b.forge.Answer(http.NotFoundHandler())
	for _, path := range paths {
		b.deliver(t, path, opened).turnedAway(t)
		if observed, called := b.seen(); !slices.Equal(observed, []string{"other turned_away"}) || called != nil {
			t.Errorf("%s: observed %q, called %q", path, observed, called)
		}
	}
}

// What the use cases cannot do is asked for again; what they refuse is told.
func TestUseCasesThatFail(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	b.intake.Start()
	conn := b.connect(t)
	for _, test := range []struct{ path, body, fails string }{
		{"events", string(opened), "invoked"},
		{"lifecycle", installedBody, "invoked"},
		{"lifecycle", installedBody, "installed"},
		{"lifecycle", upgradedBody, "upgraded"},
		{"lifecycle", uninstallBody, "uninstalling"},
		{"scheduled", "{}", "scheduled"},
	} {
		b.set(func(b *bench) { b.fail[test.fails] = fmt.Errorf("no %s", test.fails) })
		b.deliver(t, test.path, []byte(test.body)).turnedAway(t)
		b.set(func(b *bench) { b.fail[test.fails] = refusal.New(refusal.Busy, "Wait.") })
		b.deliver(t, test.path, []byte(test.body)).turnedAway(t)
		b.set(func(b *bench) { b.fail[test.fails] = refusal.New("NO_MORE", "There is no more.") })
		if got := b.deliver(t, test.path, []byte(test.body)); got.status != http.StatusForbidden || got.code != "NO_MORE" {
			t.Errorf("%s at %s: answered %d %s", test.fails, test.path, got.status, got.code)
		}
		b.set(func(b *bench) { delete(b.fail, test.fails) })
		b.deliver(t, test.path, []byte(test.body)).accepted(t)
	}
	if rows := stored(t, conn); len(rows) != 1 {
		t.Errorf("stored %v", rows)
	}
}

// What an installation says that is over is answered and not followed.
func TestInstallationThatIsOver(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	b.intake.Start()
	b.set(func(b *bench) { b.installation.State = store.InstallationUninstalled })
	for path, raw := range map[string]string{"events": string(opened), "lifecycle": installedBody, "scheduled": "{}"} {
		b.deliver(t, path, []byte(raw)).accepted(t)
		if observed, called := b.seen(); !slices.Equal(observed, []string{"other over"}) || len(called) != 1 {
			t.Errorf("%s: observed %q, called %q", path, observed, called)
		}
	}
	if rows := stored(t, b.connect(t)); len(rows) != 0 {
		t.Errorf("stored %v", rows)
	}
}

// A system token that is no use is left out, and the call followed without.
func TestSystemTokens(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	for name, test := range map[string]struct {
		values []string
		want   string
	}{
		"a good one": {[]string{systemToken()}, "invoked W with token for 3h0m0s"},
		"none":       {nil, "invoked W without token"},
		"an opaque":  {[]string{"opaque-opaque-opaque"}, "invoked W without token"},
		"two":        {[]string{systemToken(), systemToken()}, "invoked W without token"},
	} {
		r := b.request(t, "scheduled", []byte("{}"))
		r.Header["X-Forge-Oauth-System"] = test.values
		send(t, r).accepted(t)
		if observed, called := b.seen(); !slices.Equal(called, []string{test.want, "scheduled W"}) || !slices.Equal(observed, []string{"scheduled followed"}) {
			t.Errorf("%s: observed %q, called %q", name, observed, called)
		}
	}
	nothingSecret(t, b, "opaque-opaque-opaque")
	if log := b.log.String(); strings.Count(log, "system token left out") != 2 {
		t.Errorf("logged %s", log)
	}
}

// A body that breaks off is not taken for a shorter one.
func TestBodyThatBreaksOff(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	b.intake.Start()
	target, err := url.Parse(b.url)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", target.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /forge/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s",
		b.forge.Sign(b.forge.Claims("events-ep")), len(opened)+1, opened)
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 408 ")) {
		t.Errorf("answered %q, %v", answer, err)
	}
	if rows := stored(t, b.connect(t)); len(rows) != 0 {
		t.Errorf("stored %v", rows)
	}
}
