package attack_test

import (
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
)

// attestation is what an authenticator and a browser gave when a key was made.
type attestation struct{ object, clientData []byte }

// attested is what an authenticator of the maker's gives about a key.
func attested(t testing.TB, m *passkeytest.Maker, key evidence.Key) attestation {
	t.Helper()
	hash := sha256.Sum256([]byte(page.ID))
	data := append(hash[:], 0x45, 0, 0, 0, 0) // user present and verified, with a key
	data = append(data, make([]byte, 16)...)  // for the model
	data = binary.BigEndian.AppendUint16(data, uint16(len(key.CredentialID)))
	data = append(append(data, key.CredentialID...), key.PublicKey...)
	created := []byte(`{"type":"webauthn.create"}`)
	object, err := m.Attest(data, created)
	must(t, err)
	return attestation{object, created}
}

// model is of which model a key is, by the metadata that everybody has.
func (o *operator) model(credential []byte) string {
	o.t.Helper()
	for id, e := range o.enrolled {
		if id != string(credential) {
			continue
		}
		act, err := evidence.ParseAct(e.Enrolment.Act)
		must(o.t, err)
		if m, err := e.Enrolment.Model(act.Key.Key, o.models); err == nil {
			return m.AAGUID
		}
	}
	return ""
}

// claimed is a claim that dave's key, which is software, is of the model that the rule asks for, as bob's is; attest makes
// what the operator, with whom dave is in league, enrols it by. Untouched, the evidence says that dave does not count.
func claimed(attest func(t testing.TB, genuine *passkeytest.Maker, c *cast) (attestation, bool)) func(t *testing.T) []string {
	return func(t *testing.T) []string {
		genuine, err := passkeytest.NewMaker([16]byte{1})
		must(t, err)
		c := &cast{operator: newOperator(t), t: t, bob: newPerson(t, "bob", ""), dave: newPerson(t, "dave", ""), mallory: newPerson(t, "mallory", "")}
		c.policy = policyOf(2)
		c.policy.Rules[0].Keys = &approval.KeyDemand{Models: []string{genuine.Model}}
		c.models = &evidence.Models{Number: 7, NextUpdate: "2026-06-01", Entries: []evidence.Model{
			{AAGUID: genuine.Model, Description: "Example Key", Roots: []evidence.Bytes{genuine.Root.Raw}, Statuses: []string{"FIDO_CERTIFIED_L2"}},
		}}
		c.attestations = map[string]attestation{string(c.bob.key.CredentialID): attested(t, genuine, c.bob.key)}
		if made, ok := attest(t, genuine, c); ok {
			c.attestations[string(c.dave.key.CredentialID)] = made
		}
		c.policyLeaf()
		c.enrol(c.bob)
		c.enrol(c.dave)
		c.pinned = c.anchors()
		c.pinned.Models = c.models
		c.open("new")
		c.decide(c.bob, evidence.Approve)
		c.decide(c.dave, evidence.Approve)
		c.control(c.operator)
		if q := c.make().verdict.Requirements[0]; len(q.Counted) != 1 || len(q.Ignored) != 1 || q.Ignored[0].Reason != approval.UnprovedModel {
			t.Fatalf("the control: %+v", q)
		}
		forged := c.twin()
		forged.facts = func(f *approval.Facts) {
			for i, d := range f.Decisions {
				if d.PersonID == "per-dave" {
					f.Decisions[i].Model = genuine.Model
				}
			}
		}
		if v := forged.make().verdict; v.State != approval.Approved {
			t.Fatalf("the forgery is no use: %s", v.Sentence)
		}
		anchors := unwitnessed(c.pinned)
		got := []string{verify(forged.bundle(), anchors)}
		anchors.Models = nil
		return append(got, verify(forged.bundle(), anchors))
	}
}

func onModels() []attack {
	const refused = "step 10 facts: attestation"
	return []attack{
		{
			wants: "claim that a software key is of a model that a rule asks for: without an attestation", caught: []string{refused, refused},
			try: claimed(func(testing.TB, *passkeytest.Maker, *cast) (attestation, bool) { return attestation{}, false }),
		},
		{
			wants: "claim that a software key is of a model that a rule asks for: by the attestation of another key", caught: []string{refused, refused},
			try: claimed(func(t testing.TB, genuine *passkeytest.Maker, c *cast) (attestation, bool) {
				other := c.mallory.key // in a genuine authenticator, under dave's credential id
				other.CredentialID = c.dave.key.CredentialID
				return attested(t, genuine, other), true
			}),
		},
		{
			wants: "claim that a software key is of a model that a rule asks for: by the attestation of another enrolment", caught: []string{refused, refused},
			try: claimed(func(_ testing.TB, _ *passkeytest.Maker, c *cast) (attestation, bool) {
				return c.attestations[string(c.bob.key.CredentialID)], true
			}),
		},
		{
			wants:  "claim that a software key is of a model that a rule asks for: by certificates of its own",
			caught: []string{refused, "exit 2: no models"},
			try: claimed(func(t testing.TB, genuine *passkeytest.Maker, c *cast) (attestation, bool) {
				own, err := passkeytest.NewMaker([16]byte{1})
				must(t, err)
				if own.Model != genuine.Model {
					t.Fatalf("another model, %s", own.Model)
				}
				return attested(t, own, c.dave.key), true
			}),
		},
	}
}
