package webhook

import (
	"context"
	"errors"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/signedapproval/bitbucket/server/store"
)

const (
	// remember is how long an endpoint is believed without a look into the database, so how much
	// longer a removed webhook is accepted at most. What it brings then finds no gate.
	remember = 10 * time.Second
	// remembered is how many endpoints at most.
	remembered = 4096
	// lookups is how many look into the database at once. What anybody can make us ask for with a
	// made-up id must not take all connections from those who do work.
	lookups = 4
	// lookupTimeout bounds the wait for a turn and the look itself.
	lookupTimeout = 5 * time.Second
)

// endpoints reads where webhooks come in. Ids that do not exist are not remembered: they would push
// out those that do.
type endpoints struct {
	store *store.Store
	now   func() time.Time
	known *lru.Cache[string, seen]
	turns chan struct{}
}

// seen is an endpoint as it was at a time.
type seen struct {
	store.HookEndpoint
	at time.Time
}

func newEndpoints(s *store.Store, now func() time.Time) *endpoints {
	known, err := lru.New[string, seen](remembered)
	if err != nil {
		panic(err) // a constant size
	}
	return &endpoints{store: s, now: now, known: known, turns: make(chan struct{}, lookups)}
}

// find does not end with the request, since a query that is cancelled costs its connection. It fails
// with [store.ErrNotFound] where there is no such endpoint; any other error means that it
// cannot be told.
func (e *endpoints) find(ctx context.Context, id string) (store.HookEndpoint, error) {
	if s, ok := e.known.Get(id); ok && e.now().Sub(s.at) < remember {
		return s.HookEndpoint, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	select {
	case e.turns <- struct{}{}:
		defer func() { <-e.turns }()
	case <-ctx.Done():
		return store.HookEndpoint{}, ctx.Err()
	}
	s := seen{at: e.now()}
	err := e.store.Outside(ctx, func(sh *store.Shared) (err error) {
		s.HookEndpoint, err = sh.HookEndpoint(ctx, id)
		return err
	})
	switch {
	case err == nil:
		e.known.Add(id, s)
	case errors.Is(err, store.ErrNotFound):
		e.known.Remove(id)
	}
	return s.HookEndpoint, err
}
