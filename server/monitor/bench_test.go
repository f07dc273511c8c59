package monitor_test

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

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
