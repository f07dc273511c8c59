package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// tale is the story of one pull request.
type tale struct {
	*stack
	dir               string
	alice, bob, carol *browser
	workspaceID       string // node id
	workspace, repo   string // Bitbucket UUIDs
	head              string
	number            int64
	watcher           string // an API token of alice on Bitbucket, to look at builds with
	step              int
	began             time.Time
}

const (
	fullName = "acme/rocket"
	branch   = "feature/nozzle"
	release  = "release/1.0"
)

func (t *tale) play(ctx context.Context) error {
	for _, step := range []struct {
		text string
		do   func(context.Context) (string, error)
	}{
		{"alice, bob and carol sign in with Bitbucket", t.signIn},
		{"alice connects the workspace acme", t.connect},
		{"alice gates acme/rocket: release/* needs 2 approvals, of bob and carol, then merges", t.gate},
		{"alice opens a pull request from " + branch + " into " + release, t.open},
		{"Bitbucket shows the build INPROGRESS on the head commit", t.expect("INPROGRESS")},
		{"bob reads the diff, enrols a passkey and approves", t.decides(func() *browser { return t.bob }, "APPROVE")},
		{"carol rejects", t.decides(func() *browser { return t.carol }, "REJECT")},
		{"Bitbucket shows the build FAILED", t.expect("FAILED")},
		{"carol withdraws her rejection", t.decides(func() *browser { return t.carol }, "WITHDRAW")},
		{"carol approves", t.decides(func() *browser { return t.carol }, "APPROVE")},
		{"Bitbucket shows the build SUCCESSFUL", t.expect("SUCCESSFUL")},
		{"the approved commit is merged, and what landed is checked", t.merged},
		{"an auditor takes the evidence", t.evidence},
		{"the server is stopped, and the evidence verified offline", t.verify},
	} {
		t.step++
		t.began = time.Now()
		result, err := step.do(ctx)
		if err != nil {
			return fmt.Errorf("step %d, %s: %w", t.step, step.text, err)
		}
		fmt.Printf("%2d. %-88s %8s\n", t.step, step.text, since(t.began))
		if result != "" {
			fmt.Printf("    %s\n", strings.ReplaceAll(strings.TrimSpace(result), "\n", "\n    "))
		}
	}
	return nil
}

func (t *tale) signIn(ctx context.Context) (string, error) {
	for name, into := range map[string]**browser{"alice": &t.alice, "bob": &t.bob, "carol": &t.carol} {
		b, err := newBrowser(name, t.origin)
		if err != nil {
			return "", err
		}
		if err := b.signIn(ctx); err != nil {
			return "", err
		}
		*into = b
	}
	return "", nil
}

func (t *tale) connect(ctx context.Context) (string, error) {
	var begun struct {
		BeginConnect struct {
			URL        string
			UserErrors userErrors
		}
	}
	err := t.alice.ask(ctx, "BeginConnect",
		input(map[string]any{"returnTo": "/settings/bitbucket"}), &begun)
	if err = errors.Join(err, begun.BeginConnect.UserErrors.err()); err != nil {
		return "", err
	}
	if err := t.alice.consent(ctx, begun.BeginConnect.URL); err != nil {
		return "", err
	}
	var viewer struct {
		Viewer struct {
			Grants []struct {
				ID         string
				Workspaces []struct{ UUID, Slug string }
			}
		}
	}
	if err := t.alice.ask(ctx, "Grants", nil, &viewer); err != nil {
		return "", err
	}
	if len(viewer.Viewer.Grants) == 0 || len(viewer.Viewer.Grants[0].Workspaces) == 0 {
		return "", errors.New("the consent offers no workspace")
	}
	grant := viewer.Viewer.Grants[0]
	t.workspace = grant.Workspaces[0].UUID
	var connected struct {
		ConnectWorkspace struct {
			Workspace  struct{ ID string }
			UserErrors userErrors
		}
	}
	err = t.alice.ask(ctx, "ConnectWorkspace",
		input(map[string]any{"grantId": grant.ID, "workspaceUuid": t.workspace}), &connected)
	t.workspaceID = connected.ConnectWorkspace.Workspace.ID
	return "", errors.Join(err, connected.ConnectWorkspace.UserErrors.err())
}

func (t *tale) gate(ctx context.Context) (string, error) {
	var repositories struct {
		Workspace struct {
			BitbucketRepositories struct {
				Edges []struct {
					Node struct{ UUID, FullName string }
				}
			}
		}
	}
	if err := t.alice.ask(ctx, "OtherRepositories", map[string]any{"workspace": t.workspace, "search": "rocket"}, &repositories); err != nil {
		return "", err
	}
	var members struct {
		Workspace struct {
			Members struct {
				Edges []struct {
					Node struct{ AccountID, Name string }
				}
			}
		}
	}
	if err := t.alice.ask(ctx, "Members", map[string]any{"workspace": t.workspace}, &members); err != nil {
		return "", err
	}
	var approvers []string
	for _, edge := range members.Workspace.Members.Edges {
		if name := strings.ToLower(edge.Node.Name); strings.HasPrefix(name, "bob") || strings.HasPrefix(name, "carol") {
			approvers = append(approvers, edge.Node.AccountID)
		}
	}
	for _, edge := range repositories.Workspace.BitbucketRepositories.Edges {
		if edge.Node.FullName == fullName {
			t.repo = edge.Node.UUID
		}
	}
	var saved struct {
		SaveRepository struct {
			Repository struct {
				Policy struct{ Version int }
			}
			UserErrors userErrors
		}
	}
	err := t.alice.ask(ctx, "SaveRepository", input(map[string]any{
		"workspaceId": t.workspaceID, "repositoryUuid": t.repo,
		"rules": []any{map[string]any{
			"name": "Releases", "branches": []string{"release/*"},
			"requirements": []any{map[string]any{"name": "Approval", "quorum": 2, "approvers": approvers}},
			"autoMerge":    map[string]any{"strategy": "merge_commit", "messageTemplate": "Merge #{number}: {title}\n\nApproved by {approvers}"},
		}},
	}), &saved)
	return fmt.Sprintf("policy version %d", saved.SaveRepository.Repository.Policy.Version), errors.Join(err, saved.SaveRepository.UserErrors.err())
}

func (t *tale) open(context.Context) (string, error) {
	opened, err := t.sim.OpenPullRequest(bitbucketsim.PullRequest{
		Repository: fullName, Author: "alice", Title: "Add the nozzle", Source: branch, Destination: release,
	})
	if err != nil {
		return "", err
	}
	token, err := t.sim.IssueToken(bitbucketsim.TokenRequest{Person: "alice", Scopes: []string{"pullrequest"}})
	if err != nil {
		return "", err
	}
	t.number, t.head, t.watcher = int64(opened.ID), opened.Head, token.AccessToken
	return fmt.Sprintf("%s/pr/%s/%s/%d", t.origin, t.workspace, t.repo, t.number), nil
}

// bitbucketSays reads from the simulated Bitbucket as alice would with a script.
func (t *tale) bitbucketSays(ctx context.Context, path string, out any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, t.sim.URL()+"/2.0/repositories/"+fullName+path, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+t.watcher)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("bitbucket answers %s", response.Status)
	}
	return json.NewDecoder(response.Body).Decode(out)
}

// patience is how long a step waits for what must follow.
const patience = 30 * time.Second

// until asks again and again.
func until(ctx context.Context, what string, ask func() (bool, error)) error {
	deadline := time.Now().Add(patience)
	for {
		done, err := ask()
		if err != nil || done {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waited %s for %s", patience, what)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (t *tale) expect(state string) func(context.Context) (string, error) {
	return func(ctx context.Context) (said string, err error) {
		err = until(ctx, "the build "+state, func() (bool, error) {
			var page struct {
				Values []struct{ State, Description string }
			}
			if err := t.bitbucketSays(ctx, "/commit/"+t.head+"/statuses", &page); err != nil {
				return false, err
			}
			for _, v := range page.Values {
				if v.State == state {
					said = v.Description
					return true, nil
				}
			}
			return false, nil
		})
		return said, err
	}
}

// request is the open request as the sign page shows it.
type request struct{ ID, HeadCommit, Sentence, EvidencePath string }

func (t *tale) request(ctx context.Context, b *browser) (request, error) {
	var found struct {
		PullRequest *struct{ Request *request }
	}
	if err := b.ask(ctx, "Sign", t.pullRequest(), &found); err != nil {
		return request{}, err
	}
	if found.PullRequest == nil || found.PullRequest.Request == nil {
		return request{}, errors.New("there is no request")
	}
	return *found.PullRequest.Request, nil
}

func (t *tale) pullRequest() map[string]any {
	return map[string]any{"workspace": t.workspace, "repository": t.repo, "number": t.number}
}

// shown is the diff that the sign page renders.
type shown struct{ Content, Sha256 string }

func (t *tale) change(ctx context.Context, b *browser, requestID string) (shown, error) {
	var found struct {
		Node struct{ Diff shown }
	}
	err := b.ask(ctx, "Change", map[string]any{"id": requestID}, &found)
	return found.Node.Diff, err
}

// decides is what the sign page does: show, check, enrol where needed, sign, submit.
func (t *tale) decides(who func() *browser, action string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		b := who()
		r, err := t.request(ctx, b)
		if err != nil {
			return "", err
		}
		diff, err := t.change(ctx, b, r.ID)
		if err != nil {
			return "", err
		}
		rendered, err := base64.StdEncoding.DecodeString(diff.Content)
		if err != nil {
			return "", err
		}
		digest := sha256.Sum256(rendered)
		if hex.EncodeToString(digest[:]) != diff.Sha256 {
			return "", errors.New("the diff is not what its digest says")
		}
		draft := input(map[string]any{"requestId": r.ID, "action": action, "headCommit": r.HeadCommit, "diffSha256": diff.Sha256})
		statement, options, err := t.prepare(ctx, b, draft)
		if err == nil && options == "" {
			if err = enrol(ctx, b); err == nil {
				statement, options, err = t.prepare(ctx, b, draft)
			}
		}
		if err != nil {
			return "", err
		}
		if !bytes.Contains(statement, []byte(r.HeadCommit)) {
			return "", errors.New("the statement names another commit than the one shown")
		}
		answer, err := b.key.Get([]byte(options))
		if err != nil {
			return "", err
		}
		var submitted struct {
			SubmitDecision struct {
				Decision   struct{ StatementSha256 string }
				UserErrors userErrors
			}
		}
		err = b.ask(ctx, "SubmitDecision",
			input(map[string]any{"requestId": r.ID, "response": string(answer)}), &submitted)
		return "signed " + submitted.SubmitDecision.Decision.StatementSha256, errors.Join(err, submitted.SubmitDecision.UserErrors.err())
	}
}

func (t *tale) prepare(ctx context.Context, b *browser, draft any) (statement []byte, options string, err error) {
	var prepared struct {
		PrepareDecision struct {
			Statement, Options string
			UserErrors         userErrors
		}
	}
	err = b.ask(ctx, "PrepareDecision", draft, &prepared)
	if err = errors.Join(err, prepared.PrepareDecision.UserErrors.err()); err != nil {
		return nil, "", err
	}
	statement, err = base64.RawURLEncoding.DecodeString(prepared.PrepareDecision.Statement)
	return statement, prepared.PrepareDecision.Options, err
}

func enrol(ctx context.Context, b *browser) error {
	var begun struct {
		BeginPasskey struct {
			Options    string
			UserErrors userErrors
		}
	}
	err := b.ask(ctx, "BeginPasskey",
		input(map[string]any{"name": b.name + "'s key"}), &begun)
	if err = errors.Join(err, begun.BeginPasskey.UserErrors.err()); err != nil {
		return err
	}
	made, err := b.key.Create([]byte(begun.BeginPasskey.Options))
	if err != nil {
		return err
	}
	var finished struct {
		FinishPasskey struct{ UserErrors userErrors }
	}
	err = b.ask(ctx, "FinishPasskey",
		input(map[string]any{"name": b.name + "'s key", "response": string(made)}), &finished)
	return errors.Join(err, finished.FinishPasskey.UserErrors.err())
}

func (t *tale) merged(ctx context.Context) (said string, err error) {
	err = until(ctx, "the merge", func() (bool, error) {
		var pr struct {
			State       string
			MergeCommit struct{ Hash string } `json:"merge_commit"`
		}
		if err := t.bitbucketSays(ctx, fmt.Sprintf("/pullrequests/%d", t.number), &pr); err != nil {
			return false, err
		}
		said = "landed as " + pr.MergeCommit.Hash
		return pr.State == "MERGED", nil
	})
	if err != nil {
		return "", err
	}
	err = until(ctx, "the record of the merge", func() (bool, error) {
		var found struct {
			PullRequest struct {
				State string
				Merge struct{ State, Sentence string }
			}
		}
		err := t.alice.ask(ctx, "Panel", t.pullRequest(), &found)
		said = found.PullRequest.Merge.Sentence
		return found.PullRequest.State == "MERGED" && found.PullRequest.Merge.State == "MERGED", err
	})
	return said, err
}

func (t *tale) evidence(ctx context.Context) (string, error) {
	r, err := t.request(ctx, t.alice)
	if err != nil {
		return "", err
	}
	_, bundle, err := t.alice.do(ctx, http.MethodGet, t.origin+r.EvidencePath, "", "", nil)
	if err != nil {
		return "", err
	}
	path := filepath.Join(t.dir, "evidence.json")
	return fmt.Sprintf("%s, %d bytes", path, len(bundle)), os.WriteFile(path, bundle, 0o644)
}

// verify stops the server first, and starts it again unless the demo ends here.
func (t *tale) verify(ctx context.Context) (string, error) {
	if err := t.stopServer(); err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, t.binary, "verify", filepath.Join(t.dir, "evidence.json")).CombinedOutput()
	var exited *exec.ExitError
	// 2: consistent, but a stranger who pinned nothing has to believe the operator in what the last
	// line lists.
	if errors.As(err, &exited) && exited.ExitCode() == 2 {
		err = nil
	}
	if os.Getenv("DEMO") != "once" {
		err = errors.Join(err, t.serve(ctx))
	}
	return string(out), err
}

func input(fields map[string]any) map[string]any { return map[string]any{"input": fields} }
