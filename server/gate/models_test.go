package gate_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/passkey"
	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
	"github.com/signedapproval/bitbucket/server/store"
)

// metadata is a snapshot of the metadata about the maker's model, with what was reported of it.
func (w *world) metadata(number int64, m *passkeytest.Maker, statuses ...string) *evidence.Models {
	w.t.Helper()
	service, err := passkeytest.NewMetadata(time.Now())
	w.must(err)
	blob, err := service.Blob(number, time.Now().UTC().AddDate(0, 1, 0).Format(time.DateOnly), m.Entry(statuses...))
	w.must(err)
	read, err := passkey.ReadMetadata(blob, service.Root, passkeytest.MetadataSigner, time.Now(), false)
	w.must(err)
	models, err := read.Snapshot([]string{m.Model})
	w.must(err)
	return models
}

// TestModelsThatARuleAsksFor lets a rule ask for a model, of which bob has a key that attests it. Carol's is of nobody
// knows what. The evidence shows it to who pinned the metadata; and when newer metadata strikes the model out, bob's
// approval counts no more.
func TestModelsThatARuleAsksFor(t *testing.T) {
	w := newWorld(t)
	maker, err := passkeytest.NewMaker([16]byte{1})
	w.must(err)
	w.ceremonies.Attest, w.gate.Models = true, w.metadata(7, maker, "FIDO_CERTIFIED_L2")
	bob := w.people["bob"]
	bob.key = passkeytest.New(origin)
	bob.key.Maker = maker
	w.enrol(bob)

	rule := w.rule(1, "bob", "carol")
	rule.Keys = &approval.KeyDemand{Models: []string{maker.Model}}
	w.save(rule)
	number := w.open()
	w.settle()
	head := w.view(number).PullRequest.HeadCommit
	w.decides(number, "carol", approval.Approve)
	w.settle()
	if state, sentence := w.shown(number, head); state != "INPROGRESS" || !strings.HasPrefix(sentence, "0 of 1 approval") {
		t.Errorf("an approval by a key without attestation: %s %q", state, sentence)
	}
	ignored := w.view(number).Verdict.Requirements[0].Ignored
	if len(ignored) != 1 || ignored[0].Reason != approval.UnprovedModel || ignored[0].Sentence != "Carol approved with a key that is not proved to be one of the models that the rule names" {
		t.Errorf("ignored: %+v", ignored)
	}
	w.decides(number, "bob", approval.Approve)
	w.settle()
	w.expect(number, head, "SUCCESSFUL", "approved by Bob")

	data, anchors := w.bundle(number), w.anchors()
	if report := evidence.Verify(data, anchors); report.ExitCode() != 2 || !slices.Equal(report.Missing, []string{"models"}) {
		t.Errorf("without the models: exit %d, %s", report.ExitCode(), report.Sentence())
	}
	anchors.Models = w.gate.Models
	report := evidence.Verify(data, anchors)
	if report.ExitCode() != 0 || len(report.Verdict.Requirements[0].Ignored) != 1 {
		t.Fatalf("exit %d, %s: %+v", report.ExitCode(), report.Sentence(), report.Verdict)
	}

	// The server starts anew with newer metadata.
	w.gate.Models = w.metadata(8, maker, "FIDO_CERTIFIED_L2", "REVOKED")
	if a := w.mergeCheck(number); a.Success {
		t.Errorf("the merge check, by a key whose model was struck out: %+v", a)
	}
	w.event(number)
	w.settle()
	if state, sentence := w.shown(number, head); state != "INPROGRESS" || !strings.HasPrefix(sentence, "0 of 1 approval") {
		t.Errorf("by a key whose model was struck out: %s %q", state, sentence)
	}
	ignored = w.view(number).Verdict.Requirements[0].Ignored
	if len(ignored) != 2 || ignored[0].Reason != approval.UnprovedModel || ignored[1].Reason != approval.UnprovedModel {
		t.Errorf("ignored: %+v", ignored)
	}
	anchors.Models = w.gate.Models
	if report := evidence.Verify(w.bundle(number), anchors); report.ExitCode() != 0 || report.Verdict.State != approval.Pending {
		t.Errorf("the evidence of that: exit %d, %s", report.ExitCode(), report.Sentence())
	}
	if report := evidence.Verify(data, anchors); report.ExitCode() != 1 {
		t.Errorf("the evidence of before, by the newer metadata: exit %d", report.ExitCode())
	}

	// A server without metadata proves nothing, and so lets nothing through.
	w.gate.Models = nil
	if a := w.mergeCheck(number); a.Success {
		t.Errorf("the merge check without metadata: %+v", a)
	}
}

// TestARejectionNeedsNoModel has everybody block, whatever their key is, and those with the model alone allow.
func TestARejectionNeedsNoModel(t *testing.T) {
	w := newWorld(t)
	maker, err := passkeytest.NewMaker([16]byte{1})
	w.must(err)
	w.ceremonies.Attest, w.gate.Models = true, w.metadata(7, maker)
	bob := w.people["bob"]
	bob.key = passkeytest.New(origin)
	bob.key.Maker = maker
	w.enrol(bob)
	rule := w.rule(1, "bob", "carol")
	rule.Keys = &approval.KeyDemand{Models: []string{maker.Model}}
	w.save(rule)
	number := w.open()
	w.settle()
	w.decides(number, "bob", approval.Approve)
	w.decides(number, "carol", approval.Reject)
	w.settle()
	w.expect(number, w.view(number).PullRequest.HeadCommit, "FAILED", "rejected by Carol")
}

// approvedByModel lets bob, who has a key of a maker's model, approve a pull request whose rule asks for that model.
func (w *world) approvedByModel(maker *passkeytest.Maker) (number int64, head string) {
	w.t.Helper()
	bob := w.people["bob"]
	bob.key = passkeytest.New(origin)
	bob.key.Maker = maker
	w.enrol(bob)
	rule := w.rule(1, "bob", "carol")
	rule.Keys = &approval.KeyDemand{Models: []string{maker.Model}}
	w.save(rule)
	number = w.open()
	w.settle()
	head = w.view(number).PullRequest.HeadCommit
	w.decides(number, "bob", approval.Approve)
	w.settle()
	w.expect(number, head, "SUCCESSFUL", "approved by Bob")
	return number, head
}

// TestNewMetadataIsFollowedWhenAServerBegins strikes bob's model out: nothing happens at Bitbucket, and yet what he approved
// is evaluated anew; and again when the model is back, while metadata that says the same asks for nothing.
func TestNewMetadataIsFollowedWhenAServerBegins(t *testing.T) {
	w := newWorld(t)
	maker, err := passkeytest.NewMaker([16]byte{1})
	w.must(err)
	w.ceremonies.Attest, w.gate.Models = true, w.metadata(7, maker)
	number, head := w.approvedByModel(maker)
	asked := func() (kinds []string) {
		w.must(w.gate.FollowModels(t.Context()))
		for _, ring := range w.due() {
			kinds = append(kinds, ring.Kind)
		}
		return kinds
	}
	w.gate.Models = w.metadata(8, maker)
	if kinds := asked(); slices.Contains(kinds, store.KindEvaluate) {
		t.Errorf("metadata that says the same asks for %v", kinds)
	}
	w.gate.Models = w.metadata(9, maker, "REVOKED")
	if kinds := asked(); !slices.Contains(kinds, store.KindEvaluate) {
		t.Errorf("metadata that strikes the model out asks for %v", kinds)
	}
	w.settle()
	w.expect(number, head, "INPROGRESS", "0 of 1 approval; waiting for Bob or Carol")
	w.gate.Models = w.metadata(10, maker)
	w.must(w.gate.FollowModels(t.Context()))
	w.settle()
	w.expect(number, head, "SUCCESSFUL", "approved by Bob")
}

// TestAServerWithOlderMetadataTakesNothingBack strikes bob's model out on a server that begins while an older one still runs:
// what it asks for is not lost where the older server gets hold of it, nor where that begins anew.
func TestAServerWithOlderMetadataTakesNothingBack(t *testing.T) {
	w := newWorld(t)
	maker, err := passkeytest.NewMaker([16]byte{1})
	w.must(err)
	older, newer := w.metadata(7, maker), w.metadata(8, maker, "REVOKED")
	w.ceremonies.Attest, w.gate.Models = true, older
	w.must(w.gate.FollowModels(t.Context()))
	number, head := w.approvedByModel(maker)

	w.gate.Models = newer
	w.must(w.gate.FollowModels(t.Context()))
	w.gate.Models = older
	for range 2 {
		done, failed := w.only(store.KindEvaluate)
		if done != 1 || len(failed) != 1 || !strings.Contains(failed[0].Error(), "other metadata") {
			t.Fatalf("the older server made %d evaluations, failed: %v", done, failed)
		}
		if a := w.mergeCheck(number); a.Success {
			t.Errorf("the merge check on the older server: %+v", a)
		}
		w.must(w.gate.FollowModels(t.Context())) // it begins anew
		w.sql(`update signedapproval_jobs set run_at = now() where kind = 'evaluate'`)
	}
	w.gate.Models = newer
	w.settle()
	w.expect(number, head, "INPROGRESS", "0 of 1 approval; waiting for Bob or Carol")

	// Metadata of the same number that has the model again is newer by having begun later.
	w.gate.Models = w.metadata(8, maker)
	w.must(w.gate.FollowModels(t.Context()))
	w.settle()
	w.expect(number, head, "SUCCESSFUL", "approved by Bob")
}
