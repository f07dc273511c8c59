package evidence

import "github.com/signedapproval/bitbucket/server/approval"

// CheckEnrolment checks that an enrolment proves the change that brought a key of
// the roster in. It returns the act that enrolled the key and, where somebody
// countersigned it for this workspace, that act too. On which page they were
// signed, and for which log, is for the caller to believe.
func (r *Roster) CheckEnrolment(k RosterKey, e Enrolment) (enrol Act, countersigned *Act, err error) {
	if proof, _ := e.Digest(); proof != k.Proof {
		return Act{}, nil, refuse(CodeRoster, "it is not the one that the roster commits to")
	}
	if enrol, err = actBy(k, e.Act, e.Possession); err != nil {
		return Act{}, nil, err
	}
	if enrol.Purpose != Enrol || !enrol.Key.Key.Equal(k.Key) {
		return Act{}, nil, refuse(CodeRoster, "its act does not enrol the key")
	}
	if enrol.Key.AttestationObject != approval.DigestOf(e.AttestationObject) || enrol.Key.ClientData != approval.DigestOf(e.ClientDataJSON) {
		return Act{}, nil, refuse(CodeRoster, "the key was made by another ceremony than its act says")
	}
	by := ByLogIn
	if e.Authority != nil {
		by = ByOwnKey
	}
	if c := e.Countersigned; c != nil {
		vouched, err := ParseAct(c.Act)
		if err != nil {
			return Act{}, nil, err
		}
		// Somebody of another workspace vouches for nothing here.
		if vouched.Workspace == r.Workspace {
			by, countersigned = ByCountersigner, &vouched
		}
	}
	added := r.changes[k.Added-1].RosterChange
	if added.By != by {
		return Act{}, nil, refuse(CodeRoster, "the roster says that the key is known by %s, and what is signed shows %s", added.By, by)
	}
	switch by {
	case ByOwnKey:
		if _, err = actBy(r.signer(added.first()), e.Act, *e.Authority); err == nil {
			err = issued(added.first(), enrol)
		}
	case ByCountersigner:
		_, err = r.vouches(added.first(), *e.Countersigned, enrol)
	case ByLogIn, ByOperator, Disowned: // nobody signed for it
	}
	if err != nil {
		return Act{}, nil, err
	}
	return enrol, countersigned, nil
}

// CheckAct checks that an act is the one that a change of the roster rests on, and
// vouches for the key or revokes it as the change says; enrol is the act that
// enrolled the key. It returns the act, of which the caller has to believe the page
// and the log.
func (r *Roster) CheckAct(of RosterAct, signed SignedAct, enrol Act) (Act, error) {
	c := of.Change
	if proof, _ := signed.Digest(); proof != of.Proof {
		return Act{}, refuse(CodeRoster, "it is not the one that the roster commits to")
	}
	if c.Event != KeyRemoved {
		return r.vouches(of, signed, enrol)
	}
	act, err := actBy(r.signer(of), signed.Act, signed.Assertion)
	if err != nil {
		return Act{}, err
	}
	revoked := act.Revocation
	key, _ := r.Key(c.Key.CredentialID)
	if act.Purpose != Revoke || revoked.Person != c.Key.Person || revoked.Key != key.Digest {
		return Act{}, refuse(CodeRoster, "it does not revoke the key")
	}
	if (revoked.CompromisedSince == nil) != (c.CompromisedSince == nil) || revoked.CompromisedSince != nil && !revoked.CompromisedSince.Equal(*c.CompromisedSince) {
		return Act{}, refuse(CodeRoster, "it says otherwise than the roster since when the key was in other hands")
	}
	if err := issued(of, act); err != nil {
		return Act{}, err
	}
	return act, r.names(act)
}

// vouches checks that somebody else countersigns the key that an act enrols.
func (r *Roster) vouches(of RosterAct, signed SignedAct, enrol Act) (Act, error) {
	act, err := actBy(r.signer(of), signed.Act, signed.Assertion)
	if err != nil {
		return Act{}, err
	}
	if act.Purpose != Countersign {
		return Act{}, refuse(CodeRoster, "its act does not countersign a key")
	}
	vouched, _ := act.DocumentDigest()
	if document, _ := enrol.DocumentDigest(); vouched != document {
		return Act{}, refuse(CodeRoster, "it countersigns another key or another ceremony")
	}
	if err := issued(of, act); err != nil {
		return Act{}, err
	}
	return act, r.names(act)
}

// signer returns the rostered key that signed an act of a change.
func (r *Roster) signer(of RosterAct) RosterKey { return r.keys[r.byDigest[of.Signer]] }

// issued checks that the roster says when an act was issued: by that it is judged
// whether its signer was in other hands.
func issued(of RosterAct, act Act) error {
	if !act.IssuedAt.Equal(of.IssuedAt) {
		return refuse(CodeRoster, "it was issued at another time than the roster says")
	}
	return nil
}

// names checks that an act of a workspace belongs to this one and its roster.
// That the version it names is before the one that rests on it follows: the later
// digest covers the act.
func (r *Roster) names(act Act) error {
	if act.Workspace == "" {
		return nil
	}
	if act.Workspace != r.Workspace {
		return refuse(CodeRoster, "it was signed for another workspace")
	}
	if _, ok := r.VersionOf(act.Roster); !ok {
		return refuse(CodeRoster, "its signer was shown a roster that is not this one")
	}
	return nil
}

// actBy checks that a key signed an act, on the page that the act names.
func actBy(key RosterKey, signed Bytes, a Assertion) (Act, error) {
	act, err := ParseAct(signed)
	if err != nil {
		return Act{}, err
	}
	rp := RelyingParty{ID: act.RPID, Origin: act.Origin}
	ring := &keyring{keys: []RosterKey{key}}
	if _, err := verifySigned(signed, rp, act.Signer.Person, a, ring, rp); err != nil {
		return Act{}, err
	}
	return act, nil
}
