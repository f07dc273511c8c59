package graph

import (
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
)

// Limits of one operation. They bound what it can cost before anything of it runs.
const (
	maxCost       = 3000
	maxDepth      = 12  // of fields inside fields
	maxPage       = 100 // what a slicing argument may ask for
	maxSelections = 2000
	// maxIntrospectionDepth lets the usual introspection queries through; they read nothing but the SDL.
	maxIntrospectionDepth = 20
	introspectionCost     = 500
)

// admitted is an operation that may run, as the executor gets it.
type admitted struct {
	kind      ast.Operation
	name      string         // as the caller named it; "" if not
	text      string         // one operation without fragments' definitions
	variables map[string]any // all of them used, all of them given
	cost      int
	root      string         // the first field of the root
	arguments map[string]any // its arguments
}

// admit decides whether the caller may run the operation with these variables, and writes it anew:
// fragments stand in place, every argument is a variable of its own with a checked value, arguments
// whose variable was omitted are gone. So the executor never sees the caller's text, a default, an
// omitted variable or a literal, and cannot differ with this package on what they mean.
func (c *contract) admit(document *ast.QueryDocument, name string, given map[string]any, caller Caller) (*admitted, *requestError) {
	op, no := operation(document, name)
	if no != nil {
		return nil, no
	}
	if no := rootForm(op); no != nil {
		return nil, no
	}
	bound, no := bindVariables(c.Schema, op.VariableDefinitions, given)
	if no != nil {
		return nil, no
	}
	w := &writer{contract: c, fragments: document.Fragments, caller: caller, bound: bound, byValue: make(map[string]string)}
	w.out.WriteByte('{')
	if no := w.selections(op.SelectionSet, place{repeat: 1}); no != nil {
		return nil, no
	}
	w.out.WriteByte('}')
	return &admitted{
		kind: op.Operation, name: op.Name, text: w.head(op.Operation) + w.out.String(), variables: w.values(),
		cost: w.cost, root: w.root, arguments: w.rootArguments,
	}, nil
}

// rootForm holds mutations to one form: one field, whose input is one variable. So a mutation is checked
// whole before it runs, and no two run in one request. A subscription has one field, always.
func rootForm(op *ast.OperationDefinition) *requestError {
	switch op.Operation {
	case ast.Mutation:
		const form = "A mutation has one field and one variable: mutation($input: …!) { field(input: $input) { … } }."
		variables := op.VariableDefinitions
		if len(variables) != 1 || variables[0].Variable != "input" || variables[0].DefaultValue != nil {
			return refused(codeValidationFailed, form)
		}
		field := onlyField(op.SelectionSet)
		if field == nil {
			return refused(codeValidationFailed, form)
		}
		if input := field.Arguments.ForName("input"); input == nil || input.Value.Kind != ast.Variable {
			return refused(codeValidationFailed, form)
		}
	case ast.Subscription:
		if onlyField(op.SelectionSet) == nil {
			return refused(codeValidationFailed, "A subscription has one field, without a directive: subscription { field { … } }.")
		}
	case ast.Query:
	}
	return nil
}

// onlyField gives the one field of a root, if it has one, __typename aside.
func onlyField(set ast.SelectionSet) *ast.Field {
	var only *ast.Field
	for _, selection := range set {
		field, ok := selection.(*ast.Field)
		if !ok || only != nil && field.Name != "__typename" || len(field.Directives) > 0 {
			return nil
		}
		if field.Name != "__typename" {
			only = field
		}
	}
	return only
}

// writer checks an operation and writes it for the executor, in one walk.
type writer struct {
	contract  *contract
	fragments ast.FragmentDefinitionList
	caller    Caller
	bound     *arguments

	out        strings.Builder
	cost       int
	selected   int
	parameters []parameter
	byValue    map[string]string // type and value -> parameter: equal arguments stay equal, so fields still merge

	root          string
	rootArguments map[string]any
}

type parameter struct {
	name  string
	typ   *ast.Type
	value any
}

// place is where a selection stands.
type place struct {
	depth         int
	repeat        int // how many times it is resolved at most
	page          int // inside a connection, how long its lists are; else 0
	introspection bool
}

func (w *writer) selections(set ast.SelectionSet, at place) *requestError {
	for _, selection := range set {
		if w.selected++; w.selected > maxSelections {
			return refused(codeTooComplex, "The operation selects more than %d fields.", maxSelections)
		}
		if w.out.Len() > 0 {
			w.out.WriteByte(' ')
		}
		var no *requestError
		switch selection := selection.(type) {
		case *ast.Field:
			no = w.field(selection, at)
		case *ast.InlineFragment:
			no = w.fragment(selection.TypeCondition, selection.Directives, selection.SelectionSet, at)
		case *ast.FragmentSpread:
			definition := w.fragments.ForName(selection.Name)
			no = w.fragment(definition.TypeCondition, selection.Directives, definition.SelectionSet, at)
		}
		if no != nil {
			return no
		}
	}
	return nil
}

func (w *writer) fragment(on string, directives ast.DirectiveList, set ast.SelectionSet, at place) *requestError {
	w.out.WriteString("...")
	if on != "" {
		w.out.WriteString(" on " + on)
	}
	if no := w.directives(directives); no != nil {
		return no
	}
	w.out.WriteByte('{')
	if no := w.selections(set, at); no != nil {
		return no
	}
	w.out.WriteByte('}')
	return nil
}

func (w *writer) field(field *ast.Field, at place) *requestError {
	at.depth++
	coordinate := field.ObjectDefinition.Name + "." + field.Name
	rule := w.contract.rules[field.Definition]
	if field.Name == "__schema" || field.Name == "__type" {
		rule = fieldRule{callers: []CallerKind{Session, Token}, weight: introspectionCost}
		at.introspection = true
	}
	if no := rule.refuse(w.caller, coordinate); no != nil {
		return no
	}
	if no := w.caller.sees(field.ObjectDefinition.Name, field.Name); no != nil {
		return no
	}
	if limit := depthLimit(at); at.depth > limit {
		return refused(codeTooComplex, "The operation nests more than %d fields.", limit)
	}

	if field.Alias != field.Name {
		w.out.WriteString(field.Alias + ":")
	}
	w.out.WriteString(field.Name)
	values, no := w.arguments(field)
	if no != nil {
		return no
	}
	if at.depth == 1 && w.root == "" && field.Name != "__typename" {
		w.root, w.rootArguments = field.Name, values
	}
	if no := w.directives(field.Directives); no != nil {
		return no
	}
	if no := w.spend(rule.weight, at); no != nil {
		return no
	}
	if at, no = inside(field, rule, values, at); no != nil {
		return no
	}
	if rule.ofObjects && field.Definition.Type.Elem != nil {
		if no := w.spend(1, at); no != nil {
			return no
		}
	}
	if len(field.SelectionSet) == 0 {
		return nil
	}
	w.out.WriteByte('{')
	if no := w.selections(field.SelectionSet, at); no != nil {
		return no
	}
	w.out.WriteByte('}')
	return nil
}

func depthLimit(at place) int {
	if at.introspection {
		return maxIntrospectionDepth
	}
	return maxDepth
}

// spend adds a weight to the cost. Introspection has its price at its root.
func (w *writer) spend(weight int, at place) *requestError {
	if at.introspection && at.depth > 1 {
		return nil
	}
	w.cost += weight * at.repeat
	if w.cost > maxCost {
		return refused(codeTooComplex, "The operation costs more than %d points: ask for less at a time.", maxCost)
	}
	return nil
}

// inside gives the place of what is selected inside a field: a list repeats it, a connection hands its
// length down to its edges.
func inside(field *ast.Field, rule fieldRule, values map[string]any, at place) (place, *requestError) {
	size := 0
	if rule.list != nil {
		size = rule.list.assumed
		for _, name := range rule.list.slicing {
			first, ok := values[name].(int32)
			if !ok {
				continue
			}
			if first < 1 || first > maxPage {
				return at, refused(codeBadUserInput, "%s must be 1 to %d.", name, maxPage)
			}
			size = int(first)
		}
	}
	isList := field.Definition.Type.Elem != nil
	switch {
	case isList && size > 0:
		at.repeat *= size
	case isList && at.page > 0:
		at.repeat *= at.page
	}
	at.page = 0
	if !isList {
		at.page = size
	}
	return at, nil
}

// arguments writes the arguments of a field and gives their values.
func (w *writer) arguments(field *ast.Field) (map[string]any, *requestError) {
	values := make(map[string]any, len(field.Arguments))
	open := "("
	for _, argument := range field.Arguments {
		definition := field.Definition.Arguments.ForName(argument.Name)
		value, ok, no := w.bound.of(argument, definition)
		if no != nil {
			return nil, no
		}
		if !ok {
			continue
		}
		values[argument.Name] = value
		w.out.WriteString(open + argument.Name + ":$" + w.parameter(definition.Type, value))
		open = " "
	}
	if open != "(" {
		w.out.WriteByte(')')
	}
	return values, nil
}

func (w *writer) parameter(typ *ast.Type, value any) string {
	key := typ.String() + canonical(value)
	if name, ok := w.byValue[key]; ok {
		return name
	}
	name := "a" + strconv.Itoa(len(w.parameters))
	w.byValue[key] = name
	w.parameters = append(w.parameters, parameter{name: name, typ: typ, value: value})
	return name
}

// directives writes @skip and @include with their values; the specification has no others here that
// the executor knows.
func (w *writer) directives(list ast.DirectiveList) *requestError {
	for _, directive := range list {
		if directive.Name != "skip" && directive.Name != "include" {
			return refused(codeValidationFailed, "@%s is not supported.", directive.Name)
		}
		argument := directive.Arguments.ForName("if")
		value, _, no := w.bound.of(argument, directive.Definition.Arguments.ForName("if"))
		if no != nil {
			return no
		}
		fmt.Fprintf(&w.out, " @%s(if:%t)", directive.Name, value)
	}
	return nil
}

func (w *writer) head(kind ast.Operation) string {
	if len(w.parameters) == 0 {
		return string(kind)
	}
	declarations := make([]string, 0, len(w.parameters))
	for _, p := range w.parameters {
		declarations = append(declarations, "$"+p.name+":"+p.typ.String())
	}
	return string(kind) + "(" + strings.Join(declarations, " ") + ")"
}

func (w *writer) values() map[string]any {
	values := make(map[string]any, len(w.parameters))
	for _, p := range w.parameters {
		values[p.name] = p.value
	}
	return values
}

// canonical writes a coerced value so that equal values are equal texts.
func canonical(value any) string {
	switch value := value.(type) {
	case string:
		return strconv.Quote(value)
	case []any:
		parts := make([]string, len(value))
		for i, element := range value {
			parts[i] = canonical(element)
		}
		return "[" + strings.Join(parts, ",") + "]"
	case map[string]any:
		parts := make([]string, 0, len(value))
		for name, field := range value {
			parts = append(parts, name+":"+canonical(field))
		}
		sort.Strings(parts)
		return "{" + strings.Join(parts, ",") + "}"
	}
	return fmt.Sprint(value)
}
