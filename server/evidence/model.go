package evidence

import (
	"crypto/x509"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/signedapproval/bitbucket/server/approval"
)

// Models is a snapshot of some entries of one version of the FIDO Metadata Service's
// BLOB. It is a selection that somebody made and pinned: nothing in it expires.
type Models struct {
	// Number is the BLOB's serial number ("no"), from 1; a later BLOB has a larger one.
	Number int64 `json:"number"`
	// NextUpdate is the BLOB's date by which there would be a later one, such as
	// 2026-12-01.
	NextUpdate string `json:"nextUpdate"`
	// Entries are 1 to [MaxModels] models, ascending by AAGUID, each once.
	Entries []Model `json:"entries"`
}

// Model is what the metadata says of one authenticator model.
type Model struct {
	// AAGUID names the model: a UUID in lower case, not of zeros alone.
	AAGUID string `json:"aaguid"`
	// Description is what its maker calls it, 1 to 200 characters; only shown.
	Description string `json:"description"`
	// Roots are 1 to 32 DER certificates on which its attestations rest.
	Roots []Bytes `json:"roots"`
	// SharedRoots says that a root, or a certificate that it issued, stands for another
	// model of the BLOB too. Then a certificate counts only if it names the model.
	SharedRoots bool `json:"sharedRoots,omitempty"`
	// Statuses are all that the BLOB ever reported of the model, such as REVOKED, sorted.
	Statuses []string `json:"statuses"`
}

// MaxModels is how many models a snapshot can hold.
const MaxModels = 512

const (
	maxDescription = 200 // characters
	maxRoots       = 32  // of a model
	maxStatuses    = 64  // of a model
)

// spoiling are the statuses of the Metadata Service after which an attestation, or the
// verification of the user that it stands for, is worth nothing.
var spoiling = []string{
	"ATTESTATION_KEY_COMPROMISE", "REVOKED", "USER_KEY_PHYSICAL_COMPROMISE", "USER_KEY_REMOTE_COMPROMISE", "USER_VERIFICATION_BYPASS",
}

// Spoiled returns the first status for which the model proves nothing, whenever it
// was reported and of whatever version; empty if there is none.
func (m Model) Spoiled() string {
	for _, status := range m.Statuses {
		if slices.Contains(spoiling, status) {
			return status
		}
	}
	return ""
}

// Acceptable returns the AAGUIDs of the models that can be proved, ascending; none of
// a nil snapshot.
func (s *Models) Acceptable() (aaguids []string) {
	if s == nil {
		return nil
	}
	for _, m := range s.Entries {
		if m.Spoiled() == "" {
			aaguids = append(aaguids, m.AAGUID)
		}
	}
	return aaguids
}

// Model returns the entry of a model, or false where a snapshot has none or is nil.
func (s *Models) Model(aaguid string) (Model, bool) {
	if s == nil {
		return Model{}, false
	}
	i := slices.IndexFunc(s.Entries, func(m Model) bool { return m.AAGUID == aaguid })
	if i < 0 {
		return Model{}, false
	}
	return s.Entries[i], true
}

// Check makes sure that the snapshot has its form. The error is an [*Error] with
// [CodeInvalid].
func (s *Models) Check() error {
	if s.Number < 1 || s.Number >= maxSafe {
		return refuse(CodeInvalid, "models need the number of the BLOB")
	}
	if _, err := time.Parse(time.DateOnly, s.NextUpdate); err != nil {
		return refuse(CodeInvalid, "models need the date of the BLOB's next update")
	}
	if len(s.Entries) < 1 || len(s.Entries) > MaxModels {
		return refuse(CodeInvalid, "models have 1 to %d entries", MaxModels)
	}
	for i, m := range s.Entries {
		if i > 0 && m.AAGUID <= s.Entries[i-1].AAGUID {
			return refuse(CodeInvalid, "models are in the order of their AAGUIDs, each once")
		}
		if err := m.check(); err != nil {
			return refuse(CodeInvalid, "models, entry %d: %s", i+1, err.Error())
		}
	}
	return nil
}

func (m Model) check() error {
	if !approval.IsModel(m.AAGUID) {
		return refuse(CodeInvalid, "its AAGUID must be a UUID in lower case, and not zeros")
	}
	if n := len([]rune(m.Description)); n < 1 || n > maxDescription || strings.ContainsFunc(m.Description, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return refuse(CodeInvalid, "its description must have 1 to %d visible characters", maxDescription)
	}
	if len(m.Roots) < 1 || len(m.Roots) > maxRoots {
		return refuse(CodeInvalid, "it needs 1 to %d roots", maxRoots)
	}
	for _, der := range m.Roots {
		if _, err := x509.ParseCertificate(der); err != nil {
			return refuse(CodeInvalid, "a root of it is not a certificate")
		}
	}
	if len(m.Statuses) > maxStatuses {
		return refuse(CodeInvalid, "it has more than %d statuses", maxStatuses)
	}
	for i, status := range m.Statuses {
		if status == "" || strings.Trim(status, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" || i > 0 && status <= m.Statuses[i-1] {
			return refuse(CodeInvalid, "its statuses must be sorted names")
		}
	}
	return nil
}
