package monitor

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// rulebook is the rules of a workspace at a place in the log.
type rulebook struct {
	// Roster is the newest version of the roster there.
	Roster int64 `json:"roster"`
	// Force is the protection; its zero value where none was set.
	Force evidence.ProtectionDocument `json:"force"`
	// Newest has the newest policy of each repository; it is empty where that is gated no longer.
	Newest map[evidence.Digest]evidence.Digest `json:"newest"`
	// InForce are the rules in force, by repository; the protection is under "".
	InForce map[evidence.Digest]ruled `json:"inForce"`
}

func (b rulebook) clone() rulebook {
	b.Newest, b.InForce = maps.Clone(b.Newest), maps.Clone(b.InForce)
	return b
}

// ruled is a version of a policy or protection with who agreed to it.
type ruled struct {
	Leaf    int64    `json:"leaf"`
	Version int64    `json:"version"`
	Subject string   `json:"subject"`
	Agreed  []agreed `json:"agreed"`
}

// agreed is an act by which somebody agreed to a rule.
type agreed struct {
	Credential evidence.Bytes `json:"credential"`
	IssuedAt   time.Time      `json:"issuedAt"`
}

// policyPlace names a version of a repository's policy.
type policyPlace struct {
	repository evidence.Digest
	version    int64
}

// rules judges the policies, protections and the changes of members' keys that are new, in the order of the log: who
// could make them at that place did. What the openings do not tell is judged again, with what comes after it, in
// every pass until they do. It returns whether they told all.
func (r *replay) rules() (told bool, err error) {
	now, next, held := r.Rules.clone(), r.Next, false
	if now.Newest == nil {
		now.Newest, now.InForce = map[evidence.Digest]evidence.Digest{}, map[evidence.Digest]ruled{}
	}
	hold := func(told bool) {
		if !told && !held {
			held, r.Rules, r.Next = true, now.clone(), next
		}
	}
	err = turns(r.tx, r.ID, r.Next, func(index int64, place []byte) error {
		_, leaf, err := readPast(r.tx.Bucket(tableHistory).Get(place))
		if err != nil {
			return err
		}
		next = index
		r.work.rules++
		switch body := leaf.Body.(type) {
		case evidence.RosterVersion:
			hold(body.Version <= r.roster.Versions())
			if err := r.keyChange(index, body.Version, leaf.Time, now.Force); err != nil {
				return err
			}
			now.Roster = body.Version
		case evidence.ProtectionSet:
			rule, told := r.ruled(index, body.Version, fmt.Sprintf("protection of workspace %s version %d", r.o.Workspace, body.Version), body.Acts)
			document := r.protection(index, leaf.Time, body, now)
			if hold(told && document != nil); document == nil {
				return errEnough // what comes after it cannot be judged
			}
			now.Force, now.InForce[""] = *document, rule
		case evidence.PolicyVersion:
			rule, told := r.ruled(index, body.Version, fmt.Sprintf("policy of repository %s version %d", body.Repository, body.Version), body.Acts)
			known := r.policy(index, leaf.Time, body, now)
			hold(told && known)
			now.Newest[body.Repository], now.InForce[body.Repository] = body.Policy, rule
		}
		next = index + 1
		return nil
	})
	if errors.Is(err, errEnough) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !held {
		r.Rules, r.Next = now, next
	}
	for _, rule := range now.InForce {
		r.compromised(rule)
	}
	return !held, nil
}

// ruled takes a version of a rule into force. It returns false where the openings leave out an act that agreed to it: others may
// have agreed who are enough, and yet nobody can tell whether a key that did was in other hands.
func (r *replay) ruled(index, version int64, subject string, acts []evidence.Digest) (rule ruled, told bool) {
	rule, told = ruled{Leaf: index, Version: version, Subject: subject}, true
	for _, digest := range acts {
		signed, found := r.acts.find(digest)
		if !found {
			told = false
			r.lasts(OpeningsWrong, subject, "The log names the act %s, and the openings do not have it.", digest)
			continue
		}
		if act, err := evidence.ParseAct(signed.Act); err == nil {
			rule.Agreed = append(rule.Agreed, agreed{signed.Assertion.CredentialID, act.IssuedAt})
		}
	}
	return rule, told
}

// compromised looks for a key that was in other hands when it agreed to a rule that is in force. The rule stays: people
// who see this set it anew.
func (r *replay) compromised(rule ruled) {
	for _, a := range rule.Agreed {
		key, found := r.roster.Key(a.Credential)
		if !found || !r.roster.Compromised(key, a.IssuedAt) {
			continue // what is no act of this roster was told before
		}
		r.found(RuleCompromised, false, rule.Leaf, rule.Subject,
			"It is in force, and key %s of person %s, which may have been in other hands, agreed to it.", key.Digest, key.Key.Person)
		return
	}
}

// keyChange looks at a version of the roster that rests on the word of others than whose key it is about: nothing that they
// signed had expired, and where the workspace is protected it takes a quorum of those who protect it.
func (r *replay) keyChange(index, version int64, filed time.Time, force evidence.ProtectionDocument) error {
	change, found := r.roster.Change(version)
	if !found {
		return nil // was told before
	}
	if change.By != evidence.ByCountersigner {
		return nil
	}
	if change.Event == evidence.KeyRemoved && r.cameIn(change.Key).Equal(filed) && r.atOnce(change, index) {
		// A key can come into the roster long after it was enrolled, and what was said to revoke it with it: by rules, and by keys, of then. It
		// decided nothing meanwhile that could be lost.
		return nil
	}
	first := change.Proof
	if change.Event == evidence.KeyAdded {
		first = r.voucher(change.Proof)
	}
	acts := []evidence.Digest{first}
	for _, a := range change.Agreed {
		acts = append(acts, a.Proof)
	}
	key, err := change.Key.Digest()
	if err != nil {
		return err
	}
	about := func(a evidence.Act) bool {
		if change.Event == evidence.KeyRemoved {
			return a.Purpose == evidence.Revoke && a.Revocation.Key == key && sameTime(a.Revocation.CompromisedSince, change.CompromisedSince)
		}
		return a.Purpose == evidence.Countersign && a.Key.Key.Equal(change.Key)
	}
	wrong := r.agreed(index, acts, force, version-1, filed, about)
	if wrong == "" {
		wrong = r.anyExpired(acts, filed)
	}
	if wrong != "" {
		subject := fmt.Sprintf("roster of workspace %s version %d", r.o.Workspace, version)
		r.found(RuleUnsigned, false, index, subject, "Key %s of person %s was %s, and %s.", key, change.Key.Person, change.Event, wrong)
	}
	return nil
}

// cameIn is the time of the leaf of the version of the roster that added a key; zero where that is not known.
func (r *replay) cameIn(key evidence.Key) time.Time {
	known, _ := r.roster.Key(key.CredentialID)
	logged, found := r.logged("roster", known.Added)
	if !found {
		return time.Time{}
	}
	leaf, err := evidence.ParseLeaf(logged.Entry)
	if err != nil {
		return time.Time{}
	}
	return leaf.Time
}

// atOnce reports whether between the leaf that brought a key in and the one of a change about it the log has the versions of the roster that
// are between the two, and nothing else. Their time is the server's word.
func (r *replay) atOnce(change evidence.RosterChange, index int64) bool {
	known, _ := r.roster.Key(change.Key.CredentialID)
	came, found := r.logged("roster", known.Added)
	return found && index-came.Index == change.Version-known.Added
}

// anyExpired says which of some acts had expired when they were filed; "" where none had. What the openings do not have is
// told elsewhere.
func (r *replay) anyExpired(acts []evidence.Digest, filed time.Time) string {
	for _, digest := range acts {
		signed, _ := r.acts.find(digest)
		if act, err := evidence.ParseAct(signed.Act); err == nil && r.expired(act, filed) {
			return "what was signed for it had expired at " + act.ExpiresAt.Format(time.RFC3339)
		}
	}
	return ""
}

// voucher gives the digest of what somebody else signed for the key of an enrolment; empty where it is not there.
func (r *replay) voucher(enrolment evidence.Digest) evidence.Digest {
	enrolled, _ := r.enrolments.find(enrolment)
	voucher := enrolled.Enrolment.Countersigned
	if voucher == nil {
		return ""
	}
	digest, err := voucher.Digest()
	if err != nil {
		return ""
	}
	r.acts.known[digest] = *voucher
	return digest
}

// protection looks at a version of the protection, and gives its document; nil where that is not known.
func (r *replay) protection(index int64, filed time.Time, body evidence.ProtectionSet, now rulebook) *evidence.ProtectionDocument {
	subject := fmt.Sprintf("protection of workspace %s version %d", r.o.Workspace, body.Version)
	i := slices.IndexFunc(r.o.Protections, func(d evidence.ProtectionDocument) bool { return d.Version == body.Version })
	if i < 0 {
		r.lasts(OpeningsWrong, subject, "The log has this version, and the openings do not.")
		return nil
	}
	document := r.o.Protections[i]
	digest, err := document.Digest()
	if err != nil || digest != body.Protection {
		r.lasts(OpeningsWrong, subject, "The log names another one than the openings.")
		return nil
	}
	enough := r.agreed(index, body.Acts, now.Force, now.Roster, filed, func(a evidence.Act) bool {
		signed, err := a.DocumentDigest()
		return err == nil && a.Purpose == evidence.Protect && signed == digest
	})
	if enough != "" {
		r.found(RuleUnsigned, false, index, subject, "The protection changed, and %s.", enough)
	} else if document.Quorum == 0 {
		r.found(Unprotected, true, index, subject, "From here on policies can be changed without signatures.")
	}
	return &document
}

// policy looks at a version of a repository's policy. It returns false where the openings do not tell it.
func (r *replay) policy(index int64, filed time.Time, body evidence.PolicyVersion, now rulebook) (told bool) {
	read := r.policyAt(index, body)
	switch {
	case read.untold != nil && read.untold.Code == PolicyWrong:
		r.lasting = append(r.lasting, *read.untold)
		return false
	case read.untold != nil:
		r.findings = append(r.findings, *read.untold)
	}
	opened := r.policies[policyPlace{body.Repository, body.Version}]
	subject := fmt.Sprintf("policy of repository %s version %d", opened.Repository, body.Version)
	enough := r.agreed(index, body.Acts, now.Force, now.Roster, filed, func(a evidence.Act) bool {
		return a.Purpose == evidence.SetPolicy && *a.Policy == evidence.PolicyDocument{
			Repository: opened.Repository, Version: body.Version, Previous: now.Newest[body.Repository], Policy: body.Policy,
		}
	})
	if enough != "" {
		r.found(RuleUnsigned, false, index, subject, "The policy changed, and %s.", enough)
	}
	return true
}

// differs says why a document is not the policy that a digest names; "" where it is.
func differs(document json.RawMessage, digest evidence.Digest) string {
	switch {
	case (len(document) == 0) != (digest == ""):
		return "one of them gates the repository no longer"
	case digest != "" && approval.DigestOf(document) != digest:
		return "its digest is another one"
	}
	return ""
}

// expired tells whether an act was filed when it held no longer.
func (r *replay) expired(act evidence.Act, filed time.Time) bool {
	return !filed.IsZero() && !filed.Before(act.ExpiresAt.Add(r.options.Late))
}

// agreed says why acts are not the agreement that a protection demands at a version of the roster; "" where they are.
// They were filed by a leaf, before which none of the keys had been revoked, and at a time, before which none had expired, give or take; the
// zero time where that is not known.
func (r *replay) agreed(index int64, acts []evidence.Digest, force evidence.ProtectionDocument, roster int64, filed time.Time, about func(evidence.Act) bool) string {
	people := map[string]bool{}
	why := ""
	for _, digest := range acts {
		signed, found := r.acts.find(digest)
		if !found {
			why = "; an act is not in the openings"
			continue
		}
		act, err := r.signed(signed, roster)
		if err == nil {
			err = r.inTime(signed, index)
		}
		switch {
		case err != nil:
			why = fmt.Sprintf("; a signature does not count (%v)", err)
		case r.expired(act, filed):
			why = fmt.Sprintf("; a signature had expired at %s", act.ExpiresAt.Format(time.RFC3339))
		case !about(act) || act.Workspace != r.o.Workspace:
			why = "; a signature is about something else"
		case slices.Contains(force.People, act.Signer.Person):
			people[act.Signer.Person] = true
		}
	}
	if len(people) < force.Quorum {
		return fmt.Sprintf("%d of the people who can agree signed, where %d have to%s", len(people), force.Quorum, why)
	}
	return ""
}

// inTime says why a signature cannot have been filed by a leaf: the log revokes its key before that.
func (r *replay) inTime(signed evidence.SignedAct, index int64) error {
	key, known := r.roster.Key(signed.Assertion.CredentialID)
	if !known {
		return nil // whoever judges it says so
	}
	leaf, revoked, err := r.revokedBefore(key.Digest, index)
	if revoked {
		err = fmt.Errorf("leaf %d had revoked its key", leaf)
	}
	return err
}
