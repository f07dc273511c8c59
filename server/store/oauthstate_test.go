package store_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/store"
)

func TestLocalPath(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/", "/settings/bitbucket", "/pr/a/b/1?x=y&z=//q#part", "/ä/%2f%2fevil.example", "/a//b", "/@evil.example"} {
		if !store.LocalPath(path) {
			t.Errorf("%q is refused", path)
		}
	}
	for _, path := range []string{
		"", "relative", "?x", "#x", "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example", "\\/evil.example", "/a\\b",
		"https://evil.example/", "javascript:alert(1)", "/\t/evil.example", "/\n/evil.example", "\t//evil.example", " /x", "/x y", "/a\x00b", "/a\x7fb",
		"/a\u0085b", "/%", "/\xff", "/" + strings.Repeat("a", 2000),
	} {
		if store.LocalPath(path) {
			t.Errorf("%q is let through", path)
		}
	}
}

func FuzzLocalPath(f *testing.F) {
	for _, seed := range []string{"/", "//x", "/\\x", "/a?b#c", "/\t/x"} {
		f.Add(seed)
	}
	ours := &url.URL{Scheme: "https", Host: "approvals.example"}
	f.Fuzz(func(t *testing.T, path string) {
		if !store.LocalPath(path) {
			return
		}
		// Browsers drop tabs and line breaks and read a backslash as a slash before they resolve.
		seen := strings.ReplaceAll(strings.NewReplacer("\t", "", "\n", "", "\r", "").Replace(strings.TrimSpace(path)), "\\", "/")
		to, err := ours.Parse(seen)
		if err != nil || to.Scheme != "https" || to.Host != "approvals.example" {
			t.Errorf("%q leads to %v, %v", path, to, err)
		}
	})
}
