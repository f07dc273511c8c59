package gate

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/store"
)

// obstacle is why an approved head must not be merged; no reason means that it may.
type obstacle struct {
	reason string
	forNow bool // it may go away by itself
}

func final(reason string) obstacle { return obstacle{reason: reason} }

func forNow(format string, args ...any) obstacle {
	return obstacle{reason: fmt.Sprintf(format, args...), forNow: true}
}

// mayMerge answers what stands in the way of merging the approved head now: head and destination must
// be exactly those approved, and no check of Bitbucket's own would be overridden.
func (g *Gate) mayMerge(ctx context.Context, at store.Place, a attempt, remote bitbucket.PullRequest) (obstacle, error) {
	switch {
	case remote.State != bitbucket.Open:
		return final("not merged: the pull request was closed"), nil
	case remote.Draft:
		return final("not merged: the pull request is a draft"), nil
	case remote.Destination.Branch != a.live.DestinationBranch:
		return final("not merged: the destination branch changed"), nil
	}
	head, err := a.client.PullRequestHead(ctx, at.Workspace, a.pr.RepositoryID, a.pr.Number)
	if err != nil {
		return obstacle{}, err
	}
	if head != at.Commit || head != a.live.HeadCommit {
		return final("not merged: there is a newer commit than the one that was approved"), nil
	}
	return g.checksInTheWay(ctx, at, a, remote)
}

// checksInTheWay looks for checks of Bitbucket's own that are not met. Without Premium Bitbucket
// would only warn, and a merge by us would override them.
func (g *Gate) checksInTheWay(ctx context.Context, at store.Place, a attempt, remote bitbucket.PullRequest) (obstacle, error) {
	for restriction, err := range a.client.BranchRestrictions(ctx, at.Workspace, a.pr.RepositoryID) {
		if err != nil {
			return obstacle{}, err
		}
		if !restriction.AppliesTo(remote.Destination.Branch) {
			continue
		}
		wanted := 0
		if restriction.Value != nil {
			wanted = *restriction.Value
		}
		switch restriction.Kind {
		case bitbucket.RequirePassingBuilds:
			passed, stopped, err := builds(ctx, a.client, at, a.pr)
			if err != nil {
				return obstacle{}, err
			}
			if stopped || passed < wanted {
				return forNow("not merged yet: Bitbucket asks for %d passing builds and none failed or running", wanted), nil
			}
		case bitbucket.RequireApprovals:
			if approvals(remote) < wanted {
				return forNow("not merged yet: Bitbucket asks for %d of its own approvals", wanted), nil
			}
		case bitbucket.RequireNoChangesRequested:
			if changesRequested(remote) {
				return forNow("not merged yet: a reviewer requested changes on Bitbucket"), nil
			}
		case bitbucket.RequireTasksCompleted, bitbucket.RequireCommentsResolved, bitbucket.RequireCommitsBehind,
			bitbucket.RequireReviewGroupApprovals, bitbucket.RequireDefaultReviewerApprovals, bitbucket.RequireDependenciesMerged:
			return final(cannotTell(restriction.Kind)), nil
		default:
			// A check that Bitbucket got after this was written; the others say nothing about a merge.
			if strings.HasPrefix(string(restriction.Kind), "require_") {
				return final(cannotTell(restriction.Kind)), nil
			}
		}
	}
	return obstacle{}, nil
}

func cannotTell(kind bitbucket.RestrictionKind) string {
	return fmt.Sprintf("not merged: whether Bitbucket's check %q is met cannot be told from here; merge by hand", kind)
}

// builds counts the passing builds of a head, and tells whether one failed or is running.
func builds(ctx context.Context, client *bitbucket.Client, at store.Place, pr store.PullRequest) (passed int, stopped bool, err error) {
	for status, err := range client.Statuses(ctx, at.Workspace, pr.RepositoryID, at.Commit) {
		if err != nil {
			return 0, false, err
		}
		if status.RefName != "" && status.RefName != pr.SourceBranch {
			continue
		}
		switch status.State {
		case bitbucket.StatusSuccessful:
			passed++
		case bitbucket.StatusFailed, bitbucket.StatusInProgress:
			stopped = true
		case bitbucket.StatusStopped: // neither passes nor stands in the way
		}
	}
	return passed, stopped, nil
}

func approvals(remote bitbucket.PullRequest) (n int) {
	for _, p := range remote.Participants {
		if p.Approved {
			n++
		}
	}
	return n
}

func changesRequested(remote bitbucket.PullRequest) bool {
	return slices.ContainsFunc(remote.Participants, func(p bitbucket.Participant) bool { return p.State == "changes_requested" })
}
