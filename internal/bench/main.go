// Command bench measures the product against the limits of the machine that it runs on: the real server on PostgreSQL and
// Redis before a simulated Bitbucket, through its public doors, by turns with bare counterparts that use the same
// statements, compression, pool and fsync. It prints a table and writes it as JSON.
//
//	go run ./internal/bench [-only regexp] [-baseline file] [-record] [-out dir] [-data dir]
//
// BENCH=quick ends within three minutes; BENCH=growth loads a large database first (BENCH_SCALE is the share of the
// full size, 1 unless it says otherwise: 22 GB and some minutes) and compares each figure with an empty one. With -data
// that database is kept, and the next run begins at once. A growth run ends with a backup, which takes long and needs room
// for the dump; -only leaves it out where it does not find "backup". A figure that misses its goal is shown as such, and is
// no failure: the exit code is 1 only where something could not be measured, and 3 where a ratio is worse than the
// committed baseline by more than the tolerance.
//
// Server, PostgreSQL, Redis, the simulated Bitbucket and the sender share the machine. So absolute figures mean little
// beside the limit that was measured in the same run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// exitRegression is the exit code of a run that is worse than its baseline.
const exitRegression = 3

// errRegression says that a ratio is worse than the baseline allows.
var errRegression = errors.New("a figure is worse than its baseline allows")

func main() {
	if len(os.Args) == 2 && os.Args[1] == bareCommand {
		exit(bareIntake())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	switch {
	case errors.Is(err, errRegression):
		os.Exit(exitRegression)
	case err != nil:
		os.Exit(1)
	}
	os.Exit(0)
}

// mode is how much is measured.
type mode struct {
	quick bool
	// growth is the share of the full size that is loaded; 0 for none.
	growth float64
	// data is the folder of PostgreSQL where it is kept; "" where it is made for this run and removed after it.
	data string
}

func readMode() (mode, error) {
	switch name := os.Getenv("BENCH"); name {
	case "":
		return mode{}, nil
	case "quick":
		return mode{quick: true}, nil
	case "growth":
		m := mode{quick: true, growth: 1}
		if text := os.Getenv("BENCH_SCALE"); text != "" {
			var err error
			if m.growth, err = strconv.ParseFloat(text, 64); err != nil || m.growth <= 0 || m.growth > 1 {
				return mode{}, fmt.Errorf("BENCH_SCALE is %q, which is no share such as 0.05", text)
			}
		}
		return m, nil
	default:
		return mode{}, fmt.Errorf("BENCH is %q: leave it out, or say quick or growth", name)
	}
}

func (m mode) String() string {
	switch {
	case m.growth > 0:
		return "growth"
	case m.quick:
		return "quick"
	}
	return "full"
}

// of is how large a load is: a whole run's, or a quick one's.
func (m mode) of(whole, quick int) int {
	if m.quick {
		return quick
	}
	return whole
}

func run(ctx context.Context) (err error) {
	m, err := readMode()
	if err != nil {
		return err
	}
	dir := flag.String("out", ".bench", "folder of results.json, of the profile and of what the servers leave")
	only := flag.String("only", "", "measure only the groups whose name this regular expression finds: "+strings.Join(groupNames(), ", "))
	against := flag.String("baseline", "internal/bench/baseline.json", "ratios to compare with; empty for none")
	record := flag.Bool("record", false, "write the ratios of this run to the baseline instead of comparing with them")
	flag.StringVar(&m.data, "data", "", "growth: keep PostgreSQL in this folder; a history of the wanted size and of this schema that is there is not loaded again, and what a run added to it is taken away by the next")
	flag.Parse()
	wanted, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}
	load := machineLoad()
	began := time.Now()
	figures, failed := measure(ctx, m, *dir, wanted)
	if err := write(filepath.Join(*dir, "results.json"), figures); err != nil {
		return errors.Join(failed, err)
	}
	table(os.Stdout, figures)
	fmt.Printf("\n%s run of %s; load of the machine when it began: %s. A ratio is value / limit; the limit was measured in the same run.\n",
		m, time.Since(began).Round(time.Second), load)
	if failed != nil {
		return failed
	}
	if *against == "" {
		return nil
	}
	if *record {
		return writeBaseline(*against, m, load, figures)
	}
	return compare(os.Stdout, *against, m, figures)
}

// machineLoad is how busy the machine is with other work, as far as the system says.
func machineLoad() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	fields := strings.Fields(string(text))
	return strings.Join(fields[:min(3, len(fields))], " ")
}
