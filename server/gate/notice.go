package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/jobs"
	"github.com/signedapproval/bitbucket/server/notify"
	"github.com/signedapproval/bitbucket/server/store"
)

// maxNotified bounds how many people one request tells.
const maxNotified = 100

// notify tells the configured approvers that a request waits for them: those who have signed in
// here. Others see it on the pull request.
func (t *settlement) notify(ctx context.Context, r store.ApprovalRequest, rule approval.Rule) error {
	accounts := t.accountsOf(rule.Requirements)
	if !rule.AuthorMayApprove {
		accounts = slices.DeleteFunc(accounts, func(account string) bool { return account == t.pr.AuthorAccountID })
	}
	return t.tx.AddNoticeFor(ctx, accounts, maxNotified, store.Notice{
		WorkspaceID: t.tx.Workspace, PullRequestID: &t.pr.ID, RequestID: &r.ID, Kind: "APPROVAL_WANTED",
		DedupeKey: "wanted:" + r.ID, Title: "Your approval is wanted",
		Sentence: fmt.Sprintf("Pull request #%d “%s” into %s waits for approval.", t.pr.Number, clip(t.pr.Title, 120), t.pr.DestinationBranch),
		Path:     SignPath(t.tx.Workspace, t.pr.RepositoryID, t.pr.Number),
	})
}

// accountsOf lists the accounts that requirements ask.
func (t *settlement) accountsOf(requirements []approval.Requirement) (accounts []string) {
	for _, requirement := range requirements {
		accounts = append(accounts, requirement.Approvers.Accounts...)
		if requirement.Approvers.Everyone {
			for _, p := range t.seen.writers {
				accounts = append(accounts, p.AccountID)
			}
		}
	}
	return accounts
}

// maxReason bounds how much of a reason a notice repeats, in characters.
const maxReason = 200

// tellOverride tells the configured approvers and the workspace's administrators who overrode the
// rule, and why.
func (t *settlement) tellOverride(ctx context.Context, r store.ApprovalRequest, verdict approval.Verdict, decisions []store.Decision) error {
	sentence := fmt.Sprintf("Pull request #%d “%s” into %s: %s.", t.pr.Number, clip(t.pr.Title, 120), t.pr.DestinationBranch, verdict.Sentence)
	for _, p := range verdict.Override.Counted {
		if d := standing(*t.seen.rule, r, p.ID, decisions); d != nil {
			sentence += fmt.Sprintf(" %s: “%s”", clip(p.Name, 80), clip(d.Comment, maxReason))
		}
	}
	notice := store.Notice{ // of no request: it asks for nothing that the request's end would settle
		WorkspaceID: t.tx.Workspace, PullRequestID: &t.pr.ID, Kind: "OVERRIDDEN",
		// The chain has moved by the time that an override which was taken back is given again.
		DedupeKey: fmt.Sprintf("overridden:%s:%d", r.ID, t.pr.ChainSequence), Title: "A rule was overridden",
		Sentence: sentence, Path: PanelPath(t.tx.Workspace, t.pr.RepositoryID, t.pr.Number),
	}
	if err := t.tx.NotifyAdministrators(ctx, notice); err != nil {
		return err
	}
	return t.tx.AddNoticeFor(ctx, t.accountsOf(t.seen.rule.Requirements), maxNotified, notice)
}

// askToOverride tells those who can still override the rule that somebody began to: an override of several is wanted only
// once one of them gave it. They are told once, and again where it was taken back and given anew.
func (t *settlement) askToOverride(ctx context.Context, r store.ApprovalRequest, verdict approval.Verdict, decisions []store.Decision) error {
	o := verdict.Override
	if o == nil || len(o.Counted) == 0 || verdict.State != approval.Pending && verdict.State != approval.Rejected {
		return nil
	}
	first := standing(*t.seen.rule, r, o.Counted[0].ID, decisions)
	if first == nil {
		return nil
	}
	accounts := make([]string, len(o.CanStillApprove))
	for i, p := range o.CanStillApprove {
		accounts[i] = p.AccountID
	}
	return t.tx.AddNoticeFor(ctx, accounts, maxNotified, store.Notice{
		WorkspaceID: t.tx.Workspace, PullRequestID: &t.pr.ID, RequestID: &r.ID, Kind: "OVERRIDE_WANTED",
		DedupeKey: "override-wanted:" + first.ID, Title: "Your override is wanted",
		Sentence: fmt.Sprintf("Pull request #%d “%s” into %s: %s began to override its rule, and %d more must agree. %s: “%s”",
			t.pr.Number, clip(t.pr.Title, 120), t.pr.DestinationBranch, clip(first.Name, 80), o.Missing, clip(first.Name, 80), clip(first.Comment, maxReason)),
		Path: SignPath(t.tx.Workspace, t.pr.RepositoryID, t.pr.Number),
	})
}

// SendNotice is the job that mails a notice to the confirmed sign-in address of its person, where
// mail is configured and there is one.
func (g *Gate) SendNotice(ctx context.Context, job store.Job) error {
	var at store.Place
	if err := json.Unmarshal(job.Payload, &at); err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	var n store.Notice
	var person store.Person
	err := g.Store.Outside(ctx, func(sh *store.Shared) (err error) {
		if n, err = sh.Notice(ctx, at.Notice); err != nil {
			return err
		}
		person, err = sh.Person(ctx, n.PersonID)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return g.done(ctx, job)
	}
	if err != nil {
		return err
	}
	if g.Mail == nil || person.Email == "" || n.MailedAt != nil || n.ReadAt != nil {
		return g.done(ctx, job)
	}
	err = g.Mail.Send(ctx, notify.Message{
		To: person.Email, Subject: n.Title,
		// What people wrote has no lines of its own: an address on one would become a link of ours.
		Text: strings.Join(strings.Fields(n.Sentence), " ") + "\n\n" + g.Origin + n.Path + "\n\nSignedApproval never asks for a password or a code by mail.\n",
	})
	var failure *notify.Error
	if errors.As(err, &failure) && failure.Permanent() {
		return jobs.Permanent(err)
	}
	if err != nil {
		return err
	}
	return g.Store.Outside(ctx, func(sh *store.Shared) error {
		if err := sh.MailedNotice(ctx, n.ID); err != nil {
			return err
		}
		return sh.FinishJob(ctx, job.Claim, time.Time{})
	})
}

// done finishes a job that has nothing to do.
func (g *Gate) done(ctx context.Context, job store.Job) error {
	return g.Store.Outside(ctx, func(sh *store.Shared) error { return sh.FinishJob(ctx, job.Claim, time.Time{}) })
}
