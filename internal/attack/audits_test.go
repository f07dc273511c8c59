package attack_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/app"
	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/attest"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// onAudits are attacks on whoever audits a branch, and on who pins what an audit goes by.
func onAudits() []attack {
	return []attack{{
		wants:  "pass an audit with what a stolen key approved: answer its first question with the log of before the report",
		admits: "leave the newest versions of the roster",
		caught: []string{"exit 0", "audit: not what the public log says", "audit: not what the public log says"},
		try: func(t *testing.T) []string {
			a := newAudited(t)
			a.pinned.LogHead = a.head()
			before := a.publish().note
			a.hideTheft()
			a.begin()
			a.decide(a.bob, evidence.Approve)
			a.decide(a.dave, evidence.Approve)
			a.merge()
			bundle := a.bundle()
			got := []string{verify(bundle, a.pinned), a.by(bundle, lies{})}
			return append(got, a.by(bundle, lies{notes: []string{before}}))
		},
	}, {
		wants:  "pass an audit with what a key approved that was reported as stolen since the merge: answer its first question with the log of before the report",
		caught: []string{"audit: proved", "audit: not what the public log says", "audit: operator-asserted", "audit: operator-asserted"},
		try: func(t *testing.T) []string {
			a := newAudited(t)
			a.pinned.LogHead = a.head()
			a.begin()
			a.decide(a.bob, evidence.Approve)
			a.decide(a.dave, evidence.Approve)
			a.merge()
			bundle, before := a.bundle(), a.publish().note
			got := []string{a.by(bundle, lies{})}
			a.hideTheft()
			now := a.publish().note // which it is shown once, and is to forget
			return append(got, a.by(bundle, lies{}), a.by(bundle, lies{notes: []string{before}}), a.by(bundle, lies{notes: []string{before, now, before}}))
		},
	}, {
		wants:  "pass an audit with what somebody rejected, or took back, before it was merged: file that behind the merge, and behind an end of the request",
		admits: "hide a rejection after which nobody signed",
		caught: []string{
			"exit 0", "audit: not what the public log says", "monitor: unfounded_decision",
			"exit 0", "audit: not what the public log says", "monitor: unfounded_decision",
		},
		try: func(t *testing.T) (got []string) {
			for _, purpose := range []evidence.Purpose{evidence.Reject, evidence.Withdraw} {
				a := newAudited(t)
				a.begin()
				a.decide(a.bob, evidence.Approve)
				a.decide(a.dave, evidence.Approve)
				watcher := newAuditor(a.operator)
				if alarms := watcher.pass(a.operator, a.publish()); len(alarms) > 0 {
					t.Fatalf("the control: %v", alarms)
				}
				who := map[evidence.Purpose]*person{evidence.Reject: a.carol, evidence.Withdraw: a.dave}[purpose]
				s, d := a.statement(who.name, purpose)
				a.merge()
				a.say(evidence.RequestClosed{Request: a.newest().ID, Reason: "cancelled"}, true)
				cut := a.twin()
				var err error
				d.Statement, err = s.Canonical()
				must(t, err)
				d.Assertion = who.sign(t, d.Statement)
				a.add(event{decision: &d})
				b, r := cut.document(), cut.make()
				r.entries = a.make().entries
				a.prove(&b, r)
				bundle, err := b.Encode()
				must(t, err)
				got = append(got, verify(bundle, a.pinned), a.by(bundle, lies{}))
				got = append(got, watcher.pass(a.operator, a.publish())...)
			}
			return got
		},
	}, {
		wants:  "pass an audit of a branch to which somebody pushed: say that it was there before the time that is asked about, or came after it, or, to whoever has no clone, that there is nothing",
		caught: []string{"audit: operator-asserted", "audit: operator-asserted", "audit: operator-asserted"},
		try: func(t *testing.T) (got []string) {
			a := newAudited(t)
			a.begin()
			a.decide(a.bob, evidence.Approve)
			a.decide(a.dave, evidence.Approve)
			a.merge()
			bundle := a.bundle()
			if said := a.by(bundle, lies{}); said != "audit: proved" {
				t.Fatalf("the control: %s", said)
			}
			landed := a.r.at(branch)
			a.r.commit("evil", "nobody saw this\n")
			tip := a.r.at(branch)
			return append(got,
				a.by(bundle, lies{summary: func(s *attest.Audit) {
					early := s.From.Add(-time.Hour)
					s.Bases, s.Before = []string{tip}, &attest.Edge{Commit: tip, Reached: attest.Reached{NotBefore: early, NotAfter: early, Basis: attest.Recorded}}
				}}),
				a.by(bundle, lies{summary: func(s *attest.Audit) {
					s.Heads, s.After = []string{landed}, &attest.Edge{Commit: tip, Reached: attest.Reached{NotBefore: s.To, NotAfter: s.To, Basis: attest.Recorded}}
				}}),
				a.by(bundle, lies{blind: true, summary: func(s *attest.Audit) { s.Tip, s.Heads = a.since, nil }}))
		},
	}, {
		wants:  "have anchors pin, as the newest in the log, a roster of before the report of a stolen key, or rules of before: give the openings of then",
		caught: []string{"anchors get: refused", "anchors get: refused", "anchors get: refused"},
		try: func(t *testing.T) (got []string) {
			for _, newer := range []func(c *cast){
				func(c *cast) { c.hideTheft() },
				func(c *cast) { // and the version of then once more behind it
					r := c.make()
					c.hideTheft()
					c.add(event{raw: r.entries[r.rosterAt]})
				},
				func(c *cast) { c.policyLeaf() },
			} {
				c := stage(t)
				openings := c.publish().openings
				at := int64(c.make().rosterAt)
				openings.RosterLeaf = &at
				if said := c.pins(openings); said != "anchors get: exit 0" {
					t.Fatalf("the control: %s", said)
				}
				newer(c)
				if last := int64(len(c.events) - 1); bytes.Equal(c.make().entries[last], c.make().entries[at]) {
					openings.RosterLeaf = &last
				}
				got = append(got, c.pins(openings))
			}
			return got
		},
	}, {
		wants:  "have anchors pin rules that no leaf of the log tells of: give them as a newer version, or as a second one of the newest",
		caught: []string{"anchors get: refused", "anchors get: refused"},
		try: func(t *testing.T) (got []string) {
			for _, version := range []int64{2, 1} {
				c := stage(t)
				openings := c.publish().openings
				at := int64(c.make().rosterAt)
				openings.RosterLeaf = &at
				openings.Policies = append(openings.Policies, evidence.OpenedPolicy{
					Repository: c.repository, Version: version, Policy: json.RawMessage(policyOf(1).Canonical()),
				})
				got = append(got, c.pins(openings))
			}
			return got
		},
	}, {
		wants:  "have anchors pin a roster that counts a key behind the report that it was stolen: let no version of it follow what the log says",
		caught: []string{"anchors get: refused", "anchors get: refused"},
		try: func(t *testing.T) []string {
			c := stage(t)
			pins := func(notes ...string) string {
				openings := c.publish().openings
				at := int64(c.make().rosterAt)
				openings.RosterLeaf = &at
				return c.pins(openings, notes...)
			}
			c.writeReport(c.mallory) // whom the roster does not count
			if said := pins(); said != "anchors get: exit 0" {
				t.Fatalf("the control: %s", said)
			}
			before := c.publish().note
			c.writeReport(c.dave)
			// The second time the log of before follows the one that it was shown.
			got := []string{pins(), pins(append([]string{c.publish().note}, slices.Repeat([]string{before}, 20)...)...)}
			c.revoke(c.dave, beginning) // the roster follows
			if said := pins(); said != "anchors get: exit 0" {
				t.Errorf("when the roster has followed: %s", said)
			}
			return got
		},
	}, {
		wants:  "have anchors that somebody pinned replaced by those of another log, or of another workspace, without what the first ones said",
		caught: []string{"anchors get: refused", "anchors get: refused", "anchors get: refused"},
		try: func(t *testing.T) (got []string) {
			c, file := stage(t), filepath.Join(t.TempDir(), "anchors")
			other := *c
			other.operator = c.twin()
			pins := func(c *cast) string {
				openings := c.publish().openings
				at := int64(c.make().rosterAt)
				openings.RosterLeaf = &at
				return c.pinsOver(file, openings)
			}
			for range 2 { // where there is none, and over those of before
				c.say(evidence.Connection{Event: "renewed"}, false)
				if said := pins(c); said != "anchors get: exit 0" {
					t.Fatalf("the control: %s", said)
				}
			}
			pinned := contents(t, file)
			genesis := string(evidence.LeafDigest(c.make().entries[0]))
			for _, there := range []string{"no anchors", strings.Replace(string(pinned), genesis, string(approval.DigestOf(nil)), 1)} {
				must(t, os.WriteFile(file, []byte(there), 0o600))
				got = append(got, pins(c))
			}
			must(t, os.WriteFile(file, pinned, 0o600))
			other.seen = newWitnesses(t, other.keys.Verifiers())
			for range 3 {
				other.say(evidence.Connection{Event: "broken"}, false)
			}
			return append(got, pins(&other))
		},
	}}
}

// audited is a story on a clone's branch, which is audited from where the story began.
type audited struct {
	*cast
	r     *clone
	since string
}

func newAudited(t *testing.T) *audited {
	t.Helper()
	r := newClone(t)
	return &audited{stage(t), r, r.at(branch)}
}

// begin asks for approval of the change, under an id as a server gives it.
func (a *audited) begin() {
	a.t.Helper()
	a.diff = []byte(a.r.git("diff", "--no-color", "--abbrev=7", "-M", a.since, "feature/x"))
	a.commits = map[string]string{"new": a.r.at("feature/x"), "base": a.since, "destination": a.since}
	a.open("new")
	a.newest().ID = strings.Trim(uuid("request"), "{}")
}

func (a *audited) merge() {
	a.t.Helper()
	cleanly(a.r)
	a.commits["landed"] = a.r.at(branch)
	a.landed("landed", "approved")
}

// lies are what the server of an audit says otherwise than an honest one.
type lies struct {
	notes   []string // the first checkpoints that it answers with
	summary func(*attest.Audit)
	blind   bool // they are told to somebody without a clone
}

// by audits the branch by everything that an auditor can have: anchors, a clone and the key of the summary. The server gives one bundle for
// whatever is listed as approved.
func (a *audited) by(bundle []byte, lie lies) string {
	a.t.Helper()
	log := a.publish()
	private, public, err := attest.NewKey()
	must(a.t, err)
	keys, err := attest.ParseKeys(private)
	must(a.t, err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/log/checkpoint" && len(lie.notes) > 0:
			_, _ = w.Write([]byte(lie.notes[0]))
			lie.notes = lie.notes[1:]
		case strings.HasPrefix(r.URL.Path, "/evidence/"):
			_, _ = w.Write(bundle)
		case strings.HasPrefix(r.URL.Path, "/audit/"):
			a.list(w, r, keys, bundle, lie.summary)
		default:
			log.ServeHTTP(w, r)
		}
	}))
	defer server.Close()
	folder := a.t.TempDir()
	file := func(name string, data []byte) string {
		must(a.t, os.WriteFile(filepath.Join(folder, name), data, 0o600))
		return filepath.Join(folder, name)
	}
	var stdout, stderr bytes.Buffer
	clone := []string{"--repo=" + a.r.dir}
	if lie.blind {
		clone = nil
	}
	code := app.Main(a.t.Context(), append([]string{
		"audit", "--workspace=" + workspace, "--repository=" + repository, "--branch=" + branch, "--from=2020-01-01", "--since=" + a.since,
		"--anchors=" + file("anchors", anchorsFile(a.t, a.pinned)), "--key=" + file("key", public), "--url=" + server.URL, "--token-file=" + file("token", []byte("sa_none")),
	}, clone...), strings.NewReader(""), &stdout, &stderr)
	switch said := stderr.String(); {
	case code == 0:
		return "audit: proved"
	case code == 2:
		return "audit: operator-asserted"
	case strings.Contains(said, "FAILED: the evidence is not what the public log says"):
		return "audit: not what the public log says"
	default:
		return "audit: " + said
	}
}

// list answers an audit with all that the branch has since it began, as approved by the bundle.
func (a *audited) list(w http.ResponseWriter, r *http.Request, keys *attest.Keys, raw []byte, lie func(*attest.Audit)) {
	now := time.Now().UTC().Truncate(time.Second)
	bundle, tip := mustBundle(a.t, raw), a.r.at(branch)
	moment := func(name string) time.Time {
		at, err := time.Parse(time.RFC3339, r.URL.Query().Get(name))
		must(a.t, err)
		return at.UTC()
	}
	summary := attest.Audit{
		Service: page.Origin, Time: now, Workspace: workspace, Repository: attest.Repository{UUID: repository, URI: "https://bitbucket.org/acme/rocket"}, Branch: branch,
		From: moment("from"), To: moment("to"), Since: a.since, Tip: tip, Heads: []string{tip}, Log: attest.Log{Root: approval.DigestOf(nil)},
	}
	if lie != nil {
		lie(&summary)
	}
	var sum attest.Sum
	listed := append([]string{"rev-list", "--reverse", "--topo-order"}, summary.Heads...)
	for i, hash := range strings.Fields(a.r.git(append(append(listed, "--not", a.since), summary.Bases...)...)) {
		row := attest.Row{
			Number: i + 1, Commit: hash, Kind: attest.KindApproved, Relation: attest.Within, Reason: "It was approved.", PullRequest: a.number, Landed: a.commits["landed"], Head: a.commits["new"],
			Reached: attest.Reached{NotBefore: summary.From, NotAfter: now, Basis: attest.Claimed}, Request: bundle.Facts.Request.ID, Bundle: page.Origin + "/evidence",
			BundleDigest: approval.DigestOf(raw), ChainLeaf: evidence.LeafDigest(bundle.Chain[len(bundle.Chain)-1]),
		}
		line, err := row.Line()
		must(a.t, err)
		must(a.t, sum.Add(row, line))
		_, _ = fmt.Fprintf(w, "{\"row\":%s}\n", line)
	}
	envelope, err := attest.SignAudit(a.t.Context(), keys, summary, &sum)
	must(a.t, err)
	_, _ = fmt.Fprintf(w, "{\"summary\":%s}\n", envelope)
}

// pins makes anchors from what a server publishes: its log as it is, after the first checkpoints that it answers with, and some openings.
func (c *cast) pins(openings evidence.Openings, notes ...string) string {
	c.t.Helper()
	return c.pinsOver(filepath.Join(c.t.TempDir(), "anchors"), openings, notes...)
}

// pinsOver is pins over a file that can be there.
func (c *cast) pinsOver(file string, openings evidence.Openings, notes ...string) string {
	c.t.Helper()
	log := c.publish()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/log/checkpoint":
			if len(notes) == 0 {
				log.ServeHTTP(w, r)
				return
			}
			_, _ = w.Write([]byte(notes[0]))
			notes = notes[1:]
		case "/workspaces/" + strings.Trim(workspace, "{}") + "/openings":
			data, err := openings.Encode()
			must(c.t, err)
			_, _ = w.Write(data)
		case "/log/verifier-keys":
			_, _ = w.Write([]byte(strings.Join(c.keys.Verifiers(), "\n")))
		case "/graphql":
			_, _ = fmt.Fprintf(w, `{"data":{"server":{"relyingPartyId":%q,"origin":%q}}}`, page.ID, page.Origin)
		default:
			log.ServeHTTP(w, r)
		}
	}))
	defer server.Close()
	token := filepath.Join(c.t.TempDir(), "token")
	must(c.t, os.WriteFile(token, []byte("sa_none"), 0o600))
	var stdout, stderr bytes.Buffer
	code := app.Main(c.t.Context(), []string{
		"anchors", "get", "--workspace=" + workspace, "--output=" + file, "--force", "--url=" + server.URL, "--token-file=" + token,
	}, strings.NewReader(""), &stdout, &stderr)
	if code == 1 && slices.ContainsFunc([]string{"which is not the newest", "does not have the newest version", "nobody should pin that", "is no anchors file", "of another workspace", "twice", "still counts", "that was public before"}, func(why string) bool {
		return strings.Contains(stderr.String(), why)
	}) {
		return "anchors get: refused"
	}
	return fmt.Sprintf("anchors get: exit %d", code) + stderr.String()
}
