package bitbucketsim

import (
	"fmt"
	"html"
	"net/url"
	"strings"
	"time"
)

// object is a JSON object.
type object = map[string]any

// shape says for whom an object is rendered: Bitbucket shows more or less of it by place.
type shape int

const (
	shapeEmbedded shape = iota // inside another object
	shapeList                  // an item of a list
	shapeSelf                  // the resource's own URL
	shapeWebhook
)

// shortHash is how many digits of a commit hash Bitbucket writes inside pull requests.
const shortHash = 12

func stamp(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000+00:00")
}

func commitStamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05+00:00") }

func link(href string) object { return object{"href": href} }

func (s *Sim) api(format string, args ...any) string {
	return s.baseURL + "/2.0" + fmt.Sprintf(format, args...)
}

func (s *Sim) page(format string, args ...any) string {
	return s.baseURL + fmt.Sprintf(format, args...)
}

func (s *Sim) htmlURL(pr *pullRequest) string {
	return s.page("/%s/pull-requests/%d", pr.repository.fullName(), pr.id)
}

func escaped(uuid string) string { return url.PathEscape(uuid) }

func rendered(raw string) object {
	body := ""
	if text := strings.TrimSpace(raw); text != "" {
		body = "<p>" + strings.ReplaceAll(html.EscapeString(text), "\n", "<br />\n") + "</p>"
	}
	return object{"type": "rendered", "raw": raw, "markup": "markdown", "html": body}
}

func (s *Sim) renderPerson(p *person) any {
	if p == nil {
		return nil
	}
	avatar := link(s.page("/account/%s/avatar/", escaped(p.uuid)))
	if p.appKind != "" {
		return object{
			"type": "app_user", "uuid": p.uuid, "account_id": p.accountID, "display_name": p.displayName,
			"created_on": stamp(p.created), "account_status": "active", "kind": p.appKind,
			"links": object{"avatar": avatar},
		}
	}
	return object{
		"type": "user", "uuid": p.uuid, "account_id": p.accountID, "nickname": p.nickname,
		"display_name": p.displayName,
		"links": object{
			"self": link(s.api("/users/%s", escaped(p.uuid))), "html": link(s.page("/%s/", escaped(p.uuid))),
			"avatar": avatar,
		},
	}
}

// renderAccount is a person as /user and /users/{id} show it.
func (s *Sim) renderAccount(p *person) any {
	o, ok := s.renderPerson(p).(object)
	if !ok || p.appKind != "" {
		return o
	}
	o["created_on"], o["is_staff"], o["has_2fa_enabled"] = stamp(p.created), false, nil
	o["account_status"], o["location"], o["username"] = "active", nil, p.nickname
	links, _ := o["links"].(object)
	id := escaped(p.uuid)
	links["repositories"] = link(s.api("/repositories/%s", id))
	links["snippets"] = link(s.api("/snippets/%s", id))
	links["hooks"] = link(s.api("/workspaces/%s/hooks", id))
	return o
}

// renderWorkspaceAccount is a workspace where Bitbucket shows it as an owner.
func (s *Sim) renderWorkspaceAccount(w *workspace) object {
	id := escaped(w.uuid)
	return object{
		"type": "team", "uuid": w.uuid, "username": w.slug, "display_name": w.name,
		"links": object{
			"self": link(s.api("/workspaces/%s", id)), "html": link(s.page("/%s/", id)),
			"avatar": link(s.page("/account/%s/avatar/", w.slug)),
		},
	}
}

func (s *Sim) renderWorkspace(w *workspace, how shape) object {
	api := s.api("/workspaces/%s", w.slug)
	links := object{
		"self": link(api), "html": link(s.page("/%s/", w.slug)),
		"avatar": link(s.page("/workspaces/%s/avatar/?ts=%d", w.slug, w.created.Unix())),
	}
	o := object{"type": "workspace", "uuid": w.uuid, "slug": w.slug, "name": w.name, "links": links}
	if how == shapeEmbedded {
		return o
	}
	o["is_private"], o["is_privacy_enforced"], o["forking_mode"] = true, false, "allow_forks"
	o["created_on"] = stamp(w.created)
	links["members"] = link(api + "/members")
	links["owners"] = link(api + "/members?q=permission%3D%22owner%22")
	links["projects"] = link(api + "/projects")
	links["hooks"] = link(api + "/hooks")
	links["repositories"] = link(s.api("/repositories/%s", w.slug))
	links["snippets"] = link(s.api("/snippets/%s", w.slug))
	links["html_overview"] = link(s.page("/%s/workspace/overview/", w.slug))
	return o
}

func (s *Sim) renderMembership(w *workspace, p *person, withPermission bool) object {
	o := object{
		"type": "workspace_membership", "user": s.renderPerson(p), "workspace": s.renderWorkspace(w, shapeEmbedded),
		"links": object{"self": link(s.api("/workspaces/%s/members/%s", w.slug, escaped(p.uuid)))},
	}
	if withPermission {
		o["permission"] = w.members[p]
	}
	return o
}

func (s *Sim) renderProject(w *workspace) object {
	page := s.page("/%s/workspace/projects/%s", w.slug, w.projectKey)
	return object{
		"type": "project", "key": w.projectKey, "uuid": w.projectUUID, "name": "Project",
		"links": object{
			"self": link(s.api("/workspaces/%s/projects/%s", w.slug, w.projectKey)), "html": link(page),
			"avatar": link(page + "/avatar/32"),
		},
	}
}

func (s *Sim) repositoryAPI(r *repository) string { return s.api("/repositories/%s", r.fullName()) }

func (s *Sim) repositoryLinks(r *repository) object {
	return object{
		"self": link(s.repositoryAPI(r)), "html": link(s.page("/%s", r.fullName())),
		"avatar": link(s.page("/ravatar/%s?ts=default", escaped(r.uuid))),
	}
}

func (s *Sim) renderRepository(r *repository, how shape) any {
	if r == nil || r.gone {
		return nil
	}
	links := s.repositoryLinks(r)
	o := object{"type": "repository", "uuid": r.uuid, "full_name": r.fullName(), "name": r.name, "links": links}
	if how == shapeEmbedded {
		return o
	}
	o["scm"], o["website"], o["is_private"] = "git", nil, r.private
	o["owner"], o["workspace"] = s.renderWorkspaceAccount(r.workspace), s.renderWorkspace(r.workspace, shapeEmbedded)
	o["project"], o["parent"] = s.renderProject(r.workspace), s.renderRepository(r.parent, shapeEmbedded)
	if how == shapeWebhook {
		return o
	}
	o["slug"], o["description"], o["language"], o["size"] = r.slug, r.description, "", r.size()
	o["fork_policy"], o["has_issues"], o["has_wiki"] = "allow_forks", false, false
	o["created_on"], o["updated_on"] = stamp(r.created), stamp(r.updated)
	o["mainbranch"] = object{"type": "branch", "name": r.mainBranch}
	o["override_settings"] = object{"default_merge_strategy": false, "branching_model": false}
	o["enforced_signed_commits"] = nil
	api := s.repositoryAPI(r)
	for _, name := range []string{"pullrequests", "commits", "forks", "watchers", "downloads", "hooks"} {
		links[name] = link(api + "/" + name)
	}
	links["branches"], links["tags"], links["source"] = link(api+"/refs/branches"), link(api+"/refs/tags"), link(api+"/src")
	links["clone"] = []any{
		object{"name": "https", "href": s.page("/%s.git", r.fullName())},
		object{"name": "ssh", "href": "git@bitbucket.org:" + r.fullName() + ".git"},
	}
	return o
}

// size is the sum of the sizes of all blobs, in bytes.
func (r *repository) size() int {
	n := 0
	for _, b := range r.objects.blobs {
		n += len(b)
	}
	return n
}

func (s *Sim) renderPermission(r *repository, p *person) object {
	return object{
		"type": "repository_permission", "permission": r.permission(p), "user": s.renderPerson(p),
		"repository": s.renderRepository(r, shapeEmbedded),
	}
}

// renderCommitName is a commit by its name alone; digits cuts the hash.
func (s *Sim) renderCommitName(r *repository, hash string, digits int) any {
	if hash == "" || r == nil || r.gone {
		return nil
	}
	hash = hash[:digits]
	return object{
		"type": "commit", "hash": hash,
		"links": object{
			"self": link(s.repositoryAPI(r) + "/commit/" + hash), "html": link(s.page("/%s/commits/%s", r.fullName(), hash)),
		},
	}
}

func (s *Sim) renderCommit(r *repository, c *commit) object {
	api := s.repositoryAPI(r)
	links := object{}
	for _, name := range []string{"approve", "comments", "statuses"} {
		links[name] = link(api + "/commit/" + c.hash + "/" + name)
	}
	links["self"], links["html"] = link(api+"/commit/"+c.hash), link(s.page("/%s/commits/%s", r.fullName(), c.hash))
	links["diff"], links["patch"] = link(api+"/diff/"+c.hash), link(api+"/patch/"+c.hash)
	parents := []any{}
	for _, p := range c.parents {
		parents = append(parents, s.renderCommitName(r, p, len(p)))
	}
	author := object{"type": "author", "raw": c.author.String()}
	for _, p := range s.people {
		if p.email == c.author.email {
			author["user"] = s.renderPerson(p)
		}
	}
	return object{
		"type": "commit", "hash": c.hash, "date": commitStamp(c.author.when), "author": author, "message": c.message,
		"summary": rendered(c.message), "rendered": object{"message": rendered(c.message)}, "links": links,
		"parents": parents, "repository": s.renderRepository(r, shapeEmbedded),
	}
}

// renderPushedCommit is a commit as push events show it.
func (s *Sim) renderPushedCommit(r *repository, c *commit) object {
	o := s.renderCommit(r, c)
	delete(o, "repository")
	o["committer"], o["rendered"], o["properties"] = object{}, object{}, object{}
	return o
}

func (s *Sim) renderBranch(r *repository, name, tip string) object {
	escapedName := strings.ReplaceAll(url.PathEscape(name), "%2F", "/")
	api := s.repositoryAPI(r)
	target := s.renderCommit(r, r.objects.commits[tip])
	delete(target, "summary")
	delete(target, "rendered")
	strategies := []any{}
	for _, x := range r.strategies {
		strategies = append(strategies, x)
	}
	return object{
		"type": "branch", "name": name, "target": target,
		"merge_strategies": strategies, "default_merge_strategy": r.strategies[0],
		"sync_strategies": []any{"merge_commit", "rebase"},
		"links": object{
			"self": link(api + "/refs/branches/" + escapedName), "commits": link(api + "/commits/" + escapedName),
			"html": link(s.page("/%s/branch/%s", r.fullName(), escapedName)),
		},
	}
}

// maxPushedCommits is how many commits a push event lists.
const maxPushedCommits = 5

func (s *Sim) renderPushChange(r *repository, branch, old, tip string) object {
	side := func(hash string) any {
		if hash == "" {
			return nil
		}
		o := s.renderBranch(r, branch, hash)
		o["target"] = s.renderPushedCommit(r, r.objects.commits[hash])
		links, _ := o["links"].(object)
		links["pullrequest_create"] = link(s.page("/%s/pull-requests/new?source=%s&t=1", r.fullName(), url.QueryEscape(branch)))
		return o
	}
	o := object{
		"old": side(old), "new": side(tip), "created": old == "", "closed": tip == "", "truncated": false,
		"forced": old != "" && tip != "" && !r.objects.isAncestor(old, tip),
	}
	if tip == "" {
		return o
	}
	var known []string
	for name, h := range r.branches {
		if name != branch {
			known = append(known, h)
		}
	}
	if old != "" {
		known = []string{old}
	}
	commits := []any{}
	for i, c := range r.objects.log(tip, known...) {
		if i == maxPushedCommits {
			o["truncated"] = true
			break
		}
		commits = append(commits, s.renderPushedCommit(r, c))
	}
	o["commits"] = commits
	api := s.repositoryAPI(r)
	links := object{
		"commits": link(api + "/commits?include=" + tip), "html": link(s.page("/%s/branch/%s", r.fullName(), branch)),
	}
	if old != "" {
		links["commits"] = link(api + "/commits?include=" + tip + "&exclude=" + old)
		links["html"] = link(s.page("/%s/branches/compare/%s..%s", r.fullName(), tip, old))
		links["diff"] = link(api + "/diff/" + tip + ".." + old)
	}
	o["links"] = links
	return o
}

func (s *Sim) renderPullRequest(pr *pullRequest, how shape) object {
	r := pr.repository
	api := fmt.Sprintf("%s/pullrequests/%d", s.repositoryAPI(r), pr.id)
	links := object{"self": link(api), "html": link(s.htmlURL(pr))}
	for _, name := range []string{"activity", "approve", "comments", "commits", "decline", "merge", "request-changes", "statuses"} {
		links[name] = link(api + "/" + name)
	}
	spec := fmt.Sprintf("%s:%s%%0D%s?from_pullrequest_id=%d&topic=true", pr.source.fullName(),
		pr.head[:shortHash], pr.destinationHead()[:shortHash], pr.id)
	links["diff"] = link(s.repositoryAPI(r) + "/diff/" + spec)
	links["diffstat"] = link(s.repositoryAPI(r) + "/diffstat/" + spec)

	strategies := []any{}
	for _, x := range r.strategies {
		strategies = append(strategies, x)
	}
	sourceBranch, destination := object{"name": pr.sourceBranch}, object{"name": pr.destBranch}
	if how == shapeWebhook {
		sourceBranch["links"], sourceBranch["sync_strategies"] = object{}, []any{"merge_commit", "rebase"}
	} else {
		destination["merge_strategies"], destination["default_merge_strategy"] = strategies, r.strategies[0]
	}
	comments := 0
	for _, c := range pr.comments {
		if !c.deleted {
			comments++
		}
	}
	o := object{
		"type": "pullrequest", "id": pr.id, "title": pr.title, "description": pr.description, "state": pr.state,
		"draft": pr.draft, "queued": false, "author": s.renderPerson(pr.author), "closed_by": s.renderPerson(pr.closedBy),
		"close_source_branch": pr.closeSourceBranch, "comment_count": comments, "task_count": 0, "reason": pr.reason,
		"created_on": stamp(pr.created), "updated_on": stamp(pr.updated), "links": links,
		"summary":      rendered(pr.description),
		"merge_commit": s.renderCommitName(r, pr.mergeCommit, min(len(pr.mergeCommit), shortHash)),
		"source": object{
			"branch": sourceBranch,
			"commit": s.renderCommitName(pr.source, pr.head, shortHash), "repository": s.renderRepository(pr.source, shapeEmbedded),
		},
		"destination": object{
			"branch": destination, "commit": s.renderCommitName(r, pr.destinationHead(), shortHash),
			"repository": s.renderRepository(r, shapeEmbedded),
		},
	}
	if how == shapeList {
		return o
	}
	o["rendered"] = object{"title": rendered(pr.title), "description": rendered(pr.description)}
	reviewers, participants := []any{}, []any{}
	for _, p := range pr.reviewers {
		reviewers = append(reviewers, s.renderPerson(p))
	}
	for _, x := range pr.participants {
		participants = append(participants, s.renderParticipant(pr, x))
	}
	o["reviewers"], o["participants"] = reviewers, participants
	if how == shapeSelf && !pr.closed.IsZero() {
		o["closed_on"] = stamp(pr.closed)
	}
	return o
}

func (s *Sim) renderParticipant(pr *pullRequest, x *participant) object {
	role := "PARTICIPANT"
	for _, p := range pr.reviewers {
		if p == x.person {
			role = "REVIEWER"
		}
	}
	var state any
	if x.state != "" {
		state = x.state
	}
	return object{
		"type": "participant", "user": s.renderPerson(x.person), "role": role, "approved": x.state == "approved",
		"state": state, "participated_on": stamp(x.at),
	}
}

// renderVote is the member of a webhook body that tells of an approval or a request for changes.
func (s *Sim) renderVote(name string, x *participant) object {
	return object{name: object{"date": stamp(x.at), "user": s.renderPerson(x.person)}}
}

func (s *Sim) renderComment(pr *pullRequest, c *comment) object {
	api := fmt.Sprintf("%s/pullrequests/%d", s.repositoryAPI(pr.repository), pr.id)
	o := object{
		"type": "pullrequest_comment", "id": c.id, "content": rendered(c.raw), "user": s.renderPerson(c.author),
		"created_on": stamp(c.created), "updated_on": stamp(c.updated), "deleted": c.deleted, "pending": false,
		"pullrequest": object{
			"type": "pullrequest", "id": pr.id, "title": pr.title, "draft": pr.draft,
			"links": object{"self": link(api), "html": link(s.htmlURL(pr))},
		},
		"links": object{
			"self": link(fmt.Sprintf("%s/comments/%d", api, c.id)),
			"html": link(fmt.Sprintf("%s/_/diff#comment-%d", s.htmlURL(pr), c.id)),
		},
	}
	if c.inline != nil {
		o["inline"] = c.inline
		links, _ := o["links"].(object)
		path, _ := c.inline["path"].(string)
		links["code"] = link(fmt.Sprintf("%s/diff/%s:%s..%s?path=%s", s.repositoryAPI(pr.repository),
			pr.source.fullName(), pr.head[:shortHash], pr.destinationHead()[:shortHash], url.QueryEscape(path)))
	}
	if c.parent != nil {
		o["parent"] = object{"id": c.parent.id, "type": "pullrequest_comment", "links": object{
			"self": link(fmt.Sprintf("%s/comments/%d", api, c.parent.id)),
		}}
	}
	if c.resolvedBy != nil {
		o["resolution"] = s.renderResolution(c)
	}
	return o
}

func (s *Sim) renderResolution(c *comment) object {
	return object{"type": "comment_resolution", "user": s.renderPerson(c.resolvedBy), "created_on": stamp(c.resolved)}
}

func (s *Sim) renderStatus(st *commitStatus) object {
	api := s.repositoryAPI(st.repository) + "/commit/" + st.commit
	var refname any
	if st.refname != "" {
		refname = st.refname
	}
	return object{
		"type": "build", "uuid": st.uuid, "key": st.key, "name": st.name, "url": st.url, "state": st.state,
		"description": st.description, "refname": refname, "author": s.renderPerson(st.author),
		"created_on": stamp(st.created), "updated_on": stamp(st.updated),
		"repository": s.renderRepository(st.repository, shapeEmbedded),
		"commit":     s.renderCommitName(st.repository, st.commit, len(st.commit)),
		"links":      object{"self": link(api + "/statuses/build/" + url.PathEscape(st.key)), "commit": link(api)},
	}
}

func (s *Sim) renderHook(h *hook) object {
	events := []any{}
	for _, e := range h.events {
		events = append(events, e)
	}
	o := object{
		"type": "webhook_subscription", "uuid": h.uuid, "url": h.url, "description": h.description, "active": h.active,
		"events": events, "created_at": h.created.UTC().Format("2006-01-02T15:04:05.000000Z"), "source": nil,
		"read_only": false, "skip_cert_verification": false, "history_enabled": false, "secret_set": h.secret != "",
	}
	if h.repository != nil {
		o["subject_type"], o["subject"] = "repository", s.renderRepository(h.repository, shapeEmbedded)
		o["links"] = object{"self": link(s.repositoryAPI(h.repository) + "/hooks/" + escaped(h.uuid))}
		return o
	}
	o["subject_type"], o["subject"] = "workspace", s.renderWorkspace(h.workspace, shapeEmbedded)
	o["links"] = object{"self": link(s.api("/workspaces/%s/hooks/%s", h.workspace.slug, escaped(h.uuid)))}
	return o
}

func (s *Sim) renderRestriction(b *restriction) object {
	users := []any{}
	for _, p := range b.users {
		users = append(users, s.renderPerson(p))
	}
	groups := b.groups
	if groups == nil {
		groups = []any{}
	}
	var value any
	if b.hasValue {
		value = b.value
	}
	o := object{
		"type": "branchrestriction", "id": b.id, "kind": b.kind, "branch_match_kind": b.matchKind, "pattern": b.pattern,
		"value": value, "users": users, "groups": groups,
		"links": object{"self": link(fmt.Sprintf("%s/branch-restrictions/%d", s.repositoryAPI(b.repository), b.id))},
	}
	if b.matchKind == "branching_model" {
		o["branch_type"] = b.branchType
	}
	return o
}
