package evidence_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// since plays from the workspace's first leaf on, with a lie in it.
func since(lie func(w *world)) func(t *testing.T) ([]byte, evidence.Anchors) {
	return func(t *testing.T) ([]byte, evidence.Anchors) {
		t.Helper()
		w := bareWorld(t)
		lie(w)
		if w.genesis == nil {
			w.begin()
		}
		if len(w.entries) == 0 {
			w.story()
		}
		return w.encoded(), w.anchors()
	}
}

// known plays a story and then tells what the verifier knows.
func known(tell func(w *world, a *evidence.Anchors)) func(t *testing.T) ([]byte, evidence.Anchors) {
	return func(t *testing.T) ([]byte, evidence.Anchors) {
		t.Helper()
		w := newWorld(t)
		a := w.anchors()
		tell(w, &a)
		return w.encoded(), a
	}
}

// heldSince has the last decision of what happens signed before all of it: what its signer is shown is of now.
func (w *world) heldSince(happens func()) {
	at := int64(len(w.entries))
	w.tamperStatement = func(s *evidence.Statement) {
		if s.Purpose != evidence.Reject {
			s.ChainHead.Sequence, s.ChainHead.Leaf = at, evidence.LeafDigest(w.entries[at-1])
		}
	}
	happens()
}

// only applies a change to the act of one purpose.
func only(p evidence.Purpose, change func(a *evidence.Act)) func(a *evidence.Act) {
	return func(a *evidence.Act) {
		if a.Purpose == p {
			change(a)
		}
	}
}

// moving is rosterStory told with a lie about its acts.
func moving(lie func(w *world)) func(t *testing.T) ([]byte, evidence.Anchors) {
	return told(func(w *world) {
		lie(w)
		rosterStory(w)
	})
}

func edited(text string, old, new string) json.RawMessage {
	if !strings.Contains(text, old) {
		panic(old)
	}
	return json.RawMessage(strings.Replace(text, old, new, 1))
}

// proofForgeries are lies about the roster and the log.
func proofForgeries() []forged {
	roster := []forged{
		{"no genesis", altered(func(b *evidence.Bundle) { b.Genesis = nil }), "roster", evidence.CodeMalformed},
		{"a genesis that is something else", altered(func(b *evidence.Bundle) { b.Genesis = b.Log.Roster.Entry }), "roster", evidence.CodeRoster},
		{"a genesis for another salt", since(func(w *world) {
			w.tamperLeaf = func(l *evidence.Leaf) {
				if l.Body.Type() == evidence.TypeGenesis {
					l.Body = evidence.Genesis{Salt: digestOf("another salt")}
				}
			}
		}), "roster", evidence.CodeRoster},
		{"a genesis of another workspace", since(func(w *world) {
			w.tamperLeaf = func(l *evidence.Leaf) {
				if l.Body.Type() == evidence.TypeGenesis {
					l.Workspace = digestOf("another workspace")
				}
			}
		}), "roster", evidence.CodeRoster},
		{"a roster change that is none", altered(func(b *evidence.Bundle) { b.Roster[0] = json.RawMessage(`{}`) }), "roster", evidence.CodeNotCanonical},
		{"a roster change in another form", altered(func(b *evidence.Bundle) {
			b.Roster[0] = edited(string(b.Roster[0]), `"version":1`, `"version":1,"x":1`)
		}), "roster", evidence.CodeMalformed},
		{"a roster change left out", altered(func(b *evidence.Bundle) { b.Roster = append(b.Roster[:1:1], b.Roster[2:]...) }), "roster", evidence.CodeRoster},
		{"a roster from another genesis", altered(func(b *evidence.Bundle) {
			b.Roster[0] = edited(string(b.Roster[0]), `"previous":"`, `"previous":"0`)
		}), "roster", evidence.CodeInvalid},
		{"a roster of another workspace", since(func(w *world) {
			w.tamperChange = func(c *evidence.RosterChange) { c.Workspace = repositoryUUID }
		}), "roster", evidence.CodeRoster},
		{"a roster with two workspaces", since(func(w *world) {
			w.tamperChange = func(c *evidence.RosterChange) {
				if c.Version == 2 {
					c.Workspace = repositoryUUID
				}
			}
		}), "roster", evidence.CodeRoster},
		{"a roster that starts at 2", since(func(w *world) {
			w.tamperChange = func(c *evidence.RosterChange) { c.Version++ }
		}), "roster", evidence.CodeRoster},
		{"a roster with another history", since(func(w *world) {
			w.tamperChange = func(c *evidence.RosterChange) {
				if c.Version == 2 {
					c.Previous = digestOf("another version")
				}
			}
		}), "roster", evidence.CodeRoster},
		{"a public key twice", told(func(w *world) {
			k := es256(w.t, "erin")
			k.key.PublicKey = w.tokens["bob"].key.PublicKey
			w.tokens["erin"] = k
			w.enrol("erin", nil, nil)
		}), "roster", evidence.CodeRoster},
		{"a credential id twice", told(func(w *world) {
			k := es256(w.t, "erin")
			k.key.CredentialID = w.tokens["bob"].key.CredentialID
			w.tokens["erin"] = k
			w.enrol("erin", nil, nil)
		}), "roster", evidence.CodeRoster},
		{"a revocation of a key that is absent", told(func(w *world) {
			w.tokens["erin"] = es256(w.t, "erin")
			w.revoke("erin", nil, nil)
		}), "roster", evidence.CodeRoster},
		{"a key revoked twice", told(func(w *world) {
			w.story()
			w.revoke("bob", nil, nil)
			w.revoke("bob", nil, nil)
		}), "roster", evidence.CodeRoster},
		{"a signer who is not in the roster", told(func(w *world) { w.vouch("carol", es256(w.t, "stranger")) }), "roster", evidence.CodeRoster},
		{"a signer who was revoked", told(func(w *world) {
			w.revoke("bob", nil, nil)
			w.vouch("carol", w.tokens["bob"])
		}), "roster", evidence.CodeRoster},
		{"somebody else's key as one's own", told(func(w *world) {
			w.tokens["erin"] = es256(w.t, "erin")
			w.enrol("erin", w.token("bob"), nil)
		}), "roster", evidence.CodeRoster},

		{"an enrolment left out", altered(func(b *evidence.Bundle) { b.Enrolments = b.Enrolments[1:] }), "roster", evidence.CodeRoster},
		{"an enrolment too many", altered(func(b *evidence.Bundle) { b.Enrolments = append(b.Enrolments, b.Enrolments[0]) }), "roster", evidence.CodeRoster},
		{"an act too many", altered(func(b *evidence.Bundle) {
			b.SignedActs = []evidence.SignedAct{*b.Enrolments[2].Enrolment.Countersigned}
		}), "roster", evidence.CodeRoster},
		{"an enrolment that is not the one", altered(func(b *evidence.Bundle) { b.Enrolments[0].Enrolment.AttestationObject = []byte("x") }), "roster", evidence.CodeRoster},
		{"an enrolment that is not signed by its key", since(func(w *world) {
			w.tamperEnrolment = func(e *evidence.Enrolment) {
				e.Possession = es256(w.t, "stranger").assert(ordinary(e.Act))
				e.Possession.CredentialID = w.tokens["bob"].key.CredentialID
			}
		}), "roster", evidence.CodeSignature},
		{"a ghost key by a log-in beside the person's own", told(func(w *world) { w.another("bob") }), "roster", evidence.CodeRoster},
		{"a ghost key by a log-in after the person's own was revoked", told(func(w *world) {
			w.revoke("bob", nil, nil)
			w.another("bob")
		}), "roster", evidence.CodeRoster},
		{"a ghost key that was never shown to exist", since(func(w *world) {
			w.tamperEnrolment = func(e *evidence.Enrolment) {
				e.Possession = w.tokens["bob"].assert(ordinary(e.Act))
			}
			w.begin()
			w.open("old")
			w.decide("carol", evidence.Approve)
		}), "roster", evidence.CodeSignature},
		{"an enrolment whose act is none", since(func(w *world) {
			w.tamperEnrolment = func(e *evidence.Enrolment) { e.Act = []byte("{}") }
		}), "roster", evidence.CodeNotCanonical},
		{"an enrolment of another key", since(func(w *world) {
			w.tamperAct = only(evidence.Enrol, func(a *evidence.Act) { a.Key.Key.BackupEligible = true })
		}), "roster", evidence.CodeRoster},
		{"an enrolment that is a revocation", since(func(w *world) {
			w.tamperAct = only(evidence.Enrol, func(a *evidence.Act) {
				a.Purpose, a.Revocation = evidence.Revoke, &evidence.RevocationDocument{Person: a.Key.Key.Person, Key: digestOfKey(w.t, a.Key.Key)}
				a.Key = nil
			})
		}), "roster", evidence.CodeRoster},
		{"another attestation object", since(func(w *world) {
			w.tamperEnrolment = func(e *evidence.Enrolment) { e.AttestationObject = []byte("another") }
		}), "roster", evidence.CodeRoster},
		{"other client data", since(func(w *world) {
			w.tamperEnrolment = func(e *evidence.Enrolment) { e.ClientDataJSON = []byte("another") }
		}), "roster", evidence.CodeRoster},
		{"an enrolment on another page than it says", since(func(w *world) {
			w.tamperEnrolment = func(e *evidence.Enrolment) {
				c := ordinary(e.Act)
				c.clientData = strings.Replace(c.clientData, rp.Origin, "https://evil.example", 1)
				e.Possession = w.tokens["bob"].assert(c)
			}
		}), "roster", evidence.CodeOrigin},
		{"a countersignature that is not told", since(func(w *world) {
			w.tamperChange = func(c *evidence.RosterChange) {
				if c.By == evidence.ByCountersigner {
					c.By, c.Signer, c.IssuedAt = evidence.ByLogIn, "", nil
				}
			}
		}), "roster", evidence.CodeRoster},
		{"a log-in told as a countersignature", since(func(w *world) {
			w.tamperChange = func(c *evidence.RosterChange) {
				if c.Version == 2 {
					c.By, c.Signer, c.IssuedAt = evidence.ByCountersigner, digestOfKey(w.t, w.tokens["bob"].key), &w.now
				}
			}
		}), "roster", evidence.CodeRoster},
		{"an own key's word that it did not give", told(func(w *world) {
			w.tamperEnrolment = func(e *evidence.Enrolment) {
				a := es256(w.t, "stranger").assert(ordinary(e.Act))
				a.CredentialID = w.tokens["bob"].key.CredentialID
				e.Authority = &a
			}
			w.second("bob")
			w.signedBy = func(person string) token { return w.tokens[person+"2"] }
			w.open("old")
			w.decide("bob", evidence.Approve)
		}), "roster", evidence.CodeSignature},
		{"a countersignature by a stranger", since(func(w *world) {
			w.tamperEnrolment = func(e *evidence.Enrolment) {
				if e.Countersigned != nil {
					e.Countersigned.Assertion = es256(w.t, "stranger").assert(ordinary(e.Countersigned.Act))
					e.Countersigned.Assertion.CredentialID = w.tokens["bob"].key.CredentialID
				}
			}
		}), "roster", evidence.CodeSignature},
		{"a countersignature that is no act", since(func(w *world) {
			w.tamperEnrolment = func(e *evidence.Enrolment) {
				if e.Countersigned != nil {
					e.Countersigned.Act = []byte("{}")
				}
			}
		}), "roster", evidence.CodeNotCanonical},
		{"a countersignature for another workspace", since(func(w *world) {
			w.tamperAct = only(evidence.Countersign, func(a *evidence.Act) { a.Workspace = repositoryUUID })
		}), "roster", evidence.CodeRoster},
		{"a countersignature under another roster", since(func(w *world) {
			w.tamperAct = only(evidence.Countersign, func(a *evidence.Act) { a.Roster = digestOf("another") })
		}), "roster", evidence.CodeRoster},
		{"a countersignature of another ceremony", moving(func(w *world) {
			w.tamperAct = only(evidence.Countersign, func(a *evidence.Act) {
				document := *a.Key
				document.ClientData = digestOf("another")
				a.Key = &document
			})
		}), "roster", evidence.CodeRoster},
		{"a revocation as a countersignature", moving(func(w *world) {
			w.tamperAct = only(evidence.Countersign, func(a *evidence.Act) {
				a.Purpose, a.Revocation = evidence.Revoke, &evidence.RevocationDocument{Person: a.Key.Key.Person, Key: digestOfKey(w.t, a.Key.Key)}
				a.Key = nil
			})
		}), "roster", evidence.CodeRoster},
		{"an act that is not the one", told(func(w *world) {
			rosterStory(w)
			for digest, signed := range w.acts {
				signed.Assertion.UserHandle = []byte("x")
				w.acts[digest] = signed
			}
		}), "roster", evidence.CodeRoster},
		{"an act by a stranger", moving(func(w *world) {
			w.tamperSigned = func(s *evidence.SignedAct) {
				id := s.Assertion.CredentialID
				s.Assertion = es256(w.t, "stranger").assert(ordinary(s.Act))
				s.Assertion.CredentialID = id
			}
		}), "roster", evidence.CodeSignature},
		{"a countersignature as a revocation", told(func(w *world) {
			w.tamperAct = func(a *evidence.Act) {
				if a.Purpose == evidence.Revoke {
					enrolled, err := evidence.ParseAct(w.enrolled[string(w.tokens["carol"].key.CredentialID)].Enrolment.Act)
					w.must(err)
					a.Purpose, a.Revocation, a.Key = evidence.Countersign, nil, enrolled.Key
				}
			}
			w.story()
			w.revoke("carol", w.token("bob"), nil)
		}), "roster", evidence.CodeRoster},
		{"an agreement of a stranger", told(func(w *world) {
			w.story()
			w.revoke("carol", w.token("bob"), nil, es256(w.t, "stranger"))
		}), "roster", evidence.CodeRoster},
		{"an agreement that is not the one", told(func(w *world) {
			w.story()
			w.revoke("carol", w.token("bob"), nil, w.tokens["dave"])
			agreed := w.acts[w.versions()[len(w.roster)-1].Agreed[0].Proof]
			agreed.Assertion.UserHandle = []byte("x")
			w.acts[w.versions()[len(w.roster)-1].Agreed[0].Proof] = agreed
		}), "roster", evidence.CodeRoster},
		{"an agreement that nobody signed", told(func(w *world) {
			w.tamperAgreed = func(s *evidence.SignedAct) {
				id := s.Assertion.CredentialID
				s.Assertion = es256(w.t, "stranger").assert(ordinary(s.Act))
				s.Assertion.CredentialID = id
			}
			w.story()
			w.revoke("carol", w.token("bob"), nil, w.tokens["dave"])
		}), "roster", evidence.CodeSignature},
		{"an agreement to vouch for another ceremony", told(func(w *world) {
			w.tamperAct = func(a *evidence.Act) {
				if a.Purpose == evidence.Countersign && a.Signer.Person == "per-dave" {
					document := *a.Key
					document.ClientData = digestOf("another")
					a.Key = &document
				}
			}
			w.vouch("carol", w.tokens["bob"], w.tokens["dave"])
			w.story()
		}), "roster", evidence.CodeRoster},
		{"a revocation of another person's key", told(func(w *world) {
			w.tamperAct = only(evidence.Revoke, func(a *evidence.Act) { a.Revocation.Person = "per-dave" })
			w.story()
			w.revoke("carol", w.token("bob"), nil)
		}), "roster", evidence.CodeRoster},
		{"a revocation of another key", told(func(w *world) {
			w.tamperAct = only(evidence.Revoke, func(a *evidence.Act) { a.Revocation.Key = digestOf("another") })
			w.story()
			w.revoke("carol", w.token("bob"), nil)
		}), "roster", evidence.CodeRoster},
		{"a revocation for another workspace", told(func(w *world) {
			w.tamperAct = only(evidence.Revoke, func(a *evidence.Act) { a.Workspace = repositoryUUID })
			w.story()
			w.revoke("carol", w.token("bob"), nil)
		}), "roster", evidence.CodeRoster},
		{"a revocation under a later roster", told(func(w *world) {
			w.story()
			w.tamperAct = only(evidence.Revoke, func(a *evidence.Act) { a.Roster = digestOf("later") })
			w.revoke("carol", w.token("bob"), nil)
		}), "roster", evidence.CodeRoster},
		{"a theft that nobody signed", told(func(w *world) {
			at := w.tick()
			w.story()
			w.tamperChange = func(c *evidence.RosterChange) { c.CompromisedSince = &at }
			w.revoke("carol", w.token("bob"), nil)
		}), "roster", evidence.CodeRoster},
		{"a theft at another time", told(func(w *world) {
			at := w.tick()
			w.story()
			later := w.tick()
			w.tamperChange = func(c *evidence.RosterChange) { c.CompromisedSince = &later }
			w.revoke("carol", w.token("bob"), &at)
		}), "roster", evidence.CodeRoster},
		{"a key that was signed for at another time than the roster says", told(func(w *world) {
			at := w.tick()
			w.tamperChange = func(c *evidence.RosterChange) {
				if c.IssuedAt != nil {
					c.IssuedAt = &at // before the theft that will be reported
				}
			}
			w.second("bob")
			w.signedBy = func(person string) token { return w.tokens[person+"2"] }
			w.open("old")
			w.decide("bob", evidence.Approve)
		}), "roster", evidence.CodeRoster},
		{"a countersignature at another time than the roster says", told(func(w *world) {
			at := w.tick()
			w.tamperChange = func(c *evidence.RosterChange) { c.IssuedAt = &at }
			w.vouch("carol", w.tokens["dave"])
			w.story()
		}), "roster", evidence.CodeRoster},
		{"an agreement that was asked for at another time", told(func(w *world) {
			w.story()
			w.tamperChange = func(c *evidence.RosterChange) { c.Agreed[0].IssuedAt = c.Agreed[0].IssuedAt.Add(-time.Second) }
			w.revoke("carol", w.token("bob"), nil, w.tokens["dave"])
		}), "roster", evidence.CodeRoster},
		{"a revocation at another time than the roster says", told(func(w *world) {
			at := w.tick()
			w.story()
			w.tamperChange = func(c *evidence.RosterChange) { c.IssuedAt = &at }
			w.revoke("carol", w.token("bob"), nil)
		}), "roster", evidence.CodeRoster},
	}
	signers := []forged{
		{"a signer who was shown another roster", told(func(w *world) {
			w.tamperStatement = func(s *evidence.Statement) { s.Roster = digestOf("another") }
		}), "statements", evidence.CodeRoster},
		{"a signer who was shown an empty log that is not", told(func(w *world) {
			w.tamperStatement = func(s *evidence.Statement) { *s.LogHead = evidence.LogHead{Root: digestOf("another")} }
		}), "statements", evidence.CodeLog},
		{"a signer who was shown an older roster than one before", told(func(w *world) {
			older := w.newest()
			w.open("old")
			w.vouch("carol", w.tokens["bob"])
			w.decide("bob", evidence.Approve)
			w.tamperStatement = func(s *evidence.Statement) { s.Roster = older }
			w.decide("dave", evidence.Approve)
		}), "statements", evidence.CodeRoster},
		{"a signer who was shown an older log than one before", told(func(w *world) {
			w.publish()
			w.open("old")
			w.publish()
			older := evidence.LogHead{Size: 1, Root: evidence.LeafDigest(w.log[0])}
			w.decide("bob", evidence.Approve)
			w.tamperStatement = func(s *evidence.Statement) { *s.LogHead = older }
			w.decide("dave", evidence.Approve)
		}), "statements", evidence.CodeRoster},
		{"two logs of one size", told(func(w *world) {
			w.open("old")
			w.publish()
			head := w.head
			w.decide("bob", evidence.Approve)
			w.tamperStatement = func(s *evidence.Statement) { *s.LogHead = evidence.LogHead{Size: head.Size, Root: digestOf("another")} }
			w.head = head
			w.decide("dave", evidence.Approve)
		}), "statements", evidence.CodeLog},

		{"an approval that was filed before it was issued", told(func(w *world) {
			w.tamperStatement = func(s *evidence.Statement) { s.IssuedAt = s.IssuedAt.Add(2 * time.Minute) }
			w.open("old")
			w.decide("bob", evidence.Approve)
		}), "statements", evidence.CodeChain},
		{"an approval that was held back until its signer had rejected", told(func(w *world) {
			w.open("old")
			w.decide("bob", evidence.Approve)
			w.heldSince(func() {
				w.decide("carol", evidence.Reject)
				w.decide("carol", evidence.Approve)
			})
		}), "statements", evidence.CodeChain},
		{"a withdrawal of an approval that was held back until its signer had rejected", told(func(w *world) {
			w.open("old")
			w.decide("bob", evidence.Approve)
			w.decide("dave", evidence.Approve)
			w.decide("carol", evidence.Approve)
			w.heldSince(func() {
				w.decide("carol", evidence.Reject)
				w.decide("carol", evidence.Withdraw)
			})
		}), "statements", evidence.CodeChain},
		{"an approval of an older request that was held back until its signer had rejected", told(func(w *world) {
			w.open("old")
			w.heldSince(func() {
				w.decide("carol", evidence.Reject)
				w.append(evidence.RequestClosed{Request: w.request().ID, Reason: "superseded"})
				w.open("old")
				w.decide("bob", evidence.Approve)
				w.decide("carol", evidence.Approve)
			})
		}), "statements", evidence.CodeChain},
		{"an approval that was held back until its signature had expired", told(func(w *world) {
			w.open("old")
			w.tamperStatement = func(s *evidence.Statement) { s.IssuedAt, s.ExpiresAt = s.IssuedAt.Add(-5*time.Minute), s.IssuedAt }
			w.decide("bob", evidence.Approve)
		}), "statements", evidence.CodeChain},
		{"an approval of a request that had expired", told(func(w *world) {
			w.open("old")
			w.now = w.now.Add(24 * time.Hour)
			w.decide("bob", evidence.Approve)
			w.decide("dave", evidence.Approve)
		}), "statements", evidence.CodeChain},
		{"a key that was revoked before", told(func(w *world) {
			w.revoke("bob", nil, nil)
		}), "assertions", evidence.CodeRevoked},
		{"a key that came later", told(func(w *world) {
			older := w.newest()
			w.tokens["erin"] = es256(w.t, "erin")
			w.enrol("erin", nil, nil)
			w.tamperStatement = func(s *evidence.Statement) { s.Roster = older }
			w.open("old")
			w.decide("erin", evidence.Approve)
		}), "assertions", evidence.CodeRevoked},
		{"a key that was enrolled by a key in other hands", told(func(w *world) {
			steal(w)
			w.decide("dave", evidence.Approve)
		}), "tally", evidence.CodeStolen},
		{"a key that was enrolled by a key that was enrolled by a key in other hands", told(func(w *world) {
			stealOn(w)
			w.decide("dave", evidence.Approve)
		}), "tally", evidence.CodeStolen},
		{"a countersigner's key in other hands", told(func(w *world) {
			w.tamperFacts = func(f *approval.Facts) {
				for i := range f.Decisions {
					f.Decisions[i].Identity = approval.Countersigned
				}
			}
			countersigningThief(w)
		}), "tally", evidence.CodeStolen},
		{"a decision that does not count, though its key was never in other hands", told(func(w *world) {
			w.open("old")
			w.tamperFacts = func(f *approval.Facts) { f.Decisions[0].Compromised = true }
			w.decide("carol", evidence.Approve)
		}), "facts", evidence.CodeInvalid},
		{"a public key recovered from a signature", told(func(w *world) {
			w.story()
			a := w.decisions[0].Assertion
			hash := sha256.Sum256(a.ClientDataJSON)
			point := evidence.OtherPoint(w.tokens["bob"].key.PublicKey, append(bytes.Clone(a.AuthenticatorData), hash[:]...), a.Signature)
			k := es256(w.t, "erin")
			k.key.PublicKey = cose(w.t, map[int]any{1: 2, 3: -7, -1: 1, -2: point[:32], -3: point[32:]})
			w.tokens["erin"] = k
			w.enrol("erin", nil, nil)
		}), "assertions", evidence.CodeAmbiguous},

		{"another owner's name", altered(func(b *evidence.Bundle) {
			o := *b.Enrolments[0].Owner
			o.Name = "Mallory"
			b.Enrolments[0].Owner = &o
		}), "openings", evidence.CodeCommitment},
		{"another countersigner's name", altered(func(b *evidence.Bundle) {
			o := *b.Enrolments[2].Countersigner
			o.Name = "Mallory"
			b.Enrolments[2].Countersigner = &o
		}), "openings", evidence.CodeCommitment},
		{"a countersigner who did not sign", altered(func(b *evidence.Bundle) { b.Enrolments[0].Countersigner = b.Enrolments[0].Owner }), "openings", evidence.CodeCommitment},
		{"a key enrolled for another account", since(func(w *world) {
			w.accounts = map[string]string{"per-bob": "acc-mallory"}
		}), "openings", evidence.CodePerson},
		{"a log-in told as vouched for to the tally", told(func(w *world) {
			w.policy.Rules[0].Keys = &approval.KeyDemand{Countersigned: true}
			w.tamperFacts = func(f *approval.Facts) {
				for i := range f.Decisions {
					f.Decisions[i].Identity = approval.Countersigned
				}
			}
		}), "facts", evidence.CodeInvalid},
	}
	log := []forged{
		{"a checkpoint that is none", altered(func(b *evidence.Bundle) { b.Log.Checkpoint = "x" }), "log", evidence.CodeLog},
		{"a log signed by another key", known(func(w *world, a *evidence.Anchors) {
			w.story()
			_, other := w.noteKey("other.example")
			a.Log.Keys = []string{other}
		}), "log", evidence.CodeLog},
		{"a log with another name", known(func(w *world, a *evidence.Anchors) {
			w.story()
			a.Log.Origin = "other.example"
		}), "log", evidence.CodeLog},
		{"a key of the log that is none", known(func(w *world, a *evidence.Anchors) {
			w.story()
			a.Log.Keys = []string{"x"}
		}), "log", evidence.CodeInvalid},
		{"an act for another log", since(func(w *world) {
			w.tamperAct = func(a *evidence.Act) { a.LogOrigin = "other.example" }
		}), "log", evidence.CodeLog},
		{"a genesis that is not in the log", altered(func(b *evidence.Bundle) { b.Log.Genesis.Index = 3 }), "log", evidence.CodeLog},
		{"a genesis before the log", altered(func(b *evidence.Bundle) { b.Log.Genesis.Index = -1 }), "log", evidence.CodeLog},
		{"a leaf that is not in the log", altered(func(b *evidence.Bundle) { b.Log.Chain[2].Index++ }), "log", evidence.CodeLog},
		{"a proof with a hash too short", altered(func(b *evidence.Bundle) { b.Log.Chain[2].Proof[0] = b.Log.Chain[2].Proof[0][1:] }), "log", evidence.CodeLog},
		{"a leaf without a place", altered(func(b *evidence.Bundle) { b.Log.Chain = b.Log.Chain[1:] }), "log", evidence.CodeLog},
		{"a late leaf", told(func(w *world) {
			w.open("old")
			w.decide("bob", evidence.Approve)
			n := len(w.log)
			w.log[n-1], w.log[n-2] = w.log[n-2], w.log[n-1]
		}), "log", evidence.CodeLog},
		{"a history before the workspace's", told(func(w *world) {
			w.open("old")
			w.decide("bob", evidence.Approve)
			w.log = append(append([][]byte{}, w.log[1:]...), w.genesis)
		}), "log", evidence.CodeLog},
		{"no leaf of the roster", altered(func(b *evidence.Bundle) { b.Log.Roster = nil }), "log", evidence.CodeLog},
		{"a leaf of a roster that is empty", told(func(w *world) {
			w.roster, w.orphan = nil, true
			w.open("old")
		}), "log", evidence.CodeLog},
		{"a leaf of the roster that is none", altered(func(b *evidence.Bundle) { b.Log.Roster.Entry = []byte("{}") }), "log", evidence.CodeMalformed},
		{"a leaf of an older roster", told(func(w *world) {
			older := w.rosterLeaf
			w.story()
			w.vouch("carol", w.tokens["bob"])
			w.rosterLeaf = older
		}), "log", evidence.CodeLog},
		{"a leaf of another workspace's roster", since(func(w *world) {
			w.tamperLeaf = func(l *evidence.Leaf) {
				if l.Body.Type() == evidence.TypeRosterVersion {
					l.Workspace = digestOf("another workspace")
				}
			}
		}), "log", evidence.CodeLog},
		{"a leaf of the roster that is not in the log", altered(func(b *evidence.Bundle) { b.Log.Roster.Index++ }), "log", evidence.CodeLog},
		{"a decision that knew the log's future", told(func(w *world) {
			w.tamperStatement = func(s *evidence.Statement) {
				*s.LogHead = evidence.LogHead{Size: 1000, Root: digestOf("future")}
			}
		}), "log", evidence.CodeLog},
		{"a log head without a proof", altered(func(b *evidence.Bundle) { b.Log.Heads = b.Log.Heads[1:] }), "log", evidence.CodeLog},
		{"a proof of another log head", altered(func(b *evidence.Bundle) { b.Log.Heads[0].Size++ }), "log", evidence.CodeLog},
		{"a proof of another root", altered(func(b *evidence.Bundle) { b.Log.Heads[0].Root = seed("root") }), "log", evidence.CodeLog},
		{"a proof of a log head with a hash too short", altered(func(b *evidence.Bundle) { b.Log.Heads[0].Proof[0] = b.Log.Heads[0].Proof[0][1:] }), "log", evidence.CodeLog},
		{"a log that was rolled back", told(func(w *world) {
			w.tamperStatement = func(s *evidence.Statement) {
				if s.LogHead.Size > 0 {
					s.LogHead.Root = digestOf(fmt.Sprint("a log before it, of size ", s.LogHead.Size))
				}
			}
		}), "log", evidence.CodeLog},

		{"too few witnesses", known(func(w *world, a *evidence.Anchors) {
			w.story()
			a.Witnesses.Quorum = 3
		}), "witnesses", evidence.CodeWitness},
		{"fewer witnesses than the rule demands", known(func(w *world, a *evidence.Anchors) {
			w.policy.Rules[0].Cosignatures = 3
			w.story()
			a.Policies = w.anchors().Policies
		}), "witnesses", evidence.CodeWitness},
		{"fewer witnesses than the rule demands of who asks for none", known(func(w *world, a *evidence.Anchors) {
			w.policy.Rules[0].Cosignatures = 3
			w.story()
			a.Policies, a.Witnesses.Quorum = w.anchors().Policies, 0
		}), "witnesses", evidence.CodeWitness},
		{"witnesses who cosigned another checkpoint", func(t *testing.T) ([]byte, evidence.Anchors) {
			w := newWorld(t)
			w.open("old")
			another := w.checkpoint("witness.example/1", "witness.example/2")
			w.decide("bob", evidence.Approve)
			b := w.bundle()
			b.Log.Checkpoint = w.checkpoint() + another[strings.Index(another, "— witness.example/1"):]
			data, err := b.Encode()
			w.must(err)
			return data, w.anchors()
		}, "witnesses", evidence.CodeWitness},
		{"a witness who is none", known(func(w *world, a *evidence.Anchors) {
			w.story()
			a.Witnesses.Keys[0] = "x"
		}), "witnesses", evidence.CodeInvalid},
		{"a witness under two names", known(func(w *world, a *evidence.Anchors) {
			w.story()
			a.Witnesses.Keys = []string{w.witnessKey("witness.example/1"), w.witnessKey("witness.example/1", "another.example")}
		}), "witnesses", evidence.CodeInvalid},
		{"a quorum that cannot be", known(func(w *world, a *evidence.Anchors) {
			w.story()
			a.Witnesses.Quorum = 4
		}), "witnesses", evidence.CodeInvalid},
		{"a negative quorum", known(func(w *world, a *evidence.Anchors) {
			w.story()
			a.Witnesses.Quorum = -1
		}), "witnesses", evidence.CodeInvalid},

		{"another page of an act", since(func(w *world) {
			w.tamperAct = only(evidence.Countersign, func(a *evidence.Act) { a.Origin = "https://other.example" })
			w.tamperEnrolment = func(e *evidence.Enrolment) {
				if e.Countersigned != nil {
					c := ordinary(e.Countersigned.Act)
					c.clientData = strings.Replace(c.clientData, rp.Origin, "https://other.example", 1)
					e.Countersigned.Assertion = w.tokens["bob"].assert(c)
				}
			}
		}), "anchors", evidence.CodeOrigin},
		{"another genesis", known(func(w *world, a *evidence.Anchors) {
			w.story()
			a.Genesis = digestOf("another")
		}), "anchors", evidence.CodeRoster},
		{"a roster that is not this one's", known(func(w *world, a *evidence.Anchors) {
			w.story()
			a.Roster = digestOf("another")
		}), "anchors", evidence.CodeRoster},
		{"a roster that was rolled back", known(func(w *world, a *evidence.Anchors) {
			w.story()
			w.vouch("carol", w.tokens["bob"])
			a.Roster = w.newest()
			w.roster = w.roster[:3]
			for _, entry := range w.log {
				if l, err := evidence.ParseLeaf(entry); err == nil && l.Body == (evidence.RosterVersion{Version: 3, Roster: w.newest()}) {
					w.rosterLeaf = entry
				}
			}
		}), "anchors", evidence.CodeRoster},
		{"a ghost key that came later by log-in", known(func(w *world, _ *evidence.Anchors) {
			w.tokens["erin"] = es256(w.t, "erin")
			w.enrol("erin", nil, nil)
			w.open("old")
			w.decide("erin", evidence.Approve)
		}), "anchors", evidence.CodeKey},
		{"a ghost key that a ghost signed for", known(func(w *world, _ *evidence.Anchors) {
			w.tokens["erin"] = es256(w.t, "erin")
			w.enrol("erin", nil, nil)
			w.second("erin")
			w.signedBy = func(person string) token { return w.tokens[person+"2"] }
			w.open("old")
			w.decide("erin", evidence.Approve)
		}), "anchors", evidence.CodeKey},
	}
	return append(append(roster, signers...), log...)
}
