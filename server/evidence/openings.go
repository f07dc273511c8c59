package evidence

import (
	"encoding/json"

	"github.com/signedapproval/bitbucket/server/approval"
)

// OpeningsFormat names this version of [Openings].
const OpeningsFormat = "signedapproval.openings/v1"

// MaxOpenings is the limit of openings in bytes.
const MaxOpenings = 256 << 20

// Openings open what a workspace's leaves commit to, for whoever follows the log
// on behalf of the workspace.
type Openings struct {
	// Format is always [OpeningsFormat].
	Format string `json:"format"`
	// Workspace is the workspace's UUID in braces.
	Workspace string `json:"workspace"`
	// Salt is the salt under which the ids in the leaves are made.
	Salt Bytes `json:"salt"`
	// Genesis is the entry of the workspace's genesis leaf.
	Genesis Bytes `json:"genesis"`
	// Roster has the roster changes from the first on, each as
	// [RosterChange.Canonical] writes it; an empty object where one is not on record
	// any more.
	Roster []json.RawMessage `json:"roster"`
	// RosterLeaf is the index in the log of the leaf of the newest version; absent without
	// a version, and where the leaf is not on record any more.
	RosterLeaf *int64 `json:"rosterLeaf,omitempty"`
	// Enrolments are those of the keys in the roster, with the openings of their
	// signers' commitments.
	Enrolments []EnrolledKey `json:"enrolments"`
	// SignedActs are the acts that roster, policies and protections name by their
	// digests, but for those that are part of an enrolment.
	SignedActs []SignedAct `json:"signedActs"`
	// Protections are the protections from the first on.
	Protections []ProtectionDocument `json:"protections"`
	// Policies are the versions of all repositories' policies.
	Policies []OpenedPolicy `json:"policies"`
	// Chains say which pull request each chain is about.
	Chains []OpenedChain `json:"chains"`
}

// OpenedPolicy is a version of a repository's policy.
type OpenedPolicy struct {
	// Repository is the repository's UUID in braces.
	Repository string `json:"repository"`
	// Version counts the repository's policies from 1.
	Version int64 `json:"version"`
	// Policy is the document, as [approval.Policy.Canonical] writes it; absent when
	// the repository is gated no longer.
	Policy json.RawMessage `json:"policy,omitempty"`
}

// OpenedChain is a chain with its pull request.
type OpenedChain struct {
	// ID is [ChainID].
	ID Digest `json:"id"`
	// Repository is the repository's UUID in braces, PullRequest the number there.
	Repository  string `json:"repository"`
	PullRequest int64  `json:"pullRequest"`
	// Branch is its destination branch now, by the server's word; empty where that is
	// not known.
	Branch string `json:"branch,omitempty"`
}

// Encode returns the openings' bytes.
func (o Openings) Encode() ([]byte, error) {
	o.Format = OpeningsFormat
	o.Roster, o.Enrolments, o.SignedActs = listed(o.Roster), listed(o.Enrolments), listed(o.SignedActs)
	o.Protections, o.Policies, o.Chains = listed(o.Protections), listed(o.Policies), listed(o.Chains)
	return canonical(o, MaxOpenings)
}

// maxPart is how many bytes of openings one part of a list has at most: an
// enrolment, with the attestation object and three acts, has less.
const maxPart = 1 << 20

// Opens tells whether a part of one of the lists of [Openings] can be written and
// read again: one that cannot would keep everybody from reading the others.
func Opens[T EnrolledKey | SignedAct | ProtectionDocument | OpenedPolicy](part T) bool {
	data, err := canonical(part, maxPart)
	if err != nil || approval.TooDeep(append([]byte("[["), data...)) { // it lies two levels deep
		return false
	}
	return parse(data, new(T), maxPart) == nil
}

// ParseOpenings reads openings, and accepts exactly what [Openings.Encode] writes. It
// does not compare them with the log.
func ParseOpenings(data []byte) (Openings, error) {
	var o Openings
	if err := parse(data, &o, MaxOpenings); err != nil {
		return Openings{}, err
	}
	if o.Format != OpeningsFormat {
		return Openings{}, refuse(CodeInvalid, "format must be %s", OpeningsFormat)
	}
	return o, nil
}
