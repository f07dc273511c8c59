package attest_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/attest"
)

const (
	head   = "1111111111111111111111111111111111111111"
	landed = "2222222222222222222222222222222222222222"
)

func newKeys(t *testing.T) (*attest.Keys, []byte) {
	t.Helper()
	private, public, err := attest.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := attest.ParseKeys(private)
	if err != nil {
		t.Fatal(err)
	}
	return keys, public
}

func digest(text string) attest.Digest { return approval.DigestOf([]byte(text)) }

func review() attest.Review {
	return attest.Review{
		Service: "https://approvals.example", Time: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), Workspace: "{w}",
		Repository: attest.Repository{UUID: "{r}", URI: "https://bitbucket.org/acme/rocket"}, PullRequest: 7, Request: "request-1",
		Commit: head, Head: head, Branch: "release/1.0", Policy: attest.Policy{Digest: digest("policy"), RuleDigest: digest("rule")},
		Verdict:   attest.Verdict{State: "APPROVED", Sentence: "approved by 1 person"},
		Approvals: []attest.Approval{{Person: "p", Commitment: string(digest("c")), Statement: digest("s")}},
		Bundle: attest.Bundle{URI: "https://approvals.example/evidence/w/request-1", Digest: digest("bundle"), Chain: attest.Chain{
			ID: digest("chain"), Sequence: 4, Leaf: digest("leaf"),
		}},
		Log: attest.Log{Origin: "approvals.example/log", Size: 9, Root: digest("root")},
	}
}

func TestKeysAreReadAsTheyWerePrinted(t *testing.T) {
	t.Parallel()
	private, public, err := attest.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	other, otherPublic, err := attest.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := attest.ParseKeys(slices.Concat(private, []byte("\n"), other))
	if err != nil {
		t.Fatal(err)
	}
	read, err := attest.ParseVerifiers(slices.Concat(public, otherPublic))
	if err != nil {
		t.Fatal(err)
	}
	if got := keys.Verifiers(); len(got) != 2 || string(got[0]) != string(read[0]) || string(got[1]) != string(read[1]) {
		t.Error("the public keys are not those of the private ones")
	}
	for name, text := range map[string]string{
		"nothing": "", "no PEM": "secret", "before": "secret\n" + string(private), "a public key": string(public), "twice": string(private) + string(private),
		"cut": string(private[:len(private)/2]), "behind": string(private) + "secret", "many": strings.Repeat(string(public), 9),
	} {
		_, err := attest.ParseKeys([]byte(text))
		if err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "BEGIN PRIVATE") {
			t.Errorf("private %s: %v", name, err)
		}
	}
	for name, text := range map[string]string{"nothing": "", "no PEM": "x", "a private key": string(private), "many": strings.Repeat(string(public), 9)} {
		if _, err := attest.ParseVerifiers([]byte(text)); err == nil {
			t.Errorf("public %s was accepted", name)
		}
	}
}

// TestSummariesClaimWhatWasChecked holds what a verification summary says of each way a commit can stand.
func TestSummariesClaimWhatWasChecked(t *testing.T) {
	t.Parallel()
	keys, _ := newKeys(t)
	for name, c := range map[string]struct {
		change func(*attest.Review)
		result string
		levels []string
		refs   []string
	}{
		"approved, not merged": {func(*attest.Review) {}, "PASSED", []string{"SLSA_SOURCE_LEVEL_1", "ORG_SOURCE_SIGNEDAPPROVAL_APPROVED"}, nil},
		"approved, landed as it is": {func(r *attest.Review) {
			r.Merge = &attest.Merge{Kind: attest.KindApproved, Commit: head}
		}, "PASSED", []string{"SLSA_SOURCE_LEVEL_1", "ORG_SOURCE_SIGNEDAPPROVAL_APPROVED"}, []string{"refs/heads/release/1.0"}},
		"the head of a merge commit": {func(r *attest.Review) {
			r.Merge = &attest.Merge{Kind: attest.KindApproved, Commit: landed}
		}, "PASSED", []string{"SLSA_SOURCE_LEVEL_1", "ORG_SOURCE_SIGNEDAPPROVAL_APPROVED"}, nil},
		"what landed": {func(r *attest.Review) {
			r.Merge, r.Commit = &attest.Merge{Kind: attest.KindApproved, Commit: landed}, landed
		}, "PASSED", []string{"SLSA_SOURCE_LEVEL_1", "ORG_SOURCE_SIGNEDAPPROVAL_MERGE_OF_APPROVED"}, []string{"refs/heads/release/1.0"}},
		"landed in violation": {func(r *attest.Review) {
			r.Merge, r.Commit = &attest.Merge{Kind: attest.KindViolation, Commit: landed}, landed
		}, "FAILED", []string{"FAILED"}, []string{"refs/heads/release/1.0"}},
		"overridden":              {func(r *attest.Review) { r.Verdict.State = "OVERRIDDEN" }, "FAILED", []string{"FAILED"}, nil},
		"landed by an override":   {func(r *attest.Review) { r.Merge = &attest.Merge{Kind: attest.KindOverride, Commit: head} }, "FAILED", []string{"FAILED"}, []string{"refs/heads/release/1.0"}},
		"pending":                 {func(r *attest.Review) { r.Verdict.State, r.Approvals = "PENDING", nil }, "FAILED", []string{"FAILED"}, nil},
		"rejected after it stood": {func(r *attest.Review) { r.Verdict.State = "REJECTED" }, "FAILED", []string{"FAILED"}, nil},
	} {
		r := review()
		c.change(&r)
		signed, err := attest.SignSummary(t.Context(), keys, r)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s, err := attest.OpenSummary(t.Context(), signed, keys.Verifiers())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		p := s.Predicate
		if p.VerificationResult != c.result || !slices.Equal(p.VerifiedLevels, c.levels) || !slices.Equal(s.Subject[0].Annotations["source_refs"], c.refs) {
			t.Errorf("%s: %s %v at %v", name, p.VerificationResult, p.VerifiedLevels, s.Subject[0].Annotations)
		}
		if s.Subject[0].Digest["gitCommit"] != r.Commit || p.ResourceURI != "git+https://bitbucket.org/acme/rocket" || p.Verifier.ID != r.Service ||
			p.Policy.Digest["sha256"] != r.Policy.Digest || p.InputAttestations[0].Digest["sha256"] != r.Bundle.Digest || !p.TimeVerified.Equal(r.Time) {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

func TestReviewsThatCannotBe(t *testing.T) {
	t.Parallel()
	keys, _ := newKeys(t)
	if _, err := attest.SignReview(t.Context(), keys, review()); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*attest.Review){
		"approved by nobody": func(r *attest.Review) { r.Approvals = nil },
		"of another commit":  func(r *attest.Review) { r.Commit = landed },
		"of another landed commit": func(r *attest.Review) {
			r.Commit, r.Merge = landed, &attest.Merge{Kind: attest.KindApproved, Commit: head}
		},
		"without a bundle":      func(r *attest.Review) { r.Bundle.Digest = "" },
		"without a checkpoint":  func(r *attest.Review) { r.Log.Size = 0 },
		"without a policy":      func(r *attest.Review) { r.Policy.Digest = "x" },
		"without a time":        func(r *attest.Review) { r.Time = time.Time{} },
		"of a short head":       func(r *attest.Review) { r.Head, r.Commit = head[:12], head[:12] },
		"with a secret address": func(r *attest.Review) { r.Repository.URI = "https://user:secret@bitbucket.org/acme/rocket" },
	} {
		r := review()
		change(&r)
		for kind, signs := range map[string]func(context.Context, *attest.Keys, attest.Review) ([]byte, error){"review": attest.SignReview, "summary": attest.SignSummary} {
			if _, err := signs(t.Context(), keys, r); err == nil || strings.Contains(err.Error(), "secret@") {
				t.Errorf("a %s %s: %v", kind, name, err)
			}
		}
	}
}

// TestFlippedEnvelopes changes each byte of an envelope: what still opens says what was signed.
func TestFlippedEnvelopes(t *testing.T) {
	t.Parallel()
	keys, _ := newKeys(t)
	signed, err := attest.SignReview(t.Context(), keys, review())
	if err != nil {
		t.Fatal(err)
	}
	payload, err := attest.Open(t.Context(), signed, keys.Verifiers())
	if err != nil {
		t.Fatal(err)
	}
	opened := 0
	for i := range signed {
		for _, flip := range []byte{1, 0x20, 0x80} {
			forged := slices.Clone(signed)
			forged[i] ^= flip
			if got, err := attest.Open(t.Context(), forged, keys.Verifiers()); err == nil {
				opened++
				if string(got) != string(payload) {
					t.Errorf("byte %d: another payload", i)
				}
			}
		}
	}
	// A name in another case is the same name, and without the hint of the key's id every key is tried.
	if opened > len("payloadType")+len("payload")+len("signatures")+len("sig")+2*len("keyid") {
		t.Errorf("%d of %d changed envelopes open", opened, 3*len(signed))
	}
	other, _ := newKeys(t)
	if _, err := attest.Open(t.Context(), signed, other.Verifiers()); err == nil {
		t.Error("it opens with another key")
	}
	if _, err := attest.Open(t.Context(), signed, nil); err == nil {
		t.Error("it opens without a key")
	}
	if _, err := attest.OpenSummary(t.Context(), signed, keys.Verifiers()); err == nil {
		t.Error("a review is taken for a summary")
	}
}

func row(n int, kind string) attest.Row {
	r := attest.Row{
		Number: n, Commit: head, Kind: kind, Reason: "because",
		Reached: attest.Reached{NotBefore: time.Date(2026, 11, 1, n, 0, 0, 0, time.UTC), NotAfter: time.Date(2026, 11, 1, n+1, 0, 0, 0, time.UTC), Basis: attest.Claimed},
	}
	if kind != attest.KindViolation {
		r.Request, r.Bundle, r.BundleDigest, r.ChainLeaf = "request-1", "https://approvals.example/evidence/w/request-1", digest("b"), digest("l")
	}
	return r
}

func audit() attest.Audit {
	return attest.Audit{
		Service: "https://approvals.example", Time: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), Workspace: "{w}",
		Repository: attest.Repository{UUID: "{r}", URI: "https://bitbucket.org/acme/rocket"}, Branch: "main", Tip: head,
		From: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), To: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC),
		Log: attest.Log{Origin: "approvals.example/log", Size: 9, Root: digest("root")},
	}
}

func sum(t *testing.T, rows ...attest.Row) *attest.Sum {
	t.Helper()
	s := &attest.Sum{}
	for _, r := range rows {
		line, err := r.Line()
		if err != nil {
			t.Fatal(err)
		}
		read, err := attest.ParseRow(line)
		if err != nil || read != r {
			t.Fatalf("%s is read as %+v: %v", line, read, err)
		}
		if err := s.Add(read, line); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestASummaryIsOfItsRows(t *testing.T) {
	t.Parallel()
	keys, _ := newKeys(t)
	rows := []attest.Row{row(1, attest.KindApproved), row(2, attest.KindViolation), row(3, attest.KindOverride)}
	signed, err := attest.SignAudit(t.Context(), keys, audit(), sum(t, rows...))
	if err != nil {
		t.Fatal(err)
	}
	got, err := attest.OpenAudit(t.Context(), signed, keys.Verifiers(), sum(t, rows...))
	if err != nil || got.Rows != (attest.Counts{Approved: 1, Override: 1, Violation: 1, All: 3}) || got.First != head || got.Last != head {
		t.Fatalf("%+v %v", got, err)
	}
	changed := slices.Clone(rows)
	changed[1].Reason = "another"
	for name, other := range map[string][]attest.Row{"none": nil, "one less": rows[:2], "changed": changed} {
		if _, err := attest.OpenAudit(t.Context(), signed, keys.Verifiers(), sum(t, other...)); err == nil {
			t.Errorf("it is taken for the summary of %s", name)
		}
	}
	for name, change := range map[string]func(a *attest.Audit){
		"missing":  func(a *attest.Audit) { a.Missing = []attest.Missing{{PullRequest: 1, Landed: "\x1b[2K"}} },
		"a head":   func(a *attest.Audit) { a.Heads = []string{"main"} },
		"an edge":  func(a *attest.Audit) { a.After = &attest.Edge{Commit: head[:12]} },
		"its base": func(a *attest.Audit) { a.Bases = []string{""} },
	} {
		of := audit()
		change(&of)
		signed, err := attest.SignAudit(t.Context(), keys, of, sum(t, rows...))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := attest.OpenAudit(t.Context(), signed, keys.Verifiers(), sum(t, rows...)); err == nil || !strings.Contains(err.Error(), "is no commit") {
			t.Errorf("%s by something else than a hash: %v", name, err)
		}
	}
	empty, err := attest.SignAudit(t.Context(), keys, audit(), &attest.Sum{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := attest.OpenAudit(t.Context(), empty, keys.Verifiers(), &attest.Sum{}); err != nil {
		t.Errorf("without rows: %v", err)
	}
	if err := (&attest.Sum{}).Add(row(2, attest.KindViolation), []byte("x")); err == nil {
		t.Error("the first row may be numbered 2")
	}
}

func TestRowsThatCannotBe(t *testing.T) {
	t.Parallel()
	good, err := row(1, attest.KindApproved).Line()
	if err != nil {
		t.Fatal(err)
	}
	for name, line := range map[string]string{
		"empty": "", "white space": " " + string(good), "twice": string(good) + string(good), "another name": strings.Replace(string(good), `"kind"`, `"sort"`, 1),
		"another kind": strings.Replace(string(good), `"kind":"approved"`, `"kind":"fine"`, 1), "no evidence": strings.Replace(string(good), `"request":"request-1"`, `"request":""`, 1),
		"a name twice": strings.Replace(string(good), `{`, `{"number":1,`, 1), "no basis": strings.Replace(string(good), `"claimed"`, `"felt"`, 1), "times in another order": strings.Replace(string(good), `"notAfter":"2026`, `"notAfter":"2025`, 1),
		"a nesting beyond all use": strings.Repeat("[", 1<<20), "a short hash": strings.Replace(string(good), head, head[:12], 1),
		"landed that steers a terminal": strings.Replace(string(good), `"landed":""`, `"landed":"\u001b]0;x\u0007"`, 1), "a head that is no hash": strings.Replace(string(good), `"head":""`, `"head":"main"`, 1),
		"another relation": strings.Replace(string(good), `"relation":""`, `"relation":"\u001b[2K"`, 1), "a bundle that is nowhere": strings.Replace(string(good), `"bundle":"https://`, `"bundle":"x://`, 1),
	} {
		if !json.Valid(good) {
			t.Fatal("the good one is no JSON")
		}
		if _, err := attest.ParseRow([]byte(line)); err == nil {
			t.Errorf("%s: %s was accepted", name, line)
		}
	}
}

// A reader must not be led into depths in which its stack ends.
func TestOpenRefusesDepth(t *testing.T) {
	t.Parallel()
	keys, _ := newKeys(t)
	for name, envelope := range map[string]string{
		"lists": strings.Repeat("[", 1<<20), "objects": strings.Repeat(`{"a":`, 1<<18), "one level too many": strings.Repeat("[", 65) + strings.Repeat("]", 65),
	} {
		if _, err := attest.Open(t.Context(), []byte(envelope), keys.Verifiers()); err == nil || !strings.Contains(err.Error(), "levels deep") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
