package evidence_test

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// published are the vectors with bundles, by their names.
func published(f testing.TB) map[string]bundleVector {
	f.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", "vectors", "bundles", "*.json"))
	if err != nil || len(paths) == 0 {
		f.Fatalf("%d vectors: %v", len(paths), err)
	}
	vectors := map[string]bundleVector{}
	for _, path := range paths {
		var v bundleVector
		if err := json.Unmarshal(read(f, path), &v); err != nil {
			f.Fatal(err)
		}
		vectors[v.Name] = v
	}
	return vectors
}

// FuzzVerify: whatever verifies with everything pinned is one of the stories that were made, but for signature lines of its
// checkpoint; and whatever does not has a step that failed with a code.
func FuzzVerify(f *testing.F) {
	vectors := published(f)
	good := vectors["good approved"]
	made := map[string]bool{}
	for _, v := range vectors {
		f.Add([]byte(v.Bundle))
		if evidence.Verify([]byte(v.Bundle), good.Anchors).ExitCode() == 0 {
			made[string(unsigned(f, []byte(v.Bundle)))] = true
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := evidence.Verify(data, good.Anchors)
		if r.ExitCode() == 1 {
			if last, _ := r.Failed(); last.Result != evidence.Failed || last.Code == "" || last.Detail == "" {
				t.Errorf("it ended with %+v", last)
			}
			return
		}
		if r.ExitCode() == 0 && !made[string(unsigned(t, data))] {
			t.Errorf("it verifies: %s", r.Sentence())
		}
	})
}

// unsigned is a bundle without the signature lines of its checkpoint.
func unsigned(t testing.TB, data []byte) []byte {
	t.Helper()
	b, err := evidence.ParseBundle(data)
	if err != nil {
		t.Fatal(err)
	}
	b.Log.Checkpoint, _, _ = strings.Cut(b.Log.Checkpoint, "\n\n")
	if data, err = b.Encode(); err != nil {
		t.Fatal(err)
	}
	return data
}

// FuzzAnchors: anchors are refused with a code, or can be verified with; what they leave out is missed.
func FuzzAnchors(f *testing.F) {
	vectors := published(f)
	for _, d := range documentsOf(f, "anchors") {
		f.Add([]byte(d.Document))
	}
	bundle := []byte(vectors["good approved"].Bundle)
	f.Fuzz(func(t *testing.T, data []byte) {
		anchors, err := evidence.ParseAnchors(data)
		if err != nil {
			if evidence.CodeOf(err) == "" {
				t.Errorf("no code: %v", err)
			}
			return
		}
		r := evidence.Verify(bundle, anchors)
		if r.ExitCode() == 0 && (anchors.Log == nil || anchors.Witnesses == nil || anchors.Genesis == "" || anchors.Roster == "" || len(anchors.Policies) == 0 || len(anchors.RelyingParties) == 0) {
			t.Errorf("it verifies without all anchors: %s", data)
		}
	})
}

// documentsOf are the vectors of a kind of document.
func documentsOf(f *testing.F, kind string) (list []documentVector) {
	f.Helper()
	var all []documentVector
	if err := json.Unmarshal(read(f, filepath.Join("testdata", "vectors", "documents.json")), &all); err != nil {
		f.Fatal(err)
	}
	for _, d := range all {
		if d.Kind == kind && len(d.Document) < 8<<10 {
			list = append(list, d)
		}
	}
	if len(list) == 0 {
		f.Fatalf("no vectors of the kind %s", kind)
	}
	return list
}

// FuzzCheckpoint: a note that the pinned log signed and witnesses cosigned has the text that they were given.
func FuzzCheckpoint(f *testing.F) {
	good := published(f)["good approved"]
	b, err := evidence.ParseBundle([]byte(good.Bundle))
	if err != nil {
		f.Fatal(err)
	}
	text, _, _ := strings.Cut(b.Log.Checkpoint, "\n\n")
	f.Add([]byte(b.Log.Checkpoint))
	f.Add([]byte(text))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := evidence.OpenCheckpoint(data, nil, nil)
		if err != nil && evidence.CodeOf(err) == "" {
			t.Errorf("no code: %v", err)
		}
		_, signed := evidence.OpenCheckpoint(data, good.Anchors.Log, nil)
		_, cosigned := evidence.OpenCheckpoint(data, nil, good.Anchors.Witnesses)
		if got, _, _ := strings.Cut(string(data), "\n\n"); (signed == nil || cosigned == nil) && (got != text || err != nil) {
			t.Errorf("signed: %v, cosigned: %v: %q", signed, cosigned, data)
		}
	})
}

// FuzzEntry: a leaf, a change of the roster or an act that is read is written as the same bytes.
func FuzzEntry(f *testing.F) {
	for _, kind := range []string{"leaf", "roster-change", "act"} {
		for _, d := range documentsOf(f, kind) {
			f.Add([]byte(d.Document))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		leaf, err := evidence.ParseLeaf(data)
		same(t, data, err, leaf.Entry)
		change, err := evidence.ParseRosterChange(data)
		same(t, data, err, change.Canonical)
		act, err := evidence.ParseAct(data)
		same(t, data, err, act.Canonical)
	})
}

// same writes what was read.
func same(t *testing.T, data []byte, err error, write func() ([]byte, error)) {
	t.Helper()
	if err != nil {
		if evidence.CodeOf(err) == "" {
			t.Errorf("no code: %v", err)
		}
		return
	}
	if again, err := write(); err != nil || !bytes.Equal(again, data) {
		t.Errorf("not the same bytes: %v\n%s\n%s", err, data, again)
	}
}

// FuzzCBOR: keys, attestations and what an authenticator says of itself are refused with a code, or are good
// without surprises.
func FuzzCBOR(f *testing.F) {
	var attestations []attestationVector
	if err := json.Unmarshal(read(f, filepath.Join("testdata", "vectors", "attestations.json")), &attestations); err != nil {
		f.Fatal(err)
	}
	for _, v := range attestations {
		f.Add([]byte(v.AttestationObject))
	}
	b, err := evidence.ParseBundle([]byte(published(f)["good approved"].Bundle))
	if err != nil {
		f.Fatal(err)
	}
	for _, document := range b.Roster {
		c, err := evidence.ParseRosterChange(document)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(c.Key.PublicKey))
	}
	for _, d := range b.Decisions {
		f.Add([]byte(d.Assertion.AuthenticatorData))
		f.Add(append(bytes.Clone(d.Assertion.AuthenticatorData), 0xa1, 0x61, 'a', 1))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		algorithm, err := evidence.CheckPublicKey(data)
		coded(t, err)
		if err == nil {
			id, err := evidence.PublicKeyID(data)
			if err != nil || id == "" || algorithm == 0 {
				t.Errorf("a key of algorithm %d without an id: %v", algorithm, err)
			}
			if made, err := evidence.VerifySignature(data, []byte("message"), data); made || err != nil {
				t.Errorf("a key that made its own bytes as a signature: %v", err)
			}
		}
		_, err = evidence.CheckAttestation(data, created)
		coded(t, err)
		coded(t, evidence.CheckAuthenticatorData(data, rp.ID))
		coded(t, evidence.CheckClientData(data, []byte("challenge"), rp.Origin))
	})
}

func coded(t *testing.T, err error) {
	t.Helper()
	if err != nil && evidence.CodeOf(err) == "" {
		t.Errorf("no code: %v", err)
	}
}
