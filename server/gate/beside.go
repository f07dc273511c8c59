package gate

import (
	"fmt"
	"runtime/debug"
)

// beside does something beside what the caller does meanwhile, and gives what waits for its end, which the caller must call:
// nobody leaves a call behind, it would outlive the lease that it was made under. A panic is the waiter's: it would end the
// process, and in the job's own goroutine it ends the job. what says what was done, for that.
func beside[T any](what string, do func() (T, error)) (wait func() (T, error)) {
	var result T
	var err error
	var fault string
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				fault = fmt.Sprintf("%v, while %s:\n%s", p, what, debug.Stack())
			}
		}()
		result, err = do()
	}()
	return func() (T, error) {
		if <-done; fault != "" {
			panic(fault)
		}
		return result, err
	}
}
