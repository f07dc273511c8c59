package evidence_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
	"github.com/gowebpki/jcs"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// documentVector is an entry of testdata/vectors/documents.json: a single document,
// good or bad.
type documentVector struct {
	// Kind is statement, act, roster-change, leaf, request, key, anchors, receipt,
	// person-opening or comment-opening.
	Kind string        `json:"kind"`
	Name string        `json:"name"`
	Code evidence.Code `json:"code,omitempty"` // empty when the document is accepted
	// Document is the text; of a key, base64url. A receipt is read with Anchors.
	Document string            `json:"document"`
	Anchors  *evidence.Anchors `json:"anchors,omitempty"`
}

// nested is one level too deep.
var nested = strings.Repeat("[", evidence.MaxDepth+1) + strings.Repeat("]", evidence.MaxDepth+1)

// run is what the file leaves out of a document that is about a limit: so many times
// one character, from a byte of the document on.
type run struct {
	At        int    `json:"at"`
	Character string `json:"character"`
	Times     int    `json:"times"`
}

// fileVector is a documentVector in the file.
type fileVector struct {
	plainVector
	Run *run `json:"run,omitempty"`
}

type plainVector documentVector

// MarshalJSON leaves a long run out of the document.
func (v documentVector) MarshalJSON() ([]byte, error) {
	in := fileVector{plainVector: plainVector(v)}
	longest := run{}
	for from := 0; from < len(v.Document); {
		to := from + 1
		for to < len(v.Document) && v.Document[to] == v.Document[from] {
			to++
		}
		if to-from > longest.Times {
			longest = run{from, v.Document[from : from+1], to - from}
		}
		from = to
	}
	if longest.Times >= 1000 && longest.Character < "\x80" {
		in.Document, in.Run = v.Document[:longest.At]+v.Document[longest.At+longest.Times:], &longest
	}
	var data bytes.Buffer
	encoder := json.NewEncoder(&data)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(in)
	return data.Bytes(), err
}

// UnmarshalJSON puts the run back.
func (v *documentVector) UnmarshalJSON(data []byte) error {
	var in fileVector
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	*v = documentVector(in.plainVector)
	if r := in.Run; r != nil {
		v.Document = v.Document[:r.At] + strings.Repeat(r.Character, r.Times) + v.Document[r.At:]
	}
	return nil
}

// readDocument reads a document as its kind asks for.
func readDocument(v documentVector) error {
	var err error
	switch v.Kind {
	case "statement":
		_, err = evidence.ParseStatement([]byte(v.Document))
	case "act":
		_, err = evidence.ParseAct([]byte(v.Document))
	case "roster-change":
		_, err = evidence.ParseRosterChange([]byte(v.Document))
	case "leaf":
		_, err = evidence.ParseLeaf([]byte(v.Document))
	case "request":
		var r evidence.Request
		if err = json.Unmarshal([]byte(v.Document), &r); err == nil {
			_, err = r.Digest()
		}
	case "key":
		var b evidence.Bytes
		if err = b.UnmarshalText([]byte(v.Document)); err == nil {
			_, err = evidence.CheckPublicKey(b)
		}
	case "anchors":
		_, err = evidence.ParseAnchors([]byte(v.Document))
	case "receipt":
		_, err = evidence.VerifyReceipt([]byte(v.Document), *v.Anchors.Log, v.Anchors.Witnesses)
	case "person-opening":
		var o evidence.PersonOpening
		if err = json.Unmarshal([]byte(v.Document), &o); err == nil {
			_, err = o.Commitment()
		}
	case "comment-opening":
		var o evidence.CommentOpening
		if err = json.Unmarshal([]byte(v.Document), &o); err == nil {
			_, err = o.Commitment()
		}
	default:
		err = errors.New("no such kind of document")
	}
	return err
}

// raw writes a document without checking it.
func raw(t testing.TB, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err == nil {
		data, err = jcs.Transform(data)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

type envelope struct {
	Type          string   `json:"_type"`
	Subject       []object `json:"subject"`
	PredicateType string   `json:"predicateType"`
	Predicate     any      `json:"predicate"`
}

type object = map[string]any

func rawStatement(t testing.TB, s evidence.Statement) string {
	t.Helper()
	return raw(t, envelope{evidence.StatementType, []object{{"digest": object{"gitCommit": s.Source.Commit}}}, evidence.PredicateType, s})
}

func rawAct(t testing.TB, a evidence.Act) string {
	t.Helper()
	var document any
	for _, d := range []any{a.Key, a.Revocation, a.Policy, a.Protection} {
		if !reflect.ValueOf(d).IsNil() {
			document = d
		}
	}
	return raw(t, envelope{evidence.StatementType, []object{{"digest": object{"sha256": digestOf(raw(t, document))}}}, evidence.ActPredicateType, a})
}

// acts are good acts of each kind, by their names.
func goodActs(t testing.TB) map[string]evidence.Act {
	t.Helper()
	w := newWorld(t)
	bob, carol := w.tokens["bob"], w.tokens["carol"]
	since := w.now
	document := func(k token) *evidence.KeyDocument {
		return &evidence.KeyDocument{Key: k.key, AttestationObject: digestOf("attestation"), ClientData: digestOf("client data")}
	}
	acts := map[string]evidence.Act{
		"enrol":                  {Purpose: evidence.Enrol, Key: document(bob)},
		"countersign":            {Purpose: evidence.Countersign, Workspace: workspaceUUID, Key: document(carol)},
		"revoke":                 {Purpose: evidence.Revoke, Revocation: &evidence.RevocationDocument{Person: "per-bob", Key: digestOfKey(w.t, bob.key)}},
		"revoke somebody else's": {Purpose: evidence.Revoke, Workspace: workspaceUUID, Revocation: &evidence.RevocationDocument{Person: "per-carol", Key: digestOfKey(w.t, carol.key), CompromisedSince: &since}},
		"policy":                 {Purpose: evidence.SetPolicy, Workspace: workspaceUUID, Policy: &evidence.PolicyDocument{Repository: repositoryUUID, Version: 2, Previous: digestOf("1"), Policy: digestOf("2")}},
		"policy, gated no more":  {Purpose: evidence.SetPolicy, Workspace: workspaceUUID, Policy: &evidence.PolicyDocument{Repository: repositoryUUID, Version: 3, Previous: digestOf("2")}},
		"protect":                {Purpose: evidence.Protect, Workspace: workspaceUUID, Protection: &evidence.ProtectionDocument{Version: 1, Quorum: 2, People: []string{"per-bob", "per-carol", "per-dave"}}},
		"protect no more":        {Purpose: evidence.Protect, Workspace: workspaceUUID, Protection: &evidence.ProtectionDocument{Version: 2, Previous: digestOf("1"), People: []string{}}},
	}
	for _, name := range slices.Sorted(maps.Keys(acts)) { // time passes with each
		signed, _ := w.sign(acts[name], bob)
		var err error
		acts[name], err = evidence.ParseAct(signed.Act)
		w.must(err)
	}
	return acts
}

// actEdits are what an act must not say, by the good act that it is said in.
func actEdits() []struct {
	name, act string
	edit      func(a *evidence.Act)
} {
	type edit = struct {
		name, act string
		edit      func(a *evidence.Act)
	}
	list := []edit{
		{"no meaning", "enrol", func(a *evidence.Act) { a.Meaning = "" }},
		{"another meaning", "enrol", func(a *evidence.Act) { a.Meaning = "I only looked at it." }},
		{"another document than its purpose", "enrol", func(a *evidence.Act) { a.Purpose = evidence.Revoke }},
		{"two documents", "enrol", func(a *evidence.Act) { a.Policy = &evidence.PolicyDocument{Repository: repositoryUUID, Version: 1} }},
		{"a relying party that is no domain", "enrol", func(a *evidence.Act) { a.RPID = "https://approve.example" }},
		{"a long relying party", "enrol", func(a *evidence.Act) { a.RPID = strings.Repeat("a", 254) }},
		{"an origin in the clear", "enrol", func(a *evidence.Act) { a.Origin = "http://approve.example" }},
		{"a log with a scheme", "enrol", func(a *evidence.Act) { a.LogOrigin = "https://log" }},
		{"a long log", "enrol", func(a *evidence.Act) { a.LogOrigin = strings.Repeat("a", 254) }},
		{"a workspace for one's own key", "enrol", func(a *evidence.Act) { a.Workspace, a.Roster = workspaceUUID, digestOf("r") }},
		{"no workspace to vouch in", "countersign", func(a *evidence.Act) { a.Workspace, a.Roster = "", "" }},
		{"no workspace for a policy", "policy", func(a *evidence.Act) { a.Workspace, a.Roster = "", "" }},
		{"a workspace that is none", "policy", func(a *evidence.Act) { a.Workspace = "acme" }},
		{"no roster", "policy", func(a *evidence.Act) { a.Roster = "" }},
		{"a roster that is none", "policy", func(a *evidence.Act) { a.Roster = "abc" }},
		{"nobody", "enrol", func(a *evidence.Act) { a.Signer.Person = "" }},
		{"no commitment", "enrol", func(a *evidence.Act) { a.Signer.Commitment = "" }},
		{"a short nonce", "enrol", func(a *evidence.Act) { a.Nonce = a.Nonce[:15] }},
		{"a fraction of a second", "enrol", func(a *evidence.Act) { a.IssuedAt = a.IssuedAt.Add(time.Millisecond) }},
		{"an end in a fraction of a second", "enrol", func(a *evidence.Act) { a.ExpiresAt = a.ExpiresAt.Add(time.Millisecond) }},
		{"an end before its start", "enrol", func(a *evidence.Act) { a.ExpiresAt = a.IssuedAt }},
		{"an end after more than eight days", "policy", func(a *evidence.Act) { a.ExpiresAt = a.IssuedAt.Add(evidence.MaxActLife + time.Second) }},
		{"a key that is none", "enrol", func(a *evidence.Act) { a.Key.Key.PublicKey = []byte{0xa0} }},
		{"a key without a person", "enrol", func(a *evidence.Act) { a.Key.Key.Person, a.Signer.Person = "", "per-bob" }},
		{"a key without a credential id", "enrol", func(a *evidence.Act) { a.Key.Key.CredentialID = evidence.Bytes{} }},
		{"a key with a long credential id", "enrol", func(a *evidence.Act) { a.Key.Key.CredentialID = make([]byte, 1024) }},
		{"no attestation object", "enrol", func(a *evidence.Act) { a.Key.AttestationObject = "" }},
		{"no client data", "enrol", func(a *evidence.Act) { a.Key.ClientData = "" }},
		{"somebody else enrols", "enrol", func(a *evidence.Act) { a.Signer.Person = "per-carol" }},
		{"one vouches for oneself", "countersign", func(a *evidence.Act) { a.Signer.Person = "per-carol" }},
		{"a revocation of nobody's key", "revoke", func(a *evidence.Act) { a.Revocation.Person = "" }},
		{"a revocation of no key", "revoke", func(a *evidence.Act) { a.Revocation.Key = "" }},
		{"compromised in a fraction of a second", "revoke somebody else's", func(a *evidence.Act) {
			since := a.Revocation.CompromisedSince.Add(time.Millisecond)
			a.Revocation.CompromisedSince = &since
		}},
		{"one's own key for a workspace", "revoke", func(a *evidence.Act) { a.Workspace, a.Roster = workspaceUUID, digestOf("r") }},
		{"somebody else's key for no workspace", "revoke somebody else's", func(a *evidence.Act) { a.Workspace, a.Roster = "", "" }},
		{"a repository that is none", "policy", func(a *evidence.Act) { a.Policy.Repository = "r" }},
		{"a policy's version 0", "policy", func(a *evidence.Act) { a.Policy.Version = 0 }},
		{"a policy's version beyond what JSON keeps", "policy", func(a *evidence.Act) { a.Policy.Version = 1 << 53 }},
		{"a policy before that is none", "policy", func(a *evidence.Act) { a.Policy.Previous = "abc" }},
		{"a policy that is none", "policy", func(a *evidence.Act) { a.Policy.Policy = "abc" }},
		{"a protection's version 0", "protect", func(a *evidence.Act) { a.Protection.Version, a.Protection.Previous = 0, digestOf("0") }},
		{"a protection's version beyond what JSON keeps", "protect no more", func(a *evidence.Act) { a.Protection.Version = 1 << 53 }},
		{"a first protection after another", "protect", func(a *evidence.Act) { a.Protection.Previous = digestOf("0") }},
		{"a protection before that is none", "protect no more", func(a *evidence.Act) { a.Protection.Previous = "abc" }},
		{"a negative quorum", "protect", func(a *evidence.Act) { a.Protection.Quorum = -1 }},
		{"a quorum of more than there are", "protect", func(a *evidence.Act) { a.Protection.Quorum = 4 }},
		{"a quorum of nobody", "protect", func(a *evidence.Act) { a.Protection.Quorum = 0 }},
		{"too many protectors", "protect", func(a *evidence.Act) {
			a.Protection.People = nil
			for i := range evidence.MaxProtectors + 1 {
				a.Protection.People = append(a.Protection.People, fmt.Sprintf("per-%02d", i))
			}
		}},
		{"a protector twice", "protect", func(a *evidence.Act) { a.Protection.People = []string{"per-bob", "per-bob"} }},
		{"protectors in another order", "protect", func(a *evidence.Act) { a.Protection.People = []string{"per-carol", "per-bob"} }},
		{"a protector who is none", "protect", func(a *evidence.Act) { a.Protection.People = []string{"per bob", "per-bob"} }},
	}
	return list
}

func copied[T any](t testing.TB, v T) (c T) {
	t.Helper()
	data, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func changeEdits() map[string]func(c *evidence.RosterChange) {
	since := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	return map[string]func(c *evidence.RosterChange){
		"another format":                   func(c *evidence.RosterChange) { c.Format = "signedapproval.roster/v2" },
		"a workspace that is none":         func(c *evidence.RosterChange) { c.Workspace = "acme" },
		"version 0":                        func(c *evidence.RosterChange) { c.Version = 0 },
		"a version beyond what JSON keeps": func(c *evidence.RosterChange) { c.Version = 1 << 53 },
		"nothing before it":                func(c *evidence.RosterChange) { c.Previous = "" },
		"another event":                    func(c *evidence.RosterChange) { c.Event = "seen" },
		"added on the operator's word":     func(c *evidence.RosterChange) { c.By = evidence.ByOperator },
		"an identity without a proof":      func(c *evidence.RosterChange) { c.Proof = "" },
		"a proof that is none":             func(c *evidence.RosterChange) { c.Proof = "abc" },
		"a proof of the operator's word":   func(c *evidence.RosterChange) { c.Event, c.By = evidence.KeyRemoved, evidence.ByOperator },
		"a log-in with a signer":           func(c *evidence.RosterChange) { c.Signer, c.IssuedAt = digestOf("k"), &since },
		"an own key without a signer":      func(c *evidence.RosterChange) { c.By, c.IssuedAt = evidence.ByOwnKey, &since },
		"a signer that is none":            func(c *evidence.RosterChange) { c.By, c.Signer, c.IssuedAt = evidence.ByOwnKey, "abc", &since },
		"a signer who was never asked":     func(c *evidence.RosterChange) { c.By, c.Signer = evidence.ByOwnKey, digestOf("k") },
		"asked, and nobody signed":         func(c *evidence.RosterChange) { c.IssuedAt = &since },
		"asked in a fraction of a second": func(c *evidence.RosterChange) {
			later := since.Add(time.Millisecond)
			c.By, c.Signer, c.IssuedAt = evidence.ByOwnKey, digestOf("k"), &later
		},
		"a new key that is compromised": func(c *evidence.RosterChange) { c.CompromisedSince = &since },
		"compromised on the operator's word": func(c *evidence.RosterChange) {
			c.Event, c.By, c.Proof, c.CompromisedSince = evidence.KeyRemoved, evidence.ByOperator, "", &since
		},
		"compromised in a fraction of a second": func(c *evidence.RosterChange) {
			later := since.Add(time.Millisecond)
			c.Event, c.By, c.Signer, c.IssuedAt, c.CompromisedSince = evidence.KeyRemoved, evidence.ByOwnKey, digestOf("k"), &since, &later
		},
		"agreement to a log-in": func(c *evidence.RosterChange) { c.Agreed = agreements(1) },
		"an agreement of no key": func(c *evidence.RosterChange) {
			c.By, c.Signer, c.IssuedAt, c.Agreed = evidence.ByCountersigner, digestOf("k"), &since, []evidence.Agreement{{Signer: "abc", Proof: digestOf("p"), IssuedAt: since}}
		},
		"an agreement without an act": func(c *evidence.RosterChange) {
			c.By, c.Signer, c.IssuedAt, c.Agreed = evidence.ByCountersigner, digestOf("k"), &since, []evidence.Agreement{{Signer: digestOf("l"), IssuedAt: since}}
		},
		"an agreement in a fraction of a second": func(c *evidence.RosterChange) {
			c.By, c.Signer, c.IssuedAt, c.Agreed = evidence.ByCountersigner, digestOf("k"), &since, agreements(1)
			c.Agreed[0].IssuedAt = since.Add(time.Millisecond)
		},
		"agreements in another order": func(c *evidence.RosterChange) {
			c.By, c.Signer, c.IssuedAt, c.Agreed = evidence.ByCountersigner, digestOf("k"), &since, agreements(2)
			slices.Reverse(c.Agreed)
		},
		"an agreement twice": func(c *evidence.RosterChange) {
			c.By, c.Signer, c.IssuedAt, c.Agreed = evidence.ByCountersigner, digestOf("k"), &since, agreements(1)
			c.Agreed = append(c.Agreed, c.Agreed...)
		},
		"more agreements than people can protect": func(c *evidence.RosterChange) {
			c.By, c.Signer, c.IssuedAt, c.Agreed = evidence.ByCountersigner, digestOf("k"), &since, agreements(evidence.MaxProtectors)
		},
		"a key of nobody":                 func(c *evidence.RosterChange) { c.Key.Person = "" },
		"a key that is none":              func(c *evidence.RosterChange) { c.Key.PublicKey = []byte{0xa0} },
		"a key without a credential id":   func(c *evidence.RosterChange) { c.Key.CredentialID = evidence.Bytes{} },
		"a key with a long credential id": func(c *evidence.RosterChange) { c.Key.CredentialID = make([]byte, 1024) },
	}
}

// agreements are those of n keys.
func agreements(n int) (list []evidence.Agreement) {
	for i := range n {
		list = append(list, evidence.Agreement{Signer: digestOf(fmt.Sprint("key ", i)), Proof: digestOf(fmt.Sprint("act ", i)), IssuedAt: time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)})
	}
	slices.SortFunc(list, func(a, b evidence.Agreement) int { return strings.Compare(string(a.Signer), string(b.Signer)) })
	return list
}

func requestEdits() map[string]func(r *evidence.Request) {
	return map[string]func(r *evidence.Request){
		"no id":                           func(r *evidence.Request) { r.ID = "" },
		"a workspace that is none":        func(r *evidence.Request) { r.Workspace = "acme" },
		"a repository that is none":       func(r *evidence.Request) { r.Repository = "rocket" },
		"number 0":                        func(r *evidence.Request) { r.PullRequest = 0 },
		"a number beyond what JSON keeps": func(r *evidence.Request) { r.PullRequest = 1 << 53 },
		"a prefix of a commit":            func(r *evidence.Request) { r.HeadCommit = r.HeadCommit[:12] },
		"no branch":                       func(r *evidence.Request) { r.DestinationBranch = "" },
		"no rule":                         func(r *evidence.Request) { r.RuleDigest = "" },
		"no start":                        func(r *evidence.Request) { r.OpenedAt = time.Time{} },
		"no end":                          func(r *evidence.Request) { r.ExpiresAt = time.Time{} },
	}
}

// rsaModulus is a number of 2048 bits that no key needs to have for its form to be right.
func rsaModulus() []byte {
	var n []byte
	for i := range 8 {
		sum := sha256.Sum256([]byte(fmt.Sprint("modulus ", i)))
		n = append(n, sum[:]...)
	}
	n[0] |= 0x80
	n[255] |= 1
	return n
}

// publicKeys are COSE keys, good and bad.
func publicKeys(t testing.TB) (good, bad map[string][]byte) {
	t.Helper()
	var p256, okp map[int]any
	for into, data := range map[*map[int]any][]byte{&p256: es256(t, "bob").key.PublicKey, &okp: eddsa(t, "bob").key.PublicKey} {
		if err := cbor.Unmarshal(data, into); err != nil {
			t.Fatal(err)
		}
	}
	modulus := rsaModulus()
	rsaKey := map[int]any{1: 3, 3: -257, -1: modulus, -2: []byte{1, 0, 1}}
	edited := func(key map[int]any, label int, value any) []byte {
		changed := map[int]any{}
		for l, v := range key {
			changed[l] = v
		}
		if changed[label] = value; value == nil {
			delete(changed, label)
		}
		return cose(t, changed)
	}
	x := p256[-2].([]byte)
	numbers := func(data []byte) (list []any) {
		for _, b := range data {
			list = append(list, int(b))
		}
		return list
	}
	wide := func(label byte) []byte { // the same label in two bytes
		return append([]byte{0xa6, 0x18, label, 0x02}, cose(t, p256)[1:]...)
	}
	mixed := mixedOrder(t, func(byte, byte) bool { return true }).key.PublicKey
	even := append(bytes.Clone(modulus[:255]), modulus[255]&^1)
	good = map[string][]byte{
		"ES256": cose(t, p256), "EdDSA": cose(t, okp), "EdDSA of mixed order": mixed, "RS256": cose(t, rsaKey),
		"ES256 with numbers in a longer form": append([]byte{0xa5, 0x18, 0x01, 0x19, 0x00, 0x02}, cose(t, p256)[3:]...),
		"RS256 of 8192 bits":                  edited(rsaKey, -1, slices.Repeat(modulus, 4)),
		"RS256 with the exponent 3":           edited(rsaKey, -2, []byte{3}),
		"RS256 with an exponent of 31 bits":   edited(rsaKey, -2, []byte{0x7f, 0xff, 0xff, 0xff}),
	}
	bad = map[string][]byte{
		"null":                                 {0xf6},
		"a list for x":                         edited(p256, -2, numbers(x)),
		"a list for y":                         edited(p256, -3, numbers(p256[-3].([]byte))),
		"a list for the modulus":               edited(rsaKey, -1, numbers(modulus[:64])),
		"a list for the exponent":              edited(rsaKey, -2, []any{1, 0, 1}),
		"a list for the point of Ed25519":      edited(okp, -2, numbers(okp[-2].([]byte))),
		"text for x":                           edited(p256, -2, strings.Repeat("x", 32)),
		"a label twice, once in a longer form": wide(1),
		"an indefinite length":                 append(append([]byte{0xbf}, cose(t, p256)[1:]...), 0xff),
		"a tag":                                append([]byte{0xd8, 0x3d}, cose(t, p256)...),
		"a tag in it":                          bytes.Replace(cose(t, p256), []byte{0x21, 0x58, 0x20}, []byte{0x21, 0xd8, 64, 0x58, 0x20}, 1),
		"a fraction for the algorithm":         edited(p256, 3, -7.0),
		"a null for the algorithm":             append([]byte{0xa5, 0x01, 0x02, 0x03, 0xf6}, cose(t, p256)[5:]...),
		"nothing":                              {},
		"an empty map":                         {0xa0},
		"not a map":                            {0x80},
		"bytes after it":                       append(cose(t, p256), 0),
		"too large":                            append(cose(t, p256), make([]byte, 4096)...),
		"larger than a key can be":             edited(rsaKey, -1, bytes.Repeat([]byte{0xff}, 2049)),
		"a label twice":                        append(append([]byte{0xa6}, cose(t, p256)[1:]...), 0x01, 0x02),
		"another label":                        edited(p256, 4, []any{1}),
		"a label that is text":                 append(append([]byte{0xa6}, cose(t, p256)[1:]...), 0x61, 'x', 0x02),
		"a private key":                        edited(p256, -4, x),
		"P-256 with another kind":              edited(p256, 1, 1),
		"P-256 with another curve":             edited(p256, -1, 2),
		"P-256 with a short x":                 edited(p256, -2, x[:31]),
		"P-256 with a long x":                  edited(p256, -2, append([]byte{0}, x...)),
		"P-256 with a short y":                 edited(p256, -3, x[:31]),
		"P-256 off the curve":                  edited(p256, -2, p256[-3]),
		"P-256 compressed":                     edited(p256, -3, true),
		"P-256 without y":                      edited(p256, -3, nil),
		"no algorithm":                         edited(p256, 3, nil),
		"ES384":                                edited(p256, 3, -35),
		"ES256K":                               edited(p256, 3, -47),
		"RS1":                                  edited(rsaKey, 3, -65535),
		"PS256":                                edited(rsaKey, 3, -37),
		"Ed448":                                edited(okp, -1, 7),
		"Ed25519 with another kind":            edited(okp, 1, 2),
		"Ed25519 with a short x":               edited(okp, -2, make([]byte, 31)),
		"Ed25519 off the curve":                edited(okp, -2, append([]byte{2}, make([]byte, 31)...)),
		"Ed25519 with a y":                     edited(okp, -3, x),
		"Ed25519 with a number for x":          edited(okp, -2, 7),
		"RSA with another kind":                edited(rsaKey, 1, 2),
		"RSA without a modulus":                edited(rsaKey, -1, []byte{}),
		"RSA with a number for a modulus":      edited(rsaKey, -1, 7),
		"RSA with another label":               edited(rsaKey, 4, []any{1}),
		"RSA with its private exponent":        edited(rsaKey, -3, modulus),
		"RSA of 1024 bits":                     edited(rsaKey, -1, modulus[:128]),
		"RSA of 2047 bits":                     edited(rsaKey, -1, append([]byte{0x7f}, modulus[1:]...)),
		"RSA of 8200 bits":                     edited(rsaKey, -1, bytes.Repeat([]byte{0xff}, 1025)),
		"RSA with a zero before":               edited(rsaKey, -1, append([]byte{0}, modulus...)),
		"RSA with an even modulus":             edited(rsaKey, -1, even),
		"RSA with the exponent 1":              edited(rsaKey, -2, []byte{1}),
		"RSA with an even exponent":            edited(rsaKey, -2, []byte{1, 0, 0}),
		"RSA with an exponent of 32 bits":      edited(rsaKey, -2, []byte{0xff, 0xff, 0xff, 0xff}),
		"RSA with a zero before the exponent":  edited(rsaKey, -2, []byte{0, 1, 0, 1}),
		"RSA with a long exponent":             edited(rsaKey, -2, []byte{1, 0, 0, 0, 1}),
		"RSA without an exponent":              edited(rsaKey, -2, []byte{}),
		"RSA of 8193 bits":                     edited(rsaKey, -1, append([]byte{1}, slices.Repeat(modulus, 4)...)),
		"RSA with a negative exponent":         edited(rsaKey, -2, -3),
	}
	for i, point := range smallOrder {
		bad[fmt.Sprintf("Ed25519 of small order, encoding %d", i)] = edited(okp, -2, unhex(t, point))
	}
	// y = p + 3, which is the point with y = 3 in another encoding.
	bad["Ed25519 in an encoding that is not canonical"] = edited(okp, -2, append(append([]byte{0xf0}, bytes.Repeat([]byte{0xff}, 30)...), 0x7f))
	return good, bad
}

// receiptOf is a good receipt, with the anchors to read it by.
func receiptOf(t testing.TB) (evidence.Receipt, evidence.Anchors, *world) {
	t.Helper()
	w := newWorld(t)
	w.open("old")
	w.decide("bob", evidence.Approve)
	entry := w.entries[2]
	return evidence.Receipt{
		Format: evidence.ReceiptFormat, Leaf: evidence.IncludedLeaf{Entry: entry, Inclusion: w.place(entry)}, Checkpoint: w.checkpoint("witness.example/1", "witness.example/2"),
	}, w.anchors(), w
}

func documentVectors(t *testing.T) (list []documentVector) {
	t.Helper()
	add := func(kind, name, document string, anchors *evidence.Anchors) {
		list = append(list, documentVector{Kind: kind, Name: name, Document: document, Anchors: anchors})
	}
	for _, purpose := range []evidence.Purpose{evidence.Approve, evidence.Reject, evidence.Withdraw, evidence.Override} {
		add("statement", "good "+string(purpose), rawStatement(t, statement(t, purpose)), nil)
	}
	for _, test := range statementEdits() {
		s := statement(t, evidence.Approve)
		test.edit(&s)
		if !utf8.ValidString(s.Source.Branch) {
			continue // JSON cannot say it
		}
		if test.field != "meaning" {
			s.Meaning = evidence.Meaning(s)
		}
		add("statement", fmt.Sprintf("bad %s %d", test.field, len(list)), rawStatement(t, s), nil)
	}
	for name, s := range oddStatements(t) {
		add("statement", "bad "+name, rawStatement(t, s), nil)
	}
	for _, test := range statementTexts(t) {
		add("statement", "bad "+test.name, test.data, nil)
	}
	for name, a := range goodActs(t) {
		add("act", "good "+name, rawAct(t, a), nil)
	}
	for _, test := range actEdits() {
		a := copied(t, goodActs(t)[test.act])
		test.edit(&a)
		if !strings.Contains(test.name, "meaning") {
			a.Meaning = evidence.ActMeaning(a)
		}
		add("act", "bad "+test.name, rawAct(t, a), nil)
	}
	enrol := rawAct(t, goodActs(t)["enrol"])
	for name, change := range map[string][2]string{
		"another statement type": {"Statement/v1", "Statement/v2"}, "another predicate": {"act/v1", "act/v2"}, "another subject": {`{"sha256":"`, `{"sha256":"0`},
		"a second subject": {`"}}]}`, `"}},{"digest":{"sha256":"` + string(digestOf("x")) + `"}}]}`}, "white space": {`{`, `{ `},
	} {
		add("act", "bad "+name, strings.Replace(enrol, change[0], change[1], 1), nil)
	}
	nothing := goodActs(t)["enrol"]
	nothing.Key = nil
	add("act", "bad without a document", raw(t, envelope{evidence.StatementType, []object{{"digest": object{"sha256": digestOf("")}}}, evidence.ActPredicateType, nothing}), nil)
	w := newWorld(t)
	for i, data := range w.roster {
		add("roster-change", fmt.Sprint("good ", i+1), string(data), nil)
	}
	for name, edit := range changeEdits() {
		c := copied(t, w.versions()[0])
		edit(&c)
		add("roster-change", "bad "+name, raw(t, c), nil)
	}
	add("roster-change", "bad depth", nested, nil)
	add("act", "bad depth", nested, nil)
	add("roster-change", "bad white space", string(w.roster[0])+" ", nil)
	for i, l := range leaves() {
		add("leaf", fmt.Sprintf("good %s %d", l.Body.Type(), i), rawLeaf(t, l), nil)
	}
	for i, l := range oddLeaves() {
		add("leaf", fmt.Sprintf("bad %s %d", l.Body.Type(), i), rawLeaf(t, l), nil)
	}
	for name, data := range leafTexts(t) {
		add("leaf", "bad "+name, data, nil)
	}
	w.open("old")
	add("request", "good", raw(t, w.request()), nil)
	for name, edit := range requestEdits() {
		r := w.request()
		edit(&r)
		add("request", "bad "+name, raw(t, r), nil)
	}
	good, bad := publicKeys(t)
	for name, key := range good {
		add("key", "good "+name, evidence.Bytes(key).String(), nil)
	}
	for name, key := range bad {
		add("key", "bad "+name, evidence.Bytes(key).String(), nil)
	}
	list = append(list, anchorsVectors(t, w)...)
	list = append(list, receiptVectors(t)...)
	for name, o := range map[string]evidence.PersonOpening{
		"good": {Salt: seed("salt"), AccountID: "acc-bob", Name: "Bob"}, "bad salt": {Salt: seed("salt")[:31]}, "bad account": {Salt: seed("salt"), AccountID: strings.Repeat("a", 129)},
		"bad name": {Salt: seed("salt"), Name: strings.Repeat("a", 1025)},
	} {
		add("person-opening", name, raw(t, o), nil)
	}
	for name, o := range map[string]evidence.CommentOpening{
		"good": {Salt: seed("salt"), Text: "Fine."}, "bad salt": {Salt: seed("salt")[:31], Text: "Fine."}, "bad nothing": {Salt: seed("salt")}, "bad length": {Salt: seed("salt"), Text: strings.Repeat("a", 64<<10+1)},
	} {
		add("comment-opening", name, raw(t, o), nil)
	}
	for i := range list {
		v := &list[i]
		err := readDocument(*v)
		v.Code = evidence.CodeOf(err)
		if strings.HasPrefix(v.Name, "good") != (err == nil) || err != nil && v.Code == "" {
			t.Errorf("%s %s: %v", v.Kind, v.Name, err)
		}
	}
	return list
}

func rawLeaf(t testing.TB, l evidence.Leaf) string {
	t.Helper()
	e := object{"format": evidence.LeafFormat, "type": l.Body.Type(), "time": l.Time, "workspace": l.Workspace, "body": l.Body}
	if l.Chain != nil {
		e["chain"] = l.Chain
	}
	return raw(t, e)
}

func anchorsText(t testing.TB, a evidence.Anchors) []byte {
	t.Helper()
	data, err := json.Marshal(struct {
		Format string `json:"format"`
		evidence.Anchors
	}{evidence.AnchorsFormat, a})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func anchorsVectors(t *testing.T, w *world) (list []documentVector) {
	t.Helper()
	add := func(name string, edit func(a *evidence.Anchors)) {
		a := copied(t, w.anchors())
		a.Keys = w.pins()
		edit(&a)
		list = append(list, documentVector{Kind: "anchors", Name: name, Document: string(anchorsText(t, a))})
	}
	add("good", func(*evidence.Anchors) {})
	add("good nothing", func(a *evidence.Anchors) { *a = evidence.Anchors{} })
	add("good without witnesses", func(a *evidence.Anchors) { a.Witnesses = &evidence.WitnessPolicy{Keys: []string{}} })
	add("bad log origin", func(a *evidence.Anchors) { a.Log.Origin = "https://log" })
	add("bad log without keys", func(a *evidence.Anchors) { a.Log.Keys = []string{} })
	add("bad log key", func(a *evidence.Anchors) { a.Log.Keys = []string{"log+00000000+AAAA"} })
	smallKey := func(algorithm byte) string {
		key := append([]byte{algorithm}, unhex(t, smallOrder[0])...)
		sum := sha256.Sum256(append([]byte("small.example\n"), key...))
		return fmt.Sprintf("small.example+%x+%s", sum[:4], base64.StdEncoding.EncodeToString(key))
	}
	add("bad log key of small order", func(a *evidence.Anchors) { a.Log.Keys = append(a.Log.Keys, smallKey(1)) })
	add("bad witness key of small order", func(a *evidence.Anchors) { a.Witnesses.Keys = append(a.Witnesses.Keys, smallKey(4)) })
	add("bad log key twice", func(a *evidence.Anchors) { a.Log.Keys = append(a.Log.Keys, a.Log.Keys[0]) })
	add("bad witness key", func(a *evidence.Anchors) { a.Witnesses.Keys[0] = "witness" })
	add("bad witness twice", func(a *evidence.Anchors) { a.Witnesses.Keys[1] = a.Witnesses.Keys[0] })
	add("bad quorum", func(a *evidence.Anchors) { a.Witnesses.Quorum = 4 })
	add("bad negative quorum", func(a *evidence.Anchors) { a.Witnesses.Quorum = -1 })
	add("bad genesis", func(a *evidence.Anchors) { a.Genesis = "abc" })
	add("bad roster", func(a *evidence.Anchors) { a.Roster = "abc" })
	head := func(name string, edit func(a *evidence.Anchors)) {
		add(name, func(a *evidence.Anchors) {
			a.LogHead = &evidence.LogHead{Size: 7, Root: a.Roster}
			edit(a)
		})
	}
	head("good log head", func(*evidence.Anchors) {})
	head("bad log head of nothing", func(a *evidence.Anchors) { a.LogHead.Size = 0 })
	head("bad log head that is too large", func(a *evidence.Anchors) { a.LogHead.Size = 1 << 53 })
	head("bad log head without a root", func(a *evidence.Anchors) { a.LogHead.Root = "" })
	head("bad log head without a log", func(a *evidence.Anchors) { a.Log = nil })
	head("bad log head without a roster", func(a *evidence.Anchors) { a.Roster = "" })
	two := slices.Sorted(slices.Values([]evidence.Digest{digestOf("1"), digestOf("2")}))
	add("good policies of two repositories", func(a *evidence.Anchors) {
		a.Policies = append(policiesOf(otherRepository, two...), a.Policies...)
	})
	add("bad policy", func(a *evidence.Anchors) { a.Policies[0].Digests[0] = "abc" })
	add("bad policies of a repository without a UUID", func(a *evidence.Anchors) { a.Policies[0].Repository = "rocket" })
	add("bad policies of a repository in capitals", func(a *evidence.Anchors) {
		a.Policies[0].Repository = strings.ToUpper(a.Policies[0].Repository)
	})
	add("bad policies of a repository twice", func(a *evidence.Anchors) { a.Policies = slices.Repeat(a.Policies, 2) })
	add("bad policies of repositories out of order", func(a *evidence.Anchors) {
		a.Policies = append(a.Policies, policiesOf(otherRepository, digestOf("1"))...)
	})
	add("bad policies of a repository that has none", func(a *evidence.Anchors) { a.Policies[0].Digests = []evidence.Digest{} })
	add("bad policies of a repository that are null", func(a *evidence.Anchors) { a.Policies[0].Digests = nil })
	add("bad policy twice", func(a *evidence.Anchors) { a.Policies[0].Digests = slices.Repeat(a.Policies[0].Digests, 2) })
	add("bad policies out of order", func(a *evidence.Anchors) {
		a.Policies[0].Digests = two
		slices.Reverse(a.Policies[0].Digests)
	})
	models := func(name string, edit func(s *evidence.Models, m *evidence.Model)) {
		add(name, func(a *evidence.Anchors) {
			a.Models = snapshotOf(newMaker(t), newMakerOf(t, "other model"))
			edit(a.Models, &a.Models.Entries[0])
		})
	}
	models("good models", func(*evidence.Models, *evidence.Model) {})
	models("good model with what was reported", func(_ *evidence.Models, m *evidence.Model) {
		m.SharedRoots, m.Statuses = true, []string{"FIDO_CERTIFIED", "REVOKED"}
	})
	models("bad models without a number", func(s *evidence.Models, _ *evidence.Model) { s.Number = 0 })
	models("bad models with a large number", func(s *evidence.Models, _ *evidence.Model) { s.Number = 1 << 53 })
	models("bad models without a date", func(s *evidence.Models, _ *evidence.Model) { s.NextUpdate = "2026-6-1" })
	models("bad models without an entry", func(s *evidence.Models, _ *evidence.Model) { s.Entries = []evidence.Model{} })
	models("bad models twice", func(s *evidence.Models, m *evidence.Model) { s.Entries[1] = *m })
	models("bad models out of order", func(s *evidence.Models, _ *evidence.Model) { slices.Reverse(s.Entries) })
	models("bad models that are too many", func(s *evidence.Models, m *evidence.Model) {
		one := *m
		s.Entries = nil
		for i := range evidence.MaxModels + 1 {
			one.AAGUID = fmt.Sprintf("876ca4f5-2071-c3e9-b255-%012x", i)
			s.Entries = append(s.Entries, one)
		}
	})
	models("bad model", func(_ *evidence.Models, m *evidence.Model) { m.AAGUID = "0fido" })
	models("bad model without a description", func(_ *evidence.Models, m *evidence.Model) { m.Description = "" })
	models("bad model with a long description", func(_ *evidence.Models, m *evidence.Model) { m.Description = strings.Repeat("a", 201) })
	models("bad model with a description that hides", func(_ *evidence.Models, m *evidence.Model) { m.Description = "Key\u202e" })
	models("bad model without a root", func(_ *evidence.Models, m *evidence.Model) { m.Roots = []evidence.Bytes{} })
	models("bad model with many roots", func(_ *evidence.Models, m *evidence.Model) { m.Roots = slices.Repeat(m.Roots, 33) })
	models("bad root of a model", func(_ *evidence.Models, m *evidence.Model) { m.Roots = []evidence.Bytes{[]byte("x")} })
	models("bad model with many statuses", func(_ *evidence.Models, m *evidence.Model) {
		for i := range 65 {
			m.Statuses = append(m.Statuses, fmt.Sprintf("S%02d", i))
		}
	})
	models("bad status that is empty", func(_ *evidence.Models, m *evidence.Model) { m.Statuses = []string{""} })
	models("bad status in lower case", func(_ *evidence.Models, m *evidence.Model) { m.Statuses = []string{"revoked"} })
	models("bad statuses out of order", func(_ *evidence.Models, m *evidence.Model) { m.Statuses = []string{"REVOKED", "FIDO_CERTIFIED"} })
	add("bad key", func(a *evidence.Anchors) { a.Keys[0].PublicKey = []byte{0xa0} })
	add("bad person", func(a *evidence.Anchors) { a.Keys[0].Person = "" })
	for name, text := range map[string]string{
		"bad nothing": ``, "bad format": `{"format":"signedapproval.anchors/v2"}`, "bad unknown field": `{"format":"signedapproval.anchors/v1","witness":[]}`,
		"bad duplicate key":             `{"format":"signedapproval.anchors/v1","format":"signedapproval.anchors/v1"}`,
		"bad length":                    `{"format":"signedapproval.anchors/v1"}` + strings.Repeat(" ", evidence.MaxAnchors),
		"bad depth":                     `{"format":"signedapproval.anchors/v1","log":` + nested + `}`,
		"bad missing quorum":            `{"format":"signedapproval.anchors/v1","witnesses":{"keys":[]}}`,
		"bad null quorum":               `{"format":"signedapproval.anchors/v1","witnesses":{"keys":[],"quorum":null}}`,
		"bad null":                      `{"format":"signedapproval.anchors/v1","roster":null}`,
		"bad empty":                     `{"format":"signedapproval.anchors/v1","policies":[]}`,
		"bad policies of no repository": `{"format":"signedapproval.anchors/v1","policies":["` + strings.Repeat("0", 64) + `"]}`,
		"bad policies without digests":  `{"format":"signedapproval.anchors/v1","policies":[{"repository":"` + repositoryUUID + `"}]}`,
		"bad policies with a branch":    `{"format":"signedapproval.anchors/v1","policies":[{"repository":"` + repositoryUUID + `","digests":["` + strings.Repeat("0", 64) + `"],"branch":"main"}]}`,
		"bad letters":                   `{"format":"signedapproval.anchors/v1","roster":"` + strings.Repeat("0", 64) + `","Roster":"` + strings.Repeat("1", 64) + `"}`,
	} {
		list = append(list, documentVector{Kind: "anchors", Name: name, Document: text})
	}
	return list
}

func receiptVectors(t *testing.T) (list []documentVector) {
	t.Helper()
	add := func(name string, edit func(r *evidence.Receipt, a *evidence.Anchors, w *world)) {
		r, a, w := receiptOf(t)
		edit(&r, &a, w)
		list = append(list, documentVector{Kind: "receipt", Name: name, Document: raw(t, r), Anchors: &evidence.Anchors{Log: a.Log, Witnesses: a.Witnesses}})
	}
	add("good", func(*evidence.Receipt, *evidence.Anchors, *world) {})
	add("good without a witness policy", func(_ *evidence.Receipt, a *evidence.Anchors, _ *world) { a.Witnesses = nil })
	add("bad format", func(r *evidence.Receipt, _ *evidence.Anchors, _ *world) { r.Format = "signedapproval.receipt/v2" })
	add("bad leaf", func(r *evidence.Receipt, _ *evidence.Anchors, _ *world) { r.Leaf.Entry = []byte("{}") })
	add("bad verdict's leaf", func(r *evidence.Receipt, _ *evidence.Anchors, w *world) {
		r.Leaf = evidence.IncludedLeaf{Entry: w.entries[1], Inclusion: w.place(w.entries[1])}
	})
	add("bad index", func(r *evidence.Receipt, _ *evidence.Anchors, _ *world) { r.Leaf.Index-- })
	add("bad index below 0", func(r *evidence.Receipt, _ *evidence.Anchors, _ *world) { r.Leaf.Index = -1 })
	add("bad index beyond the log", func(r *evidence.Receipt, _ *evidence.Anchors, w *world) { r.Leaf.Index = int64(len(w.log)) })
	add("bad proof", func(r *evidence.Receipt, _ *evidence.Anchors, _ *world) { r.Leaf.Proof = r.Leaf.Proof[1:] })
	add("bad hash", func(r *evidence.Receipt, _ *evidence.Anchors, _ *world) { r.Leaf.Proof[0] = r.Leaf.Proof[0][:31] })
	add("bad log", func(_ *evidence.Receipt, a *evidence.Anchors, _ *world) { a.Log.Origin = "other.example" })
	add("bad key of the log", func(_ *evidence.Receipt, a *evidence.Anchors, w *world) {
		_, key := w.noteKey("other")
		a.Log.Keys = []string{key}
	})
	add("bad anchor of the log", func(_ *evidence.Receipt, a *evidence.Anchors, _ *world) { a.Log.Keys = []string{"x"} })
	add("bad checkpoint", func(r *evidence.Receipt, _ *evidence.Anchors, _ *world) {
		r.Checkpoint = strings.Replace(r.Checkpoint, logOrigin, "other.example", 1)
	})
	add("bad note", func(r *evidence.Receipt, _ *evidence.Anchors, _ *world) { r.Checkpoint = "nothing" })
	add("bad long note", func(r *evidence.Receipt, _ *evidence.Anchors, _ *world) {
		r.Checkpoint += "— other.example " + strings.Repeat("AAAA", 16<<10) + "\n"
	})
	add("bad number of witnesses", func(_ *evidence.Receipt, a *evidence.Anchors, _ *world) { a.Witnesses.Quorum = 3 })
	for name, edit := range map[string]func(text string) string{
		"bad extension line": func(text string) string { return text + "more\n" },
		"bad size":           func(text string) string { return strings.Replace(text, "\n", "\n0", 1) },
		"bad size of a log": func(text string) string {
			return logOrigin + "\n9007199254740992\n" + text[strings.LastIndex(text[:len(text)-1], "\n")+1:]
		},
		"bad root":          func(text string) string { return text[:len(text)-6] + "\n" },
		"bad root's length": func(text string) string { return text[:strings.LastIndex(text[:len(text)-1], "\n")+1] + "AAAA\n" },
		"bad origin":        func(text string) string { return "HTTPS://" + text },
		"bad lines":         func(string) string { return logOrigin + "\n1\n" },
	} {
		add(name, func(r *evidence.Receipt, a *evidence.Anchors, w *world) {
			w.tamperCheckpoint = edit
			r.Checkpoint = w.checkpoint("witness.example/1", "witness.example/2")
			if name == "bad origin" {
				a.Log.Origin = "HTTPS://" + logOrigin
			}
		})
	}
	r, a, _ := receiptOf(t)
	list = append(list,
		documentVector{Kind: "receipt", Name: "bad white space", Document: raw(t, r) + " ", Anchors: &evidence.Anchors{Log: a.Log, Witnesses: a.Witnesses}},
		documentVector{Kind: "receipt", Name: "bad length", Document: raw(t, r) + strings.Repeat(" ", evidence.MaxReceipt), Anchors: &evidence.Anchors{Log: a.Log, Witnesses: a.Witnesses}},
	)
	return list
}

// The report of a receipt comes out as the receipt does, names what it rests on, and is none of a bundle.
func TestReportReceipt(t *testing.T) {
	t.Parallel()
	r, a, _ := receiptOf(t)
	data := []byte(raw(t, r))
	all := evidence.Anchors{Log: a.Log, Witnesses: a.Witnesses}
	for _, c := range []struct {
		name    string
		data    []byte
		anchors evidence.Anchors
		exit    int
		steps   string
		says    string
	}{
		{"all anchors", data, all, 0, "receipt ok, log ok, witnesses ok", "RECORDED: the decision over the statement "},
		{"no anchors", data, evidence.Anchors{}, 2, "receipt ok, log operator-asserted, witnesses operator-asserted", "(UNWITNESSED; consistent, operator-asserted: log, witnesses)"},
		{"no witnesses", data, evidence.Anchors{Log: a.Log}, 2, "receipt ok, log ok, witnesses operator-asserted", "(UNWITNESSED; consistent, operator-asserted: witnesses)"},
		{"another log", data, evidence.Anchors{Log: &evidence.LogAnchor{Origin: "other.example", Keys: a.Log.Keys}}, 1, "receipt ok, log failed", "FAILED at step 2 (log): "},
		{"too few witnesses", data, evidence.Anchors{Log: a.Log, Witnesses: &evidence.WitnessPolicy{Keys: a.Witnesses.Keys, Quorum: 3}}, 1, "receipt ok, log ok, witnesses failed", "FAILED at step 3 (witnesses): "},
		{"another place", []byte(raw(t, evidence.Receipt{
			Format: r.Format, Leaf: evidence.IncludedLeaf{Entry: r.Leaf.Entry, Inclusion: evidence.Inclusion{Index: r.Leaf.Index - 1, Proof: r.Leaf.Proof}}, Checkpoint: r.Checkpoint,
		})), evidence.Anchors{}, 1, "receipt ok, log failed", "FAILED at step 2 (log): "},
		{"a bundle", []byte(published(t)["good approved"].Bundle), all, 1, "receipt failed", "FAILED at step 1 (receipt): "},
		{"nothing", nil, all, 1, "receipt failed", "FAILED at step 1 (receipt): "},
	} {
		report := evidence.ReportReceipt(c.data, c.anchors)
		var steps []string
		for _, step := range report.Steps {
			steps = append(steps, step.Name+" "+string(step.Result))
		}
		if report.ExitCode() != c.exit || strings.Join(steps, ", ") != c.steps || !strings.Contains(report.Sentence(), c.says) {
			t.Errorf("%s: exit %d, %q, %s", c.name, report.ExitCode(), steps, report.Sentence())
		}
		if _, ok := report.Change(); ok || report.Verdict != nil || (report.Recorded != nil) != (c.exit != 1) {
			t.Errorf("%s: %+v", c.name, report)
		}
		for _, fact := range report.Facts {
			if want := map[int]evidence.Label{0: evidence.Recomputed, 2: evidence.Asserted}[c.exit]; fact.Name != "time of the leaf" && fact.Label != want {
				t.Errorf("%s: %s is %s", c.name, fact.Name, fact.Label)
			}
		}
	}
	for _, v := range receiptVectors(t) {
		_, err := evidence.VerifyReceipt([]byte(v.Document), *v.Anchors.Log, v.Anchors.Witnesses)
		if report := evidence.ReportReceipt([]byte(v.Document), *v.Anchors); (report.ExitCode() == 1) != (err != nil) {
			t.Errorf("%s: %s, but %v", v.Name, report.Sentence(), err)
		}
	}
	if report := evidence.Verify(data, all); report.ExitCode() != 1 || report.Recorded != nil {
		t.Errorf("a receipt as a bundle: %s", report.Sentence())
	}
}

func TestKindOf(t *testing.T) {
	t.Parallel()
	r, _, _ := receiptOf(t)
	for document, want := range map[string]evidence.Kind{
		raw(t, r): evidence.KindReceipt, published(t)["good approved"].Bundle: evidence.KindBundle, `{"format":"signedapproval.anchors/v9"}`: evidence.KindAnchors,
		`{"format":"signedapproval.receipts/v1"}`: "", `{"format":1}`: "", `[]`: "", "": "",
	} {
		if got := evidence.KindOf([]byte(document)); got != want {
			t.Errorf("%.60s is %q, not %q", document, got, want)
		}
	}
}

// A receipt says what it proves.
func TestVerifyReceipt(t *testing.T) {
	t.Parallel()
	r, a, w := receiptOf(t)
	data, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := evidence.VerifyReceipt(data, *a.Log, a.Witnesses)
	if err != nil {
		t.Fatal(err)
	}
	if got.Decision.Statement != approval.DigestOf(w.decisions[0].Statement) || got.Leaf.Chain.Sequence != 3 || got.Index != r.Leaf.Index ||
		got.Checkpoint.Origin != logOrigin || got.Checkpoint.N != int64(len(w.log)) || got.Checkpoint.Witnesses != 2 {
		t.Errorf("got %+v", got)
	}
	// A log of a single leaf has an empty proof.
	alone := w.log[:1]
	if _, err := (evidence.Receipt{Leaf: evidence.IncludedLeaf{Entry: alone[0]}, Checkpoint: r.Checkpoint}).Encode(); err != nil {
		t.Error(err)
	}
	for i := range data {
		changed := bytes.Clone(data)
		changed[i] ^= 1
		if _, err := evidence.VerifyReceipt(changed, *a.Log, a.Witnesses); err == nil {
			t.Errorf("byte %d can be changed", i)
		}
	}
}
