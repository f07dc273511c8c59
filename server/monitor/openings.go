package monitor

import (
	"bytes"
	"context"
	"encoding/json"
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

// judged is how far a workspace's openings were compared with the log. Signatures and changes before that are not looked at
// again: they rest on leaves, and those cannot change.
type judged struct {
	// By names the anchors and the keys by which it was judged: with others it begins again.
	By evidence.Digest `json:"by"`
	// ID is the workspace in leaves.
	ID evidence.Digest `json:"id"`
	// Versions is how many versions of the roster were looked at.
	Versions int64 `json:"versions"`
	// Next is from which leaf on the rules are still to be looked at.
	Next int64 `json:"next"`
	// Rules are those before Next.
	Rules rulebook `json:"rules"`
	// Answers is from which leaf on the answers of the merge check that are in doubt are still to be looked at.
	Answers int64 `json:"answers"`
	// Size is how many leaves were read, Settled whether the openings told all of them, and nothing beyond or otherwise.
	Size    int64 `json:"size"`
	Settled bool  `json:"settled"`
	// Ahead are versions that the openings had and the log had not, each with when it was so first.
	Ahead map[string]time.Time `json:"ahead"`
	// Unowned are the versions that added a key of which the openings do not tell for whose account, each with when it was so first.
	Unowned map[int64]time.Time `json:"unowned"`
	// Withheld is since when the log could be read and the openings could not; zero where they could.
	Withheld time.Time `json:"withheld"`
}

// replay compares what is new in a workspace's openings with the log as far as it was read. It is done in memory; what
// was found and how far it came are written down together.
func (m *Monitor) replay(ctx context.Context) error {
	p, err := m.State.progress()
	if err != nil {
		return err
	}
	r := replay{options: &m.Options, now: m.Now(), roster: m.roster, work: &m.work, owners: map[string]string{}}
	err = m.State.db.View(func(tx *bbolt.Tx) error {
		raw := tx.Bucket(tableJudged).Get([]byte(m.Workspace))
		if raw == nil {
			return nil
		}
		return json.Unmarshal(raw, &r.judged)
	})
	if err != nil {
		return err
	}
	if r.By != m.by {
		r.judged = judged{By: m.by}
	} else if r.Settled && r.Size == p.Next {
		return nil
	}
	opened, err := m.Client.Openings(ctx, m.Workspace)
	if err != nil {
		return errors.Join(err, m.withheld(ctx, r.judged))
	}
	r.Size, r.Withheld = p.Next, time.Time{}
	r.open(opened)
	err = m.State.db.View(func(tx *bbolt.Tx) error {
		r.tx = tx
		return r.run()
	})
	m.roster = r.roster // of what the log has, whatever was wrong afterwards
	if err != nil {
		return err
	}
	return m.State.db.Update(func(tx *bbolt.Tx) error {
		for _, f := range r.findings {
			if err := record(tx, f); err != nil {
				return err
			}
		}
		for _, f := range r.lasting {
			if err := insist(tx, f); err != nil {
				return err
			}
		}
		for place, person := range r.owners {
			if err := tx.Bucket(tableOwners).Put([]byte(place), []byte(person)); err != nil {
				return err
			}
		}
		return put(tx.Bucket(tableJudged), []byte(m.Workspace), r.judged)
	})
}

// withheld notes that the openings cannot be had although the log can. After a while that is an alarm: a server can fail
// for ever at what somebody changed in its database, and nobody would look at its rules any more.
func (m *Monitor) withheld(ctx context.Context, j judged) error {
	if ctx.Err() != nil {
		return nil // it is the monitor that was ended
	}
	now := m.Now()
	if j.Withheld.IsZero() {
		j.Withheld = now
	}
	since := j.Withheld.UTC().Format(time.RFC3339)
	return m.State.db.Update(func(tx *bbolt.Tx) error {
		if now.After(j.Withheld.Add(m.Late)) {
			err := insist(tx, Finding{
				Code: OpeningsWithheld, Subject: fmt.Sprintf("workspace %s since %s", m.Workspace, since), Time: now,
				Detail: "The server gives the log, and since then not the openings, so that nobody can look at roster and rules.",
			})
			if err != nil {
				return err
			}
		}
		return put(tx.Bucket(tableJudged), []byte(m.Workspace), j)
	})
}

// errEnough ends a walk.
var errEnough = errors.New("enough")

// work counts what was done, each once for each time.
type work struct {
	openings int // that were asked for
	versions int // of the roster that were read
	proofs   int // of changes of the roster that were looked at
	rules    int // that were judged
}

// replay is one comparison of openings with the log.
type replay struct {
	judged

	tx      *bbolt.Tx // that only reads
	options *Options
	now     time.Time
	work    *work

	o          evidence.Openings
	acts       filed[evidence.SignedAct]
	enrolments filed[evidence.EnrolledKey]
	policies   map[policyPlace]evidence.OpenedPolicy
	genesis    evidence.Digest
	// roster is what its versions in the log come to; nil before they were read.
	roster *evidence.Roster
	owners map[string]string // that were found out, as the table of owners has them
	// findings are about what stays as it is and is looked at once; lasting ones are about the openings of now.
	findings, lasting []Finding
}

// open takes the openings.
func (r *replay) open(o evidence.Openings) {
	r.work.openings++
	r.o = o
	r.acts = newFiled(o.SignedActs, evidence.SignedAct.Digest)
	r.enrolments = newFiled(o.Enrolments, func(e evidence.EnrolledKey) (evidence.Digest, error) { return e.Enrolment.Digest() })
	r.policies = make(map[policyPlace]evidence.OpenedPolicy, len(o.Policies))
	for _, p := range o.Policies {
		r.policies[policyPlace{evidence.RepositoryID(o.Salt, p.Repository), p.Version}] = p
	}
}

// filed finds things by their digests. It reads them from the last one on, and no further than it has to: what is asked
// for is mostly what came last.
type filed[T any] struct {
	rest   []T
	digest func(T) (evidence.Digest, error)
	known  map[evidence.Digest]T
}

func newFiled[T any](things []T, digest func(T) (evidence.Digest, error)) filed[T] {
	return filed[T]{things, digest, map[evidence.Digest]T{}}
}

// find gives the thing with a digest, or false.
func (f *filed[T]) find(d evidence.Digest) (thing T, found bool) {
	for thing, found = f.known[d]; !found && len(f.rest) > 0; thing, found = f.known[d] {
		last := f.rest[len(f.rest)-1]
		f.rest = f.rest[:len(f.rest)-1]
		if digest, err := f.digest(last); err == nil { // what has no digest nobody asks for
			f.known[digest] = last
		}
	}
	return thing, found
}

// found keeps what was found at a leaf.
func (r *replay) found(code Code, notice bool, index int64, subject, detail string, args ...any) {
	r.findings = append(r.findings, Finding{Code: code, Notice: notice, Subject: subject, Detail: fmt.Sprintf(detail, args...), Leaf: &index, Time: r.now})
}

// wrong keeps what is wrong with something that is looked at once.
func (r *replay) wrong(code Code, subject, detail string, args ...any) {
	r.findings = append(r.findings, Finding{Code: code, Subject: subject, Detail: fmt.Sprintf(detail, args...), Time: r.now})
}

// lasts keeps what is wrong with the openings as they are now. Everything that ends a replay or holds it back is told so: each
// pass looks at it again, and tells it for as long as it lasts.
func (r *replay) lasts(code Code, subject, detail string, args ...any) {
	r.lasting = append(r.lasting, Finding{Code: code, Subject: subject, Detail: fmt.Sprintf(detail, args...), Time: r.now})
}

func (r *replay) run() error {
	r.Settled = false
	about := "workspace " + r.o.Workspace
	r.ID = evidence.WorkspaceID(r.o.Salt, r.o.Workspace)
	r.genesis = evidence.LeafDigest(r.o.Genesis)
	leaf, err := evidence.ParseLeaf(r.o.Genesis)
	if err != nil {
		r.lasts(OpeningsWrong, about, "The genesis is no leaf.")
		return nil
	}
	body, ok := leaf.Body.(evidence.Genesis)
	logged, found := r.logged("genesis", 0)
	switch {
	case !ok || leaf.Workspace != r.ID || body.Salt != approval.DigestOf(r.o.Salt):
		r.lasts(OpeningsWrong, about, "The genesis is not that of this workspace and salt.")
		return nil
	case r.options.Anchors.Genesis != "" && r.options.Anchors.Genesis != r.genesis:
		r.lasts(OpeningsWrong, about, "The genesis is not the one that is pinned.")
		return nil
	case !found || evidence.LeafDigest(logged.Entry) != r.genesis:
		r.lasts(OpeningsWrong, about, "The log has another genesis.")
		return nil
	}
	whole, err := r.readRoster()
	if err != nil {
		return err
	}
	if err := r.proofs(); err != nil {
		return err
	}
	if err := r.unowned(); err != nil {
		return err
	}
	told, err := r.rules()
	if err != nil {
		return err
	}
	answered, err := r.answers()
	if err != nil {
		return err
	}
	followed := false
	if whole { // else it is not known what the roster says
		if followed, err = r.revocations(); err != nil {
			return err
		}
	}
	r.still()
	r.ahead()
	r.Settled = followed && told && answered && len(r.Ahead) == 0 && len(r.Unowned) == 0 && len(r.lasting) == 0
	return nil
}

// still makes sure that the openings still say of what is in force what they said when it was looked at: who changes a
// row of the database writes no leaf.
func (r *replay) still() {
	if n := r.roster.Versions(); n > int64(len(r.o.Roster)) || n > 0 && approval.DigestOf(r.o.Roster[n-1]) != r.roster.Digest(n) {
		r.lasts(RosterWrong, r.rosterVersion(n), "The log names another roster than the openings.")
	}
	for repository, digest := range r.Rules.Newest {
		rule := r.Rules.InForce[repository]
		opened, found := r.policies[policyPlace{repository, rule.Version}]
		if why := differs(opened.Policy, digest); !found || why != "" {
			r.lasts(PolicyWrong, rule.Subject, "It is in force, and the openings have none or another one.")
		}
	}
	if set := r.Rules.Force.Version; set > 0 {
		i := slices.IndexFunc(r.o.Protections, func(d evidence.ProtectionDocument) bool { return d.Version == set })
		if i < 0 || !same(r.Rules.Force, r.o.Protections[i]) {
			r.lasts(OpeningsWrong, r.Rules.InForce[""].Subject, "It is in force, and the openings have none or another one.")
		}
	}
}

func same(a, b evidence.ProtectionDocument) bool {
	one, err := a.Digest()
	other, wrong := b.Digest()
	return err == nil && wrong == nil && one == other
}

// ahead looks for versions that the openings have and the log has not. They are newer than what was read of the log,
// so there can be some; but those that are there still after a while were never put into the log.
func (r *replay) ahead() {
	beyond := map[string]time.Time{}
	look := func(code Code, subject, name string, version int64) {
		if _, found := r.logged(subject, version); found {
			return
		}
		place := fmt.Sprintf("%s version %d", name, version)
		first, known := r.Ahead[place]
		if !known {
			first = r.now
		}
		beyond[place] = first
		if r.now.After(first.Add(r.options.Late)) {
			r.lasts(code, place, "The openings have had it since %s, and the log still does not.", first.UTC().Format(time.RFC3339))
		}
	}
	for n := r.roster.Versions() + 1; n <= int64(len(r.o.Roster)); n++ {
		look(RosterWrong, "roster", "roster of workspace "+r.o.Workspace, n)
	}
	for _, d := range r.o.Protections {
		if d.Version > r.Rules.Force.Version {
			look(OpeningsWrong, "protection", "protection of workspace "+r.o.Workspace, d.Version)
		}
	}
	for at, p := range r.policies {
		if at.version > r.Rules.InForce[at.repository].Version {
			look(PolicyWrong, "policy/"+string(at.repository), "policy of repository "+p.Repository, p.Version)
		}
	}
	r.Ahead = beyond
}

// logged gives the leaf of a version in the log.
func (r *replay) logged(subject string, version int64) (past, bool) {
	raw := r.tx.Bucket(tableHistory).Get(historyKey(r.ID, subject, version))
	if raw == nil {
		return past{}, false
	}
	kept, _, err := readPast(raw)
	return kept, err == nil
}

// loggedAfter reports whether the log has a version of something that comes after one.
func (r *replay) loggedAfter(subject string, version int64) bool {
	next := historyKey(r.ID, subject, version+1)
	key, _ := r.tx.Bucket(tableHistory).Cursor().Seek(next)
	return bytes.HasPrefix(key, next[:bytes.LastIndexByte(next, '/')+1])
}
