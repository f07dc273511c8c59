package store

import (
	"context"
	"fmt"
	"time"
)

// HookEndpoint is where Bitbucket sends the events of one repository.
type HookEndpoint struct {
	ID           string // ours; part of the webhook's URL
	WorkspaceID  string
	RepositoryID string
	Secret       Secret // signs the deliveries
	HookUUID     string // Bitbucket's id of the webhook, "" until it was made
	CreatedAt    time.Time
}

// sealedEndpoint is a HookEndpoint as it lies in its table.
type sealedEndpoint struct {
	ID, WorkspaceID, RepositoryID string
	Secret                        []byte
	HookUUID                      string
	CreatedAt                     time.Time
}

const (
	hookTable   = "signedapproval_hook_endpoints"
	hookColumns = `id, workspace_id, repository_id, secret, hook_uuid, created_at`
)

func (v *Vault) openEndpoint(s sealedEndpoint) (HookEndpoint, error) {
	secret, err := v.Open(hookTable, s.ID, "secret", s.Secret)
	if err != nil {
		return HookEndpoint{}, err
	}
	return HookEndpoint{
		ID: s.ID, WorkspaceID: s.WorkspaceID, RepositoryID: s.RepositoryID, Secret: Secret(secret),
		HookUUID: s.HookUUID, CreatedAt: s.CreatedAt,
	}, nil
}

// PutHookEndpoint stores the endpoint of a repository of this workspace, with its secret sealed. A
// repository that has one keeps it: then the present one is returned.
func (tx *Tx) PutHookEndpoint(ctx context.Context, id, repositoryID string, secret Secret) (HookEndpoint, error) {
	sealed, err := tx.vault.Seal(hookTable, id, "secret", []byte(secret))
	if err != nil {
		return HookEndpoint{}, err
	}
	_, err = tx.tx.Exec(ctx, `
		insert into signedapproval_hook_endpoints (id, workspace_id, repository_id, secret) values ($1, $2, $3, $4)
		on conflict (workspace_id, repository_id) do nothing`, id, tx.Workspace, repositoryID, sealed)
	if err != nil {
		return HookEndpoint{}, fmt.Errorf("store: put hook endpoint: %w", err)
	}
	return tx.HookEndpointOf(ctx, repositoryID)
}

// HookEndpoint reads an endpoint by its id: the door's first look, before it can know the workspace.
func (sh *Shared) HookEndpoint(ctx context.Context, id string) (HookEndpoint, error) {
	sealed, err := single[sealedEndpoint](ctx, sh.tx, `select `+hookColumns+` from signedapproval_hook_endpoints where id = $1`, id)
	if err != nil {
		return HookEndpoint{}, err
	}
	return sh.vault.openEndpoint(sealed)
}

// HookEndpointOf reads the endpoint of a repository of this workspace.
func (tx *Tx) HookEndpointOf(ctx context.Context, repositoryID string) (HookEndpoint, error) {
	sealed, err := single[sealedEndpoint](ctx, tx.tx, `select `+hookColumns+` from signedapproval_hook_endpoints
		where workspace_id = $1 and repository_id = $2`, tx.Workspace, repositoryID)
	if err != nil {
		return HookEndpoint{}, err
	}
	return tx.vault.openEndpoint(sealed)
}

// SetHookUUID remembers which webhook at Bitbucket belongs to an endpoint of this workspace.
func (tx *Tx) SetHookUUID(ctx context.Context, id, hookUUID string) error {
	done, err := tx.tx.Exec(ctx, `update signedapproval_hook_endpoints set hook_uuid = $3 where workspace_id = $1 and id = $2`,
		tx.Workspace, id, hookUUID)
	if err != nil {
		return fmt.Errorf("store: set hook uuid: %w", err)
	}
	if done.RowsAffected() == 0 {
		return ErrNotFound
	}
	return nil
}

// DeleteHookEndpoint forgets the endpoint of a repository: deliveries to it are refused from now on.
func (tx *Tx) DeleteHookEndpoint(ctx context.Context, repositoryID string) error {
	_, err := tx.tx.Exec(ctx, `delete from signedapproval_hook_endpoints where workspace_id = $1 and repository_id = $2`,
		tx.Workspace, repositoryID)
	if err != nil {
		return fmt.Errorf("store: delete hook endpoint: %w", err)
	}
	return nil
}
