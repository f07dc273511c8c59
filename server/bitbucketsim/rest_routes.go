package bitbucketsim

const (
	inWorkspace   = "/workspaces/{workspace}"
	inRepository  = "/repositories/{workspace}/{repository}"
	inPullRequest = inRepository + "/pullrequests/{id}"
	inCommit      = inRepository + "/commit/{commit}"
)

// restRoutes are the operations of the REST API that the Sim has, each with the scope that Bitbucket documents.
var restRoutes = []route{
	{"GET", "/user", "account", (*Sim).getUser},
	{"GET", "/user/emails", "email", (*Sim).listEmails},
	{"GET", "/user/workspaces", "account", (*Sim).listUserWorkspaces},
	{"GET", "/user/workspaces/{workspace}/permission", "account", (*Sim).getUserPermission},
	{"GET", "/user/workspaces/{workspace}/permissions/repositories", "repository", (*Sim).listUserRepositoryPermissions},
	{"GET", "/users/{user}", "account", (*Sim).getOtherUser},
	{"GET", "/workspaces", "", (*Sim).removedResource},
	{"GET", "/repositories", "", (*Sim).removedResource},
	{"GET", "/user/permissions/workspaces", "", (*Sim).removedResource},
	{"GET", "/user/permissions/repositories", "", (*Sim).removedResource},

	{"GET", inWorkspace, "account", (*Sim).getWorkspace},
	{"GET", inWorkspace + "/members", "account", (*Sim).listMembers},
	{"GET", inWorkspace + "/members/{user}", "account", (*Sim).getMember},
	{"GET", inWorkspace + "/permissions", "account", (*Sim).listMemberPermissions},
	{"GET", inWorkspace + "/permissions/repositories/{repository}", "repository", (*Sim).listRepositoryPermissions},
	{"GET", inWorkspace + "/hooks", "webhook", (*Sim).listHooks},
	{"POST", inWorkspace + "/hooks", "webhook", (*Sim).createHook},
	{"GET", inWorkspace + "/hooks/{hook}", "webhook", (*Sim).getHook},
	{"PUT", inWorkspace + "/hooks/{hook}", "webhook", (*Sim).updateHook},
	{"DELETE", inWorkspace + "/hooks/{hook}", "webhook", (*Sim).deleteHook},

	{"GET", "/repositories/{workspace}", "repository", (*Sim).listRepositories},
	{"GET", inRepository, "repository", (*Sim).getRepository},
	{"GET", inRepository + "/permissions-config/users", "repository:admin", (*Sim).listExplicitPermissions},
	{"GET", inRepository + "/permissions-config/users/{user}", "repository:admin", (*Sim).getExplicitPermission},
	{"GET", inRepository + "/refs/branches", "repository", (*Sim).listBranches},
	{"GET", inRepository + "/refs/branches/{name...}", "repository", (*Sim).getBranch},
	{"DELETE", inRepository + "/refs/branches/{name...}", "repository:write", (*Sim).deleteBranch},
	{"GET", inRepository + "/commits", "repository", (*Sim).listCommits},
	{"GET", inRepository + "/commits/{revision...}", "repository", (*Sim).listCommits},
	{"GET", inRepository + "/src/{commit}/{path...}", "repository", (*Sim).getSource},
	{"GET", inRepository + "/diff/{spec...}", "repository", (*Sim).getDiff},
	{"GET", inRepository + "/diffstat/{spec...}", "repository", (*Sim).getDiffstat},
	{"GET", inRepository + "/merge-base/{spec...}", "repository", (*Sim).getMergeBase},

	{"GET", inCommit, "repository", (*Sim).getCommit},
	{"GET", inCommit + "/statuses", "repository", (*Sim).listCommitStatuses},
	{"POST", inCommit + "/statuses/build", "repository", (*Sim).createStatus},
	{"GET", inCommit + "/statuses/build/{key}", "repository", (*Sim).getStatus},
	{"PUT", inCommit + "/statuses/build/{key}", "repository", (*Sim).updateStatus},

	{"GET", inRepository + "/pullrequests", "pullrequest", (*Sim).listPullRequests},
	{"POST", inRepository + "/pullrequests", "pullrequest:write", (*Sim).createPullRequest},
	{"GET", inPullRequest, "pullrequest", (*Sim).getPullRequest},
	{"PUT", inPullRequest, "pullrequest:write", (*Sim).updatePullRequest},
	{"GET", inPullRequest + "/diff", "pullrequest", (*Sim).redirectToDiff},
	{"GET", inPullRequest + "/diffstat", "pullrequest", (*Sim).redirectToDiffstat},
	{"GET", inPullRequest + "/commits", "pullrequest", (*Sim).listPullRequestCommits},
	{"GET", inPullRequest + "/statuses", "pullrequest", (*Sim).listPullRequestStatuses},
	{"GET", inPullRequest + "/comments", "pullrequest", (*Sim).listComments},
	{"POST", inPullRequest + "/comments", "pullrequest", (*Sim).createComment},
	{"GET", inPullRequest + "/comments/{comment}", "pullrequest", (*Sim).getComment},
	{"PUT", inPullRequest + "/comments/{comment}", "pullrequest", (*Sim).updateComment},
	{"DELETE", inPullRequest + "/comments/{comment}", "pullrequest", (*Sim).deleteComment},
	{"POST", inPullRequest + "/comments/{comment}/resolve", "pullrequest", (*Sim).resolveComment},
	{"DELETE", inPullRequest + "/comments/{comment}/resolve", "pullrequest", (*Sim).reopenComment},
	{"POST", inPullRequest + "/approve", "pullrequest:write", (*Sim).postApproval},
	{"DELETE", inPullRequest + "/approve", "pullrequest:write", (*Sim).deleteApproval},
	{"POST", inPullRequest + "/request-changes", "pullrequest:write", (*Sim).postChangeRequest},
	{"DELETE", inPullRequest + "/request-changes", "pullrequest:write", (*Sim).deleteChangeRequest},
	{"POST", inPullRequest + "/decline", "pullrequest:write", (*Sim).postDecline},
	{"POST", inPullRequest + "/merge", "pullrequest:write", (*Sim).postMerge},
	{"GET", inPullRequest + "/merge/task-status/{task}", "pullrequest", (*Sim).getMergeTask},

	{"GET", inRepository + "/hooks", "webhook", (*Sim).listHooks},
	{"POST", inRepository + "/hooks", "webhook", (*Sim).createHook},
	{"GET", inRepository + "/hooks/{hook}", "webhook", (*Sim).getHook},
	{"PUT", inRepository + "/hooks/{hook}", "webhook", (*Sim).updateHook},
	{"DELETE", inRepository + "/hooks/{hook}", "webhook", (*Sim).deleteHook},

	{"GET", inRepository + "/branch-restrictions", "repository:admin", (*Sim).listRestrictions},
	{"POST", inRepository + "/branch-restrictions", "repository:admin", (*Sim).createRestriction},
	{"GET", inRepository + "/branch-restrictions/{restriction}", "repository:admin", (*Sim).getRestriction},
	{"PUT", inRepository + "/branch-restrictions/{restriction}", "repository:admin", (*Sim).updateRestriction},
	{"DELETE", inRepository + "/branch-restrictions/{restriction}", "repository:admin", (*Sim).deleteRestriction},
}
