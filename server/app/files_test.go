package app_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/app"
)

// sparse makes a file of so many bytes that takes no place.
func sparse(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sparse")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, size)); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestFilesThatAreTooLarge has each command read a file that nobody has the memory for, and one that never ends: none may end as
// a program does that runs out of memory, whose exit code says that a bundle is consistent.
func TestFilesThatAreTooLarge(t *testing.T) {
	t.Parallel()
	bundle, anchors := vector(t, "good-approved")
	paths := []string{sparse(t, 1<<40)}
	if runtime.GOOS == "linux" {
		paths = append(paths, "/dev/zero")
	}
	for _, path := range paths {
		for _, args := range [][]string{
			{"verify", path},
			{"verify", path, "--anchors", anchors, "--require=approved"},
			{"verify", bundle, "--anchors", path},
			{"keys", "add", path},
			{"keys", "promote", path},
			{"monitor", "follow", "--url=http://127.0.0.1:1", "--once", "--state", filepath.Join(t.TempDir(), "state"), "--anchors", path},
			{"monitor", "follow", "--url=http://127.0.0.1:1", "--once", "--state", filepath.Join(t.TempDir(), "state"), "--anchors", anchors, "--mine", path},
			{"evidence", "get", "x", "--url=http://127.0.0.1:1", "--workspace=w", "--output=-", "--token-file", path},
			{"anchors", "models", "--metadata", bundle, "--root", path, "--aaguid=d7a423ad-3e19-4492-9200-78137dccc136", "--output=-"},
		} {
			code, out, errs := command(t, args...)
			if code != 1 || !strings.Contains(out+errs, "limit") && !strings.Contains(errs, "is a character device") && !strings.Contains(errs, "not a regular file") {
				t.Errorf("%q: exit %d, %s%s", args, code, out, errs)
			}
		}
	}
}

// TestABundleOfAnotherVersion fails, and it is said which version it is of.
func TestABundleOfAnotherVersion(t *testing.T) {
	t.Parallel()
	bundle, anchors := vector(t, "good-approved")
	raw, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from, to, says string
	}{
		{"signedapproval.bundle/v1", "signedapproval.bundle/v2", "signedapproval.bundle/v2, and this version reads signedapproval.bundle/v1"},
		{`"format":"signedapproval.bundle/v1"`, `"extra":1,"format":"signedapproval.bundle/v9"`, "signedapproval.bundle/v9"},
		{"signedapproval.bundle/v1", `signedapproval.bundle/\u001b[2J`, `\u001b`},
		{"signedapproval.bundle/v1", "another/v2", ""},
	} {
		changed := write(t, t.TempDir(), "bundle.json", strings.Replace(string(raw), c.from, c.to, 1))
		for _, more := range [][]string{nil, {"--require=approved"}, {"--json"}} {
			code, out, errs := command(t, append([]string{"verify", changed, "--anchors", anchors}, more...)...)
			if code != 1 || !strings.Contains(errs, c.says) || c.says == "" && errs != "" || strings.Contains(out+errs, "\x1b") {
				t.Errorf("%s %q: exit %d, %s", c.to, more, code, errs)
			}
		}
	}
}

// broken panics when something is written to it.
type broken struct{}

func (broken) Write([]byte) (int, error) { panic("nobody writes here") }

// TestAPanicIsNoReport ends as every failure does: the exit code of a program that panics says that a bundle is consistent.
func TestAPanicIsNoReport(t *testing.T) {
	t.Parallel()
	bundle, anchors := vector(t, "good-approved")
	var errs bytes.Buffer
	code := app.Main(t.Context(), []string{"verify", bundle, "--anchors", anchors}, strings.NewReader(""), broken{}, &errs)
	if code != 1 || !strings.Contains(errs.String(), "internal error: nobody writes here") {
		t.Errorf("exit %d, %s", code, errs.String())
	}
}
