package app

import (
	"fmt"
	"maps"
	"slices"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/monitor"
)

// without is the size of the longest log that is known to have had nothing about a key's end yet; 0 where none is: neither a leaf of the
// version of the roster that revoked it, nor one that says that it is revoked, for which nobody looks whose roster has not the key yet.
func (h history) without(key revokedKey, known []lookedThrough) (size int64) {
	for _, k := range known {
		if version := h.roster.versions[k.Roster]; key.added <= version && version < key.version {
			size = max(size, k.Size)
		}
	}
	return size
}

// behind reports whether a leaf came into the log behind the end of a key, by which it was signed: behind the first leaf that says so, or
// that of the version of the roster that follows. Of those the look found, places has where they come first in the log, whose leaves were
// looked through from where it had none of the version; a version that was not found has no leaf, though another one behind it may have.
// What is known tells it of others: it has the leaf of a version, and of each before it.
func (h history) behind(index int64, key revokedKey, places monitor.Places, known []lookedThrough) bool {
	at, seen := places.Versions[key.digest]
	said, told := places.Revoked[key.key]
	return !seen || index > at || told && index > said || slices.ContainsFunc(known, func(k lookedThrough) bool {
		return key.version <= h.roster.versions[k.Roster] && index >= k.Size
	})
}

// late finds the first decision by a key that had been revoked when its leaf was appended.
func (h history) late(places monitor.Places, known []lookedThrough) (index int64, found bool) {
	for _, index := range slices.Sorted(maps.Keys(h.ended)) {
		if h.behind(index, h.ended[index], places, known) {
			return index, true
		}
	}
	return 0, false
}

// vouchedSince are the changes of the roster that rest on a key which was revoked since, and came in after all that is known of it: those of keys
// that the evidence rests on, or every one. Who pins a version, or remembers it, does so with what it rests on.
func (h history) vouchedSince(known []lookedThrough, every bool) (since []vouched) {
	newest := int64(0)
	for _, k := range known {
		newest = max(newest, h.roster.versions[k.Roster])
	}
	for _, v := range h.roster.vouched {
		if v.change.Version > newest && (every || h.rests[v.key]) {
			since = append(since, v)
		}
	}
	return since
}

// vouchedFrom is where a look has to begin at the latest that tells of all these whether they were signed in time.
func (h history) vouchedFrom(all []vouched, known []lookedThrough, from int64) int64 {
	for _, v := range all {
		from = min(from, h.without(v.by, known))
	}
	return from
}

// vouchedInTime reports whether a look from an index tells that a key signed for another one before its end. It says why where that was
// later, or the log does not have what was signed. An enrolment can be in the log long before somebody comes into a workspace's roster, so one
// that a look did not find which began later is neither.
func (h history) vouchedInTime(v vouched, places monitor.Places, known []lookedThrough, from int64) (inTime bool, refused string) {
	index, seen := places.Vouched(v.change, v.digest)
	switch {
	case from > h.without(v.by, known): // its end may be before that, where no more was to be read
		return false, ""
	case seen && !h.behind(index, v.by, places, known):
		return true, ""
	case seen:
		return false, fmt.Sprintf("the evidence rests on a key for which another one signed by leaf %d of the log, and that one had been revoked before it", index)
	case from == 0 || v.change.By != evidence.ByOwnKey:
		return false, "the evidence rests on a key for which another one signed that was revoked, and the log does not have what it signed"
	}
	return false, ""
}

// vouched judges what keys that were revoked since had signed for others. It refuses evidence that rests on what came too late, and returns
// false for told where it cannot tell of all that this rests on, and for followed, by which something is remembered, where it cannot of every key
// in the roster.
func (l logLook) vouched(histories []history, places monitor.Places, from int64) (refused string, told, followed bool) {
	told, followed = true, true
	for _, h := range histories {
		for _, v := range h.vouchedSince(l.known, l.remembers) {
			inTime, why := h.vouchedInTime(v, places, l.known, from)
			followed = followed && inTime
			if h.rests[v.key] && why != "" {
				return why, false, false
			}
			told = told && (inTime || !h.rests[v.key])
		}
	}
	return "", told, followed
}
