package monitor

import (
	"errors"
	"fmt"
	"time"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// Revokes reports whether a leaf says of a key that it counts no more in a workspace. What somebody says of a key of their own, and
// what the server says by itself, holds everywhere, whichever workspace the leaf names; what others say holds in theirs.
func Revokes(leaf evidence.Leaf, workspace evidence.Digest) (revoked evidence.KeyRevoked, yes bool) {
	revoked, yes = leaf.Body.(evidence.KeyRevoked)
	return revoked, yes && (revoked.By != evidence.ByCountersigner || leaf.Workspace == workspace)
}

// revocations looks for keys of which the log says that they are revoked, and the roster does not: bundles go by the roster, and would
// count them for ever. A server writes that a moment after the leaf, and so there is an alarm only after a while. Whether somebody signed
// when it was in other hands a leaf does not tell; so a signed one that the roster never names is worth a notice of a key that is out. It
// returns false while it is too early to say.
func (r *replay) revocations() (settled bool, err error) {
	newest, named := r.roster.Versions(), map[evidence.Digest]bool{}
	for n := int64(1); n <= newest; n++ {
		if change, _ := r.roster.Change(n); change.Event == evidence.KeyRemoved {
			named[change.Proof] = true
		}
	}
	settled = true
	for _, key := range r.roster.Keys() {
		live := key.LiveAt(newest)
		err := turnsIn(r.tx.Bucket(tableRevoked), key.Digest, 0, func(index int64, raw []byte) error {
			_, leaf, err := readPast(raw)
			if err != nil {
				return err
			}
			said, here := Revokes(leaf, r.ID)
			if !live && (!here || said.Revocation == "" || named[said.Revocation]) {
				return nil
			}
			subject := fmt.Sprintf("key %s in the roster of workspace %s", key.Digest, r.o.Workspace)
			switch since := r.couldFollow(key, leaf.Time); {
			case !here:
				r.found(RevokedElsewhere, true, index, subject, "The leaf says that somebody revoked this key of person %s in another workspace, whose roster it is about. If it was that "+
					"person, it holds here as well: ask them, by what they signed.", key.Key.Person)
			case since.Sub(r.now).Abs() <= r.options.Late:
				settled = false
			case live:
				r.lasts(RevocationUnfollowed, subject, "The log has leaf %d of %s, that this key of person %s is revoked, and the newest version of the roster still counts it.",
					index, leaf.Time.Format(time.RFC3339), key.Key.Person)
			default:
				r.found(RevocationUntold, true, index, subject, "Somebody signed that this key of person %s is revoked, and no version of the roster names what they signed, which may say "+
					"since when it was in other hands. It can be that they had no voice here, or that more was known.", key.Key.Person)
			}
			return nil
		})
		if err != nil {
			return false, err
		}
	}
	return settled, nil
}

// revokedBefore looks for the first leaf before an index that revokes a key: no signature by it comes into the log of an honest server
// behind that.
func (r *replay) revokedBefore(key evidence.Digest, index int64) (leaf int64, found bool, err error) {
	err = turnsIn(r.tx.Bucket(tableRevoked), key, 0, func(at int64, raw []byte) error {
		if at >= index {
			return errEnough
		}
		_, said, err := readPast(raw)
		if err != nil {
			return err
		}
		if _, here := Revokes(said, r.ID); here {
			leaf, found = at, true
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return leaf, found, err
}

// couldFollow is since when the roster could say what a leaf of a time says of a key, which may have come into it later.
func (r *replay) couldFollow(key evidence.RosterKey, said time.Time) time.Time {
	if came := r.cameIn(key.Key); came.After(said) {
		return came
	}
	return said
}
