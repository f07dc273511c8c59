package graph

import (
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// signsAsThemselves makes sure that what a browser is asked to sign commits to its own viewer, and that the salt tells.
func (b *browser) signsAsThemselves(asked object, at string) {
	b.t.Helper()
	statement, err := base64.RawURLEncoding.DecodeString(asked.text(at + "statement"))
	b.must(err)
	var said struct {
		Predicate struct{ Signer, Approver evidence.Party }
	}
	b.must(json.Unmarshal(statement, &said))
	commitment := said.Predicate.Signer.Commitment + said.Predicate.Approver.Commitment // either is there
	salt, err := base64.RawURLEncoding.DecodeString(asked.text(at + "signerSalt"))
	b.must(err)
	viewer := b.ask(`{ viewer { person { accountId name } } }`, nil)
	opening := evidence.PersonOpening{Salt: salt, AccountID: viewer.text("viewer.person.accountId"), Name: viewer.text("viewer.person.name")}
	if err := opening.Verify(commitment); err != nil {
		b.t.Errorf("what is to be signed names somebody else than %s: %v", opening.Name, err)
	}
}

// Whoever signs anything can tell that it is signed for their own account.
func TestWhoSignsCanTellThatItIsThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.signIn("alice"), w.signIn("bob")
	alice.gates(alice.connect("alice"), ruleFor(1))
	alice.enrol()
	const act = "act { statement signerSalt options }"
	response, err := bob.key.Create([]byte(bob.do("beginPasskey", "options", map[string]any{}).text("options")))
	bob.must(err)
	made := bob.do("finishPasskey", "passkey { id } "+act, map[string]any{"response": string(response)})
	bob.signsAsThemselves(made, "act.")
	made = bob.do("continuePasskey", "passkey { id } "+act, map[string]any{"id": made.text("passkey.id")})
	bob.signsAsThemselves(made, "act.")
	response, err = bob.key.Get([]byte(made.text("act.options")))
	bob.must(err)
	bob.do("confirmPasskey", "passkey { state }", map[string]any{"response": string(response)})
	bob.signsAsThemselves(bob.do("prepareKeyAct", act, map[string]any{"key": made.text("passkey.id"), "action": "REVOKE"}), "act.")
}
