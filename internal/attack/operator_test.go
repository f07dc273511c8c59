package attack_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/witness"
)

const (
	logOrigin  = "approve.example/log"
	branch     = "release/1.0"
	ordinaryPR = 7
)

var (
	page       = evidence.RelyingParty{ID: "approve.example", Origin: "https://approve.example"}
	workspace  = uuid("workspace")
	repository = uuid("repository")
	beginning  = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
)

func seed(name string) []byte {
	sum := sha256.Sum256([]byte("attack " + name))
	return sum[:]
}

func uuid(name string) string {
	s := seed("uuid " + name)
	return fmt.Sprintf("{%x-%x-%x-%x-%x}", s[:4], s[4:6], s[6:8], s[8:10], s[10:16])
}

func commit(name string) string { return fmt.Sprintf("%x", seed("commit " + name)[:20]) }

// person is a human with an authenticator. The operator may ask them to sign, and has nothing else of theirs: no code
// of an attack reads private.
type person struct {
	name    string
	key     evidence.Key
	private *ecdsa.PrivateKey
}

// newPerson makes somebody with one key; device tells two keys of one person apart.
func newPerson(t testing.TB, name, device string) *person {
	t.Helper()
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), seed("key "+name+device))
	must(t, err)
	point, err := private.PublicKey.Bytes()
	must(t, err)
	return &person{name, evidence.Key{Person: "per-" + name, CredentialID: seed("credential " + name + device)[:16], PublicKey: es256(point)}, private}
}

// es256 is the COSE form of an uncompressed point of P-256.
func es256(point []byte) []byte {
	cose := append([]byte{0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20}, point[1:33]...)
	return append(append(cose, 0x22, 0x58, 0x20), point[33:]...)
}

// sign is what the authenticator and the browser do when the person touches the key, on the page and about these bytes.
func (p *person) sign(t testing.TB, document []byte) evidence.Assertion {
	t.Helper()
	a := evidence.Assertion{CredentialID: p.key.CredentialID, ClientDataJSON: clientData(document), AuthenticatorData: authenticatorData(), UserHandle: []byte(p.key.Person)}
	sum := sha256.Sum256(signed(a))
	var err error
	a.Signature, err = p.private.Sign(nil, sum[:], crypto.SHA256)
	must(t, err)
	return a
}

func clientData(document []byte) []byte {
	return fmt.Appendf(nil, `{"type":"webauthn.get","challenge":"%s","origin":"%s","crossOrigin":false}`, evidence.Bytes(evidence.Challenge(document)), page.Origin)
}

func authenticatorData() []byte {
	hash := sha256.Sum256([]byte(page.ID))
	return append(hash[:], 5, 0, 0, 0, 0) // user present and verified
}

// signed are the bytes that an assertion's signature is over.
func signed(a evidence.Assertion) []byte {
	sum := sha256.Sum256(a.ClientDataJSON)
	return append(slices.Clone([]byte(a.AuthenticatorData)), sum[:]...)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// event is what the operator's database has about one leaf. Exactly one of the kinds is set.
type event struct {
	at       time.Time
	request  *evidence.Request
	decision *evidence.SignedDecision
	verdict  bool
	change   *evidence.RosterChange
	body     evidence.Body
	chained  bool   // of body
	raw      []byte // an entry of the log that is kept out of everything else
}

// operator is who runs the service, with everything of it: the rows, the code, the key of the log. It writes whatever
// it likes and makes it self-consistent again: every digest, chain, tree, proof and signature of its own follows what
// the rows say. What people sign it can ask them for, once, and not make.
type operator struct {
	t    testing.TB
	now  time.Time
	keys *witness.Keys // of the log
	// seen are the witnesses that follow the log, which belong to others.
	seen witnesses

	workspace, repository string
	number                int64
	policy                approval.Policy
	writers               []approval.Person
	salt                  []byte
	events                []event
	enrolled              map[string]evidence.EnrolledKey // by credential id
	diff                  []byte                          // that signers are shown
	commits               map[string]string               // of a real repository; commit otherwise
	accounts              map[string]string               // of people by name, where it is not acc-name
	signed                []evidence.SignedAct            // those that changes of the roster rest on
	acts                  int
	attestations          map[string]attestation  // by credential id; of other keys there is none
	vouched               map[string]bool         // credential ids that somebody else signed for
	models                *evidence.Models        // by which models of keys are judged
	facts                 func(*approval.Facts)   // what the operator tells the tally otherwise
	conclude              func(*approval.Verdict) // what it makes of the verdict
}

func newOperator(t testing.TB) *operator {
	t.Helper()
	private, _, err := witness.NewKey(logOrigin)
	must(t, err)
	keys, err := witness.ParseKeys(logOrigin, []byte(private))
	must(t, err)
	o := &operator{
		t: t, now: beginning, keys: keys, workspace: workspace, repository: repository, number: ordinaryPR, salt: seed("salt"),
		enrolled: map[string]evidence.EnrolledKey{}, vouched: map[string]bool{}, diff: []byte("diff --git a/x b/x\n"), policy: policyOf(2),
	}
	for _, name := range []string{"alice", "bob", "carol", "dave", "mallory"} {
		o.writers = append(o.writers, approval.Person{ID: "per-" + name, AccountID: "acc-" + name, Name: name})
	}
	o.seen = newWitnesses(t, keys.Verifiers())
	o.say(evidence.Genesis{Salt: approval.DigestOf(o.salt)}, false)
	return o
}

func policyOf(quorum int) approval.Policy {
	return approval.Policy{Format: approval.Format, Rules: []approval.Rule{{
		Name: "Releases", Branches: []string{"release/*"}, ExpiresAfterSeconds: 86400,
		Requirements: []approval.Requirement{{Name: "Approval", Quorum: quorum, Approvers: approval.Approvers{Everyone: true}}},
	}}}
}

// twin is the same operator with the same rows, which are changed without changing the others.
func (o *operator) twin() *operator {
	other := *o
	other.events = slices.Clone(o.events)
	for i, e := range other.events {
		if e.request != nil {
			other.events[i].request = new(*e.request)
		}
		if e.decision != nil {
			other.events[i].decision = new(*e.decision)
		}
		if e.change != nil {
			other.events[i].change = new(*e.change)
		}
	}
	other.vouched = maps.Clone(o.vouched)
	other.enrolled = map[string]evidence.EnrolledKey{}
	for credential, e := range o.enrolled {
		other.enrolled[credential] = e
	}
	return &other
}

func (o *operator) tick() time.Time {
	o.now = o.now.Add(time.Minute)
	return o.now
}

func (o *operator) add(e event) {
	e.at = o.tick()
	o.events = append(o.events, e)
}

func (o *operator) say(body evidence.Body, chained bool) { o.add(event{body: body, chained: chained}) }

// rows is what follows from the events.
type rows struct {
	entries   [][]byte // of the log, in its order
	chain     []int    // indexes of the pull request's leaves
	roster    [][]byte
	rosterAt  int // index of the newest version's leaf
	requests  []evidence.Request
	decisions []evidence.SignedDecision
	facts     approval.Facts
	verdict   approval.Verdict
	outcome   []byte // salt
	state     string // the newest verdict on the newest request
}

// head is the digest of the newest roster version.
func (r rows) head() evidence.Digest {
	if len(r.roster) == 0 {
		return ""
	}
	return approval.DigestOf(r.roster[len(r.roster)-1])
}

// make computes everything from the events: leaves, chain, roster and verdicts.
func (o *operator) make() (r rows) {
	o.t.Helper()
	last := 0
	for i, e := range o.events {
		if e.verdict {
			last = i
		}
	}
	for i, e := range o.events {
		if e.raw != nil {
			r.entries = append(r.entries, e.raw)
			continue
		}
		leaf := evidence.Leaf{Time: e.at, Workspace: evidence.WorkspaceID(o.salt, o.workspace), Body: e.body}
		chained := e.chained
		switch {
		case e.request != nil:
			document, err := e.request.Digest()
			must(o.t, err)
			r.requests, r.state, chained = append(r.requests, *e.request), "", true
			leaf.Body = evidence.RequestOpened{Request: e.request.ID, Document: document}
		case e.decision != nil:
			assertion, err := e.decision.Assertion.Digest()
			must(o.t, err)
			s, err := evidence.ParseStatement(e.decision.Statement)
			must(o.t, err)
			r.decisions, chained = append(r.decisions, *e.decision), true
			leaf.Body = evidence.DecisionMade{Request: s.Request, Statement: approval.DigestOf(e.decision.Statement), Assertion: assertion}
		case e.verdict:
			chained = true
			leaf.Body = o.tally(&r, e.at, i == last)
		case e.change != nil:
			c := *e.change
			c.Workspace, c.Version, c.Previous = o.workspace, int64(len(r.roster)+1), r.head()
			if c.Version == 1 {
				c.Previous = evidence.LeafDigest(r.entries[0])
			}
			document, err := c.Canonical()
			must(o.t, err)
			r.roster = append(r.roster, document)
			r.rosterAt = len(r.entries)
			leaf.Body = evidence.RosterVersion{Version: c.Version, Roster: r.head()}
		}
		if chained {
			leaf.Chain = &evidence.Chain{ID: evidence.ChainID(o.salt, o.repository, o.number), Sequence: int64(len(r.chain) + 1)}
			if n := len(r.chain); n > 0 {
				leaf.Chain.Previous = evidence.LeafDigest(r.entries[r.chain[n-1]])
			}
			r.chain = append(r.chain, len(r.entries))
		}
		entry, err := leaf.Entry()
		must(o.t, err)
		r.entries = append(r.entries, entry)
	}
	return r
}

// tally tallies the newest request at a place of the chain. What the operator lies about, it lies about in the last verdict.
func (o *operator) tally(r *rows, now time.Time, last bool) evidence.Body {
	o.t.Helper()
	request := r.requests[len(r.requests)-1]
	r.facts = approval.Facts{
		Now: now, Author: "acc-alice", Writers: o.writers,
		Request: approval.RequestFacts{
			ID: request.ID, HeadCommit: request.HeadCommit, DestinationBranch: request.DestinationBranch, RuleDigest: request.RuleDigest, ExpiresAt: request.ExpiresAt,
		},
	}
	sequence, at := 0, 0
	for _, e := range o.events {
		if e.request != nil || e.decision != nil || e.verdict || e.chained {
			sequence++
		}
		if e.decision == nil || at == len(r.decisions) {
			continue
		}
		at++
		s, err := evidence.ParseStatement(e.decision.Statement)
		must(o.t, err)
		if s.Source.Commit != request.HeadCommit {
			continue
		}
		d := approval.Decision{
			ID: e.decision.ID, RequestID: s.Request, PersonID: s.Approver.Person, Action: s.Purpose.Action(), HeadCommit: s.Source.Commit,
			DestinationBranch: s.Destination.Branch, RuleDigest: s.Policy.RuleDigest, Sequence: int64(sequence),
			AccountID: "acc-" + s.Approver.Person[len("per-"):], Name: s.Approver.Person[len("per-"):],
		}
		if o.policy.Rules[0].Needs().Identities {
			d.Identity = string(evidence.ByLogIn)
			if o.vouched[string(e.decision.Assertion.CredentialID)] {
				d.Identity = approval.Countersigned
			}
		}
		if o.policy.Rules[0].Needs().Models {
			d.Model = o.model(e.decision.Assertion.CredentialID)
		}
		d.Late = !e.at.Before(request.ExpiresAt)
		if opening := e.decision.Approver; opening != nil {
			d.AccountID, d.Name = opening.AccountID, opening.Name
		}
		r.facts.Decisions = append(r.facts.Decisions, d)
	}
	r.facts.Request.Lapsed = o.lapsed(request, now, r.state)
	if last && o.facts != nil {
		o.facts(&r.facts)
	}
	r.verdict = approval.Tally(o.policy.Rules[0], r.facts)
	if last && o.conclude != nil {
		o.conclude(&r.verdict)
	}
	r.outcome = seed(fmt.Sprint("outcome ", len(r.chain)))
	outcome, err := evidence.OutcomeDigest(r.outcome, o.policy.Digest(), r.facts, r.verdict)
	must(o.t, err)
	r.state = string(r.verdict.State)
	return evidence.VerdictReached{Request: request.ID, State: r.state, Outcome: outcome}
}

// lapsed reports whether a request was not approved, by the verdict before the one that is reached now, and nobody decided
// about it in time since.
func (o *operator) lapsed(request evidence.Request, now time.Time, before string) bool {
	over := func(at time.Time) bool { return !at.Before(request.ExpiresAt) }
	if !over(now) || before == "" || before == "APPROVED" || before == "OVERRIDDEN" {
		return false
	}
	for _, e := range slices.Backward(o.events) {
		switch {
		case !e.at.Before(now):
		case e.decision != nil && !over(e.at):
			return false
		case e.verdict:
			return true
		}
	}
	return false
}

// open asks for approval of a commit, and ends what was asked for before.
func (o *operator) open(head string) {
	var before string
	n := 1
	for _, e := range o.events {
		if e.request != nil {
			before, n = e.request.ID, n+1
		}
	}
	if before != "" {
		o.say(evidence.RequestClosed{Request: before, Reason: "superseded"}, true)
	}
	o.request(head, n)
}

// reopen asks for approval of a commit once more, and ends nothing.
func (o *operator) reopen(head string) {
	n := 1
	for _, e := range o.events {
		if e.request != nil {
			n++
		}
	}
	o.request(head, n)
}

func (o *operator) request(head string, n int) {
	o.t.Helper()
	at := o.now.Add(time.Minute) // of its leaf
	o.add(event{request: &evidence.Request{
		ID: fmt.Sprintf("req-%d", n), Workspace: o.workspace, Repository: o.repository, PullRequest: o.number, HeadCommit: o.commit(head),
		DestinationBranch: branch, RuleDigest: o.policy.Rules[0].Digest(), OpenedAt: at, ExpiresAt: at.Add(24 * time.Hour),
	}})
	o.add(event{verdict: true})
}

func (o *operator) commit(name string) string {
	if hash, ok := o.commits[name]; ok {
		return hash
	}
	return commit(name)
}

func (o *operator) opening(name string) (evidence.PersonOpening, evidence.Commitment) {
	o.t.Helper()
	o.acts++
	account, ok := o.accounts[name]
	if !ok {
		account = "acc-" + name
	}
	opening := evidence.PersonOpening{Salt: seed(fmt.Sprint("opening ", o.acts)), AccountID: account, Name: name}
	c, err := opening.Commitment()
	must(o.t, err)
	return opening, c
}

// statement is what a person is asked to sign about the newest request.
func (o *operator) statement(name string, purpose evidence.Purpose) (evidence.Statement, evidence.SignedDecision) {
	o.t.Helper()
	r := o.make()
	request, last := r.requests[len(r.requests)-1], r.chain[len(r.chain)-1]
	approver, approverSays := o.opening(name)
	author, authorSays := o.opening("alice")
	head := treeOf(o.t, r.entries)
	s := evidence.Statement{
		Purpose: purpose, RPID: page.ID, Origin: page.Origin, LogOrigin: logOrigin, Workspace: o.workspace, Request: request.ID, PullRequest: o.number,
		Author: evidence.Party{Commitment: authorSays}, Approver: evidence.Party{Person: "per-" + name, Commitment: approverSays},
		Source:      evidence.Ref{Repository: o.repository, Branch: "feature/x", Commit: request.HeadCommit},
		Destination: evidence.Ref{Repository: o.repository, Branch: branch, Commit: o.commit("destination")},
		MergeBases:  []string{o.commit("base")}, Diff: evidence.Diff{SHA256: approval.DigestOf(o.diff), Size: int64(len(o.diff))},
		Policy:       evidence.PolicyRef{Digest: o.policy.Digest(), RuleDigest: request.RuleDigest},
		Requirements: evidence.RequirementsOf(o.policy.Rules[0]), Roster: r.head(), LogHead: &evidence.LogHead{Size: head.N, Root: evidence.Digest(fmt.Sprintf("%x", head.Hash[:]))},
		ChainHead: evidence.ChainHead{Chain: evidence.ChainID(o.salt, o.repository, o.number), Sequence: int64(len(r.chain)), Leaf: evidence.LeafDigest(r.entries[last])},
		Nonce:     seed(fmt.Sprint("nonce ", o.acts))[:16], IssuedAt: o.now, ExpiresAt: o.now.Add(5 * time.Minute),
	}
	d := evidence.SignedDecision{ID: fmt.Sprintf("dec-%d", len(r.decisions)+1), Approver: &approver, Author: &author}
	if purpose == evidence.Withdraw {
		for _, before := range r.decisions {
			if b, err := evidence.ParseStatement(before.Statement); err == nil && b.Approver.Person == s.Approver.Person {
				s.Withdraws = approval.DigestOf(before.Statement)
			}
		}
	}
	s.Meaning = evidence.Meaning(s)
	return s, d
}

// decide asks a person to decide, who does.
func (o *operator) decide(p *person, purpose evidence.Purpose) {
	o.t.Helper()
	s, d := o.statement(p.name, purpose)
	o.file(s, d, p.sign)
}

// file writes a decision down with an assertion that sign makes.
func (o *operator) file(s evidence.Statement, d evidence.SignedDecision, sign func(testing.TB, []byte) evidence.Assertion) {
	o.t.Helper()
	data, err := s.Canonical()
	must(o.t, err)
	d.Statement, d.Assertion = data, sign(o.t, data)
	o.add(event{decision: &d})
	o.add(event{verdict: true})
}

// act completes an act about a key for a signer.
func (o *operator) act(a evidence.Act, signer string) ([]byte, *evidence.PersonOpening) {
	o.t.Helper()
	opening, says := o.opening(signer)
	a.RPID, a.Origin, a.LogOrigin = page.ID, page.Origin, logOrigin
	a.Signer = evidence.Party{Person: "per-" + signer, Commitment: says}
	if a.Workspace != "" {
		a.Roster = o.make().head()
	}
	a.Nonce, a.IssuedAt, a.ExpiresAt = seed(fmt.Sprint("act ", o.acts))[:16], o.now, o.now.Add(5*time.Minute)
	a.Meaning = evidence.ActMeaning(a)
	data, err := a.Canonical()
	must(o.t, err)
	return data, &opening
}

// enrol brings a person's key into the roster, after a log-in.
func (o *operator) enrol(p *person) {
	o.t.Helper()
	o.enrolBy(p.name, p.key, p.sign, evidence.ByLogIn, "")
}

// enrolBy brings a key into the roster under a name; sign makes the assertion of the key itself.
func (o *operator) enrolBy(name string, key evidence.Key, sign func(testing.TB, []byte) evidence.Assertion, by evidence.Identity, signer evidence.Digest) {
	o.t.Helper()
	made, ok := o.attestations[string(key.CredentialID)]
	if !ok {
		made = attestation{seed("attestation"), seed("client data")}
	}
	document := evidence.KeyDocument{Key: key, AttestationObject: approval.DigestOf(made.object), ClientData: approval.DigestOf(made.clientData)}
	act, owner := o.act(evidence.Act{Purpose: evidence.Enrol, Key: &document}, name)
	e := evidence.EnrolledKey{Owner: owner, Enrolment: evidence.Enrolment{
		Act: act, Possession: sign(o.t, act), AttestationObject: made.object, ClientDataJSON: made.clientData,
	}}
	if by == evidence.ByOwnKey { // which only the person could sign: the operator has the new key sign again
		e.Enrolment.Authority = new(sign(o.t, act))
	}
	proof, err := e.Enrolment.Digest()
	must(o.t, err)
	digest, err := key.Digest()
	must(o.t, err)
	o.enrolled[string(key.CredentialID)] = e
	o.say(evidence.KeyEnrolled{Person: key.Person, Key: digest, AttestationObject: document.AttestationObject, ClientData: document.ClientData, IdentifiedBy: string(by), Enrolment: proof}, false)
	change := evidence.RosterChange{Format: evidence.RosterFormat, Event: evidence.KeyAdded, Key: key, By: by, Proof: proof, Signer: signer}
	if signer != "" {
		change.IssuedAt = issued(o.t, act)
	}
	o.add(event{change: &change})
}

// enrolOn brings a further key of somebody into the roster by the word of another one: their own, or that of another person.
func (o *operator) enrolOn(p, by *person) {
	o.t.Helper()
	made := attestation{seed("attestation"), seed("client data")}
	document := evidence.KeyDocument{Key: p.key, AttestationObject: approval.DigestOf(made.object), ClientData: approval.DigestOf(made.clientData)}
	act, owner := o.act(evidence.Act{Purpose: evidence.Enrol, Key: &document}, p.name)
	e := evidence.EnrolledKey{Owner: owner, Enrolment: evidence.Enrolment{
		Act: act, Possession: p.sign(o.t, act), AttestationObject: made.object, ClientDataJSON: made.clientData,
	}}
	change := evidence.RosterChange{Format: evidence.RosterFormat, Event: evidence.KeyAdded, Key: p.key, By: evidence.ByOwnKey, Signer: digestOf(o.t, by.key), IssuedAt: issued(o.t, act)}
	if by.name == p.name {
		e.Enrolment.Authority = new(by.sign(o.t, act))
	} else {
		word, opening := o.act(evidence.Act{Purpose: evidence.Countersign, Workspace: o.workspace, Key: &document}, by.name)
		e.Countersigner, e.Enrolment.Countersigned = opening, &evidence.SignedAct{Act: word, Assertion: by.sign(o.t, word)}
		change.By, change.IssuedAt = evidence.ByCountersigner, issued(o.t, word)
	}
	var err error
	change.Proof, err = e.Enrolment.Digest()
	must(o.t, err)
	o.enrolled[string(p.key.CredentialID)] = e
	o.say(evidence.KeyEnrolled{
		Person: p.key.Person, Key: digestOf(o.t, p.key), AttestationObject: document.AttestationObject, ClientData: document.ClientData,
		IdentifiedBy: string(change.By), Enrolment: change.Proof,
	}, false)
	o.add(event{change: &change})
}

// issued is when an act was issued.
func issued(t testing.TB, act []byte) *time.Time {
	t.Helper()
	a, err := evidence.ParseAct(act)
	must(t, err)
	return &a.IssuedAt
}

// revoke has a person say, with the key itself, since when it is in other hands.
func (o *operator) revoke(p *person, since time.Time) {
	o.t.Helper()
	o.revokeBy(p, p, &since)
}

// countersign has somebody vouch for the key of another person, before that one decides.
func (o *operator) countersign(p, by *person) {
	o.t.Helper()
	enrolment, err := evidence.ParseAct(o.enrolled[string(p.key.CredentialID)].Enrolment.Act)
	must(o.t, err)
	act, _ := o.act(evidence.Act{Purpose: evidence.Countersign, Workspace: o.workspace, Key: enrolment.Key}, by.name)
	signed := evidence.SignedAct{Act: act, Assertion: by.sign(o.t, act)}
	proof, err := signed.Digest()
	must(o.t, err)
	o.signed = append(slices.Clone(o.signed), signed)
	o.vouched[string(p.key.CredentialID)] = true
	o.add(event{change: &evidence.RosterChange{
		Format: evidence.RosterFormat, Event: evidence.KeyCountersigned, Key: p.key, By: evidence.ByCountersigner, Proof: proof, Signer: digestOf(o.t, by.key), IssuedAt: issued(o.t, act),
	}})
}

// revokeBy revokes a key with a signature by one of the same person, or says of one that was revoked that it was stolen.
func (o *operator) revokeBy(p, by *person, since *time.Time) {
	o.t.Helper()
	about, err := p.key.Digest()
	must(o.t, err)
	signer, err := by.key.Digest()
	must(o.t, err)
	act, _ := o.act(evidence.Act{Purpose: evidence.Revoke, Revocation: &evidence.RevocationDocument{Person: p.key.Person, Key: about, CompromisedSince: since}}, p.name)
	signed := evidence.SignedAct{Act: act, Assertion: by.sign(o.t, act)}
	proof, err := signed.Digest()
	must(o.t, err)
	o.signed = append(slices.Clone(o.signed), signed)
	o.add(event{change: &evidence.RosterChange{
		Format: evidence.RosterFormat, Event: evidence.KeyRemoved, Key: p.key, By: evidence.ByOwnKey, Proof: proof, Signer: signer, IssuedAt: issued(o.t, act), CompromisedSince: since,
	}})
}

// story is an honest history up to the merge: bob approves, carol rejects and takes it back, dave approves.
func (o *operator) story(people ...*person) {
	o.t.Helper()
	o.approved(people...)
	o.landed("landed", "approved")
}

func (o *operator) approved(people ...*person) {
	o.t.Helper()
	bob, carol, dave := people[0], people[1], people[2]
	o.open("old")
	o.decide(bob, evidence.Approve)
	o.open("new")
	o.decide(bob, evidence.Approve)
	o.decide(carol, evidence.Reject)
	o.decide(carol, evidence.Withdraw)
	o.decide(dave, evidence.Approve)
}

// newest is the request that is open.
func (o *operator) newest() *evidence.Request {
	for _, e := range slices.Backward(o.events) {
		if e.request != nil {
			return e.request
		}
	}
	return nil
}

// yes answers the merge check.
func (o *operator) yes() {
	r := o.newest()
	o.say(evidence.MergeChecked{
		Trigger: evidence.TriggerOnMerge, Answer: evidence.AnswerYes, Code: evidence.CheckApproved, Commit: r.HeadCommit, Request: r.ID,
		Destination: evidence.BranchID(o.salt, o.repository, r.DestinationBranch),
	}, true)
}

// landed shows green, answers the merge check and sees the merge.
func (o *operator) landed(name, kind string) {
	o.say(evidence.StatusPaid{Request: o.newest().ID, State: "SUCCESSFUL"}, true)
	o.yes()
	o.say(evidence.Merged{Request: o.newest().ID, Kind: kind, Commit: o.commit(name)}, true)
}

// bundle makes the evidence of the newest request, with a checkpoint that every witness is asked to cosign.
func (o *operator) bundle() []byte {
	o.t.Helper()
	b := o.document()
	data, err := b.Encode()
	must(o.t, err)
	return data
}

func (o *operator) document() evidence.Bundle {
	o.t.Helper()
	r := o.make()
	b := evidence.Bundle{
		Policy: json.RawMessage(o.policy.Canonical()), Requests: r.requests, Decisions: r.decisions, Salt: o.salt, Facts: r.facts, Verdict: r.verdict,
		OutcomeSalt: r.outcome, Genesis: r.entries[0],
	}
	for _, i := range r.chain {
		b.Chain = append(b.Chain, r.entries[i])
	}
	var changes []evidence.RosterChange
	for _, data := range r.roster {
		b.Roster = append(b.Roster, data)
		c, err := evidence.ParseRosterChange(data)
		must(o.t, err)
		changes = append(changes, c)
	}
	var credentials [][]byte
	for _, d := range r.decisions {
		credentials = append(credentials, d.Assertion.CredentialID)
	}
	if roster, err := evidence.ReplayRoster(evidence.LeafDigest(b.Genesis), changes); err == nil {
		behind, acts := roster.Behind(credentials)
		for _, wanted := range acts {
			for _, act := range o.signed {
				if proof, err := act.Digest(); err == nil && proof == wanted.Proof {
					b.SignedActs = append(b.SignedActs, act)
				}
			}
		}
		for _, k := range behind {
			b.Enrolments = append(b.Enrolments, o.enrolled[string(k.Key.CredentialID)])
		}
	}
	o.prove(&b, r)
	return b
}

// policiesOf pins the policies of one repository.
func policiesOf(repository string, digests ...evidence.Digest) []evidence.PinnedPolicies {
	slices.Sort(digests)
	return []evidence.PinnedPolicies{{Repository: repository, Digests: digests}}
}

// anchors are what an auditor pinned, from elsewhere, before anything was forged.
func (o *operator) anchors() evidence.Anchors {
	o.t.Helper()
	r := o.make()
	return evidence.Anchors{
		Log: &evidence.LogAnchor{Origin: logOrigin, Keys: o.keys.Verifiers()}, Witnesses: &evidence.WitnessPolicy{Quorum: len(o.seen), Keys: o.seen.keys()},
		RelyingParties: []evidence.RelyingParty{page}, Genesis: evidence.LeafDigest(r.entries[0]), Roster: r.head(), Policies: policiesOf(o.repository, o.policy.Digest()),
	}
}
