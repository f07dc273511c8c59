package monitor_test

import (
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/monitor"
)

func (a *auditor) compare(o *operator, b *auditor) (monitor.Comparison, error) {
	a.t.Helper()
	var states []*monitor.State
	for _, folder := range []string{a.folder, b.folder} {
		state, err := monitor.OpenState(folder, true)
		o.must(err)
		defer state.Close()
		states = append(states, state)
	}
	return monitor.Compare(states[0], states[1], o.anchors())
}

// TestTwoAuditorsAreShownDifferentLogs has a server that is consistent to each of two auditors, who find nothing
// alone, and compare what they have.
func TestTwoAuditorsAreShownDifferentLogs(t *testing.T) {
	t.Parallel()
	o, one, two := newOperator(t), newAuditor(t), newAuditor(t)
	o.genesis()
	o.story(0, 100)
	o.publish()
	one.quiet(o)
	two.quiet(o)
	if c, err := one.compare(o, two); err != nil || !c.Same {
		t.Fatalf("one log: %+v, %v", c, err)
	}
	fork := int64(len(o.entries))
	other := o.twin()
	o.story(100, 130)
	other.now = other.now.Add(time.Millisecond)
	other.story(100, 110)
	o.publish()
	other.publish()
	one.quiet(o)
	two.quiet(other)
	for _, pair := range [][2]*auditor{{one, two}, {two, one}} {
		c, err := pair[0].compare(o, pair[1])
		if err != nil || c.Same || c.FirstOther == nil || *c.FirstOther != fork || c.Notes[0] == c.Notes[1] {
			t.Errorf("two logs: %+v, %v", c, err)
		}
	}

	// The same with the other's note alone.
	one.change = nil
	found, err := one.gossip(o, other.note)
	if err != nil || !slices.Equal(codes(found), []monitor.Code{monitor.Fork}) {
		t.Fatalf("gossip: %v, %v", found, err)
	}
	if kept, shown := proved(t, o, found[0]); kept.N != int64(len(o.entries)) || shown.N != int64(len(other.entries)) {
		t.Errorf("the proof is of %d and %d", kept.N, shown.N)
	}
	if found, err := two.gossip(other, o.note); err != nil || !slices.Equal(codes(found), []monitor.Code{monitor.Hidden}) {
		t.Errorf("the other's longer log: %v, %v", found, err)
	}
	if found, err := one.gossip(o, []byte(strings.Replace(string(other.note), "approvals", "approvalz", 1))); err == nil || len(found) > 0 {
		t.Errorf("a note that nobody signed: %v, %v", found, err)
	}
}

// gossip makes a pass and compares with a note of somebody else.
func (a *auditor) gossip(o *operator, signed []byte) (found []monitor.Finding, err error) {
	a.t.Helper()
	state, err := monitor.OpenState(a.folder, false)
	o.must(err)
	defer state.Close()
	m, err := monitor.New(monitor.Options{
		State: state, Anchors: o.anchors(), Tell: func(f monitor.Finding) error { found = append(found, f); return nil },
	})
	o.must(err)
	if err := m.Gossip(signed); err != nil {
		return found, err
	}
	return found, m.Told()
}

func TestAShorterLogIsTheSame(t *testing.T) {
	t.Parallel()
	o, one, two := newOperator(t), newAuditor(t), newAuditor(t)
	o.genesis()
	o.story(0, 29)
	o.publish()
	one.quiet(o)
	short := o.note
	o.story(29, 90)
	o.publish()
	two.quiet(o)
	if c, err := one.compare(o, two); err != nil || !c.Same || c.Sizes[0] >= c.Sizes[1] {
		t.Errorf("%+v, %v", c, err)
	}
	if found, err := two.gossip(o, short); err != nil || len(found) > 0 {
		t.Errorf("gossip of an older checkpoint: %v, %v", found, err)
	}
	stranger := newOperator(t)
	if c, err := one.compare(stranger, two); err == nil {
		t.Errorf("checkpoints by another key were compared: %+v", c)
	}
}

// TestABundlesCheckpointIsInThePublicLog is what a deploy gate asks: does the public log begin with the bundle's?
func TestABundlesCheckpointIsInThePublicLog(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.genesis()
	o.story(0, 40)
	o.publish()
	old, err := monitor.Open(o.note, o.anchors())
	o.must(err)
	other := o.twin()
	o.story(40, 90)
	o.publish()
	face := httptest.NewServer(o)
	defer face.Close()
	client, err := monitor.NewClient(face.URL, "", nil)
	o.must(err)
	public, err := client.Checkpoint(t.Context(), o.anchors())
	o.must(err)
	for _, tree := range []tlog.Tree{old.Tree, public.Tree, {}} {
		if err := client.Contains(t.Context(), public.Tree, tree); err != nil {
			t.Errorf("the log's own tree of %d leaves: %v", tree.N, err)
		}
	}
	other.story(60, 65)
	other.publish()
	elsewhere, err := monitor.Open(other.note, o.anchors())
	o.must(err)
	for name, tree := range map[string]tlog.Tree{
		"another log": elsewhere.Tree, "another log of this size": {N: public.N, Hash: old.Hash}, "more than is public": {N: public.N + 1, Hash: public.Hash},
	} {
		if err := client.Contains(t.Context(), public.Tree, tree); err == nil {
			t.Errorf("%s is in the public log", name)
		}
	}
}
