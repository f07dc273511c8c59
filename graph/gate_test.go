package graph

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	graphql "github.com/graph-gophers/graphql-go"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/signedapproval/bitbucket/server/people"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// probeSDL has what the product's SDL keeps away as well: defaults, a custom scalar in an input, oneOf.
// The gate must hold where a rule of the SDL is broken one day.
const probeSDL = `
directive @auth(callers: [CallerKind!]!, scope: TokenScope) on FIELD_DEFINITION
directive @cost(weight: Int!) on FIELD_DEFINITION
directive @listSize(assumedSize: Int, slicingArguments: [String!]) on FIELD_DEFINITION
enum CallerKind { ANONYMOUS SESSION TOKEN }
enum TokenScope { READ CONFIGURE }
enum Colour { RED BLUE }
scalar DateTime
input Pick @oneOf { a: String b: String }
input Patch { title: String due: DateTime count: Int tags: [String!] pick: Pick colour: Colour nested: Patch }
type Query {
  echo(text: String, n: Int, list: [String], must: [Int!], patch: Patch, colour: Colour, id: ID, pick: Pick): String!
  pages(first: Int = 20): Page! @cost(weight: 5) @listSize(assumedSize: 20, slicingArguments: ["first"])
  open: String! @auth(callers: [ANONYMOUS, SESSION, TOKEN])
  mine: String! @auth(callers: [SESSION, TOKEN], scope: READ)
  fails(how: String!): String
  secret: Thing @auth(callers: [SESSION, TOKEN])
  slow: String
}
type Thing { name: String! hidden: String! @auth(callers: [SESSION]) self: Thing }
type Page { edges: [Edge!]! }
type Edge { node: Node! }
type Node { name: String! more: [Node!]! @listSize(assumedSize: 10) up: Node }
type Mutation {
  change(input: Patch!): String! @auth(callers: [SESSION, TOKEN], scope: CONFIGURE)
  other(input: Patch!): String! @auth(callers: [SESSION])
}
type Subscription {
  ticks(label: String = "none"): Tick! @auth(callers: [SESSION, TOKEN], scope: READ)
}
type Tick { n: Int! label: String! }
`

// probe resolves probeSDL and remembers what reached it.
type probe struct {
	mu      sync.Mutex
	changes []string
	n       int32
	deny    bool
}

type probePatch struct {
	Title  graphql.NullString
	Due    *probeTime
	Count  graphql.NullInt
	Tags   *[]string
	Pick   *probePick
	Colour *string
	Nested *probePatch
}

type probePick struct{ A, B *string }

type probeTime struct{ time.Time }

func (probeTime) ImplementsGraphQLType(name string) bool { return name == "DateTime" }
func (t *probeTime) UnmarshalGraphQL(input any) error {
	text, ok := input.(string)
	if !ok {
		return errors.New("not a text")
	}
	var err error
	t.Time, err = time.Parse(time.RFC3339, text)
	return err
}

type probeArgs struct {
	Text   graphql.NullString
	N      graphql.NullInt
	List   *[]*string
	Must   *[]int32
	Patch  *probePatch
	Colour *string
	ID     *graphql.ID
	Pick   *probePick
}

// Echo tells what the executor handed over, absent and null apart.
func (p *probe) Echo(args probeArgs) string {
	var out []string
	if args.Text.Set {
		out = append(out, "text="+deref(args.Text.Value))
	}
	if args.N.Set && args.N.Value != nil {
		out = append(out, "n="+jsonOf(*args.N.Value))
	}
	if args.List != nil {
		out = append(out, "list="+jsonOf(*args.List))
	}
	if args.Must != nil {
		out = append(out, "must="+jsonOf(*args.Must))
	}
	if args.Patch != nil {
		out = append(out, "title set="+jsonOf(args.Patch.Title.Set))
	}
	if args.Colour != nil {
		out = append(out, "colour="+*args.Colour)
	}
	if args.ID != nil {
		out = append(out, "id="+string(*args.ID))
	}
	return strings.Join(out, " ")
}

func deref(s *string) string {
	if s == nil {
		return "null"
	}
	return *s
}

func jsonOf(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

type (
	probePage struct{ Edges []probeEdge }
	probeEdge struct{ Node *probeNode }
	probeNode struct {
		Name string
		More []*probeNode
		Up   *probeNode
	}
	probeThing struct {
		Name, Hidden string
		Self         *probeThing
	}
	probeTick struct {
		N     int32
		Label string
	}
)

func (p *probe) Pages(args struct{ First int32 }) probePage {
	var page probePage
	for range args.First {
		page.Edges = append(page.Edges, probeEdge{Node: &probeNode{Name: "x"}})
	}
	return page
}
func (p *probe) Open() string                     { return "open" }
func (p *probe) Mine(ctx context.Context) string  { return string(callerOf(ctx).Kind) }
func (p *probe) Secret() *probeThing              { return &probeThing{Name: "n", Hidden: "h"} }
func (p *probe) Slow(ctx context.Context) *string { <-ctx.Done(); return nil }
func (p *probe) Fails(args struct{ How string }) (*string, error) {
	switch args.How {
	case "refusal":
		return nil, refusal.New(refusal.Busy, "Try again.").Because(errors.New("password=hunter2"))
	case "panic":
		panic("password=hunter2")
	}
	return nil, errors.New("password=hunter2")
}

func (p *probe) Change(args struct{ Input probePatch }) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changes = append(p.changes, "change")
	return "title set=" + jsonOf(args.Input.Title.Set)
}
func (p *probe) Other(struct{ Input probePatch }) string { return "other" }

func (p *probe) Ticks(ctx context.Context, args struct{ Label string }) (<-chan probeTick, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.deny {
		return nil, refusal.New(refusal.NotFound, "There is no such thing.")
	}
	return once(probeTick{N: p.n, Label: args.Label}), nil
}

func (p *probe) set(n int32) { p.mu.Lock(); p.n = n; p.mu.Unlock() }

func (p *probe) version(context.Context) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return jsonOf(p.n) + jsonOf(p.deny), nil
}

// bench is a handler over probeSDL.
type bench struct {
	*Handler
	probe  *probe
	bell   *bell
	log    *bytes.Buffer
	caller Caller
	mu     sync.Mutex
}

func (b *bench) become(caller Caller) { b.mu.Lock(); b.caller = caller; b.mu.Unlock() }

var (
	nobody   = Caller{Kind: Anonymous}
	somebody = Caller{Kind: Session, Person: &store.Person{ID: "p1"}}
)

func script(scopes ...string) Caller {
	return Caller{Kind: Token, Person: &store.Person{ID: "p1"}, Token: &people.Token{ID: "t1", Workspace: "w1", Scopes: scopes}}
}

// bell rings all who listen to a topic.
type bell struct {
	mu        sync.Mutex
	listeners map[chan struct{}]string
}

func (b *bell) subscribe(topic string) (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.listeners[c] = topic
	return c, func() { b.mu.Lock(); delete(b.listeners, c); b.mu.Unlock() }
}

func (b *bell) ring(topic string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c, t := range b.listeners {
		if t == topic {
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}
}

func (b *bell) count() int { b.mu.Lock(); defer b.mu.Unlock(); return len(b.listeners) }

func newBench(t *testing.T, registered string, registeredOnly bool) *bench {
	t.Helper()
	p := &probe{}
	e, err := newEngine([]*ast.Source{{Name: "probe", Input: probeSDL}}, p, []byte(registered))
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{probe: p, bell: &bell{listeners: make(map[chan struct{}]string)}, log: &bytes.Buffer{}, caller: somebody}
	b.Handler, err = newHandler(e, Options{
		Identify:       func(*http.Request) (Caller, error) { b.mu.Lock(); defer b.mu.Unlock(); return b.caller, nil },
		RegisteredOnly: registeredOnly,
		Log:            slog.New(slog.NewTextHandler(&lockedWriter{out: b.log}, nil)),
	}, topics{
		of:        func(Caller, *admitted) (topic, error) { return topic{name: "ticks", version: p.version}, nil },
		subscribe: b.bell.subscribe,
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type lockedWriter struct {
	mu  sync.Mutex
	out io.Writer
}

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Write(p)
}

// reply is an answer as a client sees it.
type reply struct {
	status int
	header http.Header
	body   string
	Data   map[string]any `json:"data"`
	Errors []struct {
		Message    string         `json:"message"`
		Path       []any          `json:"path"`
		Extensions map[string]any `json:"extensions"`
	} `json:"errors"`
}

func (r reply) code() string {
	if len(r.Errors) == 0 {
		return ""
	}
	code, _ := r.Errors[0].Extensions["code"].(string)
	return code
}

func (b *bench) ask(t *testing.T, query string, variables string) reply {
	t.Helper()
	body := map[string]any{"query": query}
	if variables != "" {
		body["variables"] = json.RawMessage(variables)
	}
	return b.post(t, jsonOf(body), nil)
}

func (b *bench) post(t *testing.T, body string, change func(*http.Request)) reply {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/graphql", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r)
	got := reply{status: w.Code, header: w.Header(), body: w.Body.String()}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatalf("the answer is no JSON: %v: %s", err, w.Body)
	}
	return got
}
