package witness

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"filippo.io/mldsa"
	"github.com/transparency-dev/formats/log"
	formats "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Keys sign the checkpoints of one log. All of them sign each checkpoint, so that verifiers that know any of them go
// on while keys are exchanged.
type Keys struct {
	origin    string
	signers   []note.Signer
	verifiers []string
}

// NewKey makes an Ed25519 key pair for the log named origin, in the encoding of signed notes. The private key is
// a secret; the verifier key is what auditors pin.
func NewKey(origin string) (private, verifier string, err error) {
	if err := named(origin); err != nil {
		return "", "", err
	}
	return note.GenerateKey(rand.Reader, origin)
}

// NewMLDSAKey makes an ML-DSA-44 key pair as [NewKey] does an Ed25519 one, to sign beside it: a signature that a quantum
// computer does not forge. Its signatures are those of C2SP tlog-cosignature, so they carry a time.
func NewMLDSAKey(origin string) (private, verifier string, err error) {
	if err := named(origin); err != nil {
		return "", "", err
	}
	return formats.GenerateMLDSAKey(origin)
}

func named(origin string) error {
	if origin == "" || strings.ContainsFunc(origin, func(r rune) bool { return r <= ' ' || r == '+' || r > '~' }) {
		return fmt.Errorf("%q cannot name a log: it must be printable ASCII without spaces and without +", origin)
	}
	return nil
}

// ParseKeys reads private keys as [NewKey] and [NewMLDSAKey] make them, one a line; empty lines are passed over. Every
// key must be of the log named origin. No error quotes a key.
func ParseKeys(origin string, text []byte) (*Keys, error) {
	k := &Keys{origin: origin}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		signer, verifier, err := parseKey(line)
		if err != nil {
			return nil, fmt.Errorf("log key %d is not a private key as `signedapproval log new-key` prints it", len(k.signers)+1)
		}
		if signer.Name() != origin {
			return nil, fmt.Errorf("log key %d is of the log %s, and this is %s", len(k.signers)+1, signer.Name(), origin)
		}
		if slices.Contains(k.verifiers, verifier) {
			return nil, fmt.Errorf("log key %d is there twice", len(k.signers)+1)
		}
		k.signers, k.verifiers = append(k.signers, signer), append(k.verifiers, verifier)
	}
	if len(k.signers) == 0 {
		return nil, errors.New("there is no log key; `signedapproval log new-key` makes one")
	}
	return k, nil
}

// parseKey reads one private key, and tells the verifier key that belongs to it.
func parseKey(line string) (note.Signer, string, error) {
	parts := strings.SplitN(line, "+", 5) // PRIVATE+KEY+name+hash+key; base64 has plus signs too
	if len(parts) != 5 {
		return nil, "", errors.New("it has too few parts")
	}
	key, err := base64.StdEncoding.DecodeString(parts[4])
	if err != nil || len(key) == 0 {
		return nil, "", errors.New("it is not base64")
	}
	var signer note.Signer
	var verifier string
	switch algorithm, secret := key[0], key[1:]; algorithm {
	case algorithmEd25519:
		if signer, err = note.NewSigner(line); err != nil {
			return nil, "", err
		}
		public, _ := ed25519.NewKeyFromSeed(secret).Public().(ed25519.PublicKey)
		verifier, err = note.NewEd25519VerifierKey(parts[2], public)
	case algorithmMLDSA44:
		if signer, err = formats.NewMLDSASigner(line); err != nil {
			return nil, "", err
		}
		private, err := mldsa.NewPrivateKey(mldsa.MLDSA44(), secret)
		if err != nil {
			return nil, "", err
		}
		public := append([]byte{algorithm}, private.PublicKey().Bytes()...)
		verifier = fmt.Sprintf("%s+%08x+%s", parts[2], signer.KeyHash(), base64.StdEncoding.EncodeToString(public))
	default:
		return nil, "", errors.New("it is of another kind")
	}
	if err == nil && fmt.Sprintf("%08x", signer.KeyHash()) != parts[3] {
		err = errors.New("its hash is not its own")
	}
	return signer, verifier, err
}

// The kinds of signatures that C2SP signed-note and tlog-cosignature give a number, in the first byte of a key.
const (
	algorithmEd25519            = 1
	algorithmEd25519Cosignature = 4
	algorithmMLDSA44            = 6
)

// Join gives the keys of both, for one log: all of them sign.
func Join(a, b *Keys) (*Keys, error) {
	if a.origin != b.origin {
		return nil, fmt.Errorf("the keys of the logs %s and %s cannot be joined", a.origin, b.origin)
	}
	for _, verifier := range b.verifiers {
		if slices.Contains(a.verifiers, verifier) {
			return nil, errors.New("a log key is there twice")
		}
	}
	return &Keys{origin: a.origin, signers: slices.Concat(a.signers, b.signers), verifiers: slices.Concat(a.verifiers, b.verifiers)}, nil
}

// Verifiers gives the verifier keys, in the encoding of signed notes: they are public.
func (k *Keys) Verifiers() []string { return slices.Clone(k.verifiers) }

// Head is the log's tree at one size.
type Head struct {
	Size int64     // in leaves
	Root tlog.Hash // RFC 6962
}

// Sign gives the signed note of a checkpoint (C2SP tlog-checkpoint).
func (k *Keys) Sign(head Head) ([]byte, error) {
	if head.Size < 0 {
		return nil, fmt.Errorf("a tree of %d leaves cannot be signed", head.Size)
	}
	text := log.Checkpoint{Origin: k.origin, Size: uint64(head.Size), Hash: head.Root[:]}.Marshal()
	signed, err := note.Sign(&note.Note{Text: string(text)}, k.signers...)
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint %d: %w", head.Size, err)
	}
	return signed, nil
}

// readHead reads what a checkpoint of the log named origin says. It does not ask who signed it: what it says is
// compared with the tree.
func readHead(origin string, signed []byte) (Head, error) {
	opened, err := note.Open(signed, note.VerifierList())
	var unverified *note.UnverifiedNoteError
	if errors.As(err, &unverified) {
		opened, err = unverified.Note, nil
	}
	if err != nil {
		return Head{}, errors.New("it is not a signed note")
	}
	var c log.Checkpoint
	rest, err := c.Unmarshal([]byte(opened.Text))
	if err != nil || len(rest) > 0 || len(c.Hash) != tlog.HashSize || c.Size > maxSize {
		return Head{}, errors.New("it is not a checkpoint")
	}
	if c.Origin != origin {
		return Head{}, fmt.Errorf("it is of the log %s, and this is %s", c.Origin, origin)
	}
	return Head{Size: int64(c.Size), Root: tlog.Hash(c.Hash)}, nil
}
