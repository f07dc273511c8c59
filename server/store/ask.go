package store

import (
	"strconv"
	"strings"
)

// The kinds of jobs that look at what is gated again. Webhooks, use cases and the jobs themselves
// ask for them in the same words, the Ask functions below; nobody else builds their specs.
const (
	KindEvaluate   = "evaluate"    // look at one pull request again
	KindFan        = "fan"         // ask for an evaluation of each open pull request of a branch
	KindReconcile  = "reconcile"   // walk the open pull requests of a repository on Bitbucket
	KindStatusSeen = "status-seen" // read one of our build statuses back
	KindBuilds     = "builds"      // try again the merges that wait for builds of a commit
	KindStatus     = "status"      // pay the status that is owed on a commit
	KindMerge      = "merge"       // merge an approved head
	KindNotify     = "notify"      // mail a notice
	KindSweep      = "sweep"       // find what nothing attends to
	KindDoctor     = "doctor"      // look at how far Bitbucket enforces the gate of a repository
	KindRoster     = "roster"      // let a workspace's roster follow the keys of a person
	KindFallen     = "fallen"      // find what the report of a stolen key takes down
)

// StatusKeyPrefix begins the key of every build status of ours, so that the others are told at a look.
const StatusKeyPrefix = "signedapproval-"

// maxStatusKey is Bitbucket's own limit, in characters.
const maxStatusKey = 40

// IsStatusKey tells whether the key of a build status can be one of those that we write.
func IsStatusKey(key string) bool {
	return len(key) <= maxStatusKey && strings.HasPrefix(key, StatusKeyPrefix) &&
		!strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c > '~' })
}

// Place is the payload of these jobs: where to look. Each kind uses some of the fields.
type Place struct {
	Workspace   string `json:"workspace,omitempty"`
	Repository  string `json:"repository,omitempty"`   // UUID
	Number      int64  `json:"number,omitempty"`       // of a pull request in Repository
	Branch      string `json:"branch,omitempty"`       // the source branch; "" for all
	Key         string `json:"key,omitempty"`          // of a build status
	PullRequest string `json:"pull_request,omitempty"` // our id
	Commit      string `json:"commit,omitempty"`       // 40 hex digits
	Notice      string `json:"notice,omitempty"`       // our id
	Person      string `json:"person,omitempty"`       // our id
	Version     int64  `json:"version,omitempty"`      // of the workspace's roster
}

// inRepository is the key of a job about something in a repository, or about all of it where what is
// "". The workspace is part of it: a repository that was transferred may be gated in two.
func inRepository(workspace, repository, what string) string {
	key := workspace + "/" + repository
	if what != "" {
		key += ":" + what
	}
	return key
}

// AskEvaluate asks to look at one pull request again. Workspace and repository are UUIDs, bare and
// in lower case, here and below.
func AskEvaluate(workspace, repository string, number int64) JobSpec {
	return JobSpec{
		Kind: KindEvaluate, Key: inRepository(workspace, repository, strconv.FormatInt(number, 10)), Workspace: workspace,
		Payload: Place{Workspace: workspace, Repository: repository, Number: number},
	}
}

// AskFan asks for an evaluation of every open pull request that comes from branch, of all of them
// where branch is "". The branch is part of the key: the last payload of a key wins, and a push to
// two branches concerns both.
func AskFan(workspace, repository, branch string) JobSpec {
	return JobSpec{
		Kind: KindFan, Key: inRepository(workspace, repository, branch), Workspace: workspace,
		Payload: Place{Workspace: workspace, Repository: repository, Branch: branch},
	}
}

// AskReconcile asks to walk the open pull requests of a repository on Bitbucket, now.
func AskReconcile(workspace, repository string) JobSpec {
	return JobSpec{
		Kind: KindReconcile, Key: inRepository(workspace, repository, ""), Workspace: workspace,
		Payload: Place{Workspace: workspace, Repository: repository},
	}
}

// AskStatusSeen asks to read back the build status that bears key.
func AskStatusSeen(workspace, repository, key string) JobSpec {
	return JobSpec{
		Kind: KindStatusSeen, Key: inRepository(workspace, repository, key), Workspace: workspace,
		Payload: Place{Workspace: workspace, Repository: repository, Key: key},
	}
}

// AskBuilds asks to try again the merges that wait for builds of a commit.
func AskBuilds(workspace, repository, commit string) JobSpec {
	return JobSpec{
		Kind: KindBuilds, Key: inRepository(workspace, repository, commit), Workspace: workspace,
		Payload: Place{Workspace: workspace, Repository: repository, Commit: commit},
	}
}

// AskStatus asks to make Bitbucket show what is owed on one commit of a pull request, given by our id.
func AskStatus(workspace, pullRequestID, commit string) JobSpec {
	return JobSpec{
		Kind: KindStatus, Key: pullRequestID + ":" + commit, Workspace: workspace,
		Payload: Place{Workspace: workspace, PullRequest: pullRequestID, Commit: commit},
	}
}

// AskMerge asks to merge a pull request, given by our id, at the head that was approved.
func AskMerge(workspace, pullRequestID, commit string) JobSpec {
	return JobSpec{
		Kind: KindMerge, Key: pullRequestID + ":" + commit, Workspace: workspace,
		Payload: Place{Workspace: workspace, PullRequest: pullRequestID, Commit: commit},
	}
}

// AskDoctor asks to look at how far Bitbucket enforces the gate of a repository.
func AskDoctor(workspace, repository string) JobSpec {
	return JobSpec{
		Kind: KindDoctor, Key: inRepository(workspace, repository, ""), Workspace: workspace,
		Payload: Place{Workspace: workspace, Repository: repository},
	}
}

// AskRoster asks to let a workspace's roster follow the keys of a person.
func AskRoster(workspace, personID string) JobSpec {
	return JobSpec{
		Kind: KindRoster, Key: workspace + "/" + personID, Workspace: workspace,
		Payload: Place{Workspace: workspace, Person: personID},
	}
}

// AskFallen asks to find what a report of a stolen key takes down, which is the change of a version of a workspace's roster.
func AskFallen(workspace string, version int64) JobSpec {
	return JobSpec{
		Kind: KindFallen, Key: workspace + "/" + strconv.FormatInt(version, 10), Workspace: workspace,
		Payload: Place{Workspace: workspace, Version: version},
	}
}

// AskNotify asks to mail a notice.
func AskNotify(workspace, noticeID string) JobSpec {
	return JobSpec{
		Kind: KindNotify, Key: noticeID, Workspace: workspace,
		Payload: Place{Workspace: workspace, Notice: noticeID},
	}
}

// AskSweep asks for the sweep, which keeps itself going and belongs to no workspace.
func AskSweep() JobSpec {
	return JobSpec{Kind: KindSweep, Key: "global"}
}
