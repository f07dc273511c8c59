package workspace_test

import (
	"fmt"
	"testing"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/workspace"
)

func TestList(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	// Bob is also a member of zoo and of a workspace that is not connected.
	zoo := bare(t, get(w.sim.AddWorkspace(bitbucketsim.Workspace{Slug: "zoo", Name: "Zoo", Owners: []string{"alice"}, Members: []string{"bob"}}))(t).UUID)
	w.connected("alice", w.acme)
	w.connected("alice", zoo)
	w.connected("mallory", w.umbrella)
	bob := w.who("bob")
	names := func(person store.Person, page store.Page) (names []string, more bool, last string) {
		list, more, err := w.List(t.Context(), person, page)
		must(t, err)
		for _, one := range list {
			names, last = append(names, one.Name), one.Cursor()
		}
		return names, more, last
	}

	t.Run("is empty for who was never seen in a workspace", func(t *testing.T) {
		got, more, _ := names(bob, store.Page{})
		if len(got) != 0 || more {
			t.Errorf("got %v", got)
		}
	})
	must(t, w.store.Outside(t.Context(), func(sh *store.Shared) error {
		return sh.PutMemberships(t.Context(), bob.ID, map[string]store.Role{w.acme: store.RoleMember, zoo: store.RoleMember, w.app: store.RoleMember})
	}))
	t.Run("is in pages by name", func(t *testing.T) {
		got, more, last := names(bob, store.Page{First: 1})
		equal(t, "first page", got, []string{"Acme Inc"})
		if !more {
			t.Error("no more")
		}
		got, more, _ = names(bob, store.Page{First: 1, After: last})
		equal(t, "second page", got, []string{"Zoo"})
		if more {
			t.Error("more")
		}
		_, _, err := w.List(t.Context(), bob, store.Page{After: "rubbish"})
		refused(t, err, refusal.BadInput)
		_, _, err = w.List(t.Context(), bob, store.Page{First: 101})
		refused(t, err, refusal.BadInput)
	})
	t.Run("asks anew after five minutes", func(t *testing.T) {
		w.role("bob", "")
		w.sql(`update signedapproval_memberships set fetched_at = now() - interval '301 seconds'`)
		got, _, _ := names(bob, store.Page{})
		equal(t, "without Acme", got, []string{"Zoo"})
		w.role("bob", "member")
	})
	t.Run("Find knows UUID and slug", func(t *testing.T) {
		alice := w.who("alice")
		for _, key := range []string{w.acme, "{" + w.acme + "}", "acme"} {
			if got := get(w.Find(t.Context(), alice, key))(t); got.ID != w.acme {
				t.Errorf("%s: %s", key, got.ID)
			}
		}
		for _, key := range []string{w.umbrella, "umbrella", "", "none", w.app} {
			_, err := w.Find(t.Context(), alice, key)
			refused(t, err, refusal.NotFound)
		}
	})
}

func TestRepositories(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	alice := w.connected("alice", w.acme)
	w.saved(w.app, approvals(1))
	w.saved(w.tool, approvals(1))
	slugs := func(name string) (slugs []string) {
		list, _, err := w.Workspaces.Repositories(t.Context(), w.who(name), w.acme, store.Page{})
		must(t, err)
		for _, c := range list {
			slugs = append(slugs, c.Slug)
		}
		return slugs
	}
	equal(t, "an administrator's", slugs("alice"), []string{"app", "tool"})
	equal(t, "a reader's", slugs("carol"), []string{"app"})
	_, _, err := w.Workspaces.Repositories(t.Context(), w.who("mallory"), w.acme, store.Page{})
	refused(t, err, refusal.NotFound)

	first, more, err := w.Workspaces.Repositories(t.Context(), alice, w.acme, store.Page{First: 1})
	must(t, err)
	if len(first) != 1 || !more || first[0].Name != "The App" {
		t.Fatalf("first page %+v", first)
	}
	second, more, err := w.Workspaces.Repositories(t.Context(), alice, w.acme, store.Page{First: 1, After: first[0].Cursor()})
	must(t, err)
	if len(second) != 1 || more || second[0].Name != "tool" {
		t.Errorf("second page %+v", second)
	}

	for _, key := range []string{w.app, "app"} {
		if got := get(w.Repository(t.Context(), w.who("carol"), w.acme, key))(t); got.RepositoryID != w.app {
			t.Errorf("%s: %s", key, got.RepositoryID)
		}
	}
	_, err = w.Repository(t.Context(), w.who("carol"), w.acme, "tool")
	refused(t, err, refusal.NotFound)
}

func TestBrowsing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	alice := w.connected("alice", w.acme)
	for i := range 60 {
		get(w.sim.AddRepository(bitbucketsim.Repository{Workspace: "acme", Slug: fmt.Sprintf("repo-%02d", i)}))(t)
	}
	w.saved(w.app, approvals(1))

	t.Run("repositories are walked over Bitbucket's pages", func(t *testing.T) {
		var slugs []string
		gated := 0
		page := store.Page{First: 7}
		for {
			list, more, err := w.BitbucketRepositories(t.Context(), alice, w.acme, "", page)
			must(t, err)
			for _, r := range list {
				slugs = append(slugs, r.Slug)
				if r.Config != nil {
					gated++
					if r.UUID != w.app || r.Config.RepositoryID != w.app {
						t.Errorf("gated: %+v", r)
					}
				}
			}
			if !more {
				break
			}
			page.After = list[len(list)-1].Cursor()
		}
		seen := map[string]bool{}
		for _, s := range slugs {
			seen[s] = true
		}
		if len(slugs) != 62 || len(seen) != 62 || gated != 1 {
			t.Errorf("%d entries, %d repositories, %d gated", len(slugs), len(seen), gated)
		}
	})
	t.Run("repositories are searched by name", func(t *testing.T) {
		list, more, err := w.BitbucketRepositories(t.Context(), alice, w.acme, " REPO-3", store.Page{First: 100})
		must(t, err)
		if len(list) != 10 || more {
			t.Errorf("%d found", len(list))
		}
	})
	t.Run("repositories are for administrators", func(t *testing.T) {
		_, _, err := w.BitbucketRepositories(t.Context(), w.who("erin"), w.acme, "", store.Page{})
		refused(t, err, refusal.Forbidden)
		_, _, err = w.BitbucketRepositories(t.Context(), w.who("mallory"), w.acme, "", store.Page{})
		refused(t, err, refusal.NotFound)
		for _, after := range []string{"rubbish", "e30x", string(make([]byte, 5000))} {
			_, _, err = w.BitbucketRepositories(t.Context(), alice, w.acme, "", store.Page{After: after})
			if code := refusal.Code(err); code != refusal.BadInput {
				t.Errorf("cursor %.10q: %v", after, err)
			}
		}
	})
	t.Run("a repository is found by its key, gated or not", func(t *testing.T) {
		for key, want := range map[string]string{w.app: w.app, "app": w.app, w.tool: w.tool, "tool": w.tool, "{" + w.tool + "}": w.tool} {
			r := get(w.BitbucketRepository(t.Context(), alice, w.acme, key))(t)
			if r.UUID != want || r.FullName == "" || r.Name == "" || (r.Config != nil) != (want == w.app) {
				t.Errorf("%s: %+v", key, r)
			}
		}
		for _, key := range []string{"none", "", "..", "app/refs", w.secret} {
			_, err := w.BitbucketRepository(t.Context(), alice, w.acme, key)
			refused(t, err, refusal.NotFound)
		}
		equal(t, "branches", get(w.Branches(t.Context(), alice, w.acme, w.tool, ""))(t), []string{"main"})
	})
	t.Run("a repository by its key is for its administrators", func(t *testing.T) {
		for who, want := range map[string]string{"bob": refusal.Forbidden, "mallory": refusal.NotFound} {
			_, err := w.BitbucketRepository(t.Context(), w.who(who), w.acme, "app")
			refused(t, err, want)
		}
	})
	t.Run("members are searched and paged", func(t *testing.T) {
		list, more, err := w.Members(t.Context(), w.who("bob"), w.acme, "", store.Page{First: 3})
		must(t, err)
		if len(list) != 3 || !more || list[0].Name != "Alice" {
			t.Fatalf("members %+v", list)
		}
		rest, more, err := w.Members(t.Context(), w.who("bob"), w.acme, "", store.Page{First: 3, After: list[2].Cursor()})
		must(t, err)
		if len(rest) != 2 || more || rest[0].Name != "Dave" || rest[1].Name != "Erin" {
			t.Errorf("members %+v", rest)
		}
		found, _, err := w.Members(t.Context(), alice, w.acme, "AR", store.Page{})
		must(t, err)
		if len(found) != 1 || found[0].AccountID != w.people["carol"].AccountID {
			t.Errorf("found %+v", found)
		}
		_, _, err = w.Members(t.Context(), w.who("mallory"), w.acme, "", store.Page{})
		refused(t, err, refusal.NotFound)
	})
	t.Run("branches and their strategies", func(t *testing.T) {
		carol := w.who("carol")
		equal(t, "branches", get(w.Branches(t.Context(), carol, w.acme, w.app, "ai"))(t), []string{"main"})
		equal(t, "no branches", get(w.Branches(t.Context(), carol, w.acme, w.app, "zzz"))(t), nil)
		equal(t, "strategies", get(w.MergeStrategies(t.Context(), carol, w.acme, w.app, "main"))(t), []string{"merge_commit", "squash", "fast_forward"})
		for _, branch := range []string{"none", "", ".."} {
			_, err := w.MergeStrategies(t.Context(), carol, w.acme, w.app, branch)
			refused(t, err, refusal.NotFound)
		}
		_, err := w.Branches(t.Context(), carol, w.acme, w.tool, "")
		refused(t, err, refusal.NotFound)
	})
}

// TestTenants asks each use case that takes ids for what belongs to another workspace.
func TestTenants(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	alice := w.connected("alice", w.acme)
	config := w.saved(w.app, approvals(1))
	mallory := w.connected("mallory", w.umbrella)
	theirs, problems, err := w.SaveRepository(t.Context(), mallory, "session", w.umbrella, w.secret, approvals(1))
	must(t, err)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	w.read(w.acme, func(tx *store.Tx) error {
		_, err := tx.RaiseAlarm(t.Context(), store.Alarm{Kind: "TEST", Subject: "x", Sentence: "x"})
		return err
	})
	ctx, ws := t.Context(), w.Workspaces
	one := func(_ any, err error) error { return err }
	two := func(_, _ any, err error) error { return err }
	// from is the workspace that is named, of the repository that is not in it, or that is not Mallory's.
	for name, attempt := range map[string]func() error{
		"Find":                            func() error { return one(ws.Find(ctx, mallory, w.acme)) },
		"Connection":                      func() error { return one(ws.Connection(ctx, mallory, w.acme)) },
		"Alarms":                          func() error { return one(ws.Alarms(ctx, mallory, w.acme)) },
		"Repositories":                    func() error { return two(ws.Repositories(ctx, mallory, w.acme, store.Page{})) },
		"Repository":                      func() error { return one(ws.Repository(ctx, mallory, w.acme, w.app)) },
		"Repository by slug":              func() error { return one(ws.Repository(ctx, mallory, w.acme, "app")) },
		"Repository through one's own":    func() error { return one(ws.Repository(ctx, mallory, w.umbrella, w.app)) },
		"PolicyVersion":                   func() error { return one(ws.PolicyVersion(ctx, mallory, w.acme, config.PolicyVersionID)) },
		"PolicyVersion through one's own": func() error { return one(ws.PolicyVersion(ctx, mallory, w.umbrella, config.PolicyVersionID)) },
		"PolicyVersions":                  func() error { return two(ws.PolicyVersions(ctx, mallory, w.acme, w.app, store.Page{})) },
		"PolicyVersions through one's own": func() error {
			return two(ws.PolicyVersions(ctx, mallory, w.umbrella, w.app, store.Page{}))
		},
		"Branches":                   func() error { return one(ws.Branches(ctx, mallory, w.acme, w.app, "")) },
		"Branches through one's own": func() error { return one(ws.Branches(ctx, mallory, w.umbrella, w.app, "")) },
		"MergeStrategies":            func() error { return one(ws.MergeStrategies(ctx, mallory, w.acme, w.app, "main")) },
		"BitbucketRepositories":      func() error { return two(ws.BitbucketRepositories(ctx, mallory, w.acme, "", store.Page{})) },
		"BitbucketRepository":        func() error { return one(ws.BitbucketRepository(ctx, mallory, w.acme, "app")) },
		"BitbucketRepository through one's own": func() error {
			return one(ws.BitbucketRepository(ctx, mallory, w.umbrella, w.app))
		},
		"Members":                          func() error { return two(ws.Members(ctx, mallory, w.acme, "", store.Page{})) },
		"SaveRepository":                   func() error { return two(ws.SaveRepository(ctx, mallory, "session", w.acme, w.app, approvals(1))) },
		"SaveRepository through one's own": func() error { return two(ws.SaveRepository(ctx, mallory, "session", w.umbrella, w.app, approvals(1))) },
		"RemoveRepository":                 func() error { return one(ws.RemoveRepository(ctx, mallory, "session", w.acme, w.app)) },
		"RemoveRepository through one's own": func() error {
			return one(ws.RemoveRepository(ctx, mallory, "session", w.umbrella, w.app))
		},
		"Disconnect":                     func() error { return one(ws.Disconnect(ctx, mallory, w.acme)) },
		"Alice's view of Mallory's":      func() error { return one(ws.Repository(ctx, alice, w.umbrella, w.secret)) },
		"a version of another workspace": func() error { return one(ws.PolicyVersion(ctx, alice, w.acme, theirs.PolicyVersionID)) },
	} {
		t.Run(name, func(t *testing.T) { refused(t, attempt(), refusal.NotFound) })
	}
	if can := get(ws.CanConfigure(ctx, mallory, w.acme, w.app))(t); can {
		t.Error("may configure")
	}
	// The connection of one workspace is not used for another, whatever ids are given.
	if people, err := ws.People(ctx, w.umbrella, w.app); err == nil {
		t.Errorf("people of another workspace's repository: %+v", people)
	}
	if err := ws.EnsureHook(ctx, w.umbrella, w.app); err != nil {
		t.Error(err)
	}
	if n := len(w.hooks(w.app)); n != 1 {
		t.Errorf("%d webhooks", n)
	}
	equal(t, "states", w.texts(`select state from signedapproval_bitbucket_connections`), []string{"ACTIVE", "ACTIVE"})
	equal(t, "configs", w.texts(`select slug from signedapproval_bitbucket_repo_configs order by 1`), []string{"app", "secret"})
}

func TestAlarmsAreForAdministrators(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	alice := w.connected("alice", w.acme)
	w.read(w.acme, func(tx *store.Tx) error {
		_, err := tx.RaiseAlarm(t.Context(), store.Alarm{Kind: "TEST", Subject: "x", Sentence: "Look."})
		return err
	})
	if alarms := get(w.Alarms(t.Context(), alice, w.acme))(t); len(alarms) != 1 || alarms[0].Sentence != "Look." {
		t.Errorf("alarms %+v", alarms)
	}
	_, err := w.Alarms(t.Context(), w.who("bob"), w.acme)
	refused(t, err, refusal.Forbidden)
}

func TestScopesArePurposeful(t *testing.T) {
	t.Parallel()
	for _, scope := range workspace.Scopes() {
		if scope.Name == "" || len(scope.Purpose) < 20 {
			t.Errorf("%+v", scope)
		}
	}
	if n := len(workspace.Scopes()); n != 4 {
		t.Errorf("%d scopes", n)
	}
}
