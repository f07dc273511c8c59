package tiles_test

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/transparency-dev/formats/log"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/tiles"
	"github.com/signedapproval/bitbucket/server/witness"
)

const origin = "approvals.example/log"

// face is a log and its public face.
type face struct {
	t     *testing.T
	store *store.Store
	db    dbtest.Database
	keys  *witness.Keys
	url   string
}

func newFace(t *testing.T) *face {
	t.Helper()
	t.Parallel()
	f := &face{t: t, db: dbtest.New(t)}
	vault, err := store.OpenVault(store.NewKeyset())
	f.must(err)
	f.store, err = store.Open(t.Context(), f.db.AppURL, vault)
	f.must(err)
	t.Cleanup(f.store.Close)
	private, _, err := witness.NewKey(origin)
	f.must(err)
	f.keys, err = witness.ParseKeys(origin, []byte(private))
	f.must(err)
	server := httptest.NewServer(tiles.New(f.store, f.keys.Verifiers(), slog.New(slog.DiscardHandler)))
	t.Cleanup(server.Close)
	f.url = server.URL
	return f
}

func (f *face) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func entryOf(n int64) []byte {
	return fmt.Appendf(nil, "entry %d %s", n, strings.Repeat("x", int(n%300)))
}

// append appends leaves up to a size.
func (f *face) append(size int64) {
	f.t.Helper()
	first, err := f.store.LogSize(f.t.Context())
	f.must(err)
	const most = 4096 // in one transaction, which has a few seconds on a busy machine too
	for ; first < size; first += most {
		f.must(f.store.Outside(f.t.Context(), func(sh *store.Shared) error {
			for n := first; n < min(first+most, size); n++ {
				sh.AppendLeaf("aaaaaaaa-0000-4000-8000-000000000001", evidence.LeafHash(entryOf(n)), entryOf(n), "", 0)
			}
			return nil
		}))
	}
}

// publish publishes what is there and gives the note.
func (f *face) publish() []byte {
	f.t.Helper()
	_, head, err := f.store.GrowTree(f.t.Context())
	f.must(err)
	signed, err := f.keys.Sign(witness.Head(head))
	f.must(err)
	f.must(f.store.PutCheckpoint(f.t.Context(), head, signed))
	return signed
}

// reply is what came before a body.
type reply struct {
	StatusCode int
	Status     string
	Header     http.Header
}

func (f *face) get(path string) (reply, []byte) {
	f.t.Helper()
	request, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, f.url+path, nil)
	f.must(err)
	response, err := http.DefaultClient.Do(request)
	f.must(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	f.must(err)
	return reply{response.StatusCode, response.Status, response.Header}, body
}

// auditor reads a log through HTTP with the client code of golang.org/x/mod: every hash it takes from a tile was
// proved to belong to the tree.
type auditor struct{ *face }

func (auditor) Height() int { return 8 }

func (auditor) SaveTiles([]tlog.Tile, [][]byte) {}

func (a auditor) ReadTiles(wanted []tlog.Tile) (data [][]byte, err error) {
	for _, tile := range wanted {
		response, body := a.get("/log/" + strings.Replace(tile.Path(), "tile/8/", "tile/", 1))
		if response.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s: %s", tile.Path(), response.Status)
		}
		data = append(data, body)
	}
	return data, nil
}

// open verifies a checkpoint by the announced key.
func (a auditor) open(signed []byte) tlog.Tree {
	a.t.Helper()
	_, announced := a.get("/log/verifier-keys")
	verifier, err := note.NewVerifier(strings.TrimSpace(string(announced)))
	a.must(err)
	checkpoint, rest, _, err := log.ParseCheckpoint(signed, origin, verifier)
	a.must(err)
	if len(rest) > 0 {
		a.t.Errorf("the checkpoint goes on with %q", rest)
	}
	return tlog.Tree{N: int64(checkpoint.Size), Hash: tlog.Hash(checkpoint.Hash)}
}

// entries reads all entries of a tree from the bundles.
func (a auditor) entries(size int64) (entries [][]byte) {
	a.t.Helper()
	for n := int64(0); n<<8 < size; n++ {
		tile := tlog.Tile{H: 8, L: -1, N: n, W: int(min(256, size-n<<8))}
		response, bundle := a.get("/log/" + strings.Replace(tile.Path(), "tile/8/data/", "tile/entries/", 1))
		if response.StatusCode != http.StatusOK {
			a.t.Fatalf("%s: %s", tile.Path(), response.Status)
		}
		for range tile.W {
			length := int(binary.BigEndian.Uint16(bundle))
			entries, bundle = append(entries, bundle[2:2+length]), bundle[2+length:]
		}
		if len(bundle) > 0 {
			a.t.Errorf("bundle %d has %d bytes too many", n, len(bundle))
		}
	}
	return entries
}

// TestTheWholeLogThroughHTTP publishes several sizes, across the boundaries of tiles and of levels, and checks every
// inclusion and the consistency of all checkpoints with each other.
func TestTheWholeLogThroughHTTP(t *testing.T) {
	f := newFace(t)
	a := auditor{f}
	var published []tlog.Tree
	for _, size := range []int64{0, 1, 2, 255, 256, 257, 600, 66_000} {
		f.append(size)
		signed := f.publish()
		response, served := f.get("/log/checkpoint")
		if string(served) != string(signed) || response.Header.Get("Cache-Control") != "no-store" {
			t.Fatalf("checkpoint %d: %q, %v", size, served, response.Header)
		}
		tree := a.open(served)
		if tree.N != size {
			t.Fatalf("the checkpoint is of %d leaves, want %d", tree.N, size)
		}
		published = append(published, tree)
	}
	for i, tree := range published {
		reader := tlog.TileHashReader(tree, a)
		for _, older := range published[:i] {
			if older.N == 0 {
				continue // every tree begins with the empty one
			}
			proof, err := tlog.ProveTree(tree.N, older.N, reader)
			f.must(err)
			f.must(tlog.CheckTree(proof, tree.N, tree.Hash, older.N, older.Hash))
		}
	}
	newest := published[len(published)-1]
	entries := a.entries(newest.N)
	// Each hash of level 0, which the reader proves to be in the tree, is that of its entry.
	reader := tlog.TileHashReader(newest, a)
	for first := int64(0); first < newest.N; first += 256 {
		var places []int64
		for n := first; n < min(first+256, newest.N); n++ {
			places = append(places, tlog.StoredHashIndex(0, n))
		}
		hashes, err := reader.ReadHashes(places)
		f.must(err)
		for i, hash := range hashes {
			n := first + int64(i)
			if hash != tlog.RecordHash(entries[n]) || string(entries[n]) != string(entryOf(n)) {
				t.Fatalf("leaf %d is %q with the hash %s", n, entries[n], hash)
			}
		}
	}
	for _, n := range []int64{0, 255, 256, 65_535, 65_536, 65_999} {
		proof, err := tlog.ProveRecord(newest.N, n, reader)
		f.must(err)
		f.must(tlog.CheckRecord(proof, newest.N, newest.Hash, n, tlog.RecordHash(entries[n])))
	}
}

func TestPaths(t *testing.T) {
	f := newFace(t)
	f.append(300)
	f.publish()
	f.append(600) // not published
	const forever, never = "public, max-age=31536000, immutable", "no-store"
	for path, want := range map[string]struct {
		status int
		cache  string
		length int // of a tile
	}{
		"/log/tile/0/000":              {200, forever, 256 * 32},
		"/log/tile/0/000.p/1":          {200, forever, 32},
		"/log/tile/0/001.p/44":         {200, forever, 44 * 32},
		"/log/tile/1/000.p/1":          {200, forever, 32},
		"/log/tile/0/001.p/45":         {404, never, 0}, // there, and not published
		"/log/tile/0/001":              {404, never, 0},
		"/log/tile/0/002.p/1":          {404, never, 0},
		"/log/tile/1/000":              {404, never, 0},
		"/log/tile/1/000.p/2":          {404, never, 0},
		"/log/tile/2/000.p/1":          {404, never, 0},
		"/log/tile/63/000.p/1":         {404, never, 0},
		"/log/tile/entries/001.p/45":   {404, never, 0},
		"/log/tile/entries/001":        {404, never, 0},
		"/log/tile/0/x001/x234/067":    {404, never, 0},
		"/log/tile/64/000":             {400, never, 0},
		"/log/tile/00/000":             {400, never, 0},
		"/log/tile/-1/000":             {400, never, 0},
		"/log/tile/+0/000":             {400, never, 0},
		"/log/tile/0/0":                {400, never, 0},
		"/log/tile/0/0000":             {400, never, 0},
		"/log/tile/0/x000/000":         {400, never, 0},
		"/log/tile/0/001/234":          {400, never, 0},
		"/log/tile/0/x001":             {400, never, 0},
		"/log/tile/0/000.p/0":          {400, never, 0},
		"/log/tile/0/000.p/256":        {400, never, 0},
		"/log/tile/0/000.p/01":         {400, never, 0},
		"/log/tile/0/000.p":            {400, never, 0},
		"/log/tile/0/000/":             {400, never, 0},
		"/log/tile/0":                  {400, never, 0},
		"/log/tile/":                   {400, never, 0},
		"/log/tile/data/000":           {400, never, 0},
		"/log/tile/8/0/000":            {400, never, 0},
		"/log/tile/entries/000.p/1/2":  {400, never, 0},
		"/log/tile/0/%30%30%30":        {400, never, 0},
		"/log/tile/0/" + longest:       {404, never, 0},
		"/log/tile/0/x999/" + longest:  {400, never, 0},
		"/log/tile/entries/" + longest: {404, never, 0},
		"/log/tiles":                   {404, never, 0},
		"/log/":                        {404, never, 0},
		"/log/checkpoint/":             {404, never, 0},
		"/log/checkpoints":             {404, never, 0},
	} {
		response, body := f.get(path)
		if response.StatusCode != want.status || response.Header.Get("Cache-Control") != want.cache || want.status == 200 && len(body) != want.length {
			t.Errorf("%s: %s, %q, %d bytes", path, response.Status, response.Header.Get("Cache-Control"), len(body))
		}
		if want.status == 200 && response.Header.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("%s is %s", path, response.Header.Get("Content-Type"))
		}
	}
	response, bundle := f.get("/log/tile/entries/000.p/2")
	if want := slices.Concat(prefixed(entryOf(0)), prefixed(entryOf(1))); response.StatusCode != 200 || string(bundle) != string(want) {
		t.Errorf("bundle: %s, %q", response.Status, bundle)
	}
}

// longest is the largest number of a tile that a path can name in the log's numbers, and one more group.
const longest = "x009/x223/x372/x036/x854/x775/807"

func prefixed(entry []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(entry))), entry...)
}

func TestBeforeTheFirstCheckpoint(t *testing.T) {
	f := newFace(t)
	f.append(3)
	for _, path := range []string{"/log/checkpoint", "/log/tile/0/000.p/1", "/log/tile/entries/000.p/1"} {
		if response, body := f.get(path); response.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s %q", path, response.Status, body)
		}
	}
}

func TestALogThatCannotBeRead(t *testing.T) {
	f := newFace(t)
	f.append(3)
	f.publish()
	conn, err := pgx.Connect(t.Context(), f.db.SuperURL)
	f.must(err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	_, err = conn.Exec(t.Context(), `delete from signedapproval_leaves where index = 1`)
	f.must(err)
	for _, path := range []string{"/log/tile/0/000.p/3", "/log/tile/entries/000.p/3"} {
		response, body := f.get(path)
		if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Cache-Control") != "no-store" || response.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %s %q %v", path, response.Status, body, response.Header)
		}
	}
	f.store.Close()
	if response, _ := f.get("/log/checkpoint"); response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("without a database: %s", response.Status)
	}
}

func TestVerifierKeysAreThoseThatSign(t *testing.T) {
	f := newFace(t)
	_, announced := f.get("/log/verifier-keys")
	if want := strings.Join(f.keys.Verifiers(), "\n") + "\n"; string(announced) != want {
		t.Errorf("announced: %q, want %q", announced, want)
	}
	_, key, _ := strings.Cut(strings.TrimSpace(string(announced)), "+")
	hash, encoded, _ := strings.Cut(key, "+")
	if raw, err := base64.StdEncoding.DecodeString(encoded); err != nil || len(raw) != 33 || raw[0] != 1 {
		t.Errorf("the key is %q: %v", encoded, err)
	}
	if _, err := strconv.ParseUint(hash, 16, 32); err != nil {
		t.Errorf("its hash is %q", hash)
	}
}
