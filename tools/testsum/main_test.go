package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRunAll(t *testing.T) {
	t.Parallel()
	gives := func(counted tally, err error) suite {
		return suite{"x", func(context.Context, io.Writer) (tally, error) { return counted, err }}
	}
	broken := errors.New("broken")
	tests := map[string]struct {
		lanes [][]suite
		want  string
	}{
		"the sum of all":                 {[][]suite{{gives(tally{3, 0, 1}, nil), gives(tally{4, 0, 0}, nil)}, {gives(tally{1, 0, 0}, nil)}}, "8 passed, 0 failed, 1 skipped"},
		"goes on after a failure":        {[][]suite{{gives(tally{3, 2, 0}, broken), gives(tally{4, 0, 0}, nil)}}, "7 passed, 2 failed, 0 skipped"},
		"a failure in the second lane":   {[][]suite{{gives(tally{3, 0, 0}, nil)}, {gives(tally{0, 1, 0}, broken)}}, "3 passed, 1 failed, 0 skipped"},
		"an error without a failed test": {[][]suite{{gives(tally{3, 0, 0}, broken)}}, "3 passed, 1 failed, 0 skipped"},
		"no test at all":                 {[][]suite{{gives(tally{3, 0, 0}, nil)}, {gives(tally{}, nil)}}, "3 passed, 1 failed, 0 skipped"},
		"only skipped":                   {[][]suite{{gives(tally{0, 0, 2}, nil)}}, "0 passed, 0 failed, 2 skipped"},
		"the second lane alone":          {[][]suite{nil, {gives(tally{2, 0, 0}, nil)}}, "2 passed, 0 failed, 0 skipped"},
		"no suite":                       {[][]suite{nil, nil}, "0 passed, 1 failed, 0 skipped"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			runAll(t.Context(), &out, tt.lanes...)
			lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
			if got := lines[len(lines)-1]; got != tt.want {
				t.Errorf("the last line is %q, want %q; all:\n%s", got, tt.want, out.String())
			}
		})
	}
}

// Both lanes are under way at once, and what the second one's suites wrote is not torn apart.
func TestLanesRunBesideEachOther(t *testing.T) {
	t.Parallel()
	first, second := make(chan struct{}), make(chan struct{})
	back := suite{"back", func(_ context.Context, w io.Writer) (tally, error) {
		close(first)
		fmt.Fprint(w, "before\n")
		<-second
		fmt.Fprint(w, "after\n")
		return tally{passed: 1}, nil
	}}
	front := suite{"front", func(_ context.Context, w io.Writer) (tally, error) {
		<-first
		fmt.Fprint(w, "one\n")
		close(second)
		fmt.Fprint(w, "two\n")
		return tally{passed: 1}, nil
	}}
	var out strings.Builder
	if got := runAll(t.Context(), &out, []suite{back}, []suite{front}); got != (tally{passed: 2}) {
		t.Errorf("counted %s", got)
	}
	if !strings.Contains(out.String(), "== front\none\ntwo\n-- front: 1 passed") {
		t.Errorf("the output of a suite is torn apart:\n%s", out.String())
	}
}

// The go command itself writes the events: a module with a test of every end, and packages that cannot be counted.
func TestGoTest(t *testing.T) { // not parallel: changes the working directory
	dir := t.TempDir()
	for name, content := range map[string]string{
		"go.mod": "module sample\n\ngo 1.26\n",
		"ends/ends_test.go": `package ends
import "testing"
func TestPass(t *testing.T) { t.Run("sub", func(t *testing.T) { t.Log("quiet") }) }
func TestFail(t *testing.T) { t.Error("the reason of the failure") }
func TestSkip(t *testing.T) { t.Skip("the recordings are absent") }
`,
		"skips/skips_test.go": `package skips
import "testing"
func TestSkip(t *testing.T) { t.Skip("the recordings are absent") }
`,
		"broken/broken_test.go": "package broken\nvar x int = \"text\"\n",
		"exits/exits_test.go": `package exits
import ("os"; "testing")
func TestMain(*testing.M) { println("left early"); os.Exit(3) }
`,
		"panics/panics_test.go": `package panics
import "testing"
func TestPanic(t *testing.T) { panic("on purpose") }
`,
		"none/none.go": "package none\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	var out strings.Builder
	got, err := goTest(t.Context(), &out, []string{"./..."})
	if err == nil {
		t.Error("failed tests make no error")
	}
	if want := (tally{passed: 2, failed: 4, skipped: 2}); got != want {
		t.Errorf("counted %s, want %s; all:\n%s", got, want, out.String())
	}
	for _, want := range []string{"the reason of the failure", "left early", "on purpose", "cannot use", "skipped TestSkip: skips_test.go:3: the recordings are absent"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "quiet") {
		t.Errorf("the output shows the log of a test that passed:\n%s", out.String())
	}
}

func TestStreamThatBreaksOff(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	got, err := readGoTest(strings.NewReader(`{"Action":"start","Package":"p"}
{"Action":"pass","Package":"p","Test":"TestA"}
`), &out)
	if err != nil || got.failed != 1 {
		t.Errorf("counted %s, %v; want the package that did not end as a failure", got, err)
	}
}

func TestClip(t *testing.T) {
	t.Parallel()
	long := make([]string, 5000)
	for i := range long {
		long[i] = "line\n"
	}
	long[0], long[len(long)-1] = "first\n", "last"
	got := clip(long)
	if n := strings.Count(got, "\n"); n > 210 || !strings.HasPrefix(got, "first\n") || !strings.HasSuffix(got, "last\n") {
		t.Errorf("%d lines, from %.10q to %q", n, got, got[len(got)-10:])
	}
}

func TestReports(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		read    func([]byte) (tally, error)
		report  string
		want    tally
		wantErr bool
	}{
		"vitest": {readVitest, `{"success":true,"testResults":[{"status":"passed","assertionResults":[
			{"status":"passed"},{"status":"pending"},{"status":"todo"},{"status":"skipped"}]}]}`, tally{1, 0, 3}, false},
		"vitest, a failed test": {readVitest, `{"success":false,"testResults":[{"status":"failed","assertionResults":[
			{"status":"passed"},{"status":"failed"}]}]}`, tally{1, 1, 0}, true},
		"vitest, a file that does not load": {readVitest, `{"success":false,"testResults":[{"status":"failed","assertionResults":[]}]}`, tally{0, 1, 0}, true},
		"vitest, an unhandled error":        {readVitest, `{"success":false,"testResults":[{"status":"passed","assertionResults":[{"status":"passed"}]}]}`, tally{1, 0, 0}, true},
		"vitest, an end it never had":       {readVitest, `{"success":true,"testResults":[{"status":"passed","assertionResults":[{"status":"new"}]}]}`, tally{}, true},
		"vitest, another shape":             {readVitest, `{}`, tally{}, true},
		"vitest, cut short":                 {readVitest, `{"success":tr`, tally{}, true},
		"Playwright":                        {readPlaywright, `{"stats":{"expected":5,"unexpected":1,"flaky":2,"skipped":3},"errors":[]}`, tally{5, 3, 3}, false},
		"Playwright, an error of the run":   {readPlaywright, `{"stats":{"expected":0,"unexpected":0,"flaky":0,"skipped":0},"errors":[{"message":"no config"}]}`, tally{}, true},
		"Playwright, another shape":         {readPlaywright, `{}`, tally{}, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := tt.read([]byte(tt.report))
			if got != tt.want || (err != nil) != tt.wantErr {
				t.Errorf("counted %s, %v; want %s, error %v", got, err, tt.want, tt.wantErr)
			}
		})
	}
}

func TestReportOfAnEarlierRunIsNotCounted(t *testing.T) {
	t.Parallel()
	report := filepath.Join(t.TempDir(), "report.json")
	if err := os.WriteFile(report, []byte(`{"stats":{"expected":5}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := withReport(t.Context(), io.Discard, command(t.Context(), "true"), report, readPlaywright)
	if err == nil || got != (tally{}) {
		t.Errorf("counted %s, %v; want an error for the missing report", got, err)
	}
}
