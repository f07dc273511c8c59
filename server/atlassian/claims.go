package atlassian

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

const (
	installationARI = "ari:cloud:ecosystem::installation/"
	workspaceARI    = "ari:cloud:bitbucket::workspace/"
	// contextName is how the contexts of an installation name Bitbucket's.
	contextName = "bitbucket"
	// maxWord is the longest id, key or version in a token, in bytes.
	maxWord = 256
)

// accountID is the shape of Atlassian's account ids.
var accountID = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z:_-]{0,127}$`)

// maxTime is the year 5138, in seconds: more is no time.
const maxTime = 1e11

// seconds reads a claim that is a time in whole seconds.
func seconds(value any) (int64, bool) {
	number, ok := value.(json.Number)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(number.String(), 10, 64)
	return n, err == nil && n > 0 && n < maxTime
}

// timesMakeSense tells whether exp, nbf and iat are there, and exp is after the others.
func (p parts) timesMakeSense() bool {
	exp, ok1 := seconds(p.claims["exp"])
	nbf, ok2 := seconds(p.claims["nbf"])
	iat, ok3 := seconds(p.claims["iat"])
	return ok1 && ok2 && ok3 && exp > nbf && exp > iat
}

func isString(value any) bool {
	_, ok := value.(string)
	return ok
}

// read reads the claims of a token whose signature, issuer, audience and times are good.
func (v *Verifier) read(p parts) (Invocation, error) {
	if _, isolated := p.claims["icLabel"]; isolated {
		return Invocation{}, refuse(ReasonIsolatedCloud)
	}
	exp, _ := seconds(p.claims["exp"])
	iat, _ := seconds(p.claims["iat"])
	i := Invocation{
		AppID: v.config.AppID, Environment: v.config.Environment,
		IssuedAt: time.Unix(iat, 0).UTC(), ExpiresAt: time.Unix(exp, 0).UTC(),
	}
	var ok bool
	if i.ID, ok = p.claims["jti"].(string); !ok || !printable(i.ID, maxWord) {
		return Invocation{}, refuse(ReasonID)
	}
	app, ok := p.claims["app"].(object)
	if !ok {
		return Invocation{}, refuse(ReasonApp)
	}
	if app["id"] != v.config.AppID {
		return Invocation{}, refuse(ReasonAppID)
	}
	if version, named := app["appVersion"]; named {
		if i.AppVersion, ok = version.(string); !ok || !printable(i.AppVersion, maxWord) {
			return Invocation{}, refuse(ReasonAppVersion)
		}
	}
	if environment, _ := app["environment"].(object); environment["type"] != v.config.Environment {
		return Invocation{}, refuse(ReasonEnvironment)
	}
	module, _ := app["module"].(object)
	i.ModuleType, _ = module["type"].(string)
	i.ModuleKey, _ = module["key"].(string)
	if !printable(i.ModuleType, maxWord) || !printable(i.ModuleKey, maxWord) {
		return Invocation{}, refuse(ReasonModule)
	}
	installation, ok := app["installation"].(object)
	if !ok {
		return Invocation{}, refuse(ReasonInstallation)
	}
	var err error
	if i.InstallationID, err = installationID(app, installation); err != nil {
		return Invocation{}, err
	}
	if value, named := p.claims["context"]; named {
		if _, ok := value.(object); !ok {
			return Invocation{}, refuse(ReasonContext)
		}
		i.Context = p.raw["context"]
	}
	contexts, err := bitbucketContexts(installation)
	if err != nil {
		return Invocation{}, err
	}
	if i.Workspace, err = workspace(contexts, p.claims["context"]); err != nil {
		return Invocation{}, err
	}
	if i.APIBaseURL, err = v.apiBaseURL(contexts, app); err != nil {
		return Invocation{}, err
	}
	if principal := p.claims["principal"]; principal != nil {
		if i.Principal, ok = principal.(string); !ok || !accountID.MatchString(i.Principal) {
			return Invocation{}, refuse(ReasonPrincipal)
		}
	}
	return i, nil
}

// installationID reads the two places that name the installation.
func installationID(app, installation object) (string, error) {
	var ids [2]string
	for n, value := range []any{app["installationId"], installation["id"]} {
		s, _ := value.(string)
		bare, isARI := strings.CutPrefix(s, installationARI)
		id, ok := bareUUID(bare)
		if !isARI || !ok {
			return "", refuse(ReasonInstallation)
		}
		ids[n] = installationARI + id
	}
	if ids[0] != ids[1] {
		return "", refuse(ReasonInstallations)
	}
	return ids[0], nil
}

// bitbucketContexts are those places where the app is installed that are Bitbucket's.
func bitbucketContexts(installation object) ([]object, error) {
	list, _ := installation["contexts"].([]any)
	if installation["contexts"] != nil && list == nil {
		return nil, refuse(ReasonInstallation)
	}
	var found []object
	for _, value := range list {
		context, ok := value.(object)
		if !ok || !isString(context["name"]) {
			return nil, refuse(ReasonInstallation)
		}
		if context["name"] == contextName {
			found = append(found, context)
		}
	}
	return found, nil
}

// workspace reads every place that names the workspace. All that are there must agree.
func workspace(contexts []object, frame any) (string, error) {
	var named []any
	collect := func(o object, key string) {
		if value, ok := o[key]; ok {
			named = append(named, value)
		}
	}
	for _, context := range contexts {
		collect(context, "workspaceId")
	}
	around, _ := frame.(object)
	collect(around, "workspaceId")
	plain := len(named)
	collect(around, "installContext")

	var workspace string
	for n, value := range named {
		s, isString := value.(string)
		if n >= plain {
			var isARI bool
			s, isARI = strings.CutPrefix(s, workspaceARI)
			isString = isString && isARI
		}
		id, ok := bareUUID(s)
		switch {
		case !isString || !ok:
			return "", refuse(ReasonWorkspace)
		case workspace != "" && workspace != id:
			return "", refuse(ReasonWorkspacesDisagree)
		}
		workspace = id
	}
	if workspace == "" {
		return "", refuse(ReasonNoWorkspace)
	}
	return workspace, nil
}

// apiBaseURL is the one of Bitbucket's context, or else of the app. Whatever is named must be
// allowed, used or not.
func (v *Verifier) apiBaseURL(contexts []object, app object) (string, error) {
	var address string
	for _, o := range append(contexts, app) {
		value, named := o["apiBaseUrl"]
		if !named {
			continue
		}
		s, ok := value.(string)
		if !ok || !v.allowed(s) {
			return "", refuse(ReasonAPIBaseURL)
		}
		if address == "" {
			address = strings.TrimSuffix(s, "/")
		}
	}
	if address == "" {
		return "", refuse(ReasonAPIBaseURL)
	}
	return address, nil
}

// below is what may follow an allowed beginning: plain segments, none of which leads elsewhere.
var below = regexp.MustCompile(`^(/[0-9A-Za-z{}_~-][0-9A-Za-z{}._~-]*)*/?$`)

// allowed tells whether an API base URL begins as one of the allowed ones, whole segments compared.
func (v *Verifier) allowed(address string) bool {
	if len(address) > maxWord {
		return false
	}
	for _, beginning := range v.config.APIHosts {
		itself := strings.TrimSuffix(beginning, "/")
		rest, ok := strings.CutPrefix(address, itself)
		if !ok || !below.MatchString(rest) {
			continue
		}
		if strings.Trim(rest, "/") != "" || itself == beginning {
			return true
		}
	}
	return false
}

// bareUUID is a UUID without its braces and in lower case, as this product stores it.
func bareUUID(s string) (string, bool) {
	if len(s) == 38 && s[0] == '{' && s[37] == '}' {
		s = s[1:37]
	}
	if len(s) != 36 || uuid.Validate(s) != nil {
		return "", false
	}
	return strings.ToLower(s), true
}
