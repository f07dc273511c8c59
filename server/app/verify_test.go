package app_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// approvedBundle is the good bundle of the vectors whose request was approved and merged.
func approvedBundle(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "evidence", "testdata", "vectors", "bundles", "good-approved.json"))
	if err != nil {
		t.Fatal(err)
	}
	var vector struct{ Bundle string }
	if err := json.Unmarshal(raw, &vector); err != nil {
		t.Fatal(err)
	}
	return write(t, t.TempDir(), "bundle.json", vector.Bundle)
}

func emptyRepository(t *testing.T, format string) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "git", "init", "--quiet", "--object-format="+format, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

func TestVerifyWithARepository(t *testing.T) {
	t.Parallel()
	bundle, repository := approvedBundle(t), emptyRepository(t, "sha1")
	code, out, errs := command(t, "verify", bundle, "--repo", repository)
	if code != 2 || !strings.Contains(out, "the repository does not have") || !strings.Contains(out, "what landed") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	code, out, _ = command(t, "verify", bundle, "--repo", repository, "--json")
	var report struct {
		Steps   []evidence.Step
		Missing []string
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 2 {
		t.Fatalf("exit %d, %v", code, err)
	}
	var names []string
	for _, step := range report.Steps[len(report.Steps)-3:] {
		names = append(names, step.Name+" "+string(step.Result))
	}
	if want := []string{"commits operator-asserted", "diff operator-asserted", "landed operator-asserted"}; !slices.Equal(names, want) {
		t.Errorf("steps %v", names)
	}
	if !slices.Contains(report.Missing, "what landed") || !slices.Contains(report.Missing, "the diff shown") {
		t.Errorf("missing %v", report.Missing)
	}
}

func TestVerifySaysWhyARepositoryCannotBeUsed(t *testing.T) {
	t.Parallel()
	bundle := approvedBundle(t)
	diff := write(t, t.TempDir(), "other.diff", "another diff")
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"of SHA-256 names":      {[]string{"--repo", emptyRepository(t, "sha256")}, "SHA-1"},
		"no repository":         {[]string{"--repo", t.TempDir()}, "not a git repository"},
		"no folder":             {[]string{"--repo", filepath.Join(t.TempDir(), "absent")}, "absent"},
		"a diff without one":    {[]string{"--diff", diff}, "--repo"},
		"a diff of other bytes": {[]string{"--diff", diff, "--repo", emptyRepository(t, "sha1")}, "none of those that were signed"},
	} {
		if code, out, errs := command(t, append([]string{"verify", bundle}, c.args...)...); code != 1 || !strings.Contains(errs, c.says) || out != "" {
			t.Errorf("%s: exit %d\n%s%s", name, code, out, errs)
		}
	}
	// What fails without a repository is not taken there.
	forged := write(t, t.TempDir(), "forged.json", "{}")
	if code, out, _ := command(t, "verify", forged, "--repo", t.TempDir()); code != 1 || !strings.Contains(out, "FAILED at step 1 ") {
		t.Errorf("forged: exit %d\n%s", code, out)
	}
}

// It is the one test that changes the process's environment, so it runs alone.
func TestVerifySaysThatGitIsMissing(t *testing.T) {
	bundle, repository := approvedBundle(t), emptyRepository(t, "sha1")
	empty := t.TempDir()
	t.Setenv("PATH", empty)
	if code, out, errs := command(t, "verify", bundle, "--repo", repository); code != 1 || !strings.Contains(errs, "the git program is needed") || out != "" {
		t.Errorf("without git: exit %d\n%s%s", code, out, errs)
	}
	for version, says := range map[string]string{"2.30.2": "2.38 or newer", "x": "is not git"} {
		if err := os.WriteFile(filepath.Join(empty, "git"), []byte("#!/bin/sh\necho git version "+version+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		if code, _, errs := command(t, "verify", bundle, "--repo", repository); code != 1 || !strings.Contains(errs, says) {
			t.Errorf("git %s: exit %d, %s", version, code, errs)
		}
	}
}
