package attack_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/monitor"
	stable "github.com/signedapproval/bitbucket/server/refusal"
)

// busy is a branch to which one change after the other comes, all in one log.
type busy struct {
	*cast
	r      *clone
	last   *operator
	landed map[string]*operator // by the commit that landed
}

func newBusy(t *testing.T) *busy {
	t.Helper()
	c := stage(t)
	return &busy{c, newClone(t), c.operator, map[string]*operator{}}
}

// proposal is a change that was proposed when the branch was at base.
type proposal struct{ name, head, base string }

// propose makes a change of several files, each in a commit, on the branch as it is.
func (b *busy) propose(name string, files ...string) proposal {
	b.t.Helper()
	base := b.r.at(branch)
	b.r.git("checkout", "--quiet", "-b", "feature/"+name, branch)
	for _, file := range files {
		b.r.commit(file, "by "+name+"\n")
	}
	b.r.git("checkout", "--quiet", branch)
	return proposal{name, b.r.at("feature/" + name), base}
}

// strategies are ways in which a change lands on the branch that is checked out.
var strategies = map[string]func(b *busy, p proposal){
	"merge": func(b *busy, p proposal) { b.r.git("merge", "--quiet", "--no-ff", "--no-edit", "feature/"+p.name) },
	"squash": func(b *busy, p proposal) {
		b.r.git("merge", "--quiet", "--squash", p.head)
		b.r.git("commit", "--quiet", "-m", "Merged in "+p.name)
	},
	"rebase": func(b *busy, p proposal) { b.r.git("cherry-pick", p.base+".."+p.head) },
}

// land has people decide on a change, which lands, and gives what landed.
func (b *busy) land(p proposal, merge func(*busy, proposal), kind string, people ...*person) string {
	b.t.Helper()
	entries, o := b.last.make().entries, b.last.twin()
	for i, e := range o.events {
		if e.request != nil || e.decision != nil || e.verdict || e.chained {
			o.events[i] = event{raw: entries[i]}
		}
	}
	o.number++
	o.diff = []byte(b.r.git("diff", "--no-color", "--abbrev=7", "-M", p.base, p.head))
	o.commits = map[string]string{"new": p.head, "base": p.base, "destination": p.base}
	o.open("new")
	for _, who := range people {
		o.decide(who, evidence.Approve)
	}
	merge(b, p)
	landed := b.r.at(branch)
	o.commits["landed"] = landed
	if kind == "approved" {
		o.landed("landed", kind)
	} else {
		o.say(evidence.Merged{Request: o.newest().ID, Kind: kind, Commit: landed}, true)
	}
	b.last, b.landed[landed] = o, o
	return landed
}

// evidence is that of what landed, in the log as it is now; cut leaves so many leaves of the chain's end out.
func (b *busy) evidence(landed string, cut int) []byte {
	b.t.Helper()
	o := b.landed[landed]
	d, r := o.document(), o.make()
	r.entries, r.chain = b.last.make().entries, r.chain[:len(r.chain)-cut]
	d.Chain = d.Chain[:len(r.chain)]
	o.prove(&d, r)
	data, err := d.Encode()
	must(b.t, err)
	return data
}

// deploys asks for a commit of the branch a server that answers for each commit as lies say, and else with its evidence.
func (b *busy) deploys(commit string, lies map[string][]byte, flags ...string) (code int, said string, between []string) {
	b.t.Helper()
	log := b.last.publish()
	answer := func(w http.ResponseWriter, r *http.Request) {
		_, hash, isEvidence := strings.Cut(r.URL.Path, "/commits/")
		lie, lied := lies[hash]
		switch {
		case !isEvidence:
			log.ServeHTTP(w, r)
		case lied:
			_, _ = w.Write(lie)
		case b.landed[hash] != nil:
			_, _ = w.Write(b.evidence(hash, 0))
		default:
			w.Header().Set(monitor.CodeHeader, stable.NotFound)
			http.Error(w, "No request is known for this commit.", http.StatusNotFound)
		}
	}
	code, out := asked(b.t, answer, b.pinned, commit, append(flags, "--repo="+b.r.dir)...)
	var report struct {
		Gate struct {
			Code, Sentence string
			Between        []string
		}
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		b.t.Fatalf("exit %d, %s", code, out)
	}
	return code, report.Gate.Code + ": " + report.Gate.Sentence, report.Gate.Between
}

// TestTheGateProvesWhatCameInBetween: a branch on which much happens is deployed where each change on it was approved.
func TestTheGateProvesWhatCameInBetween(t *testing.T) {
	t.Parallel()
	for first, second := range map[string]string{"merge": "squash", "squash": "rebase", "rebase": "merge"} {
		lands, landsToo := strategies[first], strategies[second]
		t.Run(first+" and "+second, func(t *testing.T) {
			t.Parallel()
			b := newBusy(t)
			early := b.propose("early", "early", "early2")
			b.r.commit("pushed", "by somebody, and shown to all who come now\n")
			one, two, three := b.propose("one", "one", "one2"), b.propose("two", "two"), b.propose("three", "three", "three2")
			landed := []string{
				b.land(early, lands, "approved", b.bob, b.dave), // whose own people were not shown what was pushed
				b.land(one, landsToo, "approved", b.bob, b.carol),
				b.land(two, lands, "approved", b.carol, b.dave),
			}
			last := b.land(three, landsToo, "approved", b.bob, b.dave)
			slices.Reverse(landed)
			if code, said, between := b.deploys(last, nil); code != 0 || !slices.Equal(between, landed) {
				t.Errorf("exit %d, %s, between %v, want %v", code, said, between, landed)
			}
			if code, said, _ := b.deploys(last, nil, "--max-between=3"); code != 0 {
				t.Errorf("as many as there are: exit %d, %s", code, said)
			}
			if code, said, _ := b.deploys(last, nil, "--max-between=2"); code != 2 || !strings.Contains(said, "--max-between") || !strings.Contains(said, landed[2]) {
				t.Errorf("more than are looked at: exit %d, %s", code, said)
			}
		})
	}
}

// TestTheGateIsNotSteeredByWhatCameInBetween: what the server says about commits in between is worth no more than what it says of the commit.
func TestTheGateIsNotSteeredByWhatCameInBetween(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		// between comes to the branch after the change was proposed, and gives what the server answers with about which commit.
		between func(b *busy) map[string][]byte
		code    int
		said    string
	}{
		"nothing else": {func(*busy) map[string][]byte { return nil }, 0, ": it is what became of"},
		"a push that nobody approved": {func(b *busy) map[string][]byte {
			b.r.commit("evil", "nobody saw this\n")
			return nil
		}, 2, "operator_asserted: it is what became of"},
		"a push, with the evidence of an approved change": {func(b *busy) map[string][]byte {
			approved := b.land(b.propose("other", "other"), strategies["merge"], "approved", b.bob, b.dave)
			b.r.commit("evil", "nobody saw this\n")
			return map[string][]byte{b.r.at(branch): b.evidence(approved, 0)}
		}, 1, "other_commit: commit "},
		"a push below an approved change": {func(b *busy) map[string][]byte {
			other := b.propose("other", "other")
			b.r.commit("evil", "nobody saw this\n")
			b.land(other, strategies["squash"], "approved", b.bob, b.dave)
			return nil
		}, 2, "there is none of"},
		"a push below an approved change that was shown": {func(b *busy) map[string][]byte {
			b.r.commit("evil", "those who came later were shown it, those who are asked about were not\n")
			b.land(b.propose("other", "other"), strategies["merge"], "approved", b.bob, b.dave)
			return nil
		}, 2, "there is none of"},
		"a change with something else in its merge": {func(b *busy) map[string][]byte {
			b.land(b.propose("other", "other"), func(b *busy, p proposal) {
				b.r.git("merge", "--quiet", "--no-ff", "--no-commit", "feature/"+p.name)
				b.r.commit("evil", "nobody saw this\n")
			}, "approved", b.bob, b.dave)
			return nil
		}, 1, "FAILED at step 18"},
		"a change for which too few had signed": {func(b *busy) map[string][]byte {
			b.land(b.propose("other", "other"), strategies["merge"], "violation", b.bob)
			return nil
		}, 1, "commit "},
		"a change whose history goes on": {func(b *busy) map[string][]byte {
			landed := b.land(b.propose("other", "other"), strategies["merge"], "approved", b.bob, b.dave)
			cut := b.landed[landed]
			cut.say(evidence.MergeChecked{Trigger: evidence.TriggerPreMerge, Answer: evidence.AnswerNo, Code: "NOT_OPEN"}, true)
			return map[string][]byte{landed: b.evidence(landed, 1)}
		}, 1, "stale: "},
		"a change of another log": {func(b *busy) map[string][]byte {
			other := newBusy(b.t)
			other.r = b.r
			landed := other.land(other.propose("other", "other"), strategies["merge"], "approved", other.bob, other.dave)
			return map[string][]byte{landed: other.evidence(landed, 0)}
		}, 1, "commit "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBusy(t)
			asked := b.propose("asked", "asked")
			lies := c.between(b)
			landed := b.land(asked, strategies["merge"], "approved", b.bob, b.dave)
			for hash, lie := range lies { // in the log as it is now, where it is of this log
				if o := b.landed[hash]; o != nil {
					cut := len(o.make().chain) - len(mustBundle(t, lie).Chain)
					lies[hash] = b.evidence(hash, cut)
				}
			}
			code, said, between := b.deploys(landed, lies)
			if code != c.code || !strings.Contains(said, c.said) || len(between) > 0 {
				t.Errorf("exit %d, %s, between %v", code, said, between)
			}
		})
	}
}

func mustBundle(t *testing.T, raw []byte) evidence.Bundle {
	t.Helper()
	b, err := evidence.ParseBundle(raw)
	must(t, err)
	return b
}

// TestTheGateKeepsToItsClone: what the next commit is says the clone, so a server cannot send the gate round in a circle.
func TestTheGateKeepsToItsClone(t *testing.T) {
	t.Parallel()
	b := newBusy(t)
	asked := b.propose("asked", "asked")
	other := b.land(b.propose("other", "other"), strategies["merge"], "approved", b.bob, b.dave)
	landed := b.land(asked, strategies["merge"], "approved", b.bob, b.dave)
	if code, said, _ := b.deploys(landed, map[string][]byte{other: b.evidence(landed, 0)}); code != 1 || !strings.HasPrefix(said, "other_commit: ") {
		t.Errorf("the evidence of the commit itself: exit %d, %s", code, said)
	}
}
