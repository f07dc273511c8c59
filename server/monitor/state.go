package monitor

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// stateFormat names this version of the folder.
//
// It changes with the form of anything in it, which a test notices.
const stateFormat = "signedapproval.monitor/v6"

// The files of a state.
const (
	databaseFile = "state.db"
	hashesFile   = "leaves" // the hash of each leaf, 32 bytes, in their order
	proofsFolder = "proofs"
)

// The tables of the database.
var (
	tableMeta     = []byte("meta")
	tableChains   = []byte("chains")   // chain id -> chainEnd
	tableHistory  = []byte("history")  // workspace/subject/version -> past
	tableTurns    = []byte("turns")    // workspace/index -> key in history, but for the genesis
	tableJudged   = []byte("judged")   // workspace's UUID -> judged
	tableKeys     = []byte("keys")     // key digest -> past of its enrolment
	tableEnrolled = []byte("enrolled") // person -> past of the first enrolment of theirs
	tableRevoked  = []byte("revoked")  // key digest and index -> past of what says that it is revoked
	tableOwners   = []byte("owners")   // workspace and digest of an account -> person
	tableFindings = []byte("findings") // code and subject -> Finding
	tableWaiting  = []byte("waiting")  // code and subject -> Finding that was not handed out yet
	tableDoubts   = []byte("doubts")   // workspace and index -> doubt
	keyProgress   = []byte("progress")
)

// State is the folder in which a monitor keeps what it needs to go on. One process at a time can open it. What was
// computed is on the disk before it is relied on, so a monitor that was killed goes on where it was.
type State struct {
	folder string
	db     *bbolt.DB
	hashes *os.File
}

// seen is a checkpoint with when it was first seen.
type seen struct {
	Size int64     `json:"size"`
	Root tlog.Hash `json:"root"`
	Note string    `json:"note"`
	At   time.Time `json:"at"`
}

func (s seen) tree() tlog.Tree { return tlog.Tree{N: s.Size, Hash: s.Root} }

// progress is how far a monitor is.
type progress struct {
	Format string `json:"format"`
	// Origin is the log that the state is about.
	Origin string `json:"origin"`
	// Next is the index of the leaf to be read next.
	Next int64 `json:"next"`
	// Latest is the latest time that a leaf had.
	Latest time.Time `json:"latest"`
	// Seen are checkpoints, the newest last: those that say of a leaf from Next on since when it was to be seen.
	Seen []seen `json:"seen"`
}

// newest gives the newest checkpoint; nil before the first.
func (p progress) newest() *seen {
	if len(p.Seen) == 0 {
		return nil
	}
	return &p.Seen[len(p.Seen)-1]
}

// OpenState opens a folder, which is made where it is absent. readOnly waits for nobody who writes, and writes nothing.
func OpenState(folder string, readOnly bool) (*State, error) {
	if !readOnly {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, err
		}
	}
	flag := os.O_RDWR | os.O_CREATE
	if readOnly {
		flag = os.O_RDONLY
	}
	db, err := bbolt.Open(filepath.Join(folder, databaseFile), 0o600, &bbolt.Options{Timeout: time.Second, ReadOnly: readOnly})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("the state %s is in use by another monitor", folder)
	}
	if err != nil {
		return nil, fmt.Errorf("the state %s: %w", folder, err)
	}
	hashes, err := os.OpenFile(filepath.Join(folder, hashesFile), flag, 0o600)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	s := &State{folder: folder, db: db, hashes: hashes}
	if !readOnly {
		err = db.Update(func(tx *bbolt.Tx) error {
			if table := tx.Bucket(tableMeta); table != nil {
				if _, err := progressIn(table); err != nil {
					return err // before anything in it changes
				}
			}
			for _, table := range [][]byte{tableMeta, tableChains, tableHistory, tableTurns, tableJudged, tableKeys, tableEnrolled, tableRevoked, tableOwners, tableFindings, tableWaiting, tableDoubts} {
				if _, err := tx.CreateBucketIfNotExists(table); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err == nil {
		_, err = s.progress()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the state %s: %w", folder, err), s.Close())
	}
	return s, nil
}

// Close gives the folder free.
func (s *State) Close() error { return errors.Join(s.hashes.Close(), s.db.Close()) }

// progress reads how far it is.
func (s *State) progress() (p progress, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		table := tx.Bucket(tableMeta)
		if table == nil {
			return errors.New("it is not the state of a monitor")
		}
		p, err = progressIn(table)
		return err
	})
	if err != nil {
		return p, err
	}
	info, err := s.hashes.Stat()
	if err == nil && info.Size() < p.Next*tlog.HashSize {
		err = errors.New("hashes of leaves are missing: remove the folder, and the monitor reads the log again")
	}
	return p, err
}

// progressIn reads how far it is from its table, and refuses what another version wrote.
func progressIn(table *bbolt.Bucket) (p progress, err error) {
	raw := table.Get(keyProgress)
	if raw == nil {
		return p, nil
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		return p, err
	}
	if p.Format != stateFormat {
		return p, fmt.Errorf("its format is %q, and this version of the program reads %s: give another folder, and the monitor reads the log "+
			"from its first leaf; keep this one, whose newest checkpoint shows whether the log was rolled back since", p.Format, stateFormat)
	}
	return p, nil
}

// Newest gives the newest checkpoint of the state; false before the first.
func (s *State) Newest() (Checkpoint, bool, error) {
	p, err := s.progress()
	if err != nil || p.newest() == nil {
		return Checkpoint{}, false, err
	}
	return Checkpoint{p.newest().tree(), []byte(p.newest().Note)}, true, nil
}

// appendHashes writes the hashes of leaves from an index on, over what a monitor that was killed may have left there.
func (s *State) appendHashes(first int64, hashes []tlog.Hash) error {
	var data []byte
	for _, hash := range hashes {
		data = append(data, hash[:]...)
	}
	if _, err := s.hashes.WriteAt(data, first*tlog.HashSize); err != nil {
		return err
	}
	return s.hashes.Sync()
}

// rootAt computes the root of the tree of the first size leaves from their hashes. It reads all of them.
func (s *State) rootAt(size int64) (tlog.Hash, error) {
	var edge []subtree
	for from := int64(0); from < size; from += 4096 {
		hashes, err := s.between(from, min(from+4096, size))
		if err != nil {
			return tlog.Hash{}, err
		}
		for _, hash := range hashes {
			edge = grow(edge, hash)
		}
	}
	return rootOf(edge), nil
}

// between reads the hashes of the leaves from one index to before another.
func (s *State) between(from, to int64) ([]tlog.Hash, error) {
	data := make([]byte, (to-from)*tlog.HashSize)
	if _, err := s.hashes.ReadAt(data, from*tlog.HashSize); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("hashes of leaves are missing")
		}
		return nil, fmt.Errorf("the state %s: %w", s.folder, err)
	}
	hashes := make([]tlog.Hash, to-from)
	for i := range hashes {
		hashes[i] = tlog.Hash(data[i*tlog.HashSize:])
	}
	return hashes, nil
}

// subtree is a whole subtree of so many leaves, on a tree's right edge.
type subtree struct {
	leaves int64
	root   tlog.Hash
}

// grow adds a leaf to the right edge of a tree.
func grow(edge []subtree, leaf tlog.Hash) []subtree {
	edge = append(edge, subtree{1, leaf})
	for n := len(edge); n > 1 && edge[n-1].leaves == edge[n-2].leaves; n = len(edge) {
		edge = append(edge[:n-2], subtree{2 * edge[n-1].leaves, tlog.NodeHash(edge[n-2].root, edge[n-1].root)})
	}
	return edge
}

// rootOf gives the root of the tree that has an edge.
func rootOf(edge []subtree) tlog.Hash {
	if len(edge) == 0 {
		hash, err := tlog.TreeHash(0, nil)
		if err != nil {
			panic(err) // it reads nothing for an empty tree
		}
		return hash
	}
	root := edge[len(edge)-1].root
	for i := len(edge) - 2; i >= 0; i-- {
		root = tlog.NodeHash(edge[i].root, root)
	}
	return root
}

// keepProof writes notes that contradict each other into a folder of their own, and names the folder.
func (s *State) keepProof(code Code, one, other []byte) (string, error) {
	sum := tlog.NodeHash(tlog.RecordHash(one), tlog.RecordHash(other))
	folder := filepath.Join(s.folder, proofsFolder, fmt.Sprintf("%s-%x", code, sum[:8]))
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", err
	}
	return folder, errors.Join(WriteFile(filepath.Join(folder, "kept.checkpoint"), one, 0o600), WriteFile(filepath.Join(folder, "shown.checkpoint"), other, 0o600))
}

// WriteFile writes a file whole or not at all, over one that is there.
func WriteFile(path string, data []byte, mode os.FileMode) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	_, err = file.Write(data)
	if err = errors.Join(err, file.Chmod(mode), file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// chainEnd is the end of a chain, as far as it was read.
type chainEnd struct {
	sequence int64
	leaf     tlog.Hash
	// workspace is that of its leaves.
	workspace tlog.Hash
	// signed is the time of the leaf of its last decision, about whichever request, in seconds; 0 without one.
	signed int64
	// request is the open request, verdict the state of its last verdict; both empty without one.
	request, verdict string
	// lit is set where the request ever had a verdict that lets it be merged, decided where somebody decided about it.
	lit, decided bool
	// unjudged is set while its last decision has no verdict yet; hurried is the leaf with which the merge check was first answered "yes"
	// since, by the approvals, and 0 where it was not.
	unjudged bool
	hurried  int64
	// ended are the requests that were closed and had been lit: the reason, a slash and the id. The reason is there only where the
	// last verdict let the request be merged. And what was merged: the mark landed and the commit.
	ended []string
}

const landed = "landed=" // has no slash, and so is no request

// isLanded tells whether what ended is a merge.
func isLanded(ended string) bool { return strings.HasPrefix(ended, landed) }

func (c chainEnd) marshal() []byte {
	data := binary.BigEndian.AppendUint64(nil, uint64(c.sequence)) //nolint:gosec // leaves count from 1
	data = append(append(data, c.leaf[:]...), c.workspace[:]...)
	data = binary.BigEndian.AppendUint64(data, uint64(c.signed)) //nolint:gosec // read back as it is
	flags := byte(0)
	for i, set := range []bool{c.lit, c.decided, c.unjudged} {
		if set {
			flags |= 1 << i
		}
	}
	data = append(data, flags)
	data = binary.BigEndian.AppendUint64(data, uint64(c.hurried)) //nolint:gosec // an index
	for _, text := range append([]string{c.verdict, c.request}, c.ended...) {
		data = append(binary.AppendUvarint(data, uint64(len(text))), text...)
	}
	return data
}

func (c *chainEnd) unmarshal(data []byte) error {
	const fixed = 8 + 2*tlog.HashSize + 8 + 1 + 8
	unreadable := errors.New("the end of a chain cannot be read")
	if len(data) < fixed {
		return unreadable
	}
	c.sequence = int64(binary.BigEndian.Uint64(data)) //nolint:gosec // as marshal wrote it
	c.leaf, c.workspace = tlog.Hash(data[8:]), tlog.Hash(data[8+tlog.HashSize:])
	c.signed = int64(binary.BigEndian.Uint64(data[8+2*tlog.HashSize:])) //nolint:gosec // as marshal wrote it
	for i, set := range []*bool{&c.lit, &c.decided, &c.unjudged} {
		*set = data[fixed-9]&(1<<i) != 0
	}
	c.hurried = int64(binary.BigEndian.Uint64(data[fixed-8:])) //nolint:gosec // as marshal wrote it
	var texts []string
	for rest := data[fixed:]; len(rest) > 0; {
		n, size := binary.Uvarint(rest)
		if size <= 0 || n > uint64(len(rest)-size) { //nolint:gosec // never negative: size is of rest
			return unreadable
		}
		end := size + int(n) //nolint:gosec // not longer than rest
		texts, rest = append(texts, string(rest[size:end])), rest[end:]
	}
	if len(texts) < 2 {
		return unreadable
	}
	c.verdict, c.request, c.ended = texts[0], texts[1], texts[2:]
	return nil
}

// past is a leaf that is kept for later: its entry and its index.
type past struct {
	Index int64          `json:"index"`
	Entry evidence.Bytes `json:"entry"`
}

// put writes a value as JSON.
func put(table *bbolt.Bucket, key []byte, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return table.Put(key, raw)
}

// turnKey is the place of a leaf in the table of turns.
func turnKey(workspace evidence.Digest, index int64) []byte {
	return fmt.Appendf(nil, "%s/%016x", workspace, index)
}

// turns hands out the leaves about a workspace's roster and rules from an index on, in the order of the log, each with its
// key in the table of history.
func turns(tx *bbolt.Tx, workspace evidence.Digest, from int64, do func(index int64, place []byte) error) error {
	return turnsIn(tx.Bucket(tableTurns), workspace, from, do)
}

// turnsIn hands out what a table has about a workspace by index, from an index on, in the order of the log.
func turnsIn(table *bbolt.Bucket, workspace evidence.Digest, from int64, do func(index int64, value []byte) error) error {
	prefix := []byte(string(workspace) + "/")
	cursor := table.Cursor()
	for key, place := cursor.Seek(turnKey(workspace, from)); bytes.HasPrefix(key, prefix); key, place = cursor.Next() {
		index, err := strconv.ParseInt(string(key[len(prefix):]), 16, 64)
		if err != nil {
			return err
		}
		if err := do(index, place); err != nil {
			return err
		}
	}
	return nil
}

// findingKey names a finding in the tables.
func findingKey(f Finding) []byte { return []byte(string(f.Code) + "\x00" + f.Subject) }

// record writes down what is wrong in the log, to be handed out, unless it is there: a leaf stays what it is.
func record(tx *bbolt.Tx, f Finding) error {
	if tx.Bucket(tableFindings).Get(findingKey(f)) != nil {
		return nil
	}
	return insist(tx, f)
}

// insist has a finding handed out by each pass that finds it, since it is about how things are now: while it lasts there
// can be more behind it that nobody sees. On record is when it was found first.
func insist(tx *bbolt.Tx, f Finding) error {
	key := findingKey(f)
	if tx.Bucket(tableFindings).Get(key) == nil {
		if err := put(tx.Bucket(tableFindings), key, f); err != nil {
			return err
		}
	}
	return put(tx.Bucket(tableWaiting), key, f)
}

// Findings hands out everything that was ever found, by code and subject.
func (s *State) Findings(do func(Finding) error) error {
	return s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(tableFindings).ForEach(func(_, value []byte) error {
			var f Finding
			if err := json.Unmarshal(value, &f); err != nil {
				return err
			}
			return do(f)
		})
	})
}

// toldAtOnce bounds how many findings are in memory.
const toldAtOnce = 1000

// tell hands out the findings that were not handed out before. One may be handed out twice, if the process ends
// meanwhile, and none is lost.
func (s *State) tell(to func(Finding) error) error {
	for {
		var waiting []Finding
		err := s.db.View(func(tx *bbolt.Tx) error {
			cursor := tx.Bucket(tableWaiting).Cursor()
			for key, raw := cursor.First(); key != nil && len(waiting) < toldAtOnce; key, raw = cursor.Next() {
				var f Finding
				if err := json.Unmarshal(raw, &f); err != nil {
					return err
				}
				waiting = append(waiting, f)
			}
			return nil
		})
		if err != nil || len(waiting) == 0 {
			return err
		}
		for _, f := range waiting {
			if err := to(f); err != nil {
				return err
			}
		}
		err = s.db.Update(func(tx *bbolt.Tx) error {
			for _, f := range waiting {
				if err := tx.Bucket(tableWaiting).Delete(findingKey(f)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}
