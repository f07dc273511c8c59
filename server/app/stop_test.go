package app

import (
	"testing"
	"time"
)

// TestAStopIsBounded: whoever runs the server may kill it after half a minute, and it needs some time to spare.
func TestAStopIsBounded(t *testing.T) {
	t.Parallel()
	if stopLimit > 20*time.Second || doorsGrace+jobsGrace*3/2 >= stopLimit {
		t.Errorf("the doors have %v and the jobs %v, and the process ends itself after %v", doorsGrace, jobsGrace*3/2, stopLimit)
	}
}
