package gate_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
)

// event is what happens between two pictures.
type event struct {
	format string
	args   [4]int8
	n      int
}

func told(format string, args ...int8) event {
	e := event{format: format, n: len(args)}
	copy(e.args[:], args)
	return e
}

func (e event) String() string {
	args := make([]any, e.n)
	for i := range args {
		args[i] = e.args[i]
	}
	return fmt.Sprintf(e.format, args...)
}

// adder is told of an event and of what it changes.
type adder func(e event, change func(q *picture))

// word gathers numbers from which nothing is left out: each is one of so many.
type word uint64

func (w *word) number(n, of int8) { *w = *w*word(of) + word(n) }

func (w *word) flags(list ...bool) {
	for _, set := range list {
		*w *= 2
		if set {
			*w++
		}
	}
}

// digest is a picture in few bits: two pictures with one digest are one.
type digest struct{ outside, now, disk word }

func (p *picture) digest() digest {
	var o word
	for _, n := range []int8{
		p.left.crashes, p.left.expiries, p.left.withdrawals, p.left.pushes, p.left.webhooks, p.left.rules, p.left.outages, p.left.refusals, p.left.slow,
		p.left.strays, p.left.tasks, p.merged + 1, p.late[0] + 1, p.task + 1, p.quorum[0], p.quorum[1],
	} {
		o.number(n, 3)
	}
	o.number(p.late[1], 5)
	o.number(p.shown[0], 4)
	o.number(p.shown[1], 4)
	o.flags(p.head == 1, p.unheard, p.wrong != "")
	for _, t := range p.workers {
		o = o*turns + t.word()
	}
	return digest{o, p.database.word(), p.disk.word()}
}

// turns is how many there are.
const turns = word(kinds+1) * word(longest) * 5 * 8

func (t turn) word() (w word) {
	w.number(t.job+1, kinds+1)
	w.number(t.step, longest)
	w.number(t.state, 5)
	w.flags(t.head == 1, t.looked, t.ruled)
	return w
}

func (d *database) word() (w word) {
	w.number(d.live+1, 3)
	w.number(d.record, 4)
	w.flags(d.ruled, d.asks, d.approved, d.fresh, d.older, d.public, d.verdict, d.unsaved)
	for c := range 2 {
		w.flags(d.decisions[c][0], d.decisions[c][1], d.owed[c].paid, d.owed[c].doubt)
		w.flags(d.seen[c].holds, d.seen[c].asked, d.seen[c].back, d.seen[c].behind)
		w.number(d.owed[c].state, 4)
		w.number(d.intents[c].number(), 7)
	}
	for j := range d.jobs {
		row := &d.jobs[j]
		w.flags(row.ready, row.held, row.over, row.tried)
	}
	return w
}

// number is the state of an intent; that of a call may be in doubt, or a task.
func (i intentRow) number() int8 {
	switch {
	case i.doubt:
		return refused + 1
	case i.task:
		return refused + 2
	}
	return i.state
}

// settle puts a picture into the form that stands for all that differ from it only by who is who, the workers doing the same work
// and the approvers too, or in what is of no consequence.
func (p *picture) settle() {
	if p.left.slow == 0 && !p.public && p.wrong == "" {
		p.publish(sound)
	}
	if p.left.outages == 0 {
		p.durable() // nobody can tell
	}
	for _, d := range []*database{&p.database, &p.disk} {
		if !d.approved || p.merged != nobody { // what is published counts from the next verdict on
			d.public, d.verdict, d.unsaved = true, true, false
		}
		if p.merged != nobody {
			d.owed, d.jobs[put0], d.jobs[put1], d.jobs[look] = [2]owedRow{}, ledgerRow{}, ledgerRow{}, ledgerRow{}
		}
		for i := range d.seen {
			if p.workers[i].job == nobody {
				d.seen[i] = relation{}
			}
		}
	}
	worker := func(i int) (w word) {
		w = p.workers[i].word()
		for _, r := range []relation{p.seen[i], p.disk.seen[i]} {
			w.flags(r.holds, r.asked, r.back, r.behind)
		}
		return w
	}
	if w := &p.workers; worker(1) < worker(0) {
		w[0], w[1] = w[1], w[0]
		p.seen[0], p.seen[1] = p.seen[1], p.seen[0]
		p.disk.seen[0], p.disk.seen[1] = p.disk.seen[1], p.disk.seen[0]
	}
	approver := func(a int) (w word) {
		w.flags(p.decisions[a][0], p.decisions[a][1], p.disk.decisions[a][0], p.disk.decisions[a][1])
		return w
	}
	if approver(1) < approver(0) {
		for _, d := range []*database{&p.database, &p.disk} {
			d.decisions[0], d.decisions[1] = d.decisions[1], d.decisions[0]
		}
	}
}

// tallier says whether a commit is approved.
type tallier func(p *picture, commit int8) bool

// search explores everything that a flawed model can do, layer by layer, and gives the shortest story to a wrong state.
func search(f flaw, may chances) (story []string, states int) {
	tally := tallies()
	begin := first(f, may)
	begin.settle()
	came := map[digest]digest{begin.digest(): {}} // from where
	layer := []picture{begin}
	for len(layer) > 0 {
		var next []picture
		for i := range layer {
			p := &layer[i]
			wrong := p.wrong
			if wrong == "" {
				wrong = p.broken(tally)
			}
			if wrong != "" {
				return append(retell(f, tally, begin, came, p.digest()), wrong), len(came)
			}
			from, moved := p.digest(), false
			p.moves(f, tally, func(_ event, change func(q *picture)) {
				moved = true
				q := *p
				change(&q)
				q.settle()
				to := q.digest()
				if _, known := came[to]; known {
					return
				}
				came[to] = from
				next = append(next, q)
			})
			if !moved && !p.rests() {
				return append(retell(f, tally, begin, came, from), "nothing can happen any more, and something is due"), len(came)
			}
		}
		layer = next
	}
	return nil, len(came)
}

// retell finds the events on the way to a picture.
func retell(f flaw, tally tallier, begin picture, came map[digest]digest, to digest) (story []string) {
	var way []digest
	for at := to; at != begin.digest(); at = came[at] {
		way = append(way, at)
	}
	slices.Reverse(way)
	p := begin
	for _, step := range way {
		var next picture
		found := ""
		p.moves(f, tally, func(e event, change func(q *picture)) {
			q := p
			change(&q)
			q.settle()
			if found == "" && q.digest() == step {
				next, found = q, e.String()
			}
		})
		p = next
		story = append(story, found)
	}
	return story
}

// tallies asks approval.Tally, once for each set of decisions on a commit.
func tallies() tallier {
	rule := approval.Rule{
		Name: "Both", Branches: []string{"*"}, ExpiresAfterSeconds: 3600,
		Requirements: []approval.Requirement{{Name: "Both", Quorum: 2, Approvers: approval.Approvers{Accounts: []string{"bob", "carol"}}}},
	}
	now := time.Unix(1_800_000_000, 0)
	tally := func(stands [2]bool) bool {
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
		return approval.Tally(rule, facts).State == approval.Approved
	}
	var known [2][2]bool
	for i, bob := range []bool{false, true} {
		for j, carol := range []bool{false, true} {
			known[i][j] = tally([2]bool{bob, carol})
		}
	}
	return func(p *picture, commit int8) bool {
		i, j := 0, 0
		if p.decisions[0][commit] {
			i = 1
		}
		if p.decisions[1][commit] {
			j = 1
		}
		return known[i][j]
	}
}
