package stage

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Workspace is a connected workspace.
type Workspace struct {
	ID   string // of the API
	UUID string // Bitbucket's
}

// Connect connects the first workspace that the person administers.
func (p *Person) Connect(ctx context.Context) (Workspace, error) {
	var begun struct {
		BeginConnect struct {
			URL        string
			UserErrors refusals
		}
	}
	err := p.Ask(ctx, "BeginConnect", input(map[string]any{"returnTo": afterwards}), &begun)
	if err = errors.Join(err, begun.BeginConnect.UserErrors.err()); err != nil {
		return Workspace{}, err
	}
	if err := p.consent(ctx, begun.BeginConnect.URL); err != nil {
		return Workspace{}, err
	}
	var viewer struct {
		Viewer struct {
			Grants []struct {
				ID         string
				Workspaces []struct{ UUID, Slug string }
			}
		}
	}
	if err := p.Ask(ctx, "Grants", nil, &viewer); err != nil {
		return Workspace{}, err
	}
	if len(viewer.Viewer.Grants) == 0 || len(viewer.Viewer.Grants[0].Workspaces) == 0 {
		return Workspace{}, errors.New("the consent offers no workspace")
	}
	grant := viewer.Viewer.Grants[0]
	var connected struct {
		ConnectWorkspace struct {
			Workspace  struct{ ID string }
			UserErrors refusals
		}
	}
	err = p.Ask(ctx, "ConnectWorkspace", input(map[string]any{"grantId": grant.ID, "workspaceUuid": grant.Workspaces[0].UUID}), &connected)
	return Workspace{ID: connected.ConnectWorkspace.Workspace.ID, UUID: grant.Workspaces[0].UUID},
		errors.Join(err, connected.ConnectWorkspace.UserErrors.err())
}

// Workspace finds a workspace of the person by its slug.
func (p *Person) Workspace(ctx context.Context, slug string) (Workspace, error) {
	var shell struct {
		Viewer struct {
			Workspaces struct {
				Edges []struct {
					Node struct{ ID, UUID, Slug string }
				}
			}
		}
	}
	if err := p.Ask(ctx, "Shell", nil, &shell); err != nil {
		return Workspace{}, err
	}
	for _, edge := range shell.Viewer.Workspaces.Edges {
		if edge.Node.Slug == slug {
			return Workspace{ID: edge.Node.ID, UUID: edge.Node.UUID}, nil
		}
	}
	return Workspace{}, fmt.Errorf("the dashboard does not show %s", slug)
}

// Repository finds a repository of a workspace on Bitbucket by its full name, and answers its UUID.
func (p *Person) Repository(ctx context.Context, in Workspace, fullName, search string) (string, error) {
	var found struct {
		Workspace struct {
			BitbucketRepositories struct {
				Edges []struct {
					Node struct{ UUID, FullName string }
				}
			}
		}
	}
	if err := p.Ask(ctx, "OtherRepositories", map[string]any{"workspace": in.UUID, "search": search}, &found); err != nil {
		return "", err
	}
	for _, edge := range found.Workspace.BitbucketRepositories.Edges {
		if edge.Node.FullName == fullName {
			return edge.Node.UUID, nil
		}
	}
	return "", fmt.Errorf("the dashboard does not offer %s", fullName)
}

// Accounts finds members of a workspace by their display names, and answers their account ids.
func (p *Person) Accounts(ctx context.Context, in Workspace, names ...string) ([]string, error) {
	var members struct {
		Workspace struct {
			Members struct {
				Edges []struct {
					Node struct{ AccountID, Name string }
				}
			}
		}
	}
	if err := p.Ask(ctx, "Members", map[string]any{"workspace": in.UUID}, &members); err != nil {
		return nil, err
	}
	var accounts []string
	for _, edge := range members.Workspace.Members.Edges {
		if slices.Contains(names, edge.Node.Name) {
			accounts = append(accounts, edge.Node.AccountID)
		}
	}
	if len(accounts) != len(names) {
		return nil, fmt.Errorf("%d of %d members were found", len(accounts), len(names))
	}
	return accounts, nil
}

// Gate gates a repository by rules, in the form of the API's RuleInput, and answers the policy's version.
func (p *Person) Gate(ctx context.Context, in Workspace, repositoryUUID string, rules ...map[string]any) (int, error) {
	var saved struct {
		SaveRepository struct {
			Repository struct {
				Policy struct{ Version int }
			}
			UserErrors refusals
		}
	}
	err := p.Ask(ctx, "SaveRepository", input(map[string]any{"workspaceId": in.ID, "repositoryUuid": repositoryUUID, "rules": rules}), &saved)
	return saved.SaveRepository.Repository.Policy.Version, errors.Join(err, saved.SaveRepository.UserErrors.err())
}
