package gate_test

import "fmt"

// longest is how many steps a turn has at most.
const longest = 6

// moves are all that can happen next.
func (p *picture) moves(f flaw, tally tallier, add adder) {
	p.people(f, add)
	p.mishaps(f, add)
	if p.disk != p.database {
		add(told("the disk has all that was committed"), func(q *picture) { q.durable() })
	}
	if !p.public { // by whoever waits for that, or by itself
		add(told("the log is published"), func(q *picture) { q.publish(f) })
	}
	for w := range p.workers {
		switch job := p.workers[w].job; {
		case job == nobody:
			p.claims(w, f, add)
		case job == evaluate:
			p.evaluates(w, f, tally, add)
		case job <= put1:
			p.puts(w, f, add)
		case job == look:
			p.readsBack(w, f, add)
		default:
			p.merges(w, f, add)
		}
	}
}

// people are those who approve, push and change the rules, and how the gate hears of it.
func (p *picture) people(f flaw, add adder) {
	// decider.decide: the live request must ask for this commit still (LockPullRequest, LiveRequest); then Enqueue(AskEvaluate).
	// That Bitbucket has merged it keeps nobody from signing until it is on record: the page may have been open.
	decides := func(what string, a int, is bool) {
		c := p.live
		add(told(what, int8(a), c), func(q *picture) {
			q.decisions[a][c], q.fresh = is, false
			if q.both(c) {
				q.quorum[c] = max(q.quorum[c], stood)
			}
			q.leaf()
			if f != skipDirty {
				q.ask(evaluate)
			}
			if !is {
				q.left.withdrawals--
			}
		})
	}
	for a := range 2 {
		switch c := p.live; {
		case c == nobody || p.record != none:
		case !p.decisions[a][c]:
			decides("approver %d approves commit %d", a, true)
		case p.left.withdrawals > 0:
			decides("approver %d withdraws from commit %d", a, false)
		}
	}
	if p.head == 0 && p.merged == nobody && p.left.pushes > 0 {
		add(told("commit 1 is pushed"), func(q *picture) {
			q.head = 1
			q.left.pushes--
			q.hears()
		})
		if p.left.webhooks > 0 {
			add(told("commit 1 is pushed, and its webhook is lost"), func(q *picture) {
				q.head, q.unheard = 1, f != skipReconcile
				q.left.pushes--
				q.left.webhooks--
			})
		}
	}
	if p.left.rules > 0 && p.merged == nobody {
		add(told("the rule is changed"), func(q *picture) {
			q.ruled = true
			q.left.rules--
			q.ask(evaluate)
		})
	}
	// mergeCheck.judge, under the lock of the pull request; whoever is told to publish first asks once more.
	if c := p.head; p.merged == nobody && p.live == c && p.asks == p.ruled && p.approved && p.fresh && (p.public || f == checkUnpublished) && p.left.slow > 0 {
		add(told("the merge check says yes to commit %d", c), func(q *picture) {
			if !q.verdict || q.unsaved {
				q.wrong = fmt.Sprintf("the merge check says yes to commit %d, and its verdict is not published", c)
			}
			q.leaf()
			q.durable() // nobody is answered before
		})
	}
}

// mishaps are what nobody wants, and its end.
func (p *picture) mishaps(f flaw, add adder) {
	if p.left.webhooks > 0 {
		add(told("an old webhook comes again"), func(q *picture) { q.left.webhooks--; q.hears() })
	}
	if p.unheard {
		add(told("the reconciler finds what nobody heard of"), func(q *picture) { q.unheard = false; q.hears() }) // Gate.Reconcile
	}
	if c := p.late[0]; c != nobody {
		add(told("a call whose caller died lands"), func(q *picture) {
			state := q.late[1]
			q.late = [2]int8{nobody, 0}
			switch {
			case state != merging:
				q.shown[c] = state
			case q.merged == nobody:
				q.merge(true)
			}
		})
	}
	if p.late[0] != nobody {
		add(told("a call whose caller died is lost"), func(q *picture) { q.late = [2]int8{nobody, 0} })
	}
	if p.task != nobody {
		add(told("the merge that Bitbucket is at lands"), func(q *picture) {
			if q.task = nobody; q.merged == nobody {
				q.merge(true)
			}
		})
		add(told("the merge that Bitbucket is at comes to nothing"), func(q *picture) { q.task = nobody })
	}
	if c := p.head; p.left.strays > 0 && p.merged == nobody && p.live == c && p.shown[c] != stopped {
		add(told("somebody else writes a status on commit %d", c), func(q *picture) {
			q.left.strays--
			q.shown[c] = stopped
			q.ask(look) // AskStatusSeen, of its webhook
			q.durable()
		})
	}
	if p.walks && p.strayed() && !p.jobs[look].ready {
		add(told("the walk has the status of the head read back"), func(q *picture) { q.ask(look); q.durable() }) // Gate.Reconcile
	}
	for c := range int8(2) {
		if p.intents[c].doubt && !p.onItsWay(c) {
			add(told("no call to merge commit %d can land any more", c), func(q *picture) { // taskPatience is over
				q.intents[c].doubt, q.disk.intents[c].doubt = false, false
			})
		}
	}
	for job := range kinds {
		if row := p.jobs[job]; row.held && !row.over && p.left.expiries > 0 {
			add(told("the lease of job %d runs out early", job), func(q *picture) { q.runsOut(job); q.left.expiries-- })
		}
	}
	for w := range p.workers {
		if p.workers[w].job != nobody && p.left.crashes > 0 {
			add(told("worker %d dies", int8(w)), func(q *picture) { q.dies(w) })
		}
	}
	if p.left.outages > 0 {
		add(told("the database crashes"), func(q *picture) { q.crashes(f) })
	}
}

// onItsWay tells whether a call to merge a commit can land yet.
func (p *picture) onItsWay(c int8) bool {
	for _, t := range p.workers {
		if t.job == merge0+c && t.step == 3 {
			return true
		}
	}
	return p.late == [2]int8{c, merging} || p.task == c
}

// runsOut ends the lease of a job that somebody holds: that is a time, which a crash of the database does not change.
func (p *picture) runsOut(job int8) {
	p.jobs[job].over, p.disk.jobs[job].over = true, p.disk.jobs[job].held
}

// dies ends a worker: what it has asked of Bitbucket may come later.
func (p *picture) dies(w int) {
	t := p.workers[w]
	switch {
	case (t.job == put0 || t.job == put1) && t.step == putting:
		p.late = [2]int8{t.job - put0, t.state}
	case (t.job == merge0 || t.job == merge1) && t.step == 3:
		p.late = [2]int8{t.job - merge0, merging}
	}
	p.workers[w] = turn{job: nobody}
	p.left.crashes--
	if p.seen[w].holds {
		p.runsOut(t.job)
	}
}

// crashes takes back what the database had not on its disk. A worker between two transactions notices nothing, though its claim
// be taken back, with the asking that it was part of; who was told that a transaction failed gives its job back, or leaves it until
// its lease has run out.
func (p *picture) crashes(f flaw) {
	held := p.seen
	p.database = p.disk
	p.left.outages--
	for i, of := range held {
		if of.holds && !p.seen[i].holds {
			p.seen[i] = relation{asked: true, back: true, holds: f == fenceByNumber}
		}
	}
	for job := range p.jobs {
		row, attended := &p.jobs[job], false
		for i, t := range p.workers {
			attended = attended || t.job == int8(job) && p.seen[i].holds
		}
		row.over = row.over || row.held && !attended
	}
	p.durable()
}

// claims is ClaimJob: where state = 'READY' and (leased_until is null or leased_until <= now()), set fence = fence + 1. A seat is
// filled by whoever asks, or asks once more: where holder is null and state = 'DONE' or state = 'READY' and attempt = 0.
func (p *picture) claims(w int, f flaw, add adder) {
	for job := range kinds {
		row := p.jobs[job]
		if !row.ready || row.held && !row.over || p.inDoubt(job) {
			continue
		}
		claim := func(q *picture) {
			for i := range q.workers {
				if q.workers[i].job == job && f != fenceByNumber {
					q.seen[i].holds = false
				}
			}
			q.jobs[job] = ledgerRow{ready: true, held: true, tried: row.tried || row.held} // attempt + (holder is not null)
			q.workers[w], q.seen[w] = turn{job: job}, relation{holds: true}
		}
		add(told("worker %d claims job %d", int8(w), job), func(q *picture) {
			claim(q)
			q.durable()
		})
		if p.left.outages > 0 && !row.held && !row.tried { // else it is the same
			add(told("worker %d is seated for job %d", int8(w), job), claim)
		}
	}
}

// inDoubt tells whether a job waits for doubt_until: a call of a worker that was given up on may be on its way. That doubtPause
// outlasts such a call is assumed here; one that lands later still is told of by its event, as what somebody else writes.
func (p *picture) inDoubt(job int8) bool {
	if job != put0 && job != put1 || !p.owed[job-put0].paid || !p.owed[job-put0].doubt {
		return false
	}
	return p.late[0] == job-put0 || p.workers[0].job == job || p.workers[1].job == job
}

// evaluates is Gate.Evaluate: look, and settle in one transaction that FinishJob fences. Nobody changes the rules meanwhile.
func (p *picture) evaluates(w int, f flaw, tally tallier, add adder) {
	t := p.workers[w]
	switch {
	case t.step == 0:
		add(told("worker %d reads the rules and the head %d", int8(w), p.head), func(q *picture) {
			t := &q.workers[w]
			t.ruled, t.head, t.step, t.looked = q.ruled, q.head, 1, q.merged != nobody
		})
	case t.step == 1 && t.ruled != p.ruled:
		add(told("worker %d finds other rules", int8(w)), func(q *picture) {
			if q.finish(w, f) {
				q.jobs[evaluate].ready = true
			}
			q.durable()
		})
	case t.step == 1 && f == settleUnlocked:
		add(told("worker %d finds the rules that it read", int8(w)), func(q *picture) { q.workers[w].step = 2 })
	default:
		add(told("worker %d settles with the head %d", int8(w), t.head), func(q *picture) { q.settles(w, f, tally) })
	}
}

func (p *picture) settles(w int, f flaw, tally tallier) {
	t := p.workers[w]
	if !p.finish(w, f) || p.record != none {
		return
	}
	if t.looked { // settlement.merged: it was seen merged
		p.record = stopped
		if p.live == t.head && p.approved && (f == recordByState || tally(p, t.head)) {
			p.record = green
		}
		if p.record == green && !p.both(t.head) {
			p.wrong = fmt.Sprintf("commit %d is on record as merged with its approvals, and one is taken back", t.head)
		}
		for c := range int8(2) { // ringMerges
			if p.intents[c].open() {
				p.ask(merge0 + c)
			}
		}
		return
	}
	before := p.database
	switch {
	case p.live == nobody:
	case p.live != t.head:
		p.owe(p.live, stopped) // settlement.close
		p.older = false
	case p.asks != t.ruled:
		p.decisions[0][t.head], p.decisions[1][t.head] = false, false // they are about the rule that was
		p.older = p.intents[t.head].state != none
	}
	p.live, p.asks, p.fresh = t.head, t.ruled, true
	p.approved = tally(p, t.head)
	if p.live != before.live || p.asks != before.asks || p.approved != before.approved || !before.fresh {
		p.leaf()
		p.verdict = false
	}
	if p.approved && p.asks != p.ruled {
		p.wrong = fmt.Sprintf("commit %d is approved by a rule that is not in force", t.head)
	}
	state := progress
	if p.approved {
		state = green
	}
	p.owe(t.head, state)
	if !p.approved {
		return
	}
	// PlanMerge: on conflict do update where old.state in ('PLANNED', 'REFUSED') and old.request_id <> excluded.request_id
	i := &p.intents[t.head]
	if i.state == none || p.older && (i.state == planned || i.state == refused) {
		i.state, p.older = planned, false
	}
	if p.owed[t.head].paid && i.open() {
		p.ask(merge0 + t.head) // askForMerge
	}
}

// stands tells whether a commit is approved by the rules and the decisions as they are: standingApproval, and holdsStill.
func (p *picture) stands(c int8) bool {
	return p.record == none && p.live == c && p.approved && p.fresh && p.asks == p.ruled
}

// The steps of a status.
const (
	publishing = int8(iota + 1)
	looking
	putting
	paying
	flushing
)

// puts is Gate.PutStatus: read what is owed, publish and tally again what is green, call, pay.
func (p *picture) puts(w int, f flaw, add adder) {
	t := p.workers[w]
	c := t.job - put0
	switch t.step {
	case 0:
		add(told("worker %d reads what is owed on commit %d: %d", int8(w), c, p.owed[c].state), func(q *picture) { q.readsOwed(w, c, f) })
	case publishing:
		if p.public {
			add(told("worker %d has the log published", int8(w)), func(q *picture) { q.workers[w].step = looking })
		}
	case looking:
		add(told("worker %d looks at commit %d once more", int8(w), c), func(q *picture) { q.looks(w, c, f) })
	case flushing:
		add(told("worker %d has all made durable", int8(w)), func(q *picture) {
			q.durable()
			q.workers[w].step = putting
		})
	case putting:
		add(told("worker %d puts %d on commit %d", int8(w), t.state, c), func(q *picture) {
			q.shown[c] = t.state
			q.workers[w].step = paying
		})
	case paying:
		add(told("worker %d pays commit %d", int8(w), c), func(q *picture) { q.pays(w, c, f) })
	}
}

// unclaimed is what Store.Owed and Tx.Green begin with: the claim holds, or the turn is over.
func (p *picture) unclaimed(w int, f flaw) bool {
	if p.seen[w].holds || f == beginUnclaimed || f == dropFencing {
		return false
	}
	p.workers[w] = turn{job: nobody}
	return true
}

// readsOwed is Store.Owed: the claim holds, and that is durable, so that whoever takes the job over knows of this turn. Of what is
// to turn green looks makes it so.
func (p *picture) readsOwed(w int, c int8, f flaw) {
	if p.unclaimed(w, f) {
		return
	}
	if o := p.owed[c]; (o.paid || o.state != green) && f != skipFirstFlush && f != flushElsewhere {
		p.durable()
	}
	p.goesOn(w, c, f)
}

// goesOn is what follows from what is owed.
func (p *picture) goesOn(w int, c int8, f flaw) {
	o := &p.owed[c]
	if o.paid { // checkPaid, and OweStatusAgain: where paid_version = owed_version
		again := p.shown[c] != o.state
		if p.finish(w, sound) {
			o.doubt = false
			if again {
				o.paid = false
				p.owes(c)
			}
		}
		return
	}
	p.workers[w].state, p.seen[w].behind = o.state, false
	p.disk.seen[w].behind = p.disk.owed[c].state != o.state || p.disk.owed[c].paid != o.paid // stillOwed
	switch {
	case o.state == green && f == putUnpublished:
		p.workers[w].step = looking
	case o.state == green:
		p.workers[w].step = publishing
	case f == flushElsewhere:
		p.workers[w].step = flushing
	default:
		p.workers[w].step = putting
	}
}

// flushes makes durable what was read.
func (p *picture) flushes(w int, f flaw) {
	p.workers[w].step = putting
	switch f {
	case skipFlush:
	case flushElsewhere:
		p.workers[w].step = flushing
	default:
		p.durable()
	}
}

// looks is the last look at what is about to turn green: Tx.Green.
func (p *picture) looks(w int, c int8, f flaw) {
	if p.unclaimed(w, f) {
		return
	}
	holds := p.stands(c) || f == putUntallied || f == putByOldRules && p.live == c && p.approved && p.fresh
	switch {
	case p.seen[w].behind || p.owed[c].paid:
		if f != skipFlush && f != flushElsewhere {
			p.durable()
		}
		p.goesOn(w, c, f) // with what is owed now
		return
	case !holds && f == dropOwed:
		if p.finish(w, sound) {
			p.ask(evaluate)
		}
		p.durable()
		return
	case !holds: // evaluateFirst
		p.ask(evaluate)
		p.durable()
		p.giveBack(w)
		return
	case !p.public && f != putUnpublished && f != publishAnother:
		p.giveBack(w)
		return
	}
	p.flushes(w, f)
	switch {
	case !p.both(c):
		p.wrong = fmt.Sprintf("commit %d is about to turn SUCCESSFUL, and an approval is taken back", c)
	case p.asks != p.ruled:
		p.wrong = fmt.Sprintf("commit %d is about to turn SUCCESSFUL by a rule that is not in force", c)
	case !p.verdict:
		p.wrong = fmt.Sprintf("commit %d is about to turn SUCCESSFUL, and its verdict is not published", c)
	}
}

func (p *picture) pays(w int, c int8, f flaw) {
	t, behind := p.workers[w], p.seen[w].behind
	tried := p.jobs[t.job].tried
	if !p.finish(w, f) {
		return
	}
	p.leaf()
	p.jobs[t.job].tried = false
	p.owed[c].doubt = p.owed[c].doubt || tried && f != forgetDoubt
	p.jobs[t.job].ready = p.jobs[t.job].ready || p.owed[c].doubt // FinishJob with next = doubt_until
	// PayStatus: paid_version = greatest(paid_version, least($4, owed_version))
	if !behind || f == payStale {
		p.owed[c].paid = true
		if f == payStale {
			p.jobs[t.job].ready = p.owed[c].doubt
		}
	}
	if t.state == green && p.intents[c].open() && p.live == c {
		p.ask(merge0 + c) // askForMerge
	}
}

// readsBack is Gate.StatusSeen: what is paid on the head, what Bitbucket shows there, and checkPaid, which owes that again.
func (p *picture) readsBack(w int, f flaw, add adder) {
	t := p.workers[w]
	ends := func(q *picture, again bool) {
		if again = again && !q.seen[w].behind; q.finish(w, f) && again {
			q.owed[t.head].paid = false // OweStatusAgain: where paid_version = owed_version
			if f != oweSilently {
				q.owes(t.head)
			}
		}
		q.durable()
	}
	switch t.step {
	case 0:
		add(told("worker %d reads what is paid on the head", int8(w)), func(q *picture) {
			c := q.live
			if c == nobody || !q.owed[c].paid { // the job that pays will overwrite whatever is there
				ends(q, false)
				return
			}
			q.workers[w].head, q.workers[w].state, q.workers[w].step = c, q.owed[c].state, 1
			q.seen[w].behind, q.disk.seen[w].behind = false, false
		})
	case 1:
		add(told("worker %d reads the status of commit %d back: %d", int8(w), t.head, p.shown[t.head]), func(q *picture) {
			if q.shown[t.head] == t.state {
				ends(q, false)
				return
			}
			q.workers[w].step = 2
		})
	default:
		add(told("worker %d has the status of commit %d owed again", int8(w), t.head), func(q *picture) { ends(q, true) })
	}
}

// merges is Gate.Merge: readMerge, prepareMerge and mayMerge, the transaction of callMerge, the call, landed, endMerge.
func (p *picture) merges(w int, f flaw, add adder) {
	t := p.workers[w]
	c := t.job - merge0
	switch t.step {
	case 0:
		add(told("worker %d reads the intent of commit %d", int8(w), c), func(q *picture) { q.readsIntent(w, c, f) })
	case 1:
		if !p.public && f != mergeUnpublished {
			return // prepareMerge: publish
		}
		add(told("worker %d reads the head %d before it merges", int8(w), p.head), func(q *picture) {
			switch {
			case q.merged != nobody:
				q.sees(w, c, f)
			case q.head != c: // mayMerge: there is a newer commit
				q.refuses(w)
			default:
				q.workers[w].looked, q.workers[w].step = true, 2
			}
		})
	case 2:
		add(told("worker %d commits that it is about to merge commit %d", int8(w), c), func(q *picture) { q.calls(w, c, f) })
	case 3:
		p.called(w, c, f, add)
	case 4:
		add(told("worker %d ends the merge of commit %d: %d", int8(w), c, t.state), func(q *picture) {
			if q.intents[c].over() {
				q.giveBack(w)
			} else if q.finish(w, sound) {
				q.intents[c] = intentRow{state: t.state}
				q.ask(evaluate)
			}
			q.durable()
		})
	}
}

func (p *picture) readsIntent(w int, c int8, f flaw) {
	i := p.intents[c]
	stands := p.stands(c) && !p.older
	switch {
	case i.over():
		p.finish(w, sound)
		p.durable()
	case i.task && f != callBeside:
		p.polls(w, c, f)
	case p.merged != nobody && (!stands || i.state == calling):
		p.sees(w, c, f)
	case i.state == calling && i.doubt && f != endEarly: // mayLand
		p.giveBack(w)
		p.durable()
	case !stands:
		p.letsGo(w, c)
	case f == mergeUnread:
		p.workers[w].step = 2
	default:
		p.workers[w].step = 1
	}
}

// polls is Gate.pollMerge. Bitbucket says of a task that came to nothing because something else was merged that the pull request
// is not open.
func (p *picture) polls(w int, c int8, f flaw) {
	job := p.workers[w].job
	switch {
	case p.task == c && f == endTask:
		p.refuses(w)
	case p.task == c: // lookLater
		p.finish(w, sound)
		p.jobs[job].ready = true
		p.durable()
	case p.merged != nobody:
		p.sees(w, c, f)
	default:
		p.uncalled(w, c)
	}
}

// uncalled is Gate.uncalled.
func (p *picture) uncalled(w int, c int8) {
	if p.seen[w].holds && p.intents[c].state == calling { // HoldJob
		p.intents[c] = intentRow{state: planned}
	}
	p.giveBack(w)
}

// letsGo is Gate.letGo.
func (p *picture) letsGo(w int, c int8) {
	switch {
	case p.intents[c].over(): // MoveMerge: state = any('PLANNED', 'CALLING')
		p.giveBack(w)
	case p.finish(w, sound):
		p.intents[c] = intentRow{state: planned}
		p.ask(evaluate)
	}
	p.durable()
}

// refuses is what stands in the way, and what Bitbucket answers a call with.
func (p *picture) refuses(w int) {
	p.workers[w].step, p.workers[w].state = 4, refused
}

// sees is Gate.landed, and landedElsewhere: what came to nothing while it was called for ends when the merge is on record.
func (p *picture) sees(w int, c int8, f flaw) {
	t := &p.workers[w]
	switch {
	case p.merged == c || f == landAnyhow:
		t.step, t.state = 4, landed
	case p.intents[c].state != calling || p.record != none:
		t.step, t.state = 4, refused
	default:
		job := t.job
		if p.finish(w, sound) {
			p.ask(evaluate)
			p.jobs[job].ready = true // FinishJob with next = doubtPause: the evaluation rings before
		}
		p.durable()
	}
}

// calls is the transaction of callMerge.
func (p *picture) calls(w int, c int8, f flaw) {
	switch {
	case !p.seen[w].holds && f != callUnfenced && f != dropFencing: // HoldJob
		p.workers[w] = turn{job: nobody}
		return
	case (!p.stands(c) || p.older) && f != skipLastTally:
		p.letsGo(w, c)
		return
	case p.intents[c].over(), !p.public && f != mergeUnpublished: // MoveMerge: state = any('PLANNED', 'CALLING')
		p.giveBack(w)
		return
	case !p.both(c):
		p.wrong = fmt.Sprintf("commit %d is about to be merged without its quorum", c)
	case p.onItsWay(c):
		p.wrong = fmt.Sprintf("commit %d is about to be merged, and an earlier call may land", c)
	case p.asks != p.ruled:
		p.wrong = fmt.Sprintf("commit %d is about to be merged by a rule that is not in force", c)
	case !p.verdict:
		p.wrong = fmt.Sprintf("commit %d is about to be merged, and its verdict is not published", c)
	}
	p.intents[c], p.workers[w].step = intentRow{state: calling, doubt: true}, 3
	p.durable()
}

// called is what becomes of a call.
func (p *picture) called(w int, c int8, f flaw, add adder) {
	t := p.workers[w]
	lands := func(told bool) func(q *picture) {
		return func(q *picture) {
			if q.merged == nobody {
				if q.head != c && !t.looked {
					q.wrong = fmt.Sprintf("commit %d was merged, and %d was approved", q.head, c)
				}
				q.merge(told)
			}
			q.sees(w, c, f) // where Bitbucket refuses, mergeRefused looks
		}
	}
	add(told("worker %d has the pull request merged, whose head is %d", int8(w), p.head), lands(true))
	if p.merged != nobody {
		return
	}
	if p.left.webhooks > 0 {
		add(told("worker %d has the pull request merged, whose head is %d, and the webhook is lost", int8(w), p.head), func(q *picture) {
			q.left.webhooks--
			lands(false)(q)
		})
	}
	if p.left.refusals > 0 {
		add(told("worker %d is refused the merge of commit %d", int8(w), c), func(q *picture) {
			q.left.refusals--
			q.refuses(w)
		})
		add(told("worker %d is told that a branch moved, and has to call for commit %d once more", int8(w), c), func(q *picture) {
			q.left.refusals--
			q.uncalled(w, c)
		})
	}
	if p.left.tasks > 0 && p.task == nobody {
		add(told("worker %d is told that Bitbucket is at the merge of commit %d", int8(w), c), func(q *picture) {
			q.left.tasks--
			q.task = c
			if q.intents[c].state != calling || !q.finish(w, sound) { // waitForMerge: MoveMerge, FinishJob
				q.workers[w] = turn{job: nobody}
				return
			}
			q.intents[c] = intentRow{state: calling, task: true}
			if f == forgetTask {
				q.intents[c] = intentRow{state: planned}
			}
			q.jobs[t.job].ready = true
			q.durable()
		})
	}
}
