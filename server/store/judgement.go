package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// Judgement is what a workspace makes of the keys of which somebody said that they were in other hands.
//
// A key belongs to its person and a roster to a workspace, so what one key says of another one counts here only as this
// workspace's roster takes it: the signer must have a voice in it. A key that was revoked here, or that nobody here
// knows, has none; what it signed takes the other key out of use, on our own word, and says nothing of what that did.
//
// A person's revocation holds before any roster tells of it, and a job writes that a moment later. Until then it is judged
// as though it were written, if its signer has a voice: no approval stays green, no key signs, because a job is late. So
// whoever writes down what follows from a judgement lets the roster follow first; see Behind.
type Judgement struct {
	// Roster says which keys stand, by the rule of every verifier. It is nil where nobody ever said anything of a key of
	// anybody in it: then all of them do.
	Roster *evidence.Roster
	// Behind are the people of whose keys Roster says something that is still to be written.
	Behind []string
}

// said is what somebody says of the keys of a workspace's people.
type said struct {
	accused []accusation
	told    bool // the roster tells of a key
}

// accusation is what a person signed of a key of theirs.
type accusation struct {
	CredentialID     []byte
	PersonID         string
	Act              []byte
	CompromisedSince time.Time
}

// queueSaid reads it.
func queueSaid(batch *pgx.Batch, workspace string, into *said) {
	// Those in a workspace alone are followed by the roster in the transaction that revokes.
	const here = `exists (select from signedapproval_roster_people p where p.person_id = c.person_id and p.workspace_id = $1)`
	batch.Queue(`select told, credential_id, person_id::text, act, compromised_since
		from (select exists (select from signedapproval_roster_versions where workspace_id = $1 and compromised) as told) roster
		left join (
			select id as credential_id, person_id, revocation as act, compromised_since from signedapproval_credentials c
			where compromised_since is not null and `+here+`
			union all select r.credential_id, c.person_id, r.act, r.compromised_since from signedapproval_key_reports r
				join signedapproval_credentials c on c.id = r.credential_id where r.workspace_id is null and `+here+`) accused on true
		order by credential_id, compromised_since desc`, workspace).Query(func(rows pgx.Rows) error {
		var key, act []byte
		var person *string // nil where nobody says anything
		var since *time.Time
		_, err := pgx.ForEachRow(rows, []any{&into.told, &key, &person, &act, &since}, func() error {
			if person != nil {
				into.accused = append(into.accused, accusation{key, *person, act, *since})
			}
			return nil
		})
		return err
	})
}

// Judgement reads what is said of the keys of the workspace's people.
func (tx *Tx) Judgement(ctx context.Context) (Judgement, error) {
	var s said
	batch := &pgx.Batch{}
	queueSaid(batch, tx.Workspace, &s)
	if err := tx.tx.batch(ctx, batch); err != nil {
		return Judgement{}, fmt.Errorf("store: accused keys: %w", err)
	}
	return tx.judgement(ctx, s)
}

// Given is what was decided about one commit of a pull request, with what is said, right after, of the keys of the
// workspace's people.
type Given struct {
	Decisions []Decision // as by [Tx.DecisionsOn]
	said      said
}

// Given reads what was decided about one commit of a pull request.
func (tx *Tx) Given(ctx context.Context, pullRequestID, headCommit string) (g Given, err error) {
	batch := &pgx.Batch{}
	batch.Queue(selectDecisions+`pull_request_id = $2 and head_commit = $3`+inChain, tx.Workspace, pullRequestID, headCommit).Query(every(&g.Decisions))
	queueSaid(batch, tx.Workspace, &g.said)
	if err := tx.tx.batch(ctx, batch); err != nil {
		return Given{}, fmt.Errorf("store: read what was decided: %w", err)
	}
	return g, nil
}

// JudgementOf is the [Judgement] of the moment at which g was read. It waits for the database only where anybody says anything.
func (tx *Tx) JudgementOf(ctx context.Context, g Given) (Judgement, error) {
	return tx.judgement(ctx, g.said)
}

func (tx *Tx) judgement(ctx context.Context, s said) (j Judgement, err error) {
	if len(s.accused) == 0 && !s.told {
		return j, nil
	}
	if j.Roster, err = tx.WholeRoster(ctx); err != nil {
		return j, err
	}
	since := map[string]time.Time{}
	for _, a := range s.accused { // of each key the earliest time last
		told, found := j.Roster.Key(a.CredentialID)
		if !found || !told.Worse(&a.CompromisedSince) {
			continue // it has said what it has to say
		}
		voice, err := tx.voice(ctx, j.Roster, told, a)
		if err != nil {
			return j, err
		}
		if voice {
			since[string(a.CredentialID)] = a.CompromisedSince
			j.Behind = append(j.Behind, a.PersonID)
		}
	}
	if len(since) > 0 {
		j.Roster = j.Roster.Supposing(since)
	}
	return j, nil
}

// voice reports whether the key that signed what is said of another one of the same person has a say in the workspace: the
// roster has it, or will by the time that it tells of the revocation, and nobody here took it out of use before. Of a key that
// the roster has revoked only a key says more that the roster has: what is never to be written must not be waited for.
func (tx *Tx) voice(ctx context.Context, roster *evidence.Roster, told evidence.RosterKey, a accusation) (bool, error) {
	var act evidence.SignedAct
	if err := json.Unmarshal(a.Act, &act); err != nil {
		return false, fmt.Errorf("store: revocation: %w", err)
	}
	signer := act.Assertion.CredentialID
	if key, found := roster.Key(signer); found || told.Removed != 0 {
		return found && key.Removed == 0, nil
	}
	keys, err := tx.Shared.Keys(ctx, a.PersonID)
	if err != nil {
		return false, err
	}
	return keys.Known(tx.Workspace, signer) && keys.Revocation(tx.Workspace, signer) == nil, nil
}
