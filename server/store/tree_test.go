package store_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/store"
)

// rootOf computes the root of a tree from its entries, straight from RFC 6962, section 2.1.
func rootOf(entries [][]byte) [32]byte {
	switch n := len(entries); n {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return sha256.Sum256(append([]byte{0}, entries[0]...))
	default:
		k := 1 << (bits.Len(uint(n-1)) - 1) // the largest power of two below n
		left, right := rootOf(entries[:k]), rootOf(entries[k:])
		return sha256.Sum256(append(append([]byte{1}, left[:]...), right[:]...))
	}
}

// appendLeaves appends so many leaves, in one transaction.
func (h *house) appendLeaves(t *testing.T, count int) {
	t.Helper()
	size, err := h.LogSize(t.Context())
	must(t, err)
	must(t, h.Outside(t.Context(), func(sh *store.Shared) error {
		for i := range count {
			entry := fmt.Appendf(nil, "leaf %d", size+int64(i))
			sh.AppendLeaf(acme, evidence.LeafHash(entry), entry, "", 0)
		}
		return nil
	}))
}

func TestTreeProvesEveryLeafAndEverySizeToEveryOther(t *testing.T) {
	t.Parallel()
	h := open(t)
	ctx := t.Context()
	roots := map[int64]tlog.Hash{}
	// Sizes at which the tree was grown; those between are proved just as well.
	for _, grow := range []int{0, 1, 1, 1, 4, 6, 20} {
		h.appendLeaves(t, grow)
		_, head, err := h.GrowTree(ctx)
		must(t, err)
		_, again, err := h.GrowTree(ctx)
		must(t, err)
		same(t, "head of a tree that did not grow", again, head)
		roots[head.Size] = head.Root
	}
	size, err := h.LogSize(ctx)
	must(t, err)
	same(t, "size", size, 33)
	entries, err := h.Entries(ctx, 0, 33)
	must(t, err)
	for n := range int64(34) {
		root, err := tlog.TreeHash(n, h.Tree(ctx))
		must(t, err)
		same(t, fmt.Sprintf("root at %d", n), root, rootOf(entries[:n]))
		if grown, ok := roots[n]; ok {
			same(t, fmt.Sprintf("root when it grew to %d", n), grown, root)
		}
		roots[n] = root
	}
	for n := range int64(34) {
		for i := range n {
			proof, err := tlog.ProveRecord(n, i, h.Tree(ctx))
			must(t, err)
			must(t, tlog.CheckRecord(proof, n, roots[n], i, tlog.RecordHash(entries[i])))
			if err := tlog.CheckRecord(proof, n, roots[n], i, tlog.RecordHash([]byte("another"))); err == nil {
				t.Fatalf("another leaf is proved at %d of %d", i, n)
			}
		}
		for older := int64(1); older <= n; older++ {
			proof, err := tlog.ProveTree(n, older, h.Tree(ctx))
			must(t, err)
			must(t, tlog.CheckTree(proof, n, roots[n], older, roots[older]))
			if err := tlog.CheckTree(proof, n, roots[n], older, roots[0]); err == nil {
				t.Fatalf("another tree of size %d is proved in %d", older, n)
			}
		}
	}
	_, err = tlog.ProveRecord(40, 39, h.Tree(ctx))
	wantError(t, "a leaf that is not there", err, store.ErrNotFound)
	_, err = h.Entries(ctx, 30, 4)
	wantError(t, "entries that are not there", err, store.ErrNotFound)
}

func TestTreeGrowsInBatches(t *testing.T) {
	t.Parallel()
	h := open(t)
	h.appendLeaves(t, 5000)
	_, head, err := h.GrowTree(t.Context())
	must(t, err)
	entries, err := h.Entries(t.Context(), 0, 5000)
	must(t, err)
	same(t, "head", head, store.TreeHead{Size: 5000, Root: rootOf(entries)})
	var hashes int64
	h.read(t, &hashes, `select count(*) from signedapproval_log_hashes`)
	same(t, "hashes above the leaves", hashes, tlog.StoredHashCount(5000)-5000)
}

// TestTheTreeGrowsInTwoRoundTrips: what it goes on from is read in one, and written with the commit.
func TestTheTreeGrowsInTwoRoundTrips(t *testing.T) {
	t.Parallel()
	s, count := counted(t)
	for range 3 {
		must(t, s.Outside(t.Context(), func(sh *store.Shared) error {
			sh.AppendLeaf(acme, evidence.LeafHash([]byte("entry")), []byte("entry"), "", 0)
			return nil
		}))
		count.take()
		_, _, err := s.GrowTree(t.Context())
		must(t, err)
		same(t, "round trips", len(count.take()), 2)
	}
}

func TestTreeRefusesLeavesThatAreNotWhatWasAppended(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]string{
		"an entry changed": `update signedapproval_leaves set entry = 'another' where index = 2`,
		"a hash changed":   `update signedapproval_leaves set hash = sha256('another') where index = 2`,
		"a leaf missing":   `delete from signedapproval_leaves where index = 2`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := open(t)
			h.appendLeaves(t, 2)
			_, before, err := h.GrowTree(t.Context())
			must(t, err)
			h.appendLeaves(t, 3)
			h.super(t, harm)
			if _, head, err := h.GrowTree(t.Context()); err == nil {
				t.Fatalf("the tree grew to %d", head.Size)
			}
			root, err := tlog.TreeHash(2, h.Tree(t.Context()))
			must(t, err)
			same(t, "root", root, before.Root)
		})
	}
}

// TestTreeUnderContention lets eight writers append while two publish: the log has no gap, and every
// checkpoint is consistent with every one before it.
func TestTreeUnderContention(t *testing.T) {
	t.Parallel()
	h := open(t)
	ctx := t.Context()
	const writers, each, heads = 8, 25, 5
	var grown atomic.Int64 // publications of more than was published before
	var writing, publishing sync.WaitGroup
	over := make(chan struct{})
	publish := func() (int64, error) {
		_, head, err := h.GrowTree(ctx)
		if err != nil {
			return 0, err
		}
		return head.Size, h.PutCheckpoint(ctx, head, fmt.Appendf(nil, "%d", head.Size))
	}
	for range 2 {
		publishing.Go(func() {
			last := int64(0)
			for {
				select {
				case <-over:
					return
				default:
				}
				size, err := publish()
				if err != nil {
					t.Error(err)
					grown.Store(2 * heads) // nobody waits for more
					return
				}
				if size > last {
					last = size
					grown.Add(1)
				}
			}
		})
	}
	for w := range writers {
		writing.Go(func() {
			// On while the publishers have not caught it growing.
			for n := 0; n < each || grown.Load() < 2*heads; n++ {
				rolledBack := errors.New("rolled back")
				err := h.InWorkspace(ctx, acme, func(tx *store.Tx) error {
					for i := range 1 + n%3 {
						entry := fmt.Appendf(nil, "%d %d %d", w, n, i)
						tx.AppendLeaf(acme, evidence.LeafHash(entry), entry, "", 0)
					}
					if n%5 == 4 {
						return rolledBack
					}
					return nil
				})
				if err != nil && !errors.Is(err, rolledBack) {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	close(over)
	publishing.Wait()
	_, err := publish()
	must(t, err)

	size, err := h.LogSize(ctx)
	must(t, err)
	entries, err := h.Entries(ctx, 0, int(size))
	must(t, err)
	newest, err := h.NewestCheckpoint(ctx)
	must(t, err)
	same(t, "newest checkpoint", newest.TreeHead, store.TreeHead{Size: size, Root: rootOf(entries)})
	published := h.checkpoints(t)
	if len(published) < heads {
		t.Errorf("only %d checkpoints were published meanwhile", len(published))
	}
	for i, c := range published {
		same(t, fmt.Sprintf("root at %d", c.Size), c.Root, tlog.Hash(rootOf(entries[:c.Size])))
		for _, older := range published[:i] {
			if older.Size == 0 {
				continue // every tree begins with the empty one
			}
			proof, err := tlog.ProveTree(c.Size, older.Size, h.Tree(ctx))
			must(t, err)
			must(t, tlog.CheckTree(proof, c.Size, c.Root, older.Size, older.Root))
		}
	}
	unpublished, err := h.Unpublished(ctx)
	must(t, err)
	same(t, "unpublished leaves", unpublished, 0)
}

// checkpoints reads what was published, in the order in which it was, and makes sure that this is the order of
// the sizes.
func (h *house) checkpoints(t *testing.T) (published []store.TreeHead) {
	t.Helper()
	rows, err := connect(t, h.AppURL).Query(t.Context(), `select size, root from signedapproval_log_checkpoints order by published_at, size`)
	must(t, err)
	defer rows.Close()
	for rows.Next() {
		var c store.TreeHead
		var root []byte
		must(t, rows.Scan(&c.Size, &root))
		c.Root = tlog.Hash(root)
		if n := len(published); n > 0 && published[n-1].Size >= c.Size {
			t.Errorf("checkpoint %d was published after %d", c.Size, published[n-1].Size)
		}
		published = append(published, c)
	}
	must(t, rows.Err())
	return published
}

func TestCheckpointsOnlyGrow(t *testing.T) {
	t.Parallel()
	h := open(t)
	ctx := t.Context()
	_, err := h.NewestCheckpoint(ctx)
	wantError(t, "newest of none", err, store.ErrNotFound)
	unpublished, err := h.Unpublished(ctx)
	must(t, err)
	same(t, "unpublished in a log without checkpoint", unpublished, 1)
	h.appendLeaves(t, 3)
	_, three, err := h.GrowTree(ctx)
	must(t, err)
	must(t, h.PutCheckpoint(ctx, three, []byte("first")))
	must(t, h.PutCheckpoint(ctx, three, []byte("again")))
	must(t, h.PutCheckpoint(ctx, store.TreeHead{Size: 2}, []byte("late")))
	if err := h.PutCheckpoint(ctx, store.TreeHead{Size: 4}, []byte("of leaves that are not in the tree")); err == nil {
		t.Error("a checkpoint beyond the tree was taken")
	}
	newest, err := h.NewestCheckpoint(ctx)
	must(t, err)
	same(t, "newest", newest.TreeHead, three)
	same(t, "its note", string(newest.Note), "first")
	same(t, "checkpoints", len(h.checkpoints(t)), 1)
	h.cosignatures(t, three)
	// The application's login can change nothing of what was published.
	for _, statement := range []string{
		`update signedapproval_log_checkpoints set note = ''`, `delete from signedapproval_log_checkpoints`,
		`update signedapproval_log_cosignatures set line = ''`, `delete from signedapproval_log_cosignatures`,
		`update signedapproval_log_hashes set hash = sha256('')`, `delete from signedapproval_log_hashes`,
	} {
		if _, err := connect(t, h.AppURL).Exec(ctx, statement); err == nil {
			t.Errorf("the application may: %s", statement)
		}
	}
}

// cosignatures makes sure that what witnesses sign is served with the checkpoint that they signed, and with no other.
func (h *house) cosignatures(t *testing.T, newest store.TreeHead) {
	t.Helper()
	ctx := t.Context()
	one, two := store.Cosignature{Witness: "one+00", Line: []byte("1\n")}, store.Cosignature{Witness: "two+00", Line: []byte("2\n")}
	must(t, h.PutCosignature(ctx, newest.Size, two))
	must(t, h.PutCheckpoint(ctx, newest, []byte("again"), one, two)) // another server put it on record first
	must(t, h.PutCosignature(ctx, newest.Size, store.Cosignature{Witness: "one+00", Line: []byte("later\n")}))
	must(t, h.PutCosignature(ctx, 2, one)) // of what is not on record
	got, err := h.NewestCheckpoint(ctx)
	must(t, err)
	same(t, "its note", string(got.Note), "first1\n2\n")
	h.appendLeaves(t, 1)
	_, four, err := h.GrowTree(ctx)
	must(t, err)
	must(t, h.PutCheckpoint(ctx, four, []byte("four"), two))
	for _, want := range []struct {
		witnesses []string
		quorum    int
		size      int64
	}{{[]string{"one+00", "two+00"}, 2, 3}, {[]string{"one+00", "two+00"}, 1, 4}, {[]string{"one+00"}, 1, 3}, {nil, 0, 4}} {
		got, err := h.CosignedCheckpoint(ctx, want.witnesses, want.quorum)
		must(t, err)
		same(t, fmt.Sprint("cosigned by ", want.quorum, " of ", want.witnesses), got.Size, want.size)
	}
	_, err = h.CosignedCheckpoint(ctx, []string{"one+00", "three+00"}, 2)
	wantError(t, "cosigned by a stranger", err, store.ErrNotFound)
}

// TestMerkleVectors holds the verifier of proofs that these tests rely on, tlog's, to the recorded good and bad
// proofs of another implementation.
func TestMerkleVectors(t *testing.T) {
	t.Parallel()
	folder := filepath.Join("..", "..", "..", "shared", "testdata", "transparency-dev__merkle", "testdata")
	if _, err := os.Stat(filepath.Join("..", "..", "..", "shared", "testdata")); os.IsNotExist(err) {
		t.Skip("the recordings are absent: ../shared/testdata")
	}
	hash := func(b []byte) tlog.Hash {
		if len(b) == tlog.HashSize {
			return tlog.Hash(b)
		}
		return tlog.RecordHash(b) // the recordings have texts for roots that nobody looks at
	}
	good, bad := 0, 0
	each := func(kind string, check func([]byte) (wantErr bool, err error)) {
		files, err := filepath.Glob(filepath.Join(folder, kind, "*", "*.json"))
		must(t, err)
		for _, file := range files {
			data, err := os.ReadFile(file)
			must(t, err)
			wantErr, err := check(data)
			if (err != nil) != wantErr {
				t.Errorf("%s: %v", file, err)
			}
			if wantErr {
				bad++
			} else {
				good++
			}
		}
	}
	proofOf := func(proof [][]byte) (hashes []tlog.Hash, malformed bool) {
		for _, p := range proof {
			malformed = malformed || len(p) != tlog.HashSize
			hashes = append(hashes, hash(p))
		}
		return hashes, malformed
	}
	each("inclusion", func(data []byte) (bool, error) {
		var v struct {
			LeafIdx, TreeSize uint64
			Root, LeafHash    []byte
			Proof             [][]byte
			WantErr           bool
		}
		must(t, json.Unmarshal(data, &v))
		proof, malformed := proofOf(v.Proof)
		if malformed || len(v.Root) != tlog.HashSize || len(v.LeafHash) != tlog.HashSize {
			return v.WantErr, errors.New("a hash has another length")
		}
		return v.WantErr, tlog.CheckRecord(proof, int64(v.TreeSize), hash(v.Root), int64(v.LeafIdx), hash(v.LeafHash))
	})
	each("consistency", func(data []byte) (bool, error) {
		var v struct {
			Size1, Size2 uint64
			Root1, Root2 []byte
			Proof        [][]byte
			WantErr      bool
		}
		must(t, json.Unmarshal(data, &v))
		proof, malformed := proofOf(v.Proof)
		if malformed {
			return v.WantErr, errors.New("a hash has another length")
		}
		if bytes.Equal(v.Root1, v.Root2) != (hash(v.Root1) == hash(v.Root2)) {
			t.Errorf("two roots became one: %s", data)
		}
		return v.WantErr, tlog.CheckTree(proof, int64(v.Size2), hash(v.Root2), int64(v.Size1), hash(v.Root1))
	})
	if good == 0 || bad < 50 {
		t.Errorf("%d good and %d bad proofs were tried", good, bad)
	}
	t.Logf("%d good proofs, %d bad ones", good, bad)
}
