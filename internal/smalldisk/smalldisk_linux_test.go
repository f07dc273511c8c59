package smalldisk

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestADiskIsFull: what the kernel says, and that nobody outside sees it.
func TestADiskIsFull(t *testing.T) {
	t.Parallel()
	if !Alone(t) {
		if left, err := filepath.Glob(filepath.Join(os.TempDir(), "sadisk-*", "filler")); err != nil || len(left) > 0 {
			t.Errorf("it is seen from outside: %v, %v", left, err)
		}
		return
	}
	d := New(t, 1<<20)
	file := filepath.Join(d.Path, "file")
	if err := os.WriteFile(file, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		d.Fill()
		if err := os.WriteFile(filepath.Join(d.Path, "more"), []byte("more"), 0o600); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("a full disk says %v", err)
		}
		d.Clear()
		if err := os.WriteFile(file, make([]byte, 100_000), 0o600); err != nil {
			t.Errorf("with room again: %v", err)
		}
	}
}
