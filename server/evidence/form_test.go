package evidence_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gowebpki/jcs"
	"pgregory.net/rapid"

	"github.com/signedapproval/bitbucket/internal/racefree"
	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// The library for RFC 8785 is what the reader and the writer of this package are
// measured with: a text is canonical when it is JSON that the library leaves as it is,
// and a document's one form is what the library makes of the standard encoder's output.

// leftAlone is the reference for IsCanonical.
func leftAlone(data []byte) bool {
	if !json.Valid(data) || !utf8.Valid(data) || approval.TooDeep(data) {
		return false
	}
	form, err := jcs.Transform(data)
	return err == nil && bytes.Equal(form, data)
}

// written is the reference for Write.
func written(v any) ([]byte, error) {
	if local(reflect.ValueOf(v)) {
		return nil, errors.New("a time that is not in UTC")
	}
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return jcs.Transform(data)
}

// readable is the reference for Read: what is read is written as the same bytes, and
// holds no null.
func readable(data []byte, v any) bool {
	var anything any
	if json.Unmarshal(data, v) != nil || json.Unmarshal(data, &anything) != nil || holdsNull(anything) || !leftAlone(data) {
		return false
	}
	form, err := written(v)
	return err == nil && bytes.Equal(form, data)
}

func holdsNull(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case []any:
		return slices.ContainsFunc(v, holdsNull)
	case map[string]any:
		for _, inner := range v {
			if holdsNull(inner) {
				return true
			}
		}
	}
	return false
}

// local reports whether a value holds a time that is not written with Z.
func local(v reflect.Value) bool {
	switch v.Kind() { //nolint:exhaustive // nothing else holds a time
	case reflect.Pointer, reflect.Interface:
		return !v.IsNil() && local(v.Elem())
	case reflect.Slice:
		for i := range v.Len() {
			if local(v.Index(i)) {
				return true
			}
		}
	case reflect.Struct:
		if at, ok := v.Interface().(time.Time); ok {
			text, err := at.MarshalText()
			return err == nil && !bytes.HasSuffix(text, []byte("Z"))
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() && local(v.Field(i)) {
				return true
			}
		}
	}
	return false
}

type reporter interface {
	Helper()
	Errorf(format string, args ...any)
}

func agrees(t reporter, data []byte) {
	t.Helper()
	if got, want := evidence.IsCanonical(data), leftAlone(data); got != want {
		t.Errorf("%.300q: canonical is %t, and the library says %t", data, got, want)
	}
}

// kinds are the types of documents, by what the vectors call them.
var kinds = map[string]reflect.Type{
	"bundle":         reflect.TypeFor[evidence.Bundle](),
	"statement":      reflect.TypeFor[signedStatement](),
	"act":            reflect.TypeFor[signedAct](),
	"roster-change":  reflect.TypeFor[evidence.RosterChange](),
	"request":        reflect.TypeFor[evidence.Request](),
	"receipt":        reflect.TypeFor[evidence.Receipt](),
	"person-opening": reflect.TypeFor[evidence.PersonOpening](),
	"policy":         reflect.TypeFor[approval.Policy](),
	"leaf":           reflect.TypeFor[looseLeaf](),
	"odds":           reflect.TypeFor[odds](),
}

type (
	signedStatement struct {
		Type          string             `json:"_type"`
		Subject       []rawSubject       `json:"subject"`
		PredicateType string             `json:"predicateType"`
		Predicate     evidence.Statement `json:"predicate"`
	}
	signedAct struct {
		Type          string       `json:"_type"`
		Subject       []rawSubject `json:"subject"`
		PredicateType string       `json:"predicateType"`
		Predicate     evidence.Act `json:"predicate"`
	}
	rawSubject struct {
		Digest json.RawMessage `json:"digest"`
	}
	looseLeaf struct {
		Format    string          `json:"format"`
		Type      string          `json:"type"`
		Time      time.Time       `json:"time"`
		Workspace string          `json:"workspace"`
		Chain     *evidence.Chain `json:"chain,omitempty"`
		Body      json.RawMessage `json:"body"`
	}
	// odds has a member of each sort, also of those that the documents do not have.
	odds struct {
		Text    string                `json:"text,omitempty"`
		Number  int64                 `json:"number"`
		Count   int                   `json:"count,omitempty"`
		Yes     bool                  `json:"yes,omitempty"`
		No      bool                  `json:"no"`
		Data    evidence.Bytes        `json:"data,omitempty"`
		Raw     json.RawMessage       `json:"raw,omitempty"`
		Pointer *int64                `json:"pointer,omitempty"`
		Texts   []string              `json:"texts,omitempty"`
		Lists   [][]evidence.Bytes    `json:"lists"`
		Time    time.Time             `json:"time"`
		Since   *time.Time            `json:"since,omitempty"`
		Head    *evidence.ChainHead   `json:"head,omitempty"`
		Leaf    evidence.IncludedLeaf `json:"leaf"`
	}
)

// agreesAs compares both readers of a kind of document, and both writers of what was read.
func agreesAs(t reporter, kind string, data []byte) (ok bool) {
	t.Helper()
	got, want := reflect.New(kinds[kind]).Interface(), reflect.New(kinds[kind]).Interface()
	ok = evidence.Read(data, got)
	if reference := readable(data, want); ok != reference {
		t.Errorf("%s: %.1000q: read is %t, and should be %t", kind, data, ok, reference)
		return ok
	}
	if !ok {
		return false
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %.1000q is read as %+v, and should be as %+v", kind, data, got, want)
	}
	if again, err := evidence.Write(got); err != nil || !bytes.Equal(again, data) {
		t.Errorf("%s: %.1000q is written as %.1000q (%v)", kind, data, again, err)
	}
	return true
}

// samples are documents of each kind.
func samples(t testing.TB) map[string][][]byte {
	t.Helper()
	w := newWorld(t)
	w.story()
	bundle := w.encoded()
	list := map[string][][]byte{
		"bundle": {bundle}, "policy": {w.policy.Canonical()},
		"odds": {
			[]byte(`{"leaf":{"entry":"AA","index":0,"proof":[]},"lists":[],"no":false,"number":0,"time":"2026-05-04T12:10:00Z"}`),
			[]byte(`{"count":-7,"data":"_-8","head":{"chain":"é","leaf":"\u0000\b\\","sequence":1},"leaf":{"entry":"","index":-9007199254740991,"proof":["","AAAA"]},"lists":[[],["AA"]],` +
				`"no":true,"number":9007199254740992,"pointer":0,"raw":{"":[1e+21,0.1,-1e-7],"a":true,"€":{},"` + "\U0001f600" + `":"","` + "\ufb33" + `":[]},"since":"0000-01-01T00:00:00.5Z","text":"` + "\u2028\x7f<&>" + `","texts":[""],"time":"9999-12-31T23:59:59.999999999Z","yes":true}`),
		},
	}
	var b evidence.Bundle
	if err := json.Unmarshal(bundle, &b); err != nil {
		t.Fatal(err)
	}
	for _, entry := range b.Chain {
		list["leaf"] = append(list["leaf"], entry)
	}
	for _, d := range b.Decisions {
		list["statement"] = append(list["statement"], d.Statement)
	}
	for _, e := range b.Enrolments {
		list["act"] = append(list["act"], e.Enrolment.Act)
	}
	for _, c := range b.Roster {
		list["roster-change"] = append(list["roster-change"], c)
	}
	return list
}

func TestCanonical(t *testing.T) {
	t.Parallel()
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, text := range []string{
		`{}`, `[]`, `[[]]`, `[{},[]]`, `{"a":[true,false,null,{"d":"","e":-12}],"b":1}`, `{"b":1,"a":1}`, `{"é":1}`, `{"a":"é\n\"\\"}`, "{\"a\":\"\u2028\"}", `{"a":"\u2028"}`, `null`, `"a"`, `1`, `true`, `tru`, `nul`, ``, ` `, ` 1`, `1 `,
		`0`, `-0`, `-1`, `-`, `01`, `-01`, `00`, `1.5`, `1.50`, `1.`, `.5`, `1e3`, `1e21`, `1e+21`, `1E21`, `100000000000000000000`, `1000000000000000000000`, `999999999999999`, `9007199254740992`, `9007199254740993`, `123456789012345678`, `0.000001`, `1e-7`, `1e-07`, `5e-324`, `1e400`, `0x10`, `1_0`, `+1`, `1-1`, `NaN`, `Infinity`, `Inf`,
		`{"a":1,"a":2}`, `{"a":1,"b":2,"a":3}`, `{"":1,"a":2}`, `{"a":1,"":2}`, `{"aa":1,"a":2}`, `{"a":1,"aa":2}`, `{"a" :1}`, `{"a": 1}`, `{"a":1 }`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{,}`, `{`, `{a:1}`, `{1:1}`, `{"a":1]`, `{"a"}`,
		`[1,`, `[1 ]`, `[1,]`, `[,]`, `[1`, `[`, `[1}`, `[1 ,2]`, `[1, 2]`, `]`, `[]]`, `[]1`,
		`"\u0061"`, `"\/"`, `"\`, `"`, `"\"`, `"\\"`, `"\u000a"`, `"\n"`, `"\u001f"`, `"\u001F"`, `"\u0000"`, `"\u007f"`, "\"\x7f\"", "\"\x01\"", "\"\n\"", `"\u0008"`, `"\u000b"`, `"\u00"`, `"\u0020"`, `"\U0001"`, `"\a"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\ude00"`, "\"\U0001f600\"", "\"\xff\"", "\"\xed\xa0\x80\"", "\"\xc0\x80\"", "{\"\xff\":1}", "\ufeff{}",
		`{"\n":1,"\r":2}`, `{"\r":1,"\n":2}`, `{"\u000b":1,"\f":2}`, `{"\\":1,"a":2}`, `{"A":1,"\\":2}`, "{\"\U0001f600\":1,\"\ufb33\":2}", "{\"\ufb33\":1,\"\U0001f600\":2}", "{\"\u20ac\":1,\"\U0001f600\":2}", "{\"\u00f6\":1,\"\u20ac\":2}", "{\"\u20ac\":1,\"\u00f6\":2}", `{"é":1,"é":2}`, `{"a":1,"é":2}`, `{"é":1,"a":2}`,
		nested(approval.MaxDepth), nested(approval.MaxDepth + 1), strings.Repeat("[", approval.MaxDepth), strings.Repeat(`{"":`, approval.MaxDepth) + "1" + strings.Repeat("}", approval.MaxDepth), `[` + strings.Repeat("[],{},", 200) + `1]`,
	} {
		agrees(t, []byte(text))
	}
	for _, folder := range []string{"input", "output"} {
		paths, err := filepath.Glob(filepath.Join(recordings(t, "cyberphone__json-canonicalization"), folder, "*.json"))
		if err != nil || len(paths) == 0 {
			t.Fatal(err, "no vectors")
		}
		for _, path := range paths {
			data := read(t, path)
			agrees(t, data)
			if folder == "output" && !evidence.IsCanonical(bytes.TrimSuffix(data, []byte("\n"))) {
				t.Errorf("%s is not canonical", path)
			}
		}
	}
	var documents []documentVector
	if err := json.Unmarshal(read(t, filepath.Join("testdata", "vectors", "documents.json")), &documents); err != nil {
		t.Fatal(err)
	}
	for _, v := range documents {
		agrees(t, []byte(v.Document))
		if _, ok := kinds[v.Kind]; ok {
			agreesAs(t, v.Kind, []byte(v.Document))
		}
	}
}

// A document is read exactly when it is what is written for what was read, whatever
// is done to it.
func TestOneForm(t *testing.T) {
	t.Parallel()
	if racefree.Elsewhere(t) {
		return
	}
	for kind, list := range samples(t) {
		for i, data := range list {
			if !agreesAs(t, kind, data) {
				t.Errorf("%s %d is not read", kind, i)
			}
			agrees(t, data)
		}
		for i, data := range list[:1] {
			for n, changed := range changes(t, data) {
				if kind == "bundle" && n%16 != 0 { // each costs as much as forty of the others
					continue
				}
				agreesAs(t, kind, changed)
				agrees(t, changed)
			}
			if t.Failed() {
				t.Fatalf("%s %d", kind, i)
			}
		}
	}
}

// changes returns a document with each of its values taken out, doubled or replaced by
// other ones.
func changes(t *testing.T, data []byte) (list [][]byte) {
	t.Helper()
	var root any
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := decoder.Decode(&root); err != nil {
		t.Fatal(err)
	}
	add := func() {
		changed, err := written(root)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, changed)
	}
	values := []any{nil, "", "a", "é\n\x00", "AAA", "2026-05-04T12:10:00Z", "2026-05-04T12:10:00+00:00", "2026-05-04T12:10:00+01:00", "2026-05-04T12:10:00.10Z", "2026-05-04T12:10:00.1234567891Z", 0, 1, -1, 1.5, json.Number("9223372036854775807"), json.Number("1e20"), true, false, []any{}, []any{nil}, object{}, object{"a": 1}}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for i := range v[:min(len(v), 2)] {
				was := v[i]
				for _, v[i] = range values {
					add()
				}
				v[i] = was
				walk(was)
			}
		case object:
			for _, name := range slices.Sorted(maps.Keys(v)) {
				was := v[name]
				for _, v[name] = range values {
					add()
				}
				delete(v, name)
				add()
				v[strings.ToUpper(name)] = was
				add()
				v[name] = was
				add()
				delete(v, strings.ToUpper(name))
				v[name] = was
				walk(was)
			}
			v["~"] = 1
			add()
			delete(v, "~")
		}
	}
	if len(data) > 4000 { // of a bundle its upper half is enough
		root = root.(object)
		for _, name := range []string{"chain", "roster", "decisions", "enrolments", "signedActs"} {
			root.(object)[name] = []any{}
		}
	}
	walk(root)
	return list
}

func TestOneFormOfAnything(t *testing.T) {
	t.Parallel()
	list := samples(t)
	names := slices.Sorted(maps.Keys(list))
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom(names).Draw(t, "kind")
		data := bytes.Clone(rapid.SampledFrom(list[kind]).Draw(t, "document"))
		for range rapid.IntRange(1, 3).Draw(t, "changes") {
			at := rapid.IntRange(0, len(data)-1).Draw(t, "at")
			with := rapid.SampledFrom([]string{"", "\"", "\\", "{", "}", "[", "]", ",", ":", "0", "1", "-", "e", ".", "n", "null", "true", "a", "A", "\x00", "\xff", "é", " ", "\\n", "\\u0000", "\\/"}).Draw(t, "with")
			data = slices.Replace(data, at, min(at+rapid.IntRange(0, 2).Draw(t, "of"), len(data)), []byte(with)...)
			if len(data) == 0 {
				return
			}
		}
		agreesAs(t, kind, data)
		agrees(t, data)
	})
}

func TestCanonicalAnything(t *testing.T) {
	t.Parallel()
	var value func(depth int) *rapid.Generator[any]
	value = func(depth int) *rapid.Generator[any] {
		scalars := []*rapid.Generator[any]{
			rapid.Map(rapid.String(), func(s string) any { return s }), rapid.Map(rapid.Int64(), func(n int64) any { return n }),
			rapid.Map(rapid.Int64Range(-9, 1<<53), func(n int64) any { return n }), rapid.Map(rapid.Float64(), func(n float64) any { return n }),
			rapid.Just[any](nil), rapid.Just[any](true),
		}
		if depth == 0 {
			return rapid.OneOf(scalars...)
		}
		return rapid.OneOf(append(scalars,
			rapid.Map(rapid.SliceOfN(value(depth-1), 0, 4), func(l []any) any { return l }),
			rapid.Map(rapid.MapOfN(rapid.OneOf(rapid.String(), rapid.StringMatching("[a-zA-Z]{1,3}")), value(depth-1), 0, 5), func(m map[string]any) any { return m }),
		)...)
	}
	rapid.Check(t, func(t *rapid.T) {
		given, err := json.Marshal(map[string]any{"z": value(3).Draw(t, "value"), "a": 1})
		if err != nil {
			t.Skip(err) // another value is drawn: JSON has no infinity and no NaN
		}
		agrees(t, given)
		form, err := jcs.Transform(given)
		if err != nil {
			t.Fatal(err)
		}
		if !evidence.IsCanonical(form) {
			t.Errorf("%q is not canonical", form)
		}
	})
}

func TestWrite(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
		v := odds{
			Text: text.Draw(t, "text"), Number: rapid.Int64().Draw(t, "number"), Count: int(rapid.Int64().Draw(t, "count")), Yes: rapid.Bool().Draw(t, "yes"),
			Data: rapid.SliceOf(rapid.Byte()).Draw(t, "data"), Texts: rapid.SliceOf(text).Draw(t, "texts"), Lists: [][]evidence.Bytes{{}, {nil}},
			Time: time.Unix(rapid.Int64Range(-1e11, 1e12).Draw(t, "seconds"), rapid.Int64Range(0, 1e9).Draw(t, "nanoseconds")).UTC(), Raw: json.RawMessage(`{"b": 1, "a":"\/"}`),
			Leaf: evidence.IncludedLeaf{Inclusion: evidence.Inclusion{Index: 3, Proof: []evidence.Bytes{}}},
		}
		got, err := evidence.Write(v)
		want, bad := written(v)
		if (err == nil) != (bad == nil) || err == nil && !bytes.Equal(got, want) {
			t.Errorf("%+v is written as %q (%v), and should be as %q (%v)", v, got, err, want, bad)
		}
	})
	none := odds{}
	for name, v := range map[string]any{"a list": none, "a pointer": struct {
		P *int `json:"p"`
	}{}, "anything": struct {
		A any `json:"a"`
	}{}, "a raw null": struct {
		R json.RawMessage `json:"r"`
	}{json.RawMessage(`{"b":1,"a":[null]}`)}} {
		if data, err := evidence.Write(v); err == nil || !strings.Contains(err.Error(), "null") {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	for name, v := range map[string]any{"not JSON": struct {
		R json.RawMessage `json:"r"`
	}{json.RawMessage(`{`)}, "a late time": time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if data, err := evidence.Write(v); err == nil {
			t.Errorf("%s: %q", name, data)
		}
	}
	for _, v := range []any{1.5, map[string]int{}, struct{ A int }{}, struct {
		A int `json:"é"`
	}{}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%T has a form", v)
				}
			}()
			_, _ = evidence.Write(v)
		}()
	}
}

func FuzzOneForm(f *testing.F) {
	for kind, list := range samples(f) {
		for _, data := range list {
			f.Add(kind, data)
		}
	}
	f.Fuzz(func(t *testing.T, kind string, data []byte) {
		agrees(t, data)
		if _, ok := kinds[kind]; ok {
			agreesAs(t, kind, data)
		}
	})
}
