package gate_test

import (
	"context"
	"testing"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// known notes what Bitbucket said of a person's right on the repository, as if it had just been asked.
func (w *world) known(who string, permission bitbucket.Permission) {
	w.t.Helper()
	w.in(func(tx *store.Tx) error {
		p := w.people[who]
		return tx.PutRepositoryPerson(w.t.Context(), w.repository, store.RepositoryPerson{AccountID: p.AccountID, Name: p.Name, Permission: string(permission)})
	})
}

// TestWhoMayNotReadSeesAndDecidesNothing: what Bitbucket said lately counts, and nobody asks it again; where it said nothing lately, or too
// long ago, it is asked. What is refused so leaves the signature to be used.
func TestWhoMayNotReadSeesAndDecidesNothing(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	number := w.open()
	w.settle()
	bob := w.people["bob"]
	draft, err := w.draft(number, "bob", approval.Approve)
	w.must(err)
	prepared, err := w.gate.Prepare(t.Context(), bob.Person, bob.session, draft)
	w.must(err)
	response := w.signed(bob.key, prepared.Options)
	asked, permission := 0, w.gate.Permission
	w.gate.Permission = func(ctx context.Context, p store.Person, workspace, repository string, fresh bool) (bitbucket.Permission, error) {
		asked++
		return permission(ctx, p, workspace, repository, fresh)
	}
	old := func() { w.sql(`update signedapproval_repository_people set fetched_at = now() - interval '6 minutes'`) }
	for _, one := range []struct {
		what   string
		before func()
		asked  int
		made   bool
	}{
		{"never asked, and may not", func() { w.rights[bob.ID] = bitbucket.PermissionNone }, 1, false},
		{"said not to", func() { w.known("bob", bitbucket.PermissionNone); w.rights[bob.ID] = bitbucket.PermissionRead }, 0, false},
		{"long ago, and still may not", func() { old(); w.rights[bob.ID] = bitbucket.PermissionNone }, 1, false},
		{"not in a list that was read lately", func() {
			w.sql(`delete from signedapproval_repository_people`)
			w.sql(`insert into signedapproval_repository_people_lists (workspace_id, repository_id, fetched_at) values ($1, $2, now())`, w.workspace, w.repository)
		}, 0, false},
		{"said to", func() { w.known("bob", bitbucket.PermissionRead) }, 0, true},
	} {
		one.before()
		asked = 0
		if _, err := w.gate.ViewRequest(t.Context(), bob.Person, w.workspace, draft.RequestID); one.made != (err == nil) || !one.made && refusal.Code(err) != refusal.NotFound {
			t.Errorf("%s, who looks at it: %v", one.what, err)
		}
		if asked != one.asked {
			t.Errorf("%s: for a look Bitbucket was asked %d times", one.what, asked)
		}
		asked = 0
		_, err := w.gate.Decide(t.Context(), bob.Person, bob.session, w.workspace, draft.RequestID, response)
		if one.made {
			w.must(err)
		} else if refusal.Code(err) != refusal.NotFound {
			t.Errorf("%s: %v", one.what, err)
		}
		if asked != one.asked {
			t.Errorf("%s: Bitbucket was asked %d times", one.what, asked)
		}
	}
	if n := w.decided(); n != 1 {
		t.Errorf("%d decisions", n)
	}
}
