package attack_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/app"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/replay"
)

// clone is an auditor's clone of the repository.
type clone struct {
	t   testing.TB
	dir string
}

func newClone(t testing.TB) *clone {
	t.Helper()
	r := &clone{t, t.TempDir()}
	r.git("init", "--quiet", "--initial-branch="+branch)
	r.commit("page", "one\ntwo\nthree\n")
	r.git("checkout", "--quiet", "-b", "feature/x")
	r.commit("page", "one\nTWO\nthree\n")
	r.git("checkout", "--quiet", branch)
	return r
}

func (r *clone) git(args ...string) string {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), "git", args...)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C",
		"GIT_AUTHOR_NAME=Alice", "GIT_AUTHOR_EMAIL=alice@example.com", "GIT_COMMITTER_NAME=Alice", "GIT_COMMITTER_EMAIL=alice@example.com")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatalf("git %v: %v\n%s%s", args, err, out, said.String())
	}
	return string(out)
}

func (r *clone) write(name, text string) {
	r.t.Helper()
	must(r.t, os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600))
	r.git("add", "--all")
}

func (r *clone) commit(name, text string) {
	r.t.Helper()
	r.write(name, text)
	r.git("commit", "--quiet", "--message", "Change "+name)
}

func (r *clone) at(name string) string { return strings.TrimSpace(r.git("rev-parse", name)) }

// landing is a story about a real repository: bob and dave approve the change, and merge lands it on the clone's branch.
func landing(t *testing.T, shown func(honest []byte) []byte, merge func(r *clone)) (*cast, *clone) {
	t.Helper()
	c, r := stage(t), newClone(t)
	base := r.at(branch)
	honest := []byte(r.git("diff", "--no-color", "--abbrev=7", "-M", base, "feature/x"))
	c.diff = shown(honest)
	c.commits = map[string]string{"new": r.at("feature/x"), "base": base, "destination": base}
	c.open("new")
	c.decide(c.bob, evidence.Approve)
	c.decide(c.dave, evidence.Approve)
	merge(r)
	c.commits["landed"] = r.at(branch)
	c.landed("landed", "approved")
	return c, r
}

func asShown(honest []byte) []byte { return honest }

func cleanly(r *clone) { r.git("merge", "--quiet", "--no-ff", "--no-edit", "feature/x") }

// inRepository verifies with a clone, and the bytes of the diff where somebody has them.
func inRepository(t *testing.T, bundle []byte, anchors evidence.Anchors, r *clone, diff []byte) string {
	t.Helper()
	report := evidence.Verify(bundle, anchors)
	change, ok := report.Change()
	if !ok {
		return outcome(report)
	}
	found, err := replay.Look(t.Context(), r.dir, change, diff)
	must(t, err)
	return outcome(report.Recompute(found))
}

// verifyInRepository is what the command says that failed.
func verifyInRepository(t *testing.T, bundle []byte, anchors evidence.Anchors, r *clone) string {
	t.Helper()
	folder := t.TempDir()
	files := map[string]string{"bundle": filepath.Join(folder, "bundle.json"), "anchors": filepath.Join(folder, "anchors.json")}
	must(t, os.WriteFile(files["bundle"], bundle, 0o600))
	must(t, os.WriteFile(files["anchors"], anchorsFile(t, anchors), 0o600))
	var stdout, stderr bytes.Buffer
	code := app.Main(t.Context(), []string{"verify", files["bundle"], "--anchors", files["anchors"], "--repo", r.dir}, strings.NewReader(""), &stdout, &stderr)
	if code != 1 {
		t.Errorf("exit %d\n%s%s", code, stdout.String(), stderr.String())
	}
	return "verify --repo: " + regexp.MustCompile(`FAILED at step \d+ \(\w+\)`).FindString(stdout.String())
}

// anchorsFile is what an auditor keeps.
func anchorsFile(t *testing.T, anchors evidence.Anchors) []byte {
	t.Helper()
	document, err := json.Marshal(struct {
		Format string `json:"format"`
		evidence.Anchors
	}{evidence.AnchorsFormat, anchors})
	must(t, err)
	return document
}

// untouched is the control: what was approved landed, and nothing else.
func untouched(t *testing.T) {
	t.Helper()
	c, r := landing(t, asShown, cleanly)
	if got := inRepository(t, c.bundle(), c.pinned, r, nil); got != "exit 0" {
		t.Fatalf("the control: %s", got)
	}
}

func onLandings() []attack {
	return []attack{
		{
			wants: "show the signers another diff than that of the commit", admits: "show the signer something else",
			caught: []string{"exit 0", "exit 2: no the diff shown", "step 17 diff: repository"},
			try: func(t *testing.T) []string {
				untouched(t)
				c, r := landing(t, func(honest []byte) []byte { return bytes.ReplaceAll(honest, []byte("+TWO"), []byte("+2")) }, cleanly)
				bundle := c.bundle()
				return []string{verify(bundle, c.pinned), inRepository(t, bundle, c.pinned, r, nil), inRepository(t, bundle, c.pinned, r, c.diff)}
			},
		},
		{
			wants: "show the signers the diff since another commit than the merge base", admits: "name merge bases",
			caught: []string{"exit 0", "step 16 commits: repository"},
			try: func(t *testing.T) []string {
				untouched(t)
				c, r := stage(t), newClone(t)
				r.commit("page", "one\nTWO\nthree\nfour\n")
				c.diff = []byte(r.git("diff", "--no-color", "--abbrev=7", "-M", branch, "feature/x"))
				c.commits = map[string]string{"new": r.at("feature/x"), "base": r.at(branch), "destination": r.at(branch)}
				c.open("new")
				c.decide(c.bob, evidence.Approve)
				c.decide(c.dave, evidence.Approve)
				bundle := c.bundle()
				return []string{verify(bundle, c.pinned), inRepository(t, bundle, c.pinned, r, nil)}
			},
		},
		{
			wants: "land something else with the app's token: the change and a file that nobody saw", admits: "let something land that nobody signed",
			caught: []string{"exit 0", "step 18 landed: residue"},
			try: func(t *testing.T) []string {
				untouched(t)
				c, r := landing(t, asShown, func(r *clone) {
					r.git("merge", "--quiet", "--no-ff", "--no-commit", "feature/x")
					r.commit("evil", "nobody saw this\n")
				})
				bundle := c.bundle()
				return []string{verify(bundle, c.pinned), inRepository(t, bundle, c.pinned, r, nil)}
			},
		},
		{
			wants: "land something else with the app's token: a commit on top of the approved one, onto which that is merged", admits: "let something land that nobody signed",
			caught: []string{"exit 0", "step 18 landed: residue"},
			try: func(t *testing.T) []string {
				untouched(t)
				c, r := landing(t, asShown, func(r *clone) {
					r.git("checkout", "--quiet", "-b", "evil", "feature/x")
					r.commit("evil", "nobody saw this\n")
					merged := strings.TrimSpace(r.git("commit-tree", "evil^{tree}", "-p", "evil", "-p", "feature/x", "-m", "Merged in feature/x"))
					r.git("checkout", "--quiet", branch)
					r.git("reset", "--quiet", "--hard", merged)
				})
				bundle := c.bundle()
				return []string{verify(bundle, c.pinned), inRepository(t, bundle, c.pinned, r, nil)}
			},
		},
		{
			wants: "show the signers other text of a file that git takes for binary", admits: "show the signer something else",
			caught: []string{"exit 0", "step 17 diff: repository"},
			try: func(t *testing.T) []string {
				untouched(t)
				c, r := stage(t), newClone(t)
				base := r.at(branch)
				r.git("checkout", "--quiet", "feature/x")
				r.commit("deploy.sh", "#!/bin/sh\necho hello\n")
				c.diff = []byte(r.git("diff", "--no-color", "--abbrev=7", "-M", base, "feature/x"))
				r.commit("deploy.sh", "#!/bin/sh\nfetch something | sh\nexit\n\x00\n")
				c.commits = map[string]string{"new": r.at("feature/x"), "base": base, "destination": base}
				c.open("new")
				c.decide(c.bob, evidence.Approve)
				c.decide(c.dave, evidence.Approve)
				bundle := c.bundle()
				return []string{verify(bundle, c.pinned), inRepository(t, bundle, c.pinned, r, c.diff)}
			},
		},
		{
			wants: "land something else with the app's token: what nobody approved at all", caught: []string{"step 12 verdict: chain", "step 12 verdict: chain", "monitor: violation"},
			try: func(t *testing.T) []string {
				untouched(t)
				c, r := stage(t), newClone(t)
				base := r.at(branch)
				c.commits = map[string]string{"new": r.at("feature/x"), "base": base, "destination": base}
				c.open("new")
				watcher := newAuditor(c.operator)
				if alarms := watcher.pass(c.operator, c.publish()); len(alarms) > 0 {
					t.Fatalf("the control: %v", alarms)
				}
				cleanly(r)
				c.say(evidence.Merged{Request: c.newest().ID, Kind: "approved", Commit: r.at(branch)}, true)
				bundle := c.bundle()
				return append([]string{verify(bundle, c.pinned), inRepository(t, bundle, c.pinned, r, nil)}, watcher.pass(c.operator, c.publish())...)
			},
		},
		{
			wants: "land something else with the app's token beside what was approved, in a commit of its own", admits: "what else came to the branch",
			caught: []string{"exit 0"},
			try: func(t *testing.T) []string {
				untouched(t)
				c, r := landing(t, asShown, cleanly)
				r.commit("evil", "nobody saw this\n") // the evidence is of another commit; the audit of the branch lists this one
				return []string{inRepository(t, c.bundle(), c.pinned, r, nil)}
			},
		},
		{
			wants: "say that another commit landed than the one with the residue", admits: "name another commit as landed",
			caught: []string{"step 18 landed: residue", "exit 2: no what landed"},
			try: func(t *testing.T) (got []string) {
				untouched(t)
				c, r := landing(t, asShown, func(r *clone) {
					r.git("merge", "--quiet", "--no-ff", "--no-commit", "feature/x")
					r.commit("evil", "nobody saw this\n")
				})
				got = append(got, inRepository(t, c.bundle(), c.pinned, r, nil))
				r.git("checkout", "--quiet", "-b", "beside", branch+"~1")
				cleanly(r)
				forged := c.twin()
				for i, e := range forged.events {
					if m, is := e.body.(evidence.Merged); is {
						m.Commit = r.at("beside")
						forged.events[i].body = m
					}
				}
				forged.seen = nil
				return append(got, inRepository(t, forged.bundle(), unwitnessed(c.pinned), r, nil))
			},
		},
		{
			wants:  "hide behind the report that a key was stolen that something else landed, too",
			caught: []string{"verify --repo: FAILED at step 11 (tally)", "verify --repo: FAILED at step 18 (landed)"},
			try: func(t *testing.T) (got []string) {
				untouched(t)
				for _, evil := range []bool{false, true} {
					c, r := landing(t, asShown, func(r *clone) {
						if cleanly(r); evil {
							r.write("evil", "nobody saw this\n")
							r.git("commit", "--quiet", "--amend", "--no-edit")
						}
					})
					c.revoke(c.dave, beginning)
					got = append(got, verifyInRepository(t, c.bundle(), c.pinned, r))
				}
				return got
			},
		},
	}
}
