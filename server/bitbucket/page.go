package bitbucket

import (
	"context"
	"encoding/base64"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Page sizes. Bitbucket's general maximum is 100; lists of pull requests stop
// at 50.
const (
	pageLen            = "100"
	pageLenPullRequest = "50"
)

// wirePage is one page of any list. An absent or empty Next is the end; Next is
// opaque and followed as it is.
type wirePage[W any] struct {
	Values []W    `json:"values"`
	Next   string `json:"next"`
}

// pages walks a list from its first page to its last. Each element is converted
// from its wire form; an error ends the sequence with a zero element.
func pages[W, T any](ctx context.Context, c *Client, op string, query url.Values, convert func(W) (T, error), segments ...string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		u, err := c.url(op, query, segments...)
		if err != nil {
			yield(none, err)
			return
		}
		for range c.api.config.MaxPages {
			page, err := call[wirePage[W]](ctx, c, request{op: op, method: http.MethodGet, url: u})
			if err != nil {
				yield(none, err)
				return
			}
			for _, wire := range page.Values {
				value, err := convert(wire)
				if err != nil {
					yield(none, c.fail(op, err))
					return
				}
				if !yield(value, nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			next, failure := c.follow(op, u, page.Next)
			if failure != nil {
				yield(none, failure)
				return
			}
			u = next
		}
		yield(none, &Error{Op: op, Message: strconv.Itoa(c.api.config.MaxPages), cause: ErrTooManyPages})
	}
}

// cursor makes the opaque continuation of a list out of its "next" link. Only
// the query is kept: the path is always built anew from what the caller may
// see, so a forged cursor cannot reach another resource.
func (c *Client) cursor(op string, from *url.URL, next string) (string, error) {
	if next == "" {
		return "", nil
	}
	u, err := c.follow(op, from, next)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString([]byte(u.RawQuery)), nil
}

// maxCursor is the longest cursor that is accepted, in bytes.
const maxCursor = 4 << 10

// queryOf reads a cursor back.
func queryOf(op, cursor string) (string, error) {
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err == nil {
		_, err = url.ParseQuery(string(raw))
	}
	if err != nil || len(cursor) > maxCursor {
		return "", invalid(op, "the cursor is not one of this list")
	}
	return string(raw), nil
}

// quote writes a string as a literal of Bitbucket's filter language.
func quote(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
