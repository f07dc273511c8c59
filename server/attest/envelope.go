package attest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"github.com/gowebpki/jcs"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/signedapproval/bitbucket/server/approval"
)

const (
	// PayloadType is the type of every envelope.
	PayloadType = "application/vnd.in-toto+json"
	// StatementType is the type of every payload.
	StatementType = "https://in-toto.io/Statement/v1"
	// MaxEnvelope is the longest envelope that is read, in bytes.
	MaxEnvelope = 4 << 20
)

// Digest is a SHA-256 hash as 64 lower-case hexadecimal digits.
type Digest = approval.Digest

// Statement is an in-toto statement about one subject.
type Statement[P any] struct {
	Type          string    `json:"_type"`
	Subject       []Subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     P         `json:"predicate"`
}

// Subject is what a statement is about.
type Subject struct {
	// Name is absent for a commit.
	Name string `json:"name,omitempty"`
	// URI is for people; absent for what is no commit.
	URI string `json:"uri,omitempty"`
	// Digest has the one name gitCommit or sha256.
	Digest map[string]string `json:"digest"`
	// Annotations has at most the name source_refs.
	Annotations map[string][]string `json:"annotations,omitempty"`
}

// canonical gives the RFC 8785 form of v.
func canonical(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return jcs.Transform(data)
}

// sign puts a statement into an envelope, signed by all keys.
func sign(ctx context.Context, k *Keys, statement any) ([]byte, error) {
	payload, err := canonical(statement)
	if err != nil {
		return nil, err
	}
	signers := make([]dsse.Signer, len(k.private))
	for i, key := range k.private {
		signers[i] = signer{key}
	}
	envelope, err := dsse.NewEnvelopeSigner(signers...)
	if err != nil {
		return nil, err
	}
	signed, err := envelope.SignPayload(ctx, PayloadType, payload)
	if err != nil {
		return nil, err
	}
	return json.Marshal(signed)
}

// Open gives the payload of an envelope that at least one of the keys has signed, and that is of
// [PayloadType].
func Open(ctx context.Context, envelope []byte, keys []Verifier) ([]byte, error) {
	if len(envelope) > MaxEnvelope {
		return nil, fmt.Errorf("an envelope has at most %d bytes", MaxEnvelope)
	}
	if approval.TooDeep(envelope) {
		return nil, fmt.Errorf("it is nested more than %d levels deep", approval.MaxDepth)
	}
	if _, err := jcs.Transform(envelope); err != nil { // names that are there twice, and what is not UTF-8
		return nil, errors.New("it is not a JSON document without ambiguity")
	}
	var e dsse.Envelope
	if err := json.Unmarshal(envelope, &e); err != nil {
		return nil, errors.New("it is not a DSSE envelope")
	}
	if e.PayloadType != PayloadType {
		return nil, fmt.Errorf("the payload must be of type %s", PayloadType)
	}
	verifiers := make([]dsse.Verifier, len(keys))
	for i, key := range keys {
		verifiers[i] = key
	}
	verifier, err := dsse.NewEnvelopeVerifier(verifiers...)
	if err != nil {
		return nil, errors.New("there is no key to verify with")
	}
	if _, payload, err := verifier.VerifyAndDecode(ctx, &e); err == nil {
		return payload, nil
	}
	return nil, errors.New("no signature is by a key that is known")
}

// open reads a statement of one predicate type out of an envelope.
func open[P any](ctx context.Context, envelope []byte, keys []Verifier, predicateType string) (s Statement[P], err error) {
	payload, err := Open(ctx, envelope, keys)
	if err != nil {
		return s, err
	}
	if approval.TooDeep(payload) {
		return s, fmt.Errorf("the payload is nested more than %d levels deep", approval.MaxDepth)
	}
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&s); err != nil {
		return s, fmt.Errorf("the payload is not a statement of this kind: %w", err)
	}
	if again, err := canonical(s); err != nil || !bytes.Equal(again, payload) {
		return s, errors.New("the payload is not the statement's one form")
	}
	if s.Type != StatementType || s.PredicateType != predicateType || len(s.Subject) != 1 {
		return s, fmt.Errorf("the payload is not a statement of type %s about one subject", predicateType)
	}
	return s, nil
}

var commitForm = regexp.MustCompile(`^[0-9a-f]{40}$`)
