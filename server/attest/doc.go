// Package attest makes and reads what the service says in its own name: attestations about one commit,
// and the summary of an audit. They are in-toto statements in DSSE envelopes, signed by the attestation key.
// ATTESTATIONS.md beside this file is the normative text.
//
// An attestation is the service's word, made for tools that read in-toto; the proof is the evidence bundle
// that it names. The attestation key is never a key of the log, and never one of an approver.
//
// The package is pure: it does no I/O and reads no clock.
package attest
