package monitor_test

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/monitor"
)

// BenchmarkFollow reads a log of 90,000 leaves in 10,000 chains from nothing. It says how many leaves a second that is,
// with the server in the same process, how large the state becomes for each leaf, and how large the heap was
// at most beyond what the server has.
func BenchmarkFollow(b *testing.B) {
	o := newOperator(b)
	o.genesis()
	o.story(0, 10_000)
	o.publish()
	face := httptest.NewServer(o)
	defer face.Close()
	var heap, most uint64
	memory := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse
	}
	var size int64
	for b.Loop() {
		runtime.GC()
		heap = memory()
		folder := filepath.Join(b.TempDir(), "state")
		state, err := monitor.OpenState(folder, false)
		o.must(err)
		client, err := monitor.NewClient(face.URL, "", nil)
		o.must(err)
		m, err := monitor.New(monitor.Options{
			Client: client, State: state, Anchors: o.anchors(), Late: late, Now: func() time.Time { return o.now },
			Tell: func(f monitor.Finding) error { b.Error(f); return nil },
			Read: func(int64, int64) { most = max(most, memory()) },
		})
		o.must(err)
		o.must(m.Pass(b.Context()))
		o.must(state.Close())
		size = 0
		for _, name := range []string{"state.db", "leaves"} {
			info, err := os.Stat(filepath.Join(folder, name))
			o.must(err)
			size += info.Size()
		}
	}
	leaves := float64(len(o.entries))
	b.ReportMetric(leaves*float64(b.N)/b.Elapsed().Seconds(), "leaves/s")
	b.ReportMetric(float64(size)/leaves, "disk-bytes/leaf")
	b.ReportMetric(float64(most-min(heap, most))/(1<<20), "heap-MB")
}

// BenchmarkFollowRoster follows a log of 10,000 leaves with 1,000 versions of a roster and 100 policies, whose openings are
// looked at: from nothing in one pass, and then one more version in a pass of its own.
func BenchmarkFollowRoster(b *testing.B) {
	g := newGoverned(b)
	g.grow(0, 998)
	g.story(0, (10_000-len(g.entries))/9+1)
	g.publish()
	face := httptest.NewServer(g)
	defer face.Close()
	follow := func(folder string) *monitor.Monitor {
		state, err := monitor.OpenState(folder, false)
		g.must(err)
		b.Cleanup(func() { g.must(state.Close()) })
		client, err := monitor.NewClient(face.URL, "", nil)
		g.must(err)
		m, err := monitor.New(monitor.Options{
			Client: client, State: state, Anchors: g.anchors(), Late: late, Now: func() time.Time { return g.now }, Workspace: workspace,
			Tell: func(f monitor.Finding) error {
				if !f.Notice {
					b.Error(f)
				}
				return nil
			},
		})
		g.must(err)
		g.must(m.Pass(b.Context()))
		return m
	}
	leaves := float64(len(g.entries))
	b.Run("from=nothing", func(b *testing.B) {
		for b.Loop() {
			follow(filepath.Join(b.TempDir(), "state"))
		}
		b.ReportMetric(leaves*float64(b.N)/b.Elapsed().Seconds(), "leaves/s")
	})
	b.Run("one=more", func(b *testing.B) {
		m := follow(filepath.Join(b.TempDir(), "state"))
		for n := 1001; b.Loop(); n += 10 {
			b.StopTimer()
			g.grow(n, n+1)
			g.publish()
			b.StartTimer()
			g.must(m.Pass(b.Context()))
		}
	})
	b.Run("none=more", func(b *testing.B) {
		m := follow(filepath.Join(b.TempDir(), "state"))
		for b.Loop() {
			g.must(m.Pass(b.Context()))
		}
	})
}

// BenchmarkLater looks through 90,000 leaves, as a deploy gate does, with the server in the same process.
func BenchmarkLater(b *testing.B) {
	o := newOperator(b)
	o.genesis()
	o.story(0, 10_000)
	o.publish()
	face := httptest.NewServer(o)
	defer face.Close()
	client, err := monitor.NewClient(face.URL, "", nil)
	o.must(err)
	public, err := client.Checkpoint(b.Context(), o.anchors())
	o.must(err)
	for b.Loop() {
		_, _, found, err := client.Later(b.Context(), public.Tree, 0, func(int64, evidence.Leaf) bool { return false })
		if err != nil || found {
			b.Fatal(found, err)
		}
	}
	b.ReportMetric(float64(len(o.entries))*float64(b.N)/b.Elapsed().Seconds(), "leaves/s")
}
