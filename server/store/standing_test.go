package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/store"
)

func TestStanding(t *testing.T) {
	t.Parallel()
	h := open(t)
	nobody, err := h.Standing(t.Context(), acme)
	must(t, err)
	if nobody.Connection != nil || nobody.Installation != nil || nobody.Now.IsZero() {
		t.Errorf("of a workspace that is not here: %+v", nobody)
	}
	if _, err := h.Standing(t.Context(), "no id"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("of what is no workspace: %v", err)
	}
	h.in(t, acme, func(ctx context.Context, tx *store.Tx) error {
		if _, _, err := tx.PutWorkspace(ctx, "acme", "Acme Inc"); err != nil {
			return err
		}
		if _, err := tx.PutInstallation(ctx, installationOf("ari:one", store.InstallationActive, time.Now())); err != nil {
			return err
		}
		return tx.PutConnection(ctx, store.Connection{
			ConnectedBy: acme, AccountID: "a", AccountUUID: acme, AccountName: "Alice",
			Scopes: []string{"account"}, AccessToken: "the access token", RefreshToken: "the refresh token",
		})
	})
	there, err := h.Standing(t.Context(), acme)
	must(t, err)
	if there.Connection == nil || there.Connection.AccessToken != "the access token" || there.Installation == nil || there.Installation.InstallationID != "ari:one" {
		t.Errorf("of a workspace with both: %+v", there)
	}
	other, err := h.Standing(t.Context(), globex)
	must(t, err)
	if other.Connection != nil || other.Installation != nil {
		t.Error("another workspace sees them")
	}
}
