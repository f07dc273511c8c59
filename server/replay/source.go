package replay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// source is the repository that was given. Only its objects, its branches and
// a few values of its configuration are read.
type source struct {
	dir string // with objects and refs; of a linked work tree the main one
}

// openSource finds the repository of a work tree, a linked work tree or a bare
// repository.
func openSource(dir string) (source, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return source{}, err
	}
	at := dir
	switch info, err := os.Stat(filepath.Join(dir, ".git")); {
	case err == nil && info.IsDir():
		at = filepath.Join(dir, ".git")
	case err == nil:
		link, err := small(filepath.Join(dir, ".git"))
		target, ok := strings.CutPrefix(link, "gitdir: ")
		if err != nil || !ok {
			return source{}, fmt.Errorf("%s/.git does not say where the repository is", dir)
		}
		at = within(dir, target)
	}
	if common, err := small(filepath.Join(at, "commondir")); err == nil {
		at = within(at, common)
	}
	for _, part := range []string{"objects", "refs"} {
		if info, err := os.Stat(filepath.Join(at, part)); err != nil || !info.IsDir() {
			return source{}, fmt.Errorf("%s is not a git repository: it has no folder %q", dir, part)
		}
	}
	return source{dir: at}, nil
}

func within(dir, target string) string {
	if filepath.IsAbs(target) {
		return filepath.Clean(target)
	}
	return filepath.Join(dir, target)
}

// small reads a file of one line.
func small(name string) (string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Size() > 64<<10 {
		return "", fmt.Errorf("%s is not a small file", name)
	}
	text, err := os.ReadFile(name)
	return strings.TrimSpace(string(text)), err
}

func (s source) objects() string { return filepath.Join(s.dir, "objects") }

// check refuses a repository that cannot be read, and says what one lacks whose
// history is not whole.
func (s source) check(ctx context.Context, git *store) (incomplete string, err error) {
	name := filepath.Join(s.dir, "config")
	if _, err := small(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	} else if err == nil {
		get := func(key string) (string, error) {
			out, err := git.run(ctx, nil, "config", "--file", name, "--no-includes", "--get-regexp", key)
			if ended(err) == 1 { // not set
				err = nil
			}
			_, value, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
			return value, err
		}
		format, err := get(`^extensions\.objectformat$`)
		if err != nil {
			return "", err
		}
		if format != "" && !strings.EqualFold(format, "sha1") {
			return "", fmt.Errorf("the repository names its objects by %s; statements name commits by SHA-1, so nothing can be compared", format)
		}
		refs, err := get(`^extensions\.refstorage$`)
		if err != nil {
			return "", err
		}
		if refs != "" && refs != "files" {
			return "", fmt.Errorf("the repository keeps its branches as %s, which is not read; clone it with --ref-format=files", refs)
		}
		partial, err := get(`^(extensions\.partialclone|remote\..*\.promisor)$`)
		if err != nil {
			return "", err
		}
		if partial != "" {
			incomplete = "the repository is a partial clone, whose objects are not all here: use a full clone"
		}
	}
	if info, err := os.Stat(filepath.Join(s.dir, "shallow")); err == nil && info.Size() > 0 {
		incomplete = "the repository is a shallow clone, whose history is not all here: run git fetch --unshallow"
	}
	return incomplete, nil
}

var hashForm = regexp.MustCompile(`^[0-9a-f]{40}$`)

// tips are the commits at which the branch stands: the repository's own and
// those of remotes, as far as they were fetched.
func (s source) tips(branch string) ([]string, error) {
	root, err := os.OpenRoot(s.dir) // the branch's name comes from the bundle
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	places := []string{"refs/heads/" + branch}
	if remotes, err := fs.ReadDir(root.FS(), "refs/remotes"); err == nil {
		for _, remote := range remotes {
			places = append(places, "refs/remotes/"+remote.Name()+"/"+branch)
		}
	}
	found := map[string]string{}
	if info, err := root.Stat("packed-refs"); err == nil && info.Mode().IsRegular() {
		packed, err := root.Open("packed-refs")
		if err != nil {
			return nil, err
		}
		defer func() { _ = packed.Close() }()
		scanner := bufio.NewScanner(packed)
		for scanner.Scan() {
			hash, name, ok := strings.Cut(scanner.Text(), " ")
			if !ok || !hashForm.MatchString(hash) {
				continue
			}
			remote, isRemote := strings.CutPrefix(name, "refs/remotes/")
			_, rest, _ := strings.Cut(remote, "/")
			if name == places[0] || isRemote && rest == branch {
				found[name] = hash
			}
		}
		if err := scanner.Err(); err != nil {
			return nil, fmt.Errorf("read packed-refs: %w", err)
		}
	}
	for _, place := range places {
		if path.Clean(place) != place {
			continue
		}
		info, err := root.Stat(place)
		if err != nil || !info.Mode().IsRegular() || info.Size() > 1024 {
			continue
		}
		text, err := root.ReadFile(place)
		if hash := strings.TrimSpace(string(text)); err == nil && hashForm.MatchString(hash) {
			found[place] = hash
		}
	}
	var tips []string
	for _, hash := range found {
		if !slices.Contains(tips, hash) {
			tips = append(tips, hash)
		}
	}
	slices.Sort(tips)
	return tips, nil
}
