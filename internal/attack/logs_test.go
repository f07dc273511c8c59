package attack_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/witness"
)

func onLogs() []attack {
	return []attack{
		{
			wants: "roll the log back together with its record of checkpoints, and go on with another history",
			caught: []string{
				"witness refuses: 422", "witness refuses: 422", "sink: the log is behind what was published", "sink: the log is not the one that was published", "monitor: fork",
			},
			try: func(t *testing.T) (got []string) {
				c := stage(t)
				c.open("new")
				c.decide(c.bob, evidence.Approve)
				before := c.twin() // the dump of the database
				c.decide(c.carol, evidence.Reject)
				watcher := newAuditor(c.operator)
				sink := filepath.Join(t.TempDir(), "sink")
				must(t, os.Mkdir(sink, 0o700))
				db := &database{entries: c.make().entries}
				if alarms := watcher.pass(c.operator, c.publish()); len(alarms) > 0 {
					t.Fatalf("the control: %v", alarms)
				}
				must(t, db.start(t, c.operator, sink)) // publishes, and keeps it
				must(t, db.start(t, c.operator, sink))

				// Put back: the rows of then, and the checkpoints on record with them.
				*db = database{entries: before.make().entries}
				behind := db.start(t, c.operator, sink)
				before.decide(c.dave, evidence.Approve)
				before.landed("landed", "approved")
				db.entries = before.make().entries
				_, statuses := before.checkpoint(db.entries)
				for _, status := range statuses {
					got = append(got, fmt.Sprintf("witness refuses: %d", status))
				}
				got = append(got, sinkSays(behind), sinkSays(db.start(t, c.operator, sink)))
				return append(got, watcher.pass(before, before.publish())...)
			},
		},
		{
			wants:  "roll the log back to when a verdict stood, and turn green what its own record of checkpoints covers",
			caught: []string{"sink: the log is behind what was published"},
			try: func(t *testing.T) []string {
				c := stage(t)
				c.open("new")
				c.decide(c.bob, evidence.Approve)
				c.decide(c.dave, evidence.Approve)
				sink := filepath.Join(t.TempDir(), "sink")
				must(t, os.Mkdir(sink, 0o700))
				db := &database{entries: c.make().entries}
				must(t, db.start(t, c.operator, sink))
				must(t, db.start(t, c.operator, sink)) // the control: a server that starts again
				dump := *db
				c.decide(c.carol, evidence.Reject)
				db.entries = c.make().entries
				must(t, db.start(t, c.operator, sink))
				return []string{sinkSays(dump.start(t, c.operator, sink))}
			},
		},
		{
			wants: "roll the log back, and show a monitor and a witness what was there then", caught: []string{"witness refuses: 409", "witness refuses: 409", "monitor: rollback"},
			try: func(t *testing.T) (got []string) {
				c := stage(t)
				c.open("new")
				before := c.twin()
				c.decide(c.bob, evidence.Approve)
				watcher := newAuditor(c.operator)
				if alarms := watcher.pass(c.operator, c.publish()); len(alarms) > 0 {
					t.Fatalf("the control: %v", alarms)
				}
				_, statuses := before.checkpoint(before.make().entries)
				for _, status := range statuses {
					got = append(got, fmt.Sprintf("witness refuses: %d", status))
				}
				return append(got, watcher.pass(before, before.publish())...)
			},
		},
		{
			wants: "show two auditors different logs, each signed", admits: "show different logs to different people",
			caught: []string{"exit 0, UNWITNESSED", "exit 0", "step 14 witnesses: witness", "monitor compare: two logs", "monitor: fork"},
			try: func(t *testing.T) (got []string) {
				c := rejected(t, true)
				one, other := newAuditor(c.operator), newAuditor(c.operator)
				if alarms := one.pass(c.operator, c.publish()); len(alarms) > 0 {
					t.Fatalf("the control: %v", alarms)
				}
				if alarms := other.pass(c.operator, c.publish()); len(alarms) > 0 || compare(one, other) != "monitor compare: same" {
					t.Fatalf("the control: %v, %s", alarms, compare(one, other))
				}
				second := newAuditor(c.operator) // has seen nothing yet
				forged := c.twin()
				unreject(forged)
				forged.landed("landed", "approved")
				shown := forged.publish()
				if alarms := second.pass(forged, shown); len(alarms) > 0 {
					t.Fatalf("by itself nobody sees it: %v", alarms)
				}
				bundle := forged.bundle()
				got = append(got, verify(bundle, unwitnessed(c.pinned)), verify(c.bundle(), c.pinned), verify(bundle, c.pinned), compare(one, second))
				return append(got, second.gossip(forged, shown, c.publish().note)...)
			},
		},
		{
			wants: "show a signer one log and the verifier another", caught: []string{"step 13 log: log"},
			try: func(t *testing.T) []string {
				c := stage(t)
				c.say(evidence.EnforcementSeen{Repository: evidence.RepositoryID(c.salt, c.repository), Branches: evidence.BranchID(c.salt, c.repository, branch), State: "OPEN"}, false)
				c.open("new")
				c.decide(c.bob, evidence.Approve) // signs the head of the log that he is shown
				c.decide(c.dave, evidence.Approve)
				c.control(c.operator)
				forged := c.twin()
				for i, e := range forged.events {
					if seen, is := e.body.(evidence.EnforcementSeen); is {
						seen.State = "ENFORCED"
						forged.events[i].body = seen
					}
				}
				return []string{verify(forged.bundle(), unwitnessed(c.pinned))}
			},
		},
		{
			wants: "count the cosignatures of witnesses of its own", caught: []string{"step 14 witnesses: witness"},
			try: func(t *testing.T) []string {
				c := played(t)
				c.seen = newWitnesses(t, c.keys.Verifiers()) // of the same names
				return []string{verify(c.bundle(), c.pinned)}
			},
		},
		{
			wants: "serve a monitor leaves that are not those of the tree that was signed", caught: []string{"monitor: entries_wrong"},
			try: func(t *testing.T) []string {
				c := played(t)
				watcher := newAuditor(c.operator)
				shown := c.publish()
				forged := c.twin()
				backdate(forged, 1)
				shown.entries = forged.make().entries
				return watcher.pass(c.operator, shown)
			},
		},
	}
}

// gossip hands a monitor a checkpoint that somebody else was shown.
func (a *auditor) gossip(o *operator, shown http.Handler, note string) []string {
	a.t.Helper()
	a.heard = []string{note}
	defer func() { a.heard = nil }()
	return a.pass(o, shown)
}

// database is the log as a server has it: its leaves, and its own record of checkpoints, both of which the operator can
// put back.
type database struct {
	entries [][]byte
	record  *witness.Checkpoint
}

// publisher is that of a server which has just started.
func (d *database) publisher(t testing.TB, o *operator, folder string) *witness.Publisher {
	t.Helper()
	sink, err := witness.OpenSink(folder)
	must(t, err)
	root := func(_ context.Context, size int64) (tlog.Hash, error) {
		return tlog.TreeHash(size, newTree(t, d.entries))
	}
	size := func(context.Context) (int64, error) { return int64(len(d.entries)), nil }
	return witness.New(witness.Options{
		Keys: o.keys, Sink: sink, Logger: slog.New(slog.DiscardHandler),
		Log: witness.Log{
			Size: size, Root: root,
			Grow: func(ctx context.Context) (was, head witness.Head, err error) {
				hash, err := root(ctx, int64(len(d.entries)))
				head = witness.Head{Size: int64(len(d.entries)), Root: hash}
				return head, head, err
			},
			Prove: func(_ context.Context, size, old int64) (tlog.TreeProof, error) {
				return tlog.ProveTree(size, old, newTree(t, d.entries))
			},
			Newest:   func(context.Context) (*witness.Checkpoint, error) { return d.record, nil },
			Cosigned: func(context.Context, []string, int) (*witness.Checkpoint, error) { return d.record, nil },
			Put: func(_ context.Context, head witness.Head, signed []byte, _ []witness.Cosignature) error {
				d.record = &witness.Checkpoint{Head: head, Note: slices.Clone(signed)}
				return nil
			},
			Cosign:      func(context.Context, int64, witness.Cosignature) error { return nil },
			Unpublished: size,
		},
	})
}

// start starts a server and has it publish everything, which is what everything green waits for.
func (d *database) start(t testing.TB, o *operator, folder string) error {
	t.Helper()
	return d.publisher(t, o, folder).Publish(t.Context(), int64(len(d.entries)))
}

// sinkSays is why nothing is published; the error itself where it is another one.
func sinkSays(err error) string {
	for _, known := range []error{witness.ErrBehind, witness.ErrFork} {
		if errors.Is(err, known) {
			return "sink: " + known.Error()
		}
	}
	return fmt.Sprint("sink: ", err)
}
