package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/monitor"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/replay"
)

type verifyCommand struct {
	Bundle  string `arg:"" optional:"" type:"existingfile" help:"The evidence bundle, or the receipt of a decision."`
	Anchors string `type:"existingfile" help:"What you know from elsewhere: the log, the roster, policies."`
	Repo    string `type:"existingdir" help:"A clone of the repository: compare with it what was shown and what landed. Needs git."`
	Diff    string `type:"existingfile" help:"The bytes of the diff that was shown, where git renders it otherwise. With --repo only."`
	JSON    bool   `help:"Print the report as JSON."`
	Require string `help:"What the verdict must be: any, so that the exit code says only whether the evidence holds, of a rejection too, or approved." enum:"any,approved" default:"any" placeholder:"approved"`

	Commit                string        `help:"Verify that this commit, by its whole hash, was approved: its bundle is fetched and must be in the log that is public now." group:"commit" xor:"what" placeholder:"HASH"`
	Workspace             string        `help:"The workspace's UUID or slug." group:"commit"`
	Repository            string        `help:"The repository's UUID, for which the commit has to be approved." group:"commit"`
	Branch                string        `help:"The destination branch for which it has to be approved." group:"commit"`
	AllowOverride         bool          `help:"A signed override is enough, also for --require=approved." group:"commit"`
	AcceptAssertedLanding bool          `help:"Without --repo: believe the server that the commit is what became of the approved one." group:"commit"`
	Wait                  time.Duration `help:"How long to wait for a commit that landed just now to be known." default:"2m" group:"commit"`
	MaxLeaves             int64         `help:"How many leaves of the log to read at most, to see that the evidence leaves nothing out about the pull request, nor a newer roster." default:"1000000" group:"commit" placeholder:"N"`
	MaxBetween            int           `help:"Of how many other changes, which came to the branch in between, to fetch and verify the evidence at most. With --repo." default:"100" group:"commit" placeholder:"N"`
	State                 string        `help:"A file in which it is remembered up to where the log was looked through for newer rosters. It is worth as much as whoever can write it." type:"path" group:"commit" placeholder:"FILE"`
	remote                `group:"commit"`
}

// missingLanding is what a gate without a clone takes the server's word for.
const missingLanding = "what landed"

// missingBetween is what the evidence of a commit says nothing about, and is deployed with it.
const missingBetween = "the commits that came to the branch since the change was shown, which need evidence of their own"

// gateReport is what the gate adds to a report of a bundle.
type gateReport struct {
	evidence.Report
	Gate *gateOutcome `json:"gate,omitempty"`
}

// gateOutcome says whether a commit was approved.
type gateOutcome struct {
	Commit string `json:"commit"`
	// Passed is true where the exit code is 0.
	Passed bool `json:"passed"`
	// Code is a stable name of why it did not pass; empty where it did or where the bundle's own steps say why.
	Code string `json:"code,omitempty"`
	// Sentence says it in words.
	Sentence string `json:"sentence"`
	// Between are the commits of other changes, which came to the branch since this one was shown, that evidence of their own
	// proves; the newest first.
	Between []string `json:"between,omitempty"`
}

// The codes of a commit that does not pass.
const (
	gateNotApproved = "not_approved"
	gateOverridden  = "overridden"
	gateOtherCommit = "other_commit"
	gateOtherBranch = "other_branch"
	gateViolation   = "violation"
	gateClosed      = "closed"
	gateStale       = "stale"
	gateOldPolicy   = "old_policy"
	gateLog         = "log"
	gateMoved       = "moved"
	gateRevoked     = "revoked_key"
	gateAsserted    = "operator_asserted"
)

// Run prints each step and exits 0, 2 or 1.
func (c *verifyCommand) Run(ctx context.Context, s streams) error {
	switch {
	case (c.Bundle == "") == (c.Commit == ""):
		return errors.New("give a bundle, or --commit")
	case c.Diff != "" && c.Repo == "":
		return errors.New("--diff is applied to a repository: give --repo too")
	case c.Commit != "" && !bitbucket.IsFullHash(c.Commit):
		return errors.New("--commit is a whole hash, 40 digits in lower case")
	case c.Commit != "" && (c.Branch == "" || repository(c.Repository) == ""):
		return errors.New("--commit needs --branch and the UUID of the --repository: what was approved for another branch or repository was not approved for this one")
	case c.Commit != "" && c.Anchors == "":
		return errors.New("--commit needs --anchors: without them it is only the server that says so")
	}
	anchors, err := readAnchors(c.Anchors)
	if err != nil {
		return err
	}
	if c.Commit == "" {
		bundle, err := readUpTo(c.Bundle, evidence.MaxBundle+1) // of one beyond the limit the report says so
		if err != nil {
			return err
		}
		if evidence.KindOf(bundle) == evidence.KindReceipt {
			return c.receipt(s, bundle, anchors)
		}
		looked, err := c.look(ctx, bundle, anchors, nil)
		if err != nil {
			return err
		}
		report := looked.alone
		if format := bundleFormat(bundle); report.ExitCode() == 1 && strings.HasPrefix(format, "signedapproval.bundle/") && format != evidence.BundleFormat {
			fmt.Fprintf(s.err, "signedapproval: the bundle is of the format %s, and this version reads %s: take one that reads it\n", plain(format), evidence.BundleFormat)
		}
		outcome, code := c.required(report)
		return c.finish(s, gateReport{report, outcome}, code)
	}
	client, err := c.client(true)
	if err != nil {
		return err
	}
	if anchors.Log == nil {
		return errors.New("--commit needs anchors that name the log and its keys")
	}
	known, err := c.known(anchors)
	if err != nil {
		return err
	}
	at, err := locate(ctx, client, c.Workspace, c.Repository)
	if err != nil {
		return err
	}
	// Something can happen to a pull request while its evidence is fetched. What happens every time is no chance.
	var seen tlog.Tree
	for try := 1; ; try++ {
		report, outcome, code, err := c.gate(ctx, logLook{client: client, anchors: anchors, known: known, most: c.MaxLeaves, remembers: c.State != "", seen: &seen}, at)
		if err != nil {
			return err
		}
		if outcome.Code == gateStale && try < takes {
			continue
		}
		outcome.Commit, outcome.Passed = c.Commit, code == 0
		return c.finish(s, gateReport{report, &outcome}, code)
	}
}

// gate takes the evidence and judges it.
func (c *verifyCommand) gate(ctx context.Context, look logLook, at place) (evidence.Report, gateOutcome, int, error) {
	client, anchors := look.client, look.anchors
	fail := func(err error) (evidence.Report, gateOutcome, int, error) {
		return evidence.Report{}, gateOutcome{}, 1, err
	}
	bundle, err := c.take(ctx, client, at)
	if err != nil {
		return fail(err)
	}
	p, err := c.look(ctx, bundle, anchors, nil)
	if err != nil {
		return fail(err)
	}
	report := p.alone
	outcome, code := c.judge(report, bundle, c.Commit)
	var all []history
	var shown rosters
	if code == 2 && c.Commit == p.change.Landed && len(p.found.Rests) > 0 {
		if outcomeThen, codeThen := c.judge(p.settled, bundle, c.Commit); codeThen == 0 {
			between, refused, codeBetween, err := c.between(ctx, client, at, anchors, p, &shown)
			switch {
			case err != nil:
				return fail(err)
			case codeBetween != 0:
				outcome, code = refused, codeBetween
			default:
				report, outcome, code = p.settled, outcomeThen, codeThen
				for _, other := range between {
					all, outcome.Between = append(all, other.history), append(outcome.Between, other.commit)
				}
				outcome.Sentence += fmt.Sprintf(", and %d other changes that came to the branch since it was shown have evidence of their own", len(between))
			}
		}
	}
	if code != 1 {
		h, err := historyOf(bundle, &shown)
		if err != nil {
			return fail(err)
		}
		all = append(all, h)
		var passed bool
		if outcome, code, passed = look.compare(ctx, all, outcome, code); passed && c.State != "" {
			if err := look.known[0].write(c.State); err != nil {
				return fail(fmt.Errorf("--state: %w", err))
			}
		}
	}
	return report, outcome, code, nil
}

// maxDiff is how many bytes a diff has at most that somebody was shown.
const maxDiff = 1 << 30

// bundleFormat is what a bundle that this version does not read says of its format; empty where it says nothing.
func bundleFormat(bundle []byte) string {
	var head struct {
		Format string `json:"format"`
	}
	_ = json.Unmarshal(bundle, &head) // whatever else is wrong with it
	return head.Format
}

// receipt verifies that a decision is recorded. It is no verdict, so nothing can be required of it.
func (c *verifyCommand) receipt(s streams, receipt []byte, anchors evidence.Anchors) error {
	if c.Require != "any" || c.Repo != "" {
		return errors.New("this is a receipt: it proves that a decision is recorded, and not what became of it; --require and --repo need an evidence bundle")
	}
	report := evidence.ReportReceipt(receipt, anchors)
	return c.finish(s, gateReport{Report: report}, report.ExitCode())
}

// takes is how often evidence is fetched that is behind the log.
const takes = 3

// required says whether the verdict of a bundle is what is asked for; nil where nothing is.
func (c *verifyCommand) required(report evidence.Report) (*gateOutcome, int) {
	code := report.ExitCode()
	if c.Require != "approved" {
		return nil, code
	}
	if code == 1 {
		return &gateOutcome{Sentence: report.Sentence()}, 1
	}
	change, _ := report.Change()
	outcome := gateOutcome{Commit: change.Head, Passed: code == 0, Sentence: "it was approved"}
	if refused, ok := c.unapproved(report); ok {
		refused.Commit = change.Head
		return &refused, 1
	}
	if change.Violation {
		outcome.Code, outcome.Passed = gateViolation, false
		outcome.Sentence = "the chain calls its merge a violation: it was not approved by then, or something else landed"
		return &outcome, 1
	}
	if report.Closed != "" {
		outcome.Code, outcome.Passed = gateClosed, false
		outcome.Sentence = fmt.Sprintf("its request was %s before it was merged, and the approval ended with it", report.Closed)
		return &outcome, 1
	}
	if report.Verdict.State == approval.Overridden {
		outcome.Sentence = "it was let through by an override"
	}
	if code == 2 {
		outcome.Code = gateAsserted
		outcome.Sentence += ", if the server is to be believed: " + strings.Join(report.Missing, ", ")
	}
	return &outcome, code
}

// unapproved says why a verdict is not enough, and false where it is.
func (c *verifyCommand) unapproved(report evidence.Report) (gateOutcome, bool) {
	switch state := report.Verdict.State; {
	case state == approval.Overridden && !c.AllowOverride:
		return gateOutcome{Code: gateOverridden, Sentence: "it was let through by an override, and --allow-override is not given"}, true
	case state != approval.Approved && state != approval.Overridden:
		return gateOutcome{Code: gateNotApproved, Sentence: fmt.Sprintf("it is not approved: %s", report.Verdict.Sentence)}, true
	}
	return gateOutcome{}, false
}

// looked is a bundle that was verified, with a clone where there is one.
type looked struct {
	change evidence.Change
	found  evidence.Repository
	// alone is the report of it alone, settled the one if others prove what came to the branch in between.
	alone, settled evidence.Report
}

// look verifies a bundle. base are commits of the branch of which nothing more needs to be shown; nil for those that the bundle's
// own signers were shown.
func (c *verifyCommand) look(ctx context.Context, bundle []byte, anchors evidence.Anchors, base []string) (l looked, err error) {
	report := evidence.Verify(bundle, anchors)
	l.alone, l.settled = report, report
	var ok bool
	if l.change, ok = report.Compared(); !ok || c.Repo == "" {
		return l, nil
	}
	var diff []byte
	if c.Diff != "" && base == nil {
		if diff, err = readFile(c.Diff, maxDiff); err != nil {
			return l, err
		}
	}
	if l.change.Settled = base; base == nil {
		l.change.Settled = l.change.Base()
	}
	if l.found, err = replay.Look(ctx, c.Repo, l.change, diff); err != nil {
		return l, fmt.Errorf("--repo: %w", err)
	}
	l.alone = report.Recompute(l.found)
	if proved := l.found; proved.Landing != nil {
		landing := *proved.Landing
		landing.Proved = true
		proved.Landing = &landing
		l.settled = report.Recompute(proved)
	} else {
		l.settled = l.alone
	}
	return l, nil
}

func (c *verifyCommand) finish(s streams, report gateReport, code int) error {
	var err error
	if c.JSON {
		encoder := json.NewEncoder(s.out)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(report)
	} else if err = printReport(s.out, report.Report); err == nil && report.Gate != nil {
		verb := "PASSED"
		if code != 0 {
			verb = "REFUSED"
		}
		about := ""
		if report.Gate.Commit != "" {
			about = "commit " + report.Gate.Commit + ": "
		}
		_, err = fmt.Fprintf(s.out, "%s: %s%s\n", verb, about, plain(report.Gate.Sentence))
	}
	if err == nil && code != 0 {
		return exit(code)
	}
	return err
}

// takePause is how long it is waited before the server is asked again about a commit that it does not know yet.
const takePause = 5 * time.Second

// take fetches the bundle of the commit. A pipeline can be faster than the news of the merge that started it.
func (c *verifyCommand) take(ctx context.Context, client *monitor.Client, at place) ([]byte, error) {
	end := time.Now().Add(c.Wait)
	for {
		bundle, err := takeCommit(ctx, client, at, c.Commit, c.Branch)
		var refused *monitor.Refused
		if err == nil || !errors.As(err, &refused) || refused.Code != refusal.NotFound || time.Now().Add(takePause).After(end) {
			return bundle, err
		}
		select {
		case <-time.After(takePause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// judge says whether a verified report lets a commit through.
func (c *verifyCommand) judge(report evidence.Report, bundle []byte, commit string) (gateOutcome, int) {
	change, ok := report.Change()
	if code := report.ExitCode(); !ok || code == 1 {
		return gateOutcome{Sentence: report.Sentence()}, 1
	}
	refused, unapproved := c.unapproved(report)
	kind, closed := ending(bundle)
	switch {
	case change.Repository != bitbucket.BracedUUID(repository(c.Repository)) || change.Branch != c.Branch:
		return gateOutcome{Code: gateOtherBranch, Sentence: fmt.Sprintf("the evidence is that of branch %s of repository %s", change.Branch, change.Repository)}, 1
	case unapproved:
		return refused, 1
	case commit == change.Landed && kind == "violation":
		return gateOutcome{Code: gateViolation, Sentence: "the chain says that what landed is not what was approved"}, 1
	case commit != change.Landed && closed != "":
		return gateOutcome{Code: gateClosed, Sentence: fmt.Sprintf("its request was %s before it was merged, and the approval ended with it", closed)}, 1
	case commit != change.Head && commit != change.Landed:
		return gateOutcome{Code: gateOtherCommit, Sentence: "the evidence is that of another commit"}, 1
	}
	missing := report.Missing
	what := "it is the commit that was approved"
	if commit != change.Head {
		what = "it is what became of the approved commit " + change.Head
		if c.Repo == "" && c.AcceptAssertedLanding {
			what += ", as the server says"
		} else if c.Repo == "" {
			missing = append(missing, missingLanding)
		} else if l := report.Landing; l != nil && len(l.Between) > 0 && !l.Proved && !slices.Contains(missing, missingLanding) {
			missing = append(missing, missingBetween+" ("+strings.Join(l.Between, ", ")+")")
		}
	}
	if len(missing) > 0 {
		return gateOutcome{Code: gateAsserted, Sentence: what + ", if the server is to be believed: " + strings.Join(missing, ", ")}, 2
	}
	return gateOutcome{Sentence: what}, 0
}

// repository is a repository's UUID without braces; empty for anything else, since what a name stands for only the server says.
func repository(uuid string) string {
	bare, _ := bitbucket.BareUUID(uuid)
	return bare
}

// ending gives the kind of the merge in the chain of a bundle that was verified, and for what reason its request was
// closed; both are empty where there is none.
func ending(raw []byte) (merged, closed string) {
	bundle, err := evidence.ParseBundle(raw)
	if err != nil {
		return "violation", ""
	}
	for _, entry := range bundle.Chain {
		leaf, err := evidence.ParseLeaf(entry)
		if err != nil {
			return "violation", ""
		}
		switch body := leaf.Body.(type) {
		case evidence.Merged:
			if merged != "violation" { // which stays one
				merged = body.Kind
			}
		case evidence.RequestClosed:
			if body.Request == bundle.Facts.Request.ID {
				closed = body.Reason
			}
		}
	}
	return merged, closed
}
