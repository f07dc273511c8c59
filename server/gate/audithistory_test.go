package gate

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/signedapproval/bitbucket/server/bitbucket"
)

// TestWhatAMergeBrought compares with sets, on histories of any form.
func TestWhatAMergeBrought(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		listed := map[string]bitbucket.Commit{}
		history := map[string]map[string]bool{}
		tip := ""
		for i := range 2 + random.IntN(20) {
			c := bitbucket.Commit{Hash: fmt.Sprintf("%040d", i)}
			in := map[string]bool{c.Hash: true}
			for _, parent := range []int{random.IntN(i + 1), random.IntN(i + 1)}[:1+random.IntN(2)] {
				hash := fmt.Sprintf("%040d", parent)
				if parent != i && !slices.Contains(c.Parents, hash) {
					c.Parents = append(c.Parents, hash)
					maps.Copy(in, history[hash])
				}
			}
			listed[c.Hash], history[c.Hash], tip = c, in, c.Hash
		}
		a := auditing{tip: tip}
		if err := a.arrange(t.Context(), listed); err != nil {
			t.Fatal(err)
		}
		if len(a.commits) != len(history[tip]) {
			t.Fatalf("%d commits, want %d", len(a.commits), len(history[tip]))
		}
		for place, c := range a.commits {
			if c.place != place || slices.ContainsFunc(c.Parents, func(p string) bool { return a.by[p].place >= place }) {
				t.Fatalf("%s is before a parent", c.Hash)
			}
			for _, stood := range append([]string{"", "unknown"}, slices.Collect(maps.Keys(listed))...) {
				want := []string{c.Hash}
				if stood != c.Hash && history[c.Hash][stood] {
					want = nil
					for hash := range history[c.Hash] {
						if !history[stood][hash] {
							want = append(want, hash)
						}
					}
				}
				var got []string
				for _, other := range a.brought(c, stood) {
					got = append(got, other.Hash)
				}
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Fatalf("%s, where %q was before, brought %v, want %v, in %v", c.Hash, stood, got, want, listed)
				}
			}
		}
	}
}
