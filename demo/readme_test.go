package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/internal/embeddedpg"
	"github.com/signedapproval/bitbucket/internal/stage"
	"github.com/signedapproval/bitbucket/internal/tether"
	"github.com/signedapproval/bitbucket/server/app"
	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/gate"
)

// TestReadme does what the README says, from the empty database to the rotated keyset: every block
// marked test=NAME runs as it is printed, after its sample values were exchanged for real ones, and
// must print what the README shows below it. What the README says in words (press this, sign that) is
// done through the operations that the pages send.
func TestReadme(t *testing.T) {
	t.Parallel()
	r := &reader{t: t, dir: t.TempDir(), samples: map[string]string{}, used: map[string]bool{}, outputs: map[string]string{}}
	r.prepare()
	hooks := map[string]struct{ before, after func() }{
		"build": {before: func() { r.sample("-o signedapproval", "-o "+filepath.Join(r.dir, "signedapproval")) }},
		"roles": {before: r.startPostgres},
		"migrate": {before: func() {
			r.sample("postgres://signedapproval_owner:change-me@db.example/signedapproval", r.database("signedapproval_owner"))
		}},
		"log-key": {before: func() {
			r.sample("approvals.example/log", strings.TrimPrefix(r.stack.origin, "http://")+"/log")
		}},
		"settings": {before: r.sampleSettings},
		"serve":    {after: r.connectAndOpen},
		"token":    {before: func() { r.input = r.createToken("READ", "CONFIGURE") + "\n" }},
		"pull-request": {before: func() {
			r.sample("cHVsbC1yZXF1ZXN0…", r.find("list", `"pullRequest":\{"id":"([^"]+)"`))
		}},
		"save": {before: func() {
			r.sample("d29ya3NwYWNl…", r.find("rules", `"workspace":\{"id":"([^"]+)"`))
			r.sample("34f47b74…", r.find("rules", `"uuid":"([^"]+)"`))
		}},
		"wait": {before: func() { r.when = "still waiting"; r.then = r.bobAndCarolApprove }},
		"evidence": {before: func() {
			r.sample("7d0c8a71…", r.find("read", `"evidencePath":"/evidence/[^"/]+/([^"]+)"`))
		}},
		"verify-repo": {before: r.exportRepository},
		"dead":        {before: r.killJob},
		"requeue":     {before: func() { r.sample("4711", r.find("dead", `(?m)^(\d+) +evaluate `)) }, after: r.revived},
		"add-key":     {after: r.reload},
		"promote-key": {after: r.reload},
	}
	for _, b := range r.blocks() {
		if b.test == "" {
			continue
		}
		hook := hooks[b.test]
		delete(hooks, b.test)
		if hook.before != nil {
			hook.before()
		}
		r.run(b)
		if hook.after != nil {
			hook.after()
		}
	}
	for name := range hooks {
		t.Errorf("the README has no block test=%s any more", name)
	}
	for sample, used := range r.used {
		if !used {
			t.Errorf("the README does not hold the sample %q any more", sample)
		}
	}
}

// reader follows the README in a folder of its own.
type reader struct {
	t       *testing.T
	dir     string
	stack   *stack
	tale    *tale
	dsn     string // of the superuser
	samples map[string]string
	used    map[string]bool   // samples, whether a block held them
	order   []string          // samples, first given first
	input   string            // for the next block
	outputs map[string]string // of the blocks, by test
	server  *tether.Process
	when    string // what the next block must say on standard error
	then    func() // for this to be done
}

// block is a fenced block of the README.
type block struct {
	line           int
	language, test string
	text           string
	output         string // what the README shows; "" for anything
	outputLanguage string
}

var fence = regexp.MustCompile("(?ms)^```([a-z]*)( [^\n]*)?\n(.*?)^```$")

func (r *reader) blocks() []block {
	text, err := os.ReadFile(filepath.Join("..", "README.md"))
	r.must(err)
	var blocks []block
	for _, at := range fence.FindAllSubmatchIndex(text, -1) {
		part := func(n int) string {
			if at[2*n] < 0 {
				return ""
			}
			return string(text[at[2*n]:at[2*n+1]])
		}
		b := block{line: 1 + bytes.Count(text[:at[0]], []byte("\n")), language: part(1), text: part(3)}
		switch mark := strings.TrimSpace(part(2)); {
		case mark == "output":
			if len(blocks) == 0 || blocks[len(blocks)-1].output != "" || blocks[len(blocks)-1].test == "" {
				r.t.Fatalf("README.md:%d: output of nothing", b.line)
			}
			blocks[len(blocks)-1].output, blocks[len(blocks)-1].outputLanguage = b.text, b.language
			continue
		case strings.HasPrefix(mark, "test="):
			b.test = strings.TrimPrefix(mark, "test=")
		case mark != "":
			r.t.Fatalf("README.md:%d: unknown mark %q", b.line, mark)
		}
		blocks = append(blocks, b)
	}
	return blocks
}

// Every block is run, or names a target of the Makefile.
func TestReadmeHasNoUntestedCommand(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile(filepath.Join("..", "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{t: t}
	seen := map[string]bool{}
	for _, b := range r.blocks() {
		if b.test != "" {
			if seen[b.test] {
				t.Errorf("README.md:%d: a second block test=%s", b.line, b.test)
			}
			seen[b.test] = true
			continue
		}
		target, isMake := strings.CutPrefix(strings.TrimSpace(b.text), "make ")
		if !isMake || !regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(target)+`:.*## `).Match(makefile) {
			t.Errorf("README.md:%d: this block is not run by TestReadme, and is no make target that make help lists:\n%s", b.line, b.text)
		}
	}
}

// The table of settings is what the server really reads.
func TestReadmeListsEverySetting(t *testing.T) {
	t.Parallel()
	var want strings.Builder
	want.WriteString("| variable | default | |\n|---|---|---|\n")
	for field := range reflect.TypeFor[app.Config]().Fields() {
		initial := field.Tag.Get("default")
		if initial != "" {
			initial = "`" + initial + "`"
		}
		fmt.Fprintf(&want, "| `%s` | %s | %s |\n", field.Tag.Get("env"), initial, field.Tag.Get("help"))
	}
	text, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "<!-- settings -->\n")
	table, _, closed := strings.Cut(after, "<!-- /settings -->")
	if !found || !closed || table != want.String() {
		t.Errorf("the README's table of settings must be\n%s", want.String())
	}
}

// The limits that the README states are those that hold.
func TestReadmeStatesTheLimits(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	plain := strings.Join(strings.Fields(string(text)), " ")
	for _, sentence := range []string{
		fmt.Sprintf("A policy has at most %d rules, a rule %d requirements, a requirement %d named people and a quorum of %d.",
			approval.MaxRules, approval.MaxRequirements, approval.MaxAccounts, approval.MaxQuorum),
		fmt.Sprintf("1 minute to %d days, %d days unless you say otherwise", int(approval.MaxExpiry.Hours()/24), int(approval.DefaultExpiry.Hours()/24)),
		fmt.Sprintf("A diff over %d MiB is not shown", gate.MaxDiff>>20),
	} {
		if !strings.Contains(plain, sentence) {
			t.Errorf("the README does not say: %s", sentence)
		}
	}
}

func (r *reader) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// prepare starts what the README takes for granted: Redis, and a Bitbucket with two consumers.
func (r *reader) prepare() {
	r.stack = &stack{log: filepath.Join(r.dir, "server.log")}
	r.t.Cleanup(func() {
		if err := r.stack.stop(); err != nil {
			r.t.Error(err)
		}
	})
	port, err := freePort(r.t.Context(), 0)
	r.must(err)
	r.stack.port, r.stack.origin = port, fmt.Sprintf("http://localhost:%d", port)
	r.must(r.stack.bitbucket(r.t.Context(), 0))
	r.tale = &tale{stack: r.stack, dir: r.dir}
	r.sample("https://approvals.example", r.stack.origin)
}

// startPostgres starts a cluster of its own, for the roles have the README's names.
func (r *reader) startPostgres() {
	server, err := embeddedpg.Start(r.t.Context(), embeddedpg.Config{Unsafe: true})
	r.must(err)
	r.stack.closers = append(r.stack.closers, server.Stop)
	r.dsn = server.DSN
}

// database is the README's database for a login.
func (r *reader) database(login string) string {
	u, err := url.Parse(r.dsn)
	r.must(err)
	u.User, u.Path = url.User(login), "/signedapproval"
	return u.String()
}

func (r *reader) sampleSettings() {
	redis, err := r.stack.redis()
	r.must(err)
	admin, err := freePort(r.t.Context(), 0)
	r.must(err)
	r.sample("127.0.0.1:8080", fmt.Sprintf("127.0.0.1:%d", r.stack.port))
	r.sample("127.0.0.1:9090", fmt.Sprintf("127.0.0.1:%d", admin))
	r.sample("DATABASE_URL=postgres://signedapproval_server:change-me-too@db.example/signedapproval", "DATABASE_URL='"+r.database("signedapproval_server")+"'")
	r.sample("rediss://redis.example:6379", redis)
	for _, setting := range r.stack.env {
		name, value, _ := strings.Cut(setting, "=")
		sample := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, "SIGNEDAPPROVAL_")), "_", "-")
		i := strings.LastIndex(sample, "-")
		r.sample(sample[i+1:]+"-of-the-"+sample[:i]+"-consumer", value)
	}
}

// sample says what stands for a sample value of the README from here on.
func (r *reader) sample(printed, real string) {
	if _, known := r.samples[printed]; !known {
		r.order = append(r.order, printed)
		r.used[printed] = false
	}
	r.samples[printed] = real
}

// real exchanges sample values.
func (r *reader) real(text string) string {
	for _, printed := range slices.Backward(r.order) { // the longer ones of one beginning were given later
		if strings.Contains(text, printed) {
			r.used[printed] = true
			text = strings.ReplaceAll(text, printed, r.samples[printed])
		}
	}
	return text
}

// find looks into what a block printed.
func (r *reader) find(test, pattern string) string {
	r.t.Helper()
	match := regexp.MustCompile(pattern).FindStringSubmatch(r.outputs[test])
	if match == nil {
		r.t.Fatalf("%s is not in what test=%s printed:\n%s", pattern, test, r.outputs[test])
	}
	return match[1]
}

func (r *reader) run(b block) {
	r.t.Helper()
	where := fmt.Sprintf("README.md:%d (test=%s)", b.line, b.test)
	switch {
	case b.language == "sql":
		r.sql(where, b.text)
		return
	case b.language != "sh":
		r.t.Fatalf("%s: nothing runs %s", where, b.language)
	case b.test == "serve":
		r.startServer(b)
		return
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), 3*time.Minute)
	defer cancel()
	cmd := r.bash(ctx, b)
	var out bytes.Buffer
	said := &ear{when: r.when, then: r.then}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(r.input), &out, said
	r.input, r.when, r.then = "", "", nil
	err := cmd.Run()
	said.wait()
	if err != nil {
		r.t.Fatalf("%s: %v\n%s%s", where, err, out.String(), said.text.String())
	}
	if said.then != nil {
		r.t.Fatalf("%s: never said %q", where, said.when)
	}
	r.outputs[b.test] = out.String()
	if b.output != "" && !shows(b, out.String()) {
		r.t.Fatalf("%s printed\n%s\nThe README shows\n%s", where, laidOut(b, out.String()), b.output)
	}
}

// bash runs a block in a shell that knows what the blocks before it exported and defined.
func (r *reader) bash(ctx context.Context, b block) *exec.Cmd {
	state := filepath.Join(r.dir, "shell-state")
	script := "if [ -e '" + state + "' ]; then . '" + state + "'; fi\n" + r.real(b.text) +
		"\n{ export -p; declare -f; } >'" + state + "'\n"
	if b.test == "serve" { // in the shell's place, so that signals reach the server
		script = strings.Replace(r.real(b.text), "./signedapproval serve", "exec ./signedapproval serve", 1)
	}
	cmd := exec.CommandContext(ctx, "bash", "-eu", "-c", script)
	cmd.Dir = r.dir
	if b.test == "build" {
		cmd.Dir = ".."
	}
	cmd.WaitDelay = 20 * time.Second
	cmd.Env = append(os.Environ(), "SIGNEDAPPROVAL_BITBUCKET_API="+r.stack.sim.URL(), "SIGNEDAPPROVAL_BITBUCKET_WEB="+r.stack.sim.URL())
	return cmd
}

// ear is standard error that does something once when it hears what it waits for.
type ear struct {
	text bytes.Buffer
	when string
	then func()
	done chan struct{}
}

func (e *ear) Write(p []byte) (int, error) {
	e.text.Write(p)
	if e.then != nil && strings.Contains(e.text.String(), e.when) {
		then, done := e.then, make(chan struct{})
		e.then, e.done = nil, done
		go func() { defer close(done); then() }()
	}
	return len(p), nil
}

func (e *ear) wait() {
	if e.done != nil {
		<-e.done
	}
}

// shows tells whether out is what the README shows. There, a word that ends in "…" stands for another
// one: in JSON for what is in its place within a string, in text for the rest of that part of the
// line, and on a line of its own for any number of lines.
func shows(b block, out string) bool {
	printed := b.output
	anything := `[^"\s/]+`
	if b.outputLanguage == "json" {
		printed, out = compact(printed), compact(out)
	} else {
		anything = `.+`
		blanks := regexp.MustCompile(` +`)
		printed, out = blanks.ReplaceAllString(printed, " "), blanks.ReplaceAllString(out, " ")
	}
	const lines = "\x00"
	printed = strings.ReplaceAll(printed, "\n …\n", "\n"+lines+"\n")
	printed = regexp.MustCompile(`[^"\s/]*…`).ReplaceAllString(printed, "…")
	pattern := strings.NewReplacer("…", anything, lines, `(?:.*\n)*?.*`).Replace(regexp.QuoteMeta(printed))
	return printed != "" && regexp.MustCompile(`\A`+pattern+`\z`).MatchString(out)
}

func compact(text string) string {
	var out bytes.Buffer
	if json.Compact(&out, []byte(text)) != nil {
		return ""
	}
	return out.String()
}

func laidOut(b block, out string) string {
	var pretty bytes.Buffer
	if b.outputLanguage != "json" || json.Indent(&pretty, []byte(out), "", "  ") != nil {
		return out
	}
	return pretty.String()
}

// sql runs the statements of a block as superuser.
func (r *reader) sql(where, text string) {
	conn, err := pgx.Connect(r.t.Context(), r.dsn)
	r.must(err)
	for _, statement := range strings.Split(strings.TrimSpace(r.real(text)), ";\n") {
		if _, err := conn.Exec(r.t.Context(), statement); err != nil {
			r.t.Errorf("%s: %s: %v", where, statement, err)
		}
	}
	r.must(conn.Close(r.t.Context()))
}

// startServer runs the block that serves, until the test ends.
func (r *reader) startServer(b block) {
	cmd := r.bash(context.WithoutCancel(r.t.Context()), b)
	log, err := os.OpenFile(r.stack.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	r.must(err)
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	r.server, err = tether.Start(cmd, syscall.SIGTERM)
	r.must(err)
	r.t.Cleanup(r.stopServer)
	r.must(until(r.t.Context(), "the server", func() (bool, error) {
		select {
		case <-r.server.Done():
			text, _ := os.ReadFile(r.stack.log)
			return false, fmt.Errorf("the server ended: %w\n%s", r.server.Err(), last(text, 4000))
		default:
		}
		request, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, r.stack.origin+"/readyz", nil)
		if err != nil {
			return false, err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return false, nil // not yet
		}
		return response.StatusCode == http.StatusOK, response.Body.Close()
	}))
}

func (r *reader) stopServer() {
	if err := r.server.Stop(30*time.Second, syscall.SIGTERM, syscall.SIGKILL); err != nil {
		r.t.Errorf("the server did not end well: %v", err)
	}
}

// reload sends the server SIGHUP, as the README says, and waits until it has read the new keyset.
func (r *reader) reload() {
	read := func() (int, error) {
		text, err := os.ReadFile(r.stack.log)
		return bytes.Count(text, []byte("the keyset was read again")), err
	}
	before, err := read()
	r.must(err)
	r.must(r.server.Signal(syscall.SIGHUP))
	r.must(until(r.t.Context(), "the new keyset", func() (bool, error) {
		now, err := read()
		return now > before, err
	}))
}

// connectAndOpen is what the README says in words: connect, choose a repository, give it rules. Then
// somebody opens a pull request.
func (r *reader) connectAndOpen() {
	ctx := r.t.Context()
	for _, step := range []func(context.Context) (string, error){r.tale.signIn, r.tale.connect, r.tale.gate, r.tale.open, r.tale.expect("INPROGRESS")} {
		_, err := step(ctx)
		r.must(err)
	}
}

// createToken makes an API token as the dashboard does.
func (r *reader) createToken(scopes ...string) string {
	token, _, err := createToken(r.t.Context(), r.tale.alice, r.tale.workspace, scopes...)
	r.must(err)
	return token
}

// exportRepository gives git a repository to clone.
func (r *reader) exportRepository() {
	dir := filepath.Join(r.dir, "origin.git")
	r.must(r.stack.exportRepository(r.t.Context(), dir))
	r.sample("https://bitbucket.org/"+fullName, dir)
}

func (r *reader) bobAndCarolApprove() {
	for _, who := range []*stage.Person{r.tale.bob, r.tale.carol} {
		if _, err := who.Decide(r.t.Context(), r.tale.place(), "APPROVE"); err != nil {
			r.t.Errorf("%s: %v", who.Name, err)
			return
		}
	}
}

// killJob makes a finished job one that gave up.
func (r *reader) killJob() {
	u, err := url.Parse(r.dsn)
	r.must(err)
	u.Path = "/signedapproval"
	conn, err := pgx.Connect(r.t.Context(), u.String())
	r.must(err)
	r.must(until(r.t.Context(), "a finished evaluation", func() (bool, error) {
		tag, err := conn.Exec(r.t.Context(), `
			update signedapproval_jobs set state = 'DEAD', attempt = 25, last_error = 'bitbucket: 500'
			where id = (select min(id) from signedapproval_jobs where kind = 'evaluate' and state = 'DONE')`)
		return tag.RowsAffected() == 1, err
	}))
	r.must(conn.Close(r.t.Context()))
}

// revived waits until no job is dead any more.
func (r *reader) revived() {
	r.must(until(r.t.Context(), "the job's new life", func() (bool, error) {
		cmd := exec.CommandContext(r.t.Context(), filepath.Join(r.dir, "signedapproval"), "jobs", "dead")
		cmd.Env = append(os.Environ(), "DATABASE_URL="+r.database("signedapproval_server"))
		out, err := cmd.CombinedOutput()
		return !strings.Contains(string(out), "evaluate"), err
	}))
}
