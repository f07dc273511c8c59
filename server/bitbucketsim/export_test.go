package bitbucketsim

// Routes lists the operations of the REST API as "METHOD /path/{parameter}", for the conformance tests.
func Routes() []string {
	var out []string
	for _, rt := range restRoutes {
		out = append(out, rt.method+" "+rt.path)
	}
	return out
}

// HookEvents lists the event keys that a subscription may name.
func HookEvents() []string {
	var out []string
	for e := range hookEvents {
		out = append(out, e)
	}
	return out
}

// RepositoryRoot exports repositoryRoot.
var RepositoryRoot = repositoryRoot
