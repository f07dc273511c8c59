package gate_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/passkey"
	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
	"github.com/signedapproval/bitbucket/server/store"
)

// rest calls the simulated Bitbucket as alice, beside our own client.
func (w *world) rest(method, path string, body any) {
	w.t.Helper()
	token, err := w.sim.IssueToken(bitbucketsim.TokenRequest{Person: "alice"})
	w.must(err)
	raw, err := json.Marshal(body)
	w.must(err)
	request, err := http.NewRequestWithContext(w.t.Context(), method, w.sim.URL()+"/2.0/repositories/"+rocket+path, bytes.NewReader(raw))
	w.must(err)
	request.Header.Set("Authorization", "Bearer "+token.AccessToken)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	w.must(err)
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode >= 400 {
		text, _ := io.ReadAll(response.Body)
		w.t.Fatalf("%s %s: %s %s", method, path, response.Status, text)
	}
}

func (w *world) edit(number int64, fields map[string]any) {
	w.t.Helper()
	w.rest("PUT", fmt.Sprintf("/pullrequests/%d", number), fields)
}

func (w *world) post(number int64, what string, body any) {
	w.t.Helper()
	w.rest("POST", fmt.Sprintf("/pullrequests/%d/%s", number, what), body)
}

// rewind force-pushes a branch back to a commit.
func (w *world) rewind(branch, commit string) {
	w.t.Helper()
	_, err := w.sim.Push(bitbucketsim.Push{Repository: rocket, Branch: branch, Person: "alice", From: commit, Force: true})
	w.must(err)
}

// openSilently opens a pull request whose webhook is lost.
func (w *world) openSilently() {
	w.t.Helper()
	_, err := w.sim.OpenPullRequest(bitbucketsim.PullRequest{Repository: rocket, Author: "alice", Title: "Add the nozzle", Source: feature, Destination: release})
	w.must(err)
}

// calls counts the calls that Bitbucket got.
func (w *world) calls(method, path string) (n int) {
	pattern := regexp.MustCompile(path)
	for _, c := range w.sim.Calls(0) {
		if c.Method == method && pattern.MatchString(c.Path) {
			n++
		}
	}
	return n
}

func (w *world) alarmed(kind string) {
	w.t.Helper()
	w.in(func(tx *store.Tx) error {
		alarms, err := tx.OpenAlarms(w.t.Context())
		for _, a := range alarms {
			if a.Kind == kind {
				return err
			}
		}
		w.t.Errorf("no alarm %s among %d", kind, len(alarms))
		return err
	})
}

// waitMerged drains until the merge has come to its end: Bitbucket's task takes its time.
func (w *world) waitMerged(number int64) {
	w.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		w.settle()
		v := w.view(number)
		if v.Merge != nil && (v.Merge.State == store.MergeMerged || v.Merge.State == store.MergeRefused) {
			w.settle()
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("no merge: %+v", v.Merge)
		}
		w.sql(`update signedapproval_jobs set run_at = now() where kind = 'merge' and state = 'READY'`)
	}
}

// allowing names another person's keys in the options for an authenticator.
func allowing(w *world, options []byte, who string) []byte {
	w.t.Helper()
	var keys []any
	w.must(w.store.Outside(w.t.Context(), func(sh *store.Shared) error {
		credentials, err := sh.Credentials(w.t.Context(), w.people[who].ID)
		for _, c := range credentials {
			keys = append(keys, map[string]any{"type": "public-key", "id": base64.RawURLEncoding.EncodeToString(c.ID)})
		}
		return err
	}))
	return withKeys(w, options, keys)
}

// stranger makes a key that nobody here knows, and options that ask it.
func stranger(w *world, options []byte) (key *passkeytest.Authenticator, asking []byte) {
	w.t.Helper()
	key = passkeytest.New(origin)
	enrolment, session, err := w.ceremonies.BeginRegistration(passkey.User{ID: []byte("stranger"), Name: "s", DisplayName: "s"}, nil)
	w.must(err)
	answer, err := key.Create(enrolment)
	w.must(err)
	made, err := w.ceremonies.FinishRegistration(session, answer)
	w.must(err)
	return key, withKeys(w, options, []any{map[string]any{"type": "public-key", "id": base64.RawURLEncoding.EncodeToString(made.CredentialID)}})
}

func withKeys(w *world, options []byte, keys []any) []byte {
	w.t.Helper()
	var fields map[string]any
	w.must(json.Unmarshal(options, &fields))
	fields["allowCredentials"] = keys
	changed, err := json.Marshal(fields)
	w.must(err)
	return changed
}

func verify(bundle []byte) evidence.Report { return evidence.Verify(bundle, evidence.Anchors{}) }
