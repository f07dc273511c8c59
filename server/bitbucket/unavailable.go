package bitbucket

import (
	"errors"
	"time"
)

// Unavailable is what people are told where Bitbucket could not be asked, for now: from when on it can be again, where it or the budget
// allows no further call, which is no fault of Bitbucket's. err is the cause, whatever it is; nothing of it is told.
func Unavailable(err error) string {
	if remote, ok := errors.AsType[*Error](err); ok && remote.Throttled() {
		again := remote.RetryAt.UTC().Add(time.Minute - 1).Truncate(time.Minute)
		return "The calls that Bitbucket allows are used up for now. Nothing was changed; please try again from " + again.Format("15:04 UTC") + " on."
	}
	return "Bitbucket could not be asked just now. Nothing was changed; please try again."
}
