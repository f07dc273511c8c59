package graph

import (
	"context"
	"fmt"
	"net/url"

	graphql "github.com/graph-gophers/graphql-go"

	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/refusal"
)

// codeSignIn says that the ticket's person has to sign in first.
const codeSignIn = "SIGN_IN"

type createSignTicketInput struct{ RequestID graphql.ID }

type createSignTicketPayload struct {
	problems
	URL       *string
	ExpiresAt *Time
}

// CreateSignTicket makes the address under which the caller of a panel reaches the sign page. The ticket
// stands in the fragment, which browsers send to nobody.
func (r *resolver) CreateSignTicket(ctx context.Context, args struct{ Input createSignTicketInput }) (*createSignTicketPayload, error) {
	return mutate(func(p *createSignTicketPayload) error {
		a, err := find(ctx, kindRequest, args.Input.RequestID, "requestId")
		if err != nil {
			return err
		}
		viewer := viewerOf(ctx)
		v, err := r.gate.ViewRequest(ctx, viewer, a.workspace, a.id)
		if err != nil {
			return err
		}
		ticket, expires, err := r.people.CreateTicket(ctx, viewer, a.workspace, a.id, v.Request.HeadCommit)
		if err != nil {
			return err
		}
		address := fmt.Sprintf("%s/sign/%s/%s/%d#ticket=%s", r.gate.Origin, a.workspace, v.PullRequest.RepositoryID,
			v.PullRequest.Number, url.QueryEscape(string(ticket)))
		p.URL, p.ExpiresAt = &address, timeOrNil(&expires)
		return nil
	})
}

type redeemTicketInput struct{ Ticket string }

type redeemTicketPayload struct {
	problems
	Account *account
}

// RedeemTicket says whether the browser's session is that of the person who left the panel, and whether
// what the panel showed is still what is asked for.
func (r *resolver) RedeemTicket(ctx context.Context, args struct{ Input redeemTicketInput }) (*redeemTicketPayload, error) {
	return mutate(func(p *redeemTicketPayload) error {
		caller := callerOf(ctx)
		signIn := refusal.New(codeSignIn, "Sign in with the Bitbucket account that you use in Bitbucket.")
		if caller.SessionHash == nil { // the ticket keeps its use
			return signIn
		}
		ticket, err := r.people.RedeemTicket(ctx, caller.SessionHash, caller.Person, args.Input.Ticket)
		if err != nil {
			return err
		}
		if caller.Person == nil {
			return signIn
		}
		v, err := r.gate.ViewRequest(ctx, *caller.Person, ticket.WorkspaceID, ticket.RequestID)
		if err != nil {
			return err
		}
		if v.PullRequest.HeadCommit != ticket.HeadCommit {
			return refusal.New(gate.CodeHeadChanged, "The pull request has got new commits since the panel was opened.")
		}
		p.Account = &account{AccountID: caller.Person.AccountID, Name: caller.Person.Name}
		return nil
	})
}

type createStreamTokenInput struct{ WorkspaceID *graphql.ID }

type createStreamTokenPayload struct {
	problems
	Token     *string
	ExpiresAt *Time
}

// CreateStreamToken lets a panel in Bitbucket's frame, where no cookie of ours reaches, follow its pull
// request.
func (r *resolver) CreateStreamToken(ctx context.Context, args struct{ Input createStreamTokenInput }) (*createStreamTokenPayload, error) {
	return mutate(func(p *createStreamTokenPayload) error {
		caller := callerOf(ctx)
		if args.Input.WorkspaceID != nil {
			if _, err := find(ctx, kindWorkspace, *args.Input.WorkspaceID, "workspaceId"); err != nil {
				return err
			}
		}
		token, expires, err := r.people.CreateStreamToken(ctx, *caller.Person, caller.Workspace)
		if err != nil {
			return err
		}
		p.Token, p.ExpiresAt = new(string(token)), timeOrNil(&expires)
		return nil
	})
}
