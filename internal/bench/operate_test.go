package main

import (
	"os"
	"slices"
	"testing"
)

// TestTheDocumentedCommandsAreFound: the drill carries out what the document says, and this is all of it.
func TestTheDocumentedCommandsAreFound(t *testing.T) {
	t.Parallel()
	document, err := os.ReadFile("../../" + operate)
	if err != nil {
		t.Fatal(err)
	}
	for heading, want := range map[string][]string{
		"## Backup": {
			"pg_dumpall --globals-only --no-role-passwords --file=roles.sql",
			`pg_dump --format=custom --file=signedapproval.dump "$SUPERUSER_URL"`,
		},
		"### Restore": {
			"createdb --owner=signedapproval_owner signedapproval",
			`pg_restore --exit-on-error --jobs=4 --dbname="$SUPERUSER_URL" signedapproval.dump`,
			`vacuumdb --quiet --analyze --jobs=4 --dbname="$SUPERUSER_URL"`,
			"signedapproval migrate",
			"signedapproval serve",
		},
		"## No such heading": nil,
	} {
		if got := documented(string(document), heading); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", heading, got, want)
		}
	}
}
