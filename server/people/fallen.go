package people

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/store"
)

// FallenVerdict is a verdict that a report of a stolen key took down, with the report and names.
type FallenVerdict struct {
	store.FallenVerdict
	Owner            *store.Person // whose key was reported; nil once erased
	Key              string        // its name
	CompromisedSince time.Time
	ReportedAt       time.Time
}

// FallenVerdicts lists what reports of stolen keys took down in a workspace, newest first, for its administrators.
func (p *People) FallenVerdicts(ctx context.Context, person store.Person, workspace string, page store.Page) ([]FallenVerdict, bool, error) {
	if err := p.administers(ctx, person, workspace, false); err != nil {
		return nil, false, err
	}
	var (
		rows []store.FallenVerdict
		more bool
		fell []FallenVerdict
	)
	err := p.store.InWorkspace(ctx, workspace, func(tx *store.Tx) (err error) {
		if rows, more, err = tx.FallenVerdicts(ctx, page); err != nil || len(rows) == 0 {
			return err
		}
		fell, err = withReports(ctx, tx, rows)
		return err
	})
	return fell, more, err
}

// withReports adds the reports, with as many statements for many as for one.
func withReports(ctx context.Context, tx *store.Tx, rows []store.FallenVerdict) ([]FallenVerdict, error) {
	var versions []int64
	for _, row := range rows {
		versions = append(versions, row.RosterVersion)
	}
	reports, err := tx.RosterVersions(ctx, versions)
	if err != nil {
		return nil, err
	}
	changes := map[int64]evidence.RosterChange{}
	said := map[int64]time.Time{}
	var owners []string
	var ids [][]byte
	for _, r := range reports {
		change, err := evidence.ParseRosterChange(r.Document)
		if err != nil {
			return nil, fmt.Errorf("stored roster version %d: %w", r.Version, err)
		}
		changes[r.Version], said[r.Version] = change, r.CreatedAt
		owners, ids = append(owners, change.Key.Person), append(ids, change.Key.CredentialID)
	}
	people, err := tx.People(ctx, owners)
	if err != nil {
		return nil, err
	}
	keys, err := tx.CredentialsByID(ctx, ids)
	if err != nil {
		return nil, err
	}
	fell := make([]FallenVerdict, len(rows))
	for i, row := range rows {
		change := changes[row.RosterVersion]
		fell[i] = FallenVerdict{FallenVerdict: row, CompromisedSince: *change.CompromisedSince, ReportedAt: said[row.RosterVersion]}
		if n := slices.IndexFunc(people, func(p store.Person) bool { return p.ID == change.Key.Person }); n >= 0 {
			fell[i].Owner = &people[n]
		}
		if n := slices.IndexFunc(keys, func(c store.Credential) bool { return bytes.Equal(c.ID, change.Key.CredentialID) }); n >= 0 {
			fell[i].Key = keys[n].Name
		}
	}
	return fell, nil
}
