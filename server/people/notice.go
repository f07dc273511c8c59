package people

import (
	"context"

	"github.com/signedapproval/bitbucket/server/store"
)

// Notices lists the person's inbox, newest first: what is of one workspace, or of all where it is "".
func (p *People) Notices(ctx context.Context, person store.Person, workspace string, page store.Page) ([]store.Notice, bool, error) {
	var (
		notices []store.Notice
		more    bool
	)
	err := p.store.Outside(ctx, func(sh *store.Shared) (err error) {
		notices, more, err = sh.Notices(ctx, person.ID, workspace, page)
		return err
	})
	return notices, more, err
}

// UnreadNotices counts the person's unread notices, those of one workspace unless it is "", up to 100.
func (p *People) UnreadNotices(ctx context.Context, person store.Person, workspace string) (int, error) {
	var n int
	err := p.store.Outside(ctx, func(sh *store.Shared) (err error) {
		n, err = sh.UnreadNotices(ctx, person.ID, workspace)
		return err
	})
	return n, err
}

// Notice reads one notice of the person.
func (p *People) Notice(ctx context.Context, person store.Person, id string) (store.Notice, error) {
	if !store.ValidID(id) {
		return store.Notice{}, notFound("notice")
	}
	var notice store.Notice
	err := p.store.Outside(ctx, func(sh *store.Shared) (err error) {
		notice, err = sh.Notice(ctx, id)
		return err
	})
	if err == nil && notice.PersonID != person.ID {
		err = store.ErrNotFound
	}
	if err != nil {
		return store.Notice{}, found(err, "notice")
	}
	return notice, nil
}

// ReadNotice marks a notice of the person as read.
func (p *People) ReadNotice(ctx context.Context, person store.Person, id string) (store.Notice, error) {
	if !store.ValidID(id) {
		return store.Notice{}, notFound("notice")
	}
	var notice store.Notice
	err := p.store.Outside(ctx, func(sh *store.Shared) (err error) {
		notice, err = sh.ReadNotice(ctx, person.ID, id)
		return err
	})
	return notice, found(err, "notice")
}
