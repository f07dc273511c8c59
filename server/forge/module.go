package forge

import "slices"

// Endpoints of the manifest that lead to this door. The panel and the pages have another, which leads
// to the API.
const (
	EndpointEvents     = "events-ep"
	EndpointLifecycle  = "lifecycle-ep"
	EndpointScheduled  = "scheduled-ep"
	EndpointMergeCheck = "merge-check-ep"
)

// onMerge is the module of the merge check that Bitbucket asks when somebody merges.
const onMerge = "merge-check-on-merge"

// preUninstall is the module whose call comes before the app is removed.
const preUninstall = "pre-uninstall"

// modules are, for each endpoint, the modules of the manifest that use it. A token names the module
// that made the call, or the endpoint that it was made through. Whoever can open a page of the app can
// make it call any address of this server with a body of their own; such a call has a good token too,
// and only its module tells that the body is not Bitbucket's.
var modules = map[string][]string{
	EndpointEvents:     {"build-statuses", "pull-requests", "repositories"},
	EndpointLifecycle:  {"lifecycle", preUninstall},
	EndpointScheduled:  {"hourly"},
	EndpointMergeCheck: {onMerge, "merge-check-pre-merge"},
}

// Modules are the keys of the manifest's modules whose calls through an endpoint are followed, sorted;
// nil where there is no such endpoint.
func Modules(endpoint string) []string { return slices.Clone(modules[endpoint]) }

// through tells whether a module's call may come through an endpoint.
func through(endpoint, module string) bool {
	return module == endpoint || slices.Contains(modules[endpoint], module)
}
