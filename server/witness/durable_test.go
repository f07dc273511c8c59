package witness_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/witness"
)

// TestTheSinkHasNothingThatACrashTakesBack: leaves are seen before they are durable, and a checkpoint in the sink must
// not cover them before they are. The log would be behind it, and no server would start.
func TestTheSinkHasNothingThatACrashTakesBack(t *testing.T) {
	t.Parallel()
	d := dbtest.NewDurable(t)
	folder, keys := t.TempDir(), newKeys(t, 1)
	opened := func() (*ledger, *witness.Publisher) {
		vault, err := store.OpenVault(store.NewKeyset())
		must(t, err)
		l := &ledger{Database: d.Database, t: t}
		l.Store, err = store.Open(t.Context(), l.AppURL, vault)
		must(t, err)
		t.Cleanup(l.Close)
		return l, l.publisher(keys, witness.NewDirectory(folder))
	}

	l, p := opened()
	must(t, p.Publish(t.Context(), l.grow(3)))
	published := sinkFiles(t, folder)
	resume := d.Stall()
	done := make(chan error, 2)
	go func() { done <- l.append(t.Context(), "another", 1) }()
	stalled := func(count int) {
		t.Helper()
		for until := time.Now().Add(2 * time.Minute); d.Stalled() != count; {
			if time.Now().After(until) {
				t.Fatalf("%d transactions wait, want %d", d.Stalled(), count)
			}
		}
	}
	stalled(1)
	size, err := l.LogSize(t.Context())
	must(t, err)
	if size != 4 {
		t.Errorf("%d leaves are seen, want 4", size)
	}
	go func() { done <- p.Publish(t.Context(), size) }()
	stalled(2)
	if files := sinkFiles(t, folder); !slices.Equal(files, published) {
		t.Errorf("the sink has %q while the newest leaf is not durable", files)
	}
	resume()
	must(t, <-done)
	must(t, <-done)
	if files := sinkFiles(t, folder); len(files) != len(published)+1 {
		t.Errorf("the sink has %q once it is", files)
	}

	for round := range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		appended := make(chan struct{}, 1000)
		var all sync.WaitGroup
		for w := range 8 {
			all.Go(func() {
				for n := 0; l.append(ctx, fmt.Sprint(round, w, n), 1) == nil; n++ {
					select {
					case appended <- struct{}{}:
					default:
					}
				}
			})
		}
		all.Go(func() {
			for ctx.Err() == nil {
				if size, err := l.LogSize(ctx); err != nil || p.Publish(ctx, size) != nil {
					return
				}
			}
		})
		for range 300 {
			<-appended
		}
		d.Crash()
		cancel()
		all.Wait()
		l.Close()
		d.Recover()
		l, p = opened()
		must(t, p.Check(t.Context()))
		size, err := l.LogSize(t.Context())
		must(t, err)
		must(t, p.Publish(t.Context(), size))
	}
	if files := sinkFiles(t, folder); len(files) < 4 {
		t.Errorf("the sink has %q: nothing was published while there were crashes", files)
	}
}
