package descriptor

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// environmentNames are Forge's own names of its environments.
var environmentNames = []string{"development", "staging", "production"}

// Environment is what differs between two environments of the app.
type Environment struct {
	// AppID is what "forge register" gave: ari:cloud:ecosystem::app/ and a UUID.
	AppID string `yaml:"appId"`
	// Origin is that of the server, a scheme and a host. Atlassian takes https only.
	Origin string `yaml:"origin"`
	// Label is shown in titles; empty in production.
	Label string `yaml:"label"`
}

var (
	appID = regexp.MustCompile(`^ari:cloud:ecosystem::app/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	label = regexp.MustCompile(`^[a-z]{0,20}$`)
)

func readEnvironments(path string) (map[string]Environment, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	var environments map[string]Environment
	if err := decoder.Decode(&environments); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(environments) != len(environmentNames) {
		return nil, fmt.Errorf("%s: want exactly the environments %s", path, strings.Join(environmentNames, ", "))
	}
	for _, name := range environmentNames {
		if err := environments[name].validate(); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", path, name, err)
		}
	}
	if environments["production"].Label != "" {
		return nil, fmt.Errorf("%s: production carries no label", path)
	}
	return environments, nil
}

func (e Environment) validate() error {
	if !appID.MatchString(e.AppID) {
		return fmt.Errorf("appId %q is not ari:cloud:ecosystem::app/ and a UUID in lower case", e.AppID)
	}
	// Whatever else a URL can hold would be repeated in each call that Bitbucket makes, or means another server.
	origin, err := url.Parse(e.Origin)
	if err != nil || origin.Hostname() == "" || e.Origin != "https://"+origin.Host || e.Origin != strings.ToLower(e.Origin) {
		return fmt.Errorf("origin %q is not https:// and a host in lower case", e.Origin)
	}
	if !label.MatchString(e.Label) {
		return fmt.Errorf("label %q is not at most 20 lower-case letters", e.Label)
	}
	return nil
}

//go:embed manifest.yml
var template string

// Render fills in the template. It does not check the environment: a simulated Bitbucket may be told of a server on
// loopback.
func Render(e Environment) (string, error) {
	return fill(template, e)
}

// fill refuses a placeholder that is not ours: the Forge command line would fill it in from the variables of whoever
// deploys.
func fill(template string, e Environment) (string, error) {
	title := ""
	if e.Label != "" {
		title = " (" + e.Label + ")"
	}
	manifest := strings.NewReplacer("${APP_ID}", e.AppID, "${ORIGIN}", e.Origin, "${LABEL}", title).Replace(template)
	// The first comment explains the template, and so has no place in what is made of it.
	_, manifest, _ = strings.Cut(manifest, "\nmodules:")
	manifest = "# Rendered by \"make descriptor\" from descriptor/manifest.yml; change that.\nmodules:" + manifest
	if strings.Contains(manifest, "${") {
		return "", errors.New("the template has a placeholder that nothing fills in")
	}
	return manifest, nil
}
