package graph

import (
	"encoding/json"
	"testing"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/signedapproval/bitbucket/frontend"
	"github.com/signedapproval/bitbucket/server/gate"
)

// The executor checks each resolver against the SDL when it starts.
func TestResolversFitTheSDL(t *testing.T) {
	t.Parallel()
	if _, err := New(Options{Gate: &gate.Gate{}}); err != nil {
		t.Fatal(err)
	}
}

// The front end's own operations fit the server, and may be asked for by whoever signed in.
func TestRegisteredOperationsFit(t *testing.T) {
	t.Parallel()
	handler, err := New(Options{Gate: &gate.Gate{}, Registered: frontend.PersistedDocuments()})
	if err != nil {
		t.Fatal(err)
	}
	c := handler.engine.contract
	for hash, document := range handler.engine.library.registered {
		for _, op := range document.Operations {
			variables := make(map[string]any)
			for _, variable := range op.VariableDefinitions {
				if variable.Type.NonNull {
					variables[variable.Variable] = sample(c, variable.Type)
				}
			}
			admitted, no := c.admit(document, op.Name, variables, somebody)
			if no != nil {
				t.Errorf("%s %.8s: %s", op.Name, hash, no.message)
				continue
			}
			t.Logf("%s costs %d", op.Name, admitted.cost)
		}
	}
}

// sample makes a value of a type that the gate lets through.
func sample(c *contract, typ *ast.Type) any {
	if typ.Elem != nil {
		return []any{sample(c, typ.Elem)}
	}
	definition := c.Types[typ.NamedType]
	switch definition.Kind {
	case ast.Enum:
		return definition.EnumValues[0].Name
	case ast.InputObject:
		object := make(map[string]any)
		for _, field := range definition.Fields {
			if field.Type.NonNull {
				object[field.Name] = sample(c, field.Type)
			}
		}
		return object
	default:
	}
	return map[string]any{"Int": json.Number("1"), "Boolean": true, "String": "x", "ID": "x"}[definition.Name]
}
