package bitbucket

import (
	"context"
	"errors"
	"iter"
	"net/url"
	"strings"
	"time"
)

// Commit is a commit of a repository.
type Commit struct {
	// Hash has 40 lower-case hex digits.
	Hash string
	// Parents are full hashes, the first parent first; empty for a root commit.
	Parents []string
	Message string
	// Author is the raw line, "Name <address>"; it is what the committer claimed.
	Author string
	Date   time.Time
}

// ResolveCommit expands a hash of 7 to 40 hex digits. The answer is refused if
// it does not start with the prefix or is not a full hash. NotFound means that
// the repository has no such commit, or several. Scope: repository.
func (c *Client) ResolveCommit(ctx context.Context, workspace, repo, prefix string) (Commit, error) {
	const op = "resolve commit"
	prefix = strings.ToLower(prefix)
	if !isHashPrefix(prefix) {
		return Commit{}, invalid(op, "%q is not a commit hash of 7 to 40 hex digits", prefix)
	}
	wire, err := get[wireCommit](ctx, c, op, nil, repository(workspace, repo, "commit", prefix)...)
	if err != nil {
		return Commit{}, err
	}
	commit, err := wire.commit()
	if err == nil && !strings.HasPrefix(commit.Hash, prefix) {
		err = errors.New("another commit than the one asked for")
	}
	if err != nil {
		return Commit{}, c.fail(op, err)
	}
	return commit, nil
}

// Commit returns the commit with exactly this full hash. Scope: repository.
func (c *Client) Commit(ctx context.Context, workspace, repo, hash string) (Commit, error) {
	if !IsFullHash(hash) {
		return Commit{}, invalid("read commit", "%q is not a full commit hash", hash)
	}
	return c.ResolveCommit(ctx, workspace, repo, hash)
}

// Commits lists what is in the history of a commit and not in that of exclude, which may
// be "": newest first. Both are full hashes, so that pages do not move while they are
// read. Scope: repository.
func (c *Client) Commits(ctx context.Context, workspace, repo, tip, exclude string) iter.Seq2[Commit, error] {
	const op = "list commits"
	query := url.Values{"pagelen": {pageLen}}
	if exclude != "" {
		query.Set("exclude", exclude)
	}
	if !IsFullHash(tip) || exclude != "" && !IsFullHash(exclude) {
		return func(yield func(Commit, error) bool) {
			yield(Commit{}, invalid(op, "%q and %q are not full commit hashes", tip, exclude))
		}
	}
	return pages(ctx, c, op, query, wireCommit.commit, repository(workspace, repo, "commits", tip)...)
}

// MergeBase returns the full hash of a best common ancestor of two commits. If
// there are several, Bitbucket picks one. a and b are hashes of 7 to 40 hex
// digits. Scope: repository.
func (c *Client) MergeBase(ctx context.Context, workspace, repo, a, b string) (string, error) {
	const op = "read merge base"
	a, b = strings.ToLower(a), strings.ToLower(b)
	if !isHashPrefix(a) || !isHashPrefix(b) {
		return "", invalid(op, "%q and %q are not two commit hashes of 7 to 40 hex digits", a, b)
	}
	wire, err := get[wireCommit](ctx, c, op, nil, repository(workspace, repo, "merge-base", a+".."+b)...)
	if err != nil {
		return "", err
	}
	if !IsFullHash(wire.Hash) {
		return "", c.fail(op, errors.New("the merge base is not a full commit hash"))
	}
	return wire.Hash, nil
}

type wireHash struct {
	Hash string `json:"hash"`
}

type wireCommit struct {
	wireHash
	Message string     `json:"message"`
	Date    time.Time  `json:"date"`
	Parents []wireHash `json:"parents"`
	Author  struct {
		Raw string `json:"raw"`
	} `json:"author"`
}

func (w wireCommit) commit() (Commit, error) {
	if !IsFullHash(w.Hash) {
		return Commit{}, errors.New("the commit has no full hash")
	}
	commit := Commit{Hash: w.Hash, Message: w.Message, Author: w.Author.Raw, Date: w.Date}
	for _, parent := range w.Parents {
		if !IsFullHash(parent.Hash) {
			return Commit{}, errors.New("a parent of the commit has no full hash")
		}
		commit.Parents = append(commit.Parents, parent.Hash)
	}
	return commit, nil
}

// IsFullHash tells a commit's whole hash, in lower case, from what merely begins one: pull requests
// carry 12 digits.
func IsFullHash(s string) bool { return len(s) == 40 && isHashPrefix(s) }

func isHashPrefix(s string) bool {
	if len(s) < 7 || len(s) > 40 {
		return false
	}
	for i := range len(s) {
		if (s[i] < '0' || s[i] > '9') && (s[i] < 'a' || s[i] > 'f') {
			return false
		}
	}
	return true
}
