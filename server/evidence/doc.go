// Package evidence holds what is signed and how it is checked: the statement
// that an approver's authenticator signs, the check of that assertion, the
// leaves of the log, and the bundle that proves one verdict to a stranger.
// FORMAT.md beside this file is the normative text.
//
// The package is pure: it does no I/O, reads no clock and asks nobody. The
// server, the command line and any other verifier run the same code, so that
// nothing is accepted here that is refused there. [VerifyAssertion] is the only
// verifier of decisions.
//
// Every document has exactly one form, its RFC 8785 canonical JSON: whatever
// parses would be written again as the same bytes.
package evidence
