package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// operate is the document whose commands an operator copies.
const operate = "deploy/OPERATE.md"

// documented are the commands that stand below a heading of a document, up to the next one.
func documented(document, heading string) (commands []string) {
	inside := false
	for line := range strings.Lines(document) {
		line = strings.TrimRight(line, "\n")
		switch command, indented := strings.CutPrefix(line, "    "); {
		case strings.HasPrefix(line, "#"):
			inside = line == heading
		case inside && indented:
			commands = append(commands, command)
		}
	}
	return commands
}

// operator carries out what [operate] says, as it stands there, but for the names of the database and of its owner.
type operator struct {
	backup, restore []string
	env             []string
}

func (w *world) operator() (o operator, err error) {
	top, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return o, fmt.Errorf("the top of the repository: %w", err)
	}
	document, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(top)), operate))
	if err != nil {
		return o, err
	}
	o.backup, o.restore = documented(string(document), "## Backup"), documented(string(document), "### Restore")
	const last = "signedapproval serve"
	if len(o.backup) == 0 || len(o.restore) < 2 || o.restore[len(o.restore)-1] != last {
		return o, errors.New(operate + " does not say how to back up, or does not end the restore with " + last)
	}
	o.restore = o.restore[:len(o.restore)-1] // which whoever restores does in their own way
	binary, err := filepath.Abs(w.binary)
	if err != nil {
		return o, err
	}
	super, err := url.Parse(w.ours.super)
	if err != nil {
		return o, err
	}
	host, port := super.Hostname(), super.Port()
	if socket := super.Query().Get("host"); socket != "" {
		host = socket
	}
	if p := super.Query().Get("port"); p != "" {
		port = p
	}
	o.env = append(os.Environ(), "SUPERUSER_URL="+w.ours.super, "DATABASE_OWNER_URL="+w.ours.owner, "PGHOST="+host, "PGPORT="+port, "PGUSER=postgres",
		"PATH="+filepath.Dir(binary)+string(os.PathListSeparator)+os.Getenv("PATH"))
	name := strings.NewReplacer("signedapproval_owner signedapproval", "bench_owner "+w.ours.name)
	for i, command := range o.restore {
		o.restore[i] = name.Replace(command)
	}
	return o, nil
}

// carryOut runs commands one after the other, in the folder of the files that they name.
func (o operator) carryOut(ctx context.Context, dir string, commands []string) error {
	for _, command := range commands {
		cmd := exec.CommandContext(ctx, "sh", "-e", "-c", command)
		cmd.Dir, cmd.Env = dir, o.env
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", command, err, out[max(0, len(out)-2000):])
		}
	}
	return nil
}
