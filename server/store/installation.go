package store

import (
	"context"
	"crypto/subtle"
	"fmt"
	"time"
)

// States of an installation.
const (
	// InstallationActive: it works for its workspace.
	InstallationActive = "ACTIVE"
	// InstallationAwaiting: the workspace has data of before, and no administrator has said yet that they
	// go together.
	InstallationAwaiting = "AWAITING_CONFIRMATION"
	// InstallationUninstalled: it is over, because it was uninstalled or because another took its place.
	InstallationUninstalled = "UNINSTALLED"
)

// Installation is the Forge app in a workspace. A workspace has at most one that is not over.
type Installation struct {
	ID             string // ours
	WorkspaceID    string
	InstallationID string // ari:cloud:ecosystem::installation/<uuid>
	Environment    string // PRODUCTION, STAGING or DEVELOPMENT
	State          string
	AppVersion     string // as last seen; "" where none was named
	APIBaseURL     string // where its calls go
	InstalledBy    string // Bitbucket account id; "" where nobody was named
	// SystemToken acts for the app until TokenExpiresAt; "" and nil while none is held.
	SystemToken    Secret
	TokenExpiresAt *time.Time
	InstalledAt    time.Time // when we first heard of it
	ConfirmedBy    *string   // person; nil where nothing had to be confirmed, or was not yet
	ConfirmedAt    *time.Time
	UninstalledAt  *time.Time
	SeenAt         time.Time // when its newest invocation was issued, to the minute
}

// Over tells whether the installation is no longer the workspace's.
func (i Installation) Over() bool { return i.State == InstallationUninstalled }

// TokenLives tells whether the installation holds a token that lives so much longer.
func (i Installation) TokenLives(now time.Time, longer time.Duration) bool {
	return i.SystemToken != "" && i.TokenExpiresAt != nil && !i.TokenExpiresAt.Before(now.Add(longer))
}

// sealedInstallation is an Installation as it lies in its table.
type sealedInstallation struct {
	ID, WorkspaceID, InstallationID, Environment, State, AppVersion, APIBaseURL, InstalledBy string

	SystemToken    []byte
	TokenExpiresAt *time.Time
	InstalledAt    time.Time
	ConfirmedBy    *string
	ConfirmedAt    *time.Time
	UninstalledAt  *time.Time
	SeenAt         time.Time
}

const (
	installationTable   = "signedapproval_installations"
	installationColumns = `id, workspace_id, installation_id, environment_type as environment, state, app_version, api_base_url,
		installed_by, system_token, system_token_expires_at as token_expires_at, installed_at, confirmed_by, confirmed_at, uninstalled_at, seen_at`
	selectInstallation = `select ` + installationColumns + ` from signedapproval_installations where workspace_id = $1 `
	// lastInstallation picks the one that is not over, else the one that was last heard.
	lastInstallation = `order by state = 'UNINSTALLED', seen_at desc, id limit 1`
)

func (v *Vault) openInstallation(s sealedInstallation) (Installation, error) {
	i := Installation{
		ID: s.ID, WorkspaceID: s.WorkspaceID, InstallationID: s.InstallationID, Environment: s.Environment, State: s.State,
		AppVersion: s.AppVersion, APIBaseURL: s.APIBaseURL, InstalledBy: s.InstalledBy, TokenExpiresAt: s.TokenExpiresAt,
		InstalledAt: s.InstalledAt, ConfirmedBy: s.ConfirmedBy, ConfirmedAt: s.ConfirmedAt, UninstalledAt: s.UninstalledAt, SeenAt: s.SeenAt,
	}
	if s.SystemToken == nil {
		return i, nil
	}
	plain, err := v.Open(installationTable, s.ID, "system_token", s.SystemToken)
	if err != nil {
		return Installation{}, err
	}
	i.SystemToken = Secret(plain)
	return i, nil
}

// Installation reads the workspace's installation: the one that is not over, else the one that was last
// heard. ErrNotFound where there never was one.
func (tx *Tx) Installation(ctx context.Context) (Installation, error) {
	return tx.installation(ctx, lastInstallation)
}

// LockInstallation is Installation, and keeps every other writer of it waiting until this transaction
// ends.
func (tx *Tx) LockInstallation(ctx context.Context) (Installation, error) {
	return tx.installation(ctx, lastInstallation+` for update`)
}

// InstallationOf reads an installation of the workspace by Forge's id.
func (tx *Tx) InstallationOf(ctx context.Context, installationID string) (Installation, error) {
	return tx.installation(ctx, `and installation_id = $2`, installationID)
}

func (tx *Tx) installation(ctx context.Context, which string, args ...any) (Installation, error) {
	sealed, err := single[sealedInstallation](ctx, tx.tx, selectInstallation+which, append([]any{tx.Workspace}, args...)...)
	if err != nil {
		return Installation{}, err
	}
	return tx.vault.openInstallation(sealed)
}

// PutInstallation stores an installation that is not over: a new one, or one that was over and turns
// out not to be. Of i, the Forge id, Environment, State, AppVersion, APIBaseURL, InstalledBy and SeenAt
// are read; it holds no token. ErrConflict where the workspace has another that is not over.
func (tx *Tx) PutInstallation(ctx context.Context, i Installation) (Installation, error) {
	sealed, err := single[sealedInstallation](ctx, tx.tx, `
		insert into signedapproval_installations as i (workspace_id, installation_id, environment_type, state, app_version, api_base_url, installed_by, seen_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8)
		on conflict (workspace_id, installation_id) do update set state = excluded.state, app_version = excluded.app_version,
			api_base_url = excluded.api_base_url, seen_at = excluded.seen_at, uninstalled_at = null, confirmed_by = null, confirmed_at = null
		returning `+installationColumns,
		tx.Workspace, i.InstallationID, i.Environment, i.State, i.AppVersion, i.APIBaseURL, i.InstalledBy, i.SeenAt)
	if violates(err) {
		return Installation{}, ErrConflict
	}
	if err != nil {
		return Installation{}, fmt.Errorf("store: put installation: %w", err)
	}
	return tx.vault.openInstallation(sealed)
}

// HearInstallation writes down what an invocation said of its installation; InstalledBy is kept where
// i names nobody.
func (tx *Tx) HearInstallation(ctx context.Context, i Installation) error {
	return tx.updateInstallation(ctx, "hear", i.ID, `app_version = $3, api_base_url = $4, seen_at = greatest(seen_at, $5),
		installed_by = coalesce(nullif($6, ''), installed_by)`, i.AppVersion, i.APIBaseURL, i.SeenAt, i.InstalledBy)
}

// ConfirmInstallation makes an installation ACTIVE by a person's word.
func (tx *Tx) ConfirmInstallation(ctx context.Context, id, personID string) error {
	return tx.updateInstallation(ctx, "confirm", id, `state = 'ACTIVE', confirmed_by = $3, confirmed_at = now()`, personID)
}

// EndInstallation says that an installation is over, and forgets its token. What was decided under it
// stays.
func (tx *Tx) EndInstallation(ctx context.Context, id string) error {
	return tx.updateInstallation(ctx, "end", id, `state = 'UNINSTALLED', uninstalled_at = now(), system_token = null, system_token_expires_at = null`)
}

// KeepSystemToken stores the token with which the app may call Bitbucket until it expires, in the place
// of the one before.
func (tx *Tx) KeepSystemToken(ctx context.Context, id string, token Secret, expiresAt time.Time) error {
	sealed, err := tx.vault.Seal(installationTable, id, "system_token", []byte(token))
	if err != nil {
		return err
	}
	return tx.updateInstallation(ctx, "keep the token of", id, `system_token = $3, system_token_expires_at = $4`, sealed, expiresAt)
}

// DropSystemToken forgets a token that Bitbucket does not take, unless another has taken its place.
func (tx *Tx) DropSystemToken(ctx context.Context, id string, refused Secret) error {
	i, err := tx.installation(ctx, `and id = $2 for update`, id)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare([]byte(i.SystemToken), []byte(refused)) != 1 {
		return nil
	}
	return tx.updateInstallation(ctx, "drop the token of", id, `system_token = null, system_token_expires_at = null`)
}

// DropExpiredToken forgets the workspace's token where its time is over.
func (tx *Tx) DropExpiredToken(ctx context.Context) error {
	_, err := tx.tx.Exec(ctx, `update signedapproval_installations set system_token = null, system_token_expires_at = null
		where workspace_id = $1 and system_token_expires_at <= now()`, tx.Workspace)
	if err != nil {
		return fmt.Errorf("store: drop expired token: %w", err)
	}
	return nil
}

func (tx *Tx) updateInstallation(ctx context.Context, what, id, set string, args ...any) error {
	done, err := tx.tx.Exec(ctx, `update signedapproval_installations set `+set+` where workspace_id = $1 and id = $2`,
		append([]any{tx.Workspace, id}, args...)...)
	if err != nil {
		return fmt.Errorf("store: %s installation: %w", what, err)
	}
	if done.RowsAffected() == 0 {
		return ErrNotFound
	}
	return nil
}

// WasGated tells whether the workspace has data of before: a repository of it was gated at some time.
func (tx *Tx) WasGated(ctx context.Context) (bool, error) {
	var was bool
	err := tx.tx.QueryRow(ctx, `select exists (select from signedapproval_policy_versions where workspace_id = $1)`, tx.Workspace).Scan(&was)
	if err != nil {
		return false, fmt.Errorf("store: history of a workspace: %w", err)
	}
	return was, nil
}
