package app

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/monitor"
	"github.com/signedapproval/bitbucket/server/passkey"
)

type anchorsModelsCommand struct {
	Metadata string   `help:"The BLOB of the FIDO Metadata Service: a file." required:"" placeholder:"FILE"`
	Root     string   `help:"The certificate on which its signature has to rest, in PEM or DER: a file from elsewhere." required:"" placeholder:"FILE"`
	AAGUID   []string `name:"aaguid" help:"A model to pin; may be given again." required:"" placeholder:"UUID"`
	Output   string   `short:"o" help:"The anchors file; what else it pins stays." required:"" placeholder:"FILE"`
	Signer   string   `help:"The name for which the signing certificate must be issued; empty for any." default:"mds.fidoalliance.org"`
	Stale    bool     `help:"Take a BLOB that should have been replaced by now."`
	Force    bool     `help:"Take a BLOB that is older than the one that the file was made from."`
}

// Run pins models of authenticators, of which the metadata says on which certificates their attestations rest.
func (c *anchorsModelsCommand) Run(s streams) error {
	root, err := readCertificate(c.Root)
	if err != nil {
		return err
	}
	blob, err := readFile(c.Metadata, maxMetadata)
	if err != nil {
		return err
	}
	m, err := passkey.ReadMetadata(blob, root, c.Signer, time.Now(), c.Stale)
	if err != nil {
		return err
	}
	models, err := m.Snapshot(c.AAGUID)
	if err != nil {
		return err
	}
	anchors, err := readAnchors(c.Output)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if before := anchors.Models; before != nil && before.Number > models.Number && !c.Force {
		return fmt.Errorf("%s was made from metadata number %d, and this is number %d: older metadata forgets what is known now", c.Output, before.Number, models.Number)
	}
	anchors.Models = models
	file, err := json.MarshalIndent(struct {
		Format string `json:"format"`
		evidence.Anchors
	}{evidence.AnchorsFormat, anchors}, "", "  ")
	if err != nil {
		return err
	}
	if _, err := evidence.ParseAnchors(file); err != nil {
		return err
	}
	if err := monitor.WriteFile(c.Output, append(file, '\n'), 0o644); err != nil {
		return err
	}
	return explainModels(s, c.Output, models)
}

func explainModels(s streams, file string, models *evidence.Models) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s pins metadata number %d, to be replaced by %s\n", file, models.Number, models.NextUpdate)
	for _, m := range models.Entries {
		fmt.Fprintf(&b, "model    %s: %s\n         %s\n", m.AAGUID, m.Description, strings.Join(m.Statuses, ", "))
		if status := m.Spoiled(); status != "" {
			fmt.Fprintf(&b, "         proves nothing: %s\n", status)
		}
		if m.SharedRoots {
			b.WriteString("         a root of it stands for other models too: only certificates count that name the model\n")
		}
	}
	b.WriteString("\nSIGNEDAPPROVAL_MODELS can name this file: then rules can ask for these models, and the server judges as the verifier does.\n")
	_, err := s.out.Write([]byte(b.String()))
	return err
}

// maxMetadata is how many bytes the metadata has at most: the whole of it has some ten million.
const maxMetadata = 256 << 20

// readCertificate reads one certificate, in PEM or DER.
func readCertificate(path string) (*x509.Certificate, error) {
	data, err := readFile(path, maxSmall)
	if err != nil {
		return nil, err
	}
	if block, rest := pem.Decode(data); block != nil {
		if more, _ := pem.Decode(rest); more != nil || block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s must hold one certificate", path)
		}
		data = block.Bytes
	}
	root, err := x509.ParseCertificate(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return root, nil
}

// readModels reads the metadata that an anchors file pins; nil where path is empty.
func readModels(path string) (*evidence.Models, error) {
	if path == "" {
		return nil, nil
	}
	anchors, err := readAnchors(path)
	if err != nil {
		return nil, err
	}
	if anchors.Models == nil {
		return nil, fmt.Errorf("%s pins no models: `signedapproval anchors models` does", path)
	}
	return anchors.Models, nil
}

// warnOfOldModels says in the log that there must be newer metadata by now: what it strikes out
// still counts here.
func warnOfOldModels(log *slog.Logger, models *evidence.Models, now time.Time) {
	if models == nil {
		return
	}
	if next, err := time.Parse(time.DateOnly, models.NextUpdate); err == nil && !now.Before(next.AddDate(0, 0, 1)) {
		log.Warn("the pinned metadata of authenticators is older than it should be: pin newer with signedapproval anchors models",
			"number", models.Number, "nextUpdate", models.NextUpdate)
	}
}
