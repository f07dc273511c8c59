package gate

import (
	"context"
	"encoding/json"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// maxOpenedChains bounds the pull requests whose chains one answer opens.
const maxOpenedChains = 500_000

// maxNumber is the largest number that JSON has exactly.
const maxNumber = 1<<53 - 1

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
		return nil, incomplete(err)
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

// readOpenings reads what opens a workspace's leaves. What somebody took out of the database, or made unreadable there, it
// leaves out, but for the genesis, without which nothing can be followed: whoever follows the log misses what a leaf names.
func readOpenings(ctx context.Context, tx *store.Tx, o *evidence.Openings) error {
	workspace, err := tx.ReadWorkspace(ctx)
	if err != nil {
		return err
	}
	genesis, err := tx.FindLeaf(ctx, workspace.GenesisLeaf)
	if err != nil {
		return gone("genesis leaf", err)
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
		policy := evidence.OpenedPolicy{Repository: bitbucket.BracedUUID(v.RepositoryID), Version: int64(v.Version), Policy: v.Document}
		if evidence.Opens(policy) {
			o.Policies = append(o.Policies, policy)
		}
	}
	chains, err := tx.Chains(ctx, maxOpenedChains+1)
	if err != nil {
		return err
	}
	if len(chains) > maxOpenedChains {
		return tooManyOpenings()
	}
	for _, c := range chains {
		if c.Number < 1 || c.Number > maxNumber {
			continue
		}
		o.Chains = append(o.Chains, evidence.OpenedChain{
			ID: evidence.Digest(c.ChainID), Repository: bitbucket.BracedUUID(c.RepositoryID), PullRequest: c.Number, Branch: c.DestinationBranch,
		})
	}
	return nil
}

// openRoster adds the whole roster with everything that it rests on. What somebody took out of the database, or made
// unreadable there, is missing in it, and is an alarm of whoever follows the log: they learn which version is not proved.
func openRoster(ctx context.Context, tx *store.Tx, o *evidence.Openings) error {
	documents, changes, err := openChanges(ctx, tx)
	if err != nil {
		return err
	}
	o.Roster = documents
	if o.RosterLeaf, err = newestRosterLeaf(ctx, tx); err != nil {
		return err
	}
	roster, err := evidence.ReplayRoster(evidence.LeafDigest(o.Genesis), nil)
	if err != nil {
		return err
	}
	_ = roster.Extend(changes) // as far as it goes: whoever follows the log sees better what is wrong with it
	var credentials [][]byte
	for _, k := range roster.Keys() {
		credentials = append(credentials, k.Key.CredentialID)
	}
	proofs := rosterProofs{tx: tx, people: map[string]store.Keys{}, gaps: true}
	enrolments, acts, err := proofs.of(ctx, roster, credentials)
	o.Enrolments, o.SignedActs = append(o.Enrolments, enrolments...), append(o.SignedActs, acts...)
	return err
}

// newestRosterLeaf is the index of the leaf of the newest version; nil where there is none on record.
func newestRosterLeaf(ctx context.Context, tx *store.Tx) (*int64, error) {
	newest, err := tx.NewestRoster(ctx)
	if err != nil {
		return nil, optional(err)
	}
	leaf, err := tx.FindLeaf(ctx, newest.LeafHash)
	if err != nil {
		return nil, optional(err)
	}
	return &leaf.Index, nil
}

// noChange stands in openings for a version of the roster that is not on record any more.
const noChange = `{}`

// openChanges reads all versions of the roster, each in its place, and those before the first that is not on record
// any more or cannot be read. Where more are missing in one place than a page has, it ends.
func openChanges(ctx context.Context, tx *store.Tx) (documents []json.RawMessage, changes []evidence.RosterChange, err error) {
	for whole := true; ; {
		page, err := tx.Roster(ctx, int64(len(documents)), rosterPage)
		if err != nil || len(page) == 0 {
			return documents, changes, err
		}
		for _, v := range page {
			if v.Version-int64(len(documents)) > rosterPage {
				return documents, changes, nil
			}
			for int64(len(documents)) < v.Version-1 {
				documents, whole = append(documents, json.RawMessage(noChange)), false
			}
			change, err := evidence.ParseRosterChange(v.Document)
			if err != nil {
				documents, whole = append(documents, json.RawMessage(noChange)), false
				continue
			}
			if documents = append(documents, v.Document); whole {
				changes = append(changes, change)
			}
		}
	}
}

// openProtections adds the protections, and the acts that they and policies rest on.
func openProtections(ctx context.Context, tx *store.Tx, o *evidence.Openings) error {
	protections, err := tx.Protections(ctx)
	if err != nil {
		return err
	}
	for _, p := range protections {
		var document evidence.ProtectionDocument
		if json.Unmarshal(p.Document, &document) == nil && evidence.Opens(document) {
			o.Protections = append(o.Protections, document)
		}
	}
	acts, err := tx.CountedActs(ctx)
	if err != nil {
		return err
	}
	for _, a := range acts {
		if signed, err := signedAct(a.Act); err == nil && evidence.Opens(signed) {
			o.SignedActs = append(o.SignedActs, signed)
		}
	}
	return nil
}
