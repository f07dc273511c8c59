package gate

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/passkey"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// The protocol of a decision.
//
//  1. Prepare: the page names the commit and the digest of the diff that it shows. Bitbucket is
//     read again; where it shows anything else, the decision is refused. The statement is made and
//     kept with its hash, which is the challenge.
//  2. The authenticator signs the challenge. The server holds no key that could.
//  3. Decide: one transaction consumes the challenge, verifies the assertion over the kept bytes,
//     makes sure that the request still asks exactly this, stores the decision with its leaf, and
//     asks for an evaluation. A challenge that was consumed is gone, whatever came of it.

const (
	decisionLifetime = 5 * time.Minute
	maxComment       = 2000 // characters
	// MaxDiff is the largest diff that can be shown and signed, in bytes.
	MaxDiff = 8 << 20
)

// Shown is what an approver looks at.
type Shown struct {
	HeadCommit        string
	DestinationCommit string
	MergeBases        []string
	Diff              []byte // as Bitbucket renders it, byte for byte

	author string // account id; "" where Bitbucket names nobody
}

// Diff reads what the approvers of a request look at. The request must still ask for the pull
// request's head.
func (g *Gate) Diff(ctx context.Context, person store.Person, workspace, requestID string) (Shown, error) {
	v, err := g.ViewRequest(ctx, person, workspace, requestID)
	if err != nil {
		return Shown{}, err
	}
	return g.show(ctx, v)
}

func (g *Gate) show(ctx context.Context, v View) (Shown, error) {
	workspace, pr := v.Workspace.ID, v.PullRequest
	client, err := g.Client(ctx, workspace, bitbucket.Foreground)
	if err != nil {
		return Shown{}, err
	}
	remote, err := client.PullRequest(ctx, workspace, pr.RepositoryID, pr.Number)
	if err != nil {
		return Shown{}, g.unavailable(ctx, err)
	}
	if remote.State != bitbucket.Open {
		g.ring(ctx, workspace, pr)
		return Shown{}, refusal.New(CodeNotOpen, "The pull request is no longer open on Bitbucket. There is nothing left to decide.")
	}
	head, err := client.PullRequestHead(ctx, workspace, pr.RepositoryID, pr.Number)
	if err != nil {
		return Shown{}, g.unavailable(ctx, err)
	}
	if head != v.Request.HeadCommit || remote.Destination.Branch != v.Request.DestinationBranch {
		g.ring(ctx, workspace, pr)
		return Shown{}, refusal.New(CodeHeadChanged, "The pull request has changed since this page was loaded. Reload the page to see what it asks for now.")
	}
	branch, err := client.Branch(ctx, workspace, pr.RepositoryID, remote.Destination.Branch)
	if err != nil {
		return Shown{}, g.unavailable(ctx, err)
	}
	base, err := client.MergeBase(ctx, workspace, pr.RepositoryID, head, branch.Head)
	if err != nil {
		return Shown{}, g.unavailable(ctx, err)
	}
	diff, err := client.Diff(ctx, workspace, pr.RepositoryID, bitbucket.Between(head, branch.Head), MaxDiff)
	if errors.Is(err, bitbucket.ErrTooLarge) {
		return Shown{}, refusal.New(CodeDiffTooLarge, "The change is larger than %d MiB. Nobody can read that; split the pull request.", MaxDiff>>20).Because(err)
	}
	if err != nil {
		return Shown{}, g.unavailable(ctx, err)
	}
	return Shown{HeadCommit: head, DestinationCommit: branch.Head, MergeBases: []string{base}, Diff: diff, author: remote.Author.AccountID}, nil
}

// unavailable tells the caller that Bitbucket could not be asked.
func (g *Gate) unavailable(ctx context.Context, err error) error {
	if refusal.Code(err) != "" {
		return err
	}
	g.Log.WarnContext(ctx, "bitbucket could not be asked", "error", err)
	return refusal.New(refusal.BitbucketUnavailable, "%s", bitbucket.Unavailable(err)).Because(err)
}

// ring asks for an evaluation, best effort: the reconciler would find it too.
func (g *Gate) ring(ctx context.Context, workspace string, pr store.PullRequest) {
	err := g.Store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		return tx.Enqueue(ctx, store.AskEvaluate(workspace, pr.RepositoryID, pr.Number))
	})
	if err != nil {
		g.Log.WarnContext(ctx, "an evaluation could not be asked for", "pull_request", pr.ID, "error", err)
	}
}

// Draft is a decision to be prepared.
type Draft struct {
	Workspace  string
	RequestID  string
	Action     approval.Action
	Comment    string // up to 2000 characters; an override needs one, its reason
	HeadCommit string // that the page shows
	DiffSHA256 string // of the bytes that the page renders, lower-case hex
}

// Prepared is what the authenticator is asked to sign.
type Prepared struct {
	Statement []byte // the very bytes; their SHA-256 is the challenge
	Options   []byte // PublicKeyCredentialRequestOptions, JSON; nil where the person has no passkey yet
	// CommentSalt opens the statement's commitment to the comment, so that the page can tell that it
	// is one to the text that was typed; nil without a comment.
	CommentSalt []byte
	// SignerSalt opens the statement's commitment to its approver, for the approver's own page alone.
	SignerSalt []byte
	ExpiresAt  time.Time
}

// kept is what a DECIDE challenge keeps until the assertion comes.
type kept struct {
	Statement []byte   `json:"statement"`
	Openings  openings `json:"openings"`
}

// openings open the commitments of a statement. They are stored beside the decision and travel in
// the bundle; erasing a person means deleting them.
type openings struct {
	Approver *evidence.PersonOpening  `json:"approver,omitempty"`
	Author   *evidence.PersonOpening  `json:"author,omitempty"`
	Comment  *evidence.CommentOpening `json:"comment,omitempty"`
}

// Prepare makes the statement that a decision will sign. sessionHash ties it to the browser that
// asked.
func (g *Gate) Prepare(ctx context.Context, person store.Person, sessionHash []byte, d Draft) (Prepared, error) {
	if utf8.RuneCountInString(d.Comment) > maxComment || !utf8.ValidString(d.Comment) {
		return Prepared{}, refusal.New(CodeCommentTooLong, "A comment has at most %d characters.", maxComment).At("comment")
	}
	if d.Action == approval.Override && !saysSomething(d.Comment) {
		return Prepared{}, refusal.New(CodeReasonMissing, "An override needs a reason.").At("comment")
	}
	v, err := g.ViewRequest(ctx, person, d.Workspace, d.RequestID)
	if err != nil {
		return Prepared{}, err
	}
	if err := g.see(ctx, person, d.Workspace, v.PullRequest.RepositoryID, true); err != nil {
		return Prepared{}, err
	}
	if err := allowed(v.Can, d.Action); err != nil {
		return Prepared{}, err
	}
	if d.HeadCommit != v.Request.HeadCommit {
		return Prepared{}, refusal.New(CodeHeadChanged, "The page shows another commit than the one that is asked for. Reload the page.").At("headCommit")
	}
	credentials, err := g.credentials(ctx, person, d.Workspace)
	if err != nil {
		return Prepared{}, err
	}
	if len(credentials) == 0 {
		return Prepared{}, nil
	}
	if err := g.mayTakeBack(ctx, person, d, v); err != nil {
		return Prepared{}, err
	}
	shown, err := g.show(ctx, v)
	if err != nil {
		return Prepared{}, err
	}
	digest := approval.DigestOf(shown.Diff)
	if string(digest) != d.DiffSHA256 {
		return Prepared{}, refusal.New(CodeDiffChanged, "The page shows another diff than Bitbucket has now. Reload the page.").At("diffSha256")
	}
	prepared, err := g.prepare(ctx, person, sessionHash, d, v, shown, digest)
	if refusal.Code(err) == CodeHeadChanged {
		g.ring(ctx, d.Workspace, v.PullRequest)
	}
	return prepared, err
}

// authorChanged refuses a decision whose statement names another author than it would be tallied with: who that is by the
// database changes when the author is erased while the pull request is open, and when Bitbucket names somebody for the first time.
func authorChanged() error {
	return refusal.New(CodeHeadChanged, "The author of the pull request is known by another name since this page was loaded. Reload the page in a moment.")
}

// mayTakeBack refuses the withdrawal of a rejection of somebody who has no key with which it would have an effect. With any key
// they can reject, and withdraw whatever else they decided.
func (g *Gate) mayTakeBack(ctx context.Context, person store.Person, d Draft, v View) error {
	if d.Action != approval.Withdraw || v.standing(person.ID).Action != string(approval.Reject) || v.Rule.Keys == nil {
		return nil
	}
	keys, err := g.Keys(ctx, person, d.Workspace)
	if err != nil {
		return err
	}
	problem, err := g.KeyProblem(v.Rule, keys, d.Workspace)
	if err != nil || problem == nil {
		return err
	}
	return refusal.New(problem.Code, "Your rejection cannot be taken back with the passkeys that you have. %s", problem.Sentence).At("action")
}

// saysSomething reports whether a text has a character that can be seen.
func saysSomething(text string) bool {
	return strings.ContainsFunc(text, func(c rune) bool { return unicode.IsGraphic(c) && !unicode.IsSpace(c) })
}

func allowed(can Can, action approval.Action) error {
	switch {
	case action == approval.Override && can.Override:
		return nil
	case action == approval.Override:
		return refusal.New(can.OverrideCode, "%s", can.OverrideReason).At("action")
	case action == approval.Approve && can.Approve, action == approval.Reject && can.Reject, action == approval.Withdraw && can.Withdraw:
		return nil
	case action == approval.Withdraw:
		return refusal.New(CodeNothingToTake, "You have no decision here that could be withdrawn.").At("action")
	case can.Code == "":
		return refusal.New(refusal.BadInput, "There is no such decision.").At("action")
	}
	return refusal.New(can.Code, "%s", can.Reason).At("action")
}

func (g *Gate) prepare(ctx context.Context, person store.Person, sessionHash []byte, d Draft, v View, shown Shown, digest approval.Digest) (p Prepared, err error) {
	err = g.Store.InWorkspace(ctx, d.Workspace, func(tx *store.Tx) error {
		// From here on the roster has the keys that can sign.
		if _, err := syncRoster(ctx, tx, person.ID); err != nil {
			return err
		}
		credentials, err := rostered(ctx, tx, person.ID)
		if err != nil {
			return err
		}
		if len(credentials) == 0 {
			return keyWaits()
		}
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		version, err := tx.PolicyVersion(ctx, v.Request.PolicyVersionID)
		if err != nil {
			return err
		}
		// The chain may have moved since the view was read; the statement names where it is now.
		pr, err := tx.PullRequest(ctx, v.PullRequest.ID)
		if err != nil {
			return err
		}
		// An evaluation puts the author's account back that somebody who was erased had.
		if shown.author != "" && shown.author != pr.AuthorAccountID {
			return authorChanged()
		}
		// In this order: whoever is shown a decision is shown a roster and a log at least as new as its signer was.
		seen := surroundings{policy: version, now: now}
		if seen.roster, err = tx.NewestRoster(ctx); err != nil {
			return err
		}
		if seen.log, err = tx.LogHead(ctx); err != nil {
			return err
		}
		var keep kept
		if keep.Statement, keep.Openings, err = g.statement(person, d, v, pr, shown, digest, seen); err != nil {
			return err
		}
		data, err := json.Marshal(keep)
		if err != nil {
			return err
		}
		challenge := evidence.Challenge(keep.Statement)
		p.ExpiresAt, err = tx.InsertChallenge(ctx, store.Challenge{
			Challenge: challenge, Kind: store.ChallengeDecide, PersonID: person.ID, SessionHash: sessionHash,
			WorkspaceID: &d.Workspace, RequestID: &d.RequestID, Data: data,
		}, decisionLifetime)
		if err != nil {
			return err
		}
		p.Statement, p.SignerSalt = keep.Statement, keep.Openings.Approver.Salt
		if keep.Openings.Comment != nil {
			p.CommentSalt = keep.Openings.Comment.Salt
		}
		allow := make([]passkey.Credential, len(credentials))
		for i, c := range credentials {
			allow[i] = passkey.Credential{ID: c.ID, Transports: c.Transports}
		}
		p.Options, err = g.Passkeys.AssertionOptions(challenge, allow, decisionLifetime)
		return err
	})
	return p, err
}

// surroundings are what a statement names besides its request.
type surroundings struct {
	policy store.PolicyVersion
	roster store.RosterVersion
	log    store.TreeHead
	now    time.Time
}

// statement makes the bytes to be signed and what opens their commitments.
func (g *Gate) statement(person store.Person, d Draft, v View, pr store.PullRequest, shown Shown, digest approval.Digest, seen surroundings) ([]byte, openings, error) {
	open := openings{
		Approver: &evidence.PersonOpening{Salt: random(evidence.SaltSize), AccountID: person.AccountID, Name: person.Name},
		Author:   &evidence.PersonOpening{Salt: random(evidence.SaltSize), AccountID: pr.AuthorAccountID, Name: pr.AuthorName},
	}
	approver, err := open.Approver.Commitment()
	if err != nil {
		return nil, open, err
	}
	author, err := open.Author.Commitment()
	if err != nil {
		return nil, open, err
	}
	source := pr.RepositoryID // a fork that is gone is named by where its commit is read from
	if pr.SourceRepositoryID != nil {
		source = *pr.SourceRepositoryID
	}
	now := seen.now.UTC().Truncate(time.Second)
	s := evidence.Statement{
		Purpose: evidence.Purpose(strings.ToLower(string(d.Action))), RPID: g.RPID, Origin: g.Origin, LogOrigin: g.LogOrigin,
		Workspace: bitbucket.BracedUUID(d.Workspace), Request: v.Request.ID, PullRequest: pr.Number,
		Author: evidence.Party{Commitment: author}, Approver: evidence.Party{Person: person.ID, Commitment: approver},
		Source:      evidence.Ref{Repository: bitbucket.BracedUUID(source), Branch: pr.SourceBranch, Commit: shown.HeadCommit},
		Destination: evidence.Ref{Repository: bitbucket.BracedUUID(pr.RepositoryID), Branch: v.Request.DestinationBranch, Commit: shown.DestinationCommit},
		MergeBases:  shown.MergeBases, Diff: evidence.Diff{SHA256: digest, Size: int64(len(shown.Diff))},
		Policy:       evidence.PolicyRef{Digest: approval.Digest(seen.policy.Digest), RuleDigest: approval.Digest(v.Request.RuleDigest)},
		Requirements: evidence.RequirementsOf(v.Rule),
		ChainHead:    evidence.ChainHead{Chain: evidence.Digest(pr.ChainID), Sequence: pr.ChainSequence, Leaf: evidence.Digest(pr.ChainLeaf)},
		Roster:       evidence.Digest(seen.roster.Digest), LogHead: &evidence.LogHead{Size: seen.log.Size, Root: evidence.Digest(hex.EncodeToString(seen.log.Root[:]))},
		Nonce: random(16), IssuedAt: now, ExpiresAt: now.Add(decisionLifetime),
	}
	if d.Action == approval.Withdraw {
		s.Withdraws = approval.DigestOf(v.standing(person.ID).Statement)
	}
	if d.Comment != "" {
		open.Comment = &evidence.CommentOpening{Salt: random(evidence.SaltSize), Text: d.Comment}
		if s.Comment, err = open.Comment.Commitment(); err != nil {
			return nil, open, err
		}
	}
	s.Meaning = evidence.Meaning(s)
	statement, err := s.Canonical()
	if err != nil {
		return nil, open, fmt.Errorf("statement: %w", err)
	}
	return statement, open, nil
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}

// Made is a decision that was made.
type Made struct {
	store.Decision
	// View is what the decision met, with it. It has neither repository nor status nor merge: none of them is asked to decide.
	View View
}

// Decide takes a decision with the authenticator's answer to a prepared statement.
func (g *Gate) Decide(ctx context.Context, person store.Person, sessionHash []byte, workspace, requestID string, response []byte) (Made, error) {
	assertion, err := passkey.ParseAssertion(response)
	if err != nil {
		return Made{}, refusal.New(CodeAssertion, "The authenticator's answer cannot be read.").Because(err).At("response")
	}
	challenge, err := challengeOf(assertion)
	if err != nil {
		return Made{}, refusal.New(CodeAssertion, "The authenticator's answer cannot be read.").Because(err).At("response")
	}
	if !store.ValidID(workspace) {
		return Made{}, unseen()
	}
	d := decider{Gate: g, person: person, assertion: assertion}
	made, err := d.decide(ctx, workspace, challenge, sessionHash, requestID)
	var unread rightUnread
	if errors.As(err, &unread) { // Bitbucket has to be asked, while nothing is open
		if err := g.see(ctx, person, workspace, string(unread), false); err != nil {
			return Made{}, err
		}
		d.sees = true
		made, err = d.decide(ctx, workspace, challenge, sessionHash, requestID)
	}
	if errors.Is(err, errLost) {
		err = incomplete(err)
	}
	return made, err
}

// rightUnread ends a transaction that would decide before it is known whether the person may read the repository that it names.
type rightUnread string

func (r rightUnread) Error() string { return "the person's right on the repository is not known" }

// challengeOf reads the challenge out of the client data, only to find the ceremony by. Whether it
// was signed is for the verifier.
func challengeOf(a evidence.Assertion) ([]byte, error) {
	var data struct {
		Challenge evidence.Bytes `json:"challenge"`
	}
	if err := json.Unmarshal(a.ClientDataJSON, &data); err != nil {
		return nil, err
	}
	return data.Challenge, nil
}

// decider is the transaction of a decision.
type decider struct {
	*Gate
	tx        *store.Tx
	person    store.Person
	assertion evidence.Assertion
	sees      bool              // the person may read the repository
	identity  evidence.Identity // of the key that signed; known once it is verified
}

// decide decides in one transaction. Of what it refuses a challenge that was consumed stays consumed, unless the person may not see
// what it is about.
func (d *decider) decide(ctx context.Context, workspace string, challenge, sessionHash []byte, requestID string) (made Made, err error) {
	var refused error
	err = d.Store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		d.tx = tx
		signed, err := d.tx.TakeSigned(ctx, requestID, challenge, d.person, sessionHash, d.assertion.CredentialID)
		if err == nil {
			err = d.seesIt(signed)
		}
		if err != nil {
			return hide(err)
		}
		if made, err = d.take(ctx, signed, requestID); refusal.Code(err) != "" {
			refused = err
			return nil
		}
		return err
	})
	return made, errors.Join(err, refused)
}

// seesIt refuses, as if it did not exist, what the person may not read on Bitbucket, as [Gate.see] does.
func (d *decider) seesIt(signed store.Signed) error {
	switch {
	case d.sees:
		return nil
	case signed.Permission == nil:
		return rightUnread(signed.RepositoryID)
	}
	return readable(bitbucket.Permission(*signed.Permission))
}

func (d *decider) take(ctx context.Context, signed store.Signed, requestID string) (made Made, err error) {
	spent := refusal.New(CodeChallenge, "This signature was asked for somewhere else, too long ago, or was used already. Start again.").At("response")
	ceremony := signed.Challenge
	if ceremony == nil || ceremony.WorkspaceID == nil || *ceremony.WorkspaceID != d.tx.Workspace || ceremony.RequestID == nil || *ceremony.RequestID != requestID {
		return made, spent
	}
	var keep kept
	if err := json.Unmarshal(ceremony.Data, &keep); err != nil {
		return made, fmt.Errorf("kept statement: %w", err)
	}
	statement, err := evidence.ParseStatement(keep.Statement)
	if err != nil {
		return made, fmt.Errorf("kept statement: %w", err)
	}
	now, err := d.tx.Now(ctx)
	if err != nil {
		return made, err
	}
	// ExpiresAt has whole seconds, and so may come before the challenge's end. The clock is the database's, which stamped
	// IssuedAt: where another server with a slower one took its place, the leaf would be older than what it is about.
	if now.Before(statement.IssuedAt) || !now.Before(statement.ExpiresAt) {
		return made, spent
	}
	result, err := d.verify(signed, keep.Statement, statement.Roster)
	if err != nil {
		return made, err
	}
	// From here on nobody else changes the pull request, and nobody the roster.
	met, err := d.tx.Deciding(ctx, signed.Credential.ID, int64(result.SignCount), result.BackupState, signed.RepositoryID, signed.PullRequestID)
	if err != nil {
		return made, err
	}
	if !met.Used {
		return made, refusal.New(CodeCounter, "This key was revoked, or made another signature, at the same moment. Start again.").At("response")
	}
	// No leaf of a decision may come behind the one that took its key out of the roster: no verifier believes that.
	if key, found := met.Roster.Key(signed.Credential.ID); !found || !key.LiveAt(met.Roster.Versions()) {
		return made, refusal.New(CodeRevokedKey, "This key was revoked at the same moment: nothing was decided. Use another one.").At("response")
	}
	if met.Live == nil || met.Live.ID != statement.Request || met.Live.HeadCommit != statement.Source.Commit || met.PullRequest.HeadCommit != met.Live.HeadCommit {
		return made, refusal.New(CodeHeadChanged, "The pull request has changed since you were asked to sign: nothing was decided. Reload the page to see what it asks for now.")
	}
	return d.store(ctx, met, statement, keep)
}

// verify checks the assertion over the kept bytes: exactly one key of the whole roster that the
// statement names must have made it, and that key must still count.
func (d *decider) verify(signed store.Signed, statement []byte, roster evidence.Digest) (result evidence.AssertionResult, err error) {
	credential, whole := signed.Credential, signed.Roster
	if credential == nil {
		return result, refusal.New(CodeAssertion, "This key is not enrolled here.").At("response")
	}
	if err := counts(signed.Keys, *credential, d.tx.Workspace, d.person); err != nil {
		return result, err
	}
	version, shown := whole.VersionOf(roster)
	if !shown {
		return result, errors.New("the statement names no version of the roster")
	}
	live := whole.LiveAt(version)
	keys := make([]evidence.Key, len(live))
	for i, key := range live {
		keys[i] = key.Key
	}
	if result, err = d.Passkeys.Verify(statement, d.assertion, keys); err != nil {
		return result, refusal.New(CodeAssertion, "The signature does not hold: %s.", err).Because(err).At("response")
	}
	if before := credential.SignCount; (before > 0 || result.SignCount > 0) && int64(result.SignCount) <= before {
		return result, refusal.New(CodeCounter, "The authenticator's counter went back: it may have been copied. Use another key and revoke this one.").At("response")
	}
	if signer, found := whole.Key(result.Key.CredentialID); found {
		d.identity = whole.IdentityAt(signer, version)
	}
	return result, nil
}

// store writes the verified decision, its leaf, and asks for the evaluation.
func (d *decider) store(ctx context.Context, met store.Deciding, s evidence.Statement, keep kept) (Made, error) {
	pr, live := met.PullRequest, *met.Live
	decisions, _, err := judgeGiven(ctx, d.tx, met.Given)
	if err != nil {
		return Made{}, err
	}
	view := View{Workspace: met.Workspace, PullRequest: pr, Decisions: decisions}
	if err := view.setRequest(live); err != nil {
		return Made{}, err
	}
	if err := d.proveModels(ctx, d.tx, view.Rule, view.Decisions); err != nil {
		return Made{}, err
	}
	action := s.Purpose.Action()
	if err := allowed(can(d.person, view), action); err != nil {
		return Made{}, err
	}
	// Nobody can have decided on another commit since: the request is the one of then.
	if slices.ContainsFunc(decisions, func(o store.Decision) bool { return o.PersonID == d.person.ID && o.Sequence > s.ChainHead.Sequence }) {
		return Made{}, refusal.New(CodeHeadChanged, "You have decided on this pull request since you were asked to sign: nothing more was decided. Reload the page to see what you said last.")
	}
	if author := keep.Openings.Author; author == nil || author.AccountID != pr.AuthorAccountID {
		return Made{}, authorChanged()
	}
	if action == approval.Withdraw {
		mine := view.standing(d.person.ID)
		if approval.DigestOf(mine.Statement) != s.Withdraws {
			return Made{}, refusal.New(CodeNothingToTake, "The decision that you meant to withdraw no longer stands.")
		}
		if err := d.takesBack(ctx, view, *mine); err != nil {
			return Made{}, err
		}
	}
	now, err := d.tx.Now(ctx)
	if err != nil {
		return Made{}, err
	}
	// No evaluation may have said so yet. And one may have that came while this waited for the pull request, and began in
	// time: what comes after that makes nothing better.
	over := !now.Before(live.ExpiresAt) || !view.facts.Now.Before(live.ExpiresAt)
	if over && (action == approval.Override || action == approval.Approve) {
		return Made{}, refusal.New(CodeExpired, "The request has expired; it can be asked for again.")
	}
	assertionDigest, err := d.assertion.Digest()
	if err != nil {
		return Made{}, err
	}
	chain := newChain(met.Workspace, &pr, now)
	leaf, err := chain.add(evidence.DecisionMade{Request: live.ID, Statement: approval.DigestOf(keep.Statement), Assertion: assertionDigest})
	if err != nil {
		return Made{}, err
	}
	assertion, err := json.Marshal(d.assertion)
	if err != nil {
		return Made{}, err
	}
	opened, err := json.Marshal(keep.Openings)
	if err != nil {
		return Made{}, err
	}
	row := store.Decision{
		ID: store.NewID(), PullRequestID: pr.ID, RequestID: live.ID, PersonID: d.person.ID, AccountID: d.person.AccountID,
		Name: d.person.Name, Action: string(action), HeadCommit: live.HeadCommit, DestinationBranch: live.DestinationBranch,
		RuleDigest: live.RuleDigest, Sequence: pr.ChainSequence, Statement: keep.Statement, Assertion: assertion,
		Openings: opened, LeafHash: leaf, Identity: string(d.identity),
		CredentialID: d.assertion.CredentialID,
	}
	if keep.Openings.Comment != nil {
		row.Comment = keep.Openings.Comment.Text
	}
	if row, err = d.tx.InsertDecision(ctx, row); err != nil {
		return Made{}, err
	}
	view.Decisions = append(slices.Clip(decisions), row)
	if err := d.proveModels(ctx, d.tx, view.Rule, view.Decisions[len(decisions):]); err != nil {
		return Made{}, err
	}
	pr.Version++
	d.tx.Touch("pr:" + pr.ID)
	d.tx.Touch("inbox:" + d.person.ID)
	if err := d.tx.ReadNoticesOf(ctx, live.ID, d.person.ID); err != nil {
		return Made{}, err
	}
	if err := d.tx.UpdatePullRequest(ctx, pr); err != nil {
		return Made{}, err
	}
	if err := d.tx.Enqueue(ctx, store.AskEvaluate(d.tx.Workspace, pr.RepositoryID, pr.Number)); err != nil {
		return Made{}, err
	}
	chain.write(d.tx)
	view.PullRequest, view.Can = pr, can(d.person, view)
	return Made{row, view}, nil
}

// takesBack makes sure that a withdrawal with the key that signed has its effect on a decision: with a rejection only one does that
// could approve.
func (d *decider) takesBack(ctx context.Context, v View, mine store.Decision) error {
	withdrawal := []store.Decision{{Action: string(approval.Withdraw), Identity: string(d.identity), CredentialID: d.assertion.CredentialID}}
	if err := d.proveModels(ctx, d.tx, v.Rule, withdrawal); err != nil {
		return err
	}
	judged := decisionsOf(v.Rule, *v.Request, append(withdrawal, mine))
	if v.Rule.Withdraws(judged[0], judged[1]) {
		return nil
	}
	code := CodeUnprovedModel
	if v.Rule.Keys.Countersigned && string(d.identity) != approval.Countersigned {
		code = CodeLoginOnlyKey
	}
	return refusal.New(code, "A rejection is taken back only with a passkey that this rule counts, and the one that you used is none: nothing was decided. Use another one.").At("response")
}

// StatementSHA256 is the digest of the statement that a decision signed, in hex: its challenge.
func StatementSHA256(d store.Decision) string {
	return hex.EncodeToString(evidence.Challenge(d.Statement))
}
