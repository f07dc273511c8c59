package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// RosterVersion is one version of a workspace's roster. It never changes.
type RosterVersion struct {
	Version   int64  // 1, 2, 3, … without a gap
	Digest    string // lower-case hex SHA-256 of Document
	Document  []byte // evidence.RosterChange, canonical
	Event     string // enrolled, countersigned or revoked
	PersonID  string // whose key it is about
	KeyDigest string // lower-case hex, evidence.Key.Digest of that key
	// Compromised: it says since when the key was in other hands.
	Compromised bool
	LeafHash    []byte // of its leaf in the log
	CreatedAt   time.Time
}

const rosterColumns = `version, digest, document, event, person_id, key_digest, compromised, leaf_hash, created_at`

// LockRoster keeps everybody else who changes the workspace's roster, or holds it by [Tx.HoldRules], waiting until this transaction ends.
func (tx *Tx) LockRoster(ctx context.Context) error {
	// Not the workspace's row: whoever installs the app holds that, and may then wait for a person.
	if _, err := tx.tx.Exec(ctx, `select pg_advisory_xact_lock(hashtextextended('roster:' || $1, 0))`, tx.Workspace); err != nil {
		return fmt.Errorf("store: lock roster: %w", err)
	}
	return nil
}

// NewestRoster reads the newest version of the workspace's roster; [ErrNotFound] while it has none.
func (tx *Tx) NewestRoster(ctx context.Context) (RosterVersion, error) {
	return single[RosterVersion](ctx, tx.tx, newestRoster, tx.Workspace)
}

const newestRoster = `select ` + rosterColumns + ` from signedapproval_roster_versions where workspace_id = $1 order by version desc limit 1`

// Roster reads the workspace's roster versions after one, oldest first, at most limit.
func (tx *Tx) Roster(ctx context.Context, after int64, limit int) ([]RosterVersion, error) {
	return list[RosterVersion](ctx, tx.tx, `select `+rosterColumns+` from signedapproval_roster_versions
		where workspace_id = $1 and version > $2 order by version limit $3`, tx.Workspace, after, limit)
}

// RosterVersions reads some of the workspace's roster versions, in no order.
func (tx *Tx) RosterVersions(ctx context.Context, versions []int64) ([]RosterVersion, error) {
	return list[RosterVersion](ctx, tx.tx, `select `+rosterColumns+` from signedapproval_roster_versions
		where workspace_id = $1 and version = any($2)`, tx.Workspace, versions)
}

// RosterOf reads the versions that are about the keys of a person, oldest first.
func (tx *Tx) RosterOf(ctx context.Context, personID string) ([]RosterVersion, error) {
	return list[RosterVersion](ctx, tx.tx, `select `+rosterColumns+` from signedapproval_roster_versions
		where workspace_id = $1 and person_id = $2 order by version`, tx.Workspace, personID)
}

// rosterPage is how many versions of a roster one statement reads.
const rosterPage = 1000

// rostersKept is how many replayed rosters a server keeps.
const rostersKept = 64

// WholeRoster replays the workspace's roster. The newest digest covers every version before it, so a roster that was
// replayed once is kept under that; whoever has it only reads it.
func (tx *Tx) WholeRoster(ctx context.Context) (*evidence.Roster, error) {
	newest, err := tx.NewestRoster(ctx)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	return tx.rosterUpTo(ctx, newest)
}

// rosterUpTo replays the workspace's roster up to its newest version; the zero one where it has none.
func (tx *Tx) rosterUpTo(ctx context.Context, newest RosterVersion) (*evidence.Roster, error) {
	if kept, found := tx.rosters.Get(newest.Digest); found {
		return kept, nil
	}
	w, err := tx.ReadWorkspace(ctx)
	if err != nil {
		return nil, err
	}
	var changes []evidence.RosterChange
	for int64(len(changes)) < newest.Version {
		page, err := tx.Roster(ctx, int64(len(changes)), int(min(rosterPage, newest.Version-int64(len(changes)))))
		if err != nil {
			return nil, err
		}
		if len(page) == 0 {
			return nil, fmt.Errorf("store: the roster ends at version %d, before %d", len(changes), newest.Version)
		}
		for _, v := range page {
			change, err := evidence.ParseRosterChange(v.Document)
			if err != nil {
				return nil, fmt.Errorf("store: roster version %d: %w", v.Version, err)
			}
			changes = append(changes, change)
		}
	}
	roster, err := evidence.ReplayRoster(evidence.Digest(hex.EncodeToString(w.GenesisLeaf)), changes)
	if err != nil {
		return nil, fmt.Errorf("store: roster: %w", err)
	}
	if newest.Version > 0 {
		tx.rosters.Add(newest.Digest, roster)
	}
	return roster, nil
}

// RosterKnows tells whether any key of a person is or was in the workspace's roster.
func (tx *Tx) RosterKnows(ctx context.Context, personID string) (knows bool, err error) {
	err = tx.tx.QueryRow(ctx, `select exists (select from signedapproval_roster_people where workspace_id = $1 and person_id = $2)`, tx.Workspace, personID).Scan(&knows)
	if err != nil {
		return false, fmt.Errorf("store: look for a person in the roster: %w", err)
	}
	return knows, nil
}

// RosterHas tells whether a key, named by its digest, makes decisions at the newest version.
func (tx *Tx) RosterHas(ctx context.Context, keyDigest string) (has bool, err error) {
	err = tx.tx.QueryRow(ctx, `select count(*) filter (where event = 'enrolled') = 1 and count(*) filter (where event = 'revoked') = 0
		from signedapproval_roster_versions where workspace_id = $1 and key_digest = $2`, tx.Workspace, keyDigest).Scan(&has)
	if err != nil {
		return false, fmt.Errorf("store: look for a key in the roster: %w", err)
	}
	return has, nil
}

// LiveKeys tells which keys, named by their digests, make decisions at the newest version.
func (tx *Tx) LiveKeys(ctx context.Context, keyDigests []string) (map[string]bool, error) {
	type key struct{ KeyDigest string }
	keys, err := list[key](ctx, tx.tx, `select key_digest from signedapproval_roster_versions where workspace_id = $1 and key_digest = any($2)
		group by key_digest having bool_or(event = 'enrolled') and not bool_or(event = 'revoked')`, tx.Workspace, keyDigests)
	if err != nil {
		return nil, fmt.Errorf("store: live keys: %w", err)
	}
	live := make(map[string]bool, len(keys))
	for _, k := range keys {
		live[k.KeyDigest] = true
	}
	return live, nil
}

// InsertRosterVersion stores the next version. The caller holds the roster's lock; [ErrConflict] where it does not and
// somebody was faster.
func (tx *Tx) InsertRosterVersion(ctx context.Context, v RosterVersion) error {
	batch := &pgx.Batch{}
	batch.Queue(`insert into signedapproval_roster_versions (workspace_id, version, digest, document, event, person_id, key_digest, compromised, leaf_hash)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9)`, tx.Workspace, v.Version, v.Digest, v.Document, v.Event, v.PersonID, v.KeyDigest, v.Compromised, v.LeafHash)
	batch.Queue(`insert into signedapproval_roster_people (person_id, workspace_id) values ($1, $2) on conflict do nothing`, v.PersonID, tx.Workspace)
	err := tx.tx.batch(ctx, batch)
	if violates(err) {
		return ErrConflict
	}
	if err != nil {
		return fmt.Errorf("store: insert roster version: %w", err)
	}
	return nil
}

// KeyWorkspaces lists the workspaces that judge a person's keys: those whose roster knows one, and those in which the
// person was MEMBER or ADMIN when we last read it.
func (sh *Shared) KeyWorkspaces(ctx context.Context, personID string) ([]string, error) {
	rows, err := sh.tx.Query(ctx, `select workspace_id::text from signedapproval_roster_people where person_id = $1
		union select workspace_id::text from signedapproval_memberships where person_id = $1 and role <> 'NONE' order by 1`, personID)
	if err != nil {
		return nil, fmt.Errorf("store: workspaces of a person's keys: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// rostersFollow asks that every roster with keys of a key's person, and of every workspace in which somebody vouched
// for one, follows what became of them. It belongs to every change of what a key counts for.
func (sh *Shared) rostersFollow(ctx context.Context, credentialID []byte) error {
	type roster struct{ PersonID, WorkspaceID string }
	rosters, err := list[roster](ctx, sh.tx, `
		with person as (select person_id from signedapproval_credentials where id = $1)
		select r.person_id, r.workspace_id from person natural join signedapproval_roster_people r
		union select c.person_id, s.workspace_id from person natural join signedapproval_credentials c
			join signedapproval_key_countersignatures s on s.credential_id = c.id
		order by 2`, credentialID)
	if err != nil {
		return fmt.Errorf("store: rosters of a key: %w", err)
	}
	for _, r := range rosters {
		if err := sh.Enqueue(ctx, AskRoster(r.WorkspaceID, r.PersonID)); err != nil {
			return err
		}
	}
	return nil
}

// PutGenesis keeps the hash of the workspace's genesis leaf, once for ever.
func (tx *Tx) PutGenesis(ctx context.Context, leafHash [32]byte) error {
	done, err := tx.tx.Exec(ctx, `update signedapproval_workspaces set genesis_leaf = $2 where workspace_id = $1 and genesis_leaf is null`, tx.Workspace, leafHash[:])
	if err != nil {
		return fmt.Errorf("store: put genesis: %w", err)
	}
	if done.RowsAffected() == 0 {
		return ErrConflict
	}
	return nil
}

// PlacedLeaf is a leaf of the log with its place.
type PlacedLeaf struct {
	Index int64 // from 0
	Hash  []byte
	Entry []byte
}

// FindLeaf finds a leaf of the workspace outside of any chain by its hash.
func (tx *Tx) FindLeaf(ctx context.Context, hash []byte) (PlacedLeaf, error) {
	leaf, err := single[PlacedLeaf](ctx, tx.tx, `select index, hash, entry from signedapproval_leaves
		where hash = $1 and chain_id = '' and workspace_id = $2 limit 1`, hash, tx.Workspace)
	if err != nil && !errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("store: find leaf: %w", err)
	}
	return leaf, err
}
