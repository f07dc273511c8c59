package descriptor

// appToken is the scope that lets Forge hand the app's own token to the server.
const appToken = "read:app-system-token"

// Scopes as Atlassian documents them for each call of the REST API ("Forge scopes"). Of two versions of that document,
// the stricter one counts, where lists of people take read:user too.
const (
	readUser         = "read:user:bitbucket"
	readWorkspace    = "read:workspace:bitbucket"
	readRepository   = "read:repository:bitbucket"
	adminRepository  = "admin:repository:bitbucket"
	readPullRequest  = "read:pullrequest:bitbucket"
	writePullRequest = "write:pullrequest:bitbucket"
)

// calls says which scopes each call of bitbucket.Client takes when it is made with the app's token. A test holds it
// against the methods that there are: a new call needs a line here, and with it perhaps a new scope and everybody's
// consent.
var calls = map[string][]string{
	"Workspace":           {readWorkspace},
	"WorkspacePermission": {readWorkspace, readUser},
	"Members":             {readWorkspace, readUser},

	"User": {readUser},

	"Repository":            {readRepository},
	"Repositories":          {readRepository},
	"RepositoryPermission":  {readRepository, readUser},
	"RepositoryPermissions": {readRepository, readUser},
	"Branch":                {readRepository},
	"Branches":              {readRepository},
	"Commit":                {readRepository},
	"Commits":               {readRepository},
	"ResolveCommit":         {readRepository},
	"MergeBase":             {readRepository},
	"PutStatus":             {readRepository}, // it is so: reading suffices to write a build status
	"GetStatus":             {readRepository},
	"Statuses":              {readRepository},
	// A difference between two commits is read from the repository, that of a pull request from the pull request.
	"Diff":     {readRepository, readPullRequest},
	"DiffStat": {readRepository, readPullRequest},

	"PullRequest":      {readPullRequest},
	"PullRequestHead":  {readPullRequest},
	"OpenPullRequests": {readPullRequest},
	"Merge":            {readPullRequest, writePullRequest},
	"MergeTask":        {readPullRequest},

	"BranchRestrictions":      {adminRepository},
	"CreateBranchRestriction": {adminRepository},
	"UpdateBranchRestriction": {adminRepository},
	"DeleteBranchRestriction": {adminRepository},
}

// notWithTheApp are the methods that the app's token is not for: Bitbucket lets no Forge app make the call, the call is
// about the person who signs in or connects, or there is no call.
var notWithTheApp = map[string]string{
	"CurrentUser": "Bitbucket lets no Forge app call it; the invocation token names the person",
	"Emails":      "Bitbucket lets no Forge app call it; made with the grant of who signs in",
	"Workspaces":  "made with the grant of who connects: which workspaces are theirs",
	"CreateHook":  "Bitbucket lets no Forge app call it; the app has events",
	"UpdateHook":  "Bitbucket lets no Forge app call it; the app has events",
	"DeleteHook":  "Bitbucket lets no Forge app call it; the app has events",
	"Hooks":       "Bitbucket lets no Forge app call it; the app has events",
	"Renewing":    "not a call",
	"ReadOnly":    "not a call",
}
