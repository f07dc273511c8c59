package evidence

import (
	"crypto/sha256"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/signedapproval/bitbucket/server/approval"
)

// The fixed parts of a statement.
const (
	// StatementType is the in-toto statement type.
	StatementType = "https://in-toto.io/Statement/v1"
	// PredicateType names this version of the predicate. A field more or less
	// is another version with another name.
	PredicateType = "https://github.com/signedapproval/bitbucket/decision/v1"
	// MaxStatement is the limit of a statement in bytes.
	MaxStatement = 16 << 10
	// MaxLife is how long after it was issued a decision may be filed at most: who asks for a signature cannot keep it for
	// another day.
	MaxLife = time.Hour
)

// Purpose is what a statement is signed for.
type Purpose string

// The purposes of a decision.
const (
	Approve  Purpose = "approve"
	Reject   Purpose = "reject"
	Withdraw Purpose = "withdraw"
	Override Purpose = "override"
)

// Action returns the tally's word for the purpose.
func (p Purpose) Action() approval.Action { return approval.Action(strings.ToUpper(string(p))) }

// Statement is what one decision signs. It is the predicate of an in-toto
// statement whose only subject is the head commit. Names of people are not in
// it: they are behind commitments, whose openings travel beside it.
type Statement struct {
	// Purpose is approve, reject, withdraw or override.
	Purpose Purpose `json:"purpose"`
	// RPID is the WebAuthn relying party id, a domain.
	RPID string `json:"rpId"`
	// Origin is the web origin of the sign page, such as "https://app.example".
	Origin string `json:"origin"`
	// LogOrigin names the log that the decision is appended to.
	LogOrigin string `json:"logOrigin"`
	// Workspace is the workspace's UUID as Bitbucket writes it, in braces.
	Workspace string `json:"workspace"`
	// Request is our id of the approval request.
	Request string `json:"request"`
	// PullRequest is the pull request's number in the destination repository.
	PullRequest int64 `json:"pullRequest"`
	// Author is the pull request's author. Its person may be empty: authors
	// need not be known here.
	Author Party `json:"author"`
	// Approver is who decides.
	Approver Party `json:"approver"`
	// Source is what is to be merged; its commit is the head commit.
	Source Ref `json:"source"`
	// Destination is what it is merged into, as it was when shown.
	Destination Ref `json:"destination"`
	// MergeBases are the full hashes of the merge bases, sorted, each once.
	MergeBases []string `json:"mergeBases"`
	// Diff is the change as it was shown.
	Diff Diff `json:"diff"`
	// Policy says which rule asked for the decision.
	Policy PolicyRef `json:"policy"`
	// Requirements are those of the rule, as [RequirementsOf] gives them.
	Requirements []Requirement `json:"requirements"`
	// Meaning is what the signer says by signing, as [Meaning] gives it.
	Meaning string `json:"meaning"`
	// ChainHead is the last leaf of the pull request's chain that the signer
	// was shown.
	ChainHead ChainHead `json:"chainHead"`
	// Roster is the digest of the workspace's newest roster version.
	Roster Digest `json:"roster"`
	// LogHead is the newest published checkpoint of the log; the empty tree where
	// none was published.
	LogHead *LogHead `json:"logHead"`
	// Withdraws is the SHA-256 hash of the statement that is taken back; only
	// for a withdrawal.
	Withdraws Digest `json:"withdraws,omitempty"`
	// Comment is the commitment to the comment; absent without one. An override has
	// one: its reason.
	Comment Commitment `json:"comment,omitempty"`
	// Nonce is 16 random bytes.
	Nonce Bytes `json:"nonce"`
	// IssuedAt and ExpiresAt are the server's claim, in UTC and whole seconds:
	// when the statement was made and until when it may be signed and filed, at
	// most [MaxLife] later.
	IssuedAt  time.Time `json:"issuedAt"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// Party is a person in a statement.
type Party struct {
	// Person is our random id of the person.
	Person string `json:"person,omitempty"`
	// Commitment binds the person's account id and name.
	Commitment Commitment `json:"commitment"`
}

// Ref is one side of a pull request.
type Ref struct {
	// Repository is the repository's UUID as Bitbucket writes it, in braces.
	Repository string `json:"repository"`
	// Branch is the branch's name.
	Branch string `json:"branch"`
	// Commit is the full hash, 40 lower-case hexadecimal digits.
	Commit string `json:"commit"`
}

// Diff identifies the bytes of a diff.
type Diff struct {
	SHA256 Digest `json:"sha256"`
	// Size is the number of bytes.
	Size int64 `json:"size"`
}

// PolicyRef identifies a rule of a policy version.
type PolicyRef struct {
	Digest     Digest `json:"digest"`
	RuleDigest Digest `json:"ruleDigest"`
}

// Requirement is a requirement of the rule, without names of people.
type Requirement struct {
	Name string `json:"name"`
	// Quorum is the number of different people.
	Quorum int `json:"quorum"`
	// Approvers says who is asked, such as "anyone with write permission".
	Approvers string `json:"approvers"`
}

// ChainHead is a place in a pull request's chain.
type ChainHead struct {
	// Chain is the chain's id.
	Chain Digest `json:"chain"`
	// Sequence is the leaf's number in the chain; the first is 1.
	Sequence int64 `json:"sequence"`
	// Leaf is the leaf's hash.
	Leaf Digest `json:"leaf"`
}

// envelope is the in-toto statement around the predicate.
type envelope struct {
	Type          string    `json:"_type"`
	Subject       []subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     Statement `json:"predicate"`
}

type subject struct {
	Digest struct {
		GitCommit string `json:"gitCommit"`
	} `json:"digest"`
}

// RequirementsOf returns a rule's requirements as a statement states them.
func RequirementsOf(rule approval.Rule) []Requirement {
	list := make([]Requirement, 0, len(rule.Requirements))
	for _, q := range rule.Requirements {
		who := "anyone with write permission"
		if n := len(q.Approvers.Accounts); !q.Approvers.Everyone {
			who = fmt.Sprintf("%d named people", n)
			if n == 1 {
				who = "1 named person"
			}
		}
		list = append(list, Requirement{Name: q.Name, Quorum: q.Quorum, Approvers: who})
	}
	return list
}

// Meaning returns the sentence that the signer of s says.
func Meaning(s Statement) string {
	subject := fmt.Sprintf("commit %s of pull request %d into branch %s", s.Source.Commit, s.PullRequest, s.Destination.Branch)
	switch s.Purpose {
	case Approve:
		return "I approve merging " + subject + "."
	case Reject:
		return "I reject merging " + subject + "."
	case Withdraw:
		return "I withdraw my decision on " + subject + "."
	case Override:
		return "I override the rule and let " + subject + " be merged without its approvals."
	case Enrol, Countersign, Revoke, SetPolicy, Protect: // acts say theirs by [ActMeaning]
	}
	return ""
}

// Canonical checks the statement and returns the bytes that are signed: the
// RFC 8785 form of the whole in-toto statement. The error is an [*Error] that
// names the field.
func (s Statement) Canonical() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	return canonical(s.envelope(), MaxStatement)
}

func (s Statement) envelope() envelope {
	e := envelope{Type: StatementType, Subject: make([]subject, 1), PredicateType: PredicateType, Predicate: s}
	e.Subject[0].Digest.GitCommit = s.Source.Commit
	if e.Predicate.MergeBases == nil {
		e.Predicate.MergeBases = []string{}
	}
	return e
}

// ParseStatement reads the bytes of a statement. It accepts exactly what
// [Statement.Canonical] writes.
func ParseStatement(data []byte) (Statement, error) {
	var e envelope
	if err := parse(data, &e, MaxStatement); err != nil {
		return Statement{}, err
	}
	s := e.Predicate
	switch {
	case e.Type != StatementType:
		return Statement{}, refuse(CodeInvalid, "_type must be %s", StatementType)
	case e.PredicateType != PredicateType:
		return Statement{}, refuse(CodeInvalid, "predicateType must be %s", PredicateType)
	case len(e.Subject) != 1 || e.Subject[0].Digest.GitCommit != s.Source.Commit:
		return Statement{}, refuse(CodeInvalid, "the only subject must be the source commit")
	}
	return s, s.check()
}

// Challenge returns the WebAuthn challenge of a statement: the SHA-256 hash of
// its bytes.
func Challenge(statement []byte) []byte {
	sum := sha256.Sum256(statement)
	return sum[:]
}

// shape is a form that a text can have, where it is looked at too often for a regular
// expression.
type shape func(s string) bool

// MatchString reports whether s has the form.
func (f shape) MatchString(s string) bool { return f(s) }

func hexDigit(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' }

var (
	// {8-4-4-4-12} lower-case hexadecimal digits
	uuidForm = shape(func(s string) bool {
		if len(s) != 38 || s[0] != '{' || s[37] != '}' {
			return false
		}
		for i := 1; i < 37; i++ {
			if dash := i == 9 || i == 14 || i == 19 || i == 24; dash != (s[i] == '-') || !dash && !hexDigit(s[i]) {
				return false
			}
		}
		return true
	})
	// 40 lower-case hexadecimal digits
	commitForm = shape(func(s string) bool {
		for i := range len(s) {
			if !hexDigit(s[i]) {
				return false
			}
		}
		return len(s) == 40
	})
	// 1 to 64 of A-Z a-z 0-9 _ -
	idForm = shape(func(s string) bool {
		for i := range len(s) {
			if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '_' && c != '-' {
				return false
			}
		}
		return len(s) >= 1 && len(s) <= 64
	})
	domainForm = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)*$`)
	logForm    = regexp.MustCompile(`^[a-z0-9.:-]+(/[A-Za-z0-9._-]+)*$`)
)

// Limits of the fields that have no fixed form.
const (
	maxBranch     = 255     // bytes of a branch name
	maxMergeBases = 16      // merge bases
	maxDomain     = 253     // bytes of a relying party id or log origin
	maxSafe       = 1 << 53 // numbers that every JSON reader keeps
)

func (s Statement) check() error {
	bad := func(field, must string) error { return refuse(CodeInvalid, "%s must be %s", field, must) }
	switch {
	case !slices.Contains([]Purpose{Approve, Reject, Withdraw, Override}, s.Purpose):
		return bad("purpose", "approve, reject, withdraw or override")
	case !domainForm.MatchString(s.RPID) || len(s.RPID) > maxDomain:
		return bad("rpId", "a domain")
	case !isOrigin(s.Origin):
		return bad("origin", "an https origin, or http on localhost")
	case !logForm.MatchString(s.LogOrigin) || len(s.LogOrigin) > maxDomain:
		return bad("logOrigin", "a host and path without scheme")
	case !uuidForm.MatchString(s.Workspace):
		return bad("workspace", "a UUID in braces and lower case")
	case !idForm.MatchString(s.Request):
		return bad("request", "an id")
	case s.PullRequest < 1 || s.PullRequest >= maxSafe:
		return bad("pullRequest", "a positive number")
	case s.Author.Person != "" && !idForm.MatchString(s.Author.Person):
		return bad("author.person", "an id")
	case !s.Author.Commitment.Valid():
		return bad("author.commitment", "a commitment")
	case !idForm.MatchString(s.Approver.Person):
		return bad("approver.person", "an id")
	case !s.Approver.Commitment.Valid():
		return bad("approver.commitment", "a commitment")
	case len(s.MergeBases) > maxMergeBases || !ascending(s.MergeBases):
		return bad("mergeBases", "at most 16 full hashes, sorted, each once")
	case !s.Diff.SHA256.Valid():
		return bad("diff.sha256", "a SHA-256 hash")
	case s.Diff.Size < 0 || s.Diff.Size >= maxSafe:
		return bad("diff.size", "a number of bytes")
	case !s.Policy.Digest.Valid():
		return bad("policy.digest", "a SHA-256 hash")
	case !s.Policy.RuleDigest.Valid():
		return bad("policy.ruleDigest", "a SHA-256 hash")
	case len(s.Requirements) < 1 || len(s.Requirements) > approval.MaxRequirements:
		return bad("requirements", "those of the rule")
	case s.Meaning != Meaning(s):
		return bad("meaning", "the sentence of the purpose")
	case !s.ChainHead.Chain.Valid():
		return bad("chainHead.chain", "a chain id")
	case s.ChainHead.Sequence < 1 || s.ChainHead.Sequence >= maxSafe:
		return bad("chainHead.sequence", "1 or more")
	case !s.ChainHead.Leaf.Valid():
		return bad("chainHead.leaf", "a leaf hash")
	case !s.Roster.Valid():
		return bad("roster", "a digest")
	case s.LogHead == nil || s.LogHead.Size < 0 || s.LogHead.Size >= maxSafe || !s.LogHead.Root.Valid():
		return bad("logHead", "a number of leaves and a root hash")
	case s.Purpose == Withdraw && !s.Withdraws.Valid():
		return bad("withdraws", "the hash of the statement that is withdrawn")
	case s.Purpose != Withdraw && s.Withdraws != "":
		return bad("withdraws", "absent")
	case s.Purpose == Override && s.Comment == "":
		return bad("comment", "a commitment to the reason")
	case s.Comment != "" && !s.Comment.Valid():
		return bad("comment", "a commitment, or absent")
	case len(s.Nonce) != 16:
		return bad("nonce", "16 bytes")
	case !wholeSecond(s.IssuedAt):
		return bad("issuedAt", "a time in UTC and whole seconds")
	case !wholeSecond(s.ExpiresAt) || !s.IssuedAt.Before(s.ExpiresAt):
		return bad("expiresAt", "a later time in UTC and whole seconds")
	case s.ExpiresAt.Sub(s.IssuedAt) > MaxLife:
		return bad("expiresAt", "at most an hour after issuedAt")
	}
	for i, base := range s.MergeBases {
		if !commitForm.MatchString(base) {
			return bad(fmt.Sprintf("mergeBases[%d]", i), "a full hash of 40 digits")
		}
	}
	for i, q := range s.Requirements {
		if !isLine(q.Name, approval.MaxName*utf8.UTFMax) || q.Quorum < 1 || q.Quorum > approval.MaxQuorum || !isLine(q.Approvers, approval.MaxName) {
			return bad(fmt.Sprintf("requirements[%d]", i), "a name, a quorum and who is asked")
		}
	}
	if err := s.Source.check("source"); err != nil {
		return err
	}
	return s.Destination.check("destination")
}

func (r Ref) check(field string) error {
	switch {
	case !uuidForm.MatchString(r.Repository):
		return refuse(CodeInvalid, "%s.repository must be a UUID in braces and lower case", field)
	case !isBranch(r.Branch):
		return refuse(CodeInvalid, "%s.branch must be a branch name", field)
	case !commitForm.MatchString(r.Commit):
		return refuse(CodeInvalid, "%s.commit must be a full hash of 40 digits", field)
	}
	return nil
}

func isBranch(s string) bool {
	return isLine(s, maxBranch)
}

// isLine reports whether s is well-formed text of one line: not empty and
// without control characters. A branch may hold other characters that do not
// show; the page marks them, and the signature covers them.
func isLine(s string, limit int) bool {
	return s != "" && len(s) <= limit && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// isOrigin reports whether s is the serialisation of a web origin on which
// WebAuthn works.
func isOrigin(s string) bool {
	u, err := url.Parse(s)
	if err != nil || len(s) > maxDomain || u.Host == "" || s != u.Scheme+"://"+u.Host || s != strings.ToLower(s) {
		return false
	}
	host := u.Hostname()
	return u.Scheme == "https" || u.Scheme == "http" && (host == "localhost" || strings.HasSuffix(host, ".localhost"))
}

func ascending[S ~string](list []S) bool {
	return slices.IsSorted(list) && len(slices.Compact(slices.Clone(list))) == len(list)
}

func wholeSecond(t time.Time) bool {
	return !t.IsZero() && t.Nanosecond() == 0 && t.Location() == time.UTC && t.Year() < 10000
}
