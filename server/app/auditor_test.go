package app_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/signedapproval/bitbucket/internal/stage"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/monitor"
)

// auditing is a server with a pull request that was approved and merged, and somebody with a token who audits it.
type auditing struct {
	*cluster
	dir       string
	tokenFile string
	anchors   string // file
	merged    opened
	landed    string // what became of it
	pending   opened
	clone     string // as a pipeline makes it
}

func newAuditing(t *testing.T) *auditing {
	t.Helper()
	a := &auditing{cluster: newCluster(t, options{servers: 1}), dir: t.TempDir()}
	a.tokenFile = write(t, a.dir, "token", a.readToken()+"\n")
	a.merged = a.open("pump")
	for _, p := range []*stage.Person{a.bob, a.carol} {
		a.eventually("the pull request is asked about", func() bool { return a.shows("INPROGRESS", a.merged) })
		_, err := p.Decide(a.ctx, a.merged.Place, "APPROVE")
		a.must(err)
	}
	a.eventually("the merge is recorded", func() bool {
		return len(a.sql(`select landed_commit from signedapproval_merges_seen where landed_commit <> ''`)) == 1
	})
	a.landed = a.sql(`select landed_commit from signedapproval_merges_seen`)[0]
	a.pending = a.open("valve")
	a.eventually("the request is open", func() bool { return a.shows("INPROGRESS", a.pending) })
	a.atRest()
	a.anchors = filepath.Join(a.dir, "anchors.json")
	if code, out, errs := a.run("anchors", "get", "--workspace", "acme", "-o", a.anchors); code != 0 || !strings.Contains(out, "trust on first use") {
		t.Fatalf("anchors get: exit %d\n%s%s", code, out, errs)
	}
	a.clone = a.cloned(a.landed)
	return a
}

// readToken makes an API token that may read the workspace, as alice, who administers it.
func (a *auditing) readToken() string {
	a.t.Helper()
	var made struct {
		CreateAPIToken struct {
			Secret     string
			UserErrors []stage.Refusal
		}
	}
	a.must(a.alice.Ask(a.ctx, "CreateApiToken", map[string]any{"input": map[string]any{
		"workspaceId": a.workspace.ID, "name": "auditor", "scopes": []string{"READ"}, "expiresInDays": 7,
	}}, &made))
	if len(made.CreateAPIToken.UserErrors) > 0 {
		a.t.Fatal(made.CreateAPIToken.UserErrors)
	}
	return made.CreateAPIToken.Secret
}

// run runs a command that asks the server.
func (a *auditing) run(args ...string) (code int, out, errs string) {
	a.t.Helper()
	t, ok := a.t.(*testing.T)
	if !ok {
		a.t.Fatal("commands run in tests")
	}
	return command(t, append(args, "--url", a.proxy.origin, "--token-file", a.tokenFile)...)
}

// cloned makes a clone as Bitbucket Pipelines makes it for a commit that was pushed to the branch.
func (a *auditing) cloned(commit string, args ...string) string {
	a.t.Helper()
	stream, err := a.sim.FastExport(rocket)
	a.must(err)
	bare, clone := a.t.TempDir(), filepath.Join(a.t.TempDir(), "build")
	a.git(nil, "init", "--quiet", "--bare", bare)
	a.git(stream, "-C", bare, "fast-import", "--quiet", "--force")
	a.git(nil, append([]string{"clone", "--quiet", "--branch=" + release, "file://" + bare, clone}, args...)...)
	a.git(nil, "-C", clone, "reset", "--quiet", "--hard", commit)
	return clone
}

func (a *auditing) git(in []byte, args ...string) {
	a.t.Helper()
	cmd := exec.CommandContext(a.ctx, "git", args...)
	cmd.Stdin = bytes.NewReader(in)
	if out, err := cmd.CombinedOutput(); err != nil {
		a.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

// TestAnAuditor does with one server everything that an auditor does: pins, takes evidence along, gates a deploy,
// and follows the log.
func TestAnAuditor(t *testing.T) {
	t.Parallel()
	a := newAuditing(t)
	a.takesEvidence(t)
	a.gatesADeploy(t)
	a.runsThePipeline(t)
	a.followsTheLog(t)
	a.erasesPeople(t)
}

func (a *auditing) takesEvidence(t *testing.T) {
	path := func(name string) string { return filepath.Join(a.dir, name+".json") }
	request, err := a.alice.Request(a.ctx, a.merged.Place)
	a.must(err)
	for name, args := range map[string][]string{
		"landed":  {a.landed, "--workspace", "acme"},
		"head":    {a.merged.head, "--workspace", a.workspace.UUID, "--repository", "rocket", "--branch", release},
		"panel":   {fmt.Sprintf("%s/pr/%s/%s/%d", a.proxy.origin, a.workspace.UUID, a.repository, a.merged.Number)},
		"address": {fmt.Sprintf("https://bitbucket.org/%s/pull-requests/%d/diff", rocket, a.merged.Number)},
		"request": {request.EvidencePath[strings.LastIndexByte(request.EvidencePath, '/')+1:], "--workspace", "acme"},
	} {
		code, out, errs := a.run(append([]string{"evidence", "get", "-o", path(name)}, args...)...)
		if code != 0 || out != "" {
			t.Fatalf("%s: exit %d\n%s%s", name, code, out, errs)
		}
		if code, out, errs := command(t, "verify", path(name), "--anchors", a.anchors, "--repo", a.clone); code != 0 {
			t.Errorf("%s: exit %d\n%s%s", name, code, out, errs)
		}
	}
	before, err := os.ReadFile(path("landed"))
	a.must(err)
	if code, _, errs := a.run("evidence", "get", "-o", path("landed"), a.pending.head, "--workspace", "acme"); code != 1 || !strings.Contains(errs, "--force") {
		t.Errorf("over a file: exit %d, %s", code, errs)
	}
	if after, err := os.ReadFile(path("landed")); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file was changed: %v", err)
	}
	if code, _, errs := a.run("evidence", "get", "--force", "-o", path("landed"), a.pending.head, "--workspace", "acme"); code != 0 {
		t.Errorf("with --force: exit %d, %s", code, errs)
	}
	if code, out, errs := a.run("evidence", "get", "-o", "-", a.pending.head, "--workspace", "acme"); code != 0 || !json.Valid([]byte(out)) {
		t.Errorf("to the standard output: exit %d, %s", code, errs)
	}
	for says, args := range map[string][]string{
		"NOT_FOUND":             {strings.Repeat("0", 40), "--workspace", "acme"},
		"no workspace":          {a.landed, "--workspace", "elsewhere"},
		"no repository":         {a.landed, "--workspace", "acme", "--repository", "elsewhere"},
		"no such pull request":  {fmt.Sprintf("%s/pr/%s/%s/999", a.proxy.origin, a.workspace.UUID, a.repository)},
		"in which workspace":    {a.landed},
		"is not that of a pull": {"https://bitbucket.org/acme/rocket"},
		"whose evidence":        {"../../secret", "--workspace", "acme"},
	} {
		code, _, errs := a.run(append([]string{"evidence", "get", "-o", path("none")}, args...)...)
		if _, err := os.Stat(path("none")); code != 1 || !strings.Contains(errs, says) || !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%v: exit %d, %s", args, code, errs)
		}
	}
	stranger := write(t, a.dir, "stranger", "sa_live_of_nobody")
	code, _, errs := command(t, "evidence", "get", "-o", path("none"), a.landed, "--workspace", a.workspace.UUID, "--url", a.proxy.origin, "--token-file", stranger)
	if code != 1 || !strings.Contains(errs, "401") || strings.Contains(errs, "sa_live_of_nobody") {
		t.Errorf("a stranger: exit %d, %s", code, errs)
	}
}

// changed writes the anchors with a change.
func (a *auditing) changed(name string, change func(*evidence.Anchors)) string {
	a.t.Helper()
	raw, err := os.ReadFile(a.anchors)
	a.must(err)
	anchors, err := evidence.ParseAnchors(raw)
	a.must(err)
	change(&anchors)
	raw, err = json.Marshal(struct {
		Format string `json:"format"`
		evidence.Anchors
	}{evidence.AnchorsFormat, anchors})
	a.must(err)
	path := filepath.Join(a.dir, name+".json")
	a.must(os.WriteFile(path, raw, 0o600))
	return path
}

func (a *auditing) gatesADeploy(t *testing.T) {
	strange := evidence.Digest(strings.Repeat("0", 64))
	shallow := a.cloned(a.landed, "--depth=1")
	for name, c := range map[string]struct {
		commit  string
		anchors string
		args    []string
		code    int
		says    string
	}{
		"what landed":                        {a.landed, a.anchors, []string{"--repo", a.clone}, 0, "PASSED"},
		"what landed, without a clone":       {a.landed, a.anchors, nil, 2, "if the server is to be believed: what landed"},
		"what landed, believed":              {a.landed, a.anchors, []string{"--accept-asserted-landing"}, 0, "as the server says"},
		"what landed, in a shallow clone":    {a.landed, a.anchors, []string{"--repo", shallow}, 2, "REFUSED"},
		"the head":                           {a.merged.head, a.anchors, nil, 0, "PASSED"},
		"a head that waits":                  {a.pending.head, a.anchors, nil, 1, "it is not approved"},
		"a commit that nobody knows":         {strings.Repeat("0", 40), a.anchors, []string{"--wait=0s"}, 1, "NOT_FOUND"},
		"another roster":                     {a.merged.head, a.changed("roster", func(x *evidence.Anchors) { x.Roster = strange }), nil, 1, "FAILED"},
		"another genesis":                    {a.merged.head, a.changed("genesis", func(x *evidence.Anchors) { x.Genesis = strange }), nil, 1, "FAILED"},
		"another policy":                     {a.merged.head, a.changed("policy", func(x *evidence.Anchors) { x.Policies[0].Digests = []evidence.Digest{strange} }), nil, 1, "FAILED"},
		"another log":                        {a.merged.head, a.changed("log", func(x *evidence.Anchors) { x.Log.Keys = []string{verifierOfAnother(t)} }), nil, 1, "FAILED"},
		"nothing pinned of the roster":       {a.merged.head, a.changed("loose", func(x *evidence.Anchors) { x.Roster, x.LogHead = "", nil }), nil, 2, "if the server is to be believed"},
		"a prefix of a hash":                 {a.merged.head[:12], a.anchors, nil, 1, "whole hash"},
		"no anchors":                         {a.merged.head, "", nil, 1, "--anchors"},
		"another repository than the commit": {a.merged.head, a.anchors, []string{"--repository", "{00000000-0000-4000-8000-000000000000}", "--wait=0s"}, 1, "knows no repository"},
		"a repository by its name":           {a.merged.head, a.anchors, []string{"--repository", "rocket"}, 1, "UUID"},
		"another branch":                     {a.merged.head, a.anchors, []string{"--branch", "main", "--wait=0s"}, 1, "NOT_FOUND"},
		"no branch":                          {a.merged.head, a.anchors, []string{"--branch", ""}, 1, "--branch"},
	} {
		args := append([]string{"verify", "--commit", c.commit, "--workspace", "acme", "--repository", a.merged.Repository, "--branch", release}, c.args...)
		if c.anchors != "" {
			args = append(args, "--anchors", c.anchors)
		}
		if code, out, errs := a.run(args...); code != c.code || !strings.Contains(out+errs, c.says) {
			t.Errorf("%s: exit %d, want %d and %q\n%s%s", name, code, c.code, c.says, out, errs)
		}
	}
	// What is remembered of an earlier look is newer than the anchors, which are held to all the same.
	state := filepath.Join(a.dir, "gate-state.json")
	replaced := a.changed("replaced", func(x *evidence.Anchors) { x.LogHead = &evidence.LogHead{Size: 1, Root: strange} })
	for i, c := range []struct {
		anchors string
		code    int
		says    string
	}{{a.anchors, 0, "PASSED"}, {a.anchors, 0, "PASSED"}, {replaced, 1, "known from the anchors"}} {
		args := []string{"verify", "--commit", a.merged.head, "--workspace", "acme", "--repository", a.merged.Repository, "--branch", release, "--anchors", c.anchors, "--state", state}
		if code, out, errs := a.run(args...); code != c.code || !strings.Contains(out+errs, c.says) {
			t.Errorf("with what is remembered, look %d: exit %d, want %d and %q\n%s%s", i+1, code, c.code, c.says, out, errs)
		}
	}
	// A server that gives the evidence of another branch than it was asked for.
	target, err := url.Parse(a.proxy.origin)
	a.must(err)
	liar := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.URL.RawQuery = ""
	}})
	defer liar.Close()
	for name, of := range map[string][]string{
		"branch": {"--repository", a.merged.Repository, "--branch", "main"}, "repository": {"--repository", "{00000000-0000-4000-8000-000000000000}", "--branch", release},
	} {
		args := append([]string{"verify", "--commit", a.merged.head, "--workspace", a.merged.Workspace, "--anchors", a.anchors, "--token-file", a.tokenFile, "--url", liar.URL}, of...)
		if code, out, errs := command(t, args...); code != 1 || !strings.Contains(out, "REFUSED") || !strings.Contains(out, "the evidence is that of branch "+release) {
			t.Errorf("the approval for another %s: exit %d\n%s%s", name, code, out, errs)
		}
	}
	code, out, _ := a.run("verify", "--json", "--commit", a.pending.head, "--workspace", "acme", "--repository", a.merged.Repository, "--branch", release, "--anchors", a.anchors)
	var report struct {
		Gate struct {
			Commit, Code string
			Passed       bool
		}
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 1 || report.Gate.Code != "not_approved" || report.Gate.Passed || report.Gate.Commit != a.pending.head {
		t.Errorf("as JSON: exit %d, %v\n%s", code, err, out)
	}
}

func verifierOfAnother(t *testing.T) string {
	t.Helper()
	_, _, errs := command(t, "log", "new-key", "approvals.example/log")
	_, key, found := strings.Cut(strings.TrimSpace(errs), ": ")
	if !found {
		t.Fatalf("no key in %q", errs)
	}
	return key
}

// steps reads the script of the first step of the pipeline that is delivered.
func steps(t *testing.T) (script []string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "deploy", "bitbucket-pipelines.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Clone     struct{ Depth string }
		Pipelines struct {
			Branches map[string][]struct{ Step struct{ Script []string } }
		}
	}
	if err := yaml.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	list := file.Pipelines.Branches["main"]
	if file.Clone.Depth != "full" || len(list) != 2 || len(list[0].Step.Script) == 0 {
		t.Fatalf("the pipeline is %+v", file)
	}
	return list[0].Step.Script
}

// runsThePipeline runs the script of the pipeline as Bitbucket Pipelines does, line by line until one fails.
func (a *auditing) runsThePipeline(t *testing.T) {
	script := steps(t)
	binary, err := program()
	a.must(err)
	file, err := os.Open(binary)
	a.must(err)
	hash := sha256.New()
	_, err = io.Copy(hash, file)
	a.must(errors.Join(err, file.Close()))
	token, err := os.ReadFile(a.tokenFile)
	a.must(err)
	anchors, err := os.ReadFile(a.anchors)
	a.must(err)
	environment := map[string]string{
		"SIGNEDAPPROVAL_URL": a.proxy.origin, "SIGNEDAPPROVAL_TOKEN": strings.TrimSpace(string(token)), "SIGNEDAPPROVAL_ANCHORS": string(anchors),
		"SIGNEDAPPROVAL_BINARY_URL": "file://" + binary, "SIGNEDAPPROVAL_BINARY_SHA256": hex.EncodeToString(hash.Sum(nil)),
		"BITBUCKET_COMMIT": a.landed, "BITBUCKET_WORKSPACE": "acme", "BITBUCKET_REPO_UUID": "{" + strings.Trim(a.repository, "{}") + "}", "BITBUCKET_BRANCH": release,
		"BITBUCKET_CLONE_DIR": a.clone, "BITBUCKET_REPO_FULL_NAME": rocket,
	}
	run := func(changed map[string]string) (int, string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(a.ctx, patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, "sh", "-e", "-c", strings.Join(script, "\n"))
		cmd.Dir = a.clone
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + a.dir}
		for name, value := range environment {
			if other, ok := changed[name]; ok {
				value = other
			}
			cmd.Env = append(cmd.Env, name+"="+value)
		}
		out, err := cmd.CombinedOutput()
		var exited *exec.ExitError
		if err != nil && !errors.As(err, &exited) {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), string(out)
	}
	if code, out := run(nil); code != 0 || !strings.Contains(out, "PASSED: commit "+a.landed) {
		t.Errorf("the pipeline of an approved commit: exit %d\n%s", code, out)
	} else if strings.Contains(out, environment["SIGNEDAPPROVAL_TOKEN"]) {
		t.Error("the token is in the pipeline's log")
	}
	for name, c := range map[string]struct {
		changed map[string]string
		says    string
	}{
		"a commit that is not approved": {map[string]string{"BITBUCKET_COMMIT": a.pending.head}, "it is not approved"},
		"another program":               {map[string]string{"SIGNEDAPPROVAL_BINARY_SHA256": strings.Repeat("0", 64)}, "FAILED"},
		"no anchors":                    {map[string]string{"SIGNEDAPPROVAL_ANCHORS": ""}, "anchors"},
		"no token":                      {map[string]string{"SIGNEDAPPROVAL_TOKEN": ""}, "API token"},
		"a server that is away":         {map[string]string{"SIGNEDAPPROVAL_URL": "http://localhost.example"}, "https"},
	} {
		if code, out := run(c.changed); code == 0 || !strings.Contains(out, c.says) {
			t.Errorf("%s: exit %d\n%s", name, code, out)
		}
	}
}

func (a *auditing) followsTheLog(t *testing.T) {
	one, two := filepath.Join(a.dir, "one"), filepath.Join(a.dir, "two")
	follow := func(state string, args ...string) (int, string, string) {
		t.Helper()
		return a.run(append([]string{"monitor", "--once", "--anchors", a.anchors, "--state", state}, args...)...)
	}
	for range 2 {
		if code, out, errs := follow(one, "--openings", "--workspace", "acme"); code != 0 || strings.Contains(out, "ALARM") {
			t.Fatalf("monitor: exit %d\n%s%s", code, out, errs)
		}
	}
	// bob lists nothing as his own.
	var person string
	for _, line := range a.sql(`select person_id from signedapproval_decisions order by decided_at limit 1`) {
		person = line
	}
	mine := write(t, a.dir, "mine.json", `{"format":"signedapproval.keys/v1","people":["`+person+`"],"keys":[]}`)
	code, out, errs := follow(two, "--json", "--mine", mine)
	var found monitor.Finding
	for line := range strings.Lines(out) {
		if err := json.Unmarshal([]byte(line), &found); err != nil {
			t.Fatal(err)
		}
		if found.Code == monitor.UnknownKey {
			break
		}
	}
	if code != 3 || found.Code != monitor.UnknownKey {
		t.Errorf("a key that its person does not know: exit %d\n%s%s", code, out, errs)
	}
	// By the account too, which the openings alone tell.
	var account string
	for _, line := range a.sql(`select account_id from signedapproval_people where id = '` + person + `'`) {
		account = line
	}
	mine = write(t, a.dir, "accounts.json", `{"format":"signedapproval.keys/v1","accounts":["`+account+`"]}`)
	if code, _, errs := follow(filepath.Join(a.dir, "three"), "--mine", mine); code == 0 || !strings.Contains(errs, "give --openings too") {
		t.Errorf("accounts without openings: exit %d\n%s", code, errs)
	}
	if code, out, errs := follow(filepath.Join(a.dir, "three"), "--mine", mine, "--openings", "--workspace", "acme"); code != 3 || !strings.Contains(out, "unknown_key") {
		t.Errorf("a key for an account that did not list it: exit %d\n%s%s", code, out, errs)
	}
	if code, out, _ := command(t, "monitor", "findings", two); code != 3 || !strings.Contains(out, "unknown_key") {
		t.Errorf("monitor findings: exit %d\n%s", code, out)
	}
	if code, out, errs := command(t, "monitor", "compare", one, two, "--anchors", a.anchors); code != 0 || !strings.Contains(out, "One log") {
		t.Errorf("monitor compare: exit %d\n%s%s", code, out, errs)
	}
	response, err := http.Get(a.proxy.origin + "/log/checkpoint")
	a.must(err)
	note, err := io.ReadAll(response.Body)
	a.must(errors.Join(err, response.Body.Close()))
	if code, out, errs := follow(one, "--gossip", write(t, a.dir, "note", string(note))); code != 0 {
		t.Errorf("monitor --gossip: exit %d\n%s%s", code, out, errs)
	}
	for says, args := range map[string][]string{
		"--workspace": {"--openings"},
		"--interval":  {"--interval", "1ms"},
		"JSON":        {"--gossip", mine, "--mine", a.tokenFile},
	} {
		if code, _, errs := follow(one, args...); code != 1 {
			t.Errorf("%s: exit %d, %s", says, code, errs)
		}
	}
}

// TestCommandsWithoutAToken is one test alone: it changes the process's environment.
func TestCommandsWithoutAToken(t *testing.T) {
	t.Setenv("SIGNEDAPPROVAL_TOKEN", "")
	for says, args := range map[string][]string{
		"API token":      {"evidence", "get", "x", "-o", "-", "--workspace", "acme", "--url", "https://approvals.example"},
		"which server":   {"evidence", "get", "x", "-o", "-", "--workspace", "acme"},
		"must use https": {"evidence", "get", "x", "-o", "-", "--url", "http://approvals.example", "--token-file", write(t, t.TempDir(), "token", "x")},
		"cannot be met":  {"anchors", "get", "--workspace", "acme", "-o", "x", "--quorum", "1"},
		"give a bundle":  {"verify"},
	} {
		if code, out, errs := command(t, args...); code != 1 || out != "" || !strings.Contains(errs, says) {
			t.Errorf("%v: exit %d, %q", args, code, errs)
		}
	}
}
