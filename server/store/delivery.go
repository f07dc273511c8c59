package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/klauspost/compress/zstd"
)

// Outcomes of looking at a delivery.
const (
	DeliveryParsed       = "PARSED"
	DeliveryUnknownEvent = "UNKNOWN_EVENT"
	DeliveryUnparsable   = "UNPARSABLE"
)

// Delivery is one webhook whose sender is proven.
type Delivery struct {
	RequestUUID string // X-Request-UUID: a second delivery of it changes nothing
	Workspace   string // UUID
	Repository  string // UUID
	EventKey    string // X-Event-Key
	Attempt     int    // X-Attempt-Number
	Outcome     string // PARSED, UNKNOWN_EVENT or UNPARSABLE
	Body        []byte // the raw bytes, as they were signed
	Jobs        []JobSpec
}

// packed is a delivery in the form in which it is written.
type packed struct {
	Delivery
	body []byte // zstd
	jobs []ledgerEntry
}

// The encoder and decoder are stateless in the way they are used here, and safe for concurrent use.
var (
	encoder = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest)) // as many at once as there are cores
		if err != nil {
			panic(err) // constant options
		}
		return e
	})
	decoder = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(16<<20))
		if err != nil {
			panic(err) // constant options
		}
		return d
	})
)

func pack(d Delivery) (packed, error) {
	p := packed{Delivery: d, body: encoder().EncodeAll(d.Body, nil)}
	for _, spec := range d.Jobs {
		entry, err := spec.entry()
		if err != nil {
			return packed{}, err
		}
		p.jobs = append(p.jobs, entry)
	}
	return p, nil
}

// AcceptDeliveries commits deliveries in one statement, and with each that is new the jobs that it
// asks for, which it rings. It returns after the commit, also of the first copy where a delivery is
// a repeat. One bad delivery fails the whole batch; see [Intake].
func (s *Store) AcceptDeliveries(ctx context.Context, deliveries []Delivery) error {
	batch := make([]packed, len(deliveries))
	for i, d := range deliveries {
		var err error
		if batch[i], err = pack(d); err != nil {
			return err
		}
	}
	return s.accept(ctx, batch)
}

// acceptDeliveries writes in the order of the keys, like every batch, so that batches cannot block
// each other in a circle. Whether last week had a delivery is a value, and no join, which PostgreSQL would plan for good as a look at
// the whole week where that is empty.
const acceptDeliveries = `
	with fresh as (
		insert into signedapproval_deliveries (request_uuid, workspace_id, repository_id, event_key, attempt, outcome, body)
		select request_uuid::uuid, workspace::uuid, repository::uuid, event_key, attempt, outcome, body
		from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::text[], $7::bytea[])
			as w (request_uuid, workspace, repository, event_key, attempt, outcome, body)
		where (select true from signedapproval_deliveries last
			where last.request_uuid = w.request_uuid::uuid and last.week = signedapproval_delivery_week(now() - interval '7 days')) is null
		on conflict (request_uuid, week) do nothing
		returning request_uuid)
	insert into signedapproval_jobs as j (` + jobColumns + `)
	select distinct on (kind, key) ` + jobValues + `
	from unnest($8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::timestamptz[], $14::uuid[], $15::interval[])
		as w (request_uuid, kind, key, workspace, payload, run_at, holder, lease)
	where request_uuid::uuid in (select request_uuid from fresh)
	order by kind, key, coalesce(run_at, now()), holder` + onConflict

func (s *Store) accept(ctx context.Context, deliveries []packed) error {
	deliveries = slices.Clone(deliveries)
	slices.SortFunc(deliveries, func(a, b packed) int { return strings.Compare(a.RequestUUID, b.RequestUUID) })
	var requests, workspaces, repositories, events, outcomes, askedBy []string
	var attempts []int
	var bodies [][]byte
	var entries []ledgerEntry
	for _, d := range deliveries {
		requests, workspaces, repositories = append(requests, d.RequestUUID), append(workspaces, d.Workspace), append(repositories, d.Repository)
		events, attempts, outcomes = append(events, d.EventKey), append(attempts, d.Attempt), append(outcomes, d.Outcome)
		bodies = append(bodies, d.body)
		for _, entry := range d.jobs {
			askedBy, entries = append(askedBy, d.RequestUUID), append(entries, entry)
		}
	}
	var seats seats
	seats.keep(s.Seat, entries)
	defer func() { seats.fill(false) }() // unless they were
	a := asked(entries)
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("store: accept deliveries: %w", err)
	}
	defer conn.Release()
	batch := &pgx.Batch{} // outside of any transaction it is one
	early := len(seats) > 0
	if early { // their jobs look at Bitbucket while the disk is written: see commitEarly
		batch.Queue(`select set_config('synchronous_commit', 'off', true)`)
	}
	var rings []Ring
	batch.Queue(acceptDeliveries, requests, workspaces, repositories, events, attempts, outcomes, bodies,
		askedBy, a.kinds, a.keys, a.workspaces, a.payloads, a.runAts, a.holders, a.leases).Query(func(rows pgx.Rows) (err error) {
		rings, err = seats.asked(rows)
		return err
	})
	if !early { // where all are repeats it would write nothing, and wait for no disk; and their first copies may not be durable
		batch.Queue(flush)
	}
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		s.renew(err)
		return fmt.Errorf("store: accept deliveries: %w", err)
	}
	seats.fill(true)
	if len(rings) > 0 && s.Ring != nil {
		s.Ring(context.WithoutCancel(ctx), rings)
	}
	if !early {
		return nil
	}
	if err := conn.SendBatch(ctx, flushed()).Close(); err != nil {
		s.renew(err)
		return fmt.Errorf("store: accept deliveries: make durable: %w", err)
	}
	return nil
}

// DeliveryBody returns the raw bytes of a stored delivery.
func (s *Store) DeliveryBody(ctx context.Context, requestUUID string) ([]byte, error) {
	var body []byte
	err := s.pool.QueryRow(ctx, `select body from signedapproval_deliveries where request_uuid = $1`, requestUUID).Scan(&body)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("store: read delivery: %w", err)
	}
	raw, err := decoder().DecodeAll(body, nil)
	if err != nil {
		return nil, fmt.Errorf("store: delivery %s is damaged: %w", requestUUID, err)
	}
	return raw, nil
}
