package forge_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/forge"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

const (
	aboutPull12 = `"workspace":{"uuid":"{` + workspaceUUID + `}"},"repository":{"uuid":"{` + repoUUID + `}"},"pullrequest":{"id":12}`
	merging     = `"mergeProperties":{"commitMessage":"Merged","commitMessageTruncated":false,"mergeStrategy":"merge_commit","closeSourceBranch":true}`
	question    = `{` + aboutPull12 + `,"trigger":{"type":"on-merge"},` + merging + `}`
)

// said demands an answer of the merge check, and gives its sentence.
func said(t *testing.T, got reply, success bool) string {
	t.Helper()
	if got.status != http.StatusOK || got.success == nil || *got.success != success || got.message == "" {
		t.Fatalf("answered %d %s, success %v, %q", got.status, got.code, got.success, got.message)
	}
	return got.message
}

func TestMergeCheck(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	for name, test := range map[string]struct{ body, module, asked string }{
		"somebody merges":                 {question, "merge-check-ep", `merge check W R 12 ON_MERGE ""`},
		"wrapped":                         {`{"payload":` + question + `}`, "merge-check-on-merge", `merge check W R 12 ON_MERGE ""`},
		"somebody merges, named wrongly":  {`{` + aboutPull12 + `,"trigger":{"type":"on-code-pushed"},` + merging + `}`, "merge-check-ep", `merge check W R 12 ON_MERGE ""`},
		"somebody merges, without saying": {`{` + aboutPull12 + `}`, "merge-check-on-merge", `merge check W R 12 ON_MERGE ""`},
		"somebody pushed":                 {`{` + aboutPull12 + `,"trigger":{"type":"on-code-pushed"}}`, "merge-check-ep", `merge check W R 12 PRE_MERGE ""`},
		"a review":                        {`{` + aboutPull12 + `,"trigger":{"type":"on-reviewer-status-changed"},"mergeProperties":null}`, "merge-check-pre-merge", `merge check W R 12 PRE_MERGE ""`},
		"a trigger of tomorrow":           {`{` + aboutPull12 + `,"trigger":{"type":"on-admired"}}`, "merge-check-ep", `merge check W R 12 PRE_MERGE ""`},
		"no trigger":                      {`{` + aboutPull12 + `}`, "merge-check-ep", `merge check W R 12 PRE_MERGE ""`},
		"a body that says who, and is not believed": {`{` + aboutPull12 + `,"principal":"712020:b","actor":{"accountId":"712020:b"}}`, "merge-check-ep", `merge check W R 12 PRE_MERGE ""`},
	} {
		r := b.request(t, "merge-check", []byte(test.body))
		from(test.module)(b, r)
		if got := said(t, send(t, r), true); got != "2 of 2 approvals." {
			t.Errorf("%s: said %q", name, got)
		}
		observed, called := b.seen()
		if !slices.Equal(called, []string{"invoked W with token for 3h0m0s", test.asked}) || !slices.Equal(observed, []string{"merge-check allowed"}) {
			t.Errorf("%s: observed %q, called %q", name, observed, called)
		}
	}
	// Who asks is in the token.
	r := b.request(t, "merge-check", []byte(question))
	token(func(_ *bench, c claims) { c["principal"] = "712020:a" })(b, r)
	said(t, send(t, r), true)
	if _, called := b.seen(); !slices.Contains(called, `merge check W R 12 ON_MERGE "712020:a"`) {
		t.Errorf("called %q", called)
	}
	b.set(func(b *bench) {
		b.answer = func(context.Context, gate.MergeQuestion) gate.MergeAnswer {
			return gate.MergeAnswer{Message: "0 of 2 approvals.", Code: gate.CodeCheckPending}
		}
	})
	if got := said(t, b.deliver(t, "merge-check", []byte(question)), false); got != "0 of 2 approvals." {
		t.Errorf("said %q", got)
	}
	if observed, _ := b.seen(); !slices.Equal(observed, []string{"merge-check denied"}) {
		t.Errorf("observed %q", observed)
	}
}

// Once the token is good, whatever is wrong is a "no" with a sentence, and the gate is not asked.
func TestMergeChecksThatAreDenied(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	text := func(s string) change { return body([]byte(s)) }
	for name, test := range map[string]struct {
		change   change
		sentence string
		outcome  string
		invoked  bool
	}{
		"no JSON":                 {text("<"), "could not be understood", forge.OutcomeDenied, true},
		"nothing":                 {text(""), "could not be understood", forge.OutcomeDenied, true},
		"a list":                  {text("[]"), "could not be understood", forge.OutcomeDenied, true},
		"no pull request":         {text(strings.Replace(question, `"pullrequest"`, `"pr"`, 1)), "could not be understood", forge.OutcomeDenied, true},
		"a pull request in words": {text(strings.Replace(question, `12`, `"12"`, 1)), "could not be understood", forge.OutcomeDenied, true},
		"a negative pull request": {text(strings.Replace(question, `12`, `-12`, 1)), "could not be understood", forge.OutcomeDenied, true},
		"no repository":           {text(strings.Replace(question, repoUUID, "rocket", 1)), "could not be understood", forge.OutcomeDenied, true},
		"no workspace":            {text(strings.Replace(question, workspaceUUID, "acme", 1)), "could not be understood", forge.OutcomeDenied, true},
		"another workspace":       {text(strings.Replace(question, workspaceUUID, otherUUID, 1)), "another workspace", forge.OutcomeForbidden, true},
		"an event":                {body(opened[:len(opened)-1]), "could not be understood", forge.OutcomeDenied, true},
		"text":                    {header("Content-Type", "text/plain"), "could not be understood", forge.OutcomeMalformed, true},
		"compressed":              {header("Content-Encoding", "br"), "could not be understood", forge.OutcomeMalformed, true},
		"too large":               {body(bytes.Repeat([]byte(" "), 1<<20+1)), "could not be understood", forge.OutcomeMalformed, true},
		"a page's call":           {from("ui-ep"), "does not come from the merge check", forge.OutcomeForbidden, false},
		"the panel's call":        {from("pr-panel"), "does not come from the merge check", forge.OutcomeForbidden, false},
		"an event's call":         {from("events-ep"), "does not come from the merge check", forge.OutcomeForbidden, false},
		"an installation that is over": {func(b *bench, _ *http.Request) {
			b.set(func(b *bench) { b.installation.State = store.InstallationUninstalled })
		}, "no longer installed", forge.OutcomeDenied, true},
		"the database is away": {func(b *bench, _ *http.Request) { b.set(func(b *bench) { b.fail["invoked"] = errors.New("sesame") }) }, "could not be checked just now", forge.OutcomeTurnedAway, true},
		"an installation refused": {func(b *bench, _ *http.Request) {
			b.set(func(b *bench) { b.fail["invoked"] = refusal.New("NO_MORE", "There is no more.") })
		}, "There is no more.", forge.OutcomeForbidden, true},
	} {
		// One after the other: what was observed is each one's own.
		t.Run(name, func(t *testing.T) {
			r := b.request(t, "merge-check", []byte(question))
			test.change(b, r)
			if got := said(t, send(t, r), false); !strings.Contains(got, test.sentence) {
				t.Errorf("said %q", got)
			}
			observed, called := b.seen()
			want := []string{"invoked W with token for 3h0m0s"}
			if !test.invoked {
				want = nil
			}
			if !slices.Equal(called, want) || !slices.Equal(observed, []string{"merge-check " + test.outcome}) {
				t.Errorf("observed %q, called %q", observed, called)
			}
			b.set(func(b *bench) {
				b.installation.State = store.InstallationActive
				maps.DeleteFunc(b.fail, func(string, error) bool { return true })
			})
		})
	}
	got := send(t, func() *http.Request {
		r := b.request(t, "merge-check", []byte(question))
		r.Method = http.MethodGet
		return r
	}())
	if got.status != http.StatusMethodNotAllowed {
		t.Errorf("got: answered %d", got.status)
	}
	nothingSecret(t, b)
}

// A gate that breaks down or does not answer has not said yes.
func TestGateThatFails(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	b.set(func(b *bench) {
		b.answer = func(context.Context, gate.MergeQuestion) gate.MergeAnswer { panic("sesame") }
	})
	if got := said(t, b.deliver(t, "merge-check", []byte(question)), false); !strings.Contains(got, "just now") || strings.Contains(got, "sesame") {
		t.Errorf("said %q", got)
	}

	b = setup(t, nil, func(o *forge.Options) { o.Patience = 200 * time.Millisecond })
	b.deliver(t, "merge-check", []byte(question)) // the keys are fetched
	release := make(chan struct{})
	defer close(release)
	b.set(func(b *bench) {
		b.answer = func(context.Context, gate.MergeQuestion) gate.MergeAnswer {
			<-release
			return gate.MergeAnswer{Success: true, Message: "Too late."}
		}
	})
	if got := said(t, b.deliver(t, "merge-check", []byte(question)), false); strings.Contains(got, "Too late") {
		t.Errorf("said %q", got)
	}
	b.set(func(b *bench) {
		b.answer = func(ctx context.Context, _ gate.MergeQuestion) gate.MergeAnswer {
			<-ctx.Done()
			return gate.MergeAnswer{Message: "It takes too long."}
		}
	})
	said(t, b.deliver(t, "merge-check", []byte(question)), false)
}
