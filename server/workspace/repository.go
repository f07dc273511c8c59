package workspace

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// attentionNew is what a repository shows until its webhook is confirmed for the first time.
const attentionNew = "The webhook is being set up. Until it works, changes to pull requests are noticed late."

// SaveRepository gates a repository, or changes its rules. via says how the caller came: "session" or
// "token:<id>".
//
// A policy that cannot be kept in this repository is refused with its problems, in document order, and
// changes nothing. Else it becomes the newest immutable version, unless it is that already, and all
// open pull requests are looked at again.
//
// Where the workspace is protected nothing changes, and a proposal is made: then the error is a [ProtectedError].
//
// What is saved stays saved when Bitbucket then does not take the webhook: the config answers
// ATTENTION until EnsureHook, here or from the reconciler, has confirmed it.
func (w *Workspaces) SaveRepository(ctx context.Context, person store.Person, via, workspace, repositoryUUID string, policy approval.Policy) (store.RepositoryConfig, []approval.Problem, error) {
	repositoryID, ok := bitbucket.BareUUID(repositoryUUID)
	if !ok || !store.ValidID(workspace) {
		return store.RepositoryConfig{}, nil, notFound("repository").At("repositoryUuid")
	}
	if err := w.mayConfigure(ctx, person, workspace, repositoryID); err != nil {
		return store.RepositoryConfig{}, nil, err
	}
	client, err := w.Client(ctx, workspace, bitbucket.Foreground)
	if err != nil {
		return store.RepositoryConfig{}, nil, err
	}
	remote, err := client.Repository(ctx, workspace, repositoryID)
	if gone, ok := errors.AsType[*bitbucket.Error](err); ok && gone.NotFound() {
		return store.RepositoryConfig{}, nil, notFound("repository").At("repositoryUuid").Because(err)
	}
	if err != nil {
		return store.RepositoryConfig{}, nil, asked(err)
	}
	// A transferred repository answers under its old workspace for a while.
	if remote.UUID != repositoryID || remote.WorkspaceUUID != "" && remote.WorkspaceUUID != workspace {
		return store.RepositoryConfig{}, nil, notFound("repository").At("repositoryUuid")
	}
	problems, err := w.problems(ctx, client, workspace, repositoryID, policy)
	if err != nil || len(problems) > 0 {
		return store.RepositoryConfig{}, problems, err
	}

	var (
		config   store.RepositoryConfig
		proposal *store.Proposal
	)
	err = w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		config, proposal, err = w.storePolicy(ctx, tx, person, via, remote, policy)
		return err
	})
	if err != nil {
		return store.RepositoryConfig{}, nil, err
	}
	if proposal != nil {
		w.log.InfoContext(ctx, "policy proposed", "workspace", workspace, "repository", repositoryID,
			"person", person.ID, "via", via, "proposal", proposal.ID)
		return store.RepositoryConfig{}, nil, protected(*proposal)
	}
	w.log.InfoContext(ctx, "repository saved", "workspace", workspace, "repository", repositoryID,
		"person", person.ID, "via", via, "policy", policy.Digest())

	if err := w.ensureHook(ctx, workspace, repositoryID); err != nil {
		w.log.WarnContext(ctx, "webhook not confirmed", "workspace", workspace, "repository", repositoryID, "error", err)
	}
	err = w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		config, err = tx.RepositoryConfig(ctx, repositoryID)
		return err
	})
	return config, nil, found(err, "repository") // somebody removed it meanwhile
}

// problems measures a policy against who is in the workspace, who may write, and what the branches
// offer.
func (w *Workspaces) problems(ctx context.Context, client *bitbucket.Client, workspace, repositoryID string, policy approval.Policy) ([]approval.Problem, error) {
	people, err := w.readPeople(ctx, workspace, repositoryID)
	if err != nil {
		return nil, err
	}
	// Whether the branches offer a strategy is asked of each branch below.
	population := approval.Population{Strategies: approval.Strategies(), Witnesses: w.Witnesses, Models: w.models.Acceptable()}
	for _, p := range people {
		if bitbucket.Permission(p.Permission).Allows(bitbucket.PermissionWrite) {
			population.Writers = append(population.Writers, p.AccountID)
		}
	}
	for member, err := range client.Members(ctx, workspace) {
		if err != nil {
			return nil, asked(err)
		}
		if member.AccountID != "" {
			population.Accounts = append(population.Accounts, member.AccountID)
		}
	}
	problems := policy.Validate(population)
	if len(problems) > 0 || !slices.ContainsFunc(policy.Rules, mergesBy) {
		return problems, nil
	}
	return notOffered(ctx, client, workspace, repositoryID, policy)
}

// mergesBy tells whether a rule names a merge strategy.
func mergesBy(r approval.Rule) bool { return r.AutoMerge != nil && r.AutoMerge.Strategy != "" }

// notOffered finds rules whose merge strategy a branch that they gate does not offer. A rule for
// branches that do not exist yet passes: the merge will say so if it must.
func notOffered(ctx context.Context, client *bitbucket.Client, workspace, repositoryID string, policy approval.Policy) ([]approval.Problem, error) {
	refusedBy := map[int]string{}
	for branch, err := range client.Branches(ctx, workspace, repositoryID, "") {
		if err != nil {
			return nil, asked(err)
		}
		rule, i, ok := policy.Match(branch.Name)
		if !ok || !mergesBy(rule) || len(branch.MergeStrategies) == 0 || refusedBy[i] != "" {
			continue
		}
		if !slices.Contains(branch.MergeStrategies, bitbucket.MergeStrategy(rule.AutoMerge.Strategy)) {
			refusedBy[i] = branch.Name
		}
	}
	var problems []approval.Problem
	for i, rule := range policy.Rules {
		if branch := refusedBy[i]; branch != "" {
			problems = append(problems, approval.Problem{
				Code: approval.CodeNotOffered, Path: fmt.Sprintf("rules[%d].autoMerge.strategy", i),
				Message: fmt.Sprintf("The branch %q does not offer the merge strategy %q.", branch, rule.AutoMerge.Strategy),
			})
		}
	}
	return problems, nil
}

// storePolicy is the transaction of SaveRepository. Where the rules are protected it makes a proposal instead, unless they
// are in force already.
func (w *Workspaces) storePolicy(ctx context.Context, tx *store.Tx, person store.Person, via string, remote bitbucket.Repository, policy approval.Policy) (store.RepositoryConfig, *store.Proposal, error) {
	if err := tx.LockRules(ctx); err != nil {
		return store.RepositoryConfig{}, nil, err
	}
	force, err := protection(ctx, tx)
	if err != nil {
		return store.RepositoryConfig{}, nil, err
	}
	document := policy.Canonical()
	if force.Quorum > 0 {
		next, err := nextPolicy(ctx, tx, remote.UUID, string(approval.DigestOf(document)))
		if err != nil {
			return store.RepositoryConfig{}, nil, err
		}
		if next.Policy != next.Previous {
			p, err := propose(ctx, tx, force, store.Proposal{
				Kind: store.ProposalPolicy, RepositoryID: &remote.UUID, Slug: remote.Slug, FullName: remote.FullName, Name: remote.Name,
				Policy: document, ProposedBy: person.ID, ProposedVia: via,
			}, next)
			return store.RepositoryConfig{}, &p, err
		}
	}
	config, err := w.applyPolicy(ctx, tx, person.ID, via, remote, document, nil)
	return config, nil, err
}

// applyPolicy puts a policy in force, with its leaf, which names the acts that agreed to it. The caller holds the lock of
// the rules.
func (w *Workspaces) applyPolicy(ctx context.Context, tx *store.Tx, by, via string, remote bitbucket.Repository, document []byte, acts []evidence.Digest) (store.RepositoryConfig, error) {
	s, err := lockStanding(ctx, tx)
	switch {
	case err != nil:
		return store.RepositoryConfig{}, err
	case s.installed() && !s.active():
		return store.RepositoryConfig{}, awaitingConfirmation()
	case !s.active() && s.connection == nil: // since it was asked
		return store.RepositoryConfig{}, notFound("workspace")
	}
	version, created, err := tx.PutPolicyVersion(ctx, store.PolicyVersion{
		RepositoryID: remote.UUID, Document: document, Digest: string(approval.DigestOf(document)), CreatedBy: by, CreatedVia: via,
	})
	if err != nil {
		return store.RepositoryConfig{}, err
	}
	_, err = tx.RepositoryConfig(ctx, remote.UUID)
	gated := err == nil
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return store.RepositoryConfig{}, err
	}
	var endpoint store.HookEndpoint // none where only the app is there, which is told of events by itself
	if s.connection != nil {
		if endpoint, err = newEndpoint(ctx, tx, remote.UUID); err != nil {
			return store.RepositoryConfig{}, err
		}
	}
	config, err := tx.PutRepositoryConfig(ctx, store.RepositoryConfig{
		RepositoryID: remote.UUID, Slug: remote.Slug, FullName: remote.FullName, Name: remote.Name,
		PolicyVersionID: version.ID, HookID: endpoint.ID, Attention: attentionNew,
	})
	if err != nil {
		return store.RepositoryConfig{}, err
	}
	if err := tx.Enqueue(ctx, store.AskFan(tx.Workspace, remote.UUID, ""), store.AskReconcile(tx.Workspace, remote.UUID),
		store.AskDoctor(tx.Workspace, remote.UUID)); err != nil {
		return store.RepositoryConfig{}, err
	}
	if !created && gated {
		return config, nil // the rules are what they were
	}
	return config, policyLeaf(ctx, tx, version, acts)
}

// policyLeaf writes down which policy is in force in a repository from now on, if any, and who agreed. Proposals about what was in force before are over.
func policyLeaf(ctx context.Context, tx *store.Tx, version store.PolicyVersion, acts []evidence.Digest) error {
	if err := tx.OutdatePolicyProposals(ctx, version.RepositoryID); err != nil {
		return err
	}
	workspace, err := tx.ReadWorkspace(ctx)
	if err != nil {
		return err
	}
	return appendLeaf(ctx, tx, workspace, evidence.PolicyVersion{
		Repository: evidence.RepositoryID(workspace.GenesisSalt, bitbucket.BracedUUID(version.RepositoryID)),
		Version:    int64(version.Version), Policy: approval.Digest(version.Digest), Acts: acts,
	})
}

// RemoveRepository stops gating a repository: its webhook is deleted and its open requests are
// cancelled. What was decided stays on record. It answers what is left to a person, a sentence each.
//
// Where the workspace is protected nothing changes, and a proposal is made: then the error is a [ProtectedError].
//
// The webhook goes first, with the repository in ATTENTION: should the server die half-way, the
// repository is still gated, and the reconciler makes its webhook again.
func (w *Workspaces) RemoveRepository(ctx context.Context, person store.Person, via, workspace, repositoryUUID string) ([]string, error) {
	repositoryID, ok := bitbucket.BareUUID(repositoryUUID)
	if !ok || !store.ValidID(workspace) {
		return nil, notFound("repository").At("repositoryId")
	}
	if err := w.mayConfigure(ctx, person, workspace, repositoryID); err != nil {
		return nil, err
	}
	s, client, err := w.hookClient(ctx, workspace)
	if err != nil {
		return nil, err
	}
	var (
		config   store.RepositoryConfig
		proposal *store.Proposal
	)
	err = w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		if proposal, err = proposeUngating(ctx, tx, person, via, repositoryID); err != nil || proposal != nil {
			return err
		}
		if config, err = tx.RepositoryConfig(ctx, repositoryID); err != nil {
			return err
		}
		return tx.SetRepositoryState(ctx, repositoryID, store.RepositoryAttention, "The repository is being removed.")
	})
	if err != nil {
		return nil, found(err, "repository")
	}
	if proposal != nil {
		w.log.InfoContext(ctx, "removal proposed", "workspace", workspace, "repository", repositoryID,
			"person", person.ID, "via", via, "proposal", proposal.ID)
		return nil, protected(*proposal)
	}
	var leftToDo []string
	if err := w.deleteHooks(ctx, client, workspace, repositoryID); err != nil && s.connection != nil {
		leftToDo = append(leftToDo, hookLeft(config, err))
	}
	err = w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		if err := mustBeUnprotected(ctx, tx); err != nil {
			return err
		}
		return w.ungate(ctx, tx, person.ID, via, repositoryID, nil)
	})
	if err != nil {
		return nil, found(err, "repository")
	}
	w.log.InfoContext(ctx, "repository removed", "workspace", workspace, "repository", repositoryID, "person", person.ID, "via", via)

	unpaid, err := w.Cancel(ctx, workspace, repositoryID, "The repository is no longer gated.")
	if err != nil {
		return nil, err
	}
	return append(append(leftToDo, unpaid...), statusesStay), nil
}

// statusesStay is what Bitbucket lets nobody undo.
const statusesStay = "Build statuses that were written stay on their commits: Bitbucket has no way to delete them. " +
	"If a branch restriction counts passing builds, look at whether it is still right."

// proposeUngating makes a proposal where the workspace is protected; nil where it is not.
func proposeUngating(ctx context.Context, tx *store.Tx, person store.Person, via, repositoryID string) (*store.Proposal, error) {
	if err := tx.LockRules(ctx); err != nil {
		return nil, err
	}
	force, err := protection(ctx, tx)
	if err != nil || force.Quorum == 0 {
		return nil, err
	}
	config, err := tx.RepositoryConfig(ctx, repositoryID)
	if err != nil {
		return nil, err
	}
	next, err := nextPolicy(ctx, tx, repositoryID, "")
	if err != nil {
		return nil, err
	}
	p, err := propose(ctx, tx, force, store.Proposal{
		Kind: store.ProposalPolicy, RepositoryID: &repositoryID, Slug: config.Slug, FullName: config.FullName, Name: config.Name,
		ProposedBy: person.ID, ProposedVia: via,
	}, next)
	return &p, err
}

// mustBeUnprotected takes the lock of the rules and refuses where they change by signatures alone.
func mustBeUnprotected(ctx context.Context, tx *store.Tx) error {
	if err := tx.LockRules(ctx); err != nil {
		return err
	}
	force, err := protection(ctx, tx)
	if err == nil && force.Quorum > 0 {
		err = refusal.New(CodeProtected, "The rules of this workspace are protected. Its repositories can be removed one by one, with signatures, or the protection be ended first.")
	}
	return err
}

// ungate forgets a repository's config and asks for its pull requests to be looked at, which finds
// that nothing asks for them any more. The caller holds the lock of the rules.
func (w *Workspaces) ungate(ctx context.Context, tx *store.Tx, by, via, repositoryID string, acts []evidence.Digest) error {
	if _, err := tx.DeleteRepositoryConfig(ctx, repositoryID); err != nil {
		return err
	}
	if err := tx.DeleteHookEndpoint(ctx, repositoryID); err != nil {
		return err
	}
	if err := tx.CloseAlarm(ctx, store.AlarmHookMissing, repositoryID); err != nil {
		return err
	}
	if err := tx.Enqueue(ctx, store.AskFan(tx.Workspace, repositoryID, ""), store.AskDoctor(tx.Workspace, repositoryID)); err != nil {
		return err
	}
	version, _, err := tx.PutPolicyVersion(ctx, store.PolicyVersion{RepositoryID: repositoryID, Document: []byte{}, CreatedBy: by, CreatedVia: via})
	if err != nil {
		return err
	}
	return policyLeaf(ctx, tx, version, acts)
}

// hookLeft says that a webhook could not be deleted, and where to do it by hand.
func hookLeft(config store.RepositoryConfig, err error) string {
	reason := "Bitbucket could not be asked"
	if remote, ok := errors.AsType[*bitbucket.Error](err); ok && remote.Status != 0 {
		reason = fmt.Sprintf("Bitbucket answered %d", remote.Status)
	}
	return fmt.Sprintf("The webhook of %s could not be deleted (%s). Delete it at Bitbucket under Repository settings, Webhooks; what it sends is refused here.", config.FullName, reason)
}

// Disconnect ends a workspace's connection: all repositories are ungated, open requests cancelled,
// webhooks deleted, our API tokens for the workspace revoked and Bitbucket's tokens forgotten. What was
// decided stays on record. It answers what is left to a person, a sentence each.
//
// A protected workspace is not disconnected: its protection is to be ended first.
//
// While the app is in the workspace, only the second way ends: webhooks and Bitbucket's tokens go, and
// the gate stays. An app that waits to be confirmed must be confirmed or uninstalled first.
//
// The connection ends last, so that whatever goes wrong before can be tried again. One that is dead
// already must be connected again first, unless the app is there: without either nobody's right can be
// read, and nothing undone.
func (w *Workspaces) Disconnect(ctx context.Context, person store.Person, workspace string) ([]string, error) {
	if !store.ValidID(workspace) {
		return nil, notFound("workspace").At("workspaceId")
	}
	if err := w.mustAdminister(ctx, person, workspace); err != nil {
		return nil, err
	}
	s, client, err := w.hookClient(ctx, workspace)
	switch {
	case err != nil:
		return nil, err
	case s.connection == nil:
		return nil, notFound("connection").At("workspaceId")
	case s.installed() && !s.active():
		return nil, awaitingConfirmation()
	}
	var configs []store.RepositoryConfig
	err = w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		if !s.active() {
			if err := mustBeUnprotected(ctx, tx); err != nil {
				return err
			}
		}
		configs, err = tx.AllRepositoryConfigs(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	var leftToDo []string
	for _, config := range configs {
		if err := w.deleteHooks(ctx, client, workspace, config.RepositoryID); err != nil {
			leftToDo = append(leftToDo, hookLeft(config, err))
		}
		err := w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
			if s.active() {
				return forgetHook(ctx, tx, config.RepositoryID)
			}
			if err := mustBeUnprotected(ctx, tx); err != nil {
				return err
			}
			return w.ungate(ctx, tx, person.ID, "session", config.RepositoryID, nil)
		})
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
	}
	if !s.active() {
		unpaid, err := w.Cancel(ctx, workspace, "", "The workspace is no longer connected.")
		if err != nil {
			return nil, err
		}
		leftToDo = append(leftToDo, unpaid...)
	}

	err = w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error { return w.endConnection(ctx, tx, person, s.active()) })
	if err != nil {
		return nil, err
	}
	w.log.InfoContext(ctx, "workspace disconnected", "workspace", workspace, "person", person.ID, "left", len(leftToDo))
	if len(configs) > 0 && !s.active() {
		leftToDo = append(leftToDo, statusesStay)
	}
	return append(leftToDo, fmt.Sprintf("Bitbucket has no way for us to give a consent back. "+
		"%s can remove it at Bitbucket under Personal settings, App authorizations; we have deleted our copy of its tokens.", s.connection.AccountName)), nil
}

// hookClient is the client that webhooks are deleted with: the connection's. It is nil where there is
// none and the app is there, which needs none.
func (w *Workspaces) hookClient(ctx context.Context, workspace string) (standing, *bitbucket.Client, error) {
	s, err := w.standing(ctx, workspace)
	if err != nil {
		return s, nil, err
	}
	client, err := w.connectionClient(ctx, workspace, bitbucket.Foreground)
	if err != nil && s.active() {
		return s, nil, nil
	}
	return s, client, err
}

// forgetHook is for a repository that goes on without a webhook.
func forgetHook(ctx context.Context, tx *store.Tx, repositoryID string) error {
	if err := tx.SetHook(ctx, repositoryID, ""); err != nil {
		return err
	}
	if err := tx.DeleteHookEndpoint(ctx, repositoryID); err != nil {
		return err
	}
	if err := tx.SetRepositoryState(ctx, repositoryID, store.RepositoryActive, ""); err != nil {
		return err
	}
	return tx.CloseAlarm(ctx, store.AlarmHookMissing, repositoryID)
}

// endConnection is the last transaction of Disconnect.
func (w *Workspaces) endConnection(ctx context.Context, tx *store.Tx, person store.Person, keepGate bool) error {
	workspace, err := tx.ReadWorkspace(ctx)
	if err != nil {
		return err
	}
	s, err := lockStanding(ctx, tx)
	if err != nil {
		return err
	}
	left, err := tx.AllRepositoryConfigs(ctx)
	if err != nil {
		return err
	}
	saved := slices.ContainsFunc(left, func(c store.RepositoryConfig) bool { return !keepGate || c.HookID != "" })
	if saved || s.active() != keepGate {
		return refusal.New(refusal.Busy, "The workspace was changed at the same time. Please try again.")
	}
	if err := tx.EndConnection(ctx, "An administrator disconnected the workspace."); err != nil {
		return err
	}
	if !keepGate {
		if _, err := tx.RevokeAPITokens(ctx, tx.Workspace); err != nil {
			return err
		}
		if err := tx.DeleteRepositoryPeople(ctx, ""); err != nil {
			return err
		}
	}
	for _, kind := range []string{store.AlarmNeedsReconnecting, store.AlarmConnectionRights} {
		if err := tx.CloseAlarm(ctx, kind, tx.Workspace); err != nil {
			return err
		}
	}
	return appendLeaf(ctx, tx, workspace, evidence.Connection{Event: "ended", Person: person.ID})
}
