package gate_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/store"
)

// player has the gate do what the model tells, and compares the two.
type player struct {
	*world
	is      picture // the model
	tally   tallier
	number  int64
	commits [2]string
	rules   [2]approval.Rule
	// meanwhile is what happens at a place inside the job that is done, once it comes there.
	meanwhile map[string]func()
	told      []string
	// looks has the answers about the pull request that an evaluation got; its people are told only when both are there, since
	// they are read beside: what happens there happens after the look.
	looks      chan struct{}
	evaluating bool
	// upon is what happens only when Bitbucket is about to be asked to merge, and calling says that it is.
	upon    []string
	calling bool
	lost    bool // the call that is being made
}

// The places inside a job where something else can happen, by the step of the model that comes next.
var placesOf = map[int8]map[int8]string{
	evaluate: {1: "people"},
	put0:     {looking: "after publishing", putting: "before the status", paying: "after the status"},
	merge0:   {1: "people", 2: "after the checks", 3: "before the merge", 4: "after the merge"},
}

func placeOf(job, step int8) string {
	switch job {
	case put1:
		job = put0
	case merge1:
		job = merge0
	}
	return placesOf[job][step]
}

// reach lets happen what is to happen at a place.
func (p *player) reach(place string) {
	if do := p.meanwhile[place]; do != nil {
		delete(p.meanwhile, place)
		do()
	}
}

var (
	ofStatus = regexp.MustCompile(`^POST .*/statuses/build$`)
	ofMerge  = regexp.MustCompile(`^POST .*/merge$`)
	ofChecks = regexp.MustCompile(`^GET .*/branch-restrictions$`)
	ofLooks  = regexp.MustCompile(`^GET .*/pullrequests/\d+(/commits)?$`)
)

// RoundTrip performs an exchange of the gate's with Bitbucket.
func (p *player) RoundTrip(r *http.Request) (*http.Response, error) {
	call := r.Method + " " + r.URL.Path
	switch {
	case ofStatus.MatchString(call):
		p.reach("before the status")
	case ofMerge.MatchString(call):
		p.reach("before the merge")
	}
	if p.lost {
		p.lost = false
		return nil, errors.New("nobody knows what became of the call")
	}
	response, err := http.DefaultTransport.RoundTrip(r)
	switch {
	case ofStatus.MatchString(call):
		p.reach("after the status")
	case ofChecks.MatchString(call):
		p.reach("after the checks")
	case ofLooks.MatchString(call):
		select {
		case p.looks <- struct{}{}:
		default: // nobody waits for so many
		}
	case ofMerge.MatchString(call):
		p.landed()
		p.reach("after the merge")
	}
	return response, err
}

// landed waits until Bitbucket has merged what it was asked to, and tells the gate, as its webhook would.
func (p *player) landed() {
	deadline := time.Now().Add(time.Minute)
	for {
		remote, err := p.client.PullRequest(p.t.Context(), p.workspace, p.repository, p.number)
		p.must(err)
		if remote.State == bitbucket.Merged {
			p.event(p.number)
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatal("Bitbucket does not merge")
		}
	}
}

func newPlayer(t *testing.T, may chances) *player {
	w := newWorld(t)
	p := &player{world: w, is: first(sound, may), tally: tallies(), meanwhile: map[string]func(){}}
	api := bitbucket.New(bitbucket.Config{BaseURL: w.sim.URL(), Timeout: time.Minute, Transport: p})
	own := w.client
	played := api.As(w.token, "test", bitbucket.Foreground)
	w.client = own
	w.gate.Client = func(context.Context, string, bitbucket.Class) (*bitbucket.Client, error) { return played, nil }
	publish := w.gate.Publish
	w.gate.Publish = func(ctx context.Context, size int64, cosignatures int) error {
		err := publish(ctx, size, cosignatures)
		p.reach("after publishing")
		return err
	}
	people := w.gate.People
	w.gate.People = func(ctx context.Context, workspace, repository string) ([]store.RepositoryPerson, error) {
		for range 2 {
			if !p.evaluating {
				break
			}
			select {
			case <-p.looks:
			case <-time.After(time.Minute):
				return nil, errors.New("nobody looked at the pull request")
			}
		}
		p.reach("people")
		return people(ctx, workspace, repository)
	}
	for i, name := range []string{"Both", "Both, as it is asked later"} {
		p.rules[i] = w.rule(2, "bob", "carol")
		p.rules[i].Name, p.rules[i].AutoMerge = name, &approval.AutoMerge{Strategy: "merge_commit"}
	}
	w.save(p.rules[0])
	w.drain()
	p.number = w.open()
	remote, err := w.client.PullRequestHead(t.Context(), w.workspace, w.repository, p.number)
	w.must(err)
	p.commits[0] = remote
	return p
}

// others are what people can do now, how the gate hears of it, and what becomes of a call that was lost. What a page would not let
// people do is left out.
func (p *player) others() (list []event, changes []func(*picture)) {
	p.is.moves(sound, p.tally, func(e event, change func(*picture)) {
		text := e.String()
		if p.calling != slices.ContainsFunc(p.upon, func(what string) bool { return strings.Contains(text, what) }) {
			return
		}
		var possible bool
		switch text {
		case pushed, heard, ruleChanged, callLands, callLost:
			possible = true
		case workerDies:
			possible = p.calling
		default:
			decides := strings.HasPrefix(text, "approver")
			possible = decides && p.is.merged == nobody && p.is.live == p.is.head || strings.HasPrefix(text, "no call to merge")
		}
		if possible {
			list, changes = append(list, e), append(changes, change)
		}
	})
	return list, changes
}

// What the model tells of.
const (
	pushed      = "commit 1 is pushed"
	heard       = "an old webhook comes again"
	ruleChanged = "the rule is changed"
	workerDies  = "worker 0 dies"
	callLands   = "a call whose caller died lands"
	callLost    = "a call whose caller died is lost"
)

// happen lets one of them happen, here and there.
func (p *player) happen(random *rand.Rand) {
	list, changes := p.others()
	if len(list) == 0 {
		return
	}
	i := random.IntN(len(list))
	e := list[i]
	p.told = append(p.told, e.String())
	who := []string{"bob", "carol"}[max(0, e.args[0])]
	switch text := e.String(); {
	case strings.Contains(text, "approves"):
		p.decides(p.number, who, approval.Approve)
	case strings.Contains(text, "withdraws"):
		p.decides(p.number, who, approval.Withdraw)
	case text == pushed:
		p.commits[1] = p.push("src/next.go", "package next\n")
		p.event(p.number)
	case text == ruleChanged:
		p.save(p.rules[1])
		p.event(p.number)
	case text == workerDies:
		p.lost = true
	case text == callLost:
	case text == callLands:
		if p.is.merged == nobody {
			p.land(p.number)
		}
		p.event(p.number)
	case text == heard:
		p.event(p.number)
	default: // no call can land any more
		p.sql(`update signedapproval_merge_intents set updated_at = updated_at - interval '11 minutes' where head_commit = '` + p.commits[e.args[0]] + `'`)
	}
	changes[i](&p.is)
}

// step lets the model's first worker go on, and publishes what it waits for; it answers false where it is done.
func (p *player) step() bool {
	if p.is.workers[0].job == nobody {
		return false
	}
	var next, publish func(*picture)
	p.is.moves(sound, p.tally, func(e event, change func(*picture)) {
		switch text := e.String(); {
		case text == "the log is published":
			publish = change
		case next == nil && strings.HasPrefix(text, "worker 0 ") && text != workerDies:
			next = change
			p.told = append(p.told, text)
		}
	})
	if next == nil {
		next = publish
	}
	next(&p.is)
	return p.is.workers[0].job != nobody
}

// turn has a job done, by both, and lets something happen inside it.
func (p *player) turn(random *rand.Rand, job int8) {
	p.told = append(p.told, fmt.Sprintf("job %d is done", job))
	claimed := false
	p.is.moves(sound, p.tally, func(e event, change func(*picture)) {
		if e.String() == fmt.Sprintf("worker 0 claims job %d", job) && !claimed {
			claimed = true
			change(&p.is)
		}
	})
	if !claimed {
		p.t.Fatalf("the model cannot claim job %d", job)
	}
	// The model runs up to where the gate is, whenever something happens inside.
	inside := int8(1 + random.IntN(4))
	merges := job >= merge0 && len(p.upon) > 0
	if merges {
		inside = 3
	}
	if place := placeOf(job, inside); place != "" && (merges || random.IntN(3) > 0) {
		p.meanwhile[place] = func() {
			for p.is.workers[0].step < inside && p.step() {
			}
			if p.is.workers[0].step == inside {
				p.calling = merges
				p.happen(random)
				p.calling = false
			}
		}
	}
	kind, key := p.rowOf(job)
	p.sql(`update signedapproval_jobs set run_at = now() where kind = $1 and key = $2 and state = 'READY'`, kind, key)
	for _, ring := range p.due() {
		if ring.Kind == kind && ring.Key == key {
			p.looks = make(chan struct{}, 2)
			p.evaluating = job == evaluate
			_ = p.do(ring) // what failed is due again, and the model says whether that is right
		}
	}
	p.evaluating = false
	clear(p.meanwhile)
	for p.step() {
	}
	// Bitbucket's task takes a second turn, which the model has as one.
	p.sql(`update signedapproval_jobs set run_at = now() where kind = 'merge' and state = 'READY'`)
	for _, ring := range p.due() {
		if ring.Kind == store.KindMerge && strings.HasPrefix(kind, store.KindMerge) && p.is.merged != nobody && !p.is.jobs[job].ready && ring.Key == key {
			_ = p.do(ring)
		}
	}
}

func (p *player) rowOf(job int8) (kind, key string) {
	id := ""
	if job != evaluate {
		id = p.view(p.number).PullRequest.ID
	}
	switch job {
	case put0, put1:
		return store.KindStatus, id + ":" + p.commits[job-put0]
	case merge0, merge1:
		return store.KindMerge, id + ":" + p.commits[job-merge0]
	}
	return store.KindEvaluate, fmt.Sprintf("%s/%s:%d", p.workspace, p.repository, p.number)
}

// sayAnew has the gate write what only reads differently: the model has no sentences, so that it does not owe them.
func (p *player) sayAnew() {
	if p.is.live == nobody || p.is.merged != nobody {
		return
	}
	for c := range int8(2) {
		if !p.is.owed[c].paid {
			continue
		}
		kind, key := p.rowOf(put0 + c)
		for _, ring := range p.due() {
			if ring.Kind == kind && ring.Key == key {
				_ = p.do(ring) // differs tells
				p.is.leaf()
			}
		}
	}
}

// differs says in what the gate is not where the model is; "" for nothing.
func (p *player) differs() string {
	var gate, model []string
	both := func(what, here, there string) {
		gate, model = append(gate, what+" "+here), append(model, what+" "+there)
	}
	states := map[int8]string{none: "", progress: "INPROGRESS", green: "SUCCESSFUL", stopped: "STOPPED"}
	intents := map[int8]string{none: "", planned: store.MergePlanned, calling: store.MergeCalling, landed: store.MergeMerged, refused: store.MergeRefused}
	one := func(statement string, args ...any) (found string) {
		p.must(p.super.QueryRow(p.t.Context(), `select coalesce((`+statement+`), '')`, args...).Scan(&found))
		return found
	}
	for c := range int8(2) {
		if p.commits[c] == "" {
			continue
		}
		intent := one(`select state from signedapproval_merge_intents where head_commit = $1`, p.commits[c])
		both(fmt.Sprint("intent ", c), intent, intents[p.is.intents[c].state])
		if p.is.merged != nobody {
			continue
		}
		both(fmt.Sprint("owed ", c), one(`select state || case when paid_version < owed_version then '' else ', paid' end
			from signedapproval_bitbucket_commit_statuses where commit = $1`, p.commits[c]),
			states[p.is.owed[c].state]+map[bool]string{true: ", paid"}[p.is.owed[c].paid])
		shown := ""
		if p.is.live != nobody {
			shown, _ = p.shown(p.number, p.commits[c])
		}
		both(fmt.Sprint("shown ", c), shown, states[p.is.shown[c]])
	}
	if p.is.live != nobody && p.is.merged == nobody {
		both("request", one(`select head_commit || ' ' || (state = 'APPROVED') || ' ' || (rule_digest = $1) from signedapproval_approval_requests where state in ('PENDING', 'APPROVED')`,
			string(p.rules[1].Digest())), fmt.Sprint(p.commits[p.is.live], " ", p.is.approved, " ", p.is.asks))
	}
	if p.is.live != nobody && p.is.merged == nobody && p.is.approved {
		both("published", one(`select (l.index < coalesce((select max(size) from signedapproval_log_checkpoints), 0))::text
			from signedapproval_pull_requests p join signedapproval_leaves l on l.chain_id = p.chain_id and l.sequence = p.chain_sequence`), fmt.Sprint(p.is.public))
	}
	both("record", one(`select kind from signedapproval_merges_seen`), map[int8]string{none: "", green: store.MergeSeenApproved, stopped: store.MergeSeenViolation}[p.is.record])
	if h, m := strings.Join(gate, "; "), strings.Join(model, "; "); h != m {
		return "the gate: " + h + "\nthe model: " + m
	}
	return ""
}

// TestTheModelIsTheGate plays random stories of the model on the gate: whole jobs in any order, with what people do between
// them and inside them. Whatever the model says must be so.
func TestTheModelIsTheGate(t *testing.T) {
	t.Parallel()
	var seen sync.Map // what the stories tell
	t.Cleanup(func() {
		for _, what := range []string{"on record 2", "on record 3", ruleChanged, workerDies, callLands, callLost, "no call to merge commit 0 can land any more"} {
			if _, told := seen.Load(what); !told {
				t.Errorf("no story tells: %s", what)
			}
		}
	})
	for seed := range uint64(16) {
		t.Run(fmt.Sprint("story ", seed+1), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 17))
			p := newPlayer(t, chances{crashes: 2, withdrawals: 2, pushes: 1, webhooks: 1, rules: 1})
			p.upon = [][]string{nil, {"withdraws", pushed}, {workerDies}, {"withdraws", pushed, workerDies}}[seed%4]
			for range 40 {
				var ready []int8
				for job := range kinds {
					if p.is.jobs[job].ready {
						ready = append(ready, job)
					}
				}
				switch list, _ := p.others(); {
				case len(ready) > 0 && (len(list) == 0 || random.IntN(3) > 0):
					p.turn(random, ready[random.IntN(len(ready))])
				case len(list) > 0:
					p.happen(random)
				default: // nothing can happen any more
					continue
				}
				p.sayAnew()
				if different := p.differs(); different != "" {
					t.Fatalf("%s\nafter:\n%s", different, strings.Join(p.told, "\n"))
				}
				if wrong := p.is.broken(p.tally); wrong != "" {
					t.Fatal(wrong)
				}
			}
			p.check(false)
			for _, what := range append(p.told, fmt.Sprint("on record ", p.is.record)) {
				seen.Store(what, true)
			}
			t.Logf("merged %d, on record %d, after:\n%s", p.is.merged, p.is.record, strings.Join(p.told, "\n"))
		})
	}
}
