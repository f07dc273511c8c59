package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
)

// evaluations measures how many new heads are evaluated and shown each second, and what one costs, with a profile.
func evaluations(ctx context.Context, w *world) (figures []Figure, err error) {
	list, err := w.open(w.mode.of(3000, 600))
	if err != nil {
		return nil, err
	}
	if err := w.rest(ctx); err != nil {
		return nil, err
	}
	before, err := w.cost()
	if err != nil {
		return nil, err
	}
	calls := w.front.calls.Load()
	profile := make(chan error, 1)
	go func() { profile <- w.profile(ctx, time.Duration(w.mode.of(5, 2))*time.Second) }()
	began := time.Now()
	if _, _, err := pour(ctx, 64, len(list), 0, func(ctx context.Context, i int) error { return w.accepted(ctx, list[i]) }); err != nil {
		return nil, err
	}
	if err := w.shown(ctx, "INPROGRESS", list); err != nil {
		return nil, err
	}
	times, err := w.front.wait(ctx, "INPROGRESS", list)
	if err != nil {
		return nil, err
	}
	whole := slices.MaxFunc(times, time.Time.Compare).Sub(began)
	if err := w.rest(ctx); err != nil {
		return nil, err
	}
	after, err := w.cost()
	if err != nil {
		return nil, err
	}
	n := float64(len(list))
	each := func(took time.Duration) float64 { return milliseconds(took) / n }
	figures = append(figures,
		shown("new heads evaluated and shown", n/whole.Seconds(), "/s", false).noting("with the sender and the simulated Bitbucket on the same cores; policy-bot reaches %d/s so", peerPerSecond),
		shown("CPU of a pull request event end to end, server", each(after.server-before.server), "ms", true),
		shown("CPU of a pull request event end to end, PostgreSQL", each(after.postgres-before.postgres), "ms", true),
		shown("calls to Bitbucket of a pull request event", float64(w.front.calls.Load()-calls)/n, "calls", true).
			noting("two facts, one status, and one look at the status when its own webhook comes"))
	if err := <-profile; err != nil {
		return figures, fmt.Errorf("profile: %w", err)
	}
	top, err := topOf(ctx, w.binary, filepath.Join(w.dir, "cpu.pprof"))
	if err != nil {
		return figures, err
	}
	figures[1] = figures[1].noting("profile in %s; most of its own time: %s", filepath.Join(w.dir, "cpu.pprof"), top)
	return figures, nil
}

// profile takes a CPU profile of the server while it works.
func (w *world) profile(ctx context.Context, length time.Duration) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", w.admin, int(length.Seconds())), nil)
	if err != nil {
		return err
	}
	response, err := w.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	file, err := os.Create(filepath.Join(w.dir, "cpu.pprof"))
	if err != nil {
		return err
	}
	_, err = io.Copy(file, response.Body)
	return errors.Join(err, file.Close())
}

// topOf names the functions that a profile shows most of.
func topOf(ctx context.Context, binary, profile string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-nodecount=8", binary, profile).Output()
	if err != nil {
		return "", fmt.Errorf("go tool pprof: %w", err)
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) >= 6 && strings.HasSuffix(fields[1], "%") {
			names = append(names, fields[5]+" "+fields[1])
		}
	}
	return strings.Join(names, ", "), nil
}

// costs is the CPU that processes have used since they began.
type costs struct{ server, postgres time.Duration }

func (w *world) cost() (c costs, err error) {
	if c.server, err = cpu(w.server.PID(), false); err != nil {
		return c, err
	}
	text, err := os.ReadFile(filepath.Join(w.pgdir, "postmaster.pid"))
	if err != nil {
		return c, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		return c, err
	}
	c.postgres, err = cpu(pid, true)
	return c, err
}

// cpu is what a process has used, and where that is asked its children as well, those that ended included.
func cpu(pid int, family bool) (time.Duration, error) {
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux
	stat, err := readStat(pid)
	if err != nil {
		return 0, err
	}
	sum := stat.own
	if !family {
		return time.Duration(sum) * tick, nil
	}
	sum += stat.ended
	folders, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, folder := range folders {
		child, err := strconv.Atoi(filepath.Base(folder))
		if err != nil {
			continue
		}
		if s, err := readStat(child); err == nil && s.parent == pid { // else it has ended
			sum += s.own
		}
	}
	return time.Duration(sum) * tick, nil
}

type stat struct {
	parent     int
	own, ended int64 // ticks of CPU: its own, and of children that it has waited for
}

func readStat(pid int) (stat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, fmt.Errorf("the CPU of a process is read from /proc, as Linux has it: %w", err)
	}
	_, after, _ := strings.Cut(string(text), ") ") // the name may hold anything else
	fields := strings.Fields(after)
	if len(fields) < 15 {
		return stat{}, errors.New("/proc says something else than was expected")
	}
	var n [5]int64
	for i, field := range []int{1, 11, 12, 13, 14} {
		if n[i], err = strconv.ParseInt(fields[field], 10, 64); err != nil {
			return stat{}, err
		}
	}
	return stat{parent: int(n[0]), own: n[1] + n[2], ended: n[3] + n[4]}, nil
}

// kill kills the server with 500 webhooks accepted and their evaluations under way.
func kill(ctx context.Context, w *world) ([]Figure, error) {
	const inFlight = 500
	list, err := w.open(inFlight)
	if err != nil {
		return nil, err
	}
	if err := w.slow(ctx, 50*time.Millisecond); err != nil {
		return nil, err
	}
	defer w.front.delay.Store(0)
	if _, _, err := pour(ctx, 64, inFlight, 0, func(ctx context.Context, i int) error { return w.accepted(ctx, list[i]) }); err != nil {
		return nil, err
	}
	if err := w.end(syscall.SIGKILL); err != nil {
		return nil, err
	}
	done := w.front.has("INPROGRESS", list)
	w.front.delay.Store(0)
	began := time.Now()
	if err := w.serve(ctx); err != nil {
		return nil, err
	}
	waiting, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	_, err = w.front.wait(waiting, "INPROGRESS", list)
	if err != nil && ctx.Err() != nil {
		return nil, err
	}
	lost := inFlight - w.front.has("INPROGRESS", list)
	took := time.Since(began)
	return []Figure{
		shown("lost after kill -9 with 500 in flight", float64(lost), "webhooks", true).exactly(0).
			noting("%d had their status when the server was killed; policy-bot loses %d", done, peerLost),
		shown("until all of them were shown, from the start of the next server", took.Seconds(), "s", true),
	}, w.rest(ctx)
}

// burst sends 5,000 webhooks over 50 pull requests to a connection with 1,000 calls an hour.
func burst(ctx context.Context, w *world) (figures []Figure, err error) {
	const hooks, pulls, perHour = 5000, 50, 1000
	list, err := w.open(pulls)
	if err != nil {
		return nil, err
	}
	if err := w.forgetBudget(ctx); err != nil {
		return nil, err
	}
	if err := w.restart(ctx, "SIGNEDAPPROVAL_CALLS_PER_HOUR="+strconv.Itoa(perHour)); err != nil {
		return nil, err
	}
	defer func() {
		w.front.limit.Store(0)
		err = errors.Join(err, w.forgetBudget(ctx), w.restart(ctx))
		if err == nil {
			_, err = w.sql(ctx, w.ours, `update signedapproval_jobs set run_at = now(), dispatched_at = null where state = 'READY' and kind in ('evaluate', 'status', 'status-seen') and holder is null returning key`)
		}
		if err == nil {
			err = w.rest(ctx)
		}
	}()
	calls := w.front.calls.Load()
	w.front.over.Store(0)
	w.front.limit.Store(calls + perHour)
	refused := 0
	statuses := make([]int, hooks)
	_, whole, err := pour(ctx, 64, hooks, 0, func(ctx context.Context, i int) (err error) {
		statuses[i], err = w.post(ctx, list[i%pulls].hook, uuid.NewString())
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, s := range statuses {
		if s/100 != 2 {
			refused++
		}
	}
	waiting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	_, err = w.front.wait(waiting, "INPROGRESS", list)
	if err != nil && ctx.Err() != nil {
		return nil, err
	}
	return []Figure{
		shown("burst of 5,000 webhooks over 50 pull requests, 1,000 calls an hour, accepted", float64(hooks-refused), "webhooks", false).exactly(hooks).
			noting("in %s s; policy-bot accepts %d", number(whole.Seconds()), peerBurst),
		shown("burst, pull requests that show the right status within a minute", float64(w.front.has("INPROGRESS", list)), "pull requests", false).exactly(pulls),
		shown("burst, calls to Bitbucket", float64(w.front.calls.Load()-calls), "calls", true),
		shown("burst, answers 429", float64(w.front.over.Load()), "answers", true).exactly(0),
	}, nil
}

// forgetBudget makes the credential's hour begin anew, here and in the ledger.
func (w *world) forgetBudget(ctx context.Context) error {
	if err := w.end(syscall.SIGTERM); err != nil { // it counts what it spent before it ends
		return err
	}
	if _, err := w.sql(ctx, w.ours, `delete from signedapproval_api_budgets returning token_key`); err != nil {
		return err
	}
	keys, err := w.redis.Keys(ctx, "signedapproval:budget:*").Result()
	if err != nil || len(keys) == 0 {
		return err
	}
	return w.redis.Del(ctx, keys...).Err()
}
