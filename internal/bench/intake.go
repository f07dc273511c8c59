package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// bodySize is how large the webhooks of the intake are, in bytes.
const bodySize = 10 << 10

// padded makes a webhook's body as large as that, with text that can be compressed like prose.
func padded(body []byte) ([]byte, error) {
	var event map[string]any
	if err := json.Unmarshal(body, &event); err != nil {
		return nil, err
	}
	words := strings.Fields("the gate reads a pull request again and asks who may approve it, then signs what was decided so that anybody can check branch commit review merge status rule")
	var prose strings.Builder
	draw := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same text each time
	for len(body)+prose.Len() < bodySize {
		fmt.Fprintf(&prose, "%s %x ", words[draw.IntN(len(words))], draw.IntN(1<<12))
	}
	event["comment"] = map[string]any{"content": map[string]any{"raw": prose.String()}}
	return json.Marshal(event)
}

// intake compares the door with the bare intake. The event is a comment: it is stored, and asks for nothing, so that
// what is measured is the acceptance and not the evaluations that follow. Those are let in by the last figure.
func intake(ctx context.Context, w *world) (figures []Figure, err error) {
	address, bareSecret, stop, err := w.startBare(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	list, err := w.open(50)
	if err != nil {
		return nil, err
	}
	body, err := padded(list[0].hook.Body)
	if err != nil {
		return nil, err
	}
	secret, path := w.front.hook()
	send := func(to, secret, event string) func(context.Context, int) error {
		signature := bitbucketsim.Sign(secret, body)
		return func(ctx context.Context, _ int) error {
			status, err := w.deliverSigned(ctx, to, signature, event, uuid.NewString(), body)
			if err == nil && status/100 != 2 {
				err = fmt.Errorf("a webhook was answered with %d", status)
			}
			return err
		}
	}
	ours := send(w.origin+path, secret, "pullrequest:comment_created")
	bare := send("http://"+address+"/", bareSecret, "pullrequest:comment_created")
	rounds, length := w.mode.of(5, 3), time.Duration(w.mode.of(4000, 1200))*time.Millisecond
	for _, connections := range []int{64, 8} {
		var our, their []float64
		var took, tookBare []time.Duration
		for round := range rounds {
			one := func() error {
				each, whole, err := pour(ctx, connections, 0, length, ours)
				our, took = append(our, float64(len(each))/whole.Seconds()), append(took, each...)
				return err
			}
			other := func() error {
				each, whole, err := pour(ctx, connections, 0, length, bare)
				their, tookBare = append(their, float64(len(each))/whole.Seconds()), append(tookBare, each...)
				return err
			}
			turns := []func() error{one, other}
			if round%2 == 1 { // who is first has an emptier disk cache
				turns = []func() error{other, one}
			}
			for _, turn := range turns {
				if err := turn(); err != nil {
					return figures, err
				}
			}
		}
		name := fmt.Sprintf("webhooks of 10 KB accepted durably, %d connections", connections)
		figures = append(figures,
			shown(name, median(our), "/s", false).beside(median(their)).share(0.85),
			shown(name+", p99", milliseconds(percentile(took, 0.99)), "ms", true).beside(milliseconds(percentile(tookBare, 0.99))))
	}
	busy, err := w.whileBusy(ctx, list, length)
	return append(figures, busy...), err
}

// whileBusy pours events that ask for evaluations, of a few pull requests: what comes together is looked at once.
func (w *world) whileBusy(ctx context.Context, list []pull, length time.Duration) ([]Figure, error) {
	if _, _, err := pour(ctx, 16, len(list), 0, func(ctx context.Context, i int) error { return w.accepted(ctx, list[i]) }); err != nil {
		return nil, err
	}
	if err := w.rest(ctx); err != nil {
		return nil, err
	}
	var refused atomic.Int64
	each, whole, err := pour(ctx, 64, 0, length, func(ctx context.Context, i int) error {
		status, err := w.post(ctx, list[i%len(list)].hook, uuid.NewString())
		if status/100 != 2 {
			refused.Add(1)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return []Figure{
		shown("webhooks accepted durably while 50 pull requests are evaluated, 64 connections", float64(len(each))/whole.Seconds(), "/s", false),
		shown("of these refused", float64(refused.Load()), "webhooks", true).exactly(0),
	}, w.rest(ctx)
}
