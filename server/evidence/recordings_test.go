package evidence_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// TestRecordedProofs gives the proofs of another implementation, good and bad, to
// the checks of a bundle's proofs.
func TestRecordedProofs(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(recordings(t, "transparency-dev__merkle"), "testdata")
	proof := func(list [][]byte) (proof []evidence.Bytes) {
		for _, hash := range list {
			proof = append(proof, hash)
		}
		return proof
	}
	good, bad := 0, 0
	each := func(kind string, accepts func(data []byte) (accepted, wantErr bool)) {
		files, err := filepath.Glob(filepath.Join(folder, kind, "*", "*.json"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", kind, err)
		}
		for _, file := range files {
			accepted, wantErr := accepts(read(t, file))
			if accepted == wantErr {
				t.Errorf("%s: accepted %t", file, accepted)
			}
			if wantErr {
				bad++
			} else {
				good++
			}
		}
	}
	each("inclusion", func(data []byte) (bool, bool) {
		var v struct {
			LeafIdx, TreeSize uint64
			Root, LeafHash    []byte
			Proof             [][]byte
			WantErr           bool
		}
		if err := json.Unmarshal(data, &v); err != nil {
			t.Fatal(err)
		}
		if len(v.Root) != tlog.HashSize || len(v.LeafHash) != tlog.HashSize {
			return false, v.WantErr // no checkpoint has such a root, and no leaf such a hash
		}
		c := evidence.Checkpoint{Tree: tlog.Tree{N: int64(v.TreeSize), Hash: tlog.Hash(v.Root)}}
		return evidence.Holds(c, [32]byte(v.LeafHash), evidence.Inclusion{Index: int64(v.LeafIdx), Proof: proof(v.Proof)}) == nil, v.WantErr
	})
	each("consistency", func(data []byte) (bool, bool) {
		var v struct {
			Size1, Size2 uint64
			Root1, Root2 []byte
			Proof        [][]byte
			WantErr      bool
		}
		if err := json.Unmarshal(data, &v); err != nil {
			t.Fatal(err)
		}
		if v.Size1 == 0 && !v.WantErr {
			return len(v.Proof) == 0, false // an empty log needs no proof; bundles hold none
		}
		if len(v.Root2) != tlog.HashSize {
			return v.Size1 > 0 && v.Size1 == v.Size2 && bytes.Equal(v.Root1, v.Root2) && len(v.Proof) == 0, v.WantErr // texts for roots that are compared alone
		}
		c := evidence.Checkpoint{Tree: tlog.Tree{N: int64(v.Size2), Hash: tlog.Hash(v.Root2)}}
		return evidence.Extends(c, evidence.Consistency{Size: int64(v.Size1), Root: v.Root1, Proof: proof(v.Proof)}) == nil, v.WantErr
	})
	t.Logf("%d proofs are good, %d are refused", good, bad)
}

// TestRecordedCheckpoints opens the checkpoints of another implementation's log.
func TestRecordedCheckpoints(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(recordings(t, "transparency-dev__tessera"), "testdata")
	anchor := evidence.LogAnchor{Origin: "example.com/log/testdata", Keys: []string{strings.TrimSpace(string(read(t, filepath.Join(folder, "log.vkey.txt"))))}}
	opened, refused := 0, 0
	for size := range int64(16) {
		signed := read(t, filepath.Join(folder, "log", fmt.Sprintf("checkpoint.%d", size)))
		c, err := evidence.OpenCheckpoint(signed, &anchor, nil)
		if err != nil || c.Origin != anchor.Origin || c.N != size {
			t.Errorf("checkpoint %d: %+v, %v", size, c, err)
		}
		opened++
		for i := range signed {
			changed := bytes.Clone(signed)
			changed[i] ^= 4
			if _, err := evidence.OpenCheckpoint(changed, &anchor, nil); err == nil {
				t.Errorf("checkpoint %d: byte %d can be changed", size, i)
			}
			refused++
		}
	}
	t.Logf("%d checkpoints are good, %d changed ones are refused", opened, refused)
}

// TestRecordedEd25519 runs the vectors of the Ed25519 authors through COSE keys.
func TestRecordedEd25519(t *testing.T) {
	t.Parallel()
	zipped, err := gzip.NewReader(bytes.NewReader(read(t, filepath.Join(recordings(t, "golang__go"), "sign.input.gz"))))
	if err != nil {
		t.Fatal(err)
	}
	good, bad := 0, 0
	lines := bufio.NewScanner(zipped)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var parts [4][]byte // private key, public key, message, signature and message
		for i, text := range strings.SplitN(strings.TrimSuffix(lines.Text(), ":"), ":", 4) {
			if parts[i], err = hex.DecodeString(text); err != nil {
				t.Fatal(err)
			}
		}
		key := cose(t, map[int]any{1: 1, 3: -8, -1: 6, -2: parts[1]})
		signature := parts[3][:64]
		if ok, err := evidence.VerifySignature(key, parts[2], signature); !ok || err != nil {
			t.Errorf("vector %d: %t, %v", good, ok, err)
		}
		good++
		signature[good%64] ^= 1
		if ok, _ := evidence.VerifySignature(key, parts[2], signature); ok {
			t.Errorf("vector %d: a changed signature is accepted", good)
		}
		bad++
	}
	if err := lines.Err(); err != nil || good < 128 {
		t.Errorf("%d vectors, %v", good, err)
	}
	t.Logf("%d signatures are good, %d are refused", good, bad)
}
