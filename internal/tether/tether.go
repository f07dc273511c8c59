// Package tether runs a child process that does not outlive this one, however this one ends: by returning, by a panic,
// by ^C or by SIGKILL. The demo and the tests start their servers through it, so that nothing is left running.
//
// A small shell waits for the end of a pipe whose other end only this process holds. The kernel closes it when this
// process is gone, and the shell then signals the child. That is the same on every Unix, and costs no pinned thread as
// Linux's parent-death signal does.
package tether

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Process is a running child. Its methods may be called from any goroutine.
type Process struct {
	cmd      *exec.Cmd
	lifeline io.WriteCloser
	watcher  *exec.Cmd
	done     chan struct{}
	err      error // of cmd.Wait; written before done is closed
}

// Start starts cmd in a process group of its own, so that ^C in the terminal reaches this process only, which then
// stops the child in good order. Should this process end first, the child is sent onDeath. cmd.SysProcAttr may name
// the account to run as; the caller must not use cmd afterwards.
func Start(cmd *exec.Cmd, onDeath syscall.Signal) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Process{cmd: cmd, done: make(chan struct{})}
	if err := p.watch(onDeath); err != nil {
		return nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	go func() {
		p.err = cmd.Wait()
		// The child is gone and its number may soon be another's: the line tells the watcher to leave quietly.
		_, _ = io.WriteString(p.lifeline, "gone\n")
		_ = p.lifeline.Close()
		_ = p.watcher.Wait()
		close(p.done)
	}()
	return p, nil
}

// watch starts the watcher under the child's own account: no other is needed to signal it.
func (p *Process) watch(onDeath syscall.Signal) error {
	script := fmt.Sprintf("read _ || kill -%d %d", int(onDeath), p.cmd.Process.Pid)
	p.watcher = exec.Command("/bin/sh", "-c", script)
	p.watcher.Dir, p.watcher.Env = "/", []string{"PATH=/usr/bin:/bin"}
	p.watcher.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: p.cmd.SysProcAttr.Credential}
	lifeline, err := p.watcher.StdinPipe()
	if err != nil {
		return err
	}
	p.lifeline = lifeline
	if err := p.watcher.Start(); err != nil {
		return fmt.Errorf("watcher of process %d: %w", p.cmd.Process.Pid, err)
	}
	return nil
}

// PID is the child's process number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err waits for the child to end and says how: nil for exit status 0, else an [exec.ExitError].
func (p *Process) Err() error {
	<-p.done
	return p.err
}

// Signal sends sig to the child. A child that has already ended is no error.
func (p *Process) Signal(sig syscall.Signal) error {
	select {
	case <-p.done:
		return nil
	default:
	}
	// os.Process refuses to signal a child that has been waited for, so this cannot reach a stranger.
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Stop sends each signal in turn, waiting up to grace after each for the child to end, and after the last one without
// limit. It returns as [Process.Err].
func (p *Process) Stop(grace time.Duration, signals ...syscall.Signal) error {
	for i, sig := range signals {
		if err := p.Signal(sig); err != nil {
			return err
		}
		if i == len(signals)-1 {
			break
		}
		timer := time.NewTimer(grace)
		select {
		case <-p.done:
			timer.Stop()
			return p.err
		case <-timer.C:
		}
	}
	return p.Err()
}
