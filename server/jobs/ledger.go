package jobs

import (
	"context"
	"encoding/json"
	"time"
)

// Ring says that a job is due.
type Ring struct {
	ID        int64
	Kind, Key string
	Workspace string // "" for none
}

// Claim is one holder's right to a job.
type Claim struct {
	ID    int64
	Seq   int64
	Fence int64
}

// Job is a claimed job.
type Job struct {
	Claim
	Kind, Key string
	Workspace string          // "" for none
	Payload   json.RawMessage // ids
	Attempt   int             // failures since the last success
	// Orphaned says that the last failure was the death of a worker. Retry keeps it so where the reason
	// is the ledger's own for that, LeftBehind.
	Orphaned bool
}

// Ledger is where jobs are kept: functions, because the rows belong to another package. All of them
// are required and safe for concurrent use.
type Ledger struct {
	// Claim takes a job that is due and that nobody holds; false where there is nothing to take.
	Claim func(ctx context.Context, id int64, holder string, lease time.Duration) (Job, bool, error)
	// Retry gives a claim back unfinished, to be taken again after the delay. With burn it counts
	// as a failure, and at maxAttempts failures the job is dead.
	Retry func(ctx context.Context, claim Claim, reason string, after time.Duration, burn bool, maxAttempts int) (dead bool, err error)
	// Extend keeps a claim for the length of lease from now.
	Extend func(ctx context.Context, claim Claim, lease time.Duration) error
	// Due marks up to limit due jobs as dispatched in an epoch, and returns them: a fair share of each
	// workspace. next is how long it will take until there is more, zero where there is more already.
	Due func(ctx context.Context, epoch int64, limit int) (rings []Ring, next time.Duration, err error)
	// Defer takes back that jobs were dispatched: nobody will claim them for the moment, and Due names
	// them again some time soon.
	Defer func(ctx context.Context, ids []int64) error
	// Epoch is the number of the queue's present life. It is above zero.
	Epoch func(ctx context.Context) (int64, error)
	// NextEpoch begins a new life, numbered above floor, unless somebody has since seen was read;
	// it returns the number that holds now.
	NextEpoch func(ctx context.Context, seen, floor int64) (int64, error)
	// LeaseLost is the error of Retry, Extend and of a handler's finish when the claim no longer
	// holds.
	LeaseLost error
	// LeftBehind is the reason that the ledger writes to a job whose worker died.
	LeftBehind string
}
