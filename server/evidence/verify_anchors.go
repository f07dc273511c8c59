package evidence

import (
	"fmt"
	"slices"
	"strings"

	"github.com/signedapproval/bitbucket/server/approval"
)

// lacks notes an anchor without which the operator's word is needed.
func (v *verification) lacks(what string) { v.report.Missing = append(v.report.Missing, what) }

// anchored compares the bundle with what the verifier knows, and lists what it
// does not know.
func (v *verification) anchored() (string, error) {
	before := len(v.report.Missing)
	for _, check := range []func() error{v.anchoredPages, v.anchoredGenesis, v.anchoredKeys, v.anchoredPolicy, v.anchoredTally} {
		if err := check(); err != nil {
			return "", err
		}
	}
	if missing := v.report.Missing[before:]; len(missing) > 0 {
		return "", operatorAsserted("not anchored: " + strings.Join(missing, ", "))
	}
	return "all of them hold", nil
}

func (v *verification) anchoredPages() error {
	if len(v.anchors.RelyingParties) == 0 {
		v.lacks("relying parties")
		return nil
	}
	for _, place := range v.places {
		if !slices.Contains(v.anchors.RelyingParties, place.rp) {
			return refuse(CodeOrigin, "something was signed for %s on %s, which is not an anchor", place.rp.ID, place.rp.Origin)
		}
	}
	return nil
}

func (v *verification) anchoredGenesis() error {
	switch v.anchors.Genesis {
	case "":
		v.lacks("genesis")
	case LeafDigest(v.b.Genesis):
	default:
		return refuse(CodeRoster, "the workspace's genesis is not the one that is an anchor")
	}
	return nil
}

func (v *verification) anchoredPolicy() error {
	of := slices.IndexFunc(v.anchors.Policies, func(p PinnedPolicies) bool { return p.Repository == v.request.Repository })
	if of < 0 { // what is expected of others says nothing about this one
		v.lacks("policies of the repository")
		return nil
	}
	if !slices.Contains(v.anchors.Policies[of].Digests, v.digest) {
		return refuse(CodeInvalid, "the policy is not one of those expected of the repository")
	}
	return nil
}

// anchoredKeys checks that every key that signed a decision is known: it came by
// the version of the roster that is an anchor, or is pinned, or a key that is
// known signed for it. What the tally was told of who vouched for it is checked likewise.
func (v *verification) anchoredKeys() error {
	a := v.anchors
	var at int64
	if a.Roster == "" {
		v.lacks("roster")
	} else {
		var ok bool
		if at, ok = v.keys.VersionOf(a.Roster); !ok {
			return refuse(CodeRoster, "the roster that is an anchor is not a version of the bundle's")
		}
	}
	pinned, err := a.pinned()
	if err != nil {
		return err
	}
	known := map[Digest]bool{} // by those who are believed today
	once := map[Digest]bool{}  // by those who were when nobody had reported a key
	for i, e := range v.enrolled {
		key := v.keys.keys[v.keys.byDigest[e.key]]
		pins := pinned[key.public.id]
		if slices.ContainsFunc(pins, func(p PinnedKey) bool { return p.Person != key.Key.Person }) {
			return refuse(CodeKey, "a key that is pinned for one person is in the roster for another")
		}
		if e.Owner != nil && a.otherAccount(key.Key.Person, e.Owner.AccountID) {
			return refuse(CodePerson, "enrolment %d names another account than the one that is pinned for its person", i+1)
		}
		known[e.key] = len(pins) > 0 || key.Added <= at // also one that was only taken out of use since
		once[e.key] = known[e.key]
	}
	v.spread(known, v.keys.holds)
	v.spread(once, func(word) bool { return true })
	v.pinned = a.Roster != "" || len(a.Keys) > 0
	for i, d := range v.made {
		if v.pinned && !once[d.key.Digest] {
			return refuse(CodeKey, "decision %d was signed with a key that is not known: it was not in the roster that is an anchor, and no key that was has signed for it", i+1)
		}
		// The pinned version, and so what it revokes, is in the log before that head.
		if head := a.LogHead; head != nil && d.key.Removed != 0 && d.key.Removed <= at && v.placeOf(d) >= head.Size {
			return refuse(CodeRevoked, "decision %d came into the log when the roster that is an anchor had revoked its key", i+1)
		}
		if v.pinned && !known[d.key.Digest] && !d.compromised {
			v.fell = true
			v.made[i].compromised = true
			if d.tallied > 0 {
				v.known.Decisions[d.tallied-1].Compromised = true
			}
		}
		if d.account != "" && a.otherAccount(d.key.Key.Person, d.account) {
			return refuse(CodePerson, "decision %d is given to an account that is not the signer's", i+1)
		}
	}
	if a.Roster == "" {
		return nil // which is missing
	}
	return v.anchoredWords(known, once)
}

// anchoredWords takes step 11 again where the rule asks for keys that somebody vouched for: of whoever did, the key
// has to be known too. Else the operator, who can invent a person, could have that person vouch for anybody.
func (v *verification) anchoredWords(known, once map[Digest]bool) error {
	facts, strangers := v.b.Facts, false
	facts.Decisions = slices.Clone(facts.Decisions)
	for _, d := range v.made {
		if d.tallied == 0 {
			continue
		}
		told, today := &facts.Decisions[d.tallied-1], &v.known.Decisions[d.tallied-1]
		if told.Identity == approval.Countersigned && !v.keys.vouched(d.key, d.version, func(w word) bool { return once[w.signer()] }) {
			told.Identity, strangers = string(ByLogIn), true
		}
		if today.Identity == approval.Countersigned && !v.keys.vouched(d.key, d.version, func(w word) bool { return known[w.signer()] && v.keys.holds(w) }) {
			today.Identity, v.fell = told.Identity, true
			if told.Identity == approval.Countersigned {
				today.Identity = approval.Disowned
			}
		}
	}
	if !strangers {
		return nil
	}
	if then := v.b.Verdict.State; green(string(then)) {
		if now, _ := again(v.rule, facts, then, v.untold); now.State != then {
			return refuse(CodeKey, "the bundle says %s, and for a key on which that rests nobody vouched whose own key is known: without it it is %s (%s)", then, now.State, now.Sentence)
		}
	}
	return nil
}

// anchoredTally takes step 11 again where the anchors say more of the keys than the roster. It is the last of all: what else
// is wrong is worse than a key that was stolen.
func (v *verification) anchoredTally() error {
	if v.fell {
		return v.judge()
	}
	return nil
}

// spread adds to the keys that are known those for which a key that is known signed, as far as its word holds.
func (v *verification) spread(known map[Digest]bool, holds func(word) bool) {
	for grown := true; grown; {
		grown = false
		for _, e := range v.enrolled {
			if known[e.key] {
				continue
			}
			for _, w := range v.keys.keys[v.keys.byDigest[e.key]].words() {
				if known[w.signer()] && holds(w) {
					known[e.key], grown = true, true
				}
			}
		}
	}
}

// pinned are the pinned keys by their [publicKey].id: a key that is pinned in one
// encoding can be in the roster in another one.
func (a Anchors) pinned() (map[string][]PinnedKey, error) {
	pins := make(map[string][]PinnedKey, len(a.Keys))
	for i, p := range a.Keys {
		key, err := parsePublicKey(p.PublicKey)
		if err != nil {
			return nil, refuse(CodeInvalid, "keys[%d] must be a person's id and a public key", i)
		}
		pins[key.id] = append(pins[key.id], p)
	}
	return pins, nil
}

// otherAccount reports whether another account than this one is pinned for a person.
func (a Anchors) otherAccount(person, account string) bool {
	return slices.ContainsFunc(a.Keys, func(p PinnedKey) bool {
		return p.Person == person && p.AccountID != "" && p.AccountID != account
	})
}

// labelKeys says of each key that signed on what it rests that it is its
// person's, and of each person on what it rests that the account is theirs. What
// people are called is the operator's word, whatever they signed.
func (v *verification) labelKeys(add func(name, value string, label Label)) {
	seen := map[string]bool{}
	once := func(name, value string, label Label) {
		if !seen[name+value] {
			seen[name+value] = true
			add(name, value, label)
		}
	}
	for _, d := range v.made {
		label := Signed // by a key of the same person, or by somebody else
		switch {
		case v.pinned:
			label = Recomputed
		case d.key.By == ByLogIn:
			label = Asserted
		}
		if d.Approver != nil {
			once("name", fmt.Sprintf("%s is what person %s is called", d.Approver.Name, d.key.Key.Person), Asserted)
		}
		once("key", fmt.Sprintf("%s of person %s, known by %s", d.key.Digest, d.key.Key.Person, d.key.By), label)
		if v.anchors.Models != nil {
			model, label := v.authenticator(d.key)
			once("authenticator", fmt.Sprintf("%s for key %s", model, d.key.Digest), label)
		}
		if d.account == "" {
			continue
		}
		label = Asserted
		if e := v.enrolledKey(d.key.Digest); e.Owner != nil && e.Owner.AccountID == d.account {
			label = Signed // in the act that enrolled the key
		}
		once("account", fmt.Sprintf("%s of person %s", d.account, d.key.Key.Person), label)
	}
}

// authenticator says of which model the authenticator of a key is, by the attestation
// of its enrolment and the models that are anchors.
func (v *verification) authenticator(k RosterKey) (string, Label) {
	m, err := v.enrolledKey(k.Digest).Enrolment.Model(k.Key, v.anchors.Models)
	if err != nil {
		return "no known model", Asserted
	}
	return fmt.Sprintf("model %s (%s)", m.AAGUID, m.Description), Recomputed
}

// model returns the model that the facts have to name for a key, where they say one or
// none: of those that the rule names, the one that the attestation of its enrolment
// proves. Without metadata about that model it is the operator's word that its
// certificate rests on its root, and nothing else is.
func (v *verification) model(k RosterKey, says string) string {
	e := v.enrolledKey(k.Digest).Enrolment
	a, at, err := e.attested(k.Key)
	if err != nil || !slices.Contains(v.rule.Keys.Models, a.AAGUID) {
		return ""
	}
	if _, known := v.anchors.Models.Model(a.AAGUID); !known {
		v.unproved = true
		if says == "" {
			return ""
		}
		return a.AAGUID
	}
	if _, err := a.Of(v.anchors.Models, at); err != nil {
		return ""
	}
	return a.AAGUID
}
