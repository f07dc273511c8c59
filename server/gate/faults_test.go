package gate_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/internal/fault"
	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/notify"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/witness"
)

// faults plays a row of the failure matrix in a world of its own. Each story is a pull request's whole road: opened, approved
// by bob, merged by the gate. prepare, where given, changes the world and gives what the end says besides.
func faults(t *testing.T, step fault.Step, on func(fault.Event) bool, skip int, prepare func(w *world) (more func() string)) {
	t.Helper()
	t.Run(string(step), func(t *testing.T) {
		w := newWorld(t)
		rule := w.rule(1, "bob")
		rule.AutoMerge = &approval.AutoMerge{Strategy: "merge_commit"}
		w.save(rule)
		more := func() string { return "" }
		if prepare != nil {
			more = prepare(w)
		}
		w.settle()
		fault.Run(t, step, func(t *testing.T, m fault.Mishap, armed bool) fault.Outcome {
			w.t = t
			defer func() { w.t = nil }()
			w.wire.Clear()
			if armed {
				w.wire.Set(fault.Trap{On: on, Skip: skip, Mishap: m, Meanwhile: w.meanwhile})
			}
			number := w.openOn("feature/" + uuid.NewString())
			w.road(number)
			fired := w.wire.Clear()
			w.must(w.wire.Land())
			w.statusEvent(number) // as Bitbucket tells of what landed
			w.road(number)
			return fault.Outcome{Fired: fired, End: w.end(number) + more()}
		})
		w.t = t
	})
}

func TestFaultsOfFacts(t *testing.T) {
	t.Parallel()
	faults(t, fault.FetchPullRequest, fault.Calls("GET", `/pullrequests/\d+$`), 0, nil)
	faults(t, fault.FetchHead, fault.Calls("GET", `/pullrequests/\d+/commits$`), 0, nil)
	faults(t, fault.FetchPeople, fault.Calls("GET", `/permissions/repositories/`), 0, nil)
	faults(t, fault.FetchChecks, fault.Calls("GET", `/branch-restrictions$`), 0, nil)
}

func TestFaultsOfCommits(t *testing.T) {
	t.Parallel()
	faults(t, fault.CommitRequest, fault.Commits("insert into signedapproval_approval_requests"), 0, nil)
	faults(t, fault.CommitVerdict, fault.Commits("insert into signedapproval_merge_intents"), 0, nil)
	faults(t, fault.CommitDecision, fault.Commits("insert into signedapproval_decisions"), 0, nil)
	faults(t, fault.CommitPaid, fault.Commits("paid_version = greatest"), 1, nil)
	faults(t, fault.CommitCalling, fault.Commits("update signedapproval_merge_intents"), 0, nil)
}

func TestFaultsOfWrites(t *testing.T) {
	t.Parallel()
	faults(t, fault.PutInProgress, fault.Calls("POST", `/statuses/build$`), 0, nil)
	faults(t, fault.PutSuccessful, fault.Calls("POST", `/statuses/build$`), 1, nil)
	faults(t, fault.Merge, fault.Calls("POST", `/merge$`), 0, nil)
}

func TestFaultsOfTheLog(t *testing.T) {
	t.Parallel()
	faults(t, fault.LogAppend, fault.Sends("insert into signedapproval_leaves"), 0, nil)
	faults(t, fault.Checkpoint, fault.Commits("insert into signedapproval_log_checkpoints"), 0, func(w *world) func() string {
		publisher, other := w.publishers()
		var busy atomic.Bool
		w.gate.Publish = func(ctx context.Context, size int64, cosignatures int) error {
			if !busy.CompareAndSwap(false, true) {
				return other.PublishCosigned(ctx, size, cosignatures) // on another server
			}
			defer busy.Store(false)
			return publisher.PublishCosigned(ctx, size, cosignatures)
		}
		return func() string {
			if err := publisher.Check(w.t.Context()); err != nil {
				return "; " + err.Error()
			}
			return "; sink and record agree"
		}
	})
}

func TestFaultsOfALetter(t *testing.T) {
	t.Parallel()
	faults(t, fault.Notification, fault.Others("letter"), 0, func(w *world) func() string {
		server := newMailServer(w.t)
		server.end = w.letter
		w.mailThrough(server)
		impatient, err := notify.New(notify.Config{Host: "127.0.0.1", Port: server.port, From: "SignedApproval <gate@approvals.example>", Timeout: time.Second})
		w.must(err)
		patient := w.gate.Mail
		w.before = func() {
			if w.gate.Mail = patient; w.wire.Awaits(fault.Slow) {
				w.gate.Mail = impatient
			}
		}
		letters := 0
		return func() string {
			before := letters
			letters = len(server.taken())
			return map[int]string{1: "; one letter", 2: "; two letters"}[letters-before]
		}
	})
}

// letter is what becomes of a letter at its end: whether it is taken, and what is answered, "" for nothing.
func (w *world) letter(hungUp func()) (answer string, taken bool) {
	trap, struck := w.wire.Strikes(fault.Event{Other: "letter"})
	if !struck {
		return "250 taken", true
	}
	switch trap.Mishap {
	case fault.Failed:
		return "451 try again later", false
	case fault.DiedBefore:
		w.wire.Kill()
		return "", false
	case fault.DiedAfter:
		w.wire.Kill()
	case fault.Slow:
		hungUp()
	case fault.Twice:
		return "250 taken", true // and the job is handed out again
	case fault.Happened:
	}
	return "", true
}

// openOn opens a pull request from a branch of its own and tells the gate, as its webhook would.
func (w *world) openOn(branch string) int64 {
	w.t.Helper()
	_, err := w.sim.Push(bitbucketsim.Push{Repository: rocket, Branch: branch, From: release, Person: "alice", Files: map[string]string{branch + ".go": branch}})
	w.must(err)
	opened, err := w.sim.OpenPullRequest(bitbucketsim.PullRequest{Repository: rocket, Author: "alice", Title: "Add the nozzle", Source: branch, Destination: release})
	w.must(err)
	w.event(int64(opened.ID))
	return int64(opened.ID)
}

// statusEvent tells the gate that somebody wrote under the key of a pull request, as the webhook would.
func (w *world) statusEvent(number int64) {
	w.t.Helper()
	key := w.view(number).PullRequest.StatusKey
	w.in(func(tx *store.Tx) error {
		return tx.Enqueue(w.t.Context(), store.AskStatusSeen(w.workspace, w.repository, key))
	})
}

// road does what is due, and lets bob approve, until the pull request is merged and nothing is due.
func (w *world) road(number int64) {
	w.t.Helper()
	for range 400 {
		rings := w.due()
		for _, ring := range rings {
			_ = w.do(ring) // it is tried again
			if w.wire.Fired() > 0 {
				w.check(false)
			}
		}
		if len(rings) > 0 {
			continue
		}
		v := w.view(number)
		switch {
		case v.Merge != nil && v.Merge.State == store.MergeMerged && v.PullRequest.State == "MERGED":
			w.check(true)
			return
		case v.Merge != nil && v.Merge.State == store.MergeRefused:
			w.t.Fatalf("the merge was refused: %s", v.Merge.Sentence)
		case v.Request != nil && len(v.Decisions) == 0:
			_, _ = w.decide(number, "bob", approval.Approve) // whom nobody answered tries again
			if w.wire.Dead() {
				w.wire.Revive()
			}
		default:
			w.soon()
			w.unanswered()
		}
	}
	v := w.view(number)
	w.t.Fatalf("no end of the road: %+v %+v", v.PullRequest, v.Merge)
}

// meanwhile lets somebody else do the same while this server is about to commit, and returns once they wait for it or are
// through. do and submit wait for their end.
func (w *world) meanwhile() {
	w.t.Helper()
	w.other = w.beside(w.again)
}

// beside lets somebody do something, and returns once they wait for a lock or are through, which closes ended.
func (w *world) beside(do func() error) (ended chan struct{}) {
	w.t.Helper()
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		_ = do() // whether it is refused or comes first: the state at the end tells
	}()
	deadline := time.Now().Add(2 * time.Minute)
	for waiting := false; !waiting; {
		select {
		case <-ended:
			return ended
		case <-time.After(5 * time.Millisecond):
		}
		err := w.super.QueryRow(w.t.Context(), `select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')`).Scan(&waiting)
		if err != nil || time.Now().After(deadline) {
			w.t.Errorf("nobody came meanwhile: %v", err)
			break
		}
	}
	return ended
}

// join waits for whoever came meanwhile.
func (w *world) join() {
	if w.other != nil {
		<-w.other
		w.other = nil
	}
}

// end says in what state a pull request is, at Bitbucket and in the log.
func (w *world) end(number int64) string {
	w.t.Helper()
	v := w.view(number)
	head := v.PullRequest.HeadCommit
	merge := "approved head merged once"
	if n := w.landings(func(parents []string) bool { return slices.Contains(parents, head) }); n != 1 {
		merge = fmt.Sprintf("approved head merged %d times", n)
	}
	state, _ := w.shown(number, head)
	events, _, err := w.gate.History(w.t.Context(), v, 0, 1000)
	w.must(err)
	var leaves []string
	for _, e := range events {
		leaves = append(leaves, e.Type)
	}
	slices.Sort(leaves)
	causes := map[string]string{
		"decision merged request-opened status-paid status-paid verdict verdict":             "one leaf per cause",
		"decision merged request-opened status-paid status-paid status-paid verdict verdict": "one leaf per cause, and one for the status that was written again",
	}[strings.Join(leaves, " ")]
	if causes == "" {
		causes = fmt.Sprintf("leaves %q", leaves)
	}
	return strings.Join([]string{merge, "status " + state, causes}, "; ")
}

// publishers publish the log of this world, as two servers do that share a sink.
func (w *world) publishers() (one, other *witness.Publisher) {
	w.t.Helper()
	private, _, err := witness.NewKey(rpID + "/log")
	w.must(err)
	keys, err := witness.ParseKeys(rpID+"/log", []byte(private))
	w.must(err)
	options := witness.Options{Log: logOf(w.store), Keys: keys, Sink: witness.NewDirectory(w.t.TempDir()), Logger: w.gate.Log}
	return witness.New(options), witness.New(options)
}

// logOf hands the log of a store to a publisher, as the server does.
func logOf(s *store.Store) witness.Log {
	found := func(c store.Checkpoint, err error) (*witness.Checkpoint, error) {
		if errors.Is(err, store.ErrNotFound) {
			return nil, nil
		}
		return &witness.Checkpoint{Head: witness.Head(c.TreeHead), Note: c.Note}, err
	}
	return witness.Log{
		Size: s.LogSize,
		Grow: func(ctx context.Context) (was, head witness.Head, err error) {
			before, after, err := s.GrowTree(ctx)
			return witness.Head(before), witness.Head(after), err
		},
		Root: func(ctx context.Context, size int64) (tlog.Hash, error) {
			return tlog.TreeHash(size, s.Tree(ctx))
		},
		Prove: func(ctx context.Context, size, old int64) (tlog.TreeProof, error) {
			return tlog.ProveTree(size, old, s.Tree(ctx))
		},
		Newest: func(ctx context.Context) (*witness.Checkpoint, error) { return found(s.NewestCheckpoint(ctx)) },
		Cosigned: func(ctx context.Context, witnesses []string, quorum int) (*witness.Checkpoint, error) {
			return found(s.CosignedCheckpoint(ctx, witnesses, quorum))
		},
		Put: func(ctx context.Context, head witness.Head, signed []byte, cosignatures []witness.Cosignature) error {
			lines := make([]store.Cosignature, 0, len(cosignatures))
			for _, c := range cosignatures {
				lines = append(lines, store.Cosignature(c))
			}
			return s.PutCheckpoint(ctx, store.TreeHead(head), signed, lines...)
		},
		Cosign: func(ctx context.Context, size int64, c witness.Cosignature) error {
			return s.PutCosignature(ctx, size, store.Cosignature(c))
		},
		Unpublished: s.Unpublished,
	}
}
