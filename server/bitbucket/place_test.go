package bitbucket_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucket"
)

// purse counts what a budget was asked for and got back.
type purse struct {
	reserved, returned int
	empty              error
}

func (p *purse) config() bitbucket.Config {
	return bitbucket.Config{
		Reserve: func(context.Context, bitbucket.Call) error {
			if p.empty == nil {
				p.reserved++
			}
			return p.empty
		},
		Return: func(ctx context.Context, _ bitbucket.Call, since time.Time) {
			if ctx.Err() == nil && !since.After(time.Now()) {
				p.returned++
			}
		},
	}
}

func (p *purse) is(t *testing.T, reserved, returned int) {
	t.Helper()
	if p.reserved != reserved || p.returned != returned {
		t.Errorf("%d reserved and %d returned, want %d and %d", p.reserved, p.returned, reserved, returned)
	}
}

// TestAPlacePaysOnce takes a place ahead: it pays for one call, and what is not used goes back, once.
func TestAPlacePaysOnce(t *testing.T) {
	t.Parallel()
	s := serve(t, answerJSON(`{"uuid":"{`+userUUID+`}","account_id":"a"}`))
	call := func(c *bitbucket.Client) {
		if _, err := c.CurrentUser(t.Context()); err != nil {
			t.Error(err)
		}
	}

	t.Run("used", func(t *testing.T) {
		var p purse
		var place bitbucket.Place
		c := s.client(p.config()).Ahead(t.Context(), &place)
		p.is(t, 1, 0)
		call(c)
		p.is(t, 1, 0)
		call(c) // nothing is left
		p.is(t, 2, 0)
		place.Return(t.Context())
		p.is(t, 2, 0)
	})

	t.Run("not used", func(t *testing.T) {
		var p purse
		var place bitbucket.Place
		ctx, cancel := context.WithCancel(t.Context())
		c := s.client(p.config()).Ahead(ctx, &place)
		cancel()
		place.Return(ctx)
		place.Return(ctx)
		p.is(t, 1, 1)
		call(c)
		p.is(t, 2, 1)
	})

	t.Run("kept for another client of the credential", func(t *testing.T) {
		var p purse
		var place bitbucket.Place
		first := s.client(p.config())
		first.Ahead(t.Context(), &place)
		call(first.Ahead(t.Context(), &place))
		place.Return(t.Context())
		p.is(t, 1, 0)
	})

	t.Run("of no use to another credential or class", func(t *testing.T) {
		for _, other := range []struct {
			key   string
			class bitbucket.Class
		}{{"connection-2", bitbucket.Foreground}, {"connection-1", bitbucket.Background}} {
			var p purse
			var place bitbucket.Place
			s.client(p.config()).Ahead(t.Context(), &place)
			config := p.config()
			config.BaseURL = s.URL
			call(bitbucket.New(config).As(token, other.key, other.class).Ahead(t.Context(), &place))
			p.is(t, 2, 1)
		}
	})
}

// TestAPlaceThatIsRefusedIsAskedForAgain: the call itself tells why there is no room.
func TestAPlaceThatIsRefusedIsAskedForAgain(t *testing.T) {
	t.Parallel()
	s := serve(t, answer(http.StatusTooManyRequests, "text/plain", "slow down"))
	p := purse{empty: &bitbucket.Error{Status: http.StatusTooManyRequests, RetryAt: time.Now().Add(time.Hour)}}
	var place bitbucket.Place
	c := s.client(p.config()).Ahead(t.Context(), &place)
	_, err := c.CurrentUser(t.Context())
	if got := asError(t, err); !got.Throttled() || got.Op != "read current user" || len(s.received()) != 0 {
		t.Errorf("got %+v after %d calls", got, len(s.received()))
	}
	p.empty = nil
	if _, err = c.CurrentUser(t.Context()); !asError(t, err).Throttled() || len(s.received()) != 1 {
		t.Errorf("got %v after %d calls", err, len(s.received()))
	}
	place.Return(t.Context())
	p.is(t, 1, 0)
}

// TestAPlaceOfWhoMayNotWrite: nothing is asked for that would not be sent.
func TestAPlaceOfWhoMayNotWrite(t *testing.T) {
	t.Parallel()
	s := serve(t, answerJSON(`{}`))
	var p purse
	var place bitbucket.Place
	s.client(p.config()).ReadOnly(errors.New("a drill")).Ahead(t.Context(), &place)
	place.Return(t.Context())
	p.is(t, 0, 0)
}
