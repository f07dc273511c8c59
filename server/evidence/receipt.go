package evidence

import "golang.org/x/mod/sumdb/tlog"

// Recorded is what a receipt proves.
type Recorded struct {
	// Leaf is the decision's leaf, Decision its body.
	Leaf     Leaf
	Decision DecisionMade
	// Index is the leaf's place in the log.
	Index int64
	// Checkpoint is the one under which it is.
	Checkpoint Checkpoint
}

// VerifyReceipt checks a receipt's bytes: that they hold the leaf of a decision,
// that a key of the log has signed the checkpoint, that the leaf is under it and,
// with a policy, that enough witnesses have cosigned. Whose decision it is, the
// signer knows by the hash of the statement. Every refusal is an [*Error].
func VerifyReceipt(data []byte, log LogAnchor, witnesses *WitnessPolicy) (Recorded, error) {
	var r Receipt
	if err := parse(data, &r, MaxReceipt); err != nil {
		return Recorded{}, err
	}
	if r.Format != ReceiptFormat {
		return Recorded{}, refuse(CodeInvalid, "format must be %s", ReceiptFormat)
	}
	leaf, err := ParseLeaf(r.Leaf.Entry)
	if err != nil {
		return Recorded{}, err
	}
	decision, ok := leaf.Body.(DecisionMade)
	if !ok {
		return Recorded{}, refuse(CodeInvalid, "the leaf is not that of a decision")
	}
	c, err := OpenCheckpoint([]byte(r.Checkpoint), &log, witnesses)
	if err != nil {
		return Recorded{}, err
	}
	if err := c.contains(r.Leaf.Entry, r.Leaf.Inclusion, -1); err != nil {
		return Recorded{}, err
	}
	return Recorded{Leaf: leaf, Decision: decision, Index: r.Leaf.Index, Checkpoint: c}, nil
}

// ProofOf returns hashes of a tree as a document writes them.
func ProofOf[P ~[]tlog.Hash](proof P) []Bytes {
	list := make([]Bytes, len(proof))
	for i, hash := range proof {
		list[i] = hash[:]
	}
	return list
}
