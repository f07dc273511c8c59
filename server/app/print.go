package app

import (
	"fmt"
	"io"
	"strings"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// printReport writes a verification for people: each step, what each fact rests on, the outcome.
func printReport(w io.Writer, report evidence.Report) error {
	var b strings.Builder
	for _, step := range report.Steps {
		fmt.Fprintf(&b, "%2d  %-18s %s", step.Number, step.Result, step.Name)
		if step.Detail != "" {
			fmt.Fprintf(&b, ": %s", step.Detail)
		}
		b.WriteByte('\n')
	}
	if len(report.Facts) > 0 {
		b.WriteByte('\n')
	}
	for _, fact := range report.Facts {
		fmt.Fprintf(&b, "    %-18s %s: %s\n", fact.Label, fact.Name, fact.Value)
	}
	fmt.Fprintf(&b, "\n%s\n", report.Sentence())
	_, err := io.WriteString(w, b.String())
	return err
}
