package monitor

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// readRoster reads the versions of the roster that the log has and that were not read yet. What the openings have beyond is
// left for later. It returns false where they are not those of the log: then the roster ends before the first that is not,
// and everything else is followed by what there is of it.
func (r *replay) readRoster() (whole bool, err error) {
	if r.roster == nil {
		if r.roster, err = evidence.ReplayRoster(r.genesis, nil); err != nil {
			return false, err
		}
	}
	var changes []evidence.RosterChange
	whole = true
	for n := r.roster.Versions() + 1; whole; n++ {
		logged, found := r.logged("roster", n)
		if !found {
			if whole = !r.loggedAfter("roster", n); !whole {
				r.lasts(RosterWrong, r.rosterVersion(n), "The log has a later version, and not this one.")
			}
			break
		}
		change, why, err := r.opened(n, logged)
		if err != nil {
			return false, err
		}
		if why != "" {
			r.lasts(RosterWrong, r.rosterVersion(n), "%s", why)
			whole = false
			break
		}
		changes = append(changes, change)
	}
	r.work.versions += len(changes)
	if err := r.roster.Extend(changes); err != nil {
		r.lasts(RosterWrong, r.rosterVersion(r.roster.Versions()+1), "It does not replay: %v", err)
		return false, nil
	}
	if pinned := r.options.Anchors.Roster; whole && pinned != "" {
		if _, found := r.roster.VersionOf(pinned); !found {
			r.lasts(RosterWrong, "roster of workspace "+r.o.Workspace, "The roster that is pinned is none of its versions.")
		}
	}
	return whole, nil
}

func (r *replay) rosterVersion(n int64) string {
	return fmt.Sprintf("roster of workspace %s version %d", r.o.Workspace, n)
}

// opened gives the change that the openings have for a version in the log, or why they have none.
func (r *replay) opened(n int64, logged past) (change evidence.RosterChange, why string, err error) {
	if n > int64(len(r.o.Roster)) {
		return change, "The log has this version, and the openings end before it.", nil
	}
	change, err = evidence.ParseRosterChange(r.o.Roster[n-1])
	if err != nil {
		return change, fmt.Sprintf("It cannot be read: %v", err), nil
	}
	leaf, err := evidence.ParseLeaf(logged.Entry)
	if err != nil {
		return change, "", err
	}
	body, _ := leaf.Body.(evidence.RosterVersion)
	if digest, err := change.Digest(); err != nil || digest != body.Roster || change.Workspace != r.o.Workspace {
		return change, "The log names another roster than the openings.", nil
	}
	return change, "", nil
}

// proofs looks at what the versions of the roster rest on that were not looked at yet.
func (r *replay) proofs() error {
	if r.Unowned == nil {
		r.Unowned = map[int64]time.Time{}
	}
	for n := r.Versions + 1; n <= r.roster.Versions(); n++ {
		change, _ := r.roster.Change(n)
		r.work.proofs++
		key, err := change.Key.Digest()
		if err != nil {
			return err
		}
		subject := r.rosterVersion(n)
		if change.Event == evidence.KeyAdded {
			if err := r.added(subject, change, key); err != nil {
				return err
			}
		}
		enrolment, filed, err := r.enrolled(key)
		if err != nil {
			return err
		}
		if err := r.unproved(change, filed); err != nil {
			r.wrong(RosterUnproved, subject, "Key %s of person %s %s: %s.", key, change.Key.Person, change.Event, err)
		}
		if err := r.vouchers(subject, change, enrolment); err != nil {
			return err
		}
		if change.Event == evidence.KeyAdded {
			added, _ := r.roster.Key(change.Key.CredentialID)
			told, err := r.owner(n, added)
			if err != nil {
				return err
			}
			if !told {
				r.Unowned[n] = r.now
			}
		}
	}
	r.Versions = r.roster.Versions()
	return nil
}

// added looks at a key that a version added.
func (r *replay) added(subject string, change evidence.RosterChange, key evidence.Digest) error {
	mine := r.options.Mine
	if mine != nil && slices.Contains(mine.People, change.Key.Person) && !slices.Contains(mine.Keys, key) {
		r.wrong(UnknownKey, "key "+string(key), "It is in the roster under the name of person %s, who did not list it; identified by %s.", change.Key.Person, change.By)
	}
	raw := r.tx.Bucket(tableKeys).Get([]byte(key))
	if raw == nil {
		r.wrong(KeyUnlogged, subject, "The log has no enrolment of key %s of person %s.", key, change.Key.Person)
		return nil
	}
	_, leaf, err := readPast(raw)
	if err != nil {
		return err
	}
	if body, ok := leaf.Body.(evidence.KeyEnrolled); !ok || body.Person != change.Key.Person || !restsOn(change.By, body) || body.Enrolment != change.Proof && !r.vouchedAgain(change, body) {
		r.wrong(KeyUnlogged, subject, "The log has another enrolment of key %s.", key)
		return nil
	}
	if change.By == evidence.ByLogIn {
		r.findings = append(r.findings, Finding{
			Code: LogInKey, Notice: true, Subject: "key " + string(key), Time: r.now,
			Detail: fmt.Sprintf("It is of person %s by a log-in at Bitbucket only, as the operator says.", change.Key.Person),
		})
	}
	return nil
}

// restsOn reports whether a key can be in a roster by what its leaf says: somebody can have vouched for it here who is none of the
// leaf's, and nothing else can differ. A log-in that the leaf does not tell of would be nobody's second.
func restsOn(by evidence.Identity, logged evidence.KeyEnrolled) bool {
	return by == evidence.ByCountersigner || logged.IdentifiedBy == string(by)
}

// vouchedAgain reports whether a key came into the roster by somebody here who vouched for it, and was enrolled before by what
// happened in another workspace: the log has an enrolment once, with what was signed for it first. It is the same registration.
func (r *replay) vouchedAgain(change evidence.RosterChange, logged evidence.KeyEnrolled) bool {
	opened, found := r.enrolments.find(change.Proof)
	return found && change.By == evidence.ByCountersigner &&
		approval.DigestOf(opened.Enrolment.AttestationObject) == logged.AttestationObject && approval.DigestOf(opened.Enrolment.ClientDataJSON) == logged.ClientData
}

// enrolled is the index and the time of the leaf of a key's enrolment; -1 and zero where the log has none.
func (r *replay) enrolled(key evidence.Digest) (index int64, at time.Time, err error) {
	raw := r.tx.Bucket(tableKeys).Get([]byte(key))
	if raw == nil {
		return -1, at, nil
	}
	kept, leaf, err := readPast(raw)
	return kept.Index, leaf.Time, err
}

// vouchers looks for a key that had been revoked when it signed for another one, as far as the log tells: it has the one leaf before the
// other. enrolled is the leaf of that one's enrolment.
func (r *replay) vouchers(subject string, change evidence.RosterChange, enrolled int64) error {
	index := enrolled
	if change.By != evidence.ByOwnKey {
		logged, _ := r.logged("roster", change.Version)
		index = logged.Index
	}
	for _, key := range Vouchers(change) {
		leaf, found, err := r.revokedBefore(key, index)
		if err != nil {
			return err
		}
		if found {
			r.wrong(RevokedVoucher, subject, "Key %s, which leaf %d revokes, signed for a key of person %s that was %s, by leaf %d.", key, leaf, change.Key.Person, change.Event, index)
		}
	}
	return nil
}

// unproved says why the proofs of a change do not prove it; nil where they do. enrolled is when the key's enrolment was filed.
func (r *replay) unproved(change evidence.RosterChange, enrolled time.Time) error {
	if change.By == evidence.ByOperator {
		return nil // a revocation on the operator's word says so itself
	}
	key, _ := r.roster.Key(change.Key.CredentialID) // a roster that replays has the key of each change
	enrolment, found := r.enrolments.find(key.Proof)
	if !found {
		return errors.New("its enrolment is not in the openings")
	}
	enrol, countersigned, err := r.roster.CheckEnrolment(key, enrolment.Enrolment)
	var acts []evidence.RosterAct
	if change.Event == evidence.KeyAdded {
		if err == nil {
			err = r.pinned(enrol)
		}
		if err == nil && countersigned != nil {
			err = r.pinned(*countersigned)
		}
		if err == nil && (r.expired(enrol, enrolled) || countersigned != nil && r.expired(*countersigned, enrolled)) {
			err = errors.New("what was signed for it had expired when it was filed")
		}
		if err != nil {
			return err
		}
	} else {
		acts = append(acts, evidence.RosterAct{Change: change, Agreement: evidence.Agreement{Signer: change.Signer, Proof: change.Proof, IssuedAt: *change.IssuedAt}})
	}
	for _, a := range change.Agreed {
		acts = append(acts, evidence.RosterAct{Change: change, Agreement: a})
	}
	for _, of := range acts {
		signed, found := r.acts.find(of.Proof)
		if !found {
			return errors.New("an act is not in the openings")
		}
		act, err := r.roster.CheckAct(of, signed, enrol)
		if err == nil {
			err = r.pinned(act)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func sameTime(a, b *time.Time) bool {
	return (a == nil) == (b == nil) && (a == nil || a.Equal(*b))
}

// pinned checks that an act is for the log that is followed, and was signed on a page that is pinned.
func (r *replay) pinned(act evidence.Act) error {
	a, rp := r.options.Anchors, evidence.RelyingParty{ID: act.RPID, Origin: act.Origin}
	if len(a.RelyingParties) > 0 && !slices.Contains(a.RelyingParties, rp) {
		return errors.New("it was signed on another origin than the pinned ones")
	}
	if act.LogOrigin != a.Log.Origin {
		return errors.New("it is for another log")
	}
	return nil
}

// signed checks an assertion over an act, with the anchors' relying parties and log, by a key that counts at a version of
// the roster. Where the openings do not tell that version, a key can count that is not known.
func (r *replay) signed(signed evidence.SignedAct, version int64) (evidence.Act, error) {
	act, err := evidence.ParseAct(signed.Act)
	if err != nil {
		return act, err
	}
	if err := r.pinned(act); err != nil {
		return act, err
	}
	key, found := r.roster.Key(signed.Assertion.CredentialID)
	told := version <= r.roster.Versions()
	if !told && !found {
		return act, nil // it is judged again once the openings tell that version, and until then the version is an alarm
	}
	if told && (!found || !key.LiveAt(version)) {
		return act, errors.New("its key does not count in the roster of that time")
	}
	_, err = evidence.VerifyAct(signed.Act, signed.Assertion, []evidence.Key{key.Key}, evidence.RelyingParty{ID: act.RPID, Origin: act.Origin})
	return act, err
}
