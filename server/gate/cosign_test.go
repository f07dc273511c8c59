package gate_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/internal/witnesstest"
	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/witness"
)

// cosigned is a world whose log has two witnesses, none of which the server waits for by itself.
type cosigned struct {
	*world
	keys      *witness.Keys
	addresses []string // with verifier keys, as the server's setting has them
	verifiers []string
	away      [2]atomic.Bool
}

func newCosigned(t *testing.T) *cosigned {
	t.Helper()
	c := &cosigned{world: newWorld(t)}
	private, verifier, err := witness.NewKey(rpID + "/log")
	c.must(err)
	c.keys, err = witness.ParseKeys(rpID+"/log", []byte(private))
	c.must(err)
	c.logKey = verifier
	for i, name := range []string{"witness.example/1", "witness.example/2"} {
		w, err := witnesstest.New(name)
		c.must(err)
		c.must(w.Follow(verifier))
		server := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, r *http.Request) {
			if c.away[i].Load() {
				http.Error(answer, "away", http.StatusServiceUnavailable)
				return
			}
			w.ServeHTTP(answer, r)
		}))
		t.Cleanup(server.Close)
		c.addresses, c.verifiers = append(c.addresses, w.Key()+" "+server.URL), append(c.verifiers, w.Key())
	}
	c.restart()
	return c
}

// restart gives the gate a publisher that knows nothing but the record.
func (c *cosigned) restart() {
	c.t.Helper()
	witnesses, err := witness.ParseWitnesses(c.addresses)
	c.must(err)
	found := func(k store.Checkpoint, err error) (*witness.Checkpoint, error) {
		if errors.Is(err, store.ErrNotFound) {
			return nil, nil
		}
		return &witness.Checkpoint{Head: witness.Head(k.TreeHead), Note: k.Note}, err
	}
	p := witness.New(witness.Options{Keys: c.keys, Witnesses: witnesses, Logger: slog.New(slog.DiscardHandler), Log: witness.Log{
		Size: c.store.LogSize,
		Grow: func(ctx context.Context) (was, head witness.Head, err error) {
			before, after, err := c.store.GrowTree(ctx)
			return witness.Head(before), witness.Head(after), err
		},
		Root: func(ctx context.Context, size int64) (tlog.Hash, error) {
			return tlog.TreeHash(size, c.store.Tree(ctx))
		},
		Prove: func(ctx context.Context, size, old int64) (tlog.TreeProof, error) {
			return tlog.ProveTree(size, old, c.store.Tree(ctx))
		},
		Newest: func(ctx context.Context) (*witness.Checkpoint, error) { return found(c.store.NewestCheckpoint(ctx)) },
		Cosigned: func(ctx context.Context, ids []string, quorum int) (*witness.Checkpoint, error) {
			return found(c.store.CosignedCheckpoint(ctx, ids, quorum))
		},
		Put: func(ctx context.Context, head witness.Head, signed []byte, cosignatures []witness.Cosignature) error {
			lines := make([]store.Cosignature, 0, len(cosignatures))
			for _, l := range cosignatures {
				lines = append(lines, store.Cosignature(l))
			}
			return c.store.PutCheckpoint(ctx, store.TreeHead(head), signed, lines...)
		},
		Cosign: func(ctx context.Context, size int64, l witness.Cosignature) error {
			return c.store.PutCosignature(ctx, size, store.Cosignature(l))
		},
		Unpublished: c.store.Unpublished,
	}})
	c.gate.Publish, c.gate.Cosigned = p.PublishCosigned, p.Cosigned
}

// again lets every job that waits run now.
func (c *cosigned) again() (waiting []string) {
	c.t.Helper()
	c.sql(`update signedapproval_jobs set run_at = now() where state = 'READY'`)
	return c.patiently()
}

// alarms are the sentences of the open alarms about witnesses.
func (c *cosigned) alarms() (sentences []string) {
	c.t.Helper()
	c.in(func(tx *store.Tx) error {
		open, err := tx.OpenAlarms(c.t.Context())
		for _, a := range open {
			if a.Kind == store.AlarmUncosigned {
				sentences = append(sentences, a.Sentence)
			}
		}
		return err
	})
	return sentences
}

func (c *cosigned) demanding(cosignatures int) approval.Rule {
	rule := c.rule(1, "bob")
	rule.Cosignatures = cosignatures
	return rule
}

// TestNothingTurnsGreenBeforeItIsCosigned: the witness that is away keeps the status in progress and the merge check at no,
// past a restart too, and says so everywhere; once it is back everything follows by itself, and the evidence has both.
func TestNothingTurnsGreenBeforeItIsCosigned(t *testing.T) {
	c := newCosigned(t)
	c.away[1].Store(true)
	c.save(c.demanding(2))
	number := c.open()
	c.settle()
	head := c.view(number).PullRequest.HeadCommit
	c.expect(number, head, "INPROGRESS", "0 of 1 approval; waiting for Bob")
	if open := c.alarms(); len(open) > 0 {
		t.Errorf("alarmed before anything waits: %q", open)
	}

	c.decides(number, "bob", approval.Approve)
	for _, when := range []string{"at first", "later", "after a restart"} {
		if waiting := c.again(); !slices.Equal(waiting, []string{store.KindStatus}) {
			t.Fatalf("%s: %q wait, want the status", when, waiting)
		}
		c.check(false)
		c.expect(number, head, "INPROGRESS", "approved by Bob; waits until 2 witnesses have cosigned the log")
		v := c.view(number)
		if v.Verdict.State != approval.Approved || v.Status.Paid() || !strings.Contains(v.Status.Problem, "waits until 2 witnesses") {
			t.Errorf("%s: %s, %+v", when, v.Verdict.State, v.Status)
		}
		if open := c.alarms(); len(open) != 1 || !strings.Contains(open[0], "waits until 2 witnesses") {
			t.Errorf("%s: alarms %q", when, open)
		}
		if a := c.mergeCheck(number); a.Success || a.Code != gate.CodeCheckUncosigned || !strings.Contains(a.Message, "waits until 2 witnesses have cosigned the log") {
			t.Errorf("%s: the merge check says %+v", when, a)
		}
		c.later()
		if _, err := c.gate.Bundle(t.Context(), c.people["alice"].Person, c.workspace, v.Request.ID); refusal.Code(err) != refusal.Busy {
			t.Errorf("%s: a bundle: %v", when, err)
		}
		if _, err := c.gate.Receipt(t.Context(), c.people["bob"].Person, c.workspace, v.Decisions[0].ID); refusal.Code(err) != refusal.Busy {
			t.Errorf("%s: a receipt: %v", when, err)
		}
		if when == "later" {
			c.restart()
		}
	}

	c.away[1].Store(false)
	if a := c.mergeCheck(number); !a.Success || a.Code != gate.CodeCheckApproved {
		t.Errorf("once both cosign: %+v", a)
	}
	if waiting := c.again(); len(waiting) > 0 {
		t.Errorf("%q wait", waiting)
	}
	c.expect(number, head, "SUCCESSFUL", "approved by Bob")
	if v := c.view(number); !v.Status.Paid() || v.Status.Problem != "" {
		t.Errorf("%+v", v.Status)
	}
	if open := c.alarms(); len(open) > 0 {
		t.Errorf("still alarmed: %q", open)
	}
	c.check(true)

	// What comes after is published without the one that is away, and the evidence of before is given still.
	bundle := c.bundle(number)
	anchors := c.anchors()
	anchors.Witnesses = &evidence.WitnessPolicy{Quorum: 1, Keys: c.verifiers}
	if r := evidence.Verify(bundle, anchors); r.ExitCode() != 0 || r.Witnesses != 2 {
		t.Errorf("exit %d with %d witnesses: %s", r.ExitCode(), r.Witnesses, r.Sentence())
	}
	c.away[0].Store(true)
	c.settle()
	c.must(c.gate.Publish(t.Context(), 0, 0))
	data, err := c.gate.Receipt(t.Context(), c.people["bob"].Person, c.workspace, c.view(number).Decisions[0].ID)
	c.must(err)
	anchors.Witnesses.Quorum = 2
	if _, err := evidence.VerifyReceipt(data, *anchors.Log, anchors.Witnesses); err != nil {
		t.Errorf("the receipt: %v", err)
	}
}

// TestNothingIsMergedBeforeItIsCosigned: whoever rings the merge, it waits for the witnesses; and so it does where the
// server has lost some since the rule was saved.
func TestNothingIsMergedBeforeItIsCosigned(t *testing.T) {
	c := newCosigned(t)
	rule := c.demanding(2)
	rule.AutoMerge = &approval.AutoMerge{Strategy: "merge_commit"}
	c.save(rule)
	number := c.open()
	c.settle()
	all := c.addresses
	c.addresses = all[:1]
	c.restart()
	c.decides(number, "bob", approval.Approve)
	if waiting := c.patiently(); !slices.Equal(waiting, []string{store.KindStatus}) {
		t.Errorf("%q wait, want the status", waiting)
	}
	head := c.view(number).PullRequest.HeadCommit
	c.in(func(tx *store.Tx) error {
		return tx.Enqueue(t.Context(), store.AskMerge(c.workspace, c.view(number).PullRequest.ID, head))
	})
	if waiting := c.patiently(); !slices.Equal(waiting, []string{store.KindMerge}) {
		t.Errorf("%q wait, want the merge", waiting)
	}
	if n := c.merges(); n != 0 {
		t.Errorf("%d merges were sent", n)
	}
	c.check(false)
	c.addresses = all
	c.restart()
	c.sql(`update signedapproval_jobs set run_at = now() where state = 'READY'`)
	c.untilMerged(number)
	c.expect(number, head, "SUCCESSFUL", "approved by Bob")
	c.check(true)
	c.sql(`delete from signedapproval_log_cosignatures`)
	if err := c.broken(true); err == nil || !strings.Contains(err.Error(), "no published checkpoint covers its verdict with the cosignatures") {
		t.Errorf("without its cosignatures the checker says %v", err)
	}
}

// TestACheckpointThatOneCosignedIsNotThatOfTwo: that a checkpoint covers a verdict says nothing to a rule that demands more.
func TestACheckpointThatOneCosignedIsNotThatOfTwo(t *testing.T) {
	c := newCosigned(t)
	c.save(c.demanding(2))
	number := c.open()
	c.settle()
	c.decides(number, "bob", approval.Approve)
	c.settle()
	if a := c.mergeCheck(number); !a.Success {
		t.Fatalf("%+v", a)
	}
	c.later()
	// The leaf of that answer is published, and one has cosigned it.
	c.away[1].Store(true)
	size, err := c.store.LogSize(t.Context())
	c.must(err)
	c.must(c.gate.Publish(t.Context(), size, 1))
	if a := c.mergeCheck(number); a.Success || a.Code != gate.CodeCheckUncosigned {
		t.Errorf("under a checkpoint that one cosigned: %+v", a)
	}
	c.away[1].Store(false)
	if a := c.mergeCheck(number); !a.Success {
		t.Errorf("once two did: %+v", a)
	}
}

// TestARuleThatDemandsNobodyAsksNobody: its road makes no call that it did not make without witnesses.
func TestARuleThatDemandsNobodyAsksNobody(t *testing.T) {
	w := newWorld(t)
	works, published := w.gate.Publish, 0
	w.gate.Publish = func(ctx context.Context, size int64, cosignatures int) error {
		if published++; cosignatures != 0 {
			t.Errorf("%d cosignatures are asked for", cosignatures)
		}
		return works(ctx, size, cosignatures)
	}
	w.gate.Cosigned = func(context.Context, int64, int) (*witness.Checkpoint, error) {
		t.Error("cosignatures are looked up")
		return nil, witness.ErrUncosigned
	}
	number := approved(w)
	if published != 1 {
		t.Errorf("published %d times for a status, want once", published)
	}
	if a := w.mergeCheck(number); !a.Success || published > 2 {
		t.Errorf("%+v, published %d times", a, published)
	}
	w.later()
	w.must(works(t.Context(), 0, 0))
	before := published
	if a := w.mergeCheck(number); !a.Success || published != before {
		t.Errorf("%+v, published %d times for what is published", a, published-before)
	}
	w.bundle(number)
	v := w.view(number)
	if _, err := w.gate.Receipt(t.Context(), w.people["bob"].Person, w.workspace, v.Decisions[0].ID); err != nil {
		t.Error(err)
	}
}

// TestTheAlarmEndsWithItsOwnReason lets one pull request wait for a witness that is away, and another one turn green by a
// rule that asks for none: the alarm of the first stays. It ends once its status does not wait any more, whatever comes
// instead of the witness.
func TestTheAlarmEndsWithItsOwnReason(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(c *cosigned, number int64){
		"the rule asks for none": func(c *cosigned, _ int64) { c.save(c.undemanding(), c.rule(1, "bob")) },
		"declined":               func(c *cosigned, number int64) { c.post(number, "decline", nil) },
		"merged around it":       func(c *cosigned, number int64) { c.land(number) },
		"a newer commit":         func(c *cosigned, _ int64) { c.push("src/nozzle.go", "package nozzle\n") },
		"taken back":             func(c *cosigned, number int64) { c.decides(number, "bob", approval.Withdraw) },
		"no longer gated":        func(c *cosigned, _ int64) { c.sql(`delete from signedapproval_bitbucket_repo_configs`) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCosigned(t)
			c.away[1].Store(true)
			c.save(c.undemanding(), c.demanding(2))
			number := c.open()
			c.settle()
			c.decides(number, "bob", approval.Approve)
			c.again()
			_, err := c.sim.Push(bitbucketsim.Push{Repository: rocket, Branch: "feature/other", From: "main", Person: "alice", Files: map[string]string{"other.txt": "other"}})
			c.must(err)
			other, err := c.sim.OpenPullRequest(bitbucketsim.PullRequest{Repository: rocket, Author: "alice", Title: "Another", Source: "feature/other", Destination: "main"})
			c.must(err)
			c.event(int64(other.ID))
			c.again()
			c.decides(int64(other.ID), "bob", approval.Approve)
			c.again()
			if v := c.view(int64(other.ID)); v.Status == nil || v.Status.State != "SUCCESSFUL" || !v.Status.Paid() {
				t.Fatalf("the other one: %+v", v.Status)
			}
			if open := c.alarms(); len(open) != 1 || !strings.Contains(open[0], fmt.Sprintf("pull request #%d waits until 2 witnesses", number)) {
				t.Fatalf("alarms %q", open)
			}
			end(c, number)
			c.event(number)
			c.again()
			c.again()
			if open := c.alarms(); len(open) > 0 {
				t.Errorf("still alarmed: %q", open)
			}
		})
	}
}

// undemanding is a rule of another branch that asks for no witness.
func (c *cosigned) undemanding() approval.Rule {
	rule := c.rule(1, "bob")
	rule.Name, rule.Branches = "Trunk", []string{"main"}
	return rule
}
