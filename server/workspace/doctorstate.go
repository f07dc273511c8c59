package workspace

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucket"
)

// EnforcementState is how far Bitbucket enforces the gate for the branches of a pattern.
type EnforcementState string

// The states, the worst first. Nothing better is said than what was observed.
const (
	// EnforcementOpen: changes reach the branch without anybody being asked.
	EnforcementOpen EnforcementState = "OPEN"
	// EnforcementWarnsOnly: Bitbucket shows the verdict, but was seen to merge, or may be made to merge, against it.
	EnforcementWarnsOnly EnforcementState = "WARNS_ONLY"
	// EnforcementUnknown: nothing bad was seen, and nothing proves that it holds.
	EnforcementUnknown EnforcementState = "UNKNOWN"
	// EnforcementEnforced: a merge was refused by our check and did not go through, nobody may push, and no
	// later merge went around it.
	EnforcementEnforced EnforcementState = "ENFORCED"
)

var enforcementOrder = []EnforcementState{EnforcementOpen, EnforcementWarnsOnly, EnforcementUnknown, EnforcementEnforced}

// worse tells whether s is worse than other.
func (s EnforcementState) worse(other EnforcementState) bool {
	return slices.Index(enforcementOrder, s) < slices.Index(enforcementOrder, other)
}

// Fix is what FixEnforcement can do about a reason.
type Fix string

// The fixes.
const (
	// FixRestrictPush makes a restriction under which nobody may push.
	FixRestrictPush Fix = "RESTRICT_PUSH"
	// FixRequireBuild makes Bitbucket ask for a passing build before a merge.
	FixRequireBuild Fix = "REQUIRE_BUILD"
	// FixEnforceChecks makes Bitbucket refuse merges with unmet checks; needs Bitbucket Premium.
	FixEnforceChecks Fix = "ENFORCE_CHECKS"
)

// Codes of reasons.
const (
	ReasonUnreadable       = "RESTRICTIONS_UNREADABLE" // Bitbucket does not show the branch restrictions
	ReasonPushOpen         = "PUSH_OPEN"               // people with write permission may push
	ReasonPushExempt       = "PUSH_EXEMPT"             // some may push
	ReasonPushUnclear      = "PUSH_UNCLEAR"            // whether a restriction covers the pattern cannot be told
	ReasonNotAsked         = "CHECK_NOT_ASKED"         // the last merge was not asked about
	ReasonOverridden       = "CHECK_OVERRIDDEN"        // a merge went through against a "no"
	ReasonNeverSeen        = "CHECK_NEVER_SEEN"        // no merge was asked about, and none was seen
	ReasonNotProven        = "CHECK_NOT_PROVEN"        // no "no" was seen to hold
	ReasonHeld             = "CHECK_HELD"              // a "no" was seen to hold: not a fault
	ReasonBuildsNotAsked   = "BUILDS_NOT_REQUIRED"     // advice
	ReasonChecksNotEnforce = "CHECKS_NOT_ENFORCED"     // advice
)

// Reason is one part of why a pattern is in its state.
type Reason struct {
	Code     string   `json:"code"`
	Sentence string   `json:"sentence"`
	Fix      Fix      `json:"fix,omitempty"`   // what FixEnforcement can do about it; "" for nothing
	Steps    []string `json:"steps,omitempty"` // what only a person can do about it, in order

	// limit is the best state that the reason allows.
	limit EnforcementState
}

// observed is what is on record of merges into the branches of a pattern.
type observed struct {
	// asked is when the on-merge check was last asked; nil: never.
	asked *time.Time
	// held is when the last "no" that was seen to hold was given; nil: none was.
	held *time.Time
	// unasked and overridden are when a merge was last seen that was not asked about, and one that the
	// check's last word was against; nil: none was.
	unasked, overridden *time.Time
}

// switchOn is how the merge check is switched on, which no API can do.
var switchOn = []string{
	"At Bitbucket, in Workspace settings under Custom merge checks, enable SignedApproval's check on merge.",
	"In Repository settings under Custom merge checks, add it for these branches and choose Required (needs Bitbucket Premium).",
	"Try to merge a pull request that is not approved yet: once that was refused, the gate counts as enforced.",
}

// enforcement derives the state of a pattern from Bitbucket's branch restrictions and from what was
// observed. readable says whether Bitbucket showed the restrictions. The reasons come with the worst first.
func enforcement(pattern string, restrictions []bitbucket.BranchRestriction, readable bool, o observed) (EnforcementState, []Reason) {
	var reasons []Reason
	builds := false
	if !readable {
		reasons = append(reasons, Reason{
			Code: ReasonUnreadable, limit: EnforcementUnknown,
			Sentence: "Bitbucket does not show the branch restrictions of this repository to SignedApproval.",
			Steps:    []string{"Give the app, or the account that connected the workspace, administrator's rights in the repository."},
		})
	} else {
		globs := alternatives(pattern)
		reasons = append(reasons, pushReasons(restrictions, globs)...)
		builds = coversAll(bitbucket.RequirePassingBuilds, restrictions, globs) == coversSurely
	}
	reasons = append(reasons, checkReason(builds, o))
	state := EnforcementEnforced
	for _, r := range reasons {
		if r.limit.worse(state) {
			state = r.limit
		}
	}
	if state != EnforcementEnforced && readable {
		reasons = append(reasons, advice(pattern, restrictions, builds)...)
	}
	slices.SortStableFunc(reasons, func(a, b Reason) int {
		return slices.Index(enforcementOrder, a.limit) - slices.Index(enforcementOrder, b.limit)
	})
	return state, reasons
}

// coversAll tells whether restrictions of a kind are about every branch of the globs.
func coversAll(kind bitbucket.RestrictionKind, restrictions []bitbucket.BranchRestriction, globs []glob) coverage {
	worst := coversSurely
	for _, g := range globs {
		best := coversNot
		for _, r := range restrictions {
			if r.Kind == kind && (r.Value == nil || *r.Value > 0) {
				best = max(best, coverageOf(r, g))
			}
		}
		worst = min(worst, best)
	}
	return worst
}

// pushReasons says who may write to the branches without a pull request.
func pushReasons(restrictions []bitbucket.BranchRestriction, globs []glob) []Reason {
	var names []string
	exempt, perhaps := false, false
	for _, r := range restrictions {
		if r.Kind != bitbucket.RestrictPush || len(r.Users)+len(r.Groups) == 0 || !slices.ContainsFunc(globs, func(g glob) bool { return touches(r, g) }) {
			continue
		}
		// Where several restrictions are about a branch, whoever one of them lets in may be let in.
		if r.MatchKind != bitbucket.MatchGlob || strings.ContainsAny(r.Pattern, unclear) {
			perhaps = true
			continue
		}
		exempt = true
		for _, user := range r.Users {
			names = append(names, user.DisplayName)
		}
		for _, group := range r.Groups {
			names = append(names, "the group "+group.Slug)
		}
	}
	switch cover := coversAll(bitbucket.RestrictPush, restrictions, globs); {
	case cover == coversNot:
		return []Reason{{
			Code: ReasonPushOpen, limit: EnforcementOpen, Fix: FixRestrictPush,
			Sentence: "Everybody with write permission can push to these branches without a pull request.",
		}}
	case exempt:
		slices.Sort(names)
		return []Reason{{
			Code: ReasonPushExempt, limit: EnforcementWarnsOnly, Fix: FixRestrictPush,
			Sentence: "Some can push to these branches without a pull request: " + some(slices.Compact(names), 5) + ".",
			Steps:    []string{"At Bitbucket, in Repository settings under Branch restrictions, look at every restriction that is about these branches, and let nobody write to them."},
		}}
	case cover == coversPerhaps || perhaps:
		return []Reason{{
			Code: ReasonPushUnclear, limit: EnforcementUnknown, Fix: FixRestrictPush,
			Sentence: "Whether Bitbucket's restriction on pushes is about all of these branches, or whom it lets in, cannot be told from here: it goes by the branching model, or by a pattern that can be read in two ways.",
			Steps:    []string{"At Bitbucket, in Repository settings under Branch restrictions, write the restriction for these very branches by name or pattern, and let nobody write to them."},
		}}
	}
	return nil
}

// some lists the first names.
func some(names []string, most int) string {
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// checkReason says what merges showed of the merge check.
func checkReason(builds bool, o observed) Reason {
	after := func(a, b *time.Time) bool { return a != nil && (b == nil || a.After(*b)) }
	switch {
	case after(o.unasked, o.held) && after(o.unasked, o.asked):
		r := Reason{
			Code: ReasonNotAsked, limit: EnforcementOpen, Steps: switchOn,
			Sentence: "The last merge into these branches went through without SignedApproval's merge check being asked, and nothing else stands in the way of a merge.",
		}
		if builds {
			r.limit = EnforcementWarnsOnly
			r.Sentence = "The last merge into these branches went through without SignedApproval's merge check being asked. Bitbucket asks for a passing build, but anybody who can read the repository can post one."
		}
		return r
	case after(o.overridden, o.held):
		return Reason{
			Code: ReasonOverridden, limit: EnforcementWarnsOnly, Steps: switchOn[1:],
			Sentence: "A merge went through on " + day(*o.overridden) + " although SignedApproval's merge check had said no: the check is not Required.",
		}
	case after(o.unasked, o.held):
		return Reason{
			Code: ReasonNotProven, limit: EnforcementUnknown, Steps: switchOn[2:],
			Sentence: "SignedApproval's merge check has been asked since the last merge that went around it; that it is Required has not been seen since.",
		}
	case o.held != nil:
		return Reason{
			Code: ReasonHeld, limit: EnforcementEnforced,
			Sentence: "On " + day(*o.held) + " SignedApproval's merge check refused a merge, and it did not go through. Administrators of the repository can still change these settings; that shows here.",
		}
	case o.asked != nil:
		return Reason{
			Code: ReasonNotProven, limit: EnforcementUnknown, Steps: switchOn[1:],
			Sentence: "SignedApproval's merge check was asked, but no merge has been seen yet that it stopped: Bitbucket does not tell whether it is Required.",
		}
	}
	return Reason{
		Code: ReasonNeverSeen, limit: EnforcementUnknown, Steps: switchOn,
		Sentence: "No merge into these branches has been tried yet, and Bitbucket does not tell whether SignedApproval's merge check is switched on.",
	}
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// advice is what helps where the merge check is not known to hold.
func advice(pattern string, restrictions []bitbucket.BranchRestriction, builds bool) (reasons []Reason) {
	if !builds {
		reasons = append(reasons, Reason{
			Code: ReasonBuildsNotAsked, limit: EnforcementEnforced, Fix: FixRequireBuild,
			Sentence: "Bitbucket does not ask for a passing build before a merge into these branches; our build status would then show there.",
		})
	}
	if coversAll(bitbucket.EnforceMergeChecks, restrictions, alternatives(pattern)) != coversSurely {
		reasons = append(reasons, Reason{
			Code: ReasonChecksNotEnforce, limit: EnforcementEnforced, Fix: FixEnforceChecks,
			Sentence: "Bitbucket only warns of unmet checks before a merge into these branches; with Bitbucket Premium it can refuse.",
		})
	}
	return reasons
}
