// Package smalldisk gives a test file systems of a fixed size, which can be full: really, so that whatever writes there gets
// ENOSPC of the kernel. They exist on Linux alone, and so do the tests that use them.
//
// A file system is mounted where nobody else sees it: the test runs once more, in a process with a mount namespace of
// its own, which root may make, and everybody else in a user namespace of their own. Mounts end with that process.
package smalldisk

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/internal/tether"
)

// alone names the test that runs in its own process, to that process.
const alone = "SMALLDISK_TEST"

// sysAdmin is CAP_SYS_ADMIN, which it takes to mount.
const sysAdmin = 21

// Alone tells whether the test may mount, and go on. If not, it has run the test in a process that may, has taken over how
// it ended, and the caller returns. env is added to the environment of that process. The test must not be a subtest.
func Alone(t *testing.T, env ...string) bool {
	t.Helper()
	if os.Getenv(alone) == t.Name() {
		// What is mounted is to be seen by nobody else, whatever the machine shares.
		if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			t.Fatalf("smalldisk: %v", err)
		}
		return true
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatalf("smalldisk: %v", err)
	}
	again := exec.CommandContext(t.Context(), program, "-test.run=^"+t.Name()+"$", "-test.v", "-test.count=1") //nolint:gosec // this very program
	if deadline, ok := t.Deadline(); ok {
		again.Args = append(again.Args, "-test.timeout="+time.Until(deadline).String())
	}
	again.Env = append(append(os.Environ(), alone+"="+t.Name()), env...)
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
		again.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		again.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		again.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		again.SysProcAttr.AmbientCaps = []uintptr{sysAdmin}
	}
	var out bytes.Buffer
	again.Stdout, again.Stderr = &out, &out
	process, err := tether.Start(again, syscall.SIGTERM)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOSPC) { // ENOSPC: user namespaces are limited to none
		t.Fatalf("smalldisk: this test mounts file systems that only it sees, and may not (%v): run it as root with CAP_SYS_ADMIN, "+
			"or where user namespaces are allowed", err)
	}
	if err != nil {
		t.Fatalf("smalldisk: %v", err)
	}
	if err := process.Err(); err != nil {
		t.Fatalf("in a process of its own: %v\n%s", err, out.Bytes())
	}
	if !bytes.Contains(out.Bytes(), []byte("--- PASS: "+t.Name()+" ")) {
		t.Fatalf("in a process of its own, it did not run:\n%s", out.Bytes())
	}
	return false
}

// Disk is a file system. Its methods are for one goroutine.
type Disk struct {
	Path string // its root, which everybody may enter
	t    testing.TB
}

// New mounts a file system of that many bytes, until the test ends. [Alone] must have said that it may.
func New(t testing.TB, size int64) *Disk {
	t.Helper()
	path, err := tether.Dir("sadisk", 0)
	if err != nil {
		t.Fatalf("smalldisk: %v", err)
	}
	if err := syscall.Mount("none", path, "tmpfs", syscall.MS_NODEV|syscall.MS_NOSUID, fmt.Sprintf("size=%d,mode=0755", size)); err != nil {
		t.Fatalf("smalldisk: %v", errors.Join(err, os.Remove(path)))
	}
	t.Cleanup(func() {
		if err := errors.Join(syscall.Unmount(path, syscall.MNT_DETACH), os.Remove(path)); err != nil {
			t.Errorf("smalldisk: %v", err)
		}
	})
	return &Disk{Path: path, t: t}
}

// Fill takes all room that is left.
func (d *Disk) Fill() {
	d.t.Helper()
	filler, err := os.Create(d.filler())
	if err != nil {
		d.t.Fatalf("smalldisk: %v", err)
	}
	defer filler.Close()
	for size := 1 << 20; size > 0; {
		if _, err := filler.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			d.t.Fatalf("smalldisk: %v", err)
		}
	}
	if left := d.left(); left != 0 {
		d.t.Fatalf("smalldisk: %d bytes are left on a full disk", left)
	}
}

// Clear gives back what Fill has taken.
func (d *Disk) Clear() {
	d.t.Helper()
	if err := os.Remove(d.filler()); err != nil {
		d.t.Fatalf("smalldisk: %v", err)
	}
}

func (d *Disk) filler() string { return filepath.Join(d.Path, "filler") }

// left is how many bytes there is room for.
func (d *Disk) left() int64 {
	d.t.Helper()
	var at syscall.Statfs_t
	if err := syscall.Statfs(d.Path, &at); err != nil {
		d.t.Fatalf("smalldisk: %v", err)
	}
	return int64(at.Bavail) * at.Bsize //nolint:gosec // a size fits
}
