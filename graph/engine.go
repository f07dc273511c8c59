package graph

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"

	graphql "github.com/graph-gophers/graphql-go"
	gqlerrors "github.com/graph-gophers/graphql-go/errors"
	"github.com/vektah/gqlparser/v2/ast"
)

// maxOverlaps bounds how many pairs of fields the executor's validation compares.
const maxOverlaps = 200_000

// engine is the query gate and the executor behind it, both of the same SDL. The executor is reached
// through admit only.
type engine struct {
	contract *contract
	library  *library
	executor *graphql.Schema
}

// newEngine fails where the SDL, the resolvers and the registered operations do not fit together.
func newEngine(sdl []*ast.Source, resolvers any, registered []byte) (*engine, error) {
	contract, err := loadContract(sdl)
	if err != nil {
		return nil, err
	}
	library, err := newLibrary(contract.Schema, registered)
	if err != nil {
		return nil, err
	}
	texts := make([]string, 0, len(sdl))
	for _, source := range sdl {
		texts = append(texts, source.Input)
	}
	executor, err := graphql.ParseSchema(strings.Join(texts, "\n"), resolvers,
		graphql.UseStringDescriptions(), graphql.UseFieldResolvers(),
		// The gate is stricter in all of these; they stand behind it.
		graphql.MaxDepth(maxIntrospectionDepth+maxDepth), graphql.MaxSelections(2*maxSelections), graphql.OverlapValidationLimit(maxOverlaps),
		// Siblings of one page run at once; what they share is loaded by their parent.
		graphql.MaxParallelism(maxPage),
		// Events are executed one by one, each within its own deadline.
		graphql.SubscribeResolverTimeout(2*deadline),
		graphql.PanicHandler(panics{}), graphql.Logger(quiet{}))
	if err != nil {
		return nil, fmt.Errorf("graph: the resolvers do not fit the SDL: %w", err)
	}
	return &engine{contract: contract, library: library, executor: executor}, nil
}

// admit finds the document and decides whether it may run.
func (e *engine) admit(r *request, caller Caller, registeredOnly bool) (*admitted, *requestError) {
	document, no := e.library.find(r.Query, r.hash(), registeredOnly)
	if no != nil {
		return nil, no
	}
	return e.contract.admit(document, r.OperationName, r.Variables, caller)
}

// run executes an admitted operation once. For a subscription that is one event: the object as it is
// now, read and authorised anew.
func (e *engine) run(ctx context.Context, op *admitted) *graphql.Response {
	if op.kind != ast.Subscription {
		return e.executor.Exec(ctx, op.text, "", op.variables)
	}
	ctx, cancel := context.WithCancel(ctx) // ends the executor's goroutines on every way out
	defer cancel()
	responses, err := e.executor.Subscribe(ctx, op.text, "", op.variables)
	if err != nil {
		return &graphql.Response{Errors: []*gqlerrors.QueryError{gqlerrors.Errorf("%s", err)}}
	}
	if response, ok := (<-responses).(*graphql.Response); ok {
		return response
	}
	return &graphql.Response{Errors: []*gqlerrors.QueryError{gqlerrors.Errorf("the subscription gave no event")}}
}

// once is how a subscription's resolver hands over its event.
func once[T any](event T) <-chan T {
	c := make(chan T, 1)
	c <- event
	close(c)
	return c
}

// panics keeps what a resolver panicked with for the log; the caller learns nothing of it.
type panics struct{}

type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.value, e.stack) }

// MakePanicError is called by the executor in the panicking goroutine.
func (panics) MakePanicError(_ context.Context, value any) *gqlerrors.QueryError {
	return &gqlerrors.QueryError{Message: "panic", ResolverError: &panicError{value: value, stack: debug.Stack()}}
}

// quiet keeps the executor from logging panics itself: errors.go logs each failure once.
type quiet struct{}

// LogPanic does nothing.
func (quiet) LogPanic(context.Context, any) {}
