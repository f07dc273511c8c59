package witness

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/transparency-dev/formats/log"
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
	if origin == "" || strings.ContainsFunc(origin, func(r rune) bool { return r <= ' ' || r == '+' || r > '~' }) {
		return "", "", fmt.Errorf("%q cannot name a log: it must be printable ASCII without spaces and without +", origin)
	}
	return note.GenerateKey(rand.Reader, origin)
}

// ParseKeys reads private keys as [NewKey] makes them, one a line; empty lines are passed over. Every key must
// be of the log named origin. No error quotes a key.
func ParseKeys(origin string, text []byte) (*Keys, error) {
	k := &Keys{origin: origin}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		signer, err := note.NewSigner(line)
		if err != nil {
			return nil, fmt.Errorf("log key %d is not a private key as `signedapproval log new-key` prints it", len(k.signers)+1)
		}
		if signer.Name() != origin {
			return nil, fmt.Errorf("log key %d is of the log %s, and this is %s", len(k.signers)+1, signer.Name(), origin)
		}
		verifier, err := verifierOf(origin, line)
		if err != nil {
			return nil, fmt.Errorf("log key %d: %w", len(k.signers)+1, err)
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

// verifierOf gives the verifier key that belongs to a private key, which [note.NewSigner] has accepted.
func verifierOf(origin, private string) (string, error) {
	encoded := strings.SplitN(private, "+", 5)[4] // PRIVATE+KEY+name+hash+key; base64 has plus signs too
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(key) != 1+ed25519.SeedSize {
		return "", errors.New("it is no Ed25519 key")
	}
	public, _ := ed25519.NewKeyFromSeed(key[1:]).Public().(ed25519.PublicKey)
	return note.NewEd25519VerifierKey(origin, public)
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

// read reads what a checkpoint of this log says. It does not ask who signed it: what it says is
// compared with the tree.
func (k *Keys) read(signed []byte) (Head, error) {
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
	if c.Origin != k.origin {
		return Head{}, fmt.Errorf("it is of the log %s, and this is %s", c.Origin, k.origin)
	}
	return Head{Size: int64(c.Size), Root: tlog.Hash(c.Hash)}, nil
}
