// Command descriptor renders the Forge app for each of its environments and checks it: by a list of our own, for what
// the server handles and needs, and by Atlassian's validator. README.md says how the app is registered and deployed.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, "descriptor", "frontend/dist-forge")
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run writes one folder for each environment below folder/rendered: what "forge deploy" is run in. A folder with a fault
// in it stays, so that it can be looked at. pages is where the pages were built for Forge.
func run(ctx context.Context, folder, pages string) error {
	template, err := os.ReadFile(filepath.Join(folder, "manifest.yml"))
	if err != nil {
		return err
	}
	environments, err := readEnvironments(filepath.Join(folder, "environments.yml"))
	if err != nil {
		return err
	}
	var faults, paths []string
	for _, name := range environmentNames {
		manifest, err := render(string(template), environments[name])
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		app := filepath.Join(folder, "rendered", name)
		if err := writeApp(app, manifest, pages); err != nil {
			return err
		}
		path := filepath.Join(app, "manifest.yml")
		paths = append(paths, path)
		for _, fault := range check([]byte(manifest)) {
			faults = append(faults, path+": "+fault)
		}
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
	for _, name := range environmentNames {
		fmt.Fprintf(os.Stdout, "%s: valid; %s\n", filepath.Join(folder, "rendered", name, "manifest.yml"), environments[name].Origin)
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
