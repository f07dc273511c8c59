package gate_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/gate"
)

// loseAuthor has Bitbucket name no author of a pull request any more, as when the account was deleted.
func (w *world) loseAuthor(number int64) {
	w.t.Helper()
	token, err := w.sim.IssueToken(bitbucketsim.TokenRequest{Person: "alice"})
	w.must(err)
	at := fmt.Sprintf("/2.0/repositories/%s/pullrequests/%d", rocket, number)
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.sim.URL()+at, http.NoBody)
	w.must(err)
	request.Header.Set("Authorization", "Bearer "+token.AccessToken)
	response, err := http.DefaultClient.Do(request)
	w.must(err)
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	w.must(err)
	var fields map[string]any
	w.must(json.Unmarshal(raw, &fields))
	fields["author"] = nil
	body, err := json.Marshal(fields)
	w.must(err)
	w.answersWith(http.MethodGet, `/pullrequests/\d+$`, http.StatusOK, string(body))
	w.event(number)
	w.settle()
}

// TestTheAuthorsAccountIsGone: the author of a pull request never changes. Evidence holds though Bitbucket does not know the account any
// more when the second approval comes.
func TestTheAuthorsAccountIsGone(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(2, "bob", "carol"))
	number := w.open()
	w.settle()
	head := w.view(number).PullRequest.HeadCommit
	w.decides(number, "bob", approval.Approve)
	w.settle()
	w.loseAuthor(number)
	w.decides(number, "carol", approval.Approve)
	w.settle()
	w.expect(number, head, "SUCCESSFUL", "approved by Bob and Carol")
	if report := evidence.Verify(w.bundle(number), w.anchors()); report.ExitCode() != 0 {
		t.Errorf("the evidence: %s", report.Sentence())
	}
}

// TestAnAuthorWhoIsNotNamedCannotApprove: that a fact is missing for a moment counts for nothing.
func TestAnAuthorWhoIsNotNamedCannotApprove(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "alice", "carol"))
	number := w.open()
	w.settle()
	head := w.view(number).PullRequest.HeadCommit
	w.loseAuthor(number)
	_, err := w.decide(number, "alice", approval.Approve)
	w.refused("the author's approval", err, gate.CodeAuthor)
	w.settle()
	w.expect(number, head, "INPROGRESS", "0 of 1 approval; waiting for Carol")
}

// TestTheAuthorIsErasedWhileItIsOpen: who approves afterwards signs the author that the tally is given, whether Bitbucket still names
// the account or not.
func TestTheAuthorIsErasedWhileItIsOpen(t *testing.T) {
	for name, gone := range map[string]bool{"and Bitbucket still names the account": false, "and the account is gone": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.keys.Redact = w.gate.Redact
			w.save(w.rule(1, "bob", "carol"))
			number := w.open()
			w.settle()
			head := w.view(number).PullRequest.HeadCommit
			if gone {
				w.loseAuthor(number)
			}
			anchors := w.anchors()
			_, prepared := w.prepared(number, "bob", approval.Approve)
			_, err := w.keys.Erase(t.Context(), w.people["alice"].AccountID)
			w.must(err)
			var request string
			w.must(w.super.QueryRow(t.Context(), `select id::text from signedapproval_approval_requests`).Scan(&request))
			bob := w.people["bob"]
			w.rights[bob.ID] = "write"
			w.people["alice"] = bob // who looks
			_, err = w.gate.Decide(t.Context(), bob.Person, bob.session, w.workspace, request, w.signed(bob.key, prepared))
			w.refused("what names the author of before", err, gate.CodeHeadChanged)
			if !gone {
				_, err := w.decide(number, "bob", approval.Approve)
				w.refused("before anybody has looked at the pull request again", err, gate.CodeHeadChanged)
				w.settle()
			}
			w.decides(number, "bob", approval.Approve)
			w.settle()
			w.expect(number, head, "SUCCESSFUL", "approved by Bob")
			data, err := w.gate.Bundle(t.Context(), bob.Person, w.workspace, request)
			w.must(err)
			if report := evidence.Verify(data, anchors); report.ExitCode() == 1 {
				t.Errorf("the evidence: %s", report.Sentence())
			}
		})
	}
}

// TestNobodyDecidesWithoutAnAuthor: Bitbucket names the author for the first time when people have looked at the pull request already.
func TestNobodyDecidesWithoutAnAuthor(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(2, "bob", "carol"))
	opened, err := w.sim.OpenPullRequest(bitbucketsim.PullRequest{Repository: rocket, Author: "alice", Title: "Add the nozzle", Source: feature, Destination: release})
	w.must(err)
	number := int64(opened.ID)
	w.loseAuthor(number)
	head := w.view(number).PullRequest.HeadCommit
	for _, action := range []approval.Action{approval.Approve, approval.Reject} {
		_, err := w.decide(number, "bob", action)
		w.refused("a decision about somebody's pull request", err, gate.CodeNoAuthor)
	}
	w.sim.ClearFaults()
	w.event(number)
	w.settle()
	w.decides(number, "bob", approval.Approve)
	w.decides(number, "carol", approval.Approve)
	w.settle()
	w.expect(number, head, "SUCCESSFUL", "approved by Bob and Carol")
	if report := evidence.Verify(w.bundle(number), w.anchors()); report.ExitCode() != 0 {
		t.Errorf("the evidence: %s", report.Sentence())
	}
}
