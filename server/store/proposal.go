package store

import (
	"context"
	"fmt"
	"time"
)

// Kinds of a proposal.
const (
	ProposalPolicy     = "POLICY"
	ProposalProtection = "PROTECTION"
	// ProposalCountersign and ProposalRevoke are about the key of a member.
	ProposalCountersign = "COUNTERSIGN"
	ProposalRevoke      = "REVOKE"
)

// States of a proposal.
const (
	ProposalOpen      = "OPEN"
	ProposalApplied   = "APPLIED"
	ProposalWithdrawn = "WITHDRAWN"
	ProposalExpired   = "EXPIRED"  // nobody has to write it down
	ProposalOutdated  = "OUTDATED" // what it was to replace was replaced by something else
)

// ProposalLife is how long signatures are waited for.
const ProposalLife = 7 * 24 * time.Hour

// Proposal is a change of rules that waits, or waited, for signatures.
type Proposal struct {
	ID           string
	Kind         string
	State        string
	RepositoryID *string // ProposalPolicy only
	Slug         string  // of the repository, as it was when proposed; so are the next two
	FullName     string
	Name         string // of the repository or of the key
	CredentialID []byte // of the key; ProposalCountersign and ProposalRevoke only
	Document     []byte // evidence.PolicyDocument, ProtectionDocument, KeyDocument or RevocationDocument, RFC 8785
	Digest       string // lower-case hex SHA-256 of Document
	Policy       []byte // the new policy, RFC 8785; nil where the repository is to be gated no longer
	ProposedBy   string // person
	ProposedVia  string // "session" or "token:<id>"
	CreatedAt    time.Time
	ExpiresAt    time.Time
	ClosedAt     *time.Time
}

// Cursor is the place of p in a list ordered by newest first.
func (p Proposal) Cursor() string { return cursor(p.CreatedAt, p.ID) }

// AboutKey tells whether p is about the key of a member.
func (p Proposal) AboutKey() bool { return p.Kind == ProposalCountersign || p.Kind == ProposalRevoke }

// proposalKeyThere is where a proposal is about no key, or about one that its owner neither revoked nor let lapse.
const proposalKeyThere = `(credential_id is null or exists (select from signedapproval_credentials c
	where c.id = signedapproval_proposals.credential_id and c.revoked_at is null))`

const proposalColumns = `id, kind, case when state = 'OPEN' and expires_at <= now() then 'EXPIRED'
	when state = 'OPEN' and not ` + proposalKeyThere + ` then 'OUTDATED' else state end as state, repository_id, slug, full_name, name, credential_id,
	document, digest, policy, proposed_by, proposed_via, created_at, expires_at, closed_at`

// InsertProposal stores a proposal, which is open for [ProposalLife].
func (tx *Tx) InsertProposal(ctx context.Context, p Proposal) (Proposal, error) {
	stored, err := single[Proposal](ctx, tx.tx, `insert into signedapproval_proposals
		(workspace_id, kind, repository_id, slug, full_name, name, credential_id, document, digest, policy, proposed_by, proposed_via, expires_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, now() + make_interval(secs => $13))
		returning `+proposalColumns,
		tx.Workspace, p.Kind, p.RepositoryID, p.Slug, p.FullName, p.Name, p.CredentialID, p.Document, p.Digest, p.Policy, p.ProposedBy, p.ProposedVia, ProposalLife.Seconds())
	if err != nil {
		return Proposal{}, fmt.Errorf("store: insert proposal: %w", err)
	}
	return stored, nil
}

// Proposal reads a proposal by its id.
func (tx *Tx) Proposal(ctx context.Context, id string) (Proposal, error) {
	return single[Proposal](ctx, tx.tx, `select `+proposalColumns+` from signedapproval_proposals where workspace_id = $1 and id = $2`, tx.Workspace, id)
}

// OpenProposals lists the proposals that can still be signed, newest first.
func (tx *Tx) OpenProposals(ctx context.Context) ([]Proposal, error) {
	return list[Proposal](ctx, tx.tx, `select `+proposalColumns+` from signedapproval_proposals
		where workspace_id = $1 and state = 'OPEN' and expires_at > now() and `+proposalKeyThere+` order by created_at desc, id desc`, tx.Workspace)
}

// Proposals lists the workspace's proposals, newest first: all of them, or, where personID is not "", those that this
// person made or is named in. With open they are only those that can still be signed.
func (tx *Tx) Proposals(ctx context.Context, personID string, open bool, page Page) ([]Proposal, bool, error) {
	at, id, err := page.after()
	if err != nil {
		return nil, false, err
	}
	proposals, err := list[Proposal](ctx, tx.tx, `select `+proposalColumns+` from signedapproval_proposals
		where workspace_id = $1 and (not $6 or state = 'OPEN' and expires_at > now() and `+proposalKeyThere+`)
			and ($5 = '' or proposed_by::text = $5 or case kind
				when 'PROTECTION' then convert_from(document, 'UTF8')::jsonb -> 'people' ? $5
				when 'COUNTERSIGN' then convert_from(document, 'UTF8')::jsonb #>> '{key,person}' = $5
				when 'REVOKE' then convert_from(document, 'UTF8')::jsonb ->> 'person' = $5
				else false end)
			and (created_at, id) < `+newestFirst+`
		order by created_at desc, id desc limit $4`, tx.Workspace, at, id, page.limit()+1, personID, open)
	if err != nil {
		return nil, false, fmt.Errorf("store: list proposals: %w", err)
	}
	proposals, more := paged(proposals, page)
	return proposals, more, nil
}

// CloseProposal ends an open proposal; [ErrNotFound] where it is not open any more.
func (tx *Tx) CloseProposal(ctx context.Context, id, state string) (Proposal, error) {
	return single[Proposal](ctx, tx.tx, `update signedapproval_proposals set state = $3, closed_at = now()
		where workspace_id = $1 and id = $2 and state = 'OPEN' returning `+proposalColumns, tx.Workspace, id, state)
}

// OutdatePolicyProposals ends the open proposals about a repository's policy: it was just changed.
func (tx *Tx) OutdatePolicyProposals(ctx context.Context, repositoryID string) error {
	return tx.outdate(ctx, `repository_id = $2`, repositoryID)
}

// OutdateProtectionProposals ends the open proposals about the protection, which was just changed; all open ones where it
// was switched off, since nobody is asked any more.
func (tx *Tx) OutdateProtectionProposals(ctx context.Context, off bool) error {
	return tx.outdate(ctx, `($2 or kind = 'PROTECTION')`, off)
}

// OutdateKeyProposals ends the open proposals about a key: it was just revoked.
func (tx *Tx) OutdateKeyProposals(ctx context.Context, credentialID []byte) error {
	return tx.outdate(ctx, `credential_id = $2`, credentialID)
}

func (tx *Tx) outdate(ctx context.Context, which string, argument any) error {
	_, err := tx.tx.Exec(ctx, `update signedapproval_proposals set state = 'OUTDATED', closed_at = now()
		where workspace_id = $1 and state = 'OPEN' and `+which, tx.Workspace, argument)
	if err != nil {
		return fmt.Errorf("store: outdate proposals: %w", err)
	}
	return nil
}

// ProposalAct is what one person signed for a proposal.
type ProposalAct struct {
	ProposalID   string
	PersonID     string
	CredentialID []byte
	KeyDigest    string // lower-case hex, evidence.Key.Digest of the key that signed
	Act          []byte // evidence.SignedAct, canonical JSON
	Digest       string // lower-case hex SHA-256 of Act
	Opening      []byte // opens the act's commitment to its signer, an evidence.PersonOpening, JSON; nil once erased
	Counted      bool   // whether the leaf of what was applied names it
	SignedAt     time.Time
}

const proposalActColumns = `proposal_id, person_id, credential_id, key_digest, act, digest, opening, counted, signed_at`

// PutProposalAct stores what somebody signed, in the place of what they signed before.
func (tx *Tx) PutProposalAct(ctx context.Context, a ProposalAct) error {
	_, err := tx.tx.Exec(ctx, `insert into signedapproval_proposal_acts
		(workspace_id, proposal_id, person_id, credential_id, key_digest, act, digest, opening) values ($1, $2, $3, $4, $5, $6, $7, $8)
		on conflict (workspace_id, proposal_id, person_id) do update set credential_id = excluded.credential_id, key_digest = excluded.key_digest,
			act = excluded.act, digest = excluded.digest, opening = excluded.opening, signed_at = now()`,
		tx.Workspace, a.ProposalID, a.PersonID, a.CredentialID, a.KeyDigest, a.Act, a.Digest, a.Opening)
	if err != nil {
		return fmt.Errorf("store: put act of a proposal: %w", err)
	}
	return nil
}

// ProposalActs lists what was signed for the proposals, oldest first.
func (tx *Tx) ProposalActs(ctx context.Context, proposalIDs ...string) ([]ProposalAct, error) {
	return list[ProposalAct](ctx, tx.tx, ofEach(byID, `select `+proposalActColumns+` from signedapproval_proposal_acts
		where workspace_id = $1 and proposal_id = wanted.id order by person_id`)+` order by signed_at, person_id`, tx.Workspace, proposalIDs)
}

// CountProposalActs notes that the leaf of a proposal names the acts of these people.
func (tx *Tx) CountProposalActs(ctx context.Context, proposalID string, people []string) error {
	_, err := tx.tx.Exec(ctx, `update signedapproval_proposal_acts set counted = true
		where workspace_id = $1 and proposal_id = $2 and person_id = any($3::uuid[])`, tx.Workspace, proposalID, people)
	if err != nil {
		return fmt.Errorf("store: count acts of a proposal: %w", err)
	}
	return nil
}

// CountedActs lists the acts that leaves of policies and protections name, oldest first; those that a roster names are
// kept with the key.
func (tx *Tx) CountedActs(ctx context.Context) ([]ProposalAct, error) {
	return list[ProposalAct](ctx, tx.tx, `select `+proposalActColumns+` from signedapproval_proposal_acts
		where workspace_id = $1 and counted and proposal_id in (select id from signedapproval_proposals
			where workspace_id = $1 and credential_id is null) order by signed_at, proposal_id, person_id`, tx.Workspace)
}
