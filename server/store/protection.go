package store

import (
	"context"
	"fmt"
	"time"
)

// Protection is one version of by whose signatures a workspace's rules can be changed. It never changes.
type Protection struct {
	Version    int64
	Digest     string   // lower-case hex SHA-256 of Document
	Document   []byte   // evidence.ProtectionDocument, RFC 8785
	Quorum     int      // 0: the rules can be changed without signatures
	People     []string // our ids, sorted
	ProposalID string   // with whose signatures it came
	CreatedAt  time.Time
}

const protectionColumns = `version, digest, document, quorum, people, proposal_id, created_at`

// LockRules keeps everybody else who changes rules of the workspace, its policies or by whose signatures they can be
// changed, waiting until this transaction ends. It comes before every other lock.
func (tx *Tx) LockRules(ctx context.Context) error {
	if _, err := tx.tx.Exec(ctx, `select pg_advisory_xact_lock(hashtextextended('rules:' || $1, 0))`, tx.Workspace); err != nil {
		return fmt.Errorf("store: lock rules: %w", err)
	}
	return nil
}

// Protection reads the newest protection; [ErrNotFound] where there never was one.
func (tx *Tx) Protection(ctx context.Context) (Protection, error) {
	return single[Protection](ctx, tx.tx, `select `+protectionColumns+` from signedapproval_protections
		where workspace_id = $1 order by version desc limit 1`, tx.Workspace)
}

// Protections lists all protections, oldest first.
func (tx *Tx) Protections(ctx context.Context) ([]Protection, error) {
	return list[Protection](ctx, tx.tx, `select `+protectionColumns+` from signedapproval_protections
		where workspace_id = $1 order by version`, tx.Workspace)
}

// InsertProtection stores the next protection. The caller holds the lock of the rules.
func (tx *Tx) InsertProtection(ctx context.Context, p Protection) (Protection, error) {
	stored, err := single[Protection](ctx, tx.tx, `insert into signedapproval_protections
		(workspace_id, version, digest, document, quorum, people, proposal_id) values ($1, $2, $3, $4, $5, $6, $7)
		returning `+protectionColumns, tx.Workspace, p.Version, p.Digest, p.Document, p.Quorum, p.People, p.ProposalID)
	if err != nil {
		return Protection{}, fmt.Errorf("store: insert protection: %w", err)
	}
	return stored, nil
}
