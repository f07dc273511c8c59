package graph

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
)

// enrolAnother enrols a further passkey, for which the first one signs, and gives it.
func (b *browser) enrolAnother() *passkeytest.Authenticator {
	b.t.Helper()
	further := passkeytest.New(origin)
	response, err := further.Create([]byte(b.do("beginPasskey", "options", map[string]any{}).text("options")))
	b.must(err)
	act := b.do("finishPasskey", "act { statement signerSalt options }", map[string]any{"response": string(response), "name": "further"})
	for _, key := range []*passkeytest.Authenticator{further, b.key} {
		b.signsAsThemselves(act, "act.")
		response, err = key.Get([]byte(act.text("act.options")))
		b.must(err)
		act = b.do("confirmPasskey", "passkey { state } act { statement signerSalt options }", map[string]any{"response": string(response)})
	}
	if act.text("passkey.state") != "ENROLLED" {
		b.t.Fatalf("the further passkey: %v", act)
	}
	return further
}

// signs has a passkey of the browser sign something about a key.
func (b *browser) signs(about map[string]any) {
	b.t.Helper()
	act := b.do("prepareKeyAct", "act { options }", about)
	response, err := b.key.Get([]byte(act.text("act.options")))
	b.must(err)
	b.do("signKeyAct", "memberKey { id }", map[string]any{"response": string(response)})
}

const membersKeys = `query($w: String!, $wanting: Boolean) { workspace(key: $w) { keyHolders(wanting: $wanting) { edges { node { person { name } keys {
	id name state identifiedBy revokedAt compromisedSince canCountersign canRevoke
	fall { key owner { name } compromisedSince since by } acts { action by counts } } } } } } }`

const ownKeys = `{ viewer { passkeys { id name } } }`

const ownFalls = `{ viewer { passkeys { name state workspaceActs { by } falls { workspace key owner { name } compromisedSince since by } } } }`

// A page compares what it has signed about a key with the document of the row that was pressed: they are the same, byte for byte.
func TestActsNameTheKeyOfTheRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.signIn("alice"), w.signIn("bob")
	g := alice.gates(alice.connect("alice"), ruleFor(1))
	alice.enrol()
	bob.enrol()
	var key struct{ id, document string }
	listed := alice.ask(`query($w: String!) { workspace(key: $w) { keyHolders { edges { node { person { name } keys { id document } } } } } }`, map[string]any{"w": g.workspace})
	for i := range 2 {
		at := fmt.Sprintf("workspace.keyHolders.edges.%d.node.", i)
		if listed.text(at+"person.name") == "Bob" {
			key.id, key.document = listed.text(at+"keys.0.id"), listed.text(at+"keys.0.document")
		}
	}
	if own := bob.ask(`{ viewer { passkeys { document } } }`, nil).text("viewer.passkeys.0.document"); own != key.document {
		t.Errorf("his own page names %s, an administrator's %s", own, key.document)
	}
	said := func(about map[string]any) evidence.Act {
		t.Helper()
		asked := alice.do("prepareKeyAct", "act { statement signerSalt }", about)
		alice.signsAsThemselves(asked, "act.")
		statement, err := base64.RawURLEncoding.DecodeString(asked.text("act.statement"))
		alice.must(err)
		act, err := evidence.ParseAct(statement)
		alice.must(err)
		return act
	}
	vouched := said(map[string]any{"key": key.id, "action": "COUNTERSIGN"})
	if digest := sha256.Sum256([]byte(key.document)); hex.EncodeToString(digest[:]) != string(digestOfDocument(t, vouched)) {
		t.Errorf("the act is about another document than %s", key.document)
	}
	about, err := vouched.Key.Key.Digest()
	alice.must(err)
	if revoked := said(map[string]any{"key": key.id, "action": "REVOKE"}).Revocation; revoked.Key != about || revoked.Person != vouched.Key.Key.Person {
		t.Errorf("the revocation is about %+v", revoked)
	}
}

func digestOfDocument(t *testing.T, act evidence.Act) evidence.Digest {
	t.Helper()
	digest, err := act.DocumentDigest()
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

// A person's own page costs the same number of statements however many keys they have, and however many of them fell.
func TestStatementsDoNotGrowWithPasskeys(t *testing.T) {
	t.Parallel()
	statements := func(further int) (standing, fallen int64) {
		t.Helper()
		w := newWorld(t)
		alice := w.signIn("alice")
		alice.gates(alice.connect("alice"), ruleFor(1))
		alice.enrol()
		compromised := alice.ask(ownKeys, nil).text("viewer.passkeys.0.id")
		var last *passkeytest.Authenticator
		for range further {
			last = alice.enrolAnother()
		}
		standing = alice.statements(ownFalls, nil)
		alice.key = last
		alice.signs(map[string]any{"key": compromised, "action": "REVOKE", "compromisedSince": time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)})
		w.settle()
		for i := range further {
			if falls, _ := alice.ask(ownFalls, nil).at(fmt.Sprintf("viewer.passkeys.%d.falls", i)).([]any); len(falls) != 1 {
				t.Errorf("key %d of %d fell %d times", i, further, len(falls))
			}
		}
		return standing, alice.statements(ownFalls, nil)
	}
	few, fewFallen := statements(1)
	many, manyFallen := statements(8)
	if few != many || fewFallen != manyFallen {
		t.Errorf("%d statements for two keys, %d for nine; where one fell %d, where eight did %d", few, many, fewFallen, manyFallen)
	}
}

// Who has no key any more that stands cannot have a fallen one sign for another: that one would fall with it, and no
// countersignature would mend that. So it waits for an administrator.
func TestAKeyThatFellSignsForNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.signIn("alice"), w.signIn("bob")
	g := alice.gates(alice.connect("alice"), ruleFor(1))
	alice.enrol()
	bob.enrol()
	compromised := bob.ask(ownKeys, nil).text("viewer.passkeys.0.id")
	fallen := bob.enrolAnother()
	first := bob.key
	bob.key = fallen
	bob.signs(map[string]any{"key": compromised, "action": "REVOKE", "compromisedSince": time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)})
	w.settle()
	bob.key = first

	made := passkeytest.New(origin)
	options := bob.do("beginPasskey", "options", map[string]any{}).text("options")
	response, err := made.Create([]byte(options))
	w.must(err)
	act := bob.do("finishPasskey", "act { options }", map[string]any{"response": string(response)})
	response, err = made.Get([]byte(act.text("act.options")))
	w.must(err)
	confirmed := bob.do("confirmPasskey", "passkey { state } act { step options }", map[string]any{"response": string(response)})
	if confirmed.at("act") != nil || confirmed.text("passkey.state") != "WAITING_FOR_COUNTERSIGNER" {
		t.Fatalf("the new key %v", confirmed)
	}
	holders := alice.ask(membersKeys, map[string]any{"w": g.workspace, "wanting": true})
	waiting := ""
	edges, _ := holders.at("workspace.keyHolders.edges").([]any)
	for _, edge := range edges {
		keys, _ := object(edge.(map[string]any)).at("node.keys").([]any)
		for _, key := range keys {
			if k := object(key.(map[string]any)); k.text("state") == "WAITING_FOR_COUNTERSIGNER" {
				waiting = k.text("id")
			}
		}
	}
	alice.signs(map[string]any{"key": waiting, "action": "COUNTERSIGN"})
	w.settle()
	own := bob.ask(`{ viewer { passkeys { state falls { workspace } } } }`, nil)
	if falls, _ := own.at("viewer.passkeys.0.falls").([]any); own.text("viewer.passkeys.0.state") != "ENROLLED" || len(falls) > 0 {
		t.Errorf("after the countersignature: %v", own)
	}
}

// Alice's passkey vouched for Bob's and for a further one of hers. Once she says that it was in other hands before, both show
// what the roster makes of that: Bob is known by his log-in alone again, and the further passkey has fallen.
func TestKeysThatFell(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.signIn("alice"), w.signIn("bob")
	g := alice.gates(alice.connect("alice"), ruleFor(1))
	alice.enrol()
	bob.enrol()
	keysOf := func(name string) (keys object) {
		t.Helper()
		edges, _ := alice.ask(membersKeys, map[string]any{"w": g.workspace}).at("workspace.keyHolders.edges").([]any)
		for _, edge := range edges {
			if holder := object(edge.(map[string]any)); holder.text("node.person.name") == name {
				return object{"keys": holder.at("node.keys")}
			}
		}
		t.Fatalf("%s has no keys", name)
		return nil
	}
	names := [2]string{
		alice.ask(`{ viewer { person { name } } }`, nil).text("viewer.person.name"), bob.ask(`{ viewer { person { name } } }`, nil).text("viewer.person.name"),
	}
	alice.signs(map[string]any{"key": keysOf(names[1]).text("keys.0.id"), "action": "COUNTERSIGN"})
	further := alice.enrolAnother()
	if bobs := keysOf(names[1]); bobs.text("keys.0.identifiedBy") != "COUNTERSIGNER" || bobs.at("keys.0.acts.0.counts") != true || bobs.at("keys.0.fall") != nil {
		t.Errorf("Bob's key, countersigned: %v", bobs)
	}
	if hers := keysOf(names[0]); hers.text("keys.0.state") != "ENROLLED" || hers.text("keys.0.identifiedBy") != "OWN_KEY" || hers.at("keys.0.fall") != nil {
		t.Errorf("Alice's further key: %v", hers)
	}
	before := alice.statements(membersKeys, map[string]any{"w": g.workspace})

	mine := alice.ask(ownKeys, nil)
	if mine.text("viewer.passkeys.1.name") != "key" {
		t.Fatalf("Alice's passkeys %v", mine)
	}
	since := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	alice.key = further
	alice.signs(map[string]any{"key": mine.text("viewer.passkeys.1.id"), "action": "REVOKE", "compromisedSince": since})
	w.settle()

	bobs := keysOf(names[1])
	if bobs.text("keys.0.state") != "ENROLLED" || bobs.text("keys.0.identifiedBy") != "BITBUCKET_LOG_IN" || bobs.at("keys.0.fall") != nil ||
		bobs.text("keys.0.acts.0.action") != "COUNTERSIGN" || bobs.at("keys.0.acts.0.counts") != false || bobs.at("keys.0.canCountersign") != false {
		t.Errorf("Bob's key: %v", bobs)
	}
	if own := bob.ask(`{ viewer { passkeys { workspaceActs { by counts } } } }`, nil); own.at("viewer.passkeys.0.workspaceActs.0.counts") != false {
		t.Errorf("Bob sees %v", own)
	}
	hers := keysOf(names[0])
	if hers.text("keys.0.state") != "FALLEN" || hers.at("keys.0.identifiedBy") != nil || hers.at("keys.0.canCountersign") != false {
		t.Errorf("Alice's further key: %v", hers)
	}
	fall := object(map[string]any{"fall": hers.at("keys.0.fall")})
	if said, err := time.Parse(time.RFC3339, fall.text("fall.since")); err != nil || time.Since(said) > time.Hour ||
		fall.text("fall.key") != "key" || fall.text("fall.owner.name") != names[0] || fall.text("fall.by") != names[0] || fall.text("fall.compromisedSince") != since {
		t.Errorf("why it fell: %v, since %v", fall, err)
	}
	if hers.text("keys.1.state") != "REVOKED" || hers.text("keys.1.compromisedSince") != since || hers.at("keys.1.fall") != nil {
		t.Errorf("Alice's first key: %v", hers)
	}
	node := alice.ask(`query($id: ID!) { node(id: $id) { ... on MemberKey { state fall { key } } } }`, map[string]any{"id": hers.text("keys.0.id")})
	if node.text("node.state") != "FALLEN" || node.text("node.fall.key") != "key" {
		t.Errorf("the key by itself: %v", node)
	}
	// Her own page says the same of it, for the workspace.
	own := alice.ask(ownFalls, nil)
	if own.text("viewer.passkeys.0.name") != "further" || own.text("viewer.passkeys.0.state") != "ENROLLED" || len(own.at("viewer.passkeys.1.falls").([]any)) != 0 {
		t.Errorf("Alice's own keys: %v", own)
	}
	if got, want := jsonOf(own.at("viewer.passkeys.0.falls")), jsonOf([]any{map[string]any{
		"workspace": "Acme", "key": "key", "owner": map[string]any{"name": names[0]}, "compromisedSince": since, "since": fall.text("fall.since"), "by": names[0],
	}}); got != want {
		t.Errorf("her own page says %s, not %s", got, want)
	}
	if falls := bob.ask(ownFalls, nil).at("viewer.passkeys.0.falls").([]any); len(falls) != 0 {
		t.Errorf("Bob's key fell: %v", falls)
	}
	if told := alice.ask(`{ viewer { notices(first: 10) { edges { node { kind title sentence path } } } } }`, nil); told.text("viewer.notices.edges.0.node.kind") != "KEY_STOLEN" || jsonOf(told.at("viewer.notices.edges.1.node")) != jsonOf(map[string]any{
		"kind": "KEY_FALLEN", "title": "A passkey of yours counts no longer in a workspace", "path": "/settings/passkeys",
		"sentence": "“further” counts no longer in Acme, and nothing that it signed there does: a passkey that signed for it may have been in other hands by then. Your page of passkeys says which, and who said so.",
	}) {
		t.Errorf("Alice was told %v", told)
	}
	// The roster, and the names in the fall: whatever the number of keys.
	if after := alice.statements(membersKeys, map[string]any{"w": g.workspace}); after > before+12 {
		t.Errorf("%d statements, %d before the fall", after, before)
	} else {
		t.Logf("%d statements, %d before the fall", after, before)
	}
	if refused := alice.try("prepareKeyAct", "act { step }", map[string]any{"key": hers.text("keys.0.id"), "action": "COUNTERSIGN"}); refused.at("act") != nil {
		t.Errorf("a fallen key of one's own is countersigned: %v", refused)
	}
}
