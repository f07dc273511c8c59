package workspace

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/store"
)

// hookEvents are what a webhook is told of, sorted.
var hookEvents = []string{
	"pullrequest:approved",
	"pullrequest:changes_request_created",
	"pullrequest:changes_request_removed",
	"pullrequest:comment_created",
	"pullrequest:comment_deleted",
	"pullrequest:comment_reopened",
	"pullrequest:comment_resolved",
	"pullrequest:comment_updated",
	"pullrequest:created",
	"pullrequest:fulfilled",
	"pullrequest:push",
	"pullrequest:rejected",
	"pullrequest:unapproved",
	"pullrequest:updated",
	"repo:commit_status_created",
	"repo:commit_status_updated",
	"repo:deleted",
	"repo:push",
	"repo:transfer",
	"repo:updated",
}

const hookDescription = "SignedApproval"

// hookPrefix is what the URLs of all our webhooks begin with.
func (w *Workspaces) hookPrefix() string { return w.origin + "/hooks/" }

// EnsureHook makes the webhook of a gated repository, or repairs it: whatever somebody did to it at
// Bitbucket, afterwards there is exactly one of ours, with our address, events and secret. It then
// takes the repository out of ATTENTION. Where Bitbucket refuses, the repository goes into ATTENTION
// and an alarm is raised; so does one that is gone, or was transferred to another workspace. What the
// repository is called now is written down. For a repository that is not gated it does nothing.
//
// Only a connection can keep webhooks. While the app is in the workspace it is told of events by itself:
// the webhook is then a second way, whose loss is no alarm, and without a connection there is none.
func (w *Workspaces) EnsureHook(ctx context.Context, workspace, repositoryID string) error {
	var config store.RepositoryConfig
	err := w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) (err error) {
		config, err = tx.RepositoryConfig(ctx, repositoryID)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	client, err := w.Client(ctx, workspace, bitbucket.Background)
	if err != nil {
		return err
	}
	if here, err := w.locate(ctx, client, workspace, config); err != nil || !here {
		return err
	}
	return w.ensureHook(ctx, workspace, repositoryID)
}

// locate finds out whether a gated repository is still in its workspace, and what it is called.
func (w *Workspaces) locate(ctx context.Context, client *bitbucket.Client, workspace string, config store.RepositoryConfig) (here bool, err error) {
	remote, err := client.Repository(ctx, workspace, config.RepositoryID)
	gone, ok := errors.AsType[*bitbucket.Error](err)
	switch {
	case ok && gone.NotFound():
		return false, w.needsAttention(ctx, workspace, config.RepositoryID,
			"Bitbucket does not show "+config.FullName+" to the app or connection of this workspace: it was deleted or transferred, or they lost their rights to it.")
	case err != nil:
		return false, err
	case remote.WorkspaceUUID != "" && remote.WorkspaceUUID != workspace:
		return false, w.needsAttention(ctx, workspace, config.RepositoryID,
			config.FullName+" was transferred to another workspace. Remove it here, and gate it there.")
	case remote.Slug == config.Slug && remote.FullName == config.FullName && remote.Name == config.Name:
		return true, nil
	}
	err = w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		return tx.RenameRepository(ctx, config.RepositoryID, remote.Slug, remote.FullName, remote.Name)
	})
	return !errors.Is(err, store.ErrNotFound), ignoreNotFound(err)
}

// needsAttention says that the gate does not work in a repository.
func (w *Workspaces) needsAttention(ctx context.Context, workspace, repositoryID, sentence string) error {
	return ignoreNotFound(w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		if err := tx.SetRepositoryState(ctx, repositoryID, store.RepositoryAttention, sentence); err != nil {
			return err
		}
		_, err := tx.RaiseAlarm(ctx, store.Alarm{
			Kind: store.AlarmHookMissing, RepositoryID: &repositoryID, Subject: repositoryID, Sentence: sentence,
		})
		return err
	}))
}

func (w *Workspaces) ensureHook(ctx context.Context, workspace, repositoryID string) error {
	s, err := w.standing(ctx, workspace)
	if err != nil {
		return err
	}
	if !s.active() || s.works() {
		endpoint, err := w.putHook(ctx, workspace, repositoryID)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return nil // removed meanwhile
		case err != nil && s.active():
			w.log.WarnContext(ctx, "the app goes on without a webhook", "workspace", workspace, "repository", repositoryID, "error", err)
		case err != nil:
			return w.hookFailed(ctx, endpoint, err)
		}
	}
	return ignoreNotFound(w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		if err := tx.SetRepositoryState(ctx, repositoryID, store.RepositoryActive, ""); err != nil {
			return err
		}
		return tx.CloseAlarm(ctx, store.AlarmHookMissing, repositoryID)
	}))
}

// putHook does the work of EnsureHook at Bitbucket, in the connection's name. ErrNotFound where the
// repository is not gated any more.
func (w *Workspaces) putHook(ctx context.Context, workspace, repositoryID string) (store.HookEndpoint, error) {
	client, err := w.connectionClient(ctx, workspace, bitbucket.Background)
	if err != nil {
		return store.HookEndpoint{}, err
	}
	var endpoint store.HookEndpoint
	err = w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		config, err := tx.RepositoryConfig(ctx, repositoryID)
		if err != nil {
			return err
		}
		if endpoint, err = newEndpoint(ctx, tx, repositoryID); err != nil || config.HookID == endpoint.ID {
			return err
		}
		return tx.SetHook(ctx, repositoryID, endpoint.ID) // it was gated while only the app was there
	})
	if err != nil {
		return endpoint, err
	}
	hook, err := w.repairHook(ctx, client, endpoint)
	if err != nil {
		return endpoint, err
	}
	err = w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error { return tx.SetHookUUID(ctx, endpoint.ID, hook.UUID) })
	if errors.Is(err, store.ErrNotFound) {
		// The repository was removed meanwhile: nobody else knows of this webhook.
		return endpoint, errors.Join(err, client.DeleteHook(ctx, workspace, repositoryID, hook.UUID))
	}
	return endpoint, err
}

// newEndpoint gives the webhook endpoint of a repository, made where there is none.
func newEndpoint(ctx context.Context, tx *store.Tx, repositoryID string) (store.HookEndpoint, error) {
	secret := make([]byte, 32)
	rand.Read(secret) // never fails
	return tx.PutHookEndpoint(ctx, uuid.NewString(), repositoryID, store.Secret(hex.EncodeToString(secret)))
}

// errHookGone marks a failure after which it is known that no good webhook is there.
var errHookGone = errors.New("the webhook is missing or wrong")

// repairHook compares the webhooks at Bitbucket with what should be there. It looks first, since
// making one is not idempotent and an answer may have been lost.
func (w *Workspaces) repairHook(ctx context.Context, client *bitbucket.Client, endpoint store.HookEndpoint) (bitbucket.Hook, error) {
	options := bitbucket.HookOptions{
		Description: hookDescription, URL: w.hookPrefix() + endpoint.ID, Active: true,
		Events: hookEvents, Secret: string(endpoint.Secret),
	}
	ours, err := w.ourHooks(ctx, client, endpoint.WorkspaceID, endpoint.RepositoryID)
	if err != nil {
		return bitbucket.Hook{}, err
	}
	// The one that we know is the best to keep, then any with the right address.
	i := slices.IndexFunc(ours, func(h bitbucket.Hook) bool { return h.UUID == endpoint.HookUUID && h.URL == options.URL })
	if i < 0 {
		i = slices.IndexFunc(ours, func(h bitbucket.Hook) bool { return h.URL == options.URL })
	}
	var kept bitbucket.Hook
	switch {
	case i < 0:
		kept, err = client.CreateHook(ctx, endpoint.WorkspaceID, endpoint.RepositoryID, options)
	case ours[i].UUID == endpoint.HookUUID && confirmed(ours[i]):
		kept = ours[i]
	default:
		// Its secret cannot be read back, so it is set along with the rest.
		kept, err = client.UpdateHook(ctx, endpoint.WorkspaceID, endpoint.RepositoryID, ours[i].UUID, options)
	}
	if err != nil {
		return bitbucket.Hook{}, errors.Join(errHookGone, err)
	}
	if endpoint.HookUUID != "" && kept.UUID != endpoint.HookUUID {
		w.log.WarnContext(ctx, "webhook was gone and was made again", "workspace", endpoint.WorkspaceID, "repository", endpoint.RepositoryID)
	}
	for _, other := range ours {
		if other.UUID == kept.UUID {
			continue
		}
		if err := client.DeleteHook(ctx, endpoint.WorkspaceID, endpoint.RepositoryID, other.UUID); err != nil {
			return bitbucket.Hook{}, err
		}
	}
	return kept, nil
}

// confirmed tells whether a webhook with our address is as we would make it.
func confirmed(h bitbucket.Hook) bool {
	events := slices.Sorted(slices.Values(h.Events))
	return h.Active && h.SecretSet && slices.Equal(events, hookEvents)
}

// ourHooks lists the webhooks of a repository that lead to this server, also those of endpoints that
// were forgotten.
func (w *Workspaces) ourHooks(ctx context.Context, client *bitbucket.Client, workspace, repositoryID string) ([]bitbucket.Hook, error) {
	var ours []bitbucket.Hook
	for hook, err := range client.Hooks(ctx, workspace, repositoryID) {
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(hook.URL, w.hookPrefix()) {
			ours = append(ours, hook)
		}
	}
	return ours, nil
}

// errNoHookClient says that a webhook was left because there was nothing to delete it with.
var errNoHookClient = errors.New("no connection that works")

// deleteHooks deletes every webhook of a repository that leads to this server. client is nil where there
// is no connection that works.
func (w *Workspaces) deleteHooks(ctx context.Context, client *bitbucket.Client, workspace, repositoryID string) error {
	if client == nil {
		return errNoHookClient
	}
	ours, err := w.ourHooks(ctx, client, workspace, repositoryID)
	if gone, ok := errors.AsType[*bitbucket.Error](err); ok && gone.NotFound() {
		return nil // with the repository
	}
	if err != nil {
		return err
	}
	for _, hook := range ours {
		if err := client.DeleteHook(ctx, workspace, repositoryID, hook.UUID); err != nil {
			return err
		}
	}
	return nil
}

// hookFailed says so where the gate does not work: when the webhook is known to be missing, and when
// Bitbucket will not even let us look. A look that failed for the moment changes nothing.
func (w *Workspaces) hookFailed(ctx context.Context, endpoint store.HookEndpoint, cause error) error {
	remote, ok := errors.AsType[*bitbucket.Error](cause)
	if !ok || !errors.Is(cause, errHookGone) && remote.Class() == bitbucket.Transient || remote.Unauthorized() {
		return cause
	}
	reason := "could not be asked"
	if remote.Status != 0 {
		reason = fmt.Sprintf("answered %d", remote.Status)
	}
	if remote.Message != "" {
		reason += ": " + remote.Message
	}
	sentence := "The webhook could not be set up (Bitbucket " + reason + "). Changes to pull requests are noticed late until it works; it is tried again by itself."
	return errors.Join(cause, w.needsAttention(ctx, endpoint.WorkspaceID, endpoint.RepositoryID, sentence))
}
