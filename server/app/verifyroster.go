package app

import (
	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/monitor"
)

// rosters are those of bundles that were verified, each held once however many bundles have it. They go by the newest version, whose digest
// covers all before it. The zero value is ready.
type rosters struct {
	read map[evidence.Digest]*roster
}

// roster is what the roster of a bundle says. All but the newest version are empty where there is none.
type roster struct {
	newest   evidence.Digest
	versions map[evidence.Digest]int64
	// revoked are the keys that it revokes, by their credential ids.
	revoked map[string]revokedKey
	// vouched are the changes that rest on a signature of one of those, for each that does.
	vouched []vouched
	// counts has the keys that count by the newest version.
	counts map[evidence.Digest]bool
}

// vouched is a change that brings a key into the roster, or countersigns it, with the digest of its version, and a key that signed for it and
// was revoked since.
type vouched struct {
	key, digest evidence.Digest
	change      evidence.RosterChange
	by          revokedKey
}

// revokedKey is one that a roster revokes, the version that did with its digest, and the one with which the key came.
type revokedKey struct {
	key, digest    evidence.Digest
	version, added int64
}

func (r *rosters) of(bundle evidence.Bundle) (*roster, error) {
	var newest evidence.Digest
	if n := len(bundle.Roster); n > 0 {
		newest = approval.DigestOf(bundle.Roster[n-1])
	}
	if read, ok := r.read[newest]; ok {
		return read, nil
	}
	added := map[evidence.Digest]int64{}
	read := &roster{newest: newest, versions: map[evidence.Digest]int64{}, revoked: map[string]revokedKey{}, counts: map[evidence.Digest]bool{}}
	var signed []vouched
	for _, document := range bundle.Roster {
		change, err := evidence.ParseRosterChange(document)
		if err != nil {
			return nil, err
		}
		key, err := change.Key.Digest()
		if err != nil {
			return nil, err
		}
		digest := approval.DigestOf(document)
		for _, voucher := range monitor.Vouchers(change) {
			signed = append(signed, vouched{key, digest, change, revokedKey{key: voucher}})
		}
		read.versions[digest] = change.Version
		credential := string(change.Key.CredentialID)
		switch change.Event {
		case evidence.KeyAdded:
			read.counts[key], added[key] = true, change.Version
		case evidence.KeyRemoved:
			delete(read.counts, key)
			if _, before := read.revoked[credential]; !before {
				read.revoked[credential] = revokedKey{key, digest, change.Version, added[key]}
			}
		case evidence.KeyCountersigned:
		}
	}
	ended := map[evidence.Digest]revokedKey{}
	for _, key := range read.revoked {
		ended[key.key] = key
	}
	for _, v := range signed {
		if key, revoked := ended[v.by.key]; revoked {
			v.by = key
			read.vouched = append(read.vouched, v)
		}
	}
	if r.read == nil {
		r.read = map[evidence.Digest]*roster{}
	}
	r.read[newest] = read
	return read, nil
}

// restsOn are the keys that a bundle rests on: somebody decided with them, or signed for one with which somebody did.
func restsOn(bundle evidence.Bundle) (map[evidence.Digest]bool, error) {
	rests := map[evidence.Digest]bool{}
	for _, enrolled := range bundle.Enrolments {
		act, err := evidence.ParseAct(enrolled.Enrolment.Act)
		if err != nil {
			return nil, err
		}
		key, err := act.Key.Key.Digest()
		if err != nil {
			return nil, err
		}
		rests[key] = true
	}
	return rests, nil
}

// unfollowed reports whether a leaf of the log revokes a key that the bundle's roster counts, and whether the evidence rests on that key.
func (h history) unfollowed(leaf evidence.Leaf) (rests, counts bool) {
	said, here := monitor.Revokes(leaf, h.workspace)
	counts = here && h.roster.counts[said.Key]
	return counts && h.rests[said.Key], counts
}
