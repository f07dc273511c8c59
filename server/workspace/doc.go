// Package workspace holds the use cases of a workspace's administrator: connecting a Bitbucket
// workspace with OAuth, keeping the connection alive, saying who may do what in it, choosing
// repositories and their rules, and ending all of that again.
//
// What it promises:
//
//   - Rights are Bitbucket's. Every change reads the caller's right anew and fails closed where that
//     is not possible; reading believes an answer for at most five minutes.
//   - A refresh token is spent by one holder of the lease at a time, and the pair that it brings is
//     stored before anybody uses it.
//   - A gate that is not confirmed to work says so: a repository is in ATTENTION from the moment it
//     is saved until Bitbucket confirmed its webhook.
//   - No transaction is open while the network is asked.
//
// What the caller did wrong, and what it may not see, is a [refusal.Error]; every other error is
// internal.
package workspace
