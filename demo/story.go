package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/signedapproval/bitbucket/internal/stage"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// tale is the story of one pull request.
type tale struct {
	*stack
	dir               string
	alice, bob, carol *stage.Person
	workspace         stage.Workspace
	repository        string // Bitbucket's UUID
	head              string
	number            int64
	token             string          // an API token of alice here, that the auditor uses
	watcher           string          // an API token of alice on Bitbucket, to look at builds with
	globex            stage.Workspace // where the Forge app is installed
	probe             string          // its repository
	antenna           stage.Place     // the pull request there
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
		{"bob reads the diff, enrols a passkey and approves", t.decides(func() *stage.Person { return t.bob }, "APPROVE")},
		{"carol rejects", t.decides(func() *stage.Person { return t.carol }, "REJECT")},
		{"Bitbucket shows the build FAILED", t.expect("FAILED")},
		{"carol withdraws her rejection", t.decides(func() *stage.Person { return t.carol }, "WITHDRAW")},
		{"carol approves", t.decides(func() *stage.Person { return t.carol }, "APPROVE")},
		{"Bitbucket shows the build SUCCESSFUL", t.expect("SUCCESSFUL")},
		{"the approved commit is merged, and what landed is checked", t.merged},
		{"alice installs the Forge app in the workspace globex", t.installs},
		{"she makes our merge check required on main, and gates globex/probe: 2 approvals", t.requires},
		{"she presses Bitbucket's Merge button, and Bitbucket refuses", t.presses},
		{"bob and carol approve, and the button merges", t.opens},
		{"an auditor pins who runs the log, who witnesses it, and whose keys are whose", t.anchors},
		{"the auditor takes the evidence", t.evidence},
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
	for name, into := range map[string]**stage.Person{"alice": &t.alice, "bob": &t.bob, "carol": &t.carol} {
		p, err := stage.NewPerson(name, t.origin)
		if err != nil {
			return "", err
		}
		if err := p.SignIn(ctx); err != nil {
			return "", err
		}
		*into = p
	}
	return "", nil
}

func (t *tale) connect(ctx context.Context) (_ string, err error) {
	t.workspace, err = t.alice.Connect(ctx)
	return "", err
}

func (t *tale) gate(ctx context.Context) (_ string, err error) {
	if t.repository, err = t.alice.Repository(ctx, t.workspace, fullName, "rocket"); err != nil {
		return "", err
	}
	approvers, err := t.alice.Accounts(ctx, t.workspace, "Bob", "Carol")
	if err != nil {
		return "", err
	}
	version, err := t.alice.Gate(ctx, t.workspace, t.repository, map[string]any{
		"name": "Releases", "branches": []string{"release/*"},
		"requirements": []any{map[string]any{"name": "Approval", "quorum": 2, "approvers": approvers}},
		"autoMerge":    map[string]any{"strategy": "merge_commit", "messageTemplate": "Merge #{number}: {title}\n\nApproved by {approvers}"},
	})
	return fmt.Sprintf("policy version %d", version), err
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
	return fmt.Sprintf("%s/pr/%s/%s/%d", t.origin, t.workspace.UUID, t.repository, t.number), nil
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

func (t *tale) place() stage.Place {
	return stage.Place{Workspace: t.workspace.UUID, Repository: t.repository, Number: t.number}
}

func (t *tale) decides(who func() *stage.Person, action string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		signed, err := who().Decide(ctx, t.place(), action)
		return "signed " + signed, err
	}
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
		panel, err := t.alice.Panel(ctx, t.place())
		if err != nil || panel == nil || panel.Merge == nil {
			return false, err
		}
		said = panel.Merge.Sentence
		return panel.State == "MERGED" && panel.Merge.State == "MERGED", nil
	})
	return said, err
}

// anchors makes the anchors file by the command that an auditor uses. In life, bob and carol would read
// the fingerprints of their keys out to the auditor now.
func (t *tale) anchors(ctx context.Context) (string, error) {
	secret, _, err := createToken(ctx, t.alice, t.workspace, "READ", "CONFIGURE")
	if err != nil {
		return "", err
	}
	t.token = secret
	return t.audits(ctx, "anchors", "get", "--workspace", t.workspace.UUID, "--witness", t.witness, "--quorum", "1",
		"--force", "-o", filepath.Join(t.dir, "anchors.json"))
}

func (t *tale) evidence(ctx context.Context) (string, error) {
	return t.audits(ctx, "evidence", "get", t.head, "--workspace", t.workspace.UUID, "--repository", t.repository,
		"--force", "-o", filepath.Join(t.dir, "evidence.json"))
}

// audits runs a command that asks the server with alice's token.
func (t *tale) audits(ctx context.Context, args ...string) (string, error) {
	var out strings.Builder
	cmd := t.command(ctx, append(os.Environ(), "SIGNEDAPPROVAL_URL="+t.origin, "SIGNEDAPPROVAL_TOKEN="+t.token), &out, args...)
	cmd.Stderr = &out
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(args[:2], " "), err, out.String())
	}
	return out.String(), nil
}

// verify stops the server first, and starts it again unless the demo ends here.
func (t *tale) verify(ctx context.Context) (string, error) {
	if err := t.stopServer(); err != nil {
		return "", err
	}
	args := []string{"verify", filepath.Join(t.dir, "evidence.json"), "--anchors", filepath.Join(t.dir, "anchors.json")}
	if _, err := exec.LookPath("git"); err == nil {
		repository := filepath.Join(t.dir, "rocket.git")
		if err := t.exportRepository(ctx, repository); err != nil {
			return "", err
		}
		args = append(args, "--repo", repository)
	}
	// Exit code 0: nothing rests on the operator's word that could have been anchored.
	out, err := exec.CommandContext(ctx, t.binary, args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("verify: %w\n%s", err, out)
	}
	if os.Getenv("DEMO") != "once" {
		err = errors.Join(err, t.serve(ctx))
	}
	return string(out), err
}

// createToken makes an API token as the dashboard does, and answers its text and its id.
func createToken(ctx context.Context, p *stage.Person, in stage.Workspace, scopes ...string) (secret, id string, err error) {
	var made struct {
		CreateAPIToken struct {
			APIToken   struct{ ID string }
			Secret     string
			UserErrors []stage.Refusal
		}
	}
	err = p.Ask(ctx, "CreateApiToken", map[string]any{"input": map[string]any{
		"workspaceId": in.ID, "name": "script", "scopes": scopes, "expiresInDays": 7,
	}}, &made)
	if err == nil && len(made.CreateAPIToken.UserErrors) > 0 {
		err = &made.CreateAPIToken.UserErrors[0]
	}
	return made.CreateAPIToken.Secret, made.CreateAPIToken.APIToken.ID, err
}
