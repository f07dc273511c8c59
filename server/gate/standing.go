package gate

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/store"
)

// What becomes of decisions when somebody says that a key was in other hands is judged by the roster, with the very
// functions of the verifier: package evidence, standing.go. What it judges by is a [store.Judgement].

// dropFallen takes out of the roster, on our own word, the keys that do not stand any more. The caller holds the roster's
// lock.
func dropFallen(ctx context.Context, tx *store.Tx, w store.Workspace, now time.Time, newest store.RosterVersion) (store.RosterVersion, error) {
	roster, err := tx.WholeRoster(ctx)
	if err != nil {
		return newest, err
	}
	var fallen [][]byte
	for _, key := range roster.LiveAt(roster.Versions()) {
		if roster.Stands(key) {
			continue
		}
		change := evidence.RosterChange{Event: evidence.KeyRemoved, Key: key.Key, By: evidence.ByOperator}
		if newest, err = nextRoster(ctx, tx, w, now, newest, change); err != nil {
			return newest, err
		}
		fallen = append(fallen, key.Key.CredentialID)
	}
	return newest, tellFallen(ctx, tx, w, fallen)
}

// tellFallen tells the owners of keys that fell in a workspace. Their page of passkeys says with which key and on whose word.
func tellFallen(ctx context.Context, tx *store.Tx, w store.Workspace, credentials [][]byte) error {
	if len(credentials) == 0 {
		return nil
	}
	keys, err := tx.CredentialsByID(ctx, credentials)
	if err != nil {
		return err
	}
	notices := make([]store.Notice, len(keys))
	for i, key := range keys {
		notices[i] = store.Notice{
			PersonID: key.PersonID, WorkspaceID: w.ID, Kind: "KEY_FALLEN",
			DedupeKey: "key-fallen:" + w.ID + ":" + base64.RawURLEncoding.EncodeToString(key.ID),
			Title:     "A passkey of yours counts no longer in a workspace",
			Sentence: fmt.Sprintf("“%s” counts no longer in %s, and nothing that it signed there does: a passkey that signed for it may have been in other hands by then. Your page of passkeys says which, and who said so.",
				key.Name, w.Name),
			Path: "/settings/passkeys",
		}
	}
	return tx.AddNotice(ctx, notices...)
}

// onCompromised lists the open pull requests on which somebody decided with a key of a person that was in other hands, or
// with one that such a key signed for.
func onCompromised(ctx context.Context, tx *store.Tx, personID string) ([]store.Decided, error) {
	judgement, err := tx.Judgement(ctx)
	roster := judgement.Roster
	if err != nil || roster == nil {
		return nil, err
	}
	var credentials [][]byte
	for _, key := range roster.Keys() {
		if key.Key.Person != personID || key.CompromisedSince == nil {
			continue
		}
		for _, resting := range roster.RestingOn(key.Digest) {
			credentials = append(credentials, resting.Key.CredentialID)
		}
	}
	return tx.DecidedWith(ctx, credentials)
}

// judgeGiven gives decisions about one commit of a pull request as a tally looks at them. behind are the people of whose keys
// something is not in the roster yet: what is only looked at, or refused, may rest on it, but no verdict that goes on record, since
// no verifier could reach it.
func judgeGiven(ctx context.Context, tx *store.Tx, given store.Given) (decisions []store.Decision, behind []string, err error) {
	if len(given.Decisions) == 0 {
		return nil, nil, nil
	}
	judgement, err := tx.JudgementOf(ctx, given)
	if err == nil {
		behind, err = judgeBy(judgement, given.Decisions)
	}
	return given.Decisions, behind, err
}

// judge fills in what the workspace makes of the keys of decisions, with as many statements for many as for one. It is for what
// goes on no record: see judgeGiven.
func judge(ctx context.Context, tx *store.Tx, decisions []store.Decision) error {
	if len(decisions) == 0 {
		return nil
	}
	judgement, err := tx.Judgement(ctx)
	if err == nil {
		_, err = judgeBy(judgement, decisions)
	}
	return err
}

func judgeBy(judgement store.Judgement, decisions []store.Decision) (behind []string, err error) {
	roster := judgement.Roster
	if roster == nil {
		return nil, nil // what was signed stands in them
	}
	for i := range decisions {
		d := &decisions[i]
		statement, err := evidence.ParseStatement(d.Statement)
		if err != nil {
			return nil, lost("stored statement", err)
		}
		key, found := roster.Key(d.CredentialID)
		version, shown := roster.VersionOf(statement.Roster)
		if !found || !shown {
			d.Compromised = true // no verifier would take it
			continue
		}
		d.Compromised, d.Identity = roster.Compromised(key, d.DecidedAt), string(roster.IdentityAt(key, version))
	}
	return judgement.Behind, nil
}

// rosterBehind ends a transaction that would write down a verdict before the roster tells of what it rests on. It names
// the people whose keys the roster has to follow. That takes a transaction of its own: it locks people, and this one
// holds a pull request, for which somebody may be waiting who holds one of their keys.
type rosterBehind []string

func (b rosterBehind) Error() string {
	return "the roster does not tell yet of everything that was signed"
}

// following runs a transaction that writes down a verdict, and again after the roster followed where it was behind.
func (g *Gate) following(ctx context.Context, workspace string, write func(*store.Tx) error) error {
	for {
		err := g.Store.InWorkspace(ctx, workspace, write)
		var behind rosterBehind
		if !errors.As(err, &behind) {
			return err
		}
		if err := g.follow(ctx, workspace, behind); err != nil {
			return err
		}
	}
}

// follow lets the workspace's roster follow the keys of several people.
func (g *Gate) follow(ctx context.Context, workspace string, people []string) error {
	for _, person := range people {
		if _, err := g.SyncRoster(ctx, workspace, person); err != nil {
			return err
		}
	}
	return nil
}
