package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"regexp"

	"github.com/jackc/pgx/v5"
)

// AllWorkspaces lists every workspace: an account can be named in one in which it never signed in.
func (s *Store) AllWorkspaces(ctx context.Context) ([]string, error) {
	rows, err := s.pool.Query(ctx, `select id::text from signedapproval_all_workspaces() as id`)
	if err != nil {
		return nil, fmt.Errorf("store: list workspaces: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// ErasePage is how many pull requests PullRequestsNaming gives at most.
const ErasePage = 200

// PullRequestsNaming lists the pull requests after an id that name an account: as author, in a decision, or in what a
// request was tallied from. At most ErasePage of them, by id.
func (tx *Tx) PullRequestsNaming(ctx context.Context, accountID, after string) ([]string, error) {
	quoted, err := json.Marshal(accountID) // as it stands in a document
	if err != nil {
		return nil, err
	}
	rows, err := tx.tx.Query(ctx, `
		select p.id::text from signedapproval_pull_requests p
		where p.workspace_id = $1 and p.id > $3::uuid and (p.author_account_id = $2
			or exists (select from signedapproval_decisions d where d.workspace_id = $1 and d.pull_request_id = p.id and d.account_id = $2)
			or exists (select from signedapproval_approval_requests r where r.workspace_id = $1 and r.pull_request_id = p.id
				and (position($4 in r.facts::text) > 0 or position($4 in r.verdict::text) > 0)))
		order by p.id limit $5`, tx.Workspace, accountID, after, string(quoted), ErasePage)
	if err != nil {
		return nil, fmt.Errorf("store: pull requests that name an account: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// EraseAuthor puts a pseudonym in the place of a pull request's author.
func (tx *Tx) EraseAuthor(ctx context.Context, pullRequestID, pseudonym, name string) error {
	return tx.erase(ctx, `update signedapproval_pull_requests set author_account_id = $3, author_name = $4, version = version + 1
		where workspace_id = $1 and id = $2`, pullRequestID, pseudonym, name)
}

// EraseDecision stores what is left of the person behind a decision. Of d, ID, AccountID, Name, Openings and Comment
// are read; the application can change no other part of a decision.
func (tx *Tx) EraseDecision(ctx context.Context, d Decision) error {
	return tx.erase(ctx, `update signedapproval_decisions set account_id = $3, name = $4, openings = $5, comment = $6
		where workspace_id = $1 and id = $2`, d.ID, d.AccountID, d.Name, d.Openings, d.Comment)
}

// EraseRequest stores facts, verdict and sentence without a person, and forgets what opens the verdict's leaf.
func (tx *Tx) EraseRequest(ctx context.Context, r ApprovalRequest) error {
	return tx.erase(ctx, `update signedapproval_approval_requests set facts = $3, verdict = $4, sentence = $5, outcome_salt = null
		where workspace_id = $1 and id = $2`, r.ID, r.Facts, r.Verdict, r.Sentence)
}

// EraseAccount forgets an account in what is not a pull request's: who asked a merge check, who installed the app, who
// may do what, who signed for a change of the rules, and how they called the keys that others proposed to change.
func (tx *Tx) EraseAccount(ctx context.Context, accountID string) error {
	for _, statement := range []string{
		`update signedapproval_merge_checks set account_id = '', asker_salt = null where workspace_id = $1 and account_id = $2`,
		`update signedapproval_installations set installed_by = '' where workspace_id = $1 and installed_by = $2`,
		`update signedapproval_proposal_acts set opening = null
			where workspace_id = $1 and person_id in (select id from signedapproval_people where account_id = $2)`,
		`update signedapproval_proposals set name = 'Passkey' where workspace_id = $1 and credential_id in (
			select c.id from signedapproval_credentials c join signedapproval_people p on p.id = c.person_id where p.account_id = $2)`,
		`delete from signedapproval_repository_people where workspace_id = $1 and account_id = $2`,
	} {
		if err := tx.erase(ctx, statement, accountID); err != nil {
			return err
		}
	}
	return nil
}

// EraseName puts other words in the place of a name in the sentences about a pull request. The name must stand by
// itself: "Bob" is not part of "Bobby".
func (tx *Tx) EraseName(ctx context.Context, pullRequestID, name, instead string) error {
	alone := alone(name)
	for _, statement := range []string{
		`update signedapproval_merge_checks set sentence = regexp_replace(sentence, $3, $4, 'g') where workspace_id = $1 and pull_request_id = $2 and sentence ~ $3`,
		`update signedapproval_merges_seen set sentence = regexp_replace(sentence, $3, $4, 'g') where workspace_id = $1 and pull_request_id = $2 and sentence ~ $3`,
		`update signedapproval_bitbucket_commit_statuses set description = regexp_replace(description, $3, $4, 'g') where workspace_id = $1 and pull_request_id = $2 and description ~ $3`,
		`update signedapproval_merge_intents set sentence = regexp_replace(sentence, $3, $4, 'g') where workspace_id = $1 and pull_request_id = $2 and sentence ~ $3`,
		`update signedapproval_alarms set sentence = regexp_replace(sentence, $3, $4, 'g') where workspace_id = $1 and pull_request_id = $2 and sentence ~ $3`,
		`update signedapproval_notices set sentence = regexp_replace(sentence, $3, $4, 'g'), title = regexp_replace(title, $3, $4, 'g')
			where workspace_id = $1 and pull_request_id = $2 and (sentence ~ $3 or title ~ $3)`,
	} {
		if err := tx.erase(ctx, statement, pullRequestID, alone, instead); err != nil {
			return err
		}
	}
	return nil
}

// alone is the pattern of a name that stands by itself.
func alone(name string) string {
	return `(?<![[:alnum:]])` + regexp.QuoteMeta(name) + `(?![[:alnum:]])`
}

// EraseNotices puts other words in the place of a person's name in what other people of their workspaces were told:
// somebody of the same name is then named no more either. It belongs before ForgetPerson, which forgets the workspaces.
func (sh *Shared) EraseNotices(ctx context.Context, p Person, instead string) error {
	if p.Name == "" {
		return nil
	}
	_, err := sh.tx.Exec(ctx, `update signedapproval_notices set sentence = regexp_replace(sentence, $2, $3, 'g'), title = regexp_replace(title, $2, $3, 'g')
		where (sentence ~ $2 or title ~ $2) and workspace_id in (
			select workspace_id from signedapproval_memberships where person_id = $1
			union select workspace_id from signedapproval_roster_people where person_id = $1)`, p.ID, alone(p.Name), instead)
	if err != nil {
		return fmt.Errorf("store: erase a name from notices: %w", err)
	}
	return nil
}

// EraseDeliveries drops the bodies of stored deliveries that name an account. Who sends such a delivery again changes
// nothing all the same: that it was here stays known.
func (s *Store) EraseDeliveries(ctx context.Context, accountID string) error {
	quoted, err := json.Marshal(accountID) // as it stands in a body
	if err != nil {
		return err
	}
	type delivery struct {
		ID   string
		Body []byte
	}
	for after := "00000000-0000-0000-0000-000000000000"; ; {
		// A body is compressed, so that the database cannot look into it.
		rows, err := s.pool.Query(ctx, `select request_uuid::text, body from signedapproval_deliveries
			where request_uuid > $1::uuid order by request_uuid limit $2`, after, ErasePage)
		if err != nil {
			return fmt.Errorf("store: read deliveries: %w", err)
		}
		page, err := pgx.CollectRows(rows, pgx.RowToStructByPos[delivery])
		if err != nil {
			return fmt.Errorf("store: read deliveries: %w", err)
		}
		var naming []string
		for _, d := range page {
			raw, err := decoder().DecodeAll(d.Body, nil)
			if err != nil || bytes.Contains(raw, quoted) { // what cannot be read may name anybody
				naming = append(naming, d.ID)
			}
			after = d.ID
		}
		if len(naming) > 0 {
			if _, err := s.pool.Exec(ctx, `update signedapproval_deliveries set body = $2 where request_uuid = any($1::uuid[])`, naming, encoder().EncodeAll(nil, nil)); err != nil {
				return fmt.Errorf("store: erase deliveries: %w", err)
			}
		}
		if len(page) < ErasePage {
			return nil
		}
	}
}

func (tx *Tx) erase(ctx context.Context, statement string, args ...any) error {
	if _, err := tx.tx.Exec(ctx, statement, append([]any{tx.Workspace}, args...)...); err != nil {
		return fmt.Errorf("store: erase: %w", err)
	}
	return nil
}

// StopPerson ends everything by which a person acts here but their keys.
func (sh *Shared) StopPerson(ctx context.Context, personID string) error {
	return sh.forget(ctx, personID,
		`delete from signedapproval_sessions where person_id = $1 or expects_person = $1`,
		`delete from signedapproval_api_tokens where person_id = $1`,
		`delete from signedapproval_tickets where person_id = $1`,
		`delete from signedapproval_stream_tokens where person_id = $1`,
		`delete from signedapproval_challenges where person_id = $1`,
		`delete from signedapproval_pending_grants where person_id = $1`,
	)
}

// ForgetPerson leaves nothing of a person but their id and their keys, which stand in statements and rosters. Whoever
// signs in with the account afterwards is somebody new.
func (sh *Shared) ForgetPerson(ctx context.Context, personID, pseudonym, name string) error {
	err := sh.forget(ctx, personID,
		`delete from signedapproval_notices where person_id = $1`,
		`delete from signedapproval_memberships where person_id = $1`,
		`update signedapproval_credentials set name = 'Passkey', unfinished = null, enrolment_opening = null, revocation_opening = null where person_id = $1`,
		`update signedapproval_key_countersignatures set opening = null where person_id = $1`,
		`update signedapproval_key_revocations set opening = null where person_id = $1`,
		`update signedapproval_key_reports set opening = null where person_id = $1`,
	)
	if err != nil {
		return err
	}
	_, err = sh.tx.Exec(ctx, `update signedapproval_people set account_id = $2, account_uuid = gen_random_uuid(), name = $3, email = '', salt = $4
		where id = $1`, personID, pseudonym, name, make([]byte, 32))
	if err != nil {
		return fmt.Errorf("store: forget person: %w", err)
	}
	return nil
}

func (sh *Shared) forget(ctx context.Context, personID string, statements ...string) error {
	for _, statement := range statements {
		if _, err := sh.tx.Exec(ctx, statement, personID); err != nil {
			return fmt.Errorf("store: forget person: %w", err)
		}
	}
	return nil
}
