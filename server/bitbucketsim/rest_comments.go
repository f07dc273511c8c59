package bitbucketsim

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

func (s *Sim) listComments(c *call) (*answer, error) {
	pr, err := s.callPullRequest(c, PermissionRead)
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
	pr, err := s.callPullRequest(c, PermissionRead)
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
	pr, err := s.callPullRequest(c, PermissionRead)
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
	s.emitPullRequest(pr, "pullrequest:comment_created", c.person, object{"comment": s.renderComment(pr, x)})
	return &answer{
		status: http.StatusCreated, body: s.renderComment(pr, x),
		location: fmt.Sprintf("%s/pullrequests/%d/comments/%d", s.repositoryAPI(pr.repository), pr.id, x.id),
	}, nil
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
	s.emitPullRequest(pr, "pullrequest:comment_updated", c.person, object{"comment": s.renderComment(pr, x)})
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
		s.emitPullRequest(pr, "pullrequest:comment_deleted", c.person, object{"comment": s.renderComment(pr, x)})
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
	s.emitPullRequest(pr, "pullrequest:comment_resolved", c.person, object{"comment": s.renderComment(pr, x)})
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
	s.emitPullRequest(pr, "pullrequest:comment_reopened", c.person, object{"comment": s.renderComment(pr, x)})
	return &answer{status: http.StatusNoContent}, nil
}
