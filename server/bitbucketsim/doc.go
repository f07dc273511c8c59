// Package bitbucketsim is a Bitbucket Cloud held in memory, for tests and the demonstration.
//
// One origin serves four faces:
//
//   - REST 2.0 under /2.0/, with Bitbucket's scopes, permissions, error bodies, pagination and rate limits;
//   - OAuth 2.0 under /site/oauth2/, with a consent page on which the visitor chooses who they are;
//   - plain HTML pages of repositories and pull requests, where a person logs in by choosing a name;
//   - a control door under /sim/, by which tests and the demonstration create people, push commits, inject
//     faults and read what was called and delivered. Real Bitbucket has nothing like it, and neither should
//     any code under test use it.
//
// Repositories hold real content: blobs, trees and commits are hashed as git hashes them, diffs are genuine
// git diffs, and merges make commits. Webhooks leave signed and are retried as Bitbucket documents it.
//
// Where Bitbucket's behaviour is not documented, the Sim had to choose: a merge that checks forbid is refused with
// 400 and one that a branch restriction forbids with 403; overwriting another's build status is refused with 403;
// STOPPED counts neither as a success nor as a failure. What it knowingly does otherwise: webhooks may go to
// addresses that are not public, there is no git transport (the control door pushes), groups of a branch
// restriction are kept but mean nothing, and the strategies that squash or rebase before a fast-forward are not
// offered.
//
// The package imports nothing else of this module, so that it cannot repeat the product's own mistakes; what
// it answers is checked against Bitbucket's published OpenAPI document, against recorded answers, and by a
// client that others wrote. Everything is lost when the process ends.
package bitbucketsim
