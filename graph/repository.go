package graph

import (
	"context"
	"time"

	graphql "github.com/graph-gophers/graphql-go"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/store"
)

// permissionAge is how long Bitbucket's word about rights is believed, as in package workspace.
const permissionAge = 5 * time.Minute

// repositoryRemoved is the state of a repository that is no longer gated; only what was decided leads to it.
const repositoryRemoved = "REMOVED"

type repository struct {
	batch  *repositoryBatch
	config store.RepositoryConfig

	ID               graphql.ID
	UUID             graphql.ID
	FullName         string
	Name             string
	Slug             string
	State            string
	Attention        string
	ReconcileSeconds *int32
	ReconciledAt     *Time
}

// repositoryBatch holds repositories of one workspace that one list shows, so that what they need besides is read
// for all of them at once, and only if it is asked for.
type repositoryBatch struct {
	r         *resolver
	workspace store.Workspace
	configs   map[string]store.RepositoryConfig // by repository

	policies lazy[map[string]*policyVersion] // in force, by repository
	rights   lazy[map[string]bool]           // which the viewer may configure
	keys     lazy[store.Keys]                // the viewer's

	enforcements lazy[map[string][]enforcement] // by repository
	mergeChecks  lazy[map[string][]mergeCheck]  // the last ones, by repository
}

func (r *resolver) batchOf(w store.Workspace, configs ...store.RepositoryConfig) *repositoryBatch {
	b := &repositoryBatch{r: r, workspace: w, configs: make(map[string]store.RepositoryConfig, len(configs))}
	for _, c := range configs {
		if c.RepositoryID != "" {
			b.configs[c.RepositoryID] = c
		}
	}
	return b
}

// batches sorts the repositories of views by workspace.
func (r *resolver) batches(views []gate.View) map[string]*repositoryBatch {
	byWorkspace := make(map[string]*repositoryBatch)
	for _, v := range views {
		b := byWorkspace[v.Workspace.ID]
		if b == nil {
			b = r.batchOf(v.Workspace)
			byWorkspace[v.Workspace.ID] = b
		}
		if v.Repository.RepositoryID != "" {
			b.configs[v.Repository.RepositoryID] = v.Repository
		}
	}
	return byWorkspace
}

// repository maps a repository of the batch; one that is not gated any more by its id alone.
func (b *repositoryBatch) repository(id string) *repository {
	c, gated := b.configs[id]
	if !gated {
		c = store.RepositoryConfig{
			RepositoryID: id, Slug: id, Name: id, FullName: b.workspace.Slug + "/" + id, State: repositoryRemoved,
			Attention: "The repository is no longer gated.",
		}
	}
	shown := &repository{
		batch: b, config: c,
		ID: nodeID(kindRepository, b.workspace.ID, id), UUID: graphql.ID(id), FullName: c.FullName, Name: c.Name, Slug: c.Slug,
		State: c.State, Attention: c.Attention, ReconciledAt: timeOrNil(c.ReconciledAt),
	}
	if c.ReconcileSeconds != nil {
		shown.ReconcileSeconds = new(clamp(*c.ReconcileSeconds))
	}
	return shown
}

func (p *repository) Workspace() *workspaceNode { return p.batch.r.workspace(p.batch.workspace) }

func (p *repository) Policy(ctx context.Context) (*policyVersion, error) {
	b := p.batch
	policies, err := b.policies.get(func() (map[string]*policyVersion, error) { return b.readPolicies(ctx) })
	if err != nil || policies[p.config.RepositoryID] != nil {
		return policies[p.config.RepositoryID], err
	}
	// No longer gated: the last version is what counted.
	versions, _, err := b.r.workspaces.PolicyVersions(ctx, viewerOf(ctx), b.workspace.ID, p.config.RepositoryID, store.Page{First: 1})
	if err != nil {
		return nil, err
	}
	if len(versions) == 0 {
		return nil, nothing()
	}
	return b.r.policyVersions(b.workspace.ID, versions)[0], nil
}

// readPolicies reads the rules in force of all repositories of the batch, which the caller may see.
func (b *repositoryBatch) readPolicies(ctx context.Context) (map[string]*policyVersion, error) {
	ids := make([]string, 0, len(b.configs))
	for _, c := range b.configs {
		ids = append(ids, c.PolicyVersionID)
	}
	var rows []store.PolicyVersion
	err := b.r.gate.Store.InWorkspace(ctx, b.workspace.ID, func(tx *store.Tx) (err error) {
		rows, err = tx.PolicyVersionsByID(ctx, ids)
		return err
	})
	if err != nil {
		return nil, err
	}
	policies := make(map[string]*policyVersion, len(rows))
	for _, version := range b.r.policyVersions(b.workspace.ID, rows) {
		policies[version.row.RepositoryID] = version
	}
	return policies, nil
}

func (p *repository) ViewerCanConfigure(ctx context.Context) (bool, error) {
	b := p.batch
	rights, err := b.rights.get(func() (map[string]bool, error) { return b.readRights(ctx) })
	return rights[p.config.RepositoryID], err
}

// readRights finds out which repositories of the batch the viewer may configure: an administrator of
// the workspace all; others by what Bitbucket lately said, which was asked when the list was made.
func (b *repositoryBatch) readRights(ctx context.Context) (map[string]bool, error) {
	viewer, rights := viewerOf(ctx), make(map[string]bool, len(b.configs))
	role, err := b.r.workspaces.Role(ctx, viewer, b.workspace.ID, false)
	if err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(b.configs))
	for id := range b.configs {
		ids, rights[id] = append(ids, id), role == store.RoleAdmin
	}
	if role == store.RoleAdmin {
		return rights, nil
	}
	var known map[string]string
	err = b.r.gate.Store.InWorkspace(ctx, b.workspace.ID, func(tx *store.Tx) (err error) {
		known, err = tx.PermissionsOf(ctx, viewer.AccountID, ids, permissionAge)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		permission, ok := known[id]
		if ok {
			rights[id] = bitbucket.Permission(permission).Allows(bitbucket.PermissionAdmin)
			continue
		}
		if rights[id], err = b.r.workspaces.CanConfigure(ctx, viewer, b.workspace.ID, id); err != nil {
			return nil, err
		}
	}
	return rights, nil
}

func (p *repository) PolicyVersions(ctx context.Context, args pageArgs) (*connection[*policyVersion], error) {
	b := p.batch
	versions, more, err := b.r.workspaces.PolicyVersions(ctx, viewerOf(ctx), b.workspace.ID, p.config.RepositoryID, args.page())
	if err != nil {
		return nil, err
	}
	return connect(b.r.policyVersions(b.workspace.ID, versions), more,
		func(v *policyVersion) string { return v.row.Cursor() }, same), nil
}

func (p *repository) PullRequests(ctx context.Context, args pageArgs) (*connection[*pullRequest], error) {
	b := p.batch
	views, more, err := b.r.gate.PullRequests(ctx, viewerOf(ctx), b.workspace.ID, p.config.RepositoryID, args.page())
	if err != nil {
		return nil, err
	}
	return connect(b.r.pullRequests(views), more, func(q *pullRequest) string { return q.view.PullRequest.Cursor() }, same), nil
}

type saveRepositoryInput struct {
	WorkspaceID    graphql.ID
	RepositoryUUID graphql.ID
	Rules          []ruleInput
}

type saveRepositoryPayload struct {
	problems
	Repository *repository
	Proposal   *proposal
}

// SaveRepository gates a repository, or changes its rules.
func (r *resolver) SaveRepository(ctx context.Context, args struct{ Input saveRepositoryInput }) (*saveRepositoryPayload, error) {
	in := args.Input
	return mutate(func(p *saveRepositoryPayload) error {
		a, err := find(ctx, kindWorkspace, in.WorkspaceID, "workspaceId")
		if err != nil {
			return err
		}
		caller := callerOf(ctx)
		config, problems, err := r.workspaces.SaveRepository(ctx, *caller.Person, caller.via(), a.workspace, string(in.RepositoryUUID), policyOf(in.Rules))
		if err != nil {
			p.Proposal, p.UserErrors, err = r.instead(ctx, a.workspace, err)
			return err
		}
		if len(problems) > 0 {
			p.UserErrors = each(problems, problemOf)
			return nil
		}
		w, err := r.workspaces.Find(ctx, *caller.Person, a.workspace)
		if err != nil {
			return err
		}
		p.Repository = r.batchOf(w, config).repository(config.RepositoryID)
		return nil
	})
}

type removeRepositoryInput struct{ RepositoryID graphql.ID }

type removeRepositoryPayload struct {
	problems
	LeftToDo []string
	Proposal *proposal
}

// RemoveRepository stops gating a repository.
func (r *resolver) RemoveRepository(ctx context.Context, args struct{ Input removeRepositoryInput }) (*removeRepositoryPayload, error) {
	return mutate(func(p *removeRepositoryPayload) error {
		a, err := find(ctx, kindRepository, args.Input.RepositoryID, "repositoryId")
		if err != nil {
			return err
		}
		caller := callerOf(ctx)
		p.LeftToDo, err = r.workspaces.RemoveRepository(ctx, *caller.Person, caller.via(), a.workspace, a.id)
		if err != nil {
			p.Proposal, p.UserErrors, err = r.instead(ctx, a.workspace, err)
		}
		return err
	})
}
