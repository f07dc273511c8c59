package app_test

import (
	"context"
	"testing"

	"github.com/signedapproval/bitbucket/server/bitbucket"
)

// TestOneReaderDoesNotStarveTheOthers: bob, who may do no more than look, asks for a change as often as the server answers, and goes on.
// A pull request that is opened meanwhile is looked at, and carol decides.
func TestOneReaderDoesNotStarveTheOthers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{servers: 1, env: []string{"SIGNEDAPPROVAL_CALLS_PER_HOUR=1000"}})
	first := c.open("first")
	c.eventually("the first waits for approval", func() bool { return c.shows(bitbucket.StatusInProgress, first) })
	request, err := c.bob.Request(c.ctx, first.Place)
	c.must(err)
	look := func() error {
		return c.bob.Ask(c.ctx, "Change", map[string]any{"id": request.ID}, &struct{}{})
	}
	served := 0
	for ; served < 200 && look() == nil; served++ {
	}
	if served < 10 || served == 200 {
		t.Fatalf("bob was served %d times", served)
	}
	ctx, stop := context.WithCancel(c.ctx)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for ctx.Err() == nil {
			_ = look()
		}
	}()
	defer func() { stop(); <-gone }()

	second := c.open("second")
	c.eventually("the second waits for approval", func() bool { return c.shows(bitbucket.StatusInProgress, second) })
	c.must(c.approve(c.carol, []opened{first}))
}
