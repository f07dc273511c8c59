package passkeytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// MetadataSigner is the name for which the certificate of a [Metadata] is issued.
const MetadataSigner = "metadata.example"

// Metadata is a service that publishes what is known of models, as the FIDO Metadata
// Service does. It is safe for concurrent use.
type Metadata struct {
	// Root is the certificate on which the signatures rest.
	Root *x509.Certificate
	// Chain is the signing certificate and the authority between it and the root.
	Chain []*x509.Certificate
	// Key signs.
	Key *ecdsa.PrivateKey
}

// NewMetadata returns a service with keys of its own, whose certificates are valid for a
// year before and after now.
func NewMetadata(now time.Time) (*Metadata, error) {
	m := &Metadata{}
	var parent *x509.Certificate
	var parentKey *ecdsa.PrivateKey
	for i, name := range []string{"Root of the metadata", "Authority of the metadata", MetadataSigner} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("passkeytest: make a key: %w", err)
		}
		c := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0),
			Subject: pkix.Name{CommonName: name}, IsCA: i < 2, BasicConstraintsValid: true,
		}
		if c.IsCA {
			c.KeyUsage = x509.KeyUsageCertSign
		} else {
			c.DNSNames = []string{name}
		}
		if parent == nil {
			parent, parentKey = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), parentKey)
		if err != nil {
			return nil, fmt.Errorf("passkeytest: %w", err)
		}
		if parent, err = x509.ParseCertificate(der); err != nil {
			return nil, fmt.Errorf("passkeytest: %w", err)
		}
		parentKey = key
		if i == 0 {
			m.Root = parent
		} else {
			m.Chain = append([]*x509.Certificate{parent}, m.Chain...)
		}
		m.Key = key
	}
	return m, nil
}

// Entry is what a BLOB says of the maker's model, with what was reported of it.
func (m *Maker) Entry(statuses ...string) map[string]any {
	reports := []any{}
	for _, status := range statuses {
		reports = append(reports, map[string]any{"status": status, "effectiveDate": "2026-01-01"})
	}
	return map[string]any{
		"aaguid": m.Model, "timeOfLastStatusChange": "2026-01-01", "statusReports": reports,
		"metadataStatement": map[string]any{
			"aaguid": m.Model, "description": "Example Key", "protocolFamily": "fido2",
			"attestationRootCertificates": []any{base64.StdEncoding.EncodeToString(m.Root.Raw)},
		},
	}
}

// Blob signs a version of the metadata; nextUpdate is a date such as 2026-12-01.
func (m *Metadata) Blob(number int64, nextUpdate string, entries ...map[string]any) ([]byte, error) {
	return m.Sign(map[string]any{"legalHeader": "Example", "no": number, "nextUpdate": nextUpdate, "entries": entries})
}

// Sign signs any payload.
func (m *Metadata) Sign(payload map[string]any) ([]byte, error) {
	token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims(payload))
	token.Header["x5c"] = Certificates(m.Chain...)
	text, err := token.SignedString(m.Key)
	if err != nil {
		return nil, fmt.Errorf("passkeytest: sign: %w", err)
	}
	return []byte(text), nil
}

// Certificates writes a chain as the header of a BLOB has it.
func Certificates(chain ...*x509.Certificate) (x5c []string) {
	for _, c := range chain {
		x5c = append(x5c, base64.StdEncoding.EncodeToString(c.Raw))
	}
	return x5c
}
