package frontend

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestPage(t *testing.T) {
	t.Parallel()
	built := fstest.MapFS{"panel/index.html": {Data: []byte("<!doctype html>")}}

	got, err := page(built, "panel")
	if err != nil || string(got) != "<!doctype html>" {
		t.Fatalf("page(panel) = %q, %v", got, err)
	}
	_, err = page(built, "sign")
	if !errors.Is(err, ErrNotBuilt) || !strings.Contains(err.Error(), `"sign"`) {
		t.Fatalf("page(sign) = %v, want ErrNotBuilt that names the page", err)
	}
}

func TestStyles(t *testing.T) {
	t.Parallel()
	built := fstest.MapFS{"panel/index.html": {Data: []byte(`<script type="module" crossorigin src="/assets/panel/a.js"></script>
		<link rel="modulepreload" href="/assets/panel/b.js"><link rel="stylesheet" crossorigin href="/assets/panel/c.css">
		<link rel="stylesheet" href="/assets/panel/d.css">`)}}
	if got := styles(built, "panel"); !slices.Equal(got, []string{"/assets/panel/c.css", "/assets/panel/d.css"}) {
		t.Errorf("styles(panel) = %q", got)
	}
	if got := styles(built, "sign"); got != nil {
		t.Errorf("styles of a page that is not built = %q", got)
	}
}

// The server answers the pages' operations by hash, so a hash that is not the text's would answer another question.
func TestPersistedDocumentsAreNamedByTheirHash(t *testing.T) {
	t.Parallel()
	var documents map[string]string
	if err := json.Unmarshal(PersistedDocuments(), &documents); err != nil {
		t.Fatal(err)
	}
	for hash, text := range documents {
		sum := sha256.Sum256([]byte(text))
		if hex.EncodeToString(sum[:]) != hash {
			t.Errorf("%s is not the SHA-256 of its text:\n%s", hash, text)
		}
	}
}
