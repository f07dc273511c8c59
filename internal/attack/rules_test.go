package attack_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	screen "github.com/signedapproval/bitbucket/internal/stage"
	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// onRules are attacks on a workspace whose rules change by the signatures of bob and carol alone.
func onRules() []attack {
	return []attack{
		{
			wants: "weaken the policy of a protected workspace in its row of the database", caught: []string{"step 15 anchors: invalid", "monitor: policy_wrong"},
			try: func(t *testing.T) (got []string) {
				l := newLive(t)
				l.protected()
				weak := l.weaker()
				l.sql(`update signedapproval_policy_versions set document = $1, digest = $2`, weak, string(approval.DigestOf(weak)))
				return append(l.mergedBy("valve", l.bob), l.watch(l.anchors)...)
			},
		},
		{
			wants:  "give a protected workspace other rules in the database: a policy with an override by anybody, and a protection by nobody",
			caught: []string{"step 15 anchors: invalid", "monitor: openings_wrong", "monitor: policy_wrong"},
			try: func(t *testing.T) (got []string) {
				l := newLive(t)
				l.protected()
				weak := []byte(strings.Replace(string(l.weaker()), `"requirements":`, `"override":{"approvers":{"accounts":[],"everyone":true},"quorum":1},"requirements":`, 1))
				_, err := approval.ParsePolicy(weak)
				must(t, err)
				l.sql(`with v as (insert into signedapproval_policy_versions (workspace_id, repository_id, version, document, digest, created_by, created_via)
					select workspace_id, repository_id, version + 1, $1, $2, created_by, created_via from signedapproval_policy_versions returning workspace_id, id)
					update signedapproval_bitbucket_repo_configs c set policy_version_id = v.id from v where c.workspace_id = v.workspace_id`,
					weak, string(approval.DigestOf(weak)))
				off, err := json.Marshal(evidence.ProtectionDocument{
					Version: 2, Previous: evidence.Digest(l.sql(`select digest from signedapproval_protections`)[0]), People: []string{},
				})
				must(t, err)
				l.sql(`insert into signedapproval_protections (workspace_id, version, digest, document, quorum, people, proposal_id)
					select workspace_id, 2, $1, $2, 0, '{}', proposal_id from signedapproval_protections`, string(approval.DigestOf(off)), off)
				return append(l.mergedBy("valve", l.bob), l.watchLonger()...)
			},
		},
		{
			wants:  "delete the protection from the database, and have an administrator change the policy through the server",
			caught: []string{"step 15 anchors: invalid", "monitor: openings_wrong", "monitor: rule_unsigned"},
			try: func(t *testing.T) (got []string) {
				l := newLive(t)
				l.protected()
				l.sql(`delete from signedapproval_protections`)
				_, err := l.alice.Gate(l.ctx, l.workspace, l.repository, l.rule("Releases", 1))
				must(t, err)
				return append(l.mergedBy("valve", l.bob), l.watch(l.anchors)...)
			},
		},
		{
			wants:  "count signatures that people of a protected workspace made for another proposal, and delete those of an earlier one",
			caught: []string{"server: CHALLENGE_EXPIRED", "server: the proposal stays OPEN", "another auditor: monitor: openings_wrong; monitor: rule_unsigned"},
			try: func(t *testing.T) (got []string) {
				l := newLive(t)
				l.protected()
				first := l.propose("Releases as before", 2)
				must(t, l.bob.Agree(l.ctx, first))
				must(t, l.carol.Agree(l.ctx, first))
				l.published()
				if alarms := l.watch(l.anchors); len(alarms) > 0 {
					t.Fatalf("the control: %v", alarms)
				}
				// bob signs one proposal, the operator takes what he signed for the other one.
				harmless, weaker := l.propose("Releases again", 2), l.propose("Releases", 1)
				must(t, l.bob.Agree(l.ctx, harmless))
				answer, err := l.carol.Consider(l.ctx, harmless)
				must(t, err)
				got = append(got, refusal(l.bob.Send(l.ctx, answer))) // not his to give
				l.sql(`update signedapproval_proposal_acts set proposal_id = $1 where proposal_id = $2`, idOf(t, weaker), idOf(t, harmless))
				must(t, l.carol.Agree(l.ctx, weaker))
				got = append(got, "server: the proposal stays "+l.sql(`select state from signedapproval_proposals where id = $1`, idOf(t, weaker))[0])
				l.published()
				got = append(got, l.watch(l.anchors)...)
				l.sql(`delete from signedapproval_proposal_acts where proposal_id = $1`, idOf(t, first))
				l.state = filepath.Join(t.TempDir(), "another")
				return append(got, "another auditor: "+strings.Join(l.watch(l.anchors), "; "))
			},
		},
		{
			wants:  "add to the roster, in the database, that carol vouched for bob's key, by what she signed about something else",
			caught: []string{"step 5 roster: roster", "monitor: roster_wrong"},
			try: func(t *testing.T) (got []string) {
				l := newLive(t)
				l.protected()
				l.countersigner()
				return append(l.mergedBy("valve", l.bob, l.carol), l.watchLonger()...)
			},
		},
	}
}

// protected has the rules of the workspace change by the signatures of bob and carol alone, and the auditor pin what is in force then.
func (l *live) protected() {
	l.t.Helper()
	honest := l.approve(l.open("pump"))
	proposal, err := l.alice.Protect(l.ctx, l.workspace, 2, "Bob", "Carol")
	must(l.t, err)
	must(l.t, l.bob.Agree(l.ctx, proposal))
	must(l.t, l.carol.Agree(l.ctx, proposal))
	l.published()
	l.pin()
	l.control(honest)
}

// weaker is the policy in force, but that one approval is enough.
func (l *live) weaker() []byte {
	l.t.Helper()
	found := l.sql(`select convert_from(document, 'UTF8') from signedapproval_policy_versions order by version desc limit 1`)
	return []byte(strings.Replace(found[0], `"quorum":2`, `"quorum":1`, 1))
}

// rule asks for so many of bob and carol.
func (l *live) rule(name string, quorum int) map[string]any {
	l.t.Helper()
	approvers, err := l.alice.Accounts(l.ctx, l.workspace, "Bob", "Carol")
	must(l.t, err)
	return map[string]any{
		"name": name, "branches": []string{"release/*"},
		"requirements": []any{map[string]any{"name": "Approval", "quorum": quorum, "approvers": approvers}},
		"autoMerge":    map[string]any{"strategy": "merge_commit", "messageTemplate": "Merge #{number}: {title}"},
	}
}

// propose has alice change the policy, which makes a proposal. It gives its id.
func (l *live) propose(name string, quorum int) string {
	l.t.Helper()
	_, err := l.alice.Gate(l.ctx, l.workspace, l.repository, l.rule(name, quorum))
	var refused *screen.Refusal
	if !errors.As(err, &refused) || refused.Code != "PROTECTED" {
		l.t.Fatalf("a change of a protected policy: %v", err)
	}
	found := l.sql(`select 'proposal:' || workspace_id || ':' || id from signedapproval_proposals order by created_at desc limit 1`)
	return base64.RawURLEncoding.EncodeToString([]byte(found[0]))
}

// idOf is the id in the database of a proposal of the API.
func idOf(t *testing.T, proposal string) string {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(proposal)
	must(t, err)
	return string(text[strings.LastIndexByte(string(text), ':')+1:])
}

// mergedBy opens a pull request and has people approve until it is merged, and gives how its evidence verifies.
func (l *live) mergedBy(name string, people ...*screen.Person) []string {
	l.t.Helper()
	return l.mergedOf(l.open(name), people...)
}

// mergedOf has people approve a pull request until it is merged, and gives how its evidence verifies.
func (l *live) mergedOf(p pull, people ...*screen.Person) []string {
	l.t.Helper()
	for _, who := range people {
		_, err := who.Decide(l.ctx, p.Place, "APPROVE")
		must(l.t, err)
	}
	file := filepath.Join(l.t.TempDir(), "bundle.json")
	if code, out := l.run("evidence", "get", l.merged(p), "--workspace=acme", "-o", file); code != 0 {
		l.t.Fatalf("evidence get: exit %d\n%s", code, out)
	}
	bundle, err := os.ReadFile(file)
	must(l.t, err)
	raw, err := os.ReadFile(l.anchors)
	must(l.t, err)
	anchors, err := evidence.ParseAnchors(raw)
	must(l.t, err)
	return []string{verify(bundle, anchors)}
}

// watchLonger makes passes of a monitor that takes a second to be late, until it says something.
func (l *live) watchLonger() (alarms []string) {
	l.t.Helper()
	l.eventually("an alarm", func() bool {
		alarms = l.watch(l.anchors, "--late=1s")
		return len(alarms) > 0
	})
	slices.Sort(alarms)
	return alarms
}

// countersigner puts into the roster that carol vouched for bob's key, by what she signed about something else, without
// a leaf.
func (l *live) countersigner() {
	l.t.Helper()
	documents := l.sql(`select convert_from(document, 'UTF8') from signedapproval_roster_versions order by version`)
	var bob, carol evidence.RosterChange
	for into, i := range map[*evidence.RosterChange]int{&bob: 0, &carol: 1} {
		var err error
		*into, err = evidence.ParseRosterChange([]byte(documents[i]))
		must(l.t, err)
	}
	signer, err := carol.Key.Digest()
	must(l.t, err)
	about, err := bob.Key.Digest()
	must(l.t, err)
	last, err := carol.Digest()
	must(l.t, err)
	at := time.Now().UTC().Truncate(time.Second)
	forged := evidence.RosterChange{
		Workspace: bob.Workspace, Version: 3, Previous: last, Event: evidence.KeyCountersigned, Key: bob.Key, By: evidence.ByCountersigner,
		Proof: evidence.Digest(l.sql(carols("a.digest"))[0]), Signer: signer, IssuedAt: &at,
	}
	document, err := forged.Canonical()
	must(l.t, err)
	l.sql(`insert into signedapproval_roster_versions (workspace_id, version, digest, document, event, person_id, key_digest, leaf_hash)
		select workspace_id, 3, $1, $2, 'countersigned', person_id, $3, leaf_hash from signedapproval_roster_versions where version = 1`,
		string(approval.DigestOf(document)), document, string(about))
	l.sql(`insert into signedapproval_key_countersignatures (credential_id, workspace_id, act, person_id)
		select $1, workspace_id, decode($2, 'hex'), person_id from signedapproval_proposal_acts where credential_id = $3`,
		[]byte(bob.Key.CredentialID), l.sql(carols("encode(a.act, 'hex')"))[0], []byte(carol.Key.CredentialID))
}

// carols selects something of what carol, who is the second in the roster, signed for a proposal.
func carols(what string) string {
	return "select " + what + " from signedapproval_proposal_acts a join signedapproval_roster_versions v on v.key_digest = a.key_digest and v.version = 2"
}
