package evidence

import (
	"fmt"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
)

// Verify checks a bundle from its bytes. It stops at the first step that fails, but
// for one that finds a stolen key: what else is wrong is worse.
// The steps and their numbers are those of FORMAT.md.
func Verify(bundle []byte, anchors Anchors) Report {
	v := verification{anchors: anchors}
	v.report.Steps = make([]Step, 0, 18) // three more with a repository
	for i, step := range []struct {
		name string
		run  func() (detail string, err error)
	}{
		{"bundle", func() (string, error) { return v.bundle(bundle) }},
		{"policy", v.policy},
		{"chain", v.chain},
		{"requests", v.requests},
		{"roster", v.roster},
		{"decisions", v.decisions},
		{"statements", v.statements},
		{"assertions", v.assertions},
		{"openings", v.openings},
		{"facts", v.facts},
		{"tally", v.tally},
		{"verdict", v.verdict},
		{"log", v.log},
		{"witnesses", v.witnesses},
		{"anchors", v.anchored},
	} {
		detail, err := step.run()
		taken := settle(i+1, step.name, detail, err)
		v.report.Steps = append(v.report.Steps, taken)
		if taken.Result == Failed && taken.Code != CodeStolen {
			return v.report
		}
	}
	v.report.change = v.changed()
	if v.report.failed() != nil {
		return v.report
	}
	v.report.Verdict = &v.judged
	v.report.Violation = v.report.change.Violation
	v.label()
	return v.report
}

// verification is one run of [Verify]. Each step reads what the steps before it
// have checked and left here.
type verification struct {
	anchors Anchors
	report  Report

	b       Bundle
	changes []*rosterVersion // of its roster, as far as they could be read
	rule    approval.Rule
	digest  Digest // of the policy
	leaves  []Leaf
	// request is the one that the verdict is about.
	request Request
	made    []decision
	// known are the facts as the newest version of the roster judges the keys: what was reported when the verdict had
	// been reached is in them too. judged is the verdict that stands by them.
	known   approval.Facts
	judged  approval.Verdict
	counted []int64 // the sequences of the decisions that judged rests on
	erased  int     // openings that are absent

	opened map[string]int   // the requests by their ids, as indexes
	nonces map[string]bool  // of the statements so far
	signed map[Digest]int   // the decisions by their statements so far, as indexes
	roots  map[int64]Digest // of the log heads so far, by their sizes
	said   map[string]int64 // the sequence of each person's last decision so far

	keys     *Roster
	enrolled []enrolled // in the order of the bundle's enrolments
	places   []place    // of everything that was signed
	pinned   bool       // whether an anchor says whose keys are whose
	unproved bool       // whether the operator says of which model a key is
	untold   bool       // whether people were erased whom the tally needs
	fell     bool       // whether a decision is compromised by what is pinned
}

// decision is a decision of the bundle with what was read from it.
type decision struct {
	SignedDecision
	statement Statement
	digest    Digest    // of the statement
	sequence  int64     // of its leaf
	at        time.Time // of its leaf
	account   string    // of the approver; empty if it was erased, or is not open and of no concern to the tally
	version   int64     // of the roster that the signer was shown
	newest    seen      // by the signers up to this one
	key       RosterKey
	// compromised says that the key may have been in other hands by then, or rests on one that was.
	compromised bool
	// disowned says that the rule asks for a countersigned key, and that whoever vouched for this one may have been
	// somebody else, too.
	disowned bool
	tallied  int // its place in the facts, from 1; 0 for none
}

func (v *verification) bundle(data []byte) (string, error) {
	var err error
	v.b, v.changes, err = readBundle(data)
	return fmt.Sprintf("%d bytes in canonical form", len(data)), err
}

func (v *verification) policy() (string, error) {
	policy, err := ReadPolicy(v.b.Policy)
	if err != nil {
		return "", err
	}
	v.digest = approval.DigestOf(v.b.Policy)
	branch := v.b.Facts.Request.DestinationBranch
	rule, _, ok := policy.Match(branch)
	if !ok {
		return "", refuse(CodeInvalid, "no rule of the policy matches the destination branch %q", branch)
	}
	if of, _ := digest(rule); of != v.b.Facts.Request.RuleDigest {
		return "", refuse(CodeInvalid, "the rule that matches the destination branch is not the request's")
	}
	v.rule = rule
	return fmt.Sprintf("rule %q applies to %s", rule.Name, branch), nil
}

// ReadPolicy reads a policy's canonical form, which is the only one that a verifier accepts.
func ReadPolicy(data []byte) (policy approval.Policy, err error) {
	if len(data) <= approval.MaxPolicyBytes && read(data, &policy) && policy.Check() == nil {
		return policy, nil
	}
	if _, err = approval.ParsePolicy(data); err != nil {
		return policy, refuse(CodeInvalid, "the policy is refused: %v", err)
	}
	return policy, refuse(CodeNotCanonical, "the policy is not in its one form")
}
