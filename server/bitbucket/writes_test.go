package bitbucket_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/signedapproval/bitbucket/server/bitbucket"
)

// sent demands exactly one request and returns it with its JSON body.
func sent(t *testing.T, s *server) (received, map[string]any) {
	t.Helper()
	requests := s.received()
	if len(requests) != 1 {
		t.Fatalf("%d requests, want 1", len(requests))
	}
	var body map[string]any
	if requests[0].Body != "" {
		if err := json.Unmarshal([]byte(requests[0].Body), &body); err != nil {
			t.Fatal(err)
		}
	}
	return requests[0], body
}

func sameBody(t *testing.T, got map[string]any, want string) {
	t.Helper()
	var decoded map[string]any
	if err := json.Unmarshal([]byte(want), &decoded); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, decoded) {
		t.Errorf("body %v, want %v", got, decoded)
	}
}

func TestRequestsCarryWhatBitbucketNeeds(t *testing.T) {
	t.Parallel()
	s := serve(t, answer(http.StatusTeapot, "text/plain", ""))
	for _, call := range everyCall(t.Context(), s.client(bitbucket.Config{UserAgent: "Test/1"})) {
		if err := call.run(); err == nil {
			t.Errorf("%s succeeded", call.name)
		}
	}
	requests := s.received()
	if len(requests) == 0 {
		t.Fatal("no requests")
	}
	for _, r := range requests {
		if r.Header.Get("Authorization") != "Bearer "+token || r.Header.Get("User-Agent") != "Test/1" {
			t.Errorf("%s %s: headers %v", r.Method, r.Path, r.Header)
		}
		if strings.Contains(r.Path+r.Query+r.Body, token) {
			t.Errorf("%s %s?%s: the token is not only in the header", r.Method, r.Path, r.Query)
		}
		if (r.Header.Get("Content-Type") == "application/json") != (r.Body != "") {
			t.Errorf("%s %s: content type %q for body %q", r.Method, r.Path, r.Header.Get("Content-Type"), r.Body)
		}
	}
}

func TestPathsAndQueries(t *testing.T) {
	t.Parallel()
	upper := "{" + strings.ToUpper(repoUUID) + "}"
	tests := map[string]struct {
		call  func(context.Context, *bitbucket.Client) error
		path  string
		query url.Values
	}{
		"UUIDs are braced and escaped": {
			func(ctx context.Context, c *bitbucket.Client) error {
				_, err := c.Repository(ctx, workspaceUUID, upper)
				return err
			},
			repoPath,
			url.Values{},
		},
		"slugs stay": {
			func(ctx context.Context, c *bitbucket.Client) error {
				_, err := c.Repository(ctx, "acme", "my-repo")
				return err
			},
			"/2.0/repositories/acme/my-repo",
			url.Values{},
		},
		"a branch is one segment": {
			func(ctx context.Context, c *bitbucket.Client) error {
				_, err := c.Branch(ctx, workspaceUUID, repoUUID, "feature/ä?#%2F")
				return err
			},
			repoPath + "/refs/branches/feature%2F%C3%A4%3F%23%252F",
			url.Values{},
		},
		"a search is quoted": {
			func(ctx context.Context, c *bitbucket.Client) error {
				_, err := c.Repositories(ctx, workspaceUUID, "a\" OR \\\n1", "")
				return err
			},
			"/2.0/repositories/%7B" + workspaceUUID + "%7D",
			url.Values{"pagelen": {"50"}, "sort": {"name"}, "q": {`name ~ "a\" OR \\1"`}},
		},
		"a permission is asked for one user": {
			func(ctx context.Context, c *bitbucket.Client) error {
				_, err := c.RepositoryPermission(ctx, workspaceUUID, repoUUID, userUUID)
				return err
			},
			"/2.0/workspaces/%7B" + workspaceUUID + "%7D/permissions/repositories/%7B" + repoUUID + "%7D",
			url.Values{"pagelen": {"100"}, "q": {`user.uuid="{` + userUUID + `}"`}},
		},
		"only open pull requests": {
			func(ctx context.Context, c *bitbucket.Client) error {
				_, err := collect(c.OpenPullRequests(ctx, workspaceUUID, repoUUID))
				return err
			},
			repoPath + "/pullrequests",
			url.Values{"state": {"OPEN"}, "sort": {"created_on"}, "pagelen": {"50"}},
		},
		"a diff of commits is a topic diff": {
			func(ctx context.Context, c *bitbucket.Client) error {
				_, err := c.Diff(ctx, workspaceUUID, repoUUID, bitbucket.Between(headHash, destHash), 0)
				return err
			},
			repoPath + "/diff/" + headHash + ".." + destHash,
			url.Values{"topic": {"true"}},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, answer(http.StatusTeapot, "text/plain", ""))
			if err := test.call(t.Context(), s.client(bitbucket.Config{})); err == nil {
				t.Fatal("no error")
			}
			got, _ := sent(t, s)
			query, err := url.ParseQuery(got.Query)
			if err != nil {
				t.Fatal(err)
			}
			if got.Path != test.path || !reflect.DeepEqual(query, test.query) {
				t.Errorf("got %s ? %v, want %s ? %v", got.Path, query, test.path, test.query)
			}
		})
	}
}

func TestRefusedBeforeSending(t *testing.T) {
	t.Parallel()
	s := serve(t, answerJSON(`{}`))
	c := s.client(bitbucket.Config{})
	ctx := t.Context()
	good := bitbucket.Status{Key: "k", State: bitbucket.StatusFailed, URL: "https://example.com"}
	put := func(commit string, change func(*bitbucket.Status)) error {
		status := good
		change(&status)
		_, err := c.PutStatus(ctx, "w", "r", commit, status)
		return err
	}
	restrict := func(r bitbucket.BranchRestriction) error {
		_, err := c.CreateBranchRestriction(ctx, "w", "r", r)
		return err
	}
	hook := func(h bitbucket.HookOptions) error { _, err := c.CreateHook(ctx, "w", "r", h); return err }
	second := func(_ any, err error) error { return err }
	tests := map[string]error{
		"empty workspace":         second(c.Repository(ctx, "", "r")),
		"dots as a repository":    second(c.Repository(ctx, "w", "..")),
		"user by name":            second(c.RepositoryPermission(ctx, "w", "r", "alice")),
		"member by name":          second(c.WorkspacePermission(ctx, "w", "alice")),
		"pull request 0":          second(c.PullRequest(ctx, "w", "r", 0)),
		"short prefix":            second(c.ResolveCommit(ctx, "w", "r", "123456")),
		"branch as a prefix":      second(c.ResolveCommit(ctx, "w", "r", "main-branch")),
		"prefix as a hash":        second(c.Commit(ctx, "w", "r", headHash[:12])),
		"merge base of a branch":  second(c.MergeBase(ctx, "w", "r", headHash, "main")),
		"diff of nothing":         second(c.Diff(ctx, "w", "r", bitbucket.DiffSpec{}, 0)),
		"diffstat of nothing":     second(collect(c.DiffStat(ctx, "w", "r", bitbucket.Between("a", "b")))),
		"merge of 0":              second(c.Merge(ctx, "w", "r", 0, bitbucket.MergeOptions{})),
		"merge message":           second(c.Merge(ctx, "w", "r", 1, bitbucket.MergeOptions{Message: strings.Repeat("m", 128<<10+1)})),
		"merge task":              second(c.MergeTask(ctx, "w", "r", 1, "")),
		"status on a prefix":      put(headHash[:12], func(*bitbucket.Status) {}),
		"status without key":      put(headHash, func(s *bitbucket.Status) { s.Key = "" }),
		"status key of 41":        put(headHash, func(s *bitbucket.Status) { s.Key = strings.Repeat("k", 41) }),
		"status of another state": put(headHash, func(s *bitbucket.Status) { s.State = "GREEN" }),
		"status without link":     put(headHash, func(s *bitbucket.Status) { s.URL = "" }),
		"hook without URL":        hook(bitbucket.HookOptions{Events: []string{"repo:push"}}),
		"hook without events":     hook(bitbucket.HookOptions{URL: "https://example.com"}),
		"hook secret of 129":      hook(bitbucket.HookOptions{URL: "https://example.com", Events: []string{"repo:push"}, Secret: strings.Repeat("s", 129)}),
		"restriction of no kind":  restrict(bitbucket.BranchRestriction{MatchKind: bitbucket.MatchGlob, Pattern: "main"}),
		"restriction of nothing":  restrict(bitbucket.BranchRestriction{Kind: "push", MatchKind: bitbucket.MatchGlob}),
		"restriction by nothing":  restrict(bitbucket.BranchRestriction{Kind: "push", Pattern: "main"}),
		"restriction of no type":  restrict(bitbucket.BranchRestriction{Kind: "push", MatchKind: bitbucket.MatchBranchingModel}),
		"restriction for a name":  restrict(bitbucket.BranchRestriction{Kind: "push", MatchKind: bitbucket.MatchGlob, Pattern: "main", Users: []bitbucket.User{{UUID: "alice"}}}),
		"update of no id":         second(c.UpdateBranchRestriction(ctx, "w", "r", bitbucket.BranchRestriction{Kind: "push"})),
		"cursor of nothing":       second(c.Repositories(ctx, "w", "", "!")),
		"cursor without end":      second(c.Repositories(ctx, "w", "", strings.Repeat("A", 8<<10))),
	}
	for name, err := range tests {
		if got := asError(t, err); !errors.Is(err, bitbucket.ErrInvalidArgument) || got.Class() != bitbucket.Permanent {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(s.received()); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestPutStatus(t *testing.T) {
	t.Parallel()
	stored := `{"key":"sa-1","state":"INPROGRESS","url":"u","refname":"feature/x","commit":{"hash":"` + headHash + `"},"author":{"uuid":"{` + strings.ToUpper(userUUID) + `}","type":"user"}}`
	s := serve(t, answer(http.StatusCreated, "application/json", stored))
	got := must(s.client(bitbucket.Config{}).PutStatus(t.Context(), workspaceUUID, repoUUID, headHash, bitbucket.Status{
		Key: "sa-1", State: bitbucket.StatusInProgress, URL: "https://example.com/{repository.full_name}",
		Name: "SignedApproval", Description: strings.Repeat("ü", 300), RefName: "feature/x",
	}))(t)
	if got.Author == nil || got.Author.UUID != userUUID || got.Commit != headHash || got.RefName != "feature/x" {
		t.Errorf("got %+v", got)
	}
	request, body := sent(t, s)
	if request.Method != http.MethodPost || request.Path != repoPath+"/commit/"+headHash+"/statuses/build" {
		t.Errorf("got %s %s", request.Method, request.Path)
	}
	description, _ := body["description"].(string)
	if utf8.RuneCountInString(description) != 255 || !strings.HasSuffix(description, "ü…") {
		t.Errorf("description of %d characters ends in %q", utf8.RuneCountInString(description), description[len(description)-5:])
	}
	delete(body, "description")
	sameBody(t, body, `{"key":"sa-1","state":"INPROGRESS","url":"https://example.com/%7Brepository.full_name%7D","name":"SignedApproval","refname":"feature/x"}`)

	for name, answered := range map[string]string{
		"another state":  strings.Replace(stored, "INPROGRESS", "FAILED", 1),
		"another key":    strings.Replace(stored, "sa-1", "sa-2", 1),
		"another commit": strings.Replace(stored, headHash, destHash, 1),
		"nothing":        `{}`,
	} {
		c := serve(t, answerJSON(answered)).client(bitbucket.Config{})
		_, err := c.PutStatus(t.Context(), workspaceUUID, repoUUID, headHash, bitbucket.Status{Key: "sa-1", State: bitbucket.StatusInProgress, URL: "u"})
		if got := asError(t, err); got.Class() != bitbucket.Transient {
			t.Errorf("%s: %v", name, err)
		}
	}
}

const mergedBody = `{"id":1,"state":"MERGED","merge_commit":{"hash":"1234567890ab"}}`

func TestMerge(t *testing.T) {
	t.Parallel()
	const taskPath = repoPath + "/pullrequests/1/merge/task-status/b6e1-7"
	accepted := func(location string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if location != "" {
				w.Header().Set("Location", strings.Replace(location, "HOST", "http://"+r.Host, 1))
			}
			w.WriteHeader(http.StatusAccepted)
		}
	}
	tests := map[string]struct {
		handle http.HandlerFunc
		task   string
		merged bool
		class  bitbucket.ErrorClass
		is     func(*bitbucket.Error) bool
	}{
		"merged":            {handle: answerJSON(mergedBody), merged: true},
		"accepted":          {handle: accepted("HOST" + taskPath), task: "b6e1-7"},
		"accepted relative": {handle: accepted(taskPath), task: "b6e1-7"},
		"no task":           {handle: accepted(""), class: bitbucket.Transient},
		"not a task":        {handle: accepted("HOST/2.0/user"), class: bitbucket.Transient},
		"still open":        {handle: answerJSON(`{"id":1,"state":"OPEN"}`), class: bitbucket.Transient},
		"another one":       {handle: answerJSON(strings.Replace(mergedBody, `"id":1`, `"id":2`, 1)), class: bitbucket.Transient},
		"lost answer":       {handle: answerJSON(mergedBody[:20]), class: bitbucket.Transient},
		"conflict":          {handle: answer(409, "application/json", ""), class: bitbucket.Permanent, is: (*bitbucket.Error).Conflict},
		"gave up":           {handle: answer(555, "application/json", ""), class: bitbucket.Transient},
		"check": {
			handle: answer(400, "application/json", `{"type":"error","error":{"message":"1 failed merge check"}}`), class: bitbucket.Permanent,
			is: func(e *bitbucket.Error) bool { return e.Status == 400 && e.Message == "1 failed merge check" },
		},
		"not allowed": {handle: answer(403, "application/json", ""), class: bitbucket.Permanent, is: (*bitbucket.Error).Forbidden},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, test.handle)
			got, err := s.client(bitbucket.Config{}).Merge(t.Context(), workspaceUUID, repoUUID, 1, bitbucket.MergeOptions{
				Message: "Merged", Strategy: bitbucket.Squash, CloseSourceBranch: true, Async: true,
			})
			if test.class == "" {
				if err != nil || got.Task != test.task || (got.Merged != nil) != test.merged {
					t.Fatalf("got %+v, %v", got, err)
				}
			} else {
				failure := asError(t, err)
				if failure.Class() != test.class || test.is != nil && !test.is(failure) {
					t.Errorf("got %v of class %s", err, failure.Class())
				}
				if got.Merged != nil || got.Task != "" {
					t.Errorf("an outcome beside the error: %+v", got)
				}
			}
			request, body := sent(t, s)
			if request.Method != http.MethodPost || request.Path != repoPath+"/pullrequests/1/merge" || request.Query != "async=true" {
				t.Errorf("got %s %s?%s", request.Method, request.Path, request.Query)
			}
			sameBody(t, body, `{"type":"pullrequest","message":"Merged","merge_strategy":"squash","close_source_branch":true}`)
		})
	}
}

func TestMergeTask(t *testing.T) {
	t.Parallel()
	ask := func(handle http.HandlerFunc) (bitbucket.MergeOutcome, error) {
		return serve(t, handle).client(bitbucket.Config{}).MergeTask(t.Context(), workspaceUUID, repoUUID, 1, "b6e1-7")
	}
	if got := must(ask(answerJSON(`{"task_status":"PENDING"}`)))(t); got.Task != "b6e1-7" || got.Merged != nil {
		t.Errorf("got %+v", got)
	}
	got := must(ask(answerJSON(`{"task_status":"SUCCESS","merge_result":` + mergedBody + `}`)))(t)
	if got.Merged == nil || *got.Merged.MergeCommit != "1234567890ab" || got.Task != "" {
		t.Errorf("got %+v", got)
	}
	for _, body := range []string{`{"task_status":"SUCCESS"}`, `{"task_status":"SUCCESS","merge_result":{"id":1,"state":"OPEN"}}`, `{"task_status":"ODD"}`, `{}`} {
		if _, err := ask(answerJSON(body)); asError(t, err).Class() != bitbucket.Transient {
			t.Errorf("%s: %v", body, err)
		}
	}
	if _, err := ask(answer(409, "application/json", "")); !asError(t, err).Conflict() {
		t.Errorf("got %v", err)
	}
}

func TestHookSecretIsSentOnlyWhenGiven(t *testing.T) {
	t.Parallel()
	stored := `{"uuid":"{` + hookUUID + `}","url":"https://example.com","active":true,"events":["repo:push"],"secret_set":true}`
	options := bitbucket.HookOptions{Description: "d", URL: "https://example.com", Active: true, Events: []string{"repo:push"}}

	s := serve(t, answerJSON(stored))
	hook := must(s.client(bitbucket.Config{}).UpdateHook(t.Context(), workspaceUUID, repoUUID, hookUUID, options))(t)
	request, body := sent(t, s)
	if hook.UUID != hookUUID || !hook.SecretSet || request.Method != http.MethodPut || request.Path != repoPath+"/hooks/%7B"+hookUUID+"%7D" {
		t.Errorf("got %+v by %s %s", hook, request.Method, request.Path)
	}
	sameBody(t, body, `{"description":"d","url":"https://example.com","active":true,"events":["repo:push"]}`)

	s = serve(t, answer(http.StatusCreated, "application/json", stored))
	options.Secret = "0123456789abcdef"
	must(s.client(bitbucket.Config{}).CreateHook(t.Context(), workspaceUUID, repoUUID, options))(t)
	_, body = sent(t, s)
	if body["secret"] != options.Secret {
		t.Errorf("body %v", body)
	}
}

func TestDeletingWhatIsGoneSucceeds(t *testing.T) {
	t.Parallel()
	for status, succeeds := range map[int]bool{204: true, 404: true, 403: false, 500: false} {
		c := serve(t, answer(status, "text/plain", "")).client(bitbucket.Config{})
		if err := c.DeleteHook(t.Context(), workspaceUUID, repoUUID, hookUUID); (err == nil) != succeeds {
			t.Errorf("hook, %d: %v", status, err)
		}
		if err := c.DeleteBranchRestriction(t.Context(), workspaceUUID, repoUUID, 1); (err == nil) != succeeds {
			t.Errorf("restriction, %d: %v", status, err)
		}
	}
}

func TestBranchRestrictions(t *testing.T) {
	t.Parallel()
	stored := `{"id":7,"kind":"push","branch_match_kind":"glob","pattern":"main","value":null,` +
		`"users":[{"uuid":"{` + userUUID + `}","display_name":"Alice"}],"groups":[{"slug":"devs","name":"Devs"}]}`
	want := bitbucket.BranchRestriction{
		ID: 7, Kind: bitbucket.RestrictPush, MatchKind: bitbucket.MatchGlob, Pattern: "main",
		Users:  []bitbucket.User{{UUID: userUUID, DisplayName: "Alice"}},
		Groups: []bitbucket.Group{{Slug: "devs", Name: "Devs"}},
	}
	s := serve(t, answerJSON(`{"values":[`+stored+`]}`))
	list := must(collect(s.client(bitbucket.Config{}).BranchRestrictions(t.Context(), workspaceUUID, repoUUID)))(t)
	if len(list) != 1 || !reflect.DeepEqual(list[0], want) {
		t.Errorf("got %+v", list)
	}

	s = serve(t, answerJSON(stored))
	got := must(s.client(bitbucket.Config{}).UpdateBranchRestriction(t.Context(), workspaceUUID, repoUUID, want))(t)
	request, body := sent(t, s)
	if !reflect.DeepEqual(got, want) || request.Method != http.MethodPut || request.Path != repoPath+"/branch-restrictions/7" {
		t.Errorf("got %+v by %s %s", got, request.Method, request.Path)
	}
	sameBody(t, body, `{"type":"branchrestriction","kind":"push","branch_match_kind":"glob","pattern":"main",
		"users":[{"type":"user","uuid":"{`+userUUID+`}"}],"groups":[{"type":"group","slug":"devs"}]}`)

	// Nobody is an empty list, not a missing one; other kinds have no lists.
	s = serve(t, answer(http.StatusCreated, "application/json", stored))
	must(s.client(bitbucket.Config{}).CreateBranchRestriction(t.Context(), workspaceUUID, repoUUID,
		bitbucket.BranchRestriction{Kind: bitbucket.RestrictMerges, MatchKind: bitbucket.MatchGlob, Pattern: "main"}))(t)
	_, body = sent(t, s)
	sameBody(t, body, `{"type":"branchrestriction","kind":"restrict_merges","branch_match_kind":"glob","pattern":"main","users":[],"groups":[]}`)

	s = serve(t, answer(http.StatusCreated, "application/json", stored))
	one := 1
	must(s.client(bitbucket.Config{}).CreateBranchRestriction(t.Context(), workspaceUUID, repoUUID,
		bitbucket.BranchRestriction{Kind: bitbucket.RequirePassingBuilds, MatchKind: bitbucket.MatchBranchingModel, BranchType: "release", Value: &one}))(t)
	_, body = sent(t, s)
	sameBody(t, body, `{"type":"branchrestriction","kind":"require_passing_builds_to_merge","branch_match_kind":"branching_model","pattern":"","branch_type":"release","value":1}`)
}

func TestWorkspacePermission(t *testing.T) {
	t.Parallel()
	entry := func(uuid, permission string) string {
		return fmt.Sprintf(`{"permission":%q,"user":{"uuid":"{%s}"}}`, permission, uuid)
	}
	other := entry(repoUUID, "owner")
	for values, want := range map[string]bitbucket.WorkspaceRole{
		"": bitbucket.WorkspaceNone, other: bitbucket.WorkspaceNone,
		other + "," + entry(userUUID, "member"): bitbucket.WorkspaceMember,
		entry(userUUID, "owner"):                bitbucket.WorkspaceOwner,
		entry(userUUID, "collaborator"):         bitbucket.WorkspaceNone,
		entry(userUUID, "emperor"):              bitbucket.WorkspaceNone,
	} {
		c := serve(t, answerJSON(`{"values":[`+values+`]}`)).client(bitbucket.Config{})
		if got := must(c.WorkspacePermission(t.Context(), workspaceUUID, "{"+userUUID+"}"))(t); got != want {
			t.Errorf("%s: %s", values, got)
		}
	}
}

// TestCursorStaysInItsList shows that a cursor carries the search on, and that
// one taken to another workspace lists that workspace and nothing else.
func TestCursorStaysInItsList(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		next := ""
		if r.URL.Query().Get("page") == "" {
			next = "http://" + r.Host + "/2.0/repositories/renamed?" + r.URL.RawQuery + "&page=2"
		}
		body, _ := json.Marshal(map[string]any{"values": []any{map[string]any{"uuid": repoUUID, "full_name": "renamed/r"}}, "next": next})
		_, _ = w.Write(body)
	})
	c := s.client(bitbucket.Config{})
	first := must(c.Repositories(t.Context(), workspaceUUID, "abc", ""))(t)
	if len(first.Repositories) != 1 || first.Next == "" || strings.Contains(first.Next, "http") {
		t.Fatalf("got %+v", first)
	}
	second := must(c.Repositories(t.Context(), workspaceUUID, "", first.Next))(t)
	if second.Next != "" || second.Repositories[0].UUID != repoUUID {
		t.Errorf("got %+v", second)
	}
	requests := s.received()
	if requests[1].Path != requests[0].Path || requests[1].Query != requests[0].Query+"&page=2" {
		t.Errorf("got %+v", requests[1])
	}
}

func TestPermissionAllows(t *testing.T) {
	t.Parallel()
	order := []bitbucket.Permission{bitbucket.PermissionNone, bitbucket.PermissionRead, bitbucket.PermissionWrite, bitbucket.PermissionAdmin}
	for i, have := range order {
		for j, need := range order {
			if got := have.Allows(need); got != (i > 0 && i >= j) {
				t.Errorf("%s allows %s: %v", have, need, got)
			}
		}
		if bitbucket.Permission("emperor").Allows(have) {
			t.Errorf("an unknown permission allows %s", have)
		}
	}
}

func TestPullRequestWithLostParts(t *testing.T) {
	t.Parallel()
	body := `{"id":1,"state":"OPEN","draft":true,"author":null,"source":{"branch":{"name":"x"},"commit":null,"repository":null},
		"destination":{"branch":{"name":"main","merge_strategies":["squash"],"default_merge_strategy":"squash"},"commit":null,"repository":null},
		"merge_commit":null,"closed_by":null,"participants":[{"user":null,"role":"REVIEWER"},{"user":{"account_id":"a"},"approved":true,"state":null,"participated_on":null}]}`
	p := must(serve(t, answerJSON(body)).client(bitbucket.Config{}).PullRequest(t.Context(), workspaceUUID, repoUUID, 1))(t)
	if !p.Draft || p.Source.CommitPrefix != "" || p.Source.Repository != nil || p.Destination.Repository != nil || p.MergeCommit != nil ||
		p.ClosedBy != nil || p.Author != (bitbucket.User{}) || len(p.Participants) != 1 || !p.Participants[0].Approved ||
		p.Destination.DefaultMergeStrategy != bitbucket.Squash || len(p.Destination.MergeStrategies) != 1 {
		t.Errorf("got %+v", p)
	}
}
