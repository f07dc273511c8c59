package evidence

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/gowebpki/jcs"
	formats "github.com/transparency-dev/formats/note"

	"github.com/signedapproval/bitbucket/server/approval"
)

// Formats of the documents around a proof.
const (
	BundleFormat  = "signedapproval.bundle/v1"
	AnchorsFormat = "signedapproval.anchors/v1"
)

// MaxBundle and MaxAnchors are the limits of those documents in bytes.
const (
	MaxBundle  = 32 << 20
	MaxAnchors = 1 << 20
)

// ErasedPrefix begins what stands in facts and verdict for the account of
// somebody who was erased.
const ErasedPrefix = "erased:"

// Bundle proves one verdict offline. It holds the whole history of one pull
// request as this service presents it, not only what led to the verdict; of a
// request that was closed, up to its end.
type Bundle struct {
	// Format is always [BundleFormat].
	Format string `json:"format"`
	// Policy is the policy document, as [approval.Policy.Canonical] writes it.
	Policy json.RawMessage `json:"policy"`
	// Requests are all approval requests of the pull request in the order in
	// which they were opened.
	Requests []Request `json:"requests"`
	// Decisions are all decisions on the pull request in the order of the chain.
	Decisions []SignedDecision `json:"decisions"`
	// OutcomeSalt opens the outcome that the verdict's leaf commits to; absent when
	// somebody was erased from the facts.
	OutcomeSalt Bytes `json:"outcomeSalt,omitempty"`
	// Genesis is the entry of the workspace's genesis leaf.
	Genesis Bytes `json:"genesis"`
	// Roster has the workspace's roster changes from the first on, each as
	// [RosterChange.Canonical] writes it.
	Roster RosterDocuments `json:"roster"`
	// Enrolments are those of the keys that [Roster.Behind] gives for the decisions'
	// credential ids, in its order.
	Enrolments []EnrolledKey `json:"enrolments"`
	// SignedActs are the acts of the changes that [Roster.Behind] gives, in its order.
	SignedActs []SignedAct `json:"signedActs"`
	// Log places the leaves in the log.
	Log LogProof `json:"log"`
	// Salt is the workspace's salt, under which the ids in the leaves are made.
	Salt Bytes `json:"salt"`
	// Chain is the pull request's chain: all its leaf entries, oldest first.
	Chain []Bytes `json:"chain"`
	// Facts is what the tally looked at.
	Facts approval.Facts `json:"facts"`
	// Verdict is what it came to.
	Verdict approval.Verdict `json:"verdict"`
}

// Request is what an approval request is about. A request-opened leaf commits
// to it.
type Request struct {
	// ID is our id of the request.
	ID string `json:"id"`
	// Workspace and Repository are UUIDs as Bitbucket writes them, in braces;
	// the repository is the destination's.
	Workspace  string `json:"workspace"`
	Repository string `json:"repository"`
	// PullRequest is the pull request's number.
	PullRequest int64 `json:"pullRequest"`
	// HeadCommit is the full hash, 40 lower-case hexadecimal digits.
	HeadCommit string `json:"headCommit"`
	// DestinationBranch is the branch to be merged into.
	DestinationBranch string `json:"destinationBranch"`
	// RuleDigest is the digest of the rule that applies.
	RuleDigest Digest `json:"ruleDigest"`
	// OpenedAt and ExpiresAt are in UTC.
	OpenedAt  time.Time `json:"openedAt"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// Digest checks the request and returns the SHA-256 hash of its canonical form.
func (r Request) Digest() (Digest, error) {
	bad := func(field string) error { return refuse(CodeInvalid, "the request's %s is not valid", field) }
	switch {
	case !idForm.MatchString(r.ID):
		return "", bad("id")
	case !uuidForm.MatchString(r.Workspace):
		return "", bad("workspace")
	case !uuidForm.MatchString(r.Repository):
		return "", bad("repository")
	case r.PullRequest < 1 || r.PullRequest >= maxSafe:
		return "", bad("pullRequest")
	case !commitForm.MatchString(r.HeadCommit):
		return "", bad("headCommit")
	case !isBranch(r.DestinationBranch):
		return "", bad("destinationBranch")
	case !r.RuleDigest.Valid():
		return "", bad("ruleDigest")
	case !utc(r.OpenedAt):
		return "", bad("openedAt")
	case !utc(r.ExpiresAt):
		return "", bad("expiresAt")
	}
	return digest(r)
}

// SignedDecision is a decision with everything that proves it.
type SignedDecision struct {
	// ID is our id of the decision.
	ID string `json:"id"`
	// Statement is the bytes that were signed.
	Statement Bytes `json:"statement"`
	// Assertion is the authenticator's answer.
	Assertion Assertion `json:"assertion"`
	// Approver and Author open the statement's commitments; absent when erased.
	Approver *PersonOpening `json:"approver,omitempty"`
	Author   *PersonOpening `json:"author,omitempty"`
	// Comment opens the comment's commitment; absent without one and when erased.
	Comment *CommentOpening `json:"comment,omitempty"`
}

// Digest returns the SHA-256 hash of the assertion's canonical form, which
// covers every part of it.
func (a Assertion) Digest() (Digest, error) { return digest(a) }

// Digest returns the SHA-256 hash of the key's canonical form.
func (k Key) Digest() (Digest, error) { return digest(k) }

// OutcomeDigest returns what a verdict's leaf commits to: HMAC-SHA-256, under a
// salt of [SaltSize] random bytes that is used for this verdict only, of the
// canonical form of the policy's digest, the facts and the verdict. Facts name
// people: without the salt nobody can guess them, and forgetting it erases them.
func OutcomeDigest(salt Bytes, policy Digest, facts approval.Facts, verdict approval.Verdict) (Digest, error) {
	if len(salt) != SaltSize {
		return "", refuse(CodeInvalid, "a salt has %d bytes", SaltSize)
	}
	data, err := canonical(struct {
		Policy  Digest           `json:"policy"`
		Facts   approval.Facts   `json:"facts"`
		Verdict approval.Verdict `json:"verdict"`
	}{policy, facts, verdict}, MaxBundle)
	if err != nil {
		return "", err
	}
	return mac(salt, data), nil
}

func digest(v any) (Digest, error) {
	w := scratch.Get().(*writer)
	defer w.release()
	if err := w.canonical(v, MaxBundle); err != nil {
		return "", err
	}
	return approval.DigestOf(w.out), nil
}

func utc(t time.Time) bool { return !t.IsZero() && t.Location() == time.UTC && t.Year() < 10000 }

// Encode returns the bundle's bytes. It does not verify the bundle.
func (b Bundle) Encode() ([]byte, error) {
	b.Format = BundleFormat
	b.Requests, b.Decisions, b.Chain = listed(b.Requests), listed(b.Decisions), listed(b.Chain)
	b.Roster, b.Enrolments, b.SignedActs = listed(b.Roster), listed(b.Enrolments), listed(b.SignedActs)
	b.Log = b.Log.listed()
	return canonical(b, MaxBundle)
}

// listed returns a copy that JSON writes as a list even when it is empty.
func listed[T any](list []T) []T { return append([]T{}, list...) }

// ParseBundle reads a bundle's bytes. It does not verify the bundle.
func ParseBundle(data []byte) (Bundle, error) {
	b, _, err := readBundle(data)
	return b, err
}

// readBundle reads a bundle and the changes of its roster.
func readBundle(data []byte) (b Bundle, changes []*rosterVersion, err error) {
	if len(data) > MaxBundle {
		return Bundle{}, nil, tooLong(data, MaxBundle)
	}
	r := newReader(data)
	if !r.document(&b) {
		return Bundle{}, nil, unreadable(data, new(Bundle))
	}
	if b.Format != BundleFormat {
		return Bundle{}, nil, refuse(CodeInvalid, "format must be %s", BundleFormat)
	}
	return b, r.changes, nil
}

// Anchors are what a verifier knows from somewhere else than the bundle. What
// is empty is not anchored, and the report says so.
type Anchors struct {
	// RelyingParties are the pairs of relying party id and origin on which
	// signatures are believed.
	RelyingParties []RelyingParty `json:"relyingParties,omitempty"`
	// Keys are public keys that are known to belong to a person, besides those of
	// the roster.
	Keys []PinnedKey `json:"keys,omitempty"`
	// Policies are those that are expected, by the repositories that they are
	// expected of: the bundle's has to be one of its own repository's.
	Policies []PinnedPolicies `json:"policies,omitempty"`
	// Log is the log on which the proofs have to rest.
	Log *LogAnchor `json:"log,omitempty"`
	// Witnesses is who has to have cosigned its checkpoint; a quorum of 0 says
	// that nobody has to.
	Witnesses *WitnessPolicy `json:"witnesses,omitempty"`
	// Genesis is the leaf hash of the workspace's genesis.
	Genesis Digest `json:"genesis,omitempty"`
	// Roster is the digest of a version of the workspace's roster whose keys are
	// known to be their people's. Keys that came later count if a key of it signed
	// for them, directly or through others.
	Roster Digest `json:"roster,omitempty"`
	// LogHead is a head of the log at which Roster is known to have been the workspace's newest version: whoever asks the log for
	// a newer one begins there. No decision by a key that Roster has revoked lies behind it.
	LogHead *LogHead `json:"logHead,omitempty"`
	// Models is a snapshot of the FIDO metadata: the report then says of each key that
	// signed whether its authenticator is of one of its models, and what a rule asks of
	// models is recomputed.
	Models *Models `json:"models,omitempty"`
}

// LogAnchor is a log with the keys that sign its checkpoints.
type LogAnchor struct {
	// Origin is the log's name.
	Origin string `json:"origin"`
	// Keys are note verifier keys; a signature by one of them is needed.
	Keys []string `json:"keys"`
}

// WitnessPolicy is a set of witnesses and how many of them have to have cosigned.
type WitnessPolicy struct {
	Quorum int `json:"quorum"`
	// Keys are the witnesses' verifier keys (C2SP cosignature/v1).
	Keys []string `json:"keys"`
}

// PinnedKey ties a public key to a person and, if it is known, an account.
type PinnedKey struct {
	// Person is the person's id in statements.
	Person string `json:"person"`
	// AccountID is the person's Bitbucket account id; empty leaves it to the
	// operator whose account it is.
	AccountID string `json:"accountId,omitempty"`
	// PublicKey is the COSE key.
	PublicKey Bytes `json:"publicKey"`
}

// PinnedPolicies are the policies that are expected of one repository. Another one's can ask for less.
type PinnedPolicies struct {
	// Repository is the repository's UUID in braces.
	Repository string `json:"repository"`
	// Digests are those of the policies, ascending, at least one.
	Digests []Digest `json:"digests"`
}

// ParseAnchors reads an anchors document: the fields of [Anchors] and the
// format [AnchorsFormat]. White space and order are free; fields that are
// duplicate, unknown, null, empty or in other letters are refused, and so is a
// witness policy without a quorum.
func ParseAnchors(data []byte) (Anchors, error) {
	var doc struct {
		Format string `json:"format"`
		Anchors
	}
	if len(data) > MaxAnchors {
		return Anchors{}, refuse(CodeTooLarge, "%d bytes are more than the limit of %d", len(data), MaxAnchors)
	}
	if err := CheckJSON(data); err != nil {
		return Anchors{}, err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&doc); err != nil {
		return Anchors{}, refuse(CodeMalformed, "not an anchors document: %v", err)
	}
	if doc.Format != AnchorsFormat {
		return Anchors{}, refuse(CodeInvalid, "format must be %s", AnchorsFormat)
	}
	same, err := sameDocument(data, doc)
	if err != nil {
		return Anchors{}, err
	}
	if !same { // an anchor that is misspelt or null would be one that nobody demands
		return Anchors{}, refuse(CodeMalformed, "not an anchors document: a member is missing, empty, null or in other letters")
	}
	if err := doc.checkPolicies(); err != nil {
		return Anchors{}, err
	}
	if err := doc.checkLog(); err != nil {
		return Anchors{}, err
	}
	if _, err := doc.pinned(); err != nil {
		return Anchors{}, err
	}
	for i, key := range doc.Keys {
		if !idForm.MatchString(key.Person) {
			return Anchors{}, refuse(CodeInvalid, "keys[%d] must be a person's id and a public key", i)
		}
	}
	return doc.Anchors, nil
}

// sameDocument reports whether a value is written as a document, but for white space and order.
func sameDocument(data []byte, value any) (bool, error) {
	written, err := json.Marshal(value)
	if err != nil {
		return false, err
	}
	given, err := jcs.Transform(data)
	if err != nil {
		return false, err
	}
	ours, err := jcs.Transform(written)
	return bytes.Equal(given, ours), err
}

func (a Anchors) checkPolicies() error {
	for i, p := range a.Policies {
		switch {
		case !uuidForm.MatchString(p.Repository):
			return refuse(CodeInvalid, "policies[%d] must name a repository by its UUID in braces and lower case", i)
		case i > 0 && p.Repository <= a.Policies[i-1].Repository:
			return refuse(CodeInvalid, "policies must be in the order of their repositories, each once")
		case len(p.Digests) == 0 || !digests(p.Digests):
			return refuse(CodeInvalid, "policies[%d] must have at least one digest, ascending, each once", i)
		}
	}
	return nil
}

func (a Anchors) checkLog() error {
	if l := a.Log; l != nil {
		if !logForm.MatchString(l.Origin) || len(l.Keys) == 0 {
			return refuse(CodeInvalid, "log must be an origin and at least one verifier key")
		}
		if _, err := verifierKeys(l.Keys, formats.NewVerifier); err != nil {
			return err
		}
		if err := ofLargeOrder(l.Keys); err != nil {
			return err
		}
	}
	if w := a.Witnesses; w != nil {
		if _, err := w.verifiers(); err != nil {
			return err
		}
		if err := ofLargeOrder(w.Keys); err != nil {
			return err
		}
	}
	if a.Models != nil {
		if err := a.Models.Check(); err != nil {
			return err
		}
	}
	if a.Genesis != "" && !a.Genesis.Valid() || a.Roster != "" && !a.Roster.Valid() {
		return refuse(CodeInvalid, "genesis and roster must be digests")
	}
	if h := a.LogHead; h != nil && (h.Size < 1 || h.Size >= maxSafe || !h.Root.Valid() || a.Log == nil || a.Roster == "") {
		return refuse(CodeInvalid, "logHead must be the size and root of the log, beside log and roster")
	}
	return nil
}
