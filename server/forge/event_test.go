package forge_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/signedapproval/bitbucket/internal/atlassiantest"
	"github.com/signedapproval/bitbucket/server/forge"
	"github.com/signedapproval/bitbucket/server/store"
)

const (
	workspaceUUID = atlassiantest.Workspace
	repoUUID      = "cccccccc-0000-4000-8000-000000000003"
	otherUUID     = "11111111-2222-4333-8444-555555555555"
	ourKey        = "signedapproval-abcdefghijklmnopqrstuvwx"
	hash          = "a37e0ad81173c7f6707d6b9f74dab4ce9938064d"
)

// eventOf is an event of the gated repository with what else its body has.
func eventOf(name string, parts ...string) string {
	return `{"eventType":"` + name + `",` + strings.Join(append([]string{
		`"timestamp":"2026-03-23T06:03:12.361017Z"`, `"selfGenerated":false`,
		`"actor":{"type":"user","accountId":"5ffed3379edf280075d75b20","uuid":"{cc8e193d-7603-4dfd-8771-fcc8960aa0fb}"}`,
		`"repository":{"uuid":"{CCCCCCCC-0000-4000-8000-000000000003}","slug":"rocket"}`, `"project":{"uuid":"{` + otherUUID + `}"}`,
		`"workspace":{"uuid":"{` + workspaceUUID + `}"}`,
	}, parts...), ",") + `}`
}

const (
	pullRequest7 = `"pullrequest":{"id":7,"state":"OPEN","source":{"branch":"feature","commit":{"hash":"ea92ba633eac"}},` +
		`"destination":{"branch":"main","commit":{"hash":"ec8950c039c0"}},"title":{"truncated":false,"value":"ü"}}`
	pushOfMain = `"push":{"ref":"main","mainbranch":true,"after":"` + hash + `","created":true,"closed":false,"forced":false,"truncated":false,"commits":[{"hash":"` + hash + `"}]}`
)

func statusOf(key, commit string) string {
	return `"buildStatus":{"key":"` + key + `","commit":{"hash":"` + commit + `"},"state":"SUCCESSFUL","url":"https://ci.example","refName":"feature"}`
}

// subscribed is every event that this door understands, with a whole body and what must become of it.
var subscribed = map[string]struct {
	parts []string
	want  forge.Event
	jobs  []string
}{
	"avi:bitbucket:created:pullrequest":   {[]string{pullRequest7}, forge.Event{Kind: forge.PullRequestChanged, PullRequest: 7}, []string{"evaluate R:7"}},
	"avi:bitbucket:updated:pullrequest":   {[]string{pullRequest7}, forge.Event{Kind: forge.PullRequestChanged, PullRequest: 7}, []string{"evaluate R:7"}},
	"avi:bitbucket:fulfilled:pullrequest": {[]string{pullRequest7, `"mergeCommit":{"hash":"ea92ba633eac"}`}, forge.Event{Kind: forge.PullRequestChanged, PullRequest: 7}, []string{"evaluate R:7"}},
	"avi:bitbucket:rejected:pullrequest":  {[]string{pullRequest7}, forge.Event{Kind: forge.PullRequestChanged, PullRequest: 7}, []string{"evaluate R:7"}},
	"avi:bitbucket:updated:pullrequest-reviewer-status": {
		[]string{pullRequest7, `"reviewers":{"value":[{"user":{"type":"user"},"status":"approved"}],"truncated":false}`},
		forge.Event{Kind: forge.PullRequestChanged, PullRequest: 7},
		[]string{"evaluate R:7"},
	},
	"avi:bitbucket:created:pullrequest-comment":  {[]string{pullRequest7, `"comment":{"id":1}`}, forge.Event{Kind: forge.PullRequestDiscussed, PullRequest: 7}, nil},
	"avi:bitbucket:updated:pullrequest-comment":  {[]string{pullRequest7, `"comment":{"id":1}`}, forge.Event{Kind: forge.PullRequestDiscussed, PullRequest: 7}, nil},
	"avi:bitbucket:deleted:pullrequest-comment":  {[]string{pullRequest7, `"comment":{"id":1}`}, forge.Event{Kind: forge.PullRequestDiscussed, PullRequest: 7}, nil},
	"avi:bitbucket:resolved:pullrequest-comment": {[]string{pullRequest7, `"comment":{"id":1}`}, forge.Event{Kind: forge.PullRequestDiscussed, PullRequest: 7}, nil},
	"avi:bitbucket:reopened:pullrequest-comment": {[]string{pullRequest7, `"comment":{"id":1}`}, forge.Event{Kind: forge.PullRequestDiscussed, PullRequest: 7}, nil},
	"avi:bitbucket:push:repository":              {[]string{pushOfMain}, forge.Event{Kind: forge.Pushed, Branches: []string{"main"}}, []string{"fan R:main"}},
	"avi:bitbucket:created:build-status":         {[]string{statusOf("ci", hash)}, forge.Event{Kind: forge.StatusWritten, StatusKey: "ci", Commit: hash}, []string{"builds R:" + hash}},
	"avi:bitbucket:updated:build-status":         {[]string{statusOf("ci", hash)}, forge.Event{Kind: forge.StatusWritten, StatusKey: "ci", Commit: hash}, []string{"builds R:" + hash}},
	"avi:bitbucket:created:repository":           {nil, forge.Event{Kind: forge.RepositoryChanged}, []string{"reconcile R"}},
	"avi:bitbucket:updated:repository":           {nil, forge.Event{Kind: forge.RepositoryChanged}, []string{"reconcile R"}},
	"avi:bitbucket:deleted:repository":           {nil, forge.Event{Kind: forge.RepositoryChanged}, []string{"reconcile R"}},
}

// jobsOf are what an event asks for, as "kind key" with R for the repository.
func jobsOf(e forge.Event) []string {
	var names []string
	for _, spec := range e.Jobs() {
		names = append(names, spec.Kind+" "+strings.Replace(spec.Key, workspaceUUID+"/"+repoUUID, "R", 1))
	}
	return names
}

func TestEveryEvent(t *testing.T) {
	t.Parallel()
	var names []string
	for name, test := range subscribed {
		names = append(names, name)
		want := test.want
		want.Name, want.WorkspaceUUID, want.RepositoryUUID, want.Dated, want.Attempt = name, workspaceUUID, repoUUID, true, 1
		body := eventOf(name, test.parts...)
		for form, raw := range map[string]string{"plain": body, "wrapped": `{"payload":` + body + `}`} {
			got, err := forge.Parse([]byte(raw))
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s, %s: %+v, %v\nwant %+v", name, form, got, err, want)
			}
			if jobs := jobsOf(got); !slices.Equal(jobs, test.jobs) {
				t.Errorf("%s, %s: jobs %q, want %q", name, form, jobs, test.jobs)
			}
			for _, spec := range got.Jobs() {
				place, _ := spec.Payload.(store.Place)
				if spec.Workspace != workspaceUUID || place.Workspace != workspaceUUID || place.Repository != repoUUID {
					t.Errorf("%s: asks for %+v", name, spec)
				}
			}
			if forge.Asks(name) != (test.jobs != nil) {
				t.Errorf("%s asks: %v", name, forge.Asks(name))
			}
		}
		// Without its part, an event does not say what to look at.
		if bare := eventOf(name); test.parts != nil {
			got, err := forge.Parse([]byte(bare))
			if err == nil || got.RepositoryUUID != repoUUID {
				t.Errorf("%s without its part: %+v, %v", name, got, err)
			}
		}
	}
	slices.Sort(names)
	if got := forge.Events(); !slices.Equal(got, names) {
		t.Errorf("understood are %q, tested %q", got, names)
	}
	if forge.Asks("avi:bitbucket:created:commit-comment") {
		t.Error("an unknown event asks for something")
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	const push, built = "avi:bitbucket:push:repository", "avi:bitbucket:updated:build-status"
	pushed := func(ref string) string {
		quoted, err := json.Marshal(ref)
		if err != nil {
			panic(err)
		}
		return eventOf(push, `"push":{"ref":`+string(quoted)+`}`)
	}
	long := strings.Repeat("x", 1000)
	for name, test := range map[string]struct {
		body string
		want forge.Event
		jobs []string
	}{
		"a tag":                         {eventOf(push, `"push":{"ref":"v1","created":true,"forced":false,"closed":false,"author":{}}`), forge.Event{Kind: forge.Pushed, Branches: []string{"v1"}}, []string{"fan R:v1"}},
		"a branch that is gone":         {eventOf(push, `"push":{"ref":"a/b","closed":true,"before":"`+hash+`"}`), forge.Event{Kind: forge.Pushed, Branches: []string{"a/b"}}, []string{"fan R:a/b"}},
		"a longest branch":              {pushed(long), forge.Event{Kind: forge.Pushed, Branches: []string{long}}, []string{"fan R:" + long}},
		"a branch that is too long":     {pushed(long + "x"), forge.Event{Kind: forge.Pushed, Branches: []string{""}}, []string{"fan R"}},
		"a branch with a NUL":           {pushed("a\x00"), forge.Event{Kind: forge.Pushed, Branches: []string{""}}, []string{"fan R"}},
		"a whole ref":                   {pushed("refs/heads/main"), forge.Event{Kind: forge.Pushed, Branches: []string{""}}, []string{"fan R"}},
		"a status of ours by us":        {eventOf(built, statusOf(ourKey, hash), `"selfGenerated":true`), forge.Event{Kind: forge.StatusWritten, StatusKey: ourKey, Commit: hash, SelfGenerated: true}, nil},
		"a status of ours by another":   {eventOf(built, statusOf(ourKey, hash)), forge.Event{Kind: forge.StatusWritten, StatusKey: ourKey, Commit: hash}, []string{"status-seen R:" + ourKey}},
		"a status of another by us":     {eventOf(built, statusOf("ci", hash), `"selfGenerated":true`), forge.Event{Kind: forge.StatusWritten, StatusKey: "ci", Commit: hash, SelfGenerated: true}, []string{"builds R:" + hash}},
		"a status on a short hash":      {eventOf(built, statusOf("ci", hash[:12])), forge.Event{Kind: forge.StatusWritten, StatusKey: "ci"}, nil},
		"a status on an upper-case one": {eventOf(built, statusOf("ci", strings.ToUpper(hash))), forge.Event{Kind: forge.StatusWritten, StatusKey: "ci"}, nil},
		"nearly our key":                {eventOf(built, statusOf(ourKey+"xxxxxx", hash)), forge.Event{Kind: forge.StatusWritten, StatusKey: ourKey + "xxxxxx", Commit: hash}, []string{"builds R:" + hash}},
		"our own merge":                 {eventOf("avi:bitbucket:fulfilled:pullrequest", pullRequest7, `"selfGenerated":true`), forge.Event{Kind: forge.PullRequestChanged, PullRequest: 7, SelfGenerated: true}, []string{"evaluate R:7"}},
		"the third try":                 {eventOf("avi:bitbucket:created:pullrequest", pullRequest7, `"retryContext":{"retryData":null,"retryCount":2,"retryReason":"TIMEOUT_ERROR"}`), forge.Event{Kind: forge.PullRequestChanged, PullRequest: 7, Attempt: 3}, []string{"evaluate R:7"}},
		"a try beyond counting":         {eventOf("avi:bitbucket:created:pullrequest", pullRequest7, `"retryContext":{"retryCount":2147483647}`), forge.Event{Kind: forge.PullRequestChanged, PullRequest: 7, Attempt: 100}, []string{"evaluate R:7"}},
		"a try before the first":        {eventOf("avi:bitbucket:created:pullrequest", pullRequest7, `"retryContext":{"retryCount":-9}`), forge.Event{Kind: forge.PullRequestChanged, PullRequest: 7}, []string{"evaluate R:7"}},
		"a retry that is null":          {eventOf("avi:bitbucket:created:pullrequest", pullRequest7, `"retryContext":null`), forge.Event{Kind: forge.PullRequestChanged, PullRequest: 7}, []string{"evaluate R:7"}},
		"a payload beside the event":    {eventOf("avi:bitbucket:created:pullrequest", pullRequest7, `"payload":{"eventType":"x"}`), forge.Event{Kind: forge.PullRequestChanged, PullRequest: 7}, []string{"evaluate R:7"}},
		"bare UUIDs":                    {strings.NewReplacer("{CCCC", "cccc", "0003}", "0003").Replace(eventOf("avi:bitbucket:updated:repository")), forge.Event{Kind: forge.RepositoryChanged}, []string{"reconcile R"}},
	} {
		want := test.want
		want.WorkspaceUUID, want.RepositoryUUID, want.Dated, want.Attempt = workspaceUUID, repoUUID, true, max(want.Attempt, 1)
		got, err := forge.Parse([]byte(test.body))
		want.Name = got.Name
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v\nwant %+v", name, got, err, want)
		}
		if jobs := jobsOf(got); !slices.Equal(jobs, test.jobs) {
			t.Errorf("%s: jobs %q, want %q", name, jobs, test.jobs)
		}
	}
}

// damagedEvents cannot be parsed, and where they name a repository it is known.
var damagedEvents = map[string]struct {
	body       string
	repository string
	unknown    bool
}{
	"nothing":                   {"", "", false},
	"no JSON":                   {"\x00\xff", "", false},
	"a list":                    {"[]", "", false},
	"null":                      {"null", "", false},
	"an empty object":           {"{}", "", false},
	"cut off":                   {eventOf("avi:bitbucket:created:pullrequest", pullRequest7)[:200], "", false},
	"an event of tomorrow":      {eventOf("avi:bitbucket:admired:pullrequest"), repoUUID, true},
	"no name":                   {eventOf(""), repoUUID, true},
	"a name that is a number":   {strings.Replace(eventOf("x"), `"x"`, `7`, 1), repoUUID, false},
	"no pull request":           {eventOf("avi:bitbucket:created:pullrequest"), repoUUID, false},
	"a pull request null":       {eventOf("avi:bitbucket:created:pullrequest", `"pullrequest":null`), repoUUID, false},
	"a pull request in words":   {eventOf("avi:bitbucket:created:pullrequest", `"pullrequest":{"id":"7"}`), repoUUID, false},
	"pull request zero":         {eventOf("avi:bitbucket:created:pullrequest", `"pullrequest":{"id":0}`), repoUUID, false},
	"a push of nothing":         {eventOf("avi:bitbucket:push:repository", `"push":{}`), repoUUID, false},
	"a push that is a list":     {eventOf("avi:bitbucket:push:repository", `"push":[]`), repoUUID, false},
	"a status without key":      {eventOf("avi:bitbucket:created:build-status", `"buildStatus":{"commit":{"hash":"`+hash+`"}}`), repoUUID, false},
	"a commit that is a string": {eventOf("avi:bitbucket:created:build-status", `"buildStatus":{"key":"ci","commit":"`+hash+`"}`), repoUUID, false},
	"no repository":             {strings.Replace(eventOf("avi:bitbucket:updated:repository"), `"repository"`, `"depot"`, 1), "", false},
	"a repository by its slug":  {strings.Replace(eventOf("avi:bitbucket:updated:repository"), "{CCCCCCCC-0000-4000-8000-000000000003}", "rocket", 1), "", false},
	"no workspace":              {strings.Replace(eventOf("avi:bitbucket:updated:repository"), `"workspace"`, `"office"`, 1), repoUUID, false},
	"selfGenerated in words":    {eventOf("avi:bitbucket:created:build-status", statusOf(ourKey, hash), `"selfGenerated":"true"`), repoUUID, false},
	"Latin-1":                   {eventOf("avi:bitbucket:created:pullrequest", pullRequest7, "\"title\":\"\xfc\""), repoUUID, false},
}

func TestDamagedEvents(t *testing.T) {
	t.Parallel()
	for name, test := range damagedEvents {
		got, err := forge.Parse([]byte(test.body))
		if err == nil || errors.Is(err, forge.ErrUnknownEvent) != test.unknown || got.RepositoryUUID != test.repository {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// Whatever comes: what is parsed is whole, and what it asks for fits into the ledger.
func FuzzParse(f *testing.F) {
	for name, test := range subscribed {
		f.Add([]byte(eventOf(name, test.parts...)))
		f.Add([]byte(`{"payload":` + eventOf(name, test.parts...) + `}`))
	}
	for _, test := range damagedEvents {
		f.Add([]byte(test.body))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := forge.Parse(raw)
		if e.Attempt < 1 || e.Attempt > 100 {
			t.Errorf("attempt %d", e.Attempt)
		}
		for _, id := range []string{e.WorkspaceUUID, e.RepositoryUUID} {
			if id != "" && (len(id) != 36 || id != strings.ToLower(id)) {
				t.Errorf("a UUID %q", id)
			}
		}
		if err != nil {
			return
		}
		if !slices.Contains(forge.Events(), e.Name) || e.WorkspaceUUID == "" || e.RepositoryUUID == "" || e.PullRequest < 0 ||
			e.Commit != "" && len(e.Commit) != 40 {
			t.Errorf("parsed %+v", e)
		}
		for _, spec := range e.Jobs() {
			if spec.Workspace != e.WorkspaceUUID || !strings.HasPrefix(spec.Key, e.WorkspaceUUID+"/"+e.RepositoryUUID) || len(spec.Key) > 1100 ||
				strings.Contains(spec.Key, "\x00") || !utf8.ValidString(spec.Key) {
				t.Errorf("asks for %+v", spec)
			}
		}
	})
}
