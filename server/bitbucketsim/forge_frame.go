package bitbucketsim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"os"
	"path"
	"strings"
	"text/template"
	"time"
)

// frameDomain is the domain under which the pages of Forge apps are served. Browsers resolve every name below
// localhost to the machine itself, and take each for a site of its own.
const frameDomain = "cdn.localhost"

// What the frame of a page is given, as Atlassian documents it; apps cannot change it.
const (
	frameSandbox = "allow-downloads allow-forms allow-modals allow-pointer-lock allow-same-origin allow-scripts"
	frameAllow   = "camera; clipboard-write; display-capture; fullscreen; microphone"
)

// frameOrigin is the origin of an app's pages; empty unless the Sim listens by itself.
func (s *Sim) frameOrigin(a *forgeApp) string {
	if s.framePort == "" {
		return ""
	}
	return "http://" + a.host() + ":" + s.framePort
}

// serveFrames serves the pages of apps, each app on an origin of its own:
// /{version}/{resource}/{file}, and the bridge that is put into them.
func (s *Sim) serveFrames(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "only to be read", http.StatusMethodNotAllowed)
		return
	}
	name, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		name = r.Host
	}
	s.mu.Lock()
	app := s.appOfHost(name)
	host := s.baseURL
	s.mu.Unlock()
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	switch {
	case app == nil:
		http.Error(w, "there is no such app", http.StatusNotFound)
	case r.URL.Path == "/forge-bridge.js":
		s.serveBridge(w, host)
	case r.URL.Path == "/forge-theme.css" && s.opts.Forge.ThemeFile != "":
		http.ServeFile(w, r, s.opts.Forge.ThemeFile)
	default:
		s.serveResource(w, r, app, host)
	}
}

func (s *Sim) appOfHost(name string) *forgeApp {
	for _, a := range s.forgeApps {
		if a.host() == name {
			return a
		}
	}
	return nil
}

var bridgeScript = template.Must(template.ParseFS(pageFiles, "pages/forge-bridge.js"))

func (s *Sim) serveBridge(w http.ResponseWriter, host string) {
	var out bytes.Buffer
	if err := bridgeScript.Execute(&out, map[string]any{"Host": host, "Theme": s.opts.Forge.ThemeFile != ""}); err != nil {
		http.Error(w, "the bridge failed", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
	_, _ = w.Write(out.Bytes())
}

// serveResource serves one file of a resource. Pages get the bridge and the policy.
func (s *Sim) serveResource(w http.ResponseWriter, r *http.Request, app *forgeApp, host string) {
	version, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	resource, file, _ := strings.Cut(rest, "/")
	if file == "" || strings.HasSuffix(file, "/") {
		file += "index.html"
	}
	v := s.versionNamed(app, version)
	if v == nil || v.spec.Resources[resource] == "" {
		http.NotFound(w, r)
		return
	}
	content, err := readBelow(v.spec.Resources[resource], file)
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			s.opts.Logger.Warn("resource was not read", "resource", resource, "file", file, "error", err)
		}
		http.NotFound(w, r)
		return
	}
	kind := mime.TypeByExtension(path.Ext(file))
	if strings.HasPrefix(kind, "text/html") {
		content = withBridge(content)
		w.Header().Set("Content-Security-Policy", v.contentPolicy(host))
		w.Header().Set("Referrer-Policy", "no-referrer")
	}
	if kind != "" {
		w.Header().Set("Content-Type", kind)
	}
	_, _ = w.Write(content) //nolint:gosec // the app's own files, by name.
}

func (s *Sim) versionNamed(app *forgeApp, name string) *forgeVersion {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range app.versions {
		if v.name() == name {
			return v
		}
	}
	return nil
}

// readBelow reads a file of a folder and nothing outside it.
func readBelow(folder, file string) ([]byte, error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.Open(path.Clean(file))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// withBridge puts the bridge before every script of a page.
func withBridge(page []byte) []byte {
	const script = `<script src="/forge-bridge.js"></script>`
	lower := bytes.ToLower(page)
	for _, tag := range []string{"<head", "<html", "<!doctype"} {
		at := bytes.Index(lower, []byte(tag))
		if at < 0 {
			continue
		}
		end := bytes.IndexByte(page[at:], '>')
		if end < 0 {
			break
		}
		at += end + 1
		return bytes.Join([][]byte{page[:at], []byte(script), page[at:]}, nil)
	}
	return append([]byte(script), page...)
}

// contentPolicy is the Content-Security-Policy that Forge sends with a page, with the Sim where Atlassian's own
// sites stand. The header allows pop-ups, the frame does not; the stricter counts.
func (v *forgeVersion) contentPolicy(host string) string {
	connect := "'self' " + host
	for _, e := range v.manifest.Permissions.External.Fetch.Client {
		address := e.Address
		if e.Remote != "" {
			address = origin(v.manifest.remote(e.Remote))
		}
		if address != "" {
			connect += " " + address
		}
	}
	style := "'self'"
	for _, x := range v.manifest.Permissions.Content.Styles {
		style += " '" + x + "'"
	}
	return fmt.Sprintf("default-src 'self'; frame-ancestors 'self' %s; connect-src %s; script-src 'self'; style-src %s; "+
		"img-src 'self' data: blob:; font-src 'self'; form-action 'self'; "+
		"sandbox allow-popups allow-popups-to-escape-sandbox allow-downloads allow-forms allow-modals allow-pointer-lock "+
		"allow-same-origin allow-scripts", host, connect, style)
}

// forgeFrame is one page of an app that a person has open.
type forgeFrame struct {
	inst   *forgeInstallation
	module *forgeModule
	caller *forgeCaller
	opened time.Time
	calls  []time.Time // to the remote, of the last seconds
}

// frameView is a frame on a page.
type frameView struct {
	ID, Key, Title, Source, App string
	Sandbox, Allow              string
}

// keptFrames is how many open pages are remembered before old ones are forgotten.
const keptFrames = 5000

// openFrame opens the page of a module for a person. extension says where it stands.
func (s *Sim) openFrame(inst *forgeInstallation, m *forgeModule, p *person, extension object) *frameView {
	if s.framePort == "" || m.Resource == "" {
		return nil
	}
	if len(s.frames) > keptFrames {
		for id, f := range s.frames {
			if s.now().Sub(f.opened) > time.Hour {
				delete(s.frames, id)
			}
		}
	}
	extension["type"] = m.Type
	id := newSecret()[:32]
	s.frames[id] = &forgeFrame{
		inst: inst, module: m, opened: s.now(),
		caller: &forgeCaller{p, s.frameContext(inst, m, bareUUID(), extension)},
	}
	v := inst.version
	return &frameView{
		ID: id, Key: m.Key, Title: string(m.Title), App: v.app.id, Sandbox: frameSandbox, Allow: frameAllow,
		Source: fmt.Sprintf("%s/%s/%s/index.html", s.frameOrigin(v.app), v.name(), m.Resource),
	}
}

// frameContext is what the page of a module and its remote are told of where it stands.
func (s *Sim) frameContext(inst *forgeInstallation, m *forgeModule, localID string, extension object) object {
	return object{
		"localId": localID, "workspaceId": inst.workspace.uuid, "moduleKey": m.Key, "siteUrl": s.baseURL,
		"extension": extension,
	}
}
