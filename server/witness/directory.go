package witness

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Directory is a sink: a folder outside the database with one file for each checkpoint, at a path of six groups of
// three digits that are the tree's size, such as 000/000/000/000/001/234. What is written is never
// changed. Several servers may share one. It needs a file system with hard links, and it is to be
// kept where whoever restores or changes the database does not change it as well.
type Directory struct {
	path string
	turn chan struct{} // one goroutine at a time waits for the file system
}

// NewDirectory names a folder. It must exist when it is used: an empty mount point would hide what it should show.
func NewDirectory(path string) *Directory {
	return &Directory{path: path, turn: make(chan struct{}, 1)}
}

// do runs fn, and gives up waiting for it when ctx ends: a file system that is away answers nothing at all. What fn
// finds then belongs to nobody.
func do[T any](ctx context.Context, d *Directory, fn func() (T, error)) (found T, err error) {
	type result struct {
		found T
		err   error
	}
	done := make(chan result, 1)
	select {
	case d.turn <- struct{}{}:
		go func() {
			defer func() { <-d.turn }()
			found, err := fn()
			done <- result{found, err}
		}()
	case <-ctx.Done():
	}
	select {
	case r := <-done:
		found, err = r.found, r.err
	case <-ctx.Done():
		err = fmt.Errorf("the sink does not answer: %w", ctx.Err())
	}
	if err != nil {
		err = fmt.Errorf("sink: %w", err)
	}
	return found, err
}

var group = regexp.MustCompile(`^[0-9]{3}$`)

func (d *Directory) upTo(ctx context.Context, size int64, most int) ([]int64, error) {
	return do(ctx, d, func() ([]int64, error) { return sizesBelow(d.path, 0, 1_000_000_000_000_000_000, size, most) })
}

// sizesBelow finds the sizes below a folder, whose checkpoints are those from first on and below first and span.
func sizesBelow(folder string, first, span, bound int64, most int) (sizes []int64, err error) {
	if span == 1 {
		return []int64{first}, nil
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	for _, entry := range slices.Backward(entries) { // they are in the order of their names
		digits, err := strconv.ParseInt(entry.Name(), 10, 64)
		lowest := first + digits*span/1000
		if err != nil || !group.MatchString(entry.Name()) || lowest > bound {
			continue
		}
		// A folder is empty if a server ended between making it and writing into it.
		below, err := sizesBelow(filepath.Join(folder, entry.Name()), lowest, span/1000, bound, most-len(sizes))
		if err != nil {
			return nil, err
		}
		if sizes = append(sizes, below...); len(sizes) == most {
			break
		}
	}
	return sizes, nil
}

func (d *Directory) put(ctx context.Context, size int64, signed []byte) error {
	_, err := do(ctx, d, func() (struct{}, error) { return struct{}{}, d.write(size, signed) })
	return err
}

func (d *Directory) at(ctx context.Context, size int64) ([]byte, error) {
	return do(ctx, d, func() ([]byte, error) {
		return os.ReadFile(filepath.Join(append([]string{d.path}, groups(size)...)...))
	})
}

func groups(size int64) []string {
	digits := fmt.Sprintf("%018d", size)
	var names []string
	for i := 0; i < len(digits); i += 3 {
		names = append(names, digits[i:i+3])
	}
	return names
}

// write makes the file under another name, whole and on the disk, before it gets its own.
func (d *Directory) write(size int64, signed []byte) (err error) {
	names := groups(size)
	folder := d.path
	for _, name := range names[:len(names)-1] {
		parent := folder
		folder = filepath.Join(parent, name)
		switch err := os.Mkdir(folder, 0o755); { //nolint:gosec // checkpoints are public: auditors read them there
		case errors.Is(err, fs.ErrExist):
		case err != nil:
			return err
		default:
			if err := syncFolder(parent); err != nil {
				return err
			}
		}
	}
	file, err := os.CreateTemp(d.path, ".checkpoint-*")
	if err != nil {
		return err
	}
	defer func() {
		if removed := os.Remove(file.Name()); err == nil {
			err = removed
		}
	}()
	_, err = file.Write(signed)
	err = errors.Join(err, file.Chmod(0o644), file.Sync(), file.Close())
	if err != nil {
		return err
	}
	if err := os.Link(file.Name(), filepath.Join(folder, names[len(names)-1])); err != nil {
		return err
	}
	return syncFolder(folder)
}

// syncFolder makes the names in a folder last.
func syncFolder(folder string) error {
	opened, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(opened.Sync(), opened.Close())
}

// String is where the sink is.
func (d *Directory) String() string { return strings.TrimRight(d.path, "/") }
