package main

import (
	"encoding/json"
	"fmt"
	"go/build"
	"os"
	"path/filepath"
	"strings"
)

// replacement is a piece of a source file and what stands there instead.
type replacement struct{ file, old, new string }

// bug is a fault that is built into the server on purpose. It exists only for the compiler.
type bug struct {
	name    string
	replace []replacement
}

// bugs are those that chaos must catch.
var bugs = []bug{
	{"skip-the-sweep", []replacement{
		{"server/jobs/sweep.go", "for range sweepRounds {", "for range sweepRounds - sweepRounds {"},
	}},
	{"count-keys-not-people", []replacement{
		{"server/approval/tally.go", "case t.isOneOf(v.Counted, d.PersonID, d.AccountID):", "case false:"},
		{"server/approval/tally.go", "&& !t.isOneOf(v.Counted, p.ID, p.AccountID) &&", "&&"},
		{"server/gate/see.go", "mine.Action == string(approval.Reject) || mine.RequestID == r.ID)", "mine.Action == string(approval.Reject))"},
	}},
	{"pay-a-stale-status", []replacement{
		{"server/store/commitstatus.go", "greatest(paid_version, least($4, owed_version))", "greatest(paid_version, $4, owed_version)"},
		{"server/gate/status.go", "if status.Paid() {\n\t\treturn g.checkPaid(ctx, job, at, status)", "if status.Paid() {\n\t\treturn g.done(ctx, job)"},
	}},
	{"write-what-was-taken-back", []replacement{
		{"server/gate/status.go", "\t\tif !holds {", "\t\tif !holds && public < 0 {"},
	}},
	{"put-before-publishing", []replacement{
		{"server/gate/status.go", "if err := g.publish(ctx, chainEnd{owed.Size, owed.Published}, was.Cosignatures); err != nil {", "if err := error(nil); err != nil {"},
	}},
	{"drop-the-fencing", []replacement{
		{"server/store/job.go", "signedapproval_lease_lost() where not exists (select from ended)", "false where false"},
		{"server/store/job.go", "extend job %d: %w\", claim.ID, err)\n\t}\n\tif tag.RowsAffected() == 0 {", "extend job %d: %w\", claim.ID, err)\n\t}\n\tif tag.RowsAffected() < 0 {"},
	}},
	{"merge-without-re-reading", []replacement{
		{"server/gate/mergeobstacle.go", "if head != at.Commit || head != a.live.HeadCommit {", "if head == \"\" {"},
	}},
}

// overlay gathers files that the compiler takes instead of those that are there.
type overlay struct {
	dir   string
	files map[string]string
}

func newOverlay(dir string) *overlay { return &overlay{dir: dir, files: map[string]string{}} }

// put gives a file other content.
func (o *overlay) put(path, content string) error {
	copied := filepath.Join(o.dir, fmt.Sprintf("%02d-%s", len(o.files), filepath.Base(path)))
	o.files[path] = copied
	return os.WriteFile(copied, []byte(content), 0o600)
}

// change replaces text that must be in a file exactly once.
func (o *overlay) change(path, old, new string) error {
	source := path
	if copied, changed := o.files[path]; changed {
		source = copied
	}
	content, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	if n := strings.Count(string(content), old); n != 1 {
		return fmt.Errorf("%s has %d times, and must have once: %s", path, n, old)
	}
	text := strings.Replace(string(content), old, new, 1)
	if source != path {
		return os.WriteFile(source, []byte(text), 0o600)
	}
	return o.put(path, text)
}

// write writes the document for the compiler's -overlay.
func (o *overlay) write() (string, error) {
	document, err := json.Marshal(map[string]any{"Replace": o.files})
	if err != nil {
		return "", err
	}
	path := filepath.Join(o.dir, "overlay.json")
	return path, os.WriteFile(path, document, 0o600)
}

// seed builds a bug in.
func (o *overlay) seed(top string, b bug) error {
	for _, r := range b.replace {
		if err := o.change(filepath.Join(top, filepath.FromSlash(r.file)), r.old, r.new); err != nil {
			return fmt.Errorf("the bug %s cannot be seeded any more: %w", b.name, err)
		}
	}
	return nil
}

// readable are changes that let chaos see more, and reach more, with few means. They change nothing of what the server
// decides: each call to Bitbucket names the turn of a job that makes it, the queue of webhooks that are taken in is
// short enough to be filled, and what waits for minutes, the walk over a repository, a connection that does not work and a merge that
// nobody answered for, waits for seconds, so that a run soon comes to rest.
var readable = []replacement{
	{"server/jobs/worker.go", "return h.run(ctx, job)", `return h.run(context.WithValue(ctx, "turn", fmt.Sprintf("turn/%s-%d-%d", job.Kind, job.ID, job.Fence)), job)`},
	{"server/bitbucket/api.go", `req.Header.Set("User-Agent", config.UserAgent)`, `turn, _ := ctx.Value("turn").(string); req.Header.Set("User-Agent", config.UserAgent+" "+turn)`},
	{"server/store/intake.go", "cmp.Or(options.Queue, 1024)", "cmp.Or(options.Queue, 32)"},
	{"server/store/intake.go", "cmp.Or(options.Batch, 128)", "cmp.Or(options.Batch, 8)"},
	{"server/gate/sweep.go", "reconcileSoonest = 2 * time.Minute", "reconcileSoonest = 20 * time.Second"},
	{"server/gate/gate.go", "reconnectPause = 5 * time.Minute", "reconnectPause = 15 * time.Second"},
	{"server/gate/merge.go", "taskPatience = 10 * time.Minute", "taskPatience = 30 * time.Second"},
}

func (o *overlay) readable(top string) error {
	for _, r := range readable {
		if err := o.change(filepath.Join(top, filepath.FromSlash(r.file)), r.old, r.new); err != nil {
			return fmt.Errorf("the server cannot be made readable any more: %w", err)
		}
	}
	return nil
}

// clock lets the environment step the wall clock of a process, see clock.go.txt: in the standard library,
// so that the product needs no door for it.
func (o *overlay) clock(top string) error {
	folder := filepath.Join(build.Default.GOROOT, "src", "time")
	err := o.change(filepath.Join(folder, "time.go"),
		"	mono -= startNano\n	sec += unixToInternal - minWall\n", "	mono -= startNano\n	sec += clockOff(mono)\n	sec += unixToInternal - minWall\n")
	if err != nil {
		return fmt.Errorf("the clock cannot be injected any more: %w", err)
	}
	steps, err := os.ReadFile(filepath.Join(top, "internal", "chaos", "testdata", "clock.go.txt"))
	if err != nil {
		return err
	}
	return o.put(filepath.Join(folder, "chaos.go"), string(steps))
}
