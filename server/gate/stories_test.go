package gate_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/internal/fault"
	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/attest"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/monitor"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/tiles"
)

var (
	stories   = flag.Int("stories", 10, "how many random stories are told")
	storySeed = flag.Uint64("story", 1, "the seed of the first story")
)

// TestStories tells random stories of a pull request by an honest server, and looks at what it wrote as strangers do: the
// evidence of every request verifies, the audit lists what landed as it was merged, and a monitor with the workspace's openings
// alarms on nothing but merges that nobody approved.
func TestStories(t *testing.T) {
	t.Parallel()
	for i := range *stories {
		seed := *storySeed + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := &story{world: newCrew(t), rand: rand.New(rand.NewPCG(seed, 0))}
			s.administrator()
			defer func() {
				if t.Failed() {
					t.Logf("-story %d:\n%s", seed, strings.Join(s.told, "\n"))
				}
			}()
			s.tell()
			s.verify()
			s.monitor(s.list())
		})
	}
}

type story struct {
	*world
	rand   *rand.Rand
	number int64
	told   []string
	stolen []string // whose key was
	merged bool
}

func (s *story) note(format string, args ...any) {
	s.told = append(s.told, fmt.Sprintf(format, args...))
}

func (s *story) one(of ...string) string { return of[s.rand.IntN(len(of))] }

// tell has things happen to a pull request, mostly one while the jobs of the one before still wait.
func (s *story) tell() {
	s.govern()
	s.number = s.open()
	s.drain()
	for range 18 {
		s.happens()
		if s.rand.IntN(3) > 0 {
			s.drain()
			if v := s.view(s.number); v.Request != nil {
				s.note("  so it is %s: %s", v.Request.State, v.Request.Sentence)
			}
		}
	}
	if s.rand.IntN(2) > 0 {
		s.merge()
	}
	s.event(s.number)
	s.drainAll()
}

// govern sets new rules, the same for both branches.
func (s *story) govern() {
	rule := s.rule(1, "bob", "carol")
	switch s.rand.IntN(4) {
	case 0:
		rule = s.rule(2, "bob", "carol", "dave")
	case 1:
		rule = s.breakable(1, "carol")
	case 2:
		rule = s.breakable(2, "carol", "dave")
	}
	other := rule
	other.Name, other.Branches = "Main", []string{"main"}
	s.save(rule, other)
	s.note("a rule for %d", rule.Requirements[0].Quorum)
}

func (s *story) happens() {
	who := s.one("bob", "carol", "dave")
	switch n := s.rand.IntN(20); {
	case n < 6:
		s.decides(who, approval.Approve)
	case n < 8:
		s.decides(who, approval.Reject)
	case n < 11:
		s.decides(who, approval.Withdraw)
	case n < 13:
		s.decides(who, approval.Override)
	case n == 13 && !s.merged:
		s.push(fmt.Sprintf("%d.txt", len(s.told)), "x")
		s.event(s.number)
		s.note("a push")
	case n == 14 && !s.merged:
		branch := s.one("main", release)
		s.edit(s.number, map[string]any{"destination": map[string]any{"branch": map[string]any{"name": branch}}})
		s.event(s.number)
		s.note("into %s", branch)
	case n == 15:
		s.govern()
	case n == 16:
		s.disappears()
	case n == 17 && len(s.stolen) == 0:
		s.stolen = append(s.stolen, who)
		s.reportStolen(who, func(p *person, stolen []byte) {
			if s.rand.IntN(2) > 0 {
				_, err := s.keys.RevokePasskey(s.t.Context(), p.Person, stolen)
				s.must(err)
				s.drain()
				s.note("%s's key was revoked", who)
			}
		})
		s.note("%s's key was stolen an hour ago", who)
	case n == 18 && !s.merged:
		for _, draft := range []bool{true, false} {
			s.edit(s.number, map[string]any{"draft": draft})
			s.event(s.number)
			s.drain()
		}
		s.note("a draft for a while")
	case n == 19 && s.rand.IntN(3) == 0 && !s.merged:
		s.merge()
	default:
		s.note("the merge check says %s", s.mergeCheck(s.number).Code)
	}
}

func (s *story) decides(who string, action approval.Action) {
	s.note("%s decides %s: %v", who, action, s.decided(who, action))
}

func (s *story) decided(who string, action approval.Action) error {
	if action == approval.Override {
		_, err := s.override(s.number, who, "the house burns")
		return err
	}
	_, err := s.decide(s.number, who, action)
	return err
}

// disappears has Bitbucket deny the pull request for a look.
func (s *story) disappears() {
	_, err := s.sim.AddFault(bitbucketsim.Fault{Method: http.MethodGet, Path: `/pullrequests/\d+$`, Status: http.StatusNotFound, Times: 1})
	s.must(err)
	s.event(s.number)
	s.drain()
	s.sim.ClearFaults()
	s.event(s.number)
	s.note("it was gone for a moment")
}

// merge merges, sometimes while somebody decides.
func (s *story) merge() {
	if s.merged {
		return
	}
	s.merged = true
	if s.rand.IntN(2) > 0 {
		who, action := s.one("bob", "carol", "dave"), []approval.Action{approval.Approve, approval.Reject, approval.Withdraw, approval.Override}[s.rand.IntN(4)]
		s.wire.Set(fault.Trap{On: fault.Commits("insert into signedapproval_decisions"), Mishap: fault.Slow, Meanwhile: func() { s.land(s.number) }})
		err := s.decided(who, action)
		s.note("%s decides %s while it is merged: %v", who, action, err)
		if s.wire.Clear() == 1 {
			return
		}
	}
	s.land(s.number)
	s.note("it is merged")
}

// verify verifies the evidence of every request that there ever was.
func (s *story) verify() {
	var requests []store.ApprovalRequest
	s.in(func(tx *store.Tx) (err error) {
		requests, err = tx.AllRequestsOf(s.t.Context(), s.view(s.number).PullRequest.ID)
		return err
	})
	if len(requests) == 0 {
		s.t.Error("nothing was asked for")
	}
	anchors := s.anchors()
	anchors.Policies = nil // others may be in force by now
	for _, r := range requests {
		data, err := s.gate.Bundle(s.t.Context(), s.people["alice"].Person, s.workspace, r.ID)
		s.must(err)
		report := evidence.Verify(data, anchors)
		if report.ExitCode() != 2 && (!report.Stolen() || len(s.stolen) == 0) {
			s.t.Errorf("the evidence of round %d, which is %s: %s", r.Round, r.State, report.Sentence())
		}
	}
}

// list compares the audit's row of what landed with how it was merged, and tells whether that was a violation.
func (s *story) list() (violated bool) {
	var seen store.MergeSeen
	s.in(func(tx *store.Tx) (err error) {
		if seen, err = tx.MergeSeen(s.t.Context(), s.repository, s.number); errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return err
	})
	if seen.LandedCommit == "" {
		return false
	}
	of := s.auditOf(time.Unix(0, 0), time.Now().Add(time.Hour))
	of.Branch = seen.DestinationBranch
	rows, _, err := s.audit(of)
	s.must(err)
	i := slices.IndexFunc(rows, func(r attest.Row) bool { return r.Commit == seen.LandedCommit })
	if i < 0 {
		s.t.Fatalf("what landed, %s, is in no row: %+v", seen.LandedCommit, rows)
	}
	want := map[string]string{store.MergeSeenApproved: attest.KindApproved, store.MergeSeenOverride: attest.KindOverride, store.MergeSeenViolation: attest.KindViolation}[seen.Kind]
	if rows[i].Kind != want && len(s.stolen) == 0 {
		s.t.Errorf("it was merged as %s, and listed as %+v", seen.Kind, rows[i])
	}
	return seen.Kind == store.MergeSeenViolation
}

// monitor follows the log with the workspace's openings. It must alarm on a violation, and on nothing else.
func (s *story) monitor(violated bool) {
	s.gate.Role = func(context.Context, store.Person, string, bool) (store.Role, error) { return store.RoleAdmin, nil }
	s.must(s.gate.Publish(s.t.Context(), 0, 0))
	mux := http.NewServeMux()
	mux.Handle(tiles.Prefix, tiles.New(s.store, []string{s.logKey}, slog.New(slog.DiscardHandler)))
	mux.HandleFunc("GET /workspaces/{workspace}/openings", func(w http.ResponseWriter, r *http.Request) {
		openings, err := s.gate.Openings(r.Context(), s.people["alice"].Person, r.PathValue("workspace"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(openings)
	})
	face := httptest.NewServer(mux)
	defer face.Close()
	client, err := monitor.NewClient(face.URL, "", nil)
	s.must(err)
	state, err := monitor.OpenState(s.t.TempDir(), false)
	s.must(err)
	defer func() { s.must(state.Close()) }()
	alarmed := false
	m, err := monitor.New(monitor.Options{
		Client: client, State: state, Anchors: s.anchors(), Late: time.Hour, Workspace: s.workspace,
		Now: func() time.Time { return time.Now().Add(2 * time.Hour) }, // when everything was due that follows from something
		Tell: func(f monitor.Finding) error {
			alarmed = alarmed || f.Code == monitor.Violation
			if !f.Notice && f.Code != monitor.Violation {
				s.t.Error(f)
			}
			return nil
		},
	})
	s.must(err)
	s.must(m.Pass(s.t.Context()))
	if alarmed != violated {
		s.t.Errorf("a violation %t, an alarm %t", violated, alarmed)
	}
}
