package app

import (
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// printReport writes a verification for people: each step, what each fact rests on, the outcome.
func printReport(w io.Writer, report evidence.Report) error {
	var b strings.Builder
	for _, step := range report.Steps {
		fmt.Fprintf(&b, "%2d  %-18s %s", step.Number, step.Result, step.Name)
		if step.Detail != "" {
			fmt.Fprintf(&b, ": %s", plain(step.Detail))
		}
		b.WriteByte('\n')
	}
	if len(report.Facts) > 0 {
		b.WriteByte('\n')
	}
	for _, fact := range report.Facts {
		fmt.Fprintf(&b, "    %-18s %s: %s\n", fact.Label, fact.Name, plain(fact.Value))
	}
	fmt.Fprintf(&b, "\n%s\n", plain(report.Sentence()))
	_, err := io.WriteString(w, b.String())
	return err
}

// plain shows characters that steer a terminal, or turn the direction of writing, for what they are: names come from a
// bundle, and must not look like a line of the verifier's.
func plain(s string) string {
	var b strings.Builder
	for _, c := range s {
		if unicode.IsPrint(c) {
			b.WriteRune(c)
		} else {
			fmt.Fprintf(&b, "\\u%04x", c)
		}
	}
	return b.String()
}

// plainLines is plain for a text of several lines.
func plainLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = plain(lines[i])
	}
	return strings.Join(lines, "\n")
}
