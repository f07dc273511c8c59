package replay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// BranchCommit is a commit of a branch.
type BranchCommit struct {
	// Hash is the full hash.
	Hash string
	// Parents are its parents' hashes, the first parent's first.
	Parents []string
}

// Branch lists the whole history of a branch in the repository in dir (a work tree or a bare repository), its tip first and each commit
// before its parents. The branch is the repository's own or one that was fetched; where the two differ, it is refused: which of
// them stands for the branch cannot be told.
func Branch(ctx context.Context, dir, branch string) (commits []BranchCommit, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, Deadline, fmt.Errorf("git did not end within %s", Deadline))
	defer cancel()
	program, err := findGit(ctx)
	if err != nil {
		return nil, err
	}
	from, err := openSource(dir)
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "signedapproval-replay-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	lender, err := newStore(ctx, program, filepath.Join(folder, "lender"), from.objects())
	if err != nil {
		return nil, err
	}
	incomplete, err := from.check(ctx, lender)
	if err != nil {
		return nil, err
	}
	if incomplete != "" {
		return nil, errors.New(incomplete)
	}
	tips, err := from.tips(branch)
	switch {
	case err != nil:
		return nil, err
	case len(tips) == 0:
		return nil, fmt.Errorf("the repository has no branch %s", branch)
	case len(tips) > 1:
		return nil, fmt.Errorf("the repository has more than one state of the branch %s: fetch it, and bring your own branch to where it is", branch)
	}
	out, err := lender.run(ctx, nil, "rev-list", "--topo-order", "--parents", tips[0])
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		commits = append(commits, BranchCommit{Hash: fields[0], Parents: fields[1:]})
	}
	return commits, nil
}
