package gate_test

// flaw is a mistake that is put into the model: the search must find what it leads to.
type flaw string

const (
	sound            flaw = ""
	dropFencing      flaw = "drop the fencing"
	payStale         flaw = "pay a stale status"
	mergeUnread      flaw = "merge without reading the head again"
	skipDirty        flaw = "do not mark what was decided as dirty"
	skipLastTally    flaw = "do not tally again before the merge is called"
	finishDeafly     flaw = "finish a job that was asked for again meanwhile"
	forgetDoubt      flaw = "do not read back what was written in doubt"
	skipReconcile    flaw = "do not walk what is open on Bitbucket"
	putUntallied     flaw = "write green without a last tally"
	putByOldRules    flaw = "write green without a last look at the rules"
	dropOwed         flaw = "let go of a status that is not green any more"
	recordByState    flaw = "record a merge by what the last evaluation said"
	landAnyhow       flaw = "take whatever was merged for the head that was called for"
	callUnfenced     flaw = "call a merge without the fence"
	endEarly         flaw = "let go of a merge while a call may land yet"
	settleUnlocked   flaw = "let the rules change while an evaluation commits"
	putUnpublished   flaw = "write green before it is published"
	publishAnother   flaw = "publish another end of the chain than the one that is tallied"
	mergeUnpublished flaw = "call a merge before its verdict is published"
	checkUnpublished flaw = "say yes to a merge before its verdict is published"
	publishUnsaved   flaw = "publish what is not durable"
	skipFlush        flaw = "write what is not durable"
	flushElsewhere   flaw = "make durable in another session what was read in one"
	skipFirstFlush   flaw = "take for durable what a job was claimed with"
	beginUnclaimed   flaw = "begin to write a status whose claim a crash took back"
	skipLook         flaw = "do not walk what is shown on Bitbucket"
	oweSilently      flaw = "owe again what somebody else wrote over, and tell no worker"
	callBeside       flaw = "call for a merge once more that Bitbucket is at"
	endTask          flaw = "end a merge that Bitbucket is at"
	forgetTask       flaw = "forget that Bitbucket is at a merge"
	fenceByNumber    flaw = "let a claim that a crash took back finish the job"
)
