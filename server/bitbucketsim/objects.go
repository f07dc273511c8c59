package bitbucketsim

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // git's object names are SHA-1; nothing is protected by them here.
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Modes of a tree entry, as git writes them.
const (
	modeFile       = "100644"
	modeExecutable = "100755"
	modeTree       = "40000"
)

// entry is one file of a snapshot.
type entry struct {
	mode string
	blob string // object name of the content
}

// snapshot is a whole tree, by slash-separated path. It is never changed once a commit holds it.
type snapshot map[string]entry

// signature names who made a commit, and when.
type signature struct {
	name, email string
	when        time.Time
}

func (g signature) String() string { return g.name + " <" + g.email + ">" }

// commit is one git commit. It is immutable.
type commit struct {
	hash    string // 40 hexadecimal digits
	files   snapshot
	parents []string
	author  signature
	message string
}

// objects is an object database, shared by a repository and its forks. The Sim's lock guards it.
type objects struct {
	blobs   map[string][]byte
	commits map[string]*commit
}

func newObjects() *objects {
	return &objects{blobs: map[string][]byte{}, commits: map[string]*commit{}}
}

func objectName(kind string, content []byte) string {
	h := sha1.New() //nolint:gosec // see the import.
	fmt.Fprintf(h, "%s %d\x00", kind, len(content))
	h.Write(content)
	return hex.EncodeToString(h.Sum(nil))
}

func (o *objects) putBlob(content []byte) string {
	name := objectName("blob", content)
	if _, ok := o.blobs[name]; !ok {
		o.blobs[name] = bytes.Clone(content)
	}
	return name
}

// treeName computes the object name of the tree that holds files.
func treeName(files snapshot) string {
	type child struct{ mode, name, object string }
	var children []child
	below := map[string]snapshot{}
	for path, e := range files {
		dir, rest, nested := strings.Cut(path, "/")
		if !nested {
			children = append(children, child{e.mode, path, e.blob})
			continue
		}
		if below[dir] == nil {
			below[dir] = snapshot{}
		}
		below[dir][rest] = e
	}
	for dir, sub := range below {
		children = append(children, child{modeTree, dir, treeName(sub)})
	}
	// git sorts a directory as if its name ended in a slash.
	sortKey := func(c child) string {
		if c.mode == modeTree {
			return c.name + "/"
		}
		return c.name
	}
	slices.SortFunc(children, func(a, b child) int { return strings.Compare(sortKey(a), sortKey(b)) })
	var body bytes.Buffer
	for _, c := range children {
		raw, err := hex.DecodeString(c.object)
		if err != nil {
			panic("bitbucketsim: object name is not hexadecimal: " + c.object)
		}
		fmt.Fprintf(&body, "%s %s\x00", c.mode, c.name)
		body.Write(raw)
	}
	return objectName("tree", body.Bytes())
}

// putCommit stores a commit and returns it. Times are cut to the second, as git keeps them.
func (o *objects) putCommit(files snapshot, parents []string, author signature, message string) *commit {
	author.when = author.when.UTC().Truncate(time.Second)
	if !strings.HasSuffix(message, "\n") {
		message += "\n"
	}
	var body strings.Builder
	fmt.Fprintf(&body, "tree %s\n", treeName(files))
	for _, p := range parents {
		fmt.Fprintf(&body, "parent %s\n", p)
	}
	stamp := fmt.Sprintf("%s %d +0000", author, author.when.Unix())
	fmt.Fprintf(&body, "author %s\ncommitter %s\n\n%s", stamp, stamp, message)
	c := &commit{
		hash: objectName("commit", []byte(body.String())), files: files, parents: slices.Clone(parents),
		author: author, message: message,
	}
	o.commits[c.hash] = c
	return c
}

// ancestors returns tip and everything reachable from it.
func (o *objects) ancestors(tip string) map[string]bool {
	seen := map[string]bool{}
	next := []string{tip}
	for len(next) > 0 {
		h := next[len(next)-1]
		next = next[:len(next)-1]
		if seen[h] || o.commits[h] == nil {
			continue
		}
		seen[h] = true
		next = append(next, o.commits[h].parents...)
	}
	return seen
}

// isAncestor tells whether old is tip or reachable from it.
func (o *objects) isAncestor(old, tip string) bool { return o.ancestors(tip)[old] }

// mergeBase returns the best common ancestor of a and b, or nil where their histories are unrelated. Where
// there are several, the newest is taken, so that the answer is stable.
func (o *objects) mergeBase(a, b string) *commit {
	ofA, ofB := o.ancestors(a), o.ancestors(b)
	var common []*commit
	for h := range ofA {
		if ofB[h] {
			common = append(common, o.commits[h])
		}
	}
	// Whatever is reachable from a common ancestor is one as well, so that all but the best are parents of one.
	behind := map[string]bool{}
	for _, c := range common {
		for _, p := range c.parents {
			behind[p] = true
		}
	}
	common = slices.DeleteFunc(common, func(c *commit) bool { return behind[c.hash] })
	if len(common) == 0 {
		return nil
	}
	slices.SortFunc(common, newestFirst)
	return common[0]
}

// log lists what is reachable from include and from none of exclude: children before their parents, newest
// first where both orders are possible.
func (o *objects) log(include string, exclude ...string) []*commit {
	wanted := o.ancestors(include)
	for _, e := range exclude {
		for h := range o.ancestors(e) {
			delete(wanted, h)
		}
	}
	children := map[string]int{}
	for h := range wanted {
		for _, p := range o.commits[h].parents {
			if wanted[p] {
				children[p]++
			}
		}
	}
	var ready, out []*commit
	for h := range wanted {
		if children[h] == 0 {
			ready = append(ready, o.commits[h])
		}
	}
	for len(ready) > 0 {
		slices.SortFunc(ready, newestFirst)
		c := ready[0]
		ready = ready[1:]
		out = append(out, c)
		for _, p := range c.parents {
			if !wanted[p] {
				continue
			}
			if children[p]--; children[p] == 0 {
				ready = append(ready, o.commits[p])
			}
		}
	}
	return out
}

func newestFirst(a, b *commit) int {
	if n := b.author.when.Compare(a.author.when); n != 0 {
		return n
	}
	return strings.Compare(a.hash, b.hash)
}

// errConflict is returned where two sides changed the same lines.
var errConflict = errors.New("merge conflict")

// mergeSnapshots merges theirs into ours given their common base, file by file and within a file line by
// line. It returns errConflict where a person would have to decide.
func (o *objects) mergeSnapshots(base, ours, theirs snapshot) (snapshot, error) {
	paths := map[string]bool{}
	for _, s := range []snapshot{base, ours, theirs} {
		for p := range s {
			paths[p] = true
		}
	}
	out := snapshot{}
	for p := range paths {
		b, inBase := base[p]
		u, inOurs := ours[p]
		t, inTheirs := theirs[p]
		switch {
		case u == t && inOurs == inTheirs:
			if inOurs {
				out[p] = u
			}
		case b == u && inBase == inOurs:
			if inTheirs {
				out[p] = t
			}
		case b == t && inBase == inTheirs:
			if inOurs {
				out[p] = u
			}
		case !inBase || !inOurs || !inTheirs:
			return nil, fmt.Errorf("%w in %s", errConflict, p)
		default:
			merged, ok := mergeText(o.blobs[b.blob], o.blobs[u.blob], o.blobs[t.blob])
			if !ok {
				return nil, fmt.Errorf("%w in %s", errConflict, p)
			}
			mode := u.mode
			if mode == b.mode {
				mode = t.mode
			}
			out[p] = entry{mode, o.putBlob(merged)}
		}
	}
	return out, nil
}

// rebase repeats the commits of tip that onto does not have, one after the other, and returns the last. Merges among
// them are left out, as git leaves them out.
func (o *objects) rebase(tip, onto string) (string, error) {
	commits := o.log(tip, onto)
	slices.Reverse(commits)
	for _, c := range commits {
		if len(c.parents) != 1 {
			continue
		}
		files, err := o.mergeSnapshots(o.commits[c.parents[0]].files, o.commits[onto].files, c.files)
		if errors.Is(err, errConflict) {
			return "", badRequest("Conflicts during merge.")
		}
		if err != nil {
			return "", err
		}
		onto = o.putCommit(files, []string{onto}, c.author, c.message).hash
	}
	return onto, nil
}
