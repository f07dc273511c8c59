package bitbucketsim

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

func (s *Sim) listRepositories(c *call) (*answer, error) {
	w, err := s.workspace(c.r.PathValue("workspace"))
	if err != nil {
		return nil, notFound("No workspace with identifier '" + c.r.PathValue("workspace") + "'.")
	}
	least := map[string]string{
		"": PermissionRead, "member": PermissionRead, "contributor": PermissionWrite, "admin": PermissionAdmin,
		"owner": PermissionAdmin,
	}
	wanted, ok := least[c.query.Get("role")]
	if !ok {
		return nil, badRequest("Invalid role: " + c.query.Get("role"))
	}
	var items []object
	for _, r := range w.repositories {
		if r.may(c.person, wanted) {
			items = append(items, s.renderRepositoryObject(r))
		}
	}
	return s.list(c, standardListing, items)
}

func (s *Sim) renderRepositoryObject(r *repository) object {
	o, _ := s.renderRepository(r, shapeSelf).(object)
	return o
}

func (s *Sim) getRepository(c *call) (*answer, error) {
	r, err := s.callRepository(c, PermissionRead)
	if err != nil {
		return nil, err
	}
	return &answer{body: s.renderRepository(r, shapeSelf)}, nil
}

func (s *Sim) listBranches(c *call) (*answer, error) {
	r, err := s.callRepository(c, PermissionRead)
	if err != nil {
		return nil, err
	}
	var items []object
	for _, name := range r.sortedBranches() {
		items = append(items, s.renderBranch(r, name, r.branches[name]))
	}
	return s.list(c, standardListing, items)
}

func (s *Sim) callBranch(c *call, least string) (*repository, string, error) {
	r, err := s.callRepository(c, least)
	if err != nil {
		return nil, "", err
	}
	name := c.r.PathValue("name")
	if r.branches[name] == "" {
		return nil, "", &apiError{
			status: http.StatusNotFound, message: fmt.Sprintf("Branch \"%s\" does not exist", name),
			detail: "The branch does not exist in " + r.fullName() + ".",
		}
	}
	return r, name, nil
}

func (s *Sim) getBranch(c *call) (*answer, error) {
	r, name, err := s.callBranch(c, PermissionRead)
	if err != nil {
		return nil, err
	}
	return &answer{body: s.renderBranch(r, name, r.branches[name])}, nil
}

func (s *Sim) deleteBranch(c *call) (*answer, error) {
	r, name, err := s.callBranch(c, PermissionWrite)
	if err != nil {
		return nil, err
	}
	if name == r.mainBranch {
		return nil, badRequest("The main branch can't be deleted.")
	}
	for _, b := range r.restrictionsOn(name) {
		if b.kind == "delete" {
			return nil, forbidden("Deleting " + name + " is restricted.")
		}
	}
	s.moveBranch(r, c.person, name, "")
	return &answer{status: http.StatusNoContent}, nil
}

func (s *Sim) getCommit(c *call) (*answer, error) {
	r, err := s.callRepository(c, PermissionRead)
	if err != nil {
		return nil, err
	}
	found, err := s.callCommit(c, r)
	if err != nil {
		return nil, err
	}
	o := s.renderCommit(r, found)
	o["participants"] = []any{}
	return &answer{body: o}, nil
}

var commitListing = listing{pagelen: 30, most: 100, opaque: true}

func (s *Sim) listCommits(c *call) (*answer, error) {
	r, err := s.callRepository(c, PermissionRead)
	if err != nil {
		return nil, err
	}
	include := c.query["include"]
	if rev := c.r.PathValue("revision"); rev != "" {
		include = append(include, rev)
	}
	if len(include) == 0 {
		include = r.sortedBranches()
	}
	var exclude []string
	for _, rev := range c.query["exclude"] {
		x, err := s.resolve(r, rev)
		if err != nil {
			return nil, notFound("Commit not found: " + rev)
		}
		exclude = append(exclude, x.hash)
	}
	var commits []*commit
	for _, rev := range include {
		x, err := s.resolve(r, rev)
		if err != nil {
			return nil, notFound("Commit not found: " + rev)
		}
		for _, y := range r.objects.log(x.hash, exclude...) {
			if !slices.Contains(commits, y) {
				commits = append(commits, y)
			}
		}
	}
	return s.list(c, commitListing, s.commitItems(r, commits))
}

func (s *Sim) commitItems(r *repository, commits []*commit) []object {
	var items []object
	for _, x := range commits {
		items = append(items, s.renderCommit(r, x))
	}
	return items
}

// getSource returns the raw content of a file.
func (s *Sim) getSource(c *call) (*answer, error) {
	r, err := s.callRepository(c, PermissionRead)
	if err != nil {
		return nil, err
	}
	found, err := s.callCommit(c, r)
	if err != nil {
		return nil, err
	}
	e, ok := found.files[c.r.PathValue("path")]
	if !ok {
		return nil, notFound("No such file or directory: " + c.r.PathValue("path"))
	}
	return &answer{text: string(r.objects.blobs[e.blob])}, nil
}

// comparison is what a spec of the diff resources names: the commits on either side.
type comparison struct {
	repository *repository
	from, to   *commit // from may be nil: against nothing
}

// parseSpec understands "<commit>", "<source>..<destination>" and the form that pull requests link to,
// "<workspace>/<repository>:<source>\r<destination>". As Bitbucket documents it, the first commit holds the
// changes. With topic, they are compared with the merge base of the two.
func (s *Sim) parseSpec(c *call, r *repository) (*comparison, error) {
	spec := c.r.PathValue("spec")
	source := r
	if name, rest, ok := strings.Cut(spec, ":"); ok {
		other, err := s.repositoryByName(name)
		if err != nil || !other.may(c.person, PermissionRead) {
			return nil, notFound("Repository " + name + " not found")
		}
		source, spec = other, rest
	}
	first, second, two := strings.Cut(spec, "\r")
	if !two {
		first, second, two = strings.Cut(spec, "..")
	}
	find := func(r *repository, rev string) (*commit, error) {
		x, err := s.resolve(r, rev)
		if err != nil {
			return nil, notFound("Commit not found: " + rev)
		}
		return x, nil
	}
	to, err := find(source, first)
	if err != nil {
		return nil, err
	}
	if !two {
		var from *commit
		if len(to.parents) > 0 {
			from = r.objects.commits[to.parents[0]]
		}
		return &comparison{r, from, to}, nil
	}
	from, err := find(r, second)
	if err != nil {
		return nil, err
	}
	// topic is true unless it is switched off, says the documentation.
	if topic, err := strconv.ParseBool(c.query.Get("topic")); err != nil || topic {
		from = r.objects.mergeBase(to.hash, from.hash)
	}
	return &comparison{r, from, to}, nil
}

func (x *comparison) changes(paths []string) []fileChange {
	var from snapshot
	if x.from != nil {
		from = x.from.files
	}
	all := x.repository.objects.compareSnapshots(from, x.to.files)
	if len(paths) == 0 {
		return all
	}
	return slices.DeleteFunc(all, func(f fileChange) bool {
		return !slices.ContainsFunc(paths, func(p string) bool {
			return f.oldPath == p || f.newPath == p || strings.HasPrefix(f.path(), strings.TrimSuffix(p, "/")+"/")
		})
	})
}

func (s *Sim) getDiff(c *call) (*answer, error) {
	r, err := s.callRepository(c, PermissionRead)
	if err != nil {
		return nil, err
	}
	x, err := s.parseSpec(c, r)
	if err != nil {
		return nil, err
	}
	context := 3
	if given := c.query.Get("context"); given != "" {
		if context, err = strconv.Atoi(given); err != nil || context < 0 {
			return nil, badRequest("Invalid context")
		}
	}
	changes := x.changes(c.query["path"])
	if include, err := strconv.ParseBool(c.query.Get("binary")); err == nil && !include {
		changes = slices.DeleteFunc(changes, func(f fileChange) bool {
			return isBinary(r.objects.blobs[f.old.blob]) || isBinary(r.objects.blobs[f.new.blob])
		})
	}
	var out strings.Builder
	r.objects.writeDiff(&out, changes, context)
	return &answer{text: out.String()}, nil
}

func (s *Sim) getDiffstat(c *call) (*answer, error) {
	r, err := s.callRepository(c, PermissionRead)
	if err != nil {
		return nil, err
	}
	x, err := s.parseSpec(c, r)
	if err != nil {
		return nil, err
	}
	var items []object
	for _, f := range x.changes(c.query["path"]) {
		added, removed := r.objects.lineCounts(f)
		side := func(path string, at *commit) any {
			if path == "" {
				return nil
			}
			return object{
				"type": "commit_file", "path": path, "escaped_path": strings.ReplaceAll(url.PathEscape(path), "%2F", "/"),
				"links": object{"self": link(s.repositoryAPI(r) + "/src/" + at.hash + "/" + strings.ReplaceAll(url.PathEscape(path), "%2F", "/"))},
			}
		}
		items = append(items, object{
			"type": "diffstat", "status": f.status(), "lines_added": added, "lines_removed": removed,
			"old": side(f.oldPath, x.from), "new": side(f.newPath, x.to),
		})
	}
	return s.list(c, listing{pagelen: 500, most: 5000}, items)
}

func (s *Sim) getMergeBase(c *call) (*answer, error) {
	r, err := s.callRepository(c, PermissionRead)
	if err != nil {
		return nil, err
	}
	first, second, two := strings.Cut(c.r.PathValue("spec"), "..")
	if !two {
		return nil, badRequest("The spec must name two commits.")
	}
	a, err := s.resolve(r, first)
	if err != nil {
		return nil, notFound("Commit not found: " + first)
	}
	b, err := s.resolve(r, second)
	if err != nil {
		return nil, notFound("Commit not found: " + second)
	}
	base := r.objects.mergeBase(a.hash, b.hash)
	if base == nil {
		return nil, notFound("The commits have no common ancestor.")
	}
	return &answer{body: s.renderCommit(r, base)}, nil
}
