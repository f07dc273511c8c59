package gate_test

import (
	"encoding/hex"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// traces lists the tables in which a text still stands, as it is or as bytes; but for the rules and policies, which are
// what administrators wrote, and for the cache of Bitbucket's word, which is asked for anew.
func (w *world) traces(text string) (found []string) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.db.SuperURL)
	w.must(err)
	defer func() { _ = conn.Close(w.t.Context()) }()
	rows, err := conn.Query(w.t.Context(), `select c.relname::text, a.attname::text from pg_class c join pg_attribute a on a.attrelid = c.oid
		where c.relkind = 'r' and c.relname like 'signedapproval\_%' and a.attnum > 0 and not a.attisdropped`)
	w.must(err)
	type column struct{ Table, Name string }
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[column])
	w.must(err)
	// A short name stands in what is random now and then, in base64 above all, but not behind a character that ends a word.
	plain := `(^|[^A-Za-z0-9+/_-])` + regexp.QuoteMeta(text)
	inBytes := `(^\\x|0a|20|22|27|28|2c|3a|40|5b)` + hex.EncodeToString([]byte(text))
	for _, c := range columns {
		if c.Table == "signedapproval_policy_versions" || c.Table == "signedapproval_approval_requests" && c.Name == "rule" {
			continue
		}
		var n int
		place := pgx.Identifier{c.Table}.Sanitize()
		column := pgx.Identifier{c.Name}.Sanitize() + "::text"
		w.must(conn.QueryRow(w.t.Context(), `select count(*) from `+place+` where `+column+` ~ $1 or `+column+` ~ $2`, plain, inBytes).Scan(&n))
		if n > 0 {
			found = append(found, c.Table+"."+c.Name)
		}
	}
	return found
}

func TestErasure(t *testing.T) {
	for name, test := range map[string]struct {
		approvers []string
		tally     evidence.Result
	}{
		"everybody may approve":       {nil, evidence.OK},
		"the rule names the approver": {[]string{"bob", "carol"}, evidence.OperatorAsserted},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.keys.Redact = w.gate.Redact
			w.save(w.rule(2, test.approvers...))
			number := w.open()
			w.settle()
			bob, carol, alice := w.people["bob"], w.people["carol"], w.people["alice"]
			draft, err := w.draft(number, "bob", approval.Approve)
			w.must(err)
			draft.Comment = "A comment of mine."
			if _, err := w.submit("bob", draft); err != nil {
				t.Fatal(err)
			}
			w.decides(number, "carol", approval.Approve)
			w.settle()
			w.post(number, "decline", nil) // or it would be tallied anew
			w.event(number)
			w.settle()
			before := w.bundle(number)
			anchors := w.anchors()
			if report := evidence.Verify(before, anchors); report.ExitCode() != 0 {
				t.Fatalf("before: %s", report.Sentence())
			}

			key := w.keyID(bob)
			w.must(w.store.Outside(t.Context(), func(sh *store.Shared) error {
				_, err := sh.RenameCredential(t.Context(), bob.ID, key, bob.Name+"'s own")
				return err
			}))
			w.in(func(tx *store.Tx) error {
				_, err := tx.InsertProposal(t.Context(), store.Proposal{
					Kind: store.ProposalRevoke, Name: bob.Name + "'s own", CredentialID: key, Document: []byte("{}"), ProposedBy: carol.ID, ProposedVia: "session",
				})
				return err
			})
			for _, p := range []*person{bob, alice} {
				n, err := w.keys.Erase(t.Context(), p.AccountID)
				w.must(err)
				if n != 1 {
					t.Errorf("%s was named in %d pull requests", p.Name, n)
				}
				if found := w.traces(p.AccountID); len(found) > 0 {
					t.Errorf("the account of %s is still in %v", p.Name, found)
				}
			}
			for _, text := range []string{bob.Name, "A comment of mine."} {
				if found := slices.DeleteFunc(w.traces(text), func(c string) bool { return c == "signedapproval_workspaces.name" }); len(found) > 0 {
					t.Errorf("%q is still in %v", text, found)
				}
			}

			// What was exported before still opens.
			if report := evidence.Verify(before, anchors); report.ExitCode() != 0 {
				t.Errorf("the bundle of before: %s", report.Sentence())
			}
			// What is exported now says what it cannot say any more.
			w.rights[carol.ID] = "write"
			after, err := w.gate.Bundle(t.Context(), carol.Person, w.workspace, draft.RequestID)
			w.must(err)
			// As a word: by chance three letters are in anything of this length that is random.
			if regexp.MustCompile(`\b`+bob.Name+`\b`).Match(after) || strings.Contains(string(after), "A comment of mine.") {
				t.Error("the bundle of afterwards names bob")
			}
			report := evidence.Verify(after, anchors)
			if report.ExitCode() != 2 || report.Verdict.State != approval.Approved {
				t.Fatalf("the bundle of afterwards: %d, %s", report.ExitCode(), report.Sentence())
			}
			for _, step := range report.Steps {
				want := evidence.OK
				switch step.Name {
				case "openings", "verdict":
					want = evidence.OperatorAsserted
				case "tally":
					want = test.tally
				case "witnesses", "anchors":
					want = step.Result
				}
				if step.Result != want {
					t.Errorf("step %s: %s (%s), want %s", step.Name, step.Result, step.Detail, want)
				}
			}

			// The keys of somebody who was erased decide nothing, and the rosters know.
			w.settle()
			roster := w.roster()
			for _, k := range roster.LiveAt(roster.Versions()) {
				if k.Key.Person == bob.ID {
					t.Error("a key of bob still counts")
				}
			}
			// It can be asked for again, and finds nobody.
			if _, err := w.keys.Erase(t.Context(), bob.AccountID); refusal.Code(err) != refusal.NotFound {
				t.Errorf("a second time: %v", err)
			}
			// Who comes back is somebody new.
			w.must(w.store.Outside(t.Context(), func(sh *store.Shared) error {
				again, err := sh.PutPerson(t.Context(), store.Person{AccountID: bob.AccountID, AccountUUID: bob.AccountUUID, Name: bob.Name})
				if err == nil && again.ID == bob.ID {
					t.Error("bob is the person that was erased")
				}
				return err
			}))
		})
	}
}

// TestErasureGoesOnWhereItWasBrokenOff: the person's own row goes last, so that all of it is found again.
func TestErasureGoesOnWhereItWasBrokenOff(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	number := w.open()
	w.settle()
	w.decides(number, "bob", approval.Approve)
	w.settle()
	bob := w.people["bob"]
	works := w.gate.Redact
	if _, err := works(t.Context(), bob.AccountID); err != nil { // and then the power failed
		t.Fatal(err)
	}
	w.keys.Redact = works
	if _, err := w.keys.Erase(t.Context(), bob.AccountID); err != nil {
		t.Errorf("again: %v", err)
	}
	if found := slices.DeleteFunc(w.traces(bob.AccountID), func(c string) bool { return strings.Contains(c, "approval_requests") }); len(found) > 0 {
		t.Errorf("the account is still in %v", found)
	}
}

func TestTheAccountOfAConnectionIsNotErased(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	number := w.open()
	w.settle()
	w.decides(number, "bob", approval.Approve)
	bob := w.people["bob"]
	w.sql(`insert into signedapproval_bitbucket_connections (workspace_id, state, connected_by, account_id, account_uuid, account_name, scopes)
		values ($1, 'ACTIVE', $2, $3, $2, 'Bob', '{}')`, w.workspace, bob.ID, bob.AccountID)
	if _, err := w.gate.Redact(t.Context(), bob.AccountID); refusal.Code(err) != gate.CodeConnected {
		t.Errorf("the connection's own account: %v", err)
	}
	if v := w.view(number); len(v.Decisions) != 1 || v.Decisions[0].AccountID != bob.AccountID {
		t.Errorf("something was erased all the same: %+v", v.Decisions)
	}
}

// TestErasureReachesWhatOthersKeep looks at what names a person outside of pull requests: what others were told, the
// bodies of webhooks, and rules in force, which cannot be changed and are listed.
func TestErasureReachesWhatOthersKeep(t *testing.T) {
	w := newWorld(t)
	w.keys.Redact = w.gate.Redact
	w.save(w.rule(1, "bob", "carol"))
	bob, carol := w.people["bob"], w.people["carol"]
	_, err := w.gate.SyncRoster(t.Context(), w.workspace, bob.ID) // bob is known in the workspace
	w.must(err)
	w.must(w.store.InWorkspace(t.Context(), w.workspace, func(tx *store.Tx) error {
		return tx.AddNotice(t.Context(), store.Notice{
			PersonID: carol.ID, WorkspaceID: w.workspace, Kind: "KEY_COUNTERSIGNED", DedupeKey: "told",
			Title: bob.Name + " countersigned", Sentence: bob.Name + ", an administrator, has countersigned; not so " + bob.Name + "by.", Path: "/",
		})
	}))
	repository := "00000000-0000-0000-0000-0000000000aa"
	bodies := map[string]string{
		"00000000-0000-0000-0000-000000000001": `{"actor":{"account_id":"` + bob.AccountID + `"}}`,
		"00000000-0000-0000-0000-000000000002": `{"actor":{"account_id":"` + carol.AccountID + `"}}`,
	}
	var deliveries []store.Delivery
	for id, body := range bodies {
		deliveries = append(deliveries, store.Delivery{
			RequestUUID: id, Workspace: w.workspace, Repository: repository, EventKey: "repo:push", Attempt: 1, Outcome: store.DeliveryUnknownEvent, Body: []byte(body),
		})
	}
	w.must(w.store.AcceptDeliveries(t.Context(), deliveries))
	naming, err := w.gate.RulesNaming(t.Context(), bob.AccountID)
	w.must(err)
	if len(naming) != 1 || !strings.Contains(naming[0], "/") {
		t.Errorf("rules that name bob: %q", naming)
	}
	if naming, err := w.gate.RulesNaming(t.Context(), w.people["alice"].AccountID); err != nil || len(naming) > 0 {
		t.Errorf("rules that name alice: %q, %v", naming, err)
	}
	_, err = w.keys.Erase(t.Context(), bob.AccountID)
	w.must(err)
	for id, want := range map[string]string{
		"00000000-0000-0000-0000-000000000001": "", "00000000-0000-0000-0000-000000000002": bodies["00000000-0000-0000-0000-000000000002"],
	} {
		if body, err := w.store.DeliveryBody(t.Context(), id); err != nil || string(body) != want {
			t.Errorf("delivery %s: %q, %v", id, body, err)
		}
	}
	w.must(w.store.Outside(t.Context(), func(sh *store.Shared) error {
		notices, _, err := sh.Notices(t.Context(), carol.ID, "", store.Page{First: 50})
		for _, n := range notices {
			if n.DedupeKey == "told" && (n.Title != "Erased person countersigned" || n.Sentence != "Erased person, an administrator, has countersigned; not so "+bob.Name+"by.") {
				t.Errorf("carol is told %q: %q", n.Title, n.Sentence)
			}
		}
		if len(notices) == 0 {
			t.Error("carol was told nothing")
		}
		return err
	}))
}
