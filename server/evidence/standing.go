package evidence

import (
	"slices"
	"time"
)

// InOtherHands reports whether a key that is compromised since a time, nil where
// nobody says so, may have been in other hands at another time.
func InOtherHands(since *time.Time, at time.Time) bool { return since != nil && !at.Before(*since) }

// word is what was signed for a key: by one, or where the workspace is protected by
// all of a quorum.
type word struct {
	version int64       // of the roster
	acts    []Agreement // of the signer, and of those who agreed
}

// word is what a change says for its key; it has a signer.
func (c RosterChange) word() *word {
	return &word{c.Version, append([]Agreement{c.first().Agreement}, c.Agreed...)}
}

// signer is whose word it is.
func (w word) signer() Digest { return w.acts[0].Signer }

// holds reports whether what was signed for a key counts: everybody who signed
// stands, and was in its owner's hands.
func (r *Roster) holds(w word) bool {
	for _, act := range w.acts {
		if r.Compromised(r.keys[r.byDigest[act.Signer]], act.IssuedAt) {
			return false
		}
	}
	return true
}

// Stands reports whether a key is to be believed to be its person's, by all that
// the roster says: it came in by a log-in, or by the signature of a key that
// stands and was not in other hands when it signed; where a quorum signed, by each
// of its keys. What a key in other hands
// authorised counts for nothing, and what that authorised neither, from the
// beginning and for good; a countersignature that comes later does not mend it.
//
// Only trust is taken back in this way. A revocation holds whatever becomes of
// the key that signed it: else two keys could each take back what the other one
// said, and no order of judging them would be right.
func (r *Roster) Stands(k RosterKey) bool {
	i, known := r.byDigest[k.Digest]
	return known && r.stands[i]
}

// FellWith returns the key that was in other hands and signed for a key that does not
// stand, or for one that this goes back to: the first of several, in the order in which
// they signed. It returns false for a key that stands.
func (r *Roster) FellWith(k RosterKey) (RosterKey, bool) {
	for k.word != nil && !r.Stands(k) {
		next := RosterKey{}
		for _, act := range k.word.acts {
			signer := r.keys[r.byDigest[act.Signer]]
			if InOtherHands(signer.CompromisedSince, act.IssuedAt) {
				return signer, true
			}
			if next.word == nil && !r.Stands(signer) {
				next = signer
			}
		}
		k = next // which was added earlier, so this ends
	}
	return RosterKey{}, false
}

// judge finds out which keys stand: those that were added since it last did, and all where a key is said
// to have been in other hands. It goes in the order in which they were added: who signed for a key was
// there before it. Each is looked at once, since quorums that sign for one another in turn make as many
// ways back as a Fibonacci number has.
func (r *Roster) judge() {
	if r.doubted {
		r.stands, r.doubted = r.stands[:0], false
	}
	for _, k := range r.keys[len(r.stands):] {
		r.stands = append(r.stands, k.word == nil || r.holds(*k.word))
	}
}

// Compromised reports whether what a key signed at a time counts for nothing: it
// may have been in other hands by then, or does not stand.
func (r *Roster) Compromised(k RosterKey, at time.Time) bool {
	return InOtherHands(k.CompromisedSince, at) || !r.Stands(k)
}

// Supposing returns the roster as it judges once it tells of the keys with these
// credential ids that they were in other hands since the times. A key that it does
// not have, or of which it says worse already, stays as it is.
func (r *Roster) Supposing(since map[string]time.Time) *Roster {
	supposed := *r
	supposed.keys, supposed.stands = slices.Clone(r.keys), nil
	for credential, at := range since {
		if i, known := r.byCredential[credential]; known && r.keys[i].Worse(&at) {
			supposed.keys[i].CompromisedSince = &at
		}
	}
	supposed.judge()
	return &supposed
}

// IdentityAt returns by what a key was known at a version: countersigner where
// somebody else had vouched for it, or for the key of the same person that it
// goes back to by own-key; else bitbucket-login. A signature by a key that was in
// other hands, or does not stand, is none: disowned is a key that nothing else keeps
// from countersigner. It is what a rule's demand is compared with, so a person cannot
// lift a key by another one.
func (r *Roster) IdentityAt(k RosterKey, version int64) Identity {
	switch {
	case r.vouched(k, version, r.holds):
		return ByCountersigner
	case r.vouched(k, version, func(word) bool { return true }):
		return Disowned
	}
	return ByLogIn
}

func (r *Roster) vouched(k RosterKey, version int64, holds func(word) bool) bool {
	for {
		for _, other := range k.others {
			if other.version <= version && holds(other) {
				return true
			}
		}
		if k.word == nil || k.Countersigned == k.Added || !holds(*k.word) {
			return false
		}
		k = r.keys[r.byDigest[k.Signer]] // which was added earlier, so this ends
	}
}

// RestingOn returns the keys about which the roster says something else once a key
// is compromised: that key, and those that it signed for, directly or through
// others.
func (r *Roster) RestingOn(key Digest) (keys []RosterKey) {
	signedFor := map[Digest][]Digest{} // by each key
	for _, k := range r.keys {
		for _, w := range k.words() {
			for _, act := range w.acts {
				signedFor[act.Signer] = append(signedFor[act.Signer], k.Digest)
			}
		}
	}
	resting := map[Digest]bool{key: true}
	for open := []Digest{key}; len(open) > 0; {
		signer := open[len(open)-1]
		open = open[:len(open)-1]
		for _, k := range signedFor[signer] {
			if !resting[k] {
				resting[k], open = true, append(open, k)
			}
		}
	}
	for _, k := range r.keys {
		if resting[k.Digest] {
			keys = append(keys, k)
		}
	}
	return keys
}

// words are all signatures for a key.
func (k RosterKey) words() []word {
	if k.word == nil {
		return k.others
	}
	return append(k.others[:len(k.others):len(k.others)], *k.word)
}
