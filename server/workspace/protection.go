package workspace

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// While a workspace is protected, its rules and the keys of its members change by signatures alone, but for everybody's
// own keys: what an administrator asks for becomes a proposal, and is applied in the transaction that takes the last signature which it needs. Sessions and API tokens
// propose; they never change anything.

// ProtectedError says that nothing was changed, and which proposal was made instead.
type ProtectedError struct {
	Proposal store.Proposal
	refusal  *refusal.Error
}

// Error is for the log.
func (e *ProtectedError) Error() string { return e.refusal.Error() }

// Unwrap gives the refusal, of code [CodeProtected].
func (e *ProtectedError) Unwrap() error { return e.refusal }

func protected(p store.Proposal) *ProtectedError {
	return &ProtectedError{Proposal: p, refusal: refusal.New(CodeProtected,
		"The rules of this workspace are protected: nothing was changed, and a proposal was made, which waits for signatures.")}
}

// protection reads the protection in force: of the zero quorum where there is none.
func protection(ctx context.Context, tx *store.Tx) (store.Protection, error) {
	p, err := tx.Protection(ctx)
	return p, ignoreNotFound(err)
}

// Protection reads by whose signatures the rules of a workspace can be changed, for its members: the zero value where it
// was never protected, a quorum of 0 where it is so no longer.
func (w *Workspaces) Protection(ctx context.Context, person store.Person, workspace string) (store.Protection, error) {
	if err := w.mustBelong(ctx, person, workspace); err != nil {
		return store.Protection{}, err
	}
	var p store.Protection
	err := w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) (err error) {
		p, err = protection(ctx, tx)
		return err
	})
	return p, err
}

// ProposeProtection proposes that the rules of a workspace can be changed by the signatures of quorum of the people, from
// when enough have signed this: those who can change the protection in force or, where there is none, the people named.
// Each of them must be a member with a passkey that decides in the workspace. A quorum of 0 and nobody switches the
// protection off. An open proposal of the same is answered again.
func (w *Workspaces) ProposeProtection(ctx context.Context, person store.Person, via, workspace string, quorum int, people []string) (store.Proposal, error) {
	if !store.ValidID(workspace) {
		return store.Proposal{}, notFound("workspace").At("workspaceId")
	}
	if err := w.mustAdminister(ctx, person, workspace); err != nil {
		return store.Proposal{}, err
	}
	people = slices.Compact(slices.Sorted(slices.Values(people)))
	switch {
	case len(people) > evidence.MaxProtectors:
		return store.Proposal{}, refusal.New(refusal.BadInput, "At most %d people can protect a workspace.", evidence.MaxProtectors).At("people")
	case quorum < 0, quorum > len(people), (quorum == 0) != (len(people) == 0):
		return store.Proposal{}, refusal.New(refusal.BadInput, "The quorum is 1 to the number of people; without people it is 0, which ends the protection.").At("quorum")
	}
	if err := w.canProtect(ctx, workspace, people); err != nil {
		return store.Proposal{}, err
	}
	var proposal store.Proposal
	err := w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		if err := tx.LockRules(ctx); err != nil {
			return err
		}
		force, err := protection(ctx, tx)
		if err != nil {
			return err
		}
		if force.Quorum == quorum && slices.Equal(force.People, people) {
			return refusal.New(refusal.BadInput, "That is how the workspace is protected already.").At("quorum")
		}
		document := nextProtection(force, quorum, people)
		proposal, err = propose(ctx, tx, force, store.Proposal{Kind: store.ProposalProtection, ProposedBy: person.ID, ProposedVia: via}, document)
		return err
	})
	if err == nil {
		w.log.InfoContext(ctx, "protection proposed", "workspace", workspace, "person", person.ID, "via", via, "proposal", proposal.ID)
	}
	return proposal, err
}

// ProposeKeyChange proposes what an administrator asked for about the key of a member, holder: to countersign it or to
// revoke it for the workspace. The caller has seen that it can be done. The error is a [ProtectedError] once the proposal
// is there, and an open one of the same is answered again.
func (w *Workspaces) ProposeKeyChange(ctx context.Context, workspace string, p store.Proposal, holder store.Person) error {
	var about document = &evidence.KeyDocument{}
	if p.Kind == store.ProposalRevoke {
		about = &evidence.RevocationDocument{}
	}
	if err := json.Unmarshal(p.Document, about); err != nil {
		return fmt.Errorf("document of a proposal: %w", err)
	}
	err := w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		if err := tx.LockRules(ctx); err != nil {
			return err
		}
		force, err := protection(ctx, tx)
		if err != nil {
			return err
		}
		asked, quorum, err := askedFor(force, p)
		switch {
		case err != nil:
			return err
		case quorum == 0:
			return refusal.New(CodeProposal, "The rules of this workspace are not protected any more. Please start again.")
		case len(asked) < quorum:
			return refusal.New(CodeTooFew, "%d people have to sign for that, and nobody can for a passkey of their own: besides %s, too few protect the rules of this workspace.", quorum, holder.Name)
		}
		p, err = propose(ctx, tx, force, p, about)
		return err
	})
	if err != nil {
		return err
	}
	w.log.InfoContext(ctx, "change of a member's passkey proposed", "workspace", workspace, "person", p.ProposedBy, "member", holder.ID, "proposal", p.ID)
	return protected(p)
}

// canProtect makes sure that each person is a member of the workspace and has a key that decides there.
func (w *Workspaces) canProtect(ctx context.Context, workspace string, people []string) error {
	nobody := func(i int) error {
		return refusal.New(refusal.NotFound, "There is no such member of the workspace.").At("people", fmt.Sprint(i))
	}
	for i, id := range people {
		if !store.ValidID(id) {
			return nobody(i)
		}
		var (
			member store.Person
			keys   store.Keys
		)
		err := w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) (err error) {
			if member, err = tx.Person(ctx, id); err == nil {
				keys, err = tx.Keys(ctx, id)
			}
			return err
		})
		if errors.Is(err, store.ErrNotFound) {
			return nobody(i)
		}
		if err != nil {
			return err
		}
		role, err := w.Role(ctx, member, workspace, false)
		switch {
		case err != nil:
			return err
		case role == store.RoleNone:
			return nobody(i)
		case len(keys.Counting(workspace)) == 0:
			return refusal.New(CodeNoKey, "%s has no passkey that decides in this workspace, and could sign nothing.", member.Name).At("people", fmt.Sprint(i))
		}
	}
	return nil
}

// nextProtection is the document of the protection after the one in force.
func nextProtection(force store.Protection, quorum int, people []string) evidence.ProtectionDocument {
	return evidence.ProtectionDocument{
		Version: force.Version + 1, Previous: evidence.Digest(force.Digest), Quorum: quorum, People: append([]string{}, people...),
	}
}

// nextPolicy is the document by which a policy, or none where digest is "", takes the place of the one in force.
func nextPolicy(ctx context.Context, tx *store.Tx, repositoryID, digest string) (d evidence.PolicyDocument, err error) {
	d = evidence.PolicyDocument{Repository: bitbucket.BracedUUID(repositoryID), Policy: evidence.Digest(digest)}
	newest, err := tx.NewestPolicyVersion(ctx, repositoryID)
	if ignoreNotFound(err) != nil {
		return d, err
	}
	d.Version = int64(newest.Version)
	if digest != newest.Digest {
		d.Version++
	}
	config, err := tx.RepositoryConfig(ctx, repositoryID)
	if errors.Is(err, store.ErrNotFound) {
		return d, nil
	}
	if err != nil {
		return d, err
	}
	force, err := tx.PolicyVersion(ctx, config.PolicyVersionID)
	d.Previous = evidence.Digest(force.Digest)
	return d, err
}
