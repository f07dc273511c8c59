package bitbucket

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Repository is a repository as lists and pull requests name it.
type Repository struct {
	// UUID is bare and lower case; the lasting identity.
	UUID string
	// FullName is "workspace/slug" and changes with renames and transfers.
	FullName string
	// Slug is the last part of FullName.
	Slug string
	// Name is for people to read.
	Name string
	// WorkspaceUUID is bare and lower case; "" where Bitbucket leaves it out, as in
	// pull requests.
	WorkspaceUUID string
	// WorkspaceSlug is the first part of FullName.
	WorkspaceSlug string
	// MainBranch is the name of the main branch; "" if there is none or it was left out.
	MainBranch string
	// Private is false where Bitbucket leaves it out.
	Private bool
	// HTMLURL is the page for people.
	HTMLURL string
	// UpdatedOn is zero where Bitbucket leaves it out.
	UpdatedOn time.Time
}

// RepositoryPage is one page of a workspace's repositories.
type RepositoryPage struct {
	Repositories []Repository
	// Next continues the list when it is given to Repositories with the same
	// workspace; "" at the end. It is opaque, and safe to hand to a browser: it
	// cannot be made to reach anything but this list.
	Next string
}

// Repository returns one repository. Scope: repository.
func (c *Client) Repository(ctx context.Context, workspace, repo string) (Repository, error) {
	const op = "read repository"
	wire, err := get[wireRepository](ctx, c, op, nil, repository(workspace, repo)...)
	if err != nil {
		return Repository{}, err
	}
	value, err := wire.repository()
	if err != nil {
		return Repository{}, c.fail(op, err)
	}
	return value, nil
}

// Repositories returns one page of at most 50 of the workspace's repositories
// that the caller can see, by name. search keeps those whose name contains it,
// in any case; "" keeps all. cursor is "" for the first page, then
// RepositoryPage.Next, which carries the search with it. Scope: repository.
func (c *Client) Repositories(ctx context.Context, workspace, search, cursor string) (RepositoryPage, error) {
	const op = "list repositories"
	query := url.Values{"pagelen": {"50"}, "sort": {"name"}}
	if search != "" {
		query.Set("q", "name ~ "+quote(search))
	}
	u, err := c.url(op, query, "repositories", BracedUUID(workspace))
	if err != nil {
		return RepositoryPage{}, err
	}
	if cursor != "" {
		if u.RawQuery, err = queryOf(op, cursor); err != nil {
			return RepositoryPage{}, err
		}
	}
	wire, err := call[wirePage[wireRepository]](ctx, c, request{op: op, method: http.MethodGet, url: u})
	if err != nil {
		return RepositoryPage{}, err
	}
	var page RepositoryPage
	for _, one := range wire.Values {
		value, err := one.repository()
		if err != nil {
			return RepositoryPage{}, c.fail(op, err)
		}
		page.Repositories = append(page.Repositories, value)
	}
	page.Next, err = c.cursor(op, u, wire.Next)
	return page, err
}

type wireRepository struct {
	UUID       string         `json:"uuid"`
	FullName   string         `json:"full_name"`
	Slug       string         `json:"slug"`
	Name       string         `json:"name"`
	IsPrivate  bool           `json:"is_private"`
	UpdatedOn  time.Time      `json:"updated_on"`
	Workspace  *wireWorkspace `json:"workspace"`
	MainBranch *struct {
		Name string `json:"name"`
	} `json:"mainbranch"`
	Links struct {
		HTML wireLink `json:"html"`
	} `json:"links"`
}

func (w wireRepository) repository() (Repository, error) {
	bare, ok := BareUUID(w.UUID)
	if !ok {
		return Repository{}, errors.New("a repository has no UUID")
	}
	r := Repository{
		UUID: bare, FullName: w.FullName, Slug: w.Slug, Name: w.Name,
		Private: w.IsPrivate, HTMLURL: w.Links.HTML.Href, UpdatedOn: w.UpdatedOn,
	}
	workspace, slug, _ := strings.Cut(w.FullName, "/")
	r.WorkspaceSlug = workspace
	if r.Slug == "" {
		r.Slug = slug
	}
	if w.Workspace != nil {
		r.WorkspaceUUID = bareUUID(w.Workspace.UUID)
		if w.Workspace.Slug != "" {
			r.WorkspaceSlug = w.Workspace.Slug
		}
	}
	if w.MainBranch != nil {
		r.MainBranch = w.MainBranch.Name
	}
	return r, nil
}
