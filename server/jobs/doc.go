// Package jobs gets work done soon, and by somebody: Redis Streams are the bell, a ledger elsewhere
// is the truth.
//
// A job is a row of the ledger. Its transaction commits, then the job is rung: an entry with its id
// goes onto a stream. Whoever reads the entry claims the row, and only the claim gives the right to
// work; the entry has then done its duty and is removed. So an entry may come twice, late or not at
// all: a second one finds nothing to claim, and a lost one is found by the sweep, which every
// replica makes each second over the rows that are due and that nobody holds.
//
// A claim is a lease with a fencing number. The handler ends it in the transaction of its effect,
// where the ledger refuses a claim that somebody has taken over. What a dead worker held is due
// again when its lease ends.
//
// Redis may lose everything at any time. It bears the number of its present life, the epoch, which
// the ledger has as well; where the two differ, a new life begins and every job that is due is rung
// again. While Redis is away the sweep hands due jobs straight to this process's workers.
package jobs
