package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/monitor"
	"github.com/signedapproval/bitbucket/server/refusal"
)

// otherChange is a change that landed before the one that is asked about, and what its evidence, which was verified, says is in the log.
type otherChange struct {
	commit  string
	history history
}

// between proves what the change landed on, back to what its own signers were shown: of each commit on the way the evidence is
// fetched and verified by the same anchors and the same clone, and must be that of this very commit, of the same branch of the same
// repository. Which commit is next says the clone and not the server. It gives what it proved, the newest first, and the exit
// code 0; else why it could not.
func (c *verifyCommand) between(ctx context.Context, client *monitor.Client, at place, anchors evidence.Anchors, of looked, shown *rosters) (list []otherChange, outcome gateOutcome, code int, err error) {
	refuse := func(code int, name, format string, args ...any) ([]otherChange, gateOutcome, int, error) {
		return nil, gateOutcome{Code: name, Sentence: fmt.Sprintf(format, args...)}, code, nil
	}
	seen := map[string]bool{}
	for next := of.found.Rests; len(next) > 0; {
		commit := next[0]
		if next = next[1:]; seen[commit] {
			continue
		}
		seen[commit] = true
		if len(list) == c.MaxBetween {
			return refuse(2, gateAsserted, "it is what became of the approved commit %s, if the server is to be believed: %s; more than %d (--max-between) came, and %s and what is before it was not looked at",
				of.change.Head, missingBetween, c.MaxBetween, commit)
		}
		bundle, err := takeCommit(ctx, client, at, commit, c.Branch)
		var refused *monitor.Refused
		if errors.As(err, &refused) && (refused.Code == refusal.NotFound || refused.Code == gate.CodeAmbiguousCommit) {
			said := "there is none of"
			if refused.Code == gate.CodeAmbiguousCommit {
				said = "the server has several, and does not say which is that of"
			}
			return refuse(2, gateAsserted, "it is what became of the approved commit %s, if the server is to be believed: %s: %s %s", of.change.Head, missingBetween, said, commit)
		}
		if err != nil {
			return nil, gateOutcome{}, 1, fmt.Errorf("the evidence of commit %s, which came to the branch in between: %w", commit, err)
		}
		p, err := c.look(ctx, bundle, anchors, of.change.Settled)
		if err != nil {
			return nil, gateOutcome{}, 1, err
		}
		said, code := c.judge(p.settled, bundle, commit)
		if code == 0 && commit != p.change.Landed { // approved, and nobody says what it was merged onto
			said, code = gateOutcome{Code: gateAsserted, Sentence: "the evidence does not say that it landed"}, 2
		}
		if code != 0 {
			return refuse(code, said.Code, "commit %s came to the branch since it was shown: %s", commit, said.Sentence)
		}
		h, err := historyOf(bundle, shown)
		if err != nil {
			return nil, gateOutcome{}, 1, err
		}
		list = append(list, otherChange{commit, h})
		next = append(next, p.found.Rests...)
	}
	return list, gateOutcome{}, 0, nil
}
