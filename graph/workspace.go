package graph

import (
	"context"

	graphql "github.com/graph-gophers/graphql-go"

	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/workspace"
)

type workspaceNode struct {
	r   *resolver
	row store.Workspace

	ID   graphql.ID
	UUID graphql.ID
	Slug string
	Name string
}

// Workspace finds a connected workspace by its UUID or its slug.
func (r *resolver) Workspace(ctx context.Context, args struct{ Key string }) (*workspaceNode, error) {
	w, err := r.workspaces.Find(ctx, viewerOf(ctx), args.Key)
	if err == nil {
		err = callerOf(ctx).Enters(w.ID)
	}
	return orNil(w, err, r.workspace)
}

func (r *resolver) workspace(w store.Workspace) *workspaceNode {
	return &workspaceNode{r: r, row: w, ID: nodeID(kindWorkspace, w.ID, w.ID), UUID: graphql.ID(w.ID), Slug: w.Slug, Name: w.Name}
}

func (w *workspaceNode) ViewerIsAdmin(ctx context.Context) (bool, error) {
	role, err := w.r.workspaces.Role(ctx, viewerOf(ctx), w.row.ID, false)
	if refusal.Code(err) == refusal.NeedsReconnecting {
		return false, nil // nobody can say any more that they are
	}
	return role == store.RoleAdmin, err
}

type connectionNode struct {
	State       string
	Reason      string
	AccountName string
	ConnectedAt Time
	RefreshedAt Time
}

func (w *workspaceNode) Connection(ctx context.Context) (*connectionNode, error) {
	c, err := w.r.workspaces.Connection(ctx, viewerOf(ctx), w.row.ID)
	return orNil(c, err, func(c store.Connection) *connectionNode {
		return &connectionNode{
			State: c.State, Reason: c.StateReason, AccountName: c.AccountName,
			ConnectedAt: timeOf(c.ConnectedAt), RefreshedAt: timeOf(c.RefreshedAt),
		}
	})
}

func (w *workspaceNode) Repositories(ctx context.Context, args pageArgs) (*connection[*repository], error) {
	configs, more, err := w.r.workspaces.Repositories(ctx, viewerOf(ctx), w.row.ID, args.page())
	if err != nil {
		return nil, err
	}
	batch := w.r.batchOf(w.row, configs...)
	return connect(configs, more, store.RepositoryConfig.Cursor,
		func(c store.RepositoryConfig) *repository { return batch.repository(c.RepositoryID) }), nil
}

func (w *workspaceNode) Repository(ctx context.Context, args struct{ Key string }) (*repository, error) {
	config, err := w.r.workspaces.Repository(ctx, viewerOf(ctx), w.row.ID, args.Key)
	return orNil(config, err, func(c store.RepositoryConfig) *repository { return w.r.batchOf(w.row, c).repository(c.RepositoryID) })
}

type bitbucketRepository struct {
	workspace *workspaceNode

	UUID       graphql.ID
	FullName   string
	Name       string
	Slug       string
	Repository *repository
}

type searchArgs struct {
	Search *string
	pageArgs
}

func (w *workspaceNode) BitbucketRepositories(ctx context.Context, args searchArgs) (*connection[*bitbucketRepository], error) {
	rows, more, err := w.r.workspaces.BitbucketRepositories(ctx, viewerOf(ctx), w.row.ID, or(args.Search, ""), args.page())
	if err != nil {
		return nil, err
	}
	var configs []store.RepositoryConfig
	for _, row := range rows {
		if row.Config != nil {
			configs = append(configs, *row.Config)
		}
	}
	batch := w.r.batchOf(w.row, configs...)
	return connect(rows, more, workspace.BitbucketRepository.Cursor,
		func(row workspace.BitbucketRepository) *bitbucketRepository { return w.bitbucketRepository(batch, row) }), nil
}

func (w *workspaceNode) BitbucketRepository(ctx context.Context, args struct{ Key string }) (*bitbucketRepository, error) {
	row, err := w.r.workspaces.BitbucketRepository(ctx, viewerOf(ctx), w.row.ID, args.Key)
	if refusal.Code(err) == refusal.Forbidden {
		return nil, nil
	}
	return orNil(row, err, func(row workspace.BitbucketRepository) *bitbucketRepository {
		batch := w.r.batchOf(w.row)
		if row.Config != nil {
			batch = w.r.batchOf(w.row, *row.Config)
		}
		return w.bitbucketRepository(batch, row)
	})
}

// bitbucketRepository maps a row whose configuration, if it has one, is in the batch.
func (w *workspaceNode) bitbucketRepository(batch *repositoryBatch, row workspace.BitbucketRepository) *bitbucketRepository {
	shown := &bitbucketRepository{workspace: w, UUID: graphql.ID(row.UUID), FullName: row.FullName, Name: row.Name, Slug: row.Slug}
	if row.Config != nil {
		shown.Repository = batch.repository(row.UUID)
	}
	return shown
}

func (b *bitbucketRepository) Branches(ctx context.Context, args struct{ Search *string }) (*[]string, error) {
	branches, err := b.workspace.r.workspaces.Branches(ctx, viewerOf(ctx), b.workspace.row.ID, string(b.UUID), or(args.Search, ""))
	return &branches, err
}

func (b *bitbucketRepository) MergeStrategies(ctx context.Context, args struct{ Branch string }) (*[]string, error) {
	strategies, err := b.workspace.r.workspaces.MergeStrategies(ctx, viewerOf(ctx), b.workspace.row.ID, string(b.UUID), args.Branch)
	if refusal.Code(err) == refusal.NotFound {
		return nil, nil
	}
	return &strategies, err
}

func (w *workspaceNode) Members(ctx context.Context, args searchArgs) (*connection[account], error) {
	rows, more, err := w.r.workspaces.Members(ctx, viewerOf(ctx), w.row.ID, or(args.Search, ""), args.page())
	if err != nil {
		return nil, err
	}
	return connect(rows, more, workspace.Account.Cursor,
		func(a workspace.Account) account { return account{AccountID: a.AccountID, Name: a.Name} }), nil
}

type requestsArgs struct {
	States *[]string
	pageArgs
}

func (w *workspaceNode) Requests(ctx context.Context, args requestsArgs) (*connection[*approvalRequest], error) {
	views, more, err := w.r.gate.WorkspaceRequests(ctx, viewerOf(ctx), w.row.ID, or(args.States, nil), args.page())
	if err != nil {
		return nil, err
	}
	return w.r.requestPage(views, more), nil
}

type alarm struct {
	batch *alarmBatch
	row   store.Alarm

	ID       graphql.ID
	Kind     string
	Sentence string
	OpenedAt Time
}

// alarmBatch holds the alarms of a list, so that their pull requests are read together.
type alarmBatch struct {
	r            *resolver
	workspace    string
	rows         []store.Alarm
	pullRequests lazy[map[string]*pullRequest]
}

func (w *workspaceNode) Alarms(ctx context.Context) (*[]*alarm, error) {
	rows, err := w.r.workspaces.Alarms(ctx, viewerOf(ctx), w.row.ID)
	if refusal.Code(err) == refusal.Forbidden {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return new(w.r.alarms(w.row.ID, rows)), nil
}

func (r *resolver) alarms(workspace string, rows []store.Alarm) []*alarm {
	batch := &alarmBatch{r: r, workspace: workspace, rows: rows}
	return each(rows, func(a store.Alarm) *alarm {
		return &alarm{
			batch: batch, row: a, ID: nodeID(kindAlarm, workspace, a.ID), Kind: a.Kind, Sentence: a.Sentence, OpenedAt: timeOf(a.OpenedAt),
		}
	})
}

func (a *alarm) PullRequest(ctx context.Context) (*pullRequest, error) {
	if a.row.PullRequestID == nil {
		return nil, nil
	}
	found, err := a.batch.pullRequests.get(func() (map[string]*pullRequest, error) { return a.batch.read(ctx) })
	return found[*a.row.PullRequestID], err
}

func (b *alarmBatch) read(ctx context.Context) (map[string]*pullRequest, error) {
	var ids []string
	for _, a := range b.rows {
		if a.PullRequestID != nil {
			ids = append(ids, *a.PullRequestID)
		}
	}
	return b.r.pullRequestsByID(ctx, b.workspace, ids)
}

// pullRequestsByID reads the pull requests of a list together; those that the viewer may not see are left out.
func (r *resolver) pullRequestsByID(ctx context.Context, workspace string, ids []string) (map[string]*pullRequest, error) {
	views, err := r.gate.ViewPullRequests(ctx, viewerOf(ctx), workspace, ids)
	if err != nil {
		return nil, err
	}
	found := make(map[string]*pullRequest, len(views))
	for i, p := range r.pullRequests(views) {
		found[views[i].PullRequest.ID] = p
	}
	return found, nil
}

func (w *workspaceNode) APITokens(ctx context.Context) (*[]*apiToken, error) {
	rows, err := w.r.people.Tokens(ctx, viewerOf(ctx), w.row.ID)
	if err != nil {
		return nil, err
	}
	return new(each(rows, apiTokenOf)), nil
}

type beginConnectInput struct{ ReturnTo *string }

type beginConnectPayload struct {
	problems
	URL *string
}

// BeginConnect answers the address of Bitbucket's consent page.
func (r *resolver) BeginConnect(ctx context.Context, args struct{ Input beginConnectInput }) (*beginConnectPayload, error) {
	return mutate(func(p *beginConnectPayload) error {
		url, err := r.workspaces.BeginConnect(ctx, viewerOf(ctx), callerOf(ctx).SessionHash, or(args.Input.ReturnTo, ""))
		p.URL = &url
		return err
	})
}

type connectWorkspaceInput struct{ GrantID, WorkspaceUUID graphql.ID }

type connectWorkspacePayload struct {
	problems
	Workspace *workspaceNode
}

// ConnectWorkspace uses a consent for one workspace.
func (r *resolver) ConnectWorkspace(ctx context.Context, args struct{ Input connectWorkspaceInput }) (*connectWorkspacePayload, error) {
	return mutate(func(p *connectWorkspacePayload) error {
		a, err := find(ctx, kindGrant, args.Input.GrantID, "grantId")
		if err != nil {
			return err
		}
		w, err := r.workspaces.Connect(ctx, viewerOf(ctx), a.id, string(args.Input.WorkspaceUUID))
		if err != nil {
			return err
		}
		p.Workspace = r.workspace(w)
		return nil
	})
}

type disconnectWorkspaceInput struct{ WorkspaceID graphql.ID }

type disconnectWorkspacePayload struct {
	problems
	LeftToDo []string
}

// DisconnectWorkspace ends a workspace's connection.
func (r *resolver) DisconnectWorkspace(ctx context.Context, args struct{ Input disconnectWorkspaceInput }) (*disconnectWorkspacePayload, error) {
	return mutate(func(p *disconnectWorkspacePayload) error {
		a, err := find(ctx, kindWorkspace, args.Input.WorkspaceID, "workspaceId")
		if err != nil {
			return err
		}
		p.LeftToDo, err = r.workspaces.Disconnect(ctx, viewerOf(ctx), a.workspace)
		return err
	})
}
