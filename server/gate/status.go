package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/jobs"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/witness"
)

// statusName is the build's name on Bitbucket.
const statusName = "SignedApproval"

// doubtPause is when a status whose writing ended in doubt is read again: a call that we gave up
// on can still land, later than the call that followed it.
const doubtPause = 30 * time.Second

// PutStatus is the job that makes Bitbucket show what is owed on one commit of a pull request. It
// is the only place that writes a status. The job's row lets one worker at a time write for this
// commit; a worker that outlived its lease can have a call in flight still. So a call that ended in
// doubt is remembered with the status, by who made it or by who took over from them, whatever is written after it, and the
// status is read once more when the doubt is over, and owed again if it is not what it should be.
func (g *Gate) PutStatus(ctx context.Context, job store.Job) error {
	var at store.Place
	if err := json.Unmarshal(job.Payload, &at); err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	connected := beside("the connection was read", func() (*bitbucket.Client, error) { return g.Client(ctx, at.Workspace, bitbucket.Urgent) })
	owed, err := g.Store.Owed(ctx, job.Claim, at.Workspace, at.PullRequest, at.Commit)
	_, _ = connected()
	if err != nil {
		return err
	}
	for turns(owed.Status) || !owed.Durable {
		// The leaf of the verdict was written with what is owed: nothing turns green before it is public.
		was, public := owed.Status, owed.Size // the end of the chain up to which it is
		if err := g.publish(ctx, chainEnd{owed.Size, owed.Published}, was.Cosignatures); err != nil {
			return g.uncosigned(ctx, at, was, err)
		}
		// That can take seconds, in which an approval can be taken back.
		green, holds, err := g.holdsStill(ctx, job.Claim, at, was)
		if err != nil {
			return err
		}
		if owed = green.Owed; !stillOwed(owed.Status, was) {
			continue // with what is owed now
		}
		if owed.Status.Paid() {
			break
		}
		if !holds {
			return g.evaluateFirst(ctx, at, green.PullRequest)
		}
		// What an evaluation has found meanwhile counts only when it is public too.
		if owed.Size > public && (!owed.Published || was.Cosignatures > 0) {
			return notNow()
		}
		break
	}
	status := owed.Status // is durable: Bitbucket must not show what a crash of the database could still take back
	if status.Paid() {
		return g.checkPaid(ctx, job, at, status)
	}
	client, err := connected()
	if err != nil {
		return g.fate(err)
	}
	stored, err := client.PutStatus(ctx, at.Workspace, status.RepositoryID, status.Commit, bitbucket.Status{
		Key: status.Key, State: bitbucket.StatusState(status.State), URL: status.URL, Name: statusName,
		Description: status.Description, RefName: status.RefName,
	})
	if err != nil {
		return errors.Join(g.statusRefused(ctx, at, status, err), g.doubt(ctx, at, err))
	}
	if stored.Key != status.Key || string(stored.State) != status.State {
		return fmt.Errorf("bitbucket stored status %q as %s, not %s", stored.Key, stored.State, status.State)
	}
	return g.pay(ctx, job, at, status)
}

// verdictPause is when a green status is tried again whose verdict does not hold at the moment. The evaluation rings before,
// unless it finds the verdict as it was.
const verdictPause = 2 * time.Second

// turns tells whether Bitbucket is to be told that a status is green.
func turns(s store.CommitStatus) bool {
	return !s.Paid() && s.State == string(bitbucket.StatusSuccessful)
}

// stillOwed tells whether what is owed is what was. The number alone does not say so: what was read first a crash of the database can
// have taken back, and then it is given once more.
func stillOwed(now, was store.CommitStatus) bool {
	return now.OwedVersion == was.OwedVersion && now.RequestID == was.RequestID && now.State == was.State
}

// holdsStill reads again what is owed, and tallies once more what is about to turn green: a decision that was taken back, a
// key that was reported stolen and rules that changed count before any evaluation has seen them. All of it is of one moment.
// Where another status is owed than the one that was, what holds is for that one to find out.
func (g *Gate) holdsStill(ctx context.Context, claim store.Claim, at store.Place, was store.CommitStatus) (green store.Green, holds bool, err error) {
	err = g.Store.Reading(ctx, at.Workspace, func(tx *store.Tx) error {
		if green, err = tx.Green(ctx, claim, was); err != nil || !stillOwed(green.Status, was) {
			return err
		}
		holds, err = g.holds(ctx, tx, green.PullRequest, green.Judged, nil)
		return err
	})
	return green, holds, err
}

// evaluateFirst asks for an evaluation of a verdict that does not hold. The status stays owed meanwhile.
func (g *Gate) evaluateFirst(ctx context.Context, at store.Place, pr store.PullRequest) error {
	if err := g.Store.InWorkspace(ctx, at.Workspace, func(tx *store.Tx) error {
		return tx.Enqueue(ctx, store.AskEvaluate(at.Workspace, pr.RepositoryID, pr.Number))
	}); err != nil {
		return err
	}
	return notNow()
}

// notNow puts a status off. Its job is not finished: that an earlier call may still land is known by its failures.
func notNow() error {
	return jobs.Later(errors.New("the verdict that it shows does not hold at the moment"), time.Now().Add(verdictPause))
}

// uncosigned has Bitbucket and the administrators told, once, that a status waits for witnesses. What is shown until
// then is that it is in progress: the merge check lets nothing be merged either. The status stays owed.
func (g *Gate) uncosigned(ctx context.Context, at store.Place, status store.CommitStatus, cause error) error {
	if status.Cosignatures == 0 || !errors.Is(cause, witness.ErrUncosigned) {
		return cause
	}
	waits := waitsForWitnesses(status.Cosignatures)
	problem := "This status " + waits + ", as the rule asks; it is tried again by itself."
	if status.Problem == problem {
		return cause
	}
	client, err := g.Client(ctx, at.Workspace, bitbucket.Urgent)
	if err != nil {
		return g.fate(err)
	}
	end := "; " + waits
	if _, err := client.PutStatus(ctx, at.Workspace, status.RepositoryID, status.Commit, bitbucket.Status{
		Key: status.Key, State: bitbucket.StatusInProgress, URL: status.URL, Name: statusName,
		Description: clip(status.Description, approval.MaxSentence-len(end)) + end, RefName: status.RefName,
	}); err != nil {
		return errors.Join(g.statusRefused(ctx, at, status, err), g.doubt(ctx, at, err))
	}
	err = g.Store.InWorkspace(ctx, at.Workspace, func(tx *store.Tx) error {
		// Whoever owes something else holds the pull request, and ends the alarm of what was owed before.
		pr, err := tx.LockPullRequestByID(ctx, at.PullRequest)
		if err != nil {
			return err
		}
		now, err := tx.Status(ctx, at.PullRequest, at.Commit)
		if err != nil || now.OwedVersion != status.OwedVersion {
			return err
		}
		if err := tx.SetStatusProblem(ctx, at.PullRequest, at.Commit, problem); err != nil {
			return err
		}
		tx.Touch("pr:" + at.PullRequest)
		if pr.State != "OPEN" {
			return nil // nobody waits for it
		}
		_, err = tx.RaiseAlarm(ctx, store.Alarm{
			Kind: store.AlarmUncosigned, RepositoryID: &status.RepositoryID, PullRequestID: &at.PullRequest, Subject: waiting(at.PullRequest, at.Commit),
			Sentence: fmt.Sprintf("The approval of pull request #%d ", pr.Number) + waits + ", as its rule asks, and too few of them do so. The operator of this server has to look at its witnesses, or the rule has to ask for fewer.",
		})
		return err
	})
	return errors.Join(cause, err)
}

// waiting is the subject of the alarm that a status on a commit of a pull request waits for witnesses.
func waiting(pullRequestID, commit string) string { return pullRequestID + ":" + commit }

// pay records that Bitbucket shows version status.OwedVersion, and asks for the merge where one is
// intended and nothing has changed meanwhile.
func (g *Gate) pay(ctx context.Context, job store.Job, at store.Place, status store.CommitStatus) error {
	return g.Store.InWorkspace(ctx, at.Workspace, func(tx *store.Tx) error {
		// Failures since the last success, a worker's death among them: their calls may be on the way.
		doubt := time.Duration(0)
		if job.Attempt > 0 {
			doubt = doubtPause
		}
		paid, err := tx.PayStatus(ctx, at.PullRequest, at.Commit, status.OwedVersion, doubt)
		if err != nil {
			return err
		}
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		pr, next := paid.PullRequest, time.Time{}
		if paid.DoubtUntil != nil {
			next = *paid.DoubtUntil
		}
		if err := tx.CloseAlarm(ctx, store.AlarmStatusRefused, at.PullRequest); err != nil {
			return err
		}
		if status.State == string(bitbucket.StatusSuccessful) {
			if status.Cosignatures > 0 {
				if err := tx.CloseAlarm(ctx, store.AlarmUncosigned, waiting(at.PullRequest, at.Commit)); err != nil {
					return err
				}
			}
			if err := askForMerge(ctx, tx, pr, paid.Merge, status.Commit); err != nil {
				return err
			}
		}
		if err := tx.FinishRepeatable(ctx, job.Claim, next); err != nil {
			return err
		}
		chain := newChain(paid.Workspace, &pr, now)
		if _, err := chain.add(evidence.StatusPaid{Request: status.RequestID, State: status.State}); err != nil {
			return err
		}
		pr.Version++
		tx.Touch("pr:" + pr.ID)
		if err := tx.UpdatePullRequest(ctx, pr); err != nil {
			return err
		}
		chain.write(tx)
		return nil
	})
}

// doubtTime bounds how long it may take to remember a call that was given up on.
const doubtTime = 2 * time.Second

// doubt remembers with a status that a call that failed may still land: its job can go back without blame, as when the
// server stops, or be dead and begin anew, and then nothing else tells of the call. Where the call is over because the job is, there is
// time for this all the same.
func (g *Gate) doubt(ctx context.Context, at store.Place, cause error) error {
	var failure *bitbucket.Error
	if errors.As(cause, &failure) && (failure.Class() == bitbucket.Permanent || failure.Throttled()) {
		return nil // it was answered, and changed nothing
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), doubtTime)
	defer cancel()
	return g.Store.InWorkspace(ctx, at.Workspace, func(tx *store.Tx) error {
		return tx.DoubtStatus(ctx, at.PullRequest, at.Commit, doubtPause)
	})
}

// askForMerge rings the merge of a head, as its intent says, that came to no end yet, if it is still approved.
func askForMerge(ctx context.Context, tx *store.Tx, pr store.PullRequest, intent *store.MergeIntent, commit string) error {
	if intent == nil || intent.State != store.MergePlanned && intent.State != store.MergeCalling || pr.HeadCommit != commit || pr.State != "OPEN" {
		return nil
	}
	return tx.Enqueue(ctx, store.AskMerge(tx.Workspace, pr.ID, commit))
}

// statusRefused turns a failed write into what the administrator sees and what the queue does.
func (g *Gate) statusRefused(ctx context.Context, at store.Place, status store.CommitStatus, cause error) error {
	var failure *bitbucket.Error
	if !errors.As(cause, &failure) || failure.Class() != bitbucket.Permanent {
		return g.fate(cause)
	}
	problem := "Bitbucket refused the build status."
	switch {
	case failure.Forbidden():
		problem = "Bitbucket does not let the connected account write this build status: it lost its access, or somebody else wrote under this key first."
	case failure.NotFound():
		problem = "Bitbucket no longer has this commit or repository."
	}
	err := g.Store.InWorkspace(ctx, at.Workspace, func(tx *store.Tx) error {
		if err := tx.SetStatusProblem(ctx, at.PullRequest, at.Commit, problem); err != nil {
			return err
		}
		tx.Touch("pr:" + at.PullRequest)
		_, err := tx.RaiseAlarm(ctx, store.Alarm{
			Kind: store.AlarmStatusRefused, RepositoryID: &status.RepositoryID, PullRequestID: &at.PullRequest,
			Subject: at.PullRequest, Sentence: problem,
		})
		return err
	})
	return g.fate(errors.Join(cause, err))
}

// StatusSeen is the job that follows a build-status event under one of our keys: it reads the
// status back. Our own writes cause it too, and then it finds what it expects.
func (g *Gate) StatusSeen(ctx context.Context, job store.Job) error {
	var at store.Place
	if err := json.Unmarshal(job.Payload, &at); err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	status, err := g.Store.StatusUnder(ctx, at.Workspace, at.Key)
	at.PullRequest, at.Commit = status.PullRequestID, status.Commit
	if errors.Is(err, store.ErrNotFound) {
		// A key that looks like ours and is not, or nothing owed on this head.
		return g.done(ctx, job)
	}
	if err != nil {
		return err
	}
	if !status.Paid() {
		// The job that pays will overwrite whatever is there.
		return g.done(ctx, job)
	}
	return g.checkPaid(ctx, job, at, status)
}

// checkPaid reads a paid status back from Bitbucket. Where it says something else, somebody has
// written under our key: it is owed again, and the administrator is alarmed. An older sentence beside what is owed is a call of
// ours that landed late: it is looked for when the doubt about such a call is over, so that one which Bitbucket should spell in
// another way than we do is written once more and not forever.
func (g *Gate) checkPaid(ctx context.Context, job store.Job, at store.Place, status store.CommitStatus) error {
	client, err := g.Client(ctx, at.Workspace, bitbucket.Foreground)
	if err != nil {
		return g.fate(err)
	}
	shown, found, err := findStatus(ctx, client, at.Workspace, status)
	if err != nil {
		return g.fate(err)
	}
	same := found && string(shown.State) == status.State && shown.URL == status.URL
	late := same && job.Kind == store.KindStatus && shown.Description != status.Description
	return g.Store.InWorkspace(ctx, at.Workspace, func(tx *store.Tx) error {
		if same && !late {
			return g.lookAgain(ctx, tx, job, status)
		}
		now, err := tx.Status(ctx, at.PullRequest, at.Commit)
		if err != nil {
			return err
		}
		if now.OwedVersion == status.OwedVersion {
			if !late {
				if err := g.alarmForeign(ctx, tx, at, status, shown); err != nil {
					return err
				}
			}
			if err := g.oweAgain(ctx, tx, at); err != nil {
				return err
			}
		}
		return tx.FinishRepeatable(ctx, job.Claim, time.Time{})
	})
}

// lookAgain finishes a job that found what it expected: for good, or until the doubt is over.
func (g *Gate) lookAgain(ctx context.Context, tx *store.Tx, job store.Job, status store.CommitStatus) error {
	var next time.Time
	if job.Kind == store.KindStatus && status.DoubtUntil != nil {
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		if status.DoubtUntil.After(now) {
			next = *status.DoubtUntil
		}
	}
	return tx.FinishRepeatable(ctx, job.Claim, next)
}

func (g *Gate) alarmForeign(ctx context.Context, tx *store.Tx, at store.Place, status store.CommitStatus, shown bitbucket.StoredStatus) error {
	sentence := fmt.Sprintf("The build status on %s was missing on Bitbucket; it was written again.", status.Commit[:12])
	if shown.State != "" {
		sentence = fmt.Sprintf("Somebody wrote %s over our build status %s on %s; it was written again.", shown.State, status.State, status.Commit[:12])
	}
	_, err := tx.RaiseAlarm(ctx, store.Alarm{
		Kind: store.AlarmForeignStatus, RepositoryID: &status.RepositoryID, PullRequestID: &at.PullRequest,
		Subject: at.PullRequest, Sentence: sentence,
	})
	return err
}

// oweAgain makes a paid status owed once more.
func (g *Gate) oweAgain(ctx context.Context, tx *store.Tx, at store.Place) error {
	if err := tx.OweStatusAgain(ctx, at.PullRequest, at.Commit); err != nil {
		return err
	}
	tx.Touch("pr:" + at.PullRequest)
	return tx.Enqueue(ctx, store.AskStatus(at.Workspace, at.PullRequest, at.Commit))
}

// findStatus reads the status of our key and branch on a commit.
func findStatus(ctx context.Context, client *bitbucket.Client, workspace string, status store.CommitStatus) (bitbucket.StoredStatus, bool, error) {
	for shown, err := range client.Statuses(ctx, workspace, status.RepositoryID, status.Commit) {
		if err != nil {
			return bitbucket.StoredStatus{}, false, err
		}
		if shown.Key == status.Key && shown.RefName == status.RefName {
			return shown, true, nil
		}
	}
	return bitbucket.StoredStatus{}, false, nil
}

// ruleOf reads the rule that a request was asked under.
func ruleOf(r store.ApprovalRequest) (rule approval.Rule, err error) {
	if err := json.Unmarshal(r.Rule, &rule); err != nil {
		return rule, lost("stored rule of request "+r.ID, err)
	}
	return rule, nil
}
