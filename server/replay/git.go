package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// maxOutput is how much one command may print, in bytes.
const maxOutput = 64 << 20

// errTooLong is returned for a command that prints more than it may.
var errTooLong = errors.New("git printed more than is read")

// store is a bare repository of ours.
type store struct {
	program string
	dir     string // GIT_DIR
	home    string // an empty folder
}

// minor is the oldest version 2 of git that can merge without a work tree.
const minor = 38

var versionForm = regexp.MustCompile(`^git version (\d+)\.(\d+)`)

// findGit returns the program, or says what is wrong with it.
func findGit(ctx context.Context) (string, error) {
	program, err := exec.LookPath("git")
	if err != nil {
		return "", fmt.Errorf("the git program is needed to look into a repository, and is not installed: %w", err)
	}
	out, err := exec.CommandContext(ctx, program, "version").Output() //nolint:gosec // found as "git" on the caller's own path
	if err != nil {
		return "", fmt.Errorf("git version: %w", err)
	}
	match := versionForm.FindSubmatch(out)
	if match == nil {
		return "", fmt.Errorf("%s is not git: it says %q", program, out)
	}
	first, _ := strconv.Atoi(string(match[1]))
	second, _ := strconv.Atoi(string(match[2]))
	if first < 2 || first == 2 && second < minor {
		return "", fmt.Errorf("git 2.%d or newer is needed to look into a repository; this is %s", minor, bytes.TrimSpace(out))
	}
	return program, nil
}

// attributes take everything back that a .gitattributes of a commit may say:
// what git makes of a change must not depend on what the change says.
const attributes = "* !merge !diff !text !eol !crlf !filter !ident !whitespace !conflict-marker-size !working-tree-encoding\n"

// newStore makes an empty repository of SHA-1 names in dir. borrowed, if not
// empty, is a folder of objects that it reads besides its own.
func newStore(ctx context.Context, program, dir, borrowed string) (*store, error) {
	s := &store{program: program, dir: filepath.Join(dir, "git"), home: filepath.Join(dir, "home")}
	if err := os.MkdirAll(s.home, 0o700); err != nil {
		return nil, err
	}
	if _, err := s.run(ctx, nil, "init", "--quiet", "--bare", "--object-format=sha1", "--template=", s.dir); err != nil {
		return nil, err
	}
	info := filepath.Join(s.dir, "info")
	if err := errors.Join(os.MkdirAll(info, 0o700), os.WriteFile(filepath.Join(info, "attributes"), []byte(attributes), 0o600)); err != nil {
		return nil, err
	}
	if borrowed == "" {
		return s, nil
	}
	if strings.ContainsAny(borrowed, "\n\r") {
		return nil, errors.New("the repository's path holds a line break")
	}
	return s, os.WriteFile(filepath.Join(s.dir, "objects", "info", "alternates"), []byte(borrowed+"\n"), 0o600)
}

// environment is all that git sees of ours.
func (s *store) environment() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.home, "XDG_CONFIG_HOME=" + s.home, "TMPDIR=" + s.home, "LC_ALL=C", "TZ=UTC",
		"GIT_DIR=" + s.dir, "GIT_INDEX_FILE=" + filepath.Join(s.home, "index"),
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_SYSTEM=" + os.DevNull, "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_ATTR_NOSYSTEM=1",
		"GIT_NO_REPLACE_OBJECTS=1", "GIT_NO_LAZY_FETCH=1", "GIT_ALLOW_PROTOCOL=", "GIT_PROTOCOL_FROM_USER=0",
		"GIT_TERMINAL_PROMPT=0", "GIT_OPTIONAL_LOCKS=0", "GIT_PAGER=cat",
		"GIT_AUTHOR_NAME=replay", "GIT_AUTHOR_EMAIL=replay", "GIT_AUTHOR_DATE=@0 +0000",
		"GIT_COMMITTER_NAME=replay", "GIT_COMMITTER_EMAIL=replay", "GIT_COMMITTER_DATE=@0 +0000",
	}
}

// settings hold for every command.
var settings = []string{
	"-c", "protocol.allow=never", "-c", "core.hooksPath=" + os.DevNull, "-c", "core.fsmonitor=false", "-c", "core.attributesFile=" + os.DevNull,
	"-c", "core.commitGraph=false", "-c", "core.autocrlf=false", "-c", "core.quotePath=true", "-c", "core.bigFileThreshold=32m",
	"-c", "pack.threads=1", "-c", "pack.window=0", "-c", "gc.auto=0", "-c", "init.defaultBranch=main", "-c", "safe.bareRepository=all",
	"-c", "merge.conflictStyle=merge", "-c", "diff.renameLimit=1000", "-c", "merge.renameLimit=1000",
}

func (s *store) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.program, append(append([]string{}, settings...), args...)...) //nolint:gosec // no shell, and hashes only
	cmd.Env, cmd.Dir, cmd.WaitDelay = s.environment(), s.home, 5*time.Second
	return cmd
}

// run runs git and returns what it prints. The error of a command that failed
// names it and what it said first.
func (s *store) run(ctx context.Context, in io.Reader, args ...string) ([]byte, error) {
	return s.bounded(ctx, in, maxOutput, args...)
}

func (s *store) bounded(ctx context.Context, in io.Reader, limit int64, args ...string) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := s.command(ctx, args...)
	out, said := &capped{left: limit, full: cancel}, &capped{left: 4096}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, said
	err := cmd.Run()
	if out.over {
		return nil, errTooLong
	}
	return out.kept.Bytes(), explain(args[0], err, said)
}

// explain adds to the error of a command what the command said.
func explain(command string, err error, said *capped) error {
	if err == nil {
		return nil
	}
	line, _, _ := strings.Cut(strings.TrimSpace(said.kept.String()), "\n")
	return fmt.Errorf("git %s: %w: %q", command, err, line)
}

// capped keeps what is written to it up to a limit, and then calls full.
type capped struct {
	kept bytes.Buffer // not embedded: it would be read into without the limit
	left int64
	over bool
	full func()
}

func (c *capped) Write(p []byte) (int, error) {
	if keep := min(int64(len(p)), c.left); keep > 0 {
		c.left -= keep
		c.kept.Write(p[:keep])
		if keep == int64(len(p)) {
			return len(p), nil
		}
	}
	if len(p) > 0 && !c.over {
		c.over = true
		if c.full != nil {
			c.full()
		}
	}
	return len(p), nil
}

// ended tells with which code a command ended, -1 if it did not run to its end.
func ended(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}

// lines splits what a command prints line by line.
func lines(out []byte) []string { return strings.Fields(string(out)) }

// names splits what a command prints with a NUL after each name.
func names(out []byte) []string {
	if len(out) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
}
