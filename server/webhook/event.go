package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/store"
)

// Kind is what an event is about.
type Kind string

const (
	// PullRequestChanged is anything that can change the answer to "may this be merged".
	PullRequestChanged Kind = "pull request changed"
	// PullRequestDiscussed is a comment: nothing that the gate looks at.
	PullRequestDiscussed Kind = "pull request discussed"
	// Pushed says that branches or tags moved, appeared or disappeared.
	Pushed Kind = "pushed"
	// StatusWritten says that somebody wrote a build status, we ourselves among them.
	StatusWritten Kind = "status written"
	// RepositoryChanged says that the repository was renamed, set up differently, moved or deleted.
	RepositoryChanged Kind = "repository changed"
)

// kinds are the events that are understood, by X-Event-Key.
var kinds = map[string]Kind{
	"pullrequest:created":                 PullRequestChanged,
	"pullrequest:updated":                 PullRequestChanged,
	"pullrequest:push":                    PullRequestChanged,
	"pullrequest:fulfilled":               PullRequestChanged,
	"pullrequest:rejected":                PullRequestChanged,
	"pullrequest:approved":                PullRequestChanged,
	"pullrequest:unapproved":              PullRequestChanged,
	"pullrequest:changes_request_created": PullRequestChanged,
	"pullrequest:changes_request_removed": PullRequestChanged,
	"pullrequest:comment_created":         PullRequestDiscussed,
	"pullrequest:comment_updated":         PullRequestDiscussed,
	"pullrequest:comment_deleted":         PullRequestDiscussed,
	"pullrequest:comment_resolved":        PullRequestDiscussed,
	"pullrequest:comment_reopened":        PullRequestDiscussed,
	"repo:push":                           Pushed,
	"repo:commit_status_created":          StatusWritten,
	"repo:commit_status_updated":          StatusWritten,
	"repo:updated":                        RepositoryChanged,
	"repo:transfer":                       RepositoryChanged,
	"repo:deleted":                        RepositoryChanged,
}

// ErrUnknownEvent says that the event is none that the door understands; its body was not read.
var ErrUnknownEvent = errors.New("webhook: an event that is not understood")

// Event is what a body says is to be looked at again: names and numbers, never a state.
type Event struct {
	Kind Kind
	// RepositoryUUID is bare and in lower case; "" where the body does not say.
	RepositoryUUID string
	// PullRequest is the number, for events of a pull request; else 0.
	PullRequest int64
	// Branches are those that a push moved, made or removed, sorted, none twice; tags are left out.
	// One "" stands for all branches, where they are too many or cannot be named.
	Branches []string
	// StatusKey is the key of the build status that was written; else "".
	StatusKey string
	// Commit is what that status is on, 40 hex digits; "" where the body does not say so in full.
	Commit string
}

const (
	// maxBranches is how many branches of one push are looked at one by one.
	maxBranches = 20
	// maxBranchName is the longest name, in bytes, that is looked at by itself; Git knows no limit.
	maxBranchName = 1000
)

// body is as much of Bitbucket's bodies as matters; each event has one of the raw parts. Everything
// else may be absent, null or of another shape: it is not looked at. encoding/json bounds the depth.
type body struct {
	Repository struct {
		UUID string `json:"uuid"`
	} `json:"repository"`
	PullRequest  json.RawMessage `json:"pullrequest"`
	Push         json.RawMessage `json:"push"`
	CommitStatus json.RawMessage `json:"commit_status"`
}

// change is one entry of push.changes.
type change struct {
	Old ref `json:"old"`
	New ref `json:"new"`
}

// ref is a branch or a tag before or after a push; the zero ref is one that was not there.
type ref struct {
	Type string `json:"type"`
	Name string `json:"name"`
}

// Parse reads the body of an event. It fails with [ErrUnknownEvent], or with another error where the
// body is not strict JSON or does not say what is to be looked at. It does no I/O.
func Parse(key string, raw []byte) (Event, error) {
	kind, ok := kinds[key]
	if !ok {
		return Event{}, ErrUnknownEvent
	}
	if !utf8.Valid(raw) {
		return Event{}, errors.New("webhook: the body is not UTF-8")
	}
	var b body
	if err := json.Unmarshal(raw, &b); err != nil {
		return Event{}, fmt.Errorf("webhook: the body is not the JSON of %s: %w", key, err)
	}
	event := Event{Kind: kind}
	if b.Repository.UUID != "" {
		if event.RepositoryUUID, ok = bitbucket.BareUUID(b.Repository.UUID); !ok {
			return Event{}, errors.New("webhook: the repository's UUID is none")
		}
	}
	var err error
	switch kind {
	case PullRequestChanged, PullRequestDiscussed:
		event.PullRequest, err = pullRequest(b.PullRequest)
	case Pushed:
		event.Branches, err = branches(b.Push)
	case StatusWritten:
		event.StatusKey, event.Commit, err = status(b.CommitStatus)
	case RepositoryChanged: // what it is now, the reconciler finds out
	}
	if err != nil {
		return Event{}, fmt.Errorf("webhook: the body of %s: %w", key, err)
	}
	return event, nil
}

func pullRequest(raw json.RawMessage) (int64, error) {
	var part struct {
		ID int64 `json:"id"`
	}
	if err := json.Unmarshal(raw, &part); err != nil {
		return 0, err
	}
	if part.ID <= 0 {
		return 0, errors.New("the pull request has no number")
	}
	return part.ID, nil
}

func status(raw json.RawMessage) (key, commit string, err error) {
	var part struct {
		Key    string          `json:"key"`
		Commit json.RawMessage `json:"commit"`
	}
	if err := json.Unmarshal(raw, &part); err != nil {
		return "", "", err
	}
	if part.Key == "" {
		return "", "", errors.New("the build status has no key")
	}
	var on struct {
		Hash string `json:"hash"`
	}
	if err := json.Unmarshal(part.Commit, &on); err != nil || !bitbucket.IsFullHash(on.Hash) {
		on.Hash = "" // old bodies and the documentation's samples have another form
	}
	return part.Key, on.Hash, nil
}

// branches names the branches of a push. A change that is "truncated" lacks some of its commits, not
// its name.
func branches(raw json.RawMessage) ([]string, error) {
	var part struct {
		Changes []change `json:"changes"`
	}
	if err := json.Unmarshal(raw, &part); err != nil {
		return nil, err
	}
	if part.Changes == nil {
		return nil, errors.New("the push has no list of changes")
	}
	all := []string{""}
	var names []string
	for _, c := range part.Changes {
		if c == (change{}) {
			return all, nil
		}
		for _, r := range []ref{c.Old, c.New} {
			switch {
			case r == ref{}, r.Type == "tag":
			case !r.nameable():
				return all, nil
			default:
				names = append(names, r.Name)
			}
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) > maxBranches {
		return all, nil
	}
	return names, nil
}

// nameable tells whether the name is one that Git allows and that fits into the key of a job.
func (r ref) nameable() bool {
	return r.Name != "" && len(r.Name) <= maxBranchName && !strings.ContainsFunc(r.Name, func(c rune) bool { return c <= ' ' || c == 0x7f })
}

// jobs are what an event asks for.
func (e Event) jobs(workspace, repository string) []store.JobSpec {
	switch e.Kind {
	case PullRequestChanged:
		return []store.JobSpec{store.AskEvaluate(workspace, repository, e.PullRequest)}
	case Pushed:
		var specs []store.JobSpec
		for _, branch := range e.Branches {
			specs = append(specs, store.AskFan(workspace, repository, branch))
		}
		return specs
	case StatusWritten:
		if store.IsStatusKey(e.StatusKey) {
			return []store.JobSpec{store.AskStatusSeen(workspace, repository, e.StatusKey)}
		}
		if e.Commit != "" { // a merge may be waiting for this build
			return []store.JobSpec{store.AskBuilds(workspace, repository, e.Commit)}
		}
	case RepositoryChanged:
		return []store.JobSpec{store.AskReconcile(workspace, repository)}
	case PullRequestDiscussed:
	}
	return nil
}
