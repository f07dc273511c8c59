package webhook_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/webhook"
)

const (
	workspaceUUID = "aaaaaaaa-0000-4000-8000-000000000001"
	repoUUID      = "cccccccc-0000-4000-8000-000000000003"
	inRepo        = `"repository":{"uuid":"{CCCCCCCC-0000-4000-8000-000000000003}","full_name":"acme/rocket"}`
	ourKey        = "signedapproval-abcdefghijklmnopqrstuvwx"
)

// pushOf is a push with these changes.
func pushOf(changes ...string) string {
	return `{` + inRepo + `,"push":{"changes":[` + strings.Join(changes, ",") + `]}}`
}

func refOf(kind, name string) string {
	quoted, err := json.Marshal(name)
	if err != nil {
		panic(err)
	}
	return `{"type":"` + kind + `","name":` + string(quoted) + `,"target":{"hash":"1111111111111111111111111111111111111111"}}`
}

// moved are n changes of branches called b0, b1, …
func moved(n int) []string {
	var changes []string
	for i := range n {
		changes = append(changes, `{"old":null,"new":`+refOf("branch", fmt.Sprintf("b%d", i))+`}`)
	}
	return changes
}

func TestParse(t *testing.T) {
	t.Parallel()
	all := []string{""}
	for name, test := range map[string]struct {
		key, body string
		want      webhook.Event
		jobs      []string // "kind key", with R for the repository
	}{
		// No recording of these events is known; the bodies are ours, in the shape of their neighbours.
		"changes requested": {
			"pullrequest:changes_request_created",
			`{` + inRepo + `,"pullrequest":{"id":7,"state":"OPEN"},"changes_request":{"date":"2026-01-02T03:04:05Z","user":{}},"actor":{}}`,
			webhook.Event{Kind: webhook.PullRequestChanged, RepositoryUUID: repoUUID, PullRequest: 7},
			[]string{"evaluate R:7"},
		},
		"changes no longer requested": {
			"pullrequest:changes_request_removed", `{` + inRepo + `,"pullrequest":{"id":7},"changes_request":null}`,
			webhook.Event{Kind: webhook.PullRequestChanged, RepositoryUUID: repoUUID, PullRequest: 7},
			[]string{"evaluate R:7"},
		},
		"pushed to a pull request": {
			"pullrequest:push", `{` + inRepo + `,"pullrequest":{"id":7}}`,
			webhook.Event{Kind: webhook.PullRequestChanged, RepositoryUUID: repoUUID, PullRequest: 7},
			[]string{"evaluate R:7"},
		},
		"comment resolved": {
			"pullrequest:comment_resolved", `{` + inRepo + `,"pullrequest":{"id":7},"comment":{"id":1}}`,
			webhook.Event{Kind: webhook.PullRequestDiscussed, RepositoryUUID: repoUUID, PullRequest: 7},
			nil,
		},
		"comment reopened": {
			"pullrequest:comment_reopened", `{` + inRepo + `,"pullrequest":{"id":7},"comment":null}`,
			webhook.Event{Kind: webhook.PullRequestDiscussed, RepositoryUUID: repoUUID, PullRequest: 7},
			nil,
		},
		"repository moved": {
			"repo:transfer", `{` + inRepo + `,"previous_workspace":{}}`,
			webhook.Event{Kind: webhook.RepositoryChanged, RepositoryUUID: repoUUID},
			[]string{"reconcile R"},
		},
		"repository deleted": {
			"repo:deleted", `{` + inRepo + `}`,
			webhook.Event{Kind: webhook.RepositoryChanged, RepositoryUUID: repoUUID},
			[]string{"reconcile R"},
		},
		"repository renamed": {
			"repo:updated", `{"repository":{"uuid":"{` + repoUUID + `}","full_name":"acme/moon"},"changes":{"full_name":{"old":"acme/rocket","new":"acme/moon"}}}`,
			webhook.Event{Kind: webhook.RepositoryChanged, RepositoryUUID: repoUUID},
			[]string{"reconcile R"},
		},

		// Absent, null and reshaped fields.
		"everything else is null": {
			"pullrequest:updated",
			`{"actor":null,` + inRepo + `,"pullrequest":{"id":9007199254740993,"draft":null,"author":null,"source":{"repository":null,"commit":null},"destination":null,"participants":null}}`,
			webhook.Event{Kind: webhook.PullRequestChanged, RepositoryUUID: repoUUID, PullRequest: 9007199254740993},
			[]string{"evaluate R:9007199254740993"},
		},
		"everything else has another shape": {
			"pullrequest:updated", `{` + inRepo + `,"pullrequest":{"id":1,"state":["OPEN|MERGED"],"source":"main","draft":"no"},"push":7,"commit_status":"x"}`,
			webhook.Event{Kind: webhook.PullRequestChanged, RepositoryUUID: repoUUID, PullRequest: 1},
			[]string{"evaluate R:1"},
		},
		"repository without its UUID": {
			"pullrequest:created", `{"repository":{"full_name":"acme/rocket"},"pullrequest":{"id":1}}`,
			webhook.Event{Kind: webhook.PullRequestChanged, PullRequest: 1},
			[]string{"evaluate R:1"},
		},
		"no repository": {
			"pullrequest:created", `{"repository":null,"pullrequest":{"id":1}}`,
			webhook.Event{Kind: webhook.PullRequestChanged, PullRequest: 1},
			[]string{"evaluate R:1"},
		},
		"UUID without braces": {
			"repo:updated", `{"repository":{"uuid":"` + repoUUID + `"}}`,
			webhook.Event{Kind: webhook.RepositoryChanged, RepositoryUUID: repoUUID},
			[]string{"reconcile R"},
		},

		// Pushes.
		"nothing pushed": {
			"repo:push", pushOf(), webhook.Event{Kind: webhook.Pushed, RepositoryUUID: repoUUID}, nil,
		},
		"several refs, sorted and once": {
			"repo:push", pushOf(
				`{"old":`+refOf("branch", "release/1")+`,"new":`+refOf("branch", "release/1")+`,"forced":true}`,
				`{"old":`+refOf("branch", "gone")+`,"new":null,"closed":true}`,
				`{"new":`+refOf("branch", "fresh")+`,"truncated":true}`,
				`{"old":null,"new":`+refOf("tag", "v1")+`}`,
				`{"old":`+refOf("branch", "fresh")+`,"new":{}}`),
			webhook.Event{Kind: webhook.Pushed, RepositoryUUID: repoUUID, Branches: []string{"fresh", "gone", "release/1"}},
			[]string{"fan R:fresh", "fan R:gone", "fan R:release/1"},
		},
		"a branch that became another": {
			"repo:push", pushOf(`{"old":` + refOf("branch", "a") + `,"new":` + refOf("branch", "b") + `}`),
			webhook.Event{Kind: webhook.Pushed, RepositoryUUID: repoUUID, Branches: []string{"a", "b"}},
			[]string{"fan R:a", "fan R:b"},
		},
		"a kind of ref that is not known counts as a branch": {
			"repo:push", pushOf(`{"new":` + refOf("named_branch", "default") + `}`),
			webhook.Event{Kind: webhook.Pushed, RepositoryUUID: repoUUID, Branches: []string{"default"}},
			[]string{"fan R:default"},
		},
		"as many branches as are looked at one by one": {
			"repo:push", pushOf(moved(20)...),
			webhook.Event{Kind: webhook.Pushed, RepositoryUUID: repoUUID, Branches: func() []string {
				var names []string
				for i := range 20 {
					names = append(names, fmt.Sprintf("b%d", i))
				}
				slices.Sort(names)
				return names
			}()},
			func() []string {
				var jobs []string
				for i := range 20 {
					jobs = append(jobs, fmt.Sprintf("fan R:b%d", i))
				}
				slices.Sort(jobs)
				return jobs
			}(),
		},
		"one more":               {"repo:push", pushOf(moved(21)...), webhook.Event{Kind: webhook.Pushed, RepositoryUUID: repoUUID, Branches: all}, []string{"fan R"}},
		"the same branch often":  {"repo:push", pushOf(slices.Repeat(moved(1), 50)...), webhook.Event{Kind: webhook.Pushed, RepositoryUUID: repoUUID, Branches: []string{"b0"}}, []string{"fan R:b0"}},
		"a branch without name":  {"repo:push", pushOf(moved(1)[0], `{"new":{"type":"branch"}}`), webhook.Event{Kind: webhook.Pushed, RepositoryUUID: repoUUID, Branches: all}, []string{"fan R"}},
		"a change of nothing":    {"repo:push", pushOf(moved(1)[0], `{}`), webhook.Event{Kind: webhook.Pushed, RepositoryUUID: repoUUID, Branches: all}, []string{"fan R"}},
		"a change that is null":  {"repo:push", pushOf(`null`), webhook.Event{Kind: webhook.Pushed, RepositoryUUID: repoUUID, Branches: all}, []string{"fan R"}},
		"a name with a NUL":      {"repo:push", pushOf(`{"new":` + refOf("branch", "a\x00b") + `}`), webhook.Event{Kind: webhook.Pushed, RepositoryUUID: repoUUID, Branches: all}, []string{"fan R"}},
		"a name with a newline":  {"repo:push", pushOf(`{"new":` + refOf("branch", "a\nb") + `}`), webhook.Event{Kind: webhook.Pushed, RepositoryUUID: repoUUID, Branches: all}, []string{"fan R"}},
		"a very long name":       {"repo:push", pushOf(`{"new":` + refOf("branch", strings.Repeat("x", 1001)) + `}`), webhook.Event{Kind: webhook.Pushed, RepositoryUUID: repoUUID, Branches: all}, []string{"fan R"}},
		"a name in other script": {"repo:push", pushOf(`{"new":` + refOf("branch", "größe/日本") + `}`), webhook.Event{Kind: webhook.Pushed, RepositoryUUID: repoUUID, Branches: []string{"größe/日本"}}, []string{"fan R:größe/日本"}},

		// Build statuses.
		"a status of ours": {
			"repo:commit_status_updated", `{` + inRepo + `,"commit_status":{"key":"` + ourKey + `","state":"SUCCESSFUL"}}`,
			webhook.Event{Kind: webhook.StatusWritten, RepositoryUUID: repoUUID, StatusKey: ourKey},
			[]string{"status-seen R:" + ourKey},
		},
		"a status of another": {
			"repo:commit_status_created", `{` + inRepo + `,"commit_status":{"key":"jenkins"}}`,
			webhook.Event{Kind: webhook.StatusWritten, RepositoryUUID: repoUUID, StatusKey: "jenkins"},
			nil,
		},
		"a status of another on a commit": {
			"repo:commit_status_created", `{` + inRepo + `,"commit_status":{"key":"jenkins","commit":{"hash":"` + strings.Repeat("a1", 20) + `"}}}`,
			webhook.Event{Kind: webhook.StatusWritten, RepositoryUUID: repoUUID, StatusKey: "jenkins", Commit: strings.Repeat("a1", 20)},
			[]string{"builds R:" + strings.Repeat("a1", 20)},
		},
		"a status of another on a prefix of a commit": {
			"repo:commit_status_created", `{` + inRepo + `,"commit_status":{"key":"jenkins","commit":{"hash":"a1a1a1a1a1a1"}}}`,
			webhook.Event{Kind: webhook.StatusWritten, RepositoryUUID: repoUUID, StatusKey: "jenkins"},
			nil,
		},
		"a status longer than ours can be": {
			"repo:commit_status_created", `{` + inRepo + `,"commit_status":{"key":"` + ourKey + `zz"}}`,
			webhook.Event{Kind: webhook.StatusWritten, RepositoryUUID: repoUUID, StatusKey: ourKey + "zz"},
			nil,
		},
		"a status that ours cannot be": {
			"repo:commit_status_created", `{` + inRepo + `,"commit_status":{"key":"signedapproval-\u0000"}}`,
			webhook.Event{Kind: webhook.StatusWritten, RepositoryUUID: repoUUID, StatusKey: "signedapproval-\x00"},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := webhook.Parse(test.key, []byte(test.body))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v\nwant %+v", got, test.want)
			}
			if jobs := named(got.Jobs(workspaceUUID, repoUUID)); !slices.Equal(jobs, test.jobs) {
				t.Errorf("jobs %q, want %q", jobs, test.jobs)
			}
		})
	}
}

// named writes jobs as the tables do.
func named(specs []store.JobSpec) []string {
	var names []string
	for _, spec := range specs {
		names = append(names, spec.Kind+" "+strings.Replace(spec.Key, workspaceUUID+"/"+repoUUID, "R", 1))
	}
	return names
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ key, body string }{
		"nothing":                     {"repo:updated", ``},
		"null in place of an event":   {"pullrequest:created", `null`},
		"a list":                      {"repo:updated", `[]`},
		"a string":                    {"repo:updated", `"x"`},
		"cut off":                     {"repo:updated", `{` + inRepo},
		"two values":                  {"repo:updated", `{` + inRepo + `}{}`},
		"not UTF-8":                   {"repo:updated", "{" + inRepo + ",\"x\":\"\xff\"}"},
		"a byte order mark":           {"repo:updated", "\ufeff{" + inRepo + "}"},
		"a comment":                   {"repo:updated", `{` + inRepo + `/* */}`},
		"a form":                      {"repo:updated", `payload=%7B%7D`},
		"very deep":                   {"repo:updated", `{` + inRepo + `,"x":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`},
		"no pull request":             {"pullrequest:created", `{` + inRepo + `}`},
		"a pull request that is null": {"pullrequest:created", `{` + inRepo + `,"pullrequest":null}`},
		"no number":                   {"pullrequest:created", `{` + inRepo + `,"pullrequest":{"id":null}}`},
		"number 0":                    {"pullrequest:created", `{` + inRepo + `,"pullrequest":{"id":0}}`},
		"a negative number":           {"pullrequest:created", `{` + inRepo + `,"pullrequest":{"id":-1}}`},
		"half a number":               {"pullrequest:created", `{` + inRepo + `,"pullrequest":{"id":1.5}}`},
		"a number without end":        {"pullrequest:created", `{` + inRepo + `,"pullrequest":{"id":9223372036854775808}}`},
		"a number in words":           {"pullrequest:comment_created", `{` + inRepo + `,"pullrequest":{"id":"one"}}`},
		"a pull request in a list":    {"pullrequest:created", `{` + inRepo + `,"pullrequest":[{"id":1}]}`},
		"no push":                     {"repo:push", `{` + inRepo + `}`},
		"no changes":                  {"repo:push", `{` + inRepo + `,"push":{}}`},
		"changes that are null":       {"repo:push", `{` + inRepo + `,"push":{"changes":null}}`},
		"a change that is a string":   {"repo:push", `{` + inRepo + `,"push":{"changes":["main"]}}`},
		"a branch that is a string":   {"repo:push", `{` + inRepo + `,"push":{"changes":[{"new":"main"}]}}`},
		"no status":                   {"repo:commit_status_created", `{` + inRepo + `}`},
		"a status without key":        {"repo:commit_status_created", `{` + inRepo + `,"commit_status":{}}`},
		"a UUID that is none":         {"repo:updated", `{"repository":{"uuid":"{cccccccc-0000-4000-8000-00000000000g}"}}`},
		"a UUID that is a number":     {"repo:updated", `{"repository":{"uuid":7}}`},
		"a repository that is a name": {"repo:updated", `{"repository":"acme/rocket"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := webhook.Parse(test.key, []byte(test.body))
			if err == nil || errors.Is(err, webhook.ErrUnknownEvent) || !reflect.DeepEqual(got, webhook.Event{}) {
				t.Errorf("got %+v and %v", got, err)
			}
		})
	}
}

func TestUnknownEvents(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"", "issue:created", "repo:fork", "repo:created", "pipeline:span_created", "Repo:Push", "repo:push ", "pullrequest"} {
		if got, err := webhook.Parse(key, []byte(`{`+inRepo+`}`)); !errors.Is(err, webhook.ErrUnknownEvent) || !reflect.DeepEqual(got, webhook.Event{}) {
			t.Errorf("%q: %+v, %v", key, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("pullrequest:created", []byte(`{`+inRepo+`,"pullrequest":{"id":7}}`))
	f.Add("pullrequest:comment_updated", []byte(`{"repository":null,"pullrequest":{"id":1e3}}`))
	f.Add("repo:push", []byte(pushOf(append(moved(3), `{"old":{"type":"tag","name":"v1"}}`)...)))
	f.Add("repo:push", []byte(pushOf(`{"new":{"type":"branch","name":"\u0000\ud800"}}`)))
	f.Add("repo:push", []byte(pushOf(moved(30)...)))
	f.Add("repo:commit_status_updated", []byte(`{`+inRepo+`,"commit_status":{"key":"`+ourKey+`"}}`))
	f.Add("repo:transfer", []byte(`{"repository":{"UUID":"x","uuid":"{`+repoUUID+`}"}}`))
	f.Add("issue:created", []byte(`{}`))
	f.Fuzz(func(t *testing.T, key string, raw []byte) {
		kept := bytes.Clone(raw)
		event, err := webhook.Parse(key, raw)
		again, errAgain := webhook.Parse(key, raw)
		if !bytes.Equal(raw, kept) || !reflect.DeepEqual(event, again) || fmt.Sprint(err) != fmt.Sprint(errAgain) {
			t.Fatalf("not the same twice: %+v, %v; %+v, %v", event, err, again, errAgain)
		}
		if err != nil {
			if !reflect.DeepEqual(event, webhook.Event{}) {
				t.Fatalf("%+v beside %v", event, err)
			}
			return
		}
		if !utf8.Valid(raw) || !json.Valid(raw) {
			t.Fatal("accepted what is not JSON")
		}
		if len(event.Branches) > 20 || !slices.IsSorted(event.Branches) || len(slices.Compact(slices.Clone(event.Branches))) != len(event.Branches) {
			t.Fatalf("branches %q", event.Branches)
		}
		for _, spec := range event.Jobs(workspaceUUID, repoUUID) {
			if !strings.HasPrefix(spec.Key, workspaceUUID+"/"+repoUUID) || len(spec.Key) > 1100 || spec.Workspace != workspaceUUID ||
				!utf8.ValidString(spec.Key) || strings.ContainsFunc(spec.Key, func(c rune) bool { return c < 0x20 }) {
				t.Fatalf("job %+v", spec)
			}
		}
	})
}
