package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// evidenceFigures runs the benchmarks of the packages that know how: the verifier beside raw signature checks, and proofs
// of the log.
func evidenceFigures(ctx context.Context, w *world) (figures []Figure, err error) {
	time := fmt.Sprintf("%dms", w.mode.of(3000, 500))
	verified, err := goBench(ctx, nil, "./server/evidence", "^BenchmarkVerifyBundle$|^BenchmarkP256$", time)
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
	log, err := goBench(ctx, []string{"SIGNEDAPPROVAL_BENCH_LEAVES=" + strconv.Itoa(leaves)}, "./server/store", "^BenchmarkLog$/^inclusion-proof$", time)
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

// goBench runs benchmarks of a package and answers their metrics, by name and unit.
func goBench(ctx context.Context, env []string, folder, pattern, time string) (map[string]map[string]float64, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", pattern, "-benchtime", time, folder)
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
