package webhook

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

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

// repository is what every body says. Everything else that a body holds, and that its event does not ask for, may be
// absent, null or of another shape: it is not looked at, only that it is JSON.
type repository struct {
	Repository struct {
		UUID string `json:"uuid"`
	} `json:"repository"`
}

// The bodies of the kinds of events, as much of them as matters.
type (
	pullRequestBody struct {
		repository

		PullRequest struct {
			ID int64 `json:"id"`
		} `json:"pullrequest"`
	}
	pushBody struct {
		repository

		Push struct {
			Changes []change `json:"changes"`
		} `json:"push"`
	}
	statusBody struct {
		repository

		CommitStatus struct {
			Key    string         `json:"key"`
			Commit jsontext.Value `json:"commit"`
		} `json:"commit_status"`
	}
)

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
	event, err := parse(kind, raw)
	if err != nil {
		return Event{}, fmt.Errorf("webhook: the body of %s: %w", key, err)
	}
	return event, nil
}

// unmarshal reads a body in one pass. The last of two members of one name wins, and half a surrogate, which can only be
// escaped, is replaced: Bitbucket would send the like again, and the rest of the body can be trusted.
func unmarshal(raw []byte, into any) error {
	return json.Unmarshal(raw, into, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

func parse(kind Kind, raw []byte) (event Event, err error) {
	event.Kind = kind
	var of repository
	switch kind {
	case PullRequestChanged, PullRequestDiscussed:
		var b pullRequestBody
		if err = unmarshal(raw, &b); err == nil && b.PullRequest.ID <= 0 {
			err = errors.New("the pull request has no number")
		}
		of, event.PullRequest = b.repository, b.PullRequest.ID
	case Pushed:
		var b pushBody
		if err = unmarshal(raw, &b); err == nil {
			event.Branches, err = branches(b.Push.Changes)
		}
		of = b.repository
	case StatusWritten:
		var b statusBody
		if err = unmarshal(raw, &b); err == nil && b.CommitStatus.Key == "" {
			err = errors.New("the build status has no key")
		}
		of, event.StatusKey, event.Commit = b.repository, b.CommitStatus.Key, commitOf(b.CommitStatus.Commit)
	case RepositoryChanged: // what it is now, the reconciler finds out
		err = unmarshal(raw, &of)
	}
	if err != nil {
		return Event{}, err
	}
	if of.Repository.UUID != "" {
		var ok bool
		if event.RepositoryUUID, ok = bitbucket.BareUUID(of.Repository.UUID); !ok {
			return Event{}, errors.New("the repository's UUID is none")
		}
	}
	return event, nil
}

// commitOf is the hash of a build status's commit; "" where it has another form, as in old bodies and in the
// documentation's samples.
func commitOf(raw jsontext.Value) string {
	var on struct {
		Hash string `json:"hash"`
	}
	if err := unmarshal(raw, &on); err != nil || !bitbucket.IsFullHash(on.Hash) {
		return ""
	}
	return on.Hash
}

// branches names the branches of a push. A change that is "truncated" lacks some of its commits, not
// its name.
func branches(changes []change) ([]string, error) {
	if changes == nil {
		return nil, errors.New("the push has no list of changes")
	}
	all := []string{""}
	var names []string
	for _, c := range changes {
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
