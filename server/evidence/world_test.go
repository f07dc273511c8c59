package evidence_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// Flags of authenticator data.
const (
	flagUP, flagUV, flagBE, flagBS, flagAT, flagED = 1, 4, 8, 16, 64, 128
)

var rp = evidence.RelyingParty{ID: "approve.example", Origin: "https://approve.example"}

// token is an authenticator of one person, whose keys and signatures are the
// same in every run.
type token struct {
	key  evidence.Key
	sign func(message []byte) []byte
}

func seed(name string) []byte {
	sum := sha256.Sum256([]byte("evidence test " + name))
	return sum[:]
}

func cose(t testing.TB, key map[int]any) []byte {
	t.Helper()
	mode, err := cbor.CTAP2EncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	data, err := mode.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func es256(t testing.TB, name string) token {
	t.Helper()
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), seed(name))
	if err != nil {
		t.Fatal(err)
	}
	point, err := private.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return token{
		key: evidence.Key{
			Person: "per-" + name, CredentialID: seed("credential " + name)[:16],
			PublicKey: cose(t, map[int]any{1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]}),
		},
		sign: func(message []byte) []byte {
			sum := sha256.Sum256(message)
			signature, err := private.Sign(nil, sum[:], crypto.SHA256) // RFC 6979
			if err != nil {
				t.Fatal(err)
			}
			return signature
		},
	}
}

func eddsa(t testing.TB, name string) token {
	t.Helper()
	private := ed25519.NewKeyFromSeed(seed(name))
	return token{
		key: evidence.Key{
			Person: "per-" + name, CredentialID: seed("credential " + name)[:16],
			PublicKey: cose(t, map[int]any{1: 1, 3: -8, -1: 6, -2: []byte(private.Public().(ed25519.PublicKey))}),
		},
		sign: func(message []byte) []byte { return ed25519.Sign(private, message) },
	}
}

func rs256(t testing.TB, name string) token {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return token{
		key: evidence.Key{
			Person: "per-" + name, CredentialID: seed("credential " + name)[:16],
			PublicKey: cose(t, map[int]any{1: 3, 3: -257, -1: private.N.Bytes(), -2: []byte{1, 0, 1}}),
		},
		sign: func(message []byte) []byte {
			sum := sha256.Sum256(message)
			signature, err := rsa.SignPKCS1v15(nil, private, crypto.SHA256, sum[:])
			if err != nil {
				t.Fatal(err)
			}
			return signature
		},
	}
}

// ceremony is what an assertion says besides the statement.
type ceremony struct {
	clientData    string // whole, or empty for the ordinary one
	rpID          string
	flags         byte
	counter       byte
	extensions    []byte
	authenticator []byte // whole, or empty for the ordinary one
}

func ordinary(statement []byte) ceremony {
	return ceremony{rpID: rp.ID, flags: flagUP | flagUV, clientData: fmt.Sprintf(
		`{"type":"webauthn.get","challenge":"%s","origin":"%s","crossOrigin":false}`,
		evidence.Bytes(evidence.Challenge(statement)), rp.Origin)}
}

func (k token) assert(c ceremony) evidence.Assertion {
	hash := sha256.Sum256([]byte(c.rpID))
	data := append(append(hash[:], c.flags, 0, 0, 0, c.counter), c.extensions...)
	if c.authenticator != nil {
		data = c.authenticator
	}
	clientHash := sha256.Sum256([]byte(c.clientData))
	return evidence.Assertion{
		CredentialID: k.key.CredentialID, AuthenticatorData: data, ClientDataJSON: []byte(c.clientData),
		Signature: k.sign(append(append([]byte{}, data...), clientHash[:]...)), UserHandle: []byte(k.key.Person),
	}
}

// world is an operator that plays the story of one pull request and keeps what
// a bundle needs.
type world struct {
	t      testing.TB
	now    time.Time
	salt   []byte
	policy approval.Policy
	tokens map[string]token

	requests  []evidence.Request
	decisions []evidence.SignedDecision
	tallied   []approval.Decision
	entries   [][]byte
	facts     approval.Facts
	verdict   approval.Verdict
	outcome   []byte // salt of the verdict's leaf

	log        [][]byte // all entries
	head       evidence.LogHead
	genesis    []byte
	roster     [][]byte         // changes
	rosterLeaf []byte           // of the newest version
	models     *evidence.Models // the metadata of operator and verifier
	attest     func(name string) (object, clientData []byte)
	orphan     bool              // the leaf is shown although there is no roster
	accounts   map[string]string // that acts name, where they are not the person's
	enrolled   map[string]evidence.EnrolledKey
	acts       map[evidence.Digest]evidence.SignedAct

	// tamper, when set, changes what the operator writes before it is hashed.
	tamperLeaf       func(l *evidence.Leaf)
	tamperRequest    func(r *evidence.Request)
	tamperStatement  func(s *evidence.Statement)
	tamperAssertion  func(a *evidence.Assertion)
	tamperFacts      func(f *approval.Facts)
	tamperVerdict    func(v *approval.Verdict)
	signedBy         func(person string) token
	tamperCeremony   func(c *ceremony)
	tamperAct        func(a *evidence.Act)
	tamperEnrolment  func(e *evidence.Enrolment)
	tamperSigned     func(s *evidence.SignedAct)
	tamperAgreed     func(s *evidence.SignedAct)
	tamperChange     func(c *evidence.RosterChange)
	tamperCheckpoint func(text string) string

	// real, when set, are commits of a real repository in place of those of
	// commits, and diff is what their signers are shown.
	real map[string]string
	diff []byte
}

func (w *world) commit(name string) string {
	if hash, ok := w.real[name]; ok {
		return hash
	}
	return commits[name]
}

const (
	workspaceUUID   = "{5c9f2b1e-0d3a-4b7c-8e6f-1a2b3c4d5e6f}"
	repositoryUUID  = "{0f8e7d6c-5b4a-4392-8170-6f5e4d3c2b1a}"
	otherRepository = "{0b1c2d3e-4f50-4617-8829-3a4b5c6d7e8f}" // of the same workspace
	number          = 7
)

var commits = map[string]string{
	"old": "1f0e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c", "new": "2e1d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b",
	"base": "3d2c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a", "destination": "4c3b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69",
	"landed": "4c3b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69",
}

// newWorld is a workspace in which nothing was asked for yet.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := bareWorld(t)
	w.begin()
	return w
}

// bareWorld is a workspace without a history.
func bareWorld(t testing.TB) *world {
	t.Helper()
	w := &world{
		t: t, diff: []byte("diff --git a/x b/x\n"), now: time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC), salt: seed("workspace salt"), tokens: map[string]token{},
		head: evidence.LogHead{Root: approval.DigestOf(nil)}, enrolled: map[string]evidence.EnrolledKey{}, acts: map[evidence.Digest]evidence.SignedAct{},
	}
	w.policy = approval.Policy{Format: approval.Format, Rules: []approval.Rule{
		{
			Name: "Releases", Branches: []string{"release/*"}, ExpiresAfterSeconds: 86400,
			Requirements: []approval.Requirement{{Name: "Approval", Quorum: 2, Approvers: approval.Approvers{Everyone: true}}},
		},
		approval.Default().Rules[0],
	}}
	for _, name := range []string{"bob", "carol", "dave"} {
		w.tokens[name] = es256(t, name)
	}
	w.tokens["dave"] = eddsa(t, "dave")
	w.signedBy = func(person string) token { return w.tokens[person] }
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) tick() time.Time {
	w.now = w.now.Add(time.Minute)
	return w.now
}

func display(name string) string { return string(name[0]-32) + name[1:] }

func people(names ...string) (list []approval.Person) {
	for _, n := range names {
		list = append(list, approval.Person{ID: "per-" + n, AccountID: "acc-" + n, Name: display(n)})
	}
	return list
}

func (w *world) append(body evidence.Body) {
	w.t.Helper()
	chain := evidence.Chain{ID: evidence.ChainID(w.salt, repositoryUUID, number), Sequence: int64(len(w.entries) + 1)}
	if n := len(w.entries); n > 0 {
		chain.Previous = evidence.LeafDigest(w.entries[n-1])
	}
	w.entries = append(w.entries, w.record(body, &chain))
}

// ended reports whether no request is open.
func (w *world) ended() bool {
	for _, entry := range slices.Backward(w.entries) {
		leaf, err := evidence.ParseLeaf(entry)
		w.must(err)
		switch leaf.Body.(type) {
		case evidence.RequestClosed:
			return true
		case evidence.RequestOpened:
			return false
		}
	}
	return true
}

func (w *world) request() evidence.Request { return w.requests[len(w.requests)-1] }

func (w *world) open(head string) {
	w.t.Helper()
	rule := w.policy.Rules[0]
	if n := len(w.requests); n > 0 && !w.ended() {
		w.append(evidence.RequestClosed{Request: w.request().ID, Reason: "superseded"})
	}
	opened := w.tick().Add(time.Minute) // when its leaf is written
	r := evidence.Request{
		ID: fmt.Sprintf("req-%d", len(w.requests)+1), Workspace: workspaceUUID, Repository: repositoryUUID, PullRequest: number,
		HeadCommit: w.commit(head), DestinationBranch: "release/1.0", RuleDigest: rule.Digest(),
		OpenedAt: opened, ExpiresAt: opened.Add(24 * time.Hour),
	}
	if w.tamperRequest != nil {
		w.tamperRequest(&r)
	}
	w.requests = append(w.requests, r)
	document, err := r.Digest()
	w.must(err)
	w.append(evidence.RequestOpened{Request: r.ID, Document: document})
	w.tally()
}

func (w *world) statement(person string, purpose evidence.Purpose) (evidence.Statement, evidence.SignedDecision) {
	w.t.Helper()
	r := w.request()
	id := fmt.Sprintf("dec-%d", len(w.decisions)+1)
	approver := evidence.PersonOpening{Salt: seed("approver salt " + id), AccountID: "acc-" + person, Name: display(person)}
	author := evidence.PersonOpening{Salt: seed("author salt " + id), AccountID: "acc-alice", Name: "Alice"}
	approverCommitment, err := approver.Commitment()
	w.must(err)
	authorCommitment, err := author.Commitment()
	w.must(err)
	last := int64(len(w.entries))
	s := evidence.Statement{
		Purpose: purpose, RPID: rp.ID, Origin: rp.Origin, LogOrigin: logOrigin, Roster: w.newest(), LogHead: new(evidence.LogHead),
		Workspace: workspaceUUID, Request: r.ID, PullRequest: number,
		Author:   evidence.Party{Commitment: authorCommitment},
		Approver: evidence.Party{Person: "per-" + person, Commitment: approverCommitment},
		Source:   evidence.Ref{Repository: repositoryUUID, Branch: "feature/x", Commit: r.HeadCommit},
		Destination: evidence.Ref{
			Repository: repositoryUUID, Branch: r.DestinationBranch, Commit: w.commit("destination"),
		},
		MergeBases:   []string{w.commit("base")},
		Diff:         evidence.Diff{SHA256: approval.DigestOf(w.diff), Size: int64(len(w.diff))},
		Policy:       evidence.PolicyRef{Digest: w.policy.Digest(), RuleDigest: r.RuleDigest},
		Requirements: evidence.RequirementsOf(w.policy.Rules[0]),
		ChainHead: evidence.ChainHead{
			Chain: evidence.ChainID(w.salt, repositoryUUID, number), Sequence: last, Leaf: evidence.LeafDigest(w.entries[last-1]),
		},
		Nonce: seed("nonce " + id)[:16], IssuedAt: w.tick(), ExpiresAt: w.now.Add(5 * time.Minute),
	}
	*s.LogHead = w.head
	signed := evidence.SignedDecision{ID: id, Approver: &approver, Author: &author}
	if purpose == evidence.Reject || purpose == evidence.Override {
		comment := evidence.CommentOpening{Salt: seed("comment salt " + id), Text: "Not yet: the ünïcode test is missing."}
		commitment, err := comment.Commitment()
		w.must(err)
		s.Comment, signed.Comment = commitment, &comment
	}
	if purpose == evidence.Withdraw {
		for _, d := range w.decisions {
			if before, err := evidence.ParseStatement(d.Statement); err == nil && before.Approver.Person == s.Approver.Person {
				s.Withdraws = approval.DigestOf(d.Statement)
			}
		}
	}
	if w.tamperStatement != nil {
		w.tamperStatement(&s)
	}
	s.Meaning = evidence.Meaning(s)
	return s, signed
}

func (w *world) decide(person string, purpose evidence.Purpose) {
	w.t.Helper()
	s, signed := w.statement(person, purpose)
	data, err := s.Canonical()
	w.must(err)
	signed.Statement = data
	c := ordinary(data)
	if w.tamperCeremony != nil {
		w.tamperCeremony(&c)
	}
	signed.Assertion = w.signedBy(person).assert(c)
	if w.tamperAssertion != nil {
		w.tamperAssertion(&signed.Assertion)
	}
	w.decisions = append(w.decisions, signed)
	assertion, err := signed.Assertion.Digest()
	w.must(err)
	w.append(evidence.DecisionMade{Request: s.Request, Statement: approval.DigestOf(data), Assertion: assertion})
	w.tallied = append(w.tallied, approval.Decision{
		ID: signed.ID, RequestID: s.Request, PersonID: s.Approver.Person, AccountID: signed.Approver.AccountID,
		Name: signed.Approver.Name, Action: s.Purpose.Action(), HeadCommit: s.Source.Commit,
		DestinationBranch: s.Destination.Branch, RuleDigest: s.Policy.RuleDigest, Sequence: int64(len(w.entries)),
	})
	w.tally()
	w.publish()
}

func (w *world) tally() {
	w.t.Helper()
	r := w.request()
	w.facts = approval.Facts{
		Now: w.tick(),
		Request: approval.RequestFacts{
			ID: r.ID, HeadCommit: r.HeadCommit, DestinationBranch: r.DestinationBranch, RuleDigest: r.RuleDigest, ExpiresAt: r.ExpiresAt,
		},
		Author: "acc-alice", Writers: people("alice", "bob", "carol", "dave"),
	}
	for _, d := range w.tallied {
		if d.HeadCommit == r.HeadCommit {
			if d.Sequence <= int64(len(w.entries)) {
				made, err := evidence.ParseLeaf(w.entries[d.Sequence-1])
				w.must(err)
				d.Late = !made.Time.Before(r.ExpiresAt)
			}
			w.facts.Decisions = append(w.facts.Decisions, d)
		}
	}
	w.facts.Request.Lapsed = w.lapsed()
	if w.policy.Rules[0].Needs().Identities {
		roster, err := evidence.ReplayRoster(evidence.LeafDigest(w.genesis), w.versions())
		w.must(err)
		for i, d := range w.facts.Decisions {
			key, _ := roster.Key(w.decisions[slices.IndexFunc(w.decisions, func(s evidence.SignedDecision) bool { return s.ID == d.ID })].Assertion.CredentialID)
			w.facts.Decisions[i].Identity = string(roster.IdentityAt(key, roster.Versions()))
		}
	}
	if keys := w.policy.Rules[0].Keys; w.policy.Rules[0].Needs().Models {
		for i, d := range w.facts.Decisions {
			credential := w.decisions[slices.IndexFunc(w.decisions, func(s evidence.SignedDecision) bool { return s.ID == d.ID })].Assertion.CredentialID
			m, err := w.enrolled[string(credential)].Enrolment.Model(w.tokens[strings.TrimPrefix(d.PersonID, "per-")].key, w.models)
			if err == nil && slices.Contains(keys.Models, m.AAGUID) {
				w.facts.Decisions[i].Model = m.AAGUID
			}
		}
	}
	if w.tamperFacts != nil {
		w.tamperFacts(&w.facts)
	}
	w.verdict = approval.Tally(w.policy.Rules[0], w.facts)
	if w.tamperVerdict != nil {
		w.tamperVerdict(&w.verdict)
	}
	w.outcome = seed(fmt.Sprint("outcome salt ", len(w.entries)))
	outcome, err := evidence.OutcomeDigest(w.outcome, w.policy.Digest(), w.facts, w.verdict)
	w.must(err)
	w.append(evidence.VerdictReached{Request: r.ID, State: string(w.verdict.State), Outcome: outcome})
}

// lapsed reports whether the time of the newest request was up before it was approved or overridden, where its next
// verdict is written now.
func (w *world) lapsed() bool {
	r := w.request()
	over := func(at time.Time) bool { return !at.Before(r.ExpiresAt) }
	timely := false
	for _, entry := range slices.Backward(w.entries) {
		leaf, err := evidence.ParseLeaf(entry)
		w.must(err)
		switch body := leaf.Body.(type) {
		case evidence.DecisionMade:
			timely = timely || !over(leaf.Time)
		case evidence.VerdictReached:
			return over(w.now) && body.Request == r.ID && body.State != "APPROVED" && body.State != "OVERRIDDEN" && (over(leaf.Time) || !timely)
		}
	}
	return false
}

// check answers the merge check about the open request.
func (w *world) check(answer, code string, change ...func(c *evidence.MergeChecked)) {
	w.t.Helper()
	r := w.request()
	c := evidence.MergeChecked{
		Trigger: evidence.TriggerOnMerge, Answer: answer, Code: code, Commit: r.HeadCommit,
		Destination: evidence.BranchID(w.salt, r.Repository, r.DestinationBranch), Request: r.ID,
	}
	for _, fn := range change {
		fn(&c)
	}
	w.append(c)
}

// story is a pull request that gets a new commit, is rejected, and approved.
func (w *world) story() {
	w.t.Helper()
	w.open("old")
	w.decide("bob", evidence.Approve)
	w.open("new")
	w.decide("bob", evidence.Approve)
	w.decide("carol", evidence.Reject)
	w.decide("carol", evidence.Withdraw)
	w.decide("dave", evidence.Approve)
	w.append(evidence.StatusPaid{Request: w.request().ID, State: "SUCCESSFUL"})
	w.append(evidence.Merged{Request: w.request().ID, Kind: "approved", Commit: w.commit("landed")})
}

func (w *world) bundle() evidence.Bundle {
	b := evidence.Bundle{
		Policy: json.RawMessage(w.policy.Canonical()), Requests: w.requests, Decisions: w.decisions,
		Salt: w.salt, Facts: w.facts, Verdict: w.verdict, OutcomeSalt: w.outcome,
	}
	for _, entry := range w.entries {
		b.Chain = append(b.Chain, entry)
	}
	w.fill(&b)
	return b
}

func (w *world) encoded() []byte {
	w.t.Helper()
	data, err := w.bundle().Encode()
	w.must(err)
	return data
}

// anchors are everything that a verifier can know but for single keys.
func (w *world) anchors() evidence.Anchors {
	w.t.Helper()
	_, key := w.noteKey(logOrigin)
	return evidence.Anchors{
		Log: &evidence.LogAnchor{Origin: logOrigin, Keys: []string{key}},
		Witnesses: &evidence.WitnessPolicy{
			Quorum: 2, Keys: []string{w.witnessKey("witness.example/1"), w.witnessKey("witness.example/2"), w.witnessKey("witness.example/3")},
		},
		RelyingParties: []evidence.RelyingParty{rp}, Genesis: evidence.LeafDigest(w.genesis), Roster: w.newest(),
		Policies: policiesOf(repositoryUUID, w.policy.Digest()), Models: w.models,
	}
}

// policiesOf pins the policies of one repository.
func policiesOf(repository string, digests ...evidence.Digest) []evidence.PinnedPolicies {
	return []evidence.PinnedPolicies{{Repository: repository, Digests: digests}}
}

// pins are the keys of Bob, Carol and Dave with their accounts.
func (w *world) pins() (list []evidence.PinnedKey) {
	for _, name := range []string{"bob", "carol", "dave"} {
		key := w.tokens[name].key
		list = append(list, evidence.PinnedKey{Person: key.Person, AccountID: "acc-" + name, PublicKey: key.PublicKey})
	}
	return list
}

// repositoryRoot is the way from this package to the root of the repository.
const repositoryRoot = "../.."
