// Package witnesstest is a witness of transparency logs for tests and the demo. It speaks the protocol of C2SP
// tlog-witness as it is written, and shares no code with the server, so that it believes nothing that the
// server believes: it checks the log's signature and each proof, and signs for nobody who takes leaves
// back or shows another tree.
package witnesstest

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	formats "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	// maxRequest bounds a request, in bytes.
	maxRequest = 64 << 10
	// maxProof is how many lines a proof may have.
	maxProof = 63
)

// Witness is one witness, in memory. It is an [http.Handler] for the addresses below its prefix:
// POST /add-checkpoint, and GET /<hash of the origin>/checkpoint. It is safe for concurrent use.
type Witness struct {
	signer note.Signer
	key    string
	http.ServeMux

	guard sync.Mutex
	logs  map[string]*log // by origin
}

// log is what a witness knows of one.
type log struct {
	verifiers []note.Verifier
	tree      tlog.Tree // the largest that it cosigned
	signed    []byte    // with its cosignature; nil for none
}

// New makes a witness with a new Ed25519 key. Its name has no space and no plus sign.
func New(name string) (*Witness, error) {
	private, public, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return nil, err
	}
	key, err := formats.VKeyToCosignatureV1(public)
	if err != nil {
		return nil, err
	}
	return newWitness(private, key)
}

// NewMLDSA makes a witness with a new ML-DSA-44 key.
func NewMLDSA(name string) (*Witness, error) {
	private, key, err := formats.GenerateMLDSAKey(name)
	if err != nil {
		return nil, err
	}
	return newWitness(private, key)
}

func newWitness(private, key string) (*Witness, error) {
	signer, err := formats.NewSignerForCosignatureV1(private)
	if err != nil {
		return nil, err
	}
	w := &Witness{signer: signer, key: key, logs: map[string]*log{}}
	w.HandleFunc("POST /add-checkpoint", w.addCheckpoint)
	w.HandleFunc("GET /{origin}/checkpoint", w.checkpoint)
	return w, nil
}

// Key is its verifier key for cosignatures, in the encoding of signed notes.
func (w *Witness) Key() string { return w.key }

// Follow makes it a witness of the log that has these verifier keys, all of one name, which is the log's origin. What
// it has seen of the log it keeps.
func (w *Witness) Follow(keys ...string) error {
	var verifiers []note.Verifier
	for _, key := range keys {
		verifier, err := formats.NewVerifier(key)
		if err != nil {
			return err
		}
		verifiers = append(verifiers, verifier)
	}
	w.guard.Lock()
	defer w.guard.Unlock()
	for _, verifier := range verifiers {
		known := w.logs[verifier.Name()]
		if known == nil {
			known = &log{}
			w.logs[verifier.Name()] = known
		}
		known.verifiers = append(known.verifiers, verifier)
	}
	return nil
}

// Seen is the size of the largest tree of a log that it cosigned; 0 if there is none.
func (w *Witness) Seen(origin string) int64 {
	w.guard.Lock()
	defer w.guard.Unlock()
	if known := w.logs[origin]; known != nil {
		return known.tree.N
	}
	return 0
}

// request is what add-checkpoint is asked.
type request struct {
	old    int64
	proof  tlog.TreeProof
	signed []byte
}

func parse(body []byte) (r request, err error) {
	head, signed, ok := bytes.Cut(body, []byte("\n\n"))
	if !ok {
		return r, errors.New("there is no empty line")
	}
	r.signed = signed
	for i, line := range strings.Split(string(head), "\n") {
		if i == 0 {
			digits, ok := strings.CutPrefix(line, "old ")
			if r.old, err = size(digits); !ok || err != nil {
				return r, errors.New("there is no old size")
			}
			continue
		}
		hash, err := base64.StdEncoding.Strict().DecodeString(line)
		if err != nil || len(hash) != tlog.HashSize || len(r.proof) == maxProof {
			return r, errors.New("the proof is none")
		}
		r.proof = append(r.proof, tlog.Hash(hash))
	}
	return r, nil
}

// size reads a decimal number without leading zeroes.
func size(digits string) (int64, error) {
	n, err := strconv.ParseInt(digits, 10, 64)
	if err == nil && (n < 0 || strconv.FormatInt(n, 10) != digits) {
		err = errors.New("it is not written so")
	}
	return n, err
}

// parseTree reads the first three lines of a checkpoint.
func parseTree(text string) (origin string, tree tlog.Tree, err error) {
	lines := strings.Split(text, "\n")
	if len(lines) < 4 {
		return "", tree, errors.New("it has too few lines")
	}
	if tree.N, err = size(lines[1]); err != nil {
		return "", tree, err
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return "", tree, errors.New("it has no root")
	}
	tree.Hash = tlog.Hash(root)
	return lines[0], tree, nil
}

func (w *Witness) addCheckpoint(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, maxRequest))
	if err != nil {
		http.Error(rw, "The request is too long.", http.StatusBadRequest)
		return
	}
	asked, err := parse(body)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	status, answer := w.add(asked)
	if status == http.StatusConflict {
		rw.Header().Set("Content-Type", "text/x.tlog.size")
	} else {
		rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
	}
	rw.WriteHeader(status)
	_, _ = io.WriteString(rw, answer)
}

// add cosigns a checkpoint or says why not. What is checked and what is kept are one step, or two requests at once could
// take leaves back.
func (w *Witness) add(asked request) (status int, answer string) {
	w.guard.Lock()
	defer w.guard.Unlock()
	origin, _, _ := strings.Cut(string(asked.signed), "\n")
	known := w.logs[origin]
	if known == nil {
		return http.StatusNotFound, "This log is not followed.\n"
	}
	opened, err := note.Open(asked.signed, note.VerifierList(known.verifiers...))
	if err != nil {
		return http.StatusForbidden, "No key of the log signed this.\n"
	}
	_, tree, err := parseTree(opened.Text)
	switch {
	case err != nil:
		return http.StatusBadRequest, "This is no checkpoint.\n"
	case asked.old > tree.N:
		return http.StatusBadRequest, "The old size is above the new one.\n"
	case asked.old != known.tree.N:
		return http.StatusConflict, fmt.Sprintf("%d\n", known.tree.N)
	case tree.N == 0 && tree.Hash != tlog.Hash(sha256.Sum256(nil)):
		return http.StatusUnprocessableEntity, "This is not the empty tree.\n"
	case asked.old == 0 && len(asked.proof) > 0:
		return http.StatusUnprocessableEntity, "From nothing there is no proof.\n"
	case asked.old > 0 && asked.old == tree.N && (tree.Hash != known.tree.Hash || len(asked.proof) > 0):
		return http.StatusUnprocessableEntity, "This is another tree.\n"
	case asked.old > 0 && asked.old < tree.N && tlog.CheckTree(asked.proof, tree.N, tree.Hash, known.tree.N, known.tree.Hash) != nil:
		return http.StatusUnprocessableEntity, "The proof does not lead here.\n"
	}
	signature, err := w.signer.Sign([]byte(opened.Text))
	if err != nil {
		return http.StatusInternalServerError, "It cannot sign.\n"
	}
	line := fmt.Sprintf("— %s %s\n", w.signer.Name(), base64.StdEncoding.EncodeToString(
		append(binary.BigEndian.AppendUint32(nil, w.signer.KeyHash()), signature...)))
	known.tree, known.signed = tree, append(bytes.Clone(asked.signed), line...)
	return http.StatusOK, line
}

// checkpoint shows what it cosigned last, to monitors.
func (w *Witness) checkpoint(rw http.ResponseWriter, r *http.Request) {
	w.guard.Lock()
	defer w.guard.Unlock()
	for origin, known := range w.logs {
		if fmt.Sprintf("%x", sha256.Sum256([]byte(origin))) == r.PathValue("origin") && known.signed != nil {
			rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = rw.Write(known.signed)
			return
		}
	}
	http.NotFound(rw, r)
}
