package app

import (
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/monitor"
)

// countedKeys are the keys that count by the newest version of the roster in a bundle, true for those that the evidence rests on: somebody
// decided with it, or signed for one with which somebody did.
func countedKeys(bundle evidence.Bundle) (map[evidence.Digest]bool, error) {
	rests, counts := map[evidence.Digest]bool{}, map[evidence.Digest]bool{}
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
	for _, document := range bundle.Roster {
		change, err := evidence.ParseRosterChange(document)
		if err != nil {
			return nil, err
		}
		key, err := change.Key.Digest()
		if err != nil {
			return nil, err
		}
		switch change.Event {
		case evidence.KeyAdded:
			counts[key] = rests[key]
		case evidence.KeyRemoved:
			delete(counts, key)
		case evidence.KeyCountersigned:
		}
	}
	return counts, nil
}

// unfollowed reports whether a leaf of the log revokes a key that the bundle's roster counts, and whether the evidence rests on that key.
func (h history) unfollowed(leaf evidence.Leaf) (rests, counts bool) {
	said, here := monitor.Revokes(leaf, h.workspace)
	if !here {
		return false, false
	}
	rests, counts = h.counts[said.Key]
	return rests, counts
}
