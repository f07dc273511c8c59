// Package invariant checks what must hold of a gate whatever happened to it. It looks from outside:
// at the database as its superuser, and at what Bitbucket shows. It shares the formats and the verifier
// of evidence with the product, and counts everything else by itself. The tests of the gate and the
// chaos program use the same checks.
package invariant

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/note"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// Gate is what is looked at.
type Gate struct {
	DB *pgx.Conn // superuser
	// RelyingParty is where decisions must have been made.
	RelyingParty evidence.RelyingParty
	// Shown is what Bitbucket shows under a key on a commit of a repository; the zero Status where it
	// shows nothing. It may fail: then this status is left out, and the next check looks again.
	Shown func(ctx context.Context, workspaceID, repositoryID, commit, key string) (Status, error)
	// PullRequests are those that Bitbucket has in a repository; nil where nobody can tell.
	PullRequests func(ctx context.Context, workspaceID, repositoryID string) ([]PullRequest, error)
	// Accepted are the X-Request-UUIDs of the deliveries that were answered with 2xx.
	Accepted []string
	// Checkpoints verify the log's signed notes; nil does not look at signatures.
	Checkpoints note.Verifiers
	// Acts are what the gate did to Bitbucket; nil where nobody kept that. With it the database must keep when transactions
	// were committed.
	Acts func(ctx context.Context) ([]Act, error)
	// Overdue is how long what is due may wait for somebody who attends to it; 0 for any time.
	Overdue time.Duration
}

// Status is a build status as Bitbucket shows it.
type Status struct{ State, Description string }

// PullRequest is one as Bitbucket has it.
type PullRequest struct {
	Number      int64
	State       string // OPEN, MERGED, DECLINED or SUPERSEDED
	Draft       bool
	Head        string // 40 hex digits
	Destination string
	// ByGate says that it was the gate that merged it.
	ByGate bool
	// Raced says that the head moved between the gate's last look at it and its call to merge.
	// Bitbucket's merge takes no expected head, so the gate can only see it afterwards, and must say so.
	Raced bool
}

// Check answers everything that does not hold, each in a sentence of its own, or why that could not be
// found out: the two are told apart by [Violations].
//
// At any time:
//
//   - each verdict that approves or overrides rests on a quorum of different people, none of them ruled
//     out, who had by then signed exactly that commit, destination and rule, by assertions that the
//     verifier accepts, with no rejection standing; and that rule is the one of the policy it names, and of the policy
//     that was in force;
//   - no status was written SUCCESSFUL, and no merge asked for, but by a turn of a job during which the rule in force and the
//     decisions that were not taken back, by people whose keys nobody had reported stolen, made it approved;
//   - no commit shows SUCCESSFUL under our key without such a verdict under a published checkpoint, with the
//     cosignatures that its rule demands;
//   - what the gate believes that Bitbucket shows is what Bitbucket shows;
//   - each cause has one leaf, every chain is gap-free, the tree over all leaves is the one of every
//     published checkpoint;
//   - at most one request of a pull request is alive, nobody is counted twice in a verdict;
//   - nothing was merged by the gate but heads that were approved, into the branches that they were approved for, and no pull
//     request twice; and what is on record as merged with approval had it, whoever merged it;
//   - no row of one workspace names another's;
//   - whatever is owed has a job, and no job is overdue;
//   - each delivery that was answered with 2xx is stored, and so is its job.
//
// At rest, when no job is due, moreover: statuses are those of the last verdicts, which hold by the
// decisions and the rules as they are; no job gave up; each delivery has had its effect; Bitbucket shows nothing under our key
// on a head that nothing was owed on; and the gate knows every pull request as Bitbucket has it.
func (g Gate) Check(ctx context.Context, atRest bool) error {
	before, err := g.readStatuses(ctx)
	if err != nil {
		return err
	}
	shown := g.look(ctx, before, atRest)
	remote, err := g.remote(ctx, atRest)
	if err != nil {
		return err
	}
	var done []Act // before the database is read, which then has what they rest on
	if g.Acts != nil {
		if done, err = g.Acts(ctx); err != nil {
			return err
		}
	}
	var s *snapshot
	err = pgx.BeginTxFunc(ctx, g.DB, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if s, err = read(ctx, tx); err == nil && g.Acts != nil {
			s.committed, err = committed(ctx, tx)
		}
		return err
	})
	if err != nil {
		return err
	}
	c := &check{Gate: g, snapshot: s, atRest: atRest, before: before, shown: shown, remote: remote, done: done}
	if atRest {
		c.strange = g.strange(ctx, s, remote)
	}
	for _, look := range []func(){
		c.tenants, c.log, c.causes, c.signatures, c.voids, c.requests, c.verdicts, c.acts, c.statuses, c.merges, c.jobs, c.deliveries, c.pullRequests,
	} {
		look()
	}
	return errors.Join(c.broken...)
}

// violation is a sentence about what does not hold.
type violation string

func (v violation) Error() string { return string(v) }

// Violations are the sentences of an answer of [Gate.Check] about what does not hold; none where the
// check itself failed.
func Violations(err error) (sentences []string) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			sentences = append(sentences, Violations(e)...)
		}
		return sentences
	}
	if v, ok := errors.AsType[violation](err); ok {
		return []string{string(v)}
	}
	return nil
}

// check is one look at everything.
type check struct {
	Gate
	*snapshot
	atRest bool
	// before are the statuses as they were before Bitbucket was read, shown is what it showed then.
	before map[statusKey]status
	shown  map[statusKey]Status
	remote map[repositoryKey][]PullRequest
	done   []Act
	broken []error
	// good are the requests with a verdict that lets merge, and rests on its quorum, with the index of
	// the first such leaf.
	good map[string]int64
	// parsedLeaves are kept by parse, and of them those of policies by repository, and those of merges by chain.
	parsedLeaves []parsed
	policyLeaves map[evidence.Digest][]parsed
	mergedLeaves map[string][]evidence.Merged
	// strange are statuses on Bitbucket that the gate knows nothing of.
	strange []string
}

func (c *check) breaks(format string, args ...any) {
	c.broken = append(c.broken, violation(fmt.Sprintf(format, args...)))
}
