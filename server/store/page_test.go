package store

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/signedapproval/bitbucket/server/refusal"
)

const someID = "0b1c2d3e-0000-4000-8000-00000000000a"

func TestPageLimits(t *testing.T) {
	t.Parallel()
	for first, want := range map[int]int{0: 20, 1: 1, 100: 100} {
		p := Page{First: first}
		if _, _, err := p.after(); err != nil || p.limit() != want {
			t.Errorf("%d: %d, %v", first, p.limit(), err)
		}
	}
	for _, first := range []int{-1, 101, 1 << 40} {
		if _, _, err := (Page{First: first}).after(); refusal.Code(err) != refusal.BadInput {
			t.Errorf("%d: %v", first, err)
		}
	}
}

func TestPaged(t *testing.T) {
	t.Parallel()
	rows := []int{1, 2, 3}
	for first, want := range map[int][]int{2: {1, 2}, 3: rows, 4: rows} {
		got, more := paged(rows, Page{First: first})
		if !slices.Equal(got, want) || more != (first < 3) {
			t.Errorf("%d: %v, %t", first, got, more)
		}
	}
}

func TestCursorsComeBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at := time.UnixMicro(rapid.Int64Range(0, 1<<52).Draw(t, "at")).UTC()
		gotAt, gotID, err := Page{After: cursor(at, someID)}.after()
		if err != nil || !gotAt.Equal(at) || *gotID != someID {
			t.Fatalf("%v: %v %v %v", at, gotAt, gotID, err)
		}
		text := strings.ReplaceAll(rapid.String().Draw(t, "name"), "\x00", "")
		if len(text) > 200 {
			text = strings.ToValidUTF8(text[:200], "")
		}
		gotName, gotID, err := Page{After: cursor(text, someID)}.afterName()
		if err != nil || *gotName != text || *gotID != someID {
			t.Fatalf("%q: %v %v %v", text, gotName, gotID, err)
		}
	})
}

func TestWhatIsNoCursor(t *testing.T) {
	t.Parallel()
	raw := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	for _, after := range []string{
		"!", "null", raw("null"), raw("[]"), raw("{}"), raw(`["x"]`), raw(`["2026-01-01T00:00:00Z"]`), raw(`["2026-01-01T00:00:00Z", "x"]`),
		raw(`["2026-01-01T00:00:00Z", "` + strings.ToUpper(someID) + `"]`), raw(`["today", "` + someID + `"]`),
		raw(`["2026-01-01T00:00:00Z", "` + someID + `", 1]`), raw(`["2026-01-01T00:00:00Z", null]`), strings.Repeat("a", 2000),
	} {
		if _, _, err := (Page{After: after}).after(); refusal.Code(err) != refusal.BadInput {
			t.Errorf("%q: %v", after, err)
		}
	}
	if _, _, err := (Page{After: cursor("a\x00b", someID)}).afterName(); refusal.Code(err) != refusal.BadInput {
		t.Errorf("a name that Postgres does not take: %v", err)
	}
}

func TestValidID(t *testing.T) {
	t.Parallel()
	if !ValidID(someID) {
		t.Error(someID)
	}
	for _, id := range []string{"", "{" + someID + "}", strings.ToUpper(someID), someID[:35], someID + "0", strings.ReplaceAll(someID, "-", "0"), "0b1c2d3e-0000-4000-8000-00000000000g"} {
		if ValidID(id) {
			t.Errorf("%q", id)
		}
	}
}
