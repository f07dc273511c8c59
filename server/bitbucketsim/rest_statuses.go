package bitbucketsim

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// commitStatus is one build status. Commit, key and refname identify it.
type commitStatus struct {
	uuid, key, refname, state, name, url, description string
	repository                                        *repository
	commit                                            string // full hash
	author                                            *person
	created, updated                                  time.Time
}

// maxStatusKey is the number of characters that the key of a status may have.
const maxStatusKey = 40

type statusInput struct {
	Key         *string `json:"key"`
	State       *string `json:"state"`
	Name        *string `json:"name"`
	URL         *string `json:"url"`
	Description *string `json:"description"`
	Refname     *string `json:"refname"`
}

func (in *statusInput) check(needed bool) error {
	fields := object{}
	require := func(name string, v *string) {
		if needed && (v == nil || *v == "") {
			fields[name] = []any{"This field is required."}
		}
	}
	require("key", in.Key)
	require("state", in.State)
	if in.Key != nil {
		if n := utf8.RuneCountInString(*in.Key); n > maxStatusKey {
			fields["key"] = []any{fmt.Sprintf("Ensure this value has at most %d characters (it has %d).", maxStatusKey, n)}
		}
	}
	if in.State != nil && !slices.Contains([]string{"SUCCESSFUL", "FAILED", "INPROGRESS", "STOPPED"}, *in.State) {
		fields["state"] = []any{"Select a valid choice. " + *in.State + " is not one of the available choices."}
	}
	if in.URL != nil && *in.URL != "" && !strings.Contains(*in.URL, "://") {
		fields["url"] = []any{"Enter a valid URL."}
	}
	if len(fields) > 0 {
		return &apiError{status: http.StatusBadRequest, message: "Bad request", fields: fields, bare: true}
	}
	return nil
}

func (s *Sim) callStatusTarget(c *call) (*repository, *commit, error) {
	r, err := s.callRepository(c, PermissionRead)
	if err != nil {
		return nil, nil, err
	}
	found, err := s.callCommit(c, r)
	return r, found, err
}

// findStatus finds a status by key. Where refname is nil, the one that was written last is meant.
func (r *repository) findStatus(commit, key string, refname *string) *commitStatus {
	var found *commitStatus
	for _, st := range r.statuses {
		if st.commit == commit && st.key == key && (refname == nil || st.refname == *refname) {
			if found == nil || st.updated.After(found.updated) {
				found = st
			}
		}
	}
	return found
}

func (s *Sim) listCommitStatuses(c *call) (*answer, error) {
	r, found, err := s.callStatusTarget(c)
	if err != nil {
		return nil, err
	}
	var items []object
	for _, st := range r.statuses {
		if st.commit == found.hash && (!c.query.Has("refname") || c.query.Get("refname") == st.refname) {
			items = append(items, s.renderStatus(st))
		}
	}
	return s.list(c, standardListing, items)
}

func (s *Sim) getStatus(c *call) (*answer, error) {
	r, found, err := s.callStatusTarget(c)
	if err != nil {
		return nil, err
	}
	st := r.findStatus(found.hash, c.r.PathValue("key"), nil)
	if st == nil {
		return nil, notFound("There is no build status with the key " + c.r.PathValue("key") + " on this commit.")
	}
	return &answer{body: s.renderStatus(st)}, nil
}

// createStatus makes a status or overwrites the one with the same key and refname.
func (s *Sim) createStatus(c *call) (*answer, error) {
	r, found, err := s.callStatusTarget(c)
	if err != nil {
		return nil, err
	}
	var in statusInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if err := in.check(true); err != nil {
		return nil, err
	}
	refname := ""
	if in.Refname != nil {
		refname = *in.Refname
	}
	st := r.findStatus(found.hash, *in.Key, &refname)
	if st == nil {
		st = &commitStatus{
			uuid: newUUID(), key: *in.Key, refname: refname, repository: r, commit: found.hash, author: c.person,
			created: s.now(),
		}
		r.statuses = append(r.statuses, st)
		s.writeStatus(st, &in, c.person, "repo:commit_status_created")
		s.didStatus(c, st)
		return &answer{status: http.StatusCreated, body: s.renderStatus(st)}, nil
	}
	if err := mayOverwrite(st, c.person); err != nil {
		return nil, err
	}
	s.writeStatus(st, &in, c.person, "repo:commit_status_updated")
	s.didStatus(c, st)
	return &answer{status: http.StatusCreated, body: s.renderStatus(st)}, nil
}

func (s *Sim) updateStatus(c *call) (*answer, error) {
	r, found, err := s.callStatusTarget(c)
	if err != nil {
		return nil, err
	}
	var in statusInput
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if err := in.check(false); err != nil {
		return nil, err
	}
	st := r.findStatus(found.hash, c.r.PathValue("key"), in.Refname)
	if st == nil {
		return nil, notFound("There is no build status with the key " + c.r.PathValue("key") + " on this commit.")
	}
	if err := mayOverwrite(st, c.person); err != nil {
		return nil, err
	}
	s.writeStatus(st, &in, c.person, "repo:commit_status_updated")
	s.didStatus(c, st)
	return &answer{body: s.renderStatus(st)}, nil
}

// mayOverwrite lets the creator of a status change it, and people who administer the repository. A Forge app is
// no such person, whatever its scopes.
func mayOverwrite(st *commitStatus, p *person) error {
	if st.author == p || (p.appKind == "" && st.repository.may(p, PermissionAdmin)) {
		return nil
	}
	return forbidden("You do not have permission to update this build status. Only its author or a repository admin may.")
}

func (s *Sim) writeStatus(st *commitStatus, in *statusInput, actor *person, event string) {
	set := func(to, from *string) {
		if from != nil {
			*to = *from
		}
	}
	set(&st.state, in.State)
	set(&st.name, in.Name)
	set(&st.url, in.URL)
	set(&st.description, in.Description)
	st.updated = s.now()
	body := s.renderStatus(st)
	// Events show the whole commit, the API only its name.
	body["commit"] = s.renderCommit(st.repository, st.repository.objects.commits[st.commit])
	s.emit(st.repository, event, actor, object{"commit_status": body})
	s.emitBuildStatus(st, event == "repo:commit_status_created", actor)
}

func (s *Sim) listPullRequestStatuses(c *call) (*answer, error) {
	pr, err := s.callPullRequest(c)
	if err != nil {
		return nil, err
	}
	var items []object
	for _, st := range s.statusesOf(pr) {
		items = append(items, s.renderStatus(st))
	}
	return s.list(c, standardListing, items)
}
