package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Credential is one enrolled authenticator key of one person.
type Credential struct {
	ID                []byte // WebAuthn credential id
	PersonID          string
	Name              string
	PublicKey         []byte  // COSE in canonical CBOR, so that one key has one form
	AAGUID            *string // the authenticator's model; nil where it does not say
	SignCount         int64
	BackupEligible    bool // must never change
	BackupState       bool
	Transports        []string
	AttestationObject []byte // kept whole
	ClientData        []byte // of the enrolment
	CreatedAt         time.Time
	LastUsedAt        *time.Time
	RevokedAt         *time.Time
}

const credentialColumns = `id, person_id, name, public_key, aaguid, sign_count, backup_eligible, backup_state,
	transports, attestation_object, client_data, created_at, last_used_at, revoked_at`

// InsertCredential stores a new key; ErrConflict where this key is or was enrolled already, by anybody,
// under this credential id or another one.
func (sh *Shared) InsertCredential(ctx context.Context, c Credential) (Credential, error) {
	stored, err := single[Credential](ctx, sh.tx, `
		insert into signedapproval_credentials (id, person_id, name, public_key, aaguid, sign_count, backup_eligible,
			backup_state, transports, attestation_object, client_data)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
		on conflict do nothing
		returning `+credentialColumns,
		c.ID, c.PersonID, c.Name, c.PublicKey, c.AAGUID, c.SignCount, c.BackupEligible, c.BackupState,
		append([]string{}, c.Transports...), c.AttestationObject, c.ClientData)
	if errors.Is(err, ErrNotFound) {
		return Credential{}, ErrConflict
	}
	if err != nil {
		return Credential{}, fmt.Errorf("store: insert credential: %w", err)
	}
	return stored, nil
}

// Credential reads a key by its WebAuthn credential id, revoked or not.
func (sh *Shared) Credential(ctx context.Context, id []byte) (Credential, error) {
	return single[Credential](ctx, sh.tx, `select `+credentialColumns+` from signedapproval_credentials where id = $1`, id)
}

// Credentials lists the keys of a person, newest first, revoked ones included.
func (sh *Shared) Credentials(ctx context.Context, personID string) ([]Credential, error) {
	return list[Credential](ctx, sh.tx, `select `+credentialColumns+` from signedapproval_credentials
		where person_id = $1 order by created_at desc, id`, personID)
}

// LockCredentials reads the keys of a person like Credentials and keeps every other change of them
// waiting until this transaction ends.
func (sh *Shared) LockCredentials(ctx context.Context, personID string) ([]Credential, error) {
	if _, err := sh.tx.Exec(ctx, `select from signedapproval_people where id = $1 for update`, personID); err != nil {
		return nil, fmt.Errorf("store: lock credentials: %w", err)
	}
	return sh.Credentials(ctx, personID)
}

// UseCredential notes that a key made a decision: its counter and whether it is backed up now.
// ErrNotFound where the key was revoked meanwhile, or its counter has been as far by another decision,
// so that the decision fails with it.
func (sh *Shared) UseCredential(ctx context.Context, id []byte, signCount int64, backupState bool) error {
	done, err := sh.tx.Exec(ctx, `
		update signedapproval_credentials set sign_count = $2, backup_state = $3, last_used_at = now()
		where id = $1 and revoked_at is null and (sign_count < $2 or sign_count = 0 and $2 = 0)`, id, signCount, backupState)
	if err != nil {
		return fmt.Errorf("store: use credential: %w", err)
	}
	if done.RowsAffected() == 0 {
		return ErrNotFound
	}
	return nil
}

// RenameCredential gives a key of the person another name.
func (sh *Shared) RenameCredential(ctx context.Context, personID string, id []byte, name string) (Credential, error) {
	return single[Credential](ctx, sh.tx, `
		update signedapproval_credentials set name = $3 where id = $1 and person_id = $2
		returning `+credentialColumns, id, personID, name)
}

// RevokeCredential ends a key of the person for good. ErrNotFound also where it was revoked before.
func (sh *Shared) RevokeCredential(ctx context.Context, personID string, id []byte) (Credential, error) {
	return single[Credential](ctx, sh.tx, `
		update signedapproval_credentials set revoked_at = now() where id = $1 and person_id = $2 and revoked_at is null
		returning `+credentialColumns, id, personID)
}
