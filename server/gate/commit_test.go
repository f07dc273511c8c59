package gate_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/refusal"
)

func (w *world) requestOf(who, commit string, scope gate.CommitScope) (string, error) {
	w.t.Helper()
	found, err := w.gate.RequestOfCommit(w.t.Context(), w.people[who].Person, w.workspace, commit, scope)
	return found.RequestID, err
}

func TestTheRequestOfACommit(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	number := w.open()
	w.settle()
	v := w.view(number)
	head, request := v.PullRequest.HeadCommit, v.Request.ID
	w.decides(number, "bob", approval.Approve)
	w.settle()
	w.post(number, "merge", map[string]any{"type": "pullrequest", "merge_strategy": "squash"})
	w.event(number)
	w.settle()
	branch, err := w.client.Branch(t.Context(), w.workspace, w.repository, release)
	w.must(err)
	if branch.Head == head {
		t.Fatal("a squash landed the head itself")
	}
	braced := "{" + strings.ToUpper(w.repository) + "}"
	for _, commit := range []string{head, branch.Head} {
		for _, scope := range []gate.CommitScope{{}, {Repository: w.repository}, {Repository: braced, Branch: release}} {
			if got, err := w.requestOf("bob", commit, scope); err != nil || got != request {
				t.Errorf("%s in %+v belongs to %q (%v), want %q", commit, scope, got, err, request)
			}
		}
		for _, scope := range []gate.CommitScope{{Repository: uuid.NewString()}, {Branch: "main"}} {
			if got, err := w.requestOf("bob", commit, scope); refusal.Code(err) != refusal.NotFound {
				t.Errorf("%s in %+v belongs to %q (%v)", commit, scope, got, err)
			}
		}
	}
	for commit, code := range map[string]string{
		strings.Repeat("0", 40): refusal.NotFound, head[:12]: refusal.BadInput, strings.ToUpper(head): refusal.BadInput, "main": refusal.BadInput, "": refusal.BadInput,
	} {
		if got, err := w.requestOf("bob", commit, gate.CommitScope{}); refusal.Code(err) != code {
			t.Errorf("%q: %q %v, want %s", commit, got, err, code)
		}
	}
	if _, err := w.requestOf("bob", head, gate.CommitScope{Repository: "rocket"}); refusal.Code(err) != refusal.BadInput {
		t.Errorf("a slug: %v", err)
	}
	for _, workspace := range []string{uuid.NewString(), "acme", ""} {
		if _, err := w.gate.RequestOfCommit(t.Context(), w.people["bob"].Person, workspace, head, gate.CommitScope{}); refusal.Code(err) != refusal.NotFound {
			t.Errorf("in workspace %q: %v", workspace, err)
		}
	}
	w.rights[w.people["bob"].ID] = bitbucket.PermissionNone
	if _, err := w.requestOf("bob", head, gate.CommitScope{}); refusal.Code(err) != refusal.NotFound {
		t.Errorf("without permission: %v", err)
	}
}

// TestACommitOfSeveralRepositories gives another repository the same request's commit, as a fork has it.
func TestACommitOfSeveralRepositories(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	number := w.open()
	w.settle()
	v := w.view(number)
	fork := uuid.NewString()
	w.sql(`insert into signedapproval_pull_requests (workspace_id, id, repository_id, number, title, state, draft, author_account_id, author_name,
			source_branch, head_commit, destination_branch, status_key, chain_id)
		select workspace_id, $2, $3, number, title, state, draft, author_account_id, author_name, source_branch, head_commit, destination_branch, 'other', 'other'
		from signedapproval_pull_requests where id = $1`, v.PullRequest.ID, fork, fork)
	w.sql(`insert into signedapproval_approval_requests (workspace_id, id, pull_request_id, round, head_commit, destination_branch, policy_version_id,
			rule, rule_digest, state, sentence, verdict, facts, requested_at, expires_at)
		select workspace_id, $2, $2, round, head_commit, destination_branch, policy_version_id, rule, rule_digest, state, sentence, verdict, facts, requested_at, expires_at
		from signedapproval_approval_requests where id = $1`, v.Request.ID, fork)
	head := v.PullRequest.HeadCommit
	if got, err := w.requestOf("bob", head, gate.CommitScope{}); refusal.Code(err) != gate.CodeAmbiguousCommit {
		t.Errorf("ambiguous: %q %v", got, err)
	}
	for repository, want := range map[string]string{w.repository: v.Request.ID, fork: fork} {
		if got, err := w.requestOf("bob", head, gate.CommitScope{Repository: repository}); err != nil || got != want {
			t.Errorf("%s: %q %v, want %q", repository, got, err, want)
		}
	}
}
