package graph

import (
	"slices"
	"strings"
	"testing"

	graphql "github.com/graph-gophers/graphql-go"
	"github.com/vektah/gqlparser/v2/ast"
)

func productContract(t *testing.T) (*contract, []*ast.Source) {
	t.Helper()
	all, err := sources()
	if err != nil {
		t.Fatal(err)
	}
	c, err := loadContract(all)
	if err != nil {
		t.Fatal(err)
	}
	return c, all
}

// own gives the types that the SDL defines, without the specification's.
func own(c *contract) []*ast.Definition {
	var types []*ast.Definition
	for _, definition := range c.Types {
		if !definition.BuiltIn && !strings.HasPrefix(definition.Name, "__") {
			types = append(types, definition)
		}
	}
	slices.SortFunc(types, func(a, b *ast.Definition) int { return strings.Compare(a.Name, b.Name) })
	return types
}

// fieldsOf leaves out the specification's own fields of Query.
func fieldsOf(definition *ast.Definition) []*ast.FieldDefinition {
	return slices.DeleteFunc(slices.Clone(definition.Fields), func(f *ast.FieldDefinition) bool { return strings.HasPrefix(f.Name, "__") })
}

func TestBothEnginesReadTheSDL(t *testing.T) {
	t.Parallel()
	c, all := productContract(t)
	var text []string
	for _, source := range all {
		text = append(text, source.Input)
	}
	executor, err := graphql.ParseSchema(strings.Join(text, "\n"), nil, graphql.UseStringDescriptions())
	if err != nil {
		t.Fatal(err)
	}
	for _, definition := range own(c) {
		if _, ok := executor.AST().Types[definition.Name]; !ok {
			t.Errorf("the executor has no %s", definition.Name)
		}
	}
}

func TestEveryRootFieldNamesItsCallers(t *testing.T) {
	t.Parallel()
	c, _ := productContract(t)
	for _, root := range []*ast.Definition{c.Query, c.Mutation, c.Subscription} {
		for _, field := range fieldsOf(root) {
			rule := c.rules[field]
			if len(rule.callers) == 0 {
				t.Errorf("%s.%s has no @auth", root.Name, field.Name)
			}
			open := slices.Contains(rule.callers, Anonymous)
			if open && root != c.Query && field.Name != "redeemTicket" { // who redeems it has not signed in yet
				t.Errorf("%s.%s is open to everybody", root.Name, field.Name)
			}
			if slices.Contains(rule.callers, Token) && rule.scope == "" && !open {
				t.Errorf("%s.%s lets tokens of every scope in", root.Name, field.Name)
			}
			if root == c.Mutation && slices.Contains(rule.callers, Token) && rule.scope != ScopeConfigure {
				t.Errorf("%s.%s can be asked with a token that may only read", root.Name, field.Name)
			}
			if rule.weight == 0 {
				t.Errorf("%s.%s costs nothing", root.Name, field.Name)
			}
		}
	}
}

// No token can decide, enrol or sign out: that takes the person.
func TestTokensNeverDecide(t *testing.T) {
	t.Parallel()
	c, _ := productContract(t)
	var withToken []string
	for _, field := range fieldsOf(c.Mutation) {
		if slices.Contains(c.rules[field].callers, Token) {
			withToken = append(withToken, field.Name)
		}
	}
	slices.Sort(withToken)
	if want := []string{"removeRepository", "renewRequest", "ringPullRequest", "saveRepository"}; !slices.Equal(withToken, want) {
		t.Errorf("tokens may ask for %v, want %v", withToken, want)
	}
}

// A page in Bitbucket's frame reads and configures. It never decides, never touches a key, and gets no
// secret that outlives it.
func TestTheFrameNeverDecides(t *testing.T) {
	t.Parallel()
	c, _ := productContract(t)
	for _, field := range fieldsOf(c.Mutation) {
		switch field.Name {
		case "prepareDecision", "submitDecision", "beginPasskey", "finishPasskey", "continuePasskey",
			"confirmPasskey", "reportLostPasskeys", "renamePasskey", "revokePasskey", "prepareKeyAct", "signKeyAct",
			"prepareProposalSignature", "signProposal",
			"createApiToken", "beginConnect", "connectWorkspace", "signOut", "redeemTicket":
			if slices.Contains(c.rules[field].callers, Forge) {
				t.Errorf("%s can be asked from Bitbucket's frame", field.Name)
			}
		case "createSignTicket", "createStreamToken":
			if !slices.Equal(c.rules[field].callers, []CallerKind{Forge}) {
				t.Errorf("%s can be asked by %v", field.Name, c.rules[field].callers)
			}
		}
	}
}

func TestEverythingIsDescribed(t *testing.T) {
	t.Parallel()
	c, _ := productContract(t)
	described := func(description, what string) {
		if strings.TrimSpace(description) == "" {
			t.Errorf("%s has no description", what)
		}
	}
	for _, definition := range own(c) {
		described(definition.Description, definition.Name)
		for _, field := range fieldsOf(definition) {
			described(field.Description, definition.Name+"."+field.Name)
			for _, argument := range field.Arguments {
				described(argument.Description, definition.Name+"."+field.Name+"("+argument.Name+")")
			}
		}
		for _, value := range definition.EnumValues {
			described(value.Description, definition.Name+"."+value.Name)
		}
	}
	for _, directive := range c.Directives {
		if directive.Position.Src.BuiltIn {
			continue
		}
		described(directive.Description, "@"+directive.Name)
		for _, argument := range directive.Arguments {
			described(argument.Description, "@"+directive.Name+"("+argument.Name+")")
		}
	}
}

func TestRelayShape(t *testing.T) {
	t.Parallel()
	c, _ := productContract(t)
	typeOf := func(definition *ast.Definition, field string) string {
		if f := definition.Fields.ForName(field); f != nil {
			return f.Type.String()
		}
		return ""
	}
	for _, definition := range own(c) {
		name := definition.Name
		if base, ok := strings.CutSuffix(name, "Connection"); ok && base != "" {
			if typeOf(definition, "edges") != "["+base+"Edge!]!" || typeOf(definition, "pageInfo") != "PageInfo!" || len(definition.Fields) != 2 {
				t.Errorf("%s is not edges and pageInfo", name)
			}
			edge := c.Types[base+"Edge"]
			if edge == nil || typeOf(edge, "cursor") != "String!" || !strings.HasSuffix(typeOf(edge, "node"), "!") || len(edge.Fields) != 2 {
				t.Errorf("%sEdge is not cursor and node", base)
			}
		}
		if strings.HasSuffix(name, "Payload") && typeOf(definition, "userErrors") != "[UserError!]!" {
			t.Errorf("%s has no userErrors", name)
		}
		for _, field := range fieldsOf(definition) {
			rule, list := c.rules[field], field.Type.Elem != nil
			switch {
			case strings.HasSuffix(field.Type.Name(), "Connection") && len(name) > 0 && field.Type.Name() != "Connection":
				first, after := field.Arguments.ForName("first"), field.Arguments.ForName("after")
				if first == nil || first.Type.String() != "Int" || after == nil || after.Type.String() != "String" {
					t.Errorf("%s.%s takes no first and after", name, field.Name)
				}
				if rule.list == nil || !slices.Equal(rule.list.slicing, []string{"first"}) {
					t.Errorf("%s.%s has no @listSize by first", name, field.Name)
				}
			case definition.IsCompositeType() && list && rule.ofObjects && field.Name != "edges" && field.Name != "userErrors" && rule.list == nil:
				t.Errorf("%s.%s has no @listSize", name, field.Name)
			}
		}
	}
	for _, field := range fieldsOf(c.Mutation) {
		upper := strings.ToUpper(field.Name[:1]) + field.Name[1:]
		if len(field.Arguments) != 1 || field.Arguments[0].Name != "input" || field.Arguments[0].Type.String() != upper+"Input!" {
			t.Errorf("Mutation.%s does not take one input: %sInput!", field.Name, upper)
		}
		if field.Type.String() != upper+"Payload!" {
			t.Errorf("Mutation.%s does not answer %sPayload!", field.Name, upper)
		}
	}
}

// The executor has its own ways with custom scalars and defaults in what comes in.
func TestInputsAreOfPlainTypes(t *testing.T) {
	t.Parallel()
	c, _ := productContract(t)
	plain := func(typ *ast.Type, what string) {
		definition := c.Types[typ.Name()]
		if definition.Kind == ast.Scalar && !slices.Contains([]string{"ID", "String", "Int", "Boolean"}, definition.Name) {
			t.Errorf("%s is a %s", what, definition.Name)
		}
	}
	for _, definition := range own(c) {
		for _, field := range fieldsOf(definition) {
			what := definition.Name + "." + field.Name
			if definition.Kind == ast.InputObject {
				plain(field.Type, what)
				if field.DefaultValue != nil {
					t.Errorf("%s has a default", what)
				}
			}
			for _, argument := range field.Arguments {
				plain(argument.Type, what+"("+argument.Name+")")
				if argument.DefaultValue != nil {
					t.Errorf("%s(%s) has a default", what, argument.Name)
				}
			}
		}
	}
}

// A field asked for on an interface is checked by the interface's directives only.
func TestInterfacesHideNoRule(t *testing.T) {
	t.Parallel()
	c, _ := productContract(t)
	for _, definition := range own(c) {
		for _, name := range definition.Interfaces {
			for _, field := range c.Types[name].Fields {
				if len(c.rules[definition.Fields.ForName(field.Name)].callers) > 0 {
					t.Errorf("%s.%s has an @auth that %s.%s does not have", definition.Name, field.Name, name, field.Name)
				}
			}
		}
	}
}
