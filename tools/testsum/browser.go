package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

func vitest(ctx context.Context, w io.Writer, args []string, report string) (tally, error) {
	cmd := command(ctx, "npx", append([]string{"--no", "--", "vitest", "run", "--reporter=default", "--reporter=json", "--outputFile.json=" + report}, args...)...)
	return withReport(ctx, w, cmd, report, readVitest)
}

// readVitest reads the report of vitest's json reporter. A file that could not be loaded has no tests to count and is
// one failure.
func readVitest(content []byte) (tally, error) {
	var report struct {
		Success     *bool
		TestResults []struct {
			Status           string
			AssertionResults []struct{ Status, FullName string }
		}
	}
	if err := json.Unmarshal(content, &report); err != nil {
		return tally{}, fmt.Errorf("report of vitest: %w", err)
	}
	if report.Success == nil {
		return tally{}, errors.New("report of vitest does not say how the run ended")
	}
	var counted tally
	for _, file := range report.TestResults {
		if file.Status == "failed" && len(file.AssertionResults) == 0 {
			counted.failed++
		}
		for _, test := range file.AssertionResults {
			switch test.Status {
			case "passed":
				counted.passed++
			case "failed":
				counted.failed++
			case "pending", "skipped", "todo", "disabled":
				counted.skipped++
			default:
				return counted, fmt.Errorf("report of vitest: test %q ended as %q", test.FullName, test.Status)
			}
		}
	}
	if !*report.Success {
		return counted, errors.New("vitest reports a failure")
	}
	return counted, nil
}

func playwright(ctx context.Context, w io.Writer, args []string, report string) (tally, error) {
	cmd := command(ctx, "npx", append([]string{"--no", "--", "playwright", "test", "--reporter=list,json"}, args...)...)
	cmd.Env = append(os.Environ(), "PLAYWRIGHT_JSON_OUTPUT_FILE="+report)
	return withReport(ctx, w, cmd, report, readPlaywright)
}

// readPlaywright reads the report of Playwright's json reporter. A flaky test, one that passed on a second try only, is
// a failure: what it shows is not sure.
func readPlaywright(content []byte) (tally, error) {
	var report struct {
		Stats  *struct{ Expected, Unexpected, Flaky, Skipped int }
		Errors []struct{ Message string }
	}
	if err := json.Unmarshal(content, &report); err != nil {
		return tally{}, fmt.Errorf("report of Playwright: %w", err)
	}
	if report.Stats == nil {
		return tally{}, errors.New("report of Playwright has no stats")
	}
	counted := tally{passed: report.Stats.Expected, failed: report.Stats.Unexpected + report.Stats.Flaky, skipped: report.Stats.Skipped}
	var err error
	for _, e := range report.Errors {
		err = errors.Join(err, errors.New(e.Message))
	}
	return counted, err
}
