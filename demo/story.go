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

func (t *tale) evidence(ctx context.Context) (string, error) {
	r, err := t.alice.Request(ctx, t.place())
	if err != nil {
		return "", err
	}
	bundle, err := t.alice.Get(ctx, r.EvidencePath)
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
	args := []string{"verify", filepath.Join(t.dir, "evidence.json")}
	if _, err := exec.LookPath("git"); err == nil {
		repository := filepath.Join(t.dir, "rocket.git")
		if err := t.exportRepository(ctx, repository); err != nil {
			return "", err
		}
		args = append(args, "--repo", repository)
	}
	out, err := exec.CommandContext(ctx, t.binary, args...).CombinedOutput()
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
