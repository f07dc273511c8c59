package graph

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/uuid"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/gate"
)

// maker makes authenticators of one model, and attests their keys.
type maker struct {
	t      *testing.T
	aaguid uuid.UUID
	key    *ecdsa.PrivateKey
	root   *x509.Certificate
}

func newMaker(t *testing.T, aaguid string) *maker {
	t.Helper()
	m := &maker{t: t, aaguid: uuid.MustParse(aaguid), key: newECDSA(t)}
	m.root = m.certify(&x509.Certificate{
		Subject: pkix.Name{CommonName: "Root"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, m.key)
	return m
}

func newECDSA(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (m *maker) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// certify signs with the maker's key; the first certificate is its own.
func (m *maker) certify(c *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	m.t.Helper()
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	parent := m.root
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), m.key)
	m.must(err)
	made, err := x509.ParseCertificate(der)
	m.must(err)
	return made
}

// attest makes of a browser's answer that of an authenticator of the model.
func (m *maker) attest(response []byte) []byte {
	m.t.Helper()
	var answer map[string]any
	m.must(json.Unmarshal(response, &answer))
	inner, _ := answer["response"].(map[string]any)
	decode := func(name string) []byte {
		text, _ := inner[name].(string)
		data, err := base64.RawURLEncoding.DecodeString(text)
		m.must(err)
		return data
	}
	var object struct {
		AuthData []byte `cbor:"authData"`
	}
	m.must(cbor.Unmarshal(decode("attestationObject"), &object))
	copy(object.AuthData[37:], m.aaguid[:]) // after the hash of the relying party, the flags and the counter

	extension, err := asn1.Marshal(m.aaguid[:])
	m.must(err)
	key := newECDSA(m.t)
	leaf := m.certify(&x509.Certificate{
		Subject:               pkix.Name{Country: []string{"US"}, Organization: []string{"Maker"}, OrganizationalUnit: []string{"Authenticator Attestation"}, CommonName: "Model"},
		BasicConstraintsValid: true, ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 45724, 1, 1, 4}, Value: extension}},
	}, key)
	clientData := sha256.Sum256(decode("clientDataJSON"))
	signed := sha256.Sum256(append(slices.Clone(object.AuthData), clientData[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, key, signed[:])
	m.must(err)
	mode, err := cbor.CTAP2EncOptions().EncMode()
	m.must(err)
	attested, err := mode.Marshal(map[string]any{
		"fmt": "packed", "authData": object.AuthData, "attStmt": map[string]any{"alg": -7, "sig": signature, "x5c": [][]byte{leaf.Raw}},
	})
	m.must(err)
	inner["attestationObject"] = base64.RawURLEncoding.EncodeToString(attested)
	made, err := json.Marshal(answer)
	m.must(err)
	return made
}

const (
	example = "11111111-2222-3333-4444-555555555555"
	second  = "22222222-2222-3333-4444-555555555555"
	spoiled = "33333333-2222-3333-4444-555555555555"
)

func snapshot(m *maker) *evidence.Models {
	of := func(aaguid, description string, statuses ...string) evidence.Model {
		return evidence.Model{AAGUID: aaguid, Description: description, Roots: []evidence.Bytes{m.root.Raw}, Statuses: statuses}
	}
	return &evidence.Models{Number: 7, NextUpdate: "2026-12-01", Entries: []evidence.Model{
		of(example, "Example Key"), of(second, "Second Key"), of(spoiled, "Broken Key", "REVOKED"),
	}}
}

const keysOfRule = `query($id: ID!) { node(id: $id) { ... on Repository { policy { rules { keys { countersigned models { aaguid description } } } } } } }`

// What a rule asks of keys is saved and read as it was said, and what it cannot ask for is refused at its place.
func TestWhatARuleAsksOfKeys(t *testing.T) {
	t.Parallel()
	w := newWorldWith(t, snapshot(newMaker(t, example)))
	alice := w.signIn("alice")
	asking := func(keys map[string]any) map[string]any {
		rule := ruleFor(1)
		rule["keys"] = keys
		return rule
	}
	g := alice.gates(alice.connect("alice"), asking(map[string]any{"countersigned": true, "models": []string{second, example}}))
	save := func(rules ...map[string]any) object {
		t.Helper()
		return alice.try("saveRepository", "repository { id }", map[string]any{"workspaceId": g.workspaceID, "repositoryUuid": g.repository, "rules": rules})
	}
	kept := func(want string) {
		t.Helper()
		if got := alice.ask(keysOfRule, map[string]any{"id": g.repositoryID}).at("node.policy.rules.0.keys"); jsonOf(got) != want {
			t.Errorf("the rule asks for %s, want %s", jsonOf(got), want)
		}
	}
	both := `{"countersigned":true,"models":[{"aaguid":"` + example + `","description":"Example Key"},{"aaguid":"` + second + `","description":"Second Key"}]}`
	kept(both)

	if got := jsonOf(alice.ask(`{ server { models { aaguid description } } }`, nil).at("server.models")); got !=
		`[{"aaguid":"`+example+`","description":"Example Key"},{"aaguid":"`+second+`","description":"Second Key"}]` {
		t.Errorf("the server proves %s", got)
	}
	if asked := alice.ask(`{ server { origin } }`, nil); asked.text("server.origin") == "" {
		t.Errorf("the server is %v", asked)
	}
	anonymous := &browser{world: w}
	if got := anonymous.send(`{ server { models { aaguid } } }`, nil); got.code() != codeUnauthenticated {
		t.Errorf("anonymous: %s", got.body)
	}

	many := make([]string, 65)
	for i := range many {
		many[i] = fmt.Sprintf("%08x-0000-0000-0000-000000000001", i)
	}
	for _, test := range []struct {
		name       string
		keys       map[string]any
		code, path string
	}{
		{"nothing", map[string]any{}, "KEYS", "[rules 0 keys]"},
		{"unknown", map[string]any{"models": []string{example, strings.Replace(second, "2", "4", 1)}}, "UNKNOWN_MODEL", "[rules 0 keys models 1]"},
		{"spoiled", map[string]any{"models": []string{spoiled}}, "UNKNOWN_MODEL", "[rules 0 keys models 0]"},
		{"not an AAGUID", map[string]any{"models": []string{"Example Key"}}, "MODEL", "[rules 0 keys models 0]"},
		{"of zeros", map[string]any{"models": []string{uuid.Nil.String()}}, "MODEL", "[rules 0 keys models 0]"},
		{"twice", map[string]any{"models": []string{example, example}}, "DUPLICATE", "[rules 0 keys models 1]"},
		{"too many", map[string]any{"models": many}, "COUNT", "[rules 0 keys models]"},
	} {
		refused := save(asking(test.keys))
		if refused.text("userErrors.0.code") != test.code || fmt.Sprint(refused.at("userErrors.0.path")) != test.path || refused["repository"] != nil {
			t.Errorf("%s: %v, want %s at %s", test.name, refused, test.code, test.path)
		}
	}
	kept(both)

	if saved := save(asking(map[string]any{"countersigned": true})); saved.text("repository.id") == "" {
		t.Errorf("countersigned alone: %v", saved)
	}
	kept(`{"countersigned":true,"models":[]}`)
	if saved := save(ruleFor(1)); saved.text("repository.id") == "" {
		t.Errorf("nothing asked: %v", saved)
	}
	kept(`null`)
}

// Without a snapshot no model can be asked for, and none is proved.
func TestModelsNeedASnapshot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.signIn("alice")
	g := alice.gates(alice.connect("alice"), ruleFor(1))
	if got := jsonOf(alice.ask(`{ server { models { aaguid } } }`, nil).at("server.models")); got != "[]" {
		t.Errorf("the server proves %s", got)
	}
	rule := ruleFor(1)
	rule["keys"] = map[string]any{"models": []string{example}}
	refused := alice.try("saveRepository", "repository { id }", map[string]any{"workspaceId": g.workspaceID, "repositoryUuid": g.repository, "rules": []any{rule}})
	if refused.text("userErrors.0.code") != "UNKNOWN_MODEL" {
		t.Errorf("refused as %v", refused)
	}
	alice.enrolAs(newMaker(t, example).attest)
	if got := alice.ask(`{ viewer { passkeys { model provedModel { aaguid } } } }`, nil); got.text("viewer.passkeys.0.model") != example ||
		got.at("viewer.passkeys.0.provedModel") != nil {
		t.Errorf("her key is %v", got)
	}
}

// A key is of the model that its attestation proves, and one that only names itself does not count.
func TestProvedModel(t *testing.T) {
	t.Parallel()
	made := newMaker(t, example)
	w := newWorldWith(t, snapshot(made))
	alice, bob, carol := w.signIn("alice"), w.signIn("bob"), w.signIn("carol")
	rule := ruleFor(1)
	rule["keys"] = map[string]any{"models": []string{example}}
	g := alice.gates(alice.connect("alice"), rule)
	bob.enrolAs(newMaker(t, example).attest) // by somebody else's certificates
	carol.enrolAs(made.attest)

	const own = `{ viewer { passkeys { model provedModel { aaguid description } } } }`
	if got := bob.ask(own, nil); got.text("viewer.passkeys.0.model") != example || got.at("viewer.passkeys.0.provedModel") != nil {
		t.Errorf("bob's key is %v", got)
	}
	want := `{"aaguid":"` + example + `","description":"Example Key"}`
	if got := carol.ask(own, nil); jsonOf(got.at("viewer.passkeys.0.provedModel")) != want {
		t.Errorf("carol's key is %v", got)
	}
	holders := alice.ask(`query($id: ID!) { node(id: $id) { ... on Workspace { keyHolders { edges { node { person { name } keys { provedModel { aaguid description } } } } } } } }`,
		map[string]any{"id": g.workspaceID})
	proved := map[string]string{}
	for i := range 2 {
		at := fmt.Sprintf("node.keyHolders.edges.%d.node.", i)
		proved[strings.ToLower(strings.Fields(holders.text(at+"person.name") + " ?")[0])] = jsonOf(holders.at(at + "keys.0.provedModel"))
	}
	if proved["bob"] != "null" || proved["carol"] != want {
		t.Errorf("the members' keys are %v", holders)
	}

	number := w.open(g, "feature/a", "Add a")
	const query = `query($w: String!, $r: String!, $n: Int!) { pullRequest(workspace: $w, repository: $r, number: $n) { request {
		id state sentence rule { keys { models { description } } } requirements { ignored { code sentence } } } } }`
	where := map[string]any{"w": g.workspace, "r": g.repository, "n": number}
	request := bob.ask(query, where).text("pullRequest.request.id")
	bob.decide(request, "APPROVE")
	w.settle()
	seen := bob.ask(query, where)
	if seen.text("pullRequest.request.state") != "PENDING" || !strings.Contains(jsonOf(seen.at("pullRequest.request.requirements.0.ignored")), "not proved to be one of the models") ||
		seen.text("pullRequest.request.rule.keys.models.0.description") != "Example Key" {
		t.Errorf("after bob: %v", seen)
	}
	carol.decide(request, "APPROVE")
	w.settle()
	if seen := carol.ask(query, where); seen.text("pullRequest.request.state") != "APPROVED" {
		t.Errorf("after carol: %v", seen)
	}
}

// What is proposed names each model as its maker does, and by its AAGUID.
func TestProposedModelsAreNamed(t *testing.T) {
	t.Parallel()
	r := &resolver{gate: &gate.Gate{Models: snapshot(newMaker(t, example))}}
	unknown := strings.Replace(example, "1", "9", 1)
	said := r.ruleSentence(approval.Rule{Keys: &approval.KeyDemand{Countersigned: true, Models: []string{example, unknown}}}, nil)
	if want := "; only passkeys count that are proved to be of 2 models: “Example Key” (" + example + "), " + unknown + ";"; !strings.Contains(said, want) ||
		!strings.Contains(said, "; only passkeys count for which somebody else vouched;") {
		t.Errorf("it says %q", said)
	}
}
