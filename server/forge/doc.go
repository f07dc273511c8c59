// Package forge is the door for Forge: it proves by the invocation token that a call is Atlassian's,
// for this app and made by the right module, and takes in events, the life of the installation, the
// hourly call, and the merge check.
//
// Events are treated as webhooks are: of a body it is believed only what is to be looked at again. The
// other calls are handed to the use case that answers them.
package forge
