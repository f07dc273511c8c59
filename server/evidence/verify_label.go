package evidence

import (
	"fmt"
	"slices"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
)

// label lists what a consistent bundle says and on what it rests.
func (v *verification) label() {
	add := func(name, value string, label Label) {
		v.report.Facts = append(v.report.Facts, Fact{name, value, label})
	}
	pick := func(yes bool, then, otherwise Label) Label {
		if yes {
			return then
		}
		return otherwise
	}
	signed := pick(slices.ContainsFunc(v.made, func(d decision) bool { return d.statement.Request == v.request.ID }), Signed, Asserted)
	add("head commit", v.request.HeadCommit, signed)
	add("destination branch", v.request.DestinationBranch, signed)
	add("pull request", fmt.Sprintf("%s #%d", v.request.Repository, v.request.PullRequest), signed)
	add("rule", fmt.Sprintf("%s (%s)", v.rule.Name, v.request.RuleDigest), signed)
	for _, d := range v.made {
		add("decision", fmt.Sprintf("person %s: %s Diff shown: SHA-256 %s.", d.statement.Approver.Person, d.statement.Meaning, d.statement.Diff.SHA256), Signed)
	}
	if v.judged.State == approval.Overridden {
		for _, d := range v.made {
			if v.overrides(d) {
				add("override", v.overrider(d), Signed)
			}
		}
	}
	add("history", fmt.Sprintf("%d leaves, %d decisions", len(v.leaves), len(v.made)), Recomputed)
	for _, leaf := range v.leaves {
		switch body := leaf.Body.(type) {
		case RequestClosed:
			if body.Request == v.request.ID {
				add("request", body.Reason, Asserted)
				if v.report.change.Landed == "" {
					v.report.Closed = body.Reason
				}
			}
		case Merged:
			add("merge", fmt.Sprintf("%s, commit %s", body.Kind, body.Commit), Asserted)
		case MergeChecked:
			if body.Trigger == TriggerOnMerge && body.Commit != "" {
				add("merge check", fmt.Sprintf("answered %s (%s) for commit %s", body.Answer, body.Code, body.Commit), Asserted)
			}
		}
	}
	for i, d := range v.made {
		who := fmt.Sprintf("decision %d, by person %s: ", i+1, d.statement.Approver.Person)
		switch {
		case d.compromised:
			add("compromised", who+"its key, or one that signed for it, was reported as having been in other hands by then; it counts in nobody's favour", Signed)
		case d.disowned:
			add("compromised", who+"a key that vouched for its key was reported as having been in other hands by then; its key is known by a log-in alone", Signed)
		}
	}
	tallied := pick(v.untold, Asserted, Recomputed) // where people were erased, the sentence is whatever the bundle says
	if v.judged.Sentence != v.b.Verdict.Sentence {
		add("verdict of before the report", fmt.Sprintf("%s: %s", v.b.Verdict.State, v.b.Verdict.Sentence), tallied)
	}
	add("verdict", fmt.Sprintf("%s: %s", v.judged.State, v.judged.Sentence), tallied)
	v.labelKeys(add)
	add("author", "account "+v.b.Facts.Author, Asserted)
	if v.rule.Needs().Writers {
		add("permissions", fmt.Sprintf("%d people with write permission", len(v.b.Facts.Writers)), Asserted)
	}
	add("time of the verdict", v.b.Facts.Now.Format(time.RFC3339), Asserted)
}

// overrides reports whether a decision is one of the overrides that the verdict counts.
func (v *verification) overrides(d decision) bool {
	return d.statement.Purpose == Override && slices.Contains(v.counted, d.sequence)
}

// overrider says who overrode and why. The name is a fact of its own: it is not the person's word.
func (v *verification) overrider(d decision) string {
	who := "person " + d.statement.Approver.Person
	if d.Comment == nil {
		return who + "; the reason was erased"
	}
	return fmt.Sprintf("%s: %q", who, d.Comment.Text)
}
