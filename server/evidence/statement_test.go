package evidence_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gowebpki/jcs"
	"pgregory.net/rapid"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// statement returns a good statement of bob's.
func statement(t testing.TB, purpose evidence.Purpose) evidence.Statement {
	t.Helper()
	w := newWorld(t)
	w.open("old")
	s, _ := w.statement("bob", purpose)
	if purpose == evidence.Withdraw {
		s.Withdraws = approval.DigestOf([]byte("a statement"))
	}
	return s
}

func canonical(t testing.TB, s evidence.Statement) []byte {
	t.Helper()
	data, err := s.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestStatementRoundTrip(t *testing.T) {
	t.Parallel()
	for _, purpose := range []evidence.Purpose{evidence.Approve, evidence.Reject, evidence.Withdraw} {
		s := statement(t, purpose)
		data := canonical(t, s)
		got, err := evidence.ParseStatement(data)
		if err != nil {
			t.Fatalf("%s: %v", purpose, err)
		}
		if diff := cmp.Diff(s, got); diff != "" {
			t.Errorf("%s (-written +read):\n%s", purpose, diff)
		}
		if again := canonical(t, got); !bytes.Equal(data, again) {
			t.Errorf("%s: not the same bytes", purpose)
		}
		sum := sha256.Sum256(data)
		if !bytes.Equal(evidence.Challenge(data), sum[:]) {
			t.Errorf("%s: the challenge is not the hash", purpose)
		}
		for _, want := range []string{
			`"_type":"https://in-toto.io/Statement/v1"`,
			`"predicateType":"https://github.com/signedapproval/bitbucket/decision/v1"`,
			`"subject":[{"digest":{"gitCommit":"` + s.Source.Commit + `"}}]`,
			`"issuedAt":"2026-05-04T12:13:00Z"`,
		} {
			if !bytes.Contains(data, []byte(want)) {
				t.Errorf("%s: no %s in\n%s", purpose, want, data)
			}
		}
		for _, secret := range []string{"Alice", "Bob", "acc-", "missing"} {
			if bytes.Contains(data, []byte(secret)) {
				t.Errorf("%s: the statement shows %q", purpose, secret)
			}
		}
	}
}

func TestMeaning(t *testing.T) {
	t.Parallel()
	s := statement(t, evidence.Approve)
	if want := "I approve merging commit 1f0e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c of pull request 7 into branch release/1.0."; s.Meaning != want {
		t.Errorf("got %q", s.Meaning)
	}
	s = statement(t, evidence.Withdraw)
	if want := "I withdraw my decision on commit 1f0e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c of pull request 7 into branch release/1.0."; s.Meaning != want {
		t.Errorf("got %q", s.Meaning)
	}
}

func TestRequirementsOf(t *testing.T) {
	t.Parallel()
	rule := approval.Rule{Requirements: []approval.Requirement{
		{Name: "A", Quorum: 2, Approvers: approval.Approvers{Everyone: true}},
		{Name: "B", Quorum: 1, Approvers: approval.Approvers{Accounts: []string{"x"}}},
		{Name: "C", Quorum: 1, Approvers: approval.Approvers{Accounts: []string{"x", "y"}}},
	}}
	want := []evidence.Requirement{
		{Name: "A", Quorum: 2, Approvers: "anyone with write permission"},
		{Name: "B", Quorum: 1, Approvers: "1 named person"},
		{Name: "C", Quorum: 1, Approvers: "2 named people"},
	}
	if diff := cmp.Diff(want, evidence.RequirementsOf(rule)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// statementEdits are what a statement must not say, by the field that says it.
func statementEdits() []struct {
	field string
	edit  func(s *evidence.Statement)
} {
	return []struct {
		field string
		edit  func(s *evidence.Statement)
	}{
		{"purpose", func(s *evidence.Statement) { s.Purpose = "APPROVE" }},
		{"rpId", func(s *evidence.Statement) { s.RPID = "Approve.example" }},
		{"rpId", func(s *evidence.Statement) { s.RPID = "https://approve.example" }},
		{"origin", func(s *evidence.Statement) { s.Origin = "http://approve.example" }},
		{"origin", func(s *evidence.Statement) { s.Origin += "/" }},
		{"origin", func(s *evidence.Statement) { s.Origin = "https://user@approve.example" }},
		{"origin", func(s *evidence.Statement) { s.Origin = "" }},
		{"logOrigin", func(s *evidence.Statement) { s.LogOrigin = "https://log" }},
		{"workspace", func(s *evidence.Statement) { s.Workspace = strings.Trim(s.Workspace, "{}") }},
		{"workspace", func(s *evidence.Statement) { s.Workspace = strings.ToUpper(s.Workspace) }},
		{"request", func(s *evidence.Statement) { s.Request = "" }},
		{"request", func(s *evidence.Statement) { s.Request = "a b" }},
		{"pullRequest", func(s *evidence.Statement) { s.PullRequest = 0 }},
		{"pullRequest", func(s *evidence.Statement) { s.PullRequest = 1 << 53 }},
		{"author.person", func(s *evidence.Statement) { s.Author.Person = "alice@example.org" }},
		{"author.commitment", func(s *evidence.Statement) { s.Author.Commitment = "" }},
		{"approver.person", func(s *evidence.Statement) { s.Approver.Person = "" }},
		{"approver.commitment", func(s *evidence.Statement) { s.Approver.Commitment = "abc" }},
		{"source.repository", func(s *evidence.Statement) { s.Source.Repository = "w/r" }},
		{"source.branch", func(s *evidence.Statement) { s.Source.Branch = "" }},
		{"source.branch", func(s *evidence.Statement) { s.Source.Branch = "a\nb" }},
		{"source.branch", func(s *evidence.Statement) { s.Source.Branch = "a\xffb" }},
		{"source.commit", func(s *evidence.Statement) { s.Source.Commit = s.Source.Commit[:12] }},
		{"source.commit", func(s *evidence.Statement) { s.Source.Commit = strings.ToUpper(s.Source.Commit) }},
		{"destination.commit", func(s *evidence.Statement) { s.Destination.Commit = "" }},
		{"destination.branch", func(s *evidence.Statement) { s.Destination.Branch = strings.Repeat("b", 256) }},
		{"mergeBases", func(s *evidence.Statement) { s.MergeBases = []string{commits["destination"], commits["base"]} }},
		{"mergeBases", func(s *evidence.Statement) { s.MergeBases = []string{commits["base"], commits["base"]} }},
		{"mergeBases", func(s *evidence.Statement) {
			s.MergeBases = nil
			for i := range 17 {
				s.MergeBases = append(s.MergeBases, fmt.Sprintf("%040d", i))
			}
		}},
		{"mergeBases[0]", func(s *evidence.Statement) { s.MergeBases = []string{"abc"} }},
		{"diff.sha256", func(s *evidence.Statement) { s.Diff.SHA256 = "" }},
		{"diff.size", func(s *evidence.Statement) { s.Diff.Size = -1 }},
		{"policy.digest", func(s *evidence.Statement) { s.Policy.Digest = s.Policy.Digest[:16] }},
		{"policy.ruleDigest", func(s *evidence.Statement) {
			s.Policy.RuleDigest = approval.Digest(strings.ToUpper(string(s.Policy.RuleDigest)))
		}},
		{"requirements", func(s *evidence.Statement) { s.Requirements = []evidence.Requirement{} }},
		{"requirements", func(s *evidence.Statement) {
			for range approval.MaxRequirements {
				s.Requirements = append(s.Requirements, s.Requirements[0])
			}
		}},
		{"requirements[0]", func(s *evidence.Statement) { s.Requirements[0].Quorum = approval.MaxQuorum + 1 }},
		{"requirements[0]", func(s *evidence.Statement) { s.Requirements[0].Approvers = "" }},
		{"rpId", func(s *evidence.Statement) { s.RPID = strings.Repeat("a", 254) }},
		{"logOrigin", func(s *evidence.Statement) { s.LogOrigin = strings.Repeat("a", 254) }},
		{"diff.size", func(s *evidence.Statement) { s.Diff.Size = 1 << 53 }},
		{"chainHead.sequence", func(s *evidence.Statement) { s.ChainHead.Sequence = 1 << 53 }},
		{"roster", func(s *evidence.Statement) { s.Roster = "" }},
		{"logHead", func(s *evidence.Statement) { s.LogHead.Size = -1 }},
		{"logHead", func(s *evidence.Statement) { s.LogHead.Size = 1 << 53 }},
		{"logHead", func(s *evidence.Statement) { s.LogHead.Root = "abc" }},
		{"expiresAt", func(s *evidence.Statement) { s.ExpiresAt = s.ExpiresAt.Add(time.Millisecond) }},
		{"requirements[0]", func(s *evidence.Statement) { s.Requirements[0].Quorum = 0 }},
		{"requirements[0]", func(s *evidence.Statement) { s.Requirements[0].Name = "" }},
		{"meaning", func(s *evidence.Statement) { s.Meaning = "I only looked at it." }},
		{"chainHead.chain", func(s *evidence.Statement) { s.ChainHead.Chain = "" }},
		{"chainHead.sequence", func(s *evidence.Statement) { s.ChainHead.Sequence = 0 }},
		{"chainHead.leaf", func(s *evidence.Statement) { s.ChainHead.Leaf = "" }},
		{"withdraws", func(s *evidence.Statement) { s.Withdraws = s.Policy.Digest }},
		{"comment", func(s *evidence.Statement) { s.Comment = "LGTM" }},
		{"nonce", func(s *evidence.Statement) { s.Nonce = s.Nonce[:15] }},
		{"issuedAt", func(s *evidence.Statement) { s.IssuedAt = s.IssuedAt.Add(time.Millisecond) }},
		{"issuedAt", func(s *evidence.Statement) { s.IssuedAt = s.IssuedAt.In(time.FixedZone("", 3600)) }},
		{"expiresAt", func(s *evidence.Statement) { s.ExpiresAt = s.IssuedAt }},
		{"expiresAt", func(s *evidence.Statement) { s.ExpiresAt = time.Time{} }},
		{"expiresAt", func(s *evidence.Statement) { s.ExpiresAt = s.IssuedAt.Add(time.Hour + time.Second) }},
	}
}

// oddStatements are statements whose field is wrong only for their purpose.
func oddStatements(t testing.TB) map[string]evidence.Statement {
	t.Helper()
	withdrawal, override := statement(t, evidence.Withdraw), statement(t, evidence.Override)
	withdrawal.Withdraws, override.Comment = "", ""
	return map[string]evidence.Statement{"withdrawal of nothing": withdrawal, "override without a reason": override}
}

func TestStatementRefusesFields(t *testing.T) {
	t.Parallel()
	for _, test := range statementEdits() {
		s := statement(t, evidence.Approve)
		meaning := evidence.Meaning(s) == s.Meaning
		test.edit(&s)
		if meaning && test.field != "meaning" {
			s.Meaning = evidence.Meaning(s)
		}
		_, err := s.Canonical()
		if evidence.CodeOf(err) != evidence.CodeInvalid || !strings.HasPrefix(err.Error(), test.field+" must be ") {
			t.Errorf("%s: %v", test.field, err)
		}
	}
	withdrawal := statement(t, evidence.Withdraw)
	withdrawal.Withdraws = ""
	if _, err := withdrawal.Canonical(); evidence.CodeOf(err) != evidence.CodeInvalid {
		t.Errorf("a withdrawal of nothing: %v", err)
	}
	local := statement(t, evidence.Approve)
	local.RPID, local.Origin = "localhost", "http://localhost:8080"
	if _, err := local.Canonical(); err != nil {
		t.Errorf("localhost: %v", err)
	}
}

// statementText is the text of no statement.
type statementText struct {
	name, data string
	code       evidence.Code
}

func statementTexts(t testing.TB) []statementText {
	t.Helper()
	good := string(canonical(t, statement(t, evidence.Approve)))
	replace := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("no %s in the statement", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	return []statementText{
		{"nothing", "", evidence.CodeMalformed},
		{"not UTF-8", good + "\xff", evidence.CodeMalformed},
		{"a byte order mark", "\ufeff" + good, evidence.CodeMalformed},
		{"white space", good + " ", evidence.CodeNotCanonical},
		{"another order", replace(`{"_type":"https://in-toto.io/Statement/v1",`, `{`)[:len(good)-1-len(`"_type":"https://in-toto.io/Statement/v1",`)] + `,"_type":"https://in-toto.io/Statement/v1"}`, evidence.CodeNotCanonical},
		{"an escape that is not needed", replace(`"approve"`, `"\u0061pprove"`), evidence.CodeNotCanonical},
		{"a duplicate key", replace(`"purpose":"approve"`, `"purpose":"approve","purpose":"reject"`), evidence.CodeMalformed},
		{"a duplicate key in disguise", replace(`"purpose":"approve"`, `"purpose":"approve","purpos\u0065":"reject"`), evidence.CodeMalformed},
		{"an unknown field", replace(`"size":19`, `"size":19,"tree":"x"`), evidence.CodeMalformed},
		{"a name in another case", replace(`"origin":`, `"Origin":`), evidence.CodeNotCanonical},
		{"a missing field", replace(`,"size":19`, ``), evidence.CodeNotCanonical},
		{"a null", replace(`"nonce":`, `"comment":null,"nonce":`), evidence.CodeNotCanonical},
		{"a null for a list", replace(`"mergeBases":["`+commits["base"]+`"]`, `"mergeBases":null`), evidence.CodeNotCanonical},
		{"a number as text", replace(`"size":19`, `"size":"19"`), evidence.CodeMalformed},
		{"a number with an exponent", replace(`"size":19`, `"size":1.9e1`), evidence.CodeNotCanonical},
		{"a fraction", replace(`"size":19`, `"size":19.5`), evidence.CodeMalformed},
		{"a number beyond what JSON keeps", replace(`"size":19`, `"size":9007199254740993`), evidence.CodeNotCanonical},
		{"minus zero", replace(`"size":19`, `"size":-0`), evidence.CodeNotCanonical},
		{"half a surrogate", replace(`"feature/x"`, `"feature/\ud800"`), evidence.CodeMalformed},
		{"depth", strings.Repeat("[", 8000) + strings.Repeat("]", 8000), evidence.CodeTooLarge},
		{"size", strings.Repeat(" ", evidence.MaxStatement+1), evidence.CodeTooLarge},
		{"another statement type", replace("Statement/v1", "Statement/v2"), evidence.CodeInvalid},
		{"another predicate", replace("decision/v1", "decision/v2"), evidence.CodeInvalid},
		{"another subject", replace(`{"gitCommit":"1f`, `{"gitCommit":"2f`), evidence.CodeInvalid},
		{"a second subject", replace(`"subject":[`, `"subject":[{"digest":{"gitCommit":"`+commits["old"]+`"}},`), evidence.CodeInvalid},
		{"padding", replace(`","origin"`, `=","origin"`), evidence.CodeMalformed},
		{"a time with an offset", replace(`2026-05-04T12:13:00Z`, `2026-05-04T12:05:00+00:00`), evidence.CodeNotCanonical},
		{"a time in another zone", replace(`2026-05-04T12:13:00Z`, `2026-05-04T13:13:00+01:00`), evidence.CodeNotCanonical},
		{"a time with a small letter", replace(`2026-05-04T12:13:00Z`, `2026-05-04T12:13:00z`), evidence.CodeMalformed},
		{"a fraction of a second", replace(`2026-05-04T12:13:00Z`, `2026-05-04T12:13:00.5Z`), evidence.CodeInvalid},
		{"a leap second", replace(`2026-05-04T12:13:00Z`, `2026-05-04T12:13:60Z`), evidence.CodeMalformed},
	}
}

func TestParseStatementRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range statementTexts(t) {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if _, err := evidence.ParseStatement([]byte(test.data)); evidence.CodeOf(err) != test.code {
				t.Errorf("got %q: %v", evidence.CodeOf(err), err)
			}
		})
	}
}

func TestBytes(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"AA==", "A", "AB", "A+", "A/", "AA\n", "\nAA", "AA AA"} {
		var b evidence.Bytes
		if err := b.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is read as %x", text, []byte(b))
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOf(rapid.Byte()).Draw(t, "data")
		var b evidence.Bytes
		if err := b.UnmarshalText([]byte(evidence.Bytes(data).String())); err != nil || !bytes.Equal(b, data) {
			t.Fatalf("%x becomes %x: %v", data, []byte(b), err)
		}
	})
}

func TestCommitments(t *testing.T) {
	t.Parallel()
	opening := evidence.PersonOpening{Salt: seed("salt"), AccountID: "acc-bob", Name: "Bob"}
	c, err := opening.Commitment()
	if err != nil {
		t.Fatal(err)
	}
	if err := opening.Verify(c); err != nil {
		t.Errorf("does not open itself: %v", err)
	}
	for _, other := range []evidence.PersonOpening{
		{Salt: seed("another salt"), AccountID: "acc-bob", Name: "Bob"},
		{Salt: seed("salt"), AccountID: "acc-carol", Name: "Bob"},
		{Salt: seed("salt"), AccountID: "acc-bob", Name: "bob"},
		{Salt: seed("salt"), AccountID: "acc-bobB", Name: "ob"},
	} {
		if err := other.Verify(c); evidence.CodeOf(err) != evidence.CodeCommitment {
			t.Errorf("%+v: %v", other, err)
		}
	}
	if _, err := (evidence.PersonOpening{Salt: seed("salt")[:31]}).Commitment(); evidence.CodeOf(err) != evidence.CodeInvalid {
		t.Errorf("a short salt: %v", err)
	}
	if _, err := (evidence.PersonOpening{Salt: seed("salt"), Name: "\xff"}).Commitment(); evidence.CodeOf(err) != evidence.CodeInvalid {
		t.Errorf("a name that is not UTF-8: %v", err)
	}
	comment := evidence.CommentOpening{Salt: seed("salt"), Text: "Bob"}
	cc, err := comment.Commitment()
	if err != nil || cc == c || !cc.Valid() {
		t.Errorf("comment: %s, %v", cc, err)
	}
	if _, err := (evidence.CommentOpening{Salt: seed("salt")}).Commitment(); evidence.CodeOf(err) != evidence.CodeInvalid {
		t.Errorf("an empty comment: %v", err)
	}
}

// TestCommentCommitmentOfThePage: the sign page computes it too; its own test has the same value.
func TestCommentCommitmentOfThePage(t *testing.T) {
	t.Parallel()
	opening := evidence.CommentOpening{
		Salt: bytes.Repeat([]byte{7}, evidence.SaltSize),
		Text: "Nicht so: \u202e\"größe\"\n\t\u0001 世界 😀 <&>",
	}
	c, err := opening.Commitment()
	if err != nil {
		t.Fatal(err)
	}
	if want := evidence.Commitment("72226d69c1b4754dc2e1a2e416727285626109f3afa299282599ac2a8f3dfae2"); c != want {
		t.Errorf("commitment %s, want %s", c, want)
	}
}

// TestPersonCommitmentOfThePage: as for a comment.
func TestPersonCommitmentOfThePage(t *testing.T) {
	t.Parallel()
	opening := evidence.PersonOpening{Salt: bytes.Repeat([]byte{7}, evidence.SaltSize), AccountID: "557058:größe", Name: "\u202e\"世界\" 😀 <&>"}
	c, err := opening.Commitment()
	if err != nil {
		t.Fatal(err)
	}
	if want := evidence.Commitment("6376d1b2c919d792ca2d3c72d018443d7130b68674a49f6c7b09b858a4ea7f8b"); c != want {
		t.Errorf("commitment %s, want %s", c, want)
	}
}

// TestCanonicalVectors runs the vectors of RFC 8785's author through the
// library that canonical forms rest on.
func TestCanonicalVectors(t *testing.T) {
	t.Parallel()
	folder := recordings(t, "cyberphone__json-canonicalization")
	inputs, err := filepath.Glob(filepath.Join(folder, "input", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(inputs) == 0 {
		t.Fatal("the recordings have no vectors")
	}
	for _, input := range inputs {
		name := filepath.Base(input)
		given := read(t, input)
		want, err := hex.DecodeString(strings.Join(strings.Fields(string(read(t, filepath.Join(folder, "outhex", strings.TrimSuffix(name, ".json")+".txt")))), ""))
		if err != nil {
			t.Fatal(err)
		}
		got, err := jcs.Transform(given)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got %s, %v", name, got, err)
		}
	}
	t.Logf("%d documents have their canonical form", len(inputs))
}

// recordings returns a folder of the recorded third-party data, or skips the
// test when there is none beside the repository.
func recordings(t *testing.T, source string) string {
	t.Helper()
	all := filepath.Join(repositoryRoot, "..", "shared", "testdata")
	if _, err := os.Stat(all); os.IsNotExist(err) {
		t.Skip("the recordings are absent: ../shared/testdata")
	}
	return filepath.Join(all, source)
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// FuzzParseStatement: whatever parses is written as the same bytes.
func FuzzParseStatement(f *testing.F) {
	for _, purpose := range []evidence.Purpose{evidence.Approve, evidence.Reject, evidence.Withdraw} {
		f.Add(canonical(f, statement(f, purpose)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := evidence.ParseStatement(data)
		if err != nil {
			if evidence.CodeOf(err) == "" {
				t.Fatalf("no code: %v", err)
			}
			return
		}
		again, err := s.Canonical()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if !bytes.Equal(again, data) {
			t.Fatalf("not the same bytes:\n%s\n%s", data, again)
		}
	})
}
