package bitbucket

import (
	"errors"
	"time"

	"github.com/signedapproval/bitbucket/server/refusal"
)

// Unavailable is what people are told where Bitbucket could not be asked, for now: since when it can be again, where it or the budget
// allows no further call, which is no fault of Bitbucket's. err is the cause, whatever it is.
func Unavailable(err error) *refusal.Error {
	said := refusal.New(refusal.BitbucketUnavailable, "Bitbucket could not be asked just now. Nothing was changed; please try again.")
	if remote, ok := errors.AsType[*Error](err); ok && remote.Throttled() {
		again := remote.RetryAt.UTC().Add(time.Minute - 1).Truncate(time.Minute)
		said = refusal.New(refusal.BitbucketUnavailable,
			"The calls that Bitbucket allows are used up for now. Nothing was changed; please try again from %s on.", again.Format("15:04 UTC"))
	}
	return said.Because(err)
}
