package bitbucket_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/signedapproval/bitbucket/server/bitbucket"
)

func TestBareUUID(t *testing.T) {
	t.Parallel()
	const bare = "0b1c2d3e-aaaa-4000-8000-00000000000a"
	tests := map[string]string{
		bare: bare, "{" + bare + "}": bare,
		strings.ToUpper(bare): bare, "{" + strings.ToUpper(bare) + "}": bare,
		"": "", "{}": "", "{" + bare: "", bare + "}": "", "{{" + bare + "}}": "", "(" + bare + ")": "",
		" " + bare: "", strings.ReplaceAll(bare, "-", ""): "", strings.Replace(bare, "a", "g", 1): "",
		"my-repo": "", "0b1c2d3e-aaaa-4000-8000-0000000000_a": "", "0b1c2d3e0aaaa-4000-8000-00000000000a": "",
	}
	for in, want := range tests {
		if got, ok := bitbucket.BareUUID(in); got != want || ok != (want != "") {
			t.Errorf("%q: got %q, %v", in, got, ok)
		}
	}
	if got := bitbucket.BracedUUID("my-repo"); got != "my-repo" {
		t.Errorf("a slug became %q", got)
	}
}

func TestBareUUIDForms(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		mixed := rapid.StringMatching(`[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`).Draw(t, "uuid")
		bare, ok := bitbucket.BareUUID(mixed)
		braced := bitbucket.BracedUUID(mixed)
		again, okAgain := bitbucket.BareUUID(braced)
		if !ok || !okAgain || bare != strings.ToLower(mixed) || again != bare || braced != "{"+bare+"}" {
			t.Fatalf("%q: bare %q, braced %q, again %q", mixed, bare, braced, again)
		}
	})
}
