package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// What is known of a key's owner, and who took a key out of use: evidence's words.
const (
	ByLogIn         = "bitbucket-login"
	ByOwnKey        = "own-key"
	ByCountersigner = "countersigner"
	ByOperator      = "operator"
)

// WaitingLife is how long a key waits to be enrolled before it is forgotten.
const WaitingLife = 7 * 24 * time.Hour

// Credential is one authenticator key of one person. It decides only while Enrolled.
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
	Unfinished        []byte     // waiting only: the evidence.Enrolment as far as it has come, canonical JSON
	Enrolment         []byte     // the evidence.Enrolment, canonical JSON; nil while waiting
	EnrolmentOpening  []byte     // opens the enrol act's commitment to the person; an evidence.PersonOpening, JSON
	IdentifiedBy      *string    // ByLogIn, ByOwnKey or ByCountersigner; nil while waiting
	AuthorityID       []byte     // ByOwnKey only: the credential id of the key of the same person that signed for it
	EnrolledAt        *time.Time // nil while waiting
	RevokedAt         *time.Time
	RevokedBy         *string // ByOwnKey or ByOperator; nil where the key was given up before it was enrolled
	Revocation        []byte  // the evidence.SignedAct, canonical JSON; nil where nobody signed
	RevocationOpening []byte
	CompromisedSince  *time.Time // decisions since then do not count
	EnrolledOrder     int64      // where that is in the order in which the person's keys changed; 0 while waiting
	RevokedOrder      int64      // likewise; 0 until then
}

// Enrolled says whether the key was enrolled and not revoked: only then does it decide. In a workspace it
// may not count all the same; see Countersignature and KeyRevocation.
func (c Credential) Enrolled() bool { return c.EnrolledAt != nil && c.RevokedAt == nil }

// Waiting says whether the key is still to be enrolled.
func (c Credential) Waiting() bool { return c.EnrolledAt == nil && c.RevokedAt == nil }

// Key is the credential as the roster names it.
func (c Credential) Key() evidence.Key {
	return evidence.Key{Person: c.PersonID, CredentialID: c.ID, PublicKey: c.PublicKey, BackupEligible: c.BackupEligible}
}

const credentialColumns = `id, person_id, name, public_key, aaguid, sign_count, backup_eligible, backup_state,
	transports, attestation_object, client_data, created_at, last_used_at, unfinished, enrolment, enrolment_opening,
	identified_by, authority_id, enrolled_at, revoked_at, revoked_by, revocation, revocation_opening, compromised_since, enrolled_order, revoked_order`

// InsertCredential stores a new key, which waits; ErrConflict where this key is or was enrolled already, by anybody,
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

// Credentials lists the keys of a person, newest first, waiting and revoked ones included.
func (sh *Shared) Credentials(ctx context.Context, personID string) ([]Credential, error) {
	return list[Credential](ctx, sh.tx, selectCredentialsOf, personID)
}

const selectCredentialsOf = `select ` + credentialColumns + ` from signedapproval_credentials where person_id = $1 order by created_at desc, id`

// CredentialsByID lists the keys with these credential ids, in any order.
func (sh *Shared) CredentialsByID(ctx context.Context, ids [][]byte) ([]Credential, error) {
	return list[Credential](ctx, sh.tx, `select `+credentialColumns+` from signedapproval_credentials where id = any($1)`, ids)
}

// LockCredentials reads the keys of a person like Credentials and keeps every other change of them, and every use of one that is
// enrolled, waiting until this transaction ends. Whoever locks more than that does it behind this: a decision uses its key first.
func (sh *Shared) LockCredentials(ctx context.Context, personID string) ([]Credential, error) {
	// Who tells the person of something refers to the row, and need not wait: it may hold what is locked next, the roster.
	if _, err := sh.tx.Exec(ctx, `select from signedapproval_people where id = $1 for no key update`, personID); err != nil {
		return nil, fmt.Errorf("store: lock credentials: %w", err)
	}
	return list[Credential](ctx, sh.tx, selectCredentialsOf+` for no key update`, personID)
}

// UseCredential notes that a key made a decision: its counter and whether it is backed up now.
// ErrNotFound where the key was revoked meanwhile, or is not enrolled, or its counter has been as far by another decision,
// so that the decision fails with it.
func (sh *Shared) UseCredential(ctx context.Context, id []byte, signCount int64, backupState bool) error {
	done, err := sh.tx.Exec(ctx, useCredential, id, signCount, backupState)
	if err != nil {
		return fmt.Errorf("store: use credential: %w", err)
	}
	if done.RowsAffected() == 0 {
		return ErrNotFound
	}
	return nil
}

const useCredential = `
	update signedapproval_credentials set sign_count = $2, backup_state = $3, last_used_at = now()
	where id = $1 and enrolled_at is not null and revoked_at is null and (sign_count < $2 or sign_count = 0 and $2 = 0)`

// RenameCredential gives a key of the person another name.
func (sh *Shared) RenameCredential(ctx context.Context, personID string, id []byte, name string) (Credential, error) {
	return single[Credential](ctx, sh.tx, `
		update signedapproval_credentials set name = $3 where id = $1 and person_id = $2
		returning `+credentialColumns, id, personID, name)
}

// KeepUnfinished stores how far the enrolment of a waiting key has come. ErrNotFound where it does not wait.
func (sh *Shared) KeepUnfinished(ctx context.Context, id, unfinished, opening []byte) (Credential, error) {
	return single[Credential](ctx, sh.tx, `
		update signedapproval_credentials set unfinished = $2, enrolment_opening = $3
		where id = $1 and enrolled_at is null and revoked_at is null
		returning `+credentialColumns, id, unfinished, opening)
}

// Enrolled is on what an enrolment rests.
type Enrolled struct {
	Enrolment    []byte // the evidence.Enrolment, canonical JSON
	Opening      []byte // opens the enrol act's commitment to the person; an evidence.PersonOpening, JSON
	IdentifiedBy string // ByLogIn, ByOwnKey or ByCountersigner
	AuthorityID  []byte // ByOwnKey only
}

// EnrolCredential lets a waiting key decide from now on. ErrNotFound where it does not wait any more.
func (sh *Shared) EnrolCredential(ctx context.Context, id []byte, e Enrolled) (Credential, error) {
	c, err := single[Credential](ctx, sh.tx, `
		update signedapproval_credentials set enrolled_at = now(), enrolled_order = nextval('signedapproval_key_changes'), enrolment = $2, enrolment_opening = $3, identified_by = $4,
			authority_id = $5, unfinished = null
		where id = $1 and enrolled_at is null and revoked_at is null
		returning `+credentialColumns, id, e.Enrolment, e.Opening, e.IdentifiedBy, e.AuthorityID)
	if err != nil {
		return Credential{}, err
	}
	return c, sh.rostersFollow(ctx, id)
}

// Revocation is on what a revocation rests.
type Revocation struct {
	// Act is the canonical JSON of the evidence.SignedAct; nil where nobody signed.
	Act []byte
	// Opening opens the act's commitment to its signer; an evidence.PersonOpening, JSON.
	Opening []byte
	// CompromisedSince, only with an act, is since when decisions by the key do not count.
	CompromisedSince *time.Time
}

// RevokeCredential ends a key of the person for good. ErrNotFound also where it was revoked before.
func (sh *Shared) RevokeCredential(ctx context.Context, personID string, id []byte, r Revocation) (Credential, error) {
	c, err := single[Credential](ctx, sh.tx, `
		update signedapproval_credentials set revoked_at = now(), revoked_order = nextval('signedapproval_key_changes'), unfinished = null,
			revoked_by = case when enrolled_at is null then null when $3::bytea is null then 'operator' else 'own-key' end,
			revocation = $3, revocation_opening = $4, compromised_since = $5
		where id = $1 and person_id = $2 and revoked_at is null
		returning `+credentialColumns, id, personID, r.Act, r.Opening, r.CompromisedSince)
	if err != nil {
		return Credential{}, err
	}
	return c, sh.rostersFollow(ctx, id)
}

// ForgetWaiting deletes the keys that were never enrolled and are older than WaitingLife.
func (sh *Shared) ForgetWaiting(ctx context.Context) error {
	_, err := sh.tx.Exec(ctx, `delete from signedapproval_credentials
		where enrolled_at is null and created_at < now() - make_interval(secs => $1)`, WaitingLife.Seconds())
	if err != nil {
		return fmt.Errorf("store: forget waiting keys: %w", err)
	}
	return nil
}
