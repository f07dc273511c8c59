package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// event is one line of "go test -json"; see "go doc test2json".
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build output
	Test        string
	Elapsed     float64
	Output      string
	FailedBuild string
}

func goTest(ctx context.Context, w io.Writer, args []string) (tally, error) {
	cmd := command(ctx, "go", append([]string{"test", "-json"}, args...)...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return tally{}, err
	}
	cmd.Stderr = w
	if err := cmd.Start(); err != nil {
		return tally{}, err
	}
	counted, readErr := readGoTest(stdout, w)
	return counted, errors.Join(readErr, cmd.Wait())
}

// readGoTest counts the tests of a stream of events. It writes one line for each package and, of a test that failed,
// what it printed.
func readGoTest(stream io.Reader, w io.Writer) (tally, error) {
	var total tally
	packages := map[string]*goPackage{}
	builds := map[string][]string{} // output of the compiler, by import path
	lines := bufio.NewReader(stream)
	for {
		line, err := lines.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return total, err
		}
		if strings.TrimSpace(line) != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) != nil {
				fmt.Fprint(w, line) // a remark of the go command itself
			} else if e.Action == "build-output" {
				builds[e.ImportPath] = append(builds[e.ImportPath], e.Output)
			} else if e.Package != "" {
				p := packages[e.Package]
				if p == nil {
					p = &goPackage{output: map[string][]string{}}
					packages[e.Package] = p
				}
				if p.take(e) {
					total.add(p.close(w, e, builds[e.FailedBuild]))
					delete(packages, e.Package)
				}
			}
		}
		if err != nil {
			break
		}
	}
	for name := range packages {
		total.failed++
		fmt.Fprintf(w, "FAIL %s: its tests did not end\n", name)
	}
	return total, nil
}

// goPackage is what is known of a package whose tests are running.
type goPackage struct {
	tally
	output   map[string][]string // by test; "" is the package itself
	failures []string            // in the order of their end: subtests before the test that they belong to
}

// take notes one event and tells whether it ends the package.
func (p *goPackage) take(e event) (ended bool) {
	switch e.Action {
	case "output":
		p.output[e.Test] = append(p.output[e.Test], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			return true
		}
		switch e.Action {
		case "pass":
			p.passed++
			delete(p.output, e.Test)
		case "fail":
			p.failed++
			p.failures = append(p.failures, e.Test)
		case "skip":
			p.skipped++
		}
	}
	return false
}

// close writes how a package ended, in one piece, and returns its count.
func (p *goPackage) close(out io.Writer, e event, build []string) tally {
	w := &bytes.Buffer{}
	defer func() { _, _ = out.Write(w.Bytes()) }()
	elapsed := time.Duration(e.Elapsed * float64(time.Second)).Round(10 * time.Millisecond)
	switch {
	case e.Action == "fail":
		if p.failed == 0 { // a broken build, a panic outside of a test, os.Exit
			p.failed = 1
			p.failures = []string{""}
		}
		for _, test := range p.failures {
			fmt.Fprintf(w, "--- FAIL %s %s\n", e.Package, test)
			fmt.Fprint(w, clip(slices.Concat(build, p.output[test])))
			build = nil
		}
		fmt.Fprintf(w, "FAIL %s %s (%s)\n", e.Package, elapsed, p.tally)
	case p.tally == tally{}:
		// No tests: nothing to say.
	default:
		fmt.Fprintf(w, "ok   %s %s (%s)\n", e.Package, elapsed, p.tally)
		delete(p.output, "")
		for _, test := range slices.Sorted(maps.Keys(p.output)) { // what is left: skipped tests
			fmt.Fprintf(w, "     skipped %s: %s\n", test, reason(p.output[test]))
		}
	}
	return p.tally
}

// reason is the first line that a skipped test printed.
func reason(output []string) string {
	for _, line := range output {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			return line
		}
	}
	return "no reason given"
}

// clip keeps the two ends of a long output: a log of megabytes tells less than its first and last lines.
func clip(output []string) string {
	const most = 200
	if len(output) > most {
		left := fmt.Sprintf("… %d lines left out …\n", len(output)-most)
		output = slices.Concat(output[:most/2], []string{left}, output[len(output)-most/2:])
	}
	text := strings.Join(output, "")
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return text
}
