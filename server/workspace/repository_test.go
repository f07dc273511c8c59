package workspace_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/workspace"
)

// admin is a client with all rights, as Alice.
func (w *world) admin() *bitbucket.Client {
	w.t.Helper()
	token := get(w.sim.IssueToken(bitbucketsim.TokenRequest{Person: "alice"}))(w.t)
	return bitbucket.New(bitbucket.Config{BaseURL: w.sim.URL()}).As(token.AccessToken, "test", bitbucket.Foreground)
}

func (w *world) hooks(repository string) (hooks []bitbucket.Hook) {
	w.t.Helper()
	for hook, err := range w.admin().Hooks(w.t.Context(), w.acme, repository) {
		must(w.t, err)
		hooks = append(hooks, hook)
	}
	return hooks
}

func (w *world) config(repository string) (c store.RepositoryConfig) {
	w.t.Helper()
	w.read(w.acme, func(tx *store.Tx) (err error) { c, err = tx.RepositoryConfig(w.t.Context(), repository); return err })
	return c
}

// saved gates a repository of acme as Alice.
func (w *world) saved(repository string, policy approval.Policy) store.RepositoryConfig {
	w.t.Helper()
	config, problems := get2(w.SaveRepository(w.t.Context(), w.who("alice"), "session", w.acme, repository, policy))(w.t)
	if len(problems) > 0 {
		w.t.Fatalf("problems %v", problems)
	}
	return config
}

func TestSaveRepository(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	alice := w.connected("alice", w.acme)
	config := w.saved(w.app, approvals(2))
	if config.State != store.RepositoryActive || config.Attention != "" || config.FullName != "acme/app" || config.Name != "The App" {
		t.Errorf("config %+v", config)
	}

	t.Run("makes the webhook", func(t *testing.T) {
		hooks := w.hooks(w.app)
		if len(hooks) != 1 || hooks[0].URL != origin+"/hooks/"+config.HookID || !hooks[0].Active || !hooks[0].SecretSet || len(hooks[0].Events) != 20 {
			t.Errorf("webhooks %+v", hooks)
		}
		var endpoint store.HookEndpoint
		must(t, w.store.Outside(t.Context(), func(sh *store.Shared) (err error) {
			endpoint, err = sh.HookEndpoint(t.Context(), config.HookID)
			return err
		}))
		if endpoint.HookUUID != hooks[0].UUID || len(endpoint.Secret) != 64 || endpoint.RepositoryID != w.app || endpoint.WorkspaceID != w.acme {
			t.Errorf("endpoint %+v", endpoint)
		}
	})
	t.Run("makes version 1, with its digest, and its leaf", func(t *testing.T) {
		version := get(w.PolicyVersion(t.Context(), alice, w.acme, config.PolicyVersionID))(t)
		if version.Version != 1 || version.Digest != string(approvals(2).Digest()) || string(version.Document) != string(approvals(2).Canonical()) ||
			version.CreatedBy != alice.ID || version.CreatedVia != "session" {
			t.Errorf("version %+v", version)
		}
		equal(t, "leaves", w.leaves(w.acme), []string{"genesis", "connection made", "policy-version"})
	})
	t.Run("asks for a look at the pull requests", func(t *testing.T) {
		equal(t, "jobs", w.texts(`select kind from signedapproval_jobs where key like '%' || $1 || '%' order by 1`, w.app), []string{"doctor", "fan", "reconcile"})
	})
	t.Run("the same rules make no new version", func(t *testing.T) {
		again := w.saved(w.app, approvals(2))
		if again.PolicyVersionID != config.PolicyVersionID || again.HookID != config.HookID {
			t.Errorf("config %+v", again)
		}
		equal(t, "leaves", w.leaves(w.acme)[2:], []string{"policy-version"})
	})
	t.Run("other rules make version 2, by a token", func(t *testing.T) {
		get2(w.SaveRepository(t.Context(), w.who("erin"), "token:7", w.acme, w.app, approvals(3)))(t)
		versions, more, err := w.PolicyVersions(t.Context(), alice, w.acme, w.app, store.Page{})
		must(t, err)
		if len(versions) != 2 || more || versions[0].Version != 2 || versions[0].CreatedVia != "token:7" || versions[1].Version != 1 {
			t.Errorf("versions %+v", versions)
		}
	})
	t.Run("going back to earlier rules is a new version", func(t *testing.T) {
		w.saved(w.app, approvals(2))
		versions, _, err := w.PolicyVersions(t.Context(), alice, w.acme, w.app, store.Page{First: 1})
		must(t, err)
		if versions[0].Version != 3 {
			t.Errorf("version %d", versions[0].Version)
		}
	})
	t.Run("each repository has a secret of its own", func(t *testing.T) {
		other := w.saved(w.tool, approvals(1))
		if other.HookID == config.HookID {
			t.Error("one endpoint for two")
		}
		var secrets []store.Secret
		w.read(w.acme, func(tx *store.Tx) error {
			for _, r := range []string{w.app, w.tool} {
				endpoint, err := tx.HookEndpointOf(t.Context(), r)
				if err != nil {
					return err
				}
				secrets = append(secrets, endpoint.Secret)
			}
			return nil
		})
		if secrets[0] == secrets[1] {
			t.Error("one secret for two")
		}
	})
}

func TestSavingAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	alice := w.connected("alice", w.acme)
	other, _ := w.replica()
	var group sync.WaitGroup
	for i := range 6 {
		group.Go(func() {
			save := w.SaveRepository
			if i%2 == 1 {
				save = other.SaveRepository
			}
			if _, problems, err := save(t.Context(), alice, "session", w.acme, w.app, approvals(i%3+1)); err != nil || len(problems) > 0 {
				t.Error(problems, err)
			}
		})
	}
	group.Wait()
	versions, _, err := w.PolicyVersions(t.Context(), alice, w.acme, w.app, store.Page{})
	must(t, err)
	for i, v := range versions {
		if v.Version != len(versions)-i {
			t.Errorf("versions have a gap: %d at %d", v.Version, i)
		}
	}
	if c := w.config(w.app); c.PolicyVersionID != versions[0].ID {
		t.Error("the config is not at the newest version")
	}
	// Two may have made a webhook each before either could see the other's; the next look leaves one.
	must(t, w.EnsureHook(t.Context(), w.acme, w.app))
	if n := len(w.hooks(w.app)); n != 1 {
		t.Errorf("%d webhooks", n)
	}
}

func TestPoliciesThatCannotBeKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	alice := w.connected("alice", w.acme)
	named := func(quorum int, accounts ...string) approval.Policy {
		p := approvals(quorum)
		p.Rules[0].Requirements[0].Approvers = approval.Approvers{Accounts: accounts}
		return p
	}
	merging := func(branch, strategy string) approval.Policy {
		p := approvals(1)
		p.Rules[0].Branches = []string{branch}
		p.Rules[0].AutoMerge = &approval.AutoMerge{Strategy: strategy}
		return p
	}
	demanding := func(models ...string) approval.Policy {
		p := approvals(1)
		p.Rules[0].Keys = &approval.KeyDemand{Models: models}
		return p
	}
	const model, revoked = "01000000-0000-0000-0000-000000000000", "02000000-0000-0000-0000-000000000000"
	account := func(name string) string { return w.people[name].AccountID }
	for name, test := range map[string]struct {
		policy              approval.Policy
		code, path, message string
	}{
		"more than may write":          {approvals(5), "quorum_unreachable", "rules[0].requirements[0].quorum", "Approval asks for 5 approvals, but there are only 4 people with write permission."},
		"more than are named":          {named(2, account("bob")), "quorum_unreachable", "rules[0].requirements[0].quorum", "Approval asks for 2 approvals, but names only 1 approvers."},
		"somebody from elsewhere":      {named(1, account("mallory"), account("bob")), "unknown_account", "rules[0].requirements[0].approvers.accounts[0]", "This account is not a member of the workspace."},
		"a strategy not offered":       {merging("main", "rebase_merge"), "strategy_not_offered", "rules[0].autoMerge.strategy", `The branch "main" does not offer the merge strategy "rebase_merge".`},
		"a strategy that is none":      {merging("main", "octopus"), "strategy", "rules[0].autoMerge.strategy", ""},
		"a model without metadata":     {demanding(model), "unknown_model", "rules[0].keys.models[0]", "This server's snapshot of the FIDO metadata has no acceptable model " + model + "."},
		"no rules":                     {approval.Policy{Format: approval.Format}, "count", "rules", "A policy has 1 to 50 rules."},
		"a pattern that is no pattern": {merging("[", "squash"), "pattern", "rules[0].branches[0]", `"[" is not a branch pattern.`},
	} {
		t.Run(name, func(t *testing.T) {
			config, problems, err := w.SaveRepository(t.Context(), alice, "session", w.acme, w.app, test.policy)
			must(t, err)
			if len(problems) == 0 || config.RepositoryID != "" {
				t.Fatalf("saved: %+v", config)
			}
			got := problems[0]
			if string(got.Code) != test.code || got.Path != test.path || test.message != "" && got.Message != test.message {
				t.Errorf("got %+v", got)
			}
		})
	}
	equal(t, "versions", w.texts(`select digest from signedapproval_policy_versions`), nil)
	if n := len(w.hooks(w.app)); n != 0 {
		t.Errorf("%d webhooks", n)
	}

	t.Run("a strategy that the branch offers, and one for branches to come, are saved", func(t *testing.T) {
		w.saved(w.app, merging("main", "squash"))
		w.saved(w.app, merging("release/**", "rebase_merge"))
	})
	t.Run("a model is saved where the metadata has it, and it is not struck out", func(t *testing.T) {
		server := w.serverWith(workspace.Options{Models: &evidence.Models{Entries: []evidence.Model{{AAGUID: model}, {AAGUID: revoked, Statuses: []string{"REVOKED"}}}}})
		if _, problems, err := server.SaveRepository(t.Context(), alice, "session", w.acme, w.app, demanding(model)); err != nil || len(problems) > 0 {
			t.Errorf("%v, %v", problems, err)
		}
		_, problems, err := server.SaveRepository(t.Context(), alice, "session", w.acme, w.app, demanding(model, revoked))
		if err != nil || len(problems) != 1 || problems[0].Code != approval.CodeUnknownModel || problems[0].Path != "rules[0].keys.models[1]" {
			t.Errorf("%v, %v", problems, err)
		}
	})
	t.Run("a member without permission may be named", func(t *testing.T) {
		w.saved(w.tool, named(1, account("carol")))
	})
}

func TestWhoMaySave(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	save := func(name, repository string) error {
		_, _, err := w.SaveRepository(t.Context(), w.who(name), "session", w.acme, repository, approvals(1))
		return err
	}
	remove := func(name, repository string) error {
		_, err := w.RemoveRepository(t.Context(), w.who(name), "session", w.acme, repository)
		return err
	}
	must(t, save("dave", w.app)) // an administrator of the workspace
	must(t, save("erin", w.app)) // an administrator of the repository
	for name, code := range map[string]string{"bob": refusal.Forbidden, "carol": refusal.Forbidden, "mallory": refusal.NotFound} {
		refused(t, save(name, w.app), code)
		refused(t, remove(name, w.app), code)
	}
	refused(t, save("erin", w.tool), refusal.NotFound) // administers another repository only
	refused(t, save("alice", w.secret), refusal.NotFound)
	refused(t, save("alice", "app"), refusal.NotFound)
	refused(t, remove("alice", w.tool), refusal.NotFound) // not gated

	t.Run("the right was lost between show and save", func(t *testing.T) {
		erin := w.who("erin")
		if can := get(w.CanConfigure(t.Context(), erin, w.acme, w.app))(t); !can {
			t.Fatal("not shown")
		}
		w.level("erin", "write")
		refused(t, save("erin", w.app), refusal.Forbidden)
		refused(t, remove("erin", w.app), refusal.Forbidden)
	})
	t.Run("Bitbucket cannot be asked", func(t *testing.T) {
		get(w.sim.AddFault(bitbucketsim.Fault{Path: "/permissions", Status: 503}))(t)
		defer w.sim.ClearFaults()
		refused(t, save("alice", w.app), refusal.BitbucketUnavailable)
		refused(t, remove("alice", w.app), refusal.BitbucketUnavailable)
		_, err := w.Disconnect(t.Context(), w.who("alice"), w.acme)
		refused(t, err, refusal.BitbucketUnavailable)
	})
	equal(t, "versions", w.texts(`select version::text from signedapproval_policy_versions`), []string{"1"})
}

func TestHookThatBitbucketRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	get(w.sim.AddFault(bitbucketsim.Fault{
		Method: http.MethodPost, Path: "/hooks$", Status: 400,
		Body: `{"type": "error", "error": {"message": "A webhook URL must be public."}}`,
	}))(t)
	config := w.saved(w.app, approvals(1))
	if config.State != store.RepositoryAttention || !strings.Contains(config.Attention, "A webhook URL must be public.") {
		t.Errorf("config is %s: %s", config.State, config.Attention)
	}
	equal(t, "alarms", w.alarms(w.acme), []string{store.AlarmHookMissing})

	w.sim.ClearFaults()
	must(t, w.EnsureHook(t.Context(), w.acme, w.app))
	if config := w.config(w.app); config.State != store.RepositoryActive || config.Attention != "" {
		t.Errorf("config is %s: %s", config.State, config.Attention)
	}
	equal(t, "alarms", w.alarms(w.acme), nil)
}

func TestHookWhoseAnswerGotLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	get(w.sim.AddFault(bitbucketsim.Fault{Method: http.MethodPost, Path: "/hooks$", LostReply: true, Times: 1}))(t)
	if config := w.saved(w.app, approvals(1)); config.State != store.RepositoryAttention {
		t.Errorf("config is %s", config.State)
	}
	must(t, w.EnsureHook(t.Context(), w.acme, w.app))
	if config := w.config(w.app); config.State != store.RepositoryActive {
		t.Errorf("config is %s", config.State)
	}
	if n := len(w.hooks(w.app)); n != 1 {
		t.Errorf("%d webhooks", n)
	}
}

func TestHookIsRepaired(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	config := w.saved(w.app, approvals(1))
	ours := origin + "/hooks/" + config.HookID
	good := func(t *testing.T) bitbucket.Hook {
		t.Helper()
		hooks := w.hooks(w.app)
		if len(hooks) != 1 || hooks[0].URL != ours || !hooks[0].Active || !hooks[0].SecretSet || len(hooks[0].Events) != 20 {
			t.Fatalf("webhooks %+v", hooks)
		}
		return hooks[0]
	}
	// signs tells whether what the webhook sends is signed with our secret.
	hook := good(t)
	for name, harm := range map[string]func() error{
		"deleted": func() error { return w.admin().DeleteHook(t.Context(), w.acme, w.app, good(t).UUID) },
		"switched off": func() error {
			_, err := w.admin().UpdateHook(t.Context(), w.acme, w.app, good(t).UUID, bitbucket.HookOptions{URL: ours, Active: false, Events: good(t).Events})
			return err
		},
		"events taken away": func() error {
			_, err := w.admin().UpdateHook(t.Context(), w.acme, w.app, good(t).UUID, bitbucket.HookOptions{URL: ours, Active: true, Events: []string{"repo:push"}})
			return err
		},
		"sent elsewhere": func() error {
			_, err := w.admin().UpdateHook(t.Context(), w.acme, w.app, good(t).UUID, bitbucket.HookOptions{URL: origin + "/hooks/other", Active: true, Events: []string{"repo:push"}})
			return err
		},
		"doubled": func() error {
			_, err := w.admin().CreateHook(t.Context(), w.acme, w.app, bitbucket.HookOptions{URL: ours, Active: true, Events: []string{"repo:push"}})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			must(t, harm())
			must(t, w.EnsureHook(t.Context(), w.acme, w.app))
			hook = good(t)
			var endpoint store.HookEndpoint
			w.read(w.acme, func(tx *store.Tx) (err error) { endpoint, err = tx.HookEndpointOf(t.Context(), w.app); return err })
			if endpoint.HookUUID != hook.UUID {
				t.Error("we do not know which one it is")
			}
		})
	}
	t.Run("nothing is written where nothing is wrong", func(t *testing.T) {
		before := w.lastCall()
		must(t, w.EnsureHook(t.Context(), w.acme, w.app))
		for _, call := range w.sim.Calls(before) {
			if call.Method != http.MethodGet {
				t.Errorf("%s %s", call.Method, call.Path)
			}
		}
	})
	t.Run("other people's webhooks are left alone", func(t *testing.T) {
		theirs := get(w.admin().CreateHook(t.Context(), w.acme, w.app, bitbucket.HookOptions{URL: "https://ci.example/hook", Active: true, Events: []string{"repo:push"}}))(t)
		must(t, w.EnsureHook(t.Context(), w.acme, w.app))
		get(w.RemoveRepository(t.Context(), w.who("alice"), "session", w.acme, w.app))(t)
		if hooks := w.hooks(w.app); len(hooks) != 1 || hooks[0].UUID != theirs.UUID {
			t.Errorf("webhooks %+v", hooks)
		}
	})
	t.Run("none is made where nothing is gated", func(t *testing.T) {
		must(t, w.EnsureHook(t.Context(), w.acme, w.tool))
		if n := len(w.hooks(w.tool)); n != 0 {
			t.Errorf("%d webhooks", n)
		}
	})
	t.Run("a look that fails for the moment changes nothing", func(t *testing.T) {
		w.saved(w.app, approvals(1))
		get(w.sim.AddFault(bitbucketsim.Fault{Path: "/hooks$", Status: 503}))(t)
		defer w.sim.ClearFaults()
		if err := w.EnsureHook(t.Context(), w.acme, w.app); !isRemote(err, 503) {
			t.Errorf("got %v", err)
		}
		if c := w.config(w.app); c.State != store.RepositoryActive {
			t.Errorf("config is %s", c.State)
		}
	})
}

func TestRepositoryThatMoves(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	w.saved(w.app, approvals(1))

	get(w.sim.RenameRepository(bitbucketsim.Rename{Repository: "acme/app", Person: "alice", Slug: "app2"}))(t)
	must(t, w.EnsureHook(t.Context(), w.acme, w.app))
	if c := w.config(w.app); c.Slug != "app2" || c.FullName != "acme/app2" || c.Name != "app2" || c.State != store.RepositoryActive {
		t.Errorf("after renaming: %+v", c)
	}

	get(w.sim.RenameRepository(bitbucketsim.Rename{Repository: "acme/app2", Person: "alice", Workspace: "umbrella"}))(t)
	must(t, w.EnsureHook(t.Context(), w.acme, w.app))
	if c := w.config(w.app); c.State != store.RepositoryAttention || !strings.Contains(c.Attention, "transferred") {
		t.Errorf("after the transfer: %s %s", c.State, c.Attention)
	}
	equal(t, "alarms", w.alarms(w.acme), []string{store.AlarmHookMissing})

	get(w.sim.RenameRepository(bitbucketsim.Rename{Repository: "umbrella/app2", Person: "mallory", Workspace: "acme"}))(t)
	must(t, w.EnsureHook(t.Context(), w.acme, w.app))
	if c := w.config(w.app); c.State != store.RepositoryActive {
		t.Errorf("back again: %s %s", c.State, c.Attention)
	}
	equal(t, "alarms", w.alarms(w.acme), nil)

	get(w.sim.RemoveRepository(bitbucketsim.Removal{Repository: "acme/app2", Person: "alice"}))(t)
	must(t, w.EnsureHook(t.Context(), w.acme, w.app))
	if c := w.config(w.app); c.State != store.RepositoryAttention {
		t.Errorf("after deletion: %s", c.State)
	}
	// It can still be removed here, by an administrator of the workspace.
	get(w.RemoveRepository(t.Context(), w.who("alice"), "session", w.acme, w.app))(t)
}

func TestDeliveriesCarryTheSecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	got := make(chan string, 10)
	receiver := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got <- r.URL.Path + " " + r.Header.Get("X-Hub-Signature") + " " + string(body)
	})
	local := serve(t, receiver)
	w.Workspaces = w.at(local)
	w.connected("alice", w.acme)
	config := w.saved(w.app, approvals(1))
	get(w.sim.RenameRepository(bitbucketsim.Rename{Repository: "acme/app", Person: "alice", Description: "new"}))(t)
	path, rest, _ := strings.Cut(<-got, " ")
	signature, body, _ := strings.Cut(rest, " ")
	if path != "/hooks/"+config.HookID {
		t.Errorf("sent to %s", path)
	}
	var endpoint store.HookEndpoint
	w.read(w.acme, func(tx *store.Tx) (err error) { endpoint, err = tx.HookEndpointOf(t.Context(), w.app); return err })
	if want := bitbucketsim.Sign(string(endpoint.Secret), []byte(body)); signature != want {
		t.Errorf("signature %s, want %s", signature, want)
	}
	if !json.Valid([]byte(body)) {
		t.Error("no JSON")
	}
}

func TestRemoveRepository(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	alice := w.connected("alice", w.acme)
	config := w.saved(w.app, approvals(1))
	w.unpaid = []string{"The status of #7 could not be written."}
	left := get(w.RemoveRepository(t.Context(), alice, "session", w.acme, w.app))(t)
	if len(left) != 2 || left[0] != w.unpaid[0] || !strings.Contains(left[1], "no way to delete") {
		t.Errorf("left to do: %q", left)
	}
	equal(t, "cancelled", w.cancelled, []string{w.acme + "/" + w.app + ": The repository is no longer gated."})
	if n := len(w.hooks(w.app)); n != 0 {
		t.Errorf("%d webhooks", n)
	}
	_, err := w.Repository(t.Context(), alice, w.acme, w.app)
	refused(t, err, refusal.NotFound)
	err = w.store.Outside(t.Context(), func(sh *store.Shared) error {
		_, err := sh.HookEndpoint(t.Context(), config.HookID)
		return err
	})
	if !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the endpoint: %v", err)
	}
	policies := w.texts(`select coalesce(convert_from(entry, 'UTF8')::jsonb -> 'body' ->> 'policy', 'none') from signedapproval_leaves
		where convert_from(entry, 'UTF8')::jsonb ->> 'type' = 'policy-version' order by index`)
	equal(t, "policies in force", policies, []string{string(approvals(1).Digest()), "none"})

	t.Run("saving it again with the same rules says so in the log", func(t *testing.T) {
		again := w.saved(w.app, approvals(1))
		if again.PolicyVersionID == config.PolicyVersionID || again.HookID == config.HookID {
			t.Errorf("config %+v", again)
		}
		// The end of the gating is a version of its own: the log has each number once.
		equal(t, "versions", w.texts(`select convert_from(entry, 'UTF8')::jsonb -> 'body' ->> 'version' from signedapproval_leaves
			where convert_from(entry, 'UTF8')::jsonb ->> 'type' = 'policy-version' order by index`), []string{"1", "2", "3"})
		versions, _, err := w.PolicyVersions(t.Context(), alice, w.acme, w.app, store.Page{})
		must(t, err)
		if len(versions) != 2 || versions[0].Version != 3 || versions[1].Version != 1 {
			t.Errorf("the versions that a person is shown: %+v", versions)
		}
	})
	t.Run("a webhook that cannot be deleted is left to a person", func(t *testing.T) {
		w.unpaid = nil
		get(w.sim.AddFault(bitbucketsim.Fault{Method: http.MethodDelete, Path: "/hooks/", Status: 500, Times: 1}))(t)
		left := get(w.RemoveRepository(t.Context(), alice, "session", w.acme, w.app))(t)
		if len(left) != 2 || !strings.Contains(left[0], "The webhook of acme/app could not be deleted (Bitbucket answered 500)") {
			t.Errorf("left to do: %q", left)
		}
		orphan := w.hooks(w.app)
		if len(orphan) != 1 {
			t.Fatalf("webhooks %+v", orphan)
		}
		// Gating it again cleans up.
		w.saved(w.app, approvals(1))
		if hooks := w.hooks(w.app); len(hooks) != 1 || hooks[0].UUID == orphan[0].UUID {
			t.Errorf("webhooks %+v", hooks)
		}
	})
	t.Run("when the server dies half-way the repository is still gated, and healed", func(t *testing.T) {
		w.sql(`create function broken() returns trigger language plpgsql as $$ begin raise 'died'; end $$`)
		w.sql(`create trigger broken before delete on signedapproval_bitbucket_repo_configs for each row execute function broken()`)
		if _, err := w.RemoveRepository(t.Context(), alice, "session", w.acme, w.app); err == nil {
			t.Fatal("no error")
		}
		if c := w.config(w.app); c.State != store.RepositoryAttention {
			t.Errorf("a gate without its webhook looks as if it works: %s", c.State)
		}
		must(t, w.EnsureHook(t.Context(), w.acme, w.app))
		if c := w.config(w.app); c.State != store.RepositoryActive || len(w.hooks(w.app)) != 1 {
			t.Errorf("not healed: %s", c.State)
		}
	})
}

func TestDisconnect(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	alice := w.connected("alice", w.acme)
	w.saved(w.app, approvals(1))
	w.saved(w.tool, approvals(1))
	must(t, w.store.Outside(t.Context(), func(sh *store.Shared) error {
		_, err := sh.InsertAPIToken(t.Context(), store.APIToken{WorkspaceID: w.acme, PersonID: alice.ID, Name: "ci", Prefix: "sa_live_x", Scopes: []string{"READ"}}, []byte("hash"), 1e15)
		return err
	}))

	t.Run("is for administrators", func(t *testing.T) {
		for name, code := range map[string]string{"bob": refusal.Forbidden, "erin": refusal.Forbidden, "mallory": refusal.NotFound} {
			_, err := w.Disconnect(t.Context(), w.who(name), w.acme)
			refused(t, err, code)
		}
		_, err := w.Disconnect(t.Context(), alice, w.umbrella)
		refused(t, err, refusal.NotFound)
	})
	t.Run("stops where requests cannot be cancelled, and can be tried again", func(t *testing.T) {
		w.cancelErr = errors.New("database away")
		if _, err := w.Disconnect(t.Context(), alice, w.acme); !errors.Is(err, w.cancelErr) {
			t.Errorf("got %v", err)
		}
		w.cancelErr = nil
		if c := w.connection(w.acme); c.State != store.ConnectionActive {
			t.Errorf("connection is %s", c.State)
		}
		w.saved(w.app, approvals(1))
		w.saved(w.tool, approvals(1))
	})
	t.Run("goes through with failures and says what is left", func(t *testing.T) {
		get(w.sim.AddFault(bitbucketsim.Fault{Method: http.MethodDelete, Path: "/hooks/", Status: 403, Times: 1}))(t)
		w.unpaid = []string{"The status of #7 could not be written."}
		w.cancelled = nil
		left := get(w.Disconnect(t.Context(), alice, w.acme))(t)
		if len(left) != 4 || !strings.Contains(left[0], "could not be deleted (Bitbucket answered 403)") || left[1] != w.unpaid[0] ||
			!strings.Contains(left[2], "no way to delete") || !strings.Contains(left[3], "Alice can remove it at Bitbucket") {
			t.Errorf("left to do: %q", left)
		}
		equal(t, "cancelled", w.cancelled, []string{w.acme + "/: The workspace is no longer connected."})
		if n := len(w.hooks(w.app)) + len(w.hooks(w.tool)); n != 1 {
			t.Errorf("%d webhooks, want the one that could not be deleted", n)
		}
	})
	t.Run("forgets what is not needed", func(t *testing.T) {
		for what, query := range map[string]string{
			"tokens": `select 'x' from signedapproval_bitbucket_connections where access_token is not null or refresh_token is not null or previous_refresh_token is not null`,
			"config": `select slug from signedapproval_bitbucket_repo_configs`, "endpoints": `select id::text from signedapproval_hook_endpoints`,
			"people": `select name from signedapproval_repository_people`, "API tokens": `select name from signedapproval_api_tokens where revoked_at is null`,
		} {
			equal(t, what, w.texts(query), nil)
		}
		equal(t, "policy versions", w.texts(`select count(distinct (repository_id, digest))::text from signedapproval_policy_versions where digest <> ''`), []string{"2"})
		if got := w.leaves(w.acme); got[len(got)-1] != "connection ended" {
			t.Errorf("leaves %v", got)
		}
	})
	t.Run("then the workspace is not there for anybody", func(t *testing.T) {
		_, err := w.Find(t.Context(), alice, w.acme)
		refused(t, err, refusal.NotFound)
		_, err = w.Connection(t.Context(), alice, w.acme)
		refused(t, err, refusal.NotFound)
		if list, _, err := w.List(t.Context(), alice, store.Page{}); err != nil || len(list) != 0 {
			t.Errorf("listed %v, %v", list, err)
		}
		_, err = w.Disconnect(t.Context(), alice, w.acme)
		refused(t, err, refusal.NotFound)
	})
	t.Run("and can be connected again", func(t *testing.T) {
		salt := w.texts(`select encode(genesis_salt, 'hex') from signedapproval_workspaces`)
		w.connected("alice", w.acme)
		equal(t, "salt", w.texts(`select encode(genesis_salt, 'hex') from signedapproval_workspaces`), salt)
		got := w.leaves(w.acme)
		if got[len(got)-1] != "connection made" || strings.Count(fmt.Sprint(got), "genesis") != 1 {
			t.Errorf("leaves %v", got)
		}
	})
}

func TestHangingUpDoesNotLoseAPair(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{RefreshGrace: -1})
	w.connected("alice", w.acme)
	first := w.connection(w.acme)
	w.stale("-1 minute")
	get(w.sim.AddFault(bitbucketsim.Fault{Path: "/access_token$", DelayMS: 5000, Times: 1}))(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = w.Client(ctx, w.acme, bitbucket.Foreground)
	}()
	w.eventually("lease", func() bool {
		return len(w.texts(`select kind from signedapproval_jobs where kind = 'refresh' and leased_until > now()`)) == 1
	})
	cancel()
	<-done
	w.eventually("the new pair", func() bool { return w.connection(w.acme).Generation == first.Generation+1 })
	must(t, w.call(w.Workspaces))
}
