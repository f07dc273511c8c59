package monitor

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// rules replays the policies, protections and the changes of members' keys in the order of the log: who could
// make them at that place did.
func (r *replay) rules() error {
	type turn struct {
		index int64
		leaf  evidence.Leaf
	}
	var turns []turn
	prefix := string(r.id) + "/"
	err := under(r.tx.Bucket(tableHistory), prefix, func(_ string, value []byte) error {
		kept, leaf, err := readPast(value)
		turns = append(turns, turn{kept.Index, leaf})
		return err
	})
	if err != nil {
		return err
	}
	slices.SortFunc(turns, func(a, b turn) int { return int(a.index - b.index) })
	policies := map[string]evidence.OpenedPolicy{}
	for _, p := range r.o.Policies {
		policies[fmt.Sprintf("%s/%d", evidence.RepositoryID(r.o.Salt, p.Repository), p.Version)] = p
	}
	var roster int64
	var force evidence.ProtectionDocument // of the zero version where none was set
	last := map[evidence.Digest]evidence.Digest{}
	inForce := map[evidence.Digest]ruled{} // by repository; the protection's under ""
	for _, t := range turns {
		switch body := t.leaf.Body.(type) {
		case evidence.RosterVersion:
			if err := r.keyChange(t.index, body.Version, force); err != nil {
				return err
			}
			roster = body.Version
		case evidence.ProtectionSet:
			next, err := r.protection(t.index, body, force, roster)
			if err != nil || next == nil {
				return err // what comes after it cannot be judged
			}
			force = *next
			inForce[""] = ruled{t.index, fmt.Sprintf("protection of workspace %s version %d", r.o.Workspace, body.Version), body.Acts}
		case evidence.PolicyVersion:
			opened, found := policies[fmt.Sprintf("%s/%d", body.Repository, body.Version)]
			if err := r.policy(t.index, body, opened, found, last[body.Repository], force, roster); err != nil {
				return err
			}
			last[body.Repository] = body.Policy
			inForce[body.Repository] = ruled{t.index, fmt.Sprintf("policy of repository %s version %d", body.Repository, body.Version), body.Acts}
		}
	}
	for _, rule := range inForce {
		if err := r.compromised(rule); err != nil {
			return err
		}
	}
	return nil
}

// ruled is a version of a policy or protection with the acts that agreed to it.
type ruled struct {
	index   int64
	subject string
	acts    []evidence.Digest
}

// compromised looks for a key that was in other hands when it agreed to a rule that is in force. The rule stays: people
// who see this set it anew.
func (r *replay) compromised(rule ruled) error {
	for _, digest := range rule.acts {
		signed := r.acts[digest]
		act, err := evidence.ParseAct(signed.Act)
		key, found := r.roster.Key(signed.Assertion.CredentialID)
		if err != nil || !found || !r.roster.Compromised(key, act.IssuedAt) {
			continue // what is no act of this roster was told before
		}
		return r.found(RuleCompromised, false, rule.index, rule.subject,
			"It is in force, and key %s of person %s, which may have been in other hands, agreed to it.", key.Digest, key.Key.Person)
	}
	return nil
}

// keyChange looks at a version of the roster that rests on the word of others than whose key it is about: where
// the workspace is protected it takes a quorum of those who protect it.
func (r *replay) keyChange(index, version int64, force evidence.ProtectionDocument) error {
	if version > int64(len(r.changes)) {
		return nil // was told before
	}
	change := r.changes[version-1]
	if force.Quorum == 0 || change.By != evidence.ByCountersigner {
		return nil
	}
	first := change.Proof
	if change.Event == evidence.KeyAdded {
		first = r.vouchers[change.Proof]
	}
	acts := []evidence.Digest{first}
	for _, a := range change.Agreed {
		acts = append(acts, a.Proof)
	}
	key, err := change.Key.Digest()
	if err != nil {
		return err
	}
	enough := r.agreed(acts, force, version-1, func(a evidence.Act) bool {
		if change.Event == evidence.KeyRemoved {
			return a.Purpose == evidence.Revoke && a.Revocation.Key == key && sameTime(a.Revocation.CompromisedSince, change.CompromisedSince)
		}
		return a.Purpose == evidence.Countersign && a.Key.Key.Equal(change.Key)
	})
	if enough != "" {
		subject := fmt.Sprintf("roster of workspace %s version %d", r.o.Workspace, version)
		return r.found(RuleUnsigned, false, index, subject, "Key %s of person %s was %s, and %s.", key, change.Key.Person, change.Event, enough)
	}
	return nil
}

// protection looks at a version of the protection, and gives its document; nil where that is not known.
func (r *replay) protection(index int64, body evidence.ProtectionSet, force evidence.ProtectionDocument, roster int64) (*evidence.ProtectionDocument, error) {
	subject := fmt.Sprintf("protection of workspace %s version %d", r.o.Workspace, body.Version)
	i := slices.IndexFunc(r.o.Protections, func(d evidence.ProtectionDocument) bool { return d.Version == body.Version })
	if i < 0 {
		return nil, r.wrong(OpeningsWrong, subject, "The log has this version, and the openings do not.")
	}
	document := r.o.Protections[i]
	digest, err := document.Digest()
	if err != nil || digest != body.Protection {
		return nil, r.wrong(OpeningsWrong, subject, "The log names another one than the openings.")
	}
	enough := r.agreed(body.Acts, force, roster, func(a evidence.Act) bool {
		signed, err := a.DocumentDigest()
		return err == nil && a.Purpose == evidence.Protect && signed == digest
	})
	if enough != "" {
		err = r.found(RuleUnsigned, false, index, subject, "The protection changed, and %s.", enough)
	} else if document.Quorum == 0 {
		err = r.found(Unprotected, true, index, subject, "From here on policies can be changed without signatures.")
	}
	return &document, err
}

// policy looks at a version of a repository's policy.
func (r *replay) policy(index int64, body evidence.PolicyVersion, opened evidence.OpenedPolicy, found bool, previous evidence.Digest,
	force evidence.ProtectionDocument, roster int64,
) error {
	subject := fmt.Sprintf("policy of repository %s version %d", body.Repository, body.Version)
	if !found {
		return r.wrong(PolicyWrong, subject, "The log has this version, and the openings of workspace %s do not.", r.o.Workspace)
	}
	subject = fmt.Sprintf("policy of repository %s version %d", opened.Repository, body.Version)
	if why := differs(opened.Policy, body.Policy); why != "" {
		return r.wrong(PolicyWrong, subject, "The log names another policy than the openings: %s.", why)
	}
	enough := r.agreed(body.Acts, force, roster, func(a evidence.Act) bool {
		return a.Purpose == evidence.SetPolicy && *a.Policy == evidence.PolicyDocument{
			Repository: opened.Repository, Version: body.Version, Previous: previous, Policy: body.Policy,
		}
	})
	if enough != "" {
		return r.found(RuleUnsigned, false, index, subject, "The policy changed, and %s.", enough)
	}
	return nil
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

// agreed says why acts are not the agreement that a protection demands at a version of the roster; "" where they are.
func (r *replay) agreed(acts []evidence.Digest, force evidence.ProtectionDocument, roster int64, about func(evidence.Act) bool) string {
	people := map[string]bool{}
	why := ""
	for _, digest := range acts {
		signed, found := r.acts[digest]
		if !found {
			why = "; an act is not in the openings"
			continue
		}
		act, err := r.signed(signed.Act, signed.Assertion, r.live(roster)...)
		switch {
		case err != nil:
			why = fmt.Sprintf("; a signature does not count (%v)", err)
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
