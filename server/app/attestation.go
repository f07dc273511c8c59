package app

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/signedapproval/bitbucket/server/attest"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/witness"
)

// codeNoAttestationKey says that this server was given no key to attest with.
const codeNoAttestationKey = "NO_ATTESTATION_KEY"

func noAttestationKey() error {
	return refusal.New(codeNoAttestationKey, "This server attests nothing: its operator gave it no attestation key.")
}

// attestationKeys announces the public keys that sign attestations, in PEM.
func (s *Server) attestationKeys(w http.ResponseWriter, r *http.Request) {
	if s.attesting == nil {
		s.fail(w, r, noAttestationKey())
		return
	}
	var text []byte
	for _, key := range s.attesting.Verifiers() {
		public, err := key.PEM()
		if err != nil {
			s.fail(w, r, err)
			return
		}
		text = append(text, public...)
	}
	// They are for everybody, as the log's are.
	w.Header().Set("Access-Control-Allow-Origin", "*")
	w.Header().Set("Cross-Origin-Resource-Policy", "cross-origin")
	w.Header().Set("Content-Type", "application/x-pem-file")
	_, _ = w.Write(text)
}

// attestation attests a commit to whoever may take its evidence.
func (s *Server) attestation(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), evidenceTime)
	defer cancel()
	r = r.WithContext(ctx)
	person, ok := s.taker(w, r, r.PathValue("workspace"))
	if !ok {
		return
	}
	ctx = bitbucket.AskedBy(ctx, person.ID)
	if s.attesting == nil {
		s.fail(w, r, noAttestationKey())
		return
	}
	signs := map[string]func(context.Context, *attest.Keys, attest.Review) ([]byte, error){"vsa": attest.SignSummary, "review": attest.SignReview}[r.URL.Query().Get("predicate")]
	if signs == nil {
		s.fail(w, r, refusal.New(refusal.BadInput, "Say by ?predicate=vsa or ?predicate=review what is attested.").At("predicate"))
		return
	}
	review, err := s.gate.Review(ctx, person, r.PathValue("workspace"), r.PathValue("commit"), scope(r), s.config.BitbucketWeb)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	envelope, err := signs(ctx, s.attesting, review)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/vnd.dsse.envelope.v1+json")
	_, _ = w.Write(envelope)
}

type attestationCommand struct {
	NewKey attestationNewKeyCommand `cmd:"" help:"Make a key that signs attestations: print the private key, and the public one to the error output."`
}

type attestationNewKeyCommand struct{}

// Run prints a private key, which is a secret, apart from its public key, which is not.
func (attestationNewKeyCommand) Run(s streams) error {
	private, public, err := attest.NewKey()
	if err != nil {
		return err
	}
	if _, err := s.out.Write(private); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.err, "%s", public)
	return err
}

// ReadAttestationKeys gives the keys that sign attestations; nil where there are none. None of them may sign the
// log: what is signed as an attestation must never be taken for a checkpoint.
func (c *Config) ReadAttestationKeys(logKeys *witness.Keys) (*attest.Keys, error) {
	text := []byte(c.AttestationKey)
	switch {
	case c.AttestationKeyFile != "":
		var err error
		if text, err = os.ReadFile(c.AttestationKeyFile); err != nil {
			return nil, fmt.Errorf("attestation key: %w", err)
		}
	case c.AttestationKey == "":
		return nil, nil //nolint:nilnil // no keys is a configuration, and not a fault
	}
	keys, err := attest.ParseKeys(text)
	if err != nil {
		return nil, err
	}
	for _, key := range keys.Verifiers() {
		for _, verifier := range logKeys.Verifiers() {
			if signsLog(key, verifier) {
				return nil, errors.New("a key of the log cannot sign attestations: `signedapproval attestation new-key` makes one of their own")
			}
		}
	}
	return keys, nil
}

// signsLog tells whether a verifier key of signed notes, name+hash+key, has the same Ed25519 key.
func signsLog(key attest.Verifier, verifier string) bool {
	parts := strings.SplitN(verifier, "+", 3) // base64 has plus signs too
	if len(parts) != 3 {
		return false
	}
	raw, err := base64.StdEncoding.DecodeString(parts[2])
	return err == nil && len(raw) > 1 && bytes.Equal(raw[1:], key)
}
