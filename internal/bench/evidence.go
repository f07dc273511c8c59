package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// evidenceFigures runs the benchmarks of the packages that know how: the verifier beside raw signature checks, and proofs
// of the log.
func evidenceFigures(ctx context.Context, w *world) (figures []Figure, err error) {
	length := fmt.Sprintf("%dms", w.mode.of(3000, 500))
	verified, err := goBench(ctx, nil, "./server/evidence", "^BenchmarkVerifyBundle$|^BenchmarkP256$", length)
	if err != nil {
		return nil, err
	}
	for _, people := range []int{3, 1000} {
		m := verified[fmt.Sprintf("BenchmarkVerifyBundle/roster=%d", people)]
		if m["x-raw"] == 0 {
			return figures, fmt.Errorf("the benchmark of the verifier says nothing of %d people", people)
		}
		figures = append(figures, shown(fmt.Sprintf("bundles verified on one core, %d people in the roster", people), m["bundles/s"], "/s", false).
			beside(m["bundles/s"]*m["x-raw"]).share(0.5).
			noting("the limit is the raw signature checks of a bundle alone: four of ECDSA P-256 and three of Ed25519, however many people there are; one of ECDSA takes %s us. "+
				"The hashes of the roster's changes and their keys, which the format asks for as well and the limit leaves out, take %s us by themselves",
				number(verified["BenchmarkP256"]["ns/op"]/1000), number(m["hash-ns/op"]/1000)))
	}
	leaves := w.mode.of(10_000_000, 200_000)
	log, err := goBench(ctx, []string{"SIGNEDAPPROVAL_BENCH_LEAVES=" + strconv.Itoa(leaves)}, "./server/store", "^BenchmarkLog$/^inclusion-proof$", length)
	if err != nil {
		return figures, err
	}
	proof := log["BenchmarkLog/inclusion-proof"]
	if proof["p50-ms"] == 0 {
		return figures, fmt.Errorf("the benchmark of the log is incomplete: %v", log)
	}
	return append(figures,
		shown(fmt.Sprintf("inclusion proof among %d leaves, p50", leaves), proof["p50-ms"], "ms", true),
		shown(fmt.Sprintf("inclusion proof among %d leaves, p99", leaves), proof["p99-ms"], "ms", true)), nil
}

// bundles measures how long the server takes for the evidence of an approved request: its statements, the roster, and the
// proofs of each of its leaves in the log.
func bundles(ctx context.Context, w *world) ([]Figure, error) {
	list, err := w.known(ctx, 2*len(w.approvers))
	if err != nil {
		return nil, err
	}
	submit, err := w.signed(ctx, list)
	if err != nil {
		return nil, err
	}
	for _, s := range submit {
		if err := s(ctx); err != nil {
			return nil, err
		}
	}
	if err := w.shown(ctx, "SUCCESSFUL", list); err != nil {
		return nil, err
	}
	paths := make([]string, len(list))
	for i, p := range list {
		r, err := w.approvers[i%len(w.approvers)].Request(ctx, p.Place)
		if err != nil {
			return nil, err
		}
		paths[i] = r.EvidencePath
	}
	var took []time.Duration
	for i := range 60 { // the server answers an address 120 times at once, and then lets it wait
		began := time.Now()
		if _, err := w.approvers[i%len(w.approvers)].Get(ctx, paths[i%len(paths)]); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
	}
	return []Figure{
		shown("bundle of an approved request, p50", milliseconds(percentile(took, 0.5)), "ms", true),
		shown("bundle of an approved request, p99", milliseconds(percentile(took, 0.99)), "ms", true),
	}, w.rest(ctx)
}

// goBench runs benchmarks of a package and answers their metrics, by name and unit.
func goBench(ctx context.Context, env []string, folder, pattern, length string) (map[string]map[string]float64, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", pattern, "-benchtime", length, folder)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("the benchmarks of %s: %w\n%s", folder, err, out)
	}
	return readBench(string(out)), nil
}

// readBench reads what go test -bench prints.
func readBench(text string) map[string]map[string]float64 {
	found := map[string]map[string]float64{}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name := fields[0]
		if i := strings.LastIndexByte(name, '-'); i > 0 { // the number of cores
			if _, err := strconv.Atoi(name[i+1:]); err == nil {
				name = name[:i]
			}
		}
		metrics := map[string]float64{}
		for i := 2; i+1 < len(fields); i += 2 {
			if value, err := strconv.ParseFloat(fields[i], 64); err == nil {
				metrics[fields[i+1]] = value
			}
		}
		found[name] = metrics
	}
	return found
}
