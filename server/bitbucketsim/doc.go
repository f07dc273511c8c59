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
// The Sim also plays Forge. [Sim.RegisterForgeApp] deploys an app from its rendered manifest.yml; an administrator
// installs it, by [Sim.InstallForgeApp] or on the page "Installed apps" of the workspace:
//
//	app, err := sim.RegisterForgeApp(bitbucketsim.ForgeApp{Manifest: "manifest.yml", RemoteURL: "http://localhost:8080"})
//	inst, err := sim.InstallForgeApp(bitbucketsim.ForgeChange{Workspace: "acme", Person: "alice"})
//
// From then on the app's remote is told of everything that happens in the workspace, with Forge Invocation Tokens whose
// keys are published at [JWKSPath] and with OAuth tokens for the REST API of the Sim itself; scheduled triggers run,
// custom merge checks are asked, and the app's pages stand in frames, with the bridge that @forge/bridge expects.
// The pages come from a second listener, each app under a name of its own below cdn.localhost, so that browsers take
// them for another site, as they take Atlassian's content network.
//
// Where Bitbucket's behaviour is not documented, the Sim had to choose: a merge that checks forbid is refused with
// 400 and one that a branch restriction forbids with 403; overwriting another's build status is refused with 403;
// STOPPED counts neither as a success nor as a failure. Of Forge: an operation that apps may not call is refused with
// 403; a merge check has five seconds, as an event has, and is asked when a pull request is opened as well; a required
// check before the merge blocks until it has passed; a pull request that moved while its checks were asked is refused
// with 409; uninstalling takes the app's merge checks away; the app's own account may do in its workspace what its
// scopes allow, and is no administrator where a status of another is overwritten; a schedule runs first one interval
// after the installation; the extension's context of a pull request is {type, repository.uuid, pullRequest.id}. What it knowingly does otherwise: webhooks may go to
// addresses that are not public, there is no git transport (the control door pushes), groups of a branch
// restriction are kept but mean nothing, the strategies squash_fast_forward and rebase_merge are not carried out,
// and rebase_fast_forward, which the API's document does not list, is offered only where a repository is given it. There are no functions, storage, modals, browser history or product calls for Forge apps, no licences, and
// pages in UI Kit are not rendered.
//
// The package imports nothing else of this module, so that it cannot repeat the product's own mistakes; what
// it answers is checked against Bitbucket's published OpenAPI document, against recorded answers, and by a
// client that others wrote. Everything is lost when the process ends.
package bitbucketsim
