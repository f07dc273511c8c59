package graph

import (
	"context"

	graphql "github.com/graph-gophers/graphql-go"

	"github.com/signedapproval/bitbucket/server/store"
)

type installation struct {
	State          string
	AppVersion     string
	InstalledAt    Time
	ConfirmedAt    *Time
	UninstalledAt  *Time
	HeardAt        Time
	TokenExpiresAt *Time
}

func (w *workspaceNode) Installation(ctx context.Context) (*installation, error) {
	i, err := w.r.workspaces.Installation(ctx, viewerOf(ctx), w.row.ID)
	return orNil(i, err, func(i store.Installation) *installation {
		return &installation{
			State: i.State, AppVersion: i.AppVersion, InstalledAt: timeOf(i.InstalledAt), ConfirmedAt: timeOrNil(i.ConfirmedAt),
			UninstalledAt: timeOrNil(i.UninstalledAt), HeardAt: timeOf(i.SeenAt), TokenExpiresAt: timeOrNil(i.TokenExpiresAt),
		}
	})
}

type actsAs struct {
	Identity string
	Sentence string
}

func (w *workspaceNode) ActsAs(ctx context.Context) (*actsAs, error) {
	role, err := w.r.workspaces.Role(ctx, viewerOf(ctx), w.row.ID, false)
	if err != nil || role == store.RoleNone {
		return nil, err
	}
	who, sentence, err := w.r.workspaces.ActsAs(ctx, w.row.ID)
	return &actsAs{Identity: string(who), Sentence: sentence}, err
}

type confirmInstallationInput struct{ WorkspaceID graphql.ID }

type confirmInstallationPayload struct {
	problems
	Workspace *workspaceNode
}

// ConfirmInstallation is an administrator's word that the app may go on with what was there before.
func (r *resolver) ConfirmInstallation(ctx context.Context, args struct{ Input confirmInstallationInput }) (*confirmInstallationPayload, error) {
	return mutate(func(p *confirmInstallationPayload) error {
		a, err := find(ctx, kindWorkspace, args.Input.WorkspaceID, "workspaceId")
		if err != nil {
			return err
		}
		if err := r.workspaces.ConfirmInstallation(ctx, viewerOf(ctx), a.workspace); err != nil {
			return err
		}
		w, err := r.workspaces.Find(ctx, viewerOf(ctx), a.workspace)
		if err != nil {
			return err
		}
		p.Workspace = r.workspace(w)
		return nil
	})
}
