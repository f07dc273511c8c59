package tether

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Dir makes a folder that only this account may enter, for the files of a tethered child, and that the caller removes.
// If this process ends without doing so, the next call with the same prefix does. Its path leaves room for a socket
// with a name of that many bytes, slash included.
func Dir(prefix string, room int) (string, error) {
	// The path of a socket has at most 103 bytes on macOS and 107 on Linux.
	const most, longest = 103, "4194304-4294967295"
	parent := os.TempDir()
	if len(filepath.Join(parent, prefix+"-"+longest))+room > most {
		parent = "/tmp"
	}
	return DirIn(parent, prefix)
}

// DirIn is Dir below another folder than the one for temporary files, and promises nothing about the length of the path.
func DirIn(parent, prefix string) (string, error) {
	leftovers, err := filepath.Glob(filepath.Join(parent, prefix+"-*-*"))
	if err != nil {
		return "", err
	}
	for _, dir := range leftovers {
		number, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), prefix+"-"), "-")
		pid, err := strconv.Atoi(number)
		if err == nil && pid > 0 && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = os.RemoveAll(dir) // another account's folder stays, and is that account's to remove
		}
	}
	return os.MkdirTemp(parent, fmt.Sprintf("%s-%d-", prefix, os.Getpid()))
}
