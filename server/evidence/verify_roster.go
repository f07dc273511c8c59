package evidence

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/signedapproval/bitbucket/server/approval"
)

// roster replays the workspace's roster from the genesis leaf, and checks the
// proofs of the keys that signed decisions and of those that signed for them.
func (v *verification) roster() (string, error) {
	genesis, err := ParseLeaf(v.b.Genesis)
	if err != nil {
		return "", refuse(CodeOf(err), "the genesis: %s", err.Error())
	}
	start, _ := genesis.Body.(Genesis)
	if start.Salt != approval.DigestOf(v.b.Salt) || genesis.Workspace != v.leaves[0].Workspace {
		return "", refuse(CodeRoster, "the genesis is not that of this workspace")
	}
	if v.keys, err = replayRoster(LeafDigest(v.b.Genesis), v.b.Roster, v.changes); err != nil {
		return "", err
	}
	if workspace := v.b.Requests[0].Workspace; len(v.b.Roster) > 0 && v.keys.Workspace != workspace {
		return "", refuse(CodeRoster, "the roster is that of another workspace")
	}
	credentials := make([][]byte, len(v.b.Decisions))
	for i, d := range v.b.Decisions {
		credentials[i] = d.Assertion.CredentialID
	}
	keys, acts := v.keys.Behind(credentials)
	if len(v.b.Enrolments) != len(keys) || len(v.b.SignedActs) != len(acts) {
		return "", refuse(CodeRoster, "the bundle has %d enrolments and %d acts where the roster asks for %d and %d", len(v.b.Enrolments), len(v.b.SignedActs), len(keys), len(acts))
	}
	for i, k := range keys {
		if err := v.enrolment(k, v.b.Enrolments[i]); err != nil {
			return "", refuse(CodeOf(err), "enrolment %d: %s", i+1, err.Error())
		}
	}
	for i, c := range acts {
		if err := v.signedAct(c, v.b.SignedActs[i]); err != nil {
			return "", refuse(CodeOf(err), "act %d: %s", i+1, err.Error())
		}
	}
	return fmt.Sprintf("%d versions from the genesis on; %d enrolments and %d acts are signed", len(v.b.Roster), len(keys), len(acts)), nil
}

// enrolled is an enrolment of the bundle with what was read from it.
type enrolled struct {
	EnrolledKey
	key           Digest
	act           Act
	countersigned *Act // nil where nobody countersigned it for this workspace
}

// enrolment checks the way of a key into the roster.
func (v *verification) enrolment(k RosterKey, e EnrolledKey) error {
	act, countersigned, err := v.keys.CheckEnrolment(k, e.Enrolment)
	if err != nil {
		return err
	}
	v.signedAt(act)
	if countersigned != nil {
		v.signedAt(*countersigned)
	}
	v.enrolled = append(v.enrolled, enrolled{EnrolledKey: e, key: k.Digest, act: act, countersigned: countersigned})
	return nil
}

// enrolledKey returns the enrolment of a key that the bundle has to hold.
func (v *verification) enrolledKey(key Digest) enrolled {
	i := slices.IndexFunc(v.enrolled, func(e enrolled) bool { return e.key == key })
	return v.enrolled[i]
}

// signedAct checks the act that a change of the roster rests on.
func (v *verification) signedAct(of RosterAct, signed SignedAct) error {
	key, _ := v.keys.Key(of.Change.Key.CredentialID)
	act, err := v.keys.CheckAct(of, signed, v.enrolledKey(key.Digest).act)
	if err == nil {
		v.signedAt(act)
	}
	return err
}

// signedAt notes where an act was signed, and for which log: whether that page is
// to be believed, and whether the log is the one of the bundle, is seen later.
func (v *verification) signedAt(act Act) {
	v.places = append(v.places, place{RelyingParty{ID: act.RPID, Origin: act.Origin}, act.LogOrigin})
}

// place is where something was signed and for which log.
type place struct {
	rp  RelyingParty
	log string
}

// shown compares what the signer of decision i was shown of roster and log with
// the bundle, and with what signers before were shown.
func (v *verification) shown(s Statement, i int) error {
	version, ok := v.keys.VersionOf(s.Roster)
	if !ok {
		return refuse(CodeRoster, "the signer was shown a roster that is not this one")
	}
	if s.LogHead.Size == 0 && s.LogHead.Root != emptyTree {
		return refuse(CodeLog, "the signer was shown an empty log that is not empty")
	}
	head := *s.LogHead
	// The decisions that the signer saw are the first ones of the chain.
	saw, _ := slices.BinarySearchFunc(v.made[:i], s.ChainHead.Sequence+1, func(d decision, sequence int64) int {
		return cmp.Compare(d.sequence, sequence)
	})
	if saw > 0 {
		before := v.made[saw-1].newest
		if version < before.version || head.Size < before.size {
			return refuse(CodeRoster, "the signer saw an earlier decision, and yet an older roster or log than that decision's signer")
		}
	}
	if root, known := v.roots[head.Size]; known && root != head.Root {
		return refuse(CodeLog, "two signers were shown two logs of one size")
	}
	v.roots[head.Size] = head.Root
	newest := seen{version, head.Size}
	if i > 0 {
		before := v.made[i-1].newest
		newest = seen{max(version, before.version), max(head.Size, before.size)}
	}
	v.made[i].version, v.made[i].newest = version, newest
	return nil
}

// seen is a version of the roster and a size of the log.
type seen struct{ version, size int64 }

// counts checks the key that signed decision i against the roster.
func (v *verification) counts(i int, signer Key) error {
	d := &v.made[i]
	key, _ := v.keys.Key(signer.CredentialID)
	if !key.LiveAt(d.version) {
		return refuse(CodeRevoked, "the key did not count in the roster that the signer was shown")
	}
	if !key.LiveAt(d.newest.version) {
		return refuse(CodeRevoked, "the key had been revoked in the roster that the signer of an earlier decision was shown")
	}
	d.key, d.compromised = key, v.keys.Compromised(key, v.leaves[d.sequence-1].Time)
	return nil
}

// owners opens the commitments of the enrolments.
func (v *verification) owners() error {
	for i, e := range v.enrolled {
		err := v.open(e.Owner, e.act.Signer.Commitment)
		switch {
		case err != nil:
		case e.countersigned != nil:
			err = v.open(e.Countersigner, e.countersigned.Signer.Commitment)
		case e.Countersigner != nil:
			err = e.Countersigner.Verify("")
		}
		if err != nil {
			return refuse(CodeCommitment, "enrolment %d: an opening does not open its commitment", i+1)
		}
	}
	for i, d := range v.made {
		owner := v.enrolledKey(d.key.Digest).Owner
		if d.Approver != nil && owner != nil && d.Approver.AccountID != owner.AccountID {
			return refuse(CodePerson, "decision %d is of another account than its key was enrolled for", i+1)
		}
	}
	return nil
}
