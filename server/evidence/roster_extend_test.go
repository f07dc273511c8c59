package evidence_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// moves makes changes of a roster by chance: keys come in by a log-in, by their person's own key or by somebody else's,
// are vouched for and revoked, at times as compromised. It gives those that a roster takes, and tries each on the way.
func moves(t testing.TB, chance *rand.Rand, genesis evidence.Digest, n int) (taken []evidence.RosterChange, refused int, grown *evidence.Roster) {
	t.Helper()
	grown, err := evidence.ReplayRoster(genesis, nil)
	if err != nil {
		t.Fatal(err)
	}
	head := genesis
	for i := 0; len(taken) < n; i++ {
		at := time.Date(2026, 5, 4, 12, i, 0, 0, time.UTC)
		keys := grown.Keys()
		c := evidence.RosterChange{Workspace: workspaceUUID, Version: grown.Versions() + 1, Previous: head, Proof: digestOf(fmt.Sprint("proof ", i))}
		by := func(signer evidence.RosterKey) {
			c.By, c.Signer, c.IssuedAt = evidence.ByCountersigner, signer.Digest, &at
			if signer.Key.Person == c.Key.Person {
				c.By = evidence.ByOwnKey
			}
		}
		what := chance.IntN(10)
		if len(keys) == 0 || what < 5 {
			k := es256(t, fmt.Sprint("moves ", i)).key
			k.Person = fmt.Sprint("per-", chance.IntN(5))
			c.Event, c.Key, c.By = evidence.KeyAdded, k, evidence.ByLogIn
			if len(keys) > 0 && what > 0 {
				by(keys[chance.IntN(len(keys))])
			}
		} else {
			c.Event, c.Key = evidence.KeyCountersigned, keys[chance.IntN(len(keys))].Key
			if what > 7 {
				c.Event = evidence.KeyRemoved
			}
			by(keys[chance.IntN(len(keys))])
			if since := at.Add(-time.Duration(chance.IntN(60)) * time.Minute); c.Event == evidence.KeyRemoved && chance.IntN(2) == 0 {
				c.CompromisedSince = &since
			}
		}
		if c.By == evidence.ByCountersigner && chance.IntN(2) == 0 {
			c.Agreed = []evidence.Agreement{{Signer: keys[chance.IntN(len(keys))].Digest, Proof: digestOf(fmt.Sprint("agreed ", i)), IssuedAt: at}}
		}
		if err := grown.Extend([]evidence.RosterChange{c}); err != nil {
			refused++
			continue
		}
		if head, err = c.Digest(); err != nil {
			t.Fatal(err)
		}
		taken = append(taken, c)
	}
	return taken, refused, grown
}

// standing is all that a roster says of its keys.
func standing(r *evidence.Roster) (list []string) {
	for _, k := range r.Keys() {
		list = append(list, fmt.Sprintln(k.Digest, k.By, k.Added, k.Countersigned, k.Removed, k.CompromisedSince, r.Stands(k), r.IdentityAt(k, r.Versions())))
	}
	return list
}

// TestRosterExtends compares a roster that grew change by change, past many that it refused, with one that was read at once.
func TestRosterExtends(t *testing.T) {
	t.Parallel()
	genesis := digestOf("genesis")
	for seed := range uint64(20) {
		taken, refused, grown := moves(t, rand.New(rand.NewPCG(seed, 1)), genesis, 60)
		if refused == 0 {
			t.Fatal("nothing was refused: the test tries too little")
		}
		whole, err := evidence.ReplayRoster(genesis, taken)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(standing(whole), standing(grown)); diff != "" || grown.Versions() != whole.Versions() || grown.Digest(60) != whole.Digest(60) {
			t.Fatalf("seed %d (-at once +grown):\n%s", seed, diff)
		}
		for _, k := range whole.Keys() {
			want, wantActs := whole.Behind([][]byte{k.Key.CredentialID})
			got, acts := grown.Behind([][]byte{k.Key.CredentialID})
			if !slices.EqualFunc(want, got, func(a, b evidence.RosterKey) bool { return a.Digest == b.Digest }) || len(acts) != len(wantActs) {
				t.Fatalf("seed %d: behind %s", seed, k.Digest)
			}
			if diff := cmp.Diff(behind(taken, k.Digest), digests(got)); diff != "" {
				t.Fatalf("seed %d: behind %s (-want +got):\n%s", seed, k.Digest, diff)
			}
		}
	}
}

func digests(keys []evidence.RosterKey) (list []evidence.Digest) {
	for _, k := range keys {
		list = append(list, k.Digest)
	}
	slices.Sort(list)
	return list
}

// behind is what [evidence.Roster.Behind] is defined as: a key, with all that signed for one of them.
func behind(changes []evidence.RosterChange, key evidence.Digest) (list []evidence.Digest) {
	wanted := map[evidence.Digest]bool{key: true}
	for n := 0; n < len(wanted); {
		n = len(wanted)
		for _, c := range changes {
			if about, err := c.Key.Digest(); err != nil || !wanted[about] || c.Signer == "" {
				continue
			}
			wanted[c.Signer] = true
			for _, a := range c.Agreed {
				wanted[a.Signer] = true
			}
		}
	}
	for k := range wanted {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

// BenchmarkBehind asks what stands behind the last of so many keys, each of which is vouched for once more, by the key that
// came after it: read from the end, every change makes those after it wanted.
func BenchmarkBehind(b *testing.B) {
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
			at := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
			var keys []evidence.Key
			var changes []evidence.RosterChange
			head := digestOf("genesis")
			add := func(c evidence.RosterChange) {
				c.Workspace, c.Version, c.Previous, c.Proof = workspaceUUID, int64(len(changes)+1), head, digestOf(fmt.Sprint(len(changes)))
				var err error
				if head, err = c.Digest(); err != nil {
					b.Fatal(err)
				}
				changes = append(changes, c)
			}
			for i := range n {
				k := es256(b, fmt.Sprint("behind ", i)).key
				k.Person = fmt.Sprint("per-", i)
				keys = append(keys, k)
				add(evidence.RosterChange{Event: evidence.KeyAdded, Key: k, By: evidence.ByLogIn})
			}
			for i := range n - 1 {
				signer, err := keys[i+1].Digest()
				if err != nil {
					b.Fatal(err)
				}
				add(evidence.RosterChange{Event: evidence.KeyCountersigned, Key: keys[i], By: evidence.ByCountersigner, Signer: signer, IssuedAt: &at})
			}
			r, err := evidence.ReplayRoster(digestOf("genesis"), changes)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if found, _ := r.Behind([][]byte{keys[0].CredentialID}); len(found) != n {
					b.Fatal(len(found))
				}
			}
		})
	}
}
