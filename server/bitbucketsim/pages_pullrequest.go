package bitbucketsim

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

type newPullRequestView struct {
	Person                      *person
	FullName                    string
	Branches                    []string
	Main, Source, Title, Detail string
	People                      []*person
}

func (s *Sim) pageNewPullRequest(v *visitor) error {
	r, err := s.visibleRepository(v)
	if err != nil {
		return err
	}
	view := newPullRequestView{
		Person: v.person, FullName: r.fullName(), Branches: r.sortedBranches(), Main: r.mainBranch,
		Source: v.r.URL.Query().Get("source"),
	}
	for _, p := range s.humans() {
		if p != v.person && r.may(p, PermissionRead) {
			view.People = append(view.People, p)
		}
	}
	s.render(v.w, http.StatusOK, "newpullrequest.html", view, "")
	return nil
}

func (s *Sim) postNewPullRequest(v *visitor) error {
	r, err := s.visibleRepository(v)
	if err != nil {
		return err
	}
	if !r.may(v.person, PermissionWrite) {
		return forbidden("You may not open a pull request here.")
	}
	var reviewers []*person
	for _, n := range v.r.PostForm["reviewer"] {
		p, err := s.person(n)
		if err != nil {
			return err
		}
		reviewers = append(reviewers, p)
	}
	pr, err := s.openPullRequest(r, v.person, newPullRequest{
		title: v.r.PostFormValue("title"), description: v.r.PostFormValue("description"), source: r,
		sourceBranch: v.r.PostFormValue("source"), destBranch: v.r.PostFormValue("destination"), reviewers: reviewers,
		closeSourceBranch: v.r.PostFormValue("close_source_branch") != "", draft: v.r.PostFormValue("draft") != "",
	})
	if err != nil {
		return err
	}
	http.Redirect(v.w, v.r, fmt.Sprintf("/%s/pull-requests/%d", r.fullName(), pr.id), http.StatusSeeOther)
	return nil
}

func (s *Sim) visiblePullRequest(v *visitor) (*pullRequest, error) {
	r, err := s.visibleRepository(v)
	if err != nil {
		return nil, err
	}
	id, err := strconv.Atoi(v.r.PathValue("id"))
	if err != nil {
		return nil, notFound("There is no such pull request.")
	}
	pr, err := r.pullRequest(id)
	if err != nil {
		return nil, notFound("There is no such pull request.")
	}
	return pr, nil
}

type buildLine struct{ Key, Name, State, URL, Description string }

type personLine struct{ Name, State string }

type commitLine struct{ Hash, Message, Author string }

type diffLine struct{ Class, Text string }

type pullRequestView struct {
	Person                             *person
	FullName, Title, Description       string
	ID                                 int
	State, Author                      string
	Draft                              bool
	Source, SourceRepository           string
	Destination, Head, DestinationHead string
	MergeCommit                        string
	Builds                             []buildLine
	People                             []personLine
	Commits                            []commitLine
	Checks                             []mergeCheck
	Enforced                           bool
	Custom                             []customCheckLine
	Cards, Panels                      []*frameView
	Framed                             bool
	Open                               bool
	Approved, Requested, MayWrite      bool
	MergeBlocked                       string // why not, or empty
	Strategies                         []string
	CloseSource                        bool
	Diff                               []diffLine
}

func (s *Sim) pagePullRequest(v *visitor) error {
	pr, err := s.visiblePullRequest(v)
	if err != nil {
		return err
	}
	r := pr.repository
	view := pullRequestView{
		Person: v.person, FullName: r.fullName(), Title: pr.title, Description: pr.description, ID: pr.id,
		State: pr.state, Author: pr.author.displayName, Draft: pr.draft, Source: pr.sourceBranch,
		Destination: pr.destBranch, Head: pr.head, DestinationHead: pr.destinationHead(), MergeCommit: pr.mergeCommit,
		Checks: s.mergeChecks(pr), Enforced: s.checksEnforced(pr), Open: pr.state == stateOpen,
		MayWrite: r.may(v.person, PermissionWrite), Strategies: r.strategies, CloseSource: pr.closeSourceBranch,
	}
	if pr.source != r {
		view.SourceRepository = pr.source.fullName()
		if pr.source.gone {
			view.SourceRepository = "(deleted)"
		}
	}
	for _, st := range s.statusesOf(pr) {
		view.Builds = append(view.Builds, buildLine{st.key, st.name, st.state, statusURL(st), st.description})
	}
	for _, x := range pr.participants {
		if x.person == v.person {
			view.Approved, view.Requested = x.state == "approved", x.state == "changes_requested"
		}
		view.People = append(view.People, personLine{x.person.displayName, strings.ReplaceAll(x.state, "_", " ")})
	}
	for _, c := range pr.commits() {
		first, _, _ := strings.Cut(c.message, "\n")
		view.Commits = append(view.Commits, commitLine{c.hash, first, c.author.name})
	}
	if view.Open {
		if err := s.mayMerge(pr, v.person); err != nil {
			view.MergeBlocked = err.Error()
		}
	}
	for _, r := range s.checkResults(pr) {
		view.Custom = append(view.Custom, newCustomCheckLine(r, view.Open))
	}
	view.Diff = s.pullRequestDiff(pr)
	view.Cards = s.pullRequestFrames(pr, v.person, modulePullRequestCard)
	view.Panels = s.pullRequestFrames(pr, v.person, modulePullRequestPanel)
	frames := slices.Concat(view.Cards, view.Panels)
	view.Framed = len(frames) > 0
	s.renderFramed(v.w, "pullrequest.html", view, frames)
	return nil
}

// statusURL fills in the context variables that Bitbucket evaluates where it shows a status.
func statusURL(st *commitStatus) string {
	return strings.NewReplacer(
		"{repository.full_name}", st.repository.fullName(), "{repository.uuid}", st.repository.uuid,
		"{commit.hash}", st.commit, "{commit.node}", st.commit,
	).Replace(st.url)
}

func (s *Sim) pullRequestDiff(pr *pullRequest) []diffLine {
	o := pr.repository.objects
	from := o.mergeBase(pr.head, pr.destinationHead())
	if from == nil {
		return nil
	}
	var out strings.Builder
	o.writeDiff(&out, o.compareSnapshots(from.files, o.commits[pr.head].files), 3)
	return colourDiff(out.String())
}

func colourDiff(text string) []diffLine {
	var lines []diffLine
	for l := range strings.Lines(text) {
		class := ""
		switch {
		case strings.HasPrefix(l, "diff --git"), strings.HasPrefix(l, "--- "), strings.HasPrefix(l, "+++ "):
			class = "file"
		case strings.HasPrefix(l, "@@"):
			class = "hunk"
		case strings.HasPrefix(l, "+"):
			class = "added"
		case strings.HasPrefix(l, "-"):
			class = "removed"
		}
		lines = append(lines, diffLine{class, strings.TrimSuffix(l, "\n")})
	}
	return lines
}

func (s *Sim) postAction(v *visitor) error {
	pr, err := s.visiblePullRequest(v)
	if err != nil {
		return err
	}
	switch v.r.PathValue("action") {
	case "approve":
		s.approve(pr, v.person)
	case "unapprove":
		err = s.unapprove(pr, v.person)
	case "request-changes":
		s.requestChanges(pr, v.person)
	case "withdraw-request":
		err = s.withdrawChangeRequest(pr, v.person)
	case "decline":
		err = s.decline(pr, v.person)
	case "merge":
		closeSource := v.r.PostFormValue("close_source_branch") != ""
		err = s.merge(pr, v.person, mergeSpec{strategy: v.r.PostFormValue("merge_strategy"), closeSourceBranch: &closeSource})
	case "rerun-check":
		id, convErr := strconv.Atoi(v.r.PostFormValue("check"))
		if convErr != nil {
			id = 0
		}
		err = s.rerunCheck(pr, id)
	default:
		err = notFound("There is no such action.")
	}
	if err != nil {
		return err
	}
	http.Redirect(v.w, v.r, fmt.Sprintf("/%s/pull-requests/%d", pr.repository.fullName(), pr.id), http.StatusSeeOther)
	return nil
}

type commitView struct {
	Person                          *person
	FullName, Hash, Message, Author string
	Date                            any
	Diff                            []diffLine
}

func (s *Sim) pageCommit(v *visitor) error {
	r, err := s.visibleRepository(v)
	if err != nil {
		return err
	}
	c, err := s.resolve(r, v.r.PathValue("commit"))
	if err != nil {
		return notFound("There is no such commit.")
	}
	var from snapshot
	if len(c.parents) > 0 {
		from = r.objects.commits[c.parents[0]].files
	}
	var out strings.Builder
	r.objects.writeDiff(&out, r.objects.compareSnapshots(from, c.files), 3)
	s.render(v.w, http.StatusOK, "commit.html", commitView{
		v.person, r.fullName(), c.hash, c.message, c.author.String(), stamp(c.author.when), colourDiff(out.String()),
	}, "")
	return nil
}
