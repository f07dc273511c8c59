package bitbucket

import (
	"context"
	"iter"
	"net/url"
)

// Permission is what a user may do in a repository, directly or through a group.
type Permission string

// The permissions, each including those before it.
const (
	PermissionNone  Permission = "none"
	PermissionRead  Permission = "read"
	PermissionWrite Permission = "write"
	PermissionAdmin Permission = "admin"
)

// Allows reports whether p includes what is needed. An unknown permission
// includes nothing.
func (p Permission) Allows(needed Permission) bool {
	return p.rank() >= needed.rank() && p.rank() > 0
}

func (p Permission) rank() int {
	switch p {
	case PermissionNone:
		return 0
	case PermissionRead:
		return 1
	case PermissionWrite:
		return 2
	case PermissionAdmin:
		return 3
	}
	return 0
}

// UserPermission is one user's effective permission in a repository.
type UserPermission struct {
	User       User
	Permission Permission
}

// RepositoryPermission returns the effective permission of one user, and
// PermissionNone if Bitbucket lists none. Reading a public repository needs no
// permission and is not listed. userUUID is bare or in braces.
// Scope: repository; the caller must administer the repository.
func (c *Client) RepositoryPermission(ctx context.Context, workspace, repo, userUUID string) (Permission, error) {
	const op = "read repository permission"
	bare, ok := BareUUID(userUUID)
	if !ok {
		return PermissionNone, invalid(op, "%q is not the UUID of a user", userUUID)
	}
	for one, err := range c.permissions(ctx, op, workspace, repo, "user.uuid="+quote(BracedUUID(bare))) {
		if err != nil {
			return PermissionNone, err
		}
		// The filter is Bitbucket's; the answer is checked all the same.
		if one.User.UUID == bare {
			return one.Permission, nil
		}
	}
	return PermissionNone, nil
}

// RepositoryPermissions lists everybody with a permission in the repository.
// Scope: repository; the caller must administer the repository.
func (c *Client) RepositoryPermissions(ctx context.Context, workspace, repo string) iter.Seq2[UserPermission, error] {
	return c.permissions(ctx, "list repository permissions", workspace, repo, "")
}

func (c *Client) permissions(ctx context.Context, op, workspace, repo, filter string) iter.Seq2[UserPermission, error] {
	query := url.Values{"pagelen": {pageLen}}
	if filter != "" {
		query.Set("q", filter)
	}
	convert := func(w wirePermission) (UserPermission, error) {
		permission := Permission(w.Permission)
		if permission.rank() == 0 {
			permission = PermissionNone
		}
		return UserPermission{User: w.User.user(), Permission: permission}, nil
	}
	return pages(ctx, c, op, query, convert,
		"workspaces", BracedUUID(workspace), "permissions", "repositories", BracedUUID(repo))
}

type wirePermission struct {
	Permission string   `json:"permission"`
	User       wireUser `json:"user"`
}
