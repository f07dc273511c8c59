package evidence

// LogProof places the leaves of a bundle in the log.
type LogProof struct {
	// Checkpoint is the signed note of a published checkpoint, with the
	// cosignatures that it had when the bundle was made.
	Checkpoint string `json:"checkpoint"`
	// Genesis is the place of the workspace's genesis leaf.
	Genesis Inclusion `json:"genesis"`
	// Roster is the leaf of the newest roster version of the bundle, and its place;
	// absent exactly where the roster has no version yet.
	Roster *IncludedLeaf `json:"roster,omitempty"`
	// Chain has the places of the chain's leaves, in their order.
	Chain []Inclusion `json:"chain"`
	// Heads proves of each log head that a signer was shown, each once, in ascending
	// order and without the empty tree, that the checkpoint's tree extends it.
	Heads []Consistency `json:"heads"`
}

func (p LogProof) listed() LogProof {
	p.Genesis.Proof = listed(p.Genesis.Proof)
	if p.Roster != nil {
		leaf := *p.Roster
		leaf.Proof = listed(leaf.Proof)
		p.Roster = &leaf
	}
	p.Chain, p.Heads = listed(p.Chain), listed(p.Heads)
	for i := range p.Chain {
		p.Chain[i].Proof = listed(p.Chain[i].Proof)
	}
	for i := range p.Heads {
		p.Heads[i].Proof = listed(p.Heads[i].Proof)
	}
	return p
}

// Inclusion is a leaf's place in the tree of a checkpoint.
type Inclusion struct {
	// Index counts the log's leaves from 0.
	Index int64 `json:"index"`
	// Proof is the audit path of RFC 6962, section 2.1.1, from the leaf up.
	Proof []Bytes `json:"proof"`
}

// IncludedLeaf is a leaf with its place.
type IncludedLeaf struct {
	// Entry is the leaf's bytes.
	Entry Bytes `json:"entry"`
	Inclusion
}

// Consistency proves that a tree extends an earlier one.
type Consistency struct {
	// Size and Root are the earlier tree's.
	Size int64 `json:"size"`
	Root Bytes `json:"root"`
	// Proof is the consistency proof of RFC 6962, section 2.1.2.
	Proof []Bytes `json:"proof"`
}

// LogHead is the tree of a log at a size.
type LogHead struct {
	// Size is the number of leaves.
	Size int64 `json:"size"`
	// Root is the tree's root hash as a digest.
	Root Digest `json:"root"`
}

// ReceiptFormat names this version of a [Receipt].
const ReceiptFormat = "signedapproval.receipt/v1"

// Receipt proves to a signer that the decision's leaf is under a published
// checkpoint.
type Receipt struct {
	// Format is always [ReceiptFormat].
	Format string `json:"format"`
	// Leaf is the decision's leaf and its place.
	Leaf IncludedLeaf `json:"leaf"`
	// Checkpoint is the signed note.
	Checkpoint string `json:"checkpoint"`
}

// MaxReceipt is the limit of a receipt in bytes.
const MaxReceipt = 256 << 10

// Encode returns the receipt's bytes.
func (r Receipt) Encode() ([]byte, error) {
	r.Format = ReceiptFormat
	r.Leaf.Proof = listed(r.Leaf.Proof)
	return canonical(r, MaxReceipt)
}

// EnrolledKey is an enrolment in a bundle, with the openings of its signers'
// commitments; those are absent when erased, and Countersigner's where nobody
// countersigned it.
type EnrolledKey struct {
	Enrolment Enrolment `json:"enrolment"`
	// Owner opens the commitment of the enrol act.
	Owner *PersonOpening `json:"owner,omitempty"`
	// Countersigner opens that of the act that countersigned it.
	Countersigner *PersonOpening `json:"countersigner,omitempty"`
}
