package stage

import (
	"context"
	"errors"
	"fmt"
)

// Protect proposes that the rules of a workspace change by so many signatures of people with an enrolled passkey, by their
// display names; a quorum of 0 and nobody ends that. It answers the proposal, which waits for signatures.
func (p *Person) Protect(ctx context.Context, in Workspace, quorum int, names ...string) (string, error) {
	var holders struct {
		Workspace struct {
			KeyHolders struct {
				Edges []struct {
					Node struct{ Person struct{ ID, Name string } }
				}
			}
		}
	}
	if err := p.Ask(ctx, "Protectors", map[string]any{"workspace": in.UUID}, &holders); err != nil {
		return "", err
	}
	people := map[string]string{}
	for _, edge := range holders.Workspace.KeyHolders.Edges {
		people[edge.Node.Person.Name] = edge.Node.Person.ID
	}
	ids := []string{}
	for _, name := range names {
		id, found := people[name]
		if !found {
			return "", fmt.Errorf("%s has no passkey", name)
		}
		ids = append(ids, id)
	}
	var proposed struct {
		ProposeProtection struct {
			Proposal   struct{ ID string }
			UserErrors refusals
		}
	}
	err := p.Ask(ctx, "ProposeProtection", input(map[string]any{"workspaceId": in.ID, "quorum": quorum, "people": ids}), &proposed)
	return proposed.ProposeProtection.Proposal.ID, errors.Join(err, proposed.ProposeProtection.UserErrors.err())
}

// Agree signs a proposal.
func (p *Person) Agree(ctx context.Context, proposal string) error {
	answer, err := p.Consider(ctx, proposal)
	if err != nil {
		return err
	}
	return p.Send(ctx, answer)
}

// Consider is Agree short of the submission: it answers what the passkey made.
func (p *Person) Consider(ctx context.Context, proposal string) (answer string, err error) {
	var prepared struct {
		PrepareProposalSignature struct {
			Act        struct{ Options string }
			UserErrors refusals
		}
	}
	err = p.Ask(ctx, "PrepareProposalSignature", input(map[string]any{"proposalId": proposal}), &prepared)
	if err = errors.Join(err, prepared.PrepareProposalSignature.UserErrors.err()); err != nil {
		return "", err
	}
	made, err := p.key.Get([]byte(prepared.PrepareProposalSignature.Act.Options))
	return string(made), err
}

// Send submits what a passkey made for a proposal.
func (p *Person) Send(ctx context.Context, answer string) error {
	var signed struct{ SignProposal struct{ UserErrors refusals } }
	err := p.Ask(ctx, "SignProposal", input(map[string]any{"response": answer}), &signed)
	return errors.Join(err, signed.SignProposal.UserErrors.err())
}
