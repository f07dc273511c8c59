package evidence

import (
	"cmp"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
)

// MaxDepth is how many objects and lists a document may have inside one another,
// so that no document can use up a reader's stack.
const MaxDepth = approval.MaxDepth

// form is the one way in which the values of a Go type are JSON (RFC 8785). The names
// and the omitempty of the members are those of encoding/json. Of what that package
// knows it has what documents are made of, and panics for the rest: no floating-point
// numbers, no maps, no types that contain themselves.
//
// Reading and writing follow one list of members, so they cannot disagree: a text is
// read exactly when it is what is written for the value that was read.
type form struct {
	// write appends v to w, and reports whether it has a form; if not, w says why.
	write func(w *writer, v reflect.Value) bool
	// read takes a value from r into v, which is zero, and reports whether it was
	// there in its one form.
	read func(r *reader, v reflect.Value) bool
	// empty reports whether omitempty leaves v out; nil where it never does.
	empty func(v reflect.Value) bool
}

var (
	forms    sync.Map // reflect.Type to *form
	timeType = reflect.TypeFor[time.Time]()
	dataType = reflect.TypeFor[Bytes]()
	rawType  = reflect.TypeFor[json.RawMessage]()

	keyType       = reflect.TypeFor[Key]()
	changeType    = reflect.TypeFor[rosterVersion]()
	documentsType = reflect.TypeFor[RosterDocuments]()
)

// formOf returns the form of a type; each is made once.
func formOf(t reflect.Type) *form {
	if known, ok := forms.Load(t); ok {
		return known.(*form)
	}
	known, _ := forms.LoadOrStore(t, makeForm(t))
	return known.(*form)
}

func makeForm(t reflect.Type) *form {
	none := func(v reflect.Value) bool { return v.Len() == 0 }
	absent := func(v reflect.Value) bool { return v.IsNil() }
	switch t {
	case timeType:
		return &form{write: writeTime, read: readTime}
	case dataType:
		return &form{write: writeData, read: readData, empty: none}
	case rawType:
		return &form{write: writeRaw, read: readRaw, empty: none}
	case changeType:
		return &form{write: formOf(reflect.TypeFor[RosterChange]()).write, read: readRosterVersion}
	}
	switch t.Kind() {
	case reflect.String:
		return &form{write: writeText, read: readText, empty: none}
	case reflect.Bool:
		return &form{write: writeBool, read: readBool, empty: func(v reflect.Value) bool { return !v.Bool() }}
	case reflect.Int, reflect.Int64:
		return &form{write: writeNumber, read: readNumber, empty: func(v reflect.Value) bool { return v.Int() == 0 }}
	case reflect.Pointer:
		to := formOf(t.Elem())
		return &form{
			write: func(w *writer, v reflect.Value) bool {
				if v.IsNil() {
					return w.fails(errNull)
				}
				return to.write(w, v.Elem())
			},
			read: func(r *reader, v reflect.Value) bool {
				v.Set(reflect.New(t.Elem()))
				return to.read(r, v.Elem())
			},
			empty: absent,
		}
	case reflect.Interface: // which can only be written
		return &form{
			write: func(w *writer, v reflect.Value) bool {
				if v.IsNil() {
					return w.fails(errNull)
				}
				return formOf(v.Elem().Type()).write(w, v.Elem())
			},
			read:  func(*reader, reflect.Value) bool { return false },
			empty: absent,
		}
	case reflect.Slice:
		of := formOf(t.Elem())
		if t == documentsType {
			of = &form{write: of.write, read: readRosterDocument}
		}
		return &form{
			write: func(w *writer, v reflect.Value) bool { return w.list(of, v) },
			read:  func(r *reader, v reflect.Value) bool { return r.list(of, v) },
			empty: none,
		}
	case reflect.Struct:
		members := membersOf(t, nil)
		slices.SortFunc(members, func(a, b member) int { return cmp.Compare(a.name, b.name) })
		return &form{
			write: func(w *writer, v reflect.Value) bool { return w.object(members, v) },
			read: func(r *reader, v reflect.Value) bool {
				from := r.at
				ok := r.object(members, v)
				if t == keyType {
					r.key = r.data[from:r.at:r.at]
				}
				return ok
			},
		}
	default:
		panic("evidence: a document has no " + t.String())
	}
}

// member is a member of an object.
type member struct {
	name string // in quotes and with the colon behind; of plain ASCII, so the order of bytes is that of UTF-16
	at   []int  // of the field
	form *form
	omit bool // when it is empty
}

// membersOf returns the members of a struct, also of those that it embeds.
func membersOf(t reflect.Type, at []int) (list []member) {
	for i := range t.NumField() {
		field := t.Field(i)
		path := append(slices.Clone(at), i)
		name, option, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case field.Anonymous && name == "":
			list = append(list, membersOf(field.Type, path)...)
			continue
		case !field.IsExported():
			continue
		case name == "" || strings.ContainsFunc(name, func(c rune) bool { return c <= '"' || c >= 0x7f || c == '\\' }):
			panic("evidence: a document has no member for " + t.String() + "." + field.Name)
		}
		list = append(list, member{`"` + name + `":`, path, formOf(field.Type), option == "omitempty"})
	}
	return list
}

// field returns the field of a member.
func (m *member) field(v reflect.Value) reflect.Value {
	for _, i := range m.at {
		v = v.Field(i)
	}
	return v
}
