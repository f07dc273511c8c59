package app

import (
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/attest"
	"github.com/signedapproval/bitbucket/server/replay"
)

// TestRowsAreExactlyTheCommitsOfTheClone has a branch on which a pull put what had landed below the second parent.
func TestRowsAreExactlyTheCommitsOfTheClone(t *testing.T) {
	t.Parallel()
	commits := []replay.BranchCommit{
		{Hash: "pull", Parents: []string{"local", "around"}},
		{Hash: "around", Parents: []string{"landed"}},
		{Hash: "landed", Parents: []string{"base", "feature"}},
		{Hash: "feature", Parents: []string{"base"}},
		{Hash: "local", Parents: []string{"base"}},
		{Hash: "base", Parents: []string{"root"}},
		{Hash: "root"},
	}
	whole := attest.Audit{Tip: "pull", Heads: []string{"pull"}, Since: "base"}
	early := attest.Audit{Tip: "pull", Heads: []string{"landed"}, Since: "base", After: &attest.Edge{Commit: "around"}}
	late := attest.Audit{Tip: "pull", Heads: []string{"pull"}, Bases: []string{"landed"}}
	known := attest.Audit{Tip: "pull", Heads: []string{"pull"}, Since: "landed", Bases: []string{"feature", "base"}}
	known.Before = &attest.Edge{Commit: "feature"}
	for summary, left := range map[*attest.Audit]bool{&whole: false, &known: false, &early: true, &late: true, {Tip: "pull", Since: "local", Bases: []string{"landed"}}: true} {
		if got := beside(*summary, commits); got != left {
			t.Errorf("%+v leaves something out: %t", *summary, got)
		}
	}
	for name, c := range map[string]struct {
		summary attest.Audit
		rows    string
		says    string
	}{
		"all":                              {whole, "feature landed around local pull", ""},
		"from the root":                    {attest.Audit{Tip: "pull", Heads: []string{"pull"}}, "root base feature landed around local pull", ""},
		"an early window":                  {early, "feature landed", ""},
		"a late window":                    {late, "local around pull", ""},
		"nothing":                          {attest.Audit{Tip: "pull", Since: "base", After: &attest.Edge{Commit: "feature"}}, "", ""},
		"what was put aside is left out":   {whole, "feature landed local pull", "around is on the clone's branch and is not listed"},
		"a feature's commit is left out":   {early, "landed", "feature is on the clone's branch and is not listed"},
		"another commit":                   {whole, "feature landed around local pull strange", "row 6 lists strange"},
		"one of before":                    {late, "landed local around pull", "row 1 lists landed"},
		"one of afterwards":                {early, "feature landed around", "row 3 lists around"},
		"one twice":                        {early, "feature landed landed", "row 3 lists landed"},
		"a clone that is elsewhere":        {attest.Audit{Tip: "other", Heads: []string{"pull"}, Since: "base"}, "feature landed around local pull", "was at other"},
		"a head that the clone lacks":      {attest.Audit{Tip: "pull", Heads: []string{"strange"}, After: &attest.Edge{}}, "", "does not have strange"},
		"a base that the clone lacks":      {attest.Audit{Tip: "pull", Heads: []string{"pull"}, Bases: []string{"strange"}}, "", "does not have strange"},
		"a beginning that the clone lacks": {attest.Audit{Tip: "pull", Heads: []string{"pull"}, Since: "strange"}, "", "does not have strange"},
	} {
		var rows []attest.Row
		for i, hash := range strings.Fields(c.rows) {
			rows = append(rows, attest.Row{Number: i + 1, Commit: hash})
		}
		err := sameCommits(commits, rows, c.summary)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}
