package attack_test

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/internal/witnesstest"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/monitor"
	"github.com/signedapproval/bitbucket/server/witness"
)

// late is how far a monitor lets the times of leaves be off.
const late = 30 * time.Minute

// tree is a log's tree in memory.
type tree []tlog.Hash

func newTree(t testing.TB, entries [][]byte) tree {
	t.Helper()
	var stored tree
	for i, entry := range entries {
		more, err := tlog.StoredHashes(int64(i), entry, stored)
		must(t, err)
		stored = append(stored, more...)
	}
	return stored
}

// ReadHashes is how tlog reads it.
func (s tree) ReadHashes(places []int64) ([]tlog.Hash, error) {
	list := make([]tlog.Hash, len(places))
	for i, place := range places {
		if place >= int64(len(s)) {
			return nil, fmt.Errorf("the tree has no hash %d", place)
		}
		list[i] = s[place]
	}
	return list, nil
}

func treeOf(t testing.TB, entries [][]byte) tlog.Tree {
	t.Helper()
	hash, err := tlog.TreeHash(int64(len(entries)), newTree(t, entries))
	must(t, err)
	return tlog.Tree{N: int64(len(entries)), Hash: hash}
}

// witnesses are programs of others. They know the log's keys and nobody's wishes.
type witnesses []*witnesstest.Witness

func newWitnesses(t testing.TB, logKeys []string) (list witnesses) {
	t.Helper()
	for _, name := range []string{"witness.example/1", "witness.example/2"} {
		w, err := witnesstest.New(name)
		must(t, err)
		must(t, w.Follow(logKeys...))
		list = append(list, w)
	}
	return list
}

func (s witnesses) keys() (list []string) {
	for _, w := range s {
		list = append(list, w.Key())
	}
	return list
}

// checkpoint signs the tree of the entries and asks every witness to cosign it, with whatever proof the operator can
// make from what it has. The statuses are the witnesses' answers.
func (o *operator) checkpoint(entries [][]byte) (note string, statuses []int) {
	o.t.Helper()
	head := treeOf(o.t, entries)
	signed, err := o.keys.Sign(witness.Head{Size: head.N, Root: head.Hash})
	must(o.t, err)
	note = string(signed)
	for _, w := range o.seen {
		status, line := o.ask(w, signed, head.N, entries)
		if status == http.StatusOK {
			note += line
		}
		statuses = append(statuses, status)
	}
	return note, statuses
}

// ask asks one witness.
func (o *operator) ask(w *witnesstest.Witness, signed []byte, size int64, entries [][]byte) (status int, line string) {
	o.t.Helper()
	old := w.Seen(logOrigin)
	body := fmt.Sprintf("old %d\n", min(old, size))
	if 0 < old && old < size {
		proof, err := tlog.ProveTree(size, old, newTree(o.t, entries))
		must(o.t, err)
		for _, hash := range proof {
			body += base64.StdEncoding.EncodeToString(hash[:]) + "\n"
		}
	}
	request := httptest.NewRequest(http.MethodPost, "/add-checkpoint", strings.NewReader(body+"\n"+string(signed)))
	answer := httptest.NewRecorder()
	w.ServeHTTP(answer, request)
	return answer.Code, answer.Body.String()
}

// prove places a bundle's leaves in the log, as its entries now are.
func (o *operator) prove(b *evidence.Bundle, r rows) {
	o.t.Helper()
	stored, size := newTree(o.t, r.entries), int64(len(r.entries))
	place := func(i int) evidence.Inclusion {
		proof, err := tlog.ProveRecord(size, int64(i), stored)
		must(o.t, err)
		return evidence.Inclusion{Index: int64(i), Proof: evidence.ProofOf(proof)}
	}
	b.Log = evidence.LogProof{Genesis: place(0)}
	b.Log.Checkpoint, _ = o.checkpoint(r.entries)
	if len(r.roster) > 0 {
		b.Log.Roster = &evidence.IncludedLeaf{Entry: r.entries[r.rosterAt], Inclusion: place(r.rosterAt)}
	}
	for _, i := range r.chain {
		b.Log.Chain = append(b.Log.Chain, place(i))
	}
	shown := map[int64]bool{0: true}
	for _, d := range r.decisions {
		s, err := evidence.ParseStatement(d.Statement)
		must(o.t, err)
		head := s.LogHead
		if shown[head.Size] || head.Size > size {
			continue
		}
		shown[head.Size] = true
		proof, err := tlog.ProveTree(size, head.Size, stored)
		must(o.t, err)
		root, err := tlog.TreeHash(head.Size, stored)
		must(o.t, err)
		// Where the log was rewritten below what the signer was shown, the root is another one, which the operator
		// cannot help.
		b.Log.Heads = append(b.Log.Heads, evidence.Consistency{Size: head.Size, Root: root[:], Proof: evidence.ProofOf(proof)})
	}
}

// face is the public face of a log with these rows.
type face struct {
	note     string
	entries  [][]byte
	stored   tree
	openings evidence.Openings
}

// publish makes the public face of the rows as they are.
func (o *operator) publish() *face {
	o.t.Helper()
	r := o.make()
	f := &face{entries: r.entries, stored: newTree(o.t, r.entries)}
	f.note, _ = o.checkpoint(r.entries)
	f.openings = evidence.Openings{
		Format: evidence.OpeningsFormat, Workspace: o.workspace, Salt: o.salt, Genesis: r.entries[0],
		Policies:   []evidence.OpenedPolicy{{Repository: o.repository, Version: 1, Policy: json.RawMessage(o.policy.Canonical())}},
		SignedActs: o.signed,
		Chains:     []evidence.OpenedChain{{ID: evidence.ChainID(o.salt, o.repository, o.number), Repository: o.repository, PullRequest: o.number}},
	}
	for _, document := range r.roster {
		f.openings.Roster = append(f.openings.Roster, document)
	}
	for _, e := range o.enrolled {
		f.openings.Enrolments = append(f.openings.Enrolments, e)
	}
	return f
}

func (f *face) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, log := strings.CutPrefix(r.URL.Path, "/log/")
	tile, isTile := strings.CutPrefix(path, "tile/")
	entries, isEntries := strings.CutPrefix(tile, "entries/")
	switch {
	case !log:
		data, _ := f.openings.Encode()
		_, _ = w.Write(data)
	case path == "checkpoint":
		_, _ = w.Write([]byte(f.note))
	case isEntries:
		at, err := tlog.ParseTilePath("tile/8/data/" + entries)
		if err != nil || at.N<<8+int64(at.W) > int64(len(f.entries)) {
			http.NotFound(w, r)
			return
		}
		for _, entry := range f.entries[at.N<<8 : at.N<<8+int64(at.W)] {
			_, _ = w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(entry))), entry...))
		}
	case isTile:
		at, err := tlog.ParseTilePath("tile/8/" + tile)
		var body []byte
		if err == nil {
			body, err = tlog.ReadTileData(at, f.stored)
		}
		if err != nil {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(body)
	default:
		http.NotFound(w, r)
	}
}

// auditor follows a log with a monitor that keeps its state.
type auditor struct {
	t       testing.TB
	folder  string
	anchors evidence.Anchors
	mine    *monitor.Mine
	heard   []string  // checkpoints that others were shown
	now     time.Time // of the next pass
}

func newAuditor(o *operator) *auditor {
	anchors := o.anchors()
	anchors.Witnesses = nil // what it finds it finds by itself
	return &auditor{t: o.t, folder: filepath.Join(o.t.TempDir(), "state"), anchors: anchors}
}

// pass makes one pass over what it is shown, and gives the codes of the alarms.
func (a *auditor) pass(o *operator, shown http.Handler) (alarms []string) {
	a.t.Helper()
	a.now = o.now.Add(time.Second)
	server := httptest.NewServer(shown)
	defer server.Close()
	client, err := monitor.NewClient(server.URL, "", nil)
	must(a.t, err)
	state, err := monitor.OpenState(a.folder, false)
	must(a.t, err)
	defer func() { must(a.t, state.Close()) }()
	m, err := monitor.New(monitor.Options{
		Client: client, State: state, Anchors: a.anchors, Late: late, Mine: a.mine, Workspace: o.workspace, Now: func() time.Time { return a.now },
		Tell: func(f monitor.Finding) error {
			if !f.Notice {
				alarms = append(alarms, "monitor: "+string(f.Code))
			}
			return nil
		},
	})
	must(a.t, err)
	must(a.t, m.Pass(a.t.Context()))
	for _, note := range a.heard {
		must(a.t, m.Gossip([]byte(note)))
		must(a.t, m.Told())
	}
	return alarms
}

// compare compares what two auditors were shown.
func compare(a, b *auditor) string {
	a.t.Helper()
	one, err := monitor.OpenState(a.folder, true)
	must(a.t, err)
	defer func() { must(a.t, one.Close()) }()
	other, err := monitor.OpenState(b.folder, true)
	must(a.t, err)
	defer func() { must(a.t, other.Close()) }()
	c, err := monitor.Compare(one, other, a.anchors)
	must(a.t, err)
	if c.Same {
		return "monitor compare: same"
	}
	return "monitor compare: two logs"
}

// policyLeaf says in the log which policy the repository has.
func (o *operator) policyLeaf() {
	version := int64(1)
	for _, e := range o.events {
		if _, is := e.body.(evidence.PolicyVersion); is {
			version++
		}
	}
	o.say(evidence.PolicyVersion{Repository: evidence.RepositoryID(o.salt, o.repository), Version: version, Policy: o.policy.Digest()}, false)
}
