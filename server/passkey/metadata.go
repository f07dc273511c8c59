package passkey

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/go-webauthn/webauthn/metadata"
	"github.com/golang-jwt/jwt/v5"

	"github.com/signedapproval/bitbucket/server/evidence"
)

// MaxMetadata is the limit of a BLOB in bytes.
const MaxMetadata = 64 << 20

// Metadata is a BLOB of the FIDO Metadata Service whose signature was checked.
type Metadata struct {
	// Number is its serial number.
	Number int64

	nextUpdate time.Time // the day, in UTC, by which there would be a later one
	entries    []metadata.EntryJSON
}

// ReadMetadata reads a BLOB (FIDO Metadata Service 3, section 3.1.7): a JWT whose
// certificates chain to the root and begin with one that is issued for the signer; an
// empty one lets any be. A BLOB whose day of replacement is over is refused unless it may
// be stale: then its certificates are judged as on that day. Nothing is fetched, so nobody
// is asked whether a certificate was revoked meanwhile.
func ReadMetadata(blob []byte, root *x509.Certificate, signer string, now time.Time, stale bool) (*Metadata, error) {
	if len(blob) > MaxMetadata {
		return nil, fmt.Errorf("metadata: more than %d bytes", MaxMetadata)
	}
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"ES256", "ES384", "RS256", "PS256"}), jwt.WithoutClaimsValidation())
	var (
		payload metadata.PayloadJSON
		next    time.Time
	)
	_, err := parser.ParseWithClaims(string(bytes.TrimSpace(blob)), &blobClaims{&payload}, func(token *jwt.Token) (any, error) {
		var err error // the payload was read, and its signature comes next
		if next, err = time.Parse(time.DateOnly, payload.NextUpdate); err != nil || payload.Number < 1 {
			return nil, errors.New("no number, or no date of the next update")
		}
		if now.Before(next.AddDate(0, 0, 1)) {
			return signingKey(token.Header["x5c"], root, signer, now)
		}
		if !stale {
			return nil, fmt.Errorf("it should have been replaced by %s", payload.NextUpdate)
		}
		return signingKey(token.Header["x5c"], root, signer, next)
	})
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	return &Metadata{Number: int64(payload.Number), nextUpdate: next, entries: payload.Entries}, nil
}

// blobClaims is the payload of a BLOB, which has none of the registered claims.
type blobClaims struct{ payload *metadata.PayloadJSON }

func (c *blobClaims) UnmarshalJSON(data []byte) error                   { return json.Unmarshal(data, c.payload) }
func (c *blobClaims) GetExpirationTime() (*jwt.NumericDate, error)      { return nil, nil }
func (c *blobClaims) GetIssuedAt() (*jwt.NumericDate, error)            { return nil, nil }
func (c *blobClaims) GetNotBefore() (*jwt.NumericDate, error)           { return nil, nil }
func (c *blobClaims) GetIssuer() (string, error)                        { return "", nil }
func (c *blobClaims) GetSubject() (string, error)                       { return "", nil }
func (c *blobClaims) GetAudience() (audience jwt.ClaimStrings, _ error) { return nil, nil }

// signingKey is the key of the certificate that begins a chain to the root.
func signingKey(header any, root *x509.Certificate, signer string, at time.Time) (any, error) {
	list, ok := header.([]any)
	if !ok || len(list) == 0 || len(list) > 8 {
		return nil, errors.New("the BLOB needs 1 to 8 certificates (x5c)")
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	var leaf *x509.Certificate
	for _, one := range list {
		text, _ := one.(string)
		c, err := certificate(text)
		if err != nil {
			return nil, err
		}
		if leaf == nil {
			leaf = c
			continue
		}
		between.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		DNSName: signer, Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return nil, fmt.Errorf("certificates of the BLOB: %w", err)
	}
	return leaf.PublicKey, nil
}

// certificate reads base64 of DER, in which the metadata has white space now and then.
func certificate(text string) (*x509.Certificate, error) {
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		return nil, fmt.Errorf("a certificate is not base64: %w", err)
	}
	return x509.ParseCertificate(der)
}

// Snapshot takes some models out of the metadata. It fails for a model that the metadata
// does not have, or of which it has no certificate: nothing could prove it.
func (m *Metadata) Snapshot(aaguids []string) (*evidence.Models, error) {
	s := &evidence.Models{Number: m.Number, NextUpdate: m.nextUpdate.Format(time.DateOnly)}
	for _, aaguid := range aaguids {
		at := slices.IndexFunc(m.entries, func(e metadata.EntryJSON) bool { return strings.EqualFold(e.AaGUID, aaguid) })
		if at < 0 {
			return nil, fmt.Errorf("metadata: no model %s", aaguid)
		}
		model, err := m.model(at)
		if err != nil {
			return nil, fmt.Errorf("metadata of %s: %w", aaguid, err)
		}
		if slices.ContainsFunc(s.Entries, func(other evidence.Model) bool { return other.AAGUID == model.AAGUID }) {
			return nil, fmt.Errorf("metadata: model %s is named twice", aaguid)
		}
		s.Entries = append(s.Entries, model)
	}
	slices.SortFunc(s.Entries, func(a, b evidence.Model) int { return strings.Compare(a.AAGUID, b.AAGUID) })
	if err := s.Check(); err != nil {
		return nil, err
	}
	return s, nil
}

func (m *Metadata) model(at int) (evidence.Model, error) {
	e := m.entries[at]
	if !strings.EqualFold(e.MetadataStatement.AaGUID, e.AaGUID) {
		return evidence.Model{}, errors.New("its statement is about another model")
	}
	model := evidence.Model{AAGUID: strings.ToLower(e.AaGUID), Description: plain(e.MetadataStatement.Description), Statuses: []string{}}
	var roots []*x509.Certificate
	for _, text := range e.MetadataStatement.AttestationRootCertificates {
		c, err := certificate(text)
		if err != nil {
			return evidence.Model{}, err
		}
		roots, model.Roots = append(roots, c), append(model.Roots, c.Raw)
	}
	if len(model.Roots) == 0 {
		return evidence.Model{}, errors.New("it has no certificate on which an attestation could rest")
	}
	for _, report := range e.StatusReports {
		model.Statuses = append(model.Statuses, string(report.Status))
	}
	slices.Sort(model.Statuses)
	model.Statuses = slices.Compact(model.Statuses)
	for i, other := range m.entries {
		if i != at && slices.ContainsFunc(other.MetadataStatement.AttestationRootCertificates, func(text string) bool { return standsFor(roots, text) }) {
			model.SharedRoots = true
		}
	}
	return model, nil
}

// standsFor reports whether a certificate, as the metadata writes it, is one of the roots
// or was issued by one: what rests on it rests on that root too.
func standsFor(roots []*x509.Certificate, text string) bool {
	c, err := certificate(text)
	return err == nil && slices.ContainsFunc(roots, func(root *x509.Certificate) bool {
		return c.Equal(root) || bytes.Equal(c.RawIssuer, root.RawSubject) && root.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
	})
}

// plain is a description on one line, without what cannot be shown.
func plain(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
	runes := []rune(strings.Join(strings.Fields(text), " "))
	return string(runes[:min(len(runes), 200)])
}
