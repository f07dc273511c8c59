package store_test

import (
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
