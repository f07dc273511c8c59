package gate_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// The page that signs checks receipts by code of its own; both are held against these files.
var update = flag.Bool("update", false, "write testdata anew")

// receiptVector is a receipt of a decision over a statement.
type receiptVector struct {
	Name      string         `json:"name"`
	Statement evidence.Bytes `json:"statement"`
	Index     int64          `json:"index"`
	Size      int64          `json:"size"`
	Receipt   string         `json:"receipt"`
}

// steady is a source of the same bytes in every run.
type steady struct{}

func (steady) Read(p []byte) (int, error) { return copy(p, bytes.Repeat([]byte{7}, len(p))), nil }

func TestReceiptVectors(t *testing.T) {
	t.Parallel()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	secret, public, err := note.GenerateKey(steady{}, "log.example")
	ok(err)
	signer, err := note.NewSigner(secret)
	ok(err)
	anchor := evidence.LogAnchor{Origin: "log.example", Keys: []string{public}}
	var vectors []receiptVector
	for _, at := range []struct{ index, size int64 }{{0, 1}, {0, 2}, {1, 2}, {2, 3}, {4, 7}, {6, 7}, {5, 8}, {299, 300}, {17, 300}} {
		statement := fmt.Appendf(nil, "a statement at leaf %d", at.index)
		entry, err := evidence.Leaf{
			Time: time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC), Workspace: approval.DigestOf([]byte("workspace")),
			Chain: &evidence.Chain{ID: approval.DigestOf([]byte("chain")), Sequence: 1},
			Body:  evidence.DecisionMade{Request: "r", Statement: approval.DigestOf(statement), Assertion: approval.DigestOf([]byte("assertion"))},
		}.Entry()
		ok(err)
		var stored []tlog.Hash
		tree := tlog.HashReaderFunc(func(places []int64) ([]tlog.Hash, error) {
			hashes := make([]tlog.Hash, len(places))
			for i, place := range places {
				hashes[i] = stored[place]
			}
			return hashes, nil
		})
		for i := range at.size {
			record := entry
			if i != at.index {
				record = fmt.Appendf(nil, "leaf %d", i)
			}
			hashes, err := tlog.StoredHashes(i, record, tree)
			ok(err)
			stored = append(stored, hashes...)
		}
		root, err := tlog.TreeHash(at.size, tree)
		ok(err)
		proof, err := tlog.ProveRecord(at.size, at.index, tree)
		ok(err)
		signed, err := note.Sign(&note.Note{Text: fmt.Sprintf("log.example\n%d\n%s\n", at.size, base64.StdEncoding.EncodeToString(root[:]))}, signer)
		ok(err)
		data, err := evidence.Receipt{
			Leaf:       evidence.IncludedLeaf{Entry: entry, Inclusion: evidence.Inclusion{Index: at.index, Proof: evidence.ProofOf(proof)}},
			Checkpoint: string(signed),
		}.Encode()
		ok(err)
		recorded, err := evidence.VerifyReceipt(data, anchor, nil)
		ok(err)
		if sum := sha256.Sum256(statement); recorded.Decision.Statement != evidence.Digest(fmt.Sprintf("%x", sum)) {
			t.Errorf("leaf %d of %d is about another statement", at.index, at.size)
		}
		vectors = append(vectors, receiptVector{fmt.Sprintf("leaf %d of %d", at.index, at.size), statement, at.index, at.size, string(data)})
	}
	made, err := json.MarshalIndent(vectors, "", " ")
	ok(err)
	made = append(made, '\n')
	path := filepath.Join("testdata", "receipts.json")
	if *update {
		ok(os.MkdirAll(filepath.Dir(path), 0o755))
		ok(os.WriteFile(path, made, 0o644))
	}
	if kept, err := os.ReadFile(path); err != nil || !bytes.Equal(kept, made) {
		t.Errorf("%s is not what the test makes (%v); run go test -run TestReceiptVectors -update", path, err)
	}
}
