package gate

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/store"
)

// A key belongs to its person, a roster to a workspace. A person comes into the roster of a workspace
// when they first sign something for it, with everything that ever became of their keys, in its
// order; from then on the roster follows, by a job after each change and again before each
// signature. What is written depends only on what the roster lacks, so it may be asked for at any
// time, by anybody, any number of times.

// SyncRoster lets the workspace's roster follow the keys of a person, and gives its newest version:
// the zero one where nobody is in it yet.
func (g *Gate) SyncRoster(ctx context.Context, workspace, personID string) (newest store.RosterVersion, err error) {
	err = g.Store.InWorkspace(ctx, workspace, func(tx *store.Tx) (err error) {
		newest, err = syncRoster(ctx, tx, personID)
		return err
	})
	return newest, err
}

// Roster is [Gate.SyncRoster] for those who only need the digest that their acts name: empty where
// nobody is in the roster.
func (g *Gate) Roster(ctx context.Context, person store.Person, workspace string) (evidence.Digest, error) {
	newest, err := g.SyncRoster(ctx, workspace, person.ID)
	return evidence.Digest(newest.Digest), err
}

// Follow lets the workspace's roster follow the keys of a person in the transaction of whoever changes them: what it says
// of them then lies in the log before the next change of rules.
func (g *Gate) Follow(ctx context.Context, tx *store.Tx, personID string) error {
	_, err := syncRoster(ctx, tx, personID)
	return err
}

// FollowKeys is the job that lets a workspace's roster follow the keys of a person.
func (g *Gate) FollowKeys(ctx context.Context, job store.Job) error {
	var at store.Place
	if err := json.Unmarshal(job.Payload, &at); err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	return g.Store.InWorkspace(ctx, at.Workspace, func(tx *store.Tx) error {
		if _, err := syncRoster(ctx, tx, at.Person); err != nil {
			return err
		}
		// What a compromised key decided counts no more, and what it signed for neither.
		decided, err := onCompromised(ctx, tx, at.Person)
		if err != nil {
			return err
		}
		for _, pr := range decided {
			if err := tx.Enqueue(ctx, store.AskEvaluate(tx.Workspace, pr.RepositoryID, pr.Number)); err != nil {
				return err
			}
		}
		return tx.FinishJob(ctx, job.Claim, time.Time{})
	})
}

func syncRoster(ctx context.Context, tx *store.Tx, personID string) (store.RosterVersion, error) {
	changes, err := rosterChanges(ctx, tx, personID)
	if err != nil || len(changes) == 0 {
		newest, unread := tx.NewestRoster(ctx)
		return newest, errors.Join(err, optional(unread))
	}
	// Somebody else may be doing the same: look again with everybody else waiting. The person comes
	// first, as for whoever changes a key, and holds their keys still.
	if _, err := tx.LockCredentials(ctx, personID); err != nil {
		return store.RosterVersion{}, err
	}
	if err := tx.LockRoster(ctx); err != nil {
		return store.RosterVersion{}, err
	}
	if changes, err = rosterChanges(ctx, tx, personID); err != nil {
		return store.RosterVersion{}, err
	}
	newest, err := tx.NewestRoster(ctx)
	if optional(err) != nil {
		return newest, err
	}
	workspace, err := tx.ReadWorkspace(ctx)
	if err != nil {
		return newest, err
	}
	now, err := tx.Now(ctx)
	if err != nil {
		return newest, err
	}
	for _, c := range changes {
		if newest, err = nextRoster(ctx, tx, workspace, now, newest, c.RosterChange); err != nil {
			return newest, err
		}
	}
	if slices.ContainsFunc(changes, func(c rosterChange) bool { return c.CompromisedSince != nil }) {
		return dropFallen(ctx, tx, workspace, now, newest)
	}
	return newest, nil
}

// nextRoster writes the version after newest, with its leaf. The caller holds the roster's lock.
func nextRoster(ctx context.Context, tx *store.Tx, w store.Workspace, now time.Time, newest store.RosterVersion, c evidence.RosterChange) (store.RosterVersion, error) {
	c.Workspace, c.Version, c.Previous = bitbucket.BracedUUID(w.ID), newest.Version+1, evidence.Digest(newest.Digest)
	if newest.Version == 0 {
		c.Previous = evidence.Digest(hex.EncodeToString(w.GenesisLeaf))
	}
	document, err := c.Canonical()
	if err != nil {
		return newest, fmt.Errorf("roster version %d: %w", c.Version, err)
	}
	digest := approval.DigestOf(document)
	entry, err := evidence.Leaf{
		Time: now, Workspace: evidence.WorkspaceID(w.GenesisSalt, c.Workspace),
		Body: evidence.RosterVersion{Version: c.Version, Roster: digest},
	}.Entry()
	if err != nil {
		return newest, fmt.Errorf("leaf of roster version %d: %w", c.Version, err)
	}
	hash := evidence.LeafHash(entry)
	key, err := c.Key.Digest()
	if err != nil {
		return newest, err
	}
	newest = store.RosterVersion{
		Version: c.Version, Digest: string(digest), Document: document, Event: string(c.Event),
		PersonID: c.Key.Person, KeyDigest: string(key), Compromised: c.CompromisedSince != nil, LeafHash: hash[:],
	}
	if err := tx.InsertRosterVersion(ctx, newest); err != nil {
		return newest, err
	}
	tx.AppendLeaf(w.ID, hash, entry, "", 0)
	if newest.Compromised {
		return newest, tx.Enqueue(ctx, store.AskFallen(w.ID, newest.Version))
	}
	return newest, nil
}

// rosterChange is a change that a roster lacks, and where what it tells was in the order in which the person's keys changed. It is
// written where it can be: what became of a key before it comes in follows that, in its order.
type rosterChange struct {
	evidence.RosterChange
	at, written int64
}

// rosterChanges lists what the roster lacks about the keys of a person, in the order in which it came about.
func rosterChanges(ctx context.Context, tx *store.Tx, personID string) ([]rosterChange, error) {
	keys, err := tx.Keys(ctx, personID)
	if err != nil {
		return nil, err
	}
	versions, err := tx.RosterOf(ctx, personID)
	if err != nil {
		return nil, err
	}
	r := rosterReader{tx: tx, keys: keys, known: map[string]keyStanding{}}
	for _, v := range versions {
		change, err := evidence.ParseRosterChange(v.Document)
		if err != nil {
			return nil, fmt.Errorf("stored roster version %d: %w", v.Version, err)
		}
		r.note(change)
	}
	stored := maps.Clone(r.known)
	credentials := slices.DeleteFunc(slices.Clone(keys.Credentials), func(c store.Credential) bool { return c.EnrolledAt == nil })
	slices.SortFunc(credentials, func(a, b store.Credential) int { return cmp.Compare(a.EnrolledOrder, b.EnrolledOrder) })
	for _, c := range credentials {
		if err := r.read(ctx, c); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(r.lacking, func(a, b rosterChange) int { return cmp.Or(cmp.Compare(a.written, b.written), cmp.Compare(a.at, b.at)) })
	r.known = stored
	return r.admit(ctx)
}

// rosterReader finds out what a workspace's roster lacks about the keys of one person.
type rosterReader struct {
	tx      *store.Tx
	keys    store.Keys
	known   map[string]keyStanding // of the person, by credential id
	lacking []rosterChange
}

// keyStanding is what a roster knows of a key.
type keyStanding struct {
	added, countersigned, removed bool
	since                         *time.Time // when it was in other hands, if anybody says so
}

func (s keyStanding) live() bool { return s.added && !s.removed }

// takes tells whether the roster can have a change about a key, but for who signs for it.
func (s keyStanding) takes(c evidence.RosterChange) bool {
	switch {
	case c.Event == evidence.KeyAdded || s.live():
		return true
	case c.Event == evidence.KeyCountersigned || !s.added:
		return false
	}
	return evidence.RosterKey{CompromisedSince: s.since}.Worse(c.CompromisedSince)
}

func (r *rosterReader) note(c evidence.RosterChange) {
	id := string(c.Key.CredentialID)
	s := r.known[id]
	switch c.Event {
	case evidence.KeyAdded:
		s.added, s.countersigned = true, c.By == evidence.ByCountersigner
	case evidence.KeyCountersigned:
		s.countersigned = true
	case evidence.KeyRemoved:
		s.removed, s.since = true, c.CompromisedSince
	}
	r.known[id] = s
}

// lacks notes a change that the roster lacks, and can have from some place on.
func (r *rosterReader) lacks(at, from int64, c evidence.RosterChange) {
	r.note(c)
	r.lacking = append(r.lacking, rosterChange{c, at, max(at, from)})
}

// cameIn is where a key comes in that the roster lacks; 0 of one that it has.
func (r *rosterReader) cameIn(id []byte) int64 {
	for _, l := range r.lacking {
		if l.Event == evidence.KeyAdded && bytes.Equal(l.Key.CredentialID, id) {
			return l.written
		}
	}
	return 0
}

// read looks at one enrolled key. Those enrolled before it were read before.
func (r *rosterReader) read(ctx context.Context, c store.Credential) error {
	if !r.known[string(c.ID)].added {
		if err := r.add(ctx, c); err != nil || !r.known[string(c.ID)].added {
			return err
		}
	}
	standing := r.known[string(c.ID)]
	if signed := r.keys.Countersignature(r.tx.Workspace, c.ID); signed != nil && !standing.countersigned && !standing.removed {
		change := evidence.RosterChange{Event: evidence.KeyCountersigned, Key: c.Key(), By: evidence.ByCountersigner, Proof: approval.DigestOf(signed.Act)}
		if err := r.signed(ctx, &change, signed.Act, signed.Agreed...); err != nil {
			return err
		}
		r.lacks(signed.Order, r.cameIn(c.ID), change)
	}
	return r.remove(ctx, c)
}

// add brings a key in, if the workspace knows by more than the word of another workspace whose it is. That somebody else
// may have had the key that signed for it keeps it out only of what counts: it may have signed for others, and revoked. Where an administrator
// vouched for it before the roster had it, its own person's key was not enough, and only that word is left.
func (r *rosterReader) add(ctx context.Context, c store.Credential) (err error) {
	change := evidence.RosterChange{Event: evidence.KeyAdded, Key: c.Key(), By: evidence.Identity(*c.IdentifiedBy), Proof: approval.DigestOf(c.Enrolment)}
	from, signed := int64(0), r.keys.Countersignature(r.tx.Workspace, c.ID)
	switch {
	case change.By == evidence.ByLogIn:
	case change.By == evidence.ByOwnKey && signed == nil && r.known[string(c.AuthorityID)].added && r.keys.Known(r.tx.Workspace, c.ID):
		if change.Signer, err = r.keyDigest(ctx, c.AuthorityID); err != nil {
			return err
		}
		var enrolment evidence.Enrolment
		if err := json.Unmarshal(c.Enrolment, &enrolment); err != nil {
			return fmt.Errorf("stored enrolment: %w", err)
		}
		if err := issued(&change, enrolment.Act); err != nil {
			return err
		}
		from = r.cameIn(c.AuthorityID) // late perhaps, by a countersigner
	default:
		if signed == nil {
			return nil
		}
		enrolment, err := countersignedEnrolment(c.Enrolment, signed.Act)
		if err != nil {
			return err
		}
		if err := r.signed(ctx, &change, signed.Act, signed.Agreed...); err != nil {
			return err
		}
		if change.Proof, err = enrolment.Digest(); err != nil {
			return err
		}
		change.By, from = evidence.ByCountersigner, signed.Order
	}
	r.lacks(c.EnrolledOrder, from, change)
	return nil
}

// countersignedEnrolment is an enrolment as a workspace sees it whose own countersigner vouched for the
// key: the countersigner of another workspace, or a key that this one does not know, means nothing to it.
func countersignedEnrolment(enrolment, act []byte) (e evidence.Enrolment, err error) {
	if err := json.Unmarshal(enrolment, &e); err != nil {
		return e, fmt.Errorf("stored enrolment: %w", err)
	}
	signed, err := signedAct(act)
	e.Authority, e.Countersigned = nil, &signed
	return e, err
}

func signedAct(data []byte) (s evidence.SignedAct, err error) {
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("stored act: %w", err)
	}
	return s, nil
}

// signed notes in a change who signed the act that it rests on, when that was issued, and who agreed.
func (r *rosterReader) signed(ctx context.Context, change *evidence.RosterChange, act []byte, agreed ...[]byte) error {
	for _, more := range agreed {
		signed, err := signedAct(more)
		if err != nil {
			return err
		}
		signer, err := r.keyDigest(ctx, signed.Assertion.CredentialID)
		if err != nil {
			return err
		}
		parsed, err := evidence.ParseAct(signed.Act)
		if err != nil {
			return fmt.Errorf("stored act: %w", err)
		}
		change.Agreed = append(change.Agreed, evidence.Agreement{Signer: signer, Proof: approval.DigestOf(more), IssuedAt: parsed.IssuedAt})
	}
	slices.SortFunc(change.Agreed, func(a, b evidence.Agreement) int { return cmp.Compare(a.Signer, b.Signer) })
	signed, err := signedAct(act)
	if err != nil {
		return err
	}
	if change.Signer, err = r.keyDigest(ctx, signed.Assertion.CredentialID); err != nil {
		return err
	}
	return issued(change, signed.Act)
}

func issued(change *evidence.RosterChange, act []byte) error {
	parsed, err := evidence.ParseAct(act)
	if err != nil {
		return fmt.Errorf("stored act: %w", err)
	}
	change.IssuedAt = &parsed.IssuedAt
	return nil
}

func (r *rosterReader) keyDigest(ctx context.Context, id []byte) (evidence.Digest, error) {
	c, err := r.tx.Credential(ctx, id)
	if err != nil {
		return "", fmt.Errorf("key that signed: %w", err)
	}
	return c.Key().Digest()
}

// remove tells of everything that was said to take a key out of use, and that the roster can still have: whether whoever
// signed it has a voice is seen when it is written, and must not keep out what somebody else says.
func (r *rosterReader) remove(ctx context.Context, c store.Credential) error {
	standing := r.known[string(c.ID)]
	reason := func(at int64, by evidence.Identity, act []byte, since *time.Time, agreed ...[]byte) error {
		change := evidence.RosterChange{Event: evidence.KeyRemoved, Key: c.Key(), By: by}
		if since != nil {
			utc := since.UTC()
			change.CompromisedSince = &utc
		}
		if !standing.takes(change) {
			return nil
		}
		if act != nil {
			change.Proof = approval.DigestOf(act)
			if err := r.signed(ctx, &change, act, agreed...); err != nil {
				return err
			}
		}
		r.lacks(at, r.cameIn(c.ID), change)
		return nil
	}
	if c.RevokedAt != nil {
		by := evidence.ByOperator
		if c.Revocation != nil {
			by = evidence.ByOwnKey
		}
		if err := reason(c.RevokedOrder, by, c.Revocation, c.CompromisedSince); err != nil {
			return err
		}
	}
	if revoked := r.keys.Revocation(r.tx.Workspace, c.ID); revoked != nil {
		if err := reason(revoked.Order, evidence.ByCountersigner, revoked.Act, revoked.CompromisedSince, revoked.Agreed...); err != nil {
			return err
		}
	}
	for _, said := range r.keys.ReportsOf(r.tx.Workspace, c.ID) {
		by := evidence.ByOwnKey
		if said.WorkspaceID != nil {
			by = evidence.ByCountersigner
		}
		if err := reason(said.Order, by, said.Act, &said.CompromisedSince, said.Agreed...); err != nil {
			return err
		}
	}
	return nil
}

// admit goes over what the roster lacks in the order in which it is to be written, and keeps what a
// verifier will accept: who signs for a change must have a key in the roster that counts by then. A
// key that nobody can vouch for any more stays out; one that is revoked goes out on our own word, once.
func (r *rosterReader) admit(ctx context.Context) (admitted []rosterChange, err error) {
	for _, c := range r.lacking {
		standing := r.known[string(c.Key.CredentialID)]
		if !standing.takes(c.RosterChange) {
			continue
		}
		if c.Signer != "" {
			live, err := r.signersCount(ctx, c.RosterChange)
			if err != nil {
				return nil, err
			}
			if !live && (c.Event != evidence.KeyRemoved || standing.removed) {
				continue
			}
			if !live {
				c.By, c.Proof, c.Signer, c.IssuedAt, c.Agreed, c.CompromisedSince = evidence.ByOperator, "", "", nil, nil, nil
			}
		}
		r.note(c.RosterChange)
		admitted = append(admitted, c)
	}
	return admitted, nil
}

// signersCount tells whether all keys that signed for a change count in the roster as it would be now.
func (r *rosterReader) signersCount(ctx context.Context, c evidence.RosterChange) (bool, error) {
	live, err := r.signerCounts(ctx, c.Signer)
	for i := 0; i < len(c.Agreed) && live && err == nil; i++ {
		live, err = r.signerCounts(ctx, c.Agreed[i].Signer)
	}
	return live, err
}

// signerCounts tells whether a key counts in the roster as it would be now.
func (r *rosterReader) signerCounts(ctx context.Context, key evidence.Digest) (bool, error) {
	for _, c := range r.keys.Credentials {
		if digest, err := c.Key().Digest(); err != nil || digest == key {
			return r.known[string(c.ID)].live(), err
		}
	}
	return r.tx.RosterHas(ctx, string(key))
}

// rostered are the person's keys that count in the workspace, by its roster too.
func rostered(ctx context.Context, tx *store.Tx, personID string) (live []store.Credential, err error) {
	keys, err := tx.Keys(ctx, personID)
	if err != nil {
		return nil, err
	}
	for _, c := range keys.Counting(tx.Workspace) {
		digest, err := c.Key().Digest()
		if err != nil {
			return nil, err
		}
		has, err := tx.RosterHas(ctx, string(digest))
		if err != nil {
			return nil, err
		}
		if has {
			live = append(live, c)
		}
	}
	return live, nil
}

// rosterPage is how many versions of a roster are read by one statement.
const rosterPage = 1000

// readRoster reads the versions of a roster up to one, in the form of the log.
func readRoster(ctx context.Context, tx *store.Tx, upTo int64) (documents []json.RawMessage, changes []evidence.RosterChange, err error) {
	for int64(len(changes)) < upTo {
		page, err := tx.Roster(ctx, int64(len(changes)), int(min(rosterPage, upTo-int64(len(changes)))))
		if err != nil {
			return nil, nil, err
		}
		if len(page) == 0 {
			return nil, nil, lost("roster", fmt.Errorf("it ends at version %d, before %d", len(changes), upTo))
		}
		for _, v := range page {
			change, err := evidence.ParseRosterChange(v.Document)
			if err != nil {
				return nil, nil, lost(fmt.Sprintf("stored roster version %d", v.Version), err)
			}
			documents, changes = append(documents, json.RawMessage(v.Document)), append(changes, change)
		}
	}
	return documents, changes, nil
}

// addRoster adds the roster, and what proves the keys that signed.
func (g *Gate) addRoster(ctx context.Context, workspace string, d *dossier) error {
	return g.Store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		documents, changes, err := readRoster(ctx, tx, d.roster.Version)
		if err != nil {
			return err
		}
		d.Roster = documents
		roster, err := evidence.ReplayRoster(evidence.LeafDigest(d.Genesis), changes)
		if err != nil {
			return lost("stored roster", err)
		}
		credentials := make([][]byte, len(d.Decisions))
		for i, decision := range d.Decisions {
			credentials[i] = decision.Assertion.CredentialID
		}
		proofs := rosterProofs{tx: tx, people: map[string]store.Keys{}}
		d.Enrolments, d.SignedActs, err = proofs.of(ctx, roster, credentials)
		return err
	})
}

// rosterProofs finds what the changes of a roster rest on.
type rosterProofs struct {
	tx     *store.Tx
	people map[string]store.Keys // by person
	gaps   bool                  // what is not on record is left out, for whoever reads it to find out
}

// of gives everything behind the keys with these credential ids; errLost where a row that the roster rests on is gone,
// or is not what it was.
func (p rosterProofs) of(ctx context.Context, roster *evidence.Roster, credentials [][]byte) (enrolments []evidence.EnrolledKey, acts []evidence.SignedAct, err error) {
	keys, changes := roster.Behind(credentials)
	for _, k := range keys {
		enrolled, err := p.enrolment(ctx, k)
		if p.gaps && errors.Is(err, errLost) {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("enrolment of key %s: %w", k.Digest, err)
		}
		enrolments = append(enrolments, enrolled)
	}
	for _, c := range changes {
		act, err := p.act(ctx, c)
		if p.gaps && errors.Is(err, errLost) {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("act of roster version %d: %w", c.Change.Version, err)
		}
		acts = append(acts, act)
	}
	return enrolments, acts, nil
}

func (p rosterProofs) keysOf(ctx context.Context, person string) (store.Keys, error) {
	keys, known := p.people[person]
	if known {
		return keys, nil
	}
	keys, err := p.tx.Shared.Keys(ctx, person)
	p.people[person] = keys
	return keys, err
}

// enrolment finds the enrolment of a key as the roster commits to it.
func (p rosterProofs) enrolment(ctx context.Context, k evidence.RosterKey) (e evidence.EnrolledKey, err error) {
	keys, err := p.keysOf(ctx, k.Key.Person)
	if err != nil {
		return e, err
	}
	i := slices.IndexFunc(keys.Credentials, func(c store.Credential) bool { return bytes.Equal(c.ID, k.Key.CredentialID) })
	if i < 0 {
		return e, errLost
	}
	c := keys.Credentials[i]
	if e.Owner, err = personOpening(c.EnrolmentOpening); err != nil {
		return e, lost("owner", err)
	}
	if k.Countersigned != k.Added {
		err = json.Unmarshal(c.Enrolment, &e.Enrolment)
	} else if signed := keys.Countersignature(p.tx.Workspace, c.ID); signed == nil {
		return e, errLost
	} else if e.Countersigner, err = personOpening(signed.Opening); err == nil {
		e.Enrolment, err = countersignedEnrolment(c.Enrolment, signed.Act)
	}
	if err != nil {
		return e, lost("stored enrolment", err)
	}
	if digest, err := e.Enrolment.Digest(); err != nil || digest != k.Proof {
		return e, lost("stored enrolment", errors.Join(err, errors.New("it is not the one that the roster names")))
	}
	return e, nil
}

// act finds the act that a change rests on.
func (p rosterProofs) act(ctx context.Context, c evidence.RosterAct) (evidence.SignedAct, error) {
	keys, err := p.keysOf(ctx, c.Change.Key.Person)
	if err != nil {
		return evidence.SignedAct{}, err
	}
	var candidates [][]byte
	about := c.Change.Key.CredentialID
	if signed := keys.Countersignature(p.tx.Workspace, about); signed != nil {
		candidates = append(append(candidates, signed.Act), signed.Agreed...)
	}
	if revoked := keys.Revocation(p.tx.Workspace, about); revoked != nil {
		candidates = append(append(candidates, revoked.Act), revoked.Agreed...)
	}
	for _, said := range keys.ReportsOf(p.tx.Workspace, about) {
		candidates = append(append(candidates, said.Act), said.Agreed...)
	}
	for _, k := range keys.Credentials {
		if bytes.Equal(k.ID, about) && k.Revocation != nil {
			candidates = append(candidates, k.Revocation)
		}
	}
	for _, data := range candidates {
		if approval.DigestOf(data) == c.Proof {
			signed, err := signedAct(data)
			if err != nil {
				err = lost("act", err)
			}
			return signed, err
		}
	}
	return evidence.SignedAct{}, errLost
}

// personOpening reads a stored opening; nil once it was erased.
func personOpening(data []byte) (*evidence.PersonOpening, error) {
	if data == nil {
		return nil, nil
	}
	open := &evidence.PersonOpening{}
	if err := json.Unmarshal(data, open); err != nil {
		return nil, fmt.Errorf("stored opening: %w", err)
	}
	return open, nil
}
