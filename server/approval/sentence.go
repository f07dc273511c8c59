package approval

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxShown is the length of a display name in a sentence, in characters, and
// maxListed the number of people who are named one by one.
const (
	maxShown  = 30
	maxListed = 3
)

func (v Verdict) sentence() string {
	switch v.State {
	case Rejected:
		return "rejected by " + people(v.Rejections, "and")
	case Approved:
		var counted []Person
		for _, r := range v.Requirements {
			for _, p := range r.Counted {
				if !among(counted, p.ID, p.AccountID) {
					counted = append(counted, p)
				}
			}
		}
		return "approved by " + people(counted, "and")
	case Overridden:
		return v.overridden()
	case Expired:
		if n := len(v.Requirements); n > 0 && v.met() == n {
			return "expired before it was approved"
		}
		if len(v.Requirements) == 1 {
			r := v.Requirements[0]
			return fmt.Sprintf("expired before %s given (%d of %d)", were(r.Quorum), r.Quorum-r.Missing, r.Quorum)
		}
		return fmt.Sprintf("expired before all requirements were met (%d of %d)", v.met(), len(v.Requirements))
	default:
		return v.pending()
	}
}

// overridden says who overrode, and what stood in the way.
func (v Verdict) overridden() string {
	progress := fmt.Sprintf("%d of %d requirements met", v.met(), len(v.Requirements))
	if len(v.Requirements) == 1 {
		progress = v.Requirements[0].progress()
	}
	if n := len(v.Rejections); n > 0 {
		s := fmt.Sprintf("overridden by %s; rejected by %s; %s", people(v.Override.Counted, "and"), people(v.Rejections, "and"), progress)
		if utf8.RuneCountInString(s) <= MaxSentence {
			return s
		}
		progress = fmt.Sprintf("rejected by %d; %s", n, progress)
	}
	return fmt.Sprintf("overridden by %s; %s", people(v.Override.Counted, "and"), progress)
}

func (v Verdict) pending() string {
	var open []RequirementVerdict
	for _, r := range v.Requirements {
		if !r.Met() {
			open = append(open, r)
		}
	}
	if len(open) == 0 {
		return "cannot be reached: the rule asks for nobody's approval"
	}
	for _, r := range open {
		if r.Quorum < 1 || len(r.CanStillApprove) < r.Missing {
			return v.named(r, "cannot be reached: "+r.shortage())
		}
	}
	parts := make([]string, len(open))
	for i, r := range open {
		parts[i] = v.named(r, fmt.Sprintf("%s; waiting for %s", r.progress(), people(r.CanStillApprove, "or")))
	}
	if s := strings.Join(parts, ". "); utf8.RuneCountInString(s) <= MaxSentence {
		return s
	}
	return fmt.Sprintf("%d of %d requirements met; waiting for %s",
		v.met(), len(v.Requirements), v.named(open[0], people(open[0].CanStillApprove, "or")))
}

// named puts the requirement's name before a sentence when there are several.
func (v Verdict) named(r RequirementVerdict, sentence string) string {
	if len(v.Requirements) == 1 {
		return sentence
	}
	return shown(r.Name) + ": " + sentence
}

func (v Verdict) met() (n int) {
	for _, r := range v.Requirements {
		if r.Met() {
			n++
		}
	}
	return n
}

func (v RequirementVerdict) progress() string {
	return fmt.Sprintf("%d of %s", v.Quorum-v.Missing, approvals(v.Quorum))
}

func (v RequirementVerdict) shortage() string {
	if v.Quorum < 1 {
		return "the requirement asks for nobody's approval"
	}
	more := fmt.Sprintf("%d more approvals are needed", v.Missing)
	if v.Missing == 1 {
		more = "1 more approval is needed"
	}
	switch n := len(v.CanStillApprove); n {
	case 0:
		return more + " and nobody is left who can give it"
	case 1:
		return more + " and only " + people(v.CanStillApprove, "and") + " is left who can give one"
	default:
		return fmt.Sprintf("%s and only %d people are left who can give one", more, n)
	}
}

func (g Ignored) sentence(action Action) string {
	name := called(g.Person)
	if action == Override {
		switch g.Reason {
		case OtherDestination:
			return name + " overrode the rule for another destination branch"
		case OtherRule:
			return name + " overrode another version of the rule"
		case OtherRequest:
			return name + " overrode another request for this commit"
		case IsAuthor:
			return name + " is the author and may not override"
		case NotAnApprover:
			return name + " is not among those who may override"
		case LoginOnlyKey:
			return name + " overrode with a key that nobody has countersigned"
		case UnprovedModel:
			return name + " overrode with a key that is not proved to be one of the models that the rule names"
		case CompromisedKey:
			return name + " overrode with a key that may have been in other hands"
		default:
			return name + " is counted already"
		}
	}
	switch g.Reason {
	case OtherDestination:
		return name + " approved this commit for another destination branch"
	case OtherRule:
		return name + " approved under another version of the rule"
	case OtherRequest:
		return name + " approved another request for this commit"
	case IsAuthor:
		return name + " is the author and may not approve"
	case NotAnApprover:
		return name + " is not among the approvers"
	case LoginOnlyKey:
		return name + " approved with a key that nobody has countersigned"
	case UnprovedModel:
		return name + " approved with a key that is not proved to be one of the models that the rule names"
	case CompromisedKey:
		return name + " approved with a key that may have been in other hands"
	default:
		return name + " is counted already"
	}
}

func approvals(n int) string {
	if n == 1 {
		return "1 approval"
	}
	return fmt.Sprintf("%d approvals", n)
}

func were(n int) string {
	if n == 1 {
		return "1 approval was"
	}
	return fmt.Sprintf("%d approvals were", n)
}

// people names up to [maxListed] people and counts more than that.
func people(list []Person, conjunction string) string {
	names := make([]string, 0, maxListed)
	for _, p := range list[:min(len(list), maxListed)] {
		names = append(names, called(p))
	}
	switch rest := len(list) - len(names); {
	case rest == 0:
		return listed(names, conjunction)
	case conjunction == "or":
		return fmt.Sprintf("any of %d people", len(list))
	case rest == 1:
		return listed(append(names, "1 other"), conjunction)
	default:
		return listed(append(names, fmt.Sprintf("%d others", rest)), conjunction)
	}
}

// listed joins words as a sentence does: "a", "a and b", "a, b and c".
func listed(words []string, conjunction string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " " + conjunction + " " + words[last]
}

// called is what a person is called in a sentence.
func called(p Person) string {
	if name := shown(p.Name); name != "" {
		return name
	}
	return "account " + shown(p.AccountID)
}

// shown makes a name fit for a sentence on one line: characters that hide or
// reorder their neighbours are dropped and a long name is cut.
func shown(name string) string {
	name = strings.Map(func(c rune) rune {
		if unicode.IsSpace(c) {
			return ' '
		}
		if c == utf8.RuneError || !unicode.IsPrint(c) {
			return -1
		}
		return c
	}, name)
	return clip(strings.Join(strings.Fields(name), " "), maxShown)
}

// clip cuts s to at most n characters.
func clip(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}
