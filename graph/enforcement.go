package graph

import (
	"context"

	graphql "github.com/graph-gophers/graphql-go"

	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/workspace"
)

// shownMergeChecks is how many of the last questions of a repository are shown.
const shownMergeChecks = 20

type enforcement struct {
	Pattern   string
	State     string
	Reasons   []enforcementReason
	CheckedAt Time
	ChangedAt Time
}

type enforcementReason struct {
	Code     string
	Sentence string
	Fix      *string
	Steps    []string
}

func enforcementOf(row store.Enforcement) (enforcement, error) {
	reasons, err := workspace.ReasonsOf(row)
	return enforcement{
		Pattern: row.Pattern, State: row.State, CheckedAt: timeOf(row.CheckedAt), ChangedAt: timeOf(row.ChangedAt),
		Reasons: each(reasons, func(r workspace.Reason) enforcementReason {
			return enforcementReason{Code: r.Code, Sentence: r.Sentence, Fix: textOrNil(string(r.Fix)), Steps: append([]string{}, r.Steps...)}
		}),
	}, err
}

// textOrNil is nil for "".
func textOrNil(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func (p *repository) Enforcement(ctx context.Context) ([]enforcement, error) {
	b := p.batch
	all, err := b.enforcements.get(func() (map[string][]enforcement, error) { return b.readEnforcements(ctx) })
	return append([]enforcement{}, all[p.config.RepositoryID]...), err
}

// readEnforcements reads what is known of all repositories of the batch, which the caller may see.
func (b *repositoryBatch) readEnforcements(ctx context.Context) (map[string][]enforcement, error) {
	var rows []store.Enforcement
	err := b.r.gate.Store.InWorkspace(ctx, b.workspace.ID, func(tx *store.Tx) (err error) {
		rows, err = tx.Enforcements(ctx, b.ids()...)
		return err
	})
	if err != nil {
		return nil, err
	}
	all := make(map[string][]enforcement)
	for _, row := range rows {
		shown, err := enforcementOf(row)
		if err != nil {
			return nil, err
		}
		all[row.RepositoryID] = append(all[row.RepositoryID], shown)
	}
	return all, nil
}

// ids are the gated repositories of the batch.
func (b *repositoryBatch) ids() []string {
	ids := make([]string, 0, len(b.configs))
	for id := range b.configs {
		ids = append(ids, id)
	}
	return ids
}

type mergeCheck struct {
	Number            int32
	OnMerge           bool
	HeadCommit        *string
	DestinationBranch *string
	AskedBy           *account
	Allowed           bool
	Code              string
	Sentence          string
	AskedAt           Time
}

func (p *repository) MergeChecks(ctx context.Context) ([]mergeCheck, error) {
	b := p.batch
	all, err := b.mergeChecks.get(func() (map[string][]mergeCheck, error) { return b.readMergeChecks(ctx) })
	return append([]mergeCheck{}, all[p.config.RepositoryID]...), err
}

// readMergeChecks reads the last questions of all repositories of the batch, which the caller may see.
func (b *repositoryBatch) readMergeChecks(ctx context.Context) (map[string][]mergeCheck, error) {
	var rows []store.MergeCheck
	var names map[string]string
	err := b.r.gate.Store.InWorkspace(ctx, b.workspace.ID, func(tx *store.Tx) (err error) {
		if rows, err = tx.RecentMergeChecks(ctx, b.ids(), shownMergeChecks); err != nil {
			return err
		}
		names, err = tx.AccountNames(ctx, each(rows, func(m store.MergeCheck) string { return m.AccountID }))
		return err
	})
	if err != nil {
		return nil, err
	}
	all := make(map[string][]mergeCheck)
	for _, row := range rows {
		shown := mergeCheck{
			Number: clamp(row.Number), OnMerge: row.Trigger == store.CheckOnMerge, HeadCommit: textOrNil(row.HeadCommit),
			DestinationBranch: textOrNil(row.DestinationBranch), Allowed: row.Success, Code: row.Code, Sentence: row.Sentence, AskedAt: timeOf(row.AskedAt),
		}
		if row.AccountID != "" {
			shown.AskedBy = new(named(row.AccountID, names))
		}
		all[row.RepositoryID] = append(all[row.RepositoryID], shown)
	}
	return all, nil
}

type violation struct {
	batch *violationBatch
	row   store.MergeSeen

	Number            int32
	DestinationBranch string
	MergeCommit       *string
	Asked             bool
	Allowed           bool
	Sentence          string
	SeenAt            Time
}

// violationBatch holds the violations of a page, so that their pull requests are read together.
type violationBatch struct {
	r            *resolver
	workspace    string
	rows         []store.MergeSeen
	pullRequests lazy[map[string]*pullRequest]
}

func (p *repository) Violations(ctx context.Context, args pageArgs) (*connection[*violation], error) {
	b := p.batch
	rows, more, err := b.r.workspaces.Violations(ctx, viewerOf(ctx), b.workspace.ID, p.config.RepositoryID, args.page())
	if err != nil {
		return nil, err
	}
	batch := &violationBatch{r: b.r, workspace: b.workspace.ID, rows: rows}
	return connect(rows, more, store.MergeSeen.Cursor, func(m store.MergeSeen) *violation {
		return &violation{
			batch: batch, row: m, Number: clamp(m.Number), DestinationBranch: m.DestinationBranch, MergeCommit: textOrNil(m.LandedCommit),
			Asked: m.Asked, Allowed: m.Checked, Sentence: m.Sentence, SeenAt: timeOf(m.SeenAt),
		}
	}), nil
}

func (v *violation) PullRequest(ctx context.Context) (*pullRequest, error) {
	if v.row.PullRequestID == nil {
		return nil, nil
	}
	found, err := v.batch.pullRequests.get(func() (map[string]*pullRequest, error) {
		var ids []string
		for _, row := range v.batch.rows {
			if row.PullRequestID != nil {
				ids = append(ids, *row.PullRequestID)
			}
		}
		return v.batch.r.pullRequestsByID(ctx, v.batch.workspace, ids)
	})
	return found[*v.row.PullRequestID], err
}

type fixEnforcementInput struct {
	RepositoryID graphql.ID
	Pattern      string
	Fixes        []string
}

type fixEnforcementPayload struct {
	problems
	Repository *repository
	LeftToDo   []string
}

// FixEnforcement makes branch restrictions at Bitbucket.
func (r *resolver) FixEnforcement(ctx context.Context, args struct{ Input fixEnforcementInput }) (*fixEnforcementPayload, error) {
	in := args.Input
	return mutate(func(p *fixEnforcementPayload) error {
		a, err := find(ctx, kindRepository, in.RepositoryID, "repositoryId")
		if err != nil {
			return err
		}
		fixes := each(in.Fixes, func(f string) workspace.Fix { return workspace.Fix(f) })
		_, left, err := r.workspaces.FixEnforcement(ctx, viewerOf(ctx), a.workspace, a.id, in.Pattern, fixes)
		if err != nil {
			return err
		}
		p.LeftToDo = append([]string{}, left...)
		w, err := r.workspaces.Find(ctx, viewerOf(ctx), a.workspace)
		if err != nil {
			return err
		}
		config, err := r.workspaces.Repository(ctx, viewerOf(ctx), a.workspace, a.id)
		if err != nil {
			return err
		}
		p.Repository = r.batchOf(w, config).repository(config.RepositoryID)
		return nil
	})
}
