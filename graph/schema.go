package graph

import (
	"embed"
	"fmt"
	"io/fs"
	"strconv"

	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
)

// The SDL is the contract with the front end and with scripts.
//
//go:embed schema/*.graphqls
var sdl embed.FS

// sources reads the SDL, one source for each file, in the order of their names.
func sources() ([]*ast.Source, error) {
	names, err := fs.Glob(sdl, "schema/*.graphqls")
	if err != nil {
		return nil, err
	}
	all := make([]*ast.Source, 0, len(names))
	for _, name := range names {
		text, err := fs.ReadFile(sdl, name)
		if err != nil {
			return nil, err
		}
		all = append(all, &ast.Source{Name: name, Input: string(text)})
	}
	return all, nil
}

// contract is the schema with what its directives say of each field.
type contract struct {
	*ast.Schema
	rules map[*ast.FieldDefinition]fieldRule
}

// fieldRule is what @auth, @cost and @listSize say of one field.
type fieldRule struct {
	callers []CallerKind // nil: whoever reached the parent
	scope   TokenScope   // "" where a token needs none
	weight  int
	list    *listRule // nil: the length is that of the parent's page, or 1

	ofObjects bool // and not of leaves
}

type listRule struct {
	assumed int
	slicing []string
}

// loadContract reads the SDL. The executor reads the same sources.
func loadContract(all []*ast.Source) (*contract, error) {
	schema, err := gqlparser.LoadSchema(all...)
	if err != nil {
		return nil, fmt.Errorf("graph: the SDL is invalid: %w", err)
	}
	c := &contract{Schema: schema, rules: make(map[*ast.FieldDefinition]fieldRule)}
	for _, definition := range schema.Types {
		for _, field := range definition.Fields {
			rule, err := c.ruleOf(field)
			if err != nil {
				return nil, fmt.Errorf("graph: %s.%s: %w", definition.Name, field.Name, err)
			}
			c.rules[field] = rule
		}
	}
	return c, nil
}

// ruleOf reads the directives of a field. A field of one object costs a point where @cost is silent,
// each object of a list one in any case, a leaf nothing. Neither engine checks the arguments of directives in the SDL, so this does.
func (c *contract) ruleOf(field *ast.FieldDefinition) (fieldRule, error) {
	rule := fieldRule{}
	rule.ofObjects = c.Types[field.Type.Name()].IsCompositeType()
	if rule.ofObjects && field.Type.Elem == nil {
		rule.weight = 1
	}
	if auth := field.Directives.ForName("auth"); auth != nil {
		callers := auth.Arguments.ForName("callers")
		if callers == nil || len(callers.Value.Children) == 0 {
			return rule, fmt.Errorf("@auth lets nobody in")
		}
		for _, child := range callers.Value.Children {
			kind := CallerKind(child.Value.Raw)
			if kind != Anonymous && kind != Session && kind != Token && kind != Forge {
				return rule, fmt.Errorf("@auth names an unknown caller %s", child.Value.Raw)
			}
			rule.callers = append(rule.callers, kind)
		}
		if scope := auth.Arguments.ForName("scope"); scope != nil {
			rule.scope = TokenScope(scope.Value.Raw)
			if rule.scope != ScopeRead && rule.scope != ScopeConfigure {
				return rule, fmt.Errorf("@auth names an unknown scope %s", scope.Value.Raw)
			}
		}
	}
	if cost := field.Directives.ForName("cost"); cost != nil {
		weight, err := natural(cost.Arguments.ForName("weight"))
		if err != nil {
			return rule, fmt.Errorf("@cost: %w", err)
		}
		rule.weight = weight
	}
	if size := field.Directives.ForName("listSize"); size != nil {
		assumed, err := natural(size.Arguments.ForName("assumedSize"))
		if err != nil {
			return rule, fmt.Errorf("@listSize: %w", err)
		}
		rule.list = &listRule{assumed: assumed}
		if slicing := size.Arguments.ForName("slicingArguments"); slicing != nil {
			for _, child := range slicing.Value.Children {
				argument := field.Arguments.ForName(child.Value.Raw)
				if argument == nil || argument.Type.String() != "Int" {
					return rule, fmt.Errorf("@listSize: %s is no Int argument of the field", child.Value.Raw)
				}
				rule.list.slicing = append(rule.list.slicing, child.Value.Raw)
			}
		}
	}
	return rule, nil
}

func natural(argument *ast.Argument) (int, error) {
	if argument == nil {
		return 0, fmt.Errorf("a number is missing")
	}
	n, err := strconv.Atoi(argument.Value.Raw)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s is not a natural number", argument.Value.Raw)
	}
	return n, nil
}

// rootRule gives the rule of an operation's root field.
func (c *contract) rootRule(op *admitted) fieldRule {
	root := map[ast.Operation]*ast.Definition{ast.Query: c.Query, ast.Mutation: c.Mutation, ast.Subscription: c.Subscription}[op.kind]
	return c.rules[root.Fields.ForName(op.root)]
}
