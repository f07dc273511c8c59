package bitbucket

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"net/url"
	"time"
)

// maxHookSecret is Bitbucket's limit for a webhook's secret, in bytes.
const maxHookSecret = 128

// HookOptions is a webhook to create or to set anew.
type HookOptions struct {
	Description string
	// URL is where deliveries go; Bitbucket accepts public addresses only.
	URL    string
	Active bool
	// Events are event keys such as "pullrequest:created"; at least one.
	Events []string
	// Secret signs the deliveries; at most 128 bytes. Left "" in an update, the
	// present secret stays.
	Secret string
}

// Hook is a webhook of a repository as Bitbucket has it.
type Hook struct {
	// UUID is bare and lower case.
	UUID        string
	Description string
	URL         string
	Active      bool
	Events      []string
	// SecretSet is false also where an old answer does not say.
	SecretSet bool
	// CreatedAt is zero where the answer does not say.
	CreatedAt time.Time
}

// CreateHook creates a webhook of a repository. It is not idempotent: after a
// Transient error, look with Hooks first. Scope: webhook and those of the events;
// the caller must administer the repository.
func (c *Client) CreateHook(ctx context.Context, workspace, repo string, options HookOptions) (Hook, error) {
	return c.writeHook(ctx, "create webhook", http.MethodPost, options, repository(workspace, repo, "hooks"))
}

// UpdateHook sets a webhook anew; uuid is bare or in braces. NotFound means that
// somebody deleted it. Scope: webhook.
func (c *Client) UpdateHook(ctx context.Context, workspace, repo, uuid string, options HookOptions) (Hook, error) {
	return c.writeHook(ctx, "update webhook", http.MethodPut, options, repository(workspace, repo, "hooks", BracedUUID(uuid)))
}

func (c *Client) writeHook(ctx context.Context, op, method string, options HookOptions, segments []string) (Hook, error) {
	switch {
	case options.URL == "":
		return Hook{}, invalid(op, "a webhook needs a URL")
	case len(options.Events) == 0:
		return Hook{}, invalid(op, "a webhook needs an event")
	case len(options.Secret) > maxHookSecret:
		return Hook{}, invalid(op, "the secret of a webhook has at most %d bytes", maxHookSecret)
	}
	wire, err := send[wireHook](ctx, c, op, method, wireHook{
		Description: options.Description, URL: options.URL, Active: options.Active,
		Events: options.Events, Secret: options.Secret,
	}, []string{options.Secret}, segments...)
	if err != nil {
		return Hook{}, err
	}
	hook, err := wire.hook()
	if err != nil {
		return Hook{}, c.fail(op, err)
	}
	return hook, nil
}

// DeleteHook deletes a webhook; uuid is bare or in braces. A webhook that does
// not exist is a success. Scope: webhook.
func (c *Client) DeleteHook(ctx context.Context, workspace, repo, uuid string) error {
	return c.remove(ctx, "delete webhook", repository(workspace, repo, "hooks", BracedUUID(uuid)))
}

// Hooks lists the webhooks of a repository. Scope: webhook.
func (c *Client) Hooks(ctx context.Context, workspace, repo string) iter.Seq2[Hook, error] {
	return pages(ctx, c, "list webhooks", url.Values{"pagelen": {pageLen}}, wireHook.hook, repository(workspace, repo, "hooks")...)
}

// remove deletes a resource; its absence is a success.
func (c *Client) remove(ctx context.Context, op string, segments []string) error {
	u, err := c.url(op, nil, segments...)
	if err != nil {
		return err
	}
	_, err = c.do(ctx, request{op: op, method: http.MethodDelete, url: u})
	if failure, ok := errors.AsType[*Error](err); ok && failure.NotFound() {
		return nil
	}
	return err
}

type wireHook struct {
	UUID        string     `json:"uuid,omitempty"`
	Description string     `json:"description"`
	URL         string     `json:"url"`
	Active      bool       `json:"active"`
	Events      []string   `json:"events"`
	Secret      string     `json:"secret,omitempty"`
	SecretSet   bool       `json:"secret_set,omitempty"`
	CreatedAt   *time.Time `json:"created_at,omitempty"`
}

func (w wireHook) hook() (Hook, error) {
	bare, ok := BareUUID(w.UUID)
	if !ok {
		return Hook{}, errors.New("a webhook has no UUID")
	}
	hook := Hook{
		UUID: bare, Description: w.Description, URL: w.URL, Active: w.Active,
		Events: w.Events, SecretSet: w.SecretSet,
	}
	if w.CreatedAt != nil {
		hook.CreatedAt = *w.CreatedAt
	}
	return hook, nil
}
