package bitbucketsim

import "strings"

// frameDomain is the domain under which the pages of Forge apps are served. Browsers resolve every name below
// localhost to the machine itself, and take each for a site of its own.
const frameDomain = "cdn.localhost"

// forgeFrame is one page of an app that a person has open.
type forgeFrame struct {
	inst   *forgeInstallation
	module *forgeModule
	caller *forgeCaller
}

// frameOrigin is the origin of an app's pages; empty unless the Sim listens by itself.
func (s *Sim) frameOrigin(a *forgeApp) string {
	if s.framePort == "" {
		return ""
	}
	return "http://" + a.host() + ":" + s.framePort
}

// frameContext is what the page of a module and its remote are told of where it stands.
func (s *Sim) frameContext(inst *forgeInstallation, m *forgeModule, localID string, extension object) object {
	return object{
		"localId": localID, "workspaceId": inst.workspace.uuid, "moduleKey": m.Key,
		"siteUrl": strings.TrimSuffix(s.baseURL, "/"), "extension": extension,
	}
}
