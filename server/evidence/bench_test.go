package evidence_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// staffed is a workspace of n people with a pull request that two of them approved.
func staffed(b *testing.B, n int) ([]byte, evidence.Anchors) {
	b.Helper()
	w := newWorld(b)
	w.tokens["dave"] = es256(b, "dave2")
	for i := range n - 3 {
		name := fmt.Sprintf("p%04d", i)
		w.tokens[name] = es256(b, name)
		w.enrol(name, nil, nil)
	}
	w.publish()
	w.open("old")
	w.decide("bob", evidence.Approve)
	w.decide("carol", evidence.Approve)
	w.check(evidence.AnswerYes, evidence.CheckApproved)
	w.append(evidence.StatusPaid{Request: w.request().ID, State: "SUCCESSFUL"})
	w.append(evidence.Merged{Request: w.request().ID, Kind: "approved", Commit: w.commit("landed")})
	return w.encoded(), w.anchors()
}

// BenchmarkVerifyBundle verifies a bundle with all anchors, by the size of the
// workspace's roster, beside the signature checks alone that it cannot do without:
// ECDSA of two decisions and two enrolments, Ed25519 of the log and two witnesses.
// The metric x-raw is how many times as long it takes; bundles/s is for one core.
func BenchmarkVerifyBundle(b *testing.B) {
	for _, people := range []int{3, 10, 100, 1000} {
		b.Run(fmt.Sprintf("roster=%d", people), func(b *testing.B) {
			data, anchors := staffed(b, people)
			if r := evidence.Verify(data, anchors); r.ExitCode() != 0 {
				b.Fatal(r.Sentence())
			}
			raw := rawSignatures(b)
			b.SetBytes(int64(len(data)))
			var whole, alone []time.Duration
			for b.Loop() { // by turns, and the median, so that what else the machine does falls on neither
				start := time.Now()
				if evidence.Verify(data, anchors).ExitCode() != 0 {
					b.Fatal("not verified")
				}
				verified := time.Now()
				raw()
				whole, alone = append(whole, verified.Sub(start)), append(alone, time.Since(verified))
			}
			slices.Sort(whole)
			slices.Sort(alone)
			each, bare := whole[len(whole)/2], alone[len(alone)/2]
			b.ReportMetric(float64(each), "ns/op")
			b.ReportMetric(float64(each)/float64(bare), "x-raw")
			b.ReportMetric(float64(time.Second)/float64(each), "bundles/s")
		})
	}
}

// rawSignatures returns the checks of the signatures of one bundle of staffed.
func rawSignatures(b *testing.B) func() {
	b.Helper()
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), seed("bench"))
	if err != nil {
		b.Fatal(err)
	}
	sum := sha256.Sum256([]byte("message"))
	signature, err := private.Sign(nil, sum[:], crypto.SHA256)
	if err != nil {
		b.Fatal(err)
	}
	edwards := ed25519.NewKeyFromSeed(seed("bench"))
	other := ed25519.Sign(edwards, sum[:])
	return func() {
		for range 4 {
			if !ecdsa.VerifyASN1(&private.PublicKey, sum[:], signature) {
				b.Fatal("not verified")
			}
		}
		for range 3 {
			if !ed25519.Verify(edwards.Public().(ed25519.PublicKey), sum[:], other) {
				b.Fatal("not verified")
			}
		}
	}
}

// BenchmarkP256 is one bare signature check.
func BenchmarkP256(b *testing.B) {
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), seed("bench"))
	if err != nil {
		b.Fatal(err)
	}
	sum := sha256.Sum256([]byte("message"))
	signature, err := private.Sign(nil, sum[:], crypto.SHA256)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if !ecdsa.VerifyASN1(&private.PublicKey, sum[:], signature) {
			b.Fatal("not verified")
		}
	}
}

// BenchmarkVerifyAssertion finds the signer of one decision in rosters of several
// sizes, whose keys are read again for each.
func BenchmarkVerifyAssertion(b *testing.B) {
	data := canonical(b, statement(b, evidence.Approve))
	bob := es256(b, "bob")
	a := bob.assert(ordinary(data))
	for _, n := range []int{1, 10, 1000} {
		keys := []evidence.Key{bob.key}
		for i := range n - 1 {
			keys = append(keys, es256(b, fmt.Sprint("other ", i)).key)
		}
		b.Run(fmt.Sprintf("roster=%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := evidence.VerifyAssertion(data, a, keys, rp); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
