package atlassian

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// maxToken is the longest token, in bytes, that is looked at. What else a proxy lets through in a
	// header is no token of Forge's.
	maxToken = 16 << 10
	// maxDepth is how deep the JSON of a token may be nested.
	maxDepth = 32
	// maxKeyID is the longest name of a key, in bytes.
	maxKeyID = 256
)

// object is a JSON object. Its keys are matched exactly, and its numbers are json.Number.
type object = map[string]any

// parts is a token taken apart and not yet proven.
type parts struct {
	kid    string
	claims object
	raw    map[string]json.RawMessage // the claims' bytes
}

// dissect takes a token apart and refuses what no reader should have to interpret: two readers must
// not find two meanings in one token.
func dissect(token string) (parts, error) {
	switch {
	case token == "":
		return parts{}, refuse(ReasonAbsent)
	case len(token) > maxToken:
		return parts{}, refuse(ReasonTooLarge)
	}
	segments := strings.Split(token, ".")
	if len(segments) != 3 {
		return parts{}, refuse(ReasonMalformed)
	}
	var decoded [3][]byte
	for i, segment := range segments {
		var ok bool
		if decoded[i], ok = decode(segment); !ok {
			return parts{}, refuse(ReasonBase64)
		}
	}
	header, err := strictObject(decoded[0], ReasonHeader)
	if err != nil {
		return parts{}, err
	}
	var p parts
	if p.kid, err = keyID(header); err != nil {
		return parts{}, err
	}
	if p.claims, err = strictObject(decoded[1], ReasonClaims); err != nil {
		return parts{}, err
	}
	if err := json.Unmarshal(decoded[1], &p.raw); err != nil {
		return parts{}, refuse(ReasonClaims)
	}
	return p, nil
}

// decode reads base64url without padding, in its one canonical spelling. The standard decoder skips
// line breaks.
func decode(segment string) ([]byte, bool) {
	if strings.ContainsAny(segment, "\r\n") {
		return nil, false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(segment)
	return raw, err == nil
}

// keyID reads the header: what it names is looked up, what it brings along is refused.
func keyID(header object) (string, error) {
	if header["alg"] != jwt.SigningMethodRS256.Alg() {
		return "", refuse(ReasonAlgorithm)
	}
	if kind, ok := header["typ"]; ok {
		if name, isString := kind.(string); !isString || !strings.EqualFold(name, "JWT") {
			return "", refuse(ReasonType)
		}
	}
	for _, name := range []string{"crit", "b64", "zip"} {
		if _, ok := header[name]; ok {
			return "", refuse(ReasonCritical)
		}
	}
	for _, name := range []string{"jwk", "jku", "x5u", "x5c"} {
		if _, ok := header[name]; ok {
			return "", refuse(ReasonEmbeddedKey)
		}
	}
	kid, _ := header["kid"].(string)
	if !printable(kid, maxKeyID) {
		return "", refuse(ReasonKeyID)
	}
	return kid, nil
}

// printable tells whether s is some visible ASCII, at most most bytes of it.
func printable(s string, most int) bool {
	return s != "" && len(s) <= most && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' })
}

// errTwice says that an object has a key twice.
var errTwice = errors.New("a key comes twice")

// strictObject reads one JSON object in UTF-8 whose objects have no key twice; otherwise gives the
// reason.
func strictObject(raw []byte, otherwise string) (object, error) {
	if !utf8.Valid(raw) {
		return nil, refuse(otherwise)
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	value, err := strictValue(decoder, 0)
	if errors.Is(err, errTwice) {
		return nil, refuse(ReasonDuplicateKey)
	}
	if o, ok := value.(object); ok && err == nil {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			return o, nil
		}
	}
	return nil, refuse(otherwise)
}

func strictValue(decoder *json.Decoder, depth int) (any, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	delimiter, ok := token.(json.Delim)
	switch {
	case !ok:
		return token, nil
	case depth == maxDepth:
		return nil, errors.New("nested too deep")
	case delimiter == '{':
		return strictMembers(decoder, depth+1)
	default:
		return strictElements(decoder, depth+1)
	}
}

func strictMembers(decoder *json.Decoder, depth int) (object, error) {
	o := object{}
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		name, ok := key.(string)
		if !ok {
			return nil, errors.New("a key is no string")
		}
		if _, ok := o[name]; ok {
			return nil, errTwice
		}
		if o[name], err = strictValue(decoder, depth); err != nil {
			return nil, err
		}
	}
	_, err := decoder.Token() // the closing brace
	return o, err
}

func strictElements(decoder *json.Decoder, depth int) ([]any, error) {
	list := []any{}
	for decoder.More() {
		value, err := strictValue(decoder, depth)
		if err != nil {
			return nil, err
		}
		list = append(list, value)
	}
	_, err := decoder.Token() // the closing bracket
	return list, err
}
