package store_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/store"
)

// in runs fn in a transaction of a workspace.
func (h *house) in(t *testing.T, workspace string, fn func(ctx context.Context, tx *store.Tx) error) {
	t.Helper()
	must(t, h.InWorkspace(t.Context(), workspace, func(tx *store.Tx) error { return fn(t.Context(), tx) }))
}

func installationOf(ari, state string, seen time.Time) store.Installation {
	return store.Installation{
		InstallationID: ari, Environment: "PRODUCTION", State: state, AppVersion: "1.0.0",
		APIBaseURL: "https://api.example.com", InstalledBy: "account-a", SeenAt: seen,
	}
}

func TestRegisteringAWorkspace(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.in(t, acme, func(ctx context.Context, tx *store.Tx) error {
		w, created, err := tx.RegisterWorkspace(ctx)
		same(t, "created", created, true)
		same(t, "its name until somebody reads it", w.Name, "{"+acme+"}")
		return err
	})
	h.in(t, acme, func(ctx context.Context, tx *store.Tx) error {
		_, _, err := tx.PutWorkspace(ctx, "acme", "Acme Inc")
		return err
	})
	h.in(t, acme, func(ctx context.Context, tx *store.Tx) error {
		w, created, err := tx.RegisterWorkspace(ctx)
		same(t, "created again", created, false)
		same(t, "its name afterwards", w.Name, "Acme Inc")
		return err
	})
}

func TestTheLifeOfAnInstallation(t *testing.T) {
	t.Parallel()
	h := open(t)
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	const token = store.Secret("a token that must never be seen at rest")
	var first store.Installation
	h.in(t, acme, func(ctx context.Context, tx *store.Tx) (err error) {
		_, _, err = tx.RegisterWorkspace(ctx)
		must(t, err)
		_, err = tx.Installation(ctx)
		wantError(t, "before there is one", err, store.ErrNotFound)
		first, err = tx.PutInstallation(ctx, installationOf("ari-1", store.InstallationAwaiting, noon))
		must(t, err)
		must(t, tx.ConfirmInstallation(ctx, first.ID, alice))
		must(t, tx.KeepSystemToken(ctx, first.ID, token, time.Now().Add(2*time.Hour)))
		return tx.HearInstallation(ctx, store.Installation{
			ID: first.ID, AppVersion: "2.0.0", APIBaseURL: "https://other.example.com", SeenAt: noon.Add(-time.Hour),
		})
	})
	h.in(t, acme, func(ctx context.Context, tx *store.Tx) error {
		i, err := tx.Installation(ctx)
		must(t, err)
		same(t, "state", i.State, store.InstallationActive)
		same(t, "confirmed by", *i.ConfirmedBy, alice)
		same(t, "token", i.SystemToken, token)
		same(t, "token lives an hour", i.TokenLives(time.Now(), time.Hour), true)
		same(t, "token lives three", i.TokenLives(time.Now(), 3*time.Hour), false)
		same(t, "version", i.AppVersion, "2.0.0")
		same(t, "where its calls go", i.APIBaseURL, "https://other.example.com")
		same(t, "who installed it is kept", i.InstalledBy, "account-a")
		same(t, "seen never goes back", i.SeenAt.Equal(noon), true)
		return nil
	})
	var sealed []byte
	h.read(t, &sealed, `select system_token from signedapproval_installations`)
	if bytes.Contains(sealed, []byte(token)) || len(sealed) <= len(token) {
		t.Error("the token lies in the clear")
	}

	// A second one that is not over is refused, and leaves the transaction's first half undone.
	err := h.InWorkspace(t.Context(), acme, func(tx *store.Tx) error {
		_, err := tx.PutInstallation(t.Context(), installationOf("ari-2", store.InstallationActive, noon))
		return err
	})
	wantError(t, "a second installation", err, store.ErrConflict)

	h.in(t, acme, func(ctx context.Context, tx *store.Tx) error {
		must(t, tx.EndInstallation(ctx, first.ID))
		second, err := tx.PutInstallation(ctx, installationOf("ari-2", store.InstallationActive, noon.Add(-time.Minute)))
		must(t, err)
		now, err := tx.Installation(ctx)
		must(t, err)
		same(t, "the installation, although the other was heard later", now.ID, second.ID)
		old, err := tx.InstallationOf(ctx, "ari-1")
		must(t, err)
		same(t, "the other is over", old.Over(), true)
		same(t, "and holds no token", old.SystemToken, store.Secret(""))
		return nil
	})

	// The other workspace has none of it.
	h.in(t, globex, func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.Installation(ctx)
		wantError(t, "in another workspace", err, store.ErrNotFound)
		_, err = tx.InstallationOf(ctx, "ari-1")
		wantError(t, "by its Forge id", err, store.ErrNotFound)
		for what, err := range map[string]error{
			"hear":    tx.HearInstallation(ctx, store.Installation{ID: first.ID, SeenAt: noon}),
			"confirm": tx.ConfirmInstallation(ctx, first.ID, bob),
			"end":     tx.EndInstallation(ctx, first.ID),
			"keep":    tx.KeepSystemToken(ctx, first.ID, "theirs", noon),
			"drop":    tx.DropSystemToken(ctx, first.ID, token),
		} {
			wantError(t, what+" from another workspace", err, store.ErrNotFound)
		}
		return nil
	})
}

func TestARefusedTokenIsDroppedUnlessAnotherCame(t *testing.T) {
	t.Parallel()
	h := open(t)
	soon := time.Now().Add(time.Hour)
	var i store.Installation
	h.in(t, acme, func(ctx context.Context, tx *store.Tx) (err error) {
		_, _, err = tx.RegisterWorkspace(ctx)
		must(t, err)
		i, err = tx.PutInstallation(ctx, installationOf("ari-1", store.InstallationActive, time.Now()))
		must(t, err)
		must(t, tx.KeepSystemToken(ctx, i.ID, "old", soon))
		must(t, tx.KeepSystemToken(ctx, i.ID, "new", soon))
		must(t, tx.DropSystemToken(ctx, i.ID, "old"))
		i, err = tx.Installation(ctx)
		must(t, err)
		same(t, "after the old one was refused", i.SystemToken, "new")
		must(t, tx.DropSystemToken(ctx, i.ID, "new"))
		i, err = tx.Installation(ctx)
		must(t, err)
		same(t, "after the new one was refused", i.SystemToken, "")
		must(t, tx.KeepSystemToken(ctx, i.ID, "ends", time.Now().Add(-time.Second)))
		must(t, tx.DropExpiredToken(ctx))
		i, err = tx.Installation(ctx)
		same(t, "after its time", i.SystemToken, "")
		return err
	})
}

func TestAskAgainRingsWhatWaitedForThat(t *testing.T) {
	t.Parallel()
	h := open(t)
	ctx := t.Context()
	for _, spec := range []store.JobSpec{
		{Kind: "status", Key: "waits", Workspace: acme, Payload: store.Place{Commit: "c"}},
		{Kind: "status", Key: "failed", Workspace: acme},
		{Kind: "status", Key: "other workspace", Workspace: globex},
	} {
		h.enqueue(t, spec)
		reason := "WAITING_FOR_TOKEN: not now"
		if spec.Key == "failed" {
			reason = "the sea is rough"
		}
		claim := h.claim(t, h.job(t, spec.Kind, spec.Key).ID, alice)
		_, err := h.RetryJob(ctx, claim.Claim, reason, time.Hour, false, 5)
		must(t, err)
	}
	h.rings()
	h.in(t, acme, func(ctx context.Context, tx *store.Tx) error {
		return tx.AskAgain(ctx, "WAITING_FOR_TOKEN", "AWAITING_CONFIRMATION")
	})
	if rung := h.rings(); len(rung) != 1 || rung[0] != "status waits" {
		t.Errorf("rung %q", rung)
	}
	same(t, "the job that waited is due", h.job(t, "status", "waits").Due, true)
	same(t, "the one that failed is due", h.job(t, "status", "failed").Due, false)
	same(t, "the other workspace's is due", h.job(t, "status", "other workspace").Due, false)
	var commit string
	h.read(t, &commit, `select payload ->> 'commit' from signedapproval_jobs where key = 'waits'`)
	same(t, "the payload is kept", commit, "c")
}

func TestAdministratorsOfAWorkspace(t *testing.T) {
	t.Parallel()
	h := open(t)
	for id, role := range map[string]string{alice: "ADMIN", bob: "MEMBER"} {
		h.super(t, `insert into signedapproval_people (id, account_id, account_uuid, name, salt) values ($1, $1::uuid::text, $1, 'A', '\x00')`, id)
		for _, workspace := range []string{acme, globex} {
			h.super(t, `insert into signedapproval_memberships (person_id, workspace_id, role) values ($1, $2, $3)`, id, workspace, role)
		}
	}
	h.super(t, `update signedapproval_memberships set fetched_at = now() - interval '2 days' where workspace_id = $1`, globex)
	for workspace, want := range map[string]int{acme: 1, globex: 0} {
		must(t, h.Outside(t.Context(), func(sh *store.Shared) error {
			ids, err := sh.Administrators(t.Context(), workspace, 24*time.Hour)
			same(t, "administrators", len(ids), want)
			if want == 1 {
				same(t, "who", ids[0], alice)
			}
			return err
		}))
	}
}
