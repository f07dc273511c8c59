package fault

// Introduction is how the document of the matrix begins.
const Introduction = `# What goes wrong, and how it ends

Written by ` + "`go test ./server/gate -run TestFaultTable -update`" + ` from the tests that play it (` + "`internal/fault`" + `), and compared by them.

Each cell of the matrix is a subtest: a whole story, on a real PostgreSQL, Redis, mail server and the simulated Bitbucket, with one
fault on its way. A cell passes if its fault struck exactly once and the story ends as is written here; the same story without a
fault is played for each step, and must fail every cell of it. The checker of invariants looks on from the strike to the end.

- **failed**: refused, nothing happened. **failed but happened**: carried out, and the answer is lost.
- **process died before** and **after**: from that moment nothing of the process reaches anybody, as after kill -9: its connections
  break, nobody gives the job back, and another server takes over when the lease has run out.
- **slow**: longer than its caller waits, or than the lease, so that another server or a repeated click comes meanwhile; then it happens.
- **answered twice**: the call is repeated on its way, or the job handed out again under the same claim.

*One leaf per cause* means that the log has one leaf each for the request, both verdicts, the decision, both statuses paid and the merge.
A letter can come twice and a status be written twice: neither can be called back, and missing is worse. Nothing else happens twice.
`

// Promise is something that holds while a part is away or somebody asks for too much.
type Promise struct {
	Section, What string
	// Tests are "folder Test".
	Tests []string
}

const (
	degradation = "While a part is away"
	fairness    = "When there is too much"
	model       = "Every order of events"
)

// Promises are listed beside the matrix.
var Promises = []Promise{
	{degradation, "Redis dies, hangs, loses everything or is replaced: intake and decisions go on, jobs are done from Postgres, and through Redis when it is back", []string{
		"server/jobs TestRedisDies", "server/jobs TestRedisHangs", "server/jobs TestFlush", "server/jobs TestRestartedRedisIsNoticed", "server/app TestRedisIsLost",
	}},
	{degradation, "Postgres is away: 503, and nothing of it is kept", []string{
		"server/webhook TestDatabaseIsAway", "server/store TestIntakeWithoutPostgres", "server/app TestPostgresConnectionsAreCut",
	}},
	{degradation, "Bitbucket does not say what became of a merge, or hides it, or is at it for ever: nobody calls again while a call may land, and its end is put on record", []string{
		"server/gate TestNobodyCallsWhileACallMayLand", "server/gate TestALostAnswerMayBeATask", "server/gate TestATaskThatNeverEnds",
		"server/gate TestATaskThatBitbucketDoesNotTellOf", "server/gate TestATaskThatCouldNotBeAskedForLandsElsewhere", "server/gate TestAMergeThatCannotBeReadIsNotForgotten",
		"server/gate TestAMergeThatWasGivenUpIsRungAgain", "server/gate TestWhatLandedCannotBeRead",
	}},
	{degradation, "a poison job kills no more than it may, runs alone, ends among the dead, and holds up nobody", []string{
		"server/jobs TestPoisonKillsNoMoreThanItMay", "server/jobs TestSuspectsRunAlone",
	}},
	{degradation, "a server that is asked to stop drains, and gives back what it cannot end", []string{
		"server/jobs TestStop", "server/jobs TestProcessesStopInGoodOrder", "server/app TestServersAreStopped",
	}},
	{fairness, "Bitbucket's hourly limit is never exceeded, whatever the number of servers, and a refusal is obeyed by all", []string{
		"server/jobs TestBudgetNeverExceedsTheHour", "server/jobs TestBudgetIsShared", "server/jobs TestBudgetPause", "server/jobs TestBudgetOfAnEmptyRedis", "server/jobs TestBudgetWithoutRedis",
	}},
	{fairness, "merges and statuses are paid for first, the background last", []string{
		"server/jobs TestBudgetIsShared", "server/jobs TestBudgetRefillsEvenly", "server/jobs TestSlowJobsHoldUpNobody",
	}},
	{fairness, "callers of GraphQL are counted apart, and only so many run at a time", []string{
		"graph TestCallersAreCountedApart", "graph TestSharedLimitIsAsked", "graph TestOnlySoManyRunAtATime", "graph TestStreamsOfACallerAreCounted",
	}},
	{model, "in every order in which two workers, two approvers, a push, a withdrawal, a change of the rules, a crash of a worker or of the database, a lease that runs out early, a status that somebody else writes, a merge that Bitbucket takes its time for and a log that is published late can meet, from the opening until the merge is on record: never SUCCESSFUL without a quorum whose verdict is durable and published, never merged what was not approved, known for as long as a call may merge it and called for by no second one, on record is what was merged, once, and as approved only while it is; at rest the status is the verdict, and nothing is stuck", []string{
		"server/gate TestEveryOrderOfEvents",
	}},
	{model, "the search finds a counterexample to each mistake that is put into the model", []string{"server/gate TestEveryFlawIsFound"}},
	{model, "the gate itself plays random stories of the model, with what people do between its steps and calls that are lost, and ends each step where the model does", []string{"server/gate TestTheModelIsTheGate"}},
}
