package evidence

import (
	"errors"
	"fmt"
	"slices"

	"github.com/signedapproval/bitbucket/server/approval"
)

// decisions makes sure that chain and bundle hold the same decisions, so that
// none can be hidden or added.
func (v *verification) decisions() (string, error) {
	v.made = make([]decision, 0, len(v.b.Decisions))
	for i, leaf := range v.leaves {
		body, ok := leaf.Body.(DecisionMade)
		if !ok {
			continue
		}
		n := len(v.made)
		if n == len(v.b.Decisions) {
			return "", refuse(CodeChain, "leaf %d is a decision that the bundle leaves out", i+1)
		}
		d := v.b.Decisions[n]
		assertion, err := d.Assertion.Digest()
		if err != nil {
			return "", err
		}
		digest := approval.DigestOf(d.Statement)
		if body.Statement != digest || body.Assertion != assertion {
			return "", refuse(CodeChain, "decision %d is not the one of leaf %d", n+1, i+1)
		}
		v.made = append(v.made, decision{SignedDecision: d, digest: digest, sequence: leaf.Chain.Sequence, at: leaf.Time})
	}
	if len(v.made) != len(v.b.Decisions) {
		return "", refuse(CodeChain, "decision %d is not in the chain", len(v.made)+1)
	}
	return fmt.Sprintf("%d, each in the chain and in the bundle", len(v.made)), nil
}

func (v *verification) statements() (string, error) {
	v.nonces, v.signed, v.roots = make(map[string]bool, len(v.made)), make(map[Digest]int, len(v.made)), map[int64]Digest{}
	v.said = make(map[string]int64, len(v.made))
	for i := range v.made {
		s, err := ParseStatement(v.made[i].Statement)
		if err == nil {
			err = v.statement(s, i)
		}
		if err != nil {
			return "", refuse(CodeOf(err), "decision %d: %s", i+1, err.Error())
		}
		v.made[i].statement = s
		v.signed[v.made[i].digest] = i
	}
	return fmt.Sprintf("%d, each about its request and its place in the chain", len(v.made)), nil
}

// statement compares the statement of decision i with the bundle around it.
func (v *verification) statement(s Statement, i int) error {
	leaf := v.leaves[v.made[i].sequence-1]
	bad := func(what string) error { return refuse(CodeInvalid, "the statement names another %s", what) }
	if leaf.Body.(DecisionMade).Request != s.Request {
		return bad("request")
	}
	r := v.b.Requests[v.opened[s.Request]] // the leaf's was opened
	switch {
	case s.Workspace != r.Workspace:
		return bad("workspace")
	case s.Destination.Repository != r.Repository:
		return bad("repository")
	case s.PullRequest != r.PullRequest:
		return bad("pull request")
	case s.Source.Commit != r.HeadCommit:
		return bad("head commit")
	case s.Destination.Branch != r.DestinationBranch:
		return bad("destination branch")
	case s.Policy.RuleDigest != r.RuleDigest:
		return bad("rule")
	case s.Policy.RuleDigest == v.b.Facts.Request.RuleDigest && !slices.Equal(s.Requirements, RequirementsOf(v.rule)):
		return bad("set of requirements than its rule has")
	}
	v.places = append(v.places, place{RelyingParty{ID: s.RPID, Origin: s.Origin}, s.LogOrigin})
	head := s.ChainHead
	if head.Chain != leaf.Chain.ID || head.Sequence >= leaf.Chain.Sequence || head.Leaf != LeafDigest(v.b.Chain[head.Sequence-1]) {
		return refuse(CodeChain, "the signer was shown a chain that is not this one")
	}
	if !leaf.Time.Before(r.ExpiresAt) && (s.Purpose == Override || s.Purpose == Approve) {
		return refuse(CodeChain, "it approves or overrides a request that had expired")
	}
	if s.Purpose == Withdraw && !v.withdraws(s) {
		return refuse(CodeChain, "it withdraws no earlier decision of the same person on this commit")
	}
	if v.nonces[string(s.Nonce)] {
		return refuse(CodeInvalid, "its nonce was used before")
	}
	v.nonces[string(s.Nonce)] = true
	if leaf.Time.Before(s.IssuedAt) {
		return refuse(CodeChain, "it was filed before it was issued")
	}
	if !leaf.Time.Before(s.ExpiresAt) {
		return refuse(CodeChain, "it was filed when its signature had expired")
	}
	// What somebody said last is for them alone to take back: what they had signed before cannot be filed behind it.
	if head.Sequence < v.said[s.Approver.Person] {
		return refuse(CodeChain, "the signer was not shown what the same person had decided before")
	}
	v.said[s.Approver.Person] = leaf.Chain.Sequence
	return v.shown(s, i)
}

// withdraws reports whether a statement withdraws an earlier decision of its person.
func (v *verification) withdraws(s Statement) bool {
	i, ok := v.signed[s.Withdraws]
	if !ok {
		return false
	}
	earlier := &v.made[i].statement
	return earlier.Purpose != Withdraw && earlier.Approver.Person == s.Approver.Person && earlier.Source.Commit == s.Source.Commit
}

func (v *verification) assertions() (string, error) {
	ring := v.keys.ring()
	work := int64(0)
	for _, d := range v.made {
		work += ring.work(d.Assertion.Signature)
	}
	if work > MaxRSAWork {
		return "", refuse(CodeTooLarge, "so many RS256 keys would have to be tried on so many decisions that no verifier has to")
	}
	for i := range v.made {
		d := &v.made[i]
		rp := RelyingParty{ID: d.statement.RPID, Origin: d.statement.Origin}
		result, err := verifySigned(d.Statement, rp, d.statement.Approver.Person, d.Assertion, ring, rp)
		if err == nil {
			err = v.counts(i, result.Key)
		}
		if err != nil {
			return "", refuse(CodeOf(err), "decision %d: %s", i+1, err.Error())
		}
	}
	return fmt.Sprintf("%d, each by one key of its approver that counted, user present and verified", len(v.made)), nil
}

func (v *verification) openings() (string, error) {
	for i, d := range v.made {
		err := errors.Join(v.open(d.Approver, d.statement.Approver.Commitment), v.open(d.Author, d.statement.Author.Commitment))
		if d.Approver != nil {
			v.made[i].account = d.Approver.AccountID
		}
		switch {
		case err != nil:
		case d.Comment != nil:
			err = d.Comment.Verify(d.statement.Comment)
		case d.statement.Comment != "":
			v.erased++
		}
		if err != nil {
			return "", refuse(CodeCommitment, "decision %d: an opening does not open its commitment", i+1)
		}
	}
	if err := v.owners(); err != nil {
		return "", err
	}
	if v.erased > 0 {
		v.lacks("erased openings")
		return "", operatorAsserted(fmt.Sprintf("%d openings were erased; those people are known by the operator's word", v.erased))
	}
	return "all commitments open", nil
}

// open checks an opening, and counts one that is absent.
func (v *verification) open(opening *PersonOpening, c Commitment) error {
	if opening == nil {
		v.erased++
		return nil
	}
	return opening.Verify(c)
}
