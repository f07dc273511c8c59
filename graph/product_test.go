package graph

import (
	"encoding/json"
	"slices"
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

// The front end's own operations fit the server, and may be asked for where the pages stand that ask: with a session on a
// page of our own, or inside Bitbucket's frame.
func TestRegisteredOperationsFit(t *testing.T) {
	t.Parallel()
	handler, err := New(Options{Gate: &gate.Gate{}, Registered: frontend.PersistedDocuments()})
	if err != nil {
		t.Fatal(err)
	}
	frame := Caller{Kind: Forge, Person: somebody.Person, Workspace: "3f2b8a10-6f0e-4a55-9d7c-1b2f3e4d5c6b"}
	// In the frame nobody signs in, signs, enrols or handles secrets; a page of our own needs neither ticket nor stream token.
	refused := map[CallerKind][]string{
		Session: {"CreateSignTicket", "CreateStreamToken"},
		Forge: {
			"BeginConnect", "BeginPasskey", "Change", "ConfirmPasskey", "ConnectWorkspace", "ContinuePasskey", "CreateApiToken", "FinishPasskey",
			"PrepareDecision", "PrepareKeyAct", "PrepareProposalSignature", "RedeemTicket", "RenamePasskey", "ReportLostPasskeys", "RevokeApiToken", "RevokePasskey", "SignKeyAct",
			"SignOut", "SignProposal", "SubmitDecision",
		},
	}
	c := handler.engine.contract
	for _, caller := range []Caller{somebody, frame} {
		var no []string
		for _, document := range handler.engine.library.registered {
			for _, op := range document.Operations {
				variables := make(map[string]any)
				for _, variable := range op.VariableDefinitions {
					if variable.Type.NonNull {
						variables[variable.Variable] = sample(c, variable.Type)
					}
				}
				admitted, refusal := c.admit(document, op.Name, variables, caller)
				if refusal != nil {
					t.Logf("%s for %s: %s", op.Name, caller.Kind, refusal.message)
					no = append(no, op.Name)
					continue
				}
				t.Logf("%s costs %d", op.Name, admitted.cost)
			}
		}
		slices.Sort(no)
		if !slices.Equal(no, refused[caller.Kind]) {
			t.Errorf("%s is refused\n%q, want\n%q", caller.Kind, no, refused[caller.Kind])
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

// TestAnUnconfirmedAppCanBeConfirmed: what the frame shows on the way to the confirmation is let through.
func TestAnUnconfirmedAppCanBeConfirmed(t *testing.T) {
	t.Parallel()
	handler, err := New(Options{Gate: &gate.Gate{}, Registered: frontend.PersistedDocuments()})
	if err != nil {
		t.Fatal(err)
	}
	c := handler.engine.contract
	caller := Caller{Kind: Forge, Person: somebody.Person, Workspace: "w", Unconfirmed: true}
	let := map[string]bool{"Shell": false, "Bitbucket": false, "ConfirmInstallation": false}
	for _, document := range handler.engine.library.registered {
		for _, op := range document.Operations {
			if _, wanted := let[op.Name]; !wanted {
				continue
			}
			variables := make(map[string]any)
			for _, variable := range op.VariableDefinitions {
				if variable.Type.NonNull {
					variables[variable.Variable] = sample(c, variable.Type)
				}
			}
			if _, no := c.admit(document, op.Name, variables, caller); no != nil {
				t.Errorf("%s: %s", op.Name, no.message)
			}
			let[op.Name] = true
		}
	}
	for name, met := range let {
		if !met {
			t.Errorf("there is no operation %s any more", name)
		}
	}
}
