package people

import (
	"context"

	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// Erasing a person has three parts, each of which can be done again: first they can do nothing any more, then
// everything that names them is redacted, and last their own row, by which all of it is found, forgets who they were.

const (
	erasedName   = "Erased person"
	erasedPrefix = "erased:"
)

// Erase forgets who the person behind a Bitbucket account was, and tells in how many pull requests they were named.
// Their keys are revoked, their decisions stay without a name. It goes on where it was broken off when it is asked
// for again. Only the operator does it: nobody's log-in alone should destroy evidence.
func (p *People) Erase(ctx context.Context, accountID string) (pullRequests int, err error) {
	var known []store.Person
	err = p.store.Outside(ctx, func(sh *store.Shared) (err error) {
		known, err = sh.PeopleByAccounts(ctx, []string{accountID})
		return err
	})
	if err != nil {
		return 0, err
	}
	for _, person := range known {
		if err := p.stop(ctx, person); err != nil {
			return 0, err
		}
	}
	if pullRequests, err = p.Redact(ctx, accountID); err != nil {
		return pullRequests, err
	}
	if len(known) == 0 && pullRequests == 0 {
		return 0, refusal.New(refusal.NotFound, "Nobody with this account is known here.")
	}
	for _, person := range known {
		err := p.store.Outside(ctx, func(sh *store.Shared) error {
			if err := sh.EraseNotices(ctx, person, erasedName); err != nil {
				return err
			}
			return sh.ForgetPerson(ctx, person.ID, erasedPrefix+person.ID, erasedName)
		})
		if err != nil {
			return pullRequests, err
		}
		p.log.InfoContext(ctx, "person erased", "person", person.ID, "pull_requests", pullRequests)
	}
	return pullRequests, nil
}

// stop ends everything by which a person acts here.
func (p *People) stop(ctx context.Context, person store.Person) error {
	return p.store.Outside(ctx, func(sh *store.Shared) error {
		keys, err := sh.LockCredentials(ctx, person.ID)
		if err != nil {
			return err
		}
		for _, key := range keys {
			if key.RevokedAt != nil {
				continue
			}
			if _, err := revoke(ctx, sh, key, nil, nil); err != nil {
				return err
			}
		}
		return sh.StopPerson(ctx, person.ID)
	})
}
