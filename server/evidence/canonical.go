package evidence

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
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
	var written bytes.Buffer
	encoder := json.NewEncoder(&written)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, refuse(CodeInvalid, "cannot be written as JSON: %v", err)
	}
	compact := bytes.TrimSuffix(written.Bytes(), []byte("\n"))
	data, plain := arrange(compact)
	if !plain {
		var err error
		if data, err = jcs.Transform(compact); err != nil {
			return nil, refuse(CodeInvalid, "cannot be written as canonical JSON: %v", err)
		}
	}
	if len(data) > limit {
		return nil, refuse(CodeTooLarge, "%d bytes are more than the limit of %d", len(data), limit)
	}
	if hasNull(data) {
		return nil, refuse(CodeInvalid, "a document holds no null")
	}
	return data, nil
}

// hasNull reports whether canonical JSON holds a null: outside of text, it is the
// only thing in which there is an n.
func hasNull(data []byte) bool {
	for len(data) > 0 {
		i := bytes.IndexAny(data, `"n`)
		if i < 0 || data[i] == 'n' {
			return i >= 0
		}
		for data = data[i+1:]; data[0] != '"'; data = data[1:] { // to the end of the text
			if data[0] == '\\' {
				data = data[1:]
			}
		}
		data = data[1:]
	}
	return false
}

// parse reads a document into v and makes sure that data is the one form of
// what was read: what v is written as. That comparison refuses white space and
// another order, and also what the standard decoder lets pass: duplicate keys,
// names in another case, nulls, numbers outside the safe range, unpaired
// surrogates, bytes after the document.
func parse(data []byte, v any, limit int) error {
	if len(data) > limit {
		return refuse(CodeTooLarge, "%d bytes are more than the limit of %d", len(data), limit)
	}
	if !utf8.Valid(data) {
		return refuse(CodeMalformed, "not UTF-8")
	}
	if json.Unmarshal(data, v) == nil {
		if again, err := canonical(v, limit); err == nil && bytes.Equal(again, data) {
			return nil
		}
	}
	// It is refused; what remains is to say why.
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	unread := decoder.Decode(v)
	form, err := jcs.Transform(data)
	switch {
	case err != nil:
		return refuse(CodeMalformed, "not a JSON document: %v", err)
	case !bytes.Equal(form, data):
		return refuse(CodeNotCanonical, "not in canonical form (RFC 8785)")
	case unread != nil:
		return refuse(CodeMalformed, "not a document of this kind: %v", unread)
	}
	return refuse(CodeNotCanonical, "not the document's one form")
}
