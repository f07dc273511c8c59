package evidence_test

import (
	"cmp"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	formats "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

const logOrigin = "log.approve.example"

// record appends an entry to the log.
func (w *world) record(body evidence.Body, chain *evidence.Chain) []byte {
	w.t.Helper()
	l := evidence.Leaf{Time: w.tick(), Workspace: evidence.WorkspaceID(w.salt, workspaceUUID), Chain: chain, Body: body}
	if w.tamperLeaf != nil {
		w.tamperLeaf(&l)
	}
	entry, err := l.Entry()
	w.must(err)
	w.log = append(w.log, entry)
	return entry
}

// begin writes what every workspace's history starts with: its genesis, and the
// keys of Bob and Carol, known by their log-in, and of Dave, whom Bob vouches for.
func (w *world) begin() {
	w.t.Helper()
	w.genesis = w.record(evidence.Genesis{Salt: approval.DigestOf(w.salt)}, nil)
	w.enrol("bob", nil, nil)
	w.enrol("carol", nil, nil)
	w.enrol("dave", nil, w.token("bob"))
}

func (w *world) token(name string) *token {
	k := w.tokens[name]
	return &k
}

func (w *world) versions() (list []evidence.RosterChange) {
	w.t.Helper()
	for _, data := range w.roster {
		c, err := evidence.ParseRosterChange(data)
		w.must(err)
		list = append(list, c)
	}
	return list
}

// newest is the digest of the newest roster version; nothing without one.
func (w *world) newest() evidence.Digest {
	w.t.Helper()
	if len(w.roster) == 0 {
		return ""
	}
	return approval.DigestOf(w.roster[len(w.roster)-1])
}

func (w *world) party(person string, purpose evidence.Purpose, n int) (evidence.Party, evidence.PersonOpening) {
	w.t.Helper()
	o := evidence.PersonOpening{Salt: seed(fmt.Sprint("act salt ", person, purpose, n)), AccountID: cmp.Or(w.accounts[person], "acc-"+person[len("per-"):]), Name: display(person[len("per-"):])}
	commitment, err := o.Commitment()
	w.must(err)
	return evidence.Party{Person: person, Commitment: commitment}, o
}

// sign makes an act and has it signed.
func (w *world) sign(a evidence.Act, by token) (evidence.SignedAct, evidence.PersonOpening) {
	w.t.Helper()
	var opening evidence.PersonOpening
	a.RPID, a.Origin, a.LogOrigin = rp.ID, rp.Origin, logOrigin
	a.Signer, opening = w.party(by.key.Person, a.Purpose, len(w.roster))
	if a.Workspace != "" {
		a.Roster = w.newest()
	}
	a.Nonce = seed(fmt.Sprint("act nonce ", a.Purpose, len(w.roster)))[:16]
	a.IssuedAt = w.tick()
	a.ExpiresAt = w.now.Add(5 * time.Minute)
	if w.tamperAct != nil {
		w.tamperAct(&a)
	}
	a.Meaning = evidence.ActMeaning(a)
	data, err := a.Canonical()
	w.must(err)
	return evidence.SignedAct{Act: data, Assertion: by.assert(ordinary(data))}, opening
}

func (w *world) change(c evidence.RosterChange) {
	w.t.Helper()
	c.Format, c.Workspace, c.Version, c.Previous = evidence.RosterFormat, workspaceUUID, int64(len(w.roster)+1), w.newest()
	if c.Version == 1 {
		c.Previous = evidence.LeafDigest(w.genesis)
	}
	if w.tamperChange != nil {
		w.tamperChange(&c)
	}
	data, err := c.Canonical()
	w.must(err)
	w.roster = append(w.roster, data)
	w.rosterLeaf = w.record(evidence.RosterVersion{Version: c.Version, Roster: w.newest()}, nil)
}

// enrol brings a person's key into the roster: own is another key of that person
// that signs for it, other one of somebody else.
func (w *world) enrol(name string, own, other *token) {
	w.t.Helper()
	k := w.tokens[name]
	object, clientData := seed("attestation "+name), seed("client data "+name)
	if w.attest != nil {
		object, clientData = w.attest(name)
	}
	document := evidence.KeyDocument{Key: k.key, AttestationObject: approval.DigestOf(object), ClientData: approval.DigestOf(clientData)}
	possession, owner := w.sign(evidence.Act{Purpose: evidence.Enrol, Key: &document}, k)
	e := evidence.EnrolledKey{Owner: &owner, Enrolment: evidence.Enrolment{
		Act: possession.Act, Possession: possession.Assertion, AttestationObject: object, ClientDataJSON: clientData,
	}}
	c := evidence.RosterChange{Event: evidence.KeyAdded, Key: k.key, By: evidence.ByLogIn}
	if own != nil {
		authority := own.assert(ordinary(possession.Act))
		e.Enrolment.Authority, c.By, c.Signer, c.IssuedAt = &authority, evidence.ByOwnKey, digestOfKey(w.t, own.key), issuedAt(w.t, possession.Act)
	}
	if other != nil {
		signed, opening := w.sign(evidence.Act{Purpose: evidence.Countersign, Workspace: workspaceUUID, Key: &document}, *other)
		e.Enrolment.Countersigned, e.Countersigner, c.By, c.Signer = &signed, &opening, evidence.ByCountersigner, digestOfKey(w.t, other.key)
		c.IssuedAt = issuedAt(w.t, signed.Act)
	}
	if w.tamperEnrolment != nil {
		w.tamperEnrolment(&e.Enrolment)
	}
	var err error
	c.Proof, err = e.Enrolment.Digest()
	w.must(err)
	w.enrolled[string(k.key.CredentialID)] = e
	w.change(c)
}

// issuedAt is when an act was issued.
func issuedAt(t interface{ Fatal(...any) }, act []byte) *time.Time {
	a, err := evidence.ParseAct(act)
	if err != nil {
		t.Fatal(err)
	}
	return &a.IssuedAt
}

func digestOfKey(t interface{ Fatal(...any) }, k evidence.Key) evidence.Digest {
	d, err := k.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// prove adds an act to the roster's proofs and makes the change that rests on it.
func (w *world) prove(c evidence.RosterChange, signed evidence.SignedAct) {
	w.t.Helper()
	if w.tamperSigned != nil {
		w.tamperSigned(&signed)
	}
	var err error
	c.Proof, err = signed.Digest()
	w.must(err)
	c.IssuedAt = issuedAt(w.t, signed.Act)
	w.acts[c.Proof] = signed
	w.change(c)
}

// agree has others sign an act too, and says so in the change.
func (w *world) agree(c *evidence.RosterChange, a evidence.Act, others []token) {
	w.t.Helper()
	for _, other := range others {
		signed, _ := w.sign(a, other)
		if w.tamperAgreed != nil {
			w.tamperAgreed(&signed)
		}
		proof, err := signed.Digest()
		w.must(err)
		w.acts[proof] = signed
		c.Agreed = append(c.Agreed, evidence.Agreement{Signer: digestOfKey(w.t, other.key), Proof: proof, IssuedAt: *issuedAt(w.t, signed.Act)})
	}
	slices.SortFunc(c.Agreed, func(a, b evidence.Agreement) int { return cmp.Compare(a.Signer, b.Signer) })
}

// vouch has a person, and others with them, countersign the key of another.
func (w *world) vouch(name string, by token, others ...token) {
	w.t.Helper()
	var act evidence.Act
	act, err := evidence.ParseAct(w.enrolled[string(w.tokens[name].key.CredentialID)].Enrolment.Act)
	w.must(err)
	a := evidence.Act{Purpose: evidence.Countersign, Workspace: workspaceUUID, Key: act.Key}
	c := evidence.RosterChange{Event: evidence.KeyCountersigned, Key: w.tokens[name].key, By: evidence.ByCountersigner, Signer: digestOfKey(w.t, by.key)}
	signed, _ := w.sign(a, by)
	w.agree(&c, a, others)
	w.prove(c, signed)
}

// revoke takes a key out of the roster, by nobody's signature if by is nil.
func (w *world) revoke(name string, by *token, since *time.Time, others ...token) {
	w.t.Helper()
	k := w.tokens[name].key
	c := evidence.RosterChange{Event: evidence.KeyRemoved, Key: k, By: evidence.ByOperator, CompromisedSince: since}
	if by == nil {
		w.change(c)
		return
	}
	a := evidence.Act{Purpose: evidence.Revoke, Revocation: &evidence.RevocationDocument{Person: k.Person, Key: digestOfKey(w.t, k), CompromisedSince: since}}
	c.By, c.Signer = evidence.ByOwnKey, digestOfKey(w.t, by.key)
	if by.key.Person != k.Person {
		c.By, a.Workspace = evidence.ByCountersigner, workspaceUUID
	}
	signed, _ := w.sign(a, *by)
	w.agree(&c, a, others)
	w.prove(c, signed)
}

// tree returns the stored hashes of the log.
func (w *world) tree() tlog.HashReader {
	w.t.Helper()
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(places []int64) ([]tlog.Hash, error) {
		list := make([]tlog.Hash, len(places))
		for i, place := range places {
			list[i] = stored[place]
		}
		return list, nil
	})
	for i, entry := range w.log {
		hashes, err := tlog.StoredHashes(int64(i), entry, reader)
		w.must(err)
		stored = append(stored, hashes...)
	}
	return reader
}

// publish makes the log as it is what the next signer is shown.
func (w *world) publish() {
	w.t.Helper()
	size := int64(len(w.log))
	root, err := tlog.TreeHash(size, w.tree())
	w.must(err)
	w.head = evidence.LogHead{Size: size, Root: evidence.Digest(fmt.Sprintf("%x", root[:]))}
}

// noteKey returns a signer and verifier key that are the same in every run.
func (w *world) noteKey(name string) (private ed25519.PrivateKey, verifier string) {
	w.t.Helper()
	private = ed25519.NewKeyFromSeed(seed("note key " + name))
	verifier, err := note.NewEd25519VerifierKey(name, private.Public().(ed25519.PublicKey))
	w.must(err)
	return private, verifier
}

// witnessKey returns the verifier key of a witness, under another name if one is given.
func (w *world) witnessKey(name string, called ...string) string {
	w.t.Helper()
	private, _ := w.noteKey(name)
	if len(called) > 0 {
		name = called[0]
	}
	key, err := note.NewEd25519VerifierKey(name, private.Public().(ed25519.PublicKey))
	w.must(err)
	key, err = formats.VKeyToCosignatureV1(key)
	w.must(err)
	return key
}

// signature is a line of a signed note.
func signature(name string, algorithm byte, key ed25519.PrivateKey, before, message []byte) string {
	hash := sha256.Sum256(append(append([]byte(name+"\n"), algorithm), key.Public().(ed25519.PublicKey)...))
	return "— " + name + " " + base64.StdEncoding.EncodeToString(append(append(hash[:4:4], before...), ed25519.Sign(key, message)...)) + "\n"
}

// checkpoint returns the signed note of the log as it is, cosigned by witnesses.
func (w *world) checkpoint(witnesses ...string) string {
	w.t.Helper()
	root, err := tlog.TreeHash(int64(len(w.log)), w.tree())
	w.must(err)
	text := fmt.Sprintf("%s\n%d\n%s\n", logOrigin, len(w.log), base64.StdEncoding.EncodeToString(root[:]))
	if w.tamperCheckpoint != nil {
		text = w.tamperCheckpoint(text)
	}
	key, _ := w.noteKey(logOrigin)
	signed := text + "\n" + signature(logOrigin, 1, key, nil, []byte(text))
	for _, name := range witnesses {
		key, _ := w.noteKey(name)
		at := w.now.Unix()
		signed += signature(name, 4, key, binary.BigEndian.AppendUint64(nil, uint64(at)), []byte(fmt.Sprintf("cosignature/v1\ntime %d\n%s", at, text)))
	}
	return signed
}

func (w *world) place(entry []byte) evidence.Inclusion {
	w.t.Helper()
	for i, e := range w.log {
		if string(e) == string(entry) {
			proof, err := tlog.ProveRecord(int64(len(w.log)), int64(i), w.tree())
			w.must(err)
			return evidence.Inclusion{Index: int64(i), Proof: evidence.ProofOf(proof)}
		}
	}
	w.t.Fatal("the log does not have the entry")
	return evidence.Inclusion{}
}

// prove fills in what a bundle says of roster and log.
func (w *world) fill(b *evidence.Bundle) {
	w.t.Helper()
	b.Genesis = w.genesis
	var credentials [][]byte
	for _, d := range b.Decisions {
		credentials = append(credentials, d.Assertion.CredentialID)
	}
	for _, data := range w.roster {
		b.Roster = append(b.Roster, json.RawMessage(data))
	}
	if roster, err := evidence.ReplayRoster(evidence.LeafDigest(w.genesis), w.versions()); err == nil {
		keys, acts := roster.Behind(credentials)
		for _, k := range keys {
			b.Enrolments = append(b.Enrolments, w.enrolled[string(k.Key.CredentialID)])
		}
		for _, c := range acts {
			b.SignedActs = append(b.SignedActs, w.acts[c.Proof])
		}
	}
	proof := evidence.LogProof{Checkpoint: w.checkpoint("witness.example/1", "witness.example/2"), Genesis: w.place(w.genesis)}
	if len(w.roster) > 0 || w.orphan {
		proof.Roster = &evidence.IncludedLeaf{Entry: w.rosterLeaf, Inclusion: w.place(w.rosterLeaf)}
	}
	for _, entry := range b.Chain {
		proof.Chain = append(proof.Chain, w.place(entry))
	}
	seen := map[int64]bool{}
	for _, d := range b.Decisions {
		s, err := evidence.ParseStatement(d.Statement)
		w.must(err)
		size := s.LogHead.Size
		if size == 0 || seen[size] || size > int64(len(w.log)) {
			continue
		}
		seen[size] = true
		heads, err := tlog.ProveTree(int64(len(w.log)), size, w.tree())
		w.must(err)
		root, err := hex.DecodeString(string(s.LogHead.Root))
		w.must(err)
		proof.Heads = append(proof.Heads, evidence.Consistency{Size: size, Root: root, Proof: evidence.ProofOf(heads)})
	}
	b.Log = proof
}
