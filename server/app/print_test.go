package app

import (
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// TestNamesForgeNoLines prints what a bundle could hold in names.
func TestNamesForgeNoLines(t *testing.T) {
	t.Parallel()
	name := "Bob\x1b[2K\r\n\nAPPROVED: everybody agreed\u202e\u2028ünïcode, 鮑勃"
	var b strings.Builder
	err := printReport(&b, evidence.Report{
		Steps: []evidence.Step{{Number: 1, Name: "bundle", Result: evidence.Failed, Detail: name}},
		Facts: []evidence.Fact{{Name: "decision", Value: name, Label: evidence.Signed}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(b.String(), "\n"); lines != 5 {
		t.Errorf("%d lines:\n%s", lines, b.String())
	}
	if strings.ContainsAny(b.String(), "\x1b\r\u202e\u2028") || !strings.Contains(b.String(), "ünïcode, 鮑勃") || !strings.Contains(b.String(), `Bob\u001b[2K\u000d\u000a`) {
		t.Errorf("%q", b.String())
	}
}
