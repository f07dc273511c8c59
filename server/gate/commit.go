package gate

import (
	"context"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// CodeAmbiguousCommit says that a commit belongs to requests of several repositories.
const CodeAmbiguousCommit = "AMBIGUOUS_COMMIT"

// CommitScope narrows where a commit is looked for; what is empty narrows nothing.
type CommitScope struct {
	// Repository is a repository's UUID, with or without braces.
	Repository string
	// Branch is the name of a destination branch.
	Branch string
}

// RequestOfCommit finds the request that a commit belongs to: one that asks for its approval, or whose
// approved head landed as this commit. Of several it is the newest. commit is a full hash, in lower case. A commit
// that several repositories know which the person may read is refused with [CodeAmbiguousCommit].
func (g *Gate) RequestOfCommit(ctx context.Context, person store.Person, workspace, commit string, scope CommitScope) (store.CommitRequest, error) {
	var none store.CommitRequest
	if !bitbucket.IsFullHash(commit) {
		return none, refusal.New(refusal.BadInput, "A commit is named by its whole hash, 40 digits in lower case.").At("commit")
	}
	repository, named := bitbucket.BareUUID(scope.Repository)
	if scope.Repository != "" && !named {
		return none, refusal.New(refusal.BadInput, "A repository is named by its UUID.").At("repository")
	}
	if !store.ValidID(workspace) {
		return none, unknownCommit()
	}
	var found []store.CommitRequest
	err := g.Store.InWorkspace(ctx, workspace, func(tx *store.Tx) (err error) {
		found, err = tx.RequestsOfCommit(ctx, commit, repository, scope.Branch, "")
		return err
	})
	if err != nil {
		return none, err
	}
	var seen []store.CommitRequest
	for _, r := range found {
		switch err := g.see(ctx, person, workspace, r.RepositoryID, false); {
		case err == nil:
			seen = append(seen, r)
		case refusal.Code(err) != refusal.NotFound:
			return none, err
		}
	}
	switch len(seen) {
	case 0:
		return none, unknownCommit()
	case 1:
		return seen[0], nil
	}
	return none, refusal.New(CodeAmbiguousCommit, "Several repositories have this commit: say which one, by ?repository= and its UUID.").At("repository")
}

func unknownCommit() error {
	return refusal.New(refusal.NotFound, "No request is known for this commit, or you may not see it.")
}
