// Package approval decides. A [Policy] says who has to approve what; [Tally]
// takes one of its rules and the facts about one pull request and returns a
// [Verdict] that explains itself.
//
// The package is pure: it does no I/O, reads no clock and keeps no state. The
// same rule and the same facts always give the same verdict and the same
// sentence, which is what lets a stranger repeat the tally years later from an
// evidence bundle.
//
// Every doubt is resolved against approval: a rule without requirements, a
// quorum below one, a pattern that does not parse or a set of writers that was
// not asked for never approves anything.
package approval
