package bitbucket

import (
	"context"
	"errors"
	"iter"
	"net/url"
)

// Workspace is a workspace that the caller can see.
type Workspace struct {
	// UUID is bare and lower case; the lasting identity.
	UUID string
	// Slug is the part of URLs; an administrator can change it.
	Slug string
	// Name is for people to read; the slug where Bitbucket sends no name.
	Name string
	// Administrator is true if the caller administers the workspace.
	Administrator bool
}

// WorkspaceRole is what a person is in a workspace.
type WorkspaceRole string

const (
	// WorkspaceOwner administers the workspace.
	WorkspaceOwner WorkspaceRole = "owner"
	// WorkspaceMember belongs to the workspace.
	WorkspaceMember WorkspaceRole = "member"
	// WorkspaceNone does not belong to it.
	WorkspaceNone WorkspaceRole = "none"
)

// Workspaces lists the workspaces of the caller. Scope: account.
func (c *Client) Workspaces(ctx context.Context) iter.Seq2[Workspace, error] {
	return pages(ctx, c, "list workspaces", url.Values{"pagelen": {pageLen}}, wireWorkspaceAccess.workspace, "user", "workspaces")
}

// Workspace returns one workspace by UUID or slug. Its Administrator is false: this
// answer does not say. Scope: account.
func (c *Client) Workspace(ctx context.Context, workspace string) (Workspace, error) {
	const op = "read workspace"
	wire, err := get[wireWorkspace](ctx, c, op, nil, "workspaces", BracedUUID(workspace))
	if err != nil {
		return Workspace{}, err
	}
	value, err := wireWorkspaceAccess{Workspace: wire}.workspace()
	if err != nil {
		return Workspace{}, c.fail(op, err)
	}
	return value, nil
}

// WorkspacePermission returns the role of a user in a workspace; WorkspaceNone
// if the user is not in it, or only in a way that this package does not know.
// userUUID is bare or in braces. Scope: account; the caller must be a member.
func (c *Client) WorkspacePermission(ctx context.Context, workspace, userUUID string) (WorkspaceRole, error) {
	const op = "read workspace permission"
	bare, ok := BareUUID(userUUID)
	if !ok {
		return WorkspaceNone, invalid(op, "%q is not the UUID of a user", userUUID)
	}
	query := url.Values{"pagelen": {pageLen}, "q": {"user.uuid=" + quote(BracedUUID(bare))}}
	convert := func(w wireMembership) (wireMembership, error) { return w, nil }
	for membership, err := range pages(ctx, c, op, query, convert, "workspaces", BracedUUID(workspace), "permissions") {
		if err != nil {
			return WorkspaceNone, err
		}
		// The filter is Bitbucket's; the answer is checked all the same.
		if bareUUID(membership.User.UUID) != bare {
			continue
		}
		switch membership.Permission {
		case "owner":
			return WorkspaceOwner, nil
		case "member", "create-project":
			return WorkspaceMember, nil
		}
		return WorkspaceNone, nil
	}
	return WorkspaceNone, nil
}

// Members lists the people of a workspace. Scope: account.
func (c *Client) Members(ctx context.Context, workspace string) iter.Seq2[User, error] {
	convert := func(w wireMembership) (User, error) { return w.User.user(), nil }
	return pages(ctx, c, "list members", url.Values{"pagelen": {pageLen}}, convert, "workspaces", BracedUUID(workspace), "members")
}

type wireMembership struct {
	Permission string   `json:"permission"`
	User       wireUser `json:"user"`
}

type wireWorkspace struct {
	UUID string `json:"uuid"`
	Slug string `json:"slug"`
	Name string `json:"name"`
}

type wireWorkspaceAccess struct {
	Administrator *bool         `json:"administrator"`
	Permission    string        `json:"permission"` // the older form of the same answer
	Workspace     wireWorkspace `json:"workspace"`
}

func (w wireWorkspaceAccess) workspace() (Workspace, error) {
	bare, ok := BareUUID(w.Workspace.UUID)
	if !ok {
		return Workspace{}, errors.New("a workspace has no UUID")
	}
	name := w.Workspace.Name
	if name == "" {
		name = w.Workspace.Slug
	}
	administrator := w.Permission == "owner"
	if w.Administrator != nil {
		administrator = *w.Administrator
	}
	return Workspace{UUID: bare, Slug: w.Workspace.Slug, Name: name, Administrator: administrator}, nil
}
