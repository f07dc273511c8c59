// Package descriptor describes the product to Bitbucket: the manifest of the Forge app, for each of its environments,
// checked by a list of our own for what the server handles and needs, and by Atlassian's validator. README.md
// says how the app is registered and deployed.
package descriptor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// A Build builds the pages that Forge hosts, for the server at an origin, and says in which folder they are.
type Build func(ctx context.Context, origin string) (pages string, err error)

// Write makes one folder for each environment of folder/environments.yml, below folder/rendered: what "forge deploy" is
// run in. The error names every fault of every manifest, first those of our own list, then those that the validator
// finds; a folder with a fault in it stays, so that it can be looked at.
func Write(ctx context.Context, folder string, build Build, out io.Writer) error {
	environments, err := readEnvironments(filepath.Join(folder, "environments.yml"))
	if err != nil {
		return err
	}
	manifests := map[string]string{}
	var faults []string
	for _, name := range environmentNames {
		if manifests[name], err = Render(environments[name]); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for _, fault := range check([]byte(manifests[name])) {
			faults = append(faults, name+": "+fault)
		}
	}
	if len(faults) > 0 {
		return errors.New(strings.Join(faults, "\n"))
	}
	var paths []string
	for _, name := range environmentNames {
		pages, err := build(ctx, environments[name].Origin)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		app := filepath.Join(folder, "rendered", name)
		if err := writeApp(app, manifests[name], pages); err != nil {
			return err
		}
		paths = append(paths, filepath.Join(app, "manifest.yml"))
	}
	found, err := validate(ctx, paths)
	if err != nil {
		return err
	}
	for _, path := range paths {
		for _, fault := range found[path] {
			faults = append(faults, path+": "+fault)
		}
	}
	if len(faults) > 0 {
		return errors.New(strings.Join(faults, "\n"))
	}
	for n, name := range environmentNames {
		if _, err := fmt.Fprintf(out, "%s: valid, for %s\n", paths[n], environments[name].Origin); err != nil {
			return err
		}
	}
	return nil
}

// writeApp makes the folder of the app anew: the manifest and the pages that it names.
func writeApp(app, manifest, pages string) error {
	names := []string{"panel", "dashboard"}
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(pages, name, "index.html")); err != nil {
			return fmt.Errorf("the page is not built for Forge: %w", err)
		}
	}
	if err := os.RemoveAll(app); err != nil {
		return err
	}
	for _, name := range names {
		if err := os.CopyFS(filepath.Join(app, "static", name), os.DirFS(filepath.Join(pages, name))); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(app, "manifest.yml"), []byte(manifest), 0o600)
}
