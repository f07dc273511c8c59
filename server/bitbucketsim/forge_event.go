package bitbucketsim

import (
	"strings"
	"time"
)

// forgeEvents are the events that a trigger may name, and the scope that each needs.
var forgeEvents = map[string]string{
	"avi:bitbucket:created:repository":                  readRepository,
	"avi:bitbucket:updated:repository":                  readRepository,
	"avi:bitbucket:push:repository":                     readRepository,
	"avi:bitbucket:deleted:repository":                  readRepository,
	"avi:bitbucket:created:build-status":                readRepository,
	"avi:bitbucket:updated:build-status":                readRepository,
	"avi:bitbucket:created:commit-comment":              readRepository,
	"avi:bitbucket:created:pullrequest":                 readPullRequest,
	"avi:bitbucket:updated:pullrequest":                 readPullRequest,
	"avi:bitbucket:fulfilled:pullrequest":               readPullRequest,
	"avi:bitbucket:rejected:pullrequest":                readPullRequest,
	"avi:bitbucket:created:pullrequest-comment":         readPullRequest,
	"avi:bitbucket:updated:pullrequest-comment":         readPullRequest,
	"avi:bitbucket:deleted:pullrequest-comment":         readPullRequest,
	"avi:bitbucket:resolved:pullrequest-comment":        readPullRequest,
	"avi:bitbucket:reopened:pullrequest-comment":        readPullRequest,
	"avi:bitbucket:updated:pullrequest-reviewer-status": readPullRequest,
	"avi:bitbucket:pending:deployment":                  "read:pipeline:bitbucket",
	"avi:bitbucket:started:deployment":                  "read:pipeline:bitbucket",
	"avi:bitbucket:completed:deployment":                "read:pipeline:bitbucket",
	"avi:forge:installed:app":                           "",
	"avi:forge:upgraded:app":                            "",
}

// forgeNames are the events of Forge that tell the same as a webhook about a pull request.
var forgeNames = map[string]string{
	"pullrequest:created":          "avi:bitbucket:created:pullrequest",
	"pullrequest:updated":          "avi:bitbucket:updated:pullrequest",
	"pullrequest:fulfilled":        "avi:bitbucket:fulfilled:pullrequest",
	"pullrequest:rejected":         "avi:bitbucket:rejected:pullrequest",
	"pullrequest:comment_created":  "avi:bitbucket:created:pullrequest-comment",
	"pullrequest:comment_updated":  "avi:bitbucket:updated:pullrequest-comment",
	"pullrequest:comment_deleted":  "avi:bitbucket:deleted:pullrequest-comment",
	"pullrequest:comment_resolved": "avi:bitbucket:resolved:pullrequest-comment",
	"pullrequest:comment_reopened": "avi:bitbucket:reopened:pullrequest-comment",
}

// sparseEvents are those whose documented examples leave out what is optional: the slug of the repository and
// the members of the pull request beyond its state.
var sparseEvents = map[string]bool{
	"avi:bitbucket:updated:repository":           true,
	"avi:bitbucket:deleted:repository":           true,
	"avi:bitbucket:created:build-status":         true,
	"avi:bitbucket:updated:pullrequest-comment":  true,
	"avi:bitbucket:resolved:pullrequest-comment": true,
	"avi:bitbucket:reopened:pullrequest-comment": true,
}

// forgeStamp is how events write times, but for those of a pull request.
func forgeStamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

// longestText is the number of characters beyond which a text in an event is cut. The length is not documented.
const longestText = 1000

func truncated(text string) object {
	runes := []rune(text)
	if len(runes) > longestText {
		return object{"value": string(runes[:longestText]), "truncated": true}
	}
	return object{"value": text, "truncated": false}
}

func changed(from, to string) object { return object{"old": truncated(from), "new": truncated(to)} }

func forgeActor(p *person) object {
	if p == nil {
		return object{}
	}
	kind := "user"
	if p.appKind != "" {
		kind = "app_user"
	}
	return object{"type": kind, "accountId": p.accountID, "uuid": p.uuid}
}

// emitRepository sends an event about a repository to the Forge apps of its workspace.
func (s *Sim) emitRepository(r *repository, event string, actor *person, more object) {
	at := object{"uuid": r.uuid}
	if !sparseEvents[event] {
		at["slug"] = r.slug
	}
	body := object{
		"timestamp": forgeStamp(s.now()), "actor": forgeActor(actor), "repository": at,
		"project": object{"uuid": r.workspace.projectUUID}, "workspace": object{"uuid": r.workspace.uuid},
	}
	for k, v := range more {
		body[k] = v
	}
	s.emitForge(r.workspace, event, actor, body)
}

// emitForgePullRequest sends an event about a pull request. more holds further members of the body.
func (s *Sim) emitForgePullRequest(pr *pullRequest, event string, actor *person, more object) {
	side := func(branch, hash string) object {
		return object{"branch": branch, "commit": object{"hash": hash[:min(len(hash), shortHash)]}}
	}
	o := object{
		"id": pr.id, "state": pr.state, "source": side(pr.sourceBranch, pr.head),
		"destination": side(pr.destBranch, pr.destinationHead()),
	}
	if event == "avi:bitbucket:fulfilled:pullrequest" {
		o["mergeCommit"] = object{"hash": pr.mergeCommit[:min(len(pr.mergeCommit), shortHash)]}
	}
	if !sparseEvents[event] {
		author := forgeActor(pr.author)
		author["displayName"] = pr.author.displayName
		comments := 0
		for _, c := range pr.comments {
			if !c.deleted {
				comments++
			}
		}
		o["title"], o["author"] = truncated(pr.title), author
		o["createdOn"], o["updatedOn"] = stamp(pr.created), stamp(pr.updated)
		o["commentCount"], o["taskCount"] = comments, 0
	}
	body := object{"pullrequest": o}
	for k, v := range more {
		body[k] = v
	}
	s.emitRepository(pr.repository, event, actor, body)
}

// reviewed tells Forge that a reviewer's status has changed: the event, and the merge checks that ask for it.
func (s *Sim) reviewed(pr *pullRequest, actor *person) {
	values := []any{}
	for _, x := range pr.participants {
		if x.at.IsZero() {
			continue
		}
		status := x.state
		if status == "" {
			status = "unapproved"
		}
		values = append(values, object{
			"user": forgeActor(x.person), "status": status, "timestamp": x.at.UTC().Format(time.RFC3339),
		})
	}
	s.emitForgePullRequest(pr, "avi:bitbucket:updated:pullrequest-reviewer-status", actor,
		object{"reviewers": object{"value": values, "truncated": false}})
	s.runChecks(pr, onReviewerStatus)
}

// emitPush sends avi:bitbucket:push:repository about a branch.
func (s *Sim) emitPush(r *repository, actor *person, branch, old, tip string) {
	push := object{
		"ref": branch, "mainbranch": branch == r.mainBranch, "created": old == "", "closed": tip == "",
		"forced": old != "" && tip != "" && !r.objects.isAncestor(old, tip), "truncated": false,
	}
	commits := []any{}
	if old != "" {
		push["before"] = old
	}
	if tip != "" {
		push["after"] = tip
		var known []string
		for name, h := range r.branches {
			if name != branch {
				known = append(known, h)
			}
		}
		if old != "" {
			known = []string{old}
		}
		for i, c := range r.objects.log(tip, known...) {
			if i == maxPushedCommits {
				push["truncated"] = true
				break
			}
			commits = append(commits, s.renderForgeCommit(c))
		}
	}
	push["commits"] = commits
	s.emitRepository(r, "avi:bitbucket:push:repository", actor, object{"push": push})
}

func (s *Sim) renderForgeCommit(c *commit) object {
	author := object{}
	for _, p := range s.people {
		if p.email != "" && p.email == c.author.email {
			author["user"] = forgeActor(p)
		}
	}
	return object{
		"hash": c.hash, "message": truncated(c.message), "date": forgeStamp(c.author.when), "author": author,
	}
}

// emitBuildStatus sends avi:bitbucket:created:build-status or updated.
func (s *Sim) emitBuildStatus(st *commitStatus, created bool, actor *person) {
	o := object{
		"key": st.key, "commit": object{"hash": st.commit}, "state": st.state, "url": st.url,
		"createdOn": forgeStamp(st.created), "updatedOn": forgeStamp(st.updated),
	}
	if st.refname != "" {
		o["refName"] = st.refname
	}
	event := "avi:bitbucket:updated:build-status"
	if created {
		event = "avi:bitbucket:created:build-status"
	}
	s.emitRepository(st.repository, event, actor, object{"buildStatus": o})
}

func lastPart(ari string) string { return ari[strings.LastIndex(ari, "/")+1:] }
