package witness

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

const (
	// kmsTime is how long one call to a key management service takes at most.
	kmsTime = 3 * time.Second
	// kmsVersions is how many versions of a key sign at most.
	kmsVersions = 4
	// kmsAnswer bounds an answer, in bytes. A key with its versions takes some 200 bytes for each of them.
	kmsAnswer = 256 << 10
)

// OpenKMS gives the versions of an Ed25519 key that never leaves the transit engine of HashiCorp Vault, or of what speaks
// its HTTP API, as keys of the log named origin. address is the key's, such as
// https://vault.example/v1/transit/keys/log; tokenFile holds the token, and is read at each call, so that
// an agent may renew it. Every version from the key's least one for signing and decryption on signs, so a
// rotation there announces both keys once the servers are started again. No error quotes the token or
// an answer.
func OpenKMS(ctx context.Context, origin, address, tokenFile string) (*Keys, error) {
	if err := named(origin); err != nil {
		return nil, err
	}
	at, err := url.Parse(address)
	if err != nil || !safe(at) || at.RawQuery != "" {
		return nil, errors.New("log key: the address of a key must be https, such as https://vault.example/v1/transit/keys/log")
	}
	mount, name, ok := cutLast(at.Path, "/keys/")
	if !ok || name == "" || strings.Contains(name, "/") {
		return nil, errors.New("log key: the address of a key ends in /keys/ and its name, such as https://vault.example/v1/transit/keys/log")
	}
	signing := *at
	signing.Path, signing.RawPath = mount+"/sign/"+name, ""
	kms := &kms{sign: signing.String(), tokenFile: tokenFile, client: client(kmsTime)}

	var answer struct {
		Data struct {
			Type       string `json:"type"`
			Derived    bool   `json:"derived"`
			Latest     int    `json:"latest_version"`
			Decryption int    `json:"min_decryption_version"`
			Encryption int    `json:"min_encryption_version"`
			Keys       map[string]struct {
				Public string `json:"public_key"`
			} `json:"keys"`
		} `json:"data"`
	}
	if err := kms.call(ctx, http.MethodGet, at.String(), nil, &answer); err != nil {
		return nil, fmt.Errorf("log key: read it: %w", err)
	}
	key := answer.Data
	if key.Type != "ed25519" || key.Derived {
		return nil, fmt.Errorf("log key: it must be of the type ed25519 and not derived, and it is of the type %.20q", key.Type)
	}
	first := max(1, key.Decryption, key.Encryption)
	if key.Latest < first || key.Latest-first >= kmsVersions {
		return nil, fmt.Errorf("log key: its versions %d to %d would sign, and at most %d may: raise its min_decryption_version", first, key.Latest, kmsVersions)
	}
	keys := &Keys{origin: origin}
	for version := first; version <= key.Latest; version++ {
		public, err := base64.StdEncoding.DecodeString(key.Keys[strconv.Itoa(version)].Public)
		if err != nil || len(public) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("log key: its version %d has no public key", version)
		}
		text, err := note.NewEd25519VerifierKey(origin, public)
		if err != nil {
			return nil, fmt.Errorf("log key: its version %d: %w", version, err)
		}
		verifier, err := note.NewVerifier(text)
		if err != nil {
			return nil, fmt.Errorf("log key: its version %d: %w", version, err)
		}
		keys.signers, keys.verifiers = append(keys.signers, &kmsSigner{kms, verifier, version}), append(keys.verifiers, text)
	}
	return keys, nil
}

// cutLast cuts a text around the last separator.
func cutLast(text, separator string) (before, after string, found bool) {
	i := strings.LastIndex(text, separator)
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+len(separator):], true
}

// kms calls a key management service.
type kms struct {
	sign, tokenFile string
	client          *http.Client
}

func (k *kms) call(ctx context.Context, method, address string, question, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, kmsTime)
	defer cancel()
	token, err := os.ReadFile(k.tokenFile)
	if err != nil {
		return err
	}
	var body io.Reader
	if question != nil {
		encoded, err := json.Marshal(question)
		if err != nil {
			return err
		}
		body = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return errors.New("its address cannot be called")
	}
	request.Header.Set("X-Vault-Token", strings.TrimSpace(string(token)))
	request.Header.Set("X-Vault-Request", "true")
	response, err := k.client.Do(request)
	if err != nil {
		return away(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the key management service answered %d", response.StatusCode)
	}
	raw, err := io.ReadAll(io.LimitReader(response.Body, kmsAnswer+1))
	if err != nil {
		return away(err)
	}
	if len(raw) > kmsAnswer || json.Unmarshal(raw, answer) != nil {
		return errors.New("the key management service answered what is no answer")
	}
	return nil
}

// kmsSigner signs with one version of a key.
type kmsSigner struct {
	*kms
	note.Verifier
	version int
}

// Sign has a message signed, and looks at what came back.
func (s *kmsSigner) Sign(message []byte) ([]byte, error) {
	question := struct {
		Input   string `json:"input"`
		Version int    `json:"key_version"`
	}{base64.StdEncoding.EncodeToString(message), s.version}
	var answer struct {
		Data struct {
			Signature string `json:"signature"`
		} `json:"data"`
	}
	// The interface of signers of notes knows no context; call sets a deadline.
	if err := s.call(context.Background(), http.MethodPost, s.sign, question, &answer); err != nil {
		return nil, fmt.Errorf("log key: sign with its version %d: %w", s.version, err)
	}
	encoded, ok := strings.CutPrefix(answer.Data.Signature, fmt.Sprintf("vault:v%d:", s.version))
	signature, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || !s.Verify(message, signature) {
		return nil, fmt.Errorf("log key: sign with its version %d: what came back is no signature by that key", s.version)
	}
	return signature, nil
}
