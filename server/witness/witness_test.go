package witness_test

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/witness"
)

const origin = "approvals.example/log"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newKeys(t *testing.T, count int) *witness.Keys {
	t.Helper()
	var text strings.Builder
	for range count {
		private, _, err := witness.NewKey(origin)
		must(t, err)
		text.WriteString(private + "\n")
	}
	keys, err := witness.ParseKeys(origin, []byte(text.String()))
	must(t, err)
	return keys
}

// ledger is the log in a database of its own.
type ledger struct {
	*store.Store
	dbtest.Database
	t *testing.T
}

func newLedger(t *testing.T) *ledger {
	t.Helper()
	t.Parallel()
	vault, err := store.OpenVault(store.NewKeyset())
	must(t, err)
	l := &ledger{Database: dbtest.New(t), t: t}
	l.Store, err = store.Open(t.Context(), l.AppURL, vault)
	must(t, err)
	t.Cleanup(l.Close)
	return l
}

func (l *ledger) log() witness.Log {
	found := func(c store.Checkpoint, err error) (*witness.Checkpoint, error) {
		if errors.Is(err, store.ErrNotFound) {
			return nil, nil
		}
		return &witness.Checkpoint{Head: witness.Head(c.TreeHead), Note: c.Note}, err
	}
	return witness.Log{
		Size: l.LogSize,
		Grow: func(ctx context.Context) (was, head witness.Head, err error) {
			before, after, err := l.GrowTree(ctx)
			return witness.Head(before), witness.Head(after), err
		},
		Root: func(ctx context.Context, size int64) (tlog.Hash, error) { return tlog.TreeHash(size, l.Tree(ctx)) },
		Prove: func(ctx context.Context, size, old int64) (tlog.TreeProof, error) {
			return tlog.ProveTree(size, old, l.Tree(ctx))
		},
		Newest: func(ctx context.Context) (*witness.Checkpoint, error) { return found(l.NewestCheckpoint(ctx)) },
		Cosigned: func(ctx context.Context, witnesses []string, quorum int) (*witness.Checkpoint, error) {
			return found(l.CosignedCheckpoint(ctx, witnesses, quorum))
		},
		Put: func(ctx context.Context, head witness.Head, signed []byte, cosignatures []witness.Cosignature) error {
			var lines []store.Cosignature
			for _, c := range cosignatures {
				lines = append(lines, store.Cosignature(c))
			}
			return l.PutCheckpoint(ctx, store.TreeHead(head), signed, lines...)
		},
		Cosign: func(ctx context.Context, size int64, c witness.Cosignature) error {
			return l.PutCosignature(ctx, size, store.Cosignature(c))
		},
		Unpublished: l.Unpublished,
	}
}

func (l *ledger) publisher(keys *witness.Keys, sink witness.Sink) *witness.Publisher {
	return witness.New(witness.Options{Log: l.log(), Keys: keys, Sink: sink, Logger: slog.New(slog.DiscardHandler)})
}

// grow appends so many leaves and gives the size of the log.
func (l *ledger) grow(count int) int64 {
	l.t.Helper()
	must(l.t, l.append(l.t.Context(), "leaf", count))
	size, err := l.LogSize(l.t.Context())
	must(l.t, err)
	return size
}

func (l *ledger) append(ctx context.Context, text string, count int) error {
	return l.Outside(ctx, func(sh *store.Shared) error {
		for i := range count {
			entry := fmt.Appendf(nil, "%s %d", text, i)
			sh.AppendLeaf("aaaaaaaa-0000-4000-8000-000000000001", evidence.LeafHash(entry), entry, "", 0)
		}
		return nil
	})
}

// super runs SQL that nothing binds.
func (l *ledger) super(sql string) {
	l.t.Helper()
	conn, err := pgx.Connect(l.t.Context(), l.SuperURL)
	must(l.t, err)
	_, err = conn.Exec(l.t.Context(), sql)
	must(l.t, errors.Join(err, conn.Close(l.t.Context())))
}

// size is the size of the newest checkpoint on record; -1 for none.
func (l *ledger) size() int64 {
	l.t.Helper()
	newest, err := l.NewestCheckpoint(l.t.Context())
	if errors.Is(err, store.ErrNotFound) {
		return -1
	}
	must(l.t, err)
	return newest.Size
}

// verify opens a checkpoint by one verifier key and gives what it says.
func verify(t *testing.T, signed []byte, name, verifier string) (size int64, root tlog.Hash) {
	t.Helper()
	v, err := note.NewVerifier(verifier)
	must(t, err)
	opened, err := note.Open(signed, note.VerifierList(v))
	must(t, err)
	var got, encoded string
	if _, err := fmt.Sscanf(opened.Text, "%s\n%d\n%s\n", &got, &size, &encoded); err != nil || got != name || strings.Count(opened.Text, "\n") != 3 {
		t.Fatalf("%q: %v", opened.Text, err)
	}
	raw, err := base64.StdEncoding.DecodeString(encoded)
	must(t, err)
	return size, tlog.Hash(raw)
}

func TestEveryKeySigns(t *testing.T) {
	t.Parallel()
	keys := newKeys(t, 2)
	head := witness.Head{Size: 7, Root: tlog.RecordHash([]byte("anything"))}
	signed, err := keys.Sign(head)
	must(t, err)
	if len(keys.Verifiers()) != 2 {
		t.Fatalf("verifiers: %q", keys.Verifiers())
	}
	for _, verifier := range keys.Verifiers() {
		if size, root := verify(t, signed, origin, verifier); size != head.Size || root != head.Root {
			t.Errorf("%s says %d %s", verifier, size, root)
		}
	}
	stranger, err := note.NewVerifier(newKeys(t, 1).Verifiers()[0])
	must(t, err)
	if _, err := note.Open(signed, note.VerifierList(stranger)); err == nil {
		t.Error("another key verifies it")
	}
}

func TestNewKeyGivesThePairThatParseKeysKnows(t *testing.T) {
	t.Parallel()
	for range 20 { // keys with and without plus signs in their base64
		private, verifier, err := witness.NewKey(origin)
		must(t, err)
		keys, err := witness.ParseKeys(origin, []byte("\n  "+private+" \r\n"))
		must(t, err)
		if got := keys.Verifiers(); len(got) != 1 || got[0] != verifier {
			t.Fatalf("verifiers %q, want %q", got, verifier)
		}
	}
	for _, name := range []string{"", "a b", "a+b", "ä", "a\n"} {
		if _, _, err := witness.NewKey(name); err == nil {
			t.Errorf("a log may be named %q", name)
		}
	}
}

func TestParseKeysRefuses(t *testing.T) {
	t.Parallel()
	private, verifier, err := witness.NewKey(origin)
	must(t, err)
	other, _, err := witness.NewKey("other.example/log")
	must(t, err)
	for name, text := range map[string]string{
		"nothing": "", "space": " \n", "a verifier key": verifier, "a key twice": private + "\n" + private, "the key of another log": other,
		"half a key": private[:len(private)-4], "a good key and rubbish": private + "\nrubbish",
	} {
		if _, err := witness.ParseKeys(origin, []byte(text)); err == nil {
			t.Errorf("%s was taken", name)
		} else if secret := private[len(private)-20 : len(private)-4]; strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error quotes the key: %v", name, err)
		}
	}
}

// TestRecordedLog reads the checkpoints of another implementation's log, and finds their roots from its entries.
func TestRecordedLog(t *testing.T) {
	t.Parallel()
	all := filepath.Join("..", "..", "..", "shared", "testdata")
	if _, err := os.Stat(all); os.IsNotExist(err) {
		t.Skip("the recordings are absent: ../shared/testdata")
	}
	folder := filepath.Join(all, "transparency-dev__tessera", "testdata")
	verifier, err := os.ReadFile(filepath.Join(folder, "log.vkey.txt"))
	must(t, err)
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(places []int64) (hashes []tlog.Hash, err error) {
		for _, place := range places {
			hashes = append(hashes, stored[place])
		}
		return hashes, nil
	})
	for size := range int64(16) {
		signed, err := os.ReadFile(filepath.Join(folder, "log", fmt.Sprintf("checkpoint.%d", size)))
		must(t, err)
		said, root := verify(t, signed, "example.com/log/testdata", strings.TrimSpace(string(verifier)))
		if want, err := tlog.TreeHash(size, reader); err != nil || said != size || root != want {
			t.Errorf("checkpoint %d says %d %s, want %s, %v", size, said, root, want, err)
		}
		if size == 15 {
			break // what is there beyond is a full log again
		}
		bundle, err := os.ReadFile(filepath.Join(folder, "log", "tile", "entries", "000.p", fmt.Sprint(size+1)))
		must(t, err)
		for range size {
			bundle = bundle[2+binary.BigEndian.Uint16(bundle):]
		}
		hashes, err := tlog.StoredHashes(size, bundle[2:], reader)
		must(t, err)
		stored = append(stored, hashes...)
	}
}

func sinkFiles(t *testing.T, folder string) (files []string) {
	t.Helper()
	must(t, filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, strings.TrimPrefix(path, folder+"/"))
		}
		return err
	}))
	return files
}

func readFile(t *testing.T, folder, file string) []byte {
	t.Helper()
	signed, err := os.ReadFile(filepath.Join(folder, file))
	must(t, err)
	return signed
}

// sinkPath is where a folder has the checkpoint of a size.
func sinkPath(size int64) string {
	digits := fmt.Sprintf("%018d", size)
	return filepath.Join(digits[:3], digits[3:6], digits[6:9], digits[9:12], digits[12:15], digits[15:])
}

// bucketKey is the name of the checkpoint of a size in a bucket.
func bucketKey(size int64) string {
	return fmt.Sprintf("%018d-%d", 999_999_999_999_999_999-size, size)
}

// namesOf are what a sink of a kind has.
func namesOf(kind string, sizes ...int64) (names []string) {
	for _, size := range sizes {
		if kind == "bucket" {
			names = append(names, bucketKey(size))
		} else {
			names = append(names, sinkPath(size))
		}
	}
	return names
}

// sinkFile reads the checkpoint of a size.
func sinkFile(t *testing.T, folder string, size int64) []byte {
	t.Helper()
	return readFile(t, folder, sinkPath(size))
}

// Query reads one column of texts.
func (l *ledger) Query(ctx context.Context, sql string) ([]string, error) {
	conn, err := pgx.Connect(ctx, l.SuperURL)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// soon is a deadline for what hangs.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	t.Cleanup(cancel)
	return ctx
}
