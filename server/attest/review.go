package attest

import (
	"context"
	"time"
)

// ReviewType is the predicate type of our own statement about the review of a commit.
const ReviewType = "https://github.com/signedapproval/bitbucket/review/v1"

const (
	approvedState   = "APPROVED"
	overriddenState = "OVERRIDDEN"
)

// Kinds of merges and of rows of an audit.
const (
	// KindApproved: what was merged had the approvals that its rule asks for.
	KindApproved = "approved"
	// KindOverride: it had not, and a signed override let it pass.
	KindOverride = "override"
	// KindViolation: it had neither.
	KindViolation = "violation"
)

// Review is the predicate that says how a commit was reviewed. It holds no name, no account and no text of a
// person: those are behind the commitments, which the evidence bundle opens.
type Review struct {
	// Service is the origin of the service that says this.
	Service string `json:"service"`
	// Time is when it was said, in UTC and whole seconds.
	Time time.Time `json:"time"`
	// Workspace is the workspace's UUID in braces.
	Workspace  string     `json:"workspace"`
	Repository Repository `json:"repository"`
	// PullRequest is the pull request's number.
	PullRequest int64 `json:"pullRequest"`
	// Request is the id of the approval request.
	Request string `json:"request"`
	// Commit is what the statement is about; it is Head or Merge.Commit.
	Commit string `json:"commit"`
	// Head is the commit that was reviewed: the one in every signature.
	Head string `json:"head"`
	// Branch is the destination branch, of which the rule is.
	Branch string `json:"branch"`
	Policy Policy `json:"policy"`
	// Verdict is the verdict of the tally.
	Verdict Verdict `json:"verdict"`
	// Approvals are the approvals that counted, each person once, in the order of the chain.
	Approvals []Approval `json:"approvals"`
	// Merge is how it was merged; absent before.
	Merge  *Merge `json:"merge,omitempty"`
	Bundle Bundle `json:"bundle"`
	Log    Log    `json:"log"`
}

// Repository is a repository on Bitbucket.
type Repository struct {
	// UUID is in braces.
	UUID string `json:"uuid"`
	// URI is the repository's address when this was said.
	URI string `json:"uri"`
}

// Policy is the rule that asked, and the document that it is from.
type Policy struct {
	Digest     Digest `json:"digest"`
	RuleDigest Digest `json:"ruleDigest"`
}

// Verdict is what a tally came to.
type Verdict struct {
	// State is PENDING, APPROVED, REJECTED, EXPIRED or OVERRIDDEN; SUPERSEDED or CANCELLED where the request ended.
	State string `json:"state"`
	// Sentence explains it without naming anybody.
	Sentence string `json:"sentence"`
}

// Approval is one person's signature.
type Approval struct {
	// Person is the service's random id of the person.
	Person string `json:"person"`
	// Commitment binds the person's account and name.
	Commitment string `json:"commitment"`
	// Statement is the SHA-256 hash of the bytes that were signed.
	Statement Digest `json:"statement"`
}

// Merge is a merge that the service saw.
type Merge struct {
	// Kind is [KindApproved], [KindOverride] or [KindViolation].
	Kind string `json:"kind"`
	// Commit is the full hash of what landed, as Bitbucket says; absent where it does not say.
	Commit string `json:"commit,omitempty"`
}

// Bundle is the evidence bundle that was verified when the attestation was made.
type Bundle struct {
	URI string `json:"uri"`
	// Digest is that of the bundle's bytes at that time. A bundle that is fetched later may hold newer proofs and
	// leaves; Chain ties the two together.
	Digest Digest `json:"digest"`
	// Chain is the place in the pull request's chain up to which the bundle went.
	Chain Chain `json:"chain"`
}

// Chain is a place in a pull request's chain.
type Chain struct {
	ID       Digest `json:"id"`
	Sequence int64  `json:"sequence"`
	// Leaf is the RFC 6962 hash of the leaf.
	Leaf Digest `json:"leaf"`
}

// Log is a published checkpoint that covers the chain.
type Log struct {
	Origin string `json:"origin"`
	// Size is in leaves.
	Size int64  `json:"size"`
	Root Digest `json:"root"`
}

func (r Review) check() error {
	switch {
	case !isWeb(r.Service):
		return bad("service")
	case r.Time.IsZero() || r.Time.Location() != time.UTC || r.Time.Nanosecond() != 0:
		return bad("time")
	case !commitForm.MatchString(r.Head):
		return bad("head")
	case r.Commit != r.Head && (r.Merge == nil || r.Merge.Commit != r.Commit || !commitForm.MatchString(r.Commit)):
		return bad("commit")
	case r.Branch == "":
		return bad("branch")
	case !isWeb(r.Repository.URI):
		return bad("repository")
	case !r.Policy.Digest.Valid() || !r.Policy.RuleDigest.Valid():
		return bad("policy")
	case !isWeb(r.Bundle.URI) || !r.Bundle.Digest.Valid() || !r.Bundle.Chain.Leaf.Valid():
		return bad("bundle")
	case r.Log.Origin == "" || r.Log.Size < 1 || !r.Log.Root.Valid():
		return bad("log")
	case r.Verdict.State == approvedState && len(r.Approvals) == 0:
		return bad("verdict")
	}
	return nil
}

// SignReview says how a commit was reviewed.
func SignReview(ctx context.Context, k *Keys, r Review) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	r.Approvals = append([]Approval{}, r.Approvals...)
	return sign(ctx, k, statement(r, ReviewType, r))
}

// OpenReview reads a review that one of the keys has signed.
func OpenReview(ctx context.Context, envelope []byte, keys []Verifier) (Statement[Review], error) {
	return open[Review](ctx, envelope, keys, ReviewType)
}
