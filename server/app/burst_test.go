package app_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// TestABurstOfPushesCostsOneStatus: fifty pushes to each of two pull requests come in while Bitbucket is
// slow. However many they are, one evaluation is under way when they come, and one more follows what
// came meanwhile: each reads the head as it is then, and a status that would say nothing new is not put.
func TestABurstOfPushesCostsOneStatus(t *testing.T) {
	t.Parallel()
	const pushes = 50
	var guard sync.RWMutex // held while Bitbucket answers no server
	release := sync.OnceFunc(guard.Unlock)
	c := newCluster(t, options{servers: 1, front: func(sim http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.UserAgent(), "SignedApproval") {
				guard.RLock()
				defer guard.RUnlock()
			}
			sim.ServeHTTP(w, r)
		})
	}})
	list := c.openMany(2, "burst")
	c.eventually("both wait for approval", func() bool { return c.shows(bitbucket.StatusInProgress, list...) })
	c.atRest()
	mark, before := 0, len(c.sim.Deliveries())
	delivered := func() bool {
		all := c.sim.Deliveries()
		for _, d := range all {
			if d.State != "delivered" {
				return false
			}
		}
		return len(all)-before >= 2*len(list)*pushes // of the repository and of the pull request
	}
	for _, call := range c.sim.Calls(0) {
		mark = call.Number
	}
	guard.Lock()
	defer release()
	heads := map[string]bool{}
	for i := range pushes {
		for n := range list {
			branch := "feature/burst0" + string(rune('0'+n))
			commit, err := c.sim.Push(bitbucketsim.Push{
				Repository: rocket, Branch: branch, Person: "alice", Files: map[string]string{"src/burst.go": strings.Repeat("// more\n", i+1)},
			})
			c.must(err)
			list[n].head, heads[commit.Hash] = commit.Hash, true
		}
	}
	c.eventually("all webhooks were accepted", delivered)
	release()
	c.eventually("the last heads wait for approval", func() bool { return c.shows(bitbucket.StatusInProgress, list...) })
	c.atRest()

	puts := map[string]int{} // statuses that were put on commits of the burst
	for _, call := range c.sim.Calls(mark) {
		commit, found := strings.CutPrefix(call.Path, "/2.0/repositories/")
		if call.Method != http.MethodPost && call.Method != http.MethodPut || !found || !strings.Contains(call.Path, "/statuses/build") {
			continue
		}
		for hash := range heads {
			if strings.Contains(commit, hash) {
				puts[hash]++
			}
		}
	}
	all := 0
	for _, n := range puts {
		all += n
	}
	if most := 2 * len(list); all < len(list) || all > most {
		t.Errorf("%d pushes cost %d statuses, want one for each pull request, and %d at most", len(list)*pushes, all, most)
	}
	for _, pr := range list {
		if puts[pr.head] == 0 {
			t.Errorf("the last head of pull request %d has no status", pr.Number)
		}
	}
}
