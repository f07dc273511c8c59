package descriptor

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/signedapproval/bitbucket/server/forge"
)

// The app subscribes to exactly those of Bitbucket's events for which the door has something to do.
func TestEventsAreThoseThatTheDoorHandles(t *testing.T) {
	t.Parallel()
	var subscribed, wanted []string
	for _, event := range slices.Sorted(slices.Values(subscriptions())) {
		if strings.HasPrefix(event, "avi:bitbucket:") {
			subscribed = append(subscribed, event)
		}
	}
	for _, event := range forge.Events() {
		if forge.Asks(event) {
			wanted = append(wanted, event)
		}
	}
	if diff := cmp.Diff(wanted, subscribed); diff != "" {
		t.Errorf("the door wants (-) and the app subscribes to (+):\n%s", diff)
	}
}

// The door follows a call only if the module that made it may come through the endpoint.
func TestModulesAreThoseThatTheDoorFollows(t *testing.T) {
	t.Parallel()
	var m manifest
	if err := yaml.Unmarshal([]byte(template), &m); err != nil {
		t.Fatal(err)
	}
	callers := map[string][]string{}
	for _, c := range m.Modules.MergeCheck {
		callers[c.Endpoint] = append(callers[c.Endpoint], c.Key)
	}
	for _, c := range m.Modules.Trigger {
		callers[c.Endpoint] = append(callers[c.Endpoint], c.Key)
	}
	for _, c := range m.Modules.PreUninstall {
		callers[c.Endpoint] = append(callers[c.Endpoint], c.Key)
	}
	for _, c := range m.Modules.Scheduled {
		callers[c.Endpoint] = append(callers[c.Endpoint], c.Key)
	}
	for _, e := range m.Modules.Endpoint {
		slices.Sort(callers[e.Key])
		if diff := cmp.Diff(forge.Modules(e.Key), callers[e.Key]); diff != "" {
			t.Errorf("%s: the door follows (-) and the manifest has (+):\n%s", e.Key, diff)
		}
	}
	for _, key := range []string{forge.EndpointEvents, forge.EndpointLifecycle, forge.EndpointScheduled, forge.EndpointMergeCheck} {
		if len(callers[key]) == 0 {
			t.Errorf("no module of the manifest calls through %s", key)
		}
	}
}

// The endpoints lead to where the doors are mounted: server/app names all routes in one file.
func TestRoutesAreThoseThatTheServerMounts(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "../server/app/server.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var mounted, wanted []string
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) != 2 {
			return true
		}
		function, isMethod := call.Fun.(*ast.SelectorExpr)
		literal, isText := call.Args[0].(*ast.BasicLit)
		if !isMethod || !isText || !strings.HasPrefix(function.Sel.Name, "Handle") {
			return true
		}
		if path, ok := strings.CutPrefix(strings.Trim(literal.Value, `"`), "POST /forge/"); ok {
			mounted = append(mounted, "/forge/"+path)
		}
		return true
	})
	for _, route := range routes {
		if route != "" {
			wanted = append(wanted, route)
		}
	}
	slices.Sort(mounted)
	slices.Sort(wanted)
	if diff := cmp.Diff(mounted, wanted); diff != "" {
		t.Errorf("the server mounts (-) and the manifest leads to (+):\n%s", diff)
	}
}
