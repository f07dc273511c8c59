package evidence_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"fmt"
	"syscall"
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
// All figures are of processor time, garbage collection included, since what else the
// machine does falls on neither then. The metric x-raw is how many times as much the
// bundle costs as its signatures; bundles/s is for one core, and raw/s is how often it
// could check those signatures instead. A bundle holds every change of the roster, and
// each has to be read and hashed, its key hashed too and found to be a point on its curve,
// however few people sign; none of their signatures has to be checked. So x-raw grows with the
// roster while the signatures do not, and hash-ns/op is what those hashes cost by themselves:
// as many as there are changes, twice.
func BenchmarkVerifyBundle(b *testing.B) {
	for _, people := range []int{3, 10, 100, 1000} {
		b.Run(fmt.Sprintf("roster=%d", people), func(b *testing.B) {
			data, anchors := staffed(b, people)
			if r := evidence.Verify(data, anchors); r.ExitCode() != 0 {
				b.Fatal(r.Sentence())
			}
			bundle, err := evidence.ParseBundle(data)
			if err != nil {
				b.Fatal(err)
			}
			hashes := make([][]byte, 0, 2*len(bundle.Roster))
			for _, change := range bundle.Roster {
				c, err := evidence.ParseRosterChange(change)
				if err != nil {
					b.Fatal(err)
				}
				key, err := evidence.Write(c.Key)
				if err != nil {
					b.Fatal(err)
				}
				hashes = append(hashes, change, key)
			}
			raw := rawSignatures(b)
			var whole, alone, hashed time.Duration
			n := 0
			spend := func(on *time.Duration, what func()) {
				const times = 8 // asking for the time has a price too
				start := processorTime(b)
				for range times {
					what()
				}
				*on += (processorTime(b) - start) / times
			}
			for b.Loop() { // by turns, so that a slower hour falls on all
				spend(&whole, func() {
					if evidence.Verify(data, anchors).ExitCode() != 0 {
						b.Fatal("not verified")
					}
				})
				spend(&alone, raw)
				spend(&hashed, func() {
					for _, data := range hashes {
						sink = sha256.Sum256(data)
					}
				})
				n++
			}
			each := float64(whole) / float64(n)
			b.ReportMetric(each, "ns/op")
			b.ReportMetric(float64(whole)/float64(alone), "x-raw")
			b.ReportMetric(float64(time.Second)/each, "bundles/s")
			b.ReportMetric(float64(n)*float64(time.Second)/float64(alone), "raw/s")
			b.ReportMetric(float64(hashed)/float64(n), "hash-ns/op")
		})
	}
}

// sink keeps the compiler from leaving out what nobody reads.
var sink [sha256.Size]byte

// processorTime is what this process has used so far.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// rawSignatures returns the checks of as many signatures as one bundle of staffed has,
// each by another key.
func rawSignatures(b *testing.B) func() {
	b.Helper()
	sum := sha256.Sum256([]byte("message"))
	var checks []func() bool
	for i := range 4 {
		private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), seed(fmt.Sprint("bench ", i)))
		if err != nil {
			b.Fatal(err)
		}
		signature, err := private.Sign(nil, sum[:], crypto.SHA256)
		if err != nil {
			b.Fatal(err)
		}
		checks = append(checks, func() bool { return ecdsa.VerifyASN1(&private.PublicKey, sum[:], signature) })
	}
	for i := range 3 {
		private := ed25519.NewKeyFromSeed(seed(fmt.Sprint("bench ", i)))
		public, signature := private.Public().(ed25519.PublicKey), ed25519.Sign(private, sum[:])
		checks = append(checks, func() bool { return ed25519.Verify(public, sum[:], signature) })
	}
	return func() {
		for _, check := range checks {
			if !check() {
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
