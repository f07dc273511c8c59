package gate

import (
	"context"
	"fmt"
	"time"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/store"
)

// What becomes of decisions when somebody says that a key was in other hands is judged by the roster, with the very
// functions of the verifier: package evidence, standing.go. A workspace of whose keys nobody ever said so never reads
// its roster for that.

// dropFallen takes out of the roster, on our own word, the keys that do not stand any more. The caller holds the roster's
// lock.
func dropFallen(ctx context.Context, tx *store.Tx, w store.Workspace, now time.Time, newest store.RosterVersion) (store.RosterVersion, error) {
	roster, err := tx.WholeRoster(ctx)
	if err != nil {
		return newest, err
	}
	for _, key := range roster.LiveAt(roster.Versions()) {
		if roster.Stands(key) {
			continue
		}
		change := evidence.RosterChange{Event: evidence.KeyRemoved, Key: key.Key, By: evidence.ByOperator}
		if newest, err = nextRoster(ctx, tx, w, now, newest, change); err != nil {
			return newest, err
		}
	}
	return newest, nil
}

// onCompromised lists the open pull requests on which somebody decided with a key of a person that was in other hands, or
// with one that such a key signed for.
func onCompromised(ctx context.Context, tx *store.Tx, personID string) ([]store.Decided, error) {
	if compromised, err := tx.RosterCompromised(ctx); err != nil || !compromised {
		return nil, err
	}
	roster, err := tx.WholeRoster(ctx)
	if err != nil {
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

// decisionsOn are the decisions about one commit of a pull request, as a tally looks at them.
func decisionsOn(ctx context.Context, tx *store.Tx, pullRequestID, headCommit string) ([]store.Decision, error) {
	decisions, err := tx.DecisionsOn(ctx, pullRequestID, headCommit)
	if err != nil || len(decisions) == 0 {
		return nil, err
	}
	compromised, err := tx.RosterCompromised(ctx)
	if err != nil || !compromised {
		return decisions, err // what was signed and is not in the roster yet stands in them
	}
	roster, err := tx.WholeRoster(ctx)
	if err != nil {
		return nil, err
	}
	for i := range decisions {
		d := &decisions[i]
		statement, err := evidence.ParseStatement(d.Statement)
		if err != nil {
			return nil, fmt.Errorf("stored statement: %w", err)
		}
		key, found := roster.Key(d.CredentialID)
		version, shown := roster.VersionOf(statement.Roster)
		if !found || !shown {
			d.Compromised = true // no verifier would take it
			continue
		}
		// Until the roster has followed the revocation, it counts as it was signed; then only the roster counts.
		d.Compromised = d.Compromised && key.Removed == 0 || roster.Compromised(key, d.DecidedAt)
		d.Identity = string(roster.IdentityAt(key, version))
	}
	return decisions, nil
}
