// Package graph is the product's one API: GraphQL over POST /graphql, with subscriptions by
// server-sent events.
//
// A request passes five stations, each in a file of its own:
//
//  1. request.go reads it: JSON only, bounded, one operation.
//  2. document.go turns its text, or the hash of a registered operation, into a valid document.
//  3. admission.go decides on the document alone whether it may run: the kind of the operation, who
//     may ask for each field, depth and cost; values.go checks every value strictly.
//  4. The executor (graph.go) runs what admission.go wrote: never the caller's text, but one operation
//     with every fragment in place, every value checked and no variable left open. This is also what
//     keeps the executor's own ways with omitted variables, defaults and bad scalars out of reach.
//  5. errors.go writes the answer: a refusal with its code, everything else masked.
//
// Between the third and the fourth an operation waits for its turn (places.go): callers take turns, one caller and one
// workspace cannot have all places, and who waits in vain is told TOO_MANY_REQUESTS where its own operations are the
// reason, else OVERLOADED. So is each event of a subscription. What a caller may ask for in a time, and how many
// subscriptions it may hold open, is in rate.go.
//
// The resolvers authorise and map; what they call is in server/gate, server/workspace and
// server/people. There is one file for each noun, as in schema/.
package graph
