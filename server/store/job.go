package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrLeaseLost says that somebody else has taken the job or lease meanwhile, or that it was given
// back already. The transaction that meets it rolls back: its effect is the newer holder's to have.
var ErrLeaseLost = errors.New("store: the lease is lost")

// maxReason bounds the text kept about a failure, in bytes.
const maxReason = 500

// Ring says that a job is due: it is what travels through the queue, and it may get lost or come
// twice.
type Ring struct {
	ID        int64
	Kind, Key string
	Workspace string // "" for none
}

// JobSpec asks for a thing to be looked at again.
type JobSpec struct {
	// Kind names the handler. Kind and Key together are the job's identity: asking again while it
	// waits is one job, asking while it runs makes it run once more afterwards.
	Kind, Key string
	// Workspace is the tenant's UUID, "" for none.
	Workspace string
	// Payload holds ids, never facts, and becomes a JSON document; nil becomes {}. The last one
	// wins.
	Payload any
	// RunAt is when, by the database's clock; zero means now. The earliest wins, so a handler that
	// runs early names the later time itself when it finishes.
	RunAt time.Time
}

// Claim is one holder's right to a job or lease: it holds until somebody claims the row after its
// lease ran out.
type Claim struct {
	ID    int64
	Seq   int64 // what had been asked for when the claim was made
	Fence int64 // grows with every claim of the row, and is no other claim's
}

// Job is a claimed job.
type Job struct {
	Claim
	Kind, Key string
	Workspace string // "" for none
	Payload   json.RawMessage
	// Attempt is the number of failures since the last success, holders that died included.
	Attempt int
	// Orphaned says that the last of them was the death of a holder.
	Orphaned bool
}

// ledgerEntry is a JobSpec that was checked and encoded.
type ledgerEntry struct {
	kind, key, workspace, payload string
	runAt                         *time.Time
	seat                          *Seat // nil for none
}

type finish struct {
	claim Claim
	next  *time.Time
}

// Enqueue asks for jobs as part of the transaction, and rings those that are due after its commit.
// The ledger is written when the transaction ends, so a job is never visible before its cause.
func (sh *Shared) Enqueue(_ context.Context, specs ...JobSpec) error {
	for _, spec := range specs {
		entry, err := spec.entry()
		if err != nil {
			return err
		}
		sh.jobs = append(sh.jobs, entry)
	}
	return nil
}

// AskAgain asks, now, for every job of the workspace that waits because it failed last with a refusal
// of one of these codes.
func (tx *Tx) AskAgain(ctx context.Context, codes ...string) error {
	rows, err := tx.tx.Query(ctx, `select kind, key, payload from signedapproval_jobs
		where workspace_id = $1 and state = 'READY' and exists (select from unnest($2::text[]) as code where last_error like '%' || code || ': %')
		order by kind, key`, tx.Workspace, codes)
	if err != nil {
		return fmt.Errorf("store: jobs that wait: %w", err)
	}
	spec := JobSpec{Workspace: tx.Workspace}
	var payload json.RawMessage
	_, err = pgx.ForEachRow(rows, []any{&spec.Kind, &spec.Key, &payload}, func() error {
		spec.Payload = slices.Clone(payload)
		return tx.Enqueue(ctx, spec)
	})
	return err
}

func (spec JobSpec) entry() (ledgerEntry, error) {
	if spec.Kind == "" || spec.Key == "" {
		return ledgerEntry{}, errors.New("store: a job needs a kind and a key")
	}
	payload := []byte("{}")
	if spec.Payload != nil {
		var err error
		if payload, err = json.Marshal(spec.Payload); err != nil {
			return ledgerEntry{}, fmt.Errorf("store: payload of job %s: %w", spec.Kind, err)
		}
	}
	entry := ledgerEntry{kind: spec.Kind, key: spec.Key, workspace: spec.Workspace, payload: string(payload)}
	if !spec.RunAt.IsZero() {
		entry.runAt = &spec.RunAt
	}
	return entry, nil
}

// FinishJob ends a claim as part of the transaction of the job's effect. If the job was asked for
// again since the claim, it is due again at once; else it runs at next, or, where next is zero, it
// is done. When the transaction ends and the claim no longer holds, the transaction fails with
// [ErrLeaseLost] and nothing of it remains.
func (sh *Shared) FinishJob(_ context.Context, claim Claim, next time.Time) error {
	f := finish{claim: claim}
	if !next.IsZero() {
		f.next = &next
	}
	sh.finished = append(sh.finished, f)
	return nil
}

// FinishRepeatable is FinishJob for an effect that can be had again: the transaction returns before the disk has it. A crash of
// PostgreSQL that takes the effect back takes back with it that the job is done, and whoever takes the job over when its
// lease has run out does it again. What leaves the house because of it must not rest on this commit: see commitEarly.
func (sh *Shared) FinishRepeatable(ctx context.Context, claim Claim, next time.Time) error {
	sh.unanswered = true
	return sh.FinishJob(ctx, claim, next)
}

// HoldJob makes sure that a claim still holds, and keeps it until the transaction ends: nobody else claims the job before.
// It fails with [ErrLeaseLost] where somebody has. The caller holds all other locks that it needs, as at [Shared.FinishJob].
func (sh *Shared) HoldJob(ctx context.Context, claim Claim) error {
	err := sh.tx.QueryRow(ctx, `select from signedapproval_jobs where id = $1 and `+ofRow(`fence = $2 and holder is not null`)+` for update`, claim.ID, claim.Fence).Scan()
	if err = one(err); errors.Is(err, ErrNotFound) {
		return ErrLeaseLost
	}
	if err != nil {
		return fmt.Errorf("store: hold job %d: %w", claim.ID, err)
	}
	return nil
}

// merge keeps one entry per job, in the order in which all transactions write them.
func merge(entries []ledgerEntry) []ledgerEntry {
	compare := func(a, b ledgerEntry) int {
		if c := strings.Compare(a.kind, b.kind); c != 0 {
			return c
		}
		return strings.Compare(a.key, b.key)
	}
	sorted := slices.Clone(entries)
	slices.SortStableFunc(sorted, compare)
	var merged []ledgerEntry
	for _, entry := range sorted {
		if n := len(merged); n > 0 && compare(merged[n-1], entry) == 0 {
			if earlier := merged[n-1].runAt; earlier == nil || entry.runAt != nil && earlier.Before(*entry.runAt) {
				entry.runAt = earlier
			}
			merged[n-1] = entry
			continue
		}
		merged = append(merged, entry)
	}
	return merged
}

// asking is what enqueuing wants to know of entries, in the arrays that unnest wants.
type asking struct {
	kinds, keys, workspaces, payloads []string
	runAts                            []*time.Time
	holders                           []*string        // nil where no seat is kept
	leases                            []*time.Duration // likewise
}

func asked(entries []ledgerEntry) (a asking) {
	for _, e := range entries {
		a.kinds, a.keys = append(a.kinds, e.kind), append(a.keys, e.key)
		a.workspaces, a.payloads = append(a.workspaces, e.workspace), append(a.payloads, e.payload)
		a.runAts = append(a.runAts, e.runAt)
		var holder *string
		var lease *time.Duration
		if e.seat != nil {
			holder, lease = &e.seat.Holder, &e.seat.Lease
		}
		a.holders, a.leases = append(a.holders, holder), append(a.leases, lease)
	}
	return a
}

// onConflict is what asking for a job that has a row does. dispatched_at is forgotten, so that the
// sweep soon notices if this ring gets lost. A job for which a seat is kept is claimed at once, unless somebody
// has it, or left it behind, or its last run failed; dispatched_at tells that it was. One that was dead begins with one
// failure: that a call of its last run may still land is known by that.
const onConflict = `
	on conflict (kind, key) do update set
		seq = j.seq + 1,
		fence = j.fence + case when ` + free + ` then excluded.fence else 0 end,
		holder = case when ` + free + ` then excluded.holder else j.holder end,
		leased_until = case when ` + free + ` then excluded.leased_until else j.leased_until end,
		state = 'READY',
		workspace_id = excluded.workspace_id,
		payload = excluded.payload,
		run_at = case when j.state = 'READY' then least(j.run_at, excluded.run_at) else excluded.run_at end,
		attempt = case j.state when 'READY' then j.attempt when 'DEAD' then 1 else 0 end,
		dispatched_at = case when ` + free + ` then excluded.dispatched_at end,
		updated_at = now()
	returning j.id, j.kind, j.key, coalesce(j.workspace_id::text, ''), j.run_at <= now() and (j.leased_until is null or j.leased_until <= now()) as due,
		j.dispatched_at is not null as claimed, j.seq, j.fence`

const (
	// free says of the row j of a job that is asked for that it may be claimed with that.
	free = `(j.holder is null and (j.state = 'DONE' or j.state = 'READY' and j.attempt = 0))`
	// jobColumns and jobValues write a job that is asked for. The fence of a claim is not the next number: a crash of PostgreSQL
	// can take the claim back, see [Seat], and then no later claim must have the same.
	jobColumns = `kind, key, workspace_id, payload, state, run_at, fence, holder, leased_until, dispatched_at`
	jobValues  = `kind, key, nullif(workspace, '')::uuid, payload::jsonb, 'READY', coalesce(run_at, now()),
		case when holder is null then 0 else 1 + (random() * 2147483647)::bigint end, holder, clock_timestamp() + lease, case when holder is not null then now() end`
)

const enqueueJobs = `
	insert into signedapproval_jobs as j (` + jobColumns + `)
	select ` + jobValues + `
	from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::uuid[], $7::interval[])
		as w (kind, key, workspace, payload, run_at, holder, lease)
	order by kind, key` + onConflict

// finishJob fails with leaseLost where the claim no longer holds.
const finishJob = `
	with ended as (update signedapproval_jobs set
		state = case when seq = $2 and $4::timestamptz is null then 'DONE' else 'READY' end,
		run_at = case when seq <> $2 then least(run_at, now()) else coalesce($4, run_at) end,
		attempt = 0, last_error = '', holder = null, leased_until = null, dispatched_at = null, updated_at = now()
	where id = $1 and coalesce(fence = $3 and holder is not null and state = 'READY', false) -- see ofRow
	returning id, kind, key, coalesce(workspace_id::text, '') as workspace, state = 'READY' and run_at <= now() as due)
	select id, kind, key, workspace, due from ended
	union all select 0, '', '', '', signedapproval_lease_lost() where not exists (select from ended)`

// leaseLost is the SQLSTATE of signedapproval_lease_lost.
const leaseLost = "SA001"

// settle has the transaction write what it asked of the ledger, and then its leaves, with its commit. Where it touches
// several jobs it locks those that exist in the order of their ids first. See whySettled for what can stand against it.
func (sh *Shared) settle() {
	entries := merge(sh.jobs)
	sh.seats.keep(sh.seat, entries)
	asked := asked(entries)
	if len(entries)+len(sh.finished) > 1 {
		var ids []int64
		for _, f := range sh.finished {
			ids = append(ids, f.claim.ID)
		}
		sh.tx.later(`
			select from signedapproval_jobs
			where id = any($1::bigint[] || array(
				select j.id from unnest($2::text[], $3::text[]) as w (kind, key) join signedapproval_jobs j using (kind, key)))
			order by id for update`, ids, asked.kinds, asked.keys)
	}
	if len(entries) > 0 {
		sh.tx.later(enqueueJobs, asked.kinds, asked.keys, asked.workspaces, asked.payloads, asked.runAts, asked.holders, asked.leases).
			Query(func(rows pgx.Rows) error {
				rings, err := sh.seats.asked(rows)
				sh.rings = append(sh.rings, rings...)
				return err
			})
	}
	for _, f := range sh.finished {
		sh.tx.later(finishJob, f.claim.ID, f.claim.Seq, f.claim.Fence, f.next).Query(sh.collectRings)
	}
	if len(sh.leaves) > 0 || sh.unanswered {
		sh.tx.commitEarly() // everybody waits for the log's head
		sh.tx.apart = len(sh.seats) > 0 || sh.unanswered
	}
	if len(sh.leaves) > 0 {
		hashes, entries, workspaces, chains, sequences := leafColumns(sh.leaves)
		sh.tx.later(appendLeaves, hashes, entries, workspaces, chains, sequences)
	}
}

// whySettled names what stood against a commit: [ErrLeaseLost] where a claim no longer holds, [ErrConflict] where the
// place of a leaf is taken.
func whySettled(err error) error {
	var refused *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused) && refused.Code == leaseLost:
		return ErrLeaseLost
	case violates(err) && errors.As(err, &refused) && refused.TableName == "signedapproval_leaves":
		return ErrConflict
	}
	return fmt.Errorf("store: write and commit: %w", err)
}

func (sh *Shared) collectRings(rows pgx.Rows) error {
	rings, err := dueRings(rows)
	sh.rings = append(sh.rings, rings...)
	return err
}

// dueRings reads rows of (id, kind, key, workspace, due).
func dueRings(rows pgx.Rows) ([]Ring, error) {
	var rings []Ring
	var ring Ring
	var due bool
	_, err := pgx.ForEachRow(rows, []any{&ring.ID, &ring.Kind, &ring.Key, &ring.Workspace, &due}, func() error {
		if due {
			rings = append(rings, ring)
		}
		return nil
	})
	return rings, err
}

// HolderDied is the reason that a job bears whose holder ended without giving it back.
const HolderDied = "its worker died, or lost its lease"

// ClaimJob takes a job that is due and that nobody holds, for the length of lease. It answers false
// where there is nothing to do: not due, done, dead, or held. Taking over from a holder whose lease
// ran out counts as a failed attempt, so that a job that kills its workers ends among the dead.
func (s *Store) ClaimJob(ctx context.Context, id int64, holder string, lease time.Duration) (Job, bool, error) {
	var job Job
	var workspace *string
	err := s.pool.QueryRow(ctx, `
		update signedapproval_jobs set
			fence = fence + 1, attempt = attempt + (holder is not null)::integer,
			last_error = case when holder is null then last_error else $4 end,
			holder = $2, leased_until = now() + $3
		where id = $1 and `+ofRow(`state = 'READY' and `+unheld)+`
		returning id, seq, fence, kind, key, workspace_id::text, payload, attempt, last_error = $4`, id, holder, lease, HolderDied).
		Scan(&job.ID, &job.Seq, &job.Fence, &job.Kind, &job.Key, &workspace, &job.Payload, &job.Attempt, &job.Orphaned)
	if errors.Is(err, pgx.ErrNoRows) {
		return Job{}, false, nil
	}
	if err != nil {
		return Job{}, false, fmt.Errorf("store: claim job %d: %w", id, err)
	}
	if workspace != nil {
		job.Workspace = *workspace
	}
	return job, true, nil
}

// RetryJob gives a claim back unfinished, to be taken again after the delay. With burn the failure
// counts, and at maxAttempts the job is dead: it stays listed until somebody asks for it again. A
// job that was asked for since the claim is due at once and never dies of the older failure.
// reason is cut; it must not hold secrets.
func (s *Store) RetryJob(ctx context.Context, claim Claim, reason string, after time.Duration, burn bool, maxAttempts int) (dead bool, err error) {
	err = s.Outside(ctx, func(sh *Shared) error {
		var ring Ring
		var due bool
		err := sh.tx.QueryRow(ctx, `
			update signedapproval_jobs set
				state = case when seq = $2 and $6 and attempt + 1 >= $7 then 'DEAD' else 'READY' end,
				attempt = case when seq <> $2 and $6 and attempt + 1 >= $7 then 1
					when $6 then greatest(attempt, least(attempt + 1, $7)) else attempt end,
				run_at = case when seq <> $2 then least(run_at, now()) else now() + $5 end,
				last_error = $4, holder = null, leased_until = null, dispatched_at = null, updated_at = now()
			where id = $1 and `+ofRow(`fence = $3 and holder is not null and state = 'READY'`)+`
			returning id, kind, key, coalesce(workspace_id::text, ''), state = 'READY' and run_at <= now(), state = 'DEAD'`,
			claim.ID, claim.Seq, claim.Fence, shorten(reason), max(after, 0), burn, maxAttempts).
			Scan(&ring.ID, &ring.Kind, &ring.Key, &ring.Workspace, &due, &dead)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrLeaseLost
		}
		if due {
			sh.rings = append(sh.rings, ring)
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("store: retry job %d: %w", claim.ID, err)
	}
	return dead, nil
}

// shorten makes a text that Postgres takes and a screen can show.
func shorten(reason string) string {
	reason = strings.ReplaceAll(strings.ToValidUTF8(reason, "\uFFFD"), "\x00", "")
	if len(reason) > maxReason {
		reason = strings.ToValidUTF8(reason[:maxReason], "") + "…"
	}
	return reason
}

// ExtendJob keeps a claim for the length of lease from now. It fails with [ErrLeaseLost] if the
// claim no longer holds.
func (s *Store) ExtendJob(ctx context.Context, claim Claim, lease time.Duration) error {
	tag, err := s.pool.Exec(ctx, `
		update signedapproval_jobs set leased_until = now() + $3
		where id = $1 and fence = $2 and holder is not null`, claim.ID, claim.Fence, lease)
	if err != nil {
		return fmt.Errorf("store: extend job %d: %w", claim.ID, err)
	}
	if tag.RowsAffected() == 0 {
		return ErrLeaseLost
	}
	return nil
}

// dueShare is how many jobs of one kind and workspace may be on their way to a worker because of
// [Store.DueJobs]: who has thousands that are due does not fill the queue with them.
const dueShare = 128

// deferredEpoch is the epoch in which jobs were dispatched that came back from [Store.DeferJobs].
const deferredEpoch = -1

// What DueJobs says of a job that is READY. A job that nobody rings is silent.
const (
	unheld = `run_at <= now() and (leased_until is null or leased_until <= now())`
	silent = `case
		when dispatched_at is null then run_at > updated_at or updated_at < now() - interval '2 seconds' or leased_until is not null
		when dispatched_at < run_at or dispatched_at < leased_until then true
		when dispatch_epoch = -1 then dispatched_at < now() - interval '2 seconds' -- deferredEpoch
		else dispatch_epoch <> $1 or dispatched_at < now() - interval '60 seconds' end`
)

// DueJobs marks up to limit jobs as dispatched in this epoch of the queue and returns their rings:
// of each kind and workspace the longest due first, and of none more than may be on their way. It
// takes those that nobody holds and that were not dispatched in this epoch, or more than a minute
// ago, or before they became due, or before a lease on them ran out. A job that was rung by its own
// transaction gets two seconds for that ring to arrive, and one that was deferred waits as long.
//
// next is how long it takes until there is something to dispatch, as far as is known now, an hour at most;
// zero where there was more than the limit and the shares allow.
func (s *Store) DueJobs(ctx context.Context, epoch int64, limit int) (rings []Ring, next time.Duration, err error) {
	batch := &pgx.Batch{}
	batch.Queue(`
		with due as (
			select id, workspace_id, kind, run_at, dispatched_at, `+silent+` as silent
			from signedapproval_jobs where state = 'READY' and `+unheld+`),
		ranked as (
			select id, run_at, silent,
				row_number() over (partition by workspace_id, kind, silent order by run_at, id)
					+ count(*) filter (where not silent and dispatched_at > now() - interval '5 seconds') over (partition by workspace_id, kind) as turn
			from due),
		chosen as (select id from ranked where silent and turn <= $3 order by turn, run_at limit $2)
		update signedapproval_jobs set dispatched_at = now(), dispatch_epoch = $1
		where id in (
			select id from signedapproval_jobs
			where id in (select id from chosen) and state = 'READY' and `+unheld+` and `+silent+`
			for update skip locked)
		returning id, kind, key, coalesce(workspace_id::text, ''), true`, epoch, limit, dueShare).Query(func(rows pgx.Rows) error {
		rings, err = dueRings(rows)
		return err
	})
	batch.Queue(`
		select greatest(least(min(at) - now(), interval '1 hour'), interval '0') from (
			select min(case
				when leased_until > now() then leased_until
				when `+silent+` then now()
				when dispatched_at is null then updated_at + interval '2 seconds'
				when dispatch_epoch = -1 then dispatched_at + interval '2 seconds'
				else dispatched_at + interval '60 seconds' end) as at
			from signedapproval_jobs where state = 'READY' and run_at <= now()
			union all
			(select run_at from signedapproval_jobs where state = 'READY' and run_at > now() order by run_at limit 1)) soon`, epoch).
		QueryRow(func(row pgx.Row) error { return row.Scan(&next) })
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return nil, 0, fmt.Errorf("store: due jobs: %w", err)
	}
	return rings, next, nil
}

// DeferJobs says that nobody will claim the jobs of these rings for the moment: [Store.DueJobs]
// names them again, two seconds later at the soonest, and in the order that is fair. Jobs that
// somebody holds or has done meanwhile are left alone.
func (s *Store) DeferJobs(ctx context.Context, ids []int64) error {
	_, err := s.pool.Exec(ctx, `
		update signedapproval_jobs set dispatched_at = now(), dispatch_epoch = $2
		where id = any($1) and state = 'READY' and (leased_until is null or leased_until <= now())`, ids, deferredEpoch)
	if err != nil {
		return fmt.Errorf("store: defer jobs: %w", err)
	}
	return nil
}

// DeadJob is a job that failed too often and waits for a person.
type DeadJob struct {
	ID        int64
	Kind, Key string
	Workspace string // "" for none
	Payload   json.RawMessage
	Attempt   int
	LastError string
	DiedAt    time.Time
}

// DeadCursor is a place in the list of dead jobs; the zero value is its beginning.
type DeadCursor struct {
	DiedAt time.Time
	ID     int64
}

// Cursor is the place behind the job.
func (j DeadJob) Cursor() DeadCursor { return DeadCursor{DiedAt: j.DiedAt, ID: j.ID} }

// DeadJobs lists up to limit dead jobs behind after, those that died first first.
func (s *Store) DeadJobs(ctx context.Context, after DeadCursor, limit int) ([]DeadJob, error) {
	rows, err := s.pool.Query(ctx, `
		select id, kind, key, coalesce(workspace_id::text, '') as workspace, payload, attempt, last_error, updated_at as died_at
		from signedapproval_jobs
		where state = 'DEAD' and (updated_at, id) > ($1, $2)
		order by updated_at, id limit $3`, after.DiedAt, after.ID, limit)
	if err != nil {
		return nil, fmt.Errorf("store: dead jobs: %w", err)
	}
	dead, err := pgx.CollectRows(rows, pgx.RowToStructByName[DeadJob])
	if err != nil {
		return nil, fmt.Errorf("store: dead jobs: %w", err)
	}
	return dead, nil
}

// RequeueJob gives a dead job a new life, with one failure as where it is asked for. [ErrNotFound] if there is no dead job of this id.
func (s *Store) RequeueJob(ctx context.Context, id int64) error {
	return s.Outside(ctx, func(sh *Shared) error {
		rows, err := sh.tx.Query(ctx, `
			update signedapproval_jobs set state = 'READY', seq = seq + 1, attempt = 1, run_at = now(), dispatched_at = null, updated_at = now()
			where id = $1 and state = 'DEAD'
			returning id, kind, key, coalesce(workspace_id::text, ''), true`, id)
		if err != nil {
			return fmt.Errorf("store: requeue job %d: %w", id, err)
		}
		if err := sh.collectRings(rows); err != nil {
			return fmt.Errorf("store: requeue job %d: %w", id, err)
		}
		if rows.CommandTag().RowsAffected() == 0 {
			return ErrNotFound
		}
		return nil
	})
}

// JobLag is how long the oldest job that is due and that nobody holds has been waiting; zero if
// none waits.
func (s *Store) JobLag(ctx context.Context) (time.Duration, error) {
	var lag time.Duration
	err := s.pool.QueryRow(ctx, `
		select coalesce(now() - min(run_at), interval '0')
		from signedapproval_jobs
		where state = 'READY' and run_at <= now() and (leased_until is null or leased_until <= now())`).Scan(&lag)
	if err != nil {
		return 0, fmt.Errorf("store: job lag: %w", err)
	}
	return lag, nil
}

// Unattended is a pull request that owes something although no job would look at it.
type Unattended struct {
	Workspace, PullRequest string
}

// Unattended lists up to most of them, of all workspaces. It finds nothing unless jobs were lost
// by hand.
func (s *Store) Unattended(ctx context.Context, most int) ([]Unattended, error) {
	rows, err := s.pool.Query(ctx, `select workspace_id::text, pull_request_id::text from signedapproval_unattended($1)`, most)
	if err != nil {
		return nil, fmt.Errorf("store: unattended: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Unattended])
	if err != nil {
		return nil, fmt.Errorf("store: unattended: %w", err)
	}
	return found, nil
}

// TryLease takes the lease named by kind and key for ttl, whether or not a job of that name waits,
// for somebody who must do its work at once. While it is held no worker claims the job. It answers
// false where another holds it.
func (s *Store) TryLease(ctx context.Context, kind, key, workspace, holder string, ttl time.Duration) (Claim, bool, error) {
	var claim Claim
	err := s.pool.QueryRow(ctx, `
		insert into signedapproval_jobs as j (kind, key, workspace_id, payload, state, run_at, fence, holder, leased_until)
		values ($1, $2, nullif($3, '')::uuid, '{}', 'DONE', now(), 1, $4, now() + $5)
		on conflict (kind, key) do update set fence = j.fence + 1, holder = excluded.holder, leased_until = excluded.leased_until
			where j.leased_until is null or j.leased_until <= now()
		returning j.id, j.seq, j.fence`, kind, key, workspace, holder, ttl).Scan(&claim.ID, &claim.Seq, &claim.Fence)
	if errors.Is(err, pgx.ErrNoRows) {
		return Claim{}, false, nil
	}
	if err != nil {
		return Claim{}, false, fmt.Errorf("store: lease %s: %w", kind, err)
	}
	return claim, true, nil
}

// HoldLease fails with [ErrLeaseLost] unless the claim holds, and makes it hold until the
// transaction ends: what the lease protects is written in that transaction. The lease stays.
func (sh *Shared) HoldLease(ctx context.Context, claim Claim) error {
	tag, err := sh.tx.Exec(ctx, `
		select from signedapproval_jobs where id = $1 and fence = $2 and holder is not null for update`, claim.ID, claim.Fence)
	if err != nil {
		return fmt.Errorf("store: hold lease: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrLeaseLost
	}
	return nil
}

// ReleaseLease gives back what [Store.TryLease] took, in the transaction of what it protected or in
// one of its own; [ErrLeaseLost] if it no longer holds. A job of that name that waited is rung.
func (sh *Shared) ReleaseLease(ctx context.Context, claim Claim) error {
	rows, err := sh.tx.Query(ctx, `
		update signedapproval_jobs set holder = null, leased_until = null, dispatched_at = null, updated_at = now()
		where id = $1 and fence = $2 and holder is not null
		returning id, kind, key, coalesce(workspace_id::text, ''), state = 'READY' and run_at <= now()`, claim.ID, claim.Fence)
	if err != nil {
		return fmt.Errorf("store: release lease: %w", err)
	}
	if err := sh.collectRings(rows); err != nil {
		return fmt.Errorf("store: release lease: %w", err)
	}
	if rows.CommandTag().RowsAffected() == 0 {
		return ErrLeaseLost
	}
	return nil
}
