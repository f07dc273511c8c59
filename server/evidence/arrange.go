package evidence

import (
	"bytes"
	"slices"
)

// arrange returns the RFC 8785 form of JSON text that encoding/json has written,
// or false where it does not know it. All that such text usually lacks is the order
// of the members of objects: where a number, an escape or a name is anything but
// plain, the library for the format has to do it, which takes ten times as long.
func arrange(compact []byte) (canonical []byte, plain bool) {
	a := arranger{in: compact, out: make([]byte, 0, len(compact))}
	plain = a.value() && a.at == len(a.in)
	return a.out, plain
}

// arranger reads in from at on and appends to out.
type arranger struct {
	in  []byte
	at  int
	out []byte
}

// next takes one byte if it is c.
func (a *arranger) next(c byte) bool {
	if a.at == len(a.in) || a.in[a.at] != c {
		return false
	}
	a.at++
	a.out = append(a.out, c)
	return true
}

func (a *arranger) value() bool {
	if a.at == len(a.in) {
		return false
	}
	switch a.in[a.at] {
	case '{':
		return a.object()
	case '[':
		return a.array()
	case '"':
		_, ok := a.text()
		return ok
	case 't':
		return a.word("true")
	case 'f':
		return a.word("false")
	case 'n':
		return a.word("null")
	}
	return a.number()
}

func (a *arranger) word(w string) bool {
	if !bytes.HasPrefix(a.in[a.at:], []byte(w)) {
		return false
	}
	a.at += len(w)
	a.out = append(a.out, w...)
	return true
}

func (a *arranger) array() bool {
	a.next('[')
	if a.next(']') {
		return true
	}
	for a.value() {
		if a.next(']') {
			return true
		}
		if !a.next(',') {
			return false
		}
	}
	return false
}

// member is a member of an object in out.
type member struct {
	name     []byte
	from, to int
}

func (a *arranger) object() bool {
	a.next('{')
	if a.next('}') {
		return true
	}
	start := len(a.out)
	var members []member
	sorted := true
	for {
		from := len(a.out)
		name, ok := a.text()
		if !ok || !ascii(name) || !a.next(':') || !a.value() {
			return false
		}
		if n := len(members); n > 0 {
			switch bytes.Compare(members[n-1].name, name) {
			case 0:
				return false
			case 1:
				sorted = false
			}
		}
		members = append(members, member{name, from, len(a.out)})
		if a.at == len(a.in) {
			return false
		}
		if a.in[a.at] == '}' {
			break
		}
		if !a.next(',') {
			return false
		}
	}
	if !sorted {
		slices.SortFunc(members, func(m, o member) int { return bytes.Compare(m.name, o.name) })
		given := bytes.Clone(a.out[start:])
		a.out = a.out[:start]
		for i, m := range members {
			if i > 0 {
				if bytes.Equal(m.name, members[i-1].name) {
					return false
				}
				a.out = append(a.out, ',')
			}
			a.out = append(a.out, given[m.from-start:m.to-start]...)
		}
	}
	return a.next('}')
}

// text takes a text in which nothing is escaped but what RFC 8785 escapes in the
// same way, and returns it without its quotes.
func (a *arranger) text() (raw []byte, ok bool) {
	if a.at == len(a.in) || a.in[a.at] != '"' {
		return nil, false
	}
	from := a.at
	for i := from + 1; i < len(a.in); i++ {
		switch c := a.in[i]; {
		case c == '"':
			a.at = i + 1
			a.out = append(a.out, a.in[from:a.at]...)
			return a.in[from+1 : i], true
		case c < ' ':
			return nil, false
		case c == '\\':
			i++
			if i == len(a.in) || !slices.Contains([]byte(`"\bfnrt`), a.in[i]) {
				return nil, false
			}
		}
	}
	return nil, false
}

// ascii reports whether the order of a name's bytes is that of its UTF-16 units,
// without anything escaped.
func ascii(name []byte) bool {
	return !slices.ContainsFunc(name, func(c byte) bool { return c >= 0x80 || c == '\\' })
}

// number takes a whole number that every reader keeps.
func (a *arranger) number() bool {
	from := a.at
	a.next('-')
	digits := a.at
	for a.at < len(a.in) && a.in[a.at] >= '0' && a.in[a.at] <= '9' {
		a.next(a.in[a.at])
	}
	n := a.at - digits
	return n > 0 && n <= 15 && (a.in[digits] != '0' || n == 1 && digits == from)
}
