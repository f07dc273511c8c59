package workspace

import (
	"regexp"
	"strings"
	"testing"

	"github.com/bmatcuk/doublestar/v4"
	"pgregory.net/rapid"

	"github.com/signedapproval/bitbucket/server/bitbucket"
)

func restriction(kind bitbucket.RestrictionKind, pattern string) bitbucket.BranchRestriction {
	return bitbucket.BranchRestriction{Kind: kind, MatchKind: bitbucket.MatchGlob, Pattern: pattern}
}

func TestCoverage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ours, theirs string
		want         coverage
	}{
		{"main", "main", coversSurely},
		{"main", "Main", coversNot},
		{"main", "mai", coversNot},
		{"main", "main2", coversNot},
		{"main", "*", coversSurely},
		{"main", "**", coversSurely},
		{"main", "m*", coversSurely},
		{"main", "m*n", coversSurely},
		{"main", "release/*", coversNot},
		{"main", "main|develop", coversPerhaps},
		{"main", "m?in", coversPerhaps},
		{"main", "ma[i]n", coversPerhaps},
		{"main", "*|!main", coversPerhaps},
		{"release/*", "release/*", coversSurely},
		{"release/*", "release/**", coversSurely},
		{"release/*", "release*", coversPerhaps}, // does * cross the slash?
		{"release/*", "*", coversSurely},
		{"release/*", "release/1.*", coversNot},
		{"release/*", "release/1", coversNot},
		{"release/1.*", "release/*", coversSurely},
		{"release/1.?", "release/1.*", coversSurely},
		{"release/[0-9].0", "release/*.0", coversSurely},
		{"release/**", "release/**", coversNot}, // the branch release is not
		{"**", "*", coversSurely},
		{"**", "**", coversSurely},
		{"**", "main", coversNot},
		{"*", "*", coversSurely},
		{"*", "**", coversSurely},
		{"**/hotfix", "**/hotfix", coversNot}, // the branch hotfix is not
		{"{main,develop}", "main", coversNot},
		{"{main,develop}", "*", coversSurely},
		{"a/b", "a*b", coversPerhaps},
		{"feature/*/x", "feature/*", coversPerhaps},
		{"feature/*/x", "feature/*/*", coversSurely},
	} {
		got := coversAll(bitbucket.RestrictPush, []bitbucket.BranchRestriction{restriction(bitbucket.RestrictPush, c.theirs)}, alternatives(c.ours))
		if got != c.want {
			t.Errorf("%q covers %q: %d, want %d", c.theirs, c.ours, got, c.want)
		}
	}
	model := bitbucket.BranchRestriction{Kind: bitbucket.RestrictPush, MatchKind: bitbucket.MatchBranchingModel, BranchType: "release"}
	if got := coverageOf(model, alternatives("release/*")[0]); got != coversPerhaps {
		t.Errorf("by branching model: %d", got)
	}
	several := []bitbucket.BranchRestriction{restriction(bitbucket.RestrictPush, "release"), restriction(bitbucket.RestrictPush, "release/**")}
	if got := coversAll(bitbucket.RestrictPush, several, alternatives("release/**")); got != coversSurely {
		t.Errorf("two restrictions together: %d", got)
	}
}

// One character that can be any is this one too.
func TestTouchesOneCharacter(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]bool{"a": true, "ab": false, "/": false, "": false} {
		if got := touches(restriction(bitbucket.RestrictPush, pattern), alternatives("?")[0]); got != want {
			t.Errorf("%q and ?: %t", pattern, got)
		}
	}
}

func TestAlternativesOfTooMany(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{strings.Repeat("{a,b}", 20), strings.Repeat("**/a/", 20) + "b"} {
		list := alternatives(pattern)
		if len(list) != 1 || list[0].bitbucket() != "*" {
			t.Errorf("%.20s: %d alternatives", pattern, len(list))
		}
	}
}

// pattern draws a pattern of ours.
func pattern(t *rapid.T) string {
	atom := rapid.SampledFrom([]string{"a", "b", "1", "*", "?", "[ab]", "{a,b}", "{a,b*}", "a.b", "\\*"})
	segment := rapid.Custom(func(t *rapid.T) string {
		if rapid.IntRange(0, 3).Draw(t, "any") == 0 {
			return "**"
		}
		return strings.Join(rapid.SliceOfN(atom, 1, 3).Draw(t, "atoms"), "")
	})
	return strings.Join(rapid.SliceOfN(segment, 1, 4).Draw(t, "segments"), "/")
}

// branchName draws a branch out of the same characters.
func branchName(t *rapid.T) string {
	segment := rapid.StringOfN(rapid.SampledFrom([]rune("ab1.*")), 1, 4, -1)
	return strings.Join(rapid.SliceOfN(segment, 1, 5).Draw(t, "branch"), "/")
}

// The globs of a pattern match every branch that the pattern matches.
func TestAlternativesLoseNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p, branch := pattern(t), branchName(t)
		if !doublestar.MatchUnvalidated(p, branch) {
			return
		}
		for _, g := range alternatives(p) {
			if matches(g, branch) {
				return
			}
		}
		t.Fatalf("%q matches %q, none of %q does", p, branch, alternatives(p))
	})
}

// matches is a second opinion on what a glob matches.
func matches(g glob, branch string) bool {
	var b strings.Builder
	for _, r := range g {
		switch r {
		case anyPath:
			b.WriteString(".*")
		case anyInSegment:
			b.WriteString("[^/]*")
		case anyCharacter:
			b.WriteString("[^/]")
		default:
			b.WriteString(regexp.QuoteMeta(string(r)))
		}
	}
	return regexp.MustCompile("^(?:" + b.String() + ")$").MatchString(branch)
}

// What surely covers a pattern matches every branch of it, in both readings of Bitbucket's pattern; and what FixEnforcement
// writes does.
func TestSurelyMeansEveryBranch(t *testing.T) {
	t.Parallel()
	theirAtoms := rapid.SampledFrom([]string{"a", "b", "1", "*", "**", "/", "a.b"})
	rapid.Check(t, func(t *rapid.T) {
		p, branch := pattern(t), branchName(t)
		theirPattern := strings.Join(rapid.SliceOfN(theirAtoms, 1, 6).Draw(t, "theirs"), "")
		for _, g := range alternatives(p) {
			if !matches(g, branch) {
				continue
			}
			for _, one := range []string{theirPattern, g.bitbucket()} {
				r := restriction(bitbucket.RestrictPush, one)
				switch coverageOf(r, g) {
				case coversSurely:
					wide := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(one), `\*`, ".*") + "$").MatchString(branch)
					if !wide || !matches(theirs(one), branch) || !touches(r, g) {
						t.Fatalf("%q surely covers %q, but not %q", one, p, branch)
					}
				case coversPerhaps, coversNot:
					if one == g.bitbucket() && !strings.Contains(p, `\`) {
						t.Fatalf("%q is written for %q and does not surely cover it", one, p)
					}
				}
				if regexp.MustCompile("^"+strings.ReplaceAll(regexp.QuoteMeta(one), `\*`, ".*")+"$").MatchString(branch) && !touches(r, g) {
					t.Fatalf("%q is about %q of %q and is said not to touch it", one, branch, p)
				}
			}
		}
	})
}
