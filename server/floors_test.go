package main_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/signedapproval/bitbucket/"

// floors says on which floor each package stands, the ground first. Imports go down only, and
// packages of one floor do not import each other; evidence, which may import approval, stands
// between it and the rest.
var floors = map[string]int{
	"server/refusal": 0, "server/approval": 0, "migrations": 0, "frontend": 0,
	"server/evidence": 1, "server/attest": 1,
	"server/bitbucket": 2, "server/atlassian": 2, "server/passkey": 2, "server/store": 2, "server/jobs": 2, "server/notify": 2, "server/replay": 2, "server/witness": 2, "server/monitor": 2, "frontend/apps/verify/wasm": 2,
	"server/gate": 3, "server/workspace": 3, "server/people": 3,
	"server/webhook": 4, "server/forge": 4, "server/tiles": 4, "graph": 4,
	"server/app": 5,
	"server":     6,
}

// beside are packages that stand beside the house: the product imports none of them.
var beside = []string{
	"server/bitbucketsim", "server/passkey/passkeytest", "demo", "internal/", "descriptor",
}

// alone are packages that import nothing of this module.
var alone = []string{"server/bitbucketsim", "server/refusal", "server/approval", "server/bitbucket", "server/atlassian", "server/notify", "server/jobs", "server/witness"}

// pure are packages that do no I/O: what they may not reach, directly.
var pure = map[string][]string{
	"server/approval": {"os", "net", "net/http", "io/fs", "os/exec", "database/sql"},
	"server/evidence": {"os", "net", "net/http", "io/fs", "os/exec", "database/sql"},
	"server/attest":   {"os", "net", "net/http", "io/fs", "os/exec", "database/sql"},
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

// packages are those of this system, and those that are for the browser alone.
func packages(t *testing.T) []goPackage {
	t.Helper()
	return append(list(t, module+"..."), list(t, module+"frontend/apps/...", "GOOS=js", "GOARCH=wasm")...)
}

func list(t *testing.T, pattern string, environment ...string) []goPackage {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", pattern)
	command.Env = append(os.Environ(), environment...)
	out, err := command.Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			t.Fatalf("go list: %v\n%s", err, failed.Stderr)
		}
		t.Fatal(err)
	}
	var list []goPackage
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

func isBeside(name string) bool {
	for _, b := range beside {
		if name == strings.TrimSuffix(b, "/") || strings.HasPrefix(name, strings.TrimSuffix(b, "/")+"/") {
			return true
		}
	}
	return strings.HasPrefix(name, "tools/")
}

func TestImportsGoDownOnly(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if isBeside(name) {
			continue
		}
		from, known := floors[name]
		if !known {
			t.Errorf("package %s stands on no floor: give it one, here and in .golangci.yml", name)
			continue
		}
		seen[name] = true
		for _, imported := range p.Imports {
			below, ours := strings.CutPrefix(imported, module)
			if !ours {
				continue
			}
			if isBeside(below) {
				t.Errorf("%s imports %s, which stands beside the house", name, below)
			} else if to, ok := floors[below]; !ok || to >= from {
				t.Errorf("%s (floor %d) imports %s (floor %d)", name, from, below, to)
			}
		}
	}
	for name := range floors {
		if !seen[name] {
			t.Errorf("%s stands on a floor and does not exist", name)
		}
	}
}

func TestPackagesThatStandAlone(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		for _, lone := range alone {
			if name != lone {
				continue
			}
			for _, imported := range p.Imports {
				if strings.HasPrefix(imported, module) {
					t.Errorf("%s imports %s, and should import nothing of this module", name, imported)
				}
			}
		}
	}
}

func TestPurePackagesDoNoInputOrOutput(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, forbidden := range pure[strings.TrimPrefix(p.ImportPath, module)] {
			for _, imported := range p.Imports {
				if imported == forbidden {
					t.Errorf("%s imports %s", p.ImportPath, imported)
				}
			}
		}
	}
}
