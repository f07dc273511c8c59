package graph

import (
	"net/http"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/refusal"
)

// framed is bob's panel in Bitbucket's frame, beside a pull request that waits for him.
func framed(t *testing.T) (w *world, g gated, bob *browser, number int, requestID string) {
	t.Helper()
	w = newWorld(t)
	alice := w.signIn("alice")
	g = alice.gates(alice.connect("alice"), ruleFor(1))
	number = w.open(g, "feature/a", "Add a")
	bob = w.signIn("bob")
	session, err := w.people.Session(t.Context(), bob.cookie)
	w.must(err)
	w.frames = map[string]Caller{"frame": {Kind: Forge, Person: session.Person, Workspace: g.workspace}}
	panel := w.inFrame(panelQuery, map[string]any{"w": g.workspace, "r": g.repository, "n": number})
	return w, g, bob, number, panel.text("pullRequest.request.id")
}

// inFrame asks as the panel does.
func (w *world) inFrame(query string, variables map[string]any) object {
	w.t.Helper()
	got := w.script("frame", query, variables)
	if len(got.Errors) > 0 {
		w.t.Fatalf("%s", got.body)
	}
	return object(got.Data)
}

// ticket makes one, and gives it and the address in whose fragment it stood.
func (w *world) ticket(requestID string) (address, ticket string) {
	w.t.Helper()
	made := w.inFrame(`mutation($input: CreateSignTicketInput!) { createSignTicket(input: $input) { url expiresAt userErrors { code } } }`,
		map[string]any{"input": map[string]any{"requestId": requestID}})
	address, ticket, found := strings.Cut(made.text("createSignTicket.url"), "#ticket=")
	if !found || made.text("createSignTicket.expiresAt") == "" {
		w.t.Fatalf("no ticket: %v", made)
	}
	return address, ticket
}

func (b *browser) redeem(ticket string) (account, code string) {
	b.t.Helper()
	got := b.try("redeemTicket", "account { accountId }", map[string]any{"ticket": ticket})
	return got.text("account.accountId"), got.text("userErrors.0.code")
}

// A ticket leads one person to one request at one head, once. It opens nothing.
func TestTickets(t *testing.T) {
	t.Parallel()
	w, g, bob, number, requestID := framed(t)
	address, ticket := w.ticket(requestID)
	if !strings.HasPrefix(address, origin+"/sign/"+g.workspace+"/"+g.repository+"/") {
		t.Errorf("address %s", address)
	}
	if account, code := bob.redeem(ticket); code != "" || account == "" {
		t.Errorf("the first time: %q, %s", account, code)
	}
	if account, code := bob.redeem(ticket); code != "TICKET" || account != "" {
		t.Errorf("the second time: %q, %s", account, code)
	}
	for name, text := range map[string]string{"empty": "", "invented": strings.Repeat("A", 43), "long": strings.Repeat("A", 10_000)} {
		if _, code := bob.redeem(text); code != "TICKET" {
			t.Errorf("%s: %s", name, code)
		}
	}

	_, ticket = w.ticket(requestID)
	carol := w.signIn("carol")
	if account, code := carol.redeem(ticket); code != "OTHER_ACCOUNT" || account != "" {
		t.Errorf("somebody else: %q, %s", account, code)
	}
	if _, code := bob.redeem(ticket); code != "TICKET" {
		t.Errorf("after somebody else: %s", code)
	}

	_, ticket = w.ticket(requestID)
	w.sql(`update signedapproval_tickets set expires_at = now() - interval '1 second'`)
	if _, code := bob.redeem(ticket); code != "TICKET" {
		t.Errorf("too late: %s", code)
	}

	_, ticket = w.ticket(requestID)
	_, err := w.sim.Push(bitbucketsim.Push{Repository: "acme/rocket", Branch: "feature/a", Person: "alice", Files: map[string]string{"a.txt": "more\n"}})
	w.must(err)
	w.event(g, number)
	if _, code := bob.redeem(ticket); code != "HEAD_CHANGED" && code != "SUPERSEDED" {
		t.Errorf("another head: %s", code)
	}
	if _, err := w.people.TokenCaller(t.Context(), ticket); err == nil {
		t.Error("a ticket is a token")
	}
}

// Nobody is signed in: the ticket shows nothing, and only its person can sign in in that browser.
func TestATicketWaitsForItsPerson(t *testing.T) {
	t.Parallel()
	w, _, bob, _, requestID := framed(t)
	_, ticket := w.ticket(requestID)
	value, session, err := w.people.NewSession(t.Context())
	w.must(err)
	fresh := &browser{world: w, cookie: value}
	if account, code := fresh.redeem(ticket); code != "SIGN_IN" || account != "" {
		t.Errorf("signed out: %q, %s", account, code)
	}
	if got := fresh.send(`query($id: ID!) { node(id: $id) { id } }`, map[string]any{"id": requestID}); got.code() != codeUnauthenticated {
		t.Errorf("a ticket signed somebody in: %s", got.body)
	}
	for _, attempt := range []struct {
		who, code string
	}{{"carol", "OTHER_ACCOUNT"}, {"alice", "OTHER_ACCOUNT"}, {"bob", ""}} {
		authorize, err := w.people.BeginSignIn(t.Context(), session.Hash, "/sign/a/b/1")
		w.must(err)
		answer := w.consent(authorize, attempt.who)
		cookie, _, err := w.people.FinishSignIn(t.Context(), session.Hash, answer.Get("state"), answer.Get("code"), "")
		if code := refusal.Code(err); code != attempt.code {
			t.Errorf("%s signs in: %v", attempt.who, err)
		}
		if attempt.code == "" && (cookie == "" || cookie == value) {
			t.Errorf("the session's id did not change: %q", cookie)
		}
	}
	if _, err := w.people.Session(t.Context(), value); refusal.Code(err) != "NOT_FOUND" {
		t.Errorf("the session of before lives: %v", err)
	}
	// Without a session there is nothing to tie the ticket to: it keeps its use.
	_, ticket = w.ticket(requestID)
	anonymous := &browser{world: w}
	if _, code := anonymous.redeem(ticket); code != "SIGN_IN" {
		t.Errorf("no session: %s", code)
	}
	if _, code := bob.redeem(ticket); code != "" {
		t.Errorf("afterwards: %s", code)
	}
}

// A ticket that somebody else sent keeps nobody from signing in, except on the way to a sign page: and
// that it is taken back there lets nobody in who does not sign in.
func TestATicketLocksNobodyOut(t *testing.T) {
	t.Parallel()
	w, _, _, _, requestID := framed(t)
	_, ticket := w.ticket(requestID)
	value, session, err := w.people.NewSession(t.Context())
	w.must(err)
	victim := &browser{world: w, cookie: value}
	if _, code := victim.redeem(ticket); code != "SIGN_IN" {
		t.Fatalf("redeemed: %s", code)
	}
	for _, attempt := range []struct{ to, code string }{{"/sign/a/b/1", "OTHER_ACCOUNT"}, {"/pr/a/b/1", ""}} {
		authorize, err := w.people.BeginSignIn(t.Context(), session.Hash, attempt.to)
		w.must(err)
		answer := w.consent(authorize, "carol")
		if _, _, err := w.people.FinishSignIn(t.Context(), session.Hash, answer.Get("state"), answer.Get("code"), ""); refusal.Code(err) != attempt.code {
			t.Errorf("to %s: %v", attempt.to, err)
		}
	}
}

// An unconfirmed app is held to what shows how it is confirmed, whatever the form of the operation.
func TestAnUnconfirmedAppIsHeld(t *testing.T) {
	t.Parallel()
	w, g, _, _, requestID := framed(t)
	waiting := w.frames["frame"]
	waiting.Unconfirmed = true
	w.frames["waiting"] = waiting
	in := map[string]any{"w": g.workspace, "id": requestID}
	for _, query := range []string{
		`query($id: ID!) { node(id: $id) { id } }`,
		`query($id: ID!) { server { __typename } node(id: $id) { id } }`,
		`query($id: ID!) { viewer { caller } other: node(id: $id) { ... on ApprovalRequest { pullRequest { title } } } }`,
		`query($id: ID!) { viewer @skip(if: true) { caller } node(id: $id) { id } }`,
		`query($id: ID!) { ... on Query { viewer { caller } ... { node(id: $id) { id } } } }`,
		`query($id: ID!) { viewer { caller } ...F } fragment F on Query { node(id: $id) { id } }`,
		`{ viewer { waiting { edges { node { id } } } } }`,
		`{ viewer { workspaces { edges { node { requests { edges { node { id } } } } } } } }`,
		`query($w: String!) { workspace(key: $w) { repositories { edges { node { fullName } } } } }`,
		`query($w: String!) { workspace(key: $w) { ... on Node { ... on Workspace { apiTokens { id } } } } }`,
		`query($w: String!) { workspace(key: $w) { alarms { pullRequest { repository { id } } } } }`,
		`mutation($input: CreateStreamTokenInput!) { createStreamToken(input: $input) { token } }`,
	} {
		variables := map[string]any{}
		for name, value := range in {
			if strings.Contains(query, "$"+name+":") {
				variables[name] = value
			}
		}
		if strings.Contains(query, "$input") {
			variables["input"] = map[string]any{}
		}
		if got := w.script("waiting", query, variables); got.code() != codeUnconfirmed || len(got.Data) > 0 {
			t.Errorf("%s: %s", query, got.body)
		}
	}
	if body := w.overhear(`subscription { inboxChanged { caller } }`, nil, func(r *http.Request) { r.Header.Set("Authorization", "Bearer waiting") }); !strings.Contains(body, codeUnconfirmed) {
		t.Errorf("subscription: %s", body)
	}
	if got := w.script("waiting", `query($w: String!) { __typename viewer { person { name } unreadNotices } workspace(key: $w) { name viewerIsAdmin installation { state } alarms { sentence } } }`,
		map[string]any{"w": g.workspace}); len(got.Errors) > 0 {
		t.Errorf("what its confirmation needs: %s", got.body)
	}
}

// A stream token subscribes in its workspace, and nothing else.
func TestStreamTokens(t *testing.T) {
	t.Parallel()
	w, _, _, _, requestID := framed(t)
	made := w.inFrame(`mutation($input: CreateStreamTokenInput!) { createStreamToken(input: $input) { token expiresAt userErrors { code } } }`,
		map[string]any{"input": map[string]any{}})
	token := made.text("createStreamToken.token")
	show := func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
	pr := w.inFrame(`query($id: ID!) { node(id: $id) { ... on ApprovalRequest { pullRequest { id } } } }`, map[string]any{"id": requestID}).text("node.pullRequest.id")
	const follow = `subscription($id: ID!) { pullRequestChanged(id: $id) { id title } }`
	stream := listenAs(t, w.server, follow, map[string]any{"id": pr}, show)
	stream.until("the start", func(o object) bool { return o.text("pullRequestChanged.title") == "Add a" })
	stream.cancel()
	for _, query := range []string{
		`query { viewer { person { name } } }`,
		`mutation($input: CreateStreamTokenInput!) { createStreamToken(input: $input) { token } }`,
		`mutation($input: CreateSignTicketInput!) { createSignTicket(input: $input) { url } }`,
	} {
		variables := map[string]any{}
		if strings.Contains(query, "$input") {
			variables["input"] = map[string]any{}
			if strings.Contains(query, "SignTicket") {
				variables["input"] = map[string]any{"requestId": requestID}
			}
		}
		if got := w.script(token, query, variables); got.code() != codeForbidden {
			t.Errorf("%s: %s", query, got.body)
		}
	}
	w.sql(`update signedapproval_stream_tokens set expires_at = now() - interval '1 second'`)
	if body := w.overhear(follow, map[string]any{"id": pr}, show); !strings.Contains(body, codeUnauthenticated) {
		t.Errorf("an old token: %s", body)
	}
}
