package evidence

import (
	"fmt"
	"time"
)

// ActPredicateType names this version of the predicate of an [Act].
const ActPredicateType = "https://github.com/signedapproval/bitbucket/act/v1"

// The purposes of an act.
const (
	Enrol       Purpose = "enrol"
	Countersign Purpose = "countersign"
	Revoke      Purpose = "revoke"
	SetPolicy   Purpose = "policy"
	Protect     Purpose = "protect"
)

// Act is what somebody signs to change who or what is trusted: keys, a policy,
// the protection of both. It is the predicate of an in-toto statement whose only
// subject is the SHA-256 hash of the document that it holds; exactly one
// document, that of its purpose, is there.
type Act struct {
	// Purpose is enrol, countersign, revoke, policy or protect.
	Purpose Purpose `json:"purpose"`
	// RPID is the WebAuthn relying party id, a domain.
	RPID string `json:"rpId"`
	// Origin is the web origin of the page on which it is signed.
	Origin string `json:"origin"`
	// LogOrigin names the log that the act is appended to.
	LogOrigin string `json:"logOrigin"`
	// Workspace is the workspace's UUID in braces; absent in an act about a
	// person's own key, which belongs to no workspace.
	Workspace string `json:"workspace,omitempty"`
	// Signer is who signs.
	Signer Party `json:"signer"`
	// Key is the document of enrol and countersign.
	Key *KeyDocument `json:"key,omitempty"`
	// Revocation is the document of revoke.
	Revocation *RevocationDocument `json:"revocation,omitempty"`
	// Policy is the document of policy.
	Policy *PolicyDocument `json:"policy,omitempty"`
	// Protection is the document of protect.
	Protection *ProtectionDocument `json:"protection,omitempty"`
	// Roster is the digest of the workspace's newest roster version when the act
	// was made; absent in an act without a workspace.
	Roster Digest `json:"roster,omitempty"`
	// Meaning is what the signer says by signing, as [ActMeaning] gives it.
	Meaning string `json:"meaning"`
	// Nonce is 16 random bytes.
	Nonce Bytes `json:"nonce"`
	// IssuedAt and ExpiresAt are the server's claim, in UTC and whole seconds.
	IssuedAt  time.Time `json:"issuedAt"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// KeyDocument is a key that is to be enrolled under a person's name.
type KeyDocument struct {
	// Key is the key with its person.
	Key Key `json:"key"`
	// AttestationObject and ClientData are SHA-256 hashes of what the
	// authenticator and the browser returned when the key was made.
	AttestationObject Digest `json:"attestationObject"`
	ClientData        Digest `json:"clientData"`
}

// RevocationDocument is a key that is to count no more.
type RevocationDocument struct {
	Person string `json:"person"`
	// Key is [Key.Digest].
	Key Digest `json:"key"`
	// CompromisedSince, in UTC and whole seconds, is since when somebody else may
	// have used the key: decisions from then on do not count. Absent where the
	// key is only taken out of use.
	CompromisedSince *time.Time `json:"compromisedSince,omitempty"`
}

// PolicyDocument is a repository's policy that is to take the place of another.
type PolicyDocument struct {
	// Repository is the repository's UUID in braces.
	Repository string `json:"repository"`
	// Version is the number that the new policy gets, counted from 1.
	Version int64 `json:"version"`
	// Previous is the digest of the policy in force; absent without one.
	Previous Digest `json:"previous,omitempty"`
	// Policy is the new policy's digest; absent where the repository is to be
	// gated no longer.
	Policy Digest `json:"policy,omitempty"`
}

// ProtectionDocument says by whose signatures a workspace's policies, roster
// and protection can be changed.
type ProtectionDocument struct {
	// Version counts the workspace's protections from 1.
	Version int64 `json:"version"`
	// Previous is the digest of the protection in force; absent in the first.
	Previous Digest `json:"previous,omitempty"`
	// Quorum is how many different people of People have to sign a change; 0
	// with no People where the protection is switched off.
	Quorum int `json:"quorum"`
	// People are our ids of those who can, sorted, each once.
	People []string `json:"people"`
}

// Digest returns the SHA-256 hash of the document's canonical form.
func (d KeyDocument) Digest() (Digest, error) { return digest(d) }

// Digest returns the SHA-256 hash of the document's canonical form.
func (d RevocationDocument) Digest() (Digest, error) { return digest(d) }

// Digest returns the SHA-256 hash of the document's canonical form.
func (d PolicyDocument) Digest() (Digest, error) { return digest(d) }

// Digest returns the SHA-256 hash of the document's canonical form.
func (d ProtectionDocument) Digest() (Digest, error) { return digest(d) }

// MaxActLife is how long after it was issued an act may be filed at most. A key and a proposal
// wait a week for those who sign, and one more day allows for no more than that: who asks for
// a signature cannot keep it for another year.
const MaxActLife = 8 * 24 * time.Hour

// MaxProtectors is how many people a [ProtectionDocument] can name.
const MaxProtectors = 50

// actEnvelope is the in-toto statement around the predicate.
type actEnvelope struct {
	Type          string       `json:"_type"`
	Subject       []actSubject `json:"subject"`
	PredicateType string       `json:"predicateType"`
	Predicate     Act          `json:"predicate"`
}

type actSubject struct {
	Digest struct {
		SHA256 Digest `json:"sha256"`
	} `json:"digest"`
}

// ActMeaning returns the sentence that the signer of a says; empty where the
// document of its purpose is absent.
func ActMeaning(a Act) string {
	key := func(d *KeyDocument) string {
		id, err := d.Key.Digest()
		if err != nil {
			return ""
		}
		return string(id)
	}
	switch {
	case a.Purpose == Enrol && a.Key != nil:
		return fmt.Sprintf("I enrol the key %s under my name.", key(a.Key))
	case a.Purpose == Countersign && a.Key != nil:
		return fmt.Sprintf("I countersign that the key %s belongs to person %s.", key(a.Key), a.Key.Key.Person)
	case a.Purpose == Revoke && a.Revocation != nil:
		sentence := fmt.Sprintf("I revoke the key %s of person %s", a.Revocation.Key, a.Revocation.Person)
		if since := a.Revocation.CompromisedSince; since != nil {
			sentence += ", which may have been in other hands since " + since.Format(time.RFC3339)
		}
		return sentence + "."
	case a.Purpose == SetPolicy && a.Policy != nil && a.Policy.Policy == "":
		return fmt.Sprintf("I agree that repository %s is gated no longer.", a.Policy.Repository)
	case a.Purpose == SetPolicy && a.Policy != nil:
		return fmt.Sprintf("I agree that policy %s becomes version %d of repository %s.", a.Policy.Policy, a.Policy.Version, a.Policy.Repository)
	case a.Purpose == Protect && a.Protection != nil && a.Protection.Quorum == 0:
		return fmt.Sprintf("I agree that the rules of workspace %s can be changed without signatures.", a.Workspace)
	case a.Purpose == Protect && a.Protection != nil:
		return fmt.Sprintf("I agree that the rules of workspace %s can be changed by the signatures of %d of %d people.", a.Workspace, a.Protection.Quorum, len(a.Protection.People))
	}
	return ""
}

// DocumentDigest returns the SHA-256 hash of the act's document.
func (a Act) DocumentDigest() (Digest, error) {
	switch {
	case a.Key != nil:
		return a.Key.Digest()
	case a.Revocation != nil:
		return a.Revocation.Digest()
	case a.Policy != nil:
		return a.Policy.Digest()
	case a.Protection != nil:
		return a.Protection.Digest()
	}
	return "", refuse(CodeInvalid, "an act needs a document")
}

// Canonical checks the act and returns the bytes that are signed: the RFC 8785
// form of the whole in-toto statement.
func (a Act) Canonical() ([]byte, error) {
	if err := a.check(); err != nil {
		return nil, err
	}
	about, err := a.DocumentDigest()
	if err != nil {
		return nil, err
	}
	e := actEnvelope{Type: StatementType, Subject: make([]actSubject, 1), PredicateType: ActPredicateType, Predicate: a}
	e.Subject[0].Digest.SHA256 = about
	return canonical(e, MaxStatement)
}

// ParseAct reads the bytes of an act. It accepts exactly what [Act.Canonical]
// writes.
func ParseAct(data []byte) (Act, error) {
	var e actEnvelope
	if err := parse(data, &e, MaxStatement); err != nil {
		return Act{}, err
	}
	a := e.Predicate
	if err := a.check(); err != nil {
		return Act{}, err
	}
	about, err := a.DocumentDigest()
	switch {
	case err != nil:
		return Act{}, err
	case e.Type != StatementType:
		return Act{}, refuse(CodeInvalid, "_type must be %s", StatementType)
	case e.PredicateType != ActPredicateType:
		return Act{}, refuse(CodeInvalid, "predicateType must be %s", ActPredicateType)
	case len(e.Subject) != 1 || e.Subject[0].Digest.SHA256 != about:
		return Act{}, refuse(CodeInvalid, "the only subject must be the document")
	}
	return a, nil
}

// VerifyAct checks an assertion over an act, by the rules of
// [VerifyAssertion] and with the act's signer in place of the approver.
func VerifyAct(act []byte, a Assertion, keys []Key, rp RelyingParty) (AssertionResult, error) {
	parsed, err := ParseAct(act)
	if err != nil {
		return AssertionResult{}, err
	}
	ring, err := newKeyring(keys)
	if err != nil {
		return AssertionResult{}, err
	}
	return verifySigned(act, RelyingParty{ID: parsed.RPID, Origin: parsed.Origin}, parsed.Signer.Person, a, ring, rp)
}

// workspaceAct tells whether acts of a purpose belong to a workspace.
func workspaceAct(p Purpose) bool { return p == SetPolicy || p == Protect || p == Countersign }

func (a Act) check() error {
	bad := func(field, must string) error { return refuse(CodeInvalid, "%s must be %s", field, must) }
	documents := 0
	for _, there := range []bool{a.Key != nil, a.Revocation != nil, a.Policy != nil, a.Protection != nil} {
		if there {
			documents++
		}
	}
	switch {
	case documents != 1 || a.Meaning == "" || a.Meaning != ActMeaning(a):
		return bad("purpose, document and meaning", "those of one kind of act")
	case !domainForm.MatchString(a.RPID) || len(a.RPID) > maxDomain:
		return bad("rpId", "a domain")
	case !isOrigin(a.Origin):
		return bad("origin", "an https origin, or http on localhost")
	case !logForm.MatchString(a.LogOrigin) || len(a.LogOrigin) > maxDomain:
		return bad("logOrigin", "a host and path without scheme")
	case a.Workspace == "" && workspaceAct(a.Purpose), a.Workspace != "" && !uuidForm.MatchString(a.Workspace), a.Workspace != "" && a.Purpose == Enrol:
		return bad("workspace", "a UUID in braces and lower case, or absent in an act about one's own key")
	case (a.Workspace == "") != (a.Roster == "") || a.Roster != "" && !a.Roster.Valid():
		return bad("roster", "a digest, and there exactly with a workspace")
	case !idForm.MatchString(a.Signer.Person) || !a.Signer.Commitment.Valid():
		return bad("signer", "a person's id and commitment")
	case len(a.Nonce) != 16:
		return bad("nonce", "16 bytes")
	case !wholeSecond(a.IssuedAt):
		return bad("issuedAt", "a time in UTC and whole seconds")
	case !wholeSecond(a.ExpiresAt) || !a.IssuedAt.Before(a.ExpiresAt):
		return bad("expiresAt", "a later time in UTC and whole seconds")
	case a.ExpiresAt.Sub(a.IssuedAt) > MaxActLife:
		return bad("expiresAt", "at most eight days after issuedAt")
	}
	return a.checkDocument()
}

func (a Act) checkDocument() error {
	bad := func(field, must string) error { return refuse(CodeInvalid, "%s must be %s", field, must) }
	switch {
	case a.Key != nil:
		_, unread := a.Key.Key.check()
		switch {
		case unread != nil:
			return bad("key.key", "a person's id, a credential id and a public key that is allowed")
		case !a.Key.AttestationObject.Valid() || !a.Key.ClientData.Valid():
			return bad("key", "with the hashes of attestation object and client data")
		case (a.Purpose == Enrol) != (a.Key.Key.Person == a.Signer.Person):
			return bad("signer", "the key's person to enrol it, and somebody else to countersign")
		}
	case a.Revocation != nil:
		r := a.Revocation
		if !idForm.MatchString(r.Person) || !r.Key.Valid() || r.CompromisedSince != nil && !wholeSecond(*r.CompromisedSince) {
			return bad("revocation", "a person, a key's digest and, if any, a time in UTC and whole seconds")
		}
		if (r.Person == a.Signer.Person) != (a.Workspace == "") {
			return bad("workspace", "absent exactly in the revocation of one's own key")
		}
	case a.Policy != nil:
		p := a.Policy
		if !uuidForm.MatchString(p.Repository) || p.Version < 1 || p.Version >= maxSafe ||
			p.Previous != "" && !p.Previous.Valid() || p.Policy != "" && !p.Policy.Valid() {
			return bad("policy", "a repository, a version from 1 and digests")
		}
	case a.Protection != nil:
		return a.Protection.check()
	}
	return nil
}

func (d ProtectionDocument) check() error {
	bad := refuse(CodeInvalid, "protection must be a version from 1, a quorum and at least as many people, sorted, each once; or neither")
	if d.Version < 1 || d.Version >= maxSafe || (d.Version == 1) != (d.Previous == "") || d.Previous != "" && !d.Previous.Valid() {
		return bad
	}
	if d.Quorum < 0 || d.Quorum > len(d.People) || (d.Quorum == 0) != (len(d.People) == 0) || len(d.People) > MaxProtectors || !ascending(d.People) {
		return bad
	}
	for _, person := range d.People {
		if !idForm.MatchString(person) {
			return bad
		}
	}
	return nil
}

// check makes sure that a key has the form that a roster allows, and reads it.
func (k Key) check() (publicKey, error) {
	if !idForm.MatchString(k.Person) || len(k.CredentialID) < 1 || len(k.CredentialID) > MaxCredentialID {
		return publicKey{}, refuse(CodeKey, "a key needs a person's id and a credential id of 1 to %d bytes", MaxCredentialID)
	}
	return parsePublicKey(k.PublicKey)
}
