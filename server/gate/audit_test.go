package gate_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/attest"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

const web = "https://bitbucket.org"

func (w *world) auditOf(from, to time.Time) gate.AuditOf {
	return gate.AuditOf{Repository: "{" + w.repository + "}", Branch: release, From: from, To: to, Web: web}
}

func (w *world) audit(of gate.AuditOf) (rows []attest.Row, summary attest.Audit, err error) {
	w.t.Helper()
	summary, err = w.gate.Audit(w.t.Context(), w.people["bob"].Person, w.workspace, of, func() error { return nil }, func(r attest.Row) error {
		rows = append(rows, r)
		return nil
	})
	return rows, summary, err
}

// newShuttle is a world whose repository can be merged into in each way.
func newShuttle(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	_, err := w.sim.AddRepository(bitbucketsim.Repository{
		Workspace: "acme", Slug: "shuttle", Permissions: map[string]string{"bob": "write", "carol": "write"},
		MergeStrategies: []string{"merge_commit", "squash", "fast_forward", "rebase_fast_forward"},
	})
	w.must(err)
	_, err = w.sim.Push(bitbucketsim.Push{Repository: "acme/shuttle", Branch: release, Person: "alice", Files: map[string]string{"README.md": "It returns."}})
	w.must(err)
	repository, err := w.client.Repository(t.Context(), "acme", "shuttle")
	w.must(err)
	w.repository = repository.UUID
	w.save(w.rule(1, "bob"))
	w.settle()
	return w
}

func (w *world) fullName() string {
	w.t.Helper()
	repository, err := w.client.Repository(w.t.Context(), w.workspace, w.repository)
	w.must(err)
	return repository.FullName
}

// direct pushes a commit to the gated branch.
func (w *world) direct(file string) string {
	w.t.Helper()
	commit, err := w.sim.Push(bitbucketsim.Push{Repository: w.fullName(), Branch: release, Person: "alice", Files: map[string]string{file: file}})
	w.must(err)
	return commit.Hash
}

// land opens a pull request with commits of its own from where the branch stands, and merges it.
func (w *world) lands(name, strategy string, commits int, approved bool) (number int64, heads []string, tip string) {
	w.t.Helper()
	branch := "feature/" + name
	from := release
	for i := range commits {
		push := bitbucketsim.Push{Repository: w.fullName(), Branch: branch, From: from, Person: "alice", Files: map[string]string{fmt.Sprintf("%s%d.txt", name, i): name}}
		from = ""
		commit, err := w.sim.Push(push)
		w.must(err)
		heads = append(heads, commit.Hash)
	}
	opened, err := w.sim.OpenPullRequest(bitbucketsim.PullRequest{Repository: w.fullName(), Author: "alice", Title: name, Source: branch, Destination: release})
	w.must(err)
	number = int64(opened.ID)
	w.event(number)
	w.settle()
	if approved {
		w.decides(number, "bob", approval.Approve)
		w.settle()
	}
	if strategy == "rebase_fast_forward" {
		w.direct(name + "-meanwhile.txt") // else it is a fast-forward
	}
	_, err = w.client.Merge(w.t.Context(), w.workspace, w.repository, number, bitbucket.MergeOptions{Strategy: bitbucket.MergeStrategy(strategy)})
	w.must(err)
	w.event(number)
	w.settle()
	b, err := w.client.Branch(w.t.Context(), w.workspace, w.repository, release)
	w.must(err)
	return number, heads, b.Head
}

// TestAnAuditListsEveryCommit lands commits in each way, and pushes some.
func TestAnAuditListsEveryCommit(t *testing.T) {
	w := newShuttle(t)
	began, err := w.client.Branch(t.Context(), w.workspace, w.repository, release)
	w.must(err)
	first := w.direct("first.txt")
	_, _, squashed := w.lands("squashed", "squash", 2, true)
	_, merged, merge := w.lands("merged", "merge_commit", 2, true)
	second := w.direct("second.txt")
	_, forward, _ := w.lands("forward", "fast_forward", 3, true)
	_, _, rebased := w.lands("rebased", "rebase_fast_forward", 2, true)
	_, _, slipped := w.lands("slipped", "squash", 1, false)

	rows, summary, err := w.audit(w.auditOf(time.Unix(0, 0), time.Now().Add(time.Hour)))
	w.must(err)
	i := slices.IndexFunc(rows, func(r attest.Row) bool { return r.Commit == began.Head })
	if i < 0 || summary.Before != nil || summary.After != nil || summary.Tip != slipped {
		t.Fatalf("the branch began with %s: %+v\n%+v", began.Head, rows, summary)
	}
	rows = rows[i+1:]
	type want struct {
		commit, kind string
		relation     attest.Relation
	}
	wants := []want{
		{first, attest.KindViolation, attest.Unrelated},
		{squashed, attest.KindApproved, attest.Rewritten},
		{merged[0], attest.KindApproved, attest.Within},
		{merged[1], attest.KindApproved, attest.Signed},
		{merge, attest.KindApproved, attest.MergeOf},
		{second, attest.KindViolation, attest.Unrelated},
		{forward[0], attest.KindApproved, attest.Within},
		{forward[1], attest.KindApproved, attest.Within},
		{forward[2], attest.KindApproved, attest.Signed},
		{"", attest.KindViolation, attest.Unrelated},
		{"", attest.KindApproved, attest.Rewritten},
		{rebased, attest.KindApproved, attest.Rewritten},
		{slipped, attest.KindViolation, attest.Rewritten},
	}
	if len(rows) != len(wants) {
		t.Fatalf("%d rows, want %d: %+v", len(rows), len(wants), rows)
	}
	for i, want := range wants {
		r := rows[i]
		if want.commit != "" && r.Commit != want.commit || r.Kind != want.kind || r.Relation != want.relation {
			t.Errorf("row %d is %s %s %q, want %+v", i, r.Commit, r.Kind, r.Relation, want)
		}
		if _, err := attest.ParseRow(mustLine(t, r)); err != nil {
			t.Errorf("row %d: %v", i, err)
		}
		if strings.Contains(r.Reason, "Bob") || strings.Contains(r.Reason, "Alice") {
			t.Errorf("row %d names somebody: %s", i, r.Reason)
		}
	}
	if rows[4].Head != merged[1] || rows[4].Basis != attest.Recorded || rows[0].Basis != attest.Claimed || summary.Log.Size == 0 {
		t.Errorf("rows %+v %+v, log %+v", rows[0], rows[4], summary.Log)
	}
	bundle, err := w.gate.Bundle(t.Context(), w.people["bob"].Person, w.workspace, rows[1].Request)
	w.must(err)
	if rows[1].Bundle != origin+"/evidence/"+w.workspace+"/"+rows[1].Request || report(bundle) == 1 {
		t.Errorf("the evidence of %+v does not verify", rows[1])
	}

	// Two windows that meet list every commit that was recorded once, and every other at least once.
	middle := rows[8].NotBefore
	older, before, err := w.audit(w.auditOf(time.Unix(0, 0), middle))
	w.must(err)
	newer, after, err := w.audit(w.auditOf(middle, time.Now().Add(time.Hour)))
	w.must(err)
	times := map[string]int{}
	for _, r := range slices.Concat(older, newer) {
		times[r.Commit]++
	}
	for _, r := range rows {
		if n := times[r.Commit]; n < 1 || n > 1 && r.Basis == attest.Recorded {
			t.Errorf("%+v is listed %d times", r, n)
		}
	}
	if before.After.Commit != forward[0] || after.Before.Commit != merge || !slices.Equal(after.Bases, []string{merge}) || !slices.Equal(before.Heads, []string{second}) ||
		!slices.Equal(after.Heads, []string{slipped}) || len(before.Bases) > 0 {
		t.Errorf("beside the windows are %+v and %+v", before, after)
	}

	// What is known to be of before the gate is left out where that is asked for, and nothing else is.
	of := w.auditOf(time.Unix(0, 0), time.Now().Add(time.Hour))
	of.Since = began.Head
	since, summary, err := w.audit(of)
	w.must(err)
	if len(since) != len(rows) || since[0].Commit != first || summary.Since != began.Head || summary.Before != nil {
		t.Errorf("since %s: %d rows, %+v", began.Head, len(since), summary)
	}
	for _, bad := range []string{head(merged), "main", began.Head[:12]} {
		of.Since = bad
		if _, _, err := w.audit(of); refusal.Code(err) != refusal.BadInput {
			t.Errorf("since %s: %v", bad, err)
		}
	}
}

// head is the last of some commits.
func head(commits []string) string { return commits[len(commits)-1] }

func mustLine(t *testing.T, r attest.Row) []byte {
	t.Helper()
	r.Number = 1
	line, err := r.Line()
	if err != nil {
		t.Fatal(err)
	}
	return line
}

func report(bundle []byte) int { return verify(bundle).ExitCode() }

// TestAnAuditPagesToTheEnd has more commits than two pages of Bitbucket.
func TestAnAuditPagesToTheEnd(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	w.settle()
	var pushed []string
	for i := range 125 {
		pushed = append(pushed, w.direct(fmt.Sprintf("file%d.txt", i)))
	}
	_, _, tip := w.lands("landed", "squash", 1, true)
	all := w.auditOf(time.Unix(0, 0), time.Now().Add(time.Hour))
	rows, _, err := w.audit(all)
	w.must(err)
	if len(rows) < 126 || rows[len(rows)-1].Commit != tip || rows[len(rows)-1].Kind != attest.KindApproved {
		t.Fatalf("%d rows", len(rows))
	}
	for i, commit := range pushed {
		if r := rows[len(rows)-126+i]; r.Commit != commit || r.Kind != attest.KindViolation {
			t.Errorf("row %d is %s %s, want %s", i, r.Commit, r.Kind, commit)
		}
	}
	// A later window begins at the recorded merge, and reads nothing of before it.
	last := w.direct("last.txt")
	before := w.calls(http.MethodGet, "/commits/")
	rows, summary, err := w.audit(w.auditOf(rows[len(rows)-1].NotAfter.Add(time.Nanosecond), time.Now().Add(time.Hour)))
	w.must(err)
	if len(rows) != 1 || rows[0].Commit != last || summary.Before == nil || summary.Before.Commit != tip || w.calls(http.MethodGet, "/commits/") != before+1 {
		t.Errorf("%+v %+v in %d calls", rows, summary.Before, w.calls(http.MethodGet, "/commits/")-before)
	}
	// The recorded merge was taken back: the history is read as it is now.
	w.rewind(release, pushed[100])
	rows, summary, err = w.audit(w.auditOf(time.Unix(0, 0), time.Now().Add(time.Hour)))
	w.must(err)
	if rows[len(rows)-1].Commit != pushed[100] || summary.Tip != pushed[100] {
		t.Errorf("after a force push: %+v", rows[len(rows)-1])
	}
	started := w.auditOf(time.Now().Add(time.Minute), time.Now().Add(time.Hour))
	rows, summary, err = w.audit(started)
	w.must(err)
	if len(rows) != 0 || summary.Before == nil || summary.Before.Commit != pushed[100] {
		t.Errorf("of the future, after a force push: %+v %+v", rows, summary.Before)
	}
}

// TestAFalseDateHidesNoCommit pushes commits that claim to be of another time.
func TestAFalseDateHidesNoCommit(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	w.settle()
	_, _, landed := w.lands("landed", "squash", 1, true)
	seen := w.recorded(landed)
	backdated, future := w.direct("backdated.txt"), w.direct("future.txt")
	_, _, after := w.lands("after", "squash", 1, true)
	w.lie(map[string]string{backdated: "2001-01-01T00:00:00+00:00", future: "2100-01-01T00:00:00+00:00"})
	rows, _, err := w.audit(w.auditOf(seen, time.Now().Add(time.Hour)))
	w.must(err)
	commits := func(rows []attest.Row) (list []string) {
		for _, r := range rows {
			list = append(list, r.Commit)
		}
		return list
	}
	rows = rows[max(0, slices.IndexFunc(rows, func(r attest.Row) bool { return r.Commit == landed })):] // what is below may have come just then
	if want := []string{landed, backdated, future, after}; !slices.Equal(commits(rows), want) {
		t.Fatalf("listed %v, want %v", commits(rows), want)
	}
	if rows[1].Kind != attest.KindViolation || rows[2].Kind != attest.KindViolation || !rows[1].NotBefore.Equal(seen) || !rows[2].NotAfter.Equal(w.recorded(after)) {
		t.Errorf("%+v", rows)
	}
	// Whoever audits only what is new sees them too.
	rows, _, err = w.audit(w.auditOf(seen.Add(time.Nanosecond), time.Now().Add(time.Hour)))
	w.must(err)
	if want := []string{backdated, future, after}; !slices.Equal(commits(rows), want) {
		t.Errorf("of late: %v, want %v", commits(rows), want)
	}
}

// recorded is when what landed as a commit was recorded.
func (w *world) recorded(landed string) (at time.Time) {
	w.t.Helper()
	w.in(func(tx *store.Tx) error {
		merges, err := tx.MergesInto(w.t.Context(), w.repository, release)
		for _, m := range merges {
			if m.LandedCommit == landed {
				at = m.SeenAt
			}
		}
		return err
	})
	if at.IsZero() {
		w.t.Fatalf("no merge landed as %s", landed)
	}
	return at
}

// lie stands between the gate and Bitbucket and changes the dates of commits in lists.
func (w *world) lie(dates map[string]string) {
	w.t.Helper()
	w.between(func(response *http.Response) error {
		var page map[string]any
		if err := json.NewDecoder(response.Body).Decode(&page); err != nil {
			return err
		}
		values, _ := page["values"].([]any)
		for _, value := range values {
			commit, _ := value.(map[string]any)
			if hash, _ := commit["hash"].(string); dates[hash] != "" {
				commit["date"] = dates[hash]
			}
		}
		return answerWith(response, page)
	})
}

// answerWith puts another body into an answer.
func answerWith(response *http.Response, body any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	response.Body, response.ContentLength = io.NopCloser(bytes.NewReader(raw)), int64(len(raw))
	response.Header.Set("Content-Length", strconv.Itoa(len(raw)))
	return nil
}

// between lets answers of Bitbucket to lists of commits be changed.
func (w *world) between(change func(*http.Response) error) {
	w.t.Helper()
	target, err := url.Parse(w.sim.URL())
	w.must(err)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: func(response *http.Response) error {
			if strings.Contains(response.Request.URL.Path, "/commits/") {
				return change(response)
			}
			return nil
		},
		ErrorHandler: func(out http.ResponseWriter, _ *http.Request, _ error) { out.WriteHeader(http.StatusBadGateway) },
	}
	front := httptest.NewServer(proxy)
	w.t.Cleanup(front.Close)
	token, err := w.sim.IssueToken(bitbucketsim.TokenRequest{Person: "alice"})
	w.must(err)
	w.client = bitbucket.New(bitbucket.Config{BaseURL: front.URL, Timeout: callTimeout}).As(token.AccessToken, "test", bitbucket.Foreground)
}

// TestAnAuditThatCannotBeWholeFails has Bitbucket refuse, stop in the middle, or leave out.
func TestAnAuditThatCannotBeWholeFails(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	w.settle()
	for i := range 3 {
		w.direct(fmt.Sprintf("file%d.txt", i))
	}
	all := w.auditOf(time.Unix(0, 0), time.Now().Add(time.Hour))
	for name, change := range map[string]func(*http.Response) error{
		"refused": func(*http.Response) error { return errors.New("away") },
		"a list that lacks the rest": func(response *http.Response) error {
			return answerWith(response, map[string]any{"values": []any{}, "pagelen": 100})
		},
	} {
		w.between(change)
		if rows, _, err := w.audit(all); err == nil || len(rows) > 0 {
			t.Errorf("%s: %d rows, %v", name, len(rows), err)
		}
	}
}

func TestAuditsThatAreRefused(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	w.settle()
	now := time.Now()
	good := w.auditOf(now.Add(-time.Hour), now)
	change := func(f func(*gate.AuditOf)) gate.AuditOf {
		of := good
		f(&of)
		return of
	}
	for name, c := range map[string]struct {
		of   gate.AuditOf
		code string
	}{
		"no branch":             {change(func(of *gate.AuditOf) { of.Branch = "" }), refusal.BadInput},
		"no such branch":        {change(func(of *gate.AuditOf) { of.Branch = "release/9" }), refusal.NotFound},
		"a branch without":      {change(func(of *gate.AuditOf) { of.Branch = "main" }), gate.CodeNeverProtected},
		"an empty window":       {change(func(of *gate.AuditOf) { of.To = of.From }), refusal.BadInput},
		"no window":             {change(func(of *gate.AuditOf) { of.From = time.Time{} }), refusal.BadInput},
		"a name":                {change(func(of *gate.AuditOf) { of.Repository = "rocket" }), refusal.NotFound},
		"another repository":    {change(func(of *gate.AuditOf) { of.Repository = uuid.NewString() }), gate.CodeNeverProtected},
		"nothing to be said of": {good, ""},
	} {
		if _, _, err := w.audit(c.of); refusal.Code(err) != c.code || c.code == "" && err != nil {
			t.Errorf("%s: %v, want %q", name, err, c.code)
		}
	}
	w.rights[w.people["bob"].ID] = bitbucket.PermissionNone
	if _, _, err := w.audit(good); refusal.Code(err) != refusal.NotFound {
		t.Errorf("without permission: %v", err)
	}
}

func TestReviewsOfCommits(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	w.settle()
	private, _, err := attest.NewKey()
	w.must(err)
	keys, err := attest.ParseKeys(private)
	w.must(err)
	reviewed := func(commit string) attest.Review {
		t.Helper()
		r, err := w.gate.Review(t.Context(), w.people["bob"].Person, w.workspace, commit, gate.CommitScope{}, web)
		w.must(err)
		if _, err := attest.SignSummary(t.Context(), keys, r); err != nil {
			t.Errorf("%+v cannot be said: %v", r, err)
		}
		return r
	}
	number := w.open()
	w.settle()
	head := w.view(number).PullRequest.HeadCommit
	if r := reviewed(head); r.Verdict.State != "PENDING" || len(r.Approvals) != 0 || r.Merge != nil {
		t.Errorf("before: %+v", r)
	}
	w.decides(number, "bob", approval.Approve)
	w.settle()
	r := reviewed(head)
	if r.Verdict != (attest.Verdict{State: "APPROVED", Sentence: "approved by 1 person"}) || len(r.Approvals) != 1 || r.Approvals[0].Person != w.people["bob"].ID ||
		r.Commit != head || r.Head != head || r.Branch != release || r.Repository.URI != web+"/"+rocket || r.PullRequest != number || r.Log.Size == 0 {
		t.Errorf("approved: %+v", r)
	}
	w.post(number, "merge", map[string]any{"type": "pullrequest", "merge_strategy": "merge_commit"})
	w.event(number)
	w.settle()
	branch, err := w.client.Branch(t.Context(), w.workspace, w.repository, release)
	w.must(err)
	if r := reviewed(branch.Head); r.Merge == nil || *r.Merge != (attest.Merge{Kind: attest.KindApproved, Commit: branch.Head}) || r.Head != head || r.Commit != branch.Head {
		t.Errorf("landed: %+v", r)
	}
	_, _, slipped := w.lands("slipped", "squash", 1, false)
	if r := reviewed(slipped); r.Merge == nil || r.Merge.Kind != attest.KindViolation || r.Verdict.State == "APPROVED" {
		t.Errorf("slipped: %+v", r)
	}
}
