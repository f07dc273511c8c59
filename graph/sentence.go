package graph

import (
	"fmt"
	"strings"

	"github.com/signedapproval/bitbucket/server/approval"
)

// What is here is read by those who sign a change of rules: rules that differ read differently. A text that somebody made up,
// which is every pattern and every name, stands in quotes that it cannot end; a list says how many it has, for what looks
// like a quote may be part of a name; and people and models are never without the identifier that counts.

var quotes = strings.NewReplacer(`\`, `\\`, "“", `\“`, "”", `\”`)

// quoted puts somebody's text into quotes.
func quoted(text string) string { return "“" + quotes.Replace(text) + "”" }

// counted says how many there are, and which.
func counted(one, many string, list []string) string {
	word := many
	if len(list) == 1 {
		word = one
	}
	return fmt.Sprintf("%d %s: %s", len(list), word, strings.Join(list, ", "))
}

func (p *person) inSentence() string { return quoted(p.Name) + " (" + p.AccountID + ")" }

func (a account) inSentence() string { return quoted(a.Name) + " (" + a.AccountID + ")" }

// modelName is what a model is called: never without its AAGUID, which is what counts.
func (r *resolver) modelName(aaguid string) string {
	if known := r.model(aaguid); known.Description != nil {
		return quoted(*known.Description) + " (" + aaguid + ")"
	}
	return aaguid
}

// ruleSentence says what a rule asks for, and leaves nothing of it out.
func (r *resolver) ruleSentence(from approval.Rule, names map[string]string) string {
	by := func(quorum int, a approval.Approvers) string {
		if a.Everyone {
			return fmt.Sprintf("%d of all who can write", quorum)
		}
		return fmt.Sprintf("%d of %s", quorum, counted("person", "people", each(a.Accounts, func(id string) string { return named(id, names).inSentence() })))
	}
	needs := each(from.Requirements, func(q approval.Requirement) string { return quoted(q.Name) + ", " + by(q.Quorum, q.Approvers) })
	sentence := fmt.Sprintf("%s, for %s; it has %s", quoted(from.Name), counted("branch pattern", "branch patterns", each(from.Branches, quoted)),
		counted("requirement", "requirements", needs))
	if from.Keys != nil && from.Keys.Countersigned {
		sentence += "; only passkeys count for which somebody else vouched"
	}
	if from.Keys != nil && len(from.Keys.Models) > 0 {
		sentence += "; only passkeys count that are proved to be of " + counted("model", "models", each(from.Keys.Models, r.modelName))
	}
	if from.AuthorMayApprove {
		sentence += "; the author may approve"
	}
	sentence += "; a request expires after " + period(from.ExpiresAfterSeconds)
	if from.Override != nil {
		sentence += "; it can be overridden by " + by(from.Override.Quorum, from.Override.Approvers)
	}
	if m := from.AutoMerge; m != nil {
		sentence += "; then it is merged by " + m.Strategy
		if m.CloseSourceBranch {
			sentence += ", and the source branch closed"
		}
		if m.MessageTemplate != "" {
			sentence += ", with the message " + quoted(m.MessageTemplate)
		}
	}
	if from.Cosignatures > 0 {
		sentence += fmt.Sprintf("; nothing is let through before %d witnesses have cosigned the log", from.Cosignatures)
	}
	return sentence + "."
}

// period is a time in the largest unit that it is a whole number of.
func period(seconds int64) string {
	for _, unit := range []struct {
		name    string
		seconds int64
	}{{"day", 24 * 60 * 60}, {"hour", 60 * 60}, {"minute", 60}, {"second", 1}} {
		switch n := seconds / unit.seconds; {
		case n*unit.seconds != seconds || n == 0:
		case n == 1:
			return "1 " + unit.name
		default:
			return fmt.Sprintf("%d %ss", n, unit.name)
		}
	}
	return fmt.Sprintf("%d seconds", seconds)
}
