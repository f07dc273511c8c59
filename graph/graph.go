package graph

import (
	"context"
	"log/slog"
	"net/http"
)

// Options is what a Handler needs; all fields without a note are required.
type Options struct {
	// Identify makes out the caller by cookie or bearer token. A refusal in its error's chain is told
	// to the caller with status 401; a request that shows neither is anonymous, not an error. It is
	// called again for every event of a stream.
	Identify func(*http.Request) (Caller, error)
	// Subscribe listens to a topic that the store touches. The channel may drop rings but the last.
	Subscribe func(topic string) (rings <-chan struct{}, cancel func())
	// Registered holds the operations of our own pages, as the front end's code generation writes
	// them: a JSON object of hex SHA-256 to text. Optional.
	Registered []byte
	// RegisteredOnly lets nobody but API tokens send other operations than the registered ones.
	RegisteredOnly bool
	// Allow is asked whether a caller may spend so many points, where replicas count together.
	// Optional; each replica counts for itself anyway.
	Allow func(ctx context.Context, caller string, points int) bool
	Log   *slog.Logger
}

func newHandler(e *engine, o Options, t topics) (*Handler, error) {
	meter, err := newMeter()
	if err != nil {
		return nil, err
	}
	return &Handler{
		engine: e, identify: o.Identify, registeredOnly: o.RegisteredOnly, allow: o.Allow, topics: t, log: o.Log, pace: usualPace,
		meter: meter, running: make(chan struct{}, maxRunning), closing: make(chan struct{}),
	}, nil
}
