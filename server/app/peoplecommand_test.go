package app_test

import (
	"strings"
	"testing"
)

// erasesPeople is the operator who is asked to forget Bob, whom a rule in force names.
func (a *auditing) erasesPeople(t *testing.T) {
	t.Helper()
	known := func() int {
		return len(a.sql(`select account_id from signedapproval_people where name = 'Bob' and not exists (
			select from signedapproval_credentials c where c.person_id = signedapproval_people.id and c.revoked_at is not null)`))
	}
	account := a.sql(`select account_id from signedapproval_people where name = 'Bob'`)[0]
	erase := func(account string, flags ...string) (int, string, string) {
		return command(t, append([]string{"people", "erase", account, "--database-url", a.db.AppURL}, flags...)...)
	}
	code, out, errs := erase(account)
	if code != 1 || out != "" || !strings.Contains(errs, rocket) || !strings.Contains(errs, "nothing was erased") || known() != 1 {
		t.Errorf("while a rule names him: exit %d\n%s%s", code, out, errs)
	}
	code, out, errs = erase(account, "--keep-in-rules")
	if code != 0 || !strings.HasPrefix(out, "erased, from ") || known() != 0 {
		t.Errorf("--keep-in-rules: exit %d\n%s%s", code, out, errs)
	}
	if left := a.sql(`select account_id from signedapproval_people where account_id = $1`, account); len(left) > 0 {
		t.Error("his account is left")
	}
	if named := a.sql(`select 'x' from signedapproval_policy_versions where position($1 in convert_from(document, 'utf8')) > 0`, account); len(named) == 0 {
		t.Error("the rule is another one now")
	}
	if code, out, errs = erase("557058:nobody"); code != 1 || out != "" || !strings.Contains(errs, "Nobody with this account is known here.") {
		t.Errorf("nobody: exit %d\n%s%s", code, out, errs)
	}
}
