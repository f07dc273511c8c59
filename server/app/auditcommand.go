package app

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/attest"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/monitor"
	"github.com/signedapproval/bitbucket/server/replay"
)

type auditCommand struct {
	remote
	Workspace  string `help:"The workspace, its UUID or slug." required:""`
	Repository string `help:"The repository, its UUID or slug." required:""`
	Branch     string `help:"The branch that is audited." required:""`
	From       string `help:"The window begins at this time, 2026-11-01 or 2026-11-01T00:00:00Z." required:""`
	To         string `help:"The window ends before this time; now where empty."`
	Since      string `help:"A commit of the branch, by its whole hash: nothing below it is listed. For the history of before the gate." placeholder:"HASH"`
	Format     string `help:"csv or json." default:"csv" enum:"csv,json"`
	Summary    string `help:"Write the signed summary to this file. JSON holds it anyway." type:"path"`
	Key        string `help:"A file with the public keys that may sign the summary, in PEM; without it, the keys that the server announces." type:"existingfile"`
	Repo       string `help:"A clone of the repository: exactly its commits must be listed. Needs git." type:"existingdir"`
	Anchors    string `help:"Verify the evidence of every row with these anchors and against the public log, and what landed where --repo is given." type:"existingfile"`
	MaxLeaves  int64  `help:"With --anchors: how many leaves of the log to read at most, to see that the evidence leaves nothing out." default:"1000000" placeholder:"N"`
}

// Run prints the audit once all of it is verified, and never a part of it. It exits 0 where a pinned key has signed it
// and, with anchors, they prove all evidence and a clone what landed, and nothing that is known of the branch is in no row; 2 where that rests
// on the server's word; and 1 where a row is not proved, which is then printed as such.
func (c *auditCommand) Run(ctx context.Context, s streams) error {
	server, err := c.client(true)
	if err != nil {
		return err
	}
	window, err := c.window(time.Now())
	if err != nil {
		return err
	}
	at, err := locate(ctx, server, c.Workspace, c.Repository)
	if err != nil {
		return err
	}
	keys, err := c.keys(ctx, server)
	if err != nil {
		return err
	}
	listed, err := c.read(ctx, server, at, window)
	if err != nil {
		return err
	}
	summary, err := attest.OpenAudit(ctx, listed.summary, keys, &listed.sum)
	if err != nil {
		return fmt.Errorf("the summary: %w", err)
	}
	if err := c.fits(summary, at, window, listed.rows); err != nil {
		return err
	}
	var commits []replay.BranchCommit
	if c.Repo != "" {
		if commits, err = replay.Branch(ctx, c.Repo, c.Branch); err != nil {
			return fmt.Errorf("--repo: %w", err)
		}
		if err := sameCommits(commits, listed.rows, summary); err != nil {
			return fmt.Errorf("--repo: %w", err)
		}
	}
	asserted := c.Key == ""
	var disproved []disproof
	var behind *gateOutcome // of what the public log says
	if c.Anchors != "" {
		proved, p, err := c.verifyEvidence(ctx, server, at, listed.rows, commits)
		if err != nil {
			return err
		}
		// Without a clone what landed is the server's word, and that nothing else did, however little is listed.
		asserted, disproved, behind = asserted || !proved || p.behind != nil || c.Repo == "", p.disproved, p.behind
		for _, row := range p.unseen {
			_, _ = fmt.Fprintf(s.err, "row %d: its evidence ends before the merge, when its request was cancelled: that this is how it was merged is operator-asserted\n", row)
		}
		if beside(summary, commits) {
			asserted = true
			_, _ = fmt.Fprintf(s.err, "commits of %s are in no row: that they reached it outside of the window is operator-asserted, but for those below a --since that you know\n", c.Branch)
		}
	}
	if c.Summary != "" {
		if err := os.WriteFile(c.Summary, append(listed.summary, '\n'), 0o600); err != nil {
			return err
		}
	}
	if c.Format == "json" {
		err = writeAuditJSON(s.out, listed.rows, disproved, listed.summary)
	} else {
		err = writeAuditCSV(s.out, listed.rows, disproved)
	}
	if err != nil {
		return err
	}
	for _, m := range summary.Missing {
		_, _ = fmt.Fprintf(s.err, "%s no longer holds %s, as which pull request %d was merged\n", c.Branch, m.Landed, m.PullRequest)
	}
	n := summary.Rows
	_, err = fmt.Fprintf(s.err, "%d commits reached %s: %d approved, %d by override, %d violations\n", n.All, c.Branch, n.Approved, n.Override, n.Violation)
	for _, d := range disproved {
		_, _ = fmt.Fprintf(s.err, "row %d is not proved: %s\n", d.Row, d.Why)
	}
	if behind != nil {
		_, _ = fmt.Fprintln(s.err, "the public log:", plain(behind.Sentence))
	}
	if err == nil && behind != nil && behind.Code != gateAsserted && behind.Code != gateMoved {
		_, _ = fmt.Fprintln(s.err, "FAILED: the evidence is not what the public log says")
		return exit(1)
	}
	if err == nil && len(disproved) > 0 {
		_, _ = fmt.Fprintf(s.err, "FAILED: the evidence does not prove %d of the rows\n", len(disproved))
		return exit(1)
	}
	if err == nil && asserted {
		_, _ = fmt.Fprintln(s.err, "consistent, operator-asserted: pin the attestation key with --key, and give complete --anchors with --repo")
		return exit(2)
	}
	return err
}

// window is what is asked for.
type window struct{ from, to time.Time }

func (c *auditCommand) window(now time.Time) (w window, err error) {
	if w.from, err = moment("--from", c.From); err != nil {
		return w, err
	}
	w.to = now.UTC().Truncate(time.Second).Add(time.Second) // what is there now is in it
	if c.To != "" {
		if w.to, err = moment("--to", c.To); err != nil {
			return w, err
		}
	}
	if !w.from.Before(w.to) {
		return w, errors.New("--from must be before --to")
	}
	return w, nil
}

// moment reads a day, which begins in UTC, or a time.
func moment(flag, text string) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(layout, text); err == nil {
			return at.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%s: %q is no time such as 2026-11-01 or 2026-11-01T00:00:00Z", flag, text)
}

func (c *auditCommand) keys(ctx context.Context, server *monitor.Client) ([]attest.Verifier, error) {
	if c.Key != "" {
		text, err := readFile(c.Key, maxSmall)
		if err != nil {
			return nil, err
		}
		keys, err := attest.ParseVerifiers(text)
		if err != nil {
			return nil, fmt.Errorf("--key: %w", err)
		}
		return keys, nil
	}
	text, err := server.Get(ctx, "/attestations/keys", nil, 64<<10)
	if err != nil {
		return nil, err
	}
	return attest.ParseVerifiers(text)
}

// listing is what a server answers.
type listing struct {
	rows    []attest.Row
	sum     attest.Sum
	summary []byte
}

// maxAuditLine bounds a line of the answer, in bytes.
const maxAuditLine = attest.MaxEnvelope + 1024

func (c *auditCommand) read(ctx context.Context, server *monitor.Client, at place, w window) (l listing, err error) {
	ctx, cancel := context.WithTimeout(ctx, auditTime+time.Minute)
	defer cancel()
	body, err := server.Open(ctx, "/audit/"+at.workspace+"/"+at.repository, url.Values{
		"branch": {c.Branch}, "from": {w.from.Format(time.RFC3339)}, "to": {w.to.Format(time.RFC3339)}, "since": {c.Since},
	})
	if err != nil {
		return l, err
	}
	defer func() { _ = body.Close() }()
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 64<<10), maxAuditLine)
	for lines.Scan() {
		line := lines.Bytes()
		if len(line) == 0 {
			continue
		}
		if l.summary != nil {
			return l, errors.New("the server says more after the summary")
		}
		document, failure, err := l.line(line)
		if err != nil {
			return l, err
		}
		if failure {
			return l, fmt.Errorf("the server gave up: %s", document)
		}
	}
	if err := lines.Err(); err != nil {
		return l, fmt.Errorf("the audit broke off: %w", err)
	}
	if l.summary == nil {
		return l, errors.New("the audit broke off: there is no summary")
	}
	return l, nil
}

// line takes one line of the answer: {"row":…}, {"summary":…} or {"error":…}. The bytes of a row are those that are signed.
func (l *listing) line(line []byte) (failure string, failed bool, err error) {
	var kind map[string]json.RawMessage
	if err := json.Unmarshal(line, &kind); err != nil || len(kind) != 1 {
		return "", false, errors.New("the server's answer is not an audit")
	}
	switch {
	case kind["error"] != nil:
		var said struct{ Code, Message string }
		_ = json.Unmarshal(kind["error"], &said) // an empty one says enough
		return plain(strings.TrimSpace(said.Code + " " + said.Message)), true, nil
	case kind["summary"] != nil:
		l.summary = bytes.Clone(kind["summary"])
	case kind["row"] != nil:
		row, err := attest.ParseRow(kind["row"])
		if err == nil {
			err = l.sum.Add(row, kind["row"])
		}
		if err != nil {
			return "", false, fmt.Errorf("row %d: %w", len(l.rows)+1, err)
		}
		l.rows = append(l.rows, row)
	default:
		return "", false, errors.New("the server's answer is not an audit")
	}
	return "", false, nil
}

// fits refuses a summary of something else than was asked for, and rows that are not in the window.
func (c *auditCommand) fits(a attest.Audit, at place, w window, rows []attest.Row) error {
	switch {
	case a.Workspace != bitbucket.BracedUUID(at.workspace) || a.Repository.UUID != bitbucket.BracedUUID(at.repository) || a.Branch != c.Branch:
		return errors.New("the summary is of another branch")
	case !a.From.Equal(w.from) || !a.To.Equal(w.to) || a.Since != c.Since:
		return errors.New("the summary is of another window")
	case a.Before != nil && !a.Before.NotAfter.Before(w.from), a.After != nil && a.After.NotBefore.Before(w.to):
		return errors.New("a commit beside the window is in it")
	case a.After == nil && a.Tip != a.Since && !slices.Equal(a.Heads, []string{a.Tip}), (a.Before == nil) != (len(a.Bases) == 0):
		return errors.New("the rows do not end where the branch stood, or begin nowhere")
	case a.Before != nil && !slices.Contains(a.Bases, a.Before.Commit):
		return errors.New("the commit before the window is none of its bases")
	}
	var last attest.Reached
	for _, row := range rows {
		if !row.In(w.from, w.to) || row.NotBefore.Before(last.NotBefore) || row.NotAfter.Before(last.NotAfter) {
			return fmt.Errorf("row %d is not in its order in the window", row.Number)
		}
		last = row.Reached
	}
	return nil
}

// sameCommits refuses rows that are not exactly the commits of a clone's branch that the summary says they are. commits are all in the
// branch's history, its tip first.
func sameCommits(commits []replay.BranchCommit, rows []attest.Row, a attest.Audit) error {
	parents := map[string][]string{}
	for _, c := range commits {
		parents[c.Hash] = c.Parents
	}
	history := func(of ...string) (map[string]bool, error) {
		in := map[string]bool{}
		for len(of) > 0 {
			hash := of[len(of)-1]
			of = of[:len(of)-1]
			if in[hash] {
				continue
			}
			more, ok := parents[hash]
			if !ok {
				return nil, fmt.Errorf("the clone's branch does not have %s, which the summary names", hash)
			}
			in[hash] = true
			of = append(of, more...)
		}
		return in, nil
	}
	if a.After == nil && len(commits) > 0 && commits[0].Hash != a.Tip {
		return fmt.Errorf("the clone's branch is at %s, and the audited one was at %s", commits[0].Hash, a.Tip)
	}
	behind, err := history(a.Heads...)
	if err != nil {
		return err
	}
	before := a.Bases
	if a.Since != "" {
		before = append(slices.Clone(before), a.Since)
	}
	out, err := history(before...)
	if err != nil {
		return err
	}
	listed := map[string]bool{}
	for _, row := range rows {
		if !behind[row.Commit] || out[row.Commit] || listed[row.Commit] {
			return fmt.Errorf("row %d lists %s, which is not on the clone's branch in the window, or is there twice", row.Number, row.Commit)
		}
		listed[row.Commit] = true
	}
	for _, c := range commits {
		if behind[c.Hash] && !out[c.Hash] && !listed[c.Hash] {
			return fmt.Errorf("%s is on the clone's branch and is not listed", c.Hash)
		}
	}
	return nil
}

// beside reports whether the server alone says of commits of the branch that they reached it outside of the window. Nobody looks at what is in
// no row. What is in the history of the commit that the caller named is left out by their own word; commits are all of the clone's branch, each
// before its parents.
func beside(a attest.Audit, commits []replay.BranchCommit) bool {
	below := map[string]bool{a.Since: true}
	for _, c := range commits {
		for _, parent := range c.Parents {
			below[parent] = below[parent] || below[c.Hash]
		}
	}
	return a.After != nil || slices.ContainsFunc(a.Bases, func(base string) bool { return !below[base] })
}

// verifyEvidence verifies the bundle of every row that names one. It is true where all is proved, and says which rows are not;
// commits are all of the clone's branch.
func (c *auditCommand) verifyEvidence(
	ctx context.Context, server *monitor.Client, at place, rows []attest.Row, commits []replay.BranchCommit,
) (whole bool, p proving, err error) {
	anchors, err := readAnchors(c.Anchors)
	if err != nil {
		return false, p, fmt.Errorf("--anchors: %w", err)
	}
	var head, seen tlog.Tree
	if anchors.Log != nil {
		// Where there is none, the look says why, or asks the evidence for all that is public then.
		if before, err := server.Checkpoint(ctx, anchors); err == nil {
			head, seen = before.Tree, before.Tree
		}
	}
	// A roster can be about to follow what is in the log, and something can come into it meanwhile. What does not end is no chance.
	for try := 1; ; try++ {
		p = proving{at: at, branch: c.Branch, anchors: anchors, clone: c.Repo, parents: map[string][]string{}}
		for _, commit := range commits {
			p.parents[commit.Hash] = commit.Parents
		}
		whole, err = p.rows(ctx, rows, func(request string) ([]byte, error) {
			id, ok := bitbucket.BareUUID(request) // it becomes part of a path
			if !ok {
				return nil, notProvedf("%q is no id of a request", request)
			}
			return server.Get(ctx, "/evidence/"+at.workspace+"/"+id, nil, evidence.MaxBundle)
		})
		if err != nil || anchors.Log == nil || len(p.histories) == 0 {
			return whole, p, err // without the log's keys nothing is proved
		}
		look := logLook{client: server, anchors: anchors, known: []lookedThrough{pinnedHead(anchors)}, most: c.MaxLeaves, head: head, seen: &seen}
		outcome, code, _ := look.compare(ctx, p.histories, gateOutcome{}, 0)
		if code == 0 {
			return whole, p, nil
		}
		if p.behind = &outcome; outcome.Code != gateStale && outcome.Code != gateMoved || try == takes {
			return whole, p, nil
		}
		select {
		case <-time.After(takePause):
		case <-ctx.Done():
			return false, p, ctx.Err()
		}
	}
}

// writeAuditJSON writes one document: the rows, in the one form of each, the envelope of their summary, and beside them which are not
// proved: a row is what was signed.
func writeAuditJSON(w io.Writer, rows []attest.Row, disproved []disproof, summary []byte) error {
	if rows == nil {
		rows = []attest.Row{}
	}
	document := map[string]any{"rows": rows, "summary": json.RawMessage(summary)}
	if len(disproved) > 0 {
		document["disproved"] = disproved
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(document)
}

// kindDisproved is the kind, in a table, of a row that is not proved; its reason is why.
const kindDisproved = "disproved"

// writeAuditCSV writes a table for spreadsheets.
func writeAuditCSV(w io.Writer, rows []attest.Row, disproved []disproof) error {
	out := csv.NewWriter(w)
	table := [][]string{{
		"number", "commit", "kind", "relation", "reason", "not_before", "not_after", "basis", "pull_request", "landed", "head", "request", "bundle", "bundle_digest", "chain_leaf",
	}}
	for _, r := range rows {
		if i := slices.IndexFunc(disproved, func(d disproof) bool { return d.Row == r.Number }); i >= 0 {
			r.Kind, r.Reason = kindDisproved, disproved[i].Why
		}
		pullRequest := ""
		if r.PullRequest > 0 {
			pullRequest = strconv.FormatInt(r.PullRequest, 10)
		}
		table = append(table, []string{
			strconv.Itoa(r.Number), r.Commit, r.Kind, string(r.Relation), r.Reason, r.NotBefore.Format(time.RFC3339Nano), r.NotAfter.Format(time.RFC3339Nano), string(r.Basis), pullRequest,
			r.Landed, r.Head, r.Request, r.Bundle, string(r.BundleDigest), string(r.ChainLeaf),
		})
	}
	for _, cells := range table {
		for i := range cells {
			cells[i] = plainCell(plain(cells[i]))
		}
	}
	return out.WriteAll(table)
}

// plainCell keeps a spreadsheet from taking a cell for a formula: it gets an apostrophe in front, which spreadsheets do not show.
func plainCell(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r\n", rune(text[0])) {
		return "'" + text
	}
	return text
}
