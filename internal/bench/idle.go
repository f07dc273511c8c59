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
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/signedapproval/bitbucket/internal/tether"
)

// idle measures a server that has nothing to do.
func idle(ctx context.Context, w *world) ([]Figure, error) {
	if err := w.restart(ctx); err != nil { // what people did before is none of it
		return nil, err
	}
	if err := w.rest(ctx); err != nil {
		return nil, err
	}
	if err := pause(ctx, 3*time.Second); err != nil { // what a start asks for is over
		return nil, err
	}
	length := time.Duration(w.mode.of(20, 8)) * time.Second
	spent, err := cpu(w.server.PID(), false)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	woke, switched, err := wakeUps(ctx, w.server.PID(), length)
	if err != nil {
		return nil, err
	}
	seconds := time.Since(began).Seconds()
	used, err := cpu(w.server.PID(), false)
	if err != nil {
		return nil, err
	}
	resident, err := memory(w.server.PID())
	if err != nil {
		return nil, err
	}
	return []Figure{
		shown("resident memory, idle", resident, "MB", true).atMost(60),
		shown("wake-ups, idle", float64(woke)/seconds, "/s", true).atMost(5).
			noting("moments of %s in which a thread of the server ran, after one in which none did", wakeUpPace),
		shown("context switches, idle", float64(switched)/seconds, "/s", true).atMost(5).
			noting("voluntary ones of all threads: one wake-up makes several, of which Go's own watch over its threads is about half"),
		shown("CPU, idle", 100*(used-spent).Seconds()/seconds, "% of a core", true),
	}, nil
}

func pause(ctx context.Context, length time.Duration) error {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// status reads a number of a process or thread from /proc.
func status(path, field string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, field+":"); found {
			return strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, field)
}

// wakeUpPace is how long a moment is of which it is asked whether a process slept through it.
const wakeUpPace = 10 * time.Millisecond

// wakeUps is how often a process that slept woke up during so long, and how often one of its threads went to sleep again.
func wakeUps(ctx context.Context, pid int, length time.Duration) (woke, switched int64, err error) {
	first, err := switches(pid)
	if err != nil {
		return 0, 0, err
	}
	look := time.NewTicker(wakeUpPace)
	defer look.Stop()
	last, awake := first, false
	for end := time.Now().Add(length); time.Now().Before(end); {
		select {
		case <-look.C:
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		}
		now, err := switches(pid)
		if err != nil {
			return 0, 0, err
		}
		if now != last && !awake {
			woke++
		}
		last, awake = now, now != last
	}
	return woke, last - first, nil
}

// switches is how often the threads of a process went to sleep by themselves, and so were woken.
func switches(pid int) (sum int64, err error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(threads) == 0 {
		return 0, errors.Join(err, errors.New("the wake-ups of a process are read from /proc, as Linux has it"))
	}
	for _, thread := range threads {
		n, err := status(thread, "voluntary_ctxt_switches")
		if err != nil && !errors.Is(err, os.ErrNotExist) { // it ended meanwhile
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// memory is what of a process is resident, in megabytes.
func memory(pid int) (float64, error) {
	kilobytes, err := status(fmt.Sprintf("/proc/%d/status", pid), "VmRSS")
	return float64(kilobytes) * 1024 / 1e6, err
}

// coldStart starts further servers beside the first, on the migrated database, until they are ready.
func coldStart(ctx context.Context, w *world) ([]Figure, error) {
	var took []time.Duration
	for range w.mode.of(15, 5) {
		port, err := freePort(ctx)
		if err != nil {
			return nil, err
		}
		address := fmt.Sprintf("127.0.0.1:%d", port)
		cmd := exec.Command(w.binary, "serve")
		cmd.Stderr = io.Discard
		cmd.Env = append(append([]string{}, w.env...), "SIGNEDAPPROVAL_LISTEN="+address, "SIGNEDAPPROVAL_ADMIN_LISTEN=")
		began := time.Now()
		process, err := tether.Start(cmd, syscall.SIGKILL)
		if err != nil {
			return nil, err
		}
		err = until(ctx, time.Minute, "a second server is ready", func() (bool, error) {
			status, err := w.get(ctx, "http://"+address+"/readyz", nil)
			return err == nil && status == http.StatusOK, nil
		})
		took = append(took, time.Since(began))
		_ = process.Stop(0, syscall.SIGKILL) // it was killed, and says so
		if err != nil {
			return nil, err
		}
	}
	info, err := os.Stat(w.binary)
	if err != nil {
		return nil, err
	}
	return []Figure{
		shown("cold start to ready, migrated database, p50", milliseconds(percentile(took, 0.5)), "ms", true).atMost(300),
		shown("binary", float64(info.Size())/1e6, "MB", true),
	}, nil
}
