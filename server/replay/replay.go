package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

const (
	// Deadline ends everything that git is asked.
	Deadline = 10 * time.Minute
	// MaxCommits is how many commits of the change are replayed one by one.
	MaxCommits = 200
	// maxPack is the largest pack of objects that is taken in, in bytes.
	maxPack = 16 << 30
)

// ErrOtherDiff says that the diff that was handed in is not one that was signed.
var ErrOtherDiff = errors.New("the diff that was given is none of those that were signed")

// Look asks the repository in dir (a work tree or a bare repository) about a
// change. diff, if not nil, is the bytes of a diff that was shown, for a
// rendering that git does not reproduce. An error says that git or the
// repository cannot be used, not that the change is wrong.
func Look(ctx context.Context, dir string, change evidence.Change, diff []byte) (evidence.Repository, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, Deadline, fmt.Errorf("git did not end within %s", Deadline))
	defer cancel()
	found, err := look(ctx, dir, change, diff)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return found, err
}

func look(ctx context.Context, dir string, change evidence.Change, diff []byte) (found evidence.Repository, err error) {
	if diff != nil && !slices.ContainsFunc(change.Shown, func(s evidence.Shown) bool { return is(diff, s.Diff) }) {
		return found, ErrOtherDiff
	}
	program, err := findGit(ctx)
	if err != nil {
		return found, err
	}
	from, err := openSource(dir)
	if err != nil {
		return found, err
	}
	folder, err := os.MkdirTemp("", "signedapproval-replay-")
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	lender, err := newStore(ctx, program, filepath.Join(folder, "lender"), from.objects())
	if err != nil {
		return found, err
	}
	if found.Incomplete, err = from.check(ctx, lender); err != nil || found.Incomplete != "" {
		return found, err
	}
	own, err := newStore(ctx, program, filepath.Join(folder, "own"), "")
	if err != nil {
		return found, err
	}
	s := &session{store: own, change: change}
	if found.Missing, err = s.take(ctx, lender, from); err != nil {
		return found, err
	}
	found.Views = make([]evidence.RepositoryView, len(change.Shown))
	for i, shown := range change.Shown {
		if s.has(change.Head) && s.has(shown.Destination) {
			if found.Views[i], err = s.view(ctx, shown, diff); err != nil {
				return found, err
			}
		}
	}
	if change.Landed != "" && len(found.Missing) == 0 {
		if found.Landing, err = s.landing(ctx); err != nil {
			return found, err
		}
		found.Rests, err = s.rests(ctx, found.Landing.Onto)
	}
	return found, err
}

// is tells whether these are the bytes of a diff.
func is(data []byte, diff evidence.Diff) bool {
	return int64(len(data)) == diff.Size && approval.DigestOf(data) == diff.SHA256
}

// session asks about one change.
type session struct {
	*store
	change evidence.Change
	known  []string // commits that are here
	tips   []string // of the destination branch
}

func (s *session) has(commit string) bool { return slices.Contains(s.known, commit) }

// take copies what the change needs from the lender: the whole history as
// commits, and the files of the commits that are compared. The names of the
// objects are computed again on the way.
func (s *session) take(ctx context.Context, lender *store, from source) (missing []string, err error) {
	wanted := []string{s.change.Head}
	for _, shown := range s.change.Shown {
		wanted = append(append(wanted, shown.Destination), shown.MergeBases...)
	}
	if s.change.Landed != "" {
		wanted = append(wanted, s.change.Landed)
	}
	wanted = append(wanted, s.change.Settled...)
	tips, err := from.tips(s.change.Branch)
	if err != nil {
		return nil, err
	}
	commits, err := lender.commits(ctx, append(slices.Clone(wanted), tips...))
	if err != nil {
		return nil, err
	}
	for _, commit := range wanted {
		switch {
		case slices.Contains(commits, commit):
			s.known = append(s.known, commit)
		case !slices.Contains(missing, commit):
			missing = append(missing, commit)
		}
	}
	for _, tip := range tips {
		if slices.Contains(commits, tip) {
			s.tips = append(s.tips, tip)
		}
	}
	if len(s.known) == 0 {
		return missing, nil
	}
	compared, err := s.compared(ctx, lender)
	if err != nil {
		return nil, err
	}
	if err := lender.give(ctx, s.store, append(slices.Clone(s.known), s.tips...), compared); err != nil {
		return nil, err
	}
	here, err := s.commits(ctx, s.known)
	if err != nil {
		return nil, err
	}
	for _, commit := range s.known {
		if !slices.Contains(here, commit) {
			return nil, fmt.Errorf("the repository is damaged: what it has as %s is something else", commit)
		}
	}
	return missing, nil
}

// compared are the commits whose files are needed: those that the change names,
// the commits of the change, and those on which it may have been replayed.
func (s *session) compared(ctx context.Context, lender *store) ([]string, error) {
	list := slices.Clone(s.known)
	if !s.has(s.change.Head) || !s.has(s.change.Landed) {
		return list, nil
	}
	limit := fmt.Sprintf("--max-count=%d", MaxCommits+2)
	parents, err := lender.run(ctx, nil, "rev-list", "--parents", "--no-walk", s.change.Landed)
	if err != nil {
		return nil, err
	}
	list = append(list, lines(parents)...)
	for _, tip := range lines(parents) {
		back, err := lender.run(ctx, nil, "rev-list", "--first-parent", limit, tip)
		if err != nil {
			return nil, err
		}
		list = append(list, lines(back)...)
	}
	signed, err := lender.run(ctx, nil, append([]string{"rev-list", "--parents", limit, s.change.Head}, s.before()...)...)
	if err != nil {
		return nil, err
	}
	list = append(list, lines(signed)...)
	// What a merge of the head starts from; where that is several commits, git merges those first.
	for _, with := range append(lines(parents), s.known...) {
		bases, err := lender.bases(ctx, s.change.Head, with)
		if err != nil {
			return nil, err
		}
		list = append(list, bases...)
		for i := 1; i < len(bases); i++ {
			below, err := lender.bases(ctx, bases[i-1], bases[i])
			if err != nil {
				return nil, err
			}
			list = append(list, below...)
		}
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// before excludes from a walk the destination as it was shown to those whose decision counts.
func (s *session) before() (args []string) {
	for _, shown := range s.change.Shown {
		if !shown.Uncounted && s.has(shown.Destination) {
			args = append(args, "^"+shown.Destination)
		}
	}
	return args
}

// commits returns those of the names that are commits here.
func (s *store) commits(ctx context.Context, hashes []string) (here []string, err error) {
	out, err := s.run(ctx, strings.NewReader(strings.Join(hashes, "\n")+"\n"), "cat-file", "--batch-check=%(objectname) %(objecttype)")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(out)) {
		if hash, kind, _ := strings.Cut(strings.TrimSpace(line), " "); kind == "commit" {
			here = append(here, hash)
		}
	}
	return here, nil
}

// give packs the history of commits and the files of some of them, and lets
// another store take the pack in.
func (s *store) give(ctx context.Context, to *store, history, compared []string) error {
	name := filepath.Join(s.home, "wanted")
	wanted, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = wanted.Close() }()
	for _, list := range []struct {
		args    []string
		commits []string
	}{
		{[]string{"rev-list", "--stdin"}, history},
		{[]string{"rev-list", "--objects", "--no-object-names", "--no-walk", "--stdin"}, compared},
	} {
		cmd, said := s.command(ctx, list.args...), &capped{left: 4096}
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(strings.Join(list.commits, "\n")+"\n"), wanted, said
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("the repository is not whole: %w", explain("rev-list", err, said))
		}
	}
	if _, err := wanted.Seek(0, 0); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pack, index := s.command(ctx, "pack-objects", "--stdout", "--quiet"), to.command(ctx, "index-pack", "--stdin", fmt.Sprintf("--max-input-size=%d", int64(maxPack)))
	packSaid, indexSaid := &capped{left: 4096}, &capped{left: 4096}
	pack.Stdin, pack.Stderr, index.Stderr = wanted, packSaid, indexSaid
	pipe, err := pack.StdoutPipe()
	if err != nil {
		return err
	}
	index.Stdin = pipe
	if err := pack.Start(); err != nil {
		return err
	}
	indexed := index.Run()
	_ = pipe.Close() // a packer that is still at it has nobody to write to
	packed := pack.Wait()
	if err := errors.Join(explain("pack-objects", packed, packSaid), explain("index-pack", indexed, indexSaid)); err != nil {
		return fmt.Errorf("the repository's objects cannot be copied: %w", err)
	}
	return nil
}

// bases are all best common ancestors of two commits, sorted.
func (s *store) bases(ctx context.Context, a, b string) ([]string, error) {
	out, err := s.run(ctx, nil, "merge-base", "--all", a, b)
	if err != nil && ended(err) != 1 { // 1: nothing in common
		return nil, err
	}
	bases := lines(out)
	slices.Sort(bases)
	return bases, nil
}

// view looks at what a signer was shown.
func (s *session) view(ctx context.Context, shown evidence.Shown, given []byte) (evidence.RepositoryView, error) {
	var v evidence.RepositoryView
	var err error
	if v.Bases, err = s.bases(ctx, s.change.Head, shown.Destination); err != nil {
		return v, err
	}
	bases := slices.DeleteFunc(slices.Clone(shown.MergeBases), func(base string) bool { return !slices.Contains(v.Bases, base) })
	if len(shown.MergeBases) == 0 {
		bases = []string{emptyTree}
	}
	for _, base := range bases {
		diff := given
		v.Source, v.Bytes = "given", given != nil && is(given, shown.Diff)
		if !v.Bytes {
			v.Source = "rendered by git again, equal"
			if diff, v.Bytes, err = s.render(ctx, base, shown.Diff); err != nil {
				return v, err
			}
		}
		if !v.Bytes {
			continue
		}
		if err := s.apply(ctx, base, diff, &v); err != nil || v.Unfit == "" && len(v.Differing) == len(v.Opaque) {
			return v, err
		}
	}
	return v, nil
}

// emptyTree is the tree of no files, which every git knows.
const emptyTree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"

// render tries the renderings of git until one has the bytes of the diff.
func (s *session) render(ctx context.Context, base string, want evidence.Diff) (diff []byte, equal bool, err error) {
	for _, renames := range []string{"--find-renames", "--no-renames"} {
		for _, index := range []string{"--abbrev=7", "--abbrev=12", "--full-index", "--abbrev=8", "--abbrev=9", "--abbrev=10", "--abbrev=11"} {
			out, err := s.bounded(ctx, nil, want.Size+1, "diff-tree", "-r", "-p", "--no-color", "--no-ext-diff", "--no-textconv",
				"--unified=3", "--diff-algorithm=myers", "--indent-heuristic", "--src-prefix=a/", "--dst-prefix=b/", "--submodule=short",
				renames, index, base, s.change.Head)
			if errors.Is(err, errTooLong) {
				continue
			}
			if err != nil {
				return nil, false, err
			}
			if is(out, want) {
				return out, true, nil
			}
		}
	}
	return nil, false, nil
}

// apply applies a diff to the merge base and compares with the head's tree.
func (s *session) apply(ctx context.Context, base string, diff []byte, v *evidence.RepositoryView) error {
	v.Differing, v.Opaque, v.Unfit = nil, nil, ""
	out, err := s.run(ctx, nil, "diff-tree", "-r", "-z", "--numstat", "--no-renames", base, s.change.Head)
	if err != nil {
		return err
	}
	var binary []string
	for _, line := range names(out) {
		if name, ok := strings.CutPrefix(line, "-\t-\t"); ok {
			binary = append(binary, name)
		}
	}
	hidden, err := s.hidden(ctx, diff)
	var without []string
	for _, name := range hidden {
		if slices.Contains(binary, name) {
			without = append(without, "--exclude="+literal.Replace(name))
		}
	}
	var tree string
	if err == nil {
		tree, err = s.applied(ctx, base, diff)
	}
	if ended(err) > 0 && len(without) > 0 && len(without) <= 1000 {
		tree, err = s.applied(ctx, base, diff, without...)
	}
	if ended(err) > 0 {
		v.Unfit = err.Error()
		return nil
	}
	if err != nil {
		return err
	}
	if v.Differing, err = s.differing(ctx, tree, s.change.Head); err != nil {
		return err
	}
	v.Differing = union(v.Differing, hidden)
	said := append(hidden, moved(diff, hidden)...)
	for _, name := range v.Differing {
		if slices.Contains(binary, name) && slices.Contains(said, name) {
			v.Opaque = append(v.Opaque, name)
		}
	}
	return nil
}

// hidden lists the files of which a diff says no more than that they differ, in all that it says of them.
func (s *session) hidden(ctx context.Context, diff []byte) (list []string, err error) {
	out, err := s.run(ctx, bytes.NewReader(diff), "apply", "--numstat", "-z", "--allow-empty")
	if err != nil {
		return nil, err
	}
	shown := map[string]bool{}
	for _, line := range names(out) {
		if parts := strings.SplitN(line, "\t", 3); len(parts) == 3 {
			shown[parts[2]] = shown[parts[2]] || parts[0] != "-" || parts[1] != "-"
		}
	}
	for name, text := range shown {
		if !text {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list, nil
}

// moved lists the names from which a diff moves hidden files.
func moved(diff []byte, hidden []string) (list []string) {
	var from string
	for line := range bytes.Lines(diff) {
		text := strings.TrimSuffix(string(line), "\n")
		if strings.HasPrefix(text, "diff --git ") {
			from = ""
		} else if name, ok := strings.CutPrefix(text, "rename from "); ok {
			from = unquoted(name)
		} else if name, ok := strings.CutPrefix(text, "rename to "); ok && from != "" && slices.Contains(hidden, unquoted(name)) {
			list = append(list, from)
		}
	}
	return list
}

// unquoted is the name that git wrote, which quotes odd ones as C does.
func unquoted(name string) string {
	if plain, err := strconv.Unquote(name); err == nil && strings.HasPrefix(name, `"`) {
		return plain
	}
	return name
}

// literal makes a pattern that matches one name only.
var literal = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

func (s *session) applied(ctx context.Context, base string, diff []byte, without ...string) (tree string, err error) {
	if _, err := s.run(ctx, nil, "read-tree", base); err != nil {
		return "", fmt.Errorf("read the merge base: %s", err.Error())
	}
	args := append([]string{"apply", "--cached", "--allow-empty", "--whitespace=nowarn"}, without...)
	if _, err := s.run(ctx, bytes.NewReader(diff), args...); err != nil {
		return "", err
	}
	out, err := s.run(ctx, nil, "write-tree", "--missing-ok")
	if err != nil {
		return "", fmt.Errorf("write the tree: %s", err.Error())
	}
	return strings.TrimSpace(string(out)), nil
}

// differing lists the files in which two trees or commits differ.
func (s *session) differing(ctx context.Context, a, b string) ([]string, error) {
	out, err := s.run(ctx, nil, "diff-tree", "-r", "-z", "--name-only", "--no-renames", a, b)
	return names(out), err
}
