package workspace

import (
	"slices"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucket"
)

func TestEnforcement(t *testing.T) {
	t.Parallel()
	at := func(minute int) *time.Time { return new(time.Date(2026, 5, 4, 12, minute, 0, 0, time.UTC)) }
	push := restriction(bitbucket.RestrictPush, "release/*")
	exempt := push
	exempt.Users = []bitbucket.User{{UUID: "u", DisplayName: "Deploy Bot"}}
	group := push
	group.Groups = []bitbucket.Group{{Slug: "ops"}}
	builds := restriction(bitbucket.RequirePassingBuilds, "release/*")
	builds.Value = new(1)
	noBuilds := builds
	noBuilds.Value = new(0)
	premium := restriction(bitbucket.EnforceMergeChecks, "release/*")
	model := bitbucket.BranchRestriction{Kind: bitbucket.RestrictPush, MatchKind: bitbucket.MatchBranchingModel, BranchType: "release"}
	modelExempt := model
	modelExempt.Users = exempt.Users
	elsewhere := restriction(bitbucket.RestrictPush, "main")
	inside := restriction(bitbucket.RestrictPush, "release/1.0")
	inside.Users = exempt.Users
	outside := restriction(bitbucket.RestrictPush, "feature/*")
	outside.Users = exempt.Users
	held := observed{asked: at(10), held: at(10)}

	for name, c := range map[string]struct {
		restrictions []bitbucket.BranchRestriction
		unreadable   bool
		o            observed
		want         EnforcementState
		codes        []string // without advice
	}{
		"nothing at all":                 {nil, false, observed{}, EnforcementOpen, []string{ReasonPushOpen, ReasonNeverSeen}},
		"everything":                     {[]bitbucket.BranchRestriction{push, builds, premium}, false, held, EnforcementEnforced, []string{ReasonHeld}},
		"the check alone":                {[]bitbucket.BranchRestriction{push}, false, held, EnforcementEnforced, []string{ReasonHeld}},
		"the check, and pushes are open": {[]bitbucket.BranchRestriction{builds, premium}, false, held, EnforcementOpen, []string{ReasonPushOpen, ReasonHeld}},
		"pushes to another branch":       {[]bitbucket.BranchRestriction{elsewhere}, false, held, EnforcementOpen, []string{ReasonPushOpen, ReasonHeld}},
		"somebody may push":              {[]bitbucket.BranchRestriction{exempt}, false, held, EnforcementWarnsOnly, []string{ReasonPushExempt, ReasonHeld}},
		"a group may push":               {[]bitbucket.BranchRestriction{group}, false, held, EnforcementWarnsOnly, []string{ReasonPushExempt, ReasonHeld}},
		"somebody may push to one":       {[]bitbucket.BranchRestriction{push, inside}, false, held, EnforcementWarnsOnly, []string{ReasonPushExempt, ReasonHeld}},
		"somebody may push elsewhere":    {[]bitbucket.BranchRestriction{push, outside}, false, held, EnforcementEnforced, []string{ReasonHeld}},
		"by the branching model":         {[]bitbucket.BranchRestriction{model}, false, held, EnforcementUnknown, []string{ReasonPushUnclear, ReasonHeld}},
		"somebody by the model":          {[]bitbucket.BranchRestriction{push, modelExempt}, false, held, EnforcementUnknown, []string{ReasonPushUnclear, ReasonHeld}},
		"unreadable":                     {nil, true, held, EnforcementUnknown, []string{ReasonUnreadable, ReasonHeld}},
		"unreadable, and merged":         {nil, true, observed{asked: at(1), overridden: at(2)}, EnforcementWarnsOnly, []string{ReasonOverridden, ReasonUnreadable}},
		"never tried":                    {[]bitbucket.BranchRestriction{push, builds, premium}, false, observed{}, EnforcementUnknown, []string{ReasonNeverSeen}},
		"asked, never refused":           {[]bitbucket.BranchRestriction{push}, false, observed{asked: at(1)}, EnforcementUnknown, []string{ReasonNotProven}},
		"merged against a no":            {[]bitbucket.BranchRestriction{push}, false, observed{asked: at(1), overridden: at(2)}, EnforcementWarnsOnly, []string{ReasonOverridden}},
		"merged against a no, then held": {[]bitbucket.BranchRestriction{push}, false, observed{asked: at(3), overridden: at(2), held: at(3)}, EnforcementEnforced, []string{ReasonHeld}},
		"held, then merged against a no": {[]bitbucket.BranchRestriction{push}, false, observed{asked: at(3), overridden: at(4), held: at(3)}, EnforcementWarnsOnly, []string{ReasonOverridden}},
		"held, then merged unasked":      {[]bitbucket.BranchRestriction{push}, false, observed{asked: at(3), unasked: at(4), held: at(3)}, EnforcementOpen, []string{ReasonNotAsked}},
		"unasked, with builds":           {[]bitbucket.BranchRestriction{push, builds}, false, observed{unasked: at(4)}, EnforcementWarnsOnly, []string{ReasonNotAsked}},
		"unasked, with builds of none":   {[]bitbucket.BranchRestriction{push, noBuilds}, false, observed{unasked: at(4)}, EnforcementOpen, []string{ReasonNotAsked}},
		"unasked, then asked":            {[]bitbucket.BranchRestriction{push}, false, observed{unasked: at(4), asked: at(5)}, EnforcementUnknown, []string{ReasonNotProven}},
		"held, unasked, asked":           {[]bitbucket.BranchRestriction{push}, false, observed{held: at(1), unasked: at(4), asked: at(5)}, EnforcementUnknown, []string{ReasonNotProven}},
		"unasked, then held":             {[]bitbucket.BranchRestriction{push}, false, observed{unasked: at(4), asked: at(5), held: at(5)}, EnforcementEnforced, []string{ReasonHeld}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			state, reasons := enforcement("release/*", c.restrictions, !c.unreadable, c.o)
			if state != c.want {
				t.Errorf("it is %s, want %s: %+v", state, c.want, reasons)
			}
			var codes []string
			for _, r := range reasons {
				if r.Sentence == "" || r.limit == "" {
					t.Errorf("%s says nothing: %+v", r.Code, r)
				}
				if r.Code != ReasonBuildsNotAsked && r.Code != ReasonChecksNotEnforce {
					codes = append(codes, r.Code)
				}
				if r.limit != EnforcementEnforced && r.Fix == "" && len(r.Steps) == 0 {
					t.Errorf("%s does not say what to do", r.Code)
				}
			}
			if !slices.Equal(codes, c.codes) {
				t.Errorf("because of %q, want %q", codes, c.codes)
			}
		})
	}
}

// Adding a restriction without exceptions, or a refusal that held, never makes anything worse; and
// nothing is enforced without both.
func TestEnforcementNeedsBoth(t *testing.T) {
	t.Parallel()
	times := []*time.Time{nil, new(time.Unix(1, 0)), new(time.Unix(2, 0)), new(time.Unix(3, 0))}
	push := restriction(bitbucket.RestrictPush, "main")
	builds := restriction(bitbucket.RequirePassingBuilds, "main")
	for _, asked := range times {
		for _, held := range times {
			for _, unasked := range times {
				for _, overridden := range times {
					o := observed{asked: asked, held: held, unasked: unasked, overridden: overridden}
					without, _ := enforcement("main", nil, true, o)
					with, _ := enforcement("main", []bitbucket.BranchRestriction{push}, true, o)
					more, _ := enforcement("main", []bitbucket.BranchRestriction{push, builds}, true, o)
					if without != EnforcementOpen || with.worse(without) || more.worse(with) {
						t.Fatalf("%+v: %s, %s, %s", o, without, with, more)
					}
					slipped := overridden != nil && (held == nil || overridden.After(*held)) || unasked != nil && (held == nil || unasked.After(*held))
					if more == EnforcementEnforced && (held == nil || slipped) {
						t.Fatalf("%+v is enforced", o)
					}
				}
			}
		}
	}
}
