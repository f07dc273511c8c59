package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

const (
	// batch is how many bundles of entries are written down at once.
	batch = 16
	// batchSize is from how many bytes of entries on they are written down earlier.
	batchSize = 16 << 20
)

// Mine is what somebody knows to be their own.
type Mine struct {
	// People are their ids in statements: one for each of their accounts.
	People []string `json:"people"`
	// Accounts are the ids of their accounts at Bitbucket: a key for one of these, under whichever person's name, is told by the openings
	// alone.
	Accounts []string `json:"accounts"`
	// Keys are the digests of their keys, as [evidence.Key.Digest] computes them and the meaning of an enrolment says.
	Keys []evidence.Digest `json:"keys"`
}

// Options are what a Monitor needs.
type Options struct {
	Client  *Client
	State   *State
	Anchors evidence.Anchors
	// Late is how far leaves' times may be from each other's order, from the time of publication and from the clock.
	Late time.Duration
	// Mine lists somebody's keys; nil for nobody's.
	Mine *Mine
	// Workspace is the UUID of a workspace whose openings are replayed, which takes an API token; empty for none.
	Workspace string
	// Now is the clock; nil for the usual one.
	Now func() time.Time
	// Tell is told of each finding once it is on the disk: of what is wrong in the log once, and of what is wrong with
	// how the server shows it, or keeps the monitor from judging, by each pass that finds it. An error ends the pass.
	Tell func(Finding) error
	// Read is told how many leaves are read, of how many; nil for nobody.
	Read func(next, size int64)
}

// Monitor follows a log. It is for one goroutine.
type Monitor struct {
	Options
	by     evidence.Digest  // the anchors and keys, as judged has them
	roster *evidence.Roster // of the workspace, as far as it was read; nil before
	work   work
}

// New makes a Monitor. The anchors must name the log, which must be the one that the state is about.
func New(o Options) (*Monitor, error) {
	if o.Anchors.Log == nil || len(o.Anchors.Log.Keys) == 0 {
		return nil, errors.New("the anchors name no log and key: a monitor cannot tell the log from another one")
	}
	p, err := o.State.progress()
	if err != nil {
		return nil, err
	}
	if p.Origin != "" && p.Origin != o.Anchors.Log.Origin {
		return nil, fmt.Errorf("the state is about the log %s, and the anchors are about %s", p.Origin, o.Anchors.Log.Origin)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	by, err := json.Marshal(struct {
		Anchors evidence.Anchors
		Mine    *Mine
	}{o.Anchors, o.Mine})
	if err != nil {
		return nil, err
	}
	return &Monitor{Options: o, by: approval.DigestOf(by)}, nil
}

// Pass reads what is new in the log and looks at it. Findings are told; an error says that the log could not be followed
// to its end, which is no statement about the log.
func (m *Monitor) Pass(ctx context.Context) error {
	if err := m.Told(); err != nil { // what a monitor found that was killed before it said so
		return err
	}
	went, err := m.follow(ctx)
	if err == nil && went && m.Workspace != "" {
		err = m.replay(ctx)
	}
	return errors.Join(err, m.Told())
}

// Told tells what was found and not told yet.
func (m *Monitor) Told() error { return m.State.tell(m.Tell) }

// stop says why the monitor cannot go on.
func (m *Monitor) stop(code Code, subject, proof, detail string, args ...any) error {
	f := Finding{Code: code, Subject: subject, Detail: fmt.Sprintf(detail, args...), Proof: proof, Time: m.Now()}
	return m.State.db.Update(func(tx *bbolt.Tx) error { return insist(tx, f) })
}

// follow reads the log up to its newest checkpoint. It returns false where a finding keeps it from going on.
func (m *Monitor) follow(ctx context.Context) (went bool, err error) {
	p, err := m.State.progress()
	if err != nil {
		return false, err
	}
	asked := m.Now() // the answer is not older than this
	checkpoint, err := m.Client.Checkpoint(ctx, m.Anchors)
	var not *unsigned
	if errors.As(err, &not) {
		return false, m.stop(not.code, "log "+m.Anchors.Log.Origin, "", "%s.", not.why)
	}
	if err != nil {
		return false, err
	}
	reader, err := newPublished(ctx, m.Client, checkpoint.Tree)
	if err != nil {
		return false, err
	}
	went, err = m.extends(p, checkpoint, reader)
	if err == nil && went {
		p = p.accept(m.Anchors.Log.Origin, checkpoint, asked)
		err = m.State.save(p)
	}
	if err == nil && went {
		err = m.read(ctx, p, reader)
	}
	return m.excuse(went, err)
}

// excuse turns an error that the server is to blame for into a finding.
func (m *Monitor) excuse(went bool, err error) (bool, error) {
	log := "log " + m.Anchors.Log.Origin
	switch {
	case errors.Is(err, errTiles):
		return false, m.stop(TilesWrong, log, "", "The server gives tiles that are not those of the tree that it signed.")
	case errors.Is(err, errEntries):
		return false, m.stop(EntriesWrong, log, "", "The server gives entries that are not those of the tree that it signed.")
	}
	return went && err == nil, err
}

// extends makes sure that the log begins with what it was.
func (m *Monitor) extends(p progress, shown Checkpoint, reader *published) (bool, error) {
	kept := p.newest()
	if kept == nil {
		return true, nil
	}
	log := "log " + m.Anchors.Log.Origin
	code := Fork
	var err error
	var root tlog.Hash
	switch {
	case shown.N >= kept.Size && kept.Size == 0:
		return true, nil
	case shown.N >= kept.Size:
		root, err = reader.root(kept.Size)
		if err == nil && root == kept.Root {
			return true, nil
		}
	case p.Next >= shown.N: // it is known what the log was like then
		if root, err = m.State.rootAt(shown.N); root == shown.Hash {
			code = Rollback
		}
	default:
		code = Rollback
	}
	if err != nil {
		return false, err
	}
	proof, err := m.State.keepProof(code, []byte(kept.Note), shown.Note)
	if err != nil {
		return false, err
	}
	if code == Rollback {
		return false, m.stop(code, fmt.Sprintf("%s from %d to %d", log, kept.Size, shown.N), proof, "It had %d leaves at %s and has %d now.",
			kept.Size, kept.At.UTC().Format(time.RFC3339), shown.N)
	}
	return false, m.stop(code, fmt.Sprintf("%s at %d and %d", log, kept.Size, shown.N), proof,
		"Its key signed two trees, of %d and of %d leaves, of which neither begins with the other.", kept.Size, shown.N)
}

// accept takes a checkpoint as the newest one.
func (p progress) accept(origin string, c Checkpoint, at time.Time) progress {
	p.Format, p.Origin = stateFormat, origin
	if newest := p.newest(); newest != nil && newest.Size == c.N {
		p.Seen = slices.Clone(p.Seen)
		p.Seen[len(p.Seen)-1].At = at // it is still without what comes later
		return p
	}
	// Of those that cover nothing of what is still to be read, the newest is enough.
	first := 0
	for i, s := range p.Seen {
		if s.Size <= p.Next {
			first = i
		}
	}
	p.Seen = append(slices.Clone(p.Seen[first:]), seen{c.N, c.Hash, string(c.Note), at})
	return p
}

// save writes down how far it is.
func (s *State) save(p progress) error {
	return s.db.Update(func(tx *bbolt.Tx) error { return put(tx.Bucket(tableMeta), keyProgress, p) })
}

// read reads the leaves up to the checkpoint.
func (m *Monitor) read(ctx context.Context, p progress, reader *published) error {
	for size := reader.tree.N; p.Next < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		var entries [][]byte
		var hashes []tlog.Hash
		for bytes := 0; len(entries) < batch*width && bytes < batchSize && p.Next+int64(len(entries)) < size; {
			at := p.Next + int64(len(entries))
			more, sums, err := reader.entries(at / width)
			if err != nil {
				return err
			}
			for _, entry := range more[at%width:] {
				bytes += len(entry)
			}
			entries, hashes = append(entries, more[at%width:]...), append(hashes, sums[at%width:]...)
		}
		if err := m.State.appendHashes(p.Next, hashes); err != nil {
			return err
		}
		err := m.State.db.Update(func(tx *bbolt.Tx) error {
			r := reading{tx: tx, progress: &p, options: &m.Options, now: m.Now()}
			for i, entry := range entries {
				if err := r.leaf(p.Next+int64(i), entry, hashes[i]); err != nil {
					return err
				}
			}
			p.Next += int64(len(entries))
			return put(tx.Bucket(tableMeta), keyProgress, p)
		})
		if err != nil {
			return err
		}
		if m.Read != nil {
			m.Read(p.Next, size)
		}
		if err := m.Told(); err != nil {
			return err
		}
	}
	return nil
}
