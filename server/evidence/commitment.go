package evidence

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"unicode/utf8"
)

// SaltSize is the length of a commitment's salt in bytes.
const SaltSize = 32

// Limits of what is committed to, in bytes.
const (
	maxAccount = 128
	maxName    = 1024
	maxComment = 64 << 10
)

// Commitment stands for a value that is not shown: HMAC-SHA-256, under a random
// salt of its own, of the value's canonical form; 64 lower-case hexadecimal
// digits. Without the salt it says nothing about the value, and no second value
// opens it.
type Commitment string

// Valid reports whether c has the form of a commitment.
func (c Commitment) Valid() bool { return Digest(c).Valid() }

// PersonOpening opens the commitment to a person. Forgetting its salt erases
// the person from the proof and leaves the proof intact.
type PersonOpening struct {
	// Salt is [SaltSize] random bytes, used for this commitment only.
	Salt Bytes `json:"salt"`
	// AccountID is the Bitbucket account id; empty when Bitbucket no longer
	// knows the account.
	AccountID string `json:"accountId"`
	// Name is the display name at the time.
	Name string `json:"name"`
}

// Commitment returns the commitment that o opens.
func (o PersonOpening) Commitment() (Commitment, error) {
	if len(o.AccountID) > maxAccount || len(o.Name) > maxName || !utf8.ValidString(o.AccountID) || !utf8.ValidString(o.Name) {
		return "", refuse(CodeInvalid, "an account id has at most %d bytes and a name %d", maxAccount, maxName)
	}
	return commit(o.Salt, struct {
		Kind      string `json:"kind"`
		AccountID string `json:"accountId"`
		Name      string `json:"name"`
	}{"person", o.AccountID, o.Name})
}

// Verify reports whether o opens c.
func (o PersonOpening) Verify(c Commitment) error { return opens(c, o.Commitment) }

// CommentOpening opens the commitment to a comment.
type CommentOpening struct {
	// Salt is [SaltSize] random bytes, used for this commitment only.
	Salt Bytes `json:"salt"`
	// Text is the comment, at most 64 KiB.
	Text string `json:"text"`
}

// Commitment returns the commitment that o opens.
func (o CommentOpening) Commitment() (Commitment, error) {
	if o.Text == "" || len(o.Text) > maxComment || !utf8.ValidString(o.Text) {
		return "", refuse(CodeInvalid, "a comment has 1 to %d bytes of text", maxComment)
	}
	return commit(o.Salt, struct {
		Kind string `json:"kind"`
		Text string `json:"text"`
	}{"comment", o.Text})
}

// Verify reports whether o opens c.
func (o CommentOpening) Verify(c Commitment) error { return opens(c, o.Commitment) }

func commit(salt Bytes, value any) (Commitment, error) {
	if len(salt) != SaltSize {
		return "", refuse(CodeInvalid, "a salt has %d bytes", SaltSize)
	}
	data, err := canonical(value, 2*maxComment+MaxStatement)
	if err != nil {
		return "", err
	}
	return Commitment(mac(salt, data)), nil
}

func opens(c Commitment, commitment func() (Commitment, error)) error {
	got, err := commitment()
	if err != nil {
		return err
	}
	if got != c {
		return refuse(CodeCommitment, "the opening does not open the commitment")
	}
	return nil
}

func mac(key, data []byte) Digest {
	h := hmac.New(sha256.New, key)
	h.Write(data)
	return Digest(hex.EncodeToString(h.Sum(nil)))
}
