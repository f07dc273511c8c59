package app_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/signedapproval/bitbucket/internal/stage"
	"github.com/signedapproval/bitbucket/server/app"
	"github.com/signedapproval/bitbucket/server/attest"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// newAttestationKey makes the pair of keys of a server.
func newAttestationKey(t testing.TB) (private, public string) {
	t.Helper()
	a, b, err := attest.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return string(a), string(b)
}

func TestAttestationNewKey(t *testing.T) {
	t.Parallel()
	code, out, errs := command(t, "attestation", "new-key")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	keys, err := attest.ParseKeys([]byte(out))
	if err != nil {
		t.Fatal(err)
	}
	public, err := attest.ParseVerifiers([]byte(errs))
	if err != nil || len(public) != 1 || !bytes.Equal(public[0], keys.Verifiers()[0]) {
		t.Errorf("the error output is %q (%v)", errs, err)
	}
}

// TestAttestationKeysAreTheirOwn refuses a key of the log, two places at once, and what is no key.
func TestAttestationKeysAreTheirOwn(t *testing.T) {
	t.Parallel()
	private, _ := newAttestationKey(t)
	logKey := newLogKey(t, "approvals.example/log")
	config := app.Config{LogOrigin: "approvals.example/log", LogKey: logKey}
	logKeys, err := config.ReadLogKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if keys, err := config.ReadAttestationKeys(logKeys); keys != nil || err != nil {
		t.Errorf("without a key: %v %v", keys, err)
	}
	config.AttestationKey = private
	if keys, err := config.ReadAttestationKeys(logKeys); err != nil || len(keys.Verifiers()) != 1 {
		t.Errorf("with a key: %v", err)
	}
	config.AttestationKey = sameAsLogKey(t, logKey)
	if _, err := config.ReadAttestationKeys(logKeys); err == nil || !strings.Contains(err.Error(), "a key of the log") {
		t.Errorf("the log's key: %v", err)
	}
	config.AttestationKey = "secret"
	if _, err := config.ReadAttestationKeys(logKeys); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("no key: %v", err)
	}
	config.AttestationKey, config.AttestationKeyFile = "", filepath.Join(t.TempDir(), "absent")
	if _, err := config.ReadAttestationKeys(logKeys); err == nil {
		t.Error("an absent file was read")
	}
	config.AttestationKey = private
	if err := config.Validate(); err == nil || !strings.Contains(err.Error(), "at most one of SIGNEDAPPROVAL_ATTESTATION_KEY") {
		t.Errorf("two places: %v", err)
	}
}

// auditWorld is one server with a branch on which everything has happened.
type auditWorld struct {
	*cluster
	token, keyFile string
	merged         opened
	landed, pushed string
}

func newAuditWorld(t *testing.T) *auditWorld {
	t.Helper()
	private, public := newAttestationKey(t)
	w := &auditWorld{cluster: newCluster(t, options{servers: 1, env: []string{"SIGNEDAPPROVAL_ATTESTATION_KEY=" + private}})}
	w.keyFile = write(t, t.TempDir(), "attestation.pub", public)
	w.token = w.newToken(w.alice, w.workspace)
	w.merged = w.open("cooler")
	w.approveBoth([]opened{w.merged})
	w.eventually("the merge is recorded", func() bool {
		return len(w.sql(`select landed_commit from signedapproval_merges_seen where landed_commit <> ''`)) == 1
	})
	w.landed = w.sql(`select landed_commit from signedapproval_merges_seen`)[0]
	commit, err := w.sim.Push(bitbucketsim.Push{Repository: rocket, Branch: release, Person: "alice", Files: map[string]string{"around.txt": "around the gate"}})
	w.must(err)
	w.pushed = commit.Hash
	w.atRest()
	return w
}

func (c *cluster) newToken(p *stage.Person, in stage.Workspace) string {
	c.t.Helper()
	var made struct {
		CreateAPIToken struct {
			Secret     string
			UserErrors []stage.Refusal
		}
	}
	c.must(p.Ask(c.ctx, "CreateApiToken", map[string]any{"input": map[string]any{
		"workspaceId": in.ID, "name": "audit", "scopes": []string{"READ"}, "expiresInDays": 7,
	}}, &made))
	if len(made.CreateAPIToken.UserErrors) > 0 {
		c.t.Fatal(made.CreateAPIToken.UserErrors)
	}
	return made.CreateAPIToken.Secret
}

// get asks the server with a token.
func (w *auditWorld) get(token, path string) (status int, code string, body []byte) {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.ctx, http.MethodGet, w.proxy.origin+path, nil)
	w.must(err)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	w.must(err)
	defer func() { _ = response.Body.Close() }()
	body, err = io.ReadAll(response.Body)
	w.must(err)
	return response.StatusCode, response.Header.Get("Signedapproval-Code"), body
}

// audit runs the command as a pipeline would.
func (w *auditWorld) audit(server, token string, more ...string) (code int, out, errs string) {
	w.t.Helper()
	path, err := program()
	w.must(err)
	args := append([]string{"audit", "--workspace={" + w.workspace.UUID + "}", "--repository=" + w.repository, "--branch=" + release, "--from=2020-01-01"}, more...)
	cmd := exec.CommandContext(w.ctx, path, args...)
	cmd.Env = append(os.Environ(), "SIGNEDAPPROVAL_URL="+server, "SIGNEDAPPROVAL_TOKEN="+token)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		w.t.Fatal(err)
	}
	if token != "" && strings.Contains(stdout.String()+stderr.String(), token) {
		w.t.Error("the command prints the token")
	}
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

func TestAttestationsAndAudits(t *testing.T) {
	t.Parallel()
	w := newAuditWorld(t)
	for _, part := range []struct {
		name string
		run  func(*testing.T)
	}{{"attestations", w.attestations}, {"others", w.others}, {"the audit", w.whole}, {"tampered audits", w.tampered}, {"outdated evidence", w.outdated}} {
		t.Run(part.name, func(t *testing.T) {
			outer := w.t
			w.t = t // they run one after the other
			defer func() { w.t = outer }()
			part.run(t)
		})
	}
}

// outdated puts evidence of before in the place of what the log has since.
func (w *auditWorld) outdated(t *testing.T) {
	w.atRest() // and so is the roster
	path, err := program()
	w.must(err)
	anchors := filepath.Join(t.TempDir(), "anchors.json")
	get := exec.CommandContext(w.ctx, path, "anchors", "get", "--workspace=acme", "-o", anchors)
	get.Env = append(os.Environ(), "SIGNEDAPPROVAL_URL="+w.proxy.origin, "SIGNEDAPPROVAL_TOKEN="+w.token)
	if said, err := get.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	of := "/evidence/" + w.workspace.UUID + "/" + w.sql(`select id::text from signedapproval_approval_requests where head_commit = '` + w.merged.head + `'`)[0]
	status, code, before := w.get(w.token, of)
	if status != http.StatusOK {
		t.Fatalf("%s: %d %s", of, status, code)
	}
	target, err := url.Parse(w.proxy.origin)
	w.must(err)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	liar := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == of {
			_, _ = rw.Write(before)
			return
		}
		proxy.ServeHTTP(rw, r)
	}))
	t.Cleanup(liar.Close)
	const nothing, against = "", "the public log: the evidence is not the newest"
	movedSince := func(before []byte) func() bool {
		return func() bool {
			status, _, now := w.get(w.token, of)
			return status == http.StatusOK && !bytes.Equal(now, before) && evidence.Verify(now, evidence.Anchors{}).ExitCode() == 2
		}
	}
	step := func(what, server string, want int, says string, more ...string) {
		t.Helper()
		code, out, errs := w.audit(server, w.token, append([]string{"--key=" + w.keyFile, "--anchors=" + anchors}, more...)...)
		if code != want || !strings.Contains(errs, says) || strings.Contains(errs, "the public log:") != (says != nothing) || !strings.Contains(out, w.landed) {
			t.Errorf("%s: exit %d\n%s%s", what, code, out, errs)
		}
	}
	step("nothing has come since", liar.URL, 2, nothing) // without a clone
	w.must(w.bob.Renew(w.ctx, w.merged.Place))
	w.eventually("the roster moves", movedSince(before))
	w.atRest()
	step("a newer roster", liar.URL, 1, against)
	step("the server itself", w.proxy.origin, 2, nothing)
	step("a log that is too long", liar.URL, 2, "--max-leaves is 1", "--max-leaves=1")
	// Each time it is the evidence of just before: a passkey on which it rests is replaced, or another one enrolled.
	moves := []func() error{
		func() error { return w.bob.Replace(w.ctx, w.merged.Place, nil) },
		func() error { return w.carol.Renew(w.ctx, w.merged.Place) },
		func() error { return w.carol.Replace(w.ctx, w.merged.Place, nil) },
	}
	busy := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != of {
			proxy.ServeHTTP(rw, r)
			return
		}
		_, _, taken := w.get(w.token, of)
		w.eventually("somebody does something about a passkey", func() bool { return moves[0]() == nil })
		moves = moves[1:]
		w.eventually("the roster moves while the evidence is on its way", movedSince(taken))
		w.atRest()
		_, _ = rw.Write(taken)
	}))
	t.Cleanup(busy.Close)
	step("a roster that moves each time that evidence is given", busy.URL, 2, "came after that was asked for if the server is to be believed")
}

// attestations reads what is said of the head, of what landed, and of what was pushed.
func (w *auditWorld) attestations(t *testing.T) {
	status, _, text := w.get("", "/attestations/keys")
	keys, err := attest.ParseVerifiers(text)
	if status != http.StatusOK || err != nil {
		t.Fatalf("%d %s %v", status, text, err)
	}
	pinned, err := attest.ParseVerifiers([]byte(readFile(t, w.keyFile)))
	if err != nil || len(keys) != 1 || !bytes.Equal(keys[0], pinned[0]) {
		t.Errorf("the keys announced are %s", text)
	}
	at := "/attestations/" + w.workspace.UUID + "/"
	for commit, property := range map[string]string{w.merged.head: attest.PropertyApproved, w.landed: attest.PropertyMergeOfApproved} {
		status, code, envelope := w.get(w.token, at+commit+"?predicate=vsa")
		s, err := attest.OpenSummary(t.Context(), envelope, pinned)
		if status != http.StatusOK || err != nil {
			t.Fatalf("%d %s %s %v", status, code, envelope, err)
		}
		p := s.Predicate
		if p.VerificationResult != attest.Passed || !slices.Equal(p.VerifiedLevels, []string{attest.LevelSource, property}) || s.Subject[0].Digest["gitCommit"] != commit {
			t.Errorf("%s: %+v", commit, s)
		}
		_, _, envelope = w.get(w.token, at+commit+"?predicate=review&branch="+url.QueryEscape(release)+"&repository="+w.repository)
		r, err := attest.OpenReview(t.Context(), envelope, pinned)
		if err != nil {
			t.Fatalf("%s %v", envelope, err)
		}
		if v := r.Predicate; v.Verdict.State != "APPROVED" || len(v.Approvals) != 2 || v.Head != w.merged.head || v.Merge == nil || v.Merge.Commit != w.landed || v.Merge.Kind != attest.KindApproved {
			t.Errorf("%s: %+v", commit, v)
		}
		if strings.Contains(string(envelope), "Bob") {
			t.Error("a review names somebody")
		}
		status, _, bundle := w.get(w.token, "/evidence/"+w.workspace.UUID+"/commits/"+commit)
		if report := evidence.Verify(bundle, evidence.Anchors{}); status != http.StatusOK || report.ExitCode() == 1 {
			t.Errorf("%d: the evidence of %s: %s", status, commit, report.Sentence())
		}
	}
	for path, want := range map[string]struct {
		status int
		code   string
	}{
		at + w.pushed + "?predicate=vsa":                                           {http.StatusNotFound, "NOT_FOUND"},
		at + w.landed:                                                              {http.StatusBadRequest, "BAD_INPUT"},
		at + w.landed + "?predicate=else":                                          {http.StatusBadRequest, "BAD_INPUT"},
		at + w.landed[:12] + "?predicate=vsa":                                      {http.StatusBadRequest, "BAD_INPUT"},
		at + w.landed + "?predicate=vsa&branch=main":                               {http.StatusNotFound, "NOT_FOUND"},
		"/audit/" + w.workspace.UUID + "/" + w.repository + "?branch=" + release:   {http.StatusBadRequest, "BAD_INPUT"},
		"/evidence/" + w.workspace.UUID + "/commits/" + w.pushed:                   {http.StatusNotFound, "NOT_FOUND"},
		"/evidence/" + w.workspace.UUID + "/commits/" + w.landed + "?repository=x": {http.StatusBadRequest, "BAD_INPUT"},
	} {
		if status, code, body := w.get(w.token, path); status != want.status || code != want.code {
			t.Errorf("%s: %d %s %s", path, status, code, body)
		}
	}
}

const window = "?branch=release%2F1.0&from=2020-01-01T00:00:00Z&to=2100-01-01T00:00:00Z"

// others has nobody, and the token of another workspace, ask for everything.
func (w *auditWorld) others(t *testing.T) {
	_, err := w.sim.AddPerson(bitbucketsim.Person{Nickname: "dave"})
	w.must(err)
	_, err = w.sim.AddWorkspace(bitbucketsim.Workspace{Slug: "globex", Name: "Globex", Owners: []string{"dave"}})
	w.must(err)
	_, err = w.sim.AddRepository(bitbucketsim.Repository{Workspace: "globex", Slug: "drill", Name: "Drill"})
	w.must(err)
	dave, err := stage.NewPerson("dave", w.proxy.origin)
	w.must(err)
	w.must(dave.SignIn(w.ctx))
	globex, err := dave.Connect(w.ctx)
	w.must(err)
	theirs := w.newToken(dave, globex)
	for _, path := range []string{
		"/attestations/" + w.workspace.UUID + "/" + w.landed + "?predicate=vsa", "/attestations/" + w.workspace.UUID + "/" + w.landed + "?predicate=review",
		"/evidence/" + w.workspace.UUID + "/commits/" + w.landed, "/audit/" + w.workspace.UUID + "/" + w.repository + window,
	} {
		if status, _, body := w.get(w.token, path); status != http.StatusOK {
			t.Errorf("our own %s: %d %s", path, status, body)
		}
		if status, code, body := w.get(theirs, path); status != http.StatusNotFound || code != "NOT_FOUND" {
			t.Errorf("%s with their token: %d %s %s", path, status, code, body)
		}
		if status, _, body := w.get("", path); status != http.StatusUnauthorized {
			t.Errorf("%s by nobody: %d %s", path, status, body)
		}
		if status, _, _ := w.get(theirs, strings.Replace(path, w.workspace.UUID, globex.UUID, 1)); status == http.StatusOK {
			t.Errorf("%s is found in their workspace", path)
		}
	}
}

// whole runs the command as an auditor would.
func (w *auditWorld) whole(t *testing.T) {
	clone := filepath.Join(t.TempDir(), "clone")
	stream, err := w.sim.FastExport(rocket)
	w.must(err)
	git := func(in []byte, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(w.ctx, "git", append([]string{"-C", clone}, args...)...)
		cmd.Stdin = bytes.NewReader(in)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	w.must(os.Mkdir(clone, 0o700))
	git(nil, "init", "--quiet")
	git(stream, "fast-import", "--quiet")
	anchors := write(t, t.TempDir(), "anchors.json", `{"format":"`+evidence.AnchorsFormat+`"}`)
	summary := filepath.Join(t.TempDir(), "summary.json")
	code, out, errs := w.audit(w.proxy.origin, w.token, "--key="+w.keyFile, "--repo="+clone, "--summary="+summary)
	if code != 0 || !strings.Contains(errs, "2 approved, 0 by override") {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
	table, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	w.must(err)
	if got := table[len(table)-1]; got[1] != w.pushed || got[2] != attest.KindViolation {
		t.Errorf("the last row is %v", got)
	}
	if got := table[len(table)-2]; got[1] != w.landed || got[2] != attest.KindApproved || got[3] != string(attest.MergeOf) || got[10] == "" {
		t.Errorf("the row before is %v", got)
	}
	if _, err := os.Stat(summary); err != nil {
		t.Error(err)
	}
	code, out, errs = w.audit(w.proxy.origin, w.token, "--format=json", "--anchors="+anchors, "--repo="+clone)
	var document struct {
		Rows    []attest.Row
		Summary json.RawMessage
	}
	if err := json.Unmarshal([]byte(out), &document); err != nil || code != 2 || len(document.Rows) != len(table)-1 || !strings.Contains(errs, "operator-asserted") {
		t.Fatalf("exit %d, %v\n%s%s", code, err, out, errs)
	}
	// What was printed is enough to verify the summary again.
	var sum attest.Sum
	for _, row := range document.Rows {
		line, err := row.Line()
		w.must(err)
		w.must(sum.Add(row, line))
	}
	keys, err := attest.ParseVerifiers([]byte(readFile(t, w.keyFile)))
	w.must(err)
	if _, err := attest.OpenAudit(t.Context(), document.Summary, keys, &sum); err != nil {
		t.Error(err)
	}
	// Anchors of another workspace prove none of the rows, and all of them are listed: one that is not proved hides no other.
	strange := write(t, t.TempDir(), "anchors.json", `{"format":"`+evidence.AnchorsFormat+`","genesis":"`+strings.Repeat("0", 64)+`"}`)
	code, out, errs = w.audit(w.proxy.origin, w.token, "--key="+w.keyFile, "--anchors="+strange)
	if n := strings.Count(out, ",disproved,"); code != 1 || n != 2 || strings.Contains(out, ",approved,") || strings.Count(out, "\n") != len(table) ||
		!strings.Contains(errs, "FAILED: the evidence does not prove 2 of the rows") {
		t.Errorf("strange anchors: exit %d\n%s%s", code, out, errs)
	}
	code, out, errs = w.audit(w.proxy.origin, w.token, "--key="+w.keyFile, "--anchors="+strange, "--format=json")
	var judged struct {
		Rows      []attest.Row
		Disproved []struct {
			Row int
			Why string
		}
	}
	if err := json.Unmarshal([]byte(out), &judged); err != nil || code != 1 || len(judged.Rows) != len(table)-1 || len(judged.Disproved) != 2 || judged.Disproved[0].Why == "" {
		t.Errorf("strange anchors, as JSON: exit %d, %v\n%s%s", code, err, out, errs)
	}

	// A clone that is ahead has a commit that the server does not list.
	git(nil, "checkout", "--quiet", release)
	git(nil, "-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "--quiet", "--allow-empty", "-m", "ahead")
	if code, out, errs := w.audit(w.proxy.origin, w.token, "--key="+w.keyFile, "--repo="+clone); code != 1 || out != "" || !strings.Contains(errs, "--repo") {
		t.Errorf("a clone that is ahead: exit %d\n%s%s", code, out, errs)
	}
	_, otherKey := newAttestationKey(t)
	for name, c := range map[string]struct {
		token, says string
		more        []string
	}{
		"another key":       {w.token, "the summary", []string{"--key=" + write(t, t.TempDir(), "other.pub", otherKey)}},
		"no token":          {"", "SIGNEDAPPROVAL_TOKEN", nil},
		"a wrong token":     {"sa_live_wrong", "401", nil},
		"no such branch":    {w.token, "NEVER_PROTECTED", []string{"--branch=main"}},
		"a window reversed": {w.token, "--from", []string{"--to=2019-01-01"}},
		"no time":           {w.token, "--from", []string{"--from=yesterday"}},
	} {
		if code, out, errs := w.audit(w.proxy.origin, c.token, c.more...); code != 1 || out != "" || !strings.Contains(errs, c.says) {
			t.Errorf("%s: exit %d\n%s%s", name, code, out, errs)
		}
	}
	// By their slugs, and a token in a file.
	tokenFile := write(t, t.TempDir(), "token", w.token+"\n")
	if code, out, errs := w.audit(w.proxy.origin, "", "--token-file="+tokenFile, "--workspace=acme", "--repository=rocket", "--key="+w.keyFile); code != 0 || !strings.Contains(out, w.landed) {
		t.Errorf("by slugs: exit %d\n%s%s", code, out, errs)
	}
	if code, _, errs := w.audit("http://approvals.example", w.token); code != 1 || !strings.Contains(errs, "https") {
		t.Errorf("in the clear: exit %d %s", code, errs)
	}

	// A push of a pull puts all of it below the second parent; a new clone has the same commits, and the old one has not.
	_, err = w.sim.Push(bitbucketsim.Push{Repository: rocket, Branch: "local", From: w.merged.head, Person: "alice", Files: map[string]string{"local.txt": "local"}})
	w.must(err)
	pr, err := w.sim.OpenPullRequest(bitbucketsim.PullRequest{Repository: rocket, Author: "alice", Title: "Pull", Source: release, Destination: "local"})
	w.must(err)
	token, err := w.sim.IssueToken(bitbucketsim.TokenRequest{Person: "alice"})
	w.must(err)
	alice := bitbucket.New(bitbucket.Config{BaseURL: w.sim.URL()}).As(token.AccessToken, "alice", bitbucket.Foreground)
	_, err = alice.Merge(w.ctx, "acme", "rocket", int64(pr.ID), bitbucket.MergeOptions{Message: "Pull", Strategy: "merge_commit"})
	w.must(err)
	_, err = w.sim.Push(bitbucketsim.Push{Repository: rocket, Branch: release, From: "local", Force: true, Person: "alice"})
	w.must(err)
	w.atRest()
	old := clone
	clone = filepath.Join(t.TempDir(), "pulled")
	stream, err = w.sim.FastExport(rocket)
	w.must(err)
	w.must(os.Mkdir(clone, 0o700))
	git(nil, "init", "--quiet")
	git(stream, "fast-import", "--quiet")
	code, out, errs = w.audit(w.proxy.origin, w.token, "--key="+w.keyFile, "--repo="+clone)
	pulled, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil || code != 0 || len(pulled) != len(table)+2 || !strings.Contains(out, w.landed+",approved,merge,") || !strings.Contains(out, w.pushed+",violation,") {
		t.Errorf("after a pull: exit %d\n%s%s", code, out, errs)
	}
	if code, out, errs := w.audit(w.proxy.origin, w.token, "--key="+w.keyFile, "--repo="+old); code != 1 || out != "" || !strings.Contains(errs, "--repo") {
		t.Errorf("an old clone: exit %d\n%s%s", code, out, errs)
	}
}

// tampered puts somebody between the command and the server.
func (w *auditWorld) tampered(t *testing.T) {
	target, err := url.Parse(w.proxy.origin)
	w.must(err)
	var change atomic.Value // func(lines []string) []string
	front := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: func(response *http.Response) error {
			body, err := io.ReadAll(response.Body)
			if err != nil {
				return err
			}
			if strings.HasPrefix(response.Request.URL.Path, "/audit/") {
				body = []byte(strings.Join(change.Load().(func([]string) []string)(strings.SplitAfter(string(body), "\n")), ""))
			}
			response.Body, response.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			response.Header.Set("Content-Length", fmt.Sprint(len(body)))
			return nil
		},
	})
	t.Cleanup(front.Close)
	rows := func(f func(lines []string, i int) []string) func([]string) []string {
		return func(lines []string) []string {
			i := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, w.pushed) && strings.HasPrefix(l, `{"row"`) })
			return f(lines, i)
		}
	}
	for name, f := range map[string]func([]string) []string{
		"a violation that is called approved": rows(func(lines []string, i int) []string {
			lines[i] = strings.Replace(lines[i], `"kind":"violation"`, `"kind":"approved"`, 1)
			return lines
		}),
		"another reason": rows(func(lines []string, i int) []string {
			lines[i] = strings.Replace(lines[i], "pushed", "blessed", 1)
			return lines
		}),
		"a row left out":    rows(func(lines []string, i int) []string { return slices.Delete(lines, i, i+1) }),
		"a row twice":       rows(func(lines []string, i int) []string { return slices.Insert(lines, i, lines[i]) }),
		"rows that changed": rows(func(lines []string, i int) []string { lines[i], lines[i-1] = lines[i-1], lines[i]; return lines }),
		"no summary": func(lines []string) []string {
			return slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, `{"summary"`) })
		},
		"more after it": func(lines []string) []string { return append(lines, lines[0]) },
		"an error": func([]string) []string {
			return []string{`{"error":{"code":"BITBUCKET_UNAVAILABLE","message":"away"}}`}
		},
		"nothing":            func([]string) []string { return nil },
		"something else":     func([]string) []string { return []string{"<html>"} },
		"a line that is cut": rows(func(lines []string, i int) []string { lines[i] = lines[i][:len(lines[i])/2]; return lines[:i+1] }),
	} {
		change.Store(f)
		if code, out, errs := w.audit(front.URL, w.token, "--key="+w.keyFile); code != 1 || out != "" || errs == "" {
			t.Errorf("%s: exit %d\n%s%s", name, code, out, errs)
		}
	}
	change.Store(func(lines []string) []string { return lines })
	if code, _, errs := w.audit(front.URL, w.token, "--key="+w.keyFile); code != 0 {
		t.Errorf("untouched: exit %d\n%s", code, errs)
	}
}

func TestWithoutAnAttestationKey(t *testing.T) {
	t.Parallel()
	w := &auditWorld{cluster: newCluster(t, options{servers: 1})}
	token := w.newToken(w.alice, w.workspace)
	for _, path := range []string{
		"/attestations/keys", "/attestations/" + w.workspace.UUID + "/" + strings.Repeat("0", 40) + "?predicate=vsa", "/audit/" + w.workspace.UUID + "/" + w.repository + window,
	} {
		if status, code, body := w.get(token, path); status != http.StatusNotImplemented || code != "NO_ATTESTATION_KEY" {
			t.Errorf("%s: %d %s %s", path, status, code, body)
		}
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// sameAsLogKey writes a key of the log as if it were an attestation key.
func sameAsLogKey(t *testing.T, logKey string) string {
	t.Helper()
	parts := strings.SplitN(logKey, "+", 5)
	raw, err := base64.StdEncoding.DecodeString(parts[4])
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(raw[1:]))
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}
