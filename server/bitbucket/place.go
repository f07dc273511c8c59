package bitbucket

import (
	"context"
	"sync"
	"time"
)

// placeLife is how long a place that was taken ahead pays for an exchange: another replica may have been told meanwhile to
// leave the credential alone.
const placeLife = time.Second

// Place is room for one exchange in the budget, which may be taken before it is known whether there will be one. The zero
// Place is empty. It is safe for concurrent use; whoever has one returns it in the end.
type Place struct {
	guard sync.Mutex
	taken *taken // nil where it is empty
}

// taken is a call that the budget was asked for.
type taken struct {
	api   *API
	call  Call
	since time.Time // before the budget was asked
}

// empty gives what the place holds to the caller alone.
func (p *Place) empty() *taken {
	p.guard.Lock()
	defer p.guard.Unlock()
	t := p.taken
	p.taken = nil
	return t
}

// Return gives back to the budget what no exchange has used, even where ctx is over.
func (p *Place) Return(ctx context.Context) { p.empty().giveBack(ctx) }

func (t *taken) giveBack(ctx context.Context) {
	if t != nil && t.api.config.Return != nil {
		t.api.config.Return(context.WithoutCancel(ctx), t.call, t.since)
	}
}

// pays tells whether a place is still good for an exchange of this credential and class.
func (t *taken) pays(call Call) bool {
	return t != nil && t.call.TokenKey == call.TokenKey && t.call.Class == call.Class && time.Since(t.since) < placeLife
}

// Ahead returns a client like c whose next exchange is paid for by p. Where p does not hold what pays, the budget is asked
// now; where that refuses, the exchange asks again and fails for it. Other calls must not use the client at the same time.
func (c *Client) Ahead(ctx context.Context, p *Place) *Client {
	ahead := &Client{api: c.api, token: c.token, tokenKey: c.tokenKey, class: c.class, renew: c.renew, readOnly: c.readOnly, place: p}
	config := c.api.config
	if config.Reserve == nil || c.readOnly != nil {
		return ahead
	}
	call := Call{TokenKey: c.tokenKey, Class: c.class, Op: "take a place ahead"}
	held := p.empty()
	if !held.pays(call) {
		held.giveBack(ctx)
		held = &taken{api: c.api, call: call, since: time.Now()}
		if config.Reserve(ctx, call) != nil {
			return ahead
		}
	}
	p.guard.Lock()
	p.taken = held
	p.guard.Unlock()
	return ahead
}

// reserve asks the budget for an exchange that no place pays for.
func (c *Client) reserve(ctx context.Context, call Call) error {
	if c.place != nil {
		held := c.place.empty()
		if held.pays(call) {
			return nil
		}
		held.giveBack(ctx)
	}
	if c.api.config.Reserve == nil {
		return nil
	}
	return c.api.config.Reserve(ctx, call)
}
