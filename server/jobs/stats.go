package jobs

import "sync/atomic"

// counters only grow.
type counters struct {
	rung, ringsDropped, local, swept, reclaimed atomic.Int64
	duplicates, unknown                         atomic.Int64
	done, retried, throttled, dead, leasesLost  atomic.Int64
	handedBack, panics, epochs, ledgerErrors    atomic.Int64
	deferred                                    atomic.Int64
}

// Stats are what a queue has done since its process started, but for the gauges, which are of now.
type Stats struct {
	Rung         int64 // rings put onto a stream
	RingsDropped int64 // rings that did not fit; the sweep found their jobs
	Local        int64 // rings that went to this process's workers while Redis was away
	Swept        int64 // jobs that the sweep found
	Reclaimed    int64 // entries taken over from another reader
	Deferred     int64 // rings that found no room to wait in; the sweep finds their jobs
	Duplicates   int64 // rings that found nothing to claim, or whose job waited already
	Unknown      int64 // rings of kinds without a handler
	Done         int64
	Retried      int64
	Throttled    int64
	Dead         int64
	LeasesLost   int64
	HandedBack   int64 // entries and jobs given back at the end
	Panics       int64
	Epochs       int64 // new epochs seen
	LedgerErrors int64

	Waiting           int  // gauge: rings that wait for a place
	Running           int  // gauge: jobs in quick slots
	RunningSlow       int  // gauge: jobs in the reserve
	RunningBackground int  // gauge: jobs of background kinds
	Down              bool // gauge: Redis does not answer
}

// Stats reads the counters.
func (q *Queue) Stats() Stats {
	c := &q.stats
	quick, slow := q.quick.load()
	quiet, _ := q.quiet.load()
	return Stats{
		Rung: c.rung.Load(), RingsDropped: c.ringsDropped.Load(), Local: c.local.Load(), Swept: c.swept.Load(),
		Reclaimed: c.reclaimed.Load(), Duplicates: c.duplicates.Load(), Unknown: c.unknown.Load(),
		Done: c.done.Load(), Retried: c.retried.Load(), Throttled: c.throttled.Load(), Dead: c.dead.Load(),
		LeasesLost: c.leasesLost.Load(), HandedBack: c.handedBack.Load(), Panics: c.panics.Load(),
		Epochs: c.epochs.Load(), LedgerErrors: c.ledgerErrors.Load(),
		Deferred: c.deferred.Load(),
		Running:  quick, RunningSlow: slow, RunningBackground: quiet, Waiting: 2*crowd - q.quick.room() - q.quiet.room(),
		Down: q.down.Load(),
	}
}
