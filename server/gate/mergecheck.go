package gate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/witness"
)

// The protocol of a merge check.
//
//  1. ask: read the pull request, its full head and the people from Bitbucket, all at once. No
//     transaction is open meanwhile.
//  2. judge, one transaction that holds the pull request's row: what Bitbucket said must be what the
//     gate knows, the live request must ask exactly what must be asked now, and the tally over the
//     decisions and people of this moment must approve, or override. What says so must be under a published
//     checkpoint of the log, with as many cosignatures as the rule asks for; where it is not yet, it is published and
//     judged again. The answer and its leaf are written by the same transaction, so a "yes" that is not on record is never given.
//
// Whatever else happens, an error, a doubt, a deadline, a commit whose outcome is unknown, is a "no"
// with a sentence. So a "yes" may be on record that Bitbucket never got; the contrary cannot be.

// MergeQuestion is what Bitbucket's merge check asks.
type MergeQuestion struct {
	// Workspace and Repository are UUIDs, bare and in lower case.
	Workspace, Repository string
	// Number is the pull request's number in the repository.
	Number int64
	// Trigger is [store.CheckOnMerge] or [store.CheckPreMerge].
	Trigger string
	// AccountID is the Bitbucket account that wants to merge; "" where nobody is named.
	AccountID string
}

// MergeAnswer is what Bitbucket is told.
type MergeAnswer struct {
	// Success allows the merge.
	Success bool
	// Message is a sentence for the developer, with where to go on after a "no"; at most 600 characters.
	Message string
	// Code is why, stable: one of the constants below, or the code of a refusal.
	Code string
}

// Codes of the merge check's answers. The first three allow the merge.
const (
	CodeCheckApproved   = evidence.CheckApproved   // the request is approved
	CodeCheckOverridden = evidence.CheckOverridden // the request is not approved, and was overridden
	CodeCheckNoRule     = evidence.CheckNoRule     // no rule asks for approval of the destination branch
	CodeCheckQuestion   = "BAD_QUESTION"           // the question cannot be understood
	CodeCheckNotGated   = "NOT_GATED"              // the repository is not set up here
	CodeCheckUnseen     = "NOT_VISIBLE"            // Bitbucket does not show the pull request to this server
	CodeCheckClosed     = "PULL_REQUEST_CLOSED"    // the pull request is not open
	CodeCheckDraft      = "DRAFT"                  // the pull request is a draft
	CodeCheckUnknown    = "NOT_EVALUATED_YET"      // the gate does not know this head, destination, rule or decision yet
	CodeCheckPending    = "PENDING"                // approvals are missing
	CodeCheckRejected   = "REJECTED"               // somebody rejected
	CodeCheckExpired    = "EXPIRED"                // nobody decided in time
	CodeCheckOther      = "NOT_APPROVED"           // the request is in another state
	CodeCheckLog        = "LOG_NOT_PUBLISHED"      // it may be merged, and the log that says so cannot be published
	CodeCheckUncosigned = "LOG_NOT_COSIGNED"       // it may be merged, and fewer witnesses have cosigned the log than its rule asks for
	CodeCheckTimeout    = "TIMEOUT"                // there was no time left to find out
	CodeCheckFault      = "INTERNAL_ERROR"         // this server failed
)

const (
	// checkPatience is how long a merge check takes at most; Bitbucket gives up after some seconds.
	checkPatience = 3 * time.Second
	// checkRepeat is how long the same answer to the same question is not recorded again.
	checkRepeat = 10 * time.Second
	// checkRounds is how often it is judged while the pull request's chain grows faster than it is published.
	checkRounds = 3
	// checkHeld is when the doctor looks whether a "no" held.
	checkHeld = time.Minute
	// maxCheckSentence bounds the sentence of an answer, in characters.
	maxCheckSentence = 400
)

// MergeCheck answers Bitbucket's merge check from the truth of this moment. It never fails: what it
// cannot find out, record or finish within three quarters of the caller's deadline, 3 s at most, is
// answered with "no".
func (g *Gate) MergeCheck(ctx context.Context, q MergeQuestion) MergeAnswer {
	patience := checkPatience
	if deadline, ok := ctx.Deadline(); ok {
		patience = min(patience, time.Until(deadline)*3/4)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c := &mergeCheck{Gate: g, q: q, patience: patience, cosigned: map[int]int64{}}
	answered := make(chan verdictOnMerge, 1)
	// By itself, since a refresh of tokens finishes its work whatever becomes of its caller.
	go func() {
		defer func() {
			if fault := recover(); fault != nil {
				g.Log.ErrorContext(ctx, "the merge check panicked", "fault", fault, "stack", string(debug.Stack()))
				answered <- c.fault()
			}
		}()
		answered <- c.run(ctx)
	}()
	var v verdictOnMerge
	select {
	case v = <-answered:
	case <-ctx.Done():
		v = c.late()
	}
	if !v.success {
		g.Log.InfoContext(ctx, "merge check answered no", "workspace", q.Workspace, "repository", q.Repository, "number", q.Number,
			"trigger", q.Trigger, "code", v.code, "error", v.cause)
	}
	return MergeAnswer{Success: v.success, Code: v.code, Message: c.message(v)}
}

// mergeCheck is one question on its way to an answer.
type mergeCheck struct {
	*Gate
	q        MergeQuestion
	patience time.Duration
	// cosigned is how many leaves of the log a checkpoint covers that so many witnesses cosigned, as far as this
	// question had to know. The goroutine that finds the answer owns it.
	cosigned map[int]int64
}

// verdictOnMerge is an answer with what it rests on.
type verdictOnMerge struct {
	success        bool
	code, sentence string
	request        *store.ApprovalRequest // that was judged; nil where none was
	evaluate       bool                   // the gate must look at the pull request again
	cause          error                  // for the log
}

func (c *mergeCheck) no(code, format string, args ...any) verdictOnMerge {
	return verdictOnMerge{code: code, sentence: fmt.Sprintf(format, args...)}
}

// notYet is the "no" to what the gate will know in a moment.
func (c *mergeCheck) notYet(what string) verdictOnMerge {
	v := c.no(CodeCheckUnknown, "SignedApproval has not looked at %s yet; please merge again in a few seconds", what)
	v.evaluate = true
	return v
}

func (c *mergeCheck) late() verdictOnMerge {
	return c.no(CodeCheckTimeout, "SignedApproval could not find out in time whether this is approved; please try again")
}

func (c *mergeCheck) fault() verdictOnMerge {
	return c.no(CodeCheckFault, "SignedApproval failed to find out whether this is approved; please try again, and tell an administrator if it goes on")
}

func (c *mergeCheck) message(v verdictOnMerge) string {
	sentence := clip(v.sentence, maxCheckSentence)
	if first, size := utf8.DecodeRuneInString(sentence); size > 0 {
		sentence = string(unicode.ToUpper(first)) + sentence[size:]
	}
	sentence = strings.TrimSuffix(sentence, ".") + "."
	if v.success || v.code == CodeCheckQuestion {
		return sentence
	}
	return sentence + " Open the panel: " + c.Origin + PanelPath(c.q.Workspace, c.q.Repository, c.q.Number)
}

// run finds the answer and records it.
func (c *mergeCheck) run(ctx context.Context) verdictOnMerge {
	q := c.q
	if !store.ValidID(q.Workspace) || !store.ValidID(q.Repository) || q.Number < 1 || len(q.AccountID) > maxAccountID ||
		q.Trigger != store.CheckOnMerge && q.Trigger != store.CheckPreMerge {
		return c.no(CodeCheckQuestion, "SignedApproval does not understand what Bitbucket asked")
	}
	// What it takes to record a "no" is kept back.
	asking, cancel := context.WithTimeout(ctx, c.patience*2/3)
	defer cancel()
	asked, refused := c.ask(asking)
	var v verdictOnMerge
	var err error
	for round := 1; ; round++ {
		err = c.Store.InWorkspace(ctx, q.Workspace, func(tx *store.Tx) (err error) {
			v, err = c.judge(ctx, tx, asked, refused)
			return err
		})
		early, is := errors.AsType[*unpublished](err)
		if !is {
			break
		}
		cause := c.Publish(asking, early.size, early.cosignatures)
		switch {
		case cause == nil && round < checkRounds:
			c.cosigned[early.cosignatures] = early.size
		case early.cosignatures > 0 && errors.Is(cause, witness.ErrUncosigned):
			refused = new(c.no(CodeCheckUncosigned, "this is approved, but it %s, as its rule asks; please try again in a moment, and tell an administrator if it goes on", waitsForWitnesses(early.cosignatures)))
		default:
			refused = new(c.no(CodeCheckLog, "this may be merged, but SignedApproval could not publish that in its log; please try again, and tell an administrator if it goes on"))
		}
		if refused != nil {
			refused.cause = cause
		}
	}
	switch {
	case err == nil:
		return v
	case errors.Is(err, store.ErrNotFound): // no such workspace
		return c.notGated()
	case ctx.Err() != nil:
		v = c.late()
	default:
		v = c.fault()
	}
	v.cause = err
	return v
}

// unpublished ends a transaction that would have said yes.
type unpublished struct {
	size         int64
	cosignatures int
}

func (u *unpublished) Error() string {
	return fmt.Sprintf("the log is not published up to %d leaves with %d cosignatures", u.size, u.cosignatures)
}

// maxAccountID bounds an account id, in bytes, as statements do.
const maxAccountID = 128

func (c *mergeCheck) notGated() verdictOnMerge {
	return c.no(CodeCheckNotGated, "SignedApproval's merge check is switched on here, but the repository has no rules; an administrator has to add it in SignedApproval's settings, or take the check away")
}

// answers is what Bitbucket said.
type answers struct {
	versionID string // of the policy that was in force before
	remote    bitbucket.PullRequest
	head      string
	writers   []approval.Person // nil where no rule asks for them
}

// ask reads what Bitbucket knows. A refusal is the answer already.
func (c *mergeCheck) ask(ctx context.Context) (a answers, refused *verdictOnMerge) {
	var policy approval.Policy
	err := c.Store.InWorkspace(ctx, c.q.Workspace, func(tx *store.Tx) error {
		config, err := tx.RepositoryConfig(ctx, c.q.Repository)
		if err != nil {
			return err
		}
		a.versionID = config.PolicyVersionID
		policy, err = policyOf(ctx, tx, config)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return a, new(c.notGated())
	}
	if err != nil {
		return a, new(c.unanswered(ctx, err))
	}
	client, err := c.Client(ctx, c.q.Workspace, bitbucket.Urgent)
	if err != nil {
		return a, new(c.unanswered(ctx, err))
	}
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		a.remote, err = client.PullRequest(inner, c.q.Workspace, c.q.Repository, c.q.Number)
		return err
	})
	group.Go(func() (err error) {
		a.head, err = client.PullRequestHead(inner, c.q.Workspace, c.q.Repository, c.q.Number)
		return err
	})
	if anyNeedsWriters(policy) {
		group.Go(func() error {
			people, err := c.People(inner, c.q.Workspace, c.q.Repository)
			a.writers = writersOf(people)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return a, new(c.unanswered(ctx, err))
	}
	if !strings.HasPrefix(a.head, a.remote.Source.CommitPrefix) {
		return a, new(c.notYet("the newest commit"))
	}
	return a, nil
}

func anyNeedsWriters(policy approval.Policy) bool {
	for _, rule := range policy.Rules {
		if rule.Needs().Writers {
			return true
		}
	}
	return false
}

// unanswered turns what went wrong while Bitbucket was asked into a sentence.
func (c *mergeCheck) unanswered(ctx context.Context, err error) verdictOnMerge {
	v := c.fault()
	remote, isRemote := errors.AsType[*bitbucket.Error](err)
	said := refusal.Of(err)
	switch {
	case ctx.Err() != nil:
		v = c.late()
	case said != nil:
		v = c.no(said.Code, "SignedApproval cannot tell whether this is approved: %s", said.Message)
	case !isRemote:
	case remote.Throttled():
		v = c.no(refusal.BitbucketUnavailable, "SignedApproval may not ask Bitbucket about this pull request just now, since the hour's calls are used up; please try again later")
	case remote.NotFound(), remote.Forbidden(), remote.Unauthorized():
		v = c.no(CodeCheckUnseen, "Bitbucket does not let SignedApproval see this pull request; an administrator has to look at its connection")
	default:
		v = c.no(refusal.BitbucketUnavailable, "SignedApproval could not read this pull request from Bitbucket; please try again")
	}
	v.cause = err
	return v
}

// judge decides and records, under the lock of the pull request.
func (c *mergeCheck) judge(ctx context.Context, tx *store.Tx, a answers, refused *verdictOnMerge) (v verdictOnMerge, err error) {
	pr, err := tx.LockPullRequest(ctx, c.q.Repository, c.q.Number)
	tx.HoldRules(c.q.Repository)
	known := err == nil
	if optional(err) != nil {
		return v, err
	}
	switch {
	case refused != nil:
		v = *refused
	case a.remote.State != bitbucket.Open:
		v = c.no(CodeCheckClosed, "the pull request is not open any more")
	case a.remote.Draft:
		v = c.no(CodeCheckDraft, "the pull request is a draft: approval is asked for once it is ready for review")
	case !known:
		v = c.notYet("this pull request")
	case pr.State != "OPEN" || pr.Draft || pr.HeadCommit != a.head || pr.DestinationBranch != a.remote.Destination.Branch:
		v = c.notYet("the newest state of this pull request")
	default:
		if v, err = c.tally(ctx, tx, pr, a); err != nil {
			return v, err
		}
	}
	if v.evaluate {
		if err := tx.Enqueue(ctx, store.AskEvaluate(c.q.Workspace, c.q.Repository, c.q.Number)); err != nil {
			return v, err
		}
	}
	var row *store.PullRequest
	if known {
		row = &pr
	}
	return v, c.record(ctx, tx, row, a, v)
}

// tally judges a pull request of which the gate knows what Bitbucket says.
func (c *mergeCheck) tally(ctx context.Context, tx *store.Tx, pr store.PullRequest, a answers) (v verdictOnMerge, err error) {
	config, err := tx.RepositoryConfig(ctx, c.q.Repository)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return c.notGated(), nil
	case err != nil:
		return v, err
	case config.PolicyVersionID != a.versionID:
		return c.notYet("this pull request under the new rules"), nil
	}
	policy, err := policyOf(ctx, tx, config)
	if err != nil {
		return v, err
	}
	live, err := tx.LiveRequest(ctx, pr.ID)
	asked := err == nil
	if optional(err) != nil {
		return v, err
	}
	rule, _, gated := policy.Match(pr.DestinationBranch)
	switch {
	case !gated && !asked:
		return verdictOnMerge{success: true, code: CodeCheckNoRule, sentence: fmt.Sprintf("no rule of SignedApproval asks for approval of changes to %s", pr.DestinationBranch)}, nil
	case !gated, !asked, live.HeadCommit != pr.HeadCommit, live.DestinationBranch != pr.DestinationBranch, live.RuleDigest != string(rule.Digest()):
		return c.notYet("the newest state of this pull request"), nil
	}
	given, err := tx.Given(ctx, pr.ID, live.HeadCommit)
	if err != nil {
		return v, err
	}
	facts, _, err := c.factsNow(ctx, tx, live, rule, given, a.writers)
	if err != nil {
		return v, err
	}
	verdict := approval.Tally(rule, facts)
	code, known := map[approval.State]string{
		approval.Pending: CodeCheckPending, approval.Rejected: CodeCheckRejected, approval.Expired: CodeCheckExpired,
	}[verdict.State]
	yes := map[approval.State]string{approval.Approved: CodeCheckApproved, approval.Overridden: CodeCheckOverridden}[verdict.State]
	switch {
	case yes != "" && live.State == string(verdict.State):
		end, err := readChainEnd(ctx, tx, pr.ID)
		if err != nil {
			return v, err
		}
		// Who cosigned is known to who publishes, and what that one said of this question stays true.
		published := end.published
		if rule.Cosignatures > 0 {
			published = end.size <= c.cosigned[rule.Cosignatures]
		}
		if !published {
			return v, &unpublished{end.size, rule.Cosignatures}
		}
		v = verdictOnMerge{success: true, code: yes, sentence: verdict.Sentence}
	case yes != "":
		v = c.notYet("the newest decision") // its verdict must be on record first
	case known:
		v = c.no(code, "%s", verdict.Sentence)
		v.evaluate = live.State != string(verdict.State)
	default:
		v = c.no(CodeCheckOther, "this is not approved")
	}
	v.request = &live
	return v, nil
}

// record writes the answer, and its leaf where there is a chain, unless the same was answered to the
// same question just now. A "no" to a merge is looked after: it must have held.
func (c *mergeCheck) record(ctx context.Context, tx *store.Tx, pr *store.PullRequest, a answers, v verdictOnMerge) error {
	row := store.MergeCheck{
		RepositoryID: c.q.Repository, Number: c.q.Number, Trigger: c.q.Trigger, HeadCommit: a.head, DestinationBranch: a.remote.Destination.Branch,
		AccountID: c.q.AccountID, Success: v.success, Code: v.code, Sentence: clip(v.sentence, maxCheckSentence),
	}
	if row.HeadCommit == "" || row.DestinationBranch == "" {
		row.HeadCommit, row.DestinationBranch = "", "" // one of the calls failed: half an answer is none
	}
	if pr != nil {
		row.PullRequestID = &pr.ID
	}
	if v.request != nil {
		row.RequestID = &v.request.ID
	}
	repeated, err := tx.HasMergeCheck(ctx, row, checkRepeat)
	if err != nil || repeated {
		return err
	}
	now, err := tx.Now(ctx)
	if err != nil {
		return err
	}
	if !v.success && row.Trigger == store.CheckOnMerge {
		later := store.AskDoctor(c.q.Workspace, c.q.Repository)
		later.RunAt = now.Add(checkHeld)
		if err := tx.Enqueue(ctx, later); err != nil {
			return err
		}
	}
	if pr == nil {
		return tx.PutMergeCheck(ctx, row)
	}
	if row.AccountID != "" {
		row.AskerSalt = make([]byte, evidence.SaltSize)
		rand.Read(row.AskerSalt) // never fails
	}
	if err := c.leaf(ctx, tx, pr, row, now); err != nil {
		return err
	}
	return tx.PutMergeCheck(ctx, row)
}

func (c *mergeCheck) leaf(ctx context.Context, tx *store.Tx, pr *store.PullRequest, row store.MergeCheck, now time.Time) error {
	workspace, err := tx.ReadWorkspace(ctx)
	if err != nil {
		return err
	}
	body := evidence.MergeChecked{Trigger: evidence.TriggerPreMerge, Answer: evidence.AnswerNo, Code: row.Code, Commit: row.HeadCommit}
	if row.Trigger == store.CheckOnMerge {
		body.Trigger = evidence.TriggerOnMerge
	}
	if row.Success {
		body.Answer = evidence.AnswerYes
	}
	if row.DestinationBranch != "" {
		body.Destination = evidence.BranchID(workspace.GenesisSalt, bitbucket.BracedUUID(row.RepositoryID), row.DestinationBranch)
	}
	if row.RequestID != nil {
		body.Request = *row.RequestID
	}
	if row.AskerSalt != nil {
		if body.Asker, err = (evidence.PersonOpening{Salt: row.AskerSalt, AccountID: row.AccountID}).Commitment(); err != nil {
			return err
		}
	}
	chain := newChain(workspace, pr, now)
	if _, err := chain.add(body); err != nil {
		return err
	}
	tx.Touch("pr:" + pr.ID)
	if err := tx.MoveChain(ctx, *pr); err != nil {
		return err
	}
	chain.write(tx)
	return nil
}
