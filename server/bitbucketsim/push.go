package bitbucketsim

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Push describes one commit pushed to a branch.
type Push struct {
	Repository string `json:"repository"` // full name
	Branch     string `json:"branch"`
	// From is where a new branch starts: a branch or a commit; the main branch where left empty. For a branch
	// that exists, From rewinds it first, which needs Force.
	From    string `json:"from"`
	Force   bool   `json:"force"`
	Person  string `json:"person"`  // who pushes and is the author
	Message string `json:"message"` // made from the files where left empty
	// Files are written, Binary (base64 in JSON) as well; Executable sets the mode of a file that exists or is
	// written; Remove deletes files. With none of them the branch is only created or moved.
	Files      map[string]string `json:"files"`
	Binary     map[string][]byte `json:"binary"`
	Executable []string          `json:"executable"`
	Remove     []string          `json:"remove"`
}

// Commit is a commit that a push made, or the tip where it made none.
type Commit struct {
	Hash   string `json:"hash"` // 40 hexadecimal digits
	Branch string `json:"branch"`
}

// Push writes a commit to a branch, as a git push by that person would, and sends the webhooks. It needs
// write permission and obeys the branch restrictions on pushing.
func (s *Sim) Push(spec Push) (Commit, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.repositoryByName(spec.Repository)
	if err != nil {
		return Commit{}, err
	}
	p, err := s.person(spec.Person)
	if err != nil {
		return Commit{}, err
	}
	if err := checkBranchName(spec.Branch); err != nil {
		return Commit{}, err
	}
	old := r.branches[spec.Branch]
	tip := old
	if spec.From != "" || old == "" {
		from := spec.From
		if from == "" {
			from = r.mainBranch
		}
		c, err := s.resolve(r, from)
		if err != nil {
			return Commit{}, err
		}
		tip = c.hash
	}
	forced := old != "" && !r.objects.isAncestor(old, tip)
	if err := s.checkPush(r, p, spec.Branch, forced, spec.Force); err != nil {
		return Commit{}, err
	}
	files := maps.Clone(r.objects.commits[tip].files)
	if err := applyPush(r.objects, files, spec); err != nil {
		return Commit{}, err
	}
	if !maps.Equal(files, r.objects.commits[tip].files) {
		message := spec.Message
		if message == "" {
			message = "Change " + strings.Join(slices.Sorted(maps.Keys(spec.Files)), ", ")
		}
		tip = r.objects.putCommit(files, []string{tip}, p.signature(s.now()), message).hash
	}
	if tip != old {
		s.moveBranch(r, p, spec.Branch, tip)
	}
	return Commit{tip, spec.Branch}, nil
}

func checkBranchName(name string) error {
	if name == "" || strings.ContainsAny(name, " \t\n~^:?*[\\") || strings.HasPrefix(name, "/") ||
		strings.HasSuffix(name, "/") || strings.Contains(name, "..") || strings.Contains(name, "//") {
		return fmt.Errorf("%q is no name of a branch", name)
	}
	return nil
}

func (s *Sim) checkPush(r *repository, p *person, branch string, forced, force bool) error {
	if !r.may(p, PermissionWrite) {
		return fmt.Errorf("%s may not write to %s", p.nickname, r.fullName())
	}
	if forced && !force {
		return errors.New("not a fast-forward; use force")
	}
	for _, b := range r.restrictionsOn(branch) {
		switch {
		case b.kind == "push" && !b.exempts(p):
			return fmt.Errorf("pushing to %s is restricted", branch)
		case b.kind == "force" && forced:
			return fmt.Errorf("rewriting the history of %s is restricted", branch)
		}
	}
	return nil
}

func applyPush(o *objects, files snapshot, spec Push) error {
	put := func(path string, content []byte) error {
		mode := modeFile
		if was, ok := files[path]; ok {
			mode = was.mode
		}
		files[path] = entry{mode, o.putBlob(content)}
		return checkPath(path)
	}
	for _, path := range spec.Remove {
		if _, ok := files[path]; !ok {
			return fmt.Errorf("there is no file %q to remove", path)
		}
		delete(files, path)
	}
	for path, content := range spec.Files {
		if err := put(path, []byte(content)); err != nil {
			return err
		}
	}
	for path, content := range spec.Binary {
		if err := put(path, content); err != nil {
			return err
		}
	}
	for _, path := range spec.Executable {
		e, ok := files[path]
		if !ok {
			return fmt.Errorf("there is no file %q to make executable", path)
		}
		files[path] = entry{modeExecutable, e.blob}
	}
	return nil
}

// BranchRemoval names a branch to delete.
type BranchRemoval struct {
	Repository string `json:"repository"` // full name
	Branch     string `json:"branch"`
	Person     string `json:"person"`
}

// RemoveBranch deletes a branch and sends repo:push. Open pull requests from it keep their last commit.
func (s *Sim) RemoveBranch(spec BranchRemoval) (BranchRemoval, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.repositoryByName(spec.Repository)
	if err != nil {
		return spec, err
	}
	p, err := s.person(spec.Person)
	if err != nil {
		return spec, err
	}
	if r.branches[spec.Branch] == "" {
		return spec, fmt.Errorf("branch %q: %w", spec.Branch, ErrNotFound)
	}
	if !r.may(p, PermissionWrite) {
		return spec, fmt.Errorf("%s may not write to %s", p.nickname, r.fullName())
	}
	s.moveBranch(r, p, spec.Branch, "")
	return spec, nil
}

// moveBranch sets the tip of a branch, or deletes it where tip is empty, tells the webhooks and updates the
// open pull requests from it.
func (s *Sim) moveBranch(r *repository, p *person, branch, tip string) {
	old := r.branches[branch]
	if tip == "" {
		delete(r.branches, branch)
	} else {
		r.branches[branch] = tip
		r.remember(tip)
	}
	r.updated = s.now()
	s.emit(r, "repo:push", p, object{"push": object{"changes": []any{s.renderPushChange(r, branch, old, tip)}}})
	s.emitPush(r, p, branch, old, tip)
	if tip == "" {
		return
	}
	for _, w := range s.workspaces {
		for _, target := range w.repositories {
			for _, pr := range target.pullRequests {
				if pr.state == stateOpen && pr.source == r && pr.sourceBranch == branch && pr.head != tip {
					pr.head, pr.updated = tip, s.now()
					reset := s.resetOnPush(pr)
					s.emitPullRequest(pr, "pullrequest:updated", p, nil)
					s.emitPullRequest(pr, "pullrequest:push", p, nil)
					s.runChecks(pr, onCodePushed)
					if reset {
						s.reviewed(pr, p)
					}
				}
			}
		}
	}
}

// resolve finds a commit by branch name, full hash or unambiguous prefix of at least 7 digits.
func (s *Sim) resolve(r *repository, revision string) (*commit, error) {
	if tip := r.branches[revision]; tip != "" {
		return r.objects.commits[tip], nil
	}
	if r.pushed[revision] {
		return r.objects.commits[revision], nil
	}
	var found *commit
	if len(revision) >= 7 {
		for h := range r.pushed {
			if strings.HasPrefix(h, revision) {
				if found != nil {
					return nil, fmt.Errorf("commit %s is ambiguous", revision)
				}
				found = r.objects.commits[h]
			}
		}
	}
	if found == nil {
		return nil, fmt.Errorf("commit %s: %w", revision, ErrNotFound)
	}
	return found, nil
}
