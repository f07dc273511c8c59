package gate_test

import (
	"flag"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/internal/racefree"
)

var wide = flag.Bool("wide", false, "explore the model with four chances at once, in minutes and some gigabytes")

// TestEveryOrderOfEvents explores the sound model with two chances at once; with -wide with four. A merge that lands another head
// than the one just read is no counterexample:
// Bitbucket's merge takes no expected head, so that a push in between cannot be kept out; landed finds it and alarms.
func TestEveryOrderOfEvents(t *testing.T) {
	t.Parallel()
	if racefree.Elsewhere(t) {
		return
	}
	cases := map[string]chances{
		"a worker dies, and a commit is pushed":                              {crashes: 1, pushes: 1},
		"a worker dies, and a webhook is lost or comes again":                {crashes: 1, webhooks: 1},
		"a commit is pushed, and a webhook is lost or comes again":           {pushes: 1, webhooks: 1},
		"a worker dies, and an approver withdraws":                           {crashes: 1, withdrawals: 1},
		"a worker dies, and the rule is changed":                             {crashes: 1, rules: 1},
		"a worker dies, and Bitbucket refuses to merge":                      {crashes: 1, refusals: 1},
		"a lease runs out, and a commit is pushed":                           {expiries: 1, pushes: 1},
		"a lease runs out, and an approver withdraws":                        {expiries: 1, withdrawals: 1},
		"a lease runs out, and the rule is changed":                          {expiries: 1, rules: 1},
		"a commit is pushed, and an approver withdraws":                      {pushes: 1, withdrawals: 1},
		"a commit is pushed, and the rule is changed":                        {pushes: 1, rules: 1},
		"an approver withdraws, and the rule is changed":                     {withdrawals: 1, rules: 1},
		"somebody else writes a status, and a worker dies":                   {strays: 1, crashes: 1},
		"somebody else writes a status, and a commit is pushed":              {strays: 1, pushes: 1},
		"Bitbucket is at a merge, and a worker dies":                         {tasks: 1, crashes: 1},
		"Bitbucket is at a merge, and a lease runs out":                      {tasks: 1, expiries: 1},
		"Bitbucket is at a merge, and a commit is pushed":                    {tasks: 1, pushes: 1},
		"Bitbucket is at a merge, and an approver withdraws":                 {tasks: 1, withdrawals: 1},
		"the log is published late, and a worker dies":                       {slow: 1, crashes: 1},
		"the log is published late, and a commit is pushed":                  {slow: 1, pushes: 1},
		"the log is published late, an approver withdraws, the rule changes": {slow: 1, withdrawals: 1, rules: 1},
		"the database crashes, and a worker dies":                            {outages: 1, slow: 1, crashes: 1},
		"the database crashes, and a lease runs out":                         {outages: 1, slow: 1, expiries: 1},
		"the database crashes, and an approver withdraws":                    {outages: 1, slow: 1, withdrawals: 1},
		"the database crashes, and a commit is pushed":                       {outages: 1, pushes: 1},
		"the database crashes, and the rule is changed":                      {outages: 1, slow: 1, rules: 1},
	}
	if *wide {
		cases = map[string]chances{
			"with an approver who withdraws":                    {crashes: 1, withdrawals: 1, pushes: 1, webhooks: 1},
			"with a lease that runs out":                        {crashes: 1, expiries: 1, pushes: 1, webhooks: 1},
			"with both, and nobody who dies":                    {expiries: 1, withdrawals: 1, pushes: 1, webhooks: 1},
			"with another rule":                                 {crashes: 1, withdrawals: 1, pushes: 1, rules: 1},
			"the log is published late, and the database falls": {outages: 1, slow: 1, crashes: 1, withdrawals: 1, rules: 1},
			"the database crashes, and a commit is pushed":      {outages: 1, slow: 1, pushes: 1, withdrawals: 1},
		}
	}
	for name, may := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			story, states := search(sound, may)
			if story != nil {
				t.Errorf("after %d states:\n%s", states, strings.Join(story, "\n"))
			}
			if states < 2_000 {
				t.Errorf("%d states are too few to show anything", states)
			}
			t.Logf("%d states explored", states)
		})
	}
}

// TestEveryFlawIsFound puts mistakes into the model, each of which the search must find.
func TestEveryFlawIsFound(t *testing.T) {
	t.Parallel()
	if racefree.Elsewhere(t) {
		return
	}
	for f, may := range map[flaw]chances{
		dropFencing: {expiries: 1, pushes: 1}, payStale: {}, mergeUnread: {pushes: 1}, skipDirty: {}, skipLastTally: {withdrawals: 1},
		skipReconcile: {pushes: 1, webhooks: 1}, finishDeafly: {pushes: 1}, forgetDoubt: {crashes: 1, withdrawals: 1},
		putUntallied: {withdrawals: 1}, dropOwed: {withdrawals: 1}, recordByState: {withdrawals: 1}, landAnyhow: {pushes: 1},
		callUnfenced: {expiries: 1, pushes: 1}, endEarly: {crashes: 1, withdrawals: 1}, putByOldRules: {rules: 1}, settleUnlocked: {rules: 1},
		putUnpublished: {slow: 1}, publishAnother: {slow: 1, withdrawals: 1}, mergeUnpublished: {slow: 1, withdrawals: 1}, checkUnpublished: {slow: 1, outages: 1},
		publishUnsaved: {slow: 1, outages: 1}, skipFlush: {slow: 1, outages: 1, withdrawals: 1}, flushElsewhere: {slow: 1, outages: 1, withdrawals: 1},
		skipFirstFlush: {slow: 1, outages: 1, withdrawals: 1}, fenceByNumber: {outages: 1, pushes: 1},
		beginUnclaimed: {outages: 1, pushes: 1}, skipLook: {strays: 1}, oweSilently: {strays: 1},
		callBeside: {tasks: 1}, endTask: {tasks: 1}, forgetTask: {tasks: 1},
	} {
		t.Run(string(f), func(t *testing.T) {
			story, states := search(f, may)
			if story == nil {
				t.Fatalf("nothing is wrong in %d states", states)
			}
			t.Logf("after %d states:\n%s", states, strings.Join(story, "\n"))
		})
	}
}
