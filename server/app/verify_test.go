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

// vector is a bundle of the vectors, with all its anchors.
func vector(t *testing.T, name string) (bundle, anchors string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "evidence", "testdata", "vectors", "bundles", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var vector struct {
		Bundle  string
		Anchors map[string]any
	}
	if err := json.Unmarshal(raw, &vector); err != nil {
		t.Fatal(err)
	}
	vector.Anchors["format"] = evidence.AnchorsFormat
	document, err := json.Marshal(vector.Anchors)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	return write(t, folder, "bundle.json", vector.Bundle), write(t, folder, "anchors.json", string(document))
}

// approvedBundle is the good bundle of the vectors whose request was approved and merged.
func approvedBundle(t *testing.T) string {
	t.Helper()
	bundle, _ := vector(t, "good-approved")
	return bundle
}

// That evidence holds and that it is evidence of an approval are two things.
func TestVerifyRequiresAnApproval(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		bundle   string
		anchored bool
		args     []string
		code     int
		says     string // of the last line
	}{
		{"good-approved", true, nil, 0, "APPROVED"},
		{"good-rejected", true, nil, 0, "REJECTED"},
		{"good-pending", true, []string{"--require=any"}, 0, "PENDING"},
		{"good-approved", true, []string{"--require=approved"}, 0, "PASSED: commit 2e1d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b: it was approved"},
		{"good-approved", false, []string{"--require=approved"}, 2, "REFUSED: commit 2e1d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b: it was approved, if the server is to be believed: log"},
		{"good-rejected", true, []string{"--require=approved"}, 1, "it is not approved: rejected by Carol"},
		{"good-rejected", false, []string{"--require=approved"}, 1, "it is not approved: rejected by Carol"},
		{"good-pending", true, []string{"--require=approved"}, 1, "it is not approved"},
		{"good-overridden", true, []string{"--require=approved"}, 1, "--allow-override is not given"},
		{"good-overridden", true, []string{"--require=approved", "--allow-override"}, 0, "it was let through by an override"},
		{"good-approved-too-late", true, nil, 0, "APPROVED"},
		{"good-approved-too-late", true, []string{"--require=approved"}, 1, "the chain calls its merge a violation"},
		{"good-approved-too-late", false, []string{"--require=approved"}, 1, "the chain calls its merge a violation"},
		{"good-approved-and-superseded", true, nil, 0, "APPROVED"},
		{"good-approved-and-superseded", true, []string{"--require=approved"}, 1, "its request was superseded before it was merged"},
		{"good-approved-and-superseded", false, []string{"--require=approved"}, 1, "its request was superseded before it was merged"},
		{"good-pending", true, []string{"--require=approved", "--allow-override"}, 1, "it is not approved"},
		{"bad-a-leaf-left-out", true, []string{"--require=approved"}, 1, "REFUSED: FAILED at step 3"},
	} {
		bundle, anchors := vector(t, c.bundle)
		args := append([]string{"verify", bundle}, c.args...)
		if c.anchored {
			args = append(args, "--anchors", anchors)
		}
		code, out, errs := command(t, args...)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if code != c.code || !strings.Contains(lines[len(lines)-1], c.says) {
			t.Errorf("%s %q: exit %d, %s%s", c.bundle, c.args, code, lines[len(lines)-1], errs)
		}
		_, out, _ = command(t, append(args, "--json")...)
		var report struct {
			Gate *struct{ Passed bool }
		}
		if err := json.Unmarshal([]byte(out), &report); err != nil || (report.Gate != nil) != slices.Contains(c.args, "--require=approved") || report.Gate != nil && report.Gate.Passed != (code == 0) {
			t.Errorf("%s %q: %v, %+v", c.bundle, c.args, err, report.Gate)
		}
	}
	bundle, _ := vector(t, "good-approved")
	if code, _, errs := command(t, "verify", bundle, "--require=rejected"); code != 1 || !strings.Contains(errs, "approved") {
		t.Errorf("another demand: exit %d, %s", code, errs)
	}
}

// A signer has their receipt checked as an auditor has a bundle; it is no approval of anything.
func TestVerifyAReceipt(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join("..", "evidence", "testdata", "vectors", "documents.json"))
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Kind, Name, Document string
		Anchors              map[string]any
	}
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	files := func(name string) (receipt, anchors string) {
		t.Helper()
		for _, v := range vectors {
			if v.Kind == "receipt" && v.Name == name {
				v.Anchors["format"] = evidence.AnchorsFormat
				document, err := json.Marshal(v.Anchors)
				if err != nil {
					t.Fatal(err)
				}
				folder := t.TempDir()
				return write(t, folder, "receipt.json", v.Document), write(t, folder, "anchors.json", string(document))
			}
		}
		t.Fatalf("no receipt %q among the vectors", name)
		return "", ""
	}
	good, anchors := files("good")
	bad, badAnchors := files("bad proof")
	_, bundleAnchors := vector(t, "good-approved")
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{good, "--anchors", anchors}, 0, "RECORDED: the decision over the statement "},
		{[]string{good}, 2, "(UNWITNESSED; consistent, operator-asserted: log, witnesses)"},
		{[]string{good, "--anchors", bundleAnchors}, 0, "RECORDED: "},
		{[]string{bad, "--anchors", badAnchors}, 1, "FAILED at step 2 (log): "},
		{[]string{good, "--anchors", anchors, "--require=approved"}, 1, "this is a receipt"},
		{[]string{good, "--anchors", anchors, "--repo", emptyRepository(t, "sha1")}, 1, "this is a receipt"},
	} {
		code, out, errs := command(t, append([]string{"verify"}, c.args...)...)
		if code != c.code || !strings.Contains(out+errs, c.says) {
			t.Errorf("%q: exit %d, %s%s", c.args[1:], code, out, errs)
		}
	}
	_, out, _ := command(t, "verify", good, "--anchors", anchors, "--json")
	var report evidence.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil || len(report.Steps) != 3 || len(report.Facts) != 5 || report.Verdict != nil {
		t.Errorf("%v: %s", err, out)
	}
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
