// Package jobs gets work done soon, and by somebody: Redis Streams are the bell, a ledger elsewhere
// is the truth.
//
// A job is a row of the ledger. Its transaction commits, then the job is rung: an entry with its id
// goes onto a stream. Whoever reads the entry claims the row, and only the claim gives the right to
// work; the entry has then done its duty and is removed. So an entry may come twice, late or not at
// all: a second one finds nothing to claim, and a lost one is found by the sweep, which every
// replica makes over the rows that are due and that nobody holds: each second while anything is
// going on, else when the next row comes due, and each ten seconds.
//
// Where a job of a seated kind is asked for while the same process has a seat for it, nothing of this is needed: the transaction
// that asks claims it as well, and the job begins when that is committed, durable or not. Whoever has much to do has no seats, and rings.
//
// Workspaces take turns. A process reads on although it has no place to work, and lets some hundreds
// of rings of each workspace wait; what comes beyond goes back to the ledger, of which the sweep
// rings a share for each workspace at a time. So however much one asks for, another one's job waits
// for those that run, and for one of each workspace that waits.
//
// A claim is a lease with a fencing number. The handler ends it in the transaction of its effect,
// where the ledger refuses a claim that somebody has taken over. What a dead worker held is due
// again when its lease ends.
//
// Redis may lose everything at any time. It bears the number of its present life, the epoch, which
// the ledger has as well; where the two differ, a new life begins and every job that is due is rung
// again. While Redis is away the sweep hands due jobs straight to this process's workers.
package jobs
