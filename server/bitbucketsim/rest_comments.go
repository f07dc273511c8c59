package bitbucketsim

import (
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
)

func (s *Sim) listComments(c *call) (*answer, error) {
	pr, err := s.callPullRequest(c)
	if err != nil {
		return nil, err
	}
	var items []object
	for _, x := range pr.comments {
		items = append(items, s.renderComment(pr, x))
	}
	return s.list(c, standardListing, items)
}

func (s *Sim) callComment(c *call) (*pullRequest, *comment, error) {
	pr, err := s.callPullRequest(c)
	if err != nil {
		return nil, nil, err
	}
	id, err := strconv.Atoi(c.r.PathValue("comment"))
	if err == nil {
		for _, x := range pr.comments {
			if x.id == id {
				return pr, x, nil
			}
		}
	}
	return nil, nil, notFound("There is no such comment.")
}

type commentInput struct {
	Content *struct {
		Raw string `json:"raw"`
	} `json:"content"`
	Inline object `json:"inline"`
	Parent *struct {
		ID int `json:"id"`
	} `json:"parent"`
}

func (in *commentInput) raw() (string, error) {
	if in.Content == nil || strings.TrimSpace(in.Content.Raw) == "" {
		return "", fieldError("content", "This field is required.")
	}
	return in.Content.Raw, nil
}

func (s *Sim) createComment(c *call) (*answer, error) {
	pr, err := s.callPullRequest(c)
	if err != nil {
		return nil, err
	}
	var in commentInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	raw, err := in.raw()
	if err != nil {
		return nil, err
	}
	x := &comment{id: 100000 + s.id(), author: c.person, raw: raw, inline: in.Inline, created: s.now(), updated: s.now()}
	if in.Parent != nil {
		for _, y := range pr.comments {
			if y.id == in.Parent.ID {
				x.parent = y
			}
		}
		if x.parent == nil {
			return nil, fieldError("parent", "There is no such comment.")
		}
	}
	pr.comments = append(pr.comments, x)
	who := pr.participant(c.person)
	if who.state == "" {
		who.at = x.created
	}
	pr.updated = x.created
	s.emitComment(pr, "pullrequest:comment_created", c.person, x)
	return &answer{
		status: http.StatusCreated, body: s.renderComment(pr, x),
		location: fmt.Sprintf("%s/pullrequests/%d/comments/%d", s.repositoryAPI(pr.repository), pr.id, x.id),
	}, nil
}

// emitComment sends an event about a comment. Events tell more than the API about where an inline comment is.
func (s *Sim) emitComment(pr *pullRequest, event string, actor *person, x *comment) {
	body := s.renderComment(pr, x)
	if x.inline != nil {
		inline := maps.Clone(x.inline)
		path, _ := inline["path"].(string)
		inline["context_lines"], inline["outdated"] = s.contextLines(pr, path), false
		for _, side := range []string{"from", "to"} {
			if _, ok := inline[side]; !ok {
				inline[side] = nil
			}
		}
		body["inline"] = inline
	}
	s.emitPullRequest(pr, event, actor, object{"comment": body})
}

// contextLines is the part of the diff that an inline comment stands in.
func (s *Sim) contextLines(pr *pullRequest, path string) string {
	base := pr.base()
	if base == nil {
		return ""
	}
	changes := (&comparison{pr.repository, base, pr.repository.objects.commits[pr.head]}).changes([]string{path})
	var out strings.Builder
	pr.repository.objects.writeDiff(&out, changes, 3)
	if _, hunks, ok := strings.Cut(out.String(), "\n--- "); ok {
		return "--- " + hunks
	}
	return ""
}

func (s *Sim) getComment(c *call) (*answer, error) {
	pr, x, err := s.callComment(c)
	if err != nil {
		return nil, err
	}
	return &answer{body: s.renderComment(pr, x)}, nil
}

func (s *Sim) updateComment(c *call) (*answer, error) {
	pr, x, err := s.callComment(c)
	if err != nil {
		return nil, err
	}
	if x.author != c.person {
		return nil, forbidden("Only the author may change a comment.")
	}
	var in commentInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if x.raw, err = in.raw(); err != nil {
		return nil, err
	}
	x.updated = s.now()
	s.emitComment(pr, "pullrequest:comment_updated", c.person, x)
	return &answer{body: s.renderComment(pr, x)}, nil
}

func (s *Sim) deleteComment(c *call) (*answer, error) {
	pr, x, err := s.callComment(c)
	if err != nil {
		return nil, err
	}
	if x.author != c.person && !pr.repository.may(c.person, PermissionAdmin) {
		return nil, forbidden("Only the author or an administrator may delete a comment.")
	}
	if !x.deleted {
		x.deleted, x.raw, x.updated = true, "", s.now()
		s.emitComment(pr, "pullrequest:comment_deleted", c.person, x)
	}
	return &answer{status: http.StatusNoContent}, nil
}

func (s *Sim) resolveComment(c *call) (*answer, error) {
	pr, x, err := s.callComment(c)
	if err != nil {
		return nil, err
	}
	if x.resolvedBy != nil {
		return nil, &apiError{status: http.StatusConflict, message: "The comment thread is resolved already."}
	}
	x.resolvedBy, x.resolved = c.person, s.now()
	s.emitComment(pr, "pullrequest:comment_resolved", c.person, x)
	return &answer{body: s.renderResolution(x)}, nil
}

func (s *Sim) reopenComment(c *call) (*answer, error) {
	pr, x, err := s.callComment(c)
	if err != nil {
		return nil, err
	}
	if x.resolvedBy == nil {
		return nil, notFound("The comment thread is not resolved.")
	}
	x.resolvedBy = nil
	s.emitComment(pr, "pullrequest:comment_reopened", c.person, x)
	return &answer{status: http.StatusNoContent}, nil
}
