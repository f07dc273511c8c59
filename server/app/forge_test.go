package app_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/descriptor"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/store"
)

const (
	forgeApp   = "ari:cloud:ecosystem::app/6a7b8c9d-0e1f-4a2b-8c3d-4e5f6a7b8c9d"
	onMerge    = "merge-check-on-merge"
	mergeCheck = "merge-check"
)

// deployApp deploys the Forge app, as the descriptor describes it, to the simulated Bitbucket, and tells
// the servers of it.
func (c *cluster) deployApp() {
	c.t.Helper()
	manifest, err := descriptor.Render(descriptor.Environment{AppID: forgeApp, Origin: c.proxy.origin})
	c.must(err)
	dir := c.t.TempDir()
	path := filepath.Join(dir, "manifest.yml")
	c.must(os.WriteFile(path, []byte(manifest), 0o600))
	app := bitbucketsim.ForgeApp{Manifest: path, RemoteURL: c.proxy.origin, Resources: map[string]string{}}
	for _, page := range []string{"panel", "dashboard"} {
		app.Resources[page] = filepath.Join(dir, page)
		c.must(os.Mkdir(app.Resources[page], 0o700))
		c.must(os.WriteFile(filepath.Join(app.Resources[page], "index.html"), []byte("<!doctype html><title>A page</title>"), 0o600))
	}
	_, err = c.sim.RegisterForgeApp(app)
	c.must(err)
	c.env = append(c.env, "SIGNEDAPPROVAL_FORGE_APP_ID="+forgeApp, "SIGNEDAPPROVAL_FORGE_JWKS_URL="+c.sim.URL()+bitbucketsim.JWKSPath,
		"SIGNEDAPPROVAL_FORGE_API_HOSTS="+c.sim.URL())
}

// installApp installs the app in the workspace, and waits until the gate knows.
func (c *cluster) installApp() bitbucketsim.ForgeInstallation {
	c.t.Helper()
	installation, err := c.sim.InstallForgeApp(bitbucketsim.ForgeChange{Workspace: "acme", Person: "alice"})
	c.must(err)
	c.eventually("the gate knows of the installation", func() bool {
		return slices.Contains(c.sql(`select installation_id from signedapproval_installations where system_token is not null`), installation.ID)
	})
	// No invocation says what the workspace is called: that is asked afterwards.
	c.eventually("the gate knows the workspace", func() bool {
		return slices.Contains(c.sql(`select slug from signedapproval_workspaces`), "acme")
	})
	return installation
}

// requireCheck makes Bitbucket ask our merge check before it merges.
func (c *cluster) requireCheck() {
	c.t.Helper()
	_, err := c.sim.SetCustomMergeChecks(bitbucketsim.CustomMergeChecks{Workspace: "acme", Person: "alice", Enabled: true})
	c.must(err)
	_, err = c.sim.SaveMergeCheck(bitbucketsim.MergeCheck{Repository: rocket, Module: onMerge, Pattern: "release/*", Required: true, Person: "alice"})
	c.must(err)
}

// merge presses Bitbucket's Merge button as alice, and answers what Bitbucket says to a refusal.
func (c *cluster) merge(number int64) (status int, body string) {
	c.t.Helper()
	token, err := c.sim.IssueToken(bitbucketsim.TokenRequest{Person: "alice"})
	c.must(err)
	request, err := http.NewRequestWithContext(c.ctx, http.MethodPost,
		fmt.Sprintf("%s/2.0/repositories/%s/pullrequests/%d/merge", c.sim.URL(), rocket, number), strings.NewReader(`{"type":"pullrequest"}`))
	c.must(err)
	request.Header.Set("Authorization", "Bearer "+token.AccessToken)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	c.must(err)
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	c.must(err)
	return response.StatusCode, string(text)
}

// TestTheForgeApp is the life of the app in a workspace that has no OAuth connection: everything is done
// in the app's own name, and Bitbucket itself asks us before it merges.
func TestTheForgeApp(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{servers: 2, app: true})
	c.requireCheck()
	pr := c.open("check")
	c.eventually("the pull request waits", func() bool { return c.shows(bitbucket.StatusInProgress, pr) })
	if status, body := c.merge(pr.Number); status < 400 || !strings.Contains(body, "0 of 2") {
		t.Fatalf("an unapproved merge is answered %d %s", status, body)
	}
	c.must(c.approve(c.bob, []opened{pr}))
	c.eventually("one approval shows", func() bool {
		status, body := c.merge(pr.Number)
		if status < 400 {
			t.Fatalf("merged with one of two approvals: %s", body)
		}
		return strings.Contains(body, "1 of 2")
	})
	c.must(c.approve(c.carol, []opened{pr}))
	c.untilMerged([]opened{pr})
	c.atRest()
	c.mergedOnce([]opened{pr})

	installed := c.sim.ForgeInstallations()[0]
	for s, err := range c.watcher.Statuses(c.ctx, "acme", "rocket", pr.head) {
		c.must(err)
		if s.Author.AccountID != installed.AccountID {
			t.Errorf("the status is of %s, not of the app", s.Author.DisplayName)
		}
	}
	answered := c.sql(`select success::text || ' ' || code from signedapproval_merge_checks where trigger = 'ON_MERGE' order by asked_at`)
	if len(answered) < 2 || !strings.HasPrefix(answered[0], "false") || !strings.HasPrefix(answered[len(answered)-1], "true") {
		t.Errorf("the merge check answered %q", answered)
	}
	if leaves := c.sql(`select chain_id from signedapproval_leaves where convert_from(entry, 'UTF8')::jsonb @> '{"type": "merge-checked"}'`); len(leaves) < 2 {
		t.Errorf("%d leaves of the merge check", len(leaves))
	}

	// Without a token the gate waits, and a new one sets it going. Nothing is written in another name.
	_, err := c.sim.ExpireForgeTokens(bitbucketsim.ForgeChange{Workspace: "acme", Person: "alice"})
	c.must(err)
	c.sql(`update signedapproval_installations set system_token = null, system_token_expires_at = null returning installation_id`)
	if status, body := c.merge(pr.Number); status < 400 {
		t.Errorf("merged twice: %s", body)
	}
	late := c.open("late")
	c.eventually("the late one is gated", func() bool { return c.shows(bitbucket.StatusInProgress, late) })
	c.atRest()

	// The app goes: what is open is cancelled, and what was decided stays.
	_, err = c.sim.UninstallForgeApp(bitbucketsim.ForgeChange{Workspace: "acme", Person: "alice"})
	c.must(err)
	c.eventually("what was open is stopped", func() bool { return c.shows(bitbucket.StatusStopped, late) })
	c.eventually("the installation is over", func() bool {
		return slices.Equal(c.sql(`select state from signedapproval_installations`), []string{"UNINSTALLED"})
	})
	decisions := len(c.sql(`select id::text from signedapproval_decisions`))

	// It comes back: an administrator confirms before it acts.
	c.installAgain()
	c.requireCheck() // Bitbucket forgot it with the app
	if state := c.sql(`select state from signedapproval_installations where state <> 'UNINSTALLED'`); !slices.Equal(state, []string{"AWAITING_CONFIRMATION"}) {
		t.Errorf("installations %q", state)
	}
	again := c.open("again")
	if status, body := c.merge(again.Number); status < 400 || !strings.Contains(body, "onfirm") {
		t.Errorf("before an administrator confirmed, a merge is answered %d %s", status, body)
	}
	var confirmed struct {
		ConfirmInstallation struct {
			UserErrors []struct{ Code, Message string }
		}
	}
	for who, want := range map[string]int{"bob": 1, "alice": 0} {
		p := c.bob
		if who == "alice" {
			p = c.alice
		}
		err := p.Ask(c.ctx, "ConfirmInstallation", map[string]any{"input": map[string]any{"workspaceId": c.workspace.ID}}, &confirmed)
		c.must(err)
		if len(confirmed.ConfirmInstallation.UserErrors) != want {
			t.Errorf("%s confirms: %v", who, confirmed)
		}
		confirmed.ConfirmInstallation.UserErrors = nil
	}
	c.eventually("the gate works again", func() bool { c.reconcileNow(); return c.shows(bitbucket.StatusInProgress, again) })
	if now := len(c.sql(`select id::text from signedapproval_decisions`)); now != decisions {
		t.Errorf("%d decisions of %d are left", now, decisions)
	}
}

func (c *cluster) installAgain() {
	c.t.Helper()
	// A token names its second: a call of the one in which the app before spoke last is not told from one of before its end. What
	// Bitbucket says later of the installation would be followed, but here it says nothing more.
	c.eventually("the second of the app's last call is over", func() bool {
		return slices.Equal(c.sql(`select (now() >= max(seen_at) + interval '1 s')::text from signedapproval_installations`), []string{"true"})
	})
	c.eventually("the app is gone", func() bool {
		_, err := c.sim.InstallForgeApp(bitbucketsim.ForgeChange{Workspace: "acme", Person: "alice"})
		return err == nil
	})
	c.eventually("the gate knows", func() bool {
		return len(c.sql(`select installation_id from signedapproval_installations where state <> 'UNINSTALLED'`)) == 1
	})
}

// enforcement is what the screen of a repository says about release/*, as alice sees it.
func (c *cluster) enforcement(repository string) (state string, codes []string) {
	c.t.Helper()
	var screen struct {
		Node struct {
			Enforcement []struct {
				Pattern, State string
				Reasons        []struct{ Code string }
			}
		}
	}
	c.must(c.alice.Ask(c.ctx, "Enforcement", map[string]any{"repository": repository}, &screen))
	for _, e := range screen.Node.Enforcement {
		if e.Pattern == "release/*" {
			for _, r := range e.Reasons {
				codes = append(codes, r.Code)
			}
			return e.State, codes
		}
	}
	return "", nil
}

// TestTheGateIsWatched follows what the doctor says of a repository: from one that everybody can push
// to, by an administrator's consent and a refused merge to one that is enforced, and back within one
// walk of the reconciler when somebody takes the restriction away. A merge around the gate is on record.
func TestTheGateIsWatched(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{servers: 1, app: true})
	c.requireCheck()
	var found struct {
		Workspace struct{ Repository struct{ ID string } }
	}
	c.must(c.alice.Ask(c.ctx, "Repository", map[string]any{"workspace": "acme", "slug": "rocket"}, &found))
	repository := found.Workspace.Repository.ID
	var state string
	var codes []string
	becomes := func(want string) {
		t.Helper()
		c.eventually("the gate is "+want, func() bool {
			state, codes = c.enforcement(repository)
			return state == want
		})
	}
	becomes("OPEN") // a change of the rules asks for it

	// A refused merge proves nothing while everybody may push.
	pr := c.open("watched")
	c.eventually("the pull request waits", func() bool { return c.shows(bitbucket.StatusInProgress, pr) })
	if status, body := c.merge(pr.Number); status < 400 || !strings.Contains(body, "0 of 2") {
		t.Fatalf("an unapproved merge is answered %d %s", status, body)
	}
	var fixed struct {
		FixEnforcement struct {
			UserErrors []struct{ Code, Message string }
		}
	}
	c.must(c.alice.Ask(c.ctx, "FixEnforcement", map[string]any{
		"input": map[string]any{"repositoryId": repository, "pattern": "release/*", "fixes": []string{"RESTRICT_PUSH"}},
	}, &fixed))
	if len(fixed.FixEnforcement.UserErrors) > 0 {
		t.Fatalf("not mended: %v", fixed.FixEnforcement.UserErrors)
	}
	if state, codes = c.enforcement(repository); state != "UNKNOWN" || !slices.Contains(codes, "CHECK_NOT_PROVEN") {
		t.Fatalf("after mending the gate is %s for %v", state, codes)
	}

	// It has held for a while: that is told by the next walk.
	c.sql(`update signedapproval_merge_checks set asked_at = asked_at - interval '2 minutes' returning id::text`)
	c.reconcileNow()
	becomes("ENFORCED")

	// The administrator takes the restriction away, of which no event tells.
	token, err := c.sim.IssueToken(bitbucketsim.TokenRequest{Person: "alice"})
	c.must(err)
	alice := bitbucket.New(bitbucket.Config{BaseURL: c.sim.URL()}).As(token.AccessToken, "alice", bitbucket.Foreground)
	for restriction, err := range alice.BranchRestrictions(c.ctx, "acme", "rocket") {
		c.must(err)
		c.must(alice.DeleteBranchRestriction(c.ctx, "acme", "rocket", restriction.ID))
	}
	c.reconcileNow()
	becomes("OPEN")
	if !slices.Contains(codes, "PUSH_OPEN") {
		t.Errorf("it is open for %v", codes)
	}
	if alarms := c.sql(`select kind from signedapproval_alarms where closed_at is null`); !slices.Contains(alarms, store.AlarmNotEnforced) {
		t.Errorf("alarms %q", alarms)
	}

	// And the check: what nobody approved can be merged now. It is not, unseen.
	checks, err := c.sim.MergeChecks("acme")
	c.must(err)
	for _, check := range checks {
		_, err := c.sim.RemoveMergeCheck(bitbucketsim.MergeCheckRemoval{ID: check.ID, Person: "alice"})
		c.must(err)
	}
	if status, body := c.merge(pr.Number); status != http.StatusOK {
		t.Fatalf("the merge around the gate is answered %d %s", status, body)
	}
	var screen struct {
		Node struct {
			Violations struct {
				Edges []struct {
					Node struct {
						Number         int64
						Asked, Allowed bool
						Sentence       string
					}
				}
			}
		}
	}
	c.eventually("the violation shows", func() bool {
		c.must(c.alice.Ask(c.ctx, "Violations", map[string]any{"repository": repository}, &screen))
		return len(screen.Node.Violations.Edges) == 1
	})
	if v := screen.Node.Violations.Edges[0].Node; v.Number != pr.Number || v.Allowed || !v.Asked {
		t.Errorf("the violation is %+v", v)
	}
	c.eventually("the merge counts against the check", func() bool {
		_, codes = c.enforcement(repository)
		return slices.Contains(codes, "CHECK_OVERRIDDEN")
	})
	if notices := c.sql(`select kind from signedapproval_notices`); !slices.Contains(notices, store.AlarmMergedUnapproved) {
		t.Errorf("notices %q", notices)
	}
}

// BenchmarkMergeCheckUnderAFlood asks the merge check for as long as a thousand pushes are being told and
// worked off.
func BenchmarkMergeCheckUnderAFlood(b *testing.B) {
	const pushes = 1000
	c := newCluster(b, options{servers: 1, app: true, patience: 10 * time.Minute, sim: bitbucketsim.Options{Forge: bitbucketsim.ForgeOptions{Senders: 16}}})
	c.requireCheck()
	list := c.openMany(50, "flood")
	c.eventually("they wait", func() bool { return c.shows(bitbucket.StatusInProgress, list...) })
	var took []time.Duration
	told := 0
	for b.Loop() {
		over := make(chan error, 1)
		go func() {
			for i := range pushes {
				_, err := c.sim.Push(bitbucketsim.Push{
					Repository: rocket, Branch: fmt.Sprintf("feature/flood%02d", i%len(list)), Person: "alice",
					Files: map[string]string{fmt.Sprintf("src/%d.go", i): fmt.Sprintf("package main // %d\n", i)},
				})
				if err != nil {
					over <- err
					return
				}
			}
			_, err := c.sim.WaitForgeInvocations(c.ctx, func(all []bitbucketsim.ForgeInvocation) bool {
				told = 0
				for _, i := range all {
					if i.Kind == "event" && i.State != "delivered" {
						return false
					}
					if i.Name == "avi:bitbucket:push:repository" {
						told++
					}
				}
				return told >= pushes
			})
			over <- err
		}()
		for asking := true; asking; {
			select {
			case err := <-over:
				c.must(err)
				asking = false
			default:
				began := time.Now()
				status, _ := c.merge(list[len(took)%len(list)].Number)
				took = append(took, time.Since(began))
				if status < 400 {
					b.Fatal("an unapproved pull request was merged")
				}
			}
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "max-ms")
	b.ReportMetric(float64(len(took)), "asked")
	b.ReportMetric(float64(told), "pushes")
	late := 0
	for _, i := range c.sim.ForgeInvocations() {
		var answer struct{ Message string }
		if i.Kind == mergeCheck && (json.Unmarshal(i.Answer, &answer) != nil || answer.Message == "") {
			late++
		}
	}
	b.ReportMetric(float64(late), "unanswered")
}
