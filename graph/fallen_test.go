package graph

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

const fallenVerdicts = `query($w: String!, $n: Int, $after: String) { workspace(key: $w) { fallenVerdicts(first: $n, after: $after) { edges { node {
	owner { name } key compromisedSince reportedAt pullRequest { number repository { fullName } } was standsAs merged } } pageInfo { hasNextPage endCursor } } } }`

// Administrators are told what the report of a stolen key takes down, and read all of it, page by page and with as many statements for
// many as for few; nobody else reads any.
func TestFallenVerdicts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.signIn("alice"), w.signIn("bob")
	g := alice.gates(alice.connect("alice"), ruleFor(1))
	bob.enrol()
	stolen := bob.ask(ownKeys, nil).text("viewer.passkeys.0.id")
	var numbers []float64
	for i := range 3 {
		number := w.open(g, fmt.Sprintf("feature/%d", i), fmt.Sprintf("Change %d", i))
		request := bob.ask(`query($w: String!, $r: String!, $n: Int!) { pullRequest(workspace: $w, repository: $r, number: $n) { request { id } } }`,
			map[string]any{"w": g.workspace, "r": g.repository, "n": number}).text("pullRequest.request.id")
		bob.decide(request, "APPROVE")
		w.settle()
		numbers = append(numbers, float64(number))
	}
	if nothing, _ := alice.ask(fallenVerdicts, map[string]any{"w": g.workspace}).at("workspace.fallenVerdicts.edges").([]any); len(nothing) != 0 {
		t.Errorf("before any report: %v", nothing)
	}
	further := bob.enrolAnother()
	bob.key = further
	since := time.Now().Add(-time.Hour).UTC().Truncate(time.Second).Format(time.RFC3339)
	bob.signs(map[string]any{"key": stolen, "action": "REVOKE", "compromisedSince": since})
	w.settle()

	var got []float64
	for page := (map[string]any{"w": g.workspace, "n": 2}); ; {
		seen := alice.ask(fallenVerdicts, page)
		edges, _ := seen.at("workspace.fallenVerdicts.edges").([]any)
		for i := range edges {
			verdict := object(edges[i].(map[string]any)["node"].(map[string]any))
			if verdict.text("owner.name") == "" || verdict.text("was") != "APPROVED" || verdict.text("standsAs") != "PENDING" || verdict.at("merged") != false ||
				verdict.text("pullRequest.repository.fullName") != "acme/rocket" || verdict.text("reportedAt") == "" {
				t.Errorf("%v", verdict)
			}
			number, _ := verdict.at("pullRequest.number").(float64)
			got = append(got, number)
		}
		if seen.at("workspace.fallenVerdicts.pageInfo.hasNextPage") != true {
			break
		}
		page["after"] = seen.text("workspace.fallenVerdicts.pageInfo.endCursor")
	}
	slices.Sort(got)
	if !slices.Equal(got, numbers) {
		t.Errorf("fallen: %v, want %v", got, numbers)
	}
	if few, many := alice.statements(fallenVerdicts, map[string]any{"w": g.workspace, "n": 1}), alice.statements(fallenVerdicts, map[string]any{"w": g.workspace, "n": 3}); few != many {
		t.Errorf("%d statements for one, %d for three", few, many)
	}
	if hidden := bob.ask(fallenVerdicts, map[string]any{"w": g.workspace}); hidden.at("workspace.fallenVerdicts") != nil {
		t.Errorf("bob reads %v", hidden)
	}
	told := alice.ask(`{ viewer { notices { edges { node { kind sentence path } } } } }`, nil)
	edges, _ := told.at("viewer.notices.edges").([]any)
	if !slices.ContainsFunc(edges, func(e any) bool {
		return object(e.(map[string]any)).text("node.kind") == "KEY_STOLEN" && object(e.(map[string]any)).text("node.path") == "/settings/keys?workspace=acme"
	}) {
		t.Errorf("alice was told %v", told)
	}
}
