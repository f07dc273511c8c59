package evidence

import (
	"errors"
	"reflect"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gowebpki/jcs"
)

// writer appends documents to out.
type writer struct {
	out []byte
	err error // why something has no form
}

// write returns the canonical form of v, or says why it has none.
func write(v any) ([]byte, error) {
	var w writer
	w.write(v)
	return w.out, w.err
}

func (w *writer) write(v any) {
	if w.out == nil {
		w.out = make([]byte, 0, 512)
	}
	value := reflect.ValueOf(v)
	formOf(value.Type()).write(w, value)
}

// canonical writes v in at most limit bytes.
func (w *writer) canonical(v any, limit int) error {
	w.write(v)
	if w.err != nil {
		return refuse(CodeInvalid, "cannot be written as canonical JSON: %v", w.err)
	}
	if len(w.out) > limit {
		return refuse(CodeTooLarge, "%d bytes are more than the limit of %d", len(w.out), limit)
	}
	return nil
}

// scratch are writers of what is only hashed.
var scratch = sync.Pool{New: func() any { return new(writer) }}

// release gives a writer back to scratch, unless it has become large.
func (w *writer) release() {
	if cap(w.out) <= 64<<10 {
		w.out, w.err = w.out[:0], nil
		scratch.Put(w)
	}
}

var (
	errNull  = errors.New("a document holds no null")
	errLocal = errors.New("times in documents are in UTC")
)

// fails notes why something has no form.
func (w *writer) fails(err error) bool {
	w.err = err
	return false
}

func (w *writer) object(members []member, v reflect.Value) bool {
	w.out = append(w.out, '{')
	first := true
	for i := range members {
		m := &members[i]
		field := m.field(v)
		if m.omit && m.form.empty != nil && m.form.empty(field) {
			continue
		}
		if !first {
			w.out = append(w.out, ',')
		}
		first = false
		w.out = append(w.out, m.name...)
		if !m.form.write(w, field) {
			return false
		}
	}
	w.out = append(w.out, '}')
	return true
}

func (w *writer) list(of *form, v reflect.Value) bool {
	if v.IsNil() {
		return w.fails(errNull)
	}
	w.out = append(w.out, '[')
	for i := range v.Len() {
		if i > 0 {
			w.out = append(w.out, ',')
		}
		if !of.write(w, v.Index(i)) {
			return false
		}
	}
	w.out = append(w.out, ']')
	return true
}

func writeText(w *writer, v reflect.Value) bool {
	w.text(v.String())
	return true
}

// text escapes what has to be, and writes what is not UTF-8 as the replacement
// character, as encoding/json does.
func (w *writer) text(s string) {
	const digits = "0123456789abcdef"
	w.out = append(w.out, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if plain[c] {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			if r, size := utf8.DecodeRuneInString(s[i:]); r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
			w.out = append(append(w.out, s[from:i]...), "\ufffd"...)
		} else {
			w.out = append(append(w.out, s[from:i]...), '\\')
			if short := short(c); short != 0 {
				w.out = append(w.out, short)
			} else {
				w.out = append(w.out, 'u', '0', '0', digits[c>>4], digits[c&15])
			}
		}
		i++
		from = i
	}
	w.out = append(append(w.out, s[from:]...), '"')
}

// short returns what stands behind the backslash for a character that has an escape
// of its own in RFC 8785, and 0 for any other.
func short(c byte) byte {
	switch c {
	case '"', '\\':
		return c
	case '\b':
		return 'b'
	case '\f':
		return 'f'
	case '\n':
		return 'n'
	case '\r':
		return 'r'
	case '\t':
		return 't'
	}
	return 0
}

// plain are the characters that stand for themselves, whatever is around them.
var plain = func() (table [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		table[c] = c != '"' && c != '\\'
	}
	return table
}()

func writeData(w *writer, v reflect.Value) bool {
	w.out = append(w.out, '"')
	w.out = encoding.AppendEncode(w.out, v.Bytes())
	w.out = append(w.out, '"')
	return true
}

// writeRaw writes what is a document already.
func writeRaw(w *writer, v reflect.Value) bool {
	data := v.Bytes()
	if !isCanonical(data) {
		var err error
		if data, err = jcs.Transform(data); err != nil {
			return w.fails(err)
		}
	}
	if r := (reader{data: data, in: string(data)}); !r.value() {
		return w.fails(errNull)
	}
	w.out = append(w.out, data...)
	return true
}

func writeBool(w *writer, v reflect.Value) bool {
	w.out = strconv.AppendBool(w.out, v.Bool())
	return true
}

// writeNumber writes a number that not every reader keeps as those will have it.
func writeNumber(w *writer, v reflect.Value) bool {
	n := v.Int()
	if n < maxSafe && n > -maxSafe {
		w.out = strconv.AppendInt(w.out, n, 10)
		return true
	}
	text, _ := jcs.NumberToJSON(float64(n)) // which refuses only what is no number
	w.out = append(w.out, text...)
	return true
}

func writeTime(w *writer, v reflect.Value) bool {
	w.out = append(w.out, '"')
	out, err := v.Interface().(time.Time).AppendText(w.out)
	if err == nil && out[len(out)-1] != 'Z' {
		err = errLocal
	}
	if err != nil {
		return w.fails(err)
	}
	w.out = append(out, '"')
	return true
}
