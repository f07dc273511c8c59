package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/signedapproval/bitbucket/descriptor"
	"github.com/signedapproval/bitbucket/internal/stage"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

const (
	appID = "ari:cloud:ecosystem::app/5a16ed00-4d0e-4c1b-8d0a-5161ed000001"
	// pages is where "npm run build:forge" puts them, below the top of the repository.
	pages = "frontend/dist-forge"
)

// deployApp deploys the Forge app to the simulated Bitbucket, as "forge deploy" would: the manifest of
// descriptor/, and the pages, which are told where the server is.
func (s *stack) deployApp(dir string) error {
	manifest, err := descriptor.Render(descriptor.Environment{AppID: appID, Origin: s.origin})
	if err != nil {
		return err
	}
	folder := filepath.Join(dir, "forge")
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	for _, name := range []string{"panel", "dashboard"} {
		if err := s.placePages(filepath.Join(folder, "static", name), name); err != nil {
			return err
		}
	}
	path := filepath.Join(folder, "manifest.yml")
	if err := os.WriteFile(path, []byte(manifest), 0o600); err != nil {
		return err
	}
	if _, err := s.sim.RegisterForgeApp(bitbucketsim.ForgeApp{Manifest: path, RemoteURL: s.origin}); err != nil {
		return fmt.Errorf("deploy the app: %w", err)
	}
	origins := []string{}
	for _, app := range s.sim.ForgeApps() {
		origins = append(origins, app.FrameOrigin)
	}
	s.env = append(s.env, "SIGNEDAPPROVAL_FORGE_APP_ID="+appID, "SIGNEDAPPROVAL_FORGE_JWKS_URL="+s.sim.URL()+bitbucketsim.JWKSPath,
		"SIGNEDAPPROVAL_FORGE_API_HOSTS="+s.sim.URL(), "SIGNEDAPPROVAL_FORGE_FRAME_ORIGINS="+strings.Join(origins, ","))
	return nil
}

// placePages copies the pages of one resource, and writes the server's origin into them.
func (s *stack) placePages(to, name string) error {
	top, err := repository()
	if err != nil {
		return err
	}
	built := filepath.Join(top, pages, name)
	if _, err := os.Stat(filepath.Join(built, "index.html")); errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, "index.html"), []byte("<!doctype html><title>Not built</title><p>npm run build:forge builds this page.</p>"), 0o600)
	}
	if err := os.CopyFS(to, os.DirFS(built)); err != nil {
		return err
	}
	index := filepath.Join(to, "index.html")
	html, err := os.ReadFile(index)
	if err != nil {
		return err
	}
	const empty = `<meta name="signedapproval-origin" content="`
	before, after, found := strings.Cut(string(html), empty)
	_, after, closed := strings.Cut(after, `"`)
	if !found || !closed {
		return fmt.Errorf("%s does not say where the server's origin belongs", index)
	}
	return os.WriteFile(index, []byte(before+empty+s.origin+`"`+after), 0o600) //nolint:gosec // below our own folder
}

// repository finds the top of the repository.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("the demo must run inside the repository")
		}
	}
}

const globexName = "globex/probe"

// installs is how a workspace begins that installs the app instead of connecting: alice owns globex too.
func (t *tale) installs(ctx context.Context) (string, error) {
	if _, err := t.sim.AddWorkspace(bitbucketsim.Workspace{
		Slug: "globex", Name: "Globex", Premium: true, Owners: []string{"alice"}, Members: []string{"bob", "carol"},
	}); err != nil {
		return "", err
	}
	if _, err := t.sim.AddRepository(bitbucketsim.Repository{
		Workspace: "globex", Slug: "probe", Name: "Probe", Permissions: map[string]string{"bob": "write", "carol": "write"},
		Files: map[string]string{"README.md": "# Probe\n"},
	}); err != nil {
		return "", err
	}
	installed, err := t.sim.InstallForgeApp(bitbucketsim.ForgeChange{Workspace: "globex", Person: "alice"})
	if err != nil {
		return "", err
	}
	err = until(ctx, "the installation", func() (bool, error) {
		if err := t.alice.SignIn(ctx); err != nil { // which tells the dashboard of her workspaces
			return false, err
		}
		t.globex, err = t.alice.Workspace(ctx, "globex")
		return err == nil, nil
	})
	return "installation " + installed.ID + "\nstatuses and merges are in the name of " + installed.Account, err
}

// requires turns Bitbucket's own side on: the merge check, required, on every branch.
func (t *tale) requires(ctx context.Context) (_ string, err error) {
	if _, err = t.sim.SetCustomMergeChecks(bitbucketsim.CustomMergeChecks{Workspace: "globex", Person: "alice", Enabled: true}); err != nil {
		return "", err
	}
	if _, err = t.sim.SaveMergeCheck(bitbucketsim.MergeCheck{
		Repository: globexName, Module: "merge-check-on-merge", Pattern: "main", Required: true, Person: "alice",
	}); err != nil {
		return "", err
	}
	if t.probe, err = t.alice.Repository(ctx, t.globex, globexName, "probe"); err != nil {
		return "", err
	}
	approvers, err := t.alice.Accounts(ctx, t.globex, "Bob", "Carol")
	if err != nil {
		return "", err
	}
	version, err := t.alice.Gate(ctx, t.globex, t.probe, map[string]any{
		"name": "Main", "branches": []string{"main"},
		"requirements": []any{map[string]any{"name": "Approval", "quorum": 2, "approvers": approvers}},
	})
	return fmt.Sprintf("policy version %d", version), err
}

// presses presses Bitbucket's own Merge button on a new pull request: Bitbucket asks us, and refuses.
func (t *tale) presses(ctx context.Context) (string, error) {
	if _, err := t.sim.Push(bitbucketsim.Push{
		Repository: globexName, Branch: "feature/antenna", Person: "alice", Files: map[string]string{"antenna.txt": "high gain\n"},
	}); err != nil {
		return "", err
	}
	opened, err := t.sim.OpenPullRequest(bitbucketsim.PullRequest{
		Repository: globexName, Author: "alice", Title: "Add the antenna", Source: "feature/antenna", Destination: "main",
	})
	if err != nil {
		return "", err
	}
	t.antenna = stage.Place{Workspace: t.globex.UUID, Repository: t.probe, Number: int64(opened.ID)}
	var said string
	err = until(ctx, "Bitbucket's refusal", func() (bool, error) {
		status, body, err := t.merges(ctx)
		said = body
		if err == nil && status < http.StatusBadRequest {
			err = errors.New("the button merged without an approval")
		}
		return strings.Contains(body, "0 of 2"), err
	})
	if err != nil {
		err = fmt.Errorf("%w; it says: %s", err, said)
	}
	return said, err
}

// merges is the Merge button.
func (t *tale) merges(ctx context.Context) (status int, said string, err error) {
	token, err := t.sim.IssueToken(bitbucketsim.TokenRequest{Person: "alice", Scopes: []string{"pullrequest:write"}})
	if err != nil {
		return 0, "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost,
		fmt.Sprintf("%s/2.0/repositories/%s/pullrequests/%d/merge", t.sim.URL(), globexName, t.antenna.Number), strings.NewReader(`{"type":"pullrequest"}`))
	if err != nil {
		return 0, "", err
	}
	request.Header.Set("Authorization", "Bearer "+token.AccessToken)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if response.StatusCode < http.StatusBadRequest {
		return response.StatusCode, "", err
	}
	return response.StatusCode, refusalIn(text), err
}

// opens lets both approve, and the button work.
func (t *tale) opens(ctx context.Context) (string, error) {
	for _, p := range []*stage.Person{t.bob, t.carol} {
		if err := p.SignIn(ctx); err != nil {
			return "", err
		}
		if _, err := p.Decide(ctx, t.antenna, "APPROVE"); err != nil {
			return "", err
		}
	}
	err := until(ctx, "Bitbucket's merge", func() (bool, error) {
		status, _, err := t.merges(ctx)
		return status == http.StatusOK, err
	})
	return "merged by Bitbucket after our merge check said yes", err
}

// refusalIn reads Bitbucket's sentence out of an error.
func refusalIn(text []byte) string {
	var answer struct {
		Error struct {
			Message string
			Fields  struct {
				MergeChecks []string `json:"merge_checks"`
			}
		}
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return string(text)
	}
	return strings.Join(append([]string{answer.Error.Message}, answer.Error.Fields.MergeChecks...), "\n")
}
