package graph

import (
	"fmt"
	"testing"
)

// A rule that can be overridden, from its saving to what the panel says of the override.
func TestOverride(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.signIn("alice"), w.signIn("bob")
	overridable := ruleFor(1)
	overridable["override"] = map[string]any{"quorum": 1, "everyone": true}
	g := alice.gates(alice.connect("alice"), overridable)

	tooMany := ruleFor(1)
	tooMany["override"] = map[string]any{"quorum": 2, "approvers": []string{"557058:nobody"}}
	refused := alice.try("saveRepository", "repository { id }", map[string]any{
		"workspaceId": g.workspaceID, "repositoryUuid": g.repository, "rules": []any{tooMany},
	})
	if refused.text("userErrors.0.code") != "QUORUM_UNREACHABLE" || fmt.Sprint(refused.at("userErrors.0.path")) != "[rules 0 override quorum]" {
		t.Errorf("an override that nobody can give: %v", refused)
	}
	saved := alice.ask(`query($id: ID!) { node(id: $id) { ... on Repository { policy { rules { override { quorum everyone approvers { accountId name } } } } } } }`,
		map[string]any{"id": g.repositoryID})
	if saved.at("node.policy.rules.0.override.quorum") != 1.0 || saved.at("node.policy.rules.0.override.everyone") != true {
		t.Errorf("saved as %v", saved)
	}

	number := w.open(g, "feature/a", "Add a")
	const query = `query($w: String!, $r: String!, $n: Int!) { pullRequest(workspace: $w, repository: $r, number: $n) { request {
		id state sentence viewerCan { override overrideCode overrideReason withdraw }
		override { quorum missing overriddenBy { name } canStillOverride { name } ignored { code } } decisions { action comment } } } }`
	where := map[string]any{"w": g.workspace, "r": g.repository, "n": number}
	if seen := alice.ask(query, where); seen.at("pullRequest.request.viewerCan.override") != false ||
		seen.text("pullRequest.request.viewerCan.overrideCode") != "AUTHOR" || seen.text("pullRequest.request.viewerCan.overrideReason") == "" {
		t.Errorf("the author sees %v", seen)
	}
	seen := bob.ask(query, where)
	if seen.at("pullRequest.request.viewerCan.override") != true || seen.text("pullRequest.request.viewerCan.overrideCode") != "" ||
		seen.at("pullRequest.request.override.missing") != 1.0 {
		t.Errorf("bob sees %v", seen)
	}
	request := seen.text("pullRequest.request.id")
	bob.enrol()
	if silent := bob.try("prepareDecision", "statement", map[string]any{
		"requestId": request, "action": "OVERRIDE", "comment": " ", "headCommit": "", "diffSha256": "",
	}); silent.text("userErrors.0.code") != "REASON_MISSING" || fmt.Sprint(silent.at("userErrors.0.path")) != "[comment]" || silent["statement"] != nil {
		t.Errorf("without a reason: %v", silent)
	}
	secret := alice.do("createApiToken", "secret", map[string]any{
		"workspaceId": g.workspaceID, "name": "script", "scopes": []string{"CONFIGURE"},
	}).text("secret")
	byToken := w.script(secret, `mutation($input: PrepareDecisionInput!) { prepareDecision(input: $input) { statement } }`, map[string]any{
		"input": map[string]any{"requestId": request, "action": "OVERRIDE", "comment": "now", "headCommit": "", "diffSha256": ""},
	})
	if byToken.code() != codeForbidden || byToken.status != 403 {
		t.Errorf("by a token: %d %s", byToken.status, byToken.body)
	}
	if made := bob.decide(request, "OVERRIDE"); made.text("decision.action") != "OVERRIDE" {
		t.Fatalf("decision %v", made)
	}
	w.settle()
	after := bob.ask(query, where)
	if after.text("pullRequest.request.state") != "OVERRIDDEN" || after.at("pullRequest.request.override.missing") != 0.0 ||
		after.text("pullRequest.request.override.overriddenBy.0.name") == "" || after.text("pullRequest.request.decisions.0.comment") != "as agreed" ||
		after.text("pullRequest.request.viewerCan.overrideCode") != "ALREADY_DECIDED" || after.at("pullRequest.request.viewerCan.withdraw") != true {
		t.Errorf("afterwards %v", after)
	}
}
