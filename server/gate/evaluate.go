package gate

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/store"
)

// The protocol of an evaluation.
//
//  1. look: read configuration and rules, then the pull request from Bitbucket, its full head
//     commit, and the people that the matching rule needs. No transaction is open meanwhile.
//  2. settle, one transaction that holds the pull request's row: the rules must still be those of
//     step 1, else go round again; close the request that no longer fits; open the one that is
//     wanted; tally over the decisions as they are now; write verdict, leaves and the owed status;
//     ask for the jobs that follow; finish this job.
//
// Only one evaluation of a pull request runs at a time: the job's row is the lease, and its fence
// is checked by the transaction of step 2, so a worker that slept through its lease changes
// nothing. Whatever happens while an evaluation runs moves the job's seq, and it runs again.
//
// The facts of step 1 can be overtaken before step 2 commits. Then a status may be written for a
// commit that is no longer the head. It is true of that commit, and the event that tells of the
// new head asks for the next evaluation; if that event is lost, the reconciler does.

// seen is what step 1 learned.
type seen struct {
	gated   bool // the repository is configured
	version store.PolicyVersion
	remote  *bitbucket.PullRequest // nil: Bitbucket does not have it, or it was not asked
	head    string                 // full hash; "" where it was not needed
	landed  string                 // full hash of the merge commit, of a merged pull request
	rule    *approval.Rule         // the rule that matches the destination; nil if none
	writers []approval.Person      // only where the rule needs them
	people  []approval.Person      // names for the sentences
}

// Evaluate is the job that looks at one pull request again.
func (g *Gate) Evaluate(ctx context.Context, job store.Job) error {
	var at store.Place
	if err := json.Unmarshal(job.Payload, &at); err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	seen, err := g.look(ctx, at)
	if err != nil {
		return g.fate(err)
	}
	return g.settle(ctx, job.Claim, at, seen)
}

func (g *Gate) look(ctx context.Context, at store.Place) (seen, error) {
	var s seen
	var known store.PullRequest
	err := g.Store.InWorkspace(ctx, at.Workspace, func(tx *store.Tx) error {
		config, err := tx.RepositoryConfig(ctx, at.Repository)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		s.gated = true
		if s.version, err = tx.PolicyVersion(ctx, config.PolicyVersionID); err != nil {
			return err
		}
		known, err = tx.FindPullRequest(ctx, at.Repository, at.Number)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return err
	})
	if err != nil || !s.gated {
		return s, err
	}
	policy, err := approval.ParsePolicy(s.version.Document)
	if err != nil {
		return s, fmt.Errorf("stored policy %s: %w", s.version.ID, err)
	}
	client, err := g.Client(ctx, at.Workspace, bitbucket.Foreground)
	if err != nil {
		return s, err
	}
	remote, err := client.PullRequest(ctx, at.Workspace, at.Repository, at.Number)
	var failure *bitbucket.Error
	if errors.As(err, &failure) && failure.NotFound() {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	s.remote = &remote
	if rule, _, ok := policy.Match(remote.Destination.Branch); ok {
		s.rule = &rule
	}
	switch remote.State {
	case bitbucket.Open:
		if s.head, err = client.PullRequestHead(ctx, at.Workspace, at.Repository, at.Number); err != nil {
			return s, err
		}
		if !strings.HasPrefix(s.head, remote.Source.CommitPrefix) {
			return s, errors.New("the head moved while it was read")
		}
	case bitbucket.Merged:
		if known.ID == "" || known.State != "OPEN" {
			return s, nil // seen before, or never gated: nothing will be recorded
		}
		if s.head, err = client.PullRequestHead(ctx, at.Workspace, at.Repository, at.Number); err != nil {
			return s, err
		}
		if remote.MergeCommit != nil {
			commit, err := client.ResolveCommit(ctx, at.Workspace, at.Repository, *remote.MergeCommit)
			if err != nil {
				return s, err
			}
			s.landed = commit.Hash
		}
	case bitbucket.Declined, bitbucket.Superseded: // nothing more to read
	}
	if s.rule != nil && remote.State == bitbucket.Open && !remote.Draft {
		people, err := g.People(ctx, at.Workspace, at.Repository)
		switch needed := s.rule.Needs().Writers; {
		case err != nil && needed:
			return s, err
		case err != nil: // only names are missing
			g.Log.WarnContext(ctx, "names could not be read", "repository", at.Repository, "error", err)
		case needed:
			s.writers = writersOf(people)
		}
		for _, p := range people {
			s.people = append(s.people, approval.Person{AccountID: p.AccountID, Name: p.Name})
		}
	}
	return s, nil
}

// writersOf picks those with write permission.
func writersOf(people []store.RepositoryPerson) []approval.Person {
	writers := []approval.Person{}
	for _, p := range people {
		if bitbucket.Permission(p.Permission).Allows(bitbucket.PermissionWrite) {
			writers = append(writers, approval.Person{AccountID: p.AccountID, Name: p.Name})
		}
	}
	return writers
}

// settlement is the transaction of an evaluation.
type settlement struct {
	*Gate
	tx        *store.Tx
	at        store.Place
	seen      seen
	now       time.Time
	workspace store.Workspace
	pr        *store.PullRequest
	chain     *chain
	changed   bool
}

func (g *Gate) settle(ctx context.Context, claim store.Claim, at store.Place, s seen) error {
	return g.Store.InWorkspace(ctx, at.Workspace, func(tx *store.Tx) error {
		next, err := g.settleIn(ctx, tx, at, s)
		if err != nil {
			return err
		}
		return tx.FinishJob(ctx, claim, next)
	})
}

// settleIn writes what was seen, and answers when the pull request must be looked at again even if
// nothing happens; zero for never.
func (g *Gate) settleIn(ctx context.Context, tx *store.Tx, at store.Place, s seen) (next time.Time, err error) {
	t := &settlement{Gate: g, tx: tx, at: at, seen: s}
	if t.now, err = tx.Now(ctx); err != nil {
		return next, err
	}
	if t.workspace, err = tx.ReadWorkspace(ctx); err != nil {
		return next, err
	}
	pr, err := tx.LockPullRequest(ctx, at.Repository, at.Number)
	if errors.Is(err, store.ErrNotFound) {
		if !s.gated || s.remote == nil || s.remote.State != bitbucket.Open {
			return next, nil // never gated, and nothing to gate
		}
		pr, err = t.insert(ctx)
	}
	if err != nil {
		return next, err
	}
	t.pr, t.chain = &pr, newChain(t.workspace, &pr, t.now)

	config, err := tx.RepositoryConfig(ctx, at.Repository)
	switch gated := err == nil; {
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return next, err
	case gated != s.gated || gated && config.PolicyVersionID != s.version.ID:
		return t.now, nil // the rules changed since they were read: go round again
	}
	before := pr
	t.copyRemote()
	if next, err = t.requests(ctx, before); err != nil {
		return next, err
	}
	if t.changed || visible(before) != visible(pr) {
		pr.Version++
		tx.Touch("pr:" + pr.ID)
	}
	if err := tx.UpdatePullRequest(ctx, pr); err != nil {
		return next, err
	}
	return next, t.chain.write(ctx, tx)
}

// visible is what of a pull request a screen may show.
func visible(p store.PullRequest) string {
	return fmt.Sprintf("%q %s %t %q %q %s %q", p.Title, p.State, p.Draft, p.AuthorName, p.SourceBranch, p.HeadCommit, p.DestinationBranch)
}

func (t *settlement) insert(ctx context.Context) (store.PullRequest, error) {
	key, err := newStatusKey()
	if err != nil {
		return store.PullRequest{}, err
	}
	pr := store.PullRequest{
		ID: uuid.NewString(), RepositoryID: t.at.Repository, Number: t.at.Number, StatusKey: key,
		ChainID: string(evidence.ChainID(t.workspace.GenesisSalt, bitbucket.BracedUUID(t.at.Repository), t.at.Number)),
	}
	t.pr = &pr
	t.copyRemote()
	return t.tx.InsertPullRequest(ctx, pr)
}

// newStatusKey makes the key of a pull request's build status: 39 characters that nobody guesses,
// so that nobody can write under it first.
func newStatusKey() (string, error) {
	var random [15]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", err
	}
	return store.StatusKeyPrefix + strings.ToLower(base32.StdEncoding.EncodeToString(random[:])), nil
}

// copyRemote copies into the row what Bitbucket said.
func (t *settlement) copyRemote() {
	p, r := t.pr, t.seen.remote
	if r == nil {
		if t.seen.gated && p.State == "OPEN" {
			p.State = "GONE"
		}
		return
	}
	p.Title, p.State, p.Draft = clip(r.Title, 1000), string(r.State), r.Draft
	p.AuthorAccountID, p.AuthorName = r.Author.AccountID, r.Author.DisplayName
	p.SourceBranch, p.DestinationBranch = r.Source.Branch, r.Destination.Branch
	p.SourceRepositoryID = nil
	if r.Source.Repository != nil {
		p.SourceRepositoryID = &r.Source.Repository.UUID
	}
	if t.seen.head != "" {
		p.HeadCommit = t.seen.head
	}
}

func clip(s string, runes int) string {
	if r := []rune(s); len(r) > runes {
		return string(r[:runes])
	}
	return s
}

// requests brings the pull request's approval request to where it should be.
func (t *settlement) requests(ctx context.Context, before store.PullRequest) (next time.Time, err error) {
	var live *store.ApprovalRequest
	if r, err := t.tx.LiveRequest(ctx, t.pr.ID); err == nil {
		live = &r
	} else if !errors.Is(err, store.ErrNotFound) {
		return next, err
	}
	if t.pr.State == "MERGED" && before.State == "OPEN" {
		if err := t.merged(ctx, live); err != nil {
			return next, err
		}
	}
	wanted := t.seen.gated && t.pr.State == "OPEN" && !t.pr.Draft && t.seen.rule != nil
	if live != nil && (!wanted || !t.fits(*live)) {
		if err := t.close(ctx, *live, wanted); err != nil {
			return next, err
		}
		live = nil
	}
	if !wanted {
		return next, nil
	}
	if live == nil {
		opened, err := t.open(ctx)
		if err != nil {
			return next, err
		}
		live = &opened
	}
	return t.tally(ctx, *live)
}

// fits tells whether a request asks exactly what must be asked now.
func (t *settlement) fits(r store.ApprovalRequest) bool {
	return r.HeadCommit == t.pr.HeadCommit && r.DestinationBranch == t.pr.DestinationBranch && r.RuleDigest == string(t.seen.rule.Digest())
}

// close ends a request that no longer fits: superseded where another one takes its place,
// cancelled where none does. An approved request of a merged pull request has done its work: it
// stays as it is.
func (t *settlement) close(ctx context.Context, r store.ApprovalRequest, replaced bool) error {
	if t.pr.State == "MERGED" && r.State == store.RequestApproved && r.HeadCommit == t.pr.HeadCommit {
		return nil
	}
	state, reason, sentence := store.RequestCancelled, "cancelled", t.cancelSentence()
	if replaced {
		state, reason, sentence = store.RequestSuperseded, "superseded", t.supersedeSentence(r)
	}
	if err := t.tx.CloseRequest(ctx, r.ID, state, sentence); err != nil {
		return err
	}
	if _, err := t.chain.add(evidence.RequestClosed{Request: r.ID, Reason: reason}); err != nil {
		return err
	}
	t.changed = true
	if replaced && r.HeadCommit == t.pr.HeadCommit {
		return nil // the next request owes a status on this very commit
	}
	return t.owe(ctx, r, bitbucket.StatusStopped, sentence)
}

func (t *settlement) cancelSentence() string {
	switch {
	case !t.seen.gated:
		return "cancelled: the repository is no longer gated"
	case t.pr.State == "MERGED":
		return "cancelled: the pull request was merged"
	case t.pr.State == "GONE":
		return "cancelled: Bitbucket no longer has the pull request"
	case t.pr.State != "OPEN":
		return "cancelled: the pull request was closed"
	case t.pr.Draft:
		return "cancelled: the pull request is a draft"
	}
	return "cancelled: no rule asks for approval of this destination branch"
}

func (t *settlement) supersedeSentence(r store.ApprovalRequest) string {
	switch {
	case r.HeadCommit != t.pr.HeadCommit:
		return "superseded by a newer commit"
	case r.DestinationBranch != t.pr.DestinationBranch:
		return "superseded: the destination branch changed"
	}
	return "superseded: the rule changed"
}

// open asks the approvers.
func (t *settlement) open(ctx context.Context) (store.ApprovalRequest, error) {
	rule := *t.seen.rule
	request, err := t.tx.InsertRequest(ctx, store.ApprovalRequest{
		ID: uuid.NewString(), PullRequestID: t.pr.ID, HeadCommit: t.pr.HeadCommit, DestinationBranch: t.pr.DestinationBranch,
		PolicyVersionID: t.seen.version.ID, Rule: rule.Canonical(), RuleDigest: string(rule.Digest()), Sentence: "waiting for approvals",
		ExpiresAt: t.now.Add(rule.Expiry()),
	})
	if err != nil {
		return store.ApprovalRequest{}, err
	}
	about, err := requestDocument(t.workspace, *t.pr, request).Digest()
	if err != nil {
		return store.ApprovalRequest{}, err
	}
	if _, err := t.chain.add(evidence.RequestOpened{Request: request.ID, Document: about}); err != nil {
		return store.ApprovalRequest{}, err
	}
	t.changed = true
	return request, t.notify(ctx, request, rule)
}

// tally computes the verdict of a live request and owes Bitbucket what follows from it.
func (t *settlement) tally(ctx context.Context, r store.ApprovalRequest) (next time.Time, err error) {
	decisions, err := t.tx.DecisionsOn(ctx, t.pr.ID, r.HeadCommit)
	if err != nil {
		return next, err
	}
	facts := t.facts(r, decisions)
	verdict := approval.Tally(*t.seen.rule, facts)
	if err := t.record(ctx, &r, facts, verdict); err != nil {
		return next, err
	}
	state := map[approval.State]bitbucket.StatusState{
		approval.Pending: bitbucket.StatusInProgress, approval.Approved: bitbucket.StatusSuccessful,
		approval.Rejected: bitbucket.StatusFailed, approval.Expired: bitbucket.StatusFailed,
	}[verdict.State]
	if state == "" {
		return next, fmt.Errorf("a verdict of an unknown state %q", verdict.State)
	}
	if err := t.owe(ctx, r, state, verdict.Sentence); err != nil {
		return next, err
	}
	if verdict.State == approval.Approved && t.seen.rule.AutoMerge != nil {
		if err := t.planMerge(ctx, r); err != nil {
			return next, err
		}
	}
	if verdict.State == approval.Pending {
		next = r.ExpiresAt
	}
	return next, nil
}

// record writes a verdict if it, or the decisions that it rests on, differ from the last ones: what
// was taken back before anybody looked changes no verdict, but the bundle must hold it.
func (t *settlement) record(ctx context.Context, r *store.ApprovalRequest, facts approval.Facts, verdict approval.Verdict) (err error) {
	last, err := verdictOf(*r)
	if err != nil {
		return err
	}
	before, err := factsOf(*r)
	if err != nil {
		return err
	}
	if reflect.DeepEqual(last, verdict) && slices.Equal(before.Decisions, facts.Decisions) {
		return nil
	}
	r.State, r.Sentence, r.PolicyVersionID = string(verdict.State), verdict.Sentence, t.seen.version.ID
	if r.Facts, err = json.Marshal(facts); err != nil {
		return err
	}
	if r.Verdict, err = json.Marshal(verdict); err != nil {
		return err
	}
	if err := t.tx.SaveVerdict(ctx, *r); err != nil {
		return err
	}
	outcome, err := evidence.OutcomeDigest(approval.Digest(t.seen.version.Digest), facts, verdict)
	if err != nil {
		return err
	}
	t.changed = true
	_, err = t.chain.add(evidence.VerdictReached{Request: r.ID, State: r.State, Outcome: outcome})
	return err
}

// verdictOf reads the verdict that a request bears: the zero one before the first tally.
func verdictOf(r store.ApprovalRequest) (v approval.Verdict, err error) {
	if err := json.Unmarshal(r.Verdict, &v); err != nil {
		return v, fmt.Errorf("stored verdict of request %s: %w", r.ID, err)
	}
	return v, nil
}

// factsOf reads the facts that a request's verdict was tallied from.
func factsOf(r store.ApprovalRequest) (f approval.Facts, err error) {
	if err := json.Unmarshal(r.Facts, &f); err != nil {
		return f, fmt.Errorf("stored facts of request %s: %w", r.ID, err)
	}
	return f, nil
}

// owe sets what Bitbucket should show on a request's commit.
func (t *settlement) owe(ctx context.Context, r store.ApprovalRequest, state bitbucket.StatusState, sentence string) error {
	owed, err := t.tx.OweStatus(ctx, store.CommitStatus{
		PullRequestID: t.pr.ID, Commit: r.HeadCommit, RepositoryID: t.pr.RepositoryID, RequestID: r.ID, Key: t.pr.StatusKey,
		RefName: t.pr.SourceBranch, State: string(state), Description: sentence, URL: t.panelURL(t.tx.Workspace, *t.pr),
	})
	if err != nil || !owed {
		return err
	}
	t.changed = true
	return t.tx.Enqueue(ctx, store.AskStatus(t.tx.Workspace, t.pr.ID, r.HeadCommit))
}

// planMerge records the intent to merge. The merge itself is asked for once Bitbucket has
// confirmed the status, or now where nothing is owed any more.
func (t *settlement) planMerge(ctx context.Context, r store.ApprovalRequest) error {
	planned, err := t.tx.PlanMerge(ctx, store.MergeIntent{
		PullRequestID: t.pr.ID, HeadCommit: r.HeadCommit, RequestID: r.ID, Strategy: t.seen.rule.AutoMerge.Strategy,
	})
	if err != nil {
		return err
	}
	t.changed = t.changed || planned
	status, err := t.tx.Status(ctx, t.pr.ID, r.HeadCommit)
	if err != nil || !status.Paid() {
		return err
	}
	return t.askForMerge(ctx, t.tx, *t.pr, r.HeadCommit)
}

// merged records that the pull request was seen merged, and whether what was merged was approved.
func (t *settlement) merged(ctx context.Context, live *store.ApprovalRequest) error {
	if live == nil || t.seen.landed == "" {
		return nil // nothing was asked for
	}
	approved := live.State == store.RequestApproved && live.HeadCommit == t.pr.HeadCommit && live.DestinationBranch == t.pr.DestinationBranch
	body := evidence.Merged{Request: live.ID, Kind: "approved", Commit: t.seen.landed}
	if !approved {
		body.Kind = "violation"
		_, err := t.tx.RaiseAlarm(ctx, store.Alarm{
			Kind: store.AlarmMergedUnapproved, RepositoryID: &t.pr.RepositoryID, PullRequestID: &t.pr.ID, Subject: t.pr.ID,
			Sentence: fmt.Sprintf("Pull request %d was merged without the approvals that its rule asks for.", t.pr.Number),
		})
		if err != nil {
			return err
		}
	}
	t.changed = true
	_, err := t.chain.add(body)
	return err
}

// facts is everything that a tally looks at.
func (t *settlement) facts(r store.ApprovalRequest, decisions []store.Decision) approval.Facts {
	facts := approval.Facts{
		Now: t.now, Author: t.pr.AuthorAccountID, Writers: t.seen.writers,
		Request: approval.RequestFacts{
			ID: r.ID, HeadCommit: r.HeadCommit, DestinationBranch: r.DestinationBranch,
			RuleDigest: approval.Digest(r.RuleDigest), ExpiresAt: r.ExpiresAt.UTC(),
		},
	}
	for _, requirement := range t.seen.rule.Requirements {
		for _, p := range t.seen.people {
			if slices.Contains(requirement.Approvers.Accounts, p.AccountID) {
				facts.People = append(facts.People, p)
			}
		}
	}
	facts.Decisions = decisionsOf(decisions)
	return facts
}

// decisionsOf is what a tally looks at of decisions.
func decisionsOf(rows []store.Decision) (decisions []approval.Decision) {
	for _, d := range rows {
		decisions = append(decisions, approval.Decision{
			ID: d.ID, RequestID: d.RequestID, PersonID: d.PersonID, AccountID: d.AccountID, Name: d.Name,
			Action: approval.Action(d.Action), HeadCommit: d.HeadCommit, DestinationBranch: d.DestinationBranch,
			RuleDigest: approval.Digest(d.RuleDigest), Sequence: d.Sequence,
		})
	}
	return decisions
}

// panelURL is where the status leads: it holds no secret.
func (g *Gate) panelURL(workspace string, pr store.PullRequest) string {
	return g.Origin + PanelPath(workspace, pr.RepositoryID, pr.Number)
}

// PanelPath is the path of a pull request's panel on our origin.
func PanelPath(workspace, repositoryID string, number int64) string {
	return fmt.Sprintf("/pr/%s/%s/%d", workspace, repositoryID, number)
}

// SignPath is the path of a pull request's sign page on our origin.
func SignPath(workspace, repositoryID string, number int64) string {
	return fmt.Sprintf("/sign/%s/%s/%d", workspace, repositoryID, number)
}
