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

	var config store.RepositoryConfig
	err = w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		config, err = w.storePolicy(ctx, tx, person, via, remote, policy)
		return err
	})
	if err != nil {
		return store.RepositoryConfig{}, nil, err
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
	population := approval.Population{Strategies: approval.Strategies()}
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

// storePolicy is the transaction of SaveRepository.
func (w *Workspaces) storePolicy(ctx context.Context, tx *store.Tx, person store.Person, via string, remote bitbucket.Repository, policy approval.Policy) (store.RepositoryConfig, error) {
	s, err := lockStanding(ctx, tx)
	switch {
	case err != nil:
		return store.RepositoryConfig{}, err
	case s.installed() && !s.active():
		return store.RepositoryConfig{}, awaitingConfirmation()
	case !s.active() && s.connection == nil: // since it was asked
		return store.RepositoryConfig{}, notFound("workspace")
	}
	document := policy.Canonical()
	version, created, err := tx.PutPolicyVersion(ctx, store.PolicyVersion{
		RepositoryID: remote.UUID, Document: document, Digest: string(approval.DigestOf(document)), CreatedBy: person.ID, CreatedVia: via,
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
	return config, policyLeaf(ctx, tx, version, approval.DigestOf(document))
}

// policyLeaf writes down which policy is in force in a repository from now on; none where policy is "".
func policyLeaf(ctx context.Context, tx *store.Tx, version store.PolicyVersion, policy approval.Digest) error {
	workspace, err := tx.ReadWorkspace(ctx)
	if err != nil {
		return err
	}
	return appendLeaf(ctx, tx, workspace, evidence.PolicyVersion{
		Repository: evidence.RepositoryID(workspace.GenesisSalt, bitbucket.BracedUUID(version.RepositoryID)),
		Version:    int64(version.Version), Policy: policy,
	})
}

// RemoveRepository stops gating a repository: its webhook is deleted and its open requests are
// cancelled. What was decided stays on record. It answers what is left to a person, a sentence each.
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
	var config store.RepositoryConfig
	err = w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		if config, err = tx.RepositoryConfig(ctx, repositoryID); err != nil {
			return err
		}
		return tx.SetRepositoryState(ctx, repositoryID, store.RepositoryAttention, "The repository is being removed.")
	})
	if err != nil {
		return nil, found(err, "repository")
	}
	var leftToDo []string
	if err := w.deleteHooks(ctx, client, workspace, repositoryID); err != nil && s.connection != nil {
		leftToDo = append(leftToDo, hookLeft(config, err))
	}
	err = w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error { return w.ungate(ctx, tx, repositoryID) })
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

// ungate forgets a repository's config and asks for its pull requests to be looked at, which finds
// that nothing asks for them any more.
func (w *Workspaces) ungate(ctx context.Context, tx *store.Tx, repositoryID string) error {
	config, err := tx.DeleteRepositoryConfig(ctx, repositoryID)
	if err != nil {
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
	version, err := tx.PolicyVersion(ctx, config.PolicyVersionID)
	if err != nil {
		return err
	}
	return policyLeaf(ctx, tx, version, "")
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
			return w.ungate(ctx, tx, config.RepositoryID)
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
