package evidence

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/gowebpki/jcs"
)

// reader reads a document from at on, in one pass: whether it is JSON, whether it
// is in its one form and what it says.
type reader struct {
	data  []byte
	in    string // the same; the texts that are read are parts of it
	at    int
	depth int
	nulls bool // are allowed
	free  []byte

	key     []byte           // the bytes of the last [Key] that was read
	changes []*rosterVersion // those of [RosterDocuments], nil for what is none
}

func newReader(data []byte) *reader { return &reader{data: data, in: string(data)} }

// read reads the document data into v, which points to a zero value, and reports
// whether data is its one form. Raw messages in v are parts of data afterwards. What
// is in v when it is not the one form means nothing.
func read(data []byte, v any) bool {
	return newReader(data).document(v)
}

// document reads all that there is, as [read] says.
func (r *reader) document(v any) bool {
	value := reflect.ValueOf(v).Elem()
	return formOf(value.Type()).read(r, value) && r.at == len(r.in)
}

// isCanonical reports whether data is JSON in the form of RFC 8785 and not too deep,
// whatever it says.
func isCanonical(data []byte) bool {
	r := reader{data: data, in: string(data), nulls: true}
	return r.value() && r.at == len(r.in)
}

// next takes one byte if it is c.
func (r *reader) next(c byte) bool {
	if r.at < len(r.in) && r.in[r.at] == c {
		r.at++
		return true
	}
	return false
}

// word takes a word if it is there.
func (r *reader) word(w string) bool {
	if strings.HasPrefix(r.in[r.at:], w) {
		r.at += len(w)
		return true
	}
	return false
}

// into takes the bracket of an object or a list.
func (r *reader) into(bracket byte) bool {
	r.depth++
	return r.depth <= MaxDepth && r.next(bracket)
}

// out takes the bracket at the end of an object or a list.
func (r *reader) out(bracket byte) bool {
	r.depth--
	return r.next(bracket)
}

// object takes an object that has these members, those that may be omitted only
// where they are not empty. Both are in order, so no name need be looked for.
func (r *reader) object(members []member, v reflect.Value) bool {
	if !r.into('{') {
		return false
	}
	first := true
	for i := range members {
		m := &members[i]
		at := r.at
		if (first || r.next(',')) && r.word(m.name) {
			first = false
			field := m.field(v)
			if !m.form.read(r, field) || m.omit && m.form.empty != nil && m.form.empty(field) {
				return false
			}
			continue
		}
		if r.at = at; !m.omit || m.form.empty == nil {
			return false
		}
	}
	return r.out('}')
}

func (r *reader) list(of *form, v reflect.Value) bool {
	if !r.into('[') {
		return false
	}
	if r.in[r.at:] != "" && r.in[r.at] == ']' {
		v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		return r.out(']')
	}
	for n := 0; n == 0 || r.next(','); n++ {
		if n == v.Cap() {
			v.Grow(max(n, 4))
		}
		v.SetLen(n + 1)
		if !of.read(r, v.Index(n)) {
			return false
		}
	}
	return r.out(']')
}

// value takes anything.
func (r *reader) value() bool {
	if r.at == len(r.in) {
		return false
	}
	switch r.in[r.at] {
	case '{':
		return r.anyObject()
	case '[':
		if !r.into('[') {
			return false
		}
		for first := true; first && !strings.HasPrefix(r.in[r.at:], "]") || r.next(','); first = false {
			if !r.value() {
				return false
			}
		}
		return r.out(']')
	case '"':
		_, _, ok := r.quoted()
		return ok
	case 't':
		return r.word("true")
	case 'f':
		return r.word("false")
	case 'n':
		return r.nulls && r.word("null")
	}
	_, ok := r.number()
	return ok
}

func (r *reader) anyObject() bool {
	if !r.into('{') {
		return false
	}
	before := ""
	for first := true; first && !strings.HasPrefix(r.in[r.at:], "}") || r.next(','); first = false {
		name, _, ok := r.quoted()
		if !ok || !first && compareNames(before, name) >= 0 || !r.next(':') || !r.value() {
			return false
		}
		before = name
	}
	return r.out('}')
}

// members takes an object whose members may be in any order, each once, with nothing
// escaped in their names and canonical values.
func (r *reader) members() (map[string]json.RawMessage, bool) {
	if !r.into('{') {
		return nil, false
	}
	members := map[string]json.RawMessage{}
	for first := true; first && !strings.HasPrefix(r.in[r.at:], "}") || r.next(','); first = false {
		name, escaped, ok := r.quoted()
		if _, twice := members[name]; !ok || escaped || twice || !r.next(':') {
			return nil, false
		}
		from := r.at
		if !r.value() {
			return nil, false
		}
		members[name] = r.data[from:r.at:r.at]
	}
	return members, r.out('}')
}

// compareNames orders names, as they stand between their quotes, by their UTF-16
// code units.
func compareNames(a, b string) int {
	odd := func(s string) bool {
		for i := range len(s) {
			if s[i] >= utf8.RuneSelf || s[i] == '\\' {
				return true
			}
		}
		return false
	}
	if odd(a) || odd(b) {
		return slices.Compare(utf16.Encode([]rune(unescaped(a))), utf16.Encode([]rune(unescaped(b))))
	}
	return cmp.Compare(a, b)
}

// quoted takes a text in which nothing is escaped but what has to be, and that in
// the shortest way. It returns what is between the quotes, and whether something is
// escaped in it.
func (r *reader) quoted() (raw string, escaped, ok bool) {
	if !r.next('"') {
		return "", false, false
	}
	rest := r.in[r.at:]
	ascii := true
	for i := plainWords(r.data[r.at:]); i < len(rest); i++ {
		c := rest[i]
		switch {
		case plain[c]:
		case c == '"':
			r.at += i + 1
			return rest[:i], escaped, ascii || utf8.ValidString(rest[:i])
		case c >= utf8.RuneSelf:
			ascii = false
		case c == '\\':
			n := escape(rest[i:])
			if n == 0 {
				return "", false, false
			}
			escaped = true
			i += n - 1
		default:
			return "", false, false
		}
	}
	return "", false, false
}

// plainWords returns how many bytes at the beginning of data stand for themselves, as far
// as whole words of eight of them do.
func plainWords(data []byte) (n int) {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	for ; len(data)-n >= 8; n += 8 {
		w := binary.LittleEndian.Uint64(data[n:])
		quote, slash := w^ones*'"', w^ones*'\\'
		// The high bit of a byte is set where it has that bit, is below a space, or zero after the xor; a borrow
		// can set more of them, but only above one that is.
		if (w|(w-ones*' ')|(quote-ones)|(slash-ones))&high != 0 {
			break
		}
	}
	return n
}

// escape returns the length of the escape with which s begins; 0 if it is not the
// one that RFC 8785 has for its character.
func escape(s string) int {
	if len(s) >= 2 && strings.IndexByte(`"\bfnrt`, s[1]) >= 0 {
		return 2
	}
	if len(s) < 6 || s[1:4] != "u00" || s[4] != '0' && s[4] != '1' || strings.IndexByte("0123456789abcdef", s[5]) < 0 || short(code(s)) != 0 {
		return 0
	}
	return 6
}

// code returns the character of an escape of six.
func code(s string) byte {
	n, _ := strconv.ParseUint(s[2:6], 16, 8) // as its caller has seen
	return byte(n)
}

// unescaped returns the text that stands between quotes.
func unescaped(raw string) string {
	var text strings.Builder
	for {
		i := strings.IndexByte(raw, '\\')
		if i < 0 {
			text.WriteString(raw)
			return text.String()
		}
		text.WriteString(raw[:i])
		if raw = raw[i:]; raw[1] == 'u' {
			text.WriteByte(code(raw))
			raw = raw[6:]
			continue
		}
		text.WriteByte("\"\\\b\f\n\r\t"[strings.IndexByte(`"\bfnrt`, raw[1])])
		raw = raw[2:]
	}
}

// number takes a number as RFC 8785 writes it.
func (r *reader) number() (text string, ok bool) {
	from := r.at
	r.next('-')
	digits := r.at
	for r.at < len(r.in) && r.in[r.at] >= '0' && r.in[r.at] <= '9' {
		r.at++
	}
	whole := r.at - digits
	for r.at < len(r.in) && strings.IndexByte("0123456789.eE+-", r.in[r.at]) >= 0 {
		r.at++
	}
	text = r.in[from:r.at]
	if r.at == digits+whole && whole > 0 && whole <= 15 {
		return text, r.in[digits] != '0' || whole == 1 && digits == from
	}
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return "", false
	}
	form, err := jcs.NumberToJSON(value)
	return text, err == nil && form == text
}

func readText(r *reader, v reflect.Value) bool {
	raw, escaped, ok := r.quoted()
	if escaped {
		raw = unescaped(raw)
	}
	v.SetString(raw)
	return ok
}

func readBool(r *reader, v reflect.Value) bool {
	v.SetBool(r.word("true"))
	return v.Bool() || r.word("false")
}

func readNumber(r *reader, v reflect.Value) bool {
	text, ok := r.number()
	if !ok {
		return false
	}
	n, err := strconv.ParseInt(text, 10, v.Type().Bits())
	v.SetInt(n)
	return err == nil
}

// room returns size bytes for what is read. Small ones share an allocation: most of what is read
// is ids, keys and hashes.
func (r *reader) room(size int) []byte {
	const shared = 4 << 10
	if size > shared/8 {
		return make([]byte, size)
	}
	if len(r.free) < max(size, 1) {
		r.free = make([]byte, min(shared, encoding.DecodedLen(len(r.data)-r.at)))
	}
	data := r.free[:size:size]
	r.free = r.free[size:]
	return data
}

// readData takes base64url, of which there is nothing to escape.
func readData(r *reader, v reflect.Value) bool {
	if !r.next('"') {
		return false
	}
	size := bytes.IndexByte(r.data[r.at:], '"')
	if size < 0 {
		return false
	}
	text := r.data[r.at : r.at+size]
	data := r.room(encoding.DecodedLen(size))
	n, err := encoding.Decode(data, text)
	r.at += size + 1
	v.SetBytes(data)
	return err == nil && n == len(data) && !bytes.ContainsAny(text, "\r\n") // which it skips
}

func readRaw(r *reader, v reflect.Value) bool {
	from := r.at
	if !r.value() {
		return false
	}
	v.SetBytes(json.RawMessage(r.data[from:r.at:r.at]))
	return true
}

// readRosterVersion takes a change of a roster, and keeps its bytes and those of its key.
func readRosterVersion(r *reader, v reflect.Value) bool {
	c := v.Addr().Interface().(*rosterVersion)
	from := r.at
	ok := formOf(reflect.TypeFor[RosterChange]()).read(r, v.Field(0))
	c.change, c.about = r.data[from:r.at:r.at], r.key
	return ok
}

// readRosterDocument takes a document that ought to be a change of a roster, and reads it
// as one at once: a roster is nearly all of a bundle, and would else be read twice. What is none
// is taken as it is, for whoever replays the roster to say what is wrong.
func readRosterDocument(r *reader, v reflect.Value) bool {
	from, depth := r.at, r.depth
	c := new(rosterVersion)
	if !readRosterVersion(r, reflect.ValueOf(c).Elem()) || r.at-from > MaxRosterChange {
		c, r.at, r.depth = nil, from, depth
		if !r.value() {
			return false
		}
	}
	r.changes = append(r.changes, c)
	v.SetBytes(json.RawMessage(r.data[from:r.at:r.at]))
	return true
}

// readTime takes a time in the one form in which it is written: in UTC, with Z.
func readTime(r *reader, v reflect.Value) bool {
	text, escaped, ok := r.quoted()
	if !ok || escaped || !strings.HasSuffix(text, "Z") {
		return false
	}
	t := v.Addr().Interface().(*time.Time)
	if t.UnmarshalText([]byte(text)) != nil {
		return false
	}
	again, err := t.AppendText(make([]byte, 0, len(time.RFC3339Nano)))
	return err == nil && string(again) == text
}
