package gate_test

import "fmt"

// The model of evaluate, decide, publish, put and merge: every order in which two workers, two approvers, one push, one change of
// the rules, one crash of a worker or of the database, one webhook that is lost or comes again, one withdrawal, one lease that
// runs out too early, one status that somebody else writes and one merge that Bitbucket takes its time for can meet, from the opening until what was merged is on record, breadth first, so that what breaks an invariant
// is told by a shortest story. This file has its states and what must hold of them, modelmoves_test.go what can happen,
// modelflaws_test.go the mistakes that the search must find, modelsearch_test.go the search, which modelrun_test.go runs. What is approved is asked of
// approval.Tally itself; the rest mirrors the guards of the transactions, each of which names its statement.
// TestTheModelIsTheGate has the gate itself play what the model tells.
// A job that is claimed by the transaction that asks for it (store.Seat) is an asking and a claim with nothing between them, which
// need not be durable: one of the orders here, and where its process dies or is not told, the order in which a worker dies right
// after a claim. Where a crash of the database takes such a claim back, its job goes on, and finishes nothing.
//
// Two commits, 0 and 1, of which the second is pushed: each has an intent to merge it. The rule asks both approvers, and merges by
// itself; another rule, which asks the same, takes its place. What SQL compares by numbers that only grow, fence, seq and
// owed_version, is kept as whether they still agree, so that the model is finite.
//
// The database is there twice: as everybody sees it, and as a crash would leave it. What a transaction writes that commits early
// (store: commitEarly) is seen before it is durable, and durable by the next commit that is not, or when the disk comes to it. The
// log is what of a pull request's chain is under a published checkpoint; whoever publishes makes it durable first.

const (
	nobody         = int8(-1)
	none, progress = int8(0), int8(1)
	green, stopped = int8(2), int8(3)
)

// The jobs: evaluate, put 0, put 1, merge 0, merge 1, and look, which reads back the status of the head (StatusSeen).
const (
	evaluate = int8(iota)
	put0
	put1
	merge0
	merge1
	look
	kinds
)

// ledgerRow is a row of signedapproval_jobs.
type ledgerRow struct {
	ready bool
	held  bool
	over  bool // the lease has run out
	tried bool // attempt > 0: a holder lost its lease since the last success
}

// turn is what a worker has in its hands.
type turn struct {
	job    int8 // nobody: idle
	step   int8
	head   int8 // as read
	state  int8 // of the status, as read, or of the merge's end
	looked bool // the head was read in this turn
	ruled  bool // the rules, as read
}

// relation is how a worker's turn stands to the rows.
type relation struct {
	holds  bool // the row bears the fence of the claim
	asked  bool // the job's seq has moved since the claim
	back   bool // to below, since a crash took the claim back
	behind bool // the status's owed_version has moved since it was read
}

// owedRow is a row of signedapproval_bitbucket_commit_statuses.
type owedRow struct {
	state int8
	paid  bool // paid_version = owed_version
	doubt bool // doubt_until is set: the job comes back once, when no call can be on its way any more
}

// intentRow is a row of signedapproval_merge_intents.
type intentRow struct {
	state int8 // none, then planned, calling, landed or refused
	doubt bool // it is being called since so short a time that a call may be on its way: updated_at, and taskPatience
	task  bool // it is being called, and Bitbucket said that it is at it: task_id
}

const (
	planned, calling, landed, refused = int8(1), int8(2), int8(3), int8(4)

	merging = int8(4) // what a late call does
)

// open tells whether an intent came to no end yet, and over whether it did.
func (i intentRow) open() bool { return i.state == planned || i.state == calling }
func (i intentRow) over() bool { return i.state == landed || i.state == refused }

// database is PostgreSQL.
type database struct {
	ruled     bool // the second rule is in force
	live      int8 // the commit of the live request
	asks      bool // it asks by the second rule
	approved  bool
	fresh     bool       // its verdict rests on exactly the decisions as they are
	decisions [2][2]bool // by approver, commit: those that count for the last request about it
	owed      [2]owedRow
	intents   [2]intentRow
	older     bool // the intent of the live commit is of an earlier request about it
	record    int8 // of the merge: none, green where it was approved, stopped for a violation
	jobs      [kinds]ledgerRow
	seen      [2]relation // by worker
	// The log, as far as an approval rests on it.
	public  bool // a published checkpoint covers the whole chain
	verdict bool // and the newest verdict
	unsaved bool // a leaf is not durable yet
}

// picture is one state of everything.
type picture struct {
	// Bitbucket
	head, merged int8 // merged: nobody, or the commit
	shown        [2]int8
	late         [2]int8 // on commit, state, or merging: a call whose caller is gone; commit nobody: none
	task         int8    // the commit of the merge that Bitbucket is at; nobody: none
	database
	disk    database // what a crash leaves
	workers [2]turn
	// What may still happen.
	left    chances
	walks   bool // whoever walks over what is open has the statuses read back; only where somebody else may write them
	unheard bool // a push or a merge of which no webhook came; the reconciler finds it
	// Seen by the checker alone: nothing, a quorum that stood when it was decided, or one whose verdict was published.
	quorum [2]int8
	wrong  string
}

const (
	stood     = int8(1)
	published = int8(2)
)

// chances are how often what is bad may happen.
type chances struct {
	crashes, expiries, withdrawals, pushes int8
	webhooks                               int8 // lost, or repeated
	rules                                  int8 // changed
	outages                                int8 // crashes of the database
	refusals                               int8 // of Bitbucket's, to merge
	strays                                 int8 // somebody else's writing under our key
	tasks                                  int8 // Bitbucket's answering a call that it is at it
	slow                                   int8 // above zero: what is written to the log is published later, else at once
}

func first(f flaw, may chances) picture {
	p := picture{merged: nobody, late: [2]int8{nobody, 0}, task: nobody, left: may, walks: may.strays > 0 && f != skipLook}
	p.live = nobody
	for i := range p.workers {
		p.workers[i].job = nobody
	}
	p.jobs[evaluate].ready = true // the webhook of the opened pull request
	p.durable()
	return p
}

// durable is what a commit does that is not early, and the flush behind one that is: all that was committed before is on disk.
func (p *picture) durable() {
	p.unsaved = false
	p.disk = p.database
}

// leaf appends to the chain of the pull request.
func (p *picture) leaf() { p.public, p.unsaved = false, true }

// publish is Publisher.Publish: the tree grows, the sink keeps it, the checkpoint is on record.
func (p *picture) publish(f flaw) {
	if f != publishUnsaved {
		p.durable() // GrowTree
	}
	if p.unsaved {
		p.wrong = "what a crash can take back is published"
	}
	p.public, p.verdict = true, true
	p.durable() // PutCheckpoint
	if p.approved && p.quorum[p.live] == stood {
		p.quorum[p.live] = published
	}
}

// ask is what enqueueJobs does.
func (p *picture) ask(job int8) {
	p.jobs[job].ready = true
	for i := range p.workers {
		if p.workers[i].job == job {
			p.seen[i].asked, p.seen[i].back = !p.seen[i].back, false // seq = j.seq + 1
		}
	}
}

// finish is what finishJob does: where id = $1 and fence = $3 and holder is not null. It answers false for ErrLeaseLost.
func (p *picture) finish(w int, f flaw) bool {
	t := p.workers[w]
	row := &p.jobs[t.job]
	p.workers[w] = turn{job: nobody}
	if !p.seen[w].holds || !row.held {
		return f == dropFencing
	}
	row.ready, row.held, row.over = p.seen[w].asked && f != finishDeafly, false, false // case when seq = $2 then 'DONE' else 'READY'
	return true
}

// giveBack is what RetryJob does: the job is due again.
func (p *picture) giveBack(w int) {
	t := p.workers[w]
	p.workers[w] = turn{job: nobody}
	if p.seen[w].holds {
		p.jobs[t.job].held, p.jobs[t.job].over = false, false
		p.durable()
	}
}

// merge is Bitbucket's: it takes no expected head. From then on statuses and what is published are of no consequence, and left out.
func (p *picture) merge(told bool) {
	p.merged, p.left.pushes, p.left.rules = p.head, 0, 0
	p.shown = [2]int8{}
	for i := range p.workers {
		if job := p.workers[i].job; job == put0 || job == put1 || job == look {
			p.workers[i] = turn{job: nobody}
		}
	}
	if p.late[1] != merging {
		p.late = [2]int8{nobody, 0}
	}
	if !told {
		p.unheard = true
		return
	}
	p.hears()
}

// hears is Intake: the delivery and its job in one statement.
func (p *picture) hears() {
	p.ask(evaluate)
	p.durable()
}

// owe is what Tx.OweStatus does: only where it is distinct from what is owed.
func (p *picture) owe(commit, state int8) {
	if p.merged != nobody || p.owed[commit].state == state {
		return
	}
	p.owed[commit] = owedRow{state: state, doubt: p.owed[commit].doubt}
	p.owes(commit)
}

// owes says that the status of a commit is of another version.
func (p *picture) owes(commit int8) {
	for i := range p.workers {
		if t := p.workers[i]; t.job == put0+commit || t.job == look && t.head == commit {
			p.seen[i].behind = true
		}
	}
	p.ask(put0 + commit)
}

// both tells whether both stand by a commit: the checker's own count.
func (p *picture) both(commit int8) bool { return p.decisions[0][commit] && p.decisions[1][commit] }

// broken is the invariant that does not hold.
func (p *picture) broken(tally tallier) string {
	for commit := range int8(2) {
		switch {
		case p.shown[commit] == green && p.quorum[commit] == none:
			return fmt.Sprintf("commit %d is SUCCESSFUL, and never had its quorum", commit)
		case p.shown[commit] == green && p.quorum[commit] != published:
			return fmt.Sprintf("commit %d is SUCCESSFUL, and its verdict was never published", commit)
		}
	}
	if p.intents[0].state == landed && p.intents[1].state == landed {
		return "one pull request is on record as merged by the gate twice"
	}
	for c := range int8(2) {
		if p.merged == nobody && p.intents[c].state != calling && p.onItsWay(c) {
			return fmt.Sprintf("a call may merge commit %d yet, and nobody knows of it", c)
		}
	}
	if !p.rests() {
		return ""
	}
	if c := p.merged; c != nobody {
		switch {
		case p.record == none:
			return fmt.Sprintf("at rest nobody has recorded that commit %d was merged", c)
		case p.intents[1-c].state == landed && p.record != stopped:
			return fmt.Sprintf("at rest commit %d is on record as merged by the gate, and %d was merged", 1-c, c)
		case p.intents[0].state == calling || p.intents[1].state == calling:
			return "at rest nobody knows what became of a merge"
		}
		return ""
	}
	want := progress
	if tally(p, p.head) {
		want = green
	}
	switch {
	case p.live != p.head:
		return fmt.Sprintf("at rest nobody is asked about the head %d", p.head)
	case p.asks != p.ruled:
		return fmt.Sprintf("at rest nobody is asked about the head %d by the rule in force", p.head)
	case p.shown[p.head] != want:
		return fmt.Sprintf("at rest the head %d shows %d, and its verdict is %d", p.head, p.shown[p.head], want)
	case p.head == 1 && p.shown[0] == green:
		return "at rest the superseded commit is SUCCESSFUL"
	case p.intents[0].state == calling || p.intents[1].state == calling:
		return "at rest nobody knows what became of a merge"
	}
	return ""
}

// rests tells whether nothing is due any more.
func (p *picture) rests() bool {
	for _, row := range p.jobs {
		if row.ready || row.held {
			return false
		}
	}
	return !p.unheard && (!p.walks || !p.strayed()) && p.late[0] == nobody && p.task == nobody && p.workers[0].job == nobody && p.workers[1].job == nobody
}

// strayed tells whether the head shows what somebody else wrote there, over what was paid: the walk over what is open will find it.
func (p *picture) strayed() bool {
	c := p.live
	return p.merged == nobody && c != nobody && c == p.head && p.owed[c].paid && p.shown[c] != p.owed[c].state
}
