package witnesstest_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	formats "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/internal/witnesstest"
)

const origin = "example.com/log"

// tree is a log in memory.
type tree struct {
	t      *testing.T
	stored []tlog.Hash
	size   int64
	signer note.Signer
	key    string
}

func newTree(t *testing.T) *tree {
	t.Helper()
	private, public, err := note.GenerateKey(rand.Reader, origin)
	must(t, err)
	signer, err := note.NewSigner(private)
	must(t, err)
	return &tree{t: t, signer: signer, key: public}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (l *tree) reader() tlog.HashReader {
	return tlog.HashReaderFunc(func(places []int64) (hashes []tlog.Hash, err error) {
		for _, place := range places {
			hashes = append(hashes, l.stored[place])
		}
		return hashes, nil
	})
}

func (l *tree) grow(text string, count int) {
	for range count {
		hashes, err := tlog.StoredHashes(l.size, fmt.Appendf(nil, "%s %d", text, l.size), l.reader())
		must(l.t, err)
		l.stored = append(l.stored, hashes...)
		l.size++
	}
}

func (l *tree) text() string {
	root, err := tlog.TreeHash(l.size, l.reader())
	must(l.t, err)
	return fmt.Sprintf("%s\n%d\n%s\n", origin, l.size, base64.StdEncoding.EncodeToString(root[:]))
}

func (l *tree) sign(text string) string {
	signed, err := note.Sign(&note.Note{Text: text}, l.signer)
	must(l.t, err)
	return string(signed)
}

func (l *tree) proof(old int64) (lines string) {
	if old == 0 || old >= l.size {
		return ""
	}
	proof, err := tlog.ProveTree(l.size, old, l.reader())
	must(l.t, err)
	for _, hash := range proof {
		lines += base64.StdEncoding.EncodeToString(hash[:]) + "\n"
	}
	return lines
}

func post(t *testing.T, w *witnesstest.Witness, body string) *httptest.ResponseRecorder {
	t.Helper()
	got := httptest.NewRecorder()
	w.ServeHTTP(got, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/add-checkpoint", strings.NewReader(body)))
	return got
}

func TestTheProtocol(t *testing.T) {
	t.Parallel()
	w, err := witnesstest.New("witness.example/w")
	must(t, err)
	l := newTree(t)
	must(t, w.Follow(l.key))
	verifier, err := formats.NewVerifierForCosignatureV1(w.Key())
	must(t, err)
	for _, more := range []int{3, 1, 0, 300} {
		old := w.Seen(origin)
		l.grow("leaf", more)
		signed := l.sign(l.text())
		got := post(t, w, fmt.Sprintf("old %d\n%s\n%s", old, l.proof(old), signed))
		if got.Code != http.StatusOK {
			t.Fatalf("%d %s", got.Code, got.Body)
		}
		if _, err := note.Open([]byte(signed+got.Body.String()), note.VerifierList(verifier)); err != nil {
			t.Error(err)
		}
	}
	// Monitors see the same.
	seen := httptest.NewRecorder()
	w.ServeHTTP(seen, httptest.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("/%x/checkpoint", sha256.Sum256([]byte(origin))), nil))
	if opened, err := note.Open(seen.Body.Bytes(), note.VerifierList(verifier)); err != nil || opened.Text != l.text() {
		t.Errorf("%d %s: %v", seen.Code, seen.Body, err)
	}

	good := l.sign(l.text())
	fork := newTree(t)
	fork.signer = l.signer
	fork.grow("another", 310)
	l.grow("leaf", 6)
	signed, proof := l.sign(l.text()), l.proof(304)
	stranger := newTree(t)
	for name, test := range map[string]struct {
		body   string
		status int
	}{
		"a proof from less":     {"old 200\n" + l.proof(200) + "\n" + signed, 409},
		"from nothing":          {"old 0\n\n" + signed, 409},
		"a rollback":            {"old 304\n\n" + l.sign(strings.Replace(l.text(), "\n310\n", "\n300\n", 1)), 400},
		"a rollback from less":  {"old 300\n\n" + l.sign(strings.Replace(l.text(), "\n310\n", "\n300\n", 1)), 409},
		"no proof":              {"old 304\n\n" + signed, 422},
		"another proof":         {"old 304\n" + l.proof(303) + "\n" + signed, 422},
		"a fork":                {"old 304\n" + fork.proof(304) + "\n" + fork.sign(fork.text()), 422},
		"a fork of one size":    {"old 304\n\n" + l.sign(strings.Replace(l.text(), "\n310\n", "\n304\n", 1)), 422},
		"no signature":          {"old 304\n" + proof + "\n" + stranger.sign(l.text()), 403},
		"a wrong signature":     {"old 304\n" + proof + "\n" + strings.Replace(good, "\n304\n", "\n310\n", 1), 403},
		"another log":           {"old 0\n\n" + l.sign("other.example\n"+strings.SplitN(l.text(), "\n", 2)[1]), 404},
		"no old size":           {proof + "\n" + signed, 400},
		"an old size with zero": {"old 0304\n" + proof + "\n" + signed, 400},
		"no empty line":         {"old 304", 400},
		"a proof of rubbish":    {"old 304\nrubbish\n\n" + signed, 400},
		"a long proof":          {"old 304\n" + strings.Repeat(base64.StdEncoding.EncodeToString(make([]byte, 32))+"\n", 64) + "\n" + signed, 400},
		"a long request":        {"old 304\n\n" + signed + strings.Repeat("a", 1<<20), 400},
	} {
		got := post(t, w, test.body)
		if got.Code != test.status {
			t.Errorf("%s: %d %s, want %d", name, got.Code, got.Body, test.status)
		}
		if got.Code == http.StatusConflict && (got.Body.String() != "304\n" || got.Header().Get("Content-Type") != "text/x.tlog.size") {
			t.Errorf("%s: %q as %s", name, got.Body, got.Header().Get("Content-Type"))
		}
		if w.Seen(origin) != 304 {
			t.Fatalf("%s: it has seen %d", name, w.Seen(origin))
		}
	}
	if got := post(t, w, "old 304\n"+proof+"\n"+signed); got.Code != http.StatusOK {
		t.Errorf("%d %s", got.Code, got.Body)
	}
}
