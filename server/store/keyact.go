package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Countersignature is that somebody else vouched for a key, for one workspace and no other. A key whose enrolment
// rests on a countersigner counts only in the workspaces for which there is one.
type Countersignature struct {
	CredentialID []byte
	WorkspaceID  string
	Act          []byte   // the evidence.SignedAct, canonical JSON
	Agreed       [][]byte // likewise, of the further people who had to sign it
	Opening      []byte   // opens the act's commitment to its signer, an evidence.PersonOpening, JSON; nil once erased
	PersonID     string   // who signed
	Order        int64    `db:"change_order"` // where that is in the order in which the keys of the owner changed
	CreatedAt    time.Time
}

// KeyRevocation is that an administrator took a member's key out of use, for one workspace and no other.
type KeyRevocation struct {
	CredentialID     []byte
	WorkspaceID      string
	Act              []byte
	Agreed           [][]byte
	Opening          []byte
	PersonID         string
	CompromisedSince *time.Time // decisions since then do not count in the workspace
	Order            int64      `db:"change_order"`
	CreatedAt        time.Time
}

const countersignatureColumns = `credential_id, workspace_id, act, agreed, opening, person_id, change_order, created_at`

// InsertCountersignature stores a countersignature; ErrConflict where the workspace has one for this key.
func (sh *Shared) InsertCountersignature(ctx context.Context, c Countersignature) (Countersignature, error) {
	stored, err := single[Countersignature](ctx, sh.tx, `
		insert into signedapproval_key_countersignatures (credential_id, workspace_id, act, agreed, opening, person_id)
		values ($1, $2, $3, coalesce($4::bytea[], '{}'), $5, $6) on conflict do nothing
		returning `+countersignatureColumns, c.CredentialID, c.WorkspaceID, c.Act, c.Agreed, c.Opening, c.PersonID)
	if errors.Is(err, ErrNotFound) {
		return Countersignature{}, ErrConflict
	}
	if err != nil {
		return Countersignature{}, fmt.Errorf("store: insert countersignature: %w", err)
	}
	return stored, sh.rostersFollow(ctx, c.CredentialID)
}

// Countersignatures lists those of the keys in all workspaces, oldest first.
func (sh *Shared) Countersignatures(ctx context.Context, credentialIDs [][]byte) ([]Countersignature, error) {
	return list[Countersignature](ctx, sh.tx, `select `+countersignatureColumns+` from signedapproval_key_countersignatures
		where credential_id = any($1) order by change_order`, credentialIDs)
}

const keyRevocationColumns = `credential_id, workspace_id, act, agreed, opening, person_id, compromised_since, change_order, created_at`

// InsertKeyRevocation stores a revocation for a workspace; ErrConflict where the workspace has one for this key.
func (sh *Shared) InsertKeyRevocation(ctx context.Context, r KeyRevocation) (KeyRevocation, error) {
	stored, err := single[KeyRevocation](ctx, sh.tx, `
		insert into signedapproval_key_revocations (credential_id, workspace_id, act, agreed, opening, person_id, compromised_since)
		values ($1, $2, $3, coalesce($4::bytea[], '{}'), $5, $6, $7) on conflict do nothing
		returning `+keyRevocationColumns, r.CredentialID, r.WorkspaceID, r.Act, r.Agreed, r.Opening, r.PersonID, r.CompromisedSince)
	if errors.Is(err, ErrNotFound) {
		return KeyRevocation{}, ErrConflict
	}
	if err != nil {
		return KeyRevocation{}, fmt.Errorf("store: insert revocation of a key: %w", err)
	}
	return stored, sh.rostersFollow(ctx, r.CredentialID)
}

// KeyReport is that a key which was revoked before had been in other hands since a time.
type KeyReport struct {
	CredentialID     []byte
	WorkspaceID      *string // nil where a key of the same person signed it
	Act              []byte
	Agreed           [][]byte
	Opening          []byte
	PersonID         string
	CompromisedSince time.Time
	Order            int64 `db:"change_order"`
	CreatedAt        time.Time
}

const keyReportColumns = `credential_id, workspace_id, act, agreed, opening, person_id, compromised_since, change_order, created_at`

// InsertKeyReport stores a report.
func (sh *Shared) InsertKeyReport(ctx context.Context, r KeyReport) (KeyReport, error) {
	stored, err := single[KeyReport](ctx, sh.tx, `
		insert into signedapproval_key_reports (credential_id, workspace_id, act, agreed, opening, person_id, compromised_since)
		values ($1, $2, $3, coalesce($4::bytea[], '{}'), $5, $6, $7)
		returning `+keyReportColumns, r.CredentialID, r.WorkspaceID, r.Act, r.Agreed, r.Opening, r.PersonID, r.CompromisedSince)
	if err != nil {
		return KeyReport{}, fmt.Errorf("store: insert report of a key: %w", err)
	}
	return stored, sh.rostersFollow(ctx, r.CredentialID)
}

// KeyReports lists those of the keys, oldest first.
func (sh *Shared) KeyReports(ctx context.Context, credentialIDs [][]byte) ([]KeyReport, error) {
	return list[KeyReport](ctx, sh.tx, `select `+keyReportColumns+` from signedapproval_key_reports
		where credential_id = any($1) order by change_order`, credentialIDs)
}

// KeyRevocations lists those of the keys in all workspaces, oldest first.
func (sh *Shared) KeyRevocations(ctx context.Context, credentialIDs [][]byte) ([]KeyRevocation, error) {
	return list[KeyRevocation](ctx, sh.tx, `select `+keyRevocationColumns+` from signedapproval_key_revocations
		where credential_id = any($1) order by change_order`, credentialIDs)
}
