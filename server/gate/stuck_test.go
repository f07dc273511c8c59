package gate

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/store"
)

// stuck walks through all that bob can do about a request, with two keys that count and one that counts where a rule does not
// ask how it was enrolled, while one of them is reported and the request is asked for again.
type stuck struct {
	t     *testing.T
	rule  approval.Rule
	text  []byte
	asks  approval.Digest // of the rule
	found int
}

var stuckBob = store.Person{ID: "bob", AccountID: "acc-bob"}

func (s *stuck) view(list []store.Decision, request int) View {
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	r := store.ApprovalRequest{
		ID: fmt.Sprint("req-", request), HeadCommit: strings.Repeat("1", 40), DestinationBranch: "main", Rule: s.text, RuleDigest: string(s.asks),
		State: store.RequestPending, ExpiresAt: now.Add(time.Hour),
	}
	v := View{
		PullRequest: store.PullRequest{State: "OPEN", AuthorAccountID: "acc-alice", HeadCommit: r.HeadCommit}, Request: &r, Rule: s.rule, Decisions: list,
		facts: approval.Facts{Now: now, Author: "acc-alice", Request: approval.RequestFacts{
			ID: r.ID, HeadCommit: r.HeadCommit, DestinationBranch: "main", RuleDigest: s.asks, ExpiresAt: r.ExpiresAt,
		}},
	}
	r.State = string(v.tally().State)
	return v
}

func (s *stuck) decision(list []store.Decision, request int, action approval.Action, key string) store.Decision {
	identity := "countersigner"
	if key == "login" {
		identity = "bitbucket-login"
	}
	return store.Decision{
		ID: fmt.Sprint(len(list)), RequestID: fmt.Sprint("req-", request), PersonID: stuckBob.ID, AccountID: stuckBob.AccountID, Action: string(action),
		HeadCommit: strings.Repeat("1", 40), DestinationBranch: "main", RuleDigest: string(s.asks), Sequence: int64(len(list) + 2),
		Identity: identity, CredentialID: []byte(key),
	}
}

func (s *stuck) rejects(v View) bool {
	return slices.ContainsFunc(v.tally().Rejections, func(p approval.Person) bool { return p.ID == stuckBob.ID })
}

func (s *stuck) walk(list []store.Decision, request int, told []string, depth int) {
	v := s.view(list, request)
	c := can(stuckBob, v)
	if s.rejects(v) {
		better := s.decision(list, request, approval.Withdraw, "k3") // that nobody reported
		if !c.Withdraw || s.rejects(s.view(append(slices.Clone(list), better), request)) {
			if s.found++; s.found <= 5 {
				s.t.Errorf("his rejection stands for good: %s", strings.Join(told, ", "))
			}
		}
	}
	if mine := v.standing(stuckBob.ID); mine != nil && mine.Action == string(approval.Reject) && !s.rejects(v) {
		if s.found++; s.found <= 5 {
			s.t.Errorf("he is told of a rejection that was taken back: %s", strings.Join(told, ", "))
		}
	}
	if depth == 0 {
		return
	}
	for _, action := range []approval.Action{approval.Approve, approval.Reject, approval.Withdraw, approval.Override} {
		if allowed(c, action) != nil {
			continue
		}
		for _, key := range []string{"k1", "k2", "login"} {
			next := append(slices.Clone(list), s.decision(list, request, action, key))
			s.walk(next, request, append(slices.Clone(told), fmt.Sprint(action, " with ", key)), depth-1)
		}
	}
	for from, d := range list {
		if string(d.CredentialID) != "k1" || d.Compromised {
			continue
		}
		next := slices.Clone(list)
		for i := from; i < len(next); i++ {
			next[i].Compromised = next[i].Compromised || string(next[i].CredentialID) == "k1"
		}
		s.walk(next, request, append(slices.Clone(told), fmt.Sprint("k1 reported as stolen since ", from)), depth-1)
	}
	if request < 2 && len(list) > 0 {
		s.walk(list, request+1, append(slices.Clone(told), "asked again"), depth-1)
	}
}

// TestNobodyIsStuckWithARejection tries every order of five things that can happen: whoever rejects by the tally can withdraw, and
// with a key that counts that has its effect.
func TestNobodyIsStuckWithARejection(t *testing.T) {
	t.Parallel()
	asked := approval.Requirement{Name: "A", Quorum: 1, Approvers: approval.Approvers{Accounts: []string{"acc-bob", "acc-carol"}}}
	override := &approval.OverrideBy{Quorum: 2, Approvers: approval.Approvers{Accounts: []string{"acc-bob", "acc-dave"}}}
	countersigned := &approval.KeyDemand{Countersigned: true}
	for name, rule := range map[string]approval.Rule{
		"any key":                              {Name: "R"},
		"countersigned keys":                   {Name: "R", Keys: countersigned},
		"an override by any key":               {Name: "R", Override: override},
		"countersigned keys, with an override": {Name: "R", Keys: countersigned, Override: override},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rule.Branches, rule.ExpiresAfterSeconds, rule.Requirements = []string{"**"}, 3600, []approval.Requirement{asked}
			text, err := json.Marshal(rule)
			if err != nil {
				t.Fatal(err)
			}
			s := &stuck{t: t, rule: rule, text: text, asks: rule.Digest()}
			s.walk(nil, 1, nil, 5)
			if s.found > 5 {
				t.Errorf("%d such stories in all", s.found)
			}
		})
	}
}
