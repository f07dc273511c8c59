package gate

import (
	"context"
	"errors"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// receiptTime is how long a receipt waits for its checkpoint.
const receiptTime = 5 * time.Second

// Receipt proves to the signer of a decision, and to whoever may read its pull request, that the
// decision's leaf is under a published checkpoint, with the cosignatures that the rule of its request
// asks for. It waits some seconds for that; then it is Busy, and may be asked for again at any time.
func (g *Gate) Receipt(ctx context.Context, person store.Person, workspace, decisionID string) ([]byte, error) {
	unknown := refusal.New(refusal.NotFound, "There is no such decision, or you may not see it.")
	if !store.ValidID(workspace) || !store.ValidID(decisionID) {
		return nil, unknown
	}
	var decision store.Decision
	var pr store.PullRequest
	var leaves []store.LeafRow
	var rule approval.Rule
	err := g.Store.InWorkspace(ctx, workspace, func(tx *store.Tx) (err error) {
		if decision, err = tx.Decision(ctx, decisionID); err != nil {
			return err
		}
		if pr, err = tx.PullRequest(ctx, decision.PullRequestID); err != nil {
			return err
		}
		if leaves, err = tx.Chain(ctx, pr.ChainID, decision.Sequence-1, 1); err != nil {
			return err
		}
		request, err := tx.Request(ctx, decision.RequestID)
		if err != nil {
			return err
		}
		rule, err = ruleOf(request)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, unknown
	}
	if err != nil {
		return nil, err
	}
	if decision.PersonID != person.ID {
		switch err := g.see(ctx, person, workspace, pr.RepositoryID, false); {
		case refusal.Code(err) == refusal.NotFound:
			return nil, unknown
		case err != nil:
			return nil, err
		}
	}
	if len(leaves) != 1 || leaves[0].Sequence != decision.Sequence {
		return nil, errors.New("a decision without its leaf")
	}
	patient, cancel := context.WithTimeout(ctx, receiptTime)
	defer cancel()
	checkpoint, err := g.published(patient, leaves[0].Index+1, rule.Cosignatures)
	if err != nil {
		return nil, err
	}
	p, err := newProver(ctx, g.Store.Tree(ctx), checkpoint.Size, []int64{leaves[0].Index}, nil)
	if err != nil {
		return nil, err
	}
	receipt := evidence.Receipt{Leaf: evidence.IncludedLeaf{Entry: leaves[0].Entry}, Checkpoint: string(checkpoint.Note)}
	if receipt.Leaf.Inclusion, err = p.inclusion(leaves[0].Index); err != nil {
		return nil, err
	}
	return receipt.Encode()
}
