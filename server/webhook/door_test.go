package webhook_test

import (
	"bytes"
	"compress/gzip"
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

	"github.com/google/uuid"

	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/webhook"
)

// opened is a body about pull request 7 of the repository.
var opened = []byte(`{` + inRepo + `,"pullrequest":{"id":7,"title":"ü"}}`)

const openedEvent = "pullrequest:created"

// TestRefusedDeliveries sends what must not get in; nothing of it is stored, asked for or shown.
func TestRefusedDeliveries(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.intake.Start()
	conn := b.connect(t)
	hook, other := b.hook(t, workspaceUUID, repoUUID), b.hook(t, workspaceUUID, sample)
	signature := sign(hook.Secret, opened)

	header := func(name string, values ...string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Del(name)
			for _, value := range values {
				r.Header.Add(name, value)
			}
		}
	}
	path := func(id string) func(*http.Request) { return func(r *http.Request) { r.URL.Path = "/hooks/" + id } }
	body := func(raw []byte) func(*http.Request) {
		return func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(raw)), int64(len(raw))
		}
	}
	const unproven, malformed = webhook.OutcomeUnproven, webhook.OutcomeMalformed
	for name, test := range map[string]struct {
		change  func(*http.Request)
		status  int
		code    string
		outcome string
	}{
		"no signature":             {header("X-Hub-Signature"), 401, "WRONG_SIGNATURE", unproven},
		"an empty signature":       {header("X-Hub-Signature", ""), 401, "WRONG_SIGNATURE", unproven},
		"another secret":           {header("X-Hub-Signature", sign("wrong", opened)), 401, "WRONG_SIGNATURE", unproven},
		"no secret":                {header("X-Hub-Signature", sign("", opened)), 401, "WRONG_SIGNATURE", unproven},
		"another webhook's secret": {header("X-Hub-Signature", sign(other.Secret, opened)), 401, "WRONG_SIGNATURE", unproven},
		"another webhook":          {path(other.ID), 401, "WRONG_SIGNATURE", unproven},
		"another body's signature": {header("X-Hub-Signature", sign(hook.Secret, append(slices.Clone(opened), ' '))), 401, "WRONG_SIGNATURE", unproven},
		"a changed body":           {body(bytes.Replace(opened, []byte("7"), []byte("8"), 1)), 401, "WRONG_SIGNATURE", unproven},
		"the same JSON rewritten":  {body(bytes.ReplaceAll(opened, []byte("ü"), []byte(`\u00fc`))), 401, "WRONG_SIGNATURE", unproven},
		"an empty body":            {body(nil), 401, "WRONG_SIGNATURE", unproven},
		"a cut signature":          {header("X-Hub-Signature", signature[:len(signature)-1]), 401, "WRONG_SIGNATURE", unproven},
		"half a signature":         {header("X-Hub-Signature", signature[:len("sha256=")+32]), 401, "WRONG_SIGNATURE", unproven},
		"a longer signature":       {header("X-Hub-Signature", signature+"00"), 401, "WRONG_SIGNATURE", unproven},
		"upper-case hex":           {header("X-Hub-Signature", "sha256="+strings.ToUpper(signature[len("sha256="):])), 401, "WRONG_SIGNATURE", unproven},
		"upper-case algorithm":     {header("X-Hub-Signature", "SHA256="+signature[len("sha256="):]), 401, "WRONG_SIGNATURE", unproven},
		"another algorithm":        {header("X-Hub-Signature", "sha1="+signature[len("sha256="):]), 401, "WRONG_SIGNATURE", unproven},
		"no algorithm":             {header("X-Hub-Signature", signature[len("sha256="):]), 401, "WRONG_SIGNATURE", unproven},
		"the algorithm alone":      {header("X-Hub-Signature", "sha256="), 401, "WRONG_SIGNATURE", unproven},
		"two signatures":           {header("X-Hub-Signature", signature, signature), 401, "WRONG_SIGNATURE", unproven},
		"a list of signatures":     {header("X-Hub-Signature", signature+", "+signature), 401, "WRONG_SIGNATURE", unproven},
		"another header":           {func(r *http.Request) { header("X-Hub-Signature")(r); header("X-Hub-Signature-256", signature)(r) }, 401, "WRONG_SIGNATURE", unproven},

		"an unknown webhook":      {path(uuid.NewString()), 404, "NOT_FOUND", unproven},
		"no UUID":                 {path("1"), 404, "NOT_FOUND", unproven},
		"a UUID in braces":        {path("{" + hook.ID + "}"), 404, "NOT_FOUND", unproven},
		"a UUID in upper case":    {path(strings.ToUpper(hook.ID)), 404, "NOT_FOUND", unproven},
		"a UUID without hyphens":  {path(strings.ReplaceAll(hook.ID, "-", "")), 404, "NOT_FOUND", unproven},
		"SQL in place of a UUID":  {path("' or true --"), 404, "NOT_FOUND", unproven},
		"got":                     {func(r *http.Request) { r.Method = http.MethodGet }, 405, "METHOD_NOT_ALLOWED", malformed},
		"put":                     {func(r *http.Request) { r.Method = http.MethodPut }, 405, "METHOD_NOT_ALLOWED", malformed},
		"no media type":           {header("Content-Type"), 415, "UNSUPPORTED_MEDIA_TYPE", malformed},
		"text":                    {header("Content-Type", "text/plain"), 415, "UNSUPPORTED_MEDIA_TYPE", malformed},
		"a form":                  {header("Content-Type", "application/x-www-form-urlencoded"), 415, "UNSUPPORTED_MEDIA_TYPE", malformed},
		"two media types":         {header("Content-Type", "application/json", "application/json"), 415, "UNSUPPORTED_MEDIA_TYPE", malformed},
		"a broken media type":     {header("Content-Type", "application/json; ="), 415, "UNSUPPORTED_MEDIA_TYPE", malformed},
		"compressed":              {func(r *http.Request) { header("Content-Encoding", "gzip")(r); body(compressed(t, opened))(r) }, 415, "UNSUPPORTED_MEDIA_TYPE", malformed},
		"too large, and said so":  {body(make([]byte, 1<<20+1)), 413, "TOO_LARGE", malformed},
		"too large, in pieces":    {func(r *http.Request) { body(make([]byte, 1<<20+1))(r); r.ContentLength = -1 }, 413, "TOO_LARGE", malformed},
		"no request UUID":         {header("X-Request-UUID"), 400, "NO_REQUEST_UUID", malformed},
		"two request UUIDs":       {header("X-Request-UUID", uuid.NewString(), uuid.NewString()), 400, "NO_REQUEST_UUID", malformed},
		"no UUID for the request": {header("X-Request-UUID", "1"), 400, "NO_REQUEST_UUID", malformed},
		"no event":                {header("X-Event-Key"), 400, "NO_EVENT_KEY", malformed},
		"two events":              {header("X-Event-Key", openedEvent, "repo:push"), 400, "NO_EVENT_KEY", malformed},
		"an event with a space":   {header("X-Event-Key", "repo push"), 400, "NO_EVENT_KEY", malformed},
		"an event in Latin-1":     {header("X-Event-Key", "repo:p\xfcsh"), 400, "NO_EVENT_KEY", malformed},
		"a very long event":       {header("X-Event-Key", strings.Repeat("x", 101)), 400, "NO_EVENT_KEY", malformed},
	} {
		// One after the other: what was observed is each one's own.
		t.Run(name, func(t *testing.T) {
			b.seen()
			r := b.request(t, hook, openedEvent, uuid.NewString(), opened)
			test.change(r)
			got := send(t, r)
			if got.status != test.status || got.code != test.code {
				t.Errorf("answered %d %s, want %d %s", got.status, got.code, test.status, test.code)
			}
			if got.status == http.StatusMethodNotAllowed && got.header.Get("Allow") != http.MethodPost {
				t.Errorf("Allow: %q", got.header.Get("Allow"))
			}
			if seen := b.seen(); !slices.Equal(seen, []string{"other " + test.outcome}) {
				t.Errorf("observed %q", seen)
			}
		})
	}
	if rows := stored(t, conn); len(rows) != 0 {
		t.Errorf("stored %v", rows)
	}
	if jobs, _ := ledger(t, conn); len(jobs) != 0 {
		t.Errorf("asked for %q", jobs)
	}
	log := b.log.String()
	for _, secret := range []string{string(hook.Secret), string(other.Secret), signature, signature[len("sha256="):], "ü"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log shows %q", secret)
		}
	}
	if !strings.Contains(log, hook.ID) {
		t.Error("the log does not tell which webhook has a wrong secret")
	}
}

func compressed(t *testing.T, raw []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// A body that breaks off is not taken for a shorter one.
func TestBodyThatBreaksOff(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.intake.Start()
	hook := b.hook(t, workspaceUUID, repoUUID)
	target, err := url.Parse(b.url)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", target.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /hooks/%s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Event-Key: %s\r\nX-Request-UUID: %s\r\nX-Hub-Signature: %s\r\nContent-Length: %d\r\n\r\n%s",
		hook.ID, openedEvent, uuid.NewString(), sign(hook.Secret, opened), len(opened)+1, opened)
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

// TestAcceptedDeliveries sends what must get in although it is not quite the usual.
func TestAcceptedDeliveries(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.intake.Start()
	conn := b.connect(t)
	hook := b.hook(t, workspaceUUID, repoUUID)
	large := slices.Concat(opened, bytes.Repeat([]byte(" "), 1<<20-len(opened)))
	set := func(name string, values ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header[http.CanonicalHeaderKey(name)] = values }
	}
	nothing := func(*http.Request) {}
	for name, test := range map[string]struct {
		event  string
		body   []byte
		change func(*http.Request)
		want   row
		jobs   []string
	}{
		"a charset":                 {openedEvent, opened, set("Content-Type", "application/json; charset=utf-8"), row{Attempt: 1, Outcome: store.DeliveryParsed}, []string{"evaluate R:7"}},
		"not compressed, and so":    {openedEvent, opened, set("Content-Encoding", "identity"), row{Attempt: 1, Outcome: store.DeliveryParsed}, []string{"evaluate R:7"}},
		"the largest body":          {openedEvent, large, nothing, row{Attempt: 1, Outcome: store.DeliveryParsed}, []string{"evaluate R:7"}},
		"the third attempt":         {openedEvent, opened, set("X-Attempt-Number", "3"), row{Attempt: 3, Outcome: store.DeliveryParsed}, []string{"evaluate R:7"}},
		"no number of the attempt":  {openedEvent, opened, set("X-Attempt-Number"), row{Attempt: 1, Outcome: store.DeliveryParsed}, []string{"evaluate R:7"}},
		"a strange attempt":         {openedEvent, opened, set("X-Attempt-Number", "99999999999999999999"), row{Attempt: 1, Outcome: store.DeliveryParsed}, []string{"evaluate R:7"}},
		"an event of tomorrow":      {"pullrequest:admired", opened, nothing, row{Attempt: 1, Outcome: store.DeliveryUnknownEvent}, nil},
		"an event without its body": {"pullrequest:admired", []byte("?"), nothing, row{Attempt: 1, Outcome: store.DeliveryUnknownEvent}, nil},
		"nothing at all":            {openedEvent, nil, nothing, row{Attempt: 1, Outcome: store.DeliveryUnparsable}, []string{"reconcile R"}},
		"no JSON":                   {openedEvent, []byte("\x00\xff"), nothing, row{Attempt: 1, Outcome: store.DeliveryUnparsable}, []string{"reconcile R"}},
		"JSON cut off":              {openedEvent, opened[:len(opened)-1], nothing, row{Attempt: 1, Outcome: store.DeliveryUnparsable}, []string{"reconcile R"}},
		"another repository":        {openedEvent, []byte(`{"repository":{"uuid":"{` + sample + `}"},"pullrequest":{"id":7}}`), nothing, row{Attempt: 1, Outcome: store.DeliveryUnparsable}, []string{"reconcile R"}},
		"a renamed repository":      {openedEvent, bytes.ReplaceAll(opened, []byte("acme/rocket"), []byte("globex/moon")), nothing, row{Attempt: 1, Outcome: store.DeliveryParsed}, []string{"evaluate R:7"}},
		"a NUL in a branch":         {"repo:push", []byte(pushOf(`{"new":{"type":"branch","name":"a\u0000"}}`)), nothing, row{Attempt: 1, Outcome: store.DeliveryParsed}, []string{"fan R"}},
		"the longest branch":        {"repo:push", []byte(pushOf(`{"new":` + refOf("branch", strings.Repeat("é", 500)) + `}`)), nothing, row{Attempt: 1, Outcome: store.DeliveryParsed}, []string{"fan R:" + strings.Repeat("é", 500)}},
		"half a surrogate":          {"repo:push", []byte(pushOf(`{"new":{"type":"branch","name":"a\ud800"}}`)), nothing, row{Attempt: 1, Outcome: store.DeliveryParsed}, []string{"fan R:a\ufffd"}},
	} {
		// One after the other: they share the ledger.
		t.Run(name, func(t *testing.T) {
			if _, err := conn.Exec(t.Context(), `delete from signedapproval_jobs`); err != nil {
				t.Fatal(err)
			}
			id := uuid.NewString()
			r := b.request(t, hook, test.event, id, test.body)
			test.change(r)
			send(t, r).accepted(t)
			want := test.want
			want.Workspace, want.Repository, want.Event = workspaceUUID, repoUUID, test.event
			if got := stored(t, conn)[id]; got != want {
				t.Errorf("stored %+v, want %+v", got, want)
			}
			jobs, _ := ledger(t, conn)
			for i := range jobs {
				jobs[i] = strings.Replace(jobs[i], workspaceUUID+"/"+repoUUID, "R", 1)
			}
			if !slices.Equal(jobs, test.jobs) {
				t.Errorf("jobs %q, want %q", jobs, test.jobs)
			}
			if raw, err := b.store.DeliveryBody(t.Context(), id); err != nil || !bytes.Equal(raw, test.body) {
				t.Errorf("the stored body is another: %v", err)
			}
		})
	}
}

// A repeat is accepted and changes nothing, in whatever form it writes the UUID.
func TestRepeats(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.intake.Start()
	conn := b.connect(t)
	hook := b.hook(t, workspaceUUID, repoUUID)
	id := uuid.NewString()
	b.deliver(t, hook, openedEvent, id, opened).accepted(t)
	for _, again := range []string{id, "{" + id + "}", strings.ToUpper(id)} {
		b.deliver(t, hook, openedEvent, again, opened).accepted(t)
	}
	// Not even with another body: the first copy is the one that counts.
	b.deliver(t, hook, "repo:updated", id, []byte(`{`+inRepo+`}`)).accepted(t)

	id = uuid.NewString()
	var all sync.WaitGroup
	for range 16 {
		r := b.request(t, hook, "repo:transfer", id, []byte(`{`+inRepo+`}`))
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
	jobs, asked := ledger(t, conn)
	if want := []string{"evaluate " + workspaceUUID + "/" + repoUUID + ":7", "reconcile " + workspaceUUID + "/" + repoUUID}; !slices.Equal(jobs, want) || !slices.Equal(asked, []int64{1, 1}) {
		t.Errorf("jobs %q, asked %d times", jobs, asked)
	}
}

func TestAnswerComesAfterTheCommit(t *testing.T) {
	t.Parallel()
	b := setup(t, &store.IntakeOptions{Timeout: time.Minute})
	b.intake.Start()
	conn := b.connect(t)
	hook := b.hook(t, workspaceUUID, repoUUID)
	tx, err := b.connect(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `lock table signedapproval_deliveries in exclusive mode`); err != nil {
		t.Fatal(err)
	}
	id := uuid.NewString()
	r := b.request(t, hook, openedEvent, id, opened)
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
	if _, ok := stored(t, conn)[id]; !ok {
		t.Error("answered, and nothing is stored")
	}
}

func TestBusyIntake(t *testing.T) {
	t.Parallel()
	b := setup(t, &store.IntakeOptions{Queue: 1, Timeout: time.Minute})
	hook := b.hook(t, workspaceUUID, repoUUID)
	// Nobody empties the queue yet: of two deliveries one waits and one is turned away.
	answers := make(chan reply, 2)
	for range 2 {
		r := b.request(t, hook, openedEvent, uuid.NewString(), opened)
		go func() { answers <- send(t, r) }()
	}
	(<-answers).turnedAway(t)
	b.intake.Start()
	(<-answers).accepted(t)
	if rows := stored(t, b.connect(t)); len(rows) != 1 {
		t.Errorf("stored %v", rows)
	}
	b.intake.Stop()
	b.seen()
	b.deliver(t, hook, openedEvent, uuid.NewString(), opened).turnedAway(t)
	if seen := b.seen(); !slices.Equal(seen, []string{openedEvent + " " + webhook.OutcomeTurnedAway}) {
		t.Errorf("observed %q", seen)
	}
}

func TestDatabaseIsAway(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.intake.Start()
	conn := b.connect(t)
	hook := b.hook(t, workspaceUUID, repoUUID)
	b.deliver(t, hook, "repo:updated", uuid.NewString(), []byte(`{`+inRepo+`}`)).accepted(t)

	b.link.set(true)
	id := uuid.NewString()
	b.deliver(t, hook, openedEvent, id, opened).turnedAway(t) // the endpoint is known, the row cannot be written
	b.sleep(time.Minute)
	b.seen()
	b.deliver(t, hook, openedEvent, id, opened).turnedAway(t) // the endpoint cannot be read
	if seen := b.seen(); !slices.Equal(seen, []string{"other " + webhook.OutcomeTurnedAway}) {
		t.Errorf("observed %q", seen)
	}
	if rows := stored(t, conn); len(rows) != 1 {
		t.Fatalf("stored %v", rows)
	}
	if log := b.log.String(); !strings.Contains(log, "level=ERROR") || strings.Contains(log, string(hook.Secret)) {
		t.Errorf("logged %s", log)
	}

	b.link.set(false)
	eventually(t, "the repeat is accepted", func() bool {
		return b.deliver(t, hook, openedEvent, id, opened).status == http.StatusNoContent
	})
	if rows := stored(t, conn); len(rows) != 2 || rows[id].Outcome != store.DeliveryParsed {
		t.Errorf("stored %v", rows)
	}
	if jobs, _ := ledger(t, conn); !slices.Equal(jobs, []string{"evaluate " + workspaceUUID + "/" + repoUUID + ":7", "reconcile " + workspaceUUID + "/" + repoUUID}) {
		t.Errorf("jobs %q", jobs)
	}
}

// A webhook is known at once, and unknown soon after it was removed.
func TestEndpointsComeAndGo(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.intake.Start()
	hook := store.HookEndpoint{ID: uuid.NewString(), Secret: "s"}
	body := []byte(`{` + inRepo + `}`)
	if got := b.deliver(t, hook, "repo:updated", uuid.NewString(), body); got.status != http.StatusNotFound {
		t.Fatalf("answered %d", got.status)
	}
	err := b.store.InWorkspace(t.Context(), workspaceUUID, func(tx *store.Tx) error {
		_, err := tx.PutHookEndpoint(t.Context(), hook.ID, repoUUID, hook.Secret)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b.deliver(t, hook, "repo:updated", uuid.NewString(), body).accepted(t)

	err = b.store.InWorkspace(t.Context(), workspaceUUID, func(tx *store.Tx) error { return tx.DeleteHookEndpoint(t.Context(), repoUUID) })
	if err != nil {
		t.Fatal(err)
	}
	b.sleep(10 * time.Second)
	for range 2 {
		if got := b.deliver(t, hook, "repo:updated", uuid.NewString(), body); got.status != http.StatusNotFound {
			t.Errorf("a removed webhook is answered %d", got.status)
		}
	}
	// Its successor has another secret.
	next := b.hook(t, workspaceUUID, repoUUID)
	b.deliver(t, next, "repo:updated", uuid.NewString(), body).accepted(t)
	if got := b.deliver(t, store.HookEndpoint{ID: next.ID, Secret: hook.Secret}, "repo:updated", uuid.NewString(), body); got.status != http.StatusUnauthorized {
		t.Errorf("the old secret is answered %d", got.status)
	}
}

// Made-up ids do not take the connections that deliveries need.
func TestLookUpsAreFew(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.intake.Start()
	conn := b.connect(t)
	hook := b.hook(t, workspaceUUID, repoUUID)
	b.deliver(t, hook, openedEvent, uuid.NewString(), opened).accepted(t)

	tx, err := b.connect(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `lock table signedapproval_hook_endpoints in access exclusive mode`); err != nil {
		t.Fatal(err)
	}
	const flood = 32
	var all sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	for range flood {
		r := b.request(t, store.HookEndpoint{ID: uuid.NewString(), Secret: "s"}, openedEvent, uuid.NewString(), opened)
		all.Go(func() {
			got := send(t, r)
			mu.Lock()
			defer mu.Unlock()
			statuses[got.status]++
		})
	}
	eventually(t, "look-ups wait", func() bool { return dbtest.Waiting(t, conn, "signedapproval_hook_endpoints") == 4 })
	b.deliver(t, hook, openedEvent, uuid.NewString(), opened).accepted(t)
	if n := dbtest.Waiting(t, conn, "signedapproval_hook_endpoints"); n > 4 {
		t.Errorf("%d look-ups at once", n)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	// Whoever did not get its turn in time is told to come again; nobody gets in.
	if statuses[http.StatusNotFound]+statuses[http.StatusServiceUnavailable] != flood {
		t.Errorf("answered %v", statuses)
	}
}

// Deliveries of many repositories at once stay with their own.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.intake.Start()
	conn := b.connect(t)
	var all sync.WaitGroup
	want := map[string]row{}
	for range 8 {
		repository := uuid.NewString()
		hook := b.hook(t, workspaceUUID, repository)
		for number := range 8 {
			id := uuid.NewString()
			want[id] = row{workspaceUUID, repository, openedEvent, 1, store.DeliveryParsed}
			r := b.request(t, hook, openedEvent, id, []byte(fmt.Sprintf(`{"repository":{"uuid":"{%s}"},"pullrequest":{"id":%d}}`, repository, number+1)))
			all.Go(func() {
				if got := send(t, r); got.status != http.StatusNoContent {
					t.Errorf("answered %d %s", got.status, got.code)
				}
			})
		}
	}
	all.Wait()
	if got := stored(t, conn); !maps.Equal(got, want) {
		t.Errorf("%d are stored, want %d", len(got), len(want))
	}
	if jobs, _ := ledger(t, conn); len(jobs) != len(want) {
		t.Errorf("%d jobs, want %d", len(jobs), len(want))
	}
}
