package graph

import (
	"errors"
	"time"
)

// Time is the SDL's scalar: RFC 3339 in UTC, with microseconds as the database has them.
type Time struct{ at time.Time }

// ImplementsGraphQLType names the scalar.
func (Time) ImplementsGraphQLType(name string) bool { return name == "Time" }

// UnmarshalGraphQL is never reached: no input holds a Time.
func (*Time) UnmarshalGraphQL(any) error { return errors.New("graph: a Time is never an input") }

// MarshalJSON writes the time.
func (t Time) MarshalJSON() ([]byte, error) {
	return t.at.UTC().Truncate(time.Microsecond).AppendFormat(nil, `"2006-01-02T15:04:05.999999Z"`), nil
}

func timeOf(at time.Time) Time { return Time{at: at} }

func timeOrNil(at *time.Time) *Time {
	if at == nil {
		return nil
	}
	return &Time{at: *at}
}
