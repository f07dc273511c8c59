package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// maxOpenedChains bounds the pull requests whose chains one answer opens.
const maxOpenedChains = 500_000

// Openings open the leaves of a workspace for whoever follows the log on its behalf: they name every
// repository, pull request and policy, and everybody whose key is in the roster. So they are for
// administrators of the workspace alone.
func (g *Gate) Openings(ctx context.Context, person store.Person, workspace string) ([]byte, error) {
	role, err := g.Role(ctx, person, workspace, true)
	switch {
	case err != nil:
		return nil, err
	case role == store.RoleNone:
		return nil, refusal.New(refusal.NotFound, "There is no such workspace, or you may not see it.")
	case role != store.RoleAdmin:
		return nil, refusal.New(refusal.Forbidden, "Only an administrator of the workspace can follow its log.")
	}
	o := evidence.Openings{Workspace: bitbucket.BracedUUID(workspace)}
	if err := g.Store.InWorkspace(ctx, workspace, func(tx *store.Tx) error { return readOpenings(ctx, tx, &o) }); err != nil {
		return nil, err
	}
	data, err := o.Encode()
	if evidence.CodeOf(err) == evidence.CodeTooLarge {
		return nil, tooManyOpenings()
	}
	return data, err
}

func tooManyOpenings() error {
	return refusal.New(CodeTooLong, "The workspace has more history than one file of openings can hold.")
}

func readOpenings(ctx context.Context, tx *store.Tx, o *evidence.Openings) error {
	workspace, err := tx.ReadWorkspace(ctx)
	if err != nil {
		return err
	}
	genesis, err := tx.FindLeaf(ctx, workspace.GenesisLeaf)
	if err != nil {
		return fmt.Errorf("genesis leaf: %w", err)
	}
	o.Salt, o.Genesis = workspace.GenesisSalt, genesis.Entry
	if err := openRoster(ctx, tx, o); err != nil {
		return err
	}
	if err := openProtections(ctx, tx, o); err != nil {
		return err
	}
	versions, err := tx.AllPolicyVersions(ctx)
	if err != nil {
		return err
	}
	for _, v := range versions {
		o.Policies = append(o.Policies, evidence.OpenedPolicy{Repository: bitbucket.BracedUUID(v.RepositoryID), Version: int64(v.Version), Policy: v.Document})
	}
	chains, err := tx.Chains(ctx, maxOpenedChains+1)
	if err != nil {
		return err
	}
	if len(chains) > maxOpenedChains {
		return tooManyOpenings()
	}
	for _, c := range chains {
		o.Chains = append(o.Chains, evidence.OpenedChain{ID: evidence.Digest(c.ChainID), Repository: bitbucket.BracedUUID(c.RepositoryID), PullRequest: c.Number})
	}
	return nil
}

// openRoster adds the whole roster with everything that it rests on. What somebody took out of the database is
// missing in it, and is an alarm of whoever follows the log: they learn which version is not proved.
func openRoster(ctx context.Context, tx *store.Tx, o *evidence.Openings) error {
	newest, err := tx.NewestRoster(ctx)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	documents, changes, err := readRoster(ctx, tx, newest.Version)
	if err != nil {
		return err
	}
	o.Roster = documents
	roster, err := evidence.ReplayRoster(evidence.LeafDigest(o.Genesis), changes)
	if err != nil { // whoever follows the log sees better what is wrong with it than that there is none
		return nil //nolint:nilerr // it is theirs to judge
	}
	var credentials [][]byte
	for _, k := range roster.Keys() {
		credentials = append(credentials, k.Key.CredentialID)
	}
	proofs := rosterProofs{tx: tx, people: map[string]store.Keys{}, gaps: true}
	enrolments, acts, err := proofs.of(ctx, roster, credentials)
	o.Enrolments, o.SignedActs = append(o.Enrolments, enrolments...), append(o.SignedActs, acts...)
	return err
}

// openProtections adds the protections, and the acts that they and policies rest on.
func openProtections(ctx context.Context, tx *store.Tx, o *evidence.Openings) error {
	protections, err := tx.Protections(ctx)
	if err != nil {
		return err
	}
	for _, p := range protections {
		var document evidence.ProtectionDocument
		if err := json.Unmarshal(p.Document, &document); err != nil {
			return fmt.Errorf("protection %d: %w", p.Version, err)
		}
		o.Protections = append(o.Protections, document)
	}
	acts, err := tx.CountedActs(ctx)
	if err != nil {
		return err
	}
	for _, a := range acts {
		signed, err := signedAct(a.Act)
		if err != nil {
			return fmt.Errorf("act of proposal %s: %w", a.ProposalID, err)
		}
		o.SignedActs = append(o.SignedActs, signed)
	}
	return nil
}
