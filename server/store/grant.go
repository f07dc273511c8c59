package store

import (
	"context"
	"fmt"
	"time"
)

// PendingGrant is a person's consent to the connect consumer for which no workspace has been picked
// yet.
type PendingGrant struct {
	ID              string
	PersonID        string
	AccountID       string // the Bitbucket account that consented
	AccountUUID     string
	AccountName     string
	Scopes          []string
	AccessToken     Secret
	RefreshToken    Secret
	AccessExpiresAt time.Time
	CreatedAt       time.Time
	ExpiresAt       time.Time
}

// sealedGrant is a PendingGrant as it lies in its table.
type sealedGrant struct {
	ID, PersonID, AccountID, AccountUUID, AccountName string
	Scopes                                            []string
	AccessToken, RefreshToken                         []byte
	AccessExpiresAt, CreatedAt, ExpiresAt             time.Time
}

const (
	grantTable   = "signedapproval_pending_grants"
	grantColumns = `id, person_id, account_id, account_uuid, account_name, scopes, access_token, refresh_token,
		access_expires_at, created_at, expires_at`
)

func (v *Vault) openGrant(s sealedGrant) (PendingGrant, error) {
	access, err := v.Open(grantTable, s.ID, "access_token", s.AccessToken)
	if err != nil {
		return PendingGrant{}, err
	}
	refresh, err := v.Open(grantTable, s.ID, "refresh_token", s.RefreshToken)
	if err != nil {
		return PendingGrant{}, err
	}
	return PendingGrant{
		ID: s.ID, PersonID: s.PersonID, AccountID: s.AccountID, AccountUUID: s.AccountUUID, AccountName: s.AccountName,
		Scopes: s.Scopes, AccessToken: Secret(access), RefreshToken: Secret(refresh),
		AccessExpiresAt: s.AccessExpiresAt, CreatedAt: s.CreatedAt, ExpiresAt: s.ExpiresAt,
	}, nil
}

// InsertPendingGrant stores a consent for lifetime, its tokens sealed. The caller chooses the id,
// since the tokens are sealed for it.
func (sh *Shared) InsertPendingGrant(ctx context.Context, g PendingGrant, lifetime time.Duration) error {
	access, err := sh.vault.Seal(grantTable, g.ID, "access_token", []byte(g.AccessToken))
	if err != nil {
		return err
	}
	refresh, err := sh.vault.Seal(grantTable, g.ID, "refresh_token", []byte(g.RefreshToken))
	if err != nil {
		return err
	}
	_, err = sh.tx.Exec(ctx, `
		insert into signedapproval_pending_grants (id, person_id, account_id, account_uuid, account_name, scopes,
			access_token, refresh_token, access_expires_at, expires_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, now() + make_interval(secs => $10))`,
		g.ID, g.PersonID, g.AccountID, g.AccountUUID, g.AccountName, g.Scopes, access, refresh, g.AccessExpiresAt, lifetime.Seconds())
	if err != nil {
		return fmt.Errorf("store: insert pending grant: %w", err)
	}
	return nil
}

// PendingGrants lists the living consents of a person, newest first.
func (sh *Shared) PendingGrants(ctx context.Context, personID string) ([]PendingGrant, error) {
	sealed, err := list[sealedGrant](ctx, sh.tx, `select `+grantColumns+` from signedapproval_pending_grants
		where person_id = $1 and expires_at > now() order by created_at desc, id`, personID)
	if err != nil {
		return nil, fmt.Errorf("store: list pending grants: %w", err)
	}
	grants := make([]PendingGrant, len(sealed))
	for i, s := range sealed {
		if grants[i], err = sh.vault.openGrant(s); err != nil {
			return nil, err
		}
	}
	return grants, nil
}

// PendingGrant reads a living consent of the person.
func (sh *Shared) PendingGrant(ctx context.Context, personID, id string) (PendingGrant, error) {
	sealed, err := single[sealedGrant](ctx, sh.tx, `select `+grantColumns+` from signedapproval_pending_grants
		where id = $1 and person_id = $2 and expires_at > now()`, id, personID)
	if err != nil {
		return PendingGrant{}, err
	}
	return sh.vault.openGrant(sealed)
}

// TakePendingGrant reads and removes a living consent of the person in one statement: it serves for
// one workspace.
func (sh *Shared) TakePendingGrant(ctx context.Context, personID, id string) (PendingGrant, error) {
	sealed, err := single[sealedGrant](ctx, sh.tx, `delete from signedapproval_pending_grants
		where id = $1 and person_id = $2 and expires_at > now() returning `+grantColumns, id, personID)
	if err != nil {
		return PendingGrant{}, err
	}
	return sh.vault.openGrant(sealed)
}
