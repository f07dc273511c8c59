package graph

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	graphql "github.com/graph-gophers/graphql-go"

	"github.com/signedapproval/bitbucket/server/gate"
	"github.com/signedapproval/bitbucket/server/people"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/workspace"
)

// Options is what a Handler needs. All fields are required but those that say so.
type Options struct {
	Gate       *gate.Gate
	Workspaces *workspace.Workspaces
	People     *people.People
	// Identify makes out the caller by cookie or bearer token. A refusal in its error's chain is told
	// to the caller with status 401; a request that shows neither is anonymous, not an error. It is
	// called again for every event of a stream.
	Identify func(*http.Request) (Caller, error)
	// Subscribe listens to a topic that the store touches. The channel may drop rings but the last.
	Subscribe func(topic string) (rings <-chan struct{}, cancel func())
	// Registered holds the operations of our own pages, as the front end's code generation writes
	// them: a JSON object of hex SHA-256 to text. Optional.
	Registered []byte
	// RegisteredOnly lets nobody but API tokens send other operations than the registered ones.
	RegisteredOnly bool
	// Allow is asked whether a caller may spend so many points, where replicas count together.
	// Optional; each replica counts for itself anyway.
	Allow func(ctx context.Context, caller string, points int) bool
	// Waited is told how each operation, and each event of a stream, waited for its turn: served, crowded (the caller had
	// all that it may have), overload (others had) or gone. Optional.
	Waited func(outcome string, took time.Duration)
	// BitbucketWeb is where people find Bitbucket, without a slash at the end. Optional:
	// https://bitbucket.org.
	BitbucketWeb string
	// Log is optional: slog's default.
	Log *slog.Logger
}

// resolver is the root of everything that can be asked for.
type resolver struct {
	gate         *gate.Gate
	workspaces   *workspace.Workspaces
	people       *people.People
	bitbucketWeb string
}

// New makes the handler of POST /graphql. It fails where the SDL, the resolvers and the registered
// operations do not fit together.
func New(o Options) (*Handler, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.BitbucketWeb == "" {
		o.BitbucketWeb = "https://bitbucket.org"
	}
	all, err := sources()
	if err != nil {
		return nil, err
	}
	r := &resolver{gate: o.Gate, workspaces: o.Workspaces, people: o.People, bitbucketWeb: strings.TrimSuffix(o.BitbucketWeb, "/")}
	e, err := newEngine(all, r, o.Registered)
	if err != nil {
		return nil, err
	}
	return newHandler(e, o, topics{of: r.topicOf, subscribe: o.Subscribe})
}

func newHandler(e *engine, o Options, t topics) (*Handler, error) {
	meter, err := newMeter()
	if err != nil {
		return nil, err
	}
	return &Handler{
		engine: e, identify: o.Identify, registeredOnly: o.RegisteredOnly, allow: o.Allow, topics: t, log: o.Log, pace: usualPace,
		meter: meter, places: newPlaces(o.Waited), closing: make(chan struct{}),
	}, nil
}

// topicOf says what a subscription listens to. What the caller may see is decided by each event.
func (r *resolver) topicOf(caller Caller, op *admitted) (topic, error) {
	switch op.root {
	case "pullRequestChanged":
		id, _ := op.arguments["id"].(string)
		a, err := find(withCaller(context.Background(), caller), kindPullRequest, graphql.ID(id))
		if err != nil {
			return topic{}, err
		}
		return topic{name: "pr:" + a.id, version: func(ctx context.Context) (string, error) {
			version, err := r.gate.Version(ctx, viewerOf(ctx), a.workspace, a.id)
			return strconv.FormatInt(version, 10), err
		}}, nil
	case "inboxChanged":
		return topic{name: "inbox:" + caller.Person.ID, version: func(ctx context.Context) (string, error) {
			notices, _, err := r.people.Notices(ctx, viewerOf(ctx), caller.bound(), store.Page{First: 1})
			if err != nil || len(notices) == 0 {
				return "", err
			}
			unread, err := r.people.UnreadNotices(ctx, viewerOf(ctx), caller.bound())
			return notices[0].ID + ":" + strconv.Itoa(unread), err
		}}, nil
	}
	return topic{}, fmt.Errorf("graph: subscription %s listens to nothing", op.root)
}
