package tether

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain is also the parent of TestChildEndsWithItsParent: it starts a tethered child, prints its number and hangs.
func TestMain(m *testing.M) {
	if os.Getenv("TETHER_TEST_PARENT") != "" {
		child := exec.Command("sleep", "600")
		child.Stdout = os.Stdout
		p, err := Start(child, syscall.SIGTERM)
		if err != nil {
			os.Exit(1)
		}
		_, _ = os.Stdout.WriteString(strconv.Itoa(p.PID()) + "\n")
		<-p.Done()
	}
	os.Exit(m.Run())
}

func TestChildEndsWithItsParent(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(self)
	parent.Env = append(os.Environ(), "TETHER_TEST_PARENT=1")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	pipe := bufio.NewReader(out)
	line, err := pipe.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// The child holds the other end of the pipe as its own output: the pipe ends when the child has ended.
	if err := out.(*os.File).SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, pipe); err != nil {
		_ = syscall.Kill(child, syscall.SIGKILL)
		t.Fatalf("process %d outlived its parent: %v", child, err)
	}
	_ = parent.Wait() // killed, as asked for
}

func TestStop(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		script string
		grace  time.Duration
		want   syscall.Signal
	}{
		"the first signal is enough": {"echo ready; exec sleep 600", time.Minute, syscall.SIGTERM},
		"deaf to the first signal":   {"trap '' TERM; echo ready; while :; do sleep 0.1; done", time.Millisecond, syscall.SIGKILL},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command("/bin/sh", "-c", tt.script)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			p, err := Start(cmd, syscall.SIGKILL)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			err = p.Stop(tt.grace, syscall.SIGTERM, syscall.SIGKILL)
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != tt.want {
				t.Fatalf("Stop = %v, want it ended by %v", err, tt.want)
			}
			if err := p.Signal(syscall.SIGTERM); err != nil {
				t.Errorf("Signal after the end = %v", err)
			}
		})
	}
}

func TestChildThatEndsByItself(t *testing.T) {
	t.Parallel()
	p, err := Start(exec.Command("/bin/sh", "-c", "exit 3"), syscall.SIGTERM)
	if err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := p.Err(); !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Fatalf("Err = %v, want exit status 3", err)
	}
}

func TestStartOfWhatDoesNotExist(t *testing.T) {
	t.Parallel()
	if _, err := Start(exec.Command("/nonexistent"), syscall.SIGTERM); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("Start = %v, want not found", err)
	}
}
