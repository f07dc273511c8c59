package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/signedapproval/bitbucket/internal/invariant"
	"github.com/signedapproval/bitbucket/internal/stage"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// simulator is the simulated Bitbucket, reached over its control door and its API, past the links.
type simulator struct {
	url  string
	addr net.Addr
	stop func() error
	// signal sends a signal to its process.
	signal func(syscall.Signal) error
}

// control does what its control door does.
func (s *simulator) control(ctx context.Context, name string, in, out any) error {
	return s.call(ctx, http.MethodPost, "/sim/"+name, "", in, out)
}

// call makes one call, of the API where there is a token.
func (s *simulator) call(ctx context.Context, method, path, token string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+s.addr.String()+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s %s answers %s", method, path, response.Status)
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(out)
}

// consumers makes the two OAuth consumers, and answers the settings that name them.
func (s *simulator) consumers(ctx context.Context, origin string) (env []string, err error) {
	for name, consumer := range map[string]bitbucketsim.Consumer{
		"CONNECT": {Name: "SignedApproval", Callback: origin + "/connect/callback", Scopes: []string{"account", "pullrequest:write", "repository:admin", "webhook"}},
		"SIGN_IN": {Name: "SignedApproval sign-in", Callback: origin + "/auth/callback", Scopes: []string{"account", "email"}},
	} {
		var made bitbucketsim.Consumer
		if err := s.control(ctx, "consumers", consumer, &made); err != nil {
			return nil, err
		}
		env = append(env, "SIGNEDAPPROVAL_"+name+"_KEY="+made.Key, "SIGNEDAPPROVAL_"+name+"_SECRET="+made.Secret)
	}
	return env, nil
}

func (s *simulator) token(ctx context.Context, person string) (string, error) {
	var made bitbucketsim.Token
	err := s.control(ctx, "tokens", bitbucketsim.TokenRequest{Person: person}, &made)
	return made.AccessToken, err
}

// throughHere makes the browsers of this process reach the simulated Bitbucket by its name.
func throughHere() {
	transport := http.DefaultTransport.(*http.Transport)
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	transport.Proxy = nil
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if port, found := strings.CutPrefix(address, bitbucketHost+":"); found {
			address = "127.0.0.1:" + port
		}
		return dialer.DialContext(ctx, network, address)
	}
}

// The branches that pull requests go into: release needs some approvals, two at first, and merges then as a rule, hotfix needs
// one, and open none at all.
const release, hotfix, ungated = "release/1.0", "hotfix/1", "open"

// repository is one that is gated, and its open pull requests as far as is known.
type repository struct {
	workspace stage.Workspace
	fullName  string
	uuid      string
	owner     string // whose grant the connection is
	author    string // who opens pull requests
	token     string // of the author

	mu    sync.Mutex
	open  []*change
	all   map[int64]*change
	made  int
	rules rules
}

// change is a pull request as its author knows it.
type change struct {
	repository *repository
	number     int64
	branch     string
	first      string // the commit that it was opened with

	mu          sync.Mutex
	pushed      int
	destination string
	byHand      bool                   // its author has merged it, or tried to
	by          map[string]bool        // who approved what it is now, as far as is known
	signing     map[string]bool        // who is about to, where nobody is to sign in vain
	moved       []time.Time            // when pushes and changes of the destination were over
	merged      *invariant.PullRequest // once it is, and will not be told otherwise any more
}

func (c *change) place() stage.Place {
	return stage.Place{Workspace: c.repository.workspace.UUID, Repository: c.repository.uuid, Number: c.number}
}

func (c *change) String() string { return fmt.Sprintf("%s#%d", c.repository.fullName, c.number) }

// world is who and what is there.
type world struct {
	*stack
	repositories []*repository
	approvers    []*stage.Person
	owners       []string
	watcher      string // token of somebody whom no fault meets
	duration     time.Duration
	admins       []*administrator
	deeds        deeds
}

var approverNames = []string{"bob", "carol", "dave", "erin", "frank"}

// newWorld makes workspaces, people and repositories, and gates these through the pages' own doors.
func newWorld(ctx context.Context, s *stack, o settings) (*world, error) {
	w := &world{stack: s}
	for _, name := range []string{"dave", "erin", "frank", "wanda"} {
		if err := s.sim.control(ctx, "people", bitbucketsim.Person{Nickname: name}, nil); err != nil {
			return nil, err
		}
	}
	var err error
	if w.watcher, err = s.sim.token(ctx, "wanda"); err != nil {
		return nil, err
	}
	for n := range o.workspaces {
		if err := w.addWorkspace(ctx, n, o.repositories); err != nil {
			return nil, fmt.Errorf("workspace %d: %w", n+1, err)
		}
	}
	for _, name := range approverNames {
		p, err := stage.NewPerson(name, s.front.origin)
		if err != nil {
			return nil, err
		}
		if err := p.SignIn(ctx); err != nil {
			return nil, err
		}
		w.approvers = append(w.approvers, p)
	}
	return w, nil
}

func (w *world) addWorkspace(ctx context.Context, n, repositories int) error {
	slug, owner, author := fmt.Sprintf("workspace%d", n+1), fmt.Sprintf("owner%d", n+1), fmt.Sprintf("author%d", n+1)
	for _, name := range []string{owner, author} {
		if err := w.sim.control(ctx, "people", bitbucketsim.Person{Nickname: name}, nil); err != nil {
			return err
		}
	}
	members := append([]string{author, "wanda"}, approverNames...)
	if err := w.sim.control(ctx, "workspaces", bitbucketsim.Workspace{Slug: slug, Name: slug, Premium: true, Owners: []string{owner}, Members: members}, nil); err != nil {
		return err
	}
	token, err := w.sim.token(ctx, author)
	if err != nil {
		return err
	}
	w.owners = append(w.owners, owner)
	admin, err := stage.NewPerson(owner, w.front.origin)
	if err != nil {
		return err
	}
	rights := map[string]string{author: "write", "wanda": "read"}
	for _, name := range approverNames {
		rights[name] = "write"
	}
	var list []*repository
	for i := range repositories {
		r := &repository{fullName: fmt.Sprintf("%s/part%d", slug, i+1), owner: owner, author: author, token: token, all: map[int64]*change{}, rules: firstRules}
		_, name, _ := strings.Cut(r.fullName, "/")
		if err := w.sim.control(ctx, "repositories", bitbucketsim.Repository{Workspace: slug, Slug: name, Name: name, Permissions: rights}, nil); err != nil {
			return err
		}
		for _, branch := range []string{release, hotfix, ungated} {
			if err := w.sim.control(ctx, "commits", bitbucketsim.Push{Repository: r.fullName, Branch: branch, Person: owner}, nil); err != nil {
				return err
			}
		}
		list = append(list, r)
	}
	return errors.Join(admin.SignIn(ctx), w.gate(ctx, admin, list))
}

// gate connects the workspace and gates its repositories.
func (w *world) gate(ctx context.Context, admin *stage.Person, list []*repository) error {
	in, err := admin.Connect(ctx)
	if err != nil {
		return err
	}
	a := &administrator{person: admin, in: in, list: list}
	for _, r := range list {
		_, name, _ := strings.Cut(r.fullName, "/")
		if r.uuid, err = admin.Repository(ctx, in, r.fullName, name); err != nil {
			return err
		}
		r.workspace = in
		if err := a.save(ctx, r, firstRules); err != nil {
			return err
		}
		w.repositories = append(w.repositories, r)
	}
	w.admins = append(w.admins, a)
	return nil
}

// remotePullRequest is one as the API shows it.
type remotePullRequest struct {
	ID          int64
	State       string
	Draft       bool
	Destination struct{ Branch struct{ Name string } }
	Source      struct{ Commit struct{ Hash string } }
	ClosedBy    struct{ Nickname string } `json:"closed_by"`
}

// pullRequests lists those of a repository in these states.
func (w *world) pullRequests(ctx context.Context, fullName string, states ...string) (all []remotePullRequest, err error) {
	query := url.Values{"state": states, "pagelen": {"50"}}
	for page := 1; ; page++ {
		query.Set("page", fmt.Sprint(page))
		var list struct {
			Values []remotePullRequest
			Next   string
		}
		if err := w.sim.call(ctx, http.MethodGet, "/2.0/repositories/"+fullName+"/pullrequests?"+query.Encode(), w.watcher, nil, &list); err != nil {
			return nil, err
		}
		if all = append(all, list.Values...); list.Next == "" {
			return all, nil
		}
	}
}

// repositoryOf finds a repository by its UUID, with braces or without.
func (w *world) repositoryOf(id string) *repository {
	for _, r := range w.repositories {
		if bare(r.uuid) == bare(id) {
			return r
		}
	}
	return nil
}

// bare takes the braces off a UUID: Bitbucket has them, the database has not.
func bare(uuid string) string { return strings.Trim(uuid, "{}") }
