package bitbucketsim

import (
	"bytes"
	"slices"
	"strings"
)

// change says that lines [aLo,aHi) of the old text became lines [bLo,bHi) of the new one.
type change struct{ aLo, aHi, bLo, bHi int }

// maxEdits bounds the work of the line comparison: texts that differ in more lines than this are shown as
// replaced as a whole, which is still a correct diff.
const maxEdits = 3000

// splitLines cuts a text behind each newline; the last line may lack its newline.
func splitLines(text []byte) []string {
	if len(text) == 0 {
		return nil
	}
	lines := strings.SplitAfter(string(text), "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// isBinary applies git's test: a NUL byte among the first 8000.
func isBinary(content []byte) bool {
	return bytes.IndexByte(content[:min(len(content), 8000)], 0) >= 0
}

// compareLines returns the changes that turn a into b, in order, by Myers' greedy algorithm.
func compareLines(a, b []string) []change {
	lo := 0
	for lo < len(a) && lo < len(b) && a[lo] == b[lo] {
		lo++
	}
	aHi, bHi := len(a), len(b)
	for aHi > lo && bHi > lo && a[aHi-1] == b[bHi-1] {
		aHi, bHi = aHi-1, bHi-1
	}
	if lo == aHi && lo == bHi {
		return nil
	}
	keptA, ok := commonLines(a[lo:aHi], b[lo:bHi])
	if !ok {
		return []change{{lo, aHi, lo, bHi}}
	}
	var changes []change
	x, y := 0, 0
	for _, pair := range append(keptA, [2]int{aHi - lo, bHi - lo}) {
		if pair[0] > x || pair[1] > y {
			changes = append(changes, change{lo + x, lo + pair[0], lo + y, lo + pair[1]})
		}
		x, y = pair[0]+1, pair[1]+1
	}
	return changes
}

// commonLines pairs the lines that a longest common subsequence keeps. It gives up beyond maxEdits.
func commonLines(a, b []string) (pairs [][2]int, ok bool) {
	n, m := len(a), len(b)
	var fronts [][]int // fronts[d][k+d] is the furthest x on diagonal k after d edits
	// arrive tells at which x diagonal k is entered by the d-th edit, and whether that edit inserts a line.
	arrive := func(d, k int) (x int, insert bool) {
		if d == 0 {
			return 0, false
		}
		at := func(q int) int { return fronts[d-1][q+d-1] }
		if k == -d || (k != d && at(k-1) < at(k+1)) {
			return at(k + 1), true
		}
		return at(k-1) + 1, false
	}
	for d := 0; d <= min(n+m, maxEdits); d++ {
		front := make([]int, 2*d+1)
		for k := -d; k <= d; k += 2 {
			x, _ := arrive(d, k)
			for x < n && x-k < m && a[x] == b[x-k] {
				x++
			}
			front[k+d] = x
			if x >= n && x-k >= m {
				return walkBack(d, n, m, arrive), true
			}
		}
		fronts = append(fronts, front)
	}
	return nil, false
}

// walkBack follows the edits from the end (x, y) to the start and collects the kept lines.
func walkBack(d, x, y int, arrive func(d, k int) (int, bool)) [][2]int {
	var pairs [][2]int
	for ; d >= 0; d-- {
		enteredAt, insert := arrive(d, x-y)
		for x > enteredAt {
			x, y = x-1, y-1
			pairs = append(pairs, [2]int{x, y})
		}
		if insert {
			y--
		} else {
			x--
		}
	}
	slices.Reverse(pairs)
	return pairs
}

// mergeText merges two changed versions of one text. ok is false where the changes overlap or touch, or where
// a version is binary.
func mergeText(base, ours, theirs []byte) (merged []byte, ok bool) {
	if isBinary(base) || isBinary(ours) || isBinary(theirs) {
		return nil, false
	}
	b, u, t := splitLines(base), splitLines(ours), splitLines(theirs)
	left, right := compareLines(b, u), compareLines(b, t)
	var out strings.Builder
	write := func(lines []string) {
		for _, l := range lines {
			out.WriteString(l)
		}
	}
	at := 0
	for len(left) > 0 || len(right) > 0 {
		switch {
		case len(right) == 0 || (len(left) > 0 && left[0].aHi < right[0].aLo):
			write(b[at:left[0].aLo])
			write(u[left[0].bLo:left[0].bHi])
			at, left = left[0].aHi, left[1:]
		case len(left) == 0 || right[0].aHi < left[0].aLo:
			write(b[at:right[0].aLo])
			write(t[right[0].bLo:right[0].bHi])
			at, right = right[0].aHi, right[1:]
		default:
			l, r := left[0], right[0]
			same := l.aLo == r.aLo && l.aHi == r.aHi && slices.Equal(u[l.bLo:l.bHi], t[r.bLo:r.bHi])
			if !same {
				return nil, false
			}
			write(b[at:l.aLo])
			write(u[l.bLo:l.bHi])
			at, left, right = l.aHi, left[1:], right[1:]
		}
	}
	write(b[at:])
	return []byte(out.String()), true
}
