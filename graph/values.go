package graph

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
)

// arguments turns input values, of variables and of the document alike, into what resolvers get: int32,
// string, bool, []any, map[string]any or nil. It converts nothing but what the specification has: an
// integer for an ID, and one value for a list of one.
type arguments struct {
	schema *ast.Schema
	values map[string]any // declared variables that have a value, coerced
}

// bindVariables checks given, the request's variables, against the declarations of the operation.
// Numbers in given are json.Number.
func bindVariables(schema *ast.Schema, declared ast.VariableDefinitionList, given map[string]any) (*arguments, *requestError) {
	for name := range given {
		if declared.ForName(name) == nil {
			return nil, refused(codeBadUserInput, "The operation declares no variable $%s.", clip(name))
		}
	}
	a := &arguments{schema: schema, values: make(map[string]any, len(declared))}
	for _, variable := range declared {
		value, ok := given[variable.Variable]
		if !ok && variable.DefaultValue != nil {
			literal, err := a.literal(variable.DefaultValue)
			if err != nil {
				return nil, err
			}
			value, ok = literal, true
		}
		if !ok {
			if variable.Type.NonNull {
				return nil, refused(codeBadUserInput, "$%s: a value of type %s is required.", variable.Variable, variable.Type)
			}
			continue
		}
		coerced, err := a.coerce(variable.Type, value, "$"+variable.Variable)
		if err != nil {
			return nil, err
		}
		a.values[variable.Variable] = coerced
	}
	return a, nil
}

// of gives the value of an argument, and whether it has one: an omitted variable leaves the argument out.
func (a *arguments) of(argument *ast.Argument, definition *ast.ArgumentDefinition) (any, bool, *requestError) {
	if argument.Value.Kind == ast.Variable {
		if _, ok := a.values[argument.Value.Raw]; !ok {
			if definition.Type.NonNull { // the declarations allow it only where the argument has a default
				return nil, false, refused(codeBadUserInput, "%s: a value of type %s is required.", argument.Name, definition.Type)
			}
			return nil, false, nil
		}
	}
	literal, err := a.literal(argument.Value)
	if err != nil {
		return nil, false, err
	}
	value, err := a.coerce(definition.Type, literal, argument.Name)
	return value, err == nil, err
}

// literal gives the value that the document writes, as JSON would have it. An omitted variable inside an
// input object leaves its field out; inside a list it is null, which the element's type may refuse.
func (a *arguments) literal(v *ast.Value) (any, *requestError) {
	switch v.Kind {
	case ast.Variable:
		return a.values[v.Raw], nil
	case ast.IntValue, ast.FloatValue:
		return json.Number(v.Raw), nil
	case ast.StringValue, ast.BlockValue, ast.EnumValue: // which of them may stand where is checked by validation
		return v.Raw, nil
	case ast.BooleanValue:
		return v.Raw == "true", nil
	case ast.NullValue:
		return nil, nil
	case ast.ListValue:
		list := make([]any, 0, len(v.Children))
		for _, child := range v.Children {
			element, err := a.literal(child.Value)
			if err != nil {
				return nil, err
			}
			list = append(list, element)
		}
		return list, nil
	case ast.ObjectValue:
		object := make(map[string]any, len(v.Children))
		for _, child := range v.Children {
			if child.Value.Kind == ast.Variable {
				if _, ok := a.values[child.Value.Raw]; !ok {
					continue
				}
			}
			field, err := a.literal(child.Value)
			if err != nil {
				return nil, err
			}
			object[child.Name] = field
		}
		return object, nil
	}
	return nil, refused(codeBadUserInput, "The document holds a value of an unknown kind.")
}

// coerce checks value against typ. Coercing a coerced value changes nothing, so variables may stand
// inside literals.
func (a *arguments) coerce(typ *ast.Type, value any, path string) (any, *requestError) {
	if value == nil {
		if typ.NonNull {
			return nil, refused(codeBadUserInput, "%s: null is not a value of type %s.", path, typ)
		}
		return nil, nil
	}
	if typ.Elem != nil {
		list, ok := value.([]any)
		if !ok {
			list = []any{value}
		}
		coerced := make([]any, len(list))
		for i, element := range list {
			var err *requestError
			if coerced[i], err = a.coerce(typ.Elem, element, fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return nil, err
			}
		}
		return coerced, nil
	}
	definition := a.schema.Types[typ.NamedType]
	switch definition.Kind {
	case ast.Enum:
		if name, ok := value.(string); ok && definition.EnumValues.ForName(name) != nil {
			return name, nil
		}
		return nil, refused(codeBadUserInput, "%s: not a value of %s.", path, definition.Name)
	case ast.InputObject:
		return a.coerceObject(definition, value, path)
	case ast.Scalar, ast.Object, ast.Interface, ast.Union:
	}
	return coerceScalar(typ.NamedType, value, path)
}

func (a *arguments) coerceObject(definition *ast.Definition, value any, path string) (any, *requestError) {
	object, ok := value.(map[string]any)
	if !ok {
		return nil, refused(codeBadUserInput, "%s: not an object of type %s.", path, definition.Name)
	}
	for name := range object {
		if definition.Fields.ForName(name) == nil {
			return nil, refused(codeBadUserInput, "%s: %s has no field %s.", path, definition.Name, clip(name))
		}
	}
	if definition.Directives.ForName("oneOf") != nil {
		if err := exactlyOne(object, path); err != nil {
			return nil, err
		}
	}
	coerced := make(map[string]any, len(object))
	for _, field := range definition.Fields {
		given, ok := object[field.Name]
		if !ok {
			if field.Type.NonNull {
				return nil, refused(codeBadUserInput, "%s.%s: a value of type %s is required.", path, field.Name, field.Type)
			}
			continue
		}
		var err *requestError
		if coerced[field.Name], err = a.coerce(field.Type, given, path+"."+field.Name); err != nil {
			return nil, err
		}
	}
	return coerced, nil
}

func exactlyOne(object map[string]any, path string) *requestError {
	for _, value := range object {
		if len(object) == 1 && value != nil {
			return nil
		}
	}
	return refused(codeBadUserInput, "%s: exactly one field must be given, and not null.", path)
}

// coerceScalar knows the scalars that inputs may be made of; a rule of the SDL keeps all others out.
func coerceScalar(name string, value any, path string) (any, *requestError) {
	switch value := value.(type) {
	case string:
		if name != "String" && name != "ID" {
			break
		}
		if strings.ContainsRune(value, 0) { // the database has no such text
			return nil, refused(codeBadUserInput, "%s: U+0000 cannot be stored.", path)
		}
		return value, nil
	case bool:
		if name == "Boolean" {
			return value, nil
		}
	case int32:
		switch name {
		case "Int":
			return value, nil
		case "ID":
			return strconv.Itoa(int(value)), nil
		}
	case json.Number:
		n, err := strconv.ParseInt(value.String(), 10, 64)
		switch {
		case err != nil:
		case name == "ID":
			return value.String(), nil
		case name == "Int" && n >= math.MinInt32 && n <= math.MaxInt32:
			return int32(n), nil
		case name == "Int":
			return nil, refused(codeBadUserInput, "%s: %d does not fit into 32 bits.", path, n)
		}
	}
	return nil, refused(codeBadUserInput, "%s: not a value of type %s.", path, name)
}

// clip bounds a name that the caller chose before it is quoted back.
func clip(name string) string {
	const most = 64
	if len(name) <= most {
		return name
	}
	return strings.ToValidUTF8(name[:most], "") + "…"
}
