package jobs

import "slices"

// Turns lets parties wait, each in a queue of its own, and serves them by turns: whoever comes with one waits for one of
// each other party at most. The zero value is empty. It is not safe for concurrent use.
type Turns[T any] struct {
	queues map[string][]T // by party; none is empty
	order  []string       // the parties that wait; who was served goes behind the others
}

// Wait puts one at the end of its party's queue.
func (t *Turns[T]) Wait(party string, one T) {
	if t.queues == nil {
		t.queues = map[string][]T{}
	}
	if len(t.queues[party]) == 0 {
		t.order = append(t.order, party)
	}
	t.queues[party] = append(t.queues[party], one)
}

// Waiting is how many of a party wait.
func (t *Turns[T]) Waiting(party string) int { return len(t.queues[party]) }

// Next takes out the first of the party whose turn it is, among those that may be served; false where there is none.
func (t *Turns[T]) Next(may func(party string) bool) (one T, ok bool) {
	for i, party := range t.order {
		if may(party) {
			t.order = append(slices.Delete(t.order, i, i+1), party)
			return t.take(party, 0), true
		}
	}
	return one, false
}

// Last takes out what would be served last: the last of the longest queue. Somebody must wait.
func (t *Turns[T]) Last() T {
	longest := t.order[0]
	for _, party := range t.order {
		if len(t.queues[party]) >= len(t.queues[longest]) {
			longest = party
		}
	}
	return t.take(longest, len(t.queues[longest])-1)
}

// Leave takes the first of a party out that is the one; false where there is none.
func (t *Turns[T]) Leave(party string, is func(T) bool) bool {
	at := slices.IndexFunc(t.queues[party], is)
	if at < 0 {
		return false
	}
	t.take(party, at)
	return true
}

// Drain takes out all that wait.
func (t *Turns[T]) Drain() []T {
	var all []T
	for _, queue := range t.queues {
		all = append(all, queue...)
	}
	*t = Turns[T]{}
	return all
}

func (t *Turns[T]) take(party string, at int) T {
	one := t.queues[party][at]
	t.queues[party] = slices.Delete(t.queues[party], at, at+1)
	if len(t.queues[party]) == 0 {
		delete(t.queues, party)
		t.order = slices.DeleteFunc(t.order, func(p string) bool { return p == party })
	}
	return one
}
