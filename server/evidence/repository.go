package evidence

import (
	"fmt"
	"slices"
	"strings"
)

// Change is what a consistent bundle's verdict is about, for whoever has the
// repository and wants to compare.
type Change struct {
	// Head is the head commit, Branch the destination branch of Repository, a
	// UUID in braces.
	Head, Branch, Repository string
	// Shown is what the signers of decisions on Head were shown, each once, in
	// the order of the chain.
	Shown []Shown
	// Approved says that somebody's approval or override of Head is in the bundle,
	// by a key that was in nobody else's hands, and was not taken back.
	Approved bool
	// Landed is the commit that the chain's last merge names; empty without one.
	Landed string
	// Violation says that the chain calls its merge one: what approves or
	// overrides it, if anything does, was not on record by then.
	Violation bool
	// Settled are commits of the branch that need nothing more to be shown of them
	// and their history. The report has none: whoever asks a repository may name
	// some, and learns what the change rests on besides.
	Settled []string
}

// Base gives the commits on whose history those who decided on a change have put
// their decision: the destinations that were shown to those who count, and the head.
func (c Change) Base() []string {
	list := []string{c.Head}
	for _, shown := range c.Shown {
		if !shown.Uncounted {
			list = append(list, shown.Destination)
		}
	}
	return list
}

// Shown is what a signer was shown, as the statement says it.
type Shown struct {
	// Destination is the commit of the destination branch, MergeBases what it
	// has in common with the head.
	Destination string
	MergeBases  []string
	Diff        Diff
	// Uncounted says that the verdict rests on no decision whose signer was shown
	// this.
	Uncounted bool
}

// Change returns what to compare with the repository. It returns false when a
// step failed: then the bundle says nothing.
func (r Report) Change() (Change, bool) { return r.change, r.failed() == nil && r.Verdict != nil }

// Compared returns what to compare with the repository, also of a bundle of which
// nothing is wrong but that it rests on a stolen key: what else is must not be hidden by that.
func (r Report) Compared() (Change, bool) {
	_, ok := r.Change()
	return r.change, ok || r.Stolen()
}

// changed collects the change from the statements and the chain.
func (v *verification) changed() Change {
	c := Change{Head: v.request.HeadCommit, Branch: v.request.DestinationBranch, Repository: v.request.Repository}
	last := map[string]Purpose{} // of each person, on the head
	for _, d := range v.made {
		s := d.statement
		if s.Source.Commit != c.Head {
			continue
		}
		grants := s.Purpose == Approve || s.Purpose == Override
		switch {
		case !d.compromised || !grants:
			last[s.Approver.Person] = s.Purpose
		case last[s.Approver.Person] != s.Purpose:
			delete(last, s.Approver.Person) // whoever has the key takes back what it does not say again
		}
		shown := Shown{s.Destination.Commit, s.MergeBases, s.Diff, !slices.Contains(v.counted, d.sequence)}
		if i := slices.IndexFunc(c.Shown, func(o Shown) bool {
			return o.Destination == shown.Destination && o.Diff == shown.Diff && slices.Equal(o.MergeBases, shown.MergeBases)
		}); i >= 0 {
			c.Shown[i].Uncounted = c.Shown[i].Uncounted && shown.Uncounted
		} else {
			c.Shown = append(c.Shown, shown)
		}
	}
	for _, purpose := range last {
		c.Approved = c.Approved || purpose == Approve || purpose == Override
	}
	for _, leaf := range v.leaves {
		if body, ok := leaf.Body.(Merged); ok {
			c.Landed, c.Violation = body.Commit, c.Violation || body.Kind == "violation"
		}
	}
	return c
}

// Relation says how what landed relates to what was signed.
type Relation string

// The relations.
const (
	// Identical: the signed commit itself is what landed.
	Identical Relation = "identical"
	// CleanReplay: merging, squashing or rebasing the signed commit onto the
	// destination of that time, without a human hand, gives what landed.
	CleanReplay Relation = "clean-replay"
	// Residue: something landed that nobody signed.
	Residue Relation = "residue"
)

// Method is the way in which a change landed.
type Method string

// The methods.
const (
	FastForward Method = "fast-forward"
	MergeCommit Method = "merge-commit"
	Squash      Method = "squash"
	Rebase      Method = "rebase"
	RebaseMerge Method = "rebase-merge"
)

// Repository is what git says about a [Change]: facts without a judgement.
type Repository struct {
	// Incomplete says why the repository cannot answer, such as "it is a shallow
	// clone"; empty when it can. Nothing else is set then.
	Incomplete string
	// Missing are the commits of the change that the repository does not have.
	Missing []string
	// Views are about the entries of [Change.Shown], in their order. One whose
	// commits are missing is the zero one.
	Views []RepositoryView
	// Landing is nil when nothing landed or its commits are missing.
	Landing *Landing
	// Rests are the commits on which what landed rests: the destination before it,
	// or, of what landed as it was signed, the merge bases of those whose decision
	// counts; without those in the history of one of [Change.Settled].
	Rests []string
}

// RepositoryView is what git says about one view of the change.
type RepositoryView struct {
	// Bases are all best common ancestors of head and destination.
	Bases []string
	// Bytes says that the bytes of the diff are at hand: their SHA-256 and size
	// are those of the statement.
	Bytes bool
	// Source says where they come from, in words.
	Source string
	// Differing are the files that differ from the head's tree when the diff is
	// applied to the merge base, and those of which it says only that they
	// differ; Opaque those of them that are binary in the change and of which
	// the diff says that and nothing else.
	Differing, Opaque []string
	// Unfit says why the diff could not be applied; empty when it could.
	Unfit string
}

// Landing is what git says about the commit that landed.
type Landing struct {
	Relation Relation `json:"relation"`
	// Method is empty when nothing known gives what landed.
	Method Method `json:"method,omitempty"`
	// Commit is what landed, Onto the destination before it; Onto is empty for a
	// fast-forward.
	Commit string `json:"commit"`
	Onto   string `json:"onto,omitempty"`
	// Why explains a residue in words.
	Why string `json:"why,omitempty"`
	// Files are the files of the residue.
	Files []string `json:"files,omitempty"`
	// Between are commits that came to the destination after it was shown and
	// before Onto, oldest first, at most 100; of a squash or rebase git cannot
	// tell whether they landed together with the change.
	Between []string `json:"between,omitempty"`
	// Proved says that evidence of their own proves what those of Between are. Whoever
	// verified that evidence sets it.
	Proved bool `json:"proved,omitempty"`
	// Rewritten says that the destination no longer had a commit that was shown.
	Rewritten bool `json:"rewritten,omitempty"`
	// OnBranch says that the repository's destination branch, or its copy of the
	// remote's, contains the commit.
	OnBranch bool `json:"onBranch"`
}

// maxNamed is how many files or commits a sentence names.
const maxNamed = 10

// Recompute adds the steps that need the repository to a report in which no step failed, but for a
// stolen key, from what git says about what is [Report.Compared].
func (r Report) Recompute(repository Repository) Report {
	if _, ok := r.Compared(); !ok {
		return r
	}
	r.Steps, r.Facts, r.Missing = slices.Clone(r.Steps), slices.Clone(r.Facts), slices.Clone(r.Missing)
	for _, step := range []struct {
		name string
		run  func(Repository) (string, []string, error)
	}{
		{"commits", r.commits},
		{"diff", r.diff},
		{"landed", r.landed},
	} {
		detail, files, err := step.run(repository)
		taken := settle(len(r.Steps)+1, step.name, detail, err)
		taken.Files = files
		r.Steps = append(r.Steps, taken)
		switch taken.Result {
		case OperatorAsserted:
			r.Missing = append(r.Missing, missingOf[step.name])
		case Failed:
			r.Verdict, r.Facts = nil, nil
			r.Landing = repository.Landing
			return r
		case OK:
			if r.Verdict != nil {
				r.Facts = append(r.Facts, Fact{step.name, detail, Recomputed})
			}
		}
	}
	r.Landing = repository.Landing
	return r
}

// missingOf names what stays on the operator's word when a step finds nothing
// wrong and cannot prove everything.
var missingOf = map[string]string{
	"commits": "commits and merge base",
	"diff":    "the diff shown",
	"landed":  "what landed",
}

func (r Report) commits(repository Repository) (string, []string, error) {
	if repository.Incomplete != "" {
		return "", nil, operatorAsserted(repository.Incomplete)
	}
	c := r.change
	var lacking []string
	for _, commit := range append([]string{c.Head}, destinations(c)...) {
		if slices.Contains(repository.Missing, commit) {
			lacking = append(lacking, commit)
		}
	}
	if len(lacking) > 0 {
		return "", nil, operatorAsserted(fmt.Sprintf("the repository does not have %s; fetch it by that name if the server still has it", list(lacking)))
	}
	if len(c.Shown) == 0 {
		return "the head commit exists; nobody signed anything about it", nil, nil
	}
	several := false
	for i, shown := range c.Shown {
		bases := repository.Views[i].Bases
		several = several || len(bases) > len(shown.MergeBases)
		for _, base := range shown.MergeBases {
			if !slices.Contains(bases, base) {
				return "", nil, refuse(CodeRepository, "%s is not a merge base of head and destination %s; git finds %s", base, shown.Destination, orNone(bases))
			}
		}
		if len(shown.MergeBases) == 0 && len(bases) > 0 {
			return "", nil, refuse(CodeRepository, "the statement names no merge base of head and destination %s; git finds %s", shown.Destination, list(bases))
		}
	}
	detail := "the head commit exists, and the merge bases signed are git's"
	if several {
		detail += "; there are more than the signers were shown"
	}
	return detail, nil, nil
}

func destinations(c Change) (list []string) {
	for _, shown := range c.Shown {
		if !slices.Contains(list, shown.Destination) {
			list = append(list, shown.Destination)
		}
	}
	return list
}

func (r Report) diff(repository Repository) (string, []string, error) {
	c := r.change
	if repository.Incomplete != "" || slices.ContainsFunc(append(destinations(c), c.Head), func(commit string) bool {
		return slices.Contains(repository.Missing, commit)
	}) {
		return "", nil, operatorAsserted("not recomputed: the repository is not complete")
	}
	if len(c.Shown) == 0 {
		return "nobody signed a diff", nil, nil
	}
	var unknown, opaque, sources []string
	for i, shown := range c.Shown {
		view := repository.Views[i]
		if !view.Bytes {
			unknown = append(unknown, string(shown.Diff.SHA256))
			continue
		}
		if view.Unfit != "" {
			return "", nil, refuse(CodeRepository, "the diff shown (SHA-256 %s) cannot be applied to the merge base: %s", shown.Diff.SHA256, view.Unfit)
		}
		var wrong []string
		for _, file := range view.Differing {
			if !slices.Contains(view.Opaque, file) {
				wrong = append(wrong, file)
			} else if !slices.Contains(opaque, file) {
				opaque = append(opaque, file)
			}
		}
		if len(wrong) > 0 {
			return "", wrong, refuse(CodeRepository, "the diff shown (SHA-256 %s), applied to the merge base, does not give the head's tree: %s", shown.Diff.SHA256, quoted(wrong))
		}
		if !slices.Contains(sources, view.Source) {
			sources = append(sources, view.Source)
		}
	}
	if len(unknown) > 0 {
		return "", nil, operatorAsserted(fmt.Sprintf(
			"no rendering of git has the bytes that were shown (SHA-256 %s): give them with --diff to have them applied", strings.Join(unknown, ", ")))
	}
	detail := fmt.Sprintf("applied to the merge base, it gives the tree of the head commit (bytes: %s)", strings.Join(sources, "; "))
	if len(opaque) > 0 {
		detail += "; it cannot show the content of binary files: " + quoted(opaque)
	}
	return detail, opaque, nil
}

func (r Report) landed(repository Repository) (string, []string, error) {
	c := r.change
	if c.Landed == "" {
		return "the chain tells of no merge", nil, nil
	}
	if !c.Approved && !r.Stolen() { // which says so
		return "", nil, refuse(CodeResidue, "commit %s landed, and nobody's approval or override of commit %s stands", c.Landed, c.Head)
	}
	if c.Violation {
		return "", nil, refuse(CodeResidue, "commit %s landed, and the chain calls that a violation: it was not approved or overridden by then", c.Landed)
	}
	if repository.Incomplete != "" || slices.Contains(repository.Missing, c.Landed) || repository.Landing == nil {
		return "", nil, operatorAsserted(fmt.Sprintf("commit %s landed, and the repository lacks what is needed to compare it", c.Landed))
	}
	l := repository.Landing
	var detail string
	switch l.Relation {
	case Identical:
		detail = "identical: the signed commit itself landed"
	case CleanReplay:
		detail = fmt.Sprintf("clean replay (%s): commit %s is the signed change on %s", l.Method, l.Commit, l.Onto)
	case Residue:
		return "", l.Files, refuse(CodeResidue, "residue: commit %s holds what nobody signed (%s): %s", l.Commit, l.Why, orNone(l.Files))
	default:
		return "", nil, operatorAsserted(l.Why)
	}
	ambiguous := l.Method == Squash || l.Method == Rebase
	switch n := len(l.Between); {
	case n > 0 && l.Proved:
		detail += fmt.Sprintf(", to which %d more had come since it was shown, with evidence of their own", n)
	case n > 0 && !ambiguous:
		detail += fmt.Sprintf(", to which %d more had come since it was shown", n)
	}
	var doubts []string
	if !l.OnBranch {
		doubts = append(doubts, fmt.Sprintf("no branch %q of this repository contains it", c.Branch))
	}
	if l.Rewritten {
		doubts = append(doubts, "the destination was rewritten after it was shown")
	}
	if len(l.Between) > 0 && ambiguous && !l.Proved {
		doubts = append(doubts, "these commits came to the destination after it was shown and need evidence of their own: "+list(l.Between))
	}
	if len(doubts) > 0 {
		return "", nil, operatorAsserted(detail + "; but " + strings.Join(doubts, ", and "))
	}
	return detail, nil, nil
}

// list names commits, quoted names files: those come from whoever wrote the
// repository.
func list(commits []string) string { return named(commits, func(s string) string { return s }) }

func quoted(files []string) string {
	return named(files, func(s string) string { return fmt.Sprintf("%q", s) })
}

func named(all []string, write func(string) string) string {
	var b strings.Builder
	for i, one := range all {
		if i == maxNamed {
			fmt.Fprintf(&b, " and %d more", len(all)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(write(one))
	}
	return b.String()
}

func orNone(files []string) string {
	if len(files) == 0 {
		return "none"
	}
	return quoted(files)
}
