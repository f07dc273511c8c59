package monitor_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/monitor"
)

// TestWhatCameLater is what a deploy gate asks besides: does the public log have anything about a pull request after its evidence?
func TestWhatCameLater(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.genesis()
	pump := o.chain(1000)
	pump.say(opened("pump"), verdict("pump", "APPROVED"))
	last := int64(len(o.entries) - 1)
	o.story(0, 60) // more than two bundles of entries
	withdrawn := int64(len(o.entries))
	pump.say(evidence.DecisionMade{Request: "pump", Statement: digest, Assertion: digest}, verdict("pump", "PENDING"))
	o.story(60, 65)
	o.publish()
	face := httptest.NewServer(o)
	defer face.Close()
	client, err := monitor.NewClient(face.URL, "", nil)
	o.must(err)
	public, err := client.Checkpoint(t.Context(), o.anchors())
	o.must(err)
	of := func(chain evidence.Digest) func(int64, evidence.Leaf) bool {
		return func(_ int64, leaf evidence.Leaf) bool { return leaf.Chain != nil && leaf.Chain.ID == chain }
	}
	for _, c := range []struct {
		chain evidence.Digest
		from  int64
		index int64 // -1 for nothing
		kind  evidence.LeafType
	}{
		{pump.id, last + 1, withdrawn, evidence.TypeDecision},
		{pump.id, withdrawn, withdrawn, evidence.TypeDecision},
		{pump.id, withdrawn + 1, withdrawn + 1, evidence.TypeVerdict},
		{pump.id, withdrawn + 2, -1, ""},
		{pump.id, public.N, -1, ""},
		{pump.id, public.N + 1, -1, ""},
		{o.chain(2000).id, 0, -1, ""},
	} {
		index, leaf, found, err := client.Later(t.Context(), public.Tree, c.from, of(c.chain))
		switch {
		case err != nil || found != (c.index >= 0):
			t.Errorf("from %d: %t, %v", c.from, found, err)
		case found && (index != c.index || leaf.Body.Type() != c.kind):
			t.Errorf("from %d: leaf %d, %s", c.from, index, leaf.Body.Type())
		}
	}
	// Entries that are not the tree's say nothing.
	o.mutex.Lock()
	o.lie = func(path string, body []byte) (int, []byte) {
		if strings.Contains(path, "tile/entries/") {
			body = bytes.ReplaceAll(body, []byte(pump.id), []byte(o.chain(2000).id))
		}
		return http.StatusOK, body
	}
	o.mutex.Unlock()
	if _, _, found, err := client.Later(t.Context(), public.Tree, last+1, of(pump.id)); err == nil {
		t.Errorf("entries that were changed are believed: %t", found)
	}
	o.mutex.Lock()
	o.lie = func(string, []byte) (int, []byte) { return http.StatusNotFound, nil }
	o.mutex.Unlock()
	if _, _, _, err := client.Later(t.Context(), public.Tree, last+1, of(pump.id)); err == nil {
		t.Error("a log out of reach has nothing later")
	}
}
