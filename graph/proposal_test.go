package graph

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

// signProposal signs a proposal with the passkey of the browser.
func (b *browser) signProposal(id string) object {
	b.t.Helper()
	act := b.do("prepareProposalSignature", "act { statement signerSalt options expiresAt }", map[string]any{"proposalId": id})
	b.signsAsThemselves(act, "act.")
	statement, err := base64.RawURLEncoding.DecodeString(act.text("act.statement"))
	b.must(err)
	challenge := sha256.Sum256(statement)
	if !strings.Contains(act.text("act.options"), base64.RawURLEncoding.EncodeToString(challenge[:])) {
		b.t.Errorf("the challenge is not the hash of the act: %v", act)
	}
	response, err := b.key.Get([]byte(act.text("act.options")))
	b.must(err)
	return b.do("signProposal", "proposal { id state signatures { person { name } counts } } leftToDo", map[string]any{"response": string(response)})
}

// Two people protect a workspace; a script proposes other rules; they sign, and only then the rules are others.
func TestProposals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.signIn("alice"), w.signIn("bob")
	g := alice.gates(alice.connect("alice"), ruleFor(1))
	alice.enrol()
	bob.enrol()
	var people []string
	for _, b := range []*browser{alice, bob} {
		people = append(people, b.ask(`{ viewer { person { id } } }`, nil).text("viewer.person.id"))
	}
	const shown = `id key kind state repository document digest policy before after quorum viewerCanSign asked { name } signatures { counts } proposedBy { name }`
	on := alice.do("proposeProtection", "proposal { "+shown+" }", map[string]any{"workspaceId": g.workspaceID, "quorum": 2, "people": people})
	if on.text("proposal.kind") != "PROTECTION" || on.at("proposal.repository") != nil || on.at("proposal.viewerCanSign") != true ||
		len(on.at("proposal.before").([]any)) != 0 || !strings.Contains(on.text("proposal.after.0"), "2 of ") {
		t.Errorf("proposed %v", on)
	}
	sum := sha256.Sum256([]byte(on.text("proposal.document")))
	if on.text("proposal.digest") != hex.EncodeToString(sum[:]) {
		t.Errorf("the digest is not that of the document: %v", on)
	}
	const state = `query($w: String!) { workspace(key: $w) { protection { quorum people { name } } repository(key: "rocket") { policy { version } } } }`
	where := map[string]any{"w": g.workspace}
	if first := alice.signProposal(on.text("proposal.id")); first.text("proposal.state") != "OPEN" || alice.ask(state, where).at("workspace.protection") != nil {
		t.Errorf("after one signature %v", first)
	}
	if second := bob.signProposal(on.text("proposal.id")); second.text("proposal.state") != "APPLIED" {
		t.Errorf("after two %v", second)
	}
	if now := bob.ask(state, where); now.at("workspace.protection.quorum") != 2.0 {
		t.Errorf("protected: %v", now)
	}

	secret := alice.do("createApiToken", "secret", map[string]any{"workspaceId": g.workspaceID, "name": "script", "scopes": []string{"CONFIGURE", "READ"}}).text("secret")
	saved := w.script(secret, `mutation($input: SaveRepositoryInput!) { saveRepository(input: $input) { repository { id } proposal { `+shown+` } userErrors { code } } }`, map[string]any{
		"input": map[string]any{"workspaceId": g.workspaceID, "repositoryUuid": g.repository, "rules": []any{ruleFor(2)}},
	})
	answer := object(saved.Data)
	id, key := answer.text("saveRepository.proposal.id"), answer.text("saveRepository.proposal.key")
	if answer.text("saveRepository.userErrors.0.code") != "PROTECTED" || id == "" || answer.at("saveRepository.repository") != nil ||
		!strings.Contains(answer.text("saveRepository.proposal.before.0"), "“Approval”, 1 of all") || !strings.Contains(answer.text("saveRepository.proposal.after.0"), "“Approval”, 2 of all") {
		t.Errorf("saved by a token: %s", saved.body)
	}
	for mutation, input := range map[string]map[string]any{
		"prepareProposalSignature(input: $input) { act { options } }": {"proposalId": id},
		"signProposal(input: $input) { proposal { id } }":             {"response": "{}"},
		"withdrawProposal(input: $input) { proposal { id } }":         {"proposalId": id},
	} {
		name, _, _ := strings.Cut(mutation, "(")
		kind := strings.ToUpper(name[:1]) + name[1:] + "Input"
		if by := w.script(secret, fmt.Sprintf("mutation($input: %s!) { %s }", kind, mutation), map[string]any{"input": input}); by.code() != codeForbidden {
			t.Errorf("%s by a token: %d %s", name, by.status, by.body)
		}
	}
	if again := alice.try("saveRepository", "proposal { id }", map[string]any{"workspaceId": g.workspaceID, "repositoryUuid": g.repository, "rules": []any{ruleFor(2)}}); again.text("proposal.id") != id {
		t.Errorf("saved again: %v", again)
	}
	found := bob.ask(`query($w: String!, $k: String!, $id: ID!) { workspace(key: $w) { proposal(key: $k) { id } proposals(open: true) { edges { node { id viewerCanSign } } } } node(id: $id) { ... on Proposal { state } } }`,
		map[string]any{"w": g.workspace, "k": key, "id": id})
	if found.text("workspace.proposal.id") != id || found.at("workspace.proposals.edges.0.node.viewerCanSign") != true || found.text("node.state") != "OPEN" {
		t.Errorf("found %v", found)
	}
	bob.signProposal(id)
	if twice := bob.try("prepareProposalSignature", "act { options }", map[string]any{"proposalId": id}); twice.text("userErrors.0.code") != "SIGNED_ALREADY" {
		t.Errorf("signed twice: %v", twice)
	}
	alice.signProposal(id)
	if now := bob.ask(state, where); now.at("workspace.repository.policy.version") != 2.0 {
		t.Errorf("in force: %v", now)
	}

	gone := alice.try("removeRepository", "leftToDo proposal { id policy after }", map[string]any{"repositoryId": g.repositoryID})
	if gone.text("userErrors.0.code") != "PROTECTED" || gone.at("proposal.policy") != nil || len(gone.at("proposal.after").([]any)) != 0 {
		t.Errorf("removed: %v", gone)
	}
	if withdrawn := alice.do("withdrawProposal", "proposal { state }", map[string]any{"proposalId": gone.text("proposal.id")}); withdrawn.text("proposal.state") != "WITHDRAWN" {
		t.Errorf("withdrawn: %v", withdrawn)
	}
	const list = `query($n: Int) { workspace(key: "acme") { proposals(first: $n) { edges { node { ` + shown + ` } } } } }`
	if few, many := bob.statements(list, map[string]any{"n": 1}), bob.statements(list, map[string]any{"n": 3}); many > few+1 { // protections are read only where one is listed
		t.Errorf("%d statements for 1, %d for 3", few, many)
	}
}

func TestPeriod(t *testing.T) {
	t.Parallel()
	for seconds, want := range map[int64]string{
		604800: "7 days", 86400: "1 day", 7200: "2 hours", 5400: "90 minutes", 60: "1 minute", 61: "61 seconds", 1: "1 second", 0: "0 seconds",
	} {
		if got := period(seconds); got != want {
			t.Errorf("%d seconds: %q, want %q", seconds, got, want)
		}
	}
}
