package gate_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/internal/fault"
)

const faultTable = "FAULTS.md"

// TestFaultTable compares FAULTS.md with the tests: each row of the matrix names a test that plays that row, each promise
// names tests that there are. go test ./server/gate -run TestFaultTable -update writes it anew.
func TestFaultTable(t *testing.T) {
	t.Parallel()
	constants := steps(t)
	sources := map[string]map[string]*ast.FuncDecl{}
	find := func(folder, test string) *ast.FuncDecl {
		if sources[folder] == nil {
			sources[folder] = testsOf(t, filepath.Join("../..", folder))
		}
		return sources[folder][test]
	}
	seen := map[fault.Step]bool{}
	for _, row := range fault.Rows {
		test := find(row.Package, row.Test)
		if seen[row.Step] || test == nil || !mentions(test, constants[row.Step]) {
			t.Errorf("%s: there twice, or %s of %s does not play it", row.Step, row.Test, row.Package)
		}
		seen[row.Step] = true
	}
	for step := range constants {
		if !seen[step] {
			t.Errorf("%s: no row", step)
		}
	}
	for _, p := range fault.Promises {
		for _, test := range p.Tests {
			folder, name, _ := strings.Cut(test, " ")
			if find(folder, name) == nil {
				t.Errorf("%s: there is no test %s", p.What, test)
			}
		}
	}
	want := document()
	if *update {
		if err := os.WriteFile(faultTable, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(faultTable)
	if err != nil || string(got) != want {
		t.Errorf("%s is not what is tested (%v): write it anew with -update", faultTable, err)
	}
}

// document is FAULTS.md.
func document() string {
	var b strings.Builder
	b.WriteString(fault.Introduction)
	b.WriteString("\n## The matrix\n\n| step | mishap | ends with | test |\n|---|---|---|---|\n")
	for _, row := range fault.Rows {
		for _, m := range fault.Mishaps {
			if reason := row.Impossible[m]; reason != "" {
				fmt.Fprintf(&b, "| %s | %s | cannot be: %s | |\n", row.Step, m, reason)
				continue
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s `%s` |\n", row.Step, m, row.At(m), row.Package, row.Test)
		}
	}
	section := ""
	for _, p := range fault.Promises {
		if p.Section != section {
			section = p.Section
			fmt.Fprintf(&b, "\n## %s\n\n| what holds | tests |\n|---|---|\n", section)
		}
		var tests []string
		for _, test := range p.Tests {
			folder, name, _ := strings.Cut(test, " ")
			tests = append(tests, fmt.Sprintf("%s `%s`", folder, name))
		}
		fmt.Fprintf(&b, "| %s | %s |\n", p.What, strings.Join(tests, "; "))
	}
	return b.String()
}

// steps maps each step to the name of its constant.
func steps(t *testing.T) map[fault.Step]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../internal/fault/matrix.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	names := map[fault.Step]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		kind, _ := spec.Type.(*ast.Ident)
		value, _ := spec.Values[0].(*ast.BasicLit)
		if kind != nil && kind.Name == "Step" && value != nil {
			text, err := strconv.Unquote(value.Value)
			if err != nil {
				t.Fatal(err)
			}
			names[fault.Step(text)] = spec.Names[0].Name
		}
		return true
	})
	if len(names) == 0 {
		t.Fatal("no step was found")
	}
	return names
}

// testsOf parses the tests of a folder.
func testsOf(t *testing.T, folder string) map[string]*ast.FuncDecl {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]*ast.FuncDecl{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, declaration := range file.Decls {
			if f, ok := declaration.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
				tests[f.Name.Name] = f
			}
		}
	}
	return tests
}

// mentions tells whether a function names a constant of the package fault.
func mentions(f *ast.FuncDecl, constant string) (found bool) {
	ast.Inspect(f, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if ok {
			from, _ := s.X.(*ast.Ident)
			found = found || from != nil && from.Name == "fault" && s.Sel.Name == constant
		}
		return true
	})
	return found
}
