package workspace_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/workspace"
)

func (w *world) role(name, role string) {
	w.t.Helper()
	get(w.sim.SetMembership(bitbucketsim.Membership{Workspace: "acme", Person: name, Role: role}))(w.t)
}

func (w *world) level(name, level string) {
	w.t.Helper()
	get(w.sim.SetPermission(bitbucketsim.Permission{Repository: "acme/app", Person: name, Level: level}))(w.t)
}

func TestRole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)

	for name, want := range map[string]store.Role{
		"alice": store.RoleAdmin, "dave": store.RoleAdmin, "bob": store.RoleMember, "mallory": store.RoleNone,
	} {
		if got := get(w.Role(t.Context(), w.who(name), w.acme, false))(t); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	t.Run("is believed for five minutes and not longer", func(t *testing.T) {
		dave := w.who("dave")
		w.role("dave", "member")
		before := w.lastCall()
		if got := get(w.Role(t.Context(), dave, w.acme, false))(t); got != store.RoleAdmin {
			t.Errorf("the cache says %s", got)
		}
		if n := len(w.sim.Calls(before)); n != 0 {
			t.Errorf("%d calls", n)
		}
		w.sql(`update signedapproval_memberships set fetched_at = now() - interval '301 seconds' where person_id = $1`, dave.ID)
		if got := get(w.Role(t.Context(), dave, w.acme, false))(t); got != store.RoleMember {
			t.Errorf("after five minutes %s", got)
		}
	})
	t.Run("fresh is read now", func(t *testing.T) {
		w.role("dave", "owner")
		if got := get(w.Role(t.Context(), w.who("dave"), w.acme, true))(t); got != store.RoleAdmin {
			t.Errorf("got %s", got)
		}
	})
	t.Run("is a refusal where Bitbucket cannot be asked", func(t *testing.T) {
		get(w.sim.AddFault(bitbucketsim.Fault{Path: "/permissions$", Status: 500}))(t)
		defer w.sim.ClearFaults()
		_, err := w.Role(t.Context(), w.who("bob"), w.acme, true)
		refused(t, err, refusal.BitbucketUnavailable)
	})
	t.Run("is none in a workspace that is not connected, and in no workspace", func(t *testing.T) {
		for _, id := range []string{w.umbrella, "acme", "", "'; drop table x"} {
			if got := get(w.Role(t.Context(), w.who("mallory"), id, true))(t); got != store.RoleNone {
				t.Errorf("%q: %s", id, got)
			}
		}
	})
	t.Run("is none after disconnecting", func(t *testing.T) {
		alice := w.who("alice")
		get(w.Disconnect(t.Context(), alice, w.acme))(t)
		for _, fresh := range []bool{false, true} {
			if got := get(w.Role(t.Context(), alice, w.acme, fresh))(t); got != store.RoleNone {
				t.Errorf("got %s", got)
			}
		}
	})
}

func TestPermission(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)

	for name, want := range map[string]bitbucket.Permission{
		"alice": "admin", "erin": "admin", "bob": "write", "carol": "read", "mallory": "none",
	} {
		if got := get(w.Permission(t.Context(), w.who(name), w.acme, w.app, false))(t); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	t.Run("is believed for five minutes and not longer", func(t *testing.T) {
		bob := w.who("bob")
		w.level("bob", "read")
		if got := get(w.Permission(t.Context(), bob, w.acme, w.app, false))(t); got != bitbucket.PermissionWrite {
			t.Errorf("the cache says %s", got)
		}
		w.sql(`update signedapproval_repository_people set fetched_at = now() - interval '301 seconds' where account_id = $1`, bob.AccountID)
		if got := get(w.Permission(t.Context(), bob, w.acme, w.app, false))(t); got != bitbucket.PermissionRead {
			t.Errorf("after five minutes %s", got)
		}
	})
	t.Run("fresh is read now", func(t *testing.T) {
		w.level("bob", "")
		if got := get(w.Permission(t.Context(), w.who("bob"), w.acme, w.app, true))(t); got != bitbucket.PermissionNone {
			t.Errorf("got %s", got)
		}
	})
	t.Run("who is missing in a young list has none", func(t *testing.T) {
		get(w.People(t.Context(), w.acme, w.app))(t)
		before := w.lastCall()
		if got := get(w.Permission(t.Context(), w.who("bob"), w.acme, w.app, false))(t); got != bitbucket.PermissionNone {
			t.Errorf("got %s", got)
		}
		if n := len(w.sim.Calls(before)); n != 0 {
			t.Errorf("%d calls", n)
		}
	})
	t.Run("a repository of another workspace does not exist", func(t *testing.T) {
		mallory := w.who("mallory")
		if got := get(w.Permission(t.Context(), mallory, w.acme, w.secret, true))(t); got != bitbucket.PermissionNone {
			t.Errorf("got %s", got)
		}
		if got := get(w.Permission(t.Context(), mallory, w.umbrella, w.secret, true))(t); got != bitbucket.PermissionNone {
			t.Errorf("in a workspace that is not connected: %s", got)
		}
	})
	t.Run("is a refusal where Bitbucket cannot be asked", func(t *testing.T) {
		get(w.sim.AddFault(bitbucketsim.Fault{Path: "/permissions/repositories/", Status: 500}))(t)
		defer w.sim.ClearFaults()
		_, err := w.Permission(t.Context(), w.who("alice"), w.acme, w.app, true)
		refused(t, err, refusal.BitbucketUnavailable)
	})
	t.Run("is none where the connection does not even see the repository", func(t *testing.T) {
		w.role("alice", "member")
		defer w.role("alice", "owner")
		if got := get(w.Permission(t.Context(), w.who("erin"), w.acme, w.app, true))(t); got != bitbucket.PermissionNone {
			t.Errorf("got %s", got)
		}
	})
	t.Run("is a refusal that names the connection where that lost its rights", func(t *testing.T) {
		w.role("alice", "member")
		w.level("alice", "read")
		defer w.role("alice", "owner")
		_, err := w.Permission(t.Context(), w.who("erin"), w.acme, w.app, true)
		refused(t, err, workspace.CodeConnectionRights)
	})
}

func TestPeople(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	names := func(people []store.RepositoryPerson) map[string]string {
		m := map[string]string{}
		for _, p := range people {
			m[p.Name] = p.Permission
		}
		return m
	}
	before := w.lastCall()
	// Who wants the list at the same time shares one reading.
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if _, err := w.People(t.Context(), w.acme, w.app); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	reads := 0
	for _, call := range w.sim.Calls(before) {
		if strings.Contains(call.Path, "/permissions/repositories/") {
			reads++
		}
	}
	if reads < 1 || reads > 4 { // a late one may start another
		t.Errorf("the list was read %d times", reads)
	}
	got := names(get(w.People(t.Context(), w.acme, w.app))(t))
	want := map[string]string{"Alice": "admin", "Dave": "admin", "Erin": "admin", "Bob": "write", "Carol": "read"}
	if len(got) != len(want) {
		t.Errorf("got %v", got)
	}
	for name, permission := range want {
		if got[name] != permission {
			t.Errorf("%s: %q, want %q", name, got[name], permission)
		}
	}

	w.level("carol", "")
	if got := names(get(w.People(t.Context(), w.acme, w.app))(t)); got["Carol"] != "read" {
		t.Error("the list was not kept")
	}
	w.sql(`update signedapproval_repository_people_lists set fetched_at = now() - interval '301 seconds'`)
	if got := names(get(w.People(t.Context(), w.acme, w.app))(t)); got["Carol"] != "" {
		t.Errorf("who lost the permission is still listed: %v", got)
	}
}
