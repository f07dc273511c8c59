package gate_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// TestPreparedCommentSalt: what is prepared carries the salt that opens the statement's commitment to
// the comment, and none where there is no comment.
func TestPreparedCommentSalt(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob"))
	number := w.open()
	w.settle()
	draft, err := w.draft(number, "bob", approval.Approve)
	w.must(err)
	bob := w.people["bob"]
	for _, text := range []string{"", "Mind the nozzle."} {
		draft.Comment = text
		prepared, err := w.gate.Prepare(t.Context(), bob.Person, bob.session, draft)
		w.must(err)
		statement, err := evidence.ParseStatement(prepared.Statement)
		w.must(err)
		if text == "" {
			if prepared.CommentSalt != nil || statement.Comment != "" {
				t.Errorf("without a comment: salt %x, commitment %q", prepared.CommentSalt, statement.Comment)
			}
			continue
		}
		if err := (evidence.CommentOpening{Salt: prepared.CommentSalt, Text: text}).Verify(statement.Comment); err != nil {
			t.Errorf("the salt does not open the commitment: %v", err)
		}
		if err := (evidence.CommentOpening{Salt: prepared.CommentSalt, Text: text + "!"}).Verify(statement.Comment); evidence.CodeOf(err) != evidence.CodeCommitment {
			t.Errorf("another text: %v", err)
		}
	}
}

// TestDecisionsThatAreRefused goes through what can be wrong with a decision, one at a time, and
// expects a code and a sentence of its own, and that nothing was decided.
func TestDecisionsThatAreRefused(t *testing.T) {
	t.Parallel()
	// signed does everything up to the answer of the authenticator.
	signed := func(w *world, who string, draft gate.Draft) []byte {
		w.t.Helper()
		p := w.people[who]
		prepared, err := w.gate.Prepare(w.t.Context(), p.Person, p.session, draft)
		w.must(err)
		answer, err := p.key.Get(prepared.Options)
		w.must(err)
		return answer
	}
	submit := func(w *world, who string, session []byte, draft gate.Draft, answer []byte) error {
		_, err := w.gate.Decide(w.t.Context(), w.people[who].Person, session, w.workspace, draft.RequestID, answer)
		return err
	}
	tests := []struct {
		name     string
		code     string
		sentence string
		try      func(w *world, number int64, draft gate.Draft) error
	}{
		{"somebody who may not read the repository", refusal.NotFound, "There is no such pull request, or you may not see it.", func(w *world, _ int64, d gate.Draft) error {
			w.rights[w.people["bob"].ID] = bitbucket.PermissionNone
			_, err := w.submit("bob", d)
			return err
		}},
		{"the author", gate.CodeAuthor, "You opened this pull request: its rule does not count your own approval.", func(w *world, _ int64, d gate.Draft) error {
			_, err := w.submit("alice", d)
			return err
		}},
		{"somebody whom the rule does not ask", gate.CodeNotApprover, "This rule does not ask for your approval.", func(w *world, _ int64, d gate.Draft) error {
			_, err := w.submit("carol", d)
			return err
		}},
		{"a withdrawal of nothing", gate.CodeNothingToTake, "You have no decision here that could be withdrawn.", func(w *world, _ int64, d gate.Draft) error {
			d.Action = approval.Withdraw
			_, err := w.submit("bob", d)
			return err
		}},
		{"no such action", refusal.BadInput, "There is no such decision.", func(w *world, _ int64, d gate.Draft) error {
			d.Action = "SHRUG"
			_, err := w.submit("bob", d)
			return err
		}},
		{"a page that shows another commit", gate.CodeHeadChanged, "The page shows another commit", func(w *world, _ int64, d gate.Draft) error {
			d.HeadCommit = strings.Repeat("0", 40)
			_, err := w.submit("bob", d)
			return err
		}},
		{"a page that shows another diff", gate.CodeDiffChanged, "The page shows another diff", func(w *world, _ int64, d gate.Draft) error {
			d.DiffSHA256 = strings.Repeat("0", 64)
			_, err := w.submit("bob", d)
			return err
		}},
		{"a comment that is too long", gate.CodeCommentTooLong, "A comment has at most 2000 characters.", func(w *world, _ int64, d gate.Draft) error {
			d.Comment = strings.Repeat("x", 2001)
			_, err := w.submit("bob", d)
			return err
		}},
		{"a head that moved before signing, its webhook not here yet", gate.CodeHeadChanged, "The pull request has changed since this page was loaded.", func(w *world, _ int64, d gate.Draft) error {
			w.push("src/nozzle.go", "package main // moved\n")
			_, err := w.submit("bob", d)
			return err
		}},
		{"a pull request that was closed, its webhook not here yet", gate.CodeNotOpen, "The pull request is no longer open on Bitbucket.", func(w *world, number int64, d gate.Draft) error {
			w.post(number, "decline", nil)
			_, err := w.submit("bob", d)
			return err
		}},
		{"a head that moved between show and sign", gate.CodeHeadChanged, "The pull request has changed since you were asked to sign", func(w *world, number int64, d gate.Draft) error {
			answer := signed(w, "bob", d)
			w.push("src/nozzle.go", "package main // moved\n")
			w.event(number)
			w.settle()
			return submit(w, "bob", w.people["bob"].session, d, answer)
		}},
		{"a rule that changed between show and sign", gate.CodeHeadChanged, "The pull request has changed since you were asked to sign", func(w *world, _ int64, d gate.Draft) error {
			answer := signed(w, "bob", d)
			w.save(w.rule(2, "bob", "carol"))
			w.settle()
			return submit(w, "bob", w.people["bob"].session, d, answer)
		}},
		{"the key of somebody else", gate.CodeAssertion, "The signature does not hold", func(w *world, _ int64, d gate.Draft) error {
			bob := w.people["bob"]
			prepared, err := w.gate.Prepare(w.t.Context(), bob.Person, bob.session, d)
			w.must(err)
			answer, err := w.people["carol"].key.Get(allowing(w, prepared.Options, "carol"))
			w.must(err)
			return submit(w, "bob", bob.session, d, answer)
		}},
		{"a key that is not enrolled", gate.CodeAssertion, "This key is not enrolled here.", func(w *world, _ int64, d gate.Draft) error {
			bob := w.people["bob"]
			prepared, err := w.gate.Prepare(w.t.Context(), bob.Person, bob.session, d)
			w.must(err)
			key, asking := stranger(w, prepared.Options)
			answer, err := key.Get(asking)
			w.must(err)
			return submit(w, "bob", bob.session, d, answer)
		}},
		{"a revoked key", gate.CodeRevokedKey, "This key was revoked; use another one.", func(w *world, _ int64, d gate.Draft) error {
			answer := signed(w, "bob", d)
			w.sql(`update signedapproval_credentials set revoked_at = now(), revoked_by = 'operator' where person_id = $1`, w.people["bob"].ID)
			return submit(w, "bob", w.people["bob"].session, d, answer)
		}},
		{"without user verification", gate.CodeAssertion, "The signature does not hold", func(w *world, _ int64, d gate.Draft) error {
			w.people["bob"].key.NoUserVerification = true
			_, err := w.submit("bob", d)
			return err
		}},
		{"on another origin", gate.CodeAssertion, "The signature does not hold", func(w *world, _ int64, d gate.Draft) error {
			w.people["bob"].key.Origin = "https://approvals.example.evil.example"
			_, err := w.submit("bob", d)
			return err
		}},
		{"another session", gate.CodeChallenge, "This signature was asked for somewhere else", func(w *world, _ int64, d gate.Draft) error {
			return submit(w, "bob", []byte("another session"), d, signed(w, "bob", d))
		}},
		{"another person's session", gate.CodeChallenge, "This signature was asked for somewhere else", func(w *world, _ int64, d gate.Draft) error {
			return submit(w, "carol", w.people["carol"].session, d, signed(w, "bob", d))
		}},
		{"too late", gate.CodeChallenge, "This signature was asked for somewhere else, too long ago", func(w *world, _ int64, d gate.Draft) error {
			answer := signed(w, "bob", d)
			w.sql(`update signedapproval_challenges set expires_at = now() - interval '1 second'`)
			return submit(w, "bob", w.people["bob"].session, d, answer)
		}},
		{"an answer that was refused once and is sent again", gate.CodeChallenge, "This signature was asked for somewhere else", func(w *world, _ int64, d gate.Draft) error {
			answer := signed(w, "bob", d)
			w.sql(`update signedapproval_credentials set revoked_at = now(), revoked_by = 'operator' where person_id = $1`, w.people["bob"].ID)
			if err := submit(w, "bob", w.people["bob"].session, d, answer); refusal.Code(err) != gate.CodeRevokedKey {
				w.t.Errorf("the first time: %v", err)
			}
			w.sql(`update signedapproval_credentials set revoked_at = null, revoked_by = null`)
			return submit(w, "bob", w.people["bob"].session, d, answer)
		}},
		{"no answer of an authenticator", gate.CodeAssertion, "The authenticator's answer cannot be read.", func(w *world, _ int64, d gate.Draft) error {
			return submit(w, "bob", w.people["bob"].session, d, []byte(`{"id":"x"}`))
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.save(w.rule(1, "bob"))
			number := w.open()
			w.settle()
			draft, err := w.draft(number, "bob", approval.Approve)
			w.must(err)
			err = test.try(w, number, draft)
			if refused := refusal.Of(err); refused == nil || refused.Code != test.code || !strings.HasPrefix(refused.Message, test.sentence) {
				t.Errorf("got %v, want %s: %s", err, test.code, test.sentence)
			}
			w.drain()
			if v := w.view(number); len(v.Decisions) != 0 {
				t.Errorf("%d decisions were stored", len(v.Decisions))
			}
		})
	}
}

// TestASignatureCountsOnce submits the same answer twice, the second time as soon as the first is in.
func TestASignatureCountsOnce(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(2, "bob", "carol"))
	number := w.open()
	w.settle()
	draft, err := w.draft(number, "bob", approval.Approve)
	w.must(err)
	bob := w.people["bob"]
	prepared, err := w.gate.Prepare(t.Context(), bob.Person, bob.session, draft)
	w.must(err)
	answer, err := bob.key.Get(prepared.Options)
	w.must(err)
	results := make(chan error, 8)
	for range cap(results) {
		go func() {
			_, err := w.gate.Decide(t.Context(), bob.Person, bob.session, w.workspace, draft.RequestID, answer)
			results <- err
		}()
	}
	taken := 0
	for range cap(results) {
		err := <-results
		if err == nil {
			taken++
		} else if refusal.Code(err) != gate.CodeChallenge {
			t.Errorf("refused with %v, want %s", err, gate.CodeChallenge)
		}
	}
	if taken != 1 {
		t.Errorf("taken %d times", taken)
	}
	w.settle()
	head := w.view(number).PullRequest.HeadCommit
	w.expect(number, head, "INPROGRESS", "1 of 2 approvals; waiting for Carol")
}

// TestTwoKeysOfOnePersonAreOneApprover lets bob approve with one key, withdraw, and approve with the other.
func TestTwoKeysOfOnePersonAreOneApprover(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(2, "bob", "carol"))
	number := w.open()
	w.settle()
	w.decides(number, "bob", approval.Approve)
	w.settle()
	second := &person{Person: w.people["bob"].Person, key: passkeytest.New(origin), session: w.people["bob"].session}
	w.enrol(second)
	w.people["bob"].key = second.key
	if _, err := w.decide(number, "bob", approval.Approve); refusal.Code(err) != gate.CodeAlreadyDecided {
		t.Errorf("approving again with another key: %v, want %s", err, gate.CodeAlreadyDecided)
	}
	w.decides(number, "bob", approval.Withdraw)
	w.decides(number, "bob", approval.Approve)
	w.settle()
	w.expect(number, w.view(number).PullRequest.HeadCommit, "INPROGRESS", "1 of 2 approvals; waiting for Carol")
}

// TestTheEvidenceVerifies takes the bundle after each step of a story and verifies it as a stranger.
func TestTheEvidenceVerifies(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(1, "bob", "carol"))
	number := w.open()
	w.settle()
	for _, step := range []func(){
		func() {},
		func() { w.decides(number, "bob", approval.Reject) },
		func() { w.decides(number, "bob", approval.Withdraw) },
		func() { w.decides(number, "carol", approval.Approve) },
		func() { w.push("src/nozzle.go", "package main // next\n"); w.event(number) },
		func() { w.decides(number, "bob", approval.Approve) },
		func() { w.save(w.rule(2, "bob", "carol")) },
		func() { w.post(number, "decline", nil); w.event(number) },
	} {
		step()
		w.settle()
		v := w.view(number)
		bundle, err := w.gate.Bundle(t.Context(), w.people["bob"].Person, w.workspace, v.Request.ID)
		w.must(err)
		report := verify(bundle)
		if report.ExitCode() != 2 || string(report.Verdict.State) != string(v.Verdict.State) {
			t.Fatalf("the bundle of %s %q: %s", v.Request.State, v.Request.Sentence, report.Sentence())
		}
	}
	w.rights[w.people["bob"].ID] = bitbucket.PermissionNone
	if _, err := w.gate.Bundle(t.Context(), w.people["bob"].Person, w.workspace, w.view(number).Request.ID); refusal.Code(err) != refusal.NotFound {
		t.Errorf("the evidence for somebody who may not read the repository: %v", err)
	}
}

// TestTheEvidenceOfAnEndedRequest: it shows the chain up to the request's own end, whatever became of
// the commit, and so verifies as what it was.
func TestTheEvidenceOfAnEndedRequest(t *testing.T) {
	w := newWorld(t)
	w.save(w.rule(2, "bob", "carol"))
	number := w.open()
	w.settle()
	w.decides(number, "bob", approval.Approve)
	w.settle()
	w.save(w.rule(1, "bob", "carol")) // asks anew about the same commit
	w.settle()
	w.decides(number, "carol", approval.Approve)
	w.settle()
	w.push("src/nozzle.go", "package main // next\n")
	w.event(number)
	w.settle()

	v := w.view(number)
	views, _, err := w.gate.ViewRequests(t.Context(), w.people["bob"].Person, v, store.Page{})
	w.must(err)
	want := []struct {
		verdict             approval.State
		sentence, end       string
		requests, decisions int
	}{
		{approval.Pending, "0 of 1 approval; waiting for Bob or Carol", "", 3, 2},
		{approval.Approved, "approved by Carol", "superseded", 2, 2},
		{approval.Pending, "1 of 2 approvals; waiting for Carol", "superseded", 1, 1},
	}
	if len(views) != len(want) {
		t.Fatalf("%d requests", len(views))
	}
	for i, c := range want {
		encoded, err := w.gate.Bundle(t.Context(), w.people["bob"].Person, w.workspace, views[i].Request.ID)
		w.must(err)
		bundle, err := evidence.ParseBundle(encoded)
		w.must(err)
		if len(bundle.Requests) != c.requests || len(bundle.Decisions) != c.decisions {
			t.Errorf("round %d: %d requests and %d decisions", views[i].Request.Round, len(bundle.Requests), len(bundle.Decisions))
		}
		report := verify(encoded)
		if report.ExitCode() != 2 || report.Verdict.State != c.verdict || report.Verdict.Sentence != c.sentence {
			t.Errorf("round %d: %s", views[i].Request.Round, report.Sentence())
		}
		if end := slices.Contains(report.Facts, evidence.Fact{Name: "request", Value: c.end, Label: evidence.Asserted}); end != (c.end != "") {
			t.Errorf("round %d: its end is told: %t", views[i].Request.Round, end)
		}
		// A chain that ends early is still without a gap.
		if c.end != "" {
			last := bundle.Chain[len(bundle.Chain)-1]
			bundle.Chain = append(bundle.Chain[:len(bundle.Chain)-2:len(bundle.Chain)-2], last)
			torn, err := bundle.Encode()
			w.must(err)
			if verify(torn).ExitCode() != 1 {
				t.Errorf("round %d: a leaf was taken out, and nobody notices", views[i].Request.Round)
			}
		}
	}
}
