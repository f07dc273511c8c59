package gate_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
)

// The model of evaluate, decide, put and merge: every order in which two workers, two approvers, one push, one crash and one
// lease that runs out too early can meet, breadth first, so that what breaks an invariant is told by a shortest story. What is approved
// is asked of approval.Tally itself; the rest mirrors the guards of the transactions, each of which names its statement.
//
// Two commits, 0 and 1, of which the second is pushed. The rule asks both approvers, and merges by itself. What SQL compares by numbers
// that only grow, fence, seq and owed_version, is kept as whether they still agree, so that the model is finite.

// flaw is a mistake that is put into the model: the search must find what it leads to.
type flaw string

const (
	sound          flaw = ""
	dropFencing    flaw = "drop the fencing"
	payStale       flaw = "pay a stale status"
	mergeUnread    flaw = "merge without reading the head again"
	skipDirty      flaw = "do not mark what was decided as dirty"
	skipLastTally  flaw = "do not tally again before the merge is called"
	finishDeafly   flaw = "finish a job that was asked for again meanwhile"
	forgetDoubt    flaw = "do not read back what was written in doubt"
	nobody              = int8(-1)
	none, progress      = int8(0), int8(1)
	green, stopped      = int8(2), int8(3)
)

// The jobs: evaluate, put 0, put 1, merge 0, merge 1.
const (
	evaluate = int8(iota)
	put0
	put1
	merge0
	merge1
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
	stale  bool // its fence is no longer the row's
	asked  bool // the row's seq has moved since the claim
	head   int8 // as read
	state  int8 // of the status, as read
	behind bool // the status's owed_version has moved since it was read
	looked bool // the head was read in this turn
}

// before orders turns, in some way.
func (t turn) before(o turn) bool {
	return cmp.Or(cmp.Compare(t.job, o.job), cmp.Compare(t.step, o.step), cmp.Compare(t.head, o.head), cmp.Compare(t.state, o.state),
		cmp.Compare(t.flags(), o.flags())) < 0
}

func (t turn) flags() (n int) {
	for i, set := range []bool{t.stale, t.asked, t.behind, t.looked} {
		if set {
			n |= 1 << i
		}
	}
	return n
}

// owedRow is a row of signedapproval_bitbucket_commit_statuses.
type owedRow struct {
	state int8
	paid  bool // paid_version = owed_version
	doubt bool // doubt_until is set: the job comes back once, when no call can be on its way any more
}

// picture is one state of everything.
type picture struct {
	// Bitbucket
	head, merged int8 // merged: nobody, or the commit
	shown        [2]int8
	late         [2]int8 // on commit, state: a call whose caller is gone; commit nobody: none
	// Postgres
	live      int8 // the commit of the live request
	approved  bool
	decisions [2][2]bool // by approver, commit
	owed      [2]owedRow
	intents   [2]int8 // none, then planned, calling, done
	jobs      [kinds]ledgerRow
	workers   [2]turn
	// What may still happen.
	crashes, expiries, withdrawals, pushes int8
	decided                                [2][2]bool
	// Seen by the checker alone: a quorum stood when it was decided.
	quorum [2]bool
	wrong  string
}

const (
	planned, calling, ended = int8(1), int8(2), int8(3)
)

// chances are how often what is bad may happen.
type chances struct{ crashes, expiries, withdrawals, pushes int8 }

func first(may chances) picture {
	p := picture{merged: nobody, late: [2]int8{nobody, 0}, live: nobody, crashes: may.crashes, expiries: may.expiries, withdrawals: may.withdrawals, pushes: may.pushes}
	for i := range p.workers {
		p.workers[i].job = nobody
	}
	p.jobs[evaluate].ready = true // the webhook of the opened pull request
	return p
}

// ask is what enqueueJobs does.
func (p *picture) ask(job int8) {
	p.jobs[job].ready = true
	for i := range p.workers {
		if p.workers[i].job == job {
			p.workers[i].asked = true // seq = j.seq + 1
		}
	}
}

// finish is what finishJob does: where id = $1 and fence = $3 and holder is not null. It answers false for ErrLeaseLost.
func (p *picture) finish(w int, f flaw) bool {
	t := p.workers[w]
	p.workers[w] = turn{job: nobody}
	if t.stale {
		return f == dropFencing
	}
	row := &p.jobs[t.job]
	row.ready, row.held, row.over = t.asked && f != finishDeafly, false, false // case when seq = $2 then 'DONE' else 'READY'
	return true
}

// owe is what Tx.OweStatus does: only where it is distinct from what is owed.
func (p *picture) owe(commit, state int8) {
	if p.owed[commit].state == state {
		return
	}
	p.owed[commit] = owedRow{state: state, doubt: p.owed[commit].doubt}
	for i := range p.workers {
		if p.workers[i].job == put0+commit {
			p.workers[i].behind = true
		}
	}
	p.ask(put0 + commit)
}

// both tells whether both stand by a commit: the checker's own count.
func (p *picture) both(commit int8) bool { return p.decisions[0][commit] && p.decisions[1][commit] }

// move is a successor with its name.
type move struct {
	name string
	to   picture
}

// search explores everything that a flawed model can do, and gives the shortest story to a wrong state.
func search(f flaw, may chances) (story []string, states int) {
	tally := tallies()
	type origin struct {
		from int
		name string
	}
	begin := first(may)
	seen := map[picture]struct{}{begin: {}}
	queue, origins := []picture{begin}, []origin{{from: -1}}
	for at := 0; at < len(queue); at++ {
		p := queue[at]
		wrong := p.wrong
		if wrong == "" {
			wrong = p.broken(tally)
		}
		if wrong != "" {
			story = []string{wrong}
			for i := at; origins[i].from >= 0; i = origins[i].from {
				story = append(story, origins[i].name)
			}
			slices.Reverse(story)
			return story, len(queue)
		}
		if p.merged != nobody {
			continue // nothing can be lost any more
		}
		for _, m := range p.moves(f, tally) {
			if w := &m.to.workers; w[1].before(w[0]) { // which worker it is makes no difference
				w[0], w[1] = w[1], w[0]
			}
			if _, known := seen[m.to]; known {
				continue
			}
			seen[m.to] = struct{}{}
			queue, origins = append(queue, m.to), append(origins, origin{at, m.name})
		}
	}
	return nil, len(queue)
}

// tallies asks approval.Tally, once for each set of decisions on a commit.
func tallies() func(p *picture, commit int8) bool {
	rule := approval.Rule{
		Name: "Both", Branches: []string{"*"}, ExpiresAfterSeconds: 3600,
		Requirements: []approval.Requirement{{Name: "Both", Quorum: 2, Approvers: approval.Approvers{Accounts: []string{"bob", "carol"}}}},
	}
	known := map[[2]bool]bool{}
	now := time.Unix(1_800_000_000, 0)
	return func(p *picture, commit int8) bool {
		stands := [2]bool{p.decisions[0][commit], p.decisions[1][commit]}
		if approved, ok := known[stands]; ok {
			return approved
		}
		facts := approval.Facts{Now: now, Request: approval.RequestFacts{
			ID: "r", HeadCommit: "c", DestinationBranch: "main", RuleDigest: rule.Digest(), ExpiresAt: now.Add(time.Hour),
		}}
		for i, account := range []string{"bob", "carol"} {
			if stands[i] {
				facts.Decisions = append(facts.Decisions, approval.Decision{
					ID: account, RequestID: "r", PersonID: account, AccountID: account, Action: approval.Approve,
					HeadCommit: "c", DestinationBranch: "main", RuleDigest: rule.Digest(), Sequence: int64(i + 1),
				})
			}
		}
		known[stands] = approval.Tally(rule, facts).State == approval.Approved
		return known[stands]
	}
}

// broken is the invariant that does not hold.
func (p *picture) broken(tally func(*picture, int8) bool) string {
	for commit := range int8(2) {
		if p.shown[commit] == green && !p.quorum[commit] {
			return fmt.Sprintf("commit %d is SUCCESSFUL, and never had its quorum", commit)
		}
	}
	for _, row := range p.jobs {
		if row.ready || row.held {
			return ""
		}
	}
	if p.late[0] != nobody || p.workers[0].job != nobody || p.workers[1].job != nobody {
		return ""
	}
	// At rest.
	if p.merged != nobody {
		return ""
	}
	want := progress
	if tally(p, p.head) {
		want = green
	}
	switch {
	case p.live != p.head:
		return fmt.Sprintf("at rest nobody is asked about the head %d", p.head)
	case p.shown[p.head] != want:
		return fmt.Sprintf("at rest the head %d shows %d, and its verdict is %d", p.head, p.shown[p.head], want)
	case p.head == 1 && p.shown[0] == green:
		return "at rest the superseded commit is SUCCESSFUL"
	}
	return ""
}

// moves are all that can happen next.
func (p *picture) moves(f flaw, tally func(*picture, int8) bool) (list []move) {
	add := func(name string, change func(q *picture)) {
		q := *p
		change(&q)
		list = append(list, move{name, q})
	}
	// decider.decide: the live request must ask for this commit still (LockPullRequest, LiveRequest); then Enqueue(AskEvaluate).
	for a := range 2 {
		if c := p.live; c != nobody && p.merged == nobody && !p.decided[a][c] {
			add(fmt.Sprintf("approver %d approves commit %d", a, c), func(q *picture) {
				q.decisions[a][c], q.decided[a][c] = true, true
				q.quorum[c] = q.quorum[c] || q.both(c)
				if f != skipDirty {
					q.ask(evaluate)
				}
			})
		}
	}
	if c := p.live; c != nobody && p.merged == nobody && p.withdrawals > 0 && p.decisions[0][c] {
		add(fmt.Sprintf("approver 0 withdraws from commit %d", c), func(q *picture) {
			q.decisions[0][c] = false
			q.withdrawals--
			if f != skipDirty {
				q.ask(evaluate)
			}
		})
	}
	if p.head == 0 && p.merged == nobody && p.pushes > 0 {
		add("commit 1 is pushed", func(q *picture) { q.head = 1; q.ask(evaluate) }) // Intake: the delivery and its job in one statement
	}
	if c := p.late[0]; c != nobody {
		add("a call whose caller died lands", func(q *picture) {
			q.shown[c] = q.late[1]
			q.late = [2]int8{nobody, 0}
		})
	}
	for job := range kinds {
		if row := p.jobs[job]; row.held && !row.over && p.expiries > 0 {
			add(fmt.Sprintf("the lease of job %d runs out early", job), func(q *picture) { q.jobs[job].over = true; q.expiries-- })
		}
	}
	for w := range p.workers {
		if p.workers[w].job == nobody {
			p.claims(w, add)
			continue
		}
		if p.crashes > 0 {
			add(fmt.Sprintf("worker %d dies", w), func(q *picture) {
				t := q.workers[w]
				if (t.job == put0 || t.job == put1) && t.step == 1 {
					q.late = [2]int8{t.job - put0, t.state}
				}
				q.workers[w] = turn{job: nobody}
				q.crashes--
				if !t.stale {
					q.jobs[t.job].over = true // its lease will run out
				}
			})
		}
		switch t := p.workers[w]; {
		case t.job == evaluate:
			p.evaluates(w, f, tally, add)
		case t.job <= put1:
			p.puts(w, f, add)
		default:
			p.merges(w, f, tally, add)
		}
	}
	return list
}

// claims is ClaimJob: where state = 'READY' and (leased_until is null or leased_until <= now()), set fence = fence + 1.
func (p *picture) claims(w int, add func(string, func(*picture))) {
	for job := range kinds {
		row := p.jobs[job]
		if !row.ready || row.held && !row.over || p.inDoubt(job) {
			continue
		}
		add(fmt.Sprintf("worker %d claims job %d", w, job), func(q *picture) {
			for i := range q.workers {
				if q.workers[i].job == job {
					q.workers[i].stale = true
				}
			}
			q.jobs[job] = ledgerRow{ready: true, held: true, tried: row.tried || row.held} // attempt + (holder is not null)
			q.workers[w] = turn{job: job}
		})
	}
}

// inDoubt tells whether a job waits for doubt_until: a call of a worker that was given up on may be on its way. That doubtPause
// outlasts such a call is assumed here; one that lands later still is told of by its event (StatusSeen), which is left out.
func (p *picture) inDoubt(job int8) bool {
	if job != put0 && job != put1 || !p.owed[job-put0].paid || !p.owed[job-put0].doubt {
		return false
	}
	return p.late[0] == job-put0 || p.workers[0].job == job || p.workers[1].job == job
}

// evaluates is Gate.Evaluate: look, and settle in one transaction that FinishJob fences.
func (p *picture) evaluates(w int, f flaw, tally func(*picture, int8) bool, add func(string, func(*picture))) {
	t := p.workers[w]
	if t.step == 0 {
		add(fmt.Sprintf("worker %d reads the head %d", w, p.head), func(q *picture) { q.workers[w].head, q.workers[w].step = q.head, 1 })
		return
	}
	add(fmt.Sprintf("worker %d settles with the head %d", w, t.head), func(q *picture) {
		if !q.finish(w, f) || q.merged != nobody {
			return
		}
		if q.live != nobody && q.live != t.head {
			q.owe(q.live, stopped) // settlement.close
		}
		q.live = t.head
		q.approved = tally(q, t.head)
		state := progress
		if q.approved {
			state = green
		}
		q.owe(t.head, state)
		if !q.approved {
			return
		}
		if q.intents[t.head] == none {
			q.intents[t.head] = planned // PlanMerge: on conflict do nothing
		}
		if q.owed[t.head].paid && q.intents[t.head] == planned {
			q.ask(merge0 + t.head) // askForMerge
		}
	})
}

// puts is Gate.PutStatus: read what is owed, call, pay.
func (p *picture) puts(w int, f flaw, add func(string, func(*picture))) {
	t := p.workers[w]
	c := t.job - put0
	switch t.step {
	case 0:
		add(fmt.Sprintf("worker %d reads what is owed on commit %d: %d", w, c, p.owed[c].state), func(q *picture) {
			if o := &q.owed[c]; o.paid { // checkPaid, and OweStatusAgain: where paid_version = owed_version
				again := q.shown[c] != o.state
				if q.finish(w, sound) {
					o.doubt = false
					if again {
						o.paid = false
						q.ask(t.job)
					}
				}
				return
			}
			q.workers[w].state, q.workers[w].behind, q.workers[w].step = q.owed[c].state, false, 1
		})
	case 1:
		add(fmt.Sprintf("worker %d puts %d on commit %d", w, t.state, c), func(q *picture) {
			q.shown[c] = t.state
			q.workers[w].step = 2
		})
	case 2:
		add(fmt.Sprintf("worker %d pays commit %d", w, c), func(q *picture) {
			tried := q.jobs[t.job].tried
			if !q.finish(w, f) {
				return
			}
			q.jobs[t.job].tried = false
			q.owed[c].doubt = q.owed[c].doubt || tried && f != forgetDoubt
			q.jobs[t.job].ready = q.jobs[t.job].ready || q.owed[c].doubt // FinishJob with next = doubt_until
			// PayStatus: paid_version = greatest(paid_version, least($4, owed_version))
			if !t.behind || f == payStale {
				q.owed[c].paid = true
				if f == payStale {
					q.jobs[t.job].ready = q.owed[c].doubt
				}
			}
			if t.state == green && q.intents[c] == planned && q.live == c {
				q.ask(merge0 + c) // askForMerge
			}
		})
	}
}

// merges is Gate.Merge: readMerge, mayMerge, the transaction of callMerge, the call, endMerge.
func (p *picture) merges(w int, f flaw, tally func(*picture, int8) bool, add func(string, func(*picture))) {
	t := p.workers[w]
	c := t.job - merge0
	stands := func(q *picture) bool { return q.live == c && q.approved && tally(q, c) } // standingApproval
	switch t.step {
	case 0:
		add(fmt.Sprintf("worker %d reads the intent of commit %d", w, c), func(q *picture) {
			switch {
			case q.intents[c] == ended:
				q.finish(w, sound)
			case q.merged != nobody: // landed
				q.workers[w].step = 4
			case !stands(q): // letGo
				if q.finish(w, sound) {
					q.ask(evaluate)
				}
			case f == mergeUnread:
				q.workers[w].step = 2
			default:
				q.workers[w].step = 1
			}
		})
	case 1:
		add(fmt.Sprintf("worker %d reads the head %d before it merges", w, p.head), func(q *picture) {
			if q.head != c { // mayMerge: there is a newer commit
				q.workers[w].step = 4
				return
			}
			q.workers[w].looked, q.workers[w].step = true, 2
		})
	case 2:
		add(fmt.Sprintf("worker %d commits that it is about to merge commit %d", w, c), func(q *picture) {
			if f != skipLastTally && !stands(q) { // letGo
				if q.finish(w, sound) {
					q.ask(evaluate)
				}
				return
			}
			if q.intents[c] == ended { // MoveMerge: state = any('PLANNED', 'CALLING')
				q.workers[w] = turn{job: nobody}
				return
			}
			if !q.both(c) {
				q.wrong = fmt.Sprintf("commit %d is about to be merged without its quorum", c)
			}
			q.intents[c], q.workers[w].step = calling, 3
		})
	case 3:
		add(fmt.Sprintf("worker %d has the pull request merged, whose head is %d", w, p.head), func(q *picture) {
			q.workers[w].step = 4
			if q.merged != nobody {
				return // Bitbucket refuses; mergeRefused looks
			}
			q.merged = q.head
			if q.head != c && !t.looked {
				q.wrong = fmt.Sprintf("commit %d was merged, and %d was approved", q.head, c)
			}
		})
	case 4:
		add(fmt.Sprintf("worker %d ends the merge of commit %d", w, c), func(q *picture) {
			if q.finish(w, sound) {
				q.intents[c] = ended
				q.ask(evaluate)
			}
		})
	}
}

// TestEveryOrderOfEvents explores the sound model, with each two of the things that may happen. A
// merge that lands another head than the one just read is no counterexample: Bitbucket's merge takes no expected head, so that a
// push in between cannot be kept out; landed finds it and alarms.
func TestEveryOrderOfEvents(t *testing.T) {
	t.Parallel()
	for name, may := range map[string]chances{
		"a worker dies, and a commit is pushed":         {crashes: 1, pushes: 1},
		"a worker dies, and an approver withdraws":      {crashes: 1, withdrawals: 1},
		"a lease runs out, and a commit is pushed":      {expiries: 1, pushes: 1},
		"a lease runs out, and an approver withdraws":   {expiries: 1, withdrawals: 1},
		"a commit is pushed, and an approver withdraws": {pushes: 1, withdrawals: 1},
	} {
		t.Run(name, func(t *testing.T) {
			story, states := search(sound, may)
			if story != nil {
				t.Errorf("after %d states:\n%s", states, strings.Join(story, "\n"))
			}
			if states < 5_000 {
				t.Errorf("%d states are too few to show anything", states)
			}
			t.Logf("%d states explored", states)
		})
	}
}

// TestEveryFlawIsFound puts mistakes into the model, each of which the search must find.
func TestEveryFlawIsFound(t *testing.T) {
	t.Parallel()
	for f, may := range map[flaw]chances{
		dropFencing: {expiries: 1, pushes: 1}, payStale: {}, mergeUnread: {pushes: 1}, skipDirty: {}, skipLastTally: {withdrawals: 1},
		finishDeafly: {pushes: 1}, forgetDoubt: {crashes: 1, withdrawals: 1},
	} {
		t.Run(string(f), func(t *testing.T) {
			story, states := search(f, may)
			if story == nil {
				t.Fatalf("nothing is wrong in %d states", states)
			}
			t.Logf("after %d states:\n%s", states, strings.Join(story, "\n"))
		})
	}
}
