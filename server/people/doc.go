// Package people holds the use cases of a person: signing in with Bitbucket, sessions, passkeys, API
// tokens and the inbox.
//
// What it promises:
//
//   - A cookie's value and a token's text are random and stored nowhere: only their SHA-256 is.
//   - Signing in makes a new session and ends the one that began it, so a cookie that somebody planted
//     is worth nothing afterwards.
//   - What signing in brings is an identity and nothing else: Bitbucket's tokens are dropped at once.
//   - Neither a session nor an API token can make a decision: only an enrolled key can.
//
// What the caller did wrong, and what it may not see, is a [refusal.Error]; every other error is
// internal.
package people
