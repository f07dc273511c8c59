package evidence_test

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/gowebpki/jcs"
	"pgregory.net/rapid"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// What is arranged here is what the library for the format makes of it, whatever
// the text; and it is arranged here where it is plain.
func TestArrange(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{}`, `[]`, `{"b":1,"a":[true,false,null,{"d":"","c":-12}]}`, `{"é":1}`, `{"a":"é\n\"\\"}`, `{"a":"\u2028"}`, `{"a":1.5}`, `{"a":1e3}`, `{"a":-0}`,
		`{"a":01}`, `{"a":9007199254740993}`, `{"a":1,"a":2}`, `{"b":1,"a":2,"b":3}`, `{"a":1} `, ` {}`, `{"a" :1}`, `{"a":tru}`, `{"a"`, `{"a":`, `[1,`, `[1 ]`, `{"a":1,}`, `"\u0061"`, `"\/"`,
		`"\`, `"`, ``, `-`, `1`, `{"\n":1}`, `{a:1}`, "\"\x01\"", `{"a":1`, `{"a":1]`,
	} {
		agrees(t, text)
	}
	b := newWorld(t)
	b.story()
	data, err := json.Marshal(b.bundle())
	if err != nil {
		t.Fatal(err)
	}
	if arranged, plain := evidence.Arrange(data); !plain || len(arranged) != len(data) {
		t.Error("an ordinary bundle is not plain")
	}
	inputs, err := filepath.Glob(filepath.Join(recordings(t, "cyberphone__json-canonicalization"), "input", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range inputs {
		agrees(t, string(read(t, path)))
	}
}

func agrees(t interface{ Errorf(string, ...any) }, text string) {
	arranged, plain := evidence.Arrange([]byte(text))
	if !plain {
		return
	}
	want, err := jcs.Transform([]byte(text))
	if err != nil && (len(text) == 0 || text[0] == '{' || text[0] == '[') || err == nil && !bytes.Equal(arranged, want) {
		t.Errorf("%q is arranged as %q, and the library makes %q of it (%v)", text, arranged, want, err)
	}
}

func TestArrangeAnything(t *testing.T) {
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
		data, err := json.Marshal(map[string]any{"z": value(3).Draw(t, "value"), "a": 1})
		if err != nil {
			t.Skip(err)
		}
		agrees(t, string(data))
	})
}
