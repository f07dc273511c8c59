package bitbucket

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"path"
	"strings"
)

// maxMergeMessage is Bitbucket's limit for a merge's commit message, in bytes.
const maxMergeMessage = 128 << 10

// MergeOptions say how to merge. The zero value leaves everything to Bitbucket.
type MergeOptions struct {
	// Message is the commit message, at most 128 KiB; "" lets Bitbucket write one.
	Message string
	// Strategy must be one that the destination branch offers; "" is its default.
	Strategy MergeStrategy
	// CloseSourceBranch deletes the source branch after the merge.
	CloseSourceBranch bool
	// Async lets Bitbucket answer before the merge is done.
	Async bool
}

// MergeOutcome is how far a merge that was not refused has come. Exactly one
// field is set.
type MergeOutcome struct {
	// Merged is the pull request after the merge.
	Merged *PullRequest
	// Task is set while Bitbucket is still at it: ask MergeTask.
	Task string
}

// Merge merges a pull request. Bitbucket takes no expected head: the caller
// reads the pull request right before, and verifies what landed after.
//
// Without Async too, Bitbucket answers with a task when it takes long. A
// Conflict error means that a branch moved meanwhile; status 555 that Bitbucket
// gave up in time; 400 and 403 that a check or a permission forbids it, or that
// it is not open any more. After any Transient error the merge may have
// happened, or still happen: read the pull request before another attempt.
// Scope: pullrequest:write.
func (c *Client) Merge(ctx context.Context, workspace, repo string, id int64, options MergeOptions) (MergeOutcome, error) {
	const op = "merge pull request"
	if id <= 0 {
		return MergeOutcome{}, invalid(op, "%d is not the number of a pull request", id)
	}
	if len(options.Message) > maxMergeMessage {
		return MergeOutcome{}, invalid(op, "the commit message is longer than %d bytes", maxMergeMessage)
	}
	u, err := c.url(op, nil, pullRequest(workspace, repo, id, "merge")...)
	if err != nil {
		return MergeOutcome{}, err
	}
	if options.Async {
		u.RawQuery = "async=true"
	}
	got, err := c.do(ctx, request{op: op, method: http.MethodPost, url: u, body: wireMerge{
		Type: "pullrequest", Message: options.Message, Strategy: options.Strategy,
		CloseSourceBranch: options.CloseSourceBranch,
	}})
	if err != nil {
		return MergeOutcome{}, err
	}

	if got.status == http.StatusAccepted {
		link, refusal := c.follow(op, u, got.header.Get("Location"))
		if refusal != nil {
			return MergeOutcome{}, refusal
		}
		folder, task := path.Split(link.Path)
		if !strings.HasSuffix(folder, "/merge/task-status/") || task == "" {
			return MergeOutcome{}, c.fail(op, errors.New("the merge was accepted without a task to ask for"))
		}
		return MergeOutcome{Task: task}, nil
	}
	var wire wirePullRequest
	if err := json.Unmarshal(got.body, &wire); err != nil {
		return MergeOutcome{}, c.fail(op, errors.New("the merge succeeded with an answer that is not a pull request"))
	}
	return c.merged(op, id, wire)
}

// MergeTask asks how a merge is getting on: Task again while it runs, Merged
// when it is done, an error as from Merge when it failed. Only the account that
// started the merge may ask. Scope: pullrequest:write.
func (c *Client) MergeTask(ctx context.Context, workspace, repo string, id int64, task string) (MergeOutcome, error) {
	const op = "read merge task"
	if id <= 0 {
		return MergeOutcome{}, invalid(op, "%d is not the number of a pull request", id)
	}
	wire, err := get[wireMergeTask](ctx, c, op, nil, pullRequest(workspace, repo, id, "merge", "task-status", task)...)
	if err != nil {
		return MergeOutcome{}, err
	}
	switch wire.Status {
	case "PENDING":
		return MergeOutcome{Task: task}, nil
	case "SUCCESS":
		return c.merged(op, id, wire.Result)
	default:
		return MergeOutcome{}, c.fail(op, errors.New("the merge task is in a state that is not known"))
	}
}

// merged checks that an answer of success shows this pull request merged.
func (c *Client) merged(op string, id int64, wire wirePullRequest) (MergeOutcome, error) {
	value, err := wire.pullRequest()
	switch {
	case err != nil:
	case value.ID != id:
		err = errors.New("another pull request than the one to merge")
	case value.State != Merged:
		err = errors.New("the merge succeeded, but the pull request is not merged")
	default:
		return MergeOutcome{Merged: &value}, nil
	}
	return MergeOutcome{}, c.fail(op, err)
}

type wireMerge struct {
	Type              string        `json:"type"`
	Message           string        `json:"message,omitempty"`
	Strategy          MergeStrategy `json:"merge_strategy,omitempty"`
	CloseSourceBranch bool          `json:"close_source_branch"`
}

type wireMergeTask struct {
	Status string          `json:"task_status"`
	Result wirePullRequest `json:"merge_result"`
}
