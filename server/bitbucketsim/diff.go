package bitbucketsim

import (
	"fmt"
	"slices"
	"strings"
)

// fileChange is one file that differs between two snapshots.
type fileChange struct {
	oldPath, newPath string // "" where the file does not exist on that side
	old, new         entry
	similarity       int // percent; only for a rename
}

func (f fileChange) status() string {
	switch {
	case f.oldPath == "":
		return "added"
	case f.newPath == "":
		return "removed"
	case f.oldPath != f.newPath:
		return "renamed"
	default:
		return "modified"
	}
}

// path is where the file is, or was.
func (f fileChange) path() string {
	if f.newPath != "" {
		return f.newPath
	}
	return f.oldPath
}

// minSimilarity is git's default: half of the lines survive a rename.
const minSimilarity = 50

// compareSnapshots lists the files that differ, in the order of their paths, with renames found.
func (o *objects) compareSnapshots(from, to snapshot) []fileChange {
	var added, removed, out []fileChange
	for p, e := range to {
		old, was := from[p]
		switch {
		case !was:
			added = append(added, fileChange{newPath: p, new: e})
		case old != e:
			out = append(out, fileChange{oldPath: p, newPath: p, old: old, new: e})
		}
	}
	for p, e := range from {
		if _, is := to[p]; !is {
			removed = append(removed, fileChange{oldPath: p, old: e})
		}
	}
	byPath := func(a, b fileChange) int { return strings.Compare(a.path(), b.path()) }
	slices.SortFunc(added, byPath)
	slices.SortFunc(removed, byPath)
	for _, a := range added {
		best, score := -1, minSimilarity-1
		for i, r := range removed {
			if s := o.similarity(r.old.blob, a.new.blob); s > score {
				best, score = i, s
			}
		}
		if best < 0 {
			out = append(out, a)
			continue
		}
		r := removed[best]
		removed = slices.Delete(removed, best, best+1)
		out = append(out, fileChange{r.oldPath, a.newPath, r.old, a.new, score})
	}
	out = append(out, removed...)
	slices.SortFunc(out, byPath)
	return out
}

// similarity is the share of bytes, in percent, that two texts have in common line by line.
func (o *objects) similarity(a, b string) int {
	if a == b {
		return 100
	}
	x, y := o.blobs[a], o.blobs[b]
	if len(x) == 0 || len(y) == 0 || isBinary(x) || isBinary(y) {
		return 0
	}
	left := map[string]int{}
	for _, l := range splitLines(x) {
		left[l]++
	}
	kept := 0
	for _, l := range splitLines(y) {
		if left[l] > 0 {
			left[l]--
			kept += len(l)
		}
	}
	return min(99, kept*100/max(len(x), len(y)))
}

// lineCounts returns the lines added and removed; a binary file has none.
func (o *objects) lineCounts(f fileChange) (added, removed int) {
	x, y := o.blobs[f.old.blob], o.blobs[f.new.blob]
	if isBinary(x) || isBinary(y) {
		return 0, 0
	}
	for _, c := range compareLines(splitLines(x), splitLines(y)) {
		added += c.bHi - c.bLo
		removed += c.aHi - c.aLo
	}
	return added, removed
}

// writeDiff writes the changes as git does, with the given number of context lines.
func (o *objects) writeDiff(out *strings.Builder, changes []fileChange, context int) {
	for _, f := range changes {
		o.writeFileDiff(out, f, context)
	}
}

func (o *objects) writeFileDiff(out *strings.Builder, f fileChange, context int) {
	a, b := f.oldPath, f.newPath
	if a == "" {
		a = b
	}
	if b == "" {
		b = a
	}
	fmt.Fprintf(out, "diff --git %s %s\n", quotePath("a/"+a), quotePath("b/"+b))
	const none = "0000000"
	oldName, newName := none, none
	if f.oldPath != "" {
		oldName = f.old.blob[:7]
	}
	if f.newPath != "" {
		newName = f.new.blob[:7]
	}
	mode := ""
	switch {
	case f.oldPath == "":
		fmt.Fprintf(out, "new file mode %s\n", f.new.mode)
	case f.newPath == "":
		fmt.Fprintf(out, "deleted file mode %s\n", f.old.mode)
	case f.old.mode != f.new.mode:
		fmt.Fprintf(out, "old mode %s\nnew mode %s\n", f.old.mode, f.new.mode)
	default:
		mode = " " + f.old.mode
	}
	if f.status() == "renamed" {
		fmt.Fprintf(out, "similarity index %d%%\nrename from %s\nrename to %s\n", f.similarity,
			quotePath(f.oldPath), quotePath(f.newPath))
	}
	if f.old.blob == f.new.blob {
		return
	}
	fmt.Fprintf(out, "index %s..%s%s\n", oldName, newName, mode)
	from, to := "/dev/null", "/dev/null"
	if f.oldPath != "" {
		from = quotePath("a/" + f.oldPath)
	}
	if f.newPath != "" {
		to = quotePath("b/" + f.newPath)
	}
	x, y := o.blobs[f.old.blob], o.blobs[f.new.blob]
	if isBinary(x) || isBinary(y) {
		fmt.Fprintf(out, "Binary files %s and %s differ\n", from, to)
		return
	}
	old, changed := splitLines(x), splitLines(y)
	changes := compareLines(old, changed)
	if len(changes) == 0 {
		return
	}
	// git marks the end of a file name that holds a blank with a tab.
	mark := func(name string) string {
		if strings.Contains(name, " ") && !strings.HasPrefix(name, `"`) {
			return name + "\t"
		}
		return name
	}
	fmt.Fprintf(out, "--- %s\n+++ %s\n", mark(from), mark(to))
	for len(changes) > 0 {
		n := 1
		for n < len(changes) && changes[n].aLo-changes[n-1].aHi <= 2*context {
			n++
		}
		writeHunk(out, old, changed, changes[:n], context)
		changes = changes[n:]
	}
}

func writeHunk(out *strings.Builder, a, b []string, changes []change, context int) {
	first, last := changes[0], changes[len(changes)-1]
	before := min(context, first.aLo)
	after := min(context, len(a)-last.aHi)
	aLo, aHi := first.aLo-before, last.aHi+after
	bLo, bHi := first.bLo-before, last.bHi+after
	span := func(lo, n int) string {
		switch n {
		case 0:
			return fmt.Sprintf("%d,0", lo)
		case 1:
			return fmt.Sprintf("%d", lo+1)
		default:
			return fmt.Sprintf("%d,%d", lo+1, n)
		}
	}
	fmt.Fprintf(out, "@@ -%s +%s @@\n", span(aLo, aHi-aLo), span(bLo, bHi-bLo))
	write := func(sign string, lines []string) {
		for _, l := range lines {
			out.WriteString(sign)
			out.WriteString(l)
			if !strings.HasSuffix(l, "\n") {
				out.WriteString("\n\\ No newline at end of file\n")
			}
		}
	}
	at := aLo
	for _, c := range changes {
		write(" ", a[at:c.aLo])
		write("-", a[c.aLo:c.aHi])
		write("+", b[c.bLo:c.bHi])
		at = c.aHi
	}
	write(" ", a[at:aHi])
}

// quotePath quotes a path as git does where it holds a control character, a quote, a backslash or a byte
// outside ASCII.
func quotePath(path string) string {
	escapes := map[byte]string{'\a': `\a`, '\b': `\b`, '\t': `\t`, '\n': `\n`, '\v': `\v`, '\f': `\f`, '\r': `\r`, '"': `\"`, '\\': `\\`}
	var out strings.Builder
	quoted := false
	for i := range len(path) {
		c := path[i]
		switch e, ok := escapes[c]; {
		case ok:
			out.WriteString(e)
			quoted = true
		case c < 0x20 || c >= 0x7f:
			fmt.Fprintf(&out, `\%03o`, c)
			quoted = true
		default:
			out.WriteByte(c)
		}
	}
	if !quoted {
		return path
	}
	return `"` + out.String() + `"`
}
