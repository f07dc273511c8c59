package evidence_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	gotoken "go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A verifier is only as good as its tests notice when a check of it is gone. This
// test takes a copy of the package in which every condition that leads to a refusal
// can be switched off by its number, switches off one after the other, and asks that
// some probe, a vector or a case of a table, then comes out otherwise. The copy exists
// only for the compiler (go test -overlay); see testdata/removal.

// site is a condition that can be switched off.
type site struct {
	Where string // file, line and function
	Text  string // of the condition
}

func TestRemovingAnyCheckIsNoticed(t *testing.T) {
	t.Parallel()
	folder, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir()
	overlay := map[string]string{}
	put := func(name string, content []byte) {
		path := filepath.Join(temp, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		overlay[filepath.Join(folder, name)] = path
	}
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var sites []site
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") || name == "openings.go" || name == "repository.go" {
			continue // the last two have tables of their own
		}
		put(name, instrument(t, name, &sites))
	}
	put("removal.go", read(t, filepath.Join("testdata", "removal", "removal.go.txt")))
	put("removal_inside_test.go", read(t, filepath.Join("testdata", "removal", "removal_test.go.txt")))
	document, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		t.Fatal(err)
	}
	put("overlay.json", document)
	list, err := json.Marshal(sites)
	if err != nil {
		t.Fatal(err)
	}
	put("sites.json", list)
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-overlay", filepath.Join(temp, "overlay.json"), "-run", "^TestWithoutEachCheck$", "-v", ".")
	cmd.Env = append(os.Environ(), "REMOVAL_SITES="+filepath.Join(temp, "sites.json"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "checks") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// instrument rewrites a file so that each condition that guards a refusal goes
// through removable, or through required where it must hold.
func instrument(t *testing.T, name string, sites *[]site) []byte {
	t.Helper()
	files := gotoken.NewFileSet()
	source := read(t, name)
	file, err := parser.ParseFile(files, name, source, 0)
	if err != nil {
		t.Fatal(err)
	}
	// Replacements are made in the text, from the end on, so that positions hold.
	type insert struct {
		at   int
		text string
	}
	var inserts []insert
	wrap := func(function, helper string, e ast.Expr) {
		from, to := files.Position(e.Pos()), files.Position(e.End())
		inserts = append(inserts, insert{from.Offset, fmt.Sprintf("%s(%d, ", helper, len(*sites))}, insert{to.Offset, ")"})
		*sites = append(*sites, site{fmt.Sprintf("%s:%d %s", name, from.Line, function), strings.Join(strings.Fields(string(source[from.Offset:to.Offset])), " ")})
	}
	var split func(function, helper string, operator gotoken.Token, e ast.Expr)
	split = func(function, helper string, operator gotoken.Token, e ast.Expr) {
		switch b := e.(type) {
		case *ast.ParenExpr:
			split(function, helper, operator, b.X)
		case *ast.BinaryExpr:
			if b.Op == operator {
				split(function, helper, operator, b.X)
				split(function, helper, operator, b.Y)
				return
			}
			wrap(function, helper, e)
		default:
			wrap(function, helper, e)
		}
	}
	for _, declaration := range file.Decls {
		f, ok := declaration.(*ast.FuncDecl)
		if !ok || f.Body == nil {
			continue
		}
		function := f.Name.Name
		ast.Inspect(f.Body, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.IfStmt:
				if refuses(n.Body.List) {
					split(function, "removable", gotoken.LOR, n.Cond)
				}
			case *ast.SwitchStmt:
				for _, s := range n.Body.List {
					if c := s.(*ast.CaseClause); n.Tag == nil && refuses(c.Body) {
						for _, e := range c.List {
							split(function, "removable", gotoken.LOR, e)
						}
					}
				}
			case *ast.CallExpr:
				if called(n) == "need" {
					split(function, "required", gotoken.LAND, n.Args[0])
				}
			}
			return true
		})
	}
	text := string(source)
	for i := len(inserts) - 1; i >= 0; i-- { // positions are ascending but for nesting
		last := i
		for j := range inserts[:i] {
			if inserts[j].at > inserts[last].at {
				last = j
			}
		}
		inserts[i], inserts[last] = inserts[last], inserts[i]
		text = text[:inserts[i].at] + inserts[i].text + text[inserts[i].at:]
	}
	out, err := format.Source([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, text)
	}
	return bytes.TrimSpace(out)
}

// refuses reports whether a body does nothing but return a refusal.
func refuses(body []ast.Stmt) bool {
	if len(body) != 1 {
		return false
	}
	r, ok := body[0].(*ast.ReturnStmt)
	if !ok || len(r.Results) == 0 {
		return false
	}
	switch last := r.Results[len(r.Results)-1].(type) {
	case *ast.CallExpr:
		return called(last) == "refuse" || called(last) == "bad"
	case *ast.Ident:
		return last.Name == "bad"
	}
	return false
}

func called(c *ast.CallExpr) string {
	if f, ok := c.Fun.(*ast.Ident); ok {
		return f.Name
	}
	return ""
}
