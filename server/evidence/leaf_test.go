package evidence_test

import (
	"bytes"
	"encoding/hex"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

func TestLeafHashIsRFC6962(t *testing.T) {
	t.Parallel()
	// RFC 6962: the hash of a leaf without bytes.
	empty := evidence.LeafHash(nil)
	if got, want := hex.EncodeToString(empty[:]), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"; got != want {
		t.Errorf("got %s", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOf(rapid.Byte()).Draw(t, "entry")
		if got, want := evidence.LeafHash(data), tlog.RecordHash(data); got != [32]byte(want) {
			t.Fatalf("got %x, the log's tree says %x", got, want)
		}
		hash := evidence.LeafHash(data)
		if string(evidence.LeafDigest(data)) != hex.EncodeToString(hash[:]) {
			t.Fatal("the digest is not the hash")
		}
	})
}

// digestOf is some digest.
func digestOf(text string) evidence.Digest { return approval.DigestOf([]byte(text)) }

func leaves() []evidence.Leaf {
	at := time.Date(2026, 5, 4, 12, 0, 0, 123456000, time.UTC)
	chain := &evidence.Chain{ID: digestOf("chain"), Sequence: 2, Previous: digestOf("previous")}
	list := []evidence.Leaf{}
	for _, body := range []evidence.Body{
		evidence.RequestOpened{Request: "req-1", Document: digestOf("document")},
		evidence.RequestClosed{Request: "req-1", Reason: "superseded"},
		evidence.DecisionMade{Request: "req-1", Statement: digestOf("s"), Assertion: digestOf("a")},
		evidence.VerdictReached{Request: "req-1", State: "APPROVED", Outcome: digestOf("o")},
		evidence.StatusPaid{Request: "req-1", State: "SUCCESSFUL"},
		evidence.Merged{Kind: "violation", Commit: commits["base"]},
		evidence.MergeChecked{
			Trigger: evidence.TriggerOnMerge, Asker: evidence.Commitment(digestOf("alice")), Answer: evidence.AnswerYes, Code: evidence.CheckApproved,
			Commit: commits["base"], Destination: digestOf("d"), Request: "req-1",
		},
		evidence.MergeChecked{Trigger: evidence.TriggerPreMerge, Answer: evidence.AnswerNo, Code: "BITBUCKET"},
	} {
		list = append(list, evidence.Leaf{Time: at, Workspace: digestOf("w"), Chain: chain, Body: body})
	}
	for _, body := range []evidence.Body{
		evidence.Genesis{Salt: digestOf("salt")},
		evidence.PolicyVersion{Repository: digestOf("r"), Version: 1, Policy: digestOf("p")},
		evidence.KeyEnrolled{Person: "per-bob", Key: digestOf("k"), AttestationObject: digestOf("o"), ClientData: digestOf("c"), IdentifiedBy: "bitbucket-login"},
		evidence.KeyRevoked{Person: "per-bob", Key: digestOf("k")},
		evidence.Connection{Event: "made", Person: "per-bob"},
		evidence.Connection{Event: "confirmed", Person: "per-bob"},
		evidence.EnforcementSeen{Repository: digestOf("r"), Branches: digestOf("b"), State: "OPEN"},
		evidence.RosterVersion{Version: 1, Roster: digestOf("r")},
		evidence.ProtectionSet{Version: 1, Protection: digestOf("p"), Acts: []evidence.Digest{digestOf("a")}},
	} {
		list = append(list, evidence.Leaf{Time: at, Workspace: digestOf("w"), Body: body})
	}
	return list
}

// checked is an honest "yes" of the merge check with something changed.
func checked(change func(c *evidence.MergeChecked)) evidence.MergeChecked {
	c := evidence.MergeChecked{
		Trigger: evidence.TriggerOnMerge, Answer: evidence.AnswerYes, Code: evidence.CheckApproved, Commit: commits["base"],
		Destination: digestOf("d"), Request: "req-1",
	}
	change(&c)
	return c
}

func TestLeafRoundTrip(t *testing.T) {
	t.Parallel()
	for _, leaf := range leaves() {
		entry, err := leaf.Entry()
		if err != nil {
			t.Errorf("%s: %v", leaf.Body.Type(), err)
			continue
		}
		got, err := evidence.ParseLeaf(entry)
		if err != nil {
			t.Errorf("%s: %v", leaf.Body.Type(), err)
			continue
		}
		if diff := cmp.Diff(leaf, got); diff != "" {
			t.Errorf("%s (-written +read):\n%s", leaf.Body.Type(), diff)
		}
		for i := range entry {
			changed := bytes.Clone(entry)
			changed[i] ^= 1
			if again, err := evidence.ParseLeaf(changed); err == nil {
				if data, err := again.Entry(); err != nil || !bytes.Equal(data, changed) {
					t.Fatalf("%s: byte %d makes a leaf with two forms", leaf.Body.Type(), i)
				}
			}
		}
	}
}

// oddBodies have a value each that they cannot have.
func oddBodies() []evidence.Body {
	return []evidence.Body{
		evidence.RequestOpened{Request: "req-1"},
		evidence.RequestOpened{Document: digestOf("d")},
		evidence.RequestClosed{Request: "req-1", Reason: "lost"},
		evidence.DecisionMade{Request: "req-1", Statement: digestOf("s")},
		evidence.DecisionMade{Request: "req-1", Assertion: digestOf("a")},
		evidence.VerdictReached{Request: "req-1", State: "approved", Outcome: digestOf("o")},
		evidence.StatusPaid{Request: "req-1", State: "GREEN"},
		evidence.Merged{Kind: "approved", Commit: "abc"},
		evidence.Merged{Kind: "fine", Commit: commits["base"]},
		evidence.Genesis{},
		evidence.PolicyVersion{Repository: digestOf("r")},
		evidence.KeyEnrolled{Person: "per-bob"},
		evidence.KeyRevoked{Person: "Bob Builder", Key: digestOf("k")},
		evidence.Connection{Event: "seen"},
		checked(func(c *evidence.MergeChecked) { c.Trigger = "on-code-pushed" }),
		checked(func(c *evidence.MergeChecked) { c.Answer = "true" }),
		checked(func(c *evidence.MergeChecked) { c.Answer = evidence.AnswerNo }),
		checked(func(c *evidence.MergeChecked) { c.Code = "FINE" }),
		checked(func(c *evidence.MergeChecked) { c.Code = evidence.CheckNoRule }),
		checked(func(c *evidence.MergeChecked) { c.Code, c.Answer = "not approved", evidence.AnswerNo }),
		checked(func(c *evidence.MergeChecked) { c.Request = "" }),
		checked(func(c *evidence.MergeChecked) { c.Commit = commits["base"][:12] }),
		checked(func(c *evidence.MergeChecked) { c.Commit = "" }),
		checked(func(c *evidence.MergeChecked) { c.Destination = "" }),
		checked(func(c *evidence.MergeChecked) { c.Commit, c.Answer, c.Code = "", evidence.AnswerNo, "PENDING" }),
		checked(func(c *evidence.MergeChecked) { c.Asker = "acc-alice" }),
		evidence.EnforcementSeen{Repository: digestOf("r"), Branches: digestOf("b"), State: "CLOSED"},
		evidence.EnforcementSeen{Repository: digestOf("r"), State: "OPEN"},
		evidence.EnforcementSeen{Branches: digestOf("b"), State: "OPEN"},
		evidence.RosterVersion{Roster: digestOf("r")},
		evidence.RosterVersion{Version: 1 << 53, Roster: digestOf("r")},
		evidence.RosterVersion{Version: 1},
		evidence.ProtectionSet{Protection: digestOf("p"), Acts: []evidence.Digest{digestOf("a")}},
		evidence.ProtectionSet{Version: 1 << 53, Protection: digestOf("p"), Acts: []evidence.Digest{digestOf("a")}},
		evidence.ProtectionSet{Version: 1, Acts: []evidence.Digest{digestOf("a")}},
		evidence.ProtectionSet{Version: 1, Protection: digestOf("p"), Acts: []evidence.Digest{"a"}},
		evidence.RequestClosed{Request: "a b", Reason: "superseded"},
		evidence.DecisionMade{Request: "a b", Statement: digestOf("s"), Assertion: digestOf("a")},
		evidence.VerdictReached{Request: "a b", State: "APPROVED", Outcome: digestOf("o")},
		evidence.VerdictReached{Request: "req-1", State: "APPROVED"},
		evidence.StatusPaid{Request: "a b", State: "SUCCESSFUL"},
		evidence.Merged{Request: "a b", Kind: "approved", Commit: commits["base"]},
		checked(func(c *evidence.MergeChecked) { c.Request = "a b" }),
		evidence.PolicyVersion{Version: 1, Policy: digestOf("p")},
		evidence.PolicyVersion{Repository: digestOf("r"), Version: 1 << 53, Policy: digestOf("p")},
		evidence.PolicyVersion{Repository: digestOf("r"), Version: 1, Policy: "p"},
		evidence.PolicyVersion{Repository: digestOf("r"), Version: 1, Policy: digestOf("p"), Acts: []evidence.Digest{digestOf("a"), digestOf("a")}},
		evidence.KeyEnrolled{Person: "a b", Key: digestOf("k"), AttestationObject: digestOf("o"), ClientData: digestOf("c"), IdentifiedBy: "own-key"},
		evidence.KeyEnrolled{Person: "per-bob", AttestationObject: digestOf("o"), ClientData: digestOf("c"), IdentifiedBy: "own-key"},
		evidence.KeyEnrolled{Person: "per-bob", Key: digestOf("k"), ClientData: digestOf("c"), IdentifiedBy: "own-key"},
		evidence.KeyEnrolled{Person: "per-bob", Key: digestOf("k"), AttestationObject: digestOf("o"), IdentifiedBy: "own-key"},
		evidence.KeyEnrolled{Person: "per-bob", Key: digestOf("k"), AttestationObject: digestOf("o"), ClientData: digestOf("c"), IdentifiedBy: "own key"},
		evidence.KeyEnrolled{Person: "per-bob", Key: digestOf("k"), AttestationObject: digestOf("o"), ClientData: digestOf("c"), IdentifiedBy: "own-key", Enrolment: "e"},
		evidence.KeyRevoked{Person: "per-bob"},
		evidence.KeyRevoked{Person: "per-bob", Key: digestOf("k"), By: evidence.ByOwnKey},
		evidence.KeyRevoked{Person: "per-bob", Key: digestOf("k"), By: evidence.ByLogIn, Revocation: digestOf("r")},
		evidence.Connection{Event: "made", Person: "a b"},
	}
}

// oddLeaves are leaves that cannot be.
func oddLeaves() (list []evidence.Leaf) {
	for _, leaf := range leaves() {
		for _, edit := range []func(l *evidence.Leaf){
			func(l *evidence.Leaf) { l.Time = time.Time{} },
			func(l *evidence.Leaf) { l.Time = l.Time.In(time.FixedZone("", 3600)) },
			func(l *evidence.Leaf) { l.Workspace = "" },
			func(l *evidence.Leaf) {
				if l.Chain == nil {
					l.Chain = &evidence.Chain{ID: digestOf("c"), Sequence: 1}
				} else {
					l.Chain = nil
				}
			},
		} {
			bad := leaf
			edit(&bad)
			list = append(list, bad)
		}
	}
	for _, body := range oddBodies() {
		list = append(list, oddLeaf(body))
	}
	for _, chain := range []evidence.Chain{
		{Sequence: 1},
		{ID: digestOf("c"), Sequence: 0},
		{ID: digestOf("c"), Sequence: 2},
		{ID: digestOf("c"), Sequence: 1, Previous: digestOf("p")},
		{ID: digestOf("c"), Sequence: 1 << 53, Previous: digestOf("p")},
	} {
		bad := leaves()[0]
		bad.Chain = &chain
		list = append(list, bad)
	}
	return list
}

// oddLeaf places a body where it belongs.
func oddLeaf(body evidence.Body) evidence.Leaf {
	leaf := evidence.Leaf{Time: time.Unix(0, 0).UTC(), Workspace: digestOf("w"), Body: body}
	for _, honest := range leaves() {
		if honest.Body.Type() == body.Type() {
			leaf.Chain = honest.Chain
		}
	}
	return leaf
}

// leafTexts are the texts of no leaf.
func leafTexts(t testing.TB) map[string]string {
	t.Helper()
	entry, err := leaves()[0].Entry()
	if err != nil {
		t.Fatal(err)
	}
	timed := func(end string) string {
		return regexp.MustCompile(`("time":"[^".Z]*)[^"]*`).ReplaceAllString(string(entry), "${1}"+end)
	}
	return map[string]string{
		"nothing":                    "",
		"another format":             strings.Replace(string(entry), "leaf/v1", "leaf/v2", 1),
		"an unknown type":            strings.Replace(string(entry), "request-opened", "request-read", 1),
		"another body":               strings.Replace(string(entry), "request-opened", "genesis", 1),
		"a local time":               timed(`+01:00`),
		"a time with a zero behind":  timed(`.10Z`),
		"a time of ten digits":       timed(`.1234567891Z`),
		"a time with a comma":        timed(`,5Z`),
		"a sequence of zero":         strings.Replace(string(entry), `"sequence":2`, `"sequence":0`, 1),
		"a first leaf after another": strings.Replace(string(entry), `"sequence":2`, `"sequence":1`, 1),
		"too large":                  string(entry) + strings.Repeat(" ", evidence.MaxLeaf),
		"too deep":                   strings.Replace(string(entry), `"body":{`, `"body":{"a":`+nested+`,`, 1),
	}
}

func TestLeafRefuses(t *testing.T) {
	t.Parallel()
	for _, leaf := range leaves() {
		for name, edit := range map[string]func(l *evidence.Leaf){
			"no time":      func(l *evidence.Leaf) { l.Time = time.Time{} },
			"a local time": func(l *evidence.Leaf) { l.Time = l.Time.In(time.FixedZone("", 3600)) },
			"no workspace": func(l *evidence.Leaf) { l.Workspace = "" },
			"the other kind of place": func(l *evidence.Leaf) {
				if l.Chain == nil {
					l.Chain = &evidence.Chain{ID: digestOf("c"), Sequence: 1}
				} else {
					l.Chain = nil
				}
			},
			"no body": func(l *evidence.Leaf) { l.Body = nil },
		} {
			bad := leaf
			edit(&bad)
			if _, err := bad.Entry(); evidence.CodeOf(err) != evidence.CodeInvalid {
				t.Errorf("%s with %s: %v", leaf.Body.Type(), name, err)
			}
		}
	}
	for _, body := range oddBodies() {
		leaf := oddLeaf(body)
		if _, err := leaf.Entry(); evidence.CodeOf(err) != evidence.CodeInvalid || !strings.Contains(err.Error(), "body") {
			t.Errorf("%#v: %v", body, err)
		}
	}
	for name, data := range leafTexts(t) {
		if _, err := evidence.ParseLeaf([]byte(data)); evidence.CodeOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestIDsDoNotMeet(t *testing.T) {
	t.Parallel()
	salt := seed("salt")
	ids := []evidence.Digest{
		evidence.ChainID(salt, repositoryUUID, 1), evidence.ChainID(salt, repositoryUUID, 11), evidence.ChainID(salt, workspaceUUID, 1),
		evidence.ChainID(seed("another"), repositoryUUID, 1), evidence.RepositoryID(salt, repositoryUUID), evidence.WorkspaceID(salt, repositoryUUID),
		evidence.BranchID(salt, repositoryUUID, "main"), evidence.BranchID(salt, repositoryUUID, "1"), evidence.BranchID(salt, workspaceUUID, "main"),
	}
	seen := map[evidence.Digest]bool{}
	for i, id := range ids {
		if !id.Valid() || seen[id] {
			t.Errorf("id %d is %s", i, id)
		}
		seen[id] = true
	}
	if evidence.ChainID(salt, repositoryUUID, 1) != ids[0] {
		t.Error("an id is not the same twice")
	}
}

func TestCheckChain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.story()
	got, err := evidence.CheckChain(w.entries)
	if err != nil || len(got) != len(w.entries) {
		t.Fatalf("%d leaves, %v", len(got), err)
	}
	if empty, err := evidence.CheckChain(nil); err != nil || len(empty) != 0 {
		t.Errorf("an empty chain: %v", err)
	}
	rapid.Check(t, func(t *rapid.T) {
		i := rapid.IntRange(0, len(w.entries)-1).Draw(t, "i")
		j := rapid.IntRange(0, len(w.entries)-1).Draw(t, "j")
		bad := append([][]byte{}, w.entries...)
		what := rapid.SampledFrom([]string{"leave out", "repeat", "exchange", "change", "foreign"}).Draw(t, "what")
		switch what {
		case "leave out":
			if i == len(bad)-1 {
				return // what came last nobody can miss
			}
			bad = append(bad[:i:i], bad[i+1:]...)
		case "repeat":
			bad = append(bad[:i+1:i+1], bad[i:]...)
		case "exchange":
			if i == j {
				return
			}
			bad[i], bad[j] = bad[j], bad[i]
		case "change":
			if i == len(bad)-1 {
				return
			}
			leaf, err := evidence.ParseLeaf(bad[i])
			if err != nil {
				t.Fatal(err)
			}
			leaf.Time = leaf.Time.Add(time.Second)
			if bad[i], err = leaf.Entry(); err != nil {
				t.Fatal(err)
			}
		case "foreign":
			foreign, err := leaves()[len(leaves())-1].Entry()
			if err != nil {
				t.Fatal(err)
			}
			bad[i] = foreign
		}
		if _, err := evidence.CheckChain(bad); evidence.CodeOf(err) != evidence.CodeChain {
			t.Fatalf("%s %d %d: %v", what, i, j, err)
		}
	})
}
