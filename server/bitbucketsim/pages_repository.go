package bitbucketsim

import (
	"net/http"
	"slices"
	"strings"
)

type repositoryLine struct{ FullName, Description, Permission string }

type repositoriesView struct {
	Person       *person
	Repositories []repositoryLine
	Workspaces   []menuLink
}

func (s *Sim) pageRepositories(v *visitor) error {
	view := repositoriesView{Person: v.person}
	for _, w := range s.workspaces {
		if w.members[v.person] != "" {
			view.Workspaces = append(view.Workspaces, menuLink{w.name, "/" + w.slug + "/workspace"})
		}
		for _, r := range w.repositories {
			if level := r.permission(v.person); level != "" {
				view.Repositories = append(view.Repositories, repositoryLine{r.fullName(), r.description, level})
			}
		}
	}
	s.render(v.w, http.StatusOK, "repositories.html", view, "")
	return nil
}

func (s *Sim) visibleRepository(v *visitor) (*repository, error) {
	r, err := s.repository(v.r.PathValue("workspace"), v.r.PathValue("repository"))
	if err != nil || !r.may(v.person, PermissionRead) {
		return nil, notFound("There is no such repository, or you may not see it.")
	}
	return r, nil
}

type branchLine struct {
	Name, Hash, Message string
	Main                bool
}

type pullRequestLine struct {
	ID                                int
	Title, State, Author, From, To    string
	Draft                             bool
	Approvals, Successful, Unfinished int
}

type repositoryView struct {
	Person        *person
	FullName      string
	Apps          []menuLink
	Administrator bool
	Branches      []branchLine
	PullRequests  []pullRequestLine
	MayOpen       bool
}

func (s *Sim) pageRepository(v *visitor) error {
	r, err := s.visibleRepository(v)
	if err != nil {
		return err
	}
	view := repositoryView{
		Person: v.person, FullName: r.fullName(), MayOpen: r.may(v.person, PermissionWrite),
		Administrator: r.may(v.person, PermissionAdmin),
		Apps:          s.moduleLinks(r.workspace, moduleRepositoryPage, "/"+r.fullName()),
	}
	for _, name := range r.sortedBranches() {
		c := r.objects.commits[r.branches[name]]
		first, _, _ := strings.Cut(c.message, "\n")
		view.Branches = append(view.Branches, branchLine{name, c.hash, first, name == r.mainBranch})
	}
	for _, pr := range slices.Backward(r.pullRequests) {
		good, bad, running := s.buildCounts(pr)
		view.PullRequests = append(view.PullRequests, pullRequestLine{
			pr.id, pr.title, pr.state, pr.author.displayName, pr.sourceBranch, pr.destBranch, pr.draft,
			pr.count("approved"), good, bad + running,
		})
	}
	s.render(v.w, http.StatusOK, "repository.html", view, "")
	return nil
}
