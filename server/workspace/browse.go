package workspace

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// BitbucketRepository is a repository as Bitbucket lists it.
type BitbucketRepository struct {
	UUID, Slug, FullName, Name string
	// Config is ours; nil where the repository is not gated.
	Config *store.RepositoryConfig

	cursor string
}

// Cursor is the place of r in its list.
func (r BitbucketRepository) Cursor() string { return r.cursor }

// place is where a list that Bitbucket pages goes on: the page, and how many of its entries are
// behind us.
type place struct {
	Page string `json:"p"`
	Skip int    `json:"s"`
}

func (p place) encode() string {
	raw, err := json.Marshal(p)
	if err != nil {
		panic("workspace: a cursor that JSON cannot hold: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

func placeOf(cursor string) (p place, err error) {
	if cursor == "" {
		return p, nil
	}
	bad := refusal.New(refusal.BadInput, "The cursor is not one of this list.").At("after")
	if len(cursor) > maxParameter {
		return p, bad
	}
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return p, bad.Because(err)
	}
	if err := json.Unmarshal(raw, &p); err != nil || p.Skip < 0 {
		return p, bad
	}
	return p, nil
}

// pageSize is store.Page's rule for lists that do not come from the store.
func pageSize(page store.Page) (int, error) {
	switch {
	case page.First == 0:
		return 20, nil
	case page.First < 0 || page.First > 100:
		return 0, refusal.New(refusal.BadInput, "A page has 1 to 100 entries.").At("first")
	}
	return page.First, nil
}

// BitbucketRepositories lists the repositories that Bitbucket has in a workspace, gated or not, by
// name, for its administrators; search looks into names.
func (w *Workspaces) BitbucketRepositories(ctx context.Context, person store.Person, workspace, search string, page store.Page) ([]BitbucketRepository, bool, error) {
	first, err := pageSize(page)
	if err != nil {
		return nil, false, err
	}
	at, err := placeOf(page.After)
	if err != nil {
		return nil, false, err
	}
	role, err := w.Role(ctx, person, workspace, false)
	switch {
	case err != nil:
		return nil, false, err
	case role == store.RoleNone:
		return nil, false, notFound("workspace")
	case role != store.RoleAdmin:
		return nil, false, refusal.New(refusal.Forbidden, "Only an administrator of the workspace may list all of its repositories.")
	}
	client, err := w.Client(ctx, workspace, bitbucket.Foreground)
	if err != nil {
		return nil, false, err
	}
	repositories, more, err := walk(ctx, client, workspace, clip(search), at, first)
	if err != nil {
		return nil, false, asked(err)
	}
	ids := make([]string, len(repositories))
	for i, r := range repositories {
		ids[i] = r.UUID
	}
	err = w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		configs, _, err := tx.RepositoryConfigs(ctx, ids, store.Page{First: 100})
		for _, config := range configs {
			repositories[slices.Index(ids, config.RepositoryID)].Config = &config
		}
		return err
	})
	return repositories, more, err
}

// BitbucketRepository reads a repository that Bitbucket has in a workspace, gated or not, by its UUID or
// its slug, for whoever may change its rules. Of a gated one it answers what we know.
func (w *Workspaces) BitbucketRepository(ctx context.Context, person store.Person, workspace, key string) (BitbucketRepository, error) {
	// Members first: a stranger could ask about any number of repositories, each at the cost of a call.
	if err := w.mustBelong(ctx, person, workspace); err != nil {
		return BitbucketRepository{}, err
	}
	r, err := w.ours(ctx, workspace, key)
	if errors.Is(err, store.ErrNotFound) {
		r, err = w.theirs(ctx, workspace, key)
	}
	if err != nil {
		return BitbucketRepository{}, err
	}
	if err := w.mustSee(ctx, person, workspace, r.UUID); err != nil {
		return BitbucketRepository{}, err
	}
	can, err := w.CanConfigure(ctx, person, workspace, r.UUID)
	if err == nil && !can {
		err = refusal.New(refusal.Forbidden, "Only an administrator of the repository may change its rules.")
	}
	return r, err
}

// ours reads a gated repository; ErrNotFound where it is none.
func (w *Workspaces) ours(ctx context.Context, workspace, key string) (BitbucketRepository, error) {
	config, err := w.config(ctx, workspace, key)
	return BitbucketRepository{UUID: config.RepositoryID, Slug: config.Slug, FullName: config.FullName, Name: config.Name, Config: &config}, err
}

// theirs asks Bitbucket for a repository of which we know nothing.
func (w *Workspaces) theirs(ctx context.Context, workspace, key string) (BitbucketRepository, error) {
	client, err := w.Client(ctx, workspace, bitbucket.Foreground)
	if err != nil {
		return BitbucketRepository{}, err
	}
	r, err := client.Repository(ctx, workspace, key)
	if gone, ok := errors.AsType[*bitbucket.Error](err); ok && (gone.NotFound() || errors.Is(err, bitbucket.ErrInvalidArgument)) {
		return BitbucketRepository{}, notFound("repository")
	}
	return BitbucketRepository{UUID: r.UUID, Slug: r.Slug, FullName: r.FullName, Name: r.Name}, asked(err)
}

// walk reads on from a place until there are first repositories.
func walk(ctx context.Context, client *bitbucket.Client, workspace, search string, at place, first int) ([]BitbucketRepository, bool, error) {
	var list []BitbucketRepository
	for {
		page, err := client.Repositories(ctx, workspace, search, at.Page)
		if err != nil {
			return nil, false, err
		}
		for i := at.Skip; i < len(page.Repositories); i++ {
			r := page.Repositories[i]
			list = append(list, BitbucketRepository{
				UUID: r.UUID, Slug: r.Slug, FullName: r.FullName, Name: r.Name, cursor: place{at.Page, i + 1}.encode(),
			})
			if len(list) == first {
				return list, i+1 < len(page.Repositories) || page.Next != "", nil
			}
		}
		if page.Next == "" {
			return list, false, nil
		}
		at = place{Page: page.Next}
	}
}

// Account is a Bitbucket account that need not have signed in here.
type Account struct {
	AccountID, Name string
}

// Cursor is the place of a in its list.
func (a Account) Cursor() string {
	return place{Page: a.key()}.encode()
}

// key orders accounts by name, then by id.
func (a Account) key() string { return strings.ToLower(a.Name) + "\x00" + a.AccountID }

// Members lists the members of a workspace, by name, for its members: Bitbucket shows them to each
// other as well. search looks into names.
func (w *Workspaces) Members(ctx context.Context, person store.Person, workspace, search string, page store.Page) ([]Account, bool, error) {
	first, err := pageSize(page)
	if err != nil {
		return nil, false, err
	}
	at, err := placeOf(page.After)
	if err != nil {
		return nil, false, err
	}
	if err := w.mustBelong(ctx, person, workspace); err != nil {
		return nil, false, err
	}
	client, err := w.Client(ctx, workspace, bitbucket.Foreground)
	if err != nil {
		return nil, false, err
	}
	wanted := strings.ToLower(clip(search))
	var accounts []Account
	for member, err := range client.Members(ctx, workspace) {
		if err != nil {
			return nil, false, asked(err)
		}
		account := Account{member.AccountID, member.DisplayName}
		if account.AccountID == "" || account.key() <= at.Page || !strings.Contains(strings.ToLower(account.Name), wanted) {
			continue
		}
		accounts = append(accounts, account)
	}
	slices.SortFunc(accounts, func(a, b Account) int { return strings.Compare(a.key(), b.key()) })
	if len(accounts) > first {
		return accounts[:first], true, nil
	}
	return accounts, false, nil
}
