package gate

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// View is a pull request with everything that a screen shows of it, read in one moment.
type View struct {
	Workspace   store.Workspace
	Repository  store.RepositoryConfig // the zero one where the repository is no longer gated
	PullRequest store.PullRequest
	Request     *store.ApprovalRequest // the one that was asked for, else the live one, else the last one
	Verdict     approval.Verdict       // of Request, as last tallied
	Rule        approval.Rule          // of Request
	Decisions   []store.Decision       // given to Request, oldest first
	Status      *store.CommitStatus    // on the head
	Merge       *store.MergeIntent     // of the head
	Can         Can

	facts approval.Facts // that Verdict was tallied from
	right *string        // of the viewer, as in [store.Screen]
}

// Can is what the viewer can do about the view's request.
type Can struct {
	Approve, Reject, Withdraw, Renew bool
	Code                             string // why nothing can be done; "" where something can
	Reason                           string // the same as a sentence

	Override                     bool
	OverrideCode, OverrideReason string // why it cannot be overridden; "" where it can
}

// Codes of why a decision cannot be taken.
const (
	CodeNotOpen        = "NOT_OPEN"         // the pull request is closed, or nothing is asked for
	CodeSuperseded     = "SUPERSEDED"       // a newer request took this one's place
	CodeExpired        = "EXPIRED"          // nobody decided in time
	CodeNoAuthor       = "NO_AUTHOR"        // Bitbucket does not say whose pull request it is
	CodeAuthor         = "AUTHOR"           // authors do not approve their own pull request here
	CodeNotApprover    = "NOT_APPROVER"     // the rule does not ask this person
	CodeAlreadyDecided = "ALREADY_DECIDED"  // the person's decision stands
	CodeNothingToTake  = "NOTHING_TO_UNDO"  // no decision of the person stands
	CodeNoOverride     = "NO_OVERRIDE"      // the rule cannot be overridden
	CodeNotOverrider   = "NOT_OVERRIDER"    // the rule does not let this person override it
	CodeNotNeeded      = "NOT_NEEDED"       // the request is approved: there is nothing to override
	CodeReasonMissing  = "REASON_MISSING"   // an override without a reason
	CodeHeadChanged    = "HEAD_CHANGED"     // the page shows another commit than the pull request has
	CodeDiffChanged    = "DIFF_CHANGED"     // the page shows another diff than the pull request has
	CodeDiffTooLarge   = "DIFF_TOO_LARGE"   // nobody could read it
	CodeChallenge      = "CHALLENGE"        // used, expired, or of another person, page or session
	CodeAssertion      = "ASSERTION"        // the authenticator's answer does not verify
	CodeCounter        = "COUNTER"          // the authenticator's counter went back: it may have been copied
	CodeRevokedKey     = "REVOKED_KEY"      // the key was revoked
	CodeCommentTooLong = "COMMENT_TOO_LONG" // over 2000 characters
	CodeTooLong        = "TOO_LONG"         // more history than one file of evidence can hold
	CodeStolenKey      = "STOLEN_KEY"       // what was approved rests on a key that was reported as stolen
	CodeIncomplete     = "INCOMPLETE"       // what the evidence rests on is not on record any more
)

// Find gives the view of a pull request by its place on Bitbucket.
func (g *Gate) Find(ctx context.Context, person store.Person, workspace, repositoryID string, number int64) (View, error) {
	return g.view(ctx, person, workspace, store.Which{RepositoryID: repositoryID, Number: number, AccountID: person.AccountID})
}

// ViewPullRequest gives the view of a pull request by our id.
func (g *Gate) ViewPullRequest(ctx context.Context, person store.Person, workspace, id string) (View, error) {
	return g.view(ctx, person, workspace, store.Which{ID: id, AccountID: person.AccountID})
}

// ViewRequest gives the view of the pull request of a request, with that request in it.
func (g *Gate) ViewRequest(ctx context.Context, person store.Person, workspace, requestID string) (View, error) {
	return g.view(ctx, person, workspace, store.Which{RequestID: requestID, AccountID: person.AccountID})
}

// unseen is the answer for what does not exist and for what may not be seen.
func unseen() error {
	return refusal.New(refusal.NotFound, "There is no such pull request, or you may not see it.")
}

// hide turns "no such row" into the refusal that says no more than that.
func hide(err error) error {
	if refusal.Of(err) == nil && errors.Is(err, store.ErrNotFound) {
		return unseen()
	}
	return err
}

// see refuses, as if it did not exist, what the person may not read on Bitbucket.
func (g *Gate) see(ctx context.Context, person store.Person, workspace, repositoryID string, fresh bool) error {
	permission, err := g.Permission(ctx, person, workspace, repositoryID, fresh)
	if err != nil {
		return err
	}
	return readable(permission)
}

// seeAs is see with what was read of the person's right together with a view.
func (g *Gate) seeAs(ctx context.Context, person store.Person, workspace string, v View) error {
	if v.right == nil {
		return g.see(ctx, person, workspace, v.PullRequest.RepositoryID, false)
	}
	return readable(bitbucket.Permission(*v.right))
}

func readable(permission bitbucket.Permission) error {
	if !permission.Allows(bitbucket.PermissionRead) {
		return unseen()
	}
	return nil
}

func (g *Gate) view(ctx context.Context, person store.Person, workspace string, which store.Which) (View, error) {
	if !store.ValidID(workspace) || !store.ValidID(cmp.Or(which.RequestID, which.ID, which.RepositoryID)) {
		return View{}, unseen()
	}
	var v View
	err := g.Store.Reading(ctx, workspace, func(tx *store.Tx) (err error) {
		v, err = g.readView(ctx, tx, which)
		return err
	})
	if err != nil && !errors.Is(err, errLost) {
		return View{}, hide(err)
	}
	if unreadable := g.seeAs(ctx, person, workspace, v); unreadable != nil {
		return View{}, unreadable
	}
	if err != nil {
		return View{}, incomplete(err)
	}
	v.Can = can(person, v)
	return v, nil
}

func (g *Gate) readView(ctx context.Context, tx *store.Tx, which store.Which) (v View, err error) {
	screen, err := tx.Screen(ctx, which)
	if err != nil {
		return v, err
	}
	v.Workspace, v.PullRequest, v.Status, v.Merge, v.right = screen.Workspace, screen.PullRequest, screen.Status, screen.Merge, screen.Permission
	if screen.Repository != nil {
		v.Repository = *screen.Repository
	}
	if screen.Request == nil {
		return v, nil
	}
	if err := v.setRequest(*screen.Request); err != nil {
		return v, err
	}
	if v.Decisions, _, err = judgeGiven(ctx, tx, screen.Given); err != nil {
		return v, err
	}
	return v, g.proveModels(ctx, tx, v.Rule, v.Decisions)
}

func (v *View) setRequest(r store.ApprovalRequest) (err error) {
	v.Request = &r
	if v.Verdict, err = verdictOf(r); err != nil {
		return err
	}
	if v.facts, err = factsOf(r); err != nil {
		return err
	}
	v.Rule, err = ruleOf(r)
	return err
}

// tally says what the rule says of the decisions as they are now: the verdict that is stored may be
// older than the last of them.
func (v *View) tally() approval.Verdict {
	facts := v.facts
	facts.Decisions = decisionsOf(v.Rule, *v.Request, v.Decisions)
	return approval.Tally(v.Rule, facts)
}

func optional(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// standing is a person's decision on the request's commit that no later one has taken back; nil if
// none. decisions are those on that commit, oldest first.
//
// A withdrawal with a stolen key, or one that the rule does not take, takes no rejection back, so that stands, and can be
// withdrawn once more, also where its person approved or overrode later and took that back.
func standing(rule approval.Rule, r store.ApprovalRequest, personID string, decisions []store.Decision) *store.Decision {
	judged := decisionsOf(rule, r, decisions)
	var withdrawals []approval.Decision // that come behind
	for i, d := range slices.Backward(judged) {
		switch {
		case d.PersonID != personID:
		case d.Action == approval.Withdraw:
			withdrawals = append(withdrawals, d)
		case slices.ContainsFunc(withdrawals, func(w approval.Decision) bool { return rule.Withdraws(w, d) }):
			if d.Action == approval.Reject || d.Action == approval.Approve && d.RequestID == r.ID && rule.Withdraws(d, approval.Decision{Action: approval.Reject}) {
				return nil // a rejection before it is taken back with it, or was by it
			}
		default:
			return &decisions[i]
		}
	}
	return nil
}

// standing is a person's decision that stands; the view must have a request.
func (v *View) standing(personID string) *store.Decision {
	return standing(v.Rule, *v.Request, personID, v.Decisions)
}

// timeIsOver says why nobody can approve or override a request any more.
func timeIsOver(r store.ApprovalRequest) string {
	if r.State == store.RequestRejected {
		return "The time of this request is over; it can be asked for again. The rejection stays, and has to be withdrawn or overridden then."
	}
	return "The time of this request is over."
}

// mayAskAgain tells whether a request can give way to the next one: its time is up, by over, and it was neither approved nor
// overridden. A rejection keeps a request from being called expired; it is about the commit, and so the next request has it too.
func mayAskAgain(r store.ApprovalRequest, over bool) bool {
	return r.State == store.RequestExpired || r.State == store.RequestRejected && over
}

// can tells what a person can do, by what is stored: preparing a decision asks Bitbucket again.
func can(person store.Person, v View) Can {
	r := v.Request
	switch {
	case r == nil || v.PullRequest.State != "OPEN":
		return Can{}.never(CodeNotOpen, "Nothing is asked for: the pull request is closed, a draft, or no rule applies.")
	case v.PullRequest.AuthorAccountID == "": // it may be anybody's, and would be tallied with another author than was signed once it is known
		return Can{}.never(CodeNoAuthor, "Bitbucket does not say whose pull request this is, so nobody can decide about it. Where the account is gone, somebody else has to open it anew.")
	case !r.Alive():
		return Can{}.never(CodeSuperseded, "This request has ended: "+r.Sentence+".")
	}
	mine := v.standing(person.ID)
	c := Can{Withdraw: mine != nil, Renew: mayAskAgain(*r, r.Overdue)}
	if r.State == store.RequestExpired {
		return c.never(CodeExpired, "The request has expired; it can be asked for again.")
	}
	verdict := v.tally()
	c.OverrideCode, c.OverrideReason = whyNoOverride(person, v, verdict, mine)
	// A rejection keeps the request from being called expired; that its time is over holds all the same.
	over := r.Overdue && r.State != store.RequestApproved
	if over && c.OverrideCode != CodeNoOverride {
		c.OverrideCode, c.OverrideReason = CodeExpired, timeIsOver(*r)
	}
	c.Override = c.OverrideCode == ""
	if mine != nil && (mine.Action == string(approval.Reject) || mine.RequestID == r.ID) {
		if c.Renew {
			return c.because(CodeExpired, timeIsOver(*r))
		}
		return c.because(CodeAlreadyDecided, "You have decided already; withdraw it to decide anew.")
	}
	asked, author := false, person.AccountID == v.PullRequest.AuthorAccountID
	for _, requirement := range verdict.Requirements {
		for _, p := range requirement.CanStillApprove {
			if p.AccountID == person.AccountID {
				c.Approve = true
			}
		}
	}
	for _, requirement := range v.Rule.Requirements {
		asked = asked || requirement.Approvers.Everyone
		for _, account := range requirement.Approvers.Accounts {
			asked = asked || account == person.AccountID
		}
	}
	// Whoever can approve can reject; so can an author who is among those asked.
	c.Reject = c.Approve || asked && author
	switch {
	case c.Renew, c.Approve && over:
		c.Approve = false
		return c.because(CodeExpired, timeIsOver(*r))
	case c.Approve && r.Overdue:
		c.Approve = false
		return c.because(CodeExpired, "The time of this request is over. It was approved before, and that stands.")
	case c.Approve:
		return c
	case author:
		return c.because(CodeAuthor, "You opened this pull request: its rule does not count your own approval.")
	}
	return c.because(CodeNotApprover, "This rule does not ask for your approval.")
}

// never gives the reason why the viewer can neither approve nor override.
func (c Can) never(code, reason string) Can {
	c.OverrideCode, c.OverrideReason = code, reason
	return c.because(code, reason)
}

// whyNoOverride says why a person cannot override, or nothing. mine is the person's own decision
// that stands; an approval or rejection would give way to the override.
func whyNoOverride(person store.Person, v View, verdict approval.Verdict, mine *store.Decision) (code, reason string) {
	isPerson := func(p approval.Person) bool { return p.AccountID == person.AccountID }
	switch {
	case verdict.Override == nil:
		return CodeNoOverride, "This rule cannot be overridden."
	case verdict.State == approval.Approved:
		return CodeNotNeeded, "The approvals are given: there is nothing to override."
	case mine != nil && mine.Action == string(approval.Override) && mine.RequestID == v.Request.ID:
		return CodeAlreadyDecided, "You have overridden it already; withdraw it to decide anew."
	case slices.ContainsFunc(verdict.Override.CanStillApprove, isPerson):
		return "", ""
	case person.AccountID == v.PullRequest.AuthorAccountID && !v.Rule.AuthorMayApprove:
		return CodeAuthor, "You opened this pull request: its rule does not count your own override."
	}
	return CodeNotOverrider, "This rule does not let you override it."
}

// because gives the reason why the viewer cannot approve. It stands beside what can be done.
func (c Can) because(code, reason string) Can {
	c.Code, c.Reason = code, reason
	return c
}

// WorkspaceRequests lists the requests of a workspace that the person may see, newest first, each
// in the view of its pull request.
func (g *Gate) WorkspaceRequests(ctx context.Context, person store.Person, workspace string, states []string, page store.Page) ([]View, bool, error) {
	return g.views(ctx, person, workspace, func(tx *store.Tx, readable []string) ([]store.ApprovalRequest, bool, error) {
		return tx.Requests(ctx, readable, states, page)
	})
}

// Waiting lists the open requests of a workspace that the person can still approve, oldest first,
// each in the view of its pull request.
func (g *Gate) Waiting(ctx context.Context, person store.Person, workspace string, page store.Page) ([]View, bool, error) {
	return g.views(ctx, person, workspace, func(tx *store.Tx, readable []string) ([]store.ApprovalRequest, bool, error) {
		return tx.Waiting(ctx, readable, person.AccountID, page)
	})
}

// PullRequests lists the open pull requests of a repository, newest first.
func (g *Gate) PullRequests(ctx context.Context, person store.Person, workspace, repositoryID string, page store.Page) ([]View, bool, error) {
	if err := g.see(ctx, person, workspace, repositoryID, false); err != nil {
		return nil, false, err
	}
	var views []View
	var more bool
	err := g.Store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		list, next, err := tx.PullRequests(ctx, repositoryID, page)
		if err != nil {
			return err
		}
		more = next
		views, err = g.viewsOfPullRequests(ctx, tx, list)
		return err
	})
	return finish(person, views), more, err
}

// views lists requests of the repositories that the person may read. The query leaves the others
// out, so that a page is as long as it says.
func (g *Gate) views(ctx context.Context, person store.Person, workspace string, query func(tx *store.Tx, readable []string) ([]store.ApprovalRequest, bool, error)) (views []View, more bool, err error) {
	readable, err := g.Readable(ctx, person, workspace)
	if err != nil {
		return nil, false, err
	}
	err = g.Store.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		list, next, err := query(tx, readable)
		if err != nil {
			return err
		}
		more = next
		views, err = g.viewsOfRequests(ctx, tx, list)
		return err
	})
	return finish(person, views), more, err
}

func finish(person store.Person, views []View) []View {
	for i := range views {
		views[i].Can = can(person, views[i])
	}
	return views
}
