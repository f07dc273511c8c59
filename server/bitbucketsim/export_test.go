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

// ForgeScopes tells which scopes a Forge token needs for an operation of Routes, and whether it may call it at all.
func ForgeScopes(operation string) (scopes []string, callable bool) {
	for _, rt := range restRoutes {
		if rt.method+" "+rt.path == operation {
			scopes = rt.forgeScopes()
		}
	}
	return scopes, scopes != nil
}

// ForgeEvents lists the events that a trigger may name.
func ForgeEvents() []string {
	var out []string
	for e := range forgeEvents {
		out = append(out, e)
	}
	return out
}
