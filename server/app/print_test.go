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

// TestNothingSaidElsewhereSteersTheTerminal prints the gate's line and an error with words of a bundle or a server in them.
func TestNothingSaidElsewhereSteersTheTerminal(t *testing.T) {
	t.Parallel()
	var out, errs strings.Builder
	err := (&verifyCommand{}).finish(streams{out: &out, err: &errs}, gateReport{Gate: &gateOutcome{Sentence: "FAILED\x1b[1F\x1b[2K\rPASSED"}}, 1)
	if err == nil || strings.ContainsAny(out.String(), "\x1b\r") || !strings.Contains(out.String(), `REFUSED: FAILED\u001b[1F`) {
		t.Errorf("%v, %q", err, out.String())
	}
	if got := plainLines("the server answers 404: \x1b]0;x\a\nand more"); got != "the server answers 404: \\u001b]0;x\\u0007\nand more" {
		t.Errorf("%q", got)
	}
}
