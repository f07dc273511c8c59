// Package frontend carries the built pages inside the binary: one folder below dist for each entry (panel, sign,
// dashboard, verify), made by "make frontend". On a fresh clone dist holds a placeholder only, so that everything compiles
// without Node; the pages are then missing and [Page] says so.
package frontend

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
)

//go:embed all:dist
var dist embed.FS

//go:embed packages/graph/src/generated/persisted-documents.json
var persistedDocuments []byte

// ErrNotBuilt is returned by [Page] in a binary that was compiled before the front end was built.
var ErrNotBuilt = errors.New("the front end is not built: run `make frontend` and build again")

// Page returns the document of an entry. It names its scripts and styles by hash, so it must never be cached.
// The error is [ErrNotBuilt] for a binary without pages.
func Page(entry string) ([]byte, error) {
	return page(Assets(), entry)
}

func page(assets fs.FS, entry string) ([]byte, error) {
	html, err := fs.ReadFile(assets, entry+"/index.html")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("page %q: %w", entry, ErrNotBuilt)
	}
	return html, err
}

// Styles are the addresses of an entry's style sheets, for a document that the server writes itself; none in a binary
// without pages.
func Styles(entry string) []string {
	return styles(Assets(), entry)
}

var styleSheet = regexp.MustCompile(`<link rel="stylesheet"[^>]* href="([^"]+)"`)

func styles(assets fs.FS, entry string) (addresses []string) {
	html, err := page(assets, entry)
	if err != nil {
		return nil
	}
	for _, found := range styleSheet.FindAllSubmatch(html, -1) {
		addresses = append(addresses, string(found[1]))
	}
	return addresses
}

// Assets is what lies below the URL path /assets/: <entry>/<name>-<hash>.<ext>. Every file but the entries' index.html
// has the hash of its bytes in its name and may be cached for ever.
func Assets() fs.FS {
	sub, err := fs.Sub(dist, "dist")
	if err != nil { // only a malformed name can fail
		panic(err)
	}
	return sub
}

// PersistedDocuments is a JSON object of every operation that the pages send: hexadecimal SHA-256 of its text to the
// text.
func PersistedDocuments() []byte {
	return persistedDocuments
}
