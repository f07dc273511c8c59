package app

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/attest"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/monitor"
)

// TestARowIsProvedByItsOwnEvidence has rows that say otherwise than the evidence that is fetched for them, which verifies.
func TestARowIsProvedByItsOwnEvidence(t *testing.T) {
	t.Parallel()
	raw, anchors := approvedVector(t)
	bundle, err := evidence.ParseBundle(raw)
	if err != nil {
		t.Fatal(err)
	}
	change, ok := evidence.Verify(raw, anchors).Change()
	if !ok {
		t.Fatal("the vector does not verify")
	}
	opened := bundle.Requests[len(bundle.Requests)-1]
	bare := func(uuid string) string {
		text, ok := bitbucket.BareUUID(uuid)
		if !ok {
			t.Fatal(uuid)
		}
		return text
	}
	at := place{bare(opened.Workspace), bare(opened.Repository)}
	strange, elsewhere := strings.Repeat("e", 40), "99999999-9999-4999-8999-999999999999"
	honest := attest.Row{
		Number: 1, Commit: change.Landed, Kind: attest.KindApproved, PullRequest: opened.PullRequest, Landed: change.Landed, Head: change.Head,
		Request: bundle.Facts.Request.ID, ChainLeaf: evidence.LeafDigest(bundle.Chain[0]),
	}
	for name, c := range map[string]struct {
		row  func(r *attest.Row)
		at   place
		in   string
		says string // empty where it holds
	}{
		"honest":               {},
		"another repository":   {at: place{at.workspace, elsewhere}, says: "another workspace, repository or branch"},
		"another workspace":    {at: place{elsewhere, at.repository}, says: "another workspace, repository or branch"},
		"another branch":       {in: "main", says: "another workspace, repository or branch"},
		"another pull request": {row: func(r *attest.Row) { r.PullRequest++ }, says: "another pull request"},
		"another landing":      {row: func(r *attest.Row) { r.Landed = strange }, says: "something else landed"},
		"no landing":           {row: func(r *attest.Row) { r.Landed = "" }, says: "something else landed"},
		"another head":         {row: func(r *attest.Row) { r.Head = strange }, says: "another commit"},
		"another kind":         {row: func(r *attest.Row) { r.Kind = attest.KindOverride }, says: "the evidence says APPROVED"},
		"another leaf":         {row: func(r *attest.Row) { r.ChainLeaf = evidence.Digest(strings.Repeat("1", 64)) }, says: "the leaf that was signed"},
	} {
		// It is compared also where the row before it has the same request.
		for _, first := range []bool{true, false} {
			p := proving{at: at, branch: opened.DestinationBranch, anchors: anchors}
			if c.at != (place{}) {
				p.at, first = c.at, true
			}
			if c.in != "" {
				p.branch, first = c.in, true
			}
			row, taken := honest, 0
			if c.row != nil {
				c.row(&row)
			}
			rows := []attest.Row{row}
			if !first {
				rows = []attest.Row{honest, row}
				rows[1].Number = 2
			}
			whole, err := p.rows(context.Background(), rows, func(string) ([]byte, error) { taken++; return raw, nil })
			last := rows[len(rows)-1].Number
			switch {
			case err != nil:
				t.Errorf("%s, first %t: %v", name, first, err)
			case c.says == "" && len(p.disproved) > 0, c.says != "" && (len(p.disproved) != 1 || p.disproved[0].Row != last || !strings.Contains(p.disproved[0].Why, c.says)):
				t.Errorf("%s, first %t: %v", name, first, p.disproved)
			case whole:
				t.Errorf("%s: without a clone it is the server's word what landed", name)
			case taken != 1:
				t.Errorf("%s: taken %d times", name, taken)
			}
		}
	}
}

// TestOneRowWithoutEvidenceHoldsUpNoOther: what a server refuses for good is not proved, and what it may give later is no audit yet.
func TestOneRowWithoutEvidenceHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	rows := []attest.Row{
		{Number: 1, Request: "a", Kind: attest.KindApproved},
		{Number: 2, Request: "a", Kind: attest.KindApproved},
		{Number: 3, Request: "../b", Kind: attest.KindApproved},
		{Number: 4, Request: "c", Kind: attest.KindApproved},
	}
	for status, ends := range map[int]bool{
		http.StatusNotFound: false, http.StatusConflict: false, http.StatusGone: false, http.StatusRequestEntityTooLarge: false,
		// That says something about who asks, or about the server, and nothing about the evidence.
		http.StatusBadRequest: true, http.StatusUnauthorized: true, http.StatusForbidden: true, http.StatusInternalServerError: true, http.StatusServiceUnavailable: true,
	} {
		var asked []string
		var p proving
		whole, err := p.rows(t.Context(), rows, func(request string) ([]byte, error) {
			asked = append(asked, request)
			if request == "a" {
				return nil, fmt.Errorf("ask: %w", &monitor.Refused{Status: status, Code: "INCOMPLETE", Message: "it is gone"})
			}
			return []byte("no bundle"), nil
		})
		if ends {
			if err == nil || len(p.disproved) > 0 {
				t.Errorf("%d: %v, %v", status, p.disproved, err)
			}
			continue
		}
		if err != nil || whole || len(p.disproved) != len(rows) || !slices.Equal(asked, []string{"a", "../b", "c"}) {
			t.Fatalf("%d: %v, %v, asked %v", status, p.disproved, err, asked)
		}
		for i, d := range p.disproved {
			if d.Row != i+1 || strings.Contains(d.Why, "the server does not give the evidence") != (i < 2) || i < 2 && !strings.Contains(d.Why, "INCOMPLETE: it is gone") {
				t.Errorf("%d: %+v", status, d)
			}
		}
	}
}

// TestARowIsOfTheKindOfItsMerge has a merge by an override that turned out to be approved: it is no violation, and was not approved
// when it was merged.
func TestARowIsOfTheKindOfItsMerge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state             approval.State
		merged, row, says string
	}{
		{approval.Approved, attest.KindApproved, attest.KindApproved, ""},
		{approval.Approved, attest.KindOverride, attest.KindOverride, ""},
		{approval.Overridden, attest.KindOverride, attest.KindOverride, ""},
		{approval.Approved, "", attest.KindApproved, ""}, // its evidence ends before the merge
		{approval.Overridden, "", attest.KindOverride, ""},
		{approval.Overridden, "", attest.KindApproved, "the evidence says OVERRIDDEN"},
		{approval.Pending, "", attest.KindApproved, "the evidence says PENDING"},
		{approval.Overridden, attest.KindApproved, attest.KindOverride, ""}, // an approval fell with its key, and the override bears it
		{approval.Approved, attest.KindOverride, attest.KindApproved, "merged as override"},
		{approval.Approved, attest.KindApproved, attest.KindOverride, "the evidence says APPROVED"},
		{approval.Approved, attest.KindViolation, attest.KindApproved, "a violation"},
		{approval.Overridden, attest.KindOverride, attest.KindApproved, "the evidence says OVERRIDDEN"},
		{approval.Rejected, attest.KindOverride, attest.KindOverride, "the evidence says REJECTED"},
	} {
		p := proving{at: place{workspace: "11111111-1111-4111-8111-111111111111", repository: "22222222-2222-4222-8222-222222222222"}, branch: "main"}
		landed, entry := strings.Repeat("a", 40), evidence.Bytes("leaf")
		of := &proved{state: c.state, merged: c.merged, landed: landed, unseen: c.merged == "", bundle: evidence.Bundle{
			Requests: []evidence.Request{{
				ID: "r", Workspace: bitbucket.BracedUUID(p.at.workspace), Repository: bitbucket.BracedUUID(p.at.repository), PullRequest: 1, DestinationBranch: p.branch,
			}},
			Facts: approval.Facts{Request: approval.RequestFacts{ID: "r"}}, Chain: []evidence.Bytes{entry},
		}}
		err := p.compare(attest.Row{Kind: c.row, Request: "r", PullRequest: 1, Landed: landed, ChainLeaf: evidence.LeafDigest(entry)}, of)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s, merged as %s, in a row as %s: %v", c.state, c.merged, c.row, err)
		}
	}
}

// TestACommitComesWithItsOwnLanding has a commit that was pushed passed off as one of an approved merge.
func TestACommitComesWithItsOwnLanding(t *testing.T) {
	t.Parallel()
	p := proving{parents: map[string][]string{"merge": {"onto", "head"}, "head": {"base"}, "onto": {"pushed"}, "pushed": {"base"}, "base": nil}}
	change := evidence.Change{Shown: []evidence.Shown{{Destination: "base"}, {Destination: "onto", Uncounted: true}}}
	for name, c := range map[string]struct {
		landing evidence.Landing
		want    []string
	}{
		"a merge commit": {evidence.Landing{Commit: "merge", Onto: "onto"}, []string{"head", "merge"}},
		"a fast-forward": {evidence.Landing{Commit: "onto"}, []string{"onto", "pushed"}},
	} {
		if got := slices.Sorted(maps.Keys(p.brought(c.landing, change))); !slices.Equal(got, c.want) {
			t.Errorf("%s brought %v", name, got)
		}
	}
}

// TestAnAuditDoesNotSteerTheTerminal has a server say what moves a cursor.
func TestAnAuditDoesNotSteerTheTerminal(t *testing.T) {
	t.Parallel()
	var l listing
	said, failed, err := l.line([]byte(`{"error":{"code":"","message":"\u001b[2K\r7 commits reached main"}}`))
	if err != nil || !failed || !strings.Contains(said, `\u001b[2K`) || strings.ContainsRune(said, '\x1b') {
		t.Errorf("an error is shown as %q, %t, %v", said, failed, err)
	}
	var out strings.Builder
	if err := writeAuditCSV(&out, []attest.Row{{Number: 1, Reason: "x\x1b[2K\r"}}, nil); err != nil || strings.ContainsAny(out.String(), "\x1b\r") {
		t.Errorf("a cell is %q, %v", out.String(), err)
	}
}
