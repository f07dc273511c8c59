package app

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// grown is a bundle whose roster got as many keys more.
func grown(t testing.TB, raw []byte, keys int) []byte {
	t.Helper()
	bundle, err := evidence.ParseBundle(raw)
	if err != nil {
		t.Fatal(err)
	}
	for i := range keys {
		last := bundle.Roster[len(bundle.Roster)-1]
		change, err := evidence.ParseRosterChange(last)
		if err != nil {
			t.Fatal(err)
		}
		change.Previous, change.Event, change.By, change.Signer, change.IssuedAt = approval.DigestOf(last), evidence.KeyAdded, evidence.ByLogIn, "", nil
		change.Version++
		change.Key.CredentialID = fmt.Appendf(nil, "credential %04d", i)
		document, err := change.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		bundle.Roster = append(bundle.Roster, document)
	}
	if raw, err = bundle.Encode(); err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestBundlesShareTheirRoster has two bundles of one roster, and one of a newer one.
func TestBundlesShareTheirRoster(t *testing.T) {
	t.Parallel()
	raw, _ := approvedVector(t)
	var known rosters
	var read []history
	for _, bundle := range [][]byte{raw, raw, grown(t, raw, 1)} {
		h, err := historyOf(bundle, &known)
		if err != nil {
			t.Fatal(err)
		}
		read = append(read, h)
	}
	before, now := read[0].roster, read[2].roster
	if read[1].roster != before {
		t.Error("the same roster is held twice")
	}
	if now == before || len(now.versions) != len(before.versions)+1 || len(now.counts) != len(before.counts)+1 || now.newest == before.newest {
		t.Errorf("the newer one has %d versions and %d keys, the other one %d and %d", len(now.versions), len(now.counts), len(before.versions), len(before.counts))
	}
	if now.versions[before.newest] != int64(len(before.versions)) || now.versions[now.newest] != int64(len(now.versions)) {
		t.Error("a version is not at its place")
	}
}

// BenchmarkHistories says what an audit of 1,000 requests holds of their bundles, in a workspace of 1,000 keys.
func BenchmarkHistories(b *testing.B) {
	raw, _ := approvedVector(b)
	raw = grown(b, raw, 1000)
	for b.Loop() {
		var known rosters
		rows := make([]history, 1000)
		before := held()
		for i := range rows {
			h, err := historyOf(raw, &known)
			if err != nil {
				b.Fatal(err)
			}
			rows[i] = h
		}
		b.ReportMetric(float64(held()-before)/float64(len(rows)), "held-bytes/row")
		runtime.KeepAlive(rows)
	}
}

// held is how much of the heap is in use.
func held() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
