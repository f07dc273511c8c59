// Package passkey holds the WebAuthn ceremonies: enrolling a key, and asking
// for a signature over a statement. It prepares the options for the browser and
// reads the browser's answers. Whether an assertion counts is decided by
// [evidence.VerifyAssertion] alone; this package only hands it over.
//
// Nothing is stored here. A registration's session is returned to the caller,
// who keeps it on the server and uses it once.
package passkey
