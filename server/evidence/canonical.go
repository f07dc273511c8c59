package evidence

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"reflect"
	"unicode/utf8"

	"github.com/gowebpki/jcs"

	"github.com/signedapproval/bitbucket/server/approval"
)

// Digest is a SHA-256 hash as 64 lower-case hexadecimal digits.
type Digest = approval.Digest

// Bytes is binary data; in JSON it is base64url without padding, in the one
// spelling that has no bits set beyond the data.
type Bytes []byte

var encoding = base64.RawURLEncoding.Strict()

// String returns the base64url form.
func (b Bytes) String() string { return encoding.EncodeToString(b) }

// MarshalText returns the base64url form.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText accepts nothing but the base64url form.
func (b *Bytes) UnmarshalText(text []byte) error {
	if bytes.ContainsAny(text, "\r\n") { // which the decoder would skip
		return errors.New("line break in base64url data")
	}
	data := make([]byte, encoding.DecodedLen(len(text)))
	n, err := encoding.Decode(data, text)
	if err != nil {
		return errors.New("data is not unpadded base64url")
	}
	*b = data[:n]
	return nil
}

// canonical returns the RFC 8785 form of v, at most limit bytes.
func canonical(v any, limit int) ([]byte, error) {
	var w writer
	if err := w.canonical(v, limit); err != nil {
		return nil, err
	}
	return w.out, nil
}

// parse reads a document into v, which points to a zero value. It accepts no other
// data than what v is written as, in one pass; see [form].
func parse(data []byte, v any, limit int) error {
	if len(data) > limit {
		return tooLong(data, limit)
	}
	if read(data, v) {
		return nil
	}
	return unreadable(data, reflect.New(reflect.TypeOf(v).Elem()).Interface())
}

func tooLong(data []byte, limit int) error {
	return refuse(CodeTooLarge, "%d bytes are more than the limit of %d", len(data), limit)
}

// unreadable says why data is not the one form of a document like v: white space
// and another order, duplicate keys, names in another case, nulls, numbers outside
// the safe range, unpaired surrogates, bytes after the document.
func unreadable(data []byte, v any) error {
	if err := CheckJSON(data); err != nil {
		return err
	}
	if !isCanonical(data) {
		return refuse(CodeNotCanonical, "not in canonical form (RFC 8785)")
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(v); err != nil {
		return refuse(CodeMalformed, "not a document of this kind: %v", err)
	}
	return refuse(CodeNotCanonical, "not the document's one form")
}

// CheckJSON makes sure that data is JSON of at most [MaxDepth] levels in which no name
// comes twice, whatever its order and white space: what has to hold of a document that
// has more than one form before a general reader sees it. Every refusal is an [*Error].
func CheckJSON(data []byte) error {
	if !utf8.Valid(data) {
		return refuse(CodeMalformed, "not UTF-8")
	}
	if approval.TooDeep(data) {
		return refuse(CodeTooLarge, "nested more than %d levels deep", approval.MaxDepth)
	}
	if _, err := jcs.Transform(data); err != nil {
		return refuse(CodeMalformed, "not a JSON document: %v", err)
	}
	return nil
}
