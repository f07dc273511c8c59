package main

import (
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Files that a document leads to are there, and so are headings.
func TestDocumentsLeadSomewhere(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, name := range []string{
		"README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "deploy/README.md", "deploy/OPERATE.md", "descriptor/README.md", "descriptor/listing/description.md",
		"descriptor/listing/privacy-and-security.md", "descriptor/listing/screenshots.md", "descriptor/listing/support.md",
	} {
		text, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, match := range link.FindAllStringSubmatch(string(text), -1) {
			target, err := url.Parse(match[1])
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if target.IsAbs() {
				continue
			}
			if target.Path != "" {
				if _, err := os.Stat(filepath.Join("..", filepath.Dir(name), filepath.FromSlash(target.Path))); err != nil {
					t.Errorf("%s leads to %s, which is missing", name, target.Path)
				}
			} else if !slices.Contains(headings(text), target.Fragment) {
				t.Errorf("%s leads to #%s, which is no heading", name, target.Fragment)
			}
		}
	}
}

func headings(text []byte) []string {
	var out []string
	for _, match := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllSubmatch(text, -1) {
		slug := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(string(match[1])), "")
		out = append(out, strings.ReplaceAll(slug, " ", "-"))
	}
	return out
}
