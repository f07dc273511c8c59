package bitbucketsim

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
)

// FastExport writes a repository, by its full name, as a stream for git fast-import: all branches with their history.
// The commits that git makes of it have the hashes that they have here. It stands in for a clone, for there is no git
// transport.
func (s *Sim) FastExport(repository string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.repositoryByName(repository)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	marks := map[string]int{}
	for _, branch := range slices.Sorted(maps.Keys(r.branches)) {
		ref := quotePath("refs/heads/" + branch)
		for _, c := range r.objects.oldestFirst(r.branches[branch], marks) {
			marks[c.hash] = len(marks) + 1
			stamp := fmt.Sprintf("%s %d +0000", c.author, c.author.when.Unix())
			if len(c.parents) == 0 {
				fmt.Fprintf(&out, "reset %s\n", ref)
			}
			fmt.Fprintf(&out, "commit %s\nmark :%d\nauthor %s\ncommitter %s\ndata %d\n%s\n", ref, marks[c.hash], stamp, stamp, len(c.message), c.message)
			for i, parent := range c.parents {
				fmt.Fprintf(&out, "%s :%d\n", []string{"from", "merge"}[min(i, 1)], marks[parent])
			}
			out.WriteString("deleteall\n")
			for path, e := range c.files {
				content := r.objects.blobs[e.blob]
				fmt.Fprintf(&out, "M %s inline %s\ndata %d\n%s\n", e.mode, quotePath(path), len(content), content)
			}
		}
		fmt.Fprintf(&out, "reset %s\nfrom :%d\n\n", ref, marks[r.branches[branch]])
	}
	return out.Bytes(), nil
}

// oldestFirst lists what is reachable from tip and not known yet, parents before their children.
func (o *objects) oldestFirst(tip string, known map[string]int) (list []*commit) {
	listed := map[string]bool{}
	next := []string{tip}
	for len(next) > 0 {
		hash := next[len(next)-1]
		c := o.commits[hash]
		waiting := false
		for _, parent := range c.parents {
			if known[parent] == 0 && !listed[parent] {
				next, waiting = append(next, parent), true
			}
		}
		if waiting {
			continue
		}
		next = next[:len(next)-1]
		if known[hash] == 0 && !listed[hash] {
			listed[hash] = true
			list = append(list, c)
		}
	}
	return list
}
