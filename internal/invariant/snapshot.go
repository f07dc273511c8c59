package invariant

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// snapshot is the database at one moment, as far as it is looked at.
type snapshot struct {
	now          time.Time
	pullRequests map[string]*pullRequest // by id
	requests     map[string]*request     // by id
	decisions    []*decision             // in the order of their chains
	statusRows   map[statusKey]status
	intents      []intent
	mergesSeen   map[numberKey]string // kind
	leaves       []leaf
	treeSize     int64 // what the head of the log says
	checkpoints  []checkpoint
	people       map[string]string // account ids by person
	keys         []evidence.Key
	policies     map[string]policy         // by id
	salts        map[string][]byte         // of the chain ids, by workspace
	inForce      map[repositoryKey]string  // policy version ids of repositories that are gated
	jobRows      map[jobKey]job            // by kind and key
	stored       map[string]storedDelivery // by request id
	strangers    []string                  // rows that name another workspace's
	rosters      map[string]roster         // by workspace
	committed    map[int64]time.Time       // of leaves; nil where nobody asks
}

type repositoryKey struct{ Workspace, Repository string }

type numberKey struct {
	Workspace, Repository string
	Number                int64
}

type statusKey struct{ PullRequest, Commit string }

type jobKey struct{ Kind, Key string }

type pullRequest struct {
	Workspace, ID, Repository                             string
	Number                                                int64
	State                                                 string
	Draft                                                 bool
	Head, Destination, StatusKey, Author, Chain, LastLeaf string
	Sequence                                              int64
	SyncedAt                                              time.Time
}

// String names it as people do.
func (p *pullRequest) String() string { return fmt.Sprintf("pull request %d", p.Number) }

type request struct {
	Workspace, ID, PullRequest string
	Round                      int64
	Head, Destination, Policy  string
	Rule                       []byte
	RuleDigest, State          string
	Verdict                    []byte
	ExpiresAt                  time.Time
}

func (r *request) alive() bool { return r.State != "SUPERSEDED" && r.State != "CANCELLED" }

// rule is the rule of the request; the zero one, which nobody meets, where it cannot be read.
func (r *request) rule() (rule approval.Rule) {
	_ = json.Unmarshal(r.Rule, &rule)
	return rule
}

type decision struct {
	Workspace, PullRequest, Request, Person string
	Head, Destination, RuleDigest           string
	Sequence                                int64
	Statement, Assertion, Credential        []byte
	DecidedAt                               time.Time
	purpose                                 evidence.Purpose // of the statement, once it was verified
	// void is the place of the leaf since which it counts no more, its key having been in other hands, and voidAt when that was
	// committed; effective is since when it must be seen.
	void              int64
	voidAt, effective time.Time
}

// roster is a workspace's, version by version.
type roster struct {
	genesis   evidence.Digest
	documents [][]byte
}

type status struct {
	Workspace, PullRequest, Commit, Repository, Request string
	Key, State, Description                             string
	Owed, Paid                                          int64
	Doubtful                                            bool // a call may still land
	Problem                                             string
	Recent                                              bool // something may still happen to its pull request
}

type intent struct {
	Workspace, PullRequest, Head, Request, State string
}

type leaf struct {
	Index            int64
	Hash, Entry      []byte
	Workspace, Chain string
	Sequence         int64
}

type checkpoint struct {
	Size int64
	Root []byte
	Note []byte
	// Cosignatures counts the witnesses that are on record.
	Cosignatures int64
}

type policy struct {
	ID, Repository, Digest string
	Document               []byte
}

type job struct {
	Kind, Key, Workspace, State string
	DueAt                       time.Time // or when its lease ends, whichever is later
	Held                        bool
	Attempt                     int
	LastError                   string
	UpdatedAt                   time.Time
	Payload                     []byte
}

type storedDelivery struct {
	ID, Workspace, Repository, Event, Outcome string
	Body                                      []byte // zstd
	ReceivedAt                                time.Time
}

// querier is a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func collect[T any](ctx context.Context, db querier, sql string, args ...any) ([]T, error) {
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[T])
}

func keyed[K comparable, T any](list []T, key func(T) K) map[K]T {
	m := make(map[K]T, len(list))
	for _, v := range list {
		m[key(v)] = v
	}
	return m
}

func pointers[T any](list []T) []*T {
	all := make([]*T, len(list))
	for i := range list {
		all[i] = &list[i]
	}
	return all
}

func readStatuses(ctx context.Context, db querier) (map[statusKey]status, error) {
	list, err := collect[status](ctx, db, `select s.workspace_id::text, s.pull_request_id::text, s.commit, s.repository_id::text, s.request_id::text, s.key, s.state, s.description,
			s.owed_version, s.paid_version, coalesce(s.doubt_until > now(), false), s.problem, p.state = 'OPEN' or p.synced_at > now() - interval '2 minutes'
		from signedapproval_bitbucket_commit_statuses s join signedapproval_pull_requests p on p.id = s.pull_request_id`)
	return keyed(list, func(s status) statusKey { return statusKey{s.PullRequest, s.Commit} }), err
}

func read(ctx context.Context, tx pgx.Tx) (*snapshot, error) {
	s := &snapshot{}
	var failed []error
	noted := func(err error) {
		if err != nil {
			failed = append(failed, err)
		}
	}
	noted(tx.QueryRow(ctx, `select now(), size from signedapproval_log_head`).Scan(&s.now, &s.treeSize))
	pullRequests, err := collect[pullRequest](ctx, tx, `select workspace_id::text, id::text, repository_id::text, number, state, draft, head_commit, destination_branch,
		status_key, author_account_id, chain_id, chain_leaf, chain_sequence, synced_at from signedapproval_pull_requests`)
	noted(err)
	s.pullRequests = keyed(pointers(pullRequests), func(p *pullRequest) string { return p.ID })
	requests, err := collect[request](ctx, tx, `select workspace_id::text, id::text, pull_request_id::text, round::bigint, head_commit, destination_branch, policy_version_id::text,
		rule, rule_digest, state, verdict::text::bytea, expires_at from signedapproval_approval_requests`)
	noted(err)
	s.requests = keyed(pointers(requests), func(r *request) string { return r.ID })
	type row struct {
		Workspace, PullRequest, Request, Person string
		Head, Destination, RuleDigest           string
		Sequence                                int64
		Statement, Assertion, Credential        []byte
		DecidedAt                               time.Time
	}
	decisions, err := collect[row](ctx, tx, `select workspace_id::text, pull_request_id::text, request_id::text, person_id::text, head_commit, destination_branch, rule_digest,
		sequence, statement, assertion, credential_id, decided_at from signedapproval_decisions order by pull_request_id, sequence`)
	noted(err)
	for _, d := range decisions {
		s.decisions = append(s.decisions, &decision{
			Workspace: d.Workspace, PullRequest: d.PullRequest, Request: d.Request, Person: d.Person, Head: d.Head, Destination: d.Destination,
			RuleDigest: d.RuleDigest, Sequence: d.Sequence, Statement: d.Statement, Assertion: d.Assertion, Credential: d.Credential, DecidedAt: d.DecidedAt,
			void: forever, voidAt: never,
		})
	}
	s.statusRows, err = readStatuses(ctx, tx)
	noted(err)
	s.intents, err = collect[intent](ctx, tx, `select workspace_id::text, pull_request_id::text, head_commit, request_id::text, state from signedapproval_merge_intents`)
	noted(err)
	noted(s.readMergesSeen(ctx, tx))
	s.leaves, err = collect[leaf](ctx, tx, `select index, hash, entry, workspace_id::text, chain_id, sequence from signedapproval_leaves order by index`)
	noted(err)
	s.checkpoints, err = collect[checkpoint](ctx, tx, `select c.size, root, note, count(w.size) as cosignatures
		from signedapproval_log_checkpoints c left join signedapproval_log_cosignatures w on w.size = c.size group by c.size order by c.size`)
	noted(err)
	noted(s.readPeople(ctx, tx))
	policies, err := collect[policy](ctx, tx, `select id::text, repository_id::text, digest, document from signedapproval_policy_versions`)
	noted(err)
	s.policies = keyed(policies, func(p policy) string { return p.ID })
	type home struct {
		ID            string
		Salt, Genesis []byte
	}
	workspaces, err := collect[home](ctx, tx, `select workspace_id::text, genesis_salt, genesis_leaf from signedapproval_workspaces`)
	noted(err)
	s.salts, s.rosters = map[string][]byte{}, map[string]roster{}
	for _, w := range workspaces {
		s.salts[w.ID] = w.Salt
		s.rosters[w.ID] = roster{genesis: evidence.Digest(hex.EncodeToString(w.Genesis))}
	}
	type version struct {
		Workspace string
		Document  []byte
	}
	versions, err := collect[version](ctx, tx, `select workspace_id::text, document from signedapproval_roster_versions order by workspace_id, version`)
	noted(err)
	for _, v := range versions {
		r := s.rosters[v.Workspace]
		r.documents = append(r.documents, v.Document)
		s.rosters[v.Workspace] = r
	}
	type config struct{ Workspace, Repository, Policy string }
	configs, err := collect[config](ctx, tx, `select workspace_id::text, repository_id::text, policy_version_id::text from signedapproval_bitbucket_repo_configs`)
	noted(err)
	s.inForce = map[repositoryKey]string{}
	for _, c := range configs {
		s.inForce[repositoryKey{c.Workspace, c.Repository}] = c.Policy
	}
	jobs, err := collect[job](ctx, tx, `select kind, key, coalesce(workspace_id::text, ''), state, greatest(run_at, leased_until), holder is not null and leased_until > now(),
		attempt, last_error, updated_at, payload::text::bytea from signedapproval_jobs`)
	noted(err)
	s.jobRows = keyed(jobs, func(j job) jobKey { return jobKey{j.Kind, j.Key} })
	deliveries, err := collect[storedDelivery](ctx, tx, `select request_uuid::text, workspace_id::text, repository_id::text, event_key, outcome, body, received_at from signedapproval_deliveries`)
	noted(err)
	s.stored = keyed(deliveries, func(d storedDelivery) string { return d.ID })
	s.strangers, err = readStrangers(ctx, tx)
	noted(err)
	return s, errors.Join(failed...)
}

func (s *snapshot) readMergesSeen(ctx context.Context, tx pgx.Tx) error {
	type row struct {
		Workspace, Repository string
		Number                int64
		Kind                  string
	}
	list, err := collect[row](ctx, tx, `select workspace_id::text, repository_id::text, number, kind from signedapproval_merges_seen`)
	s.mergesSeen = map[numberKey]string{}
	for _, m := range list {
		s.mergesSeen[numberKey{m.Workspace, m.Repository, m.Number}] = m.Kind
	}
	return err
}

func (s *snapshot) readPeople(ctx context.Context, tx pgx.Tx) error {
	type person struct{ ID, Account string }
	people, err := collect[person](ctx, tx, `select id::text, account_id from signedapproval_people`)
	if err != nil {
		return err
	}
	s.people = map[string]string{}
	for _, p := range people {
		s.people[p.ID] = p.Account
	}
	type credential struct {
		Person         string
		ID, PublicKey  []byte
		BackupEligible bool
	}
	credentials, err := collect[credential](ctx, tx, `select person_id::text, id, public_key, backup_eligible from signedapproval_credentials`)
	for _, c := range credentials {
		s.keys = append(s.keys, evidence.Key{Person: c.Person, CredentialID: c.ID, PublicKey: c.PublicKey, BackupEligible: c.BackupEligible})
	}
	return err
}

// pullRequestAt finds one by where it is.
func (s *snapshot) pullRequestAt(at numberKey) *pullRequest {
	for _, p := range s.pullRequests {
		if (numberKey{p.Workspace, p.Repository, p.Number}) == at {
			return p
		}
	}
	return nil
}

// parsed is a leaf that was read.
type parsed struct {
	leaf
	evidence.Leaf
}

// roots computes the root of the tree at each of these sizes, which ascend, over the entries.
func roots(leaves []leaf, sizes []int64) (map[int64]tlog.Hash, error) {
	var hashes []tlog.Hash
	reader := tlog.HashReaderFunc(func(places []int64) ([]tlog.Hash, error) {
		found := make([]tlog.Hash, len(places))
		for i, place := range places {
			found[i] = hashes[place]
		}
		return found, nil
	})
	at := map[int64]tlog.Hash{}
	next := 0
	for size := int64(0); ; size++ {
		for ; next < len(sizes) && sizes[next] == size; next++ {
			root, err := tlog.TreeHash(size, reader)
			if err != nil {
				return nil, err
			}
			at[size] = root
		}
		if size == int64(len(leaves)) {
			return at, nil
		}
		more, err := tlog.StoredHashes(size, leaves[size].Entry, reader)
		if err != nil {
			return nil, err
		}
		hashes = append(hashes, more...)
	}
}
