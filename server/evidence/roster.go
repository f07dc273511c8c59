package evidence

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
)

// RosterFormat names this version of a [RosterChange].
const RosterFormat = "signedapproval.roster/v1"

// MaxRosterChange is the limit of a roster change in bytes.
const MaxRosterChange = 16 << 10

// minRosterChange is less than what any change has.
const minRosterChange = 256

// RosterEvent is what a roster change does.
type RosterEvent string

// The events of a roster.
const (
	// KeyAdded: a key counts from this version on.
	KeyAdded RosterEvent = "enrolled"
	// KeyCountersigned: somebody else vouched for a key that is in the roster.
	KeyCountersigned RosterEvent = "countersigned"
	// KeyRemoved: a key makes no new decision from this version on, or one that makes none was in
	// other hands since an earlier time than was known.
	KeyRemoved RosterEvent = "revoked"
)

// Identity says by what it is known that a key is a person's, or on whose word
// it was revoked.
type Identity string

// The identities, from the weakest to the strongest.
const (
	// ByOperator: a revocation that nobody signed.
	ByOperator Identity = "operator"
	// ByLogIn: the person was signed in with Bitbucket, as the operator says.
	ByLogIn Identity = "bitbucket-login"
	// ByOwnKey: a key of the same person that counted at the time signed for it.
	ByOwnKey Identity = "own-key"
	// ByCountersigner: a key of somebody else in the roster signed for it.
	ByCountersigner Identity = approval.Countersigned
	// Disowned: a key of somebody else did, and may have been in other hands. No change of a
	// roster has it, see [Roster.IdentityAt].
	Disowned Identity = approval.Disowned
)

// RosterChange is one version of a workspace's roster, told as what it changes.
// Its digest, which covers all versions before it, names the version.
type RosterChange struct {
	// Format is always [RosterFormat].
	Format string `json:"format"`
	// Workspace is the workspace's UUID in braces.
	Workspace string `json:"workspace"`
	// Version counts from 1.
	Version int64 `json:"version"`
	// Previous is the digest of the version before, and for the first the leaf
	// hash of the workspace's genesis.
	Previous Digest `json:"previous"`
	// Event is enrolled, countersigned or revoked.
	Event RosterEvent `json:"event"`
	// Key is the key that it is about.
	Key Key `json:"key"`
	// By says on what the change rests.
	By Identity `json:"by"`
	// Proof is the digest of the [Enrolment], or of the [SignedAct] that
	// countersigns or revokes; absent in a revocation by the operator.
	Proof Digest `json:"proof,omitempty"`
	// Signer is [Key.Digest] of the rostered key whose signature the change rests
	// on: the person's own with own-key, somebody else's with countersigner; absent
	// otherwise.
	Signer Digest `json:"signer,omitempty"`
	// IssuedAt, there exactly with Signer, is when the act was issued that Signer
	// signed. In UTC and whole seconds.
	IssuedAt *time.Time `json:"issuedAt,omitempty"`
	// Agreed, only with countersigner, are the further people who signed the same,
	// one act of each: where the workspace is protected, a quorum of those who
	// protect it stands behind a change that is not the person's own. Ascending by
	// Signer.
	Agreed []Agreement `json:"agreed,omitempty"`
	// CompromisedSince, only in a signed revocation, is since when nothing that the
	// key signed counts: neither its decisions nor, as [Roster.Stands] has it, the
	// keys that it signed for. In UTC and whole seconds.
	CompromisedSince *time.Time `json:"compromisedSince,omitempty"`
}

// Agreement is what one more person signed for a [RosterChange].
type Agreement struct {
	// Signer is [Key.Digest] of the rostered key that signed.
	Signer Digest `json:"signer"`
	// Proof is the digest of the [SignedAct].
	Proof Digest `json:"proof"`
	// IssuedAt is when the act was issued, in UTC and whole seconds: by that it is
	// judged whether Signer was in other hands.
	IssuedAt time.Time `json:"issuedAt"`
}

// SignedAct is an act with the assertion over it.
type SignedAct struct {
	// Act is the bytes that were signed.
	Act       Bytes     `json:"act"`
	Assertion Assertion `json:"assertion"`
}

// Digest returns the SHA-256 hash of the signed act's canonical form.
func (s SignedAct) Digest() (Digest, error) { return digest(s) }

// Enrolment is everything that proves a key's way into the roster, but for the
// commitments' openings, which can be erased.
type Enrolment struct {
	// Act is the enrol act, signed by the new key itself.
	Act        Bytes     `json:"act"`
	Possession Assertion `json:"possession"`
	// Authority is the assertion of another key of the same person over the same
	// act; absent for a first key and for a recovery.
	Authority *Assertion `json:"authority,omitempty"`
	// Countersigned is the act of somebody else who vouched for the key before it
	// counted; absent otherwise.
	Countersigned *SignedAct `json:"countersigned,omitempty"`
	// AttestationObject and ClientDataJSON are what the authenticator and the
	// browser returned when the key was made, whole.
	AttestationObject Bytes `json:"attestationObject"`
	ClientDataJSON    Bytes `json:"clientDataJSON"`
}

// Digest returns the SHA-256 hash of the enrolment's canonical form.
func (e Enrolment) Digest() (Digest, error) { return digest(e) }

// IdentifiedBy returns on what the enrolment rests, without checking it.
func (e Enrolment) IdentifiedBy() Identity {
	switch {
	case e.Countersigned != nil:
		return ByCountersigner
	case e.Authority != nil:
		return ByOwnKey
	}
	return ByLogIn
}

// Canonical checks the form of the change and returns its bytes.
func (c RosterChange) Canonical() ([]byte, error) {
	c.Format = RosterFormat
	if _, err := c.check(); err != nil {
		return nil, err
	}
	return canonical(c, MaxRosterChange)
}

// Digest returns the SHA-256 hash of the change's bytes, which names the
// version.
func (c RosterChange) Digest() (Digest, error) {
	data, err := c.Canonical()
	if err != nil {
		return "", err
	}
	return approval.DigestOf(data), nil
}

// ParseRosterChange reads a change's bytes. It accepts exactly what
// [RosterChange.Canonical] writes.
func ParseRosterChange(data []byte) (RosterChange, error) {
	read, err := readChange(data)
	if err != nil {
		return RosterChange{}, err
	}
	return read.RosterChange, nil
}

// rosterVersion is a change with what follows from it.
type rosterVersion struct {
	RosterChange
	digest Digest
	key    Digest // of its key
	public publicKey

	// change and about are the bytes of the change and of its key as they were read, which
	// are their one form: what is hashed need not be written again. Nil afterwards.
	change, about []byte
}

// RosterDocuments are a roster's changes from the first on, each as [RosterChange.Canonical]
// writes it.
type RosterDocuments []json.RawMessage

func readChange(data []byte) (*rosterVersion, error) {
	c := new(rosterVersion)
	if err := parse(data, c, MaxRosterChange); err != nil {
		return nil, err
	}
	return c, c.settle()
}

// settle checks a change that was read, and works out what follows from it.
func (c *rosterVersion) settle() (err error) {
	if c.Format != RosterFormat {
		return refuse(CodeInvalid, "format must be %s", RosterFormat)
	}
	c.public, err = c.check()
	c.digest, c.key = approval.DigestOf(c.change), approval.DigestOf(c.about)
	c.change, c.about = nil, nil
	return err
}

// restsOn is on what a change can rest, by its event.
var restsOn = map[RosterEvent][]Identity{
	KeyAdded: {ByLogIn, ByOwnKey, ByCountersigner}, KeyCountersigned: {ByCountersigner}, KeyRemoved: {ByOperator, ByOwnKey, ByCountersigner},
}

// check makes sure that the change has its form, and reads its key.
func (c *RosterChange) check() (publicKey, error) {
	switch {
	case !uuidForm.MatchString(c.Workspace), c.Version < 1 || c.Version >= maxSafe, !c.Previous.Valid():
		return publicKey{}, refuse(CodeInvalid, "a roster change needs a workspace, a version from 1 and the version before")
	case !slices.Contains(restsOn[c.Event], c.By), (c.By == ByOperator) != (c.Proof == ""), c.Proof != "" && !c.Proof.Valid():
		return publicKey{}, refuse(CodeInvalid, "a roster change needs an event, on what it rests, and the proof of that")
	case (c.By == ByOwnKey || c.By == ByCountersigner) != (c.Signer != ""), c.Signer != "" && !c.Signer.Valid():
		return publicKey{}, refuse(CodeInvalid, "a roster change names the key that signed for it exactly where one did")
	case (c.Signer != "") != (c.IssuedAt != nil), c.IssuedAt != nil && !wholeSecond(*c.IssuedAt):
		return publicKey{}, refuse(CodeInvalid, "a roster change says when its signer was asked exactly where one signed, in UTC and whole seconds")
	case !agreements(c.Agreed) || len(c.Agreed) > 0 && c.By != ByCountersigner:
		return publicKey{}, refuse(CodeInvalid, "only a change that somebody else signed for names others who agreed, each key once, ascending, and when they were asked")
	case c.CompromisedSince != nil && (c.Event != KeyRemoved || c.By == ByOperator || !wholeSecond(*c.CompromisedSince)):
		return publicKey{}, refuse(CodeInvalid, "only a signed revocation says since when a key was compromised, in UTC and whole seconds")
	}
	return c.Key.check()
}

// agreements reports whether each of a list names a key, an act and its time, in the order of the keys and no key twice.
func agreements(list []Agreement) bool {
	for i, a := range list {
		if !a.Signer.Valid() || !a.Proof.Valid() || !wholeSecond(a.IssuedAt) || i > 0 && a.Signer <= list[i-1].Signer {
			return false
		}
	}
	return len(list) < MaxProtectors
}

// RosterKey is a key with what the roster knows of it.
type RosterKey struct {
	Key Key
	// Digest is [Key.Digest].
	Digest Digest
	// By is the strongest identity that stands for it.
	By Identity
	// Added is the version that added the key, Countersigned the one from which on
	// somebody else vouches for it, Removed the one that revoked it; 0 if none did.
	Added, Countersigned, Removed int64
	// Proof is the digest of its [Enrolment], Signer that of the key that signed
	// for it when it was added; empty if none did.
	Proof, Signer Digest
	// CompromisedSince is nil unless a revocation says so; the earliest of several.
	CompromisedSince *time.Time

	public publicKey
	word   *word  // with which it was added; nil for a log-in
	others []word // of those who countersigned it, in the order of the roster
}

// LiveAt reports whether the key makes decisions at a version.
func (k RosterKey) LiveAt(version int64) bool {
	return k.Added != 0 && k.Added <= version && (k.Removed == 0 || k.Removed > version)
}

// Worse reports whether it says more of the key that it was in other hands since a
// time, nil where nobody says so: nobody said that before, or of a later time. Only
// that can still be said of a key that was revoked: else whoever revokes a stolen key
// first, as who stole it can, would keep what it signed.
func (k RosterKey) Worse(since *time.Time) bool {
	return since != nil && (k.CompromisedSince == nil || since.Before(*k.CompromisedSince))
}

// Roster is a workspace's roster with its whole history.
type Roster struct {
	// Workspace is the workspace's UUID in braces; empty without a version.
	Workspace string

	head    Digest // of the newest version; before the first, of the genesis leaf
	changes []*rosterVersion
	about   []int // the key of each change, as an index in keys
	keys    []RosterKey
	stands  []bool // of each of keys, when all changes are known
	doubted bool   // a change since stands was found out says that a key was in other hands

	byVersion map[Digest]int64

	byDigest     map[Digest]int // index in keys
	byCredential map[string]int
	byPublic     map[string]int  // by [publicKey].id
	people       map[string]bool // who has a key, or had one
}

// ReplayRoster reads the changes of a workspace's roster from the first on. The
// chain must start at the genesis leaf, whose hash is genesis, and have no gap.
// A key is added once for ever, and a public key or credential id stands for one
// person; who signs for a change must have a live key at that time and be the
// person, or somebody else, as the change says; and only a person's first key
// rests on a log-in alone, though none of theirs be live any more. It does not
// check the proofs.
func ReplayRoster(genesis Digest, changes []RosterChange) (*Roster, error) {
	r := newRoster(genesis, len(changes))
	if err := r.Extend(changes); err != nil {
		return nil, err
	}
	return r, nil
}

func newRoster(genesis Digest, size int) *Roster {
	return &Roster{
		head: genesis, changes: make([]*rosterVersion, 0, size), about: make([]int, 0, size), keys: make([]RosterKey, 0, size),
		byVersion: make(map[Digest]int64, size), byDigest: make(map[Digest]int, size), byCredential: make(map[string]int, size), byPublic: make(map[string]int, size),
		people: make(map[string]bool, size),
	}
}

// Extend reads the changes that come next, under the rules of [ReplayRoster]. With
// an error those before the one that is refused are in the roster, and neither it
// nor what comes after it. Nothing may read the roster meanwhile.
func (r *Roster) Extend(changes []RosterChange) error {
	defer r.judge()
	for _, c := range changes {
		data, err := c.Canonical()
		if err != nil {
			return err
		}
		read, err := readChange(data)
		if err == nil {
			err = r.next(read)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// replayRoster reads a roster from the bytes of its changes, of which those in read were
// read already; the others are nil there. A list of rubbish can be
// much longer than one of changes with as many bytes, so room is made by the bytes.
func replayRoster(genesis Digest, documents RosterDocuments, read []*rosterVersion) (*Roster, error) {
	bytes := 0
	for _, data := range documents {
		bytes += len(data)
	}
	r := newRoster(genesis, min(len(documents), bytes/minRosterChange))
	for i, c := range read {
		var err error
		if c != nil {
			err = c.settle()
		} else {
			c, err = readChange(documents[i])
		}
		if err != nil {
			return nil, refuse(CodeOf(err), "version %d of the roster: %s", i+1, err.Error())
		}
		if err := r.next(c); err != nil {
			return nil, err
		}
	}
	r.judge()
	return r, nil
}

// next reads one change, or leaves the roster as it is.
func (r *Roster) next(c *rosterVersion) error {
	if c.Version != r.Versions()+1 || c.Previous != r.head || len(r.changes) > 0 && c.Workspace != r.Workspace {
		return refuse(CodeRoster, "version %d of the roster does not follow the one before", r.Versions()+1)
	}
	if err := r.apply(c); err != nil {
		return err
	}
	r.Workspace, r.head, r.changes = c.Workspace, c.digest, append(r.changes, c)
	r.byVersion[c.digest] = c.Version
	return nil
}

func (r *Roster) apply(c *rosterVersion) error {
	bad := func(what string) error { return refuse(CodeRoster, "version %d of the roster %s", c.Version, what) }
	if c.Signer != "" {
		signer, ok := r.byDigest[c.Signer]
		if !ok || !r.keys[signer].LiveAt(c.Version-1) {
			return bad("is signed for by a key that does not count")
		}
		if own := r.keys[signer].Key.Person == c.Key.Person; own != (c.By == ByOwnKey) {
			return bad("is signed for by somebody else than it says")
		}
		if len(c.Agreed) > 0 && !r.agree(c, r.keys[signer].Key.Person) {
			return bad("names somebody who agreed and could not, or did so twice")
		}
	}
	if c.Event == KeyAdded {
		_, credential := r.byCredential[string(c.Key.CredentialID)]
		if _, known := r.byPublic[c.public.id]; known || credential {
			return bad("adds a key that was there before")
		}
		if c.By == ByLogIn && r.people[c.Key.Person] {
			return bad("adds, on a log-in alone, a key of somebody who had one")
		}
		r.people[c.Key.Person] = true
		n := len(r.keys)
		r.byDigest[c.key], r.byCredential[string(c.Key.CredentialID)], r.byPublic[c.public.id] = n, n, n
		key := RosterKey{Key: c.Key, Digest: c.key, By: c.By, Added: c.Version, Proof: c.Proof, Signer: c.Signer, public: c.public}
		if c.Signer != "" {
			key.word = c.word()
		}
		if c.By == ByCountersigner {
			key.Countersigned, key.others = c.Version, []word{*key.word}
		}
		r.keys, r.about = append(r.keys, key), append(r.about, n)
		return nil
	}
	at, ok := r.byDigest[c.key]
	if !ok {
		return bad("is about a key that is not in it")
	}
	key := &r.keys[at]
	switch {
	case key.Removed != 0 && (c.Event != KeyRemoved || !key.Worse(c.CompromisedSince)):
		return bad("is about a key that was revoked, and does not say that it was in other hands since an earlier time")
	case c.Event == KeyRemoved:
		if key.Removed == 0 {
			key.Removed = c.Version
		}
		key.CompromisedSince = c.CompromisedSince
		r.doubted = r.doubted || c.CompromisedSince != nil
	default:
		if key.Countersigned == 0 {
			key.By, key.Countersigned = ByCountersigner, c.Version
		}
		key.others = append(key.others, *c.word())
	}
	r.about = append(r.about, at)
	return nil
}

// agree reports whether those who agreed to a change besides its first signer
// could: each is another person, none the key's own, with a key that counts.
func (r *Roster) agree(c *rosterVersion, first string) bool {
	people := map[string]bool{c.Key.Person: true, first: true}
	for _, a := range c.Agreed {
		at, ok := r.byDigest[a.Signer]
		if !ok || !r.keys[at].LiveAt(c.Version-1) || people[r.keys[at].Key.Person] {
			return false
		}
		people[r.keys[at].Key.Person] = true
	}
	return true
}

// Equal reports whether two keys are the same in every part.
func (k Key) Equal(other Key) bool {
	return k.Person == other.Person && k.BackupEligible == other.BackupEligible &&
		bytes.Equal(k.CredentialID, other.CredentialID) && bytes.Equal(k.PublicKey, other.PublicKey)
}

// Versions returns how many versions the roster has.
func (r *Roster) Versions() int64 { return int64(len(r.changes)) }

// Change returns the change that made a version; false for one that it does not
// have.
func (r *Roster) Change(version int64) (RosterChange, bool) {
	if version < 1 || version > r.Versions() {
		return RosterChange{}, false
	}
	return r.changes[version-1].RosterChange, true
}

// Digest returns the digest of a version; empty for one that it does not have.
func (r *Roster) Digest(version int64) Digest {
	if version < 1 || version > r.Versions() {
		return ""
	}
	return r.changes[version-1].digest
}

// VersionOf returns the version that a digest names.
func (r *Roster) VersionOf(d Digest) (int64, bool) {
	version, ok := r.byVersion[d]
	return version, ok
}

// Keys returns every key that ever was in the roster, in the order in which
// they were added.
func (r *Roster) Keys() []RosterKey { return slices.Clone(r.keys) }

// LiveAt returns the keys that make decisions at a version.
func (r *Roster) LiveAt(version int64) []RosterKey {
	return slices.DeleteFunc(r.Keys(), func(k RosterKey) bool { return !k.LiveAt(version) })
}

// Key returns the key with a credential id, or false if the roster never had it.
func (r *Roster) Key(credential []byte) (RosterKey, bool) {
	i, ok := r.byCredential[string(credential)]
	if !ok {
		return RosterKey{}, false
	}
	return r.keys[i], true
}

// RosterAct is a [SignedAct] that a change of the roster rests on.
type RosterAct struct {
	Change RosterChange
	// Agreement names the act and the key that signed it: the change's own proof
	// and signer, or those of one who agreed.
	Agreement
}

// first is the act of who signed first.
func (c RosterChange) first() RosterAct {
	return RosterAct{c, Agreement{c.Signer, c.Proof, *c.IssuedAt}}
}

// Behind returns what a bundle has to hold about the keys with these credential
// ids: those keys and all keys that signed for them, directly or through others,
// in the order of the roster, and the acts that the changes about them rest on:
// of each change, but one that adds a key, its proof, and then those who agreed.
// Credentials that are not in the roster are left out.
func (r *Roster) Behind(credentials [][]byte) (keys []RosterKey, acts []RosterAct) {
	// Of each key the number of the last change about it, counted from 1, and of each change that of
	// the one before about its key.
	last, before := make([]int, len(r.keys)), make([]int, len(r.changes))
	for i, at := range r.about {
		before[i], last[at] = last[at], i+1
	}
	wanted := make([]bool, len(r.keys))
	var open []int // wanted, and who signed for it is not yet
	want := func(at int) {
		if !wanted[at] {
			wanted[at], open = true, append(open, at)
		}
	}
	for _, credential := range credentials {
		if i, ok := r.byCredential[string(credential)]; ok {
			want(i)
		}
	}
	for len(open) > 0 {
		at := open[len(open)-1]
		open = open[:len(open)-1]
		for n := last[at]; n > 0; n = before[n-1] {
			c := r.changes[n-1]
			if c.Signer == "" {
				continue
			}
			want(r.byDigest[c.Signer])
			for _, a := range c.Agreed {
				want(r.byDigest[a.Signer])
			}
		}
	}
	for i, c := range r.changes {
		if !wanted[r.about[i]] {
			continue
		}
		if c.Event != KeyAdded && c.Signer != "" {
			acts = append(acts, c.first())
		}
		for _, a := range c.Agreed {
			acts = append(acts, RosterAct{c.RosterChange, a})
		}
	}
	for i, k := range r.keys {
		if wanted[i] {
			keys = append(keys, k)
		}
	}
	return keys, acts
}
