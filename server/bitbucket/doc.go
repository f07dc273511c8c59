// Package bitbucket is the client of Bitbucket Cloud: its REST API 2.0 and its
// OAuth 2.0 provider. It speaks Bitbucket's words and knows nothing of
// approvals: it reads and writes what it is told and says plainly how a call
// ended.
//
// An [API] is built once per process. [API.As] binds it to one credential and
// one class of the call budget; the [Client] it returns is cheap, holds the
// access token in memory only, and is safe for concurrent use.
//
// What every call has in common:
//
//   - A deadline: Config.Timeout for one HTTP exchange, body included, or the
//     caller's context if that ends earlier.
//   - A budget: Config.Reserve is asked before each HTTP exchange, so each page
//     of a list and each followed redirect counts.
//   - An error of type *[Error], with its class: [Transient] may succeed when it
//     is repeated later, [Permanent] will not. There are no retries in here; the
//     queue owns them. A write that ended in a transient error may have happened.
//   - Credentials go to the origin (scheme, host, port) of Config.BaseURL and
//     nowhere else. A redirect or a "next" link that leads elsewhere ends the
//     call with [ErrForeignOrigin]; it is not followed.
//   - Workspaces and repositories are named by UUID (bare or in braces) or slug.
//     Callers should use UUIDs, which survive renames and transfers.
//     All UUIDs that the package returns are bare and in lower case.
//   - Commit hashes inside pull requests have 12 characters and are called
//     prefixes. [Client.ResolveCommit] turns one into the full hash.
package bitbucket
