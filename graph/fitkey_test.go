package graph

import (
	"fmt"
	"strings"
	"testing"
)

const keyProblemQuery = `query($w: String!, $r: String!, $n: Int!) { pullRequest(workspace: $w, repository: $r, number: $n) { request { keyProblem { code sentence } } } }`

// Before anybody signs, a request says that no passkey of the viewer would count, what is asked, and what to do.
func TestNoPasskeyFits(t *testing.T) {
	t.Parallel()
	made := newMaker(t, example)
	w := newWorldWith(t, snapshot(made))
	alice, bob, carol := w.signIn("alice"), w.signIn("bob"), w.signIn("carol")
	asking := func(keys map[string]any) map[string]any {
		rule := ruleFor(1)
		rule["keys"] = keys
		return rule
	}
	g := alice.gates(alice.connect("alice"), asking(map[string]any{"countersigned": true}))
	number := w.open(g, "feature/a", "Add a")
	where := map[string]any{"w": g.workspace, "r": g.repository, "n": number}
	expect := func(who *browser, code string, parts ...string) {
		t.Helper()
		found := who.ask(keyProblemQuery, where)
		if problem := found.at("pullRequest.request.keyProblem"); code == "" && problem != nil || found.text("pullRequest.request.keyProblem.code") != code {
			t.Errorf("the problem is %v, want %q", problem, code)
		}
		for _, part := range parts {
			if sentence := found.text("pullRequest.request.keyProblem.sentence"); !strings.Contains(sentence, part) {
				t.Errorf("%q does not say %q", sentence, part)
			}
		}
	}

	expect(bob, "NO_PASSKEY", "for which somebody else vouched", "You have none that decides here yet")
	bob.enrol()
	expect(bob, "LOGIN_ONLY_KEY", "for which somebody else vouched", "an administrator of the workspace can countersign yours")
	alice.enrol()
	const keys = `query($w: String!) { workspace(key: $w) { keyHolders { edges { node { keys { id canCountersign } } } } } }`
	for i := range 2 {
		at := fmt.Sprintf("workspace.keyHolders.edges.%d.node.keys.0.", i)
		if found := alice.ask(keys, map[string]any{"w": g.workspace}); found.at(at+"canCountersign") == true {
			alice.signs(map[string]any{"key": found.text(at + "id"), "action": "COUNTERSIGN"})
		}
	}
	expect(bob, "")
	expect(alice, "LOGIN_ONLY_KEY") // nobody can vouch for themselves
	bob.enrolAnother()
	expect(bob, "")

	change := func(rule map[string]any) {
		t.Helper()
		alice.do("saveRepository", "repository { id }", map[string]any{"workspaceId": g.workspaceID, "repositoryUuid": g.repository, "rules": []any{rule}})
		w.settle()
		w.event(g, number)
	}
	change(asking(map[string]any{"models": []string{example, second}}))
	expect(bob, "UNPROVED_MODEL", "proved to be of the model Example Key or Second Key", "add one with such an authenticator")
	carol.enrolAs(made.attest)
	expect(carol, "")
	change(asking(map[string]any{"countersigned": true, "models": []string{example}}))
	expect(carol, "LOGIN_ONLY_KEY", "for which somebody else vouched and that are proved to be of the model Example Key", ", and then an administrator")
	expect(bob, "UNPROVED_MODEL")

	for i := range 5 {
		w.open(g, fmt.Sprintf("feature/%d", i), "Another")
	}
	const list = `query($n: Int) { workspace(key: "acme") { requests(first: $n, states: [PENDING]) { edges { node { keyProblem { code } } } } } }`
	if few, many := carol.statements(list, map[string]any{"n": 1}), carol.statements(list, map[string]any{"n": 6}); few != many {
		t.Errorf("%d statements for 1 request, %d for 6", few, many)
	}
	change(ruleFor(1))
	expect(bob, "")
}

// A rule asks for no more witnesses than the server has, which it tells before anybody asks.
func TestNoMoreCosignaturesThanWitnesses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.signIn("alice")
	g := alice.gates(alice.connect("alice"), ruleFor(1))
	if got := alice.ask(`{ server { witnesses } }`, nil); got.at("server.witnesses") != 2.0 {
		t.Errorf("the server has %v", got)
	}
	if got := (&browser{world: w}).send(`{ server { witnesses } }`, nil); got.code() != codeUnauthenticated {
		t.Errorf("anonymous: %s", got.body)
	}
	for cosignatures, code := range map[int]string{-1: "COSIGNATURES", 2: "", 3: "TOO_FEW_WITNESSES", 17: "COSIGNATURES"} {
		rule := ruleFor(1)
		rule["cosignatures"] = cosignatures
		saved := alice.try("saveRepository", "repository { id }", map[string]any{"workspaceId": g.workspaceID, "repositoryUuid": g.repository, "rules": []any{rule}})
		if saved.text("userErrors.0.code") != code || code != "" && fmt.Sprint(saved.at("userErrors.0.path")) != "[rules 0 cosignatures]" {
			t.Errorf("%d cosignatures: %v, want %q", cosignatures, saved, code)
		}
	}
}
