package evidence

import (
	"bytes"
	"slices"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
)

// RosterFormat names this version of a [RosterChange].
const RosterFormat = "signedapproval.roster/v1"

// MaxRosterChange is the limit of a roster change in bytes.
const MaxRosterChange = 16 << 10

// RosterEvent is what a roster change does.
type RosterEvent string

// The events of a roster.
const (
	// KeyAdded: a key counts from this version on.
	KeyAdded RosterEvent = "enrolled"
	// KeyCountersigned: somebody else vouched for a key that is in the roster.
	KeyCountersigned RosterEvent = "countersigned"
	// KeyRemoved: a key makes no new decision from this version on.
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
	ByCountersigner Identity = "countersigner"
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
	// CompromisedSince, only in a signed revocation, is since when decisions by
	// the key do not count. In UTC and whole seconds.
	CompromisedSince *time.Time `json:"compromisedSince,omitempty"`
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
	if err := c.check(); err != nil {
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
	var c RosterChange
	if err := parse(data, &c, MaxRosterChange); err != nil {
		return RosterChange{}, err
	}
	if c.Format != RosterFormat {
		return RosterChange{}, refuse(CodeInvalid, "format must be %s", RosterFormat)
	}
	return c, c.check()
}

func (c RosterChange) check() error {
	by := map[RosterEvent][]Identity{
		KeyAdded: {ByLogIn, ByOwnKey, ByCountersigner}, KeyCountersigned: {ByCountersigner}, KeyRemoved: {ByOperator, ByOwnKey, ByCountersigner},
	}
	switch {
	case !uuidForm.MatchString(c.Workspace), c.Version < 1 || c.Version >= maxSafe, !c.Previous.Valid():
		return refuse(CodeInvalid, "a roster change needs a workspace, a version from 1 and the version before")
	case !slices.Contains(by[c.Event], c.By), (c.By == ByOperator) != (c.Proof == ""), c.Proof != "" && !c.Proof.Valid():
		return refuse(CodeInvalid, "a roster change needs an event, on what it rests, and the proof of that")
	case c.CompromisedSince != nil && (c.Event != KeyRemoved || c.By == ByOperator || !wholeSecond(*c.CompromisedSince)):
		return refuse(CodeInvalid, "only a signed revocation says since when a key was compromised, in UTC and whole seconds")
	}
	return c.Key.check()
}

// RosterKey is a key with what the roster knows of it.
type RosterKey struct {
	Key Key
	// By is the strongest identity that stands for it.
	By Identity
	// Added is the version that added the key, Removed the one that revoked it, 0
	// if none did.
	Added, Removed int64
	// Proof is the digest of its [Enrolment].
	Proof Digest
	// CompromisedSince is nil unless its revocation says so.
	CompromisedSince *time.Time
}

// Roster is a workspace's roster with its whole history.
type Roster struct {
	// Workspace is the workspace's UUID in braces.
	Workspace string
	versions  []Digest // of version 1, 2, …
	keys      []RosterKey
}

// ReplayRoster reads the changes of a workspace's roster from the first on. The
// chain must start at the genesis leaf, whose hash is genesis, and have no gap;
// a key is added once for ever, and a public key or credential id stands for one
// person. It does not check the proofs.
func ReplayRoster(genesis Digest, changes []RosterChange) (*Roster, error) {
	r := &Roster{}
	previous := genesis
	for i, c := range changes {
		if c.Version != int64(i+1) || c.Previous != previous || i > 0 && c.Workspace != r.Workspace {
			return nil, refuse(CodeRoster, "version %d of the roster does not follow the one before", i+1)
		}
		r.Workspace = c.Workspace
		if err := r.apply(c); err != nil {
			return nil, err
		}
		var err error
		if previous, err = c.Digest(); err != nil {
			return nil, err
		}
		r.versions = append(r.versions, previous)
	}
	return r, nil
}

func (r *Roster) apply(c RosterChange) error {
	at := slices.IndexFunc(r.keys, func(k RosterKey) bool {
		return bytes.Equal(k.Key.PublicKey, c.Key.PublicKey) || bytes.Equal(k.Key.CredentialID, c.Key.CredentialID)
	})
	if c.Event == KeyAdded {
		if at >= 0 {
			return refuse(CodeRoster, "version %d of the roster adds a key that was there before", c.Version)
		}
		r.keys = append(r.keys, RosterKey{Key: c.Key, By: c.By, Added: c.Version, Proof: c.Proof})
		return nil
	}
	if at < 0 || !r.keys[at].Key.Equal(c.Key) {
		return refuse(CodeRoster, "version %d of the roster is about a key that is not in it", c.Version)
	}
	key := &r.keys[at]
	switch {
	case key.Removed != 0:
		return refuse(CodeRoster, "version %d of the roster is about a key that was revoked", c.Version)
	case c.Event == KeyCountersigned:
		key.By = ByCountersigner
	default:
		key.Removed, key.CompromisedSince = c.Version, c.CompromisedSince
	}
	return nil
}

// Equal reports whether two keys are the same in every part.
func (k Key) Equal(other Key) bool {
	return k.Person == other.Person && k.BackupEligible == other.BackupEligible &&
		bytes.Equal(k.CredentialID, other.CredentialID) && bytes.Equal(k.PublicKey, other.PublicKey)
}

// Versions returns how many versions the roster has.
func (r *Roster) Versions() int64 { return int64(len(r.versions)) }

// Digest returns the digest of a version; empty for one that it does not have.
func (r *Roster) Digest(version int64) Digest {
	if version < 1 || version > r.Versions() {
		return ""
	}
	return r.versions[version-1]
}

// VersionOf returns the version that a digest names.
func (r *Roster) VersionOf(d Digest) (int64, bool) {
	i := slices.Index(r.versions, d)
	return int64(i + 1), i >= 0
}

// Keys returns every key that ever was in the roster, in the order in which
// they were added.
func (r *Roster) Keys() []RosterKey { return slices.Clone(r.keys) }

// LiveAt returns the keys that make decisions at a version.
func (r *Roster) LiveAt(version int64) []RosterKey {
	return slices.DeleteFunc(r.Keys(), func(k RosterKey) bool {
		return k.Added > version || k.Removed != 0 && k.Removed <= version
	})
}
