package gate_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/attest"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// holes is how much of everything openings hold.
type holes struct{ roster, gaps, enrolments, acts, protections, policies, chains int }

func (w *world) opened() (h holes) {
	w.t.Helper()
	w.gate.Role = func(context.Context, store.Person, string, bool) (store.Role, error) { return store.RoleAdmin, nil }
	data, err := w.gate.Openings(w.t.Context(), w.people["alice"].Person, w.workspace)
	w.must(err)
	o, err := evidence.ParseOpenings(data)
	w.must(err)
	for _, document := range o.Roster {
		if string(document) == "{}" {
			h.gaps++
		}
	}
	h.roster, h.enrolments, h.acts, h.protections = len(o.Roster), len(o.Enrolments), len(o.SignedActs), len(o.Protections)
	h.policies, h.chains = len(o.Policies), len(o.Chains)
	return h
}

// TestADamagedRowHidesNothingElse damages one row after the other, as somebody at the database can: the openings leave out
// that one and have all others, so that whoever follows the log goes on and finds what is missing.
func TestADamagedRowHidesNothingElse(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob", "carol"))
	for _, name := range []string{"bob", "carol"} {
		number := w.open()
		w.settle()
		w.decides(number, name, approval.Approve)
		w.settle()
		w.decides(number, name, approval.Withdraw)
		w.settle()
		w.post(number, "decline", nil)
		w.event(number)
		w.settle()
	}
	w.save(w.rule(2, "bob", "carol"))
	w.sql(`insert into signedapproval_protections (workspace_id, version, digest, document, quorum, people, proposal_id)
		values ($1, 1, '', '{"people":[],"quorum":0,"version":1}', 0, '{}', gen_random_uuid())`, w.workspace)
	whole := w.opened()
	if want := (holes{roster: 2, enrolments: 2, protections: 1, policies: 2, chains: 2}); whole != want {
		t.Fatalf("at first: %+v, want %+v", whole, want)
	}
	for _, c := range []struct {
		name, damage, heal string
		change             func(h *holes)
	}{
		{
			"an enrolment that is gone",
			`update signedapproval_credentials set enrolment = null, enrolled_at = null, identified_by = null where id = (select id from saved where first)`,
			`update signedapproval_credentials c set enrolment = s.enrolment, enrolled_at = s.enrolled_at, identified_by = s.identified_by from saved s where s.id = c.id`,
			func(h *holes) { h.enrolments-- },
		},
		{
			"an enrolment that is none", `update signedapproval_credentials set enrolment = '{"act":' where id = (select id from saved where first)`,
			`update signedapproval_credentials c set enrolment = s.enrolment from saved s where s.id = c.id`,
			func(h *holes) { h.enrolments-- },
		},
		{
			"another enrolment", `update signedapproval_credentials set enrolment = (select enrolment from saved where not first limit 1) where id = (select id from saved where first)`,
			`update signedapproval_credentials c set enrolment = s.enrolment from saved s where s.id = c.id`,
			func(h *holes) { h.enrolments-- },
		},
		{
			"an opening that is none", `update signedapproval_credentials set enrolment_opening = '[' where id = (select id from saved where first)`,
			`update signedapproval_credentials c set enrolment_opening = s.enrolment_opening from saved s where s.id = c.id`,
			func(h *holes) { h.enrolments-- },
		},
		{
			"a change of the roster that is none", `update signedapproval_roster_versions set document = '\xff' where version = 1`,
			`update signedapproval_roster_versions v set document = s.document from saved_roster s where s.version = v.version`,
			func(h *holes) { h.gaps, h.enrolments = 1, 0 },
		},
		{
			"the last change of the roster", `update signedapproval_roster_versions set document = '' where version = 2`,
			`update signedapproval_roster_versions v set document = s.document from saved_roster s where s.version = v.version`,
			func(h *holes) { h.gaps, h.enrolments = 1, 1 },
		},
		{
			"a change of the roster that is gone", `delete from signedapproval_roster_versions where version = 1`,
			`insert into signedapproval_roster_versions select * from saved_roster where version = 1`,
			func(h *holes) { h.gaps, h.enrolments = 1, 0 },
		},
		{
			"a policy that is none", `update signedapproval_policy_versions set document = '{"rules":' where version = 1`,
			`update signedapproval_policy_versions v set document = s.document from saved_policies s where s.id = v.id`,
			func(h *holes) { h.policies-- },
		},
		{
			"a policy with a null", `update signedapproval_policy_versions set document = '{"rules":null}' where version = 1`,
			`update signedapproval_policy_versions v set document = s.document from saved_policies s where s.id = v.id`,
			func(h *holes) { h.policies-- },
		},
		{
			"a policy beyond all depth", `update signedapproval_policy_versions set document = convert_to(repeat('[', 63) || repeat(']', 63), 'UTF8') where version = 1`,
			`update signedapproval_policy_versions v set document = s.document from saved_policies s where s.id = v.id`,
			func(h *holes) { h.policies-- },
		},
		{
			"a policy beyond all size", `update signedapproval_policy_versions set document = convert_to('"' || repeat('x', 2000000) || '"', 'UTF8') where version = 1`,
			`update signedapproval_policy_versions v set document = s.document from saved_policies s where s.id = v.id`,
			func(h *holes) { h.policies-- },
		},
		{
			"a protection that is none", `update signedapproval_protections set document = 'x'`,
			`update signedapproval_protections set document = '{"people":[],"quorum":0,"version":1}'`,
			func(h *holes) { h.protections-- },
		},
		{
			"a protection without its people", `update signedapproval_protections set document = '{"quorum":0,"version":1}'`,
			`update signedapproval_protections set document = '{"people":[],"quorum":0,"version":1}'`,
			func(h *holes) { h.protections-- },
		},
	} {
		if c.name == "an enrolment that is gone" {
			w.sql(`create table saved as select id, enrolment, enrolled_at, identified_by, enrolment_opening,
				person_id = (select person_id from signedapproval_roster_versions where version = 1) as first
				from signedapproval_credentials where enrolment is not null`)
			w.sql(`create table saved_roster as select * from signedapproval_roster_versions`)
			w.sql(`create table saved_policies as select * from signedapproval_policy_versions`)
		}
		w.sql(c.damage)
		want := whole
		c.change(&want)
		if got := w.opened(); got != want {
			t.Errorf("%s: %+v, want %+v", c.name, got, want)
		}
		w.sql(c.heal)
		if got := w.opened(); got != whole {
			t.Fatalf("%s, and healed: %+v", c.name, got)
		}
	}
	w.sql(`update signedapproval_workspaces set genesis_leaf = decode(repeat('00', 32), 'hex')`)
	if _, err := w.gate.Openings(t.Context(), w.people["alice"].Person, w.workspace); refusal.Code(err) != gate.CodeIncomplete {
		t.Errorf("without the genesis: %v", err)
	}
}

// TestADamagedRowOfOneRequest takes the evidence of one merge away: it is refused by its code, the evidence of the other one is
// given, and the audit of the branch says of the first that it is a violation.
func TestADamagedRowOfOneRequest(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]string{
		"a verdict that is none":         `update signedapproval_approval_requests set verdict = '[1]' where id = $1`,
		"facts that are none":            `update signedapproval_approval_requests set facts = '"x"' where id = $1`,
		"an assertion that is none":      `update signedapproval_decisions set assertion = '' where request_id = $1`,
		"a statement that is none":       `update signedapproval_decisions set statement = '{}' where request_id = $1`,
		"openings that are none":         `update signedapproval_decisions set openings = 'null,' where request_id = $1`,
		"a rule that is none":            `update signedapproval_approval_requests set rule = '' where id = $1`,
		"a policy that is gone":          `update signedapproval_approval_requests set policy_version_id = gen_random_uuid() where id = $1`,
		"another sentence":               `update signedapproval_approval_requests set verdict = jsonb_set(verdict, '{sentence}', '"approved by all"') where id = $1`,
		"another assertion, well formed": `update signedapproval_decisions set assertion = convert_to(replace(convert_from(assertion, 'UTF8'), '"signature":"M', '"signature":"A'), 'UTF8') where request_id = $1`,
	} {
		t.Run(name, func(t *testing.T) {
			w := newShuttle(t)
			_, _, first := w.lands("first", "squash", 1, true)
			number, _, second := w.lands("second", "squash", 1, true)
			id := w.view(number).Request.ID
			w.sql(damage, id)
			_, err := w.gate.Bundle(t.Context(), w.people["alice"].Person, w.workspace, id)
			if strings.HasPrefix(name, "another") { // a bundle that does not verify says more than none
				w.must(err)
			} else if refusal.Code(err) != gate.CodeIncomplete {
				t.Errorf("its bundle: %v", err)
			}
			if _, err := w.gate.Review(t.Context(), w.people["alice"].Person, w.workspace, second, gate.CommitScope{}, "https://bitbucket.org"); refusal.Code(err) != gate.CodeIncomplete {
				t.Errorf("its attestation: %v", err)
			}
			rows, _, err := w.audit(w.auditOf(time.Unix(0, 0), time.Now().Add(time.Hour)))
			w.must(err)
			for commit, want := range map[string]string{first: attest.KindApproved, second: attest.KindViolation} {
				i := slices.IndexFunc(rows, func(r attest.Row) bool { return r.Commit == commit })
				if i < 0 || rows[i].Kind != want || (rows[i].Request == "") != (want == attest.KindViolation) {
					t.Errorf("of %s the audit says %+v", commit, rows[i])
				}
			}
		})
	}
}
