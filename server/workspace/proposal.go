package workspace

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"

	"github.com/gowebpki/jcs"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// maxOpenProposals is how many proposals of one person can wait in a workspace at the same time. Others have their own: whoever may
// change the rules of one repository keeps nobody from revoking a stolen key.
const maxOpenProposals = 20

// Proposal is a proposal with everything that a screen shows of it.
type Proposal struct {
	store.Proposal
	WorkspaceID string
	// Before is the policy that it takes the place of, RFC 8785; nil without one, and where it is about the protection.
	Before []byte
	// Protection is the protection that it takes the place of, of the zero value without one, and Next the one to be; both
	// only where it is about the protection.
	Protection store.Protection
	Next       evidence.ProtectionDocument
	// Key is what is countersigned, and Revocation what is revoked, each nil unless it is about that; Holder is our id of
	// whose key it is, "" unless it is about one.
	Key        *evidence.KeyDocument
	Revocation *evidence.RevocationDocument
	Holder     string
	// CanWithdraw tells whether it is open and the viewer may take it back.
	CanWithdraw bool
	// Asked are our ids of those who can sign it, and Quorum how many of them have to; only while it is open.
	Asked  []string
	Quorum int
	// Acts are what was signed, oldest first.
	Acts []ProposalAct
}

// ProposalAct is what one person signed for a proposal.
type ProposalAct struct {
	store.ProposalAct
	// Counts tells whether it counts now or, where the proposal was applied, whether it counted then.
	Counts bool
}

// document is what a proposal is about.
type document interface {
	Digest() (evidence.Digest, error)
}

// canonical is the RFC 8785 form, in which documents and what was signed are kept: the digests in the log are of it.
func canonical(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return jcs.Transform(data)
}

// askedFor tells whose signatures a proposal needs: those of the protection in force or, where there is none, of the one
// that is to be. Nobody signs for a key of their own.
func askedFor(force store.Protection, p store.Proposal) (people []string, quorum int, err error) {
	if force.Quorum > 0 && p.AboutKey() {
		holder, err := holderOf(p)
		return slices.DeleteFunc(slices.Clone(force.People), func(id string) bool { return id == holder }), force.Quorum, err
	}
	if force.Quorum > 0 {
		return force.People, force.Quorum, nil
	}
	if p.Kind != store.ProposalProtection {
		return nil, 0, nil
	}
	var next evidence.ProtectionDocument
	err = json.Unmarshal(p.Document, &next)
	return next.People, next.Quorum, err
}

// holderOf is our id of whose key a proposal is about.
func holderOf(p store.Proposal) (string, error) {
	var v Proposal
	v.Proposal = p
	err := v.read()
	return v.Holder, err
}

// read fills in what the document says.
func (v *Proposal) read() (err error) {
	switch v.Kind {
	case store.ProposalProtection:
		err = json.Unmarshal(v.Document, &v.Next)
	case store.ProposalCountersign:
		if err = json.Unmarshal(v.Document, &v.Key); err == nil {
			v.Holder = v.Key.Key.Person
		}
	case store.ProposalRevoke:
		if err = json.Unmarshal(v.Document, &v.Revocation); err == nil {
			v.Holder = v.Revocation.Person
		}
	}
	if err != nil {
		return fmt.Errorf("document of proposal %s: %w", v.ID, err)
	}
	return nil
}

// about is of an act by which somebody agrees to the proposal what does not depend on who that is: its purpose, workspace
// and document.
func (v *Proposal) about() (evidence.Act, error) {
	a := evidence.Act{Purpose: evidence.Protect, Workspace: bitbucket.BracedUUID(v.WorkspaceID)}
	switch v.Kind {
	case store.ProposalProtection:
		a.Protection = &v.Next
	case store.ProposalCountersign:
		a.Purpose, a.Key = evidence.Countersign, v.Key
	case store.ProposalRevoke:
		a.Purpose, a.Revocation = evidence.Revoke, v.Revocation
	default:
		a.Purpose, a.Policy = evidence.SetPolicy, new(evidence.PolicyDocument)
		if err := json.Unmarshal(v.Document, a.Policy); err != nil {
			return a, fmt.Errorf("document of proposal %s: %w", v.ID, err)
		}
	}
	digest, err := a.DocumentDigest()
	if err == nil && string(digest) != v.Digest {
		err = errors.New("it has another digest")
	}
	if err != nil {
		return a, fmt.Errorf("document of proposal %s: %w", v.ID, err)
	}
	return a, nil
}

// over makes sure that a stored act is of its person and over what a proposal is about: whoever writes to the database
// could have put it there.
func over(about evidence.Act, stored store.ProposalAct) error {
	var signed evidence.SignedAct
	if err := json.Unmarshal(stored.Act, &signed); err != nil {
		return err
	}
	act, err := evidence.ParseAct(signed.Act)
	if err != nil {
		return err
	}
	is, wrong := act.DocumentDigest()
	must, unread := about.DocumentDigest()
	if err := errors.Join(wrong, unread); err != nil {
		return err
	}
	if act.Purpose != about.Purpose || act.Workspace != about.Workspace || is != must || act.Signer.Person != stored.PersonID || hexSHA256(stored.Act) != stored.Digest {
		return errors.New("it is about something else")
	}
	return nil
}

// propose stores a proposal and tells those who are asked to sign it. One that is open already is answered instead. The
// caller holds the lock of the rules.
func propose(ctx context.Context, tx *store.Tx, force store.Protection, p store.Proposal, about document) (store.Proposal, error) {
	digest, err := about.Digest()
	if err != nil {
		return store.Proposal{}, fmt.Errorf("document of a proposal: %w", err)
	}
	if p.Document, err = canonical(about); err != nil {
		return store.Proposal{}, err
	}
	p.Digest = string(digest)
	open, err := tx.OpenProposals(ctx)
	if err != nil {
		return store.Proposal{}, err
	}
	if i := slices.IndexFunc(open, func(o store.Proposal) bool { return o.Kind == p.Kind && o.Digest == p.Digest }); i >= 0 {
		return open[i], nil
	}
	own := slices.DeleteFunc(open, func(o store.Proposal) bool { return o.ProposedBy != p.ProposedBy })
	if len(own) >= maxOpenProposals {
		return store.Proposal{}, refusal.New(CodeLimit, "%d proposals of yours wait for signatures already. Withdraw some of them first.", len(own))
	}
	if p, err = tx.InsertProposal(ctx, p); err != nil {
		return store.Proposal{}, err
	}
	return p, tellAsked(ctx, tx, force, p)
}

// noticeKey is by which a notice about a proposal is found.
func noticeKey(proposal, person string) string { return "proposal:" + proposal + ":" + person }

func tellAsked(ctx context.Context, tx *store.Tx, force store.Protection, p store.Proposal) error {
	people, _, err := askedFor(force, p)
	if err != nil {
		return err
	}
	workspace, err := tx.ReadWorkspace(ctx)
	if err != nil {
		return err
	}
	proposer, err := tx.Person(ctx, p.ProposedBy)
	if err != nil {
		return err
	}
	what := "other people to protect the rules of " + workspace.Name
	if p.Kind == store.ProposalPolicy {
		what = "other rules for " + p.FullName
	}
	if p.AboutKey() {
		id, err := holderOf(p)
		if err != nil {
			return err
		}
		holder, err := tx.Person(ctx, id)
		if err != nil {
			return err
		}
		if what = fmt.Sprintf("to countersign that “%s” is a passkey of %s", p.Name, holder.Name); p.Kind == store.ProposalRevoke {
			what = fmt.Sprintf("to revoke “%s”, a passkey of %s, for %s", p.Name, holder.Name, workspace.Name)
		}
	}
	for _, id := range people {
		err := tx.AddNotice(ctx, store.Notice{
			PersonID: id, WorkspaceID: workspace.ID, Kind: "PROPOSAL", DedupeKey: noticeKey(p.ID, id),
			Title:    "Your signature is asked for",
			Sentence: fmt.Sprintf("%s proposes %s. Look at what would change, then sign it, or leave it.", proposer.Name, what),
			Path:     "/settings/protection?workspace=" + url.QueryEscape(workspace.Slug) + "&proposal=" + p.ID,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Proposals lists the proposals of a workspace, newest first, with open only those that can still be signed. Its
// administrators and those who protect it see all of them, other members those that they made or are asked to sign, or that
// are about a passkey of theirs.
func (w *Workspaces) Proposals(ctx context.Context, person store.Person, workspace string, open bool, page store.Page) ([]Proposal, bool, error) {
	role, err := w.Role(ctx, person, workspace, false)
	switch {
	case err != nil:
		return nil, false, err
	case role == store.RoleNone:
		return nil, false, notFound("workspace")
	}
	var (
		views []Proposal
		more  bool
	)
	err = w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		force, err := protection(ctx, tx)
		if err != nil {
			return err
		}
		only := person.ID
		if role == store.RoleAdmin || slices.Contains(force.People, person.ID) {
			only = ""
		}
		var rows []store.Proposal
		if rows, more, err = tx.Proposals(ctx, only, open, page); err != nil {
			return err
		}
		views, err = viewProposals(ctx, tx, force, rows)
		return err
	})
	for i := range views {
		views[i].withdrawable(person, role)
	}
	return views, more, err
}

// withdrawable notes whether a person can take the proposal back.
func (v *Proposal) withdrawable(person store.Person, role store.Role) {
	v.CanWithdraw = v.State == store.ProposalOpen && (role == store.RoleAdmin || v.ProposedBy == person.ID)
}

// Proposal reads one proposal for those who see it in the list.
func (w *Workspaces) Proposal(ctx context.Context, person store.Person, workspace, id string) (Proposal, error) {
	if !store.ValidID(id) {
		return Proposal{}, notFound("proposal")
	}
	role, err := w.Role(ctx, person, workspace, false)
	switch {
	case err != nil:
		return Proposal{}, err
	case role == store.RoleNone:
		return Proposal{}, notFound("proposal")
	}
	var view Proposal
	err = w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) (err error) {
		view, err = viewProposal(ctx, tx, id)
		return err
	})
	if err != nil {
		return Proposal{}, found(err, "proposal")
	}
	view.withdrawable(person, role)
	if role != store.RoleAdmin && view.ProposedBy != person.ID && view.Holder != person.ID && !slices.Contains(view.Asked, person.ID) && !slices.Contains(view.Next.People, person.ID) {
		force, err := w.Protection(ctx, person, workspace)
		if err != nil {
			return Proposal{}, err
		}
		if !slices.Contains(force.People, person.ID) {
			return Proposal{}, notFound("proposal")
		}
	}
	return view, nil
}

func viewProposal(ctx context.Context, tx *store.Tx, id string) (Proposal, error) {
	row, err := tx.Proposal(ctx, id)
	if err != nil {
		return Proposal{}, err
	}
	force, err := protection(ctx, tx)
	if err != nil {
		return Proposal{}, err
	}
	views, err := viewProposals(ctx, tx, force, []store.Proposal{row})
	if err != nil {
		return Proposal{}, err
	}
	return views[0], nil
}

// viewProposals reads what the proposals of a list need besides, for all of them at once.
func viewProposals(ctx context.Context, tx *store.Tx, force store.Protection, rows []store.Proposal) ([]Proposal, error) {
	views := make([]Proposal, len(rows))
	ids, replaced := make([]string, len(rows)), make([]string, len(rows))
	protects := false
	for i, row := range rows {
		views[i] = Proposal{Proposal: row, WorkspaceID: tx.Workspace}
		ids[i] = row.ID
		if err := views[i].read(); err != nil {
			return nil, err
		}
		switch row.Kind {
		case store.ProposalProtection:
			protects, replaced[i] = true, string(views[i].Next.Previous)
		case store.ProposalPolicy:
			var policy evidence.PolicyDocument
			if err := json.Unmarshal(row.Document, &policy); err != nil {
				return nil, fmt.Errorf("document of proposal %s: %w", row.ID, err)
			}
			replaced[i] = string(policy.Previous)
		}
	}
	policies, err := tx.PoliciesByDigest(ctx, replaced)
	if err != nil {
		return nil, err
	}
	var protections []store.Protection
	if protects {
		if protections, err = tx.Protections(ctx); err != nil {
			return nil, err
		}
	}
	acts, err := tx.ProposalActs(ctx, ids...)
	if err != nil {
		return nil, err
	}
	live, err := tx.LiveKeys(ctx, keyDigests(acts))
	if err != nil {
		return nil, err
	}
	for i := range views {
		v := &views[i]
		if v.Kind == store.ProposalPolicy {
			v.Before = policies[replaced[i]]
		}
		if at := slices.IndexFunc(protections, func(p store.Protection) bool { return p.Digest == replaced[i] }); at >= 0 {
			v.Protection = protections[at]
		}
		if v.State == store.ProposalOpen {
			if v.Asked, v.Quorum, err = askedFor(force, v.Proposal); err != nil {
				return nil, err
			}
		}
		for _, a := range acts {
			if a.ProposalID != v.ID {
				continue
			}
			counts := a.Counted
			if v.State == store.ProposalOpen && slices.Contains(v.Asked, a.PersonID) && live[a.KeyDigest] {
				about, err := v.about()
				if err != nil {
					return nil, err
				}
				counts = over(about, a) == nil
			}
			v.Acts = append(v.Acts, ProposalAct{a, counts})
		}
	}
	return views, nil
}

func keyDigests(acts []store.ProposalAct) []string {
	digests := make([]string, len(acts))
	for i, a := range acts {
		digests[i] = a.KeyDigest
	}
	return digests
}

// WithdrawProposal ends a proposal that is open; for who made it and for administrators of the workspace. It is no change
// of a rule, and needs no signature.
func (w *Workspaces) WithdrawProposal(ctx context.Context, person store.Person, workspace, id string) (Proposal, error) {
	view, err := w.Proposal(ctx, person, workspace, id)
	if err != nil {
		return Proposal{}, err
	}
	role, err := w.Role(ctx, person, workspace, true)
	switch {
	case err != nil:
		return Proposal{}, err
	case role != store.RoleAdmin && view.ProposedBy != person.ID:
		return Proposal{}, refusal.New(refusal.Forbidden, "Only who made a proposal, or an administrator of the workspace, can withdraw it.")
	}
	err = w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		if err := tx.LockRules(ctx); err != nil {
			return err
		}
		if view, err = viewProposal(ctx, tx, id); err != nil {
			return err
		}
		if err := mustBeOpen(view.Proposal); err != nil {
			return err
		}
		asked := view.Asked
		if _, err := tx.CloseProposal(ctx, id, store.ProposalWithdrawn); err != nil {
			return err
		}
		if err := forgetNotices(ctx, tx, id, asked...); err != nil {
			return err
		}
		view, err = viewProposal(ctx, tx, id)
		return err
	})
	if err != nil {
		return Proposal{}, found(err, "proposal")
	}
	w.log.InfoContext(ctx, "proposal withdrawn", "workspace", workspace, "person", person.ID, "proposal", id)
	return view, nil
}

// forgetNotices marks the notices of people about a proposal as read: nothing is asked of them any more.
func forgetNotices(ctx context.Context, tx *store.Tx, proposal string, people ...string) error {
	keys := make([]string, len(people))
	for i, id := range people {
		keys[i] = noticeKey(proposal, id)
	}
	return tx.ReadNoticesKeyed(ctx, keys)
}

// mustBeOpen refuses a proposal that can be neither signed nor withdrawn.
func mustBeOpen(p store.Proposal) error {
	why := map[string]string{
		store.ProposalApplied: "it was applied already", store.ProposalWithdrawn: "it was withdrawn", store.ProposalExpired: "it has expired",
		store.ProposalOutdated: "what it was to change has changed meanwhile",
	}[p.State]
	if why == "" {
		return nil
	}
	return refusal.New(CodeProposal, "This proposal is not open any more: %s.", why)
}

// overtaken tells whether what an open proposal takes the place of is not in force any more.
func overtaken(ctx context.Context, tx *store.Tx, force store.Protection, p store.Proposal) (bool, error) {
	var now document
	switch p.Kind {
	case store.ProposalPolicy:
		policy := ""
		if p.Policy != nil {
			policy = hexSHA256(p.Policy)
		}
		next, err := nextPolicy(ctx, tx, *p.RepositoryID, policy)
		if err != nil {
			return false, err
		}
		now = next
	case store.ProposalProtection:
		var next evidence.ProtectionDocument
		if err := json.Unmarshal(p.Document, &next); err != nil {
			return false, err
		}
		now = nextProtection(force, next.Quorum, next.People)
	case store.ProposalCountersign, store.ProposalRevoke:
		key, err := tx.Credential(ctx, p.CredentialID)
		if errors.Is(err, store.ErrNotFound) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		keys, err := tx.Keys(ctx, key.PersonID)
		if err != nil {
			return false, err
		}
		if p.Kind == store.ProposalRevoke {
			var said evidence.RevocationDocument
			err := json.Unmarshal(p.Document, &said)
			return !keys.Revocable(tx.Workspace, key, said.CompromisedSince), err
		}
		return !keys.Countersignable(tx.Workspace, key), err
	default:
		return false, errors.New("proposal of kind " + p.Kind)
	}
	digest, err := now.Digest()
	return string(digest) != p.Digest, err
}
