package attest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"slices"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
)

// AuditType is the predicate type of an audit's summary.
const AuditType = "https://github.com/signedapproval/bitbucket/audit/v1"

// Row is one commit that reached a protected branch. Its line is its RFC 8785 form.
type Row struct {
	// Number counts the rows from 1, the oldest commit first.
	Number int `json:"number"`
	// Commit is the full hash.
	Commit string `json:"commit"`
	// Kind is [KindApproved], [KindOverride] or [KindViolation].
	Kind string `json:"kind"`
	// Relation says how the commit stands to the one that was signed.
	Relation Relation `json:"relation"`
	// Reason says why in a sentence, without naming anybody.
	Reason string `json:"reason"`
	Reached
	// PullRequest is the number of the pull request that brought it; 0 where none is known.
	PullRequest int64 `json:"pullRequest"`
	// Landed is the commit that the pull request was merged as; it differs from Commit where a merge brought several.
	Landed string `json:"landed"`
	// Head is the commit of the pull request that was to be approved.
	Head string `json:"head"`
	// Request is the id of the approval request; it and what follows are empty without one.
	Request string `json:"request"`
	// Bundle is the address of the evidence bundle.
	Bundle string `json:"bundle"`
	// BundleDigest is the SHA-256 hash of the bundle's bytes when the audit was made.
	BundleDigest Digest `json:"bundleDigest"`
	// ChainLeaf is the hash of the last leaf of the bundle's chain: a bundle that is fetched later holds it too.
	ChainLeaf Digest `json:"chainLeaf"`
}

// Reached says when a commit reached the branch, as far as that is known: not before and not after, both in UTC.
type Reached struct {
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	// Basis says on what that rests.
	Basis Basis `json:"basis"`
}

// In tells whether the commit may have reached the branch in a window, which from is in and to is not.
func (r Reached) In(from, to time.Time) bool {
	return !r.NotAfter.Before(from) && r.NotBefore.Before(to)
}

func (r Reached) check() error {
	if r.NotBefore.Location() != time.UTC || r.NotAfter.Location() != time.UTC || r.NotAfter.Before(r.NotBefore) || r.Basis != Recorded && r.Basis != Claimed {
		return errors.New("when the commit reached the branch is not valid")
	}
	return nil
}

// Relation says how a commit stands to the one that was signed.
type Relation string

// The relations.
const (
	// Unrelated: no signed commit is known.
	Unrelated Relation = ""
	// Signed: it is the very commit that was signed.
	Signed Relation = "signed"
	// Within: it is in the history of the commit that was signed, which landed as it is or by a merge commit.
	Within Relation = "within"
	// MergeOf: it has the commit that was signed as a parent.
	MergeOf Relation = "merge"
	// Rewritten: a squash or a rebase made it; only a clone can tell whether its content is what was signed.
	Rewritten Relation = "rewritten"
)

// Basis says on what a time rests.
type Basis string

// The bases.
const (
	// Recorded: the service recorded the merge at that time; both times are the same.
	Recorded Basis = "recorded"
	// Claimed: not before the commit's own date, its parents, and the recorded merges that do not hold it but were
	// earlier than the first that does; and not after that one, or the time of the audit.
	Claimed Basis = "claimed"
)

// Line gives the row's line, without a line break.
func (r Row) Line() ([]byte, error) { return canonical(r) }

// ParseRow reads a row's line, and accepts nothing but the one form.
func ParseRow(line []byte) (r Row, err error) {
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if approval.TooDeep(line) || decoder.Decode(&r) != nil {
		return r, errors.New("it is not a row of an audit")
	}
	if again, err := r.Line(); err != nil || !bytes.Equal(again, line) {
		return r, errors.New("it is not the row's one form")
	}
	return r, r.check()
}

func (r Row) check() error {
	known := r.Request != ""
	switch {
	case r.Number < 1 || !commitForm.MatchString(r.Commit) || r.Reason == "":
		return errors.New("a value of the row is not valid")
	case r.Landed != "" && !commitForm.MatchString(r.Landed), r.Head != "" && !commitForm.MatchString(r.Head), r.PullRequest < 0, r.Bundle != "" && !isWeb(r.Bundle):
		return errors.New("a value of the row is not valid")
	case r.Relation != Unrelated && r.Relation != Signed && r.Relation != Within && r.Relation != MergeOf && r.Relation != Rewritten:
		return fmt.Errorf("%q is no relation of a row", r.Relation)
	case r.Reached.check() != nil:
		return r.Reached.check()
	case r.Kind != KindApproved && r.Kind != KindOverride && r.Kind != KindViolation:
		return fmt.Errorf("%q is no kind of a row", r.Kind)
	case known != (r.Bundle != "") || known != (r.BundleDigest != "") || known != (r.ChainLeaf != ""):
		return errors.New("a row has the whole reference to its evidence, or none")
	case known && (!r.BundleDigest.Valid() || !r.ChainLeaf.Valid()):
		return errors.New("the reference to the evidence is not valid")
	case r.Kind != KindViolation && !known:
		return fmt.Errorf("a row of kind %s needs evidence", r.Kind)
	}
	return nil
}

// Audit is the predicate of an audit's summary. Its subject is the lines of all rows.
type Audit struct {
	// Service is the origin of the service that says this.
	Service string `json:"service"`
	// Time is when the audit was made, in UTC and whole seconds.
	Time time.Time `json:"time"`
	// Workspace is the workspace's UUID in braces.
	Workspace  string     `json:"workspace"`
	Repository Repository `json:"repository"`
	Branch     string     `json:"branch"`
	// From and To are the window: from From on, before To; in UTC.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Since is the commit at which the audit was told to begin: nothing below it was looked at. Empty without one.
	Since string `json:"since"`
	// Tip is where the branch stood.
	Tip string `json:"tip"`
	// Rows is how many rows there are, of each kind and in all.
	Rows Counts `json:"rows"`
	// Heads are commits in whose histories is all that had reached the branch before To, and Bases those in whose histories is
	// all that had before From, none in that of another: the rows are exactly the commits in a history of Heads that are in none of Bases,
	// nor in that of Since.
	Heads []string `json:"heads"`
	Bases []string `json:"bases"`
	// Missing are the merges that the service recorded in the window and that the branch no longer holds, the oldest first.
	Missing []Missing `json:"missing"`
	// First and Last are the commits of the first and the last row; empty without rows.
	First string `json:"first"`
	Last  string `json:"last"`
	// Before is the commit before the first row, and After the one behind the last row, in the order of the rows;
	// both are outside of the window. Nil where there is none.
	Before *Edge `json:"before"`
	After  *Edge `json:"after"`
	Log    Log   `json:"log"`
}

// Counts are numbers of rows.
type Counts struct {
	Approved  int `json:"approved"`
	Override  int `json:"override"`
	Violation int `json:"violation"`
	All       int `json:"all"`
}

// Missing is a recorded merge that was taken from the branch: somebody rewrote its history.
type Missing struct {
	// PullRequest is the pull request's number.
	PullRequest int64 `json:"pullRequest"`
	// Landed is the commit that it was merged as.
	Landed string `json:"landed"`
	// Recorded is when the service recorded the merge, in UTC.
	Recorded time.Time `json:"recorded"`
}

// Edge is a commit outside of the window, beside it.
type Edge struct {
	Commit string `json:"commit"`
	Reached
}

// Sum counts and hashes rows as they go by. The zero value is ready.
type Sum struct {
	Counts
	First, Last string
	sha         hash.Hash
}

// Add takes the line of the next row.
func (s *Sum) Add(r Row, line []byte) error {
	if r.Number != s.All+1 {
		return fmt.Errorf("row %d is numbered %d", s.All+1, r.Number)
	}
	if s.sha == nil {
		s.sha = sha256.New()
		s.First = r.Commit
	}
	switch r.Kind {
	case KindApproved:
		s.Approved++
	case KindOverride:
		s.Override++
	default:
		s.Violation++
	}
	s.All++
	s.Last = r.Commit
	_, _ = s.sha.Write(line) // a hash takes everything
	_, _ = s.sha.Write([]byte{'\n'})
	return nil
}

// Digest is the SHA-256 hash of all lines, each with its line break.
func (s *Sum) Digest() Digest {
	if s.sha == nil {
		empty := sha256.Sum256(nil)
		return Digest(hex.EncodeToString(empty[:]))
	}
	return Digest(hex.EncodeToString(s.sha.Sum(nil)))
}

// SignAudit signs the summary of an audit whose rows were summed up. It fills in what follows from the rows.
func SignAudit(ctx context.Context, k *Keys, a Audit, s *Sum) ([]byte, error) {
	a.Rows, a.First, a.Last = s.Counts, s.First, s.Last
	a.Heads, a.Bases, a.Missing = append([]string{}, a.Heads...), append([]string{}, a.Bases...), append([]Missing{}, a.Missing...)
	if !isWeb(a.Service) || !isWeb(a.Repository.URI) || a.Branch == "" || !commitForm.MatchString(a.Tip) || !a.From.Before(a.To) || !a.Log.Root.Valid() {
		return nil, errors.New("attest: the audit is not valid")
	}
	return sign(ctx, k, Statement[Audit]{
		Type: StatementType, Subject: []Subject{{Name: "rows", Digest: map[string]string{"sha256": string(s.Digest())}}},
		PredicateType: AuditType, Predicate: a,
	})
}

// check refuses what names commits otherwise than by their hashes: a reader prints them.
func (a Audit) check() error {
	named := slices.Concat([]string{a.Tip}, a.Heads, a.Bases)
	for _, edge := range []*Edge{a.Before, a.After} {
		if edge != nil {
			named = append(named, edge.Commit)
		}
	}
	for _, m := range a.Missing {
		named = append(named, m.Landed)
	}
	for _, hash := range []string{a.Since, a.First, a.Last} {
		if hash != "" {
			named = append(named, hash)
		}
	}
	for _, hash := range named {
		if !commitForm.MatchString(hash) {
			return fmt.Errorf("%q is no commit", hash)
		}
	}
	return nil
}

// OpenAudit reads a summary that one of the keys has signed, and refuses it unless it is of exactly these rows.
func OpenAudit(ctx context.Context, envelope []byte, keys []Verifier, s *Sum) (Audit, error) {
	statement, err := open[Audit](ctx, envelope, keys, AuditType)
	if err != nil {
		return Audit{}, err
	}
	a := statement.Predicate
	if err := a.check(); err != nil {
		return Audit{}, err
	}
	switch {
	case statement.Subject[0].Digest["sha256"] != string(s.Digest()):
		return a, errors.New("the rows are not those that were signed")
	case a.Rows != s.Counts || a.First != s.First || a.Last != s.Last:
		return a, errors.New("the summary does not sum these rows up")
	}
	return a, nil
}
