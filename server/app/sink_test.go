package app_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/bitbucket"
)

// TestTheSinkIsLost takes the sink of the log away from two servers: what was approved meanwhile does not turn green
// and is not merged, and is once the sink is back.
func TestTheSinkIsLost(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{servers: 2})
	list := c.openMany(2, "before")
	c.approveBoth(list)
	c.untilMerged(list)

	c.must(os.Rename(c.sink, c.sink+".away"))
	answers := func(status int, text string) bool {
		for _, s := range c.servers {
			got, body, err := s.get(*s.address.Load(), "/readyz")
			c.must(err)
			if got != status || !strings.Contains(body, text) {
				return false
			}
		}
		return true
	}
	c.eventually("all servers notice", func() bool { return answers(http.StatusServiceUnavailable, "its sink is away") })
	without := c.openMany(2, "without")
	c.approveBoth(without)
	c.eventually("a status of each waits", func() bool {
		return len(c.sql(`select key from signedapproval_jobs where kind = 'status' and last_error like '%sink%' and state = 'READY'`)) == len(without)
	})
	c.check(false)
	for _, pr := range without {
		if got := c.status(pr.head); got != bitbucket.StatusInProgress {
			t.Errorf("pull request %d shows %s without a sink", pr.Number, got)
		}
	}
	if n := c.merged(without); n != 0 {
		t.Errorf("%d were merged without a sink", n)
	}

	c.must(os.Rename(c.sink+".away", c.sink))
	list = append(list, without...)
	c.untilMerged(list)
	c.atRest()
	c.mergedOnce(list)
	if !answers(http.StatusOK, "postgres: here") {
		t.Error("a server is not ready again")
	}
	sizes := c.sql(`select size::text from signedapproval_log_checkpoints`)
	for _, text := range sizes {
		size, err := strconv.Atoi(text)
		c.must(err)
		digits := strconv.Itoa(1_000_000_000_000_000_000 + size)[1:]
		path := c.sink
		for i := 0; i < len(digits); i += 3 {
			path = filepath.Join(path, digits[i:i+3])
		}
		if _, err := os.Stat(path); err != nil {
			t.Errorf("a published checkpoint is not in the sink: %v", err)
		}
	}
	if len(sizes) < 4 {
		t.Errorf("%d checkpoints were published", len(sizes))
	}
}
