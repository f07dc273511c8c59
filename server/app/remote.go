package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/monitor"
)

// tokenVariable holds the API token of a command that asks a server. There is no flag: command lines end in logs.
const tokenVariable = "SIGNEDAPPROVAL_TOKEN"

// remote is a server that a command asks.
type remote struct {
	URL       string `help:"The server, such as https://approvals.example." env:"SIGNEDAPPROVAL_URL" placeholder:"ORIGIN"`
	TokenFile string `help:"A file with an API token that may read; else it is in SIGNEDAPPROVAL_TOKEN." env:"SIGNEDAPPROVAL_TOKEN_FILE" type:"existingfile"`
}

// client makes the client. A token is in a file or in the environment and never in a flag: command lines end in logs.
func (r remote) client(needsToken bool) (*monitor.Client, error) {
	if r.URL == "" {
		return nil, errors.New("say which server is asked: --url or SIGNEDAPPROVAL_URL")
	}
	token := os.Getenv(tokenVariable)
	if r.TokenFile != "" {
		raw, err := readFile(r.TokenFile, maxSmall)
		if err != nil {
			return nil, err
		}
		token = string(raw)
	}
	token = strings.TrimSpace(token)
	if token == "" && needsToken {
		return nil, errors.New("an API token that may read is needed: in " + tokenVariable + ", or in a file that --token-file names")
	}
	return monitor.NewClient(r.URL, token, nil)
}

// ask asks the API. Its operations only read.
func ask(ctx context.Context, client *monitor.Client, operation string, variables map[string]any, out any) error {
	body, err := json.Marshal(map[string]any{"query": operation, "variables": variables})
	if err != nil {
		return err
	}
	raw, err := client.Post(ctx, "/graphql", body, 1<<20)
	if err != nil {
		return err
	}
	var answer struct {
		Data   json.RawMessage
		Errors []struct {
			Message    string
			Extensions struct{ Code string }
		}
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return errors.New("the server's answer is not that of its API")
	}
	if len(answer.Errors) > 0 {
		return fmt.Errorf("the server answers %s: %s", answer.Errors[0].Extensions.Code, answer.Errors[0].Message)
	}
	return json.Unmarshal(answer.Data, out)
}

// place is a workspace and a repository of it, as Bitbucket's UUIDs without braces.
type place struct{ workspace, repository string }

// locate finds UUIDs for what may be slugs; repository may be empty.
func locate(ctx context.Context, client *monitor.Client, workspace, repository string) (place, error) {
	if workspace == "" {
		return place{}, errors.New("say in which workspace: --workspace, its UUID or slug")
	}
	w, isUUID := bitbucket.BareUUID(workspace)
	r, also := bitbucket.BareUUID(repository)
	if isUUID && (also || repository == "") {
		return place{w, r}, nil
	}
	var found struct {
		Workspace *struct {
			UUID       string
			Repository *struct{ UUID string }
		}
	}
	key := func(uuid string, is bool, slug string) string {
		if is {
			return uuid
		}
		return slug
	}
	operation := `query($workspace: String!) { workspace(key: $workspace) { uuid } }`
	variables := map[string]any{"workspace": key(w, isUUID, workspace)}
	if repository != "" {
		operation = `query($workspace: String!, $repository: String!) { workspace(key: $workspace) { uuid repository(key: $repository) { uuid } } }`
		variables["repository"] = key(r, also, repository)
	}
	if err := ask(ctx, client, operation, variables, &found); err != nil {
		return place{}, err
	}
	switch {
	case found.Workspace == nil:
		return place{}, fmt.Errorf("the server knows no workspace %q, or this token may not see it", workspace)
	case repository == "":
		return place{found.Workspace.UUID, ""}, nil
	case found.Workspace.Repository == nil:
		return place{}, fmt.Errorf("the server knows no repository %q there, or this token may not see it", repository)
	}
	return place{found.Workspace.UUID, found.Workspace.Repository.UUID}, nil
}

// takeCommit gives the bundle of the request that a commit belongs to, and of which a repository and a branch may be known.
func takeCommit(ctx context.Context, client *monitor.Client, at place, commit, branch string) ([]byte, error) {
	query := url.Values{}
	for name, value := range map[string]string{"repository": at.repository, "branch": branch} {
		if value != "" {
			query.Set(name, value)
		}
	}
	return client.Get(ctx, "/evidence/"+at.workspace+"/commits/"+commit, query, evidence.MaxBundle)
}

var (
	requestPath     = regexp.MustCompile(`^/evidence/[0-9a-fA-F-]{36}/(commits/)?[A-Za-z0-9_-]{1,64}$`)
	panelPath       = regexp.MustCompile(`^/(?:pr|sign)/([0-9a-fA-F-]{36})/([0-9a-fA-F-]{36})/([0-9]{1,18})$`)
	pullRequestPath = regexp.MustCompile(`^/([^/]+)/([^/]+)/pull-requests/([0-9]{1,18})(/.*)?$`)
)

// takeAddress gives the bundle that an address is about: that of a pull request on Bitbucket, of its panel, or of a bundle.
func takeAddress(ctx context.Context, client *monitor.Client, address *url.URL) ([]byte, error) {
	var at place
	var number string
	ours := address.Scheme+"://"+address.Host == client.Origin()
	if ours && requestPath.MatchString(address.Path) {
		return client.Get(ctx, address.Path, address.Query(), evidence.MaxBundle)
	}
	if m := panelPath.FindStringSubmatch(address.Path); ours && m != nil {
		at, number = place{strings.ToLower(m[1]), strings.ToLower(m[2])}, m[3]
	} else if m := pullRequestPath.FindStringSubmatch(address.Path); m != nil {
		var err error
		if at, err = locate(ctx, client, m[1], m[2]); err != nil {
			return nil, err
		}
		number = m[3]
	} else {
		return nil, errors.New("the address is not that of a pull request on Bitbucket or on this server")
	}
	var found struct {
		PullRequest *struct {
			Request *struct{ EvidencePath string }
		}
	}
	err := ask(ctx, client, `query($workspace: String!, $repository: String!, $number: Int!) {
		pullRequest(workspace: $workspace, repository: $repository, number: $number) { request { evidencePath } }
	}`, map[string]any{"workspace": at.workspace, "repository": at.repository, "number": json.Number(number)}, &found)
	switch {
	case err != nil:
		return nil, err
	case found.PullRequest == nil:
		return nil, errors.New("the server knows no such pull request, or this token may not see it")
	case found.PullRequest.Request == nil:
		return nil, errors.New("nobody was asked to approve this pull request: there is no evidence")
	case !requestPath.MatchString(found.PullRequest.Request.EvidencePath):
		return nil, errors.New("the server names a path that is not that of a bundle")
	}
	return client.Get(ctx, found.PullRequest.Request.EvidencePath, nil, evidence.MaxBundle)
}

// save writes a file whole or not at all. One that is there stays unless force is set.
func save(path string, data []byte, force bool) (err error) {
	if force {
		return monitor.WriteFile(path, data, 0o644)
	}
	folder, err := os.MkdirTemp(filepath.Dir(path), ".signedapproval-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	whole := filepath.Join(folder, "file")
	if err := monitor.WriteFile(whole, data, 0o644); err != nil {
		return err
	}
	return occupied(path, os.Link(whole, path)) // a link takes no name that is taken
}

func occupied(path string, err error) error {
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s is there already; --force writes over it", path)
	}
	return err
}

// free makes sure, before anything is fetched, that a file can be written.
func free(path string, force bool) error {
	if force {
		return nil
	}
	if _, err := os.Lstat(path); err == nil {
		return occupied(path, os.ErrExist)
	}
	return nil
}

// readAnchors reads an anchors file; none where path is empty.
func readAnchors(path string) (evidence.Anchors, error) {
	if path == "" {
		return evidence.Anchors{}, nil
	}
	raw, err := readFile(path, evidence.MaxAnchors)
	if err != nil {
		return evidence.Anchors{}, err
	}
	anchors, err := evidence.ParseAnchors(raw)
	if err != nil {
		return anchors, fmt.Errorf("%s: %w", path, err)
	}
	return anchors, nil
}
