// Command testsum runs the test suites, shows readable progress, and ends with one line that sums them up:
// "N passed, N failed, N skipped". It exits with 1 if anything failed.
//
//	testsum -out DIR -go '-race ./...' -vitest '--config …' -playwright '--config …'
//
// The suites of the front end run one after the other, beside the Go tests: each side waits a good deal, for databases
// and for browsers, and the other then has the processors. A suite whose flag is not given does not run. Go tests and their subtests count one each, as "go test -v" prints them.
// A suite that ran no test at all, or ended badly without naming a failed test (a broken build, a crash), is one failure.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// tally counts tests by their end.
type tally struct{ passed, failed, skipped int }

func (t *tally) add(other tally) {
	t.passed += other.passed
	t.failed += other.failed
	t.skipped += other.skipped
}

func (t tally) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", t.passed, t.failed, t.skipped)
}

// suite runs its tests, writes progress to w and counts. The error is of the run as a whole; failed tests make one
// too.
type suite struct {
	name string
	run  func(ctx context.Context, w io.Writer) (tally, error)
}

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	out := flag.String("out", ".cache/test", "`folder` for the reports of the suites")
	goArgs := flag.String("go", "", "arguments of \"go test\"")
	vitestArgs := flag.String("vitest", "", "arguments of \"vitest run\"")
	playwrightArgs := flag.String("playwright", "", "arguments of \"playwright test\"")
	flag.Parse()
	reports, err := filepath.Abs(*out) // the suites have working directories of their own
	if err == nil {
		err = os.MkdirAll(reports, 0o750)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(1)
	}

	var back, front []suite
	if *goArgs != "" {
		back = append(back, suite{"Go", func(ctx context.Context, w io.Writer) (tally, error) {
			return goTest(ctx, w, strings.Fields(*goArgs))
		}})
	}
	if *vitestArgs != "" {
		front = append(front, suite{"vitest", func(ctx context.Context, w io.Writer) (tally, error) {
			return vitest(ctx, w, strings.Fields(*vitestArgs), filepath.Join(reports, "vitest.json"))
		}})
	}
	if *playwrightArgs != "" {
		front = append(front, suite{"Playwright", func(ctx context.Context, w io.Writer) (tally, error) {
			return playwright(ctx, w, strings.Fields(*playwrightArgs), filepath.Join(reports, "playwright.json"))
		}})
	}
	total := runAll(ctx, os.Stdout, back, front)
	if total.failed > 0 {
		os.Exit(1)
	}
}

// runAll runs lanes of suites at the same time, and the suites of a lane in their order, also after one has failed. What
// the first lane writes is seen at once; the output of a suite of another lane is kept together, and seen when the suite
// has ended. The sum is the last line.
func runAll(ctx context.Context, w io.Writer, lanes ...[]suite) tally {
	var (
		total  tally
		ran    bool
		mu     sync.Mutex // guards total and ran
		shared = &lockedWriter{w: w}
		done   sync.WaitGroup
	)
	for n, lane := range lanes {
		done.Go(func() {
			for _, s := range lane {
				var counted tally
				if n == 0 {
					counted = s.count(ctx, shared)
				} else {
					var kept bytes.Buffer
					counted = s.count(ctx, &kept)
					_, _ = shared.Write(kept.Bytes()) // as where it is written at once: nobody is left to tell
				}
				mu.Lock()
				total.add(counted)
				ran = true
				mu.Unlock()
			}
		})
	}
	done.Wait()
	if !ran {
		fmt.Fprintln(w, "no suite was asked for")
		total.failed++
	}
	fmt.Fprintln(w, total)
	return total
}

// count runs a suite and says how it ended. One that ended badly, or ran nothing, has at least one failure.
func (s suite) count(ctx context.Context, w io.Writer) tally {
	fmt.Fprintf(w, "== %s\n", s.name)
	start := time.Now()
	counted, err := s.run(ctx, w)
	switch {
	case err != nil && counted.failed == 0:
		counted.failed = 1
		fmt.Fprintf(w, "%s ended badly without a failed test: %v\n", s.name, err)
	case err == nil && counted == tally{}:
		counted.failed = 1
		fmt.Fprintf(w, "%s ran no test\n", s.name)
	}
	fmt.Fprintf(w, "-- %s: %s in %s\n", s.name, counted, time.Since(start).Round(100*time.Millisecond))
	return counted
}

// lockedWriter lets lanes write to one place: what is written at once stays together.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// command is a child that is asked to end, and given time to, when ctx ends: its servers must be stopped.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // the programs and flags that the Makefile names
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	return cmd
}

// withReport runs a command that writes a report into a file, and reads the report. Whatever the report says, a command
// that fails is an error.
func withReport(ctx context.Context, w io.Writer, cmd *exec.Cmd, report string, parse func([]byte) (tally, error)) (tally, error) {
	// A report of an earlier run must not be counted again.
	if err := os.Remove(report); err != nil && !errors.Is(err, os.ErrNotExist) {
		return tally{}, err
	}
	cmd.Stdout, cmd.Stderr = w, w
	runErr := cmd.Run()
	content, err := os.ReadFile(report)
	if err != nil {
		return tally{}, errors.Join(runErr, err)
	}
	counted, err := parse(content)
	return counted, errors.Join(runErr, err, ctx.Err())
}
