package evidence

import (
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

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
	r, recorded, err := readReceipt(data)
	if err != nil {
		return Recorded{}, err
	}
	if recorded.Checkpoint, err = OpenCheckpoint([]byte(r.Checkpoint), &log, witnesses); err != nil {
		return Recorded{}, err
	}
	return recorded, recorded.Checkpoint.contains(r.Leaf.Entry, r.Leaf.Inclusion, -1)
}

// readReceipt reads what a receipt holds, but for the checkpoint.
func readReceipt(data []byte) (r Receipt, recorded Recorded, err error) {
	if err := parse(data, &r, MaxReceipt); err != nil {
		return r, recorded, err
	}
	if r.Format != ReceiptFormat {
		return r, recorded, refuse(CodeInvalid, "format must be %s", ReceiptFormat)
	}
	if recorded.Leaf, err = ParseLeaf(r.Leaf.Entry); err != nil {
		return r, recorded, err
	}
	decision, ok := recorded.Leaf.Body.(DecisionMade)
	if !ok {
		return r, recorded, refuse(CodeInvalid, "the leaf is not that of a decision")
	}
	recorded.Decision, recorded.Index = decision, r.Leaf.Index
	return r, recorded, nil
}

// ReportReceipt verifies a receipt as [Verify] does a bundle, step by step: what
// anchors do not name rests on the operator's word. The report has no verdict: a
// receipt proves that a decision is recorded, and nothing of what became of it.
func ReportReceipt(data []byte, anchors Anchors) Report {
	v := receiptVerification{verification: verification{anchors: anchors}}
	v.report.Steps = make([]Step, 0, 3)
	for i, step := range []struct {
		name string
		run  func() (detail string, err error)
	}{
		{"receipt", func() (string, error) { return v.receipt(data) }},
		{"log", v.recordedIn},
		{"witnesses", v.witnesses},
	} {
		detail, err := step.run()
		taken := settle(i+1, step.name, detail, err)
		v.report.Steps = append(v.report.Steps, taken)
		if taken.Result == Failed {
			return v.report
		}
	}
	v.report.Recorded = &v.recorded
	v.labelReceipt()
	return v.report
}

// receiptVerification is one run of [ReportReceipt].
type receiptVerification struct {
	verification
	place    IncludedLeaf
	recorded Recorded
}

func (v *receiptVerification) receipt(data []byte) (string, error) {
	r, recorded, err := readReceipt(data)
	v.place, v.recorded, v.b.Log.Checkpoint = r.Leaf, recorded, r.Checkpoint
	return fmt.Sprintf("%d bytes in canonical form", len(data)), err
}

func (v *receiptVerification) recordedIn() (string, error) {
	c, err := OpenCheckpoint([]byte(v.b.Log.Checkpoint), v.anchors.Log, nil)
	if err != nil {
		return "", err
	}
	if err := c.contains(v.place.Entry, v.place.Inclusion, -1); err != nil {
		return "", err
	}
	v.recorded.Checkpoint = c
	detail := fmt.Sprintf("leaf %d is in the log of %d", v.recorded.Index, c.N)
	if v.anchors.Log == nil {
		v.lacks("log")
		return "", operatorAsserted(detail + "; its key is not an anchor")
	}
	return detail, nil
}

// labelReceipt says what the receipt proves, and on what that rests.
func (v *receiptVerification) labelReceipt() {
	r, inLog := v.recorded, Recomputed
	if len(v.report.Missing) > 0 {
		inLog = Asserted
	}
	v.report.Facts = []Fact{
		{"statement", "SHA-256 " + string(r.Decision.Statement), inLog},
		{"assertion", "SHA-256 " + string(r.Decision.Assertion), inLog},
		{"log", r.Checkpoint.Origin, inLog},
		{"leaf", fmt.Sprintf("%d of %d", r.Index, r.Checkpoint.N), inLog},
		{"time of the leaf", r.Leaf.Time.UTC().Format(time.RFC3339), Asserted},
	}
}

// ProofOf returns hashes of a tree as a document writes them.
func ProofOf[P ~[]tlog.Hash](proof P) []Bytes {
	list := make([]Bytes, len(proof))
	for i, hash := range proof {
		list[i] = hash[:]
	}
	return list
}
