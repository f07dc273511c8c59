package graph

import (
	"context"

	graphql "github.com/graph-gophers/graphql-go"

	"github.com/signedapproval/bitbucket/server/people"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/workspace"
)

type viewer struct {
	r     *resolver
	asked Caller // by whom

	Person *person
	Email  *string
	Caller string
}

// Viewer gives the person who is signed in.
func (r *resolver) Viewer(ctx context.Context) *viewer {
	caller := callerOf(ctx)
	if caller.Person == nil {
		return nil
	}
	v := &viewer{r: r, asked: caller, Person: personOf(*caller.Person), Caller: string(caller.Kind)}
	if caller.Person.Email != "" {
		v.Email = &caller.Person.Email
	}
	return v
}

// InboxChanged gives the viewer as they are; the stream asks for it at each change.
func (r *resolver) InboxChanged(ctx context.Context) <-chan *viewer { return once(r.Viewer(ctx)) }

type person struct {
	ID        graphql.ID
	Name      string
	AccountID string
}

func personOf(p store.Person) *person {
	return &person{ID: nodeID(kindPerson, "", p.ID), Name: p.Name, AccountID: p.AccountID}
}

func (v *viewer) Workspaces(ctx context.Context, args pageArgs) (*connection[*workspaceNode], error) {
	if bound := v.asked.bound(); bound != "" {
		w, err := v.r.workspaces.Find(ctx, *v.asked.Person, bound)
		if err != nil {
			return nil, err
		}
		rows, more, err := store.PageWorkspaces([]store.Workspace{w}, args.page())
		return connect(rows, more, store.Workspace.Cursor, v.r.workspace), err
	}
	rows, more, err := v.r.workspaces.List(ctx, *v.asked.Person, args.page())
	if err != nil {
		return nil, err
	}
	return connect(rows, more, store.Workspace.Cursor, v.r.workspace), nil
}

func (v *viewer) Waiting(ctx context.Context, args pageArgs) (*connection[*approvalRequest], error) {
	ids, err := v.enterable(ctx)
	if err != nil {
		return nil, err
	}
	views, more, err := v.r.gate.WaitingIn(ctx, *v.asked.Person, ids, args.page())
	if err != nil {
		return nil, err
	}
	return v.r.requestPage(views, more), nil
}

// enterable gives the ids of all workspaces that the call may look into.
func (v *viewer) enterable(ctx context.Context) ([]string, error) {
	if bound := v.asked.bound(); bound != "" {
		return []string{bound}, nil
	}
	var ids []string
	for page := (store.Page{First: maxPage}); ; {
		rows, more, err := v.r.workspaces.List(ctx, *v.asked.Person, page)
		if err != nil {
			return nil, err
		}
		for _, w := range rows {
			ids, page.After = append(ids, w.ID), w.Cursor()
		}
		if !more {
			return ids, nil
		}
	}
}

type signOutInput struct{ Everywhere *bool }

type signOutPayload struct{ problems }

// SignOut ends the browser's session.
func (r *resolver) SignOut(ctx context.Context, args struct{ Input signOutInput }) (*signOutPayload, error) {
	return mutate(func(*signOutPayload) error {
		caller := callerOf(ctx)
		return r.people.SignOut(ctx, people.Session{Hash: caller.SessionHash, Person: caller.Person}, or(args.Input.Everywhere, false))
	})
}

type notice struct {
	ID        graphql.ID
	Kind      string
	Title     string
	Sentence  string
	Path      string
	CreatedAt Time
	ReadAt    *Time
}

func noticeOf(n store.Notice) *notice {
	return &notice{
		ID: nodeID(kindNotice, "", n.ID), Kind: n.Kind, Title: n.Title, Sentence: n.Sentence, Path: n.Path,
		CreatedAt: timeOf(n.CreatedAt), ReadAt: timeOrNil(n.ReadAt),
	}
}

func (v *viewer) Notices(ctx context.Context, args pageArgs) (*connection[*notice], error) {
	rows, more, err := v.r.people.Notices(ctx, *v.asked.Person, v.asked.bound(), args.page())
	if err != nil {
		return nil, err
	}
	return connect(rows, more, store.Notice.Cursor, noticeOf), nil
}

func (v *viewer) UnreadNotices(ctx context.Context) (int32, error) {
	n, err := v.r.people.UnreadNotices(ctx, *v.asked.Person, v.asked.bound())
	return clamp(n), err
}

type readNoticeInput struct{ ID graphql.ID }

type readNoticePayload struct {
	problems
	Notice *notice
}

// ReadNotice marks a notice as read.
func (r *resolver) ReadNotice(ctx context.Context, args struct{ Input readNoticeInput }) (*readNoticePayload, error) {
	return mutate(func(p *readNoticePayload) error {
		a, err := find(ctx, kindNotice, args.Input.ID, "id")
		if err != nil {
			return err
		}
		n, err := r.people.Notice(ctx, viewerOf(ctx), a.id)
		if err == nil {
			err = callerOf(ctx).Enters(n.WorkspaceID)
		}
		if err == nil {
			n, err = r.people.ReadNotice(ctx, viewerOf(ctx), a.id)
		}
		if err != nil {
			return err
		}
		p.Notice = noticeOf(n)
		return nil
	})
}

type grant struct {
	ID          graphql.ID
	AccountName string
	ExpiresAt   Time
	Workspaces  []grantWorkspace
}

type grantWorkspace struct {
	UUID      graphql.ID
	Slug      string
	Name      string
	Connected bool
}

func grantOf(g workspace.Grant) *grant {
	return &grant{
		ID: nodeID(kindGrant, "", g.ID), AccountName: g.AccountName, ExpiresAt: timeOf(g.ExpiresAt),
		Workspaces: each(g.Workspaces, func(w workspace.GrantWorkspace) grantWorkspace {
			return grantWorkspace{UUID: graphql.ID(w.UUID), Slug: w.Slug, Name: w.Name, Connected: w.Connected}
		}),
	}
}

func (v *viewer) Grants(ctx context.Context) ([]*grant, error) {
	if v.asked.bound() != "" { // a consent belongs to no workspace yet
		return []*grant{}, nil
	}
	grants, err := v.r.workspaces.Grants(ctx, *v.asked.Person)
	return each(grants, grantOf), err
}
