package monitor

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// owner looks at whose account a key that a version added is of, by the opening of what its enrolment commits to. A person has one account,
// and an account one person: a second one under it is somebody whom the server invents, who approves as the one who has the account.
// It returns false where the openings do not tell.
func (r *replay) owner(version int64, key evidence.RosterKey) (told bool, err error) {
	opened, found := r.enrolments.find(key.Proof)
	if !found {
		return true, nil // was told before
	}
	act, err := evidence.ParseAct(opened.Enrolment.Act)
	if err != nil {
		return true, nil //nolint:nilerr // likewise
	}
	if opened.Owner == nil {
		return false, nil
	}
	subject := r.rosterVersion(version)
	if commitment, err := opened.Owner.Commitment(); err != nil || commitment != act.Signer.Commitment {
		r.wrong(RosterUnproved, subject, "Key %s of person %s: what is said of its owner's account is not what its enrolment commits to.", key.Digest, key.Key.Person)
		return true, nil
	}
	account := opened.Owner.AccountID
	if account == "" { // nobody can log in with none
		r.wrong(RosterUnproved, subject, "Key %s of person %s is enrolled for nobody's account.", key.Digest, key.Key.Person)
		return true, nil
	}
	if mine := r.options.Mine; mine != nil && slices.Contains(mine.Accounts, account) && !slices.Contains(mine.Keys, key.Digest) {
		r.wrong(UnknownKey, "key "+string(key.Digest), "It is in the roster for account %s, as a key of person %s, and was not listed; identified by %s.", account, key.Key.Person, key.By)
	}
	place := fmt.Sprintf("%s/%s", r.ID, approval.DigestOf(slices.Concat(r.o.Salt, []byte(account))))
	before, known := r.owners[place]
	if !known {
		before = string(r.tx.Bucket(tableOwners).Get([]byte(place)))
	}
	if before != "" && before != key.Key.Person {
		erased, err := r.erased(before)
		if err != nil {
			return false, err
		}
		if !erased {
			r.wrong(AccountTwice, subject, "Key %s is of person %s, whose account is %s, and so is that of person %s: an account has one person.", key.Digest, key.Key.Person, account, before)
			return true, nil
		}
	}
	r.owners[place] = key.Key.Person
	return true, nil
}

// erased reports whether a person can have been erased, who may come back as another one: all their keys are revoked, and nothing tells
// any more whose they were.
func (r *replay) erased(person string) (bool, error) {
	for _, key := range r.roster.Keys() {
		if key.Key.Person != person {
			continue
		}
		if opened, found := r.enrolments.find(key.Proof); found && opened.Owner != nil {
			return false, nil
		}
		if counts, err := r.counts(key); err != nil || counts {
			return false, err
		}
	}
	return true, nil
}

// counts reports whether a key counts by the newest version of the roster, and the log says nothing else.
func (r *replay) counts(key evidence.RosterKey) (counts bool, err error) {
	counts = key.LiveAt(r.roster.Versions())
	err = turnsIn(r.tx.Bucket(tableRevoked), key.Digest, 0, func(_ int64, raw []byte) error {
		_, leaf, err := readPast(raw)
		if _, revoked := Revokes(leaf, r.ID); revoked {
			counts = false
		}
		return err
	})
	return counts, err
}

// unowned looks again at the keys whose owners the openings did not tell. That is an alarm after a while, unless a key is revoked: who is
// erased has no key that counts.
func (r *replay) unowned() error {
	for _, version := range slices.Sorted(maps.Keys(r.Unowned)) {
		change, _ := r.roster.Change(version)
		key, _ := r.roster.Key(change.Key.CredentialID)
		told, err := r.owner(version, key)
		if err != nil {
			return err
		}
		counts, err := r.counts(key)
		if err != nil {
			return err
		}
		since := r.Unowned[version]
		switch {
		case told || !counts:
			delete(r.Unowned, version)
		case r.now.After(since.Add(r.options.Late)):
			r.lasts(OwnerUntold, r.rosterVersion(version), "Key %s of person %s counts, and since %s the openings do not tell whose account it is for.",
				key.Digest, key.Key.Person, since.UTC().Format(time.RFC3339))
		}
	}
	return nil
}
