package monitor

import "github.com/signedapproval/bitbucket/server/evidence"

// Places is where what bears on the keys of a workspace comes first in a log, among the leaves that were looked through. A leaf can be
// appended once more, and it is the first one that honest servers wrote.
//
// A version of the roster goes by its digest, which covers what was signed for it: its number can be in any leaf.
type Places struct {
	workspace evidence.Digest
	// Versions are the leaves of the versions of the roster, by digest; Enrolled those of enrolments, whichever workspace they name;
	// Revoked those that say of a key that it is revoked, by the key.
	Versions map[evidence.Digest]int64
	Enrolled map[Enrolled]int64
	Revoked  map[evidence.Digest]int64
}

// Enrolled is what the leaf of an enrolment says. One that names another key or another person is none: whose key it is would not find it.
type Enrolled struct {
	Person         string
	Key, Enrolment evidence.Digest
}

// PlacesOf is for a workspace, of which nothing was seen yet.
func PlacesOf(workspace evidence.Digest) Places {
	return Places{workspace, map[evidence.Digest]int64{}, map[Enrolled]int64{}, map[evidence.Digest]int64{}}
}

// See takes in the next leaf of the log.
func (p Places) See(index int64, leaf evidence.Leaf) {
	switch body := leaf.Body.(type) {
	case evidence.RosterVersion:
		if leaf.Workspace == p.workspace {
			first(p.Versions, body.Roster, index)
		}
	case evidence.KeyEnrolled:
		first(p.Enrolled, Enrolled{body.Person, body.Key, body.Enrolment}, index)
	case evidence.KeyRevoked:
		if _, here := Revokes(leaf, p.workspace); here {
			first(p.Revoked, body.Key, index)
		}
	}
}

func first[K comparable](places map[K]int64, key K, index int64) {
	if _, before := places[key]; !before {
		places[key] = index
	}
}

// Vouched is the leaf with which a signature that brings a key into the roster, or countersigns it, came into the log: that of its
// enrolment, where its person signed with another key, and else that of the version itself, of which this is the digest. It returns false
// where none was seen.
func (p Places) Vouched(change evidence.RosterChange, version evidence.Digest) (index int64, seen bool) {
	if change.By == evidence.ByOwnKey {
		key, err := change.Key.Digest()
		index, seen = p.Enrolled[Enrolled{change.Key.Person, key, change.Proof}]
		return index, seen && err == nil
	}
	index, seen = p.Versions[version]
	return index, seen
}

// Vouchers are the keys that signed for a change that brings a key into the roster, or countersigns it; none for any other.
func Vouchers(change evidence.RosterChange) (keys []evidence.Digest) {
	if change.Event == evidence.KeyRemoved || change.Signer == "" {
		return nil
	}
	keys = append(keys, change.Signer)
	for _, more := range change.Agreed {
		keys = append(keys, more.Signer)
	}
	return keys
}
