package attack_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/app"
	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// onDeployments are attacks on a pipeline that asks before it deploys.
func onDeployments() []attack {
	return []attack{{
		wants:  "have a pipeline deploy by evidence of before: leave the end of the pull request's history out of it",
		caught: []string{"deploy gate: stale"},
		try: func(t *testing.T) []string {
			l := newLive(t)
			approved := l.open("pump")
			l.approve(approved)
			l.pin()
			file := filepath.Join(t.TempDir(), "bundle.json")
			if code, out := l.run("evidence", "get", approved.head, "--workspace=acme", "-o", file); code != 0 {
				t.Fatalf("exit %d\n%s", code, out)
			}
			bundle, err := evidence.ParseBundle(contents(t, file))
			must(t, err)
			n := len(bundle.Chain) - 1
			bundle.Chain, bundle.Log.Chain = bundle.Chain[:n], bundle.Log.Chain[:n]
			cut, err := bundle.Encode()
			must(t, err)
			anchors, err := evidence.ParseAnchors(contents(t, l.anchors))
			must(t, err)
			if report := evidence.Verify(cut, anchors); report.ExitCode() != 0 {
				t.Fatalf("the control, a bundle that verifies by itself: %s", report.Sentence())
			}
			code, said := l.deploys(l.liar(approved, map[string][]byte{"/evidence/": cut}), approved.head, branch, l.repository)
			if code != 1 {
				t.Errorf("exit %d", code)
			}
			return []string{said}
		},
	}, {
		wants:  "have a pipeline deploy what nobody approved there: answer with the evidence of another commit, branch or repository, or with an old log",
		caught: []string{"deploy gate: other_commit", "deploy gate: other_branch", "deploy gate: other_branch", "deploy gate: log"},
		try: func(t *testing.T) (got []string) {
			l := newLive(t)
			_, old := l.get("/log/checkpoint")
			approved, other := l.open("pump"), l.open("valve")
			l.approve(approved)
			l.pin()
			if code, said := l.deploys(l.origin, approved.head, branch, l.repository); code != 0 {
				t.Fatalf("the control: exit %d, %s", code, said)
			}
			liar := l.liar(approved, nil)
			if code, said := l.deploys(liar, approved.head, branch, l.repository); code != 0 {
				t.Fatalf("the control, where the truth is asked for: exit %d, %s", code, said)
			}
			for _, asked := range []struct{ url, commit, branch, repository string }{
				{liar, other.head, branch, l.repository},
				{liar, approved.head, "production", l.repository},
				{liar, approved.head, branch, "{00000000-0000-4000-8000-000000000001}"},
				{l.liar(approved, map[string][]byte{"/log/checkpoint": old}), approved.head, branch, l.repository},
			} {
				code, said := l.deploys(asked.url, asked.commit, asked.branch, asked.repository)
				if code != 1 {
					t.Errorf("%+v: exit %d", asked, code)
				}
				got = append(got, said)
			}
			return got
		},
	}, {
		wants:  "have a pipeline deploy what a stolen key approved: leave the newest version of the roster, in which it is reported, out of the evidence",
		admits: "leave the newest versions of the roster",
		caught: []string{"step 11 tally: stolen_key", "exit 0", "deploy gate: stale"},
		try: func(t *testing.T) []string {
			c := halfApproved(t)
			c.decide(c.dave, evidence.Approve)
			before := c.bundle()
			if code, said := pipeline(t, c.operator, c.pinned, before); code != 0 {
				t.Fatalf("the control: exit %d, %s", code, said)
			}
			c.revoke(c.dave, beginning)
			code, said := pipeline(t, c.operator, c.pinned, before)
			if code != 1 {
				t.Errorf("exit %d", code)
			}
			return []string{verify(c.bundle(), c.pinned), verify(before, c.pinned), said}
		},
	}, {
		wants:  "have a pipeline deploy what a stolen key approved: write X's report into the log, where X finds it, and let no version of the roster follow",
		admits: "let no version of the roster follow",
		caught: []string{"exit 0", "deploy gate: stale", "monitor: revocation_unfollowed", "another auditor: monitor: revocation_unfollowed"},
		try: func(t *testing.T) []string {
			c := halfApproved(t)
			watcher := newAuditor(c.operator)
			if alarms := watcher.pass(c.operator, c.publish()); len(alarms) > 0 {
				t.Fatalf("the control: %v", alarms)
			}
			c.writeReport(c.dave)
			c.decide(c.dave, evidence.Approve)
			got := []string{verify(c.bundle(), c.pinned)}
			code, said := pipeline(t, c.operator, c.pinned, c.bundle())
			if code != 1 {
				t.Errorf("exit %d", code)
			}
			got = append(got, said)
			c.now = c.now.Add(2 * late)
			got = append(got, watcher.pass(c.operator, c.publish())...)
			for _, alarm := range newAuditor(c.operator).pass(c.operator, c.publish()) {
				got = append(got, "another auditor: "+alarm)
			}
			return got
		},
	}, {
		wants:  "have a pipeline deploy what a stolen key approved, and fill the log with more leaves before the approval than the gate looks through",
		admits: "leave the newest versions of the roster",
		caught: []string{"exit 0", "deploy gate: operator_asserted", "deploy gate: stale", "deploy gate: stale"},
		try: func(t *testing.T) []string {
			halfApproved(t) // the control
			c := stage(t)
			head := c.head()
			c.hideTheft()
			for range 30 {
				c.say(evidence.Connection{Event: "renewed"}, false)
			}
			c.open("new")
			c.decide(c.bob, evidence.Approve)
			c.decide(c.dave, evidence.Approve)
			cut := c.bundle()
			got := []string{verify(cut, c.pinned)}
			if code, said := pipeline(t, c.operator, c.pinned, cut, "--max-leaves=20"); code == 2 {
				got = append(got, said)
			}
			_, said := pipeline(t, c.operator, c.pinned, cut)
			got = append(got, said)
			c.pinned.LogHead = head
			_, said = pipeline(t, c.operator, c.pinned, cut)
			return append(got, said)
		},
	}, {
		wants:  "have a pipeline deploy what a stolen key approved: append the roster of before the report to the log once more, behind it",
		admits: "leave the newest versions of the roster",
		caught: []string{"exit 0", "deploy gate: stale", "deploy gate: stale"},
		try: func(t *testing.T) []string {
			halfApproved(t) // the control
			c := stage(t)
			head, r := c.head(), c.make()
			c.hideTheft()
			again := len(c.events)
			c.add(event{raw: r.entries[r.rosterAt]})
			c.open("new")
			c.decide(c.bob, evidence.Approve)
			c.decide(c.dave, evidence.Approve)
			b, r := c.document(), c.make()
			r.rosterAt = again
			c.prove(&b, r)
			cut, err := b.Encode()
			must(t, err)
			got := []string{verify(cut, c.pinned)}
			_, said := pipeline(t, c.operator, c.pinned, cut)
			got = append(got, said)
			c.pinned.LogHead = head
			_, said = pipeline(t, c.operator, c.pinned, cut)
			return append(got, said)
		},
	}, {
		wants:  "have a pipeline deploy what fewer approved than the rules ask for: ask by rules that were in force before, which the verifier had to pin too",
		admits: "a policy that was in force before",
		caught: []string{"exit 0", "deploy gate: old_policy"},
		try: func(t *testing.T) (got []string) {
			c := stage(t)
			weak, strict := policyOf(1), policyOf(2)
			c.policy = weak
			c.policyLeaf()
			c.policy = strict
			c.policyLeaf()
			c.pinned = c.anchors()
			c.pinned.Policies = policiesOf(c.repository, weak.Digest(), strict.Digest())
			honest := *c
			honest.operator = c.twin()
			c.policy = weak
			c.open("new")
			c.decide(c.bob, evidence.Approve)
			bundle := c.bundle()
			got = append(got, verify(bundle, c.pinned))
			_, said := pipeline(t, c.operator, c.pinned, bundle)
			got = append(got, said)
			honest.seen = newWitnesses(t, c.keys.Verifiers())
			honest.pinned.Witnesses = honest.anchors().Witnesses
			honest.open("new")
			honest.decide(honest.bob, evidence.Approve)
			honest.decide(honest.dave, evidence.Approve)
			if code, said := pipeline(t, honest.operator, honest.pinned, honest.bundle()); code != 0 {
				t.Fatalf("the control: exit %d, %s", code, said)
			}
			return got
		},
	}, {
		wants:  "have a pipeline deploy by rules of before, when it remembers newer ones and its anchors were made anew since",
		admits: "a policy that was in force before",
		caught: []string{"exit 0", "deploy gate: old_policy", "deploy gate: old_policy"},
		try: func(t *testing.T) (got []string) {
			c := stage(t)
			weak, strict := policyOf(1), policyOf(2)
			c.policy = weak
			c.policyLeaf()
			c.policy = strict
			c.policyLeaf()
			c.pinned.Policies = policiesOf(c.repository, weak.Digest(), strict.Digest())
			c.open("new")
			c.decide(c.bob, evidence.Approve)
			c.decide(c.dave, evidence.Approve)
			state := "--state=" + filepath.Join(t.TempDir(), "state.json")
			if code, said := pipeline(t, c.operator, c.pinned, c.bundle(), state); code != 0 {
				t.Fatalf("the control: exit %d, %s", code, said)
			}
			head, entries := c.head(), c.make().entries
			for i, e := range c.events {
				if e.request != nil || e.decision != nil || e.verdict {
					c.events[i] = event{raw: entries[i]}
				}
			}
			c.number++
			c.policy = weak
			c.open("new")
			c.decide(c.bob, evidence.Approve)
			got = append(got, verify(c.bundle(), c.pinned))
			_, said := pipeline(t, c.operator, c.pinned, c.bundle(), state)
			got = append(got, said)
			c.pinned.LogHead = head
			_, said = pipeline(t, c.operator, c.pinned, c.bundle(), state)
			return append(got, said)
		},
	}, {
		wants:  "have a pipeline deploy what was approved by rules that were in force before: say that it was approved when they were, of somebody whom they did not ask",
		admits: "a policy that was in force before",
		caught: []string{"exit 0", "deploy gate: old_policy"},
		try: func(t *testing.T) (got []string) {
			c := stage(t)
			weak, strict := policyOf(1), policyOf(2)
			weak.Rules[0].Requirements[0].Approvers = approval.Approvers{Accounts: []string{"acc-dave"}}
			c.policy = weak
			c.policyLeaf()
			c.pinned = c.anchors()
			c.pinned.Policies[0].Digests = []evidence.Digest{weak.Digest(), strict.Digest()}
			slices.Sort(c.pinned.Policies[0].Digests)
			c.open("new")
			c.decide(c.bob, evidence.Approve) // whom the rules do not ask
			c.say(evidence.VerdictReached{Request: c.newest().ID, State: string(approval.Approved), Outcome: digestOf(t, c.bob.key)}, true)
			c.policy = strict
			c.policyLeaf()
			c.policy = weak
			c.decide(c.dave, evidence.Approve) // by the rules of before
			bundle := c.bundle()
			got = append(got, verify(bundle, c.pinned))
			_, said := pipeline(t, c.operator, c.pinned, bundle)
			return append(got, said)
		},
	}, {
		wants:  "have a pipeline deploy what somebody rejected: append the pull request's history to the log once more, without its end",
		admits: "hide a rejection after which nobody signed",
		caught: []string{"exit 0", "deploy gate: log", "deploy gate: log"},
		try: func(t *testing.T) (got []string) {
			c := halfApproved(t)
			c.decide(c.dave, evidence.Approve)
			head := c.head()
			before := c.twin()
			c.decide(c.carol, evidence.Reject)
			r := before.make()
			chain := r.chain
			r.chain = nil
			for _, i := range chain {
				r.chain = append(r.chain, len(c.events))
				c.add(event{raw: r.entries[i]})
			}
			b := before.document()
			r.entries = c.make().entries
			c.prove(&b, r)
			cut, err := b.Encode()
			must(t, err)
			got = append(got, verify(cut, c.pinned))
			_, said := pipeline(t, c.operator, c.pinned, cut)
			got = append(got, said)
			c.pinned.LogHead = head // after which only the rejection came, and the history again
			_, said = pipeline(t, c.operator, c.pinned, cut)
			return append(got, said)
		},
	}}
}

// TestTheHeadOfAnchorsHasTheirRoster: anchors name no head of the log of before the roster that they pin.
func TestTheHeadOfAnchorsHasTheirRoster(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	approved := l.open("pump")
	var old []byte
	var before evidence.Checkpoint
	l.eventually("the log is published", func() bool {
		_, old = l.get("/log/checkpoint")
		var err error
		before, err = evidence.OpenCheckpoint(old, nil, nil)
		return err == nil && before.N > 0
	})
	l.approve(approved)
	behind := atomic.Int64{}
	behind.Store(2)
	to, err := url.Parse(l.origin)
	must(t, err)
	proxy := httputil.NewSingleHostReverseProxy(to)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/log/checkpoint" && behind.Add(-1) >= 0 {
			_, _ = w.Write(old)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	defer server.Close()
	origin := l.origin
	l.origin = server.URL
	l.pin()
	l.origin = origin
	anchors, err := evidence.ParseAnchors(contents(t, l.anchors))
	must(t, err)
	if anchors.LogHead.Size <= before.N {
		t.Errorf("the roster of later is pinned with the log of %d leaves", anchors.LogHead.Size)
	}
	l.control(approved.head)
}

// hideTheft has dave report a stolen key, which is in the log and in no bundle.
func (c *cast) hideTheft() {
	c.t.Helper()
	signed := c.signed
	c.revoke(c.dave, beginning)
	entries, last := c.make().entries, len(c.events)-1
	c.events[last], c.signed = event{raw: entries[len(entries)-1]}, signed
}

// writeReport has somebody report a stolen key: the leaf of that is in the log, and the roster is as it was.
func (c *cast) writeReport(p *person) {
	c.t.Helper()
	act, _ := c.act(evidence.Act{Purpose: evidence.Revoke, Revocation: &evidence.RevocationDocument{Person: p.key.Person, Key: digestOf(c.t, p.key), CompromisedSince: &beginning}}, p.name)
	proof, err := evidence.SignedAct{Act: act, Assertion: p.sign(c.t, act)}.Digest()
	must(c.t, err)
	c.say(evidence.KeyRevoked{Person: p.key.Person, Key: digestOf(c.t, p.key), By: evidence.ByOwnKey, Revocation: proof}, false)
}

// head is the log as it is.
func (c *cast) head() *evidence.LogHead {
	c.t.Helper()
	tree := treeOf(c.t, c.make().entries)
	return &evidence.LogHead{Size: tree.N, Root: evidence.Digest(fmt.Sprintf("%x", tree.Hash[:]))}
}

// TestTheGatePassesWhatIsTheNewest: neither leaves of others nor a roster that grew or is long unchanged holds up an approved commit.
func TestTheGatePassesWhatIsTheNewest(t *testing.T) {
	t.Parallel()
	others := func(c *cast) {
		for range 30 {
			c.say(evidence.Connection{Event: "renewed"}, false)
		}
	}
	for name, story := range map[string]struct {
		before, during, after func(*cast) // the anchors name the log's head between the first two
		pinned                bool
		flags                 []string
		code                  int
		said                  string
	}{
		"nothing else":                                       {said: "deploy gate: "},
		"a key enrolled after the chain":                     {after: func(c *cast) { c.enrol(c.mallory) }, said: "deploy gate: "},
		"a key enrolled after the anchors were made":         {before: func(c *cast) { c.enrol(c.mallory) }, pinned: true, said: "deploy gate: "},
		"a roster of longer ago than is read":                {before: others, flags: []string{"--max-leaves=30"}, code: 2, said: "deploy gate: operator_asserted"},
		"the same, known to be the newest later":             {before: others, pinned: true, flags: []string{"--max-leaves=30"}, said: "deploy gate: "},
		"the same, known to be the newest before the others": {during: others, pinned: true, flags: []string{"--max-leaves=30"}, code: 2, said: "deploy gate: operator_asserted"},
		"a chain of longer ago than is read":                 {after: others, pinned: true, flags: []string{"--max-leaves=20"}, code: 2, said: "deploy gate: operator_asserted"},
		"a stolen key that nobody needed": {after: func(c *cast) {
			c.decide(c.carol, evidence.Approve)
			c.revoke(c.carol, beginning)
		}, said: "deploy gate: "},
		"a key that was revoked later, undated": {after: func(c *cast) {
			c.revokeBy(c.dave, c.dave, nil)
			c.enrol(c.mallory)
		}, said: "deploy gate: "},
		"the same, and the anchors name a head between": {during: func(c *cast) { c.revokeBy(c.carol, c.carol, nil) }, after: func(c *cast) {
			c.revokeBy(c.dave, c.dave, nil)
		}, pinned: true, said: "deploy gate: "},
		"a stolen key that was needed":      {after: func(c *cast) { c.revoke(c.dave, beginning) }, code: 1, said: "deploy gate: "}, // the steps say why
		"a chain of as long ago as is read": {after: others, pinned: true, flags: []string{"--max-leaves=45"}, said: "deploy gate: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := stage(t)
			if story.before != nil {
				story.before(c)
			}
			if story.pinned {
				c.pinned.LogHead = c.head()
			}
			if story.during != nil {
				story.during(c)
			}
			c.open("new")
			c.decide(c.bob, evidence.Approve)
			c.decide(c.dave, evidence.Approve)
			if story.after != nil {
				story.after(c)
			}
			if code, said := pipeline(t, c.operator, c.pinned, c.bundle(), story.flags...); code != story.code || said != story.said {
				t.Errorf("exit %d, %s; want %d, %s", code, said, story.code, story.said)
			}
		})
	}
}

// TestTheGatePassesWhatAKeyDecidedBeforeItWasRevoked: of anchors that were made since it looks at the whole log, or says that it did not.
func TestTheGatePassesWhatAKeyDecidedBeforeItWasRevoked(t *testing.T) {
	t.Parallel()
	c := stage(t)
	for range 30 {
		c.say(evidence.Connection{Event: "renewed"}, false)
	}
	before := c.pinned
	before.LogHead = c.head()
	c.open("new")
	c.decide(c.bob, evidence.Approve)
	c.decide(c.dave, evidence.Approve)
	c.revokeBy(c.dave, c.dave, nil)
	since := c.anchors()
	since.LogHead = c.head()
	state := "--state=" + filepath.Join(t.TempDir(), "state.json")
	for _, step := range []struct {
		anchors evidence.Anchors
		flags   []string
		said    string
	}{
		{since, nil, "deploy gate: "},
		{since, []string{"--max-leaves=20"}, "deploy gate: operator_asserted"},
		{before, []string{"--max-leaves=20"}, "deploy gate: "},
		{c.pinned, []string{state}, "deploy gate: "},
		{before, []string{"--max-leaves=20", state}, "deploy gate: "},
		{since, []string{"--max-leaves=20", state}, "deploy gate: operator_asserted"},
	} {
		if _, said := pipeline(t, c.operator, step.anchors, c.bundle(), step.flags...); said != step.said {
			t.Errorf("%v with the head of %v: %s, want %s", step.flags, step.anchors.LogHead, said, step.said)
		}
	}
}

// TestTheGateSaysWhatHelpsAnOldState: newer anchors do not; the number that it names does, once, and one less does not.
func TestTheGateSaysWhatHelpsAnOldState(t *testing.T) {
	t.Parallel()
	c := stage(t)
	c.open("new")
	c.decide(c.bob, evidence.Approve)
	c.decide(c.dave, evidence.Approve)
	state := filepath.Join(t.TempDir(), "state.json")
	look := func(anchors evidence.Anchors, leaves int) (code int, out string) {
		log, bundle := c.publish(), c.bundle()
		return asked(t, func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/evidence/") {
				_, _ = w.Write(bundle)
				return
			}
			log.ServeHTTP(w, r)
		}, anchors, c.newest().HeadCommit, "--state="+state, fmt.Sprintf("--max-leaves=%d", leaves))
	}
	if code, out := look(c.pinned, 1000); code != 0 {
		t.Fatalf("the control: exit %d, %s", code, out)
	}
	for range 30 {
		c.say(evidence.Connection{Event: "renewed"}, false)
	}
	newer := c.pinned
	newer.LogHead = c.head()
	code, out := look(newer, 20)
	named := regexp.MustCompile(`give (\d+) or more, which is needed once with --state`).FindStringSubmatch(out)
	if code != 2 || named == nil {
		t.Fatalf("exit %d, %s", code, out)
	}
	enough, err := strconv.Atoi(named[1])
	must(t, err)
	for _, leaves := range []int{enough - 1, enough} {
		if code, out := look(newer, leaves); (code == 0) != (leaves == enough) {
			t.Errorf("--max-leaves=%d of the %d that it names: exit %d, %s", leaves, enough, code, out)
		}
	}
}

// TestTheGateRemembersHowFarItLooked: what was looked through is not read again, and nothing is believed that the file was not written for.
func TestTheGateRemembersHowFarItLooked(t *testing.T) {
	t.Parallel()
	c := stage(t)
	for range 30 {
		c.say(evidence.Connection{Event: "renewed"}, false)
	}
	c.open("new")
	c.decide(c.bob, evidence.Approve)
	c.decide(c.dave, evidence.Approve)
	state := filepath.Join(t.TempDir(), "state.json")
	step := func(want string, bundle []byte, anchors evidence.Anchors, leaves int) {
		t.Helper()
		code, said := pipeline(t, c.operator, anchors, bundle, "--state="+state, fmt.Sprintf("--max-leaves=%d", leaves))
		if !strings.Contains(said, want) || (code == 0) != (said == "deploy gate: ") {
			t.Errorf("exit %d, %s; want %s", code, said, want)
		}
	}
	step("deploy gate: operator_asserted", c.bundle(), c.pinned, 20)
	if _, err := os.Stat(state); err == nil {
		t.Error("what was not looked through is remembered")
	}
	step("deploy gate: ", c.bundle(), c.pinned, 1000)
	kept := contents(t, state)
	step("deploy gate: ", c.bundle(), c.pinned, 20)
	c.enrol(c.mallory)
	step("deploy gate: ", c.bundle(), c.pinned, 20)
	older := c.bundle()
	c.revoke(c.dave, c.now.Add(time.Hour))
	step("deploy gate: stale", older, c.pinned, 20)
	step("deploy gate: ", c.bundle(), c.pinned, 20)
	// Evidence without the version that was the newest is refused, wherever the leaf of it is.
	step("deploy gate: stale", older, c.pinned, 1000)

	for want, edit := range map[string]func(text string) string{
		"is not a state of this version": func(text string) string { return strings.Replace(text, "gate/v1", "gate/v2", 1) },
		"about another log or workspace": func(text string) string { return strings.Replace(text, logOrigin, "other.example/log", 1) },
		"deploy gate: log": func(text string) string {
			return regexp.MustCompile(`"root": "[0-9a-f]{64}"`).ReplaceAllString(text, `"root": "`+strings.Repeat("0", 64)+`"`)
		},
		"remove it, and": func(string) string { return "{" },
	} {
		must(t, os.WriteFile(state, []byte(edit(string(kept))), 0o600))
		step(want, c.bundle(), c.pinned, 1000)
	}
	// Anchors of the same size or newer take nothing away of what is remembered.
	newer := c.pinned
	newer.LogHead = c.head()
	invented := regexp.MustCompile(`"root": "[0-9a-f]{64}"`).ReplaceAllString(string(kept), `"root": "`+strings.Repeat("0", 64)+`"`)
	must(t, os.WriteFile(state, kept, 0o600))
	step("deploy gate: ", c.bundle(), newer, 1000)
	must(t, os.WriteFile(state, []byte(invented), 0o600))
	step("deploy gate: log", c.bundle(), newer, 1000)
	same := regexp.MustCompile(`"size": [0-9]+`).ReplaceAllString(invented, fmt.Sprintf(`"size": %d`, newer.LogHead.Size))
	must(t, os.WriteFile(state, []byte(same), 0o600))
	step("deploy gate: log", c.bundle(), newer, 1000)
	must(t, os.WriteFile(state, kept, 0o600))
	unnamed := c.pinned
	unnamed.Genesis = ""
	step("--state needs anchors that name the workspace's genesis", c.bundle(), unnamed, 1000)
}

// TestTheGateKnowsTheRulesOfBetween: rules that were replaced between what is remembered and the head of newer anchors are known too, also
// where what is remembered has none, since it began behind them.
func TestTheGateKnowsTheRulesOfBetween(t *testing.T) {
	t.Parallel()
	for _, story := range []struct {
		quorum int
		behind bool
		said   string
	}{{2, false, "deploy gate: "}, {1, false, "deploy gate: old_policy"}, {2, true, "deploy gate: "}, {1, true, "deploy gate: old_policy"}} {
		c := stage(t)
		weak, strict := policyOf(1), policyOf(2)
		c.policy = weak
		c.policyLeaf()
		if story.behind {
			c.pinned.LogHead = c.head()
		}
		c.pinned.Policies = policiesOf(c.repository, weak.Digest(), strict.Digest())
		c.open("new")
		c.decide(c.bob, evidence.Approve)
		state := "--state=" + filepath.Join(t.TempDir(), "state.json")
		if code, said := pipeline(t, c.operator, c.pinned, c.bundle(), state); code != 0 {
			t.Fatalf("the control: exit %d, %s", code, said)
		}
		entries := c.make().entries
		for i, e := range c.events {
			if e.request != nil || e.decision != nil || e.verdict {
				c.events[i] = event{raw: entries[i]}
			}
		}
		c.policy = strict
		c.policyLeaf()
		c.pinned.LogHead = c.head()
		c.number++
		c.policy = policyOf(story.quorum)
		c.open("new")
		c.decide(c.bob, evidence.Approve)
		if story.quorum > 1 {
			c.decide(c.dave, evidence.Approve)
		}
		if _, said := pipeline(t, c.operator, c.pinned, c.bundle(), state); said != story.said {
			t.Errorf("%+v: %s", story, said)
		}
	}
}

// TestTheGateWaitsForTheRosterToFollow: while the roster counts a key that the log revokes, evidence that rests on it is refused, and what
// is remembered of the log ends before: evidence that rests on it can come later.
func TestTheGateWaitsForTheRosterToFollow(t *testing.T) {
	t.Parallel()
	c := stage(t)
	c.open("new")
	c.decide(c.bob, evidence.Approve)
	c.decide(c.dave, evidence.Approve)
	state := filepath.Join(t.TempDir(), "state.json")
	step := func(want string) {
		t.Helper()
		if code, said := pipeline(t, c.operator, c.pinned, c.bundle(), "--state="+state); said != want || (code == 0) != (want == "deploy gate: ") {
			t.Errorf("exit %d, %s; want %s", code, said, want)
		}
	}
	unread := func(p *person) bool {
		var kept struct{ Size int64 }
		must(t, json.Unmarshal(contents(t, state), &kept))
		for i, entry := range c.make().entries {
			leaf, err := evidence.ParseLeaf(entry)
			must(t, err)
			if body, ok := leaf.Body.(evidence.KeyRevoked); ok && body.Key == digestOf(t, p.key) {
				return int64(i) >= kept.Size
			}
		}
		return false
	}
	step("deploy gate: ")
	c.writeReport(c.mallory) // who is in no roster here
	step("deploy gate: ")
	if unread(c.mallory) {
		t.Error("what is said of a key of somebody else is read again")
	}
	c.writeReport(c.carol) // who decided nothing
	step("deploy gate: ")
	if !unread(c.carol) {
		t.Error("it is remembered as followed, and carol's next approval would pass")
	}
	c.revoke(c.carol, c.now.Add(time.Hour)) // the roster follows
	step("deploy gate: ")
	if unread(c.carol) {
		t.Error("what was followed is read again")
	}
	c.writeReport(c.bob)
	step("deploy gate: stale")
}

// TestTheGateRefusesWhatIsBehindARevocation, before the roster follows that and afterwards: no honest server takes such a decision.
func TestTheGateRefusesWhatIsBehindARevocation(t *testing.T) {
	t.Parallel()
	c := stage(t)
	c.open("new")
	c.decide(c.bob, evidence.Approve)
	c.decide(c.dave, evidence.Approve)
	state := "--state=" + filepath.Join(t.TempDir(), "state.json")
	for _, step := range []struct {
		do   func()
		said string
	}{
		{func() { c.writeReport(c.carol) }, "deploy gate: "},
		{func() { c.decide(c.carol, evidence.Approve) }, "deploy gate: stale"},
		{func() { c.revoke(c.carol, c.now.Add(time.Hour)) }, "deploy gate: revoked_key"},
	} {
		step.do()
		if _, said := pipeline(t, c.operator, c.pinned, c.bundle(), state); said != step.said {
			t.Errorf("%s, want %s", said, step.said)
		}
	}
}

// TestTheGateRefusesWhatIsBehindARevocationThatCameBeforeItsKey into the roster: what was looked through then was not looked at for that key.
func TestTheGateRefusesWhatIsBehindARevocationThatCameBeforeItsKey(t *testing.T) {
	t.Parallel()
	c := stage(t)
	second := newPerson(t, "dave", "second")
	state := "--state=" + filepath.Join(t.TempDir(), "state.json")
	step := func(want string) {
		t.Helper()
		if code, said := pipeline(t, c.operator, c.pinned, c.bundle(), state); said != want || (code == 0) != (want == "deploy gate: ") {
			t.Errorf("exit %d, %s, want %s", code, said, want)
		}
	}
	c.open("new")
	c.decide(c.bob, evidence.Approve)
	c.decide(c.dave, evidence.Approve)
	c.writeReport(second)
	step("deploy gate: ")
	c.enrolOn(second, c.dave)
	c.next(c.bob, second)
	c.revokeBy(second, c.dave, nil)
	step("deploy gate: revoked_key")
}

// pipeline is the step of a pipeline that asks for the commit of the newest request a server with a public log and one piece of evidence.
// TestTheGatePassesWhatWasVouchedForInTime: a key that was revoked without a word of since when had signed for another one before that, as
// happens with every new phone; whatever the anchors know of it, and whether its person was in the workspace by then.
func TestTheGatePassesWhatWasVouchedForInTime(t *testing.T) {
	t.Parallel()
	for name, story := range map[string]struct {
		late        bool // in the workspace, where somebody vouched for the first of two keys
		heads, code int  // of the anchors: after so many of the story's leaves
	}{
		"anchors of before":               {false, 0, 0},
		"anchors of when it was enrolled": {false, 1, 2}, // and the roster did not follow yet: they do not tell whether the log had it
		"anchors that know both keys":     {false, 2, 0},
		"anchors of when it is revoked":   {false, 3, 0},
		"anchors of afterwards":           {false, 4, 0},
		"late, anchors of before":         {true, 0, 0},
		"late, anchors of between":        {true, 2, 0},
		"late, anchors of afterwards":     {true, 6, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := stage(t)
			second, former := newPerson(t, "carol", "second"), c.carol
			before := len(c.events)
			if story.late {
				second, former = newPerson(t, "dora", "second"), newPerson(t, "dora", "first")
				c.writers = append(c.writers, approval.Person{ID: "per-dora", AccountID: "acc-dora", Name: "dora"})
				c.enrolOn(former, c.bob)
			}
			c.enrolOn(second, former)
			if story.late { // both were enrolled before a version has the first one
				c.events[before+1], c.events[before+2] = c.events[before+2], c.events[before+1]
			}
			c.sayRevoked(former, second)
			c.revokeBy(former, second, nil)
			whole := c.events
			c.events = c.events[:before+story.heads]
			anchors := c.anchors()
			anchors.LogHead = c.head()
			c.events = whole
			c.open("new")
			c.decide(c.bob, evidence.Approve)
			c.decide(second, evidence.Approve)
			for _, flags := range [][]string{nil, {"--state=" + filepath.Join(t.TempDir(), "state.json")}} {
				for range 2 { // and with what is remembered
					if code, said := pipeline(t, c.operator, anchors, c.bundle(), flags...); code != story.code {
						t.Errorf("%v: exit %d, %s; want exit %d", flags, code, said, story.code)
					}
				}
				if flags == nil || story.code != 0 {
					continue
				}
				var kept struct{ Size int64 }
				must(t, json.Unmarshal(contents(t, strings.TrimPrefix(flags[0], "--state=")), &kept))
				if want := int64(len(c.events)); kept.Size != want {
					t.Errorf("%d leaves are remembered as looked through, want %d", kept.Size, want)
				}
			}
			if alarms := newAuditor(c.operator).pass(c.operator, c.publish()); len(alarms) > 0 {
				t.Error(alarms)
			}
			openings, at := c.publish().openings, int64(c.make().rosterAt)
			openings.RosterLeaf = &at
			if said := c.pins(openings); said != "anchors get: exit 0" {
				t.Error(said)
			}
		})
	}
}

// TestTheGateForgetsNoVoucherThatCameTooLate: evidence that rests on other keys passes, and what is remembered of the log ends before.
func TestTheGateForgetsNoVoucherThatCameTooLate(t *testing.T) {
	t.Parallel()
	c, second := withTwoKeys(t)
	state := filepath.Join(t.TempDir(), "state.json")
	step := func(want string, approvers ...*person) {
		t.Helper()
		c.next(approvers...)
		if code, said := pipeline(t, c.operator, c.pinned, c.bundle(), "--state="+state); said != want || (code == 0) != (want == "deploy gate: ") {
			t.Errorf("exit %d, %s; want %s", code, said, want)
		}
	}
	step("deploy gate: ", c.bob, c.dave)
	c.sayRevoked(c.dave, second)
	thief := newPerson(t, "dave", "thief")
	c.enrolOn(thief, c.dave)
	c.revokeBy(c.dave, second, nil)
	step("deploy gate: ", c.bob, c.carol)
	step("deploy gate: ", c.bob, second)
	step("deploy gate: revoked_key", c.bob, thief)
}

// TestTheGateRemembersNoVoucherOfWhichItReadTooLittle: a key was revoked before the anchors and came into the roster behind them, where it
// signed for another one. The gate reads fewer leaves than tell of that: evidence that rests on neither passes, and nothing is remembered by it.
func TestTheGateRemembersNoVoucherOfWhichItReadTooLittle(t *testing.T) {
	t.Parallel()
	c, second := withTwoKeys(t)
	came := c.events[len(c.events)-1]
	c.events = c.events[:len(c.events)-1]
	c.sayRevoked(second, c.dave)
	anchors := c.anchors()
	anchors.LogHead = c.head()
	c.add(came)
	thief := newPerson(t, "dave", "thief")
	c.enrolOn(thief, second)
	c.revokeBy(second, c.dave, nil)
	state := "--state=" + filepath.Join(t.TempDir(), "state.json")
	step := func(want string, approver *person, flags ...string) {
		t.Helper()
		c.next(c.bob, approver)
		few := fmt.Sprintf("--max-leaves=%d", int64(len(c.events))-anchors.LogHead.Size)
		if code, said := pipeline(t, c.operator, anchors, c.bundle(), append(flags, few)...); said != want || (code == 0) != (want == "deploy gate: ") {
			t.Errorf("exit %d, %s; want %s", code, said, want)
		}
	}
	step("deploy gate: ", c.carol, state)
	step("deploy gate: operator_asserted", thief, state)
	step("deploy gate: operator_asserted", thief)
}

// next has people approve another pull request, whatever became of the ones before.
func (c *cast) next(approvers ...*person) {
	c.t.Helper()
	for i, entry := range c.make().entries {
		if e := c.events[i]; e.request != nil || e.decision != nil || e.verdict {
			c.events[i] = event{raw: entry}
		}
	}
	c.number++
	c.open("new")
	for _, p := range approvers {
		c.decide(p, evidence.Approve)
	}
}

func pipeline(t *testing.T, o *operator, anchors evidence.Anchors, bundle []byte, flags ...string) (code int, said string) {
	t.Helper()
	log := o.publish()
	code, out := asked(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/evidence/") {
			_, _ = w.Write(bundle)
			return
		}
		log.ServeHTTP(w, r)
	}, anchors, o.newest().HeadCommit, flags...)
	return code, gateSays(out)
}

// asked is the step of a pipeline that asks a server for a commit. It gives what the program prints.
func asked(t *testing.T, answer http.HandlerFunc, anchors evidence.Anchors, commit string, flags ...string) (code int, out string) {
	t.Helper()
	server := httptest.NewServer(answer)
	defer server.Close()
	l := &live{t: t, ctx: t.Context(), anchors: filepath.Join(t.TempDir(), "anchors.json"), token: filepath.Join(t.TempDir(), "token")}
	l.workspace.UUID = workspace
	must(t, os.WriteFile(l.anchors, anchorsFile(t, anchors), 0o600))
	must(t, os.WriteFile(l.token, []byte("sa_none"), 0o600))
	return l.verifies(server.URL, commit, branch, repository, flags...)
}

func contents(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return data
}

// liar is a server that answers every question about a commit with the evidence of one pull request, and what is asked for under
// some paths with something of its own.
func (l *live) liar(about pull, answers map[string][]byte) (address string) {
	l.t.Helper()
	to, err := url.Parse(l.origin)
	must(l.t, err)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		if strings.HasPrefix(r.In.URL.Path, "/evidence/") {
			r.Out.URL.Path = "/evidence/" + strings.Trim(l.workspace.UUID, "{}") + "/commits/" + about.head
			r.Out.URL.RawQuery = ""
		}
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for path, answer := range answers {
			if strings.HasPrefix(r.URL.Path, path) {
				_, _ = w.Write(answer)
				return
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	l.t.Cleanup(server.Close)
	return server.URL
}

// deploys is the step of a pipeline that asks a server whether a commit was approved.
func (l *live) deploys(address, commit, branch, repository string, flags ...string) (code int, said string) {
	l.t.Helper()
	code, out := l.verifies(address, commit, branch, repository, flags...)
	return code, gateSays(out)
}

func (l *live) verifies(address, commit, branch, repository string, flags ...string) (code int, out string) {
	l.t.Helper()
	var stdout, stderr bytes.Buffer
	code = app.Main(l.ctx, append([]string{
		"verify", "--commit=" + commit, "--workspace=" + l.workspace.UUID, "--repository=" + repository, "--branch=" + branch,
		"--anchors=" + l.anchors, "--json", "--wait=0s", "--url=" + address, "--token-file=" + l.token,
	}, flags...), strings.NewReader(""), &stdout, &stderr)
	return code, stdout.String() + stderr.String()
}

// gateSays is the code in the gate's report, or else what the program said.
func gateSays(out string) string {
	var report struct {
		Gate struct{ Code string }
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		return "deploy gate says: " + out
	}
	return "deploy gate: " + report.Gate.Code
}
