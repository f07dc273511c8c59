package monitor_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/monitor"
	"github.com/signedapproval/bitbucket/server/witness"
)

const (
	origin     = "approvals.example/log"
	workspace  = "{5c9f2b1e-0d3a-4b7c-8e6f-1a2b3c4d5e6f}"
	repository = "{0f8e7d6c-5b4a-4392-8170-6f5e4d3c2b1a}"
	late       = 5 * time.Minute
)

var (
	rp   = evidence.RelyingParty{ID: "approvals.example", Origin: "https://approvals.example"}
	salt = seed("salt of the workspace")
)

func seed(name string) []byte {
	sum := sha256.Sum256([]byte("monitor test " + name))
	return sum[:]
}

// operator is somebody who has the log's key and the database, and writes what they like.
type operator struct {
	t    testing.TB
	keys *witness.Keys
	now  time.Time
	acts int // that were made

	mutex    sync.Mutex
	entries  [][]byte
	stored   []tlog.Hash // as tlog counts them
	note     []byte      // that is served
	openings *evidence.Openings
	// lie changes an answer; nil for an honest server.
	lie   func(path string, body []byte) (int, []byte)
	asked []string // paths
}

func newOperator(t testing.TB) *operator {
	t.Helper()
	private, _, err := witness.NewKey(origin)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := witness.ParseKeys(origin, []byte(private))
	if err != nil {
		t.Fatal(err)
	}
	return &operator{t: t, keys: keys, now: time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)}
}

// twin is the same operator with the same log up to now, who goes on otherwise.
func (o *operator) twin() *operator {
	return &operator{t: o.t, keys: o.keys, now: o.now, entries: slices.Clone(o.entries), stored: slices.Clone(o.stored), note: o.note, openings: o.openings}
}

func (o *operator) must(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
}

// ReadHashes makes the operator's own tree readable.
func (o *operator) ReadHashes(places []int64) (hashes []tlog.Hash, err error) {
	for _, place := range places {
		hashes = append(hashes, o.stored[place])
	}
	return hashes, nil
}

// raw appends any bytes and gives the leaf's digest.
func (o *operator) raw(entry []byte) evidence.Digest {
	o.t.Helper()
	more, err := tlog.StoredHashes(int64(len(o.entries)), entry, o)
	o.must(err)
	o.entries, o.stored = append(o.entries, entry), append(o.stored, more...)
	return evidence.LeafDigest(entry)
}

// write appends a leaf a second later.
func (o *operator) write(leaf evidence.Leaf) evidence.Digest {
	o.t.Helper()
	o.now = o.now.Add(time.Second)
	if leaf.Time.IsZero() {
		leaf.Time = o.now
	}
	if leaf.Workspace == "" {
		leaf.Workspace = evidence.WorkspaceID(salt, workspace)
	}
	entry, err := leaf.Entry()
	o.must(err)
	return o.raw(entry)
}

// say appends a leaf of the workspace.
func (o *operator) say(body evidence.Body) evidence.Digest {
	o.t.Helper()
	return o.write(evidence.Leaf{Body: body})
}

// about appends a leaf about a person, which is of no workspace.
func (o *operator) about(body evidence.Body) evidence.Digest {
	o.t.Helper()
	return o.write(evidence.Leaf{Workspace: evidence.WorkspaceID(nil, "00000000-0000-0000-0000-000000000000"), Body: body})
}

func (o *operator) genesis() evidence.Digest {
	o.t.Helper()
	return o.say(evidence.Genesis{Salt: approval.DigestOf(salt)})
}

// chain is one pull request's chain as the operator writes it.
type chain struct {
	o    *operator
	id   evidence.Digest
	next int64
	last evidence.Digest
}

func (o *operator) chain(number int64) *chain {
	return &chain{o: o, id: evidence.ChainID(salt, repository, number), next: 1}
}

func (c *chain) say(bodies ...evidence.Body) *chain {
	c.o.t.Helper()
	for _, body := range bodies {
		c.last = c.o.write(evidence.Leaf{Chain: &evidence.Chain{ID: c.id, Sequence: c.next, Previous: c.last}, Body: body})
		c.next++
	}
	return c
}

var (
	digest = approval.DigestOf([]byte("something"))
	commit = strings.Repeat("ab", 20)
)

func opened(request string) evidence.Body {
	return evidence.RequestOpened{Request: request, Document: digest}
}

func verdict(request, state string) evidence.Body {
	return evidence.VerdictReached{Request: request, State: state, Outcome: digest}
}

func made(request string) evidence.Body {
	return evidence.DecisionMade{Request: request, Statement: digest, Assertion: digest}
}

func closed(request, reason string) evidence.Body {
	return evidence.RequestClosed{Request: request, Reason: reason}
}

func checked(code, request string) evidence.Body {
	answer := evidence.AnswerNo
	if code == evidence.CheckApproved || code == evidence.CheckOverridden || code == evidence.CheckNoRule {
		answer = evidence.AnswerYes
	}
	return evidence.MergeChecked{Trigger: evidence.TriggerOnMerge, Answer: answer, Code: code, Commit: commit, Destination: digest, Request: request}
}

func green(request string) evidence.Body {
	return evidence.StatusPaid{Request: request, State: "SUCCESSFUL"}
}

func merged(request, kind string) evidence.Body {
	return evidence.Merged{Request: request, Kind: kind, Commit: commit}
}

// story is an ordinary life of a workspace with so many pull requests.
func (o *operator) story(from, to int) {
	o.t.Helper()
	for n := from; n < to; n++ {
		request := fmt.Sprintf("req-%d", n)
		c := o.chain(int64(n))
		c.say(opened(request), verdict(request, "PENDING"), evidence.StatusPaid{Request: request, State: "INPROGRESS"})
		c.say(checked("NOT_APPROVED", request))
		c.say(evidence.DecisionMade{Request: request, Statement: digest, Assertion: digest}, verdict(request, "APPROVED"))
		c.say(green(request), checked(evidence.CheckApproved, request), merged(request, "approved"))
	}
}

// publish signs what is there and serves it.
func (o *operator) publish() {
	o.t.Helper()
	o.mutex.Lock()
	defer o.mutex.Unlock()
	root, err := tlog.TreeHash(int64(len(o.entries)), o)
	o.must(err)
	o.note, err = o.keys.Sign(witness.Head{Size: int64(len(o.entries)), Root: root})
	o.must(err)
}

func (o *operator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	o.asked = append(o.asked, r.URL.Path)
	body, ok := o.answer(r.URL.Path)
	status := http.StatusOK
	if !ok {
		status, body = http.StatusNotFound, []byte("nothing here")
	}
	if o.lie != nil {
		status, body = o.lie(r.URL.Path, body)
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func (o *operator) answer(path string) ([]byte, bool) {
	path, ok := strings.CutPrefix(path, "/log/")
	switch {
	case !ok:
		if o.openings == nil {
			return nil, false
		}
		body, err := o.openings.Encode()
		return body, err == nil
	case path == "checkpoint":
		return o.note, o.note != nil
	case strings.HasPrefix(path, "tile/entries/"):
		tile, err := tlog.ParseTilePath("tile/8/data/" + strings.TrimPrefix(path, "tile/entries/"))
		if err != nil || tile.N<<8+int64(tile.W) > int64(len(o.entries)) {
			return nil, false
		}
		var bundle []byte
		for _, entry := range o.entries[tile.N<<8 : tile.N<<8+int64(tile.W)] {
			bundle = append(binary.BigEndian.AppendUint16(bundle, uint16(len(entry))), entry...)
		}
		return bundle, true
	}
	tile, err := tlog.ParseTilePath("tile/8/" + strings.TrimPrefix(path, "tile/"))
	if err != nil {
		return nil, false
	}
	body, err := tlog.ReadTileData(tile, o)
	return body, err == nil
}

func (o *operator) anchors() evidence.Anchors {
	return evidence.Anchors{
		Log:            &evidence.LogAnchor{Origin: origin, Keys: o.keys.Verifiers()},
		RelyingParties: []evidence.RelyingParty{rp},
	}
}

// auditor is somebody who runs a monitor.
type auditor struct {
	t      *testing.T
	folder string
	// change changes the options of the next passes.
	change func(*monitor.Options)
	now    time.Time
	found  []monitor.Finding
	read   []int64 // how far it was read, after each part
	// stays is set where the passes are of one monitor, and not each of one that starts; monitor is that one.
	stays   bool
	monitor *monitor.Monitor
}

func newAuditor(t *testing.T) *auditor {
	t.Helper()
	return &auditor{t: t, folder: filepath.Join(t.TempDir(), "state")}
}

// pass reads what is new. It opens the state and closes it again, unless the auditor stays. It gives what was told and why
// the log could not be followed.
func (a *auditor) pass(o *operator, server http.Handler) ([]monitor.Finding, error) {
	a.t.Helper()
	now := a.now
	if now.IsZero() {
		now = o.now.Add(time.Second)
	}
	told := len(a.found)
	if a.monitor != nil {
		a.monitor.Now = func() time.Time { return now }
		err := a.monitor.Pass(a.t.Context())
		return a.found[told:], err
	}
	face := httptest.NewServer(server)
	client, err := monitor.NewClient(face.URL, "", nil)
	o.must(err)
	state, err := monitor.OpenState(a.folder, false)
	o.must(err)
	end := func() {
		face.Close()
		o.must(state.Close())
	}
	if a.stays {
		a.t.Cleanup(end)
	} else {
		defer end()
	}
	options := monitor.Options{
		Client: client, State: state, Anchors: o.anchors(), Late: late, Now: func() time.Time { return now },
		Tell: func(f monitor.Finding) error { a.found = append(a.found, f); return nil },
		Read: func(next, _ int64) { a.read = append(a.read, next) },
	}
	if a.change != nil {
		a.change(&options)
	}
	m, err := monitor.New(options)
	o.must(err)
	if a.stays {
		a.monitor = m
	}
	err = m.Pass(a.t.Context())
	return a.found[told:], err
}

// leafByLeaf publishes what an operator has once more, each leaf by itself, and makes a pass after each.
func (a *auditor) leafByLeaf(o *operator) {
	a.t.Helper()
	entries := o.entries
	o.entries, o.stored = nil, nil
	for _, entry := range entries {
		o.raw(entry)
		o.publish()
		if _, err := a.pass(o, o); err != nil {
			a.t.Fatal(err)
		}
	}
}

// quiet makes a pass that must find nothing.
func (a *auditor) quiet(o *operator) {
	a.t.Helper()
	if found, err := a.pass(o, o); err != nil || len(found) > 0 {
		a.t.Fatalf("a quiet log: %v, %v", found, err)
	}
}

// once is what was found, without what was told again.
func (a *auditor) once() (list []monitor.Finding) {
	for _, f := range a.found {
		if !slices.ContainsFunc(list, func(other monitor.Finding) bool { return f.Code == other.Code && f.Subject == other.Subject }) {
			list = append(list, f)
		}
	}
	return list
}

// codes are the codes of alarms.
func codes(found []monitor.Finding) (list []monitor.Code) {
	for _, f := range found {
		if !f.Notice {
			list = append(list, f.Code)
		}
	}
	return list
}

// token is an authenticator of one person.
type token struct {
	key     evidence.Key
	private ed25519.PrivateKey
}

func newToken(person, name string) token {
	private := ed25519.NewKeyFromSeed(seed("key " + name))
	public, _ := private.Public().(ed25519.PublicKey)
	cose := append([]byte{0xa4, 0x01, 0x01, 0x03, 0x27, 0x20, 0x06, 0x21, 0x58, 0x20}, public...)
	return token{evidence.Key{Person: person, CredentialID: seed("credential " + name)[:16], PublicKey: cose}, private}
}

func (k token) digest(t testing.TB) evidence.Digest {
	t.Helper()
	d, err := k.key.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// assert signs bytes as WebAuthn does.
func (k token) assert(data []byte) evidence.Assertion {
	clientData := fmt.Sprintf(`{"type":"webauthn.get","challenge":"%s","origin":"%s","crossOrigin":false}`, evidence.Bytes(evidence.Challenge(data)), rp.Origin)
	hash := sha256.Sum256([]byte(rp.ID))
	authenticator := append(hash[:], 5, 0, 0, 0, 1)
	sum := sha256.Sum256([]byte(clientData))
	return evidence.Assertion{
		CredentialID: k.key.CredentialID, AuthenticatorData: authenticator, ClientDataJSON: []byte(clientData),
		Signature: ed25519.Sign(k.private, append(slices.Clone(authenticator), sum[:]...)), UserHandle: []byte(k.key.Person),
	}
}

// accountOf opens the commitment of a person to their account.
func accountOf(person string) *evidence.PersonOpening {
	return &evidence.PersonOpening{Salt: seed("account of " + person), AccountID: "account of " + person, Name: person}
}

// act completes an act and gives its bytes.
func (o *operator) act(a evidence.Act) []byte {
	o.t.Helper()
	a.RPID, a.Origin, a.LogOrigin = rp.ID, rp.Origin, origin
	if a.Signer.Commitment == "" {
		commitment, err := accountOf(a.Signer.Person).Commitment()
		o.must(err)
		a.Signer.Commitment = commitment
	}
	o.acts++
	a.Nonce = seed("nonce " + strconv.Itoa(o.acts))[:16]
	a.IssuedAt, a.ExpiresAt = o.now, o.now.Add(time.Hour)
	a.Meaning = evidence.ActMeaning(a)
	data, err := a.Canonical()
	o.must(err)
	return data
}
