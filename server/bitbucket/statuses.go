package bitbucket

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// MaxStatusKey is Bitbucket's limit for the key of a status, in characters.
	MaxStatusKey = 40
	// maxStatusText is where name and description are cut, in characters;
	// Bitbucket documents no limit and refuses longer ones.
	maxStatusText = 255
)

// StatusState is what a commit status says.
type StatusState string

// The states of a commit status. Only Successful counts as passed.
const (
	StatusInProgress StatusState = "INPROGRESS"
	StatusSuccessful StatusState = "SUCCESSFUL"
	StatusFailed     StatusState = "FAILED"
	StatusStopped    StatusState = "STOPPED"
)

// Status is a commit status to write.
type Status struct {
	// Key identifies the status on its commit, together with RefName; at most 40
	// characters.
	Key   string
	State StatusState
	// URL is where the status links to. Braces are escaped, so that Bitbucket does
	// not take them for its templates.
	URL string
	// Name and Description are shown to people; cut to 255 characters.
	Name        string
	Description string
	// RefName is the source branch, without refs/heads/. It ties the status to the
	// pull requests of that branch; it is part of the identity of the status and
	// never cut.
	RefName string
}

// StoredStatus is a commit status as Bitbucket has it.
type StoredStatus struct {
	Key         string
	State       StatusState
	URL         string
	Name        string
	Description string
	// RefName is "" if the status belongs to no branch.
	RefName string
	// Commit is the full hash; "" if the answer does not name it.
	Commit string
	// Author wrote the status first; nil if the answer does not say.
	Author    *User
	CreatedOn time.Time
	UpdatedOn time.Time
}

// PutStatus writes a status on a commit, given by its full hash. It creates the
// status or overwrites the one with the same key and branch, so it can be
// repeated. Bitbucket lets only the creator of a status and administrators of
// the repository overwrite it: compare StoredStatus.Author. Scope: repository.
func (c *Client) PutStatus(ctx context.Context, workspace, repo, commit string, status Status) (StoredStatus, error) {
	const op = "put status"
	if err := checkStatusPlace(op, commit, status.Key); err != nil {
		return StoredStatus{}, err
	}
	switch status.State {
	case StatusInProgress, StatusSuccessful, StatusFailed, StatusStopped:
	default:
		return StoredStatus{}, invalid(op, "%q is not the state of a status", status.State)
	}
	if status.URL == "" {
		return StoredStatus{}, invalid(op, "a status needs a URL")
	}
	wire, err := send[wireStatus](ctx, c, op, http.MethodPost, wireStatus{
		Key: status.Key, State: status.State,
		URL:         strings.NewReplacer("{", "%7B", "}", "%7D").Replace(status.URL),
		Name:        cut(status.Name, maxStatusText),
		Description: cut(status.Description, maxStatusText),
		RefName:     status.RefName,
	}, nil, repository(workspace, repo, "commit", commit, "statuses", "build")...)
	if err != nil {
		return StoredStatus{}, err
	}
	stored, err := wire.status()
	switch {
	case err != nil:
	case stored.Key != status.Key || stored.State != status.State:
		err = errors.New("the stored status is not the one that was written")
	case stored.Commit != "" && stored.Commit != commit:
		err = errors.New("the status was stored on another commit")
	default:
		return stored, nil
	}
	return StoredStatus{}, c.fail(op, err)
}

// GetStatus reads the status with this key on a commit, given by its full hash.
// NotFound means that there is none. If there are several of different
// branches, Bitbucket picks one: see Statuses. Scope: repository.
func (c *Client) GetStatus(ctx context.Context, workspace, repo, commit, key string) (StoredStatus, error) {
	const op = "read status"
	if err := checkStatusPlace(op, commit, key); err != nil {
		return StoredStatus{}, err
	}
	wire, err := get[wireStatus](ctx, c, op, nil, repository(workspace, repo, "commit", commit, "statuses", "build", key)...)
	if err != nil {
		return StoredStatus{}, err
	}
	stored, err := wire.status()
	if err == nil && stored.Key != key {
		err = errors.New("another status than the one asked for")
	}
	if err != nil {
		return StoredStatus{}, c.fail(op, err)
	}
	return stored, nil
}

// Statuses lists all statuses of a commit, given by its full hash.
// Scope: repository.
func (c *Client) Statuses(ctx context.Context, workspace, repo, commit string) iter.Seq2[StoredStatus, error] {
	return pages(ctx, c, "list statuses", url.Values{"pagelen": {pageLen}}, wireStatus.status,
		repository(workspace, repo, "commit", commit, "statuses")...)
}

// checkStatusPlace refuses what would put a status on something else than one
// commit under one key.
func checkStatusPlace(op, commit, key string) error {
	if !IsFullHash(commit) {
		return invalid(op, "%q is not a full commit hash", commit)
	}
	if key == "" || utf8.RuneCountInString(key) > MaxStatusKey {
		return invalid(op, "the key of a status has 1 to %d characters", MaxStatusKey)
	}
	return nil
}

type wireStatus struct {
	Key         string      `json:"key"`
	State       StatusState `json:"state"`
	URL         string      `json:"url"`
	Name        string      `json:"name,omitempty"`
	Description string      `json:"description,omitempty"`
	RefName     string      `json:"refname,omitempty"`

	// Only in answers.
	Commit    *wireHash  `json:"commit,omitempty"`
	Author    *wireUser  `json:"author,omitempty"`
	CreatedOn *time.Time `json:"created_on,omitempty"`
	UpdatedOn *time.Time `json:"updated_on,omitempty"`
	Links     *struct {
		Commit wireLink `json:"commit"`
	} `json:"links,omitempty"`
}

func (w wireStatus) status() (StoredStatus, error) {
	if w.Key == "" || w.State == "" {
		return StoredStatus{}, errors.New("a status has no key or no state")
	}
	s := StoredStatus{Key: w.Key, State: w.State, URL: w.URL, Name: w.Name, Description: w.Description, RefName: w.RefName}
	if w.Commit != nil && IsFullHash(w.Commit.Hash) {
		s.Commit = w.Commit.Hash
	} else if w.Links != nil {
		if hash := path.Base(w.Links.Commit.Href); IsFullHash(hash) {
			s.Commit = hash
		}
	}
	if w.Author != nil {
		author := w.Author.user()
		s.Author = &author
	}
	if w.CreatedOn != nil {
		s.CreatedOn = *w.CreatedOn
	}
	if w.UpdatedOn != nil {
		s.UpdatedOn = *w.UpdatedOn
	}
	return s, nil
}
