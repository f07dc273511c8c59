package tether

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestDirRemovesWhatDeadProcessesLeft(t *testing.T) { // not parallel: sets TMPDIR
	parent, err := os.MkdirTemp("/tmp", "t")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(parent) })
	t.Setenv("TMPDIR", parent)

	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	left := map[string]bool{ // whether it must be gone
		"x-" + strconv.Itoa(dead.Process.Pid) + "-1": true,
		"x-" + strconv.Itoa(os.Getpid()) + "-1":      false, // alive
		"y-" + strconv.Itoa(dead.Process.Pid) + "-1": false, // not ours
		"x-name-1": false,
		"x-0-1":    false, // a number that means "my whole group" to kill(2)
	}
	for name := range left {
		if err := os.Mkdir(filepath.Join(parent, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := Dir("x", 20)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 || filepath.Dir(dir) != parent {
		t.Errorf("Dir = %s (%v, %v), want a private folder in %s", dir, info, err, parent)
	}
	for name, want := range left {
		_, err := os.Stat(filepath.Join(parent, name))
		if gone := errors.Is(err, fs.ErrNotExist); gone != want {
			t.Errorf("%s: gone %v, want %v", name, gone, want)
		}
	}
}

func TestDirLeavesRoomForASocket(t *testing.T) { // not parallel: sets TMPDIR
	t.Setenv("TMPDIR", "/tmp/"+strings.Repeat("long", 20))
	dir, err := Dir("x", len("/.s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if filepath.Dir(dir) != "/tmp" {
		t.Errorf("Dir = %s, want it directly below /tmp", dir)
	}
}
