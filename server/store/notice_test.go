package store_test

import (
	"fmt"
	"testing"

	"github.com/signedapproval/bitbucket/server/store"
)

// TestANoticeIsMailedWhereMailIsSent: without a mail server nobody is asked to send one.
func TestANoticeIsMailedWhereMailIsSent(t *testing.T) {
	t.Parallel()
	for _, noMail := range []bool{false, true} {
		h := open(t)
		h.NoMail = noMail
		must(t, h.Outside(t.Context(), func(sh *store.Shared) error {
			p, err := sh.PutPerson(t.Context(), store.Person{AccountID: "557058:1", AccountUUID: uuid(1), Name: "Bob"})
			if err != nil {
				return err
			}
			return sh.AddNotice(t.Context(), store.Notice{PersonID: p.ID, WorkspaceID: acme, Kind: "APPROVAL_WANTED", DedupeKey: "one", Title: "One", Sentence: "One.", Path: "/"})
		}))
		same(t, "notices", h.count(t, "signedapproval_notices"), 1)
		want := 1
		if noMail {
			want = 0
		}
		same(t, "jobs", h.count(t, "signedapproval_jobs where kind = 'notify'"), want)
	}
}

// TestANoticeIsForThoseWhoSignedIn: of accounts only those have an inbox, each is told once, and no more than so many are.
func TestANoticeIsForThoseWhoSignedIn(t *testing.T) {
	t.Parallel()
	h := open(t)
	ctx := t.Context()
	var people []store.Person
	must(t, h.Outside(ctx, func(sh *store.Shared) error {
		for n, account := range []string{"557058:1", "557058:2", "557058:3"} {
			p, err := sh.PutPerson(ctx, store.Person{AccountID: account, AccountUUID: uuid(n + 1), Name: "Somebody"})
			if err != nil {
				return err
			}
			people = append(people, p)
		}
		return nil
	}))
	tell := func(key string, most int, accounts ...string) {
		t.Helper()
		must(t, h.Outside(ctx, func(sh *store.Shared) error {
			return sh.AddNoticeFor(ctx, accounts, most, store.Notice{WorkspaceID: acme, Kind: "APPROVAL_WANTED", DedupeKey: key, Title: "One", Sentence: "One.", Path: "/"})
		}))
	}
	for range 2 {
		tell("wanted:1", 100, "557058:1", "557058:2", "557058:1", "557058:9")
	}
	same(t, "notices", h.count(t, "signedapproval_notices"), 2)
	for _, p := range people[:2] {
		same(t, "notices of a person", h.count(t, "signedapproval_notices where person_id = '"+p.ID+"' and dedupe_key = 'wanted:1:"+p.ID+"'"), 1)
	}
	same(t, "mail", h.count(t, "signedapproval_jobs where kind = 'notify'"), 2)
	tell("wanted:2", 2, "557058:1", "557058:2", "557058:3")
	same(t, "notices of a bounded one", h.count(t, "signedapproval_notices where dedupe_key like 'wanted:2:%'"), 2)
	tell("wanted:3", 100)
	same(t, "notices of nobody", h.count(t, "signedapproval_notices where dedupe_key like 'wanted:3:%'"), 0)
}

// TestWhatComesLaterStandsBehind: an id of the database and one of ours each begin with their time, so that new rows are side by side
// in their indexes.
func TestWhatComesLaterStandsBehind(t *testing.T) {
	t.Parallel()
	h := open(t)
	ctx := t.Context()
	var person store.Person
	must(t, h.Outside(ctx, func(sh *store.Shared) (err error) {
		person, err = sh.PutPerson(ctx, store.Person{AccountID: "557058:1", AccountUUID: uuid(1), Name: "Bob"})
		return err
	}))
	newest := func() (id string) {
		h.read(t, &id, `select max(id::text) from signedapproval_notices`)
		return id
	}
	last := store.NewID()
	for n := range 5 {
		eventually(t, "a millisecond passes", func() bool { return store.NewID()[:13] > last[:13] })
		must(t, h.Outside(ctx, func(sh *store.Shared) error {
			return sh.AddNotice(ctx, store.Notice{PersonID: person.ID, WorkspaceID: acme, Kind: "K", DedupeKey: fmt.Sprint(n), Title: "T", Sentence: "S.", Path: "/"})
		}))
		id := newest()
		if !store.ValidID(id) || id[:13] <= last[:13] {
			t.Errorf("after %s the database made %s", last, id)
		}
		eventually(t, "a millisecond passes", func() bool { return store.NewID()[:13] > id[:13] })
		if last = store.NewID(); !store.ValidID(last) || last <= id {
			t.Errorf("after %s of the database we made %s", id, last)
		}
	}
}
