// Package invariant checks what must hold of a gate whatever happened to it. It looks from outside:
// at the database as its superuser, and at what Bitbucket shows; it shares the verifier of evidence
// with the product, and counts everything else by itself.
package invariant

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// Gate is what is looked at.
type Gate struct {
	DB *pgx.Conn // superuser
	// RelyingParty is where decisions must have been made.
	RelyingParty evidence.RelyingParty
	// Successful tells whether Bitbucket shows SUCCESSFUL under a key on a commit of a repository.
	Successful func(ctx context.Context, repositoryID, commit, key string) (bool, error)
}

type pullRequest struct {
	ID, RepositoryID, StatusKey, ChainID, ChainLeaf, AuthorAccountID string
	Number, ChainSequence                                            int64
}

// Check answers everything that does not hold:
//
//   - no commit shows SUCCESSFUL under our key unless a quorum of different people, none of them
//     ruled out, has signed exactly that commit under a rule that was in force, by assertions that
//     the verifier accepts; or unless so many of those whom the rule lets override it have signed
//     that. At rest, when no job is due, it must be the rule in force, those people must stand by it,
//     and no rejection of an approved commit may stand: before that, a status may be stale;
//   - no commit shows SUCCESSFUL before a published checkpoint covers the leaf of its verdict;
//   - every chain is gap-free, and each leaf is in the log once;
//   - at most one request of a pull request is alive;
//   - nothing was merged by the gate but heads that were approved, and no pull request twice.
//
// A commit whose statuses cannot be read is left out: the next check looks again.
func (g Gate) Check(ctx context.Context, atRest bool) error {
	pullRequests, err := collect[pullRequest](ctx, g.DB, `select id::text, repository_id::text, status_key, chain_id, chain_leaf,
		author_account_id, number, chain_sequence from signedapproval_pull_requests`)
	if err != nil {
		return err
	}
	var broken []error
	for _, pr := range pullRequests {
		for _, look := range []func() error{
			func() error { return g.chain(ctx, pr) },
			func() error { return g.requests(ctx, pr) },
			func() error { return g.merges(ctx, pr) },
			func() error { return g.statuses(ctx, pr, atRest) },
		} {
			if err := look(); err != nil {
				broken = append(broken, fmt.Errorf("pull request %d: %w", pr.Number, err))
			}
		}
	}
	var size, leaves int64
	err = g.DB.QueryRow(ctx, `select size, (select count(*) from signedapproval_leaves) from signedapproval_log_head`).Scan(&size, &leaves)
	if err == nil && size != leaves {
		err = fmt.Errorf("the log says %d leaves and has %d", size, leaves)
	}
	return errors.Join(append(broken, err)...)
}

func collect[T any](ctx context.Context, db *pgx.Conn, sql string, args ...any) ([]T, error) {
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[T])
}

func texts[T any](ctx context.Context, db *pgx.Conn, sql string, args ...any) ([]T, error) {
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[T])
}

// end is what a pull request's row says of its chain. It is read with the leaves, in one statement:
// servers may be writing.
type end struct {
	ChainLeaf     string
	ChainSequence int64
	Entries       [][]byte
}

func (g Gate) chain(ctx context.Context, pr pullRequest) error {
	ends, err := collect[end](ctx, g.DB, `select p.chain_leaf, p.chain_sequence,
		array(select l.entry from signedapproval_leaves l where l.chain_id = p.chain_id order by l.sequence) as entries
		from signedapproval_pull_requests p where p.id = $1`, pr.ID)
	if err != nil || len(ends) == 0 {
		return err
	}
	last := ends[0]
	if int64(len(last.Entries)) != last.ChainSequence {
		return fmt.Errorf("its chain has %d leaves, and it says %d", len(last.Entries), last.ChainSequence)
	}
	if len(last.Entries) == 0 {
		return nil
	}
	if _, err := evidence.CheckChain(last.Entries); err != nil {
		return fmt.Errorf("chain: %w", err)
	}
	if string(evidence.LeafDigest(last.Entries[len(last.Entries)-1])) != last.ChainLeaf {
		return errors.New("it names another end of its chain than the log has")
	}
	return nil
}

func (g Gate) requests(ctx context.Context, pr pullRequest) error {
	var alive int
	err := g.DB.QueryRow(ctx, `select count(*) from signedapproval_approval_requests
		where pull_request_id = $1 and state not in ('SUPERSEDED', 'CANCELLED')`, pr.ID).Scan(&alive)
	if err == nil && alive > 1 {
		err = fmt.Errorf("%d of its requests are alive", alive)
	}
	return err
}

// merges looks at what the gate merged: once at most, and only what was approved.
func (g Gate) merges(ctx context.Context, pr pullRequest) error {
	commits, err := texts[string](ctx, g.DB, `select head_commit from signedapproval_merge_intents
		where pull_request_id = $1 and state = 'MERGED'`, pr.ID)
	if err != nil {
		return err
	}
	if len(commits) > 1 {
		return fmt.Errorf("it was merged %d times", len(commits))
	}
	for _, commit := range commits {
		if err := g.quorum(ctx, pr, commit, false, false); err != nil {
			return fmt.Errorf("%s was merged: %w", commit[:12], err)
		}
	}
	return nil
}

func (g Gate) statuses(ctx context.Context, pr pullRequest, atRest bool) error {
	commits, err := texts[string](ctx, g.DB, `select distinct head_commit from signedapproval_approval_requests where pull_request_id = $1`, pr.ID)
	if err != nil {
		return err
	}
	for _, commit := range commits {
		green, err := g.Successful(ctx, pr.RepositoryID, commit, pr.StatusKey)
		if err != nil || !green {
			continue // an error is a fault that the test put in place
		}
		if err := g.quorum(ctx, pr, commit, atRest, true); err != nil {
			return fmt.Errorf("%s is SUCCESSFUL: %w", commit[:12], err)
		}
		if err := g.published(ctx, pr, commit); err != nil {
			return fmt.Errorf("%s is SUCCESSFUL: %w", commit[:12], err)
		}
	}
	return nil
}

// published makes sure that a verdict that lets a commit be merged is under a published checkpoint.
func (g Gate) published(ctx context.Context, pr pullRequest, commit string) error {
	var published bool
	err := g.DB.QueryRow(ctx, `select exists (
		select from signedapproval_leaves l, signedapproval_approval_requests r, lateral (select convert_from(l.entry, 'UTF8')::jsonb as leaf) as e
		where l.chain_id = $1 and l.index < (select max(size) from signedapproval_log_checkpoints) and r.pull_request_id = $2 and r.head_commit = $3
			and leaf ->> 'type' = 'verdict' and leaf -> 'body' ->> 'state' in ('APPROVED', 'OVERRIDDEN') and leaf -> 'body' ->> 'request' = r.id::text)`,
		pr.ChainID, pr.ID, commit).Scan(&published)
	if err == nil && !published {
		err = errors.New("although no published checkpoint covers its verdict")
	}
	return err
}

// quorum counts the approvals of a commit, and the overrides where those do too, from what is stored
// and signed.
func (g Gate) quorum(ctx context.Context, pr pullRequest, commit string, atRest, overridable bool) error {
	stance, gave, err := g.signed(ctx, pr, commit)
	if err != nil {
		return err
	}
	people, err := collect[person](ctx, g.DB, `select id::text, account_id from signedapproval_people`)
	if err != nil {
		return err
	}
	rules, err := texts[[]byte](ctx, g.DB, `select rule from signedapproval_approval_requests
		where pull_request_id = $1 and head_commit = $2 order by round desc`, pr.ID, commit)
	if err != nil {
		return err
	}
	if atRest && len(rules) > 1 {
		rules = rules[:1] // the newest request alone counts
	}
	met := func(purpose evidence.Purpose, requirements func(rule approval.Rule) []approval.Requirement) bool {
		return slices.ContainsFunc(rules, func(document []byte) bool {
			var rule approval.Rule
			if json.Unmarshal(document, &rule) != nil {
				return false
			}
			return reached(rule, requirements(rule), pr.AuthorAccountID, people, func(id string) bool {
				return gave[given{purpose, id, rule.Digest()}] && (!atRest || stance[id] == purpose)
			})
		})
	}
	if overridable && met(evidence.Override, overrideOf) {
		return nil
	}
	if !met(evidence.Approve, func(rule approval.Rule) []approval.Requirement { return rule.Requirements }) {
		return errors.New("without its approvals, and without an override")
	}
	for _, said := range stance {
		if atRest && said == evidence.Reject {
			return errors.New("although a rejection stands")
		}
	}
	return nil
}

// overrideOf is what a rule asks for to be overridden; nothing where it cannot be.
func overrideOf(rule approval.Rule) []approval.Requirement {
	if rule.Override == nil {
		return nil
	}
	return []approval.Requirement{{Quorum: rule.Override.Quorum, Approvers: rule.Override.Approvers}}
}

type person struct{ ID, AccountID string }

// given is that a person once signed something under a rule.
type given struct {
	purpose evidence.Purpose
	person  string
	rule    approval.Digest
}

// signed verifies what people signed about a commit, and answers the last word of each, and what
// everybody ever gave.
func (g Gate) signed(ctx context.Context, pr pullRequest, commit string) (stance map[string]evidence.Purpose, gave map[given]bool, err error) {
	keys, err := g.keys(ctx)
	if err != nil {
		return nil, nil, err
	}
	decisions, err := collect[struct{ Statement, Assertion []byte }](ctx, g.DB, `select statement, assertion
		from signedapproval_decisions where pull_request_id = $1 order by sequence`, pr.ID)
	if err != nil {
		return nil, nil, err
	}
	stance, gave = map[string]evidence.Purpose{}, map[given]bool{}
	for _, d := range decisions {
		var assertion evidence.Assertion
		if err := json.Unmarshal(d.Assertion, &assertion); err != nil {
			return nil, nil, err
		}
		if _, err := evidence.VerifyAssertion(d.Statement, assertion, keys, g.RelyingParty); err != nil {
			return nil, nil, fmt.Errorf("a stored decision does not verify: %w", err)
		}
		s, err := evidence.ParseStatement(d.Statement)
		if err != nil {
			return nil, nil, err
		}
		if s.Source.Commit != commit {
			continue
		}
		stance[s.Approver.Person] = s.Purpose
		gave[given{s.Purpose, s.Approver.Person, s.Policy.RuleDigest}] = true
	}
	return stance, gave, nil
}

func (g Gate) keys(ctx context.Context) (keys []evidence.Key, err error) {
	rows, err := g.DB.Query(ctx, `select person_id::text, id, public_key, backup_eligible from signedapproval_credentials`)
	if err != nil {
		return nil, err
	}
	var k evidence.Key
	var id, public []byte
	_, err = pgx.ForEachRow(rows, []any{&k.Person, &id, &public, &k.BackupEligible}, func() error {
		k.CredentialID, k.PublicKey = slices.Clone(id), slices.Clone(public)
		keys = append(keys, k)
		return nil
	})
	return keys, err
}

// reached counts the people who gave what requirements of a rule ask for.
func reached(rule approval.Rule, requirements []approval.Requirement, author string, people []person, gave func(id string) bool) bool {
	for _, requirement := range requirements {
		n := 0
		for _, p := range people {
			named := requirement.Approvers.Everyone || slices.Contains(requirement.Approvers.Accounts, p.AccountID)
			if named && gave(p.ID) && (p.AccountID != author || rule.AuthorMayApprove) {
				n++
			}
		}
		if n < requirement.Quorum {
			return false
		}
	}
	return len(requirements) > 0
}
