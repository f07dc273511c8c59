package graph

import (
	"testing"

	"github.com/signedapproval/bitbucket/server/gate"
)

// The executor checks each resolver against the SDL when it starts.
func TestResolversFitTheSDL(t *testing.T) {
	t.Parallel()
	if _, err := New(Options{Gate: &gate.Gate{}}); err != nil {
		t.Fatal(err)
	}
}
