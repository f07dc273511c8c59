package approval

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/gowebpki/jcs"
)

// Format names the version of the policy document that this package reads and
// writes. A document with any other value is refused.
const Format = "signedapproval.policy/v1"

// DefaultExpiry is how long a request stays open when its rule does not say.
const DefaultExpiry = 7 * 24 * time.Hour

// Digest is a SHA-256 hash as 64 lower-case hexadecimal digits.
type Digest string

// Valid reports whether d has the form of a digest.
func (d Digest) Valid() bool {
	if len(d) != 2*sha256.Size {
		return false
	}
	for i := range len(d) {
		if !digit[d[i]] {
			return false
		}
	}
	return true
}

// digit are the characters of a digest.
var digit = func() (table [256]bool) {
	for _, c := range []byte("0123456789abcdef") {
		table[c] = true
	}
	return table
}()

// DigestOf returns the SHA-256 hash of data.
func DigestOf(data []byte) Digest {
	sum := sha256.Sum256(data)
	var text [2 * sha256.Size]byte
	hex.Encode(text[:], sum[:])
	return Digest(text[:])
}

// Policy is an ordered list of rules. The first rule that matches a pull
// request's destination branch applies; a branch that no rule matches is not
// gated. A policy is a value: a change makes a new one with another digest.
type Policy struct {
	// Format is always [Format].
	Format string `json:"format"`
	// Rules holds 1 to [MaxRules] rules, tried in order.
	Rules []Rule `json:"rules"`
}

// Rule says who has to approve changes to the branches that it matches.
type Rule struct {
	// Name is shown to people; unique in the policy, 1 to [MaxName] characters.
	Name string `json:"name"`
	// Branches are glob patterns on the destination branch. The rule matches
	// when at least one pattern matches and no pattern that begins with '!'
	// does; the order of the patterns has no meaning. '*' and '?' stay inside
	// one segment between slashes, '**' crosses segments, '[a-z]' is a class and
	// '{a,b}' an alternative. Letters are compared exactly. A pattern has no
	// space, as branches have none.
	Branches []string `json:"branches"`
	// Requirements must all be met. One approval can count for several.
	Requirements []Requirement `json:"requirements"`
	// AuthorMayApprove lets the pull request's author count as an approver.
	AuthorMayApprove bool `json:"authorMayApprove"`
	// ExpiresAfterSeconds is how long a request stays open, in seconds, from
	// [MinExpiry] to [MaxExpiry]. [ParsePolicy] turns an absent or zero value
	// into [DefaultExpiry].
	ExpiresAfterSeconds int64 `json:"expiresAfterSeconds"`
	// Keys, when set, says which keys count.
	Keys *KeyDemand `json:"keys,omitempty"`
	// Override, when set, says who can together let a commit be merged without the
	// approvals; absent, nobody can.
	Override *OverrideBy `json:"override,omitempty"`
	// AutoMerge, when set, merges an approved pull request; never an overridden one.
	AutoMerge *AutoMerge `json:"autoMerge,omitempty"`
	// Cosignatures is how many different witnesses must have cosigned a checkpoint of
	// the log that covers a verdict before it lets anything be merged, 0 to
	// [MaxCosignatures]. With 0 none is waited for beyond those that the server waits
	// for by itself. A tally does not read it.
	Cosignatures int `json:"cosignatures,omitempty"`
}

// Requirement asks for a number of approvals out of a set of people.
type Requirement struct {
	// Name is shown to people; unique in the rule, 1 to [MaxName] characters.
	Name string `json:"name"`
	// Quorum is the number of different people who have to approve, 1 to [MaxQuorum].
	Quorum int `json:"quorum"`
	// Approvers is the set that the quorum is taken from.
	Approvers Approvers `json:"approvers"`
}

// KeyDemand is what a rule asks of the keys that approve and override. A key that
// falls short can still reject.
type KeyDemand struct {
	// Countersigned counts only keys for which somebody else vouched, or for the key
	// of the same person that they go back to: a key that is known by a log-in alone
	// does not count. One of the two demands at least is made.
	Countersigned bool `json:"countersigned"`
	// Models, when there are any, counts only keys that are proved to be of one of
	// these authenticator models: AAGUIDs in lower case, ascending, at most [MaxModels].
	Models []string `json:"models,omitempty"`
}

// OverrideBy asks for a number of overrides out of a set of people.
type OverrideBy struct {
	// Quorum is the number of different people who have to override, 1 to [MaxQuorum].
	Quorum int `json:"quorum"`
	// Approvers is the set that the quorum is taken from.
	Approvers Approvers `json:"approvers"`
}

// overrideName is what an override is called in a problem and in a verdict.
const overrideName = "The override"

// requirement returns what is asked for, as if it were approvals.
func (o OverrideBy) requirement() Requirement {
	return Requirement{Name: overrideName, Quorum: o.Quorum, Approvers: o.Approvers}
}

// Approvers is a set of people: everyone with write permission on the
// repository, or named accounts; exactly one of the two.
type Approvers struct {
	// Everyone stands for anyone with write permission on the repository.
	Everyone bool `json:"everyone"`
	// Accounts are Bitbucket account ids, at most [MaxAccounts].
	Accounts []string `json:"accounts"`
}

// Needs says which facts a rule reads, so that nobody fetches what nobody asks for.
type Needs struct {
	// Writers is true when [Facts].Writers must be filled.
	Writers bool
	// Identities is true when each [Decision].Identity must be filled; otherwise it
	// must be empty.
	Identities bool
	// Models is true when each [Decision].Model must be filled; otherwise it must be
	// empty.
	Models bool
}

// Default is the policy of a repository for which nobody has chosen another:
// on every branch one person with write permission, other than the author,
// within [DefaultExpiry].
func Default() Policy {
	return Policy{Format: Format, Rules: []Rule{{
		Name:     "Default",
		Branches: []string{"**"},
		Requirements: []Requirement{{
			Name: "Approval", Quorum: 1, Approvers: Approvers{Everyone: true},
		}},
		ExpiresAfterSeconds: int64(DefaultExpiry / time.Second),
	}}}
}

// ParsePolicy reads a policy document of at most [MaxPolicyBytes]. Unknown
// fields, names in another case, duplicate keys and nulls are refused, and so
// is everything that [Policy.Validate] refuses without knowing a workspace. The
// error is always a [*PolicyError].
func ParsePolicy(data []byte) (Policy, error) {
	if len(data) > MaxPolicyBytes {
		return Policy{}, refuse(Problem{CodeTooLarge, "", "the policy document is larger than 64 KiB"})
	}
	malformed := func(err error) error {
		return refuse(Problem{CodeMalformed, "", "the policy document cannot be read: " + err.Error()})
	}
	if TooDeep(data) {
		return Policy{}, refuse(Problem{CodeTooLarge, "", "the policy document is nested more than 64 levels deep"})
	}
	given, err := jcs.Transform(data) // refuses duplicate keys and ill-formed text
	if err != nil {
		return Policy{}, malformed(err)
	}
	var p Policy
	decoder := json.NewDecoder(bytes.NewReader(given))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		return Policy{}, malformed(err)
	}
	if path, ok := understood(given, p.Canonical()); !ok {
		return Policy{}, refuse(Problem{CodeUnknownField, path, "no such field, or no such value: " + path})
	}
	for i := range p.Rules {
		if p.Rules[i].ExpiresAfterSeconds == 0 {
			p.Rules[i].ExpiresAfterSeconds = int64(DefaultExpiry / time.Second)
		}
	}
	if err := p.Check(); err != nil {
		return Policy{}, err
	}
	return p, nil
}

// Check refuses what [ParsePolicy] refuses of a policy that was read in its canonical
// form. The error is a [*PolicyError].
func (p Policy) Check() error {
	if problems := p.check(); len(problems) > 0 {
		return &PolicyError{Problems: problems}
	}
	return nil
}

// understood reports whether every field of the document given is also in the
// document read from it. The standard decoder matches names in any case and
// takes null for a missing value; both leave a trace here.
func understood(given, read []byte) (path string, ok bool) {
	var a, b any
	if json.Unmarshal(given, &a) != nil || json.Unmarshal(read, &b) != nil {
		return "", false
	}
	return contains(b, a, "")
}

func contains(whole, part any, path string) (string, bool) {
	switch part := part.(type) {
	case map[string]any:
		object, ok := whole.(map[string]any)
		if !ok {
			return path, false
		}
		for name, value := range part {
			at := strings.TrimPrefix(path+"."+name, ".")
			inner, ok := object[name]
			if !ok {
				return at, false
			}
			if at, ok := contains(inner, value, at); !ok {
				return at, false
			}
		}
	case []any:
		list, ok := whole.([]any)
		if !ok || len(list) != len(part) {
			return path, false
		}
		for i := range part {
			if at, ok := contains(list[i], part[i], path+"["+itoa(i)+"]"); !ok {
				return at, false
			}
		}
	case nil:
		return path, false
	}
	return "", true
}

// Canonical returns the RFC 8785 form of the policy, the bytes that its digest
// is taken of.
func (p Policy) Canonical() []byte {
	p.Rules = append([]Rule{}, p.Rules...)
	for i, rule := range p.Rules {
		p.Rules[i] = rule.whole()
	}
	return canonical(p)
}

// Digest returns the SHA-256 hash of the canonical form.
func (p Policy) Digest() Digest { return DigestOf(p.Canonical()) }

// Match returns the first rule that applies to a destination branch and its
// index, or false when the policy does not gate that branch.
func (p Policy) Match(branch string) (rule Rule, index int, ok bool) {
	for i, r := range p.Rules {
		if r.Matches(branch) {
			return r, i, true
		}
	}
	return Rule{}, -1, false
}

// Matches reports whether the rule applies to a destination branch.
func (r Rule) Matches(branch string) bool {
	matched := false
	for _, pattern := range r.Branches {
		exclude, found := strings.CutPrefix(pattern, "!")
		if found {
			if doublestar.MatchUnvalidated(exclude, branch) {
				return false
			}
			continue
		}
		matched = matched || doublestar.MatchUnvalidated(pattern, branch)
	}
	return matched
}

// Canonical returns the RFC 8785 form of the rule, the bytes that its digest is
// taken of.
func (r Rule) Canonical() []byte { return canonical(r.whole()) }

// Digest returns the SHA-256 hash of the rule's canonical form. It is what an
// approval is bound to: editing another rule of the policy leaves it alone.
func (r Rule) Digest() Digest { return DigestOf(r.Canonical()) }

// Expiry is how long a request under the rule stays open without an answer.
func (r Rule) Expiry() time.Duration {
	if r.ExpiresAfterSeconds <= 0 {
		return DefaultExpiry
	}
	return time.Duration(r.ExpiresAfterSeconds) * time.Second
}

// Needs returns the facts that the rule reads.
func (r Rule) Needs() Needs {
	n := Needs{Identities: r.Keys != nil && r.Keys.Countersigned, Models: r.Keys != nil && len(r.Keys.Models) > 0}
	for _, q := range r.Requirements {
		n.Writers = n.Writers || q.Approvers.Everyone
	}
	if r.Override != nil {
		n.Writers = n.Writers || r.Override.Approvers.Everyone
	}
	return n
}

// whole returns a copy in which empty lists are lists and not nulls, so that
// equal rules have equal bytes.
func (r Rule) whole() Rule {
	r.Branches = append([]string{}, r.Branches...)
	r.Requirements = append([]Requirement{}, r.Requirements...)
	for i := range r.Requirements {
		r.Requirements[i].Approvers.Accounts = append([]string{}, r.Requirements[i].Approvers.Accounts...)
	}
	if r.Keys != nil {
		k := *r.Keys
		k.Models = slices.Clone(k.Models)
		r.Keys = &k
	}
	if r.Override != nil {
		o := *r.Override
		o.Approvers.Accounts = append([]string{}, o.Approvers.Accounts...)
		r.Override = &o
	}
	return r
}

// canonical panics on a value that JSON cannot hold; the types of this package
// have none.
func canonical(v any) []byte {
	data, err := json.Marshal(v)
	if err == nil {
		data, err = jcs.Transform(data)
	}
	if err != nil {
		panic("approval: " + err.Error())
	}
	return data
}
