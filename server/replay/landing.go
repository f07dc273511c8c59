package replay

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// commit is what is compared of a commit.
type commit struct {
	hash, tree string
	parents    []string
	// who is author, time of authorship and message: what a rebase keeps.
	who string
}

func (s *session) read(ctx context.Context, hash string) (commit, error) {
	out, err := s.run(ctx, nil, "log", "--no-walk", "--no-decorate", "--format=%T%x00%P%x00%an <%ae> %at%n%B", hash)
	if err != nil {
		return commit{}, err
	}
	parts := strings.SplitN(string(out), "\x00", 3)
	if len(parts) != 3 {
		return commit{}, fmt.Errorf("git log: commit %s cannot be read", hash)
	}
	return commit{hash, parts[0], strings.Fields(parts[1]), strings.TrimSpace(parts[2])}, nil
}

// landing compares what landed with what was signed.
func (s *session) landing(ctx context.Context) (*evidence.Landing, error) {
	landed, err := s.read(ctx, s.change.Landed)
	if err != nil {
		return nil, err
	}
	l := &evidence.Landing{Commit: landed.hash}
	for _, tip := range s.tips {
		if l.OnBranch, err = s.contains(ctx, tip, landed.hash); err != nil {
			return nil, err
		} else if l.OnBranch {
			break
		}
	}
	if landed.hash == s.change.Head {
		l.Relation, l.Method = evidence.Identical, evidence.FastForward
	} else if err := s.compare(ctx, landed, l); err != nil {
		return nil, err
	} else if err := s.fresh(ctx, landed, l); err != nil {
		return nil, err
	}
	at := l.Onto
	if at == "" {
		at = landed.hash
	}
	for _, shown := range s.change.Shown {
		here, err := s.contains(ctx, at, shown.Destination)
		if err != nil {
			return nil, err
		}
		l.Rewritten = l.Rewritten || !here
	}
	if l.Onto != "" {
		if l.Between, err = s.walk(ctx, 100, "--reverse", "--first-parent", l.Onto, "^"+s.change.Head); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// rests are the commits on which what landed rests, without what is settled. onto is the destination before it, or empty.
func (s *session) rests(ctx context.Context, onto string) (list []string, err error) {
	below := []string{onto}
	if onto == "" {
		below = nil
		for _, shown := range s.change.Shown {
			if !shown.Uncounted {
				below = union(below, shown.MergeBases)
			}
		}
	}
	for _, commit := range below {
		settled := false
		for _, history := range s.change.Settled {
			if settled, err = s.contains(ctx, history, commit); err != nil {
				return nil, err
			}
			if settled {
				break
			}
		}
		if !settled {
			list = append(list, commit)
		}
	}
	return list, nil
}

// contains tells whether a commit is in the history of another.
func (s *session) contains(ctx context.Context, history, hash string) (bool, error) {
	_, err := s.run(ctx, nil, "merge-base", "--is-ancestor", hash, history)
	if ended(err) == 1 {
		return false, nil
	}
	return err == nil, err
}

// walk lists commits that came after the destination was shown, at most limit.
func (s *session) walk(ctx context.Context, limit int, args ...string) ([]string, error) {
	out, err := s.run(ctx, nil, append(append([]string{"rev-list", fmt.Sprintf("--max-count=%d", limit)}, args...), s.before()...)...)
	return lines(out), err
}

func (s *session) compare(ctx context.Context, landed commit, l *evidence.Landing) error {
	switch p := landed.parents; {
	case len(p) == 2 && slices.Contains(p, s.change.Head):
		l.Onto = p[0]
		if p[0] == s.change.Head {
			l.Onto = p[1]
		}
		return s.merged(ctx, landed, evidence.MergeCommit, l)
	case len(p) == 2:
		l.Onto = p[0]
		if err := s.merged(ctx, landed, evidence.RebaseMerge, l); err != nil || l.Relation == evidence.Residue {
			return err
		}
		return s.rebased(ctx, p[1], l)
	case len(p) == 1:
		return s.linear(ctx, landed, l)
	case len(p) == 0:
		head, err := s.read(ctx, s.change.Head)
		if err != nil {
			return err
		}
		return s.residue(ctx, outcome{tree: head.tree, clean: true}, landed.tree, "it is a commit without parents", l)
	default:
		l.Onto = p[0]
		if err := s.merged(ctx, landed, evidence.MergeCommit, l); err != nil || l.Relation == evidence.Residue {
			return err
		}
		l.Relation, l.Method, l.Why = evidence.Residue, "", fmt.Sprintf("it merges %d commits at once", len(p)-1)
		return nil
	}
}

// fresh finds residue where the destination had the signed commit before what landed, with more on top of it that was not
// there when the change was shown: merging the signed commit again gives whatever that is.
func (s *session) fresh(ctx context.Context, landed commit, l *evidence.Landing) error {
	if l.Relation != evidence.CleanReplay {
		return nil
	}
	had, err := s.contains(ctx, l.Onto, s.change.Head)
	if err != nil || !had {
		return err
	}
	more, err := s.walk(ctx, MaxCommits+1, l.Onto, "^"+s.change.Head)
	if err != nil || len(more) == 0 {
		return err
	}
	count := fmt.Sprint(len(more))
	if len(more) > MaxCommits {
		count = fmt.Sprintf("more than %d", MaxCommits)
	}
	files, err := s.differing(ctx, s.change.Head, landed.tree)
	l.Relation, l.Method, l.Files = evidence.Residue, "", files
	l.Why = fmt.Sprintf("its parent %s had the signed commit already, and %s more with it: none of them is the signed change", l.Onto, count)
	return err
}

// outcome is what a merge without a human hand gives.
type outcome struct {
	tree      string // with the marks of conflicts, if there are any
	clean     bool
	conflicts []string // files
}

func (o outcome) gives(tree string) bool { return o.clean && o.tree == tree }

// merged compares with the merge of the signed head onto l.Onto.
func (s *session) merged(ctx context.Context, landed commit, method evidence.Method, l *evidence.Landing) error {
	merge, err := s.merge(ctx, l.Onto, s.change.Head, landed.tree)
	if err != nil {
		return err
	}
	if merge.gives(landed.tree) {
		l.Relation, l.Method = evidence.CleanReplay, method
		return nil
	}
	return s.residue(ctx, merge, landed.tree, "it is not what merging the signed commit gives", l)
}

// residue records what differs between what was expected and what is there.
func (s *session) residue(ctx context.Context, expected outcome, tree, why string, l *evidence.Landing) error {
	files, err := s.differing(ctx, expected.tree, tree)
	if err != nil {
		return err
	}
	if !expected.clean {
		why = "the signed commit conflicts with the destination, and somebody resolved it"
	}
	l.Relation, l.Method, l.Why, l.Files = evidence.Residue, "", why, union(files, expected.conflicts)
	return nil
}

func union(a, b []string) []string {
	all := append(slices.Clone(a), b...)
	slices.Sort(all)
	return slices.Compact(all)
}

// renames are the ways in which git can treat renames in a merge, the default first.
var renames = [][]string{nil, {"-c", "merge.directoryRenames=false"}, {"-c", "merge.renames=false"}}

// merge merges two commits. Of the ways in which git can treat renames it
// prefers one that gives the wanted tree.
func (s *session) merge(ctx context.Context, ours, theirs, wanted string) (merge outcome, err error) {
	for i, way := range renames {
		out, err := s.run(ctx, nil, append(slices.Clone(way), "merge-tree", "--write-tree", "--allow-unrelated-histories", "-z", "--name-only", "--no-messages", ours, theirs)...)
		if err != nil && ended(err) != 1 {
			return outcome{}, err
		}
		all := names(out)
		if len(all) == 0 || !hashForm.MatchString(all[0]) {
			return outcome{}, fmt.Errorf("git merge-tree gives no tree: %w", err)
		}
		got := outcome{all[0], err == nil, slices.DeleteFunc(all[1:], func(name string) bool { return name == "" })}
		if got.gives(wanted) {
			return got, nil
		}
		if i == 0 {
			merge = got
		}
	}
	return merge, nil
}

// pick replays one commit of the change onto another commit.
func (s *session) pick(ctx context.Context, original, onto commit, wanted string) (outcome, error) {
	var parent []string
	if len(original.parents) > 0 {
		parent = []string{"-p", original.parents[0]}
	}
	var sides [2]string
	for i, tree := range []string{onto.tree, original.tree} {
		out, err := s.run(ctx, strings.NewReader(""), append([]string{"commit-tree", tree}, parent...)...)
		if err != nil {
			return outcome{}, err
		}
		sides[i] = strings.TrimSpace(string(out))
	}
	return s.merge(ctx, sides[0], sides[1], wanted)
}

// originals are the commits of the change itself, oldest first; none, and not
// all, when they are too many to be replayed one by one.
func (s *session) originals(ctx context.Context) (list []commit, all bool, err error) {
	hashes, err := s.walk(ctx, MaxCommits+1, "--topo-order", "--no-merges", s.change.Head)
	if err != nil || len(hashes) > MaxCommits {
		return nil, false, err
	}
	slices.Reverse(hashes)
	list, err = s.readAll(ctx, hashes)
	return list, true, err
}

func (s *session) readAll(ctx context.Context, hashes []string) (list []commit, err error) {
	for _, hash := range hashes {
		c, err := s.read(ctx, hash)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

// series replays the originals onto a commit and compares each with what landed,
// oldest first. Originals that change nothing any more may be left out.
func (s *session) series(ctx context.Context, onto commit, originals, landed []commit) (differing []string, same bool, err error) {
	at := onto
	for _, original := range originals {
		wanted := at.tree
		if len(landed) > 0 {
			wanted = landed[0].tree
		}
		picked, err := s.pick(ctx, original, at, wanted)
		if err != nil {
			return nil, false, err
		}
		switch {
		case len(landed) > 0 && picked.gives(landed[0].tree):
			at, landed = landed[0], landed[1:]
		case picked.gives(at.tree): // it came to the destination in another way
		default:
			differing, err = s.differing(ctx, picked.tree, wanted)
			return union(differing, picked.conflicts), false, err
		}
	}
	if len(landed) > 0 {
		differing, err = s.differing(ctx, at.tree, landed[len(landed)-1].tree)
		return differing, false, err
	}
	return nil, true, nil
}

// rebased compares the commits from l.Onto to tip with the originals.
func (s *session) rebased(ctx context.Context, tip string, l *evidence.Landing) error {
	onto, err := s.read(ctx, l.Onto)
	if err != nil {
		return err
	}
	out, err := s.run(ctx, nil, "rev-list", "--reverse", "--topo-order", fmt.Sprintf("--max-count=%d", MaxCommits+1), tip, "^"+l.Onto)
	if err != nil {
		return err
	}
	landed, err := s.readAll(ctx, lines(out))
	if err != nil {
		return err
	}
	originals, all, err := s.originals(ctx)
	if err != nil {
		return err
	}
	if !all || len(landed) > MaxCommits {
		l.Relation, l.Method, l.Why = "", "", fmt.Sprintf("more than %d commits landed, too many to replay one by one", MaxCommits)
		return nil
	}
	for i, c := range landed {
		before := onto.hash
		if i > 0 {
			before = landed[i-1].hash
		}
		if !slices.Equal(c.parents, []string{before}) {
			l.Relation, l.Method, l.Why = evidence.Residue, "", "the commits that were merged are not the signed ones, and not a line of replays of them"
			return nil
		}
	}
	files, same, err := s.series(ctx, onto, originals, landed)
	if err == nil && !same {
		l.Relation, l.Method, l.Why, l.Files = evidence.Residue, "", "one of the commits that were merged is not the replay of a signed one", files
	}
	return err
}

// linear compares when what landed has one parent: a squash, or the last commit
// of a rebase.
func (s *session) linear(ctx context.Context, landed commit, l *evidence.Landing) error {
	originals, _, err := s.originals(ctx)
	if err != nil {
		return err
	}
	out, err := s.run(ctx, nil, "rev-list", "--first-parent", fmt.Sprintf("--max-count=%d", max(len(originals), 1)+1), landed.hash)
	if err != nil {
		return err
	}
	back, err := s.readAll(ctx, lines(out)) // newest first, of which the last can only be what came before
	if err != nil {
		return err
	}
	for i, c := range back {
		if len(c.parents) > 1 || c.hash == s.change.Head {
			back = back[:i+1]
			break
		}
	}
	for k := len(back) - 1; k > 0; k-- {
		onto := back[k]
		merge, err := s.merge(ctx, onto.hash, s.change.Head, landed.tree)
		if err != nil {
			return err
		}
		if !merge.gives(landed.tree) {
			continue
		}
		l.Relation, l.Onto, l.Method = evidence.CleanReplay, onto.hash, evidence.Squash
		replayed := slices.Clone(back[:k])
		slices.Reverse(replayed)
		_, same, err := s.series(ctx, onto, originals, replayed)
		if err != nil {
			return err
		}
		if same && (k > 1 || replayed[0].who == originals[len(originals)-1].who) {
			l.Method = evidence.Rebase
		} else if k > 1 {
			continue
		}
		return s.kin(ctx, originals, back[k:], l)
	}
	// Nothing gives it. The place before it is where the destination was shown, or before the first commit
	// that looks like one of the change, or its parent.
	l.Onto = back[1].hash
	for k := 1; k < len(back); k++ {
		if slices.ContainsFunc(s.change.Shown, func(v evidence.Shown) bool { return !v.Uncounted && v.Destination == back[k].hash }) {
			l.Onto = back[k].hash
			break
		}
		if k+1 < len(back) && looksLike(back[k], originals) != nil {
			l.Onto = back[k+1].hash
		}
	}
	return s.merged(ctx, landed, evidence.Squash, l)
}

// looksLike returns the original that a commit has author, time and message of.
func looksLike(c commit, originals []commit) *commit {
	i := slices.IndexFunc(originals, func(o commit) bool { return o.who == c.who && o.hash != c.hash })
	if i < 0 {
		return nil
	}
	return &originals[i]
}

// kin looks at the commits before what replays the change, newest first. One that passes itself
// off as a commit of the change and is not its replay landed with the change.
func (s *session) kin(ctx context.Context, originals, before []commit, l *evidence.Landing) error {
	for i := 0; i+1 < len(before); i++ {
		if slices.ContainsFunc(s.change.Shown, func(v evidence.Shown) bool { return !v.Uncounted && v.Destination == before[i].hash }) {
			return nil
		}
		original := looksLike(before[i], originals)
		if original == nil {
			continue
		}
		picked, err := s.pick(ctx, *original, before[i+1], before[i].tree)
		if err != nil {
			return err
		}
		if !picked.gives(before[i].tree) {
			l.Onto = before[i+1].hash
			return s.residue(ctx, picked, before[i].tree, fmt.Sprintf("commit %s, which landed with it, is not the replay of the signed commit %s", before[i].hash, original.hash), l)
		}
	}
	return nil
}
