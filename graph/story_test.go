package graph

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// The whole road by query text: connect, gate, open, show, sign, approve.
func TestStory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.signIn("alice"), w.signIn("bob")
	g := alice.gates(alice.connect("alice"), ruleFor(1))
	number := w.open(g, "feature/a", "Add a")
	where := map[string]any{"w": g.workspace, "r": g.repository, "n": number}

	panel := bob.ask(panelQuery, where)
	if panel.text("pullRequest.title") != "Add a" || panel.text("pullRequest.request.state") != "PENDING" ||
		panel.at("pullRequest.request.viewerCan.approve") != true || panel.text("pullRequest.status.state") != "INPROGRESS" ||
		panel.at("pullRequest.status.paid") != true || panel.at("pullRequest.repository.policy.version") != 1.0 {
		t.Fatalf("panel %v", panel)
	}
	if got, want := panel.text("pullRequest.url"), fmt.Sprintf("%s/acme/rocket/pull-requests/%d", w.sim.URL(), number); got != want {
		t.Errorf("url %s, want %s", got, want)
	}
	request := panel.text("pullRequest.request.id")
	waiting := bob.ask(`{ viewer { person { name } unreadNotices waiting { edges { node { id pullRequest { number repository { fullName } } } } pageInfo { hasNextPage } } notices(first: 5) { edges { node { id kind path readAt } } } } }`, nil)
	if waiting.text("viewer.waiting.edges.0.node.id") != request || waiting.at("viewer.unreadNotices") != 1.0 {
		t.Errorf("waiting %v", waiting)
	}
	read := bob.do("readNotice", "notice { readAt }", map[string]any{"id": waiting.text("viewer.notices.edges.0.node.id")})
	if read.text("notice.readAt") == "" {
		t.Errorf("read %v", read)
	}

	if prepared := bob.prepare(request, "APPROVE"); prepared.at("options") != nil {
		t.Errorf("there are options without a passkey: %v", prepared)
	}
	bob.enrol()
	if salt, err := base64.RawURLEncoding.DecodeString(bob.prepare(request, "APPROVE").text("commentSalt")); err != nil || len(salt) != evidence.SaltSize {
		t.Errorf("the salt of the comment: %x, %v", salt, err)
	}
	bob.signsAsThemselves(bob.prepare(request, "APPROVE"), "")
	made := bob.decide(request, "APPROVE")
	if made.text("decision.action") != "APPROVE" || made.text("request.id") != request || made.at("request.viewerCan.withdraw") != true ||
		made.text("request.decisions.0.id") != made.text("decision.id") || made.text("request.pullRequest.status.state") != "INPROGRESS" ||
		made.text("request.pullRequest.repository.fullName") != panel.text("pullRequest.repository.fullName") {
		t.Errorf("decision %v", made)
	}
	w.settle()
	after := bob.ask(panelQuery, where)
	if after.text("pullRequest.request.state") != "APPROVED" || after.text("pullRequest.status.state") != "SUCCESSFUL" ||
		after.text("pullRequest.request.requirements.0.approvedBy.0.name") == "" ||
		after.text("pullRequest.request.decisions.0.id") != made.text("decision.id") ||
		after.at("pullRequest.version").(float64) <= panel.at("pullRequest.version").(float64) {
		t.Errorf("panel after the decision %v", after)
	}
	history := bob.ask(`query($id: ID!) { node(id: $id) { ... on PullRequest { all: history { edges { node { sequence type sentence at leafHash } } } one: history(first: 1) { edges { cursor } pageInfo { hasNextPage endCursor } } requests { edges { node { round decisions { action } } } } } } }`,
		map[string]any{"id": after.text("pullRequest.id")})
	if history.at("node.all.edges.0.node.sequence") != 1.0 || history.at("node.one.pageInfo.hasNextPage") != true ||
		history.text("node.requests.edges.0.node.decisions.0.action") != "APPROVE" {
		t.Errorf("history %v", history)
	}
	rest := bob.ask(`query($id: ID!, $after: String) { node(id: $id) { ... on PullRequest { history(first: 1, after: $after) { edges { node { sequence } } } } } }`,
		map[string]any{"id": after.text("pullRequest.id"), "after": history.text("node.one.pageInfo.endCursor")})
	if rest.at("node.history.edges.0.node.sequence") != 2.0 {
		t.Errorf("second page %v", rest)
	}

	w.everyNode(alice, bob, g, after, made)
	w.refusals(alice, bob, g, request)
}

// panelQuery asks for what the panel shows.
const panelQuery = `query Panel($w: String!, $r: String!, $n: Int!) {
  viewer { caller person { name } }
  pullRequest(workspace: $w, repository: $r, number: $n) {
    id number title state draft url path sentence version author { name } headCommit sourceBranch destinationBranch
    repository { id fullName state attention policy { version digest } viewerCanConfigure }
    status { state description paid paidAt problem }
    merge { state sentence }
    request {
      id round state sentence headCommit requestedAt expiresAt signPath evidencePath
      viewerCan { approve reject withdraw renew code reason }
      requirements { name quorum missing approvedBy { name } canStillApprove { accountId name } ignored { code sentence account { name } } }
      rejectedBy { name }
      decisions { id action comment decidedAt account { name } }
      rule { name digest requirements { approvers { name } } }
    }
  }
}`

// everyNode asks for each kind of object by its identifier.
func (w *world) everyNode(alice, bob *browser, g gated, panel, made object) {
	w.t.Helper()
	token := alice.do("createApiToken", "apiToken { id prefix scopes } secret", map[string]any{
		"workspaceId": g.workspaceID, "name": "script", "scopes": []string{"READ"}, "expiresInDays": 1,
	})
	mine := bob.ask(`{ viewer { person { id } passkeys { id name synced } notices { edges { node { id } } } } }`, nil)
	keys := alice.ask(`query($w: String!) { workspace(key: $w) { keyHolders { edges { node { person { name } keys { id name state identifiedBy canCountersign canRevoke acts { by } } } } } } }`, map[string]any{"w": g.workspace})
	if keys.at("workspace.keyHolders.edges.0.node.keys.0.canCountersign") != true || keys.text("workspace.keyHolders.edges.0.node.keys.0.identifiedBy") != "BITBUCKET_LOG_IN" {
		w.t.Errorf("keys of members %v", keys)
	}
	if r := bob.ask(`query($w: String!) { workspace(key: $w) { keyHolders { edges { cursor } } } }`, map[string]any{"w": g.workspace}); r.at("workspace.keyHolders") != nil {
		w.t.Errorf("bob, no administrator, sees %v", r)
	}
	policy := alice.ask(`query($id: ID!) { node(id: $id) { ... on Repository { policy { id createdBy { name } rules { requirements { everyone } } } policyVersions { edges { node { id version } } } } } }`,
		map[string]any{"id": g.repositoryID})
	if policy.text("node.policy.createdBy.name") == "" {
		w.t.Errorf("repository %v", policy)
	}
	const found = `query($w: String!, $r: String!) { workspace(key: $w) { bitbucketRepository(key: $r) { fullName repository { id } branches(search: "rel") mergeStrategies(branch: "release/1.0") none: mergeStrategies(branch: "none") } } }`
	for _, key := range []string{g.repository, "rocket"} {
		r := alice.ask(found, map[string]any{"w": g.workspace, "r": key})
		if r.text("workspace.bitbucketRepository.repository.id") != g.repositoryID || r.at("workspace.bitbucketRepository.branches.0") != "release/1.0" ||
			r.at("workspace.bitbucketRepository.mergeStrategies.0") == nil || r.at("workspace.bitbucketRepository.none") != nil {
			w.t.Errorf("Bitbucket's repository %s: %v", key, r)
		}
		if r := bob.ask(found, map[string]any{"w": g.workspace, "r": key}); r.at("workspace.bitbucketRepository") != nil {
			w.t.Errorf("bob, no administrator, sees %v", r)
		}
	}
	for id, c := range map[string]struct {
		who  *browser
		kind string
	}{
		g.workspaceID:                                            {bob, "Workspace"},
		g.repositoryID:                                           {bob, "Repository"},
		policy.text("node.policy.id"):                            {bob, "PolicyVersion"},
		panel.text("pullRequest.id"):                             {bob, "PullRequest"},
		made.text("request.id"):                                  {bob, "ApprovalRequest"},
		made.text("decision.id"):                                 {bob, "Decision"},
		token.text("apiToken.id"):                                {alice, "ApiToken"},
		mine.text("viewer.person.id"):                            {bob, "Person"},
		mine.text("viewer.passkeys.0.id"):                        {bob, "Passkey"},
		keys.text("workspace.keyHolders.edges.0.node.keys.0.id"): {alice, "MemberKey"},
		mine.text("viewer.notices.edges.0.node.id"):              {bob, "Notice"},
	} {
		got := c.who.ask(`query($id: ID!) { node(id: $id) { __typename id } }`, map[string]any{"id": id})
		if got.text("node.__typename") != c.kind || got.text("node.id") != id {
			w.t.Errorf("%s: %v", c.kind, got)
		}
		if c.kind == "Person" || c.kind == "Passkey" || c.kind == "Notice" || c.kind == "ApiToken" || c.kind == "MemberKey" {
			other := map[*browser]*browser{alice: bob, bob: alice}[c.who]
			if got := other.ask(`query($id: ID!) { node(id: $id) { id } }`, map[string]any{"id": id}); got["node"] != nil {
				w.t.Errorf("another person sees the %s: %v", c.kind, got)
			}
		}
	}
}

// refusals asks for what must be refused, by people and by tokens.
func (w *world) refusals(alice, bob *browser, g gated, request string) {
	w.t.Helper()
	for _, id := range []string{"", "x", "????", base64.RawURLEncoding.EncodeToString([]byte("request::")), base64.RawURLEncoding.EncodeToString([]byte("request:" + g.workspace + ":' or 1=1"))} {
		if got := alice.ask(`query($id: ID!) { node(id: $id) { id } }`, map[string]any{"id": id}); got["node"] != nil {
			w.t.Errorf("node %q: %v", id, got)
		}
		payload := alice.try("renewRequest", "request { id }", map[string]any{"requestId": id})
		if payload.text("userErrors.0.code") != "NOT_FOUND" || payload["request"] != nil {
			w.t.Errorf("renew %q: %v", id, payload)
		}
	}
	wrong := map[string]any{"workspaceId": g.workspaceID, "repositoryUuid": g.repository, "rules": []any{ruleFor(9)}}
	if refused := alice.try("saveRepository", "repository { id }", wrong); refused.text("userErrors.0.code") != "QUORUM_UNREACHABLE" ||
		fmt.Sprint(refused.at("userErrors.0.path")) != "[rules 0 requirements 0 quorum]" {
		w.t.Errorf("unreachable quorum: %v", refused)
	}
	wrong["rules"] = []any{ruleFor(1)}
	if refused := bob.try("saveRepository", "repository { id }", wrong); refused.text("userErrors.0.code") != "FORBIDDEN" {
		w.t.Errorf("bob configures: %v", refused)
	}

	mallory := w.signIn("mallory")
	where := map[string]any{"w": g.workspace, "r": g.repository, "n": 1}
	if got := mallory.ask(panelQuery, where); got["pullRequest"] != nil {
		w.t.Errorf("mallory sees %v", got)
	}
	for _, id := range []string{request, g.workspaceID, g.repositoryID} {
		if got := mallory.ask(`query($id: ID!) { node(id: $id) { __typename } }`, map[string]any{"id": id}); got["node"] != nil {
			w.t.Errorf("mallory sees %v", got)
		}
	}
	if got := mallory.try("prepareDecision", "statement", map[string]any{
		"requestId": request, "action": "APPROVE", "headCommit": strings.Repeat("0", 40), "diffSha256": strings.Repeat("0", 64),
	}); got.text("userErrors.0.code") != "NOT_FOUND" || got["statement"] != nil {
		w.t.Errorf("mallory prepares: %v", got)
	}
}

func (w *world) script(secret, query string, variables map[string]any) reply {
	w.t.Helper()
	return w.send(query, variables, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+secret) })
}

// A token reads and configures in its own workspace. It never decides.
func TestTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.signIn("alice")
	g := alice.gates(alice.connect("alice"), ruleFor(1))
	number := w.open(g, "feature/a", "Add a")
	token := func(scopes ...string) (id, secret string) {
		made := alice.do("createApiToken", "apiToken { id } secret", map[string]any{"workspaceId": g.workspaceID, "name": "script", "scopes": scopes})
		return made.text("apiToken.id"), made.text("secret")
	}
	_, reads := token("READ")
	id, configures := token("CONFIGURE")

	waiting := w.script(reads, `{ viewer { caller workspaces { edges { node { slug } } } } workspace(key: "acme") { requests(states: [PENDING]) { edges { node { id state pullRequest { id number } } } } } }`, nil)
	data := object(waiting.Data)
	if len(waiting.Errors) > 0 || data.text("viewer.caller") != "TOKEN" || data.at("workspace.requests.edges.0.node.pullRequest.number") != float64(number) ||
		data.text("viewer.workspaces.edges.0.node.slug") != "acme" {
		t.Fatalf("a script lists: %s", waiting.body)
	}
	request, pullRequest := data.text("workspace.requests.edges.0.node.id"), data.text("workspace.requests.edges.0.node.pullRequest.id")
	ring := `mutation($input: RingPullRequestInput!) { ringPullRequest(input: $input) { pullRequest { number } userErrors { code } } }`
	save := `mutation($input: SaveRepositoryInput!) { saveRepository(input: $input) { repository { policy { version } } userErrors { code message } } }`
	policy := map[string]any{"workspaceId": g.workspaceID, "repositoryUuid": g.repository, "rules": []any{ruleFor(2)}}
	for _, c := range []struct {
		secret, query string
		input         map[string]any
		code          string
		status        int
	}{
		{configures, ring, map[string]any{"pullRequestId": pullRequest}, "", 200},
		{configures, save, policy, "", 200},
		{reads, ring, map[string]any{"pullRequestId": pullRequest}, codeForbidden, 403},
		{reads, save, policy, codeForbidden, 403},
		{configures, `mutation($input: PrepareDecisionInput!) { prepareDecision(input: $input) { statement } }`, map[string]any{"requestId": request, "action": "APPROVE", "headCommit": "", "diffSha256": ""}, codeForbidden, 403},
		{configures, `mutation($input: SubmitDecisionInput!) { submitDecision(input: $input) { decision { id } } }`, map[string]any{"requestId": request, "response": "{}"}, codeForbidden, 403},
		{configures, `mutation($input: CreateApiTokenInput!) { createApiToken(input: $input) { secret } }`, map[string]any{"workspaceId": g.workspaceID, "name": "x", "scopes": []string{"READ"}}, codeForbidden, 403},
		{"sa_live_nonsense", ring, map[string]any{"pullRequestId": pullRequest}, codeUnauthenticated, 401},
	} {
		got := w.script(c.secret, c.query, map[string]any{"input": c.input})
		if got.code() != c.code || got.status != c.status || strings.Contains(got.body, `"userErrors":[{`) {
			t.Errorf("%s: %d %s", c.query, got.status, got.body)
		}
	}
	if versions := w.script(reads, `query($id: ID!) { node(id: $id) { ... on Repository { policyVersions { edges { node { version createdBy { name } rules { requirements { quorum } } } } } } } }`, map[string]any{"id": g.repositoryID}); object(versions.Data).at("node.policyVersions.edges.0.node.version") != 2.0 {
		t.Errorf("versions %s", versions.body)
	}
	// A token speaks in its own workspace only, whatever its person may see elsewhere.
	elsewhere := nodeID(kindWorkspace, "11111111-2222-3333-4444-555555555555", "11111111-2222-3333-4444-555555555555")
	if got := w.script(reads, `query($id: ID!) { node(id: $id) { id } }`, map[string]any{"id": elsewhere}); object(got.Data)["node"] != nil {
		t.Errorf("elsewhere: %s", got.body)
	}
	alice.do("revokeApiToken", "apiToken { revokedAt }", map[string]any{"id": id})
	if got := w.script(configures, `{ server { origin } }`, nil); got.status != 401 {
		t.Errorf("a revoked token: %d %s", got.status, got.body)
	}
}

func TestAnonymousCallersSeeTheServerOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nobody := func(*http.Request) {}
	got := object(w.send(`{ viewer { person { name } unreadNotices } server { relyingPartyId origin sendsMail connectScopes { name purpose } } }`, nil, nobody).Data)
	if got["viewer"] != nil || got.text("server.origin") != origin || got.text("server.connectScopes.0.purpose") == "" {
		t.Errorf("%v", got)
	}
	for _, query := range []string{`{ node(id: "x") { id } }`, `{ workspace(key: "acme") { id } }`, `{ pullRequest(workspace: "x", repository: "x", number: 1) { id } }`} {
		if got := w.send(query, nil, nobody); got.status != 401 || got.code() != codeUnauthenticated {
			t.Errorf("%s: %d %s", query, got.status, got.body)
		}
	}
}
