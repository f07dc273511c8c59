package workspace

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/passkey"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// The server makes an act about the proposal's document and keeps it with its hash, which is the challenge; a key signs it;
// one transaction verifies the assertion over the kept bytes, stores both and, when enough have signed, applies the
// proposal with its leaf. A challenge is consumed before anything else and stays so, whatever comes of it.

// signingLife is how long an authenticator's answer is waited for.
const signingLife = 5 * time.Minute

// Signing is what an authenticator is asked to sign about a proposal.
type Signing struct {
	Statement []byte // the very bytes of the act; their SHA-256 is the challenge
	Options   []byte // PublicKeyCredentialRequestOptions, JSON
	// SignerSalt opens the act's commitment to its signer, for the signer's own page alone.
	SignerSalt []byte
	ExpiresAt  time.Time
}

// signature is what a PROPOSAL challenge keeps until the assertion comes.
type signature struct {
	Proposal string                 `json:"proposal"`
	Act      []byte                 `json:"act"`
	Opening  evidence.PersonOpening `json:"opening"`
}

// PrepareSignature makes the act by which the person agrees to a proposal; see SignProposal.
func (w *Workspaces) PrepareSignature(ctx context.Context, person store.Person, sessionHash []byte, workspace, id string) (Signing, error) {
	view, err := w.Proposal(ctx, person, workspace, id)
	if err != nil {
		return Signing{}, err
	}
	if err := mustBeAsked(view, person); err != nil {
		return Signing{}, err
	}
	roster, err := w.Roster(ctx, person, workspace)
	if err != nil {
		return Signing{}, err
	}
	var signing Signing
	err = w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		// Again: what they signed before may count no more, now that the roster has followed.
		if view, err = viewProposal(ctx, tx, id); err != nil {
			return err
		}
		if err := maySign(view, person); err != nil {
			return err
		}
		mine, err := tx.Keys(ctx, person.ID)
		if err != nil {
			return err
		}
		keys := mine.Counting(workspace)
		if len(keys) == 0 {
			return noKey()
		}
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		s := signature{Proposal: id}
		if s.Act, s.Opening, err = w.act(person, view, roster, now); err != nil {
			return err
		}
		signing, err = w.ask(ctx, tx, person, sessionHash, s, keys)
		return err
	})
	return signing, err
}

func noKey() error {
	return refusal.New(CodeNoKey, "This is signed with a passkey, and you have none that decides in this workspace.")
}

// mustBeAsked refuses a proposal that is not open, and who is not asked to sign it.
func mustBeAsked(view Proposal, person store.Person) error {
	if err := mustBeOpen(view.Proposal); err != nil {
		return err
	}
	if !slices.Contains(view.Asked, person.ID) {
		return refusal.New(CodeNotAsked, "Your signature is not asked for: this is signed by the people who protect the workspace.")
	}
	return nil
}

// maySign refuses who cannot sign a proposal as it is.
func maySign(view Proposal, person store.Person) error {
	if err := mustBeAsked(view, person); err != nil {
		return err
	}
	if slices.ContainsFunc(view.Acts, func(a ProposalAct) bool { return a.PersonID == person.ID && a.Counts }) {
		return refusal.New(CodeSigned, "You have signed this already. It counts once, with whichever of your passkeys.")
	}
	return nil
}

// act makes the bytes by which the person agrees to a proposal, and what opens their commitment.
func (w *Workspaces) act(person store.Person, view Proposal, roster evidence.Digest, now time.Time) ([]byte, evidence.PersonOpening, error) {
	opening := evidence.PersonOpening{Salt: random(evidence.SaltSize), AccountID: person.AccountID, Name: person.Name}
	commitment, err := opening.Commitment()
	if err != nil {
		return nil, opening, err
	}
	a, err := view.about()
	if err != nil {
		return nil, opening, err
	}
	rp := w.passkeys.RelyingParty()
	a.RPID, a.Origin, a.LogOrigin = rp.ID, rp.Origin, w.logOrigin
	a.Signer, a.Roster, a.Nonce = evidence.Party{Person: person.ID, Commitment: commitment}, roster, random(16)
	a.IssuedAt, a.ExpiresAt = now.UTC().Truncate(time.Second), view.ExpiresAt.UTC().Truncate(time.Second).Add(time.Second)
	a.Meaning = evidence.ActMeaning(a)
	data, err := a.Canonical()
	if err != nil {
		err = fmt.Errorf("act %s: %w", a.Purpose, err)
	}
	return data, opening, err
}

// ask keeps an act and answers what the authenticator needs to sign it with one of the keys.
func (w *Workspaces) ask(ctx context.Context, tx *store.Tx, person store.Person, sessionHash []byte, s signature, keys []store.Credential) (Signing, error) {
	data, err := json.Marshal(s)
	if err != nil {
		return Signing{}, err
	}
	kept := store.Challenge{
		Challenge: evidence.Challenge(s.Act), Kind: store.ChallengeProposal, PersonID: person.ID, SessionHash: sessionHash,
		WorkspaceID: &tx.Workspace, Data: data,
	}
	expires, err := tx.InsertChallenge(ctx, kept, signingLife)
	if err != nil {
		return Signing{}, err
	}
	allow := make([]passkey.Credential, len(keys))
	for i, key := range keys {
		allow[i] = passkey.Credential{ID: key.ID, Transports: key.Transports}
	}
	options, err := w.passkeys.AssertionOptions(kept.Challenge, allow, signingLife)
	return Signing{Statement: s.Act, Options: options, SignerSalt: s.Opening.Salt, ExpiresAt: expires}, err
}

// SignProposal takes an authenticator's answer to PrepareSignature: an AuthenticationResponseJSON. When it is the last
// signature that was needed, the change is made in the same transaction. It answers the proposal as it is then and, of a
// repository that is gated no longer, what is left to a person, a sentence each.
func (w *Workspaces) SignProposal(ctx context.Context, person store.Person, sessionHash []byte, response string) (Proposal, []string, error) {
	s, workspace, assertion, err := w.answered(ctx, person, sessionHash, response)
	if err != nil {
		return Proposal{}, nil, err
	}
	role, err := w.Role(ctx, person, workspace, true)
	switch {
	case err != nil:
		return Proposal{}, nil, err
	case role == store.RoleNone:
		return Proposal{}, nil, notFound("proposal")
	}
	if err := w.mustBeThere(ctx, workspace, s.Proposal); err != nil {
		return Proposal{}, nil, err
	}
	// A key that is not in the roster does not count: who revoked one, or enrolled one, is looked at again.
	if _, err := w.Roster(ctx, person, workspace); err != nil {
		return Proposal{}, nil, err
	}
	var view Proposal
	err = w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		if err := tx.LockRules(ctx); err != nil {
			return err
		}
		signing := &signing{w: w, tx: tx, person: person, signature: s}
		if err := signing.sign(ctx, assertion); err != nil {
			return err
		}
		view, err = viewProposal(ctx, tx, s.Proposal)
		return err
	})
	if err != nil {
		return Proposal{}, nil, found(err, "proposal")
	}
	view.withdrawable(person, role)
	w.log.InfoContext(ctx, "proposal signed", "workspace", workspace, "person", person.ID, "proposal", view.ID, "state", view.State)
	if view.State != store.ProposalApplied || view.Kind != store.ProposalPolicy {
		return view, nil, nil
	}
	left, err := w.afterwards(ctx, view)
	return view, left, err
}

// mustBeThere makes sure that whose key is to be countersigned by an open proposal is still a member of the workspace. The key of
// somebody who left can be revoked.
func (w *Workspaces) mustBeThere(ctx context.Context, workspace, id string) error {
	var (
		view   Proposal
		holder store.Person
	)
	err := w.store.InWorkspace(ctx, workspace, func(tx *store.Tx) (err error) {
		if view, err = viewProposal(ctx, tx, id); err == nil && view.Holder != "" {
			holder, err = tx.Person(ctx, view.Holder)
		}
		return err
	})
	if err != nil {
		return found(err, "proposal")
	}
	if view.Kind != store.ProposalCountersign || view.State != store.ProposalOpen {
		return nil
	}
	role, err := w.Role(ctx, holder, workspace, true)
	if err == nil && role == store.RoleNone {
		err = refusal.New(refusal.NotFound, "%s is no member of this workspace any more.", holder.Name)
	}
	return err
}

// afterwards does at Bitbucket what follows from a policy that is in force already. The reconciler would do it too.
func (w *Workspaces) afterwards(ctx context.Context, view Proposal) ([]string, error) {
	workspace, repositoryID := view.WorkspaceID, *view.RepositoryID
	if view.Policy != nil {
		if err := w.ensureHook(ctx, workspace, repositoryID); err != nil {
			w.log.WarnContext(ctx, "webhook not confirmed", "workspace", workspace, "repository", repositoryID, "error", err)
		}
		return nil, nil
	}
	var leftToDo []string
	s, client, err := w.hookClient(ctx, workspace)
	if err == nil && s.connection != nil {
		err = w.deleteHooks(ctx, client, workspace, repositoryID)
	}
	if err != nil && s.connection != nil {
		leftToDo = append(leftToDo, hookLeft(store.RepositoryConfig{FullName: view.FullName}, err))
	}
	unpaid, err := w.Cancel(ctx, workspace, repositoryID, "The repository is no longer gated.")
	return append(append(leftToDo, unpaid...), statusesStay), err
}

// answered consumes the challenge that the answer is over.
func (w *Workspaces) answered(ctx context.Context, person store.Person, sessionHash []byte, response string) (s signature, workspace string, a evidence.Assertion, err error) {
	a, err = passkey.ParseAssertion([]byte(response))
	if err != nil {
		return s, "", a, refusal.New(refusal.BadInput, "The browser's answer cannot be read.").At("response").Because(err)
	}
	challenge, err := challengeOf(a)
	if err != nil {
		return s, "", a, refusal.New(refusal.BadInput, "The browser's answer cannot be read.").At("response").Because(err)
	}
	var begun store.Challenge
	err = w.store.Outside(ctx, func(sh *store.Shared) error {
		begun, err = sh.TakeChallenge(ctx, challenge, store.ChallengeProposal, person.ID, sessionHash)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return s, "", a, refusal.New(CodeChallenge, "This was not begun here, or was finished before, or took more than five minutes. Please start it again.")
	}
	if err == nil {
		err = json.Unmarshal(begun.Data, &s)
	}
	if err != nil {
		return s, "", a, fmt.Errorf("kept act: %w", err)
	}
	return s, *begun.WorkspaceID, a, nil
}

// challengeOf reads the challenge out of an assertion, to find the act by. That it is over this act is checked by
// evidence.VerifyAct.
func challengeOf(a evidence.Assertion) ([]byte, error) {
	var data struct {
		Challenge string `json:"challenge"`
	}
	if err := json.Unmarshal(a.ClientDataJSON, &data); err != nil {
		return nil, err
	}
	return base64.RawURLEncoding.DecodeString(data.Challenge)
}

// signing is the transaction of a signature. It holds the lock of the rules.
type signing struct {
	w      *Workspaces
	tx     *store.Tx
	person store.Person
	signature
}

// sign verifies and stores the signature and, when enough are there, applies the proposal.
func (s *signing) sign(ctx context.Context, assertion evidence.Assertion) error {
	view, err := viewProposal(ctx, s.tx, s.Proposal)
	if err != nil {
		return err
	}
	if err := maySign(view, s.person); err != nil {
		return err
	}
	force, err := protection(ctx, s.tx)
	if err != nil {
		return err
	}
	// Whatever changes a rule ends the proposals that it overtakes. Should one be left, it must not be applied.
	if late, err := overtaken(ctx, s.tx, force, view.Proposal); err != nil || late {
		return errors.Join(err, refusal.New(CodeProposal, "What this proposal was to change has changed meanwhile. Please propose it again."))
	}
	// Before any person, as for whoever installs the app.
	if _, err := lockStanding(ctx, s.tx); err != nil {
		return err
	}
	concerned := []string{s.person.ID}
	for _, a := range view.Acts {
		concerned = append(concerned, a.PersonID)
	}
	if view.Holder != "" {
		concerned = append(concerned, view.Holder)
	}
	keys, err := s.lockKeys(ctx, concerned)
	if err != nil {
		return err
	}
	if err := s.keep(ctx, assertion, keys[s.person.ID].Counting(s.tx.Workspace)); err != nil {
		return err
	}
	acts, err := s.counting(ctx, view, keys)
	if err != nil {
		return err
	}
	if err := forgetNotices(ctx, s.tx, view.ID, s.person.ID); err != nil || len(acts) < view.Quorum {
		return err
	}
	return s.apply(ctx, view, acts)
}

// lockKeys holds the keys of people still, and then the roster: in the order of everybody who locks both. It reads the
// keys then.
func (s *signing) lockKeys(ctx context.Context, people []string) (map[string]store.Keys, error) {
	people = slices.Compact(slices.Sorted(slices.Values(people)))
	for _, id := range people {
		if _, err := s.tx.LockCredentials(ctx, id); err != nil {
			return nil, err
		}
	}
	if err := s.tx.LockRoster(ctx); err != nil {
		return nil, err
	}
	return s.tx.KeysOf(ctx, people)
}

// keep verifies the assertion over the kept act, by one of the keys, and stores both.
func (s *signing) keep(ctx context.Context, assertion evidence.Assertion, counting []store.Credential) error {
	if len(counting) == 0 {
		return noKey()
	}
	keys := make([]evidence.Key, len(counting))
	for i, c := range counting {
		keys[i] = c.Key()
	}
	result, err := evidence.VerifyAct(s.Act, assertion, keys, s.w.passkeys.RelyingParty())
	if err != nil {
		return refusal.New(CodePasskeyRefused, "The signature does not hold: %s.", err).At("response").Because(err)
	}
	err = s.tx.UseCredential(ctx, result.Key.CredentialID, int64(result.SignCount), result.BackupState)
	if errors.Is(err, store.ErrNotFound) {
		return refusal.New(CodePasskeyRefused, "This passkey was revoked meanwhile, or its counter went back: it may have been copied.").At("response")
	}
	if err != nil {
		return err
	}
	key, err := result.Key.Digest()
	if err != nil {
		return err
	}
	signed, err := canonical(evidence.SignedAct{Act: s.Act, Assertion: assertion})
	if err != nil {
		return err
	}
	opening, err := json.Marshal(s.Opening)
	if err != nil {
		return err
	}
	return s.tx.PutProposalAct(ctx, store.ProposalAct{
		ProposalID: s.Proposal, PersonID: s.person.ID, CredentialID: result.Key.CredentialID, KeyDigest: string(key),
		Act: signed, Digest: hexSHA256(signed), Opening: opening,
	})
}

// counting are the acts that count at this moment: of those who are asked, by keys that decide in the workspace and are in
// its roster now, over this very document.
func (s *signing) counting(ctx context.Context, view Proposal, keys map[string]store.Keys) ([]store.ProposalAct, error) {
	acts, err := s.tx.ProposalActs(ctx, view.ID)
	if err != nil {
		return nil, err
	}
	live, err := s.tx.LiveKeys(ctx, keyDigests(acts))
	if err != nil {
		return nil, err
	}
	about, err := view.about()
	if err != nil {
		return nil, err
	}
	var counting []store.ProposalAct
	for _, a := range acts {
		decides := keys[a.PersonID].Counting(s.tx.Workspace)
		i := slices.IndexFunc(decides, func(c store.Credential) bool { return string(c.ID) == string(a.CredentialID) })
		if i < 0 || !live[a.KeyDigest] || !slices.Contains(view.Asked, a.PersonID) {
			continue
		}
		if err := errors.Join(over(about, a), s.signed(a, decides[i])); err != nil {
			s.w.log.ErrorContext(ctx, "a stored signature does not fit its proposal", "workspace", s.tx.Workspace, "proposal", view.ID, "person", a.PersonID, "error", err)
			continue
		}
		counting = append(counting, a)
	}
	return counting, nil
}

// signed makes sure that a key made a stored act: what was verified when it came may have been changed since.
func (s *signing) signed(a store.ProposalAct, by store.Credential) error {
	var signed evidence.SignedAct
	if err := json.Unmarshal(a.Act, &signed); err != nil {
		return err
	}
	result, err := evidence.VerifyAct(signed.Act, signed.Assertion, []evidence.Key{by.Key()}, s.w.passkeys.RelyingParty())
	if err != nil {
		return err
	}
	if key, err := result.Key.Digest(); err != nil || string(key) != a.KeyDigest {
		return errors.Join(err, errors.New("it is of another key"))
	}
	return nil
}

// apply makes the change of a proposal, with its leaf, which names the acts.
func (s *signing) apply(ctx context.Context, view Proposal, acts []store.ProposalAct) error {
	people, digests := make([]string, len(acts)), make([]evidence.Digest, len(acts))
	for i, a := range acts {
		people[i], digests[i] = a.PersonID, evidence.Digest(a.Digest)
	}
	slices.Sort(digests)
	// First of all: whatever changes a rule ends what is still open about it.
	if _, err := s.tx.CloseProposal(ctx, view.ID, store.ProposalApplied); err != nil {
		return err
	}
	if err := s.tx.CountProposalActs(ctx, view.ID, people); err != nil {
		return err
	}
	if err := forgetNotices(ctx, s.tx, view.ID, view.Asked...); err != nil {
		return err
	}
	switch {
	case view.Kind == store.ProposalCountersign:
		return s.w.ChangeKey(ctx, s.tx, view.Proposal, acts)
	case view.Kind == store.ProposalRevoke:
		return errors.Join(s.w.ChangeKey(ctx, s.tx, view.Proposal, acts), s.tx.OutdateKeyProposals(ctx, view.CredentialID))
	case view.Kind == store.ProposalProtection:
		return s.protect(ctx, view, digests)
	case view.Policy == nil:
		return s.w.ungate(ctx, s.tx, view.ProposedBy, view.ProposedVia, *view.RepositoryID, digests)
	}
	_, err := s.w.applyPolicy(ctx, s.tx, view.ProposedBy, view.ProposedVia, bitbucket.Repository{
		UUID: *view.RepositoryID, Slug: view.Slug, FullName: view.FullName, Name: view.Name,
	}, view.Policy, digests)
	return err
}

// protect puts a protection in force, with its leaf.
func (s *signing) protect(ctx context.Context, view Proposal, acts []evidence.Digest) error {
	set, err := s.tx.InsertProtection(ctx, store.Protection{
		Version: view.Next.Version, Digest: view.Digest, Document: view.Document, Quorum: view.Next.Quorum, People: view.Next.People, ProposalID: view.ID,
	})
	if err != nil {
		return err
	}
	if err := s.tx.OutdateProtectionProposals(ctx, set.Quorum == 0); err != nil {
		return err
	}
	workspace, err := s.tx.ReadWorkspace(ctx)
	if err != nil {
		return err
	}
	return appendLeaf(ctx, s.tx, workspace, evidence.ProtectionSet{Version: set.Version, Protection: evidence.Digest(set.Digest), Acts: acts})
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}
