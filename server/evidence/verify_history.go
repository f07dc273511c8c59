package evidence

import (
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
)

// The facts of a verdict are in a bundle only of the last one. Of those before it a verifier knows who had decided what by
// then, which is enough to refuse what nobody can have agreed to.

// history makes sure that nothing in the chain is called approved or overridden, shown or merged as such, for which too few
// people had signed, or whose time had been up, and that nobody decided about what had been merged so.
func (v *verification) history() error {
	made, landed := 0, false
	rejecting := map[string]map[string]bool{} // people by commit
	agreed := map[string]bool{}               // requests that were approved or overridden once
	var open agreement
	for i, leaf := range v.leaves {
		switch body := leaf.Body.(type) {
		case RequestOpened:
			r := v.b.Requests[v.opened[body.Request]]
			if rejecting[r.HeadCommit] == nil {
				rejecting[r.HeadCommit] = map[string]bool{}
			}
			open = agreement{
				term: term{expires: r.ExpiresAt}, approving: map[string]bool{}, overriding: map[string]bool{}, rejecting: rejecting[r.HeadCommit],
				request: body.Request, approvals: 1, overrides: 1,
			}
			if r.RuleDigest == v.b.Facts.Request.RuleDigest {
				open.overrides = 0
				if v.rule.Override != nil {
					open.overrides = v.rule.Override.Quorum
				}
			}
		case RequestClosed:
			open = agreement{}
		case DecisionMade:
			if landed {
				return refuse(CodeChain, "leaf %d decides about what had been merged before", i+1)
			}
			open.decide(v.made[made].statement, leaf.Time)
			made++
		case VerdictReached:
			lapsed := open.conclude(body.State, leaf.Time)
			if !green(body.State) {
				continue
			}
			if lapsed {
				return refuse(CodeChain, "leaf %d calls %s what was not when its time was up", i+1, body.State)
			}
			if !open.reached(body.State) {
				return refuse(CodeChain, "leaf %d says %s, and too few people had signed for that, or one of them had rejected it", i+1, body.State)
			}
			agreed[body.Request] = true
		case MergeChecked:
			if body.Answer == AnswerYes && green(body.Code) && !open.reached(body.Code) {
				return refuse(CodeChain, "leaf %d lets something be merged that was taken back or rejected before", i+1)
			}
		case StatusPaid:
			if body.State == "SUCCESSFUL" && !agreed[body.Request] {
				return refuse(CodeChain, "leaf %d shows as successful what was neither approved nor overridden before", i+1)
			}
		case Merged:
			if body.Kind == "violation" {
				continue
			}
			if !open.merges(body) {
				return refuse(CodeChain, "leaf %d calls a merge %s, and the leaves before it do not show that", i+1, body.Kind)
			}
			landed = true
		}
	}
	return nil
}

// green reports whether a state lets something be merged.
func green(state string) bool {
	return state == string(approval.Approved) || state == string(approval.Overridden)
}

// agreement is who agrees to the open request, by what was signed up to a place in the chain.
type agreement struct {
	term
	request               string          // empty while none is open
	approving, overriding map[string]bool // people who decided so about this request
	rejecting             map[string]bool // people who rejected its commit, whatever they decided about this request later
	// approvals and overrides are how many of them it takes, as far as it is known; no override where overrides is 0.
	approvals, overrides int
}

func (a *agreement) decide(s Statement, at time.Time) {
	person := s.Approver.Person
	delete(a.approving, person)
	delete(a.overriding, person)
	switch s.Purpose {
	case Approve:
		a.approving[person] = true
	case Override:
		a.overriding[person] = true
	case Reject:
		a.rejecting[person] = true
	case Withdraw:
		delete(a.rejecting, person)
	case Enrol, Countersign, Revoke, SetPolicy, Protect: // in no statement
	}
	for _, q := range s.Requirements {
		a.approvals = max(a.approvals, q.Quorum)
	}
	a.signed(at)
}

// reached reports whether enough people agree for a state, if each of them were asked.
func (a *agreement) reached(state string) bool {
	if state == string(approval.Overridden) {
		return a.overrides > 0 && len(a.overriding) >= a.overrides
	}
	for person := range a.rejecting {
		if !a.approving[person] && !a.overriding[person] {
			return false
		}
	}
	return len(a.approving) >= a.approvals
}

// merges reports whether a merge is what its kind says. What bore an override when it was merged stays one, though what was
// signed by then turns out to be enough for an approval.
func (a *agreement) merges(m Merged) bool {
	return a.request != "" && m.Request == a.request && a.reached(a.verdict) &&
		(a.verdict == string(approval.Approved) || a.verdict == string(approval.Overridden) && m.Kind == "override")
}

// lapsed reports whether the request of the verdict had lapsed when the chain's last verdict on it was reached.
func (v *verification) lapsed() (lapsed bool) {
	t := term{expires: v.request.ExpiresAt}
	for _, leaf := range v.leaves {
		switch body := leaf.Body.(type) {
		case DecisionMade:
			t.signed(leaf.Time)
		case VerdictReached:
			if body.Request == v.request.ID {
				lapsed = t.conclude(body.State, leaf.Time)
			}
		}
	}
	return lapsed
}

// term is the time that a request has, at a place in the chain.
type term struct {
	expires time.Time
	verdict string // state of the last one; empty before the first
	late    bool   // it, or one before it, came when the time was up
	timely  bool   // somebody decided in time since
}

func (t *term) signed(at time.Time) { t.timely = t.timely || at.Before(t.expires) }

// conclude moves on over a verdict, and reports whether the request had lapsed by then, as
// [approval.RequestFacts] says. Once the time was up it stays so, whatever later leaves are dated.
func (t *term) conclude(state string, at time.Time) bool {
	over := t.late || !at.Before(t.expires)
	lapsed := over && t.verdict != "" && !green(t.verdict) && (t.late || !t.timely)
	t.verdict, t.late, t.timely = state, over, false
	return lapsed
}
