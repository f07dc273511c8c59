package forge

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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
	// Pushed says that a branch or a tag moved, appeared or disappeared.
	Pushed Kind = "pushed"
	// StatusWritten says that somebody wrote a build status, we ourselves among them.
	StatusWritten Kind = "status written"
	// RepositoryChanged says that the repository was made, renamed, set up differently or deleted.
	RepositoryChanged Kind = "repository changed"
)

// kinds are the events that are understood.
var kinds = map[string]Kind{
	"avi:bitbucket:created:pullrequest":                 PullRequestChanged,
	"avi:bitbucket:updated:pullrequest":                 PullRequestChanged,
	"avi:bitbucket:fulfilled:pullrequest":               PullRequestChanged,
	"avi:bitbucket:rejected:pullrequest":                PullRequestChanged,
	"avi:bitbucket:updated:pullrequest-reviewer-status": PullRequestChanged,
	"avi:bitbucket:created:pullrequest-comment":         PullRequestDiscussed,
	"avi:bitbucket:updated:pullrequest-comment":         PullRequestDiscussed,
	"avi:bitbucket:deleted:pullrequest-comment":         PullRequestDiscussed,
	"avi:bitbucket:resolved:pullrequest-comment":        PullRequestDiscussed,
	"avi:bitbucket:reopened:pullrequest-comment":        PullRequestDiscussed,
	"avi:bitbucket:push:repository":                     Pushed,
	"avi:bitbucket:created:build-status":                StatusWritten,
	"avi:bitbucket:updated:build-status":                StatusWritten,
	"avi:bitbucket:created:repository":                  RepositoryChanged,
	"avi:bitbucket:updated:repository":                  RepositoryChanged,
	"avi:bitbucket:deleted:repository":                  RepositoryChanged,
}

// Events are the names of the events that are understood, sorted. Bitbucket checks no name in a
// manifest: a name that is not among these is a mistake.
func Events() []string { return slices.Sorted(maps.Keys(kinds)) }

// Asks tells whether an event can ask for a look at anything, so whether it is worth subscribing to.
func Asks(event string) bool {
	kind, ok := kinds[event]
	return ok && kind != PullRequestDiscussed
}

// ErrUnknownEvent says that the event is none that the door understands.
var ErrUnknownEvent = errors.New("forge: an event that is not understood")

// Event is what a body says is to be looked at again: names and numbers, never a state. Commits of
// pull requests are not read at all, since bodies cut their hashes.
type Event struct {
	Name string // "" where the body does not say
	Kind Kind
	// WorkspaceUUID and RepositoryUUID are bare and in lower case; "" where the body does not say.
	WorkspaceUUID, RepositoryUUID string
	// PullRequest is the number, for events of a pull request; else 0.
	PullRequest int64
	// Branches is what a push moved. One "" stands for all branches, where it cannot be named. A tag
	// cannot be told from a branch; there is no pull request from it.
	Branches []string
	// StatusKey is the key of the build status that was written; else "".
	StatusKey string
	// Commit is what that status is on, 40 hex digits; "" where the body does not say so in full.
	Commit string
	// SelfGenerated says that this app itself did what the event is about.
	SelfGenerated bool
	// Dated says that the body tells when it happened, so that a repeat can be told from the like.
	Dated bool
	// Attempt is which try of Forge's this is, from 1 on.
	Attempt int
}

const (
	// maxBranchName is the longest name, in bytes, that is looked at by itself; Git knows no limit.
	maxBranchName = 1000
	// maxAttempt is more than Forge ever tries.
	maxAttempt = 100
)

// body is as much of the bodies as matters; each event has one of the raw parts.
type body struct {
	EventType     string `json:"eventType"`
	Timestamp     string `json:"timestamp"`
	SelfGenerated bool   `json:"selfGenerated"`
	Workspace     named  `json:"workspace"`
	Repository    named  `json:"repository"`
	RetryContext  struct {
		RetryCount int `json:"retryCount"`
	} `json:"retryContext"`
	PullRequest json.RawMessage `json:"pullrequest"`
	Push        json.RawMessage `json:"push"`
	BuildStatus json.RawMessage `json:"buildStatus"`
}

// named is what a body names by its UUID.
type named struct {
	UUID string `json:"uuid"`
}

// unwrap gives what a call is about: Forge sends it as it is, or as the one thing in "payload".
func unwrap(raw []byte) []byte {
	var wrapped map[string]json.RawMessage
	if json.Unmarshal(raw, &wrapped) != nil {
		return raw
	}
	inner, ok := wrapped["payload"]
	if _, named := wrapped["eventType"]; named || !ok || len(inner) == 0 || inner[0] != '{' {
		return raw
	}
	return inner
}

// Parse reads the body of an event. It fails with [ErrUnknownEvent], or with another error where the
// body is not strict JSON or does not say what is to be looked at; the event then has what could be
// read of name, workspace, repository and attempt. It does no I/O.
func Parse(raw []byte) (Event, error) {
	var b body
	err := json.Unmarshal(unwrap(raw), &b)
	event := Event{
		Name: b.EventType, Kind: kinds[b.EventType], SelfGenerated: b.SelfGenerated, Dated: b.Timestamp != "",
		Attempt: 1 + min(max(b.RetryContext.RetryCount, 0), maxAttempt-1),
	}
	var inWorkspace, inRepository bool
	event.WorkspaceUUID, inWorkspace = bitbucket.BareUUID(b.Workspace.UUID)
	event.RepositoryUUID, inRepository = bitbucket.BareUUID(b.Repository.UUID)
	switch {
	case !utf8.Valid(raw):
		return event, errors.New("forge: the body is not UTF-8")
	case err != nil:
		return event, fmt.Errorf("forge: the body is not the JSON of an event: %w", err)
	case !inWorkspace:
		return event, errors.New("forge: the body names no workspace")
	case event.Kind == "":
		return event, ErrUnknownEvent
	case !inRepository:
		return event, errors.New("forge: the body names no repository")
	}
	switch event.Kind {
	case PullRequestChanged, PullRequestDiscussed:
		event.PullRequest, err = pullRequest(b.PullRequest)
	case Pushed:
		event.Branches, err = branches(b.Push)
	case StatusWritten:
		event.StatusKey, event.Commit, err = status(b.BuildStatus)
	case RepositoryChanged: // what it is now, the reconciler finds out
	}
	if err != nil {
		return event, fmt.Errorf("forge: the body of %s: %w", event.Name, err)
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

func branches(raw json.RawMessage) ([]string, error) {
	var part struct {
		Ref string `json:"ref"`
	}
	if err := json.Unmarshal(raw, &part); err != nil {
		return nil, err
	}
	switch {
	case part.Ref == "":
		return nil, errors.New("the push does not say what it moved")
	case !nameable(part.Ref):
		return []string{""}, nil
	default:
		return []string{part.Ref}, nil
	}
}

// nameable tells whether a name is a branch's, one that Git allows and that fits into the key of a job.
func nameable(name string) bool {
	return len(name) <= maxBranchName && !strings.HasPrefix(name, "refs/") &&
		!strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c == 0x7f })
}

func status(raw json.RawMessage) (key, commit string, err error) {
	var part struct {
		Key    string `json:"key"`
		Commit struct {
			Hash string `json:"hash"`
		} `json:"commit"`
	}
	if err := json.Unmarshal(raw, &part); err != nil {
		return "", "", err
	}
	if part.Key == "" {
		return "", "", errors.New("the build status has no key")
	}
	if !bitbucket.IsFullHash(part.Commit.Hash) {
		part.Commit.Hash = ""
	}
	return part.Key, part.Commit.Hash, nil
}

// jobs are what an event asks for.
func (e Event) jobs() []store.JobSpec {
	switch e.Kind {
	case PullRequestChanged:
		return []store.JobSpec{store.AskEvaluate(e.WorkspaceUUID, e.RepositoryUUID, e.PullRequest)}
	case Pushed:
		var specs []store.JobSpec
		for _, branch := range e.Branches {
			specs = append(specs, store.AskFan(e.WorkspaceUUID, e.RepositoryUUID, branch))
		}
		return specs
	case StatusWritten:
		switch {
		case !store.IsStatusKey(e.StatusKey) && e.Commit != "": // a merge may be waiting for this build
			return []store.JobSpec{store.AskBuilds(e.WorkspaceUUID, e.RepositoryUUID, e.Commit)}
		case store.IsStatusKey(e.StatusKey) && !e.SelfGenerated: // somebody else wrote under our name
			return []store.JobSpec{store.AskStatusSeen(e.WorkspaceUUID, e.RepositoryUUID, e.StatusKey)}
		}
	case RepositoryChanged:
		return []store.JobSpec{store.AskReconcile(e.WorkspaceUUID, e.RepositoryUUID)}
	case PullRequestDiscussed:
	}
	return nil
}
