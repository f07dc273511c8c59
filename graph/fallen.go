package graph

import (
	"context"

	"github.com/signedapproval/bitbucket/server/people"
	"github.com/signedapproval/bitbucket/server/refusal"
)

type fallenVerdict struct {
	batch *fallenBatch
	row   people.FallenVerdict

	Owner            *person
	Key              string
	CompromisedSince Time
	ReportedAt       Time
	Was              string
	StandsAs         string
	Merged           bool
}

// fallenBatch holds the verdicts of a page, so that their pull requests are read together.
type fallenBatch struct {
	r            *resolver
	workspace    string
	ids          []string // of the pull requests
	pullRequests lazy[map[string]*pullRequest]
}

func (w *workspaceNode) FallenVerdicts(ctx context.Context, args pageArgs) (*connection[*fallenVerdict], error) {
	rows, more, err := w.r.people.FallenVerdicts(ctx, viewerOf(ctx), w.row.ID, args.page())
	if refusal.Code(err) == refusal.Forbidden {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	batch := &fallenBatch{r: w.r, workspace: w.row.ID}
	for _, row := range rows {
		batch.ids = append(batch.ids, row.PullRequestID)
	}
	return connect(rows, more, people.FallenVerdict.Cursor, func(row people.FallenVerdict) *fallenVerdict {
		v := &fallenVerdict{
			batch: batch, row: row, Key: row.Key, CompromisedSince: timeOf(row.CompromisedSince), ReportedAt: timeOf(row.ReportedAt),
			Was: row.Was, StandsAs: row.StandsAs, Merged: row.Merged,
		}
		if row.Owner != nil {
			v.Owner = personOf(*row.Owner)
		}
		return v
	}), nil
}

func (v *fallenVerdict) PullRequest(ctx context.Context) (*pullRequest, error) {
	b := v.batch
	found, err := b.pullRequests.get(func() (map[string]*pullRequest, error) { return b.r.pullRequestsByID(ctx, b.workspace, b.ids) })
	return found[v.row.PullRequestID], err
}
