package graph

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/vektah/gqlparser/v2/ast"
)

// What the executor gets wrong by itself, each through the gate.
func TestExecutorFaultsStayOutOfReach(t *testing.T) {
	t.Parallel()

	t.Run("a bad scalar refuses the mutation whole", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, "", false)
		for _, variables := range []string{
			`{"input":{"due":"not a time"}}`, `{"input":{"count":3000000000}}`, `{"input":{"count":"5"}}`, `{"input":{"nested":{"count":1.5}}}`,
		} {
			got := b.ask(t, `mutation($input: Patch!){ change(input: $input) }`, variables)
			if got.code() != codeBadUserInput || got.status != http.StatusBadRequest {
				t.Errorf("%s: %d %s", variables, got.status, got.body)
			}
		}
		if len(b.probe.changes) != 0 {
			t.Errorf("something ran: %v", b.probe.changes)
		}
	})

	t.Run("two mutations in one request are refused", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, "", false)
		for _, text := range []string{
			`mutation($input: Patch!){ a: change(input: $input) b: change(input: $input) }`,
			`mutation($input: Patch!, $d: Int){ change(input: $input) other(input: {count: $d}) }`,
			`mutation($i: Patch!){ change(input: $i) }`,
			`mutation{ change(input: {title: "x"}) }`,
			`mutation($input: String){ change(input: {title: $input}) }`,
			`mutation($input: Patch! = {title: "x"}){ change(input: $input) }`,
			`mutation($input: Patch!){ ... on Mutation { change(input: $input) } }`,
			`mutation($input: Patch!){ ...F } fragment F on Mutation { change(input: $input) }`,
			`mutation($input: Patch!){ change(input: $input) @include(if: true) }`,
		} {
			if got := b.ask(t, text, `{"input":{}}`); got.code() != codeValidationFailed {
				t.Errorf("%s: %s", text, got.body)
			}
		}
		if len(b.probe.changes) != 0 {
			t.Errorf("something ran: %v", b.probe.changes)
		}
	})

	for _, c := range []struct{ name, query, variables, want string }{
		{"an omitted variable leaves the SDL's default", `query($n: Int){ pages(first: $n){ edges { node { name } } } }`, `{}`, "20 edges"},
		{"a given variable replaces it", `query($n: Int){ pages(first: $n){ edges { node { name } } } }`, `{"n":3}`, "3 edges"},
		{"an omitted variable in an input object is absent", `query($t: String){ echo(patch: {title: $t}) }`, `{}`, "title set=false"},
		{"null in an input object is null", `query($t: String){ echo(patch: {title: $t}) }`, `{"t":null}`, "title set=true"},
		{"a field left out of a variable is absent", `query($p: Patch){ echo(patch: $p) }`, `{"p":{"count":1}}`, "title set=false"},
		{"an omitted variable in a list is null", `query($a: String){ echo(list: ["x", $a]) }`, `{}`, `list=["x",null]`},
		{"a required variable may have a default", `query($n: Int! = 5){ echo(n: $n) }`, `{}`, "n=5"},
		{"and be given", `query($n: Int! = 5){ echo(n: $n) }`, `{"n":6}`, "n=6"},
		{"one value stands for a list of one", `query($l: [String]){ echo(list: $l) }`, `{"l":"x"}`, `list=["x"]`},
		{"an integer is an ID", `query($id: ID){ echo(id: $id) }`, `{"id":7}`, "id=7"},
		{"escapes and block texts arrive as written", `{ echo(text: """a\/"b"""  ) }`, ``, `text=a\/"b`},
		{"a slash may be escaped", `{ echo(text: "a\/b\u00e9") }`, ``, "text=a/bé"},
		{"enums are names", `query($c: Colour){ echo(colour: $c) }`, `{"c":"RED"}`, "colour=RED"},
		{"variables stand in default places of directives", `query($on: Boolean! = true){ echo(n: 1) @skip(if: $on) open }`, ``, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := newBench(t, "", false).ask(t, c.query, c.variables)
			if len(got.Errors) > 0 {
				t.Fatal(got.body)
			}
			if n, ok := strings.CutSuffix(c.want, " edges"); ok {
				edges := got.Data["pages"].(map[string]any)["edges"].([]any)
				if fmt.Sprint(len(edges)) != n {
					t.Errorf("%d edges, want %s", len(edges), n)
				}
				return
			}
			if text, _ := got.Data["echo"].(string); text != c.want {
				t.Errorf("echo %q, want %q", text, c.want)
			}
		})
	}
}

func TestValuesAreCheckedStrictly(t *testing.T) {
	t.Parallel()
	b := newBench(t, "", false)
	for _, c := range []struct{ query, variables string }{
		{`query($n: Int){ echo(n: $n) }`, `{"n":"5"}`},
		{`query($n: Int){ echo(n: $n) }`, `{"n":2147483648}`},
		{`query($n: Int){ echo(n: $n) }`, `{"n":5.0}`},
		{`query($n: Int){ echo(n: $n) }`, `{"n":1e2}`},
		{`query($n: Int){ echo(n: $n) }`, `{"n":true}`},
		{`{ echo(n: 2147483648) }`, ``},
		{`{ echo(n: 99999999999999999999) }`, ``},
		{`query($n: Int = 2147483648){ echo(n: $n) }`, ``},
		{`{ echo(patch: {due: "not a time"}) }`, ``},
		{`query($n: Int){ echo(n: $n) }`, `{"n":1,"m":2}`},
		{`query($n: Int!){ echo(n: $n) }`, `{}`},
		{`query($n: Int!){ echo(n: $n) }`, `{"n":null}`},
		{`query($c: Colour){ echo(colour: $c) }`, `{"c":"red"}`},
		{`query($c: Colour){ echo(colour: $c) }`, `{"c":0}`},
		{`query($p: Patch){ echo(patch: $p) }`, `{"p":{"titel":"x"}}`},
		{`query($p: Patch){ echo(patch: $p) }`, `{"p":"x"}`},
		{`query($p: Pick){ echo(pick: $p) }`, `{"p":{"a":"x","b":"y"}}`},
		{`query($p: Pick){ echo(pick: $p) }`, `{"p":{}}`},
		{`query($p: Pick){ echo(pick: $p) }`, `{"p":{"a":null}}`},
		{`query($a: Int){ echo(must: [1, $a]) }`, `{}`},
		{`query($m: [Int!]){ echo(must: $m) }`, `{"m":[1,null]}`},
		{`query($t: String){ echo(text: $t) }`, `{"t":"a\u0000b"}`},
		{`query($t: String){ echo(text: $t) }`, `{"t":5}`},
		{`query($i: ID){ echo(id: $i) }`, `{"i":1.5}`},
	} {
		got := b.ask(t, c.query, c.variables)
		if got.status != http.StatusBadRequest || got.code() != codeBadUserInput && got.code() != codeValidationFailed || got.Data != nil {
			t.Errorf("%s %s: %d %s", c.query, c.variables, got.status, got.body)
		}
	}
}

func TestAuthIsDecidedOnTheDocument(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		caller Caller
		query  string
		code   string
		status int
	}{
		{nobody, `{ open }`, "", 200},
		{nobody, `{ mine }`, codeUnauthenticated, 401},
		{nobody, `{ open ...F } fragment F on Query { mine @include(if: false) }`, codeUnauthenticated, 401},
		{nobody, `{ __schema { queryType { name } } }`, codeUnauthenticated, 401},
		{nobody, `{ __typename }`, "", 200},
		{somebody, `{ mine }`, "", 200},
		{somebody, `{ __schema { queryType { name } } }`, "", 200},
		{somebody, `{ secret { hidden } }`, "", 200},
		{script("READ"), `{ mine }`, "", 200},
		{script("CONFIGURE"), `{ mine }`, "", 200},
		{script(), `{ mine }`, codeForbidden, 403},
		{script("READ"), `{ secret { name } }`, "", 200},
		{script("READ"), `{ secret { self { self { hidden } } } }`, codeForbidden, 403},
		{script("READ"), `{ secret { ... on Thing { hidden } } }`, codeForbidden, 403},
		{script("READ"), `mutation($input: Patch!){ change(input: $input) }`, codeForbidden, 403},
		{script("CONFIGURE"), `mutation($input: Patch!){ change(input: $input) }`, "", 200},
		{script("READ", "CONFIGURE"), `mutation($input: Patch!){ other(input: $input) }`, codeForbidden, 403},
	} {
		b := newBench(t, "", false)
		b.become(c.caller)
		variables := ""
		if strings.Contains(c.query, "$input") {
			variables = `{"input":{}}`
		}
		got := b.ask(t, c.query, variables)
		if got.code() != c.code || got.status != c.status {
			t.Errorf("%s %v: %d %s", c.caller.Kind, c.query, got.status, got.body)
		}
		if c.code != "" && len(b.probe.changes) > 0 {
			t.Errorf("%s ran", c.query)
		}
	}
}

func TestCostAndDepthAreLimited(t *testing.T) {
	t.Parallel()
	b := newBench(t, "", false)
	up := func(n int) string { return strings.Repeat("up{", n) + "name" + strings.Repeat("}", n) }
	bomb := `{ pages { edges { node { ...f0 } } } }`
	for i := range 18 {
		bomb += fmt.Sprintf(` fragment f%d on Node { a: up { ...f%d } b: up { ...f%d } }`, i, i+1, i+1)
	}
	bomb += ` fragment f18 on Node { name }`
	for _, c := range []struct{ name, query, variables, code string }{
		{"a page of 100", `query($n: Int){ pages(first: $n){ edges { node { name } } } }`, `{"n":100}`, ""},
		{"a page of 101", `query($n: Int){ pages(first: $n){ edges { node { name } } } }`, `{"n":101}`, codeBadUserInput},
		{"a negative page", `{ pages(first: -1){ edges { node { name } } } }`, ``, codeBadUserInput},
		{"an empty page", `{ pages(first: 0){ edges { node { name } } } }`, ``, codeBadUserInput},
		{"lists in lists", `{ pages(first: 50){ edges { node { more { more { name } } } } } }`, ``, codeTooComplex},
		{"the same by aliases", `{ ` + manyAliases(10) + `}`, ``, codeTooComplex},
		{"depth 12", `{ pages { edges { node { ` + up(8) + ` } } } }`, ``, ""},
		{"depth 13", `{ pages { edges { node { ` + up(9) + ` } } } }`, ``, codeTooComplex},
		{"fragments that double", bomb, ``, codeTooComplex},
		{"many tokens", `{ ` + strings.Repeat(`open `, 2000) + `}`, ``, codeParseFailed},
		{"one name very often", `{ pages { edges { node { ` + strings.Repeat(`name `, 1900) + `} } } }`, ``, codeTooComplex},
		{"one name often", `{ pages { edges { node { ` + strings.Repeat(`name `, maxRepeated) + `} } } }`, ``, ""},
		{"more nesting than any parser likes", strings.Repeat(`{a`, 900), ``, codeParseFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := b.ask(t, c.query, c.variables); got.code() != c.code {
				t.Errorf("%q, want %q: %.300s", got.code(), c.code, got.body)
			}
		})
	}
}

func manyAliases(n int) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, `a%d: pages(first: 100){ edges { node { name up { name } } } } `, i)
	}
	return out.String()
}

func TestCostOfAPage(t *testing.T) {
	t.Parallel()
	b := newBench(t, "", false)
	op, refusal := b.engine.admit(&request{Query: `{ pages(first: 50){ edges { node { name up { name } } } } }`}, somebody, false)
	if refusal != nil {
		t.Fatal(refusal.message)
	}
	if want := 5 + 50*3; op.cost != want { // the field; for each edge: itself, its node, and up
		t.Errorf("cost %d, want %d", op.cost, want)
	}
}

// Equal arguments stay equal in what the executor gets, or fields of one name would conflict.
func TestFieldsMergeAfterRewriting(t *testing.T) {
	t.Parallel()
	got := newBench(t, "", false).ask(t, `query($n: Int){ pages(first: $n){ edges { node { name } } } ...F } fragment F on Query { pages(first: $n){ edges { node { up { name } } } } }`, `{"n":1}`)
	if len(got.Errors) > 0 {
		t.Fatal(got.body)
	}
	node := got.Data["pages"].(map[string]any)["edges"].([]any)[0].(map[string]any)["node"].(map[string]any)
	if _, ok := node["up"]; !ok || node["name"] != "x" {
		t.Errorf("node %v", node)
	}
}

func TestOperationIsPickedByName(t *testing.T) {
	t.Parallel()
	b := newBench(t, "", false)
	for _, c := range []struct{ body, code string }{
		{`{"query":"query A { open } query B { mine }","operationName":"A"}`, ""},
		{`{"query":"query A { open } query B { mine }"}`, codeOperationResolution},
		{`{"query":"query A { open } query B { mine }","operationName":"C"}`, codeOperationResolution},
		{`{"query":"query A { open }","operationName":"B"}`, codeOperationResolution},
		{`{"query":"fragment F on Query { open }"}`, codeValidationFailed},
		{`{"query":"fragment F($x: Int) on Query { echo(n: $x) } { ...F }"}`, codeValidationFailed},
		{`{"query":"{ ... @defer { open } }"}`, codeValidationFailed},
		{`{"query":"{ open","variables":{}}`, codeParseFailed},
		{`{"query":"subscription { ticks { n } }"}`, codeOperationKind},
	} {
		if got := b.post(t, c.body, nil); got.code() != c.code {
			t.Errorf("%s: %s", c.body, got.body)
		}
	}
}

func TestRegisteredOperations(t *testing.T) {
	t.Parallel()
	const text = `query Open { open }`
	hash := sha256Hex(text)
	b := newBench(t, jsonOf(map[string]string{hash: text}), true)
	for _, c := range []struct {
		caller Caller
		body   string
		code   string
	}{
		{nobody, `{"documentId":"` + hash + `"}`, ""},
		{nobody, `{"documentId":"sha256:` + hash + `"}`, ""},
		{somebody, `{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"` + hash + `"}}}`, ""},
		{somebody, `{"query":"query Open { open }","extensions":{"persistedQuery":{"version":1,"sha256Hash":"` + hash + `"}}}`, ""},
		{somebody, `{"query":"query Open { open }"}`, ""},
		{somebody, `{"documentId":"` + sha256Hex("x") + `"}`, codeNotFoundDocument},
		{somebody, `{"query":"{ open }"}`, codeNotRegistered},
		{nobody, `{"query":"{ open }"}`, codeNotRegistered},
		{script("READ"), `{"query":"{ open }"}`, ""},
		{script("READ"), `{"query":"{ open }","documentId":"` + hash + `"}`, codeBadRequest},
	} {
		b.become(c.caller)
		if got := b.post(t, c.body, nil); got.code() != c.code {
			t.Errorf("%s %s: %s", c.caller.Kind, c.body, got.body)
		}
	}
}

func TestRegisteredOperationsMustFit(t *testing.T) {
	t.Parallel()
	for _, registered := range []string{`[]`, `{"00":"{ open }"}`, jsonOf(map[string]string{sha256Hex(`{ gone }`): `{ gone }`})} {
		if _, err := newEngine([]*ast.Source{{Name: "probe", Input: probeSDL}}, &probe{}, []byte(registered)); err == nil {
			t.Errorf("%s was taken", registered)
		}
	}
}

// The cache keeps valid documents only: refused ones must not push them out.
func TestCacheKeepsValidDocumentsOnly(t *testing.T) {
	t.Parallel()
	b := newBench(t, "", false)
	b.ask(t, `{ open }`, "")
	for i := range maxCached + 10 {
		b.ask(t, fmt.Sprintf(`{ gone%d }`, i), "")
	}
	if n := b.engine.library.cached.Len(); n != 1 {
		t.Errorf("%d documents are cached, want 1", n)
	}
	for i := range maxCached + 10 {
		b.engine.library.find(fmt.Sprintf(`{ a%d: open }`, i), "", false)
	}
	if n := b.engine.library.cached.Len(); n != maxCached {
		t.Errorf("%d documents are cached, want %d", n, maxCached)
	}
}

func sha256Hex(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
