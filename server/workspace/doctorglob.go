package workspace

import (
	"slices"
	"strings"

	"github.com/signedapproval/bitbucket/server/bitbucket"
)

// Our patterns and Bitbucket's are two languages. Ours has `*` inside a segment, `**` across, `?`,
// `[a-z]` and `{a,b}`. Of Bitbucket's only `*` is sure, and whether it crosses a slash is not
// documented for Bitbucket Cloud. A restriction covers a pattern only if it does so in both readings.

// coverage tells whether a restriction is about every branch of a pattern.
type coverage int

const (
	coversNot coverage = iota
	coversPerhaps
	coversSurely
)

// glob is a pattern as a row of characters and wildcards.
type glob []rune

// The wildcards of a glob. No character is negative.
const (
	anyInSegment   rune = -1 - iota // any characters but slashes, none included
	anyPath                         // any characters, none included
	anyCharacter                    // one character, no slash
	maxAlternative = 64
)

// alternatives writes a pattern of ours as globs that together match at least the branches that it
// matches: `{a,b}` becomes two, and a `**` between slashes one with nothing in its place and one with
// something.
func alternatives(pattern string) []glob {
	var list []glob
	for _, plain := range braces(pattern) {
		list = append(list, segments(plain)...)
	}
	if len(list) == 0 || len(list) > maxAlternative {
		return []glob{{anyPath}}
	}
	return list
}

// braces writes out the alternatives in braces, the innermost and last first.
func braces(pattern string) []string {
	done, rest := []string{}, []string{pattern}
	for len(rest) > 0 {
		one := rest[0]
		rest = rest[1:]
		end := unescaped(one, '}', 0)
		start := -1
		for i := unescaped(one, '{', 0); i >= 0 && i < end; i = unescaped(one, '{', i+1) {
			start = i
		}
		if start < 0 || end < 0 {
			done = append(done, one)
			continue
		}
		for _, option := range strings.Split(one[start+1:end], ",") {
			rest = append(rest, one[:start]+option+one[end+1:])
		}
		if len(done)+len(rest) > maxAlternative {
			return []string{"**"}
		}
	}
	return done
}

// unescaped is the first place from `from` on of a character that no backslash precedes and that is in no class; -1 if none.
func unescaped(s string, c byte, from int) int {
	class := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\':
			i++
		case s[i] == '[':
			class = true
		case s[i] == ']':
			class = false
		case s[i] == c && !class && i >= from:
			return i
		}
	}
	return -1
}

// segments writes a pattern without braces as globs.
func segments(pattern string) []glob {
	list := []glob{nil}
	started := false // something stands before, which a slash separates
	parts := strings.Split(pattern, "/")
	for i, part := range parts {
		if part != "**" {
			for j := range list {
				if started && len(list[j]) > 0 {
					list[j] = append(list[j], '/')
				}
				list[j] = append(list[j], characters(part)...)
			}
			started = true
			continue
		}
		without := make([]glob, 0, len(list))
		for j := range list {
			without = append(without, slices.Clone(list[j]))
			if started && len(list[j]) > 0 {
				list[j] = append(list[j], '/')
			}
			list[j] = append(list[j], anyPath)
		}
		// With nothing in its place, what stands around it still needs something to match.
		if len(parts) > 1 && (i > 0 || len(parts) > i+1) {
			list = append(list, without...)
		}
		started = true
		if len(list) > maxAlternative {
			return []glob{{anyPath}}
		}
	}
	return slices.DeleteFunc(list, func(g glob) bool { return len(g) == 0 })
}

// characters reads one segment.
func characters(segment string) (g glob) {
	runes := []rune(segment)
	for i := 0; i < len(runes); i++ {
		switch r := runes[i]; r {
		case '\\':
			if i+1 < len(runes) {
				i++
				g = append(g, runes[i])
			}
		case '*':
			if len(g) == 0 || g[len(g)-1] != anyInSegment {
				g = append(g, anyInSegment)
			}
		case '?':
			g = append(g, anyCharacter)
		case '[':
			end := slices.Index(runes[i+1:], ']')
			if end < 0 {
				return glob{anyInSegment}
			}
			i += end + 1
			g = append(g, anyCharacter)
		default:
			g = append(g, r)
		}
	}
	return g
}

// literal gives the branch that the glob is, if it has no wildcard.
func (g glob) literal() (string, bool) {
	return string(g), !slices.ContainsFunc(g, func(r rune) bool { return r < 0 })
}

// bitbucket writes the glob for Bitbucket: it matches at least the same branches there.
func (g glob) bitbucket() string {
	if len(g) == 1 && g[0] == anyPath {
		return "*"
	}
	var b strings.Builder
	for _, r := range g {
		switch r {
		case anyPath:
			b.WriteString("**")
		case anyInSegment, anyCharacter:
			b.WriteByte('*')
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// unclear are the characters of Bitbucket's patterns whose meaning is not certain.
const unclear = `?[]{}\|!`

// theirs reads a pattern of Bitbucket's in the narrow reading, in which a single `*` stays inside a segment.
func theirs(pattern string) glob {
	if pattern == "*" || pattern == "**" {
		return glob{anyPath}
	}
	var g glob
	for i, segment := range strings.Split(pattern, "/") {
		if i > 0 {
			g = append(g, '/')
		}
		if segment == "**" {
			g = append(g, anyPath)
			continue
		}
		g = append(g, characters(segment)...)
	}
	return g
}

// wide is the reading in which every `*` crosses slashes.
func (g glob) wide() glob {
	w := slices.Clone(g)
	for i, r := range w {
		if r == anyInSegment {
			w[i] = anyPath
		}
	}
	return w
}

// covers tells whether g matches whatever other matches. It may say no where the answer is yes.
func (g glob) covers(other glob) bool {
	// reach[j]: g up to here covers the first j of other.
	reach := make([]bool, len(other)+1)
	reach[0] = true
	for _, r := range g {
		next := make([]bool, len(other)+1)
		for j := range next {
			switch {
			case r == anyPath:
				next[j] = reach[j] || j > 0 && next[j-1]
			case r == anyInSegment:
				next[j] = reach[j] || j > 0 && next[j-1] && other[j-1] != '/' && other[j-1] != anyPath
			case j > 0 && (other[j-1] == r || r == anyCharacter && other[j-1] >= 0 && other[j-1] != '/'):
				next[j] = reach[j-1]
			}
		}
		reach = next
	}
	return reach[len(other)]
}

// coverageOf tells whether a restriction is about every branch of a glob.
func coverageOf(r bitbucket.BranchRestriction, g glob) coverage {
	switch {
	case r.MatchKind != bitbucket.MatchGlob:
		return coversPerhaps // only who reads the branching model knows
	case strings.ContainsAny(r.Pattern, unclear):
		if touches(r, g) {
			return coversPerhaps
		}
		return coversNot
	case theirs(r.Pattern).covers(g):
		return coversSurely
	case theirs(r.Pattern).wide().covers(g):
		return coversPerhaps
	}
	return coversNot
}

// touches tells whether a restriction can be about some branch of a glob; where that is not certain the
// answer is yes.
func touches(r bitbucket.BranchRestriction, g glob) bool {
	if r.MatchKind != bitbucket.MatchGlob || strings.ContainsAny(r.Pattern, "|!") {
		return true
	}
	if branch, ok := g.literal(); ok {
		return r.AppliesTo(branch)
	}
	theirStart := r.Pattern
	if i := strings.IndexAny(theirStart, "*"+unclear); i >= 0 {
		theirStart = theirStart[:i]
	} else {
		return g.wide().covers(glob(r.Pattern))
	}
	ourStart := ""
	for _, c := range g {
		if c < 0 {
			break
		}
		ourStart += string(c)
	}
	return strings.HasPrefix(theirStart, ourStart) || strings.HasPrefix(ourStart, theirStart)
}
