package store

import (
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Seat is room that a worker of this process keeps for one job. A job that is asked for while there is one is claimed by the
// very transaction that asks for it: it then needs neither a ring nor a transaction of its own to be begun. Where this
// process dies, its lease ends like any other.
//
// The job begins once its claim is seen, which can be before the claim is durable: see commitEarly. A crash of PostgreSQL can
// take the claim back while the job runs. Then it cannot finish, since no other claim has its fence; and what leaves the house
// must not rest on the claim.
type Seat struct {
	Holder string        // names the worker's process, as for [Store.ClaimJob]
	Lease  time.Duration // how long the claim holds, from when it is made
	// Fill is called once, when the transaction was committed or failed: with the job that it claimed, or with nil where there is none. It never
	// waits.
	Fill func(job *Job)
}

// seats are those that are kept for one transaction.
type seats []keptSeat

type keptSeat struct {
	Seat
	entry ledgerEntry
	job   *Job
}

// keep keeps seats for what is due at once, as far as there are any; at most one for each job. The entries then bear them.
func (s *seats) keep(seat func(kind, workspace string) (Seat, bool), entries []ledgerEntry) {
	if seat == nil {
		return
	}
	for i := range entries {
		e := &entries[i]
		if e.runAt != nil || slices.ContainsFunc(*s, func(k keptSeat) bool { return k.entry.kind == e.kind && k.entry.key == e.key }) {
			continue
		}
		if found, ok := seat(e.kind, e.workspace); ok {
			e.seat = &found
			*s = append(*s, keptSeat{Seat: found, entry: *e})
		}
	}
}

// asked reads rows of what was asked for, notes what was claimed, and answers what is to be rung.
func (s seats) asked(rows pgx.Rows) (rings []Ring, err error) {
	var ring Ring
	var due, claimed bool
	var seq, fence int64
	_, err = pgx.ForEachRow(rows, []any{&ring.ID, &ring.Kind, &ring.Key, &ring.Workspace, &due, &claimed, &seq, &fence}, func() error {
		switch {
		case claimed:
			at := slices.IndexFunc(s, func(k keptSeat) bool { return k.entry.kind == ring.Kind && k.entry.key == ring.Key })
			s[at].job = &Job{
				Claim: Claim{ID: ring.ID, Seq: seq, Fence: fence}, Kind: ring.Kind, Key: ring.Key, Workspace: ring.Workspace, Payload: []byte(s[at].entry.payload),
			}
		case due:
			rings = append(rings, ring)
		}
		return nil
	})
	return rings, err
}

// fill gives the seats to what was claimed, or back where nothing was committed. Those that were filled stay so.
func (s *seats) fill(committed bool) {
	for _, k := range *s {
		if committed {
			k.Fill(k.job)
		} else {
			k.Fill(nil)
		}
	}
	*s = nil
}
