package evidence

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"
)

// LeafFormat names this version of a log entry.
const LeafFormat = "signedapproval.leaf/v1"

// MaxLeaf is the limit of an entry in bytes; the tile format cannot hold more.
const MaxLeaf = 65535

// Leaf is one event in the log. Outsiders may read it: it holds ids of ours and
// digests, never a name, a title or a branch.
type Leaf struct {
	// Time is when the event was written, in UTC.
	Time time.Time
	// Workspace stands for the workspace: [WorkspaceID].
	Workspace Digest
	// Chain places the leaf in its pull request's chain; nil for an event that
	// is about no pull request.
	Chain *Chain
	// Body is the event.
	Body Body
}

// Chain is a leaf's place in the history of one pull request.
type Chain struct {
	// ID is the chain's id: [ChainID].
	ID Digest `json:"id"`
	// Sequence counts the chain's leaves without a gap, from 1.
	Sequence int64 `json:"sequence"`
	// Previous is the hash of the leaf before; absent in the first.
	Previous Digest `json:"previous,omitempty"`
}

// LeafType names the kind of an event.
type LeafType string

// The kinds of events. The first group belongs to a pull request and carries a
// chain, the second does not.
const (
	TypeRequestOpened LeafType = "request-opened"
	TypeRequestClosed LeafType = "request-closed"
	TypeDecision      LeafType = "decision"
	TypeVerdict       LeafType = "verdict"
	TypeStatusPaid    LeafType = "status-paid"
	TypeMerged        LeafType = "merged"
	TypeMergeChecked  LeafType = "merge-checked"

	TypeGenesis         LeafType = "genesis"
	TypePolicyVersion   LeafType = "policy-version"
	TypeKeyEnrolled     LeafType = "key-enrolled"
	TypeKeyRevoked      LeafType = "key-revoked"
	TypeConnection      LeafType = "connection"
	TypeEnforcementSeen LeafType = "enforcement-seen"
	TypeRosterVersion   LeafType = "roster-version"
	TypeProtection      LeafType = "protection"
)

// Body is the typed content of a leaf: one of the structs of this file.
type Body interface {
	// Type returns the kind of event.
	Type() LeafType
	check() error
}

// RequestOpened says that an approval request was made.
type RequestOpened struct {
	// Request is our id of the request.
	Request string `json:"request"`
	// Document is [Request.Digest] of what the request is about.
	Document Digest `json:"document"`
}

// RequestClosed says that a request ended without a verdict of its own.
type RequestClosed struct {
	Request string `json:"request"`
	// Reason is superseded or cancelled.
	Reason string `json:"reason"`
}

// DecisionMade says that a person decided.
type DecisionMade struct {
	Request string `json:"request"`
	// Statement is the SHA-256 hash of the statement's bytes.
	Statement Digest `json:"statement"`
	// Assertion is [Assertion.Digest] of the complete assertion.
	Assertion Digest `json:"assertion"`
}

// VerdictReached says what a tally came to.
type VerdictReached struct {
	Request string `json:"request"`
	// State is the verdict's state.
	State string `json:"state"`
	// Outcome is [OutcomeDigest] of the facts and the verdict.
	Outcome Digest `json:"outcome"`
}

// StatusPaid says that Bitbucket took a commit status.
type StatusPaid struct {
	Request string `json:"request"`
	// State is the status's state: INPROGRESS, SUCCESSFUL, FAILED or STOPPED.
	State string `json:"state"`
}

// Merged says that the pull request was seen merged.
type Merged struct {
	// Request is the request under which it was merged; empty without one.
	Request string `json:"request,omitempty"`
	// Kind is "approved" when what landed is what was approved, "override" when it
	// is what was overridden for, else "violation".
	Kind string `json:"kind"`
	// Commit is the full hash of what landed.
	Commit string `json:"commit"`
}

// The triggers and the answers of a merge check.
const (
	TriggerOnMerge  = "on-merge"
	TriggerPreMerge = "pre-merge"
	AnswerYes       = "yes"
	AnswerNo        = "no"
)

// The codes of a merge check's "yes"; those of a "no" are the gate's own.
const (
	// CheckApproved: the request is approved.
	CheckApproved = "APPROVED"
	// CheckOverridden: the request is not approved, and was overridden.
	CheckOverridden = "OVERRIDDEN"
	// CheckNoRule: no rule asks for approval of the destination branch.
	CheckNoRule = "NO_RULE"
)

// MergeChecked says what was answered to Bitbucket's merge check. It is written
// before the answer leaves: whether Bitbucket got the answer it does not say.
type MergeChecked struct {
	// Trigger is [TriggerOnMerge] or [TriggerPreMerge].
	Trigger string `json:"trigger"`
	// Asker commits to the account that wants to merge, by [PersonOpening] without
	// a name; empty when Bitbucket names nobody.
	Asker Commitment `json:"asker,omitempty"`
	// Answer is [AnswerYes] or [AnswerNo].
	Answer string `json:"answer"`
	// Code says why.
	Code string `json:"code"`
	// Commit is the full hash of the head that was judged; empty in a "no" when
	// it could not be read.
	Commit string `json:"commit,omitempty"`
	// Destination is [BranchID] of the destination branch, empty like Commit.
	Destination Digest `json:"destination,omitempty"`
	// Request is the request that was judged; empty when there was none.
	Request string `json:"request,omitempty"`
}

// Genesis is a workspace's first event.
type Genesis struct {
	// Salt is the SHA-256 hash of the salt under which the workspace's ids are made.
	Salt Digest `json:"salt"`
}

// PolicyVersion says that a repository's policy changed.
type PolicyVersion struct {
	// Repository is [RepositoryID] of the repository.
	Repository Digest `json:"repository"`
	// Version counts the repository's policies from 1.
	Version int64 `json:"version"`
	// Policy is the policy's digest; absent when the repository is no longer gated.
	Policy Digest `json:"policy,omitempty"`
	// Acts are the digests of the [SignedAct]s that agreed to it; absent where the
	// workspace asks for none.
	Acts []Digest `json:"acts,omitempty"`
}

// ProtectionSet says by whose signatures the workspace's rules can be changed
// from here on.
type ProtectionSet struct {
	// Version counts the workspace's protections from 1.
	Version int64 `json:"version"`
	// Protection is [ProtectionDocument.Digest].
	Protection Digest `json:"protection"`
	// Acts are the digests of the [SignedAct]s that agreed to it.
	Acts []Digest `json:"acts"`
}

// RosterVersion says that a workspace's roster changed.
type RosterVersion struct {
	// Version counts the workspace's rosters from 1.
	Version int64 `json:"version"`
	// Roster is [RosterChange.Digest] of this version.
	Roster Digest `json:"roster"`
}

// KeyEnrolled says that a person enrolled a key.
type KeyEnrolled struct {
	Person string `json:"person"`
	// Key is [Key.Digest].
	Key Digest `json:"key"`
	// AttestationObject and ClientData are SHA-256 hashes of what the
	// authenticator and the browser returned.
	AttestationObject Digest `json:"attestationObject"`
	ClientData        Digest `json:"clientData"`
	// IdentifiedBy says what the person was known by, such as "bitbucket-login".
	IdentifiedBy string `json:"identifiedBy"`
	// Enrolment is [Enrolment.Digest].
	Enrolment Digest `json:"enrolment,omitempty"`
}

// KeyRevoked says that a key no longer counts.
type KeyRevoked struct {
	Person string `json:"person"`
	Key    Digest `json:"key"`
	// By says on whose word; absent where it was the operator's.
	By Identity `json:"by,omitempty"`
	// Revocation is [SignedAct.Digest] of the act that revokes; absent where nobody signed.
	Revocation Digest `json:"revocation,omitempty"`
}

// Connection says that a workspace's connection was made or ended, or that the app was installed,
// confirmed or uninstalled in it.
type Connection struct {
	// Event is made, renewed, broken or ended, or installed, confirmed or uninstalled.
	Event string `json:"event"`
	// Person is who did it; empty when nobody here did.
	Person string `json:"person,omitempty"`
}

// EnforcementSeen says what was found out about how far Bitbucket enforces the
// gate for the branches of a pattern. It is written when that changes.
type EnforcementSeen struct {
	// Repository is [RepositoryID] of the repository.
	Repository Digest `json:"repository"`
	// Branches is [BranchID] of the pattern.
	Branches Digest `json:"branches"`
	// State is ENFORCED, WARNS_ONLY, OPEN or UNKNOWN.
	State string `json:"state"`
}

// Type returns [TypeRequestOpened].
func (RequestOpened) Type() LeafType { return TypeRequestOpened }

// Type returns [TypeRequestClosed].
func (RequestClosed) Type() LeafType { return TypeRequestClosed }

// Type returns [TypeDecision].
func (DecisionMade) Type() LeafType { return TypeDecision }

// Type returns [TypeVerdict].
func (VerdictReached) Type() LeafType { return TypeVerdict }

// Type returns [TypeStatusPaid].
func (StatusPaid) Type() LeafType { return TypeStatusPaid }

// Type returns [TypeMerged].
func (Merged) Type() LeafType { return TypeMerged }

// Type returns [TypeMergeChecked].
func (MergeChecked) Type() LeafType { return TypeMergeChecked }

// Type returns [TypeGenesis].
func (Genesis) Type() LeafType { return TypeGenesis }

// Type returns [TypePolicyVersion].
func (PolicyVersion) Type() LeafType { return TypePolicyVersion }

// Type returns [TypeKeyEnrolled].
func (KeyEnrolled) Type() LeafType { return TypeKeyEnrolled }

// Type returns [TypeKeyRevoked].
func (KeyRevoked) Type() LeafType { return TypeKeyRevoked }

// Type returns [TypeConnection].
func (Connection) Type() LeafType { return TypeConnection }

// Type returns [TypeEnforcementSeen].
func (EnforcementSeen) Type() LeafType { return TypeEnforcementSeen }

// Type returns [TypeRosterVersion].
func (RosterVersion) Type() LeafType { return TypeRosterVersion }

// Type returns [TypeProtection].
func (ProtectionSet) Type() LeafType { return TypeProtection }

func (b RosterVersion) check() error {
	return need(b.Version >= 1 && b.Version < maxSafe && b.Roster.Valid())
}

func (b ProtectionSet) check() error {
	return need(b.Version >= 1 && b.Version < maxSafe && b.Protection.Valid() && digests(b.Acts))
}

// digests reports whether each of a list is a digest and none is there twice.
func digests(list []Digest) bool {
	return !slices.ContainsFunc(list, func(d Digest) bool { return !d.Valid() }) && ascending(list)
}

func (b RequestOpened) check() error {
	return need(idForm.MatchString(b.Request) && b.Document.Valid())
}

func (b RequestClosed) check() error {
	return need(idForm.MatchString(b.Request) && slices.Contains([]string{"superseded", "cancelled"}, b.Reason))
}

func (b DecisionMade) check() error {
	return need(idForm.MatchString(b.Request) && b.Statement.Valid() && b.Assertion.Valid())
}

func (b VerdictReached) check() error {
	return need(idForm.MatchString(b.Request) && slices.Contains([]string{"PENDING", "APPROVED", "REJECTED", "EXPIRED", "OVERRIDDEN"}, b.State) && b.Outcome.Valid())
}

func (b StatusPaid) check() error {
	return need(idForm.MatchString(b.Request) && slices.Contains([]string{"INPROGRESS", "SUCCESSFUL", "FAILED", "STOPPED"}, b.State))
}

func (b Merged) check() error {
	return need((b.Request == "" || idForm.MatchString(b.Request)) && slices.Contains([]string{"approved", "override", "violation"}, b.Kind) && commitForm.MatchString(b.Commit))
}

func (b MergeChecked) check() error {
	known := commitForm.MatchString(b.Commit) && b.Destination.Valid()
	approved := (b.Code == CheckApproved || b.Code == CheckOverridden) && b.Request != ""
	ruleless := b.Code == CheckNoRule && b.Request == ""
	fits := b.Answer == AnswerNo && !slices.Contains([]string{CheckApproved, CheckOverridden, CheckNoRule}, b.Code) && (known || b.Commit == "" && b.Destination == "") ||
		b.Answer == AnswerYes && known && (approved || ruleless)
	return need(fits && slices.Contains([]string{TriggerOnMerge, TriggerPreMerge}, b.Trigger) && idForm.MatchString(b.Code) &&
		(b.Asker == "" || b.Asker.Valid()) && (b.Request == "" || idForm.MatchString(b.Request)))
}

func (b Genesis) check() error { return need(b.Salt.Valid()) }

func (b PolicyVersion) check() error {
	return need(b.Repository.Valid() && b.Version >= 1 && b.Version < maxSafe && (b.Policy == "" || b.Policy.Valid()) && digests(b.Acts))
}

func (b KeyEnrolled) check() error {
	return need(idForm.MatchString(b.Person) && b.Key.Valid() && b.AttestationObject.Valid() && b.ClientData.Valid() && idForm.MatchString(b.IdentifiedBy) &&
		(b.Enrolment == "" || b.Enrolment.Valid()))
}

func (b KeyRevoked) check() error {
	return need(idForm.MatchString(b.Person) && b.Key.Valid() && (b.By == "") == (b.Revocation == "") &&
		(b.Revocation == "" || b.Revocation.Valid() && (b.By == ByOwnKey || b.By == ByCountersigner)))
}

func (b Connection) check() error {
	return need(slices.Contains([]string{"made", "renewed", "broken", "ended", "installed", "confirmed", "uninstalled"}, b.Event) && (b.Person == "" || idForm.MatchString(b.Person)))
}

func (b EnforcementSeen) check() error {
	return need(b.Repository.Valid() && b.Branches.Valid() && slices.Contains([]string{"ENFORCED", "WARNS_ONLY", "OPEN", "UNKNOWN"}, b.State))
}

func need(ok bool) error {
	if !ok {
		return refuse(CodeInvalid, "the body of a leaf has a value that it cannot have")
	}
	return nil
}

// bodies has one empty body of each kind; chained says which kinds belong to a
// pull request.
var bodies = map[LeafType]struct {
	body    Body
	chained bool
}{
	TypeRequestOpened: {RequestOpened{}, true},
	TypeRequestClosed: {RequestClosed{}, true},
	TypeDecision:      {DecisionMade{}, true},
	TypeVerdict:       {VerdictReached{}, true},
	TypeStatusPaid:    {StatusPaid{}, true},
	TypeMerged:        {Merged{}, true},
	TypeMergeChecked:  {MergeChecked{}, true},
	TypeGenesis:       {Genesis{}, false},
	TypePolicyVersion: {PolicyVersion{}, false},
	TypeKeyEnrolled:   {KeyEnrolled{}, false},
	TypeKeyRevoked:    {KeyRevoked{}, false},
	TypeConnection:    {Connection{}, false},

	TypeEnforcementSeen: {EnforcementSeen{}, false},
	TypeRosterVersion:   {RosterVersion{}, false},
	TypeProtection:      {ProtectionSet{}, false},
}

type entry struct {
	Format    string    `json:"format"`
	Type      LeafType  `json:"type"`
	Time      time.Time `json:"time"`
	Workspace Digest    `json:"workspace"`
	Chain     *Chain    `json:"chain,omitempty"`
	Body      any       `json:"body"`
}

// Entry checks the leaf and returns its bytes in the log.
func (l Leaf) Entry() ([]byte, error) {
	if l.Body == nil {
		return nil, refuse(CodeInvalid, "a leaf needs a body")
	}
	if err := l.check(); err != nil {
		return nil, err
	}
	return canonical(entry{
		Format: LeafFormat, Type: l.Body.Type(), Time: l.Time, Workspace: l.Workspace, Chain: l.Chain, Body: l.Body,
	}, MaxLeaf)
}

// ParseLeaf reads an entry. It accepts exactly what [Leaf.Entry] writes.
func ParseLeaf(data []byte) (Leaf, error) {
	var e struct {
		Format    string          `json:"format"`
		Type      LeafType        `json:"type"`
		Time      time.Time       `json:"time"`
		Workspace Digest          `json:"workspace"`
		Chain     *Chain          `json:"chain,omitempty"`
		Body      json.RawMessage `json:"body"`
	}
	if len(data) > MaxLeaf || !read(data, &e) {
		return Leaf{}, notLeaf(data)
	}
	known, ok := bodies[e.Type]
	if !ok {
		return Leaf{}, notLeaf(data)
	}
	body := reflect.New(reflect.TypeOf(known.body))
	if !read(e.Body, body.Interface()) {
		return Leaf{}, notLeaf(data)
	}
	if e.Format != LeafFormat {
		return Leaf{}, refuse(CodeInvalid, "format must be %s", LeafFormat)
	}
	l := Leaf{Time: e.Time, Workspace: e.Workspace, Chain: e.Chain, Body: body.Elem().Interface().(Body)}
	return l, l.check()
}

// notLeaf says why data is not an entry.
func notLeaf(data []byte) error {
	if len(data) > MaxLeaf {
		return refuse(CodeTooLarge, "%d bytes are more than the limit of %d", len(data), MaxLeaf)
	}
	var kind struct {
		Type LeafType `json:"type"`
	}
	if err := json.Unmarshal(data, &kind); err != nil {
		return refuse(CodeMalformed, "not a leaf: %v", err)
	}
	known, ok := bodies[kind.Type]
	if !ok {
		return refuse(CodeMalformed, "no leaf has this type")
	}
	return unreadable(data, &entry{Body: reflect.New(reflect.TypeOf(known.body)).Interface()})
}

func (l Leaf) check() error {
	if l.Time.IsZero() || l.Time.Location() != time.UTC || l.Time.Year() > 9999 {
		return refuse(CodeInvalid, "the time of a leaf must be in UTC")
	}
	if !l.Workspace.Valid() {
		return refuse(CodeInvalid, "the workspace of a leaf must be a digest")
	}
	if bodies[l.Body.Type()].chained != (l.Chain != nil) {
		return refuse(CodeInvalid, "a leaf carries a chain exactly if it is about a pull request")
	}
	if c := l.Chain; c != nil {
		first := c.Sequence == 1 && c.Previous == ""
		later := c.Sequence > 1 && c.Sequence < maxSafe && c.Previous.Valid()
		if !c.ID.Valid() || !first && !later {
			return refuse(CodeInvalid, "the chain of a leaf must be an id, a sequence from 1 and, after the first, the previous hash")
		}
	}
	return l.Body.check()
}

// LeafHash returns the hash of an entry in the log's tree (RFC 6962).
func LeafHash(entry []byte) [sha256.Size]byte {
	return sha256.Sum256(append(make([]byte, 1, 1024), entry...)) // few are longer, so this stays on the stack
}

// LeafDigest returns [LeafHash] in the form in which chains and statements name it.
func LeafDigest(entry []byte) Digest {
	sum := LeafHash(entry)
	return Digest(hex.EncodeToString(sum[:]))
}

// ChainID returns the id of a pull request's chain under the workspace's salt.
// It says nothing about the repository to whoever does not hold the salt.
func ChainID(salt []byte, repository string, number int64) Digest {
	return mac(salt, []byte(fmt.Sprintf("chain\x00%s\x00%d", repository, number)))
}

// RepositoryID returns what stands for a repository in the log.
func RepositoryID(salt []byte, repository string) Digest {
	return mac(salt, []byte("repository\x00"+repository))
}

// BranchID returns what stands for a branch of a repository, or for a pattern of
// branches, in the log.
func BranchID(salt []byte, repository, branch string) Digest {
	return mac(salt, []byte("branch\x00"+repository+"\x00"+branch))
}

// WorkspaceID returns what stands for a workspace in the log.
func WorkspaceID(salt []byte, workspace string) Digest {
	return mac(salt, []byte("workspace\x00"+workspace))
}

// CheckChain reads the entries of one pull request's chain, oldest first, and
// makes sure that nothing is missing between them: one chain id, one workspace,
// sequences 1, 2, 3 and so on, each naming the hash of the one before. What came
// after the last entry it cannot know.
func CheckChain(entries [][]byte) ([]Leaf, error) {
	leaves := make([]Leaf, 0, len(entries))
	for i, data := range entries {
		l, err := ParseLeaf(data)
		if err != nil {
			return nil, refuse(CodeOf(err), "leaf %d: %s", i+1, err.Error())
		}
		switch {
		case l.Chain == nil:
			return nil, refuse(CodeChain, "leaf %d is not part of a chain", i+1)
		case l.Chain.Sequence != int64(i+1):
			return nil, refuse(CodeChain, "leaf %d has the sequence %d", i+1, l.Chain.Sequence)
		case i > 0 && l.Chain.Previous != LeafDigest(entries[i-1]):
			return nil, refuse(CodeChain, "leaf %d does not follow leaf %d", i+1, i)
		case l.Chain.ID != leafChain(leaves, l).ID || l.Workspace != leafOf(leaves, l).Workspace:
			return nil, refuse(CodeChain, "leaf %d belongs to another chain", i+1)
		}
		leaves = append(leaves, l)
	}
	return leaves, nil
}

// leafOf returns the chain's first leaf, which is l itself at the start.
func leafOf(leaves []Leaf, l Leaf) Leaf {
	if len(leaves) == 0 {
		return l
	}
	return leaves[0]
}

func leafChain(leaves []Leaf, l Leaf) Chain { return *leafOf(leaves, l).Chain }
