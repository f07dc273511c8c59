package graph

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	graphql "github.com/graph-gophers/graphql-go"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/workspace"
)

type protection struct {
	Version int32
	Quorum  int32
	People  []*person
	Since   Time
}

func (w *workspaceNode) Protection(ctx context.Context) (*protection, error) {
	p, err := w.r.workspaces.Protection(ctx, viewerOf(ctx), w.row.ID)
	if err != nil || p.Quorum == 0 {
		return nil, err
	}
	people, err := w.r.peopleByID(ctx, p.People)
	return &protection{Version: clamp(p.Version), Quorum: clamp(p.Quorum), People: namedPeople(people, p.People), Since: timeOf(p.CreatedAt)}, err
}

// peopleByID reads people by our ids.
func (r *resolver) peopleByID(ctx context.Context, ids []string) (map[string]store.Person, error) {
	people := make(map[string]store.Person, len(ids))
	err := r.gate.Store.Outside(ctx, func(sh *store.Shared) error {
		rows, err := sh.People(ctx, ids)
		for _, p := range rows {
			people[p.ID] = p
		}
		return err
	})
	return people, err
}

// namedPeople are people by name; who is not there any more is left out.
func namedPeople(people map[string]store.Person, ids []string) []*person {
	list := []*person{}
	for _, id := range ids {
		if p, ok := people[id]; ok {
			list = append(list, personOf(p))
		}
	}
	slices.SortFunc(list, func(a, b *person) int { return strings.Compare(a.Name, b.Name) })
	return list
}

type proposal struct {
	batch *proposalBatch
	row   workspace.Proposal

	ID            graphql.ID
	Key           string
	Kind          string
	State         string
	Repository    *string
	Document      string
	Digest        string
	Policy        *string
	Quorum        int32
	ViewerCanSign bool
	// ViewerCanWithdraw is for who made it, and for administrators.
	ViewerCanWithdraw bool
	Passkey           *string
	CompromisedSince  *Time
	CreatedAt         Time
	ExpiresAt         Time
	ClosedAt          *Time
}

// proposalBatch holds proposals of one workspace that one list shows, so that people and the names of approvers are read
// for all of them at once, and only if they are asked for.
type proposalBatch struct {
	r      *resolver
	rows   []workspace.Proposal
	people lazy[map[string]store.Person] // by our id
	names  lazy[map[string]string]       // by account id
}

// proposals maps proposals that the viewer may see.
func (r *resolver) proposals(rows []workspace.Proposal, viewer store.Person) []*proposal {
	b := &proposalBatch{r: r, rows: rows}
	return each(rows, func(p workspace.Proposal) *proposal {
		shown := &proposal{
			batch: b, row: p, ID: nodeID(kindProposal, p.WorkspaceID, p.ID), Key: p.ID, Kind: p.Kind, State: p.State,
			Document: string(p.Document), Digest: p.Digest, Quorum: clamp(p.Quorum),
			ViewerCanSign: slices.Contains(p.Asked, viewer.ID) &&
				!slices.ContainsFunc(p.Acts, func(a workspace.ProposalAct) bool { return a.PersonID == viewer.ID && a.Counts }),
			ViewerCanWithdraw: p.CanWithdraw, CreatedAt: timeOf(p.CreatedAt), ExpiresAt: timeOf(p.ExpiresAt), ClosedAt: timeOrNil(p.ClosedAt),
		}
		switch {
		case p.Kind == store.ProposalPolicy:
			shown.Repository = &p.FullName
		case p.AboutKey():
			shown.Passkey = &p.Name
		}
		if p.Revocation != nil {
			shown.CompromisedSince = timeOrNil(p.Revocation.CompromisedSince)
		}
		if p.Proposal.Policy != nil {
			shown.Policy = new(string(p.Proposal.Policy))
		}
		return shown
	})
}

func (r *resolver) proposal(row workspace.Proposal, viewer store.Person) *proposal {
	return r.proposals([]workspace.Proposal{row}, viewer)[0]
}

type proposalsArgs struct {
	Open *bool
	pageArgs
}

func (w *workspaceNode) Proposals(ctx context.Context, args proposalsArgs) (*connection[*proposal], error) {
	viewer := viewerOf(ctx)
	rows, more, err := w.r.workspaces.Proposals(ctx, viewer, w.row.ID, or(args.Open, false), args.page())
	if err != nil {
		return nil, err
	}
	return connect(w.r.proposals(rows, viewer), more, func(p *proposal) string { return p.row.Cursor() }, same), nil
}

func (w *workspaceNode) Proposal(ctx context.Context, args struct{ Key string }) (*proposal, error) {
	viewer := viewerOf(ctx)
	p, err := w.r.workspaces.Proposal(ctx, viewer, w.row.ID, args.Key)
	return orNil(p, err, func(p workspace.Proposal) *proposal { return w.r.proposal(p, viewer) })
}

func (b *proposalBatch) readPeople(ctx context.Context) (map[string]store.Person, error) {
	var ids []string
	for _, p := range b.rows {
		if p.Holder != "" {
			ids = append(ids, p.Holder)
		}
		ids = slices.Concat(ids, []string{p.ProposedBy}, p.Asked, p.Next.People, p.Protection.People)
		for _, a := range p.Acts {
			ids = append(ids, a.PersonID)
		}
	}
	return b.r.peopleByID(ctx, ids)
}

func (p *proposal) people(ctx context.Context) (map[string]store.Person, error) {
	return p.batch.people.get(func() (map[string]store.Person, error) { return p.batch.readPeople(ctx) })
}

func (p *proposal) ProposedBy(ctx context.Context) (*person, error) {
	people, err := p.people(ctx)
	if by, ok := people[p.row.ProposedBy]; ok {
		return personOf(by), nil
	}
	return nil, err
}

func (p *proposal) PasskeyOwner(ctx context.Context) (*person, error) {
	people, err := p.people(ctx)
	if holder, ok := people[p.row.Holder]; ok {
		return personOf(holder), nil
	}
	return nil, err
}

func (p *proposal) Asked(ctx context.Context) ([]*person, error) {
	people, err := p.people(ctx)
	return namedPeople(people, p.row.Asked), err
}

type proposalSignature struct {
	Person *person
	At     Time
	Counts bool
}

func (p *proposal) Signatures(ctx context.Context) ([]proposalSignature, error) {
	people, err := p.people(ctx)
	if err != nil {
		return nil, err
	}
	return each(p.row.Acts, func(a workspace.ProposalAct) proposalSignature {
		return proposalSignature{Person: personOf(people[a.PersonID]), At: timeOf(a.SignedAt), Counts: a.Counts}
	}), nil
}

func (p *proposal) Before(ctx context.Context) ([]string, error) {
	if p.row.Kind == store.ProposalProtection {
		return p.protects(ctx, p.row.Protection.Quorum, p.row.Protection.People)
	}
	return p.rules(ctx, p.row.Before)
}

func (p *proposal) After(ctx context.Context) ([]string, error) {
	if p.row.Kind == store.ProposalProtection {
		return p.protects(ctx, p.row.Next.Quorum, p.row.Next.People)
	}
	if p.row.AboutKey() {
		return p.keyChange(ctx)
	}
	return p.rules(ctx, p.row.Proposal.Policy)
}

// keyChange is the sentence of what is to become of a member's key.
func (p *proposal) keyChange(ctx context.Context) ([]string, error) {
	holder, err := p.PasskeyOwner(ctx)
	if err != nil {
		return nil, err
	}
	name := "somebody who left"
	if holder != nil {
		name = holder.inSentence()
	}
	if p.row.Key != nil {
		return []string{fmt.Sprintf("Somebody else vouches for it that %s is a passkey of %s: it decides in this workspace.", quoted(p.row.Name), name)}, nil
	}
	return []string{fmt.Sprintf("%s, a passkey of %s, makes no further decision in this workspace.", quoted(p.row.Name), name)}, nil
}

// protects is the sentence of a protection; none where there is none.
func (p *proposal) protects(ctx context.Context, quorum int, ids []string) ([]string, error) {
	people, err := p.people(ctx)
	if err != nil || quorum == 0 {
		return []string{}, err
	}
	return []string{fmt.Sprintf("A change of rules needs the signatures of %d of %s.", quorum,
		counted("person", "people", each(namedPeople(people, ids), (*person).inSentence)))}, nil
}

// rules are the sentences of a policy's rules, in their order; none where there is no policy.
func (p *proposal) rules(ctx context.Context, document []byte) ([]string, error) {
	if len(document) == 0 {
		return []string{}, nil
	}
	policy, err := approval.ParsePolicy(document)
	if err != nil {
		return nil, err // it was parsed when it was proposed
	}
	names, err := p.batch.names.get(func() (map[string]string, error) { return p.batch.readNames(ctx) })
	return each(policy.Rules, func(r approval.Rule) string { return p.batch.r.ruleSentence(r, names) }), err
}

func (b *proposalBatch) readNames(ctx context.Context) (map[string]string, error) {
	versions := &policyBatch{r: b.r, workspace: b.rows[0].WorkspaceID}
	for _, p := range b.rows {
		for _, document := range [][]byte{p.Before, p.Proposal.Policy} {
			if len(document) > 0 {
				versions.rows = append(versions.rows, store.PolicyVersion{Document: document})
			}
		}
	}
	return versions.readNames(ctx)
}

// instead answers the proposal that was made instead of a change; with the error itself where it is another one.
func (r *resolver) instead(ctx context.Context, in string, err error) (*proposal, []userError, error) {
	protected, ok := errors.AsType[*workspace.ProtectedError](err)
	if !ok {
		return nil, nil, err
	}
	viewer, no := viewerOf(ctx), refusal.Of(err)
	made, err := r.workspaces.Proposal(ctx, viewer, in, protected.Proposal.ID)
	if err != nil {
		return nil, nil, err
	}
	return r.proposal(made, viewer), []userError{{Code: no.Code, Message: no.Message}}, nil
}

type proposeProtectionInput struct {
	WorkspaceID graphql.ID
	Quorum      int32
	People      []graphql.ID
}

type proposalPayload struct {
	problems
	Proposal *proposal
}

// ProposeProtection proposes by whose signatures the rules of a workspace can be changed.
func (r *resolver) ProposeProtection(ctx context.Context, args struct{ Input proposeProtectionInput }) (*proposalPayload, error) {
	in := args.Input
	return mutate(func(p *proposalPayload) error {
		a, err := find(ctx, kindWorkspace, in.WorkspaceID, "workspaceId")
		if err != nil {
			return err
		}
		ids := make([]string, len(in.People))
		for i, id := range in.People {
			one, err := find(ctx, kindPerson, id, "people", fmt.Sprint(i))
			if err != nil {
				return err
			}
			ids[i] = one.id
		}
		caller := callerOf(ctx)
		made, err := r.workspaces.ProposeProtection(ctx, *caller.Person, caller.via(), a.workspace, int(in.Quorum), ids)
		if err != nil {
			return err
		}
		view, err := r.workspaces.Proposal(ctx, *caller.Person, a.workspace, made.ID)
		p.Proposal = r.proposal(view, *caller.Person)
		return err
	})
}

type proposalInput struct{ ProposalID graphql.ID }

type proposalAct struct {
	Statement  string
	Options    string
	SignerSalt string
	ExpiresAt  Time
}

type prepareProposalSignaturePayload struct {
	problems
	Act *proposalAct
}

// PrepareProposalSignature makes what the viewer signs to agree to a proposal.
func (r *resolver) PrepareProposalSignature(ctx context.Context, args struct{ Input proposalInput }) (*prepareProposalSignaturePayload, error) {
	return mutate(func(p *prepareProposalSignaturePayload) error {
		a, err := find(ctx, kindProposal, args.Input.ProposalID, "proposalId")
		if err != nil {
			return err
		}
		act, err := r.workspaces.PrepareSignature(ctx, viewerOf(ctx), callerOf(ctx).SessionHash, a.workspace, a.id)
		p.Act = &proposalAct{
			Statement: base64.RawURLEncoding.EncodeToString(act.Statement), Options: string(act.Options),
			SignerSalt: base64.RawURLEncoding.EncodeToString(act.SignerSalt), ExpiresAt: timeOf(act.ExpiresAt),
		}
		return err
	})
}

type signProposalInput struct{ Response string }

type signProposalPayload struct {
	problems
	Proposal *proposal
	LeftToDo []string
}

// SignProposal agrees to a proposal by what a passkey of the viewer has signed.
func (r *resolver) SignProposal(ctx context.Context, args struct{ Input signProposalInput }) (*signProposalPayload, error) {
	return mutate(func(p *signProposalPayload) error {
		viewer := viewerOf(ctx)
		view, left, err := r.workspaces.SignProposal(ctx, viewer, callerOf(ctx).SessionHash, args.Input.Response)
		if err != nil {
			return err
		}
		p.Proposal, p.LeftToDo = r.proposal(view, viewer), left
		return nil
	})
}

// WithdrawProposal ends a proposal that is open.
func (r *resolver) WithdrawProposal(ctx context.Context, args struct{ Input proposalInput }) (*proposalPayload, error) {
	return mutate(func(p *proposalPayload) error {
		a, err := find(ctx, kindProposal, args.Input.ProposalID, "proposalId")
		if err != nil {
			return err
		}
		viewer := viewerOf(ctx)
		view, err := r.workspaces.WithdrawProposal(ctx, viewer, a.workspace, a.id)
		if err != nil {
			return err
		}
		p.Proposal = r.proposal(view, viewer)
		return nil
	})
}
