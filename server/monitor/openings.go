package monitor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// Openings reads the openings of a workspace, which takes an API token that may read it.
func (c *Client) Openings(ctx context.Context, workspace string) (evidence.Openings, error) {
	raw, err := c.Get(ctx, "/workspaces/"+strings.Trim(workspace, "{}")+"/openings", nil, evidence.MaxOpenings)
	if err != nil {
		return evidence.Openings{}, fmt.Errorf("openings: %w", err)
	}
	o, err := evidence.ParseOpenings(raw)
	if err == nil && !sameUUID(o.Workspace, workspace) {
		err = errors.New("they are of another workspace")
	}
	if err != nil {
		return evidence.Openings{}, fmt.Errorf("openings: %w", err)
	}
	return o, nil
}

func sameUUID(a, b string) bool {
	bare := func(s string) string { return strings.ToLower(strings.Trim(s, "{}")) }
	return bare(a) == bare(b)
}

// replay compares a workspace's openings with the log as far as it was read.
func (m *Monitor) replay(ctx context.Context) error {
	opened, err := m.Client.Openings(ctx, m.Workspace)
	if err != nil {
		return err
	}
	return m.State.db.Update(func(tx *bbolt.Tx) error {
		r := replay{reading: reading{tx: tx, options: &m.Options, now: m.Now()}, o: opened}
		return r.run()
	})
}

// replay is one comparison of openings with the log.
type replay struct {
	reading
	o evidence.Openings

	id      evidence.Digest // of the workspace in leaves
	genesis evidence.Digest
	acts    map[evidence.Digest]evidence.SignedAct
	// vouchers are, of the enrolments that somebody countersigned, the digests of what that one signed.
	vouchers map[evidence.Digest]evidence.Digest
	// changes are those of the roster that are in the log, roster what they come to.
	changes []evidence.RosterChange
	roster  *evidence.Roster
}

// wrong writes down what is wrong with the openings.
func (r *replay) wrong(code Code, subject, detail string, args ...any) error {
	return record(r.tx, Finding{Code: code, Subject: subject, Detail: fmt.Sprintf(detail, args...), Time: r.now})
}

func (r *replay) run() error {
	about := "workspace " + r.o.Workspace
	r.id = evidence.WorkspaceID(r.o.Salt, r.o.Workspace)
	r.genesis = evidence.LeafDigest(r.o.Genesis)
	leaf, err := evidence.ParseLeaf(r.o.Genesis)
	if err != nil {
		return r.wrong(OpeningsWrong, about, "The genesis is no leaf.")
	}
	body, ok := leaf.Body.(evidence.Genesis)
	logged, found := r.logged("genesis", 0)
	switch {
	case !ok || leaf.Workspace != r.id || body.Salt != approval.DigestOf(r.o.Salt):
		return r.wrong(OpeningsWrong, about, "The genesis is not that of this workspace and salt.")
	case r.options.Anchors.Genesis != "" && r.options.Anchors.Genesis != r.genesis:
		return r.wrong(OpeningsWrong, about, "The genesis is not the one that is pinned.")
	case !found || evidence.LeafDigest(logged.Entry) != r.genesis:
		return r.wrong(OpeningsWrong, about, "The log has another genesis.")
	}
	r.acts = map[evidence.Digest]evidence.SignedAct{}
	for _, act := range r.o.SignedActs {
		digest, err := act.Digest()
		if err != nil {
			return err
		}
		r.acts[digest] = act
	}
	if err := r.replayRoster(); err != nil || r.roster == nil {
		return err
	}
	if err := r.proofs(); err != nil {
		return err
	}
	return r.rules()
}

// logged gives the leaf of a version in the log.
func (r *replay) logged(subject string, version int64) (past, bool) {
	raw := r.tx.Bucket(tableHistory).Get(historyKey(r.id, subject, version))
	if raw == nil {
		return past{}, false
	}
	kept, _, err := readPast(raw)
	return kept, err == nil
}

// replayRoster replays the versions of the roster that the log has. What the openings have beyond is not read yet.
func (r *replay) replayRoster() error {
	about := "roster of workspace " + r.o.Workspace
	for n := int64(1); ; n++ {
		logged, found := r.logged("roster", n)
		if !found {
			break
		}
		subject := fmt.Sprintf("%s version %d", about, n)
		if n > int64(len(r.o.Roster)) {
			return r.wrong(RosterWrong, subject, "The log has this version, and the openings end before it.")
		}
		change, err := evidence.ParseRosterChange(r.o.Roster[n-1])
		if err != nil {
			return r.wrong(RosterWrong, subject, "It cannot be read: %v", err)
		}
		leaf, err := evidence.ParseLeaf(logged.Entry)
		if err != nil {
			return err
		}
		if digest, err := change.Digest(); err != nil || digest != leaf.Body.(evidence.RosterVersion).Roster || change.Workspace != r.o.Workspace {
			return r.wrong(RosterWrong, subject, "The log names another roster than the openings.")
		}
		r.changes = append(r.changes, change)
		if _, err := evidence.ReplayRoster(r.genesis, r.changes); err != nil {
			return r.wrong(RosterWrong, subject, "It does not replay: %v", err)
		}
	}
	var err error
	if r.roster, err = evidence.ReplayRoster(r.genesis, r.changes); err != nil {
		return err
	}
	if pinned := r.options.Anchors.Roster; pinned != "" {
		if _, found := r.roster.VersionOf(pinned); !found {
			return r.wrong(RosterWrong, about, "The roster that is pinned is none of its versions.")
		}
	}
	return nil
}

// proofs looks at what the versions of the roster rest on.
func (r *replay) proofs() error {
	enrolments := map[evidence.Digest]evidence.Enrolment{}
	r.vouchers = map[evidence.Digest]evidence.Digest{}
	for _, e := range r.o.Enrolments {
		digest, err := e.Enrolment.Digest()
		if err != nil {
			return err
		}
		enrolments[digest] = e.Enrolment
		if voucher := e.Enrolment.Countersigned; voucher != nil {
			if r.vouchers[digest], err = voucher.Digest(); err != nil {
				return err
			}
			r.acts[r.vouchers[digest]] = *voucher
		}
	}
	for i, change := range r.changes {
		key, err := change.Key.Digest()
		if err != nil {
			return err
		}
		subject := fmt.Sprintf("roster of workspace %s version %d", r.o.Workspace, i+1)
		if change.Event == evidence.KeyAdded {
			if err := r.added(subject, change, key); err != nil {
				return err
			}
		}
		if err := r.unproved(change, enrolments); err != nil {
			if err := r.wrong(RosterUnproved, subject, "Key %s of person %s %s: %s.", key, change.Key.Person, change.Event, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// added looks at a key that a version added.
func (r *replay) added(subject string, change evidence.RosterChange, key evidence.Digest) error {
	mine := r.options.Mine
	if mine != nil && slices.Contains(mine.People, change.Key.Person) && !slices.Contains(mine.Keys, key) {
		if err := r.wrong(UnknownKey, "key "+string(key), "It is in the roster under the name of person %s, who did not list it; identified by %s.", change.Key.Person, change.By); err != nil {
			return err
		}
	}
	raw := r.tx.Bucket(tableKeys).Get([]byte(key))
	if raw == nil {
		return r.wrong(KeyUnlogged, subject, "The log has no enrolment of key %s of person %s.", key, change.Key.Person)
	}
	_, leaf, err := readPast(raw)
	if err != nil {
		return err
	}
	if body, ok := leaf.Body.(evidence.KeyEnrolled); !ok || body.Person != change.Key.Person || body.Enrolment != change.Proof {
		return r.wrong(KeyUnlogged, subject, "The log has another enrolment of key %s.", key)
	}
	if change.By == evidence.ByLogIn {
		return record(r.tx, Finding{
			Code: LogInKey, Notice: true, Subject: "key " + string(key), Time: r.now,
			Detail: fmt.Sprintf("It is of person %s by a log-in at Bitbucket only, as the operator says.", change.Key.Person),
		})
	}
	return nil
}

// unproved says why the proofs of a change do not prove it; nil where they do.
func (r *replay) unproved(change evidence.RosterChange, enrolments map[evidence.Digest]evidence.Enrolment) error {
	if change.By == evidence.ByOperator {
		return nil // a revocation on the operator's word says so itself
	}
	key, _ := r.roster.Key(change.Key.CredentialID) // a roster that replays has the key of each change
	enrolment, found := enrolments[key.Proof]
	if !found {
		return errors.New("its enrolment is not in the openings")
	}
	enrol, countersigned, err := r.roster.CheckEnrolment(key, enrolment)
	var acts []evidence.RosterAct
	if change.Event == evidence.KeyAdded {
		if err == nil {
			err = r.pinned(enrol)
		}
		if err == nil && countersigned != nil {
			err = r.pinned(*countersigned)
		}
		if err != nil {
			return err
		}
	} else {
		acts = append(acts, evidence.RosterAct{Change: change, Agreement: evidence.Agreement{Signer: change.Signer, Proof: change.Proof, IssuedAt: *change.IssuedAt}})
	}
	for _, a := range change.Agreed {
		acts = append(acts, evidence.RosterAct{Change: change, Agreement: a})
	}
	for _, of := range acts {
		signed, found := r.acts[of.Proof]
		if !found {
			return errors.New("an act is not in the openings")
		}
		act, err := r.roster.CheckAct(of, signed, enrol)
		if err == nil {
			err = r.pinned(act)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func sameTime(a, b *time.Time) bool {
	return (a == nil) == (b == nil) && (a == nil || a.Equal(*b))
}

// pinned checks that an act is for the log that is followed, and was signed on a page that is pinned.
func (r *replay) pinned(act evidence.Act) error {
	a, rp := r.options.Anchors, evidence.RelyingParty{ID: act.RPID, Origin: act.Origin}
	if len(a.RelyingParties) > 0 && !slices.Contains(a.RelyingParties, rp) {
		return errors.New("it was signed on another origin than the pinned ones")
	}
	if act.LogOrigin != a.Log.Origin {
		return errors.New("it is for another log")
	}
	return nil
}

// signed checks an assertion over an act, with the anchors' relying parties and log.
func (r *replay) signed(data []byte, assertion evidence.Assertion, keys ...evidence.Key) (evidence.Act, error) {
	act, err := evidence.ParseAct(data)
	if err != nil {
		return act, err
	}
	if err := r.pinned(act); err != nil {
		return act, err
	}
	_, err = evidence.VerifyAct(data, assertion, keys, evidence.RelyingParty{ID: act.RPID, Origin: act.Origin})
	return act, err
}

// live gives the keys that count at a version of the roster.
func (r *replay) live(version int64) (keys []evidence.Key) {
	for _, key := range r.roster.LiveAt(version) {
		keys = append(keys, key.Key)
	}
	return keys
}
