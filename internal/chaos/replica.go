package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/signedapproval/bitbucket/internal/tether"
)

// replica is one server process, and what stands between it and the others.
type replica struct {
	name    string
	binary  string
	env     []string
	log     *os.File
	journal *journal
	// The links of this replica alone.
	postgres, redis, bitbucket, hooks, people *link
	// clock gives the steps of the next process's clock; "" for none.
	clock   func() string
	address atomic.Pointer[net.TCPAddr] // nil while it does not serve

	mu      sync.Mutex
	process *tether.Process
}

func (r *replica) links() []*link {
	return []*link{r.postgres, r.redis, r.bitbucket, r.hooks, r.people}
}

// serves is where the replica listens now.
func (r *replica) serves() net.Addr {
	if address := r.address.Load(); address != nil {
		return address
	}
	return nil
}

// run keeps the replica running until ctx ends: whatever ends it, it is started again.
func (r *replica) run(ctx context.Context) {
	for ctx.Err() == nil {
		process, wrong, err := r.start()
		began := time.Now()
		if err != nil {
			r.journal.note("%s does not start: %v", r.name, err)
			pause(ctx, time.Second)
			continue
		}
		select {
		case <-process.Done():
		case <-ctx.Done():
			_ = process.Signal(syscall.SIGCONT)
			_ = process.Stop(30*time.Second, syscall.SIGTERM, syscall.SIGKILL) // however it ends, it is over
		}
		if wrong >= 0 && time.Since(began) > wrong {
			r.journal.struck(wrongClocks)
		}
		r.address.Store(nil)
		pause(ctx, 100*time.Millisecond)
	}
}

// start starts the process, and tells when its clock goes wrong; never if that is negative.
func (r *replica) start() (process *tether.Process, wrong time.Duration, err error) {
	cmd := exec.Command(r.binary, "serve")
	cmd.Stdout, cmd.Stderr = r.log, &announcer{replica: r}
	cmd.Env = append(os.Environ(), r.env...)
	wrong = -1
	if steps := r.clock(); steps != "" {
		at, _, _ := strings.Cut(steps, ":")
		if seconds, err := strconv.Atoi(at); err == nil {
			wrong = time.Duration(seconds+1) * time.Second
		}
		cmd.Env = append(cmd.Env, "CHAOS_CLOCK="+steps)
		r.journal.fault("%s starts with a clock that is wrong: %s (seconds after the start, seconds off)", r.name, steps)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.process, err = tether.Start(cmd, syscall.SIGKILL)
	return r.process, wrong, err
}

// signal sends a signal to the process that runs now, and tells whether there is one.
func (r *replica) signal(sig syscall.Signal) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.process == nil {
		return false
	}
	select {
	case <-r.process.Done():
		return false
	default:
	}
	if sig == syscall.SIGKILL {
		r.address.Store(nil)
	}
	return r.process.Signal(sig) == nil
}

// announcer keeps a replica's log, and reads from it where the process serves.
type announcer struct {
	replica *replica
	line    []byte
	done    bool
}

func (a *announcer) Write(b []byte) (int, error) {
	if !a.done {
		a.line = append(a.line, b...)
		for !a.done {
			line, rest, found := bytes.Cut(a.line, []byte("\n"))
			if !found {
				break
			}
			a.line = rest
			var entry struct{ Msg, Address string }
			if json.Unmarshal(line, &entry) != nil || entry.Msg != "serving" {
				continue
			}
			a.done = true
			if address, err := net.ResolveTCPAddr("tcp", entry.Address); err == nil {
				a.replica.address.Store(address)
			}
		}
	}
	return a.replica.log.Write(b)
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// build builds a program of this module.
func buildProgram(ctx context.Context, top, name, path, overlay string) (string, error) {
	binary := filepath.Join(top, folder, name)
	args := []string{"build", "-trimpath", "-o", binary}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, path)...)
	cmd.Dir = top
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", path, err, out)
	}
	return binary, nil
}
