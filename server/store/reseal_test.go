package store_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/signedapproval/bitbucket/server/store"
)

// TestResealWhileWriting rotates the keys under writers that replace tokens all the time: every
// value ends under the new key, and is one that a writer wrote last.
func TestResealWhileWriting(t *testing.T) {
	t.Parallel()
	h := open(t)
	ctx := t.Context()
	first := store.NewKeyset()
	second := rotated(t, first)
	serving := reopen(t, h.AppURL, first)

	const installations = "signedapproval_installations"
	const workspaces, grants, endpoints = 4, 3, 30
	h.super(t, `insert into signedapproval_people (id, account_id, account_uuid, name, salt) values ($1, 'a', $1, 'A', '\x00')`, alice)
	for n := range workspaces {
		h.super(t, `insert into signedapproval_workspaces (workspace_id, slug, name, genesis_salt) values ($1, 's', 'S', '\x00')`, uuid(n))
		token, err := serving.Vault.Seal(connections, uuid(n), "access_token", []byte("access 0"))
		must(t, err)
		refresh, err := serving.Vault.Seal(connections, uuid(n), "refresh_token", []byte("refresh 0"))
		must(t, err)
		h.super(t, `insert into signedapproval_bitbucket_connections
			(workspace_id, state, connected_by, account_id, account_uuid, account_name, scopes, access_token, refresh_token)
			values ($1, 'ACTIVE', $2, 'a', $2, 'A', '{}', $3, $4)`, uuid(n), alice, token, refresh)
		// Of a workspace that never was connected too: the app alone is there.
		app := uuid(n + workspaces)
		h.super(t, `insert into signedapproval_workspaces (workspace_id, slug, name, genesis_salt) values ($1, 's', 'S', '\x00')`, app)
		system, err := serving.Vault.Seal(installations, alice, "system_token", []byte("system"))
		must(t, err)
		h.super(t, `insert into signedapproval_installations (workspace_id, id, installation_id, environment_type, state, api_base_url, system_token, seen_at)
			values ($1, $2, 'i', 'PRODUCTION', 'ACTIVE', 'https://api.example.com', $3, now())`, app, alice, system)
	}
	for n := range grants {
		access, err := serving.Vault.Seal("signedapproval_pending_grants", uuid(n), "access_token", []byte("a"))
		must(t, err)
		refresh, err := serving.Vault.Seal("signedapproval_pending_grants", uuid(n), "refresh_token", []byte("r"))
		must(t, err)
		h.super(t, `insert into signedapproval_pending_grants (id, person_id, account_id, account_uuid, account_name, scopes,
			access_token, refresh_token, access_expires_at, expires_at) values ($1, $2, 'a', $2, 'A', '{}', $3, $4, now(), now())`,
			uuid(n), alice, access, refresh)
	}
	for n := range endpoints {
		secret, err := serving.Vault.Seal("signedapproval_hook_endpoints", uuid(n), "secret", []byte("s"))
		must(t, err)
		h.super(t, `insert into signedapproval_hook_endpoints (id, workspace_id, repository_id, secret) values ($1, $2, $1, $3)`, uuid(n), acme, secret)
	}

	// The server goes on writing under the old key, then learns the new one.
	must(t, serving.Vault.Reload(second))
	stop := make(chan struct{})
	last := make([]int, workspaces)
	var writers sync.WaitGroup
	for n := range workspaces {
		conn := connect(t, h.SuperURL)
		writers.Go(func() {
			for i := 1; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				sealed, err := serving.Vault.Seal(connections, uuid(n), "access_token", fmt.Appendf(nil, "access %d", i))
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := conn.Exec(context.WithoutCancel(ctx), `update signedapproval_bitbucket_connections set access_token = $2 where workspace_id = $1`, uuid(n), sealed); err != nil {
					t.Error(err)
					return
				}
				last[n] = i
			}
		})
	}
	count, err := reopen(t, h.AppURL, second).Reseal(ctx)
	close(stop)
	writers.Wait()
	must(t, err)
	if least := 2*workspaces + 2*grants + endpoints; count < least { // the refresh and system tokens and the rest; access tokens may be the writers' own
		t.Errorf("Reseal = %d, want at least %d", count, least)
	}

	for n := range workspaces {
		var access, refresh []byte
		h.read(t, &access, `select access_token from signedapproval_bitbucket_connections where workspace_id = $1`, uuid(n))
		h.read(t, &refresh, `select refresh_token from signedapproval_bitbucket_connections where workspace_id = $1`, uuid(n))
		for _, sealed := range [][]byte{access, refresh} {
			same(t, "NeedsReseal", serving.Vault.NeedsReseal(sealed), false)
		}
		plain, err := serving.Vault.Open(connections, uuid(n), "access_token", access)
		must(t, err)
		same(t, "the token", string(plain), fmt.Sprintf("access %d", last[n]))
		var system []byte
		h.read(t, &system, `select system_token from signedapproval_installations where workspace_id = $1`, uuid(n+workspaces))
		same(t, "NeedsReseal", serving.Vault.NeedsReseal(system), false)
		plain, err = serving.Vault.Open(installations, alice, "system_token", system)
		must(t, err)
		same(t, "the system token", string(plain), "system")
	}
	again, err := reopen(t, h.AppURL, second).Reseal(ctx)
	must(t, err)
	same(t, "values resealed by a second run", again, 0)
}

func TestResealStopsAtAValueThatDoesNotOpen(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.super(t, `insert into signedapproval_hook_endpoints (id, workspace_id, repository_id, secret) values ($1, $1, $1, '\x01deadbeef00')`, acme)
	if _, err := h.Reseal(t.Context()); err == nil {
		t.Error("Reseal passed over a value that it cannot open")
	}
	var kept []byte
	h.read(t, &kept, `select secret from signedapproval_hook_endpoints`)
	same(t, "the value", fmt.Sprintf("%x", kept), "01deadbeef00")
}
