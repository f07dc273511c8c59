package bitbucketsim

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// forgePageRoutes mounts the pages on which apps are installed, configured and used.
func (s *Sim) forgePageRoutes(handle func(string, http.HandlerFunc)) {
	const settings = "/{workspace}/workspace/settings"
	handle("GET /{workspace}/workspace", s.withPerson(s.pageWorkspace))
	handle("GET "+settings+"/apps", s.withPerson(s.pageApps))
	handle("POST "+settings+"/apps/{action}", s.withPerson(s.postApps))
	handle("GET "+settings+"/merge-checks", s.withPerson(s.pageWorkspaceChecks))
	handle("POST "+settings+"/merge-checks/{action}", s.withPerson(s.postWorkspaceChecks))
	handle("GET "+settings+"/forge/{app}/{environment}/{module}", s.withPerson(s.modulePage(moduleWorkspaceSetting)))
	handle("GET /{workspace}/workspace/personal-settings/forge/{app}/{environment}/{module}",
		s.withPerson(s.modulePage(modulePersonalSetting)))
	handle("GET /{workspace}/workspace/forge/{app}/{environment}/{module}", s.withPerson(s.modulePage(moduleWorkspacePage)))
	handle("GET /{workspace}/{repository}/forge/{app}/{environment}/{module}", s.withPerson(s.modulePage(moduleRepositoryPage)))
	handle("GET /{workspace}/{repository}/admin", s.withPerson(s.pageRepositorySettings))
	handle("GET /{workspace}/{repository}/admin/merge-checks", s.withPerson(s.pageRepositoryChecks))
	handle("POST /{workspace}/{repository}/admin/merge-checks/{action}", s.withPerson(s.postRepositoryChecks))
	handle("GET /{workspace}/{repository}/admin/branch-restrictions", s.withPerson(s.pageRestrictions))
	handle("POST /{workspace}/{repository}/admin/branch-restrictions/remove", s.withPerson(s.postRestrictions))
	handle("GET /{workspace}/{repository}/admin/forge/{app}/{environment}/{module}",
		s.withPerson(s.modulePage(moduleRepositorySetting)))
}

// renderFramed writes a page that holds frames of apps.
func (s *Sim) renderFramed(w http.ResponseWriter, name string, data any, frames []*frameView) {
	if len(frames) == 0 {
		s.render(w, http.StatusOK, name, data, "")
		return
	}
	var origins []string
	for _, f := range frames {
		if o := origin(f.Source); !slices.Contains(origins, o) {
			origins = append(origins, o)
		}
	}
	s.renderWith(w, http.StatusOK, name, data,
		"; script-src 'self'; connect-src 'self'; frame-src "+strings.Join(origins, " ")+"; form-action 'self'")
}

// visibleWorkspace finds the workspace of the path, if the visitor belongs to it.
func (s *Sim) visibleWorkspace(v *visitor) (*workspace, error) {
	w, err := s.workspace(v.r.PathValue("workspace"))
	if err != nil || w.members[v.person] == "" {
		return nil, notFound("There is no such workspace, or you do not belong to it.")
	}
	return w, nil
}

func (s *Sim) administeredWorkspace(v *visitor) (*workspace, error) {
	w, err := s.visibleWorkspace(v)
	if err == nil && w.members[v.person] != RoleOwner {
		return nil, forbidden("Only administrators of the workspace may open its settings.")
	}
	return w, err
}

func (s *Sim) administeredRepository(v *visitor) (*repository, error) {
	r, err := s.visibleRepository(v)
	if err == nil && !r.may(v.person, PermissionAdmin) {
		return nil, forbidden("Only administrators of the repository may open its settings.")
	}
	return r, err
}

// menuLink is an entry of a menu.
type menuLink struct{ Title, Href string }

// moduleLinks lists the pages of one module type of the apps in a workspace.
func (s *Sim) moduleLinks(w *workspace, kind, prefix string) []menuLink {
	var out []menuLink
	for _, inst := range s.forgeIn(w) {
		for _, m := range inst.version.manifest.Modules[kind] {
			out = append(out, menuLink{string(m.Title), fmt.Sprintf("%s/forge/%s/%s/%s", prefix,
				inst.version.app.bareID(), lastPart(inst.version.app.environmentID), url.PathEscape(m.Key))})
		}
	}
	return out
}

type workspaceView struct {
	Person                   *person
	Slug, Name               string
	Administrator, Premium   bool
	Apps, Settings, Personal []menuLink
	Repositories             []repositoryLine
}

func (s *Sim) pageWorkspace(v *visitor) error {
	w, err := s.visibleWorkspace(v)
	if err != nil {
		return err
	}
	at := "/" + w.slug + "/workspace"
	view := workspaceView{
		Person: v.person, Slug: w.slug, Name: w.name, Administrator: w.members[v.person] == RoleOwner, Premium: w.premium,
		Apps: s.moduleLinks(w, moduleWorkspacePage, at), Personal: s.moduleLinks(w, modulePersonalSetting, at+"/personal-settings"),
	}
	if view.Administrator {
		view.Settings = s.moduleLinks(w, moduleWorkspaceSetting, at+"/settings")
	}
	for _, r := range w.repositories {
		if level := r.permission(v.person); level != "" {
			view.Repositories = append(view.Repositories, repositoryLine{r.fullName(), r.description, level})
		}
	}
	s.render(v.w, http.StatusOK, "workspace.html", view, "")
	return nil
}

type modulePageView struct {
	Person              *person
	Title, Back, BackTo string
	Frame               *frameView
}

// modulePage is the page of a module that fills one: a frame under its title.
func (s *Sim) modulePage(kind string) func(*visitor) error {
	return func(v *visitor) error {
		extension := object{"location": s.baseURL + v.r.URL.EscapedPath()}
		view := modulePageView{Person: v.person}
		var w *workspace
		var err error
		switch kind {
		case moduleRepositoryPage, moduleRepositorySetting:
			find := s.visibleRepository
			if kind == moduleRepositorySetting {
				find = s.administeredRepository
			}
			r, findErr := find(v)
			if err = findErr; err == nil {
				w = r.workspace
				extension["repository"] = object{"uuid": r.uuid}
				view.Back, view.BackTo = r.fullName(), "/"+r.fullName()
			}
		default:
			find := s.visibleWorkspace
			if kind == moduleWorkspaceSetting {
				find = s.administeredWorkspace
			}
			if w, err = find(v); err == nil {
				extension["workspace"] = object{"uuid": w.uuid}
				view.Back, view.BackTo = w.name, "/"+w.slug+"/workspace"
			}
		}
		if err != nil {
			return err
		}
		for _, inst := range s.forgeIn(w) {
			a, m := inst.version.app, inst.version.manifest.module(kind, v.r.PathValue("module"))
			if m == nil || a.bareID() != v.r.PathValue("app") || lastPart(a.environmentID) != v.r.PathValue("environment") {
				continue
			}
			view.Title = string(m.Title)
			if view.Frame = s.openFrame(inst, m, v.person, extension); view.Frame == nil {
				return badRequest("The pages of apps are not served here.")
			}
			s.renderFramed(v.w, "forgepage.html", view, []*frameView{view.Frame})
			return nil
		}
		return notFound("There is no such page of an app.")
	}
}

// pullRequestFrames opens the frames of one module type on the page of a pull request.
func (s *Sim) pullRequestFrames(pr *pullRequest, p *person, kind string) []*frameView {
	var out []*frameView
	w := pr.repository.workspace
	for _, inst := range s.forgeIn(w) {
		for _, m := range inst.version.manifest.Modules[kind] {
			f := s.openFrame(inst, m, p, object{
				"repository": object{"uuid": pr.repository.uuid}, "pullRequest": object{"id": pr.id},
			})
			if f != nil {
				out = append(out, f)
			}
		}
	}
	return out
}

type appLine struct {
	ID, Name, Environment, Latest, Version, InstallationID string
	Installed, MayUpgrade                                  bool
	Scopes                                                 []string
}

type appsView struct {
	Person     *person
	Slug, Name string
	Apps       []appLine
}

// pageApps shows what can be installed and what is, as the Marketplace and the list of installed apps do.
func (s *Sim) pageApps(v *visitor) error {
	w, err := s.administeredWorkspace(v)
	if err != nil {
		return err
	}
	view := appsView{Person: v.person, Slug: w.slug, Name: w.name}
	for _, a := range s.forgeApps {
		latest := a.latest()
		line := appLine{
			ID: a.id, Name: latest.spec.Name, Environment: a.environment, Latest: latest.name(),
			Scopes: latest.manifest.Permissions.Scopes,
		}
		if inst := s.forgeInstallation(a, w); inst != nil {
			line.Installed, line.Version, line.InstallationID = true, inst.version.name(), inst.id
			line.MayUpgrade = inst.version != latest
		}
		view.Apps = append(view.Apps, line)
	}
	s.render(v.w, http.StatusOK, "apps.html", view, "")
	return nil
}

func (s *Sim) postApps(v *visitor) error {
	w, err := s.administeredWorkspace(v)
	if err != nil {
		return err
	}
	a := s.forgeApp(v.r.PostFormValue("app"), v.r.PostFormValue("environment"))
	if a == nil {
		return notFound("There is no such app.")
	}
	inst := s.forgeInstallation(a, w)
	switch action := v.r.PathValue("action"); {
	case action == "install" && inst == nil:
		s.installForge(a, w, v.person)
	case action == "install":
		err = badRequest("The app is installed already.")
	case inst == nil:
		err = notFound("The app is not installed.")
	case action == "upgrade":
		err = s.upgradeForge(inst, v.person)
	case action == "uninstall":
		s.uninstallForge(inst)
	default:
		err = notFound("There is no such action.")
	}
	if err != nil {
		return err
	}
	http.Redirect(v.w, v.r, "/"+w.slug+"/workspace/settings/apps", http.StatusSeeOther)
	return nil
}

// checkLine is a custom merge check in the settings.
type checkLine struct {
	ID            int
	Name, Pattern string
	Required      bool
}

// checkChoice is a custom merge check that can be added.
type checkChoice struct{ Value, Name string }

type checksView struct {
	Person                             *person
	Title, Action, Back, BackTo        string
	Workspace, Enabled, Premium, Empty bool
	Checks                             []checkLine
	Choices                            []checkChoice
}

// checksPage shows the custom merge checks of a level.
func (s *Sim) checksPage(v *visitor, w *workspace, level string, r *repository, view checksView) {
	view.Person, view.Enabled, view.Premium = v.person, w.customChecks, w.premium
	for _, c := range w.checks {
		if c.level == level && c.repository == r {
			view.Checks = append(view.Checks, checkLine{c.id, s.checkSentence(c, ""), cmp.Or(c.pattern, "all branches"), c.required})
		}
	}
	for _, inst := range s.forgeIn(w) {
		for _, m := range inst.version.manifest.Modules[moduleMergeCheck] {
			view.Choices = append(view.Choices, checkChoice{
				inst.version.app.id + " " + inst.version.app.environment + " " + m.Key, string(m.Name),
			})
		}
	}
	s.render(v.w, http.StatusOK, "mergechecks.html", view, "")
}

func (s *Sim) pageWorkspaceChecks(v *visitor) error {
	w, err := s.administeredWorkspace(v)
	if err != nil {
		return err
	}
	s.checksPage(v, w, levelWorkspace, nil, checksView{
		Title: "Custom merge checks of the workspace", Action: "/" + w.slug + "/workspace/settings/merge-checks",
		Back: w.name, BackTo: "/" + w.slug + "/workspace", Workspace: true,
	})
	return nil
}

func (s *Sim) pageRepositoryChecks(v *visitor) error {
	r, err := s.administeredRepository(v)
	if err != nil {
		return err
	}
	s.checksPage(v, r.workspace, levelRepository, r, checksView{
		Title: "Custom merge checks of " + r.fullName(), Action: "/" + r.fullName() + "/admin/merge-checks",
		Back: "Repository settings", BackTo: "/" + r.fullName() + "/admin",
	})
	return nil
}

// postChecks carries an action on the custom merge checks of a level out.
func (s *Sim) postChecks(v *visitor, spec MergeCheck, back string) error {
	form := v.r.PostFormValue
	id, err := strconv.Atoi(form("check"))
	if err != nil {
		id = 0
	}
	switch v.r.PathValue("action") {
	case "add":
		parts := strings.Fields(form("module"))
		if len(parts) != 3 {
			return badRequest("Choose a merge check.")
		}
		spec.App, spec.Environment, spec.Module = parts[0], parts[1], parts[2]
		spec.Pattern, spec.Required = strings.TrimSpace(form("pattern")), form("required") != ""
		_, err = s.saveMergeCheck(spec, v.person)
	case "remove":
		err = s.removeMergeCheck(id, v.person)
	default:
		err = notFound("There is no such action.")
	}
	if err != nil {
		return err
	}
	http.Redirect(v.w, v.r, back, http.StatusSeeOther)
	return nil
}

func (s *Sim) postWorkspaceChecks(v *visitor) error {
	w, err := s.administeredWorkspace(v)
	if err != nil {
		return err
	}
	back := "/" + w.slug + "/workspace/settings/merge-checks"
	switch v.r.PathValue("action") {
	case "enable", "disable":
		w.customChecks = v.r.PathValue("action") == "enable"
		http.Redirect(v.w, v.r, back, http.StatusSeeOther)
		return nil
	}
	return s.postChecks(v, MergeCheck{Level: levelWorkspace, Workspace: w.slug}, back)
}

func (s *Sim) postRepositoryChecks(v *visitor) error {
	r, err := s.administeredRepository(v)
	if err != nil {
		return err
	}
	return s.postChecks(v, MergeCheck{Level: levelRepository, Repository: r.fullName()}, "/"+r.fullName()+"/admin/merge-checks")
}

type repositorySettingsView struct {
	Person   *person
	FullName string
	Apps     []menuLink
}

func (s *Sim) pageRepositorySettings(v *visitor) error {
	r, err := s.administeredRepository(v)
	if err != nil {
		return err
	}
	s.render(v.w, http.StatusOK, "repositorysettings.html", repositorySettingsView{
		v.person, r.fullName(), s.moduleLinks(r.workspace, moduleRepositorySetting, "/"+r.fullName()+"/admin"),
	}, "")
	return nil
}

type restrictionLine struct {
	ID                 int
	Kind, Where, Users string
	Value              string
}

type restrictionsView struct {
	Person       *person
	FullName     string
	Restrictions []restrictionLine
}

func (s *Sim) pageRestrictions(v *visitor) error {
	r, err := s.administeredRepository(v)
	if err != nil {
		return err
	}
	view := restrictionsView{Person: v.person, FullName: r.fullName()}
	for _, b := range r.restrictions {
		line := restrictionLine{ID: b.id, Kind: b.kind, Where: cmp.Or(b.pattern, b.branchType)}
		if b.hasValue {
			line.Value = strconv.Itoa(b.value)
		}
		var names []string
		for _, p := range b.users {
			names = append(names, p.displayName)
		}
		line.Users = strings.Join(names, ", ")
		view.Restrictions = append(view.Restrictions, line)
	}
	s.render(v.w, http.StatusOK, "restrictions.html", view, "")
	return nil
}

func (s *Sim) postRestrictions(v *visitor) error {
	r, err := s.administeredRepository(v)
	if err != nil {
		return err
	}
	id := v.r.PostFormValue("restriction")
	before := len(r.restrictions)
	r.restrictions = slices.DeleteFunc(r.restrictions, func(b *restriction) bool { return strconv.Itoa(b.id) == id })
	if len(r.restrictions) == before {
		return notFound("There is no such branch restriction.")
	}
	http.Redirect(v.w, v.r, "/"+r.fullName()+"/admin/branch-restrictions", http.StatusSeeOther)
	return nil
}

// customCheckLine is a custom merge check on the page of a pull request.
type customCheckLine struct {
	ID                              int
	Module, Name, Message           string
	State, Class, When, Where, Rule string
	MayRun                          bool
}

func newCustomCheckLine(r MergeCheckResult, open bool) customCheckLine {
	line := customCheckLine{
		ID: r.Check, Module: r.Module, Name: r.Name, Message: r.Message, State: "not run yet", When: "before the merge",
		Where: cmp.Or(r.Pattern, "all branches") + ", configured in the settings of the " + r.Level,
		Rule:  "not required: it warns only", MayRun: open && !r.OnMerge && r.State != checkRunning,
	}
	if r.OnMerge {
		line.When = "on merge"
	}
	switch {
	case r.Blocks:
		line.Rule = "required"
	case r.Required:
		line.Rule = "required, which needs a Premium plan: it warns only"
	}
	switch r.State {
	case checkRunning:
		line.State, line.Class = "running", "INPROGRESS"
	case checkPassed:
		line.State, line.Class = "passed", "SUCCESSFUL"
	case checkFailed:
		line.State, line.Class = "failed", "FAILED"
	}
	return line
}
