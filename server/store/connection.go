package store

import (
	"context"
	"fmt"
	"time"
)

// States of a connection.
const (
	ConnectionActive            = "ACTIVE"
	ConnectionNeedsReconnecting = "NEEDS_RECONNECTING"
	ConnectionDisconnected      = "DISCONNECTED"
)

// AlarmConnectionRights is the kind of the alarm that the account of a connection has lost the right
// to administer the workspace.
const AlarmConnectionRights = "CONNECTION_LACKS_RIGHTS"

// Connection is the OAuth grant of a workspace: one person's consent.
type Connection struct {
	WorkspaceID string
	State       string
	StateReason string // a sentence; "" while ACTIVE
	ConnectedBy string // person
	AccountID   string // whose grant this is: author of our statuses
	AccountUUID string
	AccountName string
	Scopes      []string
	// The tokens are "" once disconnected. PreviousRefreshToken is what RefreshToken took the place
	// of, for one retry; "" if there is none or the retry was made.
	AccessToken          Secret
	RefreshToken         Secret
	PreviousRefreshToken Secret
	AccessExpiresAt      *time.Time
	Generation           int64 // moves with each stored pair of tokens
	ConnectedAt          time.Time
	RefreshedAt          time.Time
}

// sealedConnection is a Connection as it lies in its table.
type sealedConnection struct {
	WorkspaceID, State, StateReason, ConnectedBy, AccountID, AccountUUID, AccountName string

	Scopes                                          []string
	AccessToken, RefreshToken, PreviousRefreshToken []byte
	AccessExpiresAt                                 *time.Time
	Generation                                      int64
	ConnectedAt, RefreshedAt                        time.Time
}

const (
	connectionTable   = "signedapproval_bitbucket_connections"
	connectionColumns = `workspace_id, state, state_reason, connected_by, account_id, account_uuid, account_name, scopes,
		access_token, refresh_token, previous_refresh_token, access_expires_at, generation, connected_at, refreshed_at`
	selectConnection = `select ` + connectionColumns + ` from signedapproval_bitbucket_connections where workspace_id = $1`
)

func (v *Vault) openConnection(s sealedConnection) (Connection, error) {
	c := Connection{
		WorkspaceID: s.WorkspaceID, State: s.State, StateReason: s.StateReason, ConnectedBy: s.ConnectedBy,
		AccountID: s.AccountID, AccountUUID: s.AccountUUID, AccountName: s.AccountName, Scopes: s.Scopes,
		AccessExpiresAt: s.AccessExpiresAt, Generation: s.Generation, ConnectedAt: s.ConnectedAt, RefreshedAt: s.RefreshedAt,
	}
	for _, field := range []struct {
		column string
		sealed []byte
		plain  *Secret
	}{
		{"access_token", s.AccessToken, &c.AccessToken},
		{"refresh_token", s.RefreshToken, &c.RefreshToken},
		{"previous_refresh_token", s.PreviousRefreshToken, &c.PreviousRefreshToken},
	} {
		if field.sealed == nil {
			continue
		}
		plain, err := v.Open(connectionTable, s.WorkspaceID, field.column, field.sealed)
		if err != nil {
			return Connection{}, err
		}
		*field.plain = Secret(plain)
	}
	return c, nil
}

// seal encrypts a token for a column of this workspace's connection; "" becomes null.
func (tx *Tx) seal(column string, plain Secret) ([]byte, error) {
	if plain == "" {
		return nil, nil
	}
	return tx.vault.Seal(connectionTable, tx.Workspace, column, []byte(plain))
}

// Connection reads the workspace's connection, its tokens opened.
func (tx *Tx) Connection(ctx context.Context) (Connection, error) {
	return tx.connection(ctx, "")
}

// ConnectedAs tells whether the workspace is connected in the name of an account. It opens nothing that is sealed.
func (tx *Tx) ConnectedAs(ctx context.Context, accountID string) (connected bool, err error) {
	err = tx.tx.QueryRow(ctx, `select exists (select from signedapproval_bitbucket_connections where workspace_id = $1 and account_id = $2 and state <> $3)`,
		tx.Workspace, accountID, string(ConnectionDisconnected)).Scan(&connected)
	if err != nil {
		return false, fmt.Errorf("store: look for a connection: %w", err)
	}
	return connected, nil
}

// LockConnection is Connection, and keeps every other writer of it waiting until this transaction
// ends.
func (tx *Tx) LockConnection(ctx context.Context) (Connection, error) {
	return tx.connection(ctx, " for update")
}

func (tx *Tx) connection(ctx context.Context, lock string) (Connection, error) {
	sealed, err := single[sealedConnection](ctx, tx.tx, selectConnection+lock, tx.Workspace)
	if err != nil {
		return Connection{}, err
	}
	return tx.vault.openConnection(sealed)
}

// PutConnection stores a new consent in the place of whatever was there; it is ACTIVE. Of c, the
// account, ConnectedBy, Scopes, both tokens and AccessExpiresAt are read.
func (tx *Tx) PutConnection(ctx context.Context, c Connection) error {
	access, err := tx.seal("access_token", c.AccessToken)
	if err != nil {
		return err
	}
	refresh, err := tx.seal("refresh_token", c.RefreshToken)
	if err != nil {
		return err
	}
	_, err = tx.tx.Exec(ctx, `
		insert into signedapproval_bitbucket_connections as c (workspace_id, state, connected_by, account_id, account_uuid,
			account_name, scopes, access_token, refresh_token, access_expires_at)
		values ($1, 'ACTIVE', $2, $3, $4, $5, $6, $7, $8, $9)
		on conflict (workspace_id) do update set state = 'ACTIVE', state_reason = '', connected_by = excluded.connected_by,
			account_id = excluded.account_id, account_uuid = excluded.account_uuid, account_name = excluded.account_name,
			scopes = excluded.scopes, access_token = excluded.access_token, refresh_token = excluded.refresh_token,
			previous_refresh_token = null, access_expires_at = excluded.access_expires_at,
			generation = c.generation + 1, connected_at = now(), refreshed_at = now()`,
		tx.Workspace, c.ConnectedBy, c.AccountID, c.AccountUUID, c.AccountName, c.Scopes, access, refresh, c.AccessExpiresAt)
	if err != nil {
		return fmt.Errorf("store: put connection: %w", err)
	}
	return nil
}

// Tokens is a pair as Bitbucket gave it out.
type Tokens struct {
	Access          Secret
	Refresh         Secret
	AccessExpiresAt time.Time
}

// RenewConnection stores the pair that takes the place of the pair of this generation, and keeps the
// refresh token that was used for it as the previous one. ErrConflict where another pair was stored,
// or the connection ended, since that generation was read.
func (tx *Tx) RenewConnection(ctx context.Context, generation int64, used Secret, pair Tokens) error {
	access, err := tx.seal("access_token", pair.Access)
	if err != nil {
		return err
	}
	refresh, err := tx.seal("refresh_token", pair.Refresh)
	if err != nil {
		return err
	}
	previous, err := tx.seal("previous_refresh_token", used)
	if err != nil {
		return err
	}
	done, err := tx.tx.Exec(ctx, `
		update signedapproval_bitbucket_connections set access_token = $3, refresh_token = $4, previous_refresh_token = $5,
			access_expires_at = $6, generation = generation + 1, refreshed_at = now(), state = 'ACTIVE', state_reason = ''
		where workspace_id = $1 and generation = $2 and state <> 'DISCONNECTED'`,
		tx.Workspace, generation, access, refresh, previous, pair.AccessExpiresAt)
	if err != nil {
		return fmt.Errorf("store: renew connection: %w", err)
	}
	if done.RowsAffected() == 0 {
		return ErrConflict
	}
	return nil
}

// FailConnection says that Bitbucket no longer accepts the pair of this generation. ErrConflict
// where another pair was stored, or the connection is no longer ACTIVE, since that generation was read.
func (tx *Tx) FailConnection(ctx context.Context, generation int64, reason string) error {
	done, err := tx.tx.Exec(ctx, `
		update signedapproval_bitbucket_connections set state = 'NEEDS_RECONNECTING', state_reason = $3
		where workspace_id = $1 and generation = $2 and state = 'ACTIVE'`, tx.Workspace, generation, reason)
	if err != nil {
		return fmt.Errorf("store: fail connection: %w", err)
	}
	if done.RowsAffected() == 0 {
		return ErrConflict
	}
	return nil
}

// EndConnection forgets the tokens. What was decided under the connection stays.
func (tx *Tx) EndConnection(ctx context.Context, reason string) error {
	_, err := tx.tx.Exec(ctx, `
		update signedapproval_bitbucket_connections set state = 'DISCONNECTED', state_reason = $2, access_token = null,
			refresh_token = null, previous_refresh_token = null, access_expires_at = null, generation = generation + 1
		where workspace_id = $1`, tx.Workspace, reason)
	if err != nil {
		return fmt.Errorf("store: end connection: %w", err)
	}
	return nil
}
