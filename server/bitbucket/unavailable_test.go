package bitbucket_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucket"
)

// TestWhatPeopleAreToldOfBitbucket: that calls are used up is not told as if Bitbucket were down, and names a minute that is not too early.
func TestWhatPeopleAreToldOfBitbucket(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 6, 3, 13, 4, 1, 0, time.FixedZone("", 3600))
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"no answer":          {&bitbucket.Error{Op: "read"}, "could not be asked just now"},
		"a fault":            {&bitbucket.Error{Status: http.StatusServiceUnavailable}, "could not be asked just now"},
		"something else":     {errors.New("else"), "could not be asked just now"},
		"calls used up":      {&bitbucket.Error{Status: http.StatusTooManyRequests, RetryAt: at}, "used up for now. Nothing was changed; please try again from 12:05 UTC on."},
		"to the very minute": {&bitbucket.Error{Status: http.StatusTooManyRequests, RetryAt: at.Truncate(time.Minute)}, "from 12:04 UTC on."},
	} {
		if got := bitbucket.Unavailable(c.err); !strings.Contains(got, c.want) {
			t.Errorf("%s: %s", name, got)
		}
	}
}
