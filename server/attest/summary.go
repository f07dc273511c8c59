package attest

import (
	"context"
	"fmt"
	"net/url"
	"time"
)

// SummaryType is the predicate type of SLSA's verification summary.
const SummaryType = "https://slsa.dev/verification_summary/v1"

// slsaVersion is the version of SLSA that the summary keeps to.
const slsaVersion = "1.2"

// The results of a verification summary, and what it lists as verified.
const (
	Passed = "PASSED"
	Failed = "FAILED"

	// LevelSource is the only level of the source track that is ever claimed.
	LevelSource = "SLSA_SOURCE_LEVEL_1"
	// PropertyApproved: the rule's quorum approved this very commit, each by a user-verified assertion of an
	// enrolled key; the evidence bundle was verified when this was written.
	PropertyApproved = "ORG_SOURCE_SIGNEDAPPROVAL_APPROVED"
	// PropertyMergeOfApproved: Bitbucket says that this commit is what the merge of an approved commit made. That
	// its content follows from what was approved was not checked: only a clone can tell.
	PropertyMergeOfApproved = "ORG_SOURCE_SIGNEDAPPROVAL_MERGE_OF_APPROVED"
)

// policyURI says of which kind the policy is whose digest stands beside it. The document itself is in the
// evidence bundle.
const policyURI = "https://github.com/signedapproval/bitbucket/policy/v1"

// Summary is the predicate of a SLSA verification summary.
type Summary struct {
	Verifier struct {
		// ID is the service's origin.
		ID string `json:"id"`
	} `json:"verifier"`
	// TimeVerified is in UTC and whole seconds.
	TimeVerified time.Time `json:"timeVerified"`
	// ResourceURI is git+https:// and the repository's address.
	ResourceURI string `json:"resourceUri"`
	// Policy is the policy under which was verified.
	Policy Resource `json:"policy"`
	// InputAttestations is the evidence bundle.
	InputAttestations []Resource `json:"inputAttestations"`
	// VerificationResult is PASSED or FAILED.
	VerificationResult string `json:"verificationResult"`
	// VerifiedLevels are [LevelSource] and one property, or FAILED.
	VerifiedLevels []string `json:"verifiedLevels"`
	// SLSAVersion is the version of SLSA.
	SLSAVersion string `json:"slsaVersion"`
}

// Resource is something that a predicate refers to.
type Resource struct {
	URI string `json:"uri"`
	// Digest has the one name sha256.
	Digest map[string]Digest `json:"digest"`
}

// SignSummary says about the subject of a review what SLSA's source track has words for.
func SignSummary(ctx context.Context, k *Keys, r Review) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	s := Summary{
		TimeVerified: r.Time, ResourceURI: "git+" + r.Repository.URI, Policy: Resource{policyURI, map[string]Digest{"sha256": r.Policy.Digest}},
		InputAttestations:  []Resource{{r.Bundle.URI, map[string]Digest{"sha256": r.Bundle.Digest}}},
		VerificationResult: Failed, VerifiedLevels: []string{Failed}, SLSAVersion: slsaVersion,
	}
	s.Verifier.ID = r.Service
	switch {
	case r.Verdict.State != approvedState || r.Merge != nil && r.Merge.Kind != KindApproved: // nothing is claimed
	case r.Commit == r.Head:
		s.VerificationResult, s.VerifiedLevels = Passed, []string{LevelSource, PropertyApproved}
	default:
		s.VerificationResult, s.VerifiedLevels = Passed, []string{LevelSource, PropertyMergeOfApproved}
	}
	return sign(ctx, k, statement(r, SummaryType, s))
}

// OpenSummary reads a summary that one of the keys has signed.
func OpenSummary(ctx context.Context, envelope []byte, keys []Verifier) (Statement[Summary], error) {
	return open[Summary](ctx, envelope, keys, SummaryType)
}

// statement is what is said about the commit of a review. source_refs has the destination branch only if the commit
// is what landed there: an approved commit that was not merged stood on no protected branch.
func statement[P any](r Review, predicateType string, predicate P) Statement[P] {
	subject := Subject{URI: r.Repository.URI + "/commits/" + r.Commit, Digest: map[string]string{"gitCommit": r.Commit}}
	if r.Merge != nil && r.Merge.Commit == r.Commit {
		subject.Annotations = map[string][]string{"source_refs": {"refs/heads/" + r.Branch}}
	}
	return Statement[P]{Type: StatementType, Subject: []Subject{subject}, PredicateType: predicateType, Predicate: predicate}
}

// isWeb tells whether a text is an absolute http or https address.
func isWeb(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http") && u.User == nil
}

func bad(field string) error { return fmt.Errorf("attest: the %s is not valid", field) }
