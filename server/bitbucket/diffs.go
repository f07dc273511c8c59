package bitbucket

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// defaultDiffLimit is the longest diff that is read unless told otherwise.
const defaultDiffLimit = 8 << 20

// DiffSpec names a difference; make it with OfPullRequest or Between.
type DiffSpec struct {
	pullRequest       int64
	head, destination string
}

// OfPullRequest is the difference that Bitbucket shows in a pull request, as it
// is at the moment of the call: it follows the newest head.
func OfPullRequest(id int64) DiffSpec { return DiffSpec{pullRequest: id} }

// Between is the difference that head makes since its merge base with
// destination (git's destination...head). Both are hashes of 7 to 40 hex digits;
// with full hashes it cannot change any more, except through the merge base that
// Bitbucket picks where there are several.
func Between(head, destination string) DiffSpec {
	return DiffSpec{head: strings.ToLower(head), destination: strings.ToLower(destination)}
}

// FileChange is one file of a difference.
type FileChange struct {
	// Status is "added", "removed", "modified", "renamed", or one of Bitbucket's
	// words for conflicts.
	Status string
	// OldPath is "" for an added file, NewPath "" for a removed one.
	OldPath string
	NewPath string
	// LinesAdded and LinesRemoved are 0 for binary files.
	LinesAdded   int
	LinesRemoved int
}

// Diff returns the raw bytes of a difference in git's format, in whatever
// encoding the files have. Longer than limit bytes (8 MiB if limit is not
// positive) it fails with ErrTooLarge. Bitbucket answers 555 if it could not
// compute the difference in time. Scope: pullrequest for OfPullRequest,
// repository for Between.
func (c *Client) Diff(ctx context.Context, workspace, repo string, spec DiffSpec, limit int64) ([]byte, error) {
	const op = "read diff"
	query, segments, err := spec.path(op, "diff")
	if err != nil {
		return nil, err
	}
	u, err := c.url(op, query, repository(workspace, repo, segments...)...)
	if err != nil {
		return nil, err
	}
	if limit <= 0 {
		limit = defaultDiffLimit
	}
	got, err := c.do(ctx, request{op: op, method: http.MethodGet, url: u, limit: limit})
	if err != nil {
		return nil, err
	}
	return got.body, nil
}

// DiffStat lists the files of a difference. Scope as for Diff.
func (c *Client) DiffStat(ctx context.Context, workspace, repo string, spec DiffSpec) iter.Seq2[FileChange, error] {
	const op = "list changed files"
	query, segments, err := spec.path(op, "diffstat")
	if err != nil {
		return func(yield func(FileChange, error) bool) { yield(FileChange{}, err) }
	}
	query.Set("pagelen", pageLen)
	return pages(ctx, c, op, query, wireFileChange.change, repository(workspace, repo, segments...)...)
}

// path is the rest of the path of a difference, and its query.
func (s DiffSpec) path(op, kind string) (url.Values, []string, error) {
	switch {
	case s.pullRequest > 0:
		return url.Values{}, []string{"pullrequests", strconv.FormatInt(s.pullRequest, 10), kind}, nil
	case isHashPrefix(s.head) && isHashPrefix(s.destination):
		return url.Values{"topic": {"true"}}, []string{kind, s.head + ".." + s.destination}, nil
	default:
		return nil, nil, invalid(op, "a difference needs a pull request or two commit hashes")
	}
}

type wireFile struct {
	Path string `json:"path"`
}

type wireFileChange struct {
	Status       string    `json:"status"`
	Old          *wireFile `json:"old"`
	New          *wireFile `json:"new"`
	LinesAdded   int       `json:"lines_added"`
	LinesRemoved int       `json:"lines_removed"`
}

func (w wireFileChange) change() (FileChange, error) {
	change := FileChange{Status: w.Status, LinesAdded: w.LinesAdded, LinesRemoved: w.LinesRemoved}
	if w.Old != nil {
		change.OldPath = w.Old.Path
	}
	if w.New != nil {
		change.NewPath = w.New.Path
	}
	return change, nil
}
