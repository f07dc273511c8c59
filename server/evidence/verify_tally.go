package evidence

import (
	"fmt"
	"slices"
	"strings"

	"github.com/signedapproval/bitbucket/server/approval"
)

// facts makes sure that the tally was given exactly the decisions on this
// commit, as they were signed.
func (v *verification) facts() (string, error) {
	f := v.b.Facts
	if !utc(f.Now) {
		return "", refuse(CodeInvalid, "the time of the tally must be in UTC")
	}
	if f.Request.Lapsed != v.lapsed() {
		return "", refuse(CodeInvalid, "the tally was told otherwise than the chain shows whether the time was up before the request was approved")
	}
	asserted := f.Decisions
	v.known = f
	v.known.Decisions = slices.Clone(f.Decisions)
	for i, d := range v.made {
		s := d.statement
		if s.Source.Commit != v.request.HeadCommit {
			continue
		}
		if len(asserted) == 0 {
			return "", refuse(CodeInvalid, "decision %d was kept from the tally", i+1)
		}
		got := asserted[0]
		v.made[i].tallied = len(f.Decisions) - len(asserted) + 1
		asserted = asserted[1:]
		want := approval.Decision{
			ID: d.ID, RequestID: s.Request, PersonID: s.Approver.Person, AccountID: got.AccountID, Name: got.Name,
			Action: s.Purpose.Action(), HeadCommit: s.Source.Commit, DestinationBranch: s.Destination.Branch,
			RuleDigest: s.Policy.RuleDigest, Sequence: d.sequence, Compromised: d.compromised, Late: !d.at.Before(v.request.ExpiresAt),
		}
		if d.Approver != nil {
			want.AccountID, want.Name = d.Approver.AccountID, d.Approver.Name
		}
		if v.rule.Needs().Identities {
			want.Identity = string(v.keys.IdentityAt(d.key, d.version))
		}
		today := &v.known.Decisions[v.made[i].tallied-1]
		today.Compromised, today.Identity = want.Compromised, want.Identity
		// What was reported when the verdict had been reached nobody could tell the tally.
		want.Compromised = want.Compromised && got.Compromised
		if want.Identity == approval.Disowned && got.Identity == approval.Countersigned {
			want.Identity, v.made[i].disowned = got.Identity, true
		}
		if v.rule.Needs().Models {
			want.Model = v.model(d.key, got.Model)
		}
		if got.Model != want.Model {
			return "", refuse(CodeAttestation, "the tally was told of which model the key of decision %d is, and that is not what its attestation proves", i+1)
		}
		if got != want {
			return "", refuse(CodeInvalid, "the tally was given decision %d otherwise than it was signed", i+1)
		}
		if d.Approver == nil && !erased(got.AccountID) {
			v.made[i].account = got.AccountID
		}
		if d.Author != nil && d.Author.AccountID != f.Author {
			return "", refuse(CodeInvalid, "decision %d names another author than the tally was given", i+1)
		}
	}
	if len(asserted) > 0 {
		return "", refuse(CodeInvalid, "the tally was given a decision that nobody signed")
	}
	if v.unproved {
		v.lacks("models")
		return "", operatorAsserted("the decisions were given to the tally as signed; that a key's certificate rests on a root of its model is the operator's word")
	}
	return fmt.Sprintf("%d decisions on this commit, all given to the tally as signed", len(f.Decisions)), nil
}

func (v *verification) tally() (string, error) {
	got, counted := approval.Count(v.rule, v.b.Facts)
	want := v.b.Verdict
	v.judged, v.counted = want, counted
	if len(v.b.OutcomeSalt) == 0 && Untold(v.rule, v.b.Facts, want) {
		// Whether those who were asked agreed cannot be told any more; whether as many did can.
		could, counted := approval.CountAgain(open(v.rule), deciding(v.b.Facts), want.State)
		if green(string(want.State)) && could.State != want.State {
			return "", refuse(CodeInvalid, "the bundle says %s, and whoever may have been erased, too few people agreed for that", want.State)
		}
		v.untold, v.counted = true, counted
		if err := v.judge(); err != nil {
			return "", err
		}
		v.lacks("tally, which cannot be run again without the people who were erased")
		return "", operatorAsserted("people were erased from the facts, so that the rule no longer knows them: that the verdict follows from the decisions is the operator's word")
	}
	if got.State != want.State || got.Sentence != want.Sentence {
		return "", refuse(CodeInvalid, "the tally comes to %s (%s), the bundle says %s (%s)", got.State, got.Sentence, want.State, want.Sentence)
	}
	if !sameVerdict(got, want) {
		return "", refuse(CodeInvalid, "the tally explains the verdict otherwise than the bundle does")
	}
	if err := v.judge(); err != nil {
		return "", err
	}
	detail := fmt.Sprintf("%s: %s", got.State, got.Sentence)
	if v.judged.Sentence != got.Sentence {
		detail += fmt.Sprintf("; by what is known of the keys today: %s: %s", v.judged.State, v.judged.Sentence)
	}
	return detail, nil
}

// judge tallies by what is known of the keys today. It takes away what was green, and makes nothing green: a
// verdict that lets nothing be merged stays as it was reached.
func (v *verification) judge() error {
	if slices.Equal(v.known.Decisions, v.b.Facts.Decisions) {
		return nil // the tally knew
	}
	today, counted, stands := Today(v.rule, v.known, v.b.Verdict, v.untold)
	v.counted = counted
	if !stands {
		return refuse(CodeStolen, "the bundle says %s, and that rests on a decision whose key, or one that signed for it, was reported as having been in other hands by then: without what such keys signed it is %s (%s)",
			v.b.Verdict.State, today.State, today.Sentence)
	}
	v.judged = today
	return nil
}

// again tallies once more, by other facts than those that a verdict was reached on. Where people were erased, whoever decided is one
// of those who were asked.
func again(rule approval.Rule, facts approval.Facts, then approval.State, untold bool) (approval.Verdict, []int64) {
	if untold {
		rule, facts = open(rule), deciding(facts)
	}
	return approval.CountAgain(rule, facts, then)
}

// Today is what becomes of a verdict by what is known of the keys today: known are the facts that it was reached on, with that. It
// returns false where the verdict let something be merged and falls, with what it is without what stolen keys signed; else the
// verdict that stands. untold is as of [Untold]: then so many people as the rule asks for have to be left, whoever they are.
func Today(rule approval.Rule, known approval.Facts, then approval.Verdict, untold bool) (today approval.Verdict, counted []int64, stands bool) {
	today, counted = again(rule, known, then.State, untold)
	switch {
	case untold && today.State == then.State: // who counts is told by nothing
		return then, counted, true
	case today.State == then.State, !untold && then.State == approval.Approved && today.State == approval.Overridden:
		return today, counted, true
	case green(string(then.State)):
		return today, counted, false
	}
	return then, counted, true
}

// Untold reports whether people were erased from the facts of a verdict, so that a tally of them does not come to it any more.
// The caller has seen that nothing commits to the facts.
func Untold(rule approval.Rule, f approval.Facts, then approval.Verdict) bool {
	if !erasedFrom(f) {
		return false
	}
	got, _ := approval.Count(rule, f)
	return !sameVerdict(got, then)
}

func sameVerdict(a, b approval.Verdict) bool {
	one, err := digest(a)
	other, unread := digest(b)
	return err == nil && unread == nil && one == other
}

// open returns the rule with everyone in each of its sets.
func open(rule approval.Rule) approval.Rule {
	rule.Requirements = slices.Clone(rule.Requirements)
	for i := range rule.Requirements {
		rule.Requirements[i].Approvers = approval.Approvers{Everyone: true}
	}
	if rule.Override != nil {
		o := *rule.Override
		o.Approvers = approval.Approvers{Everyone: true}
		rule.Override = &o
	}
	return rule
}

// deciding returns the facts with those who decided for the people who can.
func deciding(f approval.Facts) approval.Facts {
	f.Writers = nil
	for _, d := range f.Decisions {
		f.Writers = append(f.Writers, approval.Person{ID: d.PersonID, AccountID: d.AccountID, Name: d.Name})
	}
	return f
}

// erasedFrom reports whether facts give out that somebody was erased from them.
func erasedFrom(f approval.Facts) bool {
	person := func(p approval.Person) bool { return erased(p.AccountID) }
	return erased(f.Author) || slices.ContainsFunc(f.Writers, person) || slices.ContainsFunc(f.People, person) ||
		slices.ContainsFunc(f.Decisions, func(d approval.Decision) bool { return erased(d.AccountID) })
}

// erased reports whether facts or a verdict have this in place of an account.
func erased(account string) bool { return strings.HasPrefix(account, ErasedPrefix) }

// verdict makes sure that the chain's last word on the request is this verdict.
func (v *verification) verdict() (string, error) {
	last := slices.IndexFunc(reversed(v.leaves), func(l Leaf) bool {
		body, ok := l.Body.(VerdictReached)
		return ok && body.Request == v.request.ID
	})
	if last < 0 {
		return "", refuse(CodeChain, "the chain has no verdict on this request")
	}
	at := len(v.leaves) - 1 - last
	body := v.leaves[at].Body.(VerdictReached)
	if body.State != string(v.b.Verdict.State) {
		return "", refuse(CodeChain, "the chain's last verdict on this request is another one")
	}
	if len(v.b.OutcomeSalt) > 0 {
		outcome, err := OutcomeDigest(v.b.OutcomeSalt, v.digest, v.b.Facts, v.b.Verdict)
		if err != nil {
			return "", err
		}
		if body.Outcome != outcome {
			return "", refuse(CodeChain, "the chain's last verdict on this request is another one")
		}
	}
	for i, d := range v.made {
		if d.statement.Source.Commit == v.request.HeadCommit && d.sequence > int64(at+1) {
			return "", refuse(CodeChain, "decision %d was made after the verdict", i+1)
		}
	}
	if err := v.history(); err != nil {
		return "", err
	}
	if len(v.b.OutcomeSalt) == 0 {
		v.lacks("facts of the verdict, which were erased")
		return "", operatorAsserted(fmt.Sprintf("leaf %d commits to it, but the facts were erased: that these are the ones is the operator's word", at+1))
	}
	return fmt.Sprintf("leaf %d commits to it", at+1), nil
}

func reversed(leaves []Leaf) []Leaf {
	leaves = slices.Clone(leaves)
	slices.Reverse(leaves)
	return leaves
}
