package app

import (
	"fmt"
	"io"
	"os"
)

// maxSmall is how many bytes a key, a token, a checkpoint or a list of keys has at most.
const maxSmall = 1 << 20

// readFile reads a file of at most limit bytes. One that is larger, or never ends, is refused once that is known: a
// program that runs out of memory ends with the exit code 2, which a verifier has another use for.
func readFile(path string, limit int64) ([]byte, error) {
	data, err := readUpTo(path, limit+1)
	if err == nil && int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than the limit of %d bytes", path, limit)
	}
	return data, err
}

// readUpTo reads the first limit bytes of a file, and so all of one that is not larger.
func readUpTo(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	return io.ReadAll(io.LimitReader(file, limit))
}
