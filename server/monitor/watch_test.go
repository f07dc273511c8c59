package monitor_test

import (
	"crypto/rand"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	formats "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/monitor"
)

// TestAQuietLogThatGrows follows a log across the boundaries of tiles and levels, in new processes each time, and finds
// nothing; it never reads again what it read.
func TestAQuietLogThatGrows(t *testing.T) {
	t.Parallel()
	o, a := newOperator(t), newAuditor(t)
	o.publish()
	a.quiet(o)
	o.genesis()
	o.publish()
	a.quiet(o)
	for n, to := range []int{1, 28, 29, 57, 120} {
		o.story([]int{0, 1, 28, 29, 57}[n], to)
		o.publish()
		a.quiet(o)
		a.quiet(o)
	}
	if want := int64(len(o.entries)); a.read[len(a.read)-1] != want || want < 1000 {
		t.Errorf("it read %v, of %d leaves", a.read, want)
	}
	if again := slices.Index(o.asked[slices.Index(o.asked, "/log/tile/entries/002"):], "/log/tile/entries/000"); again >= 0 {
		t.Error("what was read was read again")
	}
}

func TestALogOf66000Leaves(t *testing.T) {
	t.Parallel()
	o, a := newOperator(t), newAuditor(t)
	o.genesis()
	o.say(evidence.Connection{Event: "made"})
	for len(o.entries) < 65_530 {
		o.raw(o.entries[1])
	}
	o.publish()
	a.quiet(o)
	o.story(0, 20)
	o.publish()
	a.quiet(o)
}

// TestHistories has one forged history for each alarm, written by whoever has the log's key and the database.
func TestHistories(t *testing.T) {
	t.Parallel()
	const request = "req-9"
	for name, c := range map[string]struct {
		forge func(o *operator)
		want  []monitor.Code
	}{
		"bytes that are no leaf": {func(o *operator) { o.raw([]byte(`{"format":"other"}`)) }, []monitor.Code{monitor.LeafUnreadable}},
		"a leaf that is left out": {func(o *operator) {
			c := o.chain(9).say(opened(request))
			c.next++
			c.say(verdict(request, "PENDING"))
		}, []monitor.Code{monitor.ChainGap}},
		"a chain that begins late": {func(o *operator) {
			c := o.chain(9)
			c.next, c.last = 4, digest
			c.say(checked("REJECTED", request))
		}, []monitor.Code{monitor.ChainGap}},
		"a rejection hidden by a second history": {func(o *operator) {
			c := o.chain(9).say(opened(request), made(request))
			other := *c
			c.say(verdict(request, "REJECTED"))
			other.say(verdict(request, "APPROVED"))
		}, []monitor.Code{monitor.ChainFork}},
		"a leaf that is of another workspace": {func(o *operator) {
			c := o.chain(9).say(opened(request))
			elsewhere := evidence.WorkspaceID(salt, "another")
			o.write(evidence.Leaf{Workspace: elsewhere, Body: evidence.Genesis{Salt: digest}})
			o.write(evidence.Leaf{Workspace: elsewhere, Chain: &evidence.Chain{ID: c.id, Sequence: 2, Previous: c.last}, Body: verdict(request, "PENDING")})
		}, []monitor.Code{monitor.ChainFork}},
		"a chain that begins twice": {func(o *operator) {
			o.chain(9).say(opened(request))
			o.chain(9).say(opened(request))
		}, []monitor.Code{monitor.ChainFork}},
		"a leaf that follows another one": {func(o *operator) {
			c := o.chain(9).say(opened(request))
			c.last = digest
			c.say(verdict(request, "PENDING"))
		}, []monitor.Code{monitor.ChainFork}},
		"a backdated leaf": {func(o *operator) {
			o.write(evidence.Leaf{Time: o.now.Add(-late - time.Minute), Body: evidence.Connection{Event: "made"}})
		}, []monitor.Code{monitor.TimeBackwards}},
		"a leaf of tomorrow": {func(o *operator) {
			o.write(evidence.Leaf{Time: o.now.Add(24 * time.Hour), Body: evidence.Connection{Event: "made"}})
			o.story(20, 22) // is not blamed
		}, []monitor.Code{monitor.TimeAhead}},
		"a yes without a verdict": {func(o *operator) {
			o.chain(9).say(opened(request), checked(evidence.CheckApproved, request))
		}, []monitor.Code{monitor.UnfoundedYes}},
		"a yes against a rejection": {func(o *operator) {
			o.chain(9).say(opened(request), made(request), verdict(request, "APPROVED"), verdict(request, "REJECTED"), checked(evidence.CheckApproved, request))
		}, []monitor.Code{monitor.UnfoundedYes}},
		"a yes for another request": {func(o *operator) {
			o.chain(9).say(opened(request), made(request), verdict(request, "APPROVED"), checked(evidence.CheckApproved, "req-1"))
		}, []monitor.Code{monitor.UnfoundedYes}},
		"a yes for a request that ended": {func(o *operator) {
			o.chain(9).say(opened(request), made(request), verdict(request, "APPROVED"), evidence.RequestClosed{Request: request, Reason: "superseded"}, checked(evidence.CheckApproved, request))
		}, []monitor.Code{monitor.UnfoundedYes}},
		"a yes because no rule asks, while a request is open": {func(o *operator) {
			o.chain(9).say(opened(request), checked(evidence.CheckNoRule, ""))
		}, []monitor.Code{monitor.UnfoundedYes}},
		"a yes by an override that was none": {func(o *operator) {
			o.chain(9).say(opened(request), made(request), verdict(request, "APPROVED"), checked(evidence.CheckOverridden, request))
		}, []monitor.Code{monitor.UnfoundedYes}},
		"a yes because no rule asks": {func(o *operator) { o.chain(9).say(checked(evidence.CheckNoRule, "")) }, nil},
		"a yes by a signed override": {func(o *operator) {
			o.chain(9).say(opened(request), made(request), verdict(request, "OVERRIDDEN"), checked(evidence.CheckOverridden, request))
		}, nil},
		"green without a verdict": {func(o *operator) { o.chain(9).say(opened(request), verdict(request, "PENDING"), green(request)) }, []monitor.Code{monitor.UnfoundedGreen}},
		"green that came late": {func(o *operator) {
			o.chain(9).say(opened(request), made(request), verdict(request, "APPROVED"), verdict(request, "REJECTED"), green(request))
		}, nil},
		"green for a request that nobody opened": {func(o *operator) { o.chain(9).say(opened(request), verdict(request, "PENDING"), green("req-1")) }, []monitor.Code{monitor.UnfoundedGreen}},
		"green for a request that ended unapproved": {func(o *operator) {
			o.chain(9).say(opened(request), verdict(request, "PENDING"), closed(request, "superseded"), green(request))
		}, []monitor.Code{monitor.UnfoundedGreen}},
		"green that was owed when its request ended": {func(o *operator) {
			o.chain(9).say(opened(request), made(request), verdict(request, "APPROVED"), closed(request, "superseded"), opened("req-10"), green(request))
		}, nil},
		"approved by nobody": {func(o *operator) { o.chain(9).say(opened(request), verdict(request, "APPROVED")) }, []monitor.Code{monitor.UnfoundedVerdict}},
		"overridden by somebody before": {func(o *operator) {
			o.chain(9).say(opened(request), made(request), closed(request, "superseded"), opened("req-10"), verdict("req-10", "OVERRIDDEN"))
		}, []monitor.Code{monitor.UnfoundedVerdict}},
		"approved after it expired": {func(o *operator) {
			o.chain(9).say(opened(request), made(request), verdict(request, "EXPIRED"), verdict(request, "APPROVED"))
		}, []monitor.Code{monitor.UnfoundedVerdict}},
		"expired and asked again": {func(o *operator) {
			o.chain(9).say(opened(request), verdict(request, "EXPIRED"), closed(request, "superseded"), opened("req-10"), made("req-10"), verdict("req-10", "APPROVED"))
		}, nil},
		"a decision on what is not open": {func(o *operator) { o.chain(9).say(opened(request), made("req-1")) }, []monitor.Code{monitor.UnfoundedDecision}},
		"a decision on what was closed": {func(o *operator) {
			o.chain(9).say(opened(request), made(request), verdict(request, "APPROVED"), closed(request, "superseded"), made(request))
		}, []monitor.Code{monitor.UnfoundedDecision}},
		"a decision on what was merged": {func(o *operator) {
			o.chain(9).say(opened(request), made(request), verdict(request, "APPROVED"), merged(request, "approved"), made(request))
		}, []monitor.Code{monitor.UnfoundedDecision}},
		"a verdict on what is not open": {func(o *operator) { o.chain(9).say(opened(request), verdict("req-1", "PENDING")) }, []monitor.Code{monitor.UnfoundedVerdict}},
		"a request opened over another": {func(o *operator) { o.chain(9).say(opened(request), opened("req-10")) }, []monitor.Code{monitor.RequestUnclosed}},
		"a yes behind a rejection": {func(o *operator) {
			o.chain(9).say(opened(request), made(request), verdict(request, "APPROVED"), made(request), checked(evidence.CheckApproved, request), verdict(request, "REJECTED"))
		}, []monitor.Code{monitor.UnfoundedYes}},
		"a yes behind one more approval": {func(o *operator) {
			o.chain(9).say(opened(request), made(request), verdict(request, "APPROVED"), made(request), checked(evidence.CheckApproved, request), verdict(request, "APPROVED"), merged(request, "approved"))
		}, nil},
		"a yes before a rejection": {func(o *operator) {
			o.chain(9).say(opened(request), made(request), verdict(request, "APPROVED"), made(request), checked(evidence.CheckApproved, request), made(request), verdict(request, "REJECTED"))
		}, nil},
		"a merge of nothing told as approved": {func(o *operator) { o.chain(9).say(merged("", "approved")) }, []monitor.Code{monitor.Violation}},
		"a merge told as approved elsewhere":  {func(o *operator) { o.chain(9).say(opened(request), merged("req-1", "approved")) }, []monitor.Code{monitor.Violation}},
		"a merge told as of no request":       {func(o *operator) { o.chain(9).say(opened(request), merged("", "override")) }, []monitor.Code{monitor.Violation}},
		"a merge of what was rejected": {func(o *operator) {
			o.chain(9).say(opened(request), made(request), verdict(request, "APPROVED"), made(request), verdict(request, "REJECTED"), merged(request, "approved"))
		}, []monitor.Code{monitor.Violation}},
		"a merge behind a decision without a verdict": {func(o *operator) {
			o.chain(9).say(opened(request), made(request), verdict(request, "APPROVED"), made(request), merged(request, "approved"))
		}, []monitor.Code{monitor.Violation}},
		"a merge of what was superseded": {func(o *operator) {
			o.chain(9).say(opened(request), made(request), verdict(request, "APPROVED"), closed(request, "superseded"), merged(request, "approved"))
		}, []monitor.Code{monitor.Violation}},
		"a merge that was seen after the pull request was gone": {func(o *operator) {
			o.chain(9).say(opened(request), made(request), verdict(request, "APPROVED"), closed(request, "cancelled"), merged(request, "approved"))
		}, nil},
		"a merge of what was rejected and cancelled": {func(o *operator) {
			o.chain(9).say(opened(request), made(request), verdict(request, "APPROVED"), made(request), verdict(request, "REJECTED"), closed(request, "cancelled"), merged(request, "approved"))
		}, []monitor.Code{monitor.Violation}},
		"a merge of what was cancelled behind a decision without a verdict": {func(o *operator) {
			o.chain(9).say(opened(request), made(request), verdict(request, "APPROVED"), made(request), closed(request, "cancelled"), merged(request, "approved"))
		}, []monitor.Code{monitor.Violation}},
		"an override told as an approval": {func(o *operator) {
			o.chain(9).say(opened(request), made(request), verdict(request, "OVERRIDDEN"), merged(request, "approved"))
		}, []monitor.Code{monitor.Violation}},
		"an override that was approved meanwhile": {func(o *operator) {
			o.chain(9).say(opened(request), made(request), verdict(request, "OVERRIDDEN"), made(request), verdict(request, "APPROVED"), merged(request, "override"))
		}, nil},
		"one commit merged twice": {func(o *operator) {
			o.chain(9).say(opened(request), made(request), verdict(request, "APPROVED"), merged(request, "approved"), merged(request, "approved"))
		}, nil},
		"another commit merged besides": {func(o *operator) {
			o.chain(9).say(opened(request), made(request), verdict(request, "APPROVED"), merged(request, "approved"),
				evidence.Merged{Request: request, Kind: "approved", Commit: strings.Repeat("9", 40)})
		}, []monitor.Code{monitor.Violation}},
		"green for a request named like what landed": {func(o *operator) {
			o.chain(9).say(opened(request), made(request), verdict(request, "APPROVED"), merged(request, "approved"), green(commit))
		}, []monitor.Code{monitor.UnfoundedGreen}},
		"a merge around the gate":     {func(o *operator) { o.chain(9).say(opened(request), merged(request, "violation")) }, []monitor.Code{monitor.Violation}},
		"a violation told as a merge": {func(o *operator) { o.chain(9).say(opened(request), merged(request, "approved")) }, []monitor.Code{monitor.Violation}},
		"a policy's version left out": {func(o *operator) {
			o.say(evidence.PolicyVersion{Repository: digest, Version: 1, Policy: digest})
			o.say(evidence.PolicyVersion{Repository: digest, Version: 3, Policy: digest})
		}, []monitor.Code{monitor.VersionGap}},
		"a roster's version twice": {func(o *operator) {
			o.say(evidence.RosterVersion{Version: 1, Roster: digest})
			o.say(evidence.RosterVersion{Version: 1, Roster: evidence.Digest(strings.Repeat("0", 64))})
		}, []monitor.Code{monitor.VersionGap}},
		"a protection that begins late": {func(o *operator) {
			o.say(evidence.ProtectionSet{Version: 2, Protection: digest, Acts: []evidence.Digest{}})
		}, []monitor.Code{monitor.VersionGap}},
		"a second genesis": {func(o *operator) { o.genesis() }, []monitor.Code{monitor.GenesisTwice}},
		"a workspace without a genesis": {func(o *operator) {
			o.write(evidence.Leaf{Workspace: digest, Body: evidence.Connection{Event: "made"}})
			o.write(evidence.Leaf{Workspace: digest, Body: evidence.Connection{Event: "ended"}})
		}, []monitor.Code{monitor.GenesisMissing}},
		"a ghost key": {func(o *operator) {
			o.about(evidence.KeyEnrolled{Person: "per-bob", Key: digest, AttestationObject: digest, ClientData: digest, IdentifiedBy: "own-key", Enrolment: digest})
		}, []monitor.Code{monitor.UnknownKey}},
		"a log-in of somebody who has a key": {func(o *operator) {
			o.about(evidence.KeyEnrolled{Person: "per-carol", Key: digest, AttestationObject: digest, ClientData: digest, IdentifiedBy: "bitbucket-login"})
			o.about(evidence.KeyEnrolled{Person: "per-carol", Key: newToken("per-carol", "ghost").digest(o.t), AttestationObject: digest, ClientData: digest, IdentifiedBy: "bitbucket-login"})
		}, []monitor.Code{monitor.SecondLogIn}},
		"a log-in of somebody who had a key that somebody else vouched for": {func(o *operator) {
			o.about(evidence.KeyEnrolled{Person: "per-carol", Key: digest, AttestationObject: digest, ClientData: digest, IdentifiedBy: "countersigner", Enrolment: digest})
			o.about(evidence.KeyRevoked{Person: "per-carol", Key: digest})
			o.about(evidence.KeyEnrolled{Person: "per-carol", Key: newToken("per-carol", "ghost").digest(o.t), AttestationObject: digest, ClientData: digest, IdentifiedBy: "bitbucket-login"})
		}, []monitor.Code{monitor.SecondLogIn}},
		"further keys that an own one and somebody else vouched for": {func(o *operator) {
			for name, by := range map[string]string{"first": "bitbucket-login", "second": "own-key", "third": "countersigner"} {
				o.about(evidence.KeyEnrolled{Person: "per-" + name, Key: newToken("per-"+name, name).digest(o.t), AttestationObject: digest, ClientData: digest, IdentifiedBy: "bitbucket-login"})
				if name != "first" {
					o.about(evidence.KeyEnrolled{Person: "per-" + name, Key: newToken("per-"+name, "again").digest(o.t), AttestationObject: digest, ClientData: digest, IdentifiedBy: by, Enrolment: digest})
				}
			}
		}, nil},
		"a key that bob knows, and one of carol's": {func(o *operator) {
			o.about(evidence.KeyEnrolled{Person: "per-bob", Key: newToken("per-bob", "bob").digest(o.t), AttestationObject: digest, ClientData: digest, IdentifiedBy: "bitbucket-login"})
			o.about(evidence.KeyEnrolled{Person: "per-carol", Key: digest, AttestationObject: digest, ClientData: digest, IdentifiedBy: "bitbucket-login"})
			o.about(evidence.KeyRevoked{Person: "per-carol", Key: digest})
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, a := newOperator(t), newAuditor(t)
			a.change = func(options *monitor.Options) {
				options.Mine = &monitor.Mine{People: []string{"per-bob"}, Keys: []evidence.Digest{newToken("per-bob", "bob").digest(t)}}
			}
			o.genesis()
			o.story(0, 5)
			c.forge(o)
			o.story(5, 7)
			o.publish()
			found, err := a.pass(o, o)
			if err != nil || !slices.Equal(codes(found), c.want) {
				t.Fatalf("found %v, %v, want %v", found, err, c.want)
			}
			a.quiet(o) // a finding is told once
		})
	}
}

// TestWhatComesLateIsNoticed looks at what an honest server writes after a request has ended.
func TestWhatComesLateIsNoticed(t *testing.T) {
	t.Parallel()
	o, a := newOperator(t), newAuditor(t)
	o.genesis()
	o.chain(1).say(opened("a"), made("a"), verdict("a", "APPROVED"), closed("a", "superseded"), opened("b"), closed("b", "superseded"), opened("c"), green("a"))
	o.chain(2).say(opened("d"), made("d"), verdict("d", "APPROVED"), closed("d", "cancelled"), merged("d", "approved"))
	o.publish()
	found, err := a.pass(o, o)
	var got []monitor.Code
	for _, f := range found {
		if !f.Notice {
			t.Errorf("an alarm: %s", f)
		}
		got = append(got, f.Code)
	}
	slices.Sort(got)
	if err != nil || !slices.Equal(got, []monitor.Code{monitor.LateGreen, monitor.LateMerge}) {
		t.Errorf("found %v, %v", found, err)
	}
}

// TestANoticeIsNoAlarm looks at what is said of a key that is known by a log-in only.
func TestANoticeIsNoAlarm(t *testing.T) {
	t.Parallel()
	o, a := newOperator(t), newAuditor(t)
	o.genesis()
	o.about(evidence.KeyEnrolled{Person: "per-carol", Key: digest, AttestationObject: digest, ClientData: digest, IdentifiedBy: "bitbucket-login"})
	o.about(evidence.KeyRevoked{Person: "per-carol", Key: digest})
	o.publish()
	found, err := a.pass(o, o)
	if err != nil || len(found) != 2 || !found[0].Notice || found[1].Code != monitor.LogInKey || found[0].Code != monitor.KeyRevokedByOperator {
		t.Errorf("found %v, %v", found, err)
	}
}

// TestALateLeaf publishes without a leaf, and then with it, at the time at which it ought to have been there.
func TestALateLeaf(t *testing.T) {
	t.Parallel()
	o, a := newOperator(t), newAuditor(t)
	o.genesis()
	o.publish()
	when := o.now
	a.now = when.Add(time.Hour) // the monitor looks, and nothing is there
	a.quiet(o)
	o.now = when.Add(30 * time.Minute)
	o.say(evidence.Connection{Event: "made"})
	o.publish()
	a.now = when.Add(2 * time.Hour)
	if found, err := a.pass(o, o); err != nil || !slices.Equal(codes(found), []monitor.Code{monitor.LateLeaf}) {
		t.Errorf("found %v, %v", found, err)
	}
}

// TestARestartInTheMiddle kills the reading of a long log in its middle, lets the log grow, and goes on in a new process.
func TestARestartInTheMiddle(t *testing.T) {
	t.Parallel()
	o, a := newOperator(t), newAuditor(t)
	o.genesis()
	o.story(0, 1000)
	fork := o.chain(500)
	fork.next = 3
	fork.last = digest
	fork.say(verdict("req-500", "APPROVED"))
	o.publish()
	o.lie = func(path string, body []byte) (int, []byte) {
		if path == "/log/tile/entries/020" {
			return http.StatusGone, nil
		}
		return http.StatusOK, body
	}
	found, err := a.pass(o, o)
	var refused *monitor.Refused
	if !errors.As(err, &refused) || len(found) > 0 {
		t.Fatalf("found %v, %v", found, err)
	}
	middle := a.read[len(a.read)-1]
	if middle == 0 || middle >= 20*256 {
		t.Fatalf("it read %v", a.read)
	}
	// What a process had written that was killed before it was sure of it.
	file, err := os.OpenFile(filepath.Join(a.folder, "leaves"), os.O_APPEND|os.O_WRONLY, 0)
	o.must(err)
	_, err = file.WriteString("half of a hash")
	o.must(errors.Join(err, file.Close()))
	o.lie, o.asked = nil, nil
	o.story(1000, 1200)
	o.publish()
	found, err = a.pass(o, o)
	if err != nil || !slices.Equal(codes(found), []monitor.Code{monitor.ChainFork}) {
		t.Fatalf("found %v, %v", found, err)
	}
	if slices.Contains(o.asked, "/log/tile/entries/000") {
		t.Error("it began again")
	}
	a.quiet(o)
}

// TestAFindingIsToldAgainAfterAFailure fails to hand a finding out, as when the process is killed before it is printed.
func TestAFindingIsToldAgainAfterAFailure(t *testing.T) {
	t.Parallel()
	o, a := newOperator(t), newAuditor(t)
	o.genesis()
	o.chain(1).say(opened("req-1"), merged("req-1", "violation"))
	o.publish()
	broken := errors.New("broken pipe")
	a.change = func(options *monitor.Options) { options.Tell = func(monitor.Finding) error { return broken } }
	if _, err := a.pass(o, o); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	a.change = nil
	if found, err := a.pass(o, o); err != nil || !slices.Equal(codes(found), []monitor.Code{monitor.Violation}) {
		t.Errorf("found %v, %v", found, err)
	}
}

// proved reads the notes that a finding keeps as proof, and checks that the log's key signed both.
func proved(t *testing.T, o *operator, f monitor.Finding) (kept, shown monitor.Checkpoint) {
	t.Helper()
	for name, into := range map[string]*monitor.Checkpoint{"kept.checkpoint": &kept, "shown.checkpoint": &shown} {
		signed, err := os.ReadFile(filepath.Join(f.Proof, name))
		o.must(err)
		*into, err = monitor.Open(signed, o.anchors())
		o.must(err)
	}
	return kept, shown
}

// TestTheLogIsRolledBack shows an older log, which was the log once, and another one of that size.
func TestTheLogIsRolledBack(t *testing.T) {
	t.Parallel()
	o, a := newOperator(t), newAuditor(t)
	o.genesis()
	o.story(0, 40)
	o.publish()
	old := o.twin()
	other := o.twin()
	o.story(40, 41)
	o.publish()
	a.quiet(o)
	for range 2 { // as long as it lasts
		found, err := a.pass(old, old)
		if err != nil || !slices.Equal(codes(found), []monitor.Code{monitor.Rollback}) {
			t.Fatalf("found %v, %v", found, err)
		}
		if kept, shown := proved(t, o, found[0]); kept.N != int64(len(o.entries)) || shown.N != int64(len(old.entries)) {
			t.Errorf("the proof is of %d and %d", kept.N, shown.N)
		}
	}
	other.raw([]byte("another leaf"))
	other.publish()
	if found, err := a.pass(other, other); err != nil || !slices.Equal(codes(found), []monitor.Code{monitor.Fork}) {
		t.Errorf("a shorter log that never was: %v, %v", found, err)
	}
	a.quiet(o)
}

// TestTheLogIsForked shows a monitor another log than before, of the same and of a larger size.
func TestTheLogIsForked(t *testing.T) {
	t.Parallel()
	o, a := newOperator(t), newAuditor(t)
	o.genesis()
	o.story(0, 60)
	other := o.twin()
	o.story(60, 61)
	o.publish()
	a.quiet(o)
	other.story(61, 62)
	other.publish()
	for _, size := range []string{"same", "larger"} {
		found, err := a.pass(other, other)
		if err != nil || !slices.Equal(codes(found), []monitor.Code{monitor.Fork}) {
			t.Fatalf("%s size: found %v, %v", size, found, err)
		}
		if kept, shown := proved(t, o, found[0]); kept.Hash == shown.Hash {
			t.Error("the proof shows no fork")
		}
		other.story(62, 100)
		other.publish()
	}
	o.story(61, 62)
	o.publish()
	a.quiet(o) // the log that it knows, it still follows
}

// TestTheServerLies changes what the server says about a log that is right.
func TestTheServerLies(t *testing.T) {
	t.Parallel()
	stranger := newOperator(t)
	flip := func(prefix string) func(path string, body []byte) (int, []byte) {
		return func(path string, body []byte) (int, []byte) {
			if strings.HasPrefix(path, prefix) && len(body) > 40 {
				body = slices.Clone(body)
				body[len(body)-3] ^= 1
			}
			return http.StatusOK, body
		}
	}
	for name, c := range map[string]struct {
		lie  func(path string, body []byte) (int, []byte)
		want monitor.Code
	}{
		"a checkpoint by another key": {func(path string, body []byte) (int, []byte) {
			if path == "/log/checkpoint" {
				stranger.publish()
				body = stranger.note
			}
			return http.StatusOK, body
		}, monitor.Unsigned},
		"a changed checkpoint": {func(path string, body []byte) (int, []byte) {
			if path == "/log/checkpoint" {
				body = []byte(strings.Replace(string(body), "\n5", "\n6", 1))
			}
			return http.StatusOK, body
		}, monitor.Unsigned},
		"a changed tile":         {flip("/log/tile/1/"), monitor.TilesWrong},
		"a changed partial tile": {flip("/log/tile/0/"), monitor.TilesWrong},
		"a changed entry":        {flip("/log/tile/entries/000"), monitor.EntriesWrong},
		"a changed last entry":   {flip("/log/tile/entries/002.p/"), monitor.EntriesWrong},
		"an entry too few": {func(path string, body []byte) (int, []byte) {
			if strings.HasPrefix(path, "/log/tile/entries/001") {
				body = body[:len(body)-10]
			}
			return http.StatusOK, body
		}, monitor.EntriesWrong},
		"an entry too many": {func(path string, body []byte) (int, []byte) {
			if strings.HasPrefix(path, "/log/tile/entries/001") {
				body = append(slices.Clone(body), 0, 1, 'x')
			}
			return http.StatusOK, body
		}, monitor.EntriesWrong},
		"a tile that is too short": {func(path string, body []byte) (int, []byte) {
			if strings.HasPrefix(path, "/log/tile/1/") {
				body = body[:32]
			}
			return http.StatusOK, body
		}, monitor.TilesWrong},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, a := newOperator(t), newAuditor(t)
			o.genesis()
			o.story(0, 60) // two tiles and a part
			o.publish()
			o.lie = c.lie
			for range 2 {
				if found, err := a.pass(o, o); err != nil || !slices.Equal(codes(found), []monitor.Code{c.want}) {
					t.Fatalf("found %v, %v, want %v", found, err, c.want)
				}
			}
			o.lie = nil
			a.quiet(o)
		})
	}
}

// TestALogThatCannotBeFollowed has servers that give no checkpoint: that is no statement about the log.
func TestALogThatCannotBeFollowed(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]http.HandlerFunc{
		"nothing published": http.NotFound,
		"another page": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("<html>sign in to the network</html>"))
		},
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.example/", http.StatusFound)
		},
	} {
		o, a := newOperator(t), newAuditor(t)
		if found, err := a.pass(o, handler); err == nil || len(found) > 0 {
			t.Errorf("%s: %v, %v", name, found, err)
		}
	}
}

// TestWitnesses demands two cosignatures of three.
func TestWitnesses(t *testing.T) {
	t.Parallel()
	o, a := newOperator(t), newAuditor(t)
	o.genesis()
	o.publish()
	var signers []*formats.Signer
	var keys []string
	for _, name := range []string{"one.example", "two.example", "three.example"} {
		private, public, err := note.GenerateKey(rand.Reader, name)
		o.must(err)
		signer, err := formats.NewSignerForCosignatureV1(private)
		o.must(err)
		key, err := formats.VKeyToCosignatureV1(public)
		o.must(err)
		signers, keys = append(signers, signer), append(keys, key)
	}
	a.change = func(options *monitor.Options) {
		options.Anchors.Witnesses = &evidence.WitnessPolicy{Quorum: 2, Keys: keys}
	}
	cosign := func(signers ...*formats.Signer) []byte {
		verifier, err := formats.NewVerifier(o.keys.Verifiers()[0])
		o.must(err)
		opened, err := note.Open(o.note, note.VerifierList(verifier))
		o.must(err)
		var list []note.Signer
		for _, s := range signers {
			list = append(list, s)
		}
		signed, err := note.Sign(opened, list...)
		o.must(err)
		return signed
	}
	plain := o.note
	for name, served := range map[string][]byte{
		"none": plain, "one": cosign(signers[0]), "one twice": append(cosign(signers[0]), cosign(signers[0])[len(plain):]...),
	} {
		o.note = served
		if found, err := a.pass(o, o); err != nil || !slices.Equal(codes(found), []monitor.Code{monitor.Unwitnessed}) {
			t.Errorf("%s: %v, %v", name, found, err)
		}
	}
	o.note = cosign(signers[2], signers[0])
	a.quiet(o)
}

func TestAStateBelongsToOneLogAndOneMonitor(t *testing.T) {
	t.Parallel()
	o, a := newOperator(t), newAuditor(t)
	o.genesis()
	o.publish()
	a.quiet(o)
	state, err := monitor.OpenState(a.folder, false)
	o.must(err)
	defer state.Close()
	if _, err := monitor.OpenState(a.folder, false); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second monitor: %v", err)
	}
	anchors := o.anchors()
	anchors.Log.Origin = "other.example/log"
	if _, err := monitor.New(monitor.Options{State: state, Anchors: anchors}); err == nil {
		t.Error("a state of another log was taken")
	}
	if _, err := monitor.New(monitor.Options{State: state}); err == nil {
		t.Error("a monitor without a pinned log was made")
	}
}

func TestAStateThatLostHashesIsRefused(t *testing.T) {
	t.Parallel()
	o, a := newOperator(t), newAuditor(t)
	o.genesis()
	o.story(0, 3)
	o.publish()
	a.quiet(o)
	o.must(os.Truncate(filepath.Join(a.folder, "leaves"), 32))
	if state, err := monitor.OpenState(a.folder, false); err == nil {
		t.Errorf("it was opened: %v", state.Close())
	}
}
