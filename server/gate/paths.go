package gate

import (
	"fmt"

	"github.com/signedapproval/bitbucket/server/store"
)

// panelURL is where the status leads: it holds no secret.
func (g *Gate) panelURL(workspace string, pr store.PullRequest) string {
	return g.Origin + PanelPath(workspace, pr.RepositoryID, pr.Number)
}

// PanelPath is the path of a pull request's panel on our origin.
func PanelPath(workspace, repositoryID string, number int64) string {
	return fmt.Sprintf("/pr/%s/%s/%d", workspace, repositoryID, number)
}

// SignPath is the path of a pull request's sign page on our origin.
func SignPath(workspace, repositoryID string, number int64) string {
	return fmt.Sprintf("/sign/%s/%s/%d", workspace, repositoryID, number)
}
