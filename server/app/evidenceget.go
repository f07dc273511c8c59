package app

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/monitor"
)

type evidenceCommand struct {
	Get evidenceGetCommand `cmd:"" help:"Take an evidence bundle along as a file."`
}

type evidenceGetCommand struct {
	remote
	What       string `arg:"" help:"Whose evidence: the id of a request, the whole hash of a commit, or the address of a pull request."`
	Output     string `short:"o" help:"The file to write; - for the standard output." required:"" placeholder:"FILE"`
	Force      bool   `help:"Write over a file that is there."`
	Workspace  string `help:"The workspace's UUID or slug, for a request or a commit."`
	Repository string `help:"The repository's UUID or slug, where a commit is in several."`
	Branch     string `help:"The destination branch, where a commit belongs to several requests."`
}

// Run writes the file, or nothing.
func (c *evidenceGetCommand) Run(ctx context.Context, s streams) error {
	client, err := c.client(true)
	if err != nil {
		return err
	}
	if c.Output != "-" {
		if err := free(c.Output, c.Force); err != nil {
			return err
		}
	}
	bundle, err := c.take(ctx, client)
	if err != nil {
		return err
	}
	if _, err := evidence.ParseBundle(bundle); err != nil {
		return fmt.Errorf("what the server gave is no bundle that this version reads: %w", err)
	}
	if c.Output == "-" {
		_, err = s.out.Write(bundle)
		return err
	}
	if err := save(c.Output, bundle, c.Force); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.err, "%s: %d bytes\n", c.Output, len(bundle))
	return err
}

func (c *evidenceGetCommand) take(ctx context.Context, client *monitor.Client) ([]byte, error) {
	if strings.Contains(c.What, "://") {
		address, err := url.Parse(c.What)
		if err != nil {
			return nil, errors.New("the address cannot be read")
		}
		return takeAddress(ctx, client, address)
	}
	at, err := locate(ctx, client, c.Workspace, c.Repository)
	if err != nil {
		return nil, err
	}
	if bitbucket.IsFullHash(c.What) {
		return takeCommit(ctx, client, at, c.What, c.Branch)
	}
	path := "/evidence/" + at.workspace + "/" + c.What
	if !requestPath.MatchString(path) {
		return nil, errors.New("say whose evidence: the id of a request, the whole hash of a commit in lower case, or the address of a pull request")
	}
	return client.Get(ctx, path, nil, evidence.MaxBundle)
}
