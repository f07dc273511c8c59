package approval

import (
	"cmp"
	"slices"
)

// Tally decides. It never fails: facts that are missing or contradict each
// other count against approval.
//
// The semantics, which an evidence verifier repeats:
//
//  1. Only decisions on the request's head commit are looked at.
//  2. A rejection blocks, whichever request, rule version or destination it was
//     signed under and whoever gave it, until the same person later withdraws,
//     approves this very request, or overrides with an override that counts; with
//     a key that was in nobody else's hands, unless the rejection's was too, and
//     that the rule takes, unless it does not take the rejection's either; it takes a
//     disowned key rather than one that nobody vouched for.
//  3. An approval stands until somebody with the same person id or the same
//     account id later decides anything else. It counts for a requirement when it
//     was signed for this request, destination branch and rule, its account is
//     in the requirement's set, it is not the author's unless the rule
//     allows that, and its key is one that the rule counts.
//  4. The same holds for an override and the set that the rule lets override; an
//     approval of something else leaves it alone. So nobody's approval and
//     override of this request stand at the same time.
//  5. People who share a person id or an account id count once, and so do those whom
//     another decision on the commit makes one, being by the person of one of them
//     with the account of the other: whatever it says and by whatever key. What one of
//     them decides later ends what another one approved or overrode before, and where
//     one is the author all are.
//  6. The state is APPROVED if every requirement is met and no rejection stands,
//     else OVERRIDDEN if the rule has an override and its quorum is met, else
//     REJECTED if a rejection stands, else EXPIRED if the time is up, else
//     PENDING. An override that was given in time outlasts the request's expiry,
//     as an approval does.
//  7. Once the time is up nothing makes a request better: no approval and no
//     override that is late counts, what is APPROVED although a rejection that was
//     made in time was taken back late is not, and a request that has lapsed is
//     neither APPROVED nor OVERRIDDEN. It is EXPIRED where no rejection stands.
func Tally(rule Rule, f Facts) Verdict {
	v, _ := Count(rule, f)
	return v
}

// Count is [Tally] that also tells the sequences of the decisions that the
// state rests on, in their order: the overrides that count where it is
// OVERRIDDEN, else the approvals that count for some requirement.
func Count(rule Rule, f Facts) (v Verdict, counted []int64) { return count(rule, f, false) }

// CountAgain is [Count] of what a verdict was reached on before. What was overridden and
// has the quorum for that still stays OVERRIDDEN, whoever approved: where people were
// erased, everyone who decided is taken for somebody who was asked, and those who were
// not can be enough for an approval that there never was.
func CountAgain(rule Rule, f Facts, was State) (v Verdict, counted []int64) {
	return count(rule, f, was == Overridden)
}

// count prefers OVERRIDDEN to APPROVED where overridden is true.
func count(rule Rule, f Facts, overridden bool) (v Verdict, counted []int64) {
	t := tally{rule: rule, facts: f, names: map[string]string{}, persons: map[string]int{}, accounts: map[string]int{}}
	t.readDecisions()
	t.readHumans()
	t.readNames()

	v = Verdict{State: Pending, Requirements: []RequirementVerdict{}}
	if rule.Override != nil {
		o := t.requirement(rule.Override.requirement(), Override)
		t.overriding, v.Override = o.Counted, &o
	}
	overrides := t.counted
	t.counted = nil
	t.rejecting = t.rejections()
	v.Rejections = t.rejecting
	met := len(rule.Requirements) > 0
	for _, q := range rule.Requirements {
		r := t.requirement(q, Approve)
		met = met && r.Met()
		v.Requirements = append(v.Requirements, r)
	}
	rescued := t.rescued()
	override := v.Override != nil && v.Override.Met() && !f.Request.Lapsed
	switch {
	case overridden && override:
		v.State = Overridden
	case met && len(v.Rejections) == 0 && !rescued && !f.Request.Lapsed:
		v.State = Approved
	case override:
		v.State = Overridden
	case len(v.Rejections) > 0:
		v.State = Rejected
	case !f.Now.Before(f.Request.ExpiresAt), rescued, f.Request.Lapsed:
		v.State = Expired
	}
	v.Sentence = v.sentence()
	if v.State == Overridden {
		return v, overrides
	}
	slices.Sort(t.counted)
	return v, slices.Compact(t.counted)
}

// tally is one run of [Tally].
type tally struct {
	rule      Rule
	facts     Facts
	decisions []Decision        // on the head commit, each once, in order
	names     map[string]string // by account id
	persons   map[string]int    // who decided, by person id: one number for all who are one
	accounts  map[string]int    // likewise, by account id

	overriding []Person // whose override counts
	rejecting  []Person // whose rejection stands
	counted    []int64  // sequences of the decisions that count, as they are met
}

func (t *tally) readDecisions() {
	for _, d := range t.facts.Decisions {
		if d.HeadCommit == t.facts.Request.HeadCommit {
			t.decisions = append(t.decisions, d)
		}
	}
	slices.SortFunc(t.decisions, func(a, b Decision) int {
		return cmp.Or(
			cmp.Compare(a.Sequence, b.Sequence),
			cmp.Compare(a.AccountID, b.AccountID), cmp.Compare(a.PersonID, b.PersonID),
			cmp.Compare(a.Action, b.Action), cmp.Compare(a.ID, b.ID),
			cmp.Compare(a.RequestID, b.RequestID), cmp.Compare(a.DestinationBranch, b.DestinationBranch),
			cmp.Compare(a.RuleDigest, b.RuleDigest), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Identity, b.Identity),
			cmp.Compare(a.Model, b.Model),
			compareBool(a.Compromised, b.Compromised), compareBool(a.Late, b.Late),
		)
	})
	t.decisions = slices.Compact(t.decisions)
}

// readHumans finds out which persons and accounts are one by the decisions.
func (t *tally) readHumans() {
	for i, d := range t.decisions {
		human, other := t.human(d.PersonID, d.AccountID), t.accounts[d.AccountID]
		if human == 0 {
			human = i + 1
		}
		if other != 0 && other != human {
			for _, known := range []map[string]int{t.persons, t.accounts} {
				for id, was := range known {
					if was == other {
						known[id] = human
					}
				}
			}
		}
		if t.accounts[d.AccountID] = human; d.PersonID != "" {
			t.persons[d.PersonID] = human
		}
	}
}

// human numbers whoever decided as a person, or with an account where that person did not; 0 where nobody did.
func (t *tally) human(personID, account string) int {
	if human := t.persons[personID]; human != 0 {
		return human
	}
	return t.accounts[account]
}

// isOneOf reports whether somebody is one with one of the people.
func (t *tally) isOneOf(people []Person, personID, account string) bool {
	human := t.human(personID, account)
	return among(people, personID, account) || human != 0 && slices.ContainsFunc(people, func(p Person) bool { return t.human(p.ID, p.AccountID) == human })
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// readNames prefers the names that were asked for now over those of the time
// of a decision, and takes the least of two names so that order has no say.
func (t *tally) readNames() {
	learn := func(account, name string) {
		if name != "" && (t.names[account] == "" || name < t.names[account]) {
			t.names[account] = name
		}
	}
	for _, p := range t.facts.People {
		learn(p.AccountID, p.Name)
	}
	settled := make(map[string]bool, len(t.names))
	for account := range t.names {
		settled[account] = true
	}
	for _, d := range t.decisions {
		if !settled[d.AccountID] {
			learn(d.AccountID, d.Name)
		}
	}
	if t.rule.Needs().Writers {
		for _, w := range t.facts.Writers {
			if !settled[w.AccountID] {
				learn(w.AccountID, w.Name)
			}
		}
	}
}

func (t *tally) person(personID, account string) Person {
	return Person{ID: personID, AccountID: account, Name: t.names[account]}
}

// rejections returns the people whose rejection stands.
func (t *tally) rejections() []Person {
	people := []Person{}
	for _, d := range t.decisions {
		if d.Action == Reject && !t.cleared(d, true) && !among(people, d.PersonID, d.AccountID) {
			people = append(people, t.person(d.PersonID, d.AccountID))
		}
	}
	return people
}

// rescued reports whether a rejection that was made in time stands no longer only
// because of what came when the time was up.
func (t *tally) rescued() bool {
	return slices.ContainsFunc(t.decisions, func(d Decision) bool {
		return d.Action == Reject && !d.Late && t.cleared(d, true) && !t.cleared(d, false)
	})
}

// cleared reports whether a later decision takes a rejection back; late says whether one
// that came when the time was up may.
func (t *tally) cleared(rejection Decision, late bool) bool {
	return slices.ContainsFunc(t.decisions, func(d Decision) bool {
		return d.Sequence > rejection.Sequence && (late || !d.Late) &&
			d.PersonID == rejection.PersonID && d.AccountID == rejection.AccountID &&
			t.rule.takesBack(d) &&
			(d.Action == Withdraw || d.Action == Approve && t.unbound(d) == "" ||
				d.Action == Override && among(t.overriding, d.PersonID, d.AccountID))
	})
}

// void reports whether an approval or override no longer stands.
func (t *tally) void(given Decision) bool {
	return slices.ContainsFunc(t.decisions, func(d Decision) bool {
		return d.Sequence >= given.Sequence && d.Action != given.Action && (d.Action != Approve || t.unbound(d) == "") &&
			t.human(d.PersonID, d.AccountID) == t.human(given.PersonID, given.AccountID)
	})
}

// takesBack reports whether the key of a decision may take a rejection back: one that could approve by the rule, and that was not
// stolen. What becomes known of the key that rejected has no say in it, so that no report can help.
func (r Rule) takesBack(later Decision) bool {
	return !later.Compromised && r.known(later) && r.proved(later)
}

// Withdraws reports whether a withdrawal of the same person that came later takes a decision back. It does
// with an approval and an override, whatever its key.
func (r Rule) Withdraws(withdrawal, d Decision) bool {
	return d.Action != Reject || r.takesBack(withdrawal)
}

func (r Rule) known(d Decision) bool {
	return r.Keys == nil || !r.Keys.Countersigned || d.Identity == Countersigned
}

func (r Rule) proved(d Decision) bool {
	return r.Keys == nil || len(r.Keys.Models) == 0 || slices.Contains(r.Keys.Models, d.Model)
}

// unbound says why a decision is not about this request, or nothing.
func (t *tally) unbound(d Decision) Reason {
	request := t.facts.Request
	switch {
	case d.DestinationBranch != request.DestinationBranch:
		return OtherDestination
	case d.RuleDigest != request.RuleDigest:
		return OtherRule
	case d.RequestID != request.ID:
		return OtherRequest
	}
	return ""
}

// requirement counts the decisions of one action, approve or override.
func (t *tally) requirement(q Requirement, action Action) RequirementVerdict {
	v := RequirementVerdict{
		Name: q.Name, Quorum: q.Quorum,
		Counted: []Person{}, CanStillApprove: []Person{}, Ignored: []Ignored{},
	}
	set := t.set(q)
	inSet := func(account string) bool {
		return slices.ContainsFunc(set, func(p Person) bool { return p.AccountID == account })
	}
	isAuthor := func(account string) bool { return account == t.facts.Author && !t.rule.AuthorMayApprove }

	var ignored []Ignored
	for _, d := range t.decisions {
		if d.Action != action || d.Late || t.void(d) {
			continue
		}
		reason := t.unbound(d)
		switch {
		case reason != "":
		case isAuthor(d.AccountID), isAuthor(t.facts.Author) && t.human(d.PersonID, d.AccountID) == t.accounts[t.facts.Author]:
			reason = IsAuthor
		case !inSet(d.AccountID):
			reason = NotAnApprover
		case d.Compromised:
			reason = CompromisedKey
		case !t.rule.known(d):
			reason = LoginOnlyKey
		case !t.rule.proved(d):
			reason = UnprovedModel
		case t.isOneOf(v.Counted, d.PersonID, d.AccountID):
			reason = SamePerson
		default:
			v.Counted = append(v.Counted, t.person(d.PersonID, d.AccountID))
			t.counted = append(t.counted, d.Sequence)
			continue
		}
		ignored = append(ignored, Ignored{Person: t.person(d.PersonID, d.AccountID), Reason: reason})
	}
	v.Ignored = explain(ignored, v.Counted, action)
	v.Missing = max(q.Quorum-len(v.Counted), 0)

	for _, p := range set {
		if !isAuthor(p.AccountID) && !t.isOneOf(v.Counted, p.ID, p.AccountID) && (action == Override || !among(t.rejecting, p.ID, p.AccountID)) {
			v.CanStillApprove = append(v.CanStillApprove, p)
		}
	}
	return v
}

// set returns the people of a requirement's set, each once, by name.
func (t *tally) set(q Requirement) []Person {
	byAccount := map[string]Person{}
	add := func(id, account string) {
		if known, ok := byAccount[account]; !ok || known.ID < id {
			byAccount[account] = t.person(id, account)
		}
	}
	if q.Approvers.Everyone {
		for _, w := range t.facts.Writers {
			add(w.ID, w.AccountID)
		}
	}
	for _, account := range q.Approvers.Accounts {
		add("", account)
		for _, p := range t.facts.People {
			if p.AccountID == account {
				add(p.ID, account)
			}
		}
	}
	people := make([]Person, 0, len(byAccount))
	for _, p := range byAccount {
		people = append(people, p)
	}
	slices.SortFunc(people, func(a, b Person) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.AccountID, b.AccountID))
	})
	return people
}

// among reports whether one of the people shares the person id or the account id.
func among(people []Person, personID, account string) bool {
	return slices.ContainsFunc(people, func(p Person) bool {
		return p.AccountID == account || p.ID == personID && personID != ""
	})
}

// explain keeps, for each person who is not counted, the last approval or
// override that was ignored, and says why. What a counted person gave before is
// nobody's concern, unless a second account tried to count again.
func explain(ignored []Ignored, counted []Person, action Action) []Ignored {
	kept := []Ignored{}
	for i, g := range ignored {
		later := slices.ContainsFunc(ignored[i+1:], func(h Ignored) bool { return h.Person.AccountID == g.Person.AccountID })
		settled := slices.ContainsFunc(counted, func(p Person) bool { return p.AccountID == g.Person.AccountID })
		if later || settled {
			continue
		}
		g.Sentence = g.sentence(action)
		kept = append(kept, g)
	}
	return kept
}
